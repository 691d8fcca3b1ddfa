// SPDX-License-Identifier: MIT
#include "sim.h"

#include <math.h>

#include "base/mem.h"

struct job {
    double came, work, start, done;
    unsigned session, worker;
    bool in, out;
};

double sim_draw(struct sim *s) {
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return (double)(((s->random * 2685821657736338717u) >> 11) + 1) * 0x1p-53;
}

static double normal(struct sim *s) { return sqrt(-2 * log(sim_draw(s))) * cos(6.283185307179586 * sim_draw(s)); }

static double service(struct sim *s, double slower, double at) {
    double deviation = sqrt(log1p(s->cv * s->cv));
    double x = slower * s->service_ms * (s->cv > 0 ? exp(deviation * normal(s) - deviation * deviation / 2) : 1);
    x *= at < s->warm_ms ? 2 : 1;
    x += fabs(s->jitter_ms * normal(s));
    return x + (sim_draw(s) < s->outliers ? 5 + 30 * sim_draw(s) : 0);
}

// ---- each mechanism: jobs in the order of coming get start and done; start < 0: refused

static void run_unlimited(struct sim *s UNUSED, struct job *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        v[i].start = v[i].came;
        v[i].done = v[i].came + v[i].work;
    }
}

static void run_lock(struct sim *s, struct job *v, size_t n) {
    double free_at = 0;
    for (size_t i = 0; i < n; i++) {
        v[i].start = MAX(v[i].came, free_at);
        free_at = v[i].start + s->share * v[i].work;
        v[i].done = v[i].start + v[i].work;
    }
}

static size_t who_is_next(struct sim *s, const struct job *v, size_t n, double at, unsigned worker) {
    size_t best = SIZE_MAX;
    double lots = 0;
    for (size_t i = 0; i < n; i++) {
        if (!v[i].in && v[i].came <= at && v[i].worker == worker) {
            lots++;
            bool take = best == SIZE_MAX || s->order == 'l' || (s->order == 'r' && sim_draw(s) < 1 / lots);
            best = take ? i : best;
        }
    }
    return best;
}

// Seats of one worker: at every moment at which one is free and somebody waits.
static void run_seats(struct sim *s, struct job *v, size_t n, unsigned seats, unsigned worker) {
    double *room = xcalloc(seats, sizeof *room);
    while (true) {
        unsigned seat = 0;
        double first = INFINITY; // to come of those not in
        for (unsigned k = 1; k < seats; k++) {
            seat = room[k] < room[seat] ? k : seat;
        }
        for (size_t i = 0; i < n; i++) {
            first = !v[i].in && v[i].worker == worker ? MIN(first, v[i].came) : first;
        }
        if (isinf(first)) {
            break;
        }
        double at = MAX(room[seat], first);
        struct job *j = &v[who_is_next(s, v, n, at, worker)];
        j->in = true;
        j->start = at;
        j->done = room[seat] = at + j->work;
    }
    free(room);
}

// Each does several things at once, first come first served, and is done with the last.
static void run_several(struct sim *s, struct job *v, size_t n) {
    double *room = xcalloc(s->seats, sizeof *room);
    for (size_t i = 0; i < n; i++) {
        for (unsigned part = 0; part < s->takes; part++) {
            unsigned seat = 0;
            for (unsigned k = 1; k < s->seats; k++) {
                seat = room[k] < room[seat] ? k : seat;
            }
            v[i].start = MAX(room[seat], v[i].came);
            v[i].done = room[seat] = v[i].start + v[i].work;
        }
    }
    free(room);
}

static void run_pool(struct sim *s, struct job *v, size_t n) {
    if (s->takes) {
        run_several(s, v, n);
    } else {
        run_seats(s, v, n, s->seats, 0);
    }
}

static void run_workers(struct sim *s, struct job *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        v[i].worker = (unsigned)(sim_draw(s) * s->workers) % s->workers;
    }
    for (unsigned w = 0; w < s->workers; w++) {
        run_seats(s, v, n, s->seats, w);
    }
}

