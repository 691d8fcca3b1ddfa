// SPDX-License-Identifier: MIT
#include "config/keys.h"
#include "config/reader.h"
#include "reading.h"

// ---- Helpers

static void check_set_refused(const char *key, const char *value, const char *message) {
    struct config *c = config_create();
    struct config_problem problem;
    check_err(config_set(c, key, value, &problem), ERR_INVALID);
    assert_string_equal(problem.text, message);
    config_unref(c);
}

// ---- Defaults and the table

static void defaults_are_those_of_the_table(void **state UNUSED) {
    struct config *c = config_create();
    check_str(c->listen, "127.0.0.1:8080");
    check_str(c->prefix, "/v1");
    check_int(c->workers, 0);
    check(!c->open);
    check_int(c->max_body, 32 << 20);
    check_int(c->max_head, 32 << 10);
    check_int(c->max_fields, 100);
    check_int(c->pace_us, 500);
    check_int(c->connect_ms, 5000);
    check_int(c->first_byte_ms, 300000);
    check_int(c->between_ms, 120000);
    check_int(c->total_ms, 900000);
    check_int(c->header_ms, 10000);
    check_int(c->idle_ms, 75000);
    check_int(c->key_count + c->upstream_count + c->model_count, 0);
    config_unref(c);
}

static void empty_file_gives_the_defaults(void **state UNUSED) {
    struct config *c = read_config("# nothing\n");
    check_str(c->listen, "127.0.0.1:8080");
    check_int(c->total_ms, 900000);
    config_unref(c);
}

// "timeouts.connect", "workers"; false for keys of entries, which config_set does not reach.
static bool dotted_name(const struct key *key, char out[128]) {
    snprintf(out, 128, "%s", key->name);
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *group = &config_keys[i];
        if (group->shape == SHAPE_GROUP && group->section == SECTION_TOP && group->inner == key->section) {
            snprintf(out, 128, "%s.%s", group->name, key->name);
            return true;
        }
    }
    return key->section == SECTION_TOP;
}

static bool is_number(const struct key *key) {
    return key->shape == SHAPE_SCALAR && key->min &&
           (key->kind == KIND_COUNT || key->kind == KIND_SIZE || key->kind == KIND_NUMBER ||
            key->kind == KIND_DURATION || key->kind == KIND_DURATION_US || key->kind == KIND_PAUSE ||
            key->kind == KIND_MEMORY);
}

static uint64_t bound(const struct key *key, const char *written) {
    static enum err (*const parse[KIND_COUNT_OF])(struct str s, uint64_t * number) = {
        [KIND_COUNT] = parse_u64,
        [KIND_SIZE] = parse_size,
        [KIND_NUMBER] = parse_u64,
        [KIND_PAUSE] = parse_duration_ms,
        [KIND_MEMORY] = parse_size,
        [KIND_DURATION] = parse_duration_ms,
        [KIND_DURATION_US] = duration_us_parse,
    };
    uint64_t n = 0;
    check_ok(parse[key->kind](str_c(written), &n));
    return n;
}

static const char *unit(const struct key *key) {
    bool ms = key->kind == KIND_DURATION || key->kind == KIND_PAUSE;
    return ms ? "ms" : key->kind == KIND_DURATION_US ? "us" : "";
}

static void ranges_hold_at_both_ends(void **state UNUSED) {
    unsigned seen = 0;
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *key = &config_keys[i];
        char name[128];
        char value[64];
        struct config_problem problem;
        if (!is_number(key) || !dotted_name(key, name)) {
            continue;
        }
        struct config *c = config_create();
        check_ok(config_set(c, name, key->min, &problem));
        check_ok(config_set(c, name, key->max, &problem));
        snprintf(value, sizeof value, "%llu%s", (unsigned long long)bound(key, key->max) + 1, unit(key));
        check_err(config_set(c, name, value, &problem), ERR_INVALID);
        if (bound(key, key->min) > 0) {
            snprintf(value, sizeof value, "%llu%s", (unsigned long long)bound(key, key->min) - 1, unit(key));
            check_err(config_set(c, name, value, &problem), ERR_INVALID);
        }
        config_unref(c);
        seen++;
    }
    check(seen >= 28);
}

static void defaults_are_within_their_ranges(void **state UNUSED) {
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *key = &config_keys[i];
        char name[128];
        struct config_problem problem;
        if (key->shape != SHAPE_SCALAR || key->presence != PRESENCE_DEFAULT || !dotted_name(key, name)) {
            continue;
        }
        struct config *c = config_create();
        check_ok(config_set(c, name, key->sample, &problem));
        config_unref(c);
    }
}

static void every_row_has_a_text(void **state UNUSED) {
    for (unsigned i = 0; i < config_key_rows; i++) {
        check(*config_keys[i].text || key_rule(&config_keys[i]) != &config_keys[i]);
    }
}

// key_copy gives the one's value to the other.
static void key_is_of_the_kind_of_the_one_it_follows(void **state UNUSED) {
    unsigned seen = 0;
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *rule = key_rule(&config_keys[i]);
        check(rule && rule->kind == config_keys[i].kind);
        seen += rule != &config_keys[i];
    }
    check(seen >= 16);
}

// ---- Kinds of values

static void counts_sizes_and_durations_are_read(void **state UNUSED) {
    struct config *c = read_config("workers: 4\nmax_body: 8m\nmax_head: 2048\nmax_fields: \"50\"\n"
                                   "timeouts: {connect: 250ms, total: 2h, idle: 1.5s}\n");
    check_int(c->workers, 4);
    check_int(c->max_body, 8 << 20);
    check_int(c->max_head, 2048);
    check_int(c->max_fields, 50);
    check_int(c->connect_ms, 250);
    check_int(c->total_ms, 7200000);
    check_int(c->idle_ms, 1500);
    check_int(c->between_ms, 120000);
    config_unref(c);
}

static void pace_takes_microseconds(void **state UNUSED) {
    static const struct {
        const char *text;
        unsigned us;
    } cases[] = {{"pace: 0", 0},       {"pace: 1us", 1},       {"pace: 250us", 250}, {"pace: 2ms", 2000},
                 {"pace: 0.5ms", 500}, {"pace: 0.001s", 1000}, {"pace: 10ms", 10000}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config *c = read_config(cases[i].text);
        check_int(c->pace_us, cases[i].us);
        config_unref(c);
    }
}

static void pace_refuses_what_is_no_short_time(void **state UNUSED) {
    static const char *const wrong[] = {"us",      "-1us", "1.5us", "5", "ms", "5mms", "18446744073709551615s",
                                        "10001us", "1s",   ""};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct config *c = config_create();
        struct config_problem problem;
        check_err(config_set(c, "pace", wrong[i], &problem), ERR_INVALID);
        check_int(c->pace_us, 500);
        config_unref(c);
    }
}

static void bools_have_their_words(void **state UNUSED) {
    static const char *const on[] = {"open: true", "open: yes", "open: on", "open: True"};
    static const char *const off[] = {"open: false", "open: no", "open: off"};
    for (size_t i = 0; i < ARRAY_LEN(on); i++) {
        struct config *c = read_config(on[i]);
        check(c->open);
        config_unref(c);
    }
    for (size_t i = 0; i < ARRAY_LEN(off); i++) {
        struct config *c = read_config(off[i]);
        check(!c->open);
        config_unref(c);
    }
}

