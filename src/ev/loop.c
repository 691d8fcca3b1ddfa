// SPDX-License-Identifier: MIT
#include "ev/loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

enum { EVENTS_PER_TURN = 512, WAIT_MAX_MS = 60 * 1000, BUSY_WHOLE = 1024, BUSY_MOST = BUSY_WHOLE / 2 };

static void read_clock(struct loop *loop) {
    loop->now_ns = loop->clock->now_ns(loop->clock);
    loop->now_ms = loop->now_ns / 1000000;
}

static enum err watch(struct loop *loop, int op, int fd, unsigned events, void *data) {
    struct epoll_event e = {.events = EPOLLET | EPOLLRDHUP, .data.ptr = data};
    e.events |= (events & IO_READ) ? (uint32_t)EPOLLIN : 0u;
    e.events |= (events & IO_WRITE) ? (uint32_t)EPOLLOUT : 0u;
    return epoll_ctl(loop->epoll_fd, op, fd, &e) == 0 ? OK : err_from_errno(errno);
}

enum err loop_init(struct loop *loop, const struct loop_options *options) {
    *loop = (struct loop){
        .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
        .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .clock = options->clock ? options->clock : clock_monotonic(),
        .pace_us = options->pace_us,
        .pace_min_ios = options->pace_min_ios,
    };
    list_init(&loop->next_tasks);
    list_init(&loop->flush_tasks);
    read_clock(loop);
    wheel_init(&loop->wheel, loop->now_ms);
    loop->wheel.activity = &loop->activity;
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 || watch(loop, EPOLL_CTL_ADD, loop->wake_fd, IO_READ, NULL) != OK) {
        enum err e = err_from_errno(errno);
        loop_finish(loop);
        return e == OK ? ERR_SYS : e;
    }
    loop->read_buffer = xmalloc(LOOP_READ_BUFFER);
    return OK;
}

static void deliver_posted(struct loop *loop) {
    struct message *newest = atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
    struct message *oldest = NULL;
    while (newest) { // the stack is newest first
        struct message *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct message *next = oldest->next;
        activity_set(&loop->activity, (activity_callback *)oldest->deliver);
        oldest->deliver(oldest);
        oldest = next;
    }
}

static void bury_all(struct loop *loop) {
    while (loop->graves) {
        struct grave *grave = loop->graves;
        loop->graves = grave->next;
        activity_set(&loop->activity, (activity_callback *)grave->bury);
        grave->bury(grave);
    }
}

void loop_finish(struct loop *loop) {
    if (!loop->clock) {
        return; // zeroed: its descriptors are nobody's
    }
    while (atomic_load_explicit(&loop->posted, memory_order_relaxed) || loop->graves) {
        deliver_posted(loop); // a message may post or bury, and so may a burial
        bury_all(loop);
    }
    if (loop->epoll_fd >= 0) {
        close(loop->epoll_fd);
    }
    if (loop->wake_fd >= 0) {
        close(loop->wake_fd);
    }
    free(loop->read_buffer);
    *loop = (struct loop){0};
}

static void run_tasks(struct loop *loop, struct list *tasks) {
    struct list now;
    struct list *node;
    list_move_all(&now, tasks); // what they put off belongs to a later round
    while ((node = list_pop_front(&now))) {
        struct task *task = container_of(node, struct task, node);
        activity_set(&loop->activity, (activity_callback *)task->run);
        task->run(task);
    }
}

// Sleeps until pace_us after the last turn that had work began.
static void pace(struct loop *loop) {
    if (!loop->pace_us || loop->open_ios < loop->pace_min_ios || loop->busy > BUSY_MOST) {
        return;
    }
    uint64_t from = loop->paced_from_ns;
    uint64_t until = from + (uint64_t)loop->pace_us * 1000;
    uint64_t now = loop->clock->now_ns(loop->clock);
    if (now < until) {
        struct timespec t = {0, (long)(until - now)};
        nanosleep(&t, NULL); // cut short by a signal: the turn is early, no harm
    }
}

