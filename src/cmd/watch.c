// SPDX-License-Identifier: MIT
// A frame is left out when the terminal (or the pipe) has no room: a view must not hold up what it shows. The size is
// asked for each frame, so that a terminal may be resized at any time.
#include "cmd/watch.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { FRAME_MS = 250, LINE_MS = 1000, TEXT_CAP = 1024 * 1024 };

static bool has_room(void) {
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

// False when nobody is there any more.
static bool write_all(struct str text) {
    while (text.len) {
        ssize_t n = write(STDOUT_FILENO, text.ptr, text.len);
        if (n <= 0) {
            return false;
        }
        text = str_skip(text, (size_t)n);
    }
    return true;
}

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
    buf_clear(&v->text);
    enum err e = v->live ? make_frame(v) : watch_line(&v->watch, v->mock, &v->text);
    if (has_room() && e == OK && !write_all(buf_str(&v->text))) {
        return; // for good
    }
    timer_set(v->loop, &v->timer, v->live ? FRAME_MS : LINE_MS);
}

static void on_timer(struct timer *timer) { show(container_of(timer, struct view, timer)); }

static bool is_set(const char *name) {
    const char *value = getenv(name);
    return value && *value;
}

void view_open(struct view *v, struct loop *loop, const struct mock *mock, const char *title) {
    const char *terminal = getenv("TERM");
    *v = (struct view){.loop = loop, .mock = mock, .title = title, .timer.on_timer = on_timer};
    v->live = isatty(STDOUT_FILENO) && terminal && strcmp(terminal, "dumb") != 0;
    v->colour = !is_set("NO_COLOR");
    buf_init(&v->text, TEXT_CAP);
    if (v->live) {
        (void)write_all(STR("\x1b[?1049h\x1b[?25l")); // a screen of its own, no cursor
    }
    show(v);
}

void view_close(struct view *v) {
    timer_clear(&v->timer);
    buf_finish(&v->text);
    if (v->live) {
        (void)write_all(STR("\x1b[?25h\x1b[?1049l"));
    }
    *v = (struct view){.live = false};
}
