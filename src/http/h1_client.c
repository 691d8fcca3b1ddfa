// SPDX-License-Identifier: MIT
// One HTTP/1 connection to an origin. It carries one exchange at a time and is kept between them.
//
//            dialled              answer complete, to be kept
//   DIALING ---------> BUSY --------------------------------> IDLE
//      | failed         | ^          client_start              |
//      v                | +------------------------------------+
//   CLOSED <------------+----- failed, cut, aborted,           | closed by the peer, or bytes nobody asked for
//      ^                       not to be kept                  | (RFC 9112 9.2: they may be meant for somebody else),
//      +-------------------------------------------------------+ or idle_ms
//
//   DIALING  x set, no conn
//   BUSY     x set, conn set; a parser from the first byte of the answer to its last, but while feed() has it
//   IDLE     no x; in origin->idle; deadline idle_ms
//   CLOSED   in the loop's graveyard
#include <assert.h>

#include "base/mem.h"
#include "http/h1_client.h"
#include "http/h2_client.h"
#include "http/wire.h"

enum {
    READS_PER_TURN = 4, // of read_most each
    INTERIM_MAX = 8,    // 1xx answers to one request (facts A37)
};

enum conn_state { C_DIALING, C_BUSY, C_IDLE, C_CLOSED };

struct client_conn {
    // Together, as every read needs them.
    struct origin *origin;
    struct conn *conn;
    struct xchg *x;
    struct h1 *parser;
    enum conn_state state;
    bool used;     // has carried a whole exchange before
    bool paused;   // the owner wants no answer bytes now
    bool readable; // there may be bytes in the socket that were not asked for
    bool hup;      // the peer stopped sending
    bool to_head;  // the request is a HEAD
    unsigned char interim;
    struct wire wire;

    struct dial *dial;
    struct list node;      // in origin->idle
    struct list open_node; // in origin->open_list
    struct timer deadline;
    struct task work; // put off to the next turn: reading on, a failed write
    union {
        struct task flush;  // end of turn: a head that got no body in it
        struct grave grave; // CLOSED
    };
};

static const struct xchg_ops client_ops;

static struct client_conn *of(const struct xchg *x) { return x->impl; }
static struct loop *loop_of(const struct client_conn *c) { return c->origin->client->loop; }

static void set_state(struct client_conn *c, enum conn_state state) {
    assert(c->state != C_CLOSED);
    if (c->state == C_IDLE) {
        list_unlink(&c->node);
        c->origin->idle_count--;
        timer_clear(&c->deadline);
    }
    c->state = state;
    if (state == C_IDLE) {
        list_push_front(&c->origin->idle, &c->node);
        c->origin->idle_count++;
        timer_set(loop_of(c), &c->deadline, c->origin->client->idle_ms);
    }
}

// A fresh parser does not know what was asked.
static void tell_parser(const struct client_conn *c, struct h1 *parser) {
    if (c->to_head) {
        h1_expect_no_body(parser);
    }
}

static struct h1 *take_parser(const struct client_conn *c) {
    struct http_client *client = c->origin->client;
    struct h1 *parser = client->spare ? client->spare : h1_create(H1_RESPONSE, &client->limits);
    client->spare = NULL;
    if (parser) {
        tell_parser(c, parser);
    }
    return parser;
}

static void recycle(struct http_client *client, struct h1 *parser) {
    if (parser && !client->spare) {
        h1_reset(parser);
        client->spare = parser;
    } else {
        h1_destroy(parser);
    }
}

static void bury(struct grave *grave) {
    struct client_conn *c = container_of(grave, struct client_conn, grave);
    wire_finish(&c->wire);
    free(c);
}

static void detach(struct client_conn *c) {
    if (c->x) {
        c->x->ops = NULL;
        c->x = NULL;
    }
}

static void close_conn(struct client_conn *c) {
    if (c->state == C_CLOSED) {
        return;
    }
    set_state(c, C_CLOSED);
    detach(c);
    recycle(c->origin->client, c->parser);
    c->parser = NULL;
    task_cancel(&c->work);
    task_cancel(&c->flush);
    list_unlink(&c->open_node);
    c->origin->open--;
    if (c->dial) {
        dial_cancel(c->dial);
        c->dial = NULL;
    }
    if (c->conn) {
        conn_close(c->conn);
    }
    loop_bury(loop_of(c), &c->grave, bury);
}

// The owner hears of it.
static void fail(struct client_conn *c, enum err e, const char *problem) {
    struct xchg *x = c->x;
    if (x) {
        x->ops = NULL;
        x->untouched = !c->conn || conn_untouched(c->conn);
        c->x = NULL; // whatever the owner starts in its callback is another exchange
        x->events->on_fail(x, e, problem);
    }
    close_conn(c);
}

// ---- sending: what the owner calls

static void after_send(struct client_conn *c) {
    if (c->wire.state == WIRE_BROKEN) {
        loop_defer(loop_of(c), &c->work); // never fail inside the owner's own call
    }
}

