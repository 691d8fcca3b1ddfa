// SPDX-License-Identifier: MIT
// The server's HTTP/2 connections over memory: the tests are the client, frame by frame.
#include "http/server.h"

#include "h2_frames.h"
#include "support.h"

enum { HEADER_MS = 10000, IDLE_MS = 75000, LINGER_MS = 2000, ASKS = 3000, STREAMS = 100 };

#define GET ":method: GET\n:scheme: http\n:authority: a.example\n:path: /x\n"
#define POST ":method: POST\n:scheme: http\n:authority: a.example\n:path: /x\n"

// ---- the owner: answers as the test says

struct app;
struct ask {
    struct app *app;
    struct xchg *x;
    struct buf body;
    size_t sent;
    bool ended, over;
    enum err failed, rejected;
};

struct app {
    struct world world;
    struct http_server server;
    struct peer peer;
    struct ask *asks;
    unsigned count;
    bool hold;          // answers nothing
    bool early;         // answers at the head
    bool pause;         // takes no body
    bool deaf_to_pings; // the client
    struct str says;
    struct buf head; // of the last request, "name: value\n"
    // What the client got.
    nghttp2_hd_inflater *inflater;
    size_t parsed;
    struct buf log; // "SETTINGS|HEADERS 1|DATA 1 5 end|RST 1 8|GOAWAY 0|"
    struct buf heads, bytes;
    unsigned resets;
};

PRINTF(2, 3) static void put_text(struct buf *b, const char *format, ...) {
    char text[300];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put_bytes(b, text, MIN((size_t)n, sizeof text - 1));
}

static void send_rest(struct ask *a) {
    struct str rest = str_skip(a->app->says, a->sent);
    a->sent += xchg_send(a->x, rest, true);
    a->over = a->sent == a->app->says.len;
}

static void answer(struct ask *a, int status) {
    struct field room[] = {{.name = STR("a"), .value = STR("b")}};
    xchg_send_head(a->x,
                   &(struct head){.status = status, .fields = {room, 1, 1}, .body_len = (int64_t)a->app->says.len});
    send_rest(a);
}

static void on_head(struct xchg *x UNUSED, struct head *head UNUSED) { fail_msg("a request has one head"); }

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct ask *a = x->owner;
    check(!a->over && !a->ended);
    put_bytes(&a->body, bytes.ptr, bytes.len);
    a->ended = end;
    if (end && !a->app->hold) {
        answer(a, 200);
    }
}

static void on_drain(struct xchg *x) {
    struct ask *a = x->owner;
    check(!a->over);
    send_rest(a);
}

static void on_fail(struct xchg *x, enum err e, const char *problem) {
    struct ask *a = x->owner;
    check(!a->over && xchg_over(x));
    check(strlen(problem) > 5);
    a->failed = e;
    a->over = true;
}

static const struct xchg_events events = {on_head, on_body, on_drain, on_fail};

static struct ask *new_ask(struct http_server *s, struct xchg *x) {
    struct app *app = s->owner;
    struct ask *a = &app->asks[app->count++];
    check(app->count < ASKS);
    *a = (struct ask){.app = app, .x = x};
    buf_init(&a->body, 64 << 20);
    x->events = &events;
    x->owner = a;
    return a;
}

static void on_request(struct http_server *s, struct xchg *x, struct head *head) {
    struct ask *a = new_ask(s, x);
    buf_clear(&a->app->head);
    put_text(&a->app->head, "%.*s %.*s %.*s %lld\n", STR_ARG(head->method_name), STR_ARG(head->authority),
             STR_ARG(head->target), (long long)head->body_len);
    for (unsigned i = 0; i < head->fields.n; i++) {
        put_text(&a->app->head, "%.*s: %.*s\n", STR_ARG(head->fields.v[i].name), STR_ARG(head->fields.v[i].value));
    }
    if (a->app->pause) {
        xchg_pause(x);
    }
    if (a->app->early) {
        answer(a, 413);
    }
}

