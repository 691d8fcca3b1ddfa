// SPDX-License-Identifier: MIT
// Prompts as paths: what fills them, what is asked for then, and that only the text comes back.
#include "flow.h"

#define MODELS "default_model: d\n"
#define REVIEW                                                                                                         \
    ONE_UPSTREAM                                                                                                       \
    "default_model: d\nrecipes:\n  /review:\n    deadline: 30s\n    calls:\n"                                          \
    "      summary: {prompt: 'Summarise: {{text}}', model: s}\n"                                                       \
    "      risks: {system: 'For {{reader}}.', prompt: 'Risks: {{text}}', max_tokens: 5, temperature: 0.5}\n"
#define SAYS(text)                                                                                                     \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"                          \
    "2a\r\n{\"choices\":[{\"message\":{\"content\":\"" text "\"}}]}\r\n0\r\n\r\n" // text: two bytes
#define REFUSAL(code, message)                                                                                         \
    "HTTP/1.1 " code " No\r\nRetry-After: 7\r\nConnection: close\r\n\r\n{\"error\":{\"message\":\"" message "\"}}"

struct scene {
    struct world w;
    struct peer *client;
};

static void open_scene(struct scene *s, const char *yaml) {
    world_open(&s->w, yaml);
    s->client = client_open(&s->w);
}

static struct peer *up(struct scene *s, unsigned n) { return upstream_peer(&s->w, "up", n); }

static void ask(struct peer *client, const char *target, const char *fields, const char *body) {
    char head[600];
    snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: thaw\r\n%sContent-Length: %zu\r\n\r\n", target, fields,
             strlen(body));
    peer_queue(client, str_c(head));
    send_text(client, body);
}

#define JSON_TYPE "Content-Type: application/json\r\n"
#define FORM_TYPE "Content-Type: application/x-www-form-urlencoded\r\n"

static void check_answer(struct scene *s, int status, const char *body) {
    struct parsed m = message_at(s->client, 0);
    check_int(m.status, status);
    check_str(m.body, body);
    check(m.whole);
}

// ---- what fills a prompt

