// SPDX-License-Identifier: MIT
// The mock as its clients see it.
#include "support.h"

#include <malloc.h>

// ---- time

static void an_answer_comes_after_exactly_its_latency(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(5000)});
    client_post(&c, CHAT, ASK("mock", ""));
    pass_ms(&w, 4999);
    check_no_answer(&c);
    pass_ms(&w, 1);
    check_int(take_answer(&c).status, 200);
    client_post(&c, CHAT, ASK("mock-250ms", ""));
    pass_ms(&w, 249);
    check_no_answer(&c);
    pass_ms(&w, 1);
    check_int(take_answer(&c).status, 200);
    client_post(&c, CHAT, ASK("mock-0s", ""));
    check_int(take_answer(&c).status, 200);
    done(&w, &c);
}

// Timers have milliseconds: what is between two of them makes an answer late by less than one, never early.
static void an_answer_is_never_early(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(10)});
    w.fake.ns += 999999;
    client_post(&c, CHAT, ASK("mock", ""));
    w.fake.ns += 9999999;
    settle(&w);
    check_no_answer(&c);
    w.fake.ns += 1000000;
    settle(&w);
    check_int(take_answer(&c).status, 200);
    done(&w, &c);
}

static void the_time_of_a_plain_answer_is_that_of_its_tokens(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(5000)});
    client_post(&c, CHAT, ASK("mock-100x20ms", ""));
    pass_ms(&w, 1999);
    check_no_answer(&c);
    pass_ms(&w, 1);
    check_int(take_answer(&c).status, 200);
    struct json *json = body_json(&c);
    check_int((int)number_at(json, "usage.completion_tokens"), 100);
    check(str_starts(text_at(json, "choices.0.message.content"), STR("one two three one two three one")));
    json_close(json);
    done(&w, &c);
}

static unsigned tokens_so_far(struct client *c) {
    struct got got;
    struct buf text;
    unsigned n = 0;
    peek_answer(c, &got, false);
    joined(c, "choices.0.delta.content", &text, &n);
    buf_finish(&text);
    return n;
}

static void tokens_of_a_stream_come_at_their_times(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c,
               &(struct mock_options){.times.latency = LATENCY_MS(500), .times.between = LATENCY_MS(30), .tokens = 5});
    client_post(&c, CHAT, ASK("mock", STREAM));
    pass_ms(&w, 499);
    check_no_answer(&c);
    for (unsigned i = 0; i < 5; i++) {
        pass_ms(&w, 1);
        check_int(tokens_so_far(&c), i + 1);
        if (i < 4) {
            pass_ms(&w, 29);
            check_int(tokens_so_far(&c), i + 1);
        }
    }
    check_int(take_answer(&c).status, 200);
    done(&w, &c);
}

static void the_first_token_of_a_named_pace_comes_at_once(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(500)});
    client_post(&c, CHAT, ASK("mock-2x1h", STREAM));
    check_int(tokens_so_far(&c), 1);
    pass_ms(&w, 3600 * 1000 - 1);
    check_int(tokens_so_far(&c), 1);
    pass_ms(&w, 1);
    check_int(tokens_so_far(&c), 2);
    check_int(take_answer(&c).status, 200);
    done(&w, &c);
}

// ---- chat

static void a_chat_answer_has_openais_shape(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1)});
    struct got got = ask(&c, CHAT, ASK("some-model", ""));
    check_int(got.status, 200);
    check_str(got_field(&got, "content-type"), "application/json");
    check_str(got_field(&got, "x-request-id"), "mock-1");
    struct json *json = body_json(&c);
    check_str(text_at(json, "id"), "chatcmpl-mock-1");
    check_str(text_at(json, "object"), "chat.completion");
    check_str(text_at(json, "model"), "some-model");
    check(number_at(json, "created") > 1700000000);
    check_int((int)json_length(at(json, "choices")), 1);
    check_str(text_at(json, "choices.0.message.role"), "assistant");
    check_str(text_at(json, "choices.0.message.content"), "one two three");
    check_str(text_at(json, "choices.0.finish_reason"), "stop");
    check_int((int)number_at(json, "usage.prompt_tokens"), 5);
    check_int((int)number_at(json, "usage.completion_tokens"), 3);
    check_int((int)number_at(json, "usage.total_tokens"), 8);
    json_close(json);
    done(&w, &c);
}

static void a_chat_stream_has_role_words_stop_and_done(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.between = LATENCY_MS(1)});
    struct got got = ask(&c, CHAT, ASK("mock", STREAM));
    check_str(got_field(&got, "content-type"), "text/event-stream; charset=utf-8");
    check(got.chunked);
    check_joined(&c, "choices.0.delta.content", "one two three", 3);
    check_joined(&c, "choices.0.delta.role", "assistant", 1);
    check_joined(&c, "choices.0.finish_reason", "stop", 1);
    check_joined(&c, "id", "chatcmpl-mock-1chatcmpl-mock-1chatcmpl-mock-1chatcmpl-mock-1chatcmpl-mock-1", 5);
    check_int(count_events(&c), 6);
    check(str_ends(buf_str(&c.body), STR("\n\ndata: [DONE]\n\n")));
    check(str_search(buf_str(&c.body), STR("usage")) == buf_len(&c.body));
    done(&w, &c);
}

static void usage_comes_in_a_chunk_of_its_own_when_asked_for(void **state UNUSED) {
    struct world w;
    struct client c;
    struct event event;
    one_client(&w, &c, &(struct mock_options){.times.between = LATENCY_MS(1)});
    ask(&c, CHAT, ASK("mock", STREAM "\"stream_options\":{\"include_usage\":true},"));
    struct str rest = buf_str(&c.body);
    for (unsigned i = 0; i < 6; i++) {
        check(next_event(&rest, &event));
        struct json *json = json_open(event.data, TEXT_CAP);
        check(json != NULL);
        check(at(json, "usage") != NULL);
        check_int(json_is_object(at(json, "usage")), i == 5);
        check_int((int)json_length(at(json, "choices")), i != 5);
        if (i == 5) {
            check_int((int)number_at(json, "usage.total_tokens"), 8);
        }
        json_close(json);
    }
    check(next_event(&rest, &event));
    check_str(event.data, "[DONE]");
    check_int(rest.len, 0);
    done(&w, &c);
}

#define MIXED "quotes \\\" and \\\\ and \\n\\t\xC3\xA9 \xE4\xBD\xA0 \\ud83d\\ude00  end "
static const char mixed[] = "quotes \" and \\ and \n\t\xC3\xA9 \xE4\xBD\xA0 \xF0\x9F\x98\x80  end ";

static const struct {
    const char *messages;
    const char *echo;
} contents[] = {
    {"[{\"content\":\"" MIXED "\"}]", mixed},
    {"[{\"content\":[{\"type\":\"text\",\"text\":\"ping 1\"}]}]", "ping 1"},
    {"[{\"content\":[{\"text\":\"a\"},{\"type\":\"image_url\"},{\"text\":\"b\"}]}]", "a\nb"},
    {"[{\"content\":\"x\"},{\"content\":\"\"}]", ""},
    {"[{\"content\":\"x\"},{\"content\":null}]", ""},
    {"[{\"content\":\"  \"}]", "  "},
    {"[{\"role\":\"user\",\"content\":\" a  b \"}]", " a  b "},
};

