// SPDX-License-Identifier: MIT
// The client's connections over memory; the tests are the upstream.
#include "http/client.h"

#include "support.h"

#define RN "\r\n"

enum { IDLE_MS = 60000, PEERS = 40, CALLS = 8 };

// ---- an owner: writes down what it hears, and does in each event what the test says

enum moment { NEVER, AT_HEAD, AT_BODY, AT_END, AT_FAIL, AT_DRAIN };

struct net;
struct call {
    struct net *net;
    struct xchg x;
    struct buf log; // "head 200|body hello|end|", "fail reset|"; bytes of a body that follow each other are one
    enum method method;
    struct str body;  // of the request
    int64_t body_len; // as announced
    size_t sent;
    unsigned drains;
    enum moment abort_at, pause_at;
    enum moment again_at; // starts another exchange there, with the same xchg
    const char *then;     // the method of that one
    bool body_open;       // in the log
    bool over;
    bool reused, untouched; // as on_fail was told
};

struct net {
    struct world world;
    struct http_client client;
    struct origin origin;
    struct peer peers[PEERS];
    struct call calls[CALLS];
    unsigned peer_count;
    size_t window;
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

static void note_body(struct call *c, struct str bytes) {
    if (bytes.len) {
        if (buf_printf(&c->log, "%s%.*s", c->body_open ? "" : "body ", STR_ARG(bytes)) != OK) {
            buf_clear(&c->log);
        }
        c->body_open = true;
    }
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
    if (c->again_at == now) {
        c->again_at = NEVER;
        c->abort_at = NEVER;
        c->method = METHOD_GET;
        c->body = STR("");
        c->body_len = 0;
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
    note_body(c, bytes);
    if (end) {
        check(xchg_over(x));
        c->over = true;
        note(c, "end");
    }
    at(c, end ? AT_END : AT_BODY);
    check(!bytes.len || bytes.ptr[bytes.len - 1] == last); // still there, whatever was done
}

static void send_rest(struct call *c) {
    struct str rest = str_skip(c->body, c->sent);
    c->sent += xchg_send(&c->x, rest, c->body_len == BODY_UNKNOWN || (int64_t)c->body.len == c->body_len);
}

static void on_drain(struct xchg *x) {
    struct call *c = container_of(x, struct call, x);
    check(!c->over);
    c->drains++;
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
    c->reused = client_reused(x);
    c->untouched = client_untouched(x);
    xchg_abort(x); // ignored
    note(c, "fail %s", err_name(e));
    at(c, AT_FAIL);
}

static const struct xchg_events events = {on_head, on_body, on_drain, on_fail};

static void send_request(struct call *c) {
    struct head head = {
        .method = c->method,
        .method_name = str_c(method_name(c->method)),
        .target = STR("/x"),
        .authority = STR("a"),
        .body_len = c->body_len,
    };
    c->sent = 0;
    xchg_send_head(&c->x, &head);
    send_rest(c);
}

static void start(struct call *c, bool fresh) {
    c->over = false;
    c->x = (struct xchg){.events = &events};
    check_ok(client_start(&c->net->origin, &c->x, fresh));
    send_request(c);
}

// ---- upstreams

static struct conn *connect_local(void *context) {
    struct net *net = context;
    struct conn *near;
    struct conn *far;
    check(net->peer_count < PEERS);
    mem_pair(&net->world.loop, net->window, &near, &far);
    peer_init(&net->peers[net->peer_count++], far);
    return near;
}

static void net_init(struct net *net, size_t window) {
    *net = (struct net){.window = window};
    world_init(&net->world);
    net->client = (struct http_client){.loop = &net->world.loop, .limits = HTTP_LIMITS_DEFAULT, .idle_ms = IDLE_MS};
    http_client_init(&net->client);
    net->origin = (struct origin){.authority = STR("a"), .connect_local = connect_local, .context = net};
    origin_init(&net->origin, &net->client);
    for (size_t i = 0; i < CALLS; i++) {
        net->calls[i] = (struct call){.net = net, .method = METHOD_GET};
        buf_init(&net->calls[i].log, 64 << 20);
    }
}

static void net_finish(struct net *net) {
    origin_finish(&net->origin);
    check_int(net->origin.open, 0);
    check_int(net->origin.idle_count, 0);
    http_client_finish(&net->client);
    for (unsigned i = 0; i < net->peer_count; i++) {
        peer_finish(&net->peers[i]);
    }
    world_finish(&net->world);
    for (size_t i = 0; i < CALLS; i++) {
        buf_finish(&net->calls[i].log);
    }
}

static void say(struct net *net, unsigned peer, const char *bytes) {
    peer_say(&net->peers[peer], str_c(bytes));
    settle(&net->world);
}

static void begin(struct net *net, unsigned call) {
    start(&net->calls[call], false);
    settle(&net->world);
}

static struct str heard(const struct net *net, unsigned call) { return buf_str(&net->calls[call].log); }
static struct str asked(const struct net *net, unsigned peer) { return peer_got(&net->peers[peer]); }
static bool closed(const struct net *net, unsigned peer) { return net->peers[peer].eof || net->peers[peer].reset; }

#define GET "GET /x HTTP/1.1" RN "Host: a" RN RN
#define OK_5 "HTTP/1.1 200 OK" RN "Content-Length: 5" RN RN "hello"
#define HEARD_5 "head 200|body hello|end|"

// ---- calls

static void call_and_answer(size_t window) {
    struct net net;
    net_init(&net, window);
    begin(&net, 0);
    check_str(asked(&net, 0), GET);
    check_int(heard(&net, 0).len, 0);
    say(&net, 0, OK_5);
    check_str(heard(&net, 0), HEARD_5);
    check_int(net.origin.idle_count, 1);
    check_int(net.origin.open, 1);
    net_finish(&net);
}

static void a_call_is_answered(void **state) {
    (void)state;
    EVERY_WINDOW(call_and_answer);
}

static void post(size_t window) {
    static const int64_t lengths[] = {100, BODY_UNKNOWN};
    char *body = long_body(100);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct net net;
        net_init(&net, window);
        net.calls[0].method = METHOD_POST;
        net.calls[0].body = str_c(body);
        net.calls[0].body_len = lengths[i];
        begin(&net, 0);
        check(str_starts(asked(&net, 0), STR("POST /x HTTP/1.1" RN "Host: a" RN)));
        check(lengths[i] == BODY_UNKNOWN ? str_ends(asked(&net, 0), STR("0" RN RN))
                                         : str_ends(asked(&net, 0), str_c(body)));
        say(&net, 0, "HTTP/1.1 200 OK" RN "Transfer-Encoding: chunked" RN RN "3" RN "abc" RN "2" RN "de" RN "0" RN RN);
        check_str(heard(&net, 0), "head 200|body abcde|end|");
        check_int(net.origin.idle_count, 1);
        net_finish(&net);
    }
    free(body);
}

static void a_call_carries_a_body(void **state) {
    (void)state;
    EVERY_WINDOW(post);
}

static void connections_are_used_again_the_last_one_first(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    begin(&net, 1);
    begin(&net, 2);
    check_int(net.peer_count, 3);
    check(!client_reused(&net.calls[1].x));
    say(&net, 2, OK_5);
    say(&net, 0, OK_5);
    say(&net, 1, OK_5);
    check_int(net.origin.idle_count, 3);
    begin(&net, 3);
    check(client_reused(&net.calls[3].x));
    check_str(asked(&net, 1), GET GET);
    begin(&net, 4);
    check_str(asked(&net, 0), GET GET);
    check_int(net.peer_count, 3);
    say(&net, 1, OK_5);
    say(&net, 0, OK_5);
    check_str(heard(&net, 3), HEARD_5);
    check_str(heard(&net, 4), HEARD_5);
    net_finish(&net);
}

static void a_fresh_connection_can_be_asked_for(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    say(&net, 0, OK_5);
    start(&net.calls[1], true);
    settle(&net.world);
    check_int(net.peer_count, 2);
    check(!client_reused(&net.calls[1].x));
    check_int(net.origin.idle_count, 1);
    net_finish(&net);
}

static void a_kept_connection_that_died_is_noticed(void **state) {
    (void)state;
    for (int how = 0; how < 2; how++) {
        struct net net;
        net_init(&net, MEM_WINDOW);
        begin(&net, 0);
        say(&net, 0, OK_5);
        if (how == 0) {
            peer_close(&net.peers[0]);
        } else {
            mem_break(net.peers[0].conn);
        }
        settle(&net.world);
        check_int(net.origin.open, 0);
        check_int(net.origin.idle_count, 0);
        begin(&net, 1);
        check_int(net.peer_count, 2);
        say(&net, 1, OK_5);
        check_str(heard(&net, 1), HEARD_5);
        net_finish(&net);
    }
}

// The end is there already, but nobody has looked: whoever gets the connection can safely ask again.
static void a_kept_connection_that_dies_under_a_new_call_is_untouched(void **state) {
    (void)state;
    for (int how = 0; how < 2; how++) {
        struct net net;
        net_init(&net, MEM_WINDOW);
        begin(&net, 0);
        say(&net, 0, OK_5);
        if (how == 0) {
            peer_close(&net.peers[0]);
        } else {
            mem_break(net.peers[0].conn);
        }
        begin(&net, 1);
        check_str(heard(&net, 1), "fail reset|");
        check(net.calls[1].reused);
        check(net.calls[1].untouched);
        net_finish(&net);
    }
}

static void bytes_on_a_kept_connection_close_it(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    say(&net, 0, OK_5);
    say(&net, 0, OK_5);
    check_int(net.origin.open, 0);
    check_str(heard(&net, 0), HEARD_5);
    begin(&net, 1);
    check_int(heard(&net, 1).len, 0);
    check_int(net.peer_count, 2);
    net_finish(&net);
}

// They came before the request left: whatever they say, it is not to this call.
static void bytes_before_the_request_are_no_answer_to_it(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    say(&net, 0, OK_5);
    peer_say(&net.peers[0], STR("HTTP/1.1 408 Request Timeout" RN "Content-Length: 0" RN "Connection: close" RN RN));
    net.calls[1].x = (struct xchg){.events = &events};
    check_ok(client_start(&net.origin, &net.calls[1].x, false));
    check(client_reused(&net.calls[1].x));
    settle(&net.world); // nothing was sent yet
    check_str(heard(&net, 1), "fail protocol|");
    check(net.calls[1].untouched);
    check_int(net.origin.open, 0);
    net_finish(&net);
}

static void bytes_before_the_waiting_head_left_are_no_answer_to_it(void **state) {
    struct net net;
    struct head head = {
        .method = METHOD_POST, .method_name = STR("POST"), .target = STR("/"), .body_len = BODY_UNKNOWN};
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    say(&net, 0, OK_5);
    peer_say(&net.peers[0], STR(OK_5));
    net.calls[1].x = (struct xchg){.events = &events};
    check_ok(client_start(&net.origin, &net.calls[1].x, false));
    xchg_send_head(&net.calls[1].x, &head); // leaves at the end of the turn, after what came
    settle(&net.world);
    check_str(heard(&net, 1), "fail protocol|");
    check(net.calls[1].untouched);
    net_finish(&net);
}

static void bytes_behind_an_answer_close_the_connection(size_t window) {
    struct net net;
    net_init(&net, window);
    begin(&net, 0);
    say(&net, 0, OK_5 "HTTP/1.1 200 OK" RN "Content-Length: 6" RN RN "poison");
    check_str(heard(&net, 0), HEARD_5);
    check_int(net.origin.open, 0);
    begin(&net, 1);
    say(&net, 1, OK_5);
    check_str(heard(&net, 1), HEARD_5);
    net_finish(&net);
}

static void bytes_behind_an_answer_go_to_nobody(void **state) {
    (void)state;
    EVERY_WINDOW(bytes_behind_an_answer_close_the_connection);
}

// The owner asks again at once, while more than the answer is still in the read.
static void bytes_behind_an_answer_do_not_go_to_the_next_call(void **state) {
    (void)state;
    for (size_t window = sizeof OK_5; window < 2 * sizeof OK_5; window++) {
        struct net net;
        net_init(&net, window);
        net.calls[0].again_at = AT_END;
        begin(&net, 0);
        say(&net, 0, OK_5 OK_5);
        check_str(heard(&net, 0), HEARD_5);
        check_int(net.peer_count, 2);
        check_str(asked(&net, 0), GET);
        check_str(asked(&net, 1), GET);
        say(&net, 1, OK_5);
        check_str(heard(&net, 0), HEARD_5 HEARD_5);
        net_finish(&net);
    }
}

// The answer fills a read to the last byte, what is behind it is still in the socket.
static void bytes_behind_an_answer_that_fills_a_read_do_not_go_to_the_next_call(void **state) {
    (void)state;
    struct net net;
    char *answer = xmalloc(LOOP_READ_BUFFER + sizeof OK_5);
    int head = snprintf(answer, LOOP_READ_BUFFER, "HTTP/1.1 200 OK" RN "Content-Length: 65000" RN "X: ");
    memset(answer + head, 'x', LOOP_READ_BUFFER + sizeof OK_5 - (size_t)head);
    memcpy(answer + LOOP_READ_BUFFER - 65000 - 4, RN RN, 4);
    for (unsigned behind = 0; behind < 2; behind++) {
        net_init(&net, (size_t)2 * LOOP_READ_BUFFER);
        memcpy(answer + LOOP_READ_BUFFER, OK_5, sizeof OK_5);
        answer[LOOP_READ_BUFFER] = behind ? 'H' : '\0';
        net.calls[0].again_at = AT_END;
        begin(&net, 0);
        say(&net, 0, answer);
        check_int(net.peer_count, behind ? 2 : 1); // kept where there is nothing
        check_str(asked(&net, 0), behind ? GET : GET GET);
        buf_clear(&net.calls[0].log);
        say(&net, behind, OK_5);
        check_str(heard(&net, 0), HEARD_5);
        net_finish(&net);
    }
    free(answer);
}

static void kept_connections_are_closed_when_asked_for(void **state) {
    (void)state;
    struct net net;
    net_init(&net, MEM_WINDOW);
    for (unsigned i = 0; i < 4; i++) {
        begin(&net, i);
    }
    say(&net, 2, OK_5);
    say(&net, 0, OK_5);
    say(&net, 1, OK_5);
    check_int(net.origin.idle_count, 3);
    check_int(http_client_close_idle(&net.client, 2), 2);
    settle(&net.world);
    check(closed(&net, 2) && closed(&net, 0) && !closed(&net, 1)); // unused for the longest time first
    check_int(http_client_close_idle(&net.client, 2), 1);
    check_int(http_client_close_idle(&net.client, 2), 0);
    say(&net, 3, OK_5); // was in use
    check_str(heard(&net, 3), HEARD_5);
    net_finish(&net);
}

// ---- interim answers, answers without a body

static void interim(size_t window) {
    struct net net;
    net_init(&net, window);
    begin(&net, 0);
    say(&net, 0, "HTTP/1.1 100 Continue" RN RN "HTTP/1.1 103 Early Hints" RN "Link: x" RN RN OK_5);
    check_str(heard(&net, 0), "head 100|head 103|" HEARD_5);
    check_int(net.origin.idle_count, 1);
    net_finish(&net);
}

static void interim_answers_are_told(void **state) {
    (void)state;
    EVERY_WINDOW(interim);
}

static void too_many_interim(size_t window) {
    struct net net;
    net_init(&net, window);
    begin(&net, 0);
    for (int i = 0; i < 8; i++) {
        say(&net, 0, "HTTP/1.1 102 Processing" RN RN);
    }
    check(!net.calls[0].over);
    say(&net, 0, "HTTP/1.1 102 Processing" RN RN OK_5);
    check(str_ends(heard(&net, 0), STR("head 102|fail protocol|")));
    check(closed(&net, 0));
    net_finish(&net);
}

static void a_storm_of_interim_answers_is_refused(void **state) {
    (void)state;
    EVERY_WINDOW(too_many_interim);
}

static void to_head(size_t window) {
    struct net net;
    net_init(&net, window);
    net.calls[0].method = METHOD_HEAD;
    net.calls[1].method = METHOD_GET;
    begin(&net, 0);
    say(&net, 0,
        "HTTP/1.1 103 Early Hints" RN "Content-Length: 3" RN RN "HTTP/1.1 200 OK" RN "Content-Length: 5" RN RN);
    check_str(heard(&net, 0), "head 103|head 200|end|");
    begin(&net, 1); // and the next answer on it has a body again
    say(&net, 0, "HTTP/1.1 100 Continue" RN RN OK_5);
    check_str(heard(&net, 1), "head 100|" HEARD_5);
    check_int(net.peer_count, 1);
    net_finish(&net);
}

static void an_answer_to_head_has_no_body_behind_interim_ones_either(void **state) {
    (void)state;
    EVERY_WINDOW(to_head);
}

static void no_body(size_t window) {
    struct net net;
    net_init(&net, window);
    begin(&net, 0);
    say(&net, 0, "HTTP/1.1 204 No Content" RN "Content-Length: 5" RN RN);
    check_str(heard(&net, 0), "head 204|end|");
    begin(&net, 1);
    say(&net, 0, "HTTP/1.1 304 Not Modified" RN "Content-Length: 5" RN RN);
    check_str(heard(&net, 1), "head 304|end|");
    check_int(net.peer_count, 1);
    net_finish(&net);
}

static void answers_that_never_have_a_body_end_with_their_head(void **state) {
    (void)state;
    EVERY_WINDOW(no_body);
}

// ---- the connection after the answer

static void not_kept(size_t window) {
    static const char *const answers[] = {
        "HTTP/1.1 200 OK" RN "Connection: close" RN "Content-Length: 5" RN RN "hello",
        "HTTP/1.0 200 OK" RN "Content-Length: 5" RN RN "hello",
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct net net;
        net_init(&net, window);
        begin(&net, 0);
        say(&net, 0, answers[i]);
        check_str(heard(&net, 0), HEARD_5);
        check_int(net.origin.open, 0);
        check(closed(&net, 0));
        net_finish(&net);
    }
}

static void a_connection_that_is_not_to_be_kept_is_closed(void **state) {
    (void)state;
    EVERY_WINDOW(not_kept);
}

static void a_kept_connection_is_closed_after_a_while(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    pass(&net.world, 3 * IDLE_MS); // a call has all the time
    check(!net.calls[0].over);
    say(&net, 0, OK_5);
    pass(&net.world, IDLE_MS - 100);
    begin(&net, 1);
    say(&net, 0, OK_5);
    pass(&net.world, IDLE_MS - 100);
    check_int(net.origin.idle_count, 1);
    pass(&net.world, 200);
    check_int(net.origin.open, 0);
    check(net.peers[0].eof);
    check_int(net.peer_count, 1);
    net_finish(&net);
}

static void until_close(size_t window) {
    struct net net;
    net_init(&net, window);
    begin(&net, 0);
    say(&net, 0, "HTTP/1.1 200 OK" RN RN "hello");
    check(!net.calls[0].over);
    peer_close(&net.peers[0]);
    settle(&net.world);
    check_str(heard(&net, 0), HEARD_5);
    check_int(net.origin.open, 0);
    net_finish(&net);
}

static void an_answer_may_end_with_the_connection(void **state) {
    (void)state;
    EVERY_WINDOW(until_close);
}

// ---- what goes wrong

static void cut(size_t window) {
    static const struct {
        const char *said;
        const char *heard;
        const char *heard_reset; // NULL: the same
    } cases[] = {
        {"", "fail reset|", NULL},
        {"HTTP/1.1 100 Continue" RN RN, "head 100|fail reset|", NULL},
        {"HTTP/1.1 2", "fail cut|", NULL},
        {"HTTP/1.1 200 OK" RN "Content-Length: 5" RN, "fail cut|", NULL},
        {"HTTP/1.1 200 OK" RN "Content-Length: 5" RN RN "hell", "head 200|body hell|fail cut|", NULL},
        {"HTTP/1.1 200 OK" RN "Transfer-Encoding: chunked" RN RN, "head 200|fail cut|", NULL},
        {"HTTP/1.1 200 OK" RN "Transfer-Encoding: chunked" RN RN "5" RN "hello" RN, "head 200|body hello|fail cut|",
         NULL},
        {"HTTP/1.1 200 OK" RN "Transfer-Encoding: chunked" RN RN "5" RN "hello" RN "0" RN,
         "head 200|body hello|fail cut|", NULL},
        {"HTTP/1.1 200 OK" RN RN "hello", "head 200|body hello|end|", "head 200|body hello|fail cut|"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int reset = 0; reset <= 1; reset++) {
            struct net net;
            net_init(&net, window);
            begin(&net, 0);
            say(&net, 0, cases[i].said);
            if (reset) {
                mem_break(net.peers[0].conn);
            } else {
                peer_end(&net.peers[0]);
            }
            settle(&net.world);
            check_str(heard(&net, 0), reset && cases[i].heard_reset ? cases[i].heard_reset : cases[i].heard);
            check(!net.calls[0].untouched); // the request was read
            check(!net.calls[0].reused);
            check_int(net.origin.open, 0);
            net_finish(&net);
        }
    }
}

static void an_answer_that_is_cut_fails_the_call(void **state) {
    (void)state;
    EVERY_WINDOW(cut);
}

static void not_http(size_t window) {
    static const char *const answers[] = {
        "nonsense" RN RN,
        "HTTP/1.1 200 OK" RN "Content-Length: 5" RN "Transfer-Encoding: chunked" RN RN,
        "HTTP/1.1 200 OK" RN "Content-Length: 5" RN "Content-Length: 5" RN RN "hello",
        "HTTP/1.1 101 Switching Protocols" RN "Upgrade: x" RN "Connection: upgrade" RN RN,
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct net net;
        net_init(&net, window);
        begin(&net, 0);
        say(&net, 0, answers[i]);
        check_str(heard(&net, 0), "fail protocol|");
        check(closed(&net, 0));
        net_finish(&net);
    }
}

static void an_answer_that_is_not_http_fails_the_call(void **state) {
    (void)state;
    EVERY_WINDOW(not_http);
}

static void bad_chunk(size_t window) {
    struct net net;
    net_init(&net, window);
    begin(&net, 0);
    say(&net, 0, "HTTP/1.1 200 OK" RN "Transfer-Encoding: chunked" RN RN "5" RN "hello" RN);
    say(&net, 0, "0x5" RN);
    check_str(heard(&net, 0), "head 200|body hello|fail protocol|");
    check(closed(&net, 0));
    net_finish(&net);
}

static void a_bad_chunk_fails_the_call(void **state) {
    (void)state;
    EVERY_WINDOW(bad_chunk);
}

static void a_connection_that_breaks_unread_is_untouched(void **state) {
    (void)state;
    for (int reused = 0; reused <= 1; reused++) {
        for (int bytes = 0; bytes <= 1; bytes++) {
            struct net net;
            char byte[1];
            size_t n;
            net_init(&net, MEM_WINDOW);
            if (reused) {
                begin(&net, 1);
                say(&net, 0, OK_5);
            }
            start(&net.calls[0], false);
            net.peers[0].deaf = true;
            settle(&net.world);
            if (bytes) {
                check_ok(conn_read(net.peers[0].conn, byte, 1, &n));
            }
            mem_break(net.peers[0].conn);
            settle(&net.world);
            check_str(heard(&net, 0), "fail reset|");
            check(net.calls[0].untouched == !bytes);
            check(net.calls[0].reused == reused);
            net_finish(&net);
        }
    }
}

// ---- large bodies, back-pressure

static void upload(size_t window) {
    static const bool known[] = {true, false};
    size_t size = window < 1000 ? 5000 : 5 * window;
    char *body = long_body(size);
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        struct net net;
        net_init(&net, window);
        net.calls[0].method = METHOD_POST;
        net.calls[0].body = str_c(body);
        net.calls[0].body_len = known[i] ? (int64_t)size : BODY_UNKNOWN;
        start(&net.calls[0], false);
        net.peers[0].deaf = true;
        settle(&net.world);
        check(net.calls[0].sent <= window);
        peer_listen(&net.peers[0]);
        settle(&net.world);
        check_int(net.calls[0].sent, size);
        check(net.calls[0].drains > 0);
        check(!known[i] || str_ends(asked(&net, 0), str_c(body)));
        say(&net, 0, OK_5);
        check_str(heard(&net, 0), HEARD_5);
        check_int(net.origin.idle_count, 1);
        net_finish(&net);
    }
    free(body);
}

