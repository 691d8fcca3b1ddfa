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
#include "gateway/call.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>

#include "base/mem.h"
#include "gateway/answer.h"
#include "gateway/asked.h"
#include "gateway/counted.h"
#include "gateway/room.h"
#include "gateway/stream.h"
#include "llm/usage.h"
#include "net/digest.h"

enum { PROBLEM_MAX = 400, DISCARD_MAX = 64 * 1024, TARGETS_SEEN = 64, COUNT_TEXT = 24 };

enum call_state { CALL_QUEUED, CALL_RESTING, CALL_CONNECTING, CALL_SENDING, CALL_WAITING, CALL_ANSWERING, CALL_ENDED };

// What a call holds where there are limits.
struct call_hold {
    struct call_client client;
    struct ticket ticket; // its place at the target's gate, or nothing
    struct lease lease;
    struct quota_look look;
    struct usage *usage; // of the answer; NULL: its tokens are not counted
};

struct call {
    struct worker *worker;
    struct setup *setup; // held
    struct xchg up;
    struct tape *tape;
    union {
        struct timer deadline;
        struct grave grave; // ENDED
    };
    const struct targets *targets;
    struct counted counted;
    struct call_hold *hold; // NULL: nothing is limited
    uint64_t started_ms;
    uint64_t timeout_ms; // the client's own for the whole call; 0: none
    uint64_t sent_ms;    // the request of this try was sent; 0: not yet
    uint64_t tried;      // bits: targets that are not asked again
    struct asked asked;
    struct stream *stream;   // of an event stream's answer
    struct opening *opening; // of one that is held back
    char *setback;           // what became of the last try, once there is another one
    uint32_t discarded;      // RESTING: bytes of the failed answer
    uint32_t first_ms;       // from the request sent to the answer's head
    enum call_state state;
    uint16_t at;       // in targets
    uint8_t attempts;  // tries, all in all
    uint8_t tries;     // of them, at this target
    bool asking : 1;   // counts in the upstream's calls in flight
    bool again : 1;    // this target was asked a second time for free: a kept connection had died
    bool trial : 1;    // the breaker waits for what becomes of it
    bool spent : 1;    // another try would have been made if there were any left
    bool goes_on : 1;  // without readers, though the tape is not kept
    bool messages : 1; // Anthropic's API
};

const size_t call_size = sizeof(struct call);

static const struct xchg_events up_events;
static const struct tape_events tape_events;
static void ask_somebody(struct call *c);
static void connect_up(struct call *c, bool fresh);

static struct target *target_of(const struct call *c) { return &c->targets->v[c->at]; }
static struct upstream *upstream_of(const struct call *c) { return target_of(c)->upstream; }
static const struct config_upstream *upstream_config(const struct call *c) { return upstream_of(c)->config; }
static uint64_t now_ms(const struct call *c) { return c->worker->loop.now_ms; }

// ---- times: the model's own limit, else the upstream's

static uint64_t first_byte_ms(const struct call *c) {
    const struct config_model *m = c->targets->config;
    return m && (m->own & OWN_FIRST_BYTE) ? m->first_byte_ms : upstream_config(c)->first_byte_ms;
}

static uint64_t between_ms(const struct call *c) {
    const struct config_model *m = c->targets->config;
    return m && (m->own & OWN_BETWEEN) ? m->between_ms : upstream_config(c)->between_ms;
}

static uint64_t total_ms(const struct call *c) {
    const struct config_model *m = c->targets->config;
    uint64_t ms = m && (m->own & OWN_TOTAL) ? m->total_ms : upstream_config(c)->total_ms;
    return c->timeout_ms ? MIN(ms, c->timeout_ms) : ms;
}

static uint64_t left_ms(const struct call *c) {
    uint64_t spent = now_ms(c) - c->started_ms;
    uint64_t total = total_ms(c);
    return total > spent ? total - spent : 0;
}

