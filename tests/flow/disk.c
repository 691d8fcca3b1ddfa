// SPDX-License-Identifier: MIT
// In the place of the executor and of libc's writing: one thread less, and a disk that does as it is told.
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"
#include "work/executor.h"

struct disk disk;

// ---- the thread

struct executor {
    struct list queue;
};
static struct executor *only; // a world has one store, and there is one world with one at a time; or a test failed

struct executor *executor_create(const char *name UNUSED, unsigned threads, unsigned queue_max) {
    check_int(threads, 1);
    check_int(queue_max, 1);
    only = xcalloc(1, sizeof *only);
    list_init(&only->queue);
    return only;
}

enum err executor_submit(struct executor *e, struct work *work) {
    if (!list_empty(&e->queue)) {
        return ERR_FULL;
    }
    list_push_back(&e->queue, &work->node);
    return OK;
}

static bool run_next(void) {
    struct list *node = only ? list_pop_front(&only->queue) : NULL;
    if (node) {
        struct work *work = container_of(node, struct work, node);
        disk.works++;
        work->run(work, 0);
    }
    return node;
}

bool disk_turn(void) { return !disk.held && run_next(); }

void executor_destroy(struct executor *e) {
    while (run_next()) {
    }
    free(e);
    only = NULL;
}

// ---- the disk: no power is cut here, so that nothing need be synced

int fdatasync(int fd UNUSED) { return 0; }

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    disk.writes++;
    if (disk.full) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, len, at);
}

// ---- files

void db_make(struct db *db) {
    const char *tmp = getenv("TMPDIR");
    disk = (struct disk){.held = false};
    log_set_level(LOG_ERROR);
    snprintf(db->dir, sizeof db->dir, "%.40s/thaw-flow-XXXXXX", tmp ? tmp : "/tmp");
    check(mkdtemp(db->dir) != NULL);
    snprintf(db->file, sizeof db->file, "%s/s.db", db->dir);
}

const char *db_yaml(struct db *db, const char *more) {
    snprintf(db->yaml, sizeof db->yaml, "store: sqlite://%s\n%s", db->file, more);
    return db->yaml;
}

static void copy_file(const char *from, const char *to, const char *suffix) {
    char name[128];
    char bytes[64 * 1024];
    ssize_t n;
    snprintf(name, sizeof name, "%s%s", from, suffix);
    int in = open(name, O_RDONLY);
    if (in < 0) {
        check_int(errno, ENOENT);
        return;
    }
    snprintf(name, sizeof name, "%s%s", to, suffix);
    int out = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    check(out >= 0);
    while ((n = read(in, bytes, sizeof bytes)) > 0) {
        check_int(write(out, bytes, (size_t)n), n);
    }
    check_int(n, 0);
    close(in);
    close(out);
}

void db_copy(const struct db *from, struct db *to) {
    struct disk now = disk;
    db_make(to);
    disk = now;
    copy_file(from->file, to->file, "");
    copy_file(from->file, to->file, "-wal");
}

void db_remove(struct db *db) {
    check(unlink(db->file) == 0 || errno == ENOENT);
    check_int(rmdir(db->dir), 0);
}

static int take_number(void *context, int columns, char **values, char **names UNUSED) {
    check_int(columns, 1);
    uint64_t number = 0;
    check_ok(parse_u64(str_c(values[0]), &number));
    *(long long *)context = (long long)number;
    return 0;
}

static long long ask(const struct db *db, const char *sql) {
    sqlite3 *file = NULL;
    long long number = -1;
    check_int(sqlite3_open(db->file, &file), SQLITE_OK);
    check_int(sqlite3_exec(file, sql, take_number, &number, NULL), SQLITE_OK);
    check_int(sqlite3_close(file), SQLITE_OK);
    return number;
}

long long db_number(const struct db *db, const char *sql) { return ask(db, sql); }
void db_change(const struct db *db, const char *sql) { (void)ask(db, sql); }
