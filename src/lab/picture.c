// SPDX-License-Identifier: MIT
// Who waited for whom, in 80 columns: a row is a seat, a bar a user on it (his number at its left end), the bar behind
// it is who waited for him. Colours: green sat down at once, yellow waited for one call, red for more. The last line is
// how many wait. Seats whose rows look alike are folded when there are many.
#include <math.h>

#include "draw/text.h"
#include "lab/draw.h"

enum {
    COLUMNS = 80,
    LEFT = 9,
    WIDTH = COLUMNS - LEFT - 1,
    MARKS = 7,
    FOLD_FROM = 16,
    FOLD_ALIKE = 1,
    SENTENCE_CAP = 4096
};

struct cells {
    char glyph[WIDTH]; // ' ', BAR or a character of a label
    unsigned char patience[WIDTH];
    unsigned bars;
    unsigned begins[WIDTH];
};
enum { BAR = 1 };

struct picture {
    const struct lab_result *result;
    const struct lab_style *style;
    double unit_ns; // of a column
};

static unsigned column_of(const struct picture *p, uint64_t at_ns) {
    return MIN((unsigned)lround((double)at_ns / p->unit_ns), (unsigned)WIDTH);
}

// Text placed at columns, none over another, the end not beyond the chart.
struct line {
    char text[WIDTH + 1];
    size_t used;
};

static void line_place(struct line *line, unsigned column, const char *words) {
    size_t len = strlen(words);
    if ((line->used && column <= line->used) || column + len > WIDTH) {
        return;
    }
    memset(line->text + line->used, ' ', column - line->used);
    memcpy(line->text + column, words, len);
    line->used = column + len;
}

// ---- rows

static void draw_bar(const struct picture *p, struct cells *cells, const struct sitting *s) {
    char label[12];
    unsigned from = MIN(column_of(p, s->seated_ns), (unsigned)WIDTH - 1);
    unsigned to = MAX(column_of(p, s->done_ns), from + 1);
    int n = snprintf(label, sizeof label, "%u", s->user + 1);
    memset(cells->glyph + from, BAR, to - from);
    memset(cells->patience + from, (int)patience_of(p->result, s), to - from);
    memcpy(cells->glyph + from, (unsigned)n < to - from ? label : "|", (unsigned)n < to - from ? (size_t)n : 1);
    cells->begins[cells->bars++ % WIDTH] = from;
}

static void draw_seat(const struct picture *p, struct cells *cells, unsigned seat) {
    memset(cells, 0, sizeof *cells);
    memset(cells->glyph, ' ', sizeof cells->glyph);
    for (size_t i = 0; i < p->result->count; i++) {
        if (p->result->sittings[i].seat == seat) {
            draw_bar(p, cells, &p->result->sittings[i]);
        }
    }
}

static const char *colour_of(const struct cells *cells, unsigned i) {
    static const char *const colours[PATIENCE_MOST + 1] = {"\033[32m", "\033[33m", "\033[31m", "\033[31m", "\033[31m"};
    return cells->glyph[i] == ' ' ? "\033[0m" : colours[cells->patience[i]];
}

static void put_cells(struct out *o, const struct picture *p, const struct cells *cells) {
    const char *colour = "";
    unsigned end = WIDTH;
    while (end && cells->glyph[end - 1] == ' ') {
        end--;
    }
    for (unsigned i = 0; i < end; i++) {
        if (p->style->colour && strcmp(colour, colour_of(cells, i)) != 0) {
            colour = colour_of(cells, i);
            put(o, str_c(colour));
        }
        if (cells->glyph[i] == BAR) {
            put(o, p->style->unicode ? STR("\xE2\x94\x81") : STR("=")); // U+2501
        } else {
            put(o, str_from(&cells->glyph[i], 1));
        }
    }
    put(o, *colour ? STR("\033[0m\n") : STR("\n"));
}

static void put_label(struct out *o, const char *label) { put_format(o, "%*s ", LEFT - 1, label); }

