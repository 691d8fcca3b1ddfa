// SPDX-License-Identifier: MIT
#include "mock/out.h"

#include "llm/json.h"

void put_u64(struct out *o, uint64_t n) {
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
    } while ((n /= 10));
    put(o, str_from(digits + at, sizeof digits - at));
}

void put_json(struct out *o, struct str s) {
    if (o->e == OK) {
        o->e = json_append_string(o->b, s);
    }
}

void put_escaped(struct out *o, struct str s) {
    size_t before = buf_len(o->b);
    put_json(o, s);
    if (o->e == OK) {
        char *quoted = o->b->ptr + o->b->start + before;
        size_t n = buf_len(o->b) - before - 2;
        memmove(quoted, quoted + 1, n);
        buf_truncate(o->b, before + n);
    }
}

void put_json_or_null(struct out *o, const char *s) {
    if (s) {
        put_json(o, str_c(s));
    } else {
        put_text(o, "null");
    }
}
