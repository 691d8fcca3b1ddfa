// SPDX-License-Identifier: MIT
// The HTTP/2 connections of an origin. Calls are put together on few of them: one write and one read then serve many
// (docs/internals/http2.md has the measurements). Another one is opened when those there are have all the streams that the
// peer takes.
//
//            dialled, ALPN says h2                 GOAWAY, lost, idle_ms, no answer to a PING
//   DIALING ----------------------> OPEN ----------------------------------------------------> CLOSED
//      |  \  ALPN says something else: its calls go on over HTTP/1                                ^
//      |   +--------------------------------------------------------------------------------------+
//      +---- failed, or nobody waits any more ----------------------------------------------------+
//
//   DIALING  no session yet; streams wait. Over TLS nobody knows yet what will be spoken: all calls wait for this one
//            connection, or a burst at the start would make one for each
//   OPEN     in origin->links if it has room for another stream, else in origin->full_links
//   CLOSED   in full_links while paused streams have something to be told of, then in the graveyard
#include "http/h2_client.h"

#include "base/mem.h"
#include "http/h1_client.h"
#include "http/h2.h"

enum {
    PING_AFTER_MS = 30 * 1000, // of silence while something was asked
    PING_WAIT_MS = 15 * 1000,
    CANCEL_AGAIN_MS = 1000,
    SILENT_MS = 1000, // a connection that was heard of since then is alive
};

struct link {
    struct h2 h2;
    struct origin *origin;
    struct list node;
    struct dial *dial; // DIALING
    struct timer timer;
    uint64_t since_ms; // that it has streams, or has none
    uint64_t pinged_ms;
    bool busy; // has streams
    bool pinged;
};

static struct link *of(struct h2 *h) { return container_of(h, struct link, h2); }
static uint64_t now_ms(const struct link *l) { return l->origin->client->loop->now_ms; }
static void set_timer(struct link *l, uint64_t ms) { timer_set(l->origin->client->loop, &l->timer, ms); }

static unsigned told_most(const struct origin *o) { return o->h2_most ? o->h2_most : H2_STREAMS_UNTOLD; }

// Where it belongs, and what is waited for next.
static void settle(struct link *l) {
    struct origin *o = l->origin;
    list_unlink(&l->node);
    if (h2_may_begin(&l->h2, told_most(o))) {
        list_push_front(&o->links, &l->node);
    } else {
        list_push_front(&o->full_links, &l->node);
    }
    if (l->busy != (l->h2.active > 0)) {
        l->busy = l->h2.active > 0;
        l->since_ms = now_ms(l);
        l->pinged = false;
        set_timer(l, l->busy ? PING_AFTER_MS : l->dial ? 0 : o->client->idle_ms);
    }
    if (!list_empty(&l->h2.unwanted)) {
        set_timer(l, CANCEL_AGAIN_MS);
    }
}

static void on_change(struct h2 *h) {
    struct link *l = of(h);
    if (h->told) {
        l->origin->h2_most = MAX(h2_streams_most(h), 1u);
    }
    settle(l);
}

static void on_closed(struct h2 *h) {
    struct link *l = of(h);
    struct origin *o = l->origin;
    list_unlink(&l->node);
    list_push_back(&o->full_links, &l->node);
    o->open--;
    timer_clear(&l->timer);
    if (l->dial) {
        dial_cancel(l->dial);
        l->dial = NULL;
    }
}

static void on_buried(struct h2 *h) {
    struct link *l = of(h);
    list_unlink(&l->node);
    free(l);
}

static const struct h2_events link_events = {.on_change = on_change, .on_closed = on_closed, .on_buried = on_buried};

// Silent for too long: is anybody there?
static void look_alive(struct link *l) {
    uint64_t heard_ms = MAX(l->h2.heard_ms, l->since_ms);
    if (l->pinged && heard_ms >= l->pinged_ms) { // a near one answers within the same millisecond
        l->pinged = false;
    }
    uint64_t from_ms = l->pinged ? l->pinged_ms + PING_WAIT_MS : heard_ms + PING_AFTER_MS;
    if (now_ms(l) < from_ms) {
        set_timer(l, from_ms - now_ms(l));
    } else if (l->pinged) {
        h2_close(&l->h2, ERR_RESET, "the upstream answers nothing any more, not even a PING");
    } else {
        l->pinged = true;
        l->pinged_ms = now_ms(l);
        h2_ping(&l->h2);
        set_timer(l, PING_WAIT_MS);
    }
}

