// SPDX-License-Identifier: MIT
// One HTTP/1 client connection. It carries one exchange at a time; bytes of the next request wait unread in the
// socket, or in `unread` where they came along in the same read.
//
//            first byte            head complete             request complete
//   IDLE ---------------> HEAD -------------------> BODY ----------------------> ANSWER
//    ^                      |                        |                              |
//    |                      | malformed, too slow    | answered before the body     | answered
//    |                      v                        v was read                     |
//    |                   LINGER <--------------------+------------------------------+ not to be kept
//    |                      | the client closed, or linger_ms                       |
//    |                      v                                                       |
//    +---------------  CLOSED                       IDLE <--------------------------+ kept alive
//
//   IDLE    no parser, no exchange; deadline idle_ms, while the server drains parting_ms
//   HEAD    a parser (it goes back as soon as the request is complete); deadline header_ms
//   BODY    the owner has the exchange and hears of the body; it may be answering already; deadline idle_ms
//           between two reads, or writes. Without a parser nothing is read any more: a rejected request is being
//           answered, or all of an early answer was taken and waits for room
//   ANSWER  the request is complete; nothing is read; the client's leaving is seen by CONN_HUP. No deadline, it is the
//           owner's time, but idle_ms while the client takes nothing
//   LINGER  the answer is out; what comes is thrown away so that closing does not reset it (RFC 9112 section 9.6);
//           deadline linger_ms
//   CLOSED  in the loop's graveyard
//
// A connection whose first bytes are HTTP/2's preface is handed over to h2_server.c.
//
// The exchange is its owner's until all of the answer was taken: the connection may still have to send the end of it
// then, but that is nobody else's business.
#include <assert.h>

#include "base/mem.h"
#include "http/h1_server.h"
#include "http/h2_server.h"
#include "http/wire.h"

enum {
    READS_PER_TURN = 4, // of LOOP_READ_BUFFER each; then others get their turn
    UNREAD_CAP = LOOP_READ_BUFFER,
    LINGER_BYTES = 32 * 1024 * 1024, // of an upload that was answered early; linger_ms mostly comes first
};

enum conn_state { S_IDLE, S_HEAD, S_BODY, S_ANSWER, S_LINGER, S_CLOSED };

struct server_conn {
    // Together, as every write needs them.
    struct http_server *server;
    struct conn *conn;
    enum conn_state state;
    unsigned char minor; // of the request
    bool to_head;        // the request is a HEAD
    bool keep_alive;     // as the request wants it
    bool paused;         // the owner wants no body now
    bool readable;       // there may be bytes in the socket that were not asked for
    bool hup;            // the client stopped sending
    bool spoke;          // it is known that it speaks HTTP/1
    unsigned char asked; // bytes of HTTP/2's preface that came before it was known
    struct xchg x;
    struct wire wire;
    union {
        struct task flush;  // end of turn: a head that got no body in it
        struct grave grave; // CLOSED
    };
    struct timer deadline;

    struct h1 *parser; // in HEAD and BODY, but while feed() has it
    struct list node;  // in server->connections, or while IDLE in server->idle
    struct buf unread; // behind the current request, came along with it
    struct task work;  // put off to the next turn: reading on, the next request, a failed write
    size_t lingered;
};

static const struct xchg_ops server_ops;
static void close_conn(struct server_conn *s, bool abort);

static struct server_conn *of(struct xchg *x) { return x->impl; }

static void restart_deadline(struct server_conn *s) {
    uint64_t wait_ms = 0;
    switch (s->state) {
    case S_IDLE: wait_ms = s->server->draining ? s->server->parting_ms : s->server->idle_ms; break;
    case S_BODY: wait_ms = s->server->idle_ms; break;
    case S_HEAD: wait_ms = s->server->header_ms; break;
    case S_LINGER: wait_ms = s->server->linger_ms; break;
    case S_ANSWER: wait_ms = s->wire.blocked ? s->server->idle_ms : 0; break;
    case S_CLOSED: break;
    }
    if (wait_ms) {
        timer_set(s->server->loop, &s->deadline, wait_ms);
    } else {
        timer_clear(&s->deadline);
    }
}

static void set_state(struct server_conn *s, enum conn_state state) {
    assert(s->state != S_CLOSED);
    if ((s->state == S_IDLE) != (state == S_IDLE)) {
        list_unlink(&s->node);
        list_push_back(state == S_IDLE ? &s->server->idle : &s->server->connections, &s->node);
    }
    s->state = state;
    restart_deadline(s);
}