static void on_reject(struct http_server *s, struct xchg *x, enum err e, const char *problem) {
    struct ask *a = new_ask(s, x);
    check(strlen(problem) > 5);
    a->rejected = e;
    answer(a, err_status(e));
}

static void app_begin(struct app *app, size_t window) {
    struct conn *end;
    struct conn *far;
    *app = (struct app){.says = STR("hello")};
    app->asks = xcalloc(ASKS, sizeof *app->asks);
    buf_init(&app->head, 1 << 20);
    buf_init(&app->log, 1 << 24);
    buf_init(&app->heads, 1 << 20);
    buf_init(&app->bytes, 1 << 24);
    world_init(&app->world);
    app->server = (struct http_server){
        .loop = &app->world.loop,
        .limits = HTTP_LIMITS_DEFAULT,
        .header_ms = HEADER_MS,
        .idle_ms = IDLE_MS,
        .linger_ms = LINGER_MS,
        .on_request = on_request,
        .on_reject = on_reject,
        .owner = app,
    };
    http_server_init(&app->server);
    if (nghttp2_hd_inflate_new(&app->inflater) != 0) {
        fail_msg("no memory for the test itself");
    }
    mem_pair(&app->world.loop, window, &end, &far);
    peer_init(&app->peer, far);
    http_server_accept(&app->server, end);
}

static void app_init(struct app *app, size_t window) {
    app_begin(app, window);
    put_bytes(&app->peer.out, H2_MAGIC, sizeof H2_MAGIC - 1);
    put_frame(&app->peer.out, F_SETTINGS, 0, 0, STR(""));
}

static void app_finish(struct app *app) {
    http_server_finish(&app->server);
    check_int(app->server.open, 0);
    peer_finish(&app->peer);
    world_finish(&app->world);
    for (unsigned i = 0; i < app->count; i++) {
        buf_finish(&app->asks[i].body);
    }
    struct buf *all[] = {&app->head, &app->log, &app->heads, &app->bytes};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_finish(all[i]);
    }
    nghttp2_hd_inflate_del(app->inflater);
    free(app->asks);
}

static void note(struct app *app, const struct frame *f) {
    const char *ends = f->flags & F_END_STREAM ? " end" : "";
    switch (f->type) {
    case F_DATA:
        put_bytes(&app->bytes, f->payload.ptr, f->payload.len);
        put_text(&app->log, "DATA %u %zu%s|", f->id, f->payload.len, ends);
        break;
    case F_HEADERS:
        read_head(app->inflater, f->payload, &app->heads);
        put_text(&app->log, "HEADERS %u%s|", f->id, ends);
        break;
    case F_RST:
        app->resets++;
        put_text(&app->log, "RST %u %u|", f->id, number_in(f->payload, 0));
        break;
    case F_GOAWAY: put_text(&app->log, "GOAWAY %u|", number_in(f->payload, 4)); break;
    case F_PING:
        if (!(f->flags & F_ACK) && !app->deaf_to_pings) {
            put_frame(&app->peer.out, F_PING, F_ACK, 0, f->payload);
        }
        break;
    default: break; // SETTINGS, WINDOW_UPDATE
    }
}

// Sends what was put, and reads what came.
static void go(struct app *app) {
    struct str rest;
    struct frame f;
    peer_write(&app->peer);
    settle(&app->world);
    rest = str_skip(peer_got(&app->peer), app->parsed);
    while (next_frame(&rest, &f)) {
        note(app, &f);
    }
    app->parsed = peer_got(&app->peer).len - rest.len;
}

static struct buf *out(struct app *app) { return &app->peer.out; }
static struct str log_of(struct app *app) { return buf_str(&app->log); }
static bool closed(const struct app *app) { return app->peer.eof || app->peer.reset; }
static bool logged(struct app *app, const char *what) { return str_search(log_of(app), str_c(what)) < log_of(app).len; }

