// SPDX-License-Identifier: MIT
// A hundred thousand calls of several workers, each on a thread and a loop of its own, go through two gates and one
// quota: they are let in, wait, are late, leave whenever they like, the moment they are let in among them; limits change
// beneath them. No place is lost and none given twice. Under TSan, see make test-threads.
#include <pthread.h>

#include "admit/breaker.h"
#include "admit/gate.h"
#include "admit/quota.h"
#include "check.h"

enum { WORKERS = 4, LIVES = 25000, AT_ONCE = 40, FIXED_LIMIT = 7, CLIENT_LIMIT = 12, CLIENTS = 9 };

#define must(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort(); /* cmocka fails on its own thread only */                                                         \
        }                                                                                                              \
    } while (0)

struct worker;

struct life {
    struct worker *worker;
    struct ticket ticket;
    struct lease lease;
    unsigned client, ends_after;      // steps
    bool fixed, patient, in, running; // patient: waits until it is in, however long that takes
};

struct house {
    struct gates *gates;
    struct gate *fixed, *moody;
    struct quotas *quotas;
    struct breaker breaker;
    atomic_uint in_fixed, in_client[CLIENTS], workers_done;
};

struct worker {
    struct house *house;
    struct loop loop;
    pthread_t thread;
    struct task step;
    struct life lives[AT_ONCE];
    unsigned begun, running;
    uint64_t seed;
    unsigned let_in, told, late, left, refused, limited, trials;
};

static unsigned below(struct worker *w, unsigned n) {
    w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(w->seed >> 33) % n;
}

static void end(struct life *l) {
    struct worker *w = l->worker;
    struct house *h = w->house;
    if (l->in && l->fixed) {
        atomic_fetch_sub(&h->in_fixed, 1);
    }
    atomic_fetch_sub(&h->in_client[l->client], 1);
    gate_leave(&l->ticket, (enum gate_report)below(w, 3), below(w, 5));
    must(!l->ticket.gate);
    if (below(w, 2)) {
        quota_refund(&l->lease, w->loop.now_ms);
    } else {
        quota_settle(&l->lease, below(w, 100), w->loop.now_ms);
    }
    l->running = false;
    w->running--;
}

static void is_in(struct life *l) {
    l->in = true;
    if (l->fixed) {
        must(atomic_fetch_add(&l->worker->house->in_fixed, 1) < FIXED_LIMIT);
    }
}

static void on_in(void *owner) {
    struct life *l = owner;
    must(l->running && !l->in);
    l->worker->told++;
    is_in(l);
    if (!below(l->worker, 8)) {
        end(l);
    }
}

static void on_late(void *owner) {
    struct life *l = owner;
    must(l->running && !l->in);
    l->worker->late++;
    end(l);
}

static void begin(struct worker *w, struct life *l) {
    static const struct quota_rates rates = {
        .requests_per_minute = 1000000, .tokens_per_minute = 1000000000, .in_flight = CLIENT_LIMIT};
    struct house *h = w->house;
    struct quota_look look;
    struct gate_refusal refusal;
    *l = (struct life){.worker = w, .client = below(w, CLIENTS), .ends_after = below(w, 12), .fixed = below(w, 3) != 0};
    l->patient = below(w, 4) == 0;
    w->begun++;
    if (quota_take(h->quotas, l->client, &rates, 10, w->loop.now_ms, &l->lease, &look) != QUOTA_FINE) {
        w->limited++;
        return;
    }
    must(atomic_fetch_add(&h->in_client[l->client], 1) < CLIENT_LIMIT);
    w->running++;
    l->running = true;
    struct gate_asker asker = {.loop = &w->loop,
                               .client = l->client,
                               .weight = 1 + below(w, 3),
                               .on_in = on_in,
                               .on_late = on_late,
                               .on_pushed = on_late};
    asker.priority = below(w, 2);
    asker.deadline_ms = l->patient || below(w, 2) ? UINT64_MAX : w->loop.now_ms + below(w, 4);
    asker.owner = l;
    switch (gate_enter(l->fixed ? h->fixed : h->moody, &asker, &l->ticket, &refusal)) {
    case GATE_IN:
        w->let_in++;
        is_in(l);
        break;
    case GATE_WAIT: break;
    case GATE_SHARE:
    case GATE_FULL:
    case GATE_LATE:
        w->refused++;
        must(!l->ticket.gate);
        end(l);
        break;
    }
}

