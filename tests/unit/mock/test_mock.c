// SPDX-License-Identifier: MIT
// The mock as its clients see it.
#include "support.h"

#include <malloc.h>

// ---- time

static void an_answer_comes_after_exactly_its_latency(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.latency_ms = 5000});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 10});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 5000});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 500, .token_ms = 30, .tokens = 5});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 500});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1});
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
    one_client(&w, &c, &(struct mock_options){.token_ms = 1});
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
    one_client(&w, &c, &(struct mock_options){.token_ms = 1});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1});
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
    one_client(&w, &c, &(struct mock_options){.token_ms = 1});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 5000});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 60000});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 60000});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 60000});
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
    check_str(buf_str(&c.body), "{\"in_flight\":0,\"at_most\":0,\"calls\":0}\n");
    done(&w, &c);
}

static void a_body_too_large_is_refused_before_it_comes(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1});
    client_send(&c, "POST " CHAT " HTTP/1.1\r\nHost: mock\r\nContent-Length: 67108865\r\n\r\n{");
    struct got got = take_answer(&c);
    check_error(&c, &got, 413);
    check_str(got_field(&got, "connection"), "close");
    done(&w, &c);
}

static void what_is_no_http_is_told_so(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 100});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 100});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1});
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
    world_init(&w, &(struct mock_options){.latency_ms = 10});
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
    check(str_ends(buf_str(&c.body), STR("{\"in_flight\":0,\"max_in_flight\":1,\"calls\":5}\n")));
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 50});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1000});
    static const char *const asks[] = {ASK("m", ""), ASK("m", STREAM), ASK("mock-1000x1h", STREAM)};
    for (unsigned i = 0; i < ARRAY_LEN(asks); i++) {
        client_open(&leaves, &w, MEM_WINDOW);
        client_post(&leaves, CHAT, asks[i]);
        pass_ms(&w, 10);
        get(&c, "/mock/stats");
        check(str_starts(buf_str(&c.body), STR("{\"in_flight\":1,\"at_most\":1,")));
        double now = (double)w.fake.ns;
        client_close(&leaves);
        pass_ms(&w, 10);
        struct json *json = journal_line(&c, i);
        check(number_at(json, "client_gone_ns") == now);
        check(number_at(json, "last_byte_ns") == 0);
        check_int((int)number_at(json, "status"), i == 2 ? 200 : 0);
        json_close(json);
        get(&c, "/mock/stats");
        check(str_starts(buf_str(&c.body), STR("{\"in_flight\":0,\"at_most\":1,")));
    }
    done(&w, &c);
}

static void a_client_that_leaves_in_the_middle_of_its_request_is_journaled(void **state UNUSED) {
    struct world w;
    struct client c;
    struct client leaves;
    one_client(&w, &c, &(struct mock_options){.latency_ms = 1000});
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
    one_client(&w, &c, &(struct mock_options){.latency_ms = 0});
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

// ---- endings

static void many_calls_wait_at_once_and_none_is_mixed_up(void **state UNUSED) {
    enum { CLIENTS = 300 };
    struct world w;
    struct client *clients = xcalloc(CLIENTS, sizeof *clients);
    world_init(&w, &(struct mock_options){.latency_ms = 5000});
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
    world_init(&w, &(struct mock_options){.latency_ms = 0});
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
    world_init(&w, &(struct mock_options){.latency_ms = 7});
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
    world_init(&w, &(struct mock_options){.latency_ms = 7});
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
      TEST(a_journal_is_read_while_calls_come), TEST(many_calls_wait_at_once_and_none_is_mixed_up),
      TEST(the_mock_may_be_destroyed_with_calls_in_flight), TEST(it_is_reached_without_a_listener),
      TEST(it_survives_without_memory))
