// SPDX-License-Identifier: MIT
// A gate stands in front of an upstream: so many calls are in at once, others wait in a queue that is fair between
// clients, or are told at once that it would take too long. Gates belong to the process: calls of all workers pass
// through the same one, under its lock, which is held for the few instructions of one enqueue or dequeue. They outlive
// reloads, which only set them anew. An upstream without a limit has no queue; its gate only counts, without a lock.
//
// Who is next: the highest priority that waits; among its clients by deficit round robin (Shreedhar and Varghese 1996),
// each gets `weight` calls a round; of one client, who came first. (One client with 1,000 calls and nine with one each:
// each of the nine waits for at most ten others.)
//
// A full queue is shared evenly: a newcomer whose client has less than its share takes the place of the last call of the
// client that has most (of the same priority or a lower one).
//
// The predicted wait of a newcomer is what stands before it, at the rate at which places have become free lately (an
// average over the last services, weighted exponentially). A newcomer whose prediction is beyond its deadline is refused
// now instead of then; one whose deadline comes while it waits leaves.
//
// `automatic` limits are learned from refusals, timeouts and first bytes (admit/learn.h); never below 1. How long whole
// answers take says nothing: it depends on what was asked.
//
// A place is given to the next one by whoever frees it, at once; its own loop tells it. How it works, what it costs and
// where it ends: docs/internals/queue.md; why one for all workers: docs/adr/0008-one-gate-per-upstream.md.
#pragma once
#include "admit/breaker.h"
#include "base/str.h"
#include "ev/loop.h"

struct gates;
struct gate;
struct waiter;

struct gates *gates_create(void);
// No ticket may be out, and every loop that waited at one must have ended (or delivered what was posted to it).
void gates_destroy(struct gates *gates);
// The gate of that name; made when it is first asked for. Lives as long as the gates. Any thread.
struct gate *gates_find(struct gates *gates, struct str name);

struct gate_options {       // zeroed: no limit
    unsigned limit;         // calls at once; 0: as many as come, unless automatic
    bool automatic;         // limit: where to begin (0: 10)
    unsigned queue_length;  // how many may wait
    uint64_t queue_wait_ms; // how long; 0: as long as it takes
};
// Any thread. What waits and may go in now does; what is in stays in. A limit that was learned is kept while the gate
// stays automatic and begins at the same number. queue_wait_ms is that of newcomers.
void gate_set(struct gate *gate, const struct gate_options *options, uint64_t now_ms);

struct gate_asker {
    struct loop *loop;
    uint64_t client;      // whose call it is: any number that stays the same
    unsigned weight;      // 1 to 100
    unsigned priority;    // 0 to 9, higher first
    uint64_t deadline_ms; // on the loop's clock, when waiting has no point any more; UINT64_MAX: none
    // On the asker's loop, later: it is in, or (late) its time is up: queue_wait_ms or its deadline. Not after gate_leave.
    // A late one has left: its ticket holds nothing.
    void (*on_in)(void *owner);
    void (*on_late)(void *owner);
    // It was the last of a client that had more than its share of a full queue, and somebody with less has come. As late.
    void (*on_pushed)(void *owner);
    void *owner;
};

// A call's place, or its waiting for one: part of the call, which stays where it is until gate_leave. Zeroed: holds
// nothing. All of it is the gate's own.
struct ticket {
    struct gate *gate;
    struct loop *loop;
    struct waiter *waiter; // it waits, or has not been told yet that it is in
    uint64_t in_ms;        // since when it is in
    unsigned crowd;        // how many were in then, this one among them
    unsigned epoch;        // of the learned limit
};

enum gate_answer {
    GATE_IN,
    GATE_WAIT,  // on_in or on_late comes
    GATE_SHARE, // the queue is full, and this client has more than its share of it (429)
    GATE_FULL,  // the queue is full (503)
    GATE_LATE,  // it would take longer than the deadline or queue_wait_ms (503, or 429 where `own`)
};

struct gate_refusal {
    uint64_t retry_ms; // when there will be room, by the rate at which places become free; at least 1000
    uint64_t wait_ms;  // predicted; 0: nothing is known yet
    unsigned waiting, limit;
    bool own; // GATE_LATE: without the client's own calls before it, it would be in time
};

// The ticket, which held nothing, is set by GATE_IN and GATE_WAIT, the refusal by the others. To wait takes memory: where
// there is none it is GATE_FULL.
MUSTCHECK enum gate_answer gate_enter(struct gate *gate, const struct gate_asker *asker, struct ticket *ticket,
                                      struct gate_refusal *refusal);

enum gate_report {
    REPORT_WELL,       // answered
    REPORT_OVERLOADED, // 429, 503, a timeout
    REPORT_NOTHING,    // the client left, it was never sent, or it failed in a way that says nothing about load
};
// It is over, in whatever state: waits no more, or its place is free and the next one is told. first_byte_ms: from the
// request sent to the answer's first byte, 0: unknown. Accepts one that holds nothing. The asker's loop only.
void gate_leave(struct ticket *ticket, enum gate_report report, uint64_t first_byte_ms);

// Where it stands: *place from 1. False: it does not wait.
bool gate_place(const struct ticket *ticket, unsigned *place, unsigned *waiting);

struct gate_look {
    unsigned limit; // 0: none
    bool automatic;
    unsigned in_flight, waiting;
    uint64_t oldest_ms;              // how long the first of those who wait has waited
    uint64_t service_ms;             // average
    uint64_t entered, refused, late; // since the start
};
void gate_look(struct gate *gate, uint64_t now_ms, struct gate_look *look); // any thread

// The breaker of the upstream that the gate stands before, which outlives reloads like it.
struct breaker *gate_breaker(struct gate *gate);
