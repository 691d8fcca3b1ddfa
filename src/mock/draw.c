// SPDX-License-Identifier: MIT
#include "mock/draw.h"

#include <endian.h>

#include "base/mem.h"

enum { KEYS_MAX = 1024 * 1024, FIRST_ROOM = 64 };

static const uint64_t GOLDEN = 0x9e3779b97f4a7c15u;

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t draw_bits(uint64_t key, uint64_t n) { return mix(key + (n + 1) * GOLDEN); }

double draw_unit(uint64_t key, uint64_t n) { return ((double)(draw_bits(key, n) >> 12) + 0.5) * 0x1p-52; }

uint64_t draw_key(uint64_t seed, struct str bytes) {
    uint64_t h = mix(seed + GOLDEN) ^ bytes.len;
    for (; bytes.len >= sizeof h; bytes = str_skip(bytes, sizeof h)) {
        uint64_t x;
        memcpy(&x, bytes.ptr, sizeof x);
        h = (h ^ le64toh(x)) * GOLDEN;
        h ^= h >> 32;
    }
    for (size_t i = 0; i < bytes.len; i++) {
        h = (h ^ (unsigned char)bytes.ptr[i]) * GOLDEN;
        h ^= h >> 32;
    }
    return mix(h);
}

// ---- counts

struct draw_count {
    uint64_t key;
    uint64_t count; // 0: a free slot
};

void draw_counts_finish(struct draw_counts *counts) {
    free(counts->slots);
    *counts = (struct draw_counts){.slots = NULL};
}

// The key's slot, or the free one where it belongs.
static struct draw_count *find(const struct draw_counts *counts, uint64_t key) {
    size_t at = key & (counts->room - 1);
    while (counts->slots[at].count && counts->slots[at].key != key) {
        at = (at + 1) & (counts->room - 1);
    }
    return &counts->slots[at];
}

static bool grow(struct draw_counts *counts) {
    struct draw_counts more = {.room = counts->room ? counts->room * 2 : FIRST_ROOM, .used = counts->used};
    more.slots = try_malloc(more.room * sizeof *more.slots);
    if (!more.slots) {
        return false;
    }
    memset(more.slots, 0, more.room * sizeof *more.slots);
    for (size_t i = 0; i < counts->room; i++) {
        if (counts->slots[i].count) {
            *find(&more, counts->slots[i].key) = counts->slots[i];
        }
    }
    free(counts->slots);
    *counts = more;
    return true;
}

uint64_t draw_count(struct draw_counts *counts, uint64_t key) {
    struct draw_count *slot = counts->room ? find(counts, key) : NULL;
    if (slot && slot->count) {
        return slot->count++;
    }
    if (counts->used == KEYS_MAX) {
        return 0;
    }
    if (counts->used * 4 >= counts->room * 3) {
        if (!grow(counts)) {
            return 0;
        }
        slot = find(counts, key);
    }
    *slot = (struct draw_count){.key = key, .count = 1};
    counts->used++;
    return 0;
}