// ---- requests and answers

static void ask(size_t window) {
    struct app app;
    app_init(&app, window);
    put_head(out(&app), F_END_STREAM, 1, GET "x-plain: 1\n");
    put_head(out(&app), 0, 3, POST "content-length: 10\n");
    put_frame(out(&app), F_DATA, 0, 3, STR("01234"));
    put_frame(out(&app), F_DATA, F_END_STREAM, 3, STR("56789"));
    go(&app);
    check_int(app.count, 2);
    check_str(buf_str(&app.asks[1].body), "0123456789");
    check(logged(&app, "HEADERS 1|") && logged(&app, "DATA 1 5 end|"));
    check(logged(&app, "HEADERS 3|") && logged(&app, "DATA 3 5 end|"));
    check(str_starts(buf_str(&app.heads), STR(":status: 200\na: b\ncontent-length: 5\n")));
    check(!closed(&app));
    app_finish(&app);
}

static void a_plain_port_speaks_http_2_to_who_begins_so(void **state UNUSED) {
    static const size_t wide[] = {7, MEM_WINDOW};
    for (size_t i = 0; i < ARRAY_LEN(wide); i++) {
        ask(wide[i]);
    }
}

static void what_begins_like_the_preface_may_still_be_http_1(void **state UNUSED) {
    static const char *const requests[] = {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                                           "PRO / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                                           "PRIX / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct app app;
        app_begin(&app, 1);
        put_bytes(out(&app), requests[i], strlen(requests[i]));
        peer_write(&app.peer);
        settle(&app.world);
        check_int(app.count, 1);
        check(str_starts(peer_got(&app.peer), STR("HTTP/1.1 ")));
        check(i != 0 || app.asks[0].rejected == OK);
        app_finish(&app);
    }
}

static void a_head_is_what_http_1_would_make_of_it(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    put_head(out(&app), F_END_STREAM, 1, GET "cookie: a=1\ncookie: b=2\nte: trailers\nhost: a.example\nx: y\n");
    go(&app);
    check(str_search(buf_str(&app.head), STR("cookie: a=1; b=2\n")) < buf_len(&app.head));
    check(str_starts(buf_str(&app.head), STR("GET a.example /x 0\n")));
    app_finish(&app);
}

static void an_early_answer_stops_the_upload(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    app.early = true;
    put_head(out(&app), 0, 1, POST);
    put_frame(out(&app), F_DATA, 0, 1, STR("0123456789012345"));
    go(&app);
    check_str(log_of(&app), "HEADERS 1|DATA 1 5 end|RST 1 0|");
    put_frame(out(&app), F_DATA, 0, 1, STR("0123456789012345")); // it was on its way
    put_head(out(&app), F_END_STREAM, 3, GET);
    go(&app);
    check(logged(&app, "DATA 3 5 end|"));
    app_finish(&app);
}

static void an_aborted_answer_never_looks_complete(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    app.hold = true;
    put_head(out(&app), F_END_STREAM, 1, GET);
    go(&app);
    xchg_send_head(app.asks[0].x, &(struct head){.status = 200, .body_len = BODY_UNKNOWN});
    check_int(xchg_send(app.asks[0].x, STR("hel"), false), 3);
    xchg_abort(app.asks[0].x);
    go(&app);
    check_str(log_of(&app), "HEADERS 1|DATA 1 3|");
    go(&app); // with the answer to a PING, which says that it has them
    check_str(log_of(&app), "HEADERS 1|DATA 1 3|RST 1 2|");
    check(!closed(&app)); // others go on
    app_finish(&app);
}

static void an_aborted_answer_is_broken_off_before_who_answers_no_ping(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    app.hold = app.deaf_to_pings = true;
    put_head(out(&app), F_END_STREAM, 1, GET);
    go(&app);
    xchg_send_head(app.asks[0].x, &(struct head){.status = 200, .body_len = BODY_UNKNOWN});
    check_int(xchg_send(app.asks[0].x, STR("hel"), false), 3);
    xchg_abort(app.asks[0].x);
    go(&app);
    pass(&app.world, 2 * HEADER_MS + 100);
    go(&app);
    check_str(log_of(&app), "HEADERS 1|DATA 1 3|RST 1 2|");
    app_finish(&app);
}

