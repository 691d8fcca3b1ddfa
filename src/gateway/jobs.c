// SPDX-License-Identifier: MIT
// Between the shelf and the store.
//
// What a record's opaque members hold, all of this machine and this program:
//   request  struct packed_request, target, fields (packed), body; without credentials: a job that is run again has
//            the upstream's own key or none
//   head     body_len (int64_t), fields (packed)
//   marks    position of the first byte kept, number of the first mark, marks; each a uint64_t
// What fields.def calls a name is looked up anew: its rows move from one thaw to the next.
//
// A job, from its request to its answer:
//
//     put RUNNING --on the disk--> told (202; of a stream: its first bytes) ... its call ends: put over it
//         |                                          |
//         | refused                                  | the process ends: INTERRUPTED at the next start
//         v                                          v
//     503, the call is stopped             rerun: put RUNNING again, under the same id; else it stays so
#include "gateway/jobs.h"

#include "base/log.h"
#include "gateway/resume.h"
#include "gateway/tapes.h"

enum { SWEEP_MS = 60 * 1000, BESIDE_MS = 1000, LOOKS_MAX = 4, ELSEWHERE_RETRY_MS = 1000 };

// ---- packing

struct packed_request {
    uint32_t method, target_len, fields_len, body_len;
    bool background;
};

struct packed_marks {
    uint64_t start, gone;
};

static enum err pack_request(const struct request *r, struct buf *out) {
    struct fields fields = worker_scratch(r->worker);
    for (unsigned i = 0; i < r->head->fields.n; i++) {
        worker_push(&fields, &r->head->fields.v[i]);
    }
    fields_remove_flagged(&fields, FIELD_CREDENTIAL | FIELD_HOP);
    struct packed_request packed = {
        .method = r->head->method,
        .target_len = (uint32_t)r->head->target.len,
        .fields_len = (uint32_t)fields_packed_size(&fields),
        .body_len = (uint32_t)r->whole.len,
        .background = r->background,
    };
    enum err e = buf_append(out, &packed, sizeof packed);
    e = e == OK ? buf_str_append(out, r->head->target) : e;
    e = e == OK ? buf_reserve(out, packed.fields_len) : e;
    if (e == OK) {
        fields_pack(&fields, buf_tail(out));
        buf_added(out, packed.fields_len);
    }
    return e == OK ? buf_str_append(out, r->whole) : e;
}

// Onto the worker's scratch array. NULL: they are more than this configuration lets heads have.
static const char *unpack_fields(struct fields *fields, const char *packed) {
    const char *end = fields_unpack(fields, packed);
    for (unsigned i = 0; i < fields->n; i++) {
        fields->v[i].id = field_id(fields->v[i].name);
    }
    return end;
}

static bool unpack_request(struct worker *w, struct str from, struct head *head, struct str *body, bool *background) {
    struct packed_request packed;
    if (from.len < sizeof packed) {
        return false;
    }
    memcpy(&packed, from.ptr, sizeof packed);
    from = str_skip(from, sizeof packed);
    if (from.len != (size_t)packed.target_len + packed.fields_len + packed.body_len) {
        return false;
    }
    *head = (struct head){.method = (enum method)packed.method, .fields = worker_scratch(w)};
    head->method_name = str_c(method_name(head->method));
    head->target = str_first(from, packed.target_len);
    head->body_len = packed.body_len;
    *body = str_skip(from, packed.target_len + packed.fields_len);
    *background = packed.background;
    return unpack_fields(&head->fields, from.ptr + packed.target_len) ==
           from.ptr + packed.target_len + packed.fields_len;
}

static enum err pack_head(const struct tape *t, struct buf *out) {
    const struct fields *fields = &t->record->fields;
    size_t size = fields_packed_size(fields);
    enum err e = buf_append(out, &t->body_len, sizeof t->body_len);
    e = e == OK ? buf_reserve(out, size) : e;
    if (e == OK) {
        fields_pack(fields, buf_tail(out));
        buf_added(out, size);
    }
    return e;
}

static enum err pack_marks(const struct tape *t, struct buf *out) {
    const struct tape_marks *marks = &t->record->marks;
    struct packed_marks packed = {tape_start(t), marks->gone};
    enum err e = buf_append(out, &packed, sizeof packed);
    return e == OK ? buf_append(out, marks->v, marks->count * sizeof *marks->v) : e;
}

