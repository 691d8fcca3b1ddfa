// SPDX-License-Identifier: MIT
// The answers are cut down from the API references of OpenAI and Anthropic, and from what vLLM, Ollama and Mistral send.
#include "llm/reply.h"

#include "check.h"

#define CAP ((size_t)1 << 20)

static void check_text(const char *json, enum err wanted, enum reply_kind kind, const char *text) {
    struct buf out;
    enum reply_kind got = REPLY_NO_TEXT;
    char *copy = str_dup(str_c(json));
    buf_init(&out, CAP);
    check_ok(buf_append(&out, "before ", 7));
    buf_consume(&out, 3);
    enum err e = reply_text(str_c(copy), &out, &got);
    free(copy);
    if (e != wanted || (e == OK && got != kind)) {
        fail_msg("%s: got %s, kind %d", json, err_name(e), got);
    }
    check_str(str_first(buf_str(&out), 4), "ore ");
    check_str(str_skip(buf_str(&out), 4), text);
    buf_finish(&out);
}

static void the_text_of_a_chat_is_its_first_choice(void **state UNUSED) {
    check_text(
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
        "\"assistant\",\"content\":\"Hello \\u00e9\\ud83d\\ude00\\n\\\"x\\\"\",\"refusal\":null},\"finish_reason\":"
        "\"stop\"},{\"index\":1,\"message\":{\"content\":\"second\"}}],\"usage\":{\"total_tokens\":3}}",
        OK, REPLY_TEXT, "Hello \xC3\xA9\xF0\x9F\x98\x80\n\"x\"");
    check_text("{\"choices\":[{\"message\":{\"content\":\"a\",\"refusal\":\"b\"}}]}", OK, REPLY_TEXT, "a");
    check_text("{\"choices\":[{\"message\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[]},{\"type\":\"text\","
               "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}}]}",
               OK, REPLY_TEXT, "ab");
}

static void a_refusal_is_told_apart(void **state UNUSED) {
    check_text("{\"choices\":[{\"message\":{\"content\":null,\"refusal\":\"I cannot.\"}}]}", OK, REPLY_REFUSAL,
               "I cannot.");
    check_text("{\"choices\":[{\"message\":{\"content\":\"\",\"refusal\":\"No.\"}}]}", OK, REPLY_REFUSAL, "No.");
    check_text("{\"object\":\"response\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"refusal\","
               "\"refusal\":\"I'd rather not\"}]}]}",
               OK, REPLY_REFUSAL, "I'd rather not");
    check_text("{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"Well\"}],\"stop_reason\":\"refusal\"}",
               OK, REPLY_REFUSAL, "Well");
    check_text("{\"type\":\"message\",\"content\":[],\"stop_reason\":\"refusal\"}", OK, REPLY_REFUSAL, "");
}

static void an_answer_may_have_no_text(void **state UNUSED) {
    static const char *const answers[] = {
        "{\"choices\":[]}",
        "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"\"}}]}",
        "{\"choices\":[{\"message\":{\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}]}",
        "{\"choices\":[{\"message\":7}]}",
        "{\"choices\":[null]}",
        "{\"object\":\"response\",\"output\":[]}",
        "{\"object\":\"response\",\"output\":[{\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\","
        "\"text\":\"no\"}]},{\"type\":\"function_call\",\"name\":\"f\"}]}",
        "{\"type\":\"message\",\"content\":[{\"type\":\"tool_use\",\"name\":\"f\",\"input\":{}}],\"stop_reason\":"
        "\"tool_use\"}",
        "{\"type\":\"message\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\"}]}",
        "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":7},{\"text\":\"no type\"},5]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        check_text(answers[i], OK, REPLY_NO_TEXT, "");
    }
}