static bool has_owner(const struct server_conn *s) { return !xchg_over(&s->x); }

static void recycle(struct http_server *server, struct h1 *parser) {
    if (parser && !server->spare) {
        h1_reset(parser);
        server->spare = parser;
    } else {
        h1_destroy(parser);
    }
}

static void give_parser_back(struct server_conn *s) {
    recycle(s->server, s->parser);
    s->parser = NULL;
}

// ---- the end of an exchange

// The owner hears of it and lets go.
static void fail_owner(struct server_conn *s, enum err e, const char *problem) {
    struct xchg *x = &s->x;
    if (has_owner(s)) {
        x->ops = NULL;
        x->events->on_fail(x, e, problem);
    }
}

static void client_gone(struct server_conn *s) {
    fail_owner(s, ERR_GONE, "the client closed the connection");
    close_conn(s, false);
}

static void start_linger(struct server_conn *s) {
    give_parser_back(s);
    set_state(s, S_LINGER);
    conn_shutdown(s->conn);
    s->lingered = 0;
    loop_defer(s->server->loop, &s->work);
}

static bool may_keep(const struct server_conn *s) {
    return s->keep_alive && !s->hup && s->wire.framing != H1_UNTIL_CLOSE;
}

// The answer left completely.
static void answered(struct server_conn *s) {
    bool request_complete = s->state == S_ANSWER;
    bool keep = may_keep(s);
    wire_reset(&s->wire);
    give_parser_back(s);
    if (!request_complete || (!keep && (s->readable || buf_len(&s->unread)))) {
        start_linger(s);
    } else if (!keep) {
        close_conn(s, false);
    } else {
        set_state(s, S_IDLE);
        if (buf_len(&s->unread) || s->readable) {
            loop_defer(s->server->loop, &s->work);
        }
    }
}

// After anything was sent: is the answer out, has the connection failed, or does the client take nothing?
static void after_send(struct server_conn *s) {
    if (s->wire.state == WIRE_BROKEN) {
        loop_defer(s->server->loop, &s->work); // never fail inside the owner's own call
        return;
    }
    if (s->wire.state == WIRE_DONE) {
        s->x.ops = NULL;
        if (wire_complete(&s->wire)) {
            answered(s);
            return;
        }
        give_parser_back(s);
    }
    if (s->state == S_ANSWER && s->wire.blocked != timer_is_set(&s->deadline)) {
        restart_deadline(s);
    }
}

static void bury(struct grave *grave) {
    struct server_conn *s = container_of(grave, struct server_conn, grave);
    wire_finish(&s->wire);
    buf_finish(&s->unread);
    free(s);
}

// A body that is complete at the connection's end must not seem so: that end is a reset.
static bool would_seem_complete(const struct server_conn *s) {
    return s->wire.framing == H1_UNTIL_CLOSE && s->wire.state != WIRE_IDLE && !wire_complete(&s->wire);
}

// The end of everything but the connection below.
static void leave_conn(struct server_conn *s) {
    struct http_server *server = s->server;
    set_state(s, S_CLOSED);
    give_parser_back(s);
    task_cancel(&s->work);
    task_cancel(&s->flush);
    list_unlink(&s->node);
    s->x.ops = NULL;
    s->conn->owner = NULL;
    loop_bury(server->loop, &s->grave, bury);
    http_server_count(server, false);
}

static void close_conn(struct server_conn *s, bool abort) {
    if (s->state == S_CLOSED) {
        return;
    }
    abort = abort || would_seem_complete(s);
    leave_conn(s);
    if (abort) {
        conn_abort(s->conn);
    } else {
        conn_close(s->conn);
    }
}

// ---- sending: what the owner calls

static void send_head(struct xchg *x, const struct head *head) {
    struct server_conn *s = of(x);
    enum h1_framing framing = H1_NO_BODY;
    bool close = !may_keep(s) || s->state != S_ANSWER || s->server->draining;
    if (s->wire.state != WIRE_IDLE || (head->status < 200 && s->minor == 0)) {
        return; // broken: the owner is about to hear of it; or an interim answer, which HTTP/1.0 does not know
    }
    if (h1_write_response(&s->wire.pending, head, s->to_head, s->minor, close, &framing) != OK) {
        wire_break(&s->wire);
        after_send(s);
        return;
    }
    if (head->status < 200) { // the client waits for it, and the final one must be free to be taken back
        wire_flush(&s->wire, s->conn);
        after_send(s);
        return;
    }
    s->keep_alive = s->keep_alive && !close;
    wire_begin(&s->wire, framing, head->body_len);
    loop_flush_later(s->server->loop, &s->flush);
}

