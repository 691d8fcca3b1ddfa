// SPDX-License-Identifier: MIT
// One call.
//
//               connection there       all of the request sent        answer's head
//   CONNECTING ------------------> SENDING --------------> WAITING ------------------> ANSWERING
//       |  ^                          |                       |                            |
//       |  +--- a kept connection ----+---- died at once ----+                            |
//       |       (or, not made: the model's next upstream)                                 |
//       v                             v                       v                            v
//     ENDED <------------------------ failed, timed out, abandoned, answered ---------------
//
//   CONNECTING  the dial has its own time limit; the total one runs here
//   SENDING     deadline first_byte since the last progress
//   WAITING     deadline first_byte
//   ANSWERING   what was kept of the request is freed; deadline between, since the last content
//   ENDED       the tape has its end or nobody wants it; in the graveyard
//
// A request is sent again only where no upstream can have worked on it: the connection was never made, or it was a
// kept one that the upstream closed as it was used (docs/internals/transport.md). Anything else may have been billed:
// the client is told and decides.
#include "gateway/call.h"

#include <assert.h>
#include <inttypes.h>

#include "base/mem.h"
#include "gateway/answer.h"
#include "gateway/counted.h"
#include "gateway/trace.h"

enum { HELD_MAX = 256 * 1024, PROBLEM_MAX = 400, PARTS = 5, ID_LINE_MAX = 64 };

enum call_state { CALL_CONNECTING, CALL_SENDING, CALL_WAITING, CALL_ANSWERING, CALL_ENDED };

// An event stream as it passes. On a kept tape every event gets an `id:` line, and its end is marked.
struct stream {
    struct sse sse;
    struct call *call;
    struct str bytes; // being fed
    size_t done;      // of them, are in `out`
    enum err error;   // of out
    bool ids;
    bool after_cr; // of a blank line that was left out
    struct tape_id id;
};

struct call {
    struct worker *worker;
    struct xchg up;
    struct tape *tape;
    union {
        struct timer deadline;
        struct grave grave; // ENDED
    };
    const struct targets *targets;
    struct counted counted;
    uint64_t started_ms;
    char *asked;     // packed: target's length, target, fields; kept until the answer begins
    struct buf body; // kept: all of it; streamed: what the upstream could not take yet
    union {
        struct {         // kept
            size_t sent; // bytes of it, as rewritten, taken by the upstream
            struct call_places places;
        };
        struct {              // streamed
            int64_t body_len; // as the client announced it
            const struct call_owner *owner_events;
            void *owner; // the body's source; NULL: gone
        };
    };
    struct stream *stream; // of an event stream's answer
    enum call_state state;
    enum method method;
    uint16_t at; // in targets
    bool streamed;
    bool uploaded; // streamed: bytes of it are gone, it cannot be sent again
    bool upload_done;
    bool again;    // this target was tried a second time
    bool goes_on;  // without readers, though the tape is not kept
    bool messages; // Anthropic's API
};

const size_t call_size = sizeof(struct call);

static const struct xchg_events up_events;
static const struct tape_events tape_events;
static void dispatch(struct call *c, bool fresh);

static struct target *target_of(const struct call *c) { return &c->targets->v[c->at]; }
static const struct config_upstream *upstream_config(const struct call *c) { return target_of(c)->upstream->config; }
static uint64_t now_ms(const struct call *c) { return c->worker->loop.now_ms; }

// (Re)starts the state's deadline, never beyond the total one.
static void set_deadline(struct call *c) {
    const struct config_upstream *config = upstream_config(c);
    uint64_t spent = now_ms(c) - c->started_ms;
    uint64_t left = config->total_ms > spent ? config->total_ms - spent : 0;
    switch (c->state) {
    case CALL_CONNECTING: break;
    case CALL_SENDING:
    case CALL_WAITING: left = MIN(left, config->first_byte_ms); break;
    case CALL_ANSWERING: left = MIN(left, config->between_ms); break;
    case CALL_ENDED: return;
    }
    timer_set(&c->worker->loop, &c->deadline, left);
}

