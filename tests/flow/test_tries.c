// SPDX-License-Identifier: MIT
// What is tried again, where and when, and what never is; openings that are held back; upstreams that rest.
#include <time.h>

#include "flow.h"
#include "gateway/stream.h"

#define RETRIES ONE_UPSTREAM "retries: 2\n"
#define NEXT TWO_UPSTREAMS "retries: 0\n"
#define STREAM "{\"model\":\"m\",\"stream\":true}"
#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define BUSY "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
#define BROKEN "HTTP/1.1 500 Broken\r\nContent-Length: 4\r\n\r\noops"
#define TOO_MANY "HTTP/1.1 429 Slow\r\nContent-Length: 4\r\n\r\nslow"
#define CONTENT "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n"
#define ROLE "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
#define LIMITED_EVENT "data: {\"error\":{\"message\":\"no\",\"type\":\"x\",\"code\":\"rate_limit_exceeded\"}}\n\n"
#define CHUNKS_END "0\r\n\r\n"
enum { LONGEST_WAIT_MS = 8000 };

// The connection of that upstream on which a whole request waits for its answer; NULL: none.
static struct peer *asked(struct world *w, const char *name) {
    for (unsigned i = 0; i < upstream_count(w, name); i++) {
        struct peer *up = upstream_peer(w, name, i);
        if (up->conn && up->end == OK && up->got_len && message_at(up, 0).whole) {
            return up;
        }
    }
    return NULL;
}

// It gets this answer.
static struct peer *answers(struct world *w, const char *name, const char *text) {
    struct peer *up = asked(w, name);
    assert_non_null(up);
    forget(up);
    answer(up, text);
    advance(w, 1); // the next upstream is asked in the next millisecond
    return up;
}

static void send_chunk(struct peer *up, struct str text) {
    char line[32];
    snprintf(line, sizeof line, "%zx\r\n", text.len);
    peer_queue(up, str_c(line));
    peer_queue(up, text);
    send_text(up, "\r\n");
}

static struct peer *ask(struct world *w, const char *fields, const char *body) {
    struct peer *client = client_open(w);
    client_ask(client, "POST " CHAT_PATH, fields, body);
    return client;
}

static bool has_field(struct peer *client, const char *name) {
    struct parsed m = message_at(client, 0);
    return field_of(&m, name).ptr;
}

static void nothing_is_out(struct world *w) {
    for (unsigned i = 0; i < w->worker_count; i++) {
        struct setup *s = w->workers[i].setup;
        for (unsigned u = 0; u < s->config->upstream_count; u++) {
            struct gate_look look;
            gate_look(s->upstreams[u].gate, w->workers[i].loop.now_ms, &look);
            check_int(look.in_flight, 0);
            check_int(look.waiting, 0);
            check_int(s->upstreams[u].in_flight, 0);
        }
        check_int(w->workers[i].in_flight, 0);
    }
}

// ---- which answers

static void some_statuses_are_tried_again(void **state UNUSED) {
    static const struct {
        int status;
        bool again;
    } rows[] = {
        {400, false}, {401, false}, {403, false}, {404, false}, {408, true}, {409, true}, {413, false}, {422, false},
        {429, true},  {500, true},  {501, false}, {502, true},  {503, true}, {504, true}, {505, false}, {529, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w;
        char text[100];
        world_open(&w, RETRIES);
        struct peer *client = ask(&w, "", CHAT);
        snprintf(text, sizeof text, "HTTP/1.1 %d X\r\nContent-Length: 1\r\n\r\n!", rows[i].status);
        answers(&w, "up", text);
        advance(&w, LONGEST_WAIT_MS);
        check_int(asked(&w, "up") != NULL, rows[i].again);
        if (rows[i].again) {
            check(message_at(client, 0).none);
            answers(&w, "up", OK_ANSWER);
            check(has_field(client, "X-Thaw-Attempts"));
        }
        check_int(message_at(client, 0).status, rows[i].again ? 200 : rows[i].status);
        check(!has_field(client, "x-should-retry"));
        check_only(&w, OUTCOME_COMPLETE, 1);
        nothing_is_out(&w);
        world_close(&w);
    }
}

static void upstream_says_when(void **state UNUSED) {
    char date[100];
    char text[64];
    time_t at = time(NULL) + 20;
    struct tm tm;
    gmtime_r(&at, &tm);
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    snprintf(date, sizeof date, "Retry-After: %s\r\n", text);
    const struct {
        const char *fields;
        uint64_t not_before_ms, until_ms;
    } rows[] = {
        {"Retry-After: 3\r\n", 2990, 3010},
        {"Retry-After: 1.5\r\n", 1490, 1510},
        {"retry-after-ms: 1700\r\nRetry-After: 30\r\n", 1690, 1710},
        {"Retry-After: 60\r\n", 59990, 60010},
        {"Retry-After: soon\r\n", 0, 510},
        {date, 15000, 20010}, // the machine's clock goes on meanwhile
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w;
        char answer[300];
        world_open(&w, RETRIES);
        struct peer *client = ask(&w, "", CHAT);
        snprintf(answer, sizeof answer, "HTTP/1.1 429 X\r\n%sContent-Length: 0\r\n\r\n", rows[i].fields);
        answers(&w, "up", answer);
        advance(&w, rows[i].not_before_ms);
        if (rows[i].not_before_ms) {
            assert_null(asked(&w, "up"));
        }
        advance(&w, rows[i].until_ms - rows[i].not_before_ms);
        answers(&w, "up", OK_ANSWER);
        check_int(message_at(client, 0).status, 200);
        world_close(&w);
    }
}

static void too_long_a_wait_is_the_clients(void **state UNUSED) {
    struct world w;
    world_open(&w, RETRIES);
    struct peer *client = ask(&w, "", CHAT);
    answers(&w, "up", "HTTP/1.1 429 X\r\nRetry-After: 61\r\nContent-Length: 0\r\n\r\n");
    struct parsed m = message_at(client, 0);
    check_int(m.status, 429);
    check_str(field_of(&m, "Retry-After"), "61");
    check(!field_of(&m, "x-should-retry").ptr); // the client may wait so long
    world_close(&w);
}

static void waits_grow_and_are_bounded(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "retries: 6\n");
    w.worker.setup->upstreams[0].budget.credit = RETRY_CREDIT_MOST;
    struct peer *client = ask(&w, "", CHAT);
    for (uint64_t most_ms = 500; most_ms <= 16000; most_ms *= 2) {
        answers(&w, "up", BUSY);
        check(message_at(client, 0).none);
        advance(&w, MIN(most_ms, (uint64_t)LONGEST_WAIT_MS) + 10);
    }
    answers(&w, "up", BUSY);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 503);
    check_str(field_of(&m, "X-Thaw-Attempts"), "7");
    world_close(&w);
}

