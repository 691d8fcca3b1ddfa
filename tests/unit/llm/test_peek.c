// SPDX-License-Identifier: MIT
#include "llm/peek.h"

#include "check.h"

// The body lies in a heap block of its exact size, so that a read past either end is seen by the sanitizer.
struct looked {
    char *body;
    struct peek peek;
    struct peek_error error;
    bool fine;
};

static void looked_finish(struct looked *l) {
    free(l->body);
    l->body = NULL;
}

static void look(struct looked *l, struct str body) {
    l->body = malloc(body.len ? body.len : 1);
    if (body.len) {
        memcpy(l->body, body.ptr, body.len);
    }
    memset(&l->peek, 0xAA, sizeof l->peek);
    memset(&l->error, 0xAA, sizeof l->error);
    l->fine = peek_request(str_from(l->body, body.len), &l->peek, &l->error);
    check_int(l->fine, l->error.problem == PEEK_FINE);
    check(memchr(l->error.message, '\0', sizeof l->error.message) != NULL);
    check_int(l->error.message[0] == '\0', l->fine);
    check(l->error.position <= body.len);
    check(l->error.line >= 1 && l->error.column >= 1);
    if (body.len) {
        check(memcmp(l->body, body.ptr, body.len) == 0); // not a byte of it was changed
    }
    if (!l->fine) {
        check(l->peek.model.ptr == NULL && l->peek.model_raw.ptr == NULL);
        check(!l->peek.stream && !l->peek.include_usage && !l->peek.background);
        check(l->peek.stream_raw.ptr == NULL && l->peek.background_raw.ptr == NULL);
    }
}

static void check_problem(struct str body, enum peek_problem problem, const char *param) {
    struct looked l;
    look(&l, body);
    bool same_param = !l.error.param == !param && (!param || strcmp(l.error.param, param) == 0);
    if (l.error.problem != problem || !same_param) {
        fail_msg("\"%.*s\": got problem %d (%s), wanted %d", STR_ARG(str_first(body, 200)), l.error.problem,
                 l.error.message, problem);
    }
    looked_finish(&l);
}

static void check_fine(const char *body) { check_problem(str_c(body), PEEK_FINE, NULL); }

static void check_model(const char *body, const char *model, const char *raw) {
    struct looked l;
    look(&l, str_c(body));
    if (!l.fine) {
        fail_msg("%s: %s", body, l.error.message);
    }
    check_str(l.peek.model, model);
    check_str(l.peek.model_raw, raw);
    check(l.peek.model_raw.ptr > l.body && l.peek.model_raw.ptr + l.peek.model_raw.len < l.body + strlen(body));
    check_int(l.peek.model_raw.ptr[-1], '"');
    check_int(l.peek.model_raw.ptr[l.peek.model_raw.len], '"');
    looked_finish(&l);
}

static void the_model_is_found_wherever_it_stands(void **state UNUSED) {
    check_model("{\"model\":\"gpt-5-mini\"}", "gpt-5-mini", "gpt-5-mini");
    check_model("{\"messages\":[{\"model\":\"no\"}],\"model\" : \"yes\" ,\"x\":{\"model\":\"no\"}}", "yes", "yes");
    check_model("  \r\n\t{ \"model\"\n:\n\"a\" }\n", "a", "a");
    check_model("{\"model\":\"x\"}", "x", "x");
    check_model("{\"\":\"\",\"model\":\"m\",\"\":\"\"}", "m", "m");
    check_model("{\n  \"model\": \"pretty\",\n  \"n\": 1\n}", "pretty", "pretty");
}

static void escapes_before_and_in_the_model_do_not_shift_it(void **state UNUSED) {
    check_model("{\"a\\n\\u0041\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u20ac\\ud83d\\ude00\",\"model\":\"gpt\"}", "gpt",
                "gpt");
    check_model("{\"model\":\"a\\/b\"}", "a/b", "a\\/b");
    check_model("{\"model\":\"\\u0067pt\"}", "gpt", "\\u0067pt");
    check_model("{\"model\":\"\\\"\"}", "\"", "\\\"");
    check_model("{\"model\":\"\\\\\"}", "\\", "\\\\");
    check_model("{\"model\":\"\\\\\\\"\\\\\"}", "\\\"\\", "\\\\\\\"\\\\");
    check_model("{\"x\\\"\":\"\\\\\",\"model\":\"\\ud83d\\ude00\",\"y\":\"\\\"\"}", "\xF0\x9F\x98\x80",
                "\\ud83d\\ude00");
    check_model("{\"\\u006dodel\":\"spelt\"}", "spelt", "spelt");
    check_model("{\"model\":\"m\xC3\xB6"
                "del\"}",
                "m\xC3\xB6"
                "del",
                "m\xC3\xB6"
                "del");
    check_model("{\"model\":\"a\\/b/c\\/d\"}", "a/b/c/d", "a\\/b/c\\/d");
}

