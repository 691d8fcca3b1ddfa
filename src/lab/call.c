// SPDX-License-Identifier: MIT
// A slow call, from its guest's coming to its end.
//
//              a thread takes it              it has the guard
//   QUEUED -----------------------> HELD ----------------------> CALLING ------------> OVER
//     |                              (patterns with a guard)        ^                   ^
//     +-- a thread takes it; on the loop: at once ------------------+                   |
//     +-- no room in the queue; the guest left before a thread took it -----------------+
//
//   QUEUED   counted in its pool's `waiting`
//   HELD     has its thread's seat, counted in its guard's `waiting`
//   CALLING  has its seats; or is on the loop
//   OVER     has none; told to its guest
#include <assert.h>

#include "lab/blocking.h"
#include "lab/guest.h"

enum { CALL_TIMEOUT_MS = 15 * 60 * 1000 };

static void call_set_state(struct call *c, enum call_state state) {
    assert(c->state != CALL_OVER);
    assert(state != CALL_HELD || c->state == CALL_QUEUED);
    assert(state != CALL_CALLING || c->state == CALL_QUEUED || c->state == CALL_HELD);
    c->state = state;
}

static void call_fail(struct call *c, enum err e, const char *problem) {
    c->result = e;
    snprintf(c->problem, sizeof c->problem, "%s", problem);
}

// ---- what the upstream said

// The inside of {"choices":[{"message":{"content":...}}]}, or of {"error":{"message":...}}.
static struct str content_of(const struct json_value *root) {
    const struct json_value *choice = json_item(json_member(root, "choices"), 0);
    return json_string(json_member(json_member(choice, "message"), "content"));
}

static struct str complaint_of(const struct json_value *root) {
    struct str said = json_string(json_member(json_member(root, "error"), "message"));
    return said.ptr ? str_first(said, PROBLEM_MAX / 2) : STR("nothing that says why");
}

// Leaves the content in c->answer.
static void call_judge(struct call *c) {
    struct buf content;
    if (c->result != OK) {
        return;
    }
    struct json *json = json_open(buf_str(&c->answer), 12 * (size_t)ANSWER_CAP);
    const struct json_value *root = json ? json_root(json) : NULL;
    struct str said = content_of(root);
    buf_init(&content, ANSWER_CAP);
    if (c->status != 200) {
        c->result = ERR_PROTOCOL;
        snprintf(c->problem, sizeof c->problem, "it answered %d: %.*s", c->status, STR_ARG(complaint_of(root)));
    } else if (!said.ptr) {
        call_fail(c, ERR_PROTOCOL, "its answer has no choices[0].message.content");
    } else if (buf_str_append(&content, said) != OK) {
        call_fail(c, ERR_NOMEM, "there is no memory for its answer");
    }
    json_close(json);
    buf_finish(&c->answer);
    c->answer = content;
}

// ---- the end

static void call_end(struct call *c) {
    call_set_state(c, CALL_OVER);
    call_judge(c);
    lab_make_plain(c->problem);
    guest_call_over(c);
}

// ---- seats

static struct seat *seat_of(const struct call *c, enum room_id id) {
    struct room *room = &c->guest->lab->rooms[id];
    return &room->seats[room->executor ? c->thread : 0];
}

// Whoever sat there until after we came is whom we waited for.
static void sit_down(struct call *c, enum room_id id, uint64_t now_ns) {
    struct seat *seat = seat_of(c, id);
    assert(!seat->sitting);
    if (seat->freed_ns > c->guest->arrived_ns) {
        memcpy(c->waited_for, seat->last_user, sizeof c->waited_for);
    }
    seat->sitting = c;
    seat->since_ns = now_ns;
    c->guest->lab->rooms[id].taken++;
    c->guest->lab->rooms[id].waiting--;
}

static void stand_up(struct call *c, enum room_id id) {
    struct seat *seat = seat_of(c, id);
    if (seat->sitting == c) {
        seat->sitting = NULL;
        seat->freed_ns = c->done_ns;
        memcpy(seat->last_user, c->guest->user, sizeof seat->last_user);
        c->guest->lab->rooms[id].taken--;
    }
}

