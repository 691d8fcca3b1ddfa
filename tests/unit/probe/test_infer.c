// SPDX-License-Identifier: MIT
// What evidence says, what it does not, and the causes that only look like one.
#include "probe/infer.h"

#include "check.h"
#include "sim.h"

enum { MS = 1000000 };

static struct evidence see(struct sim *s, const struct trial_plan *plans, size_t count) {
    struct evidence e = {.local = true, .cpus = 2};
    s->service_ms = s->service_ms > 0 ? s->service_ms : 200;
    s->jitter_ms = s->jitter_ms > 0 ? s->jitter_ms : 1;
    s->random = s->random ? s->random : 12345;
    for (size_t i = 0; i < count; i++) {
        sim_trial(s, &e, &plans[i]);
    }
    return e;
}

static const struct trial_plan usual[] = {
    {.kind = TRIAL_SOLO, .calls = 4},
    {.kind = TRIAL_BURST, .calls = 13},
    {.kind = TRIAL_STAGGERED, .calls = 13, .gap_ns = 7 * MS},
    {.kind = TRIAL_BURST, .calls = 13},
};

static struct verdict conclude(struct evidence *e) {
    struct verdict v;
    infer(e, 1, &v);
    sim_evidence_finish(e);
    return v;
}

static void the_same_evidence_says_the_same(void **state UNUSED) {
    struct sim sim = {.kind = SIM_WORKERS, .workers = 2, .seats = 3};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    struct verdict a;
    struct verdict b;
    infer(&e, 5, &a);
    infer(&e, 5, &b);
    check_int(a.likely.model, b.likely.model);
    check(a.odds >= b.odds && a.odds <= b.odds);
    check(a.confidence >= b.confidence && a.confidence <= b.confidence);
    sim_evidence_finish(&e);
}

static void the_runner_up_has_its_odds(void **state UNUSED) {
    struct sim sim = {.kind = SIM_POOL, .seats = 6};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_POOL);
    check_int(v.best.at_once, 6);
    check(!v.best.random_order);
    check(v.runner_up.model != PROBE_INCONCLUSIVE && !hypothesis_same(&v.best, &v.runner_up));
    check(v.odds > 148); // a difference of 10 in BIC
    check(v.confidence >= 0.95 && v.confidence <= 1);
    check_int(v.doubt, DOUBT_NONE);
    check_int(v.tried_up_to, 13);
    check(v.solo_ns > 195 * (uint64_t)MS && v.solo_ns < 205 * (uint64_t)MS);
}

static void who_comes_last_may_be_next(void **state UNUSED) {
    struct sim sim = {.kind = SIM_POOL, .seats = 3, .order = 'l'};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_POOL);
    check_int(v.best.at_once, 3);
    check(v.best.random_order);
}

// What was measured, in milliseconds: when each call of a trial left, and how long it took.
struct record {
    enum trial_kind kind;
    unsigned calls;
    struct {
        double left, took;
    } v[12];
};

static struct verdict conclude_from(const struct record *records, size_t count) {
    struct evidence e = {.local = true, .cpus = 2};
    struct sim sim = {.kind = SIM_UNLIMITED, .service_ms = 200, .random = 1};
    double at = 0;
    for (size_t i = 0; i < count; i++) {
        sim_trial(&sim, &e, &(struct trial_plan){.kind = records[i].kind, .calls = records[i].calls});
        struct trial *t = e.trials[i];
        double end = at;
        for (unsigned k = 0; k < t->plan.calls; k++) {
            t->calls[k].sent_ns = (uint64_t)((at + records[i].v[k].left) * MS);
            t->calls[k].end_ns = t->calls[k].sent_ns + (uint64_t)(records[i].v[k].took * MS);
            end = MAX(end, (double)t->calls[k].end_ns / MS);
        }
        t->from_ns = (uint64_t)(at * MS);
        t->to_ns = (uint64_t)(end * MS);
        at = end + 3;
    }
    return conclude(&e);
}

