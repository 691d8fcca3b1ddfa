// SPDX-License-Identifier: MIT
#include "cmd/lookout.h"

#include "base/log.h"
#include "base/mem.h"
#include "cmd/symbols.h"

enum { NS_PER_MS = 1000000, NAME_MAX_LEN = 128 };

static void look_at(struct lookout *l, unsigned i) {
    uint64_t for_ns = 0;
    uint64_t *stuck = &l->stuck_ns[i];
    activity_callback *in = loop_running(l->options.watched(l->options.owner, i), &for_ns);
    if (*stuck && for_ns < *stuck) { // it is another turn
        log_warning("worker %u goes on, after more than %.1f s", i + 1, (double)*stuck / 1e9);
        *stuck = 0;
    }
    bool late = for_ns >= (uint64_t)LOOKOUT_LATE_MS * NS_PER_MS;
    if (late && !*stuck && in) {
        char name[NAME_MAX_LEN];
        symbol_name(in, name, sizeof name);
        count_add(l->options.stalls, 1);
        log_warning("worker %u has been in %s for %.1f s: its other calls wait. Please report this", i + 1, name,
                    (double)for_ns / 1e9);
    }
    *stuck = late ? for_ns : *stuck;
}

static void on_look(struct timer *timer) {
    struct lookout *l = container_of(timer, struct lookout, look);
    for (unsigned i = 0; i < l->options.count; i++) {
        look_at(l, i);
    }
    timer_set(l->options.loop, timer, LOOKOUT_EVERY_MS);
}

// Half of the time is left: one that has been away for so long may still come back.
static void on_watchdog(struct timer *timer) {
    struct lookout *l = container_of(timer, struct lookout, watchdog);
    uint64_t every_ms = l->options.notify->watchdog_ms;
    bool all = true;
    for (unsigned i = 0; i < l->options.count; i++) {
        uint64_t for_ns = 0;
        (void)loop_running(l->options.watched(l->options.owner, i), &for_ns);
        all = all && for_ns < every_ms * NS_PER_MS;
    }
    if (all) {
        notify_say(l->options.notify, "WATCHDOG=1");
    }
    timer_set(l->options.loop, timer, every_ms);
}

void lookout_open(struct lookout *l, const struct lookout_options *options) {
    *l = (struct lookout){.options = *options, .look.on_timer = on_look, .watchdog.on_timer = on_watchdog};
    l->stuck_ns = xcalloc(options->count, sizeof *l->stuck_ns);
    timer_set(options->loop, &l->look, LOOKOUT_EVERY_MS);
    if (options->notify->watchdog_ms) {
        timer_set(options->loop, &l->watchdog, 0);
    }
}

void lookout_close(struct lookout *l) {
    timer_clear(&l->look);
    timer_clear(&l->watchdog);
    free(l->stuck_ns);
    l->stuck_ns = NULL;
}
