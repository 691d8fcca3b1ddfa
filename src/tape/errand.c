// SPDX-License-Identifier: MIT
#include "tape/errand.h"

static void do_it(struct errand *e, struct shelf *there) {
    struct tape *t = NULL;
    e->found = shelf_find(there, str_c(e->id.text), &t, &e->where);
    if (e->found != SHELF_HERE) {
        return;
    }
    if (!e->anybody && !shelf_allows(there, t, &e->tenant)) {
        e->found = SHELF_UNKNOWN;
        return;
    }
    tape_ref(t);
    e->run(e, there, t);
    tape_unref(t);
}

static void deliver_back(struct message *message) {
    struct errand *e = container_of(message, struct errand, message);
    if (e->all->closing) {
        e->destroy(e);
    } else {
        e->on_back(e);
    }
}

static void deliver_there(struct message *message) {
    struct errand *e = container_of(message, struct errand, message);
    if (e->all->closing) {
        e->destroy(e);
        return;
    }
    do_it(e, e->all->shelves[e->where]);
    e->message.deliver = deliver_back;
    loop_post(e->all->shelves[e->home]->loop, &e->message);
}

void errand_send(struct shelf *home, struct errand *e) {
    e->all = home->all;
    e->home = home->number;
    do_it(e, home);
    if (e->found == SHELF_ELSEWHERE && e->all->closing) {
        e->destroy(e);
    } else if (e->found == SHELF_ELSEWHERE) {
        e->message.deliver = deliver_there;
        loop_post(e->all->shelves[e->where]->loop, &e->message);
    } else {
        e->on_back(e);
    }
}
