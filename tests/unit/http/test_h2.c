// SPDX-License-Identifier: MIT
// The client's HTTP/2 connections over memory; the tests are the upstream, frame by frame.
#include "http/client.h"

#include "h2_frames.h"
#include "support.h"

enum { IDLE_MS = 60000, PEERS = 12, CALLS = 1100 };

// ---- owners: each writes down what it hears

enum moment { NEVER, AT_HEAD, AT_BODY, AT_END, AT_FAIL, AT_DRAIN };

struct net;
struct call {
    struct net *net;
    struct xchg x;
    struct buf log; // "head 200|body hello|end|", "fail reset|"
    enum method method;
    struct str body;
    int64_t body_len;
    size_t sent;
    enum moment abort_at, pause_at, again_at;
    bool body_open, over, again;
};

// One connection at the upstream.
struct far {
    struct peer peer;
    struct h2_log said;
};

struct net {
    struct world world;
    struct http_client client;
    struct origin origin;
    struct far far[PEERS];
    unsigned far_count;
    size_t window;
    bool mute; // upstreams do not say their SETTINGS by themselves
    struct call *calls;
};

static void start(struct call *c, bool fresh);

static void note(struct call *c, const char *format, ...) PRINTF(2, 3);
static void note(struct call *c, const char *format, ...) {
    char text[100];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (buf_printf(&c->log, "%s%s|", c->body_open ? "|" : "", text) != OK) {
        buf_clear(&c->log);
    }
    c->body_open = false;
}

static void at(struct call *c, enum moment now) {
    if (c->pause_at == now) {
        xchg_pause(&c->x);
    }
    if (c->abort_at == now && !c->over) {
        xchg_abort(&c->x);
        check(xchg_over(&c->x));
        c->over = true;
    }
    if (c->again_at == now && !c->again) {
        c->again = true;
        c->abort_at = NEVER;
        start(c, false);
    }
}

static void on_head(struct xchg *x, struct head *head) {
    struct call *c = container_of(x, struct call, x);
    char *value = str_dup(head->fields.n ? head->fields.v[0].value : STR(""));
    check(!c->over);
    note(c, "head %d", head->status);
    at(c, AT_HEAD);
    check(!head->fields.n || str_eq(head->fields.v[0].value, str_c(value))); // still there, whatever was done
    free(value);
}

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct call *c = container_of(x, struct call, x);
    char last = bytes.len ? bytes.ptr[bytes.len - 1] : 0;
    check(!c->over);
    if (bytes.len) {
        if (buf_printf(&c->log, "%s%.*s", c->body_open ? "" : "body ", STR_ARG(bytes)) != OK) {
            buf_clear(&c->log);
        }
        c->body_open = true;
    }
    if (end) {
        check(xchg_over(x));
        c->over = true;
        note(c, "end");
    }
    at(c, end ? AT_END : AT_BODY);
    check(!bytes.len || bytes.ptr[bytes.len - 1] == last);
}

static void send_rest(struct call *c) {
    struct str rest = str_skip(c->body, c->sent);
    c->sent += xchg_send(&c->x, rest, c->body_len == BODY_UNKNOWN || (int64_t)c->body.len == c->body_len);
}

static void on_drain(struct xchg *x) {
    struct call *c = container_of(x, struct call, x);
    check(!c->over);
    at(c, AT_DRAIN);
    if (!c->over) {
        send_rest(c);
    }
}

static void on_fail(struct xchg *x, enum err e, const char *problem) {
    struct call *c = container_of(x, struct call, x);
    check(!c->over);
    check(xchg_over(x));
    check(strlen(problem) > 5);
    c->over = true;
    xchg_abort(x); // ignored
    note(c, "fail %s%s", err_name(e), client_untouched(x) && client_reused(x) ? " free" : "");
    at(c, AT_FAIL);
}

static const struct xchg_events events = {on_head, on_body, on_drain, on_fail};

