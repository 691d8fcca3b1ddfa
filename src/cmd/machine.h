// SPDX-License-Identifier: MIT
// What this machine gives the process: the container's limits, not the host's size.
#pragma once
#include <limits.h>

#include "base/str.h"

struct machine {
    double cpu_quota;      // CPUs by the cgroup (v2 cpu.max or v1 cfs quota), 0: no quota
    unsigned cpus_allowed; // by affinity
    unsigned cpus_usable;  // what both leave, rounded up, at least 1
    uint64_t memory_bytes; // the smallest of the cgroup's limits (own and above) and the machine's memory; 0: unknown
    bool memory_from_cgroup;
    bool memory_group_v1;        // of the cgroups' first generation
    char memory_group[PATH_MAX]; // the directory of the group whose limit it is; empty: the machine's memory
    uint64_t files;              // descriptors this process may open
};

// `root` is "" (tests: a directory with proc/ and sys/). Raises the soft descriptor limit to the hard one first when
// `raise_files`.
void machine_read(struct machine *m, const char *root, bool raise_files);
