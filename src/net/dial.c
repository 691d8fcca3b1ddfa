// SPDX-License-Identifier: MIT
// One way to a host, from its name to a connection that may be written. The parts (dns, tcp, tls) each have
// their own timing and failures; here is the one timeout, the one result and the one sentence about it.
//
//    dial_start
//        |
//        v       addresses           first to connect         (plain: succeed)
//    RESOLVING ------------> CONNECTING -----------------> SECURING
//        |                       |                            |  \ handshake done: succeed
//        | no such name          | all failed                 |   \.
//        +-----------------------+--- timeout --------+-------+    v
//                                                     v          ENDED (dies with the turn)
//                                                   FAILED -------^
//                                                        `report`, in a later turn
//
//   RESOLVING   `query` is open
//   CONNECTING  1 to DIAL_ATTEMPTS of `attempts` have a conn; `stagger` runs while addresses are left
//   SECURING    `secure` is the TLS conn over the winner; no attempt has a conn
//   FAILED      nothing is open, `error` and `problem` are final, `report` is on its way
//   ENDED       the callback was called, or the dial was cancelled
//
// A success is told from inside the event that brought it. A failure may be found inside dial_start, so all
// of them are told by a task.
#include "net/dial.h"

#include <assert.h>
#include <stdarg.h>

#include "base/mem.h"
#include "net/tcp.h"

enum { PROBLEM_BYTES = 384 }; // a name of 253 bytes and a sentence

enum dial_state { DIAL_RESOLVING, DIAL_CONNECTING, DIAL_SECURING, DIAL_FAILED, DIAL_ENDED };

struct attempt {
    struct dial *dial;
    struct conn *c;   // NULL: not running
    unsigned address; // which one
};

struct dial {
    struct loop *loop;
    struct dial_target target;
    on_dialed *done;
    void *owner;
    enum dial_state state;
    struct timer total;
    struct timer stagger;
    struct task report;
    struct grave grave;
    struct dns_query query;
    struct conn *secure;
    struct attempt attempts[DIAL_ATTEMPTS];
    unsigned count; // of addresses
    unsigned next;  // the first that was not tried
    unsigned failures;
    unsigned worth_telling; // the failed address that `error` is about
    enum err error;
    char problem[PROBLEM_BYTES];
    struct address addresses[DNS_ADDRESSES_MAX];
};

static void set_state(struct dial *d, enum dial_state next) {
    switch (next) {
    case DIAL_RESOLVING: assert(false); break; // the first
    case DIAL_CONNECTING: assert(d->state == DIAL_RESOLVING); break;
    case DIAL_SECURING: assert(d->state == DIAL_CONNECTING); break;
    case DIAL_FAILED: assert(d->state < DIAL_FAILED); break;
    case DIAL_ENDED: assert(d->state != DIAL_ENDED); break;
    }
    d->state = next;
}

static unsigned running(const struct dial *d) {
    unsigned n = 0;
    for (unsigned i = 0; i < DIAL_ATTEMPTS; i++) {
        n += d->attempts[i].c != NULL;
    }
    return n;
}

static void dial_check(const struct dial *d) {
    assert((d->query.name != NULL) <= (d->state == DIAL_RESOLVING));
    assert((d->secure != NULL) == (d->state == DIAL_SECURING));
    assert(running(d) == 0 || d->state == DIAL_CONNECTING);
}

// ---- The end ----

static void attempt_close(struct attempt *a) {
    if (a->c) {
        conn_close(a->c), a->c = NULL;
    }
}

// Everything that was begun.
static void close_all(struct dial *d) {
    dns_cancel(&d->query);
    timer_clear(&d->total);
    timer_clear(&d->stagger);
    task_cancel(&d->report);
    for (unsigned i = 0; i < DIAL_ATTEMPTS; i++) {
        attempt_close(&d->attempts[i]);
    }
    if (d->secure) {
        conn_close(d->secure), d->secure = NULL;
    }
}

static void bury(struct grave *grave) { free(container_of(grave, struct dial, grave)); }