static void an_upload_waits_for_the_upstream(void **state) {
    (void)state;
    EVERY_WINDOW(upload);
}

static void download(size_t window) {
    size_t size = window < 1000 ? 5000 : 5 * window;
    char *body = long_body(size);
    char head[100];
    struct net net;
    net_init(&net, window);
    net.calls[0].pause_at = AT_BODY;
    begin(&net, 0);
    snprintf(head, sizeof head, "HTTP/1.1 200 OK" RN "Content-Length: %zu" RN RN, size);
    say(&net, 0, head);
    say(&net, 0, body);
    for (unsigned rounds = 0; !net.calls[0].over; rounds++) {
        size_t had = heard(&net, 0).len;
        settle(&net.world);
        check_int(heard(&net, 0).len, had); // nothing is read before it is wanted
        check(rounds <= size);
        xchg_resume(&net.calls[0].x);
        settle(&net.world);
    }
    check(heard(&net, 0).len > size);
    check(str_ends(heard(&net, 0), STR("|end|")));
    net_finish(&net);
    free(body);
}

static void a_paused_answer_is_not_read(void **state) {
    (void)state;
    EVERY_WINDOW(download);
}

static void a_paused_answer_whose_upstream_left_is_read_to_its_end(void **state) {
    struct net net;
    (void)state;
    net_init(&net, 7);
    net.calls[0].pause_at = AT_HEAD;
    begin(&net, 0);
    say(&net, 0, "HTTP/1.1 200 OK" RN RN "hel");
    say(&net, 0, "lo");
    peer_end(&net.peers[0]);
    settle(&net.world);
    check(!net.calls[0].over);
    net.calls[0].pause_at = NEVER;
    xchg_resume(&net.calls[0].x);
    settle(&net.world);
    check_str(heard(&net, 0), HEARD_5);
    net_finish(&net);
}

