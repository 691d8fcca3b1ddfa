// SPDX-License-Identifier: MIT
// A request: one client exchange on its way through the steps table (steps.c), from its head to its one outcome.
#pragma once
#include "gateway/access.h"
#include "gateway/answer.h"
#include "gateway/call.h"
#include "gateway/worker.h"
#include "tape/mirror.h"

struct gather_plan;
struct patience;
struct question;
struct resume;
struct route;

enum request_state {
    REQUEST_READING,   // steps are being run, or wait for the body
    REQUEST_FOLLOWING, // waits for a tape that another worker or the store has, or for news of it
    REQUEST_RELAYING,  // a reader on a call's tape
    REQUEST_ANSWERING, // a local answer is being sent
    REQUEST_ENDED,     // in the graveyard
};

struct request {
    // Together, as every piece of an answer needs them.
    struct worker *worker;
    struct xchg *x;            // the client's; over once ENDED
    struct resume *resume;     // what it wants of tapes; NULL: a plain relay (resume.h)
    struct patience *patience; // what it hears while it waits; NULL: nothing (patience.h)
    struct access *access;     // its line in the access log; NULL: there is none
    union {
        struct {                       // READING
            struct str whole;          // the whole body, in `body` or in the read buffer
            struct call_places places; // in it
            uint32_t tenant;           // in short (tape/shelf.h), 0: there are no keys
            const struct targets *targets;
            uint64_t max_tokens;        // as the body asks for; 0: it does not say
            struct gather_plan *gather; // what it asks for when that is several calls (gather.h)
        };
        struct { // FOLLOWING
            struct mirror_wait wait;
            struct question *question; // about a tape, that is on its way (tapes.c)
        };
        struct tape_reader reader; // afterwards
    };

    struct setup *setup; // held: what it looks at stays, whatever is reloaded
    union {
        struct list node;   // in worker->requests
        struct grave grave; // ENDED
    };
    const struct head *head; // until the body's end was delivered; longer if held: its own then
    const struct route *route;
    const struct str *cors;  // its page's origin as the configuration allows it; NULL: none
    struct quota_look *look; // its client's limits, one of which refused it; NULL: none did
    struct call *call;       // while a body is streamed to it
    struct buf body;         // of a looked-at request that came in pieces; of a local answer
    uint64_t serial;
    int client;          // whose key it came with (who.h)
    uint64_t timeout_ms; // X-Request-Timeout; 0: none
    uint32_t retry_ms;   // of a local answer: when to ask again, as in a tape_why
    char *client_id;     // x-request-id as the client gave it, or NULL
    uint32_t local_sent; // bytes of a local answer
    enum request_state state;
    enum outcome outcome; // of a local answer, as it will be counted
    unsigned char step;
    bool held : 1; // request_hold
    bool head_sent : 1;
    bool body_complete : 1;
    bool background : 1; // "background": true in the body, and thaw does it
    bool streams : 1;    // "stream": true
    bool progress : 1;   // it wants to be told its place in a queue
    bool blanks : 1;     // its route keeps JSON answers alive
    bool preflight : 1;  // a browser asks for a page what it may do
};

enum verdict {
    NEXT, // go on with the next step
    DONE, // answered, or a call was started
    WAIT, // run this step again when the body is complete
};

// What clients' code can tell apart; NULL: the status says it.
const char *outcome_code(enum outcome outcome);

// As http_server wants them.
void request_begin(struct http_server *s, struct xchg *x, struct head *head);
void request_reject(struct http_server *s, struct xchg *x, enum err e, const char *problem);
// The worker ends: the client's connection is broken off.
void request_shutdown(struct request *r);

enum { REQUEST_ID_MAX = 128 };
// "thaw-1a2b3c4d-17", or the client's own.
struct str request_id(const struct request *r, char out[REQUEST_ID_MAX]);
// Goes on with the steps.
void request_run(struct request *r);
// Makes head and body the request's own: they outlive the callback that brought them. False: answered, no memory.
MUSTCHECK bool request_hold(struct request *r);
// A request without a client: a job that is run again. It has passed the door already.
void request_begin_job(struct worker *w, const struct head *head, struct str body, struct resume *take_resume,
                       bool background);
// From the first step again, as if it came now. After request_hold, or inside a step.
void request_again(struct request *r);
// Starts what writes the answer's tape, a call or whatever the route has instead, and follows it.
void request_start(struct request *r);
// Whose calls it makes; the tokens are those of a body of that size. False: nothing is limited here.
MUSTCHECK bool request_client(const struct request *r, size_t body_len, uint64_t max_tokens,
                              struct call_client *client);
// Sends a tape's head, with what thaw adds to it.
void request_send_head(struct request *r, const struct tape_head *tape_head);
// Becomes a reader of the tape, from a position that it has.
void request_follow(struct request *r, struct tape *t, uint64_t position);

// answer.c: what thaw says itself. Ends the request once it is sent; `json` is copied and may be empty.
void request_answer(struct request *r, int status, enum outcome outcome, struct str json);
// In OpenAI's error shape, or Anthropic's on its paths; `type` and, where it is NULL, `code` follow from the status.
// `param` may be NULL.
void request_error(struct request *r, int status, enum outcome outcome, const char *param, const char *code,
                   const char *format, ...) PRINTF(6, 7);
// Sends what is left of a local answer.
void request_send_local(struct request *r);

// The only writer of r->state, and the only way out of a request.
void request_set_state(struct request *r, enum request_state state);
void request_finish(struct request *r, enum outcome outcome);
