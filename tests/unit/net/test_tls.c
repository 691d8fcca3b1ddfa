// SPDX-License-Identifier: MIT
// TLS on both ends of a memory pair: every window size, every way a certificate can be wrong, every way to
// end.
#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "check.h"
#include "ev/clock.h"
#include "net/mem.h"
#include "certs.h"

static char dir[CERT_PATH];
static struct cert authority, other_authority, intermediate;
static struct cert authority_of_years, of_years;
static struct cert good, expired, early, self_signed, unknown, wildcard, partial, nameless, by_address, chained;

static struct loop loop;
static struct fake_clock time_source;

// OpenSSL's memory, to see that no record buffer (more than 16 KiB each) is left with an idle connection.
enum { BUFFER_BYTES = 16 * 1024 };
struct block {
    _Alignas(16) size_t size;
};
static int live_buffers;

static void *count_malloc(size_t size, const char *file UNUSED, int line UNUSED) {
    struct block *b = malloc(sizeof *b + size);
    if (!b) {
        return NULL;
    }
    b->size = size;
    live_buffers += size >= BUFFER_BYTES;
    return b + 1;
}

static void count_free(void *p, const char *file UNUSED, int line UNUSED) {
    if (p) {
        struct block *b = (struct block *)p - 1;
        live_buffers -= b->size >= BUFFER_BYTES;
        free(b);
    }
}

static void *count_realloc(void *p, size_t size, const char *file, int line) {
    void *moved = count_malloc(size, file, line);
    if (p && moved) {
        memcpy(moved, p, MIN(size, ((struct block *)p - 1)->size));
        count_free(p, file, line);
    }
    return moved;
}

// One end: sends `out_len` bytes of a pattern, checks that what it gets is the pattern, notes how it ends.
struct side {
    struct conn *c;
    struct conn *raw; // what the TLS conn stands on
    size_t out_len;
    size_t sent;
    size_t got;
    enum err result; // of the handshake
    enum err end;    // how reading ended, OK while it goes on
    enum err write_end;
    unsigned seed; // of the sizes of pieces
    unsigned events;
    unsigned close_at; // close in this event; 0: never
    bool abort;
    bool finish; // shut down when all is sent
    bool deaf;   // does not read
};

static unsigned next_random(struct side *s) { return (s->seed = s->seed * 1103515245u + 12345u) >> 16; }

static char pattern_at(size_t i) { return (char)(i * 7 + (i >> 8) * 13 + (i >> 16)); }

static char pattern[1 << 20];

static void push(struct side *s) {
    while (s->sent < s->out_len && s->write_end == OK) {
        struct iovec v[5];
        size_t offered = 0;
        for (int i = 0; i < 5; i++) { // other pieces each time, empty ones among them
            size_t n = next_random(s) % 5 == 0 ? 0 : next_random(s) % (i == 3 ? 50000 : 3000);
            n = MIN(n, s->out_len - s->sent - offered);
            v[i] = (struct iovec){pattern + s->sent + offered, n};
            offered += n;
        }
        size_t written = 0;
        s->write_end = conn_writev(s->c, v, 5, &written);
        check(written <= offered);
        s->sent += written;
        if (written < offered) {
            return;
        }
    }
    if (s->finish && s->sent == s->out_len) {
        s->finish = false;
        conn_shutdown(s->c);
    }
}

static void pull(struct side *s) {
    static char into[64 * 1024];
    while (s->end == OK && !s->deaf) {
        size_t room = 1 + next_random(s) % 20000;
        size_t n = 0;
        enum err e = conn_read(s->c, into, room, &n);
        if (e == ERR_AGAIN) {
            check_int(n, 0);
            return;
        }
        s->end = e;
        check(memcmp(into, pattern + s->got, n) == 0);
        s->got += n;
        if (e == OK && n < room) {
            return;
        }
    }
}

static void on_event(struct conn *c, unsigned events) {
    struct side *s = c->owner;
    s->events++;
    if (s->events == s->close_at) {
        s->abort ? conn_abort(c) : conn_close(c);
        return;
    }
    s->result = tls_result(c);
    check(s->result != ERR_AGAIN);
    if (s->result == OK && (events & CONN_WRITABLE)) {
        push(s);
    }
    if (s->result == OK && (events & (CONN_READABLE | CONN_HUP))) {
        pull(s);
    }
}

static void listen_to(struct side *s) {
    s->c->owner = s;
    s->c->on_event = on_event;
    s->result = ERR_AGAIN;
}

static void side_close(struct side *s) {
    if (s->c) {
        conn_close(s->c);
    }
}

struct setup {
    const struct cert *server_cert;
    const char *host;
    const char *client_alpn;
    const char *server_alpn;
    const char *ca_file; // NULL: the good authority's
    size_t window;       // 0: 64 KiB
};

static struct tls_client *client_new(const char *ca_file, const char *alpn) {
    struct tls_client *client = NULL;
    char problem[256] = "";
    struct tls_client_options options = {.ca_file = ca_file, .alpn = alpn};
    check_ok(tls_client_create(&options, &client, problem, sizeof problem));
    return client;
}

static struct tls_server *server_new(const struct cert *cert, const char *alpn) {
    struct tls_server *server = NULL;
    char problem[256] = "";
    check_ok(tls_server_create(&(struct tls_identity){cert->cert_file, cert->key_file}, 1, alpn, &server, problem,
                               sizeof problem));
    return server;
}

// Begins a handshake; client and server objects are given back at once: the conns keep what they need.
static void join(const struct setup *o, struct side *client, struct side *server) {
    struct tls_client *tls_client = client_new(o->ca_file ? o->ca_file : authority.cert_file, o->client_alpn);
    struct tls_server *tls_server = server_new(o->server_cert ? o->server_cert : &good, o->server_alpn);
    mem_pair(&loop, o->window ? o->window : MEM_WINDOW, &client->raw, &server->raw);
    client->c = tls_connect(tls_client, client->raw, str_c(o->host ? o->host : "a.example"));
    server->c = tls_accept(tls_server, NULL, server->raw);
    tls_client_destroy(tls_client);
    tls_server_destroy(tls_server);
    listen_to(client);
    listen_to(server);
}

