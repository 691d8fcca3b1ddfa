// SPDX-License-Identifier: MIT
// The worker's own end: shutdown in every state leaves nothing behind (the sanitizers watch), and draining lets go of
// what is idle, finishes what runs, and no more.
#include <arpa/inet.h>
#include <unistd.h>

#include "flow.h"

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

static void finish_and_check(struct world *w, enum outcome o, uint64_t n) {
    world_finish_worker(w);
    check_only(w, o, n);
}

static void shutdown_of_an_idle_worker_leaves_nothing(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    world_close(&w);
    world_open(&w, ONE_UPSTREAM);
    struct peer *silent = client_open(&w);
    struct peer *kept = client_open(&w);
    client_post(kept, CHAT_PATH, CHAT);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    finish_and_check(&w, OUTCOME_COMPLETE, 1);
    check(silent->conn == NULL && kept->conn == NULL);
    world_close(&w);
}

static void shutdown_while_a_head_arrives_is_no_request(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    send_text(client_open(&w), "POST /v1/");
    finish_and_check(&w, OUTCOME_COMPLETE, 0);
    world_close(&w);
}

// SHUTDOWN
static void shutdown_while_a_body_arrives_ends_the_request(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    send_text(client_open(&w), "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{\"model\":");
    send_text(client_open(&w), "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhello");
    struct peer *up = upstream_peer(&w, "up", 0);
    finish_and_check(&w, OUTCOME_SHUTDOWN, 2);
    check(!message_at(up, 0).whole);
    world_close(&w);
}

static void shutdown_while_connecting_ends_the_request(void **state UNUSED) {
    struct world w;
    char servers[32];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); // a name server that never answers
    check(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    snprintf(servers, sizeof servers, "127.0.0.1:%u", ntohs(a.sin_port));
    world_open_with_dns(&w, "upstreams: {far: {url: 'http://far.test/v1'}, up: {url: mock}}\n", servers);
    client_post(client_open(&w), CHAT_PATH, CHAT);
    send_text(client_open(&w), "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhello");
    finish_and_check(&w, OUTCOME_SHUTDOWN, 2);
    world_close(&w);
    close(fd);
}

static void shutdown_while_waiting_ends_the_request(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *half = client_open(&w);
    client_post(half, CHAT_PATH, CHAT);
    answer(upstream_peer(&w, "up", 1), "HTTP/1.1 200 O");
    finish_and_check(&w, OUTCOME_SHUTDOWN, 2);
    check_int(client->got_len, 0);
    check_int(half->got_len, 0);
    world_close(&w);
}

// What was cut by our own end does not look complete either.
static void shutdown_in_an_answer_breaks_it_off(void **state UNUSED) {
    static const char *const answers[] = {STREAM_HEAD "b\r\ndata: one\n\n\r\n",
                                          "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
                                          "HTTP/1.1 200 OK\r\n\r\nhalf"};
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        client_post(client, CHAT_PATH, CHAT);
        answer(upstream_peer(&w, "up", 0), answers[i]);
        finish_and_check(&w, OUTCOME_SHUTDOWN, 1);
        check_int(message_at(client, 0).status, 200);
        check(!message_at(client, 0).whole);
        world_close(&w);
    }
}

