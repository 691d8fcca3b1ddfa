// SPDX-License-Identifier: MIT
// An HTTP call that blocks the thread it is made on until the answer is there, as most libraries make one: libcurl's
// easy interface, one handle and one connection a call. The one file that knows libcurl is blocking.c.
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

#include "base/buf.h"

enum { BLOCKING_PROBLEM = 300 };

// Before calls and after them; they nest.
MUSTCHECK enum err blocking_init(void);
void blocking_finish(void);

struct blocking_call {
    const char *url;
    const char *authorization; // the field's value; NULL: none
    struct str body;           // JSON
    uint64_t timeout_ms;
    const atomic_bool *ending; // becomes true: the call is given up, within a second

    struct buf *answer; // gets the body; its cap is the limit
    int status;
    char problem[BLOCKING_PROBLEM]; // for people, when it failed
};

// POST. OK whatever the status is.
MUSTCHECK enum err blocking_post(struct blocking_call *call);
