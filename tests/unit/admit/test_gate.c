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

static void without_a_limit_it_only_counts(void **state) {
    (void)state;
    struct room r;
    static struct caller v[MANY];
    memset(v, 0, sizeof v);
    room_open(&r, &(struct gate_options){0});
    for (unsigned i = 0; i < MANY; i++) {
        check_int(enter(&r, &v[i], (struct as){.client = 1}), GATE_IN);
    }
    check_int(look(&r).in_flight, MANY);
    check_int(look(&r).limit, 0);
    check_int(look(&r).entered, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        leave(&v[i]);
    }
    check_int(look(&r).in_flight, 0);
    room_close(&r);
}

// Limits are set with calls in and waiting.
static void a_limit_is_raised_lowered_and_taken_away(void **state) {
    (void)state;
    struct room r;
    struct caller v[8] = {0};
    room_open(&r, &(struct gate_options){0});
    for (unsigned i = 0; i < 4; i++) {
        check_int(enter(&r, &v[i], (struct as){.client = 1}), GATE_IN);
    }
    gate_set(r.gate, &two, 0); // four are in: they stay
    check_int(look(&r).in_flight, 4);
    for (unsigned i = 4; i < 8; i++) {
        check_int(enter(&r, &v[i], (struct as){.client = 1}), GATE_WAIT);
    }
    leave(&v[0]);
    leave(&v[1]);
    pass(&r, 0);
    check_int(look(&r).in_flight, 2);
    check_int(look(&r).waiting, 4);
    gate_set(r.gate, &(struct gate_options){.limit = 3, .queue_length = 1}, 0);
    check_int(look(&r).waiting, 3); // more than may come, but they were there
    pass(&r, 0);
    check_int(v[4].order, 5);
    struct caller late = {0};
    check_int(enter(&r, &late, (struct as){.client = 2}), GATE_FULL);
    gate_set(r.gate, &(struct gate_options){0}, 0);
    pass(&r, 0);
    check_int(look(&r).in_flight, 6);
    check_int(r.let_in, 8);
    for (unsigned i = 2; i < 8; i++) {
        leave(&v[i]);
    }
    check_int(look(&r).in_flight, 0);
    room_close(&r);
}

static void higher_priorities_go_first(void **state) {
    (void)state;
    struct room r;
    struct caller in = {0}, v[12] = {0};
    room_open(&r, &one);
    check_int(enter(&r, &in, (struct as){.client = 1}), GATE_IN);
    for (unsigned i = 0; i < 12; i++) { // the later the higher, two of each
        v[i].leaves = true;
        check_int(enter(&r, &v[i], (struct as){.client = 1 + i % 2, .priority = MIN(i / 2 * 2, 9u)}), GATE_WAIT);
        check_int(place_of(&v[i]), 1 + i % 2);
    }
    leave(&in);
    pass(&r, 0);
    for (unsigned i = 0; i < 12; i++) {
        check_int(v[i].order, 1 + 12 - i / 2 * 2 - (i % 2 ? 0 : 1));
    }
    room_close(&r);
}

// Each round brings each client its weight, as long as it has calls that wait; the places say so before it happens.
static void rounds_are_exact(void **state) {
    (void)state;
    enum { CLIENTS = 4, EACH = 60 };
    static const unsigned weights[CLIENTS] = {1, 2, 3, 10};
    static struct caller v[CLIENTS][EACH];
    struct room r;
    struct caller in = {0};
    unsigned places[CLIENTS * EACH + 1] = {0}, expected = 0;
    memset(v, 0, sizeof v);
    room_open(&r, &one);
    check_int(enter(&r, &in, (struct as){.client = 99}), GATE_IN);
    for (unsigned c = 0; c < CLIENTS; c++) { // one client after the other
        for (unsigned i = 0; i < EACH; i++) {
            v[c][i].leaves = true;
            check_int(enter(&r, &v[c][i], (struct as){.client = c, .weight = weights[c]}), GATE_WAIT);
        }
    }
    for (unsigned c = 0; c < CLIENTS; c++) {
        for (unsigned i = 0; i < EACH; i++) {
            places[place_of(&v[c][i])]++;
        }
    }
    for (unsigned i = 1; i <= CLIENTS * EACH; i++) {
        check_int(places[i], 1); // nobody stands where another one does
    }
    for (unsigned round = 0; round < EACH; round++) {
        for (unsigned c = 0; c < CLIENTS; c++) {
            for (unsigned i = round * weights[c]; i < MIN((round + 1) * weights[c], (unsigned)EACH); i++) {
                check_int(place_of(&v[c][i]), ++expected);
            }
        }
    }
    leave(&in);
    pass(&r, 0);
    for (unsigned round = 0, order = 1; round < EACH; round++) {
        for (unsigned c = 0; c < CLIENTS; c++) {
            for (unsigned i = round * weights[c]; i < MIN((round + 1) * weights[c], (unsigned)EACH); i++) {
                check_int(v[c][i].order, ++order);
            }
        }
    }
    room_close(&r);
}