// Is there work that waits for no descriptor and no timer? Callers outside of a turn leave flush tasks, too.
static bool has_tasks(const struct loop *loop) {
    return !list_empty(&loop->next_tasks) || !list_empty(&loop->flush_tasks) ||
           atomic_load_explicit(&loop->posted, memory_order_relaxed);
}

static int wait_ms(struct loop *loop, unsigned max_wait_ms) {
    if (has_tasks(loop)) {
        return 0;
    }
    uint64_t next = wheel_next_ms(&loop->wheel);
    uint64_t now = loop->clock->now_ns(loop->clock) / 1000000;
    uint64_t wait = next <= now ? 0 : next - now;
    return (int)MIN(wait, MIN((uint64_t)max_wait_ms, (uint64_t)INT_MAX));
}

static void dispatch(struct loop *loop, const struct epoll_event *e) {
    struct io *io = e->data.ptr;
    if (!io) {
        uint64_t drained;
        ssize_t n = read(loop->wake_fd, &drained, sizeof drained);
        (void)n; // messages are looked for in every turn; the counter only ends the wait
        return;
    }
    if (io->fd < 0 || io->opened_turn == loop->turn) {
        return; // closed earlier in this turn, and perhaps opened again since: this was polled for the old one
    }
    unsigned events = 0;
    events |= (e->events & EPOLLIN) ? IO_READ : 0u;
    events |= (e->events & EPOLLOUT) ? IO_WRITE : 0u;
    events |= (e->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) ? IO_HUP : 0u;
    activity_set(&loop->activity, (activity_callback *)io->on_ready);
    io->on_ready(io, events);
}

enum { NS_PER_SECOND = 1000000000 };

// A moving average over about eight turns; a long wait counts as what it is.
static void measure_busy(struct loop *loop, uint64_t now_ns) {
    uint64_t whole = now_ns - loop->ended_ns;
    uint64_t in_turn = now_ns - loop->now_ns;
    unsigned share = whole ? (unsigned)(MIN(in_turn, whole) * BUSY_WHOLE / whole) : 0;
    loop->busy = (loop->busy * 7 + share) / 8;
    loop->ended_ns = now_ns;
}

static void measure_lag(struct loop *loop) {
    uint64_t now_ns = loop->clock->now_ns(loop->clock);
    uint64_t second = now_ns / NS_PER_SECOND;
    uint64_t last = count_of(&loop->lag_second);
    if (second != last) {
        count_set(&loop->lag_ns[1], second == last + 1 ? count_of(&loop->lag_ns[0]) : 0);
        count_set(&loop->lag_ns[0], 0);
        count_set(&loop->lag_second, second);
    }
    count_set(&loop->lag_ns[0], MAX(count_of(&loop->lag_ns[0]), now_ns - loop->now_ns));
    count_set(&loop->in_turn_ns, 0);
    measure_busy(loop, now_ns);
}

activity_callback *loop_running(const struct loop *loop, uint64_t *for_ns) {
    uint64_t since = count_of(&loop->in_turn_ns);
    uint64_t now_ns = loop->clock->now_ns(loop->clock);
    *for_ns = since && since < now_ns ? now_ns - since : 0;
    return since ? activity_of(&loop->activity) : NULL;
}

uint64_t loop_lag_ns(const struct loop *loop) {
    uint64_t since = count_of(&loop->in_turn_ns);
    uint64_t now_ns = loop->clock->now_ns(loop->clock);
    uint64_t last = count_of(&loop->lag_second);
    uint64_t lag = now_ns / NS_PER_SECOND - last <= 1 ? count_of(&loop->lag_ns[0]) : 0; // else it was polling since
    lag = now_ns / NS_PER_SECOND == last ? MAX(lag, count_of(&loop->lag_ns[1])) : lag;
    return since && since < now_ns ? MAX(lag, now_ns - since) : lag;
}

