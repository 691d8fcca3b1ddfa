// SPDX-License-Identifier: MIT
// Tapes, the store, browsers, fan-out, and who runs background jobs.
#include "reading.h"

static void defaults_keep_an_answer_for_ten_minutes(void **state UNUSED) {
    struct config *c = config_create();
    check_int(c->tape_keep_ms, 600000);
    check_int(c->tape_max, 16 << 20);
    check_int(c->tape_total, 256 << 20);
    check_int(c->tape_disconnect.action, DISCONNECT_KEEP);
    check_int(c->tape_disconnect.keep_ms, 60000);
    check(!c->tape_read_by_id);
    check_int(c->on_disconnect.action, DISCONNECT_CANCEL);
    check_int(c->store.len + c->default_model.len + c->cors_count, 0);
    check_int(c->parallel_branches, 64);
    check_int(c->parallel_answer, 8 << 20);
    config_unref(c);
}

static void tape_has_all_its_members(void **state UNUSED) {
    struct config *c = read_config("tape:\n  keep: 24h\n  max: 64k\n  total: 1t\n  on_disconnect: finish\n  read: id\n"
                                   "on_disconnect: keep 5m\n"
                                   "parallel: {branches: 1000, answer: 1k}\n");
    check_int(c->tape_keep_ms, 86400000);
    check_int(c->tape_max, 65536);
    check_int(c->tape_total, 1ull << 40);
    check_int(c->tape_disconnect.action, DISCONNECT_FINISH);
    check(c->tape_read_by_id);
    check_int(c->on_disconnect.action, DISCONNECT_KEEP);
    check_int(c->on_disconnect.keep_ms, 300000);
    check_int(c->parallel_branches, 1000);
    check_int(c->parallel_answer, 1024);
    config_unref(c);
}

static void ranges_of_tapes_are_told(void **state UNUSED) {
    check_refused("tape: {keep: 0}", "t.yaml:1:14: 'tape.keep' must be a duration (250ms, 5s, 2m) from 1s to 24h, "
                                     "not '0'");
    check_refused("tape: {max: 2g}", "t.yaml:1:13: 'tape.max' must be a size (512, 64k, 8m) from 64k to 1g, not '2g'");
    check_refused("tape: {total: 1}", "t.yaml:1:15: 'tape.total' must be a size (512, 64k, 8m) from 64k to 1t, "
                                      "not '1'");
    check_refused("parallel: {branches: 0}", "t.yaml:1:22: 'parallel.branches' must be a number from 1 to 1000, "
                                             "not '0'");
    check_refused("parallel: {answr: 1}", "t.yaml:1:12: unknown key 'parallel.answr'; did you mean 'answer'?");
    check_refused("tape: 10m", "t.yaml:1:7: 'tape' must be a map of keys and values, not a single value");
}

static void disconnect_is_read_as_people_write_it(void **state UNUSED) {
    static const struct {
        const char *text;
        enum disconnect action;
        unsigned keep_ms;
    } cases[] = {{"on_disconnect: cancel", DISCONNECT_CANCEL, 0},
                 {"on_disconnect: finish", DISCONNECT_FINISH, 0},
                 {"on_disconnect: keep 1s", DISCONNECT_KEEP, 1000},
                 {"on_disconnect: keep   1.5s", DISCONNECT_KEEP, 1500},
                 {"on_disconnect: Keep 24h", DISCONNECT_KEEP, 86400000}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config *c = read_config(cases[i].text);
        check_int(c->on_disconnect.action, cases[i].action);
        check_int(c->on_disconnect.keep_ms, cases[i].keep_ms);
        config_unref(c);
    }
}

static void any_other_disconnect_is_refused(void **state UNUSED) {
    static const char *const wrong[] = {"",           "keep",       "keep ",           "keep 60",      "keep60s",
                                        "keep 999ms", "keep 25h",   "keep 86400001ms", "keep 0",       "drop",
                                        "finish 5s",  "keep 5s 5s", "cancelled",       "keep forever", "60s"};
    struct config *c = config_create();
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct config_problem problem;
        check_err(config_set(c, "tape.on_disconnect", wrong[i], &problem), ERR_INVALID);
        check_int(c->tape_disconnect.keep_ms, 60000);
    }
    config_unref(c);
    check_refused("on_disconnect: drop",
                  "t.yaml:1:16: 'on_disconnect' must be cancel, finish, or keep and a duration from 1s to 24h "
                  "(keep 60s), not 'drop'");
    check_refused("on_disconnect: [keep, 60s]",
                  "t.yaml:1:16: 'on_disconnect' must be cancel, finish, or keep and a duration from 1s to 24h "
                  "(keep 60s), not a list");
}

static void reader_is_key_or_id(void **state UNUSED) {
    struct config *c = read_config("tape: {read: key}");
    check(!c->tape_read_by_id);
    config_unref(c);
    check_refused("tape: {read: true}", "t.yaml:1:14: 'tape.read' must be key or id, not 'true'");
}

