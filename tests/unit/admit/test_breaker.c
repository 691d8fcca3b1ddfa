// SPDX-License-Identifier: MIT
#include "admit/breaker.h"

#include "check.h"

enum { MOST = 5, REST = 10000 };

static void fail_often(struct breaker *b, unsigned n, uint64_t now_ms) {
    for (unsigned i = 0; i < n; i++) {
        breaker_failed(b, MOST, REST, now_ms);
    }
}

static bool admits(struct breaker *b, uint64_t now_ms, bool wanted_trial) {
    bool trial;
    bool admitted = breaker_admits(b, MOST, now_ms, &trial);
    check_int(trial, wanted_trial);
    return admitted;
}

static void rests_after_so_many_failures_in_a_row(void **state) {
    (void)state;
    struct breaker b = {0};
    fail_often(&b, MOST - 1, 100);
    check_int(breaker_state(&b, 100), BREAKER_CLOSED);
    check(admits(&b, 100, false));
    breaker_worked(&b); // the row begins anew
    fail_often(&b, MOST - 1, 100);
    check(admits(&b, 100, false));
    breaker_failed(&b, MOST, REST, 200);
    check_int(breaker_state(&b, 200), BREAKER_OPEN);
    check(!admits(&b, 200, false));
    check_int(breaker_rests_ms(&b, 200), REST);
    check_int(breaker_rests_ms(&b, 200 + REST - 1), 1);
    check(!admits(&b, 200 + REST - 1, false));
}

static void one_call_tries_it(void **state) {
    (void)state;
    struct breaker b = {0};
    fail_often(&b, MOST, 0);
    check_int(breaker_state(&b, REST), BREAKER_HALF_OPEN);
    check_int(breaker_rests_ms(&b, REST), 0);
    check(admits(&b, REST, true));
    check(!admits(&b, REST, false));
    breaker_worked(&b);
    check_int(breaker_state(&b, REST), BREAKER_CLOSED);
    check(admits(&b, REST, false));
    fail_often(&b, MOST - 1, REST); // nothing of before counts
    check(admits(&b, REST, false));
}

static void a_trial_that_fails_is_another_rest(void **state) {
    (void)state;
    struct breaker b = {0};
    fail_often(&b, MOST, 0);
    check(admits(&b, REST, true));
    breaker_failed(&b, MOST, REST, REST + 50);
    check_int(breaker_rests_ms(&b, REST + 50), REST);
    check(!admits(&b, 2 * REST + 49, false));
    check(admits(&b, 2 * REST + 50, true));
}

static void a_trial_whose_client_left_is_for_the_next_one(void **state) {
    (void)state;
    struct breaker b = {0};
    fail_often(&b, MOST, 0);
    check(admits(&b, REST, true));
    breaker_forget(&b);
    check_int(breaker_state(&b, REST), BREAKER_HALF_OPEN);
    check(admits(&b, REST, true));
}

static void what_was_sent_before_it_opened_changes_nothing(void **state) {
    (void)state;
    struct breaker b = {0};
    fail_often(&b, MOST, 0);
    breaker_failed(&b, MOST, REST, REST / 2);
    check_int(breaker_rests_ms(&b, REST / 2), REST / 2); // no longer than it was to be
    breaker_worked(&b);
    check_int(breaker_state(&b, REST / 2), BREAKER_OPEN);
    breaker_failed(&b, MOST, REST, REST);
    breaker_worked(&b);
    check_int(breaker_state(&b, REST), BREAKER_HALF_OPEN);
    check(admits(&b, REST, true));
}

static void without_a_number_it_never_rests(void **state) {
    (void)state;
    struct breaker b = {0};
    bool trial;
    for (unsigned i = 0; i < 1000; i++) {
        breaker_failed(&b, 0, REST, 0);
    }
    check_int(breaker_state(&b, 0), BREAKER_CLOSED);
    check(breaker_admits(&b, 0, 0, &trial) && !trial);
    fail_often(&b, 1, 0); // a reload: the row was long enough
    check_int(breaker_state(&b, 0), BREAKER_OPEN);
    check(breaker_admits(&b, 0, 0, &trial) && !trial); // and back
}

TESTS(TEST(rests_after_so_many_failures_in_a_row), TEST(one_call_tries_it), TEST(a_trial_that_fails_is_another_rest),
      TEST(a_trial_whose_client_left_is_for_the_next_one), TEST(what_was_sent_before_it_opened_changes_nothing),
      TEST(without_a_number_it_never_rests))
