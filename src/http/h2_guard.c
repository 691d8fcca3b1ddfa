// SPDX-License-Identifier: MIT
#include "http/h2_guard.h"

#include "base/str.h"

enum {
    PREFACE_BYTES = 24,
    FRAME_HEAD = 9,
    FLAG_ACK = 1,
    FLAG_END_STREAM = 1,
    STREAM_CLOSED = 5, // RFC 9113 section 7
};

struct frame {
    size_t len;
    unsigned type, flags;
    uint32_t id;
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

// The first SETTINGS belongs to the hello.
static bool is_first_settings(struct h2_guard *g) {
    bool first = !g->settled;
    g->settled = true;
    return first;
}

static void open_stream(struct h2_guard *g, uint32_t id) {
    uint32_t *place = &g->open[g->next++ % GUARD_OPEN];
    g->forgotten = MAX(g->forgotten, *place);
    *place = id;
}

static bool is_open(const struct h2_guard *g, uint32_t id) {
    for (unsigned i = 0; i < GUARD_OPEN; i++) {
        if (g->open[i] == id) {
            return true;
        }
    }
    return id <= g->forgotten;
}

static void end_stream(struct h2_guard *g, uint32_t id) {
    for (unsigned i = 0; i < GUARD_OPEN; i++) {
        if (g->open[i] == id) {
            g->open[i] = 0;
        }
    }
}

// A frame of a message. False: the client has ended the stream, or passed it over. (One that has not begun is nghttp2's
// to refuse.)
static bool follow(struct h2_guard *g, const struct frame *f) {
    bool begins = f->type == FRAME_HEADERS && f->id > g->last_id;
    bool ends = f->type == FRAME_RST_STREAM || (f->flags & FLAG_END_STREAM);
    if (!begins && f->id <= g->last_id && f->type != FRAME_RST_STREAM && !is_open(g, f->id)) {
        return false;
    }
    if (begins) {
        g->last_id = f->id;
    }
    if (ends) {
        end_stream(g, f->id);
    } else if (begins) {
        open_stream(g, f->id);
    }
    return true;
}

static const char *weigh(struct h2_guard *g, const struct frame *f, uint64_t now_ms) {
    switch (f->type) { // the peer's, not an enum
    case FRAME_DATA: return f->len < GUARD_TINY && !(f->flags & FLAG_END_STREAM) ? glitch(g, now_ms) : NULL;
    case FRAME_HEADERS: return see_headers(g, f->len);
    case FRAME_CONTINUATION: return see_continuation(g, f->len);
    case FRAME_RST_STREAM: return h2_guard_reset(g, now_ms);
    case FRAME_SETTINGS: return (f->flags & FLAG_ACK) || is_first_settings(g) ? NULL : glitch(g, now_ms);
    default: return glitch(g, now_ms); // PING and its ACK, PRIORITY, WINDOW_UPDATE, GOAWAY, what nobody knows
    }
}

static const char *see(struct h2_guard *g, uint64_t now_ms, uint32_t *code) {
    const unsigned char *b = g->head;
    const struct frame f = {
        .len = (size_t)b[0] << 16 | (size_t)b[1] << 8 | b[2],
        .type = b[3],
        .flags = b[4],
        .id = ((uint32_t)b[5] << 24 | (uint32_t)b[6] << 16 | (uint32_t)b[7] << 8 | b[8]) & INT32_MAX,
    };
    bool message = f.type == FRAME_DATA || f.type == FRAME_HEADERS || f.type == FRAME_RST_STREAM;
    g->skip = f.len;
    g->have = 0;
    if (message && f.id && !follow(g, &f)) {
        *code = STREAM_CLOSED;
        return "a frame for a stream that is closed";
    }
    return weigh(g, &f, now_ms);
}

const char *h2_guard_look(struct h2_guard *g, const char *bytes, size_t n, uint64_t now_ms, uint32_t *code) {
    const char *problem = NULL;
    while (n && !problem) {
        size_t part = (size_t)MIN(g->skip, (uint64_t)n);
        if (part == 0) {
            part = MIN(n, (size_t)FRAME_HEAD - g->have);
            memcpy(g->head + g->have, bytes, part);
            g->have = (unsigned char)(g->have + part);
            problem = g->have == FRAME_HEAD ? see(g, now_ms, code) : NULL;
        } else {
            g->skip -= part;
        }
        bytes += part;
        n -= part;
    }
    return problem;
}
