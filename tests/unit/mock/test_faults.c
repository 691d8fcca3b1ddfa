// SPDX-License-Identifier: MIT
// Faults: their names and rates, and what a client sees of each, to the byte.
#include "support.h"

#include "mock/draw.h"
#include "mock/plan.h"

static void every_example_is_a_fault_and_a_models_name(void **state UNUSED) {
    size_t i = 0;
    for (; fault_example(i); i++) {
        struct fault fault;
        char name[40];
        check(fault_parse(str_c(fault_example(i)), &fault));
        snprintf(name, sizeof name, "mock-%s", fault_example(i));
        struct plan plan = plan_make(&(struct mock_options){.tokens = 1}, str_c(name));
        check_int(plan.fault.kind, fault.kind);
        check_int(plan.fault.n, fault.n);
    }
    check(i > 15);
}

static const struct {
    const char *name;
    struct fault fault;
} names[] = {
    {"none", {FAULT_NONE, 0}},           {"400", {FAULT_STATUS, 400}},
    {"599", {FAULT_STATUS, 599}},        {"hang", {FAULT_HANG, 0}},
    {"hang-head", {FAULT_HANG_AT, 0}},   {"hang-2", {FAULT_HANG_AT, 2}},
    {"cut-0", {FAULT_CUT_AT, 0}},        {"cut-4294967294", {FAULT_CUT_AT, 4294967294}},
    {"drip", {FAULT_DRIP, 10}},          {"drip-500", {FAULT_DRIP, 500}},
    {"1xx-storm-7", {FAULT_INTERIM, 7}}, {"header-bomb-200", {FAULT_HEAD, 200}},
};

static const char *const no_names[] = {
    "",       "399",    "600",    "0429",        "4290",           "hang-",           "hang-x",
    "cut",    "cut-",   "cut-x",  "cut--1",      "cut-1-2",        "cut-4294967295",  "cut7",
    "drip-0", "Cut-1",  "empty-", "empty-1",     "nothing",        "header-bomb-201", "wrong",
    "hangs",  "cut-1 ", " cut-1", "1xx-storm-0", "close-on-accept"};

static void names_are_understood_to_the_letter(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct fault fault = {.kind = FAULT_HTML};
        check(fault_parse(str_c(names[i].name), &fault));
        check_int(fault.kind, names[i].fault.kind);
        check_int(fault.n, names[i].fault.n);
    }
    for (size_t i = 0; i < ARRAY_LEN(no_names); i++) {
        struct fault fault = {.kind = FAULT_HTML};
        if (fault_parse(str_c(no_names[i]), &fault)) {
            fail_msg("'%s' is a fault", no_names[i]);
        }
        check_int(fault.kind, FAULT_HTML);
    }
}

static void rates_are_percentages(void **state UNUSED) {
    static const char *const wrong[] = {"",           "429",        "429:",    "429:%",    "429:5",
                                        "429:101%",   "429:1.2.3%", "429:-1%", "nix:5%",   "429:.5%",
                                        "429:100.1%", "429: 5%",    "429:5 %", "429:0x1%", "429:0000000000000001%"};
    static const struct {
        const char *text;
        double share;
    } right[] = {
        {"429:5%", 0.05}, {"hang:0.1%", 0.001}, {"cut-7:100%", 1}, {"close-on-accept:0%", 0}, {"429:5.%", 0.05}};
    struct fault_rate rate;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        if (!fault_parse_rate(str_c(wrong[i]), &rate)) {
            fail_msg("'%s' is a rate", wrong[i]);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(right); i++) {
        check(fault_parse_rate(str_c(right[i].text), &rate) == NULL);
        check(rate.share > right[i].share - 1e-12 && rate.share < right[i].share + 1e-12);
    }
    check_int(rate.fault.kind, FAULT_STATUS);
    check_int(rate.fault.n, 429);
}