static void escapes_of_every_amount_keep_the_place(void **state UNUSED) {
    char body[2048];
    for (int before = 0; before < 40; before++) {
        for (int within = 0; within < 6; within++) {
            struct buf b;
            struct buf raw;
            buf_init(&b, sizeof body);
            buf_init(&raw, sizeof body);
            check_ok(buf_printf(&b, "{\"k%s", ""));
            for (int i = 0; i < before; i++) {
                check_ok(buf_append(&b, i % 3 ? "\\u00e9" : "\\n", i % 3 ? 6 : 2));
            }
            for (int i = 0; i < within; i++) {
                check_ok(buf_append(&raw, "x\\u002d", 7));
            }
            check_ok(buf_append(&raw, "end", 3));
            check_ok(buf_printf(&b, "\":[1],\"model\":\"%.*s\"}", STR_ARG(buf_str(&raw))));
            struct looked l;
            look(&l, buf_str(&b));
            check(l.fine);
            check(str_eq(l.peek.model_raw, buf_str(&raw)));
            check_int(l.peek.model.len, (size_t)within * 2 + 3);
            looked_finish(&l);
            buf_finish(&b);
            buf_finish(&raw);
        }
    }
}

static void a_model_may_be_null_or_absent(void **state UNUSED) {
    static const char *const bodies[] = {"{}", "{\"model\":null}", "{\"n\":1}"};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct looked l;
        look(&l, str_c(bodies[i]));
        check(l.fine);
        check(l.peek.model.ptr == NULL && l.peek.model_raw.ptr == NULL);
        looked_finish(&l);
    }
}

static void a_model_has_1_to_255_bytes(void **state UNUSED) {
    for (int len = 0; len < 600; len++) {
        struct buf b;
        buf_init(&b, 4096);
        check_ok(buf_str_append(&b, STR("{\"model\":\"")));
        for (int i = 0; i < len; i++) {
            check_ok(buf_append(&b, "m", 1));
        }
        check_ok(buf_str_append(&b, STR("\"}")));
        bool fine = len >= 1 && len <= 255;
        check_problem(buf_str(&b), fine ? PEEK_FINE : PEEK_WRONG_TYPE, fine ? NULL : "model");
        buf_finish(&b);
    }
}

static void the_length_of_a_model_counts_unescaped(void **state UNUSED) {
    struct buf b;
    struct looked l;
    for (int len = 255; len <= 256; len++) {
        buf_init(&b, 4096);
        check_ok(buf_str_append(&b, STR("{\"model\":\"")));
        for (int i = 0; i < len; i++) {
            check_ok(buf_str_append(&b, STR("\\u0061")));
        }
        check_ok(buf_str_append(&b, STR("\"}")));
        look(&l, buf_str(&b));
        check_int(l.error.problem, len == 255 ? PEEK_FINE : PEEK_WRONG_TYPE);
        if (l.fine) {
            check_int(l.peek.model_raw.len, 255 * 6);
            check_int(l.peek.model.len, 255);
            check(l.peek.model.ptr == l.peek.model_room);
        }
        looked_finish(&l);
        buf_finish(&b);
    }
}

