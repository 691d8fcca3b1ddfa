// SPDX-License-Identifier: MIT
// The store in an SQLite file. Two tables, so that what is read at every start (a few hundred bytes a tape) does not
// lie among the bodies; a trigger keeps them together. The file is locked for as long as it is open: a second process
// is told so at once, and SQLite needs no shared memory beside the file. Durability is SQLite's: a write-ahead log,
// synced at every commit (synchronous = FULL).
#include "store/sqlite.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/log.h"
#include "base/mem.h"

#define APPLICATION_ID 1952997751 // "thaw", at byte 68 of the file
#define FILE_PAGE 8192            // measured: internals/store.md
#define SPARE_PAGES 512 // free ones that stay in the file, beside a quarter of it; and those given back in one piece
#define TEXT_OF_(number) #number
#define TEXT_OF(number) TEXT_OF_(number)

enum {
    LOG_PAGES = 500,  // the log is moved into the file when it has so many
    SWEEP_ROWS = 128, // of one piece of a sweep
    SWEEP_BYTES = 8 << 20,
    BUSY_MS = 10 * 1000,
};

// From format n to n + 1. A change of the tables is a row added here; rows that were released are never changed.
static const char *const migrations[] = {
    "CREATE TABLE tape ("
    " n INTEGER PRIMARY KEY,"
    " id TEXT NOT NULL UNIQUE,"
    " tenant BLOB NOT NULL,"
    " key BLOB NOT NULL,"
    " asked BLOB NOT NULL,"
    " state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 4)," // enum store_state
    " created_s INTEGER NOT NULL,"
    " expires_s INTEGER NOT NULL,"
    " status INTEGER NOT NULL,"
    " error TEXT NOT NULL,"
    " reason TEXT NOT NULL,"
    " problem TEXT NOT NULL,"
    " size INTEGER NOT NULL" // of its bytes
    ") STRICT;"
    "CREATE TABLE bytes ("
    " n INTEGER PRIMARY KEY," // the tape's
    " request BLOB NOT NULL,"
    " head BLOB NOT NULL,"
    " body BLOB NOT NULL,"
    " marks BLOB NOT NULL"
    ") STRICT;"
    "CREATE TRIGGER tape_gone AFTER DELETE ON tape BEGIN DELETE FROM bytes WHERE n = old.n; END;"
    "CREATE INDEX tape_running ON tape (n) WHERE state = 0;"
    "CREATE INDEX tape_expires ON tape (expires_s) WHERE state != 0;",
    // Of a running job: the process that runs it, by the byte it has locked (see owners_open).
    "ALTER TABLE tape ADD COLUMN owner INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX tape_owner ON tape (owner, n) WHERE state = 0;",
};
_Static_assert(STORE_RUNNING == 0 && STORE_INTERRUPTED == 4, "the numbers are the file's");

#define TAPE_COLUMNS "id, tenant, key, asked, state, created_s, expires_s, status, error, reason, problem, owner"
enum column {
    COLUMN_ID,
    COLUMN_TENANT,
    COLUMN_KEY,
    COLUMN_ASKED,
    COLUMN_STATE,
    COLUMN_CREATED,
    COLUMN_EXPIRES,
    COLUMN_STATUS,
    COLUMN_ERROR,
    COLUMN_REASON,
    COLUMN_PROBLEM,
    COLUMN_OWNER,
    COLUMN_REQUEST, // from here on only where the bytes are joined
    COLUMN_HEAD,
    COLUMN_BODY,
    COLUMN_MARKS,
};

