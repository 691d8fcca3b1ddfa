// SPDX-License-Identifier: MIT
// Several calls in one request: what arrives at the upstreams, when the wait is over, what is told of whom, and that
// nothing goes on that nobody waits for.
#include "flow.h"

#define PATH "/v1/parallel"
#define CALL(id, more) "{\"id\":\"" id "\",\"path\":\"" CHAT_PATH "\",\"body\":{\"model\":\"" id "\"}" more "}"
#define ABC CALL("a", "") "," CALL("b", "") "," CALL("c", "")
#define THREE(more) "{\"calls\":[" ABC "]" more "}"
#define JSON_ANSWER "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"n\":1}"
#define REFUSAL_BODY "{\"error\":{\"message\":\"slow down\",\"type\":\"requests\",\"param\":null,\"code\":\"rate\"}}"
#define REFUSAL "HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 78\r\n\r\n" REFUSAL_BODY
#define MS(n) "\"ms\":{\"first_byte\":" #n ",\"total\":" #n "}"
#define GOOD(id, ms) "{\"id\":\"" id "\",\"status\":200,\"body\":{\"n\":1}," ms "}"
#define CANCELLED_ERROR                                                                                                \
    "\"error\":{\"message\":\"The call was cancelled: it was not waited for any more.\",\"type\":\"cancelled\","       \
    "\"param\":null,\"code\":\"cancelled\"}"
#define CANCELLED(id, n)                                                                                               \
    "{\"id\":\"" id "\",\"status\":null," CANCELLED_ERROR ",\"ms\":{\"first_byte\":null,\"total\":" #n "}}"
#define RESULTS(all, done, failed, cancelled)                                                                          \
    "{\"object\":\"thaw.parallel\",\"results\":[" all "],\"done\":" #done ",\"failed\":" #failed                       \
    ",\"cancelled\":" #cancelled "}\n"

struct scene {
    struct world w;
    struct peer *client;
};

static void open_scene(struct scene *s, const char *yaml, const char *json) {
    world_open(&s->w, yaml);
    s->client = client_open(&s->w);
    client_post(s->client, PATH, json);
}

static struct peer *up(struct scene *s, unsigned n) { return upstream_peer(&s->w, "up", n); }

static void send_with(struct peer *client, const char *fields, const char *json) {
    char head[500];
    snprintf(head, sizeof head,
             "POST " PATH " HTTP/1.1\r\nHost: thaw\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n",
             fields, strlen(json));
    peer_queue(client, str_c(head));
    send_text(client, json);
}

static void check_answer(struct scene *s, int status, const char *body) {
    struct parsed m = message_at(s->client, 0);
    check_int(m.status, status);
    check_str(m.body, body);
    check(m.whole);
}

static void check_all_dropped(struct scene *s, unsigned from) {
    for (unsigned i = from; i < upstream_count(&s->w, "up"); i++) {
        check_dropped(up(s, i));
    }
    check_int(s->w.worker.shelf.running, 0);
}

// ---- what goes out, what comes back

static void calls_are_made_at_once_and_told_in_order(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(""));
    check_int(upstream_count(&s.w, "up"), 3);
    answer(up(&s, 2), JSON_ANSWER);
    advance(&s.w, 5);
    answer(up(&s, 0), JSON_ANSWER);
    check_int(s.client->got_len, 0);
    advance(&s.w, 5);
    answer(up(&s, 1), JSON_ANSWER);
    check_answer(&s, 200, RESULTS(GOOD("a", MS(5)) "," GOOD("b", MS(10)) "," GOOD("c", MS(0)), 3, 0, 0));
    struct parsed m = message_at(s.client, 0);
    check_str(field_of(&m, "content-type"), "application/json");
    check_int(field_of(&m, "x-thaw-tape").len, 26);
    check(field_of(&m, "content-length").len > 0);
    check_only(&s.w, OUTCOME_COMPLETE, 1);
    check_open(up(&s, 0));
    world_close(&s.w);
}

