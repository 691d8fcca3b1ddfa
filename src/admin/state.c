// SPDX-License-Identifier: MIT
// /admin/state: what the page shows, as JSON.
#include "admin/look.h"
#include "llm/json.h"

static void put_member(struct out *o, const char *name, uint64_t n) {
    put_format(o, "\"%s\":%llu,", name, (unsigned long long)n);
}

static void put_ms(struct out *o, const char *name, uint64_t ns) {
    put_format(o, "\"%s\":%.3f,", name, (double)ns / 1e6);
}

static void put_worker(struct out *o, const struct meter *m, unsigned number) {
    put_text(o, "{");
    put_member(o, "number", number);
    put_member(o, "in_flight", count_of(&m->in_flight));
    put_member(o, "connections", count_of(&m->connections));
    put_format(o, "\"lag_ms\":%.3f}", (double)look_worker_lag_ns(m) / 1e6);
}

static void put_upstream(struct out *o, const struct look_upstream *u) {
    put_text(o, "{\"name\":");
    put_json(o, str_c(u->name));
    put_text(o, ",");
    put_member(o, "in_flight", u->in_flight);
    put_member(o, "limit", u->gate.limit);
    put_format(o, "\"automatic\":%s,", u->gate.automatic ? "true" : "false");
    put_member(o, "queued", u->gate.waiting);
    put_member(o, "oldest_queued_ms", u->gate.oldest_ms);
    put_member(o, "service_ms", u->gate.service_ms);
    put_member(o, "refused", u->gate.refused);
    put_member(o, "late", u->gate.late);
    put_member(o, "attempts", u->attempts);
    put_member(o, "failures", u->failures);
    put_format(o, "\"breaker\":\"%s\"}", look_breaker(u->breaker));
}

static void put_named(struct out *o, const char *name, const char *(*name_of)(unsigned i), const uint64_t *n,
                      unsigned count) {
    put_format(o, "\"%s\":{", name);
    for (unsigned i = 0; i < count; i++) {
        put_format(o, "%s\"%s\":%llu", i ? "," : "", name_of(i), (unsigned long long)n[i]);
    }
    put_text(o, "},");
}

static const char *outcome_at(unsigned i) { return outcome_name((enum outcome)i); }
static const char *limit_at(unsigned i) { return limit_name((enum limit)i); }

void state_put(const struct look *l, struct out *o) {
    struct meters *meters = l->options->meters;
    put_text(o, "{\"version\":\"" THAW_VERSION "\",");
    put_member(o, "generation", l->generation);
    put_format(o, "\"draining\":%s,", l->draining ? "true" : "false");
    put_member(o, "uptime_ms", l->uptime_ms);
    put_member(o, "in_flight", l->in_flight);
    put_member(o, "queued", l->queued);
    put_member(o, "oldest_queued_ms", l->oldest_ms);
    put_ms(o, "lag_ms", l->lag_ns);
    put_member(o, "connections", l->connections);
    put_member(o, "tapes", l->tapes);
    put_member(o, "retries", l->retries);
    put_member(o, "fallbacks", l->fallbacks);
    put_named(o, "outcomes", outcome_at, l->outcomes, OUTCOME_COUNT);
    put_named(o, "refused", limit_at, l->refused, LIMIT_COUNT);
    put_text(o, "\"workers\":[");
    for (unsigned i = 0; i < meters_workers(meters); i++) {
        put(o, i ? STR(",") : STR(""));
        put_worker(o, meters_worker(meters, i), i);
    }
    put_text(o, "],\"upstreams\":[");
    for (unsigned i = 0; i < l->upstream_count; i++) {
        put(o, i ? STR(",") : STR(""));
        put_upstream(o, &l->upstreams[i]);
    }
    put_text(o, "]}\n");
}
