// SPDX-License-Identifier: MIT
// What keeps thaw and its upstreams from too much: limits, queues, retries; models over several upstreams; and what of
// all that a reload can change.
#include "config/keys.h"
#include "reading.h"

#define UPSTREAMS "upstreams: {eu: {url: mock}, us: {url: mock}}\n"

static void defaults_hold_nothing_back(void **state UNUSED) {
    struct config *c = read_config("upstreams: {a: {url: mock}}");
    check_int(c->limits.requests_per_minute + c->limits.tokens_per_minute + c->limits.in_flight, 0);
    check_int(c->queue_length, 1000);
    check_int(c->queue_wait_ms, 30000);
    check_int(c->retries, 2);
    check(!c->retry_lost);
    check_int(c->breaker_failures, 5);
    check_int(c->breaker_rest_ms, 10000);
    check_int(c->keepalive_ms, 0);
    check_int(c->drain_ms, 900000);
    check_int(c->memory, 0);
    check_int(c->max_connections, 0);
    check_int(c->access_log.len, 0);
    check(!c->server_timing && !c->trace_trust);
    check(!c->upstreams[0].max_in_flight.automatic);
    check_int(c->upstreams[0].max_in_flight.limit, 0);
    check_int(c->upstreams[0].retries, 2);
    check(!c->upstreams[0].retry_lost);
    config_unref(c);
}

static void all_members_are_read(void **state UNUSED) {
    struct config *c = read_config("limits: {requests_per_minute: 1, tokens_per_minute: 2, in_flight: 3}\n"
                                   "queue: {length: 4, wait: 5s}\nretries: 6\nretry_lost: true\n"
                                   "breaker: {failures: 7, rest: 8s}\nkeepalive: 9s\ndrain: 10s\nmemory: 64m\n"
                                   "max_connections: 12\naccess_log: /var/log/thaw.json\nserver_timing: true\n"
                                   "trace: {trust: true}\nroutes: {/v1/a: {keepalive: true}, /v1/b: }\n");
    check_int(c->limits.requests_per_minute, 1);
    check_int(c->limits.tokens_per_minute, 2);
    check_int(c->limits.in_flight, 3);
    check_int(c->queue_length, 4);
    check_int(c->queue_wait_ms, 5000);
    check_int(c->retries, 6);
    check(c->retry_lost);
    check_int(c->breaker_failures, 7);
    check_int(c->breaker_rest_ms, 8000);
    check_int(c->keepalive_ms, 9000);
    check_int(c->drain_ms, 10000);
    check_int(c->memory, 64 << 20);
    check_int(c->max_connections, 12);
    check_str(c->access_log, "/var/log/thaw.json");
    check(c->server_timing && c->trace_trust);
    check(c->routes[0].keep_alive && !c->routes[1].keep_alive);
    config_unref(c);
}

static void words_stand_for_none(void **state UNUSED) {
    struct config *c = read_config("keepalive: 15s\nmemory: 1g\naccess_log: stdout\n");
    struct config_problem problem;
    check_int(c->keepalive_ms, 15000);
    check_int(c->memory, 1 << 30);
    check_str(c->access_log, "stdout");
    check_ok(config_set(c, "keepalive", "off", &problem)); // over the file's
    check_ok(config_set(c, "memory", "Auto", &problem));
    check_ok(config_set(c, "access_log", "off", &problem));
    check_int(c->keepalive_ms + c->memory + c->access_log.len, 0);
    config_unref(c);
}

static void wrong_values_are_explained(void **state UNUSED) {
    check_refused("keepalive: 0", "t.yaml:1:12: 'keepalive' must be off, or a duration (15s) from 1s to 1h, not '0'");
    check_refused("keepalive: 61m",
                  "t.yaml:1:12: 'keepalive' must be off, or a duration (15s) from 1s to 1h, not '61m'");
    check_refused("memory: 15m", "t.yaml:1:9: 'memory' must be auto, or a size (512m, 8g) from 16m to 64t, not '15m'");
    check_refused("memory: off", "t.yaml:1:9: 'memory' must be auto, or a size (512m, 8g) from 16m to 64t, not 'off'");
    check_refused("retries: 11", "t.yaml:1:10: 'retries' must be a number from 0 to 10, not '11'");
    check_refused("breaker: {rest: 10}",
                  "t.yaml:1:17: 'breaker.rest' must be a duration (250ms, 5s, 2m) from 100ms to 1h, not '10'");
    check_refused("queue: 1000", "t.yaml:1:8: 'queue' must be a map of keys and values, not a single value");
    check_refused("queue: {wait: 0}",
                  "t.yaml:1:15: 'queue.wait' must be a duration (250ms, 5s, 2m) from 1ms to 24h, not '0'");
    check_refused("access_log: \"\"", "t.yaml:1:13: 'access_log' must not be empty");
    check_refused("access_log:",
                  "t.yaml:1:12: 'access_log' must be off, stdout, stderr or the path of a file, not nothing");
    check_refused("trace: {trust: them}", "t.yaml:1:16: 'trace.trust' must be true or false, not 'them'");
    check_refused("limits: {tokens: 1}",
                  "t.yaml:1:10: unknown key 'limits.tokens'; known here: requests_per_minute, tokens_per_minute, "
                  "in_flight");
}

