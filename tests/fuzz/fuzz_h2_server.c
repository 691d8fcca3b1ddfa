// SPDX-License-Identifier: MIT
// What a client says on an HTTP/2 connection behind its preface and SETTINGS, whole and in pieces; the owner answers,
// pauses, aborts and lets time pass as the bytes decide. No request that is malformed may reach it, no exchange may end
// twice, and nothing may be left when the connection has gone.
#include "base/mem.h"
#include "ev/clock.h"
#include "fuzz.h"
#include "http/server.h"
#include "net/mem.h"

enum { ASKS_MAX = 2000, TURNS_MAX = 20000 };

struct ask {
    struct xchg *x;
    int64_t body_len;
    uint64_t bytes;
    bool over, ended, paused;
};

struct app {
    struct clock *clock;
    struct loop loop;
    struct http_server server;
    struct dice dice;
    bool disturb;
    struct ask asks[ASKS_MAX];
    unsigned count;
};

static const char answer_body[200];

static void answer(struct ask *a, int status) {
    xchg_send_head(a->x, &(struct head){.status = status, .body_len = sizeof answer_body});
    a->over = xchg_send(a->x, str_from(answer_body, sizeof answer_body), true) == sizeof answer_body;
}

static void on_head(struct xchg *x UNUSED, struct head *head UNUSED) { MUST(false); }

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct ask *a = x->owner;
    MUST(!a->over && !a->ended && !a->paused);
    a->bytes += bytes.len;
    a->ended = end;
    MUST(!end || a->body_len < 0 || (uint64_t)a->body_len == a->bytes);
}

static void on_drain(struct xchg *x) {
    struct ask *a = x->owner;
    MUST(!a->over);
    xchg_abort(x); // a part was taken: enough
    a->over = true;
}

static void on_fail(struct xchg *x, enum err e, const char *problem) {
    struct ask *a = x->owner;
    MUST(!a->over && e != OK && problem[0]);
    a->over = true;
}

static const struct xchg_events events = {on_head, on_body, on_drain, on_fail};

static struct ask *new_ask(struct http_server *s, struct xchg *x) {
    struct app *app = s->owner;
    MUST(app->count < ASKS_MAX);
    struct ask *a = &app->asks[app->count++];
    *a = (struct ask){.x = x, .body_len = BODY_UNKNOWN};
    x->events = &events;
    x->owner = a;
    return a;
}

static void check_field(const struct field *f) {
    MUST(f->name.len && f->name.ptr[0] != ':' && f->id == field_id(f->name));
    MUST(str_eq(str_trim(f->value), f->value));
    for (size_t i = 0; i < f->value.len; i++) {
        unsigned char b = (unsigned char)f->value.ptr[i];
        MUST(b != '\r' && b != '\n' && b != 0);
    }
    for (size_t i = 0; i < f->name.len; i++) {
        unsigned char b = (unsigned char)f->name.ptr[i];
        MUST(b > 0x20 && b < 0x7f && b != ':' && b != '_' && ascii_lower((char)b) == (char)b);
    }
}

static void on_request(struct http_server *s, struct xchg *x, struct head *head) {
    struct app *app = s->owner;
    struct ask *a = new_ask(s, x);
    MUST(head->method != METHOD_CONNECT && head->method_name.len);
    MUST(target_valid(head->target) && authority_valid(head->authority));
    MUST(head->fields.n <= s->limits.fields);
    for (unsigned i = 0; i < head->fields.n; i++) {
        check_field(&head->fields.v[i]);
    }
    MUST(!fields_find(&head->fields, FIELD_CONNECTION) && !fields_find(&head->fields, FIELD_TRANSFER_ENCODING));
    a->body_len = head->body_len;
    if (app->disturb && dice_roll(&app->dice) % 4 == 0) {
        answer(a, 200);
    }
}

static void on_reject(struct http_server *s, struct xchg *x, enum err e, const char *problem) {
    MUST(err_status(e) >= 400 && problem[0]);
    answer(new_ask(s, x), err_status(e));
}

static void far_event(struct conn *c, unsigned set UNUSED) {
    char room[4096];
    size_t n;
    while (conn_read(c, room, sizeof room, &n) == OK) {
    }
}

static void settle(struct app *app) {
    for (unsigned turns = 0; loop_turn(&app->loop, 0); turns++) {
        MUST(turns < TURNS_MAX);
    }
}

static void do_something(struct app *app, struct fake_clock *clock) {
    uint64_t roll = dice_roll(&app->dice);
    if (roll % 64 == 0) {
        clock->ns += 40ull * 1000000000;
    }
    if (app->count == 0) {
        return;
    }
    struct ask *a = &app->asks[dice_roll(&app->dice) % app->count];
    if (a->over) {
        return;
    }
    if (roll % 8 == 1) {
        xchg_abort(a->x);
        a->over = true;
    } else if (roll % 8 == 2) {
        a->paused = !a->paused;
        (a->paused ? xchg_pause : xchg_resume)(a->x);
    } else if (roll % 8 < 5) {
        answer(a, 200);
    }
}

// `piece`: 0: of random sizes, with disturbances.
static void speak(struct str said, size_t piece) {
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
    struct fake_clock clock;
    struct app *app = xcalloc(1, sizeof *app);
    struct conn *near;
    struct conn *far;
    fake_clock_init(&clock);
    app->dice = dice_from((const uint8_t *)said.ptr, said.len);
    app->disturb = piece == 0;
    MUST(loop_init(&app->loop, &(struct loop_options){.clock = &clock.clock}) == OK);
    app->server = (struct http_server){
        .loop = &app->loop,
        .limits = {.head_bytes = 2000, .fields = 20, .target_bytes = 200},
        .header_ms = 10000,
        .idle_ms = 75000,
        .on_request = on_request,
        .on_reject = on_reject,
        .owner = app,
    };
    http_server_init(&app->server);
    mem_pair(&app->loop, 1 << 20, &near, &far);
    far->owner = app;
    far->on_event = far_event;
    http_server_accept(&app->server, near);
    struct iovec first = {(void *)(uintptr_t)hello, sizeof hello}; // with the last zero of an empty SETTINGS
    size_t written = 0;
    MUST(conn_writev(far, &first, 1, &written) == OK && written == sizeof hello);
    settle(app);
    while (said.len) {
        size_t wanted = piece ? piece : 1 + (size_t)(dice_roll(&app->dice) % 40);
        size_t n = MIN(said.len, wanted);
        struct iovec v = {(void *)(uintptr_t)said.ptr, n};
        if (conn_writev(far, &v, 1, &written) != OK || written < n) {
            break;
        }
        settle(app);
        said = str_skip(said, n);
        if (piece == 0) {
            do_something(app, &clock);
        }
    }
    conn_close(far);
    for (unsigned i = 0; i < app->count; i++) {
        if (app->asks[i].paused && !app->asks[i].over) {
            app->asks[i].paused = false;
            xchg_resume(app->asks[i].x);
        }
    }
    settle(app);
    for (unsigned i = 0; i < app->count; i++) {
        MUST(app->asks[i].over);
    }
    MUST(app->server.open == 0);
    http_server_finish(&app->server);
    settle(app);
    loop_finish(&app->loop);
    free(app);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str said = str_from((const char *)data, size);
    if (size > 60000) {
        return 0;
    }
    speak(said, SIZE_MAX);
    speak(said, 0);
    if (size < 2000) {
        speak(said, 1);
    }
    return 0;
}