// A client whose calls leave from the middle of its queue loses no turn by it.
static void those_who_left_cost_their_client_nothing(void **state) {
    (void)state;
    enum { EACH = 40, GONE = 30 };
    static struct caller v[2][EACH];
    struct room r;
    struct caller in = {0};
    memset(v, 0, sizeof v);
    room_open(&r, &one);
    check_int(enter(&r, &in, (struct as){.client = 9}), GATE_IN);
    for (unsigned c = 0; c < 2; c++) {
        for (unsigned i = 0; i < EACH; i++) {
            v[c][i].leaves = true;
            check_int(enter(&r, &v[c][i], (struct as){.client = c}), GATE_WAIT);
        }
    }
    for (unsigned i = 0; i < GONE; i++) { // the first one, too
        leave(&v[0][i]);
    }
    leave(&in);
    pass(&r, 0);
    for (unsigned i = 0; i < EACH - GONE; i++) { // in turns, as ever
        check_int(v[0][GONE + i].order, 2 + 2 * i);
        check_int(v[1][i].order, 3 + 2 * i);
    }
    check_int(v[1][EACH - 1].order, 1 + EACH - GONE + EACH);
    room_close(&r);
}

static void a_round_brings_no_more_than_the_weight(void **state) {
    (void)state;
    struct room r;
    struct caller in = {0}, a[7] = {0}, b[2] = {0};
    room_open(&r, &one);
    check_int(enter(&r, &in, (struct as){.client = 9}), GATE_IN);
    for (unsigned i = 0; i < 6; i++) {
        check_int(enter(&r, &a[i], (struct as){.client = 1, .weight = 2}), GATE_WAIT);
    }
    for (unsigned i = 0; i < 2; i++) {
        check_int(enter(&r, &b[i], (struct as){.client = 2}), GATE_WAIT);
    }
    for (unsigned i = 1; i < 5; i++) {
        leave(&a[i]);
    }
    leave(&in);
    pass(&r, 0);
    check_int(a[0].order, 2);
    check_int(place_of(&a[5]), 1); // its second in this round, from the third
    check_int(enter(&r, &a[6], (struct as){.client = 1, .weight = 2}), GATE_WAIT);
    check_int(place_of(&b[0]), 2);
    check_int(place_of(&b[1]), 3);
    check_int(place_of(&a[6]), 4); // in the next
    leave(&a[0]);
    leave(&a[5]);
    leave(&a[6]);
    leave(&b[0]);
    leave(&b[1]);
    pass(&r, 0);
    room_close(&r);
}

// Work conservation and "nobody is passed over for ever": newcomers with one call each, without end, beside a hog.
static void a_stream_of_strangers_does_not_starve_the_hog(void **state) {
    (void)state;
    enum { HOG = 20, STRANGERS = 200 };
    static struct caller hog[HOG], v[STRANGERS];
    struct room r;
    struct caller *in, first = {0};
    unsigned hogs_in = 0;
    memset(hog, 0, sizeof hog);
    memset(v, 0, sizeof v);
    room_open(&r, &one);
    check_int(enter(&r, &first, (struct as){.client = 1}), GATE_IN);
    for (unsigned i = 0; i < HOG; i++) {
        check_int(enter(&r, &hog[i], (struct as){.client = 1}), GATE_WAIT);
    }
    in = &first;
    for (unsigned i = 0; i < STRANGERS; i++) { // two come for each that goes
        check_int(enter(&r, &v[i], (struct as){.client = 100 + i}), GATE_WAIT);
        if (i % 2) {
            leave(in);
            pass(&r, 0);
            for (unsigned k = 0; k < HOG; k++) {
                in = hog[k].order == r.let_in ? &hog[k] : in;
            }
            for (unsigned k = 0; k <= i; k++) {
                in = v[k].order == r.let_in ? &v[k] : in;
            }
            check_int(in->order, r.let_in); // somebody is in, always
            hogs_in += in >= hog && in < hog + HOG;
        }
    }
    check(hogs_in >= 5); // rounds become longer, and none is without it
    leave(in);
    for (unsigned i = 0; i < HOG; i++) {
        leave(&hog[i]);
    }
    for (unsigned i = 0; i < STRANGERS; i++) {
        leave(&v[i]);
    }
    pass(&r, 0);
    check_int(look(&r).in_flight, 0);
    room_close(&r);
}