#define STATEMENTS(SQL)                                                                                                \
    SQL(BEGIN, "BEGIN IMMEDIATE")                                                                                      \
    SQL(COMMIT, "COMMIT")                                                                                              \
    SQL(ROLLBACK, "ROLLBACK")                                                                                          \
    SQL(INTERRUPT, "UPDATE tape SET state = 4, expires_s = ?1 + max(expires_s - created_s, 0)"                         \
                   " WHERE n = (SELECT n FROM tape WHERE state = 0 AND owner = ?2 ORDER BY n LIMIT 1) RETURNING id")   \
    SQL(OWNERS, "SELECT owner FROM tape WHERE state = 0 AND owner > ?1 ORDER BY owner LIMIT 1")                        \
    SQL(EACH, "SELECT " TAPE_COLUMNS " FROM tape NOT INDEXED WHERE expires_s > ?1 ORDER BY n")                         \
    SQL(PUT_TAPE,                                                                                                      \
        "INSERT INTO tape (" TAPE_COLUMNS ", size) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,"              \
        " ?12, ?13) ON CONFLICT (id) DO UPDATE SET tenant = ?2, key = ?3, asked = ?4, state = ?5, created_s = ?6,"     \
        " expires_s = ?7, status = ?8, error = ?9, reason = ?10, problem = ?11, owner = ?12, size = ?13 RETURNING n")  \
    SQL(PUT_BYTES, "REPLACE INTO bytes (n, request, head, body, marks) VALUES (?1, ?2, ?3, ?4, ?5)")                   \
    SQL(LOAD, "SELECT " TAPE_COLUMNS ", request, head, body, marks FROM tape JOIN bytes USING (n) WHERE id = ?1")      \
    SQL(FORGET, "DELETE FROM tape WHERE id = ?1")                                                                      \
    SQL(EXPIRE, "DELETE FROM tape WHERE n = (SELECT n FROM tape WHERE expires_s <= ?1 AND state != 0"                  \
                " ORDER BY expires_s LIMIT 1) RETURNING size")                                                         \
    SQL(PAGES, "PRAGMA page_count")                                                                                    \
    SQL(FREE_PAGES, "PRAGMA freelist_count")                                                                           \
    SQL(SHRINK, "PRAGMA incremental_vacuum(" TEXT_OF(SPARE_PAGES) ")")

enum statement {
#define SQL(NAME, text) SQL_##NAME,
    STATEMENTS(SQL)
#undef SQL
        SQL_COUNT
};
static const char *const statement_texts[] = {
#define SQL(NAME, text) text,
    STATEMENTS(SQL)
#undef SQL
};

struct owners {
    char path[PATH_MAX];
    int fd;       // -1: closed
    uint64_t own; // the byte that this store has locked
};

struct sqlite {
    sqlite3 *db;
    sqlite3_stmt *statements[SQL_COUNT];
    struct owners owners;
    const char *problem;
    uint64_t failures;
    int log_pages;
    char interrupted[STORE_ID_MAX]; // the last one's id
    size_t interrupted_len;
    bool opening; // its caller tells of errors
};

// ---- Errors ----

#define THE_STORE "the store "
#define NOT_OURS "is not a store of thaw's: give the path of a new file, or move this one away"
#define NO_ACCESS "may not be written: see to the owner and the mode of the file and of its folder"

struct failure {
    int code;
    enum err err;
    const char *text; // begins with THE_STORE
};
static const struct failure failures[] = {
    {SQLITE_FULL, ERR_DISK, THE_STORE "is on a full disk, or as large as it may be: make room"},
    {SQLITE_NOMEM, ERR_NOMEM, THE_STORE "could not get the memory it needs"},
    {SQLITE_TOOBIG, ERR_FULL, THE_STORE "takes no records that large"},
    {SQLITE_BUSY, ERR_SYS,
     THE_STORE "is open in another process, perhaps another thaw: stop that one, or give this one a file of its own"},
    {SQLITE_NOTADB, ERR_INVALID, THE_STORE NOT_OURS},
    {SQLITE_CORRUPT, ERR_SYS,
     THE_STORE "is damaged: move the file away and thaw begins a new one; `sqlite3 FILE .recover` may rescue what is "
               "in the old one"},
    {SQLITE_CANTOPEN, ERR_SYS, THE_STORE NO_ACCESS},
    {SQLITE_READONLY, ERR_SYS, THE_STORE NO_ACCESS},
    {SQLITE_PERM, ERR_SYS, THE_STORE NO_ACCESS},
    {SQLITE_IOERR, ERR_SYS, THE_STORE "is on a disk that fails to read or write"},
    {0, ERR_SYS, THE_STORE "met an error of SQLite that thaw does not know"}, // all others
};

