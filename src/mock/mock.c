// SPDX-License-Identifier: MIT
// A call from its head to its end.
//
//              the body is there           it is its turn           latency over            all handed over
//   ARRIVING -------------------> QUEUED --------------> WAITING -----------------> SENDING -----------------> OVER
//      |                             |                      ^                          ^
//      |                             +-- over capacity -----|--------------------------+
//      +---- a page, or an error by name -------------------+                          |
//      +---- refused ------------------------------------------------------------------+
//   any state --the client left, or the mock is destroyed--> OVER
//
//   transition             by
//   -> ARRIVING            call_create
//   ARRIVING -> QUEUED     call_queue
//   QUEUED -> WAITING      call_wait
//   ARRIVING -> WAITING    call_wait (no part in capacity)
//   WAITING -> SENDING     call_begin
//   others -> SENDING      call_begin (an error)
//   any -> OVER            call_end
//
//   ARRIVING  `held` gathers the body, when it does not come in one read
//   QUEUED    the capacity has it; nothing but the call itself is kept
//   WAITING   the timer runs, in service; nothing but the call itself is kept
//   SENDING   either `held` has bytes the connection did not take, and on_drain will come; or the timer runs until
//             the next token. No token is made while one is unsent. Of a call with a fault: the timer may run while
//             bytes are held back, or nothing happens any more until the client leaves
//   OVER      in the loop's graveyard; the exchange knows nothing of us any more
//
// A call is one allocation: once its request is read, what is to be echoed moves in behind the struct, which grows where
// that is long.
#include "mock/mock.h"

#include <assert.h>
#include <time.h>

#include "base/mem.h"
#include "llm/peek.h"
#include "mock/answer.h"
#include "mock/ask.h"
#include "mock/heads.h"
#include "mock/identity.h"
#include "mock/inside.h"
#include "mock/plan.h"
#include "mock/shape.h"
#include "mock/words.h"
#include "net/mem.h"

enum {
    BODY_CAP = 64 * 1024 * 1024,
    SCRATCH_CAP = 1024 * 1024, // the largest piece of any script, and then some
    TEXT_KEEP = 64 * 1024,     // a larger text buffer is given back after the call
    TURN_BYTES = 256 * 1024,   // one call sends no more in one go: others are waiting
    SHORT_ECHO = 80,           // bytes of payload that a call has from the start
    NAMED_MAX = 200,           // bytes of an unknown path that its 404 quotes
    JOURNAL_CALLS = 100 * 1000,
    HEADER_MS = 60 * 1000,
    IDLE_MS = 10 * 60 * 1000, // longer than clients keep theirs: it is they who close
    LINGER_MS = 2000,
    RESET_MS = 20,
};

struct mock {
    struct loop *loop;
    struct mock_options options;
    struct http_server server;
    struct journal journal;
    struct capacity *capacity;
    struct draw_counts seen; // calls, by what tells them apart
    struct deck *deck;       // NULL: answers are made up
    struct list calls;
    uint64_t accepted;  // connections
    struct buf scratch; // what is being written, for the time of one callback
    struct buf text;    // what is being read
};

enum call_state { CALL_ARRIVING, CALL_QUEUED, CALL_WAITING, CALL_SENDING, CALL_OVER };

struct route;
struct call {
    struct mock *mock;
    struct xchg *x;
    struct list node; // in mock->calls
    const struct route *route;
    const struct script *script;
    const struct head *head; // of the request, until its body was read
    uint64_t id;             // in the journal; 0: not a model's call
    union {
        struct claim claim; // its timer is the call's only one, its start that of the answer's times
        struct grave grave; // OVER
    };
    struct buf held;
    struct answer answer;
    struct fault fault;
    enum call_state state;
    short refusal;  // a status that was clear from the head
    bool delayed;   // its client did not take what was due
    char payload[]; // what answer.model and answer.text point to
};

// ---- the table of endpoints

