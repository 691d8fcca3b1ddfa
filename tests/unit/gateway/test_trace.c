// SPDX-License-Identifier: MIT
#include "gateway/trace.h"

#include "check.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"
#define VALID "00-" TRACE "-" PARENT "-01"

static void only_what_the_standard_allows_is_valid(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } rows[] = {
        {VALID, true},
        {"00-" TRACE "-" PARENT "-00", true},
        {"00-" TRACE "-" PARENT "-ff", true},
        {"01-" TRACE "-" PARENT "-01", true},
        {"01-" TRACE "-" PARENT "-01-more", true},
        {"01-" TRACE "-" PARENT "-01more", false},
        {VALID "-more", false},
        {VALID "0", false},
        {"ff-" TRACE "-" PARENT "-01", false},
        {"0x-" TRACE "-" PARENT "-01", false},
        {"00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01", false},
        {"00-" TRACE "-00F067AA0BA902B7-01", false},
        {"00-00000000000000000000000000000000-" PARENT "-01", false},
        {"00-" TRACE "-0000000000000000-01", false},
        {"00-" TRACE "-" PARENT "-0g", false},
        {"00-" TRACE "-" PARENT "-", false},
        {"00_" TRACE "-" PARENT "-01", false},
        {"00-" TRACE "_" PARENT "-01", false},
        {"00-" TRACE "-" PARENT "_01", false},
        {" " VALID, false},
        {"", false},
        {"00", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (traceparent_valid(str_c(rows[i].text)) != rows[i].valid) {
            fail_msg("'%s' is taken for %s", rows[i].text, rows[i].valid ? "invalid" : "valid");
        }
    }
    for (size_t n = 0; n < strlen(VALID); n++) {
        check(!traceparent_valid(str_first(STR(VALID), n)));
    }
}

struct passed {
    struct field room[8];
    struct fields fields;
    struct trace trace;
};

static void pass(struct passed *p, bool trust, const char *parent, const char *second, const char *state) {
    p->fields = FIELDS(p->room);
    check_ok(fields_add(&p->fields, STR("Accept"), STR("*/*")));
    if (parent) {
        check_ok(fields_add(&p->fields, STR("TraceParent"), str_c(parent)));
    }
    if (second) {
        check_ok(fields_add(&p->fields, STR("traceparent"), str_c(second)));
    }
    if (state) {
        check_ok(fields_add(&p->fields, STR("tracestate"), str_c(state)));
    }
    trace_pass(&p->fields, trust, &p->trace);
    check_str(p->fields.v[0].value, "*/*");
}

static void a_trusted_trace_goes_on_unchanged(void **state) {
    (void)state;
    struct passed p;
    pass(&p, true, VALID, NULL, "a=1,b=2");
    check_int(p.fields.n, 3);
    check_str(fields_value(&p.fields, FIELD_TRACEPARENT), VALID);
    check_str(fields_value(&p.fields, FIELD_TRACESTATE), "a=1,b=2");
    assert_string_equal(p.trace.id, TRACE);
}

static void an_untrusted_one_becomes_a_new_one(void **state) {
    (void)state;
    struct passed p, q;
    pass(&p, false, VALID, NULL, "a=1");
    pass(&q, false, VALID, NULL, NULL);
    check_int(p.fields.n, 2);
    struct str parent = fields_value(&p.fields, FIELD_TRACEPARENT);
    check(traceparent_valid(parent));
    check_str(str_skip(parent, TRACEPARENT_LEN - 3), "-00");
    check_str(str_first(str_skip(parent, 3), TRACE_ID_LEN), p.trace.id);
    check(str_search(parent, STR(TRACE)) == parent.len && str_search(parent, STR(PARENT)) == parent.len);
    assert_string_not_equal(p.trace.id, q.trace.id);
}

static void what_is_invalid_is_ignored_whole(void **state) {
    (void)state;
    for (int trust = 0; trust <= 1; trust++) {
        struct passed p;
        pass(&p, trust, "00-zz", NULL, "a=1");
        check_int(p.fields.n, 1);
        pass(&p, trust, VALID, VALID, "a=1"); // two are none
        check_int(p.fields.n, 1);
        pass(&p, trust, NULL, NULL, "a=1"); // the one without the other
        check_int(p.fields.n, 1);
        assert_string_equal(p.trace.id, "");
    }
}

static void none_is_made(void **state) {
    (void)state;
    struct passed p;
    pass(&p, false, NULL, NULL, NULL);
    check_int(p.fields.n, 1);
    assert_string_equal(p.trace.id, "");
}

TESTS(TEST(only_what_the_standard_allows_is_valid), TEST(a_trusted_trace_goes_on_unchanged),
      TEST(an_untrusted_one_becomes_a_new_one), TEST(what_is_invalid_is_ignored_whole), TEST(none_is_made))
