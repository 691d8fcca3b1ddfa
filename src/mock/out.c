// SPDX-License-Identifier: MIT
#include "mock/out.h"

#include "llm/json.h"

void put_again(struct out *o, size_t n) {
    o->e = o->e == OK ? buf_reserve(o->b, n) : o->e;
    if (o->e == OK) {
        memcpy(buf_tail(o->b), buf_str(o->b).ptr, n);
        buf_added(o->b, n);
    }
}

void put_u64(struct out *o, uint64_t n) {
    o->e = o->e == OK ? buf_reserve(o->b, FORMAT_U64_MAX) : o->e;
    if (o->e == OK) {
        o->b->end += (size_t)(format_u64(buf_tail(o->b), n) - buf_tail(o->b));
    }
}

void put_json(struct out *o, struct str s) {
    if (o->e == OK) {
        o->e = json_append_string(o->b, s);
    }
}

void put_escaped(struct out *o, struct str s) {
    if (o->e == OK) {
        o->e = json_append_inside(o->b, s);
    }
}

void put_json_or_null(struct out *o, const char *s) {
    if (s) {
        put_json(o, str_c(s));
    } else {
        put_text(o, "null");
    }
}
