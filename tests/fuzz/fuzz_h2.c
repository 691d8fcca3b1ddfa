// SPDX-License-Identifier: MIT
// What an upstream says on an HTTP/2 connection, whole and in pieces, while three calls wait for their answers; the bytes
// also decide which of them are paused, resumed or given up in between.
#include "base/mem.h"
#include "ev/clock.h"
#include "fuzz.h"
#include "http/client.h"
#include "net/mem.h"

enum { CALLS = 3, TURNS_MAX = 10000 };

struct far {
    struct loop *loop;
    struct conn *conn; // the upstream's end
};

struct call {
    struct xchg x;
    unsigned heads;
    size_t bytes;
    int64_t body_len;
    bool over, answered, paused;
};

static void on_head(struct xchg *x, struct head *head) {
    struct call *c = container_of(x, struct call, x);
    MUST(!c->over && !c->answered);
    MUST(head->status >= 100 && head->status < 600 && head->status != 101);
    MUST(head->fields.n <= HTTP_LIMITS_DEFAULT.fields);
    for (unsigned i = 0; i < head->fields.n; i++) {
        const struct field *f = &head->fields.v[i];
        MUST(f->name.len && f->name.ptr[0] != ':' && f->id == field_id(f->name));
        MUST(str_eq(str_trim(f->value), f->value));
        for (size_t k = 0; k < f->value.len; k++) {
            unsigned char b = (unsigned char)f->value.ptr[k];
            MUST(b != '\r' && b != '\n' && b != 0);
        }
        for (size_t k = 0; k < f->name.len; k++) {
            MUST(f->name.ptr[k] == ascii_lower(f->name.ptr[k]) && f->name.ptr[k] != '_');
        }
    }
    MUST(!fields_find(&head->fields, FIELD_CONNECTION) && !fields_find(&head->fields, FIELD_TRANSFER_ENCODING));
    c->answered = head->status >= 200;
    c->body_len = head->body_len;
    MUST(++c->heads < 20);
}

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct call *c = container_of(x, struct call, x);
    MUST(!c->over && c->answered && !c->paused);
    c->bytes += bytes.len;
    c->over = end;
    MUST(!end || c->body_len < 0 || (uint64_t)c->body_len == c->bytes || c->bytes == 0); // 0: the answer to a HEAD
}

static void on_drain(struct xchg *x UNUSED) {}

static void on_fail(struct xchg *x, enum err e, const char *problem) {
    struct call *c = container_of(x, struct call, x);
    MUST(!c->over && e != OK && problem[0]);
    c->over = true;
}

static const struct xchg_events events = {on_head, on_body, on_drain, on_fail};

static void far_event(struct conn *c, unsigned events_set UNUSED) {
    char room[1024];
    size_t n;
    while (conn_read(c, room, sizeof room, &n) == OK) {
    }
}

static struct conn *connect_far(void *context) {
    struct far *far = context;
    struct conn *near;
    struct conn *end;
    mem_pair(far->loop, 1 << 20, &near, &end);
    if (far->conn) { // only one speaks
        conn_close(end);
        return near;
    }
    far->conn = end;
    end->owner = far;
    end->on_event = far_event;
    return near;
}

static void settle(struct loop *loop) {
    for (unsigned turns = 0; loop_turn(loop, 0); turns++) {
        MUST(turns < TURNS_MAX);
    }
}

static void begin(struct origin *o, struct call *c, enum method method) {
    bool upload = method == METHOD_POST;
    struct head head = {.method = method,
                        .method_name = str_c(method_name(method)),
                        .target = STR("/x"),
                        .authority = STR("a"),
                        .body_len = upload ? 4 : 0};
    *c = (struct call){.x.events = &events};
    MUST(client_start(o, &c->x, false) == OK);
    xchg_send_head(&c->x, &head);
    (void)!xchg_send(&c->x, upload ? STR("body") : STR(""), true);
}

static void disturb(struct call *c, uint64_t roll) {
    if (c->over) {
        return;
    }
    if (roll % 16 == 0) {
        xchg_abort(&c->x);
        c->over = true;
    } else if (roll % 4 == 1) {
        c->paused = !c->paused;
        (c->paused ? xchg_pause : xchg_resume)(&c->x);
    }
}

// `piece`: 0: of random sizes, with disturbances.
static void speak(struct str said, size_t piece) {
    static const enum method methods[CALLS] = {METHOD_GET, METHOD_POST, METHOD_HEAD};
    struct fake_clock clock;
    struct loop loop;
    struct far far = {.loop = &loop};
    struct call calls[CALLS];
    struct dice dice = dice_from((const uint8_t *)said.ptr, said.len);
    fake_clock_init(&clock);
    MUST(loop_init(&loop, &(struct loop_options){.clock = &clock.clock}) == OK);
    struct http_client client = {.loop = &loop, .limits = HTTP_LIMITS_DEFAULT, .idle_ms = 1000};
    http_client_init(&client);
    struct origin origin = {.authority = STR("a"), .speaks = ORIGIN_H2, .connect_local = connect_far, .context = &far};
    origin_init(&origin, &client);
    for (unsigned i = 0; i < CALLS; i++) {
        begin(&origin, &calls[i], methods[i]);
    }
    settle(&loop);
    while (said.len) {
        size_t wanted = piece ? piece : 1 + (size_t)(dice_roll(&dice) % 40);
        size_t n = MIN(said.len, wanted);
        struct iovec v = {(void *)(uintptr_t)said.ptr, n};
        size_t written = 0;
        if (conn_writev(far.conn, &v, 1, &written) != OK) {
            break;
        }
        settle(&loop);
        said = str_skip(said, n);
        if (piece == 0) {
            disturb(&calls[dice_roll(&dice) % CALLS], dice_roll(&dice));
        }
    }
    conn_close(far.conn);
    for (unsigned i = 0; i < CALLS; i++) {
        if (calls[i].paused && !calls[i].over) {
            calls[i].paused = false;
            xchg_resume(&calls[i].x);
        }
    }
    settle(&loop);
    for (unsigned i = 0; i < CALLS; i++) {
        MUST(calls[i].over == xchg_over(&calls[i].x) && calls[i].over);
    }
    origin_finish(&origin);
    MUST(origin.open == 0);
    settle(&loop);
    http_client_finish(&client);
    loop_finish(&loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str said = str_from((const char *)data, size);
    speak(said, SIZE_MAX);
    speak(said, 0);
    if (size < 2000) {
        speak(said, 1);
    }
    return 0;
}
