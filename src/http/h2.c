// SPDX-License-Identifier: MIT
// What nghttp2 may do is in four places: `h2_feed` gives it bytes, `frame_all` takes bytes from it, callbacks
// (h2_receive.c) hear from it in between, and streams submit (h2_send.c). Its callbacks call owners, who may submit, abort
// and close in them, but never feed or frame: that waits for the end of the turn (`flush`) or the next one (`work`). A
// session is freed with its connection's memory, so that a close in a callback finds everything still there.
#include "http/h2.h"

#include "base/mem.h"
#include "http/h2_stream.h"

enum {
    READS_PER_TURN = 4, // of LOOP_READ_BUFFER each
    CONNECTION_WINDOW = 1024 * 1024,
    NV_ROOM = 48, // fields beside those that came: pseudo-headers, ours
    FRAME_HEAD = 9,
    OUT_MOST = 4 * H2_SCRATCH,
    WIDE_WINDOW = 16 * 1024 * 1024,
    WIDE_CONNECTION_WINDOW = 1024 * 1024 * 1024,
    RESET_BURST = 900,
    RESETS_PER_S = 30,
};

// ---- memory

static void *mem_alloc(size_t size, void *unused UNUSED) { return try_malloc(size); }
static void mem_release(void *p, void *unused UNUSED) { mem_free(p, 0); }
static void *mem_zeroed(size_t n, size_t size, void *unused UNUSED) {
    void *p = size && n > SIZE_MAX / size ? NULL : try_malloc(n * size);
    return p ? memset(p, 0, n * size) : NULL;
}
static void *mem_resize(void *p, size_t size, void *unused UNUSED) { return try_realloc(p, size); }

struct h2_side *h2_side_create(struct loop *loop, const struct http_limits *limits, bool server) {
    struct h2_side *side = xcalloc(1, sizeof *side);
    side->loop = loop;
    side->limits = limits;
    side->server = server;
    side->nv_room = limits->fields + NV_ROOM;
    side->nv = xcalloc(side->nv_room, sizeof *side->nv);
    side->fields = xcalloc(side->nv_room, sizeof *side->fields);
    return side;
}

void h2_side_destroy(struct h2_side *side) {
    if (side) {
        h2_block_destroy(side->spare);
        free(side->fields);
        free(side->nv);
        free(side);
    }
}

struct h2_block *h2_take_block(struct h2_side *side) {
    struct h2_block *b = side->spare ? side->spare : h2_block_create(side->limits, side->server);
    side->spare = NULL;
    return b;
}

void h2_recycle_block(struct h2 *h) {
    struct h2_block *b = h->block;
    h->block = NULL;
    if (b && !h->side->spare) {
        h2_block_reset(b);
        h->side->spare = b;
    } else {
        h2_block_destroy(b);
    }
}

// ---- the end of streams and connections

static void bury(struct grave *grave) {
    struct h2 *h = container_of(grave, struct h2, grave);
    task_cancel(&h->work);
    nghttp2_session_del(h->session);
    buf_finish(&h->out);
    h2_block_destroy(h->block);
    h->events->on_buried(h);
}

static void bury_stream(struct grave *grave) {
    struct h2_stream *s = container_of(grave, struct h2_stream, grave);
    buf_finish(&s->out);
    buf_finish(&s->in);
    mem_free(s->packed, 0);
    mem_free(s->request, 0);
    mem_free(s, sizeof *s);
}

static void bury_if_done(struct h2 *h) {
    if (h->closed && h->stream_count == 0 && !h->buried) {
        h->buried = true;
        loop_bury(loop_of(h), &h->grave, bury);
    }
}

void h2_change(struct h2 *h) {
    if (!h->closed) {
        h->events->on_change(h);
    }
}

void h2_discount(struct h2_stream *s) {
    if (s->counts) {
        s->counts = false;
        s->h->active--;
        h2_change(s->h);
    }
}

void h2_detach(struct h2_stream *s) {
    if (s->x) {
        s->x->ops = NULL;
        s->x = NULL;
    }
}

void h2_drop(struct h2_stream *s) {
    struct h2 *h = s->h;
    h2_detach(s);
    h2_discount(s);
    h->queued -= buf_len(&s->out);
    buf_clear(&s->out);
    if (h->chunk_of == s) {
        h->chunk_of = NULL;
    }
    h->stream_count--;
    list_unlink(&s->node);
    list_unlink(&s->ready);
    list_unlink(&s->wait);
    s->h = NULL;
    loop_bury(loop_of(h), &s->grave, bury_stream);
    bury_if_done(h);
}

