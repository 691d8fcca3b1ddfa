// SPDX-License-Identifier: MIT
// A gather and its branches.
//
//               the wait is over: enough answers,         the answer is
//               none is running, the deadline             on the tape
//     WAITING ---------------------------------> WRITING -------------> ENDED
//        |                                          |                     ^
//        +------------ stopped, nobody reads it any more -----------------+
//
//     WAITING  branches run, each a call with a tape of its own, which the gather reads; the deadline runs. Of a stream
//              the events go on as they come
//     WRITING  what is not needed is cancelled; the rest of the answer goes on the tape as that has room
//     ENDED    as a call's
//
// What a branch brings only changes the branch and `out`; everything else - is the wait over, on with `out` to the tape -
// is done once at the end of the turn (work), so that no tape is written or left inside another one's callbacks, and
// what several branches bring in one turn leaves in one write.
//
// Memory: a branch's answer is at most parallel.answer; that of a stream which is passed on is not kept, and while `out`
// or the tape is full nothing is read from such branches, so that their upstreams are held up in turn.
#include "gateway/gather.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>

#include "base/mem.h"
#include "gateway/resume.h"
#include "gateway/room.h"
#include "gateway/steps.h"
#include "llm/json.h"
#include "llm/reply.h"

enum { OUT_WINDOW = 64 * 1024, FEED_MAX = 4096, OUT_EXTRA = 1 << 20, ESCAPED_MAX = 6 };

struct branch_stream {
    struct sse sse;
    struct branch *branch;
};

static const struct tape_reader_events branch_events;
static const struct tape_events tape_events;
static void finish_branch(struct branch *b, enum branch_state state);

// ---- plans

struct gather_plan *gather_plan_create(const struct gather_face *face, size_t arena_cap) {
    struct gather_plan *plan = xcalloc(1, sizeof *plan);
    plan->face = face;
    arena_init(&plan->arena, arena_cap);
    return plan;
}

void gather_plan_branches(struct gather_plan *plan, unsigned count) {
    plan->branches = xcalloc(count, sizeof *plan->branches);
    plan->count = count;
}

bool gather_plan_peek(struct request *r, struct branch_plan *branch, struct str body, const char *within) {
    struct peek peek;
    if (!steps_peek(r, body, within, &peek, &branch->targets)) {
        return false;
    }
    branch->places = steps_places(body, &peek);
    branch->max_tokens = peek.max_tokens;
    return true;
}

void gather_plan_destroy(struct gather_plan *plan) {
    if (!plan) {
        return;
    }
    for (unsigned i = 0; i < plan->count; i++) {
        buf_finish(&plan->branches[i].made);
    }
    arena_finish(&plan->arena);
    free(plan->branches);
    free(plan);
}

// ---- states

static uint64_t elapsed(const struct gather *g) { return g->worker->loop.now_ms - g->started_ms; }

static void gather_set_state(struct gather *g, enum gather_state state) {
    assert(g->state < state);
    g->state = state;
    timer_clear(&g->deadline);
}

static void branch_set_state(struct branch *b, enum branch_state state) {
    assert(b->state == BRANCH_RUNNING);
    b->gather->counts[b->state]--;
    b->gather->counts[state]++;
    b->state = state;
}

static void look_later(struct gather *g) { loop_flush_later(&g->worker->loop, &g->task); }

static void note(struct gather *g, enum err e) {
    if (e != OK && g->error == OK) {
        g->error = e;
        look_later(g);
    }
}

static void drop_stream(struct branch *b) {
    if (b->stream) {
        sse_finish(&b->stream->sse);
        free(b->stream);
        b->stream = NULL;
    }
}

static void bury(struct grave *grave) {
    struct gather *g = container_of(grave, struct gather, grave);
    for (unsigned i = 0; i < g->plan->count; i++) {
        struct branch *b = &g->branches[i];
        drop_stream(b);
        buf_finish(&b->body);
        free(b->error);
    }
    buf_finish(&g->out);
    gather_plan_destroy(g->plan);
    setup_unref(g->setup);
    free(g);
}

