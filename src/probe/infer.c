// SPDX-License-Identifier: MIT
#include "probe/infer.h"

#include <math.h>

#include "base/mem.h"
#include "probe/fit.h"
#include "probe/lots.h"

static const double BIC_BARE = 10;
static const double VARIES = 0.05; // CV of calls alone
static const double UNFAIR = 4;    // so much likelier is it that who is next is not who came first
static const double CONFIDENCE_BARE = 0.95;
static const double CONFIDENCE_DIVIDED = 0.98; // of how seats are divided
static const double ODDS_MOST = 1e12;
// A wait of less than this share of T is not told from noise; one of more than half of T is not "nobody waits".
static const double WAIT_SEEN = 0.2;
static const double IN_TIME = 1.035;       // times what the fastest alone took
static const double SLOWER_TOGETHER = 1.5; // times as long on one connection: by lot calls may meet differently
static const double SLOWER_SEEN = 0.07;    // so much more of all of them together is
static const double WAIT_FLAT = 0.5;
static const double SAME_PACE = 0.15; // of rates of which refusals say no more than between what they are
static const double ODD_MOST = 2.5;
static const double LOCK_LIKE = 0.05;
static const double TOKEN_MS_LEAST = 4; // less is what a server has to do for each call
static const double IDLE_LEAST = 0.125; // of a period
static const double SHARE_MOST = 0.9;   // of a lock: above, it is one for the whole call
// The journal says otherwise.
static const double SEEN_OTHERWISE = -20;
// What letting in in another order than that of coming costs.
static const double ORDER_PRICE[ORDERS] = {0, 1, 2, 2};

// Of how fast a core is, in one trial and another.
static const double PACE_SPREAD = 0.2;
static const double PACE_PRICE = 2;
static const double PACE_MOST = 2;
static const double SEVERAL_PRICE = 12; // of a call that takes several places: few do, and there are many such pairs
static const double CORES_PRICE = 4;    // of more cores than this machine has, where the server is on it
// So much of each call may be worked at side by side; one of which more is, is a CPU.
static const double TOGETHER[] = {0, 0.5, 1};
static const double TOGETHER_MOST = 0.2;

enum {
    ALL_TRIED = 64, // up to so many at once every N is a candidate
    NEAR = 3,       // beyond, those so near to what is seen
    FINALISTS = 12, // that are resampled
    RESAMPLES = 200,
    LOTS_TRIED = 14, // ways to divide seats among workers
    LOTS_GUESSES = 8,
    LOTS_MORE = 64, // guesses, for so many of them
    LOTS_AGAIN = 4,
    LOTS_LAST = 5, // and of those by LOTS_GUESSES_MOST
    LOTS_CALLS = 400,
    WORKERS_MOST = 40,
    DIVIDED_MOST = 160, // seats in all
};

struct candidate {
    struct hypothesis h;
    double score;        // logarithm of the likelihood, less the price
    double fixed;        // of it, what belongs to no call
    double *part;        // of it, each call's; then each refusal's
    double odd;          // calls in bursts that it does not explain
    double odd_together; // the most of one burst
    double waited;
    double slower; // logarithm of the factor of the trials with the latency doubled; 0: there were none
};

struct search {
    const struct evidence *e;
    struct scene s;
    struct account trying, chosen;
    struct fit fit;
    struct candidate *v;
    size_t count, room;
    uint64_t random;
};

// ---- the models, and what their numbers cost: half of BIC's parameters * log(n), for the sizes that are usual here

// Rates are configured, so they are whole numbers, of a second or of a minute.
static double round_rate(double rate) { return rate >= 1 ? nearbyint(rate) : MAX(nearbyint(rate * 60), 1) / 60; }
static bool rate_is_round(double rate) { return fabs(rate - round_rate(rate)) < 1e-9; }

static double price_of(const struct hypothesis *h) {
    switch (h->model) {
    case PROBE_FLAT: return (h->share > 0 ? 0.5 : 0) + (h->together > 0 ? 0.5 : 0);
    case PROBE_SERIAL: return 1;
    case PROBE_SESSION: return 2;
    case PROBE_POOL: return h->takes ? SEVERAL_PRICE : 2 + log(h->at_once) + (h->cores ? 3 : 0);
    case PROBE_CPU:
    case PROBE_CAP: return 2 + log(h->at_once); // there are more large ones to choose from
    case PROBE_PARTIAL_LOCK: return h->together > 0 ? 5 : 4;
    case PROBE_PARTITIONED: return 5;
    case PROBE_POLL: return h->each ? 8 : 6;
    case PROBE_BUCKET: return rate_is_round(h->rate) ? remainder(h->rate, 5) == 0 ? 6 : 7 : 12;
    case PROBE_INCONCLUSIVE: break;
    }
    return 0;
}

bool hypothesis_same(const struct hypothesis *a, const struct hypothesis *b) {
    bool pace = !a->refused_status || a->model != PROBE_BUCKET || fabs(log(a->rate / b->rate)) < SAME_PACE;
    return a->model == b->model && a->at_once == b->at_once && a->workers == b->workers && a->places == b->places &&
           a->takes == b->takes && pace;
}

// ---- one candidate

static double *doubles(size_t n) { return xcalloc(n + 1, sizeof(double)); }

static void account_init(struct account *a, const struct scene *s) {
    *a = (struct account){.service = doubles(s->n), .chance = doubles(s->n), .refused = doubles(s->refused)};
}

static void account_finish(struct account *a) {
    free(a->service);
    free(a->chance);
    free(a->refused);
}

static void copy_part(struct account *to, const struct account *from, const struct span *p) {
    memcpy(to->service + p->from, from->service + p->from, span_len(p) * sizeof(double));
    memcpy(to->chance + p->from, from->chance + p->from, span_len(p) * sizeof(double));
    memcpy(to->refused + p->refused_from, from->refused + p->refused_from,
           (p->refused_to - p->refused_from) * sizeof(double));
    to->waited = MAX(to->waited, from->waited);
    to->full = from->full;
}

static double weigh_part(const struct search *f, const struct account *a, unsigned trial) {
    const struct span *p = &f->s.spans[trial];
    double sum = 0;
    double odd = 0;
    for (size_t i = p->from; i < p->to; i++) {
        double density = f->s.v[i].counts ? log(fit_density(&f->s, &f->fit, trial, a->service[i], &odd)) : 0;
        sum += density + a->chance[i];
    }
    for (size_t r = p->refused_from; r < p->refused_to; r++) {
        sum += a->refused[r];
    }
    return sum;
}

