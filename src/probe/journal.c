// SPDX-License-Identifier: MIT
#include "probe/journal.h"

#include "base/mem.h"
#include "base/nonce.h"
#include "llm/raw.h"
#include "probe/canary.h"

enum { JOURNAL_CAP = 256 * 1024 * 1024, PATH_MAX_LEN = 64 };
#define CLOCK_SLACK_NS 5000000 // between handing the last byte over and reading the clock

// ---- reading

static uint64_t number_of(struct str raw) {
    uint64_t n = 0;
    return parse_u64(raw, &n) == OK ? n : 0;
}

static bool parse_line(struct str line, struct probe_record *r) {
    static const struct str names[] = {
        STR_INIT("id"),   STR_INIT("arrival_ns"), STR_INIT("service_start_ns"), STR_INIT("service_end_ns"),
        STR_INIT("seat"), STR_INIT("probe")};
    struct str v[ARRAY_LEN(names)];
    if (!raw_open(line, names, ARRAY_LEN(names), v) || !v[0].ptr) {
        return false; // the counts are the last line
    }
    uint64_t seat = number_of(v[4]);
    *r = (struct probe_record){
        .id = number_of(v[0]),
        .arrival_ns = number_of(v[1]),
        .start_ns = number_of(v[2]),
        .end_ns = number_of(v[3]),
        .seat = seat > PROBE_SEATS_MOST ? 0 : (unsigned)seat,
        .nonce = raw_is_string(v[5]) ? nonce_find(raw_inside(v[5])) : 0,
    };
    return true;
}

unsigned probe_journal_parse(struct str lines, struct probe_record **records, uint64_t *last) {
    size_t most = 1;
    unsigned n = 0;
    struct str line;
    for (struct str rest = lines; str_split(&rest, '\n', &line);) {
        most++;
    }
    *records = xcalloc(most, sizeof **records);
    while (str_split(&lines, '\n', &line)) {
        struct probe_record *r = &(*records)[n];
        if (parse_line(line, r)) {
            *last = MAX(*last, r->id);
            n += r->start_ns && r->end_ns >= r->start_ns; // what was refused, or still runs, was not served
        }
    }
    return n;
}

// ---- whose is which

static int by_end(const void *a, const void *b) {
    const struct probe_record *x = a;
    const struct probe_record *y = b;
    return (x->end_ns > y->end_ns) - (x->end_ns < y->end_ns);
}

static int calls_by_end(const void *a, const void *b) {
    const struct probe_call *const *x = a;
    const struct probe_call *const *y = b;
    return ((*x)->end_ns > (*y)->end_ns) - ((*x)->end_ns < (*y)->end_ns);
}

static int calls_by_nonce(const void *a, const void *b) {
    const struct probe_call *const *x = a;
    const struct probe_call *const *y = b;
    return ((*x)->nonce > (*y)->nonce) - ((*x)->nonce < (*y)->nonce);
}

// An app may make several calls for one of ours: from the first one's start to the last one's end.
static void note(struct probe_call *c, const struct probe_record *r) {
    bool first = !c->seen_end_ns;
    c->seen_start_ns = first ? r->start_ns : MIN(c->seen_start_ns, r->start_ns);
    c->seen_end_ns = MAX(c->seen_end_ns, r->end_ns);
    c->seen_seat = first || c->seen_seat == r->seat ? r->seat : 0;
}

static unsigned match_nonces(struct probe_record *records, unsigned n, struct probe_call **calls, unsigned count) {
    unsigned found = 0;
    qsort(calls, count, sizeof(struct probe_call *), calls_by_nonce);
    for (unsigned i = 0; i < n; i++) {
        struct probe_call key = {.nonce = records[i].nonce};
        struct probe_call *wanted = &key;
        struct probe_call **c = bsearch(&wanted, calls, count, sizeof(struct probe_call *), calls_by_nonce);
        if (records[i].nonce && c) {
            found += !(*c)->seen_end_ns;
            note(*c, &records[i]);
        }
    }
    return found;
}

static unsigned match_order(struct probe_record *records, unsigned n, struct probe_call **calls, unsigned count) {
    unsigned whole = 0;
    for (unsigned i = 0; i < n; i++) {
        if (records[i].nonce) {
            return 0; // other people's
        }
    }
    for (unsigned i = 0; i < count; i++) {
        if (calls[i]->error == OK && calls[i]->status >= 200 && calls[i]->status < 300) {
            calls[whole++] = calls[i];
        }
    }
    if (whole != n) {
        return 0;
    }
    qsort(calls, whole, sizeof(struct probe_call *), calls_by_end);
    qsort(records, n, sizeof *records, by_end);
    for (unsigned i = 0; i < whole; i++) {
        note(calls[i], &records[i]);
    }
    return whole;
}

// ---- on our clock