static void release_is_an_abort_here(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    app.hold = true;
    put_head(out(&app), F_END_STREAM, 1, GET);
    go(&app);
    check(http_server_release(app.asks[0].x) == NULL && xchg_over(app.asks[0].x));
    go(&app);
    check_str(log_of(&app), "RST 1 2|");
    app_finish(&app);
}

// ---- what is never let through

static void malformed_requests_reach_nobody(void **state UNUSED) {
    static const char *const heads[] = {
        GET "x: a\rb\n",           // CR in a value
        GET "X-Upper: a\n",        // RFC 9113 section 8.2.1
        GET "connection: close\n", // section 8.2.2
        GET "transfer-encoding: chunked\n",
        GET "te: gzip\n",
        GET "x: a\n:path: /y\n", // pseudo-header fields come first
        GET ":path: /y\n",       // and once
        GET ":status: 200\n",
        ":method: GET\n:scheme: http\n:authority: a.example\n", // no path
        ":method: GET\n:scheme: http\n:authority: a.example\n:path: \n",
    };
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct app app;
        app_init(&app, MEM_WINDOW);
        put_head(out(&app), F_END_STREAM, 1, heads[i]);
        put_head(out(&app), F_END_STREAM, 3, GET);
        go(&app);
        check_int(app.count, 1);
        check(logged(&app, "RST 1 1|") || logged(&app, "RST 1 2|"));
        check(logged(&app, "HEADERS 3|"));
        app_finish(&app);
    }
}

static void heads_that_are_refused_are_answered(void **state UNUSED) {
    static const struct {
        const char *head;
        enum err e;
    } rows[] = {
        {":method: GET\n:scheme: http\n:authority: a.example\n:path: /a b\n", ERR_INVALID},
        {":method: GET\n:scheme: http\n:authority: a@b\n:path: /\n", ERR_INVALID},
        {GET "host: b.example\n", ERR_INVALID},
        {GET "expect: more\n", ERR_EXPECT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct app app;
        app_init(&app, MEM_WINDOW);
        put_head(out(&app), F_END_STREAM, 1, rows[i].head);
        go(&app);
        bool answered = app.count == 1 && logged(&app, "HEADERS 1|");
        check(answered ? app.asks[0].rejected == rows[i].e : logged(&app, "RST 1 1|"));
        app_finish(&app);
    }
}

static void a_body_of_another_length_is_cut(void **state UNUSED) {
    static const char *const bodies[] = {"0123", "012345"};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct app app;
        app_init(&app, MEM_WINDOW);
        put_head(out(&app), 0, 1, POST "content-length: 5\n");
        put_frame(out(&app), F_DATA, F_END_STREAM, 1, str_c(bodies[i]));
        go(&app);
        check(logged(&app, "RST 1 1|"));
        check_err(app.asks[0].failed, ERR_GONE);
        check(!app.asks[0].ended);
        app_finish(&app);
    }
}

// Every crumb of a cookie counts, and every reference of one byte (facts A23).
static void put_bomb(struct app *app, unsigned id, unsigned fields) {
    struct buf block;
    buf_init(&block, 1 << 20);
    put_bytes(&block, "\x82\x86\x84", 3); // GET http /
    put_bytes(&block,
              "\x41\x01"
              "a",
              3);
    put_bytes(&block,
              "\x60\x01"
              "x",
              3); // cookie: x, and remembered
    for (unsigned i = 1; i < fields; i++) {
        put_bytes(&block, "\xbe", 1); // again
    }
    put_frame(out(app), F_HEADERS, F_END_STREAM | F_END_HEADERS, id, buf_str(&block));
    buf_finish(&block);
}

