// SPDX-License-Identifier: MIT
// What a call asks for: kept until the answer begins, so that it can be sent again, to another upstream too. The body is
// either all there (looked at) or passes through.
#pragma once
#include "gateway/setup.h"

struct call_owner {
    void (*on_room)(void *owner); // call_upload takes more
    void (*on_over)(void *owner); // the call takes nothing any more; its pointer is void
};

// Where a body says what thaw says in its own words; 0: nowhere.
struct call_places {
    uint32_t model_at, model_len; // the model's name, with its quotes
    uint32_t true_at;             // a `true` that is sent as `false`
};

struct asked {
    char *packed;    // target's length, target, fields
    struct buf body; // kept: all of it; streamed: what the upstream could not take yet
    union {
        struct {         // kept
            size_t sent; // bytes of it, as rewritten, taken by the upstream
            struct call_places places;
        };
        struct {              // streamed
            int64_t body_len; // as the client announced it
            const struct call_owner *owner_events;
            void *owner; // the body's source; NULL: gone
        };
    };
    enum method method;
    bool streamed;
    bool uploaded; // streamed: bytes of it are gone, it cannot be sent again
    bool upload_done;
};

struct call_request;

// False: no memory for the body.
MUSTCHECK bool asked_init(struct asked *a, struct setup *s, const struct call_request *request);
void asked_finish(struct asked *a);
// The answer begins: what was asked is not needed any more, but what is still being streamed.
void asked_forget(struct asked *a);
static inline bool asked_again(const struct asked *a) { return a->packed && (!a->streamed || !a->uploaded); }
// Sends the head. time_left_ms: what the client's own deadline leaves; 0: it set none.
void asked_send_head(struct asked *a, struct setup *s, const struct target *target, uint64_t time_left_ms,
                     struct xchg *up);
// Sends what it can of the body. True: all of it is sent.
MUSTCHECK bool asked_send_body(struct asked *a, const struct target *target, struct xchg *up);
