// SPDX-License-Identifier: MIT
// Between the client's exchange and the tape. States (request.h): READING [-> FOLLOWING [-> READING]] -> RELAYING |
// ANSWERING -> ENDED; every way out goes through request_finish, which counts the one outcome.
#include "gateway/request.h"

#include <assert.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/gather.h"
#include "gateway/jobs.h"
#include "gateway/origin.h"
#include "gateway/patience.h"
#include "gateway/responses.h"
#include "gateway/resume.h"
#include "gateway/room.h"
#include "gateway/steps.h"
#include "gateway/tapes.h"

static const struct xchg_events client_events;
static const struct tape_reader_events reader_events;
static bool hold(struct request *r, struct str body);

void request_set_state(struct request *r, enum request_state state) {
    assert(r->state != REQUEST_ENDED);
    if (r->state == REQUEST_READING) {
        gather_plan_destroy(r->gather);
        r->gather = NULL;
    } else if (r->state == REQUEST_FOLLOWING) {
        mirror_wait_end(&r->wait);
        tapes_forget_question(r);
    }
    if (state == REQUEST_READING) { // again
        r->whole = r->state == REQUEST_FOLLOWING ? buf_str(&r->body) : r->whole;
        r->places = (struct call_places){0};
        r->max_tokens = 0;
        r->tenant = 0;
        r->targets = NULL;
        r->gather = NULL;
    } else if (state == REQUEST_FOLLOWING) {
        r->wait = (struct mirror_wait){0};
        r->question = NULL;
    } else if (r->state == REQUEST_READING || r->state == REQUEST_FOLLOWING) {
        r->reader = (struct tape_reader){0};
    }
    r->state = state;
}

static void bury(struct grave *grave) {
    struct request *r = container_of(grave, struct request, grave);
    buf_finish(&r->body);
    free(r->look);
    free(r->client_id);
    if (r->held) {
        free((char *)(uintptr_t)r->head); // the first member of a struct held_head
    }
    setup_unref(r->setup);
    pool_give(&r->worker->request_pool, r);
}

static void drop_request(struct request *r) {
    struct worker *w = r->worker;
    request_set_state(r, REQUEST_ENDED);
    w->in_flight--;
    if (r->access) {
        access_end(r, false);
    }
    resume_end(r);
    patience_end(r);
    list_unlink(&r->node);
    if (r->call) {
        call_forget_owner(r->call);
        r->call = NULL;
    }
    tape_leave(&r->reader);
    loop_bury(&w->loop, &r->grave, bury);
}

// The only way out.
void request_finish(struct request *r, enum outcome outcome) {
    r->outcome = outcome;
    count_add(&r->worker->meter->outcomes[outcome], 1);
    if (log_enabled(LOG_DEBUG)) {
        char id[REQUEST_ID_MAX];
        struct str name = request_id(r, id);
        log_debug("%.*s: %s: %s", STR_ARG(name), outcome_name(outcome), outcome_text(outcome));
    }
    if (r->access) {
        access_end(r, true);
    }
    drop_request(r);
}

void request_run(struct request *r) {
    while (r->step < step_count) {
        switch (steps[r->step].run(r)) {
        case NEXT: r->step++; break;
        case WAIT:
        case DONE: return;
        }
    }
}

// ---- the client's side

static struct request *add_request(struct worker *w, struct xchg *x, const struct head *head) {
    struct request *r = pool_take(&w->request_pool);
    r->worker = w;
    r->setup = setup_ref(w->setup);
    r->x = x;
    r->head = head;
    r->serial = w->serial++;
    buf_init(&r->body, w->config->max_body);
    list_push_back(&w->requests, &r->node);
    w->in_flight++;
    r->access = access_begin(r);
    return r;
}

static struct request *new_request(struct http_server *s, struct xchg *x, const struct head *head) {
    struct request *r = add_request(s->owner, x, head);
    x->events = &client_events;
    x->owner = r;
    return r;
}

void request_begin_job(struct worker *w, const struct head *head, struct str body, struct resume *take_resume,
                       bool background) {
    struct request *r = add_request(w, &w->nobody, head);
    r->resume = take_resume;
    r->background = background;
    r->body_complete = true;
    r->whole = body;
    if (hold(r, body)) {
        request_run(r);
    }
}

void request_begin(struct http_server *s, struct xchg *x, struct head *head) { request_run(new_request(s, x, head)); }

