// SPDX-License-Identifier: MIT
#include "llm/raw.h"

#include "check.h"

enum { NAMES = 3 };
static const struct str names[NAMES] = {STR_INIT("a"), STR_INIT("model"), STR_INIT("list")};

static void check_open(const char *text, const char *a, const char *model, const char *list) {
    struct str values[NAMES];
    const char *const wanted[NAMES] = {a, model, list};
    assert_true(raw_open(str_c(text), names, NAMES, values));
    for (size_t i = 0; i < NAMES; i++) {
        check_int(values[i].ptr != NULL, wanted[i] != NULL);
        check_str(values[i], wanted[i] ? wanted[i] : "");
    }
}

static void finds_the_first_of_each_name(void **state UNUSED) {
    check_open("{}", NULL, NULL, NULL);
    check_open(" {\"a\" : 1 , \"b\":2, \"a\":3}\n", "1", NULL, NULL);
    check_open("{\"list\":[1,{\"a\":2}],\"model\":\"m\\\"\"}", NULL, "\"m\\\"\"", "[1,{\"a\":2}]");
    check_open("{\"m\\u006fdel\":null,\"\\u0061\":{}}", "{}", "null", NULL);
}

static void opens_nothing_but_whole_objects(void **state UNUSED) {
    static const char *const texts[] = {
        "", " ", "[]", "\"a\"", "{", "{}x", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":01}", "{\"a\":\"\xff\"}"};
    struct str values[NAMES];
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_false(raw_open(str_c(texts[i]), names, NAMES, values));
    }
}

static struct str member(const char *text) {
    struct str value;
    assert_true(raw_open(str_c(text), names, 1, &value));
    return value;
}

static void knows_kinds_and_numbers(void **state UNUSED) {
    static const struct {
        const char *text;
        enum json_kind kind;
        bool is_number;
        double number;
    } rows[] = {
        {"{}", JSON_NONE, false, 0},
        {"{\"a\":null}", JSON_NULL, false, 0},
        {"{\"a\":false}", JSON_FALSE, false, 0},
        {"{\"a\":true}", JSON_TRUE, false, 0},
        {"{\"a\":\"1\"}", JSON_STRING, false, 0},
        {"{\"a\":[1]}", JSON_ARRAY, false, 0},
        {"{\"a\":{}}", JSON_OBJECT, false, 0},
        {"{\"a\":12}", JSON_NUMBER, true, 12},
        {"{\"a\":-0.5e1}", JSON_NUMBER, true, -5},
        {"{\"a\":18446744073709551616}", JSON_NUMBER, true, 18446744073709551616.0},
        {"{\"a\":1e999}", JSON_NUMBER, false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        double number = 0;
        struct str value = member(rows[i].text);
        check_int(raw_kind(value), rows[i].kind);
        check_int(raw_number(value, &number), rows[i].is_number);
        assert_true(number == rows[i].number);
    }
}

static void unescapes_strings(void **state UNUSED) {
    char room[4];
    struct buf b;
    buf_init(&b, 16);
    check_str(raw_string(member("{\"a\":\"plain, and longer\"}"), room, sizeof room), "plain, and longer");
    check_str(raw_string(member("{\"a\":\"x\\ny\"}"), room, sizeof room), "x\ny");
    assert_null(raw_string(member("{\"a\":\"12\\n45\"}"), room, sizeof room).ptr);
    assert_null(raw_string(member("{\"a\":1}"), room, sizeof room).ptr);
    assert_true(raw_says(member("{\"a\":\"t\\u006fol\"}"), STR("tool")));
    assert_false(raw_says(member("{\"a\":\"tools\"}"), STR("tool")));
    assert_false(raw_says(member("{}"), STR("")));
    check_ok(raw_append(&b, member("{\"a\":\"\\\\\\\"\"}")));
    check_ok(raw_append(&b, member("{\"a\":7}")));
    check_err(raw_append(&b, member("{\"a\":\"0123456789abcdef\"}")), ERR_FULL);
    check_str(buf_str(&b), "\\\"");
    buf_finish(&b);
}

static void steps_over_items(void **state UNUSED) {
    static const char *const wanted[] = {"1", "\"]\\\"\\\\\"", "[2,[3]]", "{\"a\" : \"}\"}", "{}", "true"};
    struct raw_each each = raw_each(member("{\"a\": [1 , \"]\\\"\\\\\",[2,[3]], {\"a\" : \"}\"},{},true ] }"));
    struct str values[NAMES];
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        assert_true(raw_more(&each) && raw_next_pick(&each, names, NAMES, values));
        check_str(each.value, wanted[i]);
        check_str(values[0], i == 3 ? "\"}\"" : "");
    }
    assert_false(raw_more(&each) || raw_next(&each));
    each = raw_each(member("{\"a\":{\"b\":1}}"));
    assert_false(raw_next(&each));
    each = raw_each(member("{}"));
    assert_false(raw_next(&each));
}

static void picks_members_of_what_was_checked(void **state UNUSED) {
    struct str object = member("{\"a\":{ \"\\u0078\" : [ ] ,\"y\":\"z\",\"x\":2}}");
    check_str(raw_member(object, STR("x")), "[ ]");
    check_str(raw_member(object, STR("y")), "\"z\"");
    assert_null(raw_member(object, STR("z")).ptr);
    assert_null(raw_member(raw_member(object, STR("y")), STR("z")).ptr);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_first_of_each_name),
        cmocka_unit_test(opens_nothing_but_whole_objects),
        cmocka_unit_test(knows_kinds_and_numbers),
        cmocka_unit_test(unescapes_strings),
        cmocka_unit_test(steps_over_items),
        cmocka_unit_test(picks_members_of_what_was_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
