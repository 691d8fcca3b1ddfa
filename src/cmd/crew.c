// SPDX-License-Identifier: MIT
#include "cmd/crew.h"

#include <pthread.h>

#include "base/log.h"
#include "base/mem.h"
#include "cmd/args.h"
#include "gateway/jobs.h"
#include "mock/mock.h"

enum { WAIT_FOR_OTHERS_MS = 1000 };

struct hand {
    struct worker worker;
    struct crew *crew;
    pthread_t thread;
    struct message finished; // to the first one's loop
};

struct crew {
    struct commons *commons;
    struct meters *meters;
    struct shelves *shelves;
    struct store *store;
    struct list interrupted; // jobs of the last process
    struct hand *hands;
    unsigned count;
    unsigned threads_running;
    bool over; // the workers are about to go: what is still asked of them is void
    // Of crew_share_files.
    atomic_uint unaware;
    struct loop *back;
    struct message *done;
};

// ---- asked from outside

struct order {
    struct message message;
    struct hand *hand;
    void (*obey)(struct hand *hand, const struct order *order);
    struct blueprint *blueprint; // a reference
    bool shared;
};

static void deliver_order(struct message *m) {
    struct order *order = container_of(m, struct order, message);
    if (!order->hand->crew->over) {
        order->obey(order->hand, order);
    }
    blueprint_unref(order->blueprint);
    free(order);
}

static void order_all(struct crew *crew, const struct order *order) {
    for (unsigned i = 0; i < crew->count; i++) {
        struct order *copy = xmalloc(sizeof *copy);
        *copy = *order;
        copy->message.deliver = deliver_order;
        copy->hand = &crew->hands[i];
        copy->blueprint = order->blueprint ? blueprint_ref(order->blueprint) : NULL;
        loop_post(&copy->hand->worker.loop, &copy->message);
    }
}

static void obey_drain(struct hand *hand, const struct order *order UNUSED) {
    worker_drain(&hand->worker, hand->worker.config->drain_ms);
}
static void obey_stop(struct hand *hand, const struct order *order UNUSED) { loop_stop(&hand->worker.loop); }
static void obey_reload(struct hand *hand, const struct order *order) {
    worker_reload(&hand->worker, order->blueprint);
}
static void obey_share(struct hand *hand, const struct order *order) {
    struct crew *crew = hand->crew;
    loop_share_files(&hand->worker.loop, order->shared);
    if (atomic_fetch_sub(&crew->unaware, 1) == 1 && crew->done) {
        loop_post(crew->back, crew->done);
    }
}

void crew_drain(struct crew *crew) { order_all(crew, &(struct order){.obey = obey_drain}); }
void crew_stop(struct crew *crew) { order_all(crew, &(struct order){.obey = obey_stop}); }
void crew_reload(struct crew *crew, struct blueprint *blueprint) {
    order_all(crew, &(struct order){.obey = obey_reload, .blueprint = blueprint});
}

void crew_share_files(struct crew *crew, bool shared, struct loop *back, struct message *done) {
    crew->back = back;
    crew->done = done;
    atomic_store(&crew->unaware, crew->count);
    order_all(crew, &(struct order){.obey = obey_share, .shared = shared});
}

unsigned crew_count(const struct crew *crew) { return crew->count; }
struct loop *crew_loop(struct crew *crew, unsigned worker) {
    return &crew->hands[worker].worker.loop;
}
struct commons *crew_commons(struct crew *crew) {
    return crew->commons;
}

struct meters *crew_meters(struct crew *crew) {
    return crew->meters;
}
struct shelves *crew_shelves(struct crew *crew) {
    return crew->shelves;
}

unsigned crew_sockets(const struct crew *crew, int sockets[CREW_SOCKETS_MAX]) {
    unsigned n = 0;
    for (unsigned i = 0; i < crew->count; i++) {
        const struct worker *w = &crew->hands[i].worker;
        sockets[n++] = w->listener.io.fd;
        for (unsigned j = 0; j < w->other_count; j++) {
            sockets[n++] = w->others[j].io.fd;
        }
    }
    return n;
}

// ---- life

