// SPDX-License-Identifier: MIT
// From the first call to the verdict, on simulated servers with a machine's noise: what is said is right, and costs what
// it may. The whole table of error rates is bench/infer's (docs/internals/probe.md).
#include "check.h"
#include "sim.h"

struct aim {
    struct sim sim;
    enum probe_model model;
    unsigned at_once;
};

static struct sim with_noise(struct sim s, unsigned run) {
    s.service_ms = s.service_ms > 0 ? s.service_ms : 200;
    s.jitter_ms = 1;
    s.outliers = 0.01;
    s.random = 7919u * (run + 1) + 3;
    return s;
}

static bool is(const struct hypothesis *h, const struct aim *aim, unsigned within) {
    return h->model == aim->model && h->at_once + within >= aim->at_once && h->at_once <= aim->at_once + within;
}

// Bare verdicts must be right in all runs, and there are at least so many.
static void probe_all(const struct aim *aims, size_t count, unsigned runs, unsigned bare_least, unsigned within,
                      const struct procedure_options *o) {
    for (size_t i = 0; i < count; i++) {
        unsigned bare = 0;
        for (unsigned run = 0; run < runs; run++) {
            struct sim sim = with_noise(aims[i].sim, run);
            struct verdict v;
            unsigned calls = sim_probe(&sim, o, &v);
            check(calls <= procedure_most_calls(o));
            if (v.best.model != PROBE_INCONCLUSIVE) {
                bare++;
                if (!is(&v.best, &aims[i], within)) {
                    fail_msg("row %zu, run %u: %s of %u", i, run, probe_model_name(v.best.model), v.best.at_once);
                }
            }
        }
        if (bare < bare_least) {
            fail_msg("row %zu: %u of %u are sure", i, bare, runs);
        }
    }
}

static void every_mechanism_is_named_with_its_number(void **state UNUSED) {
    static const struct aim aims[] = {
        {{.kind = SIM_UNLIMITED}, PROBE_FLAT, 0},
        {{.kind = SIM_UNLIMITED, .work_ms = 1}, PROBE_FLAT, 0},
        {{.kind = SIM_LOCK, .share = 1}, PROBE_SERIAL, 1},
        {{.kind = SIM_POOL, .seats = 1}, PROBE_SERIAL, 1},
        {{.kind = SIM_POOL, .seats = 2}, PROBE_POOL, 2},
        {{.kind = SIM_POOL, .seats = 6}, PROBE_POOL, 6},
        {{.kind = SIM_POOL, .seats = 6, .order = 'l'}, PROBE_POOL, 6},
        {{.kind = SIM_POOL, .seats = 6, .order = 'r'}, PROBE_POOL, 6},
        {{.kind = SIM_POOL, .seats = 40}, PROBE_POOL, 40},
        {{.kind = SIM_WORKERS, .workers = 2, .seats = 1}, PROBE_PARTITIONED, 2},
        {{.kind = SIM_WORKERS, .workers = 2, .seats = 2}, PROBE_PARTITIONED, 4},
        {{.kind = SIM_CPU, .seats = 1}, PROBE_CPU, 1},
        {{.kind = SIM_POLL, .period_ms = 100}, PROBE_POLL, 1},
        {{.kind = SIM_BUCKET, .rate = 10, .seats = 5}, PROBE_BUCKET, 5},
        {{.kind = SIM_CAP, .seats = 1}, PROBE_CAP, 1},
        {{.kind = SIM_CAP, .seats = 10}, PROBE_CAP, 10},
        {{.kind = SIM_SESSION}, PROBE_SESSION, 1},
    };
    struct procedure_options o = {.sessions = true};
    probe_all(aims, ARRAY_LEN(aims), 2, 2, 0, &o);
}

static void short_and_long_services_are_told_alike(void **state UNUSED) {
    static const struct aim aims[] = {
        {{.kind = SIM_POOL, .seats = 6, .service_ms = 50}, PROBE_POOL, 6},
        {{.kind = SIM_POOL, .seats = 3, .service_ms = 60000}, PROBE_POOL, 3},
        {{.kind = SIM_LOCK, .share = 1, .service_ms = 50}, PROBE_SERIAL, 1},
        {{.kind = SIM_UNLIMITED, .service_ms = 60000}, PROBE_FLAT, 0},
    };
    struct procedure_options o = {0};
    probe_all(aims, ARRAY_LEN(aims), 1, 1, 0, &o);
}

static void where_times_vary_it_is_right_or_silent(void **state UNUSED) {
    static const struct aim aims[] = {
        {{.kind = SIM_POOL, .seats = 2, .cv = 0.2}, PROBE_POOL, 2},
        {{.kind = SIM_POOL, .seats = 6, .cv = 0.2}, PROBE_POOL, 6},
        {{.kind = SIM_POOL, .seats = 8, .cv = 0.2}, PROBE_POOL, 8},
    };
    struct procedure_options o = {0};
    probe_all(aims, ARRAY_LEN(aims), 3, 2, 1, &o);
}

