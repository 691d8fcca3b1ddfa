// SPDX-License-Identifier: MIT
// The codec: every message of the tables is fed whole, byte by byte and at every split in two (short ones in three),
// each piece in memory of its own that is gone right after, and must come out the same.
#include "http/h1.h"

#include "check.h"

#define RN "\r\n"
#define HOST "Host: a\r\n"

enum { SHORT_MESSAGE = 90, LARGE_READ = 64 * 1024 };
static const size_t never = (size_t)-1;

static const struct http_limits defaults = {.head_bytes = 32 * 1024, .fields = 100, .target_bytes = 8 * 1024};

// ---- one run over a message

struct seen {
    struct buf head; // as text
    struct buf body;
    size_t used;
    enum err error;
    bool end;
    bool keep_alive;
    bool by_eof;
};

static void seen_init(struct seen *s) {
    *s = (struct seen){.error = OK};
    buf_init(&s->head, 1 << 20);
    buf_init(&s->body, 1 << 22);
}

static void seen_finish(struct seen *s) {
    buf_finish(&s->head);
    buf_finish(&s->body);
}

// "POST /x a 1.1 5 expect\nname: value\n", "200 1.1 5\nname: value\n"; the length is ? when not known.
static void head_text(enum h1_side side, const struct head *h, struct buf *out) {
    char length[24];
    (void)snprintf(length, sizeof length, "%lld", (long long)h->body_len);
    const char *len = h->body_len == BODY_UNKNOWN ? "?" : length;
    if (side == H1_REQUEST) {
        check(method_parse(h->method_name) == h->method);
        check_ok(buf_printf(out, "%.*s %.*s %.*s 1.%d %s%s\n", STR_ARG(h->method_name), STR_ARG(h->target),
                            STR_ARG(h->authority), h->minor, len, h->expect_continue ? " expect" : ""));
    } else {
        check_ok(buf_printf(out, "%d 1.%d %s\n", h->status, h->minor, len));
    }
    for (unsigned i = 0; i < h->fields.n; i++) {
        check_ok(buf_str_append(out, h->fields.v[i].name));
        check_ok(buf_str_append(out, STR(": ")));
        check_ok(buf_str_append(out, h->fields.v[i].value));
        check_ok(buf_str_append(out, STR("\n")));
    }
}

struct run {
    enum h1_side side;
    bool to_head;
    const struct http_limits *limits;
};

static bool feed_piece(struct h1 *p, const struct run *run, struct str piece, struct seen *s) {
    struct h1_result r;
    char *copy = str_dup(piece);
    bool first_head = buf_len(&s->head) == 0;
    s->error = h1_feed(p, copy, piece.len, &r);
    if (s->error == OK) {
        check(r.used <= piece.len);
        check(r.end || r.used == piece.len);
        s->used += r.used;
        s->end = r.end;
        s->keep_alive = r.keep_alive;
        check_ok(buf_str_append(&s->body, r.body));
        if (r.head_done) {
            check(first_head);
            head_text(run->side, h1_head(p), &s->head);
            check_ok(h1_keep_head(p));
        }
    }
    free(copy);
    return s->error == OK && !s->end;
}

// The message in pieces that end at the `cuts`.
static void feed_cut(const struct run *run, struct str message, const size_t *cuts, size_t count, struct seen *s) {
    struct h1 *p = h1_create(run->side, run->limits ? run->limits : &defaults);
    struct h1_result r;
    struct buf again;
    size_t at = 0;
    bool more = true;
    check(p != NULL);
    if (run->to_head) {
        h1_expect_no_body(p);
    }
    for (size_t i = 0; more && i <= count; i++) {
        size_t end = i < count ? cuts[i] : message.len;
        struct str piece = str_from(message.ptr + at, end - at);
        if (piece.len) {
            more = feed_piece(p, run, piece, s);
        }
        at = end;
    }
    if (more) {
        s->error = h1_feed_eof(p, &r);
        s->by_eof = s->error == OK;
        if (s->by_eof) {
            check(r.end && !r.keep_alive && r.body.len == 0);
        }
    }
    buf_init(&again, 1 << 20);
    if (s->error == OK && buf_len(&s->head)) { // kept, it outlives the bytes it came in
        head_text(run->side, h1_head(p), &again);
        check(str_eq(buf_str(&again), buf_str(&s->head)));
    }
    buf_finish(&again);
    h1_destroy(p);
}

static void check_same(const struct seen *a, const struct seen *b, const char *name, size_t i, size_t j) {
    bool same = a->error == b->error;
    if (a->error == OK) {
        same = same && str_eq(buf_str(&a->head), buf_str(&b->head)) && str_eq(buf_str(&a->body), buf_str(&b->body)) &&
               a->used == b->used && a->end == b->end && a->keep_alive == b->keep_alive && a->by_eof == b->by_eof;
    }
    if (!same) {
        fail_msg("%s: cut at %zd, %zd: %s, head \"%.*s\", body \"%.*s\"; whole: %s", name, (ssize_t)i, (ssize_t)j,
                 err_name(b->error), STR_ARG(buf_str(&b->head)), STR_ARG(buf_str(&b->body)), err_name(a->error));
    }
}

static void feed_and_compare(const struct run *run, struct str message, const size_t *cuts, size_t count,
                             const struct seen *whole, const char *name) {
    struct seen s;
    seen_init(&s);
    feed_cut(run, message, cuts, count, &s);
    check_same(whole, &s, name, count ? cuts[0] : never, count > 1 ? cuts[1] : never);
    seen_finish(&s);
}

static void feed_every_way(const struct run *run, struct str message, struct seen *whole, const char *name) {
    size_t *every = xmalloc(message.len * sizeof *every);
    for (size_t i = 0; i < message.len; i++) {
        every[i] = i;
    }
    feed_cut(run, message, NULL, 0, whole);
    feed_and_compare(run, message, every, message.len, whole, name);
    for (size_t i = 1; i < message.len; i++) {
        feed_and_compare(run, message, &i, 1, whole, name);
        for (size_t j = i + 1; message.len <= SHORT_MESSAGE && j < message.len; j++) {
            size_t cuts[] = {i, j};
            feed_and_compare(run, message, cuts, 2, whole, name);
        }
    }
    free(every);
}

// ---- what is understood

struct understood {
    const char *name;
    struct str bytes;
    const char *head; // as head_text has it
    const char *body;
    size_t rest;  // bytes behind the message
    bool close;   // no further message on this connection
    bool to_head; // answers a HEAD
    bool by_eof;  // its end is the connection's
};

static void check_understood(enum h1_side side, const struct understood *u) {
    struct run run = {.side = side, .to_head = u->to_head};
    struct seen s;
    seen_init(&s);
    feed_every_way(&run, u->bytes, &s, u->name);
    if (s.error != OK || !str_eq(buf_str(&s.head), str_c(u->head)) || !str_eq(buf_str(&s.body), str_c(u->body)) ||
        s.used != u->bytes.len - u->rest || s.by_eof != u->by_eof || (!u->by_eof && s.keep_alive == u->close)) {
        fail_msg("%s: %s, %zu of %zu used, keep %d, eof %d, head\n%.*s\nbody \"%.*s\"", u->name, err_name(s.error),
                 s.used, u->bytes.len, s.keep_alive, s.by_eof, STR_ARG(buf_str(&s.head)), STR_ARG(buf_str(&s.body)));
    }
    seen_finish(&s);
}

#define POST "POST /x HTTP/1.1" RN HOST
#define POST_TE POST "Transfer-Encoding: chunked" RN RN
#define HEAD_TE "POST /x a 1.1 ?\nHost: a\nTransfer-Encoding: chunked\n"

