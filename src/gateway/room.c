// SPDX-License-Identifier: MIT
#include "gateway/room.h"

#include <inttypes.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/resume.h"
#include "gateway/steps.h"

enum {
    RETRY_AFTER_S = 2,
    CONNECTION_BYTES = 5 * 1024, // an idle one, mostly the kernel's
    UNUSED_MS = 1000,            // for so long: a client that has just had an answer may ask again
    NEW_MS = 100,                // a client that has just come is about to ask
    TIGHT_READ = 4096,
    SPARED = 4,           // connections closed at once for want of descriptors
    CROWDED_PERCENT = 90, // of the connections allowed: from there on, for each that comes the longest idle one goes
    MIB = 1024 * 1024,
};

static const struct tape_why shed = {
    TAPE_CUT, ERR_CANCELLED, OUTCOME_SHED, 0,
    "thaw was about to run out of memory, and this call was among those that held most"};

// ---- giving up what holds most

// A call by its tape, counted, or a request whose body is being gathered.
struct holder {
    uint64_t bytes;
    struct tape *tape;
    struct request *request; // NULL: a tape
};

static uint64_t held_by_tape(const struct tape *t) { return PRESSURE_CALL_BYTES + tape_copied(t) + call_held(t); }

static bool gathers(const struct request *r) { return r->state == REQUEST_READING && buf_len(&r->body); }

// All that could be given up: up to `room` of them, or (v NULL) how many there are. *total: their bytes.
static size_t find_holders(struct worker *w, struct holder *v, size_t room, uint64_t *total) {
    size_t n = 0;
    *total = 0;
    for (uint32_t i = 0; i < w->shelf.slot_count; i++) {
        struct tape *t = w->shelf.slots[i].tape;
        if (!t || !tape_running(t)) {
            continue;
        }
        uint64_t bytes = held_by_tape(t);
        *total += bytes;
        if (v && n < room) {
            v[n] = (struct holder){bytes, tape_ref(t), NULL};
        }
        n++;
    }
    list_each(node, &w->requests) {
        struct request *r = container_of(node, struct request, node);
        if (!gathers(r)) {
            continue;
        }
        uint64_t bytes = PRESSURE_CALL_BYTES + buf_len(&r->body);
        *total += bytes;
        if (v && n < room) {
            v[n] = (struct holder){bytes, NULL, r};
        }
        n++;
    }
    return n;
}

static int by_bytes(const void *a, const void *b) {
    uint64_t left = ((const struct holder *)a)->bytes;
    uint64_t right = ((const struct holder *)b)->bytes;
    return left < right ? 1 : left > right ? -1 : 0;
}

static void give_up(const struct holder *h) {
    if (h->tape) {
        tape_stop(h->tape, &shed); // nothing if another one's end was its end, too
    } else if (gathers(h->request)) {
        request_error(h->request, 503, OUTCOME_SHED, NULL, "memory_budget", "The request was given up: %s.",
                      shed.problem);
    }
}

// Who reads such a tape slowly would keep its bytes: these clients' connections are reset.
static void drop_slow_readers(struct worker *w) {
    list_each(node, &w->requests) {
        struct request *r = container_of(node, struct request, node);
        const struct tape *t = r->state == REQUEST_RELAYING ? r->reader.tape : NULL;
        if (t && t->why.end == TAPE_CUT && t->why.reason == OUTCOME_SHED) {
            http_server_reset(r->x);
            request_finish(r, OUTCOME_SHED);
        }
    }
}

static void give_up_most(struct worker *w) {
    uint64_t total;
    size_t n = find_holders(w, NULL, 0, &total);
    uint64_t wanted = pressure_share(&w->gauge, total);
    struct holder *v = wanted && n ? try_malloc(n * sizeof *v) : NULL;
    if (!v) {
        return;
    }
    uint64_t given = 0;
    find_holders(w, v, n, &total);
    qsort(v, n, sizeof *v, by_bytes);
    for (size_t i = 0; i < n && given < wanted; i++) {
        given += v[i].bytes;
        give_up(&v[i]);
    }
    for (size_t i = 0; i < n; i++) {
        tape_unref(v[i].tape);
    }
    free(v);
    drop_slow_readers(w);
    log_warning("memory: %" PRIu64 " MiB in use; gave up %" PRIu64 " KiB of running calls, the largest first",
                w->gauge.all->used / MIB, given / 1024);
}

// Connections that wait for nothing but use, and answers that are kept for readers to come, must not keep new calls out.
// Each worker drops its part, what was not used for the longest time first.
static void drop_unused(struct worker *w) {
    uint64_t wanted = w->gauge.all->excess / w->shelves->options.count;
    unsigned connections = (unsigned)MIN(wanted / CONNECTION_BYTES, (uint64_t)UINT16_MAX);
    unsigned closed = http_client_close_idle(&w->client, connections);
    closed += http_server_close_idle(&w->server, connections - closed, UNUSED_MS);
    uint64_t given = (uint64_t)closed * CONNECTION_BYTES;
    while (given < wanted && !list_empty(&w->shelf.finished)) {
        struct tape_kept *kept = container_of(w->shelf.finished.next, struct tape_kept, node);
        given += kept->cost;
        shelf_forget(kept);
    }
}

