// SPDX-License-Identifier: MIT
#include "check.h"
#include "config/address.h"

static void check_url(const char *text, bool tls, const char *host, unsigned port, const char *path) {
    struct url url;
    const char *why = url_parse(str_c(text), &url);
    if (why) {
        fail_msg("%s: %s", text, why);
    }
    check_int(url.tls, tls);
    check_str(url.host, host);
    check_int(url.port, port);
    check_str(url.base_path, path);
}

static void check_refused(const char *text, const char *wanted) {
    struct url url;
    const char *why = url_parse(str_c(text), &url);
    check(why);
    assert_string_equal(why, wanted);
}

static void url_has_scheme_host_and_path(void **state UNUSED) {
    check_url("https://api.openai.com/v1", true, "api.openai.com", 443, "/v1");
    check_url("http://localhost/v1", false, "localhost", 80, "/v1");
}

static void url_may_say_http2_beforehand(void **state UNUSED) {
    struct url url;
    check_url("h2c://localhost:9000/v1", false, "localhost", 9000, "/v1");
    check_url("H2C://a", false, "a", 80, "");
    assert_null(url_parse(STR("h2c://a"), &url));
    assert_true(url.h2);
    assert_null(url_parse(STR("http://a"), &url));
    assert_false(url.h2);
    assert_string_equal(url_parse_h1(STR("h2c://a"), &url), "must begin with http:// or https://");
    assert_null(url_parse_h1(STR("https://a"), &url));
}

static void url_scheme_has_no_case(void **state UNUSED) {
    check_url("HTTPS://Example.com", true, "Example.com", 443, "");
}

static void url_port_is_read(void **state UNUSED) {
    check_url("http://localhost:1", false, "localhost", 1, "");
    check_url("http://localhost:65535/x", false, "localhost", 65535, "/x");
}

static void url_port_out_of_range_is_refused(void **state UNUSED) {
    static const char *const wrong[] = {"http://a:0",  "http://a:65536", "http://a:",   "http://a:/x",
                                        "http://a:8x", "http://a:-1",    "http://a:+1", "http://[::1]:"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        check_refused(wrong[i], "needs a port from 1 to 65535 after the colon");
    }
}

static void url_host_may_be_an_address(void **state UNUSED) {
    check_url("http://127.0.0.1:11434/v1", false, "127.0.0.1", 11434, "/v1");
    check_url("https://[::1]", true, "::1", 443, "");
    check_url("https://[2001:db8::1]:8443/v1", true, "2001:db8::1", 8443, "/v1");
}

static void url_host_that_is_no_address_is_refused(void **state UNUSED) {
    check_refused("http://[::1", "has no IPv6 address between [ and ]");
    check_refused("http://[]", "has no IPv6 address between [ and ]");
    check_refused("http://[1.2.3.4]", "has no IPv6 address between [ and ]");
    check_refused("http://[fe80::1%25eth0]", "has no IPv6 address between [ and ]");
    check_refused("http://[::1]x", "has something between ] and the port");
    check_refused("http://::1/", "has more than one colon: an IPv6 address needs brackets, as in [::1]:8080");
    check_refused("http://1.2.3", "has no valid IPv4 address");
    check_refused("http://256.1.1.1", "has no valid IPv4 address");
}

static void url_without_a_host_is_refused(void **state UNUSED) {
    check_refused("http://", "has no host");
    check_refused("http:///v1", "has no host");
    check_refused("https://:443/v1", "has no host");
}

static void url_host_name_has_only_what_names_have(void **state UNUSED) {
    check_refused("http://a..b", "has a host name with an empty or too long part");
    check_refused("http://a.", "has a host name with an empty or too long part");
    check_refused("http://a,b", "has a host name with a character that names do not have");
    check_refused("http://a%2fb", "has a host name with a character that names do not have");
}

static void url_host_name_has_its_longest(void **state UNUSED) {
    char text[400];
    snprintf(text, sizeof text, "http://%063d.a", 0);
    struct url url;
    assert_null(url_parse(str_c(text), &url));
    snprintf(text, sizeof text, "http://%064d.a", 0);
    check_refused(text, "has a host name with an empty or too long part");
    snprintf(text, sizeof text, "http://%0254d", 0);
    check_refused(text, "has a host name that is too long");
}

