// SPDX-License-Identifier: MIT
#include "base/pool.h"

#include "base/mem.h"

void pool_finish(struct pool *p) {
    while (p->free) {
        void *next = *(void **)p->free;
        free(p->free);
        p->free = next;
    }
    p->count = 0;
}

void *pool_take(struct pool *p) {
    void *object = p->free;
    if (!object) {
        return xcalloc(1, p->size);
    }
    p->free = *(void **)object;
    p->count--;
    return memset(object, 0, p->size);
}

void pool_give(struct pool *p, void *object) {
    if (p->count == p->keep) {
        mem_free(object, p->size);
        return;
    }
    *(void **)object = p->free;
    p->free = object;
    p->count++;
}
