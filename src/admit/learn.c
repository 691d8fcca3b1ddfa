// SPDX-License-Identifier: MIT
// The numbers were chosen by simulation (tests/unit/admit/test_learn.c) of pools of 3, 6 and 20 that refuse or let wait,
// with constant and lognormal times, first bytes from a tenth of the answer to all of it.
#include "admit/learn.h"

#include <math.h>

enum {
    CALM_MEMORY = 50, // calls, of the averages
    ALONE_MEMORY = 4,
    SERVICE_MEMORY = 20,
    LATELY_MEMORY = 6,
    PATIENCE = 4, // where it is in doubt whether calls wait, so many times the limit are looked at
    HOLD = 1,
    SLOW_TRIES = 2, // one more each time, with all its evidence; after that
    FASTER = 3,     // the step grows so much each time, and less evidence is enough
};
static const double lowered = 0.9;        // by a refusal
static const double drained = 0.9;        // to see how fast it is when it is not crowded
static const double drain_matters = 0.25; // where the first byte is so much of the whole
static const double evidence = 1.25; // calls for each of the limit, before more is tried: a round, and who waited in it
static const double evidence_fast = 0.75;
static const double evidence_drained = 2; // it tells how fast it is
static const double queued_most = 0.5;    // calls, in the upstream's queue
static const double sure = 2;             // standard deviations
static const double gross_wait = 0.3, gross_fall = 0.7, gross_sure = 1;

static void average(double *a, double x, unsigned count) { *a += (x - *a) / count; }

static void set_limit(struct learn *l, unsigned limit) {
    l->limit = MAX(1u, MIN(limit, (unsigned)LEARN_MOST));
    l->count = 0;
    l->epoch++;
}

static void lower(struct learn *l, unsigned limit) {
    l->tried = 0;
    l->hold = HOLD;
    set_limit(l, limit);
}

void learn_init(struct learn *l, unsigned limit) {
    *l = (struct learn){.limit = 0};
    set_limit(l, limit ? limit : LEARN_BEGIN);
    l->good = l->limit;
    l->calm = MAX(1, l->limit / 2);
}

// Back to what was good if that is less, else by a tenth. Calls that were sent before the limit changed do not count:
// they are from the same crowd.
static void on_overloaded(struct learn *l, const struct learn_sample *s) {
    if (s->epoch != l->epoch) {
        return;
    }
    if (l->limit <= l->good) {
        l->good = MAX(1u, (unsigned)(l->limit * lowered));
    }
    lower(l, l->good);
}

// It serves so many, others wait over there. Where the first byte is a large part of the answer, it is important to know
// it exactly: below that for a moment, so that nobody waits.
static void on_crowded(struct learn *l, double served) {
    l->good = MAX(1u, MIN((unsigned)round(served), l->limit));
    l->calm = l->good;
    if (l->calm_ms > l->service_ms * drain_matters) {
        l->calm = MAX(1u, (unsigned)(l->good * drained));
    }
    lower(l, l->calm);
}

// More than chance can explain.
static bool waits_grossly(const struct learn *l) {
    double spread = gross_sure * sqrt(l->calm_variance) / l->service_ms;
    return l->lately_waited > MAX(gross_wait, spread / (1 + spread));
}

static void on_calm(struct learn *l, double waited_ms) {
    l->calm_count = MIN(l->calm_count + 1, (unsigned)CALM_MEMORY);
    double old_ms = l->calm_ms, most_ms = 2 * l->calm_ms; // one that stalled does not make all others look fast
    waited_ms = MIN(waited_ms, most_ms);
    average(&l->calm_ms, old_ms + waited_ms, l->calm_count);
    average(&l->calm_variance, waited_ms * (old_ms + waited_ms - l->calm_ms), l->calm_count);
}

static void look_at(struct learn *l, const struct learn_sample *s) {
    double total_ms = (double)MAX(MAX(s->total_ms, s->first_byte_ms), 1);
    double first_ms = s->first_byte_ms ? (double)s->first_byte_ms : MIN(l->calm_ms, total_ms);
    if (!l->calm_count) {
        l->calm_ms = first_ms;
        l->service_ms = total_ms;
    }
    double waited_ms = first_ms - l->calm_ms;
    average(&l->service_ms, MAX(total_ms - waited_ms, MAX(l->calm_ms, 1)), SERVICE_MEMORY);
    if (!l->calm_count || (s->crowd <= l->calm && !waits_grossly(l))) {
        on_calm(l, waited_ms);
    } else if (s->crowd == 1) { // alone and slow: it has become slower
        l->calm_count = MIN(l->calm_count, (unsigned)ALONE_MEMORY);
        on_calm(l, waited_ms);
    }
    if (s->epoch == l->epoch && s->in >= l->limit) {
        l->count++;
        average(&l->crowd, s->crowd, l->count);
        average(&l->waited_ms, MIN(waited_ms, l->service_ms), l->count); // a stall counts as one call that waited
    }
    double share = waited_ms > 0 ? waited_ms / (l->service_ms + waited_ms) : 0;
    l->lately_count = MIN(l->lately_count + 1, (unsigned)LATELY_MEMORY);
    average(&l->lately_waited, share, l->lately_count);
    average(&l->lately_served, s->crowd * (1 - share), l->lately_count);
}

// Far too many are in: by the last answers alone, whatever the limit was when they were asked for.
static bool is_swamped(const struct learn *l) {
    return l->lately_count == LATELY_MEMORY && waits_grossly(l) && l->lately_served < l->limit * gross_fall;
}

static bool has_evidence(const struct learn *l) {
    double rounds = l->limit < l->good ? evidence_drained : l->tried > SLOW_TRIES ? evidence_fast : evidence;
    return l->count >= l->limit * rounds;
}

static void try_more(struct learn *l) {
    if (l->limit < l->good) {
        set_limit(l, l->good);
    } else if (l->hold) {
        l->hold--;
        l->count = 0;
    } else {
        l->good = l->limit;
        l->step = l->tried++ < SLOW_TRIES ? 1 : MIN(l->step * FASTER, l->limit);
        set_limit(l, l->limit + l->step);
    }
}

void learn_answer(struct learn *l, const struct learn_sample *s) {
    if (s->overloaded) {
        on_overloaded(l, s);
        return;
    }
    if (!s->well) {
        return;
    }
    look_at(l, s);
    if (is_swamped(l)) {
        on_crowded(l, l->lately_served);
        return;
    }
    if (!has_evidence(l)) {
        return;
    }
    double whole_ms = l->service_ms + MAX(l->waited_ms, 0);
    double queued = l->crowd * l->waited_ms / whole_ms;
    double doubt = l->crowd * sqrt(l->calm_variance * (1.0 / l->count + 1.0 / l->calm_count)) / whole_ms;
    if (queued <= queued_most) {
        try_more(l);
    } else if (queued > sure * doubt || l->count > PATIENCE * l->limit) {
        on_crowded(l, l->crowd - queued);
    }
}
