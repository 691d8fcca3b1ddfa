// SPDX-License-Identifier: MIT
// The store on a real file, whose disk can be made to fill up, to fail and to be slow: SQLite's pwrite64 and fdatasync
// are ours. Nothing is waited for but results and what the disk was told to do.
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "base/log.h"
#include "ev/loop.h"

// ---- The disk ----

static struct disk {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held;        // syncs wait
    unsigned waiting; // syncs that do
    unsigned syncs;
    int sync_error; // errno of every sync, 0: they work
    bool limited;   // to `room` more bytes
    size_t room;
    unsigned writes;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

// Does not really sync: no power is cut here, and a process that is killed leaves what it has written.
int fdatasync(int fd UNUSED) {
    pthread_mutex_lock(&disk.lock);
    disk.waiting++;
    pthread_cond_broadcast(&disk.changed);
    while (disk.held) {
        pthread_cond_wait(&disk.changed, &disk.lock);
    }
    disk.waiting--;
    disk.syncs++;
    int error = disk.sync_error;
    pthread_mutex_unlock(&disk.lock);
    errno = error;
    return error ? -1 : 0;
}

// As on a disk that fills up: what fits is written, the next call fails.
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    pthread_mutex_lock(&disk.lock);
    disk.writes++;
    bool full = disk.limited && disk.room == 0 && len > 0;
    len = disk.limited ? MIN(len, disk.room) : len;
    disk.room -= disk.limited ? len : 0;
    pthread_mutex_unlock(&disk.lock);
    if (full) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, len, at);
}

// From here on, every sync waits.
static void disk_hold(void) {
    pthread_mutex_lock(&disk.lock);
    disk.held = true;
    pthread_mutex_unlock(&disk.lock);
}

static void disk_await_sync(void) {
    pthread_mutex_lock(&disk.lock);
    while (disk.waiting == 0) {
        pthread_cond_wait(&disk.changed, &disk.lock);
    }
    pthread_mutex_unlock(&disk.lock);
}

static void disk_release(void) {
    pthread_mutex_lock(&disk.lock);
    disk.held = false;
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.lock);
}

static unsigned disk_syncs(void) {
    pthread_mutex_lock(&disk.lock);
    unsigned syncs = disk.syncs;
    pthread_mutex_unlock(&disk.lock);
    return syncs;
}

static unsigned disk_writes(void) {
    pthread_mutex_lock(&disk.lock);
    unsigned writes = disk.writes;
    pthread_mutex_unlock(&disk.lock);
    return writes;
}

static void disk_fail_syncs(int error) {
    pthread_mutex_lock(&disk.lock);
    disk.sync_error = error;
    pthread_mutex_unlock(&disk.lock);
}

static void disk_limit(bool limited, size_t room) {
    pthread_mutex_lock(&disk.lock);
    disk.limited = limited;
    disk.room = room;
    pthread_mutex_unlock(&disk.lock);
}

// ---- The bench ----

enum { NOW_S = 1000000, PATH = 128 };

struct bench {
    char dir[PATH / 2];
    char file[PATH];
    char url[PATH + 16];
    struct loop loop;
    struct store *store;
    struct store_options options;
};

static void bench_init(struct bench *b) {
    const char *tmp = getenv("TMPDIR");
    *b = (struct bench){.store = NULL};
    log_set_level(LOG_ERROR);
    snprintf(b->dir, sizeof b->dir, "%.40s/thaw-store-XXXXXX", tmp ? tmp : "/tmp");
    check(mkdtemp(b->dir) != NULL);
    snprintf(b->file, sizeof b->file, "%s/s.db", b->dir);
    snprintf(b->url, sizeof b->url, "sqlite://%s", b->file);
    b->options = (struct store_options){.url = str_c(b->url), .now_s = NOW_S};
    check_ok(loop_init(&b->loop, &(struct loop_options){.clock = NULL}));
}

static void bench_open(struct bench *b) {
    char problem[STORE_PROBLEM_MAX] = "";
    enum err e = store_open(&b->options, &b->store, problem);
    if (e != OK) {
        fail_msg("%s", problem);
    }
}

static void bench_close(struct bench *b) {
    store_close(b->store);
    b->store = NULL;
}

static void bench_reopen(struct bench *b) {
    bench_close(b);
    bench_open(b);
}

// Leaves the folder as empty as a closed store does: there is nothing beside its file.
static void bench_finish(struct bench *b) {
    bench_close(b);
    loop_finish(&b->loop);
    check(unlink(b->file) == 0 || errno == ENOENT);
    check_int(rmdir(b->dir), 0);
}

static void bench_start(struct bench *b) {
    bench_init(b);
    bench_open(b);
}

static void check_says(const char *problem, const char *wanted) {
    struct str p = str_c(problem);
    if (str_search(p, str_c(wanted)) == p.len) {
        fail_msg("\"%s\" does not say \"%s\"", problem, wanted);
    }
}

// Opening is refused, with a sentence that has the words.
static void check_refused(struct bench *b, enum err wanted, const char *words) {
    char problem[STORE_PROBLEM_MAX] = "";
    struct store *s = NULL;
    check_err(store_open(&b->options, &s, problem), wanted);
    check(s == NULL);
    check_says(problem, words);
}

// SQL on the closed store.
static void sql(struct bench *b, const char *text) {
    sqlite3 *db = NULL;
    check_int(sqlite3_open(b->file, &db), SQLITE_OK);
    check_int(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    check_int(sqlite3_close(db), SQLITE_OK);
}

static int is_ok(void *context, int columns, char **values, char **names UNUSED) {
    *(bool *)context = columns == 1 && strcmp(values[0], "ok") == 0;
    return 0;
}

static void check_integrity(struct bench *b) {
    sqlite3 *db = NULL;
    bool ok = false;
    check_int(sqlite3_open(b->file, &db), SQLITE_OK);
    check_int(sqlite3_exec(db, "PRAGMA integrity_check", is_ok, &ok, NULL), SQLITE_OK);
    check(ok);
    ok = false;
    check_int(sqlite3_exec(db,
                           "SELECT iif(count(*) = 0, 'ok', 'apart') FROM (SELECT n FROM tape UNION ALL SELECT n "
                           "FROM bytes) GROUP BY n HAVING count(*) != 2 UNION ALL SELECT 'ok' ORDER BY 1 LIMIT 1",
                           is_ok, &ok, NULL),
              SQLITE_OK);
    check(ok); // no bytes without a tape, no tape without bytes
    check_int(sqlite3_close(db), SQLITE_OK);
}

// ---- Records: all of one follows from its number ----

struct sample {
    struct store_record record;
    char id[16];
    char *bytes;
};

static void fill(char *bytes, size_t len, unsigned seed) {
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < len; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (char)(x >> 24);
    }
}

