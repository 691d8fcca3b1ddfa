// SPDX-License-Identifier: MIT
#include "ev/timer.h"

// Level L's slot covers 64^L ms. A timer sits on the lowest level whose span (64 slots) reaches its due time
// from now; when the wheel gets to a higher level's slot, its timers are filed again, lower.

static unsigned slot_of(uint64_t ms, unsigned level) {
    return (unsigned)(ms >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1);
}

void wheel_init(struct wheel *w, uint64_t now_ms) {
    *w = (struct wheel){.now_ms = now_ms, .target_ms = now_ms};
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            list_init(&w->slots[level][slot]);
        }
    }
}

// t->due_ms lies ahead of w->now_ms.
static void file_timer(struct wheel *w, struct timer *t) {
    uint64_t due = t->due_ms;
    unsigned level = 0;
    // A slot of a level may be used while it lies ahead within one revolution of that level.
    while (level < WHEEL_LEVELS - 1 &&
           (due >> (level * WHEEL_BITS)) - (w->now_ms >> (level * WHEEL_BITS)) >= WHEEL_SLOTS) {
        level++;
    }
    uint64_t reach = (w->now_ms >> (level * WHEEL_BITS)) + WHEEL_SLOTS - 1;
    uint64_t at = MIN(due >> (level * WHEEL_BITS), reach); // beyond the top: the farthest slot, and again
    unsigned slot = (unsigned)at & (WHEEL_SLOTS - 1);
    list_push_back(&w->slots[level][slot], &t->node);
    w->occupied[level] |= (uint64_t)1 << slot;
}

void wheel_set(struct wheel *w, struct timer *t, uint64_t due_ms) {
    // The past is moved behind the end of a running wheel_advance, so that a timer that sets itself again cannot
    // hold the loop, nor fire once for every millisecond that was slept through.
    due_ms = due_ms > w->now_ms ? due_ms : w->target_ms + 1;
    bool later = timer_is_set(t) && due_ms >= t->due_ms;
    t->due_ms = due_ms;
    if (!later) { // else it is filed again when its slot's time comes
        list_unlink(&t->node);
        file_timer(w, t);
    }
}

// The first time after now at which this level's slots want attention. wheel_clear knows no wheel, so the bits
// of slots that it emptied are taken back here.
static uint64_t level_next_ms(struct wheel *w, unsigned level) {
    unsigned shift = level * WHEEL_BITS;
    uint64_t unit = (w->now_ms >> shift) + 1;
    while (w->occupied[level]) {
        unsigned slot = (unsigned)unit & (WHEEL_SLOTS - 1);
        uint64_t rotated = w->occupied[level] >> slot;
        if (slot) {
            rotated |= w->occupied[level] << (WHEEL_SLOTS - slot);
        }
        unsigned ahead = (unsigned)__builtin_ctzll(rotated);
        unsigned found = (slot + ahead) & (WHEEL_SLOTS - 1);
        if (!list_empty(&w->slots[level][found])) {
            return (unit + ahead) << shift;
        }
        w->occupied[level] &= ~((uint64_t)1 << found);
    }
    return UINT64_MAX;
}

uint64_t wheel_next_ms(struct wheel *w) {
    uint64_t next = UINT64_MAX;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        next = MIN(next, level_next_ms(w, level));
    }
    return next;
}

static void take_slot(struct wheel *w, unsigned level, struct list *taken) {
    unsigned slot = slot_of(w->now_ms, level);
    list_move_all(taken, &w->slots[level][slot]);
    w->occupied[level] &= ~((uint64_t)1 << slot);
}

// Of a slot whose time has come: is it due, or was it set to later meanwhile?
static void sort(struct wheel *w, struct list *node, struct list *due) {
    struct timer *t = container_of(node, struct timer, node);
    if (t->due_ms <= w->now_ms) {
        list_push_back(due, node);
    } else {
        file_timer(w, t);
    }
}

// w->now_ms has just become a new millisecond: higher levels that begin a slot are filed lower, then fire.
static void visit(struct wheel *w) {
    struct list due;
    struct list *node;
    list_init(&due);
    for (unsigned level = WHEEL_LEVELS - 1; level > 0; level--) {
        uint64_t below = ((uint64_t)1 << (level * WHEEL_BITS)) - 1;
        struct list refile;
        if (w->now_ms & below) {
            continue;
        }
        take_slot(w, level, &refile);
        while ((node = list_pop_front(&refile))) {
            sort(w, node, &due);
        }
    }
    struct list bottom;
    take_slot(w, 0, &bottom);
    while ((node = list_pop_front(&bottom))) {
        sort(w, node, &due);
    }
    while ((node = list_pop_front(&due))) {
        struct timer *t = container_of(node, struct timer, node);
        if (t->due_ms > w->now_ms) { // one before it set it again
            file_timer(w, t);
            continue;
        }
        if (w->activity) {
            activity_set(w->activity, (activity_callback *)t->on_timer);
        }
        t->on_timer(t);
    }
}

void wheel_advance(struct wheel *w, uint64_t now_ms) {
    w->target_ms = MAX(w->target_ms, now_ms);
    while (w->now_ms < now_ms) {
        uint64_t next = wheel_next_ms(w);
        if (next > now_ms) {
            w->now_ms = now_ms;
            return;
        }
        w->now_ms = next;
        visit(w);
    }
}
