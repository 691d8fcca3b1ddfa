// SPDX-License-Identifier: MIT
// Several requests, one call: an Idempotency-Key, or identical calls on a route that coalesces them; across workers, in
// every order, and never across tenants.
#include "tapes.h"

static struct peer *post_at(struct world *w, unsigned worker, const char *fields, const char *json) {
    struct peer *client = client_open_at(w, worker);
    client_ask(client, POST_CHAT, fields, json);
    return client;
}

static bool is_replayed(struct peer *client) {
    struct parsed m = last_message(client);
    struct str value = field_of(&m, "idempotent-replayed");
    return str_eq(value, STR("true"));
}

// ---- one key

static void same_key_joins_the_running_call(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM, KEY);
        struct peer *second = post_at(&s.w, worker, KEY, CHAT);
        check_events(second, s.id, 0, 2); // from the start, and not as if it were an EventSource
        event(s.up, 2);
        struct peer *third = post_at(&s.w, 1 - worker, KEY "X-Stainless-Retry-Count: 1\r\n", CHAT);
        event(s.up, 3);
        last_chunk(s.up);
        check_events(s.client, s.id, 0, 4);
        check_events(second, s.id, 0, 4);
        check_events(third, s.id, 0, 4);
        check(!is_replayed(s.client) && is_replayed(second) && is_replayed(third));
        check(strcmp(tape_of(second).text, s.id.text) == 0);
        check_int(upstream_count(&s.w, "up"), 1);
        check_only(&s.w, OUTCOME_COMPLETE, 3);
        world_close(&s.w);
    }
}

static void same_key_joins_before_the_answer_begins(void **state UNUSED) {
    struct world w;
    struct peer *clients[6];
    world_open_with_workers(&w, ONE_UPSTREAM, 2);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = post_at(&w, i % 2, KEY, CHAT);
    }
    check_int(upstream_count(&w, "up"), 1);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        check_str(message_at(clients[i], 0).body, "{}");
        check(message_at(clients[i], 0).whole);
    }
    check_only(&w, OUTCOME_COMPLETE, 6);
    world_close(&w);
}

static void same_key_replays_the_finished_answer(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, ONE_UPSTREAM, 2);
        struct peer *first = post_at(&w, 0, KEY, CHAT);
        answer(upstream_peer(&w, "up", 0), "HTTP/1.1 201 Made\r\nContent-Type: application/json\r\nX-Mine: 1\r\n"
                                           "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
        check(message_at(first, 0).whole);
        advance(&w, KEEP_MS - 1);
        struct peer *again = post_at(&w, worker, KEY, CHAT);
        struct parsed m = message_at(again, 0);
        check_int(m.status, 201);
        check_str(m.body, "{}");
        check_str(field_of(&m, "x-mine"), "1");
        check_str(field_of(&m, "content-type"), "application/json");
        check(m.whole && is_replayed(again));
        check_int(upstream_count(&w, "up"), 1);
        advance(&w, 1); // its time is over
        struct peer *new = post_at(&w, worker, KEY, CHAT);
        check_int(new->got_len, 0);
        answer(upstream_peer(&w, "up", upstream_count(&w, "up") - 1), OK_ANSWER);
        check_str(message_at(new, 0).body, "{}");
        check(!is_replayed(new));
        world_close(&w);
    }
}

static void other_request_with_the_same_key_is_refused(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM, KEY);
        for (unsigned ended = 0; ended < 2; ended++) {
            check_status(post_at(&s.w, worker, KEY, "{\"model\":\"other\"}"), 422, "idempotency_key_reused");
            struct peer *elsewhere = client_open_at(&s.w, worker);
            client_ask(elsewhere, "POST /v1/completions", KEY, CHAT);
            check_status(elsewhere, 422, "Use a new key for each request");
            if (!ended) {
                stream_end(&s);
            }
        }
        check_int(upstream_count(&s.w, "up"), 1);
        check_int(outcomes_of(&s.w, OUTCOME_REFUSED), 4);
        check_events(s.client, s.id, 0, 4);
        world_close(&s.w);
    }
}

