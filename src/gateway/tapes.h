// SPDX-License-Identifier: MIT
// Answers about tapes, by their ids: /v1/tapes/{id}.
#pragma once
#include "gateway/request.h"

// GET /tapes/{id}: the answer again, from the start or behind a position, then live.
void tapes_read(struct request *r);
// GET /tapes/{id}/status: how far it is.
void tapes_status(struct request *r);
// DELETE /tapes/{id}: a running call is cancelled; an answer that has ended is forgotten.
void tapes_delete(struct request *r);
// Asks for the tape with this id, wherever it is: `then` gets how it ended ("running" too), NULL when there is none (of
// this tenant) in memory. `cancels`: what runs is cancelled first; `forgets`: what has ended is forgotten.
struct tape_state {
    const char *end;
    int status;
    uint64_t bytes, events, created_s;
    bool kept, deleted;
};
typedef void tapes_then(struct request *r, const struct tape_state *state, enum shelf_find found);
void tapes_ask(struct request *r, const struct tape_id *id, bool cancels, bool forgets, tapes_then *then);
// The request ends; nobody waits for the answer to its question any more.
void tapes_forget_question(struct request *r);
