// SPDX-License-Identifier: MIT
// The resolver against a name server of ours on 127.0.0.1, in the same loop. Time is the real clock plus what
// the tests skip: c-ares waits in real time, TTLs pass at once.
#include "net/dns.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include "check.h"

static struct loop loop;

struct skipping_clock {
    struct clock clock;
    uint64_t skipped_ns;
};
static uint64_t skipping_now(struct clock *c) {
    struct clock *real = clock_monotonic();
    return real->now_ns(real) + container_of(c, struct skipping_clock, clock)->skipped_ns;
}
static struct skipping_clock now = {.clock = {skipping_now}};

// ---- The name server ----

enum answer { ANSWERS, NO_SUCH_NAME, NO_ADDRESSES, FAILS, REFUSES, SILENT, JUNK, LOOPS };

static struct server {
    struct io udp;
    struct io tcp;
    struct io stream;                 // one TCP connection at a time
    unsigned char pending[64 * 1024]; // of the answer by TCP, sent in small pieces
    size_t pending_len;
    size_t pending_sent;
    size_t piece;
    struct task trickle;
    char address[64];
    enum answer answer;
    unsigned ttl;
    unsigned count_4; // addresses in an answer
    unsigned count_6;
    unsigned first; // last byte of the first address
    bool cname;
    unsigned queries_4;
    unsigned queries_6;
    unsigned by_tcp;
} server;

static unsigned char *put16(unsigned char *p, unsigned v) {
    p[0] = (unsigned char)(v >> 8);
    p[1] = (unsigned char)v;
    return p + 2;
}

static unsigned char *put_record(unsigned char *p, unsigned name_at, unsigned type, unsigned len) {
    p = put16(p, 0xc000 | name_at);
    p = put16(p, type);
    p = put16(p, 1);
    p = put16(put16(p, server.ttl >> 16), server.ttl & 0xffff);
    return put16(p, len);
}

static unsigned char *put_addresses(unsigned char *p, unsigned name_at, unsigned type) {
    unsigned count = type == 28 ? server.count_6 : server.count_4;
    unsigned len = type == 28 ? 16 : 4;
    for (unsigned i = 0; i < count; i++) {
        p = put_record(p, name_at, type, len);
        memset(p, 0, len);
        p[0] = type == 28 ? 0x20 : 10; // 2000::1:x or 10.0.1.x
        p[len - 2] = 1;
        p[len - 1] = (unsigned char)(server.first + i);
        p += len;
    }
    return p;
}

// The answer to a query; returns its length, 0 for none.
static size_t answer(const unsigned char *query, size_t query_len, unsigned char *out, bool tcp) {
    size_t end = 12;
    while (end < query_len && query[end]) { // the name
        end += 1u + query[end];
    }
    end += 5; // root, type, class
    check(end <= query_len);
    unsigned type = query[end - 3];
    *(type == 28 ? &server.queries_6 : &server.queries_4) += 1;
    server.by_tcp += tcp;
    if (server.answer == SILENT) {
        return 0;
    }
    memcpy(out, query, end);
    unsigned code = server.answer == NO_SUCH_NAME ? 3 : server.answer == FAILS ? 2 : server.answer == REFUSES ? 5 : 0;
    put16(out + 2, 0x8180 | code);
    put16(out + 6, 0);
    put16(out + 8, 0);
    put16(out + 10, 0);
    unsigned char *p = out + end;
    unsigned answers = 0;
    if (server.answer == JUNK) {
        memset(out + 12, 0xff, 40); // a question nobody asked, of labels that lead nowhere
        return 52;
    }
    if (server.answer == LOOPS) { // an alias of itself
        p = put_record(p, 12, 5, 2);
        p = put16(p, 0xc00c);
        put16(out + 6, 1);
        return (size_t)(p - out);
    }
    if (server.answer == ANSWERS) {
        unsigned name_at = 12;
        if (server.cname) {
            p = put_record(p, 12, 5, 7);
            name_at = (unsigned)(p - out);
            memcpy(p, "\5alias\0", 7);
            p += 7;
            answers++;
        }
        p = put_addresses(p, name_at, type);
        answers += type == 28 ? server.count_6 : server.count_4;
    }
    put16(out + 6, answers);
    size_t len = (size_t)(p - out);
    if (!tcp && len > 1232) { // truncated: ask again by TCP
        out[2] |= 2;
        put16(out + 6, 0);
        len = end;
    }
    return len;
}

