// SPDX-License-Identifier: MIT
#include "llm/json.h"

#include <math.h>

#include "plan/report.h"

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static void put_json_number(struct out *o, double n) {
    if (isfinite(n)) {
        o->e = o->e == OK ? json_append_number(o->b, n) : o->e;
    } else {
        put_text(o, "null");
    }
}

static void put_member(struct out *o, const char *name, double n) {
    put_format(o, ",\"%s\":", name);
    put_json_number(o, n);
}

static void put_string(struct out *o, const char *name, const char *value) {
    put_format(o, ",\"%s\":", name);
    put_json_or_null(o, value);
}

// null where there is none: no limit.
static double or_none(double n) { return n > 0 ? n : INFINITY; }

static void put_chain(struct out *o, const struct question *q) {
    static const char *const units[] = {[OF_REQUESTS] = "requests", [OF_CALLS] = "calls"};
    put_text(o, ",\n\"chain\":[");
    for (unsigned i = 0; i < q->chain.count; i++) {
        const struct link *l = &q->chain.links[i];
        put_format(o, "%s\n{\"link\":\"%s\",\"counts\":\"%s\"", i ? "," : "", link_kind_name(l->kind), units[l->unit]);
        put_string(o, "name", l->name);
        put_member(o, "seats", or_none(link_seats(&q->chain, l)));
        put_member(o, "users", link_users(&q->chain, l));
        put_string(o, "number", l->number);
        put_string(o, "source", l->preset ? l->preset->source : NULL);
        put_text(o, "}");
    }
    put_text(o, "]");
}

static void put_losses(struct out *o, const struct question *q, const struct forecast *f) {
    put_text(o, ",\n\"time_limits\":[");
    for (unsigned i = 0; i < q->chain.limit_count; i++) {
        const struct limit *l = &q->chain.limits[i];
        put_format(o, "%s\n{\"counts\":\"%s\"", i ? "," : "", limit_kind_name(l->kind));
        put_string(o, "name", l->name);
        put_member(o, "after_s", (double)l->ms / 1000);
        put_member(o, "lost", f->losses[i].lost);
        put_member(o, "most_users", f->losses[i].most == UNLIMITED_USERS ? INFINITY : (double)f->losses[i].most);
        put_text(o, "}");
    }
    put_text(o, "]");
}

static void put_arrivals(struct out *o, const struct forecast *f) {
    put_text(o, ",\n\"arrivals\":[");
    for (unsigned i = 0; i < f->arrival_count; i++) {
        const struct arrivals *a = &f->arrivals[i];
        put_format(o, "%s\n{\"stable\":%s", i ? "," : "", a->wait.stable ? "true" : "false");
        put_member(o, "rate_per_s", a->rate);
        put_member(o, "utilisation", a->wait.utilisation);
        put_member(o, "p_wait", a->wait.p_wait);
        put_member(o, "mean_wait_s", a->wait.mean_s);
        put_text(o, "}");
    }
    put_text(o, "]");
}

static void put_each(struct out *o, const struct question *q, const struct forecast *f) {
    put_text(o, ",\n\"each_user\":[");
    for (unsigned k = 0; k < q->users; k++) {
        const struct limit *loss = forecast_loss(f, q, k);
        put_format(o, "%s\n{\"user\":%u", k ? "," : "", k + 1);
        put_member(o, "wait_s", seconds(f->v[k].wait_ns));
        put_member(o, "done_s", seconds(f->v[k].done_ns));
        put_string(o, "lost_to", loss ? loss->name : NULL);
        put_text(o, "}");
    }
    put_text(o, "]");
}

enum err plan_print_json(struct buf *out, const struct question *q, const struct forecast *f) {
    struct out o = {out, OK};
    bool limited = f->smallest != CHAIN_NONE;
    put_text(&o, "{\"at_once\":");
    put_json_number(&o, or_none(f->at_once));
    const struct {
        const char *name;
        double value;
    } members[] = {
        {"users_at_once", or_none(f->users_at_once)},
        {"users", q->users},
        {"calls", q->chain.calls},
        {"time_s", seconds(q->service_ns)},
        {"apart_s", seconds(q->apart_ns)},
        {"think_s", seconds(q->think_ns)},
        {"last_done_s", seconds(f->sum.wall_ns)},
        {"mean_s", seconds(f->sum.mean_ns)},
        {"max_wait_s", seconds(f->sum.longest_ns)},
        {"waiting_users", f->sum.waited},
        {"knee_users", or_none(f->knee_users)},
        {"stable_rate_per_s", or_none(f->capacity)},
        {"least_response_s", limited ? f->bounds.response_s : seconds(q->service_ns)},
        {"seats_wanted", or_none(f->seats_wanted)},
        {"seats_for_rate", or_none(f->rate_seats)},
        {"admits", or_none(q->admits)},
        {"serves", or_none(f->serves)},
        {"silent", f->silent},
    };
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        put_member(&o, members[i].name, members[i].value);
    }
    put_string(&o, "smallest_link", limited ? link_kind_name(q->chain.links[f->smallest].kind) : NULL);
    put_string(&o, "smallest_name", limited ? q->chain.links[f->smallest].name : NULL);
    put_chain(&o, q);
    put_losses(&o, q, f);
    put_arrivals(&o, f);
    put_each(&o, q, f);
    put_text(&o, "}\n");
    return o.e;
}