static void a_prompt_comes_as_json_form_or_query(void **state UNUSED) {
    static const struct {
        const char *target, *fields, *body;
        const char *content; // JSON of the message
    } cases[] = {
        {"/chat", JSON_TYPE, "{\"prompt\":\"hi\"}", "hi"},
        {"/chat", FORM_TYPE, "prompt=hi+there%21", "hi there!"},
        {"/chat", FORM_TYPE, " \n{\"prompt\":\"as curl sends it\"}", "as curl sends it"},
        {"/chat", "", "{\"prompt\":\"no type\"}", "no type"},
        {"/chat", "", "prompt=no%20type", "no type"},
        {"/chat?prompt=a%26b", "", "", "a&b"},
        {"/chat?prompt=query", JSON_TYPE, "{\"prompt\":\"body\"}", "body"},
        {"/chat?prompt=query", JSON_TYPE, "{\"prompt\":null}", "query"},
        {"/chat?prompt=query", FORM_TYPE, "prompt=one&prompt=two", "one"},
        {"/chat?x=y&prompt=query", FORM_TYPE, "other=1", "query"},
        {"/chat", JSON_TYPE, "{\"prompt\":1.50e1}", "1.50e1"},
        {"/chat", JSON_TYPE, "{\"prompt\":false}", "false"},
        {"/chat", JSON_TYPE, "{\"prompt\":{\"a\": [1]}}", "{\\\"a\\\": [1]}"},
        {"/chat", JSON_TYPE, "{\"prompt\":\"\"}", ""},
        {"/chat", JSON_TYPE, "{\"prompt\":\"\\\"},{\\\"role\\\":\\\"system\\\"\"}",
         "\\\"},{\\\"role\\\":\\\"system\\\""},
        {"/chat", FORM_TYPE, "prompt=%22%7d%00%ff", "\\\"}\\u0000\xEF\xBF\xBD"},
        {"/chat", JSON_TYPE, "{\"prompt\":\"{{prompt}}\"}", "{{prompt}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene s;
        char want[300];
        open_scene(&s, ONE_UPSTREAM MODELS);
        ask(s.client, cases[i].target, cases[i].fields, cases[i].body);
        struct parsed m = message_at(up(&s, 0), 0);
        snprintf(want, sizeof want, "{\"model\":\"d\",\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                 cases[i].content);
        check_str(m.start, "POST /chat/completions HTTP/1.1");
        check_str(m.body, want);
        check_str(field_of(&m, "content-type"), "application/json");
        check_int(fields_of(&m, "content-type"), 1);
        answer(up(&s, 0), SAYS("ok"));
        check_answer(&s, 200, "{\"response\":\"ok\"}\n");
        check_only(&s.w, OUTCOME_COMPLETE, 1);
        world_close(&s.w);
    }
}

static void a_recipe_is_what_it_says(void **state UNUSED) {
    struct scene s;
    open_scene(&s, REVIEW);
    ask(s.client, "/review?reader=me&model=r", JSON_TYPE, "{\"text\":\"T\"}");
    check_str(message_at(up(&s, 0), 0).body,
              "{\"model\":\"s\",\"messages\":[{\"role\":\"user\",\"content\":\"Summarise: T\"}]}");
    check_str(message_at(up(&s, 1), 0).body,
              "{\"model\":\"r\",\"messages\":[{\"role\":\"system\",\"content\":\"For me.\"},{\"role\":\"user\","
              "\"content\":\"Risks: T\"}],\"max_tokens\":5,\"temperature\":0.5}");
    answer(up(&s, 1), SAYS("ri"));
    check_int(s.client->got_len, 0);
    answer(up(&s, 0), SAYS("su"));
    check_answer(&s, 200, "{\"response\":{\"summary\":\"su\",\"risks\":\"ri\"}}\n");
    world_close(&s.w);
}

static void the_model_is_the_recipes_the_requests_the_default(void **state UNUSED) {
    static const struct {
        const char *yaml, *body, *model;
    } cases[] = {
        {"upstreams: {up: {url: mock}}\n", "{\"prompt\":\"x\"}", "mock"},
        {"upstreams: {up: {url: mock}}\ndefault_model: d\n", "{\"prompt\":\"x\"}", "d"},
        {"upstreams: {up: {url: mock}}\ndefault_model: d\n", "{\"prompt\":\"x\",\"model\":\"r\"}", "r"},
        {"upstreams: {up: {url: mock}}\nrecipes: {/chat: {model: own, prompt: '{{prompt}}'}}\n",
         "{\"prompt\":\"x\",\"model\":\"r\"}", "own"},
        {"upstreams: {up: {url: mock}}\nmodels: {m: {use: [up/theirs]}}\ndefault_model: m\n", "{\"prompt\":\"x\"}",
         "theirs"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene s;
        char want[60];
        open_scene(&s, cases[i].yaml);
        ask(s.client, "/chat", JSON_TYPE, cases[i].body);
        snprintf(want, sizeof want, "{\"model\":\"%s\",", cases[i].model);
        check(str_starts(message_at(up(&s, 0), 0).body, str_c(want)));
        world_close(&s.w);
    }
}

static void the_prefix_may_be_another_one(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM MODELS "prefix: ''\n");
    ask(s.client, "/chat", JSON_TYPE, "{\"prompt\":\"x\"}");
    check_str(message_at(up(&s, 0), 0).start, "POST /chat/completions HTTP/1.1");
    world_close(&s.w);
}

// ---- what is refused

static void what_is_missing_is_named(void **state UNUSED) {
    static const struct {
        const char *target, *fields, *body;
        int status;
        const char *says;
    } cases[] = {
        {"/review", JSON_TYPE, "{}", 422, "\"Not given: 'text', 'reader'."},
        {"/review?text=1", "", "", 422, "\"Not given: 'reader'."},
        {"/review?text=1", "", "", 422, "\"param\":\"reader\",\"code\":\"missing_value\""},
        {"/chat", JSON_TYPE, "", 422, "'prompt'"},
        {"/chat", JSON_TYPE, "{\"prompt\":", 400, "\"code\":\"invalid_json\""},
        {"/chat", JSON_TYPE, "[1]", 400, "must be a JSON object"},
        {"/chat", JSON_TYPE, "{\"prompt\":1,\"prompt\":2}", 400, "'prompt' is there twice"},
        {"/chat", JSON_TYPE, "{\"prompt\":1,\"stream\":\"maybe\"}", 422, "\"param\":\"stream\""},
        {"/chat", "Content-Type: multipart/form-data; boundary=x\r\n", "--x--", 415, "or a form"},
        {"/chat", "Content-Type: text/plain\r\n", "prompt=x", 415, "or a form"},
        {"/nothing", JSON_TYPE, "{}", 404, "nothing at this path"},
    };
    struct scene s;
    open_scene(&s, REVIEW);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer *client = client_open(&s.w);
        ask(client, cases[i].target, cases[i].fields, cases[i].body);
        struct parsed m = message_at(client, 0);
        if (m.status != cases[i].status || str_search(m.body, str_c(cases[i].says)) == m.body.len) {
            fail_msg("%s %s: %d %.*s", cases[i].target, cases[i].body, m.status, STR_ARG(m.body));
        }
        close_peer(client);
    }
    check_int(upstream_count(&s.w, "up"), 0);
    check_only(&s.w, OUTCOME_REFUSED, ARRAY_LEN(cases));
    world_close(&s.w);
}

// What thaw itself looks for may be part of a prompt as well.
static void a_prompt_may_hold_the_model_and_more(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM "recipes: {/x: {prompt: '{{model}}, {{stream}}'}}\n");
    ask(s.client, "/x?stream=false", JSON_TYPE, "{\"model\":\"m\"}");
    check_str(message_at(up(&s, 0), 0).body,
              "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"m, false\"}]}");
    struct peer *other = client_open(&s.w);
    ask(other, "/x", JSON_TYPE, "{\"model\":\"m\"}");
    check_int(message_at(other, 0).status, 422);
    check_has(other, "Not given: 'stream'.");
    world_close(&s.w);
}

