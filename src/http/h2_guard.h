// SPDX-License-Identifier: MIT
// What a client may cost that sends frames instead of requests. Bytes are looked at before nghttp2 gets them, frame by
// frame, so that every kind is seen, those that it knows how to ignore too; Debian's nghttp2 has no such limits
// (facts A20-A25), and it knows streams that were closed no more (RFC 9113 section 5.1). Two buckets: resets (rapid reset, MadeYouReset) and glitches, which are frames that are legal and do
// nothing. Requests, and bytes of answers, earn what a client may spend on windows and pings.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GUARD_RESETS = 1000,     // at once,
    GUARD_RESETS_PER_S = 33, // then so many
    GUARD_GLITCHES = 1000,   // at once,
    GUARD_GLITCHES_PER_S = 330,
    GUARD_CONTINUATIONS = 8, // of one head
    GUARD_TINY = 16,         // bytes of a DATA frame that is none worth sending
    GUARD_EARNED_BY_REQUEST = 8,
    GUARD_EARNED_BY_DATA = 4,
    GUARD_OPEN = 16, // streams that are remembered
};

struct h2_bucket {
    unsigned left;
    uint64_t filled_ms;
};

struct h2_guard {
    struct h2_bucket resets, glitches;
    uint64_t skip;     // bytes until the next frame's head
    size_t head_bytes; // of the head that is arriving
    size_t head_most;
    unsigned char head[9];
    unsigned char have; // of head
    unsigned char continuations;
    bool settled;     // the first SETTINGS has come
    uint32_t last_id; // of a stream
    // Streams that the client has not ended or reset, in a ring; up to `forgotten` all may be. Others it must not use again,
    // and we need not know what became of them here.
    uint32_t open[GUARD_OPEN];
    unsigned next;
    uint32_t forgotten;
};

// `head_most`: encoded bytes that one head may have.
void h2_guard_init(struct h2_guard *g, size_t head_most, uint64_t now_ms);
// Bytes that came. NULL: fine; else why the connection must end; *code, which is ENHANCE_YOUR_CALM, is changed where that
// is not the error.
const char *h2_guard_look(struct h2_guard *g, const char *bytes, size_t n, uint64_t now_ms, uint32_t *code);
// The client made us reset a stream. As above.
const char *h2_guard_reset(struct h2_guard *g, uint64_t now_ms);
// A DATA frame was sent: it will be answered by windows.
void h2_guard_data_sent(struct h2_guard *g);
