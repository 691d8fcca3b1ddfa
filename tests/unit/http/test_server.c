// SPDX-License-Identifier: MIT
// The server's connections over memory, with windows that cut everything in pieces, and a clock that stands still.
#include "http/server.h"

#include "support.h"

#define RN "\r\n"
#define HOST "Host: a\r\n"
#define GET(target) "GET " target " HTTP/1.1" RN HOST RN

enum { HEADER_MS = 10000, IDLE_MS = 75000, LINGER_MS = 2000, PARTING_MS = 700, ASKS = 2100 };

// ---- the owner: answers as the test says, and checks that nothing comes after the end

enum moment { NEVER, AT_HEAD, AT_BODY, AT_END, AT_DRAIN };

struct ask {
    struct app *app;
    struct xchg *x;
    struct head *head; // while it is valid
    struct str target; // a copy
    struct buf body;
    struct str says; // the answer's body
    size_t sent;
    unsigned drains;
    enum err failed;
    enum err rejected; // it is no request
    bool ended;        // on_body came with `end`
    bool over;
};

struct app {
    struct world world;
    struct http_server server;
    struct peer client;
    struct ask *asks;
    struct conn *released;
    unsigned count;
    unsigned rejects;
    unsigned opened, gone; // connections
    // What the owner does:
    enum moment answer_at;
    enum moment abort_at;
    enum moment release_at;
    enum moment pause_at; // at every one of these
    bool send_100;
    bool no_end; // never says that the body is whole
    int status;
    int64_t body_len; // of the answer's head
    struct str body;  // of the answer
};

static void answer(struct ask *a);

static void let_go(struct ask *a) {
    a->over = true;
    a->head = NULL;
}

static void send_rest(struct ask *a) {
    struct str rest = str_skip(a->says, a->sent);
    a->sent += xchg_send(a->x, rest, !a->app->no_end);
    if (a->sent == a->says.len && !a->app->no_end) {
        let_go(a);
    }
}

static void at(struct ask *a, enum moment now) {
    struct app *app = a->app;
    if (!a->over && app->pause_at == now) {
        xchg_pause(a->x);
    }
    if (!a->over && app->abort_at == now) {
        xchg_abort(a->x);
        let_go(a);
    }
    if (!a->over && app->answer_at == now && a->sent == 0) {
        answer(a);
    }
    if (!a->over && app->release_at == now) {
        app->released = http_server_release(a->x);
        check(xchg_over(a->x) && http_server_release(a->x) == NULL);
        let_go(a);
    }
}

static void on_head(struct xchg *x UNUSED, struct head *head UNUSED) { fail_msg("a request has one head"); }

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct ask *a = x->owner;
    struct str target = a->head ? a->head->target : STR("");
    check(!a->over && !a->ended);
    check(str_eq(target, a->target)); // until the last of the body has come
    check(buf_str_append(&a->body, bytes) == OK || mem_fail_fired());
    a->ended = end;
    at(a, end ? AT_END : AT_BODY);
    if (bytes.len && buf_len(&a->body)) { // still there, whatever was sent
        check(bytes.ptr[bytes.len - 1] == a->body.ptr[a->body.end - 1]);
    }
    check(str_eq(target, a->target));
    if (end) {
        a->head = NULL;
    }
}

static void on_drain(struct xchg *x) {
    struct ask *a = x->owner;
    check(!a->over);
    a->drains++;
    at(a, AT_DRAIN);
    if (!a->over) {
        send_rest(a);
    }
}

static void on_fail(struct xchg *x, enum err e, const char *problem) {
    struct ask *a = x->owner;
    check(!a->over);
    check(strlen(problem) > 5);
    check(xchg_over(x));
    a->failed = e;
    let_go(a);
    check_int(xchg_send(x, STR("ignored"), true), 0);
    xchg_abort(x);
}

static const struct xchg_events ask_events = {on_head, on_body, on_drain, on_fail};

static void answer_with(struct ask *a, int status, int64_t body_len) {
    struct field room[] = {{.name = STR("A"), .value = STR("b")}};
    struct head head = {.status = status, .fields = {room, 1, 1}, .body_len = body_len};
    xchg_send_head(a->x, &head);
}

static void answer(struct ask *a) {
    answer_with(a, a->app->status, a->app->body_len);
    send_rest(a);
}

static struct ask *new_ask(struct http_server *s, struct xchg *x) {
    struct app *app = s->owner;
    struct ask *a = &app->asks[app->count++];
    check(app->count < ASKS);
    *a = (struct ask){.app = app, .x = x, .says = app->body};
    buf_init(&a->body, 64 << 20);
    x->events = &ask_events;
    x->owner = a;
    return a;
}

static void on_request(struct http_server *s, struct xchg *x, struct head *head) {
    struct ask *a = new_ask(s, x);
    char *target = str_dup(head->target);
    a->head = head;
    a->target = str_c(target);
    if (a->app->send_100) {
        answer_with(a, 100, 0);
    }
    at(a, AT_HEAD);
    check(str_eq(head->target, a->target)); // still there, whatever was sent
}

static void on_reject(struct http_server *s, struct xchg *x, enum err e, const char *problem) {
    struct ask *a = new_ask(s, x);
    a->rejected = e;
    check(strlen(problem) > 5);
    a->app->rejects++;
    a->says = STR("wrong");
    xchg_send_head(x, &(struct head){.status = err_status(e), .body_len = 5});
    send_rest(a);
}

static void on_open(struct http_server *s, bool more) {
    struct app *app = s->owner;
    app->opened += more;
    app->gone += !more;
    check_int(s->open, app->opened - app->gone);
}

