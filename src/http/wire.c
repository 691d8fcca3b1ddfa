// SPDX-License-Identifier: MIT
#include "http/wire.h"

#include <assert.h>

enum {
    PENDING_CAP = 256 * 1024, // a head and some framing; heads are limited to less where they come in
    IOV_MAX_PARTS = 16,
    CHUNK_HEAD = 20, // 16 hex digits, CRLF
};

void wire_init(struct wire *w) {
    *w = (struct wire){.state = WIRE_IDLE};
    buf_init(&w->pending, PENDING_CAP);
}

void wire_finish(struct wire *w) { buf_finish(&w->pending); }

static void wire_set_state(struct wire *w, enum wire_state state) { w->state = state; }

void wire_reset(struct wire *w) {
    assert(buf_len(&w->pending) == 0);
    w->left = 0;
    w->blocked = false;
    w->untouched = false;
    wire_set_state(w, WIRE_IDLE);
}

void wire_begin(struct wire *w, enum h1_framing framing, int64_t body_len) {
    assert(w->state == WIRE_IDLE);
    w->framing = framing;
    w->left = framing == H1_LENGTH ? (uint64_t)body_len : 0;
    w->untouched = !w->blocked; // else a part of an interim head before it is out already
    wire_set_state(w, WIRE_BODY);
}

bool wire_retract(struct wire *w) {
    if (w->state != WIRE_BODY || !w->untouched) {
        return false;
    }
    buf_finish(&w->pending);
    wire_set_state(w, WIRE_IDLE);
    return true;
}

void wire_break(struct wire *w) {
    buf_finish(&w->pending);
    wire_set_state(w, WIRE_BROKEN);
}

bool wire_flush(struct wire *w, struct conn *c) {
    struct str bytes = buf_str(&w->pending);
    struct iovec v = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    size_t written = 0;
    if (bytes.len == 0) {
        w->blocked = false;
        return true;
    }
    w->untouched = false;
    if (conn_writev(c, &v, 1, &written) != OK) {
        wire_break(w);
        return false;
    }
    buf_consume(&w->pending, written);
    w->blocked = written < bytes.len;
    if (!w->blocked) {
        buf_finish(&w->pending);
    }
    return !w->blocked;
}

// One write: what is pending, `body` (borrowed), and framing behind it.
struct parcel {
    struct iovec v[IOV_MAX_PARTS + 3];
    int count;
    size_t body; // bytes of the owner in it
};

static void parcel_add(struct parcel *p, const void *bytes, size_t n) {
    if (n) {
        p->v[p->count++] = (struct iovec){(void *)(uintptr_t)bytes, n};
    }
}

// At most `most` bytes of the body; true if that is all of it.
static bool parcel_add_body(struct parcel *p, const struct iovec *v, int count, uint64_t most) {
    for (int i = 0; i < count; i++) {
        size_t n = (size_t)MIN((uint64_t)v[i].iov_len, most - p->body);
        parcel_add(p, v[i].iov_base, n);
        p->body += n;
        if (n < v[i].iov_len) {
            return false;
        }
    }
    return true;
}

// Writes pending + before + body + after. What of the framing was not taken becomes pending; returns how much of the
// body was.
static size_t post(struct wire *w, struct conn *c, struct parcel *p, struct str before, struct str after) {
    struct iovec all[IOV_MAX_PARTS + 3];
    struct str pending = buf_str(&w->pending);
    int count = 0;
    size_t written = 0;
    const struct str parts[] = {pending, before};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (parts[i].len) {
            all[count++] = (struct iovec){(void *)(uintptr_t)parts[i].ptr, parts[i].len};
        }
    }
    for (int i = 0; i < p->count; i++) {
        all[count++] = p->v[i];
    }
    if (after.len) {
        all[count++] = (struct iovec){(void *)(uintptr_t)after.ptr, after.len};
    }
    w->untouched = false;
    if (count && conn_writev(c, all, count, &written) != OK) {
        wire_break(w);
        return 0;
    }
    size_t head = pending.len + before.len;
    size_t total = head + p->body + after.len;
    w->blocked = written < total;
    if (LIKELY(!w->blocked)) {
        buf_finish(&w->pending);
        return p->body;
    }
    buf_consume(&w->pending, MIN(written, pending.len));
    size_t body = written > head ? MIN(written - head, p->body) : 0;
    struct str before_rest = str_skip(before, written > pending.len ? written - pending.len : 0);
    struct str after_rest = {NULL, 0}; // only once all of the body is out does the framing behind it count
    if (body == p->body) {
        after_rest = str_skip(after, written > head + p->body ? written - head - p->body : 0);
    }
    if (buf_str_append(&w->pending, before_rest) != OK || buf_str_append(&w->pending, after_rest) != OK) {
        wire_break(w);
        return 0;
    }
    return body;
}

