// SPDX-License-Identifier: MIT
#include "net/tcp.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"

enum { TOGETHER_MAX = 2048 };

struct tcp {
    struct conn conn;
    struct io io;
    union {
        struct {
            uint64_t written; // bytes handed to the kernel
            uint64_t marked;  // `written` at the last conn_mark
        };
        struct grave grave; // once closed; io.fd stays -1 for events that were polled before
    };
};

static struct tcp *tcp_of(struct conn *c) { return container_of(c, struct tcp, conn); }

static void on_ready(struct io *io, unsigned events) {
    struct tcp *t = container_of(io, struct tcp, io);
    _Static_assert((int)IO_READ == CONN_READABLE && (int)IO_WRITE == CONN_WRITABLE && (int)IO_HUP == CONN_HUP,
                   "descriptor events are conn events");
    conn_emit(&t->conn, events);
}

static enum err tcp_read(struct conn *c, void *into, size_t room, size_t *n) {
    struct tcp *t = tcp_of(c);
    *n = 0;
    for (;;) {
        ssize_t got = recv(t->io.fd, into, room, 0);
        if (LIKELY(got > 0)) {
            *n = (size_t)got;
            return OK;
        }
        if (got == 0) {
            return ERR_EOF;
        }
        if (errno != EINTR) {
            return err_from_errno(errno);
        }
    }
}

// A vector of small parts (a chunk's head, an event, a line end) costs the kernel more than copying them together.
static ssize_t send_parts(int fd, const struct iovec *v, int count, size_t all) {
    char together[TOGETHER_MAX];
    if (count == 1) {
        return send(fd, v[0].iov_base, v[0].iov_len, MSG_NOSIGNAL);
    }
    if (all <= sizeof together) {
        char *at = together;
        for (int i = 0; i < count; i++) {
            at = mempcpy(at, v[i].iov_base, v[i].iov_len);
        }
        return send(fd, together, all, MSG_NOSIGNAL);
    }
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)v, .msg_iovlen = (size_t)count};
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static enum err tcp_writev(struct conn *c, const struct iovec *v, int count, size_t *written) {
    struct tcp *t = tcp_of(c);
    size_t all = 0;
    for (int i = 0; i < count; i++) {
        all += v[i].iov_len;
    }
    ssize_t sent;
    do {
        sent = send_parts(t->io.fd, v, count, all);
    } while (sent < 0 && errno == EINTR);
    *written = sent > 0 ? (size_t)sent : 0;
    t->written += *written;
    if (UNLIKELY(*written < all)) {
        if (sent < 0 && errno != EAGAIN) {
            return err_from_errno(errno);
        }
        io_want_write(c->loop, &t->io);
    }
    return OK;
}

static void tcp_shutdown(struct conn *c) { (void)shutdown(tcp_of(c)->io.fd, SHUT_WR); }

static void tcp_mark(struct conn *c) { tcp_of(c)->marked = tcp_of(c)->written; }

// SIOCOUTQ is what the peer's TCP has not acknowledged; it keeps its value when a reset has come.
static bool tcp_untouched(struct conn *c) {
    struct tcp *t = tcp_of(c);
    int unacknowledged = 0;
    return t->io.fd >= 0 && ioctl(t->io.fd, SIOCOUTQ, &unacknowledged) == 0 &&
           (uint64_t)unacknowledged >= t->written - t->marked;
}

static bool tcp_resent(struct conn *c) {
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    int fd = tcp_of(c)->io.fd;
    return fd >= 0 && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_total_retrans > 0;
}

static void bury(struct grave *grave) { free(container_of(grave, struct tcp, grave)); }

static void tcp_close(struct conn *c, bool abort) {
    struct tcp *t = tcp_of(c);
    if (t->io.fd < 0) {
        return;
    }
    if (abort) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(t->io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    if (t->io.on_ready) {
        io_close(c->loop, &t->io);
    } else { // never watched
        close(t->io.fd);
        t->io.fd = -1;
    }
    c->owner = NULL;
    loop_bury(c->loop, &t->grave, bury);
}

static bool tcp_peer(const struct conn *c, struct address *a) {
    const struct tcp *t = container_of(c, const struct tcp, conn);
    a->len = sizeof a->v6;
    return getpeername(t->io.fd, &a->sa, &a->len) == 0;
}

static const struct conn_ops tcp_ops = {
    .read = tcp_read,
    .writev = tcp_writev,
    .shutdown = tcp_shutdown,
    .mark = tcp_mark,
    .untouched = tcp_untouched,
    .resent = tcp_resent,
    .close = tcp_close,
    .peer = tcp_peer,
};

struct conn *tcp_adopt(struct loop *loop, int fd) {
    struct tcp *t = xcalloc(1, sizeof *t);
    t->conn = (struct conn){.ops = &tcp_ops, .loop = loop};
    t->io.fd = fd;
    return &t->conn;
}

enum err tcp_watch(struct conn *c) {
    struct tcp *t = tcp_of(c);
    int fd = t->io.fd;
    if (fd < 0) {
        return OK; // closed before it got here
    }
    enum err e = io_open(c->loop, &t->io, fd, IO_READ | t->io.armed, on_ready); // a write may have fallen short
    if (e != OK) { // whoever owns it reads the end, and closes
        t->io = (struct io){.fd = fd};
        (void)shutdown(fd, SHUT_RDWR);
        conn_emit(c, CONN_READABLE | CONN_HUP);
    }
    return e;
}

enum err tcp_connect(struct loop *loop, const struct address *to, struct conn **c) {
    int fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, &to->sa, to->len) != 0 && errno != EINPROGRESS) {
        enum err e = err_from_errno(errno);
        close(fd);
        return e;
    }
    struct conn *made = tcp_adopt(loop, fd);
    // Write events from the start: connecting needs one, and none comes later unless a write fell short.
    enum err e = io_open(loop, &tcp_of(made)->io, fd, IO_READ | IO_WRITE, on_ready);
    if (e != OK) {
        tcp_of(made)->io = (struct io){.fd = fd};
        conn_close(made);
        return e;
    }
    *c = made;
    return OK;
}

enum err tcp_connect_result(struct conn *c) {
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(tcp_of(c)->io.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) {
        return err_from_errno(errno);
    }
    return err_from_errno(error);
}