// The tape has its end, or gets it now.
static void end_gather(struct gather *g, const struct tape_why *why) {
    struct tape *tape = g->tape;
    gather_set_state(g, GATHER_ENDED);
    task_cancel(&g->task);
    for (unsigned i = 0; i < g->plan->count; i++) {
        timer_clear(&g->branches[i].timeout);
        tape_leave(&g->branches[i].reader);
    }
    g->tape = NULL;
    tape->events = NULL;
    if (tape_running(tape)) {
        tape_finish(tape, why);
    }
    shelf_ended(&g->worker->shelf, tape);
    loop_bury(&g->worker->loop, &g->grave, bury);
    tape_unref(tape);
}

// ---- errors

void branch_blame(struct branch *b, int status, const char *type, const char *code, const char *format, ...) {
    const struct answer_kind *kind = answer_kind(status);
    va_list args;
    if (b->error) {
        return;
    }
    b->error = xcalloc(1, sizeof *b->error);
    b->error->status = status;
    va_start(args, format);
    (void)vsnprintf(b->error->message, sizeof b->error->message, format, args);
    va_end(args);
    snprintf(b->error->type, sizeof b->error->type, "%s", type ? type : kind->type);
    snprintf(b->error->code, sizeof b->error->code, "%s", code ? code : kind->code);
    memcpy(b->error->retry_after, b->retry_after, sizeof b->retry_after);
}

enum err branch_write_error(const struct branch *b, struct buf *out) {
    const struct branch_error *error = b->error;
    return answer_write_object(out, error->type, NULL, error->code, str_c(error->message));
}

enum err branch_write_times(const struct branch *b, struct buf *out) {
    enum err e = buf_str_append(out, STR("\"ms\":{\"first_byte\":"));
    if (e == OK) {
        e = b->status ? buf_printf(out, "%" PRIu64, b->first_byte_ms) : buf_str_append(out, STR("null"));
    }
    return e == OK ? buf_printf(out, ",\"total\":%" PRIu64 "}", b->total_ms) : e;
}

struct branch *gather_first_failed(struct gather *g) {
    for (unsigned i = 0; i < g->plan->count; i++) {
        if (g->branches[i].state == BRANCH_FAILED) {
            return &g->branches[i];
        }
    }
    return NULL;
}

static bool is_good(int status) { return status >= 200 && status < 300; }

static void copy_text(char *to, size_t size, struct str text) {
    text = str_first(text, size - 1);
    if (text.len) {
        memcpy(to, text.ptr, text.len);
        to[text.len] = '\0';
    }
}

// The upstream's own words, as far as they are understood.
static void blame_answer(struct branch *b) {
    struct reply_error said = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct buf room;
    branch_blame(b, b->status, "upstream_error", "upstream_failed", "The upstream answered with %d.", b->status);
    buf_init(&room, MAX(buf_len(&b->body), (size_t)1));
    if (reply_error(buf_str(&b->body), &room, &said) == OK) {
        copy_text(b->error->message, sizeof b->error->message, said.message);
        copy_text(b->error->type, sizeof b->error->type, said.type);
        copy_text(b->error->code, sizeof b->error->code, said.code);
    }
    buf_finish(&room);
}

static void blame_size(struct branch *b) {
    char size[24];
    format_size(size, sizeof size, b->gather->setup->config->parallel_answer);
    branch_blame(b, 502, NULL, "answer_too_large", "The answer is larger than the %s allowed here (parallel.answer).",
                 size);
}

// ---- a stream's events

// Events stand in `out` whole or not at all.
struct event_place {
    size_t event, data; // offsets in out
    enum err e;
};

static struct event_place open_event(struct gather *g, const char *name) {
    struct event_place at = {.event = buf_len(&g->out)};
    at.e = buf_printf(&g->out, "event: %s\ndata: ", name);
    at.data = buf_len(&g->out);
    return at;
}

// In JSON line breaks stand between tokens only, where a blank does as well.
static void break_no_lines(struct str data) {
    static const char breaks[] = {'\n', '\r'};
    const char *end = data.ptr + data.len;
    for (size_t i = 0; i < sizeof breaks; i++) {
        char *at = (char *)(uintptr_t)data.ptr;
        while ((at = memchr(at, breaks[i], (size_t)(end - at)))) {
            *at = ' ';
        }
    }
}