static void last_answer_is_relayed(void **state UNUSED) {
    struct world w;
    world_open(&w, RETRIES);
    struct peer *client = ask(&w, "", CHAT);
    for (unsigned i = 0; i < 3; i++) {
        answers(&w, "up", "HTTP/1.1 503 Busy\r\nx-should-retry: true\r\nContent-Length: 4\r\n\r\nbusy");
        advance(&w, LONGEST_WAIT_MS);
    }
    struct parsed m = message_at(client, 0);
    check_int(m.status, 503);
    check_str(m.body, "busy");
    check_str(field_of(&m, "x-should-retry"), "false");
    check_int(fields_of(&m, "x-should-retry"), 1);
    check_str(field_of(&m, "X-Thaw-Attempts"), "3");
    check_str(field_of(&m, "X-Thaw-Upstream"), "up");
    assert_null(asked(&w, "up"));
    world_close(&w);
}

static void without_retries_there_are_none(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "retries: 0\n");
    struct peer *client = ask(&w, "", CHAT);
    answers(&w, "up", BUSY);
    check_int(message_at(client, 0).status, 503);
    check(!has_field(client, "x-should-retry"));
    check(!has_field(client, "X-Thaw-Attempts"));
    world_close(&w);
}

// In a storm of refusals an upstream gets a tenth more calls than there are clients' ones, and each of two at most that.
static void storm_is_not_multiplied(void **state UNUSED) {
    static const char *const answer_of[] = {TOO_MANY, BUSY};
    unsigned calls = small_window() ? 60 : 1000;
    for (unsigned upstreams = 1; upstreams <= 2; upstreams++) {
        struct world w;
        unsigned got[2] = {0, 0};
        static const char *const names[] = {"a", "b"};
        world_open(&w, upstreams == 1 ? "upstreams: {a: {url: mock}}\nretries: 2\n" : TWO_UPSTREAMS "retries: 2\n");
        struct peer *client = client_open(&w);
        for (unsigned i = 0; i < calls; i++) {
            forget(client);
            client_post(client, CHAT_PATH, CHAT);
            for (unsigned turns = 0; message_at(client, 0).none; turns++) {
                check(turns < 20);
                for (unsigned u = 0; u < upstreams; u++) {
                    if (asked(&w, names[u])) {
                        got[u]++;
                        answers(&w, names[u], answer_of[i % 2]);
                    }
                }
                if (message_at(client, 0).none) {
                    advance(&w, 500);
                }
            }
        }
        for (unsigned u = 0; u < upstreams; u++) {
            check(got[u] >= calls);
            check(got[u] <= calls + calls / 10 + RETRY_CREDIT_FIRST / 10);
        }
        nothing_is_out(&w);
        world_close(&w);
    }
}

// ---- whom

static void next_upstream_is_asked_in_order(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {a: {url: mock}, b: {url: mock}, c: {url: mock}}\nretries: 0\n"
                   "models: {m: {use: [b/x, c, a/y]}}\n");
    struct peer *client = ask(&w, "", CHAT);
    check_has(asked(&w, "b"), "\"model\":\"x\"");
    answers(&w, "b", BUSY);
    check_has(asked(&w, "c"), "\"model\":\"m\"");
    answers(&w, "c", TOO_MANY);
    check_has(asked(&w, "a"), "\"model\":\"y\"");
    answers(&w, "a", OK_ANSWER);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 200);
    check_str(field_of(&m, "X-Thaw-Attempts"), "3");
    check_str(field_of(&m, "X-Thaw-Upstream"), "a");
    check_int(upstream_peer(&w, "b", 0)->end, OK); // its connection was kept
    nothing_is_out(&w);
    world_close(&w);
}