static void on_udp(struct io *io, unsigned events UNUSED) {
    unsigned char query[1500];
    static unsigned char out[64 * 1024];
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    ssize_t n;
    while ((n = recvfrom(io->fd, query, sizeof query, 0, (struct sockaddr *)&from, &from_len)) > 0) {
        size_t len = answer(query, (size_t)n, out, false);
        if (len) {
            check(sendto(io->fd, out, len, 0, (struct sockaddr *)&from, from_len) == (ssize_t)len);
        }
    }
}

// A piece each turn: the resolver must not need it whole, nor stop where a read ended.
static void on_trickle(struct task *task UNUSED) {
    size_t n = MIN(server.pending_len - server.pending_sent, server.piece);
    if (server.stream.fd < 0 || n == 0) {
        return;
    }
    ssize_t sent = send(server.stream.fd, server.pending + server.pending_sent, n, MSG_NOSIGNAL);
    if (sent > 0) {
        server.pending_sent += (size_t)sent;
        loop_defer(&loop, &server.trickle);
    }
}

static void on_stream(struct io *io, unsigned events UNUSED) {
    unsigned char query[2048];
    ssize_t n = recv(io->fd, query, sizeof query, 0);
    if (n == 0) {
        io_close(&loop, io);
        return;
    }
    // Both families' queries may come together; each: length, query.
    size_t at = 0;
    server.pending_len = server.pending_sent = 0;
    while (n > 0 && at + 2 <= (size_t)n) {
        size_t len = (size_t)(query[at] << 8 | query[at + 1]);
        check(at + 2 + len <= (size_t)n);
        unsigned char *out = server.pending + server.pending_len;
        size_t answer_len = answer(query + at + 2, len, out + 2, true);
        put16(out, (unsigned)answer_len);
        server.pending_len += answer_len ? answer_len + 2 : 0;
        at += len + 2;
    }
    loop_defer(&loop, &server.trickle);
}

static void on_accept(struct io *io, unsigned events UNUSED) {
    int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        io_close(&loop, &server.stream);
        check_ok(io_open(&loop, &server.stream, fd, IO_READ, on_stream));
    }
}

static void server_open(void) {
    struct address a;
    check_ok(address_parse(STR("127.0.0.1"), 0, &a));
    server =
        (struct server){.ttl = 60, .count_4 = 1, .first = 1, .piece = 700, .trickle.run = on_trickle, .stream.fd = -1};
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(bind(tcp, &a.sa, a.len) == 0 && listen(tcp, 4) == 0);
    check(getsockname(tcp, &a.sa, &a.len) == 0);
    check(bind(udp, &a.sa, a.len) == 0); // the same port
    address_format(&a, server.address);
    check_ok(io_open(&loop, &server.udp, udp, IO_READ, on_udp));
    check_ok(io_open(&loop, &server.tcp, tcp, IO_READ, on_accept));
}

static void server_close(void) {
    task_cancel(&server.trickle);
    io_close(&loop, &server.udp);
    io_close(&loop, &server.tcp);
    io_close(&loop, &server.stream);
}

// ---- Asking ----

struct asker {
    struct dns_query q;
    unsigned calls;
    enum err e;
    unsigned count;
    struct address addresses[DNS_ADDRESSES_MAX];
    bool inside;               // dns_resolve is running
    struct dns *ask_again;     // from inside the callback
    struct dns_query *cancels; // likewise
    struct asker *next;
};

static void on_resolved(struct dns_query *q, enum err e, const struct address *addresses, unsigned count) {
    struct asker *a = container_of(q, struct asker, q);
    check(!a->inside);
    a->calls++;
    a->e = e;
    a->count = count;
    for (unsigned i = 0; i < count; i++) {
        a->addresses[i] = addresses[i];
    }
    if (a->cancels) {
        dns_cancel(a->cancels);
    }
    if (a->ask_again) {
        struct asker *next = a->next;
        next->q.on_resolved = on_resolved;
        enum err again = dns_resolve(a->ask_again, &next->q, STR("other.example"), 1, next->addresses, &next->count);
        next->e = again;
    }
}

static enum err ask(struct dns *dns, struct asker *a, const char *host) {
    *a = (struct asker){.inside = true, .ask_again = a->ask_again, .cancels = a->cancels, .next = a->next};
    a->q.on_resolved = on_resolved;
    a->e = dns_resolve(dns, &a->q, str_c(host), 443, a->addresses, &a->count);
    a->inside = false;
    return a->e;
}

