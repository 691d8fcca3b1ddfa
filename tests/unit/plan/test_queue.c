// SPDX-License-Identifier: MIT
// The formulas of plan/queue.h against tables, closed forms and a simulation.
#include "plan/queue.h"

#include <math.h>

#include "check.h"

#define check_near(got, wanted, share)                                                                                 \
    do {                                                                                                               \
        double check_a = (got);                                                                                        \
        double check_b = (wanted);                                                                                     \
        if (!(fabs(check_a - check_b) <= (share)*fabs(check_b))) {                                                     \
            fail_msg("%s: got %.9g, wanted %.9g", #got, check_a, check_b);                                             \
        }                                                                                                              \
    } while (0)

// ---- tables and closed forms

static void the_tables_of_erlang_b(void **state UNUSED) {
    static const struct {
        unsigned n;
        double load, b;
    } table[] = {{1, 1, 0.5}, {2, 1, 0.2}, {5, 3, 0.1101}, {10, 5, 0.01838}, {20, 15, 0.04559}, {0, 3, 1}, {4, 0, 0}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        check(fabs(erlang_b(table[i].n, table[i].load) - table[i].b) < 5e-5);
    }
}

static void the_tables_of_erlang_c(void **state UNUSED) {
    static const struct {
        unsigned n;
        double load, c;
    } table[] = {{2, 1, 1.0 / 3}, {3, 2, 4.0 / 9},  {4, 2, 0.17391},
                 {5, 4, 0.55411}, {10, 8, 0.40918}, {14, 10, 0.17413}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        check(fabs(erlang_c(table[i].n, table[i].load) - table[i].c) < 5e-5);
    }
    check(erlang_c(3, 3) >= 1 && erlang_c(3, 30) <= 1);
    check(fabs(erlang_c(5, 0)) < 1e-300);
}

// C as the books write it, each term by its logarithm, in long double.
static double c_by_terms(unsigned n, long double a) {
    long double sum = 0; // of a^k / k! over a^n / n!
    for (unsigned k = 0; k < n; k++) {
        sum += expl((long double)k * logl(a) - lgammal(k + 1.0L) - (long double)n * logl(a) + lgammal(n + 1.0L));
    }
    long double last = n / (n - a);
    return (double)(last / (sum + last));
}

static void it_is_the_sum_of_the_books_up_to_a_hundred_thousand_seats(void **state UNUSED) {
    static const unsigned counts[] = {1, 2, 3, 7, 14, 40, 100, 1000, 10000, 100000};
    static const double shares[] = {0.1, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        for (size_t j = 0; j < ARRAY_LEN(shares); j++) {
            double load = counts[i] * shares[j];
            double c = erlang_c(counts[i], load);
            check(c >= 0 && c <= 1);
            check(fabs(c - c_by_terms(counts[i], load)) < 1e-9);
        }
    }
}

static void one_seat_is_the_formula_of_one_seat(void **state UNUSED) {
    for (double rho = 0.05; rho < 1; rho += 0.05) {
        struct queue_load load = {.seats = 1, .rate = rho / 20, .service_s = 20, .lump = 1, .cs2 = 1};
        struct queue_wait w = queue_wait(&load);
        check(w.stable);
        check_near(w.utilisation, rho, 1e-12);
        check_near(w.p_wait, rho, 1e-12);
        check_near(w.mean_s, 20 * rho / (1 - rho), 1e-12);
        load.cs2 = 0; // Pollaczek, Khinchine: half of it
        check_near(queue_wait(&load).mean_s, 10 * rho / (1 - rho), 1e-12);
        load.cs2 = 0.25;
        check_near(queue_wait(&load).mean_s, 12.5 * rho / (1 - rho), 1e-12);
    }
}

static void over_its_capacity_nothing_is_promised(void **state UNUSED) {
    struct queue_load load = {.seats = 6, .rate = 0.1, .service_s = 60, .lump = 1, .cs2 = 1};
    check(!queue_wait(&load).stable);
    check(isinf(queue_wait(&load).mean_s));
    load.rate = 0.0999;
    check(queue_wait(&load).stable);
    check(queue_wait(&load).mean_s > 1000);
}

static void the_fewest_seats_that_do(void **state UNUSED) {
    for (double rate = 0.01; rate < 3; rate *= 1.7) {
        struct queue_load load = {.seats = 1, .rate = rate, .service_s = 60, .lump = 1, .cs2 = 1};
        unsigned n = queue_seats_for(&load, 6);
        load.seats = n;
        check(queue_wait(&load).stable && queue_wait(&load).mean_s <= 6);
        load.seats = n - 1;
        check(n == 1 || !queue_wait(&load).stable || queue_wait(&load).mean_s > 6);
    }
}

// ---- simulation: N seats, first come first served, call by call

struct dice {
    uint64_t state;
};

// Splitmix64 (Steele, Lea, Flood 2014), as a number between 0 and 1.
static double roll(struct dice *d) {
    uint64_t z = d->state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static double exponential(struct dice *d, double mean) { return -mean * log(roll(d)); }

enum { SEATS_MOST = 16, SIMULATED = 400000 };

struct seen {
    double mean_s, p_wait;
};

// `lump` calls come together; service is exponential or always the same.
static struct seen simulate(const struct queue_load *load, unsigned lump, bool same, uint64_t seed) {
    struct dice dice = {seed};
    double free_s[SEATS_MOST] = {0};
    double now_s = 0;
    double sum_s = 0;
    unsigned waited = 0;
    for (unsigned i = 0; i < SIMULATED; i++) {
        unsigned first = 0;
        now_s += i % lump == 0 ? exponential(&dice, lump / load->rate) : 0;
        for (unsigned k = 1; k < load->seats; k++) {
            first = free_s[k] < free_s[first] ? k : first;
        }
        double start_s = fmax(now_s, free_s[first]);
        free_s[first] = start_s + (same ? load->service_s : exponential(&dice, load->service_s));
        sum_s += start_s - now_s;
        waited += start_s > now_s;
    }
    return (struct seen){sum_s / SIMULATED, (double)waited / SIMULATED};
}

static void a_simulation_of_random_calls_agrees(void **state UNUSED) {
    static const unsigned counts[] = {1, 2, 6, 14};
    static const double shares[] = {0.5, 0.7, 0.85};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        for (size_t j = 0; j < ARRAY_LEN(shares); j++) {
            struct queue_load load = {counts[i], 1, counts[i] * shares[j] / 10, 10, 1};
            struct seen seen = simulate(&load, 1, false, 100 * i + j);
            struct queue_wait w = queue_wait(&load);
            check(fabs(w.p_wait - seen.p_wait) < 0.01);
            check(fabs(w.mean_s - seen.mean_s) < 0.05 * w.mean_s + 0.01);
        }
    }
}

// Allen and Cunneen is an approximation: low for times that are all the same, by less the busier it is.
static void a_simulation_of_equal_calls_agrees(void **state UNUSED) {
    static const unsigned counts[] = {1, 2, 6};
    static const double shares[] = {0.7, 0.85, 0.95};
    static const double off[] = {0.15, 0.1, 0.1};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        for (size_t j = 0; j < ARRAY_LEN(shares); j++) {
            struct queue_load load = {counts[i], 1, counts[i] * shares[j] / 10, 10, 0};
            check_near(queue_wait(&load).mean_s, simulate(&load, 1, true, 7 * i + j).mean_s, off[j]);
        }
    }
}

