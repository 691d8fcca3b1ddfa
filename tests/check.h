// SPDX-License-Identifier: MIT
// cmocka as runner and assertions, and nothing else of it: seams are vtables, not wrapped symbols.
// A test is `static void behaviour_in_words(void **state)`, listed once: TESTS(TEST(a), TEST(b)).
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#define TEST(function) cmocka_unit_test(function)
#define TESTS(...)                                                                                                     \
    int main(void) {                                                                                                   \
        const struct CMUnitTest tests[] = {__VA_ARGS__};                                                               \
        return cmocka_run_group_tests(tests, NULL, NULL);                                                              \
    }

#define check(condition) assert_true(condition)
#define check_int(got, wanted) assert_int_equal((got), (wanted))
#define check_ok(call) check_err((call), OK)
#define check_err(call, wanted)                                                                                        \
    do {                                                                                                               \
        enum err check_got = (call);                                                                                   \
        enum err check_wanted = (wanted);                                                                              \
        if (check_got != check_wanted) {                                                                               \
            fail_msg("%s: got %s, wanted %s", #call, err_name(check_got), err_name(check_wanted));                     \
        }                                                                                                              \
    } while (0)
#define check_str(got, wanted)                                                                                         \
    do {                                                                                                               \
        struct str check_a = (got);                                                                                    \
        struct str check_b = str_c(wanted);                                                                            \
        if (!str_eq(check_a, check_b)) {                                                                               \
            fail_msg("%s: got \"%.*s\", wanted \"%.*s\"", #got, STR_ARG(check_a), STR_ARG(check_b));                   \
        }                                                                                                              \
    } while (0)

// Runs `scenario` again and again while allocation n fails, n = 1, 2, 3 ... until one run meets no failure:
// once with only that allocation failing, once with all from it on. The scenario must survive and free
// everything; sanitizers watch. Returns the number of allocations that were made to fail.
static inline unsigned every_allocation_fails(void (*scenario)(void *arg), void *arg) {
    unsigned failed = 0;
    for (int forever = 0; forever <= 1; forever++) {
        for (unsigned n = 1; n < 100000; n++) {
            mem_fail_after(n, forever);
            scenario(arg);
            int fired = mem_fail_fired();
            mem_fail_after(0, 0);
            if (!fired) {
                break;
            }
            failed++;
        }
    }
    return failed;
}
