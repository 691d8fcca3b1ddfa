// SPDX-License-Identifier: MIT
// How much room the process has: for memory, and for its clients' connections. One for all workers.
//
// Memory has a limit that ends us (the cgroup's, else the machine's) and below it two marks:
//   budget  (75 % of the limit, or `memory`)  no new call is let in until 1/16 of it is free again
//   last    (95 % of the limit, and at most 19/15 of the budget)  what holds most is given up, until 1/16 is free again
//
// What is used is what the system counts: of a cgroup with a limit its whole usage, the kernel's sockets in it, less
// the file pages that it gives back by itself; else our resident memory. It is measured by whichever worker's turn it is,
// at most every PRESSURE_SOON_MS. In between it is predicted: a measurement tells each worker how much it may let in
// until the next one. And a new call has not all of its memory at once: those let in within the last PRESSURE_LAG_MS (to
// twice that) count as PRESSURE_CALL_BYTES beside what was in use before them, where that is more than is measured now. So
// a burst of thousands stops at the budget. On the hot path that is one load and one comparison; workers write nothing that
// others read.
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"

enum {
    PRESSURE_CALL_BYTES =
        13 * 1024,           // a held stream: 4.5 KiB of thaw's, 2 x 4.2 KiB of the kernel's (bench/overload.py)
    PRESSURE_LAG_MS = 500,   // at most until a new call has its memory, mostly
    PRESSURE_ROUND_MS = 100, // between measurements
    PRESSURE_SOON_MS = 20,   // when all that was predicted is taken
    PRESSURE_TRIM_MS = 1000, // between giving free memory back to the system
};

struct pressure_options {
    uint64_t limit;       // bytes; 0: not known
    uint64_t budget;      // bytes; 0: three quarters of the limit
    const char *group;    // the directory of the cgroup whose limit it is; NULL: our resident memory counts
    bool group_v1;        // of the first generation
    unsigned workers;     // that share it
    unsigned connections; // of clients at once; 0: any number
    // Instead of the system's word (tests). False: it cannot be known now.
    bool (*measure)(void *context, uint64_t *bytes);
    void *context;
};

struct pressure {
    _Atomic uint64_t room; // number of the measurement << 32 | KiB that each worker may let in until the next; 0: none
    _Atomic uint64_t used; // bytes, as measured last
    _Atomic uint64_t excess;       // bytes to be free of before calls are let in again; 0: they are
    _Atomic uint64_t overflow;     // bytes to be given up; 0: the last mark is not reached
    _Atomic uint64_t step;         // bytes that a worker may grow by before it is worth a measurement
    _Atomic uint64_t held;         // bytes that the workers could give up (pressure_share)
    _Atomic unsigned connections;  // of clients, open
    _Atomic uint64_t measured_ms;  // when
    _Atomic uint64_t budget, last; // the marks, in bytes
    _Atomic unsigned most_connections;
    atomic_flag measuring;
    // Of whoever is measuring:
    struct pressure_options options;
    uint64_t trimmed_ms;
    int usage_fd, stat_fd; // read again each time: when descriptors have run out, too
    bool refusing, shedding;
};

// Measures at once. Never NULL.
struct pressure *pressure_create(const struct pressure_options *options);
void pressure_destroy(struct pressure *p);
// Other marks from now on, as in the options (a reload). Any thread.
void pressure_set(struct pressure *p, uint64_t budget, unsigned connections);
// Measures if the last time is at least age_ms ago and nobody is at it. Any thread.
void pressure_measure(struct pressure *p, uint64_t now_ms, uint64_t age_ms);

// ---- a worker's view

struct pressure_gauge {
    struct pressure *all; // NULL: there are no limits
    uint32_t round;       // the measurement that the rest is about
    unsigned begun;       // calls in flight when it was first seen
    int64_t allowed;      // bytes since then
    int64_t more;         // bytes let in since then, beside calls
    // How much room there was, and how many calls in flight, when this epoch began, and the one before it.
    struct pressure_epoch {
        uint64_t at_ms;
        int64_t room;
        unsigned calls;
    } now, before;
    uint64_t held; // told by pressure_share
};

void pressure_begin_round(struct pressure_gauge *g, uint64_t room, unsigned in_flight);

// Is there room for `bytes` more (beside the PRESSURE_CALL_BYTES of each call)? `in_flight`: the worker's calls, one that
// asks among them. The bytes count as let in, if there is.
MUSTCHECK static inline bool pressure_admits(struct pressure_gauge *g, unsigned in_flight, uint64_t bytes) {
    uint64_t room = atomic_load_explicit(&g->all->room, memory_order_relaxed);
    if (UNLIKELY((uint32_t)(room >> 32) != g->round)) {
        pressure_begin_round(g, room, in_flight);
    }
    int64_t calls = (int64_t)in_flight - g->begun;
    if (UNLIKELY(calls * PRESSURE_CALL_BYTES + g->more + (int64_t)bytes > g->allowed)) {
        return false;
    }
    g->more += (int64_t)bytes;
    return true;
}

// A worker tells how many bytes it could give up, and is told how many it should: its share of the overflow.
uint64_t pressure_share(struct pressure_gauge *g, uint64_t held);