static void call_set_state(struct call *c, enum call_state state) {
    assert(c->state != CALL_ENDED);
    c->state = state;
    if (state != CALL_SENDING) { // sending what there is follows at once, and sets it
        set_deadline(c);
    }
}

static void forget_request(struct call *c) {
    free(c->asked);
    c->asked = NULL;
    if (!c->streamed) {
        buf_finish(&c->body);
    }
}

static void bury(struct grave *grave) {
    struct call *c = container_of(grave, struct call, grave);
    forget_request(c);
    buf_finish(&c->body);
    if (c->stream) {
        sse_finish(&c->stream->sse);
        free(c->stream);
    }
    pool_give(&c->worker->call_pool, c);
}

// The tape has its end, or gets it now.
static void end_call(struct call *c, const struct tape_why *why) {
    struct tape *tape = c->tape;
    call_set_state(c, CALL_ENDED);
    timer_clear(&c->deadline);
    if (c->streamed && c->owner) {
        c->owner_events->on_over(c->owner);
        c->owner = NULL;
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

// ---- failing

static struct str feed_stream(struct call *c, struct str bytes);

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
    struct str text = e == OK ? feed_stream(c, buf_str(&event)) : STR("");
    if (text.len) {
        tape_append(c->tape, text, false);
    }
    buf_finish(&event);
}

static void stop_call(struct call *c, const struct tape_why *why) {
    c->tape->events = NULL;                   // whatever its readers do meanwhile
    if (c->stream && c->tape->body_len < 0) { // a known length could be filled by the event
        append_last_event(c, why);
    }
    end_call(c, why);
}

static void fail_call(struct call *c, enum err e, enum outcome outcome, const char *what) {
    char problem[PROBLEM_MAX];
    counted_failure(&c->counted);
    snprintf(problem, sizeof problem, "The upstream '%.*s' (%s) failed: %s.", STR_ARG(upstream_config(c)->name),
             target_of(c)->upstream->authority, what);
    stop_call(c, &(struct tape_why){TAPE_CUT, e, (int)outcome, problem});
}

static bool replayable(const struct call *c) { return c->asked && (!c->streamed || !c->uploaded); }

// RFC 9110 section 9.2.2: these may be repeated whatever became of the first time.
static bool is_idempotent(enum method m) {
    return m == METHOD_GET || m == METHOD_HEAD || m == METHOD_PUT || m == METHOD_DELETE || m == METHOD_OPTIONS;
}

// A kept connection broke without a byte of an answer: did the upstream close it before it saw the request?
static bool died_at_once(const struct call *c) {
    return client_reused(&c->up) && (client_untouched(&c->up) || is_idempotent(c->method));
}

// True if another attempt was started.
static bool try_elsewhere(struct call *c, bool same_target) {
    if (!replayable(c)) {
        return false;
    }
    if (same_target && !c->again) {
        c->again = true;
        counted_failure(&c->counted);
        count_add(&c->worker->meter->retries, 1);
        dispatch(c, true);
        return true;
    }
    if (c->at + 1u < c->targets->n) {
        c->at++;
        c->again = false;
        counted_failure(&c->counted);
        count_add(&c->worker->meter->fallbacks, 1);
        dispatch(c, false);
        return true;
    }
    return false;
}

static void on_fail(struct xchg *x, enum err e, const char *problem) {
    struct call *c = container_of(x, struct call, up);
    char what[PROBLEM_MAX]; // outlives the connection that says it
    snprintf(what, sizeof what, "%s", problem);
    switch (c->state) {
    case CALL_CONNECTING:
        if (e == ERR_FILES || e == ERR_NOMEM) { // ours, not the upstream's: another one would fail the same way
            fail_call(c, e, OUTCOME_EXHAUSTED, what);
        } else if (!try_elsewhere(c, false)) {
            fail_call(c, e, OUTCOME_UPSTREAM_UNREACHED, what);
        }
        break;
    case CALL_SENDING:
    case CALL_WAITING:
        if (!died_at_once(c) || !try_elsewhere(c, true)) {
            fail_call(c, e, e == ERR_NOMEM ? OUTCOME_EXHAUSTED : OUTCOME_UPSTREAM_LOST, what);
        }
        break;
    case CALL_ANSWERING: fail_call(c, ERR_CUT, OUTCOME_UPSTREAM_CUT, what); break;
    case CALL_ENDED: break;
    }
}

// The client owes bytes of its upload: its silence is not the upstream's, and has a limit of its own.
static bool is_clients_turn(const struct call *c) {
    return c->state == CALL_SENDING && c->streamed && !c->upload_done && buf_len(&c->body) == 0;
}

static void on_deadline(struct timer *timer) {
    struct call *c = container_of(timer, struct call, deadline);
    const struct config_upstream *config = upstream_config(c);
    char what[PROBLEM_MAX];
    char time[24];
    bool total = now_ms(c) - c->started_ms >= config->total_ms;
    if (!total && is_clients_turn(c)) {
        set_deadline(c);
        return;
    }
    if (!total && tape_full(c->tape)) {
        set_deadline(c); // it is not being read from; whoever reads the tape has a limit of his own
        return;
    }
    bool answering = c->state == CALL_ANSWERING;
    uint64_t ms = total ? config->total_ms : answering ? config->between_ms : config->first_byte_ms;
    enum outcome outcome = total       ? OUTCOME_TIMEOUT_TOTAL
                           : answering ? OUTCOME_TIMEOUT_BETWEEN
                                       : OUTCOME_TIMEOUT_FIRST_BYTE;
    const char *of = total       ? "its answer was not complete within"
                     : answering ? "it sent nothing for"
                                 : "it did not begin to answer within";
    format_duration(time, sizeof time, ms);
    snprintf(what, sizeof what, "%s %s (timeouts: %s)", of, time,
             total       ? "total"
             : answering ? "between"
                         : "first_byte");
    fail_call(c, ERR_TIMEOUT, outcome, what);
}

// ---- sending

// Other text in the place of a part of the body.
struct edit {
    size_t at, len;
    struct str text;
};

// The body in parts; `edits` are in order.
static unsigned apply(struct str body, const struct edit *edits, unsigned n, struct str parts[PARTS]) {
    size_t done = 0;
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++) {
        parts[count++] = str_first(str_skip(body, done), edits[i].at - done);
        parts[count++] = edits[i].text;
        done = edits[i].at + edits[i].len;
    }
    parts[count++] = str_skip(body, done);
    return count;
}