static void run_on_cores(struct job *v, size_t n, unsigned cores) {
    double at = 0;
    size_t come = 0;
    unsigned in = 0;
    size_t left = n;
    for (size_t i = 0; i < n; i++) {
        v[i].start = v[i].work; // what is left of it
    }
    while (left) {
        size_t next = SIZE_MAX;
        double speed = in ? MIN(1.0, (double)cores / in) : 1;
        for (size_t i = 0; i < come; i++) {
            next = !v[i].out && (next == SIZE_MAX || v[i].start < v[next].start) ? i : next;
        }
        double end = next == SIZE_MAX ? INFINITY : at + v[next].start / speed;
        double until = come < n ? MIN(end, v[come].came) : end;
        for (size_t i = 0; i < come; i++) {
            v[i].start -= v[i].out ? 0 : (until - at) * speed;
        }
        at = until;
        if (come < n && at >= v[come].came) {
            come++;
            in++;
        } else {
            v[next].out = true;
            v[next].done = at;
            in--;
            left--;
        }
    }
    for (size_t i = 0; i < n; i++) {
        v[i].start = v[i].came;
    }
}

static void run_cpu(struct sim *s, struct job *v, size_t n) { run_on_cores(v, n, s->seats); }

static void run_loop(struct sim *s, struct job *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        v[i].work *= s->share;
    }
    run_on_cores(v, n, 1);
    for (size_t i = 0; i < n; i++) {
        v[i].done += v[i].work / s->share * (1 - s->share);
    }
}

static void run_poll(struct sim *s, struct job *v, size_t n) {
    double free_at = 0;
    for (size_t served = 0; served < n; served++) {
        size_t best = SIZE_MAX;
        double best_at = INFINITY;
        for (size_t i = 0; i < n; i++) {
            double looks = v[i].came >= free_at ? 0 : ceil((free_at - v[i].came) / s->period_ms);
            double at = v[i].came + looks * s->period_ms;
            if (!v[i].in && at < best_at) {
                best = i;
                best_at = at;
            }
        }
        v[best].in = true;
        v[best].start = best_at;
        v[best].done = free_at = best_at + v[best].work;
    }
}

static void run_bucket(struct sim *s, struct job *v, size_t n) {
    double token = 1e3 / s->rate;
    double last = 0;
    for (size_t i = 0; i < n; i++) {
        v[i].start = MAX(MAX(v[i].came, last), s->bucket_full - (s->seats - 1) * token);
        s->bucket_full = MAX(s->bucket_full, v[i].start) + token;
        last = v[i].start;
        v[i].done = v[i].start + v[i].work;
    }
}

static void run_cap(struct sim *s, struct job *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned in = 0;
        for (size_t k = 0; k < i; k++) {
            in += v[k].start >= 0 && v[k].done > v[i].came;
        }
        v[i].start = in < s->seats ? v[i].came : -1;
        v[i].done = in < s->seats ? v[i].came + v[i].work : v[i].came + 0.3;
    }
}

static void run_session(struct sim *s UNUSED, struct job *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        v[i].start = v[i].came;
        for (size_t k = 0; k < i; k++) {
            v[i].start = v[i].session && v[k].session == v[i].session ? MAX(v[i].start, v[k].done) : v[i].start;
        }
        v[i].done = v[i].start + v[i].work;
    }
}

static void (*const runs[])(struct sim *s, struct job *v, size_t n) = {
    [SIM_UNLIMITED] = run_unlimited, [SIM_LOCK] = run_lock,       [SIM_LOOP] = run_loop,
    [SIM_POOL] = run_pool,           [SIM_WORKERS] = run_workers, [SIM_CPU] = run_cpu,
    [SIM_POLL] = run_poll,           [SIM_BUCKET] = run_bucket,   [SIM_CAP] = run_cap,
    [SIM_SESSION] = run_session,
};

// ---- trials

static int by_coming(const void *a, const void *b) {
    const struct job *x = *(struct job *const *)a;
    const struct job *y = *(struct job *const *)b;
    return (x->came > y->came) - (x->came < y->came);
}

static uint64_t ns(double ms) { return (uint64_t)(ms * 1e6); }

// When the k-th is sent, after the one before.
static double apart(struct sim *s, const struct trial_plan *p) {
    switch (p->kind) {
    case TRIAL_SOLO: return 0;
    case TRIAL_STAGGERED: return (double)p->gap_ns / 1e6;
    case TRIAL_OPEN: return -log(sim_draw(s)) * 1e3 / p->rate;
    case TRIAL_BURST:
    case TRIAL_SESSION:
    case TRIAL_STREAMS:
    case TRIAL_SLOWER: break;
    }
    return 0.01;
}

