// SPDX-License-Identifier: MIT
// Each mode by the moments at which calls begin and end, to the millisecond, on a fake clock: these are the patterns
// that a prober looks for.
#include "mock/capacity.h"

#include "check.h"

enum { CALLS_MAX = 4000, MS = 1000000 };

struct run;
struct call {
    struct run *run;
    struct claim claim;
    uint64_t work_ms;
    uint64_t began_ms; // from the run's start, as all here
    uint64_t service_over_ms;
    uint64_t ended_ms;
    bool refused;
};

struct run {
    struct fake_clock fake;
    struct loop loop;
    struct capacity *capacity;
    struct call *calls;
    unsigned count;
    unsigned ended;
    uint64_t start_ms;
    unsigned overlap; // most in service at once, as their events say
    unsigned in_service;
};

static uint64_t run_ms(const struct run *r) { return r->fake.ns / MS - r->start_ms; }

static struct call *call_of(const struct claim *q) { return container_of(q, struct call, claim); }

static void end_call(struct call *c, uint64_t since_ms) {
    c->ended_ms = run_ms(c->run);
    c->run->ended++;
    capacity_leave(c->run->capacity, &c->claim, since_ms);
}

static void on_start(struct claim *q) {
    struct call *c = call_of(q);
    struct run *r = c->run;
    r->in_service++;
    r->overlap = MAX(r->overlap, r->in_service);
    c->began_ms = run_ms(r);
    if (c->work_ms == 0) {
        end_call(c, q->start_ms);
    } else {
        capacity_timer_set(r->capacity, q, q->start_ms + c->work_ms);
    }
}

static void on_end(struct claim *q) {
    struct call *c = call_of(q);
    c->run->in_service--;
    c->service_over_ms = run_ms(c->run);
}

static uint64_t work_us(const struct claim *q) { return call_of(q)->work_ms * 1000; }

static const struct capacity_events events = {on_start, on_end, work_us};

static void on_timer(struct timer *timer) {
    struct claim *q = container_of(timer, struct claim, timer);
    struct call *c = call_of(q);
    if (q->state == CLAIM_WAITING) {
        capacity_look(c->run->capacity, q);
    } else {
        end_call(c, q->start_ms + c->work_ms);
    }
}

static void run_init(struct run *r, const char *mode) {
    struct capacity_options options;
    const char *wanted = capacity_parse(str_c(mode), &options);
    if (wanted) {
        fail_msg("'%s': wanted %s", mode, wanted);
    }
    *r = (struct run){.calls = xcalloc(CALLS_MAX, sizeof(struct call))};
    fake_clock_init(&r->fake);
    r->start_ms = r->fake.ns / MS;
    check_ok(loop_init(&r->loop, &(struct loop_options){.clock = &r->fake.clock}));
    r->capacity = capacity_create(&r->loop, &options, 1, &events);
}

static void run_finish(struct run *r) {
    capacity_close(r->capacity);
    for (unsigned i = 0; i < r->count; i++) {
        timer_clear(&r->calls[i].claim.timer);
        capacity_leave(r->capacity, &r->calls[i].claim, UINT64_MAX);
    }
    check_int(capacity_counts(r->capacity)->in_service, 0);
    check_int(capacity_counts(r->capacity)->waiting, 0);
    check_int(r->in_service, 0);
    capacity_destroy(r->capacity);
    loop_finish(&r->loop);
    free(r->calls);
}

static void settle(struct run *r) {
    while (loop_turn(&r->loop, 0)) {
    }
}

// The clock goes from timer to timer up to this moment.
static void run_to(struct run *r, uint64_t ms) {
    uint64_t until = r->start_ms + ms;
    settle(r);
    while (wheel_next_ms(&r->loop.wheel) <= until) {
        r->fake.ns = MAX(wheel_next_ms(&r->loop.wheel) * MS, r->fake.ns);
        settle(r);
    }
    r->fake.ns = until * MS;
    settle(r);
}

static struct call *arrive_with(struct run *r, uint64_t work_ms, uint64_t key) {
    struct call *c = &r->calls[r->count++];
    check(r->count <= CALLS_MAX);
    *c = (struct call){.run = r, .work_ms = work_ms, .claim = {.key = key, .timer.on_timer = on_timer}};
    c->refused = !capacity_arrive(r->capacity, &c->claim);
    return c;
}

static struct call *arrive(struct run *r, uint64_t work_ms) { return arrive_with(r, work_ms, 0); }

static void arrive_n(struct run *r, unsigned n, uint64_t work_ms) {
    for (unsigned i = 0; i < n; i++) {
        arrive(r, work_ms);
    }
}