static void app_init(struct app *app, size_t window) {
    struct conn *end;
    struct conn *far;
    *app = (struct app){.answer_at = AT_END, .status = 200, .body_len = 5, .body = STR("hello")};
    app->asks = xcalloc(ASKS, sizeof *app->asks);
    world_init(&app->world);
    app->server = (struct http_server){
        .loop = &app->world.loop,
        .limits = HTTP_LIMITS_DEFAULT,
        .header_ms = HEADER_MS,
        .idle_ms = IDLE_MS,
        .linger_ms = LINGER_MS,
        .parting_ms = PARTING_MS,
        .on_request = on_request,
        .on_reject = on_reject,
        .on_open = on_open,
        .owner = app,
    };
    http_server_init(&app->server);
    mem_pair(&app->world.loop, window, &end, &far);
    peer_init(&app->client, far);
    http_server_accept(&app->server, end);
}

static void app_finish(struct app *app) {
    http_server_finish(&app->server);
    check_int(app->server.open, 0);
    peer_finish(&app->client);
    world_finish(&app->world);
    for (unsigned i = 0; i < app->count; i++) {
        free((char *)(uintptr_t)app->asks[i].target.ptr);
        buf_finish(&app->asks[i].body);
    }
    free(app->asks);
}

static void say(struct app *app, const char *bytes) {
    peer_say(&app->client, str_c(bytes));
    settle(&app->world);
}

static struct str got(struct app *app) { return peer_got(&app->client); }
static bool closed(const struct app *app) { return app->client.eof || app->client.reset; }

// Several windows full.
static size_t large(size_t window) { return window < 1000 ? 5000 : 5 * window; }

#define OK_5 "HTTP/1.1 200 OK" RN "A: b" RN "Content-Length: 5" RN RN "hello"
#define OK_5_CLOSE "HTTP/1.1 200 OK" RN "A: b" RN "Content-Length: 5" RN "Connection: close" RN RN "hello"
#define WRONG(status) "HTTP/1.1 " status RN "Content-Length: 5" RN "Connection: close" RN RN "wrong"

// ---- requests and answers

static void ask_twice(size_t window) {
    struct app app;
    app_init(&app, window);
    say(&app, GET("/1"));
    check_str(got(&app), OK_5);
    say(&app, "POST /2 HTTP/1.1" RN HOST "Content-Length: 10" RN RN "0123456789");
    check_str(got(&app), OK_5 OK_5);
    check_int(app.count, 2);
    check_str(app.asks[0].target, "/1");
    check_str(app.asks[1].target, "/2");
    check_str(buf_str(&app.asks[1].body), "0123456789");
    check(!closed(&app));
    check_int(app.server.open, 1);
    app_finish(&app);
}

static void requests_follow_each_other_on_a_connection(void **state) {
    (void)state;
    EVERY_WINDOW(ask_twice);
}

static void ask_with_moment(size_t window) {
    static const enum moment moments[] = {AT_HEAD, AT_BODY, AT_END};
    for (size_t i = 0; i < ARRAY_LEN(moments); i++) {
        struct app app;
        app_init(&app, window);
        app.answer_at = moments[i];
        say(&app, "POST / HTTP/1.1" RN HOST "Transfer-Encoding: chunked" RN RN "3" RN "abc" RN);
        say(&app, "2;x" RN "de" RN "0" RN RN);
        check_int(app.count, 1);
        check(app.asks[0].over);
        check_str(got(&app), moments[i] == AT_END ? OK_5 : OK_5_CLOSE); // kept where the request was complete
        app_finish(&app);
    }
}

static void an_answer_may_be_given_at_any_moment(void **state) {
    (void)state;
    EVERY_WINDOW(ask_with_moment);
}

static void chunked_both_ways(size_t window) {
    struct app app;
    app_init(&app, window);
    app.body_len = BODY_UNKNOWN;
    say(&app, "POST / HTTP/1.1" RN HOST "Transfer-Encoding: chunked" RN RN "3" RN "abc" RN "a" RN "0123456789" RN "0" RN
              "T: x" RN RN);
    check_str(buf_str(&app.asks[0].body), "abc0123456789");
    check_str(got(&app), "HTTP/1.1 200 OK" RN "A: b" RN "Transfer-Encoding: chunked" RN RN "5" RN "hello" RN "0" RN RN);
    app_finish(&app);
}

static void bodies_may_be_chunked_both_ways(void **state) {
    (void)state;
    EVERY_WINDOW(chunked_both_ways);
}

static void pipelined(size_t window) {
    struct app app;
    app_init(&app, window);
    app.answer_at = NEVER;
    say(&app, GET("/1") "POST /2 HTTP/1.1" RN HOST "Content-Length: 2" RN RN "ab" GET("/3"));
    check_int(app.count, 1);
    for (unsigned i = 0; i < 3; i++) {
        check(app.count == i + 1); // the next one waits for the answer
        check(app.asks[i].ended);
        answer(&app.asks[i]);
        settle(&app.world);
    }
    check_str(got(&app), OK_5 OK_5 OK_5);
    check_str(buf_str(&app.asks[1].body), "ab");
    check_str(app.asks[2].target, "/3");
    check(!closed(&app));
    app_finish(&app);
}

static void pipelined_requests_are_answered_in_order(void **state) {
    (void)state;
    EVERY_WINDOW(pipelined);
}

static void many_pipelined_requests_are_all_answered(void **state) {
    struct app app;
    struct buf requests;
    (void)state;
    app_init(&app, MEM_WINDOW);
    buf_init(&requests, 1 << 20);
    for (int i = 0; i < 2000; i++) {
        check_ok(buf_printf(&requests, "GET /%d HTTP/1.1" RN HOST RN, i));
    }
    peer_say(&app.client, buf_str(&requests));
    settle(&app.world);
    check_int(app.count, 2000);
    check_str(app.asks[1999].target, "/1999");
    check_int(buf_len(&app.client.got), 2000 * (sizeof OK_5 - 1));
    buf_finish(&requests);
    app_finish(&app);
}

static void to_head(size_t window) {
    struct app app;
    app_init(&app, window);
    say(&app, "HEAD / HTTP/1.1" RN HOST RN GET("/2"));
    check_str(got(&app), "HTTP/1.1 200 OK" RN "A: b" RN "Content-Length: 5" RN RN OK_5);
    app_finish(&app);
}

