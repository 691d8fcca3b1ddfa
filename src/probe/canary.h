// SPDX-License-Identifier: MIT
// The canary: a cheap path of the same site, asked again and again while calls run. If it sings on, only the route
// waits; if it falls silent, the whole site does. Each look has a fresh connection, as a new visitor has: one kept open
// would take a seat of some servers, and stay with one worker of others. One look at a time: while one hangs, the next
// is not sent.
#pragma once
#include "probe/evidence.h"
#include "http/shot.h"

enum { CANARY_LOOKS_MOST = 20 * 1000 };

struct canary {
    struct aim aim;
    struct str authority;
    struct str path; // empty: there is none, and nothing below does anything
    uint64_t every_ms;
    uint64_t timeout_ms;
    uint64_t start_ns; // of the probe: what times are told from

    // private
    struct shot shot;
    struct timer timer;
    struct task quiet;
    struct buf looks; // struct probe_canary
    void (*on_quiet)(void *owner);
    void *owner;
    bool ending;
};

// The fields above `private` are set, others zero.
void canary_start(struct canary *c);
// No further look; on_quiet, never from inside, when the last one has its answer or `grace_ms` are over.
void canary_end(struct canary *c, uint64_t grace_ms, void (*on_quiet)(void *owner), void *owner);
// What it saw: *looks is the caller's (free).
unsigned canary_take(struct canary *c, struct probe_canary **looks);
void canary_close(struct canary *c); // accepts zeroed
// The head of a look's request, the caller's to free; NULL without memory.
MUSTCHECK struct head *canary_request(struct str authority, struct str path);
