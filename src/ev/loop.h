// SPDX-License-Identifier: MIT
// One thread's event loop: edge-triggered epoll, a timer wheel, tasks, messages from other threads, and a
// graveyard. One turn is
//
//     poll -> ready descriptors -> tasks put off to this turn -> posted messages -> timers -> flush -> bury
//
// Rules that everything above relies on:
// - Nothing is freed under a running callback: objects are given to loop_bury and die at the end of the turn.
// - `read_buffer` is shared by every connection of the loop; what a callback was given from it is valid until
//   the callback returns.
// - Turns are paced under load: while `pace_min_ios` or more descriptors are open and the loop is busy for less than
//   half of the time, a turn starts no earlier than `pace_us` after the last one. More work per wake-up: a quarter less
//   CPU for half a millisecond; a loop that is busy anyway gains nothing (docs/adr/0001-own-event-loop.md).
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

#include "base/count.h"
#include "base/err.h"
#include "base/list.h"
#include "ev/activity.h"
#include "ev/clock.h"
#include "ev/timer.h"

enum { LOOP_READ_BUFFER = 64 * 1024 };

enum io_event {
    IO_READ = 1,  // bytes or an end to read
    IO_WRITE = 2, // room to write again
    IO_HUP = 4,   // the peer stopped sending, or the descriptor failed
};

// A descriptor in the loop; embedded in its owner. `on_ready` gets a set of enum io_event.
struct io {
    int fd;
    unsigned armed; // enum io_event as registered
    uint64_t opened_turn;
    void (*on_ready)(struct io *io, unsigned events);
};

// Work put off; embedded in its owner, runs once per loop_defer/loop_flush_later.
struct task {
    struct list node;
    void (*run)(struct task *task);
};

// Something to free at the end of the turn.
struct grave {
    struct grave *next;
    void (*bury)(struct grave *grave);
};

// A message from another thread; the sender allocates, `deliver` runs on the loop's thread and frees.
struct message {
    struct message *next;
    void (*deliver)(struct message *message);
};

struct loop {
    int epoll_fd;
    int wake_fd;
    struct clock *clock;
    uint64_t now_ns; // at the start of this turn; one clock call a turn
    uint64_t now_ms;
    struct wheel wheel;
    struct list next_tasks;  // run in the coming turn
    struct list flush_tasks; // run at the end of this turn
    struct grave *graves;
    _Atomic(struct message *) posted;
    uint64_t turn; // counts them
    unsigned open_ios;
    unsigned pace_us;
    unsigned pace_min_ios;
    uint64_t ended_ns;      // when the last turn ended
    unsigned busy;          // share of the time spent in turns, in 1/1024, over the last few
    uint64_t paced_from_ns; // when the last turn with work began
    // The longest turn of the current and of the last full second, and since when this turn has been going on (0: it
    // polls): what /healthz and /metrics tell. Read by other threads, too.
    struct count lag_ns[2];
    struct count lag_second;
    struct count in_turn_ns;
    void (*after_turn)(struct loop *loop); // NULL: nobody wants to know
    struct activity activity;              // the callback it is in, or was in last
    bool files_shared;                     // see loop_share_files
    bool stopping;
    char *read_buffer; // LOOP_READ_BUFFER bytes
};

struct loop_options {
    struct clock *clock; // NULL: the monotonic clock
    unsigned pace_us;    // 0 turns pacing off
    unsigned pace_min_ios;
};

MUSTCHECK enum err loop_init(struct loop *loop, const struct loop_options *options);
// Delivers and buries what is left, then closes. Descriptors must have been closed by their owners.
void loop_finish(struct loop *loop);

// Runs turns until loop_stop, which any callback may call.
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
// One turn that waits at most max_wait_ms for something to do; returns whether anything was done.
bool loop_turn(struct loop *loop, unsigned max_wait_ms);

// Adds an open non-blocking descriptor: one epoll_ctl, edge-triggered. `events` beside IO_HUP.
MUSTCHECK enum err io_open(struct loop *loop, struct io *io, int fd, unsigned events,
                           void (*on_ready)(struct io *io, unsigned events));
// Adds IO_WRITE after the first short write; nothing if it is armed already.
void io_want_write(struct loop *loop, struct io *io);
// Closes the descriptor; idempotent. Events already polled for it in this turn are dropped.
void io_close(struct loop *loop, struct io *io);
// Another process has, or is about to have, copies of this one's descriptors (between fork and exec): closing one does
// not take it out of the set then, and events would come for what was freed. True: io_close takes it out itself, which
// costs a system call. Loop's thread only.
static inline void loop_share_files(struct loop *loop, bool shared) { loop->files_shared = shared; }
// As io_close, but leaves the descriptor open: for one that a library owns. Must come before its close.
void io_detach(struct loop *loop, struct io *io);

void timer_set(struct loop *loop, struct timer *timer, uint64_t delay_ms);
static inline void timer_clear(struct timer *timer) { wheel_clear(timer); }

// Runs the task in the next turn, or at the end of this one. Idempotent while it is waiting.
void loop_defer(struct loop *loop, struct task *task);
void loop_flush_later(struct loop *loop, struct task *task);
static inline void task_cancel(struct task *task) { list_unlink(&task->node); }

void loop_bury(struct loop *loop, struct grave *grave, void (*bury)(struct grave *grave));

// The only call that other threads may make. A message may be posted again only after it was delivered.
void loop_post(struct loop *loop, struct message *message);

// The callback that the loop is in, and for how long the turn has been going on; NULL: it polls, or has called nothing yet.
// Any thread; what is told may be over by then.
activity_callback *loop_running(const struct loop *loop, uint64_t *for_ns);
// The longest time the loop was away from polling during the last one to two seconds, or is now. Any thread.
uint64_t loop_lag_ns(const struct loop *loop);
