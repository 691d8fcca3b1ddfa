// SPDX-License-Identifier: MIT
// What `thaw serve` shows of itself: the log on stderr and the access log through sinks, the admin listener.
#pragma once
#include "admin/admin.h"
#include "base/log.h"

struct outside {
    struct sink *log, *access;
    struct log_writer writer; // of `log`
    struct admin *admin;
    struct address address; // of the admin
    bool has_admin;
    int socket; // the admin's, inherited; -1: none
};

// What the configuration asks for is had, or it was said on stderr why not: EXIT_FINE, or how to exit. Before the workers.
// (The admin's default address is used where it is free.)
// `socket`: the admin's, inherited from the process before; -1: none.
int outside_claim(struct outside *o, const struct config *config, int socket);
// Beside the workers, which are there and do not run yet. `options` as the admin wants them, without listen and the sinks.
int outside_open(struct outside *o, const struct admin_options *options);
// What had to be said at the start is said: from now on no log line waits for anybody.
void outside_begin(struct outside *o);
// The admin's listening socket, -1: there is none.
int outside_socket(const struct outside *o);
// The files of the logs anew (logrotate).
void outside_reopen(struct outside *o);
// The workers do not run any more; their meters and shelves are there still. Accepts zeroed.
void outside_close(struct outside *o);
// The workers are gone: what they still said of requests that they cut has been taken.
void outside_finish(struct outside *o);