// at.e: of writing its data. ERR_AGAIN: there is no event after all.
static void close_event(struct gather *g, struct event_place at) {
    if (at.e == OK) {
        break_no_lines(str_skip(buf_str(&g->out), at.data));
    }
    if (at.e == OK && g->tape->record) {
        struct tape_id id = shelf_id(&g->worker->shelf, g->tape);
        at.e = buf_printf(&g->out, "\nid: %s:%" PRIu64, id.text, g->events);
    }
    at.e = at.e == OK ? buf_append(&g->out, "\n\n", 2) : at.e;
    if (at.e != OK) {
        buf_truncate(&g->out, at.event);
    } else {
        g->events++;
    }
    note(g, at.e == ERR_AGAIN ? OK : at.e);
}

// A branch's own event has come.
static void on_event(struct sse *sse, const struct sse_event *event) {
    struct branch *b = container_of(sse, struct branch_stream, sse)->branch;
    struct gather *g = b->gather;
    if (b->state != BRANCH_RUNNING || g->error != OK) {
        return;
    }
    if (event->truncated) {
        blame_size(b);
    } else {
        struct event_place at = open_event(g, "chunk");
        at.e = at.e == OK ? g->plan->face->chunk(b, event, &g->out) : at.e;
        at.e = at.e == OK && b->error ? ERR_AGAIN : at.e;
        close_event(g, at);
        look_later(g);
    }
    if (b->error) {
        finish_branch(b, BRANCH_FAILED);
    }
}

static void tell_result(struct branch *b) {
    struct gather *g = b->gather;
    struct event_place at = open_event(g, "result");
    at.e = at.e == OK ? g->plan->face->result(b, &g->out) : at.e;
    close_event(g, at);
}

// ---- a branch

static void finish_branch(struct branch *b, enum branch_state state) {
    struct gather *g = b->gather;
    branch_set_state(b, state);
    b->total_ms = elapsed(g);
    b->held = false;
    timer_clear(&b->timeout);
    tape_leave(&b->reader);
    if (g->plan->streams && g->error == OK) {
        tell_result(b);
    }
    look_later(g);
}

static void complete(struct branch *b) {
    drop_stream(b);
    if (b->coded) {
        branch_blame(b, 502, NULL, "answer_encoded", "The upstream compressed its answer without being asked.");
    } else {
        b->gather->plan->face->take(b);
    }
    if (!b->error && !is_good(b->status)) {
        blame_answer(b);
    }
    finish_branch(b, b->error ? BRANCH_FAILED : BRANCH_DONE);
}

static struct branch *branch_of(struct tape_reader *reader) { return container_of(reader, struct branch, reader); }

static void on_head(struct tape_reader *reader, const struct tape_head *head) {
    struct branch *b = branch_of(reader);
    struct gather *g = b->gather;
    struct str coding = fields_value(&head->fields, FIELD_CONTENT_ENCODING);
    if (head->status < 200) {
        return;
    }
    b->status = head->status;
    b->first_byte_ms = elapsed(g);
    b->coded = coding.len && !str_ieq(coding, STR("identity"));
    copy_text(b->retry_after, sizeof b->retry_after, fields_value(&head->fields, FIELD_RETRY_AFTER));
    if (g->plan->streams && is_good(b->status) && !b->coded && http_is_event_stream(&head->fields)) {
        b->stream = xcalloc(1, sizeof *b->stream);
        b->stream->branch = b;
        b->streamed = true;
        sse_init(&b->stream->sse, on_event);
        b->stream->sse.data_max = g->setup->config->parallel_answer;
    }
}

static bool is_full(const struct gather *g) { return buf_len(&g->out) >= OUT_WINDOW || tape_full(g->tape); }

static size_t pass_on(struct branch *b, const struct iovec *v, int count) {
    size_t taken = 0;
    for (int i = 0; i < count; i++) {
        struct str rest = str_from(v[i].iov_base, v[i].iov_len);
        while (rest.len && b->state == BRANCH_RUNNING) {
            struct str some = str_first(rest, FEED_MAX);
            if (is_full(b->gather)) {
                b->held = true;
                return taken;
            }
            sse_feed(&b->stream->sse, some);
            taken += some.len;
            rest = str_skip(rest, some.len);
        }
    }
    return taken;
}

static size_t keep(struct branch *b, const struct iovec *v, int count) {
    size_t taken = 0;
    for (int i = 0; i < count && b->state == BRANCH_RUNNING; i++) {
        enum err e = buf_append(&b->body, v[i].iov_base, v[i].iov_len);
        taken += v[i].iov_len;
        if (e == ERR_FULL) {
            blame_size(b);
        } else if (e != OK) {
            branch_blame(b, 503, NULL, NULL, "There was no memory for the answer.");
        }
        if (e != OK) {
            finish_branch(b, BRANCH_FAILED);
        }
    }
    return taken;
}

