// SPDX-License-Identifier: MIT
#include "cmd/signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

typedef void on_signals(struct io *io, unsigned events);

static enum err open_set(struct loop *loop, struct io *io, const sigset_t *set, on_signals *on_ready) {
    pthread_sigmask(SIG_BLOCK, set, NULL);
    int fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return ERR_SYS;
    }
    enum err e = io_open(loop, io, fd, IO_READ, on_ready);
    if (e != OK) {
        close(fd);
    }
    return e;
}

enum err signals_open(struct loop *loop, struct io *io, void (*on_ready)(struct io *io, unsigned events)) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    return open_set(loop, io, &set, on_ready);
}

enum err signals_watch(struct loop *loop, struct io *io, int number, on_signals *on_ready) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    return open_set(loop, io, &set, on_ready);
}
