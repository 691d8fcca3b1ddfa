// SPDX-License-Identifier: MIT
// What comes: nghttp2's callbacks, which find the stream, and its owner, who is told of heads, bytes and ends or, while he
// wants none, later.
#include "base/mem.h"
#include "http/h2_stream.h"

enum {
    INTERIM_MAX = 8, // 1xx answers to one request (facts A37)
};

// ---- bodies

static void give_back(struct h2_stream *s) {
    struct h2 *h = s->h;
    if (s->owed && s->id > 0 && !h->closed) {
        h2_submitted(h, nghttp2_session_consume_stream(h->session, s->id, s->owed));
    }
    s->owed = 0;
}

// A client's answer is complete. The stream is free before the owner hears of it.
static void answered(struct h2_stream *s, struct str last) {
    struct xchg *x = s->x;
    struct h2 *h = s->h;
    h->carried = true;
    h->refusing = false;
    h2_detach(s);
    if (s->sending == SEND_DONE) {
        h2_discount(s);
    }
    if (s->id == 0) {
        h2_drop(s);
    } else if (s->sending != SEND_DONE && !(s->sending == SEND_LAST && buf_len(&s->out) == 0)) {
        h2_cancel(s); // it is not to wait for the rest of the request
    }
    x->events->on_body(x, last, true);
}

static void deliver(struct h2_stream *s, struct str bytes, bool end) {
    struct xchg *x = s->x;
    if (end && !s->h->side->server) {
        answered(s, bytes);
        return;
    }
    s->owed += (uint32_t)bytes.len;
    x->events->on_body(x, bytes, end);
    if (end) { // its owner had it until now
        mem_free(s->request, 0);
        s->request = NULL;
    }
    if (s->x && !s->paused) {
        give_back(s);
    }
}

// Bytes of a body came, or its end.
static void take_in(struct h2_stream *s, struct str bytes, bool end) {
    s->receiving = end ? RECV_ENDED : s->receiving;
    s->moved_ms = loop_of(s->h)->now_ms;
    if (!s->x) {
        s->owed += (uint32_t)bytes.len;
        give_back(s);
    } else if (!s->paused && buf_len(&s->in) == 0) {
        deliver(s, bytes, end);
    } else if (buf_str_append(&s->in, bytes) == OK) {
        s->untold = end;
    } else {
        h2_fail(s, ERR_NOMEM, "out of memory");
        h2_reset(s, NGHTTP2_INTERNAL_ERROR);
    }
}

void h2_deliver_chunk(struct h2 *h, bool end) {
    struct h2_stream *s = h->chunk_of;
    h->chunk_of = NULL;
    if (s) {
        take_in(s, h->chunk, end);
    }
}

// Resumed: what was held, then its end or its failure.
static void deliver_held(struct h2_stream *s) {
    struct buf held = s->in;
    bool end = s->untold;
    list_unlink(&s->ready);
    if (!s->x || s->paused) {
        return;
    }
    buf_init(&s->in, held.cap);
    s->untold = false;
    if (held.end || end) {
        deliver(s, buf_str(&held), end);
    }
    buf_finish(&held);
    if (s->h && s->x && !s->paused && s->fate != OK) {
        h2_fail(s, s->fate, s->problem);
        if (s->h) {
            h2_drop(s);
        }
    }
}

void h2_deliver_ready(struct h2 *h) {
    while (!list_empty(&h->ready)) {
        deliver_held(container_of(h->ready.next, struct h2_stream, ready));
    }
}

void h2_set_paused(struct xchg *x, bool paused) {
    struct h2_stream *s = of(x);
    s->paused = paused;
    if (paused) {
        return;
    }
    give_back(s);
    if (buf_len(&s->in) || s->untold || s->fate != OK) {
        list_unlink(&s->ready);
        list_push_back(&s->h->ready, &s->ready);
        loop_defer(loop_of(s->h), &s->h->work);
    }
}

// ---- callbacks of nghttp2

