// SPDX-License-Identifier: MIT
#include "over_h2.h"

#include <nghttp2/nghttp2.h>

enum { FIELDS_MAX = 128, UPSTREAM_STREAMS = 100 };

// Where a peer is in what it says.
enum saying { HEAD, LENGTH, CHUNK_SIZE, CHUNK, TRAILERS, UNTIL_CLOSE, SAID };

struct lane {
    struct list node;
    struct worker *worker;
    struct flow_upstream *upstream; // NULL: a client's
    struct conn *conn;              // NULL: closed from here
    nghttp2_session *session;
    const uint8_t *out; // framed, and not taken yet
    size_t out_left;
    size_t may_read;
    enum err end;
    bool finishing; // FIN behind what was said
    bool deaf;      // its peers read nothing until they are told to
    // Of the head that arrives.
    char *fields;
    size_t fields_len, fields_room;
    char method[32], path[4096], authority[256];
    int status;
};

static struct world *world_of(const struct lane *l) {
    return container_of(l->worker - l->worker->options.number, struct world, worker);
}

static struct str rest_of(const struct peer *p) { return str_from(p->out + p->out_at, p->out_len - p->out_at); }
static void check_h2(int result) {
    if (result < 0) {
        fail_msg("nghttp2: %s", nghttp2_strerror(result));
    }
}

// ---- what comes

static void hear(struct peer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void hear(struct peer *p, const char *format, ...) {
    char text[8192];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof text);
    peer_hear(p, str_from(text, (size_t)n));
}

static struct peer *peer_of(struct lane *l, int32_t id) {
    return id ? nghttp2_session_get_stream_user_data(l->session, id) : NULL;
}

// The one that was used last of those without an exchange, or a new one.
static struct peer *peer_for(struct lane *l) {
    struct peer *found = NULL;
    list_each(node, &world_of(l)->peers) {
        struct peer *p = container_of(node, struct peer, node);
        bool idle = p->lane == l && p->conn && p->end == OK && p->stream == 0;
        found = idle && (!found || p->used > found->used) ? p : found;
    }
    if (!found) {
        found = peer_create(l->worker, l->conn);
        found->lane = l;
        found->may_read = l->deaf ? 0 : SIZE_MAX;
        flow_upstream_add(l->upstream, found);
    }
    return found;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *owner) {
    struct lane *l = owner;
    if (l->upstream && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        struct peer *p = peer_for(l);
        p->stream = frame->hd.stream_id;
        check_h2(nghttp2_session_set_stream_user_data(session, p->stream, p));
    }
    l->fields_len = 0;
    l->status = 0;
    return 0;
}

static void copy_text(char *to, size_t room, struct str s) {
    assert_true(s.len < room);
    memcpy(to, s.ptr, s.len);
    to[s.len] = '\0';
}

static void add_field_text(struct lane *l, struct str s) { text_add(&l->fields, &l->fields_len, &l->fields_room, s); }

static int on_header(nghttp2_session *session UNUSED, const nghttp2_frame *frame UNUSED, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags UNUSED, void *owner) {
    struct lane *l = owner;
    struct str n = str_from((const char *)name, name_len);
    struct str v = str_from((const char *)value, value_len);
    if (str_eq(n, STR(":status"))) {
        uint64_t status = 0;
        check_ok(parse_u64(v, &status));
        l->status = (int)status;
    } else if (str_eq(n, STR(":method"))) {
        copy_text(l->method, sizeof l->method, v);
    } else if (str_eq(n, STR(":path"))) {
        copy_text(l->path, sizeof l->path, v);
    } else if (str_eq(n, STR(":authority"))) {
        copy_text(l->authority, sizeof l->authority, v);
    } else if (n.ptr[0] != ':') {
        bool first = true;
        for (size_t i = 0; i < n.len; i++) {
            char c = n.ptr[i];
            char shown = first && c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
            add_field_text(l, str_from(&shown, 1));
            first = c == '-';
        }
        add_field_text(l, STR(": "));
        add_field_text(l, v);
        add_field_text(l, STR("\r\n"));
    }
    return 0;
}

static bool has_body(const struct peer *p, int status) { return !p->to_head && status != 204 && status != 304; }