// The kept body from `skip` on, with the upstream's own name of the model in the place of the client's.
static int body_parts(const struct call *c, size_t skip, struct iovec v[PARTS]) {
    const char *model = target_of(c)->model_json;
    struct edit edits[2];
    struct str parts[PARTS];
    unsigned n = 0;
    int count = 0;
    if (model && c->places.model_len) {
        edits[n++] = (struct edit){c->places.model_at, c->places.model_len, str_c(model)};
    }
    if (c->places.true_at) {
        edits[n++] = (struct edit){c->places.true_at, 4, STR("false")};
    }
    if (n == 2 && edits[1].at < edits[0].at) {
        struct edit first = edits[1];
        edits[1] = edits[0];
        edits[0] = first;
    }
    unsigned part_count = apply(buf_str(&c->body), edits, n, parts);
    for (unsigned i = 0; i < part_count; i++) {
        size_t drop = MIN(skip, parts[i].len);
        skip -= drop;
        if (parts[i].len > drop) {
            v[count++] = (struct iovec){(void *)(uintptr_t)(parts[i].ptr + drop), parts[i].len - drop};
        }
    }
    return count;
}

static size_t total(const struct iovec *v, int count) {
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        n += v[i].iov_len;
    }
    return n;
}

// An answer may have begun before the request was all sent: then that state stays.
static void all_sent(struct call *c, bool all) {
    if (all && c->state == CALL_SENDING) {
        call_set_state(c, CALL_WAITING);
    } else {
        set_deadline(c);
    }
}