static void a_call_is_sent_as_it_would_be_alone(void **state UNUSED) {
    struct world w;
    static const char body[] = "{\"calls\":[{\"path\":\"/v1/embeddings?x=1\",\"body\":{ \"model\" : \"m\\u0041\", "
                               "\"n\":1.0e0,\n \"z\":[] }},{\"path\":\"/v1/messages\",\"body\":{\"model\":\"q\"}}]}";
    char head[600];
    world_open(&w, "upstreams: {up: {url: mock}}\nmodels: {mA: {use: [up/other]}, q: {use: [up]}}\n");
    struct peer *client = client_open(&w);
    snprintf(head, sizeof head,
             "POST " PATH " HTTP/1.1\r\nHost: thaw\r\nContent-Type: application/json; charset=utf-8\r\n"
             "Authorization: Bearer k\r\nX-Custom: c\r\nX-Request-Id: abc\r\nIdempotency-Key: i\r\nPrefer: wait=5\r\n"
             "X-Thaw-Resume: 1\r\nX-Thaw-Progress: 1\r\nAccept-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    send_text(client, head);
    struct parsed m = message_at(upstream_peer(&w, "up", 0), 0);
    check_str(m.start, "POST /embeddings?x=1 HTTP/1.1");
    check_str(m.body, "{ \"model\" : \"other\", \"n\":1.0e0,\n \"z\":[] }");
    check_str(field_of(&m, "content-length"), "41");
    check_str(field_of(&m, "content-type"), "application/json");
    check_int(fields_of(&m, "content-type"), 1);
    check_str(field_of(&m, "authorization"), "Bearer k");
    check_str(field_of(&m, "x-custom"), "c");
    check_str(field_of(&m, "x-request-id"), "abc-0");
    static const char *const not_there[] = {"idempotency-key", "prefer", "x-thaw-resume", "x-thaw-progress",
                                            "accept-encoding"};
    for (size_t i = 0; i < ARRAY_LEN(not_there); i++) {
        check_int(fields_of(&m, not_there[i]), 0);
    }
    m = message_at(upstream_peer(&w, "up", 1), 0);
    check_str(m.start, "POST /messages HTTP/1.1");
    check_str(m.body, "{\"model\":\"q\"}");
    check_str(field_of(&m, "x-request-id"), "abc-1");
    answer(upstream_peer(&w, "up", 0), JSON_ANSWER);
    answer(upstream_peer(&w, "up", 1), JSON_ANSWER);
    check_str(message_at(client, 0).body, RESULTS(GOOD("0", MS(0)) "," GOOD("1", MS(0)), 2, 0, 0));
    world_close(&w);
}

static void keys_of_ours_go_nowhere(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "keys: [thaw]\n");
    struct peer *client = client_open(&w);
    client_post(client, PATH, THREE(""));
    check_int(message_at(client, 0).status, 401);
    send_with(client_open(&w), "X-Api-Key: thaw\r\n", THREE(""));
    check_lacks(upstream_peer(&w, "up", 0), "x-api-key");
    check_lacks(upstream_peer(&w, "up", 0), "X-Api-Key");
    world_close(&w);
}

#define FAILED(text, type, code)                                                                                       \
    "\"error\":{\"message\":\"" text "\",\"type\":\"" type "\",\"param\":null,\"code\":\"" code "\"}," MS(0) "}"

// A body that is no JSON is a string; what an upstream refuses is told beside its own words; half of one is none.
static void answers_are_told_as_they_are(void **state UNUSED) {
    static const struct {
        const char *answer;
        const char *result;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nno \"json", "200,\"body\":\"no \\\"json\"," MS(0) "}"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n [1] \n", "200,\"body\": [1]," MS(0) "}"},
        {REFUSAL, "429,\"body\":" REFUSAL_BODY "," FAILED("slow down", "requests", "rate")},
        {"HTTP/1.1 204 No Content\r\n\r\n", "204," MS(0) "}"},
        {"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\noh",
         "500,\"body\":\"oh\"," FAILED("The upstream answered with 500.", "upstream_error", "upstream_failed")},
        {"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"ha",
         "502," FAILED("The upstream 'up' (mock) failed: the upstream closed the connection in the middle of its "
                       "answer.",
                       "upstream_error", "upstream_failed")},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene s;
        char want[600];
        open_scene(&s, ONE_UPSTREAM, "{\"calls\":[" CALL("a", "") "]}");
        answer(up(&s, 0), cases[i].answer);
        finish(up(&s, 0));
        snprintf(want, sizeof want, "\"results\":[{\"id\":\"a\",\"status\":%s]", cases[i].result);
        check_int(message_at(s.client, 0).status, 200);
        check_has(s.client, want);
        check_only(&s.w, OUTCOME_COMPLETE, 1);
        world_close(&s.w);
    }
}

static void a_compressed_answer_is_not_passed_off_as_text(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, "{\"calls\":[" CALL("a", "") "]}");
    answer(up(&s, 0), "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b");
    check_has(s.client, "\"status\":502,\"error\"");
    check_has(s.client, "\"code\":\"answer_encoded\"");
    world_close(&s.w);
}

static void an_answer_over_the_limit_is_cancelled(void **state UNUSED) {
    struct scene s;
    char much[1100];
    memset(much, ' ', sizeof much);
    open_scene(&s, ONE_UPSTREAM "parallel: {answer: 1k}\n", "{\"calls\":[" CALL("a", "") "," CALL("b", "") "]}");
    answer(up(&s, 0), "HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n");
    send_bytes(up(&s, 0), str_from(much, sizeof much));
    check_dropped(up(&s, 0));
    answer(up(&s, 1), JSON_ANSWER);
    check_has(s.client, "\"code\":\"answer_too_large\"");
    check_has(s.client, "(parallel.answer)");
    check_has(s.client, "\"done\":1,\"failed\":1,\"cancelled\":0");
    world_close(&s.w);
}

// ---- the wait

static void any_is_over_with_the_first_success(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"wait\":\"any\""));
    answer(up(&s, 0), "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    check_int(s.client->got_len, 0);
    advance(&s.w, 3);
    answer(up(&s, 2), JSON_ANSWER);
    check_dropped(up(&s, 1));
    check_open(up(&s, 2));
    check_has(s.client, "\"results\":[{\"id\":\"a\",\"status\":500,\"error\"");
    check_has(s.client, CANCELLED("b", 3) "," GOOD("c", MS(3)) "],\"done\":1,\"failed\":1,\"cancelled\":1}");
    check_int(s.w.worker.shelf.running, 0);
    check_only(&s.w, OUTCOME_COMPLETE, 1);
    world_close(&s.w);
}