static void early(size_t window) {
    char *body = long_body(window * 3);
    struct net net;
    net_init(&net, window);
    net.calls[0].method = METHOD_POST;
    net.calls[0].body = str_c(body);
    net.calls[0].body_len = (int64_t)net.calls[0].body.len;
    start(&net.calls[0], false);
    net.peers[0].deaf = true;
    settle(&net.world);
    say(&net, 0, "HTTP/1.1 413 Content Too Large" RN "Content-Length: 5" RN RN "hello");
    check_str(heard(&net, 0), "head 413|body hello|end|");
    check_int(net.origin.open, 0); // half a request is on it
    check_int(xchg_send(&net.calls[0].x, STR("x"), true), 0);
    net_finish(&net);
    free(body);
}

static void an_answer_before_the_request_is_all_sent_ends_the_call(void **state) {
    (void)state;
    EVERY_WINDOW(early);
}

// The upstream answers and hangs up although more of the request is on its way.
static void an_answer_is_read_although_the_upload_fails(void **state) {
    char *body = long_body(100000);
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    net.calls[0].method = METHOD_POST;
    net.calls[0].body = STR("begun");
    net.calls[0].body_len = 100000;
    begin(&net, 0);
    peer_say(&net.peers[0], STR("HTTP/1.1 413 Content Too Large" RN "Content-Length: 5" RN RN "hello"));
    peer_close(&net.peers[0]);
    check(xchg_send(&net.calls[0].x, str_first(str_c(body), 1000), false) < 1000);
    check(!net.calls[0].over); // not inside the owner's own call
    settle(&net.world);
    check_str(heard(&net, 0), "head 413|body hello|end|");
    net_finish(&net);
    free(body);
}