static const struct understood requests[] = {
    {"plain", STR("GET / HTTP/1.1" RN HOST RN), "GET / a 1.1 0\nHost: a\n", "", .rest = 0},
    {"http_1_0", STR("GET / HTTP/1.0" RN RN), "GET /  1.0 0\n", "", .close = true},
    {"http_1_0_keeping", STR("GET / HTTP/1.0" RN "Connection: keep-alive" RN RN),
     "GET /  1.0 0\nConnection: keep-alive\n", "", .rest = 0},
    {"http_1_0_host", STR("GET / HTTP/1.0" RN HOST RN), "GET / a 1.0 0\nHost: a\n", "", .close = true},
    {"length", STR(POST "Content-Length: 5" RN RN "hello"), "POST /x a 1.1 5\nHost: a\nContent-Length: 5\n", "hello",
     .rest = 0},
    {"length_zero", STR(POST "Content-Length: 0" RN RN), "POST /x a 1.1 0\nHost: a\nContent-Length: 0\n", "",
     .rest = 0},
    {"length_leading_zeros", STR(POST "Content-Length: 0005" RN RN "hello"),
     "POST /x a 1.1 5\nHost: a\nContent-Length: 0005\n", "hello", .rest = 0},
    {"length_pipelined", STR(POST "Content-Length: 5" RN RN "helloGET / HTTP/1.1" RN),
     "POST /x a 1.1 5\nHost: a\nContent-Length: 5\n", "hello", .rest = 16},
    {"no_body_pipelined", STR("GET / HTTP/1.1" RN HOST RN "GET /2 HTTP/1.1" RN HOST RN), "GET / a 1.1 0\nHost: a\n", "",
     .rest = 28},
    {"post_without_length_has_no_body", STR(POST RN "hello"), "POST /x a 1.1 0\nHost: a\n", "", .rest = 5},
    {"chunked", STR(POST_TE "5" RN "hello" RN "0" RN RN), HEAD_TE, "hello", .rest = 0},
    {"chunked_empty", STR(POST_TE "0" RN RN), HEAD_TE, "", .rest = 0},
    {"chunked_several", STR(POST_TE "3" RN "abc" RN "4" RN "defg" RN "1" RN "h" RN "0" RN RN "GET"), HEAD_TE,
     "abcdefgh", .rest = 3},
    {"chunked_hex", STR(POST_TE "00A" RN "0123456789" RN "b" RN "0123456789a" RN "000" RN RN), HEAD_TE,
     "01234567890123456789a", .rest = 0},
    {"chunked_data_like_framing", STR(POST_TE "7" RN RN "0" RN RN RN "0" RN RN), HEAD_TE, RN "0" RN RN, .rest = 0},
    {"chunked_leading_zeros", STR(POST_TE "00000000000000000000005" RN "hello" RN "0" RN RN), HEAD_TE, "hello",
     .rest = 0},
    {"chunk_extensions", STR(POST_TE "5;a=b;c=\"d;e\\\"\";f" RN "hello" RN "0;x" RN RN), HEAD_TE, "hello", .rest = 0},
    {"trailers", STR(POST_TE "5" RN "hello" RN "0" RN "Host: b" RN "Authorization: x" RN "X-Y:" RN RN "G"), HEAD_TE,
     "hello", .rest = 1},
    {"coding_in_capitals", STR(POST "TRANSFER-ENCODING:\tChUnKeD" RN RN "0" RN RN),
     "POST /x a 1.1 ?\nHost: a\nTRANSFER-ENCODING: ChUnKeD\n", "", .rest = 0},
    {"blanks_around_values", STR("GET / HTTP/1.1" RN HOST "A:b" RN "C: \t d e \t" RN "F:" RN "G: " RN RN),
     "GET / a 1.1 0\nHost: a\nA: b\nC: d e\nF: \nG: \n", "", .rest = 0},
    {"last_value_empty", STR("GET / HTTP/1.1" RN HOST "F:" RN RN), "GET / a 1.1 0\nHost: a\nF: \n", "", .rest = 0},
    {"eight_bit_value", STR("GET / HTTP/1.1" RN HOST "A: \x80\xff\tb" RN RN),
     "GET / a 1.1 0\nHost: a\nA: \x80\xff\tb\n", "", .rest = 0},
    {"all_token_characters", STR("GET / HTTP/1.1" RN HOST "!#$%&'*+-.^`|~09azAZ: b" RN RN),
     "GET / a 1.1 0\nHost: a\n!#$%&'*+-.^`|~09azAZ: b\n", "", .rest = 0},
    {"names_with_underscores_are_dropped",
     STR("GET / HTTP/1.1" RN HOST "X_Api_Key: b" RN "Transfer_Encoding: chunked" RN "Content_Length: 5" RN
         "C: d" RN RN),
     "GET / a 1.1 0\nHost: a\nC: d\n", "", .rest = 0},
    {"empty_lines_before", STR(RN RN "GET / HTTP/1.1" RN HOST RN), "GET / a 1.1 0\nHost: a\n", "", .rest = 0},
    {"query", STR("GET /a?b=c&d=%20/?~ HTTP/1.1" RN HOST RN), "GET /a?b=c&d=%20/?~ a 1.1 0\nHost: a\n", "", .rest = 0},
    {"odd_path", STR("GET //a/../%00;x\\{\"|}^` HTTP/1.1" RN HOST RN), "GET //a/../%00;x\\{\"|}^` a 1.1 0\nHost: a\n",
     "", .rest = 0},
    {"absolute_form", STR("GET http://b.c:8/d?e HTTP/1.1" RN HOST RN), "GET /d?e b.c:8 1.1 0\nHost: a\n", "",
     .rest = 0},
    {"absolute_form_https", STR("GET HTTPS://B/ HTTP/1.1" RN HOST RN), "GET / B 1.1 0\nHost: a\n", "", .rest = 0},
    {"absolute_form_without_path", STR("GET http://b HTTP/1.1" RN HOST RN), "GET / b 1.1 0\nHost: a\n", "", .rest = 0},
    {"absolute_form_http_1_0", STR("GET http://b/c HTTP/1.0" RN RN), "GET /c b 1.0 0\n", "", .close = true},
    {"options_absolute_form", STR("OPTIONS http://b HTTP/1.1" RN HOST RN), "OPTIONS * b 1.1 0\nHost: a\n", "",
     .rest = 0},
    {"options_asterisk", STR("OPTIONS * HTTP/1.1" RN HOST RN), "OPTIONS * a 1.1 0\nHost: a\n", "", .rest = 0},
    {"trace", STR("TRACE / HTTP/1.1" RN HOST RN), "TRACE / a 1.1 0\nHost: a\n", "", .rest = 0},
    {"other_method", STR("PROPFIND / HTTP/1.1" RN HOST RN), "PROPFIND / a 1.1 0\nHost: a\n", "", .rest = 0},
    {"delete_with_body", STR("DELETE /x HTTP/1.1" RN HOST "Content-Length: 2" RN RN "ab"),
     "DELETE /x a 1.1 2\nHost: a\nContent-Length: 2\n", "ab", .rest = 0},
    {"close", STR("GET / HTTP/1.1" RN HOST "Connection: close" RN RN), "GET / a 1.1 0\nHost: a\nConnection: close\n",
     "", .close = true},
    {"close_in_a_list", STR("GET / HTTP/1.1" RN HOST "Connection: x, CLOSE" RN RN),
     "GET / a 1.1 0\nHost: a\nConnection: x, CLOSE\n", "", .close = true},
    {"close_wins", STR("GET / HTTP/1.1" RN HOST "Connection: close" RN "Connection: keep-alive" RN RN),
     "GET / a 1.1 0\nHost: a\nConnection: close\nConnection: keep-alive\n", "", .close = true},
    {"proxy_connection_is_ignored", STR("GET / HTTP/1.1" RN HOST "Proxy-Connection: close" RN RN),
     "GET / a 1.1 0\nHost: a\nProxy-Connection: close\n", "", .rest = 0},
    {"connection_in_trailers_is_ignored", STR(POST_TE "0" RN "Connection: close" RN RN), HEAD_TE, "", .rest = 0},
    {"http_1_0_keeping_in_a_list", STR("GET / HTTP/1.0" RN "Connection: x, Keep-Alive" RN RN),
     "GET /  1.0 0\nConnection: x, Keep-Alive\n", "", .rest = 0},
    {"names_and_values_of_eight_and_more",
     STR("GET /23456789 HTTP/1.1" RN HOST "Abcdefg-hijklmno-p: a\tbcdefg\thijklmno" RN "A.bcdefgh: \x80 2345678" RN RN),
     "GET /23456789 a 1.1 0\nHost: a\nAbcdefg-hijklmno-p: a\tbcdefg\thijklmno\nA.bcdefgh: \x80 2345678\n", "",
     .rest = 0},
    {"upgrade_to_h2c_is_ignored",
     STR("GET / HTTP/1.1" RN HOST "Connection: Upgrade, HTTP2-Settings" RN "Upgrade: h2c" RN "HTTP2-Settings: x" RN RN
         "GET"),
     "GET / a 1.1 0\nHost: a\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: x\n", "", .rest = 3},
    {"upgrade_with_body_is_ignored",
     STR(POST "Connection: upgrade" RN "Upgrade: websocket" RN "Content-Length: 3" RN RN "abcGET"),
     "POST /x a 1.1 3\nHost: a\nConnection: upgrade\nUpgrade: websocket\nContent-Length: 3\n", "abc", .rest = 3},
    {"upgrade_with_chunked_body",
     STR(POST "Connection: upgrade" RN "Upgrade: x" RN "Transfer-Encoding: chunked" RN RN "1" RN "a" RN "0" RN RN "G"),
     "POST /x a 1.1 ?\nHost: a\nConnection: upgrade\nUpgrade: x\nTransfer-Encoding: chunked\n", "a", .rest = 1},
    {"expect", STR(POST "Expect: 100-Continue" RN "Content-Length: 2" RN RN "ab"),
     "POST /x a 1.1 2 expect\nHost: a\nExpect: 100-Continue\nContent-Length: 2\n", "ab", .rest = 0},
    {"expect_chunked", STR(POST "Expect: 100-continue" RN "Transfer-Encoding: chunked" RN RN "0" RN RN),
     "POST /x a 1.1 ? expect\nHost: a\nExpect: 100-continue\nTransfer-Encoding: chunked\n", "", .rest = 0},
    {"expect_without_body", STR("GET / HTTP/1.1" RN HOST "Expect: 100-continue" RN RN),
     "GET / a 1.1 0\nHost: a\nExpect: 100-continue\n", "", .rest = 0},
    {"expect_in_http_1_0_is_ignored", STR("POST / HTTP/1.0" RN "Expect: x" RN "Content-Length: 1" RN RN "a"),
     "POST /  1.0 1\nExpect: x\nContent-Length: 1\n", "a", .close = true},
    {"host_with_port", STR("GET / HTTP/1.1" RN "Host: a-b.c_d:80" RN RN), "GET / a-b.c_d:80 1.1 0\nHost: a-b.c_d:80\n",
     "", .rest = 0},
    {"host_ipv6", STR("GET / HTTP/1.1" RN "hOST: [::1]:8080 " RN RN), "GET / [::1]:8080 1.1 0\nhOST: [::1]:8080\n", "",
     .rest = 0},
};

#define ANSWER "HTTP/1.1 200 OK" RN
#define ANSWER_TE ANSWER "Transfer-Encoding: chunked" RN RN
#define SAID_TE "200 1.1 ?\nTransfer-Encoding: chunked\n"

