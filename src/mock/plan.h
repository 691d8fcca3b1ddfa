// SPDX-License-Identifier: MIT
// What will happen to a call, decided once, when it has been read: the mock's options, overridden by what the
// model's name says, overridden by what its header fields say. Names and fields are one table each in plan.c.
#pragma once
#include "base/fields.h"
#include "mock/mock.h"

struct plan {
    int status; // 200, or the error that was asked for: that one comes at once and has no part in capacity
    struct mock_times times;
    unsigned tokens;    // 0: as many as what is echoed has
    uint64_t key;       // of what is drawn for it
    uint64_t claim_key; // of its claim on capacity
    struct fault fault;
    bool has_fault;  // it was asked for, be it none
    struct str tool; // to be called, if one is offered; "any" the first; ptr == NULL: none
};

struct plan plan_make(const struct mock_options *options, struct str model);
// A status comes at once, whatever the latency: a refusal is what costs an upstream nothing.
void plan_set_fault(struct plan *plan, struct fault fault);
// One name of each kind, for the list of models; NULL behind the last.
const char *plan_example(size_t i);

// What X-Mock-Latency and its kin say. NULL: understood, or none is there. Else the field that is not, and *wanted
// is what it should be.
const struct field *plan_take_fields(struct plan *plan, const struct fields *fields, const char **wanted);

// Is anything in it up to chance?
bool plan_draws(const struct plan *plan);
// The times of one call, drawn by its key. `tokens` of the answer, `prompt` of what was asked.
struct pace plan_pace(const struct plan *plan, bool stream, unsigned tokens, uint64_t prompt);