static void an_answer_to_head_has_no_body(void **state) {
    (void)state;
    EVERY_WINDOW(to_head);
}

static void a_head_without_body_leaves_at_the_end_of_the_turn(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = NEVER;
    say(&app, GET("/"));
    answer_with(&app.asks[0], 200, 5);
    check_int(got(&app).len, 0);
    settle(&app.world);
    check_str(got(&app), "HTTP/1.1 200 OK" RN "A: b" RN "Content-Length: 5" RN RN);
    check(!xchg_retract_head(app.asks[0].x));
    send_rest(&app.asks[0]);
    settle(&app.world);
    check_str(got(&app), OK_5);
    app_finish(&app);
}

static void a_head_that_has_not_left_can_be_taken_back(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = NEVER;
    say(&app, GET("/"));
    answer_with(&app.asks[0], 404, 1000);
    check(xchg_retract_head(app.asks[0].x));
    check(!xchg_retract_head(app.asks[0].x));
    answer(&app.asks[0]);
    settle(&app.world);
    check_str(got(&app), OK_5);
    check(!closed(&app));
    app_finish(&app);
}

static void interim_first(size_t window) {
    struct app app;
    app_init(&app, window);
    app.answer_at = NEVER;
    say(&app, GET("/"));
    answer_with(&app.asks[0], 103, BODY_UNKNOWN);
    answer_with(&app.asks[0], 200, 5);
    if (xchg_retract_head(app.asks[0].x)) { // with a small window a part of the interim one is out: then not
        answer_with(&app.asks[0], 200, 5);
    }
    send_rest(&app.asks[0]);
    settle(&app.world);
    check_str(got(&app), "HTTP/1.1 103 Early Hints" RN "A: b" RN RN OK_5);
    app_finish(&app);
}

static void interim_answers_come_before_the_final_one(void **state) {
    (void)state;
    EVERY_WINDOW(interim_first);
}

// ---- HTTP/1.0, closing

static void http_1_0(size_t window) {
    struct app app;
    app_init(&app, window);
    say(&app, "GET / HTTP/1.0" RN "Connection: keep-alive" RN RN);
    check_str(got(&app), OK_5_CLOSE);
    check(app.client.eof && !app.client.reset);
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void an_http_1_0_connection_is_closed(void **state) {
    (void)state;
    EVERY_WINDOW(http_1_0);
}

static void until_close(size_t window) {
    struct app app;
    app_init(&app, window);
    app.body_len = BODY_UNKNOWN;
    app.send_100 = true; // not known to HTTP/1.0
    say(&app, "GET / HTTP/1.0" RN RN);
    check_str(got(&app), "HTTP/1.1 200 OK" RN "A: b" RN "Connection: close" RN RN "hello");
    check(app.client.eof && !app.client.reset);
    app_finish(&app);
}

static void an_http_1_0_body_of_unknown_length_ends_with_the_connection(void **state) {
    (void)state;
    EVERY_WINDOW(until_close);
}

static void until_close_given_up(size_t window) {
    static const bool by_client[] = {false, true};
    for (size_t i = 0; i < ARRAY_LEN(by_client); i++) {
        struct app app;
        app_init(&app, window);
        app.body_len = BODY_UNKNOWN;
        app.no_end = true;
        say(&app, "GET / HTTP/1.0" RN RN);
        check(!closed(&app));
        if (by_client[i]) {
            peer_end(&app.client);
        } else {
            xchg_abort(app.asks[0].x);
            let_go(&app.asks[0]);
        }
        settle(&app.world);
        check(app.client.reset && !app.client.eof);
        app_finish(&app);
    }
}

static void a_body_until_close_that_is_given_up_never_looks_complete(void **state) {
    (void)state;
    EVERY_WINDOW(until_close_given_up);
}

static void asked_to_close(size_t window) {
    struct app app;
    app_init(&app, window);
    say(&app, "GET / HTTP/1.1" RN HOST "Connection: close" RN RN);
    check_str(got(&app), OK_5_CLOSE);
    check(app.client.eof && !app.client.reset);
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void a_client_that_wants_the_connection_closed_gets_it(void **state) {
    (void)state;
    EVERY_WINDOW(asked_to_close);
}

static void bytes_behind_a_last_request_do_not_reset_its_answer(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    say(&app, "GET / HTTP/1.1" RN HOST "Connection: close" RN RN GET("/2"));
    check_str(got(&app), OK_5_CLOSE);
    check_int(app.count, 1);
    check(app.client.eof && !app.client.reset);
    check_int(app.server.open, 1); // lingers
    peer_close(&app.client);
    settle(&app.world);
    check_int(app.server.open, 0);
    app_finish(&app);
}

// ---- answers before the request is complete

static void answered_early(size_t window) {
    char *upload = long_body(100000);
    struct app app;
    app_init(&app, window);
    app.answer_at = AT_HEAD;
    app.status = 413;
    say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 100000" RN RN);
    check_str(got(&app),
              "HTTP/1.1 413 Content Too Large" RN "A: b" RN "Content-Length: 5" RN "Connection: close" RN RN "hello");
    check(app.client.eof && !app.client.reset);
    check_int(app.server.open, 1);
    say(&app, upload); // goes on as if nothing had happened
    check(!app.client.reset);
    check_int(buf_len(&app.client.out), 0);
    check_int(buf_len(&app.asks[0].body), 0);
    peer_close(&app.client);
    settle(&app.world);
    check_int(app.server.open, 0);
    app_finish(&app);
    free(upload);
}

static void an_early_answer_is_followed_by_lingering(void **state) {
    (void)state;
    EVERY_WINDOW(answered_early);
}

static void lingering_has_an_end_in_time(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = AT_HEAD;
    say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 100000" RN RN);
    pass(&app.world, LINGER_MS - 100);
    say(&app, "x");
    check_int(app.server.open, 1);
    pass(&app.world, 200);
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void lingering_has_an_end_in_bytes(void **state) {
    char *upload = long_body(34 << 20);
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = AT_HEAD;
    say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 100000000" RN RN);
    say(&app, upload);
    check_int(app.server.open, 0);
    check(app.client.reset);
    app_finish(&app);
    free(upload);
}

static void an_answer_that_began_early_closes_although_the_request_came(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = NEVER;
    say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN RN);
    answer_with(&app.asks[0], 200, 5); // says that it closes
    settle(&app.world);
    say(&app, "01234");
    check(app.asks[0].ended);
    send_rest(&app.asks[0]);
    settle(&app.world);
    check_str(got(&app), OK_5_CLOSE);
    check(app.client.eof);
    app_finish(&app);
}

// Whoever waits for the end of the answer does not send: that is no reason to cut it off.
static void an_early_answer_may_take_its_time(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = NEVER;
    say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN "Expect: 100-continue" RN RN);
    answer_with(&app.asks[0], 200, 5);
    pass(&app.world, 3 * IDLE_MS);
    check(!app.asks[0].over);
    send_rest(&app.asks[0]);
    settle(&app.world);
    check_str(got(&app), OK_5_CLOSE);
    app_finish(&app);
}

static void expecting(size_t window) {
    struct app app;
    app_init(&app, window);
    app.send_100 = true;
    say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN "Expect: 100-continue" RN RN);
    check_str(got(&app), "HTTP/1.1 100 Continue" RN "A: b" RN RN);
    check(app.asks[0].head->expect_continue);
    app.send_100 = false;
    say(&app, "01234" GET("/2"));
    check_str(got(&app), "HTTP/1.1 100 Continue" RN "A: b" RN RN OK_5 OK_5);
    check_str(buf_str(&app.asks[0].body), "01234");
    check(!closed(&app));
    app_finish(&app);
}

