// SPDX-License-Identifier: MIT
#include "mock/plan.h"

static const uint64_t DURATION_MAX_MS = (uint64_t)30 * 24 * 3600 * 1000;

static bool read_duration(struct str s, uint64_t *ms) {
    return parse_duration_ms(s, ms) == OK && *ms <= DURATION_MAX_MS;
}

void plan_set_fault(struct plan *plan, struct fault fault) {
    plan->fault = fault;
    if (fault.kind == FAULT_STATUS) {
        plan->status = (int)fault.n;
        plan->whole_ms = plan->first_ms = 0;
    }
}

static bool read_fault(struct str rest, struct plan *plan) {
    struct fault fault;
    if (!fault_parse(rest, &fault)) {
        return false;
    }
    plan_set_fault(plan, fault);
    return true;
}

static bool read_error(struct str rest, struct plan *plan) {
    struct fault fault;
    return fault_parse(rest, &fault) && fault.kind == FAULT_STATUS && read_fault(rest, plan);
}

// 100x20ms: the first token at once, so that even `2x1h` shows one; not streamed it takes as long as all of them.
static bool read_tokens(struct str rest, struct plan *plan) {
    uint64_t tokens = 0;
    uint64_t token_ms = 0;
    size_t x = str_find(rest, 'x');
    if (parse_u64(str_first(rest, x), &tokens) != OK || tokens < 1 || tokens > PLAN_TOKENS_MAX ||
        !read_duration(str_skip(rest, x + 1), &token_ms)) {
        return false;
    }
    plan->tokens = (unsigned)tokens;
    plan->token_ms = token_ms;
    plan->first_ms = 0;
    plan->whole_ms = tokens * token_ms;
    return true;
}

static bool read_latency(struct str rest, struct plan *plan) {
    uint64_t ms = 0;
    if (!read_duration(rest, &ms)) {
        return false;
    }
    plan->whole_ms = plan->first_ms = ms;
    return true;
}

static bool read_tool(struct str rest, struct plan *plan) {
    if (rest.len) {
        return false;
    }
    plan->tool = STR("any");
    return true;
}

static const struct pattern {
    const char *prefix;
    const char *example;
    bool (*read)(struct str rest, struct plan *plan); // false and the plan as it was: not a name of this kind
} patterns[] = {
    // tried in this order; the first that understands the rest of the name wins
    {"mock-err-", "mock-err-429", read_error}, {"mock-", "mock-100x20ms", read_tokens},
    {"mock-", "mock-5s", read_latency},        {"mock-tool", "mock-tool", read_tool},
    {"mock-", "mock-cut-7", read_fault},
};

struct plan plan_make(const struct mock_options *options, struct str model) {
    struct plan plan = {
        .status = 200,
        .whole_ms = options->latency_ms,
        .first_ms = options->latency_ms,
        .token_ms = options->token_ms,
        .tokens = options->tokens,
    };
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        struct str prefix = str_c(patterns[i].prefix);
        if (str_starts(model, prefix) && patterns[i].read(str_skip(model, prefix.len), &plan)) {
            break;
        }
    }
    return plan;
}

const char *plan_example(size_t i) { return i < ARRAY_LEN(patterns) ? patterns[i].example : NULL; }