// After a write that failed there may still be something to be read.
static int result_of(const struct h2 *h) {
    return h->closed || h->error == ERR_NOMEM ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

// A stream that was reset counts until the end of the turn: what was begun for it is freed then (facts A20).
static bool may_begin(struct h2 *h) {
    if (h->turn != loop_of(h)->turn) {
        h->turn = loop_of(h)->turn;
        h->begun = h->active;
    }
    return h->begun++ < h->most;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    struct h2 *h = user;
    h2_deliver_chunk(h, false);
    if (result_of(h)) {
        return result_of(h);
    }
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    bool request = h->side->server && frame->headers.cat == NGHTTP2_HCAT_REQUEST;
    if (request && !may_begin(h)) {
        h2_submitted(
            h, nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM));
    } else if (request) {
        s = h2_new_stream(h);
        s->id = frame->hd.stream_id;
        nghttp2_session_set_stream_user_data(session, s->id, s);
        h2_change(h);
    }
    h2_recycle_block(h);
    if (s && s->receiving == RECV_HEAD) { // else trailers, which are read over (RFC 9110 section 6.5.1)
        h->block = h2_take_block(h->side);
        if (!h->block) {
            h2_break_later(h, ERR_NOMEM, "out of memory");
        }
    }
    return result_of(h);
}

static void count_reset(struct h2 *h) {
    const char *problem = h->events->on_reset_sent(h);
    if (problem) {
        h2_calm(h, problem);
    }
}

