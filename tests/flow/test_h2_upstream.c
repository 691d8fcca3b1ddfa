// SPDX-License-Identifier: MIT
// The upstream's rows of docs/internals/close-table.md where it speaks HTTP/2: what its frames, its goodbyes and its
// silence do to the client, to the next try, to the outcome, and to the other calls on the same connection.
#include "flow.h"
#include "h2_frames.h"

#define OK_HEAD ":status: 200\ncontent-type: application/json"
#define EVENTS_HEAD ":status: 200\ncontent-type: text/event-stream"
#define EVENT "data: {\"x\":1}\n\n"

struct flow {
    struct world w;
    struct peer *client;
    struct h2_log said[3]; // by the gateway, on the first connections to `a` or `up`
};

static const char *upstream_of(const struct flow *f) { return f->w.upstreams[0].name; }
static struct peer *up(struct flow *f, unsigned nth) { return upstream_peer(&f->w, upstream_of(f), nth); }

// What came on the nth connection since it was looked at last.
static struct str came(struct flow *f, unsigned nth) { return h2_log_read(&f->said[nth], got(up(f, nth))); }

static void open_flow(struct flow *f, const char *yaml) {
    world_open(&f->w, yaml);
    for (unsigned i = 0; i < f->w.config->upstream_count; i++) {
        f->w.worker.setup->upstreams[i].origin.speaks = ORIGIN_H2;
    }
    for (size_t i = 0; i < ARRAY_LEN(f->said); i++) {
        h2_log_init(&f->said[i]);
    }
    f->client = client_open(&f->w);
}

static void close_flow(struct flow *f) {
    for (size_t i = 0; i < ARRAY_LEN(f->said); i++) {
        h2_log_finish(&f->said[i]);
    }
    world_close(&f->w);
}

static struct buf frames(void) {
    struct buf b;
    buf_init(&b, 1 << 20);
    return b;
}
static void say(struct peer *p, struct buf *frames_of) {
    send_bytes(p, buf_str(frames_of));
    buf_finish(frames_of);
}
static void say_settings(struct peer *p, uint32_t streams) {
    struct buf b = frames();
    put_setting(&b, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams);
    say(p, &b);
}
static void say_head(struct peer *p, unsigned id, const char *lines) {
    struct buf b = frames();
    put_head(&b, 0, id, lines);
    say(p, &b);
}
static void say_data(struct peer *p, unsigned id, const char *text, bool end) {
    struct buf b = frames();
    put_frame(&b, F_DATA, end ? F_END_STREAM : 0, id, str_c(text));
    say(p, &b);
}
static void say_reset(struct peer *p, unsigned id, uint32_t code) {
    struct buf b = frames();
    put_number_frame(&b, F_RST, id, code);
    say(p, &b);
}
static void say_goaway(struct peer *p, unsigned last) {
    struct buf b = frames();
    put_goaway(&b, last, H2_NO_ERROR);
    say(p, &b);
}
static void say_answer(struct peer *p, unsigned id) {
    say_head(p, id, OK_HEAD);
    say_data(p, id, "{}", true);
}

// A call that has reached the upstream whole, as stream 1 of its first connection.
static void begin(struct flow *f, const char *yaml) {
    open_flow(f, yaml);
    client_post(f->client, CHAT_PATH, CHAT);
    say_settings(up(f, 0), 100);
    struct str log = came(f, 0);
    check(str_starts(log, STR("SETTINGS|WINDOW 983041|HEADERS 1|DATA 1 ")));
    check(str_ends(log, STR(" end|")));
    check_str(buf_str(&f->said[0].body), CHAT);
}

static struct peer *another(struct flow *f) {
    struct peer *client = client_open(&f->w);
    client_post(client, CHAT_PATH, CHAT);
    return client;
}

static void check_error(struct peer *client, int status, const char *says) {
    struct parsed m = message_at(client, 0);
    check_int(m.status, status);
    check(m.whole);
    check_has(client, says);
}
static void check_whole(struct peer *client) {
    struct parsed m = message_at(client, 0);
    check_int(m.status, 200);
    check(m.whole);
    check_str(m.body, "{}");
}
static void check_broken_off(struct peer *client) {
    check(!message_at(client, 0).whole);
    check(client->end != OK);
}

