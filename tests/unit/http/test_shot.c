// SPDX-License-Identifier: MIT
// Shots over memory: what leaves before the release and what behind it, and how each end is told. The tests are the server,
// byte by byte (HTTP/1.1) and frame by frame (HTTP/2).
#include "http/shot.h"

#include "h2_frames.h"
#include "support.h"

enum { SHOTS = 4, CONNECT_MS = 1000, TIMEOUT_MS = 5000 };

struct net;
struct call {
    struct shot shot;
    struct net *net;
    struct buf answer;
    unsigned loaded, heads, over;
    bool release; // as soon as it is loaded
};

struct net {
    struct world world;
    struct aim aim;
    struct peer peer[SHOTS];
    struct h2_log said[SHOTS];
    unsigned conns;
    size_t window;
    struct call calls[SHOTS];
};

static void on_loaded(struct shot *s) {
    struct call *c = container_of(s, struct call, shot);
    c->loaded++;
    if (c->release) {
        shot_release(s);
    }
}
static void on_head(struct shot *s, const struct head *head) {
    container_of(s, struct call, shot)->heads++;
    check_int(head->status, s->status);
}
static void on_over(struct shot *s) {
    container_of(s, struct call, shot)->over++;
    check_int(s->error != OK, s->problem[0] != '\0');
}
static const struct shot_events call_events = {.on_loaded = on_loaded, .on_head = on_head, .on_over = on_over};

static struct conn *connect_local(void *context) {
    struct net *net = context;
    struct conn *near;
    struct conn *far;
    check(net->conns < SHOTS);
    mem_pair(&net->world.loop, net->window, &near, &far);
    h2_log_init(&net->said[net->conns]);
    peer_init(&net->peer[net->conns++], far);
    return near;
}

static void net_init(struct net *net, enum origin_speaks speaks, size_t window) {
    *net = (struct net){.window = window};
    world_init(&net->world);
    net->aim = (struct aim){.loop = &net->world.loop,
                            .speaks = speaks,
                            .h2 = shot_side_create(&net->world.loop),
                            .connect_local = connect_local,
                            .context = net};
}

static void net_finish(struct net *net) {
    for (unsigned i = 0; i < SHOTS; i++) {
        shot_close(&net->calls[i].shot);
        buf_finish(&net->calls[i].answer);
    }
    for (unsigned i = 0; i < net->conns; i++) {
        peer_finish(&net->peer[i]);
        h2_log_finish(&net->said[i]);
    }
    world_finish(&net->world);
    shot_side_destroy(net->aim.h2);
}

static struct head *request_of(const char *method, size_t body) {
    struct field room[] = {{STR_INIT("X-Field"), STR_INIT("value"), FIELD_OTHER},
                           {STR_INIT("Keep-Alive"), STR_INIT("5"), FIELD_KEEP_ALIVE}};
    struct head head = {
        .method = method_parse(str_c(method)),
        .method_name = str_c(method),
        .target = STR("/x"),
        .authority = STR("a"),
        .fields = {room, ARRAY_LEN(room), ARRAY_LEN(room)},
        .body_len = (int64_t)body,
    };
    return shot_keep_head(&head);
}

// Not started; an empty method: nothing is asked.
static struct call *prepare(struct net *net, unsigned nth, const char *method, size_t body) {
    struct call *c = &net->calls[nth];
    c->net = net;
    buf_init(&c->answer, 1 << 24);
    c->shot =
        (struct shot){.events = &call_events, .answer = &c->answer, .connect_ms = CONNECT_MS, .timeout_ms = TIMEOUT_MS};
    buf_init(&c->shot.body, 1 << 24);
    if (*method) {
        char *bytes = long_body(body);
        c->shot.head = request_of(method, body);
        if (buf_append(&c->shot.body, bytes, body) != OK) { // only where allocations are made to fail
            buf_clear(&c->shot.body);
        }
        free(bytes);
    }
    return c;
}

static struct call *start(struct net *net, unsigned nth, const char *method, size_t body) {
    struct call *c = prepare(net, nth, method, body);
    shot_start(&c->shot, &net->aim);
    check_int(c->loaded + c->over, 0);
    settle(&net->world);
    return c;
}

static struct call *join(struct net *net, unsigned nth, const char *method) {
    struct call *c = prepare(net, nth, method, 0);
    shot_join(&c->shot, &net->calls[0].shot);
    check_int(c->loaded + c->over, 0);
    settle(&net->world);
    return c;
}

