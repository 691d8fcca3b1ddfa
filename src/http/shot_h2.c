// SPDX-License-Identifier: MIT
// A shot over HTTP/2: a stream, on a connection of its own or on one that it joined. Nothing is asked before both SETTINGS
// have been acknowledged: how many streams the server takes, and how long its first frame takes, is no part of a call.
//
// The frames of what is held back are made beforehand, of a shot that is alone on its connection: its release is one write.
#include "base/mem.h"
#include "http/h2.h"
#include "http/shot_way.h"

struct shot_line {
    struct h2 h2;
    struct list shots;  // on it
    struct list unsent; // those that were released and have not left altogether
    bool greeted;       // SETTINGS of both sides are known to both
};

static struct shot_line *of(struct h2 *h) { return container_of(h, struct shot_line, h2); }

struct h2_side *shot_side_create(struct loop *loop) {
    static const struct http_limits limits = HTTP_LIMITS_DEFAULT;
    return h2_side_create(loop, &limits, false);
}

void shot_side_destroy(struct h2_side *side) { h2_side_destroy(side); }

// ---- the connection

static void wake(struct shot_line *l) {
    list_each(node, &l->shots) {
        struct shot *s = container_of(node, struct shot, of_line);
        loop_defer(s->aim.loop, &s->work);
    }
}

static void on_change(struct h2 *h) {
    struct shot_line *l = of(h);
    if (h->told && h->acknowledged && !l->greeted) {
        l->greeted = true;
        wake(l);
    }
}

static void on_written(struct h2 *h) {
    struct shot_line *l = of(h);
    list_each(node, &l->unsent) {
        struct shot *s = container_of(node, struct shot, unsent);
        if (h2_has_left(h, &s->x)) {
            s->sent_ns = shot_clock_ns(s);
            list_unlink(&s->unsent);
        }
    }
}

static void on_closed(struct h2 *h UNUSED) {}
static void on_buried(struct h2 *h) { free(of(h)); }

static const struct h2_events line_events = {
    .on_change = on_change, .on_written = on_written, .on_closed = on_closed, .on_buried = on_buried};

// ---- the request

static void submit(struct shot *s, size_t to, bool end) {
    struct str left = str_skip(str_first(buf_str(&s->body), to), s->sent);
    xchg_send_head(&s->x, s->head); // the first time
    if (left.len) {
        s->sent += xchg_send(&s->x, left, end);
    }
}

// Of a body that is held back altogether so is the head: a whole head is what some servers begin with.
static void push(struct shot *s) {
    size_t len = buf_len(&s->body);
    bool released = s->state == SHOT_RELEASED;
    bool held = !released && len <= SHOT_HELD_MOST;
    if (!s->line || (held && s->joined)) {
        return;
    }
    struct h2 *h = &s->line->h2;
    s->pushing = true;
    if (held && !h->holding) {
        h2_write_now(h); // what is not of the call
    }
    submit(s, released || held ? len : len - 1, released || held);
    if (released && !list_linked(&s->unsent) && !s->sent_ns) {
        list_push_back(&s->line->unsent, &s->unsent);
    }
    if (held) {
        h2_hold(h);
    } else {
        h2_write_now(h);
    }
    s->pushing = false;
}

// ---- the answer

static struct shot *shot_of(struct xchg *x) { return container_of(x, struct shot, x); }

static void on_head(struct xchg *x, struct head *head) {
    struct shot *s = shot_of(x);
    uint64_t now = shot_arrived_ns(s);
    s->first_byte_ns = s->first_byte_ns ? s->first_byte_ns : now;
    if (s->state != SHOT_RELEASED) {
        shot_fail(s, now, ERR_PROTOCOL, "it answered before the request was there");
    } else if (head->status >= 200) {
        shot_take_head(s, head);
    }
}

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct shot *s = shot_of(x);
    uint64_t now = shot_arrived_ns(s);
    shot_take_body(s, bytes);
    if (end) {
        shot_end(s, now);
    }
}

static void on_drain(struct xchg *x) {
    struct shot *s = shot_of(x);
    if (s->state == SHOT_LOADED || s->state == SHOT_RELEASED) {
        push(s);
    }
}

static void shut(struct shot *s) {
    struct shot_line *l = s->line;
    if (!l) {
        return;
    }
    xchg_abort(&s->x);
    list_unlink(&s->of_line);
    list_unlink(&s->unsent);
    s->line = NULL;
    if (list_empty(&l->shots)) {
        h2_close(&l->h2, OK, "");
    }
}