static void equals_share_by_weight(void **state UNUSED) {
    struct world w;
    world_open(&w, TWO_UPSTREAMS "models: {m: {use: [\"a*2 | b\"]}}\n");
    for (unsigned i = 0; i < 9; i++) {
        ask(&w, "", CHAT);
    }
    check_int(upstream_count(&w, "a"), 6);
    check_int(upstream_count(&w, "b"), 3);
    world_close(&w);
}

static void equal_one_is_asked_at_once(void **state UNUSED) {
    struct world w;
    world_open(&w, TWO_UPSTREAMS "retries: 2\nmodels: {m: {use: [\"a | b\"]}}\n");
    struct peer *client = ask(&w, "", CHAT);
    answers(&w, "a", BUSY);
    answers(&w, "b", OK_ANSWER);
    check_int(message_at(client, 0).status, 200);
    world_close(&w);
}

// A resting first one is passed over, but does not give the second one more tries than it has.
static void tries_are_counted_beside_one_that_rests(void **state UNUSED) {
    struct world w;
    world_open(&w, TWO_UPSTREAMS "retries: 2\nbreaker: {failures: 1, rest: 1h}\n");
    breaker_failed(gate_breaker(w.worker.setup->upstreams[0].gate), 1, 3600 * 1000, w.worker.loop.now_ms);
    w.worker.setup->upstreams[1].budget.credit = RETRY_CREDIT_MOST;
    struct peer *client = ask(&w, "", CHAT);
    unsigned tries = 0;
    for (; asked(&w, "b") && tries < 10; tries++) {
        answers(&w, "b", TOO_MANY);
        advance(&w, LONGEST_WAIT_MS);
    }
    check_int(tries, 3);
    check_int(upstream_count(&w, "a"), 0);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 429);
    check_str(field_of(&m, "X-Thaw-Attempts"), "3");
    world_close(&w);
}

static void answer_is_not_given_up_for_one_that_rests(void **state UNUSED) {
    struct world w;
    world_open(&w, TWO_UPSTREAMS "retries: 0\nbreaker: {failures: 1, rest: 1h}\n");
    breaker_failed(gate_breaker(w.worker.setup->upstreams[1].gate), 1, 3600 * 1000, w.worker.loop.now_ms);
    struct peer *client = ask(&w, "", CHAT);
    answers(&w, "a", "HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow");
    struct parsed m = message_at(client, 0);
    check_int(m.status, 429);
    check_str(field_of(&m, "Retry-After"), "7");
    check_str(m.body, "slow");
    world_close(&w);
}

// The failure after which an upstream rests is told as it came.
static void failure_that_makes_it_rest_is_relayed(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "retries: 2\nbreaker: {failures: 2, rest: 30s}\n");
    struct peer *client = ask(&w, "", CHAT);
    answers(&w, "up", BROKEN);
    advance(&w, LONGEST_WAIT_MS);
    answers(&w, "up", BROKEN);
    struct parsed m = message_at(client, 0);
    check_int(m.status, 500);
    check_str(m.body, "oops");
    world_close(&w);
}

// ---- what was lost

static void lost_call_is_sent_again_only_with_leave(void **state UNUSED) {
    for (unsigned leave = 0; leave <= 1; leave++) {
        struct world w;
        world_open(&w, leave ? RETRIES "retry_lost: true\n" : RETRIES);
        struct peer *client = ask(&w, "", CHAT);
        reset(asked(&w, "up"));
        advance(&w, LONGEST_WAIT_MS);
        check_int(asked(&w, "up") != NULL, leave);
        if (leave) {
            for (unsigned i = 0; i < 2; i++) {
                check(message_at(client, 0).none);
                reset(asked(&w, "up"));
                advance(&w, LONGEST_WAIT_MS);
            }
        } else {
            check_int(upstream_count(&w, "up"), 1);
        }
        check_int(message_at(client, 0).status, 502);
        check_int(has_field(client, "x-should-retry"), leave); // thaw has tried for its client
        check_only(&w, OUTCOME_UPSTREAM_LOST, 1);
        nothing_is_out(&w);
        world_close(&w);
    }
}

static void slow_call_is_sent_again_only_with_leave(void **state UNUSED) {
    for (unsigned leave = 0; leave <= 1; leave++) {
        struct world w;
        world_open(&w,
                   leave ? NEXT "retry_lost: true\ntimeouts: {first_byte: 5s}\n" : NEXT "timeouts: {first_byte: 5s}\n");
        struct peer *client = ask(&w, "", CHAT);
        struct peer *slow = asked(&w, "a");
        advance(&w, 5010);
        check_dropped(slow);
        check_int(asked(&w, "b") != NULL, leave);
        if (leave) {
            answers(&w, "b", OK_ANSWER);
            check_int(message_at(client, 0).status, 200);
        } else {
            check_int(message_at(client, 0).status, 504);
            check_only(&w, OUTCOME_TIMEOUT_FIRST_BYTE, 1);
        }
        nothing_is_out(&w);
        world_close(&w);
    }
}

