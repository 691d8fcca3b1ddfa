// SPDX-License-Identifier: MIT
// The queue before the file, and the way back.
//
//     store_put ... -> task in the queue -> the thread takes all there are -> one transaction -> result to each loop
//
// A task carries a copy of what is asked, later of what was read, and ends on the loop that asked (or at once, where
// nobody waits). Where a transaction fails its tasks are done again one by one, so that one that does not fit takes no
// other with it. The thread is an executor's with one piece of work, `drain`, that is submitted while something waits.
#include "store/store.h"

#include <assert.h>
#include <limits.h>
#include <pthread.h>

#include "base/mem.h"
#include "ev/loop.h"
#include "store/sqlite.h"
#include "work/executor.h"

struct store {
    pthread_mutex_t lock;
    struct list queue;
    unsigned queued;
    size_t bytes, bytes_max; // of all tasks there are
    unsigned holders;        // each task, which may outlive store_close, and whoever opened it
    uint64_t sweep_s;        // 0: none is asked for
    bool draining;           // the work is submitted and not begun
    bool closing;
    uint64_t commits, refused, failed;
    struct executor *executor;
    struct work drain;
    struct sqlite *db; // of the thread
    uint64_t opened_s;
};

enum task_kind { TASK_PUT, TASK_LOAD, TASK_FORGET, TASK_INTERRUPT };

struct store_task {
    struct list node;
    struct message message;
    struct store *store;
    enum task_kind kind;
    struct loop *loop;   // where the result goes; NULL: nobody waits
    struct store_op *op; // NULL: nobody waits any more; the loop's thread alone looks at it
    enum err result;
    const char *problem;
    size_t cost; // of store->bytes
    struct store_record record;
    char *loaded; // what its strings are in after a load; NULL before
    char bytes[]; // what they are in as asked, the id first
};

// ---- Records ----

enum { STRINGS = 8 };

static void strings_of(struct store_record *r, struct str *all[STRINGS]) {
    struct str *const strings[STRINGS] = {&r->id,    &r->request, &r->head,   &r->body,
                                          &r->marks, &r->error,   &r->reason, &r->problem};
    memcpy(all, strings, sizeof strings);
}

// No string is near SIZE_MAX: each lies in memory.
static size_t record_len(struct store_record r) {
    struct str *all[STRINGS];
    size_t len = 0;
    strings_of(&r, all);
    for (size_t i = 0; i < STRINGS; i++) {
        len += all[i]->len;
    }
    return len;
}

// Copies the strings to `room`, record_len bytes, and lets the record have the copies.
static void record_move(struct store_record *r, char *room) {
    struct str *all[STRINGS];
    strings_of(r, all);
    for (size_t i = 0; i < STRINGS; i++) {
        if (all[i]->len) {
            memcpy(room, all[i]->ptr, all[i]->len);
        }
        all[i]->ptr = room;
        room += all[i]->len;
    }
}

// ---- Tasks ----

