// SPDX-License-Identifier: MIT
// A trial on its way.
//
//   PREPARING --all are loaded (or none came for settle_ms)--> GOING --all are over--> QUIETING --> DONE
//
//   PREPARING  bursts only: up to VOLLEY_OPENING connections are being made
//   GOING      what is loaded leaves when it is due: at once, but where `due` is a timer
//   QUIETING   the canary's last look
//   DONE       `done` is on its way or was called
#include "probe/volley.h"

#include <assert.h>
#include <math.h>

#include "base/mem.h"
#include "http/sse.h"
#include "llm/reply.h"
enum { BEAT_MS = 10, QUIET_MS = 1000, TOKEN_CAP = 64 * 1024 };

enum volley_state { VOLLEY_PREPARING, VOLLEY_GOING, VOLLEY_QUIETING, VOLLEY_DONE };

struct volley_call {
    struct volley *volley;
    struct shot shot;
    struct sse sse; // --stream: of an event stream
    bool is_events;
    uint64_t last_token_ns; // on the loop's clock
    struct timer due;       // staggered, open: when to prepare it, then when to let it go
    uint64_t due_ns;        // on the loop's clock
};

struct volley {
    struct volley_setup setup;
    struct loop *loop;
    enum volley_state state;
    struct trial *trial;
    struct volley_call *calls;
    unsigned next;    // the first that was not begun
    unsigned opening; // connections being made
    struct volley_counts counts;
    struct volley_notes notes;
    struct canary canary;
    struct timer pace; // bursts: when more connections are begun
    struct timer settle;
    struct timer beat; // how late it comes is how long we were busy
    uint64_t beat_due_ns;
    struct task finished;
    struct grave grave;
    uint64_t random;
    void (*done)(void *owner);
    void *owner;
};

static void volley_set_state(struct volley *v, enum volley_state state) {
    assert(state > v->state);
    v->state = state;
}

static uint64_t clock_ns(const struct volley *v) { return v->loop->clock->now_ns(v->loop->clock); }
static uint64_t told(const struct volley *v, uint64_t ns) { return ns ? ns - v->setup.start_ns : 0; }

static bool is_together(const struct volley *v) {
    switch (v->trial->plan.kind) {
    case TRIAL_BURST:
    case TRIAL_SESSION:
    case TRIAL_STREAMS:
    case TRIAL_SLOWER: return true;
    case TRIAL_SOLO:
    case TRIAL_STAGGERED:
    case TRIAL_OPEN: break;
    }
    return false;
}

static bool is_timed(const struct volley *v) {
    return v->trial->plan.kind == TRIAL_STAGGERED || v->trial->plan.kind == TRIAL_OPEN;
}

static struct probe_call *seen_of(const struct volley_call *c) {
    return &c->volley->trial->calls[c - c->volley->calls];
}

// ---- the end

static void on_finished(struct task *task) {
    struct volley *v = container_of(task, struct volley, finished);
    v->done(v->owner);
}

static void on_quiet(void *owner) {
    struct volley *v = owner;
    volley_set_state(v, VOLLEY_DONE);
    loop_defer(v->loop, &v->finished);
}

static void become_quiet(struct volley *v) {
    volley_set_state(v, VOLLEY_QUIETING);
    v->trial->to_ns = told(v, clock_ns(v));
    timer_clear(&v->settle);
    timer_clear(&v->beat);
    canary_end(&v->canary, QUIET_MS, on_quiet, v);
}

static void progress(struct volley *v) {
    if (v->setup.on_progress) {
        v->setup.on_progress(v->owner);
    }
}

// ---- how busy we were

static void note_lag(struct volley *v, uint64_t lag_ns) { v->trial->lag_ns = MAX(v->trial->lag_ns, lag_ns); }

static void on_beat(struct timer *timer) {
    struct volley *v = container_of(timer, struct volley, beat);
    uint64_t now = clock_ns(v);
    note_lag(v, now > v->beat_due_ns ? now - v->beat_due_ns : 0);
    v->beat_due_ns = now + (uint64_t)(BEAT_MS + 1) * 1000000; // the wheel's own rounding is no lag
    timer_set(v->loop, &v->beat, BEAT_MS);
}