// ---- refusals

// Calls of a second each have been through: a place becomes free every half second.
static void teach(struct room *r) {
    for (unsigned i = 0; i < 50; i++) {
        struct caller v[2] = {0};
        check_int(enter(r, &v[0], (struct as){.client = 77}), GATE_IN);
        check_int(enter(r, &v[1], (struct as){.client = 77}), GATE_IN);
        pass(r, 1000);
        leave(&v[0]);
        leave(&v[1]);
    }
    check_int(look(r).service_ms, 1000);
    r->let_in = 0;
}

static void the_queue_has_a_length_and_shares(void **state) {
    (void)state;
    struct room r;
    static struct caller v[14], other[6];
    memset(v, 0, sizeof v);
    memset(other, 0, sizeof other);
    room_open(&r, &(struct gate_options){.limit = 2, .queue_length = 10});
    teach(&r);
    for (unsigned i = 0; i < 12; i++) {
        check_int(enter(&r, &v[i], (struct as){.client = 1}), i < 2 ? GATE_IN : GATE_WAIT);
    }
    check_int(enter(&r, &v[12], (struct as){.client = 1}), GATE_FULL); // alone it has all of it: no more than its share
    check(!v[12].ticket.gate);
    check_int(v[12].refusal.waiting, 10);
    check_int(v[12].refusal.limit, 2);
    check_int(v[12].refusal.wait_ms, 11 * 500);
    check_int(v[12].refusal.retry_ms, 1000); // the next place is free in 500, and that is too soon to ask
    check_int(enter(&r, &other[0], (struct as){.client = 2}), GATE_WAIT); // in the place of the other one's last
    pass(&r, 0);
    check_int(v[11].pushed, 1);
    check(!v[11].ticket.gate);
    check_int(enter(&r, &v[12], (struct as){.client = 1}), GATE_SHARE); // nine of ten, two clients
    check_int(v[12].refusal.retry_ms, (9 - 5) * 2 * 500);
    for (unsigned i = 1; i < 5; i++) { // half each
        check_int(enter(&r, &other[i], (struct as){.client = 2}), GATE_WAIT);
    }
    check_int(enter(&r, &other[5], (struct as){.client = 2}), GATE_FULL);
    leave(&v[10]); // is being pushed out, and does not hear of it
    pass(&r, 0);
    check_int(v[10].pushed, 0);
    check_int(v[9].pushed + v[8].pushed + v[7].pushed, 3);
    check_int(v[6].pushed, 0);
    check_int(look(&r).waiting, 10);
    check_int(look(&r).refused, 8); // three of them by name, five pushed out
    for (unsigned i = 0; i < 12; i++) {
        leave(&v[i]);
    }
    for (unsigned i = 0; i < 5; i++) {
        leave(&other[i]);
        pass(&r, 0);
    }
    check_int(look(&r).in_flight, 0);
    room_close(&r);
}

static void a_lower_priority_pushes_nobody_out(void **state) {
    (void)state;
    struct room r;
    struct caller v[4] = {0};
    room_open(&r, &(struct gate_options){.limit = 1, .queue_length = 2});
    for (unsigned i = 0; i < 3; i++) {
        check_int(enter(&r, &v[i], (struct as){.client = 1, .priority = 5}), i ? GATE_WAIT : GATE_IN);
    }
    check_int(enter(&r, &v[3], (struct as){.client = 2, .priority = 4}), GATE_FULL);
    check_int(enter(&r, &v[3], (struct as){.client = 2, .priority = 6}), GATE_WAIT);
    pass(&r, 0);
    check_int(v[2].pushed, 1);
    for (unsigned i = 0; i < 4; i++) {
        leave(&v[i]);
        pass(&r, 0);
    }
    room_close(&r);
}