static void release(struct store *s) {
    pthread_mutex_lock(&s->lock);
    bool last = --s->holders == 0;
    pthread_mutex_unlock(&s->lock);
    if (last) {
        assert(list_empty(&s->queue) && s->bytes == 0);
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

// False: it would be more than there may be at once.
static bool reserve(struct store *s, size_t bytes) {
    pthread_mutex_lock(&s->lock);
    bool room = bytes <= s->bytes_max - s->bytes;
    s->bytes += room ? bytes : 0;
    s->refused += room ? 0 : 1;
    pthread_mutex_unlock(&s->lock);
    return room;
}

static void give_back(struct store *s, size_t bytes) {
    pthread_mutex_lock(&s->lock);
    s->bytes -= bytes;
    pthread_mutex_unlock(&s->lock);
}

// Of one that was in the queue.
static void task_free(struct store_task *t) {
    struct store *s = t->store;
    give_back(s, t->cost);
    free(t->loaded);
    free(t);
    release(s);
}

static void deliver(struct message *message) {
    struct store_task *t = container_of(message, struct store_task, message);
    struct store_op *op = t->op;
    if (op) {
        op->task = NULL;
        op->result = t->result;
        op->problem = t->problem;
        op->record = t->loaded ? t->record : (struct store_record){.status = 0};
        op->on_done(op);
    }
    task_free(t);
}

static struct store_task *task_create(struct store *s, enum task_kind kind, struct store_op *op,
                                      const struct store_record *r) {
    size_t len = record_len(*r);
    struct store_task *t = try_malloc(sizeof *t + len);
    if (t) {
        *t = (struct store_task){
            .message = {.deliver = deliver},
            .store = s,
            .kind = kind,
            .loop = op ? op->loop : NULL,
            .op = op,
            .cost = sizeof *t + len,
            .record = *r,
        };
        record_move(&t->record, t->bytes);
    }
    return t;
}

// What a transaction read may not be what stays.
static void unload(struct store_task *t) {
    if (t->loaded) {
        size_t len = record_len(t->record);
        free(t->loaded);
        t->loaded = NULL;
        t->cost -= len;
        give_back(t->store, len);
    }
}

// ---- Asked from outside ----

// With the lock. At most one piece of work is submitted and not begun, and there is room for one.
static void wake(struct store *s) {
    if (!s->draining) {
        s->draining = true;
        enum err e = executor_submit(s->executor, &s->drain);
        assert(e == OK);
        (void)e;
    }
}

static bool enqueue(struct store *s, struct store_task *t) {
    if (!reserve(s, t->cost)) {
        return false;
    }
    pthread_mutex_lock(&s->lock);
    bool room = s->queued < STORE_OPS_MAX;
    if (room) {
        s->queued++;
        s->holders++;
        list_push_back(&s->queue, &t->node);
        wake(s);
    } else {
        s->bytes -= t->cost;
        s->refused++;
    }
    pthread_mutex_unlock(&s->lock);
    return room;
}

static enum err ask(struct store *s, enum task_kind kind, struct store_op *op, const struct store_record *r) {
    if (kind != TASK_INTERRUPT && (r->id.len == 0 || r->id.len > STORE_ID_MAX)) {
        return ERR_INVALID;
    }
    struct store_task *t = task_create(s, kind, op, r);
    if (!t) {
        return ERR_NOMEM;
    }
    if (!enqueue(s, t)) {
        free(t);
        return ERR_FULL;
    }
    if (op) {
        op->task = t; // its result comes in a later turn
    }
    return OK;
}

enum err store_put(struct store *s, struct store_op *op, const struct store_record *record) {
    return ask(s, TASK_PUT, op, record);
}

enum err store_load(struct store *s, struct store_op *op, struct str id) {
    return ask(s, TASK_LOAD, op, &(struct store_record){.id = id});
}

enum err store_forget(struct store *s, struct store_op *op, struct str id) {
    return ask(s, TASK_FORGET, op, &(struct store_record){.id = id});
}

enum err store_interrupt(struct store *s, struct store_op *op, uint64_t now_s) {
    return ask(s, TASK_INTERRUPT, op, &(struct store_record){.created_s = now_s});
}

void store_cancel(struct store_op *op) {
    if (op->task) {
        op->task->op = NULL;
        op->task = NULL;
    }
}

void store_sweep(struct store *s, uint64_t now_s) {
    pthread_mutex_lock(&s->lock);
    s->sweep_s = now_s;
    wake(s);
    pthread_mutex_unlock(&s->lock);
}

struct store_stats store_stats(struct store *s) {
    pthread_mutex_lock(&s->lock);
    struct store_stats stats = {s->queued, s->bytes, s->commits, s->refused, s->failed};
    pthread_mutex_unlock(&s->lock);
    return stats;
}

// ---- On the thread ----

static void set_result(struct store_task *t, enum err e, const char *problem) {
    t->result = e;
    t->problem = e == OK ? NULL : problem;
}

// A copy of what was read, if it is not too much with all else.
static void keep(struct store_task *t, struct store_record r) {
    size_t len = record_len(r);
    if (!reserve(t->store, len)) {
        set_result(t, ERR_FULL, "too much is being read from the store at once: try again");
        return;
    }
    t->loaded = try_malloc(len);
    if (!t->loaded) {
        give_back(t->store, len);
        set_result(t, ERR_NOMEM, err_text(ERR_NOMEM));
        return;
    }
    t->cost += len;
    t->record = r;
    record_move(&t->record, t->loaded);
    set_result(t, OK, NULL);
}

// The id as it was asked: what an earlier transaction read, and then failed, is gone.
static enum err run_load(struct sqlite *db, struct store_task *t) {
    struct store_record r;
    assert(!t->loaded);
    enum err e = sqlite_load(db, str_from(t->bytes, t->record.id.len), &r);
    if (e == OK) {
        keep(t, r);
        sqlite_loaded(db);
    } else if (e == ERR_MISSING) {
        set_result(t, e, "the store has nothing of this id");
        e = OK;
    }
    return e;
}

static enum err run_interrupt(struct sqlite *db, struct store_task *t) {
    struct store_record r;
    enum err e = sqlite_interrupt(db, t->record.created_s, &r);
    if (e == OK) {
        keep(t, r);
    } else if (e == ERR_MISSING || e == ERR_AGAIN) {
        set_result(t, e, "no job of another process was interrupted");
        e = OK;
    }
    return e;
}

static enum err run_write(struct store_task *t, enum err e) {
    set_result(t, OK, NULL); // once it is committed
    return e;
}

// Returns what ends the transaction, else OK with a result of the task's own.
static enum err run_task(struct sqlite *db, struct store_task *t) {
    switch (t->kind) {
    case TASK_PUT: return run_write(t, sqlite_put(db, &t->record));
    case TASK_FORGET: return run_write(t, sqlite_forget(db, t->record.id));
    case TASK_INTERRUPT: return run_interrupt(db, t);
    case TASK_LOAD: break;
    }
    return run_load(db, t);
}

// One transaction; where it fails, that is the result of all.
static enum err run_all(struct store *s, struct list *tasks) {
    enum err e = sqlite_begin(s->db);
    list_each(node, tasks) { e = e == OK ? run_task(s->db, container_of(node, struct store_task, node)) : e; }
    e = e == OK ? sqlite_commit(s->db) : e;
    if (e != OK) {
        sqlite_rollback(s->db);
        list_each(node, tasks) {
            struct store_task *t = container_of(node, struct store_task, node);
            unload(t);
            set_result(t, e, sqlite_problem(s->db));
        }
    }
    return e;
}

static unsigned run_each(struct store *s, struct list *tasks) {
    struct list one, done;
    struct list *node;
    unsigned commits = 0;
    list_init(&done);
    while ((node = list_pop_front(tasks))) {
        list_init(&one);
        list_push_back(&one, node);
        commits += run_all(s, &one) == OK;
        list_unlink(node);
        list_push_back(&done, node);
    }
    list_move_all(tasks, &done);
    return commits;
}

static uint64_t take_all(struct store *s, struct list *tasks) {
    pthread_mutex_lock(&s->lock);
    uint64_t sweep_s = s->sweep_s;
    list_move_all(tasks, &s->queue);
    list_init(&s->queue);
    s->queued = 0;
    s->sweep_s = 0;
    s->draining = false;
    pthread_mutex_unlock(&s->lock);
    return sweep_s;
}

static void count(struct store *s, struct list *tasks, unsigned commits) {
    pthread_mutex_lock(&s->lock);
    s->commits += commits;
    list_each(node, tasks) {
        enum err e = container_of(node, struct store_task, node)->result;
        s->failed += e != OK && e != ERR_MISSING && e != ERR_AGAIN;
    }
    pthread_mutex_unlock(&s->lock);
}

static void tell_all(struct list *tasks) {
    struct list *node;
    while ((node = list_pop_front(tasks))) {
        struct store_task *t = container_of(node, struct store_task, node);
        if (t->loop) {
            loop_post(t->loop, &t->message);
        } else {
            task_free(t);
        }
    }
}

// What is asked meanwhile comes before the next piece.
static void sweep(struct store *s, uint64_t now_s) {
    bool more = false;
    enum err e = sqlite_sweep(s->db, now_s, &more);
    (void)e; // logged where it was found; the next sweep tries again
    pthread_mutex_lock(&s->lock);
    if (more && !s->closing) {
        s->sweep_s = s->sweep_s ? s->sweep_s : now_s;
        wake(s);
    }
    pthread_mutex_unlock(&s->lock);
}

static void drain(struct work *work, unsigned thread UNUSED) {
    struct store *s = container_of(work, struct store, drain);
    struct list tasks;
    uint64_t sweep_s = take_all(s, &tasks);
    if (!list_empty(&tasks)) {
        bool several = tasks.next != tasks.prev;
        unsigned commits = run_all(s, &tasks) == OK;
        commits += !commits && several ? run_each(s, &tasks) : 0;
        count(s, &tasks, commits);
        tell_all(&tasks);
    }
    if (sweep_s) {
        sweep(s, sweep_s);
    }
    sqlite_tidy(s->db);
}

// ---- Open and close ----

static enum err say(char problem[STORE_PROBLEM_MAX], enum err e, const char *text) {
    snprintf(problem, STORE_PROBLEM_MAX, "%s", text);
    return e;
}

// Begins with '/' or "./": SQLite gives names that begin otherwise meanings of their own (":memory:", "file:").
static enum err path_of(struct str url, char path[PATH_MAX], char problem[STORE_PROBLEM_MAX]) {
    const struct str scheme = STR("sqlite://");
    struct str name = str_skip(url, scheme.len);
    if (!str_starts(url, scheme) || !name.len || str_ends(name, STR("/")) || memchr(name.ptr, '\0', name.len)) {
        return say(problem, ERR_INVALID, "a store is written sqlite:///absolute/file or sqlite://relative/file");
    }
    int len = snprintf(path, PATH_MAX, "%s%.*s", name.ptr[0] == '/' ? "" : "./", STR_ARG(name));
    return len < PATH_MAX ? OK : say(problem, ERR_INVALID, "the path of the store is too long");
}

enum err store_open(const struct store_options *options, struct store **result, char problem[STORE_PROBLEM_MAX]) {
    char path[PATH_MAX];
    struct sqlite *db = NULL;
    enum err e = path_of(options->url, path, problem);
    e = e == OK ? sqlite_open(path, options, &db, problem) : e;
    if (e != OK) {
        return e;
    }
    struct executor *executor = executor_create("thaw-store", 1, 1);
    if (!executor) {
        sqlite_close(db);
        return say(problem, ERR_SYS, "the store's thread could not be made");
    }
    struct store *s = xcalloc(1, sizeof *s);
    *s = (struct store){
        .bytes_max = options->queue_max ? options->queue_max : STORE_QUEUE_MAX,
        .holders = 1,
        .executor = executor,
        .drain = {.run = drain},
        .db = db,
        .opened_s = options->now_s,
    };
    pthread_mutex_init(&s->lock, NULL);
    list_init(&s->queue);
    *result = s;
    return OK;
}

void store_close(struct store *s) {
    if (!s) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_mutex_unlock(&s->lock);
    executor_destroy(s->executor);
    sqlite_close(s->db);
    release(s);
}

enum err store_each(struct store *s, void (*on_record)(void *context, const struct store_record *record), void *context,
                    char problem[STORE_PROBLEM_MAX]) {
    assert(s->holders == 1 && !s->draining);
    enum err e = sqlite_each(s->db, s->opened_s, on_record, context);
    return e == OK ? OK : say(problem, e, sqlite_problem(s->db));
}
