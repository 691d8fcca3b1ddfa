// SPDX-License-Identifier: MIT
// A hash map whose nodes are embedded in what it holds: no memory but the table of buckets, which doubles as it fills.
// The caller brings well-mixed hashes (a digest's first bytes, a random id) and compares keys himself.
#pragma once
#include <stdbool.h>

#include "base/attr.h"

struct map_node {
    struct map_node *next;
    uint64_t hash;
};

struct map {
    struct map_node **buckets; // NULL while nothing was ever put in
    size_t room;               // of buckets, a power of two
    size_t count;
};

void map_init(struct map *m);
// Forgets the nodes; they are their owners'.
void map_finish(struct map *m);
void map_insert(struct map *m, struct map_node *node, uint64_t hash);
// The node must be in.
void map_remove(struct map *m, struct map_node *node);
// The first node with that hash; NULL if there is none.
struct map_node *map_find(const struct map *m, uint64_t hash);
// The next one with the same hash.
struct map_node *map_next(const struct map_node *node);
// All nodes in any order; `each` may remove the one it is given.
void map_each(struct map *m, void (*each)(void *context, struct map_node *node), void *context);