// It is nobody's try and takes nothing from the budget.
static void kept_connection_that_died_is_free(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "retries: 0\n");
    struct peer *client = client_open(&w);
    client_post(client, CHAT_PATH, CHAT);
    struct peer *up = answers(&w, "up", OK_ANSWER);
    forget(client);
    w.worker.setup->upstreams[0].budget.credit = 0;
    peer_close(up); // unseen until it is used
    client_post(client, CHAT_PATH, CHAT);
    answers(&w, "up", OK_ANSWER);
    check_int(message_at(client, 0).status, 200);
    check(!has_field(client, "X-Thaw-Attempts"));
    check_int(outcomes_of(&w, OUTCOME_COMPLETE), 2);
    world_close(&w);
}

static void begun_answer_is_never_tried_again(void **state UNUSED) {
    struct world w;
    world_open(&w, RETRIES "retry_lost: true\n");
    struct peer *client = ask(&w, "", STREAM);
    struct peer *up = answers(&w, "up", STREAM_HEAD);
    send_chunk(up, STR(CONTENT));
    check_str(message_at(client, 0).body, CONTENT);
    send_chunk(up, STR(LIMITED_EVENT));
    close_peer(up);
    advance(&w, LONGEST_WAIT_MS);
    check_int(upstream_count(&w, "up"), 1);
    struct str body = message_at(client, 0).body;
    check(str_starts(body, STR(CONTENT LIMITED_EVENT)));
    check(str_search(body, STR("stream_cut")) < body.len);
    check_only(&w, OUTCOME_UPSTREAM_CUT, 1);
    world_close(&w);
}

// ---- openings

static void error_in_an_opening_falls_over(void **state UNUSED) {
    static const char *const errors[] = {
        LIMITED_EVENT,
        "data: {\"error\":{\"message\":\"x\",\"code\":429}}\n\n",
        "data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\",\"code\":null}}\n\n",
        "event: error\ndata: "
        "{\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\",\"sequence_number\":1}\n\n",
        "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":"
        "{\"code\":\"rate_limit_exceeded\",\"message\":\"x\"}}}\n\n",
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
        "event: error\r\ndata: "
        "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"x\"}}\r\n\r\n",
    };
    static const char *const before[] = {
        "",
        ": hello\n\n",
        ROLE,
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{}}}\n\n"
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n"
        "event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"response\":{\"error\":null}}\n\n",
        "data: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n",
    };
    enum { OPEN, ENDED, AT_ONCE, WAYS };
    for (size_t e = 0; e < ARRAY_LEN(errors); e++) {
        for (size_t b = 0; b < ARRAY_LEN(before); b++) {
            for (unsigned way = 0; way < WAYS; way++) {
                struct world w;
                char text[2048];
                world_open(&w, NEXT);
                struct peer *client = ask(&w, "", STREAM);
                struct peer *up = asked(&w, "a");
                forget(up);
                if (way == AT_ONCE) {
                    snprintf(text, sizeof text, STREAM_HEAD "%zx\r\n%s%s\r\n" CHUNKS_END,
                             strlen(before[b]) + strlen(errors[e]), before[b], errors[e]);
                    answer(up, text);
                } else {
                    answer(up, STREAM_HEAD);
                    if (before[b][0]) {
                        send_chunk(up, str_c(before[b]));
                    }
                    check(message_at(client, 0).none);
                    send_chunk(up, str_c(errors[e]));
                }
                if (way == ENDED) {
                    send_text(up, CHUNKS_END);
                }
                advance(&w, 1);
                assert_non_null(asked(&w, "b"));
                check(message_at(client, 0).none);
                struct peer *other = answers(&w, "b", STREAM_HEAD);
                send_chunk(other, STR(CONTENT));
                send_text(other, CHUNKS_END);
                check_str(message_at(client, 0).body, CONTENT);
                check(message_at(client, 0).whole);
                check_only(&w, OUTCOME_COMPLETE, 1);
                nothing_is_out(&w);
                world_close(&w);
            }
        }
    }
}