static void a_client_that_waits_for_leave_gets_it(void **state) {
    (void)state;
    EVERY_WINDOW(expecting);
}

static void a_final_answer_instead_of_leave_closes(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = AT_HEAD;
    say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN "Expect: 100-continue" RN RN);
    check_str(got(&app), OK_5_CLOSE);
    say(&app, GET("/2")); // read as the body by some, as a request by others: by nobody
    check_int(app.count, 1);
    check_str(got(&app), OK_5_CLOSE);
    app_finish(&app);
}

// ---- time

static void slow_head(size_t window) {
    struct app app;
    app_init(&app, window);
    say(&app, "GET / HTTP/1.1" RN);
    for (int i = 0; i < 9; i++) { // a byte now and then is no excuse
        pass(&app.world, HEADER_MS / 10);
        say(&app, "A");
        check_int(got(&app).len, 0);
    }
    pass(&app.world, HEADER_MS / 10);
    check_str(got(&app), WRONG("408 Request Timeout"));
    check_int(app.asks[0].rejected, ERR_SLOW);
    pass(&app.world, LINGER_MS);
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void a_slow_head_is_408(void **state) {
    (void)state;
    EVERY_WINDOW(slow_head);
}

static void a_body_that_stops_is_408(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN RN "01");
    pass(&app.world, IDLE_MS - 100);
    say(&app, "2");
    pass(&app.world, IDLE_MS - 100);
    check_int(app.asks[0].failed, OK);
    pass(&app.world, 200);
    check_int(app.asks[0].failed, ERR_SLOW);
    check_int(app.asks[1].rejected, ERR_SLOW);
    check_str(got(&app), WRONG("408 Request Timeout"));
    app_finish(&app);
}

static void a_paused_body_has_all_the_time(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.pause_at = AT_HEAD;
    say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN RN);
    pass(&app.world, 5 * IDLE_MS);
    check_int(app.asks[0].failed, OK);
    say(&app, "01234");
    check(!app.asks[0].ended);
    xchg_resume(app.asks[0].x);
    settle(&app.world);
    check_str(got(&app), OK_5);
    app_finish(&app);
}

static void an_idle_connection_is_closed(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    pass(&app.world, IDLE_MS - 100);
    say(&app, GET("/"));
    pass(&app.world, IDLE_MS - 100);
    check_int(app.server.open, 1);
    pass(&app.world, 200);
    check_int(app.server.open, 0);
    check(app.client.eof);
    check_str(got(&app), OK_5);
    app_finish(&app);
}

static void an_owner_has_all_the_time(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = NEVER;
    say(&app, GET("/"));
    pass(&app.world, 10 * IDLE_MS);
    check_int(app.asks[0].failed, OK);
    answer(&app.asks[0]);
    settle(&app.world);
    check_str(got(&app), OK_5);
    app_finish(&app);
}

static void taking_nothing(size_t window) {
    char *body = long_body(large(window));
    struct app app;
    app_init(&app, window);
    app.body = str_c(body);
    app.body_len = (int64_t)app.body.len;
    app.client.deaf = true;
    say(&app, GET("/"));
    pass(&app.world, IDLE_MS - 100);
    check(!app.asks[0].over);
    app.client.deaf = false; // takes a little
    app.client.readable = true;
    char some[1];
    size_t n;
    check_ok(conn_read(app.client.conn, some, 1, &n));
    app.client.deaf = true;
    pass(&app.world, IDLE_MS - 100);
    check(!app.asks[0].over);
    pass(&app.world, 200);
    check_int(app.asks[0].failed, ERR_GONE);
    check_int(app.server.open, 0);
    app_finish(&app);
    free(body);
}

static void a_client_that_takes_nothing_of_its_answer_is_dropped(void **state) {
    (void)state;
    EVERY_WINDOW(taking_nothing);
}

static void a_client_that_takes_nothing_of_an_early_answer_is_dropped(void **state) {
    char *body = long_body(300000);
    struct app app;
    (void)state;
    app_init(&app, 7);
    app.answer_at = AT_HEAD;
    app.body = str_from(body, 300000);
    app.body_len = 300000;
    app.client.deaf = true;
    say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN RN);
    pass(&app.world, IDLE_MS + 100);
    check_int(app.asks[0].failed, ERR_GONE);
    check_int(app.server.open, 0);
    app_finish(&app);
    free(body);
}

