// SPDX-License-Identifier: MIT
#include "gateway/worker.h"

#include "base/mem.h"
#include "gateway/jobs.h"
#include "gateway/request.h"
#include "gateway/room.h"
#include "net/tcp.h"

enum {
    EVENTS_MAX = 1 << 20, // what a read (64 KiB) can become: "id:" lines of events of two bytes
    DRAIN_LOOK_MS = 20,
    DRAIN_LAST_WORDS_MS = 500,
    UPSTREAM_IDLE_MS = 50 * 1000,
    PACE_MIN_IOS = 64,
    POOL_KEEP = 256
};

struct fields worker_scratch(struct worker *w) {
    return (struct fields){.v = w->scratch, .cap = w->server.limits.fields + HEAD_EXTRA};
}

struct str worker_date(struct worker *w) {
    time_t now = time(NULL);
    if (now != w->date_second) {
        struct tm utc;
        w->date_second = now;
        strftime(w->date, sizeof w->date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &utc));
    }
    return str_c(w->date);
}

static void on_accept(struct listener *l, struct conn *c) {
    struct worker *w = l->owner;
    http_server_accept(&w->server, c);
    tcp_watch(c);
}

void *worker_mock(struct worker *w, struct str upstream) {
    if (!w->mock) {
        w->mock = w->options.mock_create(&w->loop);
    }
    return w->options.mock_context ? w->options.mock_context(w->mock, upstream) : w->mock;
}

// ---- life

static void init_id_prefix(struct worker *w) {
    uint32_t random;
    char text[sizeof w->id_prefix + 1];
    random_bytes(&random, sizeof random);
    snprintf(text, sizeof text, "thaw-%08x-", random);
    memcpy(w->id_prefix, text, sizeof w->id_prefix);
}

static void init_http(struct worker *w) {
    const struct config *config = w->options.blueprint->config;
    struct http_limits limits = HTTP_LIMITS_DEFAULT;
    limits.head_bytes = config->max_head;
    limits.fields = config->max_fields;
    w->server.loop = &w->loop;
    w->server.limits = limits;
    w->server.on_request = request_begin;
    w->server.on_reject = request_reject;
    w->server.owner = w;
    w->server.door.tickets = w->commons->tickets;
    http_server_init(&w->server);
    w->client.loop = &w->loop;
    w->client.dns = w->dns;
    w->client.limits = limits;
    w->client.idle_ms = UPSTREAM_IDLE_MS;
    http_client_init(&w->client);
    w->scratch = xcalloc(limits.fields + HEAD_EXTRA, sizeof *w->scratch);
    w->answer_scratch = xcalloc(limits.fields + HEAD_EXTRA, sizeof *w->answer_scratch);
}

struct shelves *worker_shelves(const struct config *config, unsigned workers) {
    struct shelves_options options = {
        .count = workers, .keep_ms = config->tape_keep_ms, .total_bytes = config->tape_total};
    return shelves_create(&options);
}

// What others may read of this worker, as a turn leaves it.
static void publish(struct loop *loop) {
    struct worker *w = container_of(loop, struct worker, loop);
    count_set(&w->meter->in_flight, w->in_flight);
    count_set(&w->meter->connections, w->server.open);
    count_set(&w->meter->tapes, w->shelf.running);
    count_set(&w->meter->draining, w->server.draining);
}

void worker_reload(struct worker *w, struct blueprint *blueprint) {
    struct setup *old = w->setup;
    w->setup = setup_create(w, blueprint);
    w->config = w->setup->config;
    count_add(&w->meter->generation, 1);
    w->server.tls = blueprint->tls_server;
    w->server.max_streams = w->config->max_streams;
    w->server.header_ms = w->config->header_ms;
    w->server.idle_ms = w->config->idle_ms;
    if (old) {
        setup_unref(old);
    }
}

// A socket that somebody has connected to must be accepted from by somebody: inherited ones are all taken, whatever the
// number of workers.
static enum err open_listeners(struct worker *w) {
    const struct worker_options *o = &w->options;
    enum err e = OK;
    if (o->socket_count == 0) {
        return o->listen ? listener_open(&w->listener, &w->loop, o->listen, on_accept, w) : OK;
    }
    w->other_count = o->socket_count - 1;
    w->others = xcalloc(MAX(w->other_count, 1u), sizeof *w->others);
    for (unsigned i = 0; i < o->socket_count && e == OK; i++) {
        struct listener *l = i == 0 ? &w->listener : &w->others[i - 1];
        e = listener_adopt(l, &w->loop, o->sockets[i], on_accept, w);
    }
    return e;
}

static void each_listener(struct worker *w, void (*what)(struct listener *l)) {
    what(&w->listener);
    for (unsigned i = 0; i < w->other_count; i++) {
        what(&w->others[i]);
    }
}

