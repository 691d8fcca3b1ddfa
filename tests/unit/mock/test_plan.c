// SPDX-License-Identifier: MIT
#include "mock/plan.h"

#include "check.h"

static const struct mock_options options = {.latency_ms = 700, .token_ms = 30, .tokens = 4};

static const struct {
    const char *model;
    struct plan plan;
} names[] = {
#define PLAN(...)                                                                                                      \
    {                                                                                                                  \
        __VA_ARGS__, {FAULT_NONE, 0}, { NULL, 0 }                                                                      \
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
    {"mock-err-429", {429, 0, 0, 30, 4, {FAULT_STATUS, 429}, {NULL, 0}}},
    {"mock-err-400", {400, 0, 0, 30, 4, {FAULT_STATUS, 400}, {NULL, 0}}},
    {"mock-err-599", {599, 0, 0, 30, 4, {FAULT_STATUS, 599}, {NULL, 0}}},
    {"mock-429", {429, 0, 0, 30, 4, {FAULT_STATUS, 429}, {NULL, 0}}},
    {"mock-cut-7", {200, 700, 700, 30, 4, {FAULT_CUT_AT, 7}, {NULL, 0}}},
    {"mock-hang", {200, 700, 700, 30, 4, {FAULT_HANG, 0}, {NULL, 0}}},
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

static void check_plan(const char *model, const struct plan *got, const struct plan *wanted) {
    if (got->status != wanted->status || got->whole_ms != wanted->whole_ms || got->first_ms != wanted->first_ms ||
        got->token_ms != wanted->token_ms || got->tokens != wanted->tokens || got->fault.kind != wanted->fault.kind ||
        got->fault.n != wanted->fault.n) {
        fail_msg("'%s': got %d, %llu ms, %llu ms, %u x %llu ms", model, got->status, (unsigned long long)got->whole_ms,
                 (unsigned long long)got->first_ms, got->tokens, (unsigned long long)got->token_ms);
    }
}

static void names_override_the_options(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct plan plan = plan_make(&options, str_c(names[i].model));
        check_plan(names[i].model, &plan, &names[i].plan);
    }
}

static void a_name_asks_for_a_tool(void **state UNUSED) {
    struct plan plan = plan_make(&options, STR("mock-tool"));
    check_str(plan.tool, "any");
    check_int(plan.whole_ms, options.latency_ms);
    check(!plan_make(&options, STR("mock-tools")).tool.ptr);
}

static void a_name_need_not_be_terminated(void **state UNUSED) {
    struct plan plan = plan_make(&options, str_from("mock-250ms", 9));
    check_int(plan.whole_ms, 15000000); // 250m
}

static void every_example_is_understood(void **state UNUSED) {
    size_t i = 0;
    for (; plan_example(i); i++) {
        struct plan plan = plan_make(&options, str_c(plan_example(i)));
        check(plan.fault.kind != FAULT_NONE || plan.tool.ptr || plan.whole_ms != options.latency_ms);
    }
    check(i > 0);
}

TESTS(TEST(names_override_the_options), TEST(a_name_asks_for_a_tool), TEST(a_name_need_not_be_terminated),
      TEST(every_example_is_understood))
