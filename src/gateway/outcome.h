// SPDX-License-Identifier: MIT
// How a request ended: one of a closed list (outcome.def).
#pragma once

enum outcome {
#define OUTCOME(name, text) OUTCOME_##name,
#include "gateway/outcome.def"
#undef OUTCOME
    OUTCOME_COUNT
};
const char *outcome_name(enum outcome o); // the identifier
const char *outcome_text(enum outcome o);