// SQLite has SQLITE_FULL for ENOSPC alone.
static bool is_full(int errno_value) { return errno_value == ENOSPC || errno_value == EDQUOT || errno_value == EFBIG; }

static const struct failure *failure_of(int code, int errno_value) {
    code &= 0xff; // without what makes it an extended one
    code = code == SQLITE_IOERR && is_full(errno_value) ? SQLITE_FULL : code;
    const struct failure *f = failures;
    while (f->code && f->code != code) {
        f++;
    }
    return f;
}

// Each time that the count of failures has doubled: a full disk fails thousands of times.
static void log_failure(struct sqlite *db, int code, const char *detail) {
    if (!db->opening && (db->failures & (db->failures - 1)) == 0) {
        log_warning("%s (SQLite %d, %s; %llu so far)", db->problem, code, detail, (unsigned long long)db->failures);
    }
}

// What a commit fails with is known to the log's file alone.
static int errno_of(struct sqlite *db) {
    sqlite3_file *log = NULL;
    int value = 0;
    sqlite3_file_control(db->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (log && log->pMethods) {
        log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &value);
    }
    return value ? value : sqlite3_system_errno(db->db);
}

static enum err fail(struct sqlite *db, int code) {
    int errno_value = errno_of(db);
    const struct failure *f = failure_of(code, errno_value);
    db->problem = f->text;
    db->failures++;
    log_failure(db, code, errno_value ? strerror(errno_value) : sqlite3_errstr(code));
    return f->err;
}

const char *sqlite_problem(const struct sqlite *db) { return db->problem; }

// For the store that is being opened.
static enum err PRINTF(4, 5)
    say(enum err e, char problem[STORE_PROBLEM_MAX], const char *path, const char *format, ...) {
    va_list args;
    int used = snprintf(problem, STORE_PROBLEM_MAX, THE_STORE "%.250s ", path);
    va_start(args, format);
    (void)vsnprintf(problem + used, STORE_PROBLEM_MAX - (size_t)used, format, args);
    va_end(args);
    return e;
}

// ---- Statements ----

struct binder {
    sqlite3_stmt *stmt;
    int at;   // places filled
    int code; // the first error
};

static struct binder bind(struct sqlite *db, enum statement n) { return (struct binder){.stmt = db->statements[n]}; }

static void bind_number(struct binder *b, uint64_t value) {
    int code = sqlite3_bind_int64(b->stmt, ++b->at, (sqlite3_int64)MIN(value, (uint64_t)INT64_MAX));
    b->code = b->code ? b->code : code;
}

static void bind_bytes(struct binder *b, const void *bytes, size_t len) {
    int code = sqlite3_bind_blob64(b->stmt, ++b->at, len ? bytes : "", len, SQLITE_STATIC);
    b->code = b->code ? b->code : code;
}

static void bind_text(struct binder *b, struct str s) {
    int code = sqlite3_bind_text64(b->stmt, ++b->at, s.len ? s.ptr : "", s.len, SQLITE_STATIC, SQLITE_UTF8);
    b->code = b->code ? b->code : code;
}

static void clear(sqlite3_stmt *stmt) {
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt); // they borrow
}

// Runs it to its end; the first column of its first row, if there is one, goes to *value.
static enum err run(struct sqlite *db, const struct binder *b, uint64_t *value) {
    int code = b->code;
    bool first = true;
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(b->stmt);
        if (code == SQLITE_ROW && first) {
            *value = (uint64_t)sqlite3_column_int64(b->stmt, 0);
            first = false;
        }
    }
    enum err e = code == SQLITE_DONE ? OK : fail(db, code);
    clear(b->stmt);
    return e;
}

static enum err run_plain(struct sqlite *db, enum statement n) {
    uint64_t unused = 0;
    struct binder b = bind(db, n);
    return run(db, &b, &unused);
}

static enum err execute(struct sqlite *db, const char *text) {
    int code = sqlite3_exec(db->db, text, NULL, NULL, NULL);
    return code == SQLITE_OK ? OK : fail(db, code);
}

// ---- Transactions ----

enum err sqlite_begin(struct sqlite *db) { return run_plain(db, SQL_BEGIN); }
enum err sqlite_commit(struct sqlite *db) { return run_plain(db, SQL_COMMIT); }

