// SPDX-License-Identifier: MIT
#include "cmd/slow.h"

#include "net/tcp.h"

static void on_accept(struct listener *l, struct conn *c) {
    mock_accept(l->owner, c);
    tcp_watch(c);
}

static void deliver_stop(struct message *m) { loop_stop(&container_of(m, struct slow, stop)->loop); }

static void *run(void *context) {
    struct slow *slow = context;
    loop_run(&slow->loop);
    return NULL;
}

static enum err open_all(struct slow *slow) {
    enum err e = address_parse(STR("127.0.0.1"), 0, &slow->address);
    e = e == OK ? listen_claim(&slow->address) : e;
    slow->mock = mock_create(&slow->loop, &(struct mock_options){.seed = 0});
    e = e == OK ? listener_open(&slow->listener, &slow->loop, &slow->address, on_accept, slow->mock) : e;
    if (e == OK && pthread_create(&slow->thread, NULL, run, slow) != 0) {
        e = ERR_SYS;
    }
    slow->running = e == OK;
    return e;
}

enum err slow_start(struct slow *slow) {
    *slow = (struct slow){.listener.io.fd = -1, .stop.deliver = deliver_stop};
    enum err e = loop_init(&slow->loop, &(struct loop_options){.pace_us = 0}); // it tells the time: not paced
    e = e == OK ? open_all(slow) : e;
    if (e != OK) {
        slow_stop(slow);
    }
    return e;
}

void slow_stop(struct slow *slow) {
    if (slow->running) {
        loop_post(&slow->loop, &slow->stop);
        pthread_join(slow->thread, NULL);
    }
    if (slow->mock) {
        listener_close(&slow->listener);
        mock_destroy(slow->mock);
        loop_finish(&slow->loop);
    }
    slow->mock = NULL;
    slow->running = false;
}
