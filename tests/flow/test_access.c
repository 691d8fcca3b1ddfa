// SPDX-License-Identifier: MIT
// What is seen of a request from outside: its line in the access log, whatever became of it, what the worker's meter has,
// and the fields about time and traces.
#include <fcntl.h>
#include <unistd.h>

#include "flow.h"
#include "gateway/trace.h"
#include "llm/json.h"
#include "work/sink.h"

enum { LOG_MAX = 64 * 1024 };
#define PARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

struct logged {
    struct world w;
    struct sink *sink;
    char path[64];
    char text[LOG_MAX];
    struct str rest;
    struct json *json; // the line that was read last
};

static void open_logged(struct logged *l, const char *yaml) {
    snprintf(l->path, sizeof l->path, "/tmp/thaw-access-XXXXXX");
    int fd = mkstemp(l->path);
    check(fd >= 0);
    close(fd);
    struct sink_options options = {.path = l->path, .name = "access log"};
    check_ok(sink_open(&options, &l->sink));
    world_open(&l->w, yaml);
    l->w.worker.options.access = l->sink;
    l->json = NULL;
}

// All that will ever be written.
static void end_logged(struct logged *l) {
    if (!l->w.finished) {
        world_finish_worker(&l->w);
    }
    sink_close(l->sink);
    int fd = open(l->path, O_RDONLY);
    ssize_t n = read(fd, l->text, sizeof l->text);
    check(n >= 0 && n < LOG_MAX);
    close(fd);
    unlink(l->path);
    l->rest = str_from(l->text, (size_t)n);
}

static const struct json_value *next_line(struct logged *l) {
    struct str line;
    json_close(l->json);
    check(str_split(&l->rest, '\n', &line));
    check_ok(json_read(line, LOG_MAX, &l->json));
    return json_root(l->json);
}

static void close_logged(struct logged *l) {
    check_int(l->rest.len, 0); // no line that nobody looked at
    json_close(l->json);
    world_close(&l->w);
}

static struct str text_in(const struct json_value *line, const char *name) {
    return json_string(json_member(line, name));
}
static uint64_t number_in(const struct json_value *line, const char *name) {
    uint64_t n = UINT64_MAX;
    check(json_u64(json_member(line, name), &n));
    return n;
}
#define check_text(line, name, wanted) check_str(text_in(line, name), wanted)
#define check_null(line, name) check_int(json_kind(json_member(line, name)), JSON_NULL)

