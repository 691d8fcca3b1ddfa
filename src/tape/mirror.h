// SPDX-License-Identifier: MIT
// Reading a tape that lies on another worker's shelf. The reader's worker keeps a *mirror*: a tape of its own whose
// writer is a *feed*, a reader over there that passes on what is new, once a turn. Bytes are not copied: both tapes
// hold the same blocks. However many readers a worker has, there is one mirror and one feed.
//
//     worker A:  call -> TAPE -> feed  --news-->  worker B:  mirror -> TAPE -> readers
//                                      <--ask, leave, stop--
#pragma once
#include "tape/shelf.h"

struct mirror;

// Waits for the tape. Embedded in its owner, zeroed at first; given up by mirror_wait_end.
struct mirror_wait {
    struct list node;
    struct mirror *mirror;       // NULL: does not wait
    const struct digest *tenant; // who waits; NULL: whoever that is
    // SHELF_HERE: `t` may be opened now, in this call. Else there is none for this tenant, for that reason.
    void (*on_tape)(struct mirror_wait *wait, enum shelf_find found, struct tape *t);
};

// Asks shelf number `where` for the tape. on_tape comes later, or at once where there is a mirror already.
void mirror_ask(struct shelf *shelf, const struct tape_id *id, unsigned where, struct mirror_wait *wait);
// In on_tape: the position wanted is not there yet; on_tape comes again with what is new. False: `t` is no mirror's that
// anything new will come to.
MUSTCHECK bool mirror_wait_on(struct tape *t, struct mirror_wait *wait);
// Idempotent; also after on_tape.
void mirror_wait_end(struct mirror_wait *wait);

// For the shelf: all of its mirrors go; the feeds of a tape that has ended pass on what is left, and end.
void mirrors_finish(struct shelf *shelf);
void feeds_end(struct tape_kept *kept);
