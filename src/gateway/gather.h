// SPDX-License-Identifier: MIT
// Several calls that are one answer: a gather reads their tapes and writes the answer's own, so that everything that
// holds for a call's tape holds for it: it can be read again, joined, run in the background, cancelled
// (docs/adr/0007-a-gather-writes-a-tape.md). What is asked for is a plan; how the answers become one is a face, of
// which there are three: parallel.c, and recipe.c for one prompt and for several.
#pragma once
#include "base/arena.h"
#include "gateway/request.h"
#include "http/sse.h"

struct branch;
struct gather;

struct gather_face {
    // Appends the data of our event for one of a branch's own; ERR_AGAIN: there is nothing to tell. May blame.
    enum err (*chunk)(struct branch *b, const struct sse_event *event, struct buf *out);
    // A branch's answer is there whole: what its result needs is made of b->body. May blame.
    void (*take)(struct branch *b);
    // Appends what became of a branch: the data of its event in a stream.
    enum err (*result)(struct branch *b, struct buf *out);
    // Appends part n of the answer that is no stream: one for each branch, and one more.
    enum err (*part)(struct gather *g, unsigned n, struct buf *out);
    // Appends the data of a stream's last event.
    enum err (*done)(struct gather *g, struct buf *out);
    // 200, or the status of the error that all of it is, which `fail` appends.
    int (*status)(const struct gather *g);
    enum err (*fail)(struct gather *g, struct buf *out);
};

// One of the calls. Its body lies in the request's, or was made for it.
struct branch_plan {
    struct str id; // 1 to 128 bytes
    struct str target;
    const struct targets *targets;
    size_t body_at, body_len;
    struct buf made; // empty: it lies in the request's
    struct call_places places;
    uint64_t timeout_ms; // 0: none
    uint64_t max_tokens; // as the body asks for; 0: it does not say
};

// A request's, until its gather is started, then the gather's.
struct gather_plan {
    const struct gather_face *face;
    struct arena arena; // ids, targets
    struct branch_plan *branches;
    unsigned count;
    unsigned wanted;      // successes that end the wait
    uint64_t deadline_ms; // 0: none
    bool strict;          // the wait ends, too, once they cannot be had any more
    bool streams;
};

struct gather_plan *gather_plan_create(const struct gather_face *face, size_t arena_cap);
void gather_plan_branches(struct gather_plan *plan, unsigned count);
// Where a branch's body goes, and what it names there. False: answered, and the plan is gone; `within` is told with the
// error, may be NULL.
MUSTCHECK bool gather_plan_peek(struct request *r, struct branch_plan *branch, struct str body, const char *within);
// Accepts NULL.
void gather_plan_destroy(struct gather_plan *plan);

// As a route's `produce`: starts r->gather, which it takes, on the tape.
void gather_start(struct request *r, struct tape *tape);

// ---- for the faces

enum branch_state {
    BRANCH_RUNNING,
    BRANCH_DONE,
    BRANCH_FAILED,
    BRANCH_CANCELLED,
    BRANCH_STATES,
};

enum { BRANCH_MESSAGE_MAX = 800 };
// In OpenAI's terms; of the upstream, of thaw about it, or of the wait.
struct branch_error {
    int status; // that the call alone would have had; 0: none
    char message[BRANCH_MESSAGE_MAX];
    char type[64];
    char code[64];
    char retry_after[32]; // seconds or a date; may be empty
};

struct branch {
    struct gather *gather;
    const struct branch_plan *plan;
    struct tape_reader reader;
    struct timer timeout;
    struct branch_stream *stream; // while its answer is an event stream that is passed on
    struct buf body;              // of an answer that is not, as far as it is there; then the face's
    struct branch_error *error;
    uint64_t first_byte_ms, total_ms; // since the gather began; first_byte_ms: once there is a status
    int status;                       // of its head; 0: none
    enum branch_state state;
    bool is_json;  // body: for the face
    bool coded;    // body: compressed
    bool streamed; // its answer was an event stream that was passed on
    bool held;     // was offered more than there was room for
    char retry_after[32];
};

enum gather_state {
    GATHER_WAITING, // for branches
    GATHER_WRITING, // the wait is over, none is running
    GATHER_ENDED,   // the tape has its end; in the graveyard
};

struct gather {
    struct worker *worker;
    struct setup *setup; // held
    struct gather_plan *plan;
    struct tape *tape;
    struct task task; // to look what is to be done
    union {
        struct timer deadline;
        struct grave grave; // ENDED
    };
    struct buf out;  // not on the tape yet
    uint64_t events; // of the stream, so far
    uint64_t started_ms;
    enum gather_state state;
    enum err error; // of `out`
    int status;     // WRITING: of the answer
    unsigned part;  // WRITING: the next one
    unsigned counts[BRANCH_STATES];
    bool told;    // events are on the tape
    bool goes_on; // without readers, though the tape is not kept
    struct branch branches[];
};

// Says why a branch has failed; the first one who does counts. `type` and `code` NULL: as the status has them.
void branch_blame(struct branch *b, int status, const char *type, const char *code, const char *format, ...)
    PRINTF(5, 6);
// Its error as an object; its times as a member, "ms":{...}.
enum err branch_write_error(const struct branch *b, struct buf *out);
enum err branch_write_times(const struct branch *b, struct buf *out);
// The first branch that failed; NULL: none.
struct branch *gather_first_failed(struct gather *g);