static void turns(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        loop_turn(&loop, 0);
    }
}

// Until nothing has happened for a while.
static void settle(void) {
    for (unsigned idle = 0; idle < 3;) {
        idle = loop_turn(&loop, 0) ? 0 : idle + 1;
    }
}

static void end(struct side *client, struct side *server) {
    side_close(client);
    side_close(server);
    settle();
}

static void transfer(size_t window, size_t bytes) {
    struct side client = {.out_len = bytes, .seed = 1, .finish = true};
    struct side server = {.out_len = bytes, .seed = 2, .finish = true};
    join(&(struct setup){.window = window}, &client, &server);
    settle();
    check_ok(client.result);
    check_ok(server.result);
    check_int(client.sent, bytes);
    check_int(server.sent, bytes);
    check_int(client.got, bytes);
    check_int(server.got, bytes);
    check_err(client.end, ERR_EOF);
    check_err(server.end, ERR_EOF);
    end(&client, &server);
}

static void a_megabyte_each_way_through_a_wide_window(void **state UNUSED) { transfer(64 * 1024, 1 << 20); }
static void a_megabyte_each_way_through_seven_bytes(void **state UNUSED) { transfer(7, 1 << 20); }
static void a_megabyte_each_way_through_a_single_byte(void **state UNUSED) { transfer(1, 1 << 20); }

static void refused(const struct cert *cert, const char *host, const char *problem) {
    struct side client = {.out_len = 1000};
    struct side server = {0};
    join(&(struct setup){.server_cert = cert, .host = host}, &client, &server);
    push(&client); // a caller in a hurry: nothing may be taken before the verdict
    check_int(client.sent, 0);
    settle();
    check_err(client.result, ERR_TLS_VERIFY);
    check_str(str_c(tls_problem(client.c)), problem);
    check_int(client.sent, 0);
    push(&client);
    check_err(client.write_end, ERR_TLS_VERIFY);
    check_int(server.got, 0);
    check_err(server.result, ERR_TLS); // by our alert
    check(strstr(tls_problem(server.c), "alert"));
    end(&client, &server);
}

static void an_expired_certificate_is_refused(void **state UNUSED) {
    refused(&expired, "a.example", "certificate has expired");
}
static void a_certificate_of_tomorrow_is_refused(void **state UNUSED) {
    refused(&early, "a.example", "certificate is not valid yet");
}
static void a_certificate_for_another_name_is_refused(void **state UNUSED) {
    refused(&good, "b.example", "certificate is not for b.example (but for a.example, www.a.example)");
}
static void a_self_signed_certificate_is_refused(void **state UNUSED) {
    refused(&self_signed, "a.example", "certificate is self-signed");
}
static void an_unknown_authority_is_refused(void **state UNUSED) {
    refused(&unknown, "a.example",
            "certificate comes from an authority that is not trusted here, or the server does not send its "
            "intermediate certificates");
}
static void a_missing_intermediate_is_refused(void **state UNUSED) {
    refused(&chained, "a.example",
            "certificate comes from an authority that is not trusted here, or the server does not send its "
            "intermediate certificates");
}
static void a_name_outside_the_alternative_names_is_refused(void **state UNUSED) {
    refused(&nameless, "nameless.example", "certificate is not for nameless.example");
}
static void a_partial_wildcard_is_refused(void **state UNUSED) {
    refused(&partial, "foo.wild.example", "certificate is not for foo.wild.example (but for f*.wild.example)");
}
static void a_wildcard_covers_one_label_only(void **state UNUSED) {
    refused(&wildcard, "x.y.wild.example", "certificate is not for x.y.wild.example (but for *.wild.example)");
}
static void an_address_is_not_a_name(void **state UNUSED) {
    refused(&good, "192.0.2.1", "certificate is not for this address (but for a.example, www.a.example)");
}

static void accepted(const struct cert *cert, const char *host, const char *ca_file) {
    struct side client = {.out_len = 10, .seed = 1};
    struct side server = {0};
    join(&(struct setup){.server_cert = cert, .host = host, .ca_file = ca_file}, &client, &server);
    settle();
    check_ok(client.result);
    check_int(server.got, 10);
    check_str(str_c(tls_problem(client.c)), "");
    end(&client, &server);
}

static void names_that_the_certificate_has_are_accepted(void **state UNUSED) {
    accepted(&good, "a.example", NULL);
    accepted(&good, "WWW.A.EXAMPLE", NULL);
    accepted(&good, "a.example.", NULL);
    accepted(&wildcard, "x.wild.example", NULL);
    accepted(&by_address, "192.0.2.1", NULL);
    accepted(&by_address, "2001:db8::1", NULL);
    accepted(&self_signed, "a.example", self_signed.cert_file); // pinned
    accepted(&chained, "a.example", intermediate.cert_file);    // an intermediate is enough
}

static void hosts_that_cannot_be_verified_are_refused(void **state UNUSED) {
    char longest[300];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const struct str hosts[] = {STR(""), STR("."), str_c(longest), STR("a.example\0.b")};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct tls_client *tls_client = client_new(authority.cert_file, NULL);
        struct side client = {0};
        struct conn *peer;
        mem_pair(&loop, MEM_WINDOW, &client.raw, &peer);
        client.c = tls_connect(tls_client, client.raw, hosts[i]);
        listen_to(&client);
        settle();
        check_err(client.result, ERR_TLS_VERIFY);
        check(*tls_problem(client.c));
        conn_close(client.c);
        conn_close(peer);
        tls_client_destroy(tls_client);
        settle();
    }
}

