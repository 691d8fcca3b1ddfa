// SPDX-License-Identifier: MIT
// The upstream's rows of docs/internals/close-table.md: what its end, its breaking and its silence do to the client,
// to the next try and to the outcome.
#include <arpa/inet.h>
#include <sys/resource.h>
#include <unistd.h>

#include "flow.h"

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define FIRST_BYTE_MS (300 * 1000)
#define BETWEEN_MS (120 * 1000)
#define TOTAL_MS (900 * 1000)

struct flow {
    struct world w;
    struct peer *client;
    struct peer *up;
};

// A call that has reached the upstream whole.
static void begin(struct flow *f, const char *yaml, const char *upstream) {
    world_open(&f->w, yaml);
    f->client = client_open(&f->w);
    client_post(f->client, CHAT_PATH, CHAT);
    f->up = upstream_peer(&f->w, upstream, 0);
    check(message_at(f->up, 0).whole);
}

static void check_error(struct peer *client, int status, const char *says) {
    struct parsed m = message_at(client, 0);
    check_int(m.status, status);
    check(m.whole);
    check(str_starts(m.body, STR("{\"error\":{\"message\":\"")));
    if (str_search(m.body, str_c(says)) == m.body.len) {
        fail_msg("\"%s\" is not in %.*s", says, STR_ARG(m.body));
    }
    check_open(client); // an answer like any other: the connection goes on
}

// What the client has is not whole, and it knows that no more will come.
static void check_broken_off(struct peer *client) {
    check(!message_at(client, 0).whole);
    check(client->end != OK);
}

static void check_error_event(struct peer *client, const char *before) {
    struct str body = message_at(client, 0).body;
    check(str_starts(body, str_c(before)));
    struct str event = str_skip(body, strlen(before));
    check(str_starts(event, STR("data: {\"error\":{\"message\":\"The upstream 'up' (mock) failed: ")));
    check(str_ends(event, STR(",\"type\":\"upstream_error\",\"param\":null,\"code\":\"stream_cut\"}}\n\n")));
    check_lacks(client, "[DONE]");
    check_broken_off(client);
}

// ---- before the head

// UPSTREAM_LOST
static void upstream_end_before_its_answer_is_told(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS, "a");
    close_peer(f.up);
    check_error(f.client, 502, "The upstream 'a' (mock) failed: the upstream closed the connection without an answer.");
    check_int(upstream_count(&f.w, "a"), 1); // it may have been billed: nobody is asked again
    check_int(upstream_count(&f.w, "b"), 0);
    check_only(&f.w, OUTCOME_UPSTREAM_LOST, 1);
    world_close(&f.w);
}

static void upstream_half_close_before_its_answer_is_told(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS, "a");
    finish(f.up);
    check_error(f.client, 502, "without an answer");
    check_dropped(f.up);
    check_int(upstream_count(&f.w, "b"), 0);
    check_only(&f.w, OUTCOME_UPSTREAM_LOST, 1);
    world_close(&f.w);
}

static void upstream_reset_before_its_answer_is_told(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS, "a");
    reset(f.up);
    check_error(f.client, 502, "without an answer");
    check_int(upstream_count(&f.w, "a"), 1);
    check_int(upstream_count(&f.w, "b"), 0);
    check_only(&f.w, OUTCOME_UPSTREAM_LOST, 1);
    world_close(&f.w);
}

static void upstream_cut_in_its_head_is_told(void **state UNUSED) {
    for (int by_reset = 0; by_reset <= 1; by_reset++) {
        struct flow f;
        begin(&f, TWO_UPSTREAMS, "a");
        answer(f.up, "HTTP/1.1 200 OK\r\nContent-Le");
        check_int(f.client->got_len, 0);
        if (by_reset) {
            reset(f.up);
        } else {
            close_peer(f.up);
        }
        check_error(f.client, 502, "in the middle of its answer");
        check_int(upstream_count(&f.w, "b"), 0);
        check_only(&f.w, OUTCOME_UPSTREAM_LOST, 1);
        world_close(&f.w);
    }
}

static void upstream_that_answers_nonsense_is_told(void **state UNUSED) {
    static const char *const answers[] = {
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\x01z\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 999 What\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct flow f;
        begin(&f, ONE_UPSTREAM, "up");
        answer(f.up, answers[i]);
        check_error(f.client, 502, "The upstream 'up' (mock) failed: ");
        check_dropped(f.up);
        check_only(&f.w, OUTCOME_UPSTREAM_LOST, 1);
        world_close(&f.w);
    }
}

