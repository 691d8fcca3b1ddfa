// SPDX-License-Identifier: MIT
// One row per call, in the order of arrival: its bar begins when it arrived; dots are its wait, hashes its service,
// dashes what is left of that. All bars have one scale, so who waits for whom is seen in the steps.
#include "mock/watch.h"

#include <stdarg.h>

#include "mock/inside.h"

enum {
    WAITS = 1000, // the last so many calls make the percentiles
    HEAD_ROWS = 5,
    NAME_COLUMNS = 24,
    BAR_AT = 40, // the column where bars begin
    BAR_LEAST = 10,
    ROWS_MAX = 500,
    NS_PER_MS = 1000000,
};

// ---- numbers

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct waits {
    uint64_t p50_ms, p99_ms;
};

static struct waits measure_waits(const struct journal *j) {
    uint64_t ms[WAITS];
    size_t n = 0;
    for (uint64_t id = journal_from(j, j->last > WAITS ? j->last - WAITS + 1 : 1); id <= j->last; id++) {
        const struct journal_record *r = journal_find(j, id);
        if (r && r->service_start_ns) {
            ms[n++] = (r->service_start_ns - r->arrival_ns) / NS_PER_MS;
        }
    }
    qsort(ms, n, sizeof *ms, by_value);
    return n ? (struct waits){ms[n / 2], ms[n * 99 / 100]} : (struct waits){0, 0};
}

// Calls ended each second, over the last few frames.
static double measure_rate(struct watch *w, const struct journal *j, uint64_t now_ns) {
    struct watch_sample now = {now_ns, j->ended[END_WHOLE] + j->ended[END_CUT] + j->ended[END_GONE]};
    struct watch_sample *oldest = &w->samples[w->taken < WATCH_SAMPLES ? 0 : w->taken % WATCH_SAMPLES];
    struct watch_sample then = w->taken && oldest->ended <= now.ended ? *oldest : now; // it was reset
    w->samples[w->taken++ % WATCH_SAMPLES] = now;
    return now.ns > then.ns ? (double)(now.ended - then.ended) * 1e9 / (double)(now.ns - then.ns) : 0;
}

enum { TIME_TEXT = 24 };

static const char *format_time(char out[TIME_TEXT], uint64_t ms) {
    if (ms < 1000) {
        snprintf(out, TIME_TEXT, "%llums", (unsigned long long)ms);
    } else if (ms < 100 * 1000) {
        snprintf(out, TIME_TEXT, "%.1fs", (double)ms / 1000);
    } else {
        snprintf(out, TIME_TEXT, "%llus", (unsigned long long)(ms / 1000));
    }
    return out;
}

// ---- drawing

enum ink { INK_PLAIN, INK_DIM, INK_BOLD, INK_SEATS }; // a seat's ink is its number from there on

static const char *const inks[] = {"",         "\x1b[90m", "\x1b[1m",  "\x1b[32m", "\x1b[33m",
                                   "\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[31m"};

static enum ink seat_ink(unsigned seat) {
    return (enum ink)(INK_SEATS + (seat ? seat - 1 : 0) % (ARRAY_LEN(inks) - INK_SEATS));
}

struct canvas {
    const struct watch_size *size;
    struct out out;
    unsigned column; // of this row
    unsigned row;    // from 0
};

// As much as the row has room for; what a terminal might obey is shown as '?'.
static void draw(struct canvas *c, enum ink ink, struct str text) {
    bool coloured = c->size->colour && ink != INK_PLAIN;
    if (c->row >= c->size->rows) {
        return;
    }
    text = str_first(text, c->size->columns - c->column);
    put(&c->out, str_c(coloured ? inks[ink] : ""));
    for (size_t i = 0; i < text.len; i++) {
        bool shown = text.ptr[i] >= ' ' && text.ptr[i] <= '~';
        put(&c->out, shown ? str_from(text.ptr + i, 1) : STR("?"));
    }
    put(&c->out, coloured ? STR("\x1b[0m") : STR(""));
    c->column += (unsigned)text.len;
}

static PRINTF(3, 4) void drawf(struct canvas *c, enum ink ink, const char *format, ...) {
    char text[256];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    draw(c, ink, str_from(text, MIN((size_t)MAX(n, 0), sizeof text - 1)));
}

static void draw_many(struct canvas *c, enum ink ink, char what, uint64_t n) {
    char text[256];
    memset(text, what, sizeof text);
    n = MIN(n, (uint64_t)(c->size->columns - c->column));
    for (uint64_t left = n; left; left -= MIN(left, sizeof text)) {
        draw(c, ink, str_from(text, MIN(left, sizeof text)));
    }
}

static void next_row(struct canvas *c) {
    if (c->row < c->size->rows) {
        put_text(&c->out, "\x1b[K"); // nothing of the last frame stays
        put(&c->out, c->row + 1 < c->size->rows ? STR("\n") : STR(""));
    }
    c->row++;
    c->column = 0;
}

// ---- the calls

struct shown {
    const struct journal_record *calls[ROWS_MAX];
    unsigned count;
    unsigned room;
    bool served; // which ones are looked for
};

static bool show(void *context, const struct journal_record *r) {
    struct shown *s = context;
    if (s->count < s->room && (r->service_start_ns != 0) == s->served) {
        s->calls[s->count++] = r;
    }
    return s->count < s->room;
}

static uint64_t waited_ns(const struct journal_record *r, uint64_t now_ns) {
    return (r->service_start_ns ? r->service_start_ns : now_ns) - r->arrival_ns;
}

