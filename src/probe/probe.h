// SPDX-License-Identifier: MIT
// The prober: finds the target, looks for a canary, then asks procedure.h what to try, lets volley.h do it and infer.h
// think about it, until there is a verdict.
//
//   RESOLVING --> REACHING --> CANARY --> JOURNAL (what was before) --+
//                                                                     v
//                     THINKING <--- JOURNAL (of the trial) <--- TRYING
//                        |   \_______________________________________^
//                        v
//                       OVER
//
// The name is resolved once, and all calls go to the first of its addresses that takes a connection: what differs between
// them afterwards is the app's doing, not the resolver's.
#pragma once
#include "net/dns.h"
#include "probe/journal.h"
#include "probe/procedure.h"
#include "probe/volley.h"

enum probe_end {
    PROBE_RUNNING,
    PROBE_DECIDED,     // as far as can be: the verdict tells
    PROBE_STOPPED,     // by probe_stop: the verdict is of what was seen until then
    PROBE_UNREACHABLE, // no connection, or no answer to the first call
    PROBE_REFUSED,     // the first call, alone, did not succeed: nothing to measure
};

struct probe_options { // borrowed
    struct str host;
    uint16_t port;
    struct tls_client *tls;    // NULL: plain
    enum origin_speaks speaks; // ORIGIN_ASK: tls offers "h2,http/1.1"
    const struct question *question;
    struct procedure_options procedure;
    bool stream;
    uint64_t timeout_ms; // of a call
    uint64_t seed;
    unsigned cpus;     // of this machine
    struct str canary; // its path; ptr == NULL: whichever of the usual ones answers; empty: none
    bool journal;      // there is one, at:
    struct aim journal_aim;
    struct str journal_authority;
    // The upstream's latency becomes so many times what it was; NULL: cannot be had (procedure.slower is false then).
    void (*slow_down)(void *owner, unsigned times);
    // Something happened, look at probe_look. May be NULL. May call probe_stop.
    void (*on_progress)(void *owner);
    void (*on_over)(void *owner); // once, never from inside of probe_start
    void *owner;
};

struct probe;
struct probe *probe_start(struct loop *loop, struct dns *dns, const struct probe_options *options);
// Ends it early: on_over follows in a later turn.
void probe_stop(struct probe *p);
void probe_destroy(struct probe *p); // accepts NULL

struct probe_look {
    enum probe_end end;
    const struct evidence *evidence;
    const struct verdict *verdict;
    const struct trial_plan *plan; // what is being tried; NULL: nothing
    struct volley_counts counts;   // of that
    const char *canary;            // its path; "": there is none
    const char *problem;           // the first thing that went wrong, a sentence; "": nothing did
    const char *location;          // PROBE_REFUSED: where the answer wants to send its client; "": nowhere
    int bad_status;                // the first status that was no success; 0: none
    bool journal_missed;           // there is a journal, but not of these calls
};
struct probe_look probe_look(const struct probe *p);