static size_t iov_total(const struct iovec *v, int count) {
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        n += v[i].iov_len;
    }
    return n;
}

// Not what Content-Length said: never let it run over, never let it look complete.
static size_t send_length(struct wire *w, struct conn *c, const struct iovec *v, int count, bool end) {
    struct parcel p = {.count = 0};
    if (iov_total(v, count) > w->left) {
        wire_break(w);
        return 0;
    }
    bool whole = parcel_add_body(&p, v, count, w->left);
    size_t taken = post(w, c, &p, STR(""), STR(""));
    if (w->state == WIRE_BROKEN) {
        return 0;
    }
    w->left -= taken;
    if (end && whole && taken == p.body) {
        if (w->left) {
            wire_break(w);
        } else {
            wire_set_state(w, WIRE_DONE);
        }
    }
    return taken;
}

static size_t send_until_close(struct wire *w, struct conn *c, const struct iovec *v, int count, bool end) {
    struct parcel p = {.count = 0};
    bool whole = parcel_add_body(&p, v, count, UINT64_MAX);
    size_t taken = post(w, c, &p, STR(""), STR(""));
    if (whole && end && taken == p.body && w->state != WIRE_BROKEN) {
        wire_set_state(w, WIRE_DONE);
    }
    return taken;
}

static size_t chunk_head(char out[CHUNK_HEAD], uint64_t n) {
    char digits[16];
    int len = 0;
    size_t at = 0;
    do {
        digits[len++] = "0123456789abcdef"[n & 15];
    } while ((n >>= 4));
    while (len) {
        out[at++] = digits[--len];
    }
    out[at++] = '\r';
    out[at++] = '\n';
    return at;
}

// One chunk per call. When the connection took only a part of a chunk, the owner offers at least the rest of it
// again: the next call continues the open chunk.
static size_t send_chunked(struct wire *w, struct conn *c, const struct iovec *v, int count, bool end) {
    char head[CHUNK_HEAD];
    struct parcel p = {.count = 0};
    size_t offered = iov_total(v, count);
    size_t head_len = 0;
    if (offered && !w->left) {
        w->left = offered;
        head_len = chunk_head(head, offered);
    }
    bool whole = parcel_add_body(&p, v, count, w->left);
    bool closes = p.body && p.body == w->left; // this parcel has the chunk's last byte
    bool last = end && whole;
    if (last && p.body < w->left) { // less than was offered when the chunk began
        wire_break(w);
        return 0;
    }
    struct str after = closes && last ? STR("\r\n0\r\n\r\n") : closes ? STR("\r\n") : last ? STR("0\r\n\r\n") : STR("");
    size_t taken = post(w, c, &p, str_from(head, head_len), after);
    if (w->state == WIRE_BROKEN) {
        return 0;
    }
    w->left -= taken;
    if (last && taken == p.body) {
        wire_set_state(w, WIRE_DONE);
    }
    return taken;
}

static size_t send_once(struct wire *w, struct conn *c, const struct iovec *v, int count, bool end) {
    switch (w->framing) {
    case H1_NO_BODY: // the answer to a HEAD: its body is swallowed
        wire_flush(w, c);
        if (end && w->state != WIRE_BROKEN) {
            wire_set_state(w, WIRE_DONE);
        }
        return iov_total(v, count);
    case H1_LENGTH: return send_length(w, c, v, count, end);
    case H1_CHUNKED: return send_chunked(w, c, v, count, end);
    case H1_UNTIL_CLOSE: return send_until_close(w, c, v, count, end);
    }
    return 0;
}

size_t wire_send(struct wire *w, struct conn *c, const struct iovec *v, int count, bool end) {
    assert(count <= IOV_MAX_PARTS);
    size_t taken = 0;
    if (w->state != WIRE_BODY) {
        return 0;
    }
    taken = send_once(w, c, v, count, end);
    // A continued chunk ends before what was offered: one more chunk for the rest.
    while (!w->blocked && w->state == WIRE_BODY && taken && taken < iov_total(v, count)) {
        struct iovec rest[IOV_MAX_PARTS];
        int n = 0;
        size_t skip = taken;
        for (int i = 0; i < count; i++) {
            size_t drop = MIN(skip, v[i].iov_len);
            skip -= drop;
            if (drop < v[i].iov_len) {
                rest[n++] = (struct iovec){(char *)v[i].iov_base + drop, v[i].iov_len - drop};
            }
        }
        taken += send_once(w, c, rest, n, end);
    }
    return taken;
}