static struct sample sample(unsigned n, enum store_state state, size_t body) {
    struct sample s = {.bytes = xmalloc(body + 300)};
    bool job = state == STORE_RUNNING;
    fill(s.bytes, body + 300, n);
    snprintf(s.id, sizeof s.id, "tape-%u", n);
    s.record = (struct store_record){
        .state = state,
        .created_s = NOW_S - 60 + n % 7,
        .expires_s = NOW_S + 600 + n % 7,
        .status = job ? 0 : 200 + (int)(n % 300),
        .request = job ? str_from(s.bytes, 150) : STR(""),
        .head = job ? STR("") : str_from(s.bytes + 150, 100),
        .marks = job ? STR("") : str_from(s.bytes + 250, 50),
        .body = job ? STR("") : str_from(s.bytes + 300, body),
        .error = state == STORE_CUT ? STR("reset") : STR(""),
        .reason = state == STORE_CUT ? STR("upstream_reset") : STR(""),
        .problem = state == STORE_CUT ? STR("the upstream \"a\" broke off after 17 bytes") : STR(""),
    };
    fill((char *)s.record.tenant, STORE_DIGEST, n + 1);
    fill((char *)s.record.key, STORE_DIGEST, n + 2);
    fill((char *)s.record.asked, STORE_DIGEST, n + 3);
    return s;
}

// Beside the sample: it may have been moved.
static struct store_record record_of(const struct sample *s) {
    struct store_record r = s->record;
    r.id = str_c(s->id);
    return r;
}

static void sample_finish(struct sample *s) { free(s->bytes); }

static void check_bytes(struct str got, struct str wanted) {
    check_int(got.len, wanted.len);
    check(str_eq(got, wanted));
}

static void check_tape(const struct store_record *got, const struct store_record *wanted) {
    check_bytes(got->id, wanted->id);
    assert_memory_equal(got->tenant, wanted->tenant, STORE_DIGEST);
    assert_memory_equal(got->key, wanted->key, STORE_DIGEST);
    assert_memory_equal(got->asked, wanted->asked, STORE_DIGEST);
    check_int(got->state, wanted->state);
    check_int(got->created_s, wanted->created_s);
    check_int(got->expires_s, wanted->expires_s);
    check_int(got->status, wanted->status);
    check_bytes(got->error, wanted->error);
    check_bytes(got->reason, wanted->reason);
    check_bytes(got->problem, wanted->problem);
}

static void check_record(const struct store_record *got, const struct store_record *wanted) {
    check_tape(got, wanted);
    check_bytes(got->request, wanted->request);
    check_bytes(got->head, wanted->head);
    check_bytes(got->body, wanted->body);
    check_bytes(got->marks, wanted->marks);
}

// ---- Asking ----

struct asked {
    struct store_op op;
    unsigned done;
    const struct store_record *wanted; // of a load: checked while it is valid
    enum store_state state;            // of what was loaded
    bool elsewhere;
};

static void on_done(struct store_op *op) {
    struct asked *a = container_of(op, struct asked, op);
    a->done++;
    check(op->task == NULL);
    check((op->result == OK) == (op->problem == NULL));
    a->state = op->record.state;
    a->elsewhere = op->record.elsewhere;
    if (a->wanted && op->result == OK) {
        check_record(&op->record, a->wanted);
    }
}

static struct asked asking(struct bench *b) { return (struct asked){.op = {.loop = &b->loop, .on_done = on_done}}; }

static enum err finished(struct bench *b, struct asked *a) {
    while (!a->done) {
        loop_turn(&b->loop, 60000);
    }
    check_int(a->done, 1);
    return a->op.result;
}

static enum err put(struct bench *b, const struct sample *s) {
    struct store_record r = record_of(s);
    struct asked a = asking(b);
    check_ok(store_put(b->store, &a.op, &r));
    return finished(b, &a);
}

static void put_new(struct bench *b, unsigned n, enum store_state state, size_t body) {
    struct sample s = sample(n, state, body);
    check_ok(put(b, &s));
    sample_finish(&s);
}

static enum err load(struct bench *b, const char *id, const struct store_record *wanted) {
    struct asked a = asking(b);
    a.wanted = wanted;
    check_ok(store_load(b->store, &a.op, str_c(id)));
    return finished(b, &a);
}

static void check_loads(struct bench *b, const struct sample *s) {
    struct store_record r = record_of(s);
    check_ok(load(b, s->id, &r));
}

static enum err forget(struct bench *b, const char *id) {
    struct asked a = asking(b);
    check_ok(store_forget(b->store, &a.op, str_c(id)));
    return finished(b, &a);
}

// ---- Records come back ----

static void a_record_comes_back_as_it_was_put(void **state UNUSED) {
    static const size_t sizes[] = {0, 1, 700, 5000, 100000, 17 << 20};
    static const enum store_state states[] = {STORE_WHOLE, STORE_CUT, STORE_CANCELLED};
    struct bench b;
    bench_start(&b);
    for (unsigned n = 0; n < ARRAY_LEN(sizes) * ARRAY_LEN(states); n++) {
        struct sample s = sample(n, states[n % 3], sizes[n / 3]);
        check_ok(put(&b, &s));
        check_loads(&b, &s);
        bench_reopen(&b);
        check_loads(&b, &s);
        sample_finish(&s);
    }
    bench_finish(&b);
}

static void a_job_s_request_is_kept_and_the_last_put_counts(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    struct sample job = sample(7, STORE_RUNNING, 0);
    struct sample tape = sample(7, STORE_WHOLE, 3000);
    struct sample shorter = sample(7, STORE_CUT, 10);
    struct sample *const all[] = {&job, &tape, &shorter};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        check_ok(put(&b, all[i]));
        check_loads(&b, all[i]);
        sample_finish(all[i]);
    }
    bench_close(&b);
    check_integrity(&b);
    bench_finish(&b);
}

static void empty_and_largest_are_possible(void **state UNUSED) {
    struct bench b;
    char id[STORE_ID_MAX + 2] = "";
    memset(id, 'i', STORE_ID_MAX);
    struct store_record r = {.id = str_c(id), .created_s = UINT64_MAX, .expires_s = INT64_MAX, .state = STORE_WHOLE};
    struct store_record wanted = r;
    wanted.created_s = INT64_MAX;
    struct asked a = {.done = 0};
    bench_start(&b);
    a = asking(&b);
    check_ok(store_put(b.store, &a.op, &r));
    check_ok(finished(&b, &a));
    check_ok(load(&b, id, &wanted));
    id[STORE_ID_MAX] = 'i';
    check_err(store_load(b.store, &a.op, str_c(id)), ERR_INVALID);
    check_err(store_load(b.store, &a.op, STR("")), ERR_INVALID);
    check(a.op.task == NULL);
    bench_finish(&b);
}

static void what_is_not_there_is_missing(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    put_new(&b, 1, STORE_WHOLE, 10);
    check_err(load(&b, "tape-2", NULL), ERR_MISSING);
    check_err(load(&b, "tape-1 ", NULL), ERR_MISSING);
    check_err(load(&b, "' OR 1 --", NULL), ERR_MISSING);
    check_ok(forget(&b, "tape-2"));
    check_ok(forget(&b, "tape-1"));
    check_err(load(&b, "tape-1", NULL), ERR_MISSING);
    check_int(store_stats(b.store).failed, 0);
    bench_finish(&b);
}

static bool file_has(struct bench *b, struct str text) {
    struct buf all;
    buf_init(&all, 64 << 20);
    int fd = open(b->file, O_RDONLY | O_CLOEXEC);
    check(fd >= 0);
    ssize_t n = 1;
    while (n > 0) {
        check_ok(buf_reserve(&all, 65536));
        n = read(fd, buf_tail(&all), 65536);
        check(n >= 0);
        buf_added(&all, (size_t)n);
    }
    close(fd);
    struct str content = buf_str(&all);
    bool found = str_search(content, text) < content.len;
    buf_finish(&all);
    return found;
}