static size_t send_body(struct xchg *x, const struct iovec *v, int count, bool end) {
    struct server_conn *s = of(x);
    size_t taken = wire_send(&s->wire, s->conn, v, count, end);
    task_cancel(&s->flush);
    after_send(s);
    return taken;
}

static void on_flush(struct task *task) {
    struct server_conn *s = container_of(task, struct server_conn, flush);
    wire_flush(&s->wire, s->conn);
    after_send(s);
}

static bool retract_head(struct xchg *x) {
    struct server_conn *s = of(x);
    if (!wire_retract(&s->wire)) {
        return false;
    }
    task_cancel(&s->flush);
    return true;
}

static void set_paused(struct xchg *x, bool paused) {
    struct server_conn *s = of(x);
    if (s->paused && !paused && (s->readable || s->hup)) {
        loop_defer(s->server->loop, &s->work);
    }
    s->paused = paused;
}

static void abort_exchange(struct xchg *x) {
    struct server_conn *s = of(x);
    if (s->wire.framing != H1_NO_BODY) { // such a head is an answer by itself
        wire_flush(&s->wire, s->conn);
    }
    close_conn(s, false);
}

static bool peer_of(const struct xchg *x, struct address *a) {
    const struct server_conn *s = x->impl;
    return conn_peer(s->conn, a);
}

static const struct xchg_ops server_ops = {send_head, send_body, retract_head, set_paused, abort_exchange, peer_of};

static void ignore_head(struct xchg *x UNUSED, struct head *head UNUSED) {}
static void ignore_body(struct xchg *x UNUSED, struct str bytes UNUSED, bool end UNUSED) {}
static void ignore_drain(struct xchg *x UNUSED) {}
static void ignore_fail(struct xchg *x UNUSED, enum err e UNUSED, const char *problem UNUSED) {}
static const struct xchg_events nobody = {ignore_head, ignore_body, ignore_drain, ignore_fail};

static void begin_exchange(struct server_conn *s) {
    s->x = (struct xchg){.ops = &server_ops, .events = &nobody, .impl = s};
    s->paused = false;
}

// ---- receiving

static bool wants_bytes(const struct server_conn *s) {
    return s->state == S_IDLE || s->state == S_HEAD || (s->state == S_BODY && s->parser && !s->paused);
}

// RFC 9112 section 9.3: HTTP/1.0 connections are not kept alive by an intermediary. Nor are those whose answer began
// before the request was complete: it said so.
static void request_complete(struct server_conn *s, const struct h1_result *r) {
    s->keep_alive = r->keep_alive && s->minor > 0 && s->wire.state == WIRE_IDLE;
    set_state(s, S_ANSWER);
}

static void reject(struct server_conn *s, enum err e, const char *problem) {
    give_parser_back(s);
    fail_owner(s, e, problem);
    if (s->wire.state != WIRE_IDLE) { // whoever was answering cannot go on
        close_conn(s, false);
        return;
    }
    set_state(s, S_BODY);
    s->keep_alive = false;
    s->to_head = false;
    s->minor = 1;
    begin_exchange(s);
    s->server->on_reject(s->server, &s->x, e, problem);
}

static void deliver_head(struct server_conn *s, struct h1 *parser, const struct h1_result *r) {
    struct head *head = h1_head(parser);
    s->minor = head->minor;
    s->to_head = head->method == METHOD_HEAD;
    s->keep_alive = false;
    begin_exchange(s);
    if (r->end) { // mostly: then there is no deadline to set
        request_complete(s, r);
    } else {
        set_state(s, S_BODY);
    }
    s->server->on_request(s->server, &s->x, head);
}

static void out_of_memory(struct server_conn *s) {
    fail_owner(s, ERR_NOMEM, "out of memory");
    close_conn(s, true);
}

static void deliver_body(struct server_conn *s, struct h1 *parser, const struct h1_result *r) {
    if (r->end && s->state == S_BODY) {
        request_complete(s, r);
    }
    if (has_owner(s) && (r->body.len || r->end)) {
        s->x.events->on_body(&s->x, r->body, r->end);
    }
    if (has_owner(s) && r->head_done && !r->end && h1_keep_head(parser) != OK) {
        out_of_memory(s);
    }
}

// What came along behind the request waits for its answer.
static bool keep_rest(struct server_conn *s, const char *bytes, size_t n, size_t used) {
    if (buf_len(&s->unread)) { // it was taken from there
        buf_consume(&s->unread, used);
        return true;
    }
    return buf_append(&s->unread, bytes + used, n - used) == OK;
}

