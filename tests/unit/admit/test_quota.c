// SPDX-License-Identifier: MIT
#include "admit/quota.h"

#include "check.h"

enum { MINUTE = 60000 };

struct desk {
    struct quotas *quotas;
    struct quota_rates rates;
    struct quota_look look;
};

static void desk_open(struct desk *d, struct quota_rates rates) {
    *d = (struct desk){.quotas = quotas_create(), .rates = rates};
}

static enum quota_answer take(struct desk *d, uint64_t client, uint64_t tokens, uint64_t now_ms, struct lease *lease) {
    return quota_take(d->quotas, client, &d->rates, tokens, now_ms, lease, &d->look);
}

// Takes and gives back at once; what was taken of the rates stays taken.
static enum quota_answer spend(struct desk *d, uint64_t client, uint64_t tokens, uint64_t now_ms) {
    struct lease lease;
    enum quota_answer answer = take(d, client, tokens, now_ms, &lease);
    quota_settle(&lease, UINT64_MAX, now_ms);
    return answer;
}

static void a_minutes_worth_at_once_then_as_it_flows_in(void **state) {
    (void)state;
    struct desk d;
    desk_open(&d, (struct quota_rates){.requests_per_minute = 7});
    for (unsigned i = 0; i < 7; i++) {
        check_int(spend(&d, 1, 0, 500), QUOTA_FINE);
        check_int(d.look.limit_requests, 7);
        check_int(d.look.remaining_requests, 6 - i);
    }
    check_int(spend(&d, 1, 0, 500), QUOTA_REQUESTS);
    check_int(d.look.remaining_requests, 0);
    check_int(d.look.retry_ms, 8572); // 60 s / 7
    check_int(d.look.reset_requests_ms, MINUTE);
    check_int(d.look.limit_tokens, 0);
    check_int(d.look.reset_tokens_ms, 0);
    check_int(spend(&d, 2, 0, 500), QUOTA_FINE); // another one's own
    check_int(spend(&d, 1, 0, 500 + 8571), QUOTA_REQUESTS);
    check_int(spend(&d, 1, 0, 500 + 8572), QUOTA_FINE);
    check_int(spend(&d, 1, 0, 500 + 8572), QUOTA_REQUESTS);
    unsigned fine = 0;
    for (uint64_t ms = 500 + 8572; ms < 10 * MINUTE; ms += 10) {
        fine += spend(&d, 1, 0, ms) == QUOTA_FINE;
    }
    check_int(fine, 68); // 591 s, one every 8.57
    quotas_destroy(d.quotas);
}

static void all_or_nothing(void **state) {
    (void)state;
    struct desk d;
    struct lease a, b;
    desk_open(&d, (struct quota_rates){.requests_per_minute = 10, .tokens_per_minute = 1000, .in_flight = 2});
    check_int(take(&d, 1, 600, 0, &a), QUOTA_FINE);
    for (unsigned i = 0; i < 100; i++) { // refused for its tokens: no request of it counts, no place is held
        check_int(take(&d, 1, 600, 0, &b), QUOTA_TOKENS);
        check(!b.quotas);
        check_int(d.look.remaining_requests, 9);
        check_int(d.look.remaining_tokens, 400);
        check_int(d.look.retry_ms, 12000); // 200 of 1,000 a minute
    }
    check_int(take(&d, 1, 100, 0, &b), QUOTA_FINE);
    struct lease c;
    for (unsigned i = 0; i < 100; i++) { // refused for its place: neither request nor tokens
        check_int(take(&d, 1, 100, 0, &c), QUOTA_IN_FLIGHT);
        check_int(d.look.remaining_requests, 8);
        check_int(d.look.remaining_tokens, 300);
        check(d.look.retry_ms);
    }
    quota_refund(&b, 0);
    check(!b.quotas);
    quota_refund(&b, 0); // holds nothing
    check_int(take(&d, 1, 100, 0, &b), QUOTA_FINE);
    check_int(d.look.remaining_requests, 8);
    check_int(d.look.remaining_tokens, 300);
    quota_settle(&a, UINT64_MAX, 0);
    quota_settle(&b, UINT64_MAX, 0);
    quotas_destroy(d.quotas);
}

