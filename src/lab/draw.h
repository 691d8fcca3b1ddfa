// SPDX-License-Identifier: MIT
// What the table and the two pictures share. Figures are shown in seconds of the published experiments: what was
// performed in a tenth of the time is shown ten times as long. Private to lab/.
#pragma once
#include "draw/scale.h"
#include "lab/run.h"
#include "llm/json.h"

struct lab_figures figures_of(const struct waits *w, double scale);

// How long a call waited, in services: what a bar's colour says. 0: it did not; PATIENCE_MOST: that many or more.
enum { PATIENCE_MOST = 4 };
unsigned patience_of(const struct lab_result *r, const struct sitting *s);

// "36 of 50 users waited, the longest 15.01 s: user 43 for user 29."
void put_who_waited(struct out *o, const struct lab_result *r);
// "seat 3", "lock", "call 3": what a row of the picture is called.
void put_seat_name(struct out *o, const struct lab_result *r, unsigned seat);
unsigned seats_used(const struct lab_result *r);