static void send_kept(struct call *c) {
    struct iovec v[PARTS];
    int count = body_parts(c, c->sent, v);
    size_t taken = xchg_sendv(&c->up, v, count, true);
    c->sent += taken;
    all_sent(c, taken == total(v, count));
}

static void send_streamed(struct call *c) {
    struct str held = buf_str(&c->body);
    size_t taken = xchg_send(&c->up, held, c->upload_done);
    c->uploaded = c->uploaded || taken;
    buf_consume(&c->body, taken);
    all_sent(c, taken == held.len && c->upload_done);
    if (taken == held.len && !c->upload_done) {
        if (c->owner) {
            c->owner_events->on_room(c->owner);
        }
    }
}

static void send_body(struct call *c) {
    if (c->streamed) {
        send_streamed(c);
    } else {
        send_kept(c);
    }
}

// The upstream's base path, then the client's target without thaw's prefix.
static struct str upstream_target(const struct call *c, struct str target) {
    struct str base = upstream_config(c)->base_path;
    struct str rest = str_skip(target, c->worker->config->prefix.len);
    char *room = c->worker->target_room;
    memcpy(room, base.ptr, base.len);
    memcpy(room + base.len, rest.ptr, rest.len);
    return str_from(room, base.len + rest.len);
}

static void send_request(struct call *c) {
    const struct upstream *upstream = target_of(c)->upstream;
    struct fields fields = worker_scratch(c->worker);
    struct iovec v[PARTS];
    uint32_t target_len;
    memcpy(&target_len, c->asked, sizeof target_len);
    struct str target = str_from(c->asked + sizeof target_len, target_len);
    const char *unpacked = fields_unpack(&fields, target.ptr + target.len);
    assert(unpacked); // scratch has room for what was packed from it
    (void)unpacked;
    worker_add(&fields, STR("Via"), STR("1.1 thaw"));
    if (upstream->authorization) {
        fields_remove_flagged(&fields, FIELD_CREDENTIAL);
        worker_add(&fields, STR("Authorization"), str_c(upstream->authorization));
    }
    struct head head = {
        .method = c->method,
        .method_name = str_c(method_name(c->method)),
        .target = upstream_target(c, target),
        .authority = str_c(upstream->authority),
        .fields = fields,
        .body_len = c->streamed ? c->body_len : (int64_t)total(v, body_parts(c, 0, v)),
    };
    call_set_state(c, CALL_SENDING);
    xchg_send_head(&c->up, &head);
    send_body(c);
    counted_sent(&c->counted, c->worker);
}