static void hear_head(struct lane *l, struct peer *p, bool end) {
    struct str fields = str_from(l->fields ? l->fields : "", l->fields_len);
    bool length = str_search(fields, STR("Content-Length: ")) < fields.len;
    bool interim = !l->upstream && l->status < 200;
    p->told = false;
    if (l->upstream) {
        p->to_head = strcmp(l->method, "HEAD") == 0;
        p->chunked = !length && !end;
        hear(p, "%s %s HTTP/1.1\r\nHost: %s\r\n", l->method, l->path, l->authority);
    } else {
        p->chunked = !interim && !length && has_body(p, l->status);
        hear(p, "HTTP/1.1 %d %s\r\n", l->status, status_reason(l->status));
    }
    peer_hear(p, fields);
    hear(p, "%s\r\n", p->chunked ? "Transfer-Encoding: chunked\r\n" : "");
}

// A frame's bytes, as far as they may be read, are a chunk; the stream's window is given back for them.
static void read_held(struct peer *p) {
    size_t n = MIN(p->held_len, p->may_read);
    nghttp2_session *session = p->lane->session;
    if (n) {
        hear(p, p->chunked ? "%zx\r\n" : "", n);
        peer_hear(p, str_from(p->held, n));
        peer_hear(p, p->chunked ? STR("\r\n") : STR(""));
        memmove(p->held, p->held + n, p->held_len - n);
        p->held_len -= n;
        if (p->stream && p->may_read == SIZE_MAX) {
            check_h2(nghttp2_session_consume_stream(session, p->stream, n));
        } else if (p->stream) { // at once, be it little
            check_h2(nghttp2_submit_window_update(session, 0, p->stream, (int32_t)n));
        }
        p->may_read -= p->may_read == SIZE_MAX ? 0 : n;
    }
    if (p->heard && !p->told && p->held_len == 0) {
        p->told = true;
        peer_hear(p, p->chunked ? STR("0\r\n\r\n") : STR(""));
    }
}

static bool is_trailer(const nghttp2_frame *frame) {
    return frame->headers.cat == NGHTTP2_HCAT_HEADERS && frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
}

static int on_frame(nghttp2_session *session UNUSED, const nghttp2_frame *frame, void *owner) {
    struct lane *l = owner;
    struct peer *p = peer_of(l, frame->hd.stream_id);
    bool message = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    bool end = message && frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (!p || !message) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && !is_trailer(frame)) {
        hear_head(l, p, end);
    }
    p->heard = end;
    read_held(p);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags UNUSED, int32_t id, const uint8_t *data, size_t n,
                   void *owner) {
    struct peer *p = peer_of(owner, id);
    check_h2(nghttp2_session_consume_connection(session, n));
    if (p) {
        text_add(&p->held, &p->held_len, &p->held_room, str_from((const char *)data, n));
    }
    return 0;
}

// Where an HTTP/1.1 connection would be kept the peer goes on; else it is at its end.
static int on_stream_close(nghttp2_session *session UNUSED, int32_t id, uint32_t code, void *owner) {
    struct lane *l = owner;
    struct peer *p = peer_of(l, id);
    if (p) {
        bool kept = code == NGHTTP2_NO_ERROR && p->heard && (p->saying == SAID || p->saying == HEAD);
        p->end = p->end != OK || kept ? p->end : p->heard && code == NGHTTP2_NO_ERROR ? ERR_EOF : ERR_RESET;
        read_held(p);
        p->saying = HEAD;
        p->stream = 0;
        p->heard = false;
        p->used = ++world_of(l)->used;
    }
    return 0;
}

static void close_lane(struct lane *l, bool abort) {
    if (l->conn) {
        (abort ? conn_abort : conn_close)(l->conn);
        l->conn = NULL;
    }
}

static void end_all(struct lane *l, enum err e) {
    l->end = e;
    list_each(node, &world_of(l)->peers) {
        struct peer *p = container_of(node, struct peer, node);
        if (p->lane == l && p->end == OK) {
            read_held(p);
            p->end = e;
        }
    }
}

static void read_on(struct lane *l) {
    char room[4096];
    while (l->conn && l->end == OK && l->may_read) {
        size_t n = 0;
        enum err e = conn_read(l->conn, room, MIN(sizeof room, l->may_read), &n);
        if (e == ERR_AGAIN) {
            return;
        }
        if (e != OK) {
            end_all(l, e);
            return;
        }
        l->may_read -= l->may_read == SIZE_MAX ? 0 : n;
        check_h2((int)nghttp2_session_mem_recv(l->session, (const uint8_t *)room, n));
    }
}

// ---- what is said

