// SPDX-License-Identifier: MIT
// A scanner over an event stream (WHATWG HTML, section 9.2) that passes by: it finds where events end and
// what they are, the same in any split of the bytes, and keeps nothing beyond one event's type and data, both
// bounded. The bytes themselves go on untouched.
#pragma once
#include "base/str.h"

enum {
    SSE_DATA_MAX = 64 * 1024, // of one event's data that is offered to on_event, unless data_max says otherwise
    SSE_TYPE_MAX = 256,       // of its type; a longer one makes the event `truncated`
};

struct sse_event {
    struct str type; // "event:" value, empty: "message"
    struct str data; // the data lines joined by LF; empty when `truncated`
    bool truncated;  // more than the scanner was allowed, or had the memory, to keep
    size_t bytes;    // of the stream, from after the last event's end to this one's
};

struct sse {
    // Called at the blank line that ends an event with at least one field (a comment alone is no event);
    // NULL: only boundaries are tracked and nothing is ever copied. An event ends with the first byte of the
    // blank line's end: where that is CR LF the LF counts to the next event, so that no event waits for a
    // byte that may never come. What the event points to is valid during the call, which may not feed or
    // finish.
    void (*on_event)(struct sse *sse, const struct sse_event *event);
    // Called where an event ends, whether or not on_event is set: `at` is the offset, in the bytes being fed, behind the
    // first byte of the blank line's end. A line put in just before that byte belongs to the event.
    void (*on_boundary)(struct sse *sse, size_t at);
    // The same for a blank line that ends no event, as behind a comment; may be NULL.
    void (*on_blank)(struct sse *sse, size_t at);
    size_t data_max; // bytes; of more an event is `truncated`. May be set before the first feed
    // private
    unsigned char state;
    unsigned char field;
    bool after_cr;
    bool at_boundary;
    bool has_fields;
    bool has_data;
    bool truncated;
    size_t event_bytes;
    size_t line_len;            // of the line's name so far
    uint64_t events;            // ended so far
    char *kept;                 // heap: type (SSE_TYPE_MAX bytes) and data of the current event, only with on_event
    size_t kept_len, kept_room; // of the data
    size_t type_len;
};

void sse_init(struct sse *sse, void (*on_event)(struct sse *sse, const struct sse_event *event));
void sse_finish(struct sse *sse);
void sse_feed(struct sse *sse, struct str bytes);
// True where nothing of an event is open: at the start of a line with no field since the last event (the
// start of the stream, after a blank line, after comments). Whoever adds an event of his own to the stream
// may do so here.
static inline bool sse_at_boundary(const struct sse *sse) { return sse->at_boundary; }