static const struct route {
    struct str path;    // is reached without the /v1 as well
    enum method method; // GET includes HEAD
    bool below;         // the path's beginning; what follows names something
    ask_reader *read;   // a model's call: what the body asks for
    const struct script *whole;
    const struct script *stream;
} routes[] = {
    {STR_INIT("/v1/chat/completions"), METHOD_POST, false, ask_chat, &answer_chat, &answer_chat_stream},
    {STR_INIT("/v1/completions"), METHOD_POST, false, ask_completion, &answer_completion, &answer_completion_stream},
    {STR_INIT("/v1/embeddings"), METHOD_POST, false, ask_embeddings, &answer_embeddings, &answer_embeddings},
    {STR_INIT("/v1/responses"), METHOD_POST, false, ask_response, &answer_response, &answer_response_stream},
    {STR_INIT("/v1/responses/"), METHOD_GET, true, NULL, NULL, NULL}, // none is kept
    {STR_INIT("/v1/messages"), METHOD_POST, false, ask_message, &answer_message, &answer_message_stream},
    {STR_INIT("/v1/messages/count_tokens"), METHOD_POST, false, ask_count, &answer_count, &answer_count},
    {STR_INIT("/v1/models"), METHOD_GET, false, NULL, &answer_models, NULL},
    {STR_INIT("/v1/models/"), METHOD_GET, true, NULL, &answer_model, NULL},
    {STR_INIT("/mock/journal"), METHOD_GET, false, NULL, &answer_journal, NULL},
    {STR_INIT("/mock/stats"), METHOD_GET, false, NULL, &answer_stats, NULL},
    {STR_INIT("/mock/reset"), METHOD_POST, false, NULL, &answer_reset, NULL},
    {STR_INIT("/healthz"), METHOD_GET, false, NULL, &answer_health, NULL},
};

static bool path_is(const struct route *route, struct str wanted, struct str path) {
    return route->below ? str_starts(path, wanted) && path.len > wanted.len : str_eq(path, wanted);
}

// Finds the route of a path. *shown is the path as the journal tells it: constant.
static const struct route *route_find(struct str path, const char **shown) {
    struct str prefix = STR("/v1");
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const struct route *route = &routes[i];
        struct str without = str_skip(route->path, str_starts(route->path, prefix) ? prefix.len : 0);
        bool prefixed = path_is(route, route->path, path);
        if (prefixed || path_is(route, without, path)) {
            *shown = prefixed ? route->path.ptr : without.ptr;
            return route;
        }
    }
    *shown = NULL;
    return NULL;
}

// ---- a call's life

static uint64_t now_ns(const struct mock *mock) { return mock->loop->clock->now_ns(mock->loop->clock); }

static void call_set_state(struct call *c, enum call_state state) {
    assert(c->state != CALL_OVER);
    assert(state != CALL_QUEUED || c->state == CALL_ARRIVING);
    assert(state != CALL_WAITING || c->state == CALL_ARRIVING || c->state == CALL_QUEUED);
    assert(state != CALL_SENDING || c->state != CALL_SENDING);
    timer_clear(&c->claim.timer);
    c->state = state;
}

static void call_check(const struct call *c UNUSED) {
    assert(c->state != CALL_OVER);
    assert(c->state != CALL_ARRIVING || !timer_is_set(&c->claim.timer));
    assert((c->state != CALL_QUEUED && c->state != CALL_WAITING) || buf_len(&c->held) == 0);
    assert(c->state != CALL_SENDING || buf_len(&c->held) == 0 || !timer_is_set(&c->claim.timer) ||
           fault_in_portions(&c->fault));
}

static void bury(struct grave *grave) { free(container_of(grave, struct call, grave)); }

static void ignore_head(struct xchg *x UNUSED, struct head *head UNUSED) {}
static void ignore_body(struct xchg *x UNUSED, struct str bytes UNUSED, bool end UNUSED) {}
static void ignore_drain(struct xchg *x UNUSED) {}
static void ignore_fail(struct xchg *x UNUSED, enum err e UNUSED, const char *problem UNUSED) {}
static const struct xchg_events nobody = {ignore_head, ignore_body, ignore_drain, ignore_fail};

static uint64_t call_due_ms(struct call *c) { return c->claim.start_ms + answer_due_ms(&c->answer); }

// Since when its seat has been free: when the last piece was due, however late the loop was. Unless the client was.
static uint64_t call_free_ms(struct call *c, enum journal_end end) {
    bool on_time = end == END_WHOLE && !c->delayed;
    return on_time ? c->claim.start_ms + pace_due_ms(&c->answer.pace, 0) : UINT64_MAX;
}

static void call_end(struct call *c, enum journal_end end) {
    struct mock *mock = c->mock;
    unsigned tokens = end == END_WHOLE ? c->answer.tokens : 0;
    if (c->state == CALL_SENDING && end != END_WHOLE) {
        tokens = answer_tokens_sent(&c->answer);
    }
    call_set_state(c, CALL_OVER);
    if (c->id) {
        journal_ended(&mock->journal, c->id, end, tokens, now_ns(mock));
    }
    capacity_leave(mock->capacity, &c->claim, call_free_ms(c, end));
    if (!xchg_over(c->x)) { // its last bytes are on their way, or it is being given up
        c->x->events = &nobody;
    }
    list_unlink(&c->node);
    buf_finish(&c->held);
    loop_bury(mock->loop, &c->grave, bury);
}