static void bombs_are_refused(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    put_bomb(&app, 1, 90);
    go(&app);
    check_int(app.count, 1);
    check_err(app.asks[0].rejected, OK);
    put_bomb(&app, 3, 150);
    go(&app);
    check_int(app.count, 2);
    check_err(app.asks[1].rejected, ERR_HEAD_FULL);
    check(str_search(buf_str(&app.heads), STR(":status: 431")) < buf_len(&app.heads));
    put_bomb(&app, 5, 16000);
    go(&app);
    check_int(app.count, 2);
    check(app.resets == 1 && !closed(&app));
    app_finish(&app);
}

// ---- floods

static void rapid_resets_end_the_connection_and_start_little(void **state UNUSED) {
    struct app app;
    app_init(&app, 1 << 20);
    app.hold = true;
    for (unsigned i = 0; i < 5000; i++) {
        put_head(out(&app), F_END_STREAM, 2 * i + 1, GET);
        put_number_frame(out(&app), F_RST, 2 * i + 1, H2_CANCEL);
    }
    go(&app);
    check(closed(&app));
    check(app.count <= STREAMS);
    for (unsigned i = 0; i < app.count; i++) {
        check_err(app.asks[i].failed, ERR_GONE);
    }
    check_int(app.server.open, 0);
    app_finish(&app);
}

// One after the other, each in a turn of its own.
static void patient_resets_end_it_too(void **state UNUSED) {
    struct app app;
    unsigned sent = 0;
    app_init(&app, MEM_WINDOW);
    app.hold = true;
    for (; sent < 2000 && !closed(&app); sent++) {
        put_head(out(&app), F_END_STREAM, 2 * sent + 1, GET);
        go(&app);
        put_number_frame(out(&app), F_RST, 2 * sent + 1, H2_CANCEL);
        go(&app);
    }
    check(closed(&app));
    check(sent > 900 && sent <= 1100);
    app_finish(&app);
}

// The client makes us do it (facts A21).
static void resets_that_were_forced_count(void **state UNUSED) {
    struct app app;
    unsigned sent = 0;
    app_init(&app, MEM_WINDOW);
    app.hold = true;
    for (; sent < 2000 && !closed(&app); sent++) {
        put_head(out(&app), F_END_STREAM, 2 * sent + 1, GET);
        put_number_frame(out(&app), F_WINDOW, 2 * sent + 1, INT32_MAX); // a stream error (RFC 9113 section 6.9.1)
        go(&app);
    }
    check(closed(&app));
    check(sent <= 1100 && logged(&app, "GOAWAY 11|"));
    check(app.resets >= 900);
    app_finish(&app);
}

static void floods_are_calmed(void **state UNUSED) {
    static const struct {
        unsigned type, flags, id;
        size_t len;
    } floods[] = {{F_PING, 0, 0, 8}, {F_SETTINGS, 0, 0, 0}, {F_PRIORITY, 0, 9, 5}, {F_WINDOW, 0, 0, 4}, {11, 0, 0, 30}};
    static const char payload[30] = {0, 0, 0, 1};
    for (size_t i = 0; i < ARRAY_LEN(floods); i++) {
        struct app app;
        app_init(&app, 1 << 20);
        app.hold = true;
        put_head(out(&app), F_END_STREAM, 1, GET);
        go(&app);
        for (unsigned n = 0; n < 3000; n++) {
            put_frame(out(&app), floods[i].type, floods[i].flags, floods[i].id, str_from(payload, floods[i].len));
        }
        go(&app);
        check(closed(&app));
        check(logged(&app, "GOAWAY 11|"));
        check_err(app.asks[0].failed, ERR_GONE);
        app_finish(&app);
    }
}

