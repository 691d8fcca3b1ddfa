// SPDX-License-Identifier: MIT
// Trials against the mock in memory, on a fake clock: what came back when is known to the millisecond.
#include "probe/volley.h"

#include "check.h"
#include "mock/inside.h"
#include "net/mem.h"

enum { MS = 1000000, LATENCY = 1000 };
#define CHAT_BODY "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"one two three\"}]}"

struct world {
    struct fake_clock fake;
    struct loop loop;
    struct mock *mock;
    struct question question;
    struct volley_setup setup;
    struct volley *volley;
    bool done;
    unsigned told;
    // a server of the test's own, instead of the mock
    void (*on_conn)(struct world *w, struct conn *c);
    struct h2_side *h2;
    unsigned mock_conns;
    struct conn *far[VOLLEY_OPENING + 2]; // NULL: it has closed it
    unsigned conns;
    unsigned whole; // requests that are all there, and how many bytes came before
    size_t early;
};

static struct conn *connect_mock(void *context) {
    struct world *w = context;
    w->mock_conns++;
    return mock_connect(w->mock);
}

static void world_init(struct world *w, const char *capacity, const char *body) {
    struct mock_options options = {.times.latency = LATENCY_MS(LATENCY)};
    *w = (struct world){.done = false};
    fake_clock_init(&w->fake);
    w->setup.start_ns = w->fake.ns;
    w->fake.ns += (uint64_t)1000 * MS;
    check_ok(loop_init(&w->loop, &(struct loop_options){.clock = &w->fake.clock}));
    if (capacity) {
        check(capacity_parse(str_c(capacity), &options.capacity) == NULL);
    }
    w->mock = mock_create(&w->loop, &options);
    w->question = (struct question){
        .method = STR("POST"),
        .target = STR("/v1/chat/completions"),
        .authority = STR("app"),
        .body = str_c(body),
        .has_body = true,
    };
    w->setup = (struct volley_setup){
        .aim = {.loop = &w->loop, .connect_local = connect_mock, .context = w},
        .question = &w->question,
        .start_ns = w->setup.start_ns,
        .run = 7,
        .connect_ms = 1000,
        .timeout_ms = 60 * 1000,
        .settle_ms = 500,
        .lead_ms = 20,
        .seed = 1,
    };
}

static void world_finish(struct world *w) {
    for (unsigned i = 0; i < w->conns; i++) {
        if (w->far[i]) {
            conn_close(w->far[i]);
        }
    }
    mock_destroy(w->mock);
    loop_finish(&w->loop);
    shot_side_destroy(w->h2);
}

static void speak_h2(struct world *w) {
    w->setup.aim.h2 = w->h2 = shot_side_create(&w->loop);
    w->setup.aim.speaks = ORIGIN_H2;
}

static void on_done(void *owner) { ((struct world *)owner)->done = true; }
static void on_progress(void *owner) { ((struct world *)owner)->told++; }

static void settle(struct world *w) {
    while (loop_turn(&w->loop, 0)) {
    }
}

static void start(struct world *w, struct trial_plan plan) {
    w->setup.on_progress = on_progress;
    w->done = false;
    w->volley = volley_start(&w->setup, &plan, on_done, w);
    settle(w);
}

// Lets time pass, timer by timer, for so long or until all calls are over.
static void pass_ms(struct world *w, uint64_t ms) {
    uint64_t until = w->fake.ns / MS + ms;
    settle(w);
    while (!w->done && wheel_next_ms(&w->loop.wheel) <= until) {
        w->fake.ns = MAX(wheel_next_ms(&w->loop.wheel) * MS, w->fake.ns);
        settle(w);
    }
}

static struct trial *finish(struct world *w) {
    pass_ms(w, 600 * 1000);
    check(w->done);
    struct trial *t = volley_end(w->volley);
    settle(w);
    return t;
}

static struct trial *run(struct world *w, struct trial_plan plan) {
    start(w, plan);
    return finish(w);
}

