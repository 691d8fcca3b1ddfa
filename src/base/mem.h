// SPDX-License-Identifier: MIT
// The two kinds of allocation. Sizes that we choose abort on failure (x*: a process that cannot get 200 bytes
// is beyond saving, and thousands of error paths need not exist). Sizes that a peer controls go through `buf`
// and `arena`, which have caps and return errors, and through try_realloc below.
#pragma once
#include "base/attr.h"

void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);

// For sizes that a peer controls: NULL when there is none. Tests make the n-th one fail (mem_fail_after).
void *try_realloc(void *p, size_t size);
static inline void *try_malloc(size_t size) { return try_realloc(NULL, size); }

// As free, for what comes and goes with every call: this thread keeps some of it, and the functions above hand it out again
// first: only for what one of them gave. glibc keeps seven of a size; what thousands of calls free at once it joins and splits again. `size` as it was
// asked for; 0 where that is not known, which costs a look at the heap's own notes.
void mem_free(void *p, size_t size);

// Gives memory that was freed, but held back for the next allocation, to the system. Milliseconds: not for every turn.
void mem_trim(void); // of the spares only this thread's

// Test seam of this thread: the n-th try_* allocation from now fails (and, with `forever`, all that follow).
// 0 turns it off. mem_fail_fired() tells whether one has failed since.
void mem_fail_after(unsigned n, int forever);
int mem_fail_fired(void);