enum err worker_init(struct worker *w, const struct worker_options *options) {
    *w = (struct worker){.options = *options};
    struct loop_options loop_options = {
        .clock = options->clock,
        .pace_us = options->clock ? 0 : (unsigned)options->blueprint->config->pace_us,
        .pace_min_ios = PACE_MIN_IOS,
    };
    enum err e = loop_init(&w->loop, &loop_options);
    if (e != OK) {
        return e;
    }
    const struct config *config = options->blueprint->config;
    w->listener.io.fd = -1;
    list_init(&w->setups);
    w->meters = options->meters ? options->meters : meters_create(1);
    w->meter = meters_worker(w->meters, options->meters ? options->number : 0);
    w->meter->loop = &w->loop;
    w->loop.after_turn = publish;
    w->commons = options->commons ? options->commons : commons_create();
    w->shelves = options->shelves ? options->shelves : worker_shelves(config, 1);
    shelf_init(&w->shelf, w->shelves, options->number, &w->loop);
    w->shelf.owner = w;
    buf_init(&w->events, EVENTS_MAX);
    list_init(&w->requests);
    pool_init(&w->request_pool, sizeof(struct request), POOL_KEEP);
    pool_init(&w->call_pool, call_size, POOL_KEEP);
    init_id_prefix(w);
    struct dns_options dns_options = {.servers = options->dns_servers};
    w->dns = dns_create(&w->loop, &dns_options);
    init_http(w);
    room_init(w, options->pressure);
    worker_reload(w, options->blueprint);
    w->store = options->store;
    jobs_start(w, options->interrupted);
    e = open_listeners(w);
    room_listen(w);
    if (e != OK) {
        worker_finish(w);
    }
    return e;
}

static const struct tape_why shutting_down = {TAPE_CUT, ERR_CANCELLED, OUTCOME_SHUTDOWN, 0,
                                              "thaw is being shut down, and the time for running calls is up."};

void worker_finish(struct worker *w) {
    if (!w->options.shelves) {
        shelves_close(w->shelves);
    }
    each_listener(w, listener_close);
    timer_clear(&w->drain);
    room_finish(w);
    jobs_stop(w);
    w->store = NULL; // it may be closed already, and what is cut now is what it has as running
    w->shelf.on_ended = NULL;
    list_each(node, &w->requests) { request_shutdown(container_of(node, struct request, node)); }
    shelf_stop_all(&w->shelf, &shutting_down);
    http_server_finish(&w->server);
    list_each(node, &w->setups) { setup_close(container_of(node, struct setup, node)); }
    if (w->mock) {
        w->options.mock_destroy(w->mock);
    }
    http_client_finish(&w->client);
    dns_destroy(w->dns);
    setup_unref(w->setup);
    shelf_finish(&w->shelf);
    buf_finish(&w->events);
    free(w->others);
    free(w->scratch);
    free(w->answer_scratch);
    loop_finish(&w->loop); // buries the last requests and calls
    pool_finish(&w->request_pool);
    pool_finish(&w->call_pool);
    if (!w->options.shelves) {
        shelves_destroy(w->shelves);
    }
    if (!w->options.commons) {
        commons_destroy(w->commons);
    }
    w->meter->loop = NULL;
    if (!w->options.meters) {
        meters_destroy(w->meters);
    }
}

static void look_whether_done(struct timer *timer) {
    struct worker *w = container_of(timer, struct worker, drain);
    bool time_is_up = w->loop.now_ms >= w->drain_until_ms;
    // Others may still read what lies on this shelf: all go together. A worker that is idle takes nothing new.
    if (!w->idle && w->server.open == 0 && w->shelf.running == 0 && w->shelf.feeds == 0) {
        w->idle = true;
        w->shelves->idle++;
    }
    if (w->shelves->idle == w->shelves->options.count || (time_is_up && w->drain_over)) {
        loop_stop(&w->loop);
        return;
    }
    if (time_is_up) { // what still runs is cut, and has a moment for saying so
        w->drain_over = true;
        w->drain_until_ms = w->loop.now_ms + DRAIN_LAST_WORDS_MS;
        shelf_stop_all(&w->shelf, &shutting_down);
    }
    timer_set(&w->loop, &w->drain, DRAIN_LOOK_MS);
}

void worker_drain(struct worker *w, uint64_t drain_ms) {
    if (timer_is_set(&w->drain)) {
        return;
    }
    each_listener(w, listener_drain);
    http_server_drain(&w->server);
    w->drain_until_ms = w->loop.now_ms + drain_ms;
    w->drain.on_timer = look_whether_done;
    timer_set(&w->loop, &w->drain, 0);
}
