// SPDX-License-Identifier: MIT
// The signals that end a verb, as events of its loop.
#pragma once
#include "ev/loop.h"

// SIGINT and SIGTERM are blocked in this thread and those it starts, and make `on_ready` run: it reads a
// struct signalfd_siginfo for each from io->fd. SIGPIPE is ignored. The caller closes `io` (io_close).
MUSTCHECK enum err signals_open(struct loop *loop, struct io *io, void (*on_ready)(struct io *io, unsigned events));
// The same for one more signal.
MUSTCHECK enum err signals_watch(struct loop *loop, struct io *io, int number,
                                 void (*on_ready)(struct io *io, unsigned events));
