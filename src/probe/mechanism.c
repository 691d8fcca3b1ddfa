// SPDX-License-Identifier: MIT
#include "probe/mechanism.h"

#include <math.h>

#include "base/mem.h"

// Two moments less than this apart may have been the other way round on the server.
static const double JITTER_MS = 3;
// A refusal that the mechanism does not explain.
static const double UNEXPLAINED = -7;
// Who-is-next by lot or last come is gone through in n * n steps.
enum { LOTS_MOST = 400 };

static const struct sight *nth_done(const struct scene *s, const struct span *p, size_t i) {
    return &s->v[s->by_done[p->from + i]];
}

// The i-th to be let in: as they were sent, or, as nobody knows, as they were done.
static size_t nth(const struct scene *s, const struct span *p, enum order order, size_t i) {
    return order == ORDER_SENT ? p->from + i : s->by_done[p->from + i];
}

static void note(struct account *a, const struct scene *s, size_t i, double start, double chance) {
    a->service[i] = s->v[i].done - start;
    a->chance[i] = chance;
    a->waited = MAX(a->waited, start - s->v[i].came);
}

double mechanism_batch_ms(const struct scene *s) { return MAX(2 * s->spread * s->alone_ms, 2 * JITTER_MS); }

// ---- flat; one at a time for a part of each call. A flat server may have a small part, too: its own work per call

// One core, of which each call in service has as much as the others: when each has had its work. They leave as they came.
static void work_side_by_side(const struct scene *s, const struct span *p, double work_ms, double *done) {
    double *due = done; // what each will have had by then; once it has, when that was
    size_t come = 0;
    size_t gone = 0;
    double at = 0;
    double had = 0;
    while (gone < span_len(p)) {
        double n = (double)(come - gone);
        double arrival = come < span_len(p) ? s->v[p->from + come].came : INFINITY;
        double departure = come > gone ? at + (due[gone] - had) * n : INFINITY;
        double next = MAX(MIN(arrival, departure), at);
        had += come > gone ? (next - at) / n : 0;
        at = next;
        if (arrival < departure) {
            due[come++] = had + work_ms;
        } else {
            done[gone++] = at;
        }
    }
}

// What is slowed by others varies with all of it, as on shared cores, not only with what it takes alone.
static void in_proportion(const struct scene *s, size_t i, double slowed, struct account *a) {
    double of_service = s->alone_ms / (s->alone_ms + MAX(slowed, 0));
    a->service[i] = (s->v[i].done - s->v[i].came) * of_service;
    a->chance[i] += log(of_service);
}

// With share q the calls pass one by one: the next one not before the last one's q * service.
static bool turn_lock(const struct hypothesis *h, const struct scene *s, unsigned trial, enum order order,
                      struct account *a) {
    const struct span *p = &s->spans[trial];
    double work_ms = h->share * h->together * s->alone_ms;
    double in_turn = h->share * (1 - h->together);
    double free_at = 0;
    double *done = work_ms > 0 ? xcalloc(span_len(p) + 1, sizeof *done) : NULL;
    if (done) {
        work_side_by_side(s, p, work_ms, done);
    }
    for (size_t k = 0; k < span_len(p); k++) {
        size_t i = nth(s, p, order, k);
        double start = MAX(done ? done[i - p->from] - work_ms : s->v[i].came, free_at);
        note(a, s, i, start, order == ORDER_SENT ? 0 : -log((double)k + 1));
        free_at = start + in_turn * (h->even ? s->alone_ms : MAX(a->service[i], 0));
        if (done) {
            in_proportion(s, i, start - s->v[i].came, a);
        }
    }
    free(done);
    return order == ORDER_SENT || in_turn > 0;
}

// ---- processor sharing

// When the k-th to be let in begins, of so many seats.
static double begin_of(const struct scene *s, const struct span *p, enum order order, size_t seats, size_t k) {
    double came = s->v[nth(s, p, order, k)].came;
    return k < seats ? came : MAX(came, nth_done(s, p, k - seats)->done);
}