// Node.js: pbkdf2 on the four threads of libuv, which had about one core (bench/servers, November 2026).
static void seats_may_share_cores(void **state UNUSED) {
    static const struct record node[] = {
        {TRIAL_SOLO, 1, {{0, 249}}},
        {TRIAL_SOLO, 2, {{0, 249}, {250, 229}}},
        {TRIAL_BURST,
         11,
         {{0, 780},
          {0, 781},
          {0, 812},
          {0, 804},
          {0, 1758},
          {0, 1818},
          {0, 1816},
          {0, 1796},
          {0, 2360},
          {0, 2365},
          {0, 2365}}},
        {TRIAL_STAGGERED, 8, {{0, 472}, {15, 515}, {30, 573}, {44, 900}, {59, 572}, {74, 949}, {88, 934}, {103, 739}}},
        {TRIAL_BURST, 8, {{0, 447}, {0, 526}, {0, 468}, {0, 453}, {0, 878}, {0, 878}, {0, 920}, {0, 906}}},
        {TRIAL_BURST, 8, {{0, 607}, {0, 627}, {0, 626}, {0, 624}, {0, 1325}, {0, 1292}, {0, 1324}, {0, 1329}}},
        {TRIAL_BURST, 8, {{0, 768}, {0, 768}, {0, 803}, {0, 801}, {0, 1488}, {0, 1490}, {0, 1497}, {0, 1495}}},
    };
    struct verdict v = conclude_from(node, ARRAY_LEN(node));
    check_int(v.likely.model, PROBE_POOL);
    check_int(v.likely.at_once, 4);
    check_int(v.likely.cores, 1);
}

// thaw lab, /bad/global_flag, on a pool of six threads: user 7 gets the first one's thread the moment that he is done.
static void who_waits_for_a_thread_does_not_look_yet(void **state UNUSED) {
    static const struct record flag[] = {
        {TRIAL_SOLO, 1, {{0, 202}}},
        {TRIAL_SOLO, 2, {{0, 202}, {202, 202}}},
        {TRIAL_BURST,
         12,
         {{0, 2906},
          {0, 201},
          {0, 1703},
          {0, 2604},
          {0, 2005},
          {0, 2304},
          {0, 403},
          {0, 605},
          {0, 806},
          {0, 1007},
          {0, 1209},
          {0, 1410}}},
        {TRIAL_STAGGERED, 5, {{0, 202}, {18, 402}, {37, 602}, {54, 802}, {72, 1003}}},
    };
    struct verdict v = conclude_from(flag, ARRAY_LEN(flag));
    check_int(v.best.model, PROBE_POLL);
    check_int(v.best.each, 6);
    check(v.best.period_ns > 99 * (uint64_t)MS && v.best.period_ns < 101 * (uint64_t)MS);
}

// Calls that the prober was too late for had tokens all the same.
static void left_out_calls_took_tokens(void **state UNUSED) {
    static const struct trial_plan plans[] = {
        {.kind = TRIAL_SOLO, .calls = 3},
        {.kind = TRIAL_BURST, .calls = 20},
        {.kind = TRIAL_BURST, .calls = 20},
        {.kind = TRIAL_BURST, .calls = 12},
    };
    struct sim sim = {.kind = SIM_BUCKET, .seats = 14, .rate = 10};
    struct evidence e = see(&sim, plans, ARRAY_LEN(plans));
    e.trials[2]->lag_ns = 100 * MS;
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_BUCKET);
    check_int(v.best.at_once, 14);
}

static void one_token_for_each_calls_time_is_a_lock(void **state UNUSED) {
    struct sim sim = {.kind = SIM_LOCK, .share = 1};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_SERIAL);
    check(v.runner_up.model != PROBE_BUCKET || v.runner_up.at_once > 1);
}

static void numbers_of_a_mechanism_are_found(void **state UNUSED) {
    struct sim poll = {.kind = SIM_POLL, .period_ms = 130};
    struct evidence e = see(&poll, usual, ARRAY_LEN(usual));
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_POLL);
    check(v.best.period_ns > 127 * (uint64_t)MS && v.best.period_ns < 133 * (uint64_t)MS);
    struct sim bucket = {.kind = SIM_BUCKET, .rate = 12, .seats = 4};
    e = see(&bucket, usual, ARRAY_LEN(usual));
    v = conclude(&e);
    check_int(v.best.model, PROBE_BUCKET);
    check_int(v.best.at_once, 4);
    check(v.best.rate > 11.8 && v.best.rate < 12.2);
    struct sim cap = {.kind = SIM_CAP, .seats = 5, .service_ms = 200, .random = 77};
    struct procedure_options o = {0};
    sim_probe(&cap, &o, &v);
    check_int(v.best.model, PROBE_CAP);
    check_int(v.best.at_once, 5);
    check_int(v.best.refused_status, 503);
}

static void a_call_may_take_several_places(void **state UNUSED) {
    // Five threads of six for each call: one at a time, but for every sixth, who is done together with the fifth.
    struct sim sim = {.kind = SIM_POOL, .seats = 6, .takes = 5, .service_ms = 200, .jitter_ms = 1, .random = 3};
    struct procedure_options o = {0};
    struct verdict v;
    check(sim_probe(&sim, &o, &v) <= 60);
    check_int(v.best.model, PROBE_POOL);
    check_int(v.best.at_once, 1);
    check_int(v.best.places, 6);
    check_int(v.best.takes, 5);
}

