// SPDX-License-Identifier: MIT
// Dialling on loopback: 127.0.0.x are different hosts, a listener whose backlog is full is one that never
// answers, names come from a hosts file. Time is the real clock plus what the tests skip.
#include "net/dial.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include "check.h"
#include "net/listen.h"
#include "net/tcp.h"
#include "certs.h"

static struct loop loop;
static struct dns *dns;
static char dir[CERT_PATH];
static struct cert authority, good, expired;
static struct tls_client *client;

struct skipping_clock {
    struct clock clock;
    uint64_t skipped_ns;
};
static uint64_t skipping_now(struct clock *c) {
    struct clock *real = clock_monotonic();
    return real->now_ns(real) + container_of(c, struct skipping_clock, clock)->skipped_ns;
}
static struct skipping_clock now = {.clock = {skipping_now}};

// ---- Servers ----

enum manner { HOLDS, SPEAKS_TLS, SAYS_A_BYTE_AND_LEAVES };

static struct server {
    struct listener listener;
    uint16_t port;
    enum manner manner;
    struct tls_server *tls;
    struct conn *conns[8];
    unsigned accepted;
    unsigned bytes;
} server;

static void say(struct conn *c, const char *text) {
    struct iovec v = {(char *)(uintptr_t)text, strlen(text)};
    size_t n = 0;
    check_ok(conn_writev(c, &v, 1, &n));
    check_int(n, v.iov_len);
}

static void on_server_event(struct conn *c, unsigned events UNUSED) {
    char into[100];
    size_t n = 0;
    enum err e = conn_read(c, into, sizeof into, &n);
    server.bytes += e == OK ? (unsigned)n : 0;
}

static void on_accept(struct listener *l UNUSED, struct conn *c) {
    struct conn *below = c;
    check(server.accepted < ARRAY_LEN(server.conns));
    if (server.manner == SPEAKS_TLS) {
        c = tls_accept(server.tls, NULL, c);
    } else if (server.manner == SAYS_A_BYTE_AND_LEAVES) {
        say(c, "\x16");
        conn_shutdown(c);
    }
    c->owner = &server;
    c->on_event = on_server_event;
    server.conns[server.accepted++] = c;
    check_ok(tcp_watch(below));
}

static uint16_t port_of(int fd) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    check(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    return ntohs(a.sin_port);
}

static void serve_on(const char *host, enum manner manner, const struct cert *cert) {
    struct address a;
    char problem[200];
    server = (struct server){.manner = manner};
    if (cert) {
        check_ok(tls_server_create(&(struct tls_identity){cert->cert_file, cert->key_file}, 1, NULL, &server.tls,
                                   problem, sizeof problem));
    }
    check_ok(address_parse(str_c(host), 0, &a));
    check_ok(listener_open(&server.listener, &loop, &a, on_accept, &server));
    server.port = port_of(server.listener.io.fd);
}

static void serve(enum manner manner, const struct cert *cert) { serve_on("127.0.0.1", manner, cert); }

static void serve_no_more(void) {
    for (unsigned i = 0; i < server.accepted; i++) {
        conn_close(server.conns[i]);
    }
    listener_close(&server.listener);
    tls_server_destroy(server.tls);
    loop_turn(&loop, 0);
}

// Hosts that never answer: the listener's queue is full, further SYNs are dropped.
static struct hole {
    int listener;
    int clients[3];
} holes[5];

static void hole_open(struct hole *h, const char *host, uint16_t port) {
    struct address a;
    check_ok(address_parse(str_c(host), port, &a));
    h->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(h->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    check(bind(h->listener, &a.sa, a.len) == 0 && listen(h->listener, 0) == 0);
    a.len = sizeof a.v6;
    check(getsockname(h->listener, &a.sa, &a.len) == 0);
    for (unsigned i = 0; i < ARRAY_LEN(h->clients); i++) {
        h->clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(h->clients[i], &a.sa, a.len);
    }
}

static void hole_close(struct hole *h) {
    for (unsigned i = 0; i < ARRAY_LEN(h->clients); i++) {
        close(h->clients[i]);
    }
    close(h->listener);
}

// A port where nothing listens.
static uint16_t closed_port(void) {
    struct address a;
    check_ok(address_parse(STR("127.0.0.1"), 0, &a));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(bind(fd, &a.sa, a.len) == 0);
    uint16_t port = port_of(fd);
    close(fd);
    return port;
}

// ---- Dialling ----

struct caller {
    struct dial *dial;
    unsigned calls;
    enum err e;
    struct conn *c;
    char problem[400];
    bool inside;
    bool closes; // in the callback
};

static void on_done(void *owner, enum err e, struct conn *c, const char *problem) {
    struct caller *caller = owner;
    check(!caller->inside);
    caller->calls++;
    caller->e = e;
    caller->c = c;
    check((c != NULL) == (e == OK));
    check(!c || c->owner == NULL);
    snprintf(caller->problem, sizeof caller->problem, "%s", problem);
    if (c && caller->closes) {
        conn_close(c), caller->c = NULL;
    }
}

static void call(struct caller *caller, const char *host, uint16_t port, struct tls_client *tls) {
    const struct dial_target target = {.host = str_c(host), .port = port, .tls = tls, .timeout_ms = 5000};
    *caller = (struct caller){.inside = true, .closes = caller->closes};
    caller->dial = dial_start(&loop, dns, &target, on_done, caller);
    caller->inside = false;
}

static void turns(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        loop_turn(&loop, 1);
    }
}