// Parses what one read brought, or what is left of one. An owner may end the exchange in its callback and still use
// what it was given: the parser, in which that may lie, is kept out of the connection's reach until they are done.
static void feed(struct server_conn *s, char *bytes, size_t n) {
    struct http_server *server = s->server;
    struct h1 *parser = s->parser;
    struct h1_result r;
    enum err e = h1_feed(parser, bytes, n, &r);
    if (e != OK) {
        reject(s, e, h1_problem(parser));
        return;
    }
    if (!keep_rest(s, bytes, n, r.used)) {
        out_of_memory(s);
        return;
    }
    s->parser = NULL;
    if (r.head_done) {
        deliver_head(s, parser, &r);
    }
    if (has_owner(s)) {
        deliver_body(s, parser, &r);
    }
    if (s->state == S_HEAD || (s->state == S_BODY && has_owner(s))) {
        s->parser = parser;
    } else {
        recycle(server, parser);
    }
}

static void on_eof(struct server_conn *s, enum err e) {
    fail_owner(s, ERR_GONE,
               e == ERR_EOF ? "the client closed the connection in the middle of its request"
                            : "the client reset the connection");
    close_conn(s, false);
}

static bool take_parser(struct server_conn *s) {
    struct http_server *server = s->server;
    s->parser = server->spare ? server->spare : h1_create(H1_REQUEST, &server->limits);
    server->spare = NULL;
    return s->parser != NULL;
}

// The first bytes of a connection, "PRI " or not, tell the version (RFC 9113 section 3.4); what came is HTTP/1's as
// soon as one of them differs. True: it is no business of this file any more, or there are not enough of them.
static bool is_h2(struct server_conn *s, const char *bytes, size_t n) {
    struct str rest = str_skip(STR("PRI "), s->asked);
    size_t known = MIN(rest.len, n);
    if (memcmp(rest.ptr, bytes, known) != 0) {
        return false;
    }
    if (known == rest.len) {
        struct http_server *server = s->server;
        struct conn *conn = s->conn;
        unsigned asked = s->asked;
        bool hup = s->hup;
        leave_conn(s);
        h2_server_accept(server, conn, str_first(STR("PRI "), asked), str_from(bytes, n), hup);
    } else {
        s->asked = (unsigned char)(s->asked + n);
    }
    return true;
}

// What came of the preface that was none. False: there was no memory for it.
static bool feed_asked(struct server_conn *s) {
    char bytes[4] = "PRI";
    size_t n = s->asked;
    s->asked = 0;
    if (n) {
        feed(s, bytes, n);
    }
    return s->parser != NULL;
}

static void read_some(struct server_conn *s) {
    for (int i = 0; wants_bytes(s); i++) {
        bool fresh = buf_len(&s->unread) == 0;
        char *bytes = fresh ? s->server->loop->read_buffer : s->unread.ptr + s->unread.start;
        size_t n = buf_len(&s->unread);
        enum err e = OK;
        if (i == READS_PER_TURN) {
            loop_defer(s->server->loop, &s->work);
            return;
        }
        if (fresh) {
            e = conn_read(s->conn, bytes, LOOP_READ_BUFFER, &n);
        }
        if (e == ERR_AGAIN) {
            s->readable = false;
            return;
        }
        if (e != OK) {
            on_eof(s, e);
            return;
        }
        if (fresh) { // a short read emptied the socket; an end may lie behind
            s->readable = n == LOOP_READ_BUFFER || s->hup;
        }
        if (s->state == S_BODY) {
            restart_deadline(s); // it is between two reads
        }
        if (!s->spoke && is_h2(s, bytes, n)) {
            if (s->state == S_CLOSED || !s->readable) {
                return;
            }
            continue;
        }
        s->spoke = true;
        if (s->state == S_IDLE) {
            if (!take_parser(s)) {
                out_of_memory(s);
                return;
            }
            set_state(s, S_HEAD);
            if (!feed_asked(s)) {
                return;
            }
        }
        feed(s, bytes, n);
        if (!buf_len(&s->unread)) {
            buf_finish(&s->unread);
            if (!s->readable) {
                return;
            }
        }
    }
}

static void discard(struct server_conn *s) {
    char *into = s->server->loop->read_buffer;
    for (int i = 0; i < READS_PER_TURN; i++) {
        size_t n = 0;
        enum err e = conn_read(s->conn, into, LOOP_READ_BUFFER, &n);
        if (e == ERR_AGAIN) {
            return;
        }
        s->lingered += n;
        if (e != OK || s->lingered > LINGER_BYTES) {
            close_conn(s, false);
            return;
        }
    }
    loop_defer(s->server->loop, &s->work);
}

