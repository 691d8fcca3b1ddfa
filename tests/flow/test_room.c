// SPDX-License-Identifier: MIT
// When memory runs out: new calls are told so and when to come again, those that run go on, and if that is not enough
// those that hold most are given up. How much is in use is what the test says.
#include "gateway/request.h"
#include "tapes.h"

#define KIB 1024ull
// Budget 768 KiB; the last mark 972.8 KiB, left at 912.
#define LIMIT (1024 * KIB)
#define QUIET (600 * KIB)
#define FULL (800 * KIB)
#define OVERFULL (950 * KIB + 25 * KIB) // 63 KiB are to be given up

struct place {
    struct world w;
    struct pressure *pressure;
    uint64_t used;
};

static bool say(void *context, uint64_t *bytes) {
    *bytes = *(const uint64_t *)context;
    return true;
}

static struct place *open_place(const char *yaml, unsigned workers) {
    struct place *p = xcalloc(1, sizeof *p);
    p->used = QUIET;
    struct pressure_options options = {.limit = LIMIT, .workers = workers, .measure = say, .context = &p->used};
    p->pressure = pressure_create(&options);
    world_open_under_pressure(&p->w, yaml, workers, p->pressure);
    return p;
}

static void close_place(struct place *p) {
    world_close(&p->w);
    check_int(p->pressure->connections, 0);
    pressure_destroy(p->pressure);
    free(p);
}

// From now on that much is in use, and known.
static void use(struct place *p, uint64_t bytes) {
    p->used = bytes;
    advance(&p->w, 2 * PRESSURE_ROUND_MS);
    check_int(p->pressure->used, bytes);
}

static struct peer *call(struct place *p, const char *path, const char *fields, const char *json) {
    char what[256];
    struct peer *client = client_open(&p->w);
    snprintf(what, sizeof what, "POST %s", path);
    client_ask(client, what, fields, json);
    return client;
}

static void check_refused(struct peer *client) {
    struct parsed m = message_at(client, 0);
    struct str retry = field_of(&m, "retry-after");
    check_int(m.status, 503);
    check(m.whole);
    check_str(retry, "2");
    check(str_search(m.body, STR("memory budget")) < m.body.len);
}

// In the body of its answer.
static bool says(struct peer *client, const char *text) {
    struct str body = message_at(client, 0).body;
    return str_search(body, str_c(text)) < body.len;
}

// ---- refusing

static void calls_are_refused_at_the_budget_and_running_ones_go_on(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    struct peer *runs = call(p, CHAT_PATH, "", CHAT);
    struct peer *up = upstream_peer(&p->w, "up", 0);
    answer(up, STREAM_HEAD);
    event(up, 0);
    use(p, FULL);

    struct peer *first = call(p, CHAT_PATH, "", CHAT);
    check_refused(first);
    check_has(first, "\"code\":\"memory_budget\"");
    check_refused(call(p, "/v1/files", "", "{}"));
    check_refused(call(p, "/v1/parallel", "", "{\"calls\":[]}"));
    struct peer *anthropic = call(p, "/v1/messages", "", CHAT);
    check_refused(anthropic);
    check_has(anthropic, "\"type\":\"overloaded_error\"");
    check_int(upstream_count(&p->w, "up"), 1);
    check_only(&p->w, OUTCOME_NO_ROOM, 4);

    event(up, 1);
    last_chunk(up);
    struct parsed m = message_at(runs, 0);
    check(m.whole);
    check_str(m.body, "data: e0\n\ndata: e1\n\n");
    check_int(outcomes_of(&p->w, OUTCOME_COMPLETE), 1);
    close_place(p);
}

static void calls_are_let_in_again_when_a_part_is_free(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    struct peer *runs = call(p, CHAT_PATH, "", CHAT); // while something runs, it is looked at
    use(p, FULL);
    check_refused(call(p, CHAT_PATH, "", CHAT));
    use(p, 760 * KIB); // a little below the mark
    check_refused(call(p, CHAT_PATH, "", CHAT));
    use(p, 700 * KIB);
    struct peer *client = call(p, CHAT_PATH, "", CHAT);
    answer(upstream_peer(&p->w, "up", 1), OK_ANSWER);
    check_str(message_at(client, 0).body, "{}");
    check_open(runs);
    check_int(outcomes_of(&p->w, OUTCOME_NO_ROOM), 2);
    close_place(p);
}

// Nothing runs, so nobody looks: the first to come finds out.
static void idle_gateway_measures_before_it_refuses(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    p->used = FULL;
    advance(&p->w, 1000);
    check_refused(call(p, CHAT_PATH, "", CHAT));
    p->used = QUIET;
    advance(&p->w, 1000);
    call(p, CHAT_PATH, "", CHAT);
    check_int(upstream_count(&p->w, "up"), 1);
    check_only(&p->w, OUTCOME_NO_ROOM, 1);
    close_place(p);
}

