// SPDX-License-Identifier: MIT
// A call on its way.
//
//   IDLE --> CONNECTING --> SECURING --> LOADED --> RELEASED --> OVER
//                 |  (plain, memory)       ^           |          ^
//                 +------------------------+           | answer   |
//                 +--- any state: failed, out of time -+----------+
//
//   CONNECTING  `conn` is TCP (in memory: none needed); deadline connect_ms, until it is loaded
//   SECURING    `conn` is TLS over it
//   LOADED      head and body are written up to held_from; `released` is not yet wanted
//   RELEASED    all may leave; deadline timeout_ms; `parser` from the first byte of the answer on
//   OVER        nothing is open
//
// Times of what arrives are those of the loop's turn: it was there when the turn began, however long the turn takes for
// others. Times of what leaves are read from the clock behind the write.
#include "http/shot.h"

#include <assert.h>
#include <stdarg.h>

#include "http/h1.h"
#include "net/tcp.h"

enum { READS_PER_TURN = 8, INTERIM_MAX = 16 };

static void shot_set_state(struct shot *s, enum shot_state state) {
    assert(state > s->state || state == SHOT_OVER);
    s->state = state;
}

static uint64_t clock_ns(const struct shot *s) { return s->aim.loop->clock->now_ns(s->aim.loop->clock); }
// Of what has just been read; the request may have left in the same turn.
static uint64_t arrived_ns(const struct shot *s) { return MAX(s->aim.loop->now_ns, s->sent_ns); }

// ---- the end

static void shut(struct shot *s) {
    timer_clear(&s->deadline);
    task_cancel(&s->work);
    if (s->conn) {
        conn_close(s->conn);
        s->conn = NULL;
    }
    h1_destroy(s->parser);
    s->parser = NULL;
    buf_finish(&s->request);
}

static void end(struct shot *s, uint64_t at_ns) {
    s->end_ns = at_ns;
    s->retransmitted = s->conn && conn_resent(s->conn);
    shut(s);
    shot_set_state(s, SHOT_OVER);
    s->events->on_over(s);
}

PRINTF(4, 5) static void fail(struct shot *s, uint64_t at_ns, enum err e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(s->problem, sizeof s->problem, format, args);
    va_end(args);
    s->error = e;
    end(s, at_ns);
}

static void on_deadline(struct timer *timer) {
    struct shot *s = container_of(timer, struct shot, deadline);
    char within[32];
    bool sent = s->state == SHOT_RELEASED;
    (void)format_duration(within, sizeof within, sent ? s->timeout_ms : s->connect_ms);
    fail(s, clock_ns(s), ERR_TIMEOUT, sent ? "no whole answer within %s" : "no connection within %s", within);
}

void shot_close(struct shot *s) {
    if (s->state != SHOT_IDLE && s->state != SHOT_OVER) {
        shut(s);
        shot_set_state(s, SHOT_OVER);
    }
    buf_finish(&s->request);
}

// ---- the answer

static void take_body(struct shot *s, struct str bytes) {
    s->bytes += bytes.len;
    if (s->answer && buf_str_append(s->answer, bytes) != OK) {
        s->answer = NULL; // what there is will do
    }
    if (s->events->on_body && bytes.len) {
        s->events->on_body(s, bytes);
    }
}

static void take_head(struct shot *s) {
    const struct head *head = h1_head(s->parser);
    s->status = head->status;
    if (s->events->on_head) {
        s->events->on_head(s, head);
    }
}

// Up to the end of one message, which may be an interim one. False: it is over.
static bool feed_message(struct shot *s, char *bytes, size_t n, size_t *used) {
    struct h1_result r;
    enum err e = h1_feed(s->parser, bytes, n, &r);
    uint64_t now = arrived_ns(s);
    if (e != OK) {
        fail(s, now, e, "its answer is not HTTP: %s", h1_problem(s->parser));
        return false;
    }
    *used = r.used;
    if (r.head_done && h1_head(s->parser)->status < 200) {
        if (++s->interim > INTERIM_MAX) {
            fail(s, now, ERR_PROTOCOL, "too many interim answers");
            return false;
        }
        h1_reset(s->parser);
        return true;
    }
    if (r.head_done) {
        take_head(s);
    }
    take_body(s, r.body);
    if (r.end) {
        end(s, now);
    }
    return !r.end;
}

static void feed(struct shot *s, char *bytes, size_t n) {
    static const struct http_limits limits = HTTP_LIMITS_DEFAULT;
    if (!s->parser) {
        s->first_byte_ns = arrived_ns(s);
        s->parser = h1_create(H1_RESPONSE, &limits);
        if (!s->parser) {
            fail(s, s->first_byte_ns, ERR_NOMEM, "out of memory");
            return;
        }
        if (s->no_body) {
            h1_expect_no_body(s->parser);
        }
    }
    size_t used = 0;
    for (; n && feed_message(s, bytes, n, &used); n -= used) {
        bytes += used;
    }
}

static void on_eof(struct shot *s, enum err e) {
    struct h1_result r = {.end = false};
    uint64_t now = arrived_ns(s);
    bool orderly = e == ERR_EOF;
    if (s->state != SHOT_RELEASED || s->sent < buf_len(&s->request)) {
        fail(s, now, ERR_RESET, "it closed the connection before the request was there");
    } else if (!s->parser || !h1_begun(s->parser)) {
        fail(s, now, ERR_RESET, "it %s the connection without an answer", orderly ? "closed" : "reset");
    } else if (orderly && h1_feed_eof(s->parser, &r) == OK) {
        end(s, now);
    } else {
        fail(s, now, ERR_CUT, "it %s the connection in the middle of its answer", orderly ? "closed" : "reset");
    }
}

