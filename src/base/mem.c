// SPDX-License-Identifier: MIT
#include "base/mem.h"

#include <malloc.h>
#include <stdbool.h>

static void NORETURN die(size_t size) {
    fprintf(stderr, "thaw: out of memory asking for %zu bytes\n", size);
    abort();
}

// ---- what mem_free keeps

// By how much they have room for at least: 8 bytes, 24, 40, ... as glibc's have.
enum {
    SPARE_STEP = 16,
    SPARE_LEAST = 8,
    SPARE_CLASSES = 80,
    SPARE_BYTES = 2 * 1024 * 1024, // of a thread
};
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ || __has_feature(address_sanitizer)
static const bool keeps_spares = false; // who uses what was freed, or what is beyond, is to be found out
#else
static const bool keeps_spares = true;
#endif

static _Thread_local struct {
    void *first[SPARE_CLASSES]; // each begins with a pointer to the next
    size_t bytes;
} spare;

// Of blocks that have room for `size`.
static size_t class_of(size_t size) { return (size + SPARE_STEP - SPARE_LEAST - 1) / SPARE_STEP; }

// As much as its class has room for: glibc gives no less.
static size_t whole(size_t size) {
    size_t class = class_of(size);
    return keeps_spares && class < SPARE_CLASSES ? class * SPARE_STEP + SPARE_LEAST : MAX(size, (size_t)1);
}

static void *take_spare(size_t size) {
    size_t class = class_of(size);
    void *p = class < SPARE_CLASSES ? spare.first[class] : NULL;
    if (p) {
        spare.first[class] = *(void **)p;
        spare.bytes -= class * SPARE_STEP + SPARE_LEAST;
    }
    return p;
}

void mem_free(void *p, size_t size) {
    if (!p) {
        return;
    }
    size_t class = size ? class_of(size) : (malloc_usable_size(p) - SPARE_LEAST) / SPARE_STEP;
    if (!keeps_spares || class >= SPARE_CLASSES || spare.bytes >= SPARE_BYTES) {
        free(p);
        return;
    }
    *(void **)p = spare.first[class];
    spare.first[class] = p;
    spare.bytes += class * SPARE_STEP + SPARE_LEAST;
}

static void drop_spares(void) {
    for (size_t i = 0; i < SPARE_CLASSES; i++) {
        while (spare.first[i]) {
            free(take_spare(i * SPARE_STEP + SPARE_LEAST));
        }
    }
}

static void *take(size_t size) {
    void *p = take_spare(size);
    return p ? p : malloc(whole(size));
}

// ---- allocations

void *xmalloc(size_t size) {
    void *p = take(size);
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
    void *p = calloc(n ? n : 1, n == 1 ? whole(size) : MAX(size, (size_t)1));
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
    return p ? realloc(p, whole(size)) : take(size);
}

void mem_trim(void) {
    drop_spares();
    malloc_trim(0);
}
