// SPDX-License-Identifier: MIT
// A worker: one thread's loop and everything on it. Workers share nothing but the read-only configuration; the only
// way in from another thread is loop_post (worker_drain, worker_stop).
#pragma once
#include <time.h>

#include "admit/pressure.h"
#include "base/pool.h"
#include "gateway/meter.h"
#include "gateway/setup.h"
#include "http/server.h"
#include "net/listen.h"
#include "store/store.h"
#include "tape/shelf.h"

struct worker_options {
    struct blueprint *blueprint;              // the worker takes a reference
    struct commons *commons;                  // of all workers; NULL: this one is alone and makes its own
    struct shelves *shelves;                  // likewise
    unsigned number;                          // its shelf's and its meter's
    struct meters *meters;                    // of all workers; NULL: this one counts for itself
    struct sink *access;                      // of the access log; NULL: none. Outlives the workers
    struct clock *clock;                      // NULL: the monotonic clock
    const struct address *listen;             // NULL: no listener (tests bring their own connections)
    const int *sockets;                       // instead of one of its own: what it accepts from; taken
    unsigned socket_count;                    // 0: it makes its own
    struct conn *(*mock_connect)(void *mock); // for upstreams whose URL is `mock`
    void *(*mock_create)(struct loop *loop);
    void *(*mock_context)(void *mock, struct str upstream); // what mock_connect gets for that one; NULL: the mock
    void (*mock_destroy)(void *mock);
    const char *dns_servers;   // NULL: the system's
    struct store *store;       // of all workers; NULL: none. Outlives their loops' last turn
    struct pressure *pressure; // of all workers; NULL: no limits. Outlives the worker
    struct list *interrupted;  // jobs that this worker runs again (gateway/jobs.h), or NULL
};

struct worker {
    struct loop loop;
    struct setup *setup;         // the current one
    struct list setups;          // with those that calls still hold
    const struct config *config; // the current one's
    struct commons *commons;
    struct http_server server;
    struct http_client client;
    struct listener listener;
    struct listener *others; // where it inherited several
    unsigned other_count;
    struct shelves *shelves;
    struct shelf shelf;
    struct store *store;
    struct list reruns;     // jobs to be run again
    struct timer sweep;     // of the store
    struct store_op beside; // what the process before has left unfinished
    struct timer beside_look;
    struct xchg nobody; // the client of a request that has none
    struct buf events;  // of an event stream with ids, for the time of one call_on_body
    struct dns *dns;
    struct worker_options options;
    void *mock;
    struct pool request_pool;
    struct pool call_pool;
    struct list requests;
    unsigned in_flight; // requests between head and end
    struct pressure_gauge gauge;
    uint64_t grown;               // bytes kept for slow readers since the memory was measured for that
    struct timer watch;           // while anything is in flight: looks at the memory (room.h)
    uint64_t serial;              // of requests, for ids
    char id_prefix[14];           // "thaw-1a2b3c4d-", random, so that ids of workers and restarts differ
    struct field *scratch;        // for building heads: limits.fields + HEAD_EXTRA
    struct field *answer_scratch; // likewise, of a head that goes on a tape, whose readers build theirs
    time_t date_second;           // of `date`
    char date[32];
    time_t logged_second; // of `logged`, for the access log
    char logged[24];
    struct timer drain; // while draining: looks whether everything is done
    uint64_t drain_until_ms;
    bool idle;       // drained
    bool drain_over; // the time is up, clients are being told
    struct meters *meters;
    struct meter *meter; // its own
};

enum { HEAD_EXTRA = 16 };

// The shelves for that many workers.
struct shelves *worker_shelves(const struct config *config, unsigned workers);
MUSTCHECK enum err worker_init(struct worker *w, const struct worker_options *options);
// Ends everything that is open; the requests' outcome is SHUTDOWN.
void worker_finish(struct worker *w);
static inline void worker_run(struct worker *w) { loop_run(&w->loop); }

// Requests that begin from now on go by this one. What only a restart can take over (config_needs_restart) stays as it
// was. Loop's thread only.
void worker_reload(struct worker *w, struct blueprint *blueprint);
// What an upstream that is the built-in mock connects to.
void *worker_mock(struct worker *w, struct str upstream);
// No new connections; running requests are finished, for at most drain_ms; then worker_run returns. Loop's thread only.
void worker_drain(struct worker *w, uint64_t drain_ms);
// The time for a Date field (RFC 9110 section 6.6.1); valid until the next call.
struct str worker_date(struct worker *w);
// The fields array for building one head; empty, valid until the next call.
struct fields worker_scratch(struct worker *w);
// Adds to such an array: it has HEAD_EXTRA more places than a received head may have fields.
static inline void worker_push(struct fields *fields, const struct field *field) {
    enum err e = fields_push(fields, field);
    (void)e;
}
static inline void worker_add(struct fields *fields, struct str name, struct str value) {
    enum err e = fields_add(fields, name, value);
    (void)e;
}
