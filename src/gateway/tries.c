// SPDX-License-Identifier: MIT
// Whom a call asks, and when again: of the model's upstreams the lowest rank that does not rest, of equals the one with
// the fewest calls for its weight, at whose gate it may have to wait; after a setback the same one, later, or the next.
// The rules are in docs/internals/tries.md.
#include "base/mem.h"
#include "gateway/inside.h"
#include "net/digest.h"

enum { COUNT_TEXT = 24 };

// most: failures in a row that are too many; 0: none are.
static void tell_breaker(struct call *c, bool worked, unsigned most) {
    struct breaker *b = gate_breaker(upstream_of(c)->gate);
    c->trial = false;
    if (worked) {
        breaker_worked(b);
    } else {
        breaker_failed(b, most, c->setup->config->breaker_rest_ms, call_now_ms(c));
    }
}

void call_tell_breaker(struct call *c, bool worked) { tell_breaker(c, worked, c->setup->config->breaker_failures); }

// Refusals come at once, answers take their time: of a hundred calls that were sent together the few that fail are the
// first to be heard of. In a row they are too many when they are as many as still run.
static unsigned too_many_refusals(const struct call *c) {
    unsigned most = c->setup->config->breaker_failures;
    unsigned running = upstream_of(c)->in_flight * c->worker->shelves->options.count; // workers have about as many each
    return most ? MAX(most, running) : 0;
}

// 429 is neither good nor bad: the gate's business.
void call_tell_health(struct call *c, int status) {
    if (retry_is_for(status)) {
        counted_failure(&c->counted);
    }
    if (status != 429) {
        tell_breaker(c, status < 500 || !retry_is_for(status), too_many_refusals(c));
    }
}

