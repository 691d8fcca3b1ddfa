// SPDX-License-Identifier: MIT
// A loop that is watched from another one, on one thread: what blocks is a callback in which time passes and the
// watcher has its turns.
#include "cmd/lookout.h"

#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "cmd/symbols.h"

enum { WATCHDOG_US = 4000 * 1000 };

struct scene {
    struct fake_clock fake;
    struct loop watched, watcher;
    struct lookout lookout;
    struct notify notify;
    struct count stalls;
    struct message message;
    struct timer timer;
    struct task task;
    uint64_t block_ms;
    int log;     // what stderr is read from
    int stderr_; // the real one
    int systemd; // -1: there is none
    char said[4096];
};

static struct loop *watched(void *owner, unsigned i UNUSED) { return &((struct scene *)owner)->watched; }

static void pass(struct scene *s, uint64_t ms) {
    for (; ms; ms -= MIN(ms, 100u)) {
        s->fake.ns += MIN(ms, 100u) * 1000000;
        loop_turn(&s->watcher, 0);
    }
}

static void open_systemd(struct scene *s) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char text[64];
    int len = snprintf(text, sizeof text, "@thaw-lookout-%d", (int)getpid());
    memcpy(name.sun_path + 1, text + 1, (size_t)len - 1);
    s->systemd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len);
    check(s->systemd >= 0 && bind(s->systemd, (struct sockaddr *)&name, size) == 0);
    char every[24];
    snprintf(every, sizeof every, "%d", WATCHDOG_US);
    setenv("NOTIFY_SOCKET", text, 1);
    setenv("WATCHDOG_USEC", every, 1);
}

