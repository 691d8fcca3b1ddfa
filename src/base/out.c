// SPDX-License-Identifier: MIT
#include "base/out.h"

#include <stdarg.h>

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
        buf_added(o->b, (size_t)(format_u64(buf_tail(o->b), n) - buf_tail(o->b)));
    }
}

void put_format(struct out *o, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (o->e == OK) {
        o->e = buf_vprintf(o->b, format, args);
    }
    va_end(args);
}