static void the_last_message_is_echoed_to_the_byte(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1)});
    for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
        char body[512];
        struct buf text;
        unsigned n = 0;
        snprintf(body, sizeof body, "{\"messages\":%s,\"model\":\"m\"}", contents[i].messages);
        check_int(ask(&c, CHAT, body).status, 200);
        struct json *json = body_json(&c);
        check_str(text_at(json, "choices.0.message.content"), contents[i].echo);
        int tokens = (int)number_at(json, "usage.completion_tokens");
        json_close(json);
        snprintf(body, sizeof body, "{\"model\":\"m\"," STREAM "\"messages\":%s}", contents[i].messages);
        check_int(ask(&c, CHAT, body).status, 200);
        joined(&c, "choices.0.delta.content", &text, &n);
        check_str(buf_str(&text), contents[i].echo);
        check_int(n, tokens);
        buf_finish(&text);
    }
    done(&w, &c);
}

static void tokens_are_cut_short_or_go_round(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.tokens = 0});
    ask(&c, CHAT, ASK("mock-2x1ms", STREAM));
    check_joined(&c, "choices.0.delta.content", "one two", 2);
    ask(&c, CHAT, ASK("mock-7x1ms", STREAM));
    check_joined(&c, "choices.0.delta.content", "one two three one two three one", 7);
    ask(&c, CHAT, "{\"model\":\"mock-3x1ms\",\"stream\":true,\"messages\":[{\"content\":\"\"}]}");
    check_joined(&c, "choices.0.delta.content", "token token token", 3);
    done(&w, &c);
}

// ---- the other endpoints

static void completions_echo_the_prompt(void **state UNUSED) {
    static const char *const prompts[] = {"\"ping 1\"", "[\"first\",\"ping 1\"]"};
    struct world w;
    struct client c;
    char body[200];
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1)});
    for (size_t i = 0; i < ARRAY_LEN(prompts); i++) {
        snprintf(body, sizeof body, "{\"model\":\"m\",\"prompt\":%s}", prompts[i]);
        check_int(ask(&c, "/v1/completions", body).status, 200);
        struct json *json = body_json(&c);
        check_str(text_at(json, "object"), "text_completion");
        check_str(text_at(json, "choices.0.text"), "ping 1");
        check_str(text_at(json, "choices.0.finish_reason"), "stop");
        check_int((int)number_at(json, "usage.completion_tokens"), 2);
        json_close(json);
    }
    ask(&c, "/completions",
        "{\"model\":\"m\",\"stream\":true,\"prompt\":\"ping 1\",\"stream_options\":{\"include_usage\":true}}");
    check_joined(&c, "choices.0.text", "ping 1", 2);
    check_joined(&c, "choices.0.finish_reason", "stop", 1);
    check_int(count_events(&c), 5);
    check(str_ends(buf_str(&c.body), STR("\n\ndata: [DONE]\n\n")));
    check_int(ask(&c, "/v1/completions", "{\"model\":\"m\",\"prompt\":[1,2,3]}").status, 200);
    done(&w, &c);
}

static void responses_answer_with_an_object(void **state UNUSED) {
    static const char *const inputs[] = {"\"ping 1\"", "[{\"role\":\"user\",\"content\":\"ping 1\"}]",
                                         "[{\"content\":[{\"type\":\"input_text\",\"text\":\"ping 1\"}]}]"};
    struct world w;
    struct client c;
    char body[200];
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1)});
    for (size_t i = 0; i < ARRAY_LEN(inputs); i++) {
        snprintf(body, sizeof body, "{\"model\":\"m\",\"instructions\":\"be brief\",\"input\":%s}", inputs[i]);
        check_int(ask(&c, "/v1/responses", body).status, 200);
        struct json *json = body_json(&c);
        check_str(text_at(json, "object"), "response");
        check_str(text_at(json, "status"), "completed");
        check_str(text_at(json, "output.0.type"), "message");
        check_str(text_at(json, "output.0.role"), "assistant");
        check_str(text_at(json, "output.0.content.0.type"), "output_text");
        check_str(text_at(json, "output.0.content.0.text"), "ping 1");
        check_int((int)number_at(json, "usage.input_tokens"), 4);
        check_int((int)number_at(json, "usage.total_tokens"), 6);
        json_close(json);
    }
    done(&w, &c);
}

static void a_stream_of_responses_has_typed_events_in_order(void **state UNUSED) {
    static const char *const types[] = {"response.created",           "response.in_progress",
                                        "response.output_item.added", "response.content_part.added",
                                        "response.output_text.delta", "response.output_text.delta",
                                        "response.output_text.done",  "response.content_part.done",
                                        "response.output_item.done",  "response.completed"};
    struct world w;
    struct client c;
    struct event event;
    one_client(&w, &c, &(struct mock_options){.times.between = LATENCY_MS(1)});
    ask(&c, "/v1/responses", "{\"model\":\"m\",\"stream\":true,\"input\":\"ping 1\"}");
    struct str rest = buf_str(&c.body);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        check(next_event(&rest, &event));
        check_str(event.type, types[i]);
        struct json *json = json_open(event.data, TEXT_CAP);
        check(json != NULL);
        check_str(text_at(json, "type"), types[i]);
        check_int((int)number_at(json, "sequence_number"), (int)i);
        json_close(json);
    }
    check_int(rest.len, 0);
    check_joined(&c, "delta", "ping 1", 2);
    check_joined(&c, "text", "ping 1", 1);
    check_joined(&c, "part.text", "ping 1", 1);
    check_joined(&c, "item.content.0.text", "ping 1", 1);
    check_joined(&c, "response.output.0.content.0.text", "ping 1", 1);
    done(&w, &c);
}

static void base64_decode(struct str s, unsigned char *out, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    size_t n = 0;
    check_int(s.len % 4, 0);
    for (size_t i = 0; i < s.len && s.ptr[i] != '='; i++) {
        const char *digit = strchr(digits, s.ptr[i]);
        check(digit != NULL);
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (i % 4) {
            check(n < size);
            out[n++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
        }
    }
    check_int(n, size);
}

// The official SDKs ask for base64 by default: it has to be the same vector.
static void check_embedding(struct client *c, unsigned dimensions) {
    char body[200];
    float packed[16];
    double square = 0;
    snprintf(body, sizeof body, "{\"model\":\"m\",\"input\":\"one\",\"encoding_format\":\"base64\",\"dimensions\":%u}",
             dimensions);
    check_int(ask(c, "/v1/embeddings", body).status, 200);
    struct json *json = body_json(c);
    base64_decode(text_at(json, "data.0.embedding"), (unsigned char *)packed, dimensions * sizeof *packed);
    json_close(json);
    snprintf(body, sizeof body, "{\"model\":\"m\",\"input\":[\"two\",\"one\"],\"dimensions\":%u}", dimensions);
    check_int(ask(c, "/v1/embeddings", body).status, 200);
    json = body_json(c);
    check_int((int)json_length(at(json, "data.1.embedding")), (int)dimensions);
    for (unsigned i = 0; i < dimensions; i++) {
        double one = 0;
        check(json_number(json_item(at(json, "data.1.embedding"), i), &one));
        check((float)one == packed[i]);
        square += one * one;
    }
    check(square > 0.999 && square < 1.001);
    check_int((int)number_at(json, "data.1.index"), 1);
    check_int((int)number_at(json, "usage.prompt_tokens"), 2);
    json_close(json);
}

static void embeddings_are_the_same_in_every_form(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.tokens = 3});
    for (unsigned dimensions = 1; dimensions <= 16; dimensions++) {
        check_embedding(&c, dimensions);
    }
    ask(&c, "/v1/embeddings", "{\"model\":\"m\",\"input\":[[1,2],[1,2],[3]]}");
    struct json *json = body_json(&c);
    check_int((int)json_length(at(json, "data")), 3);
    check_int((int)json_length(at(json, "data.0.embedding")), 8);
    check(number_at(json, "data.0.embedding.0") == number_at(json, "data.1.embedding.0"));
    check(number_at(json, "data.0.embedding.0") != number_at(json, "data.2.embedding.0"));
    check_int((int)number_at(json, "usage.prompt_tokens"), 5);
    json_close(json);
    done(&w, &c);
}

