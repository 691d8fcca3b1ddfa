// SPDX-License-Identifier: MIT
// What a call looks like at the upstream, and its answer at the client, when nothing goes wrong.
#include "flow.h"

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}"

// COMPLETE
static void answer_is_relayed_whole(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH "?a=b%20c", CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    struct parsed asked = message_at(up, 0);
    check_str(asked.start, "POST /chat/completions?a=b%20c HTTP/1.1");
    check_str(field_of(&asked, "host"), "mock");
    check_str(field_of(&asked, "content-type"), "application/json");
    check_str(field_of(&asked, "via"), "1.1 thaw");
    check_str(asked.body, CHAT);
    check(asked.whole);
    check_int(outcomes_total(&w), 0);
    answer(up, OK_ANSWER);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 200);
    check_str(field_of(&m, "content-type"), "application/json");
    check_str(m.body, "{\"ok\":true}");
    check(m.whole);
    check_only(&w, OUTCOME_COMPLETE, 1);
    check_open(client);
    check_open(up);
    world_close(&w);
}

static void chunked_answer_is_relayed_whole(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n");
    struct parsed m = message_at(client, 0);
    check_str(m.body, "hello");
    check(!m.whole);
    answer(up, "6\r\n world\r\n0\r\nX-Trailer: dropped\r\n\r\n");
    m = message_at(client, 0);
    check_str(m.body, "hello world");
    check(m.whole);
    check_lacks(client, "X-Trailer");
    check_only(&w, OUTCOME_COMPLETE, 1);
    check_open(up);
    world_close(&w);
}

// RFC 9112 section 6.3, rule 8: nothing but the connection's end tells where it ends.
static void answer_until_the_connections_end_is_whole(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 200 OK\r\n\r\nuntil the end");
    check(!message_at(client, 0).whole);
    finish(up);
    struct parsed m = message_at(client, 0);
    check_str(m.body, "until the end");
    check(m.whole);
    check_only(&w, OUTCOME_COMPLETE, 1);
    check_dropped(up);
    check_open(client);
    world_close(&w);
}

static void events_pass_as_they_come(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: max-age=9\r\n"
               "X-Accel-Buffering: yes\r\nTransfer-Encoding: chunked\r\n\r\n");
    struct parsed m = message_at(client, 0);
    check_str(field_of(&m, "cache-control"), "no-cache");
    check_str(field_of(&m, "x-accel-buffering"), "no");
    check_int(fields_of(&m, "cache-control"), 1);
    check_int(fields_of(&m, "x-accel-buffering"), 1);
    answer(up, "a\r\ndata: one\n\r\n");
    check_str(message_at(client, 0).body, "data: one\n"); // not held back until the event is whole
    answer(up, "1\r\n\n\r\n");
    answer(up, "f\r\ndata: [DONE]\n\n\n\r\n0\r\n\r\n");
    m = message_at(client, 0);
    check_str(m.body, "data: one\n\ndata: [DONE]\n\n\n");
    check(m.whole);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void connections_are_used_again(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    for (unsigned i = 0; i < 3; i++) {
        client_post(client, CHAT_PATH, CHAT);
        answer(upstream_peer(&w, "up", 0), OK_ANSWER);
        check(message_at(client, 0).whole);
        forget(client);
    }
    check_int(upstream_count(&w, "up"), 1);
    check_only(&w, OUTCOME_COMPLETE, 3);
    world_close(&w);
}

static void calls_at_once_get_connections_of_their_own(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *clients[3];
    for (unsigned i = 0; i < 3; i++) {
        char body[64];
        snprintf(body, sizeof body, "{\"model\":\"m\",\"n\":%u}", i);
        clients[i] = client_open(&w);
        client_post(clients[i], CHAT_PATH, body);
    }
    check_int(upstream_count(&w, "up"), 3);
    for (unsigned i = 3; i--;) { // the last one is answered first
        char text[64];
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%u", i);
        answer(upstream_peer(&w, "up", i), text);
        check_int(message_at(clients[i], 0).body.ptr[0], '0' + (int)i);
    }
    check_only(&w, OUTCOME_COMPLETE, 3);
    world_close(&w);
}