static void a_simulation_of_calls_that_come_in_lumps_agrees(void **state UNUSED) {
    static const unsigned counts[] = {1, 3, 6, 14};
    static const double shares[] = {0.3, 0.6, 0.8};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        for (size_t j = 0; j < ARRAY_LEN(shares); j++) {
            struct queue_load load = {counts[i], 5, counts[i] * shares[j] / 10, 10, 1};
            struct seen seen = simulate(&load, 5, false, 31 * i + j);
            struct queue_wait w = queue_wait(&load);
            check(fabs(w.p_wait - seen.p_wait) < 0.01);
            check_near(w.mean_s, seen.mean_s, 0.05);
            load.cs2 = 0; // an approximation: to a fifth, or to a tenth of a call where hardly anybody waits
            seen = simulate(&load, 5, true, 31 * i + j);
            check(fabs(queue_wait(&load).mean_s - seen.mean_s) < 0.2 * seen.mean_s + 1);
        }
    }
}

static void lumps_are_worse_than_one_by_one(void **state UNUSED) {
    static const unsigned counts[] = {1, 2, 14, 300, 20000};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        // One seat: M^[c]/M/1, rho (c + 1) / 2 / (1 - rho) are there (Kleinrock 1975).
        struct queue_load one = {1, 2 + (unsigned)i, 0.7 / 10, 10, 1};
        check_near(queue_wait(&one).mean_s, (0.7 * (one.lump + 1) / 2 / 0.3 - 0.7) / one.rate, 1e-9);
        struct queue_load lumps = {counts[i], 2, 0.9 * counts[i] / 10, 10, 1};
        struct queue_load single = {counts[i], 1, 0.9 * counts[i] / 10, 10, 1};
        struct queue_wait l = queue_wait(&lumps);
        check(l.mean_s > queue_wait(&single).mean_s - 1e-9 && l.p_wait > queue_wait(&single).p_wait - 1e-9);
        check(l.p_wait >= 0 && l.p_wait <= 1);
    }
}