// The upstream is not asked any more, and the place at its gate is free.
void call_leave_upstream(struct call *c, enum gate_report report) {
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

// ---- whom to ask

static uint64_t bit(unsigned target) { return target < CALL_TARGETS ? (uint64_t)1 << target : UINT64_MAX; }

// Of those in `without` none; of the lowest rank the one with the fewest calls for its weight. SIZE_MAX: nobody is left.
static size_t choose(const struct call *c, uint64_t without) {
    const struct target *v = c->targets->v;
    size_t best = SIZE_MAX;
    for (unsigned i = 0; i < MIN(c->targets->n, (unsigned)CALL_TARGETS); i++) {
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

void call_count_refused(struct call *c, enum limit limit) { count_add(&c->worker->meter->refused[limit], 1); }

static bool rests(const struct call *c, size_t target, uint64_t wait_ms) {
    struct breaker *b = gate_breaker(c->targets->v[target].upstream->gate);
    return c->setup->config->breaker_failures && breaker_rests_ms(b, call_now_ms(c)) > wait_ms;
}

// Who may be asked instead of the present one.
static size_t other_one(const struct call *c) {
    uint64_t without = c->tried | bit(c->at);
    size_t i;
    while ((i = choose(c, without)) != SIZE_MAX && rests(c, i, 0)) {
        without |= bit((unsigned)i);
    }
    return i;
}

const char *call_total_name(const struct call *c) {
    return c->timeout_ms && c->timeout_ms == call_total_ms(c) ? "X-Request-Timeout" : "timeouts: total";
}

// Which limit a call that waits comes to first.
static const char *wait_name(const struct call *c) {
    return call_left_ms(c) < c->setup->config->queue_wait_ms ? call_total_name(c) : "queue: wait";
}

static void refuse_queue(struct call *c, enum gate_answer answer, const struct gate_refusal *refusal) {
    struct str name = upstream_config(c)->name;
    char time[COUNT_TEXT];
    switch (answer) {
    case GATE_SHARE:
        call_count_refused(c, LIMIT_QUEUE_SHARE);
        call_turn_away(
            c, ERR_SHARE, OUTCOME_QUEUE_FULL, refusal->retry_ms,
            "Too many calls of this client wait for the upstream '%.*s' already: it has more than its share of "
            "the queue, which is full (queue: length).",
            STR_ARG(name));
        return;
    case GATE_FULL:
        call_count_refused(c, LIMIT_QUEUE_FULL);
        call_turn_away(c, ERR_BUSY, OUTCOME_QUEUE_FULL, refusal->retry_ms,
                       "%u calls wait for the upstream '%.*s' already, which takes %u at once (queue: length).",
                       refusal->waiting, STR_ARG(name), refusal->limit);
        return;
    case GATE_LATE:
        call_count_refused(c, LIMIT_QUEUE_WAIT);
        format_duration(time, sizeof time, refusal->wait_ms);
        call_turn_away(
            c, refusal->own ? ERR_SHARE : ERR_BUSY, OUTCOME_QUEUE_LATE, refusal->retry_ms,
            "The upstream '%.*s' takes %u calls at once, %u wait, and this one would for about %s: longer than "
            "it may (%s).",
            STR_ARG(name), refusal->limit, refusal->waiting, time, wait_name(c));
        return;
    case GATE_IN:
    case GATE_WAIT: break;
    }
}

static bool admitted(struct call *c) {
    bool trial = false;
    bool may =
        breaker_admits(gate_breaker(upstream_of(c)->gate), c->setup->config->breaker_failures, call_now_ms(c), &trial);
    c->trial = trial;
    return may;
}

// Those who waited while it began to rest are not sent there all the same.
static void on_turn(void *owner) {
    struct call *c = owner;
    if (c->trial || admitted(c)) {
        call_connect(c, false);
    } else {
        call_leave_upstream(c, REPORT_NOTHING);
        call_ask(c);
    }
}

// It waits here no more.
static bool goes_elsewhere(struct call *c) {
    if (!call_left_ms(c) || other_one(c) == SIZE_MAX) {
        return false;
    }
    c->tried |= bit(c->at);
    call_leave_upstream(c, REPORT_NOTHING);
    call_ask(c);
    return true;
}

void call_late(struct call *c) {
    char time[COUNT_TEXT];
    if (goes_elsewhere(c)) {
        return;
    }
    format_duration(time, sizeof time, call_now_ms(c) - c->started_ms);
    call_count_refused(c, LIMIT_QUEUE_WAIT);
    call_turn_away(c, ERR_BUSY, OUTCOME_QUEUE_LATE, RETRY_MOST_MS,
                   "The call waited for its turn at the upstream '%.*s', which did not come within %s (%s).",
                   STR_ARG(upstream_config(c)->name), time, wait_name(c));
}

static void on_late(void *owner) { call_late(owner); }

static void on_pushed(void *owner) {
    struct call *c = owner;
    if (goes_elsewhere(c)) {
        return;
    }
    call_count_refused(c, LIMIT_QUEUE_SHARE);
    call_turn_away(
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
        .deadline_ms = call_now_ms(c) + call_left_ms(c),
        .on_in = on_turn,
        .on_late = on_late,
        .on_pushed = on_pushed,
        .owner = c,
    };
    return gate_enter(u->gate, &asker, &c->hold->ticket, refusal);
}

static void nobody_left(struct call *c) {
    uint64_t rest_ms = breaker_rests_ms(gate_breaker(upstream_of(c)->gate), call_now_ms(c));
    struct str name = upstream_config(c)->name;
    rest_ms = MAX(rest_ms, (uint64_t)1000);
    call_count_refused(c, LIMIT_RESTING);
    if (c->setback) {
        call_turn_away(c, ERR_BUSY, OUTCOME_UPSTREAM_RESTS, rest_ms,
                       "The upstream '%.*s' (%s) failed: %s; it rests now (breaker), and nobody else can be asked.",
                       STR_ARG(name), upstream_of(c)->authority, c->setback);
    } else {
        call_turn_away(
            c, ERR_BUSY, OUTCOME_UPSTREAM_RESTS, rest_ms,
            "The upstream '%.*s' has failed %u times in a row and rests (breaker); nobody else can be asked.",
            STR_ARG(name), c->setup->config->breaker_failures);
    }
}

// Its turn at the target has come, or will. Who was asked before and is left for another one has had his tries.
static void go_to_target(struct call *c, unsigned was, bool in) {
    if (c->at != was) {
        c->tried |= c->tries ? bit(was) : 0;
        c->tries = 0;
    }
    if (in) {
        call_connect(c, false);
    } else {
        counted_wait(&c->counted, c->worker);
        call_set_state(c, CALL_QUEUED);
    }
}

// Those that rest, or whose queue is full, are passed over.
void call_ask(struct call *c) {
    struct gate_refusal refusal;
    enum gate_answer last = GATE_IN;
    unsigned was = c->at;
    unsigned refused_by = was;
    uint64_t passed = 0;
    for (size_t i; (i = choose(c, c->tried | passed)) != SIZE_MAX; passed |= bit((unsigned)i)) {
        struct gate_refusal here;
        c->at = (uint16_t)i;
        if (!admitted(c)) {
            continue;
        }
        enum gate_answer answer = enter_gate(c, &here);
        if (answer == GATE_IN || answer == GATE_WAIT) {
            go_to_target(c, was, answer == GATE_IN);
            return;
        }
        call_leave_upstream(c, REPORT_NOTHING);
        refusal = here;
        refused_by = c->at;
        last = answer;
    }
    if (last != GATE_IN) {
        c->at = (uint16_t)refused_by;
        refuse_queue(c, last, &refusal);
    } else {
        c->at = (uint16_t)(c->setback ? was : c->at);
        nobody_left(c);
    }
}

// ---- trying again

enum remedy { REMEDY_NONE, REMEDY_HERE, REMEDY_ELSEWHERE };

static enum remedy remedy_for(struct call *c, const struct setback *s, uint64_t *wait_ms) {
    const struct config_upstream *u = upstream_config(c);
    uint32_t random = 0;
    if (!asked_again(&c->asked)) {
        return REMEDY_NONE;
    }
    size_t other = other_one(c);
    bool is_other = other != SIZE_MAX;
    bool equal = is_other && c->targets->v[other].rank == target_of(c)->rank;
    random_bytes(&random, sizeof random);
    *wait_ms = s->asked_to_wait ? s->wait_ms : retry_backoff_ms(c->tries, random);
    bool too_long = *wait_ms > RETRY_AFTER_MOST_MS || *wait_ms >= call_left_ms(c) || rests(c, c->at, *wait_ms);
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
    call_leave_upstream(c, report);
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
        call_ask(c);
    } else {
        timer_set(&c->worker->loop, &c->deadline, remedy == REMEDY_ELSEWHERE ? 0 : wait_ms);
    }
}

// True: another try comes.
bool call_try_again(struct call *c, const struct setback *s, enum gate_report report, const char *what) {
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

bool call_may_try_again(const struct call *c) {
    bool other = c->targets->n > 1 && other_one(c) != SIZE_MAX;
    return asked_again(&c->asked) && (other || c->tries <= upstream_config(c)->retries);
}
