// SPDX-License-Identifier: MIT
#include "probe/seating.h"

#include "base/mem.h"
#include "draw/scale.h"
#include "probe/say.h"

enum {
    WAITS_FROM = 4,  // a wait is one from a quarter of a call's time on: less is the way there and the time's own noise
    NEAR = 8,        // what was seen is exact to an eighth of it
    PLAIN_ROWS = 24, // so many are always shown one by one
    STEPS_FIRST = 5, // of many steps those at the beginning that are shown,
    STEPS_LAST = 2,  // and at the end
};

// ---- which trial

// Of an inconclusive verdict what it looks like, where that is worth telling.
static const struct hypothesis *shown_model(const struct probe_report *r) {
    const struct verdict *v = r->verdict;
    return v->best.model == PROBE_INCONCLUSIVE && say_looks_like(v) ? &v->likely : &v->best;
}

static bool has_seats(const struct hypothesis *h) {
    switch (h->model) {
    case PROBE_SERIAL:
    case PROBE_PARTIAL_LOCK:
    case PROBE_POOL:
    case PROBE_POLL:
    case PROBE_CAP:
    case PROBE_SESSION: return true;
    case PROBE_FLAT:
    case PROBE_PARTITIONED:
    case PROBE_CPU:
    case PROBE_BUCKET:
    case PROBE_INCONCLUSIVE: return false;
    }
    return false;
}

// Which kind shows it best; of one kind a burst with twice as many as are served at once is enough, else the most.
static unsigned rank_of(const struct trial *t, const struct hypothesis *h) {
    static const unsigned char ranks[] = {
        [TRIAL_SOLO] = 1,  [TRIAL_OPEN] = 2,    [TRIAL_SLOWER] = 3, [TRIAL_STAGGERED] = 4,
        [TRIAL_BURST] = 5, [TRIAL_SESSION] = 4, [TRIAL_STREAMS] = 0};
    bool session = h->model == PROBE_SESSION && t->plan.kind == TRIAL_SESSION;
    return t->plan.calls == 0 ? 0 : session ? 6 : t->plan.warm_up ? 1 : ranks[t->plan.kind];
}

static bool is_better(const struct trial *a, const struct trial *b, const struct hypothesis *h) {
    unsigned enough = has_seats(h) || h->model == PROBE_PARTITIONED ? 2 * h->at_once + (h->at_once < 3 ? 4 : 1) : 0;
    unsigned rank_a = rank_of(a, h);
    unsigned rank_b = b ? rank_of(b, h) : 0;
    if (rank_a != rank_b || rank_a == 0) {
        return rank_a > rank_b;
    }
    if (enough && a->plan.calls >= enough && b->plan.calls >= enough) {
        return a->plan.calls <= b->plan.calls; // the smaller one, of two the later
    }
    return a->plan.calls >= b->plan.calls;
}

static const struct trial *pick_trial(const struct probe_report *r) {
    const struct trial *best = NULL;
    for (unsigned i = 0; i < r->evidence->count; i++) {
        const struct trial *t = r->evidence->trials[i];
        best = is_better(t, best, shown_model(r)) ? t : best;
    }
    return best;
}

// ---- who sits where

struct seat {
    uint64_t free_ns;
    unsigned row; // who sits or sat there
    bool taken;   // ever
};

struct sitting_down {
    struct seating *s;
    const struct hypothesis *model;
    struct seat *seats; // of s->count
    uint64_t unit_ns;   // how long a call takes by itself
};

// Where it must have begun.
static uint64_t must_begin(const struct sitting_down *d, const struct seating_row *row) {
    uint64_t by_end = row->end_ns - MIN(row->end_ns, d->unit_ns);
    return MAX(row->sent_ns, by_end);
}

static uint64_t apart(uint64_t a, uint64_t b) { return a > b ? a - b : b - a; }

static void take_seat(struct sitting_down *d, unsigned at, unsigned row, uint64_t start_ns) {
    struct seating *s = d->s;
    struct seating_row *me = &s->rows[row];
    struct seat *seat = &d->seats[at];
    me->start_ns = MAX(me->sent_ns, MIN(start_ns, me->end_ns));
    me->seat = at + 1;
    if (seat->taken && me->start_ns > me->sent_ns + d->unit_ns / WAITS_FROM) {
        me->after = s->rows[seat->row].call->user;
        me->after_at = seat->row;
    }
    s->seats = MAX(s->seats, at + 1);
    *seat = (struct seat){me->end_ns, row, true};
}

