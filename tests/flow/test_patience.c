// SPDX-License-Identifier: MIT
// What a client hears while it waits.
#include "flow.h"

#define KEEPALIVE ONE_UPSTREAM "keepalive: 15s\n"
#define ONE_AT_A_TIME "upstreams: {up: {url: mock, max_in_flight: 1}}\n"
#define STREAM "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define PLAIN_OK "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
#define EVENT "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"
#define CHUNK_END "0\r\n\r\n"

static struct peer *ask(struct world *w, const char *fields, const char *body) {
    struct peer *client = client_open(w);
    client_ask(client, "POST " CHAT_PATH, fields, body);
    return client;
}

// Chunked.
static void send_chunk(struct peer *up, const char *text) {
    char chunk[512];
    snprintf(chunk, sizeof chunk, "%zx\r\n%s\r\n", strlen(text), text);
    send_text(up, chunk);
}

static void silence_before_the_first_byte_is_broken(void **state UNUSED) {
    struct world w;
    world_open(&w, KEEPALIVE);
    struct peer *client = ask(&w, "", STREAM);
    advance(&w, 14000);
    check(message_at(client, 0).none);
    advance(&w, 17000);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 200);
    check_str(field_of(&m, "Content-Type"), "text/event-stream");
    check_str(m.body, ": keep-alive\n\n: keep-alive\n\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, STREAM_HEAD);
    send_chunk(up, EVENT);
    send_text(up, CHUNK_END);
    m = message_at(client, 0);
    check_str(m.body, ": keep-alive\n\n: keep-alive\n\n" EVENT);
    check(m.whole);
    check_int(fields_of(&m, "Content-Type"), 1);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void comments_stand_between_events_only(void **state UNUSED) {
    struct world w;
    world_open(&w, KEEPALIVE);
    struct peer *client = ask(&w, "", STREAM);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, STREAM_HEAD);
    send_chunk(up, EVENT);
    send_chunk(up, "data: half");
    advance(&w, 40000);
    check_str(message_at(client, 0).body, EVENT "data: half");
    send_chunk(up, "\r\n\r\n");
    advance(&w, 16000);
    check_str(message_at(client, 0).body, EVENT "data: half\r\n\r\n: keep-alive\n\n");
    send_text(up, CHUNK_END);
    check(message_at(client, 0).whole);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void error_behind_a_commitment_is_told_in_the_stream(void **state UNUSED) {
    struct world w;
    world_open(&w, KEEPALIVE);
    struct peer *client = ask(&w, "", STREAM);
    advance(&w, 16000);
    answer(upstream_peer(&w, "up", 0), "HTTP/1.1 400 X\r\nContent-Type: application/json\r\nContent-Length: 38\r\n\r\n"
                                       "{\"error\":{\n\"message\":\"no such thing\"}}");
    struct parsed m = message_at(client, 0);
    check_int(m.status, 200);
    check_str(m.body, ": keep-alive\n\ndata: {\"error\":{ \"message\":\"no such thing\"}}\n\n");
    check(m.whole);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void answer_that_is_no_stream_is_told_as_an_error(void **state UNUSED) {
    struct world w;
    world_open(&w, KEEPALIVE);
    struct peer *client = ask(&w, "", STREAM);
    advance(&w, 16000);
    answer(upstream_peer(&w, "up", 0), "HTTP/1.1 502 X\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p>!");
    check_has(client, "answered with status 502");
    check_lacks(client, "<p>");
    check(message_at(client, 0).whole);
    world_close(&w);
}

static void upstream_that_dies_behind_a_commitment_is_told(void **state UNUSED) {
    struct world w;
    world_open(&w, KEEPALIVE);
    struct peer *client = ask(&w, "", STREAM);
    advance(&w, 16000);
    reset(upstream_peer(&w, "up", 0));
    struct parsed m = message_at(client, 0);
    check_has(client, "data: {\"error\":{\"message\":\"The upstream 'up' (mock) failed");
    check(m.whole);
    check_only(&w, OUTCOME_UPSTREAM_LOST, 1);
    world_close(&w);
}

static void place_in_the_queue_is_told_to_who_asks(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME);
    struct peer *first = ask(&w, "", CHAT);
    struct peer *second = ask(&w, "", CHAT);
    struct peer *third = ask(&w, "X-Thaw-Progress: 1\r\n", STREAM);
    struct peer *silent = ask(&w, "", STREAM);
    check_str(message_at(third, 0).body, ": queued 2 of 2\n\n");
    check(message_at(silent, 0).none);
    advance(&w, 1100);
    check_str(message_at(third, 0).body, ": queued 2 of 2\n\n: queued 2 of 3\n\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, PLAIN_OK);
    check_int(message_at(first, 0).status, 200);
    advance(&w, 1100);
    answer(up, PLAIN_OK);
    check_int(message_at(second, 0).status, 200);
    answer(up, STREAM_HEAD);
    send_chunk(up, EVENT);
    send_text(up, CHUNK_END);
    struct parsed m = message_at(third, 0);
    check_str(m.body, ": queued 2 of 2\n\n: queued 2 of 3\n\n: queued 1 of 2\n\n" EVENT);
    check(m.whole);
    world_close(&w);
}

static void json_answer_gets_blanks_where_its_route_says_so(void **state UNUSED) {
    struct world w;
    world_open(&w, KEEPALIVE "routes: {/v1/chat/completions: {keepalive: true}}\n");
    struct peer *client = ask(&w, "", CHAT);
    advance(&w, 31000);
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 200);
    check_str(m.body, "  {}");
    check(m.whole);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void json_answer_waits_in_silence_otherwise(void **state UNUSED) {
    struct world w;
    world_open(&w, KEEPALIVE);
    struct peer *client = ask(&w, "", CHAT);
    advance(&w, 31000);
    check(message_at(client, 0).none);
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    check_str(message_at(client, 0).body, "{}");
    world_close(&w);
}

static void client_that_leaves_while_it_is_kept_alive_is_gone(void **state UNUSED) {
    struct world w;
    world_open(&w, KEEPALIVE);
    struct peer *client = ask(&w, "", STREAM);
    advance(&w, 16000);
    close_peer(client);
    check_dropped(upstream_peer(&w, "up", 0));
    check_int(outcomes_of(&w, OUTCOME_GONE_READING), 1);
    world_close(&w);
}

FLOWS(TEST(silence_before_the_first_byte_is_broken), TEST(comments_stand_between_events_only),
      TEST(error_behind_a_commitment_is_told_in_the_stream), TEST(answer_that_is_no_stream_is_told_as_an_error),
      TEST(upstream_that_dies_behind_a_commitment_is_told), TEST(place_in_the_queue_is_told_to_who_asks),
      TEST(json_answer_gets_blanks_where_its_route_says_so), TEST(json_answer_waits_in_silence_otherwise),
      TEST(client_that_leaves_while_it_is_kept_alive_is_gone))
