// SPDX-License-Identifier: MIT
// What answers look like beyond a plain chat: tool calls, JSON by schema, choices, limits, stop sequences, and all of
// Anthropic's API.
#include "support.h"

#define RESPONSES "/v1/responses"
#define MESSAGES "/v1/messages"

#define WEATHER                                                                                                        \
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"},\"unit\":{\"enum\":[\"c\",\"f\"]}},"          \
    "\"required\":[\"city\",\"unit\"]}"
#define ARGUMENTS "{\"city\": \"one two\", \"unit\": \"c\"}"
#define CHAT_TOOLS                                                                                                     \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"other\"}},"                                            \
    "{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":" WEATHER "}}],"
#define RESPONSE_TOOLS                                                                                                 \
    "\"tools\":[{\"type\":\"web_search\"},{\"type\":\"function\",\"name\":\"weather\",\"parameters\":" WEATHER "}],"
#define MESSAGE_TOOLS "\"tools\":[{\"name\":\"weather\",\"input_schema\":" WEATHER "}],"
#define SAYS "\"messages\":[{\"role\":\"user\",\"content\":\"one two\"}]}"
#define NAMED "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"weather\"}},"

static void open_one(struct world *w, struct client *c) {
    one_client(w, c, &(struct mock_options){.times.between = LATENCY_MS(1)});
}

static void check_text(struct client *c, const char *path, const char *wanted) {
    struct json *json = body_json(c);
    check_str(text_at(json, path), wanted);
    json_close(json);
}

// Asks for a whole answer, whose text at `path` has to be `wanted`.
static void check_answer(struct client *c, const char *url, const char *body, const char *path, const char *wanted) {
    struct got got = ask(c, url, body);
    if (got.status != 200) {
        fail_msg("%s: %d: \"%.*s\"", body, got.status, STR_ARG(buf_str(&c->body)));
    }
    check_text(c, path, wanted);
}

// The types of the events of a stream in order, each once where several follow each other.
static void check_types(struct client *c, const char *const *types) {
    struct str rest = buf_str(&c->body);
    struct str last = STR("");
    struct event event;
    while (next_event(&rest, &event)) {
        struct json *json = json_open(event.data, TEXT_CAP);
        check(json != NULL);
        check(str_eq(text_at(json, "type"), event.type));
        json_close(json);
        if (!str_eq(event.type, last)) {
            check(*types != NULL);
            check_str(event.type, *types++);
        }
        last = event.type;
    }
    check(*types == NULL);
    check_int(rest.len, 0);
}

// ---- tools

static void a_chat_calls_the_tool_that_it_must(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_answer(&c, CHAT, "{\"model\":\"m\"," CHAT_TOOLS NAMED SAYS, "choices.0.message.tool_calls.0.function.name",
                 "weather");
    check_text(&c, "choices.0.message.tool_calls.0.function.arguments", ARGUMENTS);
    check_text(&c, "choices.0.message.tool_calls.0.type", "function");
    check_text(&c, "choices.0.message.tool_calls.0.id", "call_mock_1_0");
    check_text(&c, "choices.0.finish_reason", "tool_calls");
    struct json *json = body_json(&c);
    check(!at(json, "choices.0.message.content.0") && !text_at(json, "choices.0.message.content").ptr);
    json_close(json);
    check_answer(&c, CHAT, "{\"model\":\"m\"," CHAT_TOOLS "\"tool_choice\":\"required\"," SAYS,
                 "choices.0.message.tool_calls.0.function.name", "other");
    check_text(&c, "choices.0.message.tool_calls.0.function.arguments", "{}");
    done(&w, &c);
}

static void a_stream_calls_it_in_pieces(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_int(ask(&c, CHAT, "{\"model\":\"m\"," STREAM CHAT_TOOLS NAMED SAYS).status, 200);
    check_joined(&c, "choices.0.delta.tool_calls.0.function.arguments", ARGUMENTS, 5);
    check_joined(&c, "choices.0.delta.tool_calls.0.function.name", "weather", 1);
    check_joined(&c, "choices.0.delta.tool_calls.0.id", "call_mock_1_0", 1);
    check_joined(&c, "choices.0.delta.content", "", 0);
    check_joined(&c, "choices.0.finish_reason", "tool_calls", 1);
    done(&w, &c);
}