// The seat that was free first; a new one while there are any.
static void sit_in_turn(struct sitting_down *d, unsigned row, unsigned first, unsigned count) {
    unsigned best = first;
    for (unsigned i = first; i < first + count; i++) {
        if (d->seats[i].free_ns < d->seats[best].free_ns) {
            best = i;
        }
    }
    uint64_t start_ns = MAX(d->s->rows[row].sent_ns, d->seats[best].free_ns);
    if (d->model->model == PROBE_POLL) { // the seat stays empty until the next one looks
        start_ns = MAX(start_ns, must_begin(d, &d->s->rows[row]));
    }
    take_seat(d, best, row, start_ns);
}

// The seat whose last end is nearest to where it began; one that was never taken where none is near.
static void sit_nearest(struct sitting_down *d, unsigned row, uint64_t start_ns, bool seen) {
    const struct seating_row *me = &d->s->rows[row];
    uint64_t slack_ns = seen ? d->unit_ns / NEAR : d->unit_ns / 2;
    unsigned best = d->s->seats;
    bool waited = start_ns > me->sent_ns + d->unit_ns / WAITS_FROM;
    for (unsigned i = 0; i < d->s->seats; i++) {
        uint64_t free_ns = d->seats[i].free_ns;
        bool fits = free_ns <= start_ns + (waited ? slack_ns : 0);
        if (fits && (best == d->s->seats || apart(free_ns, start_ns) < apart(d->seats[best].free_ns, start_ns))) {
            best = i;
        }
    }
    bool near = waited && best < d->s->seats && apart(d->seats[best].free_ns, start_ns) <= slack_ns;
    take_seat(d, best, row, near && !seen ? MAX(d->seats[best].free_ns, me->sent_ns) : start_ns);
    if (!near) {
        d->s->rows[row].after = NOBODY; // nobody's leaving is seen that it waited for
    }
}

// ---- the journal

static bool was_seen(const struct seating *s) {
    for (unsigned i = 0; i < s->count; i++) {
        if (!s->rows[i].refused && !s->rows[i].call->seen_start_ns) {
            return false;
        }
    }
    return s->count > 0;
}

static uint64_t on_chart(const struct seating *s, uint64_t ns) { return ns > s->from_ns ? ns - s->from_ns : 0; }

// Its mock's seat is known: who sat there before is who it waited for.
static void sit_as_seen(struct sitting_down *d, unsigned row) {
    const struct probe_call *call = d->s->rows[row].call;
    uint64_t start_ns = on_chart(d->s, call->seen_start_ns);
    if (call->seen_seat == 0 || call->seen_seat > d->s->count) {
        sit_nearest(d, row, start_ns, true);
        return;
    }
    take_seat(d, call->seen_seat - 1, row, start_ns);
}

// ---- all of them

struct in_order {
    const struct seating_row *row;
    unsigned at;
};

static int by_end(const void *a, const void *b) {
    const struct seating_row *x = ((const struct in_order *)a)->row;
    const struct seating_row *y = ((const struct in_order *)b)->row;
    return x->end_ns != y->end_ns ? (x->end_ns > y->end_ns ? 1 : -1)
                                  : (x->call->user > y->call->user) - (x->call->user < y->call->user);
}

static void sit(struct sitting_down *d, unsigned row) {
    struct seating_row *me = &d->s->rows[row];
    const struct hypothesis *h = d->model;
    if (d->s->exact) {
        sit_as_seen(d, row);
        return;
    }
    if (me->call->retransmitted) { // its time is the network's: nothing is known of a seat
        return;
    }
    if (h->takes) {
        sit_nearest(d, row, must_begin(d, me), false);
        return;
    }
    switch (h->model) {
    case PROBE_FLAT: break;
    case PROBE_CPU:
    case PROBE_INCONCLUSIVE: me->alone_ns = me->start_ns; break;
    case PROBE_BUCKET: me->start_ns = must_begin(d, me); break;
    case PROBE_SERIAL:
    case PROBE_POOL:
    case PROBE_POLL:
    case PROBE_CAP: sit_in_turn(d, row, 0, MIN(MAX(h->at_once, 1u), d->s->count)); break;
    case PROBE_SESSION:
        sit_in_turn(d, row, MIN(me->call->session ? me->call->session - 1 : row, d->s->count - 1), 1);
        break;
    case PROBE_PARTIAL_LOCK: // the seat is the lock; its part is drawn as the first
        take_seat(d, 0, row, must_begin(d, me));
        me->alone_ns = MIN(me->end_ns, me->start_ns + (uint64_t)((double)d->unit_ns * h->share));
        break;
    case PROBE_PARTITIONED: sit_nearest(d, row, must_begin(d, me), false); break;
    }
}

