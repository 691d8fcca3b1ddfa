// SPDX-License-Identifier: MIT
// What is seen from outside, on a loop and a thread of its own: metrics, states, a page, and the few things that can be
// asked for. It answers while the workers are full or stuck: what it tells it reads from their meters (gateway/meter.h),
// what it is asked for it passes on, and waits for neither.
//
// On loopback anybody on the machine may ask, but no web page: a Host that is a name (which could be made to lead here)
// is refused, a POST needs `X-Thaw-Admin: 1` or a JSON body, and pages of other origins get nothing. Elsewhere one of the
// configuration's keys is needed.
//
// docs/admin.md has the paths and what they tell.
#pragma once
#include "admit/breaker.h"
#include "admit/gate.h"
#include "config/config.h"
#include "gateway/meter.h"
#include "gateway/setup.h"
#include "net/conn.h"
#include "tape/shelf.h"
#include "work/sink.h"

struct admin;
struct admin_options {
    const struct address *listen;
    int socket;            // inherited, instead of one of its own; taken. -1: none
    struct config *config; // for its keys, where `listen` is not on loopback; a reference is taken
    struct meters *meters;
    struct shelves *shelves;
    const struct commons *commons;
    struct sink *access, *log; // NULL: none
    // On the admin's thread, any number of times: they pass it on (loop_post). NULL: cannot be asked for.
    void (*on_drain)(void *owner);
    void (*on_reload)(void *owner);
    void *owner;
};

// What it was given outlives it. ERR_FULL: the address is in use.
MUSTCHECK enum err admin_open(const struct admin_options *options, struct admin **admin);
// The listening one, for a successor.
int admin_socket(const struct admin *admin);
void admin_close(struct admin *take_admin); // accepts NULL
// After a reload. Any thread.
void admin_configure(struct admin *admin, struct config *config);
