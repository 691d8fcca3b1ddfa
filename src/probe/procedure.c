// SPDX-License-Identifier: MIT
#include "probe/procedure.h"

#include "base/attr.h"
#include "probe/infer.h"
#include "probe/scene.h"

static const uint64_t SLOW_NS = 5000000000;
static const uint64_t GAP_LEAST_NS = 4000000; // less, and calls overtake one another on their way
static const double VARIES = 0.05;
enum {
    FIRST_BURST = 12,
    FIRST_BURST_SLOW = 4,
    GROWTH = 6,
    SESSION_CALLS = 2, // and twice as many where it takes turns
    SOLO_AGAIN = 10,
    SOLO_MOST = 60,
    A_FEW = 4,
    MANY = 120,
    FEW_TRIALS = 3,
    TOGETHER_MOST = 11, // if so many do not tell, more will not
    TOO_LATE = 6,       // and if the prober was too late in most of so many, it will be again
    OPEN_ROUNDS = 30,
    OPEN_MOST = 400,
    SEED = 7,
};

// What has been done so far.
struct done {
    const struct evidence *e;
    double alone_ms;
    unsigned solo;     // calls
    unsigned largest;  // burst
    unsigned smallest; // burst
    unsigned together; // trials of calls that could meet
    unsigned of[TRIAL_OPEN + 1];
};

static bool meets(const struct trial_plan *p) { return p->kind == TRIAL_BURST || p->kind == TRIAL_STAGGERED; }

// What the prober was too late for is done again.
static struct done count(const struct evidence *e, const struct verdict *v) {
    struct done d = {.e = e, .alone_ms = (double)v->solo_ns / 1e6};
    for (unsigned i = 0; i < e->count; i++) {
        const struct trial_plan *p = &e->trials[i]->plan;
        bool counts = !meets(p) || scene_sound(e->trials[i], d.alone_ms);
        d.of[p->kind] += counts;
        d.solo += p->kind == TRIAL_SOLO ? p->calls : 0;
        d.largest = p->kind == TRIAL_BURST && counts ? MAX(d.largest, p->calls) : d.largest;
        d.smallest = p->kind == TRIAL_BURST && counts && (!d.smallest || p->calls < d.smallest) ? p->calls : d.smallest;
        d.together += meets(p);
    }
    return d;
}

// Trials in which more came than can be served.
static unsigned more_than(const struct done *d, unsigned at_once) {
    unsigned n = 0;
    for (unsigned i = 0; i < d->e->count; i++) {
        const struct trial_plan *p = &d->e->trials[i]->plan;
        n += meets(p) && p->calls > at_once && scene_sound(d->e->trials[i], d->alone_ms);
    }
    return n;
}

// ---- sizes

static unsigned most_users(const struct procedure_options *o) { return o->max_users ? o->max_users : PROCEDURE_MOST; }

static unsigned flat_enough(const struct procedure_options *o) { return o->max_users ? o->max_users : PROCEDURE_FLAT; }

unsigned procedure_most_calls(const struct procedure_options *o) {
    unsigned usual = MAX((unsigned)PROCEDURE_BUDGET, 3 * MIN(o->max_users, 1u << 28));
    unsigned budget = o->budget ? o->budget : usual;
    return o->users ? MIN(budget, o->users + (o->solo ? o->solo : 8)) : budget;
}

// The next burst of those that grow; 0: there is none.
static unsigned next_rung(const struct procedure_options *o, const struct done *d, const struct verdict *v) {
    unsigned top = flat_enough(o);
    unsigned first = v->solo_ns > SLOW_NS ? FIRST_BURST_SLOW : FIRST_BURST;
    if (d->largest >= top) {
        return 0;
    }
    unsigned next = d->largest ? d->largest * GROWTH : first;
    return next >= top || next > top - next / 3 ? top : next;
}