static void the_end_of_tls_is_an_end(void **state UNUSED) {
    struct side client = {0};
    struct side server = {.out_len = 100000, .finish = true};
    join(&(struct setup){0}, &client, &server);
    settle();
    check_int(client.got, 100000);
    check_err(client.end, ERR_EOF);
    end(&client, &server);
}

// Data and close_notify are read in one call, which must give the data; no event from below is left to come.
static void an_end_read_together_with_data_is_told(void **state UNUSED) {
    struct side client = {0};
    struct side server = {0};
    join(&(struct setup){0}, &client, &server);
    settle();
    client.deaf = true;
    server.out_len = 5000;
    server.finish = true;
    push(&server);
    settle();
    check_int(client.got, 0);
    client.deaf = false;
    client.events = 0;
    char into[8192];
    size_t n = 0;
    check_ok(conn_read(client.c, into, sizeof into, &n));
    check_int(n, 5000);
    client.got = n;
    settle(); // an event announces the end
    check(client.events > 0);
    check_err(client.end, ERR_EOF);
    end(&client, &server);
}

static void fin_without_close_notify_is_a_cut(void **state UNUSED) {
    struct side client = {0};
    struct side server = {.out_len = 3000};
    join(&(struct setup){0}, &client, &server);
    settle();
    conn_shutdown(server.raw);
    settle();
    check_int(client.got, 3000);
    check_err(client.end, ERR_CUT);
    check(strstr(tls_problem(client.c), "close_notify"));
    end(&client, &server);
}

static void a_broken_stream_is_a_reset(void **state UNUSED) {
    struct side client = {0};
    struct side server = {0};
    join(&(struct setup){0}, &client, &server);
    settle();
    mem_break(client.raw);
    settle();
    check_err(client.end, ERR_RESET);
    client.out_len = 10;
    push(&client);
    check_err(client.write_end, ERR_RESET);
    end(&client, &server);
}

// The peer answers and breaks off while we still send: its answer can be read although writing fails.
static void what_came_before_a_failed_write_can_be_read(void **state UNUSED) {
    struct side client = {.deaf = true};
    struct side server = {.out_len = 2000, .finish = true};
    join(&(struct setup){0}, &client, &server);
    settle();
    check_ok(client.result);
    conn_close(server.c), server.c = NULL;
    settle();
    client.out_len = 100;
    push(&client);
    check_err(client.write_end, ERR_RESET);
    client.deaf = false;
    pull(&client);
    pull(&client);
    check_int(client.got, 2000);
    check_err(client.end, ERR_EOF);
    end(&client, &server);
}

static void after_our_end_reading_goes_on(void **state UNUSED) {
    struct side client = {.out_len = 10, .finish = true};
    struct side server = {0};
    join(&(struct setup){0}, &client, &server);
    settle();
    check_err(server.end, ERR_EOF);
    check_err(client.end, OK);
    server.out_len = 200000;
    server.finish = true;
    push(&server);
    settle();
    check_int(client.got, 200000);
    check_err(client.end, ERR_EOF);
    end(&client, &server);
}

static void a_damaged_record_ends_the_stream(void **state UNUSED) {
    struct side client = {0};
    struct side server = {.out_len = 700};
    join(&(struct setup){0}, &client, &server);
    settle();
    char record[5 + 40] = {23, 3, 3, 0, 40, 'x'};
    struct iovec v = {record, sizeof record};
    size_t n = 0;
    check_ok(conn_writev(server.raw, &v, 1, &n));
    settle();
    check_int(client.got, 700);
    check_err(client.end, ERR_TLS);
    check(*tls_problem(client.c));
    client.out_len = 10;
    push(&client);
    check(client.write_end != OK || client.sent == 0);
    end(&client, &server);
}

static void the_end_follows_what_was_written(void **state UNUSED) { // also where the window is narrow
    struct side client = {.out_len = 40000, .finish = true};
    struct side server = {0};
    join(&(struct setup){.window = 11}, &client, &server);
    settle();
    check_int(server.got, 40000);
    check_err(server.end, ERR_EOF);
    end(&client, &server);
}

static void a_peer_that_does_not_speak_tls(const char *bytes, size_t len, enum err wanted, const char *problem) {
    struct tls_client *tls_client = client_new(authority.cert_file, NULL);
    struct side client = {0};
    struct conn *peer;
    size_t written = 0;
    struct iovec v = {(char *)(uintptr_t)bytes, len};
    mem_pair(&loop, MEM_WINDOW, &client.raw, &peer);
    client.c = tls_connect(tls_client, client.raw, STR("a.example"));
    listen_to(&client);
    turns(3);
    check_ok(conn_writev(peer, &v, 1, &written));
    conn_shutdown(peer);
    settle();
    check_err(client.result, wanted);
    check(strstr(tls_problem(client.c), problem));
    conn_close(client.c);
    conn_close(peer);
    tls_client_destroy(tls_client);
    settle();
}