static void sit_all(struct seating *s, const struct probe_report *r) {
    struct sitting_down d = {s, shown_model(r), xcalloc(s->count, sizeof *d.seats), s->unit_ns};
    struct in_order *order = xcalloc(s->count, sizeof *order);
    for (unsigned i = 0; i < s->count; i++) {
        order[i] = (struct in_order){&s->rows[i], i};
    }
    qsort(order, s->count, sizeof *order, by_end);
    for (unsigned i = 0; i < s->count; i++) {
        if (!order[i].row->refused) {
            sit(&d, order[i].at);
        }
    }
    free(order);
    free(d.seats);
}

// Inferred seats have no names of their own: they get them in the order of the rows.
static void name_seats(struct seating *s) {
    unsigned *names = xcalloc((size_t)s->seats + 1, sizeof *names);
    unsigned named = 0;
    for (unsigned i = 0; i < s->count && !s->exact; i++) {
        unsigned *name = &names[s->rows[i].seat];
        *name = s->rows[i].seat == 0 ? 0 : *name == 0 ? ++named : *name;
        s->rows[i].seat = *name;
    }
    s->seats = s->exact ? s->seats : named;
    free(names);
}

static void count_up(struct seating *s) {
    uint64_t longest_ns = 0;
    for (unsigned i = 0; i < s->count; i++) {
        struct seating_row *row = &s->rows[i];
        uint64_t wait_ns = row->start_ns - row->sent_ns;
        row->waited = !row->refused && wait_ns > s->unit_ns / WAITS_FROM;
        s->waited += row->waited;
        s->refused += row->refused;
        s->alone = s->alone || (!row->refused && row->alone_ns > row->start_ns);
        s->beside = s->beside || (!row->refused && row->alone_ns < row->end_ns);
        s->lost += row->lost;
        if (row->waited && wait_ns > longest_ns) {
            longest_ns = wait_ns;
            s->longest = i;
        }
    }
}

// ---- rows

static bool went_wrong(const struct probe_call *c) { return c->error != OK || c->status == 0 || c->status >= 400; }

static void fill_rows(struct seating *s, const struct probe_report *r) {
    const struct trial *t = s->trial;
    uint64_t last_ns = t->from_ns;
    s->from_ns = UINT64_MAX;
    for (unsigned i = 0; i < t->plan.calls; i++) {
        s->from_ns = MIN(s->from_ns, t->calls[i].sent_ns);
        last_ns = MAX(last_ns, t->calls[i].end_ns);
    }
    for (unsigned i = 0; i < t->plan.calls; i++) {
        const struct probe_call *c = &t->calls[i];
        uint64_t end_ns = c->end_ns ? c->end_ns : MAX(t->to_ns, last_ns);
        struct seating_row *row = &s->rows[i];
        *row = (struct seating_row){.call = c, .sent_ns = on_chart(s, c->sent_ns)};
        row->end_ns = MAX(on_chart(s, end_ns), row->sent_ns);
        row->refused = went_wrong(c);
        row->start_ns = row->refused ? row->end_ns : row->sent_ns;
        row->alone_ns = row->end_ns;
        row->lost = r->timeout_ns && row->end_ns - row->sent_ns > r->timeout_ns;
        s->length_ns = MAX(s->length_ns, row->end_ns);
    }
}

static void fit_timeout(struct seating *s, uint64_t timeout_ns) {
    if (timeout_ns > s->length_ns && timeout_ns <= s->length_ns + s->length_ns / 2) {
        s->length_ns = timeout_ns + s->unit_ns / WAITS_FROM; // near enough to be shown
    }
}

// ---- folding

static int by_start(const void *a, const void *b) {
    const struct seating_row *x = a;
    const struct seating_row *y = b;
    if (x->refused != y->refused) {
        return x->refused - y->refused;
    }
    if (x->start_ns != y->start_ns) {
        return x->start_ns > y->start_ns ? 1 : -1;
    }
    return (x->call->user > y->call->user) - (x->call->user < y->call->user);
}