static void key_of_another_tenant_is_another_key(void **state UNUSED) {
    static const char *const configs[] = {ONE_UPSTREAM, ONE_UPSTREAM "keys: [alice, bob]\n"};
    for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
        struct world w;
        world_open_with_workers(&w, configs[i], 2);
        struct peer *alice = post_at(&w, 0, KEY "Authorization: Bearer alice\r\n", CHAT);
        struct peer *bob = post_at(&w, 1, KEY "Authorization: Bearer bob\r\n", CHAT);
        struct peer *other = post_at(&w, 0, KEY "Authorization: Bearer bob\r\n", "{\"model\":\"x\"}"); // bob's
        check_int(upstream_count(&w, "up"), 2);
        answer(upstream_peer(&w, "up", 0), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalice");
        answer(upstream_peer(&w, "up", 1), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbob");
        check_str(message_at(alice, 0).body, "alice");
        check_str(message_at(bob, 0).body, "bob");
        check_status(other, 422, "");
        check(!is_replayed(bob));
        world_close(&w);
    }
}

// What is relayed without being looked at goes on with its key: that is between client and upstream.
static void keys_count_where_bodies_are_looked_at(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    for (unsigned i = 0; i < 3; i++) {
        struct peer *client = client_open(&w);
        client_ask(client, i < 2 ? "POST /v1/files" : "GET /v1/files", KEY, i < 2 ? CHAT : NULL);
        struct peer *up = upstream_peer(&w, "up", 0);
        check_has(up, "Idempotency-Key: key-1");
        forget(up);
        answer(up, OK_ANSWER);
        check_str(message_at(client, 0).body, "{}");
        check(!is_replayed(client));
        struct id id = tape_of(client);
        check_status(read_tape(&w, 0, &id, ""), 410, "tape_gone");
    }
    check_int(outcomes_of(&w, OUTCOME_COMPLETE), 3);
    world_close(&w);
}

static void unacceptable_keys_are_refused(void **state UNUSED) {
    struct world w;
    char field[400];
    world_open(&w, ONE_UPSTREAM);
    check_status(post_at(&w, 0, KEY KEY, CHAT), 400, "bad_idempotency_key");
    check_status(post_at(&w, 0, KEY "Idempotency-Key: key-2\r\n", CHAT), 400, "one field of 1 to 255 bytes");
    check_status(post_at(&w, 0, "Idempotency-Key:\r\n", CHAT), 400, "bad_idempotency_key");
    snprintf(field, sizeof field, "Idempotency-Key: %0256d\r\n", 7);
    check_status(post_at(&w, 0, field, CHAT), 400, "bad_idempotency_key");
    check_only(&w, OUTCOME_REFUSED, 4);
    check_int(upstream_count(&w, "up"), 0);
    snprintf(field, sizeof field, "Idempotency-Key: %0255d\r\n", 7);
    post_at(&w, 0, field, CHAT);
    check_int(upstream_count(&w, "up"), 1);
    world_close(&w);
}

// The draft writes them as quoted strings, everybody else does not: whatever it is, it is the key.
static void keys_are_taken_as_they_are(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *bare = post_at(&w, 0, "Idempotency-Key: a-1\r\n", CHAT);
    struct peer *quoted = post_at(&w, 0, "Idempotency-Key: \"a-1\"\r\n", "{\"model\":\"x\"}");
    check_int(upstream_count(&w, "up"), 2);
    struct peer *joined = post_at(&w, 0, "Idempotency-Key:  \"a-1\" \r\n", "{\"model\":\"x\"}");
    check_int(upstream_count(&w, "up"), 2);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    answer(upstream_peer(&w, "up", 1), OK_ANSWER);
    check(message_at(bare, 0).whole && message_at(quoted, 0).whole && message_at(joined, 0).whole);
    check_only(&w, OUTCOME_COMPLETE, 3);
    world_close(&w);
}

// ---- failures

// How a call fails; what the one who joined it saw.
enum failure { REFUSES, BREAKS, CUTS, FAILURES };

static void fail_upstream(struct peer *up, enum failure how) {
    switch (how) {
    case REFUSES: answer(up, "HTTP/1.1 429 Slow down\r\nContent-Length: 4\r\n\r\nslow"); return;
    case BREAKS: break;
    case CUTS: answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"); break;
    case FAILURES: break;
    }
    close_peer(up);
}

static void check_failed(struct peer *client, enum failure how) {
    static const int statuses[] = {[REFUSES] = 429, [BREAKS] = 502, [CUTS] = 200};
    check_int(last_message(client).status, statuses[how]);
    check(last_message(client).whole == (how != CUTS));
}

static void failure_is_told_to_all_and_not_replayed(void **state UNUSED) {
    for (enum failure how = 0; how < FAILURES; how++) {
        for (unsigned worker = 0; worker < 2; worker++) {
            struct world w;
            world_open_with_workers(&w, ONE_UPSTREAM, 2);
            struct peer *first = post_at(&w, 0, KEY, CHAT);
            struct peer *joined = post_at(&w, worker, KEY, CHAT);
            struct peer *up = upstream_peer(&w, "up", 0);
            forget(up);
            fail_upstream(up, how);
            check_failed(first, how);
            check_failed(joined, how);
            struct id id = tape_of(first);
            check_failed(read_tape(&w, worker, &id, ""), how); // by its id it is there
            struct peer *next = post_at(&w, worker, KEY, CHAT);
            check_int(next->got_len, 0);
            answer(upstream_peer(&w, "up", upstream_count(&w, "up") - 1), OK_ANSWER);
            check_str(message_at(next, 0).body, "{}");
            check(!is_replayed(next));
            world_close(&w);
        }
    }
}

static void failure_is_replayed_where_that_is_wanted(void **state UNUSED) {
    for (enum failure how = 0; how < FAILURES; how++) {
        for (unsigned worker = 0; worker < 2; worker++) {
            struct world w;
            world_open_with_workers(&w, ONE_UPSTREAM "routes: {/v1/chat/completions: {replay_errors: true}}\n", 2);
            struct peer *first = post_at(&w, 0, KEY, CHAT);
            fail_upstream(upstream_peer(&w, "up", 0), how);
            check_failed(first, how);
            check_failed(post_at(&w, worker, KEY, CHAT), how);
            check_int(upstream_count(&w, "up"), 1);
            world_close(&w);
        }
    }
}

static void cancelled_call_is_not_joined_any_more(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM, KEY);
    check_status(delete_tape(&s.w, 1, &s.id), 200, "cancelled");
    struct peer *next = post_at(&s.w, 1, KEY, CHAT);
    check_int(next->got_len, 0);
    check_int(upstream_count(&s.w, "up"), 2);
    answer(upstream_peer(&s.w, "up", 1), OK_ANSWER);
    check_str(message_at(next, 0).body, "{}");
    world_close(&s.w);
}