static void what_is_forgotten_leaves_no_bytes_in_the_file(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    struct sample s = sample(1, STORE_WHOLE, 20000);
    s.record.problem = STR("a sentence that nobody else writes");
    memcpy(s.bytes + 300 + 15000, "in the body, far behind", 23);
    put_new(&b, 2, STORE_WHOLE, 20000);
    check_ok(put(&b, &s));
    put_new(&b, 3, STORE_WHOLE, 20000);
    bench_close(&b);
    check(file_has(&b, s.record.problem));
    check(file_has(&b, STR("in the body, far behind")));
    bench_open(&b);
    check_ok(forget(&b, s.id));
    bench_close(&b);
    check(!file_has(&b, s.record.problem));
    check(!file_has(&b, STR("in the body, far behind")));
    sample_finish(&s);
    bench_finish(&b);
}

// ---- Acknowledged means that the disk has it ----

static void nothing_is_acknowledged_before_the_sync(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    struct sample s = sample(1, STORE_RUNNING, 0);
    struct store_record r = record_of(&s);
    struct asked a = asking(&b);
    disk_hold();
    check_ok(store_put(b.store, &a.op, &r));
    disk_await_sync();
    for (unsigned i = 0; i < 20; i++) {
        loop_turn(&b.loop, 0);
    }
    check_int(a.done, 0);
    disk_release();
    check_ok(finished(&b, &a));
    sample_finish(&s);
    bench_finish(&b);
}

static void a_sync_that_fails_is_not_acknowledged(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    struct sample s = sample(1, STORE_RUNNING, 0);
    struct sample t = sample(2, STORE_RUNNING, 0);
    disk_fail_syncs(EIO);
    check_err(put(&b, &s), ERR_SYS);
    disk_fail_syncs(EDQUOT); // some file systems find out when they allocate
    check_err(put(&b, &s), ERR_DISK);
    disk_fail_syncs(0);
    check_err(load(&b, s.id, NULL), ERR_MISSING);
    check_ok(put(&b, &t));
    check_loads(&b, &t);
    check_int(store_stats(b.store).failed, 2);
    sample_finish(&s);
    sample_finish(&t);
    bench_close(&b);
    check_integrity(&b);
    bench_finish(&b);
}

// ---- The queue ----

// A first job is being synced, and waits for disk_release; what is asked now comes behind it.
static struct asked hold_first(struct bench *b) {
    struct sample s = sample(999999, STORE_RUNNING, 0);
    struct store_record r = record_of(&s);
    struct asked a = asking(b);
    disk_hold();
    check_ok(store_put(b->store, NULL, &r));
    disk_await_sync();
    sample_finish(&s);
    return a;
}

static void what_waits_together_is_committed_once(void **state UNUSED) {
    enum { JOBS = 300 };
    struct bench b;
    static struct asked a[JOBS];
    bench_start(&b);
    (void)hold_first(&b);
    unsigned syncs = disk_syncs();
    for (unsigned n = 0; n < JOBS; n++) {
        struct sample s = sample(n, STORE_RUNNING, 0);
        struct store_record r = record_of(&s);
        a[n] = asking(&b);
        check_ok(store_put(b.store, &a[n].op, &r));
        sample_finish(&s);
    }
    check_int(store_stats(b.store).queued, JOBS);
    disk_release();
    for (unsigned n = 0; n < JOBS; n++) {
        check_ok(finished(&b, &a[n]));
    }
    check_int(disk_syncs() - syncs, 2); // the first one's, and theirs
    check_int(store_stats(b.store).commits, 2);
    check_int(store_stats(b.store).queued, 0);
    check_int(store_stats(b.store).bytes, 0);
    bench_finish(&b);
}

static void a_full_queue_refuses_counts_and_takes_again(void **state UNUSED) {
    static struct asked a[STORE_OPS_MAX];
    struct bench b;
    struct asked late;
    bench_start(&b);
    late = hold_first(&b);
    for (unsigned n = 0; n < STORE_OPS_MAX; n++) {
        a[n] = asking(&b);
        check_ok(store_load(b.store, &a[n].op, STR("none")));
    }
    check_err(store_load(b.store, &late.op, STR("none")), ERR_FULL);
    check_err(store_forget(b.store, NULL, STR("none")), ERR_FULL);
    check(late.op.task == NULL);
    check_int(store_stats(b.store).refused, 2);
    disk_release();
    for (unsigned n = 0; n < STORE_OPS_MAX; n++) {
        check_err(finished(&b, &a[n]), ERR_MISSING);
    }
    check_int(late.done, 0);
    check_ok(store_load(b.store, &late.op, STR("none")));
    check_err(finished(&b, &late), ERR_MISSING);
    bench_finish(&b);
}

static void the_bytes_that_wait_have_a_cap(void **state UNUSED) {
    struct bench b;
    struct asked a[4];
    bench_init(&b);
    b.options.queue_max = 100000;
    bench_open(&b);
    (void)hold_first(&b);
    for (unsigned n = 0; n < 4; n++) {
        struct sample s = sample(n, STORE_WHOLE, 30000);
        struct store_record r = record_of(&s);
        a[n] = asking(&b);
        check_err(store_put(b.store, &a[n].op, &r), n < 3 ? OK : ERR_FULL);
        sample_finish(&s);
    }
    check(store_stats(b.store).bytes <= b.options.queue_max);
    disk_release();
    for (unsigned n = 0; n < 3; n++) {
        check_ok(finished(&b, &a[n]));
    }
    check_int(store_stats(b.store).bytes, 0);
    put_new(&b, 4, STORE_WHOLE, 30000);
    bench_finish(&b);
}

static void what_was_read_and_not_taken_has_the_same_cap(void **state UNUSED) {
    struct bench b;
    struct asked a[3];
    bench_init(&b);
    b.options.queue_max = 100000;
    bench_open(&b);
    put_new(&b, 1, STORE_WHOLE, 60000);
    (void)hold_first(&b);
    for (unsigned n = 0; n < 3; n++) {
        a[n] = asking(&b);
        check_ok(store_load(b.store, &a[n].op, str_c(n < 2 ? "tape-1" : "none")));
    }
    disk_release();
    check_ok(finished(&b, &a[0]));
    check_err(finished(&b, &a[1]), ERR_FULL);
    check_err(finished(&b, &a[2]), ERR_MISSING);
    check_ok(load(&b, "tape-1", NULL));
    check_int(store_stats(b.store).bytes, 0);
    bench_finish(&b);
}

static void what_was_cancelled_is_done_and_not_told(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    struct sample s = sample(1, STORE_WHOLE, 100);
    struct store_record r = record_of(&s);
    struct asked *a = xcalloc(1, sizeof *a);
    *a = asking(&b);
    check_ok(store_put(b.store, &a->op, &r));
    store_cancel(&a->op);
    store_cancel(&a->op);
    free(a);
    check_loads(&b, &s); // its result comes behind the other's
    sample_finish(&s);
    bench_finish(&b);
}