static void pass_ms(uint64_t ms) {
    now.skipped_ns += ms * 1000000;
    loop_turn(&loop, 0);
}

static void until_called(struct asker *a) {
    for (unsigned i = 0; i < 2000 && a->calls == 0; i++) {
        loop_turn(&loop, 5);
    }
    check_int(a->calls, 1);
}

static void spin(unsigned ms) {
    uint64_t end = loop.clock->now_ns(loop.clock) + (uint64_t)ms * 1000000;
    while (loop.clock->now_ns(loop.clock) < end) {
        loop_turn(&loop, 1);
    }
}

static struct dns *make(void) {
    server_open();
    return dns_create(&loop, &(struct dns_options){.servers = server.address, .timeout_ms = 60});
}

static void finish(struct dns *dns) {
    dns_destroy(dns);
    server_close();
    loop_turn(&loop, 0);
}

static void check_address(const struct address *a, const char *text) {
    char got[ADDRESS_TEXT];
    check_str(str_c(address_format(a, got)), text);
}

// Asks and waits; the name's addresses must be known then.
static void learn(struct dns *dns, const char *host) {
    struct asker a = {0};
    check_err(ask(dns, &a, host), ERR_AGAIN);
    until_called(&a);
    check_ok(a.e);
}

static void numeric_hosts_are_answered_at_once(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    check_ok(ask(dns, &a, "192.0.2.7"));
    check_int(a.count, 1);
    check_address(&a.addresses[0], "192.0.2.7:443");
    check_ok(ask(dns, &a, "2001:db8::5"));
    check_address(&a.addresses[0], "[2001:db8::5]:443");
    check_int(server.queries_4, 0);
    check_int(a.calls, 0);
    finish(dns);
}

static void what_is_no_name_is_refused_at_once(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    char longest[300];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    check_err(ask(dns, &a, ""), ERR_DNS);
    check_err(ask(dns, &a, "a b"), ERR_DNS);
    check_err(ask(dns, &a,
                  "b\xc3\xbc"
                  "cher.example"),
              ERR_DNS);
    check_err(ask(dns, &a, longest), ERR_DNS);
    check_str(str_c(a.q.problem), "not a host name");
    memset(longest, 'a', 70); // a label of more than 63 bytes is for c-ares to refuse
    longest[70] = '\0';
    if (ask(dns, &a, longest) == ERR_AGAIN) {
        until_called(&a);
    }
    check_err(a.e, ERR_DNS);
    finish(dns);
}

static void families_alternate(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    server.count_4 = 3;
    server.count_6 = 2;
    check_err(ask(dns, &a, "both.example"), ERR_AGAIN);
    until_called(&a);
    check_ok(a.e);
    check_int(a.count, 5);
    check_address(&a.addresses[0], "[2000::101]:443");
    check_address(&a.addresses[1], "10.0.1.1:443");
    check_address(&a.addresses[2], "[2000::102]:443");
    check_address(&a.addresses[3], "10.0.1.2:443");
    check_address(&a.addresses[4], "10.0.1.3:443");
    finish(dns);
}

static void a_ttl_is_honoured(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    learn(dns, "a.example");
    check_int(server.queries_4, 1);
    check_int(server.queries_6, 1);
    pass_ms(59000);
    server.first = 50;
    check_ok(ask(dns, &a, "A.EXAMPLE")); // names compare without case
    check_address(&a.addresses[0], "10.0.1.1:443");
    check_int(server.queries_4, 1);
    pass_ms(1001);
    check_err(ask(dns, &a, "a.example"), ERR_AGAIN);
    until_called(&a);
    check_address(&a.addresses[0], "10.0.1.50:443");
    check_int(server.queries_4, 2);
    finish(dns);
}

static void a_ttl_of_zero_lasts_a_second(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    server.ttl = 0;
    learn(dns, "zero.example");
    check_ok(ask(dns, &a, "zero.example"));
    check_int(server.queries_4, 1);
    pass_ms(DNS_TTL_MIN_MS);
    check_err(ask(dns, &a, "zero.example"), ERR_AGAIN);
    until_called(&a);
    check_int(server.queries_4, 2);
    finish(dns);
}

