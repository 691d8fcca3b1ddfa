// SPDX-License-Identifier: MIT
// The forecast as text: one sentence first, then who waits, the picture, the chain, who is lost, arrivals by chance, and
// what to set instead.
#include <math.h>

#include "draw/text.h"
#include "plan/report.h"
#include "plan/words.h"

enum { ROWS_MOST = 12, ROWS_FIRST = 8, ROWS_LAST = 3, WORDS_CAP = 4096 };

static void put_indented(struct out *o, unsigned columns, unsigned indent, struct str words) {
    put_format(o, "%*s", (int)indent, "");
    put_paragraph(o, words, indent, columns);
}

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static const struct link *smallest_of(const struct question *q, const struct forecast *f) {
    return f->smallest == CHAIN_NONE ? NULL : &q->chain.links[f->smallest];
}

// ---- sentences

static void put_headline(struct out *o, const struct question *q, const struct forecast *f) {
    if (f->smallest == CHAIN_NONE) {
        put_format(o, "No limit: nobody waits for anybody; all %u users are done after ", q->users);
        put_seconds(o, seconds(q->service_ns));
        put_text(o, ".");
        return;
    }
    if (q->chain.calls > 1) {
        put_format(o, "%u call%s at once, %u for each user: ", f->at_once, f->at_once == 1 ? "" : "s", q->chain.calls);
    } else {
        put_format(o, "%u at once: ", f->at_once);
    }
    if (f->sum.waited == 0) {
        put_format(o, "of %u user%s nobody waits.", q->users, q->users == 1 ? "" : "s");
        return;
    }
    put_format(o, "of %u users %u wait%s, the last one ", q->users, f->sum.waited, f->sum.waited == 1 ? "s" : "");
    put_seconds(o, seconds(f->v[q->users - 1].wait_ns));
    put_text(o, ", and is done after ");
    put_seconds(o, seconds(f->v[q->users - 1].done_ns));
    put_text(o, ".");
}

// Who waits in front of the platform is seen by it.
static void put_seen(struct out *o, const struct preset *platform) {
    if (platform->refuses) {
        put_format(o, " %s does not let them wait: it refuses them.", platform->title);
    } else if (platform->scaling) {
        put_format(o, " %s sees them, and starts other instances as far as it may (--instances).", platform->title);
    }
}

static void put_silence(struct out *o, const struct question *q, const struct forecast *f) {
    const struct link *small = smallest_of(q, f);
    const char *each = q->chain.instances > 1 ? " an instance" : "";
    if (f->silent) {
        put_format(o, " %s admits %u%s, serves %u: %u wait%s in silence and the autoscaler never sees it.", q->platform,
                   q->admits, each, f->serves, f->silent, f->silent == 1 ? "s" : "");
    } else if (q->platform && q->scaling && q->admits == 0 && f->serves) {
        put_format(o,
                   " %s admits everybody, serves %u%s: the others wait in silence, and an autoscaler that looks at %s "
                   "never sees it.",
                   q->platform, f->serves, each, q->scaling);
    } else if (small && small->kind == LINK_PLATFORM && small->preset && f->sum.waited) {
        put_seen(o, small->preset);
    }
}

static void put_sentences(struct out *o, const struct question *q, const struct forecast *f, unsigned columns) {
    struct buf room;
    buf_init(&room, WORDS_CAP);
    struct out words = {&room, OK};
    put_headline(&words, q, f);
    put_silence(&words, q, f);
    o->e = o->e == OK ? words.e : o->e;
    put_indented(o, columns, 0, buf_str(&room));
    buf_finish(&room);
}

// ---- who waits how long

// One past the last user who fares as user k does.
static unsigned group_end(const struct forecast *f, unsigned users, unsigned k) {
    unsigned end = k + 1;
    while (end < users && f->v[end].wait_ns == f->v[k].wait_ns) {
        end++;
    }
    return end;
}

static unsigned count_groups(const struct forecast *f, unsigned users) {
    unsigned groups = 0;
    for (unsigned k = 0; k < users; k = group_end(f, users, k)) {
        groups++;
    }
    return groups;
}

