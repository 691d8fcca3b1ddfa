// SPDX-License-Identifier: MIT
#include "cmd/signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum err signals_watch(struct loop *loop, struct io *io, const int *numbers, size_t count,
                       void (*on_ready)(struct io *io, unsigned events)) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < count; i++) {
        sigaddset(&set, numbers[i]);
    }
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

enum err signals_open(struct loop *loop, struct io *io, void (*on_ready)(struct io *io, unsigned events)) {
    static const int ends[] = {SIGINT, SIGTERM};
    return signals_watch(loop, io, ends, ARRAY_LEN(ends), on_ready);
}