static void who_would_be_late_is_refused_at_once(void **state) {
    (void)state;
    struct room r;
    static struct caller v[12], w;
    memset(v, 0, sizeof v);
    room_open(&r, &(struct gate_options){.limit = 2, .queue_length = 1000, .queue_wait_ms = 3000});
    teach(&r);
    uint64_t now = r.loop.now_ms;
    for (unsigned i = 0; i < 8; i++) { // the sixth of those who wait: 3,000 ms
        check_int(enter(&r, &v[i], (struct as){.client = 1}), i < 2 ? GATE_IN : GATE_WAIT);
    }
    check_int(enter(&r, &v[8], (struct as){.client = 1}), GATE_LATE);
    check_int(v[8].refusal.wait_ms, 3500);
    check_int(v[8].refusal.retry_ms, 1000);
    check(v[8].refusal.own);
    // Another client's is the second in line: 1,000 ms. Deadlines around that.
    check_int(enter(&r, &w, (struct as){.client = 2, .deadline_ms = now + 999}), GATE_LATE);
    check_int(w.refusal.wait_ms, 1000);
    check(!w.refusal.own);
    check_int(enter(&r, &w, (struct as){.client = 2, .deadline_ms = now}), GATE_LATE);
    check_int(enter(&r, &w, (struct as){.client = 2, .deadline_ms = now + 1000}), GATE_WAIT);
    leave(&w);
    check_int(enter(&r, &w, (struct as){.client = 2, .priority = 1, .deadline_ms = now + 500}), GATE_WAIT);
    leave(&w);
    for (unsigned i = 0; i < 8; i++) {
        leave(&v[i]);
    }
    pass(&r, 0);
    room_close(&r);
}

static void without_a_history_nobody_is_refused_for_it(void **state) {
    (void)state;
    struct room r;
    static struct caller v[MANY];
    memset(v, 0, sizeof v);
    room_open(&r, &(struct gate_options){.limit = 1, .queue_length = 1000, .queue_wait_ms = 10});
    for (unsigned i = 0; i < 1001; i++) {
        check_int(enter(&r, &v[i], (struct as){.client = i}), i ? GATE_WAIT : GATE_IN);
    }
    check_int(enter(&r, &v[1001], (struct as){.client = 5000}), GATE_FULL);
    check_int(v[1001].refusal.wait_ms, 0);
    check_int(v[1001].refusal.retry_ms, 1000);
    for (unsigned i = 0; i < 1001; i++) {
        leave(&v[i]);
    }
    pass(&r, 0);
    room_close(&r);
}

static void who_is_late_leaves(void **state) {
    (void)state;
    struct room r;
    struct caller in = {0}, v[3] = {0};
    room_open(&r, &one);
    check_int(enter(&r, &in, (struct as){.client = 1}), GATE_IN);
    check_int(enter(&r, &v[0], (struct as){.client = 1}), GATE_WAIT);
    check_int(enter(&r, &v[1], (struct as){.client = 1, .deadline_ms = r.loop.now_ms + 5000}), GATE_WAIT);
    check_int(enter(&r, &v[2], (struct as){.client = 1, .deadline_ms = r.loop.now_ms + 90000}), GATE_WAIT);
    pass(&r, 4999);
    check_int(v[1].late, 0);
    check_int(look(&r).oldest_ms, 4999);
    pass(&r, 1);
    check_int(v[1].late, 1);
    check_int(look(&r).waiting, 2);
    pass(&r, 24999);
    check_int(v[0].late, 0);
    r.clock.ns += 1000000;
    leave(&in); // in the very millisecond: it is in
    pass(&r, 0);
    check_int(v[0].late, 0);
    check_int(v[0].order, 2);
    check_int(v[2].late, 1); // queue_wait_ms, long before its deadline
    check_int(look(&r).late, 2);
    check_int(look(&r).oldest_ms, 0);
    leave(&v[1]); // holds nothing
    leave(&v[0]);
    check_int(look(&r).in_flight, 0);
    room_close(&r);
}

static void a_queue_of_none_is_no_queue(void **state) {
    (void)state;
    struct room r;
    struct caller v[2] = {0};
    room_open(&r, &(struct gate_options){.limit = 1});
    check_int(enter(&r, &v[0], (struct as){.client = 1}), GATE_IN);
    check_int(enter(&r, &v[1], (struct as){.client = 1}), GATE_FULL);
    leave(&v[0]);
    check_int(enter(&r, &v[1], (struct as){.client = 1}), GATE_IN);
    leave(&v[1]);
    room_close(&r);
}

static void gates_are_found_again(void **state) {
    (void)state;
    struct gates *gates = gates_create();
    struct gate *a = gates_find(gates, STR("a")), *b = gates_find(gates, STR("b"));
    check(a != b);
    check(gates_find(gates, STR("a")) == a && gates_find(gates, STR("b")) == b);
    gates_destroy(gates);
    gates_destroy(NULL);
}