static void on_took(struct message *m) {
    struct call *c = container_of(m, struct call, took);
    const struct pattern *p = c->guest->pattern;
    sit_down(c, p->pool, c->taken_ns);
    if (p->guard != ROOM_NONE) {
        c->guest->lab->rooms[p->guard].waiting++;
    }
    call_set_state(c, p->guard == ROOM_NONE ? CALL_CALLING : CALL_HELD);
}

static void on_sat(struct message *m) {
    struct call *c = container_of(m, struct call, sat);
    sit_down(c, c->guest->pattern->guard, c->seated_ns);
    call_set_state(c, CALL_CALLING);
}

static void on_ended(struct message *m) {
    struct call *c = container_of(m, struct call, ended);
    const struct pattern *p = c->guest->pattern;
    struct room *rooms = c->guest->lab->rooms;
    switch (c->state) {
    case CALL_QUEUED: rooms[p->pool].waiting--; break; // passed over
    case CALL_HELD:
        rooms[p->guard].waiting--;
        stand_up(c, p->pool);
        break;
    case CALL_CALLING:
        stand_up(c, p->pool);
        if (p->guard != ROOM_NONE) {
            stand_up(c, p->guard);
        }
        break;
    case CALL_OVER: break;
    }
    call_end(c);
}

// ---- on a thread

static void make_call(struct call *c) {
    const struct lab *lab = c->guest->lab;
    struct blocking_call blocking = {
        .url = lab->options.upstream.url,
        .authorization = lab->options.upstream.authorization,
        .body = buf_str(&c->guest->ask),
        .timeout_ms = CALL_TIMEOUT_MS,
        .ending = &lab->ending,
        .answer = &c->answer,
    };
    c->result = blocking_post(lab->blocking, &blocking);
    c->status = blocking.status;
    if (c->result != OK) {
        snprintf(c->problem, sizeof c->problem, "%s", blocking.problem);
    }
}

// What `ended` is posted for belongs to the loop, the guest too: the guard is given back without looking at them.
static void run(struct work *work, unsigned thread) {
    struct call *c = container_of(work, struct call, work);
    struct lab *lab = c->guest->lab;
    const struct pattern *p = c->guest->pattern;
    c->thread = thread;
    c->taken_ns = c->seated_ns = c->done_ns = lab_now_ns(lab);
    if (atomic_load(&c->guest->left) || atomic_load(&lab->ending)) {
        call_fail(c, ERR_CANCELLED, "nobody waits for it any more");
        loop_post(lab->loop, &c->ended);
        return;
    }
    loop_post(lab->loop, &c->took);
    if (p->guard != ROOM_NONE && !p->enter(lab)) {
        call_fail(c, ERR_CANCELLED, "the lab is ending");
    } else {
        c->seated_ns = lab_now_ns(lab);
        if (p->guard != ROOM_NONE) {
            loop_post(lab->loop, &c->sat);
        }
        make_call(c);
    }
    c->done_ns = lab_now_ns(lab);
    loop_post(lab->loop, &c->ended); // before the guard is free: whoever gets it next is told of later
    if (p->guard != ROOM_NONE) {
        p->leave(lab);
    }
}

// ---- on the loop

static void end_async(struct call *c) {
    timer_clear(&c->deadline);
    c->done_ns = lab_now_ns(c->guest->lab);
    c->guest->lab->in_flight--;
    call_end(c);
}

static void send_rest(struct call *c) {
    c->sent += xchg_send(&c->up, str_skip(buf_str(&c->guest->ask), c->sent), true);
}

static void send_request(struct call *c) {
    const struct lab_upstream *upstream = &c->guest->lab->options.upstream;
    struct field room[2];
    struct fields fields = FIELDS(room);
    enum err e = fields_add(&fields, STR("Content-Type"), STR("application/json"));
    if (e == OK && upstream->authorization) {
        e = fields_add(&fields, STR("Authorization"), str_c(upstream->authorization));
    }
    assert(e == OK); // there is room for both
    (void)e;
    xchg_send_head(&c->up, &(struct head){
                               .method = METHOD_POST,
                               .method_name = str_c(method_name(METHOD_POST)),
                               .target = str_c(upstream->path),
                               .authority = str_c(upstream->authority),
                               .fields = fields,
                               .body_len = (int64_t)buf_len(&c->guest->ask),
                           });
    call_set_state(c, CALL_CALLING);
    send_rest(c);
}

