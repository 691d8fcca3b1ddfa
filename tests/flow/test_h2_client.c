// SPDX-License-Identifier: MIT
// The client's rows of docs/internals/close-table.md where it speaks HTTP/2: its frames, its leaving, its silence, and what
// its calls on the same connection notice of each other. The upstream speaks HTTP/1.1; one test has HTTP/2 on both sides.
#include "flow.h"
#include "h2_frames.h"

#define ASK ":method: POST\n:scheme: http\n:authority: a.example\n:path: " CHAT_PATH "\ncontent-type: application/json"
#define UPLOAD ":method: POST\n:scheme: http\n:authority: a.example\n:path: /v1/files"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define CHUNK "6\r\nabcdef\r\n"

struct flow {
    struct world w;
    struct peer *client;
    struct h2_log log;
    unsigned next_id;
};

static void say(struct flow *f, struct buf *b) {
    send_bytes(f->client, buf_str(b));
    buf_finish(b);
}

static struct buf frames(void) {
    struct buf b;
    buf_init(&b, 1 << 20);
    return b;
}

static void open_flow(struct flow *f, const char *yaml) {
    struct buf b = frames();
    world_open(&f->w, yaml);
    h2_log_init(&f->log);
    f->log.of_server = true;
    f->client = client_open(&f->w);
    f->next_id = 1;
    put_bytes(&b, H2_MAGIC, sizeof H2_MAGIC - 1);
    put_frame(&b, F_SETTINGS, 0, 0, STR(""));
    say(f, &b);
    (void)h2_log_read(&f->log, got(f->client));
}

static void close_flow(struct flow *f) {
    h2_log_finish(&f->log);
    world_close(&f->w);
}

// The stream's id.
static unsigned ask(struct flow *f) {
    struct buf b = frames();
    unsigned id = f->next_id;
    put_head(&b, 0, id, ASK);
    put_frame(&b, F_DATA, F_END_STREAM, id, STR(CHAT));
    f->next_id += 2;
    say(f, &b);
    return id;
}

static void give_up(struct flow *f, unsigned id) {
    struct buf b = frames();
    put_number_frame(&b, F_RST, id, H2_CANCEL);
    say(f, &b);
}

static struct peer *up(struct flow *f, unsigned nth) { return upstream_peer(&f->w, "up", nth); }
// That what was sent of an answer which is broken off has come: RST_STREAM waits for it.
static void answer_pings(struct flow *f) {
    struct str rest = got(f->client);
    struct buf b = frames();
    struct frame frame;
    while (next_frame(&rest, &frame)) {
        if (frame.type == F_PING && !(frame.flags & F_ACK)) {
            put_frame(&b, F_PING, F_ACK, 0, frame.payload);
        }
    }
    say(f, &b);
}

static bool came(struct flow *f, const char *word) {
    struct str words = h2_log_read(&f->log, got(f->client));
    return str_search(words, str_c(word)) < words.len;
}
static bool headed(struct flow *f, const char *line) {
    struct str heads = buf_str(&f->log.heads);
    return str_search(heads, str_c(line)) < heads.len;
}

static void h2_client_gets_its_answer_whole(void **state UNUSED) {
    struct flow f;
    open_flow(&f, ONE_UPSTREAM);
    ask(&f);
    struct parsed m = message_at(up(&f, 0), 0);
    check_str(m.start, "POST /chat/completions HTTP/1.1");
    check_str(m.body, CHAT);
    check_int(fields_of(&m, "host"), 1);
    answer(up(&f, 0), ANSWER);
    check(came(&f, " end|") && headed(&f, ":status: 200\n"));
    check_str(buf_str(&f.log.body), "{}");
    check_only(&f.w, OUTCOME_COMPLETE, 1);
    close_flow(&f);
}

