// SPDX-License-Identifier: MIT
// The map of the product: what a request passes through, in order.
#pragma once
#include "gateway/request.h"

struct step {
    const char *name;
    enum verdict (*run)(struct request *r);
};
extern const struct step steps[];
extern const unsigned step_count;

// Paths that thaw knows. Everything else below the prefix is relayed as it is.
struct route {
    struct str path; // behind the prefix if `prefixed`
    bool prefixed;
    unsigned methods;                  // bits of 1 << enum method; others: relayed if prefixed, else 405
    bool open;                         // no key needed
    bool looked_at;                    // the body is read whole, looked at, and may be sent again
    void (*answer)(struct request *r); // local; NULL: a call
};
