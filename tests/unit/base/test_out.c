// SPDX-License-Identifier: MIT
#include "base/out.h"
#include "check.h"

static void pieces_follow_each_other(void **state UNUSED) {
    struct buf b;
    struct out o = {&b, OK};
    buf_init(&b, 1000);
    put(&o, STR("a call: "));
    put_text(&o, "n=");
    put_u64(&o, 0);
    put_text(&o, ",");
    put_u64(&o, UINT64_MAX);
    put_format(&o, " %s %d%%", "at", 50);
    put_again(&o, 6);
    put(&o, (struct str){NULL, 0});
    check_ok(o.e);
    check_str(buf_str(&b), "a call: n=0,18446744073709551615 at 50%a call");
    buf_finish(&b);
}

static void the_first_failure_stays_and_nothing_is_put_behind_it(void **state UNUSED) {
    struct buf b;
    struct out o = {&b, OK};
    buf_init(&b, 5);
    put_text(&o, "1234");
    put_again(&o, 2);
    check_err(o.e, ERR_FULL);
    put_text(&o, "7"); // there would be room
    put_u64(&o, 8);
    put_format(&o, "%d", 9);
    check_err(o.e, ERR_FULL);
    check_str(buf_str(&b), "1234");
    buf_finish(&b);
}

static void write_a_lot(void *arg) {
    struct buf b;
    struct out o = {&b, OK};
    size_t *most = arg;
    buf_init(&b, 100 * 1000);
    for (int i = 0; i < 1000; i++) {
        put_format(&o, "%d ", i);
        put_u64(&o, (uint64_t)i);
    }
    check(o.e == OK || o.e == ERR_NOMEM);
    check((o.e == OK) == (buf_len(&b) == 6780));
    *most = MAX(*most, buf_len(&b));
    buf_finish(&b);
}

static void without_memory_it_says_so(void **state UNUSED) {
    size_t most = 0;
    check(every_allocation_fails(write_a_lot, &most) > 2);
    check_int(most, 6780); // the last run met no failure
}

TESTS(TEST(pieces_follow_each_other), TEST(the_first_failure_stays_and_nothing_is_put_behind_it),
      TEST(without_memory_it_says_so))
