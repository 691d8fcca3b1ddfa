// SPDX-License-Identifier: MIT
// How many calls at once an upstream takes, learned from how it answers. No clock, no lock: the gate's.
#pragma once
#include <stdbool.h>

#include "base/attr.h"

struct learn {
    double limit;
    unsigned epoch;  // the limit was lowered so many times
    double first_ms; // average first byte when it was not crowded; 0: unknown
};

enum { LEARN_BEGIN = 10, LEARN_MOST = 100 * 1000 };
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

static inline unsigned learn_limit(const struct learn *l) { return (unsigned)l->limit; }
static inline unsigned learn_epoch(const struct learn *l) { return l->epoch; }