static void close_does_what_was_asked_and_its_results_still_come(void **state UNUSED) {
    enum { JOBS = 40 };
    struct bench b;
    struct asked a[JOBS];
    bench_start(&b);
    for (unsigned n = 0; n < JOBS; n++) {
        struct sample s = sample(n, STORE_WHOLE, 100);
        struct store_record r = record_of(&s);
        a[n] = asking(&b);
        check_ok(store_put(b.store, &a[n].op, &r));
        sample_finish(&s);
    }
    bench_close(&b);
    check_int(a[0].done, 0);
    for (unsigned n = 0; n < JOBS; n++) {
        check_ok(finished(&b, &a[n]));
    }
    bench_open(&b);
    for (unsigned n = 0; n < JOBS; n++) {
        struct sample s = sample(n, STORE_WHOLE, 100);
        check_loads(&b, &s);
        sample_finish(&s);
    }
    a[0] = asking(&b);
    check_ok(store_load(b.store, &a[0].op, STR("tape-1")));
    bench_finish(&b); // the loop's end delivers it
    check_int(a[0].done, 1);
}

static void no_memory_is_an_error(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    struct asked a = asking(&b);
    mem_fail_after(1, 0);
    check_err(store_load(b.store, &a.op, STR("tape-1")), ERR_NOMEM);
    check(mem_fail_fired());
    mem_fail_after(0, 0);
    check(a.op.task == NULL);
    bench_finish(&b);
}

// ---- Several threads ----

enum { THREADS = 3, TURNS = 60 };

struct user {
    struct store *store;
    unsigned first;
    unsigned good;
};

// One thread's asking is in order without any waiting.
static void use(struct user *u, struct bench *b, unsigned n) {
    struct asked a[5];
    struct sample job = sample(n, STORE_RUNNING, 0);
    struct sample tape = sample(n, STORE_WHOLE, n % 5 * 3000);
    struct store_record r[2] = {record_of(&job), record_of(&tape)};
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        a[i] = asking(b);
    }
    a[2].wanted = &r[1];
    bool asked = store_put(u->store, &a[0].op, &r[0]) == OK && store_put(u->store, &a[1].op, &r[1]) == OK &&
                 store_load(u->store, &a[2].op, r[1].id) == OK && store_forget(u->store, &a[3].op, r[1].id) == OK &&
                 store_load(u->store, &a[4].op, r[1].id) == OK;
    check(asked);
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        u->good += finished(b, &a[i]) == (i == 4 ? ERR_MISSING : OK);
    }
    sample_finish(&job);
    sample_finish(&tape);
}

static void *run_user(void *context) {
    struct user *u = context;
    struct bench b = {.store = NULL};
    check_ok(loop_init(&b.loop, &(struct loop_options){.clock = NULL}));
    for (unsigned i = 0; i < TURNS; i++) {
        use(u, &b, u->first + i);
    }
    loop_finish(&b.loop);
    return NULL;
}