// ---- the client leaves

enum leaving { FIN, RST, LEAVINGS };

static void leave(struct app *app, enum leaving how) {
    if (how == FIN) { // whatever else it still wanted to say
        buf_clear(&app->client.out);
        conn_shutdown(app->client.conn);
    } else {
        mem_break(app->client.conn);
    }
    settle(&app->world);
}

static void client_leaves(size_t window) {
    static const struct {
        const char *name;
        const char *said;
        enum moment answer_at, pause_at;
        bool deaf;
        enum err wanted; // OK: nobody is told
    } cases[] = {
        {"before a request", "", AT_END, NEVER, false, OK},
        {"in a head", "GET / HT", AT_END, NEVER, false, OK},
        {"in a body", "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN RN "01", AT_END, NEVER, false, ERR_GONE},
        {"in a chunked body", "POST / HTTP/1.1" RN HOST "Transfer-Encoding: chunked" RN RN "5" RN "0", AT_END, NEVER,
         false, ERR_GONE},
        {"in a paused body", "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN RN "01", AT_END, AT_HEAD, false,
         ERR_GONE},
        {"waiting", GET("/"), NEVER, NEVER, false, ERR_GONE},
        {"reading", GET("/"), AT_END, NEVER, true, ERR_GONE},
        {"reading an early answer", "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN RN "01", AT_HEAD, NEVER, true,
         ERR_GONE},
    };
    char *body = long_body(large(window));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (enum leaving how = FIN; how < LEAVINGS; how++) {
            struct app app;
            app_init(&app, window);
            app.answer_at = cases[i].answer_at;
            app.pause_at = cases[i].pause_at;
            app.client.deaf = cases[i].deaf;
            if (cases[i].deaf) {
                app.body = str_c(body);
                app.body_len = (int64_t)app.body.len;
            }
            say(&app, cases[i].said);
            leave(&app, how);
            if (app.server.open != 0 || (app.count && app.asks[0].failed != cases[i].wanted)) {
                fail_msg("%s, window %zu, %s: open %u, %s", cases[i].name, window, how == FIN ? "FIN" : "RST",
                         app.server.open, app.count ? err_name(app.asks[0].failed) : "no request");
            }
            app_finish(&app);
        }
    }
    free(body);
}

static void a_client_that_leaves_is_noticed_in_every_state(void **state) {
    (void)state;
    EVERY_WINDOW(client_leaves);
}

// However little of the end is left in the server's hands: an owner who gave all is not told any more.
static void an_owner_who_gave_all_hears_nothing_of_a_client_that_leaves(void **state) {
    static const int64_t lengths[] = {5, BODY_UNKNOWN};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        for (size_t window = 1; window < 120; window++) {
            for (enum leaving how = FIN; how < LEAVINGS; how++) {
                for (int early = 0; early <= 1; early++) {
                    struct app app;
                    app_init(&app, window);
                    app.client.deaf = true;
                    app.body_len = lengths[i];
                    app.answer_at = early ? AT_HEAD : AT_END;
                    say(&app, early ? "POST / HTTP/1.1" RN HOST "Content-Length: 5" RN RN : GET("/"));
                    check(app.count == 1);
                    check(app.asks[0].over == (app.asks[0].sent == 5));
                    leave(&app, how);
                    if (early && how == FIN && app.asks[0].failed == OK) {
                        pass(&app.world, LINGER_MS);
                    }
                    check_int(app.server.open, 0);
                    check(app.asks[0].over);
                    app_finish(&app);
                }
            }
        }
    }
}

static void the_end_of_an_answer_reaches_a_slow_client(void **state) {
    (void)state;
    for (size_t window = 1; window < 120; window++) {
        struct app app;
        app_init(&app, window);
        app.client.deaf = true;
        app.body_len = BODY_UNKNOWN;
        say(&app, GET("/"));
        app.client.readable = true;
        peer_listen(&app.client);
        settle(&app.world);
        check_str(got(&app),
                  "HTTP/1.1 200 OK" RN "A: b" RN "Transfer-Encoding: chunked" RN RN "5" RN "hello" RN "0" RN RN);
        say(&app, GET("/2"));
        check_int(app.count, 2);
        app_finish(&app);
    }
}

static void a_request_with_its_fin_is_answered_when_the_answer_is_there(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    peer_say(&app.client, STR(GET("/")));
    peer_end(&app.client);
    settle(&app.world);
    check_str(got(&app), OK_5_CLOSE);
    check(app.client.eof && !app.client.reset);
    check_int(app.server.open, 0);
    app_finish(&app);
}

// ---- what is refused

