// SPDX-License-Identifier: MIT
// Calls that nobody waits for (Prefer: respond-async), and the end of workers that share tapes: draining waits for all
// that is still read or made, shutdown at any turn leaves nothing behind.
#include "tapes.h"

#define ASYNC "Prefer: respond-async\r\n"

static struct peer *post_at(struct world *w, unsigned worker, const char *fields, const char *json) {
    struct peer *client = client_open_at(w, worker);
    client_ask(client, POST_CHAT, fields, json);
    return client;
}

static void check_accepted(struct peer *client) {
    struct parsed m = last_message(client);
    struct id id = tape_of(client);
    char text[100];
    check_int(m.status, 202);
    check(m.whole);
    snprintf(text, sizeof text, "/v1/tapes/%s", id.text);
    check_str(field_of(&m, "location"), text);
    check_str(field_of(&m, "preference-applied"), "respond-async");
    check_str(field_of(&m, "content-type"), "application/json");
    snprintf(text, sizeof text, "{\"id\":\"%s\",\"object\":\"thaw.tape\",", id.text);
    check(str_starts(m.body, str_c(text)));
}

static void background_call_is_accepted_at_once_and_read_later(void **state UNUSED) {
    static const char *const wishes[] = {ASYNC, "Prefer: wait=5, respond-async\r\n", "Prefer: Respond-Async; x=1\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(wishes); i++) {
        for (unsigned worker = 0; worker < 2; worker++) {
            struct world w;
            world_open_with_workers(&w, ONE_UPSTREAM, 2);
            struct peer *client = post_at(&w, 0, wishes[i], CHAT);
            check_accepted(client);
            struct id id = tape_of(client);
            check_only(&w, OUTCOME_LOCAL, 1);
            struct peer *up = upstream_peer(&w, "up", 0);
            check_str(message_at(up, 0).body, CHAT);
            check_lacks(up, "refer:"); // the upstream is to answer
            reset(client);
            advance(&w, (uint64_t)2 * GRACE_MS - 1); // and has its time for it
            struct peer *reader = read_tape(&w, worker, &id, "");
            check_int(reader->got_len, 0);
            reset(reader);
            advance(&w, (uint64_t)2 * GRACE_MS - 1);
            answer(up, OK_ANSWER);
            check_status(ask_tape(&w, worker, "GET", &id, "/status", ""), 200, "\"state\":\"complete\",\"status\":200");
            check_str(message_at(read_tape(&w, worker, &id, ""), 0).body, "{}");
            check_int(outcomes_of(&w, OUTCOME_COMPLETE), 1);
            world_close(&w);
        }
    }
}

static void background_stream_is_followed(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, ONE_UPSTREAM, 2);
        struct peer *client = post_at(&w, 0, ASYNC, CHAT);
        struct id id = tape_of(client);
        struct peer *up = upstream_peer(&w, "up", 0);
        struct peer *reader = read_tape(&w, worker, &id, "");
        answer(up, STREAM_HEAD);
        events(up, 0, 3);
        check_read(reader, id, 0, 3);
        reset(reader);
        events(up, 3, 5);
        last_chunk(up);
        check_read(read_tape(&w, worker, &id, "?starting_after=2"), id, 3, 5);
        world_close(&w);
    }
}

static void background_call_is_cancelled_by_its_id(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, ONE_UPSTREAM, 2);
        struct id id = tape_of(post_at(&w, 0, ASYNC, CHAT));
        check_status(delete_tape(&w, worker, &id), 200, "\"state\":\"cancelled\"");
        check_dropped(upstream_peer(&w, "up", 0));
        check_status(ask_tape(&w, worker, "GET", &id, "/status", ""), 200, "\"state\":\"cancelled\"");
        check_status(read_tape(&w, worker, &id, ""), 410, "its client cancelled it");
        world_close(&w);
    }
}

