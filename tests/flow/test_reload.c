// SPDX-License-Identifier: MIT
// Reloads while calls run: what began goes on as it began, what comes is treated as it is configured now.
#include "flow.h"

#define PLAIN_OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define KEYS(key) "keys: [" key "]\n" ONE_UPSTREAM
#define BEARER(key) "Authorization: Bearer " key "\r\n"

static const char first_key[] = "sk-first-0123456789";
static const char second_key[] = "sk-second-0123456789";

// As `thaw serve` does it: a blueprint that all workers share.
static void reload(struct world *w, const char *yaml) {
    struct config *config = flow_config(yaml);
    struct blueprint *blueprint = NULL;
    char text[300];
    check_ok(blueprint_create(config, &blueprint, text, sizeof text));
    for (unsigned i = 0; i < w->worker_count; i++) {
        worker_reload(&w->workers[i], blueprint);
    }
    blueprint_unref(blueprint);
    config_unref(config);
    settle(w);
}

static unsigned setups(const struct world *w) {
    unsigned n = 0;
    list_each(node, &w->worker.setups) { n++; }
    return n;
}

static void ask(struct peer *client) { client_post(client, CHAT_PATH, CHAT); }
static void ask_with(struct peer *client, const char *key) {
    char field[100];
    snprintf(field, sizeof field, "Authorization: Bearer %s\r\n", key);
    client_ask(client, "POST " CHAT_PATH, field, CHAT);
}

static void calls_that_run_keep_their_upstream(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {a: {url: mock}}\n");
    struct peer *before = client_open(&w);
    struct peer *after = client_open(&w);
    ask(before);
    reload(&w, "upstreams: {b: {url: mock}}\n");
    check_int(setups(&w), 2);
    ask(after);
    check_int(upstream_count(&w, "a"), 1);
    check_int(upstream_count(&w, "b"), 1);
    answer(upstream_peer(&w, "b", 0), PLAIN_OK);
    answer(upstream_peer(&w, "a", 0), PLAIN_OK);
    check_int(message_at(before, 0).status, 200);
    check_int(message_at(after, 0).status, 200);
    check_int(setups(&w), 1);                 // the last call of the old one has ended,
    check_dropped(upstream_peer(&w, "a", 0)); // and with it the connections that nobody will use
    check_open(upstream_peer(&w, "b", 0));
    check_only(&w, OUTCOME_COMPLETE, 2);
    world_close(&w);
}

static void stream_goes_on_over_several_reloads(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {a: {url: mock}}\n");
    struct peer *client = client_open(&w);
    ask(client);
    answer(upstream_peer(&w, "a", 0), STREAM_HEAD "b\r\ndata: one\n\n\r\n");
    reload(&w, "upstreams: {b: {url: mock}}\n");
    reload(&w, "upstreams: {c: {url: mock}}\ntimeouts: {between: 1s, total: 2s}\n");
    check_int(setups(&w), 2); // nobody held the one between
    advance(&w, 5000);        // its own timeouts hold
    answer(upstream_peer(&w, "a", 0), "b\r\ndata: two\n\n\r\n0\r\n\r\n");
    struct parsed m = message_at(client, 0);
    check(m.whole);
    check_str(m.body, "data: one\n\ndata: two\n\n");
    check_int(setups(&w), 1);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void key_that_was_taken_away_is_refused_for_new_requests(void **state UNUSED) {
    struct world w;
    world_open(&w, KEYS("sk-first-0123456789"));
    struct peer *running = client_open(&w);
    struct peer *old = client_open(&w);
    struct peer *early = client_open(&w);
    struct peer *new = client_open(&w);
    ask_with(running, first_key);
    ask_with(early, second_key);
    check_int(message_at(early, 0).status, 401);
    reload(&w, KEYS("sk-second-0123456789"));
    ask_with(old, first_key);
    check_int(message_at(old, 0).status, 401);
    check_int(upstream_count(&w, "up"), 1);
    ask_with(new, second_key);
    answer(upstream_peer(&w, "up", 1), PLAIN_OK);
    check_int(message_at(new, 0).status, 200);
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    check_int(message_at(running, 0).status, 200);
    world_close(&w);
}

// One that has begun before is judged by what it began under, though its body came later.
static void request_that_arrives_is_of_the_old_configuration(void **state UNUSED) {
    struct world w;
    world_open(&w, KEYS("sk-first-0123456789"));
    struct peer *client = client_open(&w);
    send_text(client, "POST " CHAT_PATH " HTTP/1.1\r\nHost: thaw\r\nContent-Type: application/json\r\n" BEARER(
                          "sk-first-0123456789") "Content-Length: 2\r\n\r\n{");
    reload(&w, KEYS("sk-second-0123456789"));
    send_text(client, "}");
    answer(upstream_peer(&w, "up", 0), PLAIN_OK);
    check_int(message_at(client, 0).status, 200);
    check_int(setups(&w), 1);
    world_close(&w);
}

static void raised_limit_lets_those_in_who_wait(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {up: {url: mock, max_in_flight: 1}}\n");
    struct peer *clients[4];
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = client_open(&w);
        ask(clients[i]);
    }
    check_int(upstream_count(&w, "up"), 1);
    reload(&w, "upstreams: {up: {url: mock, max_in_flight: 3}}\n");
    check_int(upstream_count(&w, "up"), 3);
    for (unsigned i = 0; i < 3; i++) {
        answer(upstream_peer(&w, "up", i), PLAIN_OK);
    }
    answer(upstream_peer(&w, "up", upstream_count(&w, "up") - 1), PLAIN_OK);
    check_int(outcomes_of(&w, OUTCOME_COMPLETE), upstream_count(&w, "up"));
    world_close(&w);
}