// Where tokens are fewer than calls one after another, those alone wait, too.
static double about_ms(const struct scene *s, const struct hypothesis *h) {
    return h->model == PROBE_BUCKET && 1e3 / h->rate > s->fastest_ms ? s->fastest_ms : s->alone_ms;
}

static double latency(const struct scene *s, size_t i) { return s->v[i].done - s->v[i].came; }

// What explains one trial best; it is in `chosen`.
struct turn {
    double full; // of a bucket, before it
    double best;
    double fair; // of those that are first come first served
    double paid;
};

static void attempt(struct search *f, const struct hypothesis *h, unsigned trial, enum order order, double price,
                    struct turn *t) {
    f->trying.full = t->full;
    f->trying.waited = 0;
    if (!mechanism_turn(h, &f->s, trial, order, &f->trying)) {
        return;
    }
    double weight = weigh_part(f, &f->trying, trial) - price;
    t->fair = order < ORDER_LAST ? MAX(t->fair, weight) : t->fair;
    if (weight > t->best) {
        t->best = weight;
        t->paid = price;
        copy_part(&f->chosen, &f->trying, &f->s.spans[trial]);
    }
}

// A core that has other things to do as well is slower in some trials than in others: by how much, if the calls of this
// one, as `chosen` has them, are otherwise like those alone.
static double pace_of(const struct search *f, unsigned trial) {
    const struct span *p = &f->s.spans[trial];
    double waited = 0;
    double longer = 0;
    for (size_t i = p->from; i < p->to; i++) {
        waited += f->s.alone_ms * (latency(&f->s, i) / MAX(f->chosen.service[i], 1e-3) - 1);
        longer += latency(&f->s, i) - f->s.alone_ms;
    }
    return waited > 0 ? MIN(MAX(longer / waited, 1 / PACE_MOST), PACE_MOST) : 1;
}

static void attempt_at_pace(struct search *f, const struct hypothesis *h, unsigned trial, struct turn *t) {
    struct hypothesis other = *h;
    double pace = pace_of(f, trial);
    double off = log(pace) / PACE_SPREAD;
    other.share *= pace;
    if (h->model == PROBE_FLAT && other.share * (f->s.spans[trial].calls - 1) > WAIT_FLAT) {
        return;
    }
    for (enum order order = ORDER_SENT; order <= ORDER_SHUFFLED; order++) {
        attempt(f, &other, trial, order, ORDER_PRICE[order] + PACE_PRICE + off * off / 2, t);
    }
}

// Of each trial what explains it best. *unfair: by how much others than first come first served do better.
static double turn_all(struct search *f, const struct hypothesis *h, double *unfair) {
    double price = 0;
    *unfair = 0;
    fit_start(&f->s, about_ms(&f->s, h), &f->fit);
    f->chosen.waited = 0;
    f->chosen.full = 0;
    for (unsigned trial = 0; trial < f->s.span_count; trial++) {
        struct turn t = {.full = f->chosen.full, .best = -INFINITY, .fair = -INFINITY};
        for (enum order order = 0; order < ORDERS; order++) {
            attempt(f, h, trial, order, ORDER_PRICE[order], &t);
        }
        if (h->together > 0 && f->s.spans[trial].kind != TRIAL_SOLO) {
            attempt_at_pace(f, h, trial, &t);
        }
        *unfair += t.best - t.fair;
        price += t.paid;
    }
    return price;
}

// How many the mechanism would have in service when so many come.
static unsigned would_serve(const struct hypothesis *h, unsigned calls) {
    switch (h->model) {
    case PROBE_FLAT: return calls;
    case PROBE_SERIAL:
    case PROBE_POOL:
    case PROBE_POLL:
    case PROBE_CAP: return h->takes ? 0 : MIN(calls, h->at_once);
    case PROBE_PARTIAL_LOCK:
    case PROBE_PARTITIONED:
    case PROBE_CPU:
    case PROBE_BUCKET:
    case PROBE_SESSION:
    case PROBE_INCONCLUSIVE: break;
    }
    return 0; // it depends
}

static double weigh_journal(const struct scene *s, const struct hypothesis *h) {
    double sum = 0;
    for (unsigned t = 0; t < s->span_count; t++) {
        const struct span *p = &s->spans[t];
        unsigned serves = would_serve(h, p->calls);
        bool told = p->most_seen && serves && (p->kind == TRIAL_BURST || p->kind == TRIAL_SLOWER);
        sum += told && p->most_seen != serves ? SEEN_OTHERWISE : 0;
    }
    return sum;
}

static struct candidate *add(struct search *f, const struct hypothesis *h) {
    if (f->count == f->room) {
        struct candidate *v = xcalloc(2 * f->room + 16, sizeof *v);
        if (f->count) {
            memcpy(v, f->v, f->count * sizeof *v);
        }
        free(f->v);
        f->v = v;
        f->room = 2 * f->room + 16;
    }
    struct candidate *c = &f->v[f->count++];
    *c = (struct candidate){.h = *h, .part = doubles(f->s.n + f->s.refused)};
    return c;
}

static void finish_candidate(const struct search *f, struct candidate *c) {
    bool absent = f->e->local && MAX(c->h.cores, c->h.model == PROBE_CPU ? c->h.at_once : 0) > f->e->cpus;
    c->fixed =
        fit_shift_price(&f->s, &f->fit) + weigh_journal(&f->s, &c->h) - price_of(&c->h) - (absent ? CORES_PRICE : 0);
    c->score = c->fixed;
    for (size_t i = 0; i < f->s.n + f->s.refused; i++) {
        c->score += c->part[i];
    }
    for (unsigned t = 0; t < f->s.span_count; t++) {
        c->slower = f->s.spans[t].kind == TRIAL_SLOWER ? f->fit.shift[t] : c->slower;
    }
}

// Its score, as if it were added: for climbing.
static double weigh(struct search *f, const struct hypothesis *h, bool keep) {
    double unfair = 0;
    double paid = turn_all(f, h, &unfair);
    double odd = 0;
    fit_service(&f->s, &f->chosen, about_ms(&f->s, h), &f->fit);
    struct candidate *c = add(f, h);
    double odd_here = 0;
    for (size_t i = 0; i < f->s.n; i++) {
        const struct sight *me = &f->s.v[i];
        double density = me->counts ? log(fit_density(&f->s, &f->fit, me->trial, f->chosen.service[i], &odd)) : 0;
        odd = me->counts && f->s.spans[me->trial].kind != TRIAL_SOLO ? odd : 0;
        odd_here = i == f->s.spans[me->trial].from ? odd : odd_here + odd;
        c->part[i] = density + f->chosen.chance[i];
        c->odd += odd;
        c->odd_together = MAX(c->odd_together, odd_here);
    }
    memcpy(c->part + f->s.n, f->chosen.refused, f->s.refused * sizeof *c->part);
    c->waited = f->chosen.waited;
    c->h.random_order = unfair > UNFAIR;
    finish_candidate(f, c);
    c->score -= paid;
    c->fixed -= paid;
    double score = c->score;
    if (!keep) {
        free(c->part);
        f->count--;
    }
    return score;
}