static void rates_are_kept_and_the_same_for_a_seed(void **state UNUSED) {
    enum { CALLS = 100000 };
    static const struct fault_rate rates[] = {
        {{FAULT_HANG, 0}, 0.05}, {{FAULT_ACCEPT, 0}, 0.5}, {{FAULT_STATUS, 429}, 0.1}, {{FAULT_STATUS, 500}, 0.0}};
    unsigned counts[FAULT_ACCEPT + 1] = {0};
    unsigned same = 0;
    for (uint64_t i = 1; i <= CALLS; i++) {
        struct fault fault = fault_by_rate(rates, ARRAY_LEN(rates), false, draw_unit(1, i));
        counts[fault.kind]++;
        check(fault.kind != FAULT_STATUS || fault.n == 429);
        check_int(fault.kind, fault_by_rate(rates, ARRAY_LEN(rates), false, draw_unit(1, i)).kind);
        same += fault.kind == fault_by_rate(rates, ARRAY_LEN(rates), false, draw_unit(2, i)).kind;
        counts[FAULT_ACCEPT] += fault_by_rate(rates, ARRAY_LEN(rates), true, draw_unit(1, i)).kind == FAULT_ACCEPT;
    }
    check(counts[FAULT_HANG] > CALLS / 22 && counts[FAULT_HANG] < CALLS / 18);
    check(counts[FAULT_STATUS] > CALLS / 11 && counts[FAULT_STATUS] < CALLS / 9);
    check(counts[FAULT_ACCEPT] > CALLS * 48 / 100 && counts[FAULT_ACCEPT] < CALLS * 52 / 100);
    check(same < CALLS * 9 / 10); // by chance it would be three quarters
    check_int(fault_by_rate(NULL, 0, false, 0).kind, FAULT_NONE);
}

// ---- what a client sees

// Asks for the fault and lets time pass until nothing happens any more.
static void provoke(struct client *c, const char *path, const char *fault, bool stream) {
    char body[300];
    snprintf(body, sizeof body,
             "{\"model\":\"mock-%s\",\"max_tokens\":99,\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":"
             "\"one two three four\"}],\"input\":\"one\",\"prompt\":\"one two\"}",
             fault, stream ? "true" : "false");
    buf_clear(&c->in);
    client_post(c, path, body);
    pass_ms(c->world, 100 * 1000);
}

static void check_has(struct client *c, const char *text, bool wanted) {
    bool found = !*text || str_search(buf_str(&c->in), str_c(text)) < buf_len(&c->in);
    if (found != wanted) {
        fail_msg("%s '%s': \"%.*s\"", wanted ? "there is no" : "there is", text, STR_ARG(buf_str(&c->in)));
    }
}

