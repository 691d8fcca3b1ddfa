// SPDX-License-Identifier: MIT
// Users who all come at the same moment, or one after another, each with some calls in parallel, through two doors one behind the other: so
// many requests are let in (a worker, a platform's concurrency), and so many calls sit at once (a pool, an upstream's
// limit). First come, first served, every call takes T. User k of n, one call each, N seats:
//     waits (ceil(k / N) - 1) T, is done after ceil(k / N) T
// which is plan/seats.h without arrivals. It is computed by the recurrences that hold for equal times and a queue, where
// calls end in the order in which they began: call j sits down when call j - N has got up, user k comes in when user
// k - R has got everything,
//     sits(j) = max(in(k), sits(j - N) + hold),  done(j) = sits(j) + T,  in(k) = max(came(k), done(k - R))
// in O(calls) for any number of seats, where seats.h takes O(calls * seats); tests hold one against the other.
//
// A limit per minute is a fraction of a seat too (R a minute are R T / 60 calls at once, Little 1961): ceil(N) seats, each
// held for T ceil(N) / N, let exactly N / T calls a second through.
#pragma once
#include "base/attr.h"

struct burst {
    unsigned users, calls; // of each
    uint64_t service_ns;   // of a call
    uint64_t apart_ns;     // between two users' coming; 0: they come together
    unsigned requests;     // let in at once; 0: all
    double seats;          // calls at once; 0: all
};

struct burst_user {
    uint64_t came_ns; // since the first one came
    uint64_t wait_ns; // what he loses to others: done_ns - service_ns
    uint64_t done_ns; // his last call, since he came
};

// users of them, in the order in which they are served.
void burst_fill(const struct burst *b, struct burst_user *v);

struct burst_sum {
    unsigned waited;
    uint64_t wall_ns, mean_ns,
        longest_ns; // from the first coming to the last one done; a user on average; the longest wait
};
struct burst_sum burst_sum(const struct burst_user *v, unsigned users);