static void send_head(struct xchg *x, const struct head *head) {
    struct client_conn *c = of(x);
    enum h1_framing framing = H1_NO_BODY;
    if (c->wire.state != WIRE_IDLE) {
        return;
    }
    assert(c->state == C_BUSY); // before on_drain there is no connection
    c->to_head = head->method == METHOD_HEAD;
    if (h1_write_request(&c->wire.pending, head, false, &framing) != OK) {
        wire_break(&c->wire);
        after_send(c);
        return;
    }
    wire_begin(&c->wire, framing, head->body_len);
    loop_flush_later(loop_of(c), &c->flush);
}

static size_t send_body(struct xchg *x, const struct iovec *v, int count, bool end) {
    struct client_conn *c = of(x);
    size_t taken = wire_send(&c->wire, c->conn, v, count, end);
    task_cancel(&c->flush);
    after_send(c);
    return taken;
}

static void on_flush(struct task *task) {
    struct client_conn *c = container_of(task, struct client_conn, flush);
    wire_flush(&c->wire, c->conn);
    after_send(c);
}

static bool retract_head(struct xchg *x UNUSED) { return false; }

static void set_paused(struct xchg *x, bool paused) {
    struct client_conn *c = of(x);
    if (c->paused && !paused && (c->readable || c->hup)) {
        loop_defer(loop_of(c), &c->work);
    }
    c->paused = paused;
}

static void abort_exchange(struct xchg *x) { close_conn(of(x)); }

static const struct xchg_ops client_ops = {send_head, send_body, retract_head, set_paused, abort_exchange, NULL};

// ---- receiving

// A read that filled the buffer may have left bytes in the socket, and the owner's next request, which may come at once,
// must not find them as its answer (facts A15).
static bool nothing_behind(struct client_conn *c) {
    char byte;
    size_t n;
    c->readable = c->readable && conn_read(c->conn, &byte, 1, &n) != ERR_AGAIN;
    return !c->readable;
}

// The connection is free before the owner hears of the end, so that the next exchange finds it.
static void answered(struct client_conn *c, struct str last, bool keep) {
    struct xchg *x = c->x;
    keep = keep && wire_complete(&c->wire) && !c->hup && nothing_behind(c);
    detach(c);
    if (keep) {
        wire_reset(&c->wire);
        c->used = true;
        set_state(c, C_IDLE);
    } else {
        close_conn(c);
    }
    x->events->on_body(x, last, true);
}

// Parses up to the end of one message, which may be an interim answer. False: the exchange is over.
static bool feed_message(struct client_conn *c, struct h1 *parser, char *bytes, size_t n, size_t *used) {
    struct xchg *x = c->x;
    struct h1_result r;
    enum err e = h1_feed(parser, bytes, n, &r);
    if (e != OK) {
        fail(c, e, h1_problem(parser));
        return false;
    }
    *used = r.used;
    if (r.head_done) {
        bool interim = h1_head(parser)->status < 200;
        if (interim && ++c->interim > INTERIM_MAX) {
            fail(c, ERR_PROTOCOL, "too many interim answers");
            return false;
        }
        x->events->on_head(x, h1_head(parser));
        if (c->state == C_CLOSED) { // aborted by its owner
            return false;
        }
        if (interim) { // has no body
            h1_reset(parser);
            tell_parser(c, parser);
            return true;
        }
    }
    if (r.end) { // bytes behind an answer: whose would they be? (facts A15)
        answered(c, r.body, r.keep_alive && r.used == n);
        return false;
    }
    if (r.body.len) {
        x->events->on_body(x, r.body, false);
    }
    return c->state != C_CLOSED;
}

// Parses what one read brought. An owner may end the exchange in its callback and still use what it was given: the
// parser, in which that may lie, is kept out of the connection's reach until they are done.
static void feed(struct client_conn *c, char *bytes, size_t n) {
    struct http_client *client = c->origin->client;
    struct h1 *parser = c->parser ? c->parser : take_parser(c);
    bool goes_on = true;
    if (!parser) {
        fail(c, ERR_NOMEM, "out of memory");
        return;
    }
    c->parser = NULL;
    while (n && goes_on) {
        size_t used = 0;
        goes_on = feed_message(c, parser, bytes, n, &used);
        bytes += used;
        n -= used;
    }
    if (goes_on) {
        c->parser = parser;
    } else {
        recycle(client, parser);
    }
}

static void on_eof(struct client_conn *c, enum err e) {
    struct h1_result r;
    c->hup = true;
    c->readable = false;
    if (c->state == C_IDLE) {
        close_conn(c);
        return;
    }
    enum err ended = e == ERR_EOF && c->parser ? h1_feed_eof(c->parser, &r) : e;
    if (ended == OK) {
        answered(c, STR(""), false);
    } else if (c->parser && h1_begun(c->parser)) {
        fail(c, ERR_CUT,
             e == ERR_EOF ? "the upstream closed the connection in the middle of its answer"
                          : "the upstream reset the connection in the middle of its answer");
    } else {
        fail(c, ERR_RESET, "the upstream closed the connection without an answer");
    }
}

