// SPDX-License-Identifier: MIT
// The learned limit in front of an upstream that is simulated event by event: a pool of seats that lets calls wait
// without a word, or refuses those it has no seat for. Demand has no end, so that the gate is always in full use.
#include "admit/learn.h"

#include <math.h>

#include "check.h"

enum { CALLS = 512, QUEUE = 1 << 14 };

enum stage { FREE, QUEUED, SERVED, REFUSED };

struct call {
    enum stage stage;
    double sent_s, first_s, total_s, begun_s, done_s;
    unsigned crowd, epoch;
};

struct world {
    struct learn learn;
    uint64_t seed;
    bool refuses;
    double first_s, total_s, spread; // means; standard deviation over mean, of lognormal ones
    unsigned seats, taken, in;
    double now_s;
    struct call calls[CALLS];
    unsigned queue[QUEUE], queue_first, queue_end;
    unsigned answered, refused;
};

static double unit(struct world *w) {
    w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(w->seed >> 12) + 0.5) * 0x1p-52;
}

static double lognormal(struct world *w, double mean) {
    double s2 = log(1 + w->spread * w->spread);
    double normal = sqrt(-2 * log(unit(w))) * cos(2 * 3.14159265358979 * unit(w));
    return mean * exp(normal * sqrt(s2) - s2 / 2);
}

static void seat(struct world *w) {
    while (w->taken < w->seats && w->queue_first != w->queue_end) {
        struct call *c = &w->calls[w->queue[w->queue_first++ % QUEUE]];
        c->stage = SERVED;
        c->begun_s = w->now_s;
        c->done_s = w->now_s + c->total_s;
        w->taken++;
    }
}

static void send_one(struct world *w) {
    unsigned at = 0;
    while (w->calls[at].stage != FREE) {
        at++;
        check(at < CALLS);
    }
    struct call *c = &w->calls[at];
    *c = (struct call){.stage = QUEUED, .sent_s = w->now_s, .crowd = ++w->in, .epoch = learn_epoch(&w->learn)};
    c->first_s = lognormal(w, w->first_s);
    c->total_s = c->first_s + (w->total_s > w->first_s ? lognormal(w, w->total_s - w->first_s) : 0);
    if (w->refuses && w->taken >= w->seats) {
        c->stage = REFUSED;
        c->done_s = w->now_s + 0.005;
    } else {
        w->queue[w->queue_end++ % QUEUE] = at;
        seat(w);
    }
}

static struct call *next_done(struct world *w) {
    struct call *next = NULL;
    for (struct call *c = w->calls; c < w->calls + CALLS; c++) {
        if (c->stage >= SERVED && (!next || c->done_s < next->done_s)) {
            next = c;
        }
    }
    return next;
}

static uint64_t ms_of(double s) { return (uint64_t)(s * 1000); }

// Until that time, or nothing happens any more; `each` after every quarter of a service time.
static void live_until(struct world *w, double until_s, void (*each)(struct world *w, void *owner), void *owner) {
    for (double look_s = w->now_s + w->total_s / 4;;) {
        while (w->in < learn_limit(&w->learn)) {
            send_one(w);
        }
        struct call *c = next_done(w);
        for (; look_s <= MIN(c->done_s, until_s); look_s += w->total_s / 4) {
            if (each) {
                each(w, owner);
            }
        }
        if (c->done_s > until_s) {
            w->now_s = until_s;
            return;
        }
        w->now_s = c->done_s;
        struct learn_sample s = {
            .crowd = c->crowd, .in = w->in, .epoch = c->epoch, .total_ms = ms_of(w->now_s - c->sent_s)};
        if (c->stage == REFUSED) {
            s.overloaded = true;
            w->refused++;
        } else {
            s.well = true;
            s.first_byte_ms = ms_of(c->begun_s - c->sent_s + c->first_s);
            w->taken--;
            w->answered++;
        }
        c->stage = FREE;
        w->in--;
        learn_answer(&w->learn, &s);
        seat(w);
    }
}

static struct world *world_create(bool refuses, double first_s, double spread, uint64_t seed) {
    struct world *w = xcalloc(1, sizeof *w);
    *w =
        (struct world){.refuses = refuses, .first_s = first_s, .total_s = 5, .spread = spread, .seed = seed * 7919 + 1};
    learn_init(&w->learn, 0);
    return w;
}

// ---- settling