static void pipelined_requests_are_answered_in_order(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/one HTTP/1.1\r\nHost: h\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
                      "GET /v1/three HTTP/1.1\r\nHost: h\r\n\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    check_int(client->got_len, 0);
    answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3");
    struct parsed one = message_at(client, 0);
    struct parsed two = message_at(client, one.used);
    struct parsed three = message_at(client, one.used + two.used);
    check_str(one.body, "1");
    check(str_starts(two.body, STR("{\"status\":\"ok\"")));
    check_str(three.body, "3");
    check_int(count_of(&w.worker.meter->outcomes[OUTCOME_COMPLETE]), 2);
    check_int(count_of(&w.worker.meter->outcomes[OUTCOME_LOCAL]), 1);
    world_close(&w);
}

// ---- the body

static void body_goes_on_byte_for_byte(void **state UNUSED) {
    static const char body[] = " {\"b\" :1e999,\n\t\"model\":\"m\", \"a\":[1 ,2,\"\\u00e9\\/\"] }\r\n ";
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, "/v1/embeddings", body);
    check_str(message_at(upstream_peer(&w, "up", 0), 0).body, body);
    world_close(&w);
}

#define MODELS TWO_UPSTREAMS "models: {fast: {use: [a/gpt-5-mini, 'b/q\"3']}, plain: {use: [b]}}\n"

static void models_name_is_rewritten_and_nothing_else(void **state UNUSED) {
    struct world w;
    world_open(&w, MODELS);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH,
                "{ \"x\":\"fast\" , \"model\" : \"f\\u0061st\", \"messages\" : [ {\"model\":\"fast\"} ]}  ");
    struct parsed m = message_at(upstream_peer(&w, "a", 0), 0);
    check_str(m.body, "{ \"x\":\"fast\" , \"model\" : \"gpt-5-mini\", \"messages\" : [ {\"model\":\"fast\"} ]}  ");
    check(m.whole);
    world_close(&w);
}

static void model_of_the_same_name_stays_as_written(void **state UNUSED) {
    struct world w;
    world_open(&w, MODELS);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, "{\"model\":\"pl\\u0061in\"}");
    check_str(message_at(upstream_peer(&w, "b", 0), 0).body, "{\"model\":\"pl\\u0061in\"}");
    check_int(upstream_count(&w, "a"), 0);
    world_close(&w);
}

static void body_without_a_model_reaches_the_first_upstream(void **state UNUSED) {
    struct world w;
    world_open(&w, TWO_UPSTREAMS);
    struct peer *client = client_open(&w);
    client_post(client, "/v1/responses", "{}");
    check_str(message_at(upstream_peer(&w, "a", 0), 0).body, "{}");
    world_close(&w);
}

static void other_paths_are_relayed_without_a_look(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client,
              "PUT /v1/files/x?y=%2F HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\nContent-Length: 4\r\n\r\n{not");
    struct peer *up = upstream_peer(&w, "up", 0);
    struct parsed m = message_at(up, 0);
    check_str(m.start, "PUT /files/x?y=%2F HTTP/1.1");
    check_str(field_of(&m, "content-length"), "4");
    check_str(m.body, "{not");
    answer(up, "HTTP/1.1 204 No Content\r\n\r\n");
    check_int(message_at(client, 0).status, 204);
    check_only(&w, OUTCOME_COMPLETE, 1);
    check_open(up);
    world_close(&w);
}

static void upload_streams_through(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST /v1/audio HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    struct parsed m = message_at(up, 0);
    check_str(field_of(&m, "transfer-encoding"), "chunked");
    check_str(m.body, "one"); // before the rest has come
    check(!m.whole);
    send_text(client, "3\r\ntwo\r\n");
    check_str(message_at(up, 0).body, "onetwo");
    send_text(client, "0\r\nX-Trailer: dropped\r\n\r\n");
    check(message_at(up, 0).whole);
    check_lacks(up, "X-Trailer");
    answer(up, OK_ANSWER);
    check_str(message_at(client, 0).body, "{\"ok\":true}");
    check_only(&w, OUTCOME_COMPLETE, 1);
    check_open(client);
    check_open(up);
    world_close(&w);
}

