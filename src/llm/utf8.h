// SPDX-License-Identifier: MIT
// UTF-8 as Unicode has it (version 15, section 3.9).
#pragma once
#include <stdbool.h>

#include "base/str.h"

#define UTF8_REPLACEMENT STR("\xEF\xBF\xBD") // U+FFFD

// What may follow a lead byte (Unicode 15, table 3-7): the sequence's length and the second byte's range.
// This is what excludes overlong forms, surrogates and what lies beyond U+10FFFF.
enum { UTF8_LEAD_FIRST = 0xC2, UTF8_LEAD_LAST = 0xF4 };
extern const struct utf8_lead {
    unsigned char len;
    unsigned char low, high; // of the second byte
} utf8_leads[UTF8_LEAD_LAST - UTF8_LEAD_FIRST + 1];

// Looks at the sequence at the front of s, whose first byte is 0x80 or more. Returns how many bytes belong together;
// *valid tells whether they are a character. What belongs together and is none is one U+FFFD (a "maximal part").
static inline size_t utf8_sequence(struct str s, bool *valid) {
    const unsigned char *p = (const unsigned char *)s.ptr;
    *valid = false;
    if (p[0] < UTF8_LEAD_FIRST || p[0] > UTF8_LEAD_LAST) {
        return 1;
    }
    const struct utf8_lead *lead = &utf8_leads[p[0] - UTF8_LEAD_FIRST];
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
