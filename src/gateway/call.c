// SPDX-License-Identifier: MIT
// One call: as many tries, at as many upstreams, as its rules allow, and one answer.
//
//                 its turn            connection there       all of the request sent        answer's head
//   +---> QUEUED ---------> CONNECTING ------------------> SENDING --------------> WAITING ------------------> ANSWERING
//   |       |  (no queue: at once)  |                         |                       |          |                  |
//   |       |                       +------- not made, lost, 429, 5xx: another try -----+          | an opening     |
//   |       |                                                 v                                  | is held back     |
//   +-------|------------ its time has come ------------- RESTING <------------------------------+ and fails        |
//           v                                                 v                                                     v
//         ENDED <--------------- refused, failed, timed out, abandoned, answered -----------------------------------
//
//   QUEUED     waits at the upstream's gate (admit/gate.h), which has the time limits of waiting; the total one runs here
//   RESTING    another try comes when the timer fires; what is left of the failed answer is thrown away meanwhile
//   CONNECTING the dial has its own time limit; the total one runs here
//   SENDING    deadline first_byte since the last progress
//   WAITING    deadline first_byte
//   ANSWERING  what was kept of the request is freed, unless its answer's opening is held back (stream.h); deadline
//              between, since the last content
//   ENDED      the tape has its end or nobody wants it; in the graveyard
//
// A request is sent again only where the work was not done: the connection was never made, it was a kept one that the
// upstream closed as it was used (docs/internals/transport.md; that try is free), or the upstream answered 408, 409, 429
// or 5xx, and nothing of the answer has gone on. One that was sent and lost may have been billed: only with retry_lost.
// Tries at one upstream are limited (retries) and have a budget (admit/retry.h); then it is the next one's turn.
//
// Places at gates and leases of quotas are the call's own and die with it.
#include "gateway/inside.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>

#include "base/mem.h"
#include "gateway/answer.h"
#include "gateway/room.h"

enum { PROBLEM_MAX = 400, DISCARD_MAX = 64 * 1024, COUNT_TEXT = 24, REFUSED_RETRY_MS = 1000 };

const size_t call_size = sizeof(struct call);

static const struct xchg_events up_events;
static const struct tape_events tape_events;

// ---- times: the model's own limit, else the upstream's

static uint64_t first_byte_ms(const struct call *c) {
    const struct config_model *m = c->targets->config;
    return m && (m->own & OWN_FIRST_BYTE) ? m->first_byte_ms : upstream_config(c)->first_byte_ms;
}

static uint64_t between_ms(const struct call *c) {
    const struct config_model *m = c->targets->config;
    return m && (m->own & OWN_BETWEEN) ? m->between_ms : upstream_config(c)->between_ms;
}

uint64_t call_total_ms(const struct call *c) {
    const struct config_model *m = c->targets->config;
    uint64_t ms = m && (m->own & OWN_TOTAL) ? m->total_ms : upstream_config(c)->total_ms;
    return c->timeout_ms ? MIN(ms, c->timeout_ms) : ms;
}

uint64_t call_left_ms(const struct call *c) {
    uint64_t spent = call_now_ms(c) - c->started_ms;
    uint64_t total = call_total_ms(c);
    return total > spent ? total - spent : 0;
}

// (Re)starts the state's deadline, never beyond the total one.
static void set_deadline(struct call *c) {
    uint64_t left = call_left_ms(c);
    switch (c->state) {
    case CALL_QUEUED:
    case CALL_CONNECTING: break;
    case CALL_RESTING: return; // its timer is what it rests for
    case CALL_SENDING:
    case CALL_WAITING: left = MIN(left, first_byte_ms(c)); break;
    case CALL_ANSWERING: left = MIN(left, c->opening ? (uint64_t)OPENING_MS : between_ms(c)); break;
    case CALL_ENDED: return;
    }
    timer_set(&c->worker->loop, &c->deadline, left);
}

void call_set_state(struct call *c, enum call_state state) {
    assert(c->state != CALL_ENDED);
    c->state = state;
    if (state != CALL_SENDING && state != CALL_CONNECTING) { // what follows at once sets it
        set_deadline(c);
    }
}

// ---- the end

