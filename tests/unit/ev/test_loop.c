// SPDX-License-Identifier: MIT
// One letter is written to `log` for each thing that happens, so the order of a turn is a string.
#include "ev/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static const uint64_t HOUR_MS = 3600 * 1000;

struct bench {
    struct fake_clock fake;
    struct loop loop;
    char log[128];
    size_t log_len;
};

static void note(struct bench *b, char c) {
    if (!c) {
        return; // wants no mention
    }
    check(b->log_len < sizeof b->log - 1);
    b->log[b->log_len++] = c;
    b->log[b->log_len] = '\0';
}

// Compares and begins anew.
static void check_log(struct bench *b, const char *wanted) {
    check_str(str_from(b->log, b->log_len), wanted);
    b->log_len = 0;
}

static void bench_init(struct bench *b) {
    *b = (struct bench){.log_len = 0};
    fake_clock_init(&b->fake);
    check_ok(loop_init(&b->loop, &(struct loop_options){.clock = &b->fake.clock}));
}

static void bench_finish(struct bench *b) {
    check_int(b->loop.open_ios, 0);
    loop_finish(&b->loop);
}

static void pass_ms(struct bench *b, uint64_t ms) { b->fake.ns += ms * 1000000; }

// --- descriptors ---

struct end {
    struct io io;
    struct bench *bench;
    char letter;
    unsigned events; // of the last call
    unsigned calls;
    void (*then)(struct end *end);
    struct end *other;
    struct task *task;
    int spare_fd;
};

static void on_ready(struct io *io, unsigned events) {
    struct end *e = container_of(io, struct end, io);
    e->events = events;
    e->calls++;
    note(e->bench, e->letter);
    if (e->then) {
        e->then(e);
    }
}

// A connected pair: our end goes to the loop, the peer's is returned.
static int end_open(struct bench *b, struct end *e, char letter, unsigned events) {
    int fds[2];
    check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    *e = (struct end){.bench = b, .letter = letter, .spare_fd = -1};
    check_ok(io_open(&b->loop, &e->io, fds[0], events, on_ready));
    return fds[1];
}

static void send_byte(int fd) { check_int(write(fd, "x", 1), 1); }

static void a_read_is_told_once_per_arrival(void **state UNUSED) {
    struct bench b;
    struct end e;
    bench_init(&b);
    int peer = end_open(&b, &e, 'a', IO_READ);
    check(!loop_turn(&b.loop, 0));
    send_byte(peer);
    check(loop_turn(&b.loop, 0));
    check_int(e.events, IO_READ);
    check(!loop_turn(&b.loop, 0)); // edge-triggered: unread, yet silent
    send_byte(peer);
    check(loop_turn(&b.loop, 0));
    check_log(&b, "aa");
    close(peer);
    check(loop_turn(&b.loop, 0));
    check(e.events & IO_HUP);
    io_close(&b.loop, &e.io);
    io_close(&b.loop, &e.io);
    check_int(e.io.fd, -1);
    bench_finish(&b);
}

// Another process has a copy: closing this one does not take it out of the set.
static void closed_descriptor_that_is_shared_tells_no_more(void **state UNUSED) {
    struct bench b;
    struct end e;
    bench_init(&b);
    int peer = end_open(&b, &e, 'a', IO_READ);
    int copy = dup(e.io.fd);
    loop_share_files(&b.loop, true);
    io_close(&b.loop, &e.io);
    send_byte(peer);
    check(!loop_turn(&b.loop, 0));
    loop_share_files(&b.loop, false);
    close(copy);
    close(peer);
    bench_finish(&b);
}

static void look_at_itself(struct end *e) {
    uint64_t for_ns = 0;
    pass_ms(e->bench, 30);
    check(loop_running(&e->bench->loop, &for_ns) == (activity_callback *)on_ready);
    check_int(for_ns, 30 * 1000000);
}

static void what_a_loop_is_in_can_be_seen(void **state UNUSED) {
    struct bench b;
    struct end e;
    uint64_t for_ns = 1;
    bench_init(&b);
    int peer = end_open(&b, &e, 'a', IO_READ);
    e.then = look_at_itself;
    send_byte(peer);
    check(loop_turn(&b.loop, 0));
    check_log(&b, "a");
    pass_ms(&b, 5000); // it polls
    check(loop_running(&b.loop, &for_ns) == NULL);
    check_int(for_ns, 0);
    close(peer);
    io_close(&b.loop, &e.io);
    bench_finish(&b);
}

