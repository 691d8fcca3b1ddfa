// SPDX-License-Identifier: MIT
// An event stream as it passes from the upstream to the tape. On a kept tape every event gets an `id:` line, and its end
// is marked. And before that, as long as nothing was said yet: the opening, which is held back for a moment, because many
// an upstream says 200 first and that it is overloaded in its first event.
#pragma once
#include "gateway/worker.h"
#include "http/sse.h"

struct stream {
    struct sse sse;
    struct worker *worker;
    struct tape *tape;
    struct str bytes; // being fed
    size_t done;      // of them, are in worker->events
    enum err error;   // of that
    bool ids;
    bool after_cr; // of a blank line that was left out
    struct tape_id id;
};

struct stream *stream_create(struct worker *w, struct tape *tape);
void stream_destroy(struct stream *s); // accepts NULL
// Watches the bytes pass. Returns what goes on the tape instead of them, valid until the next call.
struct str stream_feed(struct stream *s, struct str bytes);

enum { OPENING_BYTES = 64 * 1024, OPENING_EVENTS = 64, OPENING_MS = 1000 };

enum opening_verdict {
    OPENING_GOES_ON, // nothing was said yet
    OPENING_OVER,    // an answer begins, or there is no more room: let it go
    OPENING_FAILED,  // it is an error after which another try may help
};

// The answer's head and what came behind it.
struct opening {
    struct sse sse;
    enum opening_verdict verdict;
    unsigned events;
    struct buf bytes;
    int status;
    int64_t body_len;
    struct fields fields;
    void *head_memory;
    int failed_status; // OPENING_FAILED: the status it would have had
};

// Copies the head. NULL: no memory.
struct opening *opening_create(const struct tape_head *head);
void opening_destroy(struct opening *o); // accepts NULL
// While it goes on the bytes are kept, at most OPENING_BYTES; then what was given last is not among them.
enum opening_verdict opening_feed(struct opening *o, struct str bytes);
static inline struct tape_head opening_head(const struct opening *o) {
    return (struct tape_head){o->status, o->fields, o->body_len};
}
