// SPDX-License-Identifier: MIT
// How many calls at once an upstream takes, learned from how it answers: arithmetic alone, no clock and no lock.
//
// Refusals (429, 503) and timeouts say it outright. An upstream that takes everything and lets it wait says it by its
// first bytes: what they take beyond what they take when it is not crowded was spent waiting in a queue over there. By
// Little's law so many of our calls stand in it:
//
//     queued = crowd * waited / (service + waited)      crowd: our calls in flight; averages
//
// whatever the ratio of first byte and whole answer is. How long the answers are is only the unit of it. What it can
// serve at once is crowd - queued. docs/internals/queue.md has the rules, what they do, and where they end.
#pragma once
#include <stdbool.h>

#include "base/attr.h"

enum { LEARN_BEGIN = 10, LEARN_MOST = 100 * 1000 };

struct learn {
    unsigned limit;
    unsigned good;  // what it took well, as far as is known; the limit is above it while more is tried
    unsigned calm;  // calls that went in among no more than this many say how fast it is when it is not crowded
    unsigned tried; // how often more was tried since the limit was lowered, and nothing happened
    unsigned step;  // by how much, the last time
    unsigned hold;  // so many more times `good` is to prove itself before more is tried
    unsigned epoch; // counts the changes of the limit
    // First byte of calm calls: average and variance, of how many (0: unknown).
    double calm_ms, calm_variance;
    unsigned calm_count;
    double service_ms; // a whole call but for its waiting over there; average
    // Calls that were sent since the limit changed and ended while it was in full use.
    double crowd, waited_ms;
    unsigned count;
    // The last few calls, whenever they were sent: the share of their time that was waiting, and how many are served at
    // once by that.
    double lately_waited, lately_served;
    unsigned lately_count;
};

void learn_init(struct learn *l, unsigned limit); // 0: LEARN_BEGIN

struct learn_sample {
    bool well, overloaded;  // or neither
    uint64_t first_byte_ms; // 0: unknown
    uint64_t total_ms;
    unsigned crowd; // calls that were in when it went in, with it
    unsigned in;    // when it left, with it
    unsigned epoch; // when it went in
};
void learn_answer(struct learn *l, const struct learn_sample *sample);

static inline unsigned learn_limit(const struct learn *l) { return l->limit; }
static inline unsigned learn_epoch(const struct learn *l) { return l->epoch; }
