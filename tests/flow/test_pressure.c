// SPDX-License-Identifier: MIT
// Back-pressure both ways: who does not read stalls its own peer, costs a bounded amount of memory, holds nobody else
// up, and gets every byte in the end.
#include "flow.h"
#include "gateway/request.h"

enum { TAPE_MOST = 256 * 1024, UPLOAD_MOST = 2 * 256 * 1024, IDLE_MS = 75 * 1000 };

// More than every buffer on the way holds; a byte a turn is slow, so less of it.
static size_t plenty(void) { return small_window() ? 160 * 1024 : 1024 * 1024; }

// Bytes that tell where they belong.
static char *pattern(size_t n) {
    char *bytes = xmalloc(n);
    uint32_t x = 2463534242u;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        bytes[i] = (char)x;
    }
    return bytes;
}

static struct tape_reader *only_reader(struct world *w) {
    check(w->worker.requests.next != &w->worker.requests);
    return &container_of(w->worker.requests.next, struct request, node)->reader;
}

// What the tape holds for its only reader.
static size_t recorded(struct world *w) {
    const struct tape_reader *r = only_reader(w);
    return (size_t)(r->tape->written - r->position);
}

// HTTP/2 looks at its silent streams four times in that.
static uint64_t late_ms(void) { return flow_client_h2 ? IDLE_MS / 4 : 0; }

// More than is on its way while an upstream does not read. HTTP/2's streams have windows of their own.
static size_t too_much(void) {
    return !small_window() ? 8 * MEM_WINDOW : flow_client_h2 || flow_upstream_h2 ? 4 * MEM_WINDOW : 1000;
}

static void send_head(struct peer *up, size_t body, const char *more) {
    char head[200];
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\n\r\n", more, body);
    answer(up, head);
}

