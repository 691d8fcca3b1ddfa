// SPDX-License-Identifier: MIT
// The published figures (MISSION: the story it starts from) come out of the arithmetic, and its rules hold.
#include "plan/seats.h"

#include "check.h"

enum { CALLS_MAX = 300, SECOND = 1000 };

// In milliseconds throughout: the arithmetic does not care.
static struct waits fill(struct sitting *v, unsigned users, unsigned calls, unsigned apart, const struct seats *seats) {
    for (unsigned i = 0; i < users * calls; i++) {
        v[i] = (struct sitting){.user = i / calls, .arrived_ns = (uint64_t)apart * (i / calls)};
    }
    seats_fill(seats, v, (size_t)users * calls);
    return waits_of(v, (size_t)users * calls);
}

static void the_published_table_comes_out(void **state UNUSED) {
    static const struct {
        unsigned users, calls, apart;
        struct seats seats;
        unsigned wall, mean, max, waited;
    } table[] = {
        {15, 1, 0, {14, 60000, 0}, 120000, 64000, 120000, 1},
        {2, 1, 2000, {1, 54460, 0}, 108920, 80690, 106920, 1},
        {2, 1, 2000, {1, 60000, 0}, 120000, 89000, 118000, 1},
        {5, 1, 0, {1, 10000, 0}, 50000, 30000, 50000, 4},
        {50, 1, 0, {14, 5000, 0}, 20000, 11600, 20000, 36},
        {50, 1, 0, {10, 5000, 0}, 25000, 15000, 25000, 40},
        {50, 1, 0, {SEATS_UNLIMITED, 5000, 0}, 5000, 5000, 5000, 0},
        {50, 1, 0, {6, 5000, 0}, 45000, 23400, 45000, 44},     // facts/baselines.md, section 2: measured in Python
        {15, 5, 0, {6, 60000, 0}, 780000, 424000, 780000, 14}, // the incident
        {3, 5, 0, {6, 60000, 0}, 180000, 120000, 180000, 2},
        {15, 5, 0, {SEATS_UNLIMITED, 60000, 0}, 60000, 60000, 60000, 0},
    };
    struct sitting v[CALLS_MAX];
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct waits w = fill(v, table[i].users, table[i].calls, table[i].apart, &table[i].seats);
        check_int(w.users, table[i].users);
        check_int(w.wall_ns, table[i].wall);
        check_int(w.mean_ns, table[i].mean);
        check_int(w.max_ns, table[i].max);
        check_int(w.waited, table[i].waited);
    }
}

static void the_formulas_of_the_header_hold(void **state UNUSED) {
    struct sitting v[CALLS_MAX];
    for (unsigned seats = 1; seats <= 20; seats++) {
        for (unsigned n = 1; n <= 60; n++) {
            struct seats room = {seats, SECOND, 0};
            struct waits w = fill(v, n, 1, 0, &room);
            uint64_t sum = 0;
            for (unsigned k = 1; k <= n; k++) {
                uint64_t done = (uint64_t)((k + seats - 1) / seats) * SECOND;
                check_int(v[k - 1].done_ns, done);
                sum += done;
            }
            check_int(w.wall_ns, (n + seats - 1) / seats * SECOND);
            check_int(w.mean_ns, sum / n);
            check_int(w.at_once, MIN(n, seats));
        }
    }
    for (unsigned apart = 0; apart <= SECOND; apart += 100) {
        struct seats lock = {1, SECOND, 0};
        fill(v, 9, 1, apart, &lock);
        for (unsigned k = 1; k <= 9; k++) {
            check_int(v[k - 1].done_ns - v[k - 1].arrived_ns, k * SECOND - (k - 1) * apart);
        }
    }
}

