// SPDX-License-Identifier: MIT
// A pipe that nobody reads stands for everything that blocks. What has to be there is read, never waited for by time.
#include "work/sink.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"

enum { LINE = 100, ROOM = 64 * 1024, PIPE_ROOM = 4096 };

struct pipe_sink {
    int fds[2];
    struct sink *sink;
};

static void open_pipe(struct pipe_sink *p, size_t room) {
    check_int(pipe2(p->fds, O_CLOEXEC), 0);
    check_int(fcntl(p->fds[1], F_SETPIPE_SZ, PIPE_ROOM), PIPE_ROOM);
    struct sink_options options = {.fd = p->fds[1], .name = "test sink", .room = room};
    check_ok(sink_open(&options, &p->sink));
}

static bool put_number(struct sink *s, unsigned n) {
    char line[LINE + 1];
    snprintf(line, sizeof line, "%0*u\n", LINE - 1, n);
    return sink_put(s, str_from(line, LINE));
}

// Exactly so many bytes.
static void read_all(int fd, char *into, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t got = read(fd, into + at, n - at);
        check(got > 0);
        at += (size_t)got;
    }
}

static uint64_t number_at(const char *text) {
    uint64_t n = 0;
    check_int(text[LINE - 1], '\n');
    check_ok(parse_u64(str_from(text, LINE - 1), &n));
    return n;
}

static void lines_arrive_in_order(void **state) {
    (void)state;
    enum { LINES = 5000 };
    struct pipe_sink p;
    char text[LINE];
    open_pipe(&p, ROOM);
    unsigned put = 0;
    for (unsigned n = 0; n < LINES; n++) {
        while (put < LINES && put < n + ROOM / LINE && put_number(p.sink, put)) {
            put++;
        }
        read_all(p.fds[0], text, sizeof text);
        check_int(number_at(text), n);
    }
    check_int(sink_stats(p.sink).lines, LINES);
    sink_close(p.sink);
    close(p.fds[0]);
    close(p.fds[1]);
}

static void a_reader_that_does_not_read_costs_lines_and_nothing_else(void **state) {
    (void)state;
    enum { LINES = 10 * ROOM / LINE };
    struct pipe_sink p;
    char text[LINE];
    unsigned taken = 0;
    open_pipe(&p, ROOM);
    for (unsigned n = 0; n < LINES; n++) { // comes back from each, or this test never ends
        taken += put_number(p.sink, n);
    }
    struct sink_stats stats = sink_stats(p.sink);
    check_int(stats.lines, taken);
    check_int(stats.dropped, LINES - taken);
    check(taken >= ROOM / LINE && taken <= (2 * ROOM + PIPE_ROOM) / LINE + 1);
    uint64_t last = 0;
    for (unsigned n = 0; n < taken; n++) { // what was taken is whole, and in order
        read_all(p.fds[0], text, sizeof text);
        check(n == 0 || number_at(text) > last);
        last = number_at(text);
    }
    check(put_number(p.sink, LINES)); // and there is room again
    read_all(p.fds[0], text, sizeof text);
    check_int(number_at(text), LINES);
    sink_close(p.sink);
    close(p.fds[0]);
    close(p.fds[1]);
}

static void closing_does_not_wait_for_a_reader(void **state) {
    (void)state;
    struct pipe_sink p;
    open_pipe(&p, ROOM);
    for (unsigned n = 0; n < 2 * ROOM / LINE; n++) {
        (void)put_number(p.sink, n);
    }
    sink_close(p.sink); // or this test never ends
    close(p.fds[0]);
    close(p.fds[1]);
}

static void closing_writes_what_is_there(void **state) {
    (void)state;
    struct pipe_sink p;
    char text[LINE];
    open_pipe(&p, ROOM);
    check(put_number(p.sink, 7));
    sink_close(p.sink);
    close(p.fds[1]);
    read_all(p.fds[0], text, sizeof text);
    check_int(number_at(text), 7);
    check_int(read(p.fds[0], text, sizeof text), 0);
    close(p.fds[0]);
}

static void a_reader_that_left_costs_lines(void **state) {
    (void)state;
    struct pipe_sink p;
    open_pipe(&p, ROOM);
    close(p.fds[0]);
    check(put_number(p.sink, 1));
    while (sink_stats(p.sink).dropped == 0) {
        usleep(1000);
    }
    check(put_number(p.sink, 2));
    sink_close(p.sink);
    close(p.fds[1]);
}

static void a_line_longer_than_a_write_arrives_whole(void **state) {
    (void)state;
    enum { LONG = 3 * PIPE_ROOM + 17 };
    struct pipe_sink p;
    static char line[LONG], text[LONG];
    open_pipe(&p, ROOM);
    memset(line, 'x', sizeof line);
    line[LONG - 1] = '\n';
    check(sink_put(p.sink, str_from(line, LONG)));
    check(put_number(p.sink, 3));
    read_all(p.fds[0], text, LONG);
    assert_memory_equal(text, line, LONG);
    read_all(p.fds[0], text, LINE);
    check_int(number_at(text), 3);
    sink_close(p.sink);
    close(p.fds[0]);
    close(p.fds[1]);
}

