// SPDX-License-Identifier: MIT
// Queues, quotas and upstreams that rest: who waits, who is told that he will not get in, and what it costs.
#include "flow.h"

#define ONE_AT_A_TIME "upstreams: {up: {url: mock, max_in_flight: 1}}\n"
#define PLAIN_OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

static void ask(struct peer *client) { client_post(client, CHAT_PATH, CHAT); }

static void call_over_the_limit_waits_for_its_turn(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME);
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    ask(first);
    ask(second);
    check_int(upstream_count(&w, "up"), 1);
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    check_int(message_at(first, 0).status, 200);
    check_int(upstream_count(&w, "up"), 1); // its connection was kept, and is used again
    check_int(message_at(second, 0).none, true);
    forget(upstream_peer(&w, "up", 0));
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    check_int(message_at(second, 0).status, 200);
    check_only(&w, OUTCOME_COMPLETE, 2);
    world_close(&w);
}

static void full_queue_is_said(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME "queue: {length: 1}\n");
    struct peer *clients[3];
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = client_open(&w);
        ask(clients[i]);
    }
    struct parsed m = message_at(clients[2], 0);
    check(m.status == 503 || m.status == 429);
    check(field_of(&m, "Retry-After").ptr != NULL);
    check(field_of(&m, "retry-after-ms").ptr != NULL);
    check_has(clients[2], "queue_full");
    check_int(outcomes_of(&w, OUTCOME_QUEUE_FULL), 1);
    world_close(&w);
}

static void turn_that_does_not_come_in_time_is_said(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME "queue: {wait: 2s}\n");
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    ask(first);
    ask(second);
    advance(&w, 2100);
    check_int(message_at(second, 0).status, 503);
    check_has(second, "queue_timeout");
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    check_int(message_at(first, 0).status, 200);
    check_int(outcomes_of(&w, OUTCOME_QUEUE_LATE), 1);
    world_close(&w);
}

static void client_that_leaves_the_queue_makes_room(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME "queue: {length: 1}\n");
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    ask(first);
    ask(second);
    close_peer(second);
    struct peer *third = client_open(&w);
    ask(third);
    check(message_at(third, 0).none);
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    check_int(message_at(third, 0).status, 200);
    check_int(outcomes_of(&w, OUTCOME_GONE_WAITING), 1);
    world_close(&w);
}

static void client_over_its_limit_is_told_when_to_come_back(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "limits: {in_flight: 1, requests_per_minute: 2}\n");
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    ask(first);
    ask(second);
    struct parsed m = message_at(second, 0);
    check_int(m.status, 429);
    check_has(second, "in_flight");
    check_has(second, "rate_limit_exceeded");
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    m = message_at(first, 0);
    check_int(m.status, 200);
    check_str(field_of(&m, "x-ratelimit-limit-requests"), "2");
    check_str(field_of(&m, "x-ratelimit-remaining-requests"), "1");
    ask(first);
    forget(second);
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    ask(second);
    m = message_at(second, 0);
    check_int(m.status, 429);
    check_has(second, "requests_per_minute");
    check(field_of(&m, "Retry-After").ptr != NULL);
    check_int(outcomes_of(&w, OUTCOME_LIMITED), 2);
    world_close(&w);
}

static void upstream_that_failed_too_often_rests(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "breaker: {failures: 2, rest: 10s}\n");
    struct peer *client = client_open(&w);
    for (unsigned i = 0; i < 2; i++) {
        ask(client);
        answer(upstream_peer(&w, "up", 0), "HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}");
        forget(client);
    }
    ask(client);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 503);
    check_has(client, "upstream_resting");
    check_str(field_of(&m, "Retry-After"), "10");
    forget(client);
    advance(&w, 10000);
    ask(client); // the trial
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    check_int(message_at(client, 0).status, 200);
    check_int(outcomes_of(&w, OUTCOME_UPSTREAM_RESTS), 1);
    check_int(outcomes_of(&w, OUTCOME_COMPLETE), 3);
    world_close(&w);
}

FLOWS(TEST(call_over_the_limit_waits_for_its_turn), TEST(full_queue_is_said),
      TEST(turn_that_does_not_come_in_time_is_said), TEST(client_that_leaves_the_queue_makes_room),
      TEST(client_over_its_limit_is_told_when_to_come_back), TEST(upstream_that_failed_too_often_rests))