static void any_without_success_tells_all_failures(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"wait\":\"any\""));
    for (unsigned i = 0; i < 3; i++) {
        check_int(s.client->got_len, 0);
        answer(up(&s, i), "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    }
    check_int(message_at(s.client, 0).status, 200);
    check_has(s.client, "\"done\":0,\"failed\":3,\"cancelled\":0");
    world_close(&s.w);
}

static void first_k_waits_for_k(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"wait\":{\"first\":2}"));
    answer(up(&s, 2), JSON_ANSWER);
    check_int(s.client->got_len, 0);
    answer(up(&s, 0), JSON_ANSWER);
    check_answer(&s, 200, RESULTS(GOOD("a", MS(0)) "," CANCELLED("b", 0) "," GOOD("c", MS(0)), 2, 0, 1));
    check_dropped(up(&s, 1));
    world_close(&s.w);
}

static void a_strict_one_fails_with_its_first_failure(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"on_error\":\"fail\""));
    answer(up(&s, 0), JSON_ANSWER);
    answer(up(&s, 1), REFUSAL);
    check_answer(&s, 502,
                 "{\"error\":{\"message\":\"The call 'b' failed: slow down\",\"type\":\"upstream_error\","
                 "\"param\":\"calls[1]\",\"code\":\"rate\"}}\n");
    struct parsed m = message_at(s.client, 0);
    check_str(field_of(&m, "retry-after"), "7");
    check_dropped(up(&s, 2));
    check_int(s.w.worker.shelf.running, 0);
    world_close(&s.w);
}

static void a_strict_one_goes_on_while_enough_may_succeed(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"on_error\":\"fail\",\"wait\":{\"first\":2}"));
    answer(up(&s, 0), "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    check_int(s.client->got_len, 0);
    answer(up(&s, 1), JSON_ANSWER);
    answer(up(&s, 2), JSON_ANSWER);
    check_int(message_at(s.client, 0).status, 200);
    world_close(&s.w);
}

static void the_deadline_ends_the_wait(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"deadline\":\"30s\""));
    answer(up(&s, 1), JSON_ANSWER);
    answer(up(&s, 2), "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"ha");
    advance(&s.w, 29999);
    check_int(s.client->got_len, 0);
    advance(&s.w, 1);
#define LATE                                                                                                           \
    "\"status\":504,\"error\":{\"message\":\"The call was not answered within its deadline of 30s.\",\"type\":"        \
    "\"upstream_error\",\"param\":null,\"code\":\"deadline\"},\"ms\":{\"first_byte\":"
    check_answer(&s, 200,
                 RESULTS("{\"id\":\"a\"," LATE "null,\"total\":30000}}," GOOD("b", MS(0)) ",{\"id\":\"c\"," LATE
                                                                                          "0,\"total\":30000}}",
                         1, 2, 0));
    check_dropped(up(&s, 0));
    check_dropped(up(&s, 2));
    world_close(&s.w);
}

static void a_strict_one_over_its_deadline_is_504(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"deadline\":1.5,\"on_error\":\"fail\""));
    advance(&s.w, 1500);
    check_int(message_at(s.client, 0).status, 504);
    check_has(s.client, "\"code\":\"deadline\"");
    check_all_dropped(&s, 0);
    world_close(&s.w);
}

static void a_call_has_a_timeout_of_its_own(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, "{\"calls\":[" CALL("a", "") "," CALL("b", ",\"timeout\":\"250ms\"") "]}");
    advance(&s.w, 250);
    check_dropped(up(&s, 1));
    check_open(up(&s, 0));
    check_int(s.client->got_len, 0);
    answer(up(&s, 0), JSON_ANSWER);
    check_has(s.client, "\"code\":\"timeout\"");
    check_has(s.client, "within its timeout of 250ms");
    check_has(s.client, "\"done\":1,\"failed\":1,\"cancelled\":0");
    world_close(&s.w);
}

// ---- leaving, cancelling, joining: as a call's tape

static void a_client_that_leaves_drops_all(void **state UNUSED) {
    static const char *const more[] = {"", ",\"stream\":true"};
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        struct scene s;
        char json[600];
        snprintf(json, sizeof json, "{\"calls\":[" ABC "]%s}", more[i]);
        open_scene(&s, ONE_UPSTREAM, json);
        answer(up(&s, 0), "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"ha");
        answer(up(&s, 1), STREAM_HEAD "b\r\ndata: one\n\n\r\n");
        reset(s.client);
        check_all_dropped(&s, 0);
        check_int(outcomes_total(&s.w), 1);
        check_int(count_of(&s.w.worker.meter->outcomes[i ? OUTCOME_GONE_READING : OUTCOME_GONE_WAITING]), 1);
        world_close(&s.w);
    }
}

static void tape_request(struct peer *client, const char *method, const struct parsed *m, const char *query) {
    char text[200];
    struct str id = field_of(m, "x-thaw-tape");
    check_int(id.len, 26);
    forget(client);
    snprintf(text, sizeof text, "%s /v1/tapes/%.*s%s HTTP/1.1\r\nHost: h\r\n\r\n", method, STR_ARG(id), query);
    send_text(client, text);
}

