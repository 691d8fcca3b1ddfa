// SPDX-License-Identifier: MIT
// A call on its way: its connection, its deadline and its end. What is said on it is in shot_h1.c and shot_h2.c.
//
//   IDLE --> CONNECTING --> SECURING --> GREETING --> LOADED --> RELEASED --> OVER
//              |     |  (plain, memory)   |   |         ^           |          ^
//              |     +--------------------+   |         |           | answer   |
//              +------ HTTP/1.1 --------------+---------+           |          |
//              +----- any state: failed, out of time ---------------+----------+
//
//   CONNECTING  `conn` is TCP (in memory: none needed); deadline connect_ms, until it is loaded
//   SECURING    `conn` is TLS over it
//   GREETING    HTTP/2: both SETTINGS are on their way
//   LOADED      what may leave before the release has been written
//   RELEASED    all may leave; deadline timeout_ms
//   OVER        nothing is open
//
// Times of what arrives are those of the loop's turn: it was there when the turn began, however long the turn takes for
// others. Times of what leaves are read from the clock behind the write.
#include <assert.h>
#include <stdarg.h>

#include "http/h2_head.h"
#include "http/shot_way.h"
#include "net/tcp.h"

void shot_set_state(struct shot *s, enum shot_state state) {
    assert(state > s->state || state == SHOT_OVER);
    s->state = state;
}

// ---- the end

static void shut(struct shot *s) {
    timer_clear(&s->deadline);
    task_cancel(&s->work);
    if (s->way) {
        s->way->shut(s);
    } else if (s->conn) {
        conn_close(s->conn);
    }
    s->conn = NULL;
    buf_finish(&s->body);
    free(s->head);
    s->head = NULL;
}

void shot_end(struct shot *s, uint64_t at_ns) {
    s->end_ns = at_ns;
    s->retransmitted = s->retransmitted || (s->conn && conn_resent(s->conn));
    shut(s);
    shot_set_state(s, SHOT_OVER);
    s->events->on_over(s);
}

PRINTF(3, 0) static void note(struct shot *s, enum err e, const char *format, va_list args) {
    (void)vsnprintf(s->problem, sizeof s->problem, format, args);
    s->error = e;
}

void shot_note(struct shot *s, enum err e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    note(s, e, format, args);
    va_end(args);
}

void shot_fail(struct shot *s, uint64_t at_ns, enum err e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    note(s, e, format, args);
    va_end(args);
    shot_end(s, at_ns);
}

static void on_deadline(struct timer *timer) {
    struct shot *s = container_of(timer, struct shot, deadline);
    char within[32];
    bool sent = s->state == SHOT_RELEASED;
    (void)format_duration(within, sizeof within, sent ? s->timeout_ms : s->connect_ms);
    shot_fail(s, shot_clock_ns(s), ERR_TIMEOUT,
              sent                        ? "no whole answer within %s"
              : s->state == SHOT_GREETING ? "no SETTINGS of HTTP/2 within %s"
                                          : "no connection within %s",
              within);
}

void shot_close(struct shot *s) {
    if (s->state != SHOT_IDLE && s->state != SHOT_OVER) {
        shut(s);
        shot_set_state(s, SHOT_OVER);
    }
    buf_finish(&s->body);
    free(s->head);
    s->head = NULL;
}

// ---- the answer

void shot_take_body(struct shot *s, struct str bytes) {
    s->bytes += bytes.len;
    if (s->answer && buf_str_append(s->answer, bytes) != OK) {
        s->answer = NULL; // what there is will do
    }
    if (s->events->on_body && bytes.len) {
        s->events->on_body(s, bytes);
    }
}

void shot_take_head(struct shot *s, const struct head *head) {
    s->status = head->status;
    if (s->events->on_head) {
        s->events->on_head(s, head);
    }
}

// ---- the request

struct head *shot_keep_head(const struct head *head) {
    return h2_head_keep(head);
}

void shot_loaded(struct shot *s) {
    s->loaded_ns = shot_clock_ns(s);
    timer_clear(&s->deadline);
    shot_set_state(s, SHOT_LOADED);
    if (s->head) {
        s->way->push(s);
    }
    s->events->on_loaded(s);
}

