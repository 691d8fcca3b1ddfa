// SPDX-License-Identifier: MIT
// What runtimes and platforms do when nobody tells them otherwise: the table presets.def. A row is a link of the chain,
// its time limits, what it says to people, and where its number was read.
#pragma once
#include "base/str.h"
#include "plan/chain.h"

enum preset_group { RUNTIME, PLATFORM };

// What a number may depend on.
struct preset_facts {
    unsigned cpus;                       // that the runtime counts
    unsigned python_major, python_minor; // 3, 13
};

enum { PRESET_LIMITS = 2 };

struct preset {
    enum preset_group group;
    const char *name;   // behind --runtime or --platform
    const char *title;  // in sentences
    const char *does;   // a few words for --list: what is limited
    const char *number; // as people write it; with seats_of it writes its own
    enum link_kind kind;
    enum link_unit unit;
    enum link_scope scope;
    unsigned seats; // 0: no limit, or seats_of
    unsigned (*seats_of)(const struct preset_facts *facts, char *number, size_t size);
    bool counts_cpus;    // its number depends on the CPUs
    unsigned scales_at;  // a platform starts or prefers another instance from so many on, though it refuses nobody
    const char *scaling; // what its autoscaler looks at; NULL: it has none that would help
    unsigned instances;  // that it starts without being asked; 0: one
    bool refuses;        // over its limit it does not queue
    struct limit limits[PRESET_LIMITS];
    const char *fix;    // what to set instead; {n} is the number wanted; NULL: nothing needs to be
    const char *note;   // what else one should know; may be NULL
    const char *source; // where the number was read
};

const struct preset *preset_at(size_t i); // NULL behind the last
const struct preset *preset_find(enum preset_group group, struct str name);
// The name most like it in the group, or NULL.
const char *preset_nearest(enum preset_group group, struct str wrong);

// Adds its link and its limits; false where the chain is full.
MUSTCHECK bool preset_add(const struct preset *preset, const struct preset_facts *facts, struct chain *chain);