// facts A37
static void upstream_with_too_many_interim_answers_is_dropped(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    for (unsigned i = 0; i < 8; i++) {
        answer(f.up, "HTTP/1.1 102 Processing\r\n\r\n");
    }
    check_open(f.up);
    answer(f.up, "HTTP/1.1 102 Processing\r\n\r\n");
    check_dropped(f.up);
    check_int(last_message(f.client).status, 502);
    check_only(&f.w, OUTCOME_UPSTREAM_LOST, 1);
    world_close(&f.w);
}

static void head_that_has_not_gone_on_becomes_502(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    peer_queue(f.up, STR("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"));
    peer_finish(f.up); // head and end are seen in the same turn
    settle(&f.w);
    check_error(f.client, 502, "in the middle of its answer");
    check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
    world_close(&f.w);
}

// ---- in the body

// UPSTREAM_CUT
static void upstream_reset_mid_stream_tells_client(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, STREAM_HEAD "b\r\ndata: one\n\n\r\n");
    reset(f.up);
    check_error_event(f.client, "data: one\n\n");
    check_has(f.client, "reset the connection in the middle of its answer");
    check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
    world_close(&f.w);
}

static void upstream_end_mid_stream_tells_client(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, STREAM_HEAD "b\r\ndata: one\n\n\r\n");
    close_peer(f.up);
    check_error_event(f.client, "data: one\n\n");
    check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
    world_close(&f.w);
}

// The error is an event of its own, wherever the stream broke.
static void cut_event_begins_at_an_event_boundary(void **state UNUSED) {
    static const char *const streams[][2] = {
        {"data: {\"a\":", "data: {\"a\":\n\n"},     {"data: one\n", "data: one\n\n\n"},
        {"data: one\n\n", "data: one\n\n"},         {"data: one\r\n\r\n: ping\n", "data: one\r\n\r\n: ping\n"},
        {"data: one\n\nda", "data: one\n\nda\n\n"}, {": ping", ": ping\n\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        struct flow f;
        char chunk[200];
        begin(&f, ONE_UPSTREAM, "up");
        snprintf(chunk, sizeof chunk, STREAM_HEAD "%zx\r\n%s\r\n", strlen(streams[i][0]), streams[i][0]);
        answer(f.up, chunk);
        reset(f.up);
        check_error_event(f.client, streams[i][1]);
        world_close(&f.w);
    }
}

static void malformed_chunk_mid_stream_tells_client(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, STREAM_HEAD "b\r\ndata: one\n\n\r\n");
    answer(f.up, "xyz\r\n");
    check_error_event(f.client, "data: one\n\n");
    check_dropped(f.up);
    check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
    world_close(&f.w);
}

// A stream of known length has no room for the error event: with it the answer could end where it was to end.
static void cut_stream_of_known_length_is_broken_off(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 30\r\n\r\ndata: one\n\n");
    reset(f.up);
    check_broken_off(f.client);
    check_str(message_at(f.client, 0).body, "data: one\n\n");
    check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
    world_close(&f.w);
}

// Bytes that are no text cannot be added to.
static void cut_compressed_stream_is_broken_off(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    reset(f.up);
    check_broken_off(f.client);
    check_str(message_at(f.client, 0).body, "abc");
    check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
    world_close(&f.w);
}