static void stream_and_usage_are_read(void **state UNUSED) {
    static const struct {
        const char *body;
        bool stream;
        bool include_usage;
    } rows[] = {
        {"{}", false, false},
        {"{\"stream\":true}", true, false},
        {"{\"stream\":false}", false, false},
        {"{\"stream\":null}", false, false},
        {"{\"str\\u0065am\":true}", true, false},
        {"{\"x\":{\"stream\":true}}", false, false},
        {"{\"stream\":true,\"stream_options\":{\"include_usage\":true}}", true, true},
        {"{\"stream\":true,\"stream_options\":{\"include_usage\":false}}", true, false},
        {"{\"stream\":true,\"stream_options\":{\"include_usage\":null}}", true, false},
        {"{\"stream\":true,\"stream_options\":{\"x\":1,\"include_\\u0075sage\":true,\"y\":[]}}", true, true},
        {"{\"stream\":true,\"stream_options\":{}}", true, false},
        {"{\"stream\":true,\"stream_options\":null}", true, false},
        {"{\"include_usage\":true}", false, false},
        {"{\"stream_options\":{\"x\":{\"include_usage\":true}}}", false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct looked l;
        look(&l, str_c(rows[i].body));
        check(l.fine);
        check_int(l.peek.stream, rows[i].stream);
        check_int(l.peek.include_usage, rows[i].include_usage);
        looked_finish(&l);
    }
}

// The bytes of a literal: `wanted`, with `before` in front of them; NULL: there are none.
static void check_literal(struct str raw, const char *before, const char *wanted) {
    if (!wanted) {
        check(raw.ptr == NULL);
        return;
    }
    check_str(raw, wanted);
    check(memcmp(raw.ptr - strlen(before), before, strlen(before)) == 0);
}

static void the_bytes_of_stream_and_background_are_found(void **state UNUSED) {
    static const struct {
        const char *body, *stream, *background; // the literals' bytes
        const char *before;
    } rows[] = {
        {"{}", NULL, NULL, ""},
        {"{\"stream\":true}", "true", NULL, "\"stream\":"},
        {"{\"stream\" \t:\r\n false }", "false", NULL, " \t:\r\n "},
        {"{\"\\u0073tream\":null}", "null", NULL, "\\u0073tream\":"},
        {"{\"background\":true}", NULL, "true", "\"background\":"},
        {"{\"x\":\"\\\\\",\"backgroun\\u0064\" : true,\"y\":[true]}", NULL, "true", "\" : "},
        {"{\"background\":false}", NULL, NULL, ""},
        {"{\"background\":null}", NULL, NULL, ""},
        {"{\"background\":\"transparent\"}", NULL, NULL, ""},
        {"{\"background\":1}", NULL, NULL, ""},
        {"{\"background\":[true]}", NULL, NULL, ""},
        {"{\"x\":{\"background\":true,\"stream\":true}}", NULL, NULL, ""},
        {"{\"background\":true,\"stream\":true}", "true", "true", "\":"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct looked l;
        look(&l, str_c(rows[i].body));
        check(l.fine);
        check_literal(l.peek.stream_raw, rows[i].before, rows[i].stream);
        check_literal(l.peek.background_raw, rows[i].before, rows[i].background);
        check_int(l.peek.background, rows[i].background != NULL);
        looked_finish(&l);
    }
}

static void wrong_types_are_named(void **state UNUSED) {
    static const char *const bad_models[] = {"1", "true", "[]", "{}", "[\"gpt\"]", "\"\"", "1e999"};
    static const char *const bad_flags[] = {"1", "0", "\"true\"", "[]", "{}", "\"\"", "[true]"};
    static const char *const bad_options[] = {"1", "true", "\"x\"", "[]", "false"};
    char body[200];
    for (size_t i = 0; i < ARRAY_LEN(bad_models); i++) {
        snprintf(body, sizeof body, "{\"model\":%s}", bad_models[i]);
        check_problem(str_c(body), PEEK_WRONG_TYPE, "model");
    }
    for (size_t i = 0; i < ARRAY_LEN(bad_flags); i++) {
        snprintf(body, sizeof body, "{\"stream\":%s}", bad_flags[i]);
        check_problem(str_c(body), PEEK_WRONG_TYPE, "stream");
        snprintf(body, sizeof body, "{\"stream_options\":{\"include_usage\":%s}}", bad_flags[i]);
        check_problem(str_c(body), PEEK_WRONG_TYPE, "stream_options.include_usage");
    }
    for (size_t i = 0; i < ARRAY_LEN(bad_options); i++) {
        snprintf(body, sizeof body, "{\"stream_options\":%s}", bad_options[i]);
        check_problem(str_c(body), PEEK_WRONG_TYPE, "stream_options");
    }
}

static void every_deciding_member_occurs_once(void **state UNUSED) {
    static const struct {
        const char *name;
        const char *escaped;
        const char *value;
    } rows[] = {
        {"model", "\\u006dodel", "\"a\""},
        {"stream", "strea\\u006D", "true"},
        {"stream_options", "stream\\u005foptions", "{}"},
        {"max_tokens", "max\\u005Ftokens", "1"},
        {"max_completion_tokens", "max_completion_token\\u0073", "1"},
        {"n", "\\u006e", "1"},
        {"user", "u\\u0073er", "\"u\""},
        {"background", "\\u0062ackground", "true"},
    };
    char body[300];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int which = 0; which < 4; which++) { // either may be spelt with escapes
            const char *one = which & 1 ? rows[i].escaped : rows[i].name;
            const char *two = which & 2 ? rows[i].escaped : rows[i].name;
            snprintf(body, sizeof body, "{\"%s\":%s,\"%s\":%s}", one, rows[i].value, two, rows[i].value);
            check_problem(str_c(body), PEEK_DUPLICATE, rows[i].name);
            snprintf(body, sizeof body, "{\"%s\":null,\"x\":[1],\"%s\":null}", one, two);
            check_problem(str_c(body), PEEK_DUPLICATE, rows[i].name);
        }
        snprintf(body, sizeof body, "{\"%s\":%s,\"x\":{\"%s\":%s}}", rows[i].name, rows[i].value, rows[i].name,
                 rows[i].value);
        check_fine(body); // only the top level decides
    }
    check_problem(STR("{\"stream_options\":{\"include_usage\":true,\"include_\\u0075sage\":false}}"), PEEK_DUPLICATE,
                  "stream_options.include_usage");
}

