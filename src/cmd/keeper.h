// SPDX-License-Identifier: MIT
// The life of `thaw serve` beside its calls, on a thread of its own that is never busy: signals, reloads, the upgrade,
// systemd, and an eye on the workers' loops.
//
//     SIGHUP            the configuration is read again; so it is when its file changes
//     SIGTERM, SIGINT   drains; a second one stops at once
//     SIGUSR1           logs are opened again (and by SIGHUP)
//     SIGUSR2           the binary on disk takes over, this process drains
#pragma once
#include "cmd/reload.h"
#include "cmd/upgrade.h"

struct keeper_options {
    struct crew *crew;
    const char *config_file;      // NULL: none
    struct digest config_seen;    // reload_digest
    struct blueprint *start;      // what the process was started with
    const struct address *listen; // for people
    int admin;                    // the admin's listening socket; -1: none
    enum err (*make)(void *owner, struct blueprint **blueprint, char *problem, size_t size); // see reload.h
    void (*reloaded)(void *owner, struct config *config); // on the keeper's thread; NULL: nobody wants to know
    void (*reopen)(void *owner);                          // the files of the logs; NULL: there are none
    void *owner;
};

struct keeper;
// A process that is still starting is not ended by what will mean something else: SIGHUP, SIGUSR1 and SIGUSR2 wait for
// the keeper from now on. Before there are threads.
void keeper_prepare(void);
// Signals are blocked in the calling thread and those it starts from now on; to be called before crew_run. EXIT_FINE, or
// it was said on stderr why not.
int keeper_open(struct keeper **keeper, const struct keeper_options *options);
// Signals are not heard any more; wishes are heard, and not granted.
void keeper_stop(struct keeper *keeper);
// Once the crew has run, before it is closed. Accepts NULL.
void keeper_close(struct keeper *keeper);

// As SIGHUP and the first SIGTERM. Any thread, also before the last such wish was carried out.
void keeper_reload(struct keeper *keeper);
void keeper_drain(struct keeper *keeper);
