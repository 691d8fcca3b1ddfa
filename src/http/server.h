// SPDX-License-Identifier: MIT
// The server side of HTTP on one loop: connections in, exchanges out. Which version a connection speaks, and whether it is
// TLS, stays here.
#pragma once
#include "http/xchg.h"
#include "net/tls.h"

struct http_server {
    struct loop *loop;
    struct http_limits limits;
    uint64_t header_ms; // from a request's first byte to its last header byte, else 408
    uint64_t idle_ms;   // between requests; between two reads of a body; for a client that takes nothing of its answer
    uint64_t linger_ms; // reading on after an early answer, so that the client can see it; 0: 2000
    // Draining: a connection that was kept alive may bring one request more for so long, whose answer says that it is the
    // last one. 0: 2000
    uint64_t parting_ms;
    // New connections begin with TLS by this one, within header_ms; NULL: they are plain. The owner may replace it at any
    // time, those that are there go on. With ALPN "h2,http/1.1" it lets clients choose; without TLS they do by themselves.
    struct tls_server *tls;
    struct tls_door door; // door.tickets is the caller's
    unsigned max_streams; // requests at the same time on one HTTP/2 connection; 0: 100

    // A request's head arrived: set x->events and x->owner; the answer may be sent at once (no on_body comes then).
    // An owner that expects a body from a client which waits for leave (head->expect_continue) sends an interim head
    // with status 100.
    void (*on_request)(struct http_server *s, struct xchg *x, struct head *head);
    // Something came that is no request: send an answer's head before returning, and its body. The connection is
    // closed behind it.
    void (*on_reject)(struct http_server *s, struct xchg *x, enum err e, const char *problem);
    // A connection was taken (true) or is gone; `open` has it. May be NULL.
    void (*on_open)(struct http_server *s, bool more);
    void *owner;

    struct list connections; // HTTP/1: those with a request or an answer on the way
    struct list idle;        // the others, idle for the longest time first
    struct list h2_connections;
    struct list greetings; // TLS handshakes
    struct h2_side *h2;    // what HTTP/2 connections share; NULL until there is one
    unsigned open;         // connections of all kinds
    bool draining;         // no answer keeps its connection alive any more
    struct h1 *spare;      // a parser at rest; a connection has one only while a request arrives
};

// The fields above the blank line in http_server are set by the caller before (others zero).
void http_server_init(struct http_server *s);
// Breaks off what is still open. Nothing calls back.
void http_server_finish(struct http_server *s);
// Takes a new connection and reads what is already there. A TCP conn is watched (tcp_watch) by the caller afterwards.
void http_server_accept(struct http_server *s, struct conn *take_conn);
// Takes an exchange's connection out of HTTP: the exchange is over without an event, what was taken of its answer has
// left as far as there was room, and the connection, with nobody listening, is the caller's to write to and to close.
// NULL if the exchange is over, and in HTTP/2, where others share the connection: then it was aborted. For thaw mock alone, whose faults are bytes that no server should send.
struct conn *http_server_release(struct xchg *x);
// As xchg_abort, but what the client did not take yet is gone: with the connection, which is reset, or (HTTP/2) the
// stream. Its memory is free now.
void http_server_reset(struct xchg *x);
// Closes up to `most` connections that wait for a request since idle_ms or longer, those idle for the longest time first.
// How many.
unsigned http_server_close_idle(struct http_server *s, unsigned most, uint64_t idle_ms);
// Answers say Connection: close from now on, and HTTP/2 clients are told (GOAWAY). Idle connections, and those whose answer
// had begun to say otherwise, are closed after parting_ms without a request.
void http_server_drain(struct http_server *s);
// Inside http/: there is a connection more, or less.
void http_server_count(struct http_server *s, bool more);