static void bury(struct grave *grave) {
    struct call *c = container_of(grave, struct call, grave);
    asked_finish(&c->asked);
    stream_destroy(c->stream);
    opening_destroy(c->opening);
    free(c->hold ? c->hold->usage : NULL);
    free(c->hold);
    free(c->setback);
    setup_unref(c->setup);
    pool_give(&c->worker->call_pool, c);
}

// As far as is known: as the upstream says, else an event of a stream is a token. Of a stream that ends early the
// upstream has said too little (Anthropic's first event knows of one token). A refusal took none.
static uint64_t tokens_used(const struct call *c) {
    const struct usage *u = c->hold->usage;
    uint64_t seen = c->stream ? c->hold->client.tokens + c->stream->sse.events : UINT64_MAX;
    if (u && u->known) {
        bool early = c->stream && c->tape->why.end != TAPE_WHOLE;
        return early ? MAX(usage_tokens(u), seen) : usage_tokens(u);
    }
    return c->tape->status >= 400 ? 0 : seen;
}

static void settle_lease(struct call *c) {
    if (c->hold && c->sent_ms) {
        quota_settle(&c->hold->lease, tokens_used(c), call_now_ms(c));
    } else if (c->hold) {
        quota_refund(&c->hold->lease, call_now_ms(c));
    }
}

// The tape has its end, or gets it now.
static void end_call(struct call *c, enum gate_report report, const struct tape_why *why) {
    struct tape *tape = c->tape;
    call_leave_upstream(c, report);
    settle_lease(c);
    call_set_state(c, CALL_ENDED);
    timer_clear(&c->deadline);
    if (c->asked.streamed && c->asked.owner) {
        c->asked.owner_events->on_over(c->asked.owner);
        c->asked.owner = NULL;
    }
    xchg_abort(&c->up);
    c->tape = NULL;
    tape->events = NULL;
    if (tape_running(tape)) {
        tape_finish(tape, why);
    }
    counted_end(&c->counted, c->worker, tape->why.end == TAPE_WHOLE);
    shelf_ended(&c->worker->shelf, tape);
    loop_bury(&c->worker->loop, &c->grave, bury);
    tape_unref(tape);
}

// In an event stream the end of the connection is too quiet: many clients take it for the answer's end.
static void append_last_event(struct call *c, const struct tape_why *why) {
    bool cancelled = why->end == TAPE_CANCELLED;
    struct str problem = str_c(why->problem);
    struct buf event;
    buf_init(&event, 4 * PROBLEM_MAX);
    enum err e = buf_str_append(&event, sse_at_boundary(&c->stream->sse) ? STR("") : STR("\n\n"));
    e = e == OK ? buf_str_append(&event, c->messages ? STR("event: error\ndata: ") : STR("data: ")) : e;
    if (e == OK) {
        e = c->messages ? answer_write_messages_error(&event, "api_error", problem)
                        : answer_write_error(&event, cancelled ? "cancelled" : "upstream_error", NULL,
                                             cancelled ? "cancelled" : "stream_cut", problem);
    }
    e = e == OK ? buf_append(&event, "\n\n", 2) : e;
    struct str text = e == OK ? stream_feed(c->stream, buf_str(&event)) : STR("");
    if (text.len) {
        tape_append(c->tape, text, false);
    }
    buf_finish(&event);
}

static void stop_call(struct call *c, enum gate_report report, const struct tape_why *why) {
    c->tape->events = NULL;                   // whatever its readers do meanwhile
    if (c->stream && c->tape->body_len < 0) { // a known length could be filled by the event
        append_last_event(c, why);
    }
    end_call(c, report, why);
}

static enum gate_report report_failure(enum outcome outcome) {
    return outcome == OUTCOME_TIMEOUT_FIRST_BYTE ? REPORT_OVERLOADED : REPORT_NOTHING;
}

static void fail_with(struct call *c, enum err e, enum outcome outcome, enum gate_report report, uint32_t retry_ms,
                      const char *what) {
    char problem[PROBLEM_MAX];
    counted_failure(&c->counted);
    snprintf(problem, sizeof problem, "The upstream '%.*s' (%s) failed: %s.", STR_ARG(upstream_config(c)->name),
             upstream_of(c)->authority, what);
    stop_call(c, report,
              &(struct tape_why){.end = TAPE_CUT,
                                 .error = e,
                                 .reason = (int)outcome,
                                 .retry_ms = c->spent ? TAPE_NO_RETRY : retry_ms,
                                 .problem = problem});
}

