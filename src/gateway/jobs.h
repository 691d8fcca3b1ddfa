// SPDX-License-Identifier: MIT
// Answers that outlive the process: with a `store`, jobs (Prefer: respond-async, background: true) are acknowledged
// only once the disk has them, and every kept tape is written there when it ends. After a restart a finished one is
// read from the store; one that ran is marked interrupted and, where its route says `rerun`, run again under its id.
#pragma once
#include "gateway/worker.h"
#include "store/store.h"

struct request;

// Opens the store that the configuration names; *store stays NULL where there is none. Fills the table of keys with
// what is in it, and *interrupted with the jobs that ran when the last process ended. Before the workers.
// `beside`: the process that this one takes over from still has it.
MUSTCHECK enum err jobs_open(const struct config *config, bool beside, struct shelves *shelves, struct store **store,
                             struct list *interrupted, char problem[STORE_PROBLEM_MAX]);
// Interrupted jobs that no worker was given.
void jobs_drop(struct list *interrupted);

// A worker writes what ends on its shelf. The one that is given the interrupted jobs (the others: NULL) runs them
// again, and sweeps.
void jobs_start(struct worker *w, struct list *interrupted);
void jobs_stop(struct worker *w);

// Before a job's call is started on its tape: writes it down. False: answered, it cannot be. With r->resume->job the
// request waits, and is answered or begins to read as soon as it is certain; without a store it need not wait. Where the
// disk refuses it the call is stopped and the client told, if it is still there.
MUSTCHECK bool jobs_begin(struct request *r, struct tape *t);
// A call that runs for somebody else becomes a job, too: `request` is what was asked, by jobs_pack. On the thread of its
// shelf; whether the disk has it is found out by jobs_find afterwards, from any worker.
void jobs_adopt(struct worker *w, struct tape_kept *kept, struct str request);
// Initialises `out`, also when it fails.
MUSTCHECK enum err jobs_pack(const struct request *r, struct buf *out);
// 503: it was not stored.
void jobs_refuse(struct request *r, const char *problem);
// Looks for an id in the store; `then` gets the record, valid until it returns, or NULL: there is none, or none of
// this request's tenant. False: there is no store.
typedef void jobs_then(struct request *r, const struct store_record *record);
MUSTCHECK bool jobs_find(struct request *r, const struct tape_id *id, jobs_then *then);
// A job whose answer the store does not have: it runs, was interrupted, or its end could not be stored.
static inline bool jobs_unfinished(const struct store_record *record) {
    return record->state == STORE_RUNNING || record->state == STORE_INTERRUPTED;
}
// Answers a request for a job that runs in the process which this one has taken over from: 503, and when to ask again.
// False: it is none.
bool jobs_elsewhere(struct request *r, const struct store_record *record);
// A record as a tape that has ended; one reference. It is on no shelf and lives as long as its readers.
struct tape *jobs_restore(struct worker *w, const struct store_record *record);
// A tape is to be forgotten: by the store as well.
void jobs_forget(struct worker *w, const struct tape_id *id);
// The request goes; what was asked of the store for it is not waited for any more.
void jobs_leave(struct request *r);

// The record of r->resume->id is not of something that has ended, and by now there is a tape of that id in memory: look
// there again. Says so a few times only.
MUSTCHECK bool jobs_runs_again(struct request *r, const struct store_record *record);
// A job that is run again has a new place and keeps its id: where that one leads, or `id` itself.
struct tape_id jobs_place(const struct worker *w, const struct tape_id *id);
// Gives a tape such an id.
void jobs_name(struct tape_kept *kept, const struct tape_id *id);