static void a_line_tells_of_a_whole_answer(void **state) {
    (void)state;
    struct logged l;
    open_logged(&l, ONE_UPSTREAM);
    struct peer *client = client_open(&l.w);
    client_ask(client, "POST " CHAT_PATH "?token=secret", "X-Request-Id: mine\r\ntraceparent: " PARENT "\r\n", CHAT);
    advance(&l.w, 250);
    answer(upstream_peer(&l.w, "up", 0), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    check_str(message_at(client, 0).body, "hello");
    check_only(&l.w, OUTCOME_COMPLETE, 1);
    end_logged(&l);
    const struct json_value *line = next_line(&l);
    check_text(line, "id", "mine");
    check_text(line, "method", "POST");
    check_text(line, "path", CHAT_PATH);
    check_text(line, "model", "m");
    check_text(line, "outcome", "COMPLETE");
    check_text(line, "upstream", "up");
    check_null(line, "client"); // memory has no address
    check_null(line, "key");
    check_int(number_in(line, "status"), 200);
    check_int(number_in(line, "bytes_in"), strlen(CHAT));
    check_int(number_in(line, "bytes_out"), 5);
    check_int(number_in(line, "attempts"), 1);
    double ms = 0;
    check(json_number(json_member(line, "ms"), &ms) && ms == 250);
    check(json_number(json_member(line, "upstream_ms"), &ms) && ms == 250);
    check(json_number(json_member(line, "thaw_ms"), &ms) && ms == 0);
    check(!json_true(json_member(line, "cut")) && !json_true(json_member(line, "stream")));
    check_int(text_in(line, "trace").len, TRACE_ID_LEN);
    check(str_search(str_from(l.text, sizeof l.text), STR("secret")) == sizeof l.text);
    close_logged(&l);
}

static void what_thaw_says_itself_has_a_line(void **state) {
    (void)state;
    struct logged l;
    open_logged(&l, "keys: [k1]\n" ONE_UPSTREAM);
    struct peer *client = client_open(&l.w);
    client_ask(client, "GET /healthz", "", NULL);
    client_ask(client_open(&l.w), "POST " CHAT_PATH, "Authorization: Bearer k2\r\n", CHAT);
    client_ask(client_open(&l.w), "POST " CHAT_PATH, "Authorization: Bearer k1\r\n", "{");
    check_int(count_of(&l.w.worker.meter->outcomes[OUTCOME_LOCAL]), 1);
    check_int(count_of(&l.w.worker.meter->outcomes[OUTCOME_UNAUTHORIZED]), 1);
    check_int(count_of(&l.w.worker.meter->outcomes[OUTCOME_REFUSED]), 1);
    end_logged(&l);
    const struct json_value *line = next_line(&l);
    check_text(line, "outcome", "LOCAL");
    check_text(line, "path", "/healthz");
    check_int(number_in(line, "attempts"), 0);
    check_null(line, "upstream");
    check_null(line, "upstream_ms");
    line = next_line(&l);
    check_text(line, "outcome", "UNAUTHORIZED");
    check_int(number_in(line, "status"), 401);
    check_null(line, "key"); // nothing of one that is not ours
    line = next_line(&l);
    check_text(line, "outcome", "REFUSED");
    check_int(number_in(line, "status"), 400);
    check_int(text_in(line, "key").len, 8);
    check(number_in(line, "bytes_out") > 0);
    close_logged(&l);
}

static void what_is_no_request_has_a_line(void **state) {
    (void)state;
    struct logged l;
    open_logged(&l, ONE_UPSTREAM);
    send_text(client_open(&l.w), "GET / HTTP/1.1\r\nHost : x\r\n\r\n");
    check_only(&l.w, OUTCOME_REFUSED, 1);
    end_logged(&l);
    const struct json_value *line = next_line(&l);
    check_int(number_in(line, "status"), 400);
    check_null(line, "method");
    check_null(line, "path");
    close_logged(&l);
}

static void a_cut_answer_is_called_cut(void **state) {
    (void)state;
    struct logged l;
    open_logged(&l, ONE_UPSTREAM);
    client_post(client_open(&l.w), CHAT_PATH, CHAT);
    struct peer *up = upstream_peer(&l.w, "up", 0);
    answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell");
    reset(up);
    check_only(&l.w, OUTCOME_UPSTREAM_CUT, 1);
    end_logged(&l);
    const struct json_value *line = next_line(&l);
    check_text(line, "outcome", "UPSTREAM_CUT");
    check(json_true(json_member(line, "cut")));
    check_int(number_in(line, "status"), 200);
    close_logged(&l);
}

static void an_upstream_that_is_silent_has_a_line(void **state) {
    (void)state;
    struct logged l;
    open_logged(&l, "timeouts: {first_byte: 3s}\n" ONE_UPSTREAM);
    client_post(client_open(&l.w), CHAT_PATH, CHAT);
    advance(&l.w, 3000);
    check_only(&l.w, OUTCOME_TIMEOUT_FIRST_BYTE, 1);
    check_int(count_of(&l.w.worker.meter->upstreams[0].failures), 1);
    end_logged(&l);
    const struct json_value *line = next_line(&l);
    check_text(line, "outcome", "TIMEOUT_FIRST_BYTE");
    check_int(number_in(line, "status"), 504);
    check_null(line, "upstream_ms");
    check(!json_true(json_member(line, "cut"))); // it was told properly
    close_logged(&l);
}

static void who_left_has_a_line(void **state) {
    (void)state;
    struct logged l;
    open_logged(&l, ONE_UPSTREAM);
    struct peer *waiting = client_open(&l.w);
    client_post(waiting, CHAT_PATH, CHAT);
    close_peer(waiting);
    struct peer *reading = client_open(&l.w);
    client_post(reading, CHAT_PATH, "{\"model\":\"m\",\"stream\":true,\"messages\":[]}");
    answer(upstream_peer(&l.w, "up", 1), STREAM_HEAD "9\r\ndata: 1\n\n\r\n");
    close_peer(reading);
    end_logged(&l);
    const struct json_value *line = next_line(&l);
    check_text(line, "outcome", "GONE_WAITING");
    check_null(line, "status");
    line = next_line(&l);
    check_text(line, "outcome", "GONE_READING");
    check(json_true(json_member(line, "stream")) && json_true(json_member(line, "cut")));
    close_logged(&l);
}

static void who_is_there_at_the_end_has_a_line(void **state) {
    (void)state;
    struct logged l;
    open_logged(&l, ONE_UPSTREAM);
    client_post(client_open(&l.w), CHAT_PATH, CHAT);
    world_finish_worker(&l.w);
    end_logged(&l);
    check_text(next_line(&l), "outcome", "SHUTDOWN");
    close_logged(&l);
}

static void an_id_that_opens_a_tape_is_not_told(void **state) {
    (void)state;
    struct logged l;
    open_logged(&l, ONE_UPSTREAM);
    client_ask(client_open(&l.w), "GET /v1/tapes/abcdefghijklmnopqrstuvwxyz", "", NULL);
    end_logged(&l);
    check_text(next_line(&l), "path", "/v1/tapes/abcdef...");
    close_logged(&l);
}

static void without_a_log_nothing_is_kept(void **state) {
    (void)state;
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    client_post(client_open(&w), CHAT_PATH, CHAT);
    answer(upstream_peer(&w, "up", 0), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

// ---- the meter

static uint64_t all_in(const struct histogram *h) {
    uint64_t n = 0;
    for (unsigned b = 0; b <= HISTOGRAM_BUCKETS; b++) {
        n += count_of(&h->buckets[b]);
    }
    return n;
}

static void the_meter_follows_a_call(void **state) {
    (void)state;
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    const struct meter *m = w.worker.meter;
    const struct meter_upstream *u = &m->upstreams[0];
    client_post(client_open(&w), CHAT_PATH, CHAT);
    check_int(count_of(&m->in_flight), 1);
    check_int(count_of(&m->connections), 1);
    check_int(count_of(&m->tapes), 1);
    check_int(count_of(&u->in_flight), 1);
    check_int(count_of(&m->bytes_in), strlen(CHAT));
    advance(&w, 100);
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{");
    check_int(all_in(&u->first_byte), 1);
    check_int(count_of(&u->first_byte.sum_ns), 100 * 1000 * 1000);
    advance(&w, 100);
    answer(up, "}");
    check_int(count_of(&u->duration.sum_ns), 200 * 1000 * 1000);
    check_int(count_of(&m->bytes_out), 2);
    check_int(count_of(&m->in_flight), 0);
    check_int(count_of(&m->tapes), 0);
    check_int(count_of(&u->in_flight), 0);
    check_int(count_of(&u->attempts), 1);
    check_int(count_of(&u->failures), 0);
    check_int(all_in(&m->before), 1); // the first call is one of those that are timed
    check_int(all_in(&m->after), 1);
    world_close(&w);
}

static void nothing_stays_in_flight(void **state) {
    (void)state;
    struct world w;
    world_open(&w, TWO_UPSTREAMS);
    const struct meter *m = w.worker.meter;
    for (unsigned i = 0; i < 3; i++) {
        struct peer *client = client_open(&w);
        client_post(client, CHAT_PATH, CHAT);
        check_int(count_of(&m->upstreams[0].in_flight), 1);
        close_peer(client);
        check_int(count_of(&m->upstreams[0].in_flight), 0);
    }
    check_only(&w, OUTCOME_GONE_WAITING, 3);
    check_int(count_of(&m->upstreams[0].failures), 0); // it is nobody's but the client's
    check_int(all_in(&m->upstreams[0].duration), 0);
    world_close(&w);
}

// ---- fields

static void server_timing_is_told_where_it_is_asked_for(void **state) {
    (void)state;
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    const char *ok = "HTTP/1.1 200 OK\r\nServer-Timing: db;dur=3\r\nContent-Length: 2\r\n\r\n{}";
    client_post(client, CHAT_PATH, CHAT);
    answer(upstream_peer(&w, "up", 0), ok);
    struct parsed m = message_at(client, 0);
    check_str(field_of(&m, "server-timing"), "db;dur=3");
    w.config->server_timing = true;
    forget(client);
    client_post(client, CHAT_PATH, CHAT);
    advance(&w, 512);
    answer(upstream_peer(&w, "up", 0), ok);
    m = message_at(client, 0);
    check_int(fields_of(&m, "server-timing"), 2);
    check(str_search(m.head, STR("thaw;dur=0.000, upstream;dur=512.000\r\n")) < m.head.len);
    world_close(&w);
}

static void a_trace_begins_anew_unless_it_is_trusted(void **state) {
    (void)state;
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    struct peer *client = client_open(&w);
    const char *fields = "traceparent: " PARENT "\r\ntracestate: a=1\r\n";
    client_ask(client, "POST " CHAT_PATH, fields, CHAT);
    struct peer *up = upstream_peer(&w, "up", 0);
    struct parsed m = message_at(up, 0);
    check(traceparent_valid(field_of(&m, "traceparent")));
    check_lacks(up, "4bf92f3577b34da6a3ce929d0e0e4736");
    check_lacks(up, "tracestate");
    answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    w.config->trace_trust = true;
    forget(up);
    client_ask(client, "POST " CHAT_PATH, fields, CHAT);
    check_has(up, "traceparent: " PARENT "\r\n");
    check_has(up, "tracestate: a=1\r\n");
    answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    forget(up);
    client_post(client, CHAT_PATH, CHAT);
    check_lacks(up, "traceparent");
    world_close(&w);
}

FLOWS(TEST(a_line_tells_of_a_whole_answer), TEST(what_thaw_says_itself_has_a_line),
      H1_ONLY(CLIENT, what_is_no_request_has_a_line, "a head that HTTP/2 cannot carry"),
      TEST(a_cut_answer_is_called_cut), TEST(an_upstream_that_is_silent_has_a_line), TEST(who_left_has_a_line),
      TEST(who_is_there_at_the_end_has_a_line), TEST(an_id_that_opens_a_tape_is_not_told),
      TEST(without_a_log_nothing_is_kept), TEST(the_meter_follows_a_call), TEST(nothing_stays_in_flight),
      TEST(server_timing_is_told_where_it_is_asked_for), TEST(a_trace_begins_anew_unless_it_is_trusted))