// As with one call: the route's setting goes before the one for all, a kept answer has its own.
static void a_route_says_what_becomes_of_it_without_its_client(void **state UNUSED) {
    static const struct {
        const char *yaml, *fields;
        bool goes_on;
    } cases[] = {
        {"", "", false},
        {"on_disconnect: finish\n", "", true},
        {"routes: {/v1/parallel: {on_disconnect: finish}}\n", "", true},
        {"on_disconnect: finish\nroutes: {/v1/parallel: {on_disconnect: cancel}}\n", "", false},
        {"on_disconnect: finish\ntape: {on_disconnect: cancel}\n", "X-Thaw-Resume: 1\r\n", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world w;
        char yaml[256];
        snprintf(yaml, sizeof yaml, ONE_UPSTREAM "%s", cases[i].yaml);
        world_open(&w, yaml);
        struct peer *client = client_open(&w);
        send_with(client, cases[i].fields, THREE(""));
        reset(client);
        check_int(w.worker.shelf.running, cases[i].goes_on ? 4 : 0);
        world_close(&w);
    }
}

static void in_the_background_and_cancelled(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_with(client, "Prefer: respond-async\r\n", THREE(""));
    struct parsed m = message_at(client, 0);
    check_int(m.status, 202);
    char *kept = str_dup(got(client));
    close_peer(client);
    check_int(upstream_count(&w, "up"), 3);
    check_lacks(upstream_peer(&w, "up", 0), "respond-async");
    check_open(upstream_peer(&w, "up", 2));
    struct peer *other = client_open(&w);
    send_text(other, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    struct str id = str_first(str_skip(str_c(kept), str_search(str_c(kept), STR("X-Thaw-Tape: ")) + 13), 26);
    char text[200];
    forget(other);
    snprintf(text, sizeof text, "DELETE /v1/tapes/%.*s HTTP/1.1\r\nHost: h\r\n\r\n", STR_ARG(id));
    send_text(other, text);
    check_has(other, "\"state\":\"cancelled\"");
    for (unsigned i = 0; i < 3; i++) {
        check_dropped(upstream_peer(&w, "up", i));
    }
    check_int(w.worker.shelf.running, 0);
    free(kept);
    world_close(&w);
}

static void a_stream_that_is_cancelled_says_so(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    struct peer *other = client_open(&w);
    send_with(client, "X-Thaw-Resume: 1\r\n", THREE(",\"stream\":true"));
    answer(upstream_peer(&w, "up", 0), JSON_ANSWER);
    struct parsed m = message_at(client, 0);
    tape_request(other, "DELETE", &m, "");
    check_has(client, "event: result\ndata: {\"id\":\"a\"");
    check_has(client, "event: error\ndata: {\"error\":{\"message\":\"its client cancelled it\",\"type\":\"cancelled\"");
    check_lacks(client, "event: done");
    check(!message_at(client, 0).whole);
    check_int(count_of(&w.worker.meter->outcomes[OUTCOME_CANCELLED]), 1);
    check_int(w.worker.shelf.running, 0);
    world_close(&w);
}

static void in_the_background_and_read_later(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_with(client, "Prefer: respond-async\r\n", THREE(""));
    struct parsed m = message_at(client, 0);
    check_int(m.status, 202);
    for (unsigned i = 0; i < 3; i++) {
        answer(upstream_peer(&w, "up", i), JSON_ANSWER);
    }
    tape_request(client, "GET", &m, "");
    m = message_at(client, 0);
    check_int(m.status, 200);
    check_str(m.body, RESULTS(GOOD("a", MS(0)) "," GOOD("b", MS(0)) "," GOOD("c", MS(0)), 3, 0, 0));
    world_close(&w);
}

static void the_same_key_joins(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *first = client_open(&w);
    struct peer *second = client_open(&w);
    struct peer *third = client_open(&w);
    send_with(first, "Idempotency-Key: k\r\n", THREE(""));
    send_with(second, "Idempotency-Key: k\r\n", THREE(""));
    send_with(third, "Idempotency-Key: k\r\n", THREE(",\"wait\":\"any\""));
    check_int(message_at(third, 0).status, 422);
    check_int(upstream_count(&w, "up"), 3);
    reset(first);
    for (unsigned i = 0; i < 3; i++) {
        answer(upstream_peer(&w, "up", i), JSON_ANSWER);
    }
    struct parsed m = message_at(second, 0);
    check_str(m.body, RESULTS(GOOD("a", MS(0)) "," GOOD("b", MS(0)) "," GOOD("c", MS(0)), 3, 0, 0));
    check_str(field_of(&m, "idempotent-replayed"), "true");
    world_close(&w);
}

// ---- streams

#define CHUNK(id, data) "event: chunk\ndata: {\"id\":\"" id "\",\"data\":" data "}\n\n"
#define RESULT(text) "event: result\ndata: " text "\n\n"
#define DONE(done, failed, cancelled)                                                                                  \
    "event: done\ndata: {\"object\":\"thaw.parallel\",\"done\":" #done ",\"failed\":" #failed                          \
    ",\"cancelled\":" #cancelled "}\n\n"

static void streams_are_told_apart(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"stream\":true"));
    answer(up(&s, 0), STREAM_HEAD "d\r\ndata: {\"x\":1}\r\n");
    check_int(s.client->got_len, 0);
    answer(up(&s, 0), "2\r\n\n\n\r\n");
    struct parsed m = message_at(s.client, 0);
    check_str(field_of(&m, "content-type"), "text/event-stream");
    check_str(m.body, CHUNK("a", "{\"x\":1}"));
    answer(up(&s, 1), JSON_ANSWER);
    answer(up(&s, 2), STREAM_HEAD "1a\r\nevent: t\ndata: {\ndata: }\n\n\r\n");
    answer(up(&s, 0), "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    answer(up(&s, 2), "0\r\n\r\n");
    m = message_at(s.client, 0);
    check_str(m.body,
              CHUNK("a", "{\"x\":1}")
                  RESULT(GOOD("b", MS(0))) "event: chunk\ndata: {\"id\":\"c\",\"event\":\"t\",\"data\":{ }}\n\n" CHUNK(
                      "a", "\"[DONE]\"") RESULT("{\"id\":\"a\",\"status\":200," MS(0) "}")
                      RESULT("{\"id\":\"c\",\"status\":200," MS(0) "}") DONE(3, 0, 0));
    check(m.whole);
    check_only(&s.w, OUTCOME_COMPLETE, 1);
    world_close(&s.w);
}

static void a_stream_is_over_when_the_wait_is(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"stream\":true,\"wait\":\"any\""));
    answer(up(&s, 0), STREAM_HEAD "9\r\ndata: 1\n\n\r\n");
    answer(up(&s, 1), JSON_ANSWER);
    struct parsed m = message_at(s.client, 0);
    check_str(m.body, CHUNK("a", "1") RESULT(GOOD("b", MS(0)))
                          RESULT("{\"id\":\"a\",\"status\":null," CANCELLED_ERROR "," MS(0) "}")
                              RESULT(CANCELLED("c", 0)) DONE(1, 0, 2));
    check_dropped(up(&s, 0));
    check_dropped(up(&s, 2));
    world_close(&s.w);
}

