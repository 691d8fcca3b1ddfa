// SPDX-License-Identifier: MIT
// One process handing its listening sockets to the next: this program's new binary, started with the same arguments by
// SIGUSR2; or systemd to the first one (sd_listen_fds(3)).
//
//     old: every loop knows that its descriptors are about to be shared -> starts the new one, with copies
//     new: takes them, opens its store, its workers accept -> says so through a pipe
//     old: drains and exits; or the new one ends before it said so, and the old one goes on
//
// Both accept from the same sockets for a moment, so no connection is refused, and none is lost in a backlog.
#pragma once
#include <sys/types.h>

#include "cmd/crew.h"

// ---- the new one

struct inherited {
    int sockets[CREW_SOCKETS_MAX];
    unsigned socket_count;
    int admin;                     // the admin's; -1: none
    int tell;                      // the old process waits at the other end; -1: none was there
    bool upgrade;                  // from an older thaw; else from systemd
    char *text;                    // what the old process told, and from it
    struct str listen, admin_text; // what those are the sockets of, as it was configured
};
// From the environment, whose variables about it are gone then. EXIT_FINE, or it was said on stderr what is wrong.
int inherit_take(struct inherited *in);
// What is configured now: sockets of other addresses are closed. What cannot be opened again by each of that many workers
// is made as many as they are.
void inherit_match(struct inherited *in, const struct config *config, unsigned workers);
// The address of the first one.
struct address inherit_address(const struct inherited *in);
// The old process may go. Nothing where there is none.
void inherit_tell(struct inherited *in);
void inherit_finish(struct inherited *in);

// ---- the old one

struct upgrade_options {
    struct loop *loop; // whose thread does it
    struct crew *crew;
    int admin;                   // the admin's listening socket; -1: there is none
    const struct config *config; // what the process was started with
    void (*on_serving)(void *owner, pid_t pid);
    void *owner;
};

struct upgrade {
    struct upgrade_options options;
    enum upgrade_state { UPGRADE_NONE, UPGRADE_ASKED, UPGRADE_STARTED, UPGRADE_DONE } state;
    struct message aware; // all workers know
    struct io said;       // from the new one
    struct timer patience;
    pid_t pid;
};

void upgrade_open(struct upgrade *u, const struct upgrade_options *options);
void upgrade_close(struct upgrade *u); // a process that has not said anything yet is ended. Accepts zeroed.
void upgrade_now(struct upgrade *u);   // failures are logged
