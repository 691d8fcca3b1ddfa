// SPDX-License-Identifier: MIT
// HTTP/2 on one connection (RFC 9113), either side; nghttp2, which this header keeps out of sight, does the framing, HPACK
// and the peer's state machine. Streams are exchanges (xchg.h). Private to http/: h2_client.c and h2_server.c hold one
// `struct h2` per connection, and decide what begins, what is too much and when it ends.
//
//   receiving  one read of the loop's buffer is parsed at once; a stream's last bytes and its end are one on_body. Bytes
//              for a paused stream are held (at most its window, which is not given back); the connection's window is
//              given back as bytes come, so that others go on.
//   sending    xchg_send takes what the stream's and the connection's windows have room for, and copies it; the end of the
//              turn frames everything and writes it at once. Heads leave then too: with the body bytes of the same turn.
//   the end    a stream that ended for its owner may go on here: until what was taken has left, or until its RST_STREAM
//              was sent. RST_STREAMs of a client are paced (nghttp2 servers say GOAWAY to who sends more than 1,000
//              at once, or 33 a second): beyond, the answer of an unwanted stream is thrown away until its turn has come.
#pragma once
#include "http/xchg.h"
#include "net/conn.h"

enum {
    H2_STREAMS_UNTOLD = 100, // on one connection before the peer's SETTINGS said how many it takes
    H2_STREAMS_MOST = 1000,  // on one connection, whatever they say: they live and die together
};

struct h2;
struct h2_events {
    // A server's: a request arrived, or something that is none (as on_request and on_reject of http/server.h). on_reject's
    // owner sends an answer's head and body before it returns.
    void (*on_request)(struct h2 *h, struct xchg *x, struct head *head);
    void (*on_reject)(struct h2 *h, struct xchg *x, enum err e, const char *problem);
    // A server's; NULL elsewhere. Bytes are about to be read: NULL, or why the connection must end, with the *code of its
    // GOAWAY (ENHANCE_YOUR_CALM unless set).
    const char *(*on_bytes)(struct h2 *h, const char *bytes, size_t n, uint32_t *code);
    // A server's: a DATA frame was framed; or an RST_STREAM that the client made necessary: NULL, or why it must end.
    void (*on_data_sent)(struct h2 *h);
    const char *(*on_reset_sent)(struct h2 *h);
    // A stream has ended (or, on a server, begun), the peer said how many it takes, has what we said, or takes no more:
    // h->active, h2_may_begin. Closes nothing.
    void (*on_change)(struct h2 *h);
    // What was framed has been handed to the system. NULL: nobody wants to know.
    void (*on_written)(struct h2 *h);
    // It is closed, for whatever reason; its exchanges are about to hear of it.
    void (*on_closed)(struct h2 *h);
    // The last thing: free what h lies in.
    void (*on_buried)(struct h2 *h);
};

// What the connections of one side of a loop share.
struct h2_side;
struct h2_side *h2_side_create(struct loop *loop, const struct http_limits *limits, bool server);
void h2_side_destroy(struct h2_side *side);

