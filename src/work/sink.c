// SPDX-License-Identifier: MIT
#include "work/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

enum { LINGER_MS = 5, JOIN_MS = 2 * SINK_LAST_MS };

struct sink {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct buf filling; // under the lock, as all above the blank line
    struct sink_stats stats;
    bool asleep; // somebody has to wake it
    bool reopen;
    bool started; // there is a thread
    bool ending;
    bool ended; // the thread touches nothing any more
    char name[16];

    struct buf writing; // the writer's
    char *path;
    int fd;
    bool whole; // a write of any length is one (a file)
    bool torn;  // what was written last is the beginning of a line
    bool lost;  // the end has come, and nobody reads
    int end_fd; // readable once it is ending
    pthread_t thread;
};

// ---- the writer

static struct timespec after_ms(long ms) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += ms * 1000 * 1000;
    t.tv_sec += t.tv_nsec / (1000 * 1000 * 1000);
    t.tv_nsec %= 1000 * 1000 * 1000;
    return t;
}

// Until it can be written to. False: it is lost.
static bool wait_for_room(struct sink *s) {
    struct pollfd fds[] = {{.fd = s->fd, .events = POLLOUT}, {.fd = s->end_fd, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0) { // only EINTR
    }
    s->lost = s->lost || (!fds[0].revents && poll(fds, 1, SINK_LAST_MS) <= 0);
    return !s->lost;
}

// As many whole lines as are written in one piece; of a longer line a part.
static size_t piece_of(const struct sink *s, struct str text) {
    if (s->whole || text.len <= PIPE_BUF) {
        return text.len;
    }
    const char *last = memrchr(text.ptr, '\n', PIPE_BUF);
    return last ? (size_t)(last + 1 - text.ptr) : PIPE_BUF;
}

static bool write_piece(struct sink *s, struct str piece, size_t *written) {
    ssize_t n = 0;
    do {
        n = wait_for_room(s) ? write(s->fd, piece.ptr, piece.len) : 0;
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    *written = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static uint64_t lines_in(struct str text) {
    uint64_t lines = 0;
    for (size_t i = 0; i < text.len; i++) {
        lines += text.ptr[i] == '\n';
    }
    return lines;
}

// Returns how many lines could not be written.
static uint64_t write_all(struct sink *s, struct str text) {
    size_t written = 0;
    if (s->torn && write_piece(s, STR("\n"), &written)) {
        s->torn = false;
    }
    while (text.len && write_piece(s, str_first(text, piece_of(s, text)), &written)) {
        s->torn = text.ptr[written - 1] != '\n';
        text = str_skip(text, written);
    }
    return lines_in(text);
}

static bool look_at(struct sink *s) {
    struct stat stat;
    s->whole = fstat(s->fd, &stat) == 0 && S_ISREG(stat.st_mode);
    return s->fd >= 0;
}

static int open_path(const char *path) { return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640); }

static bool open_anew(struct sink *s) {
    int fd = s->path ? open_path(s->path) : -1;
    if (fd >= 0) {
        close(s->fd);
        s->fd = fd;
        s->torn = false;
        look_at(s);
    }
    return fd >= 0;
}

// Waits for something to do; false: that was all.
static bool wait_for_work(struct sink *s) {
    while (!s->reopen && !s->ending && buf_len(&s->filling) == 0) {
        s->asleep = true;
        pthread_cond_wait(&s->wake, &s->lock);
        s->asleep = false;
    }
    return s->reopen || buf_len(&s->filling);
}

static void linger(struct sink *s) {
    struct timespec until = after_ms(LINGER_MS);
    while (!s->reopen && !s->ending && pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0) {
    }
}

static void *run(void *context) {
    struct sink *s = context;
    pthread_mutex_lock(&s->lock);
    while (wait_for_work(s)) {
        bool reopen = s->reopen;
        struct buf full = s->filling;
        s->filling = s->writing; // empty
        s->writing = full;
        s->reopen = false;
        pthread_mutex_unlock(&s->lock);
        uint64_t dropped = write_all(s, buf_str(&s->writing)); // to where it was meant to go
        bool opened = reopen && open_anew(s);
        buf_clear(&s->writing);
        pthread_mutex_lock(&s->lock);
        s->stats.dropped += dropped;
        s->stats.reopened += opened;
        s->stats.unopened += reopen && !opened && s->path;
        linger(s);
    }
    s->ended = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

// ---- the outside

static void destroy(struct sink *s) {
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    buf_finish(&s->filling);
    buf_finish(&s->writing);
    if (s->path && s->fd >= 0) {
        close(s->fd);
    }
    if (s->end_fd >= 0) {
        close(s->end_fd);
    }
    free(s->path);
    free(s);
}

// Signals are for the thread that waits for them.
static bool start_thread(struct sink *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int problem = pthread_create(&s->thread, NULL, run, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!problem) {
        pthread_setname_np(s->thread, s->name);
    }
    return !problem;
}

enum err sink_open(const struct sink_options *options, struct sink **sink) {
    struct sink *s = xcalloc(1, sizeof *s);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    buf_init(&s->filling, options->room ? options->room : SINK_ROOM);
    buf_init(&s->writing, options->room ? options->room : SINK_ROOM);
    s->path = options->path ? str_dup(str_c(options->path)) : NULL;
    s->fd = s->path ? open_path(s->path) : options->fd;
    s->end_fd = s->fd >= 0 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    snprintf(s->name, sizeof s->name, "%s", options->name);
    if (!look_at(s) || s->end_fd < 0) {
        int problem = errno;
        destroy(s);
        errno = problem;
        return err_from_errno(problem);
    }
    *sink = s;
    return OK;
}

// False: it hangs in the kernel (a stopped terminal).
static bool wait_for_end(struct sink *s) {
    struct timespec until = after_ms(JOIN_MS);
    int problem = 0;
    s->ending = true;
    pthread_cond_signal(&s->wake);
    while (s->started && !s->ended && !problem) {
        problem = pthread_cond_timedwait(&s->wake, &s->lock, &until);
    }
    return !s->started || s->ended;
}

void sink_close(struct sink *s) {
    if (!s) {
        return;
    }
    uint64_t one = 1;
    ssize_t n = write(s->end_fd, &one, sizeof one);
    (void)n;
    pthread_mutex_lock(&s->lock);
    bool ended = wait_for_end(s);
    bool started = s->started;
    pthread_mutex_unlock(&s->lock);
    if (!ended) {
        pthread_detach(s->thread); // and what it uses is left to it
        return;
    }
    if (started) {
        pthread_join(s->thread, NULL);
    }
    destroy(s);
}

bool sink_put(struct sink *s, struct str line) {
    pthread_mutex_lock(&s->lock);
    s->started = s->started || start_thread(s);
    bool taken = s->started && buf_str_append(&s->filling, line) == OK;
    bool wake = taken && s->asleep;
    s->asleep = s->asleep && !wake; // once is enough
    s->stats.lines += taken;
    s->stats.dropped += !taken;
    pthread_mutex_unlock(&s->lock);
    if (wake) {
        pthread_cond_signal(&s->wake);
    }
    return taken;
}

void sink_reopen(struct sink *s) {
    pthread_mutex_lock(&s->lock);
    s->reopen = true;
    s->started = s->started || start_thread(s);
    pthread_mutex_unlock(&s->lock);
    pthread_cond_signal(&s->wake);
}

struct sink_stats sink_stats(struct sink *s) {
    pthread_mutex_lock(&s->lock);
    struct sink_stats stats = s->stats;
    pthread_mutex_unlock(&s->lock);
    return stats;
}
