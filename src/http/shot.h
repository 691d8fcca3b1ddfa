// SPDX-License-Identifier: MIT
// The client side of one exchange that leaves at a moment of the owner's choice, together with a thousand others: on a
// connection of its own, connected, secured and almost all written beforehand. HTTP/1.1, or HTTP/2 where the two ends agree
// on it (ALPN) or it is known beforehand.
//
// What is held back is the last byte of the head and all of the body, while they are small enough to leave in one
// segment train (SHOT_HELD_MOST): some servers begin to work when the head is there, others when the body is. Of a
// larger body only the last byte is held back. In HTTP/2 a head is a frame, and all of it is held back; what comes before
// is the preface and both sides' SETTINGS, acknowledged.
//
// The connection is closed afterwards, and in HTTP/1.1 says so before: idle ones would take seats of servers with a thread
// or a process for each.
#pragma once
#include "http/client.h"

enum {
    SHOT_HELD_MOST = 14 * 1000, // bytes: TCP's initial window of ten segments (RFC 6928)
    SHOT_STREAMS_MANY = 1000,   // streams on a connection: so many, or more
    SHOT_PROBLEM = 200,
};

// What the HTTP/2 connections of a loop's shots share. Outlives them.
struct h2_side;
struct h2_side *shot_side_create(struct loop *loop);
void shot_side_destroy(struct h2_side *side); // accepts NULL

// Whom the shots go to. All borrowed.
struct aim {
    struct loop *loop;
    struct address address;
    struct tls_client *tls; // NULL: plain
    struct str host;        // whom the certificate is to name
    // ORIGIN_ASK: over TLS, whose client offers it. ORIGIN_H2 over TLS: it must agree, too.
    enum origin_speaks speaks;
    struct h2_side *h2; // set unless ORIGIN_H1
    // In memory: gives the near end of a connection instead. NULL: connect to the address.
    struct conn *(*connect_local)(void *context);
    void *context;
};

enum shot_state {
    SHOT_IDLE,       // not started
    SHOT_CONNECTING, // TCP
    SHOT_SECURING,   // TLS
    SHOT_GREETING,   // HTTP/2: SETTINGS
    SHOT_LOADED,     // all but what is held back was written, or will be as soon as there is room
    SHOT_RELEASED,   // the rest may leave, or has
    SHOT_OVER,
};

struct shot;
struct shot_events {
    void (*on_loaded)(struct shot *s); // never inside shot_start
    // The head of the final answer; what it holds is valid until the return. May be NULL.
    void (*on_head)(struct shot *s, const struct head *head);
    void (*on_body)(struct shot *s, struct str bytes); // decoded; may be NULL
    // Exactly once unless shot_close came before, never inside shot_start or shot_release. Not to be freed in here.
    void (*on_over)(struct shot *s);
};

enum shot_http { SHOT_HTTP_UNKNOWN, SHOT_HTTP_1, SHOT_HTTP_2 };

struct shot_way;
struct shot_line;
struct shot {
    const struct shot_events *events;
    void *owner;
    struct head *head;               // of the request (shot_keep_head); NULL: nothing is asked, a connection is made
    struct buf body;                 // of it. Both are the shot's to free
    struct buf *answer;              // NULL, or where the body is kept, as far as it has room
    uint64_t connect_ms, timeout_ms; // until it is loaded; from the release to the answer's end

    // What happened, on the loop's clock; 0: it did not.
    uint64_t began_ns, loaded_ns, sent_ns, first_byte_ns, end_ns;
    uint64_t bytes; // of the body
    int status;
    enum err error;
    enum shot_http http;
    unsigned
        streams; // HTTP/2: so many at once the server takes on the connection, as it said itself; SHOT_STREAMS_MANY
    bool turned_away; // HTTP/2: the server's HTTP/2 refused or ended it (REFUSED_STREAM, GOAWAY), not what is behind it
    bool retransmitted;
    char problem[SHOT_PROBLEM]; // a sentence, with an error

    // private
    enum shot_state state;
    struct aim aim;
    struct conn *conn;          // in HTTP/2 its line's
    const struct shot_way *way; // NULL: not agreed on yet
    size_t sent;                // HTTP/1.1: of wire and body together; HTTP/2: taken of the body
    struct buf wire;            // HTTP/1.1: the head
    struct h1 *parser;
    unsigned interim;
    bool blocked;
    struct shot_line *line; // HTTP/2
    struct xchg x;
    struct list of_line, unsent;
    bool joined, pushing;
    struct timer deadline;
    struct task work;
};

// A copy of what is borrowed, for shot.head (body_len set); NULL without memory.
MUSTCHECK struct head *shot_keep_head(const struct head *head);
// Zeroed but for events, owner, head, body, answer, connect_ms and timeout_ms.
void shot_start(struct shot *s, const struct aim *aim);
// The same as another stream of the HTTP/2 connection of a shot that is loaded, and is released before this one, or has
// been. Where the server takes no more streams there it is over with ERR_FULL, and nothing was sent.
void shot_join(struct shot *s, const struct shot *with);
// In place of a start: it is over with that error.
void shot_refuse(struct shot *s, const struct aim *aim, enum err e);
// Lets the rest leave, of one that is loaded. Not inside an event of a shot on the same connection, but for its own
// on_loaded.
void shot_release(struct shot *s);
// No event comes any more; frees what it has. Idempotent, accepts a zeroed one.
void shot_close(struct shot *s);