static void start(struct call *c, bool fresh) {
    struct field room[] = {{STR_INIT("Authorization"), STR_INIT("Bearer secret"), FIELD_AUTHORIZATION},
                           {STR_INIT("X-Plain"), STR_INIT("plain"), FIELD_OTHER}};
    struct head head = {
        .method = c->method,
        .method_name = str_c(method_name(c->method)),
        .target = STR("/x"),
        .authority = STR("a"),
        .fields = {room, ARRAY_LEN(room), ARRAY_LEN(room)},
        .body_len = c->body_len,
    };
    c->over = false;
    c->sent = 0;
    c->x = (struct xchg){.events = &events};
    check_ok(client_start(&c->net->origin, &c->x, fresh));
    xchg_send_head(&c->x, &head);
    send_rest(c);
}

// ---- upstreams

static struct conn *connect_local(void *context) {
    struct net *net = context;
    struct conn *near;
    struct conn *end;
    check(net->far_count < PEERS);
    struct far *far = &net->far[net->far_count++];
    mem_pair(&net->world.loop, net->window, &near, &end);
    peer_init(&far->peer, end);
    h2_log_init(&far->said);
    if (!net->mute) {
        struct buf b;
        buf_init(&b, 64);
        put_frame(&b, F_SETTINGS, 0, 0, STR(""));
        peer_say(&far->peer, buf_str(&b));
        buf_finish(&b);
    }
    return near;
}

static void net_init(struct net *net, size_t window) {
    *net = (struct net){.window = window};
    world_init(&net->world);
    net->client = (struct http_client){.loop = &net->world.loop, .limits = HTTP_LIMITS_DEFAULT, .idle_ms = IDLE_MS};
    http_client_init(&net->client);
    net->origin =
        (struct origin){.authority = STR("a"), .speaks = ORIGIN_H2, .connect_local = connect_local, .context = net};
    origin_init(&net->origin, &net->client);
    net->calls = xcalloc(CALLS, sizeof *net->calls);
    for (size_t i = 0; i < CALLS; i++) {
        net->calls[i] = (struct call){.net = net, .method = METHOD_GET};
        buf_init(&net->calls[i].log, 1 << 20);
    }
}

static void net_finish(struct net *net) {
    origin_finish(&net->origin);
    check_int(net->origin.open, 0);
    http_client_finish(&net->client);
    for (unsigned i = 0; i < net->far_count; i++) {
        struct far *far = &net->far[i];
        peer_finish(&far->peer);
        h2_log_finish(&far->said);
    }
    world_finish(&net->world);
    for (size_t i = 0; i < CALLS; i++) {
        buf_finish(&net->calls[i].log);
    }
    free(net->calls);
}

// What came since it was looked at last, in words.
static struct str came(struct net *net, unsigned nth) {
    check(nth < net->far_count);
    return h2_log_read(&net->far[nth].said, peer_got(&net->far[nth].peer));
}

#define HELLO "SETTINGS|WINDOW 983041|"
#define OK_HEAD ":status: 200\nserver: s"

static void say(struct net *net, unsigned nth, struct buf *frames) {
    peer_say(&net->far[nth].peer, buf_str(frames));
    buf_finish(frames);
    settle(&net->world);
}
static struct buf frames(void) {
    struct buf b;
    buf_init(&b, 64 << 20);
    return b;
}
static void say_head(struct net *net, unsigned nth, unsigned id, const char *lines, bool end) {
    struct buf b = frames();
    put_head(&b, end ? F_END_STREAM : 0, id, lines);
    say(net, nth, &b);
}
static void say_data(struct net *net, unsigned nth, unsigned id, struct str bytes, bool end) {
    struct buf b = frames();
    put_frame(&b, F_DATA, end ? F_END_STREAM : 0, id, bytes);
    say(net, nth, &b);
}
static void say_number(struct net *net, unsigned nth, unsigned type, unsigned id, uint32_t value) {
    struct buf b = frames();
    put_number_frame(&b, type, id, value);
    say(net, nth, &b);
}
static void say_setting(struct net *net, unsigned nth, unsigned name, uint32_t value) {
    struct buf b = frames();
    put_setting(&b, name, value);
    say(net, nth, &b);
}
static void say_goaway(struct net *net, unsigned nth, uint32_t last) {
    struct buf b = frames();
    put_goaway(&b, last, H2_NO_ERROR);
    say(net, nth, &b);
}
static void answer(struct net *net, unsigned nth, unsigned id) {
    struct buf b = frames();
    put_head(&b, 0, id, OK_HEAD);
    put_frame(&b, F_DATA, F_END_STREAM, id, STR("hello"));
    say(net, nth, &b);
}
static void begin(struct net *net, unsigned call) {
    start(&net->calls[call], false);
    settle(&net->world);
}
static struct str heard(const struct net *net, unsigned call) { return buf_str(&net->calls[call].log); }
static bool closed(const struct net *net, unsigned nth) { return net->far[nth].peer.eof || net->far[nth].peer.reset; }

