// SPDX-License-Identifier: MIT
// The client side of one HTTP/1.1 exchange that leaves at a moment of the owner's choice, together with a thousand
// others: on a connection of its own, connected, secured and almost all written beforehand.
//
// What is held back is the last byte of the head and all of the body, while they are small enough to leave in one
// segment train (SHOT_HELD_MOST): some servers begin to work when the head is there, others when the body is. Of a
// larger body only the last byte is held back.
//
// The connection is closed afterwards, and says so before: idle ones would take seats of servers with a thread or a
// process for each.
#pragma once
#include "http/msg.h"
#include "net/tls.h"

enum {
    SHOT_HELD_MOST = 14 * 1000, // bytes: TCP's initial window of ten segments (RFC 6928)
    SHOT_PROBLEM = 200,
};

// Whom the shots go to. All borrowed.
struct aim {
    struct loop *loop;
    struct address address;
    struct tls_client *tls; // NULL: plain
    struct str host;        // whom the certificate is to name
    // In memory: gives the near end of a connection instead. NULL: connect to the address.
    struct conn *(*connect_local)(void *context);
    void *context;
};

enum shot_state {
    SHOT_IDLE,       // not started
    SHOT_CONNECTING, // TCP
    SHOT_SECURING,   // TLS
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

struct shot {
    const struct shot_events *events;
    void *owner;
    struct buf request;              // the caller's, written before the start; freed with the shot
    size_t head_len;                 // of it; the body is what follows
    bool no_body;                    // HEAD
    struct buf *answer;              // NULL, or where the body is kept, as far as it has room
    uint64_t connect_ms, timeout_ms; // until it is loaded; from the release to the answer's end

    // What happened, on the loop's clock; 0: it did not.
    uint64_t began_ns, loaded_ns, sent_ns, first_byte_ns, end_ns;
    uint64_t bytes; // of the body
    int status;
    enum err error;
    bool retransmitted;
    char problem[SHOT_PROBLEM]; // a sentence, with an error

    // private
    enum shot_state state;
    struct aim aim;
    struct conn *conn;
    struct h1 *parser;
    unsigned interim;
    size_t sent;
    bool blocked;
    struct timer deadline;
    struct task work;
};

// Appends the request of that head (its fields as http_head_strip leaves them; body_len set) without its body.
MUSTCHECK enum err shot_write_head(struct buf *out, const struct head *head);
// Zeroed but for events, owner, request, head_len, no_body, answer, connect_ms and timeout_ms.
void shot_start(struct shot *s, const struct aim *aim);
// In place of a start: it is over with that error.
void shot_refuse(struct shot *s, const struct aim *aim, enum err e);
// Lets the rest leave, of one that is loaded.
void shot_release(struct shot *s);
// No event comes any more; frees what it has. Idempotent, accepts a zeroed one.
void shot_close(struct shot *s);
