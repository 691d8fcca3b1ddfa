// SPDX-License-Identifier: MIT
// A question or an order about a tape that may lie on another worker's shelf: it travels there, is done on that
// worker's thread, and travels back. About a tape on the own shelf it is done at once.
#pragma once
#include "tape/shelf.h"

struct errand {
    struct message message;
    struct shelves *all;
    unsigned home; // the number of the sender's shelf
    unsigned where;
    struct tape_id id;
    struct digest tenant;
    bool anybody;          // whoever the tenant is
    enum shelf_find found; // SHELF_HERE: `run` was called; never ELSEWHERE
    // On the thread of the tape's shelf; `t` is one that this tenant may have. Writes what it found into its owner.
    void (*run)(struct errand *e, struct shelf *there, struct tape *t);
    // At home again; the errand is the owner's. Not called when the shelves are closed meanwhile: `destroy` is, perhaps
    // before the owner has let go of it.
    void (*on_back)(struct errand *e);
    void (*destroy)(struct errand *e);
};

// The owner has set id, tenant, run, on_back and destroy; on_back may come from inside.
void errand_send(struct shelf *home, struct errand *e);
