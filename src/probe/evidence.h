// SPDX-License-Identifier: MIT
// What the prober did and what it saw: the one shape that all of src/probe speaks. Pure data.
//
//     procedure.c says what to try next --> volley.c does it --> struct trial --> infer.c --> struct verdict (verdict.h)
//
// Times are nanoseconds on one monotonic clock from the start of the probe; 0 where it has not happened.
#pragma once
#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

// How one kind of trial sends its calls.
enum trial_kind {
    TRIAL_SOLO,      // one after another, alone: how long does one take
    TRIAL_BURST,     // all at once: their last bytes leave together
    TRIAL_STAGGERED, // `gap_ns` apart: who is served in which order
    TRIAL_SESSION,   // a burst of one session: the same cookie (bursts otherwise: each its own, or none)
    TRIAL_SLOWER,    // solo or burst with the mock's latency doubled: is the seat held while the upstream is waited for
    TRIAL_STREAMS,   // a burst on one HTTP/2 connection, each call a stream (bursts otherwise: each its own connection)
    TRIAL_OPEN,      // calls at random moments (Poisson) at `rate`, whatever becomes of the others
};

struct trial_plan {
    enum trial_kind kind;
    unsigned calls;
    uint64_t gap_ns; // STAGGERED: between two calls
    double rate;     // OPEN: calls a second
    bool warm_up;    // the results are not looked at
};

struct probe_call {
    unsigned user;           // from 1, in the order of sending
    uint64_t due_ns;         // when it was to leave
    uint64_t sent_ns;        // its last byte was handed to the system
    uint64_t first_byte_ns;  // of the answer
    uint64_t first_token_ns; // --stream: the first event with content
    uint64_t gap_ns;         // --stream: the longest wait between two such events
    uint64_t end_ns;         // the answer was complete, or what went wrong went wrong
    uint64_t connect_ns;     // how long connecting took, TLS included: done before it was due, never part of the answer
    uint64_t bytes;          // of the answer's body
    uint64_t nonce;          // what it was sent with (base/nonce.h)
    uint64_t seen_start_ns;  // ground truth of the mock's journal, mapped to this clock: its service began,
    uint64_t seen_end_ns;    // and ended
    unsigned seen_seat;      // from 1; 0: unknown
    unsigned http;           // it was asked in HTTP/1 or 2; 0: there was no connection
    unsigned session;        // which cookie it came with; 0: none
    int status;              // 0: no answer
    enum err error;          // OK: answered whole
    bool turned_away;        // by the server's HTTP/2 (REFUSED_STREAM, GOAWAY), before the app saw it or in spite of it
    bool retransmitted;      // the kernel had to send something again (TCP_INFO): its times say nothing about the app
};

// A look at the cheap path, while a trial ran.
struct probe_canary {
    uint64_t sent_ns, end_ns;
    int status; // 0: no answer
};

struct trial {
    struct trial_plan plan;
    struct probe_call *calls; // plan.calls
    struct probe_canary *canaries;
    unsigned canary_count;
    uint64_t from_ns, to_ns;
    uint64_t skew_ns; // between the first and the last call's leaving, of calls that were due together
    uint64_t lag_ns;  // the prober's own longest turn meanwhile
    unsigned
        streams; // HTTP/2: so many at once the server takes on a connection, as it said; 0: not said, or a thousand
};

// In the order of time.
struct evidence {
    struct trial **trials;
    unsigned count;
    uint64_t canary_alone_ns; // what the cheap path takes when nothing else runs; 0: there is none
    unsigned calls_spent;
    double cpu_share; // of one CPU, the prober's own
    bool local;       // the target is on this machine
    unsigned cpus;    // of this machine, as its container limits it
    bool journal;     // seen_* are filled in
};
