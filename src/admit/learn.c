// SPDX-License-Identifier: MIT
#include "admit/learn.h"

void learn_init(struct learn *l, unsigned limit) {
    *l = (struct learn){.limit = limit ? MIN(limit, (unsigned)LEARN_MOST) : LEARN_BEGIN};
}

static const double LOWERED = 0.9, CROWDED = 2, MEMORY = 0.1;

void learn_answer(struct learn *l, const struct learn_sample *s) {
    double first_ms = (double)s->first_byte_ms;
    bool slow = s->well && l->first_ms > 0 && first_ms > CROWDED * l->first_ms;
    if (s->overloaded || slow) {
        if (s->epoch == l->epoch) {
            l->limit = MAX(1, l->limit * LOWERED);
            l->epoch++;
        }
        return;
    }
    if (s->well && first_ms > 0) {
        l->first_ms = l->first_ms > 0 ? l->first_ms + (first_ms - l->first_ms) * MEMORY : first_ms;
    }
    if (s->well && s->in >= learn_limit(l)) {
        l->limit = MIN(l->limit + 1 / l->limit, (double)LEARN_MOST);
    }
}