static void url_slashes_at_the_end_are_dropped(void **state UNUSED) {
    check_url("http://a/", false, "a", 80, "");
    check_url("http://a/v1/", false, "a", 80, "/v1");
    check_url("http://a/v1//", false, "a", 80, "/v1");
    check_url("http://a/x/v1", false, "a", 80, "/x/v1");
}

static void url_with_a_user_is_refused(void **state UNUSED) {
    check_refused("https://me:secret@a/v1", "must not contain a user name or password: a key goes into `key`");
    check_refused("https://secret@a", "must not contain a user name or password: a key goes into `key`");
}

static void url_with_query_or_fragment_is_refused(void **state UNUSED) {
    check_refused("http://a?x=1", "must not have a query (?)");
    check_refused("http://a/v1?x=1", "must not have a query (?)");
    check_refused("http://a#x", "must not have a fragment (#)");
    check_refused("http://a/v1#x", "must not have a fragment (#)");
}

static void url_with_blanks_or_odd_characters_is_refused(void **state UNUSED) {
    check_refused("http://a b", "must not contain blanks or control characters");
    check_refused("http://a/\r\nHost: x", "must not contain blanks or control characters");
    check_refused("http://a/\x7f", "must not contain blanks or control characters");
    check_refused("http://a\\b", "contains a character that a URL does not have");
    check_refused("http://\xc3\xbc.de",
                  "must be plain ASCII: percent-encode the path, write the host in its xn-- form");
    check_refused("http://a/x//y", "must not contain //");
}

static void url_with_a_nul_byte_is_refused(void **state UNUSED) {
    struct url url;
    check(url_parse(STR("http://a\0b"), &url));
}

static void url_of_another_scheme_is_refused(void **state UNUSED) {
    check_refused("ftp://a", "must begin with http://, https:// or h2c://");
    check_refused("localhost:11434/v1", "must begin with http://, https:// or h2c://");
    check_refused("http:/a", "must begin with http://, https:// or h2c://");
    check_refused("", "must begin with http://, https:// or h2c://");
}

