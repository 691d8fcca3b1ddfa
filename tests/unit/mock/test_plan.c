// SPDX-License-Identifier: MIT
#include "mock/plan.h"

#include "check.h"

static const struct mock_options options = {
    .times.latency = LATENCY_MS(700), .times.between = LATENCY_MS(30), .tokens = 4};

static const struct row {
    const char *model;
    struct {
        int status;
        uint64_t whole_ms, first_ms, token_ms;
        unsigned tokens;
        struct fault fault;
    } plan;
} names[] = {
#define PLAN(...)                                                                                                      \
    {                                                                                                                  \
        __VA_ARGS__, { FAULT_NONE, 0 }                                                                                 \
    }
#define DEFAULTS PLAN(200, 700, 700, 30, 4)
    // latency
    {"mock-5s", PLAN(200, 5000, 5000, 30, 4)},
    {"mock-250ms", PLAN(200, 250, 250, 30, 4)},
    {"mock-0s", PLAN(200, 0, 0, 30, 4)},
    {"mock-0", PLAN(200, 0, 0, 30, 4)},
    {"mock-1.5s", PLAN(200, 1500, 1500, 30, 4)},
    {"mock-2m", PLAN(200, 120000, 120000, 30, 4)},
    {"mock-720h", PLAN(200, 2592000000, 2592000000, 30, 4)},
    // tokens
    {"mock-100x20ms", PLAN(200, 2000, 0, 20, 100)},
    {"mock-1x1ms", PLAN(200, 1, 0, 1, 1)},
    {"mock-3x0", PLAN(200, 0, 0, 0, 3)},
    {"mock-1000000x1ms", PLAN(200, 1000000, 0, 1, 1000000)},
    // errors
    {"mock-err-429", {429, 0, 0, 30, 4, {FAULT_STATUS, 429}}},
    {"mock-err-400", {400, 0, 0, 30, 4, {FAULT_STATUS, 400}}},
    {"mock-err-599", {599, 0, 0, 30, 4, {FAULT_STATUS, 599}}},
    {"mock-429", {429, 0, 0, 30, 4, {FAULT_STATUS, 429}}},
    {"mock-cut-7", {200, 700, 700, 30, 4, {FAULT_CUT_AT, 7}}},
    {"mock-hang", {200, 700, 700, 30, 4, {FAULT_HANG, 0}}},
    // names that mean nothing here
    {"", DEFAULTS},
    {"mock", DEFAULTS},
    {"mock-", DEFAULTS},
    {"mock-5", DEFAULTS},
    {"mock-5 s", DEFAULTS},
    {"mock-s", DEFAULTS},
    {"mock-fast", DEFAULTS},
    {"mock-721h", DEFAULTS},
    {"mock-x", DEFAULTS},
    {"mock-x20ms", DEFAULTS},
    {"mock-0x20ms", DEFAULTS},
    {"mock-100x", DEFAULTS},
    {"mock-100x20", DEFAULTS},
    {"mock-1000001x1ms", DEFAULTS},
    {"mock-100x20msx", DEFAULTS},
    {"mock-tools", DEFAULTS},
    {"mock-err-", DEFAULTS},
    {"mock-err-200", DEFAULTS},
    {"mock-err-399", DEFAULTS},
    {"mock-err-600", DEFAULTS},
    {"mock-err-0429", DEFAULTS},
    {"mock-err-42", DEFAULTS},
    {"mock-err-4.9", DEFAULTS},
    {"mock-err-hang", DEFAULTS},
    {"mock-cut", DEFAULTS},
    {"mock-close-on-accept", DEFAULTS},
    {"Mock-5s", DEFAULTS},
    {"gpt-5s", DEFAULTS},
    {"xmock-5s", DEFAULTS},
#undef DEFAULTS
#undef PLAN
};

static uint64_t whole_ms(const struct plan *plan) { return plan_pace(plan, false, 10, 0).due_us / 1000; }