// ---- what might be

// Calls of a trial that took less than so many T.
static unsigned sooner(const struct scene *s, const struct span *p, double rounds) {
    unsigned n = 0;
    for (size_t i = p->from; i < p->to; i++) {
        n += latency(s, i) < rounds * s->alone_ms;
    }
    return n;
}

static double latest(const struct scene *s, const struct span *p) {
    double most = 0;
    for (size_t i = p->from; i < p->to; i++) {
        most = MAX(most, latency(s, i));
    }
    return most;
}

static bool anybody_waits(const struct scene *s) {
    for (unsigned t = 0; t < s->span_count; t++) {
        if (s->spans[t].kind != TRIAL_SOLO && latest(s, &s->spans[t]) > (1 + SLOWER_SEEN) * s->alone_ms) {
            return true;
        }
    }
    return false;
}

static bool near(unsigned n, double seen) { return fabs((double)n - seen) <= NEAR; }

// Is n worth a try, by what the trials look like?
static bool worth(const struct scene *s, enum probe_model model, unsigned n) {
    bool is = s->most <= ALL_TRIED || n <= 2;
    for (unsigned t = 0; t < s->span_count && !is; t++) {
        const struct span *p = &s->spans[t];
        double calls = (double)span_len(p);
        double last = latest(s, p);
        if (p->kind != TRIAL_SOLO && calls > 0) {
            is = model == PROBE_CPU ? near(n, calls * s->alone_ms / last)
                                    : near(n, sooner(s, p, 1.5)) || near(n, calls * s->alone_ms / last);
        }
    }
    return is;
}

static void try_flat(struct search *f) {
    static const double own_work[] = {0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.02, 0.04};
    weigh(f, &(struct hypothesis){.model = PROBE_FLAT}, true);
    for (size_t i = 0; i < ARRAY_LEN(own_work) && own_work[i] * f->s.most <= WAIT_FLAT; i++) {
        for (size_t k = 0; k < ARRAY_LEN(TOGETHER); k++) {
            struct hypothesis h = {.model = PROBE_FLAT, .share = own_work[i], .together = TOGETHER[k]};
            weigh(f, &h, true);
        }
    }
}

static void try_seats(struct search *f) {
    for (unsigned n = 1; n < f->s.most; n++) {
        if (worth(&f->s, PROBE_POOL, n)) {
            struct hypothesis h = {.model = n == 1 ? PROBE_SERIAL : PROBE_POOL, .at_once = n};
            weigh(f, &h, true);
        }
    }
}

static bool have_common_divisor(unsigned a, unsigned b) {
    while (b) {
        unsigned rest = a % b;
        a = b;
        b = rest;
    }
    return a > 1;
}

// Do bursts end when they would?
static bool several_fit(const struct scene *s, unsigned places, unsigned takes) {
    for (unsigned t = 0; t < s->span_count; t++) {
        const struct span *p = &s->spans[t];
        double rounds = ceil((double)span_len(p) * takes / places);
        if (p->kind == TRIAL_BURST && fabs(latest(s, p) - rounds * s->alone_ms) > s->alone_ms / 2) {
            return false;
        }
    }
    return true;
}

// A call that does several things at once, each in a place of its own.
static void try_several(struct search *f) {
    enum { TAKES = 8, FEW = 3 }; // so many at once; of more, one more now and then is not seen
    for (unsigned takes = 2; takes <= TAKES; takes++) {
        for (unsigned places = takes + 1; places < takes * MIN(f->s.most, (unsigned)FEW + 1); places++) {
            struct hypothesis h = {.model = PROBE_POOL, .at_once = places / takes, .places = places, .takes = takes};
            if (!have_common_divisor(places, takes) && several_fit(&f->s, places, takes)) {
                weigh(f, &h, true);
            }
        }
    }
}

// More threads than cores: who is in is slowed by the others who are.
static void try_seats_on_cores(struct search *f) {
    enum { SEATS = 16 };
    static const unsigned cores[] = {1, 2, 3, 4, 6, 8, 12};
    for (unsigned n = 2; n < MIN(f->s.most, (unsigned)SEATS + 1); n++) {
        for (size_t i = 0; i < ARRAY_LEN(cores) && cores[i] < n; i++) {
            struct hypothesis h = {.model = PROBE_POOL, .at_once = n, .cores = cores[i]};
            weigh(f, &h, true);
        }
    }
}

static void try_cpu(struct search *f) {
    for (unsigned n = 1; n * (1 + SLOWER_SEEN + f->s.cv) < f->s.most; n++) {
        if (worth(&f->s, PROBE_CPU, n)) {
            struct hypothesis h = {.model = PROBE_CPU, .at_once = n};
            weigh(f, &h, true);
        }
    }
}

// The best value of one number of a hypothesis, near where it stands: steps that halve.
static double climb(struct search *f, struct hypothesis *h, double (*get)(const struct hypothesis *),
                    void (*set)(struct hypothesis *, double), double step) {
    double best = weigh(f, h, false);
    for (int halvings = 0; halvings < 8; halvings++, step /= 2) {
        double at = get(h);
        for (int side = -1; side <= 1; side += 2) {
            struct hypothesis other = *h;
            set(&other, at * (1 + side * step));
            double score = weigh(f, &other, false);
            if (score > best) {
                best = score;
                *h = other;
            }
        }
    }
    return best;
}

static double get_share(const struct hypothesis *h) { return h->share; }
static void set_share(struct hypothesis *h, double x) {
    h->share = MIN(x, h->together > 0 ? TOGETHER_MOST : SHARE_MOST);
}

static void try_lock_of(struct search *f, double together, bool even) {
    const struct scene *s = &f->s;
    struct hypothesis best = {.model = PROBE_INCONCLUSIVE};
    double most = -INFINITY;
    for (unsigned t = 0; t < s->span_count; t++) {
        const struct span *p = &s->spans[t];
        double share = (latest(s, p) / s->alone_ms - 1) / ((double)span_len(p) - 1);
        if (p->kind == TRIAL_BURST && span_len(p) > 1 && share > 0.001) {
            struct hypothesis h = {.model = PROBE_PARTIAL_LOCK, .at_once = 1, .together = together, .even = even};
            set_share(&h, share);
            double score = climb(f, &h, get_share, set_share, 0.1);
            best = score > most ? h : best;
            most = MAX(most, score);
        }
    }
    if (best.model == PROBE_PARTIAL_LOCK && best.share * (s->most - 1) > WAIT_FLAT) {
        weigh(f, &best, true);
    }
}

