// SPDX-License-Identifier: MIT
#include "base/buf.h"

#include <assert.h>

#include "base/mem.h"

enum { FIRST_ROOM = 256 };

void buf_init(struct buf *b, size_t cap) { *b = (struct buf){.cap = (uint32_t)MIN(cap, (size_t)UINT32_MAX)}; }

void buf_finish(struct buf *b) {
    mem_free(b->ptr, (size_t)b->room + 1);
    buf_init(b, b->cap);
}

enum err buf_grow(struct buf *b, size_t n) {
    size_t len = buf_len(b);
    if (n > b->cap || len > b->cap - n) {
        return ERR_FULL;
    }
    if (b->start && b->room >= len + n) { // what was consumed makes enough room
        memmove(b->ptr, b->ptr + b->start, len);
        b->start = 0;
        b->end = (uint32_t)len;
        return OK;
    }
    size_t room = MAX(MAX((size_t)b->room * 2, len + n), (size_t)FIRST_ROOM);
    room = MIN(room, (size_t)b->cap);
    char *ptr = try_malloc(room + 1); // one more for the terminator that vsnprintf insists on
    if (!ptr) {
        return ERR_NOMEM;
    }
    if (len) {
        memcpy(ptr, b->ptr + b->start, len);
    }
    mem_free(b->ptr, (size_t)b->room + 1);
    *b = (struct buf){.ptr = ptr, .end = (uint32_t)len, .room = (uint32_t)room, .cap = b->cap};
    return OK;
}

enum err buf_vprintf(struct buf *b, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    enum err e = n < 0 ? ERR_INVALID : buf_reserve(b, (size_t)n);
    if (e == OK) {
        (void)vsnprintf(buf_tail(b), (size_t)n + 1, format, again);
        buf_added(b, (size_t)n);
    }
    va_end(again);
    return e;
}

enum err buf_printf(struct buf *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    enum err e = buf_vprintf(b, format, args);
    va_end(args);
    return e;
}

void buf_consume(struct buf *b, size_t n) {
    assert(n <= buf_len(b));
    b->start += (uint32_t)n;
    if (b->start == b->end) {
        buf_clear(b);
    }
}
