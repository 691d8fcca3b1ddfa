// SPDX-License-Identifier: MIT
// Callers in front of one gate, on one loop with a fake clock.
#include "admit/gate.h"
#include "check.h"

struct room;

struct caller {
    struct room *room;
    struct ticket ticket;
    struct gate_refusal refusal;
    enum gate_answer answer;
    unsigned order; // the how many-th to be let in, from 1; 0: never
    unsigned late;  // how often it was told so
    unsigned pushed;
    bool leaves; // as soon as it is in
};

struct room {
    struct fake_clock clock;
    struct loop loop;
    struct gates *gates;
    struct gate *gate;
    unsigned let_in;
};

static inline void room_open(struct room *r, const struct gate_options *options) {
    *r = (struct room){.let_in = 0};
    fake_clock_init(&r->clock);
    check_ok(loop_init(&r->loop, &(struct loop_options){.clock = &r->clock.clock}));
    r->gates = gates_create();
    r->gate = gates_find(r->gates, STR("upstream"));
    gate_set(r->gate, options, r->loop.now_ms);
}

static inline void room_close(struct room *r) {
    while (loop_turn(&r->loop, 0)) {
    }
    loop_finish(&r->loop);
    gates_destroy(r->gates);
}

// Time passes, and everything that was to happen until then has.
static inline void pass(struct room *r, uint64_t ms) {
    r->clock.ns += ms * 1000000;
    do {
        loop_turn(&r->loop, 0);
    } while (loop_turn(&r->loop, 0));
}

static inline void caller_in(void *owner) {
    struct caller *c = owner;
    c->order = ++c->room->let_in;
    if (c->leaves) {
        gate_leave(&c->ticket, REPORT_WELL, 0);
    }
}

static inline void caller_late(void *owner) {
    struct caller *c = owner;
    check(!c->ticket.gate);
    c->late++;
}

static inline void caller_pushed(void *owner) {
    struct caller *c = owner;
    check(!c->ticket.gate);
    c->pushed++;
}

struct as { // 0: weight 1, no deadline
    uint64_t client;
    unsigned weight, priority;
    uint64_t deadline_ms;
};

static inline enum gate_answer enter(struct room *r, struct caller *c, struct as as) {
    struct gate_asker asker = {.loop = &r->loop, .client = as.client, .weight = as.weight ? as.weight : 1};
    asker.priority = as.priority;
    asker.deadline_ms = as.deadline_ms ? as.deadline_ms : UINT64_MAX;
    asker.on_in = caller_in;
    asker.on_late = caller_late;
    asker.on_pushed = caller_pushed;
    asker.owner = c;
    c->room = r;
    c->answer = gate_enter(r->gate, &asker, &c->ticket, &c->refusal);
    if (c->answer == GATE_IN) {
        c->order = ++r->let_in;
    }
    return c->answer;
}

static inline void leave(struct caller *c) { gate_leave(&c->ticket, REPORT_WELL, 0); }

static inline struct gate_look look(struct room *r) {
    struct gate_look look;
    gate_look(r->gate, r->loop.now_ms, &look);
    return look;
}

static inline unsigned place_of(const struct caller *c) {
    unsigned place = 0, waiting = 0;
    return gate_place(&c->ticket, &place, &waiting) ? place : 0;
}
