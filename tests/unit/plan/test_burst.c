// SPDX-License-Identifier: MIT
// The recurrences of plan/burst.h against plan/seats.h, against the formula, and against doors simulated step by step.
#include "plan/burst.h"
#include "plan/seats.h"

#include "check.h"

enum { USERS_MOST = 200, CALLS_MOST = 5, TIME = 1000 };

static void it_is_what_seats_fill_says(void **state UNUSED) {
    static const uint64_t aparts[] = {0, 1, 130, 999, 1000, 2500};
    struct sitting sittings[USERS_MOST * CALLS_MOST];
    struct burst_user v[USERS_MOST];
    for (unsigned seats = 1; seats <= 40; seats += seats < 8 ? 1 : 7) {
        for (unsigned calls = 1; calls <= CALLS_MOST; calls++) {
            for (size_t a = 0; a < ARRAY_LEN(aparts); a++) {
                unsigned users = 37 + seats;
                struct burst b = {users, calls, TIME, aparts[a], 0, seats};
                struct seats room = {seats, TIME, 0};
                for (unsigned i = 0; i < users * calls; i++) {
                    sittings[i] = (struct sitting){.user = i / calls, .arrived_ns = i / calls * aparts[a]};
                }
                seats_fill(&room, sittings, (size_t)users * calls);
                struct waits waits = waits_of(sittings, (size_t)users * calls);
                burst_fill(&b, v);
                struct burst_sum sum = burst_sum(v, users);
                check_int(sum.wall_ns, waits.wall_ns);
                check(sum.mean_ns - waits.mean_ns <= 1); // rounded, not cut off
                check_int(sum.waited, waits.waited);
                for (unsigned k = 0; k < users; k++) {
                    check_int(v[k].came_ns + v[k].done_ns, sittings[(k + 1) * calls - 1].done_ns);
                    check_int(v[k].wait_ns, v[k].done_ns - TIME);
                }
            }
        }
    }
}

static void the_formula_holds_through_either_door(void **state UNUSED) {
    struct burst_user v[USERS_MOST];
    for (unsigned n = 1; n <= 50; n++) {
        struct burst doors[] = {
            {USERS_MOST, 1, TIME, 0, n, 0}, {USERS_MOST, 1, TIME, 0, 0, n}, {USERS_MOST, 1, TIME, 0, n, n}};
        for (size_t d = 0; d < ARRAY_LEN(doors); d++) {
            burst_fill(&doors[d], v);
            for (unsigned k = 1; k <= USERS_MOST; k++) {
                check_int(v[k - 1].done_ns, (k + n - 1) / n * TIME);
                check_int(v[k - 1].wait_ns, ((k + n - 1) / n - 1) * TIME);
            }
        }
    }
}

// Both doors moment by moment: at each, who is done leaves, then who may comes in and sits down.
static void step_by_step(const struct burst *b, uint64_t *done_ns) {
    unsigned begun[USERS_MOST] = {0};
    uint64_t ends[USERS_MOST][CALLS_MOST] = {{0}};
    unsigned in = 0;
    unsigned out = 0;
    for (uint64_t now = 0; out < b->users; now += TIME) {
        unsigned sitting = 0;
        for (out = 0; out < in && begun[out] == b->calls && ends[out][b->calls - 1] <= now; out++) {
            done_ns[out] = ends[out][b->calls - 1];
        }
        for (unsigned k = 0; k < in; k++) {
            for (unsigned i = 0; i < begun[k]; i++) {
                sitting += ends[k][i] > now;
            }
        }
        in = MIN(b->users, out + b->requests);
        for (unsigned k = 0; k < in; k++) {
            while (begun[k] < b->calls && sitting < (unsigned)b->seats) {
                ends[k][begun[k]++] = now + b->service_ns;
                sitting++;
            }
        }
    }
}

static void two_doors_one_behind_the_other(void **state UNUSED) {
    struct burst_user v[USERS_MOST];
    uint64_t done_ns[USERS_MOST];
    for (unsigned requests = 1; requests <= 9; requests++) {
        for (unsigned seats = 1; seats <= 20; seats++) {
            for (unsigned calls = 1; calls <= CALLS_MOST; calls++) {
                struct burst b = {60, calls, TIME, 0, requests, seats};
                burst_fill(&b, v);
                step_by_step(&b, done_ns);
                for (unsigned k = 0; k < b.users; k++) {
                    check_int(v[k].done_ns, done_ns[k]);
                }
            }
        }
    }
}

static void no_door_is_no_wait(void **state UNUSED) {
    struct burst_user v[USERS_MOST];
    struct burst b = {USERS_MOST, 5, TIME, 7, 0, 0};
    burst_fill(&b, v);
    struct burst_sum sum = burst_sum(v, USERS_MOST);
    check_int(sum.waited, 0);
    check_int(sum.longest_ns, 0);
    check_int(sum.mean_ns, TIME);
    check_int(sum.wall_ns, TIME + 7 * (USERS_MOST - 1));
}

// 30 calls a minute of 1 s: half a seat, one call every 2 s. 90 a minute: 1.5 seats, three calls in 2 s.
static void a_rate_is_a_fraction_of_a_seat(void **state UNUSED) {
    struct burst_user v[USERS_MOST];
    struct burst half = {USERS_MOST, 1, TIME, 0, 0, 0.5};
    burst_fill(&half, v);
    for (unsigned k = 0; k < USERS_MOST; k++) {
        check_int(v[k].done_ns, TIME + 2ull * TIME * k);
    }
    for (unsigned tenths = 1; tenths <= 95; tenths++) {
        struct burst b = {USERS_MOST, 1, TIME, 0, 0, tenths / 10.0};
        unsigned whole = (tenths + 9) / 10;
        burst_fill(&b, v);
        unsigned last = (USERS_MOST - 1) / whole * whole; // begins a round: so many calls went in before it
        double through_s = (double)v[last].wait_ns / TIME;
        check(through_s * tenths / 10 >= last - 0.01 * last && through_s * tenths / 10 <= last + 0.01 * last);
    }
}

TESTS(TEST(it_is_what_seats_fill_says), TEST(the_formula_holds_through_either_door),
      TEST(two_doors_one_behind_the_other), TEST(no_door_is_no_wait), TEST(a_rate_is_a_fraction_of_a_seat))
