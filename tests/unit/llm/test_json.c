// SPDX-License-Identifier: MIT
#include "llm/json.h"

#include "check.h"

#define CAP ((size_t)1 << 20)

static void check_written(struct str s, const char *wanted) {
    struct buf b;
    char *copy = malloc(s.len ? s.len : 1); // of the exact size: a read past it is seen
    if (s.len) {
        memcpy(copy, s.ptr, s.len);
    }
    buf_init(&b, CAP);
    check_ok(json_append_string(&b, str_from(copy, s.len)));
    check_str(buf_str(&b), wanted);
    buf_finish(&b);
    free(copy);
}

static void strings_are_quoted_and_escaped(void **state UNUSED) {
    check_written(STR(""), "\"\"");
    check_written((struct str){NULL, 0}, "\"\"");
    check_written(STR("plain text, 'quoted' /slashed/ \x7F"), "\"plain text, 'quoted' /slashed/ \x7F\"");
    check_written(STR("\"\\"), "\"\\\"\\\\\"");
    check_written(STR("a\b\f\n\r\tz"), "\"a\\b\\f\\n\\r\\tz\"");
    check_written(STR("\0\x01\x0B\x0E\x1F"), "\"\\u0000\\u0001\\u000b\\u000e\\u001f\"");
    check_written(STR("\n\n\nend"), "\"\\n\\n\\nend\"");
}

static void pieces_of_json_are_put(void **state UNUSED) {
    struct buf b;
    struct out o = {&b, OK};
    buf_init(&b, 40);
    put_json(&o, STR("a \"b\""));
    put_text(&o, "[\"");
    put_escaped(&o, STR("one\n"));
    put_escaped(&o, STR(""));
    put_escaped(&o, STR("\xC3\xA9\xFF"));
    put_text(&o, "\",");
    put_json_or_null(&o, NULL);
    put_json_or_null(&o, "");
    check_ok(o.e);
    check_str(buf_str(&b), "\"a \\\"b\\\"\"[\"one\\n\xC3\xA9\xEF\xBF\xBD\",null\"\"");
    put_escaped(&o, STR("longer than what there is room for"));
    check_err(o.e, ERR_FULL);
    size_t len = buf_len(&b);
    put_escaped(&o, STR("x"));
    put_json_or_null(&o, NULL);
    check_int(buf_len(&b), len);
    buf_finish(&b);
}

static void utf8_is_left_alone(void **state UNUSED) {
    static const char *const characters[] = {
        "\xC2\x80",     "\xDF\xBF",         "\xE0\xA0\x80",     "\xED\x9F\xBF",    "\xEE\x80\x80",
        "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "\xE2\x80\xA8",    "\xEF\xBB\xBF",
        "\xE4\xBD\xA0", "\xF0\x9F\x98\x80", "\xF1\x80\x80\x80", "\xF3\xBF\xBF\xBF"};
    for (size_t i = 0; i < ARRAY_LEN(characters); i++) {
        char text[16];
        char wanted[18];
        snprintf(text, sizeof text, "a%sz", characters[i]);
        snprintf(wanted, sizeof wanted, "\"%s\"", text);
        check_written(str_c(text), wanted);
    }
}

#define FFFD "\xEF\xBF\xBD"

