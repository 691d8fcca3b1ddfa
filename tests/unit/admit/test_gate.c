// SPDX-License-Identifier: MIT
#include "room.h"

enum { MANY = 1100 };
static const struct gate_options two = {.limit = 2, .queue_length = 1000, .queue_wait_ms = 30000};
static const struct gate_options one = {.limit = 1, .queue_length = 1000, .queue_wait_ms = 30000};

static void so_many_are_in_and_others_wait_in_order(void **state) {
    (void)state;
    struct room r;
    struct caller v[5] = {0};
    room_open(&r, &two);
    check_int(enter(&r, &v[0], (struct as){.client = 1}), GATE_IN);
    check_int(enter(&r, &v[1], (struct as){.client = 1}), GATE_IN);
    for (unsigned i = 2; i < 5; i++) {
        check_int(enter(&r, &v[i], (struct as){.client = i}), GATE_WAIT);
        check_int(place_of(&v[i]), i - 1);
    }
    check_int(look(&r).in_flight, 2);
    check_int(look(&r).waiting, 3);
    leave(&v[1]);
    check_int(look(&r).in_flight, 2); // at once: nobody who comes now gets it
    check_int(v[2].order, 0);         // and is told in its own loop's time
    check_int(place_of(&v[2]), 0);
    check_int(place_of(&v[3]), 1);
    pass(&r, 0);
    check_int(v[2].order, 3);
    leave(&v[3]); // from the queue
    check_int(place_of(&v[4]), 1);
    leave(&v[0]);
    leave(&v[2]);
    pass(&r, 0);
    check_int(v[4].order, 4);
    check_int(v[3].order, 0);
    leave(&v[4]);
    check_int(look(&r).in_flight, 0);
    check_int(look(&r).entered, 4);
    leave(&v[4]); // holds nothing: nothing happens
    check_int(look(&r).in_flight, 0);
    room_close(&r);
}

static void one_who_is_let_in_and_leaves_before_it_knows(void **state) {
    (void)state;
    struct room r;
    struct caller v[4] = {0};
    room_open(&r, &one);
    for (unsigned i = 0; i < 4; i++) {
        check_int(enter(&r, &v[i], (struct as){.client = 1}), i ? GATE_WAIT : GATE_IN);
    }
    leave(&v[0]); // v[1] is in, the message is on its way
    leave(&v[1]); // v[2] likewise
    leave(&v[2]);
    pass(&r, 0);
    check_int(v[1].order, 0);
    check_int(v[2].order, 0);
    check_int(v[3].order, 2);
    check_int(look(&r).in_flight, 1);
    leave(&v[3]);
    check_int(look(&r).in_flight, 0);
    room_close(&r);
}

static void one_of_a_thousand_calls_and_nine_others(void **state) {
    (void)state;
    struct room r;
    static struct caller hog[1000], others[9];
    memset(hog, 0, sizeof hog);
    memset(others, 0, sizeof others);
    room_open(&r, &(struct gate_options){.limit = 6, .queue_length = 1003});
    for (unsigned i = 0; i < 1000; i++) {
        hog[i].leaves = true;
        check_int(enter(&r, &hog[i], (struct as){.client = 1}), i < 6 ? GATE_IN : GATE_WAIT);
    }
    for (unsigned i = 0; i < 9; i++) {
        others[i].leaves = true;
        check_int(enter(&r, &others[i], (struct as){.client = 2 + i}), GATE_WAIT);
        check_int(place_of(&others[i]), i + 2); // one of the hog's before
    }
    leave(&hog[0]);
    pass(&r, 0);
    for (unsigned i = 0; i < 9; i++) {
        check(others[i].order >= 6 && others[i].order <= 6 + 10);
    }
    check_int(r.let_in, 6 + 994 + 9);
    for (unsigned i = 1; i < 6; i++) {
        leave(&hog[i]);
    }
    check_int(look(&r).in_flight, 0);
    room_close(&r);
}

TESTS(TEST(so_many_are_in_and_others_wait_in_order), TEST(one_who_is_let_in_and_leaves_before_it_knows),
      TEST(one_of_a_thousand_calls_and_nine_others))
