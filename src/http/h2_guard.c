// SPDX-License-Identifier: MIT
#include "http/h2_guard.h"

#include "base/str.h"

enum {
    PREFACE_BYTES = 24,
    FRAME_HEAD = 9,
    FLAG_ACK = 1,
    FLAG_END_STREAM = 1,
};

// RFC 9113 section 6.
enum frame_type {
    FRAME_DATA,
    FRAME_HEADERS,
    FRAME_PRIORITY,
    FRAME_RST_STREAM,
    FRAME_SETTINGS,
    FRAME_PUSH_PROMISE,
    FRAME_PING,
    FRAME_GOAWAY,
    FRAME_WINDOW_UPDATE,
    FRAME_CONTINUATION,
};

static bool take(struct h2_bucket *b, unsigned burst, unsigned per_s, uint64_t now_ms) {
    uint64_t earned = (now_ms - b->filled_ms) * per_s / 1000;
    if (earned) {
        b->left = MAX(b->left, (unsigned)MIN(b->left + earned, (uint64_t)burst)); // what answers earned stays
        b->filled_ms = now_ms;
    }
    if (b->left == 0) {
        return false;
    }
    b->left--;
    return true;
}

static void earn(struct h2_bucket *b, unsigned n) { b->left = MIN(b->left + n, 10u * GUARD_GLITCHES); }

static const char *glitch(struct h2_guard *g, uint64_t now_ms) {
    return take(&g->glitches, GUARD_GLITCHES, GUARD_GLITCHES_PER_S, now_ms) ? NULL : "too many frames that do nothing";
}

const char *h2_guard_reset(struct h2_guard *g, uint64_t now_ms) {
    return take(&g->resets, GUARD_RESETS, GUARD_RESETS_PER_S, now_ms) ? NULL : "too many streams were reset";
}

void h2_guard_data_sent(struct h2_guard *g) { earn(&g->glitches, GUARD_EARNED_BY_DATA); }

void h2_guard_init(struct h2_guard *g, size_t head_most, uint64_t now_ms) {
    *g = (struct h2_guard){
        .resets = {GUARD_RESETS, now_ms},
        .glitches = {GUARD_GLITCHES, now_ms},
        .skip = PREFACE_BYTES,
        .head_most = head_most,
    };
}

static const char *head_grows(struct h2_guard *g, size_t len) {
    g->head_bytes += len;
    return g->head_bytes > g->head_most ? "a head is far larger than the limit" : NULL;
}

static const char *see_continuation(struct h2_guard *g, size_t len) {
    if (++g->continuations > GUARD_CONTINUATIONS) {
        return "a head comes in too many pieces";
    }
    return head_grows(g, len);
}

static const char *see_headers(struct h2_guard *g, size_t len) {
    g->continuations = 0;
    g->head_bytes = 0;
    earn(&g->glitches, GUARD_EARNED_BY_REQUEST);
    return head_grows(g, len);
}

// A SETTINGS each turn is as good as a PING: but the first one belongs to it.
static bool is_first_settings(struct h2_guard *g) {
    bool first = !g->settled;
    g->settled = true;
    return first;
}

static const char *see(struct h2_guard *g, size_t len, unsigned type, unsigned flags, uint64_t now_ms) {
    switch (type) { // the peer's, not an enum
    case FRAME_DATA: return len < GUARD_TINY && !(flags & FLAG_END_STREAM) ? glitch(g, now_ms) : NULL;
    case FRAME_HEADERS: return see_headers(g, len);
    case FRAME_CONTINUATION: return see_continuation(g, len);
    case FRAME_RST_STREAM: return h2_guard_reset(g, now_ms);
    case FRAME_SETTINGS: return (flags & FLAG_ACK) || is_first_settings(g) ? NULL : glitch(g, now_ms);
    default: return glitch(g, now_ms); // PING and its ACK, PRIORITY, WINDOW_UPDATE, GOAWAY, what nobody knows
    }
}

static const char *see_head(struct h2_guard *g, uint64_t now_ms) {
    size_t len = (size_t)g->head[0] << 16 | (size_t)g->head[1] << 8 | g->head[2];
    g->skip = len;
    g->have = 0;
    return see(g, len, g->head[3], g->head[4], now_ms);
}

const char *h2_guard_look(struct h2_guard *g, const char *bytes, size_t n, uint64_t now_ms) {
    const char *problem = NULL;
    while (n && !problem) {
        size_t part = (size_t)MIN(g->skip, (uint64_t)n);
        if (part == 0) {
            part = MIN(n, (size_t)FRAME_HEAD - g->have);
            memcpy(g->head + g->have, bytes, part);
            g->have = (unsigned char)(g->have + part);
            problem = g->have == FRAME_HEAD ? see_head(g, now_ms) : NULL;
        } else {
            g->skip -= part;
        }
        bytes += part;
        n -= part;
    }
    return problem;
}