static void other_members_may_repeat(void **state UNUSED) {
    check_fine("{\"a\":1,\"a\":2,\"model\":\"m\",\"temperature\":0,\"temperature\":1}");
    check_fine("{\"Model\":\"a\",\"model\":\"b\",\"model \":\"c\",\"MODEL\":1}");
    check_fine("{\"model\\u0000\":1,\"model\":\"b\"}"); // a longer name
}

static void the_position_of_a_member_is_its_name(void **state UNUSED) {
    struct looked l;
    look(&l, STR("{\"model\":\"a\",\n  \"model\":\"b\"}"));
    check_int(l.error.problem, PEEK_DUPLICATE);
    check_int(l.error.position, 16);
    check_int(l.error.line, 2);
    check_int(l.error.column, 3);
    looked_finish(&l);
    look(&l, STR("{\"x\":\"\\n\\n\",\"stream\":1}"));
    check_int(l.error.problem, PEEK_WRONG_TYPE);
    check_int(l.error.position, 12);
    looked_finish(&l);
}

// --- JSON and nothing else (RFC 8259) ---

static void what_is_json_is_accepted(void **state UNUSED) {
    static const char *const values[] = {
        "0",
        "-0",
        "1",
        "-1",
        "0.5",
        "-0.0",
        "1e0",
        "1E+9",
        "1e-9",
        "1e999",
        "-1e999",
        "1e-999",
        "123456789012345678901234567890",
        "0.00000000000000000000000000000000000000000001",
        "9007199254740993",
        "true",
        "false",
        "null",
        "\"\"",
        "[]",
        "{}",
        "[[]]",
        "[{}]",
        "{\"\":{\"\":[]}}",
        "\"\\u0000\"",
        "\"\\uD834\\uDD1E\"",
        "\"\x7F\"",
        "\"\xC2\x80\"",
        "\"\xEF\xBF\xBF\"",
        "\"\xF4\x8F\xBF\xBF\"",
        "\"\xEF\xBB\xBF\"",
        "\"\\/\"",
        "\"/\"",
        "\"'\"",
        "[1 ,2\n,\t3\r]",
        "\"\xE2\x80\xA8\"",
        "[null,null]",
    };
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct buf b;
        buf_init(&b, 4096);
        check_ok(buf_printf(&b, "{\"v\":%s,\"w\":[%s,%s]}", values[i], values[i], values[i]));
        check_problem(buf_str(&b), PEEK_FINE, NULL);
        buf_finish(&b);
    }
}