static void streams_beyond_the_limit_are_refused(void **state UNUSED) {
    struct app app;
    app_init(&app, 1 << 20);
    app.hold = true;
    app.server.max_streams = 3;
    for (unsigned i = 0; i < 3; i++) {
        put_head(out(&app), F_END_STREAM, 2 * i + 1, GET);
    }
    go(&app);
    put_head(out(&app), F_END_STREAM, 7, GET);
    go(&app);
    check_int(app.count, 3);
    answer(&app.asks[0], 200);
    go(&app);
    check(logged(&app, "DATA 1 5 end|"));
    app_finish(&app);
}

// ---- clients that let us wait

static void silence_before_the_hello_ends_it(void **state UNUSED) {
    struct app app;
    app_begin(&app, MEM_WINDOW);
    put_bytes(out(&app), H2_MAGIC, 10);
    go(&app);
    pass(&app.world, HEADER_MS + 100);
    go(&app);
    check(closed(&app));
    app_finish(&app);
}

static void an_idle_connection_is_closed(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    put_head(out(&app), F_END_STREAM, 1, GET);
    go(&app);
    pass(&app.world, IDLE_MS - 1000);
    go(&app);
    check(!closed(&app));
    pass(&app.world, 2000);
    go(&app);
    check(logged(&app, "GOAWAY 0|") && closed(&app));
    app_finish(&app);
}

static void a_held_call_is_nobodys_fault(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    app.hold = true;
    put_head(out(&app), F_END_STREAM, 1, GET);
    go(&app);
    pass(&app.world, 10 * IDLE_MS);
    check(!closed(&app) && !app.asks[0].over);
    answer(&app.asks[0], 200);
    go(&app);
    check_str(log_of(&app), "HEADERS 1|DATA 1 5 end|");
    app_finish(&app);
}

static void a_head_in_pieces_has_its_time(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    put_frame(out(&app), F_HEADERS, F_END_STREAM, 1, STR("\x82\x86"));
    go(&app);
    pass(&app.world, 2 * HEADER_MS + 100);
    go(&app);
    check(closed(&app));
    check_int(app.count, 0);
    app_finish(&app);
}

static void a_body_that_stops_is_refused(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    put_head(out(&app), 0, 1, POST);
    put_frame(out(&app), F_DATA, 0, 1, STR("0123456789"));
    go(&app);
    pass(&app.world, 2 * IDLE_MS);
    go(&app);
    check_err(app.asks[0].failed, ERR_SLOW);
    check_err(app.asks[1].rejected, ERR_SLOW);
    check(str_search(buf_str(&app.heads), STR(":status: 408")) < buf_len(&app.heads));
    app_finish(&app);
}

static void a_body_that_is_not_wanted_has_time(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    app.pause = true;
    put_head(out(&app), 0, 1, POST);
    put_frame(out(&app), F_DATA, 0, 1, STR("0123456789"));
    go(&app);
    pass(&app.world, 2 * IDLE_MS);
    check(!app.asks[0].over);
    xchg_resume(app.asks[0].x);
    go(&app);
    check_str(buf_str(&app.asks[0].body), "0123456789");
    app_finish(&app);
}

// A window of nothing holds an answer for idle_ms, no longer (facts A26).
static void zero_windows_do_not_hold_for_good(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    put_setting(out(&app), 4, 3); // SETTINGS_INITIAL_WINDOW_SIZE
    put_head(out(&app), F_END_STREAM, 1, GET);
    go(&app);
    check(logged(&app, "DATA 1 3|"));
    check_err(app.asks[0].failed, OK);
    put_number_frame(out(&app), F_WINDOW, 1, 1);
    go(&app);
    check(logged(&app, "DATA 1 1|"));
    pass(&app.world, 2 * IDLE_MS);
    go(&app);
    check_err(app.asks[0].failed, ERR_GONE);
    check(app.resets == 1);
    app_finish(&app);
}

