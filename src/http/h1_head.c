// SPDX-License-Identifier: MIT
#include "http/h1_head.h"

#include "http/h1_chars.h"

#define ALPHA H1_TOKEN | H1_TARGET | H1_TEXT
#define SIGN H1_TARGET | H1_TEXT
const unsigned char h1_chars[256] = {
    ['\t'] = H1_TEXT,
    [' '] = H1_TEXT,
    ['!'] = ALPHA,
    ['"'] = SIGN,
    ['#'] = H1_TOKEN | H1_TEXT,
    ['$' ... '\''] = ALPHA,
    ['(' ... ')'] = SIGN,
    ['*' ... '+'] = ALPHA,
    [','] = SIGN,
    ['-' ... '.'] = ALPHA,
    ['/'] = SIGN,
    ['0' ... '9'] = ALPHA,
    [':' ... '@'] = SIGN,
    ['A' ... 'Z'] = ALPHA,
    ['[' ... ']'] = SIGN,
    ['^' ... 'z'] = ALPHA,
    ['{'] = SIGN,
    ['|'] = ALPHA,
    ['}'] = SIGN,
    ['~'] = ALPHA,
    [0x80 ... 0xff] = H1_TEXT,
};

enum { RESCAN_MAX = 1024 }; // a line that is longer is looked at again only when its end may have come

void h1_head_reset(struct h1_head *h) {
    h->line = 0;
    h->begun = h->complete = false;
    h->count = 0;
    h->status = 0;
    h->method = h->target = (struct span){0, 0};
    h->problem = NULL;
}

// What a line's function works on. It returns where the next line begins; NULL: this one is malformed, or not all there.
struct scan {
    struct h1_head *h;
    const char *base;
    const char *end;
    enum err error;
};

static COLD const char *refuse(struct scan *s, enum err e, const char *problem) {
    s->error = e;
    s->h->problem = problem;
    return NULL;
}

// `problem` unless the bytes end here.
static COLD const char *stop(struct scan *s, const char *p, const char *problem) {
    return p == s->end ? NULL : refuse(s, ERR_INVALID, problem);
}

static struct span span_of(const struct scan *s, const char *from, const char *to) {
    return (struct span){(uint32_t)(from - s->base), (uint32_t)(to - from)};
}

static inline const char *line_end(struct scan *s, const char *p, const char *problem) {
    if (LIKELY(s->end - p >= 2 && p[0] == '\r' && p[1] == '\n')) {
        return p + 2;
    }
    return stop(s, p < s->end && *p == '\r' ? p + 1 : p, problem);
}

static COLD const char *refuse_version(struct scan *s) {
    return refuse(s, ERR_VERSION, "only HTTP/1.0 and HTTP/1.1 are spoken here");
}

// At a '\r': of another version, if the line ends with it.
static COLD const char *refuse_old(struct scan *s, const char *p, const char *problem) {
    return s->end - p >= 2 && p[1] == '\n' ? refuse_version(s) : stop(s, p + 1, problem);
}

static const char *version(struct scan *s, const char *p, const char *problem) {
    static const char pattern[] = "HTTP/0.0";
    unsigned char numbers[sizeof pattern];
    for (size_t i = 0; i < sizeof pattern - 1; i++, p++) {
        numbers[i] = p < s->end ? (unsigned char)(*p - '0') : 0;
        if (p == s->end || (pattern[i] == '0' ? numbers[i] > 9 : *p != pattern[i])) {
            return i == 6 && p < s->end && *p == '\r' ? refuse_old(s, p, problem) : stop(s, p, problem);
        }
    }
    s->h->major = numbers[5];
    s->h->minor = numbers[7];
    return p;
}

static bool is_spoken(const struct h1_head *h) { return h->major == 1 && h->minor <= 1; }