static void what_is_no_json_is_refused(void **state UNUSED) {
    static const char *const values[] = {
        "",
        "1,",
        "01",
        "-",
        "-01",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x10",
        "1_000",
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "True",
        "FALSE",
        "nul",
        "nulll",
        "undefined",
        "'a'",
        "\"a",
        "a\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u12G4\"",
        "\"\\U0041\"",
        "\"\\\"",
        "\"\t\"",
        "\"\n\"",
        "\"\x01\"",
        "\"\x1F\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\ud800\"",
        "\"\\ud800x\"",
        "\"\\ud83d\\u0041\"",
        "\"\x80\"",
        "\"\xC0\x80\"",
        "\"\xC1\xBF\"",
        "\"\xE0\x80\x80\"",
        "\"\xED\xA0\x80\"",
        "\"\xF0\x80\x80\x80\"",
        "\"\xF4\x90\x80\x80\"",
        "\"\xF5\x80\x80\x80\"",
        "\"\xFF\"",
        "\"\xC3\"",
        "\"\xE2\x82\"",
        "\"\xF0\x9F\x98\"",
        "[1,]",
        "[,1]",
        "[1,,2]",
        "[1 2]",
        "[",
        "]",
        "[}",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\"::1}",
        "/*c*/1",
        "1//c",
        "#c\n1",
        "1;",
        "\xEF\xBB\xBF"
        "1",
        "\xC2\xA0"
        "1",
        "\v1",
        "\f1",
        "(1)",
        "[1)",
        "--1",
        "1-",
        "1+1",
        "1e1.5",
        "1 1",
        "\"a\" \"b\"",
        "{\"a\":1}{\"b\":1}",
        "[\"\"\"]",
        "*",
        "\\u0031",
        "@",
    };
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct buf b;
        buf_init(&b, 4096);
        check_ok(buf_printf(&b, "{\"v\":%s}", values[i]));
        check_problem(buf_str(&b), PEEK_NOT_JSON, NULL);
        buf_finish(&b);
    }
}

static void bodies_that_are_no_json_are_refused(void **state UNUSED) {
    static const struct str bodies[] = {
        {"", 0},
        {" ", 1},
        {"\n\n", 2},
        {"\xEF\xBB\xBF{}", 5},
        {"{}\0", 3},
        {"\0{}", 3},
        {"{}x", 3},
        {"{}{}", 4},
        {"{\"a\0\":1}", 8},
        {"{\"a\":1\0}", 8},
        {"{}\xEF\xBB\xBF", 5},
        {"{\"a\":\0}", 7},
        {"\xFF\xFE{\0}\0", 6},
        {"{} /* c */", 10},
        {"\0", 1},
        {"nul", 3},
        {"{\"a\":1", 6},
        {"{}\x1A", 3},
        {"data: {}", 8},
        {"model=a&stream=true", 19},
    };
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        check_problem(bodies[i], PEEK_NOT_JSON, NULL);
    }
    check_problem((struct str){NULL, 0}, PEEK_NOT_JSON, NULL);
}

static void json_that_is_no_object_is_refused(void **state UNUSED) {
    static const char *const bodies[] = {"[]",   "1",       "\"model\"", "null",
                                         "true", " [1,2] ", "1e999",     "[{\"model\":\"a\"}]"};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        check_problem(str_c(bodies[i]), PEEK_NOT_OBJECT, NULL);
    }
}

static void every_prefix_is_refused(void **state UNUSED) {
    struct str body =
        STR("{\"model\":\"gpt\\u002d5\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"n\":1,"
            "\"temperature\":-0.7e+1,\"messages\":[{\"role\":\"user\",\"content\":\"h\xC3\xA9 \\ud83d\\ude00 "
            "\\\"x\\\" \xF0\x9F\x98\x80\"},{\"a\":[null,false,[]]}],\"user\":\"u\"}");
    check_problem(body, PEEK_FINE, NULL);
    for (size_t len = 0; len < body.len; len++) {
        check_problem(str_first(body, len), PEEK_NOT_JSON, NULL);
    }
    for (size_t from = 1; from < body.len; from++) { // nor is any end of it an object
        struct looked l;
        look(&l, str_skip(body, from));
        check(!l.fine);
        looked_finish(&l);
    }
}