void shot_release(struct shot *s) {
    assert(s->state == SHOT_LOADED && s->head);
    shot_set_state(s, SHOT_RELEASED);
    s->way->push(s);
    timer_set(s->aim.loop, &s->deadline, s->timeout_ms);
}

// ---- the connection

// An end that came with the deciding event will not be told again.
static void pass_on(struct shot *s, unsigned events) {
    if (s->conn) {
        conn_emit(s->conn, events & CONN_HUP);
    }
}

static void open_way(struct shot *s, const struct shot_way *way, unsigned events) {
    s->way = way;
    s->http = way->http;
    way->open(s);
    pass_on(s, events);
}

static void on_secure_event(struct conn *c, unsigned events) {
    struct shot *s = c->owner;
    enum err e = tls_result(c);
    bool agreed = e == OK && str_eq(tls_alpn(c), STR("h2"));
    if (e == OK && s->aim.speaks == ORIGIN_H2 && !agreed) {
        shot_fail(s, shot_clock_ns(s), ERR_PROTOCOL, "%.*s does not agree to HTTP/2 (ALPN)", STR_ARG(s->aim.host));
    } else if (e == OK) {
        open_way(s, agreed && s->aim.speaks != ORIGIN_H1 ? &shot_h2 : &shot_h1, events);
    } else if (e != ERR_AGAIN) {
        shot_fail(s, shot_clock_ns(s), e, "%.*s: %s", STR_ARG(s->aim.host), tls_problem(c));
    }
}

static const struct shot_way *known_way(const struct shot *s) {
    return s->aim.speaks == ORIGIN_H2 ? &shot_h2 : &shot_h1;
}

static void on_connect_event(struct conn *c, unsigned events) {
    struct shot *s = c->owner;
    char address[ADDRESS_TEXT];
    enum err e = tcp_connect_result(c);
    if (e != OK) {
        shot_fail(s, shot_clock_ns(s), e, "connect to %s: %s", address_format(&s->aim.address, address), err_text(e));
        return;
    }
    if (!s->aim.tls) {
        open_way(s, known_way(s), events);
        return;
    }
    shot_set_state(s, SHOT_SECURING);
    s->conn = tls_connect(s->aim.tls, c, s->aim.host);
    s->conn->owner = s;
    s->conn->on_event = on_secure_event;
    conn_emit(c, events & CONN_HUP);
}

// What was put off to this turn: a connection in memory, on which bytes may have come already; one that could not even
// begin; what the way put off.
static void on_work(struct task *task) {
    struct shot *s = container_of(task, struct shot, work);
    if (!s->way && s->error != OK) {
        shot_fail(s, shot_clock_ns(s), s->error, "%s: %s",
                  s->turned_away ? "the connection takes no other stream" : "no connection", err_text(s->error));
        return;
    }
    if (!s->way) {
        open_way(s, known_way(s), 0);
    }
    if (s->state != SHOT_OVER) {
        s->way->go_on(s);
    }
}

void shot_prepare(struct shot *s, const struct aim *aim) {
    assert(s->state == SHOT_IDLE);
    s->aim = *aim;
    s->began_ns = shot_clock_ns(s);
    s->deadline.on_timer = on_deadline;
    s->work.run = on_work;
    shot_set_state(s, SHOT_CONNECTING);
}

void shot_refuse(struct shot *s, const struct aim *aim, enum err e) {
    shot_prepare(s, aim);
    s->error = e;
    loop_defer(aim->loop, &s->work);
}

void shot_start(struct shot *s, const struct aim *aim) {
    shot_prepare(s, aim);
    timer_set(aim->loop, &s->deadline, s->connect_ms);
    if (aim->connect_local) {
        s->conn = aim->connect_local(aim->context);
        loop_defer(aim->loop, &s->work);
        return;
    }
    s->error = tcp_connect(aim->loop, &aim->address, &s->conn);
    if (s->error != OK) {
        s->conn = NULL;
        loop_defer(aim->loop, &s->work);
        return;
    }
    s->conn->owner = s;
    s->conn->on_event = on_connect_event;
}