// So long will it be from its arrival to its end, as far as is known.
static uint64_t whole_ns(const struct journal_record *r, uint64_t now_ns) {
    uint64_t been = now_ns - r->arrival_ns;
    return r->service_start_ns ? MAX(been, waited_ns(r, now_ns) + r->work_us * 1000) : been;
}

static void draw_call(struct canvas *c, const struct journal_record *r, uint64_t now_ns, uint64_t scale_ns) {
    uint64_t width = c->size->columns > BAR_AT ? c->size->columns - BAR_AT : 0;
    uint64_t wait = waited_ns(r, now_ns) * width / scale_ns;
    uint64_t been = (now_ns - r->arrival_ns) * width / scale_ns;
    uint64_t whole = whole_ns(r, now_ns) * width / scale_ns;
    if (r->seat) {
        drawf(c, seat_ink(r->seat), "%5u", r->seat);
    } else {
        drawf(c, INK_PLAIN, "%5s", r->service_start_ns ? "-" : "");
    }
    drawf(c, INK_PLAIN, "%8llu  %-*.*s ", (unsigned long long)r->id, NAME_COLUMNS, (int)MIN(r->model_len, NAME_COLUMNS),
          r->names);
    draw_many(c, INK_DIM, '.', wait);
    if (r->service_start_ns) {
        draw_many(c, seat_ink(r->seat), '#', MAX(been - wait, 1u));
        draw_many(c, INK_DIM, '-', whole > MAX(been, wait + 1) ? whole - MAX(been, wait + 1) : 0);
    }
    next_row(c);
}

static void draw_calls(struct canvas *c, const struct mock *mock, uint64_t now_ns) {
    struct shown s = {.room = MIN(c->size->rows - c->row - 1, (unsigned)ROWS_MAX), .served = true};
    const struct capacity_counts *counts = capacity_counts(mock_journal(mock)->capacity);
    char text[TIME_TEXT];
    uint64_t scale_ns = 1000 * (uint64_t)NS_PER_MS;
    unsigned room = s.room;
    s.room = counts->waiting ? room - MIN(counts->waiting, room / 2) : room; // those who wait get what is left of it
    mock_each_call(mock, show, &s);
    s.served = false;
    s.room = room;
    if (s.count < s.room) {
        mock_each_call(mock, show, &s);
    }
    for (unsigned i = 0; i < s.count; i++) {
        scale_ns = MAX(scale_ns, whole_ns(s.calls[i], now_ns));
    }
    drawf(c, INK_BOLD, " seat    call  %-*s 0s", NAME_COLUMNS, "model");
    format_time(text, scale_ns / NS_PER_MS);
    if (c->size->columns > BAR_AT + BAR_LEAST) {
        drawf(c, INK_BOLD, "%*s", (int)(c->size->columns - c->column), text);
    }
    next_row(c);
    for (unsigned i = 0; i < s.count; i++) {
        draw_call(c, s.calls[i], now_ns, scale_ns);
    }
}

// ---- all of it

static void draw_counts(struct canvas *c, const struct journal *j, double rate) {
    const struct capacity_counts *counts = capacity_counts(j->capacity);
    const struct waits waits = measure_waits(j);
    char p50[TIME_TEXT];
    char p99[TIME_TEXT];
    drawf(c, INK_PLAIN, " in flight %llu (max %llu)   in service %u (max %u)   waiting %u (max %u)",
          (unsigned long long)j->in_flight, (unsigned long long)j->at_most, counts->in_service, counts->in_service_most,
          counts->waiting, counts->waiting_most);
    next_row(c);
    drawf(c, INK_PLAIN, " %.1f/s   whole %llu   cut %llu   gone %llu   429 %llu   waits p50 %s p99 %s", rate,
          (unsigned long long)j->ended[END_WHOLE], (unsigned long long)j->ended[END_CUT],
          (unsigned long long)j->ended[END_GONE], (unsigned long long)j->by_status[429], format_time(p50, waits.p50_ms),
          format_time(p99, waits.p99_ms));
    next_row(c);
}

enum err watch_frame(struct watch *w, const struct mock *mock, const char *title, const struct watch_size *size,
                     struct buf *out) {
    const struct journal *j = mock_journal(mock);
    struct canvas c = {.size = size, .out = {out, OK}};
    uint64_t now_ns = mock_now_ns(mock);
    put_text(&c.out, "\x1b[H");
    drawf(&c, INK_BOLD, " thaw mock  %s", title);
    next_row(&c);
    next_row(&c);
    draw_counts(&c, j, measure_rate(w, j, now_ns));
    next_row(&c);
    if (size->rows > HEAD_ROWS) {
        draw_calls(&c, mock, now_ns);
    }
    put_text(&c.out, "\x1b[J");
    return c.out.e;
}

enum err watch_line(struct watch *w, const struct mock *mock, struct buf *out) {
    const struct journal *j = mock_journal(mock);
    const struct capacity_counts *counts = capacity_counts(j->capacity);
    const struct waits waits = measure_waits(j);
    char p50[TIME_TEXT];
    char p99[TIME_TEXT];
    return buf_printf(
        out,
        "in flight %llu, in service %u, waiting %u, whole %llu, cut %llu, gone %llu, %.1f/s, waits p50 %s p99 %s\n",
        (unsigned long long)j->in_flight, counts->in_service, counts->waiting, (unsigned long long)j->ended[END_WHOLE],
        (unsigned long long)j->ended[END_CUT], (unsigned long long)j->ended[END_GONE],
        measure_rate(w, j, mock_now_ns(mock)), format_time(p50, waits.p50_ms), format_time(p99, waits.p99_ms));
}