// ---- answers

static void h2_answer_is_relayed_whole(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM);
    struct str heads = buf_str(&f.said[0].heads);
    check(str_starts(heads, STR(":method: POST\n:scheme: http\n:authority: mock\n:path: /chat/completions\n")));
    check(str_search(heads, STR("connection")) == heads.len && str_search(heads, STR("\nhost")) == heads.len);
    say_answer(up(&f, 0), 1);
    check_whole(f.client);
    check_open(up(&f, 0));
    check_only(&f.w, OUTCOME_COMPLETE, 1);
    close_flow(&f);
}

static void h2_calls_share_a_connection(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM);
    struct peer *second = another(&f);
    struct peer *third = another(&f);
    check_int(upstream_count(&f.w, "up"), 1);
    say_answer(up(&f, 0), 5);
    say_answer(up(&f, 0), 1);
    check_whole(third);
    check_whole(f.client);
    check_int(message_at(second, 0).none, true);
    say_answer(up(&f, 0), 3);
    check_whole(second);
    check_only(&f.w, OUTCOME_COMPLETE, 3);
    close_flow(&f);
}

static void h2_call_above_the_limit_opens_a_connection(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM);
    say_settings(up(&f, 0), 1);
    struct peer *second = another(&f);
    check_int(upstream_count(&f.w, "up"), 2);
    say_settings(up(&f, 1), 1);
    say_answer(up(&f, 1), 1);
    check_whole(second);
    say_answer(up(&f, 0), 1);
    check_whole(f.client);
    check_only(&f.w, OUTCOME_COMPLETE, 2);
    close_flow(&f);
}

// ---- ends and breaks

static void h2_stream_reset_before_its_answer_is_told(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS);
    struct peer *second = another(&f);
    say_reset(up(&f, 0), 1, H2_INTERNAL);
    check_error(f.client, 502, "The upstream 'a' (mock) failed: the upstream broke the stream off.");
    say_answer(up(&f, 0), 3); // the other one goes on
    check_whole(second);
    check_int(upstream_count(&f.w, "b"), 0); // it may have been billed: nobody is asked again
    check_int(outcomes_of(&f.w, OUTCOME_UPSTREAM_LOST), 1);
    check_int(outcomes_of(&f.w, OUTCOME_COMPLETE), 1);
    close_flow(&f);
}

static void h2_connection_lost_before_the_answers_is_told_to_all(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS);
    struct peer *second = another(&f);
    close_peer(up(&f, 0));
    check_error(f.client, 502, "The upstream 'a' (mock) failed: the upstream closed the connection without an answer.");
    check_error(second, 502, "The upstream 'a' (mock) failed: the upstream closed the connection without an answer.");
    check_int(upstream_count(&f.w, "a"), 1);
    check_int(upstream_count(&f.w, "b"), 0);
    check_only(&f.w, OUTCOME_UPSTREAM_LOST, 2);
    close_flow(&f);
}

static void h2_refused_stream_is_tried_once_more_for_free(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS);
    say_reset(up(&f, 0), 1, H2_REFUSED);
    check_int(upstream_count(&f.w, "a"), 2);
    check(str_starts(came(&f, 1), STR("SETTINGS|WINDOW 983041|HEADERS 1|")));
    check_str(buf_str(&f.said[1].body), CHAT);
    say_settings(up(&f, 1), 100);
    say_answer(up(&f, 1), 1);
    check_whole(f.client);
    check_int(upstream_count(&f.w, "b"), 0);
    check_only(&f.w, OUTCOME_COMPLETE, 1);
    close_flow(&f);
}

static void refuse_twice(struct flow *f) {
    say_reset(up(f, 0), 1, H2_REFUSED);
    say_settings(up(f, 1), 100);
    say_reset(up(f, 1), 1, H2_REFUSED);
    check_int(upstream_count(&f->w, upstream_of(f)), 2);
}

static void h2_stream_refused_twice_is_told(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM);
    refuse_twice(&f);
    check_error(f.client, 503, "the upstream refused the stream");
    check_has(f.client, "Retry-After: 1");
    check_only(&f.w, OUTCOME_UPSTREAM_LOST, 1);
    close_flow(&f);
}