void request_reject(struct http_server *s, struct xchg *x, enum err e, const char *problem) {
    static const struct head nothing = {.method = METHOD_OTHER};
    struct request *r = new_request(s, x, &nothing);
    enum outcome outcome = e == ERR_NOMEM ? OUTCOME_EXHAUSTED : OUTCOME_REFUSED;
    request_error(r, err_status(e), outcome, NULL, NULL, "The request was refused: %s.", problem);
}

static void count_bytes(struct request *r, size_t in, size_t out) {
    struct meter *m = r->worker->meter;
    count_add(&m->bytes_in, in);
    count_add(&m->bytes_out, out);
    access_add_bytes(r, in, out);
}

static void on_head(struct xchg *x UNUSED, struct head *head UNUSED) {} // a request has one, told by request_begin

// A looked-at body is gathered; one that came in a single piece is used where it lies.
static void gather(struct request *r, struct str bytes, bool end) {
    enum err e = OK;
    if (end && buf_len(&r->body) == 0 && bytes.len <= r->body.cap) {
        r->whole = bytes;
    } else if (!room_for_body(r->worker, bytes.len)) {
        room_refuse(r);
        return;
    } else if ((e = buf_str_append(&r->body, bytes)) == ERR_NOMEM) {
        request_error(r, 503, OUTCOME_EXHAUSTED, NULL, NULL, "There is no memory for the request.");
        return;
    } else if (e != OK) {
        request_error(r, 413, OUTCOME_REFUSED, NULL, NULL,
                      "The body is larger than the %u bytes allowed here (max_body).", r->body.cap);
        return;
    } else {
        r->whole = buf_str(&r->body);
    }
    if (end) {
        request_run(r);
    }
}

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct request *r = x->owner;
    r->body_complete = end;
    count_bytes(r, bytes.len, 0);
    if (r->call) {
        if (!call_upload(r->call, bytes, end) && !end) {
            xchg_pause(x);
        }
    } else if (r->state == REQUEST_READING) {
        gather(r, bytes, end);
    }
    if (end && !r->held) {
        r->head = NULL;
    }
}

// ---- a request that has to wait for more than its body

struct held_head {
    struct head head;
    struct field fields[];
};

static struct str copy(char **at, struct str s) {
    char *to = *at;
    if (s.len) {
        memcpy(to, s.ptr, s.len);
    }
    *at += s.len;
    return str_from(to, s.len);
}

static struct held_head *hold_head(const struct head *head) {
    size_t array = head->fields.n * sizeof(struct field);
    size_t packed = fields_packed_size(&head->fields);
    struct held_head *held = try_malloc(sizeof *held + array + packed + head->target.len);
    if (held) {
        char *at = (char *)held->fields + array;
        held->head = *head;
        held->head.fields = (struct fields){held->fields, 0, head->fields.n};
        fields_pack(&head->fields, at);
        const char *end = fields_unpack(&held->head.fields, at);
        assert(end);
        (void)end;
        at += packed;
        held->head.target = copy(&at, head->target);
        held->head.method_name = str_c(method_name(head->method));
        held->head.authority = STR("");
    }
    return held;
}

bool request_hold(struct request *r) { return r->held || hold(r, r->whole); }

static bool hold(struct request *r, struct str body) {
    struct held_head *held = hold_head(r->head);
    assert(r->state == REQUEST_READING);
    if (held) {
        r->head = &held->head;
        r->held = true;
    }
    if (!held || (buf_len(&r->body) == 0 && buf_str_append(&r->body, body) != OK)) {
        request_error(r, 503, OUTCOME_EXHAUSTED, NULL, NULL, "There is no memory for the request.");
        return false;
    }
    r->whole = buf_str(&r->body);
    return true;
}

void request_again(struct request *r) {
    struct setup *old = r->setup;
    request_set_state(r, REQUEST_READING);
    r->setup = setup_ref(r->worker->setup);
    setup_unref(old);
    r->step = 0;
    request_run(r);
}

// ---- a body on its way to a call

static void on_upload_room(void *owner) {
    struct request *r = owner;
    xchg_resume(r->x);
}

static void on_upload_over(void *owner) {
    struct request *r = owner;
    r->call = NULL;
    xchg_resume(r->x);
}

static const struct call_owner upload_events = {on_upload_room, on_upload_over};