// ---- a call goes

static void note_sent(struct volley_call *c) {
    seen_of(c)->due_ns = told(c->volley, c->due_ns);
    c->volley->counts.sent++;
}

static void release(struct volley_call *c) {
    c->due_ns = c->due_ns ? c->due_ns : clock_ns(c->volley);
    note_sent(c);
    shot_release(&c->shot);
}

// The tight loop: nothing but writes and the clock.
static void release_together(struct volley *v) {
    uint64_t now = clock_ns(v);
    volley_set_state(v, VOLLEY_GOING);
    timer_clear(&v->settle);
    for (unsigned i = 0; i < v->trial->plan.calls; i++) {
        struct volley_call *c = &v->calls[i];
        c->due_ns = now;
        if (c->shot.state == SHOT_LOADED) {
            shot_release(&c->shot);
        }
    }
    for (unsigned i = 0; i < v->trial->plan.calls; i++) {
        if (v->calls[i].shot.state == SHOT_RELEASED) {
            note_sent(&v->calls[i]);
        }
    }
    progress(v);
}

static void begin_next(struct volley *v);
static void on_pace(struct timer *timer);

// The call on whose connection the others of a TRIAL_STREAMS are streams: they wait for it.
static bool leads(const struct volley_call *c) {
    return c->volley->trial->plan.kind == TRIAL_STREAMS && c == c->volley->calls;
}

static bool all_prepared(const struct volley *v) { return v->next == v->trial->plan.calls && v->opening == 0; }

static void on_settle(struct timer *timer) {
    struct volley *v = container_of(timer, struct volley, settle);
    release_together(v);
}

// One connection less is being made.
static void prepared(struct volley *v) {
    v->opening--;
    begin_next(v);
    if (v->state == VOLLEY_PREPARING) { // what does not come holds up the others no longer than settle_ms
        timer_set(v->loop, &v->settle, all_prepared(v) ? (uint64_t)VOLLEY_REST_MS : v->setup.settle_ms);
    }
}

static void on_due(struct timer *timer) {
    struct volley_call *c = container_of(timer, struct volley_call, due);
    if (c->shot.state == SHOT_LOADED) {
        release(c);
        progress(c->volley);
    }
}

// Rounded up to the wheel's next millisecond: nothing leaves early.
static void set_due(struct volley_call *c, uint64_t at_ns, void (*on_timer)(struct timer *timer)) {
    uint64_t now = clock_ns(c->volley);
    c->due.on_timer = on_timer;
    timer_set(c->volley->loop, &c->due, at_ns > now ? (at_ns - now + 999999) / 1000000 : 0);
}

static void on_loaded(struct shot *s) {
    struct volley_call *c = container_of(s, struct volley_call, shot);
    struct volley *v = c->volley;
    seen_of(c)->connect_ns = s->loaded_ns - s->began_ns;
    if (s->streams && s->streams < SHOT_STREAMS_MANY) {
        v->trial->streams = v->trial->streams ? MIN(v->trial->streams, s->streams) : s->streams;
    }
    if (is_timed(v) && c->due_ns > clock_ns(v)) {
        set_due(c, c->due_ns, on_due);
    } else if (!is_together(v) || v->state != VOLLEY_PREPARING) {
        release(c);
        progress(v);
    }
    prepared(v);
    if (leads(c)) {
        on_pace(&v->pace);
    }
}

// ---- what it says

static void keep_text(char to[VOLLEY_NOTE], struct str text) {
    if (!to[0]) {
        snprintf(to, VOLLEY_NOTE, "%.*s", STR_ARG(str_first(text, VOLLEY_NOTE - 1)));
    }
}