static void one_slow_stream_does_not_stop_others(void **state UNUSED) {
    struct app app;
    char *body = long_body(300000);
    app_init(&app, 1 << 20);
    app.says = str_c(body);
    put_number_frame(out(&app), F_WINDOW, 0, 10 << 20);
    put_head(out(&app), F_END_STREAM, 1, GET);
    put_head(out(&app), F_END_STREAM, 3, GET);
    for (unsigned i = 0; i < 10; i++) {
        put_number_frame(out(&app), F_WINDOW, 3, 65535);
    }
    go(&app);
    check(!app.asks[0].over && app.asks[1].over);
    app_finish(&app);
    free(body);
}

// ---- leaving

static void draining_says_goodbye(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    app.hold = true;
    put_head(out(&app), F_END_STREAM, 1, GET);
    go(&app);
    http_server_drain(&app.server);
    go(&app);
    check_str(log_of(&app), "GOAWAY 0|");
    put_head(out(&app), F_END_STREAM, 3, GET); // it was on its way
    go(&app);
    check_int(app.count, 2);
    pass(&app.world, LINGER_MS + 100);
    go(&app);
    check_str(log_of(&app), "GOAWAY 0|GOAWAY 0|");
    answer(&app.asks[0], 200);
    answer(&app.asks[1], 200);
    go(&app);
    check(logged(&app, "DATA 1 5 end|") && logged(&app, "DATA 3 5 end|"));
    check(closed(&app));
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void a_client_that_leaves_is_told_to_all(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    app.hold = true;
    put_head(out(&app), F_END_STREAM, 1, GET);
    put_head(out(&app), F_END_STREAM, 3, GET);
    go(&app);
    peer_close(&app.peer);
    settle(&app.world);
    check_err(app.asks[0].failed, ERR_GONE);
    check_err(app.asks[1].failed, ERR_GONE);
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void finishing_calls_nobody_back(void **state UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    app.hold = true;
    put_head(out(&app), F_END_STREAM, 1, GET);
    go(&app);
    http_server_finish(&app.server);
    check(!app.asks[0].over);
    app_finish(&app);
}

static void want_of_memory_once(void *arg UNUSED) {
    struct app app;
    app_init(&app, MEM_WINDOW);
    put_head(out(&app), F_END_STREAM, 1, GET "cookie: a=1\ncookie: b=2\n");
    put_head(out(&app), 0, 3, POST);
    put_frame(out(&app), F_DATA, F_END_STREAM, 3, STR("0123456789"));
    go(&app);
    app_finish(&app);
}

static void survives_want_of_memory(void **state UNUSED) {
    check(every_allocation_fails(want_of_memory_once, NULL) > 0);
}

TESTS(TEST(a_plain_port_speaks_http_2_to_who_begins_so), TEST(what_begins_like_the_preface_may_still_be_http_1),
      TEST(a_head_is_what_http_1_would_make_of_it), TEST(an_early_answer_stops_the_upload),
      TEST(an_aborted_answer_never_looks_complete), TEST(an_aborted_answer_is_broken_off_before_who_answers_no_ping),
      TEST(release_is_an_abort_here), TEST(malformed_requests_reach_nobody), TEST(heads_that_are_refused_are_answered),
      TEST(a_body_of_another_length_is_cut), TEST(bombs_are_refused),
      TEST(rapid_resets_end_the_connection_and_start_little), TEST(patient_resets_end_it_too),
      TEST(resets_that_were_forced_count), TEST(floods_are_calmed), TEST(streams_beyond_the_limit_are_refused),
      TEST(silence_before_the_hello_ends_it), TEST(an_idle_connection_is_closed), TEST(a_held_call_is_nobodys_fault),
      TEST(a_head_in_pieces_has_its_time), TEST(a_body_that_stops_is_refused), TEST(a_body_that_is_not_wanted_has_time),
      TEST(zero_windows_do_not_hold_for_good), TEST(one_slow_stream_does_not_stop_others), TEST(draining_says_goodbye),
      TEST(a_client_that_leaves_is_told_to_all), TEST(finishing_calls_nobody_back), TEST(survives_want_of_memory))