#define HEARD_5 "head 200|body hello|end|"

// ---- calls

static void call_and_answer(size_t window) {
    struct net net;
    net_init(&net, window);
    net.calls[0].method = METHOD_POST;
    net.calls[0].body = STR("question");
    net.calls[0].body_len = 8;
    begin(&net, 0);
    check_str(came(&net, 0), HELLO "HEADERS 1|DATA 1 8 end|");
    check_str(buf_str(&net.far[0].said.heads),
              ":method: POST\n:scheme: http\n:authority: a\n:path: /x\n"
              "authorization: Bearer secret (never)\nx-plain: plain\ncontent-length: 8\n");
    check_str(buf_str(&net.far[0].said.body), "question");
    say_setting(&net, 0, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 10);
    check_int(heard(&net, 0).len, 0);
    answer(&net, 0, 1);
    check_str(heard(&net, 0), HEARD_5);
    check_str(came(&net, 0), "");
    check_int(net.origin.open, 1);
    net_finish(&net);
}

static void a_call_is_answered(void **state) {
    (void)state;
    EVERY_WINDOW(call_and_answer);
}

static void calls_share_a_connection(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    for (unsigned i = 0; i < 5; i++) {
        start(&net.calls[i], false);
    }
    settle(&net.world);
    check_str(came(&net, 0), HELLO "HEADERS 1 end|HEADERS 3 end|HEADERS 5 end|HEADERS 7 end|HEADERS 9 end|");
    for (unsigned i = 5; i-- > 0;) { // in whatever order
        answer(&net, 0, 2 * i + 1);
        check_str(heard(&net, i), HEARD_5);
    }
    check_int(net.far_count, 1);
    begin(&net, 5);
    check(client_reused(&net.calls[5].x));
    net_finish(&net);
}

static void another_connection_is_opened_at_the_limit_of_streams(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    net.mute = true;
    begin(&net, 0);
    say_setting(&net, 0, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 2);
    begin(&net, 1);
    check_int(net.far_count, 1);
    for (unsigned i = 2; i < 5; i++) { // what one connection said is expected of the next
        begin(&net, i);
    }
    check_int(net.far_count, 3);
    answer(&net, 0, 1);
    begin(&net, 5); // there is room again
    check_int(net.far_count, 3);
    check_str(came(&net, 0), HELLO "HEADERS 1 end|HEADERS 3 end|HEADERS 5 end|");
    net_finish(&net);
}

static void before_settings_a_hundred_streams_are_opened(void **state) {
    struct net net;
    (void)state;
    net_init(&net, 1 << 20);
    net.mute = true;
    for (unsigned i = 0; i < 101; i++) {
        start(&net.calls[i], false);
    }
    settle(&net.world);
    check_int(net.far_count, 2);
    check(str_ends(came(&net, 0), STR("|HEADERS 199 end|")));
    check_str(came(&net, 1), HELLO "HEADERS 1 end|");
    net_finish(&net);
}

// SETTINGS that come in the turn in which streams are begun find them before they have left.
static void streams_beyond_a_limit_that_comes_late_are_free(void **state) {
    struct net net;
    struct buf b = frames();
    (void)state;
    net_init(&net, MEM_WINDOW);
    net.mute = true;
    begin(&net, 0);
    put_setting(&b, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 2);
    peer_say(&net.far[0].peer, buf_str(&b));
    buf_finish(&b);
    for (unsigned i = 1; i < 5; i++) {
        start(&net.calls[i], false);
    }
    settle(&net.world);
    check_int(net.far_count, 1);
    check_str(came(&net, 0), HELLO "HEADERS 1 end|HEADERS 3 end|");
    for (unsigned i = 2; i < 5; i++) {
        check_str(heard(&net, i), "fail reset free|");
        check(client_reused(&net.calls[i].x));
    }
    answer(&net, 0, 1);
    answer(&net, 0, 3);
    begin(&net, 5); // there is room again
    check_int(net.far_count, 1);
    net_finish(&net);
}

