// SPDX-License-Identifier: MIT
// Memory that is given back all at once: what belongs to one request, one configuration, one parse.
// No allocation is freed by itself. The cap counts everything handed out; past it ERR-style NULL is returned.
#pragma once
#include "base/str.h"

struct arena_block;
struct arena {
    struct arena_block *blocks;
    size_t used; // bytes handed out, with alignment
    size_t cap;
};

void arena_init(struct arena *a, size_t cap);
void arena_finish(struct arena *a);

// Zeroed, aligned for any type; NULL past the cap or without memory.
MUSTCHECK void *arena_alloc(struct arena *a, size_t size);
// A copy of s with a terminator behind it; .ptr is NULL on failure.
MUSTCHECK struct str arena_str(struct arena *a, struct str s);