// Bytes as they came, whatever was thought of them.
static void opening_is_let_go_whole(void **state UNUSED) {
    static const struct {
        const char *yaml;
        const char *body;
    } rows[] = {
        {NEXT, "data: {\"error\":{\"message\":\"your fault\",\"type\":\"invalid_request_error\"}}\n\n"},
        {NEXT, "data: {\"error\":\"your fault\"}\n\ndata: [DONE]\n\n"},
        {NEXT, "data: not JSON, and an \"error\"\n\n"},
        {NEXT, ROLE "data: [DONE]\n\n"},
        {NEXT, ROLE ROLE CONTENT},
        {NEXT, ": only a comment\n\n"},
        {NEXT, "data: half an event"},
        {NEXT, ""},
        {NEXT, "event: ping\ndata: {}\n\n"},
        {ONE_UPSTREAM "retries: 0\n", LIMITED_EVENT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (unsigned at_once = 0; at_once <= 1; at_once++) {
            struct world w;
            char text[1024];
            world_open(&w, rows[i].yaml);
            const char *name = i + 1 == ARRAY_LEN(rows) ? "up" : "a";
            struct peer *client = ask(&w, "", STREAM);
            size_t len = strlen(rows[i].body);
            int n = snprintf(text, sizeof text, "%s", STREAM_HEAD);
            if (len) {
                n += snprintf(text + n, sizeof text - (size_t)n, "%zx\r\n%s\r\n", len, rows[i].body);
            }
            snprintf(text + n, sizeof text - (size_t)n, "%s", at_once ? CHUNKS_END : "");
            struct peer *up = answers(&w, name, text);
            if (!at_once) {
                send_text(up, CHUNKS_END);
            }
            struct parsed m = message_at(client, 0);
            check_int(m.status, 200);
            check_str(m.body, rows[i].body);
            check(m.whole);
            check_only(&w, OUTCOME_COMPLETE, 1);
            nothing_is_out(&w);
            world_close(&w);
        }
    }
}

// The error that would have been another try, had there been one left.
static void error_in_an_opening_is_told_in_the_end(void **state UNUSED) {
    for (unsigned at_once = 0; at_once <= 1; at_once++) {
        struct world w;
        world_open(&w, RETRIES);
        w.worker.setup->upstreams[0].budget.credit = 0;
        struct peer *client = ask(&w, "", STREAM);
        char text[400];
        snprintf(text, sizeof text, STREAM_HEAD "%zx\r\n%s\r\n%s", strlen(ROLE LIMITED_EVENT), ROLE LIMITED_EVENT,
                 at_once ? CHUNKS_END : "");
        struct peer *up = answers(&w, "up", text);
        if (!at_once) {
            send_text(up, CHUNKS_END);
        }
        struct parsed m = message_at(client, 0);
        check_int(m.status, 200);
        check_str(m.body, ROLE LIMITED_EVENT);
        check(m.whole);
        check_only(&w, OUTCOME_COMPLETE, 1);
        world_close(&w);
    }
}

static void long_opening_is_let_go(void **state UNUSED) {
    struct world w;
    static char ping[4096];
    memset(ping, 'x', sizeof ping - 3);
    memcpy(ping, "event: ping\ndata: ", 18);
    memcpy(ping + sizeof ping - 3, "\n\n", 3);
    size_t enough = OPENING_BYTES / strlen(ping) + 1;
    if (small_window()) {
        return; // 64 KiB take too long, byte by byte
    }
    world_open(&w, NEXT);
    struct peer *client = ask(&w, "", STREAM);
    struct peer *up = answers(&w, "a", STREAM_HEAD);
    for (size_t i = 0; i < enough; i++) {
        check(message_at(client, 0).none);
        send_chunk(up, str_c(ping));
    }
    struct parsed m = message_at(client, 0);
    check_int(m.body.len, enough * strlen(ping));
    for (size_t i = 0; i < enough; i++) {
        check(str_eq(str_first(str_skip(m.body, i * strlen(ping)), strlen(ping)), str_c(ping)));
    }
    world_close(&w);
}

static void opening_of_many_events_is_let_go(void **state UNUSED) {
    struct world w;
    world_open(&w, NEXT);
    struct peer *client = ask(&w, "", STREAM);
    struct peer *up = answers(&w, "a", STREAM_HEAD);
    for (unsigned i = 0; i < OPENING_EVENTS; i++) {
        send_chunk(up, STR("event: ping\ndata: {}\n\n"));
    }
    check(message_at(client, 0).none);
    send_chunk(up, STR("event: ping\ndata: {}\n\n"));
    check_int(message_at(client, 0).body.len, (OPENING_EVENTS + 1) * strlen("event: ping\ndata: {}\n\n"));
    world_close(&w);
}

static void opening_is_not_held_for_long(void **state UNUSED) {
    struct world w;
    world_open(&w, NEXT "timeouts: {between: 20s}\n");
    struct peer *client = ask(&w, "", STREAM);
    struct peer *up = answers(&w, "a", STREAM_HEAD);
    advance(&w, 500);
    send_chunk(up, STR(ROLE)); // does not begin it anew
    advance(&w, OPENING_MS - 510);
    check(message_at(client, 0).none);
    advance(&w, 20);
    check_str(message_at(client, 0).body, ROLE);
    send_chunk(up, STR(LIMITED_EVENT)); // too late
    check_str(message_at(client, 0).body, ROLE LIMITED_EVENT);
    assert_null(asked(&w, "b"));
    advance(&w, 20010);
    check_only(&w, OUTCOME_TIMEOUT_BETWEEN, 1);
    world_close(&w);
}

static void opening_that_breaks_is_a_lost_call(void **state UNUSED) {
    for (unsigned leave = 0; leave <= 1; leave++) {
        struct world w;
        world_open(&w, leave ? NEXT "retry_lost: true\n" : NEXT);
        struct peer *client = ask(&w, "", STREAM);
        struct peer *up = answers(&w, "a", STREAM_HEAD);
        send_chunk(up, STR(ROLE));
        reset(up);
        check_int(asked(&w, "b") != NULL, leave);
        if (!leave) {
            check_int(message_at(client, 0).status, 502);
            check_only(&w, OUTCOME_UPSTREAM_CUT, 1);
        }
        world_close(&w);
    }
}

// ---- leaving

static void who_leaves_while_it_rests_frees_everything(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {up: {url: mock, max_in_flight: 1}}\nretries: 2\nlimits: {in_flight: 1}\n");
    struct peer *client = ask(&w, "", CHAT);
    struct peer *up = asked(&w, "up");
    forget(up);
    answer(up, "HTTP/1.1 503 X\r\nRetry-After: 30\r\nContent-Length: 10\r\n\r\nhalf");
    close_peer(client);
    check_dropped(up);
    check_only(&w, OUTCOME_GONE_WAITING, 1);
    nothing_is_out(&w);
    client = ask(&w, "", CHAT);
    answers(&w, "up", OK_ANSWER);
    check_int(message_at(client, 0).status, 200);
    world_close(&w);
}

static void place_is_free_while_a_call_rests(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {up: {url: mock, max_in_flight: 1}}\nretries: 2\n");
    struct peer *first = ask(&w, "", CHAT);
    struct peer *second = ask(&w, "", CHAT);
    answers(&w, "up", "HTTP/1.1 429 X\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n");
    answers(&w, "up", OK_ANSWER);
    check_int(message_at(second, 0).status, 200);
    check(message_at(first, 0).none);
    advance(&w, 5010);
    answers(&w, "up", OK_ANSWER);
    check_int(message_at(first, 0).status, 200);
    nothing_is_out(&w);
    world_close(&w);
}

static void who_leaves_in_an_opening_frees_everything(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {a: {url: mock, max_in_flight: 1}, b: {url: mock}}\nretries: 0\n");
    struct peer *client = ask(&w, "", STREAM);
    struct peer *up = answers(&w, "a", STREAM_HEAD);
    send_chunk(up, STR(ROLE));
    close_peer(client);
    check_dropped(up);
    check_only(&w, OUTCOME_GONE_WAITING, 1);
    nothing_is_out(&w);
    world_close(&w);
}

// ---- times

static void own_deadline_is_obeyed_and_passed_on(void **state UNUSED) {
    static const struct {
        const char *value, *said;
        uint64_t ms;
    } rows[] = {{"20", "20.000", 20000}, {"2.5", "2.500", 2500}, {"1500ms", "1.500", 1500}, {"2m", "120.000", 120000}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w;
        char field[100];
        world_open(&w, ONE_UPSTREAM);
        snprintf(field, sizeof field, "X-Request-Timeout: %s\r\n", rows[i].value);
        struct peer *client = ask(&w, field, CHAT);
        struct parsed m = message_at(asked(&w, "up"), 0);
        check_str(field_of(&m, "X-Request-Timeout"), rows[i].said);
        check_int(fields_of(&m, "X-Request-Timeout"), 1);
        advance(&w, rows[i].ms - 10);
        check(message_at(client, 0).none);
        advance(&w, 20);
        check_int(message_at(client, 0).status, 504);
        check_has(client, "X-Request-Timeout");
        check_only(&w, OUTCOME_TIMEOUT_TOTAL, 1);
        world_close(&w);
    }
}

static void senseless_deadline_is_refused(void **state UNUSED) {
    static const char *const values[] = {"", "0", "-1", "soon", "1e3", "0.0", "5 s", "99999999999999999999999", "3h2"};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct world w;
        char field[100];
        world_open(&w, ONE_UPSTREAM);
        snprintf(field, sizeof field, "X-Request-Timeout: %s\r\n", values[i]);
        struct peer *client = ask(&w, field, CHAT);
        check_int(message_at(client, 0).status, 400);
        check_int(upstream_count(&w, "up"), 0);
        world_close(&w);
    }
}

