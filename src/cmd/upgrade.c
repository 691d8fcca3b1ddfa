// SPDX-License-Identifier: MIT
//   NONE --upgrade_now--> ASKED --every loop knows--> STARTED --it serves--> DONE
//    ^                                                   |
//    +------ it could not be started, or ended first ----+
#include "cmd/upgrade.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/args.h"

#define INHERIT "THAW_INHERIT"

enum { FIRST_FD = 3, PATIENCE_MS = 60 * 1000, COMMAND_LINE_MAX = 1 << 20, WORDS_MAX = 4096 };

static const char *const told[] = {INHERIT, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"};

// ---- the new one

static bool option_of(int fd, int name) {
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 && value;
}

static int adopt(int fd) {
    if (!option_of(fd, SO_ACCEPTCONN)) {
        fprintf(stderr, "thaw serve: the inherited descriptor %d is no listening socket\n", fd);
        return EXIT_USAGE;
    }
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return EXIT_FINE;
}

// "SOCKETS ADMINS LISTEN ADMIN": from FIRST_FD the sockets of LISTEN, that of ADMIN (or none), the pipe.
static int take_upgrade(struct inherited *in) {
    struct str rest = str_c(in->text);
    struct str words[4] = {{NULL, 0}};
    uint64_t sockets = 0;
    uint64_t admins = 0;
    int wrong = EXIT_FINE;
    for (size_t i = 0; i < ARRAY_LEN(words) && str_split(&rest, ' ', &words[i]); i++) {
    }
    if (parse_u64(words[0], &sockets) != OK || parse_u64(words[1], &admins) != OK || admins > 1 || sockets == 0 ||
        sockets > CREW_SOCKETS_MAX || !words[3].ptr) {
        fprintf(stderr, "thaw serve: " INHERIT " is not for people to set, and not as thaw sets it\n");
        return EXIT_USAGE;
    }
    int fd = FIRST_FD;
    in->upgrade = true;
    in->listen = words[2];
    in->admin_text = words[3];
    while (in->socket_count < sockets) {
        in->sockets[in->socket_count++] = fd++;
    }
    in->admin = admins ? fd++ : -1;
    in->tell = fd;
    (void)fcntl(in->tell, F_SETFD, FD_CLOEXEC);
    for (fd = FIRST_FD; fd < in->tell && !wrong; fd++) {
        wrong = adopt(fd);
    }
    return wrong;
}

// sd_listen_fds(3); one that is called "admin" is the admin's.
static int take_activation(struct inherited *in) {
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    const char *name_list = getenv("LISTEN_FDNAMES");
    struct str names = str_c(name_list ? name_list : "");
    uint64_t n = 0;
    int wrong = EXIT_FINE;
    if (!pid || !count || parse_u64(str_c(pid), &n) != OK || n != (uint64_t)getpid() ||
        parse_u64(str_c(count), &n) != OK) {
        return EXIT_FINE; // meant for another process
    }
    for (int fd = FIRST_FD; fd < FIRST_FD + (int)MIN(n, (uint64_t)CREW_SOCKETS_MAX) && !wrong; fd++) {
        struct str name = {NULL, 0};
        bool named = str_split(&names, ':', &name);
        wrong = adopt(fd);
        if (named && str_eq(name, STR("admin"))) {
            in->admin = fd;
        } else {
            in->sockets[in->socket_count++] = fd;
        }
    }
    return wrong;
}

int inherit_take(struct inherited *in) {
    *in = (struct inherited){.admin = -1, .tell = -1};
    const char *text = getenv(INHERIT);
    in->text = text ? str_dup(str_c(text)) : NULL;
    int wrong = text ? take_upgrade(in) : take_activation(in);
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        unsetenv(told[i]);
    }
    return wrong;
}

