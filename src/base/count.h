// SPDX-License-Identifier: MIT
// A number that one thread changes and any may read: a load and a store, no lock, no locked instruction. Several of them
// read together need not fit each other.
#pragma once
#include <stdatomic.h>

#include "base/attr.h"

struct count {
    _Atomic uint64_t n;
};

static inline uint64_t count_of(const struct count *c) { return atomic_load_explicit(&c->n, memory_order_relaxed); }
// Its own thread only.
static inline void count_set(struct count *c, uint64_t n) { atomic_store_explicit(&c->n, n, memory_order_relaxed); }
static inline void count_add(struct count *c, uint64_t n) { count_set(c, count_of(c) + n); }
static inline void count_take(struct count *c, uint64_t n) { count_set(c, count_of(c) - n); }