static enum outcome gone(const struct request *r) {
    switch (r->state) {
    case REQUEST_READING: return OUTCOME_GONE_SENDING;
    case REQUEST_FOLLOWING: return OUTCOME_GONE_WAITING;
    case REQUEST_RELAYING:
        return r->head_sent ? OUTCOME_GONE_READING : r->body_complete ? OUTCOME_GONE_WAITING : OUTCOME_GONE_SENDING;
    case REQUEST_ANSWERING: return OUTCOME_GONE_READING;
    case REQUEST_ENDED: break;
    }
    return OUTCOME_GONE_SENDING;
}

static void on_fail(struct xchg *x, enum err e, const char *problem UNUSED) {
    struct request *r = x->owner;
    enum outcome outcome = e == ERR_GONE ? gone(r) : e == ERR_NOMEM ? OUTCOME_EXHAUSTED : OUTCOME_REFUSED;
    if (outcome == OUTCOME_REFUSED && !r->head_sent && r->state != REQUEST_ANSWERING) {
        drop_request(r); // request_reject follows, says why, and counts
    } else {
        request_finish(r, outcome);
    }
}

static void on_drain(struct xchg *x) {
    struct request *r = x->owner;
    if (r->state == REQUEST_ANSWERING) {
        request_send_local(r);
    } else if (r->state == REQUEST_RELAYING && (!r->patience || patience_drain(r))) {
        tape_read(&r->reader);
    }
}

static const struct xchg_events client_events = {on_head, on_body, on_drain, on_fail};

void request_shutdown(struct request *r) {
    xchg_abort(r->x);
    request_finish(r, OUTCOME_SHUTDOWN);
}

// ---- the tape's side

static struct request *request_of(struct tape_reader *reader) { return container_of(reader, struct request, reader); }

struct str request_id(const struct request *r, char out[REQUEST_ID_MAX]) {
    if (r->client_id) {
        return str_c(r->client_id);
    }
    struct str prefix = str_from(r->worker->id_prefix, sizeof r->worker->id_prefix);
    memcpy(out, prefix.ptr, prefix.len);
    return str_from(out, (size_t)(format_u64(out + prefix.len, r->serial) - out));
}

// Fields of the answer that are ours to say.
static void add_own_fields(struct request *r, struct fields *fields, const struct tape_id *id,
                           char room[REQUEST_ID_MAX]) {
    fields_remove(fields, FIELD_ALT_SVC); // another origin's offer of other ways to it
    fields_remove(fields, FIELD_X_THAW_TAPE);
    fields_remove_flagged(fields, FIELD_CORS); // its leave to pages is about itself
    worker_add(fields, STR("X-Thaw-Tape"), str_from(id->text, TAPE_ID_LEN));
    if (http_is_event_stream(fields)) {
        fields_remove(fields, FIELD_CACHE_CONTROL);
        fields_remove(fields, FIELD_X_ACCEL_BUFFERING);
        worker_add(fields, STR("Cache-Control"), STR("no-cache"));
        worker_add(fields, STR("X-Accel-Buffering"), STR("no"));
    }
    if (!fields_find(fields, FIELD_X_REQUEST_ID)) {
        worker_add(fields, STR("x-request-id"), request_id(r, room));
    }
    if (!fields_find(fields, FIELD_DATE)) {
        worker_add(fields, STR("Date"), worker_date(r->worker));
    }
    if (r->cors) {
        origin_add_fields(r, fields);
    }
    if (r->resume) {
        resume_add_fields(r, fields);
    }
}

void request_send_head(struct request *r, const struct tape_head *tape_head) {
    struct tape_reader *reader = &r->reader;
    char room[REQUEST_ID_MAX];
    struct tape_id id = shelf_id(&r->worker->shelf, reader->tape);
    struct fields fields = worker_scratch(r->worker);
    for (unsigned i = 0; i < tape_head->fields.n; i++) {
        worker_push(&fields, &tape_head->fields.v[i]);
    }
    if (tape_head->status >= 200) {
        add_own_fields(r, &fields, &id, room);
    }
    int64_t left = tape_head->body_len - (int64_t)reader->position;
    struct head head = {
        .status = tape_head->status, .fields = fields, .body_len = tape_head->body_len < 0 ? BODY_UNKNOWN : left};
    r->head_sent = r->head_sent || head.status >= 200;
    access_set_status(r, head.status);
    xchg_send_head(r->x, &head);
    if (head.status >= 200 && resume_is_head_only(r) && xchg_send(r->x, STR(""), true) == 0 && xchg_over(r->x)) {
        request_finish(r, OUTCOME_COMPLETE); // whatever becomes of the answer
    }
}