// ---- Upstreams

static void upstream_takes_some_at_once(void **state UNUSED) {
    static const struct {
        const char *text;
        struct config_in_flight most;
    } cases[] = {{"off", {0, false}},
                 {"auto", {0, true}},
                 {"Auto", {0, true}},
                 {"1", {1, false}},
                 {"1000000", {1000000, false}}};
    static const char *const wrong[] = {"0", "1000001", "-1", "many", "1.5"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[96];
        snprintf(text, sizeof text, "upstreams: {a: {url: mock, max_in_flight: %s}}", cases[i].text);
        struct config *c = read_config(text);
        check_int(c->upstreams[0].max_in_flight.limit, cases[i].most.limit);
        check_int(c->upstreams[0].max_in_flight.automatic, cases[i].most.automatic);
        config_unref(c);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char text[96];
        char wanted[160];
        snprintf(text, sizeof text, "upstreams: {a: {url: mock, max_in_flight: %s}}", wrong[i]);
        snprintf(wanted, sizeof wanted,
                 "t.yaml:1:43: 'upstreams.a.max_in_flight' must be off, auto, or a number from 1 to 1000000, not '%s'",
                 wrong[i]);
        check_refused(text, wanted);
    }
}

static void upstream_follows_the_general_retries_unless_it_has_its_own(void **state UNUSED) {
    struct config *c = read_config("upstreams: {a: {url: mock, retries: 0}, b: {url: mock, retry_lost: false}}\n"
                                   "retries: 5\nretry_lost: true\n");
    struct config_problem problem;
    check_int(c->upstreams[0].retries, 0);
    check(c->upstreams[0].retry_lost);
    check_int(c->upstreams[0].own, OWN_RETRIES);
    check_int(c->upstreams[1].retries, 5);
    check(!c->upstreams[1].retry_lost);
    check_int(c->upstreams[1].own, OWN_RETRY_LOST);
    check_ok(config_set(c, "retries", "7", &problem));
    check_ok(config_add_mock(c, &problem));
    check_int(c->upstreams[0].retries, 0);
    check_int(c->upstreams[1].retries, 7);
    check_int(c->upstreams[2].retries, 7);
    check(c->upstreams[2].retry_lost);
    config_unref(c);
    check_refused("upstreams: {a: {url: mock, retries: 11}}",
                  "t.yaml:1:37: 'upstreams.a.retries' must be a number from 0 to 10, not '11'");
}

// ---- Models

static void model_has_times_of_its_own(void **state UNUSED) {
    struct config *c =
        read_config(UPSTREAMS "timeouts: {total: 5s}\n"
                              "models: {m: {use: eu, timeouts: {first_byte: 1s, total: 2s}}, n: {use: eu}}");
    check_int(c->models[0].first_byte_ms, 1000);
    check_int(c->models[0].total_ms, 2000);
    check_int(c->models[0].own, OWN_FIRST_BYTE | OWN_TOTAL);
    check_int(c->models[1].own, 0); // the upstream's, which may be no two times the same
    config_unref(c);
    check_refused(UPSTREAMS "models: {m: {use: eu, timeouts: {connect: 1s}}}",
                  "t.yaml:2:34: unknown key 'models.m.timeouts.connect'; known here: first_byte, between, total");
    check_refused(UPSTREAMS "models: {m: {use: eu, timeouts: {total: 25h}}}",
                  "t.yaml:2:41: 'models.m.timeouts.total' must be a duration (250ms, 5s, 2m) from 1ms to 24h, "
                  "not '25h'");
}

static void check_use(const struct config_use *use, unsigned upstream, unsigned rank, unsigned weight,
                      const char *model) {
    check_int(use->upstream, upstream);
    check_int(use->rank, rank);
    check_int(use->weight, weight);
    check_str(use->model, model);
}

static void equals_stand_in_one_entry(void **state UNUSED) {
    struct config *c = read_config(UPSTREAMS "models:\n"
                                             "  m: {use: [eu/gpt-5*2 | us/gpt-5, us/old, eu | us * 100|eu/a/b:7b]}\n"
                                             "  n: {use: eu*3}\n");
    const struct config_use *use = c->models[0].use;
    check_int(c->models[0].use_count, 6);
    check_use(&use[0], 0, 0, 2, "gpt-5");
    check_use(&use[1], 1, 0, 1, "gpt-5");
    check_use(&use[2], 1, 1, 1, "old");
    check_use(&use[3], 0, 2, 1, "");
    check_use(&use[4], 1, 2, 100, "");
    check_use(&use[5], 0, 2, 1, "a/b:7b");
    check_int(c->models[1].use_count, 1);
    check_use(&c->models[1].use[0], 0, 0, 3, "");
    config_unref(c);
}

