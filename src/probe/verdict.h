// SPDX-License-Identifier: MIT
// What the evidence says, as far as it says it. Pure data; everything that is printed, drawn or reported comes from it.
#pragma once
#include "probe/evidence.h"

// The mechanisms that are told apart (facts/probe-method.md 1.4; SPEC, `model`).
#define PROBE_MODELS(MODEL)                                                                                            \
    MODEL(FLAT, "flat")                 /* nobody waits for anybody, up to what was tried */                           \
    MODEL(SERIAL, "serial")             /* one at a time */                                                            \
    MODEL(PARTIAL_LOCK, "partial_lock") /* one at a time for a part of each call */                                    \
    MODEL(POOL, "pool")                 /* N at a time, first come first served */                                     \
    MODEL(PARTITIONED, "partitioned")   /* W workers with P seats each; a call is bound to one by lot */               \
    MODEL(CPU, "cpu")                   /* all at once on m cores, and slower for it */                                \
    MODEL(POLL, "poll")                 /* one at a time, and who waits looks every period */                          \
    MODEL(BUCKET, "bucket")             /* B at once, then R a second */                                               \
    MODEL(CAP, "cap")                   /* N at a time; more are refused */                                            \
    MODEL(SESSION, "session")           /* one at a time of each session */                                            \
    MODEL(INCONCLUSIVE, "inconclusive")

enum probe_model {
#define MODEL(name, text) PROBE_##name,
    PROBE_MODELS(MODEL)
#undef MODEL
};

// A mechanism with its numbers; those that it does not have are 0.
struct hypothesis {
    enum probe_model model;
    unsigned at_once; // N; SERIAL, POLL: 1; PARTITIONED: workers * each; CPU: cores; BUCKET: its size; SESSION: 1
    unsigned workers; // PARTITIONED
    unsigned each;    // PARTITIONED; POLL: so many threads look, the others wait for one; 0: all look
    unsigned places;  // POOL: of which each call takes several, so that at_once = places / takes; 0: one each
    unsigned takes;   // so many, as they come free
    unsigned cores;   // POOL: who is in service shares so many cores; 0: they do not slow each other
    double share; // PARTIAL_LOCK: of a call's time, that it is held for; FLAT: the server's own work, less than is seen
    double together;    // of that part, what is worked at side by side, as by one core; 0: one after the other
    bool even;          // PARTIAL_LOCK: for the same time by each, however long the call takes
    double rate;        // BUCKET: a second
    uint64_t period_ns; // POLL
    bool random_order;  // POOL: who is next is not who came first
    int refused_status; // CAP: what the others are told; 0: the connection is refused
};

enum canary_verdict {
    CANARY_NONE,   // there is no cheap path to look at
    CANARY_FINE,   // the site is alive: only this route waits
    CANARY_SLOW,   // it takes longer while calls run
    CANARY_FROZEN, // it does not answer as long as calls run: the event loop is blocked, or every seat is taken
};

// Why it does not say more. NOISE: the service times vary too much to tell neighbours apart; ...
enum doubt {
    DOUBT_NONE,
    DOUBT_NOISE,
    DOUBT_TIE,     // two explanations fit
    DOUBT_BUDGET,  // more calls would tell, --budget does not allow them
    DOUBT_PROBER,  // this program was too slow (CPU, lag, skew) for what it saw to count
    DOUBT_NETWORK, // retransmits or slow connects: the staircase is the network's
    DOUBT_ERRORS,  // too many calls failed
    DOUBT_COLD,    // it was still changing from trial to trial: warm-up, autoscaling
    DOUBT_CACHED,  // answers came out of a cache or were shared
    DOUBT_STREAMS, // the server's HTTP/2 turned calls away
};

// The same calls as streams of one HTTP/2 connection (TRIAL_STREAMS), beside a connection for each.
enum one_connection {
    ONE_CONNECTION_UNTRIED,
    ONE_CONNECTION_SAME,
    ONE_CONNECTION_SLOWER,
    ONE_CONNECTION_REFUSES, // some were turned away, or failed
};

struct verdict {
    struct hypothesis best;      // model INCONCLUSIVE: `likely` says what it might be
    struct hypothesis runner_up; // model INCONCLUSIVE: there is none
    struct hypothesis likely;    // of an inconclusive verdict, the best fit
    double odds;                 // how many times likelier the best is than the runner-up
    double confidence;           // share of bootstrap resamples that agree, 0 to 1
    enum doubt doubt;
    bool exact;           // from the mock's journal: seats were seen, not inferred
    bool holds_upstream;  // known from TRIAL_SLOWER: the seat is held while the upstream is waited for,
    bool holds_known;     // or not
    unsigned tried_up_to; // the most calls at once
    uint64_t solo_ns;     // median of calls alone
    double solo_cv;       // their standard deviation by their mean
    enum canary_verdict canary;
    enum one_connection one_connection;
    unsigned one_connection_calls;
    double one_connection_times; // as long as over a connection for each, on average; 0: unknown
    uint64_t skew_ns;            // the worst of all bursts
    uint64_t lag_ns;
};

// "pool"
const char *probe_model_name(enum probe_model m);
