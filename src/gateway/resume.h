// SPDX-License-Identifier: MIT
// What a request wants of tapes beside its own answer: to be found again (an Idempotency-Key, X-Thaw-Resume, a route's
// setting), to join what runs already, to be answered before it is done, to read on from a position.
#pragma once
#include "gateway/request.h"
#include "tape/errand.h"

enum resume_from {
    FROM_START,
    FROM_EVENT,    // behind event n of the tape
    FROM_SEQUENCE, // behind the event with sequence_number n (Responses API)
    FROM_BYTE,
};

struct job;

struct resume {
    char *name;        // of a response, as it is asked for
    char *model;       // as the body has it, escapes as written: of a background response
    struct job *job;   // what the store is asked for it (jobs.c)
    struct tape *tape; // on its shelf, kept, nothing written yet: until request_start
    const struct config_route *route;
    struct digest tenant;
    struct digest key, asked; // if `joins`
    struct tape_id id;        // of the tape that is followed
    uint64_t n;
    struct tape_id last_id; // of Last-Event-ID, and its number
    uint64_t last_n;
    enum resume_from from;
    unsigned char attempts;
    unsigned char prelude_left; // bytes of it
    bool joins;                 // an earlier call with the same key
    bool resumable;             // by itself, not only for what becomes of it when its client leaves
    bool coalesces;             // only calls that run
    bool async;                 // 202 now, the answer later
    bool reads;                 // a tape by its id
    bool has_last;              // Last-Event-ID
    bool head_only;             // of that tape
    bool replayed;              // is an earlier call's answer
    bool responses;             // of the Responses API
    bool object;                // reads, and wants a Responses object
    bool rerun;                 // a job without a client, run again under `id`
};

// The step: NEXT for a plain relay, or with a tape that is kept; DONE where an earlier call's tape is followed.
enum verdict resume_step(struct request *r);
// Reads the tape with this id, as a GET of it: r->resume says from where. Answers 404 and 410 itself.
void resume_read(struct request *r, struct str id);
// A new r->resume for reading: who, and from where (?starting_after=, ?offset=, and before these Last-Event-ID if it is
// about the tape that is read). False: answered, 400.
MUSTCHECK bool resume_for_reading(struct request *r);
// The tape was found: reads it from the position that is wanted, or answers why not.
void resume_attach(struct request *r, struct tape *t);
// There is no such tape, and why not.
void resume_missing(struct request *r, enum shelf_find found);

static inline bool resume_is_async(const struct request *r) { return r->resume->async; }
static inline bool resume_is_head_only(const struct request *r) { return r->resume && r->resume->head_only; }
// Does the call of a plain relay go on when its client has left?
bool resume_goes_on(const struct request *r);
// The tape to start on, a reference with it; NULL: r is a plain relay after all.
struct tape *resume_take_tape(struct request *r);
// 202: the answer will be on this tape, or is.
void resume_acknowledge(struct request *r, const struct tape_id *id, const char *state);
// To the head of an answer.
void resume_add_fields(struct request *r, struct fields *fields);
// Sends what comes before the answer's bytes; false: not all of it was taken yet.
MUSTCHECK bool resume_send_prelude(struct request *r);
// Its tape has ended, not whole, and its head is sent: the answer is nevertheless to be completed, not broken off.
bool resume_ends_in_order(const struct request *r, const struct tape_why *why);
void resume_end(struct request *r);