static void the_other_shapes_have_their_text(void **state UNUSED) {
    check_text("{\"object\":\"text_completion\",\"choices\":[{\"text\":\" a b\",\"index\":0},{\"text\":\"c\"}]}", OK,
               REPLY_TEXT, " a b");
    check_text(
        "{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"completed\",\"error\":null,\"output\":[{\"type\":"
        "\"reasoning\"},{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"one \"},{\"type\":"
        "\"output_text\",\"annotations\":[],\"text\":\"two \"}]},{\"type\":\"message\",\"content\":[{\"type\":"
        "\"refusal\",\"refusal\":\"no\"},{\"type\":\"output_text\",\"text\":\"three\"}]}]}",
        OK, REPLY_TEXT, "one two three");
    check_text("{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":"
               "\"Hi\"},{\"type\":\"tool_use\",\"text\":\"no\"},{\"type\":\"text\",\"text\":\"!\"}],\"stop_reason\":"
               "\"end_turn\"}",
               OK, REPLY_TEXT, "Hi!");
}

static void what_is_no_answer_is_not_understood(void **state UNUSED) {
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        "<html>",
        "{\"error\":{\"message\":\"m\"}}",
        "{\"choices\":{}}",
        "{\"choices\":null}",
        "{\"content\":\"text\"}",
        "{\"output\":\"text\"}",
        "{\"choices\":[{\"message\":{\"content\":\"cut",
        "{\"choices\":[{\"message\":{\"content\":\"\xFF\"}}]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        check_text(texts[i], ERR_INVALID, REPLY_NO_TEXT, "");
    }
}

static void a_text_that_does_not_fit_leaves_nothing(void **state UNUSED) {
    struct str json = STR("{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"abc\"},{\"type\":\"text\","
                          "\"text\":\"def\"}]}");
    for (size_t cap = 1; cap < 10; cap++) {
        struct buf out;
        enum reply_kind kind;
        buf_init(&out, cap);
        check_ok(buf_append(&out, "x", 1));
        check_err(reply_text(json, &out, &kind), cap >= 7 ? OK : ERR_FULL);
        check_str(buf_str(&out), cap >= 7 ? "xabcdef" : "x");
        buf_finish(&out);
    }
}

// --- streams ---

static void check_delta(const char *type, const char *data, const char *wanted) {
    struct buf out;
    char *copy = str_dup(str_c(data));
    buf_init(&out, CAP);
    check_ok(buf_append(&out, "x", 1));
    check_ok(reply_delta(str_c(type), str_c(copy), &out));
    free(copy);
    check_str(str_first(buf_str(&out), 1), "x");
    if (!str_eq(str_skip(buf_str(&out), 1), str_c(wanted))) {
        fail_msg("%s: got \"%.*s\"", data, STR_ARG(buf_str(&out)));
    }
    buf_finish(&out);
}

static void events_with_text_give_it(void **state UNUSED) {
    check_delta(
        "", "{\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" w\\u00f6\"}}]}",
        " w\xC3\xB6");
    check_delta("message", "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}", "a");
    check_delta("", "{\"choices\":[{\"index\":0,\"delta\":{\"content\":null,\"refusal\":\"I c\"}}]}", "I c");
    check_delta(
        "", "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}},{\"index\":0,\"delta\":{\"content\":\"a\"}}]}",
        "a");
    check_delta("", "{\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"t\"}]}", "t");
    check_delta("response.output_text.delta",
                "{\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"delta\":\"r\",\"sequence_number\":4}",
                "r");
    check_delta("", "{\"type\":\"response.output_text.delta\",\"delta\":\"r\"}", "r");
    check_delta("response.output_text.delta", "{\"delta\":\"r\"}", "r");
    check_delta("response.refusal.delta", "{\"type\":\"response.refusal.delta\",\"delta\":\"n\"}", "n");
    check_delta("content_block_delta",
                "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hel\"}}",
                "Hel");
}

