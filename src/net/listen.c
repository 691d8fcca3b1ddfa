// SPDX-License-Identifier: MIT
#include "net/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/log.h"
#include "net/tcp.h"

enum { ACCEPTS_PER_TURN = 64, PAUSE_MS = 100, SPARES_MAX = 8 };

static enum err not_to_be_had(int fd) {
    enum err e = errno == EADDRINUSE ? ERR_FULL : err_from_errno(errno);
    close(fd);
    return e;
}

static enum err bind_socket(struct address *address, bool share, int *result) {
    int on = 1;
    int fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (share) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    }
    if (address->sa.sa_family == AF_INET6) { // [::] means both families, whatever the system's default
        int off = 0;
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (bind(fd, &address->sa, address->len) != 0) {
        return not_to_be_had(fd);
    }
    address->len = sizeof address->v6;
    (void)getsockname(fd, &address->sa, &address->len);
    *result = fd;
    return OK;
}

// Without listening: a client that connected to this socket would be reset when it is closed. bind fails nevertheless
// where somebody listens.
enum err listen_claim(struct address *address) {
    int fd = -1;
    enum err e = bind_socket(address, false, &fd);
    if (e == OK) {
        close(fd);
    }
    return e;
}

static void out_of_files(struct listener *l) {
    if (l->refused_files++ == 0) {
        log_warning("out of file descriptors (or memory): new connections wait. Raise the limit "
                    "(ulimit -n, LimitNOFILE=)");
    }
    timer_set(l->loop, &l->retry, PAUSE_MS);
}

static void accept_some(struct listener *l) {
    int spared = 0;
    timer_clear(&l->retry);
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        if (l->io.fd < 0) {
            return; // closed by the callback
        }
        if (l->may_accept && !l->may_accept(l)) {
            timer_set(l->loop, &l->retry, PAUSE_MS);
            return;
        }
        int fd = accept4(l->io.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            l->on_accept(l, tcp_adopt(l->loop, fd));
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            if (spared++ == SPARES_MAX || !l->spare_files || !l->spare_files(l)) {
                out_of_files(l);
                return;
            }
        } else if (errno == EAGAIN) {
            return;
        } // else the connection died in the backlog (ECONNABORTED): the next one
    }
    loop_defer(l->loop, &l->more);
}

static void on_ready(struct io *io, unsigned events UNUSED) { accept_some(container_of(io, struct listener, io)); }

static void on_retry(struct timer *timer) { accept_some(container_of(timer, struct listener, retry)); }

static void on_more(struct task *task) { accept_some(container_of(task, struct listener, more)); }

enum err listener_open(struct listener *l, struct loop *loop, const struct address *address,
                       void (*on_accept)(struct listener *l, struct conn *c), void *owner) {
    int fd = -1;
    struct address bound = *address;
    *l = (struct listener){.io.fd = -1};
    enum err e = bind_socket(&bound, true, &fd);
    return e == OK ? listener_adopt(l, loop, fd, on_accept, owner) : e;
}

enum err listener_adopt(struct listener *l, struct loop *loop, int take_fd,
                        void (*on_accept)(struct listener *l, struct conn *c), void *owner) {
    int on = 1;
    int lowat = LISTEN_NOTSENT_LOWAT;
    *l = (struct listener){.loop = loop, .on_accept = on_accept, .owner = owner, .io.fd = -1};
    l->retry.on_timer = on_retry;
    l->more.run = on_more;
    (void)setsockopt(take_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(take_fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
    if (listen(take_fd, LISTEN_BACKLOG) != 0) { // of one that listens already: the length of its backlog
        return not_to_be_had(take_fd);
    }
    enum err e = io_open(loop, &l->io, take_fd, IO_READ, on_ready);
    if (e != OK) {
        close(take_fd);
    }
    return e;
}

void listener_close(struct listener *l) {
    if (l->loop) {
        timer_clear(&l->retry);
        task_cancel(&l->more);
        int fd = l->io.fd;
        io_detach(l->loop, &l->io); // another process may have the socket, too: closing alone would leave it in the set
        if (fd >= 0) {
            close(fd);
        }
    }
}

void listener_drain(struct listener *l) {
    if (l->loop && l->io.fd >= 0) {
        l->may_accept = NULL;
        accept_some(l);
    }
    listener_close(l);
}