static void end(struct dial *d) {
    close_all(d);
    set_state(d, DIAL_ENDED);
    loop_bury(d->loop, &d->grave, bury);
}

// `events` came along with the deciding one and will not come again: they are passed on to the new owner.
static void succeed(struct dial *d, struct conn *c, unsigned events) {
    c->owner = NULL;
    end(d);
    d->done(d->owner, OK, c, "");
    conn_emit(c, events & (CONN_READABLE | CONN_HUP));
}

static void on_report(struct task *task) {
    struct dial *d = container_of(task, struct dial, report);
    dial_check(d);
    end(d);
    d->done(d->owner, d->error, NULL, d->problem);
}

PRINTF(3, 4) static void fail(struct dial *d, enum err e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(d->problem, sizeof d->problem, format, args);
    va_end(args);
    close_all(d);
    d->error = e;
    set_state(d, DIAL_FAILED);
    loop_defer(d->loop, &d->report);
}

// ---- TLS ----

static void on_secure_event(struct conn *c, unsigned events) {
    struct dial *d = c->owner;
    dial_check(d);
    enum err e = tls_result(c);
    if (e == OK) {
        d->secure = NULL;
        succeed(d, c, events);
    } else if (e != ERR_AGAIN) {
        fail(d, e, "%.*s: %s", STR_ARG(d->target.host), tls_problem(c));
    }
}

// `events` came with the connection; an end among them will not be told again, so it is passed on.
static void secure(struct dial *d, struct conn *c, unsigned events) {
    set_state(d, DIAL_SECURING);
    d->secure = tls_connect(d->target.tls, c, d->target.host);
    d->secure->owner = d;
    d->secure->on_event = on_secure_event;
    conn_emit(c, events & CONN_HUP); // may end the dial
}

// ---- Connecting ----

// What people should hear of: the first failure, but "no route" (of a family this machine has not) only if
// there is nothing else.
static void note_failure(struct dial *d, unsigned address, enum err e) {
    if (d->failures == 0 || (d->error == ERR_UNREACHABLE && e != ERR_UNREACHABLE)) {
        d->error = e;
        d->worth_telling = address;
    }
    d->failures++;
}

// " (and 3 more addresses)", or nothing.
static const char *others(unsigned n, char out[48]) {
    out[0] = '\0';
    if (n) {
        snprintf(out, 48, " (and %u more address%s)", n, n == 1 ? "" : "es");
    }
    return out;
}

static void fail_unconnected(struct dial *d) {
    char address[ADDRESS_TEXT];
    char more[48];
    fail(d, d->error, "connect to %s: %s%s", address_format(&d->addresses[d->worth_telling], address),
         err_text(d->error), others(d->failures - 1, more));
}

// The one that has run longest; there is one.
static struct attempt *oldest(struct dial *d) {
    struct attempt *found = NULL;
    for (unsigned i = 0; i < DIAL_ATTEMPTS; i++) {
        struct attempt *a = &d->attempts[i];
        if (a->c && (!found || a->address < found->address)) {
            found = a;
        }
    }
    return found;
}

static struct attempt *free_attempt(struct dial *d) {
    struct attempt *a = d->attempts;
    while (a < d->attempts + DIAL_ATTEMPTS && a->c) {
        a++;
    }
    return a < d->attempts + DIAL_ATTEMPTS ? a : NULL;
}

static void on_connect_event(struct conn *c, unsigned events);

// Tries addresses until one is on its way; fails the dial when none is left and none is running.
static void try_next(struct dial *d) {
    struct attempt *a = free_attempt(d);
    while (a && !a->c && d->next < d->count) {
        a->address = d->next++;
        enum err e = tcp_connect(d->loop, &d->addresses[a->address], &a->c);
        if (e == OK) {
            a->c->owner = a;
            a->c->on_event = on_connect_event;
        } else {
            a->c = NULL;
            note_failure(d, a->address, e);
        }
    }
    if (running(d) == 0) {
        fail_unconnected(d);
    } else if (d->next < d->count) {
        timer_set(d->loop, &d->stagger, DIAL_STAGGER_MS);
    }
}

