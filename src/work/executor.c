// SPDX-License-Identifier: MIT
#include "work/executor.h"

#include <pthread.h>
#include <signal.h>

#include "base/mem.h"

struct executor {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list queue;
    unsigned queued, queue_max;
    unsigned threads, busy;
    unsigned started; // threads take their numbers from here
    uint64_t refused;
    bool ending;
    char name[16];
    pthread_t handles[];
};

static struct work *next_work(struct executor *e) {
    while (list_empty(&e->queue) && !e->ending) {
        pthread_cond_wait(&e->wake, &e->lock);
    }
    struct list *node = list_pop_front(&e->queue);
    if (!node) {
        return NULL;
    }
    e->queued--;
    return container_of(node, struct work, node);
}

static void *run_thread(void *context) {
    struct executor *e = context;
    struct work *work;
    pthread_mutex_lock(&e->lock);
    unsigned number = e->started++;
    pthread_setname_np(pthread_self(), e->name);
    while ((work = next_work(e))) {
        e->busy++;
        pthread_mutex_unlock(&e->lock);
        work->run(work, number);
        pthread_mutex_lock(&e->lock);
        e->busy--;
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

// Signals are for the thread that waits for them.
static bool start_threads(struct executor *e, unsigned threads) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (e->threads < threads && pthread_create(&e->handles[e->threads], NULL, run_thread, e) == 0) {
        e->threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return e->threads == threads;
}

struct executor *executor_create(const char *name, unsigned threads, unsigned queue_max) {
    struct executor *e = xcalloc(1, sizeof *e + threads * sizeof e->handles[0]);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, NULL);
    list_init(&e->queue);
    e->queue_max = queue_max;
    snprintf(e->name, sizeof e->name, "%s", name);
    if (!start_threads(e, threads)) {
        executor_destroy(e);
        return NULL;
    }
    return e;
}

void executor_destroy(struct executor *e) {
    if (!e) {
        return;
    }
    pthread_mutex_lock(&e->lock);
    e->ending = true;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    for (unsigned i = 0; i < e->threads; i++) {
        pthread_join(e->handles[i], NULL);
    }
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

enum err executor_submit(struct executor *e, struct work *work) {
    enum err result = OK;
    pthread_mutex_lock(&e->lock);
    if (e->queued >= e->queue_max) {
        e->refused++;
        result = ERR_FULL;
    } else {
        e->queued++;
        list_push_back(&e->queue, &work->node);
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    return result;
}

struct executor_stats executor_stats(struct executor *e) {
    pthread_mutex_lock(&e->lock);
    struct executor_stats stats = {e->threads, e->busy, e->queued, e->refused};
    pthread_mutex_unlock(&e->lock);
    return stats;
}

unsigned executor_default_threads(unsigned cpus) { return cpus > 28 ? 32 : cpus + 4; }