static void peers_that_do_not_speak_tls_are_named(void **state UNUSED) {
    static const char http[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    static const char alert_version[] = {0x15, 3, 1, 0, 2, 2, 70};
    static const char alert_handshake[] = {0x15, 3, 1, 0, 2, 2, 40};
    a_peer_that_does_not_speak_tls(http, sizeof http - 1, ERR_TLS, "the peer does not speak TLS on this port");
    a_peer_that_does_not_speak_tls(alert_version, sizeof alert_version, ERR_TLS,
                                   "the peer speaks no version of TLS that is safe (1.2 or later)");
    a_peer_that_does_not_speak_tls(NULL, 0, ERR_TLS, "the peer closed the connection during the TLS handshake");
    a_peer_that_does_not_speak_tls("\x16", 1, ERR_TLS, "the peer closed the connection during the TLS handshake");
    a_peer_that_does_not_speak_tls(alert_handshake, sizeof alert_handshake, ERR_TLS, "alert handshake failure");
}

static void a_reset_during_the_handshake_is_a_reset(void **state UNUSED) {
    struct side client = {0};
    struct side server = {0};
    join(&(struct setup){.window = 100}, &client, &server);
    turns(2);
    mem_break(client.raw);
    settle();
    check_err(client.result, ERR_RESET);
    check_err(server.result, ERR_RESET);
    check_str(str_c(tls_problem(client.c)), "TLS handshake: the connection was reset");
    end(&client, &server);
}

static void alpn_picks_what_the_server_prefers(void **state UNUSED) {
    struct side client = {0};
    struct side server = {0};
    join(&(struct setup){.client_alpn = "http/1.1,h2", .server_alpn = "h2,http/1.1"}, &client, &server);
    settle();
    check_str(tls_alpn(client.c), "h2");
    check_str(tls_alpn(server.c), "h2");
    end(&client, &server);
    client = server = (struct side){0};
    join(&(struct setup){.client_alpn = "h2"}, &client, &server);
    settle();
    check_ok(client.result);
    check_str(tls_alpn(client.c), "");
    end(&client, &server);
    client = server = (struct side){0};
    join(&(struct setup){.client_alpn = "h2", .server_alpn = "http/1.1"}, &client, &server);
    settle();
    check_err(client.result, ERR_TLS);
    check_err(server.result, ERR_TLS);
    end(&client, &server);
}

static void head_and_body_share_a_record(void **state UNUSED) {
    struct side client = {0};
    struct side server = {0};
    join(&(struct setup){0}, &client, &server);
    settle();
    server.raw->owner = NULL; // from here the test reads what arrives
    struct iovec v[] = {{pattern, 300}, {pattern, 0}, {pattern + 300, 20}, {pattern + 320, 5000}};
    size_t n = 0;
    check_ok(conn_writev(client.c, v, ARRAY_LEN(v), &n));
    check_int(n, 5320);
    unsigned char wire[8192];
    settle();
    check_ok(conn_read(server.raw, wire, sizeof wire, &n));
    check_int(wire[0], 23); // application data
    check_int(n, 5 + (wire[3] << 8 | wire[4]));
    end(&client, &server);
}

static void other_bytes_after_a_short_write_end_the_connection(void **state UNUSED) {
    struct side client = {0};
    struct side server = {0};
    join(&(struct setup){.window = 100}, &client, &server);
    settle();
    client.c->owner = NULL; // the test writes itself
    struct iovec v = {pattern, 1000};
    size_t n = 1;
    check_ok(conn_writev(client.c, &v, 1, &n));
    check_int(n, 0); // a record, of which the window took a part
    settle();
    struct iovec part = {pattern, 10}; // less of the same is fine
    check_ok(conn_writev(client.c, &part, 1, &n));
    check_int(n, 10);
    part = (struct iovec){pattern + 10, 990};
    check_ok(conn_writev(client.c, &part, 1, &n));
    check_int(n, 990);
    v.iov_base = pattern + 1000;
    check_ok(conn_writev(client.c, &v, 1, &n));
    check_int(n, 0);
    settle();
    v.iov_base = pattern; // begins otherwise
    check_err(conn_writev(client.c, &v, 1, &n), ERR_SYS);
    check_int(n, 0);
    end(&client, &server);
}

static void an_idle_connection_reads_nothing_and_keeps_no_buffer(void **state UNUSED) {
    struct side client = {0};
    struct side server = {0};
    int before = live_buffers; // OpenSSL's tables may be as large
    join(&(struct setup){0}, &client, &server);
    settle(); // session tickets have come meanwhile
    char into[10];
    size_t n = 1;
    check_err(conn_read(client.c, into, sizeof into, &n), ERR_AGAIN);
    check_int(n, 0);
    check_ok(conn_writev(client.c, NULL, 0, &n));
    check_int(n, 0);
    check_int(live_buffers, before);
    client.out_len = server.out_len = 50000;
    push(&client);
    push(&server);
    settle();
    check_int(server.got, 50000);
    check_int(client.got, 50000);
    check_int(live_buffers, before);
    end(&client, &server);
}

// The handshake's last event brings the server's first bytes while nobody listens yet: whoever takes the conn
// over reads by itself.
static void bytes_that_came_with_the_handshake_wait_for_the_owner(void **state UNUSED) {
    struct side client = {.deaf = true};
    struct side server = {.out_len = 500};
    join(&(struct setup){0}, &client, &server);
    client.c->owner = NULL;
    settle();
    check_ok(tls_result(client.c));
    client.deaf = false;
    listen_to(&client);
    pull(&client);
    check_int(client.got, 500);
    end(&client, &server);
}

static void what_was_acknowledged_is_asked_below(void **state UNUSED) {
    struct side client = {0};
    struct side server = {0};
    join(&(struct setup){0}, &client, &server);
    settle();
    conn_mark(client.c);
    check(conn_untouched(client.c));
    server.raw->owner = NULL;
    client.out_len = 100;
    push(&client);
    settle();
    check(conn_untouched(client.c));
    char wire[1000];
    size_t n;
    check_ok(conn_read(server.raw, wire, sizeof wire, &n));
    check(!conn_untouched(client.c));
    end(&client, &server);
}

static void closing_works_at_any_moment(void **state UNUSED) {
    for (int abort = 0; abort <= 1; abort++) {
        for (unsigned n = 0; n < 60; n++) {
            struct side client = {.out_len = 3000, .seed = n};
            struct side server = {.out_len = 3000, .seed = n, .finish = true};
            join(&(struct setup){.window = 1000}, &client, &server);
            turns(n);
            abort ? conn_abort(client.c) : conn_close(client.c);
            conn_close(client.c); // idempotent
            check_err(tls_result(client.c), ERR_CANCELLED);
            check_str(str_c(tls_problem(client.c)), "");
            turns(n % 3);
            end(&(struct side){0}, &server);
        }
    }
}

static void closing_works_inside_any_callback(void **state UNUSED) {
    for (int abort = 0; abort <= 1; abort++) {
        for (unsigned n = 1; n < 40; n++) {
            struct side client = {.out_len = 3000, .seed = n, .close_at = n, .abort = abort};
            struct side server = {.out_len = 3000, .seed = n, .close_at = n * 3 / 2, .finish = true};
            join(&(struct setup){.window = 300}, &client, &server);
            settle();
            bool closed = client.events >= n;
            bool server_closed = server.close_at && server.events >= server.close_at;
            end(closed ? &(struct side){0} : &client, server_closed ? &(struct side){0} : &server);
        }
    }
}

static void survives_want_of_memory_once(void *arg UNUSED) {
    struct side client = {.out_len = 50, .seed = 3};
    struct side server = {.out_len = 50, .seed = 4};
    join(&(struct setup){.window = 61}, &client, &server);
    for (int i = 0; i < 200; i++) {
        loop_turn(&loop, 0);
    }
    end(&client, &server);
}

static void survives_want_of_memory(void **state UNUSED) {
    check(every_allocation_fails(survives_want_of_memory_once, NULL) > 0);
}

static void problems_with_files_are_named(void **state UNUSED) {
    struct tls_client *client = NULL;
    struct tls_server *server = NULL;
    char problem[256] = "";
    struct tls_client_options options = {.ca_file = "/nonexistent/ca.pem"};
    check_err(tls_client_create(&options, &client, problem, sizeof problem), ERR_INVALID);
    check(strstr(problem, "/nonexistent/ca.pem"));
    check_err(tls_server_create(&(struct tls_identity){"/nonexistent/c.pem", good.key_file}, 1, NULL, &server, problem,
                                sizeof problem),
              ERR_INVALID);
    check(strstr(problem, "/nonexistent/c.pem"));
    check_err(tls_server_create(&(struct tls_identity){good.cert_file, expired.key_file}, 1, NULL, &server, problem,
                                sizeof problem),
              ERR_INVALID);
    check(strstr(problem, "mismatch"));
    options = (struct tls_client_options){.ca_file = authority.cert_file, .alpn = "h2,,http/1.1"};
    check_err(tls_client_create(&options, &client, problem, sizeof problem), ERR_INVALID);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static void a_key_that_others_may_read_is_refused(void **state UNUSED) {
    struct tls_server *server = NULL;
    char problem[256] = "";
    const struct tls_identity identity = {good.cert_file, good.key_file};
    check(chmod(good.key_file, 0640) == 0);
    check_err(tls_server_create(&identity, 1, NULL, &server, problem, sizeof problem), ERR_INVALID);
    check(strstr(problem, good.key_file) && strstr(problem, "mode 0640"));
    check(chmod(good.key_file, 0400) == 0);
    check_ok(tls_server_create(&identity, 1, NULL, &server, problem, sizeof problem));
    tls_server_destroy(server);
}

static void the_name_asked_for_chooses_the_certificate(void **state UNUSED) {
    const struct tls_identity identities[] = {{good.cert_file, good.key_file}, {wildcard.cert_file, wildcard.key_file}};
    static const struct {
        const char *host;
        enum err result;
    } rows[] = {
        {"a.example", OK},
        {"WWW.a.example", OK},
        {"x.wild.example", OK},
        {"x.y.wild.example", ERR_TLS_VERIFY}, // gets the first one, which it is not for
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct side client = {0};
        struct side server = {0};
        struct tls_server *tls_server = NULL;
        struct tls_client *tls_client = client_new(authority.cert_file, "h2");
        char problem[256] = "";
        check_ok(tls_server_create(identities, ARRAY_LEN(identities), "h2", &tls_server, problem, sizeof problem));
        mem_pair(&loop, MEM_WINDOW, &client.raw, &server.raw);
        client.c = tls_connect(tls_client, client.raw, str_c(rows[i].host));
        server.c = tls_accept(tls_server, NULL, server.raw);
        tls_server_destroy(tls_server);
        tls_client_destroy(tls_client);
        listen_to(&client);
        listen_to(&server);
        settle();
        check_err(client.result, rows[i].result);
        check(rows[i].result != OK || str_eq(tls_alpn(server.c), STR("h2")));
        end(&client, &server);
    }
}

// ---- Tickets: the client here is OpenSSL's own, which keeps sessions

struct resumer {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
    struct conn *conn;
    SSL_SESSION *session; // what the server gave
};

static void exchange(struct resumer *r) {
    char bytes[8192];
    size_t n = 0;
    for (unsigned i = 0; i < 20; i++) {
        (void)SSL_do_handshake(r->ssl);
        (void)SSL_read(r->ssl, bytes, sizeof bytes); // where tickets come
        for (int len; (len = BIO_read(r->out, bytes, sizeof bytes)) > 0;) {
            struct iovec v = {bytes, (size_t)len};
            check_ok(conn_writev(r->conn, &v, 1, &n));
            check_int(n, len);
        }
        settle();
        while (conn_read(r->conn, bytes, sizeof bytes, &n) == OK) {
            check_int(BIO_write(r->in, bytes, (int)n), n);
        }
    }
    ERR_clear_error();
}

// Was the session that the last one left taken?
static bool resumes(struct resumer *r, struct tls_server *tls_server, struct tls_door *door) {
    struct side server = {0};
    mem_pair(&loop, MEM_WINDOW, &r->conn, &server.raw);
    server.c = tls_accept(tls_server, door, server.raw);
    listen_to(&server);
    r->ssl = SSL_new(r->ctx);
    r->in = BIO_new(BIO_s_mem());
    r->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(r->in, -1);
    SSL_set_bio(r->ssl, r->in, r->out);
    SSL_set_app_data(r->ssl, r);
    SSL_set_connect_state(r->ssl);
    if (r->session) {
        check_int(SSL_set_session(r->ssl, r->session), 1);
    }
    exchange(r);
    check_ok(server.result);
    bool reused = SSL_session_reused(r->ssl);
    SSL_SESSION_free(r->session);
    r->session = SSL_get1_session(r->ssl);
    SSL_shutdown(r->ssl);
    SSL_free(r->ssl);
    conn_close(r->conn);
    side_close(&server);
    settle();
    return reused;
}

static void resumer_init(struct resumer *r, int version) {
    *r = (struct resumer){.ctx = SSL_CTX_new(TLS_client_method())};
    SSL_CTX_set_max_proto_version(r->ctx, version);
}

static void resumer_finish(struct resumer *r) {
    SSL_SESSION_free(r->session);
    SSL_CTX_free(r->ctx);
}

static void clients_resume_at_other_servers_of_the_same_tickets(void **state UNUSED) {
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct resumer r;
        struct tls_door door = {.tickets = tls_tickets_create()};
        struct tls_door other = {.tickets = door.tickets};
        struct tls_door stranger = {.tickets = tls_tickets_create()};
        struct tls_server *before = server_new(&good, NULL);
        struct tls_server *after = server_new(&good, NULL); // a reload
        resumer_init(&r, versions[i]);
        check(!resumes(&r, before, &door));
        check(resumes(&r, before, &door));
        check(resumes(&r, after, &other));
        check(!resumes(&r, after, &stranger));
        tls_server_destroy(before);
        tls_server_destroy(after);
        tls_tickets_destroy(door.tickets);
        tls_tickets_destroy(stranger.tickets);
        resumer_finish(&r);
    }
}

static void without_tickets_nobody_resumes(void **state UNUSED) {
    struct resumer r;
    struct tls_server *server = server_new(&good, NULL);
    resumer_init(&r, TLS1_3_VERSION);
    check(!resumes(&r, server, NULL));
    check(!SSL_SESSION_has_ticket(r.session));
    check(!resumes(&r, server, NULL));
    tls_server_destroy(server);
    resumer_finish(&r);
}

static void ticket_keys_are_replaced(void **state UNUSED) {
    struct resumer r;
    struct tls_door door = {.tickets = tls_tickets_create()};
    struct tls_server *server = server_new(&good, NULL);
    const uint64_t hours = 3600ull * 1000000000;
    SSL_SESSION *first;
    resumer_init(&r, TLS1_2_VERSION); // whose tickets may be used again
    check(!resumes(&r, server, &door));
    first = r.session;
    SSL_SESSION_up_ref(first);
    time_source.ns += (TLS_TICKET_HOURS + 1) * hours;
    check(resumes(&r, server, &door)); // an old key still opens, and a new ticket comes
    check(r.session != first);
    time_source.ns += (TLS_TICKET_HOURS - 2) * hours;
    check(resumes(&r, server, &door));
    time_source.ns += 2 * hours;
    SSL_SESSION_free(r.session);
    r.session = first;
    check(!resumes(&r, server, &door)); // its key is forgotten
    tls_server_destroy(server);
    tls_tickets_destroy(door.tickets);
    resumer_finish(&r);
}

// ---- What a client resumes

static void pass(uint64_t seconds) {
    time_source.ns += seconds * 1000000000;
    turns(1);
}

static struct tls_server *server_of(const struct cert *cert) { return server_new(cert, "h2"); }

// A connection that ends as `wanted`, exchanges a few bytes, and ends. Was it resumed?
static bool resumed(struct tls_client *tls_client, struct tls_server *tls_server, struct tls_door *door,
                    const char *host, enum err wanted) {
    struct side client = {.out_len = 100, .seed = 1};
    struct side server = {.out_len = 100, .seed = 2};
    mem_pair(&loop, MEM_WINDOW, &client.raw, &server.raw);
    client.c = tls_connect(tls_client, client.raw, str_c(host));
    server.c = tls_accept(tls_server, door, server.raw);
    listen_to(&client);
    listen_to(&server);
    settle();
    check_err(client.result, wanted);
    check_int(client.got, wanted == OK ? 100 : 0);
    check_int(server.got, wanted == OK ? 100 : 0);
    bool is = tls_resumed(client.c);
    check(tls_resumed(server.c) == is);
    end(&client, &server);
    return is;
}

static void an_upstream_is_resumed_again_and_again(void **state UNUSED) {
    struct tls_door door = {.tickets = tls_tickets_create()};
    struct tls_client *client = client_new(authority.cert_file, "h2");
    struct tls_server *server = server_of(&good);
    check(!resumed(client, server, &door, "a.example", OK));
    for (unsigned i = 0; i < 5; i++) {
        check(resumed(client, server, &door, "a.example", OK));
    }
    check(!resumed(client, server, &door, "www.a.example", OK)); // another name, though the certificate has it
    check(resumed(client, server, &door, "www.a.example", OK));
    check(resumed(client, server, &door, "a.example", OK));
    tls_client_destroy(client);
    tls_server_destroy(server);
    tls_tickets_destroy(door.tickets);
}

static void connections_at_the_same_time_resume_one_session(void **state UNUSED) {
    struct side clients[4] = {0};
    struct side servers[4] = {0};
    struct tls_door door = {.tickets = tls_tickets_create()};
    struct tls_client *client = client_new(authority.cert_file, NULL);
    struct tls_server *server = server_of(&good);
    check(!resumed(client, server, &door, "a.example", OK));
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        mem_pair(&loop, MEM_WINDOW, &clients[i].raw, &servers[i].raw);
        clients[i].c = tls_connect(client, clients[i].raw, STR("a.example"));
        servers[i].c = tls_accept(server, &door, servers[i].raw);
        listen_to(&clients[i]);
        listen_to(&servers[i]);
    }
    tls_client_destroy(client); // a reload: they go on
    settle();
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        check_ok(clients[i].result);
        check(tls_resumed(clients[i].c));
        end(&clients[i], &servers[i]);
    }
    tls_server_destroy(server);
    tls_tickets_destroy(door.tickets);
}

