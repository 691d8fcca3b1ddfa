// SPDX-License-Identifier: MIT
// Chance that is the same in every run: a test sets the seed.
#pragma once
#include "base/attr.h"

static uint64_t seed = 1;
static inline size_t below(size_t n) { // xorshift64*
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (size_t)((seed * 2685821657736338717u) >> 33) % n;
}

static inline size_t some_size(void) { return below(4) ? below(300) : below(2) ? below(9000) : below(80000); }
