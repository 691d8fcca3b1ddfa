// SPDX-License-Identifier: MIT
#include "http/query.h"

// ERR_FULL where there is no room for all of it.
static enum err decode(struct str s, char *room, size_t size, struct str *decoded) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i] == '+' ? ' ' : s.ptr[i];
        if (c == '%' && i + 2 < s.len && hex_value(s.ptr[i + 1]) >= 0 && hex_value(s.ptr[i + 2]) >= 0) {
            c = (char)(hex_value(s.ptr[i + 1]) << 4 | hex_value(s.ptr[i + 2]));
            i += 2;
        }
        if (n == size) {
            return ERR_FULL;
        }
        room[n++] = c;
    }
    *decoded = str_from(room, n);
    return OK;
}

enum err query_find(struct str target, struct str name, char *room, size_t size, struct str *value) {
    struct str rest = str_skip(target, str_find(target, '?') + 1);
    struct str pair;
    struct str decoded;
    while (str_split(&rest, '&', &pair)) {
        size_t equals = str_find(pair, '=');
        if (decode(str_first(pair, equals), room, size, &decoded) == OK && str_eq(decoded, name)) {
            return decode(str_skip(pair, equals + 1), room, size, value);
        }
    }
    return ERR_EOF;
}
