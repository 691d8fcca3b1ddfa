// SPDX-License-Identifier: MIT
// What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput; with -Dfuzz=true it is
// linked to libFuzzer, with -Dtests=true to replay.c, which feeds it the files of its corpus. Targets decide
// everything by the input alone, so that a finding repeats.
#pragma once
#include <stdbool.h>

#include "base/attr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// An invariant; checked in every build.
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

// A sequence of random numbers that depends on the input only (splitmix64).
struct dice {
    uint64_t state;
};

static inline uint64_t dice_roll(struct dice *d) {
    uint64_t z = (d->state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline struct dice dice_from(const uint8_t *data, size_t size) {
    struct dice d = {size};
    for (size_t i = 0; i < size; i++) {
        d.state = (d.state ^ data[i]) * 0x100000001B3u;
    }
    return d;
}