static void an_upload_that_fails_without_an_answer_fails_the_call(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    net.calls[0].method = METHOD_POST;
    net.calls[0].body = STR("begun");
    net.calls[0].body_len = 100000;
    begin(&net, 0);
    peer_close(&net.peers[0]);
    check_int(xchg_send(&net.calls[0].x, STR("more"), false), 0);
    check(!net.calls[0].over);
    settle(&net.world);
    check_str(heard(&net, 0), "fail reset|");
    check(!net.calls[0].untouched);
    net_finish(&net);
}

static void a_body_of_the_wrong_length_fails_the_call(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    net.calls[0].method = METHOD_POST;
    net.calls[0].body = STR("begun");
    net.calls[0].body_len = 10;
    begin(&net, 0);
    check_int(xchg_send(&net.calls[0].x, STR("far more than five"), true), 0);
    settle(&net.world);
    check_str(heard(&net, 0), "fail reset|");
    check(closed(&net, 0));
    net_finish(&net);
}

// ---- giving up, and going on inside of callbacks

static void given_up(size_t window) {
    static const enum moment moments[] = {AT_HEAD, AT_BODY, AT_END, AT_FAIL, AT_DRAIN};
    char *body = long_body(window * 3);
    for (size_t i = 0; i < ARRAY_LEN(moments); i++) {
        for (int again = 0; again <= 1; again++) {
            struct net net;
            net_init(&net, window);
            net.calls[0].abort_at = moments[i];
            net.calls[0].again_at = again ? moments[i] : NEVER;
            if (moments[i] == AT_DRAIN) {
                net.calls[0].method = METHOD_POST;
                net.calls[0].body = str_c(body);
                net.calls[0].body_len = (int64_t)net.calls[0].body.len;
            }
            begin(&net, 0);
            if (moments[i] != AT_DRAIN) {
                say(&net, 0, "HTTP/1.1 200 OK" RN "Transfer-Encoding: chunked" RN RN "5" RN "hello" RN);
                say(&net, 0, moments[i] == AT_FAIL ? "x" : "0" RN RN);
            }
            check(closed(&net, 0) || moments[i] == AT_END);
            if (again) {
                unsigned last = net.peer_count - 1;
                check(str_ends(asked(&net, last), STR(GET)));
                say(&net, last, OK_5);
                check(str_ends(heard(&net, 0), STR(HEARD_5)));
                check_int(net.origin.open, 1);
            } else {
                check(net.calls[0].over);
                check_int(net.origin.open, moments[i] == AT_END);
            }
            net_finish(&net);
        }
    }
    free(body);
}

