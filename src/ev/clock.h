// SPDX-License-Identifier: MIT
// Where time comes from. Production uses the monotonic clock; tests put a fake one in its place and hours of
// timeouts pass in milliseconds.
#pragma once
#include "base/attr.h"

struct clock {
    // Monotonic nanoseconds from an arbitrary start; never goes back.
    uint64_t (*now_ns)(struct clock *clock);
};

// CLOCK_MONOTONIC; has no state.
struct clock *clock_monotonic(void);

// The wall clock in Unix seconds: for what people and other processes are told. It may jump; nothing is timed by it.
uint64_t clock_unix_s(void);
uint64_t clock_unix_ms(void);

struct fake_clock {
    struct clock clock;
    uint64_t ns;
};
void fake_clock_init(struct fake_clock *fake);