struct watch {
    unsigned looks, near, looks_until_near;
    double sum;
};

static void watch(struct world *w, void *owner) {
    struct watch *v = owner;
    unsigned limit = learn_limit(&w->learn), around = MAX(1u, w->seats / 10);
    bool near = limit + around >= w->seats && limit <= w->seats + around;
    v->looks++;
    v->near += near;
    v->sum += limit;
    if (near && !v->looks_until_near) {
        v->looks_until_near = v->looks;
    }
}

static const unsigned pools[] = {6, 20, 3};

struct row {
    bool refuses;
    double first_s, spread;
    unsigned settled_s; // service times until it is near, at most
    unsigned near;      // of a hundred looks after that, at least
};

static void check_row(const struct row *row, uint64_t seed) {
    enum { SERVICES = 60 };
    struct world *w = world_create(row->refuses, row->first_s, row->spread, seed);
    for (unsigned i = 0; i < ARRAY_LEN(pools); i++) {
        struct watch soon = {0}, then = {0};
        w->seats = pools[i];
        live_until(w, w->now_s + row->settled_s * w->total_s, watch, &soon);
        live_until(w, w->now_s + (SERVICES - row->settled_s) * w->total_s, watch, &then);
        if (!soon.looks_until_near || then.near * 100 < row->near * then.looks ||
            fabs(then.sum / then.looks - pools[i]) > MAX(1, pools[i] / 10)) {
            fail_msg("%s, first %g, spread %g, seed %u, pool %u: near after %u quarters, then %u of %u, mean %g",
                     row->refuses ? "refuses" : "waits", row->first_s, row->spread, (unsigned)seed, pools[i],
                     soon.looks_until_near, then.near, then.looks, then.sum / then.looks);
        }
    }
    if (row->refuses) {
        check(w->refused * 5 < w->answered);
    }
    free(w);
}

static void settles_at_the_pool_and_follows_it(void **state) {
    (void)state;
    static const struct row rows[] = {
        {true, 0.5, 0.5, 10, 90},  {true, 5, 0, 12, 90},       {true, 0.5, 0, 12, 90},
        {false, 0.5, 0.5, 12, 80}, {false, 0.25, 0.5, 12, 80},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        for (uint64_t seed = 1; seed <= 5; seed++) {
            check_row(&rows[i], seed);
        }
    }
}

// In lockstep: all are sent at once, all are done at once, and only the last of a round have waited. Or the first byte is
// the whole answer, and how fast it is says more about what was asked. It stays within a third of the pool on average, and
// never falls into a hole.
static void is_not_led_astray(void **state) {
    (void)state;
    static const struct row rows[] = {
        {false, 0.5, 0, 0, 0}, {false, 5, 0, 0, 0}, {false, 5, 0.5, 0, 0}, {true, 5, 0.5, 0, 0}};
    for (unsigned i = 0; i < ARRAY_LEN(rows) * 5; i++) {
        const struct row *row = &rows[i / 5];
        struct world *w = world_create(row->refuses, row->first_s, row->spread, i % 5 + 1);
        for (unsigned p = 0; p < ARRAY_LEN(pools); p++) {
            struct watch v = {0};
            w->seats = pools[p];
            live_until(w, w->now_s + 20 * w->total_s, NULL, NULL);
            live_until(w, w->now_s + 200 * w->total_s, watch, &v);
            double mean = v.sum / v.looks;
            if (fabs(mean - pools[p]) > MAX(1.5, pools[p] / 3.0)) {
                fail_msg("row %u, seed %u, pool %u: mean %g", i / 5, i % 5 + 1, pools[p], mean);
            }
        }
        free(w);
    }
}

// ---- answer by answer

static void answer(struct learn *l, uint64_t first_ms) {
    unsigned limit = learn_limit(l);
    learn_answer(l, &(struct learn_sample){.well = true,
                                           .first_byte_ms = first_ms,
                                           .total_ms = first_ms + 4000,
                                           .crowd = limit,
                                           .in = limit,
                                           .epoch = learn_epoch(l)});
}

static void refuse(struct learn *l, unsigned epoch) {
    learn_answer(l, &(struct learn_sample){.overloaded = true, .total_ms = 5, .epoch = epoch});
}

