// SPDX-License-Identifier: MIT
// The table, the JSON, and what the pictures share.
#include <inttypes.h>
#include <math.h>

#include "lab/draw.h"

struct lab_figures figures_of(const struct waits *w, double scale) {
    double unit = 1e9 * scale;
    return (struct lab_figures){(double)w->wall_ns / unit, (double)w->mean_ns / unit, (double)w->max_ns / unit};
}

// ---- for the pictures

// The first quarter of a service is no wait worth a colour: the users' sockets and the threads' waking.
unsigned patience_of(const struct lab_result *r, const struct sitting *s) {
    double service_ns = (double)r->row->service_ms * 1e6 * r->scale;
    double services = (double)(s->seated_ns - s->arrived_ns) / service_ns;
    unsigned whole = s->after == SITTING_NOBODY ? 0 : (unsigned)ceil(services - 0.25);
    return s->after == SITTING_NOBODY ? 0 : MIN(MAX(whole, 1), (unsigned)PATIENCE_MOST);
}

void put_who_waited(struct out *o, const struct lab_result *r) {
    const struct waits *w = &r->measured;
    if (w->waited == 0) {
        put_format(o, "Nobody waited: %u at once.", w->at_once);
        return;
    }
    uint32_t whom = sitting_waited_for(r->sittings, w->longest);
    put_format(o, "%u at once; %u of %u users waited, the longest %.2f s: user %u", w->at_once, w->waited, w->users,
               (double)w->longest_ns / 1e9 / r->scale, r->sittings[w->longest].user + 1);
    if (whom == r->sittings[w->longest].user) {
        put_text(o, " for another call of the same user.");
    } else if (whom != SITTING_NOBODY) {
        put_format(o, " for user %u.", whom + 1);
    } else {
        put_text(o, ".");
    }
}

void put_seat_name(struct out *o, const struct lab_result *r, unsigned seat) {
    if (r->row->seats == 1) {
        put_format(o, "%s", r->row->polled ? "flag" : "lock");
    } else {
        put_format(o, "%s %u", r->row->seats == SEATS_UNLIMITED ? "call" : "seat", seat + 1);
    }
}

unsigned seats_used(const struct lab_result *r) {
    unsigned most = 0;
    for (size_t i = 0; i < r->count; i++) {
        most = MAX(most, r->sittings[i].seat + 1);
    }
    return most;
}

// ---- the table: three figures, each published, predicted, measured

static void put_figure(struct out *o, double seconds) {
    if (seconds < 0) {
        put_format(o, "%7s", "-");
    } else {
        put_format(o, "%7.2f", seconds);
    }
}

static void put_row(struct out *o, const struct lab_result *r, const struct lab_style *style) {
    const struct lab_figures *published = &r->row->published;
    struct lab_figures predicted = figures_of(&r->predicted, r->scale);
    struct lab_figures measured = figures_of(&r->measured, r->scale);
    if (r->problem[0]) {
        measured = (struct lab_figures){-1, -1, -1};
    }
    const double all[] = {published->wall_s, predicted.wall_s, measured.wall_s, published->mean_s, predicted.mean_s,
                          measured.mean_s,   published->max_s, predicted.max_s, measured.max_s};
    bool fine = lab_result_fine(r);
    put_format(o, "%-10s", r->row->name);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        put(o, i && i % 3 == 0 ? STR(" ") : STR(""));
        put_figure(o, all[i]);
    }
    put_format(o, " %s%s%s\n", style->colour ? fine ? "\033[32m" : "\033[31m" : "", fine ? "ok" : "OFF",
               style->colour ? "\033[0m" : "");
    if (r->problem[0]) {
        put_format(o, "          %s\n", r->problem);
    }
}

enum err lab_print_table(struct buf *out, const struct lab_result *v, size_t n, const struct lab_style *style) {
    struct out o = {out, OK};
    double most = 0;
    static const char group[] = "  publ.  pred.  meas.";
    put_format(&o, "%-10s%21s %21s %21s\n", "seconds", "---- wall of all ----", "--- mean of users ---",
               "---- slowest user ---");
    put_format(&o, "%-10s%s %s %s\n", "", group, group, group);
    for (size_t i = 0; i < n; i++) {
        put_row(&o, &v[i], style);
        most = MAX(most, v[i].off);
    }
    put_format(&o, "Performed at %g of the length, shown at full length.\n", n ? v[0].scale : 1);
    put_format(&o, "Measured is at most %.1f %% off predicted; %g %% are allowed.\n", 100 * most, 100 * LAB_TOLERANCE);
    return o.e;
}

// ---- JSON

static void put_json_figures(struct out *o, const char *name, struct lab_figures f) {
    const struct {
        const char *name;
        double value;
    } all[] = {{"wall_s", f.wall_s}, {"mean_s", f.mean_s}, {"max_s", f.max_s}};
    put_format(o, ",\"%s\":{", name);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        put_format(o, "%s\"%s\":", i ? "," : "", all[i].name);
        if (all[i].value < 0) {
            put_text(o, "null");
        } else {
            put_format(o, "%.6f", all[i].value);
        }
    }
    put_text(o, "}");
}

static void put_json_sitting(struct out *o, const struct lab_result *r, size_t i) {
    const struct sitting *s = &r->sittings[i];
    uint32_t whom = sitting_waited_for(r->sittings, i);
    put_format(o,
               "%s{\"user\":%u,\"seat\":%u,\"arrived_ns\":%" PRIu64 ",\"seated_ns\":%" PRIu64 ",\"done_ns\":%" PRIu64,
               i ? "," : "", s->user + 1, s->seat + 1, s->arrived_ns, s->seated_ns, s->done_ns);
    if (whom == SITTING_NOBODY) {
        put_text(o, ",\"waited_for\":null}");
    } else {
        put_format(o, ",\"waited_for\":%u}", whom + 1);
    }
}

static void put_json_result(struct out *o, const struct lab_result *r) {
    put_text(o, "{\"row\":");
    put_json(o, str_c(r->row->name));
    put_text(o, ",\"title\":");
    put_json(o, str_c(r->row->title));
    put_text(o, ",\"path\":");
    put_json(o, str_c(r->row->path));
    put_format(o, ",\"users\":%u,\"calls\":%u", r->row->users, r->row->calls);
    put_json_figures(o, "published", r->row->published);
    put_json_figures(o, "predicted", figures_of(&r->predicted, r->scale));
    put_json_figures(o, "measured", figures_of(&r->measured, r->scale));
    put_format(o, ",\"waited\":%u,\"at_once\":%u,\"off\":%.6f,\"ok\":%s,\"problem\":", r->measured.waited,
               r->measured.at_once, r->off, lab_result_fine(r) ? "true" : "false");
    if (r->problem[0]) {
        put_json(o, str_c(r->problem));
    } else {
        put_text(o, "null");
    }
    put_text(o, ",\"calls_made\":[");
    for (size_t i = 0; i < r->count; i++) {
        put_json_sitting(o, r, i);
    }
    put_text(o, "]}");
}

enum err lab_print_json(struct buf *out, const struct lab_result *v, size_t n) {
    struct out o = {out, OK};
    double scale = n ? v[0].scale : 1;
    put_format(&o, "{\"scale\":%g,\"tolerance\":%g,\"rows\":[\n", scale, LAB_TOLERANCE);
    for (size_t i = 0; i < n; i++) {
        put(&o, i ? STR(",\n") : STR(""));
        put_json_result(&o, &v[i]);
    }
    put_text(&o, "\n]}\n");
    return o.e;
}