void inherit_match(struct inherited *in, const struct config *config, unsigned workers) {
    if (in->upgrade && !str_eq(in->listen, config->listen)) {
        while (in->socket_count) {
            close(in->sockets[--in->socket_count]);
        }
    }
    if (in->upgrade && in->admin >= 0 && !str_eq(in->admin_text, config->admin)) {
        close(in->admin);
        in->admin = -1;
    }
    unsigned own = in->socket_count;
    bool alone = own && !option_of(in->sockets[0], SO_REUSEPORT);
    for (unsigned i = 0; alone && in->socket_count < MIN(workers, (unsigned)CREW_SOCKETS_MAX); i++) {
        int fd = fcntl(in->sockets[i % own], F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            return; // those who get none have nothing to do
        }
        in->sockets[in->socket_count++] = fd;
    }
}

struct address inherit_address(const struct inherited *in) {
    struct address address = {.len = sizeof address.v6};
    (void)getsockname(in->sockets[0], &address.sa, &address.len);
    return address;
}

void inherit_tell(struct inherited *in) {
    if (in->tell >= 0) {
        ssize_t n = write(in->tell, "1", 1);
        (void)n; // then it is gone already
        close(in->tell);
        in->tell = -1;
    }
}

void inherit_finish(struct inherited *in) {
    free(in->text);
    in->text = NULL;
}

// ---- the old one

static void set_state(struct upgrade *u, enum upgrade_state state) {
    assert(state == UPGRADE_NONE || (unsigned)state == (unsigned)u->state + 1);
    u->state = state;
}

// Words of NUL-ended text, with a NULL behind them.
static char **words_of(char *text, size_t len) {
    char **words = xcalloc(WORDS_MAX + 1, sizeof *words);
    size_t n = 0;
    for (char *at = text; at < text + len && n < WORDS_MAX; at += strlen(at) + 1) {
        words[n++] = at;
    }
    return words;
}

// As this process was started.
static char **command_line(struct buf *room) {
    ssize_t n = 1;
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    buf_init(room, COMMAND_LINE_MAX);
    while (fd >= 0 && n > 0 && buf_reserve(room, 4096) == OK) {
        n = read(fd, buf_tail(room), 4096);
        buf_added(room, (size_t)MAX(n, 0));
    }
    if (fd >= 0) {
        close(fd);
    }
    struct str text = buf_str(room);
    bool whole = n == 0 && text.len && text.ptr[text.len - 1] == '\0';
    return whole ? words_of(room->ptr + room->start, text.len) : NULL;
}

static bool is_told(const char *variable) {
    static const char watchdog[] = "WATCHDOG_PID"; // it is the new one's turn
    size_t len = strcspn(variable, "=");
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        if (strlen(told[i]) == len && memcmp(variable, told[i], len) == 0) {
            return true;
        }
    }
    return strlen(watchdog) == len && memcmp(variable, watchdog, len) == 0;
}

// The environment with `more` in place of what this process was told.
static char **environment(char *more) {
    size_t n = 0;
    for (char **v = environ; *v; v++) {
        n++;
    }
    char **all = xcalloc(n + 2, sizeof *all);
    n = 0;
    for (char **v = environ; *v; v++) {
        if (!is_told(*v)) {
            all[n++] = *v;
        }
    }
    all[n] = more;
    return all;
}

// Descriptors FIRST_FD and on of the new process. Copies beyond them, so that none is in the way of another.
static int spawn(pid_t *pid, char **argv, char **env, const int *fds, unsigned count) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, pipe_signal;
    int copies[CREW_SOCKETS_MAX + 2];
    unsigned copied = 0;
    int problem = 0;
    sigemptyset(&none);
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &pipe_signal);
    for (unsigned i = 0; i < count && !problem; i++) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST_FD + (int)count);
        problem = copy < 0 ? errno : posix_spawn_file_actions_adddup2(&actions, copy, FIRST_FD + (int)i);
        if (copy >= 0) {
            copies[copied++] = copy;
        }
    }
    problem = problem ? problem : posix_spawnp(pid, argv[0], &actions, &attributes, argv, env);
    while (copied) {
        close(copies[--copied]);
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return problem;
}

