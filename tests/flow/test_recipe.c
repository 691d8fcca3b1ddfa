// SPDX-License-Identifier: MIT
#include "flow.h"
static void nothing(void **state UNUSED) {}
FLOWS(TEST(nothing))