static void store_is_the_path_of_a_file(void **state UNUSED) {
    struct config *c = read_config("store: sqlite:///var/lib/thaw/thaw.db");
    check_str(c->store, "/var/lib/thaw/thaw.db");
    check_int(c->store.ptr[c->store.len], 0);
    config_unref(c);
    c = read_config("store: sqlite://here.db");
    check_str(c->store, "here.db");
    config_unref(c);
}

static void other_stores_are_refused_unseen(void **state UNUSED) {
    static const char *const wrong[] = {"/var/lib/thaw.db", "postgres://u:hunter2@h/thaw", "redis://h", "sqlite:/x",
                                        "SQLITE://x"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char text[80];
        snprintf(text, sizeof text, "store: \"%s\"", wrong[i]);
        check_refused(text, "t.yaml:1:8: 'store' must be sqlite://PATH: no other store is supported");
    }
    check_refused("store: \"sqlite://\"", "t.yaml:1:8: 'store' needs the path of a file behind sqlite://");
    check_refused("store: \"sqlite://a\\nb\"", "t.yaml:1:8: 'store' must not contain control characters");
    check_refused("store: [a]", "t.yaml:1:8: 'store' must be sqlite://PATH, not a list");
}

static void origins_are_a_list_or_one(void **state UNUSED) {
    struct config *c = read_config("cors: [https://app.example, \"http://localhost:3000\", \"http://[::1]:8\", \"*\", "
                                   "chrome-extension://abcdef, \"https://app.example:8443\"]");
    static const char *const wanted[] = {"https://app.example",       "http://localhost:3000",   "http://[::1]:8", "*",
                                         "chrome-extension://abcdef", "https://app.example:8443"};
    check_int(c->cors_count, ARRAY_LEN(wanted));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        check_str(c->cors[i], wanted[i]);
    }
    config_unref(c);
    c = read_config("cors: http://a");
    check_int(c->cors_count, 1);
    config_unref(c);
}

static void what_no_browser_sends_as_an_origin_is_refused(void **state UNUSED) {
    static const struct {
        const char *origin;
        const char *why;
    } cases[] = {
        {"app.example", "must be an origin, as in https://app.example or http://localhost:3000, or *"},
        {"null", "must be an origin, as in https://app.example or http://localhost:3000, or *"},
        {"", "must be an origin, as in https://app.example or http://localhost:3000, or *"},
        {"https://App.example", "must be in lower case, as browsers write it"},
        {"HTTPS://app.example", "must be in lower case, as browsers write it"},
        {"https://app.example/", "must end behind the host or port: an origin has no path, query or user"},
        {"https://app.example/x", "must end behind the host or port: an origin has no path, query or user"},
        {"https://app.example?x", "must end behind the host or port: an origin has no path, query or user"},
        {"https://u@app.example", "must end behind the host or port: an origin has no path, query or user"},
        {"https://app.example:443", "must not name the usual port: browsers leave it out"},
        {"http://app.example:80", "must not name the usual port: browsers leave it out"},
        {"http://app.example:0", "needs a port from 1 to 65535 after the colon"},
        {"http://app.example:", "needs a port from 1 to 65535 after the colon"},
        {"http://:3000", "has no host"},
        {"https://", "has no host"},
        {"https://a..b", "has a host name with an empty or too long part"},
        {"https://*.example", "has a host name with a character that names do not have"},
        {"https://::1", "has more than one colon: an IPv6 address needs brackets, as in [::1]:8080"},
        {"://app.example", "needs a scheme in front of ://"},
        {"-x://app.example", "has a scheme with a character that schemes do not have"},
        {"a_b://app.example", "has a scheme with a character that schemes do not have"},
        {"https://a b", "must not contain blanks or control characters"},
        {"https://\xc3\xbc", "must be plain ASCII: percent-encode the path, write the host in its xn-- form"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[96];
        char wanted[160];
        snprintf(text, sizeof text, "cors: [\"%s\"]", cases[i].origin);
        snprintf(wanted, sizeof wanted, "t.yaml:1:8: 'cors[0]' %s", cases[i].why);
        check_refused(text, wanted);
    }
    check_refused("cors: [[a]]", "t.yaml:1:8: 'cors[0]' must be an origin (https://app.example), not a list");
}

static void origin_of_the_command_line_is_added(void **state UNUSED) {
    struct config *c = config_create();
    struct config_problem problem;
    check_ok(config_set(c, "cors", "https://a", &problem));
    check_err(config_set(c, "cors", "https://a/", &problem), ERR_INVALID);
    check_ok(config_set(c, "cors", "https://b", &problem));
    check_int(c->cors_count, 2);
    check_str(c->cors[1], "https://b");
    config_unref(c);
}

static void background_jobs_of_the_mock_run_here_unless_told(void **state UNUSED) {
    struct config *c = read_config("upstreams:\n  a: {url: http://a}\n  b: {background: thaw, url: http://b}\n"
                                   "  m: {url: mock}\n  n: {background: upstream, url: mock}\n");
    struct config_problem problem;
    check(!c->upstreams[0].background_here);
    check(c->upstreams[1].background_here);
    check(c->upstreams[2].background_here);
    check(!c->upstreams[3].background_here);
    check_int(c->upstreams[2].own, 0);
    check_int(c->upstreams[3].own, OWN_BACKGROUND);
    check_ok(config_add_mock(c, &problem));
    check_ok(config_add_upstream(c, STR("c"), STR("http://c"), STR(""), STR(""), &problem));
    check(c->upstreams[4].background_here);
    check(!c->upstreams[5].background_here);
    config_unref(c);
    check_refused("upstreams: {a: {url: mock, background: openai}}",
                  "t.yaml:1:40: 'upstreams.a.background' must be upstream or thaw, not 'openai'");
}

static void an_upstreams_version_of_http_may_be_fixed(void **state UNUSED) {
    static const struct {
        const char *yaml;
        enum config_http http;
        bool known;
    } rows[] = {
        {"{url: https://a}", HTTP_AUTO, false},
        {"{url: https://a, http: auto}", HTTP_AUTO, false},
        {"{url: https://a, http: 1.1}", HTTP_1, false},
        {"{http: 1.1, url: http://a}", HTTP_1, false},
        {"{http: 2, url: https://a}", HTTP_2, true},
        {"{url: http://a, http: 2}", HTTP_2, true},
        {"{url: h2c://a}", HTTP_AUTO, true},
        {"{url: h2c://a, http: 2}", HTTP_2, true},
        {"{url: mock, http: 2}", HTTP_2, true},
    };
    struct config_problem problem;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char yaml[100];
        snprintf(yaml, sizeof yaml, "upstreams: {a: %s}", rows[i].yaml);
        struct config *c = read_config(yaml);
        check_int(c->upstreams[0].http, rows[i].http);
        check_int(config_h2_is_known(&c->upstreams[0]), rows[i].known);
        check_ok(config_check(c, &problem));
        config_unref(c);
    }
    check_refused("upstreams: {a: {url: http://a, http: 3}}",
                  "t.yaml:1:38: 'upstreams.a.http' must be auto, 1.1 or 2, not '3'");
    struct config *c = read_config("upstreams: {a: {url: h2c://a, http: 1.1}}");
    check_err(config_check(c, &problem), ERR_INVALID);
    assert_string_equal(problem.text,
                        "upstreams.a: 'http: 1.1' needs a url with http:// or https://; h2c:// is HTTP/2");
    config_unref(c);
}