static unsigned solo_wanted(const struct procedure_options *o, const struct done *d, const struct verdict *v) {
    if (o->solo) {
        return o->solo;
    }
    bool slow = v->solo_ns > SLOW_NS;
    if (d->solo == 0) {
        return 1;
    }
    bool varies = d->solo > 1 && v->solo_cv > VARIES;
    return slow ? varies ? 4 : 2 : varies ? 8 : 3;
}

// So many at once tell this mechanism from the next likely.
static unsigned telling_of(const struct hypothesis *h, const struct hypothesis *rival, bool varies) {
    bool divided = h->model == PROBE_PARTITIONED || rival->model == PROBE_PARTITIONED;
    switch (h->model) {
    case PROBE_SERIAL:
    case PROBE_POLL:
    case PROBE_PARTIAL_LOCK: return varies ? 9 : 5;
    case PROBE_POOL: return divided ? 2 * h->at_once + 1 : h->at_once + h->at_once / 2 + 2;
    // How the same seats are divided is told by those who still wait when others are done: by many of them.
    case PROBE_PARTITIONED:
        return rival->at_once == h->at_once ? MAX(3 * h->at_once, MIN(6 * h->at_once, (unsigned)MANY)) : 3 * h->at_once;
    case PROBE_CPU: return MAX(2 * h->at_once + 2, rival->cores ? rival->at_once + rival->at_once / 2 + 2 : 0);
    case PROBE_CAP: return h->at_once + 4;
    case PROBE_BUCKET: return h->at_once + 6;
    case PROBE_SESSION: return 2 * SESSION_CALLS;
    case PROBE_FLAT:
    case PROBE_INCONCLUSIVE: break;
    }
    return 0;
}

static unsigned telling(const struct hypothesis *h, const struct hypothesis *rival, bool varies) {
    unsigned calls = telling_of(h, rival, varies);
    // Where calls take several places, it is that now and then one more is served; and a small part of each call that
    // they queue for shows when many do.
    bool slight = h->model == PROBE_PARTIAL_LOCK && rival->model == PROBE_FLAT;
    unsigned several = (h->takes ? 1u : 0u) + (rival->takes ? 1u : 0u);
    return MAX(calls, (slight ? 2 : several) * FIRST_BURST);
}

// All of them come within half a call's time, but not so close that they overtake one another.
static uint64_t gap_of(unsigned calls, const struct verdict *v) {
    uint64_t gap = v->solo_ns / (2 * (uint64_t)calls + 1);
    return MAX(MIN(gap, v->solo_ns / 7), GAP_LEAST_NS);
}

// ---- what next

static bool give(struct trial_plan *plan, enum trial_kind kind, unsigned calls) {
    *plan = (struct trial_plan){.kind = kind, .calls = calls};
    return calls > 0;
}

// One burst, as it was asked for.
static bool next_of_users(const struct procedure_options *o, const struct done *d, struct trial_plan *plan) {
    if (d->together) {
        return false;
    }
    give(plan, o->gap_ns ? TRIAL_STAGGERED : TRIAL_BURST, o->users);
    plan->gap_ns = o->gap_ns;
    return true;
}

static bool next_when_flat(const struct procedure_options *o, const struct done *d, const struct verdict *v,
                           struct trial_plan *plan) {
    unsigned rung = next_rung(o, d, v);
    if (o->sessions && !d->of[TRIAL_SESSION] && d->largest) {
        return give(plan, TRIAL_SESSION, SESSION_CALLS);
    }
    if (rung) {
        return give(plan, TRIAL_BURST, rung);
    }
    // Once more the same, then twice as many.
    bool in_doubt = v->best.model == PROBE_INCONCLUSIVE && d->together < TOGETHER_MOST;
    unsigned calls = d->together % 2 ? MIN(d->largest * 2, most_users(o)) : d->largest;
    return in_doubt && give(plan, TRIAL_BURST, calls);
}