// The rows have changed places: who waited for whom is found again.
static void find_after(struct seating *s) {
    unsigned most = 0;
    for (unsigned i = 0; i < s->count; i++) {
        most = MAX(most, s->rows[i].call->user);
    }
    unsigned *where = xcalloc((size_t)most + 1, sizeof *where);
    uint64_t longest_ns = 0;
    for (unsigned i = 0; i < s->count; i++) {
        where[s->rows[i].call->user] = i;
    }
    for (unsigned i = 0; i < s->count; i++) {
        struct seating_row *row = &s->rows[i];
        row->after_at = row->after ? where[row->after] : 0;
        if (row->waited && row->start_ns - row->sent_ns > longest_ns) {
            longest_ns = row->start_ns - row->sent_ns;
            s->longest = i;
        }
    }
    free(where);
}

// They began together, and neither took more than half as long again.
static bool look_alike(const struct seating *s, const struct seating_row *a, const struct seating_row *b) {
    uint64_t slack_ns = s->unit_ns / WAITS_FROM;
    return a->refused == b->refused && a->call->status == b->call->status && a->lost == b->lost &&
           apart(a->sent_ns, b->sent_ns) <= slack_ns && apart(a->start_ns, b->start_ns) <= slack_ns &&
           apart(a->end_ns, b->end_ns) <= slack_ns + (a->end_ns - a->start_ns) / 2;
}

// One past the last row that looks like this one.
static unsigned group_end(const struct seating *s, unsigned from) {
    unsigned end = from + 1;
    while (end < s->count && look_alike(s, &s->rows[from], &s->rows[end])) {
        end++;
    }
    return end;
}

static void add_more(struct seating *s, unsigned from, unsigned to, unsigned steps) {
    struct seating_line line = {.row = from, .more = to - from, .steps = steps};
    for (unsigned i = from; i < to; i++) {
        const struct seating_row *row = &s->rows[i];
        line.longest_ns = MAX(line.longest_ns, row->waited ? row->start_ns - row->sent_ns : 0);
    }
    if (line.more) {
        s->lines[s->line_count++] = line;
    }
}

static void add_group(struct seating *s, unsigned from, unsigned end) {
    unsigned shown = end - from <= 3 ? end - from : 1; // a line that says "2 more" saves nothing
    for (unsigned i = from; i < from + shown; i++) {
        s->lines[s->line_count++] = (struct seating_line){.row = i};
    }
    add_more(s, from + shown, end, 0);
}

static void fold(struct seating *s, unsigned lines) {
    unsigned groups = 0;
    unsigned group = 0;
    unsigned skipped_from = 0;
    qsort(s->rows, s->count, sizeof *s->rows, by_start);
    find_after(s);
    for (unsigned i = 0; i < s->count; i = group_end(s, i)) {
        groups++;
    }
    // A group takes two lines; of more than fit the first and last are shown, and of single rows more of them.
    bool single = groups == s->count;
    unsigned first = single ? lines / 3 : MAX(lines / 8, (unsigned)STEPS_FIRST);
    unsigned last = single ? lines / 8 : STEPS_LAST;
    bool all = groups <= (single ? first + last + 2 : MAX(lines / 2, (unsigned)STEPS_FIRST + STEPS_LAST));
    for (unsigned i = 0, end; i < s->count; i = end, group++) {
        end = group_end(s, i);
        if (!all && group == first) {
            skipped_from = i;
        }
        if (!all && group == groups - last) {
            add_more(s, skipped_from, i, groups - first - last);
        }
        if (all || group < first || group >= groups - last) {
            add_group(s, i, end);
        }
    }
}

static void make_lines(struct seating *s, unsigned lines) {
    s->lines = xcalloc(s->count + 2, sizeof *s->lines);
    if (s->count > MAX(lines, (unsigned)PLAIN_ROWS)) {
        fold(s, MAX(lines, (unsigned)PLAIN_ROWS));
        return;
    }
    for (unsigned i = 0; i < s->count; i++) {
        s->lines[s->line_count++] = (struct seating_line){.row = i};
    }
}

