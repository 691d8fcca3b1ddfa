// SPDX-License-Identifier: MIT
// The client side of HTTP on one loop: origins (whom we call), their kept connections, exchanges out.
#pragma once
#include "http/xchg.h"
#include "net/dial.h"

struct http_client {
    struct loop *loop;
    struct dns *dns;
    struct http_limits limits;
    uint64_t idle_ms; // how long an unused connection is kept
    size_t
        read_most; // bytes of an answer at once: LOOP_READ_BUFFER, or less. What an owner cannot pass on it has to keep
    struct list origins;
    struct h1 *spare;   // a parser at rest; a connection has one only while an answer arrives
    struct h2_side *h2; // what HTTP/2 connections share; NULL until there is one
};

enum origin_speaks {
    ORIGIN_H1,
    ORIGIN_ASK, // TLS, whose client offers "h2,http/1.1": the server decides
    ORIGIN_H2,  // known beforehand (RFC 9113 section 3.3)
};

// A server we call. Kept HTTP/1 connections form a stack: the last one used is used first, so that few stay warm and the
// rest times out. HTTP/2 connections carry many exchanges each: as few as the server's limit of streams allows.
struct origin {
    struct http_client *client;
    struct dial_target target; // target.timeout_ms bounds a connection's making
    struct str authority;      // what Host says
    enum origin_speaks speaks;
    // In-process origins: gives the near end of a connection (net/mem) instead of dialling. NULL: dial.
    struct conn *(*connect_local)(void *context);
    void *context;

    struct list node;              // in client->origins
    struct list idle;              // most recently used first
    struct list open_list;         // all HTTP/1 connections, for origin_finish
    struct list links, full_links; // HTTP/2 connections: with room for another stream, and the others
    unsigned h2_most;              // how many streams one takes, as SETTINGS said last; 0: they have not
    bool agreed_h1;                // ORIGIN_ASK: the last answer was not h2
    unsigned idle_count;
    unsigned open;
};

// The caller has set loop, dns, limits and idle_ms, other fields zero.
void http_client_init(struct http_client *client);
// After its origins.
void http_client_finish(struct http_client *client);
// Closes up to `most` kept connections, of every origin those unused for the longest time first. How many.
unsigned http_client_close_idle(struct http_client *client, unsigned most);
// The caller has set target and authority (and connect_local), other fields zero.
void origin_init(struct origin *o, struct http_client *client);
// Closes all connections; exchanges on them are over without an event.
void origin_finish(struct origin *o);

// Gives x (x->events set) a connection: OK when it has a kept one and the request can be sent at once; ERR_AGAIN when
// on_drain will say so, or on_fail that there is none. `fresh`: no kept connection, a new one; in HTTP/2 one that may be
// relied on (it refuses nothing, and was heard of just now).
MUSTCHECK enum err client_start(struct origin *o, struct xchg *x, bool fresh);
// The connection that carries x had carried an exchange before, or the peer says that it did nothing for x (RFC 9113
// section 8.7). From client_start on.
static inline bool client_reused(const struct xchg *x) { return x->reused; }
// In on_fail: the peer cannot have seen any of the request (net/conn.h, conn_untouched), or says that it did nothing for
// it.
static inline bool client_untouched(const struct xchg *x) { return x->untouched; }
// In on_fail: it says so (HTTP/2's REFUSED_STREAM, or a GOAWAY that names an earlier stream).
static inline bool client_refused(const struct xchg *x) { return x->refused; }