static void other_events_give_nothing(void **state UNUSED) {
    static const struct {
        const char *type, *data;
    } rows[] = {
        {"", ""},
        {"", "[DONE]"},
        {"", "{"},
        {"", "7"},
        {"", "{}"},
        {"", "{\"error\":{\"message\":\"m\"}}"},
        {"", "{\"choices\":[]}"},
        {"", "{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}"},
        {"", "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}"},
        {"", "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}}]}"},
        {"", "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"{\"}}]}}]}"},
        {"ping", "{\"type\":\"ping\"}"},
        {"message_start", "{\"type\":\"message_start\",\"message\":{\"content\":[]}}"},
        {"content_block_start",
         "{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}"},
        {"content_block_delta", "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"input_json_delta\","
                                "\"partial_json\":\"{\"}}"},
        {"content_block_delta", "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"thinking_delta\","
                                "\"thinking\":\"hm\"}}"},
        {"response.output_text.done", "{\"type\":\"response.output_text.done\",\"text\":\"whole\"}"},
        {"", "{\"type\":\"response.output_text.done\",\"delta\":\"no\"}"},
        {"response.function_call_arguments.delta", "{\"type\":\"response.function_call_arguments.delta\","
                                                   "\"delta\":\"{\"}"},
        {"response.created", "{\"delta\":\"no\"}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        check_delta(rows[i].type, rows[i].data, "");
    }
}

static void a_full_buffer_is_told(void **state UNUSED) {
    struct buf out;
    buf_init(&out, 3);
    struct str two = STR("{\"choices\":[{\"delta\":{\"content\":\"ab\",\"refusal\":\"cd\"}}]}");
    check_ok(reply_delta(STR(""), STR("{\"choices\":[{\"text\":\"xy\"}]}"), &out));
    check_err(reply_delta(STR(""), two, &out), ERR_FULL);
    check_str(buf_str(&out), "xy");
    buf_finish(&out);
}

// --- ids and numbers ---

static void check_id(const char *json, const char *wanted) {
    struct str text = str_c(json);
    struct str raw = {NULL, 0};
    check_err(reply_id(text, &raw), wanted ? OK : ERR_INVALID);
    if (wanted) {
        check_str(raw, wanted);
        check(raw.ptr > json && raw.ptr + raw.len < json + text.len);
        check(raw.ptr[-1] == '"' && raw.ptr[raw.len] == '"');
    }
}

static void the_id_of_a_response_is_found(void **state UNUSED) {
    check_id("{\"id\":\"resp_1\",\"object\":\"response\",\"output\":[{\"id\":\"msg_1\"}]}", "resp_1");
    check_id("{ \"output\":[{\"id\":\"msg_1\"}], \"object\" : \"response\",\n \"id\" : \"resp_1\" }", "resp_1");
    check_id("{\"type\":\"response.created\",\"response\":{\"id\":\"resp_2\",\"object\":\"response\"},\"id\":\"no\"}",
             "resp_2");
    check_id("{\"id\":\"resp_3\",\"object\":\"response.deleted\",\"deleted\":true}", "resp_3");
    check_id("{\"id\":\"a\\u002fb\",\"object\":\"response\"}", "a\\u002fb");
    check_id("{\"id\":\"\",\"object\":\"response\"}", "");
    check_id("{\"\\u0069d\":\"spelt\",\"id\":\"second\",\"object\":\"response\"}", "spelt");
    check_id("{\"response\":{\"id\":\"a\",\"x\":{\"id\":\"no\"}},\"response\":{\"id\":\"second\"}}", "a");
    check_id("{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\"}", NULL);
    check_id("{\"id\":7,\"object\":\"response\"}", NULL);
    check_id("{\"object\":\"response\"}", NULL);
    check_id("{\"type\":\"response.output_text.delta\",\"delta\":\"x\",\"item_id\":\"m\"}", NULL);
    check_id("{\"response\":\"resp\"}", NULL);
    check_id("[{\"id\":\"resp_1\",\"object\":\"response\"}]", NULL);
    check_id("{\"id\":\"resp_1\",\"object\":\"response\"", NULL);
    check_id("[DONE]", NULL);
}

static void the_sequence_number_is_read(void **state UNUSED) {
    static const char *const without[] = {"",
                                          "[DONE]",
                                          "{}",
                                          "{\"sequence_number\":-1}",
                                          "{\"sequence_number\":1.5}",
                                          "{\"sequence_number\":\"1\"}",
                                          "{\"sequence_number\":null}",
                                          "{\"x\":{\"sequence_number\":1}}",
                                          "[1]"};
    uint64_t n = 5;
    check_ok(reply_sequence(STR("{\"type\":\"response.created\",\"sequence_number\":0}"), &n));
    check_int(n, 0);
    check_ok(reply_sequence(STR("{\"sequence_number\":18446744073709551615}"), &n));
    check(n == UINT64_MAX);
    for (size_t i = 0; i < ARRAY_LEN(without); i++) {
        check_err(reply_sequence(str_c(without[i]), &n), ERR_INVALID);
    }
    check(n == UINT64_MAX);
}

// --- errors ---

static void check_said(struct str got, const char *wanted) {
    check((got.ptr != NULL) == (wanted != NULL));
    check(!wanted || str_eq(got, str_c(wanted)));
}

static void what_an_error_says_is_read(void **state UNUSED) {
    static const struct {
        const char *json, *message, *type, *code;
    } rows[] = {
        {"{\"error\":{\"message\":\"Rate \\u201climit\\u201d\",\"type\":\"requests\",\"param\":null,\"code\":"
         "\"rate_limit_exceeded\"}}",
         "Rate \xE2\x80\x9Climit\xE2\x80\x9D", "requests", "rate_limit_exceeded"},
        {"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"},\"request_id\":"
         "\"r\"}",
         "Overloaded", "overloaded_error", NULL},
        {"{\"error\":\"model 'x' not found\"}", "model 'x' not found", NULL, NULL},
        {"{\"error\":{\"message\":\"m\",\"code\":400}}", "m", NULL, "400"},
        {"{\"error\":{\"message\":\"\",\"type\":null,\"code\":1e2}}", "", NULL, "1e2"},
        {"{\"error\":{\"type\":\"t\"}}", NULL, "t", NULL},
        {"{\"object\":\"error\",\"message\":\"m\",\"type\":\"BadRequestError\",\"param\":null,\"code\":404}", "m",
         "BadRequestError", "404"},
        {"{\"type\":\"error\",\"code\":\"server_error\",\"message\":\"m\",\"sequence_number\":3}", "m", "error",
         "server_error"},
        {"{\"type\":\"response.failed\",\"response\":{\"object\":\"response\",\"status\":\"failed\",\"error\":{"
         "\"code\":"
         "\"server_error\",\"message\":\"m\"}}}",
         "m", NULL, "server_error"},
        {"{\"object\":\"response\",\"status\":\"failed\",\"error\":{\"code\":\"c\",\"message\":\"m\"},\"output\":[]}",
         "m", NULL, "c"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf room;
        struct reply_error error;
        char *copy = str_dup(str_c(rows[i].json));
        buf_init(&room, CAP);
        check_ok(reply_error(str_c(copy), &room, &error));
        free(copy); // nothing points there
        check_said(error.message, rows[i].message);
        check_said(error.type, rows[i].type);
        check_said(error.code, rows[i].code);
        buf_finish(&room);
    }
}

static void what_is_no_error_says_nothing(void **state UNUSED) {
    static const char *const texts[] = {"",
                                        "[]",
                                        "{}",
                                        "\"error\"",
                                        "<html>502</html>",
                                        "{\"error\":null}",
                                        "{\"error\":{}}",
                                        "{\"error\":[\"m\"]}",
                                        "{\"error\":{\"message\":null}}",
                                        "{\"message\":\"m\"}",
                                        "{\"object\":\"response\",\"error\":null,\"output\":[]}",
                                        "{\"choices\":[{\"message\":{\"content\":\"error\"}}]}"};
    struct buf room;
    struct reply_error error = {.type = STR("untouched")};
    buf_init(&room, CAP);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        check_err(reply_error(str_c(texts[i]), &room, &error), ERR_INVALID);
    }
    check_int(buf_len(&room), 0);
    check_str(error.type, "untouched");
    buf_finish(&room);
    buf_init(&room, 5);
    check_err(reply_error(STR("{\"error\":{\"message\":\"abc\",\"type\":\"def\"}}"), &room, &error), ERR_FULL);
    check_int(buf_len(&room), 0);
    buf_finish(&room);
}

// --- hostile answers ---

static void deep_answers_are_survived(void **state UNUSED) {
    static const char *const openings[] = {"[", "{\"choices\":[{\"message\":{\"content\":[",
                                           "{\"error\":", "{\"response\":"};
    static const char *const closings[] = {"]", "]}}]}", "}", "}"};
    enum { MANY = 20000 };
    for (size_t i = 0; i < ARRAY_LEN(openings); i++) {
        struct buf b;
        struct buf out;
        struct str raw;
        struct reply_error error;
        enum reply_kind kind;
        uint64_t n;
        buf_init(&b, 64 << 20);
        buf_init(&out, CAP);
        for (int n_open = 0; n_open < MANY; n_open++) {
            check_ok(buf_str_append(&b, str_c(openings[i])));
        }
        check_ok(buf_append(&b, "1", 1));
        for (int n_closed = 0; n_closed < MANY; n_closed++) {
            check_ok(buf_str_append(&b, str_c(closings[i])));
        }
        check_err(reply_text(buf_str(&b), &out, &kind), i == 1 ? OK : ERR_INVALID);
        check_ok(reply_delta(STR(""), buf_str(&b), &out));
        check_err(reply_id(buf_str(&b), &raw), ERR_INVALID);
        check_err(reply_sequence(buf_str(&b), &n), ERR_INVALID);
        check_err(reply_error(buf_str(&b), &out, &error), ERR_INVALID);
        check_int(buf_len(&out), 0);
        buf_finish(&b);
        buf_finish(&out);
    }
}

static void read_everything(void *arg UNUSED) {
    struct str response = STR("{\"id\":\"resp_1\",\"object\":\"response\",\"sequence_number\":1,\"output\":[{\"type\":"
                              "\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"text\"}]}]}");
    struct buf out;
    struct str raw;
    struct reply_error error;
    enum reply_kind kind;
    uint64_t n = 0;
    buf_init(&out, CAP);
    check(reply_text(response, &out, &kind) == OK || mem_fail_fired());
    check(reply_delta(STR(""), STR("{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}"), &out) == OK || mem_fail_fired());
    check_ok(reply_id(response, &raw)); // these two take none
    check_ok(reply_sequence(response, &n));
    check(reply_error(STR("{\"error\":{\"message\":\"m\",\"code\":7}}"), &out, &error) == OK || mem_fail_fired());
    buf_finish(&out);
}

static void survives_every_failing_allocation(void **state UNUSED) {
    check(every_allocation_fails(read_everything, NULL) >= 10);
    struct buf out;
    enum reply_kind kind;
    buf_init(&out, CAP);
    mem_fail_after(1, 1);
    check_err(reply_text(STR("{\"choices\":[]}"), &out, &kind), ERR_NOMEM); // not "no JSON"
    check_err(reply_delta(STR(""), STR("{\"choices\":[]}"), &out), ERR_NOMEM);
    mem_fail_after(0, 0);
    buf_finish(&out);
}

TESTS(TEST(the_text_of_a_chat_is_its_first_choice), TEST(a_refusal_is_told_apart), TEST(an_answer_may_have_no_text),
      TEST(the_other_shapes_have_their_text), TEST(what_is_no_answer_is_not_understood),
      TEST(a_text_that_does_not_fit_leaves_nothing), TEST(events_with_text_give_it), TEST(other_events_give_nothing),
      TEST(a_full_buffer_is_told), TEST(the_id_of_a_response_is_found), TEST(the_sequence_number_is_read),
      TEST(what_an_error_says_is_read), TEST(what_is_no_error_says_nothing), TEST(deep_answers_are_survived),
      TEST(survives_every_failing_allocation))