static void fail_call(struct call *c, enum err e, enum outcome outcome, const char *what) {
    fail_with(c, e, outcome, report_failure(outcome), 0, what);
}

// Nothing was sent for it, or will be.
void call_turn_away(struct call *c, enum err e, enum outcome outcome, uint64_t retry_ms, const char *format, ...) {
    char problem[PROBLEM_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(problem, sizeof problem, format, args);
    va_end(args);
    stop_call(c, REPORT_NOTHING,
              &(struct tape_why){.end = TAPE_CUT,
                                 .error = e,
                                 .reason = (int)outcome,
                                 .retry_ms = (uint32_t)MIN(retry_ms, (uint64_t)TAPE_NO_RETRY - 1),
                                 .problem = problem});
}

// RFC 9110 section 9.2.2: these may be repeated whatever became of the first time.
static bool is_idempotent(enum method m) {
    return m == METHOD_GET || m == METHOD_HEAD || m == METHOD_PUT || m == METHOD_DELETE || m == METHOD_OPTIONS;
}

// A kept connection broke without a byte of an answer: did the upstream close it before it saw the request?
static bool died_at_once(const struct call *c) {
    return client_reused(&c->up) && (client_untouched(&c->up) || is_idempotent(c->asked.method));
}

static void lose(struct call *c, enum err e, enum outcome outcome, const char *what) {
    struct setback lost = {.unreached = false};
    call_tell_breaker(c, false);
    if (!upstream_config(c)->retry_lost || !call_try_again(c, &lost, report_failure(outcome), what)) {
        fail_call(c, e, outcome, what);
    }
}

// It says twice that it did nothing for the call: as good as a 503.
static void refuse(struct call *c, const char *what) {
    struct setback refused = {.unreached = false};
    call_tell_health(c, 503);
    if (!call_try_again(c, &refused, REPORT_OVERLOADED, what)) {
        c->sent_ms = 0; // nobody has it
        fail_with(c, ERR_BUSY, OUTCOME_UPSTREAM_LOST, REPORT_OVERLOADED, REFUSED_RETRY_MS, what);
    }
}

static void on_fail(struct xchg *x, enum err e, const char *problem) {
    struct call *c = container_of(x, struct call, up);
    struct setback unreached = {.unreached = true};
    char what[PROBLEM_MAX]; // outlives the connection that says it
    snprintf(what, sizeof what, "%s", problem);
    switch (c->state) {
    case CALL_CONNECTING:
        if (e == ERR_FILES && !c->again && room_spare_files(c->worker)) {
            c->again = true; // once more, now that there are some
            call_connect(c, false);
            return;
        }
        if (e == ERR_FILES || e == ERR_NOMEM) { // ours, not the upstream's: another one would fail the same way
            fail_call(c, e, OUTCOME_EXHAUSTED, what);
            return;
        }
        call_tell_breaker(c, false);
        if (!call_try_again(c, &unreached, REPORT_NOTHING, what)) {
            fail_call(c, e, OUTCOME_UPSTREAM_UNREACHED, what);
        }
        break;
    case CALL_SENDING:
    case CALL_WAITING:
        if (died_at_once(c) && !c->again && asked_again(&c->asked)) {
            c->again = true;
            counted_failure(&c->counted);
            count_add(&c->worker->meter->retries, 1);
            call_connect(c, true);
        } else if (e == ERR_NOMEM) {
            fail_call(c, e, OUTCOME_EXHAUSTED, what);
        } else if (client_refused(x)) {
            refuse(c, what);
        } else {
            lose(c, e, OUTCOME_UPSTREAM_LOST, what);
        }
        break;
    case CALL_ANSWERING:
        if (c->opening) { // nothing of it has gone on
            lose(c, ERR_CUT, OUTCOME_UPSTREAM_CUT, what);
        } else {
            call_tell_breaker(c, false);
            fail_call(c, ERR_CUT, OUTCOME_UPSTREAM_CUT, what);
        }
        break;
    case CALL_QUEUED:
    case CALL_RESTING:
    case CALL_ENDED: break;
    }
}

// ---- deadlines

// The client owes bytes of its upload: its silence is not the upstream's, and has a limit of its own.
static bool is_clients_turn(const struct call *c) {
    const struct asked *a = &c->asked;
    return c->state == CALL_SENDING && a->streamed && !a->upload_done && buf_len(&a->body) == 0;
}

static void time_out(struct call *c, bool total) {
    if (c->state == CALL_QUEUED) {
        call_late(c);
        return;
    }
    bool answering = c->state == CALL_ANSWERING;
    uint64_t ms = total ? call_total_ms(c) : answering ? between_ms(c) : first_byte_ms(c);
    const char *of = total       ? "its answer was not complete within"
                     : answering ? "it sent nothing for"
                                 : "it did not begin to answer within";
    const char *name = total ? call_total_name(c) : answering ? "timeouts: between" : "timeouts: first_byte";
    char what[PROBLEM_MAX];
    char time[COUNT_TEXT];
    format_duration(time, sizeof time, ms);
    snprintf(what, sizeof what, "%s %s (%s)", of, time, name);
    if (total) {
        fail_call(c, ERR_TIMEOUT, OUTCOME_TIMEOUT_TOTAL, what);
    } else if (answering) {
        call_tell_breaker(c, false);
        fail_call(c, ERR_TIMEOUT, OUTCOME_TIMEOUT_BETWEEN, what);
    } else {
        lose(c, ERR_TIMEOUT, OUTCOME_TIMEOUT_FIRST_BYTE, what);
    }
}

static void release_opening(struct call *c, struct str bytes, bool end);

static void on_deadline(struct timer *timer) {
    struct call *c = container_of(timer, struct call, deadline);
    bool total = call_left_ms(c) == 0;
    if (c->state == CALL_RESTING) {
        xchg_abort(&c->up);
        call_ask(c);
    } else if (!total && (is_clients_turn(c) || tape_full(c->tape))) {
        set_deadline(c); // it is not being read from; whoever reads the tape has a limit of his own
    } else if (!total && c->opening) {
        call_tell_health(c, c->opening->status);
        release_opening(c, STR(""), false);
    } else {
        time_out(c, total);
    }
}

// ---- sending

// An answer may have begun before the request was all sent: then that state stays.
static void send_body(struct call *c) {
    bool all = asked_send_body(&c->asked, target_of(c), &c->up);
    if (all && c->state == CALL_SENDING) {
        call_set_state(c, CALL_WAITING);
    } else {
        set_deadline(c);
    }
}

static void send_request(struct call *c) {
    c->sent_ms = call_now_ms(c);
    call_set_state(c, CALL_SENDING);
    asked_send_head(&c->asked, c->setup, target_of(c), c->timeout_ms ? call_left_ms(c) : 0, &c->up);
    send_body(c);
    counted_sent(&c->counted, c->worker);
}

static void count_try(struct call *c) {
    struct upstream *u = upstream_of(c);
    if (c->tries == 0) {
        retry_budget_call(&u->budget);
    }
    c->attempts = (uint8_t)MIN(c->attempts + 1, UINT8_MAX);
    c->tries = (uint8_t)MIN(c->tries + 1, UINT8_MAX);
    c->asking = true;
    u->in_flight++;
}

void call_connect(struct call *c, bool fresh) {
    if (!c->asking) {
        count_try(c);
        c->again = false;
    }
    c->first_ms = 0;
    c->up = (struct xchg){.events = &up_events};
    counted_attempt(&c->counted, c->worker, upstream_of(c));
    call_set_state(c, CALL_CONNECTING);
    if (client_start(&upstream_of(c)->origin, &c->up, fresh) == OK) {
        send_request(c);
    } else {
        set_deadline(c);
    }
}

static void on_drain(struct xchg *x) {
    struct call *c = container_of(x, struct call, up);
    if (c->state == CALL_CONNECTING) {
        send_request(c);
    } else if (c->state == CALL_SENDING || c->state == CALL_ANSWERING) {
        send_body(c);
    }
}

static bool is_sending(const struct call *c) {
    return c->state == CALL_SENDING || c->state == CALL_WAITING || c->state == CALL_ANSWERING;
}

bool call_upload(struct call *c, struct str bytes, bool end) {
    struct asked *a = &c->asked;
    size_t taken = 0;
    if (c->state == CALL_ENDED || (is_sending(c) && xchg_over(&c->up))) {
        return true;
    }
    a->upload_done = end;
    if (is_sending(c) && buf_len(&a->body) == 0) {
        taken = xchg_send(&c->up, bytes, end);
        a->uploaded = a->uploaded || taken;
    }
    if (taken < bytes.len || !is_sending(c) || buf_len(&a->body)) {
        if (buf_str_append(&a->body, str_skip(bytes, taken)) != OK) {
            fail_call(c, ERR_NOMEM, OUTCOME_EXHAUSTED, "there was no memory for the upload");
            return true;
        }
        return false;
    }
    if (end && c->state == CALL_SENDING) {
        call_set_state(c, CALL_WAITING);
    } else {
        set_deadline(c);
    }
    return true;
}

void call_forget_owner(struct call *c) { c->asked.owner = NULL; }

size_t call_held(const struct tape *t) {
    return t->events == &tape_events ? buf_len(&((const struct call *)t->writer)->asked.body) : 0;
}

// ---- the answer

// A coded one is relayed, but its events cannot be seen.
static bool is_plain_event_stream(const struct fields *fields) {
    struct str coding = fields_value(fields, FIELD_CONTENT_ENCODING);
    return http_is_event_stream(fields) && (!coding.ptr || str_ieq(coding, STR("identity")));
}

// What thaw says about the call in the answer's head.
struct own_fields {
    char attempts[COUNT_TEXT];
    struct quota_text quota;
    char timing[TIMING_MAX];
};

static void add_own_fields(const struct call *c, struct fields *fields, int status, struct own_fields *room) {
    if (c->attempts > 1) {
        snprintf(room->attempts, sizeof room->attempts, "%u", c->attempts);
        worker_add(fields, STR("X-Thaw-Attempts"), str_c(room->attempts));
        worker_add(fields, STR("X-Thaw-Upstream"), upstream_config(c)->name);
    }
    if (c->spent && retry_is_for(status)) { // else the client multiplies our tries by its own
        fields_remove(fields, FIELD_X_SHOULD_RETRY);
        worker_add(fields, STR("x-should-retry"), STR("false"));
    }
    if (c->hold) {
        answer_add_quota(fields, &c->hold->look, &room->quota);
    }
    if (c->setup->config->server_timing) {
        counted_timing(&c->counted, c->worker, fields, room->timing);
    }
}

// The tape's head (`events`: of an event stream that can be read), and with it the end of what is kept for another try.
static void put_head(struct call *c, int status, struct fields fields, int64_t body_len, bool events) {
    struct tape *tape = tape_ref(c->tape);
    struct own_fields room;
    bool own = c->attempts > 1 || c->spent || c->hold || c->setup->config->server_timing;
    struct fields copy = {c->worker->answer_scratch, 0, c->worker->server.limits.fields + HEAD_EXTRA};
    for (unsigned i = 0; own && i < fields.n; i++) {
        worker_push(&copy, &fields.v[i]);
    }
    if (own) {
        add_own_fields(c, &copy, status, &room);
    }
    if (events) {
        c->stream = stream_create(c->worker, tape);
        body_len = c->stream->ids ? BODY_UNKNOWN : body_len;
    }
    tape_put_head(tape, &(struct tape_head){status, own ? copy : fields, body_len});
    if (c->state != CALL_ENDED && !tape_running(tape)) { // there was no memory for it
        end_call(c, REPORT_NOTHING, NULL);
    }
    tape_unref(tape);
}

static enum gate_report report_of(int status) {
    return status == 429 || status == 503 ? REPORT_OVERLOADED : status >= 500 ? REPORT_NOTHING : REPORT_WELL;
}

static void relay(struct call *c, struct str bytes, bool end) {
    struct tape *tape = tape_ref(c->tape);
    uint64_t events = c->stream ? c->stream->sse.events : 0;
    struct str text = c->stream ? stream_feed(c->stream, bytes) : bytes;
    bool content = c->stream ? c->stream->sse.events != events : bytes.len > 0; // comments, half events are no progress
    if (content && !end) {
        set_deadline(c);
    }
    if (c->hold && c->hold->usage) {
        usage_feed(c->hold->usage, bytes);
    }
    if (c->stream && c->stream->error != OK) {
        fail_call(c, ERR_NOMEM, OUTCOME_EXHAUSTED, "there was no memory for its answer");
    } else if (text.len || end) {
        struct meter_upstream *at = c->counted.at; // it may end as it is sent on
        tape_append(tape, text, end);
        counted_bytes(&c->counted, c->worker, at);
    }
    if (c->state == CALL_ENDED) { // abandoned by its last reader meanwhile
    } else if (!tape_running(tape)) {
        end_call(c, report_of(c->said ? c->said : tape->status), NULL);
    } else if (tape_full(tape) || (tape->first && room_is_tight(c->worker, text.len) && tape_hold(tape))) {
        xchg_pause(&c->up);
    }
    tape_unref(tape);
}

// True: the answer is not relayed, another try comes.
static bool refused_for_now(struct call *c, int status, const struct fields *fields) {
    struct setback s = {.unreached = false};
    char what[PROBLEM_MAX];
    s.asked_to_wait = fields && retry_after(fields, clock_unix_s(), &s.wait_ms);
    snprintf(what, sizeof what, "it answered %d", status);
    return call_try_again(c, &s, report_of(status), what);
}

static void on_head(struct xchg *x, struct head *head) {
    struct call *c = container_of(x, struct call, up);
    int status = head->status;
    if (status == 100 || c->state == CALL_RESTING) {
        return; // leave to send a body, which was sent without asking
    }
    http_head_strip(&head->fields);
    if (status < 200) {
        tape_put_head(c->tape, &(struct tape_head){status, head->fields, head->body_len});
        return;
    }
    bool events = is_plain_event_stream(&head->fields);
    bool hold = events && status == 200 && c->state == CALL_WAITING && call_may_try_again(c);
    c->first_ms = (uint32_t)(call_now_ms(c) - c->sent_ms);
    counted_head(&c->counted, c->worker);
    if (!hold) {
        call_tell_health(c, status);
    }
    if (retry_is_for(status) && refused_for_now(c, status, &head->fields)) {
        return;
    }
    if (hold) {
        c->opening = opening_create(&(struct tape_head){status, head->fields, head->body_len});
    } else if (c->state == CALL_WAITING) { // else it is still being sent
        asked_forget(&c->asked);
    }
    call_set_state(c, CALL_ANSWERING);
    if (!c->opening) {
        put_head(c, status, head->fields, head->body_len, events);
    }
}

// What was held back goes on, and these bytes behind it.
static void release_opening(struct call *c, struct str bytes, bool end) {
    struct opening *o = c->opening;
    struct tape_head head = opening_head(o);
    c->opening = NULL;
    c->said = (uint16_t)(o->failed_status ? o->failed_status : head.status);
    asked_forget(&c->asked);
    set_deadline(c);
    put_head(c, head.status, head.fields, head.body_len, true);
    if (c->state != CALL_ENDED && buf_len(&o->bytes)) { // not abandoned
        relay(c, buf_str(&o->bytes), false);
    }
    if (c->state != CALL_ENDED && (bytes.len || end)) {
        relay(c, bytes, end);
    }
    opening_destroy(o);
}

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct call *c = container_of(x, struct call, up);
    if (c->state == CALL_RESTING) {
        c->discarded += (uint32_t)bytes.len;
        if (c->discarded > DISCARD_MAX && !end) {
            xchg_abort(&c->up);
        }
    } else if (!c->opening) {
        relay(c, bytes, end);
    } else {
        enum opening_verdict verdict = opening_feed(c->opening, bytes);
        if (verdict == OPENING_GOES_ON && !end) {
            return;
        }
        bytes = verdict == OPENING_GOES_ON ? STR("") : bytes;
        bool failed = verdict == OPENING_FAILED;
        int status = failed ? c->opening->failed_status : c->opening->status;
        call_tell_health(c, status);
        if (!failed || !refused_for_now(c, status, NULL)) {
            release_opening(c, bytes, end);
        }
    }
}