static bool order_matters(enum probe_model m) {
    return m == PROBE_SERIAL || m == PROBE_POOL || m == PROBE_POLL || m == PROBE_PARTITIONED || m == PROBE_CAP;
}

static bool may_be_a_rate(const struct verdict *v) {
    return (v->likely.model == PROBE_PARTIAL_LOCK && v->runner_up.model == PROBE_BUCKET) ||
           (v->likely.model == PROBE_BUCKET && v->runner_up.model == PROBE_PARTIAL_LOCK);
}

// Many are slowed alike by cores they share and by one that has some work to do for each: few are not.
static unsigned few_enough(const struct done *d, const struct hypothesis *h) {
    unsigned few = h->model == PROBE_CPU ? h->at_once : h->together > 0 ? A_FEW : 0;
    return few >= A_FEW && d->smallest > few ? few : 0;
}

static bool next_open(const struct procedure_options *o, const struct done *d, const struct verdict *v,
                      struct trial_plan *plan) {
    const struct hypothesis *h = &v->best;
    double rate = h->model == PROBE_BUCKET ? h->rate : h->at_once * 1e9 / (double)v->solo_ns;
    bool rated = order_matters(h->model) || h->model == PROBE_CPU || h->model == PROBE_BUCKET;
    if (!o->verify || !rated || d->of[TRIAL_OPEN] >= 2) {
        return false;
    }
    double times = d->of[TRIAL_OPEN] ? 1.2 : 0.8;
    give(plan, TRIAL_OPEN, MIN(OPEN_ROUNDS * h->at_once, (unsigned)OPEN_MOST));
    plan->rate = rate * times;
    return true;
}

static bool next_when_waiting(const struct procedure_options *o, const struct done *d, const struct verdict *v,
                              struct trial_plan *plan) {
    const struct hypothesis *h = &v->likely;
    bool bare = v->best.model != PROBE_INCONCLUSIVE;
    bool varies = v->solo_cv > VARIES;
    // A rate keeps its pace however long the queue is; whoever hands over is a little later each time.
    unsigned wanted = may_be_a_rate(v) ? FIRST_BURST : telling(h, &v->runner_up, varies);
    unsigned calls = MIN(wanted, most_users(o));
    if (h->model == PROBE_SESSION) {
        unsigned rung = next_rung(o, d, v);
        return d->of[TRIAL_SESSION] >= (bare ? 2 : TOGETHER_MOST) ? false
               : bare || !rung                                    ? give(plan, TRIAL_SESSION, calls)
                                                                  : give(plan, TRIAL_BURST, rung);
    }
    // Whoever is refused by a cap is let in when a call is done; by a rate, when it is time.
    bool refuses = h->model == PROBE_CAP || h->refused_status;
    if (refuses && (!d->of[TRIAL_STAGGERED] || (!bare && d->together < TOGETHER_MOST))) {
        unsigned closer = 3 * d->of[TRIAL_STAGGERED];
        give(plan, TRIAL_STAGGERED, MIN(h->at_once + h->at_once / 2 + 4 + closer, most_users(o)));
        plan->gap_ns = MAX(v->solo_ns * 3 / 2 / plan->calls, GAP_LEAST_NS / 4);
        return true;
    }
    if (order_matters(h->model) && !d->of[TRIAL_STAGGERED]) {
        give(plan, TRIAL_STAGGERED, calls);
        plan->gap_ns = gap_of(calls, v);
        return true;
    }
    if (o->slower && !d->of[TRIAL_SLOWER] && (bare || may_be_a_rate(v))) {
        return give(plan, TRIAL_SLOWER, calls);
    }
    if (bare && !few_enough(d, h) &&
        more_than(d, h->at_once) >= (h->model == PROBE_POOL || h->model == PROBE_CPU ? 3 : 2)) {
        return next_open(o, d, v, plan);
    }
    if (d->together >= TOGETHER_MOST) {
        return false;
    }
    unsigned few = few_enough(d, h);
    if (few) {
        return give(plan, TRIAL_BURST, MIN(few, most_users(o)));
    }
    // How many share is told by how much longer it takes than alone.
    bool unsure =
        h->model == PROBE_CPU && v->runner_up.model == PROBE_CPU && !bare && (varies || d->together >= FEW_TRIALS);
    if (unsure && d->solo < SOLO_MOST && d->of[TRIAL_SOLO] <= d->together + 1) {
        return give(plan, TRIAL_SOLO, SOLO_AGAIN);
    }
    // What varies is told by calls whose order is known; who looks now and then, too.
    bool ordered = varies || h->model == PROBE_POLL || v->runner_up.model == PROBE_POLL;
    if (ordered && order_matters(h->model) && d->of[TRIAL_STAGGERED] <= d->of[TRIAL_BURST]) {
        give(plan, TRIAL_STAGGERED, calls);
        plan->gap_ns = gap_of(calls, v);
        return true;
    }
    return give(plan, TRIAL_BURST, calls);
}

