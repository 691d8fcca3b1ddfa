// SPDX-License-Identifier: MIT
#include "mock/answer.h"

#include <assert.h>

#include "mock/words.h"

// To the step behind, or to the first of its group for the next choice; either walks over the tokens anew.
static void next_step(struct answer *a) {
    unsigned group = a->step->group;
    a->token = 0;
    a->at = 0;
    if (group && a->choice + 1 < a->choices) {
        a->choice++;
        a->step -= group - 1;
        return;
    }
    a->choice = group ? 0 : a->choice;
    a->step++;
}

// Enough tokens of the content were written; none at all means that nothing is.
static bool at_halt(const struct answer *a) {
    bool tokens = a->step->more == answer_more_tokens && a->token >= MIN(a->halt, a->tokens);
    return a->ending != ENDING_OWN && (a->halt == 0 || tokens || a->step->write == answer_put_raw);
}

// Steps that have nothing (more) to write are stepped over.
static void settle(struct answer *a) {
    while (a->step->write && a->step->more && !a->step->more(a) && !at_halt(a)) {
        next_step(a);
    }
}

bool answer_halted(const struct answer *a) { return a->ending == ENDING_HALTS && at_halt(a); }

// What a provider sends when it breaks down in the middle of a stream.
static void put_error_event(struct answer *a, struct out *o) {
    if (a->anthropic) {
        put_text(o, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":"
                    "\"Overloaded\"}}\n\n");
    } else if (a->sequence) { // the Responses API
        put_text(o, "event: error\ndata: {\"type\":\"error\",\"sequence_number\":");
        put_u64(o, a->sequence++);
        put_text(o, ",\"code\":\"server_error\",\"message\":\"The server had an error\",\"param\":null}\n\n");
    } else {
        put_text(o,
                 "data: {\"error\":{\"message\":\"The server had an error\",\"type\":\"server_error\",\"param\":null,"
                 "\"code\":null}}\n\n");
    }
}

// The last piece of an answer that ends early.
static void write_ending(struct answer *a, struct out *o) {
    static const struct step over = {.write = NULL};
    enum ending ending = a->ending;
    size_t before = buf_len(o->b);
    a->ending = ENDING_OWN;
    if (ending == ENDING_EARLY || ending == ENDING_ERROR) {
        if (ending == ENDING_ERROR && a->stream) {
            put_error_event(a, o);
        }
        a->step = &over;
        return;
    }
    settle(a); // it may have had its last piece
    if (answer_over(a)) {
        return;
    }
    a->step->write(a, o);
    struct str piece = str_skip(buf_str(o->b), before);
    bool event = str_starts(piece, STR("event:")) || str_starts(piece, STR("data:"));
    size_t n = ending == ENDING_BROKEN ? piece.len / 2 : 0;
    while (ending == ENDING_IN_CHARACTER && n < piece.len && (unsigned char)piece.ptr[n++] < 0xC0) {
    }
    buf_truncate(o->b, before + n);
    if (event) {
        put_text(o, "\n\n");
    }
    a->step = &over;
}

void answer_start(struct answer *a, const struct script *script) {
    a->step = script->steps;
    a->token = 0;
    a->at = 0;
    a->choice = 0;
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
    if (UNLIKELY(at_halt(a))) {
        write_ending(a, &o);
        return o.e;
    }
    a->step->write(a, &o);
    if (!a->step->more) {
        next_step(a);
    }
    settle(a);
    return o.e;
}

enum err answer_measure(struct answer *a, struct buf *out, uint64_t *length) {
    struct answer ahead = *a;
    bool halts = a->ending == ENDING_HALTS;
    enum err e = OK;
    ahead.ending = halts ? ENDING_OWN : a->ending;
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
    if (before || halts) {
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
    unsigned tokens = 0;
    size_t n = words_take(rest, ANSWER_BATCH, a->tokens - a->token, &tokens);
    put_escaped(o, str_first(rest, n));
    a->at += n;
    a->token += tokens;
}

void answer_put_content(struct answer *a, struct out *o) {
    size_t full = buf_len(o->b) + ANSWER_BATCH;
    while (answer_more_tokens(a) && buf_len(o->b) < full && o->e == OK && !at_halt(a)) {
        if (a->at == a->text.len || a->ending != ENDING_OWN) {
            answer_put_token(a, o); // from the front again, or towards its halt
        } else {
            put_slice(a, o);
        }
    }
}

void answer_put_turn(struct answer *a, struct out *o) {
    size_t at = a->at;
    unsigned token = a->token;
    answer_put_token(a, o);
    if (a->choice + 1 < a->choices) {
        a->at = at;
        a->token = token;
        a->choice++;
    } else {
        a->choice = 0;
    }
}

bool answer_more_raw(const struct answer *a) { return a->at < a->text.len; }

void answer_put_raw(struct answer *a, struct out *o) {
    struct str slice = str_first(str_skip(a->text, a->at), ANSWER_BATCH);
    put(o, slice);
    a->at += slice.len;
}

void answer_put_id(const struct answer *a, struct out *o, struct str before_number) {
    put(o, before_number);
    put_u64(o, a->number);
    put_text(o, "\"");
}
