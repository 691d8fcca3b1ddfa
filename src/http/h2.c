// SPDX-License-Identifier: MIT
// What nghttp2 may do is in four places: `feed` gives it bytes, `frame_all` takes bytes from it, callbacks hear from it in
// between, and streams submit. Its callbacks call owners, who may submit, abort and close in them, but never feed or frame:
// that waits for the end of the turn (`flush`) or the next one (`work`). A session is freed with its connection's memory,
// so that a close in a callback finds everything still there.
//
// A stream, for its owner's two directions:
//
//   sending     IDLE --head--> HELD (a server's, until body bytes or the end of the turn) --> BODY --all taken--> LAST --framed--> DONE
//   receiving   HEAD --head--> BODY --its end--> ENDED
//
// It lives until nghttp2 has closed it (id 0 then) and its owner has heard of its end: one that is paused has bytes, an
// end or a failure (`fate`) to be told of when it is resumed, even if the connection is closed by then.
#include "http/h2.h"

#include <assert.h>
#include <nghttp2/nghttp2.h>

#include "base/mem.h"
#include "http/h2_head.h"

enum {
    READS_PER_TURN = 4,        // of LOOP_READ_BUFFER each
    INTERIM_MAX = 8,           // 1xx answers to one request (facts A37)
    STREAM_WINDOW = 64 * 1024, // what the peer may send beyond what was delivered
    CONNECTION_WINDOW = 1024 * 1024,
    QUEUED_MOST = 64 * 1024, // taken of a stream's body and not yet framed
    SCRATCH = 64 * 1024,     // one write
    NV_EXTRA = 48,           // fields beside those that came: pseudo-headers, ours
    HELD_STATUS = 4,
    FRAME_HEAD = 9,
    OUT_MOST = 4 * SCRATCH,
    NOT_YET = -1, // as a stream's id: not begun with nghttp2
    RESET_BURST = 900,
    RESETS_PER_S = 30,
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
    struct field *fields;  // of the same
    char scratch[SCRATCH]; // what is being framed
};

struct h2_stream {
    struct h2 *h;
    struct xchg *x;  // NULL: over for its owner
    struct xchg own; // a server's: what x points to
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
    int32_t id;           // NOT_YET, or 0: nghttp2 has closed it
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
};

static const struct xchg_ops stream_ops;

static struct h2_stream *of(const struct xchg *x) { return x->impl; }
static struct loop *loop_of(const struct h2 *h) { return h->side->loop; }
static void flush_later(struct h2 *h) {
    if (!h->closed) {
        loop_flush_later(loop_of(h), &h->flush);
    }
}

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
    side->nv_room = limits->fields + NV_EXTRA;
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

static struct h2_block *take_block(struct h2_side *side) {
    struct h2_block *b = side->spare ? side->spare : h2_block_create(side->limits, side->server);
    side->spare = NULL;
    return b;
}