static void a_ttl_of_years_lasts_an_hour(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    server.ttl = 0x7fffffff;
    learn(dns, "long.example");
    pass_ms(DNS_TTL_MAX_MS - 1000);
    check_ok(ask(dns, &a, "long.example"));
    pass_ms(1001);
    check_err(ask(dns, &a, "long.example"), ERR_AGAIN);
    until_called(&a);
    finish(dns);
}

static void aliases_are_followed(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    server.cname = true;
    check_err(ask(dns, &a, "www.example"), ERR_AGAIN);
    until_called(&a);
    check_ok(a.e);
    check_address(&a.addresses[0], "10.0.1.1:443");
    finish(dns);
}

static void questions_share_a_query(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a[20] = {0};
    for (unsigned i = 0; i < ARRAY_LEN(a); i++) {
        check_err(ask(dns, &a[i], "shared.example"), ERR_AGAIN);
    }
    for (unsigned i = 0; i < ARRAY_LEN(a); i++) {
        until_called(&a[i]);
        check_ok(a[i].e);
        check_address(&a[i].addresses[0], "10.0.1.1:443");
    }
    check_int(server.queries_4, 1);
    finish(dns);
}

static void a_name_that_does_not_exist_is_remembered(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    server.answer = NO_SUCH_NAME;
    check_err(ask(dns, &a, "none.example."), ERR_AGAIN);
    until_called(&a);
    check_err(a.e, ERR_DNS);
    check_str(str_c(a.q.problem), "no such name");
    unsigned queries = server.queries_4;
    check_err(ask(dns, &a, "none.example."), ERR_DNS);
    check_str(str_c(a.q.problem), "no such name");
    check_int(server.queries_4, queries);
    pass_ms(DNS_NEGATIVE_MS);
    server.answer = ANSWERS;
    learn(dns, "none.example.");
    finish(dns);
}

static void failures_without_addresses(enum answer answers, const char *problem) {
    struct dns *dns = make();
    struct asker a = {0};
    server.answer = answers;
    check_err(ask(dns, &a, "bad.example."), ERR_AGAIN);
    until_called(&a);
    check_err(a.e, ERR_DNS);
    check_int(a.count, 0);
    if (problem) {
        check_str(str_c(a.q.problem), problem);
    }
    pass_ms(DNS_NEGATIVE_MS);
    server.answer = ANSWERS; // and it recovers, with a new channel where servers were silent
    learn(dns, "bad.example.");
    finish(dns);
}

static void failures_are_told_and_pass(void **state UNUSED) {
    failures_without_addresses(NO_ADDRESSES, "the name has no addresses");
    failures_without_addresses(FAILS, NULL);
    failures_without_addresses(REFUSES, NULL);
    failures_without_addresses(SILENT, "the name servers did not answer");
    failures_without_addresses(JUNK, NULL);
    failures_without_addresses(LOOPS, NULL);
}

static void a_dead_server_is_told(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    server_close();                               // nothing listens there now
    if (ask(dns, &a, "a.example") == ERR_AGAIN) { // c-ares 1.34 hears of it while it sends
        until_called(&a);
    }
    check_err(a.e, ERR_DNS);
    check(a.q.problem != NULL);
    finish(dns);
}

static void old_addresses_outlive_a_failing_server(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    learn(dns, "stale.example");
    server.answer = FAILS;
    pass_ms(60001);
    check_err(ask(dns, &a, "stale.example"), ERR_AGAIN);
    until_called(&a);
    check_ok(a.e);
    check_address(&a.addresses[0], "10.0.1.1:443");
    unsigned queries = server.queries_4;
    check_ok(ask(dns, &a, "stale.example")); // no waiting, no query
    check_int(server.queries_4, queries);
    pass_ms(DNS_NEGATIVE_MS);
    check_ok(ask(dns, &a, "stale.example")); // no waiting, but a query
    spin(30);
    check(server.queries_4 > queries);
    pass_ms(DNS_STALE_MS);
    check_err(ask(dns, &a, "stale.example"), ERR_AGAIN); // too old now
    until_called(&a);
    check_err(a.e, ERR_DNS);
    pass_ms(DNS_NEGATIVE_MS);
    server.answer = ANSWERS;
    server.first = 9;
    learn(dns, "stale.example");
    check_ok(ask(dns, &a, "stale.example"));
    check_address(&a.addresses[0], "10.0.1.9:443");
    finish(dns);
}