static void on_head(struct shot *s, const struct head *head) {
    struct volley_call *c = container_of(s, struct volley_call, shot);
    struct volley *v = c->volley;
    c->is_events = http_is_event_stream(&head->fields);
    for (unsigned i = 0; i < head->fields.n; i++) {
        const struct field *f = &head->fields.v[i];
        if (str_ieq(f->name, STR("Location")) && head->status >= 300 && head->status < 400) {
            keep_text(v->notes.location, f->value);
        } else if (str_ieq(f->name, STR("Set-Cookie")) && str_find(f->value, ';') < VOLLEY_NOTE) {
            keep_text(v->notes.cookie, str_first(f->value, str_find(f->value, ';')));
        }
    }
    if (!v->notes.bad_status && (head->status < 200 || head->status > 399)) {
        v->notes.bad_status = head->status;
    }
}

// ---- tokens

static void note_token(struct volley_call *c) {
    struct probe_call *seen = seen_of(c);
    uint64_t now = MAX(c->volley->loop->now_ns, c->shot.first_byte_ns);
    if (seen->first_token_ns) {
        seen->gap_ns = MAX(seen->gap_ns, now - c->last_token_ns);
    } else {
        seen->first_token_ns = told(c->volley, now);
    }
    c->last_token_ns = now;
}

// A model's event counts where it has text; one of any other making where it has data.
static bool has_content(const struct sse_event *event) {
    struct buf text;
    bool is_models = str_search(event->data, STR("\"choices\"")) < event->data.len ||
                     str_search(event->data, STR("\"type\"")) < event->data.len;
    if (!is_models || event->truncated) {
        return event->truncated || (event->data.len && !str_eq(event->data, STR("[DONE]")));
    }
    buf_init(&text, TOKEN_CAP);
    bool found = reply_delta(event->type, event->data, &text) != OK || buf_len(&text) > 0;
    buf_finish(&text);
    return found;
}

static void on_sse_event(struct sse *sse, const struct sse_event *event) {
    if (has_content(event)) {
        note_token(container_of(sse, struct volley_call, sse));
    }
}

static void on_body(struct shot *s, struct str bytes) {
    struct volley_call *c = container_of(s, struct volley_call, shot);
    if (c->is_events) {
        sse_feed(&c->sse, bytes);
    } else {
        note_token(c); // any other stream: a piece as it arrives
    }
}

// ---- the end of a call

static void write_down(struct volley_call *c) {
    struct probe_call *seen = seen_of(c);
    const struct shot *s = &c->shot;
    const struct volley *v = c->volley;
    seen->sent_ns = told(v, s->sent_ns);
    seen->first_byte_ns = told(v, s->first_byte_ns);
    seen->end_ns = told(v, s->end_ns);
    seen->bytes = s->bytes;
    seen->status = s->error == OK || s->error == ERR_CUT ? s->status : 0;
    seen->error = s->error;
    seen->retransmitted = s->retransmitted;
    seen->turned_away = s->turned_away;
    seen->http = s->http == SHOT_HTTP_2 ? 2 : s->http == SHOT_HTTP_1 ? 1 : 0;
}

static void on_over(struct shot *s) {
    struct volley_call *c = container_of(s, struct volley_call, shot);
    struct volley *v = c->volley;
    timer_clear(&c->due);
    write_down(c);
    v->counts.over++;
    v->counts.failed += s->error != OK || s->status > 399;
    note_lag(v, clock_ns(v) - v->loop->now_ns);
    if (s->error != OK) {
        keep_text(v->notes.problem, str_c(s->problem));
    }
    if (!s->loaded_ns) {
        prepared(v);
        if (leads(c)) {
            on_pace(&v->pace);
        }
    } else if (v->trial->plan.kind == TRIAL_SOLO) {
        begin_next(v);
    }
    progress(v);
    if (v->counts.over == v->trial->plan.calls) {
        if (v->state == VOLLEY_PREPARING) { // they all failed before
            volley_set_state(v, VOLLEY_GOING);
        }
        become_quiet(v);
    }
}

static const struct shot_events call_events = {.on_loaded = on_loaded, .on_head = on_head, .on_over = on_over};
static const struct shot_events stream_events = {on_loaded, on_head, on_body, on_over};

// ---- a call is prepared