static void a_call_may_be_given_up_or_begun_again_in_every_event(void **state) {
    (void)state;
    EVERY_WINDOW(given_up);
}

static void the_next_call_begun_inside_the_last_event_uses_the_same_connection(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    net.calls[0].again_at = AT_END;
    begin(&net, 0);
    say(&net, 0, OK_5);
    check_int(net.peer_count, 1);
    check_str(asked(&net, 0), GET GET);
    say(&net, 0, OK_5);
    check_str(heard(&net, 0), HEARD_5 HEARD_5);
    net_finish(&net);
}

static void a_call_may_be_given_up_outside_of_events(void **state) {
    static const char *const saids[] = {"", "HTTP/1.1 2", "HTTP/1.1 100 Continue" RN RN,
                                        "HTTP/1.1 200 OK" RN "Content-Length: 5" RN RN,
                                        "HTTP/1.1 200 OK" RN "Content-Length: 5" RN RN "hell"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(saids); i++) {
        struct net net;
        net_init(&net, MEM_WINDOW);
        begin(&net, 0);
        say(&net, 0, saids[i]);
        xchg_abort(&net.calls[0].x);
        net.calls[0].over = true;
        check_int(net.origin.open, 0);
        settle(&net.world);
        check(closed(&net, 0));
        net_finish(&net);
    }
}