static void each_loop_gets_its_own_results_in_order(void **state UNUSED) {
    struct bench b;
    struct user users[THREADS];
    pthread_t threads[THREADS];
    bench_start(&b);
    for (unsigned i = 0; i < THREADS; i++) {
        users[i] = (struct user){.store = b.store, .first = i * 1000};
        check_int(pthread_create(&threads[i], NULL, run_user, &users[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        check_int(users[i].good, TURNS * 5);
    }
    bench_finish(&b);
}

// ---- A full disk ----

enum { FILLERS = 12 };

// Puts until the disk is full and goes on; what was acknowledged is there afterwards, what was refused is not. True
// when all of it fitted.
static bool fill_disk(size_t room, size_t body) {
    struct bench b;
    enum err results[FILLERS];
    unsigned refused = 0;
    bench_start(&b);
    unsigned before = disk_writes();
    disk_limit(true, room);
    for (unsigned n = 0; n < FILLERS; n++) {
        struct sample s = sample(n, STORE_WHOLE, body);
        results[n] = put(&b, &s);
        check(results[n] == OK || results[n] == ERR_DISK);
        refused += results[n] != OK;
        sample_finish(&s);
    }
    check(disk_writes() > before); // it is our disk
    check_int(store_stats(b.store).failed, refused);
    bench_close(&b); // cannot move the log into the file now
    disk_limit(false, 0);
    bench_open(&b);
    for (unsigned n = 0; n < FILLERS; n++) {
        struct sample s = sample(n, STORE_WHOLE, body);
        if (results[n] == OK) {
            check_loads(&b, &s);
        } else {
            check_err(load(&b, s.id, NULL), ERR_MISSING);
            check_ok(put(&b, &s)); // there is room again
        }
        sample_finish(&s);
    }
    bench_close(&b);
    check_integrity(&b);
    bench_finish(&b);
    return refused == 0;
}

static void a_disk_that_fills_up_anywhere_loses_nothing_acknowledged(void **state UNUSED) {
    unsigned rounds = 0;
    for (size_t room = 0; !fill_disk(room, 1000); room += 7001) {
        rounds++;
    }
    check(rounds > 20);
}

// The log is longer than what makes SQLite move it into the file: that write meets the full disk, too.
static void a_disk_that_fills_up_while_the_log_is_moved_loses_nothing(void **state UNUSED) {
    unsigned rounds = 0;
    for (size_t room = 3500000; !fill_disk(room, 500000); room += 333333) {
        rounds++;
    }
    check(rounds > 5);
}

static void one_that_does_not_fit_takes_no_other_with_it(void **state UNUSED) {
    static const size_t sizes[] = {500, 5000000, 700, 4000000, 900};
    enum { ALL = ARRAY_LEN(sizes) };
    struct bench b;
    struct asked a[ALL];
    bench_init(&b);
    b.options.file_max = 1 << 20;
    bench_open(&b);
    (void)hold_first(&b);
    for (unsigned n = 0; n < ALL; n++) {
        struct sample s = sample(n, STORE_WHOLE, sizes[n]);
        struct store_record r = record_of(&s);
        a[n] = asking(&b);
        check_ok(store_put(b.store, &a[n].op, &r));
        sample_finish(&s);
    }
    disk_release();
    for (unsigned n = 0; n < ALL; n++) {
        struct sample s = sample(n, STORE_WHOLE, sizes[n]);
        check_err(finished(&b, &a[n]), sizes[n] > 1000 ? ERR_DISK : OK);
        if (sizes[n] > 1000) {
            check_says(a[n].op.problem, "make room");
            check_err(load(&b, s.id, NULL), ERR_MISSING);
        } else {
            check_loads(&b, &s);
        }
        sample_finish(&s);
    }
    check_int(store_stats(b.store).bytes, 0);
    bench_finish(&b);
}

static void what_a_failed_transaction_read_is_not_told(void **state UNUSED) {
    struct bench b;
    struct asked reads;
    bench_start(&b);
    struct sample s = sample(1, STORE_WHOLE, 50000);
    struct store_record r = record_of(&s);
    (void)hold_first(&b);
    check_ok(store_put(b.store, NULL, &r));
    reads = asking(&b);
    check_ok(store_load(b.store, &reads.op, r.id));
    disk_limit(true, 0);
    disk_release();
    check_err(finished(&b, &reads), ERR_MISSING);
    disk_limit(false, 0);
    check_int(store_stats(b.store).bytes, 0);
    check_ok(put(&b, &s));
    check_loads(&b, &s);
    sample_finish(&s);
    bench_finish(&b);
}

static void a_store_at_its_largest_has_room_again_when_some_is_forgotten(void **state UNUSED) {
    struct bench b;
    unsigned n = 0;
    enum err e = OK;
    bench_init(&b);
    b.options.file_max = 2 << 20;
    bench_open(&b);
    while (e == OK) {
        struct sample s = sample(n++, STORE_WHOLE, 50000);
        e = put(&b, &s);
        sample_finish(&s);
        check(n < 100);
    }
    check_err(e, ERR_DISK);
    check_ok(forget(&b, "tape-3"));
    put_new(&b, n, STORE_WHOLE, 40000);
    bench_finish(&b);
}

// ---- What is left after a restart ----

struct told {
    unsigned count;
    unsigned numbers[400];
    struct store_record last;
};

static void on_record(void *context, const struct store_record *r) {
    struct told *t = context;
    uint64_t n = 0;
    check_ok(parse_u64(str_skip(r->id, 5), &n));
    struct sample s = sample((unsigned)n, r->state, 0);
    check_bytes(r->id, str_c(s.id));
    assert_memory_equal(r->key, s.record.key, STORE_DIGEST);
    check_int(r->request.len + r->head.len + r->body.len + r->marks.len, 0);
    sample_finish(&s);
    check(t->count < ARRAY_LEN(t->numbers));
    t->numbers[t->count++] = (unsigned)n;
    t->last = *r;
}

static struct told tell(struct bench *b) {
    char problem[STORE_PROBLEM_MAX] = "";
    struct told t = {.count = 0};
    check_ok(store_each(b->store, on_record, &t, problem));
    return t;
}

static void running_jobs_are_interrupted_and_kept_from_now_on(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    struct sample job = sample(1, STORE_RUNNING, 0);
    check_ok(put(&b, &job));
    put_new(&b, 2, STORE_WHOLE, 10);
    b.options.now_s = job.record.expires_s + 5000; // down for longer than the answer would have been kept
    bench_reopen(&b);
    struct told t = tell(&b);
    check_int(t.count, 1); // the whole one has expired
    check_int(t.numbers[0], 1);
    check_int(t.last.state, STORE_INTERRUPTED);
    struct store_record wanted = record_of(&job);
    wanted.state = STORE_INTERRUPTED;
    wanted.expires_s = b.options.now_s + (job.record.expires_s - job.record.created_s);
    check_ok(load(&b, job.id, &wanted)); // with what was asked, to ask it again
    b.options.now_s++;
    bench_reopen(&b);
    check_ok(load(&b, job.id, &wanted)); // once only
    check_ok(put(&b, &job));             // run again
    check_loads(&b, &job);
    sample_finish(&job);
    bench_finish(&b);
}

static void each_is_told_of_all_that_have_not_expired_in_order(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    for (unsigned n = 0; n < 60; n++) {
        struct sample s = sample(59 - n, STORE_WHOLE, n * 100);
        s.record.expires_s = n % 3 == 0 ? NOW_S - n : NOW_S + 1 + n;
        check_ok(put(&b, &s));
        sample_finish(&s);
    }
    bench_reopen(&b);
    struct told t = tell(&b);
    check_int(t.count, 40);
    for (unsigned i = 0; i < t.count; i++) {
        check_int(t.numbers[i], 59 - (i / 2 * 3 + i % 2 + 1));
    }
    bench_finish(&b);
}

// A piece of the sweep follows every answer; `most` of them must do, and not the first alone.
static void sweep(struct bench *b, uint64_t now_s, unsigned most, const char *last_to_go) {
    enum err e = OK;
    struct asked after_first = asking(b);
    for (unsigned i = 0; i < 2; i++) { // behind the second answer nothing is left to do of what was put
        check_err(load(b, "none", NULL), ERR_MISSING);
    }
    disk_hold();
    store_sweep(b->store, now_s);
    disk_await_sync();
    check_ok(store_load(b->store, &after_first.op, str_c(last_to_go))); // goes before the second piece
    disk_release();
    check_ok(finished(b, &after_first));
    for (unsigned i = 0; e == OK && i < most; i++) {
        e = load(b, last_to_go, NULL);
    }
    check_err(e, ERR_MISSING);
}

static void what_expired_is_swept_in_pieces_and_running_jobs_never(void **state UNUSED) {
    enum { ALL = 300 };
    struct bench b;
    bench_start(&b);
    for (unsigned n = 0; n < ALL; n++) {
        struct sample s = sample(n, n % 10 == 3 ? STORE_RUNNING : STORE_WHOLE, 50);
        struct store_record r = record_of(&s);
        r.expires_s = n % 10 == 5 ? NOW_S + 1 : NOW_S - ALL + n;
        check_ok(store_put(b.store, NULL, &r));
        sample_finish(&s);
    }
    sweep(&b, NOW_S, 6, "tape-299"); // 240 in pieces of 128
    for (unsigned n = 0; n < ALL; n++) {
        char id[16];
        snprintf(id, sizeof id, "tape-%u", n);
        check_err(load(&b, id, NULL), n % 10 == 3 || n % 10 == 5 ? OK : ERR_MISSING);
    }
    bench_close(&b);
    check_integrity(&b);
    bench_finish(&b);
}

static void a_piece_of_a_sweep_is_bounded_in_bytes(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    for (unsigned n = 10; n < 30; n++) {
        struct sample s = sample(n, STORE_WHOLE, 1 << 20);
        s.record.expires_s = NOW_S - 100 + n;
        check_ok(put(&b, &s));
        sample_finish(&s);
    }
    sweep(&b, NOW_S, 4, "tape-29"); // in pieces of 8 MiB
    bench_finish(&b);
}

static void the_file_gives_back_what_was_swept(void **state UNUSED) {
    enum { ALL = 1500 };
    struct bench b;
    struct stat full, swept;
    bench_start(&b);
    for (unsigned n = 0; n < ALL; n++) {
        struct sample s = sample(n, STORE_WHOLE, 20000);
        struct store_record r = record_of(&s);
        r.expires_s = NOW_S - ALL + n;
        check_ok(n % 100 ? store_put(b.store, NULL, &r) : put(&b, &s)); // not faster than it is written
        sample_finish(&s);
    }
    bench_reopen(&b);
    check_int(stat(b.file, &full), 0);
    check(full.st_size > 20000 * ALL);
    sweep(&b, NOW_S, 100, "tape-1499");
    for (unsigned i = 0; i < 20; i++) {
        check_err(load(&b, "none", NULL), ERR_MISSING); // a piece each
    }
    bench_close(&b);
    check_int(stat(b.file, &swept), 0);
    check(swept.st_size < 8 << 20); // from 32
    check_integrity(&b);
    bench_finish(&b);
}

// ---- Files that are refused ----

static void write_file(struct bench *b, struct str content, mode_t mode) {
    int fd = open(b->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    check(fd >= 0);
    check_int(fchmod(fd, mode), 0);
    check_int(write(fd, content.ptr, content.len), content.len);
    close(fd);
}

static void urls_that_name_no_file_are_refused(void **state UNUSED) {
    static const char *const urls[] = {"",          "s.db",       "/tmp/s.db",           "sqlite:s.db", "sqlite:/s.db",
                                       "sqlite://", "sqlite:///", "redis://secret@host/"};
    struct bench b;
    char long_url[5000] = "sqlite:///";
    bench_init(&b);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        b.options.url = str_c(urls[i]);
        check_refused(&b, ERR_INVALID, "sqlite:///absolute/file or sqlite://relative/file");
    }
    b.options.url = STR("sqlite:///tmp/\0/s.db");
    check_refused(&b, ERR_INVALID, "sqlite:///absolute/file");
    memset(long_url + 10, 'a', sizeof long_url - 11);
    b.options.url = str_c(long_url);
    check_refused(&b, ERR_INVALID, "too long");
    bench_finish(&b);
}

// SQLite takes a name like ":memory:" for something else.
static void a_relative_path_is_a_file_whatever_its_name(void **state UNUSED) {
    static const char *const names[] = {":memory:", "file:s.db?mode=memory", "s.db", "-"};
    struct bench b;
    char before[4096];
    check(getcwd(before, sizeof before) != NULL);
    bench_init(&b);
    check_int(chdir(b.dir), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct stat info;
        char url[64];
        snprintf(url, sizeof url, "sqlite://%s", names[i]);
        b.options.url = str_c(url);
        bench_open(&b);
        put_new(&b, 1, STORE_WHOLE, 10);
        bench_reopen(&b);
        check_ok(load(&b, "tape-1", NULL));
        bench_close(&b);
        check_int(stat(names[i], &info), 0);
        check_int(unlink(names[i]), 0);
    }
    check_int(chdir(before), 0);
    bench_finish(&b);
}

static void files_that_are_no_store_are_refused_and_left_alone(void **state UNUSED) {
    static const struct str contents[] = {
        STR_INIT("x"), STR_INIT("# a text file\n"),
        STR_INIT("A longer text, as long as the head of an SQLite file is, which has a hundred bytes, and then a "
                 "little more of it, to be sure.")};
    struct bench b;
    bench_init(&b);
    for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
        write_file(&b, contents[i], 0600);
        check_refused(&b, ERR_INVALID, "is not a store");
        check(file_has(&b, contents[i]));
    }
    check_int(unlink(b.file), 0);
    sql(&b, "CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')");
    check_refused(&b, ERR_INVALID, "is not a store");
    sql(&b, "INSERT INTO notes VALUES ('still mine')");
    sql(&b, "PRAGMA journal_mode = WAL");
    check_refused(&b, ERR_INVALID, "is not a store");
    sql(&b, "INSERT INTO notes VALUES ('still mine'); PRAGMA journal_mode = DELETE");
    check_int(unlink(b.file), 0);
    bench_finish(&b);
}

static void an_empty_file_becomes_a_store_and_keeps_its_mode(void **state UNUSED) {
    struct bench b;
    struct stat info;
    bench_init(&b);
    write_file(&b, STR(""), 0640);
    bench_open(&b);
    put_new(&b, 1, STORE_WHOLE, 10);
    check_int(stat(b.file, &info), 0);
    check_int(info.st_mode & 07777, 0640);
    bench_finish(&b);
}

static void a_newer_thaw_s_file_is_refused(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    put_new(&b, 1, STORE_WHOLE, 10);
    bench_close(&b);
    sql(&b, "PRAGMA user_version = 3");
    check_refused(&b, ERR_INVALID, "newer thaw");
    sql(&b, "PRAGMA user_version = 2");
    bench_open(&b);
    check_ok(load(&b, "tape-1", NULL));
    bench_finish(&b);
}

static void places_without_a_file_are_refused(void **state UNUSED) {
    struct bench b;
    char url[PATH + 32];
    bench_init(&b);
    snprintf(url, sizeof url, "sqlite://%s/none/s.db", b.dir);
    b.options.url = str_c(url);
    check_refused(&b, ERR_SYS, "No such file or directory");
    snprintf(url, sizeof url, "sqlite://%s", b.dir);
    b.options.url = str_c(url);
    check_refused(&b, ERR_INVALID, "is not a regular file");
    bench_finish(&b);
}

static void its_files_are_its_owner_s_alone(void **state UNUSED) {
    struct bench b;
    struct stat info;
    static const char *const others[] = {"wal", "shm", "owners"};
    char beside[PATH + 8];
    mode_t mask = umask(0);
    bench_start(&b);
    put_new(&b, 1, STORE_WHOLE, 10);
    check_int(stat(b.file, &info), 0);
    check_int(info.st_mode & 07777, 0600);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        snprintf(beside, sizeof beside, "%s-%s", b.file, others[i]);
        check_int(stat(beside, &info), 0);
        check_int(info.st_mode & 07777, 0600);
    }
    umask(mask);
    bench_finish(&b);
}

static void damage_is_told_and_no_crash(void **state UNUSED) {
    static const char *const damages[] = {
        "PRAGMA ignore_check_constraints = 1; UPDATE tape SET state = 9",
        "UPDATE tape SET key = x'0102'",
        "UPDATE tape SET id = ''",
    };
    char problem[STORE_PROBLEM_MAX] = "";
    struct told t = {.count = 0};
    struct bench b;
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        bench_start(&b);
        put_new(&b, 1, STORE_WHOLE, 100);
        bench_close(&b);
        sql(&b, damages[i]);
        bench_open(&b);
        check_err(store_each(b.store, on_record, &t, problem), ERR_SYS);
        check_says(problem, "is damaged");
        check_err(load(&b, "tape-1", NULL), i == 2 ? ERR_MISSING : ERR_SYS);
        put_new(&b, 2, STORE_WHOLE, 100); // others are well
        check_ok(load(&b, "tape-2", NULL));
        bench_finish(&b);
    }
    bench_start(&b);
    bench_close(&b);
    sql(&b, "DROP TABLE bytes");
    check_refused(&b, ERR_SYS, "is damaged");
    bench_finish(&b);
}

