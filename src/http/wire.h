// SPDX-License-Identifier: MIT
// The sending half of an HTTP/1 connection, the same for both sides: a head that waits for its first body bytes,
// the framing of a body, and what the connection could not take yet. Body bytes are never copied here: what was not
// taken is offered again by its owner.
//
//   IDLE --wire_begin--> BODY --all taken with end--> DONE --wire_reset--> IDLE
//   any state --failed write, wrong length--> BROKEN
#pragma once
#include "http/h1.h"
#include "net/conn.h"

enum wire_state { WIRE_IDLE, WIRE_BODY, WIRE_DONE, WIRE_BROKEN };

struct wire {
    struct buf pending; // head and chunk framing not yet taken by the connection
    uint64_t left;      // H1_LENGTH: body bytes still owed; H1_CHUNKED: bytes owed of the open chunk
    enum wire_state state;
    enum h1_framing framing;
    bool blocked;   // the connection was full: CONN_WRITABLE will come
    bool untouched; // nothing was sent since wire_begin
};

void wire_init(struct wire *w);
void wire_finish(struct wire *w);
void wire_reset(struct wire *w); // for the next message

// A head was written to w->pending with h1_write_*; the body follows. Nothing is sent yet.
void wire_begin(struct wire *w, enum h1_framing framing, int64_t body_len);
// Sends what is pending and as much of the body as the connection takes; returns that much. With `end` these are the
// body's last bytes. A body longer or shorter than its length was announced breaks the wire.
size_t wire_send(struct wire *w, struct conn *c, const struct iovec *v, int count, bool end);
// Sends what is pending; true if nothing is any more.
bool wire_flush(struct wire *w, struct conn *c);
// Back to IDLE if the head begun last is still pending whole and nothing was sent behind it.
bool wire_retract(struct wire *w);
// Nothing more can be sent; WIRE_BROKEN.
void wire_break(struct wire *w);
// All of the message was handed to the connection.
static inline bool wire_complete(const struct wire *w) { return w->state == WIRE_DONE && buf_len(&w->pending) == 0; }