// Its cookie: the one that all have in common, one of his own, or none.
static struct str cookie_of(const struct volley *v, uint64_t nonce, struct probe_call *seen, char room[VOLLEY_NOTE]) {
    char text[NONCE_TEXT];
    if (v->trial->plan.kind == TRIAL_SESSION) {
        seen->session = 1;
        return v->setup.shared_cookie;
    }
    if (!v->setup.question->session.len) {
        return STR("");
    }
    seen->session = seen->user;
    struct str value = nonce_format(nonce, text);
    int n = snprintf(room, VOLLEY_NOTE, "%.*s=%.*s", STR_ARG(v->setup.question->session), STR_ARG(value));
    return str_from(room, MIN((size_t)n, VOLLEY_NOTE - 1));
}

static void begin(struct volley_call *c) {
    struct volley *v = c->volley;
    struct probe_call *seen = seen_of(c);
    char room[VOLLEY_NOTE];
    struct asker asker = {.user = seen->user, .nonce = seen->nonce, .cookie = cookie_of(v, seen->nonce, seen, room)};
    c->shot.events = v->setup.stream ? &stream_events : &call_events;
    sse_init(&c->sse, on_sse_event);
    c->shot.connect_ms = v->setup.connect_ms;
    c->shot.timeout_ms = v->setup.timeout_ms;
    buf_init(&c->shot.body, QUESTION_CAP);
    v->opening++;
    enum err e = question_ask(v->setup.question, &asker, &c->shot.head, &c->shot.body);
    const struct shot *first = &v->calls[0].shot;
    bool joins = v->trial->plan.kind == TRIAL_STREAMS && !leads(c);
    if (e == OK && joins && (first->state == SHOT_OVER || first->http != SHOT_HTTP_2)) {
        e = ERR_RESET;
    }
    if (e != OK) {
        shot_refuse(&c->shot, &v->setup.aim, e);
    } else if (joins) {
        shot_join(&c->shot, first);
    } else {
        shot_start(&c->shot, &v->setup.aim);
    }
}

static void on_begin(struct timer *timer) { begin(container_of(timer, struct volley_call, due)); }

static void begin_next(struct volley *v) {
    unsigned most = v->trial->plan.kind == TRIAL_SOLO ? v->counts.over + 1 : 0;
    while (v->next < MIN(v->trial->plan.calls, most)) {
        begin(&v->calls[v->next++]);
    }
}

// Connecting is done when the kernel of the server says so, not when its program accepts: the listening queue is spared by
// the clock.
static void on_pace(struct timer *timer) {
    struct volley *v = container_of(timer, struct volley, pace);
    unsigned calls = v->trial->plan.calls;
    if (leads(&v->calls[0]) && v->next && v->calls[0].shot.state < SHOT_LOADED) {
        return; // comes again with it
    }
    unsigned some = MAX((unsigned)VOLLEY_EACH_MS, calls / VOLLEY_PREPARED_MS);
    for (unsigned i = 0; i < some && v->next < calls && v->opening < VOLLEY_OPENING; i++) {
        struct volley_call *c = &v->calls[v->next++];
        begin(c);
        if (leads(c)) {
            return;
        }
    }
    if (v->next < calls) {
        timer_set(v->loop, &v->pace, 1);
    }
}

// ---- when each is due

// Between 0 and 1, neither of which it is (splitmix64; Steele, Lea, Flood 2014).
static double draw(struct volley *v) {
    uint64_t z = v->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return ((double)((z ^ (z >> 31)) >> 12) + 0.5) / 4503599627370496.0;
}

static void schedule(struct volley *v) {
    const struct trial_plan *plan = &v->trial->plan;
    double at = (double)clock_ns(v) + (double)v->setup.lead_ms * 1e6;
    for (unsigned i = 0; i < plan->calls; i++) {
        struct volley_call *c = &v->calls[i];
        c->due_ns = (uint64_t)at;
        set_due(c, c->due_ns - v->setup.lead_ms * 1000000, on_begin);
        at += plan->kind == TRIAL_OPEN ? -log(draw(v)) / plan->rate * 1e9 : (double)plan->gap_ns;
    }
    v->next = plan->calls;
}

// ---- asked from outside