static void shutdown_with_a_stalled_client_leaves_nothing(void **state UNUSED) {
    struct world w;
    char *much = xmalloc(4 * MEM_WINDOW);
    memset(much, 'x', 4 * MEM_WINDOW);
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    peer_read(client, 0);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *local = client_open(&w);
    peer_read(local, 0);
    send_text(local, "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
    answer(upstream_peer(&w, "up", 0), "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n");
    send_bytes(upstream_peer(&w, "up", 0), str_from(much, small_window() ? 1000 : 4 * MEM_WINDOW));
    world_finish_worker(&w);
    check_int(count_of(&w.worker.meter->outcomes[OUTCOME_SHUTDOWN]), small_window() ? 2 : 1);
    free(much);
    world_close(&w);
}

static void shutdown_in_a_held_up_upload_leaves_nothing(void **state UNUSED) {
    struct world w;
    char *much = xmalloc(8 * MEM_WINDOW);
    memset(much, 'x', 8 * MEM_WINDOW);
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    w.deaf = true;
    peer_queue(client, STR("POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n"));
    send_bytes(client, str_from(much, small_window() ? 1000 : 8 * MEM_WINDOW));
    finish_and_check(&w, OUTCOME_SHUTDOWN, 1);
    free(much);
    world_close(&w);
}

static void shutdown_behind_an_early_answer_leaves_nothing(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhello");
    check_int(message_at(client, 0).status, 404);
    finish_and_check(&w, OUTCOME_REFUSED, 1);
    world_close(&w);
}

// At any turn at all: a call is stopped after each turn of the loop that it needs.
static void shutdown_at_any_turn_leaves_nothing(void **state UNUSED) {
    for (unsigned turns = 0; turns < 5000; turns++) {
        struct world w;
        unsigned left = turns;
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        peer_queue(client,
                   STR("POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}"));
        bool done = false;
        bool answered = false;
        for (unsigned quiet = 0; left && quiet < 3; left--) {
            quiet = loop_turn(&w.worker.loop, 0) ? 0 : quiet + 1;
            if (!answered && upstream_count(&w, "up") && message_at(upstream_peer(&w, "up", 0), 0).whole) {
                answered = true;
                peer_queue(upstream_peer(&w, "up", 0), STR(STREAM_HEAD "7\r\ndata:\n\n\r\n0\r\n\r\n"));
            }
            done = outcomes_total(&w) == 1;
        }
        world_finish_worker(&w);
        check(count_of(&w.worker.meter->outcomes[OUTCOME_COMPLETE]) == done);
        check(!message_at(client, 0).whole || done);
        world_close(&w);
        if (done && left) {
            return;
        }
        turns += small_window() ? turns / 8 : 0;
    }
    fail_msg("the call never came to an end");
}

// ---- draining

static void draining_finishes_what_runs(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *idle = client_open(&w);
    struct peer *silent = client_open(&w);
    struct peer *busy = client_open(&w);
    client_post(idle, CHAT_PATH, CHAT);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    client_post(busy, CHAT_PATH, CHAT);
    struct peer *late = client_open(&w);
    worker_drain(&w.worker, 60 * 1000);
    advance(&w, 1000);
    client_ask(late, "GET /healthz", "", NULL); // was on its way
    struct parsed last = message_at(late, 0);
    check_int(last.status, 200);
    if (!flow_client_h2) {
        check_str(field_of(&last, "connection"), "close");
        check_int(late->end, ERR_EOF);
    }
    check_open(idle);
    check_open(silent);
    advance(&w, 30 * 1000);
    check_int(idle->end, ERR_EOF);
    check_int(silent->end, ERR_EOF);
    check_int(late->end, ERR_EOF);
    check_open(busy);
    check(!w.worker.loop.stopping);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    struct parsed m = message_at(busy, 0);
    check_int(m.status, 200);
    check(m.whole);
    if (!flow_client_h2) {
        check_str(field_of(&m, "connection"), "close");
    }
    check_int(busy->end, ERR_EOF);
    advance(&w, 100);
    check(w.worker.loop.stopping); // worker_run returns
    check_int(outcomes_of(&w, OUTCOME_COMPLETE), 2);
    check_int(outcomes_of(&w, OUTCOME_LOCAL), 1);
    world_close(&w);
}

static void draining_is_told_to_who_asks(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /readyz HTTP/1.1\r\nHo");
    worker_drain(&w.worker, 60 * 1000);
    send_text(client, "st: h\r\n\r\n");
    struct parsed m = message_at(client, 0);
    check_int(m.status, 503);
    check(str_search(m.body, STR("\"code\":\"draining\"")) < m.body.len);
    check_only(&w, OUTCOME_LOCAL, 1);
    world_close(&w);
}

static void draining_ends_when_its_time_is_up(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *waiting = client_open(&w);
    client_post(waiting, CHAT_PATH, CHAT);
    struct peer *streaming = client_open(&w);
    client_post(streaming, CHAT_PATH, CHAT);
    answer(upstream_peer(&w, "up", 1), STREAM_HEAD "b\r\ndata: one\n\n\r\n");
    worker_drain(&w.worker, 10 * 1000);
    worker_drain(&w.worker, 99 * 1000); // the first one counts
    advance(&w, 9 * 1000);
    check(!w.worker.loop.stopping);
    advance(&w, 1100);
    check_int(message_at(waiting, 0).status, 503);
    check_has(waiting, "being shut down");
    check_has(streaming, "stream_cut");
    check_lacks(streaming, "[DONE]");
    check(!message_at(streaming, 0).whole);
    check_int(count_of(&w.worker.meter->outcomes[OUTCOME_SHUTDOWN]), 2);
    advance(&w, 1000);
    check(w.worker.loop.stopping);
    world_close(&w);
}

FLOWS(TEST(shutdown_of_an_idle_worker_leaves_nothing), TEST(shutdown_while_a_head_arrives_is_no_request),
      TEST(shutdown_while_a_body_arrives_ends_the_request), TEST(shutdown_while_connecting_ends_the_request),
      TEST(shutdown_while_waiting_ends_the_request), TEST(shutdown_in_an_answer_breaks_it_off),
      TEST(shutdown_with_a_stalled_client_leaves_nothing), TEST(shutdown_in_a_held_up_upload_leaves_nothing),
      TEST(shutdown_behind_an_early_answer_leaves_nothing), TEST(shutdown_at_any_turn_leaves_nothing),
      TEST(draining_finishes_what_runs), TEST(draining_is_told_to_who_asks), TEST(draining_ends_when_its_time_is_up))
