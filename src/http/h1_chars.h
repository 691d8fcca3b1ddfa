// SPDX-License-Identifier: MIT
// The characters that HTTP/1's grammar is made of, and how to pass them over. Private to http/.
#pragma once
#include <endian.h>

#include "base/str.h"

enum h1_chars {
    H1_TOKEN = 1,  // RFC 9110 section 5.6.2
    H1_TARGET = 2, // visible ASCII; no fragment is ever sent (RFC 9112 section 3.2)
    H1_TEXT = 4,   // of values and reasons: blanks, visible ASCII, and what is no ASCII (RFC 9110 section 5.5)
};
extern const unsigned char h1_chars[256];

static inline bool h1_is(char c, enum h1_chars what) { return h1_chars[(unsigned char)c] & what; }

static inline const char *h1_skip(const char *p, const char *end, enum h1_chars what) {
    while (p < end && h1_is(*p, what)) {
        p++;
    }
    return p;
}

static inline uint64_t h1_eight(const char *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return le64toh(x);
}

// Bit 7 of each byte, all of them below 0x80, that is `from` or above.
static inline uint64_t h1_above(uint64_t x, unsigned char from) { return x + (0x80 - from) * 0x0101010101010101u; }

// The same as h1_skip for H1_TOKEN, eight letters and dashes at a time, as nearly all of them are.
static inline const char *h1_skip_token(const char *p, const char *end) {
    const uint64_t ones = 0x0101010101010101u;
    while (end - p >= 8) {
        uint64_t x = h1_eight(p);
        uint64_t low = x & 0x7f * ones;
        uint64_t letter = h1_above(low | 0x20 * ones, 'a') & ~h1_above(low | 0x20 * ones, 'z' + 1);
        uint64_t dash = ~h1_above(low ^ '-' * ones, 1);
        uint64_t other = (~(letter | dash) | x) & 0x80 * ones;
        if (other) {
            p += __builtin_ctzll(other) / 8;
            break;
        }
        p += 8;
    }
    return h1_skip(p, end, H1_TOKEN);
}

// The same for H1_TEXT: control characters are looked for, of which a tab is text. Borrows go upwards only, so that the
// lowest one found is right.
static inline const char *h1_skip_text(const char *p, const char *end) {
    const uint64_t ones = 0x0101010101010101u;
    while (end - p >= 8) {
        uint64_t x = h1_eight(p);
        uint64_t delete = x ^ 0x7f * ones;
        uint64_t control = (((x - 0x20 * ones) & ~x) | ((delete - ones) & ~delete)) & 0x80 * ones;
        if (!control) {
            p += 8;
        } else if (*(p += __builtin_ctzll(control) / 8) != '\t') {
            return p;
        } else {
            p++;
        }
    }
    return h1_skip(p, end, H1_TEXT);
}