static void cut_answer_of_known_length_is_broken_off(void **state UNUSED) {
    for (int by_reset = 0; by_reset <= 1; by_reset++) {
        struct flow f;
        begin(&f, ONE_UPSTREAM, "up");
        answer(f.up, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        if (by_reset) {
            reset(f.up);
        } else {
            close_peer(f.up);
        }
        check_broken_off(f.client);
        check_str(message_at(f.client, 0).body, "half");
        check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
        world_close(&f.w);
    }
}

static void cut_chunked_answer_is_broken_off(void **state UNUSED) {
    for (int by_reset = 0; by_reset <= 1; by_reset++) {
        struct flow f;
        begin(&f, ONE_UPSTREAM, "up");
        answer(f.up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        if (by_reset) {
            reset(f.up);
        } else {
            close_peer(f.up);
        }
        check_broken_off(f.client);
        check_str(message_at(f.client, 0).body, "half");
        check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
        world_close(&f.w);
    }
}

// What would end in order with the connection does not when that was reset.
static void reset_of_an_answer_until_the_end_is_a_cut(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, "HTTP/1.1 200 OK\r\n\r\nhalf");
    reset(f.up);
    check_broken_off(f.client);
    check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
    world_close(&f.w);
}

// To an HTTP/1.0 client an orderly end would say that the answer is whole: it gets a reset.
static void cut_answer_to_http_1_0_is_reset(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.0\r\n\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    close_peer(up);
    check_int(client->end, ERR_RESET);
    check_only(&w, OUTCOME_UPSTREAM_CUT, 1);
    world_close(&w);
}

// ---- after the end, between two calls

static void idle_connection_that_ended_is_not_used_again(void **state UNUSED) {
    for (int how = 0; how < (flow_upstream_h2 ? 2 : 3); how++) {
        struct flow f;
        begin(&f, ONE_UPSTREAM, "up");
        answer(f.up, OK_ANSWER);
        if (how == 0) {
            close_peer(f.up);
        } else if (how == 1) {
            reset(f.up);
        } else {
            answer(f.up, "H"); // bytes nobody asked for
            check_dropped(f.up);
        }
        forget(f.client);
        client_post(f.client, CHAT_PATH, CHAT);
        check_int(upstream_count(&f.w, "up"), 2);
        answer(upstream_peer(&f.w, "up", 1), OK_ANSWER);
        check_only(&f.w, OUTCOME_COMPLETE, 2);
        world_close(&f.w);
    }
}

static void connection_with_bytes_behind_the_answer_is_not_used_again(void **state UNUSED) {
    static const char *const answers[] = {OK_ANSWER "HTTP/1.1 200 OK\r\n",
                                          "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
                                          "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"};
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct flow f;
        begin(&f, ONE_UPSTREAM, "up");
        answer(f.up, answers[i]);
        check_str(message_at(f.client, 0).body, "{}");
        check_dropped(f.up);
        check_only(&f.w, OUTCOME_COMPLETE, 1);
        world_close(&f.w);
    }
}

static void idle_connection_is_closed_after_a_while(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, OK_ANSWER);
    advance(&f.w, 49 * 1000);
    check_open(f.up);
    advance(&f.w, 2 * 1000);
    check_dropped(f.up);
    world_close(&f.w);
}

// ---- trying again

// The upstream had closed the kept connection, and the news had not come yet.
static void dead_kept_connection_is_tried_once_more(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS, "a");
    answer(f.up, OK_ANSWER);
    forget(f.client);
    peer_read(f.up, 0); // nothing of the next request reaches its program
    peer_queue(f.client, STR("POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}"));
    if (small_window()) {
        settle(&f.w);
    }
    reset(f.up);
    check_int(upstream_count(&f.w, "a"), 2);
    struct parsed again = message_at(upstream_peer(&f.w, "a", 1), 0);
    check_str(again.body, "{\"model\":\"m\"}");
    check(again.whole);
    answer(upstream_peer(&f.w, "a", 1), OK_ANSWER);
    check_int(upstream_count(&f.w, "b"), 0);
    check_only(&f.w, OUTCOME_COMPLETE, 2);
    world_close(&f.w);
}

// One kept connection after the other could be dead: it is a fresh one that is tried, and that one only.
static void fresh_connection_that_breaks_is_not_tried_again(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS, "a");
    answer(f.up, OK_ANSWER);
    forget(f.client);
    peer_read(f.up, 0);
    f.w.deaf = true; // connections made from now on read nothing
    client_post(f.client, CHAT_PATH, CHAT);
    reset(f.up);
    reset(upstream_peer(&f.w, "a", 1));
    check_error(f.client, 502, "The upstream 'a' (mock) failed: ");
    check_int(upstream_count(&f.w, "a"), 2);
    check_int(upstream_count(&f.w, "b"), 0);
    check_int(count_of(&f.w.worker.meter->outcomes[OUTCOME_UPSTREAM_LOST]), 1);
    world_close(&f.w);
}