static void a_line_that_never_fits_is_dropped_whole(void **state) {
    (void)state;
    static char line[ROOM + 1];
    struct pipe_sink p;
    char text[LINE];
    open_pipe(&p, ROOM);
    memset(line, 'x', sizeof line);
    line[ROOM] = '\n';
    check(!sink_put(p.sink, str_from(line, sizeof line)));
    check_int(sink_stats(p.sink).dropped, 1);
    check(put_number(p.sink, 1));
    read_all(p.fds[0], text, sizeof text);
    check_int(number_at(text), 1);
    sink_close(p.sink);
    close(p.fds[0]);
    close(p.fds[1]);
}

struct folder {
    char path[64], log[96], moved[96];
};

static void make_folder(struct folder *f) {
    snprintf(f->path, sizeof f->path, "/tmp/thaw-sink-XXXXXX");
    check(mkdtemp(f->path));
    snprintf(f->log, sizeof f->log, "%s/log", f->path);
    snprintf(f->moved, sizeof f->moved, "%s/log.1", f->path);
}

static size_t size_of(const char *path) {
    struct stat stat_of;
    check_int(stat(path, &stat_of), 0);
    return (size_t)stat_of.st_size;
}

static void a_file_is_opened_anew_on_request(void **state) {
    (void)state;
    struct folder f;
    struct sink *s;
    make_folder(&f);
    struct sink_options options = {.path = f.log, .name = "test sink"};
    check_ok(sink_open(&options, &s));
    check(put_number(s, 1));
    check_int(rename(f.log, f.moved), 0);
    sink_reopen(s); // what was put before goes to the old one
    while (sink_stats(s).reopened == 0) {
        usleep(1000);
    }
    check(put_number(s, 2));
    check(put_number(s, 3));
    sink_close(s);
    check_int(size_of(f.moved), LINE);
    check_int(size_of(f.log), 2 * LINE);
    check_int(unlink(f.log) + unlink(f.moved) + rmdir(f.path), 0);
}

static void a_file_that_cannot_be_had_again_leaves_the_old_one(void **state) {
    (void)state;
    struct folder f;
    struct sink *s;
    make_folder(&f);
    struct sink_options options = {.path = f.log, .name = "test sink"};
    check_ok(sink_open(&options, &s));
    check_int(rename(f.log, f.moved), 0);
    check_int(mkdir(f.log, 0700), 0);
    sink_reopen(s);
    while (sink_stats(s).unopened == 0) {
        usleep(1000);
    }
    check(put_number(s, 1));
    sink_close(s);
    check_int(size_of(f.moved), LINE);
    check_int(rmdir(f.log) + unlink(f.moved) + rmdir(f.path), 0);
}

static void a_file_that_cannot_be_had_is_an_error(void **state) {
    (void)state;
    struct sink *s = NULL;
    struct sink_options options = {.path = "/nowhere/at/all/log", .name = "test sink"};
    check_err(sink_open(&options, &s), ERR_SYS);
    check(s == NULL);
}

enum { WRITERS = 4, EACH = 2000 };

static void *put_many(void *sink) {
    for (unsigned n = 0; n < EACH; n++) {
        (void)put_number(sink, n);
    }
    return NULL;
}

static void many_threads_lose_nothing_uncounted(void **state) {
    (void)state;
    struct folder f;
    struct sink *s;
    pthread_t threads[WRITERS];
    make_folder(&f);
    struct sink_options options = {.path = f.log, .name = "test sink", .room = ROOM};
    check_ok(sink_open(&options, &s));
    for (unsigned i = 0; i < WRITERS; i++) {
        check_int(pthread_create(&threads[i], NULL, put_many, s), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    struct sink_stats stats = sink_stats(s);
    check_int(stats.lines + stats.dropped, WRITERS * EACH);
    sink_close(s);
    check_int(size_of(f.log), stats.lines * LINE);
    check_int(unlink(f.log) + rmdir(f.path), 0);
}

struct logged {
    struct log_writer writer;
    char last[64];
};

static void write_log(struct log_writer *writer, struct str line) {
    struct logged *l = container_of(writer, struct logged, writer);
    snprintf(l->last, sizeof l->last, "%.*s", STR_ARG(line));
}

static void log_lines_can_go_elsewhere(void **state) {
    (void)state;
    struct logged l = {.writer.write = write_log};
    log_set_writer(&l.writer);
    log_warning("a line of %d", 3);
    log_set_writer(NULL);
    assert_string_equal(l.last, "thaw: warning: a line of 3\n");
}

static int ignore_sigpipe(void **state) {
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(lines_arrive_in_order),
        TEST(a_reader_that_does_not_read_costs_lines_and_nothing_else),
        TEST(closing_does_not_wait_for_a_reader),
        TEST(closing_writes_what_is_there),
        TEST(a_reader_that_left_costs_lines),
        TEST(a_line_longer_than_a_write_arrives_whole),
        TEST(a_line_that_never_fits_is_dropped_whole),
        TEST(a_file_is_opened_anew_on_request),
        TEST(a_file_that_cannot_be_had_again_leaves_the_old_one),
        TEST(a_file_that_cannot_be_had_is_an_error),
        TEST(many_threads_lose_nothing_uncounted),
        TEST(log_lines_can_go_elsewhere),
    };
    return cmocka_run_group_tests(tests, ignore_sigpipe, NULL);
}
