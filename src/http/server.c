// SPDX-License-Identifier: MIT
// Where connections come in: over TLS a handshake goes before, in which ALPN says what will be spoken; without it the
// first bytes do (h1_server.c).
#include "http/server.h"

#include "base/mem.h"
#include "http/h1.h"
#include "http/h1_server.h"
#include "http/h2_server.h"

enum { LINGER_MS = 2000, PARTING_MS = 2000, STREAMS_MAX = 100 };

// A TLS handshake that goes on.
struct greeting {
    struct http_server *server;
    struct conn *conn;
    struct list node; // in server->greetings
    struct timer deadline;
    struct grave grave;
};

static void bury(struct grave *grave) { free(container_of(grave, struct greeting, grave)); }

void http_server_count(struct http_server *s, bool more) {
    s->open += more ? 1u : -1u;
    if (s->on_open) {
        s->on_open(s, more);
    }
}

// Its connection is whoever's comes next.
static struct conn *end_greeting(struct greeting *g) {
    g->conn->owner = NULL;
    timer_clear(&g->deadline);
    list_unlink(&g->node);
    http_server_count(g->server, false);
    loop_bury(g->server->loop, &g->grave, bury);
    return g->conn;
}

static void on_greeted(struct conn *c, unsigned events) {
    struct greeting *g = c->owner;
    struct http_server *server = g->server;
    enum err e = tls_result(c);
    if (e == ERR_AGAIN) {
        return;
    }
    end_greeting(g);
    if (e != OK) {
        conn_close(c);
    } else if (str_eq(tls_alpn(c), STR("h2"))) {
        h2_server_accept(server, c, STR(""), STR(""), events & CONN_HUP);
    } else {
        h1_server_accept(server, c);
        conn_emit(c, events & CONN_HUP); // no other event will say so
    }
}

static void on_deadline(struct timer *timer) {
    conn_abort(end_greeting(container_of(timer, struct greeting, deadline)));
}

static void greet(struct http_server *server, struct conn *take_conn) {
    struct greeting *g = xcalloc(1, sizeof *g);
    g->server = server;
    g->conn = tls_accept(server->tls, &server->door, take_conn);
    g->conn->owner = g;
    g->conn->on_event = on_greeted;
    g->deadline.on_timer = on_deadline;
    list_push_back(&server->greetings, &g->node);
    http_server_count(server, true);
    timer_set(server->loop, &g->deadline, server->header_ms);
}

void http_server_init(struct http_server *s) {
    list_init(&s->connections);
    list_init(&s->idle);
    list_init(&s->h2_connections);
    list_init(&s->greetings);
    s->linger_ms = s->linger_ms ? s->linger_ms : LINGER_MS;
    s->parting_ms = s->parting_ms ? s->parting_ms : PARTING_MS;
    s->max_streams = s->max_streams ? s->max_streams : STREAMS_MAX;
}

void http_server_accept(struct http_server *server, struct conn *take_conn) {
    if (server->tls) {
        greet(server, take_conn);
    } else {
        h1_server_accept(server, take_conn);
    }
}

struct conn *http_server_release(struct xchg *x) {
    if (h1_server_carries(x)) {
        return h1_server_release(x);
    }
    xchg_abort(x);
    return NULL;
}

void http_server_reset(struct xchg *x) {
    if (!xchg_over(x) && h1_server_carries(x)) {
        h1_server_reset(x);
    } else {
        xchg_abort(x);
    }
}

unsigned http_server_close_idle(struct http_server *server, unsigned most, uint64_t idle_ms) {
    unsigned closed = h1_server_close_idle(server, most, idle_ms);
    return closed + h2_server_close_idle(server, most - closed, idle_ms);
}

void http_server_drain(struct http_server *server) {
    server->draining = true;
    h1_server_drain(server);
    h2_server_drain(server);
}

void http_server_finish(struct http_server *server) {
    list_each(node, &server->greetings) { conn_abort(end_greeting(container_of(node, struct greeting, node))); }
    h1_server_finish(server);
    h2_server_finish(server);
    h1_destroy(server->spare);
    server->spare = NULL;
}