static void one_core_may_work_for_all(void **state UNUSED) {
    struct sim busy = {.kind = SIM_LOOP, .share = 0.08, .service_ms = 200, .jitter_ms = 1, .random = 3};
    struct procedure_options o = {0};
    struct verdict v;
    sim_probe(&busy, &o, &v);
    check_int(v.best.model, PROBE_PARTIAL_LOCK);
    check(v.best.together > 0);
    check(v.best.share > 0.07 && v.best.share < 0.09);
    struct sim flat = {.kind = SIM_LOOP, .share = 0.005, .service_ms = 200, .jitter_ms = 1, .random = 3};
    check(sim_probe(&flat, &o, &v) <= 60);
    check_int(v.best.model, PROBE_FLAT);
}

static void a_pause_that_made_nobody_late_did_no_harm(void **state UNUSED) {
    struct sim sim = {.kind = SIM_UNLIMITED};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    for (unsigned i = 0; i < e.count; i++) {
        e.trials[i]->lag_ns = 150 * (uint64_t)MS;
    }
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_FLAT);
}

static void two_that_fit_are_both_told(void **state UNUSED) {
    // Constant services: a lock for half of each call, or one call let in every 0.1 s? Nothing here can tell.
    struct sim sim = {.kind = SIM_LOCK, .share = 0.5, .jitter_ms = 0.01};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_INCONCLUSIVE);
    check_int(v.doubt, DOUBT_TIE);
    check_int(v.likely.model, PROBE_PARTIAL_LOCK);
    check(v.likely.share > 0.45 && v.likely.share < 0.55);
    check_int(v.runner_up.model, PROBE_BUCKET);
}

static void nothing_is_said_of_nothing(void **state UNUSED) {
    struct evidence none = {0};
    struct verdict v = conclude(&none);
    check_int(v.best.model, PROBE_INCONCLUSIVE);
    check_int(v.doubt, DOUBT_BUDGET);
    struct sim sim = {.kind = SIM_UNLIMITED};
    struct evidence e = see(&sim, usual, 1);
    v = conclude(&e);
    check_int(v.best.model, PROBE_INCONCLUSIVE);
    check_int(v.doubt, DOUBT_BUDGET);
}

// ---- false causes

static void steps_of_retransmission_are_the_networks(void **state UNUSED) {
    struct sim sim = {.kind = SIM_UNLIMITED};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    for (unsigned t = 1; t < e.count; t++) {
        for (unsigned k = 9; k < 13; k++) {
            e.trials[t]->calls[k].end_ns += (uint64_t)(k == 12 ? 3000 : 1000) * MS;
        }
    }
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_INCONCLUSIVE);
    check_int(v.doubt, DOUBT_NETWORK);
}

static void calls_that_were_sent_again_do_not_count(void **state UNUSED) {
    struct sim sim = {.kind = SIM_UNLIMITED};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    e.trials[1]->calls[12].end_ns += (uint64_t)220 * MS;
    e.trials[1]->calls[12].retransmitted = true;
    struct verdict v;
    infer(&e, 1, &v);
    check_int(v.best.model, PROBE_FLAT);
    for (unsigned k = 0; k < 6; k++) {
        e.trials[1]->calls[k].retransmitted = true;
    }
    v = conclude(&e);
    check_int(v.doubt, DOUBT_NETWORK);
}

static void a_prober_that_is_late_says_so(void **state UNUSED) {
    struct sim sim = {.kind = SIM_POOL, .seats = 6};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    for (unsigned t = 1; t < e.count; t++) {
        e.trials[t]->lag_ns = (uint64_t)80 * MS;
    }
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_INCONCLUSIVE);
    check_int(v.doubt, DOUBT_PROBER);
    check_int(v.lag_ns, 80 * MS);
    sim = (struct sim){.kind = SIM_POOL, .seats = 6};
    e = see(&sim, usual, ARRAY_LEN(usual));
    e.cpu_share = 0.97;
    v = conclude(&e);
    check_int(v.doubt, DOUBT_PROBER);
}

static void answers_of_a_cache_are_not_the_apps(void **state UNUSED) {
    struct sim sim = {.kind = SIM_UNLIMITED};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    for (unsigned k = 3; k < 13; k++) {
        e.trials[1]->calls[k].end_ns = e.trials[1]->calls[k].sent_ns + 3 * MS;
    }
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_INCONCLUSIVE);
    check_int(v.doubt, DOUBT_CACHED);
}