static void a_broken_connection_takes_no_session_with_it(void **state UNUSED) {
    struct tls_door door = {.tickets = tls_tickets_create()};
    struct tls_client *client = client_new(authority.cert_file, NULL);
    struct tls_server *server = server_of(&good);
    for (unsigned i = 0; i < 3; i++) {
        struct side near = {0};
        struct side far = {0};
        mem_pair(&loop, MEM_WINDOW, &near.raw, &far.raw);
        near.c = tls_connect(client, near.raw, STR("a.example"));
        far.c = tls_accept(server, &door, far.raw);
        listen_to(&near);
        listen_to(&far);
        settle();
        check(tls_resumed(near.c) == (i > 0));
        conn_abort(near.c);
        near.c = NULL;
        end(&near, &far);
    }
    tls_client_destroy(client);
    tls_server_destroy(server);
    tls_tickets_destroy(door.tickets);
}

// A session stands for what was checked at its beginning: it must not outlive any of it.
static void no_session_skips_a_check(void **state UNUSED) {
    struct tls_door door = {.tickets = tls_tickets_create()};
    struct tls_door restarted = {.tickets = tls_tickets_create()};
    struct tls_client *client = client_new(authority.cert_file, "h2");
    struct tls_client *reloaded = client_new(other_authority.cert_file, "h2"); // other authorities from now on
    struct tls_server *server = server_of(&good);
    struct tls_server *changed = server_of(&unknown); // of an authority that is not trusted
    check(!resumed(client, server, &door, "a.example", OK));
    check(resumed(client, server, &door, "a.example", OK));
    check(!resumed(reloaded, server, &door, "a.example", ERR_TLS_VERIFY));
    check(!resumed(client, changed, &restarted, "a.example", ERR_TLS_VERIFY)); // does not know the ticket
    check(!resumed(client, server, &door, "a.example", OK));                   // what was offered is forgotten
    check(resumed(client, server, &door, "a.example", OK));
    pass(3500);
    check(resumed(client, server, &door, "a.example", OK));
    pass(200); // the certificate has expired by this clock, which it never does by OpenSSL's
    check(!resumed(client, server, &door, "a.example", OK));
    tls_client_destroy(client);
    tls_client_destroy(reloaded);
    tls_server_destroy(server);
    tls_server_destroy(changed);
    tls_tickets_destroy(door.tickets);
    tls_tickets_destroy(restarted.tickets);
}