static uint64_t first_ms(const struct plan *plan) { return plan_pace(plan, true, 10, 0).due_us / 1000; }

static void check_plan(const struct row *row) {
    struct plan got = plan_make(&options, str_c(row->model));
    uint64_t token_ms = latency_draw_us(&got.times.between, 1, 1) / 1000;
    if (got.status != row->plan.status || whole_ms(&got) != row->plan.whole_ms ||
        first_ms(&got) != row->plan.first_ms || (got.status == 200 && token_ms != row->plan.token_ms) ||
        got.tokens != row->plan.tokens || got.fault.kind != row->plan.fault.kind || got.fault.n != row->plan.fault.n) {
        fail_msg("'%s': got %d, %llu ms, %llu ms, %u x %llu ms", row->model, got.status,
                 (unsigned long long)whole_ms(&got), (unsigned long long)first_ms(&got), got.tokens,
                 (unsigned long long)token_ms);
    }
}

static void names_override_the_options(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        check_plan(&names[i]);
    }
}

static void names_ask_for_distributions(void **state UNUSED) {
    static const char *const drawn[] = {"mock-lognormal-2s-9s", "mock-uniform-1s-3s", "mock-normal-5s-500ms"};
    for (size_t i = 0; i < ARRAY_LEN(drawn); i++) {
        struct plan plan = plan_make(&options, str_c(drawn[i]));
        check(plan_draws(&plan));
        plan.key = 1;
        uint64_t one = plan_pace(&plan, false, 10, 0).due_us;
        check(one == plan_pace(&plan, true, 10, 0).due_us);
        plan.key = 2;
        check(one != plan_pace(&plan, false, 10, 0).due_us);
    }
}

static void a_name_asks_for_a_tool(void **state UNUSED) {
    struct plan plan = plan_make(&options, STR("mock-tool"));
    check_str(plan.tool, "any");
    check_int(whole_ms(&plan), 700);
    check(!plan_make(&options, STR("mock-tools")).tool.ptr);
}

static void a_name_need_not_be_terminated(void **state UNUSED) {
    struct plan plan = plan_make(&options, str_from("mock-250ms", 9));
    check_int(whole_ms(&plan), 15000000); // 250m
}

static void every_example_is_understood(void **state UNUSED) {
    size_t i = 0;
    for (; plan_example(i); i++) {
        struct plan plan = plan_make(&options, str_c(plan_example(i)));
        check(plan.fault.kind != FAULT_NONE || plan.tool.ptr || plan_draws(&plan) || whole_ms(&plan) != 700);
    }
    check(i > 0);
}

// ---- times

static void an_answer_may_take_as_long_as_its_stream(void **state UNUSED) {
    struct mock_options by_token = {.times = {.first = LATENCY_MS(500), .between = LATENCY_MS(20), .has_first = true}};
    struct plan plan = plan_make(&by_token, STR("m"));
    check_int(whole_ms(&plan), 0); // the latency's, which is none
    by_token.times.as_stream = true;
    plan = plan_make(&by_token, STR("m"));
    check_int(whole_ms(&plan), 500 + 9 * 20);
    check_int(first_ms(&plan), 500);
    plan = plan_make(&by_token, STR("mock-5s"));
    check_int(whole_ms(&plan), 5000);
    check_int(first_ms(&plan), 5000);
}

static void a_prompt_and_a_pause_take_their_time(void **state UNUSED) {
    struct mock_options options_with = {.times.latency = LATENCY_MS(1000), .times.between = LATENCY_MS(10)};
    check(mock_parse_stall(STR("3s@2"), &options_with.times) == NULL);
    check(mock_parse_prefill(STR("0.5ms"), &options_with.times) == NULL);
    struct plan plan = plan_make(&options_with, STR("m"));
    check_int(plan_pace(&plan, false, 10, 100).due_us, 1050000);
    struct pace pace = plan_pace(&plan, true, 10, 100);
    check_int(pace_last_us(&pace, 10), 1050000 + 3000000 + 9 * 10000);
    check_int(pace_due_ms(&pace, 1), 1060);
    check_int(pace_due_ms(&pace, 2), 4070);
}

