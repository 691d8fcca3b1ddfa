// SPDX-License-Identifier: MIT
#include "base/mem.h"

#include <malloc.h>
#include <stdbool.h>

static void NORETURN die(size_t size) {
    fprintf(stderr, "thaw: out of memory asking for %zu bytes\n", size);
    abort();
}

// ---- what mem_free keeps

// By the room they have: 8 bytes, 24, 40, ... as glibc's have anyway.
enum { SPARE_STEP = 16, SPARE_LEAST = 8, SPARE_KINDS = 80, SPARE_BYTES = 2 * 1024 * 1024 }; // of a thread

#if defined(__has_feature)
#define ADDRESS_SANITIZER __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZER 1
#else
#define ADDRESS_SANITIZER 0
#endif
static const bool keeps_spares = !ADDRESS_SANITIZER; // who uses what was freed, or beyond its end, is to be found out

static _Thread_local struct {
    void *first[SPARE_KINDS]; // each begins with a pointer to the next
    size_t bytes;
} spare;

static size_t room_of(size_t kind) { return kind * SPARE_STEP + SPARE_LEAST; }
static size_t kind_of(size_t size) {
    bool small = size <= room_of(SPARE_KINDS - 1);
    return small ? (size + SPARE_STEP - SPARE_LEAST - 1) / SPARE_STEP : SPARE_KINDS;
}

// All that is handed out has its kind's room, whatever the heap rounds to.
static void *take(size_t size) {
    size_t kind = kind_of(size);
    if (!keeps_spares || kind >= SPARE_KINDS) {
        return malloc(size ? size : 1);
    }
    void *p = spare.first[kind];
    if (!p) {
        return malloc(room_of(kind));
    }
    spare.first[kind] = *(void **)p;
    spare.bytes -= room_of(kind);
    return p;
}

void mem_free(void *p, size_t size) {
    if (!p) {
        return;
    }
    size_t kind = !keeps_spares ? SPARE_KINDS
                  : size        ? kind_of(size)
                                : (malloc_usable_size(p) - SPARE_LEAST) / SPARE_STEP;
    if (kind >= SPARE_KINDS || spare.bytes >= SPARE_BYTES) {
        free(p);
        return;
    }
    *(void **)p = spare.first[kind];
    spare.first[kind] = p;
    spare.bytes += room_of(kind);
}

static void drop_spares(void) {
    for (size_t kind = 0; kind < SPARE_KINDS; kind++) {
        while (spare.first[kind]) {
            free(take(room_of(kind)));
        }
    }
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
    if (n == 1 && kind_of(size) < SPARE_KINDS) {
        void *small = xmalloc(size); // glibc's calloc passes its own thread cache by (until 2.41): three times the work
        __asm__("" : "+r"(small));   // or the compiler makes a calloc of the two
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
    return p ? realloc(p, size ? size : 1) : take(size);
}

void mem_trim(void) {
    drop_spares();
    malloc_trim(0);
}