static void try_lock(struct search *f) {
    for (size_t i = 0; i < ARRAY_LEN(TOGETHER); i++) {
        try_lock_of(f, TOGETHER[i], false);
    }
    try_lock_of(f, 0, true);
}

static double get_period(const struct hypothesis *h) { return (double)h->period_ns; }
static void set_period(struct hypothesis *h, double x) { h->period_ns = (uint64_t)MAX(x, 1e6); }

static double mean_gap(const struct scene *s, const struct span *p) {
    double first = s->v[s->by_done[p->from]].done;
    return (s->v[s->by_done[p->to - 1]].done - first) / ((double)span_len(p) - 1);
}

// Of a burst, looks fall together: endings are a whole number of periods apart.
static double usual_gap(const struct scene *s) {
    double gap = 0;
    for (unsigned t = 0; t < s->span_count; t++) {
        const struct span *p = &s->spans[t];
        gap = p->kind == TRIAL_BURST && span_len(p) > 2 ? mean_gap(s, p) : gap;
    }
    return gap;
}

// How long the seat stays empty between two, in the mean. A period that would have every look come just in time is made
// to measure: nobody looks so luckily.
static double idle_ms(const struct scene *s) {
    double sum = 0;
    unsigned n = 0;
    for (unsigned t = 0; t < s->span_count; t++) {
        const struct span *p = &s->spans[t];
        if ((p->kind == TRIAL_BURST || p->kind == TRIAL_STAGGERED) && span_len(p) > 2) {
            sum += mean_gap(s, p) - s->alone_ms;
            n++;
        }
    }
    return n ? sum / n : 0;
}

// Threads that look, and calls that wait for a thread.
static void try_poll_by_threads(struct search *f, struct hypothesis h) {
    enum { THREADS = 40 };
    struct hypothesis best = h;
    double most = -INFINITY;
    for (h.each = 2; h.each < MIN(f->s.most, (unsigned)THREADS + 1); h.each++) {
        double score = weigh(f, &h, false);
        best = score > most ? h : best;
        most = MAX(most, score);
    }
    if (best.each) {
        climb(f, &best, get_period, set_period, 0.02);
        weigh(f, &best, true);
    }
}

static void try_poll(struct search *f) {
    enum { PARTS = 20 };
    static const double round_ms[] = {10, 20, 25, 30, 40, 50, 75, 100, 150, 200, 250, 300, 400, 500, 1000, 2000, 5000};
    const struct scene *s = &f->s;
    double gap = usual_gap(s);
    double idle = idle_ms(s);
    struct hypothesis best = {.model = PROBE_INCONCLUSIVE};
    double most = -INFINITY;
    double least = MAX(10, MAX(0.05, s->cv) * s->alone_ms); // less is not seen for the noise
    for (int i = 0; i < PARTS + (int)ARRAY_LEN(round_ms) && gap > 0.8 * s->alone_ms; i++) {
        double period = i < PARTS ? gap / (i + 1) : round_ms[i - PARTS];
        if (period < least || period > 4 * s->alone_ms || idle < IDLE_LEAST * period) {
            continue;
        }
        struct hypothesis h = {.model = PROBE_POLL, .at_once = 1, .period_ns = (uint64_t)(period * 1e6)};
        double score = climb(f, &h, get_period, set_period, 0.02);
        best = score > most ? h : best;
        most = MAX(most, score);
    }
    if (best.model == PROBE_POLL) {
        weigh(f, &best, true);
        try_poll_by_threads(f, best);
    }
    for (size_t i = 0; i < ARRAY_LEN(round_ms) && best.model == PROBE_POLL; i++) {
        if (round_ms[i] >= least && round_ms[i] < 4 * s->alone_ms) {
            best.period_ns = (uint64_t)(round_ms[i] * 1e6);
            try_poll_by_threads(f, best);
        }
    }
}

static double get_rate(const struct hypothesis *h) { return h->rate; }
static void set_rate(struct hypothesis *h, double x) { h->rate = x; }

static int by_value(const void *a, const void *b) {
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

// Who waited in a burst leaves as tokens come: their usual distance, or their mean. 0: nobody did.
static double token_ms(const struct scene *s, const struct span *p, bool mean) {
    double *gaps = doubles(span_len(p));
    size_t n = 0;
    for (size_t k = p->from + 1; k < p->to; k++) {
        if (latency(s, s->by_done[k]) > (1 + WAIT_SEEN) * s->fastest_ms) {
            gaps[n++] = s->v[s->by_done[k]].done - s->v[s->by_done[k - 1]].done;
        }
    }
    qsort(gaps, n, sizeof *gaps, by_value);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += gaps[i];
    }
    double distance = n == 0 ? 0 : mean ? sum / (double)n : gaps[n / 2];
    free(gaps);
    return distance;
}

static void try_bucket_of(struct search *f, const struct span *p, double interval) {
    const struct scene *s = &f->s;
    double seen = (double)span_len(p) - (latest(s, p) - s->fastest_ms) / interval;
    struct hypothesis best = {.model = PROBE_INCONCLUSIVE};
    double most = -INFINITY;
    for (double size = MAX(floor(seen) - 1, 1); size <= MAX(seen, 1) + 10 && size < s->most; size++) {
        struct hypothesis h = {.model = PROBE_BUCKET, .at_once = (unsigned)size, .rate = 1e3 / interval};
        double score = weigh(f, &h, false);
        best = score > most ? h : best;
        most = MAX(most, score);
    }
    for (int i = -1; i <= 1 && best.model == PROBE_BUCKET; i++) {
        struct hypothesis h = best;
        h.at_once += (unsigned)i;
        if (h.at_once) {
            climb(f, &h, get_rate, set_rate, 0.02);
            weigh(f, &h, true);
            h.rate = round_rate(h.rate);
            weigh(f, &h, true);
        }
    }
}

static void try_bucket(struct search *f) {
    const struct scene *s = &f->s;
    for (unsigned t = 0; t < s->span_count; t++) {
        const struct span *p = &s->spans[t];
        for (int mean = 0; mean < 2 && p->kind == TRIAL_BURST && span_len(p) >= 4; mean++) {
            double interval = token_ms(s, p, mean);
            // One token in each call's time is a lock, as far as can be seen; and locks are what apps have.
            bool lock = fabs(interval / s->fastest_ms - 1) < LOCK_LIKE && sooner(s, p, 1.5) == 1;
            bool matters = interval * (double)(span_len(p) - 1) > WAIT_FLAT * s->alone_ms;
            if (interval > TOKEN_MS_LEAST && matters && !lock) {
                try_bucket_of(f, p, interval);
            }
        }
    }
}