void h2_fail(struct h2_stream *s, enum err e, const char *problem) {
    struct xchg *x = s->x;
    if (x) {
        bool server = s->h->side->server;
        x->untouched = !s->framed || s->refused || (!server && s->h->conn && conn_untouched(s->h->conn));
        x->reused = x->reused || s->refused;
        x->refused = s->refused;
        h2_detach(s);
        x->events->on_fail(x, e, problem);
    }
}

void h2_doom(struct h2_stream *s, enum err e, const char *problem) {
    bool waits = s->x && !s->h->side->server && (buf_len(&s->in) || s->untold);
    s->id = 0;
    if (!waits) {
        h2_fail(s, e, problem);
        if (s->h) { // its owner may have closed the connection
            h2_drop(s);
        }
        return;
    }
    if (!s->untold) {
        s->fate = e;
        s->problem = problem;
    }
    h2_discount(s);
}

enum err h2_how_lost(const struct h2_stream *s, enum err e) {
    return s->h->side->server ? ERR_GONE : s->receiving == RECV_HEAD ? e : ERR_CUT;
}

static const char closed_by_upstream[] = "the upstream closed the connection in the middle of its answer";
static const char reset_by_upstream[] = "the upstream reset the connection in the middle of its answer";

// As HTTP/1.1 says it.
static const char *why_lost(const struct h2_stream *s, const char *problem) {
    bool left = problem == closed_by_upstream || problem == reset_by_upstream;
    return left && s->receiving == RECV_HEAD ? "the upstream closed the connection without an answer" : problem;
}

// Takes them all out, one after the other: an owner that hears of its own may end others.
static struct h2_stream *next_of(struct h2 *h, struct list *rest) {
    struct list *node = list_pop_front(rest);
    if (!node) {
        return NULL;
    }
    list_push_back(&h->streams, node);
    return container_of(node, struct h2_stream, node);
}

void h2_close(struct h2 *h, enum err e, const char *problem) {
    struct list rest;
    if (h->closed && e != OK) {
        return;
    }
    if (!h->closed) {
        h->closed = true;
        task_cancel(&h->work);
        task_cancel(&h->flush);
        h2_recycle_block(h);
        h->chunk_of = NULL;
        h->events->on_closed(h);
    }
    list_move_all(&rest, &h->streams);
    for (struct h2_stream *s; (s = next_of(h, &rest));) {
        if (e == OK) {
            h2_drop(s);
        } else {
            h2_doom(s, h2_how_lost(s, e), why_lost(s, problem));
        }
    }
    if (h->conn) {
        conn_close(h->conn);
        h->conn = NULL;
    }
    if (!list_empty(&h->ready)) { // resumed just now
        loop_defer(loop_of(h), &h->work);
    }
    bury_if_done(h);
}

void h2_break_later(struct h2 *h, enum err e, const char *problem) {
    if (h->error == OK && !h->closed) {
        h->error = e;
        h->problem = problem;
        loop_defer(loop_of(h), &h->work);
    }
}

// The peer has done what ends the connection; it is told so in the next turn.
static void end_later(struct h2 *h, uint32_t code, const char *problem) {
    if (!h->closed && !h->ending) {
        h->ending = true;
        h->end_code = code;
        h->problem = problem;
        loop_defer(loop_of(h), &h->work);
    }
}

void h2_submitted(struct h2 *h, int result) {
    if (nghttp2_is_fatal(result)) {
        h2_break_later(h, ERR_NOMEM, "out of memory");
    }
    flush_later(h);
}

void h2_reset(struct h2_stream *s, uint32_t code) {
    h2_submitted(s->h, nghttp2_submit_rst_stream(s->h->session, NGHTTP2_FLAG_NONE, s->id, code));
}

static bool take_token(struct h2 *h) {
    uint64_t now = loop_of(h)->now_ms;
    uint64_t earned = (now - h->tokens_ms) * RESETS_PER_S / 1000;
    if (earned) {
        h->reset_tokens = (unsigned)MIN(h->reset_tokens + earned, (uint64_t)RESET_BURST);
        h->tokens_ms = now;
    }
    if (h->reset_tokens == 0) {
        return false;
    }
    h->reset_tokens--;
    return true;
}

