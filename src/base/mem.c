// SPDX-License-Identifier: MIT
#include "base/mem.h"

#include <malloc.h>

static void NORETURN die(size_t size) {
    fprintf(stderr, "thaw: out of memory asking for %zu bytes\n", size);
    abort();
}

void *xmalloc(size_t size) {
    void *p = malloc(size ? size : 1);
    if (UNLIKELY(!p)) {
        die(size);
    }
    return p;
}

void *xcalloc(size_t n, size_t size) {
    enum { SMALL = 1024 };
    if (n == 1 && size <= SMALL) { // glibc's calloc passes its own thread cache by (until 2.41): three times the work
        void *small = xmalloc(size);
        __asm__("" : "+r"(small)); // or the compiler makes a calloc of the two
        return memset(small, 0, size);
    }
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (UNLIKELY(!p)) {
        die(n * size);
    }
    return p;
}

// The one piece of mutable state below the loop: a counter that only tests set, apart for each thread.
static _Thread_local struct {
    unsigned countdown;
    int forever;
    int fired;
} fail;

void mem_fail_after(unsigned n, int forever) {
    fail.countdown = n;
    fail.forever = forever;
    fail.fired = 0;
}

int mem_fail_fired(void) { return fail.fired; }

void *try_realloc(void *p, size_t size) {
    if (UNLIKELY(fail.countdown)) {
        if (fail.countdown == 1) {
            fail.countdown = fail.forever ? 1 : 0;
            fail.fired = 1;
            return NULL;
        }
        fail.countdown--;
    }
    return realloc(p, size ? size : 1);
}

void mem_trim(void) { malloc_trim(0); }
