// SPDX-License-Identifier: MIT
#include "check.h"

static void appends_and_consumes(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 1000);
    check_int(buf_len(&b), 0);
    check_str(buf_str(&b), "");
    check_ok(buf_append(&b, "hello ", 6));
    check_ok(buf_str_append(&b, STR("world")));
    buf_consume(&b, 6);
    check_str(buf_str(&b), "world");
    buf_consume(&b, 5);
    check_int(b.start, 0); // an empty buffer begins anew
    check_int(b.end, 0);
    buf_finish(&b);
    buf_finish(&b);
    check_int(b.cap, 1000);
}

static void what_was_appended_is_taken_back(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 1000);
    check_ok(buf_str_append(&b, STR("hello world")));
    buf_consume(&b, 6);
    buf_truncate(&b, 2);
    check_str(buf_str(&b), "wo");
    check_ok(buf_str_append(&b, STR("od")));
    check_str(buf_str(&b), "wood");
    buf_finish(&b);
}

static void no_cap_is_beyond_4_gib(void **state UNUSED) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    check_int(b.cap, UINT32_MAX);
    check_ok(buf_append(&b, "x", 1));
    check_err(buf_reserve(&b, (size_t)UINT32_MAX), ERR_FULL);
    check_err(buf_reserve(&b, (size_t)UINT32_MAX + 1), ERR_FULL);
    check_str(buf_str(&b), "x");
    buf_finish(&b);
}

static void nothing_at_all_may_be_appended(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 0);
    check_ok(buf_append(&b, NULL, 0));
    check_ok(buf_str_append(&b, (struct str){NULL, 0}));
    check(b.ptr == NULL);
    check_ok(buf_reserve(&b, 0));
    check_err(buf_append(&b, "x", 1), ERR_FULL);
    buf_finish(&b);
}

static void the_cap_is_exact_and_a_refusal_changes_nothing(void **state UNUSED) {
    char bytes[700];
    memset(bytes, 'x', sizeof bytes);
    struct buf b;
    buf_init(&b, 1000);
    check_ok(buf_append(&b, bytes, 700));
    check_err(buf_append(&b, bytes, 301), ERR_FULL);
    check_int(buf_len(&b), 700);
    check_ok(buf_append(&b, bytes, 300));
    check_err(buf_append(&b, "x", 1), ERR_FULL);
    check_err(buf_reserve(&b, SIZE_MAX), ERR_FULL);
    check_err(buf_printf(&b, "%d", 1), ERR_FULL);
    check_int(buf_len(&b), 1000);
    buf_consume(&b, 400); // what was consumed makes room
    check_ok(buf_append(&b, bytes, 400));
    check_int(buf_len(&b), 1000);
    check(b.room <= b.cap);
    buf_finish(&b);
}

static void printf_fills_to_the_last_byte(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 5);
    check_ok(buf_printf(&b, "%s", "12345"));
    check_str(buf_str(&b), "12345");
    check_ok(buf_printf(&b, "%s", ""));
    check_err(buf_printf(&b, "%s", "6"), ERR_FULL);
    buf_consume(&b, 2);
    check_ok(buf_printf(&b, "%d", 67));
    check_str(buf_str(&b), "34567");
    buf_finish(&b);
}

static void printf_grows(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 1000; i++) {
        check_ok(buf_printf(&b, "line %04d\n", i));
    }
    check_int(buf_len(&b), 10000);
    check_str(str_skip(buf_str(&b), 9990), "line 0999\n");
    buf_finish(&b);
}

static void reserved_room_is_written_directly(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 4096);
    check_ok(buf_reserve(&b, 300));
    check(b.room - b.end >= 300);
    memset(buf_tail(&b), 'y', 300);
    buf_added(&b, 300);
    check_int(buf_len(&b), 300);
    buf_clear(&b);
    check_int(buf_len(&b), 0);
    buf_finish(&b);
}

// Against a plain model: any order of appends and consumes keeps the bytes and the cap.
static void random_use_keeps_the_bytes(void **state UNUSED) {
    enum { CAP = 777 };
    static char model[CAP];
    size_t len = 0;
    unsigned next = 0;
    struct buf b;
    buf_init(&b, CAP);
    srand(1);
    for (int i = 0; i < 200000; i++) {
        size_t n = (size_t)rand() % 64;
        char bytes[64];
        if (rand() % 2) {
            for (size_t k = 0; k < n; k++) {
                bytes[k] = (char)next++;
            }
            check_err(buf_append(&b, bytes, n), len + n > CAP ? ERR_FULL : OK);
            if (len + n <= CAP) {
                memcpy(model + len, bytes, n);
                len += n;
            }
        } else {
            n = MIN(n, len);
            buf_consume(&b, n);
            memmove(model, model + n, len - n);
            len -= n;
        }
        check(str_eq(buf_str(&b), str_from(model, len)));
        check(b.room <= CAP);
    }
    buf_finish(&b);
}

static void fill(void *arg UNUSED) {
    struct buf b;
    buf_init(&b, 4096);
    size_t len = 0;
    for (int i = 0; i < 100; i++) {
        enum err e = i % 2 ? buf_append(&b, "0123456789", 10) : buf_printf(&b, "%s", "0123456789");
        check(e == OK || e == ERR_NOMEM);
        len += e == OK ? 10 : 0;
        check_int(buf_len(&b), len);
    }
    buf_finish(&b);
}

static void survives_every_failing_allocation(void **state UNUSED) { check(every_allocation_fails(fill, NULL) > 2); }

TESTS(TEST(appends_and_consumes), TEST(what_was_appended_is_taken_back), TEST(no_cap_is_beyond_4_gib),
      TEST(nothing_at_all_may_be_appended), TEST(the_cap_is_exact_and_a_refusal_changes_nothing),
      TEST(printf_fills_to_the_last_byte), TEST(printf_grows), TEST(reserved_room_is_written_directly),
      TEST(random_use_keeps_the_bytes), TEST(survives_every_failing_allocation))