void sqlite_rollback(struct sqlite *db) {
    if (!sqlite3_get_autocommit(db->db)) { // SQLite has not done so by itself
        sqlite3_step(db->statements[SQL_ROLLBACK]);
        sqlite3_reset(db->statements[SQL_ROLLBACK]);
    }
}

// ---- Records ----

static size_t size_of(const struct store_record *r) {
    return r->request.len + r->head.len + r->body.len + r->marks.len;
}

static enum err put_tape(struct sqlite *db, const struct store_record *r, uint64_t *row) {
    struct binder b = bind(db, SQL_PUT_TAPE);
    bind_text(&b, r->id);
    bind_bytes(&b, r->tenant, sizeof r->tenant);
    bind_bytes(&b, r->key, sizeof r->key);
    bind_bytes(&b, r->asked, sizeof r->asked);
    bind_number(&b, r->state);
    bind_number(&b, r->created_s);
    bind_number(&b, r->expires_s);
    bind_number(&b, (uint64_t)r->status);
    bind_text(&b, r->error);
    bind_text(&b, r->reason);
    bind_text(&b, r->problem);
    bind_number(&b, r->state == STORE_RUNNING ? db->owners.own : 0);
    bind_number(&b, size_of(r));
    return run(db, &b, row);
}

enum err sqlite_put(struct sqlite *db, const struct store_record *r) {
    uint64_t row = 0;
    enum err e = put_tape(db, r, &row);
    if (e != OK) {
        return e;
    }
    const struct str all[] = {r->request, r->head, r->body, r->marks};
    struct binder b = bind(db, SQL_PUT_BYTES);
    bind_number(&b, row);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        bind_bytes(&b, all[i].ptr, all[i].len);
    }
    return run(db, &b, &row);
}

static struct str column(sqlite3_stmt *stmt, int at) {
    const char *ptr = sqlite3_column_blob(stmt, at);
    return str_from(ptr ? ptr : "", (size_t)sqlite3_column_bytes(stmt, at));
}

static uint64_t column_number(sqlite3_stmt *stmt, int at) { return (uint64_t)MAX(sqlite3_column_int64(stmt, at), 0); }

static bool read_digest(sqlite3_stmt *stmt, int at, unsigned char digest[STORE_DIGEST]) {
    struct str bytes = column(stmt, at);
    if (bytes.len != STORE_DIGEST) {
        return false;
    }
    memcpy(digest, bytes.ptr, STORE_DIGEST);
    return true;
}

// False where it holds what was never written.
static bool read_tape(const struct sqlite *db, sqlite3_stmt *stmt, struct store_record *r) {
    uint64_t state = column_number(stmt, COLUMN_STATE);
    *r = (struct store_record){
        .id = column(stmt, COLUMN_ID),
        .state = (enum store_state)state,
        .created_s = column_number(stmt, COLUMN_CREATED),
        .expires_s = column_number(stmt, COLUMN_EXPIRES),
        .status = (int)column_number(stmt, COLUMN_STATUS),
        .error = column(stmt, COLUMN_ERROR),
        .reason = column(stmt, COLUMN_REASON),
        .problem = column(stmt, COLUMN_PROBLEM),
        .elsewhere = state == STORE_RUNNING && column_number(stmt, COLUMN_OWNER) != db->owners.own,
    };
    return state <= STORE_INTERRUPTED && r->id.len > 0 && r->id.len <= STORE_ID_MAX &&
           read_digest(stmt, COLUMN_TENANT, r->tenant) && read_digest(stmt, COLUMN_KEY, r->key) &&
           read_digest(stmt, COLUMN_ASKED, r->asked);
}

enum err sqlite_load(struct sqlite *db, struct str id, struct store_record *r) {
    struct binder b = bind(db, SQL_LOAD);
    bind_text(&b, id);
    int code = b.code ? b.code : sqlite3_step(b.stmt);
    if (code == SQLITE_ROW && read_tape(db, b.stmt, r)) {
        r->request = column(b.stmt, COLUMN_REQUEST);
        r->head = column(b.stmt, COLUMN_HEAD);
        r->body = column(b.stmt, COLUMN_BODY);
        r->marks = column(b.stmt, COLUMN_MARKS);
        return OK;
    }
    enum err e = code == SQLITE_DONE ? ERR_MISSING : fail(db, code == SQLITE_ROW ? SQLITE_CORRUPT : code);
    clear(b.stmt);
    return e;
}