// ---- what ends is written

static enum store_state state_of(enum tape_end end) {
    switch (end) {
    case TAPE_RUNNING: return STORE_RUNNING;
    case TAPE_WHOLE: return STORE_WHOLE;
    case TAPE_CUT: return STORE_CUT;
    case TAPE_CANCELLED: return STORE_CANCELLED;
    }
    return STORE_CUT;
}

static void put_ended(struct worker *w, struct tape_kept *kept, struct str head, struct str marks, struct str body) {
    const struct tape *t = kept->tape;
    struct tape_id id = shelf_id(&w->shelf, t);
    struct store_record record = {
        .id = str_c(id.text),
        .state = state_of(t->why.end),
        .created_s = t->record->created_s,
        .expires_s = clock_unix_s() + w->config->tape_keep_ms / 1000,
        .status = t->status,
        .head = head,
        .body = body,
        .marks = marks,
        .error = str_c(t->why.error == OK ? "" : err_name(t->why.error)),
        .reason = str_c(t->why.end == TAPE_CUT ? outcome_name((enum outcome)t->why.reason) : ""),
        .problem = str_c(t->why.problem ? t->why.problem : ""),
    };
    memcpy(record.tenant, kept->tenant.bytes, sizeof record.tenant);
    if (kept->keys) {
        memcpy(record.key, kept->key.bytes, sizeof record.key);
        memcpy(record.asked, kept->asked.bytes, sizeof record.asked);
    }
    if (store_put(w->store, NULL, &record) == OK) {
        kept->stored_until_s = record.expires_s;
    } else {
        log_warning("an answer that ended was not stored: too much waits for the disk");
    }
}

static void on_ended(struct shelf *shelf, struct tape_kept *kept) {
    struct worker *w = shelf->owner;
    const struct tape *t = kept->tape;
    struct buf head, marks, body;
    if (t->why.end == TAPE_CUT && t->why.reason == OUTCOME_SHUTDOWN) {
        return; // the store has it as running, which will be found out
    }
    size_t bytes = (size_t)(t->written - tape_start(t));
    buf_init(&head, sizeof t->body_len + fields_packed_size(&t->record->fields));
    buf_init(&marks, sizeof(struct packed_marks) + t->record->marks.count * sizeof *t->record->marks.v);
    buf_init(&body, MAX(bytes, (size_t)1));
    if (pack_head(t, &head) == OK && pack_marks(t, &marks) == OK && tape_copy(t, &body) == OK) {
        put_ended(w, kept, buf_str(&head), buf_str(&marks), buf_str(&body));
    } else {
        log_warning("an answer that ended was not stored: no memory");
    }
    buf_finish(&head);
    buf_finish(&marks);
    buf_finish(&body);
}

// ---- what was stored becomes a tape again

static enum err error_named(struct str name) {
    for (unsigned e = 0; e < ERR_COUNT; e++) {
        if (str_eq(name, str_c(err_name((enum err)e)))) {
            return (enum err)e;
        }
    }
    return ERR_CUT;
}

static enum outcome outcome_named(struct str name) {
    for (unsigned o = 0; o < OUTCOME_COUNT; o++) {
        if (str_eq(name, str_c(outcome_name((enum outcome)o)))) {
            return (enum outcome)o;
        }
    }
    return OUTCOME_UPSTREAM_LOST;
}

// False: there is one, and it cannot be read.
static bool restore_head(struct worker *w, struct tape *t, const struct store_record *record) {
    struct tape_head head = {.status = record->status, .fields = worker_scratch(w)};
    if (record->status == 0) {
        return true;
    }
    if (record->head.len <= sizeof head.body_len ||
        !unpack_fields(&head.fields, record->head.ptr + sizeof head.body_len)) {
        return false;
    }
    memcpy(&head.body_len, record->head.ptr, sizeof head.body_len);
    tape_put_head(t, &head);
    return true;
}

