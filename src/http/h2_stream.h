// SPDX-License-Identifier: MIT
// What the parts of HTTP/2 on one connection share, and nobody else: h2.c has the connection, the lives of its streams and
// what nghttp2 is given and asked for; h2_send.c what streams send, h2_receive.c what comes. These three know nghttp2.
//
// A stream, for its owner's two directions:
//
//   sending     IDLE --head--> HELD (a server's, until body bytes or the end of the turn) --> BODY --all taken--> LAST --framed--> DONE
//   receiving   HEAD --head--> BODY --its end--> ENDED
//
// It lives until nghttp2 has closed it (id 0 then) and its owner has heard of its end: one that is paused has bytes, an
// end or a failure (`fate`) to be told of when it is resumed, even if the connection is closed by then.
#pragma once
#include <nghttp2/nghttp2.h>

#include "http/h2.h"
#include "http/h2_head.h"

enum {
    H2_STREAM_WINDOW = 64 * 1024, // what the peer may send beyond what was delivered
    H2_QUEUED_MOST = 64 * 1024,   // taken of a stream's body and not yet framed
    H2_SCRATCH = 64 * 1024,       // one write
    H2_PING_BYTES = 8,
    H2_NOT_YET = -1, // as a stream's id: not begun with nghttp2
};

enum sending { SEND_IDLE, SEND_HELD, SEND_BODY, SEND_LAST, SEND_DONE };
enum receiving { RECV_HEAD, RECV_BODY, RECV_ENDED };

struct h2_side {
    struct loop *loop;
    const struct http_limits *limits;
    bool server;
    struct h2_block *spare; // a connection has one only while a head arrives
    nghttp2_nv *nv;         // for the head that is being submitted
    unsigned nv_room;
    struct field *fields;     // of the same
    char scratch[H2_SCRATCH]; // what is being framed
};

struct h2_stream {
    struct h2 *h;
    struct xchg *x; // NULL: over for its owner
    struct list node;
    struct list ready; // in h->ready
    union {
        struct list wait;   // in h->held, h->thirsty or h->unwanted
        struct grave grave; // dropped
    };
    struct buf out;       // taken of the body, not yet framed
    struct buf in;        // came while paused
    char *packed;         // HELD: the head
    struct head *request; // a server's, while its body arrives
    const char *problem;  // about its fate
    int64_t left;         // of the body that was announced, BODY_UNKNOWN
    uint64_t moved_ms;    // a server's: when the client last sent or took something of it
    uint32_t owed;        // bytes delivered whose window was not given back
    int32_t id;           // H2_NOT_YET, or 0: nghttp2 has closed it
    enum sending sending : 8;
    enum receiving receiving : 8;
    enum err fate : 8; // why it fails, once all that came before was delivered
    unsigned char interim;
    bool counts : 1;   // in h->active
    bool framed : 1;   // its head left
    bool paused : 1;   // the owner wants no bytes now
    bool to_head : 1;  // the request is a HEAD
    bool bodiless : 1; // so is the answer, whatever its owner offers
    bool untold : 1;   // its end came while it was paused
    bool refused : 1;  // the peer says that it has not looked at it
    bool last : 1;     // the body's end was taken
    bool aborting : 1; // RST_STREAM once `out` has left
    bool pinged : 1;   // which a PING asks for
    bool arrived : 1;  // and its answer says
    struct xchg own[]; // a server's: what x points to
};

extern const struct xchg_ops h2_stream_ops;

static inline struct h2_stream *of(const struct xchg *x) { return x->impl; }
static inline struct loop *loop_of(const struct h2 *h) { return h->side->loop; }
static inline void flush_later(struct h2 *h) {
    if (!h->closed) {
        loop_flush_later(loop_of(h), &h->flush);
    }
}
// The connection has no room.
static inline bool h2_is_stuck(const struct h2 *h) { return buf_len(&h->out) && !h->holding; }
static inline struct h2_stream *stream_of(const struct h2 *h, int32_t id) {
    return id ? nghttp2_session_get_stream_user_data(h->session, id) : NULL;
}

// ---- h2.c

struct h2_stream *h2_new_stream(struct h2 *h);
// It no longer counts with the peer.
void h2_discount(struct h2_stream *s);
// Its owner is done with it, and hears nothing more.
void h2_detach(struct h2_stream *s);
// Nothing is left of it at the end of the turn.
void h2_drop(struct h2_stream *s);
// The owner hears of it; what it asks in its callback is answered from x.
void h2_fail(struct h2_stream *s, enum err e, const char *problem);
// It will get no more bytes. A paused one hears of it later, if it would not lose what it can have.
void h2_doom(struct h2_stream *s, enum err e, const char *problem);
// How one is lost whose connection or stream ended with e.
enum err h2_how_lost(const struct h2_stream *s, enum err e);
void h2_reset(struct h2_stream *s, uint32_t code);
// A client's stream that nobody wants.
void h2_cancel(struct h2_stream *s);
// What the owner sends is not what it announced: it hears of it when the stream is closed.
void h2_break_stream(struct h2_stream *s);
// Found where nobody may be told: inside an owner's call, or in a callback of nghttp2.
void h2_break_later(struct h2 *h, enum err e, const char *problem);
// The result of an nghttp2_submit_*: it is framed with the next flush.
void h2_submitted(struct h2 *h, int result);
// h->active, or what else on_change is for.
void h2_change(struct h2 *h);
// For a head that begins to arrive; NULL without memory.
struct h2_block *h2_take_block(struct h2_side *side);
void h2_recycle_block(struct h2 *h);

// ---- h2_send.c

void h2_send_head(struct xchg *x, const struct head *head);
size_t h2_send_body(struct xchg *x, const struct iovec *v, int count, bool end);
bool h2_retract_head(struct xchg *x);
// The head that is held, and all that are.
void h2_submit_answer(struct h2_stream *s);
void h2_submit_held(struct h2 *h);
// Those that may go on are told so.
void h2_quench(struct h2 *h);
// Something waits for the peer to take it.
bool h2_takes_nothing(const struct h2_stream *s);

// ---- h2_receive.c

// Registers what is done with frames that come, are sent, and end streams.
void h2_receive(nghttp2_session_callbacks *callbacks);
void h2_set_paused(struct xchg *x, bool paused);
// The bytes that nghttp2 showed last: they wait for what comes behind them, which may be their end.
void h2_deliver_chunk(struct h2 *h, bool end);
void h2_deliver_ready(struct h2 *h);
// A server's: gives it an owner, who is nobody yet.
void h2_open_exchange(struct h2_stream *s);
