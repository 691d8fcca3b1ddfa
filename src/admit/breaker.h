// SPDX-License-Identifier: MIT
// An upstream that failed so many times in a row rests: nobody asks it for a while, then one call tries it. What a client
// does never counts. Shared by the workers without a lock: a few atomics, read once per call.
//
//     CLOSED --failures in a row--> OPEN --rest_ms--> HALF_OPEN (one trial) --well--> CLOSED
//                                    ^                     |
//                                    +------failed---------+
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

#include "base/attr.h"

struct breaker { // zeroed: closed
    atomic_uint failures;
    atomic_uint_fast64_t open_until_ms; // 0: closed
    atomic_bool trial;                  // one is under way
};

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

// Reports of calls that were sent before it opened change nothing while it is open or half-open without a trial.
//
// May a call be sent? Of a half-open one the first who asks may; *trial says that he is the one, and must report, or
// breaker_forget. failures_max 0: always.
MUSTCHECK bool breaker_admits(struct breaker *b, unsigned failures_max, uint64_t now_ms, bool *trial);
// A connection that could not be made, a 5xx, a timeout, a lost call; or an answer. 429 is neither: see the gate.
void breaker_failed(struct breaker *b, unsigned failures_max, uint64_t rest_ms, uint64_t now_ms);
void breaker_worked(struct breaker *b);
// The trial's client left before it was known.
void breaker_forget(struct breaker *b);
enum breaker_state breaker_state(const struct breaker *b, uint64_t now_ms);
// How long it still rests; 0: it does not.
uint64_t breaker_rests_ms(const struct breaker *b, uint64_t now_ms);