static void until_called(struct caller *caller) {
    for (unsigned i = 0; i < 1000 && caller->calls == 0; i++) {
        loop_turn(&loop, 5);
    }
    check_int(caller->calls, 1);
}

static void pass_ms(uint64_t ms) {
    now.skipped_ns += ms * 1000000;
    turns(3);
}

// "connect to `host`:`port``rest`"
static void check_connect_problem(const struct caller *caller, const char *host, unsigned port, const char *rest) {
    char wanted[400];
    snprintf(wanted, sizeof wanted, "connect to %s:%u%s", host, port, rest);
    check_str(str_c(caller->problem), wanted);
}

static void hang_up(struct caller *caller) {
    if (caller->c) {
        conn_close(caller->c);
    }
    loop_turn(&loop, 0);
}

static void a_listening_address_is_reached(void **state UNUSED) {
    struct caller caller = {0};
    serve(HOLDS, NULL);
    call(&caller, "127.0.0.1", server.port, NULL);
    until_called(&caller);
    check_ok(caller.e);
    check_str(str_c(caller.problem), "");
    turns(3);
    say(caller.c, "hello");
    turns(3);
    check_int(server.bytes, 5);
    hang_up(&caller);
    serve_no_more();
}

static void the_callee_may_close_at_once(void **state UNUSED) {
    struct caller caller = {.closes = true};
    serve(HOLDS, NULL);
    call(&caller, "127.0.0.1", server.port, NULL);
    until_called(&caller);
    check_ok(caller.e);
    serve_no_more();
    serve(SPEAKS_TLS, &good);
    call(&caller, "one.example", server.port, client);
    until_called(&caller);
    check_ok(caller.e);
    serve_no_more();
}

static void a_refusing_port_is_told(void **state UNUSED) {
    struct caller caller = {0};
    uint16_t port = closed_port();
    call(&caller, "127.0.0.1", port, NULL);
    until_called(&caller);
    check_err(caller.e, ERR_REFUSED);
    check_connect_problem(&caller, "127.0.0.1", port, ": the connection was refused");
}

static void every_refusal_is_counted(void **state UNUSED) {
    struct caller caller = {0};
    uint16_t port = closed_port();
    call(&caller, "three.example", port, NULL);
    until_called(&caller);
    check_err(caller.e, ERR_REFUSED);
    check_connect_problem(&caller, "127.0.3.2", port, ": the connection was refused (and 2 more addresses)");
}

static void an_unknown_name_is_told(void **state UNUSED) {
    struct caller caller = {0};
    call(&caller, "not a name", 80, NULL);
    until_called(&caller);
    check_err(caller.e, ERR_DNS);
    check_str(str_c(caller.problem), "resolve not a name: not a host name");
    call(&caller, "nobody.example", 80, NULL);
    until_called(&caller);
    check_err(caller.e, ERR_DNS);
    check(strncmp(caller.problem, "resolve nobody.example: ", 24) == 0);
}

static void a_dead_address_is_passed_over(void **state UNUSED) {
    struct caller caller = {0};
    serve_on("127.0.3.1", HOLDS, NULL); // the last of the three
    call(&caller, "three.example", server.port, NULL);
    until_called(&caller);
    check_ok(caller.e);
    hang_up(&caller);
    serve_no_more();
}

static void a_silent_address_is_given_a_quarter_second(void **state UNUSED) {
    struct caller caller = {0};
    serve_on("127.0.2.1", HOLDS, NULL);
    hole_open(&holes[0], "127.0.2.2", server.port);
    call(&caller, "silent.example", server.port, NULL); // 127.0.2.2, then 127.0.2.1
    turns(10);
    check_int(caller.calls, 0);
    pass_ms(DIAL_STAGGER_MS);
    until_called(&caller);
    check_ok(caller.e);
    turns(3);
    check_int(server.accepted, 1);
    hang_up(&caller);
    hole_close(&holes[0]);
    serve_no_more();
}