static void what_is_left_of_a_deadline_is_passed_on(void **state UNUSED) {
    struct world w;
    world_open(&w, RETRIES);
    struct peer *client = ask(&w, "X-Request-Timeout: 10\r\n", CHAT);
    answers(&w, "up", "HTTP/1.1 429 X\r\nRetry-After: 4\r\nContent-Length: 0\r\n\r\n");
    advance(&w, 4000);
    struct parsed m = message_at(asked(&w, "up"), 0);
    check_str(field_of(&m, "X-Request-Timeout"), "6.000");
    // What would come too late is not waited for.
    answers(&w, "up", "HTTP/1.1 429 X\r\nRetry-After: 6\r\nContent-Length: 0\r\n\r\n");
    check_int(message_at(client, 0).status, 429);
    world_close(&w);
}

static void deadline_in_a_queue_is_named(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {up: {url: mock, max_in_flight: 1}}\nqueue: {wait: 30s}\n");
    struct peer *first = ask(&w, "", CHAT);
    struct peer *second = ask(&w, "X-Request-Timeout: 3\r\n", CHAT);
    advance(&w, 3010);
    check_int(message_at(second, 0).status, 503);
    check_has(second, "queue_timeout");
    check_has(second, "X-Request-Timeout");
    check_int(outcomes_of(&w, OUTCOME_QUEUE_LATE), 1);
    answers(&w, "up", OK_ANSWER);
    check_int(message_at(first, 0).status, 200);
    nothing_is_out(&w);
    world_close(&w);
}

static void times_of_a_model_go_before(void **state UNUSED) {
    struct world w;
    world_open(&w, ONE_UPSTREAM "models: {m: {use: [up], timeouts: {first_byte: 4s, between: 3s, total: 9s}}}\n");
    ask(&w, "", CHAT);
    advance(&w, 4010);
    check_int(outcomes_of(&w, OUTCOME_TIMEOUT_FIRST_BYTE), 1);
    ask(&w, "", STREAM);
    struct peer *up = answers(&w, "up", STREAM_HEAD);
    advance(&w, 3010);
    check_int(outcomes_of(&w, OUTCOME_TIMEOUT_BETWEEN), 1);
    ask(&w, "", STREAM);
    up = answers(&w, "up", STREAM_HEAD);
    for (unsigned i = 0; i < 4; i++) {
        send_chunk(up, STR(CONTENT));
        advance(&w, 2500);
    }
    check_int(outcomes_of(&w, OUTCOME_TIMEOUT_TOTAL), 1);
    world_close(&w);
}