static void want_write_tells_of_room(void **state UNUSED) {
    struct bench b;
    struct end e;
    static char bytes[64 * 1024];
    bench_init(&b);
    int peer = end_open(&b, &e, 'a', IO_READ);
    while (write(e.io.fd, bytes, sizeof bytes) > 0) {
    }
    io_want_write(&b.loop, &e.io);
    io_want_write(&b.loop, &e.io);
    check(!loop_turn(&b.loop, 0));
    while (read(peer, bytes, sizeof bytes) > 0) {
    }
    check(loop_turn(&b.loop, 0));
    check_int(e.events, IO_WRITE);
    close(peer);
    io_close(&b.loop, &e.io);
    io_want_write(&b.loop, &e.io); // closed: nothing
    bench_finish(&b);
}

static void want_write_with_room_left_tells_at_once(void **state UNUSED) {
    struct bench b;
    struct end e;
    bench_init(&b);
    int peer = end_open(&b, &e, 'a', IO_READ);
    io_want_write(&b.loop, &e.io);
    check(loop_turn(&b.loop, 0));
    check_int(e.events, IO_WRITE);
    close(peer);
    io_close(&b.loop, &e.io);
    bench_finish(&b);
}

static void a_broken_pipe_is_a_hup(void **state UNUSED) {
    struct bench b;
    struct end e = {.bench = &b, .letter = 'p'};
    int fds[2];
    bench_init(&b);
    check_int(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    check_ok(io_open(&b.loop, &e.io, fds[1], IO_WRITE, on_ready));
    check(loop_turn(&b.loop, 0));
    check_int(e.events, IO_WRITE);
    close(fds[0]);
    check(loop_turn(&b.loop, 0));
    check(e.events & IO_HUP);
    io_close(&b.loop, &e.io);
    bench_finish(&b);
}

static void opening_a_bad_descriptor_fails_and_closes_nothing(void **state UNUSED) {
    struct bench b;
    struct io io;
    bench_init(&b);
    check_err(io_open(&b.loop, &io, -1, IO_READ, on_ready), ERR_SYS);
    check_int(io.fd, -1);
    check_int(b.loop.open_ios, 0);
    io_close(&b.loop, &io);
    bench_finish(&b);
}

static void a_detached_descriptor_stays_open_and_silent(void **state UNUSED) {
    struct bench b;
    struct end e;
    bench_init(&b);
    int peer = end_open(&b, &e, 'a', IO_READ);
    int fd = e.io.fd;
    send_byte(peer);
    io_detach(&b.loop, &e.io);
    io_detach(&b.loop, &e.io);
    io_close(&b.loop, &e.io);
    check(!loop_turn(&b.loop, 0));
    check_log(&b, "");
    char byte = 0;
    check_int(read(fd, &byte, 1), 1);
    close(fd);
    close(peer);
    bench_finish(&b);
}

static void close_itself(struct end *e) { io_close(&e->bench->loop, &e->io); }
static void close_other(struct end *e) { io_close(&e->bench->loop, &e->other->io); }

static void a_callback_may_close_its_own(void **state UNUSED) {
    struct bench b;
    struct end e;
    bench_init(&b);
    int peer = end_open(&b, &e, 'a', IO_READ);
    e.then = close_itself;
    send_byte(peer);
    check(loop_turn(&b.loop, 0));
    check(!loop_turn(&b.loop, 0));
    check_log(&b, "a");
    close(peer);
    bench_finish(&b);
}

// Whichever of the two comes first closes the other, which was ready in the same turn.
static void a_callback_may_close_another_that_is_ready(void **state UNUSED) {
    struct bench b;
    struct end ends[2];
    int peers[2];
    bench_init(&b);
    for (unsigned i = 0; i < 2; i++) {
        peers[i] = end_open(&b, &ends[i], 'a', IO_READ);
        ends[i].then = close_other;
        ends[i].other = &ends[1 - i];
        send_byte(peers[i]);
    }
    check(loop_turn(&b.loop, 0));
    check_log(&b, "a");
    check_int(ends[0].calls + ends[1].calls, 1);
    check_int(b.loop.open_ios, 1);
    for (unsigned i = 0; i < 2; i++) {
        io_close(&b.loop, &ends[i].io);
        close(peers[i]);
    }
    bench_finish(&b);
}

static void reopen_other(struct end *e) {
    struct loop *loop = &e->bench->loop;
    io_close(loop, &e->other->io);
    check_ok(io_open(loop, &e->other->io, e->other->spare_fd, IO_READ, on_ready));
    e->other->then = NULL;
}

static void what_was_polled_for_the_old_descriptor_does_not_reach_the_new(void **state UNUSED) {
    struct bench b;
    struct end ends[2];
    int peers[2];
    int spares[2][2];
    bench_init(&b);
    for (unsigned i = 0; i < 2; i++) {
        check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, spares[i]), 0);
        peers[i] = end_open(&b, &ends[i], 'a', IO_READ);
        ends[i].then = reopen_other;
        ends[i].other = &ends[1 - i];
        ends[i].spare_fd = spares[i][0];
        send_byte(peers[i]);
    }
    check(loop_turn(&b.loop, 0));
    check_log(&b, "a");
    unsigned reopened = ends[0].calls ? 1 : 0;
    check(!loop_turn(&b.loop, 0));
    send_byte(spares[reopened][1]);
    check(loop_turn(&b.loop, 0)); // the new one's own event does
    check_int(ends[reopened].calls, 1);
    for (unsigned i = 0; i < 2; i++) {
        io_close(&b.loop, &ends[i].io);
        close(peers[i]);
        close(spares[i][1]);
    }
    close(spares[1 - reopened][0]);
    bench_finish(&b);
}