static void h2_client_that_gives_up_one_call_keeps_the_others(void **state UNUSED) {
    struct flow f;
    open_flow(&f, ONE_UPSTREAM);
    unsigned first = ask(&f);
    ask(&f);
    give_up(&f, first);
    check_dropped(up(&f, 0));
    check_open(up(&f, 1));
    answer(up(&f, 1), ANSWER);
    check(came(&f, "DATA 3 2 end|"));
    check_int(outcomes_of(&f.w, OUTCOME_GONE_WAITING), 1);
    check_int(outcomes_of(&f.w, OUTCOME_COMPLETE), 1);
    close_flow(&f);
}

static void h2_client_that_gives_up_mid_stream_drops_the_call(void **state UNUSED) {
    struct flow f;
    open_flow(&f, ONE_UPSTREAM);
    unsigned id = ask(&f);
    answer(up(&f, 0), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" CHUNK);
    check(came(&f, "DATA 1 "));
    give_up(&f, id);
    check_dropped(up(&f, 0));
    check_open(f.client);
    check_only(&f.w, OUTCOME_GONE_READING, 1);
    close_flow(&f);
}

static void h2_client_that_leaves_drops_all_its_calls(void **state UNUSED) {
    struct flow f;
    open_flow(&f, ONE_UPSTREAM);
    ask(&f);
    ask(&f);
    close_peer(f.client);
    check_dropped(up(&f, 0));
    check_dropped(up(&f, 1));
    check_only(&f.w, OUTCOME_GONE_WAITING, 2);
    close_flow(&f);
}

static void h2_answer_that_is_cut_is_broken_off_alone(void **state UNUSED) {
    struct flow f;
    open_flow(&f, ONE_UPSTREAM);
    ask(&f);
    ask(&f);
    answer(up(&f, 0), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" CHUNK);
    finish(up(&f, 0));
    answer_pings(&f);
    struct str words = h2_log_read(&f.log, got(f.client));
    check(str_search(words, STR("PING|RST 1 2|")) < words.len);
    check(str_search(words, STR(" end|")) == words.len);
    answer(up(&f, 1), ANSWER);
    check(came(&f, "DATA 3 2 end|"));
    check_int(outcomes_of(&f.w, OUTCOME_COMPLETE), 1);
    check_int(outcomes_total(&f.w), 2);
    close_flow(&f);
}

static void h2_upload_that_breaks_off_drops_the_call(void **state UNUSED) {
    struct flow f;
    struct buf b = frames();
    open_flow(&f, ONE_UPSTREAM);
    put_head(&b, 0, 1, UPLOAD);
    put_frame(&b, F_DATA, 0, 1, STR("half"));
    say(&f, &b);
    check_str(message_at(up(&f, 0), 0).body, "half");
    give_up(&f, 1);
    check_dropped(up(&f, 0));
    check(!message_at(up(&f, 0), 0).whole);
    check_only(&f.w, OUTCOME_GONE_SENDING, 1);
    close_flow(&f);
}

static void h2_upload_of_another_length_never_seems_whole(void **state UNUSED) {
    struct flow f;
    struct buf b = frames();
    open_flow(&f, ONE_UPSTREAM);
    put_head(&b, 0, 1, UPLOAD "\ncontent-length: 9");
    put_frame(&b, F_DATA, F_END_STREAM, 1, STR("half"));
    say(&f, &b);
    if (upstream_count(&f.w, "up")) {
        check_dropped(up(&f, 0));
        check(!message_at(up(&f, 0), 0).whole);
    }
    check(came(&f, "RST 1 1|"));
    check_only(&f.w, OUTCOME_GONE_SENDING, 1);
    close_flow(&f);
}

static void h2_upload_that_stalls_is_refused(void **state UNUSED) {
    struct flow f;
    struct buf b = frames();
    open_flow(&f, ONE_UPSTREAM "timeouts: {idle: 4s, header: 1s}\n");
    put_head(&b, 0, 1, UPLOAD);
    put_frame(&b, F_DATA, 0, 1, STR("half"));
    say(&f, &b);
    advance(&f.w, 6000);
    check_dropped(up(&f, 0));
    check(came(&f, "HEADERS 1|") && headed(&f, ":status: 408\n"));
    check_open(f.client);
    close_flow(&f);
}

static void h2_client_that_takes_nothing_is_given_up(void **state UNUSED) {
    struct flow f;
    struct buf b = frames();
    open_flow(&f, ONE_UPSTREAM "timeouts: {idle: 4s, header: 1s}\n");
    put_setting(&b, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    say(&f, &b);
    ask(&f);
    answer(up(&f, 0), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" CHUNK);
    advance(&f.w, 6000);
    check(came(&f, "RST 1 "));
    check_dropped(up(&f, 0));
    check_open(f.client);
    check_only(&f.w, OUTCOME_GONE_READING, 1);
    close_flow(&f);
}

static void h2_unacceptable_requests_are_refused(void **state UNUSED) {
    static const struct {
        const char *head, *status;
    } rows[] = {
        {":method: GET\n:scheme: http\n:authority: a.example\n:path: /v1/x\nexpect: more", ":status: 417\n"},
        {":method: GET\n:scheme: http\n:authority: a.example\n:path: /v1/x\nhost: b.example", ":status: 400\n"},
        {":method: GET\n:scheme: http\n:authority: a.example\n:path: /nothing", ":status: 404\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct flow f;
        struct buf b = frames();
        open_flow(&f, ONE_UPSTREAM);
        put_head(&b, F_END_STREAM, 1, rows[i].head);
        say(&f, &b);
        check(came(&f, " end|") && headed(&f, rows[i].status));
        check_int(upstream_count(&f.w, "up"), 0);
        check_open(f.client);
        close_flow(&f);
    }
}

static void h2_draining_finishes_what_runs(void **state UNUSED) {
    struct flow f;
    open_flow(&f, ONE_UPSTREAM);
    ask(&f);
    worker_drain(&f.w.worker, 60000);
    settle(&f.w);
    check(came(&f, "GOAWAY "));
    advance(&f.w, 3000);
    answer(up(&f, 0), ANSWER);
    check(came(&f, "DATA 1 2 end|"));
    check(f.client->end != OK);
    check_only(&f.w, OUTCOME_COMPLETE, 1);
    close_flow(&f);
}

static void h2_on_both_sides(void **state UNUSED) {
    struct flow f;
    struct buf b = frames();
    open_flow(&f, ONE_UPSTREAM);
    f.w.worker.setup->upstreams[0].origin.speaks = ORIGIN_H2;
    ask(&f);
    ask(&f);
    check_int(upstream_count(&f.w, "up"), 1);
    put_frame(&b, F_SETTINGS, 0, 0, STR(""));
    for (unsigned id = 3; id <= 3; id -= 2) { // the second one first
        put_head(&b, 0, id, ":status: 200\ncontent-type: application/json");
        put_frame(&b, F_DATA, F_END_STREAM, id, id == 1 ? STR("{\"a\":1}") : STR("{}"));
    }
    send_bytes(up(&f, 0), buf_str(&b));
    buf_finish(&b);
    check(came(&f, "DATA 3 2 end|DATA 1 7 end|"));
    check_only(&f.w, OUTCOME_COMPLETE, 2);
    close_flow(&f);
}

FLOWS(TEST(h2_client_gets_its_answer_whole), TEST(h2_client_that_gives_up_one_call_keeps_the_others),
      TEST(h2_client_that_gives_up_mid_stream_drops_the_call), TEST(h2_client_that_leaves_drops_all_its_calls),
      TEST(h2_answer_that_is_cut_is_broken_off_alone), TEST(h2_upload_that_breaks_off_drops_the_call),
      TEST(h2_upload_of_another_length_never_seems_whole), TEST(h2_upload_that_stalls_is_refused),
      TEST(h2_client_that_takes_nothing_is_given_up), TEST(h2_unacceptable_requests_are_refused),
      TEST(h2_draining_finishes_what_runs), TEST(h2_on_both_sides))
