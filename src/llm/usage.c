// SPDX-License-Identifier: MIT
#include "llm/usage.h"

#include "llm/raw.h"

static const char name[] = "\"usage\"";
enum { NAME_LEN = sizeof name - 1 };
enum place { OUTSIDE, BEHIND_NAME, BEHIND_COLON, INSIDE };

void usage_init(struct usage *u) {
    u->input = u->output = u->total = 0;
    u->known = false;
    u->matched = 0;
    u->place = OUTSIDE;
}

static void take(struct usage *u, struct str value, uint64_t *to) {
    double n;
    if (raw_number(value, &n) && n >= 0) {
        *to = n > USAGE_MOST ? USAGE_MOST : (uint64_t)n;
        u->known = true;
    }
}

static void read_object(struct usage *u) {
    static const struct str names[] = {STR_INIT("prompt_tokens"), STR_INIT("input_tokens"),
                                       STR_INIT("completion_tokens"), STR_INIT("output_tokens"),
                                       STR_INIT("total_tokens")};
    uint64_t *const to[] = {&u->input, &u->input, &u->output, &u->output, &u->total};
    struct str values[ARRAY_LEN(names)];
    if (!raw_open(str_from(u->kept, u->kept_len), names, ARRAY_LEN(names), values)) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        take(u, values[i], to[i]);
    }
}

// A byte of the object. Its end is where its brackets are even.
static void feed_inside(struct usage *u, char c) {
    if (u->kept_len == sizeof u->kept) {
        u->place = OUTSIDE;
        return;
    }
    u->kept[u->kept_len++] = c;
    if (u->in_string) {
        u->in_string = u->escaped || c != '"';
        u->escaped = !u->escaped && c == '\\';
        return;
    }
    u->in_string = c == '"';
    u->depth += c == '{' || c == '[';
    u->depth -= c == '}' || c == ']';
    if (u->depth == 0) {
        u->place = OUTSIDE;
        read_object(u);
    }
}

static void feed_behind(struct usage *u, char c) {
    bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    if (blank) {
        return;
    }
    if (u->place == BEHIND_NAME) {
        u->place = c == ':' ? BEHIND_COLON : OUTSIDE;
    } else if (c == '{') {
        u->place = INSIDE;
        u->in_string = u->escaped = false;
        u->depth = 0;
        u->kept_len = 0;
        feed_inside(u, c);
    } else {
        u->place = OUTSIDE; // null, mostly
    }
    u->matched = u->place == OUTSIDE && c == name[0];
}

// No part of the name but its first byte is also a beginning of it.
static void feed_name(struct usage *u, char c) {
    u->matched = c == name[u->matched] ? (unsigned char)(u->matched + 1) : c == name[0];
    if (u->matched == NAME_LEN) {
        u->matched = 0;
        u->place = BEHIND_NAME;
    }
}

void usage_feed(struct usage *u, struct str bytes) {
    size_t i = 0;
    while (i < bytes.len) {
        if (u->place == INSIDE) {
            feed_inside(u, bytes.ptr[i++]);
        } else if (u->place != OUTSIDE) {
            feed_behind(u, bytes.ptr[i++]);
        } else if (u->matched) {
            feed_name(u, bytes.ptr[i++]);
        } else {
            const char *quote = memchr(bytes.ptr + i, name[0], bytes.len - i);
            if (!quote) {
                return;
            }
            i = (size_t)(quote - bytes.ptr) + 1;
            u->matched = 1;
        }
    }
}

uint64_t usage_tokens(const struct usage *u) {
    uint64_t sum = u->input + u->output;
    return MIN(MAX(sum, u->total), (uint64_t)USAGE_MOST);
}