static void every_changed_byte_is_survived(void **state UNUSED) {
    struct str body = STR("{\"model\":\"g\\u002d5\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                          "\"messages\":[{\"content\":\"\xF0\x9F\x98\x80\"}]}");
    char copy[200];
    for (size_t at = 0; at < body.len; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            struct looked l;
            memcpy(copy, body.ptr, body.len);
            copy[at] = (char)byte;
            look(&l, str_from(copy, body.len));
            looked_finish(&l);
        }
    }
}

// --- what is said ---

static void check_message(struct str body, const char *message) {
    struct looked l;
    look(&l, body);
    check_str(str_c(l.error.message), message);
    looked_finish(&l);
}

static void messages_say_where(void **state UNUSED) {
    struct looked l;
    look(&l, STR("{\n  \"model\": \"a\",\n  \"n\": ?\n}"));
    check_int(l.error.line, 3);
    check_int(l.error.column, 8);
    check_int(l.error.position, 25);
    check(str_starts(str_c(l.error.message), STR("the body is not JSON: line 3, column 8 (byte 25): ")));
    looked_finish(&l);
    check_message(STR(""), "the body is empty; it must be a JSON object");
    check_message(STR("[]"), "the body must be a JSON object");
    check_message(STR("{\"model\":1}"), "model must be a string of 1 to 255 bytes");
    check_message(STR("{\"stream\":1}"), "stream must be true, false or null");
    check_message(STR("{\"stream_options\":1}"), "stream_options must be an object or null");
    check_message(STR("{\"n\":1,\"n\":1}"), "n occurs more than once in the body");
}

static void messages_never_quote_the_body(void **state UNUSED) {
    static const char *const bodies[] = {"sekrit",
                                         "{sekrit}",
                                         "{\"sekrit\"}",
                                         "{\"a\":sekrit}",
                                         "{\"a\":\"sekrit",
                                         "{\"model\":[\"sekrit\"]}",
                                         "{\"model\":\"a\",\"model\":\"sekrit\"}",
                                         "\"sekrit\"",
                                         "{\"a\":\"sekrit\\q\"}",
                                         "{} sekrit"};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct looked l;
        look(&l, str_c(bodies[i]));
        check(!l.fine);
        struct str message = str_c(l.error.message);
        check_int(str_search(message, STR("sekr")), message.len);
        looked_finish(&l);
    }
}

static void lines_are_counted_over_long_bodies(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 1 << 20);
    check_ok(buf_append(&b, "{", 1));
    for (int i = 0; i < 5000; i++) {
        check_ok(buf_append(&b, "\n ", (size_t)(1 + i % 2)));
    }
    check_ok(buf_append(&b, "x", 1));
    struct looked l;
    look(&l, buf_str(&b));
    check_int(l.error.line, 5001);
    check_int(l.error.column, 2);
    check_int(l.error.position, buf_len(&b) - 1);
    looked_finish(&l);
    buf_finish(&b);
}

// --- limits ---

static void nest(struct buf *b, unsigned depth, const char *open, const char *close, const char *inside) {
    for (unsigned i = 0; i < depth; i++) {
        check_ok(buf_str_append(b, str_c(open)));
    }
    check_ok(buf_str_append(b, str_c(inside)));
    for (unsigned i = 0; i < depth; i++) {
        check_ok(buf_str_append(b, str_c(close)));
    }
}

static void nesting_is_limited_exactly(void **state UNUSED) {
    static const struct {
        const char *open;
        const char *close;
        const char *inside;
    } shapes[] = {{"[", "]", ""}, {"{\"a\":", "}", "1"}, {"[\"[[[[\\\"{{\",", "]", "0"}, {"[[],[],{},", "]", "0"}};
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        bool leaf = shapes[i].inside[0] == '0' && shapes[i].open[2] == ']'; // has one level more beside the path
        for (unsigned depth = 60; depth <= 70; depth++) {
            struct buf b;
            buf_init(&b, 1 << 20);
            check_ok(buf_str_append(&b, STR("{\"model\":\"m\",\"x\":")));
            nest(&b, depth, shapes[i].open, shapes[i].close, shapes[i].inside);
            check_ok(buf_append(&b, "}", 1));
            unsigned deepest = depth + 1 + leaf;
            check_problem(buf_str(&b), deepest > PEEK_DEPTH ? PEEK_TOO_DEEP : PEEK_FINE, NULL);
            buf_finish(&b);
        }
    }
}

