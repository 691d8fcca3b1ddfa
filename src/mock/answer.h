// SPDX-License-Identifier: MIT
// Bodies of answers, made piece by piece: an answer is a script of steps, each writes one bounded piece, some again
// and again (a token, a slice of the text, a vector, a record). So a body of any length is sent with a few KiB of
// memory, a slow reader holds up its own answer and makes nothing grow, and a kind of answer is a table of steps.
//
// A whole answer and a stream of it have the same content: `tokens` words of the text, from the front again when
// there are not enough.
#pragma once
#include "mock/journal.h"
#include "mock/latency.h"

struct answer;

struct step {
    void (*write)(struct answer *a, struct out *o); // NULL: behind the last
    bool (*more)(const struct answer *a);           // asked before each piece; NULL: exactly one
    bool paced;                                     // the pieces are due one after the other
};

struct script {
    const char *content_type;
    bool measured; // told with its length; else chunked
    const struct step *steps;
};

struct answer {
    const struct step *step; // the next piece is its
    struct pace pace;        // of the paced ones
    struct str model;
    struct str text;  // what is echoed; embeddings: a uint64_t per input
    uint64_t number;  // of the call: ids are made of it
    uint64_t created; // Unix seconds
    uint64_t prompt_tokens;
    size_t at;         // in the text, of the next token
    unsigned token;    // the next one; also of vectors
    unsigned tokens;   // how many there will be
    unsigned sequence; // events of the Responses API so far
    unsigned dimensions;
    bool include_usage;
    bool base64;
    int status;

    union { // what only some answers have: a call is small
        struct {
            const struct journal *journal; // pages about the mock: /mock/journal, /mock/stats
            uint64_t next_id, last_id;     // records to show
        };
        struct {
            struct str message; // errors; the strings are used in the first piece only
            const char *param;
        };
    };
};

enum { ANSWER_BATCH = 4096 }; // bytes after which pieces are sent rather than gathered

// Everything else in *a has been set.
void answer_start(struct answer *a, const struct script *script);
static inline bool answer_over(const struct answer *a) { return a->step->write == NULL; }
// When the next piece may leave, from the call's start. 0: at once.
uint64_t answer_due_ms(struct answer *a);
// How many tokens have been written.
unsigned answer_tokens_sent(const struct answer *a);
// Appends the next piece, at most a few dozen KiB.
MUSTCHECK enum err answer_write(struct answer *a, struct buf *out);
// The length of the whole body. If *out holds all of it afterwards, *a is over, else as it was and *out is empty.
MUSTCHECK enum err answer_measure(struct answer *a, struct buf *out, uint64_t *length);

// ---- for scripts

bool answer_more_tokens(const struct answer *a);
// The next token as the inside of a JSON string.
void answer_put_token(struct answer *a, struct out *o);
// Step: all of the content, in slices, as the inside of a JSON string.
void answer_put_content(struct answer *a, struct out *o);
#define ANSWER_CONTENT                                                                                                 \
    { .write = answer_put_content, .more = answer_more_tokens }

// ---- scripts

extern const struct script answer_chat, answer_chat_stream;
extern const struct script answer_completion, answer_completion_stream;
extern const struct script answer_response, answer_response_stream;
extern const struct script answer_embeddings;
extern const struct script answer_models, answer_model, answer_health, answer_journal, answer_stats, answer_reset;
extern const struct script answer_error; // OpenAI's shape, from status, message, param
