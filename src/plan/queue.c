// SPDX-License-Identifier: MIT
#include "plan/queue.h"

#include <math.h>

#include "base/mem.h"

double erlang_b(unsigned n, double load) {
    double b = 1;
    for (unsigned i = 1; i <= n; i++) {
        b = load * b / (i + load * b);
    }
    return b;
}

double erlang_c(unsigned n, double load) {
    double b = erlang_b(n, load);
    return load >= n ? 1 : n * b / (n - load * (1 - b));
}

// ---- calls that come in lumps

// What is summed over the states n < N, all to the same scale.
struct states {
    double empty;  // (N - n) P(n): seats that are free
    double square; // (N - n) n P(n)
    double sits;   // min(c, N - n) P(n): of a lump's calls those that need not wait
};

// P(n) outgrows every number between 0 and N: now and then all are made smaller.
static void keep_small(struct states *s, double *p, double *window, double *ring, unsigned lump) {
    static const double large = 1e200;
    if (*p < large) {
        return;
    }
    double *all[] = {&s->empty, &s->square, &s->sits, p, window};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        *all[i] /= large;
    }
    for (unsigned i = 0; i < lump; i++) {
        ring[i] /= large;
    }
}

static struct states sum_states(unsigned seats, unsigned lump, double load) {
    struct states s = {0};
    double *ring = xcalloc(lump, sizeof *ring); // P(n-c+1) ... P(n)
    double window = 0;                          // their sum
    double p = 1;
    for (unsigned n = 0; n < seats; n++) {
        double left = seats - n;
        s.empty += left * p;
        s.square += left * n * p;
        s.sits += fmin(lump, left) * p;
        window = fmax(window + p - ring[n % lump], p); // what is taken off was rounded
        ring[n % lump] = p;
        p = load / lump * window / (n + 1);
        keep_small(&s, &p, &window, ring, lump);
    }
    free(ring);
    return s;
}

// What a call waits on average for others of its own lump, in an empty room.
static double wait_for_own_s(const struct queue_load *q) {
    double random = 0; // the next of N exponential calls is over after a N-th of one
    double equal = 0;
    for (unsigned i = q->seats; i < q->lump; i++) {
        random += (double)(i - q->seats + 1) / q->seats;
        equal += i / q->seats;
    }
    return (random + fmax(0, 1 - q->cs2) * (equal - random)) * q->service_s / q->lump;
}

// Exact for cs2 of 1; for others its two parts change.
static double mean_in_lumps_s(const struct queue_load *q, double exact_s) {
    struct queue_load random = *q;
    random.cs2 = 1;
    return wait_for_own_s(q) + (exact_s - wait_for_own_s(&random)) * (q->lump + q->cs2) / (q->lump + 1);
}

static struct queue_wait wait_in_lumps(const struct queue_load *q, double load) {
    struct states s = sum_states(q->seats, q->lump, load);
    double scale = (q->seats - load) / s.empty;
    double there = (load * (q->lump + 1) / 2 + s.square * scale) / (q->seats - load);
    return (struct queue_wait){
        .p_wait = fmax(0, 1 - s.sits * scale / q->lump),
        .mean_s = mean_in_lumps_s(q, fmax(0, there - load) / q->rate),
    };
}

// ---- either

static struct queue_wait wait_one_by_one(const struct queue_load *q, double load) {
    double c = erlang_c(q->seats, load);
    return (struct queue_wait){.p_wait = c, .mean_s = c / (q->seats / q->service_s - q->rate) * (1 + q->cs2) / 2};
}

struct queue_wait queue_wait(const struct queue_load *q) {
    double load = q->rate * q->service_s;
    struct queue_wait w = {.p_wait = 1, .mean_s = INFINITY};
    if (load < q->seats) {
        w = q->lump > 1 ? wait_in_lumps(q, load) : wait_one_by_one(q, load);
        w.stable = true;
    }
    w.utilisation = load / q->seats;
    return w;
}

static bool suffices(const struct queue_load *q, unsigned seats, double mean_s) {
    struct queue_load with = *q;
    with.seats = seats;
    return queue_wait(&with).mean_s <= mean_s;
}

unsigned queue_seats_for(const struct queue_load *q, double mean_s) {
    double load = q->rate * q->service_s;
    if (load >= QUEUE_SEATS_MOST) {
        return 0;
    }
    unsigned too_few = (unsigned)load;
    unsigned enough = too_few + 1;
    while (!suffices(q, enough, mean_s)) {
        if (enough >= QUEUE_SEATS_MOST) {
            return 0;
        }
        too_few = enough;
        enough = MIN(2 * enough, (unsigned)QUEUE_SEATS_MOST);
    }
    while (enough - too_few > 1) {
        unsigned half = too_few + (enough - too_few) / 2;
        if (suffices(q, half, mean_s)) {
            enough = half;
        } else {
            too_few = half;
        }
    }
    return enough;
}

double queue_knee(double seats, double service_s, double think_s) { return seats * (service_s + think_s) / service_s; }

struct queue_bounds queue_bounds(double seats, double users, double service_s, double think_s) {
    return (struct queue_bounds){
        .throughput = fmin(users / (service_s + think_s), seats / service_s),
        .response_s = fmax(service_s, users * service_s / seats - think_s),
    };
}