// ---- resting upstreams

#define FRAGILE ONE_UPSTREAM "breaker: {failures: 2, rest: 10s}\nretries: 0\n"

static enum breaker_state breaker_of(struct world *w, unsigned upstream) {
    return breaker_state(gate_breaker(w->worker.setup->upstreams[upstream].gate), w->worker.loop.now_ms);
}

static void two_failures(struct world *w, const char *text) {
    for (unsigned i = 0; i < 2; i++) {
        ask(w, "", CHAT);
        answers(w, "up", text);
    }
}

static void one_call_tries_a_resting_upstream(void **state UNUSED) {
    struct world w;
    world_open(&w, FRAGILE);
    two_failures(&w, BROKEN);
    check_int(breaker_of(&w, 0), BREAKER_OPEN);
    advance(&w, 10000);
    struct peer *trial = ask(&w, "", CHAT);
    struct peer *other = ask(&w, "", CHAT);
    check_int(message_at(other, 0).status, 503);
    check_has(other, "upstream_resting");
    check(has_field(other, "Retry-After"));
    answers(&w, "up", BROKEN); // rests again, at once
    check_int(message_at(trial, 0).status, 500);
    check_int(breaker_of(&w, 0), BREAKER_OPEN);
    advance(&w, 10000);
    trial = ask(&w, "", CHAT);
    answers(&w, "up", OK_ANSWER);
    check_int(breaker_of(&w, 0), BREAKER_CLOSED);
    world_close(&w);
}

static void trial_whose_client_leaves_is_another_ones(void **state UNUSED) {
    struct world w;
    world_open(&w, FRAGILE);
    two_failures(&w, BROKEN);
    advance(&w, 10000);
    struct peer *trial = ask(&w, "", CHAT);
    close_peer(trial);
    check_int(breaker_of(&w, 0), BREAKER_HALF_OPEN);
    struct peer *next = ask(&w, "", CHAT);
    answers(&w, "up", OK_ANSWER);
    check_int(message_at(next, 0).status, 200);
    check_int(breaker_of(&w, 0), BREAKER_CLOSED);
    world_close(&w);
}

// Neither for nor against it (admit/breaker.h).
static void too_many_requests_say_nothing_about_health(void **state UNUSED) {
    struct world w;
    world_open(&w, FRAGILE);
    two_failures(&w, TOO_MANY);
    check_int(breaker_of(&w, 0), BREAKER_CLOSED);
    ask(&w, "", CHAT);
    answers(&w, "up", BROKEN);
    ask(&w, "", CHAT);
    answers(&w, "up", TOO_MANY);
    ask(&w, "", CHAT);
    answers(&w, "up", BROKEN);
    check_int(breaker_of(&w, 0), BREAKER_OPEN);
    world_close(&w);
}

static void clients_that_leave_say_nothing_about_health(void **state UNUSED) {
    struct world w;
    world_open(&w, FRAGILE);
    for (unsigned i = 0; i < 6; i++) {
        struct peer *client = ask(&w, "", i % 2 ? CHAT : STREAM);
        if (i % 2 == 0) {
            answers(&w, "up", STREAM_HEAD);
        }
        close_peer(client);
    }
    check_int(breaker_of(&w, 0), BREAKER_CLOSED);
    nothing_is_out(&w);
    world_close(&w);
}

static void errors_in_openings_are_failures(void **state UNUSED) {
    struct world w;
    world_open(&w, TWO_UPSTREAMS "breaker: {failures: 2, rest: 10s}\nretries: 0\n");
    for (unsigned i = 0; i < 2; i++) {
        ask(&w, "", STREAM);
        struct peer *up = answers(&w, "a", STREAM_HEAD);
        send_chunk(up, STR("data: {\"error\":{\"message\":\"x\",\"code\":\"server_error\"}}\n\n"));
        advance(&w, 1);
        answers(&w, "b", OK_ANSWER);
    }
    check_int(breaker_of(&w, 0), BREAKER_OPEN);
    check_int(breaker_of(&w, 1), BREAKER_CLOSED);
    world_close(&w);
}

// Those who wait are not sent there, one by one, once it is known to fail.
static void queue_of_a_resting_upstream_moves_on(void **state UNUSED) {
    struct world w;
    world_open(&w, "upstreams: {a: {url: mock, max_in_flight: 1}, b: {url: mock}}\nretries: 0\n"
                   "breaker: {failures: 1, rest: 10s}\nmodels: {m: {use: [a]}, n: {use: [a, b]}}\n");
    struct peer *first = ask(&w, "", CHAT);
    struct peer *second = ask(&w, "", CHAT);
    struct peer *third = ask(&w, "", "{\"model\":\"n\"}");
    answers(&w, "a", BROKEN);
    check_int(message_at(first, 0).status, 500);
    assert_null(asked(&w, "a"));
    check_int(message_at(second, 0).status, 503);
    check_has(second, "upstream_resting");
    answers(&w, "b", OK_ANSWER);
    check_int(message_at(third, 0).status, 200);
    nothing_is_out(&w);
    world_close(&w);
}

