// SPDX-License-Identifier: MIT
// Several calls that are one answer: a gather reads their tapes and writes the answer's own, so that everything that
// holds for a call's tape holds for it: it can be read again, joined, run in the background, cancelled.
#pragma once
#include "gateway/request.h"

struct gather_plan; // what is asked for, and how the answers become one; owns all it points to

// Accepts NULL.
void gather_plan_destroy(struct gather_plan *plan);