static void a_stream_that_was_cut_is_told_and_never_whole(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, "{\"calls\":[" CALL("a", "") "],\"stream\":true}");
    answer(up(&s, 0), STREAM_HEAD "9\r\ndata: 1\n\n\r\n");
    close_peer(up(&s, 0));
    check_has(s.client, CHUNK("a", "1"));
    check_has(s.client, "\"status\":502,\"error\"");
    check_has(s.client, DONE(0, 1, 0));
    world_close(&s.w);
}

static void a_strict_stream_fails_as_an_error_or_by_an_event(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"stream\":true,\"on_error\":\"fail\""));
    answer(up(&s, 1), REFUSAL);
    struct parsed m = message_at(s.client, 0);
    check_int(m.status, 502); // nothing was told before
    check_str(field_of(&m, "content-type"), "application/json");
    check_str(m.body,
              "{\"error\":{\"message\":\"The call 'b' failed: slow down\",\"type\":\"upstream_error\",\"param\":"
              "\"calls[1]\",\"code\":\"rate\"}}\n");
    check_all_dropped(&s, 2);
    world_close(&s.w);

    open_scene(&s, ONE_UPSTREAM, THREE(",\"stream\":true,\"on_error\":\"fail\""));
    answer(up(&s, 0), STREAM_HEAD "9\r\ndata: 1\n\n\r\n");
    answer(up(&s, 1), REFUSAL);
    m = message_at(s.client, 0);
    check_int(m.status, 200);
    check(m.whole);
    check_has(s.client, "event: error\ndata: {\"error\":{\"message\":\"The call 'b' failed: slow down\"");
    check_lacks(s.client, "event: done");
    check_dropped(up(&s, 0));
    world_close(&s.w);
}

static void a_stream_is_read_on_behind_an_event(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_with(client, "X-Thaw-Resume: 1\r\n", "{\"calls\":[" CALL("a", "") "," CALL("b", "") "],\"stream\":true}");
    struct peer *a = upstream_peer(&w, "up", 0);
    struct peer *b = upstream_peer(&w, "up", 1);
    answer(a, STREAM_HEAD "9\r\ndata: 1\n\n\r\n");
    struct parsed m = message_at(client, 0);
    char want[400];
    struct str id = field_of(&m, "x-thaw-tape");
    snprintf(want, sizeof want, "event: chunk\ndata: {\"id\":\"a\",\"data\":1}\nid: %.*s:0\n\n", STR_ARG(id));
    check_str(m.body, want);
    answer(a, "9\r\ndata: 2\n\n\r\n0\r\n\r\n");
    answer(b, JSON_ANSWER);
    m = message_at(client, 0);
    check(m.whole);
    struct str whole = m.body;
    char *all = str_dup(whole);
    tape_request(client, "GET", &m, "?starting_after=1");
    m = message_at(client, 0);
    struct str rest = str_skip(str_c(all), str_search(str_c(all), STR(":1\n\n")) + 4);
    check_int(m.status, 200);
    check(str_ends(m.body, rest));
    check_int(m.body.len, rest.len + strlen("retry: 1000\n"));
    check(str_starts(rest, STR("event: result\ndata: {\"id\":\"a\"")));
    free(all);
    world_close(&w);
}

// ---- slow clients

