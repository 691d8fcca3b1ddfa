// SPDX-License-Identifier: MIT
// thaw mock --watch: a live view on a terminal, else a line each second, both on stdout.
#pragma once
#include "base/buf.h"
#include "mock/watch.h"

struct view {
    struct loop *loop;
    const struct mock *mock;
    const char *title;
    struct watch watch;
    struct timer timer;
    struct buf text; // not yet written
    struct io stop;  // Ctrl-Z
    int fd;
    bool live;   // on a terminal: its own screen, given back by view_close
    bool colour; // NO_COLOR is not set
};

// Shows the first frame, and the next ones by a timer of the loop. `title` stays the caller's.
void view_open(struct view *v, struct loop *loop, const struct mock *mock, const char *title);
void view_close(struct view *v); // accepts a zeroed one
