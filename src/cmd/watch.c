// SPDX-License-Identifier: MIT
// What a terminal has no room for waits, and no new frame is made meanwhile: a view must not hold up what it shows. So
// it writes to the terminal by an open file of its own, which does not block (stdout's may be the shell's, too). The size
// is asked for each frame, so that a terminal may be resized at any time. Ctrl-Z gives the screen back for as long as it
// takes.
#include "cmd/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { FRAME_MS = 250, LINE_MS = 1000, GIVE_BACK_MS = 1000, TEXT_CAP = 1024 * 1024 };

// ---- writing

static bool has_room(const struct view *v, int wait_ms) {
    struct pollfd p = {.fd = v->fd, .events = POLLOUT};
    return poll(&p, 1, wait_ms) == 1 && (p.revents & POLLOUT);
}

// What there is room for, waiting so long for more of it. False when nobody is there any more.
static bool write_some(struct view *v, int wait_ms) {
    while (buf_len(&v->text) && has_room(v, wait_ms)) {
        struct str text = buf_str(&v->text);
        ssize_t n = write(v->fd, text.ptr, text.len);
        if (n > 0) {
            buf_consume(&v->text, (size_t)n);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            return false;
        }
    }
    return true;
}

// A screen of its own, no cursor; and the one there was before.
static void take_screen(struct view *v, bool take) {
    if (v->live && buf_str_append(&v->text, take ? STR("\x1b[?1049h\x1b[?25l") : STR("\x1b[?25h\x1b[?1049l")) == OK) {
        (void)write_some(v, GIVE_BACK_MS);
    }
}

// ---- frames

static struct watch_size terminal_size(const struct view *v) {
    struct winsize w = {.ws_col = 0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col && w.ws_row;
    return (struct watch_size){known ? w.ws_col : 80, known ? w.ws_row : 24, v->colour};
}

static enum err make_frame(struct view *v) {
    struct watch_size size = terminal_size(v);
    return watch_frame(&v->watch, v->mock, v->title, &size, &v->text);
}

static void show(struct view *v) {
    if (!buf_len(&v->text)) {
        enum err e = v->live ? make_frame(v) : watch_line(&v->watch, v->mock, &v->text);
        if (e != OK) {
            buf_clear(&v->text);
        }
    }
    if (write_some(v, 0)) { // else for good
        timer_set(v->loop, &v->timer, v->live ? FRAME_MS : LINE_MS);
    }
}

static void on_timer(struct timer *timer) { show(container_of(timer, struct view, timer)); }

// ---- Ctrl-Z

static void mask_stop(int how) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    pthread_sigmask(how, &set, NULL);
}

static void on_stop(struct io *io, unsigned events UNUSED) {
    struct view *v = container_of(io, struct view, stop);
    struct signalfd_siginfo info;
    if (read(io->fd, &info, sizeof info) != sizeof info) {
        return;
    }
    take_screen(v, false);
    (void)raise(SIGTSTP);
    mask_stop(SIG_UNBLOCK); // stops here, until it is continued
    mask_stop(SIG_BLOCK);
    take_screen(v, true);
    show(v);
}

static void watch_for_stop(struct view *v) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    mask_stop(SIG_BLOCK);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0 || io_open(v->loop, &v->stop, fd, IO_READ, on_stop) != OK) {
        mask_stop(SIG_UNBLOCK); // it stops without giving the screen back
    }
}

// ---- all of it

static bool is_set(const char *name) {
    const char *value = getenv(name);
    return value && *value;
}

void view_open(struct view *v, struct loop *loop, const struct mock *mock, const char *title) {
    const char *terminal = getenv("TERM");
    *v = (struct view){.loop = loop, .mock = mock, .title = title, .timer.on_timer = on_timer};
    v->fd = STDOUT_FILENO;
    v->stop.fd = -1;
    v->live = isatty(STDOUT_FILENO) && terminal && strcmp(terminal, "dumb") != 0;
    v->colour = !is_set("NO_COLOR");
    buf_init(&v->text, TEXT_CAP);
    if (v->live) {
        int own = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        v->fd = own < 0 ? STDOUT_FILENO : own; // the terminal may be another user's
        watch_for_stop(v);
    }
    take_screen(v, true);
    show(v);
}

void view_close(struct view *v) {
    if (!v->loop) {
        return;
    }
    timer_clear(&v->timer);
    io_close(v->loop, &v->stop);
    take_screen(v, false);
    if (v->fd != STDOUT_FILENO) {
        close(v->fd);
    }
    buf_finish(&v->text);
    *v = (struct view){.live = false};
}
