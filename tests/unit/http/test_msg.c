// SPDX-License-Identifier: MIT
#include "http/msg.h"

#include "check.h"

static void host_names_and_addresses_are_authorities(void **state) {
    static const char *const good[] = {
        "a",
        "A-b.c_d",
        "example.com",
        "example.com.",
        "example.com:",
        "example.com:0",
        "example.com:80",
        "a:65535",
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:8080",
        "[::]",
        "[fe80::1]",
        "[::ffff:127.0.0.1]:1",
        "xn--nxasmq6b",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        if (!authority_valid(str_c(good[i]))) {
            fail_msg("\"%s\" is refused", good[i]);
        }
    }
}

static void nothing_else_is_an_authority(void **state) {
    static const struct str bad[] = {
        STR(""),
        STR(":"),
        STR(":80"),
        STR("a:65536"),
        STR("a:99999999999999999999"),
        STR("a:80x"),
        STR("a:+80"),
        STR("a:-1"),
        STR("a: 80"),
        STR("a:80:80"),
        STR("a b"),
        STR(" a"),
        STR("a "),
        STR("a\tb"),
        STR("a/b"),
        STR("a?b"),
        STR("a#b"),
        STR("a@b"),
        STR("u:p@a"),
        STR("a\\b"),
        STR("a,b"),
        STR("a;b"),
        STR("a%41"),
        STR("a\0b"),
        STR("a\xc3\xa9"),
        STR("a\r\nb"),
        STR("*"),
        STR("[::1"),
        STR("::1"),
        STR("[::1]x"),
        STR("[::1]80"),
        STR("[]"),
        STR("[:]"),
        STR("[]:80"),
        STR("[::1]:x"),
        STR("[::1%25eth0]"),
        STR("[::1%eth0]"),
        STR("[a@b]"),
        STR("[g::1]"),
        STR("x[::1]"),
        STR("[[::1]]"),
        STR("a[]"),
        STR("http://a"),
        STR("a:80/"),
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (authority_valid(bad[i])) {
            fail_msg("\"%.*s\" is accepted", STR_ARG(bad[i]));
        }
    }
}

static struct field room[32];

static struct fields fields_of(const char *const *pairs, size_t n) {
    struct fields f = FIELDS(room);
    for (size_t i = 0; i < n; i += 2) {
        check_ok(fields_add(&f, str_c(pairs[i]), str_c(pairs[i + 1])));
    }
    return f;
}

// "name=value;" for each field.
static void check_fields(const struct fields *f, const char *wanted) {
    struct buf b;
    buf_init(&b, 10000);
    for (unsigned i = 0; i < f->n; i++) {
        check_ok(buf_printf(&b, "%.*s=%.*s;", STR_ARG(f->v[i].name), STR_ARG(f->v[i].value)));
    }
    check_str(buf_str(&b), wanted);
    buf_finish(&b);
}

#define STRIPPED(wanted, ...)                                                                                          \
    do {                                                                                                               \
        static const char *const pairs[] = {__VA_ARGS__};                                                              \
        struct fields stripped = fields_of(pairs, ARRAY_LEN(pairs));                                                   \
        http_head_strip(&stripped);                                                                                    \
        check_fields(&stripped, wanted);                                                                               \
    } while (0)