static void what_is_no_utf8_is_replaced_by_maximal_parts(void **state UNUSED) {
    check_written(STR("\x80"), "\"" FFFD "\"");
    check_written(STR("\xFF\xFE"), "\"" FFFD FFFD "\"");
    check_written(STR("\xC3"), "\"" FFFD "\"");
    check_written(STR("\xC3z"), "\"" FFFD "z\"");
    check_written(STR("\xC0\xAF"), "\"" FFFD FFFD "\"");
    check_written(STR("\xE0\x80\xAF"), "\"" FFFD FFFD FFFD "\"");
    check_written(STR("\xED\xA0\x80"), "\"" FFFD FFFD FFFD "\""); // a surrogate
    check_written(STR("\xE2\x82"), "\"" FFFD "\"");
    check_written(STR("\xE2\x82\""), "\"" FFFD "\\\"\"");
    check_written(STR("\xF0\x9F\x98"), "\"" FFFD "\"");
    check_written(STR("\xF0\x9F\x98\xF0\x9F\x98\x80"), "\"" FFFD "\xF0\x9F\x98\x80\"");
    check_written(STR("\xF4\x90\x80\x80"), "\"" FFFD FFFD FFFD FFFD "\"");
    check_written(STR("a\xF0\x80\x80\x80z"), "\"a" FFFD FFFD FFFD FFFD "z\"");
    // Unicode 15, table 3-11
    check_written(STR("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "\"" FFFD FFFD FFFD FFFD "A\"");
}

// Any bytes at all: what is written is JSON, and reads back as what went in where that was UTF-8.
static void random_bytes_become_json(void **state UNUSED) {
    static const char alphabet[] = "ab\"\\\n\x01\x80\xBF\xC3\xE2\xED\xA0\xF0\x9F\xF4\x8F\xFF\x7F";
    srand(5);
    for (int round = 0; round < 20000; round++) {
        char bytes[24];
        size_t len = (size_t)rand() % sizeof bytes;
        for (size_t i = 0; i < len; i++) {
            bytes[i] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
        }
        struct buf b;
        struct buf again;
        buf_init(&b, CAP);
        buf_init(&again, CAP);
        check_ok(json_append_string(&b, str_from(bytes, len)));
        struct json *json = json_open(buf_str(&b), CAP);
        check(json != NULL);
        check_ok(json_append_string(&again, json_string(json_root(json))));
        check(str_eq(buf_str(&b), buf_str(&again))); // mended once, mended for good
        json_close(json);
        buf_finish(&b);
        buf_finish(&again);
    }
}

static void a_full_buffer_is_left_as_it_was(void **state UNUSED) {
    struct str text = STR("ab\"c\n\xFF");          // 6 bytes
    const char *wanted = "\"ab\\\"c\\n" FFFD "\""; // 12 bytes
    for (size_t cap = 0; cap < 20; cap++) {
        struct buf b;
        buf_init(&b, cap + 2);
        check_ok(buf_append(&b, "xyz", 2));
        buf_consume(&b, 1);
        enum err e = json_append_string(&b, text);
        check_err(e, cap + 1 >= strlen(wanted) ? OK : ERR_FULL);
        check_str(str_first(buf_str(&b), 1), "y");
        check_str(str_skip(buf_str(&b), 1), e == OK ? wanted : "");
        buf_finish(&b);
    }
}

static void append_many(void *arg UNUSED) {
    struct buf b;
    buf_init(&b, CAP);
    for (int i = 0; i < 50; i++) {
        size_t before = buf_len(&b);
        enum err e = json_append_string(&b, STR("\x01\x02\x03\x04\x05\x06\x07\x0E text \"quoted\""));
        check(e == OK || e == ERR_NOMEM);
        check(e == OK || buf_len(&b) == before);
    }
    buf_finish(&b);
}

static void writing_survives_every_failing_allocation(void **state UNUSED) {
    check(every_allocation_fails(append_many, NULL) > 3);
}

// --- reading ---

static void a_document_is_read(void **state UNUSED) {
    struct json *json =
        json_open(STR("{\"a\":[1,-2,0.5,\"x\\u0041\",true,false,null,{}],\"b\":{\"c\":\"d\"},\"\":7}"), CAP);
    check(json != NULL);
    const struct json_value *root = json_root(json);
    const struct json_value *a = json_member(root, "a");
    double n = 0;
    check(json_is_object(root) && !json_is_array(root) && !json_is_string(root));
    check_int(json_length(root), 3);
    check(json_is_array(a));
    check_int(json_length(a), 8);
    check(json_number(json_item(a, 0), &n) && n == 1);
    check(json_number(json_item(a, 1), &n) && n == -2);
    check(json_number(json_item(a, 2), &n) && n == 0.5);
    check_str(json_string(json_item(a, 3)), "xA");
    check(json_is_string(json_item(a, 3)));
    check(json_true(json_item(a, 4)));
    check(!json_true(json_item(a, 5)));
    check(!json_true(json_item(a, 6)));
    check(json_is_object(json_item(a, 7)) && json_length(json_item(a, 7)) == 0);
    check(json_item(a, 8) == NULL);
    check_str(json_string(json_member(json_member(root, "b"), "c")), "d");
    check(json_number(json_member(root, ""), &n) && n == 7);
    json_close(json);
}

static void what_is_not_there_is_null_all_the_way(void **state UNUSED) {
    struct json *json = json_open(STR("{\"a\":1}"), CAP);
    const struct json_value *none = json_member(json_root(json), "b");
    double n = 5;
    check(none == NULL);
    check(json_member(none, "x") == NULL);
    check(json_item(none, 0) == NULL);
    check(json_item(json_root(json), 0) == NULL);
    check(json_member(json_member(json_root(json), "a"), "x") == NULL);
    check_int(json_length(none), 0);
    check_int(json_length(json_member(json_root(json), "a")), 0);
    check(!json_is_object(none) && !json_is_array(none) && !json_is_string(none) && !json_true(none));
    check(json_string(none).ptr == NULL);
    check(json_string(json_member(json_root(json), "a")).ptr == NULL);
    check(!json_number(none, &n) && !json_number(json_root(json), &n) && n == 5);
    json_close(json);
    json_close(NULL);
    check(json_root(NULL) == NULL);
}

static void big_numbers_are_read_as_far_as_a_double_goes(void **state UNUSED) {
    struct json *json =
        json_open(STR("[123456789012345678901234567890,1e308,1e999,-1e999,18446744073709551615,1e-999]"), CAP);
    double n = 0;
    check(json_number(json_item(json_root(json), 0), &n) && n == 123456789012345678901234567890.0);
    check(json_number(json_item(json_root(json), 1), &n) && n == 1e308);
    check(!json_number(json_item(json_root(json), 2), &n));
    check(!json_number(json_item(json_root(json), 3), &n));
    check(json_number(json_item(json_root(json), 4), &n) && n == 18446744073709551615.0);
    check(json_number(json_item(json_root(json), 5), &n) && n == 0);
    json_close(json);
}

static void what_is_no_json_does_not_open(void **state UNUSED) {
    static const char *const texts[] = {"",        " ", "{", "{\"a\":1,}", "[1] x", "// c\n1", "NaN", "\xEF\xBB\xBF{}",
                                        "\"\xFF\""};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        check(json_open(str_c(texts[i]), CAP) == NULL);
    }
    check(json_open((struct str){NULL, 0}, CAP) == NULL);
}