static void read_some(struct shot *s) {
    char *into = s->aim.loop->read_buffer;
    for (int i = 0; s->state == SHOT_LOADED || s->state == SHOT_RELEASED; i++) {
        size_t n = 0;
        if (i == READS_PER_TURN) {
            loop_defer(s->aim.loop, &s->work);
            return;
        }
        enum err e = conn_read(s->conn, into, LOOP_READ_BUFFER, &n);
        if (e == ERR_AGAIN) {
            return;
        }
        if (e != OK) {
            on_eof(s, e);
        } else if (s->state == SHOT_LOADED) {
            fail(s, arrived_ns(s), ERR_PROTOCOL, "it answered before the request was there");
        } else {
            feed(s, into, n);
        }
    }
}

// ---- the request

enum err shot_write_head(struct buf *out, const struct head *head) {
    enum h1_framing framing;
    return h1_write_request(out, head, true, &framing);
}

// How much of it may leave before the release.
static size_t held_from(const struct shot *s) {
    size_t all = buf_len(&s->request);
    return all - s->head_len > SHOT_HELD_MOST ? all - 1 : s->head_len - 1;
}

// What has failed is found by reading: an answer may be there all the same.
static void write_up_to(struct shot *s, size_t to) {
    struct str bytes = str_skip(str_first(buf_str(&s->request), to), s->sent);
    struct iovec v = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    size_t written = 0;
    if (!bytes.len) {
        return;
    }
    enum err e = conn_writev(s->conn, &v, 1, &written);
    s->sent += written;
    s->blocked = e == OK && written < bytes.len;
    if (e != OK) {
        loop_defer(s->aim.loop, &s->work);
    }
    if (s->sent == buf_len(&s->request)) {
        s->sent_ns = clock_ns(s);
    }
}

static void on_event(struct conn *c, unsigned events) {
    struct shot *s = c->owner;
    if ((events & CONN_WRITABLE) && s->blocked) {
        write_up_to(s, s->state == SHOT_RELEASED ? buf_len(&s->request) : held_from(s));
    }
    if (events & (CONN_READABLE | CONN_HUP)) {
        read_some(s);
    }
}

static void load(struct shot *s) {
    s->conn->owner = s;
    s->conn->on_event = on_event;
    s->loaded_ns = clock_ns(s);
    timer_clear(&s->deadline);
    shot_set_state(s, SHOT_LOADED);
    write_up_to(s, held_from(s));
    s->events->on_loaded(s);
}

void shot_release(struct shot *s) {
    assert(s->state == SHOT_LOADED);
    shot_set_state(s, SHOT_RELEASED);
    if (!s->blocked) {
        write_up_to(s, buf_len(&s->request));
    }
    timer_set(s->aim.loop, &s->deadline, s->timeout_ms);
}

// ---- the connection

// An end that came with the deciding event will not be told again.
static void pass_on(struct shot *s, unsigned events) {
    if (s->conn) {
        conn_emit(s->conn, events & CONN_HUP);
    }
}

static void on_secure_event(struct conn *c, unsigned events) {
    struct shot *s = c->owner;
    enum err e = tls_result(c);
    if (e == OK) {
        load(s);
        pass_on(s, events);
    } else if (e != ERR_AGAIN) {
        fail(s, clock_ns(s), e, "%.*s: %s", STR_ARG(s->aim.host), tls_problem(c));
    }
}

static void on_connect_event(struct conn *c, unsigned events) {
    struct shot *s = c->owner;
    char address[ADDRESS_TEXT];
    enum err e = tcp_connect_result(c);
    if (e != OK) {
        fail(s, clock_ns(s), e, "connect to %s: %s", address_format(&s->aim.address, address), err_text(e));
        return;
    }
    if (!s->aim.tls) {
        load(s);
        pass_on(s, events);
        return;
    }
    shot_set_state(s, SHOT_SECURING);
    s->conn = tls_connect(s->aim.tls, c, s->aim.host);
    s->conn->owner = s;
    s->conn->on_event = on_secure_event;
    conn_emit(c, events & CONN_HUP);
}

// What was put off to this turn: a connection in memory, on which bytes may have come already; one that could not even
// begin; reading on.
static void on_work(struct task *task) {
    struct shot *s = container_of(task, struct shot, work);
    if (s->state == SHOT_CONNECTING && s->error != OK) {
        fail(s, clock_ns(s), s->error, "no connection: %s", err_text(s->error));
        return;
    }
    if (s->state == SHOT_CONNECTING) {
        load(s);
    }
    read_some(s);
}

static void prepare(struct shot *s, const struct aim *aim) {
    assert(s->state == SHOT_IDLE);
    s->aim = *aim;
    s->began_ns = clock_ns(s);
    s->deadline.on_timer = on_deadline;
    s->work.run = on_work;
    shot_set_state(s, SHOT_CONNECTING);
}

void shot_refuse(struct shot *s, const struct aim *aim, enum err e) {
    prepare(s, aim);
    s->error = e;
    loop_defer(aim->loop, &s->work);
}

void shot_start(struct shot *s, const struct aim *aim) {
    assert(s->head_len > 0);
    prepare(s, aim);
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
