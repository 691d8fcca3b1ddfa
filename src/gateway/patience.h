// SPDX-License-Identifier: MIT
// What a client hears while it waits, so that nothing between it and thaw takes the silence for death: comments in an
// event stream (`: keep-alive`; `: queued 3 of 12` where it asked to be told), blanks in front of a JSON answer. The first
// of them commits the answer to status 200; what goes wrong afterwards is told in the answer itself.
#pragma once
#include "gateway/request.h"

struct patience;

// At the beginning of a request: what it asks for. May be called again.
void patience_look(struct request *r);
// The request follows its tape now.
void patience_begin(struct request *r);
// It is over for the request; idempotent.
void patience_end(struct request *r);

// The tape's head is there. True: it was said already, or what follows is told otherwise.
MUSTCHECK bool patience_head(struct request *r, const struct tape_head *head);
// False: there is something of its own to be sent first, and no room. Or the bytes are not for the client: *taken.
MUSTCHECK bool patience_bytes(struct request *r, const struct iovec *v, int count, bool last, size_t *taken);
// They were sent.
void patience_sent(struct request *r, const struct iovec *v, int count, size_t taken);
// The answer ends without being whole. True: it is told in its own words, and the request ends.
MUSTCHECK bool patience_fails(struct request *r, int status, const char *code, const char *problem,
                              enum outcome outcome);
// There is room again. False: not yet.
MUSTCHECK bool patience_drain(struct request *r);