static void the_cap_on_memory_holds(void **state UNUSED) {
    struct buf b;
    buf_init(&b, CAP);
    check_ok(buf_append(&b, "[0", 2));
    for (int i = 0; i < 10000; i++) {
        check_ok(buf_append(&b, ",1", 2));
    }
    check_ok(buf_append(&b, "]", 1));
    check(json_open(buf_str(&b), 0) == NULL);
    check(json_open(buf_str(&b), 20000) == NULL);
    check(json_open(buf_str(&b), 100000) == NULL);
    struct json *json = json_open(buf_str(&b), 300000);
    check(json != NULL);
    check_int(json_length(json_root(json)), 10001);
    json_close(json);
    buf_finish(&b);
}

static void values_are_found_by_any_name_and_written_again(void **state UNUSED) {
    static const char text[] =
        "{\"a\\u0000b\":[1,-2.5,\"x\\n\",null,{\"c\":true}],\"n\":123456789012345678901234567890}";
    struct json *json = json_open(str_c(text), CAP);
    struct buf b;
    buf_init(&b, 200);
    check(json_is_array(json_find(json_root(json), STR("a\0b"))));
    check(json_find(json_root(json), STR("a")) == NULL);
    check(json_find(NULL, STR("a")) == NULL);
    check_ok(json_append_value(&b, json_root(json)));
    check_str(buf_str(&b), text);
    check_err(json_append_value(&b, NULL), ERR_INVALID);
    check_int(json_append_value(&b, json_root(json)) == OK && json_append_value(&b, json_root(json)) == OK, 0);
    check(buf_len(&b) >= strlen(text));
    buf_finish(&b);
    json_close(json);
}