static void many_brackets_side_by_side_are_not_deep(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 1 << 20);
    check_ok(buf_str_append(&b, STR("{\"x\":[0")));
    for (int i = 0; i < 1000; i++) {
        check_ok(buf_str_append(&b, STR(",[{\"\\\\\":\"]}[[\\\"[[\"}],[]")));
    }
    check_ok(buf_str_append(&b, STR("],\"text\":\"[[[[[[[[[[[[[[[[[[[[{{{{{{{{{{{{{{{{{{{{\",\"model\":\"m\"}")));
    check_problem(buf_str(&b), PEEK_FINE, NULL);
    buf_consume(&b, 1);
    check_ok(buf_str_append(&b, STR("\"a string without an end \\\"")));
    check_problem(buf_str(&b), PEEK_NOT_JSON, NULL);
    buf_finish(&b);
}

static void bombs_are_refused(void **state UNUSED) {
    enum { MANY = 1000000 };
    static const char *const pieces[] = {"[", "{\"a\":", "[[],", "{\"a\":[", "[{\"", "]", "}"};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct buf b;
        buf_init(&b, 64 << 20);
        for (int n = 0; n < MANY; n++) {
            check_ok(buf_str_append(&b, str_c(pieces[i])));
        }
        struct looked l;
        look(&l, buf_str(&b));
        check(l.error.problem == PEEK_TOO_DEEP || l.error.problem == PEEK_NOT_JSON);
        looked_finish(&l);
        buf_finish(&b);
    }
}

static void a_million_digits_are_a_number(void **state UNUSED) {
    enum { DIGITS = 1000000 };
    static const char *const forms[] = {"{\"n\":%s}", "{\"n\":-0.%s}", "{\"n\":1e%s}", "{\"n\":%se1}"};
    char *digits = malloc(DIGITS + 1);
    memset(digits, '7', DIGITS);
    digits[DIGITS] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct buf b;
        buf_init(&b, 2 * DIGITS);
        size_t at = str_find(str_c(forms[i]), '%');
        check_ok(buf_append(&b, forms[i], at));
        check_ok(buf_append(&b, digits, DIGITS));
        check_ok(buf_str_append(&b, str_c(forms[i] + at + 2)));
        check_problem(buf_str(&b), PEEK_FINE, NULL);
        buf_finish(&b);
    }
    free(digits);
}

static void a_wide_object_is_read(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 64 << 20);
    check_ok(buf_append(&b, "{", 1));
    for (int i = 0; i < 200000; i++) {
        check_ok(buf_printf(&b, "\"k%d\":%d,", i, i));
    }
    check_ok(buf_str_append(&b, STR("\"model\":\"m\",\"model\":\"n\"}")));
    check_problem(buf_str(&b), PEEK_DUPLICATE, "model");
    buf_finish(&b);
}

// Two bytes a value, as dense as JSON can be.
static void a_dense_body_costs_no_more_than_another(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 64 << 20);
    check_ok(buf_str_append(&b, STR("{  \"x\":[1")));
    for (int i = 0; i < 2000000; i++) {
        check_ok(buf_str_append(&b, STR(",1")));
    }
    check_ok(buf_str_append(&b, STR("]}")));
    check_problem(buf_str(&b), PEEK_FINE, NULL);
    buf_finish(&b);
}

static void bodies_of_every_size_are_read(void **state UNUSED) {
    char text[20000];
    memset(text, 'x', sizeof text);
    for (size_t len = 0; len < sizeof text; len = len * 5 / 4 + 1) { // from the stack's room to the heap's
        struct buf b;
        buf_init(&b, 1 << 20);
        check_ok(buf_printf(&b, "{\"t\":\"%.*s\",\"a\":[0", (int)len, text));
        for (size_t i = 0; i < len / 3; i++) {
            check_ok(buf_str_append(&b, STR(",1")));
        }
        check_ok(buf_str_append(&b, STR("],\"model\":\"m\\u0065\"}")));
        struct looked l;
        look(&l, buf_str(&b));
        check(l.fine);
        check_str(l.peek.model, "me");
        check_str(l.peek.model_raw, "m\\u0065");
        looked_finish(&l);
        buf_finish(&b);
    }
}