// ---- what is tried again beside looked-at calls

static void other_methods_are_tried_again(void **state UNUSED) {
    static const char *const heads[] = {"HEAD /v1/files/1", "GET /v1/files/1", "DELETE /v1/files/1"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct world w;
        world_open(&w, RETRIES);
        struct peer *client = client_open(&w);
        client_ask(client, heads[i], "", NULL);
        answers(&w, "up", i ? BUSY : "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\n");
        advance(&w, LONGEST_WAIT_MS);
        answers(&w, "up", i ? OK_ANSWER : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
        check_int((i ? message_at(client, 0) : answer_to_head(client)).status, 200);
        check_only(&w, OUTCOME_COMPLETE, 1);
        world_close(&w);
    }
}

// Whose body passes through is tried again as long as none of it is gone.
static void streamed_upload_is_tried_again_before_its_first_byte(void **state UNUSED) {
    for (unsigned begun = 0; begun <= 1; begun++) {
        struct world w;
        world_open(&w, NEXT);
        struct peer *client = client_open(&w);
        send_text(client, "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
        if (begun) {
            send_text(client, "he");
        }
        struct peer *up = upstream_peer(&w, "a", 0);
        answer(up, BUSY);
        advance(&w, 1);
        send_text(client, begun ? "llo" : "hello");
        check_int(upstream_count(&w, "b"), !begun);
        if (begun) {
            check_int(message_at(client, 0).status, 503);
        } else {
            check_has(asked(&w, "b"), "hello");
            answers(&w, "b", OK_ANSWER);
            check_int(message_at(client, 0).status, 200);
        }
        check_only(&w, OUTCOME_COMPLETE, 1);
        nothing_is_out(&w);
        world_close(&w);
    }
}

// The end of an upload comes while the upstream has not taken what came before.
static void upload_whose_end_comes_early_is_sent_whole(void **state UNUSED) {
    enum { BODY = 2 * MEM_WINDOW };
    if (small_window()) {
        return; // it is about what fills a window
    }
    struct world w;
    world_open(&w, ONE_UPSTREAM);
    w.deaf = true;
    struct peer *client = client_open(&w);
    char *body = xmalloc(BODY + 64);
    int n = snprintf(body, 64, "%x\r\n", BODY);
    memset(body + n, 'x', BODY);
    memcpy(body + n + BODY, "\r\n0\r\n\r\n", 7);
    peer_queue(client, STR("POST /v1/files HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for (int at = 0; at < n + BODY + 7;) {
        int piece = MIN(60000, n + BODY + 7 - at); // the last one has the end in it
        send_bytes(client, str_from(body + at, (size_t)piece));
        at += piece;
    }
    struct peer *up = upstream_peer(&w, "up", 0);
    peer_read(up, SIZE_MAX);
    settle(&w);
    struct parsed m = message_at(up, 0);
    check(m.whole);
    check_int(m.body.len, BODY);
    answer(up, OK_ANSWER);
    check_int(message_at(client, 0).status, 200);
    free(body);
    world_close(&w);
}

FLOWS(TEST(some_statuses_are_tried_again), TEST(upstream_says_when), TEST(too_long_a_wait_is_the_clients),
      TEST(waits_grow_and_are_bounded), TEST(last_answer_is_relayed), TEST(without_retries_there_are_none),
      TEST(storm_is_not_multiplied), TEST(next_upstream_is_asked_in_order), TEST(equals_share_by_weight),
      TEST(equal_one_is_asked_at_once), TEST(tries_are_counted_beside_one_that_rests),
      TEST(answer_is_not_given_up_for_one_that_rests), TEST(failure_that_makes_it_rest_is_relayed),
      TEST(lost_call_is_sent_again_only_with_leave), TEST(slow_call_is_sent_again_only_with_leave),
      TEST(kept_connection_that_died_is_free), TEST(begun_answer_is_never_tried_again),
      TEST(error_in_an_opening_falls_over), TEST(opening_is_let_go_whole), TEST(error_in_an_opening_is_told_in_the_end),
      TEST(long_opening_is_let_go), TEST(opening_of_many_events_is_let_go), TEST(opening_is_not_held_for_long),
      TEST(opening_that_breaks_is_a_lost_call), TEST(who_leaves_while_it_rests_frees_everything),
      TEST(place_is_free_while_a_call_rests), TEST(who_leaves_in_an_opening_frees_everything),
      TEST(own_deadline_is_obeyed_and_passed_on), TEST(senseless_deadline_is_refused),
      TEST(what_is_left_of_a_deadline_is_passed_on), TEST(deadline_in_a_queue_is_named),
      TEST(times_of_a_model_go_before), TEST(one_call_tries_a_resting_upstream),
      TEST(trial_whose_client_leaves_is_another_ones), TEST(too_many_requests_say_nothing_about_health),
      TEST(clients_that_leave_say_nothing_about_health), TEST(errors_in_openings_are_failures),
      TEST(queue_of_a_resting_upstream_moves_on), TEST(other_methods_are_tried_again),
      TEST(streamed_upload_is_tried_again_before_its_first_byte), TEST(upload_whose_end_comes_early_is_sent_whole))