static void a_day_after_its_full_handshake_a_session_ends(void **state UNUSED) {
    const uint64_t hours = 3600;
    struct tls_door door = {.tickets = tls_tickets_create()};
    struct tls_client *client = client_new(authority_of_years.cert_file, NULL);
    struct tls_server *server = server_of(&of_years);
    check(!resumed(client, server, &door, "a.example", OK));
    for (unsigned i = 0; i < 7; i++) { // each gives a new one, but nobody has looked at a certificate since
        pass(3 * hours);
        check(resumed(client, server, &door, "a.example", OK));
    }
    pass(3 * hours);
    check(!resumed(client, server, &door, "a.example", OK));
    check(resumed(client, server, &door, "a.example", OK));
    pass((TLS_TICKET_HOURS + 1) * hours); // the server said how long the ticket is good
    check(!resumed(client, server, &door, "a.example", OK));
    tls_client_destroy(client);
    tls_server_destroy(server);
    tls_tickets_destroy(door.tickets);
}

static void more_names_than_are_remembered_work_without(void **state UNUSED) {
    enum { REMEMBERED = 64 };
    struct tls_door door = {.tickets = tls_tickets_create()};
    struct tls_client *client = client_new(authority.cert_file, NULL);
    struct tls_server *server = server_of(&wildcard);
    for (unsigned i = 0; i < 2 * (REMEMBERED + 2); i++) {
        unsigned name = i % (REMEMBERED + 2);
        char host[32];
        snprintf(host, sizeof host, "x%u.wild.example", name);
        bool is = resumed(client, server, &door, host, OK);
        check(is == (i != name && name < REMEMBERED));
    }
    tls_client_destroy(client);
    tls_server_destroy(server);
    tls_tickets_destroy(door.tickets);
}

