// SPDX-License-Identifier: MIT
// What a worker counts, to be read by other threads while it works: its own numbers, each written by its thread alone
// (base/count.h). They belong to the process and outlive reloads; an upstream keeps its place by its name.
//
// Where the numbers go: docs/admin.md.
#pragma once
#include "base/count.h"
#include "base/str.h"
#include "gateway/outcome.h"

struct gate;
struct loop;

enum limit {
#define LIMIT(name, text) LIMIT_##name,
#include "gateway/limits.def"
#undef LIMIT
    LIMIT_COUNT
};
const char *limit_name(enum limit l);

// Times, in buckets of which each reaches twice as far as the one before: 10 us, 20 us, ... 1,342 s, and all beyond.
enum { HISTOGRAM_BUCKETS = 28, HISTOGRAM_FIRST_NS = 10 * 1000 };
struct histogram {
    struct count buckets[HISTOGRAM_BUCKETS + 1]; // not cumulative
    struct count sum_ns;
};
static inline uint64_t histogram_bound_ns(unsigned bucket) { return (uint64_t)HISTOGRAM_FIRST_NS << bucket; }
static inline unsigned histogram_bucket(uint64_t ns) {
    uint64_t times = ns ? (ns - 1) / HISTOGRAM_FIRST_NS : 0;
    unsigned bucket = times ? 64 - (unsigned)__builtin_clzll(times) : 0;
    return MIN(bucket, (unsigned)HISTOGRAM_BUCKETS);
}
static inline void histogram_add(struct histogram *h, uint64_t ns) {
    count_add(&h->buckets[histogram_bucket(ns)], 1);
    count_add(&h->sum_ns, ns);
}

struct meter_upstream {
    struct count in_flight; // calls, from the first attempt at this one to their end
    struct count attempts;
    struct count failures;       // of them
    struct histogram first_byte; // from a call's begin to the first byte of its answer's body
    struct histogram duration;   // of calls whose answer came whole
};

enum { METER_UPSTREAMS = 32 }; // those behind them share the last place

struct meter {
    struct count outcomes[OUTCOME_COUNT];
    struct count refused[LIMIT_COUNT];
    struct count retries;   // another try at the same upstream
    struct count fallbacks; // ... at the next one
    struct count bytes_in;  // of clients' bodies
    struct count bytes_out; // of answers' bodies
    // As of the end of the loop's last turn:
    struct count in_flight; // requests between head and end
    struct count connections;
    struct count tapes; // that have not ended
    struct count draining;
    struct count generation; // of the configuration: 1, and one more with each reload
    struct histogram before; // from the turn that read the request to the request having been sent
    struct histogram after;  // from the turn that read the answer's first bytes to these having been sent on
    struct meter_upstream upstreams[METER_UPSTREAMS];
    const struct loop *loop; // whose lag is told; NULL: not running (any more)
    unsigned tick;           // the worker's: who is timed (meter_times)
};

// Every so many calls `before` and `after` read the clock; the first one does.
enum { METER_EVERY = 8 };
static inline bool meter_times(struct meter *m) { return m->tick++ % METER_EVERY == 0; }

struct meters;
struct meters *meters_create(unsigned workers);
void meters_destroy(struct meters *meters);
unsigned meters_workers(const struct meters *meters);
struct meter *meters_worker(struct meters *meters, unsigned worker);

// An upstream, as all workers count it. The gate outlives the meters' readers.
struct meter_place {
    char name[64];
    struct gate *gate;
};
// The place of that name; made when it is first asked for. Any thread.
unsigned meters_place(struct meters *meters, struct str name, struct gate *gate);
// Copies what there is; returns how many. Any thread.
unsigned meters_places(struct meters *meters, struct meter_place places[METER_UPSTREAMS]);
