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

TESTS(TEST(strings_are_quoted_and_escaped), TEST(utf8_is_left_alone),
      TEST(what_is_no_utf8_is_replaced_by_maximal_parts), TEST(random_bytes_become_json),
      TEST(a_full_buffer_is_left_as_it_was), TEST(writing_survives_every_failing_allocation), TEST(a_document_is_read),
      TEST(what_is_not_there_is_null_all_the_way), TEST(big_numbers_are_read_as_far_as_a_double_goes),
      TEST(values_are_found_by_any_name_and_written_again), TEST(a_canonical_form_is_the_same_for_the_same_json),
      TEST(what_is_no_json_does_not_open), TEST(the_cap_on_memory_holds),
      TEST(reading_survives_every_failing_allocation))
