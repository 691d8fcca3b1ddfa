// SPDX-License-Identifier: MIT
// The client's rows of docs/internals/close-table.md: what its leaving and its silence do to the upstream and to the
// outcome. A half-close counts as leaving (facts A52): tokens cost money.
#include <arpa/inet.h>
#include <unistd.h>

#include "flow.h"

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define HEADER_MS (10 * 1000)
#define IDLE_MS (75 * 1000)
enum { WAYS = BY_RESET + 1 };
// HTTP/2 looks at its silent streams four times in that.
static uint64_t late_ms(void) { return flow_client_h2 ? IDLE_MS / 4 : 0; }

// The three ways to leave.
static void leave(struct peer *p, int way) {
    switch (way) {
    case BY_CLOSE: close_peer(p); break;
    case BY_FINISH: finish(p); break;
    default: reset(p); break;
    }
}

// ---- before and in its head

static void client_that_says_nothing_is_no_request(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    for (int way = 0; way < WAYS; way++) {
        leave(client_open(&w), way);
    }
    struct peer *silent = client_open(&w);
    advance(&w, IDLE_MS - 1);
    check_open(silent);
    advance(&w, 1);
    check_int(silent->end, ERR_EOF);
    check_int(silent->got_len, 0);
    check_int(w.worker.server.open, 0);
    check_int(outcomes_total(&w), 0);
    world_close(&w);
}

static void client_that_leaves_in_its_head_is_no_request(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    for (int way = 0; way < WAYS; way++) {
        struct peer *client = client_open(&w);
        send_text(client, "POST " CHAT_PATH " HTTP/1.1\r\nHost");
        leave(client, way);
    }
    check_int(w.worker.server.open, 0);
    check_int(outcomes_total(&w), 0);
    world_close(&w);
}

static void head_that_comes_too_slowly_is_refused(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/");
    for (unsigned i = 0; i < 10; i++) { // slowloris: each byte in time, the head not
        send_text(client, "x");
        advance(&w, HEADER_MS / 10 - 1);
    }
    check_int(client->got_len, 0);
    advance(&w, 10);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 408);
    check(m.whole);
    check_int(client->end, ERR_EOF);
    check_only(&w, OUTCOME_REFUSED, 1);
    advance(&w, 2000); // it is waited for a little, then closed
    check_int(w.worker.server.open, 0);
    world_close(&w);
}

// ---- in its body