static void burst_between_two_measurements_stops_at_the_budget(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    p->used = 720 * KIB;
    advance(&p->w, 1000);
    for (unsigned i = 0; i < 12; i++) {
        call(p, CHAT_PATH, "", CHAT);
    }
    check_int(upstream_count(&p->w, "up"), 48 / 13);
    check_only(&p->w, OUTCOME_NO_ROOM, 12 - 48 / 13);
    close_place(p);
}

static void health_and_tapes_are_answered_at_the_budget(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    struct peer *runs = call(p, CHAT_PATH, RESUME, CHAT);
    struct peer *up = upstream_peer(&p->w, "up", 0);
    answer(up, STREAM_HEAD);
    event(up, 0);
    struct id id = tape_of(runs);
    use(p, FULL);

    struct peer *other = client_open(&p->w);
    client_ask(other, "GET /healthz", "", NULL);
    check_int(message_at(other, 0).status, 200);
    struct peer *reader = client_open(&p->w);
    char what[64];
    snprintf(what, sizeof what, "GET /v1/tapes/%s", id.text);
    client_ask(reader, what, "", NULL);
    check_int(message_at(reader, 0).status, 200);
    event(up, 1);
    check(says(reader, "data: e1"));
    check_int(outcomes_of(&p->w, OUTCOME_NO_ROOM), 0);
    close_place(p);
}

// Kept answers are a comfort: new calls come before them.
static void finished_tapes_make_room(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    struct peer *done = call(p, CHAT_PATH, RESUME, CHAT);
    answer(upstream_peer(&p->w, "up", 0), OK_ANSWER);
    struct id id = tape_of(done);
    call(p, CHAT_PATH, "", CHAT); // runs
    use(p, FULL);
    struct peer *reader = client_open(&p->w);
    char what[64];
    snprintf(what, sizeof what, "GET /v1/tapes/%s", id.text);
    client_ask(reader, what, "", NULL);
    check_int(message_at(reader, 0).status, 410);
    check(list_empty(&p->w.worker.shelf.finished));
    close_place(p);
}

static void connections_that_only_wait_make_room(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    struct peer *idle = call(p, CHAT_PATH, "", CHAT);
    struct peer *kept = upstream_peer(&p->w, "up", 0);
    answer(kept, OK_ANSWER);
    call(p, CHAT_PATH, "", CHAT);
    struct peer *runs = call(p, CHAT_PATH, "", CHAT);
    answer(kept, OK_ANSWER);
    check_open(kept);
    advance(&p->w, 1000);
    struct peer *fresh = client_open(&p->w); // is about to ask
    use(p, FULL);
    check_dropped(kept);
    check_dropped(idle);
    check_open(runs);
    check_open(fresh);
    close_place(p);
}

// At the budget what is kept for a slow reader does not grow: its upstream is not read from until it has taken all.
static void slow_reader_holds_less_when_memory_is_short(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    struct peer *client = client_open(&p->w);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&p->w, "up", 0);
    answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n");
    use(p, FULL);
    peer_read(client, 1000);
    static char bytes[200 * 1000];
    for (unsigned i = 0; i < 20; i++) {
        send_bytes(up, str_from(bytes, sizeof bytes / 20));
    }
    check(unsent(up) + 2 * flow_window + 4096 >= sizeof bytes - 1000);
    const struct request *r = container_of(p->w.worker.requests.next, struct request, node);
    check(r->reader.tape->written - r->reader.position <= 4096);
    check(tape_full(r->reader.tape));
    peer_read(client, SIZE_MAX);
    settle(&p->w);
    check(message_at(client, 0).whole);
    check_only(&p->w, OUTCOME_COMPLETE, 1);
    close_place(p);
}

static void body_that_is_on_its_way_is_refused_at_the_budget(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    struct peer *client = client_open(&p->w);
    send_text(client, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\n\r\n{\"model\":");
    use(p, FULL);
    check_int(client->got_len, 0);
    send_text(client, "\"m\",\"mess");
    check_refused(client);
    check_only(&p->w, OUTCOME_NO_ROOM, 1);
    close_place(p);
}

// ---- giving up

// An answer of 200,000 bytes for a client that takes nothing.
static struct peer *deaf_call(struct place *p, unsigned nth) {
    static char bytes[200 * 1000];
    struct peer *client = client_open(&p->w);
    peer_read(client, 0);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&p->w, "up", nth);
    answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n");
    send_bytes(up, str_from(bytes, sizeof bytes));
    check(unsent(up) > 0);
    return client;
}

static void stream_that_holds_most_is_reset_at_the_last_mark(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    struct peer *small = call(p, CHAT_PATH, "", CHAT);
    struct peer *up = upstream_peer(&p->w, "up", 0);
    answer(up, STREAM_HEAD);
    event(up, 0);
    struct peer *deaf = deaf_call(p, 1);
    use(p, FULL); // nobody is given up for that
    check_open(upstream_peer(&p->w, "up", 1));
    p->used = OVERFULL;
    advance(&p->w, PRESSURE_ROUND_MS);
    p->used = QUIET; // as it is then
    advance(&p->w, PRESSURE_ROUND_MS);

    check_only(&p->w, OUTCOME_SHED, 1);
    check_dropped(upstream_peer(&p->w, "up", 1));
    peer_read(deaf, SIZE_MAX);
    settle(&p->w);
    check_int(deaf->end, ERR_RESET);
    check_open(up);
    event(up, 1);
    last_chunk(up);
    check(message_at(small, 0).whole);
    check_int(outcomes_of(&p->w, OUTCOME_COMPLETE), 1);
    close_place(p);
}