void sqlite_loaded(struct sqlite *db) { clear(db->statements[SQL_LOAD]); }

enum err sqlite_forget(struct sqlite *db, struct str id) {
    uint64_t unused = 0;
    struct binder b = bind(db, SQL_FORGET);
    bind_text(&b, id);
    return run(db, &b, &unused);
}

enum err sqlite_each(struct sqlite *db, uint64_t now_s,
                     void (*on_record)(void *context, const struct store_record *record), void *context) {
    struct store_record r;
    struct binder b = bind(db, SQL_EACH);
    bind_number(&b, now_s);
    int code = b.code ? b.code : sqlite3_step(b.stmt);
    while (code == SQLITE_ROW && read_tape(db, b.stmt, &r)) {
        on_record(context, &r);
        code = sqlite3_step(b.stmt);
    }
    enum err e = code == SQLITE_DONE ? OK : fail(db, code == SQLITE_ROW ? SQLITE_CORRUPT : code);
    clear(b.stmt);
    return e;
}

// ---- What goes by itself ----

static enum err expire(struct sqlite *db, uint64_t now_s, bool *more) {
    uint64_t bytes = 0;
    enum err e = OK;
    for (unsigned rows = 0; e == OK && rows < SWEEP_ROWS && bytes < SWEEP_BYTES; rows++) {
        uint64_t size = UINT64_MAX;
        struct binder b = bind(db, SQL_EXPIRE);
        bind_number(&b, now_s);
        e = run(db, &b, &size);
        if (size == UINT64_MAX) { // none was left, or none could be deleted
            return e;
        }
        bytes += size;
    }
    *more = true;
    return e;
}

static enum err spare_pages(struct sqlite *db, uint64_t *spare) {
    uint64_t pages = 0;
    uint64_t unused = 0;
    struct binder b = bind(db, SQL_PAGES);
    enum err e = run(db, &b, &pages);
    if (e == OK) {
        b = bind(db, SQL_FREE_PAGES);
        e = run(db, &b, &unused);
    }
    *spare = unused > SPARE_PAGES + pages / 4 ? unused : 0;
    return e;
}

// Gives back what is too much. A file whose pages cannot be moved (made by hand, without auto_vacuum) is left alone.
static enum err shrink(struct sqlite *db, bool *more) {
    uint64_t before = 0;
    uint64_t after = 0;
    enum err e = spare_pages(db, &before);
    if (e != OK || before == 0) {
        return e;
    }
    e = run_plain(db, SQL_SHRINK);
    if (e == OK) {
        e = spare_pages(db, &after);
        *more = *more || (after > 0 && after < before);
    }
    return e;
}

enum err sqlite_sweep(struct sqlite *db, uint64_t now_s, bool *more) {
    *more = false;
    enum err e = sqlite_begin(db);
    e = e == OK ? expire(db, now_s, more) : e;
    e = e == OK ? sqlite_commit(db) : e;
    e = e == OK ? shrink(db, more) : e;
    if (e != OK) {
        *more = false;
        sqlite_rollback(db);
    }
    return e;
}

static int on_log(void *context, sqlite3 *handle UNUSED, const char *name UNUSED, int pages) {
    struct sqlite *db = context;
    db->log_pages = pages;
    return SQLITE_OK;
}

// SQLite would do it inside of a commit, whose callers wait.
void sqlite_tidy(struct sqlite *db) {
    if (db->log_pages < LOG_PAGES) {
        return;
    }
    int code = sqlite3_wal_checkpoint_v2(db->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (code == SQLITE_OK) {
        db->log_pages = 0;
    } else {
        (void)fail(db, code);
    }
}

// ---- Processes that have it open ----

// Each has a byte of a file beside the store locked, which the system lets go when it ends, however that is: the byte's
// number is the owner of its running jobs. The last one takes the file away; byte 0 is held by whoever is coming or
// going. Locks of an open file description (fcntl(2), Linux 3.15), for SQLite's kind goes with the first descriptor that
// is closed.
enum { OWNER_BITS = 48, DOOR = 0 };

static struct flock bytes_at(uint64_t start, off_t len) {
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)start, .l_len = len};
}