static void restore_marks(struct tape *t, struct str marks) {
    struct packed_marks packed;
    uint64_t mark;
    if (marks.len < sizeof packed) {
        return;
    }
    memcpy(&packed, marks.ptr, sizeof packed);
    t->written = packed.start;
    t->record->marks.gone = packed.gone;
    for (marks = str_skip(marks, sizeof packed); marks.len >= sizeof mark; marks = str_skip(marks, sizeof mark)) {
        memcpy(&mark, marks.ptr, sizeof mark);
        tape_mark(t, mark);
    }
}

static void restore_end(struct tape *t, const struct store_record *record) {
    static const char lost[] = "the answer had ended, but could not be stored";
    char problem[STORE_PROBLEM_MAX];
    struct tape_why why = {TAPE_CUT, ERR_CUT, OUTCOME_SHUTDOWN, 0,
                           "thaw was ended while this call ran, and the call was not run again"};
    snprintf(problem, sizeof problem, "%.*s", STR_ARG(record->problem));
    switch (record->state) {
    case STORE_WHOLE: return;
    case STORE_CUT:
        why = (struct tape_why){TAPE_CUT, error_named(record->error), (int)outcome_named(record->reason), 0, problem};
        break;
    case STORE_CANCELLED: why = (struct tape_why){TAPE_CANCELLED, OK, 0, 0, problem}; break;
    case STORE_RUNNING: why.problem = lost; break; // it is not in memory, where all are that run
    case STORE_INTERRUPTED: break;
    }
    tape_finish(t, &why);
}

struct tape *jobs_restore(struct worker *w, const struct store_record *record) {
    struct tape *t = tape_create(NULL, NULL);
    tape_keep(t, record->body.len + 1, record->created_s);
    t->record->id = xcalloc(1, sizeof *t->record->id);
    memcpy(t->record->id->text, record->id.ptr, MIN(record->id.len, (size_t)TAPE_ID_LEN));
    bool readable = restore_head(w, t, record);
    restore_marks(t, record->marks);
    if (tape_running(t) && !readable) {
        tape_finish(
            t, &(struct tape_why){TAPE_CUT, ERR_CUT, OUTCOME_UPSTREAM_LOST, 0, "the stored answer cannot be read"});
    }
    if (tape_running(t)) {
        tape_append(t, record->body, record->state == STORE_WHOLE);
    }
    if (tape_running(t)) {
        restore_end(t, record);
    }
    return t;
}

// ---- what a request waits for

struct job {
    struct store_op op;
    struct request *request; // NULL: its client left; what was begun is looked after nevertheless
    struct tape_id id;
    struct tape *tape; // that was begun; NULL: one is looked for,
    jobs_then *then;   // and this is told
};

static struct job *job_create(struct request *r, const struct tape_id *id, void (*on_done)(struct store_op *op)) {
    struct job *job = xcalloc(1, sizeof *job);
    job->op.loop = &r->worker->loop;
    job->op.on_done = on_done;
    job->request = r;
    job->id = *id;
    return job;
}

static void job_destroy(struct job *job) {
    if (job->request) {
        job->request->resume->job = NULL;
    }
    tape_unref(job->tape);
    free(job);
}

void jobs_leave(struct request *r) {
    struct job *job = r->resume ? r->resume->job : NULL;
    if (job && job->tape) {
        r->resume->job = NULL;
        job->request = NULL;
    } else if (job) {
        store_cancel(&job->op);
        job_destroy(job);
    }
}

void jobs_refuse(struct request *r, const char *problem) {
    request_error(r, 503, OUTCOME_EXHAUSTED, NULL, "store_failed", "The job could not be stored: %s.", problem);
}

// Nothing was promised, so nothing of it is stored, and it is for those alone who read it now.
static void give_up(struct tape *t) {
    struct tape_kept *kept = tape_kept(t);
    if (!kept || !tape_running(t)) {
        return;
    }
    kept->brief = true;
    kept->disconnect = TAPE_ENDS;
    if (t->wanting == 0) {
        tape_stop(t, &(struct tape_why){TAPE_CANCELLED, OK, 0, 0, "the job could not be stored"});
    }
}

