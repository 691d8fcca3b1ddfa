// SPDX-License-Identifier: MIT
// What survives a restart: jobs that were acknowledged and tapes that have ended, each a record under the tape's id.
// One store per process (and one process per store, but while one takes over from another), used from every loop. Nothing here waits: what is asked is copied into a queue, one thread
// does what has come together in one transaction, and each result is told on the loop that asked, after the disk has
// it. See docs/internals/store.md.
#pragma once
#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

struct loop;
struct store;

enum { STORE_ID_MAX = 64, STORE_DIGEST = 32, STORE_PROBLEM_MAX = 512 };

// The numbers are the file's.
enum store_state {
    STORE_RUNNING,     // an acknowledged job; never expires while it is that
    STORE_WHOLE,       // how a tape ended
    STORE_CUT,         //
    STORE_CANCELLED,   //
    STORE_INTERRUPTED, // was running when the last process ended
};

// Strings are borrowed.
struct store_record {
    struct str id;                      // of the tape; 1 to STORE_ID_MAX bytes
    unsigned char tenant[STORE_DIGEST]; // digests, all zero where there is none: who asked,
    unsigned char key[STORE_DIGEST];    // tenant and Idempotency-Key,
    unsigned char asked[STORE_DIGEST];  // what was asked
    enum store_state state;
    uint64_t created_s; // Unix seconds
    uint64_t expires_s; // of a running job: created_s plus how long its answer is to be kept
    int status;
    struct str request; // bytes of the caller's own making: what was asked, of jobs,
    struct str head;    // the answer's head,
    struct str body;    // all its bytes,
    struct str marks;   // and where its events begin
    struct str error;   // why it was cut: err_name of an error, the name of a reason, a sentence
    struct str reason;
    struct str problem;
    bool elsewhere; // as read: it is RUNNING in another process
};

struct store_options {
    struct str url;    // "sqlite:///absolute/path" or "sqlite://relative/path"; made if it is not there, mode 0600
    uint64_t now_s;    // Unix seconds
    uint64_t file_max; // bytes that the file may have; 0: what the disk has
    bool beside;       // another process may have it as well: the one that this one takes over from
    size_t queue_max;  // bytes that wait to be written or were read and not yet taken; 0: STORE_QUEUE_MAX
};
enum { STORE_QUEUE_MAX = 64 << 20, STORE_OPS_MAX = 4096 };

// Opens the file or makes it, brings an older format up to this one, and marks jobs of processes that have ended, and which
// were running, as interrupted, to be kept from now on for as long as their answer would have been. On an error `problem` is a sentence that says
// what to do: ERR_INVALID (the URL; a file that is not a store, or a newer thaw's), ERR_DISK (full), ERR_SYS (all else:
// another process has it, it may not be written, it is damaged).
MUSTCHECK enum err store_open(const struct store_options *options, struct store **store,
                              char problem[STORE_PROBLEM_MAX]);
// Does everything that was asked for, then closes; results not told yet still come, on loops that must outlive this
// call. Accepts NULL.
void store_close(struct store *s);

// Every record that has not expired by options->now_s, without request, head, body and marks, in the order they were
// first written. On the
// caller's thread, between store_open and the first other call. Fails where the file is damaged.
MUSTCHECK enum err store_each(struct store *s, void (*on_record)(void *context, const struct store_record *record),
                              void *context, char problem[STORE_PROBLEM_MAX]);

// Someone who waits for a result; embedded in its owner. The store touches it on `loop`'s thread only.
struct store_op {
    struct loop *loop;
    void (*on_done)(struct store_op *op); // may free the op
    enum err result;
    const char *problem;        // constant sentence for people, NULL for OK
    struct store_record record; // of store_load when OK; valid until on_done returns
    struct store_task *task;    // the store's; NULL when nothing is under way
};

// From any thread, with an op on op->loop's; what one thread asks is done in the order it asked. An error other than OK means that nothing
// happens and on_done does not come: ERR_FULL (STORE_OPS_MAX or queue_max are waiting), ERR_NOMEM, ERR_INVALID (an id
// that cannot be). Results are OK or ERR_DISK (full; nothing of this one was kept, and nothing else is lost), ERR_SYS,
// ERR_NOMEM.
//
// Writes the record whole, over the one of its id: a job that begins, a tape that has ended. on_done(OK): it is on the
// disk, kill -9 and power cuts included. Without an op a failure is only counted and logged.
MUSTCHECK enum err store_put(struct store *s, struct store_op *op, const struct store_record *record);
// Also ERR_MISSING, and ERR_FULL where what it reads is over queue_max with all else that waits. A record is there
// until a sweep finds it expired.
MUSTCHECK enum err store_load(struct store *s, struct store_op *op, struct str id);
// OK whether it was there or not. Its bytes are overwritten in the file.
MUSTCHECK enum err store_forget(struct store *s, struct store_op *op, struct str id);
// Marks a running job of another process that has ended as interrupted; the record has nothing but its id. Also ERR_AGAIN:
// there is none, but such a process; ERR_MISSING: nor that, and none will come.
MUSTCHECK enum err store_interrupt(struct store *s, struct store_op *op, uint64_t now_s);
// on_done will not come; the op may be freed. What was asked for is done nevertheless. On op->loop's thread; nothing
// where nothing is under way.
void store_cancel(struct store_op *op);

// Deletes what has expired by now_s and gives free space back, a bounded piece at a time, between what else is asked.
// To be called every minute or so, also once after store_each.
void store_sweep(struct store *s, uint64_t now_s);

struct store_stats {
    unsigned queued;  // asked for and not begun
    size_t bytes;     // of queue_max
    uint64_t commits; // transactions that came to their end
    uint64_t refused; // calls and reads that were ERR_FULL
    uint64_t failed;  // results that were errors, but ERR_MISSING
};
struct store_stats store_stats(struct store *s);