// By another open file description than ours; true also where it cannot be found out.
static bool is_locked(const struct owners *o, uint64_t owner) {
    struct flock lock = bytes_at(owner, 1);
    return fcntl(o->fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

static bool is_alone(const struct owners *o) {
    struct flock lock = bytes_at(DOOR + 1, 0);
    return fcntl(o->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

static bool take_lock(const struct owners *o, uint64_t byte) {
    struct flock lock = bytes_at(byte, 1);
    int result = 0;
    do {
        result = fcntl(o->fd, F_OFD_SETLKW, &lock);
    } while (result != 0 && errno == EINTR);
    return result == 0;
}

static void let_go(const struct owners *o, uint64_t byte) {
    struct flock lock = bytes_at(byte, 1);
    lock.l_type = F_UNLCK;
    (void)fcntl(o->fd, F_OFD_SETLK, &lock);
}

// Is the file still the one of that name?
static bool is_there(const struct owners *o) {
    struct stat open_one, named;
    return fstat(o->fd, &open_one) == 0 && stat(o->path, &named) == 0 && open_one.st_ino == named.st_ino &&
           open_one.st_dev == named.st_dev;
}

static int open_door(struct owners *o) {
    for (;;) {
        o->fd = open(o->path, O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
        if (o->fd < 0 || !take_lock(o, DOOR)) {
            return errno;
        }
        if (is_there(o)) {
            return 0;
        }
        close(o->fd); // the last one has just gone with it
    }
}

// EAGAIN: another process has the store, and `beside` is not wanted.
static int owners_open(struct owners *o, const char *path, bool beside) {
    o->fd = -1;
    if ((size_t)snprintf(o->path, sizeof o->path, "%s-owners", path) >= sizeof o->path) {
        return ENAMETOOLONG;
    }
    int problem = open_door(o);
    if (problem == 0 && !beside && !is_alone(o)) {
        problem = EAGAIN;
    }
    if (problem == 0) {
        problem = getrandom(&o->own, sizeof o->own, 0) == sizeof o->own ? 0 : errno;
        o->own = (o->own >> (64 - OWNER_BITS)) + 1; // 0 is nobody's
        problem = problem ? problem : take_lock(o, o->own) ? 0 : errno;
    }
    if (o->fd >= 0) {
        let_go(o, DOOR);
    }
    return problem;
}

static void owners_close(struct owners *o) {
    if (o->fd >= 0 && take_lock(o, DOOR)) {
        if (is_alone(o) && is_there(o)) {
            (void)unlink(o->path);
        }
    }
    if (o->fd >= 0) {
        close(o->fd);
    }
}

// The owner of a running job whose process has ended; UINT64_MAX: there is none.
static enum err dead_owner(struct sqlite *db, uint64_t *owner) {
    enum err e = OK;
    uint64_t last = 0;
    bool first = true;
    for (*owner = UINT64_MAX; e == OK && *owner == UINT64_MAX; first = false) {
        struct binder b = bind(db, SQL_OWNERS);
        uint64_t found = UINT64_MAX;
        sqlite3_int64 from = first ? -1 : (sqlite3_int64)last; // jobs of before there were owners have 0
        b.code = sqlite3_bind_int64(b.stmt, ++b.at, from);
        e = run(db, &b, &found);
        if (found == UINT64_MAX) {
            return e;
        }
        last = found;
        if (found != db->owners.own && (found == DOOR || !is_locked(&db->owners, found))) {
            *owner = found;
        }
    }
    return e;
}

enum err sqlite_interrupt(struct sqlite *db, uint64_t now_s, struct store_record *r) {
    uint64_t owner = UINT64_MAX;
    bool alone = is_alone(&db->owners); // before looking: what ends behind is looked for again
    enum err e = dead_owner(db, &owner);
    if (e != OK || owner == UINT64_MAX) {
        return e != OK ? e : alone ? ERR_MISSING : ERR_AGAIN;
    }
    struct binder b = bind(db, SQL_INTERRUPT);
    bind_number(&b, now_s);
    bind_number(&b, owner);
    int code = b.code ? b.code : sqlite3_step(b.stmt);
    struct str id = code == SQLITE_ROW ? column(b.stmt, 0) : STR("");
    db->interrupted_len = MIN(id.len, sizeof db->interrupted);
    memcpy(db->interrupted, id.ptr, db->interrupted_len);
    while (code == SQLITE_ROW) { // the statement changes what it was to change once it has been run to its end
        code = sqlite3_step(b.stmt);
    }
    clear(b.stmt);
    if (code != SQLITE_DONE) {
        return fail(db, code);
    }
    *r = (struct store_record){.id = str_from(db->interrupted, db->interrupted_len), .created_s = now_s};
    return OK;
}

// ---- Open and close ----

// SQLite would make it for all to read. An existing file is not opened here: closing it would drop the locks that
// another store of this process has on it (POSIX).
static enum err make_file(const char *path, char problem[STORE_PROBLEM_MAX]) {
    struct stat info;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd >= 0) {
        close(fd);
        return OK;
    }
    if (errno != EEXIST || stat(path, &info) != 0) {
        return say(ERR_SYS, problem, path, "cannot be made: %s", strerror(errno));
    }
    return S_ISREG(info.st_mode) ? OK : say(ERR_INVALID, problem, path, "is not a regular file");
}

static enum err number_of(struct sqlite *db, const char *text, int64_t *value) {
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(db->db, text, -1, &stmt, NULL);
    code = code == SQLITE_OK ? sqlite3_step(stmt) : code;
    *value = code == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    enum err e = code == SQLITE_ROW ? OK : fail(db, code);
    sqlite3_finalize(stmt);
    return e;
}

static enum err set_up(struct sqlite *db, const struct store_options *options UNUSED) {
    if (sqlite3_db_readonly(db->db, "main")) { // what SQLite makes of a file that it may not write
        return fail(db, SQLITE_READONLY);
    }
    sqlite3_wal_hook(db->db, on_log, db);
    sqlite3_busy_timeout(db->db, BUSY_MS); // a process that takes over from this one may be writing
    return execute(db, "PRAGMA synchronous = FULL;"
                       "PRAGMA mmap_size = 0;" // a failing disk is an error and not a signal; the log's index, which is
                                               // mapped, is written to before it grows, and so is there
                       "PRAGMA temp_store = MEMORY;"
                       "PRAGMA trusted_schema = OFF;" // the file may have been anywhere
                       "PRAGMA cell_size_check = ON;"
                       "PRAGMA secure_delete = ON;"
                       "PRAGMA journal_size_limit = 16777216;");
}

// Once SQLite has looked at it, which takes back what a crash left half done. SQLite's own count of pages is 0 also for
// a file of a few bytes.
static bool is_empty(struct sqlite *db) {
    struct stat info;
    return stat(sqlite3_db_filename(db->db, "main"), &info) == 0 && info.st_size == 0;
}

// An empty file becomes ours, before anything else is written.
static enum err identify(struct sqlite *db, const struct store_options *options UNUSED) {
    int64_t application = 0;
    enum err e = number_of(db, "PRAGMA application_id", &application);
    if (e == OK && application == 0 && is_empty(db)) {
        return execute(db, "PRAGMA page_size = " TEXT_OF(FILE_PAGE) ";"
                                                                    "PRAGMA auto_vacuum = INCREMENTAL;"
                                                                    "PRAGMA application_id = " TEXT_OF(APPLICATION_ID));
    }
    return e == OK && application != APPLICATION_ID ? fail(db, SQLITE_NOTADB) : e;
}

static enum err migrate(struct sqlite *db, const struct store_options *options UNUSED) {
    char text[96];
    int64_t format = 0;
    enum err e = number_of(db, "PRAGMA user_version", &format);
    if (e == OK && (format < 0 || (uint64_t)format > ARRAY_LEN(migrations))) {
        db->problem = THE_STORE "was written by a newer thaw: use that one, or give this one a file of its own";
        return ERR_INVALID;
    }
    e = e == OK ? execute(db, "PRAGMA journal_mode = WAL") : e;
    for (size_t n = (size_t)format; e == OK && n < ARRAY_LEN(migrations); n++) {
        snprintf(text, sizeof text, "PRAGMA user_version = %zu; COMMIT", n + 1);
        e = execute(db, "BEGIN IMMEDIATE");
        e = e == OK ? execute(db, migrations[n]) : e;
        e = e == OK ? execute(db, text) : e;
    }
    return e;
}

static enum err limit(struct sqlite *db, const struct store_options *options) {
    char text[96];
    int64_t page_size = 0;
    enum err e = number_of(db, "PRAGMA page_size", &page_size);
    if (e != OK || !options->file_max) {
        return e;
    }
    uint64_t pages = MIN(options->file_max / (uint64_t)page_size, (uint64_t)UINT32_MAX - 1);
    snprintf(text, sizeof text, "PRAGMA max_page_count = %llu", (unsigned long long)MAX(pages, 1));
    return execute(db, text);
}

// A table that is not there means that somebody has been at the file.
static enum err prepare(struct sqlite *db, const struct store_options *options UNUSED) {
    for (size_t n = 0; n < SQL_COUNT; n++) {
        int code =
            sqlite3_prepare_v3(db->db, statement_texts[n], -1, SQLITE_PREPARE_PERSISTENT, &db->statements[n], NULL);
        if (code != SQLITE_OK) {
            return fail(db, code == SQLITE_ERROR ? SQLITE_CORRUPT : code);
        }
    }
    return OK;
}

static enum err interrupt(struct sqlite *db, const struct store_options *options) {
    struct store_record unused;
    enum err e = execute(db, "BEGIN IMMEDIATE");
    for (bool more = e == OK; more; more = e == OK) {
        e = sqlite_interrupt(db, options->now_s, &unused);
    }
    if (e == ERR_MISSING || e == ERR_AGAIN) {
        return execute(db, "COMMIT");
    }
    sqlite_rollback(db);
    return e;
}

static enum err (*const steps[])(struct sqlite *db, const struct store_options *options) = {
    set_up, identify, migrate, limit, prepare, interrupt,
};

enum err sqlite_open(const char *path, const struct store_options *options, struct sqlite **result,
                     char problem[STORE_PROBLEM_MAX]) {
    enum { FLAGS = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE };
    enum err e = make_file(path, problem);
    if (e != OK) {
        return e;
    }
    struct sqlite *db = xcalloc(1, sizeof *db);
    db->opening = true;
    int problem_with_owners = owners_open(&db->owners, path, options->beside);
    if (problem_with_owners) {
        const char *text = failure_of(problem_with_owners == EAGAIN ? SQLITE_BUSY : SQLITE_CANTOPEN, 0)->text;
        (void)say(ERR_SYS, problem, path, "%s (%s)", text + STR(THE_STORE).len, strerror(problem_with_owners));
        sqlite_close(db);
        return ERR_SYS;
    }
    int code = sqlite3_open_v2(path, &db->db, FLAGS, NULL);
    e = code == SQLITE_OK ? OK : fail(db, code);
    for (size_t i = 0; e == OK && i < ARRAY_LEN(steps); i++) {
        e = steps[i](db, options);
    }
    if (e != OK) {
        int errno_value = errno_of(db);
        (void)say(e, problem, path, errno_value ? "%s (%s)" : "%s", db->problem + STR(THE_STORE).len,
                  strerror(errno_value));
        sqlite_close(db);
        return e;
    }
    db->opening = false;
    db->failures = 0;
    *result = db;
    return OK;
}

void sqlite_close(struct sqlite *db) {
    if (!db) {
        return;
    }
    for (size_t n = 0; n < SQL_COUNT; n++) {
        sqlite3_finalize(db->statements[n]);
    }
    int code = sqlite3_close(db->db); // moves the log into the file; where it cannot, the next start does
    assert(code == SQLITE_OK);
    (void)code;
    owners_close(&db->owners); // last: until here this process may still be writing
    free(db);
}