static size_t on_bytes(struct tape_reader *reader, const struct iovec *v, int count, bool last) {
    struct branch *b = branch_of(reader);
    size_t taken = b->stream ? pass_on(b, v, count) : keep(b, v, count);
    if (last && b->state == BRANCH_RUNNING && !b->held) {
        complete(b);
    }
    return taken;
}

static void on_end(struct tape_reader *reader, const struct tape_why *why) {
    struct branch *b = branch_of(reader);
    bool cancelled = why->end == TAPE_CANCELLED;
    int status = cancelled ? 410 : why->error == OK ? 502 : err_status(why->error);
    if (why->retry_ms && why->retry_ms != TAPE_NO_RETRY) {
        snprintf(b->retry_after, sizeof b->retry_after, "%u", why->retry_ms / 1000 + (why->retry_ms % 1000 != 0));
    }
    branch_blame(b, status, NULL, cancelled ? "cancelled" : outcome_code((enum outcome)why->reason), "%s",
                 why->problem ? why->problem : "The call was ended.");
    finish_branch(b, BRANCH_FAILED);
}

static const struct tape_reader_events branch_events = {on_head, on_bytes, on_end};

// ---- times

static void be_late(struct branch *b, const char *code, const char *what, uint64_t ms) {
    char time[24];
    format_duration(time, sizeof time, ms);
    branch_blame(b, 504, NULL, code, "The call was not answered within its %s of %s.", what, time);
    finish_branch(b, BRANCH_FAILED);
}

static void on_timeout(struct timer *timer) {
    struct branch *b = container_of(timer, struct branch, timeout);
    be_late(b, "timeout", "timeout", b->plan->timeout_ms);
}

static void on_deadline(struct timer *timer) {
    struct gather *g = container_of(timer, struct gather, deadline);
    for (unsigned i = 0; i < g->plan->count; i++) {
        if (g->branches[i].state == BRANCH_RUNNING) {
            be_late(&g->branches[i], "deadline", "deadline", g->plan->deadline_ms);
        }
    }
}

// ---- the answer

// What fails before anything of it was told is no stream, but an error like any other.
static bool is_stream(const struct gather *g) {
    return g->plan->streams && (g->told || g->state == GATHER_WAITING || g->status == 200);
}

static void put_head(struct gather *g, int64_t body_len) {
    struct field room[2];
    struct fields fields = FIELDS(room);
    const struct branch *failed = g->state == GATHER_WRITING && g->status != 200 ? gather_first_failed(g) : NULL;
    bool stream = is_stream(g);
    worker_add(&fields, STR("Content-Type"), stream ? STR("text/event-stream") : STR("application/json"));
    if (failed && failed->error->retry_after[0]) {
        worker_add(&fields, STR("Retry-After"), str_c(failed->error->retry_after));
    }
    struct tape_head head = {failed ? g->status : 200, fields, stream ? BODY_UNKNOWN : body_len};
    tape_put_head(g->tape, &head);
}

// Where events end in what is about to be appended; their data has no line breaks.
static void mark_events(struct gather *g) {
    struct str out = buf_str(&g->out);
    size_t at = 0;
    while (at < out.len) {
        at = MIN(at + str_search(str_skip(out, at), STR("\n\n")) + 2, out.len);
        tape_mark(g->tape, g->tape->written + at);
    }
}

static void flush(struct gather *g, bool last) {
    struct tape *tape = tape_ref(g->tape);
    if (!tape->has_head) {
        g->told = is_stream(g);
        put_head(g, last ? (int64_t)buf_len(&g->out) : BODY_UNKNOWN);
    }
    if (g->state != GATHER_ENDED && tape_running(tape)) {
        if (tape->record && is_stream(g)) {
            mark_events(g);
        }
        tape_append(tape, buf_str(&g->out), last);
    }
    if (g->state != GATHER_ENDED && !tape_running(tape)) { // else abandoned by its last reader meanwhile
        end_gather(g, NULL);
    }
    buf_clear(&g->out);
    if (g->out.room > 2 * OUT_WINDOW) {
        buf_finish(&g->out);
    }
    tape_unref(tape);
}