static void many_descriptors_are_served_in_several_turns(void **state UNUSED) {
    enum { MANY = 700 }; // more than one poll returns
    struct bench b;
    struct end *ends = xcalloc(MANY, sizeof *ends);
    bench_init(&b);
    for (unsigned i = 0; i < MANY; i++) {
        ends[i].bench = &b;
        check_ok(io_open(&b.loop, &ends[i].io, eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC), IO_READ, on_ready));
    }
    unsigned turns = 0;
    while (loop_turn(&b.loop, 0)) {
        turns++;
    }
    check(turns >= 2);
    for (unsigned i = 0; i < MANY; i++) {
        check_int(ends[i].calls, 1);
        io_close(&b.loop, &ends[i].io);
    }
    bench_finish(&b);
    free(ends);
}

// --- tasks, timers, graves, messages ---

struct chore {
    struct task task;
    struct timer timer;
    struct grave grave;
    struct message message;
    struct bench *bench;
    char letter;
    void (*then)(struct chore *chore);
    struct chore *other;
};

static void did(struct chore *c) {
    note(c->bench, c->letter);
    if (c->then) {
        c->then(c);
    }
}
static void run_task(struct task *t) { did(container_of(t, struct chore, task)); }
static void run_timer(struct timer *t) { did(container_of(t, struct chore, timer)); }
static void run_grave(struct grave *g) { did(container_of(g, struct chore, grave)); }
static void run_message(struct message *m) { did(container_of(m, struct chore, message)); }

static struct chore chore(struct bench *b, char letter) {
    return (struct chore){.task = {.run = run_task},
                          .timer = {.on_timer = run_timer},
                          .message = {.deliver = run_message},
                          .bench = b,
                          .letter = letter};
}

static void defer_other(struct chore *c) { loop_defer(&c->bench->loop, &c->other->task); }
static void flush_other(struct chore *c) { loop_flush_later(&c->bench->loop, &c->other->task); }
static void bury_other(struct chore *c) { loop_bury(&c->bench->loop, &c->other->grave, run_grave); }
static void cancel_other(struct chore *c) { task_cancel(&c->other->task); }

static void tasks_run_in_the_next_turn_in_order(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore one = chore(&b, '1');
    struct chore two = chore(&b, '2');
    loop_defer(&b.loop, &one.task);
    loop_defer(&b.loop, &two.task);
    loop_defer(&b.loop, &one.task); // waits already
    check_log(&b, "");
    check(loop_turn(&b.loop, 1000));
    check_log(&b, "12");
    check(!loop_turn(&b.loop, 0));
    loop_defer(&b.loop, &one.task);
    task_cancel(&one.task);
    task_cancel(&one.task);
    check(!loop_turn(&b.loop, 0));
    check_log(&b, "");
    bench_finish(&b);
}

static void what_a_task_defers_runs_a_turn_later(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore one = chore(&b, '1');
    one.then = defer_other;
    one.other = &one; // itself
    loop_defer(&b.loop, &one.task);
    for (unsigned i = 0; i < 3; i++) {
        check(loop_turn(&b.loop, 1000));
        check_log(&b, "1");
    }
    task_cancel(&one.task);
    bench_finish(&b);
}