// No other trial would help: it is not the calls that are to blame.
static bool hopeless(const struct verdict *v, const struct done *d) {
    bool theirs =
        v->doubt == DOUBT_NETWORK || v->doubt == DOUBT_ERRORS || v->doubt == DOUBT_CACHED || v->doubt == DOUBT_STREAMS;
    return (theirs && d->together >= 3) || (v->doubt == DOUBT_PROBER && d->together >= TOO_LATE);
}

// The same on one connection: what is the server's HTTP/2, and not the app. A rate's tokens would have been used up by the
// trial before.
static bool next_on_one_connection(const struct done *d, const struct verdict *v, struct trial_plan *plan) {
    struct spoken spoken = spoken_of(d->e);
    unsigned calls = MIN(d->largest, (unsigned)FIRST_BURST);
    calls = spoken.streams ? MIN(calls, spoken.streams) : calls;
    bool decided = v->best.model != PROBE_INCONCLUSIVE && v->best.model != PROBE_BUCKET;
    bool wanted = decided && spoken.h2 && !spoken.h1 && !d->of[TRIAL_STREAMS];
    return wanted && calls >= 2 && give(plan, TRIAL_STREAMS, calls);
}

static bool next(const struct procedure_options *o, const struct done *d, const struct verdict *v,
                 struct trial_plan *plan) {
    unsigned solo = solo_wanted(o, d, v);
    if (d->solo < solo && !d->together) {
        return give(plan, TRIAL_SOLO, solo - d->solo);
    }
    if (o->users) {
        return next_of_users(o, d, plan);
    }
    if (hopeless(v, d)) {
        return false;
    }
    if (!d->of[TRIAL_BURST]) {
        return v->solo_ns && give(plan, TRIAL_BURST, next_rung(o, d, v));
    }
    bool flat = v->likely.model == PROBE_FLAT || v->likely.model == PROBE_INCONCLUSIVE;
    bool more = flat ? next_when_flat(o, d, v, plan) : next_when_waiting(o, d, v, plan);
    return more || next_on_one_connection(d, v, plan);
}

bool procedure_next(const struct evidence *e, const struct procedure_options *o, struct verdict *v,
                    struct trial_plan *plan) {
    infer(e, SEED, v);
    struct done d = count(e, v);
    if (!next(o, &d, v, plan)) {
        return false;
    }
    unsigned budget = procedure_most_calls(o);
    unsigned left = budget - MIN(e->calls_spent, budget);
    if (plan->calls <= left) {
        return true;
    }
    // A smaller one is still worth it where somebody would wait.
    bool useful = plan->kind != TRIAL_SOLO && plan->kind != TRIAL_STREAMS && left >= 2 && left > v->likely.at_once + 1;
    if (useful) {
        plan->calls = left;
        return true;
    }
    v->doubt = v->best.model == PROBE_INCONCLUSIVE && plan->kind != TRIAL_OPEN ? DOUBT_BUDGET : v->doubt;
    return false;
}
