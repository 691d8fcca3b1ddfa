// SPDX-License-Identifier: MIT
// Bodies of answers, made piece by piece: an answer is a script of steps, each writes one bounded piece, some again
// and again (a token, a slice of the text, a vector, a record). So a body of any length is sent with a few KiB of
// memory, a slow reader holds up its own answer and makes nothing grow, and a kind of answer is a table of steps.
//
// A whole answer and a stream of it have the same content: `tokens` words of the text, from the front again when
// there are not enough. The text is what is echoed, or the JSON that was asked for, or a tool call's arguments.
#pragma once
#include "mock/journal.h"
#include "mock/latency.h"

struct answer;

struct step {
    void (*write)(struct answer *a, struct out *o); // NULL: behind the last
    bool (*more)(const struct answer *a);           // asked before each piece; NULL: exactly one
    bool paced;                                     // the pieces are due one after the other
    unsigned char group; // this step and the group - 1 before it are gone through for every choice; 0: only once
};

struct script {
    struct str content_type;
    bool measured; // told with its length; else chunked
    const struct step *steps;
    const struct script *tool; // instead of this one when a tool is called; NULL: this one knows how
};

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_TOOL, FINISH_SEQUENCE };

// How it ends before its time (mock/faults.h).
enum ending {
    ENDING_OWN,
    ENDING_HALTS,        // behind `halt` tokens nothing more is due; what happens then is the call's
    ENDING_EARLY,        // behind `halt` tokens it is over
    ENDING_BROKEN,       // and half of a piece
    ENDING_ERROR,        // and, in a stream, an event that tells of an error
    ENDING_IN_CHARACTER, // and the piece up to the middle of its first character of several bytes
};

struct answer {
    const struct step *step; // the next piece is its
    struct pace pace;        // of the paced ones
    struct str model;
    struct str text;  // the content; embeddings: a uint64_t per input
    struct str tool;  // the one that is called, ptr == NULL: none
    struct str stop;  // FINISH_SEQUENCE: which one
    uint64_t number;  // of the call: ids are made of it
    uint64_t created; // Unix seconds
    uint64_t prompt_tokens;
    size_t at;         // in the text, of the next token
    unsigned token;    // the next one; also of vectors
    unsigned tokens;   // how many there will be
    unsigned sequence; // events of the Responses API so far
    unsigned dimensions;
    unsigned short opening; // bytes that each piece of a stream begins with
    unsigned char choices;  // how many, at least 1
    unsigned char choice;   // the one that is being written
    enum finish finish;
    enum ending ending;
    unsigned halt;
    bool anthropic; // errors in Anthropic's shape, and what else both APIs have under the same path
    bool stream;
    bool limits; // the head tells of rate limits
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
bool answer_halted(const struct answer *a);
// When the next piece may leave, from the call's start. 0: at once.
uint64_t answer_due_ms(struct answer *a);
// How many tokens have been written.
unsigned answer_tokens_sent(const struct answer *a);
// Appends the next piece, at most a few dozen KiB.
MUSTCHECK enum err answer_write(struct answer *a, struct buf *out);
// The length of the whole body, as if it did not halt. If *out holds all of it afterwards, *a is over, else as it was and *out is empty.
MUSTCHECK enum err answer_measure(struct answer *a, struct buf *out, uint64_t *length);

// ---- for scripts

bool answer_more_tokens(const struct answer *a);
// The next token as the inside of a JSON string.
void answer_put_token(struct answer *a, struct out *o);
// Step: all of the content, in slices, as the inside of a JSON string.
void answer_put_content(struct answer *a, struct out *o);
#define ANSWER_CONTENT                                                                                                 \
    { .write = answer_put_content, .more = answer_more_tokens }
// Step: the text as it is, in slices; for arguments that are not inside a string.
bool answer_more_raw(const struct answer *a);
void answer_put_raw(struct answer *a, struct out *o);
// In a paced step: puts the next token of the choice that has its turn; all choices get one before the next.
void answer_put_turn(struct answer *a, struct out *o);
// What begins with `before_number`, then the call's number, then a quote.
void answer_put_id(const struct answer *a, struct out *o, struct str before_number);

// ---- scripts

extern const struct script answer_chat, answer_chat_stream;
extern const struct script answer_completion, answer_completion_stream;
extern const struct script answer_response, answer_response_stream;
extern const struct script answer_message, answer_message_stream, answer_count;
extern const struct script answer_embeddings;
extern const struct script answer_empty, answer_html;
extern const struct script answer_models, answer_model, answer_health, answer_journal, answer_stats, answer_reset;
extern const struct script answer_error; // from status, message, param; OpenAI's shape or Anthropic's