// A(t): how much service each call that is in service has had; it grows by min(1, cores / n). Replaces each call's time in
// service by what it has had of it.
static void share(const struct scene *s, const struct span *p, enum order order, size_t seats, unsigned cores,
                  struct account *a) {
    size_t begun = 0;
    double at = 0;
    double had = 0;
    unsigned n = 0;
    for (size_t k = 0; k < span_len(p); k++) {
        const struct sight *left = nth_done(s, p, k);
        for (bool leaves = false; !leaves;) {
            double next = begun < span_len(p) ? begin_of(s, p, order, seats, begun) : INFINITY;
            leaves = next >= left->done;
            next = MAX(MIN(next, left->done), at);
            had += n ? (next - at) * MIN(1.0, (double)cores / n) : 0;
            at = next;
            size_t who = leaves ? 0 : nth(s, p, order, begun++);
            if (!leaves && s->v[who].done > at) {
                a->service[who] = -had;
                n++;
            }
        }
        size_t who = (size_t)(left - s->v);
        bool there = n > 0 && (order == ORDER_SENT ? who - p->from : k) < begun;
        a->service[who] = there ? a->service[who] + had : 0; // else done without having begun: it contradicts
        a->chance[who] += there ? log(MIN(1.0, (double)cores / n)) : 0; // so much less of service than of time
        n -= there;
    }
}

static bool turn_cpu(const struct hypothesis *h, const struct scene *s, unsigned trial, enum order order,
                     struct account *a) {
    const struct span *p = &s->spans[trial];
    for (size_t i = p->from; i < p->to; i++) {
        note(a, s, i, s->v[i].came, 0);
    }
    share(s, p, order, span_len(p), h->at_once, a);
    for (size_t i = p->from; i < p->to; i++) {
        a->waited = MAX(a->waited, s->v[i].done - s->v[i].came - a->service[i]);
    }
    return order == ORDER_SENT;
}

// ---- N seats

// Who leaves at `done` gives the seat to one of those waiting: the last to come, or by lot whoever is done first.
static size_t pick(const struct scene *s, const struct span *p, const bool *waits, bool last) {
    size_t best = SIZE_MAX;
    for (size_t i = p->from; i < p->to; i++) {
        bool better = best == SIZE_MAX || last || s->v[i].done < s->v[best].done;
        best = waits[i - p->from] && better ? i : best;
    }
    return best;
}

// Not first come first served: event by event.
static bool turn_unfair(unsigned seats, const struct scene *s, const struct span *p, bool last, struct account *a) {
    size_t n = span_len(p);
    if (n > LOTS_MOST || n == 0) {
        return false;
    }
    bool *waits = xcalloc(2 * n, sizeof *waits);
    bool *served = waits + n;
    double batch = -INFINITY;
    double in_batch = 0;
    size_t come = p->from;
    size_t waiting = 0;
    unsigned free_seats = seats;
    for (size_t k = 0; k < n; k++) {
        const struct sight *left = nth_done(s, p, k);
        size_t who = (size_t)(left - s->v);
        for (; come < p->to && s->v[come].came <= left->done; come++) {
            if (free_seats) {
                free_seats--;
                served[come - p->from] = true;
                note(a, s, come, s->v[come].came, 0);
            } else {
                waits[come - p->from] = true;
                waiting++;
            }
        }
        if (!served[who - p->from]) { // done without having begun: it contradicts
            note(a, s, who, left->done, 0);
            waiting -= waits[who - p->from];
            waits[who - p->from] = false;
            continue;
        }
        size_t next = waiting ? pick(s, p, waits, last) : SIZE_MAX;
        if (next == SIZE_MAX) {
            free_seats++;
            continue;
        }
        bool same = left->done - batch <= mechanism_batch_ms(s);
        batch = same ? batch : left->done;
        in_batch = same ? in_batch + 1 : 1;
        note(a, s, next, left->done, last ? 0 : log(MIN(in_batch / (double)waiting, 1)));
        waits[next - p->from] = false;
        served[next - p->from] = true;
        waiting--;
    }
    free(waits);
    return true;
}

// Each call does several things, each in a place of its own, and is done with the last of them: `free_at` are the places',
// the first free one first. When its last begins; `service` is what each of them took.
static void take_places(double *free_at, unsigned places, unsigned takes, double begins, double service) {
    double *taken = free_at + places; // until when, by this call
    for (unsigned i = 0; i < takes; i++) {
        taken[i] = MAX(begins, free_at[i]) + service;
    }
    for (unsigned i = takes; i < places; i++) {
        free_at[i - takes] = free_at[i];
    }
    for (unsigned i = 0; i < takes; i++) { // in order, like the others
        unsigned at = places - takes + i;
        for (; at > 0 && free_at[at - 1] > taken[i]; at--) {
            free_at[at] = free_at[at - 1];
        }
        free_at[at] = taken[i];
    }
}