// ---- events

static void do_work(struct server_conn *s) {
    if (s->wire.state == WIRE_BROKEN) {
        client_gone(s);
        return;
    }
    switch (s->state) {
    case S_IDLE:
    case S_HEAD:
    case S_BODY: read_some(s); break;
    case S_LINGER: discard(s); break;
    case S_ANSWER:
    case S_CLOSED: break;
    }
    // Half-closing counts as leaving, also in the middle of a paused upload: tokens cost money (facts A52).
    if (s->hup && (s->state == S_ANSWER || (s->state == S_BODY && !wants_bytes(s)))) {
        client_gone(s);
    }
}

static void on_work(struct task *task) { do_work(container_of(task, struct server_conn, work)); }

static void on_writable(struct server_conn *s) {
    if (!s->wire.blocked) {
        return;
    }
    bool room = wire_flush(&s->wire, s->conn);
    restart_deadline(s); // the client took something
    after_send(s);
    if (room && has_owner(s) && s->wire.state == WIRE_BODY) {
        s->x.events->on_drain(&s->x);
    }
}

static void on_event(struct conn *c, unsigned events) {
    struct server_conn *s = c->owner;
    if (events & CONN_HUP) {
        s->hup = true;
    }
    if (events & (CONN_READABLE | CONN_HUP)) {
        s->readable = true;
    }
    if (events & CONN_WRITABLE) {
        on_writable(s);
    }
    if (s->state != S_CLOSED && ((events & (CONN_READABLE | CONN_HUP)) || s->wire.state == WIRE_BROKEN)) {
        do_work(s);
    }
}

static void on_deadline(struct timer *timer) {
    struct server_conn *s = container_of(timer, struct server_conn, deadline);
    bool waits_for_client = s->state == S_HEAD || (s->state == S_BODY && s->parser && !s->paused);
    if (waits_for_client && s->wire.state == WIRE_IDLE) {
        reject(s, ERR_SLOW, "the request did not arrive in time");
    } else if (has_owner(s) && !s->wire.blocked) {
        restart_deadline(s); // it is the owner who lets the client wait
    } else {
        fail_owner(s, ERR_GONE, "the client did not go on in time");
        close_conn(s, s->state == S_ANSWER || s->state == S_BODY);
    }
}

// ---- the server

void h1_server_accept(struct http_server *server, struct conn *take_conn) {
    struct server_conn *s = xcalloc(1, sizeof *s);
    s->server = server;
    s->conn = take_conn;
    s->work.run = on_work;
    s->flush.run = on_flush;
    s->deadline.on_timer = on_deadline;
    wire_init(&s->wire);
    buf_init(&s->unread, UNREAD_CAP);
    list_push_back(&server->idle, &s->node);
    http_server_count(server, true);
    take_conn->owner = s;
    take_conn->on_event = on_event;
    set_state(s, S_IDLE);
    read_some(s);
}

bool h1_server_carries(const struct xchg *x) { return x->ops == &server_ops; }

struct conn *h1_server_release(struct xchg *x) {
    struct server_conn *s = of(x);
    wire_flush(&s->wire, s->conn);
    leave_conn(s);
    return s->conn;
}

void h1_server_reset(struct xchg *x) { close_conn(of(x), true); }

unsigned h1_server_close_idle(struct http_server *server, unsigned most, uint64_t idle_ms) {
    unsigned closed = 0;
    uint64_t due_ms = server->loop->now_ms + server->idle_ms; // of one that is idle from now on
    list_each(node, &server->idle) {
        struct server_conn *s = container_of(node, struct server_conn, node);
        if (closed == most || s->deadline.due_ms + idle_ms > due_ms) {
            break;
        }
        if (!s->readable && !buf_len(&s->unread)) { // else its next request is there
            close_conn(s, false);
            closed++;
        }
    }
    return closed;
}

// A client that was told nothing else may send its next request at any moment: closing now would lose what is on its way.
void h1_server_drain(struct http_server *server) {
    list_each(node, &server->idle) { restart_deadline(container_of(node, struct server_conn, node)); }
}

void h1_server_finish(struct http_server *server) {
    list_each(node, &server->connections) { close_conn(container_of(node, struct server_conn, node), true); }
    list_each(node, &server->idle) { close_conn(container_of(node, struct server_conn, node), true); }
}