static void put_group(struct out *o, const struct question *q, const struct forecast *f, unsigned from, unsigned end,
                      const struct plan_style *style) {
    char who[32];
    char wait[32];
    char done[32];
    const struct limit *loss = forecast_loss(f, q, from);
    const char *colour = !style->colour ? "" : loss ? "\033[31m" : f->v[from].wait_ns ? "\033[33m" : "\033[32m";
    int n = snprintf(who, sizeof who, "%u", from + 1);
    if (end - from > 1) {
        snprintf(who + n, sizeof who - (size_t)n, "-%u", end);
    }
    put_format(o, "%s  %13s  %10s  %10s", colour, who, seconds_text(wait, seconds(f->v[from].wait_ns)),
               seconds_text(done, seconds(f->v[from].done_ns)));
    if (loss) {
        put_format(o, "  lost: %s", loss->name);
    }
    put_format(o, "%s\n", *colour ? "\033[0m" : "");
}

static void put_users(struct out *o, const struct question *q, const struct forecast *f,
                      const struct plan_style *style) {
    unsigned groups = count_groups(f, q->users);
    unsigned group = 0;
    put_format(o, "\n  %13s  %10s  %10s\n", "users", "wait", "done after");
    for (unsigned k = 0, end; k < q->users; k = end, group++) {
        end = group_end(f, q->users, k);
        if (groups <= ROWS_MOST || group < ROWS_FIRST || group >= groups - ROWS_LAST) {
            put_group(o, q, f, k, end, style);
        } else if (group == ROWS_FIRST) {
            put_format(o, "  %13s\n", "...");
        }
    }
    put_text(o, "  On average done after ");
    put_seconds(o, seconds(f->sum.mean_ns));
    put_text(o, ".\n");
}

// ---- the chain

static void put_number_of(struct out *o, const struct chain *c, const struct link *l) {
    put_format(o, "  %s", l->number);
    if (l->seats <= 0) {
        return;
    }
    if (l->scope == EACH_WORKER && c->workers > 1) {
        put_format(o, " x %u workers", c->workers);
    }
    if (l->scope != IN_ALL && c->instances > 1) {
        put_format(o, " x %u instances", c->instances);
    }
}

static void put_link(struct out *o, const struct question *q, const struct forecast *f, unsigned i,
                     const struct plan_style *style) {
    const struct link *l = &q->chain.links[i];
    bool smallest = i == f->smallest;
    char seats[32] = "-";
    if (l->seats > 0) {
        number_text(seats, link_seats(&q->chain, l));
    }
    put_format(o, "%s%s %-11s %-23s %6s", smallest && style->colour ? "\033[1m" : "", smallest ? ">" : " ",
               link_kind_words(l->kind), l->name, seats);
    put_number_of(o, &q->chain, l);
    put_format(o, "%s\n", smallest && style->colour ? "\033[0m" : "");
}

static void put_chain(struct out *o, const struct question *q, const struct forecast *f,
                      const struct plan_style *style) {
    put_format(o, "\n  %-11s %-23s %6s\n", "chain", "", "seats");
    for (unsigned i = 0; i < q->chain.count; i++) {
        put_link(o, q, f, i, style);
    }
    const struct link *small = smallest_of(q, f);
    if (small) {
        put_format(o, "  The smallest link is %s", small->name);
        if (q->chain.calls > 1) {
            put_format(o, ", counted in %s: ", small->unit == OF_CALLS ? "calls" : "requests");
            put_number(o, f->users_at_once);
            put_text(o, " users at once");
        }
        put_text(o, ".\n");
    }
}

// ---- who is lost

static void put_losses(struct out *o, const struct question *q, const struct forecast *f, unsigned columns) {
    char room[256];
    if (q->chain.limit_count) {
        put_text(o, "\n  Lost to a time limit (the work goes on all the same):\n");
    }
    for (unsigned i = 0; i < q->chain.limit_count; i++) {
        const struct limit *l = &q->chain.limits[i];
        char after[32];
        int n = snprintf(room, sizeof room, "%s, %s: %u of %u", l->name, seconds_text(after, (double)l->ms / 1000),
                         f->losses[i].lost, q->users);
        if (f->losses[i].most == 0) {
            snprintf(room + n, sizeof room - (size_t)n, "; a call alone takes longer");
        } else if (f->losses[i].most != UNLIMITED_USERS) {
            snprintf(room + n, sizeof room - (size_t)n, "; more than %u at once lose the first", f->losses[i].most);
        }
        put_indented(o, columns, 4, str_c(room));
    }
}