// RFC 9110 section 9.2.2: what may be repeated is, also when the upstream had read it.
static void idempotent_call_on_a_kept_connection_is_tried_once_more(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n");
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n");
    close_peer(upstream_peer(&w, "up", 0));
    check(message_at(upstream_peer(&w, "up", 1), 0).whole);
    close_peer(upstream_peer(&w, "up", 1));
    check_int(upstream_count(&w, "up"), 2);
    check_int(last_message(client).status, 502);
    check_int(count_of(&w.worker.meter->outcomes[OUTCOME_UPSTREAM_LOST]), 1);
    world_close(&w);
}

// SPEC: a call that was sent and then lost may have been billed.
static void touched_kept_connection_is_not_tried_again(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS, "a");
    answer(f.up, OK_ANSWER);
    forget(f.client);
    forget(f.up);
    peer_read(f.up, 1);
    client_post(f.client, CHAT_PATH, CHAT);
    check_int(f.up->got_len, 1);
    reset(f.up);
    check_error(f.client, 502, "The upstream 'a' (mock) failed: ");
    check_int(upstream_count(&f.w, "a"), 1);
    check_int(upstream_count(&f.w, "b"), 0);
    check_int(count_of(&f.w.worker.meter->outcomes[OUTCOME_UPSTREAM_LOST]), 1);
    world_close(&f.w);
}

static void upload_that_was_begun_is_not_tried_again(void **state UNUSED) {
    struct world w;
    world_open(&w, TWO_UPSTREAMS);
    struct peer *client = client_open(&w);
    send_text(client, "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello");
    reset(upstream_peer(&w, "a", 0));
    struct parsed m = message_at(client, 0);
    check_int(m.status, 502);
    check(m.whole);
    check_int(client->end, ERR_EOF); // the rest of the upload is not waited for
    check_int(upstream_count(&w, "b"), 0);
    check_only(&w, OUTCOME_UPSTREAM_LOST, 1);
    world_close(&w);
}

// A port of this machine that is taken but not listened on: connecting is refused at once, always.
static int refusing_port(unsigned *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0);
    check(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    *port = ntohs(a.sin_port);
    return fd;
}

// UPSTREAM_UNREACHED
static void upstream_that_refuses_connections_is_told(void **state UNUSED) {
    struct world w;
    char yaml[200];
    unsigned port = 0;
    int fd = refusing_port(&port);
    snprintf(yaml, sizeof yaml,
             "upstreams: {down: {url: 'http://127.0.0.1:%u/v1'}, up: {url: mock}}\nmodels: {m: {use: [down]}}\n", port);
    world_open(&w, yaml);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    check_error(client, 502, "The upstream 'down' (127.0.0.1:");
    check_int(upstream_count(&w, "up"), 0);
    check_only(&w, OUTCOME_UPSTREAM_UNREACHED, 1);
    world_close(&w);
    close(fd);
}

// No socket can be made from now on.
static struct rlimit take_descriptors(void) {
    struct rlimit before;
    int next = dup(STDIN_FILENO);
    check_int(getrlimit(RLIMIT_NOFILE, &before), 0);
    check_int(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)next, before.rlim_max}), 0);
    close(next);
    return before;
}

// EXHAUSTED: another upstream would fail the same way.
static void call_without_a_descriptor_is_refused(void **state UNUSED) {
    struct world w;
    char yaml[200];
    unsigned port = 0;
    int fd = refusing_port(&port);
    snprintf(yaml, sizeof yaml,
             "upstreams: {out: {url: 'http://127.0.0.1:%u/v1'}, up: {url: mock}}\nmodels: {m: {use: [out, up]}}\n",
             port);
    world_open(&w, yaml);
    struct rlimit before = take_descriptors();
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    check_int(setrlimit(RLIMIT_NOFILE, &before), 0);
    check_error(client, 503, "The upstream 'out' (127.0.0.1:");
    check_has(client, "out of file descriptors");
    check_int(upstream_count(&w, "up"), 0);
    check_only(&w, OUTCOME_EXHAUSTED, 1);
    world_close(&w);
    close(fd);
}