static void a_task_may_cancel_its_neighbour(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore one = chore(&b, '1');
    struct chore two = chore(&b, '2');
    one.then = cancel_other;
    one.other = &two;
    loop_defer(&b.loop, &one.task);
    loop_defer(&b.loop, &two.task);
    loop_turn(&b.loop, 0);
    check_log(&b, "1");
    bench_finish(&b);
}

static void defer_a_task(struct end *e) { loop_defer(&e->bench->loop, e->task); }

static void what_io_defers_waits_for_the_next_turn(void **state UNUSED) {
    struct bench b;
    struct end e;
    bench_init(&b);
    struct chore task = chore(&b, 't');
    int peer = end_open(&b, &e, 'a', IO_READ);
    e.then = defer_a_task;
    e.task = &task.task;
    send_byte(peer);
    loop_turn(&b.loop, 0);
    check_log(&b, "a");
    loop_turn(&b.loop, 1000);
    check_log(&b, "t");
    io_close(&b.loop, &e.io);
    close(peer);
    bench_finish(&b);
}

static void a_turn_goes_io_tasks_messages_timers_flush_bury(void **state UNUSED) {
    struct bench b;
    struct end e;
    bench_init(&b);
    struct chore task = chore(&b, 't');
    struct chore message = chore(&b, 'm');
    struct chore timer = chore(&b, 'w');
    struct chore flush = chore(&b, 'f');
    struct chore flushed_by_timer = chore(&b, 'g');
    struct chore grave = chore(&b, 'b');
    int peer = end_open(&b, &e, 'i', IO_READ);
    timer.then = flush_other;
    timer.other = &flushed_by_timer;
    loop_bury(&b.loop, &grave.grave, run_grave);
    loop_flush_later(&b.loop, &flush.task);
    timer_set(&b.loop, &timer.timer, 5);
    loop_post(&b.loop, &message.message);
    loop_defer(&b.loop, &task.task);
    send_byte(peer);
    pass_ms(&b, 5);
    check(loop_turn(&b.loop, 0));
    check_log(&b, "itmwfgb");
    io_close(&b.loop, &e.io);
    close(peer);
    bench_finish(&b);
}

static void flushing_from_a_flush_is_the_same_turn(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore one = chore(&b, '1');
    struct chore two = chore(&b, '2');
    one.then = flush_other;
    one.other = &two;
    loop_flush_later(&b.loop, &one.task);
    loop_flush_later(&b.loop, &one.task);
    check(loop_turn(&b.loop, 600000)); // does not wait: something is to be flushed
    check_log(&b, "12");
    bench_finish(&b);
}

static void a_burial_may_bury_and_defer(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore one = chore(&b, '1');
    struct chore two = chore(&b, '2');
    struct chore three = chore(&b, '3');
    one.then = bury_other;
    one.other = &two;
    two.then = defer_other;
    two.other = &three;
    loop_bury(&b.loop, &one.grave, run_grave);
    loop_turn(&b.loop, 0);
    check_log(&b, "12");
    loop_turn(&b.loop, 600000);
    check_log(&b, "3");
    bench_finish(&b);
}

static void graves_are_filled_after_the_callback(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore task = chore(&b, 't');
    struct chore next = chore(&b, 'n');
    struct chore dead = chore(&b, 'b');
    task.then = bury_other;
    task.other = &dead;
    loop_defer(&b.loop, &task.task);
    loop_defer(&b.loop, &next.task);
    loop_turn(&b.loop, 0);
    check_log(&b, "tnb");
    bench_finish(&b);
}

static void finish_delivers_and_buries_what_is_left(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore message = chore(&b, 'm');
    struct chore grave = chore(&b, 'b');
    message.then = bury_other;
    message.other = &grave;
    loop_post(&b.loop, &message.message);
    bench_finish(&b);
    check_log(&b, "mb");
}

static void finish_accepts_zeroed_and_finished(void **state UNUSED) {
    int before = dup(STDIN_FILENO);
    check(before >= 0);
    close(before);
    struct loop zeroed = {0};
    loop_finish(&zeroed);
    loop_finish(&zeroed);
    int after = dup(STDIN_FILENO); // still open
    check_int(after, before);
    close(after);
}

static void stop_from(struct chore *c) { loop_stop(&c->bench->loop); }

static void run_ends_with_stop_and_can_run_again(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    for (unsigned i = 0; i < 2; i++) {
        struct chore task = chore(&b, 's');
        task.then = stop_from;
        loop_defer(&b.loop, &task.task);
        loop_run(&b.loop);
        check_log(&b, "s");
    }
    bench_finish(&b);
}

