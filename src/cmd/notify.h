// SPDX-License-Identifier: MIT
// What systemd is told (sd_notify(3), its protocol by hand): datagrams of VARIABLE=value lines to the socket that
// NOTIFY_SOCKET names. Without that variable nothing happens.
#pragma once
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/attr.h"

struct notify {
    int fd; // -1: nobody wants to know
    struct sockaddr_un to;
    socklen_t to_len;
    uint64_t watchdog_ms; // how often WATCHDOG=1 is wanted, at half of what WATCHDOG_USEC allows; 0: never
};

// Reads the environment, which stays as it is.
void notify_open(struct notify *n);
void notify_close(struct notify *n); // accepts a closed one
// "READY=1\nSTATUS=..."; a socket that takes nothing is not waited for.
void PRINTF(2, 3) notify_say(const struct notify *n, const char *format, ...);
// RELOADING=1, with the time that systemd wants beside it.
void notify_reloading(const struct notify *n);
