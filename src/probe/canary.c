// SPDX-License-Identifier: MIT
#include "probe/canary.h"

#include "base/mem.h"

static uint64_t now_ns(const struct canary *c) { return c->aim.loop->clock->now_ns(c->aim.loop->clock); }

static bool is_looking(const struct canary *c) { return c->shot.state != SHOT_IDLE && c->shot.state != SHOT_OVER; }

struct head *canary_request(struct str authority, struct str path) {
    struct field room[1];
    struct fields fields = FIELDS(room);
    struct head head = {
        .method = METHOD_GET,
        .method_name = STR("GET"),
        .target = path,
        .authority = authority,
    };
    enum err e = fields_add(&fields, STR("User-Agent"), STR("thaw-probe"));
    head.fields = fields;
    return e == OK ? shot_keep_head(&head) : NULL;
}

static void note_look(struct canary *c, uint64_t end_ns, int status) {
    struct probe_canary look = {c->shot.began_ns - c->start_ns, end_ns - c->start_ns, status};
    enum err e = buf_append(&c->looks, &look, sizeof look);
    (void)e; // of more than CANARY_LOOKS_MOST there is no need
}

static void on_quiet(struct task *task) {
    struct canary *c = container_of(task, struct canary, quiet);
    c->on_quiet(c->owner);
}

static void be_quiet(struct canary *c) {
    timer_clear(&c->timer);
    loop_defer(c->aim.loop, &c->quiet);
}

static void on_loaded(struct shot *s) { shot_release(s); }

static void on_over(struct shot *s) {
    struct canary *c = container_of(s, struct canary, shot);
    note_look(c, s->end_ns, s->error == OK ? s->status : 0);
    if (c->ending) {
        be_quiet(c);
    }
}

static const struct shot_events look_events = {.on_loaded = on_loaded, .on_over = on_over};

static void look(struct canary *c) {
    c->shot = (struct shot){
        .events = &look_events,
        .connect_ms = c->timeout_ms,
        .timeout_ms = c->timeout_ms,
    };
    c->shot.head = canary_request(c->authority, c->path);
    if (c->shot.head) {
        shot_start(&c->shot, &c->aim);
    }
}

static void on_timer(struct timer *timer) {
    struct canary *c = container_of(timer, struct canary, timer);
    if (c->ending) { // its grace is over
        shot_close(&c->shot);
        note_look(c, now_ns(c), 0);
        be_quiet(c);
        return;
    }
    if (!is_looking(c)) {
        look(c);
    }
    timer_set(c->aim.loop, &c->timer, c->every_ms);
}

void canary_start(struct canary *c) {
    buf_init(&c->looks, CANARY_LOOKS_MOST * sizeof(struct probe_canary));
    c->timer.on_timer = on_timer;
    c->quiet.run = on_quiet;
    if (c->path.len) {
        timer_set(c->aim.loop, &c->timer, c->every_ms);
    }
}

void canary_end(struct canary *c, uint64_t grace_ms, void (*on_quiet_do)(void *owner), void *owner) {
    c->on_quiet = on_quiet_do;
    c->owner = owner;
    c->ending = true;
    if (is_looking(c)) {
        timer_set(c->aim.loop, &c->timer, grace_ms);
    } else {
        be_quiet(c);
    }
}

unsigned canary_take(struct canary *c, struct probe_canary **looks) {
    size_t n = buf_len(&c->looks) / sizeof **looks;
    *looks = NULL;
    if (n) {
        *looks = xcalloc(n, sizeof **looks);
        memcpy(*looks, buf_str(&c->looks).ptr, n * sizeof **looks);
    }
    buf_finish(&c->looks);
    return (unsigned)n;
}

void canary_close(struct canary *c) {
    timer_clear(&c->timer);
    task_cancel(&c->quiet);
    shot_close(&c->shot);
    buf_finish(&c->looks);
}
