// SPDX-License-Identifier: MIT
// A growing byte buffer that owns its bytes and knows from the start how large it may get.
// Bytes are added at the end and may be consumed at the front. Past its cap an append fails with ERR_FULL
// and changes nothing; without memory with ERR_NOMEM and changes nothing. No cap is beyond 4 GiB: a held call has five
// buffers, mostly empty, and what they are themselves counts.
#pragma once
#include <stdarg.h>

#include "base/err.h"
#include "base/str.h"

struct buf {
    char *ptr;      // NULL while nothing was ever put in
    uint32_t start; // first byte not yet consumed
    uint32_t end;   // one past the last byte
    uint32_t room;  // bytes allocated
    uint32_t cap;   // most bytes it may ever hold
};

// Of a larger cap 4 GiB.
void buf_init(struct buf *b, size_t cap);
// Frees the bytes; the buffer is as after buf_init with the same cap.
void buf_finish(struct buf *b);

static inline size_t buf_len(const struct buf *b) { return b->end - b->start; }
static inline struct str buf_str(const struct buf *b) {
    return (struct str){b->ptr ? b->ptr + b->start : "", b->end - b->start};
}
static inline void buf_clear(struct buf *b) { b->start = b->end = 0; }

// Room for at least n more bytes at buf_tail().
MUSTCHECK enum err buf_grow(struct buf *b, size_t n); // where there is none yet
MUSTCHECK static inline enum err buf_reserve(struct buf *b, size_t n) {
    return LIKELY(b->ptr && b->room - b->end >= n) ? OK : buf_grow(b, n);
}
static inline char *buf_tail(struct buf *b) { return b->ptr + b->end; }
static inline void buf_added(struct buf *b, size_t n) { b->end += (uint32_t)n; }

MUSTCHECK static inline enum err buf_append(struct buf *b, const void *bytes, size_t n) {
    enum err e = n ? buf_reserve(b, n) : OK; // of nothing there may be no pointer
    if (n && e == OK) {
        memcpy(buf_tail(b), bytes, n);
        buf_added(b, n);
    }
    return e;
}
MUSTCHECK static inline enum err buf_str_append(struct buf *b, struct str s) { return buf_append(b, s.ptr, s.len); }
MUSTCHECK enum err buf_printf(struct buf *b, const char *format, ...) PRINTF(2, 3);
MUSTCHECK enum err buf_vprintf(struct buf *b, const char *format, va_list args) PRINTF(2, 0);
// Takes n bytes off the front.
void buf_consume(struct buf *b, size_t n);
// Only its first `len` bytes stay: what was appended behind them is taken back.
static inline void buf_truncate(struct buf *b, size_t len) { b->end = b->start + (uint32_t)len; }