static void a_slow_client_holds_up_the_streams(void **state UNUSED) {
    enum { EVENTS = 20000 };
    struct scene s;
    unsigned events = small_window() ? 40 : EVENTS;
    open_scene(&s, ONE_UPSTREAM, "{\"calls\":[" CALL("a", "") "," CALL("b", "") "],\"stream\":true}");
    char event[120];
    char pad[81];
    memset(pad, 'x', 80);
    pad[80] = '\0';
    peer_read(s.client, 0);
    answer(up(&s, 0), STREAM_HEAD);
    answer(up(&s, 1), STREAM_HEAD);
    for (unsigned i = 0; i < events; i++) {
        snprintf(event, sizeof event, "60\r\ndata: \"%06u%s\"\n\n\r\n", i, pad);
        peer_queue(up(&s, 0), str_c(event));
        peer_queue(up(&s, 1), str_c(event));
    }
    settle(&s.w);
    if (!small_window()) {
        check(unsent(up(&s, 0)) > 0); // held up
        check(unsent(up(&s, 1)) > 0);
    }
    peer_queue(up(&s, 0), STR("0\r\n\r\n"));
    peer_queue(up(&s, 1), STR("0\r\n\r\n"));
    peer_read(s.client, SIZE_MAX);
    settle(&s.w);
    struct parsed m = message_at(s.client, 0);
    check(m.whole);
    unsigned next[2] = {0, 0};
    struct str rest = m.body;
    for (size_t at; (at = str_search(rest, STR("{\"id\":\""))) < rest.len;) {
        rest = str_skip(rest, at + 7);
        unsigned which = rest.ptr[0] == 'b';
        if (str_starts(str_skip(rest, 2), STR(",\"data\":\""))) {
            uint64_t n = 0;
            check_ok(parse_u64(str_first(str_skip(rest, 11), 6), &n));
            check_int(n, next[which]++);
        }
    }
    check_int(next[0], events);
    check_int(next[1], events);
    check(str_ends(m.body, STR(DONE(2, 0, 0))));
    world_close(&s.w);
}

static void a_slow_client_gets_all_results(void **state UNUSED) {
    enum { MUCH = 200 * 1000 };
    struct scene s;
    size_t much = small_window() ? 500 : MUCH;
    char *body = xmalloc(much);
    char head[100];
    memset(body, '7', much);
    open_scene(&s, ONE_UPSTREAM, THREE(""));
    peer_read(s.client, 0);
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", much);
    for (unsigned i = 0; i < 3; i++) {
        answer(up(&s, i), head);
        send_bytes(up(&s, i), str_from(body, much));
    }
    if (!small_window()) { // no more than its window and one result lie on its tape
        check_int(s.w.worker.shelf.running, 1);
    }
    peer_read(s.client, SIZE_MAX);
    settle(&s.w);
    struct parsed m = message_at(s.client, 0);
    check(m.whole);
    check(m.body.len > 3 * much);
    check(str_ends(m.body, STR("\"done\":3,\"failed\":0,\"cancelled\":0}\n")));
    free(body);
    world_close(&s.w);
}

// ---- what is refused

static void what_cannot_be_done_is_refused_by_name(void **state UNUSED) {
    static const struct {
        const char *json;
        int status;
        const char *says; // somewhere in the answer
    } cases[] = {
        {"", 400, "invalid_json"},
        {"{\"calls\":[", 400, "\"code\":\"invalid_json\""},
        {"[]", 400, "must be an object"},
        {"{}", 400, "\"param\":\"calls\""},
        {"{\"calls\":[]}", 422, "1 to 3 calls in one (parallel.branches), not 0"},
        {"{\"calls\":[" ABC "," CALL("d", "") "]}", 422, "1 to 3 calls in one (parallel.branches), not 4"},
        {"{\"calls\":[1]}", 400, "\"param\":\"calls[0]\""},
        {"{\"calls\":[{\"body\":{}}]}", 400, "\"param\":\"calls[0].path\""},
        {"{\"calls\":[{\"path\":\"/v1/embeddings\"}]}", 400, "\"param\":\"calls[0].body\""},
        {"{\"calls\":[" CALL("a", "") ",{\"path\":\"/v1/embeddings\",\"body\":[]}]}", 400,
         "\"param\":\"calls[1].body\""},
        {"{\"calls\":[" CALL("a", "") "," CALL("a", "") "]}", 422, "\"param\":\"calls[1].id\""},
        {"{\"calls\":[" CALL("1", "") ",{\"path\":\"/v1/embeddings\",\"body\":{}}]}", 422, "index of this one"},
        {"{\"calls\":[" CALL("", "") "]}", 422, "\"param\":\"calls[0].id\""},
        {"{\"calls\":[{\"path\":\"/v1/nothing\",\"body\":{}}]}", 404, "\"param\":\"calls[0].path\""},
        {"{\"calls\":[{\"path\":\"/v1/models\",\"body\":{}}]}", 404, "\"param\":\"calls[0].path\""},
        {"{\"calls\":[{\"path\":\"/chat/completions\",\"body\":{}}]}", 404, "/v1/chat/completions"},
        {"{\"calls\":[{\"path\":\"/v1/parallel\",\"body\":{}}]}", 422, "cannot be nested"},
        {"{\"calls\":[{\"path\":\"/chat?prompt=x\",\"body\":{}}]}", 422, "cannot be nested"},
        {"{\"calls\":[{\"path\":\"/v1/embeddings HTTP/1.1\\r\\nX: y\",\"body\":{}}]}", 422,
         "\"param\":\"calls[0].path\""},
        {"{\"calls\":[{\"path\":\"/v1/embeddings?\\u0000\",\"body\":{}}]}", 422, "\"param\":\"calls[0].path\""},
        {"{\"calls\":[{\"path\":\"v1/embeddings\",\"body\":{}}]}", 422, "\"param\":\"calls[0].path\""},
        {"{\"calls\":[{\"path\":\"/v1/embeddings\",\"body\":{\"model\":1}}]}", 400,
         "\"param\":\"calls[0].body.model\""},
        {"{\"calls\":[{\"path\":\"/v1/embeddings\",\"body\":{\"model\":\"z\"}}]}", 404,
         "\"param\":\"calls[0].body.model\""},
        {"{\"calls\":[{\"path\":\"/v1/embeddings\",\"body\":{}}]}", 400, "\"param\":\"calls[0].body.model\""},
        {"{\"calls\":[{\"path\":\"/v1/embeddings\",\"bodi\":{}}]}", 400, "did you mean 'body'?"},
        {THREE(",\"dead_line\":1"), 400, "did you mean 'deadline'?"},
        {THREE(",\"calls\":[]"), 400, "'calls' is there twice"},
        {THREE(",\"wait\":\"some\""), 422, "\"param\":\"wait\""},
        {THREE(",\"wait\":1"), 400, "\"param\":\"wait\""},
        {THREE(",\"wait\":{\"first\":0}"), 422, "\"param\":\"wait\""},
        {THREE(",\"wait\":{\"first\":4}"), 422, "from 1 to 3"},
        {THREE(",\"wait\":{\"last\":1}"), 400, "'last' is not known"},
        {THREE(",\"deadline\":\"soon\""), 422, "\"param\":\"deadline\""},
        {THREE(",\"deadline\":0"), 422, "\"param\":\"deadline\""},
        {THREE(",\"deadline\":-1"), 422, "\"param\":\"deadline\""},
        {THREE(",\"deadline\":\"25h\""), 422, "\"param\":\"deadline\""},
        {THREE(",\"deadline\":true"), 400, "\"param\":\"deadline\""},
        {THREE(",\"on_error\":\"stop\""), 422, "\"param\":\"on_error\""},
        {THREE(",\"stream\":1"), 400, "\"param\":\"stream\""},
        {"{\"calls\":[" CALL("a", ",\"timeout\":\"1y\"") "]}", 422, "\"param\":\"calls[0].timeout\""},
    };
    struct world w;
    world_open(&w, ONE_UPSTREAM "models: {a: {use: [up]}, b: {use: [up]}, c: {use: [up]}, '1': {use: [up]}, "
                                "d: {use: [up]}}\nparallel: {branches: 3}\n");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer *client = client_open(&w);
        client_post(client, PATH, cases[i].json);
        struct parsed m = message_at(client, 0);
        if (m.status != cases[i].status || str_search(m.body, str_c(cases[i].says)) == m.body.len) {
            fail_msg("%s: %d %.*s", cases[i].json, m.status, STR_ARG(m.body));
        }
        close_peer(client);
    }
    check_int(upstream_count(&w, "up"), 0);
    check_only(&w, OUTCOME_REFUSED, ARRAY_LEN(cases));
    world_close(&w);
}

