// SPDX-License-Identifier: MIT
// The access log: one line of JSON for each request, when it has ended. docs/admin.md says what each member means. Nothing
// that a client keeps secret is in it: no key (of one of ours the first 8 digits of its SHA-256), no query, no body, and
// of a tape's id in a path, which is a key where tapes are read by id, the beginning only.
//
// Without a log a request pays a branch here and there. With one it has a `struct access`, and its call a `struct trail`,
// which both have a share in: either may end first.
#pragma once
#include <stdbool.h>

#include "base/buf.h"
#include "net/digest.h"

struct access;
struct request;

// What a call has to tell. Times are 0 where it did not come to that.
struct trail {
    unsigned references;
    unsigned attempts;
    char upstream[64]; // the last one that was asked
    char trace[33];
    uint64_t waits_ns;    // since when it waits for its turn
    uint64_t queued_ns;   // waited for it, in all
    uint64_t sent_ns;     // the last attempt was sent (its head, and as much of its body as there was)
    uint64_t answered_ns; // its answer's head came
    uint64_t upstream_ns; // answered_ns - sent_ns
    uint64_t own_ns;      // thaw's own: gateway/meter.h, `before` and `after`
    bool settled;         // own_ns has both
};
struct trail *trail_create(void);
static inline struct trail *trail_ref(struct trail *t) {
    t->references += t != NULL;
    return t;
}
void trail_unref(struct trail *t); // accepts NULL

// r->access, or NULL where there is no log. From its head; ended by access_end, which writes the line if `written`, and
// which is called only where there is one.
struct access *access_begin(struct request *r);
void access_end(struct request *r, bool written);

// What is learnt on the way; nothing without a log.
void access_set_model(struct request *r, struct str model);
void access_set_key(struct request *r, const struct digest *key, struct str client_name); // name empty: has none
void access_set_status(struct request *r, int status);
void access_add_bytes(struct request *r, size_t in, size_t out);
// Its call's; a reference with it. NULL: none.
struct trail *access_trail(struct request *r);
