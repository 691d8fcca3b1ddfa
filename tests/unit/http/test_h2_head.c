// SPDX-License-Identifier: MIT
#include "http/h2_head.h"

#include "base/mem.h"
#include "check.h"

static const struct http_limits limits = {.head_bytes = 2000, .fields = 12, .target_bytes = 100};

// "name: value\n" lines; returns whether all were taken.
static bool add(struct h2_block *b, const char *lines) {
    struct str rest = str_c(lines);
    struct str line;
    bool goes_on = true;
    while (str_split(&rest, '\n', &line)) {
        size_t colon = 1 + str_find(str_skip(line, 1), ':');
        goes_on = h2_block_add(b, str_first(line, colon), str_skip(line, colon + 2)) && goes_on;
    }
    return goes_on;
}

#define REQUEST ":method: POST\n:scheme: https\n:authority: api.example\n:path: /v1/x?y\n"

static void a_request_is_read(void **state) {
    struct h2_block *b = h2_block_create(&limits, true);
    struct head *h;
    const char *problem;
    (void)state;
    for (int turn = 0; turn < 2; turn++) { // a block is used again
        check(add(b, REQUEST "content-type:  application/json \ncontent-length: 12\nx_under: gone"));
        check_ok(h2_block_finish(b, false, &h, &problem));
        check_int(h->method, METHOD_POST);
        check_str(h->authority, "api.example");
        check_str(h->target, "/v1/x?y");
        check_int(h->body_len, 12);
        check_int(h->fields.n, 2); // no name with an underscore
        check_str(fields_value(&h->fields, FIELD_CONTENT_TYPE), "application/json");
        h2_block_reset(b);
    }
    check(add(b, ":method: GET\n:scheme: http\n:path: /\nhost: a:80"));
    check_ok(h2_block_finish(b, true, &h, &problem));
    check_str(h->authority, "a:80");
    check_int(h->body_len, 0);
    h2_block_reset(b);
    check(add(b, REQUEST "expect: 100-continue"));
    check_ok(h2_block_finish(b, false, &h, &problem));
    check_int(h->body_len, BODY_UNKNOWN);
    check(h->expect_continue);
    h2_block_destroy(b);
}

static void crumbs_of_cookies_are_joined(void **state) {
    struct h2_block *b = h2_block_create(&limits, true);
    struct head *h;
    const char *problem;
    (void)state;
    check(add(b, REQUEST "a: 1\ncookie: x=1\nb: 2\ncookie: y=2\ncookie: z=3"));
    check_ok(h2_block_finish(b, true, &h, &problem));
    check_int(h->fields.n, 3);
    check_str(h->fields.v[1].value, "x=1; y=2; z=3");
    check_str(h->fields.v[2].value, "2");
    struct head *kept = h2_head_keep(h);
    h2_block_destroy(b);
    check_str(kept->target, "/v1/x?y");
    check_str(kept->fields.v[1].name, "cookie");
    check_str(kept->fields.v[1].value, "x=1; y=2; z=3");
    check_int(kept->fields.v[1].id, FIELD_COOKIE);
    free(kept);
}

