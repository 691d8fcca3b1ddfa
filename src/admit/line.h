// SPDX-License-Identifier: MIT
// A line of those who wait, in the order of their keys, that knows how many stand before each. A treap (Seidel and
// Aragon 1996) whose nodes are embedded in who stands in it and know the size of what hangs from them: all is done in
// O(log n), in no memory of its own. Not for several threads.
#pragma once
#include <stdbool.h>

#include "base/attr.h"

struct line_key {
    uint64_t round;  // lower ones first; of the same,
    uint64_t serial; // the lower one; no two have the same
};

struct stand { // embedded in who stands
    struct stand *left, *right;
    struct line_key key;
    uint32_t size; // of the subtree
    uint32_t heap; // nobody below has a higher one
};

struct line { // zeroed: empty
    struct stand *root;
};

static inline bool line_less(struct line_key a, struct line_key b) {
    return a.round != b.round ? a.round < b.round : a.serial < b.serial;
}
static inline unsigned line_size(const struct line *line) { return line->root ? line->root->size : 0; }
void line_insert(struct line *line, struct stand *stand, struct line_key key);
void line_remove(struct line *line, struct stand *stand); // it must be in
// NULL: empty.
struct stand *line_first(const struct line *line);
// How many have a lower key.
unsigned line_before(const struct line *line, struct line_key key);
