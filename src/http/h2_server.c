// SPDX-License-Identifier: MIT
// The HTTP/2 connections of a server: how long they may be silent and what they may cost; h2.c does the rest.
//
//            preface, SETTINGS          a request           h2_drain
//   HELLO ------------------------> IDLE <-------> BUSY     no new streams; closed behind the last one
//     |  header_ms                   | idle_ms      | every look_ms its streams are looked through
//     +------------------------------+--------------+----> closed; freed when its streams are (on_buried)
//
// A client that asks for too much (h2_guard.h) is closed with ENHANCE_YOUR_CALM.
#include "http/h2_server.h"

#include "base/mem.h"
#include "http/h2.h"
#include "http/h2_guard.h"

enum { LOOKS_IN_IDLE = 4, HEAD_SLACK = 2 };

struct h2_conn {
    struct h2 h2;
    struct http_server *server;
    struct list node; // in server->h2_connections
    struct timer timer;
    struct h2_guard guard;
    bool busy;    // has streams
    bool parting; // the client was told that the end is near
};

static struct h2_conn *of(struct h2 *h) { return container_of(h, struct h2_conn, h2); }
static uint64_t now_ms(const struct h2_conn *c) { return c->server->loop->now_ms; }

static void set_timer(struct h2_conn *c) {
    const struct http_server *s = c->server;
    uint64_t look_ms = MIN(s->header_ms, s->idle_ms / LOOKS_IN_IDLE);
    uint64_t wait_ms = c->busy ? MAX(look_ms, 1u) : c->h2.told ? s->idle_ms : s->header_ms;
    timer_set(s->loop, &c->timer, wait_ms);
}

static void on_change(struct h2 *h) {
    struct h2_conn *c = of(h);
    bool busy = h->active > 0;
    if (busy != c->busy || !timer_is_set(&c->timer)) {
        c->busy = busy;
        if (!c->parting) {
            set_timer(c);
        }
    }
}

static void on_timer(struct timer *timer) {
    struct h2_conn *c = container_of(timer, struct h2_conn, timer);
    struct http_server *s = c->server;
    if (c->parting && !c->h2.going) {
        c->parting = false;
        h2_drain(&c->h2);
    } else if (!c->h2.told) {
        h2_close(&c->h2, ERR_GONE, "the client did not say hello in time");
        return;
    } else if (c->busy) {
        h2_sweep(&c->h2, s->header_ms, s->idle_ms);
    } else {
        h2_drain(&c->h2);
    }
    if (!c->h2.closed) {
        set_timer(c);
    }
}

static void on_request(struct h2 *h, struct xchg *x, struct head *head) {
    struct http_server *s = of(h)->server;
    s->on_request(s, x, head);
}

static void on_reject(struct h2 *h, struct xchg *x, enum err e, const char *problem) {
    struct http_server *s = of(h)->server;
    s->on_reject(s, x, e, problem);
}

static const char *on_bytes(struct h2 *h, const char *bytes, size_t n, uint32_t *code) {
    struct h2_conn *c = of(h);
    return h2_guard_look(&c->guard, bytes, n, now_ms(c), code);
}

static void on_data_sent(struct h2 *h) { h2_guard_data_sent(&of(h)->guard); }

static const char *on_reset_sent(struct h2 *h) {
    struct h2_conn *c = of(h);
    return h2_guard_reset(&c->guard, now_ms(c));
}

static void on_closed(struct h2 *h) {
    struct h2_conn *c = of(h);
    timer_clear(&c->timer);
    list_unlink(&c->node);
    http_server_count(c->server, false);
}

static void on_buried(struct h2 *h) { free(of(h)); }

static const struct h2_events conn_events = {
    .on_request = on_request,
    .on_reject = on_reject,
    .on_bytes = on_bytes,
    .on_data_sent = on_data_sent,
    .on_reset_sent = on_reset_sent,
    .on_change = on_change,
    .on_closed = on_closed,
    .on_buried = on_buried,
};

// Tells the client that the end is near; soon it comes.
static void part(struct h2_conn *c) {
    c->parting = true;
    h2_drain_soon(&c->h2);
    timer_set(c->server->loop, &c->timer, c->server->parting_ms);
}

void h2_server_accept(struct http_server *server, struct conn *take_conn, struct str asked, struct str first,
                      bool hup) {
    struct h2_conn *c = xcalloc(1, sizeof *c);
    if (!server->h2) {
        server->h2 = h2_side_create(server->loop, &server->limits, true);
    }
    c->server = server;
    c->timer.on_timer = on_timer;
    list_push_back(&server->h2_connections, &c->node);
    http_server_count(server, true);
    h2_guard_init(&c->guard, HEAD_SLACK * server->limits.head_bytes, now_ms(c));
    h2_init(&c->h2, server->h2, &conn_events);
    c->h2.most = server->max_streams;
    c->h2.hup = hup;
    h2_open(&c->h2, take_conn);
    set_timer(c);
    h2_feed(&c->h2, asked.ptr, asked.len);
    h2_feed(&c->h2, first.ptr, first.len);
    if (!c->h2.closed && (first.len == 0 || first.len == LOOP_READ_BUFFER || hup)) {
        h2_read(&c->h2);
    }
    if (!c->h2.closed && server->draining) {
        part(c); // what it asks with its hello was on its way
    }
}

unsigned h2_server_close_idle(struct http_server *server, unsigned most, uint64_t idle_ms) {
    unsigned closed = 0;
    uint64_t due_ms = server->loop->now_ms + server->idle_ms; // of one that is idle from now on
    list_each(node, &server->h2_connections) {
        struct h2_conn *c = container_of(node, struct h2_conn, node);
        if (closed < most && !c->busy && c->h2.told && c->timer.due_ms + idle_ms <= due_ms) {
            h2_drain(&c->h2);
            closed++;
        }
    }
    return closed;
}

void h2_server_drain(struct http_server *server) {
    list_each(node, &server->h2_connections) { part(container_of(node, struct h2_conn, node)); }
}

void h2_server_finish(struct http_server *server) {
    list_each(node, &server->h2_connections) { h2_close(&container_of(node, struct h2_conn, node)->h2, OK, ""); }
    h2_side_destroy(server->h2);
    server->h2 = NULL;
}