static void release(struct net *net, struct call *c) {
    shot_release(&c->shot);
    settle(&net->world);
}

static struct str came(struct net *net, unsigned conn) {
    return h2_log_read(&net->said[conn], peer_got(&net->peer[conn]));
}
static struct buf frames(void) {
    struct buf b;
    buf_init(&b, 64 << 20);
    return b;
}
static void say(struct net *net, unsigned conn, struct buf *b) {
    peer_say(&net->peer[conn], buf_str(b));
    buf_finish(b);
    settle(&net->world);
}
static void say_text(struct net *net, const char *text) {
    peer_say(&net->peer[0], str_c(text));
    settle(&net->world);
}
// `most`: streams at once; 0: not said.
static void say_settings(struct net *net, unsigned conn, uint32_t most) {
    struct buf b = frames();
    if (most) {
        put_setting(&b, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, most);
    } else {
        put_frame(&b, F_SETTINGS, 0, 0, STR(""));
    }
    say(net, conn, &b);
}
static void say_ack(struct net *net, unsigned conn) {
    struct buf b = frames();
    put_frame(&b, F_SETTINGS, F_ACK, 0, STR(""));
    say(net, conn, &b);
}
static void greet(struct net *net, unsigned conn, uint32_t most) {
    say_settings(net, conn, most);
    say_ack(net, conn);
}
static void answer(struct net *net, unsigned conn, unsigned id) {
    struct buf b = frames();
    put_head(&b, 0, id, ":status: 200");
    put_frame(&b, F_DATA, F_END_STREAM, id, STR("hello"));
    say(net, conn, &b);
}
static bool gone(const struct net *net, unsigned conn) { return net->peer[conn].eof || net->peer[conn].reset; }

static void check_answered(const struct call *c) {
    check_int(c->over, 1);
    check_int(c->shot.error, OK);
    check_int(c->shot.status, 200);
    check_int(c->heads, 1);
    check_str(buf_str(&c->answer), "hello");
    check_int(c->shot.bytes, 5);
    check(c->shot.sent_ns && c->shot.first_byte_ns >= c->shot.sent_ns && c->shot.end_ns >= c->shot.first_byte_ns);
}

#define HELLO "SETTINGS|WINDOW 1073676289|"

// ---- HTTP/1.1

static void h1_holds_back_the_end_of_the_head_and_the_body(size_t window) {
    struct net net;
    net_init(&net, ORIGIN_H1, window);
    struct call *c = start(&net, 0, "POST", 5);
    struct str got = peer_got(&net.peer[0]);
    check_int(c->loaded, 1);
    check(str_ends(got, STR("\r\n\r")));
    check(str_search(got, STR("ahov")) == got.len);
    release(&net, c);
    got = peer_got(&net.peer[0]);
    size_t head = str_search(got, STR("\r\n\r\n")) + 4;
    check_int(got.len, head + 5);
    check(str_search(got, STR("Connection: close\r\n")) < head);
    check_int(c->shot.http, SHOT_HTTP_1);
    say_text(&net, "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    check_answered(c);
    check(gone(&net, 0));
    net_finish(&net);
}

static void http1_holds_back_the_end_of_the_head_and_the_body(void **state UNUSED) {
    EVERY_WINDOW(h1_holds_back_the_end_of_the_head_and_the_body);
}

static void http1_holds_back_the_last_byte_of_a_large_body(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H1, 1 << 20);
    struct call *c = start(&net, 0, "POST", SHOT_HELD_MOST + 1);
    struct str got = peer_got(&net.peer[0]);
    size_t head = str_search(got, STR("\r\n\r\n")) + 4;
    check_int(got.len - head, SHOT_HELD_MOST);
    release(&net, c);
    check_int(peer_got(&net.peer[0]).len - head, SHOT_HELD_MOST + 1);
    net_finish(&net);
}

// ---- HTTP/2: before and behind the release

