// SPDX-License-Identifier: MIT
// Both ends share one block that lives until both are closed. An end's events are delivered by a task in a
// later turn, merged, so that neither side ever runs inside the other's call.
#include "net/mem.h"

#include <assert.h>

#include "base/buf.h"
#include "base/mem.h"

struct mem_pipe;
struct mem_end {
    struct conn conn;
    struct mem_pipe *pipe;
    struct buf in; // written by the other end, not yet read
    struct task notify;
    unsigned events;       // to be delivered
    uint64_t unread_since; // bytes written since the mark minus what the other end has read of them
    uint64_t since_mark;
    bool finished;   // sent its end
    bool wants_room; // a write of this end fell short
    bool closed;
};
struct mem_pipe {
    struct mem_end ends[2];
    struct grave grave;
    size_t window;
    bool broken;
};

static struct mem_end *end_of(struct conn *c) { return container_of(c, struct mem_end, conn); }
static struct mem_end *other(struct mem_end *e) { return &e->pipe->ends[e == &e->pipe->ends[0]]; }

static void notify(struct mem_end *e, unsigned events) {
    if (!e->closed) {
        e->events |= events;
        loop_defer(e->conn.loop, &e->notify);
    }
}

static void on_notify(struct task *task) {
    struct mem_end *e = container_of(task, struct mem_end, notify);
    unsigned events = e->events;
    e->events = 0;
    conn_emit(&e->conn, events);
}

static enum err mem_read(struct conn *c, void *into, size_t room, size_t *n) {
    struct mem_end *e = end_of(c);
    struct mem_end *peer = other(e);
    *n = MIN(room, buf_len(&e->in));
    if (e->pipe->broken) {
        *n = 0;
        return ERR_RESET;
    }
    if (*n == 0) {
        return peer->finished ? ERR_EOF : ERR_AGAIN;
    }
    memcpy(into, buf_str(&e->in).ptr, *n);
    buf_consume(&e->in, *n);
    peer->unread_since -= MIN(peer->unread_since, *n);
    if (buf_len(&e->in) == 0) {
        buf_finish(&e->in); // an idle connection keeps no memory
    }
    if (peer->wants_room) {
        peer->wants_room = false;
        notify(peer, CONN_WRITABLE);
    }
    return OK;
}

static enum err mem_writev(struct conn *c, const struct iovec *v, int count, size_t *written) {
    struct mem_end *e = end_of(c);
    struct mem_end *peer = other(e);
    *written = 0;
    if (e->pipe->broken || peer->closed || e->finished) {
        return ERR_RESET;
    }
    for (int i = 0; i < count; i++) {
        size_t room = e->pipe->window - buf_len(&peer->in);
        size_t n = MIN(room, v[i].iov_len);
        enum err error = buf_append(&peer->in, v[i].iov_base, n);
        if (error != OK) {
            return error;
        }
        *written += n;
        e->since_mark += n;
        e->unread_since += n;
        if (n < v[i].iov_len) {
            e->wants_room = true;
            break;
        }
    }
    if (*written) {
        notify(peer, CONN_READABLE);
    }
    return OK;
}

static void mem_shutdown(struct conn *c) {
    struct mem_end *e = end_of(c);
    e->finished = true;
    notify(other(e), CONN_READABLE | CONN_HUP);
}

static void mem_mark(struct conn *c) { end_of(c)->since_mark = end_of(c)->unread_since = 0; }

static bool mem_untouched(struct conn *c) { return end_of(c)->unread_since == end_of(c)->since_mark; }

static void bury(struct grave *grave) {
    struct mem_pipe *p = container_of(grave, struct mem_pipe, grave);
    buf_finish(&p->ends[0].in);
    buf_finish(&p->ends[1].in);
    free(p);
}

static void mem_close(struct conn *c, bool abort) {
    struct mem_end *e = end_of(c);
    if (e->closed) {
        return;
    }
    e->closed = true;
    c->owner = NULL;
    task_cancel(&e->notify);
    if (abort || buf_len(&e->in)) { // as TCP: closing with unread bytes resets
        e->pipe->broken = true;
    }
    if (other(e)->closed) {
        loop_bury(c->loop, &e->pipe->grave, bury);
    } else {
        mem_shutdown(c);
    }
}

static const struct conn_ops mem_ops = {
    .read = mem_read,
    .writev = mem_writev,
    .shutdown = mem_shutdown,
    .mark = mem_mark,
    .untouched = mem_untouched,
    .close = mem_close,
};

void mem_pair(struct loop *loop, size_t window, struct conn **a, struct conn **b) {
    struct mem_pipe *p = xcalloc(1, sizeof *p);
    p->window = window;
    for (int i = 0; i < 2; i++) {
        p->ends[i].conn = (struct conn){.ops = &mem_ops, .loop = loop};
        p->ends[i].pipe = p;
        p->ends[i].notify.run = on_notify;
        buf_init(&p->ends[i].in, window);
    }
    *a = &p->ends[0].conn;
    *b = &p->ends[1].conn;
}

void mem_break(struct conn *c) {
    struct mem_end *e = end_of(c);
    e->pipe->broken = true;
    notify(e, CONN_READABLE | CONN_HUP);
    notify(other(e), CONN_READABLE | CONN_HUP);
}