static void scene_open(struct scene *s, bool systemd) {
    int ends[2];
    *s = (struct scene){.block_ms = 700, .systemd = -1};
    fake_clock_init(&s->fake);
    struct loop_options options = {.clock = &s->fake.clock};
    check_ok(loop_init(&s->watched, &options));
    check_ok(loop_init(&s->watcher, &options));
    if (systemd) {
        open_systemd(s);
    }
    notify_open(&s->notify);
    check(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    s->log = ends[0];
    s->stderr_ = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    lookout_open(&s->lookout, &(struct lookout_options){.loop = &s->watcher,
                                                        .count = 1,
                                                        .watched = watched,
                                                        .owner = s,
                                                        .notify = &s->notify,
                                                        .stalls = &s->stalls});
}

// Everything logged since the last time.
static const char *said(struct scene *s) {
    ssize_t n = read(s->log, s->said, sizeof s->said - 1);
    s->said[MAX(n, 0)] = '\0';
    return s->said;
}

static unsigned beats(struct scene *s) {
    char text[64];
    unsigned count = 0;
    ssize_t n;
    while ((n = recv(s->systemd, text, sizeof text, 0)) > 0) {
        check_str(str_from(text, (size_t)n), "WATCHDOG=1");
        count++;
    }
    return count;
}

static void scene_close(struct scene *s) {
    lookout_close(&s->lookout);
    dup2(s->stderr_, STDERR_FILENO);
    close(s->stderr_);
    close(s->log);
    notify_close(&s->notify);
    loop_finish(&s->watched);
    loop_finish(&s->watcher);
    if (s->systemd >= 0) {
        close(s->systemd);
        unsetenv("NOTIFY_SOCKET");
        unsetenv("WATCHDOG_USEC");
    }
}

static void message_that_blocks(struct message *m) {
    struct scene *s = container_of(m, struct scene, message);
    pass(s, s->block_ms);
}
static void timer_that_blocks(struct timer *t) {
    struct scene *s = container_of(t, struct scene, timer);
    pass(s, s->block_ms);
}
static void task_that_blocks(struct task *t) {
    struct scene *s = container_of(t, struct scene, task);
    pass(s, s->block_ms);
}

static void by_message(struct scene *s) {
    s->message.deliver = message_that_blocks;
    loop_post(&s->watched, &s->message);
    loop_turn(&s->watched, 0);
}
static void by_timer(struct scene *s) {
    s->timer.on_timer = timer_that_blocks;
    timer_set(&s->watched, &s->timer, 1);
    s->fake.ns += 1000000;
    loop_turn(&s->watched, 0);
}
static void by_task(struct scene *s) {
    s->task.run = task_that_blocks;
    loop_defer(&s->watched, &s->task);
    loop_turn(&s->watched, 0);
}

static void callback_that_blocks_is_named(void **state UNUSED) {
    static const struct {
        void (*block)(struct scene *s);
        const char *name;
    } kinds[] = {{by_message, "message_that_blocks"}, {by_timer, "timer_that_blocks"}, {by_task, "task_that_blocks"}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct scene s;
        scene_open(&s, false);
        s.block_ms = 1200;
        kinds[i].block(&s);
        const char *text = said(&s);
        check(strstr(text, kinds[i].name) && strstr(text, "worker 1 "));
        check_int(count_of(&s.stalls), 1); // once, however often it was looked at
        pass(&s, LOOKOUT_EVERY_MS);
        check(strstr(said(&s), "goes on") != NULL);
        pass(&s, 3000);
        check_str(str_c(said(&s)), "");
        scene_close(&s);
    }
}

static void short_turns_and_polling_are_not_mentioned(void **state UNUSED) {
    struct scene s;
    scene_open(&s, false);
    s.block_ms = LOOKOUT_LATE_MS - 100;
    for (unsigned i = 0; i < 20; i++) {
        by_message(&s);
    }
    pass(&s, 60 * 1000); // it polls for a minute
    check_str(str_c(said(&s)), "");
    check_int(count_of(&s.stalls), 0);
    scene_close(&s);
}

static void watchdog_is_told_while_the_loop_turns(void **state UNUSED) {
    struct scene s;
    scene_open(&s, true);
    check_int(s.notify.watchdog_ms, 2000);
    pass(&s, 6100);
    check_int(beats(&s), 4); // at once, then at half of the time
    s.block_ms = 20 * 1000;
    by_message(&s);
    check(beats(&s) <= 1); // then it had been blocked for less than that
    pass(&s, 4000);
    check(beats(&s) >= 1);
    scene_close(&s);
}

static void watchdog_of_another_process_is_not_ours(void **state UNUSED) {
    struct notify n;
    setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
    setenv("WATCHDOG_USEC", "1000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    notify_open(&n);
    check_int(n.watchdog_ms, 0);
    notify_say(&n, "READY=1"); // nobody is there
    notify_close(&n);
    unsetenv("WATCHDOG_PID");
    notify_open(&n);
    check_int(n.watchdog_ms, 500);
    notify_close(&n);
    static const char *const bad[] = {"", "@", "x", "vsock:2:1234", "relative/path"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        setenv("NOTIFY_SOCKET", bad[i], 1);
        notify_open(&n);
        check_int(n.fd, -1);
        check_int(n.watchdog_ms, 0);
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
}

static void function_without_a_symbol_is_an_address(void **state UNUSED) {
    char name[200];
    symbol_name((activity_callback *)message_that_blocks, name, sizeof name);
    check(str_starts(str_c(name), STR("message_that_blocks")));
    symbol_name((activity_callback *)(uintptr_t)UINT64_C(0x7fffffff0000), name, sizeof name);
    check(str_starts(str_c(name), STR("0x")) && strstr(name, " of /"));
    char small[4];
    symbol_name((activity_callback *)message_that_blocks, small, sizeof small);
    check_int(strlen(small), 3);
}

TESTS(TEST(callback_that_blocks_is_named), TEST(short_turns_and_polling_are_not_mentioned),
      TEST(watchdog_is_told_while_the_loop_turns), TEST(watchdog_of_another_process_is_not_ours),
      TEST(function_without_a_symbol_is_an_address))
