// SPDX-License-Identifier: MIT
// What has to happen at once is made to by barriers and gates, never by waiting a while.
#include "work/executor.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "check.h"

// Closed at first; a thread that comes says so and waits until it is opened.
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned waiting;
    bool open;
};

static void gate_init(struct gate *g) {
    *g = (struct gate){.waiting = 0};
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
}

static void gate_finish(struct gate *g) {
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

static void gate_pass(struct gate *g) {
    pthread_mutex_lock(&g->lock);
    g->waiting++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open) {
        pthread_cond_wait(&g->changed, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
}

static void gate_await(struct gate *g, unsigned waiting) {
    pthread_mutex_lock(&g->lock);
    while (g->waiting < waiting) {
        pthread_cond_wait(&g->changed, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
}

static void gate_open(struct gate *g) {
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

struct held {
    struct work work;
    struct gate *gate;
    unsigned thread;
};

static void run_held(struct work *work, unsigned thread) {
    struct held *h = container_of(work, struct held, work);
    h->thread = thread;
    gate_pass(h->gate);
}

struct noted {
    struct work work;
    char letter;
    char *log; // the next free place moves on in *length
    size_t *length;
};

static void run_noted(struct work *work, unsigned thread) {
    struct noted *n = container_of(work, struct noted, work);
    check_int(thread, 0);
    n->log[(*n->length)++] = n->letter;
}

static struct executor *create(unsigned threads, unsigned queue_max) {
    struct executor *e = executor_create("test", threads, queue_max);
    check(e != NULL);
    return e;
}

static void one_thread_runs_in_order_and_destroy_runs_what_waits(void **state UNUSED) {
    struct gate gate;
    struct held first = {{.run = run_held}, .gate = &gate};
    struct noted noted[20];
    char log[ARRAY_LEN(noted)];
    size_t length = 0;
    gate_init(&gate);
    struct executor *e = create(1, ARRAY_LEN(noted) + 1);
    check_ok(executor_submit(e, &first.work));
    gate_await(&gate, 1);
    for (size_t i = 0; i < ARRAY_LEN(noted); i++) {
        noted[i] = (struct noted){{.run = run_noted}, (char)('a' + i), log, &length};
        check_ok(executor_submit(e, &noted[i].work));
    }
    struct executor_stats stats = executor_stats(e);
    check_int(stats.threads, 1);
    check_int(stats.busy, 1);
    check_int(stats.queued, ARRAY_LEN(noted));
    gate_open(&gate);
    executor_destroy(e);
    check_str(str_from(log, length), "abcdefghijklmnopqrst");
    gate_finish(&gate);
}

static void a_full_queue_refuses_counts_and_takes_again(void **state UNUSED) {
    struct gate gate;
    struct held held[4];
    gate_init(&gate);
    struct executor *e = create(1, 2);
    for (size_t i = 0; i < ARRAY_LEN(held); i++) {
        held[i] = (struct held){{.run = run_held}, .gate = &gate};
    }
    check_ok(executor_submit(e, &held[0].work));
    gate_await(&gate, 1); // it runs and is not queued any more
    check_ok(executor_submit(e, &held[1].work));
    check_ok(executor_submit(e, &held[2].work));
    for (uint64_t refused = 1; refused <= 3; refused++) {
        check_err(executor_submit(e, &held[3].work), ERR_FULL);
        check_int(executor_stats(e).refused, refused);
    }
    check_int(executor_stats(e).queued, 2);
    gate_open(&gate);
    gate_await(&gate, 3);
    check_ok(executor_submit(e, &held[3].work));
    executor_destroy(e);
    check_int(gate.waiting, 4); // the refused one ran once, when it was taken
    gate_finish(&gate);
}

static void all_threads_work_at_once_each_under_its_number(void **state UNUSED) {
    enum { THREADS = 5 };
    struct gate gate;
    struct held held[THREADS];
    unsigned seen = 0;
    gate_init(&gate);
    struct executor *e = create(THREADS, THREADS);
    for (size_t i = 0; i < THREADS; i++) {
        held[i] = (struct held){{.run = run_held}, .gate = &gate};
        check_ok(executor_submit(e, &held[i].work));
    }
    gate_await(&gate, THREADS); // no one passes before all have come
    check_int(executor_stats(e).busy, THREADS);
    gate_open(&gate);
    executor_destroy(e);
    for (size_t i = 0; i < THREADS; i++) {
        seen |= 1u << held[i].thread;
    }
    check_int(seen, (1u << THREADS) - 1);
    gate_finish(&gate);
}

// ---- Many submit, many run ----

enum { SUBMITTERS = 4, EACH = 500, ROOM = 8 };

struct counted {
    struct work work;
    atomic_uint *ran;
};

// On the heap, freed by its own run.
static void run_counted(struct work *work, unsigned thread) {
    struct counted *c = container_of(work, struct counted, work);
    check(thread < 3);
    atomic_fetch_add(c->ran, 1);
    free(c);
}

struct submitter {
    struct executor *executor;
    atomic_uint *ran;
    unsigned accepted;
    unsigned refused;
};

static void *submit_each(void *context) {
    struct submitter *s = context;
    for (unsigned i = 0; i < EACH; i++) {
        struct counted *c = xcalloc(1, sizeof *c);
        *c = (struct counted){{.run = run_counted}, s->ran};
        if (executor_submit(s->executor, &c->work) == OK) {
            s->accepted++;
        } else {
            s->refused++;
            free(c); // still ours
        }
    }
    return NULL;
}

static void what_is_taken_runs_once_and_what_is_not_is_counted(void **state UNUSED) {
    atomic_uint ran = 0;
    struct submitter s[SUBMITTERS];
    pthread_t threads[SUBMITTERS];
    unsigned accepted = 0;
    unsigned refused = 0;
    struct executor *e = create(3, ROOM);
    for (size_t i = 0; i < SUBMITTERS; i++) {
        s[i] = (struct submitter){.executor = e, .ran = &ran};
        check_int(pthread_create(&threads[i], NULL, submit_each, &s[i]), 0);
    }
    for (size_t i = 0; i < SUBMITTERS; i++) {
        pthread_join(threads[i], NULL);
        accepted += s[i].accepted;
        refused += s[i].refused;
    }
    check_int(executor_stats(e).refused, refused);
    executor_destroy(e);
    check_int(accepted + refused, SUBMITTERS * EACH);
    check_int(atomic_load(&ran), accepted);
}

// ---- From within ----

struct again {
    struct work work;
    struct executor *executor;
    unsigned left;
};

static void run_again(struct work *work, unsigned thread UNUSED) {
    struct again *a = container_of(work, struct again, work);
    if (a->left > 0) {
        a->left--;
        check_ok(executor_submit(a->executor, &a->work));
    }
}

static void work_may_submit_itself_also_while_the_end_is_awaited(void **state UNUSED) {
    struct gate gate;
    struct held first = {{.run = run_held}, .gate = &gate};
    gate_init(&gate);
    struct executor *e = create(1, 1);
    struct again again = {{.run = run_again}, .executor = e, .left = 1000};
    check_ok(executor_submit(e, &first.work));
    gate_await(&gate, 1);
    check_ok(executor_submit(e, &again.work)); // the queue is full, and has room when this one runs
    gate_open(&gate);
    executor_destroy(e);
    check_int(again.left, 0);
    gate_finish(&gate);
}

static void run_masked(struct work *work, unsigned thread UNUSED) {
    struct noted *n = container_of(work, struct noted, work);
    const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        *n->length += (size_t)sigismember(&mask, signals[i]);
    }
}

static void signals_are_not_for_its_threads(void **state UNUSED) {
    size_t blocked = 0;
    struct noted n = {{.run = run_masked}, .length = &blocked};
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    struct executor *e = create(1, 1);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    check_int(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
    check_ok(executor_submit(e, &n.work));
    executor_destroy(e);
    check_int(blocked, 4);
}

static void an_idle_one_ends_and_none_is_nothing(void **state UNUSED) {
    executor_destroy(create(3, 1));
    executor_destroy(NULL);
}

static void the_default_is_cpython_s(void **state UNUSED) {
    check_int(executor_default_threads(1), 5);
    check_int(executor_default_threads(28), 32);
    check_int(executor_default_threads(29), 32);
    check_int(executor_default_threads(256), 32);
}

TESTS(TEST(one_thread_runs_in_order_and_destroy_runs_what_waits), TEST(a_full_queue_refuses_counts_and_takes_again),
      TEST(all_threads_work_at_once_each_under_its_number), TEST(what_is_taken_runs_once_and_what_is_not_is_counted),
      TEST(work_may_submit_itself_also_while_the_end_is_awaited), TEST(signals_are_not_for_its_threads),
      TEST(an_idle_one_ends_and_none_is_nothing), TEST(the_default_is_cpython_s))
