// SPDX-License-Identifier: MIT
#include "cmd/notify.h"

#include <stdarg.h>
#include <unistd.h>

#include "base/str.h"
#include "ev/clock.h"

enum { TEXT_MAX = 512 };

// "/path", or "@name" for the abstract namespace, where the first byte is a NUL.
static bool address_of(struct notify *n, const char *where) {
    size_t len = where ? strlen(where) : 0;
    n->to = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (len < 2 || len >= sizeof n->to.sun_path || (where[0] != '/' && where[0] != '@')) {
        return false;
    }
    memcpy(n->to.sun_path, where, len);
    n->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (where[0] == '/'));
    n->to.sun_path[0] = where[0] == '@' ? '\0' : '/';
    return true;
}

// WATCHDOG_PID says which process it is that is watched; without it, this one.
static uint64_t watchdog_ms(void) {
    const char *pid = getenv("WATCHDOG_PID");
    const char *every = getenv("WATCHDOG_USEC");
    uint64_t number = 0;
    if (pid && (parse_u64(str_c(pid), &number) != OK || number != (uint64_t)getpid())) {
        return 0;
    }
    bool wanted = every && parse_u64(str_c(every), &number) == OK && number > 0;
    return wanted ? MAX(number / 2 / 1000, (uint64_t)1) : 0;
}

void notify_open(struct notify *n) {
    *n = (struct notify){.fd = -1};
    if (address_of(n, getenv("NOTIFY_SOCKET"))) {
        n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        n->watchdog_ms = n->fd < 0 ? 0 : watchdog_ms();
    }
}

void notify_close(struct notify *n) {
    if (n->fd >= 0) {
        close(n->fd);
        n->fd = -1;
    }
}

void notify_say(const struct notify *n, const char *format, ...) {
    char text[TEXT_MAX];
    va_list args;
    if (n->fd < 0) {
        return;
    }
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t size = MIN((size_t)MAX(len, 0), sizeof text - 1);
    ssize_t sent = sendto(n->fd, text, size, MSG_NOSIGNAL, (const struct sockaddr *)&n->to, n->to_len);
    (void)sent; // nothing depends on it here
}

void notify_reloading(const struct notify *n) {
    struct clock *clock = clock_monotonic();
    notify_say(n, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock->now_ns(clock) / 1000));
}
