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
#include "mock/call.h"

#include <assert.h>

#include "base/mem.h"
#include "mock/heads.h"

enum {
    TURN_BYTES = 256 * 1024, // one call sends no more in one go: others are waiting
    RESET_MS = 20,
};

// ---- a call's life

static void call_set_state(struct call *c, enum call_state state) {
    assert(c->state != CALL_OVER);
    assert(state != CALL_QUEUED || c->state == CALL_ARRIVING);
    assert(state != CALL_WAITING || c->state == CALL_ARRIVING || c->state == CALL_QUEUED);
    assert(state != CALL_SENDING || c->state != CALL_SENDING);
    timer_clear(&c->claim.timer);
    c->state = state;
}

void call_check(const struct call *c UNUSED) {
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

void call_end(struct call *c, enum journal_end end) {
    struct mock *mock = c->mock;
    unsigned tokens = end == END_WHOLE ? c->answer.tokens : 0;
    if (c->state == CALL_SENDING && end != END_WHOLE) {
        tokens = answer_tokens_sent(&c->answer);
    }
    call_set_state(c, CALL_OVER);
    if (c->id) {
        journal_ended(&mock->journal, c->id, end, tokens, mock_now_ns(mock));
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

void call_go_on(struct call *c) {
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

enum err call_send_head(struct mock *mock, struct xchg *x, const struct script *script, struct answer *a, uint64_t id,
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
        journal_first_byte(&mock->journal, c->id, c->answer.status, mock_now_ns(mock));
    }
    if (call_send_head(mock, c->x, c->script, &c->answer, c->id, c->route, &c->fault) != OK) {
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
    journal_service(&c->mock->journal, c->id, q->seat, mock_now_ns(c->mock));
    call_wait(c);
}

// Before its end: with that the journal knows it anyway.
static void on_service_over(struct claim *q) {
    struct call *c = call_of(q);
    if (c->state != CALL_OVER) {
        journal_service_over(&c->mock->journal, c->id, mock_now_ns(c->mock));
    }
}

static uint64_t work_us(const struct claim *q) {
    const struct answer *a = &call_of(q)->answer;
    return pace_last_us(&a->pace, a->tokens);
}

const struct capacity_events call_capacity_events = {on_service, on_service_over, work_us};

void call_on_timer(struct timer *timer) {
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

void call_answer(struct call *c, const struct script *script) {
    buf_finish(&c->held);
    c->script = script;
    c->answer.pace = (struct pace){.due_us = 0};
    answer_start(&c->answer, script);
    call_wait(c);
}

void call_refuse(struct call *c, int status, struct str message, const char *param) {
    buf_finish(&c->held);
    c->script = &answer_error;
    c->answer.pace = (struct pace){.due_us = 0};
    c->answer.status = status;
    c->answer.message = message;
    c->answer.param = param;
    answer_start(&c->answer, c->script);
    call_begin(c);
}

void call_queue(struct call *c, const struct script *script) {
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