struct h2_block;
struct h2_stream;
struct h2 {
    struct h2_side *side;
    const struct h2_events *events;
    struct conn *conn;               // NULL before h2_open
    struct nghttp2_session *session; // NULL before h2_open
    struct list streams;
    unsigned stream_count;
    struct list held;       // streams whose head waits for the end of the turn (servers)
    struct list thirsty;    // streams that offered more than there was room for
    struct list ready;      // streams that were resumed and have something to be delivered
    struct list unwanted;   // streams whose RST_STREAM waits for its turn (clients)
    struct buf out;         // framed, but the connection had no room
    struct h2_block *block; // of the head that is arriving
    struct h2_stream *chunk_of;
    struct str chunk; // of its body, about to be delivered
    struct task work;
    union {
        struct task flush;
        struct grave grave; // closed, and without streams
    };
    size_t scratched;      // bytes framed and not written yet, in the side's scratch
    size_t queued;         // body bytes taken and not yet framed
    uint64_t heard_ms;     // when bytes came last
    uint64_t moved_ms;     // when some of `out` was taken last
    uint64_t blocked_ms;   // since when there is `out`
    uint64_t turn;         // of the loop, in which
    unsigned begun;        // so many streams were there or began (servers)
    unsigned most;         // streams at once that a server takes; set before h2_open
    uint32_t end_code;     // of `ending`
    uint64_t tokens_ms;    // when reset_tokens was computed
    unsigned reset_tokens; // RST_STREAMs that may be sent at once
    unsigned active;       // streams that count with the peer
    enum err error;        // found inside an owner's call; told by `work`
    const char *problem;   // about it
    const char *farewell;  // the peer's GOAWAY, its code in words; NULL: none came
    bool secure;           // :scheme is https
    bool wide;             // no window of ours ever holds the peer up: streams are never paused; set before h2_open
    bool holding;          // h2_hold
    bool told;             // the peer's SETTINGS have come
    bool acknowledged;     // it has ours
    bool going;            // GOAWAY came or was sent: no new streams
    bool carried;          // a whole exchange
    bool refusing;         // it refused a stream that it should have had room for, and has answered none since
    bool readable, hup;    // as in h1_client.c
    bool ending;           // GOAWAY with end_code is about to be sent, and it is about to be closed
    bool closed;
    bool buried;
};

// The caller has set nothing.
void h2_init(struct h2 *h, struct h2_side *side, const struct h2_events *events);
// Takes the connection (its events included) and says hello, with the next flush.
void h2_open(struct h2 *h, struct conn *take_conn);
// Reads what has come.
void h2_read(struct h2 *h);
// Takes bytes that somebody else read.
void h2_feed(struct h2 *h, const char *bytes, size_t n);
// A server's streams whose client lets it wait are ended: a head that is not complete `head_ms` after it began ends the
// connection, a body of which nothing came for `idle_ms` is refused (ERR_SLOW), an answer of which nothing was taken for as
// long is broken off.
void h2_sweep(struct h2 *h, uint64_t head_ms, uint64_t idle_ms);
// The client asks too much: GOAWAY with ENHANCE_YOUR_CALM, and closes in the next turn. May be called anywhere.
void h2_calm(struct h2 *h, const char *problem);
// Announces h2_drain: GOAWAY that still lets streams begin which are on their way (RFC 9113 section 6.8).
void h2_drain_soon(struct h2 *h);

// May another exchange begin? `told_most`: how many streams, until the peer says so itself.
bool h2_may_begin(const struct h2 *h, unsigned told_most);
// A client's exchange on this connection (x->events set). Before h2_open it waits: nothing may be sent yet.
void h2_begin(struct h2 *h, struct xchg *x);
// Takes an exchange that waits for h2_open out of h, NULL when there is none.
struct xchg *h2_unbegin(struct h2 *h);
// Tells those that wait for h2_open that they may send.
void h2_begun(struct h2 *h);
// How many streams the peer takes at once (at most H2_STREAMS_MOST).
unsigned h2_streams_most(const struct h2 *h);
// Sends RST_STREAMs that had to wait, as far as they may go by now; there are more while h->unwanted is not empty.
void h2_cancel_more(struct h2 *h);
void h2_ping(struct h2 *h);
// Frames what was submitted, and keeps that and all that comes (few, and small) until h2_write_now, which writes what else
// would leave at the end of the turn. Neither inside an exchange's on_head, on_body or on_fail.
void h2_hold(struct h2 *h);
void h2_write_now(struct h2 *h);
// Has the whole request been handed to the system?
bool h2_has_left(const struct h2 *h, const struct xchg *x);
// No new streams; GOAWAY, and closes when the last one has ended.
void h2_drain(struct h2 *h);
// Closes; exchanges fail with e, those whose answer had begun with ERR_CUT, a server's with ERR_GONE. With e == OK they are
// over without an event, also if it is closed already.
void h2_close(struct h2 *h, enum err e, const char *problem);