static void prefix_may_be_empty(void **state UNUSED) {
    struct config *c = read_config("prefix: \"\"\n");
    check_int(c->prefix.len, 0);
    config_unref(c);
}

static void prefix_is_a_path(void **state UNUSED) {
    struct config *c = read_config("prefix: /api/llm\n");
    check_str(c->prefix, "/api/llm");
    config_unref(c);
    check_refused("prefix: v1", "t.yaml:1:9: 'prefix' must begin with /");
    check_refused("prefix: /v1/", "t.yaml:1:9: 'prefix' must not end with / (\"\" is no prefix at all)");
    check_refused("prefix: /", "t.yaml:1:9: 'prefix' must not end with / (\"\" is no prefix at all)");
    check_refused("prefix: /a b", "t.yaml:1:9: 'prefix' must not contain blanks or control characters");
    char text[200];
    struct str path = STR("prefix: /");
    memcpy(text, path.ptr, path.len);
    memset(text + path.len, 'a', 128);
    text[path.len + 127] = '\0';
    config_unref(read_config(text));
    text[path.len + 127] = 'a';
    text[path.len + 128] = '\0';
    check_refused(text, "t.yaml:1:9: 'prefix' is longer than 128 bytes");
    check_refused("prefix: /a?b", "t.yaml:1:9: 'prefix' must not have a query (?)");
}

static void listen_is_checked(void **state UNUSED) {
    struct config *c = read_config("listen: \"[::1]:9\"\n");
    check_str(c->listen, "[::1]:9");
    config_unref(c);
    check_refused("listen: localhost", "t.yaml:1:9: 'listen' needs a port, as in 127.0.0.1:8080, [::1]:8080 or :8080");
    check_refused("listen: localhost:99999", "t.yaml:1:9: 'listen' needs a port from 0 to 65535 after the colon");
}

static void keys_are_a_list_or_one(void **state UNUSED) {
    struct config *c = read_config("keys:\n  - ${THAW_KEY}\n  - second\n  - x${PORT}y\n");
    check_int(c->key_count, 3);
    check_str(c->keys[0].secret, "client-secret-1");
    check_str(c->keys[1].secret, "second");
    check_str(c->keys[2].secret, "x81y");
    config_unref(c);
    c = read_config("keys: only\n");
    check_int(c->key_count, 1);
    check_str(c->keys[0].secret, "only");
    config_unref(c);
}

static void key_with_a_line_end_or_blank_is_refused(void **state UNUSED) {
    check_refused("keys: [\"${LINE}\"]",
                  "t.yaml:1:8: 'keys[0]' contains a blank, a line end or another control character");
    check_refused("keys: [a, two words]",
                  "t.yaml:1:11: 'keys[1]' contains a blank, a line end or another control character");
    check_refused("keys: [\"\"]", "t.yaml:1:8: 'keys[0]' must not be empty");
    check_refused("keys: [\xc3\xbc]", "t.yaml:1:8: 'keys[0]' contains a character that is not ASCII");
}

static void upstream_has_all_its_members(void **state UNUSED) {
    struct config *c = read_config("upstreams:\n"
                                   "  openai:\n"
                                   "    url: https://api.openai.com/v1/\n"
                                   "    key: ${OPENAI_API_KEY}\n"
                                   "    ca_file: /etc/ca.pem\n"
                                   "    timeouts: {connect: 1s, first_byte: 2s, between: 3s, total: 4s}\n");
    const struct config_upstream *u = &c->upstreams[0];
    check_int(c->upstream_count, 1);
    check_str(u->name, "openai");
    check_str(u->url, "https://api.openai.com/v1/");
    check(u->tls && !u->mock);
    check_str(u->host, "api.openai.com");
    check_int(u->port, 443);
    check_str(u->base_path, "/v1");
    check_str(u->key, "upstream-secret-1");
    check_str(u->ca_file, "/etc/ca.pem");
    check_int(u->connect_ms, 1000);
    check_int(u->first_byte_ms, 2000);
    check_int(u->between_ms, 3000);
    check_int(u->total_ms, 4000);
    config_unref(c);
}

static void upstreams_keep_the_order_of_the_file(void **state UNUSED) {
    struct config *c =
        read_config("upstreams:\n  z: {url: http://z}\n  a: {url: mock}\n  m: {url: \"http://[::1]:5/x\"}\n"
                    "  b: {url: http://b}\n  c: {url: http://c}\n");
    check_int(c->upstream_count, 5);
    check_str(c->upstreams[0].name, "z");
    check_str(c->upstreams[1].name, "a");
    check(c->upstreams[1].mock);
    check_str(c->upstreams[2].host, "::1");
    check_int(c->upstreams[2].port, 5);
    check_str(c->upstreams[4].name, "c");
    config_unref(c);
}

static void upstream_follows_the_general_timeouts_wherever_they_stand(void **state UNUSED) {
    struct config *c = read_config("upstreams: {a: {url: mock, timeouts: {total: 7s}}, b: {url: mock, timeouts: }}\n"
                                   "timeouts: {connect: 1s, total: 9s}\n");
    check_int(c->upstreams[0].connect_ms, 1000);
    check_int(c->upstreams[0].total_ms, 7000);
    check_int(c->upstreams[0].between_ms, 120000);
    check_int(c->upstreams[1].total_ms, 9000);
    config_unref(c);
}

static void models_refer_to_upstreams(void **state UNUSED) {
    struct config *c = read_config("models:\n" // before the upstreams: order must not matter
                                   "  fast: {use: [openai/gpt-5-mini, local]}\n"
                                   "  big: {use: router/meta/llama-4:70b}\n"
                                   "upstreams:\n"
                                   "  local: {url: http://localhost:11434/v1}\n"
                                   "  openai: {url: https://api.openai.com/v1}\n"
                                   "  router: {url: https://openrouter.ai/api/v1}\n");
    const struct config_model *fast = config_model_find(c, STR("fast"));
    const struct config_model *big = config_model_find(c, STR("big"));
    check(fast && big);
    check_int(fast->use_count, 2);
    check_int(fast->use[0].upstream, 1);
    check_str(fast->use[0].model, "gpt-5-mini");
    check_int(fast->use[1].upstream, 0);
    check_int(fast->use[1].model.len, 0);
    check_int(big->use[0].upstream, 2);
    check_str(big->use[0].model, "meta/llama-4:70b");
    assert_null(config_model_find(c, STR("fas")));
    config_unref(c);
}

// ---- Environment

static void variables_are_filled_in_anywhere(void **state UNUSED) {
    struct config *c = read_config("listen: localhost:${PORT}\nupstreams: {a: {url: \"http://${HOST}:${PORT}/v1\"}}\n");
    check_str(c->listen, "localhost:81");
    check_str(c->upstreams[0].host, "hidden.example");
    config_unref(c);
}

static void variables_are_filled_in_once(void **state UNUSED) {
    struct config *c = read_config("keys:\n  - ${DOLLAR}\n");
    check_str(c->keys[0].secret, "${THAW_KEY}");
    config_unref(c);
}

