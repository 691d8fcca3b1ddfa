// SPDX-License-Identifier: MIT
// An HTTP call that blocks the thread it is made on until the answer is there, as most libraries make one: libcurl's
// easy interface, one handle and one connection a call. The one file that knows libcurl is blocking.c.
//
// The library is loaded when a lab is made, not when thaw starts: with all that it stands on it would cost the gateway
// 2.3 ms at its start and 4.5 MB (measured November 2026, Debian 12).
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

#include "base/buf.h"

enum { BLOCKING_PROBLEM = 300 };

struct blocking; // libcurl, loaded

// NULL: there is no libcurl on this machine, or it does not start; `problem` (BLOCKING_PROBLEM bytes) says which.
struct blocking *blocking_create(char *problem);
// After the last call. Accepts NULL.
void blocking_destroy(struct blocking *b);

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

// POST, from any thread. OK whatever the status is.
MUSTCHECK enum err blocking_post(const struct blocking *b, struct blocking_call *call);