static void on_timer(struct timer *timer) {
    struct link *l = container_of(timer, struct link, timer);
    if (!list_empty(&l->h2.unwanted)) {
        h2_cancel_more(&l->h2);
        set_timer(l, CANCEL_AGAIN_MS);
    } else if (l->dial) {
        if (!l->busy) { // nobody waits for it any more
            h2_close(&l->h2, OK, "");
        }
    } else if (l->busy) {
        look_alive(l);
    } else {
        h2_drain(&l->h2);
    }
}

static struct link *new_link(struct origin *o) {
    struct http_client *client = o->client;
    struct link *l = xcalloc(1, sizeof *l);
    if (!client->h2) {
        client->h2 = h2_side_create(client->loop, &client->limits, false);
    }
    l->origin = o;
    l->timer.on_timer = on_timer;
    h2_init(&l->h2, client->h2, &link_events);
    l->h2.secure = o->target.tls != NULL;
    list_push_front(&o->links, &l->node);
    o->open++;
    return l;
}

// What ALPN agreed on is another version: the first call gets the connection, the others make their own.
static void leave_to_h1(struct link *l, struct conn *take_conn) {
    struct origin *o = l->origin;
    struct xchg *x;
    o->agreed_h1 = true;
    while ((x = h2_unbegin(&l->h2))) {
        if (take_conn) {
            struct conn *conn = take_conn;
            take_conn = NULL;
            h1_client_adopt(o, x, conn);
        } else if (h1_client_start(o, x, false) == OK) {
            x->events->on_drain(x);
        }
    }
    if (take_conn) {
        conn_close(take_conn);
    }
    h2_close(&l->h2, OK, "");
}

static void on_dialed_conn(void *owner, enum err e, struct conn *conn, const char *problem) {
    struct link *l = owner;
    l->dial = NULL;
    if (e != OK) {
        h2_close(&l->h2, e, problem);
    } else if (l->origin->speaks == ORIGIN_ASK && !str_eq(tls_alpn(conn), STR("h2"))) {
        leave_to_h1(l, conn);
    } else if (l->h2.secure && !str_eq(tls_alpn(conn), STR("h2"))) {
        conn_close(conn);
        h2_close(&l->h2, ERR_PROTOCOL, "the upstream does not offer HTTP/2");
    } else {
        h2_open(&l->h2, conn);
        h2_begun(&l->h2);
    }
}

void h2_client_adopt(struct origin *o, struct xchg *x, struct conn *take_conn) {
    struct link *l = new_link(o);
    o->agreed_h1 = false;
    h2_begin(&l->h2, x);
    h2_open(&l->h2, take_conn);
    settle(l);
    x->events->on_drain(x);
}

// `fresh`: not one that refuses streams, nor one that may have died as another just did.
static bool suits(const struct link *l, bool fresh) {
    bool doubtful = l->h2.refusing || (l->h2.carried && l->h2.heard_ms + SILENT_MS < now_ms(l));
    return h2_may_begin(&l->h2, told_most(l->origin)) && !(fresh && doubtful);
}

static struct link *find(const struct origin *o, bool fresh) {
    list_each(node, &o->links) {
        struct link *l = container_of(node, struct link, node);
        if (suits(l, fresh)) {
            return l;
        }
    }
    return NULL;
}

enum err h2_client_start(struct origin *o, struct xchg *x, bool fresh) {
    struct link *l = find(o, fresh);
    if (l) {
        h2_begin(&l->h2, x);
        settle(l);
        return l->dial ? ERR_AGAIN : OK;
    }
    l = new_link(o);
    h2_begin(&l->h2, x);
    if (o->connect_local) {
        h2_open(&l->h2, o->connect_local(o->context));
    } else {
        l->dial = dial_start(o->client->loop, o->client->dns, &o->target, on_dialed_conn, l);
    }
    settle(l);
    return l->dial ? ERR_AGAIN : OK;
}

void h2_client_finish(struct origin *o) {
    struct list *lists[] = {&o->links, &o->full_links};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        while (!list_empty(lists[i])) {
            struct link *l = container_of(lists[i]->next, struct link, node);
            h2_close(&l->h2, OK, "");
            list_unlink(&l->node);
        }
    }
}