// In the order of their arrival.
static void check_ends(const struct run *r, const uint64_t *ends, size_t n) {
    check_int(r->count, n);
    for (size_t i = 0; i < n; i++) {
        if (r->calls[i].ended_ms != ends[i]) {
            fail_msg("call %zu ended at %llu ms, not at %llu ms", i, (unsigned long long)r->calls[i].ended_ms,
                     (unsigned long long)ends[i]);
        }
    }
}
#define CHECK_ENDS(r, ...)                                                                                             \
    do {                                                                                                               \
        static const uint64_t ends_[] = {__VA_ARGS__};                                                                 \
        check_ends((r), ends_, ARRAY_LEN(ends_));                                                                      \
    } while (0)

// n calls of a second each at once, and when they end.
static void burst(struct run *r, const char *mode, unsigned n) {
    run_init(r, mode);
    arrive_n(r, n, 1000);
    run_to(r, 60 * 1000);
    check_int(r->ended, n);
}

static void check_counts(const struct run *r, unsigned in_service_most, unsigned waiting_most) {
    check_int(r->overlap, in_service_most);
    check_int(capacity_counts(r->capacity)->in_service_most, in_service_most);
    check_int(capacity_counts(r->capacity)->waiting_most, waiting_most);
}

// ---- each mode

static void unlimited_calls_do_not_wait(void **state UNUSED) {
    struct run r;
    burst(&r, "unlimited", 5);
    CHECK_ENDS(&r, 1000, 1000, 1000, 1000, 1000);
    check_counts(&r, 5, 0);
    run_finish(&r);
}

static void a_lock_makes_a_staircase(void **state UNUSED) {
    struct run r;
    burst(&r, "lock", 5);
    CHECK_ENDS(&r, 1000, 2000, 3000, 4000, 5000);
    check_counts(&r, 1, 4);
    run_finish(&r);
}

static void a_partial_lock_makes_a_lower_one(void **state UNUSED) {
    struct run r;
    burst(&r, "lock:1s/4s", 4);
    CHECK_ENDS(&r, 1000, 1250, 1500, 1750);
    check_counts(&r, 1, 3);
    for (unsigned i = 0; i < 4; i++) {
        check_int(r.calls[i].began_ms, i * 250);
        check_int(r.calls[i].service_over_ms, (i + 1) * 250);
    }
    run_finish(&r);
}

static void a_partial_lock_is_free_again_between(void **state UNUSED) {
    struct run r;
    run_init(&r, "lock:500ms/1s");
    arrive(&r, 1000);
    run_to(&r, 200);
    struct call *leaves = arrive(&r, 1000);
    run_to(&r, 600); // it holds the lock since 500
    timer_clear(&leaves->claim.timer);
    capacity_leave(r.capacity, &leaves->claim, UINT64_MAX);
    run_to(&r, 700);
    arrive(&r, 1000);
    arrive(&r, 1000);
    run_to(&r, 10000);
    CHECK_ENDS(&r, 1000, 0, 1700, 2200);
    run_finish(&r);
}

static void a_pool_makes_batches(void **state UNUSED) {
    struct run r;
    burst(&r, "pool:3", 7);
    CHECK_ENDS(&r, 1000, 1000, 1000, 2000, 2000, 2000, 3000);
    check_counts(&r, 3, 4);
    for (unsigned i = 0; i < 7; i++) {
        check_int(r.calls[i].claim.seat, i % 3 + 1);
    }
    run_finish(&r);
}

static void a_pool_takes_who_comes_when_a_seat_is_free(void **state UNUSED) {
    struct run r;
    run_init(&r, "pool:2");
    arrive(&r, 1000);
    run_to(&r, 300);
    arrive(&r, 1000);
    run_to(&r, 600);
    arrive(&r, 1000); // 1000 to 2000
    run_to(&r, 1100);
    arrive(&r, 100); // 1300 to 1400
    run_to(&r, 5000);
    arrive(&r, 1000);
    run_to(&r, 9000);
    CHECK_ENDS(&r, 1000, 1300, 2000, 1400, 6000);
    run_finish(&r);
}

static void a_lifo_pool_serves_the_last_one_first(void **state UNUSED) {
    struct run r;
    burst(&r, "pool:1:lifo", 4);
    CHECK_ENDS(&r, 1000, 4000, 3000, 2000);
    run_finish(&r);
    burst(&r, "pool:1:fifo", 4);
    CHECK_ENDS(&r, 1000, 2000, 3000, 4000);
    run_finish(&r);
}