static void try_strict_bucket(struct search *f) {
    const struct scene *s = &f->s;
    int status = s->refusals[0].status;
    for (unsigned t = 0; t < s->span_count && status; t++) {
        const struct span *p = &s->spans[t];
        for (double interval = 5; p->refused_to > p->refused_from && interval < 70000; interval *= 1.1) {
            for (size_t less = 0; less < 4 && less < span_len(p); less++) {
                // One let in for each call's time is a cap of one, as far as can be seen.
                if (span_len(p) - less == 1 && fabs(interval / s->fastest_ms - 1) < SAME_PACE) {
                    continue;
                }
                struct hypothesis h = {.model = PROBE_BUCKET,
                                       .at_once = (unsigned)(span_len(p) - less),
                                       .rate = 1e3 / interval,
                                       .refused_status = status};
                weigh(f, &h, true);
                h.rate = round_rate(h.rate);
                weigh(f, &h, true);
            }
        }
        if (p->refused_to > p->refused_from) {
            break;
        }
    }
}

static void try_cap(struct search *f) {
    const struct scene *s = &f->s;
    for (unsigned n = 1; n < s->most && s->refused; n++) {
        if (worth(s, PROBE_CAP, n)) {
            struct hypothesis h = {.model = PROBE_CAP, .at_once = n, .refused_status = s->refusals[0].status};
            weigh(f, &h, true);
        }
    }
    if (s->refused) {
        try_strict_bucket(f);
    }
}

static void try_session(struct search *f) {
    for (unsigned t = 0; t < f->s.span_count; t++) {
        if (f->s.spans[t].kind == TRIAL_SESSION) {
            struct hypothesis h = {.model = PROBE_SESSION, .at_once = 1};
            weigh(f, &h, true);
            return;
        }
    }
}

// ---- seats divided among workers

static int by_score(const void *a, const void *b) {
    const struct candidate *x = a;
    const struct candidate *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

// Mean and variance of min(K, most), K of n by lot among so many.
static void truncated(unsigned n, unsigned workers, double most, double *mean, double *variance) {
    double p = 1.0 / workers;
    double sum = 0;
    double squares = 0;
    for (unsigned k = 0; k <= n; k++) {
        double chance = exp(lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0) + k * log(p) + (n - k) * log1p(-p));
        double x = MIN(k, most);
        sum += chance * x;
        squares += chance * x * x;
    }
    *mean = sum;
    *variance = MAX(squares - sum * sum, 0);
}

// How far the batches are from what is expected.
static double batches_off(const struct scene *s, unsigned workers, unsigned each) {
    double off = 0;
    for (unsigned t = 0; t < s->span_count; t++) {
        const struct span *p = &s->spans[t];
        for (unsigned round = 1; p->kind == TRIAL_BURST && round <= 3; round++) {
            double mean = 0;
            double variance = 0;
            truncated((unsigned)span_len(p), workers, (double)each * round, &mean, &variance);
            double z = sooner(s, p, round + 0.5) - workers * mean;
            off += z * z / (workers * variance + 0.25);
        }
    }
    return off;
}

static void weigh_lots(struct search *f, const struct hypothesis *h, unsigned guesses) {
    struct lots lots = {h->workers, h->each, guesses, &f->random};
    const struct scene *s = &f->s;
    struct candidate *c = add(f, h);
    double paid = 0;
    double *density = f->trying.chance;
    // First by the calls alone, then by what service times came out of that.
    for (int round = 0; round < 2; round++) {
        if (round == 0) {
            fit_start(s, s->alone_ms, &f->fit);
        } else {
            fit_service(s, &f->chosen, s->alone_ms, &f->fit);
        }
        paid = 0;
        for (unsigned t = 0; t < s->span_count; t++) {
            const struct span *p = &s->spans[t];
            double best = -INFINITY;
            for (enum order order = ORDER_SENT; order <= ORDER_SHUFFLED; order++) {
                bool possible = order == ORDER_SENT || span_is_burst(p);
                double all =
                    possible ? lots_density(&lots, s, &f->fit, t, order, density, f->trying.service) : -INFINITY;
                all -= ORDER_PRICE[order];
                if (all > best) {
                    paid += order == ORDER_SHUFFLED ? ORDER_PRICE[order] : 0;
                    best = all;
                    memcpy(c->part + p->from, density + p->from, span_len(p) * sizeof *density);
                    memcpy(f->chosen.service + p->from, f->trying.service + p->from, span_len(p) * sizeof(double));
                }
            }
        }
    }
    for (size_t r = 0; r < s->refused; r++) {
        c->part[s->n + r] = -7;
    }
    for (size_t i = 0; i < s->n; i++) {
        c->waited = MAX(c->waited, latency(s, i) - f->chosen.service[i]);
    }
    finish_candidate(f, c);
    c->score -= paid;
    c->fixed -= paid;
}

struct division {
    double off;
    unsigned workers, each;
};

// The likeliest, the best first.
static size_t keep_best(struct division *best, size_t count, struct division d) {
    size_t at = count < LOTS_TRIED ? count++ : LOTS_TRIED;
    for (; at > 0 && d.off < best[at - 1].off; at--) {
        if (at < LOTS_TRIED) {
            best[at] = best[at - 1];
        }
    }
    if (at < LOTS_TRIED) {
        best[at] = d;
    }
    return count;
}

// The best of few guesses are weighed again by more.
static void weigh_divisions(struct search *f, const struct division *v, size_t count) {
    size_t first = f->count;
    for (size_t i = 0; i < count; i++) {
        struct hypothesis h = {.model = PROBE_PARTITIONED,
                               .at_once = v[i].workers * v[i].each,
                               .workers = v[i].workers,
                               .each = v[i].each};
        weigh_lots(f, &h, LOTS_GUESSES);
    }
    qsort(f->v + first, count, sizeof *f->v, by_score);
    for (size_t i = 0; i < MIN(count, (size_t)LOTS_AGAIN); i++) {
        struct hypothesis h = f->v[first + i].h;
        weigh_lots(f, &h, LOTS_MORE);
    }
}