static void post_without_a_body_says_so(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST /v1/batches/1/cancel HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    struct parsed m = message_at(upstream_peer(&w, "up", 0), 0);
    check_str(field_of(&m, "content-length"), "0");
    check(m.whole);
    world_close(&w);
}

// ---- fields

static void hop_by_hop_fields_stay_on_their_hop(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Hop, authorization\r\nX-Hop: 1\r\n"
                      "Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nProxy-Connection: y\r\n"
                      "Proxy-Authorization: z\r\nTrailer: t\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1\r\n"
                      "X-Real-IP: 1\r\nX-Stays: a\r\nX-Stays: b\r\nAccept-Encoding: gzip\r\n\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    struct parsed m = message_at(up, 0);
    static const char *const gone[] = {"connection", "x-hop",           "keep-alive",       "te",
                                       "upgrade",    "http2-settings",  "proxy-connection", "proxy-authorization",
                                       "trailer",    "x-forwarded-for", "forwarded",        "x-real-ip"};
    for (size_t i = 0; i < ARRAY_LEN(gone); i++) {
        check_int(fields_of(&m, gone[i]), 0);
    }
    check_str(field_of(&m, "accept-encoding"), "gzip");
    check_int(fields_of(&m, "x-stays"), 2);
    check_has(up, "X-Stays: a\r\nX-Stays: b\r\n"); // RFC 9110 section 5.3: in their order
    answer(up, "HTTP/1.1 200 OK\r\nConnection: x-secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n"
               "Proxy-Authenticate: Basic\r\nTrailer: t\r\nAlt-Svc: h3=\":443\"\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
               "X-RateLimit-Remaining: 7\r\nContent-Length: 0\r\n\r\n");
    m = message_at(client, 0);
    static const char *const dropped[] = {"connection",         "x-secret", "keep-alive", "upgrade",
                                          "proxy-authenticate", "trailer",  "alt-svc"};
    for (size_t i = 0; i < ARRAY_LEN(dropped); i++) {
        check_int(fields_of(&m, dropped[i]), 0);
    }
    check_has(client, "Set-Cookie: a\r\nSet-Cookie: b\r\n");
    check_str(field_of(&m, "x-ratelimit-remaining"), "7");
    world_close(&w);
}

// A client must not get rid of what thaw adds by naming it (RFC 9110 section 7.6.1; facts A34).
static void naming_fields_in_connection_does_not_remove_ours(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {up: {url: mock, key: sk-upstream}}\nopen: true\n");
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\nConnection: authorization, via, x-request-id\r\n"
                      "Authorization: Bearer client\r\n\r\n");
    struct parsed m = message_at(upstream_peer(&w, "up", 0), 0);
    check_str(field_of(&m, "authorization"), "Bearer sk-upstream");
    check_int(fields_of(&m, "via"), 1);
    check_int(fields_of(&m, "x-request-id"), 1);
    world_close(&w);
}

static void authorization_is_passed_on_without_keys(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer client\r\n\r\n");
    struct parsed m = message_at(upstream_peer(&w, "up", 0), 0);
    check_str(field_of(&m, "authorization"), "Bearer client");
    world_close(&w);
}

static void authorization_is_replaced_by_the_upstreams_key(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {up: {url: mock, key: sk-upstream}}\n");
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer client\r\nApi-Key: client\r\nX-Api-Key: "
                      "client\r\n\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    struct parsed m = message_at(up, 0);
    check_str(field_of(&m, "authorization"), "Bearer sk-upstream");
    check_int(fields_of(&m, "authorization"), 1);
    check_int(fields_of(&m, "api-key"), 0);
    check_int(fields_of(&m, "x-api-key"), 0);
    check_lacks(up, "client");
    world_close(&w);
}

static void thaws_own_keys_go_nowhere(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "keys: [thaw-key-1, thaw-key-2]\n");
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\nX-Api-Key: thaw-key-2\r\n\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    check_lacks(up, "thaw-key");
    check_int(fields_of(&(struct parsed){.head = got(up)}, "authorization"), 0);
    world_close(&w);
}

