// SPDX-License-Identifier: MIT
// The tape: an answer as it is recorded, and its readers. One writer puts a head, bytes and an end; each reader has a
// position and takes what it can. See docs/internals/tape.md.
//
// Bytes are offered to the readers as they come and copied only where somebody still wants them: a reader that could
// not take all, or a tape that is kept for readers to come:
//   plain  a relay: what every reader took is gone. From TAPE_WINDOW behind, a reader holds up the writer.
//   kept   has a record, whose `keep` is how many bytes behind the end stay readable. A reader more than `keep` (and
//          TAPE_WINDOW) behind holds up the writer as long as all are; where another one keeps up, or the writer
//          cannot wait, it is outrun.
//
// A tape belongs to one thread. Its bytes lie in blocks that tapes of other threads may share (tape/mirror.h).
#pragma once
#include "base/buf.h"
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
const char *tape_end_name(enum tape_end end); // "running", "complete", "cut", "cancelled"

enum { TAPE_WINDOW = 64 * 1024 };

// How and why it ended: in general, in the writer's own terms, and for people.
struct tape_why {
    enum tape_end end;
    enum err error;
    int reason;
    uint32_t retry_ms;   // when asking again may help; 0: not known
    const char *problem; // may be NULL
};

struct tape_head {
    int status;
    struct fields fields; // borrowed
    int64_t body_len;     // bytes, or -1
};

struct tape;
struct tape_chunk;
struct tape_kept;
struct tape_id;

struct tape_events {
    // A tape that was full may be written to again, but not in this call. NULL: the writer cannot wait; who is too slow
    // is outrun.
    void (*on_room)(struct tape *t);
    void (*on_abandoned)(struct tape *t); // the last reader left before the end; watchers do not count
    void (*on_stop)(struct tape *t, const struct tape_why *why); // it is to end now, and so
};

// Positions that can be found again: the ends of events, ascending. The first one still there is number `gone`, counting
// from 0.
struct tape_marks {
    uint64_t *v;
    size_t count, room;
    uint64_t gone;
    bool lost; // there was no memory for one, and so there are none behind it
};

// What only those need who come later.
struct tape_record {
    uint64_t keep;        // bytes, not 0
    uint64_t created_s;   // Unix seconds
    struct fields fields; // of the head
    void *head_memory;
    struct tape_marks marks;
    struct tape_id *id;     // of a tape that has no place here: a mirror, or read from a store; owned
    struct tape_kept *kept; // NULL: such a tape
};

// A held call has one: 120 bytes fill a block of the heap.
struct tape {
    unsigned references;
    unsigned wanting;    // readers that are not mere watchers
    struct tape_why why; // `problem` is the tape's own
    uint64_t written;    // bytes so far
    struct tape_chunk *first, *last;
    struct list readers;
    const struct tape_events *events; // of the writer; NULL once it has let go
    void *writer;
    struct tape_record *record; // NULL: a plain relay
    uint32_t slot, generation;  // its place on the shelf (tape/shelf.h)
    int64_t body_len;           // of the head
    int status;
    bool has_head;
    bool full;
    bool held; // full until the slowest reader has taken all
};

struct tape_reader;
struct tape_reader_events {
    void (*on_head)(struct tape_reader *r, const struct tape_head *head);
    // Bytes from the reader's position on; returns how many were taken. `last`: with these the answer is complete,
    // there may be none; a reader that took them all leaves. One that took less than all calls tape_read when it can
    // go on.
    size_t (*on_bytes)(struct tape_reader *r, const struct iovec *v, int count, bool last);
    // There will be no more for this reader, which leaves: everything was taken and the tape did not end whole, or
    // (ERR_FULL) the reader was outrun. A whole end comes by on_bytes.
    void (*on_end)(struct tape_reader *r, const struct tape_why *why);
};

struct tape_reader {
    struct tape *tape; // NULL: not reading
    struct list node;
    uint64_t position;
    const struct tape_reader_events *events;
    struct tape_chunk *chunk; // one not behind the position, or NULL
    bool has_head;            // was told the final head
    bool watches;             // for itself: the tape is abandoned without it
};

