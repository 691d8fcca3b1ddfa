// SPDX-License-Identifier: MIT
// How long things take: a duration, or a distribution of them.
//
//   5s                constant
//   uniform:1s-3s     between the two
//   normal:5s,500ms   mean and standard deviation, cut off at 0
//   lognormal:2s,9s   median and 99th percentile: what language models are like
//   file:PATH         one of the file's durations, a line each; all are equally likely
#pragma once
#include <stdbool.h>

#include "base/str.h"

#define LATENCY_MAX_US ((uint64_t)30 * 24 * 3600 * 1000000) // of one duration; what is drawn beyond is that

struct latency_sample; // what a file had

struct latency { // zeroed: constant, 0. Each call has one
    union {
        uint64_t us;                   // constant
        double a;                      // microseconds; of a lognormal their logarithm
        struct latency_sample *sample; // owned
    };
    float b;
    unsigned char kind; // a row of the table in latency.c, from 1; 0: constant
};
// A constant, as an initialiser.
#define LATENCY_MS(ms)                                                                                                 \
    { .us = (uint64_t)(ms)*1000 }

// NULL: understood. Else what is wanted instead, for people ("... wants THIS, not ..."); *l is as it was.
const char *latency_parse(struct str text, struct latency *l);
// As it stands in a model's name: 5s, uniform-1s-3s, normal-5s-500ms, lognormal-2s-9s.
bool latency_parse_name(struct str text, struct latency *l);
// file:PATH as well: for those who may read this machine's files. That one has memory (latency_finish), and blocks.
const char *latency_parse_file(struct str text, struct latency *l);
void latency_finish(struct latency *l); // as zeroed

// The n-th draw of a key (mock/draw.h), in microseconds.
uint64_t latency_draw_us(const struct latency *l, uint64_t key, uint64_t n);
static inline bool latency_is_constant(const struct latency *l) { return l->kind == 0; }

// When the pieces of one answer are due, counted from the moment its service starts.
struct pace {
    uint64_t due_us;        // the one at `piece`, so before anything else the first
    struct latency between; // two of them
    uint64_t key;           // of the draws
    unsigned piece;         // from 0
    unsigned stall_after;   // so many pieces there is a longer pause; 0: none
    unsigned stall_ms;
};

// When a piece is due; one that is earlier than the last one asked for is as that one. Rounded up: nothing is early.
uint64_t pace_due_ms(struct pace *p, unsigned piece);
// When the last of so many is; before pace_due_ms was asked for any but the first.
uint64_t pace_last_us(const struct pace *p, unsigned pieces);