static void the_labs_patterns_take_sixty_calls(void **state UNUSED) {
    static const struct aim aims[] = {
        {{.kind = SIM_POOL, .seats = 6, .way_ms = 0.2}, PROBE_POOL, 6},
        {{.kind = SIM_POOL, .seats = 10, .way_ms = 0.2}, PROBE_POOL, 10},
        {{.kind = SIM_UNLIMITED, .way_ms = 0.2, .work_ms = 0.3}, PROBE_FLAT, 0},
        {{.kind = SIM_LOCK, .share = 1}, PROBE_SERIAL, 1},
        {{.kind = SIM_POLL, .period_ms = 100}, PROBE_POLL, 1},
    };
    struct procedure_options o = {.sessions = true, .budget = 60};
    check_int(procedure_most_calls(&o), 60);
    probe_all(aims, ARRAY_LEN(aims), 2, 2, 0, &o);
}

static void a_part_of_a_call_under_a_lock_is_told_from_a_rate_by_doubling_the_latency(void **state UNUSED) {
    static const struct aim aims[] = {
        {{.kind = SIM_LOCK, .share = 0.2}, PROBE_PARTIAL_LOCK, 1},
        {{.kind = SIM_LOCK, .share = 0.5}, PROBE_PARTIAL_LOCK, 1},
    };
    struct procedure_options o = {.slower = true};
    probe_all(aims, ARRAY_LEN(aims), 2, 2, 0, &o);
}

// What a session holds is not seen without sessions.
static void nobody_waits_is_said_of_what_was_tried(void **state UNUSED) {
    struct sim sim = with_noise((struct sim){.kind = SIM_POOL, .seats = 80}, 0);
    struct procedure_options o = {0};
    struct verdict v;
    check_int(sim_probe(&sim, &o, &v), 58);
    check_int(v.best.model, PROBE_FLAT);
    check_int(v.tried_up_to, PROCEDURE_FLAT);
    o.max_users = 100;
    sim = with_noise((struct sim){.kind = SIM_POOL, .seats = 80}, 0);
    sim_probe(&sim, &o, &v);
    check_int(v.best.model, PROBE_POOL);
    check_int(v.best.at_once, 80);
}

static void two_thousand_at_once_are_affordable(void **state UNUSED) {
    struct sim sim = with_noise((struct sim){.kind = SIM_UNLIMITED}, 1);
    struct procedure_options o = {.max_users = 2000};
    struct verdict v;
    unsigned calls = sim_probe(&sim, &o, &v);
    check_int(v.best.model, PROBE_FLAT);
    check_int(v.tried_up_to, 2000);
    check(calls < 2600);
}

static void the_budget_is_never_exceeded_and_its_end_is_told(void **state UNUSED) {
    for (unsigned budget = 1; budget < 40; budget += 6) {
        struct sim sim = with_noise((struct sim){.kind = SIM_POOL, .seats = 6}, budget);
        struct procedure_options o = {.budget = budget};
        struct verdict v;
        check_int(procedure_most_calls(&o), budget);
        check(sim_probe(&sim, &o, &v) <= budget);
        check(v.best.model != PROBE_INCONCLUSIVE || v.doubt == DOUBT_BUDGET);
    }
}

static void one_burst_when_users_are_given(void **state UNUSED) {
    struct sim sim = with_noise((struct sim){.kind = SIM_POOL, .seats = 6}, 0);
    struct procedure_options o = {.users = 8, .solo = 2};
    struct verdict v;
    check_int(procedure_most_calls(&o), 10);
    check_int(sim_probe(&sim, &o, &v), 10);
    check_int(v.likely.model, PROBE_POOL);
    check_int(v.likely.at_once, 6);
    o.gap_ns = 2000000;
    sim = with_noise((struct sim){.kind = SIM_LOCK, .share = 1}, 0);
    check_int(sim_probe(&sim, &o, &v), 10);
    check_int(v.likely.model, PROBE_SERIAL);
}

static void the_seat_that_is_held_meanwhile_is_told(void **state UNUSED) {
    struct sim sim = with_noise((struct sim){.kind = SIM_POOL, .seats = 4}, 0);
    struct procedure_options o = {.slower = true};
    struct verdict v;
    sim_probe(&sim, &o, &v);
    check_int(v.best.at_once, 4);
    check(v.holds_known && v.holds_upstream);
}

