// SPDX-License-Identifier: MIT
// The table of patterns, and the two guards as they are found in reviews. Adding a way to run a slow call is adding a
// row.
#include <time.h>

#include "lab/guest.h"

// A global threading.Lock around the blocking call. Who waits, waits on a thread of the default pool.
static bool enter_lock(struct lab *lab) {
    pthread_mutex_lock(&lab->lock);
    return !atomic_load(&lab->ending);
}

static void leave_lock(struct lab *lab) { pthread_mutex_unlock(&lab->lock); }

// time.sleep(), which ends early when the lab does.
static void nap(struct lab *lab) {
    uint64_t until_ns = lab_now_ns(lab) + lab->options.poll_ms * 1000000;
    struct timespec until = {(time_t)(until_ns / 1000000000), (long)(until_ns % 1000000000)};
    pthread_mutex_lock(&lab->nap_lock);
    while (!atomic_load(&lab->ending) && lab_now_ns(lab) < until_ns) {
        pthread_cond_timedwait(&lab->nap, &lab->nap_lock, &until);
    }
    pthread_mutex_unlock(&lab->nap_lock);
}

// A global is_processing, looked at every 0.1 s. Looking and setting are one step here; in most programs they are two,
// and now and then two users get in.
static bool enter_flag(struct lab *lab) {
    while (!atomic_load(&lab->ending) && atomic_exchange(&lab->flag, true)) {
        nap(lab);
    }
    return !atomic_load(&lab->ending);
}

static void leave_flag(struct lab *lab) { atomic_store(&lab->flag, false); }

static const struct pattern patterns[] = {
    {
        .name = "to_thread",
        .path = STR_INIT("/to_thread"),
        .pool = ROOM_DEFAULT,
        .guard = ROOM_NONE,
        .about = "asyncio.to_thread: a thread of the default pool, min(32, cpus + 4), for the whole call",
    },
    {
        .name = "executor",
        .path = STR_INIT("/executor"),
        .pool = ROOM_EXECUTOR,
        .guard = ROOM_NONE,
        .about = "a ThreadPoolExecutor of its own, with a size that somebody chose",
    },
    {
        .name = "async",
        .path = STR_INIT("/async"),
        .pool = ROOM_NONE,
        .guard = ROOM_NONE,
        .about = "an asynchronous client on the event loop: nobody waits for anybody",
    },
    {
        .name = "global_lock",
        .path = STR_INIT("/bad/global_lock"),
        .pool = ROOM_DEFAULT,
        .guard = ROOM_LOCK,
        .enter = enter_lock,
        .leave = leave_lock,
        .about = "one lock around the call: one user at a time, and who waits holds a thread of the default pool",
    },
    {
        .name = "global_flag",
        .path = STR_INIT("/bad/global_flag"),
        .pool = ROOM_DEFAULT,
        .guard = ROOM_FLAG,
        .enter = enter_flag,
        .leave = leave_flag,
        .about = "is_processing, looked at every 0.1 s: one user at a time, in no order, on threads as well",
    },
};

const struct pattern *pattern_find(struct str path) {
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        if (str_eq(patterns[i].path, path)) {
            return &patterns[i];
        }
    }
    return NULL;
}

const struct pattern *pattern_at(size_t i) { return i < ARRAY_LEN(patterns) ? &patterns[i] : NULL; }