static void doubled_dollar_is_a_literal(void **state UNUSED) {
    struct config *c = read_config("keys:\n  - a$${THAW_KEY}\n  - $\n  - $$\n  - a$b\n  - $$${PORT}\n");
    check_str(c->keys[0].secret, "a${THAW_KEY}");
    check_str(c->keys[1].secret, "$");
    check_str(c->keys[2].secret, "$$");
    check_str(c->keys[3].secret, "a$b");
    check_str(c->keys[4].secret, "$${PORT}");
    config_unref(c);
}

static void unset_variable_is_named(void **state UNUSED) {
    check_refused("workers: 1\nkeys:\n  - ${NOT_THERE}\n",
                  "t.yaml:3:5: 'keys[0]' needs the environment variable NOT_THERE, which is not set");
}

static void empty_variable_is_named(void **state UNUSED) {
    check_refused("upstreams: {a: {url: \"http://${EMPTY}\"}}\n",
                  "t.yaml:1:22: 'upstreams.a.url' needs the environment variable EMPTY, which is empty");
}

static void broken_variable_is_refused_without_showing_it(void **state UNUSED) {
    static const char *const wrong[] = {"${hunter2", "${}", "${hunter 2}", "${2hunter}", "${hunter-2}", "a${"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char text[64];
        snprintf(text, sizeof text, "keys: [\"%s\"]", wrong[i]);
        check_refused(text, "t.yaml:1:8: 'keys[0]' has a ${ that begins no name of an environment variable: write "
                            "${NAME}, or $${ for the characters themselves");
    }
}

static void without_a_lookup_the_process_environment_is_read(void **state UNUSED) {
    struct config *c;
    struct config_problem problem;
    check_int(setenv("THAW_TEST_WORKERS", "3", 1), 0);
    check_ok(config_read_text("t", STR("workers: ${THAW_TEST_WORKERS}"), NULL, NULL, &c, &problem));
    check_int(c->workers, 3);
    config_unref(c);
    unsetenv("THAW_TEST_WORKERS");
}

static void value_too_long_is_refused(void **state UNUSED) {
    size_t size = (size_t)2 << 20;
    char *text = xmalloc(size);
    memset(text, 'x', size);
    memcpy(text, "listen: $", 9); // the dollar makes it a value to be copied together
    text[size - 1] = '\0';
    check_refused(text, "t.yaml:1:9: 'listen' is too long");
    free(text);
}

// ---- Key files

static void keys_come_from_a_file(void **state UNUSED) {
    char path[64];
    char text[128];
    make_file(path, "first\n\n# a comment\n  second \r\nthird", 0600);
    snprintf(text, sizeof text, "keys: [zero, file:%s, last]", path);
    struct config *c = read_config(text);
    check_int(c->key_count, 5);
    check_str(c->keys[1].secret, "first");
    check_str(c->keys[2].secret, "second");
    check_str(c->keys[3].secret, "third");
    check_str(c->keys[4].secret, "last");
    config_unref(c);
    unlink(path);
}

static void upstream_key_comes_from_a_file(void **state UNUSED) {
    char path[64];
    char text[160];
    make_file(path, "only\n", 0400);
    snprintf(text, sizeof text, "upstreams: {a: {url: http://a, key: file:%s}}", path);
    struct config *c = read_config(text);
    check_str(c->upstreams[0].key, "only");
    config_unref(c);
    unlink(path);
}

static void check_file_refused(const char *content, mode_t mode, const char *format, const char *message) {
    char path[64];
    char text[256];
    char wanted[320];
    make_file(path, content, mode);
    snprintf(text, sizeof text, "%s%s", format, path);
    snprintf(wanted, sizeof wanted, "t.yaml:1:7: keys: %s %s", path, message);
    check_refused(text, wanted);
    unlink(path);
}

static void key_file_that_others_may_read_is_refused(void **state UNUSED) {
    check_file_refused("k\n", 0644, "keys: file:", "is open to other users (mode 0644): chmod 600 it");
    check_file_refused("k\n", 0640, "keys: file:", "is open to other users (mode 0640): chmod 600 it");
    check_file_refused("k\n", 0602, "keys: file:", "is open to other users (mode 0602): chmod 600 it");
}

static void key_file_without_a_key_is_refused(void **state UNUSED) {
    check_file_refused("\n# none\n", 0600, "keys: file:", "holds no key");
    check_file_refused("", 0600, "keys: file:", "holds no key");
}

static void key_file_with_a_bad_line_is_refused(void **state UNUSED) {
    check_file_refused("good\nhunter 2\n", 0600,
                       "keys: file:", "line 2 contains a blank, a line end or another control character");
}

static void upstream_key_file_with_two_keys_is_refused(void **state UNUSED) {
    char path[64];
    char text[160];
    char wanted[200];
    make_file(path, "a\nb\n", 0600);
    snprintf(text, sizeof text, "upstreams: {a: {url: http://a, key: file:%s}}", path);
    snprintf(wanted, sizeof wanted, "t.yaml:1:37: upstreams.a.key: %s holds more than one key", path);
    check_refused(text, wanted);
    unlink(path);
}

static void key_file_that_is_none_is_refused(void **state UNUSED) {
    check_refused("keys: file:/", "t.yaml:1:7: keys: / is not a regular file");
    check_refused("keys: file:/nowhere/keys",
                  "t.yaml:1:7: keys: /nowhere/keys cannot be opened: No such file or directory");
    check_refused("keys: \"file:\"", "t.yaml:1:7: 'keys' needs a path behind file:");
    check_refused("keys: file:${MANY}", "t.yaml:1:7: keys: the key file cannot be opened: No such file or directory");
}

static void key_file_too_large_is_refused(void **state UNUSED) {
    char path[64];
    char text[128];
    char wanted[160];
    make_file(path, "k\n", 0600);
    check_int(truncate(path, 5 << 20), 0);
    snprintf(text, sizeof text, "keys: file:%s", path);
    snprintf(wanted, sizeof wanted, "t.yaml:1:7: keys: %s is too large", path);
    check_refused(text, wanted);
    unlink(path);
}

// ---- Messages

static void unknown_key_gets_the_nearest(void **state UNUSED) {
    check_refused("listen: :80\n\n\n\n\nopen: true\nupstream: {}\n",
                  "t.yaml:7:1: unknown key 'upstream'; did you mean 'upstreams'?");
    check_refused("timeouts:\n  conect: 5s\n", "t.yaml:2:3: unknown key 'timeouts.conect'; did you mean 'connect'?");
    check_refused("upstreams:\n  a:\n    ur: x\n", "t.yaml:3:5: unknown key 'upstreams.a.ur'; did you mean 'url'?");
    check_refused("models: {m: {uses: a}}", "t.yaml:1:14: unknown key 'models.m.uses'; did you mean 'use'?");
}

static void unknown_key_without_a_near_one_gets_the_list(void **state UNUSED) {
    struct config *c;
    struct config_problem problem;
    check_err(config_read_text("t.yaml", STR("models: {m: {frobnicate: a}}"), NULL, NULL, &c, &problem), ERR_INVALID);
    check(str_starts(str_c(problem.text), STR("t.yaml:1:14: unknown key 'models.m.frobnicate'; known here: use")));
}

