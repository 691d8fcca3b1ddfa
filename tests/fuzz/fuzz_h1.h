// SPDX-License-Identifier: MIT
// What the two HTTP/1 targets share: a stream of messages is read whole, byte by byte and in random pieces, each piece
// in memory of its own that is gone right after, and must say the same each time.
#pragma once
#include "base/buf.h"
#include "base/mem.h"
#include "fuzz.h"
#include "http/h1.h"

enum { LOG_MAX = 256 << 20, MESSAGES_MAX = 200 };

struct reading {
    struct buf log;
    enum err error; // of the last message; OK: it stopped between two
};

// Small, so that the input can reach them.
static const struct http_limits small = {.head_bytes = 600, .fields = 12, .target_bytes = 100};

static inline void log_str(struct buf *log, struct str s) {
    MUST(buf_printf(log, "%zu:", s.len) == OK);
    MUST(buf_str_append(log, s) == OK);
}

static inline void log_head(struct buf *log, const struct head *h) {
    log_str(log, h->method_name);
    log_str(log, h->target);
    log_str(log, h->authority);
    MUST(buf_printf(log, "%d %d %d %lld %d;", h->method, h->status, h->minor, (long long)h->body_len,
                    h->expect_continue) == OK);
    for (unsigned i = 0; i < h->fields.n; i++) {
        log_str(log, h->fields.v[i].name);
        log_str(log, h->fields.v[i].value);
    }
}

static inline void check_field(const struct field *f) {
    MUST(f->name.len > 0);
    for (size_t i = 0; i < f->name.len; i++) {
        unsigned char c = (unsigned char)f->name.ptr[i];
        MUST(c > 0x20 && c < 0x7f && c != ':' && c != '_');
    }
    for (size_t i = 0; i < f->value.len; i++) {
        unsigned char c = (unsigned char)f->value.ptr[i];
        MUST((c >= 0x20 && c != 0x7f) || c == '\t');
    }
    MUST(str_eq(str_trim(f->value), f->value));
    MUST(f->id == field_id(f->name));
}

static inline void check_head(enum h1_side side, const struct head *h) {
    MUST(h->body_len >= BODY_UNKNOWN);
    MUST(h->fields.n <= small.fields);
    for (unsigned i = 0; i < h->fields.n; i++) {
        check_field(&h->fields.v[i]);
    }
    if (side == H1_RESPONSE) {
        MUST(h->status >= 100 && h->status < 600 && h->status != 101);
        return;
    }
    MUST(h->method == method_parse(h->method_name) && h->method != METHOD_CONNECT);
    MUST(h->target.len > 0 && h->target.len <= small.target_bytes);
    MUST(h->target.ptr[0] == '/' || str_eq(h->target, STR("*")));
    MUST(h->minor == 0 ? h->authority.len == 0 || authority_valid(h->authority) : authority_valid(h->authority));
    MUST(!h->expect_continue || h->body_len != 0);
}

// Feeds the rest of the stream to one message; returns how much was its own.
static inline size_t read_message(struct h1 *p, enum h1_side side, struct str stream, size_t piece, struct dice *dice,
                                  struct reading *r) {
    struct h1_result result = {.end = false};
    struct buf body;
    size_t at = 0;
    size_t head_at = buf_len(&r->log);
    buf_init(&body, LOG_MAX);
    while (!result.end && at < stream.len) {
        size_t n = piece ? piece : 1 + (size_t)(dice_roll(dice) % (dice_roll(dice) % 4 ? 8 : 200));
        char *copy = str_dup(str_first(str_skip(stream, at), n));
        n = MIN(n, stream.len - at);
        r->error = h1_feed(p, copy, n, &result);
        if (r->error == OK) {
            MUST(result.used <= n && (result.end || result.used == n));
            MUST(result.body.len <= n);
            if (result.head_done) {
                check_head(side, h1_head(p));
                log_head(&r->log, h1_head(p));
                MUST(h1_keep_head(p) == OK);
            }
            MUST(buf_str_append(&body, result.body) == OK);
            at += result.used;
        }
        free(copy);
        if (r->error != OK) {
            break;
        }
    }
    if (r->error == OK && !result.end) {
        r->error = h1_feed_eof(p, &result);
        MUST(r->error == OK ? result.end : r->error == ERR_CUT || r->error == ERR_EOF);
    }
    MUST(buf_len(&body) <= at);
    if (r->error == OK) { // the kept head still says what it said
        struct buf again;
        buf_init(&again, LOG_MAX);
        log_head(&again, h1_head(p));
        MUST(str_eq(buf_str(&again), str_skip(buf_str(&r->log), head_at)));
        buf_finish(&again);
    }
    log_str(&r->log, buf_str(&body));
    MUST(r->error != OK || buf_printf(&r->log, "end %d, %zu;", result.keep_alive, at) == OK);
    buf_finish(&body);
    return at;
}