static bool hop_by_hop(struct str name) {
    static const char *const names[] = {"host",   "connection", "keep-alive", "proxy-connection", "transfer-encoding",
                                        "upgrade"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_ieq(name, str_c(names[i]))) {
            return true;
        }
    }
    return false;
}

struct said {
    struct str start;
    nghttp2_nv nv[FIELDS_MAX];
    size_t count;
    char *text; // lower-case names, and what the pseudo-header fields say
    bool chunked, length;
    uint64_t bytes;
};

static void add_field(struct said *s, struct str name, struct str value) {
    assert_true(s->count < FIELDS_MAX);
    s->nv[s->count++] = (nghttp2_nv){(uint8_t *)name.ptr, (uint8_t *)value.ptr, name.len, value.len, 0};
}

static void read_field(struct said *s, char *line, size_t len) {
    size_t colon = str_find(str_from(line, len), ':');
    struct str value = str_trim(str_skip(str_from(line, len), MIN(colon + 1, len)));
    if (colon == len || colon == 0) {
        fail_msg("\"%.*s\" is no field of HTTP/2", (int)len, line);
    }
    for (size_t i = 0; i < colon; i++) {
        line[i] = line[i] >= 'A' && line[i] <= 'Z' ? (char)(line[i] - 'A' + 'a') : line[i];
    }
    struct str name = str_from(line, colon);
    if (str_eq(name, STR("transfer-encoding"))) {
        s->chunked = true;
    } else if (str_eq(name, STR("content-length"))) {
        s->length = true;
        if (parse_u64(value, &s->bytes) != OK) {
            fail_msg("\"%.*s\" is no length", STR_ARG(value));
        }
    } else if (str_eq(name, STR("host"))) {
        add_field(s, STR(":authority"), value);
    }
    if (!hop_by_hop(name)) {
        add_field(s, name, value);
    }
}

// The pseudo-header fields go first.
static void read_head(struct peer *p, struct said *s, size_t len, bool answer) {
    *s = (struct said){.text = xmalloc(len)};
    memcpy(s->text, p->out + p->out_at, len);
    struct str head = str_from(s->text, len);
    size_t line = str_search(head, STR("\r\n"));
    s->start = str_first(head, line);
    size_t space = str_find(s->start, ' ');
    struct str second = str_skip(s->start, MIN(space + 1, s->start.len));
    second = str_first(second, str_find(second, ' '));
    if (answer != str_starts(s->start, STR("HTTP/1.")) || second.len == 0) {
        fail_msg("\"%.*s\" cannot be said in HTTP/2", STR_ARG(s->start));
    }
    if (answer) {
        add_field(s, STR(":status"), second);
    } else {
        add_field(s, STR(":method"), str_first(s->start, space));
        add_field(s, STR(":scheme"), STR("http"));
        add_field(s, STR(":path"), second);
    }
    size_t pseudo = s->count;
    for (size_t at = line + 2; at < len; at += line + 2) {
        struct str rest = str_skip(head, at);
        line = str_search(rest, STR("\r\n"));
        read_field(s, s->text + at, line);
    }
    for (size_t i = pseudo; i < s->count; i++) { // :authority
        if (s->nv[i].name[0] == ':') {
            nghttp2_nv authority = s->nv[i];
            memmove(&s->nv[pseudo + 1], &s->nv[pseudo], (i - pseudo) * sizeof *s->nv);
            s->nv[pseudo] = authority;
        }
    }
}

// Takes a line, with its end, off what is said: false when it is not all there.
static bool take_line(struct peer *p, struct str *line) {
    struct str rest = rest_of(p);
    size_t len = str_search(rest, STR("\r\n"));
    *line = str_first(rest, len);
    p->out_at += len < rest.len ? len + 2 : 0;
    return len < rest.len;
}

static void read_chunk_size(struct peer *p, struct str line) {
    uint64_t size = 0;
    size_t digits = str_find(line, ';');
    for (size_t i = 0; i < digits; i++) {
        if (hex_value(line.ptr[i]) < 0 || digits > 15) {
            fail_msg("\"%.*s\" is no chunk's size", STR_ARG(line));
        }
        size = size * 16 + (uint64_t)hex_value(line.ptr[i]);
    }
    p->left = size;
    p->saying = size ? CHUNK : TRAILERS;
}