// What every fault leaves of a chat, not streamed and streamed.
static const struct seen {
    const char *fault;
    bool stream;
    bool ended;                   // the connection is closed
    bool whole;                   // as far as HTTP can tell
    const char *last, *not_there; // something of the answer that came, and something that did not
} sights[] = {
    {"hang", false, false, false, "", "HTTP/"},
    {"hang", true, false, false, "", "HTTP/"},
    {"hang-head", false, false, false, "HTTP/1.1 200", "choices"},
    {"hang-head", true, false, false, "HTTP/1.1 200", "two"},
    {"hang-2", true, false, false, "\" two\"", "three"},
    {"hang-2", false, false, false, "one two", "three"},
    {"close-before-head", false, true, false, "", "HTTP/"},
    {"reset-before-head", false, true, false, "", "HTTP/"},
    {"garbage", false, true, false, "no HTTP", "HTTP/1"},
    {"cut-0", false, true, false, "HTTP/1.1 200", "choices"},
    {"cut-0", true, true, false, "HTTP/1.1 200", "choices"},
    {"cut-2", false, true, false, "one two", "three"},
    {"cut-2", true, true, false, "\" two\"", "three"},
    {"cut-9", true, true, false, "\" four\"", "stop"},
    {"reset-2", false, true, false, "one two", "three"},
    {"reset-2", true, true, false, "\" two\"", "three"},
    {"end-2", false, false, true, "one two", "three"},
    {"end-2", true, false, true, "\" two\"", "three"},
    {"end-0", true, false, true, "HTTP/1.1 200", "choices"},
    {"end-0", false, false, true, "Content-Length: 0", "choices"},
    {"cut-1", false, true, false, "\"content\":\"one", "two"},
    {"error-2", false, false, true, "one two", "three"},
    {"error-2", true, false, true, "data: {\"error\":{", "three"},
    {"error-0", true, false, true, "data: {\"error\":{", "choices"},
    {"drip", false, false, true, "one two three four", "zz"},
    {"drip", true, false, true, "\r\n1\r\n]\r\n1\r\n\n\r\n", "zz"},
    {"malformed-chunk", true, true, false, "\r\nzz\r\n", "two"},
    {"malformed-chunk", false, true, false, "one\r\nzz\r\n", "two"},
    {"wrong-length", false, true, false, "one two three four", "Transfer-Encoding"},
    {"wrong-length", true, true, false, "[DONE]", "Transfer-Encoding"},
    {"wrong-length-short", false, true, true, "one two three four", "Transfer-Encoding"},
    {"wrong-length-short", true, true, true, "{\"more\":\"bytes\"}", "Transfer-Encoding"},
    {"invalid-json", false, false, true, "one", "finish_reason"},
    {"invalid-json", true, false, true, "\"one\"", "\" two\""},
    {"utf8-cut", false, false, true, "\xC3\xA9 \xE4", "\xE4\xBD"},
    {"utf8-cut", true, false, true, "\" \xE4", "\xE4\xBD"},
    {"empty", false, false, true, "Content-Length: 0\r\n", "{"},
    {"empty", true, false, true, "Content-Length: 0\r\n", "{"},
    {"html", false, false, true, "text/html", "choices"},
    {"html", true, false, true, "<p>", "choices"},
    {"header-bomb", false, false, true, "one two three four", "zz"},
    {"1xx-storm-3", true, false, true, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", "zz"},
};

static bool answer_is_whole(struct client *c) {
    struct got got;
    while (str_starts(buf_str(&c->in), STR("HTTP/1.1 1"))) {
        buf_consume(&c->in, str_search(buf_str(&c->in), STR("\r\n\r\n")) + 4);
    }
    if (!str_starts(buf_str(&c->in), STR("HTTP/1.1 ")) ||
        str_search(buf_str(&c->in), STR("\r\nzz\r\n")) < buf_len(&c->in)) {
        return false;
    }
    return peek_answer(c, &got, false) > 0;
}

static void every_fault_is_what_it_says(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(sights); i++) {
        const struct seen *seen = &sights[i];
        struct world w;
        struct client c;
        one_client(&w, &c, &(struct mock_options){.tokens = 0});
        provoke(&c, CHAT, seen->fault, seen->stream);
        check_has(&c, seen->last, true);
        check_has(&c, seen->not_there, false);
        bool whole = answer_is_whole(&c);
        if (c.ended != seen->ended || whole != seen->whole) {
            fail_msg("%s%s: ended %d, whole %d: \"%.*s\"", seen->fault, seen->stream ? " (stream)" : "", c.ended, whole,
                     STR_ARG(buf_str(&c.in)));
        }
        if (seen->whole && !seen->ended) { // the connection can go on
            buf_clear(&c.in);
            provoke(&c, CHAT, "0s", false);
            check_int(take_answer(&c).status, 200);
        }
        done(&w, &c);
    }
}

// Every fault on every kind of answer: no crash, no leak, the mock goes on.
static void every_fault_goes_with_every_answer(void **state UNUSED) {
    static const char *const paths[] = {CHAT,           "/v1/completions",          "/v1/responses", "/v1/embeddings",
                                        "/v1/messages", "/v1/messages/count_tokens"};
    for (size_t i = 0; fault_example(i); i++) {
        struct world w;
        struct client c;
        world_init(&w, &(struct mock_options){.times.between = LATENCY_MS(1)});
        for (size_t p = 0; p < ARRAY_LEN(paths) * 2; p++) {
            client_open(&c, &w, 1000);
            provoke(&c, paths[p / 2], fault_example(i), p % 2);
            client_close(&c);
            settle(&w);
        }
        client_open(&c, &w, MEM_WINDOW);
        provoke(&c, CHAT, "0s", false);
        check_int(take_answer(&c).status, 200);
        get(&c, "/mock/stats");
        check(str_starts(buf_str(&c.body), STR("{\"in_flight\":0,")));
        done(&w, &c);
    }
}

