// SPDX-License-Identifier: MIT
#include "mock/words.h"

// As far as words are concerned every control character is a blank.
static bool is_blank(char c) { return (unsigned char)c <= ' '; }

enum { LANES = 16, LANE_MOST = 255 };
typedef unsigned char lanes __attribute__((vector_size(LANES)));

static lanes load(const char *bytes) {
    lanes v;
    memcpy(&v, bytes, sizeof v);
    return v;
}

// Where, of the bytes behind the first, does a word begin? What is true is -1.
static lanes begins_at(const char *bytes) { return (lanes)((load(bytes) <= ' ') & ~(load(bytes + 1) <= ' ')); }

static uint64_t sum(lanes counts) {
    const uint64_t even = 0x00ff00ff00ff00ffu;
    uint64_t n = 0;
    uint64_t half[LANES / 8];
    memcpy(half, &counts, sizeof half);
    for (size_t i = 0; i < ARRAY_LEN(half); i++) { // in four pairs, then those together
        n += ((half[i] & even) + (half[i] >> 8 & even)) * 0x0001000100010001u >> 48;
    }
    return n;
}

// Sixteen bytes at a time, each beside the one before it: most of a request is a prompt, and counting it byte by byte
// was a sixth of all the time that an answer takes (1 KiB, perf, November 2026).
uint64_t words_count(struct str text) {
    const lanes index = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint64_t n = text.len && !is_blank(text.ptr[0]);
    size_t left = text.len ? text.len - 1 : 0;
    const char *p = text.ptr;
    while (left >= LANES) {
        lanes begins = {0};
        size_t blocks = MIN(left / LANES, (size_t)LANE_MOST);
        for (const char *end = p + blocks * LANES; p < end; p += LANES) {
            begins -= begins_at(p);
        }
        n += sum(begins);
        left -= blocks * LANES;
    }
    if (text.len > LANES) { // once more the last sixteen, of which those count that did not yet
        return n + sum(-(begins_at(p + left - LANES) & (lanes)(index >= (unsigned char)(LANES - left))));
    }
    for (size_t i = text.len - left; i < text.len; i++) {
        n += !is_blank(text.ptr[i]) && is_blank(text.ptr[i - 1]);
    }
    return n;
}

// How many bytes of s, at most WORD_MAX, are blanks (or are none).
static size_t run(struct str s, bool blanks) {
    size_t most = MIN(s.len, (size_t)WORD_MAX);
    size_t n = 0;
    while (n < most && is_blank(s.ptr[n]) == blanks) {
        n++;
    }
    return n;
}

// Back to where a character begins, if n is inside one.
static size_t whole_characters(struct str s, size_t n) {
    size_t back = n;
    while (back < s.len && back > 0 && n - back < 4 && ((unsigned char)s.ptr[back] & 0xC0) == 0x80) {
        back--;
    }
    return n - back < 4 && back > 0 ? back : n; // more than three of them are no UTF-8 anyway
}

size_t word_len(struct str text) {
    size_t n = run(text, true);
    struct str word = str_skip(text, n);
    n += whole_characters(word, run(word, false));
    struct str rest = str_skip(text, n);
    return rest.len < WORD_MAX && run(rest, true) == rest.len ? text.len : n;
}

// None is cut in a text that is no longer than a word may be.
static bool words_are_tokens(struct str text) { return text.len <= WORD_MAX; }

uint64_t words_cut(struct str text) {
    uint64_t n = 0;
    if (words_are_tokens(text)) {
        return text.len ? MAX(words_count(text), (uint64_t)1) : 0; // blanks alone are one, too
    }
    for (; text.len; n++) {
        text = str_skip(text, word_len(text));
    }
    return n;
}

size_t words_take(struct str text, size_t enough, unsigned most, unsigned *tokens) {
    size_t n = 0;
    *tokens = 0;
    uint64_t all = words_are_tokens(text) ? words_cut(text) : UINT64_MAX;
    if (all <= most) {
        *tokens = (unsigned)all;
        return text.len;
    }
    for (; *tokens < most && n < text.len && n < enough; ++*tokens) {
        n += word_len(str_skip(text, n));
    }
    return n;
}