static void own_timeouts_are_noted_beside_background(void **state UNUSED) {
    struct config *c = read_config("upstreams: {a: {url: mock, background: thaw, timeouts: {total: 7s, connect: 1s}}}");
    check_int(c->upstreams[0].own, OWN_BACKGROUND | OWN_TOTAL | OWN_CONNECT);
    config_unref(c);
}

static void default_model_is_one_of_the_models(void **state UNUSED) {
    struct config *c = read_config("default_model: fast\nupstreams: {a: {url: mock}}\nmodels: {fast: {use: a}}");
    struct config_problem problem;
    check_str(c->default_model, "fast");
    check_err(config_set(c, "default_model", "fsat", &problem), ERR_INVALID);
    assert_string_equal(problem.text, "default_model: no model is called 'fsat'; did you mean 'fast'?");
    check_str(c->default_model, "fast");
    config_unref(c);
    check_refused("default_model: quick\nupstreams: {a: {url: mock}}\nmodels: {fast: {use: a}}",
                  "t.yaml:1:16: default_model: no model is called 'quick'");
    check_refused("default_model: \"\"", "t.yaml:1:16: 'default_model' must not be empty");
    check_refused("default_model: [a]", "t.yaml:1:16: 'default_model' must be the name of a model, not a list");
}

static void without_models_any_name_will_do(void **state UNUSED) {
    struct config *c = read_config("default_model: gpt-5\nmodels: {}");
    struct config_problem problem;
    check_str(c->default_model, "gpt-5");
    check_ok(config_set(c, "default_model", "gpt-6", &problem));
    check_str(c->default_model, "gpt-6");
    config_unref(c);
}

TESTS(TEST(defaults_keep_an_answer_for_ten_minutes), TEST(tape_has_all_its_members), TEST(ranges_of_tapes_are_told),
      TEST(disconnect_is_read_as_people_write_it), TEST(any_other_disconnect_is_refused), TEST(reader_is_key_or_id),
      TEST(store_is_the_path_of_a_file), TEST(other_stores_are_refused_unseen), TEST(origins_are_a_list_or_one),
      TEST(what_no_browser_sends_as_an_origin_is_refused), TEST(origin_of_the_command_line_is_added),
      TEST(background_jobs_of_the_mock_run_here_unless_told), TEST(an_upstreams_version_of_http_may_be_fixed),
      TEST(own_timeouts_are_noted_beside_background), TEST(default_model_is_one_of_the_models),
      TEST(without_models_any_name_will_do))