static void h2_says_nothing_of_the_call_before(size_t window) {
    struct net net;
    net_init(&net, ORIGIN_H2, window);
    struct call *c = start(&net, 0, "POST", 5);
    check_str(came(&net, 0), HELLO);
    say_settings(&net, 0, 7);
    check_int(c->loaded, 0); // it may not have what we said
    say_ack(&net, 0);
    check_int(c->loaded, 1);
    check_int(c->shot.streams, 7);
    check_str(came(&net, 0), "");
    check_int(c->shot.sent_ns, 0);
    release(&net, c);
    check_str(came(&net, 0), "HEADERS 1|DATA 1 5 end|");
    check_str(buf_str(&net.said[0].heads), ":method: POST\n:scheme: http\n:authority: a\n:path: /x\n"
                                           "x-field: value\ncontent-length: 5\n");
    check(c->shot.sent_ns != 0);
    check_int(c->shot.http, SHOT_HTTP_2);
    answer(&net, 0, 1);
    check_answered(c);
    check(!c->shot.turned_away);
    check(gone(&net, 0));
    net_finish(&net);
}

static void http2_says_nothing_of_the_call_before_the_release(void **state UNUSED) {
    EVERY_WINDOW(h2_says_nothing_of_the_call_before);
}

static void without_a_body_the_head_is_held_back(void **state UNUSED) {
    static const struct {
        const char *method, *head;
    } rows[] = {{"GET", ":status: 200"}, {"HEAD", ":status: 200\ncontent-length: 5"}, {"DELETE", ":status: 204"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net net;
        net_init(&net, ORIGIN_H2, MEM_WINDOW);
        struct call *c = start(&net, 0, rows[i].method, 0);
        greet(&net, 0, 0);
        check_str(came(&net, 0), HELLO);
        check_int(c->shot.streams, SHOT_STREAMS_MANY);
        release(&net, c);
        check_str(came(&net, 0), "HEADERS 1 end|");
        struct buf b = frames();
        put_head(&b, 0, 1, ":status: 103");
        put_head(&b, F_END_STREAM, 1, rows[i].head);
        say(&net, 0, &b);
        check_int(c->over, 1);
        check_int(c->shot.error, OK);
        check_int(c->heads, 1);
        net_finish(&net);
    }
}

// It is made beforehand, and waits; what comes meanwhile is answered with it.
static void behind_what_is_held_back_the_rest_waits(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, MEM_WINDOW);
    struct call *c = start(&net, 0, "POST", 5);
    greet(&net, 0, 0);
    struct buf b = frames();
    put_frame(&b, F_PING, 0, 0, STR("12345678"));
    say(&net, 0, &b);
    check_str(came(&net, 0), HELLO);
    release(&net, c);
    check_str(came(&net, 0), "HEADERS 1|DATA 1 5 end|PING ack|");
    answer(&net, 0, 1);
    check_answered(c);
    net_finish(&net);
}

static void of_a_large_body_the_last_byte_is_held_back(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, 1 << 20);
    struct call *c = start(&net, 0, "POST", SHOT_HELD_MOST + 1);
    greet(&net, 0, 0);
    check_str(came(&net, 0), HELLO "HEADERS 1|DATA 1 14000|");
    check_int(c->shot.sent_ns, 0);
    release(&net, c);
    check_str(came(&net, 0), "DATA 1 1 end|");
    check(c->shot.sent_ns != 0);
    answer(&net, 0, 1);
    check_answered(c);
    net_finish(&net);
}

// It has left when the last of it has, not when it was released.
static void a_body_beyond_the_window_leaves_as_there_is_room(void **state UNUSED) {
    struct net net;
    char *body = long_body(100000);
    net_init(&net, ORIGIN_H2, 1 << 20);
    struct call *c = start(&net, 0, "POST", 100000);
    greet(&net, 0, 0);
    release(&net, c);
    check_int(buf_len(&net.said[0].body), 0);
    (void)came(&net, 0);
    check_int(buf_len(&net.said[0].body), 65535);
    check_int(c->shot.sent_ns, 0);
    pass(&net.world, 200);
    struct buf b = frames();
    put_number_frame(&b, F_WINDOW, 0, 1 << 20);
    put_number_frame(&b, F_WINDOW, 1, 1 << 20);
    say(&net, 0, &b);
    (void)came(&net, 0);
    check(str_eq(buf_str(&net.said[0].body), str_from(body, 100000)));
    check(c->shot.sent_ns >= c->shot.loaded_ns + 200 * 1000000ULL);
    answer(&net, 0, 1);
    check_answered(c);
    free(body);
    net_finish(&net);
}

