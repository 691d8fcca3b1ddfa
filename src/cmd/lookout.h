// SPDX-License-Identifier: MIT
// Watches the workers' loops from another one: a turn that lasts is logged with the name of the callback it is in, and
// systemd's watchdog is told as long as all of them turn.
#pragma once
#include "base/count.h"
#include "cmd/notify.h"
#include "ev/loop.h"

enum { LOOKOUT_EVERY_MS = 500, LOOKOUT_LATE_MS = 500 };

struct lookout_options {
    struct loop *loop; // whose thread watches
    unsigned count;
    struct loop *(*watched)(void *owner, unsigned i); // outlive the lookout
    void *owner;
    const struct notify *notify;
    struct count *stalls; // counts turns that lasted longer than LOOKOUT_LATE_MS
};

struct lookout {
    struct lookout_options options;
    struct timer look;
    struct timer watchdog;
    uint64_t *stuck_ns; // of each loop: how long the turn has been going on that was logged; 0: none was
};

void lookout_open(struct lookout *l, const struct lookout_options *options);
void lookout_close(struct lookout *l); // accepts zeroed