static void a_name_or_a_field_asks_for_a_tool_if_there_is_one(void **state UNUSED) {
    static const char no_choice[] = "{\"model\":\"mock-tool\"," CHAT_TOOLS "\"tool_choice\":\"none\"," SAYS;
    static const char plain[] = "{\"model\":\"m\"," CHAT_TOOLS SAYS;
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_answer(&c, CHAT, "{\"model\":\"mock-tool\"," CHAT_TOOLS SAYS, "choices.0.message.tool_calls.0.function.name",
                 "other");
    check_answer(&c, CHAT, "{\"model\":\"mock-tool\"," SAYS, "choices.0.message.content", "one two");
    check_answer(&c, CHAT, no_choice, "choices.0.message.content", "one two");
    check_answer(&c, CHAT, plain, "choices.0.message.content", "one two");
    check_ok(buf_printf(&c.out,
                        "POST " CHAT " HTTP/1.1\r\nHost: m\r\nx-mock-tool: weather\r\nContent-Length: %zu\r\n\r\n%s",
                        strlen(plain), plain));
    client_write(&c);
    pass_ms(&w, 100);
    check_int(take_answer(&c).status, 200);
    check_text(&c, "choices.0.message.tool_calls.0.function.name", "weather");
    done(&w, &c);
}

static void a_tools_result_is_answered_with_text(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_answer(&c, CHAT,
                 "{\"model\":\"mock-tool\"," CHAT_TOOLS NAMED "\"messages\":[{\"role\":\"user\",\"content\":\"x\"},"
                 "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]},"
                 "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"sunny day\"}]}",
                 "choices.0.message.content", "sunny day");
    check_answer(&c, RESPONSES,
                 "{\"model\":\"m\"," RESPONSE_TOOLS "\"tool_choice\":\"required\",\"input\":[{\"role\":\"user\","
                 "\"content\":\"x\"},{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"sunny day\"}]}",
                 "output.0.content.0.text", "sunny day");
    check_answer(&c, MESSAGES,
                 "{\"model\":\"m\",\"max_tokens\":9," MESSAGE_TOOLS "\"tool_choice\":{\"type\":\"any\"},\"messages\":["
                 "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t\",\"content\":"
                 "[{\"type\":\"text\",\"text\":\"sunny\"},{\"type\":\"text\",\"text\":\"day\"}]}]}]}",
                 "content.0.text", "sunny\nday");
    done(&w, &c);
}

static void a_response_calls_a_tool(void **state UNUSED) {
    static const char *const types[] = {"response.created",
                                        "response.in_progress",
                                        "response.output_item.added",
                                        "response.function_call_arguments.delta",
                                        "response.function_call_arguments.done",
                                        "response.output_item.done",
                                        "response.completed",
                                        NULL};
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_answer(&c, RESPONSES,
                 "{\"model\":\"m\"," RESPONSE_TOOLS "\"tool_choice\":{\"type\":\"function\",\"name\":\"weather\"},"
                 "\"input\":\"one two\"}",
                 "output.0.arguments", ARGUMENTS);
    check_text(&c, "output.0.type", "function_call");
    check_text(&c, "output.0.name", "weather");
    check_text(&c, "output.0.call_id", "call_mock_1");
    check_text(&c, "status", "completed");
    ask(&c, RESPONSES, "{\"model\":\"m\"," STREAM RESPONSE_TOOLS "\"tool_choice\":\"required\",\"input\":\"one two\"}");
    check_types(&c, types);
    check_joined(&c, "delta", ARGUMENTS, 5);
    check_joined(&c, "arguments", ARGUMENTS, 1);
    check_joined(&c, "item.arguments", ARGUMENTS, 1);
    check_joined(&c, "response.output.0.arguments", ARGUMENTS, 1);
    done(&w, &c);
}

static void check_refused(struct client *c, const char *url, const char *body, const char *param) {
    struct got got = ask(c, url, body);
    check_error(c, &got, 400);
    check_text(c, "error.param", param);
}

