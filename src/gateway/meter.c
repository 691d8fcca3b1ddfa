// SPDX-License-Identifier: MIT
#include "gateway/meter.h"

#include <pthread.h>

#include "base/mem.h"

static const struct {
    const char *name;
    const char *text;
} outcomes[] = {
#define OUTCOME(name, text) {#name, text},
#include "gateway/outcome.def"
#undef OUTCOME
};

const char *outcome_name(enum outcome o) { return outcomes[o].name; }
const char *outcome_text(enum outcome o) { return outcomes[o].text; }

static const char *const limits[] = {
#define LIMIT(name, text) text,
#include "gateway/limits.def"
#undef LIMIT
};

const char *limit_name(enum limit l) { return limits[l]; }

struct meters {
    pthread_mutex_t lock;
    unsigned count; // places
    struct meter_place places[METER_UPSTREAMS];
    unsigned workers;
    struct meter of_worker[];
};

struct meters *meters_create(unsigned workers) {
    struct meters *m = xcalloc(1, sizeof *m + workers * sizeof m->of_worker[0]);
    pthread_mutex_init(&m->lock, NULL);
    m->workers = workers;
    return m;
}

void meters_destroy(struct meters *m) {
    if (m) {
        pthread_mutex_destroy(&m->lock);
        free(m);
    }
}

unsigned meters_workers(const struct meters *m) { return m->workers; }
struct meter *meters_worker(struct meters *m, unsigned worker) {
    return &m->of_worker[worker];
}

static unsigned place_of(struct meters *m, struct str name, struct gate *gate) {
    struct str shown = str_first(name, sizeof m->places[0].name - 1);
    for (unsigned i = 0; i < m->count; i++) {
        if (str_eq(str_c(m->places[i].name), shown)) {
            return i;
        }
    }
    if (m->count == METER_UPSTREAMS) {
        return METER_UPSTREAMS - 1;
    }
    bool last = m->count == METER_UPSTREAMS - 1;
    struct meter_place *place = &m->places[m->count++];
    snprintf(place->name, sizeof place->name, "%.*s", last ? 6 : (int)shown.len, last ? "others" : shown.ptr);
    place->gate = gate;
    return m->count - 1;
}

unsigned meters_place(struct meters *m, struct str name, struct gate *gate) {
    pthread_mutex_lock(&m->lock);
    unsigned place = place_of(m, name, gate);
    pthread_mutex_unlock(&m->lock);
    return place;
}

unsigned meters_places(struct meters *m, struct meter_place places[METER_UPSTREAMS]) {
    pthread_mutex_lock(&m->lock);
    unsigned count = m->count;
    memcpy(places, m->places, sizeof m->places);
    pthread_mutex_unlock(&m->lock);
    return count;
}