// Nothing that the client can be told.
static void call_break(struct call *c) {
    xchg_abort(c->x);
    call_end(c, END_CUT);
}

// ---- sending

// Are the next bytes the last ones, so that the client may be told that this is all?
static bool call_ends(const struct call *c) { return answer_over(&c->answer) && !fault_at_end(&c->fault); }

// Sends what is held. False: not all was taken, or is to leave yet; on_drain or the timer will come.
static bool call_send_held(struct call *c) {
    struct str bytes = buf_str(&c->held);
    size_t most = fault_in_portions(&c->fault) ? fault_portion(&c->fault, bytes) : bytes.len;
    if (bytes.len == 0) {
        return true;
    }
    size_t taken = xchg_send(c->x, str_first(bytes, most), most == bytes.len && call_ends(c));
    buf_consume(&c->held, taken);
    if (taken < most) {
        return false;
    }
    if (most < bytes.len) {
        timer_set(c->mock->loop, &c->claim.timer, fault_pause_ms(&c->fault));
        return false;
    }
    buf_finish(&c->held);
    return true;
}

// Hands bytes over. False: not all were taken; the rest is held until on_drain (or the call is over).
static bool call_send(struct call *c, struct str bytes) {
    bool portions = fault_in_portions(&c->fault);
    size_t taken = portions ? 0 : xchg_send(c->x, bytes, call_ends(c));
    if (taken == bytes.len && !portions) {
        return true;
    }
    c->delayed = true;
    if (buf_str_append(&c->held, str_skip(bytes, taken)) != OK) {
        call_break(c);
        return false;
    }
    return portions && call_send_held(c);
}

// A delay of nothing never waits for the clock's next millisecond.
static bool call_is_due(struct call *c) {
    uint64_t due_ms = answer_due_ms(&c->answer);
    return due_ms == 0 || capacity_now_ms(c->mock->capacity) >= c->claim.start_ms + due_ms;
}

// Fills the scratch buffer with what is due.
static enum err call_write(struct call *c) {
    struct buf *scratch = &c->mock->scratch;
    enum err e = OK;
    buf_clear(scratch);
    while (e == OK && !answer_over(&c->answer) && !answer_halted(&c->answer) && call_is_due(c) &&
           buf_len(scratch) < ANSWER_BATCH) {
        e = answer_write(&c->answer, scratch);
    }
    return e;
}

// The fault's own end of the call: nothing any more, or bytes below HTTP, and the connection is closed or reset. What
// was sent gets a moment to be read: a reset overtakes it.
static void call_end_faulty(struct call *c) {
    bool reset = c->fault.kind == FAULT_RESET;
    struct str raw = fault_raw(&c->fault);
    size_t written = 0;
    timer_clear(&c->claim.timer);
    if (c->fault.kind == FAULT_HANG || c->fault.kind == FAULT_HANG_AT) {
        return;
    }
    if (c->fault.kind == FAULT_RESET_AT) {
        c->fault.kind = FAULT_RESET;
        timer_set(c->mock->loop, &c->claim.timer, RESET_MS);
        return;
    }
    if (!reset && !raw.len) {
        call_break(c);
        return;
    }
    struct conn *conn = http_server_release(c->x);
    struct iovec v = {(void *)(uintptr_t)raw.ptr, raw.len};
    if (conn && (raw.len == 0 || conn_writev(conn, &v, 1, &written) == OK) && !reset) {
        conn_close(conn);
    } else if (conn) {
        conn_abort(conn);
    }
    call_end(c, END_CUT);
}

static void call_go_on(struct call *c) {
    struct mock *mock = c->mock;
    size_t sent = 0;
    if (!call_send_held(c)) {
        return;
    }
    while (!answer_over(&c->answer) && !answer_halted(&c->answer)) {
        if (!call_is_due(c)) {
            capacity_timer_set(mock->capacity, &c->claim, call_due_ms(c));
            return;
        }
        if (sent >= TURN_BYTES) {
            timer_set(mock->loop, &c->claim.timer, 0);
            return;
        }
        if (call_write(c) != OK) {
            call_break(c);
            return;
        }
        sent += buf_len(&mock->scratch);
        if (!call_send(c, buf_str(&mock->scratch))) {
            return;
        }
    }
    if (fault_at_end(&c->fault) || fault_before_head(&c->fault)) {
        call_end_faulty(c);
    } else {
        call_end(c, END_WHOLE);
    }
}

