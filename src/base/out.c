// SPDX-License-Identifier: MIT
#include "base/out.h"

#include <stdarg.h>

void put_u64(struct out *o, uint64_t n) {
    char digits[FORMAT_U64_MAX];
    put(o, str_from(digits, (size_t)(format_u64(digits, n) - digits)));
}

void put_format(struct out *o, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (o->e == OK) {
        o->e = buf_vprintf(o->b, format, args);
    }
    va_end(args);
}
