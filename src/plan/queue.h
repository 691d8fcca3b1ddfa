// SPDX-License-Identifier: MIT
// Waiting for one of N seats, by formula: arrivals by chance, and people who think between two calls. (A burst, where
// everybody comes at once, is plan/burst.h; call by call, plan/seats.h.) No I/O, no clock, no chance.
//
// Open: calls come at random, `rate` a second, each holds a seat for T. a = rate * T is the offered load (Erlang), the
// utilisation a / N. A queue exists in the long run for a < N only; there
//     B(0) = 1,  B(n) = a B(n-1) / (n + a B(n-1))              Erlang B: all seats taken, nobody waits (Erlang 1917)
//     C = N B(N) / (N - a (1 - B(N)))                          Erlang C: a call has to wait
//     Wq = C / (N / T - rate) * (Ca^2 + Cs^2) / 2              mean wait; the factor is Allen and Cunneen's (Allen 1990)
// with Ca^2, Cs^2 the squared coefficients of variation of the times between arrivals and of T: 1 and 1 give M/M/N, for
// which it is exact; 1 and 0 (every call takes the same time) halve it, which is exact for N = 1 (Pollaczek 1930) and a
// few per cent low for more. B needs N steps, never leaves [0, 1], and adds nothing but positive numbers: it is right to
// some 1e-12 for 100,000 seats, where a^N / N! fits no double.
//
// Users who make c calls at once come in lumps, and M/M/N is far too kind to them. The number n of calls that are there is
// balanced over every cut between n and n + 1 (M^[c]/M/N; Kleinrock 1975, chapter 4), rate * T = a:
//     min(n + 1, N) P(n+1) = a / c * (P(n-c+1) + ... + P(n)),     sum over n < N of (N - n) P(n) = N - a
//     E[n] = (a (c + 1) / 2 + sum over n < N of (N - n) n P(n)) / (N - a)
// the last one because E[n^2] does not grow. So N steps give it, exactly, and Wq = (E[n] - a) / rate. Other times
// than exponential ones change two parts of it: what a lump waits for itself in an empty room (for equal times that is
// plan/burst.h), and the rest, by (c + Cs^2) / (c + 1), c being what lumps of c vary by.
//
// Closed: n users, each thinks for Z after an answer, then asks again. Whatever the distributions,
//     throughput <= min(n / (T + Z), N / T),   response >= max(T, n T / N - Z)      asymptotic bounds (Denning, Buzen 1978)
// The two meet at the knee, n* = N (T + Z) / T: with fewer users nobody needs to wait, with more somebody always does.
#pragma once
#include <stdbool.h>

#include "base/attr.h"

// All of n seats are taken; 0 for no load. n may be 0.
double erlang_b(unsigned n, double load);
// Somebody who comes has to wait; 1 where load >= n.
double erlang_c(unsigned n, double load);

struct queue_load {
    unsigned seats;   // 1 or more
    unsigned lump;    // so many calls come at once; 1: each by itself
    double rate;      // calls a second
    double service_s; // a call holds its seat for so long
    double cs2;       // squared coefficient of variation of that
};

struct queue_wait {
    bool stable;        // false: the queue grows without end; the other two are 1 and INFINITY
    double utilisation; // of the seats
    double p_wait;      // of a call
    double mean_s;      // of all, those who do not wait among them
};

struct queue_wait queue_wait(const struct queue_load *load);
// The fewest seats with a mean wait of at most so long, `load`'s own count aside; 0 where that is more than QUEUE_SEATS_MOST.
enum { QUEUE_SEATS_MOST = 10000000 };
unsigned queue_seats_for(const struct queue_load *load, double mean_s);

// `seats` may be a fraction: so many users at once.
double queue_knee(double seats, double service_s, double think_s);

struct queue_bounds {
    double throughput; // at most, a second
    double response_s; // at least
};
struct queue_bounds queue_bounds(double seats, double users, double service_s, double think_s);