static void calls_that_vary_alone_and_end_as_one_were_shared(void **state UNUSED) {
    struct sim sim = {.kind = SIM_UNLIMITED, .cv = 0.3};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    for (unsigned k = 0; k < 13; k++) {
        e.trials[1]->calls[k].end_ns = e.trials[1]->calls[0].sent_ns + 210 * MS + k * 10000;
    }
    struct verdict v = conclude(&e);
    check_int(v.doubt, DOUBT_CACHED);
}

static void what_gets_faster_was_cold(void **state UNUSED) {
    static const struct trial_plan plans[] = {
        {.kind = TRIAL_SOLO, .calls = 3},
        {.kind = TRIAL_BURST, .calls = 12},
        {.kind = TRIAL_BURST, .calls = 12},
        {.kind = TRIAL_BURST, .calls = 12},
    };
    struct sim sim = {.kind = SIM_POOL, .seats = 4};
    struct evidence e = see(&sim, plans, 2);
    sim.kind = SIM_UNLIMITED; // more instances have come up
    sim_trial(&sim, &e, &plans[2]);
    sim_trial(&sim, &e, &plans[3]);
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_INCONCLUSIVE);
    check_int(v.doubt, DOUBT_COLD);
}

static void failures_are_no_evidence(void **state UNUSED) {
    struct sim sim = {.kind = SIM_UNLIMITED};
    struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
    for (unsigned t = 1; t < e.count; t++) {
        for (unsigned k = 0; k < 13; k += 3) {
            e.trials[t]->calls[k].status = 0;
            e.trials[t]->calls[k].error = ERR_RESET;
        }
    }
    struct verdict v = conclude(&e);
    check_int(v.best.model, PROBE_INCONCLUSIVE);
    check_int(v.doubt, DOUBT_ERRORS);
}

// ---- what else is known

static void the_journal_makes_it_exact(void **state UNUSED) {
    for (unsigned seen = 6; seen <= 7; seen++) {
        struct sim sim = {.kind = SIM_POOL, .seats = 6};
        struct evidence e = see(&sim, usual, ARRAY_LEN(usual));
        e.journal = true;
        for (unsigned t = 0; t < e.count; t++) {
            for (unsigned k = 0; k < e.trials[t]->plan.calls; k++) {
                struct probe_call *c = &e.trials[t]->calls[k];
                uint64_t service = (uint64_t)200 * MS + (seen == 7 && k == 6 ? (uint64_t)200 * MS : 0);
                c->seen_end_ns = c->end_ns;
                c->seen_start_ns = c->end_ns - MIN(service, c->end_ns);
            }
        }
        struct verdict v = conclude(&e);
        check(v.exact == (seen == 6));
        check(seen == 7 || v.best.at_once == 6);
    }
}

static enum canary_verdict look_at(uint64_t took_ms, unsigned looks) {
    struct sim sim = {.kind = SIM_LOCK, .share = 1};
    struct evidence e = see(&sim, usual, 2);
    struct trial *t = e.trials[1];
    e.canary_alone_ns = MS;
    t->canary_count = looks;
    t->canaries = xcalloc(looks, sizeof *t->canaries);
    for (unsigned i = 0; i < looks; i++) {
        t->canaries[i] = (struct probe_canary){t->from_ns, t->from_ns + took_ms * MS, 200};
    }
    return conclude(&e).canary;
}

static void the_cheap_path_is_judged(void **state UNUSED) {
    check_int(look_at(1, 50), CANARY_FINE);
    check_int(look_at(20, 50), CANARY_SLOW);
    check_int(look_at(195, 13), CANARY_FROZEN);
    check_int(look_at(1, 0), CANARY_NONE);
}

TESTS(TEST(seats_may_share_cores), TEST(who_waits_for_a_thread_does_not_look_yet), TEST(left_out_calls_took_tokens),
      TEST(one_token_for_each_calls_time_is_a_lock), TEST(the_same_evidence_says_the_same),
      TEST(the_runner_up_has_its_odds), TEST(who_comes_last_may_be_next), TEST(numbers_of_a_mechanism_are_found),
      TEST(a_call_may_take_several_places), TEST(one_core_may_work_for_all),
      TEST(a_pause_that_made_nobody_late_did_no_harm), TEST(two_that_fit_are_both_told),
      TEST(nothing_is_said_of_nothing), TEST(steps_of_retransmission_are_the_networks),
      TEST(calls_that_were_sent_again_do_not_count), TEST(a_prober_that_is_late_says_so),
      TEST(answers_of_a_cache_are_not_the_apps), TEST(calls_that_vary_alone_and_end_as_one_were_shared),
      TEST(what_gets_faster_was_cold), TEST(failures_are_no_evidence), TEST(the_journal_makes_it_exact),
      TEST(the_cheap_path_is_judged))