static void wrong_number_says_what_it_must_be(void **state UNUSED) {
    check_refused("workers: many", "t.yaml:1:10: 'workers' must be a number from 0 to 256, not 'many'");
    check_refused("workers: 257", "t.yaml:1:10: 'workers' must be a number from 0 to 256, not '257'");
    check_refused("workers: -1", "t.yaml:1:10: 'workers' must be a number from 0 to 256, not '-1'");
    check_refused("max_fields: 1e2", "t.yaml:1:13: 'max_fields' must be a number from 10 to 1000, not '1e2'");
}

static void wrong_size_says_what_it_must_be(void **state UNUSED) {
    check_refused("max_head: 512", "t.yaml:1:11: 'max_head' must be a size (512, 64k, 8m) from 1k to 128k, not '512'");
    check_refused("max_body: big", "t.yaml:1:11: 'max_body' must be a size (512, 64k, 8m) from 1k to 1g, not 'big'");
}

static void wrong_duration_says_what_it_must_be(void **state UNUSED) {
    check_refused("timeouts: {connect: 5}", "t.yaml:1:21: 'timeouts.connect' must be a duration (250ms, 5s, 2m) "
                                            "from 1ms to 24h, not '5'");
    check_refused("upstreams: {a: {url: mock, timeouts: {total: 25h}}}",
                  "t.yaml:1:46: 'upstreams.a.timeouts.total' must be a duration (250ms, 5s, 2m) from 1ms to 24h, "
                  "not '25h'");
    check_refused("pace: 11ms", "t.yaml:1:7: 'pace' must be a duration (500us, 2ms) from 0 to 10ms, not '11ms'");
}

static void wrong_bool_says_what_it_must_be(void **state UNUSED) {
    check_refused("open: maybe", "t.yaml:1:7: 'open' must be true or false, not 'maybe'");
}

static void wrong_shape_says_what_it_must_be(void **state UNUSED) {
    check_refused("workers: [1]", "t.yaml:1:10: 'workers' must be a number from 0 to 256, not a list");
    check_refused("workers: {a: 1}", "t.yaml:1:10: 'workers' must be a number from 0 to 256, not a map");
    check_refused("workers:\n", "t.yaml:1:9: 'workers' must be a number from 0 to 256, not nothing");
    check_refused("timeouts: 5s", "t.yaml:1:11: 'timeouts' must be a map of keys and values, not a single value");
    check_refused("timeouts: [5s]", "t.yaml:1:11: 'timeouts' must be a map of keys and values, not a list");
    check_refused("upstreams: x", "t.yaml:1:12: 'upstreams' must be a map of names and what they stand for, not a "
                                  "single value");
    check_refused("upstreams:\n  a: http://x\n",
                  "t.yaml:2:6: 'upstreams.a' must be a map of keys and values, not a single value");
    check_refused("keys: {a: 1}", "t.yaml:1:7: 'keys' must be a list (or one value), not a map");
    check_refused("keys: [a, [b]]", "t.yaml:1:11: 'keys[1]' must be a secret, not a list");
    check_refused("keys: [a, ~]", "t.yaml:1:11: 'keys[1]' must be a secret, not nothing");
    check_refused("listen: [1]", "t.yaml:1:9: 'listen' must be an address and port, not a list");
    check_refused("prefix:", "t.yaml:1:8: 'prefix' must be a path, not nothing");
    check_refused("- a", "t.yaml:1:1: a configuration is a map of keys and values, not a list");
    check_refused("just words", "t.yaml:1:1: a configuration is a map of keys and values, not a single value");
}

static void empty_list_is_refused(void **state UNUSED) {
    check_refused("keys: []", "t.yaml:1:7: 'keys' is empty: give it an entry or leave it out");
    check_refused("keys:", "t.yaml:1:6: 'keys' is empty: give it an entry or leave it out");
    check_refused("models: {m: {use: []}}", "t.yaml:1:19: 'models.m.use' is empty: give it an entry or leave it out");
}

static void list_too_long_is_refused(void **state UNUSED) {
    char text[512] = "upstreams: {a: {url: mock}}\nmodels: {m: {use: [a";
    for (int i = 0; i < 64; i++) {
        strncat(text, ",a", sizeof text - strlen(text) - 1);
    }
    strncat(text, "]}}", sizeof text - strlen(text) - 1);
    check_refused(text, "t.yaml:2:19: 'models.m.use' has more than 64 entries");
}

static void more_upstreams_than_allowed_are_refused(void **state UNUSED) {
    struct buf text;
    buf_init(&text, 1 << 20);
    check_ok(buf_str_append(&text, STR("models: {m: {use: u1023}}\nupstreams:\n")));
    for (int i = 0; i < 1100; i++) {
        check_ok(buf_printf(&text, "  u%d: {url: mock}\n", i));
    }
    check_ok(buf_append(&text, "", 1));
    check_refused(buf_str(&text).ptr, "t.yaml:3:3: 'upstreams' has more than 1000 entries");
    buf_finish(&text);
}

static void missing_key_is_named(void **state UNUSED) {
    check_refused("upstreams:\n  a: {key: k}\n", "t.yaml:2:3: 'upstreams.a' needs the key 'url'");
    check_refused("upstreams:\n  a:\n", "t.yaml:2:3: 'upstreams.a' needs the key 'url'");
    check_refused("models: {m: {}}", "t.yaml:1:10: 'models.m' needs the key 'use'");
}

static void dangling_reference_gets_the_nearest(void **state UNUSED) {
    check_refused("upstreams: {openai: {url: mock}, local: {url: mock}}\n"
                  "models:\n  fast: {use: [openai/x, locl/y]}\n",
                  "t.yaml:3:26: models.fast.use[1]: no upstream is called 'locl'; did you mean 'local'?");
    check_refused("models: {m: {use: a}}",
                  "t.yaml:1:19: models.m.use: no upstream is called 'a'; there are no upstreams in this file");
    check_refused("upstreams: {abcdef: {url: mock}}\nmodels: {m: {use: zzz/x}}",
                  "t.yaml:2:19: models.m.use: no upstream is called 'zzz'");
}

static void reference_without_a_model_is_refused(void **state UNUSED) {
    check_refused("upstreams: {a: {url: mock}}\nmodels: {m: {use: a/}}",
                  "t.yaml:2:19: 'models.m.use' names no model behind the slash");
    check_refused("models: {m: {use: \"\"}}", "t.yaml:1:19: 'models.m.use' must not be empty");
}

static void names_are_checked(void **state UNUSED) {
    check_refused("upstreams: {a/b: {url: mock}}",
                  "t.yaml:1:13: 'upstreams.a/b' must not contain a slash: models write upstream/model");
    check_refused("upstreams: {\"\": {url: mock}}", "t.yaml:1:13: 'upstreams.' must not be empty");
    check_refused("models: {\"a\\nb\": {use: x}}", "t.yaml:1:10: 'models.a?b' must not contain control characters");
}

