// SPDX-License-Identifier: MIT
//   RUNNING --SIGTERM, keeper_drain, a new thaw serves--> DRAINING --SIGTERM--> STOPPING
#include "cmd/keeper.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cmd/args.h"
#include "cmd/lookout.h"
#include "cmd/signals.h"

enum keeper_state { KEEPER_RUNNING, KEEPER_DRAINING, KEEPER_STOPPING };

// What another thread asks for: posted once until it is delivered.
struct wish {
    struct message message;
    struct keeper *keeper;
    atomic_bool posted;
    void (*grant)(struct keeper *k);
};

struct keeper {
    struct keeper_options options;
    struct loop loop;
    pthread_t thread;
    enum keeper_state state;
    bool stopped; // its thread has ended
    struct io signals;
    struct notify notify;
    struct reload reload;
    struct upgrade upgrade;
    struct lookout lookout;
    struct wish reload_wish, drain_wish, end_wish;
};

static void set_state(struct keeper *k, enum keeper_state state) {
    assert((unsigned)state == (unsigned)k->state + 1);
    k->state = state;
    if (state == KEEPER_DRAINING) {
        upgrade_close(&k->upgrade);
        crew_drain(k->options.crew);
    } else {
        crew_stop(k->options.crew);
    }
}

static void say_serving(struct keeper *k) {
    char text[ADDRESS_TEXT];
    notify_say(&k->notify, "READY=1\nSTATUS=serving on http://%s", address_format(k->options.listen, text));
}

// ---- what there is to do

static void reload(struct keeper *k) {
    if (k->state != KEEPER_RUNNING) {
        log_info("the configuration is not read again: this thaw is leaving");
        return;
    }
    notify_reloading(&k->notify);
    reload_now(&k->reload);
    say_serving(k);
}

static void drain(struct keeper *k) {
    if (k->state == KEEPER_RUNNING) {
        log_info("taking no new calls, finishing the running ones; a second signal stops at once");
        notify_say(&k->notify, "STOPPING=1\nSTATUS=finishing the running calls");
        set_state(k, KEEPER_DRAINING);
    }
}

static void leave(struct keeper *k) {
    switch (k->state) {
    case KEEPER_RUNNING: drain(k); break;
    case KEEPER_DRAINING: set_state(k, KEEPER_STOPPING); break;
    case KEEPER_STOPPING: break;
    }
}

static void reopen(struct keeper *k) {
    if (k->options.reopen) {
        k->options.reopen(k->options.owner);
    }
}

static void hang_up(struct keeper *k) {
    reopen(k);
    reload(k);
}

static void upgrade(struct keeper *k) {
    if (k->state == KEEPER_RUNNING) {
        upgrade_now(&k->upgrade);
    }
}

// systemd takes the new process for the service's from now on, and that one says the rest.
static void on_serving(void *owner, pid_t pid) {
    struct keeper *k = owner;
    log_info("the new thaw serves (process %d): finishing the running calls, then leaving", (int)pid);
    notify_say(&k->notify, "MAINPID=%d", (int)pid);
    set_state(k, KEEPER_DRAINING);
}

static void apply(void *owner, struct blueprint *blueprint) {
    struct keeper *k = owner;
    if (k->state == KEEPER_RUNNING) {
        crew_reload(k->options.crew, blueprint);
        if (k->options.reloaded) {
            k->options.reloaded(k->options.owner, blueprint->config);
        }
    }
}

static enum err make(void *owner, struct blueprint **blueprint, char *problem, size_t size) {
    struct keeper *k = owner;
    return k->options.make(k->options.owner, blueprint, problem, size);
}

// ---- signals and wishes

static const struct {
    int number;
    void (*act)(struct keeper *k);
} acts[] = {{SIGINT, leave}, {SIGTERM, leave}, {SIGHUP, hang_up}, {SIGUSR1, reopen}, {SIGUSR2, upgrade}};

static void on_signal(struct io *io, unsigned events UNUSED) {
    struct keeper *k = container_of(io, struct keeper, signals);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof info) == sizeof info) {
        for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
            if ((int)info.ssi_signo == acts[i].number) {
                acts[i].act(k);
            }
        }
    }
}

