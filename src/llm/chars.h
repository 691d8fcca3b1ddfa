// SPDX-License-Identifier: MIT
// Which bytes of a JSON string want a second look, sixteen at a time. Private to llm/.
#pragma once
#include "base/str.h"

enum { CHARS = 16 };
typedef signed char chars __attribute__((vector_size(CHARS)));

// A bit for each of 16 bytes, the first one lowest, that is a quote, a backslash, a control character or no ASCII.
static inline unsigned chars_special(const char *p) {
    chars c;
    memcpy(&c, p, sizeof c);
    chars special = (chars)((c < ' ') | (c == '"') | (c == '\\')); // no ASCII is below 0
#ifdef __SSE2__
    typedef char plain_chars __attribute__((vector_size(16)));
    return (unsigned)__builtin_ia32_pmovmskb128((plain_chars)special);
#else
    const chars weights = {1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128};
    uint64_t half[2];
    special &= weights;
    memcpy(half, &special, sizeof half);
    for (int i = 0; i < 2; i++) { // the sum of its bytes
        half[i] = half[i] * 0x0101010101010101u >> 56;
    }
    return (unsigned)(half[0] | half[1] << 8);
#endif
}
