// SPDX-License-Identifier: MIT
#include "base/map.h"

#include <assert.h>

#include "base/mem.h"

enum { ROOM_MIN = 16 };

void map_init(struct map *m) { *m = (struct map){0}; }

void map_finish(struct map *m) {
    free(m->buckets);
    map_init(m);
}

static struct map_node **bucket(const struct map *m, uint64_t hash) { return &m->buckets[hash & (m->room - 1)]; }

static void put(struct map *m, struct map_node *node) {
    struct map_node **at = bucket(m, node->hash);
    node->next = *at;
    *at = node;
}

static void grow(struct map *m) {
    struct map_node **old = m->buckets;
    size_t old_room = m->room;
    m->room = MAX(old_room * 2, (size_t)ROOM_MIN);
    m->buckets = xcalloc(m->room, sizeof *m->buckets);
    for (size_t i = 0; i < old_room; i++) {
        for (struct map_node *node = old[i], *next; node; node = next) {
            next = node->next;
            put(m, node);
        }
    }
    free(old);
}

void map_insert(struct map *m, struct map_node *node, uint64_t hash) {
    if (m->count == m->room) {
        grow(m);
    }
    node->hash = hash;
    put(m, node);
    m->count++;
}

void map_remove(struct map *m, struct map_node *node) {
    struct map_node **at = bucket(m, node->hash);
    while (*at != node) {
        assert(*at);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    m->count--;
}

static struct map_node *same_hash(struct map_node *node, uint64_t hash) {
    while (node && node->hash != hash) {
        node = node->next;
    }
    return node;
}

struct map_node *map_find(const struct map *m, uint64_t hash) {
    return m->room ? same_hash(*bucket(m, hash), hash) : NULL;
}

struct map_node *map_next(const struct map_node *node) {
    return same_hash(node->next, node->hash);
}

void map_each(struct map *m, void (*each)(void *context, struct map_node *node), void *context) {
    for (size_t i = 0; i < m->room; i++) {
        for (struct map_node *node = m->buckets[i], *next; node; node = next) {
            next = node->next;
            each(context, node);
        }
    }
}