static void only_post_is_answered(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET " PATH " HTTP/1.1\r\nHost: h\r\n\r\n");
    struct parsed m = message_at(client, 0);
    check_int(m.status, 405);
    check_str(field_of(&m, "allow"), "POST");
    world_close(&w);
}

// ---- limits

static void as_many_as_are_allowed(void **state UNUSED) {
    struct world w;
    struct buf json;
    buf_init(&json, 1 << 20);
    world_open(&w, ONE_UPSTREAM);
    check_ok(buf_printf(&json, "{\"calls\":["));
    for (unsigned i = 0; i < 64; i++) {
        check_ok(buf_printf(&json, "%s{\"path\":\"" CHAT_PATH "\",\"body\":{\"n\":%u}}", i ? "," : "", i));
    }
    check_ok(buf_append(&json, "]}", 3));
    struct peer *client = client_open(&w);
    client_post(client, PATH, json.ptr);
    check_int(upstream_count(&w, "up"), 64);
    for (unsigned i = 64; i-- > 0;) {
        answer(upstream_peer(&w, "up", i), JSON_ANSWER);
    }
    check_has(client, GOOD("0", MS(0)) "," GOOD("1", MS(0)));
    check_has(client, GOOD("62", MS(0)) "," GOOD("63", MS(0)) "],\"done\":64,\"failed\":0,\"cancelled\":0}\n");
    buf_finish(&json);
    world_close(&w);
}

// ---- the worker's end, memory

static void shutdown_leaves_nothing(void **state UNUSED) {
    static const char *const more[] = {"", ",\"stream\":true"};
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        struct scene s;
        char json[600];
        snprintf(json, sizeof json, "{\"calls\":[" ABC "]%s}", more[i]);
        open_scene(&s, ONE_UPSTREAM, json);
        answer(up(&s, 1), STREAM_HEAD "b\r\ndata: one\n\n\r\n");
        world_finish_worker(&s.w);
        check_only(&s.w, OUTCOME_SHUTDOWN, 1);
        check(!message_at(s.client, 0).whole);
        world_close(&s.w);
    }
}