static void old_addresses_are_used_while_a_server_is_silent(void **state UNUSED) {
    struct dns *dns = dns_create(&loop, NULL); // replaced at once: destroying an unused one is nothing
    dns_destroy(dns);
    server_open();
    dns = dns_create(&loop, &(struct dns_options){.servers = server.address, .timeout_ms = 3000});
    struct asker a = {0};
    learn(dns, "silent.example");
    server.answer = SILENT;
    pass_ms(60001);
    check_err(ask(dns, &a, "silent.example"), ERR_AGAIN);
    spin(20);
    check_int(a.calls, 0);
    pass_ms(DNS_STALE_WAIT_MS); // long before the query's own timeout
    until_called(&a);
    check_ok(a.e);
    check_ok(ask(dns, &a, "silent.example")); // from now on without waiting
    server.answer = ANSWERS;
    finish(dns); // with the query still running
}

static void a_late_refresh_is_taken(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    learn(dns, "late.example");
    server.answer = SILENT;
    pass_ms(60001);
    check_err(ask(dns, &a, "late.example"), ERR_AGAIN);
    pass_ms(DNS_STALE_WAIT_MS);
    server.answer = ANSWERS; // for the second try
    server.first = 77;
    until_called(&a);
    check_address(&a.addresses[0], "10.0.1.1:443");
    for (unsigned i = 0; i < 200 && server.queries_4 < 3; i++) {
        spin(10);
    }
    spin(20);
    check_ok(ask(dns, &a, "late.example"));
    check_address(&a.addresses[0], "10.0.1.77:443");
    finish(dns);
}

static void no_such_name_ends_old_addresses(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    learn(dns, "gone.example.");
    server.answer = NO_SUCH_NAME;
    pass_ms(60001);
    check_err(ask(dns, &a, "gone.example."), ERR_AGAIN);
    until_called(&a);
    check_err(a.e, ERR_DNS);
    finish(dns);
}

static void many_addresses_come_by_tcp_and_are_bounded(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    server.count_4 = 100;
    server.count_6 = 100;
    check_err(ask(dns, &a, "many.example"), ERR_AGAIN);
    until_called(&a);
    check_ok(a.e);
    check_int(a.count, DNS_ADDRESSES_MAX);
    check(server.by_tcp > 0);
    check_address(&a.addresses[1], "10.0.1.1:443");
    check_address(&a.addresses[15], "10.0.1.8:443");
    finish(dns);
}

static void a_thousand_addresses_are_bounded_too(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    server.count_4 = 1000;
    server.piece = sizeof server.pending; // all with one event
    check_err(ask(dns, &a, "crowd.example"), ERR_AGAIN);
    until_called(&a);
    check_ok(a.e);
    check_int(a.count, DNS_ADDRESSES_MAX);
    finish(dns);
}

static void a_cancelled_query_is_not_called(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    struct asker b = {0};
    struct dns_query never = {0};
    dns_cancel(&never);
    check_err(ask(dns, &a, "c.example"), ERR_AGAIN);
    check_err(ask(dns, &b, "c.example"), ERR_AGAIN);
    dns_cancel(&a.q);
    dns_cancel(&a.q);
    until_called(&b);
    check_int(a.calls, 0);
    check_ok(ask(dns, &a, "c.example"));
    dns_cancel(&a.q);
    finish(dns);
}

static void callbacks_may_cancel_and_ask(void **state UNUSED) {
    struct dns *dns = make();
    struct asker third = {0};
    struct asker second = {0};
    struct asker first = {.ask_again = dns, .cancels = &second.q, .next = &third};
    check_err(ask(dns, &first, "r.example"), ERR_AGAIN);
    check_err(ask(dns, &second, "r.example"), ERR_AGAIN);
    until_called(&first);
    spin(10);
    check_int(second.calls, 0);
    until_called(&third);
    check_ok(third.e);
    finish(dns);
}

static void destroying_cancels_what_is_open(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    struct asker b = {0};
    struct asker c = {0};
    a.ask_again = dns; // is told the same
    a.next = &c;
    server.answer = SILENT;
    check_err(ask(dns, &a, "x.example"), ERR_AGAIN);
    check_err(ask(dns, &b, "y.example"), ERR_AGAIN);
    loop_turn(&loop, 5);
    finish(dns);
    check_int(a.calls, 1);
    check_err(a.e, ERR_CANCELLED);
    check_int(b.calls, 1);
    check_err(b.e, ERR_CANCELLED);
    check_err(c.e, ERR_CANCELLED);
    check_int(c.calls, 0);
    dns_destroy(NULL);
}