// What to take off the mock's times.
static uint64_t clock_offset(const struct trial *t, uint64_t start_ns) {
    bool same = true;
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < t->plan.calls; i++) {
        const struct probe_call *c = &t->calls[i];
        if (c->seen_end_ns) {
            same = same && c->seen_start_ns + CLOCK_SLACK_NS >= start_ns + c->sent_ns &&
                   c->seen_end_ns <= start_ns + c->end_ns + CLOCK_SLACK_NS;
            least = MIN(least, c->seen_start_ns - c->sent_ns);
        }
    }
    return same ? start_ns : least;
}

static void map_clock(struct trial *t, uint64_t offset) {
    for (unsigned i = 0; i < t->plan.calls; i++) {
        struct probe_call *c = &t->calls[i];
        if (c->seen_end_ns) {
            c->seen_start_ns = c->seen_start_ns > offset ? c->seen_start_ns - offset : 0;
            c->seen_end_ns = c->seen_end_ns > offset ? c->seen_end_ns - offset : 0;
        }
    }
}

// ---- seats

static int calls_by_start(const void *a, const void *b) {
    const struct probe_call *const *x = a;
    const struct probe_call *const *y = b;
    return ((*x)->seen_start_ns > (*y)->seen_start_ns) - ((*x)->seen_start_ns < (*y)->seen_start_ns);
}

// The mock has no seats where its capacity is unlimited: then each call gets the lowest that is free.
static void give_seats(struct trial *t, struct probe_call **calls) {
    unsigned n = 0;
    bool all = true;
    for (unsigned i = 0; i < t->plan.calls; i++) {
        if (t->calls[i].seen_end_ns) {
            calls[n++] = &t->calls[i];
            all = all && t->calls[i].seen_seat;
        }
    }
    if (all) {
        return;
    }
    uint64_t *free_ns = xcalloc(n, sizeof *free_ns);
    qsort(calls, n, sizeof(struct probe_call *), calls_by_start);
    for (unsigned i = 0; i < n; i++) {
        unsigned seat = 0;
        while (free_ns[seat] > calls[i]->seen_start_ns) {
            seat++;
        }
        free_ns[seat] = calls[i]->seen_end_ns;
        calls[i]->seen_seat = seat + 1;
    }
    free(free_ns);
}

unsigned probe_journal_apply(struct probe_record *records, unsigned n, uint64_t start_ns, struct trial *t) {
    struct probe_call **calls = xcalloc(t->plan.calls, sizeof(struct probe_call *));
    for (unsigned i = 0; i < t->plan.calls; i++) {
        calls[i] = &t->calls[i];
    }
    unsigned found = match_nonces(records, n, calls, t->plan.calls);
    found = found ? found : match_order(records, n, calls, t->plan.calls);
    if (found) {
        map_clock(t, clock_offset(t, start_ns));
        give_seats(t, calls);
    }
    free(calls);
    return found;
}

// ---- fetching

static void on_loaded(struct shot *s) { shot_release(s); }

static void on_over(struct shot *s) {
    struct probe_journal *j = container_of(s, struct probe_journal, shot);
    enum err e = s->error;
    if (e == OK && (s->status != 200 || !s->answer)) {
        e = ERR_PROTOCOL;
    }
    if (e == OK && !str_ends(buf_str(&j->answer), STR("}\n"))) {
        e = ERR_PROTOCOL;
    }
    j->done(j->owner, e);
}

static const struct shot_events journal_events = {.on_loaded = on_loaded, .on_over = on_over};

void probe_journal_fetch(struct probe_journal *j, void (*done)(void *owner, enum err e), void *owner) {
    char path[PATH_MAX_LEN];
    int n = snprintf(path, sizeof path, "/mock/journal?since=%llu", (unsigned long long)j->since);
    buf_finish(&j->answer);
    buf_init(&j->answer, JOURNAL_CAP);
    j->done = done;
    j->owner = owner;
    j->shot = (struct shot){
        .events = &journal_events,
        .answer = &j->answer,
        .connect_ms = j->timeout_ms,
        .timeout_ms = j->timeout_ms,
    };
    j->shot.head = canary_request(j->authority, str_from(path, (size_t)n));
    if (j->shot.head) {
        shot_start(&j->shot, &j->aim);
    } else {
        shot_refuse(&j->shot, &j->aim, ERR_NOMEM);
    }
}

unsigned probe_journal_match(struct probe_journal *j, uint64_t start_ns, struct trial *t) {
    struct probe_record *records;
    unsigned n = probe_journal_parse(buf_str(&j->answer), &records, &j->since);
    unsigned found = t ? probe_journal_apply(records, n, start_ns, t) : 0;
    free(records);
    return found;
}

void probe_journal_close(struct probe_journal *j) {
    shot_close(&j->shot);
    buf_finish(&j->answer);
}