static bool turn_several(const struct hypothesis *h, const struct scene *s, const struct span *p, enum order order,
                         struct account *a) {
    double *free_at = xcalloc(h->places + h->takes, sizeof *free_at);
    for (size_t k = 0; k < span_len(p); k++) {
        size_t i = nth(s, p, order, k);
        double came = s->v[i].came;
        double start = MAX(came, free_at[h->takes - 1]);
        note(a, s, i, start, order == ORDER_SENT ? 0 : -log((double)k + 1));
        take_places(free_at, h->places, h->takes, came, MAX(a->service[i], 0));
    }
    free(free_at);
    return true;
}

static bool turn_pool(const struct hypothesis *h, const struct scene *s, unsigned trial, enum order order,
                      struct account *a) {
    const struct span *p = &s->spans[trial];
    if (h->takes) {
        return turn_several(h, s, p, order, a);
    }
    double batch = -INFINITY; // when it began
    size_t first = 0;         // of it
    for (size_t k = 0; k < span_len(p); k++) {
        size_t i = nth(s, p, order, k);
        double start = k < h->at_once ? s->v[i].came : MAX(s->v[i].came, nth_done(s, p, k - h->at_once)->done);
        first = start - batch > mechanism_batch_ms(s) ? k : first;
        batch = first == k ? start : batch;
        note(a, s, i, start, order == ORDER_SENT ? 0 : log((double)(k - first + 1) / (double)(k + 1)));
    }
    if (h->cores) {
        share(s, p, order, h->at_once, h->cores, a);
    }
    return true;
}

// ---- a flag that is looked at

// The first look at or after `free_at`; where that is within the jitter of a look, the one that fits T better.
static double look(double came, double free_at, double period, double done, double alone) {
    double early = came + ceil(MAX(free_at - JITTER_MS - came, 0) / period) * period;
    double late = came + ceil(MAX(free_at + JITTER_MS - came, 0) / period) * period;
    return fabs(done - early - alone) <= fabs(done - late - alone) ? early : late;
}

// Who waits for a thread does not look yet.
static void first_looks(const struct hypothesis *h, const struct scene *s, const struct span *p, double *asks) {
    size_t threads = h->each ? h->each : span_len(p);
    for (size_t k = 0; k < span_len(p); k++) {
        asks[k] = begin_of(s, p, ORDER_SENT, threads, k);
    }
}

static bool turn_poll(const struct hypothesis *h, const struct scene *s, unsigned trial, enum order order,
                      struct account *a) {
    const struct span *p = &s->spans[trial];
    double period = (double)h->period_ns / 1e6;
    double free_at = 0;
    double *asks = xcalloc(span_len(p) + 1, sizeof *asks);
    first_looks(h, s, p, asks);
    for (size_t k = 0; k < span_len(p); k++) {
        const struct sight *me = nth_done(s, p, k);
        size_t who = (size_t)(me - s->v);
        double came = asks[who - p->from];
        double start = free_at > came ? look(came, free_at, period, me->done, s->alone_ms) : came;
        double rivals = 0; // who looked when I did
        double missed = 0; // who should have got it before me
        for (size_t j = k + 1; j < span_len(p) && span_len(p) <= LOTS_MOST; j++) {
            const struct sight *other = nth_done(s, p, j);
            double asked = asks[(size_t)(other - s->v) - p->from];
            double off = fabs(remainder(start - asked, period)); // of the nearest of their looks from mine
            double theirs = asked + ceil(MAX(free_at + JITTER_MS - asked, 0) / period) * period;
            bool rival = off <= JITTER_MS && asked <= start + JITTER_MS;
            rivals += rival;
            missed += (off > JITTER_MS && theirs < start) || (rival && order == ORDER_SENT && other < me);
        }
        note(a, s, who, start, (order == ORDER_SENT ? 0 : -log1p(rivals)) - 3 * MIN(missed, 3));
        free_at = me->done;
    }
    free(asks);
    return true;
}

// ---- tokens. GCRA, whose one number is when the bucket will be full again; it is carried from trial to trial

// What calls took that are left out, since the trial before.
static void drain(const struct hypothesis *h, const struct scene *s, unsigned trial, struct account *a) {
    double interval = 1e3 / h->rate;
    for (unsigned i = trial ? s->spans[trial - 1].lost : 0; i < s->spans[trial].lost; i++) {
        a->full = MAX(a->full, s->lost[i]) + interval;
    }
}

static bool turn_bucket(const struct hypothesis *h, const struct scene *s, unsigned trial, enum order order,
                        struct account *a) {
    const struct span *p = &s->spans[trial];
    double interval = 1e3 / h->rate;
    double size = (h->at_once - 1) * interval;
    drain(h, s, trial, a);
    double full = a->full;
    double last = 0;
    for (size_t k = 0; k < span_len(p); k++) {
        size_t i = nth(s, p, order, k);
        double start = MAX(MAX(s->v[i].came, last), full - size);
        full = MAX(full, start) + interval;
        last = start;
        note(a, s, i, start, order == ORDER_SENT || k < h->at_once ? 0 : -log((double)k + 1));
    }
    a->full = full;
    return true;
}

