// SPDX-License-Identifier: MIT
// Signals as events of a loop.
#pragma once
#include "ev/loop.h"

// SIGINT and SIGTERM are blocked in this thread and those it starts, and make `on_ready` run: it reads a
// struct signalfd_siginfo for each from io->fd. SIGPIPE is ignored. The caller closes `io` (io_close).
MUSTCHECK enum err signals_open(struct loop *loop, struct io *io, void (*on_ready)(struct io *io, unsigned events));
// The same for others.
MUSTCHECK enum err signals_watch(struct loop *loop, struct io *io, const int *numbers, size_t count,
                                 void (*on_ready)(struct io *io, unsigned events));
