// SPDX-License-Identifier: MIT
#include "gateway/counted.h"

// What thaw has been doing since the turn began that brought what it works on.
static uint64_t own_ns(const struct worker *w) { return w->loop.clock->now_ns(w->loop.clock) - w->loop.now_ns; }

void counted_leave(struct counted *c) {
    if (c->at) {
        count_take(&c->at->in_flight, 1);
        c->at = NULL;
    }
}

void counted_begin(struct counted *c, struct worker *w, struct trail *take_trail, bool timing_wanted) {
    *c = (struct counted){.begun_ns = w->loop.now_ns, .trail = take_trail};
    if (!take_trail && timing_wanted) {
        c->trail = trail_create();
    }
}

void counted_wait(struct counted *c, const struct worker *w) {
    if (c->trail) {
        c->trail->waits_ns = w->loop.now_ns;
    }
}

static void end_wait(struct counted *c, const struct worker *w) {
    if (c->trail && c->trail->waits_ns) {
        c->trail->queued_ns += w->loop.now_ns - c->trail->waits_ns;
        c->trail->waits_ns = 0;
    }
}

void counted_attempt(struct counted *c, const struct worker *w, const struct upstream *u) {
    counted_leave(c);
    end_wait(c, w);
    c->at = u->meter;
    c->failed = false;
    count_add(&u->meter->in_flight, 1);
    count_add(&u->meter->attempts, 1);
    if (c->trail) {
        c->trail->attempts++;
        c->trail->answered_ns = 0;
        snprintf(c->trail->upstream, sizeof c->trail->upstream, "%.*s", STR_ARG(u->config->name));
    }
}

void counted_failure(struct counted *c) {
    if (c->at && !c->failed) {
        count_add(&c->at->failures, 1);
        c->failed = true;
    }
}

void counted_sent(struct counted *c, struct worker *w) {
    c->timed = meter_times(w->meter);
    if (!c->timed && !c->trail) {
        return;
    }
    uint64_t ns = own_ns(w);
    histogram_add(&w->meter->before, ns);
    if (c->trail) {
        c->trail->own_ns += ns;
        c->trail->sent_ns = w->loop.now_ns + ns;
    }
}

void counted_head(struct counted *c, const struct worker *w) {
    struct trail *t = c->trail;
    if (t) {
        t->answered_ns = w->loop.now_ns;
        t->upstream_ns = t->answered_ns > t->sent_ns ? t->answered_ns - t->sent_ns : 0;
    }
}

void counted_bytes(struct counted *c, struct worker *w, struct meter_upstream *at) {
    if (c->began) {
        return;
    }
    c->began = true;
    if (at) {
        histogram_add(&at->first_byte, w->loop.now_ns - c->begun_ns);
    }
    if (c->timed || c->trail) {
        uint64_t ns = own_ns(w);
        histogram_add(&w->meter->after, ns);
        if (c->trail) {
            c->trail->own_ns += ns;
            c->trail->settled = true;
        }
    }
}

void counted_end(struct counted *c, const struct worker *w, bool whole) {
    if (c->at && whole) {
        histogram_add(&c->at->duration, w->loop.now_ns - c->begun_ns);
    }
    counted_leave(c);
    end_wait(c, w);
    trail_unref(c->trail);
    c->trail = NULL;
}

void counted_timing(const struct counted *c, const struct worker *w, struct fields *fields, char room[TIMING_MAX]) {
    if (!c->trail) {
        return;
    }
    int n = snprintf(room, TIMING_MAX, "thaw;dur=%.3f, upstream;dur=%.3f", (double)(c->trail->own_ns + own_ns(w)) / 1e6,
                     (double)c->trail->upstream_ns / 1e6);
    enum err e = fields_add(fields, STR("Server-Timing"), str_from(room, (size_t)n));
    (void)e;
}