// All are served, each in its own second, in an order that is neither of the others.
static void a_random_pool_serves_by_lot(void **state UNUSED) {
    enum { CALLS = 40 };
    struct run r;
    bool done[CALLS + 1] = {false};
    unsigned up = 0;
    burst(&r, "pool:1:random", CALLS);
    for (unsigned i = 0; i < CALLS; i++) {
        uint64_t second = r.calls[i].ended_ms / 1000;
        check(r.calls[i].ended_ms % 1000 == 0 && second >= 1 && second <= CALLS && !done[second]);
        done[second] = true;
        up += i && r.calls[i].ended_ms > r.calls[i - 1].ended_ms;
    }
    check(up > CALLS / 4 && up < 3 * CALLS / 4);
    run_finish(&r);
}

static void workers_share_nothing(void **state UNUSED) {
    struct run r;
    run_init(&r, "workers:3x2");
    for (unsigned i = 0; i < 5; i++) {
        arrive_with(&r, 1000, 7); // 7 % 3 = 1
    }
    arrive_with(&r, 1000, 3);
    arrive_with(&r, 1000, 5);
    run_to(&r, 10000);
    CHECK_ENDS(&r, 1000, 1000, 2000, 2000, 3000, 1000, 1000);
    check_int(r.calls[0].claim.seat, 3);
    check_int(r.calls[1].claim.seat, 4);
    check_int(r.calls[5].claim.seat, 1);
    check_int(r.calls[6].claim.seat, 5);
    run_finish(&r);
}

static void cpu_is_shared_alike(void **state UNUSED) {
    struct run r;
    burst(&r, "cpu:2", 4);
    CHECK_ENDS(&r, 2000, 2000, 2000, 2000);
    check_counts(&r, 4, 0);
    run_finish(&r);
    burst(&r, "cpu:2", 2);
    CHECK_ENDS(&r, 1000, 1000);
    run_finish(&r);
    burst(&r, "cpu:1", 7);
    CHECK_ENDS(&r, 7000, 7000, 7000, 7000, 7000, 7000, 7000);
    run_finish(&r);
}

// One alone for 0.5 s, then two; the first has had its second at 1.5 s, the other goes on alone.
static void cpu_is_shared_as_calls_come_and_go(void **state UNUSED) {
    struct run r;
    run_init(&r, "cpu:1");
    arrive(&r, 1000);
    run_to(&r, 500);
    arrive(&r, 1000);
    run_to(&r, 3000);
    arrive(&r, 400);
    arrive(&r, 100); // 200 for this one, and 300 more for the other
    run_to(&r, 9000);
    CHECK_ENDS(&r, 1500, 2000, 3500, 3200);
    run_finish(&r);
}

// However late the loop looks, what happened meanwhile happened at its time.
static void cpu_is_exact_for_a_late_loop(void **state UNUSED) {
    struct run r;
    run_init(&r, "cpu:1");
    struct call *a = arrive(&r, 1000);
    struct call *b = arrive(&r, 2000);
    r.fake.ns += (uint64_t)2900 * MS; // the first is over at 2000; the other one has had 1000 then, and has 900 since
    settle(&r);
    check_int(r.ended, 1);
    check(a->ended_ms == 2900 && b->ended_ms == 0);
    run_to(&r, 2999);
    check_int(r.ended, 1);
    run_to(&r, 3000);
    check_int(r.ended, 2);
    run_finish(&r);
}

static void who_leaves_gives_its_cpu_to_the_others(void **state UNUSED) {
    struct run r;
    run_init(&r, "cpu:1");
    arrive(&r, 1000);
    struct call *leaves = arrive(&r, 1000);
    run_to(&r, 1000);
    timer_clear(&leaves->claim.timer);
    capacity_leave(r.capacity, &leaves->claim, UINT64_MAX);
    run_to(&r, 5000);
    CHECK_ENDS(&r, 1500, 0);
    run_finish(&r);
}

// The flag is free from 1000 on; they look at 10 + 300 k and at 150 + 300 k.
static void pollers_look_at_their_own_times(void **state UNUSED) {
    struct run r;
    run_init(&r, "poll:300ms");
    arrive(&r, 1000);
    run_to(&r, 10);
    arrive(&r, 1000); // 1210; the other looks at 1050
    run_to(&r, 150);
    arrive(&r, 1000);
    run_to(&r, 20000);
    check_int(r.calls[2].began_ms, 1050);
    check_int(r.calls[1].began_ms, 2110); // 2050 is over, 10 + 7 * 300
    CHECK_ENDS(&r, 1000, 3110, 2050);
    check_counts(&r, 1, 2);
    run_finish(&r);
}