// It is certain that nobody has worked on it.
static void h2_stream_refused_twice_falls_on_the_next_upstream(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS);
    refuse_twice(&f);
    struct peer *next = upstream_peer(&f.w, "b", 0);
    say_settings(next, 100);
    say_answer(next, 1);
    check_whole(f.client);
    check_has(f.client, "X-Thaw-Upstream: b");
    check_only(&f.w, OUTCOME_COMPLETE, 1);
    close_flow(&f);
}

static void h2_stream_refused_twice_is_asked_again_later(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM "retries: 1\n");
    refuse_twice(&f);
    check(message_at(f.client, 0).none);
    advance(&f.w, 1000);
    say_answer(up(&f, 0), 3);
    say_answer(up(&f, 1), 3);
    check_whole(f.client);
    check_only(&f.w, OUTCOME_COMPLETE, 1);
    close_flow(&f);
}

static void h2_goaway_loses_no_call_and_doubles_none(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM);
    struct peer *second = another(&f);
    struct peer *third = another(&f);
    say_goaway(up(&f, 0), 1);
    check_int(upstream_count(&f.w, "up"), 2); // both on one new connection
    struct str log = came(&f, 1);
    check(str_search(log, STR("HEADERS 1|")) < log.len && str_search(log, STR("HEADERS 3|")) < log.len);
    check_open(up(&f, 0));
    say_answer(up(&f, 0), 1);
    check_dropped(up(&f, 0));
    say_settings(up(&f, 1), 100);
    say_answer(up(&f, 1), 1);
    say_answer(up(&f, 1), 3);
    check_whole(f.client);
    check_whole(second);
    check_whole(third);
    check_only(&f.w, OUTCOME_COMPLETE, 3);
    close_flow(&f);
}

static void h2_cut_answer_is_broken_off(void **state UNUSED) {
    static const uint32_t codes[] = {H2_NO_ERROR, H2_INTERNAL, H2_REFUSED, H2_CANCEL};
    for (size_t i = 0; i <= ARRAY_LEN(codes); i++) {
        struct flow f;
        begin(&f, TWO_UPSTREAMS);
        say_head(up(&f, 0), 1, OK_HEAD);
        say_data(up(&f, 0), 1, "{\"half", false);
        if (i < ARRAY_LEN(codes)) {
            say_reset(up(&f, 0), 1, codes[i]);
        } else {
            close_peer(up(&f, 0));
        }
        check_broken_off(f.client);
        check_str(message_at(f.client, 0).body, "{\"half");
        check_int(upstream_count(&f.w, "b"), 0);
        check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
        close_flow(&f);
    }
}

static void h2_answer_of_another_length_is_broken_off(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM);
    say_head(up(&f, 0), 1, ":status: 200\ncontent-length: 10");
    say_data(up(&f, 0), 1, "{}", true);
    check(!message_at(f.client, 0).whole);
    check(f.client->end != OK);
    check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
    close_flow(&f);
}

static void h2_cut_stream_ends_with_an_error_event(void **state UNUSED) {
    for (int lost = 0; lost <= 1; lost++) {
        struct flow f;
        begin(&f, ONE_UPSTREAM);
        say_head(up(&f, 0), 1, EVENTS_HEAD);
        say_data(up(&f, 0), 1, EVENT "data: {\"y", false);
        if (lost) {
            reset(up(&f, 0));
        } else {
            say_reset(up(&f, 0), 1, H2_INTERNAL);
        }
        struct str body = message_at(f.client, 0).body;
        check(str_starts(body, STR(EVENT "data: {\"y\n\ndata: {\"error\":{\"message\":")) ||
              str_starts(body, STR(EVENT "data: {\"error\":{\"message\":")));
        check(str_ends(body, STR("\"code\":\"stream_cut\"}}\n\n")));
        check_broken_off(f.client);
        check_only(&f.w, OUTCOME_UPSTREAM_CUT, 1);
        close_flow(&f);
    }
}

static void h2_malformed_head_is_told(void **state UNUSED) {
    static const char *const heads[] = {":status: 101", ":status: 200\ntransfer-encoding: chunked", "server: x"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct flow f;
        begin(&f, ONE_UPSTREAM);
        struct peer *second = another(&f);
        say_head(up(&f, 0), 1, heads[i]);
        check_error(f.client, 502, "failed: ");
        say_answer(up(&f, 0), 3);
        check_whole(second);
        check_int(outcomes_of(&f.w, OUTCOME_UPSTREAM_LOST), 1);
        close_flow(&f);
    }
}