static void append_part(struct gather *g) {
    enum err e = g->plan->face->part(g, g->part, &g->out);
    if (e == OK && g->part == g->plan->count) {
        e = buf_append(&g->out, "\n", 1);
    }
    g->part++;
    note(g, e);
}

static void write_answer(struct gather *g) {
    unsigned parts = g->plan->count + 1;
    while (g->state == GATHER_WRITING && g->error == OK && !tape_full(g->tape)) {
        while (g->part < parts && g->error == OK && buf_len(&g->out) < OUT_WINDOW) {
            append_part(g);
        }
        if (g->error == OK) {
            flush(g, g->part == parts);
        }
    }
}

static bool is_over(const struct gather *g) {
    unsigned running = g->counts[BRANCH_RUNNING];
    unsigned good = g->counts[BRANCH_DONE];
    return running == 0 || good >= g->plan->wanted || (g->plan->strict && good + running < g->plan->wanted);
}

static void cancel_rest(struct gather *g) {
    for (unsigned i = 0; i < g->plan->count; i++) {
        struct branch *b = &g->branches[i];
        if (b->state == BRANCH_RUNNING) {
            branch_blame(b, 0, "cancelled", "cancelled", "The call was cancelled: it was not waited for any more.");
            finish_branch(b, BRANCH_CANCELLED);
        }
    }
}

static void end_wait(struct gather *g) {
    const struct gather_face *face = g->plan->face;
    cancel_rest(g);
    gather_set_state(g, GATHER_WRITING);
    g->status = face->status(g);
    if (!is_stream(g) && g->status == 200) {
        return; // part by part
    }
    if (is_stream(g)) {
        struct event_place at = open_event(g, g->status == 200 ? "done" : "error");
        at.e = at.e == OK ? (g->status == 200 ? face->done : face->fail)(g, &g->out) : at.e;
        close_event(g, at);
    } else {
        buf_clear(&g->out); // results that nobody was told of
        note(g, face->fail(g, &g->out));
        note(g, buf_append(&g->out, "\n", 1));
    }
    g->part = g->plan->count + 1;
}

static void read_on(struct gather *g) {
    for (unsigned i = 0; i < g->plan->count && !is_full(g); i++) {
        if (g->branches[i].held) {
            g->branches[i].held = false;
            tape_read(&g->branches[i].reader);
        }
    }
}

static void read_on_later(struct gather *g) {
    for (unsigned i = 0; i < g->plan->count; i++) {
        if (g->branches[i].held) {
            loop_defer(&g->worker->loop, &g->task);
            return;
        }
    }
}

// The end of the connection is too quiet.
static void tell_end(struct gather *g, const struct tape_why *why) {
    bool cancelled = why->end == TAPE_CANCELLED;
    struct event_place at = open_event(g, "error");
    at.e = at.e == OK ? answer_write_error(&g->out, cancelled ? "cancelled" : "upstream_error", NULL,
                                           cancelled ? "cancelled" : "stream_cut", str_c(why->problem))
                      : at.e;
    close_event(g, at);
    flush(g, false);
}

static void stop_gather(struct gather *g, const struct tape_why *why) {
    g->tape->events = NULL; // whatever its readers do meanwhile
    if (g->told) {
        tell_end(g, why);
    }
    if (g->state != GATHER_ENDED) {
        end_gather(g, why);
    }
}

static const struct tape_why exhausted = {TAPE_CUT, ERR_NOMEM, OUTCOME_EXHAUSTED, 0,
                                          "There was no memory for the answer."};

// What there is to do, at the end of a turn.
static void work(struct task *task) {
    struct gather *g = container_of(task, struct gather, task);
    if (g->state == GATHER_WAITING && g->error == OK) {
        read_on(g);
        if (g->error == OK && is_over(g)) {
            end_wait(g);
        }
    }
    if (g->state == GATHER_WRITING) {
        write_answer(g);
    } else if (g->error == OK && buf_len(&g->out) && !tape_full(g->tape)) {
        flush(g, false);
    }
    if (g->state != GATHER_ENDED && g->error != OK) {
        stop_gather(g, &exhausted);
    } else if (g->state == GATHER_WAITING && !tape_full(g->tape)) {
        read_on_later(g);
    }
}

// ---- the tape's events

static void on_room(struct tape *t) {
    struct gather *g = t->writer;
    loop_defer(&g->worker->loop, &g->task); // not inside what made the room
}