static void without_a_model_it_is_said_how_to_set_one(void **state UNUSED) {
    struct scene s;
    open_scene(&s, "upstreams: {far: {url: 'http://127.0.0.1:1/v1'}, up: {url: mock}}\n");
    ask(s.client, "/chat", JSON_TYPE, "{\"prompt\":\"x\"}");
    check_int(message_at(s.client, 0).status, 422);
    check_has(s.client, "default_model (--model)");
    check_has(s.client, "\"param\":\"model\"");
    world_close(&s.w);

    open_scene(&s, ONE_UPSTREAM "models: {fast: {use: [up]}}\n");
    ask(s.client, "/chat", JSON_TYPE, "{\"prompt\":\"x\",\"model\":\"fest\"}");
    check_int(message_at(s.client, 0).status, 404);
    check_has(s.client, "did you mean 'fast'?");
    world_close(&s.w);
}

static void only_post_is_answered(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM);
    send_text(s.client, "GET /chat?prompt=hi HTTP/1.1\r\nHost: h\r\n\r\n");
    struct parsed m = message_at(s.client, 0);
    check_int(m.status, 405);
    check_str(field_of(&m, "allow"), "POST");
    check_has(s.client, "send a POST");
    world_close(&s.w);
}

static void a_key_is_needed_as_elsewhere(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM "keys: [thaw]\n");
    ask(s.client, "/chat?prompt=hi", "", "");
    check_int(message_at(s.client, 0).status, 401);
    check_int(upstream_count(&s.w, "up"), 0);
    world_close(&s.w);
}

