// SPDX-License-Identifier: MIT
// A call: one request to a model's upstreams, in their order, whose answer goes on a tape. It ends with the tape's end,
// or when the tape's last reader has left. Who reads the tape is not its business.
#pragma once
#include "gateway/access.h"
#include "gateway/asked.h"
#include "gateway/worker.h"

struct call;

extern const size_t call_size; // of a call, for the worker's pool

// Whose call it is, and what he may do.
struct call_client {
    uint64_t id;
    unsigned weight;   // 1 to 100
    unsigned priority; // 0 to 9
    struct quota_rates rates;
    uint64_t tokens;     // of the question, as estimated
    uint64_t max_tokens; // of the answer, as asked for; 0: not said
};

// What is asked, borrowed for call_start.
struct call_request {
    const struct head *head; // the client's, with its fields as received
    struct str request_id;
    struct setup *setup;
    const struct targets *targets;    // of it
    const struct call_client *client; // NULL: nothing is limited
    uint64_t timeout_ms;              // the client's own; 0: none
    bool body_kept;                   // `body` is all of it, and kept for another try
    struct str body;
    struct buf *take_body;     // instead of copying: the buffer that `body` lies in, or NULL
    struct call_places places; // of a kept body
    struct trail *take_trail;  // for the access log, or NULL
    // Who streams the body (body_kept false); else NULL.
    const struct call_owner *owner_events;
    void *owner;
    bool messages; // Anthropic's API: an error in its stream is an event of its own kind
    bool goes_on;  // when its last reader has left, too
    bool answered; // the client was told to come back: the upstream is not asked to do so (Prefer)
    bool plain;    // the answer is read by thaw: in no coding
};

// Starts it, as the writer of a tape that has its place on the worker's shelf. The call is looked after by its worker.
struct call *call_start(struct worker *w, const struct call_request *request, struct tape *tape);
// More of a streamed body. False: no more until on_room (what was given is kept). Ignored once the call is over.
bool call_upload(struct call *c, struct str bytes, bool end);
// The owner goes away; nothing more will be uploaded.
void call_forget_owner(struct call *c);
// The call of this tape waits for its turn: *place from 1, of how many. False: it does not.
bool call_waits(const struct tape *t, unsigned *place, unsigned *waiting);
// What its client has left of its limits, where the tape has ended with OUTCOME_LIMITED. Until the end of the turn.
const struct quota_look *call_look(const struct call *c);
// Bytes of a request's body that the tape's writer keeps; 0 if that is no call.
size_t call_held(const struct tape *t);
// A tape that was cut has the outcome in t->why.reason, and when to try again in t->why.retry_ms (0: not said).