static void rejected(size_t window) {
    struct app app;
    app_init(&app, window);
    say(&app, "GET / HTTP/1.1" RN "Host : a" RN RN GET("/smuggled"));
    check_int(app.count, 1);
    check_int(app.asks[0].rejected, ERR_INVALID);
    check_str(got(&app), WRONG("400 Bad Request"));
    check(app.client.eof && !app.client.reset);
    say(&app, GET("/smuggled"));
    check_int(app.count, 1);
    peer_close(&app.client);
    settle(&app.world);
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void what_is_no_request_is_answered_and_nothing_behind_it_is_read(void **state) {
    (void)state;
    EVERY_WINDOW(rejected);
}

static void rejected_behind_good_ones(size_t window) {
    struct app app;
    app_init(&app, window);
    say(&app, GET("/1") GET("/2") "NONSENSE" RN RN GET("/smuggled"));
    check_int(app.count, 3);
    check_int(app.rejects, 1);
    check_str(got(&app), OK_5 OK_5 WRONG("400 Bad Request"));
    app_finish(&app);
}

static void requests_before_a_bad_one_are_answered(void **state) {
    (void)state;
    EVERY_WINDOW(rejected_behind_good_ones);
}

static void rejected_in_a_body(size_t window) {
    struct app app;
    app_init(&app, window);
    say(&app,
        "POST / HTTP/1.1" RN HOST "Transfer-Encoding: chunked" RN RN "3" RN "abc" RN "0x1" RN RN GET("/smuggled"));
    check_int(app.count, window < 100 ? 2 : 1); // all in one read it never was a request
    if (app.count == 2) {
        check_int(app.asks[0].failed, ERR_FRAMING);
        check(!app.asks[0].ended);
    }
    check_int(app.asks[app.count - 1].rejected, ERR_FRAMING);
    check_str(got(&app), WRONG("400 Bad Request"));
    app_finish(&app);
}

static void a_bad_chunk_fails_its_request_and_is_answered(void **state) {
    (void)state;
    EVERY_WINDOW(rejected_in_a_body);
}

static void rejected_while_answering(size_t window) {
    struct app app;
    app_init(&app, window);
    app.answer_at = AT_HEAD;
    app.no_end = true;
    app.body_len = BODY_UNKNOWN;
    say(&app, "POST / HTTP/1.1" RN HOST "Transfer-Encoding: chunked" RN RN);
    say(&app, "0x1" RN);
    check_int(app.asks[0].failed, ERR_FRAMING);
    check_int(app.rejects, 0);
    check(closed(&app));
    check(!str_ends(got(&app), STR("0" RN RN))); // does not look complete
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void a_bad_chunk_behind_an_early_answer_cuts_it(void **state) {
    (void)state;
    EVERY_WINDOW(rejected_while_answering);
}

// ---- back-pressure

static void paused(size_t window) {
    char *upload = long_body(large(window));
    char head[100];
    struct app app;
    app_init(&app, window);
    app.pause_at = AT_BODY;
    app.answer_at = NEVER;
    snprintf(head, sizeof head, "POST / HTTP/1.1" RN HOST "Content-Length: %zu" RN RN, large(window));
    say(&app, head);
    say(&app, upload);
    for (unsigned rounds = 0; !app.asks[0].ended; rounds++) {
        size_t had = buf_len(&app.asks[0].body);
        settle(&app.world);
        check_int(buf_len(&app.asks[0].body), had); // one read, not more
        check(rounds <= large(window));
        xchg_resume(app.asks[0].x);
        settle(&app.world);
        check(buf_len(&app.asks[0].body) - had <= MAX(window, (size_t)1));
    }
    check_str(buf_str(&app.asks[0].body), upload);
    answer(&app.asks[0]);
    settle(&app.world);
    check_str(got(&app), OK_5);
    app_finish(&app);
    free(upload);
}

static void a_paused_request_is_not_read(void **state) {
    (void)state;
    EVERY_WINDOW(paused);
}

static void large_answer(size_t window) {
    const int64_t lengths[] = {(int64_t)large(window), BODY_UNKNOWN};
    char *body = long_body(large(window));
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct app app;
        app_init(&app, window);
        app.body = str_c(body);
        app.body_len = lengths[i];
        app.client.deaf = true;
        say(&app, GET("/"));
        check(app.asks[0].sent <= window);
        check(!app.asks[0].over);
        app.client.readable = true;
        peer_listen(&app.client);
        settle(&app.world);
        check(app.asks[0].over);
        check(app.asks[0].drains > 0);
        if (lengths[i] != BODY_UNKNOWN) {
            check(str_ends(got(&app), app.body));
        }
        say(&app, GET("/2"));
        check_int(app.count, 2);
        app_finish(&app);
    }
    free(body);
}

static void an_answer_waits_for_its_reader(void **state) {
    (void)state;
    EVERY_WINDOW(large_answer);
}

// ---- giving up

static void aborted(size_t window) {
    static const enum moment moments[] = {AT_HEAD, AT_BODY, AT_END, AT_DRAIN};
    char *body = long_body(large(window));
    for (size_t i = 0; i < ARRAY_LEN(moments); i++) {
        struct app app;
        app_init(&app, window);
        app.abort_at = moments[i];
        app.answer_at = moments[i] == AT_DRAIN ? AT_END : NEVER;
        app.body = str_c(body);
        app.body_len = (int64_t)app.body.len;
        say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 100" RN RN);
        for (int j = 0; j < 10; j++) {
            say(&app, "0123456789");
        }
        check(app.asks[0].over);
        check_int(app.asks[0].failed, OK);
        check_int(app.server.open, 0);
        check(closed(&app));
        app_finish(&app);
    }
    free(body);
}

static void an_exchange_may_be_given_up_in_every_callback(void **state) {
    (void)state;
    EVERY_WINDOW(aborted);
}

// What was taken of the answer leaves before what is written below; nobody hears of the connection any more.
static void released(size_t window) {
    static const struct {
        enum moment at;
        const char *got; // in the end
    } cases[] = {
        {AT_HEAD, "raw"},
        {AT_BODY, "raw"},
        {AT_END, "HTTP/1.1 200 OK" RN "A: b" RN "Content-Length: 9" RN RN "hellraw"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct app app;
        size_t written = 0;
        size_t n = 0;
        app_init(&app, MAX(window, (size_t)100));
        app.release_at = cases[i].at;
        app.answer_at = AT_END;
        app.no_end = true;
        app.body = STR("hell");
        app.body_len = 9;
        say(&app, "POST / HTTP/1.1" RN HOST "Content-Length: 6" RN RN "123");
        say(&app, "456");
        check(app.released != NULL && app.asks[0].over && app.server.open == 0);
        check_int(app.asks[0].failed, OK);
        struct iovec v = {(void *)(uintptr_t) "raw", 3};
        check_ok(conn_writev(app.released, &v, 1, &written));
        check_int(written, 3);
        say(&app, "nobody reads this");
        check_str(peer_got(&app.client), cases[i].got);
        n = app.count;
        conn_close(app.released);
        settle(&app.world);
        check_int(app.count, n);
        check(closed(&app));
        app_finish(&app);
    }
}

static void a_connection_can_be_taken_out_of_http(void **state) {
    (void)state;
    EVERY_WINDOW(released);
}

static void a_head_of_an_answer_without_body_is_not_sent_by_giving_up(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = NEVER;
    say(&app, GET("/"));
    answer_with(&app.asks[0], 200, 0);
    xchg_abort(app.asks[0].x);
    let_go(&app.asks[0]);
    settle(&app.world);
    check_int(got(&app).len, 0);
    check(closed(&app));
    app_finish(&app);
}

static void a_body_of_the_wrong_length_fails(void **state) {
    static const int64_t lengths[] = {4, 6};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct app app;
        app_init(&app, MEM_WINDOW);
        app.answer_at = NEVER;
        app.body_len = lengths[i];
        say(&app, GET("/"));
        answer_with(&app.asks[0], 200, lengths[i]);
        check(xchg_send(app.asks[0].x, STR("hello"), true) != 5 || lengths[i] > 5);
        check_int(app.asks[0].failed, OK); // not inside the owner's own call
        settle(&app.world);
        check_int(app.asks[0].failed, ERR_GONE);
        check(closed(&app));
        check(!str_ends(got(&app), STR("hell")));
        app_finish(&app);
    }
}

static void finishing_the_server_calls_nobody(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = NEVER;
    say(&app, GET("/"));
    http_server_finish(&app.server);
    check(xchg_over(app.asks[0].x));
    settle(&app.world);
    check_int(app.asks[0].failed, OK);
    check(app.client.reset);
    app_finish(&app);
}

// ---- closing what only waits

enum { CLIENTS = 4 };

static void connect_clients(struct app *app, struct peer clients[CLIENTS]) {
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct conn *near;
        struct conn *far;
        mem_pair(&app->world.loop, MEM_WINDOW, &near, &far);
        peer_init(&clients[i], far);
        http_server_accept(&app->server, near);
    }
}