// A connection that only waits is closed for it, and the call tried once more; in memory that frees none.
static void call_without_a_descriptor_has_idle_connections_closed(void **state UNUSED) {
    struct world w;
    char yaml[200];
    unsigned port = 0;
    int fd = refusing_port(&port);
    snprintf(yaml, sizeof yaml,
             "upstreams: {out: {url: 'http://127.0.0.1:%u/v1'}, up: {url: mock}}\nmodels: {m: {use: [out]}}\n", port);
    world_open(&w, yaml);
    struct peer *idle = client_open(&w);
    client_ask(idle, "GET /healthz", "", NULL);
    struct rlimit before = take_descriptors();
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    check_int(setrlimit(RLIMIT_NOFILE, &before), 0);
    check_int(idle->end, ERR_EOF);
    check_error(client, 503, "out of file descriptors");
    check_int(outcomes_of(&w, OUTCOME_EXHAUSTED), 1);
    world_close(&w);
    close(fd);
}

static void refused_connection_falls_on_the_next_upstream(void **state UNUSED) {
    static const char *const requests[] = {
        "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n{\"a\":1, \"model\":\"m\"}",
        "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n{\"a\":1, \"model\":\"y\"}",
        "POST /v1/files HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n{\"a\":1, "
        "\"model\":\"y\"}\r\n0\r\n\r\n",
    };
    unsigned port = 0;
    int fd = refusing_port(&port);
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct world w;
        char yaml[300];
        snprintf(yaml, sizeof yaml,
                 "upstreams: {down: {url: 'http://127.0.0.1:%u/v1', key: sk-down}, up: {url: mock}}\n"
                 "models: {m: {use: [down/x, up/y]}}\n",
                 port);
        world_open(&w, yaml);
        struct peer *client = client_open(&w);
        send_text(client, requests[i]);
        struct peer *up = upstream_peer(&w, "up", 0);
        struct parsed m = message_at(up, 0);
        check_str(m.body, "{\"a\":1, \"model\":\"y\"}");
        check(m.whole);
        check_lacks(up, "sk-down");
        answer(up, OK_ANSWER);
        check_only(&w, OUTCOME_COMPLETE, 1);
        world_close(&w);
    }
    close(fd);
}

// ---- silence

// The name server never answers, which is where a connect can hang without a network.
static void connecting_that_hangs_is_given_up(void **state UNUSED) {
    struct world w;
    char servers[32];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    snprintf(servers, sizeof servers, "127.0.0.1:%u", ntohs(a.sin_port));
    world_open_with_dns(&w,
                        "upstreams: {far: {url: 'http://far.test/v1', timeouts: {connect: 1s}}, up: {url: mock}}\n"
                        "models: {m: {use: [far]}, n: {use: [far, up]}}\n",
                        servers);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    advance(&w, 999);
    check_int(client->got_len, 0);
    advance(&w, 1);
    check_error(client, 504, "The upstream 'far' (far.test) failed: ");
    check_only(&w, OUTCOME_UPSTREAM_UNREACHED, 1);
    forget(client);
    client_post(client, CHAT_PATH, "{\"model\":\"n\"}");
    advance(&w, 1000);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    check_int(message_at(client, 0).status, 200);
    world_close(&w);
    close(fd);
}

// TIMEOUT_FIRST_BYTE
static void silence_before_the_answer_is_a_timeout(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS, "a");
    advance(&f.w, FIRST_BYTE_MS - 1);
    check_int(f.client->got_len, 0);
    check_open(f.up);
    advance(&f.w, 1);
    check_error(f.client, 504, "did not begin to answer within 5m (timeouts: first_byte)");
    check_dropped(f.up);
    check_int(upstream_count(&f.w, "b"), 0); // not tried again: it may be working
    check_only(&f.w, OUTCOME_TIMEOUT_FIRST_BYTE, 1);
    world_close(&f.w);
}

static void half_a_head_and_interim_answers_are_silence(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    advance(&f.w, FIRST_BYTE_MS / 2);
    answer(f.up, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200");
    advance(&f.w, FIRST_BYTE_MS / 2);
    check_int(last_message(f.client).status, 504);
    check_dropped(f.up);
    check_only(&f.w, OUTCOME_TIMEOUT_FIRST_BYTE, 1);
    world_close(&f.w);
}

static void upstream_that_does_not_read_is_a_timeout(void **state UNUSED) {
    struct flow f;
    char *body = xmalloc(3 * MEM_WINDOW + 1);
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, OK_ANSWER);
    forget(f.client);
    peer_read(f.up, 0);
    memset(body, ' ', 3 * MEM_WINDOW);
    memcpy(body, "{}", 2);
    body[small_window() ? 1000 : 3 * MEM_WINDOW] = 0;
    client_post(f.client, "/v1/embeddings", body);
    advance(&f.w, FIRST_BYTE_MS - 1);
    check_int(f.client->got_len, 0);
    peer_read(f.up, small_window() ? 500 : 4); // progress in the body: the time begins again
    settle(&f.w);
    advance(&f.w, FIRST_BYTE_MS - 1);
    check_int(f.client->got_len, 0);
    advance(&f.w, 1);
    struct parsed m = message_at(f.client, 0);
    check_int(m.status, 504);
    check_int(count_of(&f.w.worker.meter->outcomes[OUTCOME_TIMEOUT_FIRST_BYTE]), 1);
    free(body);
    world_close(&f.w);
}