// ---- Many at once

static void a_turn_answers_few(void **state UNUSED) {
    enum { MANY = 30 };
    static struct side clients[MANY];
    static struct side servers[MANY];
    struct tls_door door = {.tickets = NULL};
    struct tls_client *tls_client = client_new(authority.cert_file, NULL);
    struct tls_server *tls_server = server_new(&good, NULL);
    unsigned turns_taken = 1; // this one
    uint64_t last = loop.turn;
    for (unsigned i = 0; i < MANY; i++) {
        clients[i] = servers[i] = (struct side){0};
        mem_pair(&loop, MEM_WINDOW, &clients[i].raw, &servers[i].raw);
        clients[i].c = tls_connect(tls_client, clients[i].raw, STR("a.example"));
        servers[i].c = tls_accept(tls_server, &door, servers[i].raw);
        listen_to(&clients[i]);
        listen_to(&servers[i]);
    }
    for (bool busy = true; busy;) {
        busy = loop_turn(&loop, 0);
        check(door.answered <= TLS_HELLOS_PER_TURN);
        turns_taken += door.turn != last;
        last = door.turn;
    }
    check_int(turns_taken, (MANY + TLS_HELLOS_PER_TURN - 1) / TLS_HELLOS_PER_TURN);
    for (unsigned i = 0; i < MANY; i++) {
        check_ok(clients[i].result);
        check_ok(servers[i].result);
        end(&clients[i], &servers[i]);
    }
    tls_client_destroy(tls_client);
    tls_server_destroy(tls_server);
}

