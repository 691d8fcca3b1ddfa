// SPDX-License-Identifier: MIT
// The five ways to run a slow call, side by side: each a route of one small server, and each a real one. Where the way
// blocks, a thread blocks in a blocking HTTP call; where it waits for a lock, a thread waits for a pthread mutex.
//
//   POST /to_thread         the default pool, min(32, cpus + 4) threads
//   POST /executor          a pool of its own, of a chosen size
//   POST /async             thaw's own client on the loop: no thread waits
//   POST /bad/global_lock   the default pool, and one lock around the call
//   POST /bad/global_flag   the default pool, and one flag that waiters look at again and again
//   GET  /                  what there is        GET /healthz   alive, with the loop's lag
//   GET  /seats             who sits where now
//
// The server itself is on the loop and answers whatever the pools are doing: it is the users behind them who wait.
#pragma once
#include "http/server.h"
#include "net/tls.h"

enum { LAB_USER_MAX = 64, LAB_CALLS_MAX = 32 };

// Where the slow calls go: OpenAI's chat completions. All of it outlives the lab.
struct lab_upstream {
    const char *url; // of the endpoint, for the blocking ways
    struct str host; // the same in parts, for /async
    uint16_t port;
    struct tls_client *tls; // NULL: plain
    const char *authority;
    const char *path;
    const char *authorization; // the field's value; NULL: none
    const char *model;         // NULL: a thaw mock, whose models mock-5000ms take what time is asked for
};

struct lab_options {
    struct lab_upstream upstream;
    unsigned default_threads;  // executor_default_threads(cpus)
    unsigned executor_threads; // of /executor
    uint64_t service_ms;       // of a call that says nothing of ?seconds=; where `model` is NULL
    uint64_t poll_ms;          // how often a waiter looks at the flag; 0: 100
    bool log_users;            // a line on stderr for each user's coming and going
};

struct lab;

// NULL: its threads could not be made, or libcurl is not there; said on stderr.
struct lab *lab_create(struct loop *loop, const struct lab_options *options);
// Breaks off what is open, gives up the calls that are being made (within a second) and ends the threads. Turns the
// loop meanwhile: not to be called in a callback. Accepts NULL.
void lab_destroy(struct lab *lab);
// Serves a connection from a listener. As http_server_accept.
void lab_accept(struct lab *lab, struct conn *take_conn);
