// SPDX-License-Identifier: MIT
// The arithmetic of waiting. Something that can do N things at once is N seats: a lock is one, asyncio's default pool
// min(32, cpus + 4), a provider's limit on calls in flight is so many. A call comes, waits for a seat, holds it for the
// whole of its service, and goes. Given when calls come and how long one takes, everything else follows, without
// chance; no I/O, no clock: the lab prints it beside what it measures, the planner and the prober stand on it.
//
// For n calls at once, service T, N seats, first come first served:
//     the k-th is done after          ceil(k / N) * T
//     the last one                    ceil(n / N) * T
//     on average                      T * (sum over k = 1..n of ceil(k / N)) / n
// For calls that come one after another, a distance D apart, on one seat: the k-th is done k * T - (k - 1) * D after
// it came, as long as D <= T. (50 calls of 5 s on 14 seats: 20 s, 11.6 s on average; on 10: 25 s and 15 s. Two calls of
// 60 s, 2 s apart, on one seat: the second takes 118 s.)
//
// A user who makes c calls in parallel is done with his last one; n users are n * c calls, in the order they came.
//
// Polling: where nobody hands the seat over and each waiter looks every P whether it is free, counted from his own
// coming, the seat stays empty until the next one looks, and who that is has nothing to do with who came first. Of
// waiters with phases at random, m of them, the first looks after P / (m + 1) on average; of waiters who came
// together, up to a whole P.
//
// Source: deterministic service makes this a D/D/N queue (Kendall 1953), which is simulated call by call, exactly; held
// against CPython's ThreadPoolExecutor in facts/baselines.md, section 2, and against real threads by `thaw lab --run`.
#pragma once
#include <stdbool.h>

#include "base/attr.h"

enum { SEATS_UNLIMITED = 0 };
#define SITTING_NOBODY UINT32_MAX

struct seats {
    unsigned count;      // SEATS_UNLIMITED: as many as come
    uint64_t service_ns; // how long a call holds its seat
    uint64_t poll_ns;    // how often a waiter looks; 0: the seat is handed over, first come first served
};

// One call's way: it came, sat down, was done. Times are from any one start.
struct sitting {
    unsigned user;
    unsigned seat;  // from 0
    uint32_t after; // the sitting it waited for: the one before on its seat; SITTING_NOBODY when it did not wait
    uint64_t arrived_ns, seated_ns, done_ns;
};

// Seats n calls: user and arrived_ns of each are set, in the order of coming (arrived_ns never decreases); the rest
// is filled in. Takes O(n * seats), with polling O(n * n).
void seats_fill(const struct seats *seats, struct sitting *v, size_t n);

// What the users saw, who counts a user's parallel calls as one: it is done when the last of them is.
struct waits {
    unsigned users;
    unsigned waited;     // users of whom a call waited for another's
    uint64_t wall_ns;    // from the first coming to the last one done
    uint64_t mean_ns;    // of users, from coming to done
    uint64_t max_ns;     // of users
    uint64_t longest_ns; // the longest wait of a call for its seat
    size_t longest;      // which one that was
    unsigned at_once;    // most calls that sat at the same time
};

// The calls of one user stand next to each other. n may be 0.
struct waits waits_of(const struct sitting *v, size_t n);
// The user is the `after` of the sitting, or SITTING_NOBODY.
static inline uint32_t sitting_waited_for(const struct sitting *v, size_t i) {
    return v[i].after == SITTING_NOBODY ? SITTING_NOBODY : v[v[i].after].user;
}
// How many wait at that moment for somebody.
unsigned sittings_waiting(const struct sitting *v, size_t n, uint64_t at_ns);
