// SPDX-License-Identifier: MIT
#include "http/chunked.h"

#include "http/h1_chars.h"

static const uint64_t CHUNK_SIZE_MAX = (uint64_t)1 << 53; // exact in every language's numbers

void chunked_begin(struct chunked *c, size_t most) { *c = (struct chunked){.most = most}; }

static COLD enum err refuse(struct chunked *c, const char *problem) {
    c->problem = problem;
    return ERR_FRAMING;
}

static enum err take_size(struct chunked *c, char ch) {
    int digit = hex_value(ch);
    bool first = c->place == CHUNKED_SIZE;
    if (digit >= 0) {
        c->beside += !first && c->left == 0;
        c->left = c->left << 4 | (unsigned)digit;
        c->place = CHUNKED_MORE_SIZE;
        return c->left > CHUNK_SIZE_MAX ? refuse(c, "a chunk is impossibly large") : OK;
    }
    if (first || (ch != '\r' && ch != ';')) {
        return refuse(c, "a chunk's size is no plain hexadecimal number");
    }
    c->place = ch == ';' ? CHUNKED_EXTENSION : CHUNKED_SIZE_LF;
    return OK;
}

// Fields that would have said how long the body is must not come when it is over.
static bool is_framing(const struct chunked *c) {
    struct str name = str_from(c->name, MIN(c->name_len, sizeof c->name));
    return c->name_len <= sizeof c->name &&
           (str_ieq(name, STR("content-length")) || str_ieq(name, STR("transfer-encoding")));
}

static const char *take_name(struct chunked *c, const char *p, const char *end, enum err *e) {
    for (; p < end && h1_is(*p, H1_TOKEN); p++, c->name_len++, c->beside++) {
        if (c->name_len < sizeof c->name) {
            c->name[c->name_len] = *p;
        }
    }
    if (p < end) {
        if (*p != ':' || c->name_len == 0 || is_framing(c)) {
            *e = refuse(c, "a trailer is malformed, or would change the body's length");
        }
        c->place = CHUNKED_VALUE;
        p++;
    }
    return p;
}

// Text up to the line's end.
static const char *take_text(struct chunked *c, const char *p, const char *end, enum chunked_place behind,
                             enum err *e) {
    const char *after = h1_skip_text(p, end);
    c->beside += (size_t)(after - p);
    if (after < end) {
        if (*after != '\r') {
            *e = refuse(c, "a chunk extension or trailer has a character it must not have");
        }
        c->place = behind;
        after++;
    }
    return after;
}

// The one character that may come here.
static const char *take(struct chunked *c, const char *p, char wanted, enum chunked_place behind, enum err *e) {
    if (*p != wanted) {
        *e = refuse(c, "a chunk, or a line of the chunked coding, does not end with CRLF");
    }
    c->place = behind;
    return p + 1;
}

// From the character at `p` on, which is of the place where c is, and no chunk's. Returns behind what it took.
static const char *step(struct chunked *c, const char *p, const char *end, enum err *e) {
    switch (c->place) {
    case CHUNKED_SIZE:
    case CHUNKED_MORE_SIZE: *e = take_size(c, *p); return p + 1;
    case CHUNKED_EXTENSION: return take_text(c, p, end, CHUNKED_SIZE_LF, e);
    case CHUNKED_SIZE_LF: return take(c, p, '\n', c->left ? CHUNKED_DATA : CHUNKED_LINE, e);
    case CHUNKED_DATA_CR: return take(c, p, '\r', CHUNKED_DATA_LF, e);
    case CHUNKED_DATA_LF: return take(c, p, '\n', CHUNKED_SIZE, e);
    case CHUNKED_LINE:
        c->name_len = 0;
        c->place = *p == '\r' ? CHUNKED_LAST_LF : CHUNKED_NAME;
        return p + (*p == '\r');
    case CHUNKED_NAME: return take_name(c, p, end, e);
    case CHUNKED_VALUE: return take_text(c, p, end, CHUNKED_VALUE_LF, e);
    case CHUNKED_VALUE_LF: return take(c, p, '\n', CHUNKED_LINE, e);
    case CHUNKED_LAST_LF: return take(c, p, '\n', CHUNKED_DONE, e);
    case CHUNKED_DATA:
    case CHUNKED_DONE: break;
    }
    return p;
}

enum err chunked_feed(struct chunked *c, char *bytes, size_t n, struct str *body, size_t *used) {
    const char *p = bytes;
    const char *end = bytes + n;
    char *body_at = bytes;
    size_t body_len = 0;
    enum err e = OK;
    while (p < end && e == OK && c->place != CHUNKED_DONE) {
        if (c->place == CHUNKED_DATA) {
            size_t piece = (size_t)MIN(c->left, (uint64_t)(end - p));
            if (body_len == 0) {
                body_at = bytes + (p - bytes);
            } else {
                memmove(body_at + body_len, p, piece);
            }
            body_len += piece;
            p += piece;
            c->left -= piece;
            c->place = c->left ? CHUNKED_DATA : CHUNKED_DATA_CR;
        } else {
            p = step(c, p, end, &e);
        }
        if (UNLIKELY(c->beside > c->most) && e == OK) {
            e = refuse(c, "the trailers or chunk extensions are larger than the limit");
        }
    }
    *body = str_from(body_at, body_len);
    *used = (size_t)(p - bytes);
    return e;
}