static void on_begun(struct store_op *op) {
    struct job *job = container_of(op, struct job, op);
    struct request *r = job->request;
    struct tape *t = tape_ref(job->tape);
    struct tape_id id = job->id;
    enum err e = op->result;
    const char *problem = op->problem;
    job_destroy(job);
    if (e != OK) {
        give_up(t);
    }
    if (r && e != OK) {
        jobs_refuse(r, problem);
    } else if (r && resume_is_async(r)) {
        resume_acknowledge(r, &id, tape_end_name(t->why.end));
    } else if (r) {
        request_follow(r, t, tape_start(t));
    }
    tape_unref(t);
}

// What a store is to know of a job: all but what was asked.
static struct store_record begun(const struct tape_kept *kept, const struct tape_id *id) {
    struct store_record record = {
        .id = str_c(id->text),
        .state = STORE_RUNNING,
        .created_s = kept->tape->record->created_s,
        .expires_s = kept->tape->record->created_s + kept->shelf->all->options.keep_ms / 1000,
    };
    memcpy(record.tenant, kept->tenant.bytes, sizeof record.tenant);
    memcpy(record.key, kept->key.bytes, sizeof record.key);
    memcpy(record.asked, kept->asked.bytes, sizeof record.asked);
    return record;
}

enum err jobs_pack(const struct request *r, struct buf *out) {
    const struct config *config = r->setup->config;
    buf_init(out, sizeof(struct packed_request) + 2 * config->max_head + config->max_body);
    return pack_request(r, out);
}

void jobs_adopt(struct worker *w, struct tape_kept *kept, struct str request) {
    if (!w->store || kept->job) {
        return;
    }
    struct tape_id id = shelf_id(&w->shelf, kept->tape);
    struct store_record record = begun(kept, &id);
    record.request = request;
    kept->job = store_put(w->store, NULL, &record) == OK; // whoever waits for it looks whether it is there
}

bool jobs_begin(struct request *r, struct tape *t) {
    struct worker *w = r->worker;
    struct buf request;
    if (!w->store) {
        return true;
    }
    struct tape_id id = shelf_id(&w->shelf, t);
    struct store_record record = begun(tape_kept(t), &id);
    struct job *job = job_create(r, &id, on_begun);
    job->tape = tape_ref(t);
    r->resume->job = job;
    enum err e = jobs_pack(r, &request);
    record.request = buf_str(&request);
    e = e == OK ? store_put(w->store, &job->op, &record) : e;
    buf_finish(&request);
    if (e != OK) {
        job_destroy(job);
        jobs_refuse(r, e == ERR_FULL ? "too much waits for the disk already" : "there is no memory for it");
        return false;
    }
    tape_kept(t)->job = true;
    return true;
}

static void on_found(struct store_op *op) {
    struct job *job = container_of(op, struct job, op);
    struct request *r = job->request;
    const struct resume *s = r->resume;
    bool anybody = s->reads && r->setup->config->tape_read_by_id;
    bool there =
        op->result == OK && (anybody || memcmp(op->record.tenant, s->tenant.bytes, sizeof op->record.tenant) == 0);
    bool undecided = there && op->record.state == STORE_INTERRUPTED && r->worker->shelves->rerunning;
    if (undecided && store_load(r->worker->store, &job->op, str_c(job->id.text)) == OK) {
        return; // it may be one that is run again
    }
    r->resume->job = NULL; // `then` may end the request
    if (there || op->result == OK || op->result == ERR_MISSING) {
        job->then(r, there ? &op->record : NULL);
    } else {
        request_error(r, 503, OUTCOME_EXHAUSTED, NULL, "store_failed",
                      "The answer could not be read from the store: %s.", err_text(op->result));
    }
    free(job);
}

bool jobs_find(struct request *r, const struct tape_id *id, jobs_then *then) {
    if (!r->worker->store) {
        return false;
    }
    if (!r->resume->reads && r->state != REQUEST_FOLLOWING && !request_hold(r)) {
        return true;
    }
    struct job *job = job_create(r, id, on_found);
    job->then = then;
    r->resume->job = job;
    if (store_load(r->worker->store, &job->op, str_c(job->id.text)) != OK) {
        job_destroy(job);
        request_error(r, 503, OUTCOME_EXHAUSTED, NULL, "store_busy", "The store has too much to do. Try again.");
    } else if (r->state != REQUEST_FOLLOWING) {
        request_set_state(r, REQUEST_FOLLOWING);
    }
    return true;
}