static void a_tool_call_is_cut_too(void **state UNUSED) {
    static const char body[] =
        "{\"model\":\"mock-cut-1\",\"max_tokens\":9,\"tools\":[{\"name\":\"f\"}],\"tool_choice\":"
        "{\"type\":\"any\"},\"messages\":[{\"content\":\"x\"}]}";
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.tokens = 0});
    client_post(&c, "/v1/messages", body);
    check(c.ended);
    check_has(&c, "tool_use", true);
    check_has(&c, "stop_reason", false);
    done(&w, &c);
}

static void every_api_has_its_error_in_the_middle(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.tokens = 0});
    ask(&c, "/v1/messages",
        "{\"model\":\"mock-error-1\",\"max_tokens\":9," STREAM "\"messages\":[{\"content\":\"a b\"}]}");
    check_joined(&c, "delta.text", "a", 1);
    check_joined(&c, "error.type", "overloaded_error", 1);
    check(str_search(buf_str(&c.body), STR("message_stop")) == buf_len(&c.body));
    ask(&c, "/v1/responses", "{\"model\":\"mock-error-1\"," STREAM "\"input\":\"a b\"}");
    check_joined(&c, "delta", "a", 1);
    check_joined(&c, "code", "server_error", 1);
    check(str_search(buf_str(&c.body), STR("event: error\ndata: {\"type\":\"error\",\"sequence_number\":5,")) <
          buf_len(&c.body));
    done(&w, &c);
}

static void a_field_overrules_the_name_and_a_rate(void **state UNUSED) {
    static const char body[] = "{\"model\":\"mock-hang\",\"messages\":[{\"content\":\"x\"}]}";
    static const struct {
        const char *fault;
        int status;
    } fields[] = {{"429", 429}, {"none", 200}, {"html", 200}, {"no-such", 400}};
    struct world w;
    struct client c;
    struct mock_options options = {.fault_count = 1};
    check(fault_parse_rate(STR("500:100%"), &options.faults[0]) == NULL);
    one_client(&w, &c, &options);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        check_ok(buf_printf(&c.out,
                            "POST " CHAT " HTTP/1.1\r\nHost: m\r\nX-Mock-Fault: %s\r\nContent-Length: %zu\r\n\r\n%s",
                            fields[i].fault, strlen(body), body));
        client_write(&c);
        settle(&w);
        check_int(take_answer(&c).status, fields[i].status);
    }
    check_int(ask(&c, CHAT, ASK("m", "")).status, 500);
    client_post(&c, CHAT, body); // the name overrules the rate
    check_no_answer(&c);
    done(&w, &c);
}

static void a_status_tells_of_the_limits(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.times.latency = LATENCY_MS(60000)});
    client_post(&c, CHAT, ASK("mock-429", ""));
    struct got got = take_answer(&c);
    check_error(&c, &got, 429);
    check_str(got_field(&got, "x-ratelimit-remaining-requests"), "0");
    check_str(got_field(&got, "x-ratelimit-reset-requests"), "1s");
    check_str(got_field(&got, "retry-after"), "1");
    client_post(&c, CHAT, ASK("mock-500", ""));
    got = take_answer(&c);
    check_str(got_field(&got, "x-ratelimit-remaining-requests"), "59");
    check(!got_field(&got, "retry-after").ptr);
    client_post(&c, CHAT, ASK("mock-0s", ""));
    got = take_answer(&c);
    check(!got_field(&got, "x-ratelimit-remaining-requests").ptr);
    done(&w, &c);
}

