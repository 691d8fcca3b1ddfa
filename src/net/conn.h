// SPDX-License-Identifier: MIT
// A byte stream to a peer, whatever carries it: TCP, TLS over any other conn, or memory. Small on purpose
// (curl's connection filters and pgbouncer's SBufIO are the models).
//
// Events are edge-triggered hints. After CONN_READABLE the owner reads until it gets less than it asked for
// (or ERR_AGAIN); after a conn_writev that took less than it was given it waits for CONN_WRITABLE. An owner
// that stops early must come back by itself (loop_defer); no event will repeat what was already told.
//
// Ownership: whoever created the conn owns it until conn_close or conn_abort, which may be called in any
// callback, are idempotent, and after which no event comes; the memory dies at the end of the loop's turn.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/str.h"
#include "ev/loop.h"

enum conn_event {
    CONN_READABLE = 1,
    CONN_WRITABLE = 2,
    CONN_HUP = 4, // the peer will send no more, or the stream is broken: conn_read tells which
};

// A socket address of either family. Not a struct sockaddr_storage, which is five times as long: a connection being made
// has sixteen, and in a burst of calls there are many.
struct address {
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t len;
};
enum { ADDRESS_TEXT = 64 };
// "127.0.0.1:80", "[::1]:80"; writes at most ADDRESS_TEXT bytes, returns `out`.
const char *address_format(const struct address *a, char out[ADDRESS_TEXT]);
// A numeric IPv4 or IPv6 host (no brackets) and a port; ERR_INVALID for names.
MUSTCHECK enum err address_parse(struct str host, uint16_t port, struct address *a);

struct conn;
struct conn_ops {
    enum err (*read)(struct conn *c, void *into, size_t room, size_t *n);
    enum err (*writev)(struct conn *c, const struct iovec *v, int count, size_t *written);
    void (*shutdown)(struct conn *c);
    void (*mark)(struct conn *c);
    bool (*untouched)(struct conn *c);
    bool (*resent)(struct conn *c); // NULL: never
    void (*close)(struct conn *c, bool abort);
    bool (*peer)(const struct conn *c, struct address *a); // NULL: it has no address
};

struct conn {
    const struct conn_ops *ops;
    struct loop *loop;
    void *owner;                                       // NULL: nobody listens, events are dropped
    void (*on_event)(struct conn *c, unsigned events); // a set of enum conn_event
};

// OK with 0 < *n <= room (*n < room: nothing more for now), ERR_AGAIN, ERR_EOF (orderly end), or a failure.
MUSTCHECK static inline enum err conn_read(struct conn *c, void *into, size_t room, size_t *n) {
    return c->ops->read(c, into, room, n);
}
// OK with *written from 0 to all; less than all means that CONN_WRITABLE will come. Never blocks, never SIGPIPE.
MUSTCHECK static inline enum err conn_writev(struct conn *c, const struct iovec *v, int count, size_t *written) {
    return c->ops->writev(c, v, count, written);
}
// Sends the end (FIN, TLS close_notify) behind what was written; reading goes on.
static inline void conn_shutdown(struct conn *c) { c->ops->shutdown(c); }
// Remembers this point of what was written. conn_untouched: was nothing written since then acknowledged by the
// peer's TCP (or read by the other end in memory)? If a connection broke untouched, the peer's program cannot
// have seen a byte: what was sent may safely be sent again elsewhere. May be asked until the close.
static inline void conn_mark(struct conn *c) { c->ops->mark(c); }
static inline bool conn_untouched(struct conn *c) { return c->ops->untouched(c); }
// Did the network lose something, so that the kernel had to send it again? While connecting counts, too. What was timed
// on such a connection says little about the peer. May be asked until the close.
static inline bool conn_resent(struct conn *c) { return c->ops->resent && c->ops->resent(c); }
static inline void conn_close(struct conn *c) { c->ops->close(c, false); }
// Breaks the stream off (TCP RST): the peer sees that it was not a normal end.
static inline void conn_abort(struct conn *c) { c->ops->close(c, true); }

// The address of the other end. False: there is none, or not any more.
MUSTCHECK static inline bool conn_peer(const struct conn *c, struct address *a) {
    return c->ops->peer && c->ops->peer(c, a);
}

// Delivers an event to whoever listens. For implementations.
static inline void conn_emit(struct conn *c, unsigned events) {
    if (c->owner && events) {
        c->on_event(c, events);
    }
}
