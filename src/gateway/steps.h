// SPDX-License-Identifier: MIT
// The map of the product: what a request passes through, in order.
#pragma once
#include "gateway/request.h"
#include "llm/peek.h"

struct step {
    const char *name;
    enum verdict (*run)(struct request *r);
};
extern const struct step steps[];
extern const unsigned step_count;

// Paths that thaw knows. Everything else below the prefix is relayed as it is.
struct route {
    struct str path; // behind the prefix if `prefixed`
    bool prefixed;
    bool ours;                               // thaw's own, and no upstream's with other methods
    bool below;                              // and all that lies below, `path` ends in /
    unsigned methods;                        // bits of 1 << enum method; others: relayed if prefixed, else 405
    bool open;                               // no key needed
    bool by_id;                              // none needed where tapes are read by their ids (tape.read)
    bool responses;                          // OpenAI's Responses API
    bool messages;                           // Anthropic's API: errors have its shape
    bool forms;                              // the body may be a form as well as JSON
    bool looked_at;                          // the body is read whole, looked at, and may be sent again
    void (*answer)(struct request *r);       // local; NULL: what `produce` starts writes a tape, or a call does
    enum verdict (*look)(struct request *r); // instead of peeking at the body for a model
    void (*produce)(struct request *r, struct tape *tape);
};

// NULL: there is nothing at this path.
const struct route *route_find(const struct config *config, struct str path, enum method method);
// Looks at the body of a call, the request's own or one of several; *targets is where it goes. False: answered; the
// error is about a member of `within` ("calls[2].body"), NULL: of the request's body.
MUSTCHECK bool steps_peek(struct request *r, struct str body, const char *within, struct peek *peek,
                          const struct targets **targets);
// What a peek at a body found in it.
struct call_places steps_places(struct str body, const struct peek *peek);
// What follows the path of a route that stands for all below it.
struct str route_below(const struct request *r);