static void a_call_waits_for_the_one_before_on_its_seat(void **state UNUSED) {
    struct sitting v[CALLS_MAX];
    struct seats room = {6, SECOND, 0};
    fill(v, 15, 1, 0, &room);
    for (unsigned i = 0; i < 15; i++) {
        check_int(v[i].seat, i % 6);
        check_int(v[i].after, i < 6 ? SITTING_NOBODY : i - 6);
        check_int(sitting_waited_for(v, i), i < 6 ? SITTING_NOBODY : i - 6);
    }
    check_int(sittings_waiting(v, 15, 0), 9);
    check_int(sittings_waiting(v, 15, SECOND - 1), 9);
    check_int(sittings_waiting(v, 15, SECOND), 3);
    check_int(sittings_waiting(v, 15, 2 * SECOND), 0);
    struct waits w = waits_of(v, 15);
    check_int(w.longest_ns, 2 * SECOND);
    check_int(w.longest, 12);
}

static void a_seat_that_has_become_free_is_nobodys_wait(void **state UNUSED) {
    struct sitting v[3] = {{.user = 0}, {.user = 1, .arrived_ns = SECOND}, {.user = 2, .arrived_ns = SECOND}};
    struct seats lock = {1, SECOND, 0};
    seats_fill(&lock, v, 3);
    check_int(v[1].after, SITTING_NOBODY);
    check_int(v[1].seated_ns, SECOND);
    check_int(v[2].after, 1);
    check_int(waits_of(v, 3).at_once, 1);
}

static void who_polls_looks_late_and_out_of_order(void **state UNUSED) {
    // The seat is free at 1000. User 1 came at 50 and looks at 1050; user 2 came at 20 past 900 and looks at 1020.
    struct sitting v[3] = {{.user = 0}, {.user = 1, .arrived_ns = 50}, {.user = 2, .arrived_ns = 920}};
    struct seats flag = {1, SECOND, 100};
    seats_fill(&flag, v, 3);
    check_int(v[2].seated_ns, 1020);
    check_int(v[2].after, 0);
    check_int(v[1].seated_ns, 2050); // it was free from 2020 on
    check_int(v[1].after, 2);
    check_int(v[1].done_ns, 3050);
}

static void one_who_comes_while_the_flag_is_down_takes_it(void **state UNUSED) {
    struct sitting v[3] = {{.user = 0}, {.user = 1, .arrived_ns = 90}, {.user = 2, .arrived_ns = 1005}};
    struct seats flag = {1, SECOND, 100};
    seats_fill(&flag, v, 3); // free at 1000; user 1 looks at 1090
    check_int(v[2].seated_ns, 1005);
    check_int(v[2].after, SITTING_NOBODY);
    check_int(v[1].seated_ns, 2090);
}

static void polling_costs_at_most_a_poll_for_each_handing_over(void **state UNUSED) {
    struct sitting v[CALLS_MAX];
    for (unsigned poll = 1; poll <= 400; poll += 7) {
        for (unsigned seats = 1; seats <= 4; seats++) {
            struct seats flag = {seats, SECOND, poll};
            struct waits w = fill(v, 12, 1, 13, &flag);
            struct seats queue = {seats, SECOND, 0};
            struct sitting other[CALLS_MAX];
            struct waits q = fill(other, 12, 1, 13, &queue);
            check(w.wall_ns >= q.wall_ns);
            check(w.wall_ns <= q.wall_ns + 12u * poll);
            check_int(w.at_once, q.at_once);
        }
    }
}

static void nobody_and_one(void **state UNUSED) {
    struct seats room = {6, SECOND, 0};
    struct sitting one = {.user = 7, .arrived_ns = 5};
    seats_fill(&room, NULL, 0);
    check_int(waits_of(NULL, 0).wall_ns, 0);
    check_int(waits_of(NULL, 0).at_once, 0);
    seats_fill(&room, &one, 1);
    struct waits w = waits_of(&one, 1);
    check_int(w.wall_ns, SECOND);
    check_int(w.users, 1);
    check_int(w.longest_ns, 0);
}

TESTS(TEST(the_published_table_comes_out), TEST(the_formulas_of_the_header_hold),
      TEST(a_call_waits_for_the_one_before_on_its_seat), TEST(a_seat_that_has_become_free_is_nobodys_wait),
      TEST(who_polls_looks_late_and_out_of_order), TEST(one_who_comes_while_the_flag_is_down_takes_it),
      TEST(polling_costs_at_most_a_poll_for_each_handing_over), TEST(nobody_and_one))
