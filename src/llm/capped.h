// SPDX-License-Identifier: MIT
// Memory for reading one JSON document, private to llm/: first a piece of the caller's stack, then the heap,
// and never more than a cap altogether. The functions have the shape that yyjson_alc wants. yyjson gives
// memory back only when it is done, so what is freed is not handed out again: the cap is on the sum.
#pragma once
#include <stdbool.h>

#include "base/attr.h"

struct capped {
    char *room; // served first; aligned to 16; NULL with room_size 0 when there is none
    size_t room_size;
    size_t room_used;
    size_t left;   // bytes that may still be handed out
    bool over_cap; // a request was refused because of the cap
};

void capped_init(struct capped *c, char *room, size_t room_size, size_t cap);
void *capped_malloc(void *capped, size_t size);
void *capped_realloc(void *capped, void *p, size_t old_size, size_t size);
void capped_free(void *capped, void *p);