// (Re)starts the state's deadline, never beyond the total one.
static void set_deadline(struct call *c) {
    uint64_t left = left_ms(c);
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

static void call_set_state(struct call *c, enum call_state state) {
    assert(c->state != CALL_ENDED);
    c->state = state;
    if (state != CALL_SENDING) { // sending what there is follows at once, and sets it
        set_deadline(c);
    }
}

// ---- the end of a try, and of all

static void tell_breaker(struct call *c, bool worked) {
    const struct config *config = c->setup->config;
    struct breaker *b = gate_breaker(upstream_of(c)->gate);
    c->trial = false;
    if (worked) {
        breaker_worked(b);
    } else {
        breaker_failed(b, config->breaker_failures, config->breaker_rest_ms, now_ms(c));
    }
}

// The upstream is not asked any more, and the place at its gate is free.
static void leave_upstream(struct call *c, enum gate_report report) {
    if (c->asking) {
        c->asking = false;
        upstream_of(c)->in_flight--;
    }
    if (c->trial) {
        breaker_forget(gate_breaker(upstream_of(c)->gate));
        c->trial = false;
    }
    if (c->hold) {
        gate_leave(&c->hold->ticket, report, c->first_ms);
    }
}

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

// As far as is known: as the upstream says, else an event of a stream is a token.
static uint64_t tokens_used(const struct call *c) {
    const struct usage *u = c->hold->usage;
    if (u && u->known) {
        return usage_tokens(u);
    }
    return c->stream ? c->hold->client.tokens + c->stream->sse.events : UINT64_MAX;
}

static void settle_lease(struct call *c) {
    if (c->hold && c->attempts) {
        quota_settle(&c->hold->lease, tokens_used(c), now_ms(c));
    } else if (c->hold) {
        quota_refund(&c->hold->lease, now_ms(c));
    }
}

// The tape has its end, or gets it now.
static void end_call(struct call *c, enum gate_report report, const struct tape_why *why) {
    struct tape *tape = c->tape;
    leave_upstream(c, report);
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

static void fail_call(struct call *c, enum err e, enum outcome outcome, const char *what) {
    char problem[PROBLEM_MAX];
    counted_failure(&c->counted);
    snprintf(problem, sizeof problem, "The upstream '%.*s' (%s) failed: %s.", STR_ARG(upstream_config(c)->name),
             upstream_of(c)->authority, what);
    stop_call(c, report_failure(outcome),
              &(struct tape_why){.end = TAPE_CUT, .error = e, .reason = (int)outcome, .problem = problem});
}

// Nothing was sent for it, or will be.
static void refuse_call(struct call *c, enum err e, enum outcome outcome, uint64_t retry_ms, const char *format, ...)
    PRINTF(5, 6);
static void refuse_call(struct call *c, enum err e, enum outcome outcome, uint64_t retry_ms, const char *format, ...) {
    char problem[PROBLEM_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(problem, sizeof problem, format, args);
    va_end(args);
    stop_call(c, REPORT_NOTHING,
              &(struct tape_why){.end = TAPE_CUT,
                                 .error = e,
                                 .reason = (int)outcome,
                                 .retry_ms = (uint32_t)MIN(retry_ms, (uint64_t)UINT32_MAX),
                                 .problem = problem});
}

// ---- whom to ask

static uint64_t bit(unsigned target) { return target < TARGETS_SEEN ? (uint64_t)1 << target : UINT64_MAX; }

// Of those in `without` none; of the lowest rank the one with the fewest calls for its weight. SIZE_MAX: nobody is left.
static size_t choose(const struct call *c, uint64_t without) {
    const struct target *v = c->targets->v;
    size_t best = SIZE_MAX;
    for (unsigned i = 0; i < MIN(c->targets->n, (unsigned)TARGETS_SEEN); i++) {
        if (without & bit(i)) {
            continue;
        }
        if (best != SIZE_MAX && v[i].rank != v[best].rank) {
            break;
        }
        if (best == SIZE_MAX ||
            (uint64_t)v[i].upstream->in_flight * v[best].weight < (uint64_t)v[best].upstream->in_flight * v[i].weight) {
            best = i;
        }
    }
    return best;
}

static void count_refused(struct call *c, enum limit limit) { count_add(&c->worker->meter->refused[limit], 1); }

static void refuse_queue(struct call *c, enum gate_answer answer, const struct gate_refusal *refusal) {
    struct str name = upstream_config(c)->name;
    char time[COUNT_TEXT];
    switch (answer) {
    case GATE_SHARE:
        count_refused(c, LIMIT_QUEUE_SHARE);
        refuse_call(c, ERR_SHARE, OUTCOME_QUEUE_FULL, refusal->retry_ms,
                    "Too many calls of this client wait for the upstream '%.*s' already: it has more than its share of "
                    "the queue, which is full (queue: length).",
                    STR_ARG(name));
        return;
    case GATE_FULL:
        count_refused(c, LIMIT_QUEUE_FULL);
        refuse_call(c, ERR_BUSY, OUTCOME_QUEUE_FULL, refusal->retry_ms,
                    "%u calls wait for the upstream '%.*s' already, which takes %u at once (queue: length).",
                    refusal->waiting, STR_ARG(name), refusal->limit);
        return;
    case GATE_LATE:
        count_refused(c, LIMIT_QUEUE_WAIT);
        format_duration(time, sizeof time, refusal->wait_ms);
        refuse_call(c, ERR_BUSY, OUTCOME_QUEUE_LATE, refusal->retry_ms,
                    "The upstream '%.*s' takes %u calls at once, %u wait, and this one would for about %s: longer than "
                    "it may (queue: wait).",
                    STR_ARG(name), refusal->limit, refusal->waiting, time);
        return;
    case GATE_IN:
    case GATE_WAIT: break;
    }
}

static void on_turn(void *owner) { connect_up(owner, false); }

static void on_late(void *owner) {
    struct call *c = owner;
    char time[COUNT_TEXT];
    format_duration(time, sizeof time, now_ms(c) - c->started_ms);
    count_refused(c, LIMIT_QUEUE_WAIT);
    refuse_call(c, ERR_BUSY, OUTCOME_QUEUE_LATE, RETRY_MOST_MS,
                "The call waited for its turn at the upstream '%.*s', which did not come within %s (queue: wait).",
                STR_ARG(upstream_config(c)->name), time);
}

static void on_pushed(void *owner) {
    struct call *c = owner;
    count_refused(c, LIMIT_QUEUE_SHARE);
    refuse_call(
        c, ERR_SHARE, OUTCOME_QUEUE_FULL, RETRY_MOST_MS,
        "The queue of the upstream '%.*s' is full, and this client had more than its share of it (queue: length).",
        STR_ARG(upstream_config(c)->name));
}

static enum gate_answer enter_gate(struct call *c, struct gate_refusal *refusal) {
    const struct upstream *u = upstream_of(c);
    if (!u->gated) { // then nobody has to say whose it is
        return GATE_IN;
    }
    const struct call_client *client = &c->hold->client;
    struct gate_asker asker = {
        .loop = &c->worker->loop,
        .client = client->id,
        .weight = client->weight,
        .priority = client->priority,
        .deadline_ms = now_ms(c) + left_ms(c),
        .on_in = on_turn,
        .on_late = on_late,
        .on_pushed = on_pushed,
        .owner = c,
    };
    return gate_enter(u->gate, &asker, &c->hold->ticket, refusal);
}

static bool admitted(struct call *c) {
    bool trial = false;
    bool may =
        breaker_admits(gate_breaker(upstream_of(c)->gate), c->setup->config->breaker_failures, now_ms(c), &trial);
    c->trial = trial;
    return may;
}

static void nobody_left(struct call *c, const struct gate_refusal *refusal, enum gate_answer answer) {
    if (answer != GATE_IN) {
        refuse_queue(c, answer, refusal);
    } else if (c->setback) {
        count_refused(c, LIMIT_RESTING);
        fail_call(c, ERR_BUSY, OUTCOME_UPSTREAM_RESTS, c->setback);
    } else {
        count_refused(c, LIMIT_RESTING);
        uint64_t rests = breaker_rests_ms(gate_breaker(upstream_of(c)->gate), now_ms(c));
        refuse_call(c, ERR_BUSY, OUTCOME_UPSTREAM_RESTS, MAX(rests, (uint64_t)1000),
                    "The upstream '%.*s' has failed %u times in a row and rests (breaker); nobody else can be asked.",
                    STR_ARG(upstream_config(c)->name), c->setup->config->breaker_failures);
    }
}

// Those that rest, or whose queue is full, are passed over.
static void ask_somebody(struct call *c) {
    struct gate_refusal refusal = {0};
    enum gate_answer last = GATE_IN;
    uint64_t passed = 0;
    for (size_t i; (i = choose(c, c->tried | passed)) != SIZE_MAX; passed |= bit((unsigned)i)) {
        struct gate_refusal here;
        c->tries = c->at == i ? c->tries : 0;
        c->at = (uint16_t)i;
        if (!admitted(c)) {
            continue;
        }
        switch (enter_gate(c, &here)) {
        case GATE_IN: connect_up(c, false); return;
        case GATE_WAIT:
            counted_wait(&c->counted, c->worker);
            call_set_state(c, CALL_QUEUED);
            return;
        case GATE_SHARE: last = GATE_SHARE; break;
        case GATE_FULL: last = GATE_FULL; break;
        case GATE_LATE: last = GATE_LATE; break;
        }
        refusal = here;
        leave_upstream(c, REPORT_NOTHING);
    }
    nobody_left(c, &refusal, last);
}

// ---- trying again

enum remedy { REMEDY_NONE, REMEDY_HERE, REMEDY_ELSEWHERE };

// What was wrong with a try.
struct setback {
    bool unreached;     // nothing was sent
    bool asked_to_wait; // and how long:
    uint64_t wait_ms;
};

static enum remedy remedy_for(struct call *c, const struct setback *s, uint64_t *wait_ms) {
    const struct config_upstream *u = upstream_config(c);
    uint32_t random = 0;
    if (!asked_again(&c->asked)) {
        return REMEDY_NONE;
    }
    size_t other = choose(c, c->tried | bit(c->at));
    bool is_other = other != SIZE_MAX;
    bool equal = is_other && c->targets->v[other].rank == target_of(c)->rank;
    random_bytes(&random, sizeof random);
    *wait_ms = s->asked_to_wait ? s->wait_ms : retry_backoff_ms(c->tries, random);
    bool too_long = *wait_ms > RETRY_AFTER_MOST_MS || *wait_ms >= left_ms(c);
    bool rather = is_other && (equal || s->unreached || *wait_ms > RETRY_MOST_MS);
    if (c->tries <= u->retries && !too_long && !rather && retry_budget_take(&upstream_of(c)->budget)) {
        return REMEDY_HERE;
    }
    c->spent = c->spent || (u->retries && !too_long);
    return is_other ? REMEDY_ELSEWHERE : REMEDY_NONE;
}

// What is still to come of a failed answer is let come, in the meantime, so that its connection can be kept.
static void rest(struct call *c, enum remedy remedy, uint64_t wait_ms, enum gate_report report) {
    struct meter *meter = c->worker->meter;
    leave_upstream(c, report);
    counted_failure(&c->counted);
    counted_leave(&c->counted);
    count_add(remedy == REMEDY_ELSEWHERE ? &meter->fallbacks : &meter->retries, 1);
    opening_destroy(c->opening);
    c->opening = NULL;
    c->discarded = 0;
    if (remedy == REMEDY_ELSEWHERE) {
        c->tried |= bit(c->at);
    }
    call_set_state(c, CALL_RESTING);
    if (remedy == REMEDY_ELSEWHERE && xchg_over(&c->up)) {
        ask_somebody(c);
    } else {
        timer_set(&c->worker->loop, &c->deadline, remedy == REMEDY_ELSEWHERE ? 0 : wait_ms);
    }
}

// True: another try comes.
static bool try_again(struct call *c, const struct setback *s, enum gate_report report, const char *what) {
    uint64_t wait_ms = 0;
    enum remedy remedy = remedy_for(c, s, &wait_ms);
    if (remedy == REMEDY_NONE) {
        return false;
    }
    free(c->setback);
    c->setback = str_dup(str_c(what));
    rest(c, remedy, wait_ms, report);
    return true;
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
    tell_breaker(c, false);
    if (!upstream_config(c)->retry_lost || !try_again(c, &lost, report_failure(outcome), what)) {
        fail_call(c, e, outcome, what);
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
            connect_up(c, false);
            return;
        }
        if (e == ERR_FILES || e == ERR_NOMEM) { // ours, not the upstream's: another one would fail the same way
            fail_call(c, e, OUTCOME_EXHAUSTED, what);
            return;
        }
        tell_breaker(c, false);
        if (!try_again(c, &unreached, REPORT_NOTHING, what)) {
            fail_call(c, e, OUTCOME_UPSTREAM_UNREACHED, what);
        }
        break;
    case CALL_SENDING:
    case CALL_WAITING:
        if (died_at_once(c) && !c->again && asked_again(&c->asked)) {
            c->again = true;
            counted_failure(&c->counted);
            count_add(&c->worker->meter->retries, 1);
            connect_up(c, true);
        } else if (e == ERR_NOMEM) {
            fail_call(c, e, OUTCOME_EXHAUSTED, what);
        } else {
            lose(c, e, OUTCOME_UPSTREAM_LOST, what);
        }
        break;
    case CALL_ANSWERING:
        if (c->opening) { // nothing of it has gone on
            lose(c, ERR_CUT, OUTCOME_UPSTREAM_CUT, what);
        } else {
            tell_breaker(c, false);
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
    bool answering = c->state == CALL_ANSWERING;
    uint64_t ms = total ? total_ms(c) : answering ? between_ms(c) : first_byte_ms(c);
    bool own = total && c->timeout_ms == ms;
    const char *of = total       ? "its answer was not complete within"
                     : answering ? "it sent nothing for"
                                 : "it did not begin to answer within";
    const char *name = own         ? "X-Request-Timeout"
                       : total     ? "timeouts: total"
                       : answering ? "timeouts: between"
                                   : "timeouts: first_byte";
    char what[PROBLEM_MAX];
    char time[COUNT_TEXT];
    format_duration(time, sizeof time, ms);
    snprintf(what, sizeof what, "%s %s (%s)", of, time, name);
    if (total) {
        fail_call(c, ERR_TIMEOUT, OUTCOME_TIMEOUT_TOTAL, what);
    } else if (answering) {
        tell_breaker(c, false);
        fail_call(c, ERR_TIMEOUT, OUTCOME_TIMEOUT_BETWEEN, what);
    } else {
        lose(c, ERR_TIMEOUT, OUTCOME_TIMEOUT_FIRST_BYTE, what);
    }
}

static void release_opening(struct call *c, bool end);

static void on_deadline(struct timer *timer) {
    struct call *c = container_of(timer, struct call, deadline);
    bool total = left_ms(c) == 0;
    if (c->state == CALL_RESTING) {
        xchg_abort(&c->up);
        ask_somebody(c);
    } else if (!total && (is_clients_turn(c) || tape_full(c->tape))) {
        set_deadline(c); // it is not being read from; whoever reads the tape has a limit of his own
    } else if (!total && c->opening) {
        release_opening(c, false);
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
    c->sent_ms = now_ms(c);
    call_set_state(c, CALL_SENDING);
    asked_send_head(&c->asked, c->setup, target_of(c), c->timeout_ms ? left_ms(c) : 0, &c->up);
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

static void connect_up(struct call *c, bool fresh) {
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
    if (taken < bytes.len || !is_sending(c)) {
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

// The tape's head, and with it the end of what is kept for another try.
static void put_head(struct call *c, int status, struct fields fields, int64_t body_len) {
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
    if (is_plain_event_stream(&fields)) {
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
        end_call(c, report_of(tape->status), NULL);
    } else if (tape_full(tape) || (tape->first && room_is_tight(c->worker, text.len) && tape_hold(tape))) {
        xchg_pause(&c->up);
    }
    tape_unref(tape);
}

static bool may_try_again(const struct call *c) {
    bool other = c->targets->n > 1 && choose(c, c->tried | bit(c->at)) != SIZE_MAX;
    return asked_again(&c->asked) && (other || c->tries <= upstream_config(c)->retries);
}

// True: the answer is not relayed, another try comes.
static bool refused_for_now(struct call *c, int status, const struct fields *fields) {
    struct setback s = {.unreached = false};
    char what[PROBLEM_MAX];
    s.asked_to_wait = fields && retry_after(fields, clock_unix_s(), &s.wait_ms);
    snprintf(what, sizeof what, "it answered %d", status);
    return try_again(c, &s, report_of(status), what);
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
    bool passing = retry_is_for(status);
    c->first_ms = (uint32_t)(now_ms(c) - c->sent_ms);
    tell_breaker(c, !passing || status < 500);
    counted_head(&c->counted, c->worker);
    if (passing) {
        counted_failure(&c->counted);
    }
    if (passing && refused_for_now(c, status, &head->fields)) {
        return;
    }
    bool hold = status == 200 && is_plain_event_stream(&head->fields) && c->state == CALL_WAITING && may_try_again(c);
    if (hold) {
        c->opening = opening_create(&(struct tape_head){status, head->fields, head->body_len});
    } else if (c->state == CALL_WAITING) { // else it is still being sent
        asked_forget(&c->asked);
    }
    call_set_state(c, CALL_ANSWERING);
    if (!c->opening) {
        put_head(c, status, head->fields, head->body_len);
    }
}

static void release_opening(struct call *c, bool end) {
    struct opening *o = c->opening;
    struct tape_head head = opening_head(o);
    c->opening = NULL;
    asked_forget(&c->asked);
    set_deadline(c);
    put_head(c, head.status, head.fields, head.body_len);
    if (c->state == CALL_ENDED) { // abandoned
    } else if (o->error != OK) {
        fail_call(c, ERR_NOMEM, OUTCOME_EXHAUSTED, "there was no memory for its answer");
    } else if (buf_len(&o->bytes) || end) {
        relay(c, buf_str(&o->bytes), end);
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
        int status = c->opening->failed_status;
        if (verdict == OPENING_FAILED && !end && refused_for_now(c, status, NULL)) {
            return;
        }
        if (verdict != OPENING_GOES_ON || end) {
            release_opening(c, end);
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
    count_refused(c, limits[answer]);
    refuse_call(c, ERR_SHARE, OUTCOME_LIMITED, c->hold->look.retry_ms,
                "This client may have %" PRIu64 " %s, and has (limits: %s).", most, units[answer], names[answer]);
}

// False: refused.
static bool take_hold(struct call *c, const struct call_request *request) {
    c->hold = xcalloc(1, sizeof *c->hold);
    c->hold->client = *request->client;
    struct call_client *client = &c->hold->client;
    enum quota_answer answer = quota_take(c->worker->commons->quotas, client->id, &client->rates,
                                          MIN(client->tokens + client->max_tokens, (uint64_t)USAGE_MOST), now_ms(c),
                                          &c->hold->lease, &c->hold->look);
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
        ask_somebody(c);
    }
    return c;
}