static void it_is_verified_with_calls_at_random(void **state UNUSED) {
    struct sim sim = with_noise((struct sim){.kind = SIM_POOL, .seats = 2}, 0);
    struct procedure_options o = {.verify = true};
    struct evidence e = {0};
    struct verdict v;
    struct trial_plan plan;
    double rates[2] = {0};
    unsigned open = 0;
    while (procedure_next(&e, &o, &v, &plan)) {
        if (plan.kind == TRIAL_OPEN && open < 2) {
            rates[open++] = plan.rate;
        }
        sim_trial(&sim, &e, &plan);
    }
    check_int(open, 2);
    check(rates[0] > 7.5 && rates[0] < 8.5); // 0.8 of 2 / 0.2 s
    check(rates[1] > 11 && rates[1] < 13);
    check_int(v.best.model, PROBE_POOL);
    check_int(v.best.at_once, 2);
    sim_evidence_finish(&e);
}

// Streams of one connection, beside connections: tried once, and no part of what is said of the app.
static const struct {
    struct sim sim;
    unsigned calls; // as streams; 0: not tried
    enum one_connection found;
    enum probe_model model;
    unsigned at_once;
} on_one[] = {
    {{.kind = SIM_UNLIMITED}, 0, ONE_CONNECTION_UNTRIED, PROBE_FLAT, 0},
    {{.kind = SIM_UNLIMITED, .http = 2}, 12, ONE_CONNECTION_SAME, PROBE_FLAT, 0},
    {{.kind = SIM_UNLIMITED, .http = 2, .streams = 5}, 5, ONE_CONNECTION_SAME, PROBE_FLAT, 0},
    {{.kind = SIM_UNLIMITED, .http = 2, .streams = 1}, 0, ONE_CONNECTION_UNTRIED, PROBE_FLAT, 0},
    {{.kind = SIM_UNLIMITED, .http = 2, .streams_wait = true}, 12, ONE_CONNECTION_SLOWER, PROBE_FLAT, 0},
    {{.kind = SIM_POOL, .seats = 6, .http = 2}, 12, ONE_CONNECTION_SAME, PROBE_POOL, 6},
    {{.kind = SIM_POOL, .seats = 6, .http = 2, .streams_wait = true}, 12, ONE_CONNECTION_SLOWER, PROBE_POOL, 6},
    {{.kind = SIM_LOCK, .share = 1, .http = 2}, 12, ONE_CONNECTION_SAME, PROBE_SERIAL, 1},
    {{.kind = SIM_WORKERS, .workers = 2, .seats = 2, .http = 2}, 12, ONE_CONNECTION_SAME, PROBE_PARTITIONED, 4},
    {{.kind = SIM_CAP, .seats = 10, .http = 2}, 12, ONE_CONNECTION_SAME, PROBE_CAP, 10},
    {{.kind = SIM_BUCKET, .rate = 10, .seats = 5, .http = 2}, 0, ONE_CONNECTION_UNTRIED, PROBE_BUCKET, 5},
};

static void one_connection_is_compared_with_many(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(on_one); i++) {
        struct sim sim = with_noise(on_one[i].sim, (unsigned)i);
        struct procedure_options o = {0};
        struct evidence e = {0};
        struct verdict v;
        struct trial_plan plan;
        unsigned tried = 0;
        while (procedure_next(&e, &o, &v, &plan)) {
            if (plan.kind == TRIAL_STREAMS) {
                check_int(tried, 0);
                tried = plan.calls;
            }
            sim_trial(&sim, &e, &plan);
        }
        check_int(tried, on_one[i].calls);
        check_int(v.one_connection, on_one[i].found);
        check_int(v.one_connection_calls, on_one[i].calls);
        check_int(v.best.model, on_one[i].model);
        check(v.best.model == PROBE_FLAT || v.best.at_once == on_one[i].at_once);
        sim_evidence_finish(&e);
    }
}

static void streams_that_are_turned_away_are_no_cap(void **state UNUSED) {
    struct sim sim = with_noise((struct sim){.kind = SIM_UNLIMITED, .http = 2, .turns_away = 5}, 0);
    struct procedure_options o = {0};
    struct verdict v;
    check(sim_probe(&sim, &o, &v) < 150);
    check_int(v.best.model, PROBE_INCONCLUSIVE);
    check_int(v.doubt, DOUBT_STREAMS);
}

TESTS(TEST(every_mechanism_is_named_with_its_number), TEST(short_and_long_services_are_told_alike),
      TEST(where_times_vary_it_is_right_or_silent), TEST(the_labs_patterns_take_sixty_calls),
      TEST(a_part_of_a_call_under_a_lock_is_told_from_a_rate_by_doubling_the_latency),
      TEST(nobody_waits_is_said_of_what_was_tried), TEST(two_thousand_at_once_are_affordable),
      TEST(the_budget_is_never_exceeded_and_its_end_is_told), TEST(one_burst_when_users_are_given),
      TEST(the_seat_that_is_held_meanwhile_is_told), TEST(it_is_verified_with_calls_at_random),
      TEST(one_connection_is_compared_with_many), TEST(streams_that_are_turned_away_are_no_cap))
