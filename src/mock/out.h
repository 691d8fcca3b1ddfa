// SPDX-License-Identifier: MIT
// Writes JSON and text into a buf without a check behind every piece: the first failure stays in `e`, and nothing
// is appended behind it.
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
// As a JSON string, with its quotes.
void put_json(struct out *o, struct str s);
// The inside of a JSON string, without quotes; pieces of one text may follow each other.
void put_escaped(struct out *o, struct str s);
// A JSON string, or null.
void put_json_or_null(struct out *o, const char *s);
