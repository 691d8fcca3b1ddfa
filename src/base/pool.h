// SPDX-License-Identifier: MIT
// Objects of one size that come and go by the thousand: a stack of freed ones, at most `keep` of them. Last freed is
// first used again, still in the cache. One thread's own.
#pragma once
#include <stdbool.h>

#include "base/attr.h"

struct pool {
    void *free;     // each free object begins with a pointer to the next
    size_t size;    // of an object, at least a pointer
    unsigned count; // free ones
    unsigned keep;  // free ones that are not given back to the heap
};

static inline void pool_init(struct pool *p, size_t size, unsigned keep) {
    *p = (struct pool){.size = size, .keep = keep};
}
void pool_finish(struct pool *p);
// Zeroed.
void *pool_take(struct pool *p);
void pool_give(struct pool *p, void *object);
