// SPDX-License-Identifier: MIT
// Chains, presets, and what is foretold of them.
#include "plan/forecast.h"
#include "plan/preset.h"

#include <math.h>

#include "check.h"

#define SECOND UINT64_C(1000000000)

static struct question question_of(unsigned users, unsigned calls, unsigned seconds) {
    struct question q = {.users = users, .service_ns = seconds * SECOND, .cv = 1};
    q.chain.calls = calls;
    q.chain.workers = 1;
    q.chain.instances = 1;
    return q;
}

static void add(struct question *q, enum link_kind kind, enum link_unit unit, enum link_scope scope, double seats) {
    struct link link = {.kind = kind, .unit = unit, .scope = scope, .seats = seats, .name = "a link"};
    check(chain_add(&q->chain, &link));
}

static void add_preset(struct question *q, enum preset_group group, const char *name, unsigned cpus) {
    struct preset_facts facts = {.cpus = cpus, .python_major = 3, .python_minor = 13};
    const struct preset *preset = preset_find(group, str_c(name));
    check(preset != NULL);
    check(preset_add(preset, &facts, &q->chain));
}

static double rounded(uint64_t ns) { return (double)ns / 1e9; }

// ---- the published figures (MISSION)

static void the_published_figures_come_out(void **state UNUSED) {
    static const struct {
        unsigned users, calls, seconds, seats;
        double last_s, mean_s, wait_s;
    } table[] = {
        {15, 1, 60, 14, 120, 64, 60},  {5, 1, 10, 1, 50, 30, 40},     {50, 1, 5, 14, 20, 11.6, 15},
        {50, 1, 5, 10, 25, 15, 20},    {50, 1, 5, 0, 5, 5, 0},        {50, 1, 5, 6, 45, 23.4, 40},
        {15, 5, 60, 6, 780, 424, 720}, {15, 1, 60, 6, 180, 108, 120},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct question q = question_of(table[i].users, table[i].calls, table[i].seconds);
        struct forecast f;
        add(&q, LINK_POOL, OF_CALLS, EACH_WORKER, table[i].seats);
        forecast_init(&f, &q);
        check(fabs(rounded(f.sum.wall_ns) - table[i].last_s) < 1e-6);
        check(fabs(rounded(f.sum.mean_ns) - table[i].mean_s) < 1e-6);
        check(fabs(rounded(f.sum.longest_ns) - table[i].wait_s) < 1e-6);
        forecast_finish(&f);
    }
}

// ---- the chain

static void the_smallest_link_decides(void **state UNUSED) {
    struct question q = question_of(30, 5, 10);
    q.chain.workers = 2;
    q.chain.instances = 3;
    add(&q, LINK_UPSTREAM, OF_CALLS, IN_ALL, 40);          // 8 users
    add(&q, LINK_POOL, OF_CALLS, EACH_WORKER, 6);          // 36 calls: 7.2 users
    add(&q, LINK_PLATFORM, OF_REQUESTS, EACH_INSTANCE, 4); // 12 users
    add(&q, LINK_DATABASE, OF_REQUESTS, EACH_WORKER, 0);
    struct forecast f;
    forecast_init(&f, &q);
    check_int(q.chain.links[0].kind, LINK_PLATFORM);
    check_int(q.chain.links[3].kind, LINK_UPSTREAM);
    check_int(f.smallest, 1);
    check_int(f.next, 3);
    check(fabs(f.users_at_once - 7.2) < 1e-9);
    check_int(f.at_once, 36);
    check(fabs(f.capacity - 0.72) < 1e-9);
    check(fabs(f.seats_wanted - 150) < 1e-9);
    check_int(f.set_to, 25); // of each of six workers
    forecast_finish(&f);
}

static void of_links_as_small_the_first_counts(void **state UNUSED) {
    struct question q = question_of(5, 1, 1);
    add(&q, LINK_UPSTREAM, OF_CALLS, IN_ALL, 4);
    add(&q, LINK_POOL, OF_CALLS, EACH_WORKER, 4);
    check_int(chain_smallest(&q.chain), 0);
    check_int(q.chain.links[0].kind, LINK_POOL);
    check_int(chain_smallest_but(&q.chain, 0), 1);
}