static void wrong_equals_are_explained(void **state UNUSED) {
    static const struct {
        const char *use, *message;
    } cases[] = {
        {"eu/x |", "'models.m.use' has nothing where an upstream should be"},
        {"\"| eu/x\"", "'models.m.use' has nothing where an upstream should be"},
        {"eu/x || us/x", "'models.m.use' has nothing where an upstream should be"},
        {"eu/x | us/", "'models.m.use' names no model behind the slash"},
        {"eu/x | uss/x", "models.m.use: no upstream is called 'uss'; did you mean 'us'?"},
        {"eu/x*0", "'models.m.use' needs a weight from 1 to 100 behind the *, as in upstream/model*2"},
        {"eu/x*101", "'models.m.use' needs a weight from 1 to 100 behind the *, as in upstream/model*2"},
        {"eu/x*", "'models.m.use' needs a weight from 1 to 100 behind the *, as in upstream/model*2"},
        {"eu/x*2*3", "'models.m.use' needs a weight from 1 to 100 behind the *, as in upstream/model*2"},
        {"eu/x*two", "'models.m.use' needs a weight from 1 to 100 behind the *, as in upstream/model*2"},
        {"eu/x | us/x | eu/x", "'models.m.use' has 'eu/x' twice: give it a weight, as in upstream/model*2"},
        {"eu*2 | eu", "'models.m.use' has 'eu' twice: give it a weight, as in upstream/model*2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[160];
        char wanted[200];
        snprintf(text, sizeof text, UPSTREAMS "models:\n  m:\n    use: %s\n", cases[i].use);
        snprintf(wanted, sizeof wanted, "t.yaml:4:10: %s", cases[i].message);
        check_refused(text, wanted);
    }
    config_unref(read_config(UPSTREAMS "models: {m: {use: [eu/x | us/x, eu/x]}}")); // later once more: as a last resort
}

static void equals_are_few(void **state UNUSED) {
    struct buf text;
    buf_init(&text, 1 << 16);
    check_ok(buf_str_append(&text, STR(UPSTREAMS "models: {m: {use: eu/0")));
    for (int i = 1; i < 65; i++) {
        check_ok(buf_printf(&text, "|eu/%d", i));
    }
    check_ok(buf_append(&text, "}}", 3));
    check_refused(buf_str(&text).ptr, "t.yaml:2:19: 'models.m.use' has more than 64 equals in one entry");
    buf_finish(&text);
}

// ---- What a reload can change

static void what_only_a_restart_can_change_is_named(void **state UNUSED) {
    static const char *const changes[][2] = {
        {"listen", ":1"},   {"admin", "off"},     {"tape.keep", "11m"}, {"tape.total", "1m"}, {"store", "sqlite://x"},
        {"max_head", "1k"}, {"max_fields", "10"}, {"workers", "3"},     {"pace", "0"},
    };
    unsigned rows = 0;
    for (unsigned i = 0; i < config_key_rows; i++) {
        rows += config_keys[i].at_start;
    }
    check_int(rows, ARRAY_LEN(changes));
    struct config *running = config_create();
    struct config *all = config_create();
    struct config_problem names;
    struct config_problem problem;
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct config *wanted = config_create();
        check(!config_needs_restart(running, wanted, &names));
        assert_string_equal(names.text, "");
        check_ok(config_set(wanted, changes[i][0], changes[i][1], &problem));
        check(config_needs_restart(running, wanted, &names));
        assert_string_equal(names.text, changes[i][0]);
        check(config_needs_restart(wanted, running, &names));
        check_ok(config_set(all, changes[i][0], changes[i][1], &problem));
        config_unref(wanted);
    }
    check(config_needs_restart(running, all, &names));
    assert_string_equal(names.text, "listen, admin, tape.keep, tape.total, store, max_head, max_fields, workers, pace");
    config_unref(running);
    config_unref(all);
}

static void all_else_is_changed_by_a_reload(void **state UNUSED) {
    struct config *running = read_config(UPSTREAMS "listen: :1");
    struct config *wanted =
        read_config("upstreams: {x: {url: http://x, max_in_flight: 3}}\nlisten: \":1\"\nkeys: [a]\n"
                    "clients: {c: {keys: b}}\nmodels: {m: {use: x}}\nprefix: /v2\nretries: 0\n"
                    "timeouts: {total: 1s}\ntape: {max: 1m}\ndrain: 1s\nadmin: 127.0.0.1:8081\nmemory: 1g\n");
    struct config_problem names;
    check(!config_needs_restart(running, wanted, &names));
    config_unref(running);
    config_unref(wanted);
}

TESTS(TEST(defaults_hold_nothing_back), TEST(all_members_are_read), TEST(words_stand_for_none),
      TEST(wrong_values_are_explained), TEST(upstream_takes_some_at_once),
      TEST(upstream_follows_the_general_retries_unless_it_has_its_own), TEST(model_has_times_of_its_own),
      TEST(equals_stand_in_one_entry), TEST(wrong_equals_are_explained), TEST(equals_are_few),
      TEST(what_only_a_restart_can_change_is_named), TEST(all_else_is_changed_by_a_reload))