static void make_certificates(void) {
    cert_dir(dir);
    cert_make(&authority, dir, &(struct cert_options){.name = "authority", .authority = true});
    cert_make(&other_authority, dir, &(struct cert_options){.name = "other", .authority = true});
    const struct cert *ca = &authority;
    cert_make(&intermediate, dir, &(struct cert_options){.name = "intermediate", .authority = true, .issuer = ca});
    const char *a = "DNS:a.example,DNS:www.a.example";
    const long years = 3 * 365 * 86400;
    cert_make(&authority_of_years, dir, &(struct cert_options){.name = "years", .authority = true, .to_s = years});
    const struct {
        struct cert *cert;
        struct cert_options options;
    } all[] = {
        {&good, {.name = "good", .alt_names = a, .issuer = ca}},
        {&expired, {.name = "expired", .alt_names = a, .issuer = ca, .from_s = -7200, .to_s = -3600}},
        {&early, {.name = "early", .alt_names = a, .issuer = ca, .from_s = 3600, .to_s = 7200}},
        {&self_signed, {.name = "self", .alt_names = a}},
        {&unknown, {.name = "unknown", .alt_names = a, .issuer = &other_authority}},
        {&wildcard, {.name = "wildcard", .alt_names = "DNS:*.wild.example", .issuer = ca}},
        {&partial, {.name = "partial", .alt_names = "DNS:f*.wild.example", .issuer = ca}},
        {&nameless, {.name = "nameless.example", .issuer = ca}},
        {&by_address, {.name = "address", .alt_names = "IP:192.0.2.1,IP:2001:db8::1", .issuer = ca}},
        {&chained, {.name = "chained", .alt_names = a, .issuer = &intermediate}},
        {&of_years, {.name = "of-years", .alt_names = a, .issuer = &authority_of_years, .from_s = -60, .to_s = years}},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        cert_make(all[i].cert, dir, &all[i].options);
    }
}

static int set_up(void **state UNUSED) {
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = pattern_at(i);
    }
    make_certificates();
    fake_clock_init(&time_source);
    check_ok(loop_init(&loop, &(struct loop_options){.clock = &time_source.clock}));
    return 0;
}

static int tear_down(void **state UNUSED) {
    struct cert *all[] = {
        &authority, &other_authority, &intermediate, &good,     &expired,    &early,   &self_signed,
        &unknown,   &wildcard,        &partial,      &nameless, &by_address, &chained, &authority_of_years,
        &of_years};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        cert_finish(all[i]);
    }
    rmdir(dir);
    loop_finish(&loop);
    return 0;
}

int main(void) {
    if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1) {
        return 1; // only before OpenSSL's first allocation
    }
    const struct CMUnitTest tests[] = {
        TEST(a_megabyte_each_way_through_a_wide_window),
        TEST(a_megabyte_each_way_through_seven_bytes),
        TEST(a_megabyte_each_way_through_a_single_byte),
        TEST(an_expired_certificate_is_refused),
        TEST(a_certificate_of_tomorrow_is_refused),
        TEST(a_certificate_for_another_name_is_refused),
        TEST(a_self_signed_certificate_is_refused),
        TEST(an_unknown_authority_is_refused),
        TEST(a_missing_intermediate_is_refused),
        TEST(a_name_outside_the_alternative_names_is_refused),
        TEST(a_partial_wildcard_is_refused),
        TEST(a_wildcard_covers_one_label_only),
        TEST(an_address_is_not_a_name),
        TEST(names_that_the_certificate_has_are_accepted),
        TEST(hosts_that_cannot_be_verified_are_refused),
        TEST(the_end_of_tls_is_an_end),
        TEST(an_end_read_together_with_data_is_told),
        TEST(fin_without_close_notify_is_a_cut),
        TEST(a_broken_stream_is_a_reset),
        TEST(what_came_before_a_failed_write_can_be_read),
        TEST(after_our_end_reading_goes_on),
        TEST(a_damaged_record_ends_the_stream),
        TEST(the_end_follows_what_was_written),
        TEST(peers_that_do_not_speak_tls_are_named),
        TEST(a_reset_during_the_handshake_is_a_reset),
        TEST(alpn_picks_what_the_server_prefers),
        TEST(head_and_body_share_a_record),
        TEST(other_bytes_after_a_short_write_end_the_connection),
        TEST(an_idle_connection_reads_nothing_and_keeps_no_buffer),
        TEST(bytes_that_came_with_the_handshake_wait_for_the_owner),
        TEST(what_was_acknowledged_is_asked_below),
        TEST(closing_works_at_any_moment),
        TEST(closing_works_inside_any_callback),
        TEST(survives_want_of_memory),
        TEST(problems_with_files_are_named),
        TEST(a_key_that_others_may_read_is_refused),
        TEST(the_name_asked_for_chooses_the_certificate),
        TEST(clients_resume_at_other_servers_of_the_same_tickets),
        TEST(without_tickets_nobody_resumes),
        TEST(ticket_keys_are_replaced),
        TEST(an_upstream_is_resumed_again_and_again),
        TEST(connections_at_the_same_time_resume_one_session),
        TEST(a_broken_connection_takes_no_session_with_it),
        TEST(no_session_skips_a_check),
        TEST(a_day_after_its_full_handshake_a_session_ends),
        TEST(more_names_than_are_remembered_work_without),
        TEST(a_turn_answers_few),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
