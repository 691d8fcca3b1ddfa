// SPDX-License-Identifier: MIT
// A listening socket. Every worker has its own on the same address (SO_REUSEPORT); options that connections
// inherit are set once, here: TCP_NODELAY, and TCP_NOTSENT_LOWAT so that a client which never reads pins at
// most that much unsent data in the kernel.
#pragma once
#include "net/conn.h"

enum { LISTEN_BACKLOG = 4096, LISTEN_NOTSENT_LOWAT = 128 * 1024 };

struct listener {
    struct io io;
    struct loop *loop;
    struct timer retry; // out of descriptors or room: accepting goes on after a pause instead of spinning
    struct task more;   // a full batch was accepted: the rest in the next turn
    // A new connection: owned by the callee, not yet watched (tcp_watch).
    void (*on_accept)(struct listener *l, struct conn *c);
    // Asked before each. False: they wait in the backlog until listener_resume, but for a look every now and then. NULL:
    // always.
    bool (*may_accept)(struct listener *l);
    // Descriptors have run out: closes some that can be spared; false: there are none. NULL: as if so.
    bool (*spare_files)(struct listener *l);
    void *owner;
    uint64_t refused_files; // how often accepting paused for want of descriptors
};

// Says whether the address can be had at all: SO_REUSEPORT alone would let two programs share it silently.
// Fills in the port when it was 0.
MUSTCHECK enum err listen_claim(struct address *address);
MUSTCHECK enum err listener_open(struct listener *l, struct loop *loop, const struct address *address,
                                 void (*on_accept)(struct listener *l, struct conn *c), void *owner);
// There may be room again: what waits in the backlog is accepted in the next turn.
static inline void listener_resume(struct listener *l) {
    if (l->loop && timer_is_set(&l->retry)) {
        loop_defer(l->loop, &l->more);
    }
}
// The same with a socket that is bound, and mostly listens already: inherited from another process. It is closed on an
// error as well.
MUSTCHECK enum err listener_adopt(struct listener *l, struct loop *loop, int take_fd,
                                  void (*on_accept)(struct listener *l, struct conn *c), void *owner);
// What waits in the backlog is accepted first: closing would reset it, unless another process has the socket, too.
void listener_drain(struct listener *l);
void listener_close(struct listener *l);