static uint64_t took_ms(const struct probe_call *c) { return (c->end_ns - c->sent_ns) / MS; }

// ---- kinds of trials

static void a_burst_shows_the_pool(void **state UNUSED) {
    struct world w;
    world_init(&w, "pool:3", CHAT_BODY);
    struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = 7});
    for (unsigned i = 0; i < 7; i++) {
        const struct probe_call *c = &t->calls[i];
        check_int(c->user, i + 1);
        check_int(c->error, OK);
        check_int(c->status, 200);
        check_int(took_ms(c), (i / 3 + 1) * LATENCY);
        check(c->due_ns == t->calls[0].due_ns);
        check(c->nonce == nonce_make(7, i + 1));
        check(c->bytes > 0 && c->first_byte_ns == c->end_ns);
    }
    check_int(t->skew_ns, 0);
    check(w.told >= 7);
    trial_destroy(t);
    world_finish(&w);
}

static void calls_alone_follow_each_other(void **state UNUSED) {
    struct world w;
    world_init(&w, "lock", CHAT_BODY);
    struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_SOLO, .calls = 3});
    for (unsigned i = 0; i < 3; i++) {
        check_int(took_ms(&t->calls[i]), LATENCY);
        check(i == 0 || t->calls[i].sent_ns >= t->calls[i - 1].end_ns);
    }
    check_int(t->skew_ns, 0);
    trial_destroy(t);
    world_finish(&w);
}

static void staggered_calls_leave_when_they_are_due(void **state UNUSED) {
    struct world w;
    world_init(&w, "lock", CHAT_BODY);
    struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_STAGGERED, .calls = 3, .gap_ns = (uint64_t)200 * MS});
    for (unsigned i = 0; i < 3; i++) {
        check(t->calls[i].due_ns == t->calls[0].due_ns + (uint64_t)i * 200 * MS);
        check(t->calls[i].sent_ns >= t->calls[i].due_ns && t->calls[i].sent_ns < t->calls[i].due_ns + 2 * MS);
        check_int(took_ms(&t->calls[i]) / 100, ((i + 1) * LATENCY - i * 200) / 100);
    }
    trial_destroy(t);
    world_finish(&w);
}

static void open_calls_come_at_their_rate_and_the_same_again(void **state UNUSED) {
    struct world w;
    uint64_t dues[2][400];
    for (int again = 0; again < 2; again++) {
        world_init(&w, NULL, CHAT_BODY);
        struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_OPEN, .calls = 400, .rate = 20});
        for (unsigned i = 0; i < 400; i++) {
            dues[again][i] = t->calls[i].due_ns;
            check(t->calls[i].sent_ns >= t->calls[i].due_ns);
            check_int(took_ms(&t->calls[i]), LATENCY);
        }
        uint64_t span_ms = (t->calls[399].due_ns - t->calls[0].due_ns) / MS;
        check(span_ms > 16 * 1000 && span_ms < 24 * 1000); // four standard deviations about 20 s
        trial_destroy(t);
        world_finish(&w);
    }
    check(memcmp(dues[0], dues[1], sizeof dues[0]) == 0);
}

static void a_session_is_one_cookie(void **state UNUSED) {
    struct world w;
    world_init(&w, "session", CHAT_BODY);
    w.question.session = STR("sid");
    w.setup.shared_cookie = STR("sid=same");
    struct trial *apart = run(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = 3});
    struct trial *same = run(&w, (struct trial_plan){.kind = TRIAL_SESSION, .calls = 3});
    for (unsigned i = 0; i < 3; i++) {
        check_int(took_ms(&apart->calls[i]), LATENCY);
        check_int(apart->calls[i].session, i + 1);
        check_int(took_ms(&same->calls[i]), (i + 1) * LATENCY);
        check_int(same->calls[i].session, 1);
    }
    trial_destroy(apart);
    trial_destroy(same);
    world_finish(&w);
}

