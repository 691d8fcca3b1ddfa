// SPDX-License-Identifier: MIT
#include "mock/words.h"

static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// How many bytes of s, at most WORD_MAX, are blanks (or are none).
static size_t run(struct str s, bool blanks) {
    size_t n = 0;
    while (n < s.len && n < WORD_MAX && is_blank(s.ptr[n]) == blanks) {
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

uint64_t words_count(struct str text) {
    uint64_t n = 0;
    for (; text.len; n++) {
        text = str_skip(text, word_len(text));
    }
    return n;
}