static void on_tape_head(struct tape_reader *reader, const struct tape_head *head) {
    struct request *r = request_of(reader);
    if (!r->patience || !patience_head(r, head)) {
        request_send_head(r, head);
    }
}

static size_t on_tape_bytes(struct tape_reader *reader, const struct iovec *v, int count, bool last) {
    struct request *r = request_of(reader);
    size_t taken = 0;
    if (r->patience && !patience_bytes(r, v, count, last, &taken)) {
        return taken;
    }
    if (r->resume && !resume_send_prelude(r)) {
        return 0;
    }
    taken = xchg_sendv(r->x, v, count, last);
    count_bytes(r, 0, taken);
    if (r->patience) {
        patience_sent(r, v, count, taken);
    }
    if (xchg_over(r->x)) { // not so when the connection failed: then on_fail comes
        request_finish(r, OUTCOME_COMPLETE);
    }
    return taken;
}

static enum outcome outcome_of(const struct tape_why *why) {
    return why->error == ERR_NOMEM      ? OUTCOME_EXHAUSTED
           : why->error == ERR_FULL     ? OUTCOME_OUTRUN
           : why->end == TAPE_CANCELLED ? OUTCOME_CANCELLED
                                        : (enum outcome)why->reason;
}

const char *outcome_code(enum outcome outcome) {
    return outcome == OUTCOME_QUEUE_FULL       ? "queue_full"
           : outcome == OUTCOME_QUEUE_LATE     ? "queue_timeout"
           : outcome == OUTCOME_UPSTREAM_RESTS ? "upstream_resting"
                                               : NULL;
}

// The answer ends here without being whole: said properly while its head is still ours, else broken off.
static void on_tape_end(struct tape_reader *reader, const struct tape_why *why) {
    struct request *r = request_of(reader);
    enum outcome outcome = outcome_of(why);
    if (r->head_sent && r->resume && resume_ends_in_order(r, why)) {
        size_t none = xchg_send(r->x, STR(""), true);
        (void)none;
        if (xchg_over(r->x)) { // else on_drain comes, and with it this again
            request_finish(r, outcome);
        }
        return;
    }
    // 410: SDKs do not send that again by themselves.
    int status = why->end == TAPE_CANCELLED ? 410 : why->error == OK ? 502 : err_status(why->error);
    const char *said = why->problem ? why->problem : "its call was ended";
    if (r->patience && patience_fails(r, status, outcome_code(outcome), said, outcome)) {
        return;
    }
    if (r->head_sent && !xchg_retract_head(r->x)) {
        xchg_abort(r->x);
        request_finish(r, outcome);
        return;
    }
    r->retry_ms = why->retry_ms;
    char *problem = str_dup(str_c(said)); // the tape may go with its last reader
    if (why->end == TAPE_CANCELLED) {
        request_error(r, status, outcome, NULL, "cancelled", "The answer was cancelled: %s.", problem);
    } else {
        request_error(r, status, outcome, NULL, outcome_code(outcome), "%s", problem);
    }
    free(problem);
}

static const struct tape_reader_events reader_events = {on_tape_head, on_tape_bytes, on_tape_end};

void request_follow(struct request *r, struct tape *t, uint64_t position) {
    request_set_state(r, REQUEST_RELAYING);
    shelf_joined(t);
    tape_open(t, &r->reader, &reader_events, position);
    patience_begin(r);
    tape_read(&r->reader);
}

enum { BYTES_PER_TOKEN = 4 }; // of English text (OpenAI's help pages); settled when the call has ended

// Where it comes from, without the port.
static struct digest digest_of_address(const struct request *r) {
    struct address a;
    if (!xchg_peer(r->x, &a)) {
        return digest_sha256(STR(""));
    }
    return digest_sha256(a.sa.sa_family == AF_INET6 ? str_from((const char *)&a.v6.sin6_addr, sizeof a.v6.sin6_addr)
                                                    : str_from((const char *)&a.v4.sin_addr, sizeof a.v4.sin_addr));
}