// --- time ---

static void timers_follow_the_clock(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore soon = chore(&b, 's');
    struct chore late = chore(&b, 'l');
    struct chore never = chore(&b, 'n');
    timer_set(&b.loop, &soon.timer, 1);
    timer_set(&b.loop, &late.timer, 10 * HOUR_MS);
    timer_set(&b.loop, &never.timer, UINT64_MAX);
    check(!loop_turn(&b.loop, 0));
    pass_ms(&b, 1);
    check(loop_turn(&b.loop, 60000));
    check_log(&b, "s");
    pass_ms(&b, 10 * HOUR_MS - 2);
    loop_turn(&b.loop, 0);
    check_log(&b, "");
    pass_ms(&b, 1);
    check(loop_turn(&b.loop, 60000));
    check_log(&b, "l");
    check(timer_is_set(&never.timer));
    timer_clear(&never.timer);
    check(!timer_is_set(&never.timer));
    bench_finish(&b);
}

static void set_again(struct chore *c) { timer_set(&c->bench->loop, &c->timer, 1000); }

static void a_periodic_timer_fires_once_after_a_long_sleep(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore tick = chore(&b, 't');
    tick.then = set_again;
    timer_set(&b.loop, &tick.timer, 1000);
    for (unsigned i = 0; i < 5; i++) {
        pass_ms(&b, 1000);
        loop_turn(&b.loop, 0);
    }
    check_log(&b, "ttttt");
    pass_ms(&b, HOUR_MS);
    loop_turn(&b.loop, 0);
    check_log(&b, "t");
    timer_clear(&tick.timer);
    bench_finish(&b);
}

static void set_without_delay(struct chore *c) { timer_set(&c->bench->loop, &c->timer, 0); }

static void a_timer_without_delay_cannot_hold_the_loop(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore spin = chore(&b, 's');
    spin.then = set_without_delay;
    timer_set(&b.loop, &spin.timer, 0);
    pass_ms(&b, HOUR_MS);
    loop_turn(&b.loop, 0);
    check(b.log_len >= 1 && b.log_len <= 2);
    timer_clear(&spin.timer);
    bench_finish(&b);
}

static void a_cleared_timer_is_no_work(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore one = chore(&b, '1');
    timer_set(&b.loop, &one.timer, 10);
    timer_clear(&one.timer);
    pass_ms(&b, 20);
    check(!loop_turn(&b.loop, 0));
    bench_finish(&b);
}

static void now_is_read_once_a_turn(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    uint64_t before = b.loop.now_ns;
    pass_ms(&b, 7);
    check(b.loop.now_ns == before);
    loop_turn(&b.loop, 0);
    check(b.loop.now_ns == before + 7000000);
    check(b.loop.now_ms == b.loop.now_ns / 1000000);
    bench_finish(&b);
}

static void take_30_ms(struct chore *c) { pass_ms(c->bench, 30); }

static void lag_is_the_longest_turn_of_late(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore slow = chore(&b, 's');
    slow.then = take_30_ms;
    loop_turn(&b.loop, 0);
    check_int(loop_lag_ns(&b.loop), 0);
    loop_defer(&b.loop, &slow.task);
    loop_turn(&b.loop, 0);
    loop_turn(&b.loop, 0);
    check_int(loop_lag_ns(&b.loop), 30000000);
    pass_ms(&b, 1000);
    loop_turn(&b.loop, 0);
    check_int(loop_lag_ns(&b.loop), 30000000); // of the last full second
    pass_ms(&b, 1000);
    loop_turn(&b.loop, 0);
    check_int(loop_lag_ns(&b.loop), 0);
    bench_finish(&b);
}

static void lag_is_forgotten_while_nothing_happens(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore slow = chore(&b, 's');
    slow.then = take_30_ms;
    loop_bury(&b.loop, &slow.grave, run_grave); // burials count, too
    loop_turn(&b.loop, 0);
    check_int(loop_lag_ns(&b.loop), 30000000);
    pass_ms(&b, 5000); // and no turn
    check_int(loop_lag_ns(&b.loop), 0);
    bench_finish(&b);
}

