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

// How many words begin behind the first of these bytes: at most LANE_MOST times LANES of them.
static uint64_t count_block(const char *bytes, size_t blocks) {
    lanes begins = {0};
    uint64_t n = 0;
    for (; blocks; blocks--, bytes += LANES) {
        begins -= (lanes)((load(bytes + 1) > ' ') & (load(bytes) <= ' ')); // what is true is -1
    }
    for (size_t i = 0; i < LANES; i++) {
        n += begins[i];
    }
    return n;
}

// Sixteen bytes at a time, each beside the one before it: most of a request is a prompt, and counting it byte by byte
// was a sixth of all the time that an answer takes (1 KiB, perf, November 2026).
uint64_t words_count(struct str text) {
    uint64_t n = text.len && !is_blank(text.ptr[0]);
    size_t i = 0;
    while (i + LANES < text.len) {
        size_t blocks = MIN((text.len - 1 - i) / LANES, (size_t)LANE_MOST);
        n += count_block(text.ptr + i, blocks);
        i += blocks * LANES;
    }
    for (i++; i < text.len; i++) {
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

uint64_t words_cut(struct str text) {
    uint64_t n = 0;
    for (; text.len; n++) {
        text = str_skip(text, word_len(text));
    }
    return n;
}
