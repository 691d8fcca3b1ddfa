// SPDX-License-Identifier: MIT
#include "mock/plan.h"

#define PREFILL_MAX_US ((uint64_t)60 * 1000000) // times all the words of a large body is no overflow

// ---- names

void plan_set_fault(struct plan *plan, struct fault fault) {
    plan->fault = fault;
    plan->has_fault = true;
    if (fault.kind == FAULT_STATUS) {
        plan->status = (int)fault.n;
        plan->times = (struct mock_times){.as_stream = false};
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
    struct mock_times *t = &plan->times;
    uint64_t tokens = 0;
    struct latency between;
    size_t x = str_find(rest, 'x');
    if (parse_u64(str_first(rest, x), &tokens) != OK || tokens < 1 || tokens > MOCK_TOKENS_MAX ||
        latency_parse(str_skip(rest, x + 1), &between) || !latency_is_constant(&between)) {
        return false;
    }
    plan->tokens = (unsigned)tokens;
    t->between = between;
    t->first = (struct latency){.us = 0};
    t->has_first = true;
    t->latency = (struct latency){.us = tokens * between.us};
    t->as_stream = false;
    return true;
}

// 5s, or lognormal-2s-9s and the like: until the whole answer, or until a stream's first token.
static bool read_latency(struct str rest, struct plan *plan) {
    if (!latency_parse_name(rest, &plan->times.latency)) {
        return false;
    }
    plan->times.has_first = plan->times.as_stream = false;
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
    struct str prefix;
    const char *example;
    bool (*read)(struct str rest, struct plan *plan); // false and the plan as it was: not a name of this kind
} patterns[] = {
    // tried in this order; the first that understands the rest of the name wins
    {STR_INIT("mock-err-"), "mock-err-429", read_error},
    {STR_INIT("mock-"), "mock-100x20ms", read_tokens},
    {STR_INIT("mock-"), "mock-5s", read_latency},
    {STR_INIT("mock-"), "mock-lognormal-2s-9s", read_latency}, // the same once more, for the example
    {STR_INIT("mock-tool"), "mock-tool", read_tool},
    {STR_INIT("mock-"), "mock-cut-7", read_fault},
};

struct plan plan_make(const struct mock_options *options, struct str model) {
    struct plan plan = {
        .status = 200,
        .times = options->times,
        .tokens = options->tokens,
    };
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        struct str prefix = patterns[i].prefix;
        if (str_starts(model, prefix) && patterns[i].read(str_skip(model, prefix.len), &plan)) {
            break;
        }
    }
    return plan;
}

const char *plan_example(size_t i) { return i < ARRAY_LEN(patterns) ? patterns[i].example : NULL; }

// ---- header fields

static const char *take_latency(struct str value, struct plan *plan) {
    const char *wanted = latency_parse(value, &plan->times.latency);
    plan->times.as_stream = plan->times.as_stream && wanted;
    return wanted;
}

static const char *take_first(struct str value, struct plan *plan) {
    const char *wanted = latency_parse(value, &plan->times.first);
    plan->times.has_first = plan->times.has_first || !wanted;
    return wanted;
}

static const char *take_between(struct str value, struct plan *plan) {
    return latency_parse(value, &plan->times.between);
}

static const char *take_stall(struct str value, struct plan *plan) { return mock_parse_stall(value, &plan->times); }

static const char *take_prefill(struct str value, struct plan *plan) { return mock_parse_prefill(value, &plan->times); }

static const char *take_tokens(struct str value, struct plan *plan) {
    uint64_t n = 0;
    if (parse_u64(value, &n) != OK || n < 1 || n > MOCK_TOKENS_MAX) {
        return "a number from 1 to 1000000";
    }
    plan->tokens = (unsigned)n;
    return NULL;
}

static const char *take_fault(struct str value, struct plan *plan) {
    struct fault fault;
    if (!fault_parse(value, &fault)) {
        return "a fault that 'thaw mock --help' lists, as cut-7";
    }
    plan->status = 200;
    plan_set_fault(plan, fault);
    return NULL;
}

static const char *take_tool(struct str value, struct plan *plan) {
    plan->tool = value;
    return NULL;
}

static const struct {
    enum field_id id;
    const char *(*take)(struct str value, struct plan *plan);
} field_rows[] = {
    {FIELD_X_MOCK_LATENCY, take_latency}, {FIELD_X_MOCK_FIRST, take_first},   {FIELD_X_MOCK_BETWEEN, take_between},
    {FIELD_X_MOCK_FAULT, take_fault},     {FIELD_X_MOCK_TOOL, take_tool},     {FIELD_X_MOCK_STALL, take_stall},
    {FIELD_X_MOCK_PREFILL, take_prefill}, {FIELD_X_MOCK_TOKENS, take_tokens},
};

const struct field *plan_take_fields(struct plan *plan, const struct fields *fields, const char **wanted) {
    for (unsigned i = 0; i < fields->n; i++) {
        const struct field *f = &fields->v[i];
        for (size_t k = 0; k < ARRAY_LEN(field_rows) && f->id != FIELD_OTHER; k++) {
            *wanted = f->id == field_rows[k].id ? field_rows[k].take(f->value, plan) : NULL;
            if (*wanted) {
                return f;
            }
        }
    }
    return NULL;
}

const char *mock_parse_stall(struct str text, struct mock_times *times) {
    uint64_t ms = 0;
    uint64_t after = 0;
    size_t at = str_find(text, '@');
    if (parse_duration_ms(str_first(text, at), &ms) != OK || ms > LATENCY_MAX_US / 1000 ||
        parse_u64(str_skip(text, at + 1), &after) != OK || after < 1 || after > MOCK_TOKENS_MAX) {
        return "a pause and the number of tokens before it, as 3s@20";
    }
    times->stall_ms = (unsigned)ms;
    times->stall_after = (unsigned)after;
    return NULL;
}

const char *mock_parse_prefill(struct str text, struct mock_times *times) {
    uint64_t us = 0;
    if (parse_duration_us(text, &us) != OK || us > PREFILL_MAX_US) {
        return "a duration of at most 1m for each token of the prompt, as 1ms or 50us";
    }
    times->prefill_us = us;
    return NULL;
}

// ---- times

bool plan_draws(const struct plan *plan) {
    const struct mock_times *t = &plan->times;
    return !latency_is_constant(&t->latency) || !latency_is_constant(&t->between) ||
           (t->has_first && !latency_is_constant(&t->first));
}

static const struct latency *first_of(const struct mock_times *t) { return t->has_first ? &t->first : &t->latency; }

struct pace plan_pace(const struct plan *plan, bool stream, unsigned tokens, uint64_t prompt) {
    const struct mock_times *t = &plan->times;
    struct pace pace = {.key = plan->key};
    bool by_token = stream || t->as_stream;
    if (by_token) {
        pace.between = t->between;
        pace.stall_after = t->stall_after;
        pace.stall_ms = t->stall_ms;
    }
    pace.due_us = latency_draw_us(by_token ? first_of(t) : &t->latency, plan->key, 0) + t->prefill_us * prompt;
    return stream || !by_token ? pace : (struct pace){.due_us = pace_last_us(&pace, tokens)};
}
