// SPDX-License-Identifier: MIT
// `tls`: one certificate or a list of them, and every way to write it wrong.
#include "reading.h"

static void one_certificate(void **state UNUSED) {
    struct config *c = read_config("tls: {cert: /a.pem, key: /a.key}");
    check_int(c->tls_count, 1);
    check_str(c->tls[0].cert_file, "/a.pem");
    check_str(c->tls[0].key_file, "/a.key");
    config_unref(c);
}

static void certificates_stay_in_order(void **state UNUSED) {
    struct config *c = read_config("tls:\n- {cert: /a.pem, key: /a.key}\n- key: \"/${HOST}.key\"\n  cert: /b.pem\n"
                                   "- {cert: /c.pem, key: /c.key}\n");
    check_int(c->tls_count, 3);
    check_str(c->tls[0].cert_file, "/a.pem");
    check_str(c->tls[1].key_file, "/hidden.example.key");
    check_str(c->tls[2].cert_file, "/c.pem");
    config_unref(c);
}

static void none_is_the_default(void **state UNUSED) {
    struct config *c = config_create();
    check_int(c->tls_count, 0);
    check_int(c->max_streams, 100);
    config_unref(c);
}

static void wrong_ones_are_refused(void **state UNUSED) {
    static const char *const rows[][2] = {
        {"tls: {cert: /a.pem}", "t.yaml:1:6: 'tls' needs the key 'key'"},
        {"tls: [{cert: /a.pem, key: /a.key}, {key: /b.key}]", "t.yaml:1:36: 'tls[1]' needs the key 'cert'"},
        {"tls: []", "t.yaml:1:6: 'tls' is empty: give it an entry or leave it out"},
        {"tls: true", "t.yaml:1:6: 'tls' must be a map of keys and values, or a list of such, not a single value"},
        {"tls: [/a.pem]", "t.yaml:1:7: 'tls[0]' must be a map of keys and values, not a single value"},
        {"tls: [{cert: /a.pem, kye: /a.key}]", "t.yaml:1:22: unknown key 'tls[0].kye'; did you mean 'key'?"},
        {"tls: [{cert: [/a.pem], key: /a.key}]", "t.yaml:1:14: 'tls[0].cert' must be the path of a file, not a list"},
        {"max_streams: 0", "t.yaml:1:14: 'max_streams' must be a number from 1 to 1000, not '0'"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        check_refused(rows[i][0], rows[i][1]);
    }
}

static void the_command_line_has_no_certificates(void **state UNUSED) {
    struct config *c = config_create();
    struct config_problem problem;
    check_err(config_set(c, "tls", "/a.pem", &problem), ERR_INVALID);
    check_err(config_set(c, "tls.cert", "/a.pem", &problem), ERR_INVALID);
    check_int(c->tls_count, 0);
    config_unref(c);
}

static void want_of_memory_once(void *arg UNUSED) {
    struct config *c;
    struct config_problem problem;
    struct str text = STR("tls: [{cert: /a.pem, key: /a.key}, {cert: /b.pem, key: /b.key}]");
    if (config_read_text("t.yaml", text, test_environment, NULL, &c, &problem) == OK) {
        config_unref(c);
    }
}

static void survives_want_of_memory(void **state UNUSED) {
    check(every_allocation_fails(want_of_memory_once, NULL) > 0);
}

TESTS(TEST(one_certificate), TEST(certificates_stay_in_order), TEST(none_is_the_default), TEST(wrong_ones_are_refused),
      TEST(the_command_line_has_no_certificates), TEST(survives_want_of_memory))