static void request_id_is_taken_over(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\nX-Request-Id: my.id_1-Z\r\n\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    struct parsed m = message_at(up, 0);
    check_str(field_of(&m, "x-request-id"), "my.id_1-Z");
    check_int(fields_of(&m, "x-request-id"), 1);
    answer(up, OK_ANSWER);
    m = message_at(client, 0);
    check_str(field_of(&m, "x-request-id"), "my.id_1-Z");
    world_close(&w);
}

static void request_id_is_made(void **state UNUSED) {
    static const char *const unfit[] = {
        "", "X-Request-Id: a b\r\n", "X-Request-Id: \r\n", "X-Request-Id: a\"b\r\n",
        "X-Request-Id: "
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "01234567890123456789012345678\r\n"};
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    char last[64] = "";
    for (size_t i = 0; i < ARRAY_LEN(unfit); i++) {
        char text[400];
        struct peer *client = client_open(&w);
        snprintf(text, sizeof text, "GET /v1/x HTTP/1.1\r\nHost: h\r\n%s\r\n", unfit[i]);
        send_text(client, text);
        struct peer *up = upstream_peer(&w, "up", 0);
        struct parsed asked = message_at(up, 0);
        struct str id = field_of(&asked, "x-request-id");
        check(str_starts(id, STR("thaw-")));
        check(!str_eq(id, str_c(last)));
        snprintf(last, sizeof last, "%.*s", STR_ARG(id));
        forget(up);
        answer(up, OK_ANSWER);
        struct parsed m = message_at(client, 0);
        check_str(field_of(&m, "x-request-id"), last);
    }
    world_close(&w);
}

static void upstreams_request_id_reaches_the_client(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    answer(upstream_peer(&w, "up", 0), "HTTP/1.1 200 OK\r\nx-request-id: req_1\r\nContent-Length: 0\r\n\r\n");
    struct parsed m = message_at(client, 0);
    check_str(field_of(&m, "x-request-id"), "req_1");
    check_int(fields_of(&m, "x-request-id"), 1);
    world_close(&w);
}

static void names_with_underscores_are_not_passed_on(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\nX_Api_Key: sneaky\r\n\r\n");
    check_lacks(upstream_peer(&w, "up", 0), "sneaky");
    world_close(&w);
}

// ---- interim answers, Expect, HEAD, OPTIONS, HTTP/1.0

