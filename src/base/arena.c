// SPDX-License-Identifier: MIT
#include "base/arena.h"

#include <stdalign.h>

#include "base/mem.h"

enum { BLOCK_SIZE = 4096 };

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t room;
    alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *a, size_t cap) { *a = (struct arena){.cap = cap}; }

void arena_finish(struct arena *a) {
    while (a->blocks) {
        struct arena_block *next = a->blocks->next;
        free(a->blocks);
        a->blocks = next;
    }
    a->used = 0;
}

void *arena_alloc(struct arena *a, size_t size) {
    const size_t align = alignof(max_align_t);
    if (size > SIZE_MAX / 2) {
        return NULL; // rounding up would wrap
    }
    size = (size + align - 1) & ~(align - 1);
    if (size > a->cap - a->used) {
        return NULL;
    }
    struct arena_block *block = a->blocks;
    if (!block || block->room - block->used < size) {
        size_t room = MAX(size, (size_t)BLOCK_SIZE - sizeof *block);
        block = try_malloc(sizeof *block + room);
        if (!block) {
            return NULL;
        }
        *block = (struct arena_block){.next = a->blocks, .room = room};
        a->blocks = block;
    }
    void *p = block->bytes + block->used;
    block->used += size;
    a->used += size;
    memset(p, 0, size);
    return p;
}

struct str arena_str(struct arena *a, struct str s) {
    char *copy = arena_alloc(a, s.len + 1);
    if (!copy) {
        return (struct str){NULL, 0};
    }
    if (s.len) {
        memcpy(copy, s.ptr, s.len);
    }
    return (struct str){copy, s.len};
}
