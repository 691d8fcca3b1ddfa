// SPDX-License-Identifier: MIT
// The built-in mock on a thread, a loop and a port of its own: what blocks on another thread has to reach it by a
// socket.
#pragma once
#include <pthread.h>

#include "mock/mock.h"
#include "net/listen.h"

struct slow {
    struct loop loop;
    struct listener listener;
    struct mock *mock;
    struct message stop;
    struct address address; // 127.0.0.1, a port of the system's choice
    pthread_t thread;
    bool running;
};

// It answers from now on. On failure nothing is left open.
MUSTCHECK enum err slow_start(struct slow *slow);
// Breaks off what is open and ends the thread. Accepts zeroed.
void slow_stop(struct slow *slow);