static void requests_that_must_not_be_passed_on_are_refused(void **state) {
    static const struct {
        const char *lines;
        enum err e;
    } rows[] = {
        {REQUEST "host: other.example", ERR_INVALID},
        {REQUEST "host: api.example\nhost: api.example", ERR_INVALID},
        {":method: GET\n:scheme: http\n:path: /", ERR_INVALID}, // nobody's
        {":method: GET\n:scheme: http\n:authority: a b\n:path: /", ERR_INVALID},
        {":method: GET\n:scheme: http\n:authority: u@a\n:path: /", ERR_INVALID},
        {":method: GET\n:scheme: http\n:authority: a\n:path: x", ERR_INVALID},
        {":method: GET\n:scheme: http\n:authority: a\n:path: /a b", ERR_INVALID},
        {":method: GET\n:scheme: http\n:authority: a\n:path: /#f", ERR_INVALID},
        {":method: GET\n:scheme: http\n:authority: a\n:path: *", ERR_INVALID},
        {":method: CONNECT\n:authority: a", ERR_METHOD},
        {REQUEST "content-length: 1\ncontent-length: 1", ERR_FRAMING},
        {REQUEST "content-length: +1", ERR_FRAMING},
        {REQUEST "expect: tea", ERR_EXPECT},
        {REQUEST "a: 1\na: 2\na: 3\na: 4\na: 5\na: 6\na: 7\na: 8\na: 9", ERR_HEAD_FULL},
    };
    struct h2_block *b = h2_block_create(&limits, true);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct head *h;
        const char *problem = NULL;
        check(add(b, rows[i].lines));
        check_int(h2_block_finish(b, false, &h, &problem), rows[i].e);
        check(problem && strlen(problem) > 10);
        h2_block_reset(b);
    }
    h2_block_destroy(b);
}

static void more_than_a_head_may_have_is_counted(void **state) {
    struct h2_block *b = h2_block_create(&limits, true);
    struct head *h;
    const char *problem;
    unsigned n = 0;
    (void)state;
    check(add(b, REQUEST));
    while (h2_block_add(b, STR("c"), STR(""))) { // a reference of one byte each
        n++;
        check(n < 100);
    }
    check_int(h2_block_finish(b, true, &h, &problem), ERR_HEAD_FULL);
    h2_block_reset(b);
    char long_target[200];
    memset(long_target, 'x', sizeof long_target);
    long_target[0] = '/';
    check(add(b, ":method: GET\n:authority: a"));
    check(h2_block_add(b, STR(":path"), str_from(long_target, sizeof long_target)));
    check_int(h2_block_finish(b, true, &h, &problem), ERR_TARGET_LONG);
    h2_block_destroy(b);
}

static void an_answer_is_read_or_refused(void **state) {
    static const struct {
        const char *lines;
        enum err e;
        int status;
        int64_t body_len;
    } rows[] = {
        {":status: 200\ncontent-length: 7", OK, 200, 7},
        {":status: 200", OK, 200, BODY_UNKNOWN},
        {":status: 103\nlink: x", OK, 103, 0},
        {":status: 204", OK, 204, 0},
        {":status: 304\ncontent-length: 9", OK, 304, 9},
        {":status: 101", ERR_PROTOCOL, 0, 0},
        {":status: 99", ERR_PROTOCOL, 0, 0},
        {":status: 600", ERR_PROTOCOL, 0, 0},
        {":status: 2xx", ERR_PROTOCOL, 0, 0},
        {"server: x", ERR_PROTOCOL, 0, 0},
        {":status: 200\ncontent-length: x", ERR_PROTOCOL, 0, 0},
    };
    struct h2_block *b = h2_block_create(&limits, false);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct head *h;
        const char *problem;
        check(add(b, rows[i].lines));
        check_int(h2_block_finish(b, false, &h, &problem), rows[i].e);
        if (rows[i].e == OK) {
            check_int(h->status, rows[i].status);
            check_int(h->body_len, rows[i].body_len);
        }
        h2_block_reset(b);
    }
    h2_block_destroy(b);
}

static void keep_without_memory(void *arg) {
    struct h2_block *b = h2_block_create(&limits, true);
    struct head *h;
    const char *problem;
    (void)arg;
    if (b) {
        check(add(b, REQUEST));
        check_ok(h2_block_finish(b, true, &h, &problem));
        free(h2_head_keep(h));
    }
    h2_block_destroy(b);
}

static void without_memory_there_is_none(void **state) {
    (void)state;
    check_int(every_allocation_fails(keep_without_memory, NULL), 4);
}

TESTS(TEST(a_request_is_read), TEST(crumbs_of_cookies_are_joined),
      TEST(requests_that_must_not_be_passed_on_are_refused), TEST(more_than_a_head_may_have_is_counted),
      TEST(an_answer_is_read_or_refused), TEST(without_memory_there_is_none))
