// SPDX-License-Identifier: MIT
// What streams send: heads, of which a server's wait for the body bytes of the same turn, and bodies, of which nothing is
// taken that could not leave at once. What was taken is framed and written by h2.c.
#include <assert.h>

#include "base/mem.h"
#include "http/h2_stream.h"

enum {
    HELD_STATUS = 4,
};

// ---- heads

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
        h2_break_later(h, ERR_NOMEM, "there was no memory for the request");
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
        h2_submitted(h, nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, s->id, NULL, h->side->nv, n, NULL));
    }
}

// Packed: until it leaves it can be taken back.
static void hold_head(struct h2_stream *s, const struct head *head) {
    int32_t status = head->status;
    s->packed = try_malloc(HELD_STATUS + sizeof head->body_len + fields_packed_size(&head->fields));
    if (!s->packed) {
        h2_break_stream(s);
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
void h2_submit_answer(struct h2_stream *s) {
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
        h2_submitted(h, nghttp2_submit_response(h->session, s->id, side->nv, n, ends ? NULL : &body));
    } else {
        h2_break_stream(s);
    }
    mem_free(packed, 0);
}

void h2_submit_held(struct h2 *h) {
    while (!list_empty(&h->held)) {
        h2_submit_answer(container_of(h->held.next, struct h2_stream, wait));
    }
}

void h2_send_head(struct xchg *x, const struct head *head) {
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

bool h2_retract_head(struct xchg *x) {
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

// ---- bodies

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
    size_t window = MIN(window_of(s), (size_t)H2_QUEUED_MOST);
    size_t common = (size_t)MAX(nghttp2_session_get_remote_window_size(h->session), 0);
    size_t mine = buf_len(&s->out);
    if (h2_is_stuck(h) || window <= mine || common <= h->queued) {
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
        h2_detach(s);
    }
}

// More than was announced, or less at its end.
static bool is_other_length(const struct h2_stream *s, size_t total, bool end) {
    uint64_t left = (uint64_t)s->left;
    return !s->bodiless && s->left != BODY_UNKNOWN && (total > left || (end && total < left));
}

// Has it bytes that were framed and wait for room in the connection? That has a time of its own.
static bool is_under_way(const struct h2_stream *s) { return buf_len(&s->h->out) && s->moved_ms >= s->h->blocked_ms; }

bool h2_takes_nothing(const struct h2_stream *s) {
    return !is_under_way(s) && (buf_len(&s->out) || (s->sending == SEND_BODY && list_linked(&s->wait)));
}

size_t h2_send_body(struct xchg *x, const struct iovec *v, int count, bool end) {
    struct h2_stream *s = of(x);
    struct h2 *h = s->h;
    size_t total = total_of(v, count);
    if (h->closed || h->error || s->id == 0 || (s->sending != SEND_HELD && s->sending != SEND_BODY)) {
        return 0;
    }
    s->moved_ms = h2_takes_nothing(s) ? s->moved_ms : loop_of(h)->now_ms; // its time begins now
    size_t n = s->bodiless ? total : MIN(total, room_of(s));              // what an answer to a HEAD has is swallowed
    if (is_other_length(s, total, end) || (!s->bodiless && !take_bytes(s, v, count, n))) {
        h2_break_stream(s); // never let it run over, never let it look complete
        return 0;
    }
    if (n == total && end) {
        end_sending(s);
    }
    if (s->sending == SEND_HELD) {
        h2_submit_answer(s);
    } else {
        (void)nghttp2_session_resume_data(h->session, s->id); // fails where nothing was put off
    }
    if (n < total && s->id > 0 && !list_linked(&s->wait)) {
        list_push_back(&h->thirsty, &s->wait);
    }
    flush_later(h);
    return n;
}

void h2_quench(struct h2 *h) {
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

// Many clients throw away what they have not handed on when RST_STREAM comes (curl, and with it an event stream's last
// event): it waits until a PING behind the last bytes is answered.
static ssize_t break_off(struct h2_stream *s) {
    if (s->arrived) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; // RST_STREAM
    }
    if (!s->pinged) {
        uint8_t id[H2_PING_BYTES] = {0};
        memcpy(id, &s->id, sizeof s->id);
        s->pinged = true;
        h2_submitted(s->h, nghttp2_submit_ping(s->h->session, NGHTTP2_FLAG_NONE, id));
    }
    return NGHTTP2_ERR_DEFERRED;
}

static ssize_t on_want_body(nghttp2_session *session UNUSED, int32_t id UNUSED, uint8_t *into UNUSED, size_t most,
                            uint32_t *flags, nghttp2_data_source *source, void *user UNUSED) {
    struct h2_stream *s = source->ptr;
    size_t n = MIN(most, buf_len(&s->out));
    if (s->aborting && n == 0) {
        return break_off(s);
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
