// SPDX-License-Identifier: MIT
// Servers that share themselves out in known ways, call by call, without a network: the ground truth of the prober's
// tests and of bench/infer. Every mechanism is written out from its definition (src/mock/capacity.h), none of it with
// what the prober infers by.
#pragma once
#include "probe/procedure.h"

enum sim_kind {
    SIM_UNLIMITED,
    SIM_LOCK, // share of a call's time, its first part
    SIM_LOOP, // the same part, of all calls side by side on one core
    SIM_POOL,
    SIM_WORKERS,
    SIM_CPU,
    SIM_POLL,
    SIM_BUCKET,
    SIM_CAP,
    SIM_SESSION,
};

struct sim {
    enum sim_kind kind;
    unsigned seats;   // POOL, WORKERS: of each; CPU: cores; BUCKET: size; CAP
    unsigned workers; // WORKERS
    unsigned takes;   // POOL: seats for each call; 0: one
    double share;     // LOCK: 1: all of it; LOOP
    double period_ms; // POLL
    double rate;      // BUCKET: a second
    char order;       // POOL: 0 first come, 'l' last come, 'r' by lot
    double service_ms;
    double cv;           // of lognormal service times; 0: constant
    double jitter_ms;    // deviation of what the machine adds to each call
    double outliers;     // share of calls that are 5 to 35 ms late
    double way_ms;       // deviation of a call's way there: a burst is shuffled by it
    double work_ms;      // of the server's own, one call after the other
    double warm_ms;      // the first so many milliseconds everything takes twice as long
    unsigned http;       // 2: HTTP/2, and
    unsigned streams;    // it takes so many at once on a connection; 0: any number
    bool streams_wait;   // those of one connection are served one after the other
    unsigned turns_away; // the calls of a burst beyond so many are, by its HTTP/2; 0: none
    uint64_t random;
    double bucket_full; // carried from trial to trial
};

// Does a trial; it is appended to the evidence, which owns it.
void sim_trial(struct sim *s, struct evidence *e, const struct trial_plan *plan);
void sim_evidence_finish(struct evidence *e);
// The whole of it: until the procedure is content. Returns the calls spent.
unsigned sim_probe(struct sim *s, const struct procedure_options *o, struct verdict *v);
double sim_draw(struct sim *s);
