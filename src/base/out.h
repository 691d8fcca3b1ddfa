// SPDX-License-Identifier: MIT
// Writes text into a buf without a check behind every piece: the first failure stays in `e`, and nothing is appended
// behind it. JSON is written the same way (llm/json.h).
//
//     struct out o = {&buf, OK};
//     put_text(&o, "{\"id\":");
//     put_json(&o, id);
//     put_text(&o, "}");
//     return o.e;
#pragma once
#include "base/buf.h"

struct out {
    struct buf *b;
    enum err e;
};

static inline void put(struct out *o, struct str s) {
    if (o->e == OK) {
        o->e = buf_str_append(o->b, s);
    }
}
#define put_text(o, literal) put((o), STR(literal))
// Once more the first n bytes of what was written.
void put_again(struct out *o, size_t n);
void put_u64(struct out *o, uint64_t n);
void put_format(struct out *o, const char *format, ...) PRINTF(2, 3);