static const char *how_it_ended(const struct shot *s, enum err e) {
    bool released = s->state == SHOT_RELEASED;
    if (e == ERR_PROTOCOL) {
        return released ? "its answer is malformed HTTP/2" : "it does not speak HTTP/2";
    }
    if (e == ERR_CUT) {
        return "it broke off in the middle of its answer";
    }
    if (e != ERR_RESET) {
        return err_text(e);
    }
    return !s->line->h2.closed         ? "it broke the stream off without an answer"
           : released                  ? "it closed the connection without an answer"
           : s->state == SHOT_GREETING ? "it closed the connection instead of speaking HTTP/2"
                                       : "it closed the connection before the request was there";
}

// Why, in words; s->turned_away.
static void note_end(struct shot *s, enum err e, bool refused) {
    const char *farewell = s->line->h2.farewell;
    s->turned_away = refused || farewell;
    if (farewell) {
        shot_note(s, e, "its HTTP/2 %s (GOAWAY, %s)", refused ? "did not look at the call" : "ended the connection",
                  farewell);
    } else if (refused) {
        shot_note(s, e, "its HTTP/2 %s",
                  s->state == SHOT_GREETING ? "takes no streams (SETTINGS_MAX_CONCURRENT_STREAMS)"
                                            : "did not look at the call (REFUSED_STREAM)");
    } else {
        shot_note(s, e, "%s", how_it_ended(s, e));
    }
}

static void on_fail(struct xchg *x, enum err e, const char *problem UNUSED) { // whose words are a gateway's
    struct shot *s = shot_of(x);
    note_end(s, e, x->reused && x->untouched);
    if (s->pushing) { // a GOAWAY came before it could leave: told in the next turn
        s->retransmitted = conn_resent(s->conn);
        s->conn = NULL;
        shut(s);
        loop_defer(s->aim.loop, &s->work);
    } else {
        shot_end(s, shot_arrived_ns(s));
    }
}

static const struct xchg_events x_events = {on_head, on_body, on_drain, on_fail};

// ---- the way

static void board(struct shot *s, struct shot_line *l) {
    s->line = l;
    s->x.events = &x_events;
    list_push_back(&l->shots, &s->of_line);
    h2_begin(&l->h2, &s->x);
}

static void open_h2(struct shot *s) {
    struct shot_line *l = xcalloc(1, sizeof *l);
    list_init(&l->shots);
    list_init(&l->unsent);
    h2_init(&l->h2, s->aim.h2, &line_events);
    l->h2.secure = s->aim.tls != NULL;
    l->h2.wide = true;
    if (s->head) {
        http_head_strip(&s->head->fields); // HTTP/2 has none of these (RFC 9113 section 8.2.2)
    }
    shot_set_state(s, SHOT_GREETING);
    board(s, l);
    h2_open(&l->h2, s->conn);
    loop_defer(s->aim.loop, &s->work); // its SETTINGS may have come with the end of the handshake
}

static void go_on(struct shot *s) {
    struct shot_line *l = s->line;
    if (!l) { // on_fail
        shot_end(s, shot_arrived_ns(s));
        return;
    }
    if (s->state == SHOT_GREETING && !l->greeted) {
        h2_read(&l->h2);
    }
    if (s->state == SHOT_GREETING && l->greeted) {
        s->streams = h2_streams_most(&l->h2);
        shot_loaded(s);
    }
}

const struct shot_way shot_h2 = {SHOT_HTTP_2, open_h2, push, go_on, shut};

void shot_join(struct shot *s, const struct shot *with) {
    struct shot_line *l = with->line;
    if (!l || !h2_may_begin(&l->h2, 0)) {
        s->turned_away = true;
        shot_refuse(s, &with->aim, !l || l->h2.going ? ERR_RESET : ERR_FULL);
        return;
    }
    shot_prepare(s, &with->aim);
    s->joined = true;
    s->way = &shot_h2;
    s->http = SHOT_HTTP_2;
    s->conn = with->conn;
    if (s->head) {
        http_head_strip(&s->head->fields);
    }
    shot_set_state(s, SHOT_GREETING);
    board(s, l);
    timer_set(s->aim.loop, &s->deadline, s->connect_ms);
    loop_defer(s->aim.loop, &s->work);
}
