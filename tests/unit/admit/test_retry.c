// SPDX-License-Identifier: MIT
#include "admit/retry.h"

#include "check.h"

static const uint64_t NOW = 784111777; // Sun, 06 Nov 1994 08:49:37 GMT: the example of RFC 9110 section 5.6.7

static void statuses_after_which_to_ask_again(void **state) {
    (void)state;
    static const int again[] = {408, 409, 429, 500, 502, 503, 504, 507, 529, 599};
    static const int never[] = {200, 304, 400, 401, 403, 404, 413, 422, 501, 505, 600, 0};
    for (unsigned i = 0; i < ARRAY_LEN(again); i++) {
        check(retry_is_for(again[i]));
    }
    for (unsigned i = 0; i < ARRAY_LEN(never); i++) {
        check(!retry_is_for(never[i]));
    }
}

static void a_tenth_of_the_calls_may_be_second_tries(void **state) {
    (void)state;
    struct retry_budget b;
    retry_budget_init(&b);
    unsigned tries = 0;
    for (unsigned i = 0; i < 10000; i++) { // everything fails, everybody wants to
        retry_budget_call(&b);
        tries += retry_budget_take(&b);
    }
    check_int(tries, 10000 / 10 + RETRY_CREDIT_FIRST / 10);
    for (unsigned i = 0; i < 10000; i++) { // a good time
        retry_budget_call(&b);
    }
    for (tries = 0; retry_budget_take(&b); tries++) {
    }
    check_int(tries, RETRY_CREDIT_MOST / 10);
}

static void waits_double_and_are_drawn_by_lot(void **state) {
    (void)state;
    static const struct {
        unsigned n;
        uint64_t most;
    } rows[] = {{0, 500},  {1, 500},  {2, 1000},  {3, 2000},         {4, 4000},
                {5, 8000}, {6, 8000}, {40, 8000}, {UINT32_MAX, 8000}};
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        check_int(retry_backoff_ms(rows[i].n, 0), 0);
        check_int(retry_backoff_ms(rows[i].n, UINT32_MAX), rows[i].most);
        check_int(retry_backoff_ms(rows[i].n, 1u << 31), rows[i].most / 2);
    }
}

struct ask {
    const char *ms, *after; // NULL: no such field
    bool understood;
    uint64_t wait_ms;
};

static void check_ask(const struct ask *ask) {
    struct field room[2];
    struct fields fields = FIELDS(room);
    uint64_t wait_ms = 12345;
    if (ask->ms) {
        check_ok(fields_add(&fields, STR("Retry-After-Ms"), str_c(ask->ms)));
    }
    if (ask->after) {
        check_ok(fields_add(&fields, STR("Retry-After"), str_c(ask->after)));
    }
    bool understood = retry_after(&fields, NOW, &wait_ms);
    if (understood != ask->understood || (understood && wait_ms != ask->wait_ms)) {
        fail_msg("%s, %s: got %d, %llu", ask->ms ? ask->ms : "-", ask->after ? ask->after : "-", understood,
                 (unsigned long long)wait_ms);
    }
}

static void what_the_upstream_asks_for(void **state) {
    (void)state;
    static const struct ask rows[] = {
        {NULL, NULL, false, 0},
        {NULL, "5", true, 5000},
        {NULL, "0", true, 0},
        {NULL, " 120 ", true, 120000},
        {NULL, "0.5", true, 500},
        {NULL, "1.2345", true, 1234},
        {NULL, "7.04", true, 7040},
        {"250", NULL, true, 250},
        {"250.9", NULL, true, 250},
        {"250", "9", true, 250}, // the finer one first
        {"nonsense", "9", true, 9000},
        {"", "9", true, 9000},
        {"-1", NULL, false, 0},
        {NULL, "-1", false, 0},
        {NULL, "", false, 0},
        {NULL, ".5", false, 0},
        {NULL, "5.", false, 0},
        {NULL, "5s", false, 0},
        {NULL, "1e3", false, 0},
        {NULL, "1.-5", false, 0},
        {NULL, "99999999999999999999999", false, 0},
        {NULL, "18446744073709551615", true, 1000000000}, // as good as never
        {"18446744073709551615", NULL, true, 1000000000},
        {NULL, "Sun, 06 Nov 1994 08:50:37 GMT", true, 60000},
        {NULL, "Sunday, 06-Nov-94 08:50:37 GMT", true, 60000},
        {NULL, "Sun Nov  6 08:50:37 1994", true, 60000},
        {NULL, "Wed Nov 16 08:49:37 1994", true, 10 * 86400 * 1000ull},
        {NULL, "Sun, 06 Nov 1994 08:49:37 GMT", true, 0},
        {NULL, "Thu, 01 Jan 1970 00:00:00 GMT", true, 0}, // long ago
        {NULL, "Mon, 06 Nov 1995 08:49:37 GMT", true, 365 * 86400 * 1000ull},
        {NULL, "Thu, 29 Feb 1996 08:49:37 GMT", true, 480 * 86400 * 1000ull},
        {NULL, "Tuesday, 06-Nov-01 08:49:37 GMT", true, 2557 * 86400 * 1000ull}, // 2001
        {NULL, "Friday, 06-Nov-93 08:49:37 GMT", true, 0},
        {NULL, "Friday, 06-Nov-60 08:49:37 GMT", true, 0}, // 1960
        {NULL, "Sun, 06 Nov 1994 08:49:37", false, 0},
        {NULL, "Sun, 06 Nov 1994 08:49:37 GMT+1", false, 0},
        {NULL, "Sun, 06 Nov 1994 24:49:37 GMT", false, 0},
        {NULL, "Sun, 06 Nov 1994 08:60:37 GMT", false, 0},
        {NULL, "Sun, 32 Nov 1994 08:49:37 GMT", false, 0},
        {NULL, "Sun, 00 Nov 1994 08:49:37 GMT", false, 0},
        {NULL, "Sun, 06 Foo 1994 08:49:37 GMT", false, 0},
        {NULL, ", 06 Nov 1994 08:49:37 GMT", false, 0},
        {NULL, "Sun", false, 0},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        check_ask(&rows[i]);
    }
}

TESTS(TEST(statuses_after_which_to_ask_again), TEST(a_tenth_of_the_calls_may_be_second_tries),
      TEST(waits_double_and_are_drawn_by_lot), TEST(what_the_upstream_asks_for))
