// SPDX-License-Identifier: MIT
#include "check.h"
#include "llm/usage.h"

static void feed_in(struct usage *u, struct str text, size_t step) {
    usage_init(u);
    for (struct str rest = text; rest.len; rest = str_skip(rest, step)) {
        usage_feed(u, str_first(rest, step));
    }
}

static const struct row {
    const char *text;
    uint64_t tokens;
    bool known;
} rows[] = {
    {"{\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}", 15, true},
    {"{\"usage\" : {\"input_tokens\":7,\"output_tokens\":3,\"details\":{\"x\":[1,2]}}}", 10, true},
    {"event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n"
     "event: message_delta\ndata: {\"usage\":{\"output_tokens\":15}}\n\n",
     40, true},
    {"data: {\"usage\":null}\n\ndata: {\"usage\":{\"total_tokens\":9}}\n\ndata: [DONE]\n\n", 9, true},
    {"{\"content\":\"he said \\\"usage\\\":{\\\"total_tokens\\\":99}\"}", 0, false},
    {"{\"usage\":{\"total_tokens\":-4}}", 0, false},
    {"{\"usage\":{\"total_tokens\":1e300}}", USAGE_MOST, true},
    {"{\"usage\":{\"total_tokens\":\"many\"}}", 0, false},
    {"{\"usage\":[1]}{\"usage\":3}\"usage\"\"usage\":{\"total_tokens\":2}", 2, true},
    {"{\"usage\":{\"s\":\"}\\\\\\\"}\",\"total_tokens\":8}}", 8, true},
    {"\"\"usage\":{\"total_tokens\":6}", 6, true},
    {"", 0, false},
};

static void usage_is_found_in_any_split(void **state UNUSED) {
    static struct usage u;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str text = str_c(rows[i].text);
        for (size_t step = 1; step <= text.len + 1; step++) {
            feed_in(&u, text, step);
            check_int(usage_tokens(&u), rows[i].tokens);
            check_int(u.known, rows[i].known);
        }
    }
}

static void object_over_the_limit_is_not_read(void **state UNUSED) {
    static struct usage u;
    static char text[2 * USAGE_OBJECT_MAX];
    for (int over = 0; over <= 1; over++) {
        // {"total_tokens":5 ... } of exactly the limit, and one byte more
        int blanks = USAGE_OBJECT_MAX - (int)strlen("{\"total_tokens\":5}") + over;
        snprintf(text, sizeof text, "{\"usage\":{\"total_tokens\":5%*s}}", blanks, "");
        feed_in(&u, str_c(text), 1000);
        check_int(usage_tokens(&u), over ? 0 : 5);
    }
}

TESTS(TEST(usage_is_found_in_any_split), TEST(object_over_the_limit_is_not_read))