static void streams_have_first_tokens_and_gaps(void **state UNUSED) {
    struct world w;
    world_init(&w, NULL,
               "{\"model\":\"mock-5x100ms\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}");
    w.setup.stream = true;
    struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = 2});
    for (unsigned i = 0; i < 2; i++) {
        const struct probe_call *c = &t->calls[i];
        check(c->first_token_ns > 0 && c->first_token_ns < c->end_ns);
        check_int(c->gap_ns / MS, 100);
        check(c->end_ns >= c->first_token_ns + (uint64_t)400 * MS);
    }
    trial_destroy(t);
    world_finish(&w);
}

static void refused_calls_have_their_status(void **state UNUSED) {
    struct world w;
    world_init(&w, "cap:2", CHAT_BODY);
    start(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = 5});
    pass_ms(&w, 600 * 1000);
    check_int(volley_notes(w.volley)->bad_status, 429);
    check_int(volley_counts(w.volley).failed, 3);
    struct trial *t = finish(&w);
    for (unsigned i = 0; i < 5; i++) {
        check_int(t->calls[i].status, i < 2 ? 200 : 429);
        check_int(took_ms(&t->calls[i]), i < 2 ? LATENCY : 0);
    }
    trial_destroy(t);
    world_finish(&w);
}

// ---- the canary

static void the_canary_is_asked_while_calls_run(void **state UNUSED) {
    struct world w;
    world_init(&w, "lock", CHAT_BODY);
    w.setup.canary_path = STR("/healthz");
    w.setup.canary_ms = 50;
    struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = 2});
    check(t->canary_count >= 30 && t->canary_count <= 42); // two seconds
    for (unsigned i = 0; i < t->canary_count; i++) {
        check_int(t->canaries[i].status, 200);
        check(t->canaries[i].end_ns - t->canaries[i].sent_ns < 5 * MS);
    }
    trial_destroy(t);
    world_finish(&w);
}

// ---- servers that behave otherwise

static void on_server_event(struct conn *c, unsigned events) {
    struct world *w = c->owner;
    char bytes[4096];
    size_t n = 0;
    while ((events & CONN_READABLE) && conn_read(c, bytes, sizeof bytes, &n) == OK) {
        w->early += n;
        w->whole += str_search(str_from(bytes, n), STR("}]}")) < n;
    }
}

static struct conn *connect_server(void *context) {
    struct world *w = context;
    struct conn *near = NULL;
    struct conn *far = NULL;
    mem_pair(&w->loop, MEM_WINDOW, &near, &far);
    far->owner = w;
    far->on_event = on_server_event;
    w->far[w->conns++] = far;
    w->on_conn(w, far);
    return near;
}

static void serve(struct world *w, void (*on_conn)(struct world *w, struct conn *c)) {
    w->on_conn = on_conn;
    w->setup.aim.connect_local = connect_server;
}

static void stay(struct world *w UNUSED, struct conn *c UNUSED) {}

static void close_it(struct world *w, struct conn *c) {
    conn_close(c);
    w->far[w->conns - 1] = NULL;
}

static void say(struct conn *c, const char *text) {
    struct iovec v = {(void *)(uintptr_t)text, strlen(text)};
    size_t written = 0;
    check_ok(conn_writev(c, &v, 1, &written));
    check_int(written, v.iov_len);
}

static void say_too_early(struct world *w UNUSED, struct conn *c) { say(c, "HTTP/1.1 408 Late\r\n\r\n"); }

static void a_server_that_hangs_runs_into_the_timeout(void **state UNUSED) {
    struct world w;
    world_init(&w, NULL, CHAT_BODY);
    serve(&w, stay);
    w.setup.timeout_ms = 300;
    start(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = 3});
    pass_ms(&w, VOLLEY_REST_MS + 1);
    check_int(w.conns, 3);
    check_int(w.whole, 3);
    pass_ms(&w, 600 * 1000);
    check(str_search(str_c(volley_notes(w.volley)->problem), STR("no whole answer within 300ms")) == 0);
    struct trial *t = finish(&w);
    for (unsigned i = 0; i < 3; i++) {
        check_int(t->calls[i].error, ERR_TIMEOUT);
        check_int(t->calls[i].status, 0);
        check(took_ms(&t->calls[i]) >= 300 && took_ms(&t->calls[i]) <= 302);
    }
    trial_destroy(t);
    world_finish(&w);
}