// Junk over each part of the file in turn. Whatever is told, nothing crashes and nothing comes back wrong.
static void overwritten_pages_are_found(void **state UNUSED) {
    enum { ALL = 80, PAGE = 8192 };
    char junk[PAGE];
    unsigned found = 0;
    memset(junk, 0xa5, sizeof junk);
    for (off_t at = 0; at < 12 * PAGE; at += PAGE) {
        struct bench b;
        char problem[STORE_PROBLEM_MAX] = "";
        bench_start(&b);
        for (unsigned n = 0; n < ALL; n++) {
            put_new(&b, n, STORE_WHOLE, 600);
        }
        bench_close(&b);
        int fd = open(b.file, O_WRONLY | O_CLOEXEC);
        check(fd >= 0);
        check_int(syscall(SYS_pwrite64, fd, junk, sizeof junk, at), sizeof junk);
        close(fd);
        if (store_open(&b.options, &b.store, problem) == OK) {
            for (unsigned n = 0; n < ALL; n++) {
                struct sample s = sample(n, STORE_WHOLE, 600);
                struct store_record r = record_of(&s);
                found += load(&b, s.id, &r) == ERR_SYS;
                sample_finish(&s);
            }
        } else {
            found++;
        }
        bench_finish(&b);
    }
    check(found > 10);
}

// ---- Other processes ----

// Runs `child` in another process, which ends with what it returns. (No thread but this one lives.)
static pid_t start(int (*child)(struct bench *b, int fd), struct bench *b, int fd) {
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        _exit(child(b, fd));
    }
    return pid;
}

static int status_of(pid_t pid) {
    int status = 0;
    check_int(waitpid(pid, &status, 0), pid);
    return status;
}

static int try_open(struct bench *b, int fd UNUSED) {
    char problem[STORE_PROBLEM_MAX] = "";
    struct store *s = NULL;
    struct str p = {0};
    enum err e = store_open(&b->options, &s, problem);
    p = str_c(problem);
    return e == ERR_SYS && str_search(p, STR("another process")) < p.len ? 42 : 1;
}

