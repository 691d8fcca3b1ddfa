// SPDX-License-Identifier: MIT
// Everything that is foretold of a chain of links, users and a time: the arithmetic of burst.h and queue.h, put
// together. Numbers in, numbers out; report.h says them.
#pragma once
#include "plan/burst.h"
#include "plan/chain.h"
#include "plan/queue.h"

struct question {
    struct chain chain;
    uint64_t service_ns;  // of a call; more than 0
    unsigned users;       // who come at once; 1 or more
    uint64_t apart_ns;    // or so long after one another
    uint64_t think_ns;    // of a user between two requests
    double rate;          // of users, a second, who come by chance; 0: was not asked for
    double cv;            // coefficient of variation of the calls' times; 1 makes Erlang C of it
    const char *platform; // whose admission is compared with what the app serves, a preset's name for people; or NULL
    const char *scaling;  // what its autoscaler looks at, or NULL
    unsigned admits;      // of an instance; 0: no limit
};

// Those who are lost to one of chain.limits.
struct loss {
    unsigned lost; // of question.users
    unsigned most; // users at once of whom none is lost; UNLIMITED_USERS: it never comes to that
};
#define UNLIMITED_USERS UINT32_MAX

// How it goes when users come by chance, at some rate.
struct arrivals {
    double rate; // users a second
    struct queue_wait wait;
};

enum { FORECAST_RATES = 5 };

struct forecast {
    unsigned smallest;    // of chain.links, or CHAIN_NONE: nothing is limited, and what follows up to `v` is 0
    unsigned at_once;     // calls
    double users_at_once; // 1.2: six seats for five calls each
    double capacity;      // users a second, at most
    unsigned knee_users;  // who ask, think, ask again, and need not wait

    struct burst_user *v; // of the users, in the order in which they are served
    struct burst_sum sum;
    struct loss losses[CHAIN_MOST];               // of chain.limits
    struct arrivals arrivals[FORECAST_RATES + 1]; // 50 to 95 % of the capacity; last the rate asked for
    unsigned arrival_count;
    struct queue_bounds bounds; // of `users` who think for think_ns

    double seats_wanted; // of the smallest link, so that nobody waits: of all workers and instances
    unsigned set_to;     // the same for one of them; what its `fix` says
    unsigned rate_seats; // so that at `rate` the mean wait is a tenth of the service; 0: no rate was asked for
    unsigned next;       // the smallest link when that one is out of the way, or CHAIN_NONE
    unsigned serves;     // users at once of one instance, its platform's admission aside; 0: no limit
    unsigned silent;     // who wait in there while the platform sees nothing; 0: nobody, or there is no platform
};

void forecast_init(struct forecast *f, const struct question *q);
void forecast_finish(struct forecast *f);
// The first of chain.limits that user k (from 0) is lost to, or NULL.
const struct limit *forecast_loss(const struct forecast *f, const struct question *q, unsigned k);