static const struct {
    const char *text;
    const char *canonical;
} canonicals[] = {
    {"{ \"b\" : [ 1 , {\"y\":null,\"x\":true} ] ,\n\"a\":\"\\u00e9\" }",
     "{\"a\":\"\xC3\xA9\",\"b\":[1,{\"x\":true,\"y\":null}]}"},
    {"[]", "[]"},
    {" {} ", "{}"},
    {"{\"ab\":1,\"a\":2,\"\":3,\"a\\u0000\":4}", "{\"\":3,\"a\":2,\"a\\u0000\":4,\"ab\":1}"},
    {"1.50", "1.5"},
    {"\"x\"", "\"x\""},
};

static void a_canonical_form_is_the_same_for_the_same_json(void **state UNUSED) {
    struct buf b;
    buf_init(&b, CAP);
    for (size_t i = 0; i < ARRAY_LEN(canonicals); i++) {
        struct json *json = json_open(str_c(canonicals[i].text), CAP);
        buf_clear(&b);
        check_ok(json_append_canonical(&b, json_root(json)));
        check_str(buf_str(&b), canonicals[i].canonical);
        json_close(json);
    }
    for (int depth = JSON_CANONICAL_DEPTH; depth <= JSON_CANONICAL_DEPTH + 1; depth++) {
        buf_clear(&b);
        for (int i = 0; i < 2 * depth; i++) {
            check_ok(buf_append(&b, i < depth ? "[" : "]", 1));
        }
        struct json *json = json_open(buf_str(&b), CAP);
        buf_clear(&b);
        check_err(json_append_canonical(&b, json_root(json)), depth > JSON_CANONICAL_DEPTH ? ERR_INVALID : OK);
        json_close(json);
    }
    buf_finish(&b);
}

static void open_and_close(void *arg UNUSED) {
    struct json *json =
        json_open(STR("{\"a\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27]}"), CAP);
    check_int(json == NULL, mem_fail_fired());
    json_close(json);
}

static void reading_survives_every_failing_allocation(void **state UNUSED) {
    check(every_allocation_fails(open_and_close, NULL) >= 4);
}

static void kinds_are_told_apart(void **state UNUSED) {
    struct json *json = json_open(STR("[null,false,true,1,-1.5,1e999,18446744073709551616,\"\",[],{}]"), CAP);
    static const enum json_kind kinds[] = {JSON_NULL,   JSON_FALSE,  JSON_TRUE,   JSON_NUMBER, JSON_NUMBER,
                                           JSON_NUMBER, JSON_NUMBER, JSON_STRING, JSON_ARRAY,  JSON_OBJECT};
    size_t i = 0;
    for (struct json_each each = json_each(json_root(json)); json_next(&each); i++) {
        check_int(json_kind(each.value), kinds[i]);
    }
    check_int(i, ARRAY_LEN(kinds));
    check_int(json_kind(NULL), JSON_NONE);
    json_close(json);
}

static void whole_numbers_are_read_as_such(void **state UNUSED) {
    static const char *const others[] = {"-1",   "-0", "1.0", "1e3", "18446744073709551616", "1e999", "\"1\"",
                                         "true", "[]", "{}",  "null"};
    struct json *json = json_open(STR("[0,7,9007199254740993,18446744073709551615]"), CAP);
    static const uint64_t wanted[] = {0, 7, 9007199254740993, UINT64_MAX};
    uint64_t n = 5;
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        check(json_u64(json_item(json_root(json), i), &n) && n == wanted[i]);
    }
    json_close(json);
    n = 5;
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        json = json_open(str_c(others[i]), CAP);
        check(json && !json_u64(json_root(json), &n));
        json_close(json);
    }
    check(!json_u64(NULL, &n));
    check_int(n, 5);
}

// --- stepping ---

// Every name and value below v, in order, as a line each.
static void list(struct json *json, const struct json_value *v, struct buf *out) {
    for (struct json_each each = json_each(v); json_next(&each);) {
        struct str raw = json_raw(json, each.value);
        check(raw.ptr != NULL);
        check((each.name.ptr != NULL) == json_is_object(v));
        check_ok(buf_printf(out, "%.*s=%.*s;", STR_ARG(each.name), STR_ARG(raw)));
        list(json, each.value, out);
    }
}

static void check_listed(const char *text, const char *wanted) {
    struct buf out;
    struct json *json = json_open(str_c(text), CAP);
    check(json != NULL);
    buf_init(&out, CAP);
    list(json, json_root(json), &out);
    check_str(buf_str(&out), wanted);
    buf_finish(&out);
    json_close(json);
}