static void what_cannot_be_shaped_is_400(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_refused(&c, CHAT, "{\"model\":\"m\",\"tool_choice\":\"required\"," SAYS, "tool_choice");
    check_refused(&c, CHAT,
                  "{\"model\":\"m\"," CHAT_TOOLS
                  "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"x\"}}," SAYS,
                  "tool_choice");
    check_refused(&c, CHAT, "{\"model\":\"m\",\"response_format\":{\"type\":\"json_schema\"}," SAYS, "response_format");
    check_refused(&c, CHAT, "{\"model\":\"m\",\"n\":0," SAYS, "n");
    check_refused(&c, CHAT, "{\"model\":\"m\",\"n\":129," SAYS, "n");
    check_refused(&c, CHAT, "{\"model\":\"m\",\"max_tokens\":0," SAYS, "max_tokens");
    check_refused(&c, RESPONSES, "{\"model\":\"m\",\"max_output_tokens\":-1,\"input\":\"x\"}", "max_output_tokens");
    done(&w, &c);
}

// ---- JSON

// A schema, and the document that fits it when "one two" is echoed.
static const struct {
    const char *schema;
    const char *document;
} schemas[] = {
    {"{}", "\"one two\""},
    {"{\"type\":\"object\"}", "{}"},
    {"{\"properties\":{\"a\":{}}}", "{}"},
    {WEATHER, ARGUMENTS},
    {"{\"type\":\"object\",\"required\":[\"a\",\"b\"],\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":"
     "\"string\"}}}",
     "{\"a\": \"one two\", \"b\": \"text\"}"},
    {"{\"required\":[\"a b\\\"\"],\"properties\":{\"a b\\\"\":{\"type\":\"null\"}}}", "{\"a b\\\"\": null}"},
    {"{\"type\":\"string\",\"maxLength\":3}", "\"one\""},
    {"{\"type\":\"string\",\"minLength\":9}", "\"one twoxx\""},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2026-01-01\""},
    {"{\"type\":\"string\",\"format\":\"what\"}", "\"one two\""},
    {"{\"type\":\"integer\"}", "0"},
    {"{\"type\":\"integer\",\"minimum\":3}", "3"},
    {"{\"type\":\"integer\",\"minimum\":2.5}", "3"},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":3}", "4"},
    {"{\"type\":\"integer\",\"maximum\":-2}", "-2"},
    {"{\"type\":\"integer\",\"exclusiveMaximum\":-2}", "-3"},
    {"{\"type\":\"integer\",\"minimum\":7,\"multipleOf\":5}", "10"},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":1}", "0.5"},
    {"{\"type\":\"number\",\"minimum\":0.25}", "0.25"},
    {"{\"type\":\"boolean\"}", "true"},
    {"{\"type\":\"null\"}", "null"},
    {"{\"type\":[\"null\",\"integer\"]}", "0"},
    {"{\"type\":[\"null\"]}", "null"},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}", "[]"},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2}", "[0, 0]"},
    {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"}],\"items\":{\"type\":\"integer\"},\"minItems\":2}",
     "[null, 0]"},
    {"{\"const\":{\"a\":[1,\"x\"]}}", "{\"a\":[1,\"x\"]}"},
    {"{\"enum\":[7,8]}", "7"},
    {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"null\"}]}", "0"},
    {"{\"allOf\":[{\"$ref\":\"#/$defs/n\"}],\"$defs\":{\"n\":{\"type\":\"integer\",\"minimum\":1}}}", "1"},
    {"{\"$ref\":\"#/definitions/s\",\"definitions\":{\"s\":{\"type\":\"string\"}}}", "\"one two\""},
    {"{\"type\":\"object\",\"required\":[\"next\"],\"properties\":{\"next\":{\"type\":\"array\",\"items\":{\"$ref\":\"#"
     "\"}}}}",
     "{\"next\": []}"},
};

static void documents_fit_their_schemas(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    for (size_t i = 0; i < ARRAY_LEN(schemas); i++) {
        char body[800];
        snprintf(body, sizeof body,
                 "{\"model\":\"m\",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\","
                 "\"strict\":true,\"schema\":%s}}," SAYS,
                 schemas[i].schema);
        check_answer(&c, CHAT, body, "choices.0.message.content", schemas[i].document);
    }
    done(&w, &c);
}

static void an_array_as_long_as_can_be_is_cut(void **state UNUSED) {
    static const char body[] =
        "{\"model\":\"m\",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":"
        "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"array\",\"minItems\":1e300,\"items\":"
        "{\"$ref\":\"#\"}}}}}," SAYS;
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_int(ask(&c, CHAT, body).status, 200);
    struct json *json = body_json(&c);
    struct json *content = json_open(text_at(json, "choices.0.message.content"), TEXT_CAP);
    check(json_is_array(json_root(content)));
    json_close(content);
    json_close(json);
    done(&w, &c);
}