// One reference for the caller.
struct tape *tape_create(const struct tape_events *events, void *writer);
struct tape *tape_ref(struct tape *t);
void tape_unref(struct tape *t);
// Makes a new tape a kept one, before anything is written: `bytes` behind its end stay.
void tape_keep(struct tape *t, uint64_t bytes, uint64_t created_s);
static inline struct tape_kept *tape_kept(const struct tape *t) { return t->record ? t->record->kept : NULL; }
static inline bool tape_running(const struct tape *t) { return t->why.end == TAPE_RUNNING; }

// The writer's side. After an end no event comes to it.
// Interim heads (status 100-199) go to the readers there are and are not recorded.
void tape_put_head(struct tape *t, const struct tape_head *head);
// `last` completes the answer.
void tape_append(struct tape *t, struct str bytes, bool last);
static inline bool tape_full(const struct tape *t) { return t->full; }
// Where memory is short: a plain tape whose readers have not taken all is full until they have. Is it?
bool tape_hold(struct tape *t);
// An event ends at `position`, which is not beyond what the next append completes. Only of kept tapes; without memory
// the mark is missing, and so are all behind it.
void tape_mark(struct tape *t, uint64_t position);
// Any end but a whole one; `problem` is copied.
void tape_finish(struct tape *t, const struct tape_why *why);

// Asks the writer to end the tape so; nothing if it has ended.
void tape_stop(struct tape *t, const struct tape_why *why);

// The reader's side. The reader is the caller's storage; it takes a reference of the tape until tape_leave. Opening
// delivers nothing by itself: call tape_read, and not inside a callback of the same tape. The position is one that
// tape_has.
void tape_open(struct tape *t, struct tape_reader *r, const struct tape_reader_events *events, uint64_t position);
// Opens at the start; a watcher looks on and does not count when readers leave.
void tape_watch(struct tape *t, struct tape_reader *r, const struct tape_reader_events *events);
// The first position that is still there; can reading begin at a position?
uint64_t tape_start(const struct tape *t);
bool tape_has(const struct tape *t, uint64_t position);
// Once it has one; the fields only of a kept tape.
static inline struct tape_head tape_head(const struct tape *t) {
    return (struct tape_head){t->status, t->record ? t->record->fields : (struct fields){NULL, 0, 0}, t->body_len};
}
// How many marks there were, with those that are gone.
static inline uint64_t tape_marks(const struct tape *t) {
    return t->record ? t->record->marks.gone + t->record->marks.count : 0;
}
// Bytes of memory for what was recorded, but not for what others recorded (tape_append_part).
size_t tape_copied(const struct tape *t);
// The position behind event n (from 0). ERR_GONE: it was dropped; ERR_AGAIN: there is none yet; ERR_INVALID: the tape
// has ended and never had one.
MUSTCHECK enum err tape_find_mark(const struct tape *t, uint64_t n, uint64_t *position);
// Offers what there is from the position on, the head first.
void tape_read(struct tape_reader *r);
// Idempotent, allowed in any callback of the reader.
void tape_leave(struct tape_reader *r);
// Appends a copy of all the bytes that are still there.
MUSTCHECK enum err tape_copy(const struct tape *t, struct buf *out);

// ---- sharing bytes with another thread's tape (tape/mirror.c)

struct tape_block;
struct tape_part {
    struct tape_block *block; // counted; NULL for none
    struct str bytes;         // inside it; never changed again
};
// The recorded bytes from a position on, up to `room` parts, each with a reference of its block. How many.
int tape_share(const struct tape *t, uint64_t position, struct tape_part *parts, int room);
// As tape_share from the reader's position on; the reader has taken them then.
int tape_take(struct tape_reader *r, struct tape_part *parts, int room);
// Appends such a part and takes over its reference.
void tape_append_part(struct tape *t, struct tape_part *take_part, bool last);
void tape_part_drop(struct tape_part *part);