// ---- leaving

static void call_goes_on_for_those_who_joined_it(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM "tape: {on_disconnect: cancel}\n", KEY);
        struct peer *second = post_at(&s.w, worker, KEY, CHAT);
        reset(s.client);
        stream_end(&s);
        check_events(second, s.id, 0, 4);
        check(message_at(second, 0).whole);
        check_int(outcomes_of(&s.w, OUTCOME_GONE_READING), 1);
        check_int(outcomes_of(&s.w, OUTCOME_COMPLETE), 1);
        world_close(&s.w);
    }
}

static void retry_after_the_clients_own_timeout_attaches(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, ONE_UPSTREAM, 2);
        reset(post_at(&w, 0, KEY, CHAT)); // gave up waiting
        advance(&w, GRACE_MS - 1);
        struct peer *retry = post_at(&w, worker, KEY "X-Stainless-Retry-Count: 1\r\n", CHAT);
        advance(&w, GRACE_MS);
        check_int(upstream_count(&w, "up"), 1);
        answer(upstream_peer(&w, "up", 0), OK_ANSWER);
        check_str(message_at(retry, 0).body, "{}");
        check_int(outcomes_of(&w, OUTCOME_GONE_WAITING), 1);
        check_int(outcomes_of(&w, OUTCOME_COMPLETE), 1);
        world_close(&w);
    }
}