static void on_abandoned(struct tape *t) {
    struct gather *g = t->writer;
    if (!g->goes_on && !shelf_goes_on(t)) {
        end_gather(g, &(struct tape_why){TAPE_CANCELLED, OK, 0, 0, "the client left"});
    }
}

static void on_stop(struct tape *t, const struct tape_why *why) { stop_gather(t->writer, why); }

static const struct tape_events tape_events = {on_room, on_abandoned, on_stop};

// ---- beginning

// The client's fields, without those that are about the whole: its body, its answer's coding, its tape.
static struct fields fields_for_branches(const struct request *r) {
    const struct fields *from = &r->head->fields;
    struct fields fields = {.v = xcalloc(from->n + 1, sizeof *fields.v), .cap = from->n + 1};
    for (unsigned i = 0; i < from->n; i++) {
        if (!str_ieq(str_first(from->v[i].name, 7), STR("x-thaw-"))) {
            worker_push(&fields, &from->v[i]);
        }
    }
    fields_remove_flagged(&fields, FIELD_TAPE);
    fields_remove(&fields, FIELD_CONTENT_TYPE);
    fields_remove(&fields, FIELD_ACCEPT_ENCODING);
    worker_add(&fields, STR("Content-Type"), STR("application/json"));
    return fields;
}

static void start_branch(struct request *r, struct gather *g, unsigned i, const struct fields *fields) {
    struct call_client client;
    struct branch *b = &g->branches[i];
    struct branch_plan *plan = &g->plan->branches[i];
    bool is_made = buf_len(&plan->made);
    struct str body = is_made ? buf_str(&plan->made) : str_first(str_skip(r->whole, plan->body_at), plan->body_len);
    char room[REQUEST_ID_MAX];
    char id[REQUEST_ID_MAX + 12];
    int id_len = snprintf(id, sizeof id, "%.*s-%u", STR_ARG(request_id(r, room)), i);
    struct head head = {
        .method = METHOD_POST, .target = plan->target, .fields = *fields, .body_len = (int64_t)body.len};
    struct call_request asked = {
        .head = &head,
        .request_id = str_from(id, (size_t)id_len),
        .setup = g->setup,
        .targets = plan->targets,
        .client = request_client(r, body.len, plan->max_tokens, &client) ? &client : NULL,
        .body_kept = true,
        .body = body,
        .take_body = is_made ? &plan->made : NULL,
        .places = plan->places,
    };
    b->gather = g;
    b->plan = plan;
    b->timeout.on_timer = on_timeout;
    buf_init(&b->body, g->setup->config->parallel_answer);
    struct tape *tape = tape_create(NULL, NULL);
    shelf_add(&g->worker->shelf, tape, r->tenant);
    call_start(g->worker, &asked, tape);
    if (plan->timeout_ms) {
        timer_set(&g->worker->loop, &b->timeout, plan->timeout_ms);
    }
    room_take_calls(g->worker, 1);
    tape_open(tape, &b->reader, &branch_events, 0);
    tape_unref(tape);
    tape_read(&b->reader);
}

void gather_start(struct request *r, struct tape *tape) {
    struct gather_plan *plan = r->gather;
    struct worker *w = r->worker;
    struct gather *g = xcalloc(1, sizeof *g + plan->count * sizeof g->branches[0]);
    bool sooner = r->timeout_ms && (!plan->deadline_ms || r->timeout_ms < plan->deadline_ms);
    plan->deadline_ms = sooner ? r->timeout_ms : plan->deadline_ms;
    r->gather = NULL;
    r->streams = plan->streams;
    g->worker = w;
    g->setup = setup_ref(r->setup);
    g->plan = plan;
    g->task.run = work;
    g->started_ms = w->loop.now_ms;
    g->goes_on = !tape->record && resume_goes_on(r);
    g->counts[BRANCH_RUNNING] = plan->count;
    g->deadline.on_timer = on_deadline;
    buf_init(&g->out, ESCAPED_MAX * (plan->count + 1) * g->setup->config->parallel_answer + OUT_EXTRA);
    g->tape = tape_ref(tape);
    tape->events = &tape_events;
    tape->writer = g;
    if (plan->deadline_ms) {
        timer_set(&w->loop, &g->deadline, plan->deadline_ms);
    }
    struct fields fields = fields_for_branches(r);
    for (unsigned i = 0; i < plan->count; i++) {
        start_branch(r, g, i, &fields);
    }
    free(fields.v);
}