// Up to bytes of the body, or to where nothing more was said yet. A trailer is in nobody's interest.
static void skip_framing(struct peer *p) {
    struct str line;
    while ((p->saying == CHUNK_SIZE || p->saying == TRAILERS || (p->saying == CHUNK && p->left == 0)) &&
           take_line(p, &line)) {
        if (p->saying == CHUNK_SIZE) {
            read_chunk_size(p, line);
        } else if (line.len == 0) {
            p->saying = p->saying == CHUNK ? CHUNK_SIZE : SAID;
        } else if (p->saying == CHUNK) {
            fail_msg("\"%.*s\" is behind a chunk", STR_ARG(line));
        }
    }
    if ((p->saying == LENGTH && p->left == 0) || (p->saying == UNTIL_CLOSE && p->leaving && rest_of(p).len == 0)) {
        p->saying = SAID;
    }
}

static ssize_t take_body(nghttp2_session *session UNUSED, int32_t id UNUSED, uint8_t *into, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *owner UNUSED) {
    struct peer *p = source->ptr;
    size_t taken = 0;
    skip_framing(p);
    while (taken < room && rest_of(p).len && (p->saying == LENGTH || p->saying == CHUNK || p->saying == UNTIL_CLOSE)) {
        size_t n = MIN(room - taken, rest_of(p).len);
        n = p->saying == UNTIL_CLOSE ? n : (size_t)MIN((uint64_t)n, p->left);
        if (n == 0) {
            break;
        }
        memcpy(into + taken, p->out + p->out_at, n);
        taken += n;
        p->left -= p->saying == UNTIL_CLOSE ? 0 : n;
        p->out_at += n;
        skip_framing(p);
    }
    *flags |= p->saying == SAID ? NGHTTP2_DATA_FLAG_EOF : 0;
    return taken || p->saying == SAID ? (ssize_t)taken : NGHTTP2_ERR_DEFERRED;
}

static void say_head(struct peer *p, size_t len) {
    struct lane *l = p->lane;
    struct said s;
    nghttp2_data_provider body = {.source.ptr = p, .read_callback = take_body};
    read_head(p, &s, len, l->upstream);
    p->out_at += len + 2;
    bool none = !s.chunked && (!s.length || s.bytes == 0);
    if (l->upstream) {
        uint64_t status = 0;
        check_ok(parse_u64(str_from((const char *)s.nv[0].value, s.nv[0].valuelen), &status));
        none = !has_body(p, (int)status) || (s.length && s.bytes == 0);
        if (status < 200) {
            check_h2(nghttp2_submit_headers(l->session, 0, p->stream, NULL, s.nv, s.count, NULL));
            free(s.text);
            return;
        }
        check_h2(nghttp2_submit_response(l->session, p->stream, s.nv, s.count, none ? NULL : &body));
    } else {
        p->to_head = str_starts(s.start, STR("HEAD "));
        p->stream = nghttp2_submit_request(l->session, NULL, s.nv, s.count, none ? NULL : &body, p);
        check_h2(p->stream);
    }
    p->saying = none ? SAID : s.chunked ? CHUNK_SIZE : s.length ? LENGTH : UNTIL_CLOSE;
    p->left = s.bytes;
    free(s.text);
}

// What was said as far as its turn has come.
static void say(struct peer *p) {
    while (p->conn && p->end == OK && p->saying == HEAD && (p->stream != 0) == (p->lane->upstream != NULL)) {
        struct str rest = rest_of(p);
        size_t len = str_search(rest, STR("\r\n\r\n"));
        if (len == rest.len) {
            return;
        }
        say_head(p, len + 2);
    }
    if (p->stream && p->saying != HEAD) {
        (void)nghttp2_session_resume_data(p->lane->session, p->stream);
    }
}

static void say_all(struct lane *l) {
    list_each(node, &world_of(l)->peers) {
        struct peer *p = container_of(node, struct peer, node);
        if (p->lane == l) {
            say(p);
        }
    }
}

static void write_on(struct lane *l) {
    say_all(l);
    while (l->conn) {
        if (l->out_left == 0) {
            ssize_t n = nghttp2_session_mem_send(l->session, &l->out);
            check_h2((int)n);
            l->out_left = (size_t)n;
            if (n == 0) {
                break;
            }
            say_all(l);
        }
        struct iovec v = {(void *)l->out, l->out_left};
        size_t written = 0;
        enum err e = conn_writev(l->conn, &v, 1, &written);
        if (e == ERR_NOMEM) { // in the test's own half of the connection: it goes no further
            end_all(l, e);
            close_lane(l, true);
            return;
        }
        written = e == OK ? written : l->out_left; // whether the other end is gone is found out by reading
        l->out += written;
        l->out_left -= written;
        if (l->out_left) {
            return;
        }
    }
    if (l->conn && l->finishing) {
        l->finishing = false;
        conn_shutdown(l->conn);
    }
}

