// SPDX-License-Identifier: MIT
#include "mock/answer.h"

#include <assert.h>

#include "mock/words.h"

// Steps that have nothing (more) to write are stepped over; a later step walks over the tokens anew.
static void settle(struct answer *a) {
    while (a->step->write && a->step->more && !a->step->more(a)) {
        a->step++;
        a->token = 0;
        a->at = 0;
    }
}

void answer_start(struct answer *a, const struct script *script) {
    a->step = script->steps;
    a->token = 0;
    a->at = 0;
    settle(a);
}

uint64_t answer_due_ms(struct answer *a) { return pace_due_ms(&a->pace, a->step->paced ? a->token : 0); }

unsigned answer_tokens_sent(const struct answer *a) {
    if (a->step->paced) {
        return a->token;
    }
    for (const struct step *step = a->step; step->write; step++) {
        if (step->paced) {
            return 0; // they are yet to come
        }
    }
    return a->tokens;
}

enum err answer_write(struct answer *a, struct buf *out) {
    struct out o = {out, OK};
    assert(!answer_over(a));
    a->step->write(a, &o);
    if (!a->step->more) {
        a->step++;
    }
    settle(a);
    return o.e;
}

enum err answer_measure(struct answer *a, struct buf *out, uint64_t *length) {
    struct answer ahead = *a;
    enum err e = OK;
    uint64_t before = 0; // bytes that were thrown away again
    buf_clear(out);
    while (!answer_over(&ahead) && e == OK) {
        if (buf_len(out) >= ANSWER_BATCH) {
            before += buf_len(out);
            buf_clear(out);
        }
        e = answer_write(&ahead, out);
    }
    *length = before + buf_len(out);
    if (before) {
        buf_clear(out);
    } else {
        *a = ahead;
    }
    return e;
}

// ---- content

bool answer_more_tokens(const struct answer *a) { return a->token < a->tokens; }

void answer_put_token(struct answer *a, struct out *o) {
    if (a->at == a->text.len && a->token) { // from the front again
        a->at = 0;
        put_text(o, " ");
    }
    struct str rest = str_skip(a->text, a->at);
    size_t n = word_len(rest);
    put_escaped(o, str_first(rest, n));
    a->at += n;
    a->token++;
}

// As many tokens as there are before the text ends, or about a batch of bytes, escaped in one piece.
static void put_slice(struct answer *a, struct out *o) {
    struct str rest = str_skip(a->text, a->at);
    size_t n = 0;
    while (answer_more_tokens(a) && n < rest.len && n < ANSWER_BATCH) {
        n += word_len(str_skip(rest, n));
        a->token++;
    }
    put_escaped(o, str_first(rest, n));
    a->at += n;
}

void answer_put_content(struct answer *a, struct out *o) {
    size_t full = buf_len(o->b) + ANSWER_BATCH;
    while (answer_more_tokens(a) && buf_len(o->b) < full && o->e == OK) {
        if (a->at == a->text.len) {
            answer_put_token(a, o); // from the front again
        } else {
            put_slice(a, o);
        }
    }
}