// Head and first bytes. Whatever of the body is in the scratch buffer afterwards was not sent yet.
static enum err send_head(struct mock *mock, struct xchg *x, const struct script *script, struct answer *a, uint64_t id,
                          const struct route *refused, const struct fault *fault) {
    struct field room[HEAD_FIELDS + FAULT_FIELDS];
    bool measured =
        script->measured ? fault->kind != FAULT_CHUNK : fault->kind == FAULT_LONG || fault->kind == FAULT_SHORT;
    struct head_texts texts;
    struct head head = {.status = a->status, .fields = FIELDS(room), .body_len = BODY_UNKNOWN};
    uint64_t length = 0;
    buf_clear(&mock->scratch);
    enum err e = measured ? answer_measure(a, &mock->scratch, &length) : OK;
    if (e != OK) {
        return e;
    }
    if (measured) {
        head.body_len = (int64_t)length + (fault->kind == FAULT_LONG ? FAULT_BYTES : 0);
    }
    for (unsigned i = 0; fault->kind == FAULT_INTERIM && i < fault->n; i++) {
        static const int interim[] = {103, 102, 100};
        xchg_send_head(x, &(struct head){.status = interim[i % ARRAY_LEN(interim)]});
    }
    head_fields(&head.fields, &texts, script, a, id, refused && refused->method == METHOD_POST ? "POST" : "GET, HEAD");
    fault_fields(fault, &head.fields);
    xchg_send_head(x, &head);
    return OK;
}

static void call_begin(struct call *c) {
    struct mock *mock = c->mock;
    call_set_state(c, CALL_SENDING);
    if (fault_before_head(&c->fault)) {
        call_end_faulty(c);
        return;
    }
    if (c->id) {
        journal_first_byte(&mock->journal, c->id, c->answer.status, now_ns(mock));
    }
    if (send_head(mock, c->x, c->script, &c->answer, c->id, c->route, &c->fault) != OK) {
        call_break(c);
        return;
    }
    bool something = buf_len(&mock->scratch) || answer_over(&c->answer);
    if (!something || call_send(c, buf_str(&mock->scratch))) {
        call_go_on(c);
    }
}

// The answer's time runs from now on.
static void call_wait(struct call *c) {
    call_set_state(c, CALL_WAITING);
    if (call_is_due(c)) {
        call_begin(c);
    } else {
        capacity_timer_set(c->mock->capacity, &c->claim, call_due_ms(c));
    }
}

static struct call *call_of(const struct claim *q) { return container_of(q, struct call, claim); }

static void on_service(struct claim *q) {
    struct call *c = call_of(q);
    journal_service(&c->mock->journal, c->id, q->seat, now_ns(c->mock));
    call_wait(c);
}

// Before its end: with that the journal knows it anyway.
static void on_service_over(struct claim *q) {
    struct call *c = call_of(q);
    if (c->state != CALL_OVER) {
        journal_service_over(&c->mock->journal, c->id, now_ns(c->mock));
    }
}

static uint64_t work_us(const struct claim *q) {
    const struct answer *a = &call_of(q)->answer;
    return pace_last_us(&a->pace, a->tokens);
}

static const struct capacity_events capacity_events = {on_service, on_service_over, work_us};

static void on_timer(struct timer *timer) {
    struct call *c = container_of(timer, struct call, claim.timer);
    call_check(c);
    switch (c->state) {
    case CALL_QUEUED: capacity_look(c->mock->capacity, &c->claim); break;
    case CALL_WAITING: call_begin(c); break;
    case CALL_SENDING: call_go_on(c); break;
    case CALL_ARRIVING:
    case CALL_OVER: break;
    }
}

// ---- answering

// At once, whatever the capacity: a page, or an error by name.
static void call_answer(struct call *c, const struct script *script) {
    buf_finish(&c->held);
    c->script = script;
    c->answer.pace = (struct pace){.due_us = 0};
    answer_start(&c->answer, script);
    call_wait(c);
}

// `message` and `param` are used before this returns.
static void call_refuse(struct call *c, int status, struct str message, const char *param) {
    buf_finish(&c->held);
    c->script = &answer_error;
    c->answer.pace = (struct pace){.due_us = 0};
    c->answer.status = status;
    c->answer.message = message;
    c->answer.param = param;
    answer_start(&c->answer, c->script);
    call_begin(c);
}