static void serve(struct sim *s, enum sim_kind kind, struct job *jobs, struct job **sorted, size_t n) {
    struct job *v = xcalloc(n, sizeof *v);
    qsort(sorted, n, sizeof *sorted, by_coming);
    double free_at = 0;
    for (size_t i = 0; i < n; i++) {
        v[i] = *sorted[i];
        v[i].came = free_at = MAX(v[i].came, free_at) + s->work_ms;
    }
    runs[kind](s, v, n);
    for (size_t i = 0; i < n; i++) {
        *sorted[i] = v[i];
    }
    free(v);
    (void)jobs;
}

void sim_trial(struct sim *s, struct evidence *e, const struct trial_plan *plan) {
    struct trial *t = xcalloc(1, sizeof *t);
    double at = e->count ? (double)e->trials[e->count - 1]->to_ns / 1e6 + 2 : 1;
    size_t n = plan->calls;
    struct job *v = xcalloc(n, sizeof *v);
    struct job **sorted = xcalloc(n, sizeof *sorted);
    *t = (struct trial){.plan = *plan, .calls = xcalloc(n, sizeof *t->calls), .from_ns = ns(at)};
    double sent = at;
    double end = at;
    for (size_t i = 0; i < n; i++) {
        sent += i ? apart(s, plan) : 0;
        sent = plan->kind == TRIAL_SOLO ? end + 0.5 : sent;
        v[i].came = sent + 0.1 + fabs(s->way_ms * normal(s));
        v[i].work = service(s, plan->kind == TRIAL_SLOWER ? 2 : 1, sent);
        v[i].session = plan->kind == TRIAL_SESSION ? 1 : plan->kind == TRIAL_BURST ? (unsigned)i + 2 : 0;
        t->calls[i] = (struct probe_call){.user = (unsigned)i + 1,
                                          .due_ns = ns(plan->kind == TRIAL_BURST ? at : sent),
                                          .sent_ns = ns(sent),
                                          .session = v[i].session};
        sorted[i] = &v[i];
        if (plan->kind == TRIAL_SOLO) {
            serve(s, s->kind, v, sorted + i, 1);
            end = v[i].done;
        }
    }
    if (plan->kind == TRIAL_STREAMS && s->streams_wait) {
        struct sim in_turn = *s;
        in_turn.share = 1;
        serve(&in_turn, SIM_LOCK, v, sorted, n);
    } else if (plan->kind != TRIAL_SOLO) {
        serve(s, s->kind, v, sorted, n);
    }
    t->streams = s->streams;
    for (size_t i = 0; i < n; i++) {
        struct probe_call *c = &t->calls[i];
        c->status = v[i].start < 0 ? 503 : 200;
        c->end_ns = ns(v[i].done + 0.1 + fabs(0.2 * normal(s)));
        c->http = s->http;
        c->turned_away = s->turns_away && plan->kind != TRIAL_SOLO && i >= s->turns_away;
        if (c->turned_away) {
            c->status = 0;
            c->error = ERR_RESET;
            c->end_ns = c->sent_ns + ns(1);
        }
        c->first_byte_ns = c->end_ns;
        t->to_ns = MAX(t->to_ns, c->end_ns);
    }
    t->skew_ns = plan->kind == TRIAL_BURST ? t->calls[n - 1].sent_ns - t->calls[0].sent_ns : 0;
    struct trial **trials = xcalloc(e->count + 1, sizeof *trials);
    if (e->count) {
        memcpy(trials, e->trials, e->count * sizeof *trials);
    }
    free(e->trials);
    e->trials = trials;
    e->trials[e->count++] = t;
    e->calls_spent += plan->calls;
    free(v);
    free(sorted);
}

void sim_evidence_finish(struct evidence *e) {
    for (unsigned i = 0; i < e->count; i++) {
        free(e->trials[i]->calls);
        free(e->trials[i]->canaries);
        free(e->trials[i]);
    }
    free(e->trials);
    *e = (struct evidence){0};
}

unsigned sim_probe(struct sim *s, const struct procedure_options *o, struct verdict *v) {
    struct evidence e = {.local = true, .cpus = 2};
    struct trial_plan plan;
    while (procedure_next(&e, o, v, &plan)) {
        sim_trial(s, &e, &plan);
    }
    unsigned calls = e.calls_spent;
    sim_evidence_finish(&e);
    return calls;
}
