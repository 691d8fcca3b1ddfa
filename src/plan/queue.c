// SPDX-License-Identifier: MIT
#include "plan/queue.h"

#include <math.h>

static double next_b(double b, unsigned n, double load) { return load * b / (n + load * b); }

double erlang_b(unsigned n, double load) {
    double b = 1;
    for (unsigned i = 1; i <= n; i++) {
        b = next_b(b, i, load);
    }
    return n == 0 ? 1 : b;
}

static double c_of_b(double b, unsigned n, double load) { return n * b / (n - load * (1 - b)); }

double erlang_c(unsigned n, double load) { return load >= n ? 1 : c_of_b(erlang_b(n, load), n, load); }

static double mean_wait(const struct queue_load *q, unsigned seats, double c) {
    return c / (seats / q->service_s - q->rate) * (q->ca2 + q->cs2) / 2;
}

struct queue_wait queue_wait(const struct queue_load *q) {
    double load = q->rate * q->service_s;
    struct queue_wait w = {.stable = load < q->seats, .utilisation = load / q->seats, .p_wait = 1, .mean_s = INFINITY};
    if (w.stable) {
        w.p_wait = erlang_c(q->seats, load);
        w.mean_s = mean_wait(q, q->seats, w.p_wait);
    }
    return w;
}

unsigned queue_seats_for(const struct queue_load *q, double mean_s) {
    double load = q->rate * q->service_s;
    double b = 1;
    for (unsigned n = 1; n < UINT32_MAX; n++) {
        b = next_b(b, n, load);
        if (load < n && mean_wait(q, n, c_of_b(b, n, load)) <= mean_s) {
            return n;
        }
    }
    return UINT32_MAX;
}

double queue_knee(double seats, double service_s, double think_s) { return seats * (service_s + think_s) / service_s; }

struct queue_bounds queue_bounds(double seats, double users, double service_s, double think_s) {
    return (struct queue_bounds){
        .throughput = fmin(users / (service_s + think_s), seats / service_s),
        .response_s = fmax(service_s, users * service_s / seats - think_s),
    };
}