static const struct understood answers[] = {
    {"length", STR(ANSWER "Content-Length: 5" RN RN "hello"), "200 1.1 5\nContent-Length: 5\n", "hello", .rest = 0},
    {"length_with_blank_behind", STR(ANSWER "Content-Length: 5 " RN RN "hello"), "200 1.1 5\nContent-Length: 5\n",
     "hello", .rest = 0},
    {"coding_with_blank_behind", STR(ANSWER "Transfer-Encoding: chunked " RN RN "0" RN RN), SAID_TE, "", .rest = 0},
    {"more_behind", STR(ANSWER "Content-Length: 5" RN RN "helloHTTP/1.1"), "200 1.1 5\nContent-Length: 5\n", "hello",
     .rest = 8},
    {"chunked", STR(ANSWER_TE "5" RN "hello" RN "1;x" RN "!" RN "0" RN "A: b" RN RN "x"), SAID_TE, "hello!", .rest = 1},
    {"until_close", STR(ANSWER RN "hello"), "200 1.1 ?\n", "hello", .by_eof = true},
    {"until_close_empty", STR(ANSWER RN), "200 1.1 ?\n", "", .by_eof = true},
    {"until_close_http_1_0", STR("HTTP/1.0 200 OK" RN "A: b" RN RN "hello"), "200 1.0 ?\nA: b\n", "hello",
     .by_eof = true},
    {"http_1_0_length", STR("HTTP/1.0 200 OK" RN "Content-Length: 2" RN RN "ab"), "200 1.0 2\nContent-Length: 2\n",
     "ab", .close = true},
    {"http_1_0_keeping", STR("HTTP/1.0 200 OK" RN "Connection: keep-alive" RN "Content-Length: 2" RN RN "ab"),
     "200 1.0 2\nConnection: keep-alive\nContent-Length: 2\n", "ab", .rest = 0},
    {"close", STR(ANSWER "Content-Length: 0" RN "Connection: close" RN RN),
     "200 1.1 0\nContent-Length: 0\nConnection: close\n", "", .close = true},
    {"no_reason", STR("HTTP/1.1 200" RN "Content-Length: 0" RN RN), "200 1.1 0\nContent-Length: 0\n", "", .rest = 0},
    {"empty_reason", STR("HTTP/1.1 200 " RN "Content-Length: 0" RN RN), "200 1.1 0\nContent-Length: 0\n", "",
     .rest = 0},
    {"eight_bit_reason", STR("HTTP/1.1 404 \xe9t\xe9" RN "Content-Length: 0" RN RN), "404 1.1 0\nContent-Length: 0\n",
     "", .rest = 0},
    {"to_head_length", STR(ANSWER "Content-Length: 5" RN RN "HTTP/"), "200 1.1 5\nContent-Length: 5\n", "",
     .to_head = true, .rest = 5},
    {"to_head_chunked", STR(ANSWER_TE "HTTP/"), SAID_TE, "", .to_head = true, .rest = 5},
    {"to_head_unknown", STR(ANSWER RN "HTTP/"), "200 1.1 ?\n", "", .to_head = true, .rest = 5},
    {"status_204", STR("HTTP/1.1 204 No Content" RN "Content-Length: 5" RN RN "HTTP/"),
     "204 1.1 0\nContent-Length: 5\n", "", .rest = 5},
    {"status_204_chunked", STR("HTTP/1.1 204 No Content" RN "Transfer-Encoding: chunked" RN RN "HTTP/"),
     "204 1.1 0\nTransfer-Encoding: chunked\n", "", .rest = 5},
    {"status_304", STR("HTTP/1.1 304 Not Modified" RN "Content-Length: 5" RN RN "HTTP/"),
     "304 1.1 5\nContent-Length: 5\n", "", .rest = 5},
    {"status_304_unknown", STR("HTTP/1.1 304 Not Modified" RN RN "HTTP/"), "304 1.1 ?\n", "", .rest = 5},
    {"status_205_with_body", STR("HTTP/1.1 205 Reset Content" RN "Content-Length: 2" RN RN "ab"),
     "205 1.1 2\nContent-Length: 2\n", "ab", .rest = 0},
    {"interim_100", STR("HTTP/1.1 100 Continue" RN RN "HTTP/"), "100 1.1 0\n", "", .rest = 5},
    {"interim_103", STR("HTTP/1.1 103 Early Hints" RN "Link: x" RN RN "HTTP/"), "103 1.1 0\nLink: x\n", "", .rest = 5},
    {"interim_unknown_with_length", STR("HTTP/1.1 150 X" RN "Content-Length: 5" RN RN "HTTP/"),
     "150 1.1 0\nContent-Length: 5\n", "", .rest = 5},
    {"interim_unknown_chunked", STR("HTTP/1.1 199 X" RN "Transfer-Encoding: chunked" RN RN "HTTP/"),
     "199 1.1 0\nTransfer-Encoding: chunked\n", "", .rest = 5},
    {"upgrade_ignored", STR(ANSWER "Connection: upgrade" RN "Upgrade: x" RN "Content-Length: 1" RN RN "ab"),
     "200 1.1 1\nConnection: upgrade\nUpgrade: x\nContent-Length: 1\n", "a", .rest = 1},
};

static void requests_are_understood_however_they_are_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        check_understood(H1_REQUEST, &requests[i]);
    }
}

static void answers_are_understood_however_they_are_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        check_understood(H1_RESPONSE, &answers[i]);
    }
}

// ---- what is refused

struct refused {
    const char *name;
    struct str bytes;
    enum err error;
};

static void check_refused(enum h1_side side, const struct refused *u) {
    struct run run = {.side = side};
    struct seen s;
    seen_init(&s);
    feed_every_way(&run, u->bytes, &s, u->name);
    if (s.error != u->error) {
        fail_msg("%s: got %s, wanted %s", u->name, err_name(s.error), err_name(u->error));
    }
    seen_finish(&s);
}

#define GET "GET / HTTP/1.1" RN HOST
#define CHUNKS "0" RN RN

