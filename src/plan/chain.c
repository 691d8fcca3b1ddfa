// SPDX-License-Identifier: MIT
#include "plan/chain.h"

#include <math.h>

static const struct {
    const char *name, *words;
} kinds[] = {
    [LINK_PLATFORM] = {"platform", "platform"},
    [LINK_WORKERS] = {"workers", "workers"},
    [LINK_POOL] = {"pool", "pool"},
    [LINK_CONNECTIONS] = {"connections", "connections"},
    [LINK_DATABASE] = {"database", "database"},
    [LINK_UPSTREAM] = {"upstream", "upstream"},
    [LINK_REQUESTS_PER_MINUTE] = {"requests_per_minute", "calls/min"},
    [LINK_TOKENS_PER_MINUTE] = {"tokens_per_minute", "tokens/min"},
};

const char *link_kind_name(enum link_kind kind) { return kinds[kind].name; }
const char *link_kind_words(enum link_kind kind) { return kinds[kind].words; }

const char *limit_kind_name(enum limit_kind kind) {
    static const char *const names[] = {[LIMIT_ANSWER] = "answer", [LIMIT_WAIT] = "wait", [LIMIT_SERVICE] = "service"};
    return names[kind];
}

bool chain_add(struct chain *c, const struct link *link) {
    if (c->count == CHAIN_MOST) {
        return false;
    }
    unsigned at = c->count++;
    for (; at && c->links[at - 1].kind > link->kind; at--) {
        c->links[at] = c->links[at - 1];
    }
    c->links[at] = *link;
    return true;
}

bool chain_add_limit(struct chain *c, const struct limit *limit) {
    if (c->limit_count == CHAIN_MOST) {
        return false;
    }
    c->limits[c->limit_count++] = *limit;
    return true;
}

struct link *chain_find(struct chain *c, enum link_kind kind) {
    for (unsigned i = 0; i < c->count; i++) {
        if (c->links[i].kind == kind) {
            return &c->links[i];
        }
    }
    return NULL;
}

double link_seats(const struct chain *c, const struct link *link) {
    const double of[] = {
        [EACH_WORKER] = (double)c->workers * c->instances, [EACH_INSTANCE] = c->instances, [IN_ALL] = 1};
    return link->seats * of[link->scope];
}

double link_users(const struct chain *c, const struct link *link) {
    double seats = link_seats(c, link);
    return seats <= 0 ? INFINITY : link->unit == OF_CALLS ? seats / c->calls : seats;
}

unsigned chain_smallest_but(const struct chain *c, unsigned but) {
    unsigned best = CHAIN_NONE;
    double fewest = INFINITY;
    for (unsigned i = 0; i < c->count; i++) {
        double users = link_users(c, &c->links[i]);
        if (i != but && users < fewest) {
            best = i;
            fewest = users;
        }
    }
    return best;
}

unsigned chain_smallest(const struct chain *c) { return chain_smallest_but(c, CHAIN_NONE); }

double chain_seats(const struct chain *c, enum link_unit unit) {
    double fewest = 0;
    for (unsigned i = 0; i < c->count; i++) {
        double seats = c->links[i].unit == unit ? link_seats(c, &c->links[i]) : 0;
        fewest = seats > 0 && (fewest <= 0 || seats < fewest) ? seats : fewest;
    }
    return fewest;
}