static void key_is_free_when_nobody_came_back(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM, KEY);
        reset(s.client);
        advance(&s.w, GRACE_MS);
        check_dropped(s.up);
        struct peer *next = post_at(&s.w, worker, KEY, CHAT);
        check_int(next->got_len, 0);
        answer(upstream_peer(&s.w, "up", 1), OK_ANSWER);
        check_str(message_at(next, 0).body, "{}");
        check(!is_replayed(next));
        world_close(&s.w);
    }
}

static void joiner_that_leaves_while_it_waits_is_forgotten(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, ONE_UPSTREAM, 2);
    struct peer *first = post_at(&w, 0, KEY, CHAT);
    struct peer *gone = client_open_at(&w, 1);
    char request[400];
    snprintf(request, sizeof request, POST_CHAT " HTTP/1.1\r\nHost: h\r\n" KEY "Content-Length: %zu\r\n\r\n" CHAT,
             strlen(CHAT));
    peer_queue(gone, str_c(request));
    while (!atomic_load(&w.worker.loop.posted)) {
        loop_turn(&w.workers[1].loop, 0);
    }
    reset(gone);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    check_str(message_at(first, 0).body, "{}");
    check_int(outcomes_of(&w, OUTCOME_GONE_WAITING), 1);
    check_int(outcomes_of(&w, OUTCOME_COMPLETE), 1);
    check_int(w.worker.shelf.feeds, 0);
    world_close(&w);
}

// ---- races between workers

// The ask of a client at the second worker is on its way to the first one's tape, and not there yet.
static struct peer *join_half_way(struct world *w, const char *fields) {
    struct peer *client = client_open_at(w, 1);
    char request[400];
    snprintf(request, sizeof request, POST_CHAT " HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu\r\n\r\n" CHAT, fields,
             strlen(CHAT));
    peer_queue(client, str_c(request));
    while (!atomic_load(&w->worker.loop.posted)) {
        loop_turn(&w->workers[1].loop, 0);
    }
    return client;
}

static void call_that_fails_before_the_ask_arrives_has_failed_for_the_joiner_too(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, ONE_UPSTREAM, 2);
    struct peer *first = post_at(&w, 0, KEY, CHAT);
    struct peer *second = join_half_way(&w, KEY);
    peer_close(upstream_peer(&w, "up", 0));
    settle(&w);
    check_status(second, 502, "without an answer");
    check(strcmp(tape_of(second).text, tape_of(first).text) == 0);
    check_int(upstream_count(&w, "up"), 1);
    check_only(&w, OUTCOME_UPSTREAM_LOST, 2);
    world_close(&w);
}

static void call_that_is_cancelled_before_the_ask_arrives_is_made_anew(void **state UNUSED) {
    static const char *const configs[] = {
        ONE_UPSTREAM "tape: {on_disconnect: cancel}\n",
        ONE_UPSTREAM "tape: {on_disconnect: cancel}\nroutes: {/v1/chat/completions: {replay_errors: true}}\n"};
    for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
        struct world w;
        world_open_with_workers(&w, configs[i], 2);
        struct peer *first = post_at(&w, 0, KEY, CHAT);
        struct peer *second = join_half_way(&w, KEY);
        peer_reset(first); // nobody reads it any more
        settle(&w);
        check_dropped(upstream_peer(&w, "up", 0));
        check_int(second->got_len, 0);
        answer(upstream_peer(&w, "up", 1), OK_ANSWER);
        check_str(message_at(second, 0).body, "{}");
        check(!is_replayed(second));
        world_close(&w);
    }
}

static void tape_that_goes_before_the_ask_arrives_makes_a_new_call(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, ONE_UPSTREAM "routes: {/v1/chat/completions: {coalesce: true}}\n", 2);
    struct peer *first = post_at(&w, 0, "", CHAT);
    struct peer *second = join_half_way(&w, "");
    peer_reset(first); // takes the call and its tape along
    settle(&w);
    check_dropped(upstream_peer(&w, "up", 0));
    check_int(second->got_len, 0);
    check_int(upstream_count(&w, "up"), 2);
    check_str(message_at(upstream_peer(&w, "up", 1), 0).body, CHAT);
    answer(upstream_peer(&w, "up", 1), OK_ANSWER);
    check_str(message_at(second, 0).body, "{}");
    check(!is_replayed(second));
    world_close(&w);
}