bool seating_fill(struct seating *s, const struct probe_report *r, unsigned lines) {
    *s = (struct seating){.trial = pick_trial(r)};
    if (!s->trial) {
        return false;
    }
    s->count = s->trial->plan.calls;
    s->rows = xcalloc(s->count, sizeof *s->rows);
    fill_rows(s, r);
    s->length_ns = MAX(s->length_ns, 1u);
    s->unit_ns = r->verdict->solo_ns ? r->verdict->solo_ns : s->length_ns;
    s->exact = r->evidence->journal && was_seen(s);
    s->plain = !s->exact && shown_model(r)->model == PROBE_INCONCLUSIVE;
    sit_all(s, r);
    name_seats(s);
    count_up(s);
    fit_timeout(s, r->timeout_ns);
    make_lines(s, lines);
    return true;
}

void seating_finish(struct seating *s) {
    free(s->rows);
    free(s->lines);
    *s = (struct seating){.trial = NULL};
}

uint64_t seating_limit(const struct seating *s, const struct probe_report *r, const struct seating_row *row) {
    uint64_t at_ns = row->sent_ns + r->timeout_ns;
    return r->timeout_ns && at_ns < s->length_ns ? at_ns : UINT64_MAX;
}

// ---- the canary

// Slow is four times what it takes when nothing else runs, and a difference that somebody would notice.
static enum canary_look look_of(const struct seating *s, const struct evidence *e, const struct probe_canary *c) {
    static const uint64_t NOTICED_NS = 20000000;
    uint64_t took_ns = c->end_ns > c->sent_ns ? c->end_ns - c->sent_ns : 0;
    if (c->status == 0 || c->end_ns == 0 || took_ns > MAX(s->unit_ns / 2, 4 * e->canary_alone_ns + NOTICED_NS)) {
        return LOOK_GONE;
    }
    return took_ns > 4 * e->canary_alone_ns + NOTICED_NS ? LOOK_SLOW : LOOK_FINE;
}

enum canary_look seating_canary(const struct seating *s, const struct evidence *e, uint64_t from_ns, uint64_t to_ns) {
    enum canary_look worst = LOOK_NONE;
    for (unsigned i = 0; i < s->trial->canary_count; i++) {
        const struct probe_canary *c = &s->trial->canaries[i];
        uint64_t sent_ns = on_chart(s, c->sent_ns);
        uint64_t next_ns =
            i + 1 < s->trial->canary_count ? on_chart(s, s->trial->canaries[i + 1].sent_ns) : s->length_ns;
        uint64_t end_ns =
            c->end_ns ? MAX(on_chart(s, c->end_ns), next_ns) : s->length_ns; // as it was until it is known
        if (sent_ns < to_ns && end_ns > from_ns) {
            enum canary_look look = look_of(s, e, c);
            worst = MAX(worst, look);
        }
    }
    return worst;
}

// ---- words

const char *seat_name(char out[SEAT_NAME], unsigned seat) {
    char letters[SEAT_NAME];
    unsigned n = 0;
    for (; seat && n < SEAT_NAME - 1; seat = (seat - 1) / 26) {
        letters[n++] = (char)('A' + (seat - 1) % 26);
    }
    for (unsigned i = 0; i < n; i++) {
        out[i] = letters[n - 1 - i];
    }
    out[n] = '\0';
    return out;
}

void put_row_note(struct out *o, const struct seating_row *row, bool brief) {
    if (row->refused && row->call->error == OK && row->call->status) {
        put_format(o, "%s %d", brief ? "got" : "refused with", row->call->status);
    } else if (row->refused) {
        put_format(o, "%s", err_text(row->call->error == OK ? ERR_CUT : row->call->error));
    } else if (row->waited) {
        put(o, brief ? STR("") : STR("waited "));
        put_time(o, row->start_ns - row->sent_ns);
        if (row->after) {
            put_format(o, " for %s%u", brief ? "" : "user ", row->after);
        }
    }
    if (row->call->retransmitted && !row->refused && !row->seat) {
        put(o, brief ? STR("network") : STR("held up by the network"));
    }
    if (row->lost && !row->refused) {
        put(o, brief ? STR(" lost") : STR(", lost"));
    }
}

const char *pale_means(const struct seating *s) {
    return s->plain ? "under way: waiting or served" : "served beside others";
}

void put_more(struct out *o, const struct seating_line *line) {
    put_text(o, "... ");
    put_count(o, line->more);
    if (line->steps > 1) {
        put_text(o, " more in ");
        put_count(o, line->steps);
        put_text(o, " steps");
    } else {
        put_text(o, " more like this");
    }
    if (line->longest_ns && line->steps > 1) {
        put_text(o, ", waited up to ");
        put_time(o, line->longest_ns);
    }
}