static void fields_of_the_connection_are_stripped(void **state) {
    static const char *const names[] = {
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "HTTP2-Settings",
        "Expect",
        "Content-Length",
        "Host",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char changed[40];
        snprintf(changed, sizeof changed, "%s", names[i]);
        for (char *c = changed; *c; c++) {
            *c = (char)(*c ^ (((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z') ? 0x20 : 0)); // the other case
        }
        const char *const pairs[] = {"A", "1", names[i], "x", "B", "2", changed, "x"};
        struct fields f = fields_of(pairs, ARRAY_LEN(pairs));
        http_head_strip(&f);
        check_fields(&f, "A=1;B=2;");
    }
}

static void other_fields_stay_in_their_order(void **state) {
    (void)state;
    STRIPPED("A=1;a=2;Accept=x;Hosts=y;T=z;Content-Lengths=l;Content-Type=t;", "A", "1", "a", "2", "Accept", "x",
             "Host", "h", "Hosts", "y", "T", "z", "TE", "te", "Content-Lengths", "l", "Content-Type", "t");
    STRIPPED("A=1;", "A", "1");
    struct fields none = FIELDS(room);
    http_head_strip(&none);
    check_int(none.n, 0);
}

static void fields_that_connection_names_are_stripped(void **state) {
    (void)state;
    STRIPPED("B=2;", "A", "1", "Connection", "a", "B", "2", "a", "3");
    STRIPPED("B=2;", "A", "1", "Connection", "close, a ,c", "B", "2", "C", "3");
    STRIPPED("B=2;", "Connection", "a", "A", "1", "B", "2", "connection", "\tc,", "C", "3");
    STRIPPED("A=1;B=2;", "A", "1", "Connection", "close", "B", "2");
    STRIPPED("Close=1;Keep-Alives=2;", "Close", "1", "Connection", "keep-alive", "Keep-Alives", "2", "Keep-Alive", "3");
    STRIPPED("A=1;", "A", "1", "Connection", ",, ,");
    STRIPPED("A=1;", "A", "1", "Connection", "");
    STRIPPED("A=1;", "A", "1", "Connection", "connection, Connection");
    STRIPPED("", "Authorization", "1", "Connection", "authorization");
    STRIPPED("Ab=1;", "Ab", "1", "Connection", "a, b, abc");
}

static void tokens_are_found_in_lists(void **state) {
    (void)state;
    check(list_has_token(STR("close"), STR("close")));
    check(list_has_token(STR("a, CLOSE"), STR("close")));
    check(list_has_token(STR("a ,\tclose\t,b"), STR("close")));
    check(list_has_token(STR(",,close"), STR("close")));
    check(!list_has_token(STR("closed"), STR("close")));
    check(!list_has_token(STR("a close"), STR("close")));
    check(!list_has_token(STR("close;a"), STR("close")));
    check(!list_has_token(STR("clos e"), STR("close")));
    check(!list_has_token(STR(""), STR("close")));
    check(!list_has_token(STR(","), STR("close")));
}

static void every_status_has_a_reason(void **state) {
    (void)state;
    check_str(str_c(status_reason(100)), "Continue");
    check_str(str_c(status_reason(200)), "OK");
    check_str(str_c(status_reason(404)), "Not Found");
    check_str(str_c(status_reason(413)), "Content Too Large");
    check_str(str_c(status_reason(429)), "Too Many Requests");
    check_str(str_c(status_reason(504)), "Gateway Timeout");
    for (int status = -1; status < 1000; status++) {
        check(status_reason(status)[0] != 0);
        check(strlen(status_reason(status)) < 40); // h1_write.c counts on it
    }
}

static void what_a_client_is_told_of_an_error_has_a_reason_of_its_own(void **state) {
    (void)state;
    for (enum err e = OK; e < ERR_COUNT; e++) {
        if (err_status(e)) {
            check(strcmp(status_reason(err_status(e)), "Unknown") != 0);
        }
    }
}

static void methods_are_known_by_name_in_capitals(void **state) {
    (void)state;
    for (enum method m = METHOD_GET; m <= METHOD_TRACE; m++) {
        check_int(method_parse(str_c(method_name(m))), m);
    }
    check_int(method_parse(STR("get")), METHOD_OTHER);
    check_int(method_parse(STR("GETT")), METHOD_OTHER);
    check_int(method_parse(STR("GE")), METHOD_OTHER);
    check_int(method_parse(STR("")), METHOD_OTHER);
    check_int(method_parse(STR("PROPFIND")), METHOD_OTHER);
}

static void a_target_is_path_and_query(void **state) {
    (void)state;
    check_str(target_path(STR("/a?b?c")), "/a");
    check_str(target_path(STR("/a")), "/a");
    check_str(target_path(STR("*")), "*");
}

TESTS(TEST(host_names_and_addresses_are_authorities), TEST(nothing_else_is_an_authority),
      TEST(fields_of_the_connection_are_stripped), TEST(other_fields_stay_in_their_order),
      TEST(fields_that_connection_names_are_stripped), TEST(tokens_are_found_in_lists), TEST(every_status_has_a_reason),
      TEST(what_a_client_is_told_of_an_error_has_a_reason_of_its_own), TEST(methods_are_known_by_name_in_capitals),
      TEST(a_target_is_path_and_query))