static void members_and_items_come_in_order(void **state UNUSED) {
    check_listed("{}", "");
    check_listed("[]", "");
    check_listed("7", "");
    check_listed("\"x\"", "");
    check_listed("[1]", "=1;");
    check_listed("{\"a\":1,\"b\":2,\"a\":3}", "a=1;b=2;a=3;");
    check_listed("{\"a\":{},\"\":[],\"b\":[{}]}", "a={};=[];b=[{}];={};");
    check_listed("[[1,[2,3]],{\"x\":[4]},5]", "=[1,[2,3]];=1;=[2,3];=2;=3;={\"x\":[4]};x=[4];=4;=5;");
    struct json_each none = json_each(NULL);
    check(!json_next(&none) && !json_next(&none));
}

static void raw_bytes_are_as_they_were_written(void **state UNUSED) {
    check_listed(
        " { \"body\" : { \"n\" : 1.0 , \"x\":1e400,\"y\":12345678901234567890123 } ,\n\"z\" :\t[ 1E-0 , -0.0 ] } ",
        "body={ \"n\" : 1.0 , \"x\":1e400,\"y\":12345678901234567890123 };n=1.0;x=1e400;"
        "y=12345678901234567890123;z=[ 1E-0 , -0.0 ];=1E-0;=-0.0;");
    check_listed("{\"\\u0061\":\"\\u0061\\\"]\\\\\",\"\\\\\":\"}{\"}", "a=\"\\u0061\\\"]\\\\\";\\=\"}{\";");
    check_listed("[true,false,null,\"\",\"\\\"\"]", "=true;=false;=null;=\"\";=\"\\\"\";");
    static const char *const whole[] = {" 12 ", "\n[ ]\n", "{}", "\"a\\n\" ", "true", "-1.5e+3", " null"};
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) { // the root has no blanks around it
        struct json *json = json_open(str_c(whole[i]), CAP);
        struct str raw = json_raw(json, json_root(json));
        size_t from = strspn(whole[i], " \n");
        check(raw.ptr == whole[i] + from);
        check_int(strspn(raw.ptr + raw.len, " \n"), strlen(raw.ptr + raw.len));
        check(raw.len > 0 && raw.ptr[raw.len - 1] != ' ' && raw.ptr[raw.len - 1] != '\n');
        check(json_raw(json, NULL).ptr == NULL);
        json_close(json);
    }
}

static void steps_may_go_back_and_forth(void **state UNUSED) {
    struct str text = STR("{\"calls\":[{\"body\":{\"a\":1},\"id\":\"x\"},{\"body\":[2],\"id\":\"y\"}]}");
    struct json *json = json_open(text, CAP);
    const struct json_value *calls = json_member(json_root(json), "calls");
    for (size_t i = 2; i-- > 0;) {
        const struct json_value *call = json_item(calls, i);
        check_str(json_raw(json, json_member(call, "id")), i ? "\"y\"" : "\"x\"");
        check_str(json_raw(json, json_member(call, "body")), i ? "[2]" : "{\"a\":1}");
    }
    json_close(json);
}

