// SPDX-License-Identifier: MIT
// The tape: an upstream's answer as it is recorded, and its readers. A call writes head, bytes, an end; each reader
// has a position and takes what it can. See docs/internals/tape.md.
//
// Bytes are offered to the readers as they come and copied only where somebody still wants them: a reader that could
// not take all, or the tape being kept. A tape that is not kept holds at most `window` bytes plus one append for its
// slowest reader; from then on tape_full tells the writer to stop until on_room.
#pragma once
#include "base/fields.h"
#include "base/list.h"
#include "base/mem.h"

struct iovec;

enum tape_end {
    TAPE_RUNNING,
    TAPE_WHOLE,     // the answer is complete
    TAPE_CUT,       // the upstream failed: before the head, or in the middle
    TAPE_CANCELLED, // nobody wanted it any more
};

enum { TAPE_WINDOW = 64 * 1024 };

struct tape_head {
    int status;
    struct fields fields; // borrowed
    int64_t body_len;     // bytes, or -1
};

struct tape;
struct tape_chunk;

struct tape_events {
    void (*on_room)(struct tape *t);      // a tape that was full may be written to again
    void (*on_abandoned)(struct tape *t); // the last reader left before the end
};

struct tape {
    unsigned references;
    enum tape_end end;
    bool kept; // nothing is dropped while the tape lives
    bool full;
    bool has_head;
    int status;
    uint64_t written; // bytes so far
    struct tape_chunk *first, *last;
    struct list readers;
    const struct tape_events *events; // of the writer; NULL once it has let go
    void *writer;
    char *head; // packed, of kept tapes
    int64_t body_len;
    // Why it was cut: as an error, in the writer's own terms, and for people.
    enum err error;
    int reason;
    char *problem;
};

struct tape_reader;
struct tape_reader_events {
    void (*on_head)(struct tape_reader *r, const struct tape_head *head);
    // Bytes from the reader's position on; returns how many were taken. `last`: with these the answer is complete,
    // there may be none; a reader that took them all leaves. One that took less than all calls tape_read when it can
    // go on.
    size_t (*on_bytes)(struct tape_reader *r, const struct iovec *v, int count, bool last);
    // Everything was taken and the tape did not end whole: how it ended. (A whole end comes by on_bytes.)
    void (*on_end)(struct tape_reader *r, enum tape_end end);
};

struct tape_reader {
    struct tape *tape; // NULL: not reading
    struct list node;
    uint64_t position;
    const struct tape_reader_events *events;
};

// One reference for the caller.
struct tape *tape_create(const struct tape_events *events, void *writer);
struct tape *tape_ref(struct tape *t);
void tape_unref(struct tape *t);

// The writer's side. After tape_end_* or tape_release no event comes to it.
// Interim heads (status 100-199) go to the readers there are and are not recorded.
void tape_put_head(struct tape *t, const struct tape_head *head);
// `last` completes the answer.
void tape_append(struct tape *t, struct str bytes, bool last);
static inline bool tape_full(const struct tape *t) { return t->full; }
void tape_end_cut(struct tape *t, enum err error, int reason, const char *problem);
void tape_end_cancelled(struct tape *t);

// The reader's side. The reader is the caller's storage; it takes a reference of the tape until tape_leave. Opening
// delivers nothing by itself: call tape_read, and not inside a callback of the same tape. Whoever opens a tape that is
// not kept does so before the first byte may have been dropped.
void tape_open(struct tape *t, struct tape_reader *r, const struct tape_reader_events *events);
// Offers what there is from the position on.
void tape_read(struct tape_reader *r);
// Idempotent, allowed in any callback of the reader.
void tape_leave(struct tape_reader *r);
