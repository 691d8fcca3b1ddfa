// SPDX-License-Identifier: MIT
/*
 * wire.h - what sim and swarm share: HTTP/1.1 framing, a growing buffer, the clock, the wait.
 *
 * Both ends of a measurement must agree with the standard and not with each other's mistakes, so the
 * framing here is strict: a length that is not a number, two lengths that differ, a length together with
 * chunks, a bad chunk size or line end are all "broken". The parser looks at a head as a whole (nothing
 * is copied) and decodes a body piece by piece, whatever the reads look like.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef THAW_BENCH_WIRE_H
#define THAW_BENCH_WIRE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define NEVER UINT64_MAX
#define HEAD_MAX ((size_t)64 * 1024)

/* ---- bytes ------------------------------------------------------------------------------------ */

/* Borrowed bytes. */
struct span {
    const char *ptr;
    size_t len;
};

static inline bool span_equals(struct span s, const char *text) {
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

static inline bool span_equals_nocase(struct span s, const char *text) {
    return s.len == strlen(text) && strncasecmp(s.ptr, text, s.len) == 0;
}

static inline bool span_ends(struct span s, const char *text) {
    size_t len = strlen(text);
    return s.len >= len && memcmp(s.ptr + s.len - len, text, len) == 0;
}

/* Reads decimal digits at *p, at most 18 of them, and moves *p behind them. */
static inline bool read_number(const char **p, const char *end, uint64_t *value) {
    const char *from = *p;
    uint64_t n = 0;
    while (*p < end && **p >= '0' && **p <= '9' && *p - from < 18) {
        n = n * 10 + (uint64_t)(**p - '0');
        ++*p;
    }
    *value = n;
    return *p > from && (*p == end || **p < '0' || **p > '9');
}

/* Owned bytes. Zeroed is empty. */
struct buf {
    char *ptr;
    size_t len, cap;
};

static inline void *must(void *memory) {
    if (!memory) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static inline void buf_append(struct buf *b, const char *ptr, size_t len) {
    if (b->cap - b->len < len) {
        size_t cap = b->cap ? b->cap * 2 : 512;
        while (cap - b->len < len) {
            cap *= 2;
        }
        b->ptr = must(realloc(b->ptr, cap));
        b->cap = cap;
    }
    if (len) {
        memcpy(b->ptr + b->len, ptr, len);
    }
    b->len += len;
}

static inline void buf_free(struct buf *b) {
    free(b->ptr);
    *b = (struct buf){0};
}

/* ---- HTTP/1.1 head ---------------------------------------------------------------------------- */

struct http1_head {
    struct span method, target; /* of a request */
    int status;                 /* of an answer, else 0 */
    bool has_length, chunked;
    bool close; /* the connection ends after this message */
    bool sse;   /* content-type is text/event-stream */
    uint64_t length;
};

/* Length of the head with its blank line, 0 when it is not complete yet. */
static inline size_t http1_head_size(const char *ptr, size_t len) {
    const char *end = memmem(ptr, len, "\r\n\r\n", 4);
    return end ? (size_t)(end - ptr) + 4 : 0;
}

static inline bool http1_start_line(struct span line, struct http1_head *head) {
    const char *end = line.ptr + line.len;
    if (line.len >= 12 && memcmp(line.ptr, "HTTP/1.", 7) == 0 && line.ptr[8] == ' ') {
        const char *p = line.ptr + 9;
        uint64_t status;
        head->close = line.ptr[7] == '0';
        if (!read_number(&p, end, &status) || status < 100 || status > 999) {
            return false;
        }
        head->status = (int)status;
        return p == end || *p == ' ';
    }
    const char *one = memchr(line.ptr, ' ', line.len);
    const char *two = one ? memchr(one + 1, ' ', (size_t)(end - one - 1)) : NULL;
    if (!two || end - two != 9 || memcmp(two + 1, "HTTP/1.", 7) != 0) {
        return false;
    }
    head->method = (struct span){line.ptr, (size_t)(one - line.ptr)};
    head->target = (struct span){one + 1, (size_t)(two - one - 1)};
    head->close = two[8] == '0';
    return true;
}

static inline bool http1_field(struct span name, struct span value, struct http1_head *head) {
    if (span_equals_nocase(name, "content-length")) {
        const char *p = value.ptr;
        uint64_t n;
        if (!read_number(&p, value.ptr + value.len, &n) || p != value.ptr + value.len ||
            (head->has_length && head->length != n)) {
            return false;
        }
        head->has_length = true;
        head->length = n;
    } else if (span_equals_nocase(name, "transfer-encoding")) {
        head->chunked = span_equals_nocase(value, "chunked");
        return head->chunked;
    } else if (span_equals_nocase(name, "connection")) {
        if (span_equals_nocase(value, "close")) {
            head->close = true;
        } else if (span_equals_nocase(value, "keep-alive")) {
            head->close = false;
        }
    } else if (span_equals_nocase(name, "content-type")) {
        head->sse = value.len >= 17 && strncasecmp(value.ptr, "text/event-stream", 17) == 0;
    }
    return true;
}

/* Parses a whole head of `size` bytes as http1_head_size() found it. False: broken. */
static inline bool http1_head_parse(const char *ptr, size_t size, struct http1_head *head) {
    const char *end = ptr + size - 2; /* the blank line */
    bool first = true;
    *head = (struct http1_head){0};
    while (ptr < end) {
        const char *stop = memmem(ptr, (size_t)(end - ptr), "\r\n", 2);
        struct span line = {ptr, (size_t)(stop - ptr)};
        ptr = stop + 2;
        if (first) {
            if (!http1_start_line(line, head)) {
                return false;
            }
            first = false;
            continue;
        }
        const char *colon = memchr(line.ptr, ':', line.len);
        if (!colon || colon == line.ptr || line.ptr[0] == ' ' || line.ptr[0] == '\t') {
            return false;
        }
        struct span name = {line.ptr, (size_t)(colon - line.ptr)};
        struct span value = {colon + 1, (size_t)(stop - colon - 1)};
        while (value.len && (*value.ptr == ' ' || *value.ptr == '\t')) {
            value.ptr++;
            value.len--;
        }
        while (value.len && (value.ptr[value.len - 1] == ' ' || value.ptr[value.len - 1] == '\t')) {
            value.len--;
        }
        if (!http1_field(name, value, head)) {
            return false;
        }
    }
    return !first && !(head->has_length && head->chunked);
}

/* ---- HTTP/1.1 body ---------------------------------------------------------------------------- */

enum http1_piece { PIECE_DATA, PIECE_MORE, PIECE_END, PIECE_BROKEN };

struct http1_body {
    enum {
        BODY_LENGTH,
        CHUNK_SIZE,
        CHUNK_EXTENSION,
        CHUNK_SIZE_LF,
        CHUNK_DATA,
        CHUNK_CR,
        CHUNK_LF,
        TRAILER_START,
        TRAILER_LINE,
        TRAILER_LF,
        LAST_LF,
        BODY_ENDED,
        BODY_BROKEN
    } state;
    int digits;    /* of the chunk size so far */
    uint64_t left; /* of the body or of the chunk */
};

static inline void http1_body_start(struct http1_body *b, const struct http1_head *head) {
    *b = (struct http1_body){.state = head->chunked ? CHUNK_SIZE : BODY_LENGTH,
                             .left = head->chunked ? 0 : head->length};
}

static inline int hex_value(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One byte of chunk framing. */
static inline void http1_chunk_byte(struct http1_body *b, char c) {
    int digit = hex_value(c);
    switch (b->state) {
    case CHUNK_SIZE:
        if (digit >= 0 && b->digits < 15) {
            b->left = b->left * 16 + (uint64_t)digit;
            b->digits++;
        } else if (b->digits && c == '\r') {
            b->state = CHUNK_SIZE_LF;
        } else if (b->digits && (c == ';' || c == ' ')) {
            b->state = CHUNK_EXTENSION;
        } else {
            b->state = BODY_BROKEN;
        }
        break;
    case CHUNK_EXTENSION: b->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXTENSION; break;
    case CHUNK_SIZE_LF: b->state = c != '\n' ? BODY_BROKEN : b->left ? CHUNK_DATA : TRAILER_START; break;
    case CHUNK_CR: b->state = c == '\r' ? CHUNK_LF : BODY_BROKEN; break;
    case CHUNK_LF:
        b->state = c == '\n' ? CHUNK_SIZE : BODY_BROKEN;
        b->digits = 0;
        break;
    case TRAILER_START: b->state = c == '\r' ? LAST_LF : TRAILER_LINE; break;
    case TRAILER_LINE: b->state = c == '\r' ? TRAILER_LF : TRAILER_LINE; break;
    case TRAILER_LF: b->state = c == '\n' ? TRAILER_START : BODY_BROKEN; break;
    case LAST_LF: b->state = c == '\n' ? BODY_ENDED : BODY_BROKEN; break;
    case BODY_LENGTH:
    case CHUNK_DATA:
    case BODY_ENDED:
    case BODY_BROKEN: break;
    }
}

/* Takes the next piece of the body out of [*p, end). PIECE_DATA fills `data` and wants to be called again. */
static inline enum http1_piece http1_body_next(struct http1_body *b, const char **p, const char *end,
                                               struct span *data) {
    for (;;) {
        if (b->state == BODY_BROKEN) {
            return PIECE_BROKEN;
        }
        if (b->state == BODY_ENDED || (b->state == BODY_LENGTH && b->left == 0)) {
            b->state = BODY_ENDED;
            return PIECE_END;
        }
        if (*p == end) {
            return PIECE_MORE;
        }
        if (b->state == BODY_LENGTH || b->state == CHUNK_DATA) {
            size_t len = (size_t)(end - *p);
            if (len > b->left) {
                len = (size_t)b->left;
            }
            *data = (struct span){*p, len};
            *p += len;
            b->left -= len;
            if (b->left == 0 && b->state == CHUNK_DATA) {
                b->state = CHUNK_CR;
            }
            return PIECE_DATA;
        }
        http1_chunk_byte(b, *(*p)++);
    }
}

/* ---- clock, waiting, limits ------------------------------------------------------------------- */

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* epoll_wait with a deadline in nanoseconds; kernels before 5.11 get whole milliseconds, rounded up. */
static inline int wait_until(int ep, struct epoll_event *events, int max, uint64_t deadline_ns) {
    uint64_t now = now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
    int n;
    if (deadline_ns == NEVER || left == 0) {
        n = epoll_wait(ep, events, max, left ? -1 : 0);
    } else {
#ifdef SYS_epoll_pwait2
        struct timespec t = {(time_t)(left / NS_PER_S), (long)(left % NS_PER_S)};
        n = (int)syscall(SYS_epoll_pwait2, ep, events, max, &t, NULL, 0);
        if (n < 0 && errno == ENOSYS)
#endif
        {
            uint64_t ms = (left + NS_PER_MS - 1) / NS_PER_MS;
            n = epoll_wait(ep, events, max, ms > 60000 ? 60000 : (int)ms);
        }
    }
    if (n < 0 && errno != EINTR) {
        perror("epoll_wait");
        exit(1);
    }
    return n < 0 ? 0 : n;
}

/* Lifts the descriptor limit to the hard one and returns it. */
static inline size_t raise_descriptor_limit(void) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) {
        return 1024;
    }
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r);
    return r.rlim_max > (1 << 22) ? (1 << 22) : (size_t)r.rlim_max;
}

#endif