static void destroying_between_answer_and_delivery(void **state UNUSED) {
    for (unsigned turns = 0; turns < 6; turns++) {
        struct dns *dns = make();
        struct asker a = {0};
        check_err(ask(dns, &a, "d.example"), ERR_AGAIN);
        for (unsigned i = 0; i < turns; i++) {
            loop_turn(&loop, 1);
        }
        finish(dns);
        check_int(a.calls, 1);
    }
}

static void the_least_recently_used_name_is_dropped(void **state UNUSED) {
    struct dns *dns = make();
    struct asker a = {0};
    char host[40];
    server.ttl = 3600;
    for (unsigned i = 0; i < DNS_NAMES_MAX; i++) {
        snprintf(host, sizeof host, "n%u.example", i);
        learn(dns, host);
    }
    check_ok(ask(dns, &a, "n0.example")); // used again
    learn(dns, "one-more.example");
    check_ok(ask(dns, &a, "n0.example"));
    check_err(ask(dns, &a, "n1.example"), ERR_AGAIN);
    until_called(&a);
    finish(dns);
}

static void names_that_are_being_asked_for_are_bounded(void **state UNUSED) {
    struct dns *dns = make();
    static struct asker a[DNS_NAMES_MAX + 1];
    char host[40];
    server.answer = SILENT;
    for (unsigned i = 0; i <= DNS_NAMES_MAX; i++) {
        snprintf(host, sizeof host, "q%u.example", i);
        check_err(ask(dns, &a[i], host), i < DNS_NAMES_MAX ? ERR_AGAIN : ERR_FULL);
    }
    finish(dns);
    check_int(a[DNS_NAMES_MAX - 1].calls, 1);
    check_int(a[DNS_NAMES_MAX].calls, 0);
}

static void the_hosts_file_is_read(void **state UNUSED) {
    char path[] = "/tmp/thaw-hosts-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    fputs("192.0.2.33 box.example box\n", f);
    fclose(f);
    server_open();
    struct dns *dns =
        dns_create(&loop, &(struct dns_options){.servers = server.address, .hosts_file = path, .timeout_ms = 60});
    struct asker a = {0};
    if (ask(dns, &a, "box") == ERR_AGAIN) {
        until_called(&a);
    }
    check_ok(a.e);
    check_int(a.count, 1);
    check_address(&a.addresses[0], "192.0.2.33:443");
    check_int(server.queries_4, 0);
    finish(dns);
    unlink(path);
}

static void a_malformed_server_is_told(void **state UNUSED) {
    struct dns *dns = dns_create(&loop, &(struct dns_options){.servers = "not a server"});
    struct asker a = {0};
    if (ask(dns, &a, "a.example") == ERR_AGAIN) {
        until_called(&a);
    }
    check_err(a.e, ERR_DNS);
    dns_destroy(dns);
    loop_turn(&loop, 0);
}

static int set_up(void **state UNUSED) {
    check_ok(loop_init(&loop, &(struct loop_options){.clock = &now.clock}));
    return 0;
}
static int tear_down(void **state UNUSED) {
    check_int(loop.open_ios, 0);
    loop_finish(&loop);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(numeric_hosts_are_answered_at_once),
        TEST(what_is_no_name_is_refused_at_once),
        TEST(families_alternate),
        TEST(a_ttl_is_honoured),
        TEST(a_ttl_of_zero_lasts_a_second),
        TEST(a_ttl_of_years_lasts_an_hour),
        TEST(aliases_are_followed),
        TEST(questions_share_a_query),
        TEST(a_name_that_does_not_exist_is_remembered),
        TEST(failures_are_told_and_pass),
        TEST(a_dead_server_is_told),
        TEST(old_addresses_outlive_a_failing_server),
        TEST(old_addresses_are_used_while_a_server_is_silent),
        TEST(a_late_refresh_is_taken),
        TEST(no_such_name_ends_old_addresses),
        TEST(many_addresses_come_by_tcp_and_are_bounded),
        TEST(a_thousand_addresses_are_bounded_too),
        TEST(a_cancelled_query_is_not_called),
        TEST(callbacks_may_cancel_and_ask),
        TEST(destroying_cancels_what_is_open),
        TEST(destroying_between_answer_and_delivery),
        TEST(the_least_recently_used_name_is_dropped),
        TEST(names_that_are_being_asked_for_are_bounded),
        TEST(the_hosts_file_is_read),
        TEST(a_malformed_server_is_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