void h2_cancel(struct h2_stream *s) {
    if (s->id <= 0) {
        h2_drop(s);
        return;
    }
    s->h->queued -= buf_len(&s->out);
    buf_finish(&s->out);
    list_unlink(&s->wait);
    if (!s->framed || take_token(s->h)) {
        h2_reset(s, NGHTTP2_CANCEL);
    } else {
        list_push_back(&s->h->unwanted, &s->wait);
    }
}

void h2_cancel_more(struct h2 *h) {
    while (!h->closed && !list_empty(&h->unwanted) && take_token(h)) {
        struct list *node = list_pop_front(&h->unwanted);
        h2_reset(container_of(node, struct h2_stream, wait), NGHTTP2_CANCEL);
    }
}

void h2_break_stream(struct h2_stream *s) {
    s->sending = SEND_DONE;
    s->h->queued -= buf_len(&s->out);
    buf_finish(&s->out);
    list_unlink(&s->wait);
    if (s->id > 0) {
        h2_reset(s, NGHTTP2_INTERNAL_ERROR);
    }
}

struct h2_stream *h2_new_stream(struct h2 *h) {
    struct h2_stream *s = xcalloc(1, sizeof *s + (h->side->server ? sizeof *s->own : 0));
    s->h = h;
    s->id = H2_NOT_YET;
    s->left = BODY_UNKNOWN;
    s->moved_ms = loop_of(h)->now_ms;
    buf_init(&s->out, H2_QUEUED_MOST);
    buf_init(&s->in, 2 * H2_STREAM_WINDOW);
    list_push_back(&h->streams, &s->node);
    h->stream_count++;
    s->counts = true;
    h->active++;
    return s;
}

// What was taken before still leaves, and then RST_STREAM says that it is not all.
static void abort_answer(struct h2_stream *s) {
    if (s->sending == SEND_HELD && !s->bodiless) {
        h2_submit_answer(s);
    }
    if (s->sending == SEND_BODY) {
        s->aborting = true;
        (void)nghttp2_session_resume_data(s->h->session, s->id);
        flush_later(s->h);
    } else {
        list_unlink(&s->wait); // of a held head
        h2_reset(s, NGHTTP2_INTERNAL_ERROR);
    }
}

static void abort_exchange(struct xchg *x) {
    struct h2_stream *s = of(x);
    h2_detach(s);
    if (s->id <= 0) {
        h2_drop(s);
    } else if (s->h->side->server) {
        abort_answer(s);
    } else {
        h2_cancel(s);
    }
}

static bool peer_of(const struct xchg *x, struct address *a) {
    const struct h2_stream *s = of(x);
    return s->h->conn && conn_peer(s->h->conn, a);
}

const struct xchg_ops h2_stream_ops = {h2_send_head,  h2_send_body,   h2_retract_head,
                                       h2_set_paused, abort_exchange, peer_of};

// ---- writing

static void written_all(struct h2 *h) {
    if (h->events->on_written && buf_len(&h->out) == 0 && !h->closed && !h->error) {
        h->events->on_written(h);
    }
}

// What has been framed and did not fit into one write, or was not taken.
static void keep_out(struct h2 *h, const char *bytes, size_t n) {
    if (buf_len(&h->out) == 0) {
        h->blocked_ms = h->moved_ms = loop_of(h)->now_ms;
    }
    if (buf_append(&h->out, bytes, n) != OK) {
        h2_break_later(h, ERR_NOMEM, "out of memory");
    }
}

static void post(struct h2 *h) {
    struct iovec v = {h->side->scratch, h->scratched};
    size_t written = 0;
    if (h->scratched && h->holding) {
        keep_out(h, h->side->scratch, h->scratched);
    } else if (h->scratched && !h->error) {
        if (conn_writev(h->conn, &v, 1, &written) != OK) { // why is found out by reading
            h->readable = true;
            h2_break_later(h, ERR_RESET, "the peer closed the connection while something was being sent");
        } else if (written < h->scratched) {
            keep_out(h, h->side->scratch + written, h->scratched - written);
        }
    }
    h->scratched = 0;
}