// However many seats there are is soon seen; how they are divided is not: every way to divide those is weighed.
static void weigh_same_seats(struct search *f, size_t first) {
    const struct candidate *best = NULL;
    const struct candidate *other = NULL;
    for (size_t i = 0; i < f->count; i++) {
        const struct candidate **of = i < first ? &other : &best;
        *of = !*of || f->v[i].score > (*of)->score ? &f->v[i] : *of;
    }
    unsigned seats = best ? best->h.at_once : 0;
    bool likely = best && other && best->score > other->score;
    size_t from = f->count;
    for (unsigned workers = 2; workers <= MIN(seats, (unsigned)WORKERS_MOST); workers++) {
        struct hypothesis h = {
            .model = PROBE_PARTITIONED, .at_once = seats, .workers = workers, .each = seats / workers};
        if (seats % workers == 0) {
            weigh_lots(f, &h, LOTS_MORE);
        }
    }
    qsort(f->v + from, f->count - from, sizeof *f->v, by_score);
    for (size_t last = MIN(f->count, from + LOTS_LAST); likely && from < last; from++) {
        struct hypothesis h = f->v[from].h;
        weigh_lots(f, &h, LOTS_GUESSES_MOST);
    }
}

// The seats that explain most if nobody divides them.
static unsigned best_pool(const struct search *f) {
    const struct candidate *best = NULL;
    for (size_t i = 0; i < f->count; i++) {
        const struct candidate *c = &f->v[i];
        best = c->h.model == PROBE_POOL && !c->h.cores && !c->h.takes && (!best || c->score > best->score) ? c : best;
    }
    return best ? best->h.at_once : 0;
}

static void try_lots(struct search *f) {
    const struct scene *s = &f->s;
    struct division best[LOTS_TRIED];
    size_t count = 0;
    unsigned pool = best_pool(f);
    for (unsigned t = 0; t < s->span_count; t++) {
        if (span_len(&s->spans[t]) > LOTS_CALLS) {
            return;
        }
    }
    for (unsigned workers = 2; workers <= WORKERS_MOST; workers++) {
        for (unsigned each = 1; workers * each <= DIVIDED_MOST && each < s->most; each++) {
            double off = batches_off(s, workers, each);
            count = keep_best(best, count, (struct division){workers * each == pool ? 0 : off, workers, each});
        }
    }
    size_t first = f->count;
    weigh_divisions(f, best, count);
    weigh_same_seats(f, first);
}

static void try_all(struct search *f) {
    try_flat(f);
    try_cap(f);
    if (anybody_waits(&f->s)) {
        try_seats(f);
        try_several(f);
        try_seats_on_cores(f);
        try_cpu(f);
        try_lock(f);
        try_poll(f);
        try_bucket(f);
        try_session(f);
        try_lots(f);
    }
}

// ---- the choice

// The two are one, with more or less to do for each call: where flat fits better, it is no doubt that it might be more.
static bool is_as_flat(const struct hypothesis *better, const struct hypothesis *h) {
    return better->model == PROBE_FLAT && better->share > 0 && h->model == PROBE_PARTIAL_LOCK;
}

// Best first, of those that say the same only the best; who would have nobody wait is not told from FLAT.
static void rank(struct search *f) {
    size_t kept = 0;
    qsort(f->v, f->count, sizeof *f->v, by_score);
    for (size_t i = 0; i < f->count; i++) {
        struct candidate c = f->v[i];
        bool keep = c.h.model == PROBE_FLAT || c.h.model == PROBE_CAP || c.h.refused_status ||
                    c.waited >= (c.h.model == PROBE_CPU ? SLOWER_SEEN * 0.9 : WAIT_SEEN) * f->s.alone_ms;
        for (size_t k = 0; k < kept && keep; k++) {
            keep = !hypothesis_same(&c.h, &f->v[k].h) && !is_as_flat(&f->v[k].h, &c.h);
        }
        if (keep) {
            f->v[kept++] = c;
        } else {
            free(c.part);
        }
    }
    f->count = kept;
}

// The share of resamples of the calls in which the first candidate stays the first (the logarithms are resampled, not
// fitted anew: RELL; Kishino, Miyata, Hasegawa 1990).
static double resample(struct search *f) {
    size_t n = f->s.n + f->s.refused;
    size_t finalists = MIN(f->count, FINALISTS);
    unsigned agree = 0;
    for (int round = 0; round < RESAMPLES; round++) {
        double sum[FINALISTS] = {0};
        for (size_t k = 0; k < n; k++) {
            size_t i = MIN((size_t)(lots_draw(&f->random) * (double)n), n - 1);
            for (size_t c = 0; c < finalists; c++) {
                sum[c] += f->v[c].part[i];
            }
        }
        bool first = true;
        for (size_t c = 1; c < finalists; c++) {
            first = first && sum[c] + f->v[c].fixed < sum[0] + f->v[0].fixed;
        }
        agree += first;
    }
    return (double)agree / RESAMPLES;
}

// ---- reasons not to believe it

// TCP sends again after 1 s, then 2, then 4: steps at 1, 3 and 7 s. A resolver asks again after 5.
static bool steps_of_the_network(const struct scene *s) {
    static const double steps[] = {1000, 3000, 5000, 7000};
    unsigned waits = 0;
    unsigned calls = 0;
    for (size_t i = 0; i < s->n; i++) {
        double wait = latency(s, i) - s->alone_ms;
        bool step = false;
        if (s->spans[s->v[i].trial].kind == TRIAL_SOLO || s->alone_ms > 700) {
            continue;
        }
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            step = step || fabs(wait - steps[k]) < MAX(40, 0.1 * s->alone_ms);
        }
        if (wait > s->alone_ms / 2 && !step) {
            return false;
        }
        waits += step;
        calls++;
    }
    return waits >= 2 && waits <= calls / 2;
}

static bool faster_than_alone(const struct scene *s) {
    unsigned n = 0;
    for (size_t i = 0; i < s->n; i++) {
        n += s->v[i].counts && s->spans[s->v[i].trial].kind != TRIAL_SOLO && latency(s, i) < s->fastest_ms / 2;
    }
    return n >= 2;
}

// Alone they vary, together they end as one.
static bool end_as_one(const struct scene *s) {
    for (unsigned t = 0; t < s->span_count && s->spread > VARIES; t++) {
        const struct span *p = &s->spans[t];
        if (p->kind == TRIAL_BURST && span_len(p) >= 4 &&
            s->v[s->by_done[p->to - 1]].done - s->v[s->by_done[p->from]].done < s->spread * s->alone_ms / 10) {
            return true;
        }
    }
    return false;
}

static double middle(const struct scene *s, const struct span *p) {
    double sum = 0;
    for (size_t i = p->from; i < p->to; i++) {
        sum += latency(s, i);
    }
    return sum / (double)span_len(p);
}

// A trial of a kind and a size took clearly longer than the last such.
static bool got_faster(const struct scene *s) {
    for (unsigned t = 0; t < s->span_count; t++) {
        for (unsigned later = t + 1; later < s->span_count; later++) {
            const struct span *a = &s->spans[t];
            const struct span *b = &s->spans[later];
            if (a->kind == b->kind && a->kind != TRIAL_SOLO && span_len(a) == span_len(b) && span_len(a) &&
                middle(s, a) > (1.3 + 2 * s->cv) * middle(s, b)) {
                return true;
            }
        }
    }
    return false;
}

