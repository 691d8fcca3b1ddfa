// SPDX-License-Identifier: MIT
// The workers of `thaw serve` and their threads; the first one runs on the thread that calls crew_run.
#pragma once
#include "gateway/worker.h"

enum { CREW_MAX = 256, CREW_SOCKETS_MAX = 256 };

struct crew_options {
    struct blueprint *blueprint;  // the crew takes a reference
    unsigned count;               // workers, up to CREW_MAX
    const struct address *listen; // each listens there, unless there is
    const int *sockets;           // what was inherited: shared out among the workers, taken
    unsigned socket_count;        // up to CREW_SOCKETS_MAX; workers beyond have sockets of their own in the same group
    struct pressure *pressure;    // of the process; NULL: none
    struct sink *access;          // the access log; NULL: none
    bool beside;                  // the process that this one replaces still has the store
};

struct crew;
// EXIT_FINE, or how to exit: why was said on stderr, and *crew is to be closed nevertheless.
int crew_open(struct crew **crew, const struct crew_options *options);
// Until all workers have drained, or were stopped.
void crew_run(struct crew *crew);
// Accepts NULL. Nobody may ask the crew for anything any more.
void crew_close(struct crew *crew);

unsigned crew_count(const struct crew *crew);
struct loop *crew_loop(struct crew *crew, unsigned worker);
struct commons *crew_commons(struct crew *crew);
struct meters *crew_meters(struct crew *crew);
struct shelves *crew_shelves(struct crew *crew);
// What the workers accept from, before they drain. How many.
unsigned crew_sockets(const struct crew *crew, int sockets[CREW_SOCKETS_MAX]);

// From one thread that is none of the crew's; each is carried out on the loops of all workers, later.
void crew_drain(struct crew *crew); // for as long as the configuration says
void crew_stop(struct crew *crew);
void crew_reload(struct crew *crew, struct blueprint *blueprint);
// See loop_share_files. `done` (NULL: nobody waits) is posted to `back` when every loop knows; one at a time.
void crew_share_files(struct crew *crew, bool shared, struct loop *back, struct message *done);
