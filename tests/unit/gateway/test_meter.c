// SPDX-License-Identifier: MIT
#include "gateway/meter.h"

#include <pthread.h>

#include "check.h"

static void a_time_falls_into_the_first_bucket_that_reaches_it(void **state) {
    (void)state;
    check_int(histogram_bucket(0), 0);
    check_int(histogram_bucket(1), 0);
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
        check_int(histogram_bucket(histogram_bound_ns(b)), b);
        check_int(histogram_bucket(histogram_bound_ns(b) + 1), b + 1);
    }
    check_int(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS);
    check(histogram_bound_ns(HISTOGRAM_BUCKETS - 1) > 900ull * 1000 * 1000 * 1000); // the longest call there is
}

static void a_histogram_adds_up(void **state) {
    (void)state;
    struct histogram h = {0};
    uint64_t n = 0;
    histogram_add(&h, 5 * 1000);
    histogram_add(&h, 15 * 1000);
    histogram_add(&h, 15 * 1000);
    for (unsigned b = 0; b <= HISTOGRAM_BUCKETS; b++) {
        n += count_of(&h.buckets[b]);
    }
    check_int(n, 3);
    check_int(count_of(&h.buckets[0]), 1);
    check_int(count_of(&h.buckets[1]), 2);
    check_int(count_of(&h.sum_ns), 35 * 1000);
}

static void an_upstream_keeps_its_place(void **state) {
    (void)state;
    struct meter_place places[METER_UPSTREAMS];
    struct meters *m = meters_create(2);
    check_int(meters_workers(m), 2);
    check(meters_worker(m, 0) != meters_worker(m, 1));
    check_int(meters_place(m, STR("a"), NULL), 0);
    check_int(meters_place(m, STR("b"), NULL), 1);
    check_int(meters_place(m, STR("a"), NULL), 0);
    check_int(meters_places(m, places), 2);
    assert_string_equal(places[1].name, "b");
    meters_destroy(m);
}

static void too_many_upstreams_share_the_last_place(void **state) {
    (void)state;
    struct meter_place places[METER_UPSTREAMS];
    struct meters *m = meters_create(1);
    char name[16];
    for (unsigned i = 0; i < METER_UPSTREAMS + 5; i++) {
        snprintf(name, sizeof name, "u%u", i);
        check_int(meters_place(m, str_c(name), NULL), MIN(i, METER_UPSTREAMS - 1u));
    }
    check_int(meters_places(m, places), METER_UPSTREAMS);
    assert_string_equal(places[METER_UPSTREAMS - 2].name, "u30");
    assert_string_equal(places[METER_UPSTREAMS - 1].name, "others");
    meters_destroy(m);
}

enum { MANY = 100 * 1000 };

static void *write_many(void *context) {
    struct meter *m = context;
    for (unsigned i = 0; i < MANY; i++) {
        count_add(&m->retries, 1);
        histogram_add(&m->before, i);
    }
    return NULL;
}

static void one_writes_and_others_read(void **state) {
    (void)state;
    struct meters *m = meters_create(1);
    struct meter *meter = meters_worker(m, 0);
    pthread_t thread;
    check_int(pthread_create(&thread, NULL, write_many, meter), 0);
    uint64_t last = 0;
    while (last < MANY) {
        uint64_t now = count_of(&meter->retries);
        check(now >= last);
        last = now;
    }
    pthread_join(thread, NULL);
    meters_destroy(m);
}

static void every_limit_has_a_name(void **state) {
    (void)state;
    assert_string_equal(limit_name(LIMIT_REQUESTS), "requests_per_minute");
    assert_string_equal(limit_name(LIMIT_MEMORY), "memory");
    assert_string_equal(outcome_name(OUTCOME_COMPLETE), "COMPLETE");
}

TESTS(TEST(a_time_falls_into_the_first_bucket_that_reaches_it), TEST(a_histogram_adds_up),
      TEST(an_upstream_keeps_its_place), TEST(too_many_upstreams_share_the_last_place),
      TEST(one_writes_and_others_read), TEST(every_limit_has_a_name))
