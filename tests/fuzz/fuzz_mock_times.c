// SPDX-License-Identifier: MIT
// What clients may write about times, in model names and header fields, and what options say about capacity: refused
// with a reason, or within the limits that everything behind relies on.
#include "fuzz.h"
#include "mock/plan.h"

enum { SEATS_MAX = 100 * 1000 };

static void check_draws(const struct latency *l, struct dice *dice) {
    for (unsigned i = 0; i < 20; i++) {
        uint64_t key = dice_roll(dice);
        MUST(latency_draw_us(l, key, i) <= LATENCY_MAX_US);
        MUST(latency_draw_us(l, key, i) == latency_draw_us(l, key, i));
    }
}

static void check_pace(const struct plan *plan, uint64_t prompt) {
    const unsigned pieces = 30;
    struct pace pace = plan_pace(plan, true, pieces, prompt);
    uint64_t last_us = pace_last_us(&pace, pieces);
    uint64_t before = 0;
    for (unsigned i = 0; i < pieces; i++) {
        uint64_t due = pace_due_ms(&pace, i);
        MUST(due >= before);
        before = due;
    }
    MUST(before == (last_us + 999) / 1000);
}

static void check_call(struct str text, struct dice *dice) {
    static const char *const names[] = {"x-mock-latency", "x-mock-first",   "x-mock-between",
                                        "x-mock-stall",   "x-mock-prefill", "x-mock-tokens"};
    static const struct mock_options options = {.times.latency = LATENCY_MS(5)};
    struct plan plan = plan_make(&options, text);
    plan.key = dice_roll(dice);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct field room[1];
        struct fields fields = FIELDS(room);
        const char *wanted = NULL;
        MUST(fields_add(&fields, str_c(names[i]), text) == OK);
        const struct field *wrong = plan_take_fields(&plan, &fields, &wanted);
        MUST((wrong == NULL) == (wanted == NULL));
    }
    MUST(plan.tokens <= MOCK_TOKENS_MAX && plan.times.stall_after <= MOCK_TOKENS_MAX);
    check_pace(&plan, dice_roll(dice) % (32 << 20));
}

static void check_capacity(struct str text) {
    struct capacity_options o = {.seats = 0};
    if (!capacity_parse(text, &o)) {
        MUST(o.groups >= 1 && (uint64_t)o.groups * o.seats <= MAX(SEATS_MAX, 1000 * 1000));
        MUST(o.held_us <= o.of_us);
        MUST(o.mode && capacity_name(&o)[0]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = str_from((const char *)data, size);
    struct dice dice = dice_from(data, size);
    struct latency l = LATENCY_MS(1);
    if (!latency_parse(text, &l) || latency_parse_name(text, &l)) {
        check_draws(&l, &dice);
    }
    check_call(text, &dice);
    check_capacity(text);
    return 0;
}