static void recycle(struct h2 *h) {
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

static void change(struct h2 *h) {
    if (!h->closed) {
        h->events->on_change(h);
    }
}

// It no longer counts with the peer.
static void discount(struct h2_stream *s) {
    if (s->counts) {
        s->counts = false;
        s->h->active--;
        change(s->h);
    }
}

static void detach(struct h2_stream *s) {
    if (s->x) {
        s->x->ops = NULL;
        s->x = NULL;
    }
}

static void drop(struct h2_stream *s) {
    struct h2 *h = s->h;
    detach(s);
    discount(s);
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

// The owner hears of it; what it asks in its callback is answered from x.
static void fail(struct h2_stream *s, enum err e, const char *problem) {
    struct xchg *x = s->x;
    if (x) {
        bool server = s->h->side->server;
        x->untouched = !s->framed || s->refused || (!server && s->h->conn && conn_untouched(s->h->conn));
        x->reused = x->reused || s->refused;
        detach(s);
        x->events->on_fail(x, e, problem);
    }
}

// It will get no more bytes. A paused one hears of it later, if it would not lose what it can have.
static void doom(struct h2_stream *s, enum err e, const char *problem) {
    bool waits = s->x && !s->h->side->server && (buf_len(&s->in) || s->untold);
    s->id = 0;
    if (!waits) {
        fail(s, e, problem);
        drop(s);
        return;
    }
    if (!s->untold) {
        s->fate = e;
        s->problem = problem;
    }
    discount(s);
}

static enum err how_lost(const struct h2_stream *s, enum err e) {
    return s->h->side->server ? ERR_GONE : s->receiving == RECV_HEAD ? e : ERR_CUT;
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
        recycle(h);
        h->chunk_of = NULL;
        h->events->on_closed(h);
    }
    list_move_all(&rest, &h->streams);
    for (struct h2_stream *s; (s = next_of(h, &rest));) {
        if (e == OK) {
            drop(s);
        } else {
            doom(s, how_lost(s, e), problem);
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

// Found where nobody may be told: inside an owner's call, or in a callback of nghttp2.
static void break_later(struct h2 *h, enum err e, const char *problem) {
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

static void submitted(struct h2 *h, int result) {
    if (nghttp2_is_fatal(result)) {
        break_later(h, ERR_NOMEM, "out of memory");
    }
    flush_later(h);
}

static void reset(struct h2_stream *s, uint32_t code) {
    submitted(s->h, nghttp2_submit_rst_stream(s->h->session, NGHTTP2_FLAG_NONE, s->id, code));
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

// A client's stream that nobody wants.
static void cancel(struct h2_stream *s) {
    if (s->id <= 0) {
        drop(s);
        return;
    }
    s->h->queued -= buf_len(&s->out);
    buf_finish(&s->out);
    list_unlink(&s->wait);
    if (!s->framed || take_token(s->h)) {
        reset(s, NGHTTP2_CANCEL);
    } else {
        list_push_back(&s->h->unwanted, &s->wait);
    }
}

void h2_cancel_more(struct h2 *h) {
    while (!h->closed && !list_empty(&h->unwanted) && take_token(h)) {
        struct list *node = list_pop_front(&h->unwanted);
        reset(container_of(node, struct h2_stream, wait), NGHTTP2_CANCEL);
    }
}

// What the owner sends is not what it announced: it hears of it when the stream is closed.
static void break_stream(struct h2_stream *s) {
    s->sending = SEND_DONE;
    s->h->queued -= buf_len(&s->out);
    buf_finish(&s->out);
    list_unlink(&s->wait);
    if (s->id > 0) {
        reset(s, NGHTTP2_INTERNAL_ERROR);
    }
}

// ---- sending: heads

static bool is_secret(enum field_id id) {
    // What HPACK must not remember; and what is never the same again, so that it would only push others out.
    return (field_flags(id) & FIELD_CREDENTIAL) || id == FIELD_COOKIE || id == FIELD_X_REQUEST_ID ||
           id == FIELD_PROXY_AUTHORIZATION;
}

// A constant name is not copied by nghttp2, nor lowered.
static void put_nv(struct h2_side *side, unsigned *n, struct str name, struct str value, int flags) {
    side->nv[(*n)++] = (nghttp2_nv){(uint8_t *)(uintptr_t)name.ptr, (uint8_t *)(uintptr_t)value.ptr, name.len,
                                    value.len, (uint8_t)flags};
}

static void add_nv(struct h2_side *side, unsigned *n, struct str constant_name, struct str value) {
    put_nv(side, n, constant_name, value, NGHTTP2_NV_FLAG_NO_COPY_NAME);
}

// False: there are more than a head may have.
static bool add_fields(struct h2_side *side, unsigned *n, const struct fields *fields) {
    for (unsigned i = 0; i < fields->n; i++) {
        const struct field *f = &fields->v[i];
        if (*n + 1 >= side->nv_room) { // one is left for the length
            return false;
        }
        int flags = (f->id ? NGHTTP2_NV_FLAG_NO_COPY_NAME : 0) | (is_secret(f->id) ? NGHTTP2_NV_FLAG_NO_INDEX : 0);
        put_nv(side, n, f->id ? field_name(f->id) : f->name, f->value, flags);
    }
    return true;
}

static void add_length(struct h2_side *side, unsigned *n, int64_t length, char room[FORMAT_U64_MAX]) {
    char *end = format_u64(room, (uint64_t)length);
    add_nv(side, n, STR("content-length"), str_from(room, (size_t)(end - room)));
}

static ssize_t on_want_body(nghttp2_session *session, int32_t id, uint8_t *into, size_t most, uint32_t *flags,
                            nghttp2_data_source *source, void *user);

// nghttp2 copies everything.
static void submit_request(struct h2_stream *s, const struct head *head) {
    struct h2 *h = s->h;
    struct h2_side *side = h->side;
    bool bodiless = head->body_len == 0;
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = on_want_body};
    char length[FORMAT_U64_MAX];
    unsigned n = 0;
    add_nv(side, &n, STR(":method"), head->method_name);
    add_nv(side, &n, STR(":scheme"), h->secure ? STR("https") : STR("http"));
    add_nv(side, &n, STR(":authority"), head->authority);
    add_nv(side, &n, STR(":path"), head->target);
    bool fits = add_fields(side, &n, &head->fields);
    if (head->body_len > 0 || (bodiless && method_has_body(head->method))) {
        add_length(side, &n, head->body_len, length);
    }
    int32_t id =
        fits ? nghttp2_submit_request(h->session, NULL, side->nv, n, bodiless ? NULL : &body, s) : NGHTTP2_ERR_NOMEM;
    if (id < 0) { // no memory, or no numbers left: the connection is at its end
        s->sending = SEND_DONE;
        break_later(h, ERR_NOMEM, "there was no memory for the request");
        return;
    }
    s->id = id;
    s->to_head = head->method == METHOD_HEAD;
    s->left = head->body_len;
    s->sending = bodiless ? SEND_LAST : SEND_BODY;
    s->last = bodiless;
    flush_later(h);
}

static bool answers_without_body(const struct h2_stream *s, const struct head *head) {
    return s->to_head || head->status == 204 || head->status == 304 || head->body_len == 0;
}

static bool fill_answer(struct h2_side *side, unsigned *n, const struct head *head, char status[FORMAT_U64_MAX],
                        char length[FORMAT_U64_MAX]) {
    char *end = format_u64(status, (uint64_t)head->status);
    add_nv(side, n, STR(":status"), str_from(status, (size_t)(end - status)));
    bool fits = add_fields(side, n, &head->fields);
    if (fits && head->body_len >= 0 && head->status >= 200 && head->status != 204) {
        add_length(side, n, head->body_len, length);
    }
    return fits;
}

static void submit_interim(struct h2_stream *s, const struct head *head) {
    struct h2 *h = s->h;
    char status[FORMAT_U64_MAX];
    char length[FORMAT_U64_MAX];
    unsigned n = 0;
    if (fill_answer(h->side, &n, head, status, length)) {
        submitted(h, nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, s->id, NULL, h->side->nv, n, NULL));
    }
}

// Packed: until it leaves it can be taken back.
static void hold_head(struct h2_stream *s, const struct head *head) {
    int32_t status = head->status;
    s->packed = try_malloc(HELD_STATUS + sizeof head->body_len + fields_packed_size(&head->fields));
    if (!s->packed) {
        break_stream(s);
        return;
    }
    memcpy(s->packed, &status, HELD_STATUS);
    memcpy(s->packed + HELD_STATUS, &head->body_len, sizeof head->body_len);
    fields_pack(&head->fields, s->packed + HELD_STATUS + sizeof head->body_len);
    s->left = answers_without_body(s, head) ? 0 : head->body_len;
    s->bodiless = answers_without_body(s, head);
    s->sending = SEND_HELD;
    list_unlink(&s->wait);
    list_push_back(&s->h->held, &s->wait);
    flush_later(s->h);
}

// It ends with the head if all of its body, none, was taken.
static void submit_answer(struct h2_stream *s) {
    struct h2 *h = s->h;
    struct h2_side *side = h->side;
    struct head head = {.fields = {.v = side->fields, .cap = side->nv_room}};
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = on_want_body};
    char status[FORMAT_U64_MAX];
    char length[FORMAT_U64_MAX];
    char *packed = s->packed;
    int32_t code = 0;
    unsigned n = 0;
    memcpy(&code, packed, HELD_STATUS);
    memcpy(&head.body_len, packed + HELD_STATUS, sizeof head.body_len);
    head.status = code;
    bool fits = fields_unpack(&head.fields, packed + HELD_STATUS + sizeof head.body_len) != NULL &&
                fill_answer(side, &n, &head, status, length);
    s->packed = NULL; // its strings are borrowed until the head is submitted
    list_unlink(&s->wait);
    s->sending = s->last ? SEND_LAST : SEND_BODY;
    bool ends = s->last && buf_len(&s->out) == 0;
    if (fits) {
        submitted(h, nghttp2_submit_response(h->session, s->id, side->nv, n, ends ? NULL : &body));
    } else {
        break_stream(s);
    }
    mem_free(packed, 0);
}

static void submit_held(struct h2 *h) {
    while (!list_empty(&h->held)) {
        submit_answer(container_of(h->held.next, struct h2_stream, wait));
    }
}

static void send_head(struct xchg *x, const struct head *head) {
    struct h2_stream *s = of(x);
    struct h2 *h = s->h;
    if (s->sending != SEND_IDLE || h->closed || h->error || s->id == 0) {
        return;
    }
    if (!h->side->server) {
        assert(h->session); // before on_drain there is no connection
        submit_request(s, head);
    } else if (head->status < 200) {
        submit_interim(s, head);
    } else {
        hold_head(s, head);
    }
}

static bool retract_head(struct xchg *x) {
    struct h2_stream *s = of(x);
    if (s->sending != SEND_HELD || buf_len(&s->out) || s->last) {
        return false;
    }
    mem_free(s->packed, 0);
    s->packed = NULL;
    list_unlink(&s->wait);
    s->sending = SEND_IDLE;
    return true;
}

// ---- sending: bodies

static size_t window_of(const struct h2_stream *s) {
    const struct h2 *h = s->h;
    if (!s->framed && !h->side->server) {
        return nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
    }
    return (size_t)MAX(nghttp2_session_get_stream_remote_window_size(h->session, s->id), 0);
}

// Nothing is taken that could not leave at once.
static size_t room_of(const struct h2_stream *s) {
    const struct h2 *h = s->h;
    size_t window = MIN(window_of(s), (size_t)QUEUED_MOST);
    size_t common = (size_t)MAX(nghttp2_session_get_remote_window_size(h->session), 0);
    size_t mine = buf_len(&s->out);
    if (buf_len(&h->out) || window <= mine || common <= h->queued) {
        return 0;
    }
    return MIN(window - mine, common - h->queued);
}

static size_t total_of(const struct iovec *v, int count) {
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        n += v[i].iov_len;
    }
    return n;
}

static bool take_bytes(struct h2_stream *s, const struct iovec *v, int count, size_t n) {
    if (n && buf_reserve(&s->out, n) != OK) { // once for all parts
        return false;
    }
    for (int i = 0; i < count && n; i++) {
        size_t part = MIN(v[i].iov_len, n);
        if (buf_append(&s->out, v[i].iov_base, part) != OK) {
            return false;
        }
        n -= part;
        s->h->queued += part;
        s->left -= s->left > 0 ? (int64_t)part : 0;
    }
    return true;
}

// All of it was taken: with its answer a server's exchange is over.
static void end_sending(struct h2_stream *s) {
    s->last = true;
    s->sending = s->sending == SEND_HELD ? SEND_HELD : SEND_LAST;
    if (s->h->side->server) {
        detach(s);
    }
}

// More than was announced, or less at its end.
static bool is_other_length(const struct h2_stream *s, size_t total, bool end) {
    uint64_t left = (uint64_t)s->left;
    return !s->bodiless && s->left != BODY_UNKNOWN && (total > left || (end && total < left));
}

static size_t send_body(struct xchg *x, const struct iovec *v, int count, bool end) {
    struct h2_stream *s = of(x);
    struct h2 *h = s->h;
    size_t total = total_of(v, count);
    if (h->closed || h->error || s->id == 0 || (s->sending != SEND_HELD && s->sending != SEND_BODY)) {
        return 0;
    }
    size_t n = s->bodiless ? total : MIN(total, room_of(s)); // what an answer to a HEAD has is swallowed
    if (is_other_length(s, total, end) || (!s->bodiless && !take_bytes(s, v, count, n))) {
        break_stream(s); // never let it run over, never let it look complete
        return 0;
    }
    if (n == total && end) {
        end_sending(s);
    }
    if (s->sending == SEND_HELD) {
        submit_answer(s);
    } else {
        (void)nghttp2_session_resume_data(h->session, s->id); // fails where nothing was put off
    }
    if (n < total && s->id > 0 && !list_linked(&s->wait)) {
        list_push_back(&h->thirsty, &s->wait);
    }
    flush_later(h);
    return n;
}

// Those that may go on are told so.
static void quench(struct h2 *h) {
    struct list waiting;
    list_move_all(&waiting, &h->thirsty);
    while (!list_empty(&waiting)) {
        struct h2_stream *s = container_of(waiting.next, struct h2_stream, wait);
        list_unlink(&s->wait);
        if (h->closed) {
        } else if (!s->x || room_of(s) == 0) {
            list_push_back(&h->thirsty, &s->wait);
        } else {
            s->x->events->on_drain(s->x);
        }
    }
}

static ssize_t on_want_body(nghttp2_session *session UNUSED, int32_t id UNUSED, uint8_t *into UNUSED, size_t most,
                            uint32_t *flags, nghttp2_data_source *source, void *user UNUSED) {
    struct h2_stream *s = source->ptr;
    size_t n = MIN(most, buf_len(&s->out));
    if (s->aborting && n == 0) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; // RST_STREAM
    }
    if (n == 0 && !s->last) {
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags = NGHTTP2_DATA_FLAG_NO_COPY;
    if (s->last && n == buf_len(&s->out)) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

// ---- writing

// What has been framed and did not fit into one write, or was not taken.
static void keep_out(struct h2 *h, const char *bytes, size_t n) {
    h->moved_ms = buf_len(&h->out) ? h->moved_ms : loop_of(h)->now_ms;
    if (buf_append(&h->out, bytes, n) != OK) {
        break_later(h, ERR_NOMEM, "out of memory");
    }
}

static void post(struct h2 *h) {
    struct iovec v = {h->side->scratch, h->scratched};
    size_t written = 0;
    if (h->scratched && !h->error) {
        if (conn_writev(h->conn, &v, 1, &written) != OK) { // why is found out by reading
            h->readable = true;
            break_later(h, ERR_RESET, "the peer closed the connection while something was being sent");
        } else if (written < h->scratched) {
            keep_out(h, h->side->scratch + written, h->scratched - written);
        }
    }
    h->scratched = 0;
}

static void put(struct h2 *h, const void *bytes, size_t n) {
    const char *at = bytes;
    while (n && buf_len(&h->out) == 0 && !h->error) {
        size_t part = MIN(n, SCRATCH - h->scratched);
        memcpy(h->side->scratch + h->scratched, at, part);
        h->scratched += part;
        at += part;
        n -= part;
        if (h->scratched == SCRATCH) {
            post(h);
        }
    }
    if (n && !h->error) {
        keep_out(h, at, n);
    }
}

static bool write_left(struct h2 *h) {
    struct str left = buf_str(&h->out);
    struct iovec v = {(void *)(uintptr_t)left.ptr, left.len};
    size_t written = 0;
    if (left.len == 0) {
        return true;
    }
    if (conn_writev(h->conn, &v, 1, &written) != OK) {
        h->readable = true;
        break_later(h, ERR_RESET, "the peer closed the connection while something was being sent");
        return false;
    }
    buf_consume(&h->out, written);
    h->moved_ms = written ? loop_of(h)->now_ms : h->moved_ms;
    if (buf_len(&h->out) == 0) {
        buf_finish(&h->out);
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
    if (buf_len(&h->out)) {
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
    while (!h->closed && !h->error && buf_len(&h->out) == 0) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(h->session, &bytes);
        if (n < 0) {
            break_later(h, ERR_NOMEM, "out of memory");
        }
        if (n <= 0) {
            break;
        }
        put(h, bytes, (size_t)n);
    }
    if (!h->closed) {
        post(h);
    }
}

static bool is_over(const struct h2 *h) {
    return !h->closed && !h->error && buf_len(&h->out) == 0 && !nghttp2_session_want_read(h->session) &&
           !nghttp2_session_want_write(h->session);
}

static void write_on(struct h2 *h) {
    submit_held(h);
    frame_all(h);
    if (is_over(h) && !h->told && !h->side->server) {
        h2_close(h, ERR_PROTOCOL, "the upstream does not speak HTTP/2");
    } else if (is_over(h)) {
        h2_close(h, ERR_RESET, "the connection was ended by HTTP/2's rules");
    } else if (!h->closed) {
        quench(h);
    }
}

static void on_flush(struct task *task) {
    struct h2 *h = container_of(task, struct h2, flush);
    if (buf_len(&h->out) == 0 && !h->error) { // else CONN_WRITABLE comes
        write_on(h);
    }
}

// ---- receiving

static void give_back(struct h2_stream *s) {
    struct h2 *h = s->h;
    if (s->owed && s->id > 0 && !h->closed) {
        submitted(h, nghttp2_session_consume_stream(h->session, s->id, s->owed));
    }
    s->owed = 0;
}

// A client's answer is complete. The stream is free before the owner hears of it.
static void answered(struct h2_stream *s, struct str last) {
    struct xchg *x = s->x;
    struct h2 *h = s->h;
    h->carried = true;
    h->refusing = false;
    detach(s);
    if (s->sending == SEND_DONE) {
        discount(s);
    }
    if (s->id == 0) {
        drop(s);
    } else if (s->sending != SEND_DONE && !(s->sending == SEND_LAST && buf_len(&s->out) == 0)) {
        cancel(s); // it is not to wait for the rest of the request
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
        fail(s, ERR_NOMEM, "out of memory");
        reset(s, NGHTTP2_INTERNAL_ERROR);
    }
}

// The bytes that nghttp2 showed last: they wait for what comes behind them, which may be their end.
static void deliver_chunk(struct h2 *h, bool end) {
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
        fail(s, s->fate, s->problem);
        drop(s);
    }
}

static void deliver_ready(struct h2 *h) {
    while (!list_empty(&h->ready)) {
        deliver_held(container_of(h->ready.next, struct h2_stream, ready));
    }
}

static void set_paused(struct xchg *x, bool paused) {
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

// What was taken before still leaves, and then RST_STREAM says that it is not all.
static void abort_answer(struct h2_stream *s) {
    if (s->sending == SEND_HELD && !s->bodiless) {
        submit_answer(s);
    }
    if (s->sending == SEND_BODY) {
        s->aborting = true;
        (void)nghttp2_session_resume_data(s->h->session, s->id);
        flush_later(s->h);
    } else {
        list_unlink(&s->wait); // of a held head
        reset(s, NGHTTP2_INTERNAL_ERROR);
    }
}

static void abort_exchange(struct xchg *x) {
    struct h2_stream *s = of(x);
    detach(s);
    if (s->id <= 0) {
        drop(s);
    } else if (s->h->side->server) {
        abort_answer(s);
    } else {
        cancel(s);
    }
}

static bool peer_of(const struct xchg *x, struct address *a) {
    const struct h2_stream *s = of(x);
    return s->h->conn && conn_peer(s->h->conn, a);
}

static const struct xchg_ops stream_ops = {send_head, send_body, retract_head, set_paused, abort_exchange, peer_of};

// ---- callbacks of nghttp2

static struct h2_stream *stream_of(const struct h2 *h, int32_t id) {
    return id ? nghttp2_session_get_stream_user_data(h->session, id) : NULL;
}

// After a write that failed there may still be something to be read.
static int result_of(const struct h2 *h) {
    return h->closed || h->error == ERR_NOMEM ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static struct h2_stream *new_stream(struct h2 *h) {
    struct h2_stream *s = xcalloc(1, sizeof *s);
    s->h = h;
    s->id = NOT_YET;
    s->left = BODY_UNKNOWN;
    s->moved_ms = loop_of(h)->now_ms;
    buf_init(&s->out, QUEUED_MOST);
    buf_init(&s->in, 2 * STREAM_WINDOW);
    list_push_back(&h->streams, &s->node);
    h->stream_count++;
    s->counts = true;
    h->active++;
    return s;
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
    deliver_chunk(h, false);
    if (result_of(h)) {
        return result_of(h);
    }
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    bool request = h->side->server && frame->headers.cat == NGHTTP2_HCAT_REQUEST;
    if (request && !may_begin(h)) {
        submitted(h,
                  nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM));
    } else if (request) {
        s = new_stream(h);
        s->id = frame->hd.stream_id;
        nghttp2_session_set_stream_user_data(session, s->id, s);
        change(h);
    }
    recycle(h);
    if (s && s->receiving == RECV_HEAD) { // else trailers, which are read over (RFC 9110 section 6.5.1)
        h->block = take_block(h->side);
        if (!h->block) {
            break_later(h, ERR_NOMEM, "out of memory");
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
        fail(s, h->side->server ? ERR_GONE : ERR_PROTOCOL, problem);
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
    reset(s, NGHTTP2_PROTOCOL_ERROR);
    fail(s, e, problem);
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

static void begin_answering(struct h2_stream *s, struct head *head, bool end) {
    s->own = (struct xchg){.ops = &stream_ops, .events = &nobody, .impl = s};
    s->x = &s->own;
    s->to_head = head->method == METHOD_HEAD;
    s->receiving = end ? RECV_ENDED : RECV_BODY;
}

static void on_request_head(struct h2_stream *s, struct head *head, bool end) {
    struct h2 *h = s->h;
    if (!end && !(s->request = h2_head_keep(head))) {
        reset(s, NGHTTP2_INTERNAL_ERROR);
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
    recycle(h);
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
            submitted(h, nghttp2_session_set_stream_user_data(h->session, s->id, NULL));
            reset(s, NGHTTP2_CANCEL);
        }
        s->refused = true;
        doom(s, ERR_RESET, "the upstream takes no more streams at once");
    }
}

static void on_settings(struct h2 *h, const nghttp2_frame *frame) {
    if (!(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
        h->told = true;
        return_excess(h);
        change(h);
    }
}

static int on_frame_recv(nghttp2_session *session UNUSED, const nghttp2_frame *frame, void *user) {
    struct h2 *h = user;
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (frame->hd.type == NGHTTP2_DATA && end && s && !result_of(h)) {
        if (h->chunk_of == s) {
            deliver_chunk(h, true);
        } else {
            deliver_chunk(h, false);
            take_in(s, STR(""), true);
        }
    } else if (frame->hd.type != NGHTTP2_DATA) {
        deliver_chunk(h, false);
    }
    if (result_of(h)) {
    } else if (frame->hd.type == NGHTTP2_HEADERS && s && h->block) {
        on_head(s, end);
    } else if (frame->hd.type == NGHTTP2_HEADERS && s && end && s->receiving != RECV_ENDED) { // trailers
        take_in(s, STR(""), true);
    } else if (frame->hd.type == NGHTTP2_SETTINGS) {
        on_settings(h, frame);
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        h->going = true;
        change(h);
    }
    return result_of(h);
}

static int on_data(nghttp2_session *session, uint8_t flags UNUSED, int32_t id, const uint8_t *bytes, size_t n,
                   void *user) {
    struct h2 *h = user;
    deliver_chunk(h, false);
    if (result_of(h)) {
        return result_of(h);
    }
    submitted(h, nghttp2_session_consume_connection(session, n)); // others go on, whatever this one's owner does
    h->chunk_of = stream_of(h, id);
    h->chunk = str_from((const char *)bytes, n);
    return result_of(h);
}

static int on_invalid_frame(nghttp2_session *session UNUSED, const nghttp2_frame *frame, int code UNUSED, void *user) {
    struct h2 *h = user;
    struct h2_stream *s = stream_of(h, frame->hd.stream_id);
    deliver_chunk(h, false);
    if (s && s->x && !h->closed && !h->side->server) {
        fail(s, s->receiving == RECV_HEAD ? ERR_PROTOCOL : ERR_CUT, "the upstream's answer is malformed HTTP/2");
    }
    return result_of(h);
}

// END_STREAM has left. A server that answered early tells the client not to go on (RFC 9113 section 8.1).
static void sent_all(struct h2_stream *s) {
    s->sending = SEND_DONE;
    if (s->h->side->server && s->receiving != RECV_ENDED) {
        reset(s, NGHTTP2_NO_ERROR);
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
    deliver_chunk(h, false);
    if (!s || !s->h || h->closed) {
        return 0;
    }
    if (code == NGHTTP2_REFUSED_STREAM) {
        s->refused = true;
        h->refusing = h->refusing || (h->told && !h->going);
        doom(s, how_lost(s, ERR_RESET), "the upstream refused the stream");
    } else {
        doom(s, how_lost(s, ERR_RESET),
             h->side->server ? "the client gave the request up" : "the upstream broke the stream off");
    }
    return 0;
}

// ---- the connection

static enum err make_session(struct h2 *h) {
    nghttp2_mem memory = {NULL, mem_alloc, mem_release, mem_zeroed, mem_resize};
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int failed = nghttp2_session_callbacks_new(&callbacks);
    failed = failed ? failed : nghttp2_option_new(&option);
    if (!failed) {
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
        nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
        nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
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
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)h->side->limits->head_bytes},
        h->side->server ? (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, h->most}
                        : (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    int failed = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings));
    failed =
        failed ? failed : nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
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
        break_later(h, e, "out of memory");
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
    struct h2_stream *s = new_stream(h);
    s->x = x;
    x->ops = &stream_ops;
    x->impl = s;
    x->reused = h->carried;
    x->untouched = false;
}

struct xchg *h2_unbegin(struct h2 *h) {
    if (list_empty(&h->streams)) {
        return NULL;
    }
    struct h2_stream *s = container_of(h->streams.next, struct h2_stream, node);
    struct xchg *x = s->x;
    drop(s);
    return x;
}

void h2_begun(struct h2 *h) {
    struct list rest;
    list_move_all(&rest, &h->streams);
    for (struct h2_stream *s; (s = next_of(h, &rest));) {
        if (s->x && s->id == NOT_YET) {
            s->x->events->on_drain(s->x);
        }
    }
}

void h2_ping(struct h2 *h) { submitted(h, nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL)); }

void h2_drain(struct h2 *h) {
    if (!h->closed && !h->going && h->error == OK) {
        h->going = true;
        submitted(h, nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                                           nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR, NULL,
                                           0));
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
        deliver_chunk(h, false);
    }
    if (used < 0 && !h->closed && !h->error && !h->ending) {
        h2_close(h, used == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_PROTOCOL, nghttp2_strerror((int)used));
    }
    flush_later(h);
}

void h2_drain_soon(struct h2 *h) {
    if (!h->closed && !h->going && h->error == OK) {
        submitted(h, nghttp2_submit_shutdown_notice(h->session));
    }
}

// ---- clients that let us wait

static void refuse_slow(struct h2_stream *s) {
    static const char problem[] = "the request did not arrive in time";
    fail(s, ERR_SLOW, problem);
    if (s->h && s->id > 0 && s->sending == SEND_IDLE) {
        s->own = (struct xchg){.ops = &stream_ops, .events = &nobody, .impl = s};
        s->x = &s->own;
        s->h->events->on_reject(s->h, s->x, ERR_SLOW, problem);
    }
}

static bool takes_nothing(const struct h2_stream *s) {
    return buf_len(&s->out) || (s->sending == SEND_BODY && list_linked(&s->wait));
}

static void sweep_stream(struct h2_stream *s, uint64_t head_ms, uint64_t idle_ms) {
    uint64_t silent_ms = loop_of(s->h)->now_ms - s->moved_ms;
    if (s->receiving == RECV_HEAD && silent_ms >= head_ms) {
        h2_calm(s->h, "a head did not arrive in time");
    } else if (takes_nothing(s) && silent_ms >= idle_ms) {
        fail(s, ERR_GONE, "the client did not go on in time");
        break_stream(s);
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
             : e == ERR_EOF  ? "the upstream closed the connection"
                             : "the upstream reset the connection");
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
        quench(h);
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
    deliver_ready(h);
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