static void pacing_loses_nothing(void **state UNUSED) {
    struct bench b = {.log_len = 0};
    struct end e;
    check_ok(loop_init(&b.loop, &(struct loop_options){.pace_us = 200, .pace_min_ios = 1}));
    int peer = end_open(&b, &e, 'a', IO_READ);
    for (unsigned i = 0; i < 20; i++) {
        send_byte(peer);
        check(loop_turn(&b.loop, 1000));
    }
    check_int(e.calls, 20);
    io_close(&b.loop, &e.io);
    close(peer);
    bench_finish(&b);
}

// --- other threads ---

enum { SENDERS = 4, LETTERS = 2000 };

struct letter {
    struct message message;
    struct office *office;
    unsigned sender;
    unsigned number;
};

struct office {
    struct loop loop;
    unsigned next[SENDERS]; // the number that is due from each
    unsigned delivered;
};

struct sender {
    struct office *office;
    unsigned number;
};

static void on_letter(struct message *m) {
    struct letter *l = container_of(m, struct letter, message);
    check_int(l->number, l->office->next[l->sender]++); // in order of posting
    if (++l->office->delivered == SENDERS * LETTERS) {
        loop_stop(&l->office->loop);
    }
    free(l);
}

static void *send_letters(void *arg) {
    struct sender *s = arg;
    for (unsigned i = 0; i < LETTERS; i++) {
        struct letter *l = xmalloc(sizeof *l);
        *l = (struct letter){.message = {.deliver = on_letter}, .office = s->office, .sender = s->number, .number = i};
        loop_post(&s->office->loop, &l->message);
    }
    return NULL;
}

static void messages_of_other_threads_arrive_all_and_in_order(void **state UNUSED) {
    struct office office = {.delivered = 0};
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    check_ok(loop_init(&office.loop, &(struct loop_options){.clock = NULL}));
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){&office, i};
        check_int(pthread_create(&threads[i], NULL, send_letters, &senders[i]), 0);
    }
    loop_run(&office.loop); // would hang if a wake-up were lost
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        check_int(office.next[i], LETTERS);
    }
    loop_finish(&office.loop);
}

static void post_again(struct chore *c) {
    if (c->bench->log_len < 3) {
        loop_post(&c->bench->loop, &c->message);
    }
}

static void a_message_may_post_itself_again(void **state UNUSED) {
    struct bench b;
    bench_init(&b);
    struct chore m = chore(&b, 'm');
    m.then = post_again;
    loop_post(&b.loop, &m.message);
    for (unsigned turns = 1; turns <= 3; turns++) {
        check(loop_turn(&b.loop, 60000));
        check_int(b.log_len, turns);
    }
    loop_turn(&b.loop, 0); // the wake-up that may be left
    check(!loop_turn(&b.loop, 0));
    bench_finish(&b);
}

TESTS(TEST(a_read_is_told_once_per_arrival), TEST(want_write_tells_of_room),
      TEST(want_write_with_room_left_tells_at_once), TEST(a_broken_pipe_is_a_hup),
      TEST(opening_a_bad_descriptor_fails_and_closes_nothing), TEST(a_detached_descriptor_stays_open_and_silent),
      TEST(closed_descriptor_that_is_shared_tells_no_more), TEST(what_a_loop_is_in_can_be_seen),
      TEST(a_callback_may_close_its_own), TEST(a_callback_may_close_another_that_is_ready),
      TEST(what_was_polled_for_the_old_descriptor_does_not_reach_the_new),
      TEST(many_descriptors_are_served_in_several_turns), TEST(tasks_run_in_the_next_turn_in_order),
      TEST(what_a_task_defers_runs_a_turn_later), TEST(a_task_may_cancel_its_neighbour),
      TEST(what_io_defers_waits_for_the_next_turn), TEST(a_turn_goes_io_tasks_messages_timers_flush_bury),
      TEST(flushing_from_a_flush_is_the_same_turn), TEST(a_burial_may_bury_and_defer),
      TEST(graves_are_filled_after_the_callback), TEST(finish_delivers_and_buries_what_is_left),
      TEST(finish_accepts_zeroed_and_finished), TEST(run_ends_with_stop_and_can_run_again),
      TEST(timers_follow_the_clock), TEST(a_periodic_timer_fires_once_after_a_long_sleep),
      TEST(a_timer_without_delay_cannot_hold_the_loop), TEST(a_cleared_timer_is_no_work), TEST(now_is_read_once_a_turn),
      TEST(lag_is_the_longest_turn_of_late), TEST(lag_is_forgotten_while_nothing_happens), TEST(pacing_loses_nothing),
      TEST(messages_of_other_threads_arrive_all_and_in_order), TEST(a_message_may_post_itself_again))