static void models_are_listed_and_any_name_is_one(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(5000)});
    check_int(get(&c, "/v1/models").status, 200);
    struct json *json = body_json(&c);
    check_str(text_at(json, "object"), "list");
    check_str(text_at(json, "data.0.id"), "mock");
    check_str(text_at(json, "data.0.object"), "model");
    json_close(json);
    check_int(get(&c, "/models/a%2Fb%zz%?x=1").status, 200);
    json = body_json(&c);
    check_str(text_at(json, "id"), "a/b%zz%");
    json_close(json);
    check_int(get(&c, "/models").status, 200);
    check_int(get(&c, "/healthz?now").status, 200);
    check_int(get(&c, "/v1/models/").status, 404);
    check_int(get(&c, "/v1/healthz").status, 404);
    done(&w, &c);
}

static void head_is_answered_without_a_body(void **state UNUSED) {
    struct world w;
    struct client c;
    struct got got;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1)});
    client_send(&c, "HEAD /healthz HTTP/1.1\r\nHost: mock\r\n\r\n");
    check_int(peek_answer(&c, &got, true), buf_len(&c.in));
    check_int(got.status, 200);
    check_str(got_field(&got, "content-length"), "16");
    buf_clear(&c.in);
    client_send(&c, "HEAD /mock/journal HTTP/1.1\r\nHost: mock\r\n\r\n");
    check_int(peek_answer(&c, &got, true), buf_len(&c.in));
    buf_clear(&c.in);
    check_int(get(&c, "/healthz").status, 200); // and the connection goes on
    done(&w, &c);
}

// ---- errors

static const struct {
    const char *path;
    const char *body;
    const char *param;
} bad[] = {
    {CHAT, "", NULL},
    {CHAT, "{", NULL},
    {CHAT, "[]", NULL},
    {CHAT, "1", NULL},
    {CHAT, "{\"model\":\"m\"} x", NULL},
    {CHAT, "{}", "model"},
    {CHAT, "{\"model\":1,\"messages\":[{\"content\":\"x\"}]}", "model"},
    {CHAT, "{\"model\":\"\",\"messages\":[{\"content\":\"x\"}]}", "model"},
    {CHAT, "{\"model\":\"m\"}", "messages"},
    {CHAT, "{\"model\":\"m\",\"messages\":{}}", "messages"},
    {CHAT, "{\"model\":\"m\",\"messages\":[]}", "messages"},
    {CHAT, "{\"model\":\"m\",\"messages\":[\"x\"]}", "messages"},
    {"/v1/completions", "{\"model\":\"m\"}", "prompt"},
    {"/v1/completions", "{\"model\":\"m\",\"prompt\":[]}", "prompt"},
    {"/v1/completions", "{\"model\":\"m\",\"prompt\":{}}", "prompt"},
    {"/v1/responses", "{\"model\":\"m\"}", "input"},
    {"/v1/responses", "{\"input\":\"x\"}", "model"},
    {"/v1/embeddings", "{\"model\":\"m\"}", "input"},
    {"/v1/embeddings", "{\"model\":\"m\",\"input\":[1,\"x\"]}", "input"},
    {"/v1/embeddings", "{\"model\":\"m\",\"input\":[\"x\",1]}", "input"},
    {"/v1/embeddings", "{\"model\":\"m\",\"input\":\"x\",\"dimensions\":0}", "dimensions"},
    {"/v1/embeddings", "{\"model\":\"m\",\"input\":\"x\",\"dimensions\":4097}", "dimensions"},
};

static void bad_requests_are_400_and_say_why(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(60000)});
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        client_post(&c, bad[i].path, bad[i].body); // no latency for these
        struct got got = take_answer(&c);
        check_error(&c, &got, 400);
        struct json *json = body_json(&c);
        check_str(text_at(json, "error.type"), "invalid_request_error");
        check_str(text_at(json, "error.param"), bad[i].param ? bad[i].param : "");
        json_close(json);
    }
    check_int(ask(&c, CHAT, ASK("mock", "")).status, 200);
    done(&w, &c);
}

static void errors_come_by_model_name(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(60000)});
    for (int status = 400; status < 600; status++) {
        char body[200];
        bool retry = status == 429 || status == 503 || status == 529;
        snprintf(body, sizeof body, "{\"model\":\"mock-err-%d\",\"stream\":%s,\"messages\":[{\"content\":\"x\"}]}",
                 status, status % 2 ? "true" : "false");
        client_post(&c, CHAT, body);
        struct got got = take_answer(&c);
        check_error(&c, &got, status);
        check_str(got_field(&got, "retry-after"), retry ? "1" : "");
        check_str(got_field(&got, "retry-after-ms"), retry ? "1000" : "");
    }
    done(&w, &c);
}

static void unknown_paths_and_methods(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(60000)});
    struct got got = get(&c, "/nothing\x7e");
    check_error(&c, &got, 404);
    check(str_search(buf_str(&c.body), STR("GET /nothing~")) < buf_len(&c.body));
    client_post(&c, "/v1/nothing", "{\"some\":\"body\"}");
    got = take_answer(&c);
    check_error(&c, &got, 404);
    got = get(&c, CHAT);
    check_error(&c, &got, 405);
    check_str(got_field(&got, "allow"), "POST");
    client_post(&c, "/v1/models", "{}");
    got = take_answer(&c);
    check_error(&c, &got, 405);
    check_str(got_field(&got, "allow"), "GET, HEAD");
    check(!c.ended);
    get(&c, "/mock/stats");
    check_str(buf_str(&c.body),
              "{\"in_flight\":0,\"max_in_flight\":0,\"in_service\":0,\"max_in_service\":0,\"waiting\":0,"
              "\"max_waiting\":0,\"calls\":0,\"whole\":0,\"cut\":0,\"gone\":0,\"by_status\":{}}\n");
    done(&w, &c);
}

