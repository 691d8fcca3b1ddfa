// SPDX-License-Identifier: MIT
// A call from the inside: call.c has its states, and what is sent and answered; tries.c whom it asks, and when again.
#pragma once
#include "gateway/asked.h"
#include "gateway/call.h"
#include "gateway/counted.h"
#include "gateway/stream.h"
#include "llm/usage.h"

enum { CALL_TARGETS = 64 }; // of a list, that are looked at

enum call_state { CALL_QUEUED, CALL_RESTING, CALL_CONNECTING, CALL_SENDING, CALL_WAITING, CALL_ANSWERING, CALL_ENDED };

// What a call holds where there are limits.
struct call_hold {
    struct call_client client;
    struct ticket ticket; // its place at the target's gate, or nothing
    struct lease lease;
    struct quota_look look;
    struct usage *usage; // of the answer; NULL: its tokens are not counted
};

struct call {
    // Together, as every piece of an answer needs them.
    struct xchg up;
    enum call_state state;
    uint16_t at;       // in targets
    uint16_t said;     // the status of an error in its opening, or of that; 0: it had none
    uint8_t attempts;  // tries, all in all
    uint8_t tries;     // of them, at this target
    bool asking : 1;   // counts in the upstream's calls in flight
    bool again : 1;    // this target was asked a second time for free: a kept connection had died
    bool trial : 1;    // the breaker waits for what becomes of it
    bool spent : 1;    // another try would have been made if there were any left
    bool goes_on : 1;  // without readers, though the tape is not kept
    bool messages : 1; // Anthropic's API
    struct worker *worker;
    struct tape *tape;
    struct stream *stream;   // of an event stream's answer
    struct opening *opening; // of one that is held back
    struct call_hold *hold;  // NULL: nothing is limited
    struct setup *setup;     // held
    const struct targets *targets;
    uint64_t started_ms;
    uint64_t timeout_ms; // the client's own for the whole call; 0: none
    union {
        struct timer deadline;
        struct grave grave; // ENDED
    };
    struct counted counted;

    struct asked asked;
    uint64_t sent_ms;   // when a request was sent last; 0: none was
    uint64_t tried;     // bits: targets that are not asked again
    char *setback;      // what became of the last try, once there is another one
    uint32_t discarded; // RESTING: bytes of the failed answer
    uint32_t first_ms;  // from the request sent to the answer's head
};

static inline struct target *target_of(const struct call *c) { return &c->targets->v[c->at]; }
static inline struct upstream *upstream_of(const struct call *c) { return target_of(c)->upstream; }
static inline const struct config_upstream *upstream_config(const struct call *c) { return upstream_of(c)->config; }
static inline uint64_t call_now_ms(const struct call *c) { return c->worker->loop.now_ms; }

// ---- call.c

void call_set_state(struct call *c, enum call_state state);
// What its client or its configuration leave of the time for all of it; and how much that was.
uint64_t call_left_ms(const struct call *c);
uint64_t call_total_ms(const struct call *c);
// It is its turn at the target: a connection, then the request.
void call_connect(struct call *c, bool fresh);
// It ends: nothing was sent for it, or will be.
void call_turn_away(struct call *c, enum err e, enum outcome outcome, uint64_t retry_ms, const char *format, ...)
    PRINTF(5, 6);

// ---- tries.c

// Asks whoever is next: call_connect now or when its turn comes, or call_turn_away.
void call_ask(struct call *c);
// What was wrong with a try.
struct setback {
    bool unreached;     // nothing was sent
    bool asked_to_wait; // and how long:
    uint64_t wait_ms;
};

// A try went wrong, and nothing of its answer has gone on. True: another one comes; `what` is remembered.
MUSTCHECK bool call_try_again(struct call *c, const struct setback *s, enum gate_report report, const char *what);
bool call_may_try_again(const struct call *c);
// What is known of the upstream's health: an answer's status, or that there was none.
void call_tell_health(struct call *c, int status);
void call_tell_breaker(struct call *c, bool worked);
// The upstream is not asked any more, and the place at its gate is free. Idempotent.
void call_leave_upstream(struct call *c, enum gate_report report);
// Its time is up, and it still waits for its turn: it goes elsewhere, or is refused.
void call_late(struct call *c);
// What its time limit is called.
const char *call_total_name(const struct call *c);
void call_count_refused(struct call *c, enum limit limit);