static void change(struct worker *w) {
    static const struct gate_options moods[] = {
        {.limit = 1, .queue_length = 20, .queue_wait_ms = 2},
        {.limit = 5, .queue_length = 500},
        {.limit = 0},
        {.automatic = true, .queue_length = 100, .queue_wait_ms = 50},
    };
    gate_set(w->house->moody, &moods[below(w, ARRAY_LEN(moods))], w->loop.now_ms);
}

// Somebody patient may wait for a place that is free: then this never ends, and the test runs into its time limit.
static void one_step(struct task *task) {
    struct worker *w = container_of(task, struct worker, step);
    struct house *h = w->house;
    bool trial;
    for (unsigned n = 0; n < 8; n++) {
        struct life *l = &w->lives[below(w, AT_ONCE)];
        unsigned place, waiting;
        if (!l->running && w->begun < LIVES) {
            begin(w, l);
        } else if (l->running && gate_place(&l->ticket, &place, &waiting)) {
            must(place >= 1 && place <= waiting);
        }
        if (l->running && (l->in || !l->patient) && (!l->ends_after || !--l->ends_after || w->begun == LIVES)) {
            w->left += !l->in;
            end(l);
        }
    }
    if (!below(w, 40)) {
        change(w);
    }
    if (breaker_admits(&h->breaker, 3, w->loop.now_ms, &trial)) {
        w->trials += trial;
        if (below(w, 2)) {
            breaker_failed(&h->breaker, 3, 1, w->loop.now_ms);
        } else {
            breaker_worked(&h->breaker);
        }
    }
    if (w->begun < LIVES || w->running) {
        loop_defer(&w->loop, &w->step);
    } else if (atomic_fetch_add(&h->workers_done, 1) < WORKERS) {
        loop_stop(&w->loop);
    }
}

static void *work(void *arg) {
    struct worker *w = arg;
    loop_run(&w->loop);
    return NULL;
}

static void no_place_is_lost_and_none_given_twice(void **state) {
    (void)state;
    static struct worker workers[WORKERS];
    struct house h = {.gates = gates_create(), .quotas = quotas_create()};
    struct worker sum = {0};
    h.fixed = gates_find(h.gates, STR("fixed"));
    h.moody = gates_find(h.gates, STR("moody"));
    gate_set(h.fixed, &(struct gate_options){.limit = FIXED_LIMIT, .queue_length = 60}, 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.house = &h, .seed = 77 + i, .step.run = one_step};
        check_ok(loop_init(&workers[i].loop, &(struct loop_options){.clock = NULL}));
        loop_defer(&workers[i].loop, &workers[i].step);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        check_int(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        check_int(pthread_join(workers[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        struct worker *w = &workers[i];
        loop_finish(&w->loop); // delivers what came too late
        check_int(w->begun, LIVES);
        sum.let_in += w->let_in;
        sum.told += w->told;
        sum.left += w->left;
        sum.refused += w->refused;
        sum.limited += w->limited;
    }
    check(sum.let_in && sum.told && sum.left && sum.refused && sum.limited); // all of it happened
    struct gate *gates[] = {h.fixed, h.moody};
    for (unsigned i = 0; i < ARRAY_LEN(gates); i++) {
        struct gate_look look;
        gate_look(gates[i], 0, &look);
        check_int(look.in_flight, 0);
        check_int(look.waiting, 0);
    }
    check_int(atomic_load(&h.in_fixed), 0);
    gates_destroy(h.gates);
    quotas_destroy(h.quotas);
}

TESTS(TEST(no_place_is_lost_and_none_given_twice))