static void a_body_too_large_is_refused_before_it_comes(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1)});
    client_send(&c, "POST " CHAT " HTTP/1.1\r\nHost: mock\r\nContent-Length: 67108865\r\n\r\n{");
    struct got got = take_answer(&c);
    check_error(&c, &got, 413);
    check_str(got_field(&got, "connection"), "close");
    done(&w, &c);
}

static void what_is_no_http_is_told_so(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1)});
    client_send(&c, "GET / HTTP/1.1\r\n\r\n");
    struct got got = take_answer(&c);
    check_error(&c, &got, 400);
    settle(&w);
    check(c.ended);
    done(&w, &c);
}

// ---- how requests arrive

static void a_request_may_come_byte_by_byte(void **state UNUSED) {
    struct world w;
    struct client c;
    struct buf request;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(100)});
    buf_init(&request, TEXT_CAP);
    check_ok(buf_printf(&request,
                        "POST " CHAT " HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "%zx\r\n%s\r\n0\r\n\r\n",
                        strlen(ASK("mock", "")), ASK("mock", "")));
    for (size_t i = 0; i < buf_len(&request); i++) {
        char byte[2] = {buf_str(&request).ptr[i], '\0'};
        client_send(&c, byte);
        check_no_answer(&c);
    }
    pass_ms(&w, 99);
    check_no_answer(&c);
    pass_ms(&w, 1);
    check_int(take_answer(&c).status, 200);
    struct json *json = body_json(&c);
    check_str(text_at(json, "choices.0.message.content"), "one two three");
    json_close(json);
    buf_finish(&request);
    done(&w, &c);
}

static void pipelined_requests_are_answered_in_order(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(100)});
    static const char post[] = "POST " CHAT " HTTP/1.1\r\nHost: m\r\nContent-Length: ";
    check_ok(buf_printf(&c.out, "%s%zu\r\n\r\n%s", post, strlen(ASK("a", "")), ASK("a", "")));
    check_ok(buf_printf(&c.out, "%s%zu\r\n\r\n%s", post, strlen(ASK("b", "")), ASK("b", "")));
    client_send(&c, "GET /healthz HTTP/1.1\r\nHost: m\r\n\r\n");
    for (unsigned i = 0; i < 2; i++) {
        pass_ms(&w, 100);
        check_int(take_answer(&c).status, 200);
        struct json *json = body_json(&c);
        check_str(text_at(json, "model"), i ? "b" : "a");
        json_close(json);
    }
    check_int(take_answer(&c).status, 200);
    check_str(buf_str(&c.body), "{\"status\":\"ok\"}\n");
    done(&w, &c);
}

static void a_client_that_waits_for_leave_gets_it(void **state UNUSED) {
    struct world w;
    struct client c;
    struct got got;
    char head[200];
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1)});
    snprintf(head, sizeof head,
             "POST " CHAT " HTTP/1.1\r\nHost: m\r\nExpect: 100-continue\r\nContent-Length: %zu\r\n\r\n",
             strlen(ASK("m", "")));
    client_send(&c, head);
    size_t n = peek_answer(&c, &got, true);
    check_int(got.status, 100);
    buf_consume(&c.in, n);
    client_send(&c, ASK("m", ""));
    pass_ms(&w, 1);
    check_int(take_answer(&c).status, 200);
    client_send(&c, "POST /nothing HTTP/1.1\r\nHost: m\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n");
    check_int(take_answer(&c).status, 404); // without the body
    done(&w, &c);
}

// ---- slow readers

static void check_through_window(size_t window) {
    struct world w;
    struct client c;
    world_init(&w, &(struct mock_options){.times.latency = LATENCY_MS(10)});
    client_open(&c, &w, window);
    check_int(ask(&c, CHAT, ASK("m", "")).status, 200);
    struct json *json = body_json(&c);
    check_str(text_at(json, "choices.0.message.content"), "one two three");
    json_close(json);
    struct got got = ask(&c, CHAT, ASK("mock-9x5ms", STREAM "\"stream_options\":{\"include_usage\":true},"));
    check_int(got.status, 200);
    check_joined(&c, "choices.0.delta.content", "one two three one two three one two three", 9);
    check_int(count_events(&c), 13);
    check_int(ask(&c, CHAT, ASK("m", STREAM)).status, 200);
    check_joined(&c, "choices.0.delta.content", "one two three", 3);
    check_int(ask(&c, "/v1/responses", "{\"model\":\"m\",\"stream\":true,\"input\":\"ping 1\"}").status, 200);
    check_joined(&c, "response.output.0.content.0.text", "ping 1", 1);
    check_int(ask(&c, "/v1/embeddings", "{\"model\":\"m\",\"input\":[\"a\",\"b\"],\"dimensions\":100}").status, 200);
    check_int(get(&c, "/mock/journal").status, 200);
    struct str journal = buf_str(&c.body);
    check(str_search(journal, STR("\n{\"in_flight\":0,\"max_in_flight\":1,")) < journal.len);
    check(str_ends(journal, STR(",\"calls\":5,\"whole\":5,\"cut\":0,\"gone\":0,\"by_status\":{\"200\":5}}\n")));
    check_int(get(&c, "/nothing").status, 404);
    check_int(ask(&c, CHAT, "{").status, 400);
    done(&w, &c);
}

static void everything_goes_through_a_window_of_any_size(void **state UNUSED) {
    static const size_t windows[] = {1, 7, 100, 4096};
    for (size_t i = 0; i < ARRAY_LEN(windows); i++) {
        check_through_window(windows[i]);
    }
}

// 0 under AddressSanitizer.
static size_t heap_in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

// Words without end to a client that does not read: the connection's window fills, and that is all.
static void a_client_that_does_not_read_costs_no_memory(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.tokens = 0});
    ask(&c, CHAT, ASK("mock-2x1ms", STREAM)); // buffers that stay have their size
    c.reads = false;
    size_t before = heap_in_use();
    client_post(&c, CHAT, ASK("mock-100000x0", STREAM));
    pass_ms(&w, 60 * 1000);
    check(heap_in_use() <= before + MEM_WINDOW + 16 * 1024);
    c.reads = true;
    client_read(&c);
    settle(&w);
    check_int(take_answer(&c).status, 200);
    check_int(count_events(&c), 100003);
    done(&w, &c);
}

static void a_slow_reader_gets_every_token_in_the_end(void **state UNUSED) {
    struct world w;
    struct client c;
    world_init(&w, &(struct mock_options){.tokens = 0});
    client_open(&c, &w, 1000);
    c.reads = false;
    client_post(&c, CHAT, ASK("mock-300x1ms", STREAM));
    pass_ms(&w, 60 * 1000);
    c.reads = true;
    client_read(&c);
    settle(&w);
    check_int(take_answer(&c).status, 200); // no clock moves any more: all is due
    check_int(count_events(&c), 303);
    done(&w, &c);
}

