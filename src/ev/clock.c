// SPDX-License-Identifier: MIT
#include "ev/clock.h"

#include <time.h>

static uint64_t monotonic_ns(struct clock *clock UNUSED) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct clock *clock_monotonic(void) {
    static const struct clock monotonic = {monotonic_ns};
    return (struct clock *)(uintptr_t)&monotonic; // callees only read it
}

uint64_t clock_unix_s(void) { return (uint64_t)time(NULL); }

uint64_t clock_unix_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t fake_ns(struct clock *clock) { return container_of(clock, struct fake_clock, clock)->ns; }

void fake_clock_init(struct fake_clock *fake) { *fake = (struct fake_clock){.clock = {fake_ns}, .ns = 1000000000u}; }
