// SPDX-License-Identifier: MIT
// The mechanisms, turned round. Told how a server shares itself out, and when each call came and was done, when its
// service began follows, call by call, without chance: on N seats, first come first served, the i-th to come sits down
// at max(a_i, d_(i-N)), d being all endings in order; a call that shares m cores with n others gets m / n of one; and so
// on. What is left of a call's time is what its service must have taken. Under the true mechanism these times are all
// alike, as those of calls alone are; under any other they are not. fit.h says how much.
//
// Where the mechanism itself draws lots (who is next, which worker) each draw has its price: the logarithm of its
// chance, added to what the times say.
#pragma once
#include "probe/scene.h"
#include "probe/verdict.h"

// In which order a trial's calls were let in.
enum order {
    ORDER_SENT,     // first come first served
    ORDER_SHUFFLED, // so, but a burst may have been shuffled on its way: by lot among all of it
    ORDER_LAST,     // the last to come is the next
    ORDER_LOT,      // whoever of those waiting
    ORDERS,
};

// What follows from a mechanism: arrays as long as the scene's.
struct account {
    double *service; // milliseconds
    double *chance;  // logarithms of the chances of what was drawn
    double *refused; // of each refusal
    double waited;   // the longest that a call waited, or was slowed, in milliseconds
    double full;     // BUCKET: when it will be full again
};

// Fills in one trial's part. The trials are gone through in order. False: this order makes no difference there, or the
// mechanism cannot be turned round so (PARTITIONED: see lots.h).
bool mechanism_turn(const struct hypothesis *h, const struct scene *s, unsigned trial, enum order order,
                    struct account *a);
// Services that begin within so much of one another are a batch: which call had which of their seats is all the same.
// So of a shuffled burst the k-th call, the j-th of its batch, was it by chance j / k.
double mechanism_batch_ms(const struct scene *s);
