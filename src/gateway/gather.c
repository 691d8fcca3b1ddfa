// SPDX-License-Identifier: MIT
#include "gateway/gather.h"

void gather_plan_destroy(struct gather_plan *plan) { free(plan); }
