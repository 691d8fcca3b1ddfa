// SPDX-License-Identifier: MIT
// What to try next, from what is known: alone, all at once in growing numbers until somebody waits, then what tells the
// likeliest explanation from the next, and no more. Pure: all of its memory is the evidence.
//
//   alone      3 calls (2 where one takes more than 5 s; 8 and 4 where they differ by more than 5 %)
//   together   11 (slow ones 4), six times as many, and again, up to `max_users`
//   sessions   2 with one cookie, when nobody waits for anybody else
//   spread     a few milliseconds apart: who is next, and whether somebody only looks now and then
//   again      bursts of the size that tells best, until the verdict is bare
//   slower     with the latency doubled: is the seat held meanwhile, and a lock's share told from a rate
//   streams    HTTP/2: 12 on one connection, when all else is said
//   open       `verify`: at random, at 0.8 and 1.2 times of what it can serve
//
// That nobody waits is said after a burst of max_users, or of 43 where none is wanted: all together that is 58 calls, and
// shows pools up to the 40 of anyio. The verdict has tried_up_to.
#pragma once
#include "probe/evidence.h"
#include "probe/verdict.h"

enum { PROCEDURE_FLAT = 43, PROCEDURE_MOST = 256, PROCEDURE_BUDGET = 600 };

struct procedure_options {
    unsigned max_users; // --max; 0: PROCEDURE_FLAT, and up to PROCEDURE_MOST where somebody waits
    unsigned budget;    // calls; 0: PROCEDURE_BUDGET, or what max_users takes
    bool sessions;      // a cookie was given or may be made
    bool slower;        // the mock's latency can be doubled
    unsigned users;     // --users: one burst
    uint64_t gap_ns;    // --stagger, with users: so far apart
    bool verify;
    unsigned solo; // calls alone; 0: as above
};

// Infers (v is filled in), then says what to do next; false: done, with the reason in v->best and v->doubt. Every
// trial_plan that it has given must be in the evidence, in order, before the next is asked for; its calls count.
bool procedure_next(const struct evidence *e, const struct procedure_options *o, struct verdict *v,
                    struct trial_plan *plan);
// It will be no more than these. Said beforehand.
unsigned procedure_most_calls(const struct procedure_options *o);