static const struct refused bad_requests[] = {
    {"A01_length_and_chunked", STR(POST "Content-Length: 5" RN "Transfer-Encoding: chunked" RN RN CHUNKS), ERR_FRAMING},
    {"A01_chunked_and_length", STR(POST "Transfer-Encoding: chunked" RN "Content-Length: 5" RN RN CHUNKS), ERR_FRAMING},
    {"A01_length_zero_and_chunked",
     STR(POST "Content-Length: 0" RN "X: y" RN "Transfer-Encoding: chunked" RN RN CHUNKS), ERR_FRAMING},
    {"A01_length_and_unknown", STR(POST "Content-Length: 5" RN "Transfer-Encoding: x" RN RN "hello"), ERR_FRAMING},
    {"A01_unknown_and_length", STR(POST "Transfer-Encoding: x" RN "Content-Length: 5" RN RN "hello"), ERR_FRAMING},
    {"A02_unknown", STR(POST "Transfer-Encoding: gzip" RN RN CHUNKS), ERR_CODING},
    {"A02_identity", STR(POST "Transfer-Encoding: identity" RN RN CHUNKS), ERR_CODING},
    {"A02_xchunked", STR(POST "Transfer-Encoding: xchunked" RN RN CHUNKS), ERR_CODING},
    {"A02_chunkedx", STR(POST "Transfer-Encoding: chunkedx" RN RN CHUNKS), ERR_CODING},
    {"A02_quoted", STR(POST "Transfer-Encoding: \"chunked\"" RN RN CHUNKS), ERR_CODING},
    {"A02_unknown_on_get", STR(GET "Transfer-Encoding: gzip" RN RN), ERR_CODING},
    {"A02_chunked_not_last", STR(POST "Transfer-Encoding: chunked, gzip" RN RN CHUNKS), ERR_FRAMING},
    {"A02_chunked_identity", STR(POST "Transfer-Encoding: chunked, identity" RN RN CHUNKS), ERR_FRAMING},
    {"A02_gzip_chunked", STR(POST "Transfer-Encoding: gzip, chunked" RN RN CHUNKS), ERR_FRAMING},
    {"A02_chunked_twice", STR(POST "Transfer-Encoding: chunked, chunked" RN RN CHUNKS), ERR_FRAMING},
    {"A02_two_lines", STR(POST "Transfer-Encoding: chunked" RN "Transfer-Encoding: chunked" RN RN CHUNKS), ERR_FRAMING},
    {"A02_two_lines_unknown_last", STR(POST "Transfer-Encoding: chunked" RN "Transfer-Encoding: gzip" RN RN CHUNKS),
     ERR_FRAMING},
    {"A02_two_lines_unknown_first", STR(POST "Transfer-Encoding: gzip" RN "Transfer-Encoding: chunked" RN RN CHUNKS),
     ERR_FRAMING},
    {"A02_two_lines_unknown", STR(POST "Transfer-Encoding: gzip" RN "Transfer-Encoding: br" RN RN CHUNKS), ERR_FRAMING},
    {"A02_empty", STR(POST "Transfer-Encoding:" RN RN CHUNKS), ERR_FRAMING},
    {"A02_comma", STR(POST "Transfer-Encoding: , chunked" RN RN CHUNKS), ERR_FRAMING},
    {"A02_comma_behind", STR(POST "Transfer-Encoding: chunked," RN RN CHUNKS), ERR_FRAMING},
    {"A02_vertical_tab", STR(POST "Transfer-Encoding: \vchunked" RN RN CHUNKS), ERR_INVALID},
    {"A02_form_feed_behind", STR(POST "Transfer-Encoding: chunked\f" RN RN CHUNKS), ERR_INVALID},
    {"A02_nul_behind", STR(POST "Transfer-Encoding: chunked\0" RN RN CHUNKS), ERR_INVALID},
    {"A02_blank_behind", STR(POST "Transfer-Encoding: chunked " RN RN CHUNKS), ERR_FRAMING},
    {"A02_tab_behind", STR(POST "Transfer-Encoding: chunked\t" RN RN CHUNKS), ERR_FRAMING},
    {"A02_tab_before_comma", STR(POST "Transfer-Encoding: chunked\t, identity" RN RN CHUNKS), ERR_FRAMING},
    {"A02_space_and_tab_before_colon", STR(POST "Transfer-Encoding \t: chunked" RN RN CHUNKS), ERR_INVALID},
    {"A02_vertical_tab_before_colon", STR(POST "Transfer-Encoding\v: chunked" RN RN CHUNKS), ERR_INVALID},
    {"A02_behind_bare_lf", STR(POST "A: b\nTransfer-Encoding: chunked" RN RN CHUNKS), ERR_INVALID},
    {"A02_behind_bare_cr", STR(POST "A: b\rTransfer-Encoding: chunked" RN RN CHUNKS), ERR_INVALID},
    {"A02_behind_nul", STR(POST "A: b\0Transfer-Encoding: chunked" RN RN CHUNKS), ERR_INVALID},
    {"A02_parameter", STR(POST "Transfer-Encoding: chunked;q=1" RN RN CHUNKS), ERR_FRAMING},
    {"A02_blank_inside", STR(POST "Transfer-Encoding: chun ked" RN RN CHUNKS), ERR_CODING},
    {"A02_space_before_colon", STR(POST "Transfer-Encoding : chunked" RN RN CHUNKS), ERR_INVALID},
    {"A02_folded", STR(POST "Transfer-Encoding:" RN " chunked" RN RN CHUNKS), ERR_INVALID},
    {"A03_http_1_0", STR("POST / HTTP/1.0" RN HOST "Transfer-Encoding: chunked" RN RN CHUNKS), ERR_FRAMING},
    {"A03_http_1_0_unknown", STR("POST / HTTP/1.0" RN HOST "Transfer-Encoding: gzip" RN RN CHUNKS), ERR_FRAMING},
    {"A04_twice_equal", STR(POST "Content-Length: 5" RN "Content-Length: 5" RN RN "hello"), ERR_FRAMING},
    {"A04_twice_different", STR(POST "Content-Length: 5" RN "Content-Length: 6" RN RN "hello"), ERR_FRAMING},
    {"A04_list", STR(POST "Content-Length: 5, 5" RN RN "hello"), ERR_FRAMING},
    {"A04_comma", STR(POST "Content-Length: 5," RN RN "hello"), ERR_FRAMING},
    {"A04_blank_between", STR(POST "Content-Length: 5 5" RN RN "hello"), ERR_FRAMING},
    {"A04_blank_behind", STR(POST "Content-Length: 5 " RN RN "hello"), ERR_FRAMING},
    {"A04_tab_behind", STR(POST "Content-Length: 5\t" RN RN "hello"), ERR_FRAMING},
    {"A04_plus", STR(POST "Content-Length: +5" RN RN "hello"), ERR_FRAMING},
    {"A04_minus", STR(POST "Content-Length: -5" RN RN "hello"), ERR_FRAMING},
    {"A04_hex", STR(POST "Content-Length: 0x5" RN RN "hello"), ERR_FRAMING},
    {"A04_float", STR(POST "Content-Length: 5.0" RN RN "hello"), ERR_FRAMING},
    {"A04_empty", STR(POST "Content-Length:" RN RN), ERR_FRAMING},
    {"A04_letters", STR(POST "Content-Length: five" RN RN), ERR_FRAMING},
    {"A04_over_63_bits", STR(POST "Content-Length: 9223372036854775808" RN RN), ERR_FRAMING},
    {"A04_over_64_bits", STR(POST "Content-Length: 18446744073709551616" RN RN), ERR_FRAMING},
    {"A04_wraps_to_5", STR(POST "Content-Length: 18446744073709551621" RN RN "hello"), ERR_FRAMING},
    {"A04_folded", STR(POST "Content-Length:" RN " 5" RN RN "hello"), ERR_INVALID},
    {"A05_fold", STR(GET "A: b" RN " c" RN RN), ERR_INVALID},
    {"A05_fold_with_tab", STR(GET "A: b" RN "\tc" RN RN), ERR_INVALID},
    {"A05_fold_of_nothing", STR(GET "A:" RN " b" RN RN), ERR_INVALID},
    {"A05_fold_at_the_end", STR(GET "A: b" RN " " RN RN), ERR_INVALID},
    {"A06_space_before_colon", STR("GET / HTTP/1.1" RN "Host : a" RN RN), ERR_INVALID},
    {"A06_tab_before_colon", STR(GET "A\t: b" RN RN), ERR_INVALID},
    {"A07_space_before_first_field", STR("GET / HTTP/1.1" RN " Host: a" RN RN), ERR_INVALID},
    {"A07_tab_before_first_field", STR("GET / HTTP/1.1" RN "\tHost: a" RN RN), ERR_INVALID},
    {"A08_bare_lf_after_start_line", STR("GET / HTTP/1.1\n" HOST RN), ERR_INVALID},
    {"A08_bare_lf_after_field", STR("GET / HTTP/1.1" RN "Host: a\n" RN), ERR_INVALID},
    {"A08_bare_lf_at_the_end", STR("GET / HTTP/1.1" RN HOST "\n"), ERR_INVALID},
    {"A08_all_bare_lf", STR("GET / HTTP/1.1\nHost: a\n\n"), ERR_INVALID},
    {"A08_bare_lf_before", STR("\nGET / HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A08_bare_cr_before", STR("\r\rGET / HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A08_bare_cr_in_start_line", STR("GET /\rHTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A08_bare_cr_in_version", STR("GET / HTTP/2\rHost: a" RN RN), ERR_INVALID},
    {"A08_bare_cr_after_start_line", STR("GET / HTTP/1.1\rHost: a" RN RN), ERR_INVALID},
    {"A08_bare_cr_in_value", STR(GET "A: b\rc: d" RN RN), ERR_INVALID},
    {"A08_two_cr", STR(GET "A: b\r\r\n" RN), ERR_INVALID},
    {"A08_bare_cr_at_the_end", STR(GET "\rX"), ERR_INVALID},
    {"A09_hex_prefix", STR(POST_TE "0x5" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_underscore", STR(POST_TE "0_5" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_plus", STR(POST_TE "+5" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_minus", STR(POST_TE "-1" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_seventeen_digits", STR(POST_TE "10000000000000005" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_sixteen_digits", STR(POST_TE "ffffffffffffffff" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_over_2_53", STR(POST_TE "20000000000001" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_empty_size", STR(POST_TE RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_extension_without_size", STR(POST_TE ";a" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_no_hex", STR(POST_TE "g" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_blank_before_size", STR(POST_TE " 5" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_blank_behind_size", STR(POST_TE "5 " RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_bare_lf_behind_size", STR(POST_TE "5\nhello" RN CHUNKS), ERR_FRAMING},
    {"A09_bare_cr_behind_size", STR(POST_TE "5\rhello" RN CHUNKS), ERR_FRAMING},
    {"A09_nothing_behind_data", STR(POST_TE "5" RN "hello" CHUNKS), ERR_FRAMING},
    {"A09_bare_lf_behind_data", STR(POST_TE "5" RN "hello\n" CHUNKS), ERR_FRAMING},
    {"A09_bare_cr_behind_data", STR(POST_TE "5" RN "hello\r" CHUNKS), ERR_FRAMING},
    {"A09_more_data_than_size", STR(POST_TE "5" RN "helloXX" RN CHUNKS), ERR_FRAMING},
    {"A09_lf_in_extension_name", STR(POST_TE "5;a\nb" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_cr_in_extension_name", STR(POST_TE "5;a\rb" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_nul_in_extension_name", STR(POST_TE "5;a\0b" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_lf_in_extension_value", STR(POST_TE "5;a=b\nc" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_lf_in_quoted_extension", STR(POST_TE "5;a=\"b\nc\"" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_cr_in_quoted_extension", STR(POST_TE "5;a=\"b\r\n0\r\n\r\n\"" RN "hello" RN CHUNKS), ERR_FRAMING},
    {"A09_bare_lf_behind_last_size", STR(POST_TE "5" RN "hello" RN "0\n" RN), ERR_FRAMING},
    {"A09_bare_lf_at_the_end", STR(POST_TE "5" RN "hello" RN "0" RN "\n"), ERR_FRAMING},
    {"A10_bad_trailer", STR(POST_TE "0" RN "A B: c" RN RN), ERR_FRAMING},
    {"A10_folded_trailer", STR(POST_TE "0" RN "A: b" RN " c" RN RN), ERR_FRAMING},
    {"A10_bare_lf_in_trailers", STR(POST_TE "0" RN "A: b\nC: d" RN RN), ERR_FRAMING},
    {"A10_length_in_trailers_in_capitals", STR(POST_TE "0" RN "A: b" RN "CONTENT-LENGTH: 5" RN RN), ERR_FRAMING},
    {"A10_space_before_colon_in_trailers", STR(POST_TE "0" RN "A : b" RN RN), ERR_FRAMING},
    {"A10_nul_in_trailers", STR(POST_TE "0" RN "A: b\0" RN RN), ERR_FRAMING},
    {"A10_length_in_trailers", STR(POST_TE "0" RN "Content-Length: 5" RN RN), ERR_FRAMING},
    {"A10_coding_in_trailers", STR(POST_TE "0" RN "Transfer-Encoding: chunked" RN RN), ERR_FRAMING},
    {"A11_no_host", STR("GET / HTTP/1.1" RN RN), ERR_INVALID},
    {"A11_two_hosts", STR(GET "Host: b" RN RN), ERR_INVALID},
    {"A11_two_equal_hosts", STR(GET HOST RN), ERR_INVALID},
    {"A11_two_hosts_http_1_0", STR("GET / HTTP/1.0" RN HOST HOST RN), ERR_INVALID},
    {"A11_absolute_form_no_host", STR("GET http://b/ HTTP/1.1" RN RN), ERR_INVALID},
    {"A11_absolute_form_bad_host", STR("GET http://b/ HTTP/1.1" RN "Host: a/b" RN RN), ERR_INVALID},
    {"A11_two_hosts_absolute_form", STR("GET http://b/ HTTP/1.1" RN HOST HOST RN), ERR_INVALID},
    {"A12_empty", STR("GET / HTTP/1.1" RN "Host:" RN RN), ERR_INVALID},
    {"A12_question_mark", STR("GET / HTTP/1.1" RN "Host: a?b" RN RN), ERR_INVALID},
    {"A12_hash", STR("GET / HTTP/1.1" RN "Host: a#b" RN RN), ERR_INVALID},
    {"A12_slash", STR("GET / HTTP/1.1" RN "Host: a/b" RN RN), ERR_INVALID},
    {"A12_at", STR("GET / HTTP/1.1" RN "Host: a@b" RN RN), ERR_INVALID},
    {"A12_list", STR("GET / HTTP/1.1" RN "Host: a, b" RN RN), ERR_INVALID},
    {"A12_absolute_at", STR("GET http://b@c/ HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A12_absolute_question_mark", STR("GET http://b?c HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A12_absolute_question_mark_then_slash", STR("GET http://b?c/d HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A12_absolute_no_host", STR("GET http:///c HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A12_absolute_backslash", STR("GET http://b\\c/d HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A12_absolute_bad_port", STR("GET http://b:x/d HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A13_eight_bit_name", STR(GET "\xe9: b" RN RN), ERR_INVALID},
    {"A13_nul_in_name", STR(GET "A\0B: c" RN RN), ERR_INVALID},
    {"A13_control_in_name", STR(GET "A\x01: c" RN RN), ERR_INVALID},
    {"A13_del_in_name", STR(GET "A\x7f: c" RN RN), ERR_INVALID},
    {"A13_blank_in_name", STR(GET "A B: c" RN RN), ERR_INVALID},
    {"A13_at_in_name", STR(GET "A@: c" RN RN), ERR_INVALID},
    {"A13_empty_name", STR(GET ": c" RN RN), ERR_INVALID},
    {"A13_no_colon", STR(GET "nonsense" RN RN), ERR_INVALID},
    {"A17_connect", STR("CONNECT a:443 HTTP/1.1" RN HOST RN), ERR_METHOD},
    {"A17_connect_path", STR("CONNECT /x HTTP/1.1" RN HOST RN), ERR_METHOD},
    {"A17_connect_with_body", STR("CONNECT a:443 HTTP/1.1" RN HOST "Content-Length: 3" RN RN "abc"), ERR_METHOD},
    {"A17_h2_preface", STR("PRI * HTTP/2.0" RN RN "SM" RN RN), ERR_VERSION},
    {"A16_other_expectation", STR(POST "Expect: 200-ok" RN "Content-Length: 1" RN RN "a"), ERR_EXPECT},
    {"A16_one_more_expectation", STR(POST "Expect: 100-continue, x" RN RN), ERR_EXPECT},
    {"A16_two_expectations", STR(POST "Expect: 100-continue" RN "Expect: 100-continue" RN RN), ERR_EXPECT},
    {"A18_eight_bit_target", STR("GET /\xc3\xa9 HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A18_nul_in_target", STR("GET /\0 HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A18_del_in_target", STR("GET /\x7f HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A18_tab_in_target", STR("GET /\tx HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A18_fragment", STR("GET /#a HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A18_fragment_in_query", STR("GET /?a#b HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A18_asterisk", STR("GET * HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A18_other_scheme", STR("GET ftp://b/c HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"A18_relative", STR("GET b/c HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"start_two_blanks", STR("GET  / HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"start_two_blanks_behind", STR("GET /  HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"start_blank_in_target", STR("GET /a b HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"start_blank_behind_version", STR("GET / HTTP/1.1 " RN HOST RN), ERR_INVALID},
    {"start_blank_before", STR(" GET / HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"start_tab", STR("GET\t/ HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"start_no_target", STR("GET HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"start_method_only", STR("GET" RN RN), ERR_INVALID},
    {"method_unknown", STR("BREW / HTTP/1.1" RN HOST RN), ERR_METHOD},
    {"method_lower_case", STR("get / HTTP/1.1" RN HOST RN), ERR_METHOD},
    {"method_too_long", STR("GETT / HTTP/1.1" RN HOST RN), ERR_METHOD},
    {"method_no_token", STR("GE@T / HTTP/1.1" RN HOST RN), ERR_INVALID},
    {"tls", STR("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), ERR_INVALID},
    {"version_0_9", STR("GET /" RN RN), ERR_VERSION},
    {"version_0_9_said", STR("GET / HTTP/0.9" RN HOST RN), ERR_VERSION},
    {"version_1_2", STR("GET / HTTP/1.2" RN HOST RN), ERR_VERSION},
    {"version_0_9_and_host", STR("GET /" RN HOST RN), ERR_VERSION},
    {"version_2_0", STR("GET / HTTP/2.0" RN HOST RN), ERR_VERSION},
    {"version_3", STR("GET / HTTP/3" RN HOST RN), ERR_VERSION},
    {"version_1_10", STR("GET / HTTP/1.10" RN HOST RN), ERR_INVALID},
    {"version_11", STR("GET / HTTP/11" RN HOST RN), ERR_INVALID},
    {"version_lower_case", STR("GET / http/1.1" RN HOST RN), ERR_INVALID},
    {"version_misspelt", STR("GET / HTTQ/1.1" RN HOST RN), ERR_INVALID},
    {"version_rtsp", STR("OPTIONS / RTSP/1.0" RN HOST RN), ERR_INVALID},
    {"version_ice", STR("SOURCE / ICE/1.1" RN HOST RN), ERR_INVALID},
    {"method_of_rtsp", STR("DESCRIBE / HTTP/1.1" RN HOST RN), ERR_METHOD},
    {"a_request_line_cut", STR("GET / HT"), ERR_CUT},
    {"a_head_cut", STR("GET / HTTP/1.1" RN HOST), ERR_CUT},
    {"a_head_cut_in_the_last_line", STR("GET / HTTP/1.1" RN HOST "\r"), ERR_CUT},
    {"a_body_cut", STR(POST "Content-Length: 5" RN RN "hell"), ERR_CUT},
    {"a_body_missing", STR(POST "Content-Length: 5" RN RN), ERR_CUT},
    {"a_chunk_size_cut", STR(POST_TE "5"), ERR_CUT},
    {"a_chunk_cut", STR(POST_TE "5" RN "hell"), ERR_CUT},
    {"a_chunk_cut_behind_data", STR(POST_TE "5" RN "hello"), ERR_CUT},
    {"no_last_chunk", STR(POST_TE "5" RN "hello" RN), ERR_CUT},
    {"a_last_chunk_cut", STR(POST_TE "5" RN "hello" RN "0" RN), ERR_CUT},
    {"trailers_cut", STR(POST_TE "0" RN "A: b" RN), ERR_CUT},
};

static const struct refused bad_answers[] = {
    {"length_and_chunked", STR(ANSWER "Content-Length: 5" RN "Transfer-Encoding: chunked" RN RN CHUNKS), ERR_PROTOCOL},
    {"chunked_and_length", STR(ANSWER "Transfer-Encoding: chunked" RN "Content-Length: 5" RN RN CHUNKS), ERR_PROTOCOL},
    {"unknown_coding", STR(ANSWER "Transfer-Encoding: gzip" RN RN "x"), ERR_PROTOCOL},
    {"identity", STR(ANSWER "Transfer-Encoding: identity" RN RN "x"), ERR_PROTOCOL},
    {"empty_coding", STR(ANSWER "Transfer-Encoding:" RN RN "x"), ERR_PROTOCOL},
    {"gzip_chunked", STR(ANSWER "Transfer-Encoding: gzip, chunked" RN RN CHUNKS), ERR_PROTOCOL},
    {"chunked_gzip", STR(ANSWER "Transfer-Encoding: chunked, gzip" RN RN CHUNKS), ERR_PROTOCOL},
    {"two_codings", STR(ANSWER "Transfer-Encoding: chunked" RN "Transfer-Encoding: chunked" RN RN CHUNKS),
     ERR_PROTOCOL},
    {"chunked_in_http_1_0", STR("HTTP/1.0 200 OK" RN "Transfer-Encoding: chunked" RN RN CHUNKS), ERR_PROTOCOL},
    {"A04_twice_equal", STR(ANSWER "Content-Length: 5" RN "Content-Length: 5" RN RN "hello"), ERR_PROTOCOL},
    {"A04_list", STR(ANSWER "Content-Length: 5, 5" RN RN "hello"), ERR_PROTOCOL},
    {"A04_plus", STR(ANSWER "Content-Length: +5" RN RN "hello"), ERR_PROTOCOL},
    {"A04_minus", STR(ANSWER "Content-Length: -5" RN RN "hello"), ERR_PROTOCOL},
    {"A04_tab_behind", STR(ANSWER "Content-Length: 5\t" RN RN "hello"), ERR_PROTOCOL},
    {"A02_tab_behind", STR(ANSWER "Transfer-Encoding: chunked\t" RN RN CHUNKS), ERR_PROTOCOL},
    {"A02_xchunked", STR(ANSWER "Transfer-Encoding: xchunked" RN RN CHUNKS), ERR_PROTOCOL},
    {"A02_chunked_identity", STR(ANSWER "Transfer-Encoding: chunked, identity" RN RN CHUNKS), ERR_PROTOCOL},
    {"A10_length_in_trailers", STR(ANSWER_TE "0" RN "Content-Length: 5" RN RN), ERR_PROTOCOL},
    {"A04_overflow", STR(ANSWER "Content-Length: 99999999999999999999" RN RN "hello"), ERR_PROTOCOL},
    {"A04_twice_in_304", STR("HTTP/1.1 304 X" RN "Content-Length: 5" RN "Content-Length: 6" RN RN), ERR_PROTOCOL},
    {"fold", STR(ANSWER "A: b" RN " c" RN RN), ERR_PROTOCOL},
    {"space_before_colon", STR(ANSWER "A : b" RN RN), ERR_PROTOCOL},
    {"bare_lf", STR(ANSWER "A: b\nC: d" RN RN), ERR_PROTOCOL},
    {"bare_lf_after_status", STR("HTTP/1.1 200 OK\n" RN), ERR_PROTOCOL},
    {"bare_cr_after_status", STR("HTTP/1.1 200 OK\rA: b" RN RN), ERR_PROTOCOL},
    {"bare_lf_after_bare_status", STR("HTTP/1.1 200\n" RN), ERR_PROTOCOL},
    {"nul_in_value", STR(ANSWER "A: b\0c" RN RN), ERR_PROTOCOL},
    {"bad_chunk", STR(ANSWER_TE "0x5" RN "hello" RN CHUNKS), ERR_PROTOCOL},
    {"chunk_over_2_53", STR(ANSWER_TE "ffffffffffffffff" RN "hello" RN CHUNKS), ERR_PROTOCOL},
    {"switching_protocols", STR("HTTP/1.1 101 X" RN "Connection: upgrade" RN "Upgrade: x" RN RN "abc"), ERR_PROTOCOL},
    {"status_0", STR("HTTP/1.1 000 X" RN RN), ERR_PROTOCOL},
    {"status_99", STR("HTTP/1.1 099 X" RN RN), ERR_PROTOCOL},
    {"status_600", STR("HTTP/1.1 600 X" RN RN), ERR_PROTOCOL},
    {"status_of_two_digits", STR("HTTP/1.1 20 X" RN RN), ERR_PROTOCOL},
    {"status_of_four_digits", STR("HTTP/1.1 2000 X" RN RN), ERR_PROTOCOL},
    {"status_with_letters", STR("HTTP/1.1 2x0 X" RN RN), ERR_PROTOCOL},
    {"two_blanks", STR("HTTP/1.1  200 OK" RN RN), ERR_PROTOCOL},
    {"version_2", STR("HTTP/2.0 200 OK" RN RN), ERR_PROTOCOL},
    {"version_1_2", STR("HTTP/1.2 200 OK" RN RN), ERR_PROTOCOL},
    {"version_0_9", STR("HTTP/0.9 200 OK" RN RN), ERR_PROTOCOL},
    {"rtsp", STR("RTSP/1.0 200 OK" RN RN), ERR_PROTOCOL},
    {"icy", STR("ICY 200 OK" RN RN), ERR_PROTOCOL},
    {"html", STR("<html><body>"), ERR_PROTOCOL},
    {"a_request", STR("GET / HTTP/1.1" RN HOST RN), ERR_PROTOCOL},
    {"an_empty_line_before", STR(RN ANSWER "Content-Length: 0" RN RN), ERR_PROTOCOL},
    {"an_lf_before", STR("\n" ANSWER "Content-Length: 0" RN RN), ERR_PROTOCOL},
    {"status_line_cut", STR("HTTP/1.1 2"), ERR_CUT},
    {"head_cut", STR(ANSWER "A: b" RN), ERR_CUT},
    {"head_cut_in_a_name", STR(ANSWER "A"), ERR_CUT},
    {"body_cut", STR(ANSWER "Content-Length: 5" RN RN "hell"), ERR_CUT},
    {"body_missing", STR(ANSWER "Content-Length: 5" RN RN), ERR_CUT},
    {"chunk_cut", STR(ANSWER_TE "5" RN "hell"), ERR_CUT},
    {"chunk_size_cut", STR(ANSWER_TE "5"), ERR_CUT},
    {"no_last_chunk", STR(ANSWER_TE "5" RN "hello" RN), ERR_CUT},
    {"last_chunk_cut", STR(ANSWER_TE "5" RN "hello" RN "0" RN), ERR_CUT},
    {"trailer_cut", STR(ANSWER_TE "0" RN "A"), ERR_CUT},
};

static void bad_requests_are_refused_however_they_are_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_requests); i++) {
        check_refused(H1_REQUEST, &bad_requests[i]);
    }
}

static void bad_answers_are_refused_however_they_are_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_answers); i++) {
        check_refused(H1_RESPONSE, &bad_answers[i]);
    }
}

// Fields that the tokeniser treats in ways of its own, and any other.
static void control_characters_are_refused_in_every_value(void **state) {
    static const char *const names[] = {
        "A", "Connection", "Proxy-Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Host", "Expect"};
    static const char *const formats[] = {"%s: %cb", "%s: b%cc", "%s: b%c", "%s:%c"};
    (void)state;
    for (size_t name = 0; name < ARRAY_LEN(names); name++) {
        for (size_t format = 0; format < ARRAY_LEN(formats); format++) {
            for (int c = 0; c < 0x100; c++) {
                char line[64];
                struct buf b;
                struct run run = {.side = H1_REQUEST};
                struct seen s;
                bool control = (c < 0x20 && c != '\t') || c == 0x7f;
                if (!control) {
                    continue;
                }
                seen_init(&s);
                buf_init(&b, 1000);
                check_ok(buf_str_append(&b, STR("GET / HTTP/1.1\r\n")));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                int n = snprintf(line, sizeof line, formats[format], names[name], c);
#pragma GCC diagnostic pop
                check_ok(buf_append(&b, line, (size_t)n));
                check_ok(buf_str_append(&b, STR("\r\nX: y\r\n\r\n")));
                feed_cut(&run, buf_str(&b), NULL, 0, &s);
                if (s.error != ERR_INVALID && s.error != ERR_FRAMING) {
                    fail_msg("%s with 0x%02x: %s", names[name], (unsigned)c, err_name(s.error));
                }
                seen_finish(&s);
                buf_finish(&b);
            }
        }
    }
}

// ---- limits

static enum err feed_limited(enum h1_side side, struct str message, const struct http_limits *limits, size_t piece) {
    struct run run = {.side = side, .limits = limits};
    size_t cuts[4096];
    size_t count = 0;
    struct seen s;
    for (size_t at = piece; at < message.len && count < ARRAY_LEN(cuts); at += piece) {
        cuts[count++] = at;
    }
    seen_init(&s);
    feed_cut(&run, message, cuts, count, &s);
    seen_finish(&s);
    return s.error;
}

static void check_limit(enum h1_side side, struct str message, const struct http_limits *limits, enum err wanted) {
    static const size_t pieces[] = {100000, 1, 2, 3, 7, 50};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        enum err e = feed_limited(side, message, limits, pieces[i]);
        if (e != wanted) {
            fail_msg("\"%.*s\" in pieces of %zu: %s, wanted %s", STR_ARG(message), pieces[i], err_name(e),
                     err_name(wanted));
        }
    }
}

static void a_head_of_the_limit_is_fine_and_one_byte_more_is_not(void **state) {
    static const struct str heads[] = {
        STR("GET / HTTP/1.0" RN RN),
        STR("GET / HTTP/1.1" RN "Host: abcdefgh" RN RN),
        STR("GET / HTTP/1.1" RN "Host: a   " RN RN),
        STR("GET / HTTP/1.1" RN HOST "A:" RN RN),
        STR("GET / HTTP/1.1" RN HOST "A:   " RN RN),
        STR("GET / HTTP/1.1" RN HOST "A: b" RN "C: d" RN RN),
        STR(RN "GET / HTTP/1.1" RN HOST RN),
        STR("POST / HTTP/1.1" RN HOST "Content-Length: 0" RN RN),
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct http_limits limits = {.head_bytes = heads[i].len, .fields = 10, .target_bytes = 100};
        check_limit(H1_REQUEST, heads[i], &limits, OK);
        limits.head_bytes--;
        check_limit(H1_REQUEST, heads[i], &limits, ERR_HEAD_FULL);
    }
}

static void a_body_does_not_count_as_head(void **state) {
    struct str message =
        STR("POST / HTTP/1.1" RN HOST "Content-Length: 40" RN RN "0123456789012345678901234567890123456789");
    struct http_limits limits = {.head_bytes = message.len - 40, .fields = 10, .target_bytes = 100};
    (void)state;
    check_limit(H1_REQUEST, message, &limits, OK);
}

static void an_answers_head_has_the_same_limit(void **state) {
    static const struct str heads[] = {
        STR("HTTP/1.1 204 A long reason that counts as well" RN RN),
        STR("HTTP/1.1 204" RN RN),
        STR("HTTP/1.1 204 No" RN "A: bcdefgh" RN RN),
        STR("HTTP/1.1 204 No" RN "A: " RN RN),
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct http_limits limits = {.head_bytes = heads[i].len, .fields = 10, .target_bytes = 100};
        check_limit(H1_RESPONSE, heads[i], &limits, OK);
        limits.head_bytes--;
        check_limit(H1_RESPONSE, heads[i], &limits, ERR_PROTOCOL);
    }
}

static void as_many_fields_as_the_limit_are_fine_and_one_more_is_not(void **state) {
    struct http_limits limits = {.head_bytes = 1000, .fields = 3, .target_bytes = 100};
    (void)state;
    check_limit(H1_REQUEST, STR("GET / HTTP/1.1" RN HOST "A: b" RN "C: d" RN RN), &limits, OK);
    check_limit(H1_REQUEST, STR("GET / HTTP/1.1" RN HOST "A: b" RN "C: d" RN "E: f" RN RN), &limits, ERR_HEAD_FULL);
    check_limit(H1_REQUEST, STR("GET / HTTP/1.1" RN HOST "A:" RN "C:" RN RN), &limits, OK);
    check_limit(H1_REQUEST, STR("GET / HTTP/1.1" RN HOST "A_b:" RN "C_d:" RN "E_f:" RN RN), &limits, ERR_HEAD_FULL);
    check_limit(H1_RESPONSE, STR("HTTP/1.1 204 X" RN "A: b" RN "C: d" RN "E: f" RN RN), &limits, OK);
    check_limit(H1_RESPONSE, STR("HTTP/1.1 204 X" RN "A: b" RN "C: d" RN "E: f" RN "G: h" RN RN), &limits,
                ERR_PROTOCOL);
}

static void a_target_of_the_limit_is_fine_and_one_byte_more_is_not(void **state) {
    struct http_limits limits = {.head_bytes = 1000, .fields = 3, .target_bytes = 10};
    (void)state;
    check_limit(H1_REQUEST, STR("GET /23456789A HTTP/1.1" RN HOST RN), &limits, OK);
    check_limit(H1_REQUEST, STR("GET /23456789AB HTTP/1.1" RN HOST RN), &limits, ERR_TARGET_LONG);
}

static void a_long_line_is_understood_however_it_is_cut(void **state) {
    static const size_t pieces[] = {1, 2, 1000, 1023, 1024, 1025, 3000};
    struct buf b;
    (void)state;
    buf_init(&b, 10000);
    check_ok(buf_str_append(&b, STR("GET / HTTP/1.1" RN HOST "A: ")));
    for (int i = 0; i < 3000; i++) {
        check_ok(buf_str_append(&b, STR("b")));
    }
    check_ok(buf_str_append(&b, STR(RN "C: d" RN RN)));
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        check_err(feed_limited(H1_REQUEST, buf_str(&b), &defaults, pieces[i]), OK);
    }
    buf_finish(&b);
}

static void a_long_connection_field_is_refused(void **state) {
    struct buf b;
    struct run run = {.side = H1_REQUEST};
    struct seen s;
    (void)state;
    buf_init(&b, 10000);
    seen_init(&s);
    check_ok(buf_str_append(&b, STR("GET / HTTP/1.1" RN HOST "Connection: a")));
    for (int i = 0; i < 1000; i++) {
        check_ok(buf_str_append(&b, STR(",a")));
    }
    check_ok(buf_str_append(&b, STR(RN RN)));
    feed_cut(&run, buf_str(&b), NULL, 0, &s);
    check_err(s.error, ERR_HEAD_FULL);
    seen_finish(&s);
    buf_finish(&b);
}

static void an_endless_head_is_refused_at_the_limit(void **state) {
    static const struct {
        struct str begin, piece;
    } heads[] = {
        {STR(RN), STR(RN RN RN)},
        {STR("GET / HTTP/1.1" RN "A: "), STR("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")},
        {STR("GET / HTTP/1.1" RN "A:"), STR("                                 ")},
        {STR("GET / HTTP/1.1" RN "A: b"), STR("                                ")},
        {STR("GET / HTTP/1.1" RN), STR("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct h1 *p = h1_create(H1_REQUEST, &defaults);
        struct h1_result r;
        char *copy = str_dup(heads[i].begin);
        size_t fed = heads[i].begin.len;
        enum err e = h1_feed(p, copy, fed, &r);
        free(copy);
        while (e == OK) {
            copy = str_dup(heads[i].piece);
            fed += heads[i].piece.len;
            check(fed <= defaults.head_bytes + 2 * heads[i].piece.len);
            e = h1_feed(p, copy, heads[i].piece.len, &r);
            free(copy);
        }
        check_err(e, ERR_HEAD_FULL);
        h1_destroy(p);
    }
}

static void a_first_read_of_nothing_but_blanks_is_refused(void **state) {
    struct h1 *p = h1_create(H1_REQUEST, &defaults);
    struct h1_result r;
    char *bytes = xmalloc(LARGE_READ);
    (void)state;
    memset(bytes, ' ', LARGE_READ);
    memcpy(bytes, "GET / HTTP/1.1\r\nA:", 18);
    check_err(h1_feed(p, bytes, LARGE_READ, &r), ERR_HEAD_FULL);
    free(bytes);
    h1_destroy(p);
}

// A megabyte of it in pieces: refused, and nothing of it is kept before.
static void check_endless(struct str begin, struct str piece, enum err wanted) {
    struct h1 *p = h1_create(H1_REQUEST, &defaults);
    struct h1_result r;
    size_t fed = 0;
    char *copy = str_dup(begin);
    enum err e = h1_feed(p, copy, begin.len, &r);
    free(copy);
    check_ok(e);
    mem_fail_after(1, 1); // whoever allocates from here on fails
    for (; e == OK && fed < 1 << 20; fed += piece.len) {
        copy = str_dup(piece);
        e = h1_feed(p, copy, piece.len, &r);
        free(copy);
    }
    mem_fail_after(0, 0);
    check_err(e, wanted);
    h1_destroy(p);
}

static void endless_chunk_extensions_and_trailers_cost_no_memory(void **state) {
    (void)state;
    check_endless(STR(POST_TE "5;"), STR("abcdefghijklmnopqrstuvwxyz"), ERR_FRAMING);
    check_endless(STR(POST_TE "5;a="), STR("abcdefghijklmnopqrstuvwxyz"), ERR_FRAMING);
    check_endless(STR(POST_TE "5;a=\""), STR("abcdefghijklmnopqrstuvwxyz ;"), ERR_FRAMING);
    check_endless(STR(POST_TE), STR("1;abcdefghijklmnopqrstuvwxyz" RN "x" RN), ERR_FRAMING);
    check_endless(STR(POST_TE "0" RN), STR("A: abcdefghijklmnopqrstuvwxyz" RN), ERR_FRAMING);
    check_endless(STR(POST_TE "0" RN "A: "), STR("abcdefghijklmnopqrstuvwxyz"), ERR_FRAMING);
    check_endless(STR(POST_TE "0" RN), STR("abcdefghijklmnopqrstuvwxyz"), ERR_FRAMING);
    check_endless(STR(POST_TE), STR("10" RN "0123456789abcdef" RN), OK); // a body is no burden
}

// ---- a parser's life

static void a_parser_takes_one_message_after_another(void **state) {
    struct h1 *p = h1_create(H1_REQUEST, &defaults);
    struct h1_result r;
    (void)state;
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
            const struct understood *u = &requests[i];
            struct buf text;
            char *copy = str_dup(u->bytes);
            buf_init(&text, 10000);
            check(!h1_begun(p));
            check_ok(h1_feed(p, copy, u->bytes.len, &r));
            check(h1_begun(p));
            check(r.end && r.head_done && r.used == u->bytes.len - u->rest);
            head_text(H1_REQUEST, h1_head(p), &text);
            check_str(buf_str(&text), u->head);
            check_str(r.body, u->body);
            h1_reset(p);
            free(copy);
            buf_finish(&text);
        }
    }
    h1_destroy(p);
}

static void pipelined_requests_are_told_apart(void **state) {
    struct str bytes = STR("POST /1 HTTP/1.1" RN HOST "Content-Length: 2" RN RN "abGET /2 HTTP/1.1" RN HOST RN RN
                           "POST /3 HTTP/1.1" RN HOST "Transfer-Encoding: chunked" RN RN "1" RN "c" RN CHUNKS "GET /4");
    static const char *const targets[] = {"/1", "/2", "/3"};
    static const char *const bodies[] = {"ab", "", "c"};
    struct h1 *p = h1_create(H1_REQUEST, &defaults);
    struct h1_result r;
    char *copy = str_dup(bytes);
    size_t at = 0;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        check_ok(h1_feed(p, copy + at, bytes.len - at, &r));
        check(r.end && r.keep_alive);
        check_str(h1_head(p)->target, targets[i]);
        check_str(r.body, bodies[i]);
        at += r.used;
        h1_reset(p);
    }
    check_int(bytes.len - at, 6);
    check_ok(h1_feed(p, copy + at, bytes.len - at, &r));
    check(!r.end && !r.head_done);
    free(copy);
    h1_destroy(p);
}

static void the_end_before_a_message_is_no_cut(void **state) {
    struct h1 *p = h1_create(H1_REQUEST, &defaults);
    struct h1_result r;
    (void)state;
    check_err(h1_feed_eof(p, &r), ERR_EOF);
    h1_destroy(p);
}

static void problems_are_told_without_quoting(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_requests); i++) {
        struct h1 *p = h1_create(H1_REQUEST, &defaults);
        struct h1_result r;
        char *copy = str_dup(bad_requests[i].bytes);
        enum err e = h1_feed(p, copy, bad_requests[i].bytes.len, &r);
        if (e != OK) {
            check(strlen(h1_problem(p)) > 5);
            check(!strstr(h1_problem(p), "hello"));
        }
        free(copy);
        h1_destroy(p);
    }
}

static void fields_removed_by_the_owner_stay_removed_when_kept(void **state) {
    struct h1 *p = h1_create(H1_REQUEST, &defaults);
    struct h1_result r;
    struct str bytes =
        STR("POST http://b/x HTTP/1.1" RN HOST "A: b" RN "Connection: a" RN "Content-Length: 2" RN "C: d" RN RN "a");
    char *copy = str_dup(bytes);
    char rest[] = "b";
    (void)state;
    check_ok(h1_feed(p, copy, bytes.len, &r));
    http_head_strip(&h1_head(p)->fields);
    check_ok(h1_keep_head(p));
    check_ok(h1_keep_head(p));
    free(copy);
    check_str(h1_head(p)->target, "/x");
    check_str(h1_head(p)->authority, "b");
    check_int(h1_head(p)->fields.n, 1);
    check_str(h1_head(p)->fields.v[0].name, "C");
    check_str(h1_head(p)->fields.v[0].value, "d");
    check_ok(h1_feed(p, rest, 1, &r));
    check(r.end);
    check_str(r.body, "b");
    h1_destroy(p);
}

struct exhausted {
    struct str bytes;
    size_t piece;
};

static void feed_without_memory(void *arg) {
    const struct exhausted *x = arg;
    struct h1 *p = h1_create(H1_REQUEST, &defaults);
    struct h1_result r = {.end = false};
    enum err e = p ? OK : ERR_NOMEM;
    for (size_t at = 0; e == OK && !r.end && at < x->bytes.len; at += x->piece) {
        struct str piece = str_first(str_skip(x->bytes, at), x->piece);
        char *copy = str_dup(piece);
        e = h1_feed(p, copy, piece.len, &r);
        if (e == OK && r.head_done) {
            e = h1_keep_head(p);
        }
        free(copy);
    }
    check(e == OK ? r.end : e == ERR_NOMEM);
    h1_destroy(p);
}

static void without_memory_a_request_fails_cleanly(void **state) {
    struct exhausted whole = {STR(POST "Content-Length: 5" RN RN "hello"), 1000};
    struct exhausted bytes = {STR(POST "Content-Length: 5" RN RN "hello"), 1};
    char *padding = xcalloc(1, 3000);
    struct buf b;
    (void)state;
    check_int(every_allocation_fails(feed_without_memory, &whole), 2 * 2);
    check(every_allocation_fails(feed_without_memory, &bytes) >= 2);
    memset(padding, 'x', 2999);
    buf_init(&b, 10000);
    check_ok(buf_printf(&b, POST "A: %s" RN RN, padding));
    struct exhausted large = {buf_str(&b), 100};
    check(every_allocation_fails(feed_without_memory, &large) >= 5 * 2);
    buf_finish(&b);
    free(padding);
}

// ---- writing

struct written {
    const char *name;
    struct head head;
    bool close, to_head;
    unsigned char minor;
    enum h1_framing framing;
    const char *bytes;
};

static struct field two_fields[] = {{.name = STR("A"), .value = STR("b")}, {.name = STR("C"), .value = STR("")}};
#define TWO                                                                                                            \
    { .v = two_fields, .n = 2, .cap = 2 }

static const struct written written_requests[] = {
    {"get",
     {.method = METHOD_GET, .method_name = STR("GET"), .target = STR("/x?y"), .authority = STR("a:8"), .fields = TWO},
     .framing = H1_NO_BODY,
     .bytes = "GET /x?y HTTP/1.1" RN "Host: a:8" RN "A: b" RN "C: " RN RN},
    {"get_with_body",
     {.method = METHOD_GET, .method_name = STR("GET"), .target = STR("/"), .authority = STR("a"), .body_len = 3},
     .framing = H1_LENGTH,
     .bytes = "GET / HTTP/1.1" RN "Host: a" RN "Content-Length: 3" RN RN},
    {"post",
     {.method = METHOD_POST,
      .method_name = STR("POST"),
      .target = STR("/"),
      .authority = STR("a"),
      .body_len = 1234567890123},
     .framing = H1_LENGTH,
     .bytes = "POST / HTTP/1.1" RN "Host: a" RN "Content-Length: 1234567890123" RN RN},
    {"post_empty",
     {.method = METHOD_POST, .method_name = STR("POST"), .target = STR("/"), .authority = STR("a")},
     .framing = H1_NO_BODY,
     .bytes = "POST / HTTP/1.1" RN "Host: a" RN "Content-Length: 0" RN RN},
    {"post_unknown",
     {.method = METHOD_POST,
      .method_name = STR("POST"),
      .target = STR("/"),
      .authority = STR("a"),
      .body_len = BODY_UNKNOWN},
     .close = true,
     .framing = H1_CHUNKED,
     .bytes = "POST / HTTP/1.1" RN "Host: a" RN "Transfer-Encoding: chunked" RN "Connection: close" RN RN},
    {"delete",
     {.method = METHOD_DELETE, .method_name = STR("DELETE"), .target = STR("/"), .authority = STR("a")},
     .framing = H1_NO_BODY,
     .bytes = "DELETE / HTTP/1.1" RN "Host: a" RN RN},
    {"nothing_is_null_safe",
     {.method = METHOD_OPTIONS, .method_name = STR("OPTIONS"), .target = STR("*")},
     .framing = H1_NO_BODY,
     .bytes = "OPTIONS * HTTP/1.1" RN "Host: " RN RN},
};

static const struct written written_answers[] = {
    {"length",
     {.status = 200, .fields = TWO, .body_len = 5},
     .minor = 1,
     .framing = H1_LENGTH,
     .bytes = "HTTP/1.1 200 OK" RN "A: b" RN "C: " RN "Content-Length: 5" RN RN},
    {"empty",
     {.status = 404},
     .minor = 1,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 404 Not Found" RN "Content-Length: 0" RN RN},
    {"empty_close",
     {.status = 404},
     .close = true,
     .minor = 1,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 404 Not Found" RN "Content-Length: 0" RN "Connection: close" RN RN},
    {"chunked",
     {.status = 299, .body_len = BODY_UNKNOWN},
     .minor = 1,
     .framing = H1_CHUNKED,
     .bytes = "HTTP/1.1 299 Unknown" RN "Transfer-Encoding: chunked" RN RN},
    {"until_close",
     {.status = 200, .body_len = BODY_UNKNOWN},
     .minor = 0,
     .framing = H1_UNTIL_CLOSE,
     .bytes = "HTTP/1.1 200 OK" RN "Connection: close" RN RN},
    {"length_to_http_1_0",
     {.status = 200, .body_len = 1},
     .close = true,
     .minor = 0,
     .framing = H1_LENGTH,
     .bytes = "HTTP/1.1 200 OK" RN "Content-Length: 1" RN "Connection: close" RN RN},
    {"to_head",
     {.status = 200, .body_len = 5},
     .to_head = true,
     .minor = 1,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 200 OK" RN "Content-Length: 5" RN RN},
    {"to_head_unknown",
     {.status = 200, .body_len = BODY_UNKNOWN},
     .to_head = true,
     .minor = 1,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 200 OK" RN RN},
    {"to_head_of_http_1_0_unknown",
     {.status = 200, .body_len = BODY_UNKNOWN},
     .to_head = true,
     .close = true,
     .minor = 0,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 200 OK" RN "Connection: close" RN RN},
    {"continue",
     {.status = 100},
     .close = true,
     .minor = 1,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 100 Continue" RN RN},
    {"early_hints",
     {.status = 103, .fields = TWO, .body_len = BODY_UNKNOWN},
     .minor = 1,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 103 Early Hints" RN "A: b" RN "C: " RN RN},
    {"no_content",
     {.status = 204, .body_len = BODY_UNKNOWN},
     .minor = 1,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 204 No Content" RN RN},
    {"no_content_close",
     {.status = 204},
     .close = true,
     .minor = 1,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 204 No Content" RN "Connection: close" RN RN},
    {"not_modified",
     {.status = 304, .body_len = 7},
     .minor = 1,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 304 Not Modified" RN "Content-Length: 7" RN RN},
    {"not_modified_unknown",
     {.status = 304, .body_len = BODY_UNKNOWN},
     .minor = 1,
     .framing = H1_NO_BODY,
     .bytes = "HTTP/1.1 304 Not Modified" RN RN},
};

static void check_written(const struct written *w, bool request) {
    struct buf out;
    enum h1_framing framing;
    buf_init(&out, 1000);
    check_ok(buf_str_append(&out, STR("before|")));
    check_ok(request ? h1_write_request(&out, &w->head, w->close, &framing)
                     : h1_write_response(&out, &w->head, w->to_head, w->minor, w->close, &framing));
    if (!str_eq(str_skip(buf_str(&out), 7), str_c(w->bytes)) || framing != w->framing) {
        fail_msg("%s: framing %d, \"%.*s\"", w->name, (int)framing, STR_ARG(buf_str(&out)));
    }
    buf_finish(&out);
}

static void heads_are_written_to_the_byte(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(written_requests); i++) {
        check_written(&written_requests[i], true);
    }
    for (size_t i = 0; i < ARRAY_LEN(written_answers); i++) {
        check_written(&written_answers[i], false);
    }
}

static void a_head_that_does_not_fit_changes_nothing(void **state) {
    struct buf out;
    enum h1_framing framing;
    (void)state;
    buf_init(&out, 100);
    check_ok(buf_str_append(&out, STR("before")));
    check_err(h1_write_request(&out, &written_requests[0].head, false, &framing), ERR_FULL);
    check_err(h1_write_response(&out, &written_answers[0].head, false, 1, false, &framing), ERR_FULL);
    check_str(buf_str(&out), "before");
    buf_finish(&out);
    buf_init(&out, 1000);
    mem_fail_after(1, 1);
    check_err(h1_write_request(&out, &written_requests[0].head, false, &framing), ERR_NOMEM);
    check_err(h1_write_response(&out, &written_answers[0].head, false, 1, false, &framing), ERR_NOMEM);
    mem_fail_after(0, 0);
    check_int(buf_len(&out), 0);
    buf_finish(&out);
}

TESTS(TEST(requests_are_understood_however_they_are_cut), TEST(answers_are_understood_however_they_are_cut),
      TEST(bad_requests_are_refused_however_they_are_cut), TEST(bad_answers_are_refused_however_they_are_cut),
      TEST(control_characters_are_refused_in_every_value), TEST(a_head_of_the_limit_is_fine_and_one_byte_more_is_not),
      TEST(a_body_does_not_count_as_head), TEST(an_answers_head_has_the_same_limit),
      TEST(as_many_fields_as_the_limit_are_fine_and_one_more_is_not),
      TEST(a_target_of_the_limit_is_fine_and_one_byte_more_is_not), TEST(a_long_line_is_understood_however_it_is_cut),
      TEST(a_long_connection_field_is_refused), TEST(an_endless_head_is_refused_at_the_limit),
      TEST(a_first_read_of_nothing_but_blanks_is_refused), TEST(endless_chunk_extensions_and_trailers_cost_no_memory),
      TEST(a_parser_takes_one_message_after_another), TEST(pipelined_requests_are_told_apart),
      TEST(the_end_before_a_message_is_no_cut), TEST(problems_are_told_without_quoting),
      TEST(fields_removed_by_the_owner_stay_removed_when_kept), TEST(without_memory_a_request_fails_cleanly),
      TEST(heads_are_written_to_the_byte), TEST(a_head_that_does_not_fit_changes_nothing))