// A page needs no leave for a form: it would spend money all the same.
static void pages_of_elsewhere_cannot_make_calls_by_a_form(void **state UNUSED) {
    static const struct {
        const char *target, *fields, *body;
        int status; // 0: goes on
    } cases[] = {
        {"/chat", FORM_TYPE "Origin: http://evil.example\r\n", "prompt=x", 403},
        {"/chat?prompt=x", "Origin: http://evil.example\r\n", "", 403},
        {"/chat", FORM_TYPE "Origin: null\r\n", "{\"prompt\":\"x\"}", 403},
        {"/chat", "Origin: http://evil.example\r\n", "{\"prompt\":\"x\"}", 403},
        {"/chat", FORM_TYPE "Origin: http://good.example\r\n", "prompt=x", 0},
        {"/chat", JSON_TYPE "Origin: http://evil.example\r\n", "{\"prompt\":\"x\"}", 0}, // had to ask before
        {"/chat", FORM_TYPE "Origin: http://thaw\r\nSec-Fetch-Site: same-origin\r\n", "prompt=x", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene s;
        open_scene(&s, ONE_UPSTREAM "cors: ['http://good.example']\n");
        ask(s.client, cases[i].target, cases[i].fields, cases[i].body);
        check_int(message_at(s.client, 0).status, cases[i].status);
        check_int(upstream_count(&s.w, "up"), cases[i].status ? 0 : 1);
        world_close(&s.w);
    }
}

static void what_becomes_too_large_is_refused(void **state UNUSED) {
    struct scene s;
    char text[901];
    char json[1000];
    memset(text, 'x', 900);
    text[900] = '\0';
    open_scene(&s, ONE_UPSTREAM "max_body: 1k\nrecipes: {/twice: {prompt: '{{t}} {{t}}'}}\n");
    snprintf(json, sizeof json, "{\"t\":\"%s\"}", text);
    ask(s.client, "/twice", JSON_TYPE, json);
    check_int(message_at(s.client, 0).status, 413);
    check_has(s.client, "(max_body)");
    world_close(&s.w);
}

// ---- what goes wrong

static void one_that_fails_is_told_beside_the_others(void **state UNUSED) {
    struct scene s;
    open_scene(&s, REVIEW);
    ask(s.client, "/review?text=t&reader=r", "", "");
    answer(up(&s, 1), REFUSAL("429", "slow down"));
    finish(up(&s, 1));
    answer(up(&s, 0), SAYS("su"));
    check_answer(&s, 200,
                 "{\"response\":{\"summary\":\"su\",\"risks\":null},\"errors\":{\"risks\":{\"message\":"
                 "\"slow down\",\"type\":\"upstream_error\",\"param\":null,\"code\":\"upstream_failed\"}}}\n");
    world_close(&s.w);
}

static void all_that_fail_are_one_error(void **state UNUSED) {
    static const struct {
        const char *codes[2];
        int status;
    } cases[] = {{{"429", "429"}, 429}, {{"429", "500"}, 502}, {{"400", "429"}, 502}, {{"301", "301"}, 502}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene s;
        open_scene(&s, REVIEW);
        ask(s.client, "/review?text=t&reader=r", "", "");
        for (unsigned n = 0; n < 2; n++) {
            char text[200];
            snprintf(text, sizeof text, REFUSAL("%s", "no %u"), cases[i].codes[n], n);
            answer(up(&s, n), text);
            finish(up(&s, n));
        }
        struct parsed m = message_at(s.client, 0);
        check_int(m.status, cases[i].status);
        check_str(field_of(&m, "retry-after"), "7");
        check_has(s.client, "{\"error\":{\"message\":\"None of the 2 prompts was answered; 'summary': no 0\"");
        world_close(&s.w);
    }
}

static void one_prompts_error_is_the_answers(void **state UNUSED) {
    static const char *const bodies[] = {"{\"prompt\":\"x\"}", "{\"prompt\":\"x\",\"stream\":true}"};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct scene s;
        open_scene(&s, ONE_UPSTREAM);
        ask(s.client, "/chat", JSON_TYPE, bodies[i]);
        answer(up(&s, 0), REFUSAL("429", "slow down"));
        finish(up(&s, 0));
        check_answer(&s, 429,
                     "{\"error\":{\"message\":\"slow down\",\"type\":\"upstream_error\",\"param\":null,\"code\":"
                     "\"upstream_failed\"}}\n");
        struct parsed m = message_at(s.client, 0);
        check_str(field_of(&m, "content-type"), "application/json");
        check_str(field_of(&m, "retry-after"), "7");
        world_close(&s.w);
    }
}

static void an_answer_that_is_no_chat_is_502(void **state UNUSED) {
    static const char *const answers[] = {"<html>", "{\"n\":1}", ""};
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct scene s;
        char text[200];
        open_scene(&s, ONE_UPSTREAM);
        ask(s.client, "/chat?prompt=x", "", "");
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(answers[i]), answers[i]);
        answer(up(&s, 0), text);
        check_int(message_at(s.client, 0).status, 502);
        check_has(s.client, "\"code\":\"answer_not_understood\"");
        world_close(&s.w);
    }
}

static void the_deadline_leaves_out_what_is_not_there(void **state UNUSED) {
    struct scene s;
    open_scene(&s, REVIEW);
    ask(s.client, "/review?text=t&reader=r", "", "");
    answer(up(&s, 0), SAYS("su"));
    advance(&s.w, 30 * 1000);
    check_int(message_at(s.client, 0).status, 200);
    check_has(s.client, "{\"summary\":\"su\",\"risks\":null},\"errors\":{\"risks\":{");
    check_has(s.client, "\"code\":\"deadline\"");
    check_dropped(up(&s, 1));
    world_close(&s.w);
}