static void name_twice_is_refused(void **state UNUSED) {
    check_refused("upstreams:\n  a: {url: mock}\n  a: {url: mock}\n",
                  "t.yaml:3:3: 'a' is there twice; the first one is on line 2");
}

static void bad_url_is_explained(void **state UNUSED) {
    check_refused("upstreams: {a: {url: localhost:11434/v1}}",
                  "t.yaml:1:22: 'upstreams.a.url' must begin with http://, https:// or h2c://; did you mean "
                  "'http://localhost:11434/v1'?");
    check_refused("upstreams: {a: {url: \"http://a:99999\"}}",
                  "t.yaml:1:22: 'upstreams.a.url' needs a port from 1 to 65535 after the colon");
}

static void first_problem_in_the_file_is_reported(void **state UNUSED) {
    check_refused("models: {m: {use: nope}}\nworkers: many\n",
                  "t.yaml:1:19: models.m.use: no upstream is called 'nope'; there are no upstreams in this file");
    check_refused("workers: many\nfrobnicate: 1\n",
                  "t.yaml:1:10: 'workers' must be a number from 0 to 256, not 'many'");
}

static void long_names_are_cut(void **state UNUSED) {
    char text[600];
    char wanted[600];
    memset(text, '\0', sizeof text);
    for (size_t i = 0; i < 500; i++) {
        text[i] = "xy-"[i % 3];
    }
    snprintf(wanted, sizeof wanted, "t.yaml:1:14: 'open' must be true or false, not '%.80s...'", text);
    memmove(text + 13, text, 500);
    memcpy(text, "open:        ", 13);
    check_refused(text, wanted);
}

static void long_file_names_are_cut(void **state UNUSED) {
    char name[3000];
    struct config *c;
    struct config_problem problem;
    memset(name, 'd', sizeof name);
    memcpy(name + sizeof name - 6, "x.yml", 6);
    check_err(config_read_text(name, STR("wrkers: 1"), NULL, NULL, &c, &problem), ERR_INVALID);
    check(str_search(str_c(problem.text), STR("x.yml:1:1: unknown key 'wrkers'; did you mean 'workers'?")) <
          strlen(problem.text));
}

// ---- Secrets

// Whatever is wrong with this text, its message must not contain the secret.
static void check_hidden(const char *text, const char *secret) {
    struct config *c;
    struct config_problem problem;
    check_err(config_read_text("t.yaml", str_c(text), test_environment, NULL, &c, &problem), ERR_INVALID);
    if (str_search(str_c(problem.text), str_c(secret)) < strlen(problem.text)) {
        fail_msg("%s: %s", text, problem.text);
    }
}

static void values_from_the_environment_are_never_shown(void **state UNUSED) {
    static const char *const texts[] = {
        "workers: ${MANY}",
        "open: ${MANY}",
        "max_body: x${MANY}",
        "pace: ${MANY}",
        "listen: ${MANY}",
        "prefix: ${MANY}",
        "key: ${MANY}",
        "frobnicate: ${MANY}",
        "timeouts: {connect: \"${MANY}\"}",
        "timeouts: ${MANY}",
        "upstreams: {a: {url: \"${MANY}\"}}",
        "upstreams: {a: {url: \"${MANY}:80/v1\"}}",
        "upstreams: {a: {url: \"http://u:${MANY}@h\"}}",
        "upstreams: ${MANY}",
        "models: {m: {use: \"${MANY}\"}}",
        "models: {m: {use: [\"${MANY}/x\"]}}",
        "keys: \"${MANY} ${MANY}\"",
        "keys: file:${MANY}",
        "keys: {a: \"${MANY}\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        check_hidden(texts[i], "many-hidden");
    }
}

static void secrets_written_out_are_never_shown(void **state UNUSED) {
    static const char *const texts[] = {
        "key: hunter2",
        "keys: [hunter2 x]",
        "keys: {hunter: hunter2}",
        "kyes: [hunter2]",
        "upstreams: {a: {url: http://a, key: [hunter2]}}",
        "upstreams: {a: {url: http://a, key: \"hunter2 x\"}}",
        "upstreams: {a: {url: http://a, secret: hunter2}}",
        "upstreams: {a: {url: hunter2}}",
        "upstreams: {a: {url: \"https://u:hunter2@h\"}}",
        "upstreams: {a: {url: \"u:hunter2@h\"}}",
        "upstreams: {a: {url: \"h.de/v1?key=hunter2\"}}",
        "upstreams: {a: hunter2}",
        "upstreams: \"key:hunter2\"",
        "timeouts: hunter2",
        "hunter2",
        "a: &hunter2 x",
        "a: *hunter2",
        "a: !hunter2 x",
        "a: @hunter2",
        "keys: [${hunter2}]",
        "keys: [\"a${hunter2\"]",
        "keys: [hunter2",
        "keys: \"hunter2",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        check_hidden(texts[i], "hunter2");
    }
}

static void what_looks_like_a_secret_is_never_shown(void **state UNUSED) {
    static const char *const secrets[] = {"sk-proj-abc",
                                          "ghp_abc",
                                          "AKIAabc",
                                          "Bearer abc",
                                          "k9f8a7s6d5f4g3h2j1k0l9",
                                          "123e4567-e89b-12d3-a456-426614174000"};
    static const char *const places[] = {
        "workers: %s",
        "open: \"%s\"",
        "%s: 1",
        "%s: 1\n%s: 2\n",
        "keys:\n  - %s: x\n",
        "upstreams: {%s: x}",
        "models: {m: {use: %s}}",
        "models: {%s: {}}",
        "upstreams: {a: {url: \"%s:80/v1\"}}",
        "upstreams: {%s: {ur: 1}}",
    };
    for (size_t s = 0; s < ARRAY_LEN(secrets); s++) {
        for (size_t p = 0; p < ARRAY_LEN(places); p++) {
            struct buf text;
            struct str rest = str_c(places[p]);
            buf_init(&text, 4096);
            while (rest.len) {
                size_t at = str_search(rest, STR("%s"));
                check_ok(buf_str_append(&text, str_first(rest, at)));
                check_ok(buf_str_append(&text, at < rest.len ? str_c(secrets[s]) : STR("")));
                rest = str_skip(rest, at + 2);
            }
            check_ok(buf_append(&text, "", 1));
            check_hidden(buf_str(&text).ptr, secrets[s]);
            buf_finish(&text);
        }
    }
}

static void ordinary_names_do_not_look_like_secrets(void **state UNUSED) {
    static const char *const names[] = {"claude-3-5-sonnet-20241022",
                                        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
                                        "gpt-5-mini",
                                        "text-embedding-3-large",
                                        "http://127.0.0.1:11434/v1",
                                        "deepseek-r1:671b",
                                        "ask-me",
                                        "127.0.0.1:8080",
                                        "upstream"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        check(!looks_secret(str_c(names[i])));
    }
}

static void secrets_of_the_command_line_are_never_shown(void **state UNUSED) {
    struct config *c = config_create();
    struct config_problem problem;
    check_err(config_add_upstream(c, STR(""), STR("http://a"), STR("hunter2 x"), STR(""), &problem), ERR_INVALID);
    assert_string_equal(problem.text, "'upstreams.a.key' contains a blank, a line end or another control character");
    check_err(config_set(c, "keys", "hunter2 x", &problem), ERR_INVALID);
    assert_string_equal(problem.text, "'keys' contains a blank, a line end or another control character");
    config_unref(c);
}

