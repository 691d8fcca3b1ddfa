// SPDX-License-Identifier: MIT
// Writes text and JSON into a buf without a check behind every piece: the first failure stays in `e`, and nothing is
// appended behind it.
#pragma once
#include "llm/json.h"

struct text {
    struct buf *b;
    enum err e;
};

static inline void put(struct text *t, struct str s) {
    if (t->e == OK) {
        t->e = buf_str_append(t->b, s);
    }
}
#define put_text(t, literal) put((t), STR(literal))

// As a JSON string, with its quotes.
static inline void put_json(struct text *t, struct str s) {
    if (t->e == OK) {
        t->e = json_append_string(t->b, s);
    }
}

#define put_format(t, ...)                                                                                             \
    do {                                                                                                               \
        if ((t)->e == OK) {                                                                                            \
            (t)->e = buf_printf((t)->b, __VA_ARGS__);                                                                  \
        }                                                                                                              \
    } while (0)