static const struct xchg_events up_events = {on_head, on_body, on_drain, on_fail};

// ---- the tape's side

static void on_room(struct tape *t) {
    struct call *c = t->writer;
    set_deadline(c); // as long as it was not read from, the upstream's silence was ours
    xchg_resume(&c->up);
}

static void on_abandoned(struct tape *t) {
    struct call *c = t->writer;
    static const struct tape_why left = {.end = TAPE_CANCELLED, .problem = "the client left"};
    bool complete = !c->asked.streamed || c->asked.upload_done; // else nobody can finish it
    if (complete && (c->goes_on || shelf_goes_on(t))) {
        return;
    }
    if (t->record) {
        stop_call(c, REPORT_NOTHING, &left); // what there is may be read again, and is to say that it is not all
    } else {
        end_call(c, REPORT_NOTHING, &left);
    }
}

static void on_stop(struct tape *t, const struct tape_why *why) { stop_call(t->writer, REPORT_NOTHING, why); }

static const struct tape_events tape_events = {on_room, on_abandoned, on_stop};

bool call_waits(const struct tape *t, unsigned *place, unsigned *waiting) {
    const struct call *c = t->events == &tape_events ? t->writer : NULL;
    return c && c->state == CALL_QUEUED && gate_place(&c->hold->ticket, place, waiting);
}