static void tokens_are_settled_when_they_are_known(void **state) {
    (void)state;
    static const struct {
        uint64_t estimated, taken, remaining;
    } rows[] = {
        {600, 100, 900}, {600, 600, 400}, {600, UINT64_MAX, 400}, {100, 600, 400},
        {0, 1000, 0},    {100, 5000, 0},  {500, 0, 1000},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        struct desk d;
        struct lease lease, next;
        desk_open(&d, (struct quota_rates){.tokens_per_minute = 1000});
        check_int(take(&d, 1, rows[i].estimated, 0, &lease), QUOTA_FINE);
        quota_settle(&lease, rows[i].taken, 0);
        enum quota_answer answer = take(&d, 1, 0, 0, &next);
        check_int(answer, rows[i].taken == 5000 ? QUOTA_TOKENS : QUOTA_FINE);
        check_int(d.look.remaining_tokens, rows[i].remaining);
        if (rows[i].taken == 5000) {
            check_int(d.look.retry_ms, 4 * MINUTE); // what it took beyond its bucket
        }
        quota_settle(&next, UINT64_MAX, 0);
        quotas_destroy(d.quotas);
    }
}

static void what_an_upstream_says_is_believed_up_to_an_hour(void **state) {
    (void)state;
    struct desk d;
    struct lease a, b;
    desk_open(&d, (struct quota_rates){.tokens_per_minute = 1000});
    check_int(take(&d, 1, 1, 0, &a), QUOTA_FINE);
    check_int(take(&d, 1, 1, 0, &b), QUOTA_FINE);
    quota_settle(&a, UINT64_MAX - 1, 0);
    quota_settle(&b, UINT64_MAX - 1, 0);
    check_int(spend(&d, 1, 1, 0), QUOTA_TOKENS);
    check_int(d.look.retry_ms, 59 * MINUTE + 60);
    check_int(spend(&d, 1, 1, 59 * MINUTE + 60), QUOTA_FINE);
    quotas_destroy(d.quotas);
}

static void a_call_larger_than_a_minute_goes_when_the_bucket_is_full(void **state) {
    (void)state;
    struct desk d;
    desk_open(&d, (struct quota_rates){.tokens_per_minute = 1000});
    check_int(spend(&d, 1, 2500, 0), QUOTA_FINE);
    check_int(spend(&d, 1, 2500, 0), QUOTA_TOKENS);
    check_int(d.look.retry_ms, 150000);
    check_int(spend(&d, 1, 1, 149000), QUOTA_FINE);
    check_int(spend(&d, 1, 2500, 150000), QUOTA_TOKENS); // not quite full
    check_int(d.look.retry_ms, 60);
    check_int(spend(&d, 1, 2500, 150060), QUOTA_FINE);
    quotas_destroy(d.quotas);
}

static void the_largest_rates_lose_nothing_to_rounding(void **state) {
    (void)state;
    struct desk d;
    desk_open(&d, (struct quota_rates){.requests_per_minute = 1000 * 1000, .tokens_per_minute = 1000 * 1000 * 1000});
    unsigned fine = 0;
    for (unsigned i = 0; i < 1000 * 1000 + 1000; i++) {
        fine += spend(&d, 1, 1000, 0) == QUOTA_FINE;
    }
    check_int(fine, 1000 * 1000);
    quotas_destroy(d.quotas);
}

static void strangers_are_forgotten(void **state) {
    (void)state;
    struct desk d;
    desk_open(&d, (struct quota_rates){.requests_per_minute = 60, .in_flight = 3});
    for (uint64_t i = 0; i < 100000; i++) { // 100 a second, each remembered for a second
        check_int(spend(&d, i, 0, i * 10), QUOTA_FINE);
        check(quota_clients(d.quotas) <= 200);
    }
    struct lease lease;
    check_int(take(&d, 7, 0, 2000000, &lease), QUOTA_FINE);
    for (uint64_t i = 0; i < 200; i++) {
        check_int(spend(&d, 100 + i, 0, 3000000 + i * 1000), QUOTA_FINE);
    }
    check(quota_clients(d.quotas) <= 3); // who has a call in flight is not
    quota_refund(&lease, 4000000);
    d.rates = (struct quota_rates){.in_flight = 3};
    for (uint64_t i = 0; i < 100; i++) {
        check_int(spend(&d, 1000 + i, 0, 4000000), QUOTA_FINE);
    }
    check_int(quota_clients(d.quotas), 0); // nothing of it is to be remembered
    quotas_destroy(d.quotas);
}