static void a_peer_that_takes_nothing_has_not_been_sent_to(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, 128);
    struct call *c = start(&net, 0, "POST", 5000);
    greet(&net, 0, 0);
    net.peer[0].deaf = true;
    release(&net, c);
    check_int(c->shot.sent_ns, 0);
    pass(&net.world, 200);
    peer_listen(&net.peer[0]);
    settle(&net.world);
    check(c->shot.sent_ns >= c->shot.loaded_ns + 200 * 1000000ULL);
    check_str(came(&net, 0), HELLO "HEADERS 1|DATA 1 5000 end|");
    net_finish(&net);
}

// What a server may send beyond what was read is never less than it has.
static void a_long_answer_waits_for_no_window(void **state UNUSED) {
    struct net net;
    char *part = long_body(16000);
    net_init(&net, ORIGIN_H2, 16 << 20);
    struct call *c = start(&net, 0, "GET", 0);
    greet(&net, 0, 0);
    release(&net, c);
    struct buf b = frames();
    put_head(&b, 0, 1, ":status: 200");
    for (int i = 0; i < 500; i++) {
        put_frame(&b, F_DATA, i == 499 ? F_END_STREAM : 0, 1, str_from(part, 16000));
    }
    say(&net, 0, &b);
    check_int(c->shot.error, OK);
    check_int(c->over, 1);
    check_int(c->shot.bytes, 500 * 16000);
    free(part);
    net_finish(&net);
}

static void a_connection_alone_is_made_and_nothing_said(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, MEM_WINDOW);
    struct call *c = start(&net, 0, "", 0);
    greet(&net, 0, 0);
    check_int(c->loaded, 1);
    shot_close(&c->shot);
    settle(&net.world);
    check_str(came(&net, 0), HELLO);
    check(gone(&net, 0));
    check_int(c->over, 0);
    net_finish(&net);
}

// ---- several on one connection

static void those_that_join_are_streams_of_one_connection(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, MEM_WINDOW);
    struct call *c[3] = {start(&net, 0, "GET", 0)};
    greet(&net, 0, 3);
    c[1] = join(&net, 1, "GET");
    c[2] = join(&net, 2, "GET");
    check_int(c[1]->loaded + c[2]->loaded, 2);
    check_str(came(&net, 0), HELLO);
    struct call *beyond = join(&net, 3, "GET");
    check_int(beyond->shot.error, ERR_FULL);
    check(beyond->shot.turned_away);
    for (unsigned i = 0; i < 3; i++) {
        shot_release(&c[i]->shot);
    }
    settle(&net.world);
    check_str(came(&net, 0), "HEADERS 1 end|HEADERS 3 end|HEADERS 5 end|");
    for (unsigned i = 0; i < 3; i++) {
        check(c[i]->shot.sent_ns != 0);
        check(!gone(&net, 0));
        answer(&net, 0, 2 * i + 1);
        check_answered(c[i]);
    }
    check_int(net.conns, 1);
    check(gone(&net, 0));
    net_finish(&net);
}

static void one_that_is_closed_leaves_the_others_alone(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, MEM_WINDOW);
    struct call *first = start(&net, 0, "GET", 0);
    greet(&net, 0, 0);
    struct call *second = join(&net, 1, "GET");
    release(&net, first);
    release(&net, second);
    shot_close(&first->shot);
    settle(&net.world);
    check_str(came(&net, 0), HELLO "HEADERS 1 end|HEADERS 3 end|RST 1 8|");
    answer(&net, 0, 3);
    check_answered(second);
    check_int(first->over, 0);
    check(gone(&net, 0));
    net_finish(&net);
}

static void a_connection_that_is_lost_is_lost_for_all(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, MEM_WINDOW);
    struct call *first = start(&net, 0, "GET", 0);
    greet(&net, 0, 0);
    struct call *second = join(&net, 1, "GET");
    release(&net, first);
    peer_close(&net.peer[0]);
    settle(&net.world);
    check_int(first->shot.error, ERR_RESET);
    check_int(second->shot.error, ERR_RESET);
    check_int(first->over + second->over, 2);
    net_finish(&net);
}

// ---- who turned it away