static void a_client_that_leaves_drops_all(void **state UNUSED) {
    struct scene s;
    open_scene(&s, REVIEW);
    ask(s.client, "/review?text=t&reader=r", "", "");
    reset(s.client);
    check_dropped(up(&s, 0));
    check_dropped(up(&s, 1));
    check_int(s.w.worker.shelf.running, 0);
    check_only(&s.w, OUTCOME_GONE_WAITING, 1);
    world_close(&s.w);
}

static void any_takes_the_first_and_cancels_the_other(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM "recipes:\n  /fastest:\n    wait: any\n    calls: {a: {prompt: '{{q}}'}, b: {prompt: "
                                "'{{q}}'}}\n");
    ask(s.client, "/fastest?q=1", "", "");
    answer(up(&s, 1), SAYS("bb"));
    check_answer(&s, 200, "{\"response\":{\"a\":null,\"b\":\"bb\"}}\n");
    check_dropped(up(&s, 0));
    world_close(&s.w);
}

// ---- streams

#define DELTA(text) "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text "\"}}]}\n\n"

static void say(struct peer *p, const char *events) {
    char text[600];
    snprintf(text, sizeof text, "%zx\r\n%s\r\n", strlen(events), events);
    answer(p, text);
}

static void a_stream_brings_the_text_as_it_comes(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM);
    ask(s.client, "/chat?stream=true", FORM_TYPE, "prompt=x");
    check_has(up(&s, 0), ",\"stream\":true}");
    answer(up(&s, 0), STREAM_HEAD);
    say(up(&s, 0), "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n");
    check_int(s.client->got_len, 0);
    say(up(&s, 0), DELTA("He"));
    check_str(message_at(s.client, 0).body, "event: chunk\ndata: {\"name\":\"response\",\"text\":\"He\"}\n\n");
    say(up(&s, 0), DELTA("y\\n") "data: [DONE]\n\n");
    answer(up(&s, 0), "0\r\n\r\n");
    struct parsed m = message_at(s.client, 0);
    check_str(m.body,
              "event: chunk\ndata: {\"name\":\"response\",\"text\":\"He\"}\n\n"
              "event: chunk\ndata: {\"name\":\"response\",\"text\":\"y\\n\"}\n\n"
              "event: result\ndata: {\"name\":\"response\",\"text\":\"Hey\\n\",\"ms\":{\"first_byte\":0,\"total\":"
              "0}}\n\nevent: done\ndata: {\"response\":\"Hey\\n\"}\n\n");
    check(m.whole);
    world_close(&s.w);
}

static void a_recipe_may_stream_by_itself(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM "recipes: {/s: {prompt: '{{q}}', stream: true}}\n");
    ask(s.client, "/s?q=1", "", "");
    answer(up(&s, 0), SAYS("ok")); // the upstream does not
    check_str(message_at(s.client, 0).body,
              "event: result\ndata: {\"name\":\"response\",\"text\":\"ok\",\"ms\":{\"first_byte\":0,\"total\":0}}\n\n"
              "event: done\ndata: {\"response\":\"ok\"}\n\n");
    world_close(&s.w);
    open_scene(&s, ONE_UPSTREAM "recipes: {/s: {prompt: '{{q}}', stream: true}}\n");
    ask(s.client, "/s?q=1&stream=false", "", "");
    check_lacks(up(&s, 0), "stream");
    world_close(&s.w);
}

static void an_error_in_the_stream_is_no_answer(void **state UNUSED) {
    static const char *const ends[] = {"data: {\"error\":{\"message\":\"broke\",\"code\":\"x\"}}\n\n", NULL};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct scene s;
        open_scene(&s, ONE_UPSTREAM);
        ask(s.client, "/chat?stream=1&prompt=x", "", "");
        answer(up(&s, 0), STREAM_HEAD);
        say(up(&s, 0), DELTA("He"));
        if (ends[i]) {
            say(up(&s, 0), ends[i]);
        } else {
            close_peer(up(&s, 0));
        }
        check_has(s.client, "event: result\ndata: {\"name\":\"response\",\"error\":{\"message\":\"");
        check_has(s.client, ends[i] ? "broke" : "The upstream 'up' (mock) failed");
        check_has(s.client, "event: error\ndata: {\"error\":{\"message\":\"");
        check_lacks(s.client, "event: done");
        check_int(s.w.worker.shelf.running, 0);
        world_close(&s.w);
    }
}

