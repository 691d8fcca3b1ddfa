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
// An earlier call's tape is promised to this request (202), which does not wait for it: the call goes on without readers.
void tapes_adopt(struct request *r, const struct tape_id *id);
// The request ends; nobody waits for the answer to its question any more.
void tapes_forget_question(struct request *r);