static void forgotten_scheme_is_guessed(void **state UNUSED) {
    static const struct {
        const char *text;
        const char *scheme;
    } cases[] = {
        {"localhost:11434/v1", "http://"}, {"localhost", "http://"},          {"127.0.0.1:8000", "http://"},
        {"[::1]:8000", "http://"},         {"api.openai.com/v1", "https://"}, {"host:443", "https://"},
        {"10.0.0.7", "http://"},           {"gpu-box:8000/v1", "http://"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *guess = url_guess_scheme(str_c(cases[i].text));
        check(guess);
        assert_string_equal(guess, cases[i].scheme);
    }
}

static void no_scheme_is_guessed_for_what_may_be_a_secret(void **state UNUSED) {
    static const char *const cases[] = {"hunter2", "me:pw@host", "a.b/c?key=x", "ftp://a.b", "", "a b.c", "/v1"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_null(url_guess_scheme(str_c(cases[i])));
    }
}

static void check_listen(const char *text, const char *wanted_host, unsigned wanted_port) {
    struct str host;
    uint16_t port;
    check_ok(config_listen_parse(str_c(text), &host, &port));
    check_str(host, wanted_host);
    check_int(port, wanted_port);
}

static void listen_takes_all_its_forms(void **state UNUSED) {
    check_listen("127.0.0.1:8080", "127.0.0.1", 8080);
    check_listen(":8080", "", 8080);
    check_listen("*:8080", "", 8080);
    check_listen("[::1]:8080", "::1", 8080);
    check_listen("[::]:8080", "::", 8080);
    check_listen("localhost:8080", "localhost", 8080);
    check_listen("8080", "127.0.0.1", 8080);
    check_listen("0.0.0.0:0", "0.0.0.0", 0);
    check_listen("box-1.example:65535", "box-1.example", 65535);
}

static void listen_refuses_what_is_no_address(void **state UNUSED) {
    static const char *const wrong[] = {"",
                                        ":",
                                        "localhost",
                                        "127.0.0.1",
                                        "127.0.0.1:",
                                        "127.0.0.1:65536",
                                        "65536",
                                        "::1:8080",
                                        "[::1]",
                                        "[::1]8080",
                                        "[x]:80",
                                        "a b:80",
                                        "1.2.3:80",
                                        "host:http",
                                        "-1",
                                        "http://a:80",
                                        "999999999999999999999",
                                        "[::1%lo]:80",
                                        "*"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct str host;
        uint16_t port;
        if (config_listen_parse(str_c(wrong[i]), &host, &port) == OK) {
            fail_msg("'%s' was taken", wrong[i]);
        }
    }
}

static void loopback_is_what_only_this_machine_reaches(void **state UNUSED) {
    static const char *const loopback[] = {"127.0.0.1",        "127.255.0.9",    "::1", "localhost", "LOCALHOST",
                                           "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"};
    static const char *const others[] = {"",
                                         "0.0.0.0",
                                         "::",
                                         "128.0.0.1",
                                         "10.0.0.1",
                                         "::2",
                                         "127.1",
                                         "example",
                                         "localhost.example.com",
                                         "::ffff:10.0.0.1",
                                         "fe80::1"};
    for (size_t i = 0; i < ARRAY_LEN(loopback); i++) {
        check(config_is_loopback(str_c(loopback[i])));
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        check(!config_is_loopback(str_c(others[i])));
    }
}

static void hosts_have_nicknames(void **state UNUSED) {
    static const struct {
        const char *host;
        const char *name;
    } cases[] = {
        {"api.openai.com", "openai"},
        {"openai.com", "openai"},
        {"localhost", "localhost"},
        {"api.x.ai", "x"},
        {"llm.firm.co.uk", "firm"},
        {"127.0.0.1", "127.0.0.1"},
        {"::1", "::1"},
        {"co.uk", "co"},
        {"api.mistral.ai", "mistral"},
        {"eu.api.groq.com", "groq"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_str(host_nickname(str_c(cases[i].host)), cases[i].name);
    }
}

static void an_authority_has_no_usual_port(void **state UNUSED) {
    static const struct {
        bool tls;
        const char *host;
        uint16_t port;
        const char *authority;
    } cases[] = {
        {false, "a.example", 80, "a.example"},
        {true, "a.example", 443, "a.example"},
        {true, "a.example", 80, "a.example:80"},
        {false, "127.0.0.1", 8000, "127.0.0.1:8000"},
        {false, "::1", 80, "[::1]"},
        {true, "::1", 8443, "[::1]:8443"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[AUTHORITY_TEXT];
        check_str(str_c(authority_format(cases[i].tls, str_c(cases[i].host), cases[i].port, out)), cases[i].authority);
    }
}

TESTS(TEST(an_authority_has_no_usual_port), TEST(url_has_scheme_host_and_path), TEST(url_may_say_http2_beforehand),
      TEST(url_scheme_has_no_case), TEST(url_port_is_read), TEST(url_port_out_of_range_is_refused),
      TEST(url_host_may_be_an_address), TEST(url_host_that_is_no_address_is_refused),
      TEST(url_without_a_host_is_refused), TEST(url_host_name_has_only_what_names_have),
      TEST(url_host_name_has_its_longest), TEST(url_slashes_at_the_end_are_dropped), TEST(url_with_a_user_is_refused),
      TEST(url_with_query_or_fragment_is_refused), TEST(url_with_blanks_or_odd_characters_is_refused),
      TEST(url_with_a_nul_byte_is_refused), TEST(url_of_another_scheme_is_refused), TEST(forgotten_scheme_is_guessed),
      TEST(no_scheme_is_guessed_for_what_may_be_a_secret), TEST(listen_takes_all_its_forms),
      TEST(listen_refuses_what_is_no_address), TEST(loopback_is_what_only_this_machine_reaches),
      TEST(hosts_have_nicknames))
