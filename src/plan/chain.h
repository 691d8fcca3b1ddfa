// SPDX-License-Identifier: MIT
// What a request passes before it is answered: platform, workers, pool, connections, database, upstream. Each link lets
// so many through at once; what the whole lets through is what its smallest link does, and the wait is in front of that
// one (bottleneck analysis; Denning, Buzen 1978). A link counts requests (a Puma thread, a platform's concurrency) or
// calls to the upstream (a thread of asyncio.to_thread, a connection), of which a request may make several in parallel,
// and there is one of it in each worker process, in each instance, or in all.
//
// A limit in calls or tokens per minute is a link as well: calls that take T and come at most R a minute are R T / 60 at
// once (Little 1961); K tokens a minute, of k each, K T / (60 k).
#pragma once
#include <stdbool.h>

#include "base/attr.h"

enum link_kind {
    LINK_PLATFORM,
    LINK_WORKERS,
    LINK_POOL,
    LINK_CONNECTIONS,
    LINK_DATABASE,
    LINK_UPSTREAM,
    LINK_REQUESTS_PER_MINUTE,
    LINK_TOKENS_PER_MINUTE,
};
enum link_unit { OF_REQUESTS, OF_CALLS };
enum link_scope { EACH_WORKER, EACH_INSTANCE, IN_ALL };

struct preset;

struct link {
    enum link_kind kind;
    enum link_unit unit;
    enum link_scope scope;
    double seats;                // of one of them; 0: no limit
    char name[48];               // "asyncio.to_thread"
    char number[80];             // where the count comes from: "min(32, 2 + 4)", "--pool 6"
    const struct preset *preset; // NULL: given by number
};

// What a time limit counts.
enum limit_kind {
    LIMIT_ANSWER,  // from coming to done: wait and service
    LIMIT_WAIT,    // the wait for a seat of its own link; where that is not the smallest, nobody waits there
    LIMIT_SERVICE, // the service alone
};

struct limit {
    enum limit_kind kind;
    enum link_kind at; // LIMIT_WAIT: of which link
    uint64_t ms;
    const char *name;
};

enum { CHAIN_MOST = 24, CHAIN_NONE = CHAIN_MOST };

struct chain {
    struct link links[CHAIN_MOST]; // in the order of enum link_kind
    unsigned count;
    struct limit limits[CHAIN_MOST];
    unsigned limit_count;
    unsigned workers;   // processes of an instance, 1 or more
    unsigned instances; // 1 or more
    unsigned calls;     // of a request, in parallel; 1 or more
};

// Puts it in its place; false where the chain is full.
MUSTCHECK bool chain_add(struct chain *c, const struct link *link);
MUSTCHECK bool chain_add_limit(struct chain *c, const struct limit *limit);
// The first of that kind, or NULL.
struct link *chain_find(struct chain *c, enum link_kind kind);

// Of all workers and instances; 0: no limit.
double link_seats(const struct chain *c, const struct link *link);
// The users at once that this leaves; INFINITY: no limit. May be a fraction: five calls on six seats are 1.2 users.
double link_users(const struct chain *c, const struct link *link);
// The link that lets the fewest users through, of several the first; CHAIN_NONE where none has a limit.
unsigned chain_smallest(const struct chain *c);
// The same without one of them, which may be CHAIN_NONE.
unsigned chain_smallest_but(const struct chain *c, unsigned but);
// The smallest seats of the links that count so; 0: no limit.
double chain_seats(const struct chain *c, enum link_unit unit);

// "pool": in JSON; "platform", "requests per minute": for people.
const char *link_kind_name(enum link_kind kind);
const char *link_kind_words(enum link_kind kind);
// "answer", "wait", "service"
const char *limit_kind_name(enum limit_kind kind);
