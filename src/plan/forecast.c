// SPDX-License-Identifier: MIT
#include "plan/forecast.h"

#include <math.h>

#include "base/mem.h"
#include "base/str.h"

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static unsigned whole(double n) { return n >= UINT32_MAX ? UINT32_MAX : (unsigned)n; }

// 0.9999999 of a user, made by a division, is one.
static unsigned floor_of(double n) { return whole(floor(n + 1e-9)); }
static unsigned ceil_of(double n) { return whole(ceil(n - 1e-9)); }

static void fill_burst(struct forecast *f, const struct question *q) {
    struct burst b = {
        .users = q->users,
        .calls = q->chain.calls,
        .service_ns = q->service_ns,
        .apart_ns = q->apart_ns,
        .requests = whole(chain_seats(&q->chain, OF_REQUESTS)),
        .seats = chain_seats(&q->chain, OF_CALLS),
    };
    f->v = xcalloc(q->users, sizeof *f->v);
    burst_fill(&b, f->v);
    f->sum = burst_sum(f->v, q->users);
}

// ---- what is the smallest, and what it lets through

static void find_smallest(struct forecast *f, const struct question *q) {
    const struct chain *c = &q->chain;
    f->smallest = chain_smallest(c);
    f->next = chain_smallest_but(c, f->smallest);
    if (f->smallest == CHAIN_NONE) {
        return;
    }
    f->users_at_once = link_users(c, &c->links[f->smallest]);
    f->at_once = MAX(ceil_of(f->users_at_once * c->calls), 1);
    f->capacity = f->users_at_once / seconds(q->service_ns);
    f->knee_users = MAX(floor_of(queue_knee(f->users_at_once, seconds(q->service_ns), seconds(q->think_ns))), 1);
    f->bounds = queue_bounds(f->users_at_once, q->users, seconds(q->service_ns), seconds(q->think_ns));
}

// Seats that a link needs, of all workers and instances, for so many users at once.
static double seats_for(const struct chain *c, const struct link *link, double users) {
    return link->unit == OF_CALLS ? users * c->calls : users;
}

// What one of the links has to have, for so many of all.
static unsigned one_of(const struct chain *c, const struct link *link, double seats) {
    struct link one = *link;
    one.seats = 1;
    return ceil_of(seats / link_seats(c, &one));
}

// The smallest link as a queue of calls, or of requests where it counts those.
static struct queue_load load_at(const struct forecast *f, const struct question *q, double rate) {
    const struct link *link = &q->chain.links[f->smallest];
    double seats = seats_for(&q->chain, link, f->users_at_once);
    unsigned lump = link->unit == OF_CALLS ? q->chain.calls : 1;
    return (struct queue_load){
        .seats = MAX(ceil_of(seats), 1),
        .rate = rate * lump,
        .service_s = seconds(q->service_ns) * MAX(ceil_of(seats), 1) / seats, // burst.h: a fraction of a seat
        .lump = lump,
        .cs2 = q->cv * q->cv,
    };
}

// ---- lost to a time limit

static uint64_t counted_ns(const struct limit *l, const struct burst_user *u, uint64_t service_ns) {
    const uint64_t by_kind[] = {[LIMIT_ANSWER] = u->done_ns, [LIMIT_WAIT] = u->wait_ns, [LIMIT_SERVICE] = service_ns};
    return by_kind[l->kind];
}

// The longest that somebody can wait without being lost, or -1: not even without waiting.
static double most_wait_s(const struct limit *l, uint64_t service_ns) {
    double limit_s = (double)l->ms / 1000;
    double left_s = l->kind == LIMIT_WAIT ? limit_s : limit_s - seconds(service_ns);
    return l->kind == LIMIT_SERVICE && left_s >= 0 ? INFINITY : left_s;
}

