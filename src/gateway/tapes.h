// SPDX-License-Identifier: MIT
// Answers about tapes, by their ids: /v1/tapes/{id}.
#pragma once
#include "gateway/request.h"

// GET /tapes/{id}: the answer again, from the start or behind a position, then live. GET /tapes/{id}/status: how far it
// is. DELETE /tapes/{id}: a running call is cancelled; an answer that has ended is forgotten.
void tapes_route(struct request *r);
// What there is to know of a tape without reading it.
struct tape_state {
    const char *end; // tape_end_name, or "interrupted"
    int status;
    uint64_t bytes, events, created_s;
    bool kept, deleted;
};
enum tapes_order {
    TAPES_LOOK,
    TAPES_CANCEL, // if it runs
    TAPES_DELETE, // cancel if it runs, forget if it has ended
    TAPES_ADOPT,  // it goes on without readers
};
// Asks for the tape with this id, or gives it an order, wherever it is: `then` gets its state, or NULL and why not. In
// memory only.
typedef void tapes_then(struct request *r, const struct tape_state *state, enum shelf_find found);
void tapes_ask(struct request *r, const struct tape_id *id, enum tapes_order order, tapes_then *then);
// An earlier call's tape is promised to this request (202), which does not wait for it: the call goes on without readers.
void tapes_adopt(struct request *r, const struct tape_id *id);
// The request goes on, or ends; nobody waits for the answer to its question any more.
void tapes_forget_question(struct request *r);
