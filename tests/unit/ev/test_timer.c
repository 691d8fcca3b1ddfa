// SPDX-License-Identifier: MIT
// The wheel against the plainest of models: an array of due times.
#include "ev/timer.h"

#include "check.h"

enum { TIMERS = 300, HOUR = 3600 * 1000 };
static const uint64_t REVOLUTION = 1ull << (WHEEL_LEVELS * WHEEL_BITS); // 4.6 hours

struct model;
struct probe {
    struct timer timer;
    struct model *model;
    uint64_t wanted_ms; // when it is to fire; 0: not set
    unsigned fired;
};

struct model {
    struct wheel wheel;
    struct probe probes[TIMERS];
    uint64_t target_ms; // of the running advance
    uint64_t last_ms;   // when the last one fired
    unsigned fired;
    void (*in_callback)(struct probe *probe);
};

static void probe_set(struct probe *p, uint64_t due_ms) {
    struct model *m = p->model;
    uint64_t next_turn = MAX(m->target_ms, m->wheel.now_ms) + 1;
    p->wanted_ms = due_ms > m->wheel.now_ms ? due_ms : next_turn;
    wheel_set(&m->wheel, &p->timer, due_ms);
    check(timer_is_set(&p->timer));
}

static void probe_clear(struct probe *p) {
    p->wanted_ms = 0;
    wheel_clear(&p->timer);
    check(!timer_is_set(&p->timer));
}

static void on_timer(struct timer *t) {
    struct probe *p = container_of(t, struct probe, timer);
    struct model *m = p->model;
    check(!timer_is_set(t));
    check_int(m->wheel.now_ms, p->wanted_ms); // to the millisecond
    check(m->wheel.now_ms >= m->last_ms && m->wheel.now_ms <= m->target_ms);
    m->last_ms = m->wheel.now_ms;
    p->wanted_ms = 0;
    p->fired++;
    m->fired++;
    if (m->in_callback) {
        m->in_callback(p);
    }
}

static struct model *model_create(uint64_t now_ms) {
    struct model *m = xcalloc(1, sizeof *m);
    wheel_init(&m->wheel, now_ms);
    m->target_ms = now_ms;
    for (size_t i = 0; i < TIMERS; i++) {
        m->probes[i].model = m;
        m->probes[i].timer.on_timer = on_timer;
    }
    return m;
}

static uint64_t earliest(const struct model *m) {
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < TIMERS; i++) {
        if (m->probes[i].wanted_ms) {
            first = MIN(first, m->probes[i].wanted_ms);
        }
    }
    return first;
}

static void model_advance(struct model *m, uint64_t now_ms) {
    m->target_ms = now_ms;
    wheel_advance(&m->wheel, now_ms);
    check_int(m->wheel.now_ms, now_ms);
    uint64_t first = earliest(m);
    uint64_t next = wheel_next_ms(&m->wheel);
    check(first > now_ms); // nothing that was due is left
    check(next > now_ms);
    check(next <= first);
    check((next == UINT64_MAX) == (first == UINT64_MAX));
}

static uint64_t random_below(uint64_t n) { return (((uint64_t)rand() << 31) ^ (uint64_t)rand()) % n; }

// Delays and steps of every size, short ones most often.
static uint64_t random_span(void) {
    static const uint64_t spans[] = {1, 3, 64, 65, 130, 4096, 4200, 262144, 300000, 2 * HOUR, 20 * HOUR};
    return random_below(spans[random_below(ARRAY_LEN(spans))]);
}

static void set_or_clear_any(struct model *m) {
    struct probe *p = &m->probes[random_below(TIMERS)];
    if (random_below(4) == 0) {
        probe_clear(p);
    } else if (random_below(20) == 0) {
        probe_set(p, m->wheel.now_ms - MIN(m->wheel.now_ms, random_span())); // in the past
    } else {
        probe_set(p, m->wheel.now_ms + random_span());
    }
}

static void set_or_clear_others(struct probe *p) {
    for (uint64_t n = random_below(3); n > 0; n--) {
        set_or_clear_any(p->model);
    }
}

static void random_run(unsigned seed, uint64_t start_ms, void (*in_callback)(struct probe *probe)) {
    srand(seed);
    struct model *m = model_create(start_ms);
    m->in_callback = in_callback;
    uint64_t now = start_ms;
    for (int round = 0; round < 3000; round++) {
        for (uint64_t n = random_below(8); n > 0; n--) {
            set_or_clear_any(m);
        }
        now += random_span();
        model_advance(m, now);
    }
    check(m->fired > 1000);
    free(m);
}

static void random_use_fires_like_a_sorted_list(void **state UNUSED) {
    static const uint64_t starts[] = {0, 1, 63, 64, 1000, 4095, 262143, 262144, 16777215, 1ull << 40};
    for (unsigned i = 0; i < 2 * ARRAY_LEN(starts); i++) {
        random_run(i, starts[i / 2], NULL);
    }
}

static void callbacks_may_set_and_clear_any(void **state UNUSED) {
    for (unsigned seed = 100; seed < 110; seed++) {
        random_run(seed, seed * 777, set_or_clear_others);
    }
}

