// SPDX-License-Identifier: MIT
// When to try again, and whether: exponential with full jitter (Brooker, "Exponential Backoff And Jitter", 2015), what
// the upstream asks for (retry-after-ms, then Retry-After in seconds or as a date, RFC 9110 section 10.2.3), and a budget:
// of all calls at most a tenth may be second tries, so that an upstream in trouble is not given more of it. No I/O.
#pragma once
#include "base/fields.h"

enum { RETRY_FIRST_MS = 500, RETRY_MOST_MS = 8000, RETRY_AFTER_MOST_MS = 60 * 1000 };

// One for each upstream of each worker.
struct retry_budget {
    uint32_t credit; // in tenths of a try; at most RETRY_CREDIT_MOST
};
enum { RETRY_CREDIT_MOST = 100, RETRY_CREDIT_FIRST = 30 };
void retry_budget_init(struct retry_budget *b);
void retry_budget_call(struct retry_budget *b);           // a client's call: a tenth more
MUSTCHECK bool retry_budget_take(struct retry_budget *b); // a second try: false, there is none left

// Is this an answer after which to ask again? 408, 409, 429 and 5xx but 501 and 505.
bool retry_is_for(int status);
// What the upstream asks for in its head, as it says; more than RETRY_AFTER_MOST_MS is not waited for. Seconds and
// milliseconds may have a fraction. False: nothing that is understood. now_s: Unix, for dates.
MUSTCHECK bool retry_after(const struct fields *fields, uint64_t now_s, uint64_t *wait_ms);
// The wait before try `n` (from 1), between 0 and RETRY_FIRST_MS << (n - 1), at most RETRY_MOST_MS; `random` is any.
uint64_t retry_backoff_ms(unsigned n, uint32_t random);
