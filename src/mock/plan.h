// SPDX-License-Identifier: MIT
// What will happen to a call, decided once, when it has been read: the mock's options, overridden by what the
// model's name says. The names are one table in plan.c.
#pragma once
#include "mock/mock.h"

struct plan {
    int status;        // 200, or the error that was asked for
    uint64_t whole_ms; // until an answer that is not streamed leaves
    uint64_t first_ms; // until a stream's first token
    uint64_t token_ms; // between its tokens
    unsigned tokens;   // 0: as many as what is echoed has
    struct fault fault;
    struct str tool; // to be called, if one is offered; "any" the first; ptr == NULL: none
};

enum { PLAN_TOKENS_MAX = 1000 * 1000 };

struct plan plan_make(const struct mock_options *options, struct str model);
// A status comes at once, whatever the latency: a refusal is what costs an upstream nothing.
void plan_set_fault(struct plan *plan, struct fault fault);
// One name of each kind, for the list of models; NULL behind the last.
const char *plan_example(size_t i);