static const char *const bad_stalls[] = {"", "3s", "@", "3s@", "@20", "3s@0", "3@20", "3s@1000001", "721h@1", "3s@20x"};
static const char *const bad_prefills[] = {"", "1", "61s", "fast", "-1ms"};

static void what_is_no_stall_or_prefill_is_refused(void **state UNUSED) {
    struct mock_times times = {.stall_ms = 7, .prefill_us = 7};
    for (size_t i = 0; i < ARRAY_LEN(bad_stalls); i++) {
        check(mock_parse_stall(str_c(bad_stalls[i]), &times) != NULL);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad_prefills); i++) {
        check(mock_parse_prefill(str_c(bad_prefills[i]), &times) != NULL);
    }
    check(times.stall_ms == 7 && times.prefill_us == 7);
}

// ---- header fields

static const struct {
    const char *name, *value;
    uint64_t whole_ms, first_ms, last_ms; // of 10 tokens
} fields_rows[] = {
    {"X-Mock-Latency", "5s", 5000, 5000, 5270}, {"x-mock-first", "100ms", 700, 100, 370},
    {"x-mock-between", "50ms", 700, 700, 1150}, {"x-mock-stall", "3s@4", 700, 700, 3970},
    {"x-mock-prefill", "1ms", 705, 705, 975},   {"x-mock-tokens", "3", 700, 700, 970},
    {"x-request-id", "9s", 700, 700, 970},      {"x-mock-latency", "uniform:1s-1s", 1000, 1000, 1270},
};

static void fields_override_names_and_options(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(fields_rows); i++) {
        struct field room[2];
        struct fields fields = FIELDS(room);
        struct plan plan = plan_make(&options, STR("mock"));
        const char *wanted = NULL;
        check_ok(fields_add(&fields, str_c(fields_rows[i].name), str_c(fields_rows[i].value)));
        check(plan_take_fields(&plan, &fields, &wanted) == NULL);
        struct pace pace = plan_pace(&plan, true, 10, 5);
        check_int(plan_pace(&plan, false, 10, 5).due_us / 1000, fields_rows[i].whole_ms);
        check_int(pace.due_us / 1000, fields_rows[i].first_ms);
        check_int(pace_last_us(&pace, 10) / 1000, fields_rows[i].last_ms);
        check_int(plan.tokens, strcmp(fields_rows[i].name, "x-mock-tokens") == 0 ? 3 : 4);
    }
}

static const char *const bad_fields[][2] = {
    {"x-mock-latency", "5"}, {"x-mock-latency", "file:x"}, {"x-mock-first", ""},   {"x-mock-between", "fast"},
    {"x-mock-stall", "3s"},  {"x-mock-prefill", "2m"},     {"x-mock-tokens", "0"}, {"x-mock-tokens", "1000001"},
};

static void a_field_that_is_not_understood_is_told(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(bad_fields); i++) {
        struct field room[2];
        struct fields fields = FIELDS(room);
        struct plan plan = plan_make(&options, STR("mock"));
        const char *wanted = NULL;
        check_ok(fields_add(&fields, STR("accept"), STR("*/*")));
        check_ok(fields_add(&fields, str_c(bad_fields[i][0]), str_c(bad_fields[i][1])));
        check(plan_take_fields(&plan, &fields, &wanted) == &room[1]);
        check(wanted != NULL);
    }
}

TESTS(TEST(names_override_the_options), TEST(a_name_asks_for_a_tool), TEST(names_ask_for_distributions),
      TEST(a_name_need_not_be_terminated), TEST(every_example_is_understood),
      TEST(an_answer_may_take_as_long_as_its_stream), TEST(a_prompt_and_a_pause_take_their_time),
      TEST(what_is_no_stall_or_prefill_is_refused), TEST(fields_override_names_and_options),
      TEST(a_field_that_is_not_understood_is_told))