static void a_call_given_up_before_its_head_left_sends_nothing(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    net.calls[0].x = (struct xchg){.events = &events};
    check_ok(client_start(&net.origin, &net.calls[0].x, false));
    xchg_send_head(&net.calls[0].x,
                   &(struct head){.method = METHOD_GET, .method_name = STR("GET"), .target = STR("/")});
    xchg_abort(&net.calls[0].x);
    settle(&net.world);
    check_int(asked(&net, 0).len, 0);
    check(closed(&net, 0));
    net_finish(&net);
}

static void a_head_without_body_leaves_at_the_end_of_the_turn(void **state) {
    struct net net;
    struct call *c = &net.calls[0];
    (void)state;
    net_init(&net, MEM_WINDOW);
    c->x = (struct xchg){.events = &events};
    check_ok(client_start(&net.origin, &c->x, false));
    xchg_send_head(
        &c->x, &(struct head){.method = METHOD_POST, .method_name = STR("POST"), .target = STR("/"), .body_len = 5});
    check(!xchg_retract_head(&c->x)); // only answers are taken back
    settle(&net.world);
    check_str(asked(&net, 0), "POST / HTTP/1.1" RN "Host: " RN "Content-Length: 5" RN RN);
    check_int(xchg_send(&c->x, STR("hello"), true), 5);
    settle(&net.world);
    say(&net, 0, OK_5);
    check_str(heard(&net, 0), HEARD_5);
    net_finish(&net);
}