// ---- Files

static void file_is_read(void **state UNUSED) {
    char path[64];
    struct config *c;
    struct config_problem problem;
    make_file(path, "workers: 7\n", 0644);
    check_ok(config_read_file(path, &c, &problem));
    check_int(c->workers, 7);
    config_unref(c);
    unlink(path);
}

static void file_that_is_not_there_is_named(void **state UNUSED) {
    struct config *c;
    struct config_problem problem;
    check_err(config_read_file("/nowhere/thaw.yaml", &c, &problem), ERR_SYS);
    assert_string_equal(problem.text, "/nowhere/thaw.yaml: No such file or directory");
    check_err(config_read_file("/", &c, &problem), ERR_SYS);
    assert_string_equal(problem.text, "/: Is a directory");
    assert_null(c);
}

static void file_that_never_ends_is_refused(void **state UNUSED) {
    struct config *c;
    struct config_problem problem;
    check_err(config_read_file("/dev/zero", &c, &problem), ERR_FULL);
    assert_string_equal(problem.text, "/dev/zero: too large for a configuration");
}

// ---- Command line

static void options_set_keys(void **state UNUSED) {
    struct config *c = config_create();
    struct config_problem problem;
    check_ok(config_set(c, "listen", ":9000", &problem));
    check_ok(config_set(c, "workers", "3", &problem));
    check_ok(config_set(c, "open", "true", &problem));
    check_ok(config_set(c, "prefix", "", &problem));
    check_ok(config_set(c, "timeouts.connect", "1s", &problem));
    check_ok(config_set(c, "keys", "one", &problem));
    check_ok(config_set(c, "keys", "${two}", &problem)); // as it is: the shell has had its turn
    check_str(c->listen, ":9000");
    check_int(c->workers, 3);
    check(c->open);
    check_int(c->prefix.len, 0);
    check_int(c->connect_ms, 1000);
    check_int(c->key_count, 2);
    check_str(c->keys[1].secret, "${two}");
    config_unref(c);
}

static void options_are_checked_like_the_file(void **state UNUSED) {
    check_set_refused("workers", "many", "'workers' must be a number from 0 to 256, not 'many'");
    check_set_refused("wrkers", "1", "unknown key 'wrkers'; did you mean 'workers'?");
    check_set_refused("timeouts.conect", "1s", "unknown key 'timeouts.conect'; did you mean 'connect'?");
    check_set_refused("timeouts", "1s", "'timeouts' can only be set in a file");
    check_set_refused("upstreams", "x", "'upstreams' can only be set in a file");
    check_set_refused("upstreams.a.url", "x", "'upstreams' can only be set in a file");
    check_set_refused("workers.x", "1", "'workers' can only be set in a file");
    check_set_refused("listen", "", "'listen' needs a port, as in 127.0.0.1:8080, [::1]:8080 or :8080");
}

static void refused_option_changes_nothing(void **state UNUSED) {
    char path[64];
    char value[80];
    struct config *c = config_create();
    struct config_problem problem;
    make_file(path, "a\nb\nc\nbad line\n", 0600);
    snprintf(value, sizeof value, "file:%s", path);
    check_ok(config_set(c, "keys", "first", &problem));
    check_err(config_set(c, "keys", value, &problem), ERR_INVALID);
    check_int(c->key_count, 1);
    check_ok(config_set(c, "keys", "second", &problem));
    check_str(c->keys[0].secret, "first");
    check_str(c->keys[1].secret, "second");
    config_unref(c);
    unlink(path);
}

static void general_timeout_set_later_reaches_the_upstreams(void **state UNUSED) {
    struct config *c = read_config("upstreams: {a: {url: mock, timeouts: {total: 7s}}}");
    struct config_problem problem;
    check_ok(config_set(c, "timeouts.total", "9s", &problem));
    check_ok(config_set(c, "timeouts.connect", "2s", &problem));
    check_int(c->upstreams[0].total_ms, 7000);
    check_int(c->upstreams[0].connect_ms, 2000);
    config_unref(c);
}

static void upstreams_are_added_under_names_of_their_hosts(void **state UNUSED) {
    struct config *c = config_create();
    struct config_problem problem;
    struct str none = STR("");
    check_ok(config_add_upstream(c, none, STR("https://api.openai.com/v1"), STR("k"), STR("/ca"), &problem));
    check_ok(config_add_upstream(c, none, STR("https://eu.openai.com/v1"), none, none, &problem));
    check_ok(config_add_upstream(c, none, STR("http://127.0.0.1:1"), none, none, &problem));
    check_ok(config_add_upstream(c, STR("mine"), STR("http://127.0.0.1:2"), none, none, &problem));
    check_ok(config_add_mock(c, &problem));
    check_ok(config_add_upstream(c, none, STR("mock"), none, none, &problem));
    static const char *const names[] = {"openai", "openai-2", "127.0.0.1", "mine", "mock", "mock-2"};
    check_int(c->upstream_count, 6);
    for (unsigned i = 0; i < c->upstream_count; i++) {
        check_str(c->upstreams[i].name, names[i]);
        check_int(c->upstreams[i].first_byte_ms, 300000);
    }
    check_str(c->upstreams[0].key, "k");
    check_str(c->upstreams[0].ca_file, "/ca");
    check_int(c->upstreams[3].port, 2);
    check(c->upstreams[4].mock && c->upstreams[5].mock);
    config_unref(c);
}

static void upstream_of_the_command_line_is_checked(void **state UNUSED) {
    struct config *c = config_create();
    struct config_problem problem;
    struct str none = STR("");
    check_err(config_add_upstream(c, none, STR("localhost:11434/v1"), none, none, &problem), ERR_INVALID);
    assert_string_equal(problem.text, "'--upstream' must begin with http://, https:// or h2c://; did you mean "
                                      "'http://localhost:11434/v1'?");
    check_ok(config_add_upstream(c, STR("a"), STR("http://x"), none, none, &problem));
    check_err(config_add_upstream(c, STR("a"), STR("http://y"), none, none, &problem), ERR_INVALID);
    assert_string_equal(problem.text, "--upstream: an upstream called 'a' is there already");
    check_err(config_add_upstream(c, STR("a/b"), STR("http://y"), none, none, &problem), ERR_INVALID);
    check_int(c->upstream_count, 1);
    config_unref(c);
}

// ---- The whole

static void without_an_upstream_the_four_ways_are_named(void **state UNUSED) {
    check_whole("", "nowhere to send calls: set OPENAI_API_KEY, or give --upstream URL, --mock, or a --config FILE "
                    "with upstreams");
}