// Stopped, or left by its client, after each turn of the loop that it needs. True once it was all done before.
static bool end_after(unsigned turns, const char *json, bool leaves) {
    static const char *const answers[] = {STREAM_HEAD "9\r\ndata: 1\n\n\r\n0\r\n\r\n", JSON_ANSWER, REFUSAL};
    struct world w;
    bool answered[3] = {false, false, false};
    bool done = false;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    char head[200];
    snprintf(head, sizeof head, "POST " PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", strlen(json));
    peer_queue(client, str_c(head));
    peer_queue(client, str_c(json));
    for (unsigned quiet = 0; turns && quiet < 3; turns--) {
        quiet = loop_turn(&w.worker.loop, 0) ? 0 : quiet + 1;
        for (unsigned i = 0; i < upstream_count(&w, "up"); i++) {
            if (!answered[i] && message_at(upstream_peer(&w, "up", i), 0).whole) {
                answered[i] = true;
                peer_queue(upstream_peer(&w, "up", i), str_c(answers[i]));
            }
        }
        done = outcomes_total(&w) == 1;
    }
    if (leaves) {
        reset(client);
        check_int(w.worker.shelf.running, 0);
        check_int(w.worker.in_flight, 0);
    }
    world_finish_worker(&w);
    check(count_of(&w.worker.meter->outcomes[OUTCOME_COMPLETE]) == done);
    world_close(&w);
    return done && turns;
}

static void it_may_end_at_any_turn(void **state UNUSED) {
    static const char *const asked[] = {THREE(""), THREE(",\"stream\":true"), THREE(",\"wait\":\"any\"")};
    for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
        for (int leaves = 0; leaves <= 1; leaves++) {
            unsigned turns = 0;
            while (!end_after(turns, asked[i], leaves)) {
                turns += 1 + (small_window() ? turns / 8 : 0);
                check(turns < 1000 * 1000);
            }
            check(turns > 3);
        }
    }
}

static void draining_says_that_a_stream_was_cut(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM, THREE(",\"stream\":true"));
    answer(up(&s, 1), STREAM_HEAD "b\r\ndata: one\n\n\r\n");
    worker_drain(&s.w.worker, 1000);
    advance(&s.w, 1100);
    check_has(s.client, "event: error\ndata: {\"error\":{\"message\":\"thaw is being shut down");
    check_lacks(s.client, "event: done");
    check(!message_at(s.client, 0).whole);
    world_close(&s.w);
}

static void play(const char *json, const char *fields, unsigned n, int forever, bool *fired) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    mem_fail_after(n, forever);
    send_with(client, fields, json);
    static const char *const answers[] = {STREAM_HEAD "d\r\ndata: {\"x\":1}\r\n2\r\n\n\n\r\n0\r\n\r\n", JSON_ANSWER,
                                          REFUSAL};
    for (unsigned i = 0; i < 3 && i < upstream_count(&w, "up"); i++) {
        answer(upstream_peer(&w, "up", i), answers[i]);
    }
    *fired = mem_fail_fired();
    mem_fail_after(0, 0);
    advance(&w, 1000 * 1000);
    check_int(w.worker.in_flight, 0);
    check_int(w.worker.shelf.running, 0);
    struct peer *next = client_open(&w);
    send_text(next, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    check_int(message_at(next, 0).status, 200);
    world_close(&w);
}

static void every_allocation_may_fail(void **state UNUSED) {
    static const struct {
        const char *json, *fields;
    } scenes[] = {{THREE(""), ""},
                  {THREE(",\"stream\":true"), ""},
                  {THREE(",\"on_error\":\"fail\""), ""},
                  {THREE(",\"stream\":true"), "X-Thaw-Resume: 1\r\n"},
                  {THREE(""), "Idempotency-Key: k\r\n"}};
    for (size_t i = 0; i < ARRAY_LEN(scenes); i++) {
        for (int forever = 0; forever <= 1; forever++) {
            bool fired = true;
            unsigned n = 1;
            for (; fired && n < 100000; n += small_window() ? 1 + n / 8 : 1) {
                play(scenes[i].json, scenes[i].fields, n, forever, &fired);
            }
            check(n > 10);
        }
    }
}

FLOWS(TEST(calls_are_made_at_once_and_told_in_order), TEST(a_call_is_sent_as_it_would_be_alone),
      TEST(keys_of_ours_go_nowhere), TEST(answers_are_told_as_they_are),
      TEST(a_compressed_answer_is_not_passed_off_as_text), TEST(an_answer_over_the_limit_is_cancelled),
      TEST(any_is_over_with_the_first_success), TEST(any_without_success_tells_all_failures), TEST(first_k_waits_for_k),
      TEST(a_strict_one_fails_with_its_first_failure), TEST(a_strict_one_goes_on_while_enough_may_succeed),
      TEST(the_deadline_ends_the_wait), TEST(a_strict_one_over_its_deadline_is_504),
      TEST(a_call_has_a_timeout_of_its_own), TEST(a_client_that_leaves_drops_all),
      TEST(a_route_says_what_becomes_of_it_without_its_client), TEST(in_the_background_and_cancelled),
      TEST(a_stream_that_is_cancelled_says_so), TEST(in_the_background_and_read_later), TEST(the_same_key_joins),
      TEST(streams_are_told_apart), TEST(a_stream_is_over_when_the_wait_is),
      TEST(a_stream_that_was_cut_is_told_and_never_whole), TEST(a_strict_stream_fails_as_an_error_or_by_an_event),
      TEST(a_stream_is_read_on_behind_an_event), TEST(a_slow_client_holds_up_the_streams),
      TEST(a_slow_client_gets_all_results), TEST(what_cannot_be_done_is_refused_by_name), TEST(only_post_is_answered),
      TEST(as_many_as_are_allowed), TEST(shutdown_leaves_nothing), TEST(it_may_end_at_any_turn),
      TEST(draining_says_that_a_stream_was_cut), TEST(every_allocation_may_fail))