// Holds it until the other end of the pipe is closed.
static int hold_open(struct bench *b, int fd) {
    char problem[STORE_PROBLEM_MAX] = "";
    char byte = 'o';
    enum err e = store_open(&b->options, &b->store, problem);
    if (e != OK || write(fd, &byte, 1) != 1) {
        return 1;
    }
    return read(fd, &byte, 1) == 0 ? 42 : 1;
}

static void one_process_at_a_time_has_it(void **state UNUSED) {
    struct bench b;
    char byte = 0;
    int ends[2];
    bench_init(&b);
    check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        _exit(hold_open(&b, ends[1]));
    }
    close(ends[1]);
    check_int(read(ends[0], &byte, 1), 1);
    check_refused(&b, ERR_SYS, "is open in another process, perhaps another thaw");
    close(ends[0]);
    check_int(WEXITSTATUS(status_of(pid)), 42);
    bench_open(&b); // its death let go of it
    put_new(&b, 1, STORE_WHOLE, 10);
    check_refused(&b, ERR_SYS, "is open in another process");
    // That attempt was made by this process, and has not lost us the lock.
    put_new(&b, 2, STORE_WHOLE, 10);
    bench_finish(&b);
}

static enum err interrupt(struct bench *b, struct asked *a) {
    *a = asking(b);
    check_ok(store_interrupt(b->store, &a->op, NOW_S));
    return finished(b, a);
}

static enum store_state state_of(struct bench *b, const char *id, bool *elsewhere) {
    struct asked a = asking(b);
    check_ok(store_load(b->store, &a.op, str_c(id)));
    check_ok(finished(b, &a));
    *elsewhere = a.elsewhere;
    return a.state;
}

// Has a running job until the other end of the pipe is closed, and then ends without a word or with a whole answer.
static int hold_job(struct bench *b, int fd, bool finishes) {
    char byte = 'o';
    bench_open(b);
    put_new(b, 1, STORE_RUNNING, 0);
    put_new(b, 2, STORE_RUNNING, 0);
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 0) {
        return 1;
    }
    if (finishes) {
        put_new(b, 1, STORE_WHOLE, 10);
        put_new(b, 2, STORE_WHOLE, 10);
        bench_close(b);
    }
    return 42;
}

static void jobs_of_a_process_that_still_runs_are_let_be(void **state UNUSED) {
    for (int finishes = 0; finishes < 2; finishes++) {
        struct bench b;
        struct asked a;
        bool elsewhere = false;
        char byte = 0;
        int ends[2];
        bench_init(&b);
        check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        pid_t pid = fork();
        check(pid >= 0);
        if (pid == 0) {
            close(ends[0]);
            _exit(hold_job(&b, ends[1], finishes));
        }
        close(ends[1]);
        check_int(read(ends[0], &byte, 1), 1);
        b.options.beside = true;
        bench_open(&b);
        check_int(state_of(&b, "tape-1", &elsewhere), STORE_RUNNING);
        check(elsewhere);
        put_new(&b, 3, STORE_RUNNING, 0);
        check_int(state_of(&b, "tape-3", &elsewhere), STORE_RUNNING);
        check(!elsewhere);
        check_int(interrupt(&b, &a), ERR_AGAIN);
        close(ends[0]);
        check_int(WEXITSTATUS(status_of(pid)), 42);
        for (unsigned n = 1; n <= 2 && !finishes; n++) {
            check_ok(interrupt(&b, &a));
        }
        check_int(interrupt(&b, &a), ERR_MISSING);
        check_int(state_of(&b, "tape-1", &elsewhere), finishes ? STORE_WHOLE : STORE_INTERRUPTED);
        check_int(state_of(&b, "tape-2", &elsewhere), finishes ? STORE_WHOLE : STORE_INTERRUPTED);
        check_int(state_of(&b, "tape-3", &elsewhere), STORE_RUNNING); // ours
        bench_finish(&b);
    }
}

static int try_unwritable(struct bench *b, int fd UNUSED) {
    char problem[STORE_PROBLEM_MAX] = "";
    struct store *s = NULL;
    struct str p = {0};
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) {
        return 2;
    }
    enum err e = store_open(&b->options, &s, problem);
    p = str_c(problem);
    return e == ERR_SYS && str_search(p, STR("may not be written")) < p.len ? 42 : 1;
}

static void a_file_that_may_not_be_written_is_refused(void **state UNUSED) {
    struct bench b;
    bench_start(&b);
    put_new(&b, 1, STORE_WHOLE, 10);
    bench_close(&b);
    check_int(chmod(b.file, 0444), 0);
    check_int(chmod(b.dir, 0755), 0);
    check_int(WEXITSTATUS(status_of(start(try_unwritable, &b, -1))), 42);
    check_int(chmod(b.file, 0666), 0); // its folder, then: there is no room for the log
    check_int(chmod(b.dir, 0555), 0);
    check_int(WEXITSTATUS(status_of(start(try_unwritable, &b, -1))), 42);
    check_int(chmod(b.dir, 0755), 0);
    bench_finish(&b);
}

static void the_lock_outlives_an_attempt_of_the_same_process(void **state UNUSED) {
    struct bench b;
    int ends[2];
    char byte = 0;
    bench_init(&b);
    // The one who will try from outside is forked before there is a thread.
    check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        _exit(read(ends[1], &byte, 1) == 1 ? try_open(&b, -1) : 2);
    }
    close(ends[1]);
    bench_open(&b);
    check_refused(&b, ERR_SYS, "is open in another process");
    check_int(write(ends[0], "t", 1), 1);
    check_int(WEXITSTATUS(status_of(pid)), 42);
    close(ends[0]);
    bench_finish(&b);
}

// ---- kill -9 ----

enum { ROUNDS = 50, JOBS = 3000, AT_ONCE = 24, KILL_AFTER = 500, KILL_SEED = 20261120 };
enum { BEGUN = 1, ENDED = 2, FORGOTTEN = 4 };

// What each job goes through: every seventh is forgotten after its end, every fifth has expired by then.
static bool is_forgotten(unsigned n) { return n % 7 == 0; }
static bool is_expired(unsigned n) { return n % 5 == 0; }
static size_t body_of(unsigned n) { return n % 11 == 0 ? 60000 : n % 13 * 400; }

static struct sample job_sample(unsigned n, enum store_state state) {
    struct sample s = sample(n, state, state == STORE_RUNNING ? 0 : body_of(n));
    s.record.expires_s = is_expired(n) ? NOW_S - 1 : s.record.expires_s;
    return s;
}

struct ack {
    unsigned n;
    unsigned what;
};

struct victim {
    struct bench *bench;
    int fd;
    unsigned next, end;
    unsigned acks;
};

struct victim_job {
    struct store_op op;
    struct victim *victim;
    unsigned n;
    unsigned doing;
};

static void victim_ask(struct victim_job *j, unsigned what);

static void victim_begin_next(struct victim_job *j) {
    if (j->victim->next < j->victim->end) {
        j->n = j->victim->next++;
        victim_ask(j, BEGUN);
    }
}