static void a_long_text_is_echoed_whole(void **state UNUSED) {
    enum { WORDS = 100 * 1000 };
    struct world w;
    struct client c;
    struct buf body;
    buf_init(&body, TEXT_CAP);
    check_ok(buf_str_append(&body, STR("{\"model\":\"m\",\"messages\":[{\"content\":\"")));
    for (unsigned i = 0; i < WORDS; i++) {
        check_ok(buf_printf(&body, "%s%u\xC3\xA9", i ? " " : "", i));
    }
    check_ok(buf_str_append(&body, STR("\"}]}")));
    check_ok(buf_append(&body, "", 1));
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1)});
    check_int(ask(&c, CHAT, buf_str(&body).ptr).status, 200);
    struct json *json = body_json(&c);
    struct str echo = text_at(json, "choices.0.message.content");
    check_int(echo.len, buf_len(&body) - 1 - strlen("{\"model\":\"m\",\"messages\":[{\"content\":\"\"}]}"));
    check(str_search(buf_str(&body), echo) < buf_len(&body));
    check_int((int)number_at(json, "usage.completion_tokens"), WORDS);
    json_close(json);
    buf_finish(&body);
    done(&w, &c);
}

// ---- the journal

// The n-th line of the journal, from 0.
static struct json *journal_line(struct client *c, unsigned n) {
    struct str line = {NULL, 0};
    get(c, "/mock/journal");
    struct str rest = buf_str(&c->body);
    for (unsigned i = 0; i <= n; i++) {
        check(str_split(&rest, '\n', &line));
    }
    struct json *json = json_open(line, TEXT_CAP);
    check(json != NULL);
    return json;
}

static void the_journal_tells_when_what_happened(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(50)});
    double start = (double)w.fake.ns;
    client_post(&c, "/chat/completions", ASK("mock-3x20ms", STREAM));
    pass_ms(&w, 40);
    take_answer(&c);
    struct json *json = journal_line(&c, 0);
    check_int((int)number_at(json, "id"), 1);
    check_str(text_at(json, "path"), "/chat/completions");
    check_str(text_at(json, "model"), "mock-3x20ms");
    check(json_true(at(json, "stream")));
    check_int((int)number_at(json, "status"), 200);
    check(number_at(json, "arrival_ns") == start);
    check(number_at(json, "first_byte_ns") == start);
    check(number_at(json, "last_byte_ns") == start + 40e6);
    check(number_at(json, "client_gone_ns") == 0);
    json_close(json);
    client_post(&c, CHAT, ASK("m", ""));
    pass_ms(&w, 50);
    take_answer(&c);
    json = journal_line(&c, 1);
    check(!json_true(at(json, "stream")));
    check(number_at(json, "arrival_ns") == start + 40e6);
    check(number_at(json, "first_byte_ns") == start + 90e6);
    check(number_at(json, "last_byte_ns") == start + 90e6);
    json_close(json);
    client_post(&c, CHAT, ASK("mock-err-503", ""));
    take_answer(&c);
    json = journal_line(&c, 2);
    check_int((int)number_at(json, "status"), 503);
    json_close(json);
    done(&w, &c);
}

static void a_client_that_leaves_is_journaled(void **state UNUSED) {
    struct world w;
    struct client c;
    struct client leaves;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1000)});
    static const char *const asks[] = {ASK("m", ""), ASK("m", STREAM), ASK("mock-1000x1h", STREAM)};
    for (unsigned i = 0; i < ARRAY_LEN(asks); i++) {
        client_open(&leaves, &w, MEM_WINDOW);
        client_post(&leaves, CHAT, asks[i]);
        pass_ms(&w, 10);
        get(&c, "/mock/stats");
        check(str_starts(buf_str(&c.body), STR("{\"in_flight\":1,\"max_in_flight\":1,")));
        double now = (double)w.fake.ns;
        client_close(&leaves);
        pass_ms(&w, 10);
        struct json *json = journal_line(&c, i);
        check(number_at(json, "client_gone_ns") == now);
        check(number_at(json, "last_byte_ns") == 0);
        check_int((int)number_at(json, "status"), i == 2 ? 200 : 0);
        json_close(json);
        get(&c, "/mock/stats");
        check(str_starts(buf_str(&c.body), STR("{\"in_flight\":0,\"max_in_flight\":1,")));
    }
    done(&w, &c);
}

static void a_client_that_leaves_in_the_middle_of_its_request_is_journaled(void **state UNUSED) {
    struct world w;
    struct client c;
    struct client leaves;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(1000)});
    client_open(&leaves, &w, MEM_WINDOW);
    client_send(&leaves, "POST " CHAT " HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\n{\"model\"");
    client_close(&leaves);
    settle(&w);
    struct json *json = journal_line(&c, 0);
    check(number_at(json, "client_gone_ns") > 0);
    json_close(json);
    done(&w, &c);
}

static void a_blocked_stream_whose_client_leaves_is_journaled(void **state UNUSED) {
    struct world w;
    struct client c;
    struct client leaves;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(0)});
    client_open(&leaves, &w, 100);
    leaves.reads = false;
    client_post(&leaves, CHAT, ASK("mock-1000x1ms", STREAM));
    pass_ms(&w, 2000);
    client_close(&leaves);
    settle(&w);
    struct json *json = journal_line(&c, 0);
    check(number_at(json, "client_gone_ns") > 0);
    check(number_at(json, "last_byte_ns") == 0);
    json_close(json);
    done(&w, &c);
}

static void the_journal_keeps_the_last_calls_only(void **state UNUSED) {
    struct world w;
    struct client c;
    struct client waits;
    one_client(&w, &c, &(struct mock_options){.journal_calls = 3});
    client_open(&waits, &w, MEM_WINDOW);
    client_post(&waits, CHAT, ASK("mock-1m", "")); // its record will be gone when it ends
    for (unsigned i = 0; i < 5; i++) {
        client_post(&c, CHAT, ASK("mock", ""));
        take_answer(&c);
    }
    struct json *json = journal_line(&c, 0);
    check_int((int)number_at(json, "id"), 4);
    json_close(json);
    pass_ms(&w, 60 * 1000);
    check_int(take_answer(&waits).status, 200);
    json = journal_line(&c, 3);
    check_int((int)number_at(json, "in_flight"), 0);
    check_int((int)number_at(json, "max_in_flight"), 2);
    check_int((int)number_at(json, "calls"), 6);
    json_close(json);
    client_close(&waits);
    done(&w, &c);
}

static void check_ids(struct client *c, const char *path, uint64_t first, unsigned n) {
    struct str line;
    get(c, path);
    struct str rest = buf_str(&c->body);
    for (unsigned i = 0; i < n; i++) {
        check(str_split(&rest, '\n', &line));
        struct json *json = json_open(line, TEXT_CAP);
        check_int((int)number_at(json, "id"), first + i);
        json_close(json);
    }
    check(str_starts(rest, STR("{\"in_flight\":"))); // only the counts are left
}