// Of a burst of any size the users who wait so long at most: rounds of N, one every hold (burst.h). For whole seats that
// is N (floor(wait / T) + 1).
static unsigned most_within(const struct forecast *f, const struct question *q, double wait_s) {
    if (isinf(wait_s) || f->smallest == CHAIN_NONE) {
        return UNLIMITED_USERS;
    }
    struct queue_load load = load_at(f, q, 0);
    return floor_of((floor(wait_s / load.service_s + 1e-9) + 1) * load.seats / load.lump);
}

// Nobody waits in front of a link that is not the smallest.
static bool counts_here(const struct forecast *f, const struct question *q, const struct limit *l) {
    return l->kind != LIMIT_WAIT || (f->smallest != CHAIN_NONE && q->chain.links[f->smallest].kind == l->at);
}

static bool loses(const struct forecast *f, const struct question *q, const struct limit *l, unsigned k) {
    return counts_here(f, q, l) && counted_ns(l, &f->v[k], q->service_ns) > l->ms * 1000000;
}

const struct limit *forecast_loss(const struct forecast *f, const struct question *q, unsigned k) {
    for (unsigned i = 0; i < q->chain.limit_count; i++) {
        if (loses(f, q, &q->chain.limits[i], k)) {
            return &q->chain.limits[i];
        }
    }
    return NULL;
}

static void count_losses(struct forecast *f, const struct question *q) {
    for (unsigned i = 0; i < q->chain.limit_count; i++) {
        const struct limit *l = &q->chain.limits[i];
        double wait_s = most_wait_s(l, q->service_ns);
        f->losses[i].most = !counts_here(f, q, l) ? UNLIMITED_USERS : wait_s < 0 ? 0 : most_within(f, q, wait_s);
        for (unsigned k = 0; k < q->users; k++) {
            f->losses[i].lost += loses(f, q, l, k);
        }
    }
}

// ---- users who come by chance

static void fill_arrivals(struct forecast *f, const struct question *q) {
    static const double shares[FORECAST_RATES] = {0.5, 0.7, 0.8, 0.9, 0.95};
    for (unsigned i = 0; i <= FORECAST_RATES; i++) {
        double rate = i < FORECAST_RATES ? shares[i] * f->capacity : q->rate;
        if (rate > 0) {
            struct queue_load load = load_at(f, q, rate);
            f->arrivals[f->arrival_count++] = (struct arrivals){rate, queue_wait(&load)};
        }
    }
    if (q->rate > 0) {
        struct queue_load load = load_at(f, q, q->rate);
        load.service_s = seconds(q->service_ns);
        f->rate_seats = queue_seats_for(&load, seconds(q->service_ns) / 10);
    }
}

// ---- what the platform does not see

static void look_from_outside(struct forecast *f, const struct question *q) {
    struct chain inside = q->chain;
    double fewest = INFINITY;
    for (unsigned i = 0; i < inside.count; i++) {
        if (inside.links[i].kind != LINK_PLATFORM) {
            fewest = fmin(fewest, link_users(&inside, &inside.links[i]) / inside.instances);
        }
    }
    f->serves = isinf(fewest) ? 0 : MAX(floor_of(fewest), 1);
    f->silent = q->platform && q->admits > f->serves && f->serves ? q->admits - f->serves : 0;
}

void forecast_init(struct forecast *f, const struct question *q) {
    *f = (struct forecast){.smallest = CHAIN_NONE, .next = CHAIN_NONE};
    fill_burst(f, q);
    find_smallest(f, q);
    count_losses(f, q);
    look_from_outside(f, q);
    if (f->smallest != CHAIN_NONE) {
        const struct link *link = &q->chain.links[f->smallest];
        fill_arrivals(f, q);
        f->seats_wanted = seats_for(&q->chain, link, q->users);
        f->set_to = one_of(&q->chain, link, f->seats_wanted);
    }
}

void forecast_finish(struct forecast *f) {
    free(f->v);
    f->v = NULL;
}
