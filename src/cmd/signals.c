// SPDX-License-Identifier: MIT
#include "cmd/signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum err signals_open(struct loop *loop, struct io *io, void (*on_ready)(struct io *io, unsigned events)) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return ERR_SYS;
    }
    enum err e = io_open(loop, io, fd, IO_READ, on_ready);
    if (e != OK) {
        close(fd);
    }
    return e;
}