// TIMEOUT_BETWEEN
static void silence_in_a_stream_is_a_timeout(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    advance(&f.w, FIRST_BYTE_MS - 1);
    answer(f.up, STREAM_HEAD);
    advance(&f.w, BETWEEN_MS - 1);
    answer(f.up, "b\r\ndata: one\n\n\r\n");
    advance(&f.w, BETWEEN_MS - 1);
    check_open(f.client);
    advance(&f.w, 1);
    check_error_event(f.client, "data: one\n\n");
    check_has(f.client, "it sent nothing for 2m (timeouts: between)");
    check_dropped(f.up);
    check_only(&f.w, OUTCOME_TIMEOUT_BETWEEN, 1);
    world_close(&f.w);
}

static void comments_and_half_events_are_silence(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, STREAM_HEAD);
    for (unsigned i = 0; i < 11; i++) {
        advance(&f.w, BETWEEN_MS / 12);
        answer(f.up, "8\r\n: ping\n\n\r\n");
        check_open(f.up);
    }
    answer(f.up, "6\r\ndata: \r\n");
    advance(&f.w, BETWEEN_MS / 12);
    check_dropped(f.up);
    check_has(f.client, "stream_cut");
    check_only(&f.w, OUTCOME_TIMEOUT_BETWEEN, 1);
    world_close(&f.w);
}

static void silence_in_an_answer_breaks_it_off(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
    for (unsigned i = 0; i < 5; i++) { // each byte is progress here
        advance(&f.w, BETWEEN_MS - 1);
        answer(f.up, "x");
    }
    advance(&f.w, BETWEEN_MS);
    check_broken_off(f.client);
    check_dropped(f.up);
    check_only(&f.w, OUTCOME_TIMEOUT_BETWEEN, 1);
    world_close(&f.w);
}

// TIMEOUT_TOTAL
static void calls_take_no_longer_than_they_may(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM, "up");
    answer(f.up, STREAM_HEAD);
    for (unsigned i = 0; i < 9; i++) {
        advance(&f.w, TOTAL_MS / 9 - 1);
        answer(f.up, "7\r\ndata:\n\n\r\n");
    }
    check_open(f.client);
    advance(&f.w, 9);
    check_dropped(f.up);
    check_has(f.client, "its answer was not complete within 15m (timeouts: total)");
    check_broken_off(f.client);
    check_only(&f.w, OUTCOME_TIMEOUT_TOTAL, 1);
    world_close(&f.w);
}

static void total_time_counts_before_the_answer_too(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM "timeouts: {total: 10s}\n", "up");
    advance(&f.w, 10 * 1000);
    check_error(f.client, 504, "not complete within 10s (timeouts: total)");
    check_only(&f.w, OUTCOME_TIMEOUT_TOTAL, 1);
    world_close(&f.w);
}

static void upstreams_own_timeouts_hold(void **state UNUSED) {
    struct flow f;
    begin(&f, "upstreams: {up: {url: mock, timeouts: {first_byte: 2s, between: 1s}}}\n", "up");
    advance(&f.w, 1999);
    answer(f.up, STREAM_HEAD);
    advance(&f.w, 999);
    check_open(f.client);
    advance(&f.w, 1);
    check_only(&f.w, OUTCOME_TIMEOUT_BETWEEN, 1);
    world_close(&f.w);
}

// ---- the answer before the request is all there (facts A53)

static void early_answer_reaches_the_uploader(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\nbegin");
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig");
    check_dropped(up);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 413);
    check_str(m.body, "big");
    check(m.whole);
    check_int(client->end, ERR_EOF);
    check_only(&w, OUTCOME_COMPLETE, 1);
    send_text(client, "more of it"); // read and thrown away, so that closing does not reset what we said
    advance(&w, 2000);
    world_close(&w);
}

