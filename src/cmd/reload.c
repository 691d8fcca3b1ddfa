// SPDX-License-Identifier: MIT
#include "cmd/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "ev/clock.h"

// ---- what is in the file

static bool read_file(const char *file, struct buf *out) {
    struct stat s;
    size_t n = 0;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool fine = fd >= 0 && fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
    do {
        enum { STEP = 16 << 10 };
        fine = fine && buf_reserve(out, STEP) == OK;
        ssize_t got = fine ? read(fd, buf_tail(out), STEP) : -1;
        fine = got >= 0;
        n = fine ? (size_t)got : 0;
        buf_added(out, n);
    } while (n > 0);
    if (fd >= 0) {
        close(fd);
    }
    return fine;
}

struct digest reload_digest(const char *file) {
    struct digest digest = {{0}};
    struct buf text;
    buf_init(&text, CONFIG_FILE_MAX);
    if (file && read_file(file, &text)) {
        digest = digest_sha256(buf_str(&text));
    }
    buf_finish(&text);
    return digest;
}

// ---- reading again

static void count(struct reload *r, bool accepted) {
    struct reload_counts *c = r->options.counts;
    count_add(accepted ? &c->accepted : &c->refused, 1);
    count_set(&c->last_refused, !accepted);
    count_set(&c->last_unix_s, clock_unix_s());
}

static void accept_it(struct reload *r, struct blueprint *blueprint) {
    const struct config *c = blueprint->config;
    struct config_problem names;
    if (config_needs_restart(r->options.start, c, &names)) {
        log_warning("only a restart or an upgrade (SIGUSR2) takes over what is new of %s; all else is", names.text);
    }
    log_info("configuration read again: %u upstream%s, %u model%s", c->upstream_count,
             c->upstream_count == 1 ? "" : "s", c->model_count, c->model_count == 1 ? "" : "s");
    r->options.apply(r->options.owner, blueprint);
    count(r, true);
}

static void read_again(struct reload *r) {
    char problem[sizeof((struct config_problem *)0)->text];
    struct blueprint *blueprint = NULL;
    if (r->options.make(r->options.owner, &blueprint, problem, sizeof problem) == OK) {
        accept_it(r, blueprint);
    } else {
        log_warning("the configuration was refused, the old one stays: %s", problem);
        count(r, false);
    }
    blueprint_unref(blueprint);
}

void reload_now(struct reload *r) {
    r->seen = reload_digest(r->options.file);
    read_again(r);
}

// ---- the file's folder

static int watch_folder_of(struct reload *r, const char *file) {
    char folder[PATH_MAX] = ".";
    const char *slash = strrchr(file, '/');
    if (slash) { // "/thaw.yaml" is in "/"
        snprintf(folder, sizeof folder, "%.*s", (int)MAX(slash - file, 1), file);
    }
    return inotify_add_watch(r->changes.fd, folder,
                             IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR | IN_EXCL_UNLINK);
}

// Where a link leads may have changed; a watch that is there already is found again.
static void watch(struct reload *r) {
    char target[PATH_MAX];
    int before = r->target;
    r->folder = watch_folder_of(r, r->options.file);
    r->target = realpath(r->options.file, target) ? watch_folder_of(r, target) : -1;
    if (before >= 0 && before != r->target && before != r->folder) {
        (void)inotify_rm_watch(r->changes.fd, before); // it may be gone with its folder
    }
}

static void on_settled(struct timer *timer) {
    static const struct digest none = {{0}};
    struct reload *r = container_of(timer, struct reload, settle);
    watch(r);
    struct digest now = reload_digest(r->options.file);
    // One that is just being replaced is not there: its successor makes itself heard.
    if (memcmp(&now, &none, sizeof now) != 0 && memcmp(&now, &r->seen, sizeof now) != 0) {
        r->seen = now;
        read_again(r);
    }
}

static void on_changes(struct io *io, unsigned events UNUSED) {
    struct reload *r = container_of(io, struct reload, changes);
    char room[4096];
    while (read(io->fd, room, sizeof room) > 0) {
    }
    if (!timer_is_set(&r->settle)) {
        timer_set(r->options.loop, &r->settle, RELOAD_SETTLE_MS);
    }
}

static bool start_watching(struct reload *r) {
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    if (io_open(r->options.loop, &r->changes, fd, IO_READ, on_changes) != OK) {
        close(fd);
        return false;
    }
    watch(r);
    return r->folder >= 0;
}

void reload_open(struct reload *r, const struct reload_options *options) {
    *r = (struct reload){.options = *options, .folder = -1, .target = -1, .changes.fd = -1, .seen = options->seen};
    r->settle.on_timer = on_settled;
    if (options->file && !start_watching(r)) {
        log_warning("changes of %s go unseen (%s): SIGHUP has it read again", options->file, strerror(errno));
    }
    if (r->folder >= 0) {
        timer_set(options->loop, &r->settle, 0); // it may have changed since it was read
    }
}

void reload_close(struct reload *r) {
    timer_clear(&r->settle);
    if (r->changes.on_ready) {
        io_close(r->options.loop, &r->changes);
    }
}
