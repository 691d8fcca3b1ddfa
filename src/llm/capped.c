// SPDX-License-Identifier: MIT
#include "llm/capped.h"

#include "base/mem.h"

enum { ALIGN = 16 };

static size_t aligned(size_t size) { return (size + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

static bool in_room(const struct capped *c, const void *p) {
    return c->room && (uintptr_t)p - (uintptr_t)c->room < c->room_size;
}

// Takes size bytes off what is left; false when it is less.
static bool charge(struct capped *c, size_t size) {
    if (size > c->left) {
        c->over_cap = true;
        return false;
    }
    c->left -= size;
    return true;
}

void capped_init(struct capped *c, char *room, size_t room_size, size_t cap) {
    *c = (struct capped){.room = room, .room_size = room_size, .left = cap};
}

void *capped_malloc(void *capped, size_t size) {
    struct capped *c = capped;
    if (!charge(c, size)) {
        return NULL;
    }
    if (size > c->room_size - c->room_used) {
        return try_malloc(size);
    }
    void *p = c->room + c->room_used;
    c->room_used = MIN(c->room_used + aligned(size), c->room_size);
    return p;
}

// Grows the room's latest piece where it lies, or moves any other one out.
static void *realloc_in_room(struct capped *c, void *p, size_t old_size, size_t size) {
    size_t at = (size_t)((char *)p - c->room);
    bool latest = at + aligned(old_size) >= c->room_used;
    if (latest && size <= c->room_size - at) {
        c->room_used = MIN(at + aligned(size), c->room_size);
        return p;
    }
    char *moved = try_malloc(size);
    if (moved) {
        memcpy(moved, p, MIN(old_size, size));
    }
    return moved;
}

void *capped_realloc(void *capped, void *p, size_t old_size, size_t size) {
    struct capped *c = capped;
    if (size > old_size && !charge(c, size - old_size)) {
        return NULL;
    }
    return in_room(c, p) ? realloc_in_room(c, p, old_size, size) : try_realloc(p, size);
}

void capped_free(void *capped, void *p) {
    if (!in_room(capped, p)) {
        free(p);
    }
}