// Where memory is short, no more is read of an answer at once than may well be kept for each slow reader.
static bool set_tight(struct worker *w) {
    bool tight = atomic_load_explicit(&w->gauge.all->excess, memory_order_relaxed) > 0;
    w->client.read_most = tight ? TIGHT_READ : LOOP_READ_BUFFER;
    return tight;
}

// ---- watching

static void on_watch(struct timer *timer) {
    struct worker *w = container_of(timer, struct worker, watch);
    struct pressure *p = w->gauge.all;
    pressure_measure(p, w->loop.now_ms, PRESSURE_ROUND_MS / 2);
    if (set_tight(w)) {
        drop_unused(w);
        give_up_most(w); // also tells what there is, before it is asked for
    }
    if (w->in_flight || w->shelf.running || p->excess) { // else nothing grows
        timer_set(&w->loop, &w->watch, PRESSURE_ROUND_MS);
    }
}

static void begin_watch(struct worker *w) {
    pressure_measure(w->gauge.all, w->loop.now_ms, PRESSURE_ROUND_MS);
    timer_set(&w->loop, &w->watch, PRESSURE_ROUND_MS);
}

// ---- letting in

static bool admits(struct worker *w, size_t bytes) {
    if (LIKELY(pressure_admits(&w->gauge, w->in_flight, bytes))) {
        return true;
    }
    pressure_measure(w->gauge.all, w->loop.now_ms, PRESSURE_SOON_MS);
    return pressure_admits(&w->gauge, w->in_flight, bytes);
}

void room_refuse(struct request *r) {
    const struct pressure *p = r->worker->gauge.all;
    r->retry_ms = RETRY_AFTER_S * 1000;
    count_add(&r->worker->meter->refused[LIMIT_MEMORY], 1);
    request_error(r, 503, OUTCOME_NO_ROOM, NULL, "memory_budget",
                  "thaw is at its memory budget (memory: %" PRIu64 " MiB, %" PRIu64
                  " in use) and takes no new calls; those that run go on. Try again in %d seconds.",
                  p->budget / MIB, p->used / MIB, RETRY_AFTER_S);
}

bool room_for_body(struct worker *w, size_t bytes) { return !w->gauge.all || admits(w, bytes); }

// Reading what is there already costs little and may free it; a job that is run again was let in before.
static bool always_let_in(const struct request *r) {
    return r->route->open || r->route->below || (r->resume && r->resume->rerun);
}

enum verdict room_step(struct request *r) {
    struct worker *w = r->worker;
    if (!w->gauge.all) {
        return NEXT;
    }
    if (UNLIKELY(!timer_is_set(&w->watch))) {
        begin_watch(w);
    }
    if (LIKELY(admits(w, 0)) || always_let_in(r)) {
        return NEXT;
    }
    room_refuse(r);
    return DONE;
}

// What is kept for slow readers can grow by all there is within a turn: it is measured by how much it is, too.
bool room_is_tight(struct worker *w, size_t bytes) {
    struct pressure *p = w->gauge.all;
    if (!p) {
        return false;
    }
    w->grown += bytes;
    if (w->grown >= MAX(atomic_load_explicit(&p->step, memory_order_relaxed), (uint64_t)MIB)) {
        w->grown = 0;
        pressure_measure(p, w->loop.now_ms, 0);
    }
    return set_tight(w);
}

void room_take_calls(struct worker *w, unsigned calls) { w->gauge.more += (int64_t)calls * PRESSURE_CALL_BYTES; }

// ---- connections and descriptors

static void on_open(struct http_server *s, bool more) {
    struct worker *w = s->owner;
    atomic_fetch_add_explicit(&w->gauge.all->connections, more ? 1u : UINT32_MAX, memory_order_relaxed);
    if (!more) {
        listener_resume(&w->listener);
        for (unsigned i = 0; i < w->other_count; i++) {
            listener_resume(&w->others[i]);
        }
    }
}

// Whoever only waits gives way to those who come.
static bool may_accept(struct listener *l) {
    struct worker *w = l->owner;
    struct pressure *p = w->gauge.all;
    unsigned most = atomic_load_explicit(&p->most_connections, memory_order_relaxed);
    unsigned open = atomic_load_explicit(&p->connections, memory_order_relaxed);
    if (LIKELY((uint64_t)open * 100 < (uint64_t)most * CROWDED_PERCENT)) {
        return true;
    }
    return http_server_close_idle(&w->server, 1, NEW_MS) || open < most;
}

bool room_spare_files(struct worker *w) {
    return http_client_close_idle(&w->client, SPARED) || http_server_close_idle(&w->server, SPARED, 0);
}

static bool spare_files(struct listener *l) { return room_spare_files(l->owner); }

void room_init(struct worker *w, struct pressure *pressure) {
    w->gauge.all = pressure;
    w->watch.on_timer = on_watch;
    w->server.on_open = pressure ? on_open : NULL;
}

void room_listen(struct worker *w) {
    for (unsigned i = 0; i <= w->other_count; i++) {
        struct listener *l = i == 0 ? &w->listener : &w->others[i - 1];
        l->may_accept = w->gauge.all ? may_accept : NULL;
        l->spare_files = spare_files;
    }
}

void room_finish(struct worker *w) { timer_clear(&w->watch); }