static void the_journal_is_read_in_parts_and_begun_anew(void **state UNUSED) {
    struct world w;
    struct client c;
    struct client waits;
    one_client(&w, &c, &(struct mock_options){.journal_calls = 8});
    client_open(&waits, &w, MEM_WINDOW);
    for (unsigned i = 0; i < 9; i++) {
        client_post(&c, CHAT, ASK("mock", ""));
        take_answer(&c);
    }
    client_post(&waits, CHAT, ASK("mock-1s", ""));
    check_ids(&c, "/mock/journal", 3, 8);
    check_ids(&c, "/mock/journal?since=7", 8, 3);
    check_ids(&c, "/mock/journal?limit=2&since=7", 8, 2);
    check_ids(&c, "/mock/journal?limit=2", 3, 2);
    check_ids(&c, "/mock/journal?limit=0", 0, 0);
    check_ids(&c, "/mock/journal?since=10&limit=5", 0, 0);
    check_ids(&c, "/mock/journal?since=18446744073709551615", 0, 0);
    check_ids(&c, "/mock/journal?since=x&limit=", 3, 8);
    check_int(ask(&c, "/mock/reset", "").status, 200);
    check(str_starts(buf_str(&c.body),
                     STR("{\"in_flight\":1,\"max_in_flight\":1,\"in_service\":1,\"max_in_service\":1,")));
    check(str_ends(buf_str(&c.body), STR("\"calls\":0,\"whole\":0,\"cut\":0,\"gone\":0,\"by_status\":{}}\n")));
    check_ids(&c, "/mock/journal", 0, 0);
    client_post(&c, CHAT, ASK("mock", ""));
    take_answer(&c);
    pass_ms(&w, 1000);
    check_int(take_answer(&waits).status, 200);
    check_ids(&c, "/mock/journal", 11, 1);
    check_int(get(&c, "/mock/reset").status, 405);
    client_close(&waits);
    done(&w, &c);
}

// The reader is so slow that what it has not read yet is overwritten.
static void a_journal_is_read_while_calls_come(void **state UNUSED) {
    struct world w;
    struct client c;
    struct client reader;
    one_client(&w, &c, &(struct mock_options){.journal_calls = 50});
    for (unsigned i = 0; i < 50; i++) {
        client_post(&c, CHAT, ASK("mock", ""));
        take_answer(&c);
    }
    client_open(&reader, &w, 200);
    reader.reads = false;
    client_get(&reader, "/mock/journal");
    for (unsigned i = 0; i < 45; i++) {
        client_post(&c, CHAT, ASK("mock", ""));
        take_answer(&c);
    }
    reader.reads = true;
    client_read(&reader);
    settle(&w);
    take_answer(&reader);
    struct str rest = buf_str(&reader.body);
    struct str line;
    double last = 0;
    while (str_split(&rest, '\n', &line) && rest.len) {
        struct json *json = json_open(line, TEXT_CAP);
        check(json != NULL);
        check(number_at(json, "id") > last);
        last = number_at(json, "id");
        json_close(json);
    }
    check_int((int)last, 50); // what came after the question is not part of the answer
    client_close(&reader);
    done(&w, &c);
}

// ---- capacity and chance

static void set_capacity(struct mock_options *options, const char *capacity) {
    check(capacity_parse(str_c(capacity), &options->capacity) == NULL);
}

// Opens clients, each of which asks at once; the call is "one two three".
static struct client *crowd(struct world *w, unsigned n, const char *body) {
    struct client *clients = xcalloc(n, sizeof *clients);
    for (unsigned i = 0; i < n; i++) {
        client_open(&clients[i], w, MEM_WINDOW);
        client_post(&clients[i], CHAT, body);
    }
    return clients;
}

static void crowd_close(struct client *clients, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        client_close(&clients[i]);
    }
    free(clients);
}

static unsigned answered(struct client *clients, unsigned n) {
    struct got got;
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++) {
        count += peek_answer(&clients[i], &got, false) > 0;
    }
    return count;
}

static void a_pool_answers_in_batches(void **state UNUSED) {
    static const unsigned after[] = {0, 3, 6, 7};
    struct world w;
    struct client c;
    struct mock_options options = {.times.latency = LATENCY_MS(1000)};
    set_capacity(&options, "pool:3");
    one_client(&w, &c, &options);
    double start = (double)w.fake.ns;
    struct client *clients = crowd(&w, 7, ASK("m", ""));
    for (unsigned i = 0; i < ARRAY_LEN(after); i++) {
        check_int(answered(clients, 7), after[i]);
        pass_ms(&w, 1000);
    }
    for (unsigned i = 0; i < 7; i++) {
        struct json *json = journal_line(&c, i);
        double turn = start + (double)(i / 3) * 1e9;
        check(number_at(json, "arrival_ns") == start);
        check(number_at(json, "service_start_ns") == turn);
        check(number_at(json, "service_end_ns") == turn + 1e9);
        check(number_at(json, "first_byte_ns") == turn + 1e9);
        check(number_at(json, "last_byte_ns") == turn + 1e9);
        check_int((int)number_at(json, "seat"), (int)(i % 3 + 1));
        check_int((int)number_at(json, "tokens"), 3);
        check_str(text_at(json, "end"), "whole");
        json_close(json);
    }
    get(&c, "/mock/stats");
    check(str_search(buf_str(&c.body), STR("\"max_in_service\":3,\"waiting\":0,\"max_waiting\":4")) < buf_len(&c.body));
    crowd_close(clients, 7);
    done(&w, &c);
}

// Streams keep their seats until the last token, and while their clients do not read.
static void a_stream_keeps_its_seat_to_the_end(void **state UNUSED) {
    struct world w;
    struct client slow;
    struct client next;
    struct mock_options options = {.times.latency = LATENCY_MS(0)};
    set_capacity(&options, "lock");
    world_init(&w, &options);
    client_open(&slow, &w, 100);
    slow.reads = false;
    client_post(&slow, CHAT, ASK("mock-10x10ms", STREAM));
    client_open(&next, &w, MEM_WINDOW);
    client_post(&next, CHAT, ASK("m", ""));
    pass_ms(&w, 5000);
    check_no_answer(&next);
    slow.reads = true;
    client_read(&slow);
    settle(&w);
    check_int(take_answer(&next).status, 200);
    client_close(&slow);
    done(&w, &next);
}

static void who_leaves_the_queue_is_not_served(void **state UNUSED) {
    struct world w;
    struct client c;
    struct mock_options options = {.times.latency = LATENCY_MS(1000)};
    set_capacity(&options, "lock");
    one_client(&w, &c, &options);
    struct client *clients = crowd(&w, 3, ASK("m", ""));
    pass_ms(&w, 500);
    client_close(&clients[1]);
    settle(&w);
    get(&c, "/mock/stats");
    check(str_search(buf_str(&c.body), STR("\"in_service\":1,\"max_in_service\":1,\"waiting\":1,")) < buf_len(&c.body));
    pass_ms(&w, 1500);
    check_int(take_answer(&clients[2]).status, 200); // at 2 s, not at 3 s
    struct json *json = journal_line(&c, 1);
    check(number_at(json, "service_start_ns") == 0);
    check(number_at(json, "client_gone_ns") > 0);
    check_str(text_at(json, "end"), "gone");
    json_close(json);
    client_close(&clients[0]);
    client_close(&clients[2]);
    free(clients);
    done(&w, &c);
}

static void over_the_cap_is_429_at_once(void **state UNUSED) {
    struct world w;
    struct client c;
    struct mock_options options = {.times.latency = LATENCY_MS(1000)};
    set_capacity(&options, "cap:2");
    one_client(&w, &c, &options);
    struct client *clients = crowd(&w, 2, ASK("m", ""));
    client_post(&c, CHAT, ASK("m", ""));
    struct got got = take_answer(&c);
    check_error(&c, &got, 429);
    check_str(got_field(&got, "retry-after"), "1");
    pass_ms(&w, 1000);
    check_int(answered(clients, 2), 2);
    check_int(ask(&c, CHAT, ASK("m", "")).status, 200);
    crowd_close(clients, 2);
    done(&w, &c);
}

