// SPDX-License-Identifier: MIT
// Why a number is what it is: the table of known limits (traps.def), searched by mechanism and number.
#pragma once
#include "probe/verdict.h"

struct trap {
    const char *runtime; // "asyncio.to_thread", "Puma"
    const char *number;  // "min(32, cpus + 4)", as people write it
    const char *cause;   // one sentence: what holds the seat
    const char *confirm; // the one command or change that shows whether it is this
    const char *fix;
    const char *source;                 // where the number was read
    unsigned (*at_once)(unsigned cpus); // what it gives on that many CPUs
    unsigned models;                    // bits of 1 << enum probe_model that it looks like
    enum canary_verdict canary;         // what a look at a cheap path shows; CANARY_NONE: anything
    bool client;                        // it is a limit of clients (browsers), which the prober does not have: excluded
};

enum { WHY_MOST = 5 };

struct reason {
    const struct trap *trap;
    unsigned cpus;   // with which its number comes out; 0: whatever their count
    bool excluded;   // named because people think of it, and ruled out
    bool likely;     // it has this number here, or shows itself otherwise; else it is merely possible
    char number[48]; // "6 = min(32, 2 + 4)"
};

struct why {
    struct reason reasons[WHY_MOST]; // the likeliest first
    unsigned count;
};

// With no known cause `count` is 0.
void why_find(const struct verdict *v, const struct evidence *e, struct why *why);
