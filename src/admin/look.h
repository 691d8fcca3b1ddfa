// SPDX-License-Identifier: MIT
// Everything that is told, summed over the workers and copied at one moment.
#pragma once
#include "admin/admin.h"
#include "base/out.h"

struct times {
    uint64_t buckets[HISTOGRAM_BUCKETS + 1];
    uint64_t sum_ns;
};

struct look_upstream {
    char name[64];
    uint64_t in_flight, attempts, failures;
    struct gate_look gate;
    enum breaker_state breaker;
    struct times first_byte, duration;
};

struct look {
    const struct admin_options *options;
    uint64_t uptime_ms;
    uint64_t resident_at_start;
    uint64_t outcomes[OUTCOME_COUNT];
    uint64_t refused[LIMIT_COUNT];
    uint64_t retries, fallbacks, bytes_in, bytes_out;
    uint64_t in_flight, connections, tapes, generation;
    uint64_t queued, oldest_ms; // of all upstreams
    uint64_t lag_ns;            // the largest
    bool draining;
    struct times before, after;
    unsigned upstream_count;
    struct look_upstream upstreams[METER_UPSTREAMS];
};

// options, uptime_ms and resident_at_start stay.
void look_take(struct look *l, uint64_t now_ms);
uint64_t look_worker_lag_ns(const struct meter *m);
const char *look_breaker(enum breaker_state state);

// The Prometheus text format, version 0.0.4; and JSON.
void metrics_put(const struct look *l, struct out *o);
void state_put(const struct look *l, struct out *o);

// Of this process, from /proc; what cannot be read is 0.
struct process {
    double cpu_s, started_s; // started: Unix
    uint64_t resident, virtual_size, open_files, max_files, threads;
};
void process_read(struct process *p);