static void victim_on_done(struct store_op *op) {
    struct victim_job *j = container_of(op, struct victim_job, op);
    struct victim *v = j->victim;
    struct ack ack = {j->n, j->doing};
    if (op->result != OK || write(v->fd, &ack, sizeof ack) != sizeof ack) {
        _exit(3);
    }
    if (++v->acks % 40 == 0) {
        store_sweep(v->bench->store, NOW_S);
    }
    if (j->doing == BEGUN) {
        victim_ask(j, ENDED);
    } else if (j->doing == ENDED && is_forgotten(j->n)) {
        victim_ask(j, FORGOTTEN);
    } else {
        victim_begin_next(j);
    }
}

static void victim_ask(struct victim_job *j, unsigned what) {
    struct store *store = j->victim->bench->store;
    struct sample s = job_sample(j->n, what == BEGUN ? STORE_RUNNING : STORE_WHOLE);
    struct store_record r = record_of(&s);
    j->doing = what;
    enum err e = what == FORGOTTEN ? store_forget(store, &j->op, r.id) : store_put(store, &j->op, &r);
    sample_finish(&s);
    if (e != OK) {
        _exit(4);
    }
}

// Until it is killed.
static int be_victim(struct bench *b, int fd, unsigned first) {
    char problem[STORE_PROBLEM_MAX] = "";
    static struct victim_job jobs[AT_ONCE];
    struct victim v = {.bench = b, .fd = fd, .next = first, .end = first + JOBS};
    if (store_open(&b->options, &b->store, problem) != OK) {
        return 2;
    }
    for (size_t i = 0; i < AT_ONCE; i++) {
        jobs[i] = (struct victim_job){.op = {.loop = &b->loop, .on_done = victim_on_done}, .victim = &v};
        victim_begin_next(&jobs[i]);
    }
    for (;;) {
        loop_turn(&b->loop, 60000);
    }
}

static void check_survived(struct bench *b, unsigned n, unsigned acks) {
    struct sample job = job_sample(n, STORE_RUNNING);
    struct sample tape = job_sample(n, STORE_WHOLE);
    struct store_record r = record_of(&tape);
    struct asked a = asking(b);
    check_ok(store_load(b->store, &a.op, r.id));
    enum err e = finished(b, &a);
    // Its end may have been done and not told any more, and then its sweep; the same for being forgotten.
    bool may_be_gone = is_expired(n) || (is_forgotten(n) && (acks & ENDED));
    if (e == OK ? (acks & FORGOTTEN) != 0 : e != ERR_MISSING || !may_be_gone) {
        fail_msg("job %u, acknowledged %u: %s", n, acks, err_name(e));
    }
    if (e == OK && a.state == STORE_WHOLE) {
        check_loads(b, &tape);
    } else if (e == OK) {
        check_int(a.state, STORE_INTERRUPTED);
        check(!(acks & ENDED));
        r = record_of(&job);
        r.state = STORE_INTERRUPTED;
        r.expires_s = NOW_S + (r.expires_s > r.created_s ? r.expires_s - r.created_s : 0);
        check_ok(load(b, job.id, &r));
    }
    sample_finish(&job);
    sample_finish(&tape);
}

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

// Reads what is acknowledged; kills after so many, and takes what was told before that.
static void read_acks(int fd, pid_t pid, unsigned kill_after, unsigned first, unsigned char *acks) {
    struct ack ack;
    unsigned count = 0;
    while (read(fd, &ack, sizeof ack) == sizeof ack) {
        check(ack.n >= first && ack.n < first + JOBS);
        acks[ack.n - first] |= (unsigned char)ack.what;
        if (++count == kill_after) {
            check_int(kill(pid, SIGKILL), 0);
        }
    }
    check(count >= kill_after);
}

static void what_was_acknowledged_survives_kill_9(void **state UNUSED) {
    static unsigned char acks[ROUNDS][JOBS];
    uint32_t random = KILL_SEED;
    unsigned told = 0;
    struct bench b;
    memset(acks, 0, sizeof acks);
    bench_init(&b);
    print_message("seed %u\n", KILL_SEED);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned first = round * JOBS;
        int ends[2];
        check_int(pipe2(ends, O_CLOEXEC), 0);
        pid_t pid = fork();
        check(pid >= 0);
        if (pid == 0) {
            close(ends[0]);
            _exit(be_victim(&b, ends[1], first));
        }
        close(ends[1]);
        read_acks(ends[0], pid, 1 + next_random(&random) % KILL_AFTER, first, acks[round]);
        close(ends[0]);
        int status = status_of(pid);
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        bench_open(&b);
        for (unsigned i = 0; i < JOBS; i++) {
            if (acks[round][i]) {
                told++;
                check_survived(&b, first + i, acks[round][i]);
            }
        }
        bench_close(&b);
        check_integrity(&b);
    }
    bench_open(&b);
    for (unsigned n = 0; n < ROUNDS * JOBS; n++) { // of all rounds, through all the kills that came later
        if (acks[n / JOBS][n % JOBS]) {
            check_survived(&b, n, acks[n / JOBS][n % JOBS]);
        }
    }
    check(told > ROUNDS * 10);
    bench_finish(&b);
}

TESTS(TEST(a_record_comes_back_as_it_was_put), TEST(a_job_s_request_is_kept_and_the_last_put_counts),
      TEST(empty_and_largest_are_possible), TEST(what_is_not_there_is_missing),
      TEST(what_is_forgotten_leaves_no_bytes_in_the_file), TEST(nothing_is_acknowledged_before_the_sync),
      TEST(a_sync_that_fails_is_not_acknowledged), TEST(what_waits_together_is_committed_once),
      TEST(a_full_queue_refuses_counts_and_takes_again), TEST(the_bytes_that_wait_have_a_cap),
      TEST(what_was_read_and_not_taken_has_the_same_cap), TEST(what_was_cancelled_is_done_and_not_told),
      TEST(close_does_what_was_asked_and_its_results_still_come), TEST(no_memory_is_an_error),
      TEST(each_loop_gets_its_own_results_in_order), TEST(a_disk_that_fills_up_anywhere_loses_nothing_acknowledged),
      TEST(a_disk_that_fills_up_while_the_log_is_moved_loses_nothing),
      TEST(one_that_does_not_fit_takes_no_other_with_it), TEST(what_a_failed_transaction_read_is_not_told),
      TEST(a_store_at_its_largest_has_room_again_when_some_is_forgotten),
      TEST(running_jobs_are_interrupted_and_kept_from_now_on), TEST(each_is_told_of_all_that_have_not_expired_in_order),
      TEST(what_expired_is_swept_in_pieces_and_running_jobs_never), TEST(a_piece_of_a_sweep_is_bounded_in_bytes),
      TEST(the_file_gives_back_what_was_swept), TEST(urls_that_name_no_file_are_refused),
      TEST(a_relative_path_is_a_file_whatever_its_name), TEST(files_that_are_no_store_are_refused_and_left_alone),
      TEST(an_empty_file_becomes_a_store_and_keeps_its_mode), TEST(a_newer_thaw_s_file_is_refused),
      TEST(places_without_a_file_are_refused), TEST(its_files_are_its_owner_s_alone), TEST(damage_is_told_and_no_crash),
      TEST(overwritten_pages_are_found), TEST(one_process_at_a_time_has_it),
      TEST(jobs_of_a_process_that_still_runs_are_let_be), TEST(a_file_that_may_not_be_written_is_refused),
      TEST(the_lock_outlives_an_attempt_of_the_same_process), TEST(what_was_acknowledged_survives_kill_9))