static void an_automatic_limit_is_kept_over_reloads(void **state) {
    (void)state;
    static const struct gate_options automatic = {.automatic = true, .limit = 4, .queue_length = 10};
    struct room r;
    struct caller v[5] = {0};
    room_open(&r, &(struct gate_options){.automatic = true});
    check_int(look(&r).limit, 10);
    check(look(&r).automatic);
    gate_set(r.gate, &automatic, 0);
    check_int(look(&r).limit, 4);
    for (unsigned i = 0; i < 5; i++) {
        check_int(enter(&r, &v[i], (struct as){.client = i}), i < 4 ? GATE_IN : GATE_WAIT);
    }
    gate_leave(&v[0].ticket, REPORT_OVERLOADED, 0);
    check_int(look(&r).limit, 3);
    check_int(look(&r).waiting, 1);                 // the place that was free is no place any more
    gate_leave(&v[1].ticket, REPORT_OVERLOADED, 0); // sent together with the first
    check_int(look(&r).limit, 3);
    pass(&r, 0);
    check_int(v[4].order, 5);
    gate_set(r.gate, &automatic, 0);
    check_int(look(&r).limit, 3);
    gate_set(r.gate, &two, 0);
    check_int(look(&r).limit, 2);
    gate_set(r.gate, &automatic, 0);
    check_int(look(&r).limit, 4); // anew
    leave(&v[2]);
    leave(&v[3]);
    leave(&v[4]);
    room_close(&r);
}

// ---- memory

static void enter_without_memory(void *arg) {
    struct room *r = arg;
    struct caller v[3] = {0};
    check_int(enter(r, &v[0], (struct as){.client = 1}), GATE_IN);
    for (unsigned i = 1; i < 3; i++) {
        enum gate_answer answer = enter(r, &v[i], (struct as){.client = i});
        check(answer == GATE_WAIT || answer == GATE_FULL);
        check_int(answer == GATE_WAIT, v[i].ticket.gate != NULL);
        check(answer != GATE_FULL || v[i].refusal.retry_ms >= 1000);
    }
    leave(&v[0]);
    leave(&v[1]);
    leave(&v[2]);
    while (loop_turn(&r->loop, 0)) {
    }
    check_int(look(r).in_flight, 0);
    check_int(look(r).waiting, 0);
}

static void who_cannot_be_remembered_is_refused(void **state) {
    (void)state;
    struct room r;
    room_open(&r, &one);
    check(every_allocation_fails(enter_without_memory, &r) >= 4);
    room_close(&r);
}

static void a_hundred_thousand_wait(void **state) {
    (void)state;
    enum { WAIT = 100000 };
    struct room r;
    struct caller in = {0}, *v = xcalloc(WAIT, sizeof *v);
    room_open(&r, &(struct gate_options){.limit = 1, .queue_length = WAIT});
    check_int(enter(&r, &in, (struct as){.client = 0}), GATE_IN);
    for (unsigned i = 0; i < WAIT; i++) {
        v[i].leaves = true;
        check_int(enter(&r, &v[i], (struct as){.client = 1 + i % 40000}), GATE_WAIT);
    }
    for (unsigned i = 0; i < WAIT; i += 7) {
        check_int(place_of(&v[i]), i + 1); // third calls come after all second ones
    }
    for (unsigned i = 0; i < WAIT; i += 2) { // half of them leave
        leave(&v[i]);
    }
    check_int(look(&r).waiting, WAIT / 2);
    leave(&in);
    pass(&r, 0);
    check_int(r.let_in, 1 + WAIT / 2);
    check_int(look(&r).in_flight, 0);
    room_close(&r);
    free(v);
}

TESTS(TEST(so_many_are_in_and_others_wait_in_order), TEST(one_who_is_let_in_and_leaves_before_it_knows),
      TEST(one_of_a_thousand_calls_and_nine_others), TEST(without_a_limit_it_only_counts),
      TEST(a_limit_is_raised_lowered_and_taken_away), TEST(higher_priorities_go_first), TEST(rounds_are_exact),
      TEST(those_who_left_cost_their_client_nothing), TEST(a_round_brings_no_more_than_the_weight),
      TEST(a_stream_of_strangers_does_not_starve_the_hog), TEST(the_queue_has_a_length_and_shares),
      TEST(a_lower_priority_pushes_nobody_out), TEST(who_would_be_late_is_refused_at_once),
      TEST(without_a_history_nobody_is_refused_for_it), TEST(who_is_late_leaves), TEST(a_queue_of_none_is_no_queue),
      TEST(gates_are_found_again), TEST(an_automatic_limit_is_kept_over_reloads),
      TEST(who_cannot_be_remembered_is_refused), TEST(a_hundred_thousand_wait))