static void many_silent_addresses_give_way(void **state UNUSED) {
    struct caller caller = {0};
    serve_on("127.0.6.1", HOLDS, NULL);
    for (unsigned i = 0; i < 5; i++) {
        char host[20];
        snprintf(host, sizeof host, "127.0.6.%u", i + 2);
        hole_open(&holes[i], host, server.port);
    }
    call(&caller, "six.example", server.port, NULL);
    for (unsigned i = 0; i < 4; i++) {
        pass_ms(DIAL_STAGGER_MS);
        check_int(caller.calls, 0);
    }
    pass_ms(DIAL_STAGGER_MS);
    until_called(&caller);
    check_ok(caller.e);
    hang_up(&caller);
    for (unsigned i = 0; i < 5; i++) {
        hole_close(&holes[i]);
    }
    serve_no_more();
}

static void connecting_takes_no_longer_than_it_may(void **state UNUSED) {
    struct caller caller = {0};
    hole_open(&holes[0], "127.0.0.1", 0);
    uint16_t port = port_of(holes[0].listener);
    call(&caller, "127.0.0.1", port, NULL);
    turns(5);
    pass_ms(4900);
    check_int(caller.calls, 0);
    pass_ms(200);
    until_called(&caller);
    check_err(caller.e, ERR_TIMEOUT);
    check_connect_problem(&caller, "127.0.0.1", port, ": no answer within 5s");
    hole_close(&holes[0]);
}

static void resolving_takes_no_longer_than_it_may(void **state UNUSED) {
    // A name server that never answers: a bound socket that nobody reads.
    struct address a;
    char text[ADDRESS_TEXT];
    struct caller caller = {0};
    check_ok(address_parse(STR("127.0.0.1"), 0, &a));
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check(bind(fd, &a.sa, a.len) == 0 && getsockname(fd, &a.sa, &a.len) == 0);
    struct dns *usual = dns;
    dns = dns_create(&loop, &(struct dns_options){.servers = address_format(&a, text), .timeout_ms = 60000});
    call(&caller, "slow.example", 80, NULL);
    turns(3);
    pass_ms(5001);
    until_called(&caller);
    check_err(caller.e, ERR_TIMEOUT);
    check_str(str_c(caller.problem), "resolve slow.example: no answer within 5s");
    call(&caller, "slow.example", 80, NULL); // the resolver goes away under a dial
    turns(3);
    dns_destroy(dns);
    dns = usual;
    until_called(&caller);
    check_err(caller.e, ERR_CANCELLED);
    close(fd);
}

static void a_handshake_takes_no_longer_than_it_may(void **state UNUSED) {
    struct caller caller = {0};
    serve(HOLDS, NULL);
    call(&caller, "one.example", server.port, client);
    turns(10);
    pass_ms(5001);
    until_called(&caller);
    check_err(caller.e, ERR_TIMEOUT);
    check_str(str_c(caller.problem), "one.example: no TLS handshake within 5s");
    serve_no_more();
}

static void a_verified_server_is_reached(void **state UNUSED) {
    struct caller caller = {0};
    serve(SPEAKS_TLS, &good);
    call(&caller, "one.example", server.port, client);
    until_called(&caller);
    check_ok(caller.e);
    check_ok(tls_result(caller.c));
    say(caller.c, "secret");
    turns(5);
    check_int(server.bytes, 6);
    hang_up(&caller);
    serve_no_more();
}

static void a_server_that_cannot_be_verified_is_refused(void **state UNUSED) {
    struct caller caller = {0};
    serve(SPEAKS_TLS, &expired);
    call(&caller, "one.example", server.port, client);
    until_called(&caller);
    check_err(caller.e, ERR_TLS_VERIFY);
    check_str(str_c(caller.problem), "one.example: certificate has expired");
    call(&caller, "127.0.0.1", server.port, client);
    until_called(&caller);
    check_err(caller.e, ERR_TLS_VERIFY);
    check(strstr(caller.problem, "127.0.0.1: certificate is not for this address"));
    turns(3);
    check_int(server.bytes, 0);
    serve_no_more();
}