static void paid_upstream_on_the_network_needs_keys(void **state UNUSED) {
    static const char *const message = "listening on %s with the key of upstream 'a': anyone who reaches this port "
                                       "spends your money: set keys, or --open";
    static const char *const network[] = {"0.0.0.0:80", ":80", "*:80", "[::]:80", "10.0.0.1:80", "box:80"};
    for (size_t i = 0; i < ARRAY_LEN(network); i++) {
        char text[160];
        char wanted[256];
        snprintf(text, sizeof text, "listen: \"%s\"\nupstreams: {b: {url: http://b}, a: {url: http://a, key: k}}",
                 network[i]);
        struct str format = str_c(message);
        size_t at = str_search(format, STR("%s"));
        snprintf(wanted, sizeof wanted, "%.*s%s%s", (int)at, message, network[i], message + at + 2);
        check_whole(text, wanted);
    }
}

static void loopback_needs_no_keys(void **state UNUSED) {
    check_whole("upstreams: {a: {url: http://a, key: k}}", "");
    check_whole("listen: localhost:1\nupstreams: {a: {url: http://a, key: k}}", "");
    check_whole("listen: \"[::1]:1\"\nupstreams: {a: {url: http://a, key: k}}", "");
    check_whole("listen: 8080\nupstreams: {a: {url: http://a, key: k}}", "");
}

static void any_page_needs_keys(void **state UNUSED) {
    check_whole(
        "cors: [https://a, \"*\"]\nupstreams: {a: {url: http://a, key: k}}",
        "'cors' has \"*\" with the key of upstream 'a': any web page spends your money: name the pages, set keys, "
        "or --open");
    check_whole("cors: [https://a]\nupstreams: {a: {url: http://a, key: k}}", "");
    check_whole("cors: [\"*\"]\nkeys: [c]\nupstreams: {a: {url: http://a, key: k}}", "");
    check_whole("cors: [\"*\"]\nopen: true\nupstreams: {a: {url: http://a, key: k}}", "");
    check_whole("cors: [\"*\"]\nupstreams: {a: {url: http://a}}", "");
}

static void network_is_fine_with_keys_or_open_or_without_a_paid_upstream(void **state UNUSED) {
    check_whole("listen: :1\nkeys: [c]\nupstreams: {a: {url: http://a, key: k}}", "");
    check_whole("listen: :1\nopen: true\nupstreams: {a: {url: http://a, key: k}}", "");
    check_whole("listen: :1\nupstreams: {a: {url: http://a}}", "");
    check_whole("listen: :1\nupstreams: {a: {url: mock, key: k}}", "");
}

static void reference_beyond_the_upstreams_is_refused(void **state UNUSED) {
    struct config *c = read_config("upstreams: {a: {url: mock}}\nmodels: {m: {use: a}}");
    struct config_problem problem;
    c->models[0].use[0].upstream = 1;
    check_err(config_check(c, &problem), ERR_INVALID);
    assert_string_equal(problem.text, "models.m.use[0]: there is no such upstream");
    config_unref(c);
}

static void config_lives_while_it_is_referenced(void **state UNUSED) {
    struct config *c = read_config("keys: [a]");
    check(config_ref(c) == c);
    config_unref(c);
    check_str(c->keys[0].secret, "a");
    config_unref(c);
    config_unref(NULL);
}

// ---- Example

static void example(struct buf *out) {
    buf_init(out, 1 << 16);
    check_ok(config_print_example(out));
    check_ok(buf_append(out, "", 1));
}

static void example_file_is_what_the_table_says(void **state UNUSED) {
    char path[512];
    struct buf printed;
    const char *root = getenv("THAW_SOURCE_ROOT");
    if (!root) {
        fail_msg("THAW_SOURCE_ROOT must say where thaw.example.yaml is");
    }
    snprintf(path, sizeof path, "%s/thaw.example.yaml", root);
    FILE *f = fopen(path, "re");
    check(f);
    char *text = xmalloc(1 << 16);
    size_t n = fread(text, 1, 1 << 16, f);
    fclose(f);
    example(&printed);
    if (n != buf_len(&printed) - 1 || memcmp(text, buf_str(&printed).ptr, n) != 0) {
        fail_msg(
            "thaw.example.yaml is not what the table of keys says: build/thaw serve --example > thaw.example.yaml");
    }
    assert_memory_equal(text, buf_str(&printed).ptr, n);
    free(text);
    buf_finish(&printed);
}

static void example_needs_two_variables_and_holds_the_defaults(void **state UNUSED) {
    struct buf printed;
    struct config_problem problem;
    example(&printed);
    struct config *c = read_config(buf_str(&printed).ptr);
    struct config *defaults = config_create();
    check_ok(config_check(c, &problem));
    check_str(c->keys[0].secret, "client-secret-1");
    check_str(c->upstreams[0].key, "upstream-secret-1");
    check_int(c->upstream_count, 2);
    check_int(c->model_count, 2);
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *key = &config_keys[i];
        char name[128];
        if (is_number(key) && dotted_name(key, name)) {
            size_t size = key->kind == KIND_COUNT ? sizeof(unsigned) : sizeof(uint64_t);
            assert_memory_equal(key_place(key, c), key_place(key, defaults), size);
        }
    }
    config_unref(defaults);
    config_unref(c);
    buf_finish(&printed);
}

// Copies the example with option number `wanted` turned on, or all of them (0); false when there is none. The lines below
// one that begin with a # and two blanks belong to it.
static bool turn_on(struct str text, unsigned wanted, struct buf *out) {
    struct str line;
    unsigned seen = 0;
    bool any = false;
    bool on = false;
    while (str_split(&text, '\n', &line)) {
        struct str bare = str_trim(line);
        bool option = bare.len > 1 && bare.ptr[0] == '#' && bare.ptr[1] != ' ';
        bool belongs = str_starts(line, STR("#  "));
        seen += option;
        on = option ? wanted == 0 || wanted == seen : on && belongs;
        any |= on;
        size_t indent = line.len - bare.len;
        if (on) {
            check_ok(buf_printf(out, "%*s%.*s\n", (int)indent, "", STR_ARG(str_skip(bare, 1))));
        } else {
            check_ok(buf_printf(out, "%.*s\n", STR_ARG(line)));
        }
    }
    return any;
}

static bool read_turned_on(struct str text, unsigned option, struct buf *out) {
    buf_init(out, 1 << 16);
    bool any = turn_on(text, option, out);
    check_ok(buf_append(out, "", 1));
    struct config *c = read_config(buf_str(out).ptr);
    struct config_problem problem;
    check_ok(config_check(c, &problem));
    config_unref(c);
    return any;
}

static void example_parses_with_every_option_turned_on(void **state UNUSED) {
    struct buf printed;
    struct buf text;
    struct buf inner; // what is off within what is off
    example(&printed);
    struct str whole = str_first(buf_str(&printed), buf_len(&printed) - 1);
    check(read_turned_on(whole, 0, &text));
    check(read_turned_on(str_first(buf_str(&text), buf_len(&text) - 1), 0, &inner));
    check(str_search(buf_str(&inner), STR("      requests_per_minute: 0")) < buf_len(&inner));
    buf_finish(&text);
    buf_finish(&inner);
    bool any = true;
    for (unsigned option = 1; any; option++) {
        any = read_turned_on(whole, option, &text);
        check(any || option > 8);
        buf_finish(&text);
    }
    buf_finish(&printed);
}