static void a_bomb_is_as_large_as_it_says(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.tokens = 0});
    provoke(&c, CHAT, "header-bomb-100", false);
    size_t head = str_search(buf_str(&c.in), STR("\r\n\r\n"));
    check(head > 100 * 1024 && head < 101 * 1024);
    done(&w, &c);
}

static void characters_are_split_between_two_pieces(void **state UNUSED) {
    struct world w;
    struct client c;
    one_client(&w, &c, &(struct mock_options){.tokens = 0});
    client_post(&c, CHAT, "{\"model\":\"mock-utf8-split\",\"messages\":[{\"content\":\"x\"}]}");
    check(str_ends(buf_str(&c.in), STR("\xC3")));
    pass_ms(&w, 5);
    check(str_ends(buf_str(&c.in), STR("\xA9 \xE4")));
    pass_ms(&w, 5);
    check(str_ends(buf_str(&c.in), STR("\xBD\xA0 \xF0")));
    pass_ms(&w, 5);
    check_int(take_answer(&c).status, 200);
    struct json *json = body_json(&c);
    check_str(text_at(json, "choices.0.message.content"), "\xC3\xA9 \xE4\xBD\xA0 \xF0\x9F\x98\x80");
    json_close(json);
    done(&w, &c);
}

static void connections_are_closed_by_rate(void **state UNUSED) {
    struct world w;
    struct mock_options options = {.fault_count = 1};
    unsigned closed = 0;
    check(fault_parse_rate(STR("close-on-accept:50%"), &options.faults[0]) == NULL);
    world_init(&w, &options);
    for (unsigned i = 0; i < 200; i++) {
        struct client c;
        client_open(&c, &w, MEM_WINDOW);
        provoke(&c, CHAT, "0s", false);
        closed += c.ended;
        check_int(buf_len(&c.in) > 0, !c.ended);
        client_close(&c);
        settle(&w);
    }
    check(closed > 70 && closed < 130);
    world_finish(&w);
}

static void starve(void *arg) {
    struct world *w = arg;
    static const char *const faults[] = {"drip",        "cut-2",    "reset-2", "malformed-chunk",
                                         "header-bomb", "utf8-cut", "garbage"};
    for (size_t i = 0; i < ARRAY_LEN(faults) * 2; i++) {
        struct client c;
        char body[200];
        client_open(&c, w, 1000);
        snprintf(body, sizeof body, "{\"model\":\"mock-%s\",\"stream\":%s,\"messages\":[{\"content\":\"a b c\"}]}",
                 faults[i / 2], i % 2 ? "true" : "false");
        if (buf_printf(&c.out, "POST " CHAT " HTTP/1.1\r\nHost: m\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
                       body) == OK) {
            client_write(&c);
        }
        c.reads = false; // the test's own buffers are not what is looked at
        pass_ms(w, 100);
        client_close(&c);
        settle(w);
    }
}

static void faults_survive_without_memory(void **state UNUSED) {
    struct world w;
    struct client c;
    world_init(&w, &(struct mock_options){.times.between = LATENCY_MS(1)});
    check(every_allocation_fails(starve, &w) > 10);
    client_open(&c, &w, MEM_WINDOW);
    check_int(ask(&c, CHAT, ASK("m", "")).status, 200);
    done(&w, &c);
}

TESTS(TEST(every_example_is_a_fault_and_a_models_name), TEST(names_are_understood_to_the_letter),
      TEST(rates_are_percentages), TEST(rates_are_kept_and_the_same_for_a_seed), TEST(every_fault_is_what_it_says),
      TEST(every_fault_goes_with_every_answer), TEST(a_tool_call_is_cut_too),
      TEST(every_api_has_its_error_in_the_middle), TEST(a_field_overrules_the_name_and_a_rate),
      TEST(a_status_tells_of_the_limits), TEST(a_bomb_is_as_large_as_it_says),
      TEST(characters_are_split_between_two_pieces), TEST(connections_are_closed_by_rate),
      TEST(faults_survive_without_memory))
