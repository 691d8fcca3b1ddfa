// SPDX-License-Identifier: MIT
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>

#include "base/mem.h"

enum { FIRST_ROOM = 256 };

void buf_init(struct buf *b, size_t cap) { *b = (struct buf){.cap = (uint32_t)MIN(cap, (size_t)UINT32_MAX)}; }

void buf_finish(struct buf *b) {
    free(b->ptr);
    buf_init(b, b->cap);
}

enum err buf_reserve(struct buf *b, size_t n) {
    size_t len = buf_len(b);
    if (b->room - b->end >= n && b->ptr) {
        return OK;
    }
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
    free(b->ptr);
    *b = (struct buf){.ptr = ptr, .end = (uint32_t)len, .room = (uint32_t)room, .cap = b->cap};
    return OK;
}

enum err buf_append(struct buf *b, const void *bytes, size_t n) {
    if (n == 0) {
        return OK;
    }
    enum err e = buf_reserve(b, n);
    if (e == OK) {
        memcpy(buf_tail(b), bytes, n);
        buf_added(b, n);
    }
    return e;
}

enum err buf_printf(struct buf *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        return ERR_INVALID;
    }
    enum err e = buf_reserve(b, (size_t)n);
    if (e != OK) {
        return e;
    }
    va_start(args, format);
    (void)vsnprintf(buf_tail(b), (size_t)n + 1, format, args);
    va_end(args);
    buf_added(b, (size_t)n);
    return OK;
}

void buf_consume(struct buf *b, size_t n) {
    assert(n <= buf_len(b));
    b->start += (uint32_t)n;
    if (b->start == b->end) {
        buf_clear(b);
    }
}