static void put(struct h2 *h, const void *bytes, size_t n) {
    const char *at = bytes;
    while (n && buf_len(&h->out) == 0 && !h->error) {
        size_t part = MIN(n, H2_SCRATCH - h->scratched);
        memcpy(h->side->scratch + h->scratched, at, part);
        h->scratched += part;
        at += part;
        n -= part;
        if (h->scratched == H2_SCRATCH) {
            post(h);
        }
    }
    if (n && !h->error) {
        keep_out(h, at, n);
    }
}

// The peer took what was under way: the time of those streams begins anew.
static void arrived(struct h2 *h) {
    list_each(node, &h->streams) {
        struct h2_stream *s = container_of(node, struct h2_stream, node);
        s->moved_ms = s->moved_ms >= h->blocked_ms ? loop_of(h)->now_ms : s->moved_ms;
    }
}

static bool write_left(struct h2 *h) {
    struct str left = buf_str(&h->out);
    struct iovec v = {(void *)(uintptr_t)left.ptr, left.len};
    size_t written = 0;
    if (left.len == 0 || h->holding) {
        return left.len == 0;
    }
    if (conn_writev(h->conn, &v, 1, &written) != OK) {
        h->readable = true;
        h2_break_later(h, ERR_RESET, "the peer closed the connection while something was being sent");
        return false;
    }
    buf_consume(&h->out, written);
    h->moved_ms = written ? loop_of(h)->now_ms : h->moved_ms;
    if (buf_len(&h->out) == 0) {
        buf_finish(&h->out);
        arrived(h);
    }
    return buf_len(&h->out) == 0;
}

static int on_send_data(nghttp2_session *session UNUSED, nghttp2_frame *frame UNUSED, const uint8_t *framing, size_t n,
                        nghttp2_data_source *source, void *user) {
    struct h2 *h = user;
    struct h2_stream *s = source->ptr;
    if (h->closed || h->error) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (h2_is_stuck(h)) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    put(h, framing, FRAME_HEAD);
    put(h, buf_str(&s->out).ptr, n);
    s->moved_ms = loop_of(h)->now_ms;
    buf_consume(&s->out, n);
    if (buf_len(&s->out) == 0) {
        buf_finish(&s->out);
    }
    h->queued -= n;
    return 0;
}

// Everything that nghttp2 has to say, in as few writes as it takes.
static void frame_all(struct h2 *h) {
    h->scratched = 0;
    while (!h->closed && !h->error && !h2_is_stuck(h)) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(h->session, &bytes);
        if (n < 0) {
            h2_break_later(h, ERR_NOMEM, "out of memory");
        }
        if (n <= 0) {
            break;
        }
        put(h, bytes, (size_t)n);
    }
    if (!h->closed) {
        post(h);
        written_all(h);
    }
}

static bool is_over(const struct h2 *h) {
    return !h->closed && !h->error && buf_len(&h->out) == 0 && !nghttp2_session_want_read(h->session) &&
           !nghttp2_session_want_write(h->session);
}

static void write_on(struct h2 *h) {
    h2_submit_held(h);
    frame_all(h);
    if (is_over(h) && !h->told && !h->side->server) {
        h2_close(h, ERR_PROTOCOL, "the upstream does not speak HTTP/2");
    } else if (is_over(h)) {
        h2_close(h, ERR_RESET, "the connection was ended by HTTP/2's rules");
    } else if (!h->closed) {
        h2_quench(h);
    }
}

static void on_flush(struct task *task) {
    struct h2 *h = container_of(task, struct h2, flush);
    if (buf_len(&h->out) == 0 && !h->error) { // else CONN_WRITABLE comes
        write_on(h);
    }
}

// ---- the connection

static enum err make_session(struct h2 *h) {
    nghttp2_mem memory = {NULL, mem_alloc, mem_release, mem_zeroed, mem_resize};
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int failed = nghttp2_session_callbacks_new(&callbacks);
    failed = failed ? failed : nghttp2_option_new(&option);
    if (!failed) {
        h2_receive(callbacks);
        nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_max_reserved_remote_streams(option, 0);
        failed = h->side->server ? nghttp2_session_server_new3(&h->session, callbacks, h, option, &memory)
                                 : nghttp2_session_client_new3(&h->session, callbacks, h, option, &memory);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return failed ? ERR_NOMEM : OK;
}

static enum err say_hello(struct h2 *h) {
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h->wide ? WIDE_WINDOW : H2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)h->side->limits->head_bytes},
        h->side->server ? (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, h->most}
                        : (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    int failed = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings));
    int32_t window = h->wide ? WIDE_CONNECTION_WINDOW : CONNECTION_WINDOW;
    failed = failed ? failed : nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, window);
    flush_later(h);
    return failed ? ERR_NOMEM : OK;
}