// A schema that needs itself has no document: what is answered is JSON all the same, and ends.
static void a_schema_without_end_is_cut(void **state UNUSED) {
    static const char body[] =
        "{\"model\":\"m\",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":"
        "\"object\","
        "\"required\":[\"a\",\"b\"],\"properties\":{\"a\":{\"$ref\":\"#\"},\"b\":{\"$ref\":\"#\"}}}}}," SAYS;
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_int(ask(&c, CHAT, body).status, 200);
    struct json *json = body_json(&c);
    struct json *content = json_open(text_at(json, "choices.0.message.content"), TEXT_CAP);
    check(json_is_object(json_root(content)));
    json_close(content);
    json_close(json);
    done(&w, &c);
}

static void every_api_has_its_way_to_ask_for_json(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_answer(&c, CHAT, "{\"model\":\"mock-50x1ms\",\"response_format\":{\"type\":\"json_object\"}," SAYS,
                 "choices.0.message.content", "{\"text\": \"one two\"}");
    check_answer(&c, RESPONSES,
                 "{\"model\":\"m\",\"input\":\"one two\",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"x\","
                 "\"schema\":" WEATHER "}}}",
                 "output.0.content.0.text", ARGUMENTS);
    check_answer(&c, MESSAGES,
                 "{\"model\":\"m\",\"max_tokens\":99,\"output_config\":{\"format\":{\"type\":\"json_schema\","
                 "\"schema\":" WEATHER "}}," SAYS,
                 "content.0.text", ARGUMENTS);
    ask(&c, CHAT, "{\"model\":\"m\"," STREAM "\"response_format\":{\"type\":\"json_object\"}," SAYS);
    check_joined(&c, "choices.0.delta.content", "{\"text\": \"one two\"}", 3);
    done(&w, &c);
}

// ---- choices, limits, stops

static void several_choices_have_the_same_content(void **state UNUSED) {
    struct world w;
    struct client c;
    char path[80];
    open_one(&w, &c);
    check_int(ask(&c, CHAT, "{\"model\":\"m\",\"n\":3," SAYS).status, 200);
    struct json *json = body_json(&c);
    check_int((int)json_length(at(json, "choices")), 3);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "choices.%d.index", i);
        check_int((int)number_at(json, path), i);
        snprintf(path, sizeof path, "choices.%d.message.content", i);
        check_str(text_at(json, path), "one two");
    }
    check_int((int)number_at(json, "usage.completion_tokens"), 6);
    json_close(json);
    check_answer(&c, "/v1/completions", "{\"model\":\"m\",\"n\":2,\"prompt\":\"one two\"}", "choices.1.text",
                 "one two");
    ask(&c, CHAT, "{\"model\":\"m\"," STREAM "\"n\":2," SAYS);
    check_joined(&c, "choices.0.delta.content", "oneone two two", 4);
    check_joined(&c, "choices.0.delta.role", "assistantassistant", 2);
    check_joined(&c, "choices.0.finish_reason", "stopstop", 2);
    check_int(count_events(&c), 9);
    done(&w, &c);
}

static void a_limit_ends_the_answer_and_says_so(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_answer(&c, CHAT, "{\"model\":\"m\",\"max_completion_tokens\":1," SAYS, "choices.0.message.content", "one");
    check_text(&c, "choices.0.finish_reason", "length");
    check_answer(&c, CHAT, "{\"model\":\"m\",\"max_tokens\":2," SAYS, "choices.0.finish_reason", "stop");
    check_answer(&c, CHAT, "{\"model\":\"m\",\"max_tokens\":null," SAYS, "choices.0.finish_reason", "stop");
    ask(&c, CHAT, "{\"model\":\"mock-9x1ms\"," STREAM "\"max_tokens\":3," SAYS);
    check_joined(&c, "choices.0.delta.content", "one two one", 3);
    check_joined(&c, "choices.0.finish_reason", "length", 1);
    check_answer(&c, RESPONSES, "{\"model\":\"m\",\"max_output_tokens\":1,\"input\":\"one two\"}", "status",
                 "incomplete");
    check_text(&c, "incomplete_details.reason", "max_output_tokens");
    check_text(&c, "output.0.status", "incomplete");
    ask(&c, RESPONSES, "{\"model\":\"m\"," STREAM "\"max_output_tokens\":1,\"input\":\"one two\"}");
    check_joined(&c, "delta", "one", 1);
    check(str_search(buf_str(&c.body), STR("event: response.incomplete\n")) < buf_len(&c.body));
    check(str_search(buf_str(&c.body), STR("response.completed")) == buf_len(&c.body));
    done(&w, &c);
}