// GONE_SENDING
static void client_that_leaves_in_a_looked_at_body_costs_nothing(void **state UNUSED) {
    for (int way = 0; way < WAYS; way++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        send_text(client, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{\"model\":");
        leave(client, way);
        check_int(client->got_len, 0);
        check_int(w.worker.server.open, 0);
        check_int(upstream_count(&w, "up"), 0);
        check_only(&w, OUTCOME_GONE_SENDING, 1);
        world_close(&w);
    }
}

static void client_that_leaves_in_an_upload_drops_the_call(void **state UNUSED) {
    for (int way = 0; way < WAYS; way++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        send_text(client, "POST /v1/files HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        struct peer *up = upstream_peer(&w, "up", 0);
        check_str(message_at(up, 0).body, "hello");
        leave(client, way);
        check_dropped(up);
        check(!message_at(up, 0).whole); // no final chunk: half an upload must not look like one
        check_int(w.worker.server.open, 0);
        check_only(&w, OUTCOME_GONE_SENDING, 1);
        world_close(&w);
    }
}

static void looked_at_body_that_stalls_is_refused(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{");
    advance(&w, IDLE_MS - 1);
    send_text(client, " ");
    advance(&w, IDLE_MS - 1);
    check_int(client->got_len, 0);
    advance(&w, 1 + late_ms());
    struct parsed m = message_at(client, 0);
    check_int(m.status, 408);
    check(m.whole);
    check_int(client->end, ERR_EOF);
    check_int(upstream_count(&w, "up"), 0);
    check_only(&w, OUTCOME_REFUSED, 1);
    world_close(&w);
}

static void upload_that_stalls_is_refused(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhello");
    advance(&w, IDLE_MS + late_ms());
    check_int(message_at(client, 0).status, 408);
    check(!message_at(upstream_peer(&w, "up", 0), 0).whole);
    check_dropped(upstream_peer(&w, "up", 0));
    check_only(&w, OUTCOME_REFUSED, 1);
    world_close(&w);
}

static void upload_with_a_malformed_chunk_is_refused(void **state UNUSED) {
    static const char *const chunks[] = {"zz\r\n", "-1\r\n", "fffffffffffffffff\r\n", "5\r\nhelloX\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        send_text(client, "POST /v1/files HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        send_text(client, chunks[i]);
        struct parsed m = message_at(client, 0);
        check_int(m.status, 400);
        check(m.whole);
        check_int(client->end, ERR_EOF);
        check_dropped(upstream_peer(&w, "up", 0));
        check(!message_at(upstream_peer(&w, "up", 0), 0).whole);
        check_only(&w, OUTCOME_REFUSED, 1);
        world_close(&w);
    }
}

// The answer has begun: it cannot be replaced by a refusal, only broken off.
static void upload_that_breaks_beside_its_answer_breaks_it_off(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST /v1/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    send_text(client, "zz\r\n");
    check_str(message_at(client, 0).body, "ok");
    check(!message_at(client, 0).whole);
    check(client->end != OK);
    check_dropped(up);
    check_only(&w, OUTCOME_REFUSED, 1);
    world_close(&w);
}

// ---- after its request

// GONE_WAITING
static void client_that_leaves_while_waiting_drops_the_call(void **state UNUSED) {
    for (int way = 0; way < WAYS; way++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        client_post(client, CHAT_PATH, CHAT);
        struct peer *up = upstream_peer(&w, "up", 0);
        check_open(up);
        leave(client, way); // no time passes: it is noticed at once
        check_dropped(up);
        check_int(client->got_len, 0);
        check_int(w.worker.server.open, 0);
        check_only(&w, OUTCOME_GONE_WAITING, 1);
        world_close(&w);
    }
}

static void client_that_leaves_in_the_upstreams_head_drops_the_call(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nConte");
    leave(client, BY_RESET);
    check_dropped(up);
    check_only(&w, OUTCOME_GONE_WAITING, 1);
    world_close(&w);
}

static void client_that_leaves_while_connecting_ends_the_attempt(void **state UNUSED) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); // a name server that never answers
    check(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    for (int way = 0; way < WAYS; way++) {
        struct world w;
        char servers[32];
        snprintf(servers, sizeof servers, "127.0.0.1:%u", ntohs(a.sin_port));
        world_open_with_dns(&w, "upstreams: {far: {url: 'http://far.test/v1'}, up: {url: mock}}\n", servers);
        struct peer *client = client_open(&w);
        client_post(client, CHAT_PATH, CHAT);
        check_int(w.worker.setup->upstreams[0].origin.open, 1);
        leave(client, way);
        check_int(w.worker.setup->upstreams[0].origin.open, 0);
        check_only(&w, OUTCOME_GONE_WAITING, 1);
        advance(&w, 60 * 1000); // and nothing comes after it
        check_int(upstream_count(&w, "up"), 0);
        world_close(&w);
    }
    close(fd);
}

// GONE_READING
static void client_that_leaves_mid_stream_drops_the_call(void **state UNUSED) {
    for (int way = 0; way < WAYS; way++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        client_post(client, CHAT_PATH, CHAT);
        struct peer *up = upstream_peer(&w, "up", 0);
        answer(up, STREAM_HEAD "b\r\ndata: one\n\n\r\n");
        leave(client, way);
        check_dropped(up);
        check_int(w.worker.server.open, 0);
        check_only(&w, OUTCOME_GONE_READING, 1);
        world_close(&w);
    }
}

static void client_that_leaves_after_the_head_drops_the_call(void **state UNUSED) {
    for (int way = 0; way < WAYS; way++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        client_post(client, CHAT_PATH, CHAT);
        struct peer *up = upstream_peer(&w, "up", 0);
        answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
        leave(client, way);
        check_dropped(up);
        check_only(&w, OUTCOME_GONE_READING, 1);
        world_close(&w);
    }
}

// What is left of the answer is on the tape, the upstream is done with it and its connection is kept.
static void client_that_leaves_before_it_has_read_all_costs_the_upstream_nothing(void **state UNUSED) {
    for (int way = 0; way < WAYS; way++) {
        struct world w;
        char text[400];
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        peer_read(client, 0);
        client_post(client, CHAT_PATH, CHAT);
        struct peer *up = upstream_peer(&w, "up", 0);
        if (!small_window()) { // fill the connection to the client first
            char *much = xmalloc(MEM_WINDOW);
            memset(much, 'x', MEM_WINDOW);
            snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", MEM_WINDOW + 10);
            answer(up, text);
            send_bytes(up, str_from(much, MEM_WINDOW));
            free(much);
        } else {
            answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        }
        answer(up, "0123456789");
        check_open(up);
        check_int(outcomes_total(&w), 0);
        leave(client, way);
        check_open(up);
        check_int(w.worker.setup->upstreams[0].origin.open, 1);
        check_only(&w, OUTCOME_GONE_READING, 1);
        world_close(&w);
    }
}

static void client_that_leaves_in_a_local_answer_is_gone(void **state UNUSED) {
    for (int way = 0; way < WAYS; way++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        peer_read(client, 0);
        send_text(client, "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
        check_int(outcomes_total(&w), small_window() ? 0 : 1);
        leave(client, way);
        check_int(w.worker.server.open, 0);
        check_only(&w, small_window() ? OUTCOME_GONE_READING : OUTCOME_REFUSED, 1);
        world_close(&w);
    }
}

// The request has its outcome; what is left of its answer is framing only, and still in the connection's hands.
static void client_that_leaves_behind_the_last_byte_has_its_answer(void **state UNUSED) {
    for (int way = 0; way < WAYS; way++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        client_post(client, CHAT_PATH, CHAT);
        struct peer *up = upstream_peer(&w, "up", 0);
        answer(up, STREAM_HEAD "b\r\ndata: one\n\n\r\n");
        peer_read(client, 0);
        answer(up, "0\r\n\r\n");
        check_only(&w, OUTCOME_COMPLETE, 1);
        check_open(up);
        leave(client, way);
        check_int(w.worker.server.open, 0);
        check_only(&w, OUTCOME_COMPLETE, 1);
        world_close(&w);
    }
}

// Its upload is not all there, its answer is, but for a few bytes on the way: none of what still comes may matter.
static void upload_behind_a_finished_answer_goes_nowhere(void **state UNUSED) {
    for (int way = 0; way <= WAYS; way++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        send_text(client, "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello");
        struct peer *up = upstream_peer(&w, "up", 0);
        peer_read(client, 0);
        answer(up, "HTTP/1.1 413 Content Too Large\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        check_only(&w, OUTCOME_COMPLETE, 1);
        send_text(client, "w");
        if (way < WAYS) {
            leave(client, way);
        } else {
            send_text(client, "orld");
            peer_read(client, SIZE_MAX);
            settle(&w);
            check(message_at(client, 0).whole);
        }
        check_only(&w, OUTCOME_COMPLETE, 1);
        world_close(&w);
    }
}

// ---- after the end, between two requests

static void idle_client_that_leaves_is_forgotten(void **state UNUSED) {
    for (int way = 0; way < WAYS; way++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        client_post(client, CHAT_PATH, CHAT);
        answer(upstream_peer(&w, "up", 0), OK_ANSWER);
        leave(client, way);
        check_int(w.worker.server.open, 0);
        check_open(upstream_peer(&w, "up", 0));
        check_only(&w, OUTCOME_COMPLETE, 1);
        world_close(&w);
    }
}

static void idle_client_is_closed_after_a_while(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    advance(&w, IDLE_MS - 1);
    check_open(client);
    advance(&w, 1);
    check_int(client->end, ERR_EOF);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void client_that_leaves_behind_a_pipelined_request_gets_neither_answer(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/one HTTP/1.1\r\nHost: h\r\n\r\nGET /v1/two HTTP/1.1\r\nHost: h\r\n\r\n");
    leave(client, small_window() ? BY_RESET : BY_FINISH); // its FIN waits behind what nobody reads yet
    check_dropped(upstream_peer(&w, "up", 0));
    check_int(upstream_count(&w, "up"), 1);
    check_only(&w, OUTCOME_GONE_WAITING, 1);
    world_close(&w);
}

FLOWS(TEST(client_that_says_nothing_is_no_request), TEST(client_that_leaves_in_its_head_is_no_request),
      H1_ONLY(CLIENT, head_that_comes_too_slowly_is_refused, "half a head is no frame"),
      TEST(client_that_leaves_in_a_looked_at_body_costs_nothing), TEST(client_that_leaves_in_an_upload_drops_the_call),
      TEST(looked_at_body_that_stalls_is_refused), TEST(upload_that_stalls_is_refused),
      H1_ONLY(CLIENT, upload_with_a_malformed_chunk_is_refused, "chunks"),
      H1_ONLY(CLIENT, upload_that_breaks_beside_its_answer_breaks_it_off, "chunks"),
      TEST(client_that_leaves_while_waiting_drops_the_call),
      TEST(client_that_leaves_in_the_upstreams_head_drops_the_call),
      TEST(client_that_leaves_while_connecting_ends_the_attempt), TEST(client_that_leaves_mid_stream_drops_the_call),
      TEST(client_that_leaves_after_the_head_drops_the_call),
      TEST(client_that_leaves_before_it_has_read_all_costs_the_upstream_nothing),
      TEST(client_that_leaves_in_a_local_answer_is_gone), TEST(client_that_leaves_behind_the_last_byte_has_its_answer),
      TEST(upload_behind_a_finished_answer_goes_nowhere), TEST(idle_client_that_leaves_is_forgotten),
      TEST(idle_client_is_closed_after_a_while),
      TEST(client_that_leaves_behind_a_pipelined_request_gets_neither_answer))