static void finishing_an_origin_calls_nobody(void **state) {
    struct net net;
    (void)state;
    net_init(&net, MEM_WINDOW);
    begin(&net, 0);
    begin(&net, 1);
    say(&net, 1, OK_5);
    origin_finish(&net.origin);
    check(xchg_over(&net.calls[0].x));
    settle(&net.world);
    check_int(heard(&net, 0).len, 0);
    net_finish(&net);
}

// ---- without memory

static void scenario_without_memory(void *arg) {
    struct net net;
    (void)arg;
    net_init(&net, 64);
    net.calls[0].method = METHOD_POST;
    net.calls[0].body = STR("0123456789012345678901234567890123456789012345678901234567890123456789");
    net.calls[0].body_len = BODY_UNKNOWN;
    begin(&net, 0);
    say(&net, 0,
        "HTTP/1.1 100 Continue" RN RN "HTTP/1.1 200 OK" RN "A: bcdefghijklmnopqrstuvwxyz" RN
        "Transfer-Encoding: chunked" RN RN "5" RN "hello" RN "0" RN RN);
    peer_close(&net.peers[0]);
    settle(&net.world);
    check(net.calls[0].over);
    net_finish(&net);
}

static void without_memory_calls_fail_cleanly(void **state) {
    (void)state;
    check(every_allocation_fails(scenario_without_memory, NULL) > 10);
}