static void ask(struct app *app, struct peer *client, const char *bytes) {
    peer_say(client, str_c(bytes));
    settle(&app->world);
}

static void those_idle_for_the_longest_time_are_closed_first(void **state) {
    (void)state;
    struct app app;
    struct peer clients[CLIENTS];
    app_init(&app, MEM_WINDOW); // with a connection that is older than all
    connect_clients(&app, clients);
    ask(&app, &clients[0], GET("/0")); // idle again, since later than the others
    app.answer_at = NEVER;
    ask(&app, &clients[1], GET("/1"));                       // is not idle
    ask(&app, &clients[2], "GET");                           // nor is a request that has begun to come
    check_int(http_server_close_idle(&app.server, 2, 1), 0); // just now
    pass(&app.world, 500);
    check_int(http_server_close_idle(&app.server, 2, 501), 0);
    check_int(http_server_close_idle(&app.server, 2, 500), 2);
    settle(&app.world);
    check(closed(&app));
    check(clients[3].eof);
    check(!clients[0].eof && !clients[1].eof && !clients[2].eof);
    check_int(http_server_close_idle(&app.server, 2, 0), 1);
    settle(&app.world);
    check(clients[0].eof && !clients[1].eof && !clients[2].eof);
    check_int(http_server_close_idle(&app.server, 2, 0), 0);
    check_int(app.server.open, 2);
    check_int(app.opened, 1 + CLIENTS);
    check_int(app.gone, CLIENTS - 1);
    http_server_finish(&app.server);
    for (unsigned i = 0; i < CLIENTS; i++) {
        peer_finish(&clients[i]);
    }
    app_finish(&app);
    check_int(app.gone, app.opened);
}

// What a deaf client did not take is not waited for.
static void resetting_an_exchange_breaks_its_connection_off(void **state) {
    (void)state;
    struct app app;
    app_init(&app, MEM_WINDOW);
    app.answer_at = NEVER;
    say(&app, GET("/"));
    http_server_reset(app.asks[0].x);
    check(xchg_over(app.asks[0].x));
    let_go(&app.asks[0]);
    settle(&app.world);
    check(app.client.reset);
    check_int(app.server.open, 0);
    app_finish(&app);
}

// ---- drain

