// SPDX-License-Identifier: MIT
#include "admin/look.h"

#include "ev/loop.h"

static void add_times(struct times *to, const struct histogram *h) {
    for (unsigned b = 0; b <= HISTOGRAM_BUCKETS; b++) {
        to->buckets[b] += count_of(&h->buckets[b]);
    }
    to->sum_ns += count_of(&h->sum_ns);
}

uint64_t look_worker_lag_ns(const struct meter *m) { return m->loop ? loop_lag_ns(m->loop) : 0; }

const char *look_breaker(enum breaker_state state) {
    switch (state) {
    case BREAKER_CLOSED: return "closed";
    case BREAKER_OPEN: return "open";
    case BREAKER_HALF_OPEN: return "half_open";
    }
    return "";
}

static void add_worker(struct look *l, const struct meter *m) {
    for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
        l->outcomes[i] += count_of(&m->outcomes[i]);
    }
    for (unsigned i = 0; i < LIMIT_COUNT; i++) {
        l->refused[i] += count_of(&m->refused[i]);
    }
    l->retries += count_of(&m->retries);
    l->fallbacks += count_of(&m->fallbacks);
    l->bytes_in += count_of(&m->bytes_in);
    l->bytes_out += count_of(&m->bytes_out);
    l->in_flight += count_of(&m->in_flight);
    l->connections += count_of(&m->connections);
    l->tapes += count_of(&m->tapes);
    l->generation = MAX(l->generation, count_of(&m->generation));
    l->draining = l->draining || count_of(&m->draining);
    l->lag_ns = MAX(l->lag_ns, look_worker_lag_ns(m));
    add_times(&l->before, &m->before);
    add_times(&l->after, &m->after);
    for (unsigned i = 0; i < l->upstream_count; i++) {
        struct look_upstream *u = &l->upstreams[i];
        u->in_flight += count_of(&m->upstreams[i].in_flight);
        u->attempts += count_of(&m->upstreams[i].attempts);
        u->failures += count_of(&m->upstreams[i].failures);
        add_times(&u->first_byte, &m->upstreams[i].first_byte);
        add_times(&u->duration, &m->upstreams[i].duration);
    }
}

static void take_places(struct look *l, uint64_t now_ms) {
    struct meter_place places[METER_UPSTREAMS];
    l->upstream_count = meters_places(l->options->meters, places);
    for (unsigned i = 0; i < l->upstream_count; i++) {
        struct look_upstream *u = &l->upstreams[i];
        memcpy(u->name, places[i].name, sizeof u->name);
        gate_look(places[i].gate, now_ms, &u->gate);
        u->breaker = breaker_state(gate_breaker(places[i].gate), now_ms);
        l->queued += u->gate.waiting;
        l->oldest_ms = MAX(l->oldest_ms, u->gate.oldest_ms);
    }
}

void look_take(struct look *l, uint64_t now_ms) {
    *l = (struct look){.options = l->options, .uptime_ms = l->uptime_ms, .resident_at_start = l->resident_at_start};
    take_places(l, now_ms);
    for (unsigned i = 0; i < meters_workers(l->options->meters); i++) {
        add_worker(l, meters_worker(l->options->meters, i));
    }
}