static bool look_alike(const struct cells *a, const struct cells *b) {
    bool alike = a->bars == b->bars;
    for (unsigned i = 0; alike && i < MIN(a->bars, (unsigned)WIDTH); i++) {
        alike = (a->begins[i] > b->begins[i] ? a->begins[i] - b->begins[i] : b->begins[i] - a->begins[i]) <= FOLD_ALIKE;
    }
    return alike;
}

static void put_seat(struct out *o, const struct picture *p, const struct cells *cells, unsigned seat) {
    char room[24];
    struct buf name;
    struct out label = {&name, OK};
    buf_init(&name, sizeof room);
    put_seat_name(&label, p->result, seat);
    snprintf(room, sizeof room, "%.*s", STR_ARG(buf_str(&name)));
    buf_finish(&name);
    put_label(o, room);
    put_cells(o, p, cells);
}

static void put_folded(struct out *o, unsigned folded) {
    if (folded) {
        put_label(o, "...");
        put_format(o, "%u more, at the same times\n", folded);
    }
}

static void put_seats(struct out *o, const struct picture *p) {
    struct cells shown = {.bars = 0};
    struct cells cells;
    unsigned seats = seats_used(p->result);
    unsigned folded = 0;
    for (unsigned seat = 0; seat < seats; seat++) {
        draw_seat(p, &cells, seat);
        if (seat > 1 && seats > FOLD_FROM && look_alike(&cells, &shown)) {
            folded++;
            continue;
        }
        put_folded(o, folded);
        folded = 0;
        put_seat(o, p, &cells, seat);
        shown = cells;
    }
    put_folded(o, folded);
}

// ---- the axis, and how many wait

static void put_line(struct out *o, const char *label, const struct line *line) {
    put_label(o, label);
    put(o, str_from(line->text, line->used));
    put_text(o, "\n");
}

static void put_axis(struct out *o, const struct picture *p) {
    struct line line = {.used = 0};
    double length_s = (double)p->result->measured.wall_ns / 1e9 / p->result->scale;
    double step = axis_step(length_s, MARKS);
    for (unsigned i = 0; i * step <= length_s; i++) {
        char mark[24];
        snprintf(mark, sizeof mark, i ? "%g" : "%g s", i * step);
        line_place(&line, column_of(p, (uint64_t)(i * step * 1e9 * p->result->scale)), mark);
    }
    put_line(o, "", &line);
}

static void put_waiting(struct out *o, const struct picture *p) {
    struct line line = {.used = 0};
    unsigned before = 0;
    for (unsigned i = 0; i < WIDTH; i++) {
        unsigned now = sittings_waiting(p->result->sittings, p->result->count, (uint64_t)((i + 0.5) * p->unit_ns));
        char number[12];
        if (now != before || i == 0) {
            snprintf(number, sizeof number, "%u", now);
            line_place(&line, i, number);
        }
        before = now;
    }
    put_line(o, "waiting", &line);
}

// ---- sentences

static void put_sentences(struct out *o, const struct lab_result *r) {
    struct buf room;
    struct out who = {&room, OK};
    buf_init(&room, SENTENCE_CAP);
    put_who_waited(&who, r);
    o->e = o->e == OK ? who.e : o->e;
    put_text(o, "  ");
    put_paragraph(o, buf_str(&room), 2, COLUMNS);
    put_text(o, "  ");
    put_paragraph(o, str_c(r->row->note), 2, COLUMNS);
    buf_finish(&room);
}

enum err lab_print_picture(struct buf *out, const struct lab_result *result, const struct lab_style *style) {
    struct out o = {out, OK};
    struct picture p = {result, style, (double)result->measured.wall_ns / WIDTH};
    put_format(&o, "%s: %s\n", result->row->name, result->row->title);
    if (result->problem[0]) {
        put_format(&o, "  failed: %s\n", result->problem);
        return o.e;
    }
    put_axis(&o, &p);
    put_seats(&o, &p);
    put_waiting(&o, &p);
    put_sentences(&o, result);
    return o.e;
}
