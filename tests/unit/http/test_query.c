// SPDX-License-Identifier: MIT
#include "http/query.h"

#include "check.h"

static const struct {
    const char *target, *name;
    enum err e;
    const char *value;
} queries[] = {
    {"/a?user_id=7", "user_id", ERR_OK, "7"},
    {"/a?x=1&user_id=7&y=2", "user_id", ERR_OK, "7"},
    {"/a?user_id=7&user_id=8", "user_id", ERR_OK, "7"},
    {"/a?user_id=", "user_id", ERR_OK, ""},
    {"/a?user_id", "user_id", ERR_OK, ""},
    {"/a?user_id&x", "x", ERR_OK, ""},
    {"/a?a=b=c", "a", ERR_OK, "b=c"},
    {"/a?a=b?c", "a", ERR_OK, "b?c"},
    {"/a?&&a=1", "a", ERR_OK, "1"},
    {"/a?a=x+y%20z", "a", ERR_OK, "x y z"},
    {"/a?a=%41%c3%a9%00", "a", ERR_OK, "A\xc3\xa9"}, // and a NUL
    {"/a?%61=1", "a", ERR_OK, "1"},
    {"/a?a=%", "a", ERR_OK, "%"},
    {"/a?a=%4", "a", ERR_OK, "%4"},
    {"/a?a=%4g%41", "a", ERR_OK, "%4gA"},
    {"/a?a=0123456789", "a", ERR_OK, "0123456789"},
    {"/a?a=0123456789x", "a", ERR_FULL, NULL},
    {"/a?longer_than_the_room=1&a=2", "a", ERR_OK, "2"},
    {"/a?b=1", "a", ERR_EOF, NULL},
    {"/a?A=1", "a", ERR_EOF, NULL},
    {"/a?", "a", ERR_EOF, NULL},
    {"/a", "a", ERR_EOF, NULL},
    {"/a&a=1", "a", ERR_EOF, NULL},
    {"", "a", ERR_EOF, NULL},
};

static void values_are_found_and_decoded(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
        char room[10];
        struct str value = {NULL, 0};
        check_err(query_find(str_c(queries[i].target), str_c(queries[i].name), room, sizeof room, &value),
                  queries[i].e);
        if (queries[i].value) {
            size_t nul = i == 10;
            check_int(value.len, strlen(queries[i].value) + nul);
            check_str(str_first(value, value.len - nul), queries[i].value);
        }
    }
}

TESTS(TEST(values_are_found_and_decoded))
