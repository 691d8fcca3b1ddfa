// SPDX-License-Identifier: MIT
// A fixed pool of threads for what really blocks (SQLite, a blocking HTTP client), behind a bounded first-in first-out
// queue. A full queue is a counted refusal, never a stall. What runs on these threads touches nothing of a loop's;
// results go back by loop_post.
#pragma once
#include "base/err.h"
#include "base/list.h"

struct executor;

// A piece of work, embedded in its owner. It belongs to the executor from executor_submit until `run` is called, and
// may free itself in there.
struct work {
    struct list node;
    void (*run)(struct work *work, unsigned thread); // on thread 0 .. threads-1
};

struct executor_stats {
    unsigned threads;
    unsigned busy;
    unsigned queued;
    uint64_t refused;
};

// `name` (15 bytes of it) is what debuggers and top show. NULL: the threads could not be made.
struct executor *executor_create(const char *name, unsigned threads, unsigned queue_max);
// Runs everything that was submitted, then ends the threads. Accepts NULL. Nobody submits any more but the work that
// still runs.
void executor_destroy(struct executor *e);
// From any thread. ERR_FULL: queue_max pieces are waiting.
MUSTCHECK enum err executor_submit(struct executor *e, struct work *work);
struct executor_stats executor_stats(struct executor *e);

// What Python's ThreadPoolExecutor, and so asyncio.to_thread, takes when nobody says otherwise: min(32, cpus + 4)
// (CPython 3.8 to 3.14, Lib/concurrent/futures/thread.py).
unsigned executor_default_threads(unsigned cpus);