static void without_limits_nothing_is_held(void **state) {
    (void)state;
    struct desk d;
    struct lease lease;
    desk_open(&d, (struct quota_rates){0});
    check_int(take(&d, 1, 1000, 0, &lease), QUOTA_FINE);
    check(!lease.quotas && !quota_clients(d.quotas));
    quota_settle(&lease, 5, 0);
    quotas_destroy(d.quotas);
}

static void without_memory_a_stranger_is_refused(void **state) {
    (void)state;
    struct desk d;
    struct lease lease;
    desk_open(&d, (struct quota_rates){.in_flight = 1});
    mem_fail_after(1, 1);
    check_int(take(&d, 1, 0, 0, &lease), QUOTA_REQUESTS);
    check_int(d.look.retry_ms, 1000);
    check(!lease.quotas);
    mem_fail_after(0, 0);
    check_int(take(&d, 1, 0, 0, &lease), QUOTA_FINE);
    quota_settle(&lease, 0, 0);
    quotas_destroy(d.quotas);
}

// 100,000 lives: each takes, some are refused, ends are refunds, settlements known and unknown. What is held is counted
// beside it.
static void no_lease_is_lost(void **state) {
    (void)state;
    enum { LIVES = 100000, CLIENTS = 50, HELD = 120, IN_FLIGHT = 3 };
    struct desk d;
    struct {
        struct lease lease;
        unsigned client;
    } held[HELD] = {0};
    unsigned in_flight[CLIENTS] = {0}, refused[4] = {0};
    uint64_t seed = 88172645463325252u, now_ms = 0;
    desk_open(&d, (struct quota_rates){.requests_per_minute = 150, .tokens_per_minute = 20000, .in_flight = IN_FLIGHT});
    for (unsigned life = 0; life < LIVES; life++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned r = (unsigned)(seed >> 33), at = r % HELD, client = r / HELD % CLIENTS;
        now_ms += r % 7;
        if (held[at].lease.quotas) {
            in_flight[held[at].client]--;
            switch (r / 1024 % 3) {
            case 0: quota_refund(&held[at].lease, now_ms); break;
            case 1: quota_settle(&held[at].lease, r % 300, now_ms); break;
            default: quota_settle(&held[at].lease, UINT64_MAX, now_ms); break;
            }
            check(!held[at].lease.quotas);
        }
        enum quota_answer answer = take(&d, client, r % 200, now_ms, &held[at].lease);
        check_int(answer == QUOTA_FINE, held[at].lease.quotas != NULL);
        check(answer != QUOTA_IN_FLIGHT || in_flight[client] == IN_FLIGHT);
        refused[answer]++;
        if (answer == QUOTA_FINE) {
            held[at].client = client;
            in_flight[client]++;
            check(in_flight[client] <= IN_FLIGHT);
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(refused); i++) {
        check(refused[i] > 100); // all of it happened
    }
    for (unsigned i = 0; i < HELD; i++) {
        quota_refund(&held[i].lease, now_ms);
    }
    d.rates.requests_per_minute = 0;
    d.rates.tokens_per_minute = 0;
    for (unsigned client = 0; client < CLIENTS; client++) { // every place is there again, and no more
        for (unsigned i = 0; i < IN_FLIGHT; i++) {
            check_int(take(&d, client, 0, now_ms, &held[i].lease), QUOTA_FINE);
        }
        check_int(spend(&d, client, 0, now_ms), QUOTA_IN_FLIGHT);
        for (unsigned i = 0; i < IN_FLIGHT; i++) {
            quota_settle(&held[i].lease, UINT64_MAX, now_ms);
        }
    }
    quotas_destroy(d.quotas);
}

TESTS(TEST(a_minutes_worth_at_once_then_as_it_flows_in), TEST(all_or_nothing),
      TEST(tokens_are_settled_when_they_are_known), TEST(what_an_upstream_says_is_believed_up_to_an_hour),
      TEST(a_call_larger_than_a_minute_goes_when_the_bucket_is_full), TEST(the_largest_rates_lose_nothing_to_rounding),
      TEST(strangers_are_forgotten), TEST(without_limits_nothing_is_held), TEST(without_memory_a_stranger_is_refused),
      TEST(no_lease_is_lost))