static void a_stop_sequence_ends_the_text(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_answer(&c, CHAT, "{\"model\":\"m\",\"stop\":\" tw\"," SAYS, "choices.0.message.content", "one");
    check_text(&c, "choices.0.finish_reason", "stop");
    check_answer(&c, CHAT, "{\"model\":\"mock-9x0\",\"stop\":[\"zz\",\"wo\",\"e \"]," SAYS, "choices.0.message.content",
                 "on");
    check_answer(&c, CHAT, "{\"model\":\"m\",\"stop\":\"o\"," SAYS, "choices.0.message.content", "");
    check_answer(&c, MESSAGES, "{\"model\":\"m\",\"max_tokens\":9,\"stop_sequences\":[\"two\"]," SAYS, "content.0.text",
                 "one ");
    check_text(&c, "stop_reason", "stop_sequence");
    check_text(&c, "stop_sequence", "two");
    done(&w, &c);
}

static void nothing_is_kept_to_be_read_again(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    struct got got = get(&c, "/v1/responses/resp_mock_1");
    check_error(&c, &got, 404);
    check(str_search(buf_str(&c.body), STR("keeps no responses")) < buf_len(&c.body));
    done(&w, &c);
}

// ---- Anthropic

static void a_message_has_anthropics_shape(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    struct got got = ask(&c, MESSAGES, "{\"model\":\"m\",\"max_tokens\":99,\"system\":\"be brief\"," SAYS);
    check_int(got.status, 200);
    check_str(got_field(&got, "request-id"), "req_mock_1");
    check(!got_field(&got, "x-request-id").ptr);
    check_text(&c, "id", "msg_mock_1");
    check_text(&c, "type", "message");
    check_text(&c, "role", "assistant");
    check_text(&c, "model", "m");
    check_text(&c, "content.0.type", "text");
    check_text(&c, "content.0.text", "one two");
    check_text(&c, "stop_reason", "end_turn");
    struct json *json = body_json(&c);
    check_int((int)number_at(json, "usage.input_tokens"), 4);
    check_int((int)number_at(json, "usage.output_tokens"), 2);
    check(at(json, "stop_sequence") != NULL && !text_at(json, "stop_sequence").ptr);
    json_close(json);
    ask(&c, "/v1/messages/count_tokens",
        "{\"model\":\"m\",\"system\":[{\"type\":\"text\",\"text\":\"be brief\"}]," SAYS);
    json = body_json(&c);
    check_int((int)number_at(json, "input_tokens"), 4);
    json_close(json);
    check_answer(&c, MESSAGES, "{\"model\":\"m\",\"max_tokens\":1," SAYS, "stop_reason", "max_tokens");
    done(&w, &c);
}

static void a_stream_of_a_message_has_its_events_in_order(void **state UNUSED) {
    static const char *const types[] = {
        "message_start",      "content_block_start", "ping",         "content_block_delta",
        "content_block_stop", "message_delta",       "message_stop", NULL};
    struct world w;
    struct client c;
    open_one(&w, &c);
    ask(&c, MESSAGES, "{\"model\":\"m\"," STREAM "\"max_tokens\":99," SAYS);
    check_types(&c, types);
    check_joined(&c, "delta.text", "one two", 2);
    check_joined(&c, "delta.stop_reason", "end_turn", 1);
    check_joined(&c, "message.id", "msg_mock_1", 1);
    check(str_search(buf_str(&c.body), STR("\"output_tokens\":2,")) < buf_len(&c.body));
    ask(&c, MESSAGES, "{\"model\":\"mock-tool\"," STREAM MESSAGE_TOOLS "\"max_tokens\":99," SAYS);
    check_types(&c, types);
    check_joined(&c, "delta.partial_json", ARGUMENTS, 5);
    check_joined(&c, "content_block.name", "weather", 1);
    check_joined(&c, "delta.stop_reason", "tool_use", 1);
    done(&w, &c);
}