static void on_event(struct conn *conn, unsigned events);

void h2_open(struct h2 *h, struct conn *take_conn) {
    h->conn = take_conn;
    take_conn->owner = h;
    take_conn->on_event = on_event;
    conn_mark(take_conn);
    h->heard_ms = loop_of(h)->now_ms;
    enum err e = make_session(h);
    e = e == OK ? say_hello(h) : e;
    if (e != OK) { // perhaps inside an owner's call
        h2_break_later(h, e, "out of memory");
    }
}

unsigned h2_streams_most(const struct h2 *h) {
    uint32_t told = nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    return (unsigned)MIN(told, (uint32_t)H2_STREAMS_MOST);
}

bool h2_may_begin(const struct h2 *h, unsigned told_most) {
    bool allowed = !h->session || nghttp2_session_check_request_allowed(h->session);
    return !h->closed && !h->going && h->error == OK && allowed &&
           h->active < (h->told ? h2_streams_most(h) : told_most);
}

void h2_begin(struct h2 *h, struct xchg *x) {
    if (h->conn && h->active == 0) {
        conn_mark(h->conn);
    }
    struct h2_stream *s = h2_new_stream(h);
    s->x = x;
    x->ops = &h2_stream_ops;
    x->impl = s;
    x->reused = h->carried;
    x->untouched = false;
    x->refused = false;
}

struct xchg *h2_unbegin(struct h2 *h) {
    if (list_empty(&h->streams)) {
        return NULL;
    }
    struct h2_stream *s = container_of(h->streams.next, struct h2_stream, node);
    struct xchg *x = s->x;
    h2_drop(s);
    return x;
}

void h2_begun(struct h2 *h) {
    struct list rest;
    list_move_all(&rest, &h->streams);
    for (struct h2_stream *s; (s = next_of(h, &rest));) {
        if (s->x && s->id == H2_NOT_YET) {
            s->x->events->on_drain(s->x);
        }
    }
}

void h2_ping(struct h2 *h) { h2_submitted(h, nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL)); }

void h2_hold(struct h2 *h) {
    if (!h->closed && !h->error) {
        h->holding = true;
        frame_all(h);
    }
}

void h2_write_now(struct h2 *h) {
    h->holding = false;
    if (!h->closed && !h->error && write_left(h)) {
        frame_all(h);
    }
}

bool h2_has_left(const struct h2 *h, const struct xchg *x) {
    return !x->ops || (of(x)->sending == SEND_DONE && buf_len(&h->out) == 0);
}

void h2_drain(struct h2 *h) {
    if (!h->closed && !h->going && h->error == OK) {
        h->going = true;
        h2_submitted(h, nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                                              nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
                                              NULL, 0));
    }
}

void h2_calm(struct h2 *h, const char *problem) { end_later(h, NGHTTP2_ENHANCE_YOUR_CALM, problem); }

// It is told why, as far as there is room.
static void say_why(struct h2 *h) {
    if (h->error == OK) {
        (void)nghttp2_session_terminate_session(h->session, h->end_code);
        frame_all(h);
    }
    h2_close(h, ERR_RESET, h->problem);
}

void h2_feed(struct h2 *h, const char *bytes, size_t n) {
    if (h->closed || h->error || h->ending) {
        return;
    }
    uint32_t code = NGHTTP2_ENHANCE_YOUR_CALM;
    const char *problem = h->events->on_bytes ? h->events->on_bytes(h, bytes, n, &code) : NULL;
    if (problem) {
        end_later(h, code, problem);
        return;
    }
    ssize_t used = nghttp2_session_mem_recv(h->session, (const uint8_t *)bytes, n);
    if (!h->closed) {
        h2_deliver_chunk(h, false);
    }
    if (used < 0 && !h->closed && !h->error && !h->ending) {
        h2_close(h, used == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_PROTOCOL, nghttp2_strerror((int)used));
    }
    flush_later(h);
}

void h2_drain_soon(struct h2 *h) {
    if (!h->closed && !h->going && h->error == OK) {
        h2_submitted(h, nghttp2_submit_shutdown_notice(h->session));
    }
}