// Those that wait for an upstream which is gone from the configuration still get their turn there.
static void queue_of_an_upstream_that_was_removed_empties(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {a: {url: mock, max_in_flight: 1}}\n");
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    ask(first);
    ask(second);
    reload(&w, "upstreams: {b: {url: mock}}\n");
    answer(upstream_peer(&w, "a", 0), PLAIN_OK);
    check_int(message_at(first, 0).status, 200);
    answer(upstream_peer(&w, "a", upstream_count(&w, "a") - 1), PLAIN_OK);
    check_int(message_at(second, 0).status, 200);
    check_int(upstream_count(&w, "b"), 0);
    check_int(setups(&w), 1);
    check_only(&w, OUTCOME_COMPLETE, 2);
    world_close(&w);
}

static void many_reloads_leave_nothing(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, ONE_UPSTREAM, 2);
    struct peer *clients[5];
    for (unsigned i = 0; i < 50; i++) {
        struct peer **client = &clients[i % ARRAY_LEN(clients)];
        if (i >= ARRAY_LEN(clients)) {
            answer(upstream_peer(&w, "up", i - (unsigned)ARRAY_LEN(clients)), PLAIN_OK);
            check_int(message_at(*client, 0).status, 200);
            close_peer(*client);
        }
        *client = client_open_at(&w, i % 2);
        ask(*client);
        reload(&w, i % 3 ? ONE_UPSTREAM : ONE_UPSTREAM "models: {m: {use: [up]}}\n");
    }
    check(setups(&w) <= 1 + ARRAY_LEN(clients));
    for (unsigned i = 50 - (unsigned)ARRAY_LEN(clients); i < 50; i++) {
        answer(upstream_peer(&w, "up", i), PLAIN_OK);
    }
    check_int(setups(&w), 1);
    check_only(&w, OUTCOME_COMPLETE, 50);
    world_close(&w);
}

static void shutdown_between_reloads_leaves_nothing(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {a: {url: mock, max_in_flight: 1}}\n");
    struct peer *client = client_open(&w);
    struct peer *waits = client_open(&w);
    ask(client);
    ask(waits);
    reload(&w, "upstreams: {b: {url: mock}}\n");
    reload(&w, "upstreams: {a: {url: mock}}\n");
    world_finish_worker(&w);
    check_int(outcomes_total(&w), 2);
    world_close(&w);
}

FLOWS(TEST(calls_that_run_keep_their_upstream), TEST(stream_goes_on_over_several_reloads),
      TEST(key_that_was_taken_away_is_refused_for_new_requests), TEST(request_that_arrives_is_of_the_old_configuration),
      TEST(raised_limit_lets_those_in_who_wait), TEST(queue_of_an_upstream_that_was_removed_empties),
      TEST(many_reloads_leave_nothing), TEST(shutdown_between_reloads_leaves_nothing))