static void errors_by_name_take_no_seat(void **state UNUSED) {
    struct world w;
    struct client c;
    struct mock_options options = {.times.latency = LATENCY_MS(1000)};
    set_capacity(&options, "lock");
    one_client(&w, &c, &options);
    struct client *clients = crowd(&w, 2, ASK("m", ""));
    client_post(&c, CHAT, ASK("mock-err-500", ""));
    check_int(take_answer(&c).status, 500);
    crowd_close(clients, 2);
    done(&w, &c);
}

#define ASK_AS(user) "{\"model\":\"m\",\"user\":\"" user "\",\"messages\":[{\"content\":\"x\"}]}"

static void a_session_is_a_field_a_user_or_cookies(void **state UNUSED) {
    struct world w;
    struct client c;
    struct mock_options options = {.times.latency = LATENCY_MS(1000)};
    set_capacity(&options, "session");
    one_client(&w, &c, &options);
    struct client *ann = crowd(&w, 2, ASK_AS("ann"));
    struct client *bob = crowd(&w, 1, ASK_AS("bob"));
    struct client *nobody = crowd(&w, 2, ASK("m", ""));
    struct client other[3];
    static const char *const fields[] = {"Cookie: id=1", "Cookie: id=1", "X-Mock-Session: ann"};
    for (unsigned i = 0; i < ARRAY_LEN(other); i++) {
        client_open(&other[i], &w, MEM_WINDOW);
        check_ok(buf_printf(&other[i].out, "POST " CHAT " HTTP/1.1\r\nHost: m\r\n%s\r\nContent-Length: %zu\r\n\r\n%s",
                            fields[i], strlen(ASK("m", "")), ASK("m", "")));
        client_send(&other[i], "");
    }
    pass_ms(&w, 1000);
    check_int(answered(ann, 2) + answered(bob, 1) + answered(nobody, 2), 1 + 1 + 2);
    check_int(answered(other, 3), 1);
    pass_ms(&w, 1000);
    check_int(answered(ann, 2), 2);
    check_int(answered(other, 3), 2);
    pass_ms(&w, 1000);
    check_int(answered(other, 3), 3);
    struct json *json = journal_line(&c, 2);
    check_str(text_at(json, "session"), "bob");
    json_close(json);
    json = journal_line(&c, 7);
    check_str(text_at(json, "session"), "ann");
    json_close(json);
    crowd_close(ann, 2);
    crowd_close(bob, 1);
    crowd_close(nobody, 2);
    for (unsigned i = 0; i < ARRAY_LEN(other); i++) {
        client_close(&other[i]);
    }
    done(&w, &c);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

// The latencies that the journal has, in the order of the calls.
static void drawn(struct client *c, unsigned n, double *out) {
    for (unsigned i = 0; i < n; i++) {
        struct json *json = journal_line(c, i);
        out[i] = number_at(json, "latency_ns");
        check(number_at(json, "work_ns") >= out[i]);
        json_close(json);
    }
}

static void ask_in_order(struct world *w, const unsigned *order, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        char body[200];
        struct client *c = xcalloc(1, sizeof *c);
        snprintf(body, sizeof body, "{\"model\":\"m\",\"messages\":[{\"content\":\"call %u\"}]}", order[i]);
        client_open(c, w, MEM_WINDOW);
        check_int(ask(c, CHAT, body).status, 200);
        client_close(c);
        settle(w);
        free(c);
    }
}

// The same calls in another order; 3 are the same twice.
static void latencies_belong_to_calls_and_not_to_their_order(void **state UNUSED) {
    enum { CALLS = 6 };
    static const unsigned one_way[CALLS] = {1, 2, 3, 3, 4, 5};
    static const unsigned other_way[CALLS] = {3, 5, 4, 3, 1, 2};
    static const unsigned place_of[CALLS] = {4, 5, 0, 3, 2, 1};
    struct world w;
    struct client c;
    double first[CALLS];
    double again[CALLS];
    struct mock_options options = {.seed = 42};
    check(latency_parse(STR("lognormal:20ms,90ms"), &options.times.latency) == NULL);
    one_client(&w, &c, &options);
    ask_in_order(&w, one_way, CALLS);
    drawn(&c, CALLS, first);
    check_int(ask(&c, "/mock/reset", "").status, 200);
    ask_in_order(&w, other_way, CALLS);
    drawn(&c, CALLS, again);
    for (unsigned i = 0; i < CALLS; i++) {
        check(first[i] == again[place_of[i]]);
    }
    check(first[2] != first[3]);
    qsort(first, CALLS, sizeof *first, by_value);
    for (unsigned i = 1; i < CALLS; i++) {
        check(first[i] != first[i - 1]);
    }
    done(&w, &c);
    options.seed = 43;
    one_client(&w, &c, &options);
    ask_in_order(&w, one_way, CALLS);
    drawn(&c, CALLS, again);
    qsort(again, CALLS, sizeof *again, by_value);
    check(memcmp(first, again, sizeof first) != 0);
    done(&w, &c);
}

static void a_nonce_tells_calls_apart_whatever_their_bodies(void **state UNUSED) {
    struct world w;
    struct client c;
    double first[2];
    struct mock_options options = {.seed = 1};
    check(latency_parse(STR("uniform:0-1s"), &options.times.latency) == NULL);
    one_client(&w, &c, &options);
    for (unsigned i = 0; i < 2; i++) {
        check_ok(buf_printf(&c.out,
                            "POST " CHAT " HTTP/1.1\r\nHost: m\r\nX-Mock-Nonce: n1\r\nContent-Length: %zu\r\n\r\n%s",
                            strlen(i ? ASK("b", "") : ASK("a", "")), i ? ASK("b", "") : ASK("a", "")));
        client_send(&c, "");
        pass_ms(&w, 1000);
        take_answer(&c);
        drawn(&c, 1, &first[i]);
        ask(&c, "/mock/reset", "");
    }
    check(first[0] == first[1]);
    done(&w, &c);
}

static void a_field_sets_a_call_s_times(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(60000)});
    check_ok(buf_printf(&c.out,
                        "POST " CHAT " HTTP/1.1\r\nHost: m\r\nX-Mock-Latency: 20ms\r\nx-mock-tokens: 2\r\n"
                        "Content-Length: %zu\r\n\r\n%s",
                        strlen(ASK("m", "")), ASK("m", "")));
    client_send(&c, "");
    pass_ms(&w, 20);
    check_int(take_answer(&c).status, 200);
    struct json *json = body_json(&c);
    check_str(text_at(json, "choices.0.message.content"), "one two");
    json_close(json);
    check_ok(buf_printf(&c.out,
                        "POST " CHAT " HTTP/1.1\r\nHost: m\r\nX-Mock-Latency: soon\r\nContent-Length: %zu\r\n\r\n%s",
                        strlen(ASK("m", "")), ASK("m", "")));
    client_send(&c, "");
    struct got got = take_answer(&c);
    check_error(&c, &got, 400);
    check(str_search(buf_str(&c.body), STR("X-Mock-Latency wants a time as 5s")) < buf_len(&c.body));
    check(str_search(buf_str(&c.body), STR("not 'soon'")) < buf_len(&c.body));
    done(&w, &c);
}