static const struct {
    void (*on_conn)(struct world *w, struct conn *c);
    enum err error;
} rude[] = {{close_it, ERR_RESET}, {say_too_early, ERR_PROTOCOL}};

// Two more than are opened at a time: the first wait for the last.
static void servers_that_do_not_wait_for_the_request(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(rude); i++) {
        struct world w;
        world_init(&w, NULL, CHAT_BODY);
        serve(&w, rude[i].on_conn);
        struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = VOLLEY_OPENING + 2});
        for (unsigned k = 0; k < VOLLEY_OPENING; k++) {
            check_int(t->calls[k].error, rude[i].error);
            check_int(t->calls[k].status, 0);
        }
        trial_destroy(t);
        world_finish(&w);
    }
}

// While a connection is missing nothing leaves: the server has no whole head, and nothing of the body.
static void break_the_third(struct world *w, struct conn *c) {
    if (w->conns == 3) {
        mem_break(c);
    }
}

static void nobody_leaves_before_all_are_ready(void **state UNUSED) {
    struct world w;
    world_init(&w, NULL, CHAT_BODY);
    serve(&w, break_the_third);
    w.setup.timeout_ms = 100;
    start(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = VOLLEY_OPENING + 2});
    check_int(w.conns, VOLLEY_EACH_MS); // a few each millisecond
    pass_ms(&w, VOLLEY_OPENING / VOLLEY_EACH_MS - 1);
    check_int(w.conns, VOLLEY_OPENING);
    check_int(volley_counts(w.volley).sent, 0);
    check_int(w.whole, 0);
    pass_ms(&w, 1);
    check_int(w.conns, VOLLEY_OPENING + 2);
    check_int(w.whole, 0);
    pass_ms(&w, VOLLEY_REST_MS);
    check_int(w.whole, VOLLEY_OPENING + 1);
    struct trial *t = finish(&w);
    check_int(t->calls[2].error, ERR_RESET);
    trial_destroy(t);
    world_finish(&w);
}

// ---- HTTP/2

static void in_http2_a_burst_is_the_same(void **state UNUSED) {
    struct world w;
    world_init(&w, "pool:3", CHAT_BODY);
    speak_h2(&w);
    struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = 7});
    for (unsigned i = 0; i < 7; i++) {
        const struct probe_call *c = &t->calls[i];
        check_int(c->error, OK);
        check_int(c->http, 2);
        check_int(took_ms(c), (i / 3 + 1) * LATENCY);
        check(c->bytes > 0 && c->sent_ns >= c->due_ns);
    }
    check_int(t->streams, 100); // as the mock says
    trial_destroy(t);
    world_finish(&w);
}

static void calls_of_one_connection_leave_together(void **state UNUSED) {
    struct world w;
    world_init(&w, "pool:3", CHAT_BODY);
    speak_h2(&w);
    w.question.session = STR("sid");
    struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_STREAMS, .calls = 100});
    for (unsigned i = 0; i < 100; i++) {
        check_int(t->calls[i].error, OK);
        check_int(took_ms(&t->calls[i]), (i / 3 + 1) * LATENCY);
        check_int(t->calls[i].session, i + 1);
        check(t->calls[i].due_ns == t->calls[0].due_ns);
    }
    check_int(w.mock_conns, 1);
    trial_destroy(t);
    world_finish(&w);
}