static unsigned calls_in_bursts(const struct scene *s) {
    unsigned n = 0;
    for (unsigned t = 0; t < s->span_count; t++) {
        n += s->spans[t].kind != TRIAL_SOLO ? s->spans[t].calls : 0;
    }
    return n;
}

static unsigned refusals_left(const struct scene *s, const struct candidate *c) {
    unsigned n = 0;
    for (size_t r = 0; r < s->refused; r++) {
        n += c->part[s->n + r] < -1;
    }
    return n;
}

// A lock for 100 ms of each call and ten calls a second are the same thing while times are constant: what tells them
// apart is small, and has to be much.
static bool lock_or_rate(const struct hypothesis *a, const struct hypothesis *b) {
    return a->model == PROBE_PARTIAL_LOCK && b->model == PROBE_BUCKET && b->at_once == 1;
}

// Divisions of the same seats are weighed by estimates, the worse the more seats there are.
static double bic_wanted(const struct search *f) {
    const struct hypothesis *a = &f->v[0].h;
    const struct hypothesis *b = &f->v[1].h;
    bool divided = a->model == PROBE_PARTITIONED && b->model == PROBE_PARTITIONED && a->at_once == b->at_once;
    return divided                                        ? BIC_BARE + 2 * a->at_once
           : lock_or_rate(b, a)                           ? 4 * BIC_BARE // there are more locks than such rates
           : lock_or_rate(a, b) && rate_is_round(b->rate) ? 2 * BIC_BARE
                                                          : BIC_BARE;
}

static double confidence_wanted(const struct search *f) {
    bool divided = f->v[0].h.model == PROBE_PARTITIONED && f->v[1].h.model == PROBE_PARTITIONED;
    return divided ? CONFIDENCE_DIVIDED : CONFIDENCE_BARE;
}

// Of two that fit: neighbours of one kind where times vary, or two kinds.
static enum doubt doubt_between(const struct search *f) {
    if (got_faster(&f->s)) {
        return DOUBT_COLD;
    }
    return f->count > 1 && f->v[0].h.model == f->v[1].h.model && f->s.cv > VARIES ? DOUBT_NOISE : DOUBT_TIE;
}

// Divided seats (whose weight is an estimate, a bad one where times vary): were they ever all taken at once? A division that was never full may as well have fewer or more.
static bool seen_full(const struct scene *s, unsigned at_once) {
    unsigned most = 0;
    for (unsigned t = 0; t < s->span_count; t++) {
        most = s->spans[t].kind == TRIAL_BURST ? MAX(most, sooner(s, &s->spans[t], 1.5)) : most;
    }
    return most == at_once;
}

// A burst that is left out had tokens, and how late they were taken is not known: then the size is what a burst shows.
static bool size_is_known(const struct scene *s, const struct hypothesis *h) {
    unsigned most = 0;
    for (unsigned t = 0; t < s->span_count; t++) {
        const struct span *p = &s->spans[t];
        unsigned n = 0;
        for (size_t i = p->from; i < p->to && p->kind == TRIAL_BURST; i++) {
            n += latency(s, i) < s->fastest_ms + 500 / h->rate;
        }
        most = MAX(most, n);
    }
    return !s->lost_bursts || most == h->at_once;
}

// Most of the largest burst took a little longer than any call alone: as on cores that are nearly enough. The noise of a
// busy machine hides by how much, and more at once would tell.
static bool few_in_time(const struct scene *s) {
    const struct span *largest = NULL;
    for (unsigned t = 0; t < s->span_count; t++) {
        const struct span *p = &s->spans[t];
        bool larger = p->kind == TRIAL_BURST && (!largest || p->calls > largest->calls);
        largest = larger ? p : largest;
    }
    double alone = s->fastest_ms / s->alone_ms;
    return largest && s->spread <= VARIES && 4 * sooner(s, largest, IN_TIME * alone) < largest->calls;
}

static enum doubt doubt_of(const struct search *f, const struct verdict *v) {
    const struct scene *s = &f->s;
    const struct candidate *best = &f->v[0];
    unsigned calls = calls_in_bursts(s);
    bool flat = best->h.model == PROBE_FLAT;
    // Who says that nobody waits has to explain each who did.
    bool side_by_side = flat || best->h.together > 0;
    bool odd = (best->odd > 1.5 && best->odd > 0.1 * calls) || (side_by_side && best->odd_together > ODD_MOST);
    if (calls < 2) {
        return s->unsound ? DOUBT_PROBER : DOUBT_BUDGET;
    }
    if (s->unsound > s->span_count || (f->e->cpu_share > 0.9 && !flat)) {
        return DOUBT_PROBER;
    }
    if (s->turned_away * 10 > calls) {
        return DOUBT_STREAMS;
    }
    if (s->resent * 10 > calls || steps_of_the_network(s)) {
        return DOUBT_NETWORK;
    }
    if ((s->failed + refusals_left(s, best)) * 5 > calls) {
        return DOUBT_ERRORS;
    }
    if (faster_than_alone(s) || end_as_one(s)) {
        return DOUBT_CACHED;
    }
    if (odd) {
        return got_faster(s) ? DOUBT_COLD : DOUBT_NOISE;
    }
    if (flat && best->h.share <= 0 && few_in_time(s)) {
        return DOUBT_NOISE;
    }
    if (best->h.model == PROBE_CPU && got_faster(s)) {
        return DOUBT_COLD;
    }
    if (best->h.model == PROBE_BUCKET && !size_is_known(s, &best->h)) {
        return DOUBT_NOISE;
    }
    bool lots = best->h.model == PROBE_PARTITIONED;
    if (lots && (s->cv > VARIES || !seen_full(s, best->h.at_once))) {
        return doubt_between(f);
    }
    if (f->count > 1 && (2 * (best->score - f->v[1].score) < bic_wanted(f) || v->confidence < confidence_wanted(f))) {
        return doubt_between(f);
    }
    // Who looks now and then also comes out of turn, and how often they look is lost in the noise.
    return best->h.model == PROBE_SERIAL && best->h.random_order && s->cv > VARIES ? DOUBT_TIE : DOUBT_NONE;
}