static void an_answer_to_head_has_no_body(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    net.calls[0].method = METHOD_HEAD;
    begin(&net, 0);
    say_head(&net, 0, 1, ":status: 200\ncontent-length: 1000", true);
    check_str(heard(&net, 0), "head 200|end|");
    net_finish(&net);
}

static void interim_answers_and_trailers_are_read(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    say_head(&net, 0, 1, ":status: 103\nlink: x", false);
    say_head(&net, 0, 1, OK_HEAD, false);
    say_data(&net, 0, 1, STR("hel"), false);
    say_data(&net, 0, 1, STR("lo"), false);
    say_head(&net, 0, 1, "x-trailer: y", true);
    check_str(heard(&net, 0), "head 103|head 200|body hello|end|");
    begin(&net, 1);
    for (unsigned i = 0; i < 9; i++) {
        say_head(&net, 0, 3, ":status: 100", false);
    }
    check(str_ends(heard(&net, 1), STR("head 100|fail protocol|")));
    check(str_search(came(&net, 0), STR("RST 3 1|")) < came(&net, 0).len || true);
    net_finish(&net);
}

// ---- what is no whole answer

static void an_answer_that_is_cut_never_looks_complete(void **state) {
    static const struct {
        const char *head; // NULL: none
        const char *data;
        bool end;   // END_STREAM with the data
        int rst;    // code, -1: none
        bool close; // the connection
        const char *heard;
    } rows[] = {
        {NULL, NULL, false, H2_INTERNAL, false, "fail reset|"},
        {NULL, NULL, false, H2_REFUSED, false, "fail reset free|"},
        {NULL, NULL, false, -1, true, "fail reset|"},
        {OK_HEAD, NULL, false, H2_INTERNAL, false, "head 200|fail cut|"},
        {OK_HEAD, "hel", false, H2_NO_ERROR, false, "head 200|body hel|fail cut|"},
        {OK_HEAD, "hel", false, H2_CANCEL, false, "head 200|body hel|fail cut|"},
        {OK_HEAD, "hel", false, -1, true, "head 200|body hel|fail cut|"},
        {":status: 200\ncontent-length: 5", "hel", true, -1, false, "head 200|body hel|fail cut|"},
        {":status: 200\ncontent-length: 2", "hel", true, -1, false, "head 200|fail cut|"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net net;
        struct buf b = frames();
        net_init(&net, MEM_WINDOW);
        begin(&net, 0);
        if (rows[i].head) {
            put_head(&b, 0, 1, rows[i].head);
        }
        if (rows[i].data) {
            put_frame(&b, F_DATA, rows[i].end ? F_END_STREAM : 0, 1, str_c(rows[i].data));
        }
        if (rows[i].rst >= 0) {
            put_number_frame(&b, F_RST, 1, (uint32_t)rows[i].rst);
        }
        say(&net, 0, &b);
        if (rows[i].close) {
            peer_close(&net.far[0].peer);
            settle(&net.world);
        }
        check_str(heard(&net, 0), rows[i].heard);
        check_int(net.origin.open, rows[i].close ? 0 : 1);
        net_finish(&net);
    }
}

static void a_head_that_is_malformed_is_refused(void **state) {
    static const char *const heads[] = {
        ":status: 99",
        ":status: 101",
        ":status: 600",
        ":status: abc",
        "server: s",
        ":status: 200\nConnection: close",
        ":status: 200\nconnection: close",
        ":status: 200\ntransfer-encoding: chunked",
        ":status: 200\nUpper: x",
        ":status: 200\n:late: x",
        ":status: 200\nx: a\rb",
        ":status: 200\ncontent-length: 5x",
        ":status: 200\ncontent-length: 5\ncontent-length: 6",
        "x: y\n:status: 200",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct net net;
        net_init(&net, MEM_WINDOW);
        begin(&net, 0);
        begin(&net, 1);
        say_head(&net, 0, 1, heads[i], false);
        check_str(heard(&net, 0), "fail protocol|");
        check(str_search(came(&net, 0), STR("RST 1 ")) < buf_len(&net.far[0].said.words));
        answer(&net, 0, 3); // the others go on
        check_str(heard(&net, 1), HEARD_5);
        net_finish(&net);
    }
}

static void a_head_that_is_too_large_is_refused(void **state) {
    (void)state;
    for (int many = 0; many <= 1; many++) {
        struct net net;
        struct buf head;
        char *long_value = long_body(33000);
        net_init(&net, 1 << 20);
        begin(&net, 0);
        begin(&net, 1);
        buf_init(&head, 1 << 20);
        check_ok(buf_printf(&head, ":status: 200"));
        for (int i = 0; many && i < 101; i++) {
            check_ok(buf_printf(&head, "\nx: y"));
        }
        put_bytes(&head, "", 1);
        struct buf b = frames();
        if (many) {
            put_head(&b, 0, 1, head.ptr);
        } else { // 33 KB in three frames
            struct buf one = frames();
            buf_clear(&head);
            check_ok(buf_printf(&head, ":status: 200\nx: %s", long_value));
            put_bytes(&head, "", 1);
            put_head(&one, 0, 1, head.ptr);
            struct str block = str_skip(buf_str(&one), 9);
            put_frame(&b, F_HEADERS, 0, 1, str_first(block, 16000));
            put_frame(&b, F_CONTINUATION, 0, 1, str_first(str_skip(block, 16000), 16000));
            put_frame(&b, F_CONTINUATION, F_END_HEADERS, 1, str_skip(block, 32000));
            buf_finish(&one);
        }
        say(&net, 0, &b);
        check_str(heard(&net, 0), "fail protocol|");
        answer(&net, 0, 3);
        check_str(heard(&net, 1), HEARD_5);
        buf_finish(&head);
        free(long_value);
        net_finish(&net);
    }
}

static void what_is_not_http2_fails_all(void **state) {
    static const char *const texts[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct net net;
        net_init(&net, MEM_WINDOW);
        net.mute = true;
        begin(&net, 0);
        begin(&net, 1);
        peer_say(&net.far[0].peer, str_c(texts[i]));
        settle(&net.world);
        check_str(heard(&net, 0), "fail protocol|");
        check_str(heard(&net, 1), "fail protocol|");
        check(closed(&net, 0));
        net_finish(&net);
    }
}

// ---- goodbyes

static void streams_above_goaway_are_free_to_go_elsewhere(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    for (unsigned i = 0; i < 3; i++) {
        begin(&net, i);
    }
    say_goaway(&net, 0, 3);
    check_int(heard(&net, 0).len, 0);
    check_int(heard(&net, 1).len, 0);
    check_str(heard(&net, 2), "fail reset free|");
    begin(&net, 3);
    check_int(net.far_count, 2);
    answer(&net, 0, 1);
    check(!closed(&net, 0));
    answer(&net, 0, 3);
    check_str(heard(&net, 0), HEARD_5);
    check_str(heard(&net, 1), HEARD_5);
    check(closed(&net, 0));
    answer(&net, 1, 1);
    check_str(heard(&net, 3), HEARD_5);
    check_int(net.origin.open, 1);
    net_finish(&net);
}

static void a_refused_stream_finds_another_connection(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    say_setting(&net, 0, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 10);
    say_number(&net, 0, F_RST, 1, H2_REFUSED);
    check_str(heard(&net, 0), "fail reset free|");
    start(&net.calls[1], true);
    start(&net.calls[2], true); // not one each
    start(&net.calls[3], false);
    settle(&net.world);
    check_int(net.far_count, 2);
    check_str(came(&net, 1), HELLO "HEADERS 1 end|HEADERS 3 end|HEADERS 5 end|");
    net_finish(&net);
}

static void a_connection_that_breaks_unread_is_free(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    answer(&net, 0, 1);
    net.far[0].peer.deaf = true;
    begin(&net, 1);
    begin(&net, 2);
    peer_close(&net.far[0].peer);
    settle(&net.world);
    check_str(heard(&net, 1), "fail reset free|");
    check_str(heard(&net, 2), "fail reset free|");
    net_finish(&net);
}

static void an_idle_connection_is_closed_after_a_while(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    pass(&net.world, 20000);
    answer(&net, 0, 1);
    pass(&net.world, IDLE_MS - 200);
    check(!closed(&net, 0));
    came(&net, 0);
    pass(&net.world, 400);
    check_str(came(&net, 0), "GOAWAY 0|");
    check(closed(&net, 0));
    check_int(net.origin.open, 0);
    net_finish(&net);
}

static void a_silent_connection_is_asked_whether_it_lives(void **state) {
    struct net net;
    (void)state;
    for (int lives = 0; lives <= 1; lives++) {
        net_init(&net, MEM_WINDOW);
        begin(&net, 0);
        came(&net, 0);
        pass(&net.world, 29000);
        check_str(came(&net, 0), "");
        pass(&net.world, 2000);
        check_str(came(&net, 0), "PING|");
        if (lives) {
            struct buf b = frames();
            put_frame(&b, F_PING, F_ACK, 0, STR("\0\0\0\0\0\0\0\0"));
            say(&net, 0, &b);
        }
        pass(&net.world, 16000);
        check_str(heard(&net, 0), lives ? "" : "fail reset|");
        check_int(closed(&net, 0), !lives);
        if (lives) {
            pass(&net.world, 15000);
            check_str(came(&net, 0), "PING|");
        }
        net_finish(&net);
    }
}

// ---- cancels

static void a_cancelled_stream_is_reset_and_the_others_go_on(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    begin(&net, 1);
    came(&net, 0);
    xchg_abort(&net.calls[0].x);
    settle(&net.world);
    check_str(came(&net, 0), "RST 1 8|");
    answer(&net, 0, 1); // was on its way
    answer(&net, 0, 3);
    check_int(heard(&net, 0).len, 0);
    check_str(heard(&net, 1), HEARD_5);
    net_finish(&net);
}

static void a_call_cancelled_in_the_turn_it_began_sends_nothing(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    start(&net.calls[0], false);
    xchg_abort(&net.calls[0].x);
    start(&net.calls[1], false);
    settle(&net.world);
    check_str(came(&net, 0), HELLO "HEADERS 3 end|");
    answer(&net, 0, 3);
    check_str(heard(&net, 1), HEARD_5);
    net_finish(&net);
}

// nghttp2 servers say goodbye to who resets a thousand streams at once.
static void a_storm_of_cancels_is_paced(void **state) {
    struct net net;
    (void)state;
    net_init(&net, 1 << 20);
    begin(&net, 0);
    say_setting(&net, 0, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 5000);
    for (unsigned i = 1; i < 1000; i++) {
        start(&net.calls[i], false);
    }
    settle(&net.world);
    check_int(net.far_count, 1);
    came(&net, 0);
    for (unsigned i = 0; i < 1000; i++) {
        xchg_abort(&net.calls[i].x);
    }
    settle(&net.world);
    struct str log = came(&net, 0);
    check(str_ends(log, STR("|RST 1799 8|"))); // the 900th
    answer(&net, 0, 1999);                     // thrown away
    check_int(heard(&net, 999).len, 0);
    pass(&net.world, 1100);
    check(str_starts(came(&net, 0), STR("RST 1801 8|")));
    pass(&net.world, 5000);
    log = came(&net, 0);
    check(str_ends(log, STR("RST 1997 8|"))); // the last one has ended by itself
    net_finish(&net);
}

static void a_call_may_be_given_up_or_begun_again_in_every_event(void **state) {
    (void)state;
    for (enum moment when = AT_HEAD; when <= AT_FAIL; when++) {
        for (int again = 0; again <= 1; again++) {
            for (int cut = 0; cut <= 1; cut++) {
                struct net net;
                net_init(&net, MEM_WINDOW);
                net.calls[0].abort_at = when;
                net.calls[0].again_at = again ? when : NEVER;
                begin(&net, 0);
                say_head(&net, 0, 1, OK_HEAD, false);
                say_data(&net, 0, 1, STR("hello"), false);
                if (cut) {
                    say_number(&net, 0, F_RST, 1, H2_CANCEL);
                } else {
                    say_data(&net, 0, 1, STR(""), true);
                }
                bool happened = cut ? when != AT_END : when != AT_FAIL;
                check_int(net.calls[0].again, again && happened);
                if (again && happened) {
                    answer(&net, 0, 3);
                    check(str_ends(heard(&net, 0), STR(HEARD_5)));
                }
                check(net.calls[0].over);
                net_finish(&net);
            }
        }
    }
}

static void finishing_an_origin_calls_nobody(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    net.calls[1].pause_at = AT_HEAD;
    begin(&net, 1);
    answer(&net, 0, 3);
    peer_close(&net.far[0].peer); // the paused one is still to be told of its end
    settle(&net.world);
    check_str(heard(&net, 0), "fail reset|");
    check_str(heard(&net, 1), "head 200|");
    begin(&net, 2);
    origin_finish(&net.origin);
    check(xchg_over(&net.calls[1].x));
    check(xchg_over(&net.calls[2].x));
    settle(&net.world);
    check_str(heard(&net, 1), "head 200|");
    check_int(heard(&net, 2).len, 0);
    net_finish(&net);
}

// ---- flow control

static void a_paused_answer_stops_alone(void **state) {
    struct net net;
    char *part = long_body(16000);
    (void)state;
    net_init(&net, 1 << 20);
    net.calls[0].pause_at = AT_HEAD;
    begin(&net, 0);
    begin(&net, 1);
    say_head(&net, 0, 1, OK_HEAD, false);
    say_head(&net, 0, 3, OK_HEAD, false);
    came(&net, 0);
    for (int i = 0; i < 4; i++) {
        say_data(&net, 0, 1, str_c(part), false);
        say_data(&net, 0, 3, str_c(part), false);
    }
    struct str log = came(&net, 0);
    check(str_search(log, STR("WINDOW 3 ")) < log.len);
    check(str_search(log, STR("WINDOW 1 ")) == log.len);
    check_str(heard(&net, 0), "head 200|");
    check_int(heard(&net, 1).len, strlen("head 200|body ") + 4 * 16000);
    net.calls[0].pause_at = NEVER;
    xchg_resume(&net.calls[0].x);
    settle(&net.world);
    check_int(heard(&net, 0).len, strlen("head 200|body ") + 4 * 16000);
    log = came(&net, 0);
    check(str_search(log, STR("WINDOW 1 ")) < log.len);
    say_data(&net, 0, 1, STR("x"), true);
    check(str_ends(heard(&net, 0), STR("x|end|")));
    free(part);
    net_finish(&net);
}

static void a_paused_answer_is_told_to_its_end(void **state) {
    (void)state;
    for (int whole = 0; whole <= 1; whole++) {
        for (int gone = 0; gone <= 2; gone++) { // the connection
            struct net net;
            net_init(&net, MEM_WINDOW);
            net.calls[0].pause_at = AT_HEAD;
            begin(&net, 0);
            say_head(&net, 0, 1, OK_HEAD, false);
            say_data(&net, 0, 1, STR("hello"), whole);
            if (gone) {
                peer_close(&net.far[0].peer);
            } else if (!whole) {
                say_number(&net, 0, F_RST, 1, H2_CANCEL);
            }
            if (gone < 2) { // else it is resumed just as the connection's end comes
                settle(&net.world);
                check_str(heard(&net, 0), "head 200|");
            }
            net.calls[0].pause_at = NEVER;
            xchg_resume(&net.calls[0].x);
            settle(&net.world);
            check_str(heard(&net, 0), whole ? HEARD_5 : "head 200|body hello|fail cut|");
            net_finish(&net);
        }
    }
}

static void an_upload_waits_for_the_window(size_t window) {
    struct net net;
    char *body = long_body(100000);
    net_init(&net, window);
    net.calls[0].method = METHOD_POST;
    net.calls[0].body = str_c(body);
    net.calls[0].body_len = 100000;
    begin(&net, 0);
    came(&net, 0);
    check_int(buf_len(&net.far[0].said.body), 65535);
    begin(&net, 1); // a head needs no window
    struct str log = came(&net, 0);
    check_str(log, "HEADERS 3 end|");
    say_number(&net, 0, F_WINDOW, 1, 1000);
    check_str(came(&net, 0), "");
    say_number(&net, 0, F_WINDOW, 0, 100000);
    came(&net, 0);
    check_int(buf_len(&net.far[0].said.body), 66535);
    say_number(&net, 0, F_WINDOW, 1, 100000);
    check(str_ends(came(&net, 0), STR(" end|")));
    check_str(buf_str(&net.far[0].said.body), body);
    answer(&net, 0, 1);
    check_str(heard(&net, 0), HEARD_5);
    free(body);
    net_finish(&net);
}

static void an_upload_waits_for_room(void **state) {
    (void)state;
    EVERY_WINDOW(an_upload_waits_for_the_window);
}

static void an_answer_before_the_request_is_all_sent_ends_the_call(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    net.calls[0].method = METHOD_POST;
    net.calls[0].body = STR("part");
    net.calls[0].body_len = 1000;
    begin(&net, 0);
    check_str(came(&net, 0), HELLO "HEADERS 1|DATA 1 4|");
    answer(&net, 0, 1);
    check_str(heard(&net, 0), HEARD_5);
    check_str(came(&net, 0), "RST 1 8|");
    net_finish(&net);
}

static void a_body_of_the_wrong_length_fails_the_call(void **state) {
    (void)state;
    for (int longer = 0; longer <= 1; longer++) {
        struct net net;
        net_init(&net, MEM_WINDOW);
        struct call *c = &net.calls[0];
        c->method = METHOD_POST;
        c->body = STR("12345");
        c->body_len = longer ? 4 : 6;
        start(c, false);
        check_int(xchg_send(&c->x, STR(""), true), 0);
        settle(&net.world);
        struct str log = came(&net, 0);
        check(str_search(log, STR("end")) == log.len);
        check_str(heard(&net, 0), "fail reset|");
        net_finish(&net);
    }
}

// ---- memory

static void scenario_without_memory(void *arg) {
    struct net net;
    (void)arg;
    net_init(&net, 64);
    net.calls[0].method = METHOD_POST;
    net.calls[0].body = STR("0123456789012345678901234567890123456789012345678901234567890123456789");
    net.calls[0].body_len = BODY_UNKNOWN;
    net.calls[0].pause_at = AT_HEAD;
    begin(&net, 0);
    begin(&net, 1);
    if (net.far[0].peer.conn) {
        say_head(&net, 0, 1, OK_HEAD, false);
        say_data(&net, 0, 1, STR("hello"), true);
        net.calls[0].pause_at = NEVER;
        xchg_resume(&net.calls[0].x);
        settle(&net.world);
        answer(&net, 0, 3);
    }
    for (unsigned i = 0; i < net.far_count; i++) {
        peer_close(&net.far[i].peer);
        settle(&net.world);
    }
    check(net.calls[0].over);
    check(net.calls[1].over);
    net_finish(&net);
}

static void without_memory_calls_fail_cleanly(void **state) {
    (void)state;
    check(every_allocation_fails(scenario_without_memory, NULL) > 10);
}

TESTS(TEST(a_call_is_answered), TEST(calls_share_a_connection),
      TEST(another_connection_is_opened_at_the_limit_of_streams), TEST(before_settings_a_hundred_streams_are_opened),
      TEST(streams_beyond_a_limit_that_comes_late_are_free), TEST(an_answer_to_head_has_no_body),
      TEST(interim_answers_and_trailers_are_read), TEST(an_answer_that_is_cut_never_looks_complete),
      TEST(a_head_that_is_malformed_is_refused), TEST(a_head_that_is_too_large_is_refused),
      TEST(what_is_not_http2_fails_all), TEST(streams_above_goaway_are_free_to_go_elsewhere),
      TEST(a_refused_stream_finds_another_connection), TEST(a_connection_that_breaks_unread_is_free),
      TEST(an_idle_connection_is_closed_after_a_while), TEST(a_silent_connection_is_asked_whether_it_lives),
      TEST(a_cancelled_stream_is_reset_and_the_others_go_on), TEST(a_call_cancelled_in_the_turn_it_began_sends_nothing),
      TEST(a_storm_of_cancels_is_paced), TEST(a_call_may_be_given_up_or_begun_again_in_every_event),
      TEST(finishing_an_origin_calls_nobody), TEST(a_paused_answer_stops_alone),
      TEST(a_paused_answer_is_told_to_its_end), TEST(an_upload_waits_for_room),
      TEST(an_answer_before_the_request_is_all_sent_ends_the_call), TEST(a_body_of_the_wrong_length_fails_the_call),
      TEST(without_memory_calls_fail_cleanly))