static void on_connect_event(struct conn *c, unsigned events) {
    struct attempt *a = c->owner;
    struct dial *d = a->dial;
    dial_check(d);
    enum err e = tcp_connect_result(c);
    if (e != OK) {
        attempt_close(a);
        note_failure(d, a->address, e);
        try_next(d);
        return;
    }
    a->c = NULL; // the winner; the others
    for (unsigned i = 0; i < DIAL_ATTEMPTS; i++) {
        attempt_close(&d->attempts[i]);
    }
    timer_clear(&d->stagger);
    if (d->target.tls) {
        secure(d, c, events);
    } else {
        succeed(d, c, events);
    }
}

static void on_stagger(struct timer *timer) {
    struct dial *d = container_of(timer, struct dial, stagger);
    dial_check(d);
    if (!free_attempt(d)) {
        struct attempt *a = oldest(d);
        attempt_close(a);
        note_failure(d, a->address, ERR_TIMEOUT);
    }
    try_next(d);
}

// ---- Resolving ----

static void connect_to(struct dial *d, const struct address *addresses, unsigned count) {
    set_state(d, DIAL_CONNECTING);
    d->count = MIN(count, (unsigned)DNS_ADDRESSES_MAX);
    if (addresses != d->addresses) {
        memcpy(d->addresses, addresses, d->count * sizeof *addresses);
    }
    try_next(d);
}

static void fail_unresolved(struct dial *d, enum err e) {
    fail(d, e, "resolve %.*s: %s", STR_ARG(d->target.host), d->query.problem ? d->query.problem : err_text(e));
}

static void on_resolved(struct dns_query *q, enum err e, const struct address *addresses, unsigned count) {
    struct dial *d = container_of(q, struct dial, query);
    dial_check(d);
    if (e == OK) {
        connect_to(d, addresses, count);
    } else {
        fail_unresolved(d, e);
    }
}

// ---- Asked from outside ----

static void on_timeout(struct timer *timer) {
    struct dial *d = container_of(timer, struct dial, total);
    char within[32];
    char address[ADDRESS_TEXT];
    char more[48];
    struct str host = d->target.host;
    dial_check(d);
    (void)format_duration(within, sizeof within, d->target.timeout_ms);
    switch (d->state) {
    case DIAL_RESOLVING: fail(d, ERR_TIMEOUT, "resolve %.*s: no answer within %s", STR_ARG(host), within); break;
    case DIAL_CONNECTING:
        address_format(&d->addresses[oldest(d)->address], address);
        fail(d, ERR_TIMEOUT, "connect to %s%s: no answer within %s", address, others(d->next - 1, more), within);
        break;
    case DIAL_SECURING: fail(d, ERR_TIMEOUT, "%.*s: no TLS handshake within %s", STR_ARG(host), within); break;
    case DIAL_FAILED:
    case DIAL_ENDED: break; // the timer was cleared
    }
}

struct dial *dial_start(struct loop *loop, struct dns *dns, const struct dial_target *target, on_dialed *done,
                        void *owner) {
    struct dial *d = xcalloc(1, sizeof *d);
    d->loop = loop;
    d->target = *target;
    d->done = done;
    d->owner = owner;
    d->state = DIAL_RESOLVING;
    d->total.on_timer = on_timeout;
    d->stagger.on_timer = on_stagger;
    d->report.run = on_report;
    d->query.on_resolved = on_resolved;
    for (unsigned i = 0; i < DIAL_ATTEMPTS; i++) {
        d->attempts[i].dial = d;
    }
    timer_set(loop, &d->total, target->timeout_ms);
    unsigned count = 0;
    enum err e = dns_resolve(dns, &d->query, target->host, target->port, d->addresses, &count);
    if (e == OK) {
        connect_to(d, d->addresses, count);
    } else if (e != ERR_AGAIN) {
        fail_unresolved(d, e);
    }
    return d;
}

void dial_cancel(struct dial *d) {
    if (d && d->state != DIAL_ENDED) {
        end(d);
    }
}