static void early_answer_of_an_upstream_that_closes_is_not_lost(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nbegin");
    struct peer *up = upstream_peer(&w, "up", 0);
    peer_queue(up, STR("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"));
    if (!small_window()) {
        peer_close(up);
        peer_queue(client, STR("begin"));
        settle(&w);
        check_int(message_at(client, 0).status, 403);
        check_only(&w, OUTCOME_COMPLETE, 1);
    }
    world_close(&w);
}

static void upload_goes_on_beside_the_answer(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST /v1/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\none");
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none");
    check_str(message_at(client, 0).body, "one");
    send_text(client, "two");
    check_str(message_at(up, 0).body, "onetwo");
    check(message_at(up, 0).whole);
    answer(up, "two");
    check_str(message_at(client, 0).body, "onetwo");
    struct parsed m = message_at(client, 0);
    check(m.whole);
    if (!flow_client_h2) { // said when nobody could know how the upload would end
        check_str(field_of(&m, "connection"), "close");
        check_int(client->end, ERR_EOF);
    }
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

FLOWS(TEST(upstream_end_before_its_answer_is_told), TEST(upstream_half_close_before_its_answer_is_told),
      TEST(upstream_reset_before_its_answer_is_told),
      H1_ONLY(UPSTREAM, upstream_cut_in_its_head_is_told, "half a head is no frame"),
      H1_ONLY(UPSTREAM, upstream_that_answers_nonsense_is_told,
              "its nonsense is HTTP/1.1's; HTTP/2's is in test_h2_upstream.c"),
      TEST(upstream_with_too_many_interim_answers_is_dropped), TEST(head_that_has_not_gone_on_becomes_502),
      TEST(upstream_reset_mid_stream_tells_client), TEST(upstream_end_mid_stream_tells_client),
      TEST(cut_event_begins_at_an_event_boundary), H1_ONLY(UPSTREAM, malformed_chunk_mid_stream_tells_client, "chunks"),
      TEST(cut_stream_of_known_length_is_broken_off), TEST(cut_compressed_stream_is_broken_off),
      TEST(cut_answer_of_known_length_is_broken_off), TEST(cut_chunked_answer_is_broken_off),
      TEST(reset_of_an_answer_until_the_end_is_a_cut),
      H1_ONLY(CLIENT, cut_answer_to_http_1_0_is_reset, "an HTTP/1.0 client"),
      TEST(idle_connection_that_ended_is_not_used_again),
      H1_ONLY(UPSTREAM, connection_with_bytes_behind_the_answer_is_not_used_again, "bytes that belong to no stream"),
      TEST(idle_connection_is_closed_after_a_while), TEST(dead_kept_connection_is_tried_once_more),
      H1_ONLY(UPSTREAM, fresh_connection_that_breaks_is_not_tried_again,
              "an upstream that reads nothing has no streams"),
      TEST(idempotent_call_on_a_kept_connection_is_tried_once_more),
      H1_ONLY(UPSTREAM, touched_kept_connection_is_not_tried_again, "an upstream that reads a byte has no stream"),
      TEST(upload_that_was_begun_is_not_tried_again), TEST(upstream_that_refuses_connections_is_told),
      TEST(call_without_a_descriptor_is_refused), TEST(call_without_a_descriptor_has_idle_connections_closed),
      TEST(refused_connection_falls_on_the_next_upstream), TEST(connecting_that_hangs_is_given_up),
      TEST(silence_before_the_answer_is_a_timeout), TEST(half_a_head_and_interim_answers_are_silence),
      H1_ONLY(UPSTREAM, upstream_that_does_not_read_is_a_timeout, "who does not read does not answer a PING either"),
      TEST(silence_in_a_stream_is_a_timeout), TEST(comments_and_half_events_are_silence),
      TEST(silence_in_an_answer_breaks_it_off), TEST(calls_take_no_longer_than_they_may),
      TEST(total_time_counts_before_the_answer_too), TEST(upstreams_own_timeouts_hold),
      TEST(early_answer_reaches_the_uploader), TEST(early_answer_of_an_upstream_that_closes_is_not_lost),
      TEST(upload_goes_on_beside_the_answer))