// A credential tells clients apart where somebody checks it: thaw, or the upstream that it goes on to. One that goes
// nowhere could be another one for each call.
static struct digest whose(const struct request *r) {
    static const struct digest none = {{0}};
    bool checked = r->setup->who.count || !r->setup->upstreams[0].authorization;
    struct digest digest = checked ? who_tenant(&r->head->fields) : none;
    return digest_equal(&digest, &none) ? digest_of_address(r) : digest;
}

bool request_client(const struct request *r, size_t body_len, uint64_t max_tokens, struct call_client *client) {
    const struct config *config = r->setup->config;
    const struct config_client *known = r->client == WHO_NO_CLIENT ? NULL : &config->clients[r->client];
    const struct config_limits *limits = known ? &known->limits : &config->limits;
    bool rerun = r->resume && r->resume->rerun;
    if (!r->setup->limited) {
        return false;
    }
    struct digest digest = rerun ? r->resume->tenant : whose(r);
    *client = (struct call_client){
        .weight = known ? known->weight : 1,
        .priority = known ? known->priority : 0,
        .rates = {limits->requests_per_minute, limits->tokens_per_minute, limits->in_flight},
        .tokens = body_len / BYTES_PER_TOKEN,
        .max_tokens = max_tokens,
    };
    memcpy(&client->id, digest.bytes, sizeof client->id);
    return true;
}

// Something is read in the answer, or put into it.
static bool is_read_here(const struct request *r) {
    bool kept_alive = r->setup->config->keepalive_ms && (r->streams || r->blanks);
    return r->background || kept_alive || r->progress;
}

static struct call *start_call(struct request *r, struct tape *tape, bool body_kept) {
    char id[REQUEST_ID_MAX];
    struct call_client client;
    bool limited = request_client(r, r->whole.len, r->max_tokens, &client);
    struct call_request asked = {
        .head = r->head,
        .request_id = request_id(r, id),
        .setup = r->setup,
        .targets = r->targets,
        .client = limited ? &client : NULL,
        .timeout_ms = r->timeout_ms,
        .body_kept = body_kept,
        .body = r->whole,
        .take_body = buf_len(&r->body) ? &r->body : NULL,
        .places = r->places,
        .take_trail = access_trail(r),
        .owner_events = &upload_events,
        .owner = body_kept ? NULL : r,
        .messages = r->route->messages,
        .goes_on = !tape->record && resume_goes_on(r),
        .answered = r->resume && resume_is_async(r),
        .plain = is_read_here(r) || (limited && client.rates.tokens_per_minute),
    };
    return call_start(r->worker, &asked, tape);
}

static void take_look(struct request *r, const struct call *call, const struct tape *tape) {
    if (tape->why.reason == (int)OUTCOME_LIMITED) {
        r->look = xmalloc(sizeof *r->look);
        *r->look = *call_look(call);
    }
}

void request_start(struct request *r) {
    bool body_kept = r->route->looked_at || r->head->body_len == 0;
    struct tape *tape = r->resume ? resume_take_tape(r) : NULL;
    struct call *call = NULL;
    if (!tape) {
        tape = tape_create(NULL, NULL);
        shelf_add(&r->worker->shelf, tape, r->tenant);
    }
    if (!body_kept && r->head->expect_continue) {
        struct head leave = {.status = 100};
        xchg_send_head(r->x, &leave);
    }
    bool is_job = r->resume && (resume_is_async(r) || r->background);
    if (is_job && !jobs_begin(r, tape)) {
        shelf_withdraw(&r->worker->shelf, tape);
        tape_unref(tape);
        return;
    }
    if (r->route->produce) {
        r->route->produce(r, tape);
    } else {
        call = start_call(r, tape, body_kept);
    }
    if (call && !tape_running(tape)) {
        take_look(r, call, tape);
    } else if (!body_kept) {
        r->call = call;
    }
    if (r->resume && r->resume->responses) {
        responses_watch(r->worker, tape, r->background);
    }
    if (r->resume && r->resume->job) {
        request_set_state(r, REQUEST_FOLLOWING); // until the disk has it
    } else if (r->resume && resume_is_async(r)) {
        struct tape_id id = shelf_id(&r->worker->shelf, tape);
        resume_acknowledge(r, &id, tape_end_name(tape->why.end));
    } else {
        request_follow(r, tape, 0);
    }
    tape_unref(tape);
}