static void dispatch(struct call *c, bool fresh) {
    if (!c->streamed) {
        c->sent = 0;
    }
    c->up = (struct xchg){.events = &up_events};
    call_set_state(c, CALL_CONNECTING);
    counted_attempt(&c->counted, c->worker, target_of(c)->upstream);
    if (client_start(&target_of(c)->upstream->origin, &c->up, fresh) == OK) {
        send_request(c);
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

bool call_upload(struct call *c, struct str bytes, bool end) {
    size_t taken = 0;
    if (c->state == CALL_ENDED || xchg_over(&c->up)) {
        return true;
    }
    c->upload_done = end;
    if (c->state != CALL_CONNECTING && buf_len(&c->body) == 0) {
        taken = xchg_send(&c->up, bytes, end);
        c->uploaded = c->uploaded || taken;
    }
    if (taken < bytes.len) {
        if (buf_str_append(&c->body, str_skip(bytes, taken)) != OK) {
            fail_call(c, ERR_NOMEM, OUTCOME_EXHAUSTED, "there was no memory for the upload");
            return true;
        }
        return false;
    }
    all_sent(c, end);
    return true;
}

void call_forget_owner(struct call *c) { c->owner = NULL; }

// ---- the answer

// A coded one is relayed, but its events cannot be seen.
static bool is_plain_event_stream(const struct fields *fields) {
    struct str coding = fields_value(fields, FIELD_CONTENT_ENCODING);
    return http_is_event_stream(fields) && (!coding.ptr || str_ieq(coding, STR("identity")));
}

static void put_in(struct stream *s, struct str text) {
    struct buf *out = &s->call->worker->events;
    s->error = s->error == OK ? buf_str_append(out, text) : s->error;
}

// An event ends; the last byte of it so far ends the blank line.
static void on_boundary(struct sse *sse, size_t at) {
    struct stream *s = container_of(sse, struct stream, sse);
    struct tape *tape = s->call->tape;
    char line[ID_LINE_MAX];
    int n = snprintf(line, sizeof line, "id: %s:%" PRIu64 "\n", s->id.text, sse->events - 1);
    put_in(s, str_from(s->bytes.ptr + s->done, at - 1 - s->done));
    put_in(s, str_from(line, (size_t)n));
    put_in(s, str_from(s->bytes.ptr + at - 1, 1));
    s->done = at;
    if (s->error == OK) {
        tape_mark(tape, tape->written + buf_len(&s->call->worker->events));
    }
}

// A blank line behind a comment, say, is left out: it says nothing, and OpenAI's Python SDK (3.52), once it has seen an
// id, takes it for an event without data and fails on that.
static void on_blank(struct sse *sse, size_t at) {
    struct stream *s = container_of(sse, struct stream, sse);
    put_in(s, str_from(s->bytes.ptr + s->done, at - 1 - s->done));
    s->done = at;
    if (s->bytes.ptr[at - 1] == '\r') {
        s->after_cr = at == s->bytes.len;
        s->done += at < s->bytes.len && s->bytes.ptr[at] == '\n';
    }
}

static void begin_stream(struct call *c) {
    struct stream *s = xcalloc(1, sizeof *s);
    sse_init(&s->sse, NULL);
    s->call = c;
    s->ids = c->tape->record;
    if (s->ids) {
        s->id = shelf_id(&c->worker->shelf, c->tape);
        s->sse.on_boundary = on_boundary;
        s->sse.on_blank = on_blank;
    }
    c->stream = s;
}

// Watches the bytes pass. Returns what goes on the tape instead of them, valid until the next call.
static struct str feed_stream(struct call *c, struct str bytes) {
    struct stream *s = c->stream;
    if (!s->ids) {
        sse_feed(&s->sse, bytes);
        return bytes;
    }
    buf_clear(&c->worker->events);
    s->bytes = bytes;
    s->done = s->after_cr && bytes.len && bytes.ptr[0] == '\n';
    s->after_cr = s->after_cr && bytes.len == 0;
    sse_feed(&s->sse, bytes);
    put_in(s, str_skip(bytes, s->done));
    return s->error == OK ? buf_str(&c->worker->events) : STR("");
}

static void on_head(struct xchg *x, struct head *head) {
    struct call *c = container_of(x, struct call, up);
    if (head->status == 100) {
        return; // leave to send a body, which was sent without asking
    }
    http_head_strip(&head->fields);
    struct tape_head tape_head = {head->status, head->fields, head->body_len};
    char timing[TIMING_MAX];
    if (head->status >= 200) {
        counted_head(&c->counted, c->worker);
        if (c->worker->config->server_timing) {
            counted_timing(&c->counted, c->worker, &tape_head.fields, timing);
        }
        if (is_plain_event_stream(&head->fields)) {
            begin_stream(c);
            tape_head.body_len = c->stream->ids ? BODY_UNKNOWN : tape_head.body_len;
        }
        if (c->state == CALL_WAITING) { // else it is still being sent
            forget_request(c);
        }
        call_set_state(c, CALL_ANSWERING);
    }
    struct tape *tape = tape_ref(c->tape);
    tape_put_head(tape, &tape_head);
    if (c->state != CALL_ENDED && !tape_running(tape)) { // there was no memory for it
        end_call(c, NULL);
    }
    tape_unref(tape);
}

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct call *c = container_of(x, struct call, up);
    struct tape *tape = tape_ref(c->tape);
    uint64_t events = c->stream ? c->stream->sse.events : 0;
    struct str text = c->stream ? feed_stream(c, bytes) : bytes;
    bool content = c->stream ? c->stream->sse.events != events : bytes.len > 0; // comments, half events are no progress
    if (content && !end) {
        set_deadline(c);
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
        end_call(c, NULL);
    } else if (tape_full(tape)) {
        xchg_pause(&c->up);
    }
    tape_unref(tape);
}

static const struct xchg_events up_events = {on_head, on_body, on_drain, on_fail};

static void on_room(struct tape *t) {
    struct call *c = t->writer;
    set_deadline(c); // as long as it was not read from, the upstream's silence was ours
    xchg_resume(&c->up);
}

static void on_abandoned(struct tape *t) {
    struct call *c = t->writer;
    static const struct tape_why left = {TAPE_CANCELLED, OK, 0, "the client left"};
    bool complete = !c->streamed || c->upload_done; // else nobody can finish it
    if (complete && (c->goes_on || shelf_goes_on(t))) {
        return;
    }
    if (t->record) {
        stop_call(c, &left); // what there is may be read again, and is to say that it is not all
    } else {
        end_call(c, &left);
    }
}

static void on_stop(struct tape *t, const struct tape_why *why) { stop_call(t->writer, why); }

static const struct tape_events tape_events = {on_room, on_abandoned, on_stop};

// ---- beginning

static void pack(struct call *c, const struct call_request *request) {
    const struct head *head = request->head;
    struct fields fields = worker_scratch(c->worker);
    struct trace trace;
    for (unsigned i = 0; i < head->fields.n; i++) {
        worker_push(&fields, &head->fields.v[i]);
    }
    http_head_strip(&fields);
    // A key of ours opened this door and is for no other.
    fields_remove_flagged(&fields, FIELD_PRIVATE | (c->worker->who.count ? FIELD_CREDENTIAL : 0u));
    fields_remove(&fields, FIELD_X_REQUEST_ID);
    if (request->answered) {
        fields_remove(&fields, FIELD_PREFER);
    }
    if (request->plain) {
        fields_remove(&fields, FIELD_ACCEPT_ENCODING);
    }
    worker_add(&fields, STR("x-request-id"), request->request_id);
    trace_pass(&fields, c->worker->config->trace_trust, &trace);
    if (c->counted.trail) {
        memcpy(c->counted.trail->trace, trace.id, sizeof trace.id);
    }
    uint32_t target_len = (uint32_t)head->target.len;
    c->asked = xmalloc(sizeof target_len + head->target.len + fields_packed_size(&fields));
    memcpy(c->asked, &target_len, sizeof target_len);
    memcpy(c->asked + sizeof target_len, head->target.ptr, head->target.len);
    fields_pack(&fields, c->asked + sizeof target_len + head->target.len);
}

static bool keep_body(struct call *c, const struct call_request *request) {
    buf_init(&c->body, c->streamed ? HELD_MAX : MAX(request->body.len, (size_t)1));
    if (request->take_body) {
        c->body = *request->take_body;
        *request->take_body = (struct buf){.cap = c->body.cap};
        return true;
    }
    return buf_str_append(&c->body, request->body) == OK;
}

struct call *call_start(struct worker *w, const struct call_request *request, struct tape *tape) {
    struct call *c = pool_take(&w->call_pool);
    c->worker = w;
    c->method = request->head->method;
    c->targets = request->targets;
    c->started_ms = w->loop.now_ms;
    counted_begin(&c->counted, w, request->take_trail, w->config->server_timing);
    c->streamed = !request->body_kept;
    if (c->streamed) {
        c->body_len = request->head->body_len;
        c->owner_events = request->owner_events;
        c->owner = request->owner;
    } else {
        c->places = request->places;
    }
    c->deadline.on_timer = on_deadline;
    c->up.events = &up_events;
    c->goes_on = request->goes_on;
    c->messages = request->messages;
    c->tape = tape_ref(tape);
    tape->events = &tape_events;
    tape->writer = c;
    pack(c, request);
    if (!keep_body(c, request)) {
        fail_call(c, ERR_NOMEM, OUTCOME_EXHAUSTED, "there was no memory for the request");
        return c;
    }
    dispatch(c, false);
    return c;
}