enum way { REFUSED, RST, AWAY, AWAY_BEFORE, CLOSED, CUT, MALFORMED, NO_STREAMS, NO_HTTP2, SHUT, EARLY };
static const struct {
    enum way way;
    enum err error;
    bool turned_away;
    const char *problem;
} ends[] = {
    {REFUSED, ERR_RESET, true, "REFUSED_STREAM"},
    {RST, ERR_RESET, false, "broke the stream off"},
    {AWAY, ERR_RESET, true, "GOAWAY, ENHANCE_YOUR_CALM"},
    {AWAY_BEFORE, ERR_RESET, true, "did not look at the call (GOAWAY, NO_ERROR)"},
    {CLOSED, ERR_RESET, false, "closed the connection without an answer"},
    {CUT, ERR_CUT, false, "in the middle of its answer"},
    {MALFORMED, ERR_PROTOCOL, false, "malformed HTTP/2"},
    {NO_STREAMS, ERR_RESET, true, "takes no streams"},
    {NO_HTTP2, ERR_PROTOCOL, false, "does not speak HTTP/2"},
    {SHUT, ERR_RESET, false, "instead of speaking HTTP/2"},
    {EARLY, ERR_PROTOCOL, false, "answered before the request was there"},
};

static void end_it(struct net *net, struct call *c, enum way way) {
    struct buf b = frames();
    switch (way) {
    case REFUSED: put_number_frame(&b, F_RST, 1, H2_REFUSED); break;
    case RST: put_number_frame(&b, F_RST, 1, H2_INTERNAL); break;
    case AWAY:
        put_goaway(&b, 1, H2_CALM);
        say(net, 0, &b);
        peer_close(&net->peer[0]);
        settle(&net->world);
        return;
    case AWAY_BEFORE: put_goaway(&b, 0, H2_NO_ERROR); break;
    case CUT:
        put_head(&b, 0, 1, ":status: 200");
        put_frame(&b, F_DATA, 0, 1, STR("hel"));
        say(net, 0, &b);
        check_int(c->over, 0);
        check_int(c->shot.status, 200);
        peer_close(&net->peer[0]);
        settle(&net->world);
        return;
    case CLOSED:
        peer_close(&net->peer[0]);
        settle(&net->world);
        return;
    case MALFORMED: put_head(&b, F_END_STREAM, 1, ":status: no"); break;
    case NO_STREAMS:
    case NO_HTTP2:
    case SHUT:
    case EARLY: break;
    }
    say(net, 0, &b);
}

static void how_it_ended_is_told(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct net net;
        net_init(&net, ORIGIN_H2, MEM_WINDOW);
        struct call *c = start(&net, 0, ends[i].way == EARLY ? "POST" : "GET", ends[i].way == EARLY ? 20000 : 0);
        if (ends[i].way == NO_STREAMS) {
            struct buf b = frames();
            put_setting(&b, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0);
            say(&net, 0, &b);
        } else if (ends[i].way == NO_HTTP2) {
            say_text(&net, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        } else if (ends[i].way == SHUT) {
            peer_close(&net.peer[0]);
            settle(&net.world);
        } else {
            greet(&net, 0, 0);
            check_int(c->loaded, 1);
        }
        if (ends[i].way == EARLY) {
            answer(&net, 0, 1);
        } else if (c->loaded) {
            release(&net, c);
            end_it(&net, c, ends[i].way);
        }
        check_int(c->over, 1);
        check_int(c->shot.error, ends[i].error);
        check_int(c->shot.turned_away, ends[i].turned_away);
        check(str_search(str_c(c->shot.problem), str_c(ends[i].problem)) < strlen(c->shot.problem));
        net_finish(&net);
    }
}

static void a_goaway_that_lets_the_call_go_on_is_no_end(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, MEM_WINDOW);
    struct call *c = start(&net, 0, "GET", 0);
    greet(&net, 0, 0);
    release(&net, c);
    struct buf b = frames();
    put_goaway(&b, 1, H2_NO_ERROR);
    say(&net, 0, &b);
    answer(&net, 0, 1);
    check_answered(c);
    check(!c->shot.turned_away);
    net_finish(&net);
}

static void a_goaway_before_the_release_ends_it(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, MEM_WINDOW);
    struct call *c = start(&net, 0, "GET", 0);
    greet(&net, 0, 0);
    struct buf b = frames();
    put_goaway(&b, 0, H2_CALM);
    say(&net, 0, &b);
    check_int(c->over, 1);
    check_int(c->shot.error, ERR_RESET);
    check(c->shot.turned_away);
    net_finish(&net);
}