// When its turn comes, and after the time that it takes.
static void call_queue(struct call *c, const struct script *script) {
    struct mock *mock = c->mock;
    buf_finish(&c->held);
    c->script = script;
    answer_start(&c->answer, script);
    journal_drawn(&mock->journal, c->id, c->answer.pace.due_us, work_us(&c->claim));
    call_set_state(c, CALL_QUEUED);
    if (!capacity_arrive(mock->capacity, &c->claim)) {
        call_refuse(c, 429, STR("the mock serves no more calls at once: its capacity was set so"), NULL);
    }
}

static void call_refuse_from_head(struct call *c) {
    static const struct {
        int status;
        bool known; // the path is one of ours
        const char *before, *behind;
    } texts[] = {
        {404, false, "Unknown request URL: ",
         ". The mock has /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses, /v1/messages, "
         "/v1/models"},
        {404, true, "Nothing to be read again: ", ". The mock keeps no responses"},
        {405, true, "Not allowed: ", ". See the Allow field for what is"},
        {413, true, "The body is larger than the mock's limit of 64 MiB: ", ""},
        {503, true, "Out of memory: ", ""},
    };
    char message[NAMED_MAX + 160];
    int n = 0;
    _Static_assert(BODY_CAP == 64 << 20, "a text says so");
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i].status == c->refusal && texts[i].known == (c->route != NULL)) {
            n = snprintf(message, sizeof message, "%s%.*s%s", texts[i].before, STR_ARG(c->answer.model),
                         texts[i].behind);
        }
    }
    call_refuse(c, c->refusal, str_from(message, MIN((size_t)n, sizeof message - 1)), NULL);
}

// A number of the query; what is no number is not there.
static uint64_t query_number(struct str target, struct str name, uint64_t otherwise) {
    struct str rest = str_skip(target, target_path(target).len + 1);
    struct str part;
    uint64_t n = 0;
    while (str_split(&rest, '&', &part)) {
        size_t equals = str_find(part, '=');
        if (str_eq(str_first(part, equals), name) && parse_u64(str_skip(part, equals + 1), &n) == OK) {
            return n;
        }
    }
    return otherwise;
}

// Everything begins anew: what is told of, what is counted, what calls are told apart by.
static void mock_reset(struct mock *mock) {
    journal_reset(&mock->journal);
    capacity_reset(mock->capacity);
    draw_counts_finish(&mock->seen);
}

static void call_answer_page(struct call *c) {
    struct mock *mock = c->mock;
    const struct journal *j = &mock->journal;
    if (c->route->whole == &answer_reset) {
        mock_reset(mock);
    }
    uint64_t since = query_number(c->head->target, STR("since"), 0);
    uint64_t limit = query_number(c->head->target, STR("limit"), UINT64_MAX);
    c->head = NULL;
    c->answer.status = 200;
    c->answer.journal = j;
    c->answer.next_id = journal_from(j, MIN(since, j->last) + 1);
    c->answer.last_id = limit < j->last - c->answer.next_id + 1 ? c->answer.next_id + limit - 1 : j->last;
    call_answer(c, c->route->whole);
}

// The parser says only that it is no JSON; what is wrong with it is worth a second look.
static void call_refuse_json(struct call *c, struct str body) {
    struct peek peek;
    struct peek_error error;
    struct str message = STR("the body must be a JSON object");
    if (!peek_request(body, &peek, &error)) {
        message = str_c(error.message);
    }
    call_refuse(c, 400, message, NULL);
}

static struct str keep(char **at, struct str s) {
    if (!s.ptr) {
        return s;
    }
    char *to = *at;
    if (s.len) {
        memcpy(to, s.ptr, s.len);
    }
    *at += s.len;
    return str_from(to, s.len);
}

// Moves the call to where there is room for what it will echo, if that is not short; NULL without memory, the call is as it was then.
static struct call *call_make_room(struct call *c, size_t size) {
    struct mock *mock = c->mock;
    if (size <= SHORT_ECHO) {
        return c;
    }
    list_unlink(&c->node);
    struct call *moved = try_realloc(c, sizeof *c + size);
    c = moved ? moved : c;
    list_push_back(&mock->calls, &c->node);
    c->x->owner = c;
    return moved;
}

// How many there will be, and why there are no more.
static void call_fill_tokens(struct answer *a, const struct ask *ask, const struct plan *plan) {
    unsigned planned = ask->fixed ? 0 : plan->tokens;
    a->tokens = ask->inputs ? ask->inputs : planned ? planned : (unsigned)words_cut(a->text);
    a->finish = a->tool.ptr ? FINISH_TOOL : a->stop.ptr ? FINISH_SEQUENCE : FINISH_STOP;
    if (a->tokens && !a->text.len) { // asked for more words than none
        a->text = STR("token");
    }
    if (ask->tokens_max && a->tokens > ask->tokens_max) {
        a->tokens = ask->tokens_max;
        a->finish = FINISH_LENGTH;
    }
}