// ---- endings

static void many_calls_wait_at_once_and_none_is_mixed_up(void **state UNUSED) {
    enum { CLIENTS = 300 };
    struct world w;
    struct client *clients = xcalloc(CLIENTS, sizeof *clients);
    world_init(&w, &(struct mock_options){.times.latency = LATENCY_MS(5000)});
    for (unsigned i = 0; i < CLIENTS; i++) {
        char body[200];
        client_open(&clients[i], &w, MEM_WINDOW);
        snprintf(body, sizeof body, "{\"model\":\"m\",\"stream\":%s,\"messages\":[{\"content\":\"this is %u\"}]}",
                 i % 2 ? "true" : "false", i);
        client_post(&clients[i], CHAT, body);
    }
    pass_ms(&w, 5000);
    for (unsigned i = 0; i < CLIENTS; i++) {
        char wanted[40];
        snprintf(wanted, sizeof wanted, "this is %u", i);
        take_answer(&clients[i]);
        if (i % 2) {
            check_joined(&clients[i], "choices.0.delta.content", wanted, 3);
        } else {
            struct json *json = body_json(&clients[i]);
            check_str(text_at(json, "choices.0.message.content"), wanted);
            json_close(json);
        }
        client_close(&clients[i]);
    }
    settle(&w);
    world_finish(&w);
    free(clients);
}

static void the_mock_may_be_destroyed_with_calls_in_flight(void **state UNUSED) {
    static const char *const asks[] = {ASK("mock-1h", ""), ASK("mock-9x1h", STREAM), ASK("mock-9999x0", STREAM),
                                       "{\"mod"};
    struct world w;
    struct client clients[ARRAY_LEN(asks)];
    world_init(&w, &(struct mock_options){.times.latency = LATENCY_MS(0)});
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        client_open(&clients[i], &w, MEM_WINDOW);
        clients[i].reads = i != 2;
        client_post(&clients[i], CHAT, asks[i]);
    }
    mock_destroy(w.mock);
    w.mock = NULL;
    settle(&w);
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        client_close(&clients[i]);
    }
    settle(&w);
    world_finish(&w);
}

static void it_is_reached_without_a_listener(void **state UNUSED) {
    struct world w;
    struct client c;
    world_init(&w, &(struct mock_options){.times.latency = LATENCY_MS(7)});
    client_take(&c, &w, mock_connect(w.mock), MEM_WINDOW);
    client_post(&c, CHAT, ASK("m", ""));
    pass_ms(&w, 7);
    check_int(take_answer(&c).status, 200);
    done(&w, &c);
}

// With no memory a call may fail in any way, but neither crash nor leak.
static void starve(void *arg) {
    struct world *w = arg;
    struct client c;
    static const char *const paths[] = {CHAT, CHAT, "/v1/embeddings", "/v1/responses"};
    static const char *const bodies[] = {ASK("m", ""), ASK("mock-9x1ms", STREAM),
                                         "{\"model\":\"m\",\"input\":[\"a\",\"b\"]}",
                                         "{\"model\":\"m\",\"stream\":true,\"input\":\"ping 1\"}"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        client_open(&c, w, 1000);
        if (buf_printf(&c.out, "POST %s HTTP/1.1\r\nHost: mock\r\nContent-Length: %zu\r\n\r\n%s", paths[i],
                       strlen(bodies[i]), bodies[i]) == OK) {
            client_write(&c);
        }
        c.reads = false; // the test's own buffers are not what is looked at
        pass_ms(w, 100);
        client_close(&c);
        settle(w);
    }
}

static void it_survives_without_memory(void **state UNUSED) {
    struct world w;
    struct mock_options options = {.tokens = 0};
    check(latency_parse(STR("uniform:5ms-9ms"), &options.times.latency) == NULL);
    set_capacity(&options, "workers:1x2");
    world_init(&w, &options);
    check(every_allocation_fails(starve, &w) > 10);
    struct client c;
    client_open(&c, &w, MEM_WINDOW);
    check_int(ask(&c, CHAT, ASK("m", "")).status, 200);
    get(&c, "/mock/stats");
    check(str_starts(buf_str(&c.body), STR("{\"in_flight\":0,")));
    done(&w, &c);
}

TESTS(TEST(an_answer_comes_after_exactly_its_latency), TEST(an_answer_is_never_early),
      TEST(the_time_of_a_plain_answer_is_that_of_its_tokens), TEST(tokens_of_a_stream_come_at_their_times),
      TEST(the_first_token_of_a_named_pace_comes_at_once), TEST(a_chat_answer_has_openais_shape),
      TEST(a_chat_stream_has_role_words_stop_and_done), TEST(usage_comes_in_a_chunk_of_its_own_when_asked_for),
      TEST(the_last_message_is_echoed_to_the_byte), TEST(tokens_are_cut_short_or_go_round),
      TEST(completions_echo_the_prompt), TEST(responses_answer_with_an_object),
      TEST(a_stream_of_responses_has_typed_events_in_order), TEST(embeddings_are_the_same_in_every_form),
      TEST(models_are_listed_and_any_name_is_one), TEST(head_is_answered_without_a_body),
      TEST(bad_requests_are_400_and_say_why), TEST(errors_come_by_model_name), TEST(unknown_paths_and_methods),
      TEST(a_body_too_large_is_refused_before_it_comes), TEST(what_is_no_http_is_told_so),
      TEST(a_request_may_come_byte_by_byte), TEST(pipelined_requests_are_answered_in_order),
      TEST(a_client_that_waits_for_leave_gets_it), TEST(everything_goes_through_a_window_of_any_size),
      TEST(a_client_that_does_not_read_costs_no_memory), TEST(a_slow_reader_gets_every_token_in_the_end),
      TEST(a_long_text_is_echoed_whole), TEST(the_journal_tells_when_what_happened),
      TEST(a_client_that_leaves_is_journaled), TEST(a_client_that_leaves_in_the_middle_of_its_request_is_journaled),
      TEST(a_blocked_stream_whose_client_leaves_is_journaled), TEST(the_journal_keeps_the_last_calls_only),
      TEST(a_journal_is_read_while_calls_come), TEST(the_journal_is_read_in_parts_and_begun_anew),
      TEST(a_pool_answers_in_batches), TEST(a_stream_keeps_its_seat_to_the_end),
      TEST(who_leaves_the_queue_is_not_served), TEST(over_the_cap_is_429_at_once), TEST(errors_by_name_take_no_seat),
      TEST(a_session_is_a_field_a_user_or_cookies), TEST(latencies_belong_to_calls_and_not_to_their_order),
      TEST(a_nonce_tells_calls_apart_whatever_their_bodies), TEST(a_field_sets_a_call_s_times),
      TEST(many_calls_wait_at_once_and_none_is_mixed_up), TEST(the_mock_may_be_destroyed_with_calls_in_flight),
      TEST(it_is_reached_without_a_listener), TEST(it_survives_without_memory))