static void without_a_limit_nobody_waits(void **state UNUSED) {
    struct question q = question_of(1000, 5, 60);
    struct forecast f;
    add(&q, LINK_POOL, OF_CALLS, EACH_WORKER, 0);
    q.chain.limits[q.chain.limit_count++] = (struct limit){LIMIT_ANSWER, LINK_PLATFORM, 60000, "a limit"};
    q.chain.limits[q.chain.limit_count++] = (struct limit){LIMIT_ANSWER, LINK_PLATFORM, 59999, "a shorter limit"};
    forecast_init(&f, &q);
    check_int(f.smallest, CHAIN_NONE);
    check_int(f.sum.waited, 0);
    check_int(f.arrival_count, 0);
    check_int(f.losses[0].lost, 0);
    check_int(f.losses[0].most, UNLIMITED_USERS);
    check_int(f.losses[1].lost, 1000);
    check_int(f.losses[1].most, 0);
    forecast_finish(&f);
}

static void a_full_chain_says_so(void **state UNUSED) {
    struct chain c = {.workers = 1, .instances = 1, .calls = 1};
    struct link link = {.kind = LINK_POOL};
    struct limit limit = {.name = "x"};
    for (unsigned i = 0; i < CHAIN_MOST; i++) {
        check(chain_add(&c, &link) && chain_add_limit(&c, &limit));
    }
    check(!chain_add(&c, &link) && !chain_add_limit(&c, &limit));
}

// ---- lost

// N floor(timeout / T) users hold out, one more does not.
static void the_largest_burst_that_loses_nobody(void **state UNUSED) {
    for (unsigned seats = 1; seats <= 12; seats++) {
        for (unsigned timeout = 5; timeout <= 70; timeout += 5) {
            struct forecast f;
            struct question q = question_of(200, 1, 10);
            add(&q, LINK_POOL, OF_CALLS, EACH_WORKER, seats);
            q.chain.limits[q.chain.limit_count++] = (struct limit){LIMIT_ANSWER, LINK_PLATFORM, timeout * 1000, "x"};
            forecast_init(&f, &q);
            check_int(f.losses[0].most, seats * (timeout / 10));
            check_int(f.losses[0].lost, 200 - seats * (timeout / 10));
            for (unsigned k = 0; k < 200; k++) {
                check((forecast_loss(&f, &q, k) != NULL) == (k >= f.losses[0].most));
            }
            forecast_finish(&f);
        }
    }
}

static void what_a_limit_counts(void **state UNUSED) {
    struct question q = question_of(20, 1, 20);
    struct forecast f;
    add_preset(&q, RUNTIME, "sqlalchemy", 2);   // 15; a wait over 30 s
    add_preset(&q, RUNTIME, "gunicorn", 2);     // 1: the smallest
    add_preset(&q, PLATFORM, "api-gateway", 2); // 29 s in all
    forecast_init(&f, &q);
    check_int(q.chain.limits[0].kind, LIMIT_WAIT);
    check_int(f.losses[0].lost, 0); // nobody waits in front of the database
    check_int(f.losses[0].most, UNLIMITED_USERS);
    check_int(f.losses[1].lost, 0); // a worker is killed for what takes 30 s, not for who waits
    check_int(f.losses[2].lost, 19);
    check_int(f.losses[2].most, 1);
    forecast_finish(&f);

    struct question slow = question_of(3, 1, 31);
    add_preset(&slow, RUNTIME, "gunicorn", 2);
    forecast_init(&f, &slow);
    check_int(f.losses[0].lost, 3);
    check_int(f.losses[0].most, 0);
    forecast_finish(&f);

    struct question jam = question_of(40, 1, 20);
    add_preset(&jam, RUNTIME, "hikari", 2); // 10: 11 to 20 wait 20 s, 21 to 30 40 s
    forecast_init(&f, &jam);
    check_int(f.losses[0].lost, 20);
    check_int(f.losses[0].most, 20);
    forecast_finish(&f);
}

// ---- what the platform does not see

