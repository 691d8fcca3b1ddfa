// SPDX-License-Identifier: MIT
// Reading JSON where it lies: one strict pass (RFC 8259, UTF-8 checked), no memory, no recursion. Private to llm/.
#pragma once
#include "base/str.h"

enum { SCAN_DEPTH_MAX = 64 }; // brackets open at once: a bit each

struct scan {
    const char *p; // the next byte; after a failure the byte that is wrong, or the end
    const char *end;
    const char *problem; // why it failed; static
    bool too_deep;       // it failed because of SCAN_DEPTH_MAX
    bool escaped;        // the last string had an escape
};

static inline struct scan scan_of(struct str text) { return (struct scan){.p = text.ptr, .end = text.ptr + text.len}; }

void scan_blanks(struct scan *s);

// Past the value that begins at p.
MUSTCHECK bool scan_value(struct scan *s);

// Past blanks, to the end: nothing else may follow.
MUSTCHECK bool scan_end(struct scan *s);

struct scan_member {
    struct str name; // between its quotes, as written
    bool escaped;    // the name has escapes
    struct str value;
};
// Past the object that begins at p; says each member once the member is known to be well-formed.
MUSTCHECK bool scan_object(struct scan *s, void (*on_member)(void *arg, const struct scan_member *member), void *arg);

// Unescapes what stood between the quotes of a string that was scanned. False: it does not fit into size bytes.
MUSTCHECK bool scan_unescape(struct str inside, char *to, size_t size, size_t *len);
