// SPDX-License-Identifier: MIT
// What a worker does about the process's limits (admit/pressure.h): takes no new call when memory is at the budget, drops
// finished tapes to be below it again, gives up what holds most when the last mark is reached; leaves connections in the
// backlog when there are enough, and lets those go that only wait when others are in need. See
// docs/internals/overload.md.
#pragma once
#include "gateway/request.h"

// After http_server_init. `pressure` may be NULL: no limits.
void room_init(struct worker *w, struct pressure *pressure);
void room_finish(struct worker *w);
// When the listener is open: what it asks from then on.
void room_listen(struct worker *w);

// The step. DONE: answered, 503 (NO_ROOM).
enum verdict room_step(struct request *r);
// May `bytes` more of a body be kept? They count then.
MUSTCHECK bool room_for_body(struct worker *w, size_t bytes);
// So many bytes more are kept for slow readers. Is memory so short that no more should be?
bool room_is_tight(struct worker *w, size_t bytes);
// A request makes that many calls more.
void room_take_calls(struct worker *w, unsigned calls);
// The sentence for those that are refused.
void room_refuse(struct request *r);
// Descriptors have run out: closes some connections that wait for nothing but use. False: there are none.
bool room_spare_files(struct worker *w);