// Every delay around the edges of the levels, from every kind of start, in single steps and in one jump.
static void level_edges_are_exact(void **state UNUSED) {
    static const uint64_t edges[] = {1, 64, 128, 4096, 8192, 262144, 524288, 16777216, 33554432};
    static const uint64_t starts[] = {0, 1, 63, 64, 65, 4095, 4096, 262143, 16777215, 16777216 * 3 - 1};
    for (size_t s = 0; s < ARRAY_LEN(starts); s++) {
        struct model *m = model_create(starts[s]);
        for (size_t e = 0; e < ARRAY_LEN(edges); e++) {
            for (uint64_t off = 0; off < 5; off++) {
                uint64_t delay = edges[e] + off > 2 ? edges[e] + off - 2 : 1;
                struct probe *p = &m->probes[e * 5 + off];
                p->fired = 0;
                probe_set(p, starts[s] + delay);
            }
        }
        if (s % 2) {
            model_advance(m, starts[s] + 3 * REVOLUTION);
        }
        while (earliest(m) != UINT64_MAX) {
            uint64_t next = wheel_next_ms(&m->wheel);
            model_advance(m, next - (next > m->wheel.now_ms + 1)); // one before, then at it
        }
        check_int(m->fired, ARRAY_LEN(edges) * 5);
        free(m);
    }
}

static void stepping_by_one_millisecond_is_the_same(void **state UNUSED) {
    struct model *m = model_create(5);
    srand(7);
    for (size_t i = 0; i < TIMERS; i++) {
        probe_set(&m->probes[i], 5 + random_below(10000));
    }
    for (uint64_t now = 6; now <= 10010; now++) {
        model_advance(m, now);
    }
    check_int(m->fired, TIMERS);
    free(m);
}

static void hours_pass_in_one_jump(void **state UNUSED) {
    struct model *m = model_create(1000);
    probe_set(&m->probes[0], 1000 + 9 * HOUR); // twice round the wheel
    probe_set(&m->probes[1], 1000 + 5 * HOUR);
    probe_set(&m->probes[2], 1000 + 1);
    probe_set(&m->probes[3], UINT64_MAX - 1);
    model_advance(m, 1000 + 9 * HOUR - 1);
    check_int(m->fired, 2);
    model_advance(m, 1000 + 9 * HOUR);
    check_int(m->fired, 3);
    model_advance(m, 1000 + 1000ull * 24 * HOUR);
    check(timer_is_set(&m->probes[3].timer));
    probe_clear(&m->probes[3]);
    check(wheel_next_ms(&m->wheel) == UINT64_MAX);
    free(m);
}

static void a_cleared_timer_leaves_nothing_to_wake_for(void **state UNUSED) {
    struct model *m = model_create(12345);
    check(wheel_next_ms(&m->wheel) == UINT64_MAX);
    for (size_t i = 0; i < TIMERS; i++) {
        probe_set(&m->probes[i], 12345 + i * i * i);
    }
    for (size_t i = 0; i < TIMERS; i++) {
        probe_clear(&m->probes[i]);
        probe_clear(&m->probes[i]); // idempotent
    }
    check(wheel_next_ms(&m->wheel) == UINT64_MAX);
    model_advance(m, 12345 + 100 * HOUR);
    check_int(m->fired, 0);
    free(m);
}

static void moving_a_timer_fires_it_once(void **state UNUSED) {
    struct model *m = model_create(0);
    struct probe *p = &m->probes[0];
    probe_set(p, 100);
    probe_set(p, 50000);
    probe_set(p, 200);
    model_advance(m, 100000);
    check_int(p->fired, 1);
    check_int(m->last_ms, 200);
    free(m);
}

static void again_in_the_past(struct probe *p) { probe_set(p, 0); }

static void setting_itself_in_the_past_waits_for_the_next_turn(void **state UNUSED) {
    struct model *m = model_create(1000);
    m->in_callback = again_in_the_past;
    probe_set(&m->probes[0], 0);
    for (unsigned turn = 1; turn <= 5; turn++) {
        model_advance(m, 1000 + turn * 500);
        check_int(m->probes[0].fired, turn);
    }
    free(m);
}

static void again_in_ten(struct probe *p) { probe_set(p, p->model->wheel.now_ms + 10); }

static void what_is_set_while_catching_up_fires_on_the_way(void **state UNUSED) {
    struct model *m = model_create(0);
    m->in_callback = again_in_ten;
    probe_set(&m->probes[0], 10);
    model_advance(m, 1005);
    check_int(m->probes[0].fired, 100);
    free(m);
}

static void clear_the_next(struct probe *p) {
    if (p < &p->model->probes[TIMERS - 1]) {
        probe_clear(p + 1);
    }
}

static void one_of_the_same_millisecond_may_clear_another(void **state UNUSED) {
    for (uint64_t delay = 1; delay < 100000; delay *= 7) { // in a slot of every level
        struct model *m = model_create(64);
        m->in_callback = clear_the_next;
        for (size_t i = 0; i < TIMERS; i++) {
            probe_set(&m->probes[i], 64 + delay);
        }
        model_advance(m, 64 + delay);
        check_int(m->fired, TIMERS / 2);
        free(m);
    }
}

static void going_back_does_nothing(void **state UNUSED) {
    struct model *m = model_create(1000);
    probe_set(&m->probes[0], 1001);
    wheel_advance(&m->wheel, 500);
    wheel_advance(&m->wheel, 1000);
    check_int(m->wheel.now_ms, 1000);
    check_int(m->fired, 0);
    model_advance(m, 1001);
    check_int(m->fired, 1);
    free(m);
}

TESTS(TEST(random_use_fires_like_a_sorted_list), TEST(callbacks_may_set_and_clear_any), TEST(level_edges_are_exact),
      TEST(stepping_by_one_millisecond_is_the_same), TEST(hours_pass_in_one_jump),
      TEST(a_cleared_timer_leaves_nothing_to_wake_for), TEST(moving_a_timer_fires_it_once),
      TEST(setting_itself_in_the_past_waits_for_the_next_turn), TEST(what_is_set_while_catching_up_fires_on_the_way),
      TEST(one_of_the_same_millisecond_may_clear_another), TEST(going_back_does_nothing))