static void joiner_whose_calls_always_end_before_it_gives_up(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, ONE_UPSTREAM "routes: {/v1/chat/completions: {coalesce: true}}\n", 2);
    struct peer *other = post_at(&w, 0, "", CHAT);
    struct peer *joiner = join_half_way(&w, "");
    char request[400];
    snprintf(request, sizeof request, POST_CHAT " HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n" CHAT,
             strlen(CHAT));
    for (unsigned calls = 1; joiner->got_len == 0; calls++) {
        check(calls < 10);
        peer_reset(other);
        while (!atomic_load(&w.workers[1].loop.posted)) { // the answer to its ask: there is no such tape
            loop_turn(&w.worker.loop, 0);
        }
        other = client_open(&w); // somebody else is faster
        peer_queue(other, str_c(request));
        while (upstream_count(&w, "up") == calls) {
            loop_turn(&w.worker.loop, 0);
        }
        while (!atomic_load(&w.worker.loop.posted) && joiner->got_len == 0) {
            loop_turn(&w.workers[1].loop, 0);
        }
    }
    settle(&w);
    check_status(joiner, 503, "\"code\":\"tape_lost\"");
    answer(upstream_peer(&w, "up", upstream_count(&w, "up") - 1), OK_ANSWER);
    check_str(message_at(other, 0).body, "{}");
    world_close(&w);
}

static void calls_at_once_on_both_workers_are_one(void **state UNUSED) {
    struct world w;
    struct peer *clients[20];
    char request[400];
    snprintf(request, sizeof request, POST_CHAT " HTTP/1.1\r\nHost: h\r\n" KEY "Content-Length: %zu\r\n\r\n" CHAT,
             strlen(CHAT));
    world_open_with_workers(&w, ONE_UPSTREAM, 2);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = client_open_at(&w, i % 2);
        peer_queue(clients[i], str_c(request));
    }
    settle(&w);
    check_int(upstream_count(&w, "up"), 1);
    answer(upstream_peer(&w, "up", 0), STREAM_HEAD "b\r\ndata: one\n\n\r\n0\r\n\r\n");
    unsigned replayed = 0;
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        check(str_eq(message_at(clients[i], 0).body, message_at(clients[0], 0).body));
        replayed += is_replayed(clients[i]);
    }
    check_int(replayed, ARRAY_LEN(clients) - 1);
    check_only(&w, OUTCOME_COMPLETE, ARRAY_LEN(clients));
    world_close(&w);
}

// ---- without keys

#define COALESCE ONE_UPSTREAM "routes: {/v1/chat/completions: {coalesce: true}}\n"

static void identical_calls_are_not_joined_unasked(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    post_at(&w, 0, "", CHAT);
    post_at(&w, 0, "", CHAT);
    post_at(&w, 0, RESUME, CHAT);
    post_at(&w, 0, RESUME, CHAT);
    check_int(upstream_count(&w, "up"), 4);
    world_close(&w);
}

static void identical_calls_of_one_tenant_are_joined_while_they_run(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, COALESCE, 2);
    struct peer *first = post_at(&w, 0, "", CHAT);
    struct peer *same = post_at(&w, 1, "X-Stainless-Retry-Count: 1\r\n", CHAT);
    struct peer *other_body = post_at(&w, 1, "", "{\"model\":\"m\",\"x\":1}");
    struct peer *other_tenant = post_at(&w, 1, "Authorization: Bearer bob\r\n", CHAT);
    check_int(upstream_count(&w, "up"), 3);
    for (unsigned i = 0; i < 3; i++) {
        answer(upstream_peer(&w, "up", i), OK_ANSWER);
    }
    check(message_at(first, 0).whole && message_at(same, 0).whole);
    check(is_replayed(same) && !is_replayed(first));
    check(message_at(other_body, 0).whole && message_at(other_tenant, 0).whole);
    struct id id = tape_of(first);
    check_status(read_tape(&w, 0, &id, ""), 410, "tape_gone"); // nobody asked for it to be kept
    client_ask(first, POST_CHAT, "", CHAT);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    check(!is_replayed(first)); // only what runs is joined
    check_int(outcomes_of(&w, OUTCOME_COMPLETE), 5);
    world_close(&w);
}