// Fills in the answer from what was asked for and what is planned for it.
static void call_fill(struct call *c, const struct ask *ask, const struct plan *plan) {
    struct answer *a = &c->answer;
    char *at = c->payload;
    a->model = keep(&at, ask->model);
    a->text = keep(&at, buf_str(ask->text));
    a->tool = keep(&at, ask->tool);
    a->stop = keep(&at, ask->stopped);
    a->choices = (unsigned char)MAX(ask->choices, 1u);
    call_fill_tokens(a, ask, plan);
    a->prompt_tokens = ask->prompt_tokens;
    a->dimensions = ask->dimensions;
    a->include_usage = ask->include_usage;
    a->stream = ask->stream;
    a->base64 = ask->base64;
    a->status = plan->status;
    a->pace = plan_pace(plan, ask->stream, a->tokens, a->prompt_tokens);
    c->claim.key = plan->claim_key;
}

static void call_refuse_field(struct call *c, const struct field *field, const char *wanted) {
    char message[NAMED_MAX + 200];
    int n = snprintf(message, sizeof message, "%.*s wants %s, not '%.*s'", STR_ARG(field->name), wanted,
                     STR_ARG(str_first(field->value, NAMED_MAX)));
    call_refuse(c, 400, str_from(message, MIN((size_t)n, sizeof message - 1)), NULL);
}

// What chance and capacity know the call by, and the fault that chance has for it.
static void call_identify(const struct call *c, struct plan *plan, struct str body, struct str session) {
    struct mock *mock = c->mock;
    const struct mock_options *o = &mock->options;
    enum capacity_key wanted = capacity_key(&o->capacity);
    bool rated = o->fault_count && !plan->has_fault;
    if (wanted == KEY_CALL || plan_draws(plan) || rated) {
        plan->key = identity_key(&mock->seen, o->seed, &c->head->fields, body);
    }
    if (wanted == KEY_CALL) {
        plan->claim_key = draw_bits(plan->key, UINT64_MAX - 1);
    } else if (wanted == KEY_SESSION && session.len) {
        plan->claim_key = draw_key(0, session) | 1;
    }
    if (rated) {
        plan_set_fault(plan, fault_by_rate(o->faults, o->fault_count, false, draw_unit(plan->key, UINT64_MAX - 2)));
    }
}

// How the answer differs because of it.
static void call_fill_fault(struct call *c, const struct fault *fault) {
    static const enum ending endings[FAULT_ACCEPT] = {[FAULT_END_AT] = ENDING_EARLY,
                                                      [FAULT_ERROR_AT] = ENDING_ERROR,
                                                      [FAULT_JSON] = ENDING_BROKEN,
                                                      [FAULT_UTF8_CUT] = ENDING_IN_CHARACTER};
    struct answer *a = &c->answer;
    c->fault = *fault;
    a->halt = fault_halt(fault);
    a->ending = fault_at_end(fault) && a->halt != UINT32_MAX ? ENDING_HALTS : endings[fault->kind];
    if ((fault->kind == FAULT_UTF8_CUT || fault->kind == FAULT_UTF8_SPLIT) && c->route->read != ask_embeddings) {
        a->text = STR("\xC3\xA9 \xE4\xBD\xA0 \xF0\x9F\x98\x80"); // characters of two, three and four bytes
        a->tokens = MAX(a->tokens, 3u);
    }
}

static const struct script *call_script(const struct call *c, const struct ask *ask) {
    const struct script *script = ask->stream ? c->route->stream : c->route->whole;
    return c->fault.kind == FAULT_EMPTY    ? &answer_empty
           : c->fault.kind == FAULT_HTML   ? &answer_html
           : ask->tool.ptr && script->tool ? script->tool
                                           : script;
}

static void call_admit(struct call *c, struct ask *ask, struct str body, struct str session) {
    struct mock *mock = c->mock;
    struct plan plan = plan_make(&mock->options, ask->model);
    const char *wanted = NULL;
    const struct field *wrong = plan_take_fields(&plan, &c->head->fields, &wanted);
    if (wrong) {
        call_refuse_field(c, wrong, wanted);
        return;
    }
    call_identify(c, &plan, body, session);
    if (!ask->inputs && !shape_content(ask, plan.tool)) {
        call_refuse(c, 400, str_c(ask->problem), ask->param);
        return;
    }
    c->head = NULL;
    struct call *moved = call_make_room(c, ask->model.len + buf_len(ask->text) + ask->tool.len + ask->stopped.len);
    if (!moved) {
        call_refuse(c, 503, STR("out of memory"), NULL);
        return;
    }
    c = moved;
    call_fill(c, ask, &plan);
    call_fill_fault(c, &plan.fault);
    if (plan.status != 200) {
        c->answer.message = STR("the mock was asked for this error by the model's name");
        c->answer.param = NULL;
        c->answer.limits = true;
        call_answer(c, &answer_error);
    } else {
        call_queue(c, call_script(c, ask));
    }
}