// ---- as a call's tape

static void the_same_key_is_the_same_answer(void **state UNUSED) {
    struct scene s;
    open_scene(&s, ONE_UPSTREAM);
    ask(s.client, "/chat?prompt=x", "Idempotency-Key: k\r\n", "");
    answer(up(&s, 0), SAYS("ok"));
    struct peer *other = client_open(&s.w);
    ask(other, "/chat?prompt=x", "Idempotency-Key: k\r\n", "");
    check_str(message_at(other, 0).body, "{\"response\":\"ok\"}\n");
    struct peer *third = client_open(&s.w);
    ask(third, "/chat?prompt=y", "Idempotency-Key: k\r\n", "");
    check_int(message_at(third, 0).status, 422);
    check_int(upstream_count(&s.w, "up"), 1);
    check(message_at(up(&s, 0), 0).used == up(&s, 0)->got_len); // asked once
    world_close(&s.w);
}

static void play(const char *target, const char *body, const char *reply, unsigned n, int forever, bool *fired) {
    struct world w;
    world_open(&w, REVIEW);
    struct peer *client = client_open(&w);
    mem_fail_after(n, forever);
    ask(client, target, JSON_TYPE, body);
    for (unsigned i = 0; i < upstream_count(&w, "up"); i++) {
        answer(upstream_peer(&w, "up", i), reply);
    }
    *fired = mem_fail_fired();
    mem_fail_after(0, 0);
    advance(&w, 1000 * 1000);
    check_int(w.worker.in_flight, 0);
    check_int(w.worker.shelf.running, 0);
    struct peer *next = client_open(&w);
    send_text(next, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    check_int(message_at(next, 0).status, 200);
    world_close(&w);
}

static void every_allocation_may_fail(void **state UNUSED) {
    static const struct {
        const char *target, *body, *reply;
    } scenes[] = {
        {"/review?reader=me", "{\"text\":\"t\"}", SAYS("ok")},
        {"/review?reader=me&stream=1", "{\"text\":\"t\"}",
         STREAM_HEAD "e\r\ndata: {\"a\":1}\n\r\n1\r\n\n\r\n0\r\n\r\n"},
        {"/chat", "{\"prompt\":\"t\"}",
         "HTTP/1.1 500 Oh\r\nContent-Length: 25\r\n\r\n{\"error\":{\"message\":\"no\"}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(scenes); i++) {
        for (int forever = 0; forever <= 1; forever++) {
            bool fired = true;
            unsigned n = 1;
            for (; fired && n < 100000; n += small_window() ? 1 + n / 8 : 1) {
                play(scenes[i].target, scenes[i].body, scenes[i].reply, n, forever, &fired);
            }
            check(n > 10);
        }
    }
}

FLOWS(TEST(a_prompt_comes_as_json_form_or_query), TEST(a_recipe_is_what_it_says),
      TEST(the_model_is_the_recipes_the_requests_the_default), TEST(the_prefix_may_be_another_one),
      TEST(what_is_missing_is_named), TEST(a_prompt_may_hold_the_model_and_more),
      TEST(without_a_model_it_is_said_how_to_set_one), TEST(only_post_is_answered), TEST(a_key_is_needed_as_elsewhere),
      TEST(pages_of_elsewhere_cannot_make_calls_by_a_form), TEST(what_becomes_too_large_is_refused),
      TEST(one_that_fails_is_told_beside_the_others), TEST(all_that_fail_are_one_error),
      TEST(one_prompts_error_is_the_answers), TEST(an_answer_that_is_no_chat_is_502),
      TEST(the_deadline_leaves_out_what_is_not_there), TEST(a_client_that_leaves_drops_all),
      TEST(any_takes_the_first_and_cancels_the_other), TEST(a_stream_brings_the_text_as_it_comes),
      TEST(a_recipe_may_stream_by_itself), TEST(an_error_in_the_stream_is_no_answer),
      TEST(the_same_key_is_the_same_answer), TEST(every_allocation_may_fail))
