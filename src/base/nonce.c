// SPDX-License-Identifier: MIT
#include "base/nonce.h"

static const struct str prefix = STR_INIT("thaw-");

enum { DIGITS = 16 };

struct str nonce_format(uint64_t nonce, char out[NONCE_TEXT]) {
    char *at = mempcpy(out, prefix.ptr, prefix.len);
    for (int shift = 4 * (DIGITS - 1); shift >= 0; shift -= 4) {
        *at++ = "0123456789abcdef"[nonce >> shift & 15];
    }
    return str_from(out, NONCE_TEXT);
}

static bool read_digits(struct str digits, uint64_t *nonce) {
    *nonce = 0;
    for (size_t i = 0; i < digits.len; i++) {
        int value = hex_value(digits.ptr[i]);
        if (value < 0) {
            return false;
        }
        *nonce = *nonce << 4 | (unsigned)value;
    }
    return digits.len == DIGITS;
}

uint64_t nonce_find(struct str text) {
    uint64_t nonce = 0;
    bool found = false;
    while (text.len && !found) {
        text = str_skip(text, str_search(text, prefix));
        text = str_skip(text, prefix.len);
        found = read_digits(str_first(text, DIGITS), &nonce);
    }
    return found ? nonce : 0;
}
