// SPDX-License-Identifier: MIT
#include "tapes.h"
static void nothing(void **state UNUSED) {}
FLOWS(TEST(nothing))
