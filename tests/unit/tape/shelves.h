// SPDX-License-Identifier: MIT
// Three shelves whose loops stand on one fake clock and are turned by hand, and calls that write tapes.
#pragma once
#include "chance.h"
#include "support.h"
#include "tape/shelf.h"

enum { SHELVES = 3, KEEP_MS = 10000, WAIT_MS = 5000, TAPE_KEEP = 100000 };

struct bench {
    struct fake_clock fake;
    struct shelves *all;
    struct loop loops[SHELVES];
    struct shelf shelves[SHELVES];
    unsigned ended; // heard of by on_ended
    unsigned stopped;
    struct tape_why why;
};

static const struct digest tenant = {{1, 2, 3}};
static const struct digest other_tenant = {{1, 2, 3, 4}};

static inline void on_ended(struct shelf *shelf, struct tape_kept *kept) {
    struct bench *b = shelf->owner;
    check(!tape_running(kept->tape));
    check(kept->cost > 0);
    b->ended++;
}

static inline void bench_init(struct bench *b, uint64_t total_bytes) {
    *b = (struct bench){.ended = 0};
    fake_clock_init(&b->fake);
    b->all =
        shelves_create(&(struct shelves_options){.count = SHELVES, .keep_ms = KEEP_MS, .total_bytes = total_bytes});
    for (unsigned i = 0; i < SHELVES; i++) {
        check_ok(loop_init(&b->loops[i], &(struct loop_options){.clock = &b->fake.clock}));
        shelf_init(&b->shelves[i], b->all, i, &b->loops[i]);
        b->shelves[i].on_ended = on_ended;
        b->shelves[i].owner = b;
    }
}

static inline void bench_finish(struct bench *b) {
    shelves_close(b->all);
    for (unsigned i = 0; i < SHELVES; i++) {
        check_int(b->shelves[i].running, 0);
        shelf_finish(&b->shelves[i]);
        shelf_finish(&b->shelves[i]);
        loop_finish(&b->loops[i]);
    }
    check_int(b->all->finished_bytes, 0);
    shelves_destroy(b->all);
}

// One turn of each loop.
static inline void turn(struct bench *b) {
    for (unsigned i = 0; i < SHELVES; i++) {
        loop_turn(&b->loops[i], 0);
    }
}

static inline void pass_ms(struct bench *b, uint64_t ms) {
    b->fake.ns += ms * 1000000;
    turn(b);
}

// ---- a writer as a call is one

struct call {
    struct bench *bench;
    struct shelf *shelf;
    struct tape *tape;
    struct tape_kept *kept;
    struct tape_id id;
};

static inline void call_end(struct call *c, const struct tape_why *why) {
    struct tape *t = c->tape;
    c->tape = NULL;
    t->events = NULL;
    if (why) {
        tape_finish(t, why);
    }
    shelf_ended(c->shelf, t);
    tape_unref(t);
}

static inline void on_room(struct tape *t UNUSED) {}

static inline void on_abandoned(struct tape *t) {
    if (!shelf_goes_on(t)) {
        call_end(t->writer, &(struct tape_why){TAPE_CANCELLED, OK, 0, 0, "the client left"});
    }
}

static inline void on_stop(struct tape *t, const struct tape_why *why) {
    struct call *c = t->writer;
    c->bench->stopped++;
    c->bench->why = *why;
    call_end(c, why);
}

static const struct tape_events call_events = {on_room, on_abandoned, on_stop};

static inline void call_begin(struct call *c, struct bench *b, unsigned shelf) {
    *c = (struct call){.bench = b, .shelf = &b->shelves[shelf]};
    c->tape = tape_create(&call_events, c);
    shelf_add(c->shelf, c->tape, 0);
    c->id = shelf_id(c->shelf, c->tape);
}

static inline void call_begin_kept(struct call *c, struct bench *b, unsigned shelf) {
    call_begin(c, b, shelf);
    c->kept = shelf_keep(c->shelf, c->tape, TAPE_KEEP, &tenant);
}

static inline void answer(struct call *c, int status, size_t n) {
    struct tape_head head = {.status = status, .body_len = -1};
    tape_put_head(c->tape, &head);
    append(c->tape, n, true);
    call_end(c, NULL);
}

static inline enum shelf_find find(const struct shelf *shelf, const struct tape_id *id, struct tape **t) {
    unsigned where = SHELVES;
    *t = NULL;
    enum shelf_find found = shelf_find(shelf, str_c(id->text), t, &where);
    check((found == SHELF_HERE) == (*t != NULL));
    return found;
}

static inline enum shelf_find look(const struct call *c) {
    struct tape *t;
    return find(c->shelf, &c->id, &t);
}