// ---- users who come by chance, and users who think

static void put_arrival(struct out *o, const struct arrivals *a, bool asked) {
    char rate[32];
    char wait[32];
    if (!a->wait.stable) {
        put_format(o, "  %9s/s  %4.0f %%  the queue grows without end%s\n", number_text(rate, a->rate),
                   100 * a->wait.utilisation, asked ? "  (--rate)" : "");
        return;
    }
    put_format(o, "  %9s/s  %4.0f %%  %6.1f %%  %10s%s\n", number_text(rate, a->rate), 100 * a->wait.utilisation,
               100 * a->wait.p_wait, seconds_text(wait, a->wait.mean_s), asked ? "  (--rate)" : "");
}

static void put_arrivals(struct out *o, const struct forecast *f) {
    if (f->arrival_count == 0) {
        return;
    }
    put_format(o, "\n  %-11s  %6s  %8s  %10s   users who come by chance\n", "arrivals", "busy", "wait", "mean wait");
    for (unsigned i = 0; i < f->arrival_count; i++) {
        put_arrival(o, &f->arrivals[i], i == FORECAST_RATES);
    }
    put_text(o, "  From ");
    put_number(o, f->capacity);
    put_text(o, "/s on (");
    put_number(o, 60 * f->capacity);
    put_text(o, " a minute) the queue grows without end.\n");
}

static void put_thinkers(struct out *o, const struct question *q, const struct forecast *f, unsigned columns) {
    char room[256];
    char think[32];
    char answer[32];
    if (q->think_ns && f->smallest != CHAIN_NONE) {
        snprintf(room, sizeof room,
                 "Users who think for %s between two requests: up to %u need not wait; %u users wait %s on average "
                 "for an answer, or longer.",
                 seconds_text(think, seconds(q->think_ns)), f->knee_users, q->users,
                 seconds_text(answer, f->bounds.response_s));
        put_text(o, "\n");
        put_indented(o, columns, 2, str_c(room));
    }
}

// ---- what to set instead

// The preset's way to say it, with the number in its place.
static void put_fix(struct out *o, const char *fix, unsigned number) {
    struct str text = str_c(fix);
    size_t at = str_search(text, STR("{n}"));
    put(o, str_first(text, at));
    if (at < text.len) {
        put_format(o, "%u", number);
        put(o, str_skip(text, at + 3));
    }
}

static const struct preset *platform_of(const struct question *q) {
    for (unsigned i = 0; i < q->chain.count; i++) {
        if (q->chain.links[i].preset && q->chain.links[i].preset->scaling) {
            return q->chain.links[i].preset;
        }
    }
    return NULL;
}

static void put_larger(struct out *o, const struct question *q, const struct forecast *f) {
    const struct link *small = smallest_of(q, f);
    put_format(o, "%u users at once take ", q->users);
    if (small->kind >= LINK_REQUESTS_PER_MINUTE) {
        put_number(o, f->seats_wanted / link_seats(&q->chain, small));
        put_format(o, " times %s", small->name);
    } else {
        put_number(o, f->seats_wanted);
        put_text(o, " seats");
    }
    if (small->preset && small->preset->fix) {
        put_text(o, ": ");
        put_fix(o, small->preset->fix, f->set_to);
    }
    put_text(o, ".");
    if (f->next != CHAIN_NONE) {
        const struct link *next = &q->chain.links[f->next];
        put_format(o, " The next link is %s: ", next->name);
        put_number(o, floor(link_users(&q->chain, next) + 1e-9));
        put_text(o, " users.");
    }
}

typedef void put_advice(struct out *o, const struct question *q, const struct forecast *f);

static void put_rate_seats(struct out *o, const struct question *q, const struct forecast *f) {
    put_text(o, "For ");
    put_number(o, q->rate);
    put_format(o, " users/s with a mean wait of a tenth of a call: %u seats.", f->rate_seats);
}

static void put_platform(struct out *o, const struct question *q, const struct forecast *f) {
    const struct preset *p = platform_of(q);
    put_format(o, "So that %s sees the jam: ", p->title);
    put_fix(o, p->fix, f->serves);
    put_text(o, ".");
}

static void put_way_out(struct out *o, const struct question *q UNUSED, const struct forecast *f UNUSED) {
    put_text(o, "Or let nothing in the app wait: an async client, or thaw serve in front of the upstream, "
                "holds every call without a thread.");
}