static void members_that_decide_are_picked_once(void **state UNUSED) {
    static const char *const names[] = {"id", "path", "body"};
    static const struct {
        const char *text;
        const char *twice;
    } rows[] = {
        {"{\"id\":1,\"path\":2,\"body\":3}", NULL},
        {"{\"x\":1,\"x\":2,\"body\":3}", NULL},
        {"{}", NULL},
        {"[1,2]", NULL},
        {"7", NULL},
        {"{\"id\":{\"id\":1},\"x\":{\"id\":1}}", NULL},
        {"{\"id\":1,\"id\":2}", "id"},
        {"{\"id\":1,\"path\":2,\"p\\u0061th\":null}", "path"},
        {"{\"body\":null,\"body\":null}", "body"},
        {"{\"body\\u0000\":null,\"body\":null}", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct json_value *values[3];
        struct json *json = json_open(str_c(rows[i].text), CAP);
        const char *twice = json_pick(json_root(json), names, 3, values);
        check((twice != NULL) == (rows[i].twice != NULL));
        check(!twice || strcmp(twice, rows[i].twice) == 0);
        for (size_t n = 0; n < 3 && !twice; n++) {
            check(values[n] == json_member(json_root(json), names[n]));
        }
        json_close(json);
    }
}

static void a_wide_document_is_indexed_once(void **state UNUSED) {
    enum { MANY = 100000 };
    struct buf b;
    buf_init(&b, 64 << 20);
    check_ok(buf_append(&b, "[", 1));
    for (int i = 0; i < MANY; i++) {
        check_ok(buf_printf(&b, "%s{\"n\":%d.0,\"id\":\"\\u0041%d\"}", i ? "," : "", i, i));
    }
    check_ok(buf_append(&b, "]", 1));
    struct json *json = json_open(buf_str(&b), 256 << 20);
    check(json != NULL);
    int i = 0;
    for (struct json_each each = json_each(json_root(json)); json_next(&each); i++) {
        char id[32];
        char n[32];
        snprintf(id, sizeof id, "\"\\u0041%d\"", i);
        snprintf(n, sizeof n, "%d.0", i);
        check_str(json_raw(json, json_member(each.value, "id")), id);
        check_str(json_raw(json, json_member(each.value, "n")), n);
    }
    check_int(i, MANY);
    json_close(json);
    buf_finish(&b);
}

static void numbers_are_written_as_short_as_they_read_back(void **state UNUSED) {
    static const struct {
        double n;
        const char *wanted;
    } rows[] = {{0, "0"},
                {1, "1"},
                {-1.5, "-1.5"},
                {0.7, "0.7"},
                {0.1, "0.1"},
                {1e300, "1e+300"},
                {1.0 / 3, "0.3333333333333333"},
                {0.1 + 0.2, "0.30000000000000004"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b;
        buf_init(&b, CAP);
        check_ok(json_append_number(&b, rows[i].n));
        check_str(buf_str(&b), rows[i].wanted);
        buf_finish(&b);
    }
    struct buf b;
    buf_init(&b, 2);
    check_err(json_append_number(&b, strtod("inf", NULL)), ERR_INVALID);
    check_err(json_append_number(&b, strtod("nan", NULL)), ERR_INVALID);
    check_err(json_append_number(&b, 0.5), ERR_FULL);
    check_int(buf_len(&b), 0);
    buf_finish(&b);
}

static void open_and_index(void *arg UNUSED) {
    struct json *json = json_open(STR("{\"a\":[1,2,3,{\"b\":1.0}]}"), CAP);
    struct str raw = json_raw(json, json_member(json_root(json), "a"));
    check_int(raw.ptr == NULL, mem_fail_fired());
    if (raw.ptr) {
        check_str(raw, "[1,2,3,{\"b\":1.0}]");
    }
    json_close(json);
}

static void raw_bytes_survive_every_failing_allocation(void **state UNUSED) {
    check(every_allocation_fails(open_and_index, NULL) >= 2);
}

TESTS(TEST(strings_are_quoted_and_escaped), TEST(pieces_of_json_are_put), TEST(utf8_is_left_alone),
      TEST(what_is_no_utf8_is_replaced_by_maximal_parts), TEST(random_bytes_become_json),
      TEST(a_full_buffer_is_left_as_it_was), TEST(writing_survives_every_failing_allocation), TEST(a_document_is_read),
      TEST(what_is_not_there_is_null_all_the_way), TEST(big_numbers_are_read_as_far_as_a_double_goes),
      TEST(values_are_found_by_any_name_and_written_again), TEST(a_canonical_form_is_the_same_for_the_same_json),
      TEST(what_is_no_json_does_not_open), TEST(the_cap_on_memory_holds),
      TEST(reading_survives_every_failing_allocation), TEST(kinds_are_told_apart), TEST(whole_numbers_are_read_as_such),
      TEST(members_and_items_come_in_order), TEST(raw_bytes_are_as_they_were_written),
      TEST(steps_may_go_back_and_forth), TEST(members_that_decide_are_picked_once),
      TEST(a_wide_document_is_indexed_once), TEST(numbers_are_written_as_short_as_they_read_back),
      TEST(raw_bytes_survive_every_failing_allocation))
