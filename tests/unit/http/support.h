// SPDX-License-Identifier: MIT
// What the tests of both ends share: a loop with a clock that stands still, and a peer that speaks bytes at the other
// end of a connection in memory.
#pragma once
#include "ev/clock.h"
#include "net/mem.h"

#include "check.h"

enum { TURNS_MAX = 200000 };

struct world {
    struct fake_clock clock;
    struct loop loop;
};

static inline void world_init(struct world *w) {
    fake_clock_init(&w->clock);
    check_ok(loop_init(&w->loop, &(struct loop_options){.clock = &w->clock.clock}));
}

// Turns until nothing is left to do.
static inline void settle(struct world *w) {
    for (unsigned turns = 0; loop_turn(&w->loop, 0); turns++) {
        check(turns < TURNS_MAX);
    }
}

static inline void pass(struct world *w, uint64_t ms) {
    for (uint64_t step; ms; ms -= step) { // in steps, as a real clock would
        step = MIN(ms, 100);
        w->clock.ns += step * 1000000;
        settle(w);
    }
}

static inline void world_finish(struct world *w) {
    settle(w);
    loop_finish(&w->loop);
}

// ---- the other end

struct peer {
    struct conn *conn; // NULL: not connected, or closed by us
    struct buf got;
    struct buf out; // not yet written
    bool deaf;      // reads nothing
    bool readable;
    bool finishing; // sends its end behind `out`
    bool eof;       // the other side ended orderly
    bool reset;     // or not
};

static inline void peer_read(struct peer *p) {
    char bytes[300];
    size_t n = 0;
    while (p->conn && !p->deaf && p->readable) {
        enum err e = conn_read(p->conn, bytes, sizeof bytes, &n);
        if (e == OK) {
            if (buf_append(&p->got, bytes, n) != OK) { // only where allocations are made to fail
                buf_clear(&p->got);
            }
            continue;
        }
        p->readable = false;
        p->eof = p->eof || e == ERR_EOF;
        p->reset = p->reset || (e != ERR_EOF && e != ERR_AGAIN);
    }
}

static inline void peer_write(struct peer *p) {
    struct str bytes = buf_str(&p->out);
    struct iovec v = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    size_t n = 0;
    if (!p->conn) {
        return;
    }
    if (bytes.len && conn_writev(p->conn, &v, 1, &n) != OK) {
        p->reset = true;
        buf_clear(&p->out);
        return;
    }
    buf_consume(&p->out, n);
    if (p->finishing && buf_len(&p->out) == 0) {
        p->finishing = false;
        conn_shutdown(p->conn);
    }
}

static inline void peer_on_event(struct conn *c, unsigned events) {
    struct peer *p = c->owner;
    if (events & (CONN_READABLE | CONN_HUP)) {
        p->readable = true;
        peer_read(p);
    }
    if (p->conn && (events & CONN_WRITABLE)) {
        peer_write(p);
    }
}

static inline void peer_init(struct peer *p, struct conn *conn) {
    *p = (struct peer){.conn = conn};
    buf_init(&p->got, 64 << 20);
    buf_init(&p->out, 64 << 20);
    conn->owner = p;
    conn->on_event = peer_on_event;
}

static inline void peer_say(struct peer *p, struct str bytes) {
    if (buf_str_append(&p->out, bytes) == OK) { // fails only where allocations are made to
        peer_write(p);
    }
}

// Sends its end (FIN) behind what it said.
static inline void peer_end(struct peer *p) {
    p->finishing = true;
    peer_write(p);
}

static inline void peer_close(struct peer *p) {
    if (p->conn) {
        conn_close(p->conn);
        p->conn = NULL;
    }
}

static inline void peer_listen(struct peer *p) {
    p->deaf = false;
    peer_read(p);
}

static inline void peer_finish(struct peer *p) {
    peer_close(p);
    buf_finish(&p->got);
    buf_finish(&p->out);
}

static inline struct str peer_got(const struct peer *p) { return buf_str(&p->got); }

// Windows that put a short read and write at every byte, at odd places, at the reads' own size, and nowhere.
static const size_t windows[] = {1, 7, MEM_WINDOW, 1 << 20};

#define EVERY_WINDOW(function)                                                                                         \
    do {                                                                                                               \
        for (size_t window = 0; window < ARRAY_LEN(windows); window++) {                                               \
            function(windows[window]);                                                                                 \
        }                                                                                                              \
    } while (0)

static inline char *long_body(size_t n) {
    char *body = xmalloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        body[i] = (char)('a' + (i * 7 + i / 251) % 26);
    }
    body[n] = 0;
    return body;
}
