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

// ---- who else waits

static void uploads_wait_for_their_turn_too(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME);
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    ask(first);
    send_text(second, "POST /v1/files HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    check_int(upstream_count(&w, "up"), 1);
    send_text(second, "6\r\n world\r\n0\r\n\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    forget(up);
    answer(up, PLAIN_OK);
    struct parsed m = message_at(up, 0);
    check_str(m.body, "hello world");
    check(m.whole);
    answer(up, PLAIN_OK);
    check_int(message_at(second, 0).status, 200);
    check_only(&w, OUTCOME_COMPLETE, 2);
    world_close(&w);
}

// Ten calls in one request, two at once.
static void fan_out_waits_for_its_turns(void **state UNUSED) {
    struct world w;
    char body[2048] = "{\"calls\":[";
    size_t at = strlen(body);
    for (unsigned i = 0; i < 10; i++) {
        at += (size_t)snprintf(body + at, sizeof body - at, "%s{\"path\":\"/v1/chat/completions\",\"body\":%s}",
                               i ? "," : "", CHAT);
    }
    snprintf(body + at, sizeof body - at, "]}");
    world_open(&w, "upstreams: {up: {url: mock, max_in_flight: 2}}\n");
    struct peer *client = client_open(&w);
    client_post(client, "/v1/parallel", body);
    for (unsigned i = 0; i < 5; i++) {
        check_int(upstream_count(&w, "up"), 2);
        check_int(w.worker.setup->upstreams[0].in_flight, 2);
        check(message_at(client, 0).none);
        for (unsigned n = 0; n < 2; n++) {
            answer(upstream_peer(&w, "up", n), PLAIN_OK);
        }
    }
    check_int(message_at(client, 0).status, 200);
    check_has(client, "\"done\":10");
    world_close(&w);
}

static void branch_that_is_refused_says_why(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME "queue: {length: 0}\n");
    struct peer *client = client_open(&w);
    client_post(client, "/v1/parallel",
                "{\"calls\":[{\"path\":\"/v1/chat/completions\",\"body\":" CHAT "},"
                "{\"path\":\"/v1/chat/completions\",\"body\":" CHAT "}]}");
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 200);
    check(str_search(m.body, STR("\"code\":\"queue_full\"")) < m.body.len);
    check(str_search(m.body, STR("\"done\":1,\"failed\":1")) < m.body.len);
    world_close(&w);
}

static void background_call_waits_for_its_turn(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME);
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    ask(first);
    client_ask(second, "POST " CHAT_PATH, "Prefer: respond-async\r\n", CHAT);
    check_int(message_at(second, 0).status, 202);
    close_peer(second);
    struct peer *up = upstream_peer(&w, "up", 0);
    forget(up);
    answer(up, PLAIN_OK);
    check(message_at(up, 0).whole);
    answer(up, PLAIN_OK);
    check_int(w.worker.setup->upstreams[0].in_flight, 0);
    check_int(w.worker.shelf.running, 0);
    world_close(&w);
}

// A key whose call never came to anything is free again; a tape of it says why it ended.
static void refused_call_may_be_sent_again_under_its_key(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME "queue: {length: 0}\n");
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    ask(first);
    client_ask(second, "POST " CHAT_PATH, "Idempotency-Key: k\r\n", CHAT);
    struct parsed m = message_at(second, 0);
    check_int(m.status, 503);
    struct str id = field_of(&m, "X-Thaw-Tape");
    char what[100];
    check_int(id.len, 26);
    snprintf(what, sizeof what, "GET /v1/tapes/%.*s/status", STR_ARG(id));
    struct peer *third = client_open(&w);
    client_ask(third, what, "", NULL);
    check_int(message_at(third, 0).status, 200);
    check_has(third, "\"cut\"");
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    forget(second);
    client_ask(second, "POST " CHAT_PATH, "Idempotency-Key: k\r\n", CHAT);
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    check_int(message_at(second, 0).status, 200);
    world_close(&w);
}

static void reload(struct world *w, const char *yaml) {
    struct config_problem problem = {{0}};
    struct config *config;
    struct blueprint *blueprint;
    char sentence[300];
    check_ok(config_read_text("flow.yaml", str_c(yaml), NULL, NULL, &config, &problem));
    check_ok(config_check(config, &problem));
    check_ok(blueprint_create(config, &blueprint, sentence, sizeof sentence));
    worker_reload(&w->worker, blueprint);
    blueprint_unref(blueprint);
    config_unref(config);
    settle(w);
}