static void a_bucket_is_emptied_and_then_drips(void **state UNUSED) {
    struct run r;
    burst(&r, "bucket:2/s:3", 6);
    CHECK_ENDS(&r, 1000, 1000, 1000, 1500, 2000, 2500);
    check_int(capacity_counts(r.capacity)->waiting_most, 3);
    run_to(&r, 60 * 1000); // 57 s later it is full again, and no fuller than that
    arrive_n(&r, 4, 1000);
    run_to(&r, 70 * 1000);
    CHECK_ENDS(&r, 1000, 1000, 1000, 1500, 2000, 2500, 61000, 61000, 61000, 61500);
    run_finish(&r);
}

static void a_bucket_s_rate_does_not_depend_on_the_calls(void **state UNUSED) {
    struct run r;
    run_init(&r, "bucket:60/m");
    arrive_n(&r, 3, 5000);
    run_to(&r, 400);
    arrive(&r, 5000);
    run_to(&r, 60 * 1000);
    CHECK_ENDS(&r, 5000, 6000, 7000, 8000);
    run_finish(&r);
}

static void a_cap_refuses_the_others(void **state UNUSED) {
    struct run r;
    run_init(&r, "cap:2");
    arrive_n(&r, 4, 1000);
    check(!r.calls[0].refused && !r.calls[1].refused && r.calls[2].refused && r.calls[3].refused);
    run_to(&r, 1000);
    check(!arrive(&r, 1000)->refused);
    run_to(&r, 5000);
    CHECK_ENDS(&r, 1000, 1000, 0, 0, 2000);
    check_counts(&r, 2, 0);
    run_finish(&r);
}

static void calls_of_one_session_follow_each_other(void **state UNUSED) {
    struct run r;
    run_init(&r, "session");
    arrive_with(&r, 1000, 5);
    arrive_with(&r, 1000, 5 + 1024); // the same bucket
    arrive_with(&r, 1000, 5);
    arrive_with(&r, 1000, 5 + 1024);
    arrive_with(&r, 1000, 5);
    arrive(&r, 1000); // without one
    arrive(&r, 1000);
    run_to(&r, 10000);
    CHECK_ENDS(&r, 1000, 1000, 2000, 2000, 3000, 1000, 1000);
    run_finish(&r);
}

// ---- all of them

static const char *const all[] = {"unlimited", "lock",        "lock:1s/3s", "pool:2", "pool:2:lifo", "pool:2:random",
                                  "cpu:2",     "workers:2x2", "poll:7ms",   "cap:2",  "session",     "bucket:5/s:2"};

// Who waits and leaves is not served, and holds nobody up.
static void who_leaves_while_waiting_frees_its_place(void **state UNUSED) {
    struct run r;
    run_init(&r, "lock");
    arrive_n(&r, 4, 1000);
    run_to(&r, 500);
    capacity_leave(r.capacity, &r.calls[1].claim, UINT64_MAX);
    check_int(capacity_counts(r.capacity)->waiting, 2);
    capacity_leave(r.capacity, &r.calls[1].claim, UINT64_MAX); // once more does nothing
    run_to(&r, 1500);
    timer_clear(&r.calls[2].claim.timer);
    capacity_leave(r.capacity, &r.calls[2].claim, UINT64_MAX); // in service: the next one begins at 1500
    run_to(&r, 9000);
    CHECK_ENDS(&r, 1000, 0, 0, 2500);
    run_finish(&r);
}

// Seats are handed on at the moment at which they were due, however late the loop is.
static void a_late_loop_adds_nothing_to_the_rounds(void **state UNUSED) {
    struct run r;
    run_init(&r, "lock");
    arrive_n(&r, 50, 10);
    for (unsigned turn = 0; turn < 200; turn++) {
        r.fake.ns += 3700001; // 3.7 ms a turn: every timer is late
        settle(&r);
    }
    check_int(r.ended, 50);
    for (unsigned i = 0; i < 50; i++) {
        check_int(r.calls[i].claim.start_ms - r.start_ms, i * 10);
    }
    run_finish(&r);
}

// Calls of no length would start one another: not inside of each other.
static void any_number_of_calls_may_end_as_they_begin(void **state UNUSED) {
    struct run r;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        run_init(&r, all[i]);
        for (unsigned n = 0; n < CALLS_MAX; n++) {
            arrive_with(&r, n < 4 ? 1000 : 0, 1 + n % 3);
        }
        run_to(&r, 2000 * 1000);
        unsigned refused = 0;
        for (unsigned n = 0; n < CALLS_MAX; n++) {
            refused += r.calls[n].refused;
        }
        check_int(r.ended + refused, CALLS_MAX);
        check(refused == 0 || strcmp(all[i], "cap:2") == 0);
        run_finish(&r);
    }
}