bool jobs_elsewhere(struct request *r, const struct store_record *record) {
    if (!record->elsewhere) {
        return false;
    }
    r->retry_ms = ELSEWHERE_RETRY_MS;
    request_error(
        r, 503, OUTCOME_EXHAUSTED, NULL, "job_elsewhere",
        "The answer is being made by the thaw that this one has taken over from. Ask again when it is whole.");
    return true;
}

void jobs_forget(struct worker *w, const struct tape_id *id) {
    if (w->store && store_forget(w->store, NULL, str_c(id->text)) != OK) {
        log_warning("an answer was not deleted from the store: too much waits for the disk");
    }
}

// ---- starting, and running again

static struct digest alias_of(const struct tape_id *id) {
    struct str parts[] = {STR("id"), str_c(id->text)};
    return digest_parts(parts, ARRAY_LEN(parts));
}

static bool find_place(const struct worker *w, const struct tape_id *id, struct tape_id *place) {
    struct digest alias = alias_of(id);
    return w->store && shelf_lookup(w->shelves, &alias, place);
}

struct tape_id jobs_place(const struct worker *w, const struct tape_id *id) {
    struct tape_id place = *id;
    return find_place(w, id, &place) ? place : *id;
}

bool jobs_runs_again(struct request *r, const struct store_record *record) {
    struct resume *s = r->resume;
    struct tape_id place;
    return jobs_unfinished(record) && s->attempts < LOOKS_MAX && find_place(r->worker, &s->id, &place) && ++s->attempts;
}

void jobs_name(struct tape_kept *kept, const struct tape_id *id) {
    struct digest alias = alias_of(id);
    struct tape_id other;
    enum shelf_claim claim = shelf_claim(kept, &alias, NULL, &other);
    kept->tape->record->id = xcalloc(1, sizeof *id);
    *kept->tape->record->id = *id;
    (void)claim; // nobody else makes a tape of this id
}

struct rerun {
    struct list node; // in worker->reruns
    struct store_op op;
    struct worker *worker;
    struct tape_id id;
};

static void next_rerun(struct worker *w);

static void drop_rerun(struct rerun *rerun) {
    list_unlink(&rerun->node);
    free(rerun);
}

static void run_again(struct worker *w, const struct store_record *record) {
    struct head head;
    struct str body;
    bool background;
    if (!unpack_request(w, record->request, &head, &body, &background)) {
        log_warning("a job of the store is not understood and was not run again");
        return;
    }
    const struct config_route *route = config_route_find(w->config, target_path(head.target));
    if (!route || !route->rerun) {
        return;
    }
    struct resume *s = xcalloc(1, sizeof *s);
    s->rerun = true;
    memcpy(s->id.text, record->id.ptr, MIN(record->id.len, (size_t)TAPE_ID_LEN));
    memcpy(s->tenant.bytes, record->tenant, sizeof s->tenant.bytes);
    log_info("job %s was interrupted and is run again", s->id.text);
    request_begin_job(w, &head, body, s, background);
}

static void on_rerun(struct store_op *op) {
    struct rerun *rerun = container_of(op, struct rerun, op);
    struct worker *w = rerun->worker;
    if (op->result == OK && op->record.state == STORE_INTERRUPTED) {
        run_again(w, &op->record);
    } else if (op->result != OK && op->result != ERR_MISSING) {
        log_warning("job %s was interrupted and is not run again: %s", rerun->id.text, op->problem);
    }
    drop_rerun(rerun);
    next_rerun(w);
}

// One after the other: each has its request in memory. What cannot be asked for now is so with the next sweep; what a
// draining thaw has not begun is the next one's.
static void next_rerun(struct worker *w) {
    bool more = !list_empty(&w->reruns) && !w->server.draining;
    struct rerun *rerun = container_of(w->reruns.next, struct rerun, node);
    if (more && !rerun->op.task) {
        rerun->op.loop = &w->loop;
        rerun->op.on_done = on_rerun;
        more = store_load(w->store, &rerun->op, str_c(rerun->id.text)) == OK;
    }
    w->shelves->rerunning = more;
}