static void h2_upstream_that_speaks_http_1_is_told(void **state UNUSED) {
    struct flow f;
    open_flow(&f, ONE_UPSTREAM);
    client_post(f.client, CHAT_PATH, CHAT);
    send_text(up(&f, 0), "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    check_error(f.client, 502, "failed: the upstream does not speak HTTP/2.");
    check_only(&f.w, OUTCOME_UPSTREAM_LOST, 1);
    close_flow(&f);
}

static void h2_early_answer_reaches_the_uploader(void **state UNUSED) {
    struct flow f;
    open_flow(&f, ONE_UPSTREAM);
    send_text(f.client, "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello");
    say_settings(up(&f, 0), 100);
    came(&f, 0);
    check_str(buf_str(&f.said[0].body), "hello");
    say_head(up(&f, 0), 1, ":status: 413");
    say_data(up(&f, 0), 1, "{}", true);
    check_int(message_at(f.client, 0).status, 413);
    check(message_at(f.client, 0).whole);
    check_str(came(&f, 0), "RST 1 8|");
    check_only(&f.w, OUTCOME_COMPLETE, 1);
    close_flow(&f);
}

static void h2_idle_connection_that_ended_is_not_used_again(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM);
    say_answer(up(&f, 0), 1);
    close_peer(up(&f, 0));
    struct peer *second = another(&f);
    check_int(upstream_count(&f.w, "up"), 2);
    say_settings(up(&f, 1), 100);
    say_answer(up(&f, 1), 1);
    check_whole(second);
    close_flow(&f);
}

static void h2_dead_kept_connection_is_tried_once_more(void **state UNUSED) {
    struct flow f;
    begin(&f, TWO_UPSTREAMS);
    say_answer(up(&f, 0), 1);
    peer_read(up(&f, 0), 0); // nothing of the next request reaches its program
    struct peer *second = another(&f);
    reset(up(&f, 0));
    check_int(upstream_count(&f.w, "a"), 2);
    say_settings(up(&f, 1), 100);
    say_answer(up(&f, 1), 1);
    check_whole(second);
    check_int(upstream_count(&f.w, "b"), 0);
    check_only(&f.w, OUTCOME_COMPLETE, 2);
    close_flow(&f);
}

// ---- silence

static void h2_silence_before_the_answer_is_a_timeout(void **state UNUSED) {
    struct flow f;
    begin(&f, "upstreams: {up: {url: mock, timeouts: {first_byte: 20s}}}\n");
    struct peer *second = another(&f);
    advance(&f.w, 10 * 1000);
    say_answer(up(&f, 0), 3);
    check_whole(second);
    advance(&f.w, 11 * 1000);
    check_error(f.client, 504, "did not begin to answer within 20s");
    came(&f, 0);
    check_open(up(&f, 0)); // the stream was given up, the connection is kept
    check_int(outcomes_of(&f.w, OUTCOME_TIMEOUT_FIRST_BYTE), 1);
    close_flow(&f);
}

static void h2_dead_connection_is_found_by_a_ping(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM);
    advance(&f.w, 31 * 1000);
    check_str(came(&f, 0), "PING|");
    advance(&f.w, 16 * 1000);
    check_error(f.client, 502, "the upstream answers nothing any more, not even a PING");
    check_dropped(up(&f, 0));
    check_only(&f.w, OUTCOME_UPSTREAM_LOST, 1);
    close_flow(&f);
}

// ---- clients

static void h2_client_that_leaves_resets_its_stream_alone(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM);
    struct peer *second = another(&f);
    came(&f, 0);
    close_peer(f.client);
    check_str(came(&f, 0), "RST 1 8|");
    say_answer(up(&f, 0), 3);
    check_whole(second);
    check_int(outcomes_of(&f.w, OUTCOME_GONE_WAITING), 1);
    close_flow(&f);
}