static void coalesced_call_ends_with_its_last_client(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, COALESCE, 2);
        struct peer *first = post_at(&w, 0, "", CHAT);
        struct peer *second = post_at(&w, worker, "", CHAT);
        reset(first);
        check_open(upstream_peer(&w, "up", 0));
        answer(upstream_peer(&w, "up", 0), STREAM_HEAD);
        event(upstream_peer(&w, "up", 0), 0);
        check(str_starts(message_at(second, 0).body, STR("data: e0\nid: ")));
        reset(second);
        check_dropped(upstream_peer(&w, "up", 0));
        check_int(w.worker.shelf.running, 0);
        check_int(outcomes_total(&w), 2);
        world_close(&w);
    }
}

// What is the same is joined while it runs; the same question later is another one, though the first answer is kept.
static void resumable_calls_on_a_coalescing_route_are_joined_and_kept(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM "routes: {/v1/chat/completions: {coalesce: true, resume: true}}\n", "");
    struct peer *joined = post_at(&s.w, 1, "", CHAT);
    stream_end(&s);
    check_events(joined, s.id, 0, 4);
    check_read(read_tape(&s.w, 1, &s.id, ""), s.id, 0, 4);
    check_int(upstream_count(&s.w, "up"), 1);
    close_peer(post_at(&s.w, 1, "", CHAT));
    check_int(upstream_count(&s.w, "up"), 2);
    world_close(&s.w);
}

// Its beginning is not there any more: nothing that looks like the whole answer may come.
static void joining_an_answer_that_has_grown_too_large_is_refused(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        char text[1100];
        stream_begin(&s, ONE_UPSTREAM "tape: {max: 64k}\n", KEY);
        memset(text, 'x', sizeof text);
        memcpy(text, "data: ", 6);
        memcpy(text + 1000, "\n\n", 3);
        for (unsigned i = 0; i < 100; i++) {
            chunk(s.up, text);
        }
        check_status(post_at(&s.w, worker, KEY, CHAT), 410, "tape_dropped");
        check_int(upstream_count(&s.w, "up"), 1);
        world_close(&s.w);
    }
}

FLOWS(TEST(same_key_joins_the_running_call), TEST(same_key_joins_before_the_answer_begins),
      TEST(same_key_replays_the_finished_answer), TEST(other_request_with_the_same_key_is_refused),
      TEST(key_of_another_tenant_is_another_key), TEST(keys_count_where_bodies_are_looked_at),
      TEST(unacceptable_keys_are_refused), TEST(keys_are_taken_as_they_are),
      TEST(failure_is_told_to_all_and_not_replayed), TEST(failure_is_replayed_where_that_is_wanted),
      TEST(cancelled_call_is_not_joined_any_more), TEST(call_goes_on_for_those_who_joined_it),
      TEST(retry_after_the_clients_own_timeout_attaches), TEST(key_is_free_when_nobody_came_back),
      TEST(joiner_that_leaves_while_it_waits_is_forgotten),
      TEST(call_that_fails_before_the_ask_arrives_has_failed_for_the_joiner_too),
      TEST(call_that_is_cancelled_before_the_ask_arrives_is_made_anew),
      TEST(tape_that_goes_before_the_ask_arrives_makes_a_new_call),
      TEST(joiner_whose_calls_always_end_before_it_gives_up), TEST(calls_at_once_on_both_workers_are_one),
      TEST(identical_calls_are_not_joined_unasked), TEST(identical_calls_of_one_tenant_are_joined_while_they_run),
      TEST(coalesced_call_ends_with_its_last_client), TEST(resumable_calls_on_a_coalescing_route_are_joined_and_kept),
      TEST(joining_an_answer_that_has_grown_too_large_is_refused))