// Whatever comes now answers nothing that was sent.
static bool nothing_asked(const struct client_conn *c) {
    return c->state == C_IDLE || c->wire.state == WIRE_IDLE || c->wire.untouched;
}

static bool wants_bytes(const struct client_conn *c) {
    return c->state == C_IDLE || (c->state == C_BUSY && !c->paused);
}

static void read_some(struct client_conn *c) {
    char *into = loop_of(c)->read_buffer;
    for (int i = 0; wants_bytes(c); i++) {
        size_t n = 0;
        if (i == READS_PER_TURN) {
            loop_defer(loop_of(c), &c->work);
            return;
        }
        size_t most = c->origin->client->read_most;
        enum err e = conn_read(c->conn, into, most, &n);
        if (e == ERR_AGAIN) {
            c->readable = false;
            return;
        }
        if (e != OK) {
            on_eof(c, e);
            return;
        }
        if (nothing_asked(c)) {
            fail(c, ERR_PROTOCOL, "the upstream sent an answer before the request");
            return;
        }
        c->readable = n == most || c->hup;
        feed(c, into, n);
        if (!c->readable) {
            return;
        }
    }
}

// ---- events

static void on_work(struct task *task) {
    struct client_conn *c = container_of(task, struct client_conn, work);
    bool broken = c->wire.state == WIRE_BROKEN;
    if (broken) { // an answer may be there all the same: why else would it have closed?
        c->readable = true;
    }
    read_some(c);
    if (broken && c->state == C_BUSY && !c->readable) {
        fail(c, ERR_RESET, "the upstream closed the connection while the request was being sent");
    }
}

static void on_event(struct conn *conn, unsigned events) {
    struct client_conn *c = conn->owner;
    if (events & CONN_HUP) {
        c->hup = true;
    }
    if (events & (CONN_READABLE | CONN_HUP)) {
        c->readable = true;
        read_some(c);
    }
    if (c->state == C_BUSY && (events & CONN_WRITABLE) && c->wire.blocked && wire_flush(&c->wire, c->conn) &&
        c->wire.state == WIRE_BODY) {
        c->x->events->on_drain(c->x);
    }
    if (c->state == C_BUSY) {
        after_send(c);
    }
}

static void on_deadline(struct timer *timer) { close_conn(container_of(timer, struct client_conn, deadline)); }

static void attach(struct client_conn *c, struct xchg *x) {
    c->x = x;
    c->paused = false;
    c->interim = 0;
    x->ops = &client_ops;
    x->impl = c;
    x->reused = c->used;
}

static void connected(struct client_conn *c, struct conn *conn) {
    c->conn = conn;
    conn->owner = c;
    conn->on_event = on_event;
    conn_mark(conn);
    set_state(c, C_BUSY);
}

static void on_dialed_conn(void *owner, enum err e, struct conn *conn, const char *problem) {
    struct client_conn *c = owner;
    c->dial = NULL;
    if (e != OK) {
        fail(c, e, problem);
        return;
    }
    if (c->origin->speaks == ORIGIN_ASK && str_eq(tls_alpn(conn), STR("h2"))) { // since it was asked last
        struct xchg *x = c->x;
        struct origin *origin = c->origin;
        close_conn(c);
        h2_client_adopt(origin, x, conn);
        return;
    }
    connected(c, conn);
    c->x->events->on_drain(c->x);
}

static struct client_conn *new_conn(struct origin *o) {
    struct client_conn *c = xcalloc(1, sizeof *c);
    c->origin = o;
    c->work.run = on_work;
    c->flush.run = on_flush;
    c->deadline.on_timer = on_deadline;
    wire_init(&c->wire);
    list_push_back(&o->open_list, &c->open_node);
    o->open++;
    return c;
}

enum err h1_client_start(struct origin *o, struct xchg *x, bool fresh) {
    if (!fresh && !list_empty(&o->idle)) {
        struct client_conn *c = container_of(o->idle.next, struct client_conn, node);
        conn_mark(c->conn);
        set_state(c, C_BUSY);
        attach(c, x);
        return OK;
    }
    struct client_conn *c = new_conn(o);
    attach(c, x);
    if (o->connect_local) {
        connected(c, o->connect_local(o->context));
        return OK;
    }
    c->dial = dial_start(o->client->loop, o->client->dns, &o->target, on_dialed_conn, c);
    return ERR_AGAIN;
}

void h1_client_adopt(struct origin *o, struct xchg *x, struct conn *take_conn) {
    struct client_conn *c = new_conn(o);
    attach(c, x);
    connected(c, take_conn);
    x->events->on_drain(x);
}

unsigned h1_client_close_idle(struct origin *o, unsigned most) {
    unsigned closed = 0;
    for (; closed < most && !list_empty(&o->idle); closed++) {
        close_conn(container_of(o->idle.prev, struct client_conn, node));
    }
    return closed;
}

void h1_client_finish(struct origin *o) {
    list_each(node, &o->open_list) { close_conn(container_of(node, struct client_conn, open_node)); }
}