// nghttp2 resets the stream, and reads over what else belongs to the head.
static int refuse_header(struct h2 *h, const nghttp2_frame *frame, const char *problem) {
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    if (h->side->server) {
        count_reset(h);
    }
    if (s) {
        h2_fail(s, h->side->server ? ERR_GONE : ERR_PROTOCOL, problem);
    }
    return result_of(h) ? result_of(h) : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_header(nghttp2_session *session UNUSED, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags UNUSED, void *user) {
    struct h2 *h = user;
    struct str field = str_from((const char *)name, name_len);
    if (h->block && !h2_block_add(h->block, field, str_from((const char *)value, value_len))) {
        return refuse_header(h, frame, "the header fields are more or larger than the limit");
    }
    return 0;
}

// RFC 9113 section 8.2.1: a message with such a field is malformed; nghttp2 would leave the field out.
static int on_invalid_header(nghttp2_session *session UNUSED, const nghttp2_frame *frame, const uint8_t *name UNUSED,
                             size_t name_len UNUSED, const uint8_t *value UNUSED, size_t value_len UNUSED,
                             uint8_t flags UNUSED, void *user) {
    return refuse_header(user, frame, "a header field has a character that it must not have");
}

// The owner hears of it at once.
static void refuse_answer(struct h2_stream *s, enum err e, const char *problem) {
    h2_reset(s, NGHTTP2_PROTOCOL_ERROR);
    h2_fail(s, e, problem);
}

static void on_answer(struct h2_stream *s, struct head *head, bool end) {
    bool interim = head->status < 200;
    if (interim && ++s->interim > INTERIM_MAX) {
        refuse_answer(s, ERR_PROTOCOL, "too many interim answers");
        return;
    }
    s->receiving = interim ? RECV_HEAD : RECV_BODY;
    if (s->x) {
        s->x->events->on_head(s->x, head);
    }
    if (end && s->h) {
        take_in(s, STR(""), true);
    }
}

static void ignore_head(struct xchg *x UNUSED, struct head *head UNUSED) {}
static void ignore_body(struct xchg *x UNUSED, struct str bytes UNUSED, bool end UNUSED) {}
static void ignore_drain(struct xchg *x UNUSED) {}
static void ignore_fail(struct xchg *x UNUSED, enum err e UNUSED, const char *problem UNUSED) {}
static const struct xchg_events nobody = {ignore_head, ignore_body, ignore_drain, ignore_fail};

void h2_open_exchange(struct h2_stream *s) {
    s->own[0] = (struct xchg){.ops = &h2_stream_ops, .events = &nobody, .impl = s};
    s->x = s->own;
}

static void begin_answering(struct h2_stream *s, struct head *head, bool end) {
    h2_open_exchange(s);
    s->to_head = head->method == METHOD_HEAD;
    s->receiving = end ? RECV_ENDED : RECV_BODY;
}

static void on_request_head(struct h2_stream *s, struct head *head, bool end) {
    struct h2 *h = s->h;
    if (!end && !(s->request = h2_head_keep(head))) {
        h2_reset(s, NGHTTP2_INTERNAL_ERROR);
        return;
    }
    begin_answering(s, head, end);
    h->events->on_request(h, s->x, end ? head : s->request);
    if (end && s->x) {
        s->x->events->on_body(s->x, STR(""), true);
    }
}

static void on_head(struct h2_stream *s, bool end) {
    struct h2 *h = s->h;
    struct h2_block *block = h->block;
    struct head *head;
    const char *problem;
    enum err e = h2_block_finish(block, end, &head, &problem);
    h->block = NULL; // an owner may close the connection, and still use what it was given
    if (!h->side->server && e == OK) {
        on_answer(s, head, end);
    } else if (!h->side->server) {
        refuse_answer(s, e, problem);
    } else if (e == OK) {
        on_request_head(s, head, end);
    } else {
        begin_answering(s, head, end);
        h->events->on_reject(h, s->x, e, problem);
    }
    h->block = block;
    h2_recycle_block(h);
}

// Of the streams whose head has not left one for which the peer has no room. NULL: it has room for all.
static struct h2_stream *excess_of(struct h2 *h) {
    unsigned most = h2_streams_most(h);
    unsigned begun = 0;
    list_each(node, &h->streams) {
        struct h2_stream *s = container_of(node, struct h2_stream, node);
        begun += s->counts && s->framed;
    }
    list_each(node, &h->streams) {
        struct h2_stream *s = container_of(node, struct h2_stream, node);
        if (s->counts && !s->framed && begun++ >= most) {
            return s;
        }
    }
    return NULL;
}

// The peer takes fewer than were begun in this turn: nghttp2 would keep the others until there is room, which may take
// long. Their owners hear that nothing was sent.
static void return_excess(struct h2 *h) {
    struct h2_stream *s;
    while (!h->side->server && !h->closed && (s = excess_of(h))) {
        if (s->id > 0) {
            h2_submitted(h, nghttp2_session_set_stream_user_data(h->session, s->id, NULL));
            h2_reset(s, NGHTTP2_CANCEL);
        }
        s->refused = true;
        h2_doom(s, ERR_RESET, "the upstream takes no more streams at once");
    }
}

static void on_settings(struct h2 *h, const nghttp2_frame *frame) {
    if (frame->hd.flags & NGHTTP2_FLAG_ACK) {
        h->acknowledged = true;
    } else {
        h->told = true;
        return_excess(h);
    }
    h2_change(h);
}

// The client has all that was sent of an answer that is broken off.
static void on_pong(struct h2 *h, const nghttp2_ping *ping) {
    int32_t id;
    memcpy(&id, ping->opaque_data, sizeof id);
    struct h2_stream *s = ping->hd.flags & NGHTTP2_FLAG_ACK && id > 0 ? stream_of(h, id) : NULL;
    if (s && s->pinged) {
        s->arrived = true;
        (void)nghttp2_session_resume_data(h->session, id);
        flush_later(h);
    }
}

static int on_frame_recv(nghttp2_session *session UNUSED, const nghttp2_frame *frame, void *user) {
    struct h2 *h = user;
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (frame->hd.type == NGHTTP2_DATA && end && s && !result_of(h)) {
        if (h->chunk_of == s) {
            h2_deliver_chunk(h, true);
        } else {
            h2_deliver_chunk(h, false);
            take_in(s, STR(""), true);
        }
    } else if (frame->hd.type != NGHTTP2_DATA) {
        h2_deliver_chunk(h, false);
    }
    if (result_of(h)) {
    } else if (frame->hd.type == NGHTTP2_HEADERS && s && h->block) {
        on_head(s, end);
    } else if (frame->hd.type == NGHTTP2_HEADERS && s && end && s->receiving != RECV_ENDED) { // trailers
        take_in(s, STR(""), true);
    } else if (frame->hd.type == NGHTTP2_SETTINGS) {
        on_settings(h, frame);
    } else if (frame->hd.type == NGHTTP2_PING) {
        on_pong(h, &frame->ping);
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        h->going = true;
        h->farewell = nghttp2_http2_strerror(frame->goaway.error_code);
        h2_change(h);
    }
    return result_of(h);
}

static int on_data(nghttp2_session *session, uint8_t flags UNUSED, int32_t id, const uint8_t *bytes, size_t n,
                   void *user) {
    struct h2 *h = user;
    h2_deliver_chunk(h, false);
    if (result_of(h)) {
        return result_of(h);
    }
    h2_submitted(h, nghttp2_session_consume_connection(session, n)); // others go on, whatever this one's owner does
    h->chunk_of = stream_of(h, id);
    h->chunk = str_from((const char *)bytes, n);
    return result_of(h);
}

static int on_invalid_frame(nghttp2_session *session UNUSED, const nghttp2_frame *frame, int code UNUSED, void *user) {
    struct h2 *h = user;
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    h2_deliver_chunk(h, false);
    if (s && s->x && !h->closed && !h->side->server) {
        h2_fail(s, s->receiving == RECV_HEAD ? ERR_PROTOCOL : ERR_CUT, "the upstream's answer is malformed HTTP/2");
    }
    return result_of(h);
}

// END_STREAM has left. A server that answered early tells the client not to go on (RFC 9113 section 8.1).
static void sent_all(struct h2_stream *s) {
    s->sending = SEND_DONE;
    if (s->h->side->server && s->receiving != RECV_ENDED) {
        h2_reset(s, NGHTTP2_NO_ERROR);
    }
}

// MadeYouReset (facts A21): not because we were done with it, or could not go on.
static bool was_forced(uint32_t code) { return code != NGHTTP2_NO_ERROR && code != NGHTTP2_INTERNAL_ERROR; }

static int on_frame_send(nghttp2_session *session UNUSED, const nghttp2_frame *frame, void *user) {
    struct h2 *h = user;
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    bool message = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (s && message) {
        s->framed = true;
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
            sent_all(s);
        }
    }
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        h->going = frame->goaway.last_stream_id != INT32_MAX; // else h2_drain_soon
    }
    if (h->side->server && frame->hd.type == NGHTTP2_DATA) {
        h->events->on_data_sent(h);
    } else if (h->side->server && frame->hd.type == NGHTTP2_RST_STREAM && was_forced(frame->rst_stream.error_code)) {
        count_reset(h);
    }
    return 0;
}

// Always 0: in the middle of sending a head nghttp2 would lose it.
static int on_stream_close(nghttp2_session *session UNUSED, int32_t id, uint32_t code, void *user) {
    struct h2 *h = user;
    struct h2_stream *s = stream_of(h, id);
    h2_deliver_chunk(h, false);
    if (!s || !s->h || h->closed) {
        return 0;
    }
    if (code == NGHTTP2_REFUSED_STREAM && !h->side->server && !s->framed && !h->going) { // its head could not be made
        h2_doom(s, h2_how_lost(s, ERR_NOMEM), "there was no memory for the request");
    } else if (code == NGHTTP2_REFUSED_STREAM) {
        s->refused = true;
        h->refusing = h->refusing || (h->told && !h->going);
        h2_doom(s, h2_how_lost(s, ERR_RESET), "the upstream refused the stream");
    } else {
        h2_doom(s, h2_how_lost(s, ERR_RESET),
                h->side->server ? "the client gave the request up" : "the upstream broke the stream off");
    }
    return 0;
}

void h2_receive(nghttp2_session_callbacks *callbacks) {
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}
