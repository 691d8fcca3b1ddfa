// SPDX-License-Identifier: MIT
// What POST /parallel asks for, out of its body:
//     {"calls": [{"id", "path", "body", "timeout"}, ...], "wait": "all" | "any" | {"first": k}, "deadline": "30s",
//      "on_error": "partial" | "fail", "stream": false}
// Strict: a member that is not known, or there twice, is refused by name. Times are written as in the configuration, or
// are numbers of seconds. Whether a path can be called, and what is in the bodies, is not looked at here.
#pragma once
#include "base/arena.h"

enum { PARALLEL_ID_MAX = 128, PARALLEL_PATH_MAX = 8 * 1024 };

struct parallel_call {
    struct str id;       // 1 to PARALLEL_ID_MAX bytes, another one for each call; where none is given its index
    struct str path;     // begins with '/', and has nothing that may not stand in a request line
    struct str body;     // its exact bytes in the text: an object
    uint64_t timeout_ms; // 0: none
};

struct parallel {
    struct parallel_call *calls;
    unsigned count;       // at least 1
    unsigned wanted;      // successes that end the wait: 1 to count
    uint64_t deadline_ms; // 0: none
    bool strict;          // "on_error": "fail"
    bool stream;
};

struct parallel_problem {
    int status;        // 400, 413, 422, 503
    const char *code;  // static
    char param[48];    // the member it is about, "calls[2].path"; may be empty
    char message[320]; // never quotes a body
};

// Ids, paths and the array are the arena's, bodies point into the text. False: *problem says why; with the code
// "invalid_json" without a message: peek_request knows where.
MUSTCHECK bool parallel_read(struct str text, unsigned calls_max, struct arena *arena, struct parallel *parallel,
                             struct parallel_problem *problem);