// The bytes end here, or the target does, and not as it should.
static COLD const char *stop_target(struct scan *s, const char *target, const char *p) {
    static const char problem[] = "the request line or its target has a character it must not have";
    bool old = p < s->end && *p == '\r' && *target == '/'; // HTTP/0.9 says no version
    return old ? refuse_old(s, p, problem) : stop(s, p, problem);
}

static const char *request_line(struct scan *s, const char *p) {
    static const char malformed[] = "the request line is malformed";
    struct h1_head *h = s->h;
    const char *method = p;
    p = h1_skip_token(p, s->end);
    if (p == s->end || *p != ' ' || p == method) {
        return stop(s, p, malformed);
    }
    h->method = span_of(s, method, p);
    const char *target = ++p;
    p = h1_skip(p, s->end, H1_TARGET);
    h->target = span_of(s, target, p);
    if (h->target.len > h->limits->target_bytes) {
        return refuse(s, ERR_TARGET_LONG, "the request target is longer than the limit");
    }
    if (p == s->end || *p != ' ' || p == target) {
        return stop_target(s, target, p);
    }
    p = version(s, p + 1, malformed);
    p = p ? line_end(s, p, malformed) : NULL;
    return p && !is_spoken(h) ? refuse_version(s) : p;
}

static const char *status_line(struct scan *s, const char *p) {
    static const char malformed[] = "the status line is malformed";
    struct h1_head *h = s->h;
    p = version(s, p, malformed);
    if (!p || p == s->end || *p != ' ') {
        return p ? stop(s, p, malformed) : NULL;
    }
    if (!is_spoken(h)) {
        return refuse_version(s);
    }
    p++;
    h->status = 0;
    for (int i = 0; i < 3; i++, p++) {
        if (p == s->end || *p < '0' || *p > '9') {
            return stop(s, p, malformed);
        }
        h->status = h->status * 10 + (*p - '0');
    }
    return line_end(s, p < s->end && *p == ' ' ? h1_skip_text(p, s->end) : p, malformed);
}

// Empty lines before a request are allowed (RFC 9112 section 2.2).
static const char *start_line(struct scan *s, const char *p) {
    if (s->h->side == H1_RESPONSE) {
        p = status_line(s, p);
    } else if (*p == '\r') {
        return line_end(s, p, "there is something before the request line");
    } else {
        p = request_line(s, p);
    }
    s->h->begun = p != NULL;
    return p;
}

static const char *field_line(struct scan *s, const char *p) {
    struct h1_head *h = s->h;
    if (h->count == h->limits->fields) {
        return refuse(s, ERR_HEAD_FULL, "there are more header fields than the limit");
    }
    const char *name = p;
    p = h1_skip_token(p, s->end);
    if (UNLIKELY(p == s->end || *p != ':' || p == name)) {
        return stop(s, p, "a header field's name is malformed, or has no colon right behind it");
    }
    h->names[h->count] = span_of(s, name, p++);
    while (p < s->end && (*p == ' ' || *p == '\t')) {
        p++;
    }
    const char *value = p;
    p = h1_skip_text(p, s->end);
    h->values[h->count] = span_of(s, value, p);
    p = line_end(s, p, "a header field's value has a character it must not have");
    h->count += p != NULL;
    return p;
}

static const char *last_line(struct scan *s, const char *p) {
    p = line_end(s, p, "a line of the head does not end with CRLF");
    s->h->complete = p != NULL;
    return p;
}

enum err h1_head_feed(struct h1_head *h, const char *base, size_t size, size_t more) {
    struct scan s = {h, base, base + size, OK};
    const char *p = base + h->line;
    if (size - h->line > RESCAN_MAX && size > more && !memchr(s.end - more, '\n', more)) {
        return OK;
    }
    while (p && p < s.end && !h->complete) {
        p = !h->begun ? start_line(&s, p) : *p == '\r' ? last_line(&s, p) : field_line(&s, p);
        h->line = p ? (uint32_t)(p - base) : h->line;
    }
    return s.error;
}