// A look that took most of a call's time, over and over; or looks that take longer than they would.
static enum canary_verdict canary_of(const struct evidence *e, double alone_ms) {
    double longest_ms = 0;
    double frozen_ms = 0;
    double whole_ms = 0;
    unsigned looks = 0;
    unsigned slow = 0;
    for (unsigned i = 0; i < e->count && e->canary_alone_ns; i++) {
        const struct trial *t = e->trials[i];
        if (t->plan.kind == TRIAL_STREAMS) {
            continue;
        }
        for (unsigned k = 0; k < t->canary_count && t->plan.calls > 1 && t->plan.kind != TRIAL_SOLO; k++) {
            const struct probe_canary *c = &t->canaries[k];
            double took_ms = (double)(c->end_ns - MIN(c->sent_ns, c->end_ns)) / 1e6;
            longest_ms = MAX(longest_ms, took_ms);
            frozen_ms += took_ms > 0.4 * alone_ms ? took_ms : 0;
            slow += took_ms > 3 * (double)e->canary_alone_ns / 1e6 + 5;
            looks++;
        }
        whole_ms += t->plan.calls > 1 && t->plan.kind != TRIAL_SOLO ? (double)(t->to_ns - t->from_ns) / 1e6 : 0;
    }
    if (!looks) {
        return CANARY_NONE;
    }
    return frozen_ms > 0.25 * whole_ms ? CANARY_FROZEN : 4 * slow > looks ? CANARY_SLOW : CANARY_FINE;
}

// What its calls took on average, of those that were answered.
static double mean_ms(const struct trial *t, unsigned *failed) {
    double sum = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < t->plan.calls; i++) {
        const struct probe_call *c = &t->calls[i];
        if (c->error == OK && c->status >= 200 && c->status < 400) {
            sum += (double)(c->end_ns - c->sent_ns) / 1e6;
            n++;
        }
    }
    *failed = t->plan.calls - n;
    return n ? sum / n : 0;
}

// The smallest burst over connections of their own that has as many calls.
static const struct trial *same_apart(const struct evidence *e, const struct trial *streams, double alone_ms) {
    const struct trial *best = NULL;
    for (unsigned i = 0; i < e->count; i++) {
        const struct trial *t = e->trials[i];
        bool fits = t->plan.kind == TRIAL_BURST && t->plan.calls >= streams->plan.calls && scene_sound(t, alone_ms);
        best = fits && (!best || t->plan.calls < best->plan.calls) ? t : best;
    }
    return best;
}

static void compare_connections(const struct evidence *e, const struct trial *t, const struct scene *s,
                                struct verdict *v) {
    const struct trial *apart = same_apart(e, t, s->alone_ms);
    unsigned failed = 0;
    unsigned failed_apart = 0;
    double mean = mean_ms(t, &failed);
    double mean_apart = apart ? mean_ms(apart, &failed_apart) : 0;
    if (!apart || !scene_sound(t, s->alone_ms)) {
        return;
    }
    bool refuses = failed > failed_apart;
    bool known = mean > 0 && mean_apart > 0 && !refuses;
    v->one_connection_calls = t->plan.calls;
    v->one_connection_times = known ? mean / mean_apart : 0;
    v->one_connection = refuses                                                 ? ONE_CONNECTION_REFUSES
                        : !known                                                ? ONE_CONNECTION_UNTRIED
                        : v->one_connection_times > SLOWER_TOGETHER + 2 * s->cv ? ONE_CONNECTION_SLOWER
                                                                                : ONE_CONNECTION_SAME;
}

static void measure(const struct evidence *e, const struct scene *s, struct verdict *v) {
    v->solo_ns = (uint64_t)(s->alone_ms * 1e6);
    v->solo_cv = s->cv;
    v->canary = canary_of(e, s->alone_ms);
    for (unsigned i = 0; i < e->count; i++) {
        const struct trial *t = e->trials[i];
        bool together = t->plan.kind == TRIAL_BURST || t->plan.kind == TRIAL_SESSION;
        if (t->plan.kind == TRIAL_STREAMS) {
            compare_connections(e, t, s, v);
            continue;
        }
        v->tried_up_to = MAX(v->tried_up_to, t->plan.kind == TRIAL_SOLO ? 1 : t->plan.calls);
        v->skew_ns = together ? MAX(v->skew_ns, t->skew_ns) : v->skew_ns;
        v->lag_ns = MAX(v->lag_ns, t->lag_ns);
    }
}

// From a burst with the latency doubled, which had to wait: does the step follow?
static void tell_hold(const struct search *f, struct verdict *v) {
    const struct candidate *c = &f->v[0];
    bool seats = c->h.model == PROBE_SERIAL || c->h.model == PROBE_POOL || c->h.model == PROBE_PARTITIONED ||
                 c->h.model == PROBE_PARTIAL_LOCK || c->h.model == PROBE_POLL;
    for (unsigned t = 0; t < f->s.span_count && seats; t++) {
        if (f->s.spans[t].kind == TRIAL_SLOWER && f->s.spans[t].calls > c->h.at_once) {
            v->holds_known = true;
            v->holds_upstream = c->slower > log(1.5);
        }
    }
}

static void decide(struct search *f, struct verdict *v) {
    const struct hypothesis *best = &f->v[0].h;
    bool two = f->count > 1;
    v->confidence = resample(f);
    v->odds = two ? MIN(exp(MIN(f->v[0].score - f->v[1].score, 100)), ODDS_MOST) : ODDS_MOST;
    v->runner_up = two ? f->v[1].h : v->runner_up;
    v->doubt = doubt_of(f, v);
    v->likely = *best;
    v->likely.share = best->model == PROBE_FLAT ? 0 : best->share;
    tell_hold(f, v);
    if (v->doubt == DOUBT_NONE) {
        v->best = v->likely;
        v->exact = f->e->journal && would_serve(best, f->s.most) && weigh_journal(&f->s, best) >= 0;
    }
}

void infer(const struct evidence *e, uint64_t seed, struct verdict *v) {
    struct search f = {.e = e, .random = seed * 2 + 1};
    *v = (struct verdict){.best.model = PROBE_INCONCLUSIVE,
                          .runner_up.model = PROBE_INCONCLUSIVE,
                          .likely.model = PROBE_INCONCLUSIVE,
                          .doubt = e->calls_spent ? DOUBT_ERRORS : DOUBT_BUDGET};
    if (!scene_init(&f.s, e)) {
        return;
    }
    measure(e, &f.s, v);
    account_init(&f.trying, &f.s);
    account_init(&f.chosen, &f.s);
    f.fit.shift = doubles(f.s.span_count);
    try_all(&f);
    rank(&f);
    decide(&f, v);
    for (size_t i = 0; i < f.count; i++) {
        free(f.v[i].part);
    }
    free(f.v);
    free(f.fit.shift);
    account_finish(&f.trying);
    account_finish(&f.chosen);
    scene_finish(&f.s);
}