const struct quota_look *call_look(const struct call *c) { return &c->hold->look; }

// ---- beginning

static void refuse_quota(struct call *c, enum quota_answer answer) {
    static const enum limit limits[] = {
        [QUOTA_REQUESTS] = LIMIT_REQUESTS, [QUOTA_TOKENS] = LIMIT_TOKENS, [QUOTA_IN_FLIGHT] = LIMIT_IN_FLIGHT};
    static const char *const names[] = {[QUOTA_REQUESTS] = "requests_per_minute",
                                        [QUOTA_TOKENS] = "tokens_per_minute",
                                        [QUOTA_IN_FLIGHT] = "in_flight"};
    static const char *const units[] = {[QUOTA_REQUESTS] = "requests a minute",
                                        [QUOTA_TOKENS] = "tokens a minute",
                                        [QUOTA_IN_FLIGHT] = "calls at once"};
    const struct quota_rates *rates = &c->hold->client.rates;
    uint64_t most = answer == QUOTA_REQUESTS ? rates->requests_per_minute
                    : answer == QUOTA_TOKENS ? rates->tokens_per_minute
                                             : rates->in_flight;
    call_count_refused(c, limits[answer]);
    call_turn_away(c, ERR_SHARE, OUTCOME_LIMITED, c->hold->look.retry_ms,
                   "This client may have %" PRIu64 " %s, and has (limits: %s).", most, units[answer], names[answer]);
}

