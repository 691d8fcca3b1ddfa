// SPDX-License-Identifier: MIT
// What a call tells of itself on its way: to its worker's meter, and to its trail where the access log or Server-Timing
// want one. Part of the call.
#pragma once
#include "gateway/access.h"
#include "gateway/worker.h"

struct counted {
    struct meter_upstream *at; // where it is in flight; NULL: nowhere
    struct trail *trail;       // NULL: nobody wants one
    uint64_t begun_ns;
    bool timed;  // one of those whose way through thaw is timed
    bool began;  // bytes of its answer came
    bool failed; // the attempt, and that is counted
};

enum { TIMING_MAX = 96 };

void counted_begin(struct counted *c, struct worker *w, struct trail *take_trail, bool timing_wanted);
// It waits for its turn, until the next attempt.
void counted_wait(struct counted *c, const struct worker *w);
// It is about to be sent to this upstream.
void counted_attempt(struct counted *c, const struct worker *w, const struct upstream *u);
// The attempt has failed; and it is not at that upstream any more.
void counted_failure(struct counted *c);
void counted_leave(struct counted *c);
// Has been sent, head and as much of the body as there was; its answer's head came.
void counted_sent(struct counted *c, struct worker *w);
void counted_head(struct counted *c, const struct worker *w);
// The answer's first bytes have been sent on. Nothing the second time. `at` as it was before: the call may have ended.
void counted_bytes(struct counted *c, struct worker *w, struct meter_upstream *at);
void counted_end(struct counted *c, const struct worker *w, bool whole);

// Adds what thaw spent on it so far, and how long the upstream took to answer (W3C Server Timing, section 3). An
// upstream's own entries stay; to a head that has as many fields as one may have nothing is added.
void counted_timing(const struct counted *c, const struct worker *w, struct fields *fields, char room[TIMING_MAX]);
