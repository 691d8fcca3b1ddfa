// SPDX-License-Identifier: MIT
#include "base/arena.h"

#include <stdalign.h>

#include "check.h"

static void memory_is_zeroed_aligned_and_apart(void **state UNUSED) {
    struct arena a;
    arena_init(&a, 1 << 20);
    unsigned char *last = NULL;
    for (size_t size = 1; size < 300; size++) {
        unsigned char *p = arena_alloc(&a, size);
        check(p != NULL);
        check_int((uintptr_t)p % alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++) {
            check_int(p[i], 0);
        }
        memset(p, 0xAA, size);
        check(last == NULL || last[0] == 0xAA);
        last = p;
    }
    arena_finish(&a);
}

static void the_cap_is_exact(void **state UNUSED) {
    struct arena a;
    arena_init(&a, 8192);
    check(arena_alloc(&a, 8193) == NULL);
    check(arena_alloc(&a, SIZE_MAX) == NULL);
    check(arena_alloc(&a, SIZE_MAX - 15) == NULL);
    check(arena_alloc(&a, SIZE_MAX - 16) == NULL);
    check(arena_alloc(&a, 8176) != NULL);
    check(arena_alloc(&a, 17) == NULL);
    check(arena_alloc(&a, 1) != NULL); // rounded up to 16: the last
    check_int(a.used, 8192);
    check(arena_alloc(&a, 1) == NULL);
    arena_finish(&a);
}

static void finish_leaves_it_usable(void **state UNUSED) {
    struct arena a;
    arena_init(&a, 100);
    check(arena_alloc(&a, 96) != NULL);
    arena_finish(&a);
    check_int(a.used, 0);
    check(arena_alloc(&a, 96) != NULL);
    arena_finish(&a);
    arena_finish(&a);
    struct arena zeroed = {0};
    arena_finish(&zeroed);
}

static void strings_are_copied_with_a_terminator(void **state UNUSED) {
    struct arena a;
    arena_init(&a, 64);
    char text[] = "tape";
    struct str copy = arena_str(&a, str_c(text));
    text[0] = 'c';
    check_str(copy, "tape");
    check_int(copy.ptr[4], 0);
    copy = arena_str(&a, (struct str){NULL, 0});
    check(copy.ptr != NULL && copy.ptr[0] == 0);
    copy = arena_str(&a, STR("0123456789012345678901234567890123456789"));
    check(copy.ptr == NULL && copy.len == 0);
    arena_finish(&a);
}

static void fill(void *arg UNUSED) {
    struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < 40; i++) {
        char *p = arena_alloc(&a, i * 100);
        if (p) {
            memset(p, 1, i * 100);
        }
        struct str copy = arena_str(&a, STR("text"));
        check(copy.ptr == NULL || str_eq(copy, STR("text")));
    }
    arena_finish(&a);
}

static void survives_every_failing_allocation(void **state UNUSED) { check(every_allocation_fails(fill, NULL) > 5); }

TESTS(TEST(memory_is_zeroed_aligned_and_apart), TEST(the_cap_is_exact), TEST(finish_leaves_it_usable),
      TEST(strings_are_copied_with_a_terminator), TEST(survives_every_failing_allocation))