static void open_canary(struct volley *v) {
    v->canary = (struct canary){
        .aim = v->setup.aim,
        .authority = v->setup.question->authority,
        .path = v->setup.canary_path,
        .every_ms = v->setup.canary_ms,
        .timeout_ms = v->setup.timeout_ms,
        .start_ns = v->setup.start_ns,
    };
    canary_start(&v->canary);
}

static struct trial *trial_create(const struct trial_plan *plan) {
    struct trial *t = xcalloc(1, sizeof *t);
    t->plan = *plan;
    t->calls = xcalloc(plan->calls, sizeof *t->calls);
    return t;
}

void trial_destroy(struct trial *t) {
    if (t) {
        free(t->calls);
        free(t->canaries);
        free(t);
    }
}

struct volley *volley_start(const struct volley_setup *setup, const struct trial_plan *plan, void (*done)(void *owner),
                            void *owner) {
    struct volley *v = xcalloc(1, sizeof *v);
    assert(plan->calls > 0);
    v->setup = *setup;
    v->loop = setup->aim.loop;
    v->trial = trial_create(plan);
    v->calls = xcalloc(plan->calls, sizeof *v->calls);
    v->done = done;
    v->owner = owner;
    v->random = setup->seed;
    v->pace.on_timer = on_pace;
    v->settle.on_timer = on_settle;
    v->beat.on_timer = on_beat;
    v->finished.run = on_finished;
    for (unsigned i = 0; i < plan->calls; i++) {
        v->calls[i].volley = v;
        v->trial->calls[i].user = i + 1;
        v->trial->calls[i].nonce = nonce_make(setup->run, setup->calls_before + i + 1);
    }
    v->trial->from_ns = told(v, clock_ns(v));
    v->beat_due_ns = clock_ns(v) + (uint64_t)(BEAT_MS + 1) * 1000000;
    timer_set(v->loop, &v->beat, BEAT_MS);
    open_canary(v);
    if (is_timed(v)) {
        volley_set_state(v, VOLLEY_GOING);
        schedule(v);
        return v;
    }
    if (is_together(v)) {
        on_pace(&v->pace);
    } else {
        volley_set_state(v, VOLLEY_GOING);
        begin_next(v);
    }
    return v;
}

struct volley_counts volley_counts(const struct volley *v) {
    return v->counts;
}
const struct volley_notes *volley_notes(const struct volley *v) { return &v->notes; }

static void measure_skew(struct trial *t) {
    uint64_t first = UINT64_MAX;
    uint64_t last = 0;
    for (unsigned i = 0; i < t->plan.calls; i++) {
        if (t->calls[i].sent_ns) {
            first = MIN(first, t->calls[i].sent_ns);
            last = MAX(last, t->calls[i].sent_ns);
        }
    }
    t->skew_ns = last > first ? last - first : 0;
}

static void break_off(struct volley *v) {
    for (unsigned i = 0; i < v->trial->plan.calls; i++) {
        struct volley_call *c = &v->calls[i];
        timer_clear(&c->due);
        if (c->shot.state != SHOT_OVER) {
            write_down(c);
            seen_of(c)->error = ERR_CANCELLED;
            seen_of(c)->status = 0;
            seen_of(c)->end_ns = told(v, clock_ns(v));
        }
        shot_close(&c->shot);
        sse_finish(&c->sse);
    }
    v->trial->to_ns = v->trial->to_ns ? v->trial->to_ns : told(v, clock_ns(v));
}

// The turn in which it was asked for may still look at the shots.
static void bury(struct grave *grave) {
    struct volley *v = container_of(grave, struct volley, grave);
    free(v->calls);
    free(v);
}

struct trial *volley_end(struct volley *v) {
    struct trial *t = v->trial;
    break_off(v);
    t->canary_count = canary_take(&v->canary, &t->canaries);
    if (is_together(v)) {
        measure_skew(t);
    }
    canary_close(&v->canary);
    timer_clear(&v->pace);
    timer_clear(&v->settle);
    timer_clear(&v->beat);
    task_cancel(&v->finished);
    loop_bury(v->loop, &v->grave, bury);
    return t;
}