static void client_that_never_reads_stalls_its_own_upstream(void **state UNUSED) {
    struct world w;
    size_t n = plenty();
    char *bytes = pattern(n);
    world_open(&w, ONE_UPSTREAM);
    struct peer *deaf = client_open(&w);
    peer_read(deaf, 0);
    client_post(deaf, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    send_head(up, n, "");
    send_bytes(up, str_from(bytes, n));
    check(recorded(&w) <= TAPE_MOST);
    check(recorded(&w) >= TAPE_WINDOW);
    check(unsent(up) + TAPE_MOST + 2 * MEM_WINDOW >= n); // the rest waits at the upstream
    check(unsent(up) > 0);

    struct peer *other = client_open(&w); // is not held up
    client_post(other, CHAT_PATH, CHAT);
    answer(upstream_peer(&w, "up", 1), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    check_str(message_at(other, 0).body, "{}");
    check_only(&w, OUTCOME_COMPLETE, 1);

    peer_read(deaf, SIZE_MAX); // goes on where it stopped
    settle(&w);
    struct parsed m = message_at(deaf, 0);
    check(m.whole);
    check(str_eq(m.body, str_from(bytes, n)));
    check_int(unsent(up), 0);
    check_only(&w, OUTCOME_COMPLETE, 2);
    check_open(up);
    free(bytes);
    world_close(&w);
}

static void client_that_reads_in_fits_and_starts_gets_every_byte(void **state UNUSED) {
    struct world w;
    size_t n = plenty();
    char *bytes = pattern(n);
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    peer_read(client, 0);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (size_t at = 0, i = 0; at < n; i++) {
        char size[20];
        size_t part = MIN(n - at, 1 + (i * 7919) % 30000);
        snprintf(size, sizeof size, "%zx\r\n", part);
        peer_queue(up, str_c(size));
        peer_queue(up, str_from(bytes + at, part));
        peer_queue(up, STR("\r\n"));
        settle(&w);
        at += part;
        peer_read(client, 1 + (i * 104729) % 25000);
        settle(&w);
        check(recorded(&w) <= TAPE_MOST);
    }
    peer_queue(up, STR("0\r\n\r\n"));
    peer_read(client, SIZE_MAX);
    settle(&w);
    struct parsed m = message_at(client, 0);
    check(m.whole);
    check(str_eq(m.body, str_from(bytes, n)));
    check_only(&w, OUTCOME_COMPLETE, 1);
    free(bytes);
    world_close(&w);
}

// Thousands of small events must not cost more than their bytes: nothing is kept for each.
static void stream_of_small_events_is_bounded_too(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    peer_read(client, 0);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, STREAM_HEAD);
    unsigned events = small_window() ? 12000 : 40000;
    for (unsigned i = 0; i < events; i++) {
        char event[40];
        snprintf(event, sizeof event, "e\r\ndata: %06u\n\n\r\n", i);
        peer_queue(up, str_c(event));
        if (i % 16 == 0) {
            settle(&w);
        }
    }
    settle(&w);
    check(recorded(&w) <= TAPE_MOST);
    check(unsent(up) > 0);
    answer(up, "0\r\n\r\n");
    peer_read(client, SIZE_MAX);
    settle(&w);
    struct parsed m = message_at(client, 0);
    check(m.whole);
    check_int(m.body.len, events * 14);
    for (unsigned i = 0; i < events; i++) {
        char event[40];
        snprintf(event, sizeof event, "data: %06u\n\n", i);
        check(str_eq(str_first(str_skip(m.body, i * 14), 14), str_c(event)));
    }
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void fill(struct world *w, struct peer **client, struct peer **up) {
    size_t n = plenty();
    char *bytes = pattern(n);
    *client = client_open(w);
    peer_read(*client, 0);
    client_post(*client, CHAT_PATH, CHAT);
    *up = upstream_peer(w, "up", 0);
    send_head(*up, n, "");
    send_bytes(*up, str_from(bytes, n));
    check(unsent(*up) > 0);
    free(bytes);
}

// GONE_READING
static void client_that_never_reads_is_given_up(void **state UNUSED) {
    struct world w;
    struct peer *client;
    struct peer *up;
    world_open(&w, ONE_UPSTREAM);
    fill(&w, &client, &up);
    advance(&w, IDLE_MS - 1);
    check_open(up);
    advance(&w, 1 + late_ms());
    check_dropped(up);
    check_int(w.worker.server.open, 0);
    check_only(&w, OUTCOME_GONE_READING, 1);
    world_close(&w);
}

static void client_that_never_reads_a_local_answer_is_given_up(void **state UNUSED) {
    if (!small_window()) {
        return; // it fits into the connection
    }
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    peer_read(client, 0);
    send_text(client, "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
    advance(&w, IDLE_MS + late_ms());
    check_int(w.worker.server.open, 0);
    check_only(&w, OUTCOME_GONE_READING, 1);
    world_close(&w);
}

static void client_that_reads_a_little_in_time_is_not_given_up(void **state UNUSED) {
    struct world w;
    struct peer *client;
    struct peer *up;
    world_open(&w, ONE_UPSTREAM "timeouts: {total: 24h, between: 1s}\n");
    fill(&w, &client, &up);
    for (unsigned i = 0; i < 5; i++) { // and the upstream is not blamed for its silence
        advance(&w, IDLE_MS - 1);
        peer_read(client, flow_client_h2 && !small_window() ? MEM_WINDOW : 1000); // windows are given back by halves
        settle(&w);
    }
    check_int(outcomes_total(&w), 0);
    peer_read(client, SIZE_MAX);
    settle(&w);
    check(message_at(client, 0).whole);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

// The time between two pieces begins when the upstream is read from again.
static void upstream_that_was_held_up_has_its_full_time(void **state UNUSED) {
    struct world w;
    struct peer *client;
    struct peer *up;
    world_open(&w, ONE_UPSTREAM "timeouts: {between: 10s}\n");
    fill(&w, &client, &up);
    up->out_at = up->out_len; // it has nothing more to say at present
    advance(&w, 9999);
    peer_read(client, SIZE_MAX);
    settle(&w);
    advance(&w, 9999);
    check_int(outcomes_total(&w), 0);
    advance(&w, 1);
    check_only(&w, OUTCOME_TIMEOUT_BETWEEN, 1);
    check(client->end != OK);
    world_close(&w);
}

// What was on the tape when the upstream broke comes first, then the error, then the end.
static void cut_behind_a_slow_reader_comes_in_its_turn(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    peer_read(client, 0);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, STREAM_HEAD "b\r\ndata: one\n\n\r\n");
    if (!small_window()) {
        char *much = xmalloc(MEM_WINDOW);
        memset(much, ':', MEM_WINDOW);
        answer(up, "10000\r\n");
        send_bytes(up, str_from(much, MEM_WINDOW));
        answer(up, "\r\n2\r\n\n\n\r\n");
        free(much);
    }
    answer(up, "b\r\ndata: two\n\n\r\n");
    reset(up);
    check_int(outcomes_total(&w), 0);
    check_open(client);
    peer_read(client, SIZE_MAX);
    settle(&w);
    struct parsed m = message_at(client, 0);
    check(!m.whole);
    check(client->end != OK);
    check(str_starts(m.body, STR("data: one\n\n")));
    size_t two = str_search(m.body, STR("data: two\n\ndata: {\"error\":{"));
    check(two < m.body.len);
    check(str_ends(m.body, STR("\"code\":\"stream_cut\"}}\n\n")));
    check_only(&w, OUTCOME_UPSTREAM_CUT, 1);
    world_close(&w);
}

// ---- the other way

static void upload_to_a_slow_upstream_is_bounded(void **state UNUSED) {
    struct world w;
    char head[200];
    size_t n = small_window() ? plenty() : 4 * plenty();
    char *bytes = pattern(n);
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    w.deaf = true;
    snprintf(head, sizeof head, "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", n);
    peer_queue(client, str_c(head));
    send_bytes(client, str_from(bytes, n));
    struct peer *up = upstream_peer(&w, "up", 0);
    check(unsent(client) + UPLOAD_MOST >= n); // the rest waits at the client
    check(unsent(client) > 0);
    for (unsigned i = 0; i < 10; i++) {
        peer_read(up, 1 + i * 997);
        settle(&w);
    }
    check(unsent(client) > 0);
    peer_read(up, SIZE_MAX);
    settle(&w);
    struct parsed m = message_at(up, 0);
    check(m.whole);
    check(str_eq(m.body, str_from(bytes, n)));
    answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    check_int(message_at(client, 0).status, 200);
    check_only(&w, OUTCOME_COMPLETE, 1);
    check_open(client);
    check_open(up);
    free(bytes);
    world_close(&w);
}

static void client_that_leaves_in_a_held_up_upload_is_noticed(void **state UNUSED) {
    for (int by_reset = 0; by_reset <= 1; by_reset++) {
        struct world w;
        char *bytes = pattern(8 * MEM_WINDOW);
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        w.deaf = true;
        peer_queue(client, STR("POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n"));
        send_bytes(client, str_from(bytes, too_much()));
        check(unsent(client) > 0);
        if (by_reset) {
            reset(client);
        } else {
            close_peer(client);
        }
        check_int(w.worker.server.open, 0);
        peer_read(upstream_peer(&w, "up", 0), SIZE_MAX);
        check_dropped(upstream_peer(&w, "up", 0));
        check_only(&w, OUTCOME_GONE_SENDING, 1);
        free(bytes);
        world_close(&w);
    }
}

// It is the upstream that is slow: the client's patience is not at an end because it was made to wait.
static void client_that_is_held_up_is_not_too_slow(void **state UNUSED) {
    struct world w;
    char *bytes = pattern(8 * MEM_WINDOW);
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    w.deaf = true;
    peer_queue(client, STR("POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n"));
    send_bytes(client, str_from(bytes, too_much()));
    check(unsent(client) > 0);
    advance(&w, 3 * IDLE_MS);
    check_int(outcomes_total(&w), 0);
    check_int(client->got_len, 0);
    advance(&w, IDLE_MS); // five minutes: now the upstream has had its time
    check_only(&w, OUTCOME_TIMEOUT_FIRST_BYTE, 1);
    check_int(message_at(client, 0).status, 504);
    free(bytes);
    world_close(&w);
}

static void kept_body_reaches_a_slow_upstream_whole(void **state UNUSED) {
    struct world w;
    size_t n = plenty();
    char *body = xmalloc(n + 1);
    memset(body, ' ', n);
    memcpy(body, "{\"model\":\"fast\",\"x\":\"", 21);
    memset(body + 21, 'y', n - 23);
    memcpy(body + n - 2, "\"}", 3);
    world_open(&w, ONE_UPSTREAM "models: {fast: {use: [up/a-longer-name]}}\n");
    struct peer *client = client_open(&w);
    w.deaf = true;
    client_post(client, CHAT_PATH, body);
    struct peer *up = upstream_peer(&w, "up", 0);
    for (unsigned i = 0; i < 100; i++) {
        peer_read(up, 1 + i);
        settle(&w);
    }
    peer_read(up, SIZE_MAX);
    settle(&w);
    struct parsed m = message_at(up, 0);
    check(m.whole);
    check_int(m.body.len, n + 9);
    check(str_starts(m.body, STR("{\"model\":\"a-longer-name\",\"x\":\"y")));
    check(str_eq(str_skip(m.body, 24), str_skip(str_from(body, n), 15)));
    free(body);
    world_close(&w);
}

FLOWS(TEST(client_that_never_reads_stalls_its_own_upstream), TEST(client_that_reads_in_fits_and_starts_gets_every_byte),
      TEST(stream_of_small_events_is_bounded_too), TEST(client_that_never_reads_is_given_up),
      TEST(client_that_never_reads_a_local_answer_is_given_up),
      TEST(client_that_reads_a_little_in_time_is_not_given_up), TEST(upstream_that_was_held_up_has_its_full_time),
      TEST(cut_behind_a_slow_reader_comes_in_its_turn), TEST(upload_to_a_slow_upstream_is_bounded),
      TEST(client_that_leaves_in_a_held_up_upload_is_noticed), TEST(client_that_is_held_up_is_not_too_slow),
      TEST(kept_body_reaches_a_slow_upstream_whole))