// ---- clients that let us wait

static void refuse_slow(struct h2_stream *s) {
    static const char problem[] = "the request did not arrive in time";
    h2_fail(s, ERR_SLOW, problem);
    if (s->h && s->id > 0 && s->sending == SEND_IDLE) {
        h2_open_exchange(s);
        s->h->events->on_reject(s->h, s->x, ERR_SLOW, problem);
    }
}

static void sweep_stream(struct h2_stream *s, uint64_t head_ms, uint64_t idle_ms) {
    uint64_t silent_ms = loop_of(s->h)->now_ms - s->moved_ms;
    if (s->receiving == RECV_HEAD && silent_ms >= head_ms) {
        h2_calm(s->h, "a head did not arrive in time");
    } else if (s->pinged && silent_ms >= head_ms) {
        h2_reset(s, NGHTTP2_INTERNAL_ERROR);
    } else if (h2_takes_nothing(s) && silent_ms >= idle_ms) {
        h2_fail(s, ERR_GONE, "the client did not go on in time");
        h2_break_stream(s);
    } else if (s->receiving == RECV_BODY && s->sending == SEND_IDLE && s->x && !s->paused && silent_ms >= idle_ms) {
        refuse_slow(s);
    }
}

void h2_sweep(struct h2 *h, uint64_t head_ms, uint64_t idle_ms) {
    if (buf_len(&h->out) && loop_of(h)->now_ms - h->moved_ms >= idle_ms) {
        h2_close(h, ERR_RESET, "the client took nothing any more");
        return;
    }
    list_each(node, &h->streams) { sweep_stream(container_of(node, struct h2_stream, node), head_ms, idle_ms); }
}

static void on_end(struct h2 *h, enum err e) {
    h->hup = true;
    h->readable = false;
    h2_close(h, ERR_RESET,
             h->side->server ? "the client closed the connection"
             : e == ERR_EOF  ? closed_by_upstream
                             : reset_by_upstream);
}

void h2_read(struct h2 *h) {
    char *into = loop_of(h)->read_buffer;
    // A session that has ended is not fed any more (CVE-2026-27135): the next flush closes the connection. One that is
    // about to be ended is read over for this turn: closing with bytes unread would reset its GOAWAY away.
    for (int i = 0; !h->closed && h->error != ERR_NOMEM && nghttp2_session_want_read(h->session); i++) {
        size_t n = 0;
        if (i == READS_PER_TURN) {
            loop_defer(loop_of(h), &h->work);
            break;
        }
        enum err e = conn_read(h->conn, into, LOOP_READ_BUFFER, &n);
        if (e == ERR_AGAIN) {
            h->readable = false;
            break;
        }
        if (e != OK) {
            on_end(h, e);
            return;
        }
        h->heard_ms = loop_of(h)->now_ms;
        h->readable = n == LOOP_READ_BUFFER || h->hup;
        h2_feed(h, into, n);
        if (!h->readable) {
            break;
        }
    }
    if (!h->closed && !h->error) {
        h2_quench(h);
    }
}

static void on_event(struct conn *conn, unsigned events) {
    struct h2 *h = conn->owner;
    if (events & CONN_HUP) {
        h->hup = true;
    }
    if (events & (CONN_READABLE | CONN_HUP)) {
        h->readable = true;
        h2_read(h);
    }
    if (!h->closed && !h->error && (events & CONN_WRITABLE) && write_left(h)) {
        write_on(h);
    }
}

static void on_work(struct task *task) {
    struct h2 *h = container_of(task, struct h2, work);
    h2_deliver_ready(h);
    if (!h->closed && h->ending) {
        say_why(h);
        return;
    }
    if (!h->closed && h->readable) {
        h2_read(h);
    }
    if (!h->closed && h->error) {
        h2_close(h, h->error, h->problem);
    }
}

void h2_init(struct h2 *h, struct h2_side *side, const struct h2_events *events) {
    *h = (struct h2){.side = side, .events = events, .work.run = on_work, .flush.run = on_flush};
    struct list *lists[] = {&h->streams, &h->held, &h->thirsty, &h->ready, &h->unwanted};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        list_init(lists[i]);
    }
    buf_init(&h->out, OUT_MOST);
    h->reset_tokens = RESET_BURST;
    h->tokens_ms = h->heard_ms = side->loop->now_ms;
}