static void stream_that_is_given_up_says_so(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    struct peer *streams = call(p, CHAT_PATH, "", CHAT);
    struct peer *up = upstream_peer(&p->w, "up", 0);
    answer(up, STREAM_HEAD);
    event(up, 0);
    struct peer *waits = call(p, CHAT_PATH, "", CHAT);
    p->used = LIMIT; // more than both hold
    advance(&p->w, PRESSURE_ROUND_MS);
    check(small_window() || says(streams, "stream_cut")); // who reads that slowly is not waited for
    check(small_window() || says(streams, "run out of memory"));
    check_lacks(streams, "[DONE]");
    check(!message_at(streams, 0).whole);
    check_dropped(up);
    check_int(message_at(waits, 0).status, 503);
    check_only(&p->w, OUTCOME_SHED, 2);
    close_place(p);
}

// Its body is kept as long as it may be sent again.
static void call_with_a_large_body_is_given_up_first(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    char *json = xmalloc(100 * KIB + 1);
    memset(json, ' ', 100 * KIB);
    json[100 * KIB] = '\0';
    memcpy(json, CHAT, sizeof CHAT - 1);
    struct peer *small = call(p, CHAT_PATH, "", CHAT);
    struct peer *large = call(p, CHAT_PATH, "", json);
    p->used = OVERFULL;
    advance(&p->w, PRESSURE_ROUND_MS);
    p->used = QUIET;
    check_int(message_at(large, 0).status, 503);
    check_only(&p->w, OUTCOME_SHED, 1);
    answer(upstream_peer(&p->w, "up", 0), OK_ANSWER);
    check_str(message_at(small, 0).body, "{}");
    free(json);
    close_place(p);
}

static void body_that_is_on_its_way_is_given_up_too(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 1);
    static char part[100 * KIB];
    memset(part, ' ', sizeof part);
    struct peer *small = call(p, CHAT_PATH, "", CHAT);
    struct peer *client = client_open(&p->w);
    send_text(client, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
    send_bytes(client, str_from(part, sizeof part));
    p->used = OVERFULL;
    advance(&p->w, PRESSURE_ROUND_MS);
    p->used = QUIET;
    check_int(message_at(client, 0).status, 503);
    check_only(&p->w, OUTCOME_SHED, 1);
    check_open(small);
    close_place(p);
}

// A kept tape would stay after its end.
static void kept_tape_that_is_given_up_is_gone(void **state UNUSED) {
    struct place *p = open_place(ONE_UPSTREAM, 2);
    struct peer *client = call(p, CHAT_PATH, RESUME, CHAT);
    struct peer *up = upstream_peer(&p->w, "up", 0);
    answer(up, STREAM_HEAD);
    event(up, 0);
    struct id id = tape_of(client);
    char what[64];
    snprintf(what, sizeof what, "GET /v1/tapes/%s", id.text);
    struct peer *elsewhere = client_open_at(&p->w, 1);
    client_ask(elsewhere, what, "", NULL);
    check(says(elsewhere, "data: e0"));
    p->used = LIMIT;
    advance(&p->w, 2 * PRESSURE_ROUND_MS);
    p->used = QUIET;
    advance(&p->w, 2 * PRESSURE_ROUND_MS);
    check_dropped(up);
    check(small_window() || says(client, "run out of memory"));
    check(small_window() || says(elsewhere, "run out of memory"));
    check_only(&p->w, OUTCOME_SHED, 2);
    check(list_empty(&p->w.worker.shelf.finished));
    close_place(p);
}

FLOWS(TEST(calls_are_refused_at_the_budget_and_running_ones_go_on), TEST(calls_are_let_in_again_when_a_part_is_free),
      TEST(idle_gateway_measures_before_it_refuses), TEST(burst_between_two_measurements_stops_at_the_budget),
      TEST(health_and_tapes_are_answered_at_the_budget), TEST(finished_tapes_make_room),
      H1_ONLY(UPSTREAM, connections_that_only_wait_make_room, "its connection is that of the one that runs"),
      H1_ONLY(UPSTREAM, slow_reader_holds_less_when_memory_is_short,
              "what is on its way in a stream's window comes anyway"),
      TEST(body_that_is_on_its_way_is_refused_at_the_budget), TEST(stream_that_holds_most_is_reset_at_the_last_mark),
      TEST(stream_that_is_given_up_says_so), TEST(call_with_a_large_body_is_given_up_first),
      TEST(body_that_is_on_its_way_is_given_up_too), TEST(kept_tape_that_is_given_up_is_gone))