static void who_waits_outlives_a_reload(void **state UNUSED) {
    static const char *const anew[] = {ONE_AT_A_TIME, "upstreams: {up: {url: mock, max_in_flight: 3}}\n", ONE_UPSTREAM,
                                       "upstreams: {other: {url: mock}}\n"};
    for (size_t i = 0; i < ARRAY_LEN(anew); i++) {
        struct world w;
        struct peer *clients[3];
        world_open(&w, ONE_AT_A_TIME);
        for (unsigned c = 0; c < 3; c++) {
            clients[c] = client_open(&w);
            ask(clients[c]);
        }
        close_peer(clients[2]);
        reload(&w, anew[i]);
        bool wider = i == 1 || i == 2;
        check_int(upstream_count(&w, "up"), wider ? 2 : 1);
        answer(upstream_peer(&w, "up", 0), PLAIN_OK);
        if (upstream_peer(&w, "up", 0)->end == OK && !wider) {
            answer(upstream_peer(&w, "up", 0), PLAIN_OK);
        } else {
            answer(upstream_peer(&w, "up", upstream_count(&w, "up") - 1), PLAIN_OK);
        }
        check_int(message_at(clients[0], 0).status, 200);
        check_int(message_at(clients[1], 0).status, 200);
        check_int(w.worker.in_flight, 0);
        world_close(&w);
    }
}

// ---- what refusals say, and where else calls go

static void call_that_would_wait_too_long_is_told_at_once(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME "queue: {wait: 5s}\n");
    struct peer *first = client_open(&w);
    ask(first);
    advance(&w, 4000); // what a call takes
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    ask(first);
    struct peer *clients[3];
    for (unsigned i = 0; i < 3; i++) {
        clients[i] = client_open(&w);
        client_ask(clients[i], "POST " CHAT_PATH, i == 2 ? "Authorization: Bearer other\r\n" : "", CHAT);
    }
    check(message_at(clients[0], 0).none);
    check_int(message_at(clients[1], 0).status, 429); // of its own calls alone
    check_has(clients[1], "queue_timeout");
    check_int(message_at(clients[2], 0).status, 503);
    check_int(outcomes_of(&w, OUTCOME_QUEUE_LATE), 2);
    world_close(&w);
}

static void full_queue_falls_on_the_next_upstream(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {a: {url: mock, max_in_flight: 1}, b: {url: mock, max_in_flight: 1}}\n"
                   "queue: {length: 1}\nbreaker: {failures: 1}\n");
    struct peer *clients[5];
    for (unsigned i = 0; i < 5; i++) {
        clients[i] = client_open(&w);
        ask(clients[i]);
    }
    check_int(upstream_count(&w, "b"), 1);
    check(message_at(clients[3], 0).none);
    check_has(clients[4], "queue_full");
    check_has(clients[4], "'b'");
    world_close(&w);
}

// Whose queue is full is named, not who rests.
static void refusal_names_whose_queue_it_is(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {a: {url: mock, max_in_flight: 1}, b: {url: mock}}\nqueue: {length: 0}\n"
                   "breaker: {failures: 1, rest: 1h}\n");
    breaker_failed(gate_breaker(w.worker.setup->upstreams[1].gate), 1, 3600 * 1000, w.worker.loop.now_ms);
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    ask(first);
    ask(second);
    check_has(second, "queue_full");
    check_has(second, "'a'");
    check_lacks(second, "'b'");
    world_close(&w);
}

static void turn_that_does_not_come_falls_on_the_next_upstream(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {a: {url: mock, max_in_flight: 1}, b: {url: mock}}\nqueue: {wait: 2s}\n");
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    ask(first);
    ask(second);
    check_int(upstream_count(&w, "b"), 0);
    advance(&w, 2010);
    answer(upstream_peer(&w, "b", 0), PLAIN_OK);
    check_int(message_at(second, 0).status, 200);
    answer(upstream_peer(&w, "a", 0), PLAIN_OK);
    check_only(&w, OUTCOME_COMPLETE, 2);
    world_close(&w);
}

// ---- what calls cost

#define TOKENS ONE_UPSTREAM "limits: {tokens_per_minute: 100000, requests_per_minute: 1000}\n"

static uint64_t left(struct world *w, const char *what) {
    struct peer *client = client_open(w);
    ask(client);
    for (unsigned i = 0; i < upstream_count(w, "up"); i++) {
        struct peer *up = upstream_peer(w, "up", i);
        if (up->conn && up->end == OK) {
            answer(up, PLAIN_OK);
            break;
        }
    }
    struct parsed m = message_at(client, 0);
    uint64_t n = 0;
    check_int(m.status, 200);
    check_ok(parse_u64(field_of(&m, what), &n));
    return n;
}

#define ASKS_FOR_MUCH "{\"model\":\"m\",\"stream\":true,\"max_tokens\":50000}"
enum { LITTLE = 100 }; // what a question of these tests counts for