static void deliver_wish(struct message *message) {
    struct wish *w = container_of(message, struct wish, message);
    atomic_store(&w->posted, false);
    w->grant(w->keeper);
}

static void wish_init(struct wish *w, struct keeper *k, void (*grant)(struct keeper *k)) {
    w->message.deliver = deliver_wish;
    w->keeper = k;
    w->grant = grant;
}

static void wish_post(struct wish *w) {
    if (!atomic_exchange(&w->posted, true)) {
        loop_post(&w->keeper->loop, &w->message);
    }
}

void keeper_reload(struct keeper *k) { wish_post(&k->reload_wish); }
void keeper_drain(struct keeper *k) { wish_post(&k->drain_wish); }

// ---- life

static void end(struct keeper *k) { loop_stop(&k->loop); }

static struct loop *loop_of(void *owner, unsigned i) { return crew_loop(((struct keeper *)owner)->options.crew, i); }

static void open_parts(struct keeper *k) {
    struct commons *commons = crew_commons(k->options.crew);
    struct reload_options reload_options = {
        .loop = &k->loop,
        .file = k->options.config_file,
        .seen = k->options.config_seen,
        .start = k->options.start->config,
        .make = make,
        .apply = apply,
        .owner = k,
        .counts = &commons->reloads,
    };
    struct upgrade_options upgrade_options = {
        .loop = &k->loop,
        .crew = k->options.crew,
        .admin = k->options.admin,
        .config = k->options.start->config,
        .on_serving = on_serving,
        .owner = k,
    };
    struct lookout_options lookout_options = {
        .loop = &k->loop,
        .count = crew_count(k->options.crew),
        .watched = loop_of,
        .owner = k,
        .notify = &k->notify,
        .stalls = &commons->stalls,
    };
    notify_open(&k->notify);
    reload_open(&k->reload, &reload_options);
    upgrade_open(&k->upgrade, &upgrade_options);
    lookout_open(&k->lookout, &lookout_options);
}

static void close_parts(struct keeper *k) {
    lookout_close(&k->lookout);
    upgrade_close(&k->upgrade);
    reload_close(&k->reload);
    notify_close(&k->notify);
    io_close(&k->loop, &k->signals);
    loop_finish(&k->loop);
    free(k);
}

static void *run(void *arg) {
    struct keeper *k = arg;
    say_serving(k);
    loop_run(&k->loop);
    return NULL;
}

void keeper_prepare(void) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
        if (acts[i].act != leave) {
            sigaddset(&set, acts[i].number);
        }
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int keeper_open(struct keeper **keeper, const struct keeper_options *options) {
    int numbers[ARRAY_LEN(acts)];
    struct keeper *k = xcalloc(1, sizeof *k);
    for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
        numbers[i] = acts[i].number;
    }
    *keeper = NULL;
    k->options = *options;
    wish_init(&k->reload_wish, k, reload);
    wish_init(&k->drain_wish, k, drain);
    wish_init(&k->end_wish, k, end);
    enum err e = loop_init(&k->loop, &(struct loop_options){.clock = NULL});
    if (e == OK && (e = signals_watch(&k->loop, &k->signals, numbers, ARRAY_LEN(numbers), on_signal)) != OK) {
        loop_finish(&k->loop);
    }
    if (e != OK) {
        fprintf(stderr, "thaw serve: signals cannot be watched: %s\n", strerror(errno));
        free(k);
        return EXIT_UNREACHABLE;
    }
    open_parts(k);
    int problem = pthread_create(&k->thread, NULL, run, k);
    if (problem) {
        fprintf(stderr, "thaw serve: no thread for signals: %s\n", strerror(problem));
        close_parts(k);
        return EXIT_UNREACHABLE;
    }
    *keeper = k;
    return EXIT_FINE;
}

void keeper_stop(struct keeper *k) {
    if (k && !k->stopped) {
        wish_post(&k->end_wish);
        pthread_join(k->thread, NULL);
        k->stopped = true;
    }
}

void keeper_close(struct keeper *k) {
    keeper_stop(k);
    if (k) {
        close_parts(k);
    }
}
