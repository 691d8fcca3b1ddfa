// SPDX-License-Identifier: MIT
// Who sat where, and who waited for whom, in one trial: what the chart shows, whatever it is drawn with. Where the
// mock's journal tells it, it is what was seen. Else it is inferred as the verdict's mechanism has it:
//
//     seats of a known number   in the order of completion each call takes the seat that was free first
//     a number not known        greedy colouring (facts/probe-method.md, 6): the seat whose last end is nearest to
//                               where the call must have begun, its end less the time of a call alone
//     no seats (flat, cpu)      everybody is served from the start
//     not decided               what it looks like; where even that is not worth telling, calls are under way: plain
//
// Many users are folded: rows that look alike become a row and "34 more like this", and of many such steps the middle.
#pragma once
#include "base/out.h"
#include "probe/report.h"

enum { NOBODY = 0 };

struct seating_row {
    const struct probe_call *call;
    uint64_t sent_ns, start_ns, end_ns; // from the chart's left edge: waits from sent to start, is served to the end
    uint64_t alone_ns; // until here it has its seat for itself, after that it is served beside others: the end, but
                       // of a partial lock (where in the call the part lies is not known), and the start of cpu
    unsigned seat;     // from 1; 0: there are no seats, or it had none
    unsigned after;    // the user it waited for; NOBODY
    unsigned after_at; // where that one is in rows
    bool waited;
    bool refused; // told to go away, or the call failed: it had no seat
    bool lost;    // its end is behind the timeout of the chain
};

// A line of the chart: a row, or what stands for many.
struct seating_line {
    unsigned row;        // which one
    unsigned more;       // 0: the row itself; else so many more users follow like the row before
    unsigned steps;      // with `more`: they are so many groups, each later than the one before; 0: all like the row
    uint64_t longest_ns; // with `more`: the longest wait of them
};

struct seating {
    const struct trial *trial;
    struct seating_row *rows; // in the order of sending; of folded charts, of being served
    unsigned count;
    struct seating_line *lines;
    unsigned line_count;
    unsigned seats;  // used
    unsigned waited; // users who waited for somebody
    unsigned refused;
    unsigned lost;
    unsigned longest;   // the row that waited longest
    uint64_t from_ns;   // the left edge, on the probe's clock
    uint64_t length_ns; // to the right edge; never 0
    uint64_t unit_ns;   // the ruler: a call alone; never 0
    bool exact;         // seen, not inferred
    bool plain;         // nothing is known of who waited: calls are under way, that is all
    bool alone, beside; // some call was served so
};

// Picks the trial that shows the verdict best and seats its calls; at most about `lines` lines. False when no trial has
// calls. The seating is finished by seating_finish in either case.
bool seating_fill(struct seating *s, const struct probe_report *r, unsigned lines);
void seating_finish(struct seating *s);

// Where on the chart a user's timeout is, counted from his own sending; UINT64_MAX: nowhere on it.
uint64_t seating_limit(const struct seating *s, const struct probe_report *r, const struct seating_row *row);

// How the cheap path did between two moments of the chart (from its left edge).
enum canary_look { LOOK_NONE, LOOK_FINE, LOOK_SLOW, LOOK_GONE };
enum canary_look seating_canary(const struct seating *s, const struct evidence *e, uint64_t from_ns, uint64_t to_ns);
// The canary looked while this trial ran.
static inline bool seating_has_canary(const struct seating *s) { return s->trial && s->trial->canary_count > 0; }

// "A" to "Z", "AA", ...; at most 7 characters.
enum { SEAT_NAME = 8 };
const char *seat_name(char out[SEAT_NAME], unsigned seat);

// At the row's right: "waited 20.1 s for user 1", "refused: 429", "lost: ..."; may be empty.
void put_row_note(struct out *o, const struct seating_row *row, bool brief);
// What pale bars stand for: "served beside others"
const char *pale_means(const struct seating *s);
// "... 34 more like this"
void put_more(struct out *o, const struct seating_line *line);