// Who comes when there is no token is sent away.
static bool turn_strict_bucket(const struct hypothesis *h, const struct scene *s, unsigned trial, struct account *a) {
    const struct span *p = &s->spans[trial];
    double interval = 1e3 / h->rate;
    double size = (h->at_once - 1) * interval;
    drain(h, s, trial, a);
    size_t i = p->from;
    size_t r = p->refused_from;
    while (i < p->to || r < p->refused_to) {
        bool turned_away = i == p->to || (r < p->refused_to && s->refusals[r].came < s->v[i].came);
        double came = turned_away ? s->refusals[r].came : s->v[i].came;
        bool token = a->full - size <= came + (turned_away ? -JITTER_MS : JITTER_MS);
        if (turned_away) {
            a->refused[r++] = token ? UNEXPLAINED : 0;
            continue;
        }
        a->full = MAX(a->full, came) + interval;
        note(a, s, i++, came, token ? 0 : UNEXPLAINED);
    }
    return true;
}

// ---- a hard cap

static unsigned in_service(const struct scene *s, size_t from, size_t to, double came_by, double at) {
    unsigned n = 0;
    for (size_t i = from; i < to; i++) {
        n += s->v[i].came <= came_by && at < s->v[i].done;
    }
    return n;
}

static bool turn_cap(const struct hypothesis *h, const struct scene *s, unsigned trial, enum order order UNUSED,
                     struct account *a) {
    const struct span *p = &s->spans[trial];
    for (size_t i = p->from; i < p->to; i++) {
        double came = s->v[i].came;
        bool full = in_service(s, p->from, i, came, came + JITTER_MS) >= h->at_once;
        note(a, s, i, s->v[i].came, full ? UNEXPLAINED : 0);
    }
    for (size_t r = p->refused_from; r < p->refused_to; r++) {
        double came = s->refusals[r].came;
        bool full = in_service(s, p->from, p->to, came + JITTER_MS, came - JITTER_MS) >= h->at_once;
        a->refused[r] = full ? 0 : UNEXPLAINED;
    }
    return true;
}

// ---- one of each session

static bool turn_session(const struct hypothesis *h UNUSED, const struct scene *s, unsigned trial, enum order order,
                         struct account *a) {
    const struct span *p = &s->spans[trial];
    for (size_t k = 0; k < span_len(p); k++) {
        const struct sight *me = nth_done(s, p, k);
        double start = me->came;
        double others = 0;
        for (size_t j = 0; j < k && me->session; j++) {
            const struct sight *before = nth_done(s, p, j);
            bool mine = before->session == me->session;
            start = mine ? MAX(start, before->done) : start;
            others += mine;
        }
        note(a, s, (size_t)(me - s->v), start, -log1p(others));
    }
    return order == ORDER_SENT;
}

// ----

bool mechanism_turn(const struct hypothesis *h, const struct scene *s, unsigned trial, enum order order,
                    struct account *a) {
    const struct span *p = &s->spans[trial];
    if ((order == ORDER_SHUFFLED && !span_is_burst(p) && h->model != PROBE_POLL) ||
        (order >= ORDER_LAST && ((h->model != PROBE_POOL && h->model != PROBE_SERIAL) || h->cores || h->takes))) {
        return false;
    }
    for (size_t r = p->refused_from; r < p->refused_to; r++) {
        a->refused[r] = UNEXPLAINED;
    }
    switch (h->model) {
    case PROBE_FLAT:
    case PROBE_PARTIAL_LOCK: return turn_lock(h, s, trial, order, a);
    case PROBE_SERIAL:
    case PROBE_POOL:
        return order < ORDER_LAST ? turn_pool(h, s, trial, order, a)
                                  : turn_unfair(h->at_once, s, p, order == ORDER_LAST, a);
    case PROBE_CPU: return turn_cpu(h, s, trial, order, a);
    case PROBE_POLL: return turn_poll(h, s, trial, order, a);
    case PROBE_BUCKET:
        return h->refused_status ? turn_strict_bucket(h, s, trial, a) : turn_bucket(h, s, trial, order, a);
    case PROBE_CAP: return turn_cap(h, s, trial, order, a);
    case PROBE_SESSION: return turn_session(h, s, trial, order, a);
    case PROBE_PARTITIONED:
    case PROBE_INCONCLUSIVE: break;
    }
    return false;
}
