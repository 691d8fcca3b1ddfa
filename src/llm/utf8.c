// SPDX-License-Identifier: MIT
#include "llm/utf8.h"

// What may follow a lead byte (Unicode 15, table 3-7): the sequence's length and the second byte's range.
// This is what excludes overlong forms, surrogates and what lies beyond U+10FFFF.
static const struct lead {
    unsigned char first, last; // lead bytes
    unsigned char len;
    unsigned char low, high; // of the second byte
} leads[] = {
    {0xC2, 0xDF, 2, 0x80, 0xBF}, {0xE0, 0xE0, 3, 0xA0, 0xBF}, {0xE1, 0xEC, 3, 0x80, 0xBF}, {0xED, 0xED, 3, 0x80, 0x9F},
    {0xEE, 0xEF, 3, 0x80, 0xBF}, {0xF0, 0xF0, 4, 0x90, 0xBF}, {0xF1, 0xF3, 4, 0x80, 0xBF}, {0xF4, 0xF4, 4, 0x80, 0x8F},
};

size_t utf8_sequence(struct str s, bool *valid) {
    const unsigned char *p = (const unsigned char *)s.ptr;
    *valid = false;
    for (size_t i = 0; i < ARRAY_LEN(leads); i++) {
        const struct lead *lead = &leads[i];
        if (p[0] < lead->first || p[0] > lead->last) {
            continue;
        }
        if (s.len < 2 || p[1] < lead->low || p[1] > lead->high) {
            return 1;
        }
        size_t n = 2;
        while (n < lead->len && n < s.len && (p[n] & 0xC0) == 0x80) {
            n++;
        }
        *valid = n == lead->len;
        return n;
    }
    return 1;
}