static void on_event(struct conn *c, unsigned events) {
    struct lane *l = c->owner;
    if (events & (CONN_READABLE | CONN_HUP)) {
        read_on(l);
    }
    write_on(l);
}

void over_h2_say(struct peer *p) { write_on(p->lane); }

// An upstream's exchange is held up by its window, everything else by the connection.
void over_h2_read(struct peer *p, size_t bytes) {
    struct lane *l = p->lane;
    bool window = l->upstream && p->stream && bytes != SIZE_MAX;
    p->may_read = window ? bytes : SIZE_MAX;
    l->may_read = window ? l->may_read : bytes;
    read_held(p);
    read_on(l);
    write_on(l);
}

// ---- beginning and leaving

static struct lane *lane_create(struct worker *worker, struct flow_upstream *upstream, struct conn *take_conn) {
    struct lane *l = xcalloc(1, sizeof *l);
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_settings_entry most = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, UPSTREAM_STREAMS};
    *l = (struct lane){.worker = worker, .upstream = upstream, .conn = take_conn};
    check_h2(nghttp2_session_callbacks_new(&callbacks));
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    check_h2(nghttp2_option_new(&option));
    nghttp2_option_set_no_auto_window_update(option, 1);
    check_h2(upstream ? nghttp2_session_server_new2(&l->session, callbacks, l, option)
                      : nghttp2_session_client_new2(&l->session, callbacks, l, option));
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    check_h2(nghttp2_submit_settings(l->session, 0, &most, upstream ? 1 : 0));
    l->may_read = SIZE_MAX;
    l->deaf = world_of(l)->deaf;
    take_conn->owner = l;
    take_conn->on_event = on_event;
    list_push_back(&world_of(l)->lanes, &l->node);
    return l;
}

struct peer *over_h2_client(struct worker *worker, struct conn *take_conn) {
    struct peer *p = peer_create(worker, take_conn);
    p->lane = lane_create(worker, NULL, take_conn);
    return p;
}

void over_h2_upstream(struct worker *worker, struct flow_upstream *upstream, struct conn *take_conn) {
    (void)lane_create(worker, upstream, take_conn);
}

static bool alone(const struct peer *p) {
    list_each(node, &p->world->peers) {
        const struct peer *other = container_of(node, struct peer, node);
        if (other != p && other->lane == p->lane && other->conn && other->end == OK) {
            return false;
        }
    }
    return true;
}

// Its connection's end ends an answer of HTTP/1.1 that has no length.
static bool ends_whole(struct peer *p, enum leaving way) {
    p->leaving = true;
    if (way == BY_CLOSE) {
        p->out_at = p->out_len;
    }
    return way != BY_RESET && p->saying == UNTIL_CLOSE;
}

void over_h2_leave(struct peer *p, enum leaving way) {
    struct lane *l = p->lane;
    if (!p->conn) {
        return;
    }
    bool last = alone(p);
    if (l->upstream && ends_whole(p, way)) {
        write_on(l);
        l->finishing = last;
    } else if (last) {
        l->finishing = way == BY_FINISH;
        if (way != BY_FINISH) {
            close_lane(l, way == BY_RESET);
        }
    } else {
        write_on(l);
    }
    if (l->upstream && !last && p->stream && p->saying != SAID) {
        check_h2(nghttp2_submit_rst_stream(l->session, 0, p->stream, NGHTTP2_INTERNAL_ERROR));
    }
    p->conn = way == BY_FINISH ? p->conn : NULL;
    p->end = way == BY_FINISH && !last && p->end == OK ? ERR_EOF : p->end;
    write_on(l);
}

void over_h2_end(struct worker *worker) {
    struct world *w = container_of(worker - worker->options.number, struct world, worker);
    list_each(node, &w->lanes) {
        struct lane *l = container_of(node, struct lane, node);
        if (l->worker == worker) {
            l->may_read = SIZE_MAX;
            read_on(l);
            close_lane(l, false);
        }
    }
}

void over_h2_free(struct world *w) {
    struct list *node;
    while ((node = list_pop_front(&w->lanes))) {
        struct lane *l = container_of(node, struct lane, node);
        nghttp2_session_del(l->session);
        free(l->fields);
        free(l);
    }
}
