// SPDX-License-Identifier: MIT
#include "plan/burst.h"

#include <math.h>

#include "base/mem.h"

// The seats that calls take in turn: the call that sat `count` before has to have got up.
struct door {
    uint64_t *free_ns; // a ring
    size_t count;      // 0: there is room for all
    uint64_t hold_ns;
    size_t next;
};

static void door_init(struct door *d, const struct burst *b) {
    double whole = ceil(b->seats);
    size_t all = (size_t)b->users * b->calls;
    if (b->seats > 0 && whole < (double)all) {
        d->count = (size_t)whole;
        d->free_ns = xcalloc(d->count, sizeof *d->free_ns);
        d->hold_ns = (uint64_t)llround((double)b->service_ns * whole / b->seats);
    }
}

// When a call that is there at that time sits down.
static uint64_t door_pass(struct door *d, uint64_t there_ns) {
    if (d->count == 0) {
        return there_ns;
    }
    uint64_t *free_ns = &d->free_ns[d->next];
    uint64_t sits_ns = MAX(there_ns, *free_ns);
    *free_ns = sits_ns + d->hold_ns;
    d->next = (d->next + 1) % d->count;
    return sits_ns;
}

void burst_fill(const struct burst *b, struct burst_user *v) {
    struct door door = {0};
    door_init(&door, b);
    for (unsigned k = 0; k < b->users; k++) {
        const struct burst_user *before = b->requests && k >= b->requests ? &v[k - b->requests] : NULL;
        uint64_t came_ns = k * b->apart_ns;
        uint64_t in_ns = before ? MAX(came_ns, before->came_ns + before->done_ns) : came_ns;
        uint64_t sits_ns = in_ns;
        for (unsigned i = 0; i < b->calls; i++) {
            sits_ns = door_pass(&door, in_ns);
        }
        v[k] = (struct burst_user){came_ns, sits_ns - came_ns, sits_ns - came_ns + b->service_ns};
    }
    free(door.free_ns);
}

struct burst_sum burst_sum(const struct burst_user *v, unsigned users) {
    struct burst_sum s = {0};
    double sum_ns = 0;
    for (unsigned k = 0; k < users; k++) {
        s.waited += v[k].wait_ns > 0;
        s.wall_ns = MAX(s.wall_ns, v[k].came_ns + v[k].done_ns);
        s.longest_ns = MAX(s.longest_ns, v[k].wait_ns);
        sum_ns += (double)v[k].done_ns;
    }
    s.mean_ns = users ? (uint64_t)llround(sum_ns / users) : 0;
    return s;
}
