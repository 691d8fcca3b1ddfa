// SPDX-License-Identifier: MIT
#include "llm/form.h"

#include "check.h"

#define CAP ((size_t)1 << 20)

// The pairs as "[name|value]" one after another.
static void check_pairs(struct str text, const char *wanted) {
    struct buf room;
    struct buf all;
    struct str name;
    struct str value;
    char *copy = malloc(text.len ? text.len : 1); // of the exact size: a read past it is seen
    if (text.len) {
        memcpy(copy, text.ptr, text.len);
    }
    buf_init(&room, text.len * 3);
    buf_init(&all, CAP);
    struct form form = form_of(str_from(copy, text.len));
    enum err e;
    while ((e = form_next(&form, &room, &name, &value)) == OK) {
        check_ok(buf_append(&all, "[", 1));
        check_ok(buf_str_append(&all, name));
        check_ok(buf_append(&all, "|", 1));
        check_ok(buf_str_append(&all, value));
        check_ok(buf_append(&all, "]", 1));
    }
    check_err(e, ERR_EOF);
    check_err(form_next(&form, &room, &name, &value), ERR_EOF);
    check_str(buf_str(&all), wanted);
    buf_finish(&room);
    buf_finish(&all);
    free(copy);
}

static void pairs_come_in_order(void **state UNUSED) {
    check_pairs((struct str){NULL, 0}, "");
    check_pairs(STR(""), "");
    check_pairs(STR("a=b"), "[a|b]");
    check_pairs(STR("a=b&c=d&a=e"), "[a|b][c|d][a|e]");
    check_pairs(STR("a"), "[a|]");
    check_pairs(STR("a="), "[a|]");
    check_pairs(STR("=b"), "[|b]");
    check_pairs(STR("="), "[|]");
    check_pairs(STR("a=b=c"), "[a|b=c]");
    check_pairs(STR("a==b"), "[a|=b]");
    check_pairs(STR("&&a=1&&&b=2&"), "[a|1][b|2]");
    check_pairs(STR("&"), "");
    check_pairs(STR("a;b=c"), "[a;b|c]");
    check_pairs(STR("?a=1#x"), "[?a|1#x]");
}

static void what_is_escaped_is_decoded(void **state UNUSED) {
    check_pairs(STR("prompt=Say+hello%2C+%22world%22%21%0D%0A"), "[prompt|Say hello, \"world\"!\r\n]");
    check_pairs(STR("%70r%6Fmpt=%2B%2b%26%3D%25"), "[prompt|++&=%]");
    check_pairs(STR("+=+"), "[ | ]");
    check_pairs(STR("a%3Db=c%26d"), "[a=b|c&d]");
    check_pairs(STR("%C3%A9=%E4%BD%A0%F0%9F%98%80"), "[\xC3\xA9|\xE4\xBD\xA0\xF0\x9F\x98\x80]");
    check_pairs(STR("\xC3%A9=%C3\xA9\xC3\xA9"), "[\xC3\xA9|\xC3\xA9\xC3\xA9]");
    check_pairs(STR("%EF%BB%BFa=1"), "[\xEF\xBB\xBF"
                                     "a|1]"); // "UTF-8 decode without BOM" keeps it
    struct buf room;
    struct str name;
    struct str value;
    struct form form = form_of(STR("a%00b=%00"));
    buf_init(&room, CAP);
    check_ok(form_next(&form, &room, &name, &value));
    check(str_eq(name, STR("a\0b")) && str_eq(value, STR("\0")));
    buf_finish(&room);
}

static void bad_escapes_stay_as_they_are(void **state UNUSED) {
    check_pairs(STR("a=100%"), "[a|100%]");
    check_pairs(STR("a=%"), "[a|%]");
    check_pairs(STR("a=%4"), "[a|%4]");
    check_pairs(STR("a=%4&b=%zz"), "[a|%4][b|%zz]");
    check_pairs(STR("a=%4z%41"), "[a|%4zA]");
    check_pairs(STR("a=%%41"), "[a|%A]");
    check_pairs(STR("a=%+41&%=%"), "[a|% 41][%|%]");
    check_pairs(STR("a=%4%31"), "[a|%41]"); // decoded once only
    check_pairs(STR("a=%2541"), "[a|%41]");
}

#define FFFD "\xEF\xBF\xBD"

static void what_is_no_utf8_is_replaced(void **state UNUSED) {
    check_pairs(STR("a=%FF"), "[a|" FFFD "]");
    check_pairs(STR("a=\xFF"), "[a|" FFFD "]");
    check_pairs(STR("a=%C3"), "[a|" FFFD "]");
    check_pairs(STR("%C3=%A9"), "[" FFFD "|" FFFD "]"); // halves do not meet over the '='
    check_pairs(STR("a=%E2%82x"), "[a|" FFFD "x]");
    check_pairs(STR("a=%E2%82%"), "[a|" FFFD "%]");
    check_pairs(STR("a=%C0%AF"), "[a|" FFFD FFFD "]");
    check_pairs(STR("a=%ED%A0%80+"), "[a|" FFFD FFFD FFFD " ]");
    check_pairs(STR("a=%F0%9F%98+%F0%9F%98%80"), "[a|" FFFD " \xF0\x9F\x98\x80]");
    check_pairs(STR("a=%61%80%C3\xA9%C3"), "[a|a" FFFD "\xC3\xA9" FFFD "]");
}

static void a_pair_that_does_not_fit_is_passed_over(void **state UNUSED) {
    struct buf room;
    struct str name;
    struct str value;
    struct form form = form_of(STR("abc=%64%65&x=%31&toolong=1&y"));
    buf_init(&room, 5);
    check_ok(form_next(&form, &room, &name, &value));
    check_str(name, "abc");
    check_str(value, "de");
    check_ok(form_next(&form, &room, &name, &value));
    check_str(value, "1");
    check_err(form_next(&form, &room, &name, &value), ERR_FULL);
    check_ok(form_next(&form, &room, &name, &value));
    check_str(name, "y");
    check_str(value, "");
    check_err(form_next(&form, &room, &name, &value), ERR_EOF);
    buf_finish(&room);
}

static void read_long(void *arg) {
    struct buf room;
    struct str name;
    struct str value;
    struct form form = form_of(*(struct str *)arg);
    buf_init(&room, CAP);
    enum err e = form_next(&form, &room, &name, &value);
    check_err(e, mem_fail_fired() ? ERR_NOMEM : OK);
    check(e != OK || value.len == 3 * 333);
    buf_finish(&room);
}

static void survives_every_failing_allocation(void **state UNUSED) {
    char text[1001];
    for (size_t i = 2; i < sizeof text; i++) {
        text[i] = "%FF"[(i - 2) % 3];
    }
    memcpy(text, "a=", 2);
    struct str s = str_from(text, sizeof text);
    check(every_allocation_fails(read_long, &s) >= 4);
}

TESTS(TEST(pairs_come_in_order), TEST(what_is_escaped_is_decoded), TEST(bad_escapes_stay_as_they_are),
      TEST(what_is_no_utf8_is_replaced), TEST(a_pair_that_does_not_fit_is_passed_over),
      TEST(survives_every_failing_allocation))
