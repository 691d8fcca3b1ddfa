// SPDX-License-Identifier: MIT
// An exchange: one request and its answer, seen from one end. Client side and upstream side are the same
// type, HTTP/1 and HTTP/2 too; nothing above http/ asks which.
//
//   server side: on_head and on_body bring the request; the owner sends the answer.
//   client side: the owner sends the request; on_head (1xx answers may come before) and on_body bring the answer.
//
// Receiving. on_head once per head (its fields may be changed in place), then on_body until `end` is true (always
// called with it, perhaps with no bytes). What they pass is valid until they return, with one exception: a request's
// head stays valid until its last on_body has returned, or the exchange is over and the callback that ended it has
// returned. xchg_pause stops the reading at the socket, xchg_resume goes on.
//
// Sending. xchg_send_head, then xchg_send until all was taken with `end`. xchg_send takes what the connection has
// room for and returns how much; if that is not all, on_drain comes and the owner offers the rest again. A head
// waits for the first body bytes of the same turn and leaves in one write with them.
//
// The end. The exchange is over for its owner
//   - when the answer is complete: on a server when all of it was taken with `end` (of a request that is not all there
//     yet nothing more will be told), on a client when on_body came with `end` (of a request that was not all sent yet
//     nothing more is);
//   - after on_fail (exactly once, never inside a call the owner makes);
//   - after xchg_abort.
// No event comes afterwards; a client-side xchg may be used for another request then, also inside the last event.
// Sending after the end is ignored.
#pragma once
#include <sys/uio.h>

#include "http/msg.h"
#include "net/conn.h"

struct xchg;

struct xchg_ops {
    void (*send_head)(struct xchg *x, const struct head *head);
    size_t (*send)(struct xchg *x, const struct iovec *v, int count, bool end);
    bool (*retract_head)(struct xchg *x);
    void (*pause)(struct xchg *x, bool paused);
    void (*abort)(struct xchg *x);
    bool (*peer)(const struct xchg *x, struct address *a); // of a server's
};

struct xchg_events {
    void (*on_head)(struct xchg *x, struct head *head);
    void (*on_body)(struct xchg *x, struct str bytes, bool end);
    // There is room to send; on the client side also: the connection is there, the request may be sent.
    void (*on_drain)(struct xchg *x);
    // ERR_GONE: the client left. ERR_CUT: the message ended too early. Else why the peer cannot be reached or
    // understood. `problem` is a sentence for people, valid until the callback returns.
    void (*on_fail)(struct xchg *x, enum err e, const char *problem);
};

struct xchg {
    const struct xchg_ops *ops; // NULL when over
    const struct xchg_events *events;
    void *impl;             // the connection's side of it
    void *owner;            // for owners in which the xchg is not embedded
    bool reused, untouched, refused; // client side: see client_reused, client_untouched, client_refused
};

// On a server also for interim answers (status 100-199), any number before the final one.
static inline void xchg_send_head(struct xchg *x, const struct head *head) {
    if (x->ops) {
        x->ops->send_head(x, head);
    }
}
MUSTCHECK static inline size_t xchg_sendv(struct xchg *x, const struct iovec *v, int count, bool end) {
    return x->ops ? x->ops->send(x, v, count, end) : 0;
}
MUSTCHECK static inline size_t xchg_send(struct xchg *x, struct str bytes, bool end) {
    struct iovec v = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    return xchg_sendv(x, &v, bytes.len ? 1 : 0, end);
}
// Takes the head of an answer back if none of it has left yet: true, and another one may be sent.
static inline bool xchg_retract_head(struct xchg *x) { return x->ops && x->ops->retract_head(x); }
static inline void xchg_pause(struct xchg *x) {
    if (x->ops) {
        x->ops->pause(x, true);
    }
}
static inline void xchg_resume(struct xchg *x) {
    if (x->ops) {
        x->ops->pause(x, false);
    }
}
// Gives the exchange up: what was sent never looks complete, the peer's connection is not used again. On a server the
// bytes that were taken before still leave, as far as the connection has room for them.
static inline void xchg_abort(struct xchg *x) {
    if (x->ops) {
        x->ops->abort(x);
    }
}
// The client's address. False: the exchange is over, or it has none.
MUSTCHECK static inline bool xchg_peer(const struct xchg *x, struct address *a) {
    return x->ops && x->ops->peer && x->ops->peer(x, a);
}
static inline bool xchg_over(const struct xchg *x) { return x->ops == NULL; }
