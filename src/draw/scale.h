// SPDX-License-Identifier: MIT
// The marks of an axis, and numbers as people read them.
#pragma once
#include "base/out.h"

// The distance between the marks of an axis of `length`, at most `marks` of them: 1, 2 or 5 times a power of ten.
double axis_step(double length, unsigned marks);

// A time in as many digits as matter, with its unit: "184 s", "20.1 s", "0.20 s", "0.045 s", "0.31 ms", "0 s".
void put_time(struct out *o, uint64_t ns);
// "2,000"
void put_count(struct out *o, uint64_t n);