static void *make_mock(struct loop *loop) {
    uint32_t from; // each worker has one, and after a restart a store knows the ids of the last ones
    random_bytes(&from, sizeof from);
    struct mock_options options = {.numbers_from = (uint64_t)from << 24}; // the rest: what the model's name says
    return mock_create(loop, &options);
}

static void free_mock(void *mock) { mock_destroy(mock); }

static void deliver_finished(struct message *m) { container_of(m, struct hand, finished)->crew->threads_running--; }

// Sockets number i, i + count, ... for worker i.
static unsigned share_of(const struct crew_options *o, unsigned i, int sockets[CREW_SOCKETS_MAX]) {
    unsigned n = 0;
    for (unsigned j = i; j < o->socket_count; j += o->count) {
        sockets[n++] = o->sockets[j];
    }
    return n;
}

static int open_hands(struct crew *crew, const struct crew_options *o) {
    int sockets[CREW_SOCKETS_MAX];
    struct worker_options options = {
        .blueprint = o->blueprint,
        .commons = crew->commons,
        .shelves = crew->shelves,
        .store = crew->store,
        .listen = o->listen,
        .sockets = sockets,
        .mock_connect = mock_connect,
        .mock_create = make_mock,
        .mock_destroy = free_mock,
        .meters = crew->meters,
        .access = o->access,
        .pressure = o->pressure,
    };
    crew->hands = xcalloc(o->count, sizeof *crew->hands);
    for (unsigned i = 0; i < o->count; i++) {
        struct hand *hand = &crew->hands[i];
        options.number = i;
        options.interrupted = i == 0 ? &crew->interrupted : NULL;
        options.socket_count = share_of(o, i, sockets);
        enum err e = worker_init(&hand->worker, &options);
        if (e != OK) {
            fprintf(stderr, "thaw serve: worker %u did not start: %s\n", i + 1, err_text(e));
            return EXIT_UNREACHABLE;
        }
        hand->crew = crew;
        hand->finished.deliver = deliver_finished;
        crew->count++;
    }
    return EXIT_FINE;
}

int crew_open(struct crew **result, const struct crew_options *o) {
    char problem[STORE_PROBLEM_MAX];
    struct crew *crew = xcalloc(1, sizeof *crew);
    *result = crew;
    crew->commons = commons_create();
    crew->meters = meters_create(o->count);
    crew->shelves = worker_shelves(o->blueprint->config, o->count);
    enum err e = jobs_open(o->blueprint->config, o->beside, crew->shelves, &crew->store, &crew->interrupted, problem);
    if (e != OK) {
        fprintf(stderr, "thaw serve: %s\n", problem);
        return EXIT_UNREACHABLE;
    }
    return open_hands(crew, o);
}

static void *run_hand(void *arg) {
    struct hand *hand = arg;
    worker_run(&hand->worker);
    loop_post(&hand->crew->hands[0].worker.loop, &hand->finished);
    return NULL;
}

void crew_run(struct crew *crew) {
    for (unsigned i = 1; i < crew->count; i++) {
        int problem = pthread_create(&crew->hands[i].thread, NULL, run_hand, &crew->hands[i]);
        if (problem) {
            log_error("worker %u has no thread: %s", i + 1, strerror(problem));
            abort();
        }
        crew->threads_running++;
    }
    struct loop *first = &crew->hands[0].worker.loop;
    loop_run(first);
    while (crew->threads_running) { // they may still have something to tell it
        loop_turn(first, WAIT_FOR_OTHERS_MS);
    }
    for (unsigned i = 1; i < crew->count; i++) {
        pthread_join(crew->hands[i].thread, NULL);
    }
}

void crew_close(struct crew *crew) {
    if (!crew) {
        return;
    }
    crew->over = true;
    shelves_close(crew->shelves);
    store_close(crew->store); // its last results are delivered as the workers end
    jobs_drop(&crew->interrupted);
    for (unsigned i = crew->count; i-- > 0;) {
        worker_finish(&crew->hands[i].worker);
    }
    free(crew->hands);
    shelves_destroy(crew->shelves);
    meters_destroy(crew->meters);
    commons_destroy(crew->commons);
    free(crew);
}