// ---- users who think

static void the_bounds_meet_at_the_knee(void **state UNUSED) {
    check_near(queue_knee(6, 20, 60), 24, 1e-12); // facts/probe-method.md, the picture's last line
    check_near(queue_knee(6, 60, 0), 6, 1e-12);
    for (double seats = 0.5; seats < 50; seats *= 2) {
        double knee = queue_knee(seats, 20, 60);
        struct queue_bounds at = queue_bounds(seats, knee, 20, 60);
        check_near(at.throughput, seats / 20, 1e-12);
        check_near(at.response_s, 20, 1e-12);
        check_near(queue_bounds(seats, 2 * knee, 20, 60).response_s, 2 * knee * 20 / seats - 60, 1e-12);
        check_near(queue_bounds(seats, knee / 2, 20, 60).throughput, knee / 2 / 80, 1e-12);
    }
}

enum { THINKERS_MOST = 60, ANSWERS = 60000 };

// n users in a circle: each asks, waits, thinks at random, asks again. What is seen per answer.
static struct seen simulate_thinkers(unsigned seats, unsigned users, double service_s, double think_s, uint64_t seed) {
    struct dice dice = {seed};
    double asks_s[THINKERS_MOST];
    double free_s[SEATS_MOST] = {0};
    double sum_s = 0;
    double last_s = 0;
    for (unsigned i = 0; i < users; i++) {
        asks_s[i] = exponential(&dice, think_s);
    }
    for (unsigned i = 0; i < ANSWERS; i++) {
        unsigned who = 0;
        unsigned first = 0;
        for (unsigned k = 1; k < users; k++) {
            who = asks_s[k] < asks_s[who] ? k : who;
        }
        for (unsigned k = 1; k < seats; k++) {
            first = free_s[k] < free_s[first] ? k : first;
        }
        double done_s = fmax(asks_s[who], free_s[first]) + service_s;
        sum_s += done_s - asks_s[who];
        last_s = fmax(last_s, done_s);
        free_s[first] = done_s;
        asks_s[who] = done_s + exponential(&dice, think_s);
    }
    return (struct seen){sum_s / ANSWERS, ANSWERS / last_s}; // p_wait: answers a second, here
}

static void users_who_think_keep_within_the_bounds(void **state UNUSED) {
    for (unsigned users = 2; users <= THINKERS_MOST; users += 2) {
        struct seen seen = simulate_thinkers(6, users, 20, 60, users);
        struct queue_bounds b = queue_bounds(6, users, 20, 60);
        check(seen.mean_s >= b.response_s * 0.99);
        check(seen.p_wait <= b.throughput * 1.01);
        if (users <= 8 || users >= 48) { // far from the knee they are reached
            check_near(seen.mean_s, b.response_s, 0.05);
            check_near(seen.p_wait, b.throughput, 0.05);
        }
    }
}

TESTS(TEST(the_tables_of_erlang_b), TEST(the_tables_of_erlang_c),
      TEST(it_is_the_sum_of_the_books_up_to_a_hundred_thousand_seats), TEST(one_seat_is_the_formula_of_one_seat),
      TEST(over_its_capacity_nothing_is_promised), TEST(the_fewest_seats_that_do),
      TEST(a_simulation_of_random_calls_agrees), TEST(a_simulation_of_equal_calls_agrees),
      TEST(a_simulation_of_calls_that_come_in_lumps_agrees), TEST(lumps_are_worse_than_one_by_one),
      TEST(the_bounds_meet_at_the_knee), TEST(users_who_think_keep_within_the_bounds))