static void begins_where_it_is_told_and_never_below_one(void **state) {
    (void)state;
    static const unsigned begins[][2] = {{0, LEARN_BEGIN}, {1, 1}, {50, 50}, {LEARN_MOST + 1, LEARN_MOST}};
    for (unsigned i = 0; i < ARRAY_LEN(begins); i++) {
        struct learn l;
        learn_init(&l, begins[i][0]);
        check_int(learn_limit(&l), begins[i][1]);
        for (unsigned n = 0; n < 200; n++) {
            refuse(&l, learn_epoch(&l));
        }
        check_int(learn_limit(&l), 1);
        for (unsigned n = 0; n < 10; n++) {
            answer(&l, 500);
        }
        check(learn_limit(&l) > 1);
    }
}

static void a_refusal_counts_once_for_all_that_were_sent_together(void **state) {
    (void)state;
    struct learn l;
    learn_init(&l, 20);
    unsigned epoch = learn_epoch(&l);
    for (unsigned i = 0; i < 20; i++) {
        refuse(&l, epoch);
    }
    check_int(learn_limit(&l), 18);
    refuse(&l, learn_epoch(&l));
    check_int(learn_limit(&l), 16);
}

static void what_was_tried_too_much_is_taken_back(void **state) {
    (void)state;
    struct learn l;
    learn_init(&l, 30);
    while (learn_limit(&l) == 30) {
        answer(&l, 500);
    }
    check_int(learn_limit(&l), 31);
    refuse(&l, learn_epoch(&l));
    check_int(learn_limit(&l), 30); // not 27: that was good
}

static void grows_only_in_full_use(void **state) {
    (void)state;
    struct learn l;
    learn_init(&l, 10);
    for (unsigned i = 0; i < 1000; i++) {
        learn_answer(
            &l,
            &(struct learn_sample){
                .well = true, .first_byte_ms = 500, .total_ms = 4000, .crowd = 9, .in = 9, .epoch = learn_epoch(&l)});
    }
    check_int(learn_limit(&l), 10);
    for (unsigned i = 0; i < 100; i++) { // says nothing
        learn_answer(&l, &(struct learn_sample){.total_ms = 4000, .crowd = 10, .in = 10, .epoch = learn_epoch(&l)});
    }
    check_int(learn_limit(&l), 10);
}

// Of an upstream that is neither slow nor crowded one answer takes a minute.
static void one_slow_answer_is_no_collapse(void **state) {
    (void)state;
    static const unsigned begins[] = {3, 6, 20, 100};
    for (unsigned i = 0; i < ARRAY_LEN(begins); i++) {
        struct learn l;
        learn_init(&l, begins[i]);
        while (learn_limit(&l) <= begins[i] + 1) {
            answer(&l, 500);
        }
        unsigned before = learn_limit(&l);
        answer(&l, 60000);
        unsigned least = learn_limit(&l);
        for (unsigned n = 0; n < before * 6; n++) {
            answer(&l, 500);
            least = MIN(least, learn_limit(&l));
        }
        check(least + 2 >= before || least * 10 >= before * 8);
        check(learn_limit(&l) >= before);
    }
}

// The upstream has become slower for everybody (another model, longer prompts): no crowd of ours. It is found out: the limit
// neither falls to one nor forgets that there is one.
static void a_slower_upstream_is_no_crowd_for_long(void **state) {
    (void)state;
    static const double firsts[][2] = {{0.5, 1.5}, {0.5, 3}, {2, 4}};
    for (unsigned i = 0; i < ARRAY_LEN(firsts); i++) {
        struct watch v = {0};
        struct world *w = world_create(false, firsts[i][0], 0.5, 3 + i);
        w->seats = 8;
        live_until(w, 50 * w->total_s, NULL, NULL);
        w->first_s = firsts[i][1];
        live_until(w, 100 * w->total_s, NULL, NULL);
        live_until(w, 200 * w->total_s, watch, &v);
        check(v.sum / v.looks >= 4 && v.sum / v.looks <= 12);

        free(w);
    }
}

TESTS(TEST(settles_at_the_pool_and_follows_it), TEST(is_not_led_astray),
      TEST(begins_where_it_is_told_and_never_below_one), TEST(a_refusal_counts_once_for_all_that_were_sent_together),
      TEST(what_was_tried_too_much_is_taken_back), TEST(grows_only_in_full_use), TEST(one_slow_answer_is_no_collapse),
      TEST(a_slower_upstream_is_no_crowd_for_long))