static void look_again(void *body) {
    struct peek peek;
    struct peek_error error;
    check(peek_request(*(struct str *)body, &peek, &error));
}

static void no_body_needs_memory(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 1 << 20);
    check_ok(buf_str_append(&b, STR("{\"model\":\"\\u006d\",\"stream_options\":{},\"a\":[0")));
    for (int i = 0; i < 30000; i++) {
        check_ok(buf_str_append(&b, STR(",1")));
    }
    check_ok(buf_str_append(&b, STR("]}")));
    struct str body = buf_str(&b);
    check_int(every_allocation_fails(look_again, &body), 0);
    buf_finish(&b);
}

// What a string holds is looked at in blocks: everything is found at each place in them, in front of each other thing,
// and as near the end of the body as can be.
static void text_is_checked_at_every_place(void **state UNUSED) {
    static const struct {
        const char *text;
        bool fine;
    } rows[] = {
        {"\\n", true},
        {"\\\"", true},
        {"\\\\", true},
        {"\\u20aC", true},
        {"\\ud83d\\uDE00", true},
        {"\xC3\xBC", true},
        {"\xE4\xB8\x96", true},
        {"\xEA\xB0\x80\xED\x9F\xBF\xEE\x80\x80", true},
        {"\xF0\x9F\x98\x80", true},
        {"\xF0\x9F\x98\x80\xE4\xB8\x96\xC3\xBC", true},
        {"#!]\x7F[", true}, // next to a quote, a backslash, a control character
        {"\\x", false},
        {"\\u12g4", false},
        {"\\u123]", false},
        {"\\ud83d\\n", false},
        {"\\ude00", false},
        {"\x1F", false},
        {"\xC3", false},
        {"\xC1\xBF", false},
        {"\xE4\xB8", false},
        {"\xE0\x9F\xBF", false},
        {"\xED\xA0\x80", false},
        {"\xF0\x8F\xBF\xBF", false},
        {"\xF4\x90\x80\x80", false},
        {"\x80", false},
        {"\xE4\xB8\x96\x80", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int before = 0; before < 36; before++) {
            for (int after = 0; after < 36; after += after < 18 ? 1 : 9) {
                struct buf b;
                buf_init(&b, 1 << 10);
                check_ok(buf_printf(
                    &b, "{\"%.*s%s%.*s\":\"%.*s%s%.*s\"}", before, "abcdefghijklmnopqrstuvwxyzabcdefghij", rows[i].text,
                    after, "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ", after, "abcdefghijklmnopqrstuvwxyzabcdefghij",
                    rows[i].text, before, "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ"));
                check_problem(buf_str(&b), rows[i].fine ? PEEK_FINE : PEEK_NOT_JSON, NULL);
                buf_finish(&b);
            }
        }
    }
}

TESTS(TEST(the_model_is_found_wherever_it_stands), TEST(escapes_before_and_in_the_model_do_not_shift_it),
      TEST(escapes_of_every_amount_keep_the_place), TEST(a_model_may_be_null_or_absent),
      TEST(a_model_has_1_to_255_bytes), TEST(the_length_of_a_model_counts_unescaped), TEST(stream_and_usage_are_read),
      TEST(the_bytes_of_stream_and_background_are_found), TEST(wrong_types_are_named),
      TEST(every_deciding_member_occurs_once), TEST(other_members_may_repeat),
      TEST(the_position_of_a_member_is_its_name), TEST(what_is_json_is_accepted), TEST(what_is_no_json_is_refused),
      TEST(bodies_that_are_no_json_are_refused), TEST(json_that_is_no_object_is_refused), TEST(every_prefix_is_refused),
      TEST(every_changed_byte_is_survived), TEST(messages_say_where), TEST(messages_never_quote_the_body),
      TEST(lines_are_counted_over_long_bodies), TEST(nesting_is_limited_exactly),
      TEST(many_brackets_side_by_side_are_not_deep), TEST(bombs_are_refused), TEST(a_million_digits_are_a_number),
      TEST(a_wide_object_is_read), TEST(a_dense_body_costs_no_more_than_another), TEST(bodies_of_every_size_are_read),
      TEST(no_body_needs_memory), TEST(text_is_checked_at_every_place))
