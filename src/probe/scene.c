// SPDX-License-Identifier: MIT
#include "probe/scene.h"

#include <math.h>

#include "base/mem.h"

// A machine that has nothing else to do answers within so much of when it should.
static const double NOISE_MS = 1.5;
static const double NOISE_SHARE = 0.01;
// Beyond these the prober's own lateness is of the size of what it wants to see.
static const double LATE_SHARE = 0.25;
// Of so many calls alone a few may be late by the machine's doing: then most of them say how much they vary.
enum { MOST_KNOWN = 6 };
static const double MOST_FACTOR = 2; // of what most vary by: true variation is no more

static double ms(uint64_t ns) { return (double)ns / 1e6; }

static int by_value(const void *a, const void *b) {
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

static int by_coming(const void *a, const void *b) {
    const struct sight *x = a;
    const struct sight *y = b;
    return (x->came > y->came) - (x->came < y->came);
}

static int by_being_done(const void *a, const void *b, void *arg) {
    const struct sight *v = arg;
    const struct sight *x = &v[*(const uint32_t *)a];
    const struct sight *y = &v[*(const uint32_t *)b];
    return (x->done > y->done) - (x->done < y->done);
}

static bool answered(const struct probe_call *c) { return c->error == OK && c->status >= 200 && c->status < 400; }

static double took(const struct probe_call *c) { return ms(c->end_ns - MIN(c->sent_ns, c->end_ns)); }

static size_t count_calls(const struct evidence *e) {
    size_t n = 0;
    for (unsigned i = 0; i < e->count; i++) {
        n += e->trials[i]->plan.calls;
    }
    return n;
}

// Relative to the mean.
static double deviation(const double *v, size_t n) {
    double mean = 0;
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        mean += v[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        squares += (v[i] - mean) * (v[i] - mean);
    }
    return n > 1 ? sqrt(squares / (double)(n - 1)) / mean : 0;
}

// What a call takes when nobody else is there.
static bool calibrate(struct scene *s, const struct evidence *e) {
    double *v = xcalloc(count_calls(e) + 1, sizeof *v);
    size_t n = 0;
    for (unsigned i = 0; i < e->count; i++) {
        const struct trial *t = e->trials[i];
        for (unsigned k = 0; t->plan.kind == TRIAL_SOLO && !t->plan.warm_up && k < t->plan.calls; k++) {
            const struct probe_call *c = &t->calls[k];
            if (answered(c) && !c->retransmitted) {
                v[n++] = took(c);
            }
        }
    }
    if (n) {
        qsort(v, n, sizeof *v, by_value);
        s->fastest_ms = MAX(v[0], 0.01);
        s->alone_ms = MAX((v[(n - 1) / 2] + v[n / 2]) / 2, 0.01);
        s->cv = deviation(v, n);
        for (size_t i = 0; i < n; i++) {
            v[i] = fabs(v[i] - s->alone_ms);
        }
        qsort(v, n, sizeof *v, by_value);
        double middle = 1.4826 * (v[(n - 1) / 2] + v[n / 2]) / 2; // of a normal distribution, from the median's
        s->spread = MIN(MAX(middle, MAX(NOISE_MS, NOISE_SHARE * s->alone_ms)) / s->alone_ms, 1.0);
        s->cv = n >= MOST_KNOWN ? MIN(s->cv, MOST_FACTOR * s->spread) : s->cv;
    }
    free(v);
    return n > 0;
}

// Most calls that the mock served at the same time. Those that touch for less than a hundredth of T follow one another.
static unsigned most_seen(const struct trial *t, double alone_ms) {
    unsigned most = 0;
    for (unsigned i = 0; i < t->plan.calls; i++) {
        double at = ms(t->calls[i].seen_start_ns) + alone_ms / 100;
        unsigned n = 0;
        for (unsigned k = 0; k < t->plan.calls && t->calls[i].seen_end_ns; k++) {
            n += t->calls[k].seen_end_ns && ms(t->calls[k].seen_start_ns) <= at && at < ms(t->calls[k].seen_end_ns);
        }
        most = MAX(most, n);
    }
    return most;
}

static void take_call(struct scene *s, const struct probe_call *c) {
    if (c->turned_away) {
        s->turned_away++;
    } else if (answered(c) || took(c) > s->alone_ms / 2) {
        s->v[s->n++] = (struct sight){.came = ms(c->sent_ns),
                                      .done = ms(MAX(c->end_ns, c->sent_ns)),
                                      .session = c->session,
                                      .trial = s->span_count,
                                      .counts = answered(c) && !c->retransmitted};
        s->failed += !answered(c);
    } else {
        s->refusals[s->refused++] = (struct refusal){ms(c->sent_ns), s->span_count, c->status};
    }
    s->resent += c->retransmitted;
}

// A pause of the prober can only make calls look late.
static bool nobody_late(const struct trial *t, double alone_ms) {
    for (unsigned i = 0; i < t->plan.calls; i++) {
        if (took(&t->calls[i]) > (1 + LATE_SHARE) * alone_ms) {
            return false;
        }
    }
    return true;
}

bool scene_sound(const struct trial *t, double alone_ms) {
    return (ms(t->lag_ns) <= LATE_SHARE * alone_ms || nobody_late(t, alone_ms)) &&
           (t->plan.kind == TRIAL_STAGGERED || t->plan.kind == TRIAL_OPEN || ms(t->skew_ns) <= LATE_SHARE * alone_ms);
}

static void take_trial(struct scene *s, const struct trial *t, bool journal) {
    struct span *p = &s->spans[s->span_count];
    *p = (struct span){
        .from = s->n, .refused_from = s->refused, .kind = t->plan.kind, .calls = t->plan.calls, .lost = s->lost_count};
    for (unsigned i = 0; i < t->plan.calls; i++) {
        take_call(s, &t->calls[i]);
    }
    p->to = s->n;
    p->refused_to = s->refused;
    qsort(s->v + p->from, span_len(p), sizeof *s->v, by_coming);
    for (size_t i = p->from; i < p->to; i++) {
        s->by_done[i] = (uint32_t)i;
    }
    qsort_r(s->by_done + p->from, span_len(p), sizeof *s->by_done, by_being_done, s->v);
    if (t->plan.kind != TRIAL_SOLO) {
        s->most = MAX(s->most, t->plan.calls);
        p->most_seen = journal ? most_seen(t, s->alone_ms) : 0;
    }
    s->span_count++;
}

// They had tokens, though.
static void leave_out(struct scene *s, const struct trial *t) {
    for (unsigned i = 0; i < t->plan.calls; i++) {
        if (answered(&t->calls[i])) {
            s->lost[s->lost_count++] = ms(t->calls[i].sent_ns);
        }
    }
    s->lost_bursts += t->plan.kind == TRIAL_BURST;
    s->unsound++;
}

struct spoken spoken_of(const struct evidence *e) {
    struct spoken s = {.streams = 0};
    for (unsigned i = 0; i < e->count; i++) {
        const struct trial *t = e->trials[i];
        s.streams = s.streams && t->streams ? MIN(s.streams, t->streams) : MAX(s.streams, t->streams);
        for (unsigned k = 0; k < t->plan.calls; k++) {
            s.h1 = s.h1 || t->calls[k].http == 1;
            s.h2 = s.h2 || t->calls[k].http == 2;
        }
    }
    return s;
}

bool scene_init(struct scene *s, const struct evidence *e) {
    size_t calls = count_calls(e) + 1;
    *s = (struct scene){0};
    if (!calibrate(s, e)) {
        return false;
    }
    s->v = xcalloc(calls, sizeof *s->v);
    s->by_done = xcalloc(calls, sizeof *s->by_done);
    s->refusals = xcalloc(calls, sizeof *s->refusals);
    s->lost = xcalloc(calls, sizeof *s->lost);
    s->spans = xcalloc(e->count + 1, sizeof *s->spans);
    for (unsigned i = 0; i < e->count; i++) {
        const struct trial *t = e->trials[i];
        if (t->plan.warm_up || t->plan.kind == TRIAL_STREAMS) { // what one connection does is no mechanism of the app
            continue;
        }
        if (scene_sound(t, s->alone_ms)) {
            take_trial(s, t, e->journal);
        } else {
            leave_out(s, t);
        }
    }
    return true;
}

void scene_finish(struct scene *s) {
    free(s->v);
    free(s->by_done);
    free(s->refusals);
    free(s->lost);
    free(s->spans);
    *s = (struct scene){0};
}
