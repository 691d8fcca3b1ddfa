// SPDX-License-Identifier: MIT
#include "base/mem.h"

#include <malloc.h>

#include "check.h"

enum { SIZES = 1500, ROUNDS = 3 };

// Whatever its size was, and whether it is told or not, what is handed out again has room for what is asked for next.
static void what_was_freed_is_large_enough_for_what_comes_next(void **state) {
    void *blocks[SIZES];
    (void)state;
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < SIZES; i++) {
            size_t size = i + round;
            blocks[i] = i % 2 ? try_malloc(size) : xmalloc(size);
            check(malloc_usable_size(blocks[i]) >= size);
            memset(blocks[i], 0xa5, size);
        }
        for (size_t i = 0; i < SIZES; i++) { // none was handed out twice
            const char *bytes = blocks[i];
            check(i + round == 0 || (bytes[0] == (char)0xa5 && bytes[i + round - 1] == (char)0xa5));
            ((char *)blocks[i])[0] = (char)(i + round ? i : 0);
        }
        for (size_t i = 0; i < SIZES; i++) {
            mem_free(blocks[i], i % 3 ? i + round : 0);
        }
    }
    mem_trim();
}

static void what_is_handed_out_zeroed_is_zero(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        char *p = xcalloc(1, 200);
        for (size_t at = 0; at < 200; at++) {
            check_int(p[at], 0);
        }
        memset(p, 1, 200);
        mem_free(p, 200);
    }
    mem_trim();
}

static void failures_hit_what_was_kept_too(void **state) {
    (void)state;
    mem_free(try_malloc(100), 100);
    mem_fail_after(1, 0);
    check(try_malloc(100) == NULL);
    check(mem_fail_fired());
    mem_fail_after(0, 0);
    mem_free(NULL, 0);
    mem_trim();
}

TESTS(TEST(what_was_freed_is_large_enough_for_what_comes_next), TEST(what_is_handed_out_zeroed_is_zero),
      TEST(failures_hit_what_was_kept_too))