static void more_than_one_connection_takes_are_turned_away(void **state UNUSED) {
    struct world w;
    world_init(&w, NULL, CHAT_BODY);
    speak_h2(&w);
    struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_STREAMS, .calls = 103});
    for (unsigned i = 0; i < 103; i++) {
        check_int(t->calls[i].error, i < 100 ? OK : ERR_FULL);
        check_int(t->calls[i].turned_away, i >= 100);
    }
    trial_destroy(t);
    world_finish(&w);
}

// In HTTP/1.1 nobody can join the first; nor where the first is lost.
static void without_http2_there_is_no_other_stream(void **state UNUSED) {
    for (int lost = 0; lost < 2; lost++) {
        struct world w;
        world_init(&w, NULL, CHAT_BODY);
        if (lost) {
            speak_h2(&w);
            serve(&w, close_it);
        }
        struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_STREAMS, .calls = 3});
        check_int(t->calls[0].error, lost ? ERR_RESET : OK);
        check_int(t->calls[1].error, ERR_RESET);
        check_int(t->calls[2].error, ERR_RESET);
        trial_destroy(t);
        world_finish(&w);
    }
}

static void streams_of_http2_have_first_tokens_and_gaps(void **state UNUSED) {
    struct world w;
    world_init(&w, NULL,
               "{\"model\":\"mock-5x100ms\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}");
    speak_h2(&w);
    w.setup.stream = true;
    struct trial *t = run(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = 2});
    for (unsigned i = 0; i < 2; i++) {
        check(t->calls[i].first_token_ns > 0 && t->calls[i].first_token_ns < t->calls[i].end_ns);
        check_int(t->calls[i].gap_ns / MS, 100);
    }
    trial_destroy(t);
    world_finish(&w);
}

static void calls_of_one_connection_may_be_broken_off(void **state UNUSED) {
    struct world w;
    world_init(&w, "lock", CHAT_BODY);
    speak_h2(&w);
    start(&w, (struct trial_plan){.kind = TRIAL_STREAMS, .calls = 3});
    pass_ms(&w, LATENCY + 500);
    struct trial *t = volley_end(w.volley);
    settle(&w);
    check_int(t->calls[0].error, OK);
    check_int(t->calls[1].error, ERR_CANCELLED);
    check_int(t->calls[2].error, ERR_CANCELLED);
    trial_destroy(t);
    world_finish(&w);
}

// ---- broken off

static void what_is_broken_off_is_cancelled(void **state UNUSED) {
    struct world w;
    world_init(&w, "lock", CHAT_BODY);
    start(&w, (struct trial_plan){.kind = TRIAL_BURST, .calls = 3});
    pass_ms(&w, LATENCY + 500);
    check_int(volley_counts(w.volley).over, 1);
    struct trial *t = volley_end(w.volley);
    settle(&w);
    check_int(t->calls[0].error, OK);
    check_int(t->calls[1].error, ERR_CANCELLED);
    check_int(t->calls[2].error, ERR_CANCELLED);
    check(t->calls[2].sent_ns > 0 && t->calls[2].end_ns > t->calls[2].sent_ns);
    trial_destroy(t);
    world_finish(&w);
}

TESTS(TEST(a_burst_shows_the_pool), TEST(calls_alone_follow_each_other), TEST(staggered_calls_leave_when_they_are_due),
      TEST(open_calls_come_at_their_rate_and_the_same_again), TEST(a_session_is_one_cookie),
      TEST(streams_have_first_tokens_and_gaps), TEST(refused_calls_have_their_status),
      TEST(the_canary_is_asked_while_calls_run), TEST(a_server_that_hangs_runs_into_the_timeout),
      TEST(servers_that_do_not_wait_for_the_request), TEST(nobody_leaves_before_all_are_ready),
      TEST(what_is_broken_off_is_cancelled), TEST(in_http2_a_burst_is_the_same),
      TEST(calls_of_one_connection_leave_together), TEST(more_than_one_connection_takes_are_turned_away),
      TEST(without_http2_there_is_no_other_stream), TEST(streams_of_http2_have_first_tokens_and_gaps),
      TEST(calls_of_one_connection_may_be_broken_off))