static int start(struct upgrade *u, int tell) {
    int fds[CREW_SOCKETS_MAX + 2];
    char told_it[2048];
    struct buf room;
    unsigned sockets = crew_sockets(u->options.crew, fds);
    unsigned count = sockets;
    if (u->options.admin >= 0) {
        fds[count++] = u->options.admin;
    }
    fds[count++] = tell;
    snprintf(told_it, sizeof told_it, INHERIT "=%u %d %.*s %.*s", sockets, u->options.admin >= 0,
             STR_ARG(u->options.config->listen), STR_ARG(u->options.config->admin));
    char **argv = command_line(&room);
    char **env = environment(told_it);
    int problem = argv ? spawn(&u->pid, argv, env, fds, count) : EIO;
    free(argv);
    free(env);
    buf_finish(&room);
    return problem;
}

static void give_up(struct upgrade *u) {
    int status = 0;
    timer_clear(&u->patience);
    io_close(u->options.loop, &u->said);
    kill(u->pid, SIGKILL); // nothing to one that has exited
    while (waitpid(u->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status)) {
        log_error("the new thaw (process %d) ended with exit code %d before it served: this one goes on", (int)u->pid,
                  WEXITSTATUS(status));
    } else {
        log_error("the new thaw (process %d) did not come to serve: this one goes on", (int)u->pid);
    }
    set_state(u, UPGRADE_NONE);
}

static void on_patience(struct timer *timer) { give_up(container_of(timer, struct upgrade, patience)); }

static void on_said(struct io *io, unsigned events UNUSED) {
    struct upgrade *u = container_of(io, struct upgrade, said);
    char byte = 0;
    ssize_t n = read(io->fd, &byte, 1);
    if (n < 0) {
        return; // not yet
    }
    if (n == 0) {
        give_up(u);
        return;
    }
    timer_clear(&u->patience);
    io_close(u->options.loop, io);
    set_state(u, UPGRADE_DONE);
    u->options.on_serving(u->options.owner, u->pid);
}

static void deliver_aware(struct message *message) {
    struct upgrade *u = container_of(message, struct upgrade, aware);
    int ends[2] = {-1, -1};
    int problem = pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0 ? start(u, ends[1]) : errno;
    crew_share_files(u->options.crew, false, NULL, NULL); // posix_spawn returns behind the new one's exec
    if (ends[1] >= 0) {
        close(ends[1]);
    }
    if (problem) {
        log_error("the new thaw could not be started: %s; this one goes on", strerror(problem));
        set_state(u, UPGRADE_NONE);
        if (ends[0] >= 0) {
            close(ends[0]);
        }
        return;
    }
    set_state(u, UPGRADE_STARTED);
    timer_set(u->options.loop, &u->patience, PATIENCE_MS);
    if (io_open(u->options.loop, &u->said, ends[0], IO_READ, on_said) != OK) {
        close(ends[0]);
        give_up(u);
    }
}

void upgrade_open(struct upgrade *u, const struct upgrade_options *options) {
    *u = (struct upgrade){.options = *options, .said.fd = -1, .aware.deliver = deliver_aware};
    u->patience.on_timer = on_patience;
}

void upgrade_close(struct upgrade *u) {
    if (u->state == UPGRADE_STARTED) {
        give_up(u);
    }
}

void upgrade_now(struct upgrade *u) {
    if (u->state != UPGRADE_NONE) {
        log_info("a new thaw is being started already");
    } else if (getpid() == 1) {
        log_error("no upgrade: this is process 1, whose end is that of its container. Start a new container instead");
    } else {
        log_info("starting the new thaw");
        set_state(u, UPGRADE_ASKED);
        crew_share_files(u->options.crew, true, u->options.loop, &u->aware);
    }
}