static void on_head(struct xchg *x, struct head *head) { container_of(x, struct call, up)->status = head->status; }

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct call *c = container_of(x, struct call, up);
    c->result = buf_str_append(&c->answer, bytes);
    if (c->result != OK) {
        xchg_abort(x);
        snprintf(c->problem, sizeof c->problem, "its answer is too long");
    }
    if (end || c->result != OK) {
        end_async(c);
    }
}

static void on_drain(struct xchg *x) {
    struct call *c = container_of(x, struct call, up);
    if (c->state == CALL_QUEUED) {
        send_request(c);
    } else {
        send_rest(c);
    }
}

static void on_fail(struct xchg *x, enum err e, const char *problem) {
    struct call *c = container_of(x, struct call, up);
    call_fail(c, e, problem);
    end_async(c);
}

static const struct xchg_events up_events = {on_head, on_body, on_drain, on_fail};

static void on_deadline(struct timer *timer) {
    struct call *c = container_of(timer, struct call, deadline);
    xchg_abort(&c->up);
    call_fail(c, ERR_TIMEOUT, "it did not answer within 15 minutes");
    end_async(c);
}

static void start_async(struct call *c) {
    struct lab *lab = c->guest->lab;
    c->taken_ns = c->seated_ns = c->guest->arrived_ns;
    c->up = (struct xchg){.events = &up_events};
    c->deadline.on_timer = on_deadline;
    timer_set(lab->loop, &c->deadline, CALL_TIMEOUT_MS);
    lab->in_flight++;
    if (client_start(&lab->origin, &c->up, true) == OK) {
        send_request(c);
    }
}

// ---- for the guest

static void refuse(struct message *m) {
    struct call *c = container_of(m, struct call, ended);
    c->taken_ns = c->seated_ns = c->done_ns = c->guest->arrived_ns;
    call_end(c);
}

void lab_call_start(struct call *c) {
    struct lab *lab = c->guest->lab;
    const struct pattern *p = c->guest->pattern;
    buf_init(&c->answer, ANSWER_CAP);
    if (p->pool == ROOM_NONE) {
        start_async(c);
        return;
    }
    c->work.run = run;
    c->took.deliver = on_took;
    c->sat.deliver = on_sat;
    c->ended.deliver = on_ended;
    lab->rooms[p->pool].waiting++;
    if (executor_submit(lab->rooms[p->pool].executor, &c->work) != OK) {
        lab->rooms[p->pool].waiting--;
        call_fail(c, ERR_FULL, "too many calls wait for a thread");
        c->ended.deliver = refuse; // not in here: the guest is still starting its calls
        loop_post(lab->loop, &c->ended);
    }
}

void lab_call_forget(struct call *c) {
    if (c->guest->pattern->pool == ROOM_NONE && c->state != CALL_OVER) {
        xchg_abort(&c->up);
        call_fail(c, ERR_CANCELLED, "nobody waits for it any more");
        end_async(c);
    }
}

static const char *name_thread(const struct call *c, enum room_id id, char out[SEAT_NAME]) {
    const struct room *room = &c->guest->lab->rooms[id];
    snprintf(out, SEAT_NAME, room->executor ? "%s-%u" : "%s", room->name, c->thread);
    return out;
}

const char *lab_call_thread(const struct call *c, char out[SEAT_NAME]) {
    const struct pattern *p = c->guest->pattern;
    return p->pool == ROOM_NONE ? "loop" : name_thread(c, p->pool, out);
}

const char *lab_call_seat(const struct call *c, char out[SEAT_NAME]) {
    const struct pattern *p = c->guest->pattern;
    return p->guard == ROOM_NONE ? lab_call_thread(c, out) : name_thread(c, p->guard, out);
}