static void h2_slow_client_does_not_stop_the_others(void **state UNUSED) {
    struct flow f;
    char *part = xcalloc(1, 16001);
    memset(part, 'x', 16000);
    begin(&f, ONE_UPSTREAM);
    struct peer *second = another(&f);
    peer_read(f.client, 0);
    say_head(up(&f, 0), 1, OK_HEAD);
    say_head(up(&f, 0), 3, OK_HEAD);
    size_t sent = 0;
    for (int i = 0; i < 12; i++) { // until its window is used up
        struct str log = came(&f, 0);
        bool given = str_search(log, STR("WINDOW 1 ")) < log.len;
        if (sent < 65536 - 16000 || given) {
            say_data(up(&f, 0), 1, part, false);
            sent += 16000;
        }
        say_data(up(&f, 0), 3, part, false);
    }
    check(sent < 12 * 16000); // it is not given back
    say_data(up(&f, 0), 3, "", true);
    struct parsed m = message_at(second, 0);
    check(m.whole);
    check_int(m.body.len, 12 * 16000);
    peer_read(f.client, SIZE_MAX);
    settle(&f.w);
    say_data(up(&f, 0), 1, "", true);
    check(message_at(f.client, 0).whole);
    check_int(message_at(f.client, 0).body.len, sent);
    check_only(&f.w, OUTCOME_COMPLETE, 2);
    free(part);
    close_flow(&f);
}

static void h2_shutdown_with_streams_leaves_nothing(void **state UNUSED) {
    struct flow f;
    begin(&f, ONE_UPSTREAM);
    another(&f);
    say_head(up(&f, 0), 3, EVENTS_HEAD);
    say_data(up(&f, 0), 3, EVENT, false);
    world_finish_worker(&f.w);
    check_only(&f.w, OUTCOME_SHUTDOWN, 2);
    close_flow(&f);
}

// ---- memory

static bool h2_call_without_memory(unsigned n, int forever) {
    struct flow f;
    open_flow(&f, ONE_UPSTREAM);
    mem_fail_after(n, forever);
    client_post(f.client, CHAT_PATH, CHAT);
    for (unsigned i = 0; i < f.w.upstream_count && i < upstream_count(&f.w, "up"); i++) {
        say_settings(up(&f, i), 100);
        say_head(up(&f, i), 1, EVENTS_HEAD);
        say_data(up(&f, i), 1, EVENT, true);
        close_peer(up(&f, i));
    }
    bool fired = mem_fail_fired();
    mem_fail_after(0, 0);
    advance(&f.w, 1000 * 1000); // whatever waits for somebody is over
    check(f.client->end != OK);
    check_int(f.w.worker.in_flight, 0);
    close_flow(&f);
    return fired;
}

static void h2_every_allocation_may_fail(void **state UNUSED) {
    for (int forever = 0; forever <= 1; forever++) {
        unsigned n = 1;
        for (; h2_call_without_memory(n, forever); n += small_window() ? 1 + n / 16 : 1) {
        }
        check(n > 20);
    }
}

FLOWS(TEST(h2_answer_is_relayed_whole), TEST(h2_calls_share_a_connection),
      TEST(h2_call_above_the_limit_opens_a_connection), TEST(h2_stream_reset_before_its_answer_is_told),
      TEST(h2_connection_lost_before_the_answers_is_told_to_all), TEST(h2_refused_stream_is_tried_once_more_for_free),
      TEST(h2_stream_refused_twice_is_told), TEST(h2_stream_refused_twice_falls_on_the_next_upstream),
      TEST(h2_stream_refused_twice_is_asked_again_later), TEST(h2_goaway_loses_no_call_and_doubles_none),
      TEST(h2_cut_answer_is_broken_off), TEST(h2_answer_of_another_length_is_broken_off),
      TEST(h2_cut_stream_ends_with_an_error_event), TEST(h2_malformed_head_is_told),
      TEST(h2_upstream_that_speaks_http_1_is_told), TEST(h2_early_answer_reaches_the_uploader),
      TEST(h2_idle_connection_that_ended_is_not_used_again), TEST(h2_dead_kept_connection_is_tried_once_more),
      TEST(h2_silence_before_the_answer_is_a_timeout), TEST(h2_dead_connection_is_found_by_a_ping),
      TEST(h2_client_that_leaves_resets_its_stream_alone), TEST(h2_slow_client_does_not_stop_the_others),
      TEST(h2_shutdown_with_streams_leaves_nothing), TEST(h2_every_allocation_may_fail))
