// SPDX-License-Identifier: MIT
// Does one trial: sends its calls as the plan wants them and writes down what became of each.
//
// Calls that are due together (bursts) are prepared first, every connection made and all but the held part of each
// request written (http/shot.h), and then released in one tight loop; the trial tells how far the first and the last
// one's leaving were apart. Others are prepared a little before their moment: a connection that waits for long would
// take a seat of servers that have one thread or process for each.
//
// Listening queues are short (5 in Python's http.server), and what overflows one comes again after a second: connections
// are begun VOLLEY_EACH_MS in a millisecond (of large bursts as many as to be done in VOLLEY_PREPARED_MS), at most
// VOLLEY_OPENING are under way at once. When the last one is there, VOLLEY_REST_MS go by in which the server may accept
// what it has not yet, and read what is there of the heads. A server that takes no more of them while others wait (one blocking worker and
// TLS) does not hold up the burst for ever: when none came for settle_ms, those that are there leave, and the rest as they
// come; the skew tells.
#pragma once
#include "probe/canary.h"
#include "probe/question.h"

enum { VOLLEY_OPENING = 64, VOLLEY_EACH_MS = 2, VOLLEY_PREPARED_MS = 250, VOLLEY_REST_MS = 5, VOLLEY_NOTE = 200 };

struct volley_setup { // what it points to is borrowed until volley_end
    struct aim aim;
    const struct question *question;
    uint64_t start_ns;        // of the probe, on the loop's clock: what all times are told from
    uint32_t run;             // of the nonces
    uint32_t calls_before;    // so many had a nonce of this run before
    struct str shared_cookie; // "name=value", what the calls of a TRIAL_SESSION have in common
    bool stream;
    uint64_t connect_ms, timeout_ms, settle_ms;
    uint64_t lead_ms;       // how long before its moment a call is prepared
    uint64_t seed;          // of the moments of a TRIAL_OPEN
    struct str canary_path; // empty: none
    uint64_t canary_ms;     // how often it is looked at
    // A call left or is over. May be NULL.
    void (*on_progress)(void *owner);
};

// What people want to hear of beside the figures; the first of each.
struct volley_notes {
    char problem[VOLLEY_NOTE];  // of a call that failed
    char location[VOLLEY_NOTE]; // where an answer wants to send its client
    char cookie[VOLLEY_NOTE];   // name=value of a cookie that an answer set
    int bad_status;             // an answer that was neither 2xx nor a redirect; 0: none
};

struct volley;

// `done`, never from inside: all calls are over, volley_end takes the result.
struct volley *volley_start(const struct volley_setup *setup, const struct trial_plan *plan, void (*done)(void *owner),
                            void *owner);
struct volley_counts {
    unsigned sent, over, failed;
} volley_counts(const struct volley *v);
const struct volley_notes *volley_notes(const struct volley *v);
// Ends it, broken off where calls are still open: those have ERR_CANCELLED. The trial is the caller's.
struct trial *volley_end(struct volley *v);
// Accepts NULL.
void trial_destroy(struct trial *t);