static void call_read(struct call *c, struct str body) {
    struct mock *mock = c->mock;
    struct ask ask;
    if (!ask_open(&ask, body, &mock->text)) {
        call_refuse_json(c, body);
        return;
    }
    bool fine = c->route->read(&ask);
    struct str session = identity_session(&c->head->fields, &ask);
    journal_asked(&mock->journal, c->id, ask.model, session, ask.stream);
    if (fine) {
        call_admit(c, &ask, body, session);
    } else {
        call_refuse(c, 400, str_c(ask.problem), ask.param);
    }
    ask_close(&ask);
    if (mock->text.room > TEXT_KEEP) {
        buf_finish(&mock->text);
    }
}

// ---- events

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct call *c = x->owner;
    bool wanted = c->route && c->route->read && !c->refusal;
    call_check(c);
    if (c->state != CALL_ARRIVING) {
        return; // answered before the request was all there
    }
    if (wanted && (!end || buf_len(&c->held))) {
        enum err e = buf_str_append(&c->held, bytes);
        if (e != OK) {
            c->refusal = e == ERR_FULL ? 413 : 503;
            call_refuse_from_head(c);
            return;
        }
        bytes = buf_str(&c->held);
    }
    if (!end) {
        return;
    }
    if (c->refusal) {
        call_refuse_from_head(c);
    } else if (wanted) {
        call_read(c, bytes);
    } else {
        call_answer_page(c);
    }
}

static void on_drain(struct xchg *x) {
    struct call *c = x->owner;
    call_check(c);
    if (c->state == CALL_SENDING) {
        call_go_on(c);
    }
}

static void on_fail(struct xchg *x, enum err e UNUSED, const char *problem UNUSED) {
    call_check(x->owner);
    call_end(x->owner, END_GONE);
}

static const struct xchg_events call_events = {ignore_head, on_body, on_drain, on_fail};

// %41 of a path; what is no such escape stays.
static size_t percent_decode(char *to, struct str s) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '%' && i + 2 < s.len && hex_value(s.ptr[i + 1]) >= 0 && hex_value(s.ptr[i + 2]) >= 0) {
            c = (char)(hex_value(s.ptr[i + 1]) << 4 | hex_value(s.ptr[i + 2]));
            i += 2;
        }
        to[n++] = c;
    }
    return n;
}

// What the head says about it: the route, or why it is refused.
static int judge(const struct route *route, const struct head *head) {
    enum method method = head->method == METHOD_HEAD ? METHOD_GET : head->method;
    if (!route) {
        return 404;
    }
    if (route->method != method) {
        return 405;
    }
    if (!route->whole) {
        return 404;
    }
    return head->body_len > BODY_CAP ? 413 : 0;
}

// Anthropic's clients tell a version with every request.
static bool for_anthropic(const struct route *route, const struct head *head) {
    return (route && (route->read == ask_message || route->read == ask_count)) ||
           fields_find(&head->fields, FIELD_ANTHROPIC_VERSION);
}

// `named` is quoted in an error, or names a model: kept in the payload until there is something to echo.
static struct call *call_create(struct mock *mock, struct xchg *x, const struct route *route, struct str method,
                                struct str named) {
    struct call *c = try_malloc(sizeof *c + MAX(method.len + named.len, (size_t)SHORT_ECHO));
    if (!c) {
        return NULL;
    }
    *c = (struct call){.mock = mock, .x = x, .route = route, .claim.timer.on_timer = on_timer};
    char *at = c->payload;
    keep(&at, method);
    at += percent_decode(at, named);
    c->answer.model = str_from(c->payload, (size_t)(at - c->payload));
    buf_init(&c->held, BODY_CAP);
    list_push_back(&mock->calls, &c->node);
    x->events = &call_events;
    x->owner = c;
    return c;
}