bool loop_turn(struct loop *loop, unsigned max_wait_ms) {
    struct epoll_event events[EVENTS_PER_TURN];
    pace(loop);
    int n = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, wait_ms(loop, max_wait_ms));
    read_clock(loop);
    count_set(&loop->in_turn_ns, loop->now_ns);
    loop->turn++;
    bool busy = n > 0 || has_tasks(loop) || wheel_next_ms(&loop->wheel) <= loop->now_ms;
    if (busy) {
        loop->paced_from_ns = loop->now_ns;
    }
    struct list tasks;
    list_move_all(&tasks, &loop->next_tasks); // those put off by earlier turns, not by this one's events
    for (int i = 0; i < n; i++) {
        dispatch(loop, &events[i]);
    }
    run_tasks(loop, &tasks);
    deliver_posted(loop);
    wheel_advance(&loop->wheel, loop->now_ms);
    while (!list_empty(&loop->flush_tasks)) {
        run_tasks(loop, &loop->flush_tasks);
    }
    bury_all(loop);
    measure_lag(loop);
    if (loop->after_turn) {
        loop->after_turn(loop);
    }
    return busy;
}

void loop_run(struct loop *loop) {
    while (!loop->stopping) {
        loop_turn(loop, WAIT_MAX_MS);
    }
    loop->stopping = false;
}

void loop_stop(struct loop *loop) { loop->stopping = true; }

enum err io_open(struct loop *loop, struct io *io, int fd, unsigned events,
                 void (*on_ready)(struct io *io, unsigned events)) {
    *io = (struct io){.fd = fd, .armed = events, .opened_turn = loop->turn, .on_ready = on_ready};
    enum err e = watch(loop, EPOLL_CTL_ADD, fd, events, io);
    if (e == OK) {
        loop->open_ios++;
    } else {
        io->fd = -1;
    }
    return e;
}

void io_want_write(struct loop *loop, struct io *io) {
    if (!io->on_ready) { // not in the loop yet: io_open's caller passes `armed` on
        io->armed |= IO_WRITE;
        return;
    }
    if (!(io->armed & IO_WRITE) && io->fd >= 0) {
        io->armed |= IO_WRITE;
        enum err e = watch(loop, EPOLL_CTL_MOD, io->fd, io->armed, io);
        assert(e == OK); // only a descriptor that is not in the set fails here
        (void)e;
    }
}

void io_close(struct loop *loop, struct io *io) {
    if (io->fd >= 0) {
        if (UNLIKELY(loop->files_shared)) {
            (void)watch(loop, EPOLL_CTL_DEL, io->fd, 0, NULL);
        }
        close(io->fd); // leaves the epoll set by itself
        io->fd = -1;
        loop->open_ios--;
    }
}

void io_detach(struct loop *loop, struct io *io) {
    if (io->fd >= 0) {
        (void)watch(loop, EPOLL_CTL_DEL, io->fd, 0, NULL);
        io->fd = -1;
        loop->open_ios--;
    }
}

void timer_set(struct loop *loop, struct timer *timer, uint64_t delay_ms) {
    uint64_t due_ms = 0;
    if (__builtin_add_overflow(loop->now_ms, delay_ms, &due_ms)) {
        due_ms = UINT64_MAX; // never
    }
    wheel_set(&loop->wheel, timer, due_ms);
}

void loop_defer(struct loop *loop, struct task *task) {
    if (!list_linked(&task->node)) {
        list_push_back(&loop->next_tasks, &task->node);
    }
}

void loop_flush_later(struct loop *loop, struct task *task) {
    if (!list_linked(&task->node)) {
        list_push_back(&loop->flush_tasks, &task->node);
    }
}

void loop_bury(struct loop *loop, struct grave *grave, void (*bury)(struct grave *grave)) {
    grave->bury = bury;
    grave->next = loop->graves;
    loop->graves = grave;
}

void loop_post(struct loop *loop, struct message *message) {
    message->next = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&loop->posted, &message->next, message, memory_order_release,
                                                  memory_order_relaxed)) {
    }
    uint64_t one = 1;
    ssize_t n = write(loop->wake_fd, &one, sizeof one);
    (void)n; // full means that a wake-up is pending already
}
