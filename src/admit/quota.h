// SPDX-License-Identifier: MIT
// What one client may do: requests a minute, tokens a minute, calls in flight. Rates by GCRA (the virtual scheduling
// algorithm of ITU-T I.371; one time per bucket, as a token bucket that holds one minute's worth): all three are taken or
// none, and what is refused costs nothing. For the process, under one lock; clients that have been quiet until their
// buckets are full again are forgotten, so that strangers cannot fill memory.
//
// Tokens are estimated when a call begins and settled when it ends. A lease is part of the call that holds it, and is
// given back with it: none can be lost (test_quota.c lives 100,000 lives).
#pragma once
#include "base/str.h"

struct quotas;
struct quotas *quotas_create(void);
void quotas_destroy(struct quotas *quotas); // no lease may be out

struct quota_rates { // 0: no limit
    unsigned requests_per_minute;
    uint64_t tokens_per_minute;
    unsigned in_flight;
};

struct quota_client; // inside

struct lease { // zeroed: holds nothing
    struct quotas *quotas;
    struct quota_client *client;
    uint64_t tokens; // as estimated
    struct quota_rates rates;
};

enum quota_answer { QUOTA_FINE, QUOTA_REQUESTS, QUOTA_TOKENS, QUOTA_IN_FLIGHT };

// As x-ratelimit-* has it; of what has no limit all are 0.
struct quota_look {
    uint64_t limit_requests, remaining_requests, reset_requests_ms;
    uint64_t limit_tokens, remaining_tokens, reset_tokens_ms;
    uint64_t retry_ms; // refused: when it would be let through
};

// Any thread. A call that asks for more tokens than a whole minute's is let through when the bucket is full. Where there
// is no memory for a new client: QUOTA_REQUESTS. Without any limit nothing is held, and nothing locked.
MUSTCHECK enum quota_answer quota_take(struct quotas *quotas, uint64_t client, const struct quota_rates *rates,
                                       uint64_t tokens, uint64_t now_ms, struct lease *lease, struct quota_look *look);
// It never happened: thaw refused it for another reason, or nothing was sent. All is given back. Accepts zeroed.
void quota_refund(struct lease *lease, uint64_t now_ms);
// It ended, and took so many tokens (UINT64_MAX: not known, the estimate stands). More than were estimated may put the
// bucket in debt, up to an hour's worth: what upstreams say is not believed beyond that. Accepts zeroed.
void quota_settle(struct lease *lease, uint64_t tokens, uint64_t now_ms);
unsigned quota_clients(struct quotas *quotas); // how many are remembered