static void a_goaway_with_the_settings_ends_it(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, MEM_WINDOW);
    struct call *c = start(&net, 0, "GET", 0);
    struct buf b = frames();
    put_frame(&b, F_SETTINGS, 0, 0, STR(""));
    put_frame(&b, F_SETTINGS, F_ACK, 0, STR(""));
    put_goaway(&b, 0, H2_CALM);
    say(&net, 0, &b);
    check_int(c->over, 1);
    check(c->shot.error != OK && c->shot.turned_away);
    net_finish(&net);
}

// Its end comes, but not inside the release. The stream that went before goes on.
static void no_stream_begins_behind_a_goaway(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, MEM_WINDOW);
    struct call *first = start(&net, 0, "GET", 0);
    greet(&net, 0, 0);
    struct call *second = join(&net, 1, "POST");
    release(&net, first);
    struct buf b = frames();
    put_goaway(&b, 1, H2_CALM);
    say(&net, 0, &b);
    shot_release(&second->shot);
    check_int(second->over, 0);
    struct call *late = prepare(&net, 2, "GET", 0);
    shot_join(&late->shot, &first->shot);
    settle(&net.world);
    check_int(second->over + late->over, 2);
    check(second->shot.error != OK && late->shot.error != OK);
    check(second->shot.turned_away && late->shot.turned_away);
    check_str(came(&net, 0), HELLO "HEADERS 1 end|");
    answer(&net, 0, 1);
    check_answered(first);
    check(gone(&net, 0));
    net_finish(&net);
}

static void who_does_not_answer_runs_into_a_deadline(void **state UNUSED) {
    struct net net;
    net_init(&net, ORIGIN_H2, MEM_WINDOW);
    struct call *mute = start(&net, 0, "GET", 0);
    struct call *slow = start(&net, 1, "GET", 0);
    greet(&net, 1, 0);
    release(&net, slow);
    pass(&net.world, CONNECT_MS + 10);
    check_int(mute->shot.error, ERR_TIMEOUT);
    check(str_search(str_c(mute->shot.problem), STR("no SETTINGS of HTTP/2 within 1s")) == 0);
    check(gone(&net, 0));
    check_int(slow->over, 0);
    pass(&net.world, TIMEOUT_MS);
    check_int(slow->shot.error, ERR_TIMEOUT);
    check(str_search(str_c(slow->shot.problem), STR("no whole answer within 5s")) == 0);
    check(gone(&net, 1));
    net_finish(&net);
}

// ---- without memory

static void whole_calls(void *arg) {
    struct net net;
    net_init(&net, *(enum origin_speaks *)arg, MEM_WINDOW);
    struct call *c = prepare(&net, 0, "POST", 20000);
    c->release = true;
    if (c->shot.head) {
        shot_start(&c->shot, &net.aim);
        settle(&net.world);
        greet(&net, 0, 0);
        answer(&net, 0, 1);
        pass(&net.world, CONNECT_MS + TIMEOUT_MS + 100);
        check_int(c->over, 1);
    }
    net_finish(&net);
}

static void without_memory_calls_fail_cleanly(void **state UNUSED) {
    enum origin_speaks speaks[] = {ORIGIN_H1, ORIGIN_H2};
    for (size_t i = 0; i < ARRAY_LEN(speaks); i++) {
        check(every_allocation_fails(whole_calls, &speaks[i]) > 5);
    }
}

TESTS(TEST(http1_holds_back_the_end_of_the_head_and_the_body), TEST(http1_holds_back_the_last_byte_of_a_large_body),
      TEST(http2_says_nothing_of_the_call_before_the_release), TEST(without_a_body_the_head_is_held_back),
      TEST(behind_what_is_held_back_the_rest_waits), TEST(of_a_large_body_the_last_byte_is_held_back),
      TEST(a_body_beyond_the_window_leaves_as_there_is_room), TEST(a_peer_that_takes_nothing_has_not_been_sent_to),
      TEST(a_long_answer_waits_for_no_window), TEST(a_connection_alone_is_made_and_nothing_said),
      TEST(those_that_join_are_streams_of_one_connection), TEST(one_that_is_closed_leaves_the_others_alone),
      TEST(a_connection_that_is_lost_is_lost_for_all), TEST(how_it_ended_is_told),
      TEST(a_goaway_that_lets_the_call_go_on_is_no_end), TEST(a_goaway_before_the_release_ends_it),
      TEST(a_goaway_with_the_settings_ends_it), TEST(no_stream_begins_behind_a_goaway),
      TEST(who_does_not_answer_runs_into_a_deadline), TEST(without_memory_calls_fail_cleanly))