static void on_sweep(struct timer *timer) {
    struct worker *w = container_of(timer, struct worker, sweep);
    store_sweep(w->store, clock_unix_s());
    next_rerun(w);
    timer_set(&w->loop, timer, SWEEP_MS);
}

// ---- the process before, which still has the store

// What it had not finished when it ended is run again here.
static void on_interrupted(struct store_op *op) {
    struct worker *w = container_of(op, struct worker, beside);
    if (op->result == OK && op->record.id.len == TAPE_ID_LEN) {
        struct rerun *rerun = xcalloc(1, sizeof *rerun);
        memcpy(rerun->id.text, op->record.id.ptr, TAPE_ID_LEN);
        rerun->worker = w;
        list_push_back(&w->reruns, &rerun->node);
        next_rerun(w);
    }
    if (op->result != ERR_MISSING) { // else that process has ended
        timer_set(&w->loop, &w->beside_look, op->result == OK ? 0 : BESIDE_MS);
    }
}

static void on_beside_look(struct timer *timer) {
    struct worker *w = container_of(timer, struct worker, beside_look);
    if (w->server.draining) {
        return; // what is not begun is the next one's
    }
    w->beside.loop = &w->loop;
    w->beside.on_done = on_interrupted;
    if (store_interrupt(w->store, &w->beside, clock_unix_s()) != OK) {
        timer_set(&w->loop, timer, BESIDE_MS);
    }
}

// ---- life

struct opening {
    struct shelves *shelves;
    struct list *interrupted;
};

static void on_record(void *context, const struct store_record *record) {
    static const unsigned char none[STORE_DIGEST];
    struct opening *opening = context;
    struct digest key, asked;
    if (record->id.len != TAPE_ID_LEN) {
        return;
    }
    memcpy(key.bytes, record->key, sizeof key.bytes);
    memcpy(asked.bytes, record->asked, sizeof asked.bytes);
    if (record->state == STORE_INTERRUPTED) {
        struct rerun *rerun = xcalloc(1, sizeof *rerun);
        memcpy(rerun->id.text, record->id.ptr, TAPE_ID_LEN);
        list_push_back(opening->interrupted, &rerun->node);
    } else if (memcmp(record->key, none, sizeof none) != 0) {
        shelf_add_stored_key(opening->shelves, &key, &asked, record->id, record->expires_s);
    }
}

enum err jobs_open(const struct config *config, bool beside, struct shelves *shelves, struct store **store,
                   struct list *interrupted, char problem[STORE_PROBLEM_MAX]) {
    char url[4200];
    struct opening opening = {shelves, interrupted};
    list_init(interrupted);
    *store = NULL;
    if (config->store.len == 0) {
        return OK;
    }
    snprintf(url, sizeof url, "sqlite://%.*s", STR_ARG(config->store));
    struct store_options options = {.url = str_c(url), .now_s = clock_unix_s(), .beside = beside};
    enum err e = store_open(&options, store, problem);
    return e == OK ? store_each(*store, on_record, &opening, problem) : e;
}

void jobs_start(struct worker *w, struct list *interrupted) {
    list_init(&w->reruns);
    if (!w->store) {
        return;
    }
    w->shelf.on_ended = on_ended;
    if (interrupted) {
        list_move_all(&w->reruns, interrupted);
        list_init(interrupted);
        list_each(node, &w->reruns) { container_of(node, struct rerun, node)->worker = w; }
        w->sweep.on_timer = on_sweep;
        timer_set(&w->loop, &w->sweep, 0);
        next_rerun(w);
        w->beside_look.on_timer = on_beside_look;
        timer_set(&w->loop, &w->beside_look, 0);
    }
}

void jobs_drop(struct list *interrupted) {
    list_each(node, interrupted) { free(container_of(node, struct rerun, node)); }
    list_init(interrupted);
}

void jobs_stop(struct worker *w) {
    timer_clear(&w->sweep);
    timer_clear(&w->beside_look);
    store_cancel(&w->beside);
    list_each(node, &w->reruns) {
        struct rerun *rerun = container_of(node, struct rerun, node);
        if (rerun->op.task) {
            store_cancel(&rerun->op);
        }
    }
    jobs_drop(&w->reruns);
}
