// SPDX-License-Identifier: MIT
// HTTP/2 frames by hand: the far end of a connection under test writes them itself and reads what came frame by frame.
// Only the reading of heads is nghttp2's (Huffman codes).
#pragma once
#include <nghttp2/nghttp2.h>

#include "base/buf.h"
#include "check.h"

#define H2_MAGIC "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

enum { F_DATA, F_HEADERS, F_PRIORITY, F_RST, F_SETTINGS, F_PUSH, F_PING, F_GOAWAY, F_WINDOW, F_CONTINUATION };
enum { F_END_STREAM = 1, F_ACK = 1, F_END_HEADERS = 4 };
enum { H2_NO_ERROR = 0, H2_PROTOCOL = 1, H2_INTERNAL = 2, H2_FLOW = 3, H2_REFUSED = 7, H2_CANCEL = 8, H2_CALM = 11 };

struct frame {
    unsigned type, flags, id;
    struct str payload;
};

static inline void put_bytes(struct buf *b, const void *bytes, size_t n) {
    if (buf_append(b, bytes, n) != OK) { // only where allocations are made to fail
        buf_clear(b);
    }
}
static inline void put_number(struct buf *b, unsigned bytes, uint32_t value) {
    for (unsigned i = bytes; i-- > 0;) {
        char c = (char)(value >> (8 * i));
        put_bytes(b, &c, 1);
    }
}
static inline uint32_t number_in(struct str s, size_t at) {
    uint32_t value = 0;
    for (size_t i = at; i < at + 4 && i < s.len; i++) {
        value = value << 8 | (unsigned char)s.ptr[i];
    }
    return value;
}

static inline void put_frame(struct buf *b, unsigned type, unsigned flags, unsigned id, struct str payload) {
    put_number(b, 3, (uint32_t)payload.len);
    put_number(b, 1, type);
    put_number(b, 1, flags);
    put_number(b, 4, id);
    put_bytes(b, payload.ptr, payload.len);
}
static inline void put_number_frame(struct buf *b, unsigned type, unsigned id, uint32_t value) {
    char payload[4] = {(char)(value >> 24), (char)(value >> 16), (char)(value >> 8), (char)value};
    put_frame(b, type, 0, id, str_from(payload, sizeof payload));
}
static inline void put_setting(struct buf *b, unsigned name, uint32_t value) {
    char payload[6] = {0, (char)name, (char)(value >> 24), (char)(value >> 16), (char)(value >> 8), (char)value};
    put_frame(b, F_SETTINGS, 0, 0, str_from(payload, sizeof payload));
}
static inline void put_goaway(struct buf *b, uint32_t last, uint32_t code) {
    struct buf payload;
    buf_init(&payload, 64);
    put_number(&payload, 4, last);
    put_number(&payload, 4, code);
    put_frame(b, F_GOAWAY, 0, 0, buf_str(&payload));
    buf_finish(&payload);
}

// "name: value\n" lines become literals without indexing or Huffman codes (RFC 7541 section 6.2.2).
static inline void put_head(struct buf *b, unsigned flags, unsigned id, const char *lines) {
    struct buf block;
    struct str rest = str_c(lines);
    struct str line;
    buf_init(&block, 1 << 20);
    while (str_split(&rest, '\n', &line) && line.len) {
        size_t colon = 1 + str_find(str_skip(line, 1), ':');
        struct str parts[] = {str_first(line, colon), str_skip(line, colon + 2)};
        put_number(&block, 1, 0);
        for (int i = 0; i < 2; i++) {
            if (parts[i].len < 127) {
                put_number(&block, 1, (uint32_t)parts[i].len);
            } else { // a 7-bit prefix integer
                size_t left = parts[i].len - 127;
                put_number(&block, 1, 127);
                for (; left >= 128; left /= 128) {
                    put_number(&block, 1, 128 + (uint32_t)(left % 128));
                }
                put_number(&block, 1, (uint32_t)left);
            }
            put_bytes(&block, parts[i].ptr, parts[i].len);
        }
    }
    put_frame(b, F_HEADERS, flags | F_END_HEADERS, id, buf_str(&block));
    buf_finish(&block);
}

// Takes a whole frame off the front.
static inline bool next_frame(struct str *rest, struct frame *f) {
    if (rest->len < 9) {
        return false;
    }
    size_t length = number_in(*rest, 0) >> 8;
    if (rest->len < 9 + length) {
        return false;
    }
    *f = (struct frame){(unsigned char)rest->ptr[3], (unsigned char)rest->ptr[4], number_in(*rest, 5) & 0x7fffffff,
                        str_from(rest->ptr + 9, length)};
    *rest = str_skip(*rest, 9 + length);
    return true;
}

