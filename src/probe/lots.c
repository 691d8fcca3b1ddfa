// SPDX-License-Identifier: MIT
#include "probe/lots.h"

#include <math.h>

#include "base/mem.h"

// xorshift64*, Vigna 2016.
double lots_draw(uint64_t *random) {
    *random ^= *random >> 12;
    *random ^= *random << 25;
    *random ^= *random >> 27;
    return (double)((*random * 2685821657736338717u) >> 11) * 0x1p-53;
}

struct worker {
    double batch; // when the last batch began
    unsigned calls, in_batch;
};

struct room {
    double *free_at;   // of each worker its seats, the first free one first
    struct worker *of; // how its calls came
    size_t seats;
    unsigned workers, each;
};

struct filter {
    struct room rooms[LOTS_GUESSES_MOST];
    struct room spare[LOTS_GUESSES_MOST];
    unsigned count;
    double *fits; // of one call to each worker
    void *memory;
};

static void filter_init(struct filter *f, const struct lots *l) {
    unsigned workers = l->workers;
    unsigned each = l->each;
    size_t seats = (size_t)workers * each;
    size_t one = seats * sizeof(double) + workers * sizeof(struct worker);
    char *at = f->memory = xcalloc(2 * (size_t)l->guesses + 1, one);
    f->count = l->guesses;
    for (unsigned i = 0; i < 2 * f->count; i++, at += one) {
        struct room *r = i < f->count ? &f->rooms[i] : &f->spare[i - f->count];
        *r = (struct room){(void *)at, (void *)(at + seats * sizeof(double)), seats, workers, each};
    }
    f->fits = (void *)at;
}

static void room_copy(struct room *to, const struct room *from) {
    memcpy(to->free_at, from->free_at, from->seats * sizeof *from->free_at);
    memcpy(to->of, from->of, from->workers * sizeof *from->of);
}

// Of a shuffled burst: how likely it is that it is this call whose turn it was (mechanism_batch_ms).
static double turn(const struct worker *w, double start, double batch_ms) {
    return start - w->batch > batch_ms ? 1.0 / (w->calls + 1) : (w->in_batch + 1.0) / (w->calls + 1);
}

static void sit_down(struct room *r, unsigned worker, double start, double done, double batch_ms) {
    double *seat = r->free_at + (size_t)worker * r->each;
    unsigned k = 0;
    for (; k + 1 < r->each && seat[k + 1] < done; k++) {
        seat[k] = seat[k + 1];
    }
    seat[k] = done;
    struct worker *w = &r->of[worker];
    bool next = start - w->batch > batch_ms || w->calls == 0;
    w->batch = next ? start : w->batch;
    w->in_batch = next ? 1 : w->in_batch + 1;
    w->calls++;
}

// One call enters one guess: the density of its time there. *service is what its service took.
static double enter(struct filter *f, struct room *r, const struct scene *s, const struct fit *fit, size_t call,
                    bool shuffled, uint64_t *random, double *service) {
    const struct sight *me = &s->v[call];
    double sum = 0;
    double known = -1; // free seats are many, and all alike
    double odd = 0;
    double batch_ms = mechanism_batch_ms(s);
    for (unsigned w = 0; w < r->workers; w++) {
        double free_at = r->free_at[(size_t)w * r->each];
        double density = known;
        if (free_at > me->came || known < 0) {
            double start = MAX(free_at, me->came);
            density = fit_density(s, fit, me->trial, me->done - start, &odd);
            density *= shuffled && r->of[w].calls >= r->each ? turn(&r->of[w], start, batch_ms) : 1;
            known = free_at <= me->came ? density : known;
        }
        sum += density;
        f->fits[w] = sum;
    }
    double lot = lots_draw(random) * sum;
    unsigned chosen = 0;
    while (chosen + 1 < r->workers && f->fits[chosen] < lot) {
        chosen++;
    }
    double start = MAX(r->free_at[(size_t)chosen * r->each], me->came);
    *service = me->done - start;
    sit_down(r, chosen, start, me->done, batch_ms);
    return sum / r->workers;
}

// Guesses live on in proportion to their weight.
static void resample(struct filter *f, const double *weights, double sum, uint64_t *random) {
    double at = lots_draw(random);
    double have = 0;
    unsigned taken = 0; // of the guesses, into `have`
    for (unsigned i = 0; i < f->count; i++) {
        while (taken < f->count && (taken == 0 || have <= (i + at) * sum / f->count)) {
            have += weights[taken++];
        }
        room_copy(&f->spare[i], &f->rooms[taken - 1]);
    }
    for (unsigned i = 0; i < f->count; i++) {
        struct room r = f->rooms[i];
        f->rooms[i] = f->spare[i];
        f->spare[i] = r;
    }
}

double lots_density(const struct lots *l, const struct scene *s, const struct fit *fit, unsigned trial,
                    enum order order, double *density, double *service) {
    const struct span *p = &s->spans[trial];
    struct filter f;
    double all = 0;
    filter_init(&f, l);
    for (size_t k = 0; k < span_len(p); k++) {
        size_t call = order == ORDER_SENT ? p->from + k : s->by_done[p->from + k];
        double weights[LOTS_GUESSES_MOST];
        double sum = 0;
        double heaviest = 0;
        for (unsigned i = 0; i < f.count; i++) {
            double took = 0;
            weights[i] = enter(&f, &f.rooms[i], s, fit, call, order == ORDER_SHUFFLED, l->random, &took);
            service[call] = weights[i] >= heaviest ? took : service[call];
            heaviest = MAX(heaviest, weights[i]);
            sum += weights[i];
        }
        if (heaviest * f.count > 1.001 * sum) {
            resample(&f, weights, sum, l->random);
        }
        density[call] = s->v[call].counts ? log(sum / f.count) : 0;
        all += density[call];
    }
    free(f.memory);
    return all;
}