// False: refused.
static bool take_hold(struct call *c, const struct call_request *request) {
    c->hold = xcalloc(1, sizeof *c->hold);
    c->hold->client = *request->client;
    struct call_client *client = &c->hold->client;
    enum quota_answer answer = quota_take(c->worker->commons->quotas, client->id, &client->rates,
                                          MIN(client->tokens + client->max_tokens, (uint64_t)USAGE_MOST),
                                          call_now_ms(c), &c->hold->lease, &c->hold->look);
    if (answer != QUOTA_FINE) {
        refuse_quota(c, answer);
    } else if (client->rates.tokens_per_minute) {
        c->hold->usage = xcalloc(1, sizeof *c->hold->usage);
    }
    return answer == QUOTA_FINE;
}

struct call *call_start(struct worker *w, const struct call_request *request, struct tape *tape) {
    struct call *c = pool_take(&w->call_pool);
    c->worker = w;
    c->setup = setup_ref(request->setup);
    c->targets = request->targets;
    c->started_ms = w->loop.now_ms;
    c->timeout_ms = request->timeout_ms;
    counted_begin(&c->counted, w, request->take_trail, c->setup->config->server_timing);
    c->deadline.on_timer = on_deadline;
    c->up.events = &up_events;
    c->goes_on = request->goes_on;
    c->messages = request->messages;
    c->tape = tape_ref(tape);
    tape->events = &tape_events;
    tape->writer = c;
    if (!asked_init(&c->asked, c->setup, request)) {
        fail_call(c, ERR_NOMEM, OUTCOME_EXHAUSTED, "there was no memory for the request");
    } else if (!request->client || take_hold(c, request)) {
        call_ask(c);
    }
    return c;
}