static inline void read_stream(enum h1_side side, bool to_head, struct str stream, size_t piece, struct dice *dice,
                               struct reading *r) {
    struct h1 *p = h1_create(side, &small);
    *r = (struct reading){.error = OK};
    buf_init(&r->log, LOG_MAX);
    for (unsigned i = 0; i < MESSAGES_MAX && r->error == OK && stream.len; i++) {
        if (to_head) {
            h1_expect_no_body(p);
        }
        stream = str_skip(stream, read_message(p, side, stream, piece, dice, r));
        h1_reset(p);
    }
    h1_destroy(p);
}

// In one piece an error hides what came before it in the same piece, and a limit may be met before or after it.
static inline bool same_error(enum err a, enum err b) {
    return err_status(a) == err_status(b) || a == ERR_HEAD_FULL || b == ERR_HEAD_FULL || a == ERR_TARGET_LONG ||
           b == ERR_TARGET_LONG;
}

static inline void compare(const struct reading *whole, const struct reading *pieces) {
    MUST((whole->error == OK) == (pieces->error == OK));
    if (whole->error == OK) {
        MUST(str_eq(buf_str(&whole->log), buf_str(&pieces->log)));
    } else {
        MUST(same_error(whole->error, pieces->error));
    }
}

static inline void read_every_way(enum h1_side side, bool to_head, struct str stream) {
    static const size_t pieces[] = {1, 2, 3, 0, 0, 0};
    struct dice dice = dice_from((const uint8_t *)stream.ptr, stream.len);
    struct reading whole;
    read_stream(side, to_head, stream, SIZE_MAX, &dice, &whole);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct reading r;
        read_stream(side, to_head, stream, pieces[i], &dice, &r);
        compare(&whole, &r);
        buf_finish(&r.log);
    }
    buf_finish(&whole.log);
}

// ---- a message that was understood is written, and must be understood as the same

static const struct http_limits roomy = {.head_bytes = 4000, .fields = 40, .target_bytes = 1000};

static inline void write_body(struct buf *out, struct str body, enum h1_framing framing) {
    if (framing == H1_CHUNKED && body.len) {
        MUST(buf_printf(out, "%zx\r\n", body.len) == OK);
    }
    MUST(framing == H1_NO_BODY || buf_str_append(out, body) == OK);
    if (framing == H1_CHUNKED) {
        MUST(buf_printf(out, "%s0\r\n\r\n", body.len ? "\r\n" : "") == OK);
    }
}

static inline void write_and_read_again(enum h1_side side, bool to_head, struct head *head, struct str body) {
    struct h1 *p = h1_create(side, &roomy);
    struct h1_result r;
    enum h1_framing framing = H1_NO_BODY;
    struct buf out;
    buf_init(&out, LOG_MAX);
    http_head_strip(&head->fields);
    MUST((side == H1_REQUEST ? h1_write_request(&out, head, false, &framing)
                             : h1_write_response(&out, head, to_head, 1, false, &framing)) == OK);
    write_body(&out, body, framing);
    if (to_head) {
        h1_expect_no_body(p);
    }
    size_t n = buf_len(&out);
    MUST(h1_feed(p, out.ptr + out.start, n, &r) == OK);
    MUST(r.head_done && r.end && r.keep_alive && r.used == n);
    struct head *again = h1_head(p);
    http_head_strip(&again->fields);
    MUST(str_eq(again->method_name, head->method_name) && str_eq(again->target, head->target));
    MUST(str_eq(again->authority, head->authority) && again->status == head->status);
    MUST(again->body_len == head->body_len && !again->expect_continue);
    MUST(framing == H1_NO_BODY ? r.body.len == 0 : str_eq(r.body, body));
    MUST(again->fields.n == head->fields.n);
    for (unsigned i = 0; i < head->fields.n; i++) {
        MUST(str_eq(again->fields.v[i].name, head->fields.v[i].name));
        MUST(str_eq(again->fields.v[i].value, head->fields.v[i].value));
    }
    buf_finish(&out);
    h1_destroy(p);
}

static inline void write_what_is_understood(enum h1_side side, bool to_head, struct str stream) {
    struct h1 *p = h1_create(side, &small);
    struct h1_result r = {.end = true, .keep_alive = true};
    char *copy = str_dup(stream);
    size_t at = 0;
    for (unsigned i = 0; i < MESSAGES_MAX && at < stream.len && r.end; i++) {
        if (to_head) {
            h1_expect_no_body(p);
        }
        if (h1_feed(p, copy + at, stream.len - at, &r) != OK) {
            break;
        }
        at += r.used;
        // A request of HTTP/1.0 may lack a Host: then it cannot be written as HTTP/1.1.
        if (r.end && (side == H1_RESPONSE || h1_head(p)->authority.len)) {
            write_and_read_again(side, to_head, h1_head(p), r.body);
        }
        h1_reset(p);
    }
    free(copy);
    h1_destroy(p);
}