static void call_costs_what_it_took(void **state UNUSED) {
    static const struct {
        const char *answer;
        bool leaves;
        unsigned least, most;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 49\r\n\r\n{\"usage\":{\"prompt_tokens\":1,\"total_tokens\":7000}}", false,
         7000, 7000},
        {"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", false, 0, 0},
        {"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n", false, 0, 0},
        {STREAM_HEAD "6\r\na: 1\n\n\r\n0\r\n\r\n", false, 0, LITTLE},
        // It knows of one token, and its client has seen three events more.
        {STREAM_HEAD
         "54\r\ndata: {\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}\n\ndata: x\n\ndata: x\n\ndata: "
         "x\n\n\r\n",
         true, 1001, 1001 + LITTLE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w;
        world_open(&w, TOKENS);
        struct peer *client = client_open(&w);
        client_post(client, CHAT_PATH, ASKS_FOR_MUCH);
        answer(upstream_peer(&w, "up", 0), rows[i].answer);
        if (rows[i].leaves) {
            close_peer(client);
        }
        uint64_t tokens = left(&w, "x-ratelimit-remaining-tokens");
        check(tokens + rows[i].least <= 100000);
        check(tokens + rows[i].most + LITTLE >= 100000);
        check_int(left(&w, "x-ratelimit-remaining-requests"), 1000 - 3);
        world_close(&w);
    }
}

// Many small events after a usage that knows of one token count, too.
static void stream_that_is_left_early_costs_its_events(void **state UNUSED) {
    struct world w;
    world_open(&w, TOKENS);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, ASKS_FOR_MUCH);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, STREAM_HEAD "37\r\ndata: {\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}\n\n\r\n");
    for (unsigned i = 0; i < 500; i++) {
        send_text(up, "9\r\ndata: x\n\n\r\n");
    }
    close_peer(client);
    check(left(&w, "x-ratelimit-remaining-tokens") <= 100000 - 500);
    world_close(&w);
}

static void call_that_was_never_sent_costs_nothing(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_AT_A_TIME "limits: {requests_per_minute: 1000}\nqueue: {length: 1}\n");
    struct peer *clients[3];
    for (unsigned i = 0; i < 3; i++) {
        clients[i] = client_open(&w);
        ask(clients[i]);
    }
    check(message_at(clients[2], 0).status >= 429); // the queue was full
    close_peer(clients[1]);                         // left it
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    check_int(left(&w, "x-ratelimit-remaining-requests"), 1000 - 2);
    world_close(&w);
}

// What the upstream says of its limits is about thaw's key.
static void limits_that_are_told_are_the_clients(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "limits: {requests_per_minute: 1000}\n");
    struct peer *client = client_open(&w);
    ask(client);
    answer(upstream_peer(&w, "up", 0), "HTTP/1.1 200 OK\r\nX-RateLimit-Limit-Requests: 9\r\n"
                                       "x-ratelimit-limit-tokens: 9\r\nContent-Length: 2\r\n\r\n{}");
    struct parsed m = message_at(client, 0);
    check_int(fields_of(&m, "x-ratelimit-limit-requests"), 1);
    check_str(field_of(&m, "x-ratelimit-limit-requests"), "1000");
    check_str(field_of(&m, "x-ratelimit-limit-tokens"), "9"); // thaw has none
    world_close(&w);
}

// Twelve calls at once, five of which are refused at once: the upstream is not down.
static void refusals_are_heard_of_before_answers(void **state UNUSED) {
    enum { CALLS = 12, REFUSED = 5 };
    struct world w;
    struct peer *clients[CALLS];
    world_open(&w, ONE_UPSTREAM "breaker: {failures: 5, rest: 10s}\nretries: 0\n");
    for (unsigned i = 0; i < CALLS; i++) {
        clients[i] = client_open(&w);
        ask(clients[i]);
    }
    for (unsigned i = 0; i < REFUSED; i++) {
        answer(upstream_peer(&w, "up", i), "HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\n{}");
    }
    struct peer *more = client_open(&w);
    ask(more);
    check(message_at(more, 0).none); // it was sent
    for (unsigned i = REFUSED; i < 8; i++) {
        answer(upstream_peer(&w, "up", i), "HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\n{}");
    }
    struct peer *late = client_open(&w); // eight in a row, and five still run
    ask(late);
    check_int(message_at(late, 0).status, 503);
    check_has(late, "upstream_resting");
    world_close(&w);
}

FLOWS(TEST(refusals_are_heard_of_before_answers), TEST(call_over_the_limit_waits_for_its_turn),
      TEST(full_queue_is_said), TEST(turn_that_does_not_come_in_time_is_said),
      TEST(client_that_leaves_the_queue_makes_room), TEST(client_over_its_limit_is_told_when_to_come_back),
      TEST(upstream_that_failed_too_often_rests), TEST(uploads_wait_for_their_turn_too),
      TEST(fan_out_waits_for_its_turns), TEST(branch_that_is_refused_says_why),
      TEST(background_call_waits_for_its_turn), TEST(refused_call_may_be_sent_again_under_its_key),
      TEST(who_waits_outlives_a_reload), TEST(call_that_would_wait_too_long_is_told_at_once),
      TEST(full_queue_falls_on_the_next_upstream), TEST(refusal_names_whose_queue_it_is),
      TEST(turn_that_does_not_come_falls_on_the_next_upstream), TEST(call_costs_what_it_took),
      TEST(stream_that_is_left_early_costs_its_events), TEST(call_that_was_never_sent_costs_nothing),
      TEST(limits_that_are_told_are_the_clients))