TESTS(TEST(a_call_is_answered), TEST(a_call_carries_a_body), TEST(connections_are_used_again_the_last_one_first),
      TEST(a_fresh_connection_can_be_asked_for), TEST(a_kept_connection_that_died_is_noticed),
      TEST(a_kept_connection_that_dies_under_a_new_call_is_untouched), TEST(bytes_on_a_kept_connection_close_it),
      TEST(bytes_before_the_request_are_no_answer_to_it), TEST(bytes_before_the_waiting_head_left_are_no_answer_to_it),
      TEST(bytes_behind_an_answer_go_to_nobody), TEST(bytes_behind_an_answer_do_not_go_to_the_next_call),
      TEST(bytes_behind_an_answer_that_fills_a_read_do_not_go_to_the_next_call),
      TEST(kept_connections_are_closed_when_asked_for), TEST(interim_answers_are_told),
      TEST(a_storm_of_interim_answers_is_refused), TEST(an_answer_to_head_has_no_body_behind_interim_ones_either),
      TEST(answers_that_never_have_a_body_end_with_their_head), TEST(a_connection_that_is_not_to_be_kept_is_closed),
      TEST(a_kept_connection_is_closed_after_a_while), TEST(an_answer_may_end_with_the_connection),
      TEST(an_answer_that_is_cut_fails_the_call), TEST(an_answer_that_is_not_http_fails_the_call),
      TEST(a_bad_chunk_fails_the_call), TEST(a_connection_that_breaks_unread_is_untouched),
      TEST(an_upload_waits_for_the_upstream), TEST(a_paused_answer_is_not_read),
      TEST(a_paused_answer_whose_upstream_left_is_read_to_its_end),
      TEST(an_answer_before_the_request_is_all_sent_ends_the_call), TEST(an_answer_is_read_although_the_upload_fails),
      TEST(an_upload_that_fails_without_an_answer_fails_the_call), TEST(a_body_of_the_wrong_length_fails_the_call),
      TEST(a_call_may_be_given_up_or_begun_again_in_every_event),
      TEST(the_next_call_begun_inside_the_last_event_uses_the_same_connection),
      TEST(a_call_may_be_given_up_outside_of_events), TEST(a_call_given_up_before_its_head_left_sends_nothing),
      TEST(a_head_without_body_leaves_at_the_end_of_the_turn), TEST(finishing_an_origin_calls_nobody),
      TEST(without_memory_calls_fail_cleanly))
