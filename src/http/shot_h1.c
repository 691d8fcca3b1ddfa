// SPDX-License-Identifier: MIT
// A shot over HTTP/1.1. Held back is what follows `held_from` of head and body; `parser` is there from the first byte of
// the answer on.
#include "http/h1.h"
#include "http/shot_way.h"

enum { READS_PER_TURN = 8, INTERIM_MAX = 16, HEAD_CAP = 1024 * 1024 };

static size_t whole(const struct shot *s) { return buf_len(&s->wire) + buf_len(&s->body); }

// ---- the answer

// Up to the end of one message, which may be an interim one. False: it is over.
static bool feed_message(struct shot *s, char *bytes, size_t n, size_t *used) {
    struct h1_result r;
    enum err e = h1_feed(s->parser, bytes, n, &r);
    uint64_t now = shot_arrived_ns(s);
    if (e != OK) {
        shot_fail(s, now, e, "its answer is not HTTP: %s", h1_problem(s->parser));
        return false;
    }
    *used = r.used;
    if (r.head_done && h1_head(s->parser)->status < 200) {
        if (++s->interim > INTERIM_MAX) {
            shot_fail(s, now, ERR_PROTOCOL, "too many interim answers");
            return false;
        }
        h1_reset(s->parser);
        return true;
    }
    if (r.head_done) {
        shot_take_head(s, h1_head(s->parser));
    }
    shot_take_body(s, r.body);
    if (r.end) {
        shot_end(s, now);
    }
    return !r.end;
}

static void feed(struct shot *s, char *bytes, size_t n) {
    static const struct http_limits limits = HTTP_LIMITS_DEFAULT;
    if (!s->parser) {
        s->first_byte_ns = shot_arrived_ns(s);
        s->parser = h1_create(H1_RESPONSE, &limits);
        if (!s->parser) {
            shot_fail(s, s->first_byte_ns, ERR_NOMEM, "out of memory");
            return;
        }
        if (s->head->method == METHOD_HEAD) {
            h1_expect_no_body(s->parser);
        }
    }
    size_t used = 0;
    for (; n && feed_message(s, bytes, n, &used); n -= used) {
        bytes += used;
    }
}

static void on_eof(struct shot *s, enum err e) {
    struct h1_result r = {.end = false};
    uint64_t now = shot_arrived_ns(s);
    bool orderly = e == ERR_EOF;
    if (s->state != SHOT_RELEASED || s->sent < whole(s)) {
        shot_fail(s, now, ERR_RESET, "it closed the connection before the request was there");
    } else if (!s->parser || !h1_begun(s->parser)) {
        shot_fail(s, now, ERR_RESET, "it %s the connection without an answer", orderly ? "closed" : "reset");
    } else if (orderly && h1_feed_eof(s->parser, &r) == OK) {
        shot_end(s, now);
    } else {
        shot_fail(s, now, ERR_CUT, "it %s the connection in the middle of its answer", orderly ? "closed" : "reset");
    }
}

static void read_some(struct shot *s) {
    char *into = s->aim.loop->read_buffer;
    for (int i = 0; s->state == SHOT_LOADED || s->state == SHOT_RELEASED; i++) {
        size_t n = 0;
        if (i == READS_PER_TURN) {
            loop_defer(s->aim.loop, &s->work);
            return;
        }
        enum err e = conn_read(s->conn, into, LOOP_READ_BUFFER, &n);
        if (e == ERR_AGAIN) {
            return;
        }
        if (e != OK) {
            on_eof(s, e);
        } else if (s->state == SHOT_LOADED) {
            shot_fail(s, shot_arrived_ns(s), ERR_PROTOCOL, "it answered before the request was there");
        } else {
            feed(s, into, n);
        }
    }
}

// ---- the request

// How much of it may leave before the release.
static size_t held_from(const struct shot *s) {
    return buf_len(&s->body) > SHOT_HELD_MOST ? whole(s) - 1 : buf_len(&s->wire) - 1;
}

// What has failed is found by reading: an answer may be there all the same.
static void push(struct shot *s) {
    size_t to = s->state == SHOT_RELEASED ? whole(s) : held_from(s);
    size_t head = buf_len(&s->wire);
    struct str left[] = {
        str_skip(str_first(buf_str(&s->wire), to), s->sent),
        str_skip(str_first(buf_str(&s->body), to - MIN(to, head)), s->sent - MIN(s->sent, head)),
    };
    struct iovec v[ARRAY_LEN(left)];
    size_t written = 0;
    int count = 0;
    for (size_t i = 0; i < ARRAY_LEN(left); i++) {
        if (left[i].len) {
            v[count++] = (struct iovec){(void *)(uintptr_t)left[i].ptr, left[i].len};
        }
    }
    if (!count || s->blocked) {
        return;
    }
    enum err e = conn_writev(s->conn, v, count, &written);
    s->sent += written;
    s->blocked = e == OK && written < left[0].len + left[1].len;
    if (e != OK) {
        loop_defer(s->aim.loop, &s->work);
    }
    if (s->sent == whole(s)) {
        s->sent_ns = shot_clock_ns(s);
    }
}

static void on_event(struct conn *c, unsigned events) {
    struct shot *s = c->owner;
    if ((events & CONN_WRITABLE) && s->blocked) {
        s->blocked = false;
        push(s);
    }
    if (events & (CONN_READABLE | CONN_HUP)) {
        read_some(s);
    }
}

static void open_h1(struct shot *s) {
    enum h1_framing framing;
    buf_init(&s->wire, HEAD_CAP);
    enum err e = s->head ? h1_write_request(&s->wire, s->head, true, &framing) : OK;
    if (e != OK) {
        shot_fail(s, shot_clock_ns(s), e, "the request: %s", err_text(e));
        return;
    }
    s->conn->owner = s;
    s->conn->on_event = on_event;
    shot_loaded(s);
}

static void shut(struct shot *s) {
    conn_close(s->conn);
    h1_destroy(s->parser);
    s->parser = NULL;
    buf_finish(&s->wire);
}

const struct shot_way shot_h1 = {SHOT_HTTP_1, open_h1, push, read_some, shut};