static void put_platform_note(struct out *o, const struct question *q, const struct forecast *f UNUSED) {
    put_format(o, "%s: %s.", platform_of(q)->title, platform_of(q)->note);
}

static void put_lot(struct out *o, const struct question *q, const struct forecast *f UNUSED) {
    put_format(o, "A call is bound to one of the %u workers, often by lot: some wait sooner than this says.",
               q->chain.workers);
}

static void put_note(struct out *o, const struct question *q, const struct forecast *f) {
    const struct link *small = smallest_of(q, f);
    put_format(o, "%s: %s.", small->name, small->preset->note);
}

static void put_advices(struct out *o, const struct question *q, const struct forecast *f, unsigned columns) {
    const struct link *small = smallest_of(q, f);
    const struct preset *platform = platform_of(q);
    const struct {
        bool holds;
        put_advice *put;
    } advices[] = {
        {small && f->sum.waited, put_larger},
        {f->rate_seats > 0, put_rate_seats},
        {f->serves && platform && platform->fix && (f->silent || q->admits == 0), put_platform},
        {small && f->sum.waited && small->kind >= LINK_WORKERS && small->kind <= LINK_POOL, put_way_out},
        {small && f->sum.waited && small->preset && small->preset->note, put_note},
        {platform && platform->note && platform != (small ? small->preset : NULL), put_platform_note},
        {small && f->sum.waited && small->scope == EACH_WORKER && q->chain.workers > 1, put_lot},
    };
    bool begun = false;
    for (size_t i = 0; i < ARRAY_LEN(advices); i++) {
        struct buf room;
        struct out words = {&room, OK};
        if (!advices[i].holds) {
            continue;
        }
        if (!begun) {
            put_text(o, "\n  Instead\n");
        }
        begun = true;
        buf_init(&room, WORDS_CAP);
        advices[i].put(&words, q, f);
        o->e = o->e == OK ? words.e : o->e;
        put_indented(o, columns, 4, buf_str(&room));
        buf_finish(&room);
    }
}

enum err plan_print_text(struct buf *out, const struct question *q, const struct forecast *f,
                         const struct plan_style *style) {
    struct out o = {out, OK};
    put_sentences(&o, q, f, style->columns);
    put_users(&o, q, f, style);
    if (o.e == OK) {
        o.e = plan_print_picture(out, q, f, style);
    }
    put_chain(&o, q, f, style);
    put_losses(&o, q, f, style->columns);
    put_arrivals(&o, f);
    put_thinkers(&o, q, f, style->columns);
    put_advices(&o, q, f, style->columns);
    for (size_t i = 0; i < ARRAY_LEN(style->remarks) && style->remarks[i]; i++) {
        put_text(&o, "\n");
        put_indented(&o, style->columns, 2, str_c(style->remarks[i]));
    }
    return o.e;
}

// ---- the table of presets

static void put_preset(struct out *o, const struct preset *p, unsigned columns) {
    char room[512];
    put_format(o, "\n  %s\n", p->name);
    int n = snprintf(room, sizeof room, "%s: %s; %s", p->title, p->does, p->number);
    for (size_t i = 0; i < PRESET_LIMITS && p->limits[i].name; i++) {
        char after[32];
        n += snprintf(room + n, sizeof room - (size_t)n, "; %s, %s", p->limits[i].name,
                      seconds_text(after, (double)p->limits[i].ms / 1000));
    }
    put_indented(o, columns, 6, str_c(room));
    if (p->note) {
        put_indented(o, columns, 6, str_c(p->note));
    }
    snprintf(room, sizeof room, "source: %s", p->source);
    put_indented(o, columns, 6, str_c(room));
}

enum err plan_print_presets(struct buf *out, const struct plan_style *style) {
    static const char *const heads[] = {[RUNTIME] = "--runtime", [PLATFORM] = "\n--platform"};
    struct out o = {out, OK};
    for (int group = RUNTIME; group <= PLATFORM; group++) {
        put_format(&o, "%s\n", heads[group]);
        for (size_t i = 0; preset_at(i); i++) {
            if ((int)preset_at(i)->group == group) {
                put_preset(&o, preset_at(i), style->columns);
            }
        }
    }
    return o.e;
}