// A client may have sent its next request already, or be about to.
static void draining_answers_one_more_request_of_an_idle_connection(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    say(&app, GET("/1"));
    http_server_drain(&app.server);
    pass(&app.world, PARTING_MS - 100);
    check_int(app.server.open, 1);
    say(&app, GET("/2"));
    check_str(got(&app), OK_5 OK_5_CLOSE);
    check(app.client.eof && !app.client.reset);
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void draining_closes_connections_that_stay_idle(void **state) {
    (void)state;
    for (int asked = 0; asked < 2; asked++) {
        struct app app;
        app_init(&app, MEM_WINDOW);
        if (asked) {
            say(&app, GET("/1"));
        }
        http_server_drain(&app.server);
        pass(&app.world, PARTING_MS + 1);
        check_int(app.server.open, 0);
        check(app.client.eof && !app.client.reset);
        app_finish(&app);
    }
}

// Its head has left without Connection: close, so the client may use the connection again.
static void draining_in_an_answer_keeps_what_its_head_said(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = NEVER;
    say(&app, GET("/1"));
    answer_with(&app.asks[0], 200, 5);
    settle(&app.world);
    http_server_drain(&app.server);
    send_rest(&app.asks[0]);
    settle(&app.world);
    check_int(app.server.open, 1);
    app.answer_at = AT_END;
    say(&app, GET("/2"));
    check_str(got(&app), OK_5 OK_5_CLOSE);
    check(app.client.eof && !app.client.reset);
    app_finish(&app);
}

static void draining(size_t window) {
    struct app app;
    app_init(&app, window);
    app.answer_at = NEVER;
    say(&app, GET("/1"));
    http_server_drain(&app.server);
    settle(&app.world);
    check_int(app.server.open, 1);
    answer(&app.asks[0]);
    settle(&app.world);
    check_str(got(&app), OK_5_CLOSE);
    check(app.client.eof && !app.client.reset);
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void draining_lets_a_request_finish(void **state) {
    (void)state;
    EVERY_WINDOW(draining);
}

// Its bytes are there, but it had its turn: what is left of them is looked at in the next one.
static void draining_serves_what_was_sent_before(void **state) {
    struct app app;
    struct buf requests;
    (void)state;
    app_init(&app, MEM_WINDOW);
    buf_init(&requests, 1000);
    for (int i = 0; i < 10; i++) { // more than are read in one turn
        check_ok(buf_printf(&requests, "GET /%d HTTP/1.1" RN HOST RN, i));
    }
    peer_say(&app.client, buf_str(&requests));
    loop_turn(&app.world.loop, 0);
    unsigned answered = app.count;
    check(answered > 0 && answered < 10);
    http_server_drain(&app.server);
    settle(&app.world);
    check_int(app.count, answered + 1);
    check(str_ends(got(&app), STR(OK_5 OK_5_CLOSE)));
    check(app.client.eof && !app.client.reset);
    buf_finish(&requests);
    app_finish(&app);
}

static void draining_lets_a_half_read_request_finish(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    say(&app, "POST /1 HTTP/1.1" RN HOST "Content-Length: 5" RN RN "01");
    http_server_drain(&app.server);
    say(&app, "234");
    check_str(got(&app), OK_5_CLOSE);
    check_int(app.server.open, 0);
    app_finish(&app);
}

static void draining_answers_no_pipelined_request_more(void **state) {
    struct app app;
    (void)state;
    app_init(&app, MEM_WINDOW);
    app.answer_at = NEVER;
    say(&app, GET("/1") GET("/2"));
    http_server_drain(&app.server);
    answer(&app.asks[0]);
    settle(&app.world);
    check_str(got(&app), OK_5_CLOSE);
    check_int(app.count, 1);
    check(app.client.eof && !app.client.reset);
    app_finish(&app);
}

// ---- without memory

static void scenario_without_memory(void *arg) {
    struct app app;
    (void)arg;
    app_init(&app, 64);
    app.answer_at = AT_END;
    app.body_len = BODY_UNKNOWN;
    peer_say(&app.client,
             STR("POST /1 HTTP/1.1" RN HOST "Content-Length: 30" RN RN "012345678901234567890123456789" GET("/2")));
    settle(&app.world);
    leave(&app, FIN);
    pass(&app.world, 2 * IDLE_MS);
    for (unsigned i = 0; i < app.count; i++) {
        check(app.asks[i].over);
    }
    app_finish(&app);
}

static void without_memory_connections_fail_cleanly(void **state) {
    (void)state;
    check(every_allocation_fails(scenario_without_memory, NULL) > 10);
}

TESTS(TEST(requests_follow_each_other_on_a_connection), TEST(an_answer_may_be_given_at_any_moment),
      TEST(bodies_may_be_chunked_both_ways), TEST(pipelined_requests_are_answered_in_order),
      TEST(many_pipelined_requests_are_all_answered), TEST(an_answer_to_head_has_no_body),
      TEST(a_head_without_body_leaves_at_the_end_of_the_turn), TEST(a_head_that_has_not_left_can_be_taken_back),
      TEST(interim_answers_come_before_the_final_one), TEST(an_http_1_0_connection_is_closed),
      TEST(an_http_1_0_body_of_unknown_length_ends_with_the_connection),
      TEST(a_body_until_close_that_is_given_up_never_looks_complete),
      TEST(a_client_that_wants_the_connection_closed_gets_it),
      TEST(bytes_behind_a_last_request_do_not_reset_its_answer), TEST(an_early_answer_is_followed_by_lingering),
      TEST(lingering_has_an_end_in_time), TEST(lingering_has_an_end_in_bytes),
      TEST(an_answer_that_began_early_closes_although_the_request_came), TEST(an_early_answer_may_take_its_time),
      TEST(a_client_that_waits_for_leave_gets_it), TEST(a_final_answer_instead_of_leave_closes),
      TEST(a_slow_head_is_408), TEST(a_body_that_stops_is_408), TEST(a_paused_body_has_all_the_time),
      TEST(an_idle_connection_is_closed), TEST(an_owner_has_all_the_time),
      TEST(a_client_that_takes_nothing_of_its_answer_is_dropped),
      TEST(a_client_that_takes_nothing_of_an_early_answer_is_dropped),
      TEST(a_client_that_leaves_is_noticed_in_every_state),
      TEST(an_owner_who_gave_all_hears_nothing_of_a_client_that_leaves),
      TEST(the_end_of_an_answer_reaches_a_slow_client),
      TEST(a_request_with_its_fin_is_answered_when_the_answer_is_there),
      TEST(what_is_no_request_is_answered_and_nothing_behind_it_is_read), TEST(requests_before_a_bad_one_are_answered),
      TEST(a_bad_chunk_fails_its_request_and_is_answered), TEST(a_bad_chunk_behind_an_early_answer_cuts_it),
      TEST(a_paused_request_is_not_read), TEST(an_answer_waits_for_its_reader),
      TEST(an_exchange_may_be_given_up_in_every_callback), TEST(a_connection_can_be_taken_out_of_http),
      TEST(a_head_of_an_answer_without_body_is_not_sent_by_giving_up), TEST(a_body_of_the_wrong_length_fails),
      TEST(finishing_the_server_calls_nobody), TEST(those_idle_for_the_longest_time_are_closed_first),
      TEST(resetting_an_exchange_breaks_its_connection_off), TEST(draining_answers_one_more_request_of_an_idle_connection),
      TEST(draining_closes_connections_that_stay_idle), TEST(draining_in_an_answer_keeps_what_its_head_said),
      TEST(draining_lets_a_request_finish), TEST(draining_serves_what_was_sent_before),
      TEST(draining_lets_a_half_read_request_finish), TEST(draining_answers_no_pipelined_request_more),
      TEST(without_memory_connections_fail_cleanly))