// Calls come, work and leave at any moment; nothing is lost and no more are served than there are seats.
static void nothing_is_lost_in_any_disorder(void **state UNUSED) {
    static const unsigned most[] = {CALLS_MAX, 1, 1, 2, 2, 2, CALLS_MAX, 4, 1, 2, 5, CALLS_MAX};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct run r;
        uint32_t chance = 12345;
        run_init(&r, all[i]);
        for (unsigned n = 0; n < 1000; n++) {
            chance = chance * 1664525 + 1013904223;
            arrive_with(&r, chance >> 24, 1 + (chance >> 8) % 5);
            if (chance >> 30 == 0) {
                struct call *c = &r.calls[(chance >> 4) % r.count];
                timer_clear(&c->claim.timer);
                capacity_leave(r.capacity, &c->claim, UINT64_MAX);
            }
            run_to(&r, n * 37);
        }
        run_to(&r, 1000 * 1000);
        const struct capacity_counts *counts = capacity_counts(r.capacity);
        check_int(counts->in_service, 0);
        check_int(counts->waiting, 0);
        check(r.overlap >= 1 && r.overlap <= most[i]);
        check_int(counts->in_service_most, r.overlap);
        capacity_reset(r.capacity);
        check_int(counts->in_service_most + counts->waiting_most, 0);
        run_finish(&r);
    }
}

static void nobody_is_started_after_the_close(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct run r;
        run_init(&r, all[i]);
        for (unsigned n = 0; n < 20; n++) {
            arrive_with(&r, 1000, 1);
        }
        unsigned began = r.in_service;
        capacity_close(r.capacity);
        check(arrive_with(&r, 1000, 1)->refused);
        for (unsigned n = 0; n < r.count; n++) {
            timer_clear(&r.calls[n].claim.timer);
            capacity_leave(r.capacity, &r.calls[n].claim, UINT64_MAX);
            check(r.in_service <= began);
        }
        run_finish(&r);
    }
}

static const char *const bad[] = {
    "",           "locks",       "Lock",         "unlimited:1",  "lock:",       "lock:1s",      "lock:0/1s",
    "lock:2s/1s", "lock:1/2",    "pool",         "pool:",        "pool:0",      "pool:100001",  "pool:-1",
    "pool:3:",    "pool:3:best", "workers:4",    "workers:4x",   "workers:x4",  "workers:0x1",  "workers:1000x1000",
    "cpu",        "cpu:0",       "poll",         "poll:0",       "poll:100",    "poll:25h",     "bucket",
    "bucket:5",   "bucket:5/",   "bucket:0/s",   "bucket:5/d",   "bucket:5/s:", "bucket:5/s:0", "bucket:5/s:1:1",
    "cap",        "cap:0",       "session:user", "pool:3:lifo:", "pool 3",
};

static void what_is_not_understood_is_said_with_an_example(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct capacity_options options = {.seats = 77};
        const char *wanted = capacity_parse(str_c(bad[i]), &options);
        if (!wanted) {
            fail_msg("'%s' was understood", bad[i]);
        }
        check(strlen(wanted) > 10);
        check_int(options.seats, 77); // as it was
    }
}

TESTS(TEST(unlimited_calls_do_not_wait), TEST(a_lock_makes_a_staircase), TEST(a_partial_lock_makes_a_lower_one),
      TEST(a_partial_lock_is_free_again_between), TEST(a_pool_makes_batches),
      TEST(a_pool_takes_who_comes_when_a_seat_is_free), TEST(a_lifo_pool_serves_the_last_one_first),
      TEST(a_random_pool_serves_by_lot), TEST(workers_share_nothing), TEST(cpu_is_shared_alike),
      TEST(cpu_is_shared_as_calls_come_and_go), TEST(cpu_is_exact_for_a_late_loop),
      TEST(who_leaves_gives_its_cpu_to_the_others), TEST(pollers_look_at_their_own_times),
      TEST(a_bucket_is_emptied_and_then_drips), TEST(a_bucket_s_rate_does_not_depend_on_the_calls),
      TEST(a_cap_refuses_the_others), TEST(calls_of_one_session_follow_each_other),
      TEST(who_leaves_while_waiting_frees_its_place), TEST(a_late_loop_adds_nothing_to_the_rounds),
      TEST(any_number_of_calls_may_end_as_they_begin), TEST(nothing_is_lost_in_any_disorder),
      TEST(nobody_is_started_after_the_close), TEST(what_is_not_understood_is_said_with_an_example))