// The end may come with the very event that tells of the connection.
static void a_server_that_leaves_is_noticed(void **state UNUSED) {
    for (unsigned wait = 0; wait < 2; wait++) {
        struct caller caller = {0};
        serve(SAYS_A_BYTE_AND_LEAVES, NULL);
        call(&caller, "one.example", server.port, client);
        if (wait) { // everything is there before the loop looks
            struct conn *c = tcp_adopt(&loop, accept4(server.listener.io.fd, NULL, NULL, SOCK_NONBLOCK));
            on_accept(&server.listener, c);
            usleep(20000);
        }
        until_called(&caller);
        check_err(caller.e, ERR_TLS);
        check(strstr(caller.problem, "closed the connection during the TLS handshake"));
        serve_no_more();
    }
}

static void cancelling_works_at_any_moment(void **state UNUSED) {
    for (unsigned n = 0; n < 25; n++) {
        struct caller callers[3] = {0};
        serve_on("127.0.2.1", SPEAKS_TLS, &good);
        hole_open(&holes[0], "127.0.2.2", server.port);
        call(&callers[0], "127.0.2.1", server.port, client);
        call(&callers[1], "silent.example", server.port, client);
        call(&callers[2], "nobody.example", server.port, client);
        for (unsigned i = 0; i < n; i++) {
            loop_turn(&loop, 0);
            if (i % 5 == 4) {
                pass_ms(DIAL_STAGGER_MS);
            }
        }
        for (unsigned i = 0; i < 3; i++) {
            if (callers[i].calls == 0) {
                dial_cancel(callers[i].dial);
                dial_cancel(callers[i].dial); // until the turn ends
                turns(3);
                check_int(callers[i].calls, 0);
            }
            hang_up(&callers[i]);
        }
        hole_close(&holes[0]);
        serve_no_more();
    }
    dial_cancel(NULL);
}

// name: 127.0.n.2, .3 ... .n and last 127.0.n.1. No address has two names (c-ares 1.34.5 would merge them).
static void write_hosts(char *path) {
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    fputs("127.0.0.1 one.example\n", f);
    const char *names[] = {"silent.example", "three.example", "six.example"};
    const unsigned count[] = {2, 3, 6};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        for (unsigned host = 2; host <= count[i]; host++) {
            fprintf(f, "127.0.%u.%u %s\n", count[i], host, names[i]);
        }
        fprintf(f, "127.0.%u.1 %s\n", count[i], names[i]);
    }
    fclose(f);
}

static char hosts[] = "/tmp/thaw-hosts-XXXXXX";

static int set_up(void **state UNUSED) {
    char nameserver[40];
    char problem[200];
    snprintf(nameserver, sizeof nameserver, "127.0.0.1:%u", closed_port());
    write_hosts(hosts);
    check_ok(loop_init(&loop, &(struct loop_options){.clock = &now.clock}));
    dns = dns_create(&loop, &(struct dns_options){.servers = nameserver, .hosts_file = hosts, .timeout_ms = 50});
    cert_dir(dir);
    cert_make(&authority, dir, &(struct cert_options){.name = "authority", .authority = true});
    cert_make(&good, dir,
              &(struct cert_options){.name = "good",
                                     .alt_names = "DNS:one.example,DNS:silent.example,IP:127.0.2.1",
                                     .issuer = &authority});
    cert_make(
        &expired, dir,
        &(struct cert_options){
            .name = "expired", .alt_names = "DNS:one.example", .issuer = &authority, .from_s = -7200, .to_s = -3600});
    struct tls_client_options options = {.ca_file = authority.cert_file};
    check_ok(tls_client_create(&options, &client, problem, sizeof problem));
    return 0;
}

static int tear_down(void **state UNUSED) {
    dns_destroy(dns);
    tls_client_destroy(client);
    loop_turn(&loop, 0);
    check_int(loop.open_ios, 0);
    loop_finish(&loop);
    unlink(hosts);
    cert_finish(&authority);
    cert_finish(&good);
    cert_finish(&expired);
    rmdir(dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_listening_address_is_reached),
        TEST(the_callee_may_close_at_once),
        TEST(a_refusing_port_is_told),
        TEST(every_refusal_is_counted),
        TEST(an_unknown_name_is_told),
        TEST(a_dead_address_is_passed_over),
        TEST(a_silent_address_is_given_a_quarter_second),
        TEST(many_silent_addresses_give_way),
        TEST(connecting_takes_no_longer_than_it_may),
        TEST(resolving_takes_no_longer_than_it_may),
        TEST(a_handshake_takes_no_longer_than_it_may),
        TEST(a_verified_server_is_reached),
        TEST(a_server_that_cannot_be_verified_is_refused),
        TEST(a_server_that_leaves_is_noticed),
        TEST(cancelling_works_at_any_moment),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