static void interim_answers_are_passed_on(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 100 Continue\r\n\r\n"); // nobody asked for it: not passed on
    check_int(client->got_len, 0);
    answer(up, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nConnection: y\r\n\r\n");
    struct parsed hints = message_at(client, 0);
    check_int(hints.status, 103);
    check_str(field_of(&hints, "link"), "</x>");
    check_int(fields_of(&hints, "connection"), 0);
    answer(up, "HTTP/1.1 102 Processing\r\n\r\n" OK_ANSWER);
    struct parsed m = last_message(client);
    check_int(m.status, 200);
    check_str(m.body, "{\"ok\":true}");
    check_has(client, "HTTP/1.1 102 ");
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

// Not to HTTP/1.0, which does not know them (RFC 9110 section 15.2).
static void interim_answers_are_kept_from_http_1_0(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.0\r\n\r\n");
    answer(upstream_peer(&w, "up", 0), "HTTP/1.1 103 Early Hints\r\n\r\n" OK_ANSWER);
    check_int(message_at(client, 0).status, 200);
    check_int(client->end, ERR_EOF);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void chunked_answer_to_http_1_0_ends_with_the_connection(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    answer(upstream_peer(&w, "up", 0), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    struct parsed m = message_at(client, 0);
    check_int(fields_of(&m, "transfer-encoding"), 0);
    check_str(field_of(&m, "connection"), "close");
    check_str(m.body, "hello");
    check_int(client->end, ERR_EOF);
    world_close(&w);
}

static void expectation_is_met_before_the_body_is_looked_at(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n");
    check_str(got(client), "HTTP/1.1 100 Continue\r\n\r\n");
    send_text(client, "{\"model\":\"m\"}");
    struct peer *up = upstream_peer(&w, "up", 0);
    check_lacks(up, "xpect");
    answer(up, OK_ANSWER);
    check_int(last_message(client).status, 200);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void expectation_is_met_before_a_body_streams(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "POST /v1/files HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    check_str(got(client), "HTTP/1.1 100 Continue\r\n\r\n");
    send_text(client, "hello");
    struct peer *up = upstream_peer(&w, "up", 0);
    check_lacks(up, "xpect");
    check_str(message_at(up, 0).body, "hello");
    answer(up, "HTTP/1.1 100 Continue\r\n\r\n" OK_ANSWER);
    struct parsed m = message_at(client, message_at(client, 0).used);
    check_int(m.status, 200);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

// RFC 9110 section 10.1.1: a final answer instead of 100, and the body is never asked for.
static void expectation_of_a_refused_request_is_not_met(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "keys: [thaw-key]\n");
    struct peer *client = client_open(&w);
    send_text(client, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n");
    check_int(message_at(client, 0).status, 401);
    check_int(upstream_count(&w, "up"), 0);
    check_only(&w, OUTCOME_UNAUTHORIZED, 1);
    world_close(&w);
}

static void answer_to_head_has_no_body(void **state UNUSED) {
    static const char *const answers[] = {"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
                                          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                                          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"};
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct peer *client = client_open(&w);
        send_text(client, "HEAD /v1/x HTTP/1.1\r\nHost: h\r\n\r\n");
        struct peer *up = upstream_peer(&w, "up", 0);
        check(str_starts(message_at(up, 0).start, STR("HEAD /x ")));
        forget(up);
        answer(up, answers[i]);
        struct parsed m = answer_to_head(client);
        check_int(m.status, 200);
        check_int(m.used, client->got_len);
        check_open(client);
        if (i == 0) {
            check_str(field_of(&m, "content-length"), "7");
        }
    }
    check_only(&w, OUTCOME_COMPLETE, 3);
    world_close(&w);
}

static void not_modified_has_no_body(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"e\"\r\n\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\nContent-Length: 9\r\n\r\n");
    struct parsed m = message_at(client, 0);
    check_int(m.status, 304);
    check_int(m.used, client->got_len);
    check_only(&w, OUTCOME_COMPLETE, 1);
    check_open(client);
    world_close(&w);
}

// LOCAL
static void options_is_answered_here(void **state UNUSED) {
    static const char *const targets[] = {"*", "/v1/chat/completions", "/v1/anything"};
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        char text[128];
        struct peer *client = client_open(&w);
        snprintf(text, sizeof text, "OPTIONS %s HTTP/1.1\r\nHost: h\r\n\r\n", targets[i]);
        send_text(client, text);
        struct parsed m = message_at(client, 0);
        check_int(m.status, 204);
        check_int(fields_of(&m, "allow"), 1);
        check_int(fields_of(&m, "content-length"), 0);
        check_open(client);
    }
    check_int(upstream_count(&w, "up"), 0);
    check_only(&w, OUTCOME_LOCAL, 3);
    world_close(&w);
}

// ---- what thaw answers itself

static void health_is_told(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "keys: [thaw-key]\n");
    struct peer *client = client_open(&w);
    send_text(client, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET /readyz HTTP/1.1\r\nHost: h\r\n\r\n");
    struct parsed health = message_at(client, 0);
    struct parsed ready = message_at(client, health.used);
    check_int(health.status, 200);
    check(str_search(health.body, STR("\"in_flight\":0")) < health.body.len);
    check_str(ready.body, "{\"status\":\"ready\"}\n");
    check_only(&w, OUTCOME_LOCAL, 2);
    world_close(&w);
}

static void configured_models_are_listed(void **state UNUSED) {
    struct world w;
    world_open(&w, MODELS);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n");
    struct parsed m = message_at(client, 0);
    check_int(m.status, 200);
    check(str_search(m.body, STR("{\"id\":\"fast\",\"object\":\"model\"")) < m.body.len);
    check(str_search(m.body, STR("{\"id\":\"plain\",\"object\":\"model\"")) < m.body.len);
    check_only(&w, OUTCOME_LOCAL, 1);
    world_close(&w);
}

static void without_models_the_upstream_lists_them(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    check_str(message_at(up, 0).start, "GET /models HTTP/1.1");
    answer(up, OK_ANSWER);
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

// REFUSED
static void unacceptable_requests_are_refused(void **state UNUSED) {
    static const struct {
        const char *request;
        int status;
        const char *says;
    } cases[] = {
        {"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n", 404, "\"code\":\"not_found\""},
        {"GET /v1 HTTP/1.1\r\nHost: h\r\n\r\n", 404, "below /v1/"},
        {"GET /v1/../admin HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
        {"GET /v1/./x HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
        {"GET /v1//x HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
        {"GET /v1/%2e%2E/x HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
        {"GET /v1/a%2Fb HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
        {"GET /v1/a%5cb HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
        {"GET /v1/a\\b HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
        {"GET /v1/a%00 HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""},
        {"POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 405, "\"code\":\"method_not_allowed\""},
        {"TRACE /v1/x HTTP/1.1\r\nHost: h\r\n\r\n", 501, ""},
        {"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415,
         "application/json"},
        {"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415,
         "Compressed"},
        {"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nContent-Length: 2049\r\n\r\n", 413, "max_body"},
        {"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n{\"a", 400, "\"code\":\"invalid_json\""},
        {"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 400, "\"code\":\"invalid_json\""},
        {"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n{\"model\":1}", 400,
         "\"param\":\"model\""},
        {"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 400, "\"code\":\"missing_model\""},
        {"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nContent-Length: 16\r\n\r\n{\"model\":\"fasd\"}", 404,
         "did you mean 'fast'"},
        {"GET /v1/x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a\r\nX-Api-Key: b\r\n\r\n", 400,
         "\"code\":\"conflicting_credentials\""},
        {"GET /v1/x HTTP/1.1\r\nHost: h\r\nVia: 1.1 thaw, 1.1 thaw, 1.1 other\r\nVia: 1.1 thaw,1.1 thaw,1.1 thaw,1.1 "
         "thaw\r\n"
         "Via: 1.0 thaw, 1.1 thaw\r\n\r\n",
         508, "\"code\":\"loop_detected\""},
        {"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 501, ""},
        {"GET /v1/x HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400, ""},
        {"GET /v1/x HTTP/2.0\r\nHost: h\r\n\r\n", 505, ""},
        {"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, ""},
        {"GET /v1/x HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n", 400, ""},
    };
    enum { OF_H1 = 6 }; // the last ones
    size_t count = flow_client_h2 ? ARRAY_LEN(cases) - OF_H1 : ARRAY_LEN(cases);
    struct world w;
    world_open(&w, "upstreams: {up: {url: mock}}\nmodels: {fast: {use: [up]}}\nmax_body: 2k\n");
    for (size_t i = 0; i < count; i++) {
        struct peer *client = client_open(&w);
        send_text(client, cases[i].request);
        struct parsed m = message_at(client, 0);
        if (m.status != cases[i].status || str_search(m.body, str_c(cases[i].says)) == m.body.len) {
            fail_msg("%s got %.*s", cases[i].request, STR_ARG(got(client)));
        }
        check(m.whole);
        check(str_starts(m.body, STR("{\"error\":{\"message\":\"")));
        check_int(count_of(&w.worker.meter->outcomes[OUTCOME_REFUSED]), i + 1);
        close_peer(client);
    }
    check_int(upstream_count(&w, "up"), 0);
    check_only(&w, OUTCOME_REFUSED, count);
    world_close(&w);
}

static void seven_passages_are_no_loop_yet(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    send_text(client, "GET /v1/x HTTP/1.1\r\nHost: h\r\nVia: 1.1 thaw, 1.1 thaw, 1.1 thaw, 1.1 thaw, 1.1 thaw, 1.1 "
                      "thaw, 1.1 thaw\r\n\r\n");
    struct peer *up = upstream_peer(&w, "up", 0);
    struct parsed m = message_at(up, 0);
    check_int(fields_of(&m, "via"), 2); // what came stays, and ours is added behind it
    world_close(&w);
}

// A body whose length is not told is not read beyond the limit either.
static void chunked_body_over_the_limit_is_refused(void **state UNUSED) {
    static const char head[] = "POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n";
    static const char spaces[] = "                                                                ";
    struct world w;
    world_open(&w, ONE_UPSTREAM "max_body: 1k\n");
    struct peer *client = client_open(&w);
    send_text(client, head);
    for (size_t i = 0; i < 1024; i += sizeof spaces - 1) {
        send_text(client, spaces);
    }
    check_int(client->got_len, 0);
    send_text(client, "\r\n1\r\n \r\n");
    struct parsed m = message_at(client, 0);
    check_int(m.status, 413);
    check(m.whole);
    check_int(client->end, ERR_EOF);
    check_only(&w, OUTCOME_REFUSED, 1);
    world_close(&w);
}

// UNAUTHORIZED
static void callers_without_a_key_are_sent_away(void **state UNUSED) {
    static const char *const fields[] = {"", "Authorization: Bearer wrong\r\n", "Authorization: thaw\r\n",
                                         "X-Api-Key: THAW-KEY\r\n"};
    struct world w;
    world_open(&w, ONE_UPSTREAM "keys: [thaw-key]\n");
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        char text[200];
        struct peer *client = client_open(&w);
        snprintf(text, sizeof text, "GET /v1/models HTTP/1.1\r\nHost: h\r\n%s\r\n", fields[i]);
        send_text(client, text);
        struct parsed m = message_at(client, 0);
        check_int(m.status, 401);
        check_str(field_of(&m, "www-authenticate"), "Bearer");
    }
    check_int(upstream_count(&w, "up"), 0);
    check_only(&w, OUTCOME_UNAUTHORIZED, ARRAY_LEN(fields));
    world_close(&w);
}

// Such requests a browser sends without a preflight, whatever becomes of their answers: they would be paid for.
static void pages_of_elsewhere_make_no_calls_without_asking(void **state UNUSED) {
    static const struct {
        const char *path, *fields;
        bool refused;
    } cases[] = {
        {CHAT_PATH, "Origin: http://evil.test\r\n", true},
        {"/v1/parallel", "Origin: null\r\n", true},
        {"/v1/images/edits", "Origin: http://evil.test\r\nContent-Type: Multipart/Form-Data; boundary=x\r\n", true},
        {"/v1/files", "Origin: http://evil.test\r\nContent-Type: text/plain\r\n", true},
        {CHAT_PATH, "Origin: http://evil.test\r\nSec-Fetch-Site: cross-site\r\n", true},
        {CHAT_PATH, "Origin: http://evil.test\r\nContent-Type: application/json\r\n", false}, // after a preflight
        {CHAT_PATH, "Origin: http://good.test\r\n", false},
        {CHAT_PATH, "Origin: http://thaw\r\nSec-Fetch-Site: same-origin\r\n", false},
        {CHAT_PATH, "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world w;
        char text[500];
        world_open(&w, ONE_UPSTREAM "cors: ['http://good.test']\n");
        struct peer *client = client_open(&w);
        snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: thaw\r\n%sContent-Length: %zu\r\n\r\n%s", cases[i].path,
                 cases[i].fields, strlen(CHAT), CHAT);
        send_text(client, text);
        check_int(upstream_count(&w, "up"), !cases[i].refused);
        check_int(message_at(client, 0).status, cases[i].refused ? 403 : 0);
        world_close(&w);
    }
}

// It is about pages at the upstream, of which the browser knows nothing.
static void an_upstreams_leave_to_pages_is_not_passed_on(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_ask(client, "GET /v1/x", "Origin: http://evil.test\r\n", NULL);
    answer(upstream_peer(&w, "up", 0), "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n"
                                       "Access-Control-Expose-Headers: x\r\nContent-Length: 2\r\n\r\n{}");
    check_str(message_at(client, 0).body, "{}");
    check_lacks(client, "Access-Control");
    world_close(&w);
}

#define TO_BE_REFUSED "Host: thaw\r\nContent-Length: 1\r\n\r\n{"

static void errors_have_the_shape_of_their_api(void **state UNUSED) {
    static const struct {
        const char *yaml, *asked, *type; // NULL: OpenAI's shape
        int status;
    } cases[] = {
        {"", "POST /v1/messages HTTP/1.1\r\n" TO_BE_REFUSED, "invalid_request_error", 400},
        {"keys: [k]\n", "POST /v1/messages HTTP/1.1\r\n" TO_BE_REFUSED, "authentication_error", 401},
        {"keys: [k]\n", "POST /v1/messages/count_tokens HTTP/1.1\r\n" TO_BE_REFUSED, "authentication_error", 401},
        {"keys: [k]\n", "GET /v1/messages/batches HTTP/1.1\r\nHost: h\r\n\r\n", "authentication_error", 401},
        {"max_body: 1k\n", "POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n", "request_too_large",
         413},
        {"", "POST /v1/chat/completions HTTP/1.1\r\n" TO_BE_REFUSED, NULL, 400},
        {"keys: [k]\n", "POST /v1/messages2 HTTP/1.1\r\n" TO_BE_REFUSED, NULL, 401},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world w;
        char want[100];
        char yaml[200];
        snprintf(yaml, sizeof yaml, ONE_UPSTREAM "%s", cases[i].yaml);
        world_open(&w, yaml);
        struct peer *client = client_open(&w);
        send_text(client, cases[i].asked);
        struct parsed m = message_at(client, 0);
        snprintf(want, sizeof want, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"",
                 cases[i].type ? cases[i].type : "");
        check_int(m.status, cases[i].status);
        check(str_starts(m.body, cases[i].type ? str_c(want) : STR("{\"error\":{\"message\":\"")));
        world_close(&w);
    }
}

static void a_cut_stream_of_messages_says_so_in_its_own_terms(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    client_post(client, "/v1/messages", CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, STREAM_HEAD "f\r\nevent: ping\ndat\r\n");
    close_peer(up);
    check_has(client,
              "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"The upstream");
    check(!message_at(client, 0).whole);
    struct peer *other = client_open(&w);
    client_post(other, "/v1/messages", CHAT);
    close_peer(upstream_peer(&w, "up", 1));
    check_int(message_at(other, 0).status, 502);
    check_has(other, "{\"type\":\"error\",\"error\":{\"type\":\"api_error\"");
    world_close(&w);
}

FLOWS(TEST(answer_is_relayed_whole), TEST(chunked_answer_is_relayed_whole),
      TEST(answer_until_the_connections_end_is_whole), TEST(events_pass_as_they_come), TEST(connections_are_used_again),
      TEST(calls_at_once_get_connections_of_their_own), TEST(pipelined_requests_are_answered_in_order),
      TEST(body_goes_on_byte_for_byte), TEST(models_name_is_rewritten_and_nothing_else),
      TEST(model_of_the_same_name_stays_as_written), TEST(body_without_a_model_reaches_the_first_upstream),
      TEST(other_paths_are_relayed_without_a_look), TEST(upload_streams_through), TEST(post_without_a_body_says_so),
      H1_ONLY(CLIENT | UPSTREAM, hop_by_hop_fields_stay_on_their_hop, "fields of a connection"),
      TEST(naming_fields_in_connection_does_not_remove_ours), TEST(authorization_is_passed_on_without_keys),
      TEST(authorization_is_replaced_by_the_upstreams_key), TEST(thaws_own_keys_go_nowhere),
      TEST(request_id_is_taken_over), TEST(request_id_is_made), TEST(upstreams_request_id_reaches_the_client),
      TEST(names_with_underscores_are_not_passed_on), TEST(interim_answers_are_passed_on),
      H1_ONLY(CLIENT, interim_answers_are_kept_from_http_1_0, "an HTTP/1.0 client"),
      H1_ONLY(CLIENT, chunked_answer_to_http_1_0_ends_with_the_connection, "an HTTP/1.0 client"),
      TEST(expectation_is_met_before_the_body_is_looked_at), TEST(expectation_is_met_before_a_body_streams),
      TEST(expectation_of_a_refused_request_is_not_met), TEST(answer_to_head_has_no_body),
      TEST(not_modified_has_no_body), TEST(options_is_answered_here), TEST(health_is_told),
      TEST(configured_models_are_listed), TEST(without_models_the_upstream_lists_them),
      TEST(unacceptable_requests_are_refused), TEST(seven_passages_are_no_loop_yet),
      TEST(chunked_body_over_the_limit_is_refused), TEST(callers_without_a_key_are_sent_away),
      TEST(pages_of_elsewhere_make_no_calls_without_asking), TEST(an_upstreams_leave_to_pages_is_not_passed_on),
      TEST(errors_have_the_shape_of_their_api), TEST(a_cut_stream_of_messages_says_so_in_its_own_terms))