static void example_shows_every_key(void **state UNUSED) {
    struct buf printed;
    example(&printed);
    for (unsigned i = 0; i < config_key_rows; i++) {
        char line[64];
        snprintf(line, sizeof line, "%s:", config_keys[i].name);
        check(config_keys[i].shape == SHAPE_HEADING || str_search(buf_str(&printed), str_c(line)) < buf_len(&printed));
    }
    buf_finish(&printed);
}

// ---- Failing allocations

static void read_everything(void *arg) {
    char text[512];
    struct config *c;
    struct config_problem problem;
    snprintf(text, sizeof text,
             "listen: \"localhost:${PORT}\"\nkeys: [a, \"${THAW_KEY}\", file:%s]\n"
             "models: {m: {use: [a/x, b]}, n: {use: b}}\n"
             "upstreams: {a: {url: http://a/v1, key: \"${OPENAI_API_KEY}\", ca_file: /c}, b: {url: mock}}\n",
             (const char *)arg);
    enum err e = config_read_text("t.yaml", str_c(text), test_environment, NULL, &c, &problem);
    check(e == OK || e == ERR_NOMEM);
    check((e == OK) == (c != NULL));
    check((e == OK) == (problem.text[0] == '\0'));
    config_unref(c);
}

static void reading_survives_failing_allocations(void **state UNUSED) {
    char path[64];
    make_file(path, "k1\nk2\nk3\nk4\n", 0600);
    check(every_allocation_fails(read_everything, path) > 0);
    unlink(path);
}

static void use_options(void *arg UNUSED) {
    struct config *c = config_create();
    struct config_problem problem;
    char big[3000];
    memset(big, 'k', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    enum err e = config_set(c, "keys", big, &problem);
    check(e == OK || e == ERR_NOMEM);
    check_int(c->key_count, e == OK ? 1 : 0);
    e = config_set(c, "listen", ":80", &problem);
    check(e == OK || e == ERR_NOMEM);
    e = config_add_upstream(c, STR(""), STR("http://a.de/v1"), str_c(big), STR("/ca"), &problem);
    check(e == OK || e == ERR_NOMEM);
    check_int(c->upstream_count, e == OK ? 1 : 0);
    config_unref(c);
}

static void options_survive_failing_allocations(void **state UNUSED) {
    check(every_allocation_fails(use_options, NULL) > 0);
}

static void print_it(void *arg UNUSED) {
    struct buf out;
    buf_init(&out, 1 << 16);
    enum err e = config_print_example(&out);
    check(e == OK || e == ERR_NOMEM);
    buf_finish(&out);
}

static void example_survives_failing_allocations(void **state UNUSED) {
    check(every_allocation_fails(print_it, NULL) > 0);
}

static void read_a_file(void *arg) {
    struct config *c;
    struct config_problem problem;
    enum err e = config_read_file(arg, &c, &problem);
    check(e == OK || e == ERR_NOMEM);
    config_unref(c);
}

static void reading_a_file_survives_failing_allocations(void **state UNUSED) {
    char path[64];
    make_file(path, "workers: 2\nkeys: [a, b, c]\n", 0600);
    check(every_allocation_fails(read_a_file, path) > 0);
    unlink(path);
}

TESTS(TEST(defaults_are_those_of_the_table), TEST(empty_file_gives_the_defaults), TEST(ranges_hold_at_both_ends),
      TEST(defaults_are_within_their_ranges), TEST(every_row_has_a_text),
      TEST(key_is_of_the_kind_of_the_one_it_follows), TEST(counts_sizes_and_durations_are_read),
      TEST(pace_takes_microseconds), TEST(pace_refuses_what_is_no_short_time), TEST(bools_have_their_words),
      TEST(prefix_may_be_empty), TEST(prefix_is_a_path), TEST(listen_is_checked), TEST(keys_are_a_list_or_one),
      TEST(key_with_a_line_end_or_blank_is_refused), TEST(upstream_has_all_its_members),
      TEST(upstreams_keep_the_order_of_the_file), TEST(upstream_follows_the_general_timeouts_wherever_they_stand),
      TEST(models_refer_to_upstreams), TEST(variables_are_filled_in_anywhere), TEST(variables_are_filled_in_once),
      TEST(doubled_dollar_is_a_literal), TEST(unset_variable_is_named), TEST(empty_variable_is_named),
      TEST(broken_variable_is_refused_without_showing_it), TEST(without_a_lookup_the_process_environment_is_read),
      TEST(value_too_long_is_refused), TEST(keys_come_from_a_file), TEST(upstream_key_comes_from_a_file),
      TEST(key_file_that_others_may_read_is_refused), TEST(key_file_without_a_key_is_refused),
      TEST(key_file_with_a_bad_line_is_refused), TEST(upstream_key_file_with_two_keys_is_refused),
      TEST(key_file_that_is_none_is_refused), TEST(key_file_too_large_is_refused), TEST(unknown_key_gets_the_nearest),
      TEST(unknown_key_without_a_near_one_gets_the_list), TEST(wrong_number_says_what_it_must_be),
      TEST(wrong_size_says_what_it_must_be), TEST(wrong_duration_says_what_it_must_be),
      TEST(wrong_bool_says_what_it_must_be), TEST(wrong_shape_says_what_it_must_be), TEST(empty_list_is_refused),
      TEST(list_too_long_is_refused), TEST(more_upstreams_than_allowed_are_refused), TEST(missing_key_is_named),
      TEST(dangling_reference_gets_the_nearest), TEST(reference_without_a_model_is_refused), TEST(names_are_checked),
      TEST(name_twice_is_refused), TEST(bad_url_is_explained), TEST(first_problem_in_the_file_is_reported),
      TEST(long_names_are_cut), TEST(long_file_names_are_cut), TEST(values_from_the_environment_are_never_shown),
      TEST(secrets_written_out_are_never_shown), TEST(what_looks_like_a_secret_is_never_shown),
      TEST(ordinary_names_do_not_look_like_secrets), TEST(secrets_of_the_command_line_are_never_shown),
      TEST(file_is_read), TEST(file_that_is_not_there_is_named), TEST(file_that_never_ends_is_refused),
      TEST(options_set_keys), TEST(options_are_checked_like_the_file), TEST(refused_option_changes_nothing),
      TEST(general_timeout_set_later_reaches_the_upstreams), TEST(upstreams_are_added_under_names_of_their_hosts),
      TEST(upstream_of_the_command_line_is_checked), TEST(without_an_upstream_the_four_ways_are_named),
      TEST(paid_upstream_on_the_network_needs_keys), TEST(loopback_needs_no_keys), TEST(any_page_needs_keys),
      TEST(network_is_fine_with_keys_or_open_or_without_a_paid_upstream),
      TEST(reference_beyond_the_upstreams_is_refused), TEST(config_lives_while_it_is_referenced),
      TEST(example_file_is_what_the_table_says), TEST(example_needs_two_variables_and_holds_the_defaults),
      TEST(example_parses_with_every_option_turned_on), TEST(example_shows_every_key),
      TEST(reading_survives_failing_allocations), TEST(options_survive_failing_allocations),
      TEST(example_survives_failing_allocations), TEST(reading_a_file_survives_failing_allocations))