static void background_call_that_fails_says_so(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w,
                            "upstreams: {up: {url: mock}, down: {url: 'http://127.0.0.1:1'}}\n"
                            "models: {m: {use: [up]}, n: {use: [down]}}\n",
                            2);
    struct peer *client = post_at(&w, 0, ASYNC, CHAT);
    struct id id = tape_of(client);
    close_peer(upstream_peer(&w, "up", 0));
    check_status(read_tape(&w, 1, &id, ""), 502, "without an answer");
    check_status(ask_tape(&w, 1, "GET", &id, "/status", ""), 200, "\"state\":\"cut\",\"status\":0");
    client_ask(client, POST_CHAT, ASYNC, "{\"model\":\"nobody\"}"); // what is wrong is said at once
    check_status(client, 404, "model_not_found");
    client_ask(client, POST_CHAT, ASYNC, "{\"model\":");
    check_status(client, 400, "invalid_json");
    check_int(outcomes_of(&w, OUTCOME_REFUSED), 2);
    world_close(&w);
}

static void only_what_is_looked_at_runs_in_the_background(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_ask(client, "POST /v1/files", ASYNC, CHAT);
    check_int(client->got_len, 0);
    check_has(upstream_peer(&w, "up", 0), "Prefer: respond-async"); // perhaps the upstream's own
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    check_int(message_at(client, 0).status, 200);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void background_calls_are_joined_by_their_key(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, ONE_UPSTREAM, 2);
        struct peer *first = post_at(&w, 0, ASYNC KEY, CHAT);
        struct id id = tape_of(first);
        check_has(first, "\"state\":\"running\"");
        struct peer *retried = post_at(&w, worker, ASYNC KEY, CHAT);
        check_accepted(retried);
        check(strcmp(tape_of(retried).text, id.text) == 0);
        check_status(post_at(&w, worker, ASYNC KEY, "{\"model\":\"x\"}"), 422, "");
        struct peer *waits = post_at(&w, worker, KEY, CHAT); // this one wants to wait
        check_int(waits->got_len, 0);
        check_int(upstream_count(&w, "up"), 1);
        answer(upstream_peer(&w, "up", 0), OK_ANSWER);
        check_str(message_at(waits, 0).body, "{}");
        retried = post_at(&w, worker, ASYNC KEY, CHAT);
        check_accepted(retried);
        check_has(retried, "\"state\":\"complete\"");
        check_int(outcomes_of(&w, OUTCOME_LOCAL), 3);
        world_close(&w);
    }
}

// It was asked for by one who waited, who then left: the other one was promised that it is finished.
static void call_that_is_joined_in_the_background_goes_on(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM "tape: {on_disconnect: cancel}\n", KEY);
        check_accepted(post_at(&s.w, worker, ASYNC KEY, CHAT));
        reset(s.client);
        check_open(s.up);
        stream_end(&s);
        check_read(read_tape(&s.w, worker, &s.id, ""), s.id, 0, 4);
        world_close(&s.w);
    }
}

// ---- draining

static bool has_left(struct world *w, unsigned worker) { return w->workers[worker].loop.stopping; }

static void drain(struct world *w) {
    for (unsigned i = 0; i < w->worker_count; i++) {
        worker_drain(&w->workers[i], 60 * 1000);
    }
    advance(w, 1000);
}

static void draining_waits_for_background_calls(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, ONE_UPSTREAM, 2);
    close_peer(post_at(&w, 1, ASYNC, CHAT));
    drain(&w);
    check(!has_left(&w, 0) && !has_left(&w, 1));
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    advance(&w, 1000);
    check(has_left(&w, 0) && has_left(&w, 1));
    check_only(&w, OUTCOME_LOCAL, 1);
    world_close(&w);
}

static void draining_waits_for_readers_on_other_workers(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM, RESUME);
    struct peer *reader = read_tape(&s.w, 1, &s.id, "");
    reset(s.client);
    drain(&s.w);
    check(!has_left(&s.w, 0) && !has_left(&s.w, 1));
    stream_end(&s);
    advance(&s.w, 3000); // the reader might ask once more
    check_read(reader, s.id, 0, 4);
    check(message_at(reader, 0).whole);
    check(has_left(&s.w, 0) && has_left(&s.w, 1));
    world_close(&s.w);
}