// Appends "name: value\n" lines; a field that HPACK must never index ends in " (never)".
static inline void read_head(nghttp2_hd_inflater *inflater, struct str block, struct buf *lines) {
    int flags = 0;
    while (!(flags & NGHTTP2_HD_INFLATE_FINAL)) {
        nghttp2_nv nv;
        ssize_t n = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, (const uint8_t *)block.ptr, block.len, 1);
        if (n < 0) {
            fail_msg("a head that HPACK cannot decode");
        }
        block = str_skip(block, (size_t)n);
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            put_bytes(lines, nv.name, nv.namelen);
            put_bytes(lines, ": ", 2);
            put_bytes(lines, nv.value, nv.valuelen);
            put_bytes(lines, " (never)\n" + (nv.flags & NGHTTP2_NV_FLAG_NO_INDEX ? 0 : 8),
                      nv.flags & NGHTTP2_NV_FLAG_NO_INDEX ? 9 : 1);
        }
    }
    nghttp2_hd_inflate_end_headers(inflater);
}

// What one end says, frame by frame, in words:
// "SETTINGS|HEADERS 1|DATA 1 5 end|RST 1 8|PING|PING ack|GOAWAY 0|WINDOW 1 32768|"
struct h2_log {
    nghttp2_hd_inflater *inflater;
    bool of_server;   // which has no preface
    size_t parsed;    // bytes
    struct buf words; // of the last h2_log_read
    struct buf heads; // all of them, as read_head writes them
    struct buf body;  // all DATA
};

static inline void h2_log_init(struct h2_log *log) {
    *log = (struct h2_log){.parsed = 0};
    buf_init(&log->words, 1 << 20);
    buf_init(&log->heads, 1 << 20);
    buf_init(&log->body, 1 << 24);
    check_int(nghttp2_hd_inflate_new(&log->inflater), 0);
}

static inline void h2_log_finish(struct h2_log *log) {
    nghttp2_hd_inflate_del(log->inflater);
    buf_finish(&log->words);
    buf_finish(&log->heads);
    buf_finish(&log->body);
}

static inline void h2_log_frame(struct h2_log *log, const struct frame *f) {
    static const char *const names[] = {"DATA", "HEADERS", "PRIORITY", "RST",    "SETTINGS",
                                        "PUSH", "PING",    "GOAWAY",   "WINDOW", "CONTINUATION"};
    char text[80];
    if (f->type == F_SETTINGS && (f->flags & F_ACK)) { // comes some time
        return;
    }
    int n = snprintf(text, sizeof text, "%s", f->type < ARRAY_LEN(names) ? names[f->type] : "OTHER");
    if (f->id) {
        n += snprintf(text + n, sizeof text - (size_t)n, " %u", f->id);
    }
    if (f->type == F_DATA) {
        n += snprintf(text + n, sizeof text - (size_t)n, " %zu", f->payload.len);
        put_bytes(&log->body, f->payload.ptr, f->payload.len);
    } else if (f->type == F_RST || f->type == F_WINDOW) {
        n += snprintf(text + n, sizeof text - (size_t)n, " %u", number_in(f->payload, 0));
    } else if (f->type == F_GOAWAY) {
        n += snprintf(text + n, sizeof text - (size_t)n, " %u", number_in(f->payload, 4));
    } else if (f->type == F_HEADERS) {
        read_head(log->inflater, f->payload, &log->heads);
    }
    bool ack = f->type == F_PING && (f->flags & F_ACK);
    bool end = (f->type == F_DATA || f->type == F_HEADERS) && (f->flags & F_END_STREAM);
    snprintf(text + n, sizeof text - (size_t)n, "%s|", ack ? " ack" : end ? " end" : "");
    put_bytes(&log->words, text, strlen(text));
}

// What came since the last time. `all`: everything that came, a client's magic first.
static inline struct str h2_log_read(struct h2_log *log, struct str all) {
    struct str got = str_skip(all, log->parsed);
    struct frame f;
    if (!log->of_server && log->parsed == 0 && got.len >= strlen(H2_MAGIC)) {
        check_str(str_first(got, strlen(H2_MAGIC)), H2_MAGIC);
        got = str_skip(got, strlen(H2_MAGIC));
    }
    buf_clear(&log->words);
    while (next_frame(&got, &f)) {
        h2_log_frame(log, &f);
    }
    log->parsed = all.len - got.len;
    return buf_str(&log->words);
}