static void a_message_calls_a_tool(void **state UNUSED) {
    struct world w;
    struct client c;
    open_one(&w, &c);
    check_answer(&c, MESSAGES,
                 "{\"model\":\"m\",\"max_tokens\":99," MESSAGE_TOOLS
                 "\"tool_choice\":{\"type\":\"tool\",\"name\":\"weather\"}," SAYS,
                 "content.0.input.city", "one two");
    check_text(&c, "content.0.input.unit", "c");
    check_text(&c, "content.0.type", "tool_use");
    check_text(&c, "content.0.id", "toolu_mock_1");
    check_text(&c, "stop_reason", "tool_use");
    check_answer(&c, MESSAGES,
                 "{\"model\":\"m\",\"max_tokens\":1," MESSAGE_TOOLS "\"tool_choice\":{\"type\":\"any\"}," SAYS,
                 "stop_reason", "max_tokens");
    struct json *json = body_json(&c);
    check_int((int)json_length(at(json, "content.0.input")), 0);
    json_close(json);
    done(&w, &c);
}

static void check_anthropic_error(struct client *c, const struct got *got, int status, const char *type) {
    check_int(got->status, status);
    check_text(c, "type", "error");
    check_text(c, "error.type", type);
    struct json *json = body_json(c);
    check(text_at(json, "error.message").len > 0 && text_at(json, "request_id").len > 0);
    json_close(json);
}

static void errors_are_in_anthropics_shape_there(void **state UNUSED) {
    static const struct {
        int status;
        const char *type;
    } kinds[] = {
        {400, "invalid_request_error"},
        {401, "authentication_error"},
        {403, "permission_error"},
        {404, "not_found_error"},
        {413, "request_too_large"},
        {422, "invalid_request_error"},
        {429, "rate_limit_error"},
        {500, "api_error"},
        {503, "api_error"},
        {504, "timeout_error"},
        {529, "overloaded_error"},
    };
    struct world w;
    struct client c;
    open_one(&w, &c);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char body[200];
        snprintf(body, sizeof body, "{\"model\":\"mock-err-%d\",\"max_tokens\":9," SAYS, kinds[i].status);
        struct got got = ask(&c, MESSAGES, body);
        check_anthropic_error(&c, &got, kinds[i].status, kinds[i].type);
        check(got_field(&got, "request-id").ptr != NULL);
        check(got_field(&got, "anthropic-ratelimit-requests-limit").ptr != NULL);
        check(!got_field(&got, "x-ratelimit-limit-requests").ptr);
        check_str(got_field(&got, "retry-after"),
                  str_search(STR("429 503 529"), str_first(str_c(body + 19), 3)) < 11 ? "1" : "");
    }
    struct got got = ask(&c, MESSAGES, "{\"model\":\"m\"," SAYS);
    check_anthropic_error(&c, &got, 400, "invalid_request_error");
    got = get(&c, MESSAGES);
    check_anthropic_error(&c, &got, 405, "invalid_request_error"); // by the path; below by the field
    client_send(&c, "GET /v1/nothing HTTP/1.1\r\nHost: m\r\nanthropic-version: 2023-06-01\r\n\r\n");
    got = take_answer(&c);
    check_anthropic_error(&c, &got, 404, "not_found_error");
    client_send(&c, "GET /v1/models HTTP/1.1\r\nHost: m\r\nanthropic-version: 2023-06-01\r\n\r\n");
    take_answer(&c);
    check_text(&c, "data.0.type", "model");
    check_text(&c, "first_id", "mock");
    done(&w, &c);
}

TESTS(TEST(a_chat_calls_the_tool_that_it_must), TEST(a_stream_calls_it_in_pieces),
      TEST(a_name_or_a_field_asks_for_a_tool_if_there_is_one), TEST(a_tools_result_is_answered_with_text),
      TEST(a_response_calls_a_tool), TEST(what_cannot_be_shaped_is_400), TEST(documents_fit_their_schemas),
      TEST(a_schema_without_end_is_cut), TEST(an_array_as_long_as_can_be_is_cut),
      TEST(every_api_has_its_way_to_ask_for_json), TEST(several_choices_have_the_same_content),
      TEST(a_limit_ends_the_answer_and_says_so), TEST(a_stop_sequence_ends_the_text),
      TEST(nothing_is_kept_to_be_read_again), TEST(a_message_has_anthropics_shape),
      TEST(a_stream_of_a_message_has_its_events_in_order), TEST(a_message_calls_a_tool),
      TEST(errors_are_in_anthropics_shape_there))