static void draining_whose_time_is_up_tells_readers_on_all_workers(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM, RESUME);
    struct peer *reader = read_tape(&s.w, 1, &s.id, "");
    struct peer *waits = post_at(&s.w, 1, KEY, CHAT);
    struct peer *joined = post_at(&s.w, 0, KEY, CHAT);
    drain(&s.w);
    advance(&s.w, 60 * 1000);
    struct peer *told[] = {s.client, reader};
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        check_has(told[i], "\"code\":\"stream_cut\"");
    }
    check(broken_off(s.client));
    check(message_at(reader, 0).whole); // what there is to be read again ends in order
    check_status(waits, 503, "being shut down");
    check_status(joined, 503, "being shut down");
    check(has_left(&s.w, 0) && has_left(&s.w, 1));
    check_only(&s.w, OUTCOME_SHUTDOWN, 4);
    world_close(&s.w);
}

// ---- the end

static void queue_post(struct world *w, unsigned worker, const char *fields, const char *body) {
    char request[400];
    snprintf(request, sizeof request, POST_CHAT " HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu\r\n\r\n%s", fields,
             strlen(body), body);
    peer_queue(client_open_at(w, worker), str_c(request));
}

static void queue_about(struct world *w, unsigned worker, const char *method, const struct id *id, const char *rest) {
    char request[200];
    snprintf(request, sizeof request, "%s /v1/tapes/%s%s HTTP/1.1\r\nHost: h\r\n\r\n", method, id->text, rest);
    peer_queue(client_open_at(w, worker), str_c(request));
}

// Everything at once: joining, reading, asking, cancelling across workers, while answers come and end.
static void begin_everything(struct stream *s) {
    static const char *const other = "{\"model\":\"m\",\"stream\":true}";
    stream_begin(s, ONE_UPSTREAM "routes: {/v1/chat/completions: {coalesce: true}}\n", KEY);
    struct world *w = &s->w;
    for (unsigned worker = 0; worker < 2; worker++) {
        queue_post(w, worker, KEY, CHAT);
        queue_post(w, worker, "", other);
        queue_post(w, 1 - worker, "", other);
        queue_post(w, worker, ASYNC, other);
        queue_about(w, worker, "GET", &s->id, "");
        queue_about(w, worker, "GET", &s->id, "?starting_after=3");
        queue_about(w, worker, "GET", &s->id, "/status");
        queue_about(w, worker, "HEAD", &s->id, "");
    }
    peer_queue(s->up, STR("a\r\ndata: e2\n\n\r\n"));
    peer_close(s->client);
}

static void shutdown_with_everything_in_flight_leaves_nothing(void **state UNUSED) {
    for (unsigned how = 0; how < 4; how++) { // how the answer goes on meanwhile
        bool quiet = false;
        for (unsigned turns = 0; !quiet && turns < 100000; turns += 1 + (small_window() ? turns / 4 : 0)) {
            struct stream s;
            unsigned idle = 0;
            begin_everything(&s);
            for (unsigned i = 0; i < turns && idle < 6; i++) {
                idle = loop_turn(&s.w.workers[i % 2].loop, 0) ? 0 : idle + 1;
                if (i == turns / 2 && how == 1) {
                    peer_queue(s.up, STR("0\r\n\r\n"));
                } else if (i == turns / 2 && how == 2) {
                    peer_close(s.up);
                } else if (i == turns / 2 && how == 3) {
                    queue_about(&s.w, 1, "DELETE", &s.id, "");
                }
            }
            quiet = idle == 6;
            world_finish_worker(&s.w);
            check_int(s.w.worker.shelf.running + s.w.workers[1].shelf.running, 0);
            world_close(&s.w);
        }
        check(quiet);
    }
}

FLOWS(TEST(background_call_is_accepted_at_once_and_read_later), TEST(background_stream_is_followed),
      TEST(background_call_is_cancelled_by_its_id), TEST(background_call_that_fails_says_so),
      TEST(only_what_is_looked_at_runs_in_the_background), TEST(background_calls_are_joined_by_their_key),
      TEST(call_that_is_joined_in_the_background_goes_on), TEST(draining_waits_for_background_calls),
      TEST(draining_waits_for_readers_on_other_workers), TEST(draining_whose_time_is_up_tells_readers_on_all_workers),
      TEST(shutdown_with_everything_in_flight_leaves_nothing))