static void who_waits_in_silence(void **state UNUSED) {
    struct question q = question_of(100, 1, 60);
    struct forecast f;
    add_preset(&q, PLATFORM, "app-runner", 2);
    add_preset(&q, RUNTIME, "asyncio", 2);
    q.platform = "App Runner";
    q.admits = 100;
    forecast_init(&f, &q);
    check_int(f.serves, 6);
    check_int(f.silent, 94);
    forecast_finish(&f);
    q.admits = 6;
    forecast_init(&f, &q);
    check_int(f.silent, 0);
    forecast_finish(&f);
}

// ---- rates

static void a_rate_is_a_link(void **state UNUSED) {
    struct question q = question_of(10, 1, 30);
    struct forecast f;
    add(&q, LINK_REQUESTS_PER_MINUTE, OF_CALLS, IN_ALL, 4 * 30 / 60.0); // 4 a minute: two at once
    q.rate = 0.05;
    forecast_init(&f, &q);
    check_int(f.at_once, 2);
    check(fabs(f.capacity * 60 - 4) < 1e-9);
    check_int(f.arrival_count, FORECAST_RATES + 1);
    check(fabs(f.arrivals[FORECAST_RATES].wait.utilisation - 0.75) < 1e-9);
    for (unsigned i = 1; i < FORECAST_RATES; i++) {
        check(f.arrivals[i].wait.stable && f.arrivals[i].wait.mean_s > f.arrivals[i - 1].wait.mean_s);
    }
    struct queue_load wanted = {f.rate_seats, 1, q.rate, 30, 1};
    check(queue_wait(&wanted).mean_s <= 3);
    forecast_finish(&f);
}

// ---- presets

static void asyncio_counts_cpus_by_version(void **state UNUSED) {
    static const struct {
        unsigned minor, cpus, threads;
    } table[] = {{13, 2, 6}, {12, 2, 6}, {8, 10, 14}, {14, 28, 32}, {13, 64, 32}, {13, 1, 5}, {7, 2, 10}, {5, 10, 50}};
    const struct preset *asyncio = preset_find(RUNTIME, STR("asyncio"));
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct preset_facts facts = {table[i].cpus, 3, table[i].minor};
        struct chain c = {.workers = 1, .instances = 1, .calls = 1};
        check(preset_add(asyncio, &facts, &c));
        check(fabs(c.links[0].seats - table[i].threads) < 1e-9);
    }
}

static void every_preset_is_whole(void **state UNUSED) {
    struct preset_facts facts = {2, 3, 13};
    size_t n = 0;
    for (; preset_at(n); n++) {
        const struct preset *p = preset_at(n);
        struct chain c = {.workers = 1, .instances = 1, .calls = 1};
        check(p->name && p->title && p->does && p->number && p->source && *p->source);
        check(preset_find(p->group, str_c(p->name)) == p);
        check(preset_find(p->group == RUNTIME ? PLATFORM : RUNTIME, str_c(p->name)) == NULL);
        check(preset_add(p, &facts, &c));
        if (strlen(c.links[0].name) > 23 || strlen(c.links[0].number) > 30) { // the table is 80 columns wide
            fail_msg("%s: %s, %s", p->name, c.links[0].name, c.links[0].number);
        }
        check(c.links[0].seats > 0 ? p->fix != NULL : p->seats == 0);
        for (unsigned i = 0; i < c.limit_count; i++) {
            check(strlen(c.limits[i].name) <= 33);
            check(c.limits[i].kind != LIMIT_WAIT || c.limits[i].at == p->kind);
        }
    }
    check(n > 30);
    check_str(str_c(preset_nearest(RUNTIME, STR("asynco"))), "asyncio");
    check_str(str_c(preset_nearest(PLATFORM, STR("cloudrun"))), "cloud-run");
    check(preset_nearest(PLATFORM, STR("xyzzy")) == NULL);
}

TESTS(TEST(the_published_figures_come_out), TEST(the_smallest_link_decides), TEST(of_links_as_small_the_first_counts),
      TEST(without_a_limit_nobody_waits), TEST(a_full_chain_says_so), TEST(the_largest_burst_that_loses_nobody),
      TEST(what_a_limit_counts), TEST(who_waits_in_silence), TEST(a_rate_is_a_link),
      TEST(asyncio_counts_cpus_by_version), TEST(every_preset_is_whole))