static void on_request(struct http_server *server, struct xchg *x, struct head *head) {
    struct mock *mock = server->owner;
    const char *shown = NULL;
    struct str path = target_path(head->target);
    const struct route *route = route_find(path, &shown);
    if (mock->deck && (!route || str_starts(route->path, STR("/v1/")))) {
        deck_request(mock->deck, x, head, shown ? shown : "*");
        return;
    }
    int refusal = judge(route, head);
    char method[24] = "";
    struct str named = {NULL, 0};
    if (refusal) {
        snprintf(method, sizeof method, "%.*s ", STR_ARG(str_first(head->method_name, 20)));
        named = str_first(path, NAMED_MAX);
    } else if (route->below) {
        named = str_skip(path, strlen(shown));
    }
    struct call *c = call_create(mock, x, route, str_c(method), named);
    if (!c) {
        xchg_abort(x);
        return;
    }
    c->refusal = (short)refusal;
    c->head = head;
    c->answer.anthropic = for_anthropic(route, head);
    c->answer.created = (uint64_t)time(NULL);
    if (route && route->read && route->method == head->method) {
        c->id = journal_arrived(&mock->journal, shown, now_ns(mock));
        c->answer.number = mock->options.numbers_from + c->id;
    }
    if (refusal == 413 || (refusal && head->expect_continue)) {
        call_refuse_from_head(c); // before the client sends it all
    } else if (head->expect_continue) {
        xchg_send_head(x, &(struct head){.status = 100});
    }
}

// What came is no request: there is no call, only an answer.
static void on_reject(struct http_server *server, struct xchg *x, enum err e, const char *problem) {
    struct mock *mock = server->owner;
    static const struct fault none = {.kind = FAULT_NONE};
    struct answer a = {.status = err_status(e) ? err_status(e) : 400, .message = str_c(problem)};
    answer_start(&a, &answer_error);
    if (send_head(mock, x, &answer_error, &a, 0, NULL, &none) != OK ||
        xchg_send(x, buf_str(&mock->scratch), true) < buf_len(&mock->scratch)) {
        xchg_abort(x);
    }
}

// ---- the mock

struct mock *mock_create(struct loop *loop, const struct mock_options *options) {
    struct mock *mock = xcalloc(1, sizeof *mock);
    mock->loop = loop;
    mock->options = *options;
    mock->server = (struct http_server){
        .loop = loop,
        .limits = HTTP_LIMITS_DEFAULT,
        .header_ms = HEADER_MS,
        .idle_ms = IDLE_MS,
        .linger_ms = LINGER_MS,
        .on_request = on_request,
        .on_reject = on_reject,
        .owner = mock,
    };
    http_server_init(&mock->server);
    mock->capacity = capacity_create(loop, &options->capacity, options->seed, &capacity_events);
    journal_init(&mock->journal, options->journal_calls ? options->journal_calls : JOURNAL_CALLS, mock->capacity);
    mock->deck = options->deck ? deck_create(loop, options->deck, &mock->journal) : NULL;
    list_init(&mock->calls);
    buf_init(&mock->scratch, SCRATCH_CAP);
    buf_init(&mock->text, BODY_CAP);
    return mock;
}

void mock_destroy(struct mock *mock) {
    if (!mock) {
        return;
    }
    capacity_close(mock->capacity);
    list_each(node, &mock->calls) { call_end(container_of(node, struct call, node), END_CUT); }
    deck_destroy(mock->deck);
    http_server_finish(&mock->server);
    journal_finish(&mock->journal);
    capacity_destroy(mock->capacity);
    draw_counts_finish(&mock->seen);
    buf_finish(&mock->scratch);
    buf_finish(&mock->text);
    free(mock);
}

void mock_accept(struct mock *mock, struct conn *take_conn) {
    const struct mock_options *o = &mock->options;
    if (fault_by_rate(o->faults, o->fault_count, true, draw_unit(o->seed, ++mock->accepted)).kind == FAULT_ACCEPT) {
        conn_close(take_conn);
    } else {
        http_server_accept(&mock->server, take_conn);
    }
}

struct conn *mock_connect(void *context) {
    struct mock *mock = context;
    struct conn *near = NULL;
    struct conn *far = NULL;
    mem_pair(mock->loop, MEM_WINDOW, &near, &far);
    mock_accept(mock, far);
    return near;
}

// ---- for those who look on

const struct journal *mock_journal(const struct mock *mock) { return &mock->journal; }

uint64_t mock_now_ns(const struct mock *mock) { return now_ns(mock); }

void mock_each_call(const struct mock *mock, bool (*see)(void *context, const struct journal_record *r),
                    void *context) {
    list_each(node, &mock->calls) {
        uint64_t id = container_of(node, const struct call, node)->id;
        const struct journal_record *r = id ? journal_find(&mock->journal, id) : NULL;
        if (r && !see(context, r)) {
            return;
        }
    }
}
