// SPDX-License-Identifier: MIT
// TLS as a filter: a conn that stands on a conn. OpenSSL never sees a descriptor, it reads and writes the
// stream below through a BIO of ours; so TLS runs over memory in tests exactly as over TCP.
//
//                 tls_connect / tls_accept
//                           |
//                           v      refused, broken, malformed
//                       HANDSHAKE ------------------------------> FAILED
//                           |                                       |
//          agreed, verified v                                       |
//                         OPEN ---- shutdown ----> SHUT             |
//                           |    (close_notify)      |              |
//                           +------------------------+-- close -----+----> CLOSED (dies with the turn)
//
//   HANDSHAKE  the owner can neither read nor write
//   OPEN       bytes flow both ways; `read_end` and `write_error` tell which way has ended since
//   SHUT       as OPEN, but nothing more is written; FIN follows when `out` has gone
//   FAILED     `error` and `problem` say why; only an alert may still be leaving
//   CLOSED     SSL and buffers are gone, `below` is closed
//
// Invariants:
// - Nothing is emitted from inside a call of the owner or of OpenSSL: events come from the stream below or
//   from `later`. So SSL_free in close never frees a running SSL.
// - The BIO takes everything it is given: what the stream below has no room for waits in `out`. SSL_write
//   thus never asks to be retried, and OpenSSL's rules about retries (same bytes, same length) do not arise.
//   Instead the record that is waiting in `out` is not reported as written: its plaintext is `owed`, and is
//   skipped when the owner offers the same bytes again. So what conn_writev reports has been taken by the
//   stream below, and a close directly after it loses nothing.
// - `out` holds one record, with little beside it (alerts, key updates, a handshake flight); its cap ends a
//   connection whose peer makes us answer and never reads.
// - No credential leaves early: the chain and the name are verified inside SSL_do_handshake
//   (SSL_VERIFY_PEER), and conn_writev takes nothing before OPEN.
#include "net/tls.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/digest.h"

enum {
    RECORD_BYTES = 16 * 1024, // of plaintext, at most (RFC 8446 section 5.1)
    OUT_CAP = 128 * 1024,
    PROBLEM_BYTES = 256,
    HOST_BYTES = 256, // a name has at most 253 (RFC 1035 section 2.3.4)
    OWED_HEAD = 8,
};

// RFC 9325 section 4.2.1 and what HTTP/2 does not forbid (RFC 9113 section 9.2.2); for TLS 1.2, 1.3 has its
// own.
static const char ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";

// What connections of one tls_client or tls_server share. Each of them counts as a user, so that the client
// may be destroyed (a new configuration) while connections made with it go on.
struct context {
    SSL_CTX *ssl_ctx; // of a server's first identity
    SSL_CTX **others; // of its other ones
    unsigned other_count;
    BIO_METHOD *method;
    unsigned char *alpn; // wire format
    unsigned alpn_len;
    _Atomic unsigned users;
};
struct tls_client {
    struct context shared;
};
struct tls_server {
    struct context shared;
};

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_SHUT, TLS_FAILED, TLS_CLOSED };

struct tls {
    struct conn conn;
    struct conn *below;
    struct context *context;
    struct tls_door *door; // NULL: a client, or nobody keeps it
    SSL *ssl;
    char *problem; // NULL until there is one
    enum tls_state state;
    enum err error;            // why FAILED
    enum err read_end;         // how reading ended: ERR_EOF or a failure; OK while it goes on
    enum err write_error;      // why the stream below takes no more; OK while it does
    enum err below_end;        // what the last conn_read below said, where that was an end
    bool drained;              // the stream below has nothing until its next event: saves a system call
    bool below_hup;            // ... but an end may follow what was read: never drained again
    bool wants_room;           // the owner was told less than all
    bool answered;             // bytes were sent: on a server, its ClientHello has been answered
    bool hello_waits;          // it has not, and others come first: `later` goes on
    bool ticket_came;          // a session ticket was read: OpenSSL set up a write buffer for it
    unsigned char owed_head_n; // bytes kept of the owed plaintext,
    char owed_head[OWED_HEAD]; // to catch an owner that offers other bytes
    size_t owed;               // plaintext of the record that waits in `out`
    struct buf out;            // ciphertext that the stream below had no room for
    unsigned events;           // to be emitted by `later`
    struct task later;
    struct grave grave;
};

static struct tls *tls_of(struct conn *c) { return container_of(c, struct tls, conn); }
static const struct tls *const_tls_of(const struct conn *c) {
    return (const struct tls *)(const void *)((const char *)c - offsetof(struct tls, conn));
}

static void set_state(struct tls *t, enum tls_state next) {
    switch (next) {
    case TLS_HANDSHAKE: assert(false); break; // the state a connection is made in
    case TLS_OPEN:
    case TLS_FAILED: assert(t->state == TLS_HANDSHAKE); break;
    case TLS_SHUT: assert(t->state == TLS_OPEN); break;
    case TLS_CLOSED: assert(t->state != TLS_CLOSED); break;
    }
    t->state = next;
}

static void tls_check(const struct tls *t) {
    assert((t->problem && t->error != OK) || t->state != TLS_FAILED);
    assert((t->ssl == NULL) == (t->state == TLS_CLOSED) || t->error == ERR_NOMEM);
}

PRINTF(2, 3) static void set_problem(struct tls *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (!t->problem) { // the first is the cause
        t->problem = xmalloc(PROBLEM_BYTES);
        (void)vsnprintf(t->problem, PROBLEM_BYTES, format, args);
        for (char *c = t->problem; *c; c++) { // a certificate's names go to logs and terminals
            *c = *c < ' ' || *c > '~' ? '?' : *c;
        }
    }
    va_end(args);
}

static unsigned handshake(struct tls *t);

static void on_later(struct task *task) {
    struct tls *t = container_of(task, struct tls, later);
    if (t->hello_waits) {
        t->hello_waits = false;
        t->events |= t->state == TLS_HANDSHAKE ? handshake(t) : 0u;
    }
    unsigned events = t->events;
    t->events = 0;
    conn_emit(&t->conn, events);
}

static void emit_later(struct tls *t, unsigned events) {
    if (events) {
        t->events |= events;
        loop_defer(t->conn.loop, &t->later);
    }
}

// ---- The BIO: OpenSSL's way to the stream below ----

static int bio_create(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

static int bio_read(BIO *bio, char *into, int room) {
    struct tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->below_end != OK) {
        return 0;
    }
    size_t n = 0;
    enum err e = t->drained ? ERR_AGAIN : conn_read(t->below, into, (size_t)room, &n);
    if (e == OK) {
        t->drained = n < (size_t)room && !t->below_hup;
        return (int)n;
    }
    if (e == ERR_AGAIN) {
        t->drained = !t->below_hup;
        BIO_set_retry_read(bio);
        return -1;
    }
    t->below_end = e;
    return 0;
}

// Always takes all: a failure is kept in `write_error`, so that what the peer sent before can still be read.
static int bio_write(BIO *bio, const char *bytes, int len) {
    struct tls *t = BIO_get_data(bio);
    struct iovec v = {.iov_base = (char *)(uintptr_t)bytes, .iov_len = (size_t)len};
    size_t taken = 0;
    BIO_clear_retry_flags(bio);
    t->answered = true;
    if (t->write_error == OK && buf_len(&t->out) == 0) {
        t->write_error = conn_writev(t->below, &v, 1, &taken);
    }
    if (t->write_error == OK) {
        t->write_error = buf_append(&t->out, bytes + taken, (size_t)len - taken);
    }
    return len;
}

static long bio_ctrl(BIO *bio, int command, long number UNUSED, void *pointer UNUSED) {
    const struct tls *t = BIO_get_data(bio);
    switch (command) { // OpenSSL's, not an enum
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_EOF: return t->below_end == ERR_EOF;
    default: return 0;
    }
}

// ---- Contexts ----

static void context_release(struct context *c) {
    if (atomic_fetch_sub_explicit(&c->users, 1, memory_order_acq_rel) == 1) {
        SSL_CTX_free(c->ssl_ctx);
        BIO_meth_free(c->method);
        free(c->alpn);
        for (unsigned i = 0; i < c->other_count; i++) {
            SSL_CTX_free(c->others[i]);
        }
        free(c->others);
        free(c); // the first member of tls_client and tls_server
    }
}

// "h2,http/1.1" to length-prefixed names (RFC 7301 section 3.1).
static enum err set_alpn(struct context *c, const char *names) {
    struct str rest = str_c(names);
    struct str name;
    c->alpn = xmalloc(rest.len + 1);
    while (str_split(&rest, ',', &name)) {
        name = str_trim(name);
        if (name.len == 0 || name.len > 255) {
            return ERR_INVALID;
        }
        c->alpn[c->alpn_len++] = (unsigned char)name.len;
        memcpy(c->alpn + c->alpn_len, name.ptr, name.len);
        c->alpn_len += (unsigned)name.len;
    }
    return OK;
}

static bool set_up_method(struct context *c) {
    // No BIO_get_new_index: there are 127 in a process, and every new configuration would use one up.
    c->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "thaw conn");
    return c->method && BIO_meth_set_create(c->method, bio_create) && BIO_meth_set_read(c->method, bio_read) &&
           BIO_meth_set_write(c->method, bio_write) && BIO_meth_set_ctrl(c->method, bio_ctrl);
}

// NULL without memory.
static SSL_CTX *create_ssl_ctx(const SSL_METHOD *method) {
    SSL_CTX *made = SSL_CTX_new(method);
    if (!made || SSL_CTX_set_min_proto_version(made, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(made, ciphers) != 1) {
        SSL_CTX_free(made);
        return NULL;
    }
    SSL_CTX_set_options(made, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_clear_options(made, SSL_OP_IGNORE_UNEXPECTED_EOF); // a system-wide openssl.cnf may set it
    SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                               SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_read_ahead(made, 1);                          // header and body of a record in one read below, not two
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF); // servers resume by stateless tickets
    return made;
}

static enum err context_init(struct context *c, const SSL_METHOD *method, const char *alpn) {
    *c = (struct context){.ssl_ctx = create_ssl_ctx(method), .users = 1};
    if (!c->ssl_ctx || !set_up_method(c)) {
        return ERR_NOMEM;
    }
    return alpn ? set_alpn(c, alpn) : OK;
}

// The first reason in OpenSSL's queue, in its words.
static const char *openssl_reason(void) {
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    return reason ? reason : "unknown error";
}

static bool directory_has_files(const char *path) {
    bool found = false;
    DIR *d = opendir(path);
    for (struct dirent *e = d ? readdir(d) : NULL; e && !found; e = readdir(d)) {
        found = e->d_name[0] != '.';
    }
    if (d) {
        closedir(d);
    }
    return found;
}

static bool default_store_exists(void) {
    const char *file = getenv(X509_get_default_cert_file_env());
    const char *dir = getenv(X509_get_default_cert_dir_env());
    struct stat s;
    return stat(file ? file : X509_get_default_cert_file(), &s) == 0 ||
           directory_has_files(dir ? dir : X509_get_default_cert_dir());
}

// OpenSSL's own default belongs to the system it was built on; a binary may find itself on another.
static enum err trust_system(struct context *c, char *problem, size_t size) {
    static const char *const bundles[] = {
        "/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Arch
        "/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL
        "/etc/ssl/ca-bundle.pem",             // openSUSE
        "/etc/ssl/cert.pem",                  // Alpine
    };
    if (default_store_exists()) {
        if (SSL_CTX_set_default_verify_paths(c->ssl_ctx) == 1) {
            return OK;
        }
        snprintf(problem, size, "the system's certificates cannot be read: %s", openssl_reason());
        return ERR_INVALID;
    }
    for (size_t i = 0; i < ARRAY_LEN(bundles); i++) {
        if (SSL_CTX_load_verify_file(c->ssl_ctx, bundles[i]) == 1) {
            return OK;
        }
    }
    snprintf(problem, size,
             "this system has no certificate authorities: install the package ca-certificates, or "
             "name a file with the certificates to trust");
    return ERR_INVALID;
}

static enum err trust_file(struct context *c, const char *file, char *problem, size_t size) {
    if (SSL_CTX_load_verify_file(c->ssl_ctx, file) != 1) {
        snprintf(problem, size, "%s: no certificates could be read from it: %s", file, openssl_reason());
        return ERR_INVALID;
    }
    // Whatever the file names is trusted, be it a root, an intermediate or the server's own certificate.
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(c->ssl_ctx), X509_V_FLAG_PARTIAL_CHAIN);
    return OK;
}

// A server sends tickets when it likes, usually with its first answer. OpenSSL 3.0 then allocates a write
// buffer (16.5 KB), and keeps it until the next write: on a connection that waits in a pool, nearly for good.
static int on_ticket(SSL *ssl, SSL_SESSION *session UNUSED) {
    ((struct tls *)SSL_get_app_data(ssl))->ticket_came = true;
    return 0; // not kept
}

static enum err client_init(struct context *c, const struct tls_client_options *options, char *problem, size_t size) {
    enum err e = context_init(c, TLS_client_method(), options->alpn);
    if (e != OK) {
        snprintf(problem, size, "TLS: %s", e == ERR_INVALID ? "malformed list of protocols" : openssl_reason());
        return e;
    }
    if (c->alpn_len && SSL_CTX_set_alpn_protos(c->ssl_ctx, c->alpn, c->alpn_len) != 0) { // 0 is success
        snprintf(problem, size, "TLS: malformed list of protocols");
        return ERR_INVALID;
    }
    SSL_CTX_set_session_cache_mode(c->ssl_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c->ssl_ctx, on_ticket);
    return options->ca_file ? trust_file(c, options->ca_file, problem, size) : trust_system(c, problem, size);
}

enum err tls_client_create(const struct tls_client_options *options, struct tls_client **client, char *problem,
                           size_t size) {
    struct tls_client *made = xcalloc(1, sizeof *made);
    ERR_clear_error();
    enum err e = client_init(&made->shared, options, problem, size);
    if (e == OK) {
        *client = made;
    } else {
        context_release(&made->shared);
    }
    ERR_clear_error();
    return e;
}

void tls_client_destroy(struct tls_client *client) {
    if (client) {
        context_release(&client->shared);
    }
}

// Our order of preference decides. Without a protocol in common the handshake ends (RFC 7301 section 3.2).
static int choose_alpn(SSL *ssl UNUSED, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *arg) {
    const struct context *c = arg;
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_len, c->alpn, c->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

// ---- Session tickets (RFC 5077, RFC 8446 section 4.6.1), stateless: sealed with keys that no client sees

enum { TICKET_NAME = 16, TICKET_KEY = 32, HOUR_MS = 60 * 60 * 1000 };

struct ticket_key {
    unsigned char name[TICKET_NAME];
    unsigned char cipher[TICKET_KEY]; // AES-256-CBC
    unsigned char mac[TICKET_KEY];    // HMAC-SHA-256
    uint64_t made_ms;
    bool there;
};

struct tls_tickets {
    pthread_mutex_t lock;
    struct ticket_key now, before;
};

struct tls_tickets *tls_tickets_create(void) {
    struct tls_tickets *tickets = xcalloc(1, sizeof *tickets);
    pthread_mutex_init(&tickets->lock, NULL);
    return tickets;
}

void tls_tickets_destroy(struct tls_tickets *tickets) {
    if (tickets) {
        pthread_mutex_destroy(&tickets->lock);
        explicit_bzero(tickets, sizeof *tickets);
        free(tickets);
    }
}

// Loops read their clocks apart: a key may seem to come from the next moment.
static bool older_than(const struct ticket_key *key, uint64_t hours, uint64_t now_ms) {
    return now_ms >= key->made_ms + hours * HOUR_MS;
}

static void make_ticket_key(struct ticket_key *key, uint64_t now_ms) {
    random_bytes(key->name, sizeof key->name);
    random_bytes(key->cipher, sizeof key->cipher);
    random_bytes(key->mac, sizeof key->mac);
    key->made_ms = now_ms;
    key->there = true;
}

static void key_to_seal(struct tls_tickets *tickets, uint64_t now_ms, struct ticket_key *key) {
    pthread_mutex_lock(&tickets->lock);
    if (!tickets->now.there || older_than(&tickets->now, TLS_TICKET_HOURS, now_ms)) {
        tickets->before = tickets->now;
        make_ticket_key(&tickets->now, now_ms);
    }
    *key = tickets->now;
    pthread_mutex_unlock(&tickets->lock);
}

static bool key_to_open(struct tls_tickets *tickets, uint64_t now_ms, const unsigned char *name,
                        struct ticket_key *key) {
    pthread_mutex_lock(&tickets->lock);
    *key = memcmp(tickets->now.name, name, TICKET_NAME) == 0 ? tickets->now : tickets->before;
    pthread_mutex_unlock(&tickets->lock);
    return key->there && memcmp(key->name, name, TICKET_NAME) == 0 && !older_than(key, 2 * TLS_TICKET_HOURS, now_ms);
}

static bool set_up_seal(const struct ticket_key *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                        int sealing) {
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->mac, TICKET_KEY),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    return EVP_MAC_CTX_set_params(mac, params) == 1 &&
           EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, sealing) == 1;
}

// OpenSSL's protocol: 0 no such key, 1 fine, 2 fine but give the client a new one; below 0 the handshake fails.
static int on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                         int sealing) {
    const struct tls *t = SSL_get_app_data(ssl);
    uint64_t now_ms = t->conn.loop->now_ms;
    struct ticket_key key;
    int result = 1;
    if (sealing) {
        key_to_seal(t->door->tickets, now_ms, &key);
        memcpy(name, key.name, TICKET_NAME);
        random_bytes(iv, (size_t)EVP_CIPHER_get_iv_length(EVP_aes_256_cbc()));
    } else if (!key_to_open(t->door->tickets, now_ms, name, &key)) {
        result = 0;
    } else if (older_than(&key, TLS_TICKET_HOURS, now_ms)) {
        result = 2;
    }
    if (result && !set_up_seal(&key, iv, cipher, mac, sealing)) {
        result = -1;
    }
    explicit_bzero(&key, sizeof key);
    return result;
}

// ---- What a server shows

static bool has_name(SSL_CTX *ctx, const char *name) {
    unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
    return X509_check_host(SSL_CTX_get0_certificate(ctx), name, 0, flags, NULL) == 1;
}

static int choose_identity(SSL *ssl, int *alert UNUSED, void *arg) {
    const struct context *c = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!name || has_name(c->ssl_ctx, name)) {
        return SSL_TLSEXT_ERR_OK;
    }
    for (unsigned i = 0; i < c->other_count; i++) {
        if (has_name(c->others[i], name)) {
            return SSL_set_SSL_CTX(ssl, c->others[i]) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
        }
    }
    return SSL_TLSEXT_ERR_NOACK; // the first one's, and the client decides
}

static int no_passphrase(char *into UNUSED, int size UNUSED, int writing UNUSED, void *arg UNUSED) { return -1; }

static enum err key_problem(const char *file, const char *why, char *problem, size_t size) {
    snprintf(problem, size, "%s: %s", file, why);
    return ERR_INVALID;
}

static enum err read_key(FILE *f, const struct tls_identity *identity, EVP_PKEY **key, char *problem, size_t size) {
    struct stat info;
    if (!f || fstat(fileno(f), &info) != 0) {
        return key_problem(identity->key_file, strerror(errno), problem, size);
    }
    if (!S_ISREG(info.st_mode)) {
        return key_problem(identity->key_file, "is not a regular file", problem, size);
    }
    if (info.st_mode & (S_IRWXG | S_IRWXO)) {
        char why[64];
        snprintf(why, sizeof why, "is open to other users (mode %04o): chmod 600 it", (unsigned)info.st_mode & 07777u);
        return key_problem(identity->key_file, why, problem, size);
    }
    (void)setvbuf(f, NULL, _IONBF, 0); // no copy of the key is left behind
    *key = PEM_read_PrivateKey(f, NULL, no_passphrase, NULL);
    if (!*key) {
        snprintf(problem, size, "%s: no private key could be read from it (one with a passphrase cannot be): %s",
                 identity->key_file, openssl_reason());
        return ERR_INVALID;
    }
    return OK;
}

static enum err load_key(SSL_CTX *ctx, const struct tls_identity *identity, char *problem, size_t size) {
    EVP_PKEY *key = NULL;
    int fd = open(identity->key_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); // not to wait on a FIFO
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    enum err e = read_key(f, identity, &key, problem, size);
    if (e == OK && SSL_CTX_use_PrivateKey(ctx, key) != 1) {
        snprintf(problem, size, "%s: is not the key of %s: %s", identity->key_file, identity->cert_file,
                 openssl_reason());
        e = ERR_INVALID;
    }
    EVP_PKEY_free(key);
    if (f) {
        fclose(f);
    } else if (fd >= 0) {
        close(fd);
    }
    return e;
}

// Everything of an SSL_CTX of a server; `c` says what it shares with the others.
static enum err load_identity(struct context *c, SSL_CTX *ctx, const struct tls_identity *identity, char *problem,
                              size_t size) {
    static const unsigned char id_context[] = "thaw";
    if (SSL_CTX_use_certificate_chain_file(ctx, identity->cert_file) != 1) {
        snprintf(problem, size, "%s: no certificate could be read from it: %s", identity->cert_file, openssl_reason());
        return ERR_INVALID;
    }
    enum err e = load_key(ctx, identity, problem, size);
    if (e != OK) {
        return e;
    }
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_timeout(ctx, (long)TLS_TICKET_HOURS * 3600);
    if (SSL_CTX_set_session_id_context(ctx, id_context, sizeof id_context - 1) != 1 ||
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket_key) != 1) {
        snprintf(problem, size, "TLS: %s", openssl_reason());
        return ERR_NOMEM;
    }
    if (c->alpn_len) {
        SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, c);
    }
    return OK;
}

static enum err server_init(struct context *c, const struct tls_identity *identities, unsigned count, const char *alpn,
                            char *problem, size_t size) {
    enum err e = context_init(c, TLS_server_method(), alpn);
    if (e != OK) {
        snprintf(problem, size, "TLS: %s", e == ERR_INVALID ? "malformed list of protocols" : openssl_reason());
        return e;
    }
    e = load_identity(c, c->ssl_ctx, &identities[0], problem, size);
    c->others = xcalloc(count, sizeof(SSL_CTX *));
    for (unsigned i = 1; i < count && e == OK; i++) {
        SSL_CTX *ctx = create_ssl_ctx(TLS_server_method());
        if (!ctx) {
            snprintf(problem, size, "TLS: %s", openssl_reason());
            return ERR_NOMEM;
        }
        c->others[c->other_count++] = ctx;
        e = load_identity(c, ctx, &identities[i], problem, size);
    }
    SSL_CTX_set_tlsext_servername_callback(c->ssl_ctx, choose_identity);
    SSL_CTX_set_tlsext_servername_arg(c->ssl_ctx, c);
    return e;
}

enum err tls_server_create(const struct tls_identity *identities, unsigned count, const char *alpn,
                           struct tls_server **server, char *problem, size_t size) {
    struct tls_server *made = xcalloc(1, sizeof *made);
    ERR_clear_error();
    enum err e = server_init(&made->shared, identities, count, alpn, problem, size);
    if (e == OK) {
        *server = made;
    } else {
        context_release(&made->shared);
    }
    ERR_clear_error();
    return e;
}

void tls_server_destroy(struct tls_server *server) {
    if (server) {
        context_release(&server->shared);
    }
}

// ---- Why a certificate was refused ----

// The names a certificate is for, as "a.example, b.example" with as many as fit.
static void list_names(X509 *cert, char *out, size_t size) {
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS) {
            continue;
        }
        int len = ASN1_STRING_length(name->d.dNSName);
        const char *text = (const char *)ASN1_STRING_get0_data(name->d.dNSName);
        int n = snprintf(out + used, size - used, "%s%.*s", used ? ", " : "", len, text);
        if (n < 0 || (size_t)n >= size - used) {
            out[used] = '\0';
            break;
        }
        used += (size_t)n;
    }
    GENERAL_NAMES_free(names);
}

static void describe_mismatch(struct tls *t, X509 *cert) {
    char names[128];
    const char *host = X509_VERIFY_PARAM_get0_host(SSL_get0_param(t->ssl), 0);
    list_names(cert, names, sizeof names);
    set_problem(t, "certificate is not for %s%s%s%s", host ? host : "this address", names[0] ? " (but for " : "", names,
                names[0] ? ")" : "");
}

static void describe_refusal(struct tls *t, X509 *cert, int error, int depth) {
    const char *whose = depth > 0 ? "certificate of an issuer" : "certificate";
    switch (error) { // OpenSSL's, not an enum
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: describe_mismatch(t, cert); break;
    case X509_V_ERR_CERT_HAS_EXPIRED: set_problem(t, "%s has expired", whose); break;
    case X509_V_ERR_CERT_NOT_YET_VALID: set_problem(t, "%s is not valid yet", whose); break;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: set_problem(t, "certificate is self-signed"); break;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        set_problem(t, "certificate comes from an authority that is not trusted here");
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        set_problem(t, "certificate comes from an authority that is not trusted here, or the server does not send "
                       "its intermediate certificates");
        break;
    default: set_problem(t, "%s: %s", whose, X509_verify_cert_error_string(error)); break;
    }
}

// Changes no verdict; it is the only place where the refused certificate can be looked at.
static int on_verify(int accepted, X509_STORE_CTX *store) {
    if (!accepted) {
        const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
        describe_refusal(SSL_get_app_data(ssl), X509_STORE_CTX_get_current_cert(store), X509_STORE_CTX_get_error(store),
                         X509_STORE_CTX_get_error_depth(store));
    }
    return accepted;
}

// ---- Handshake ----

static void fail(struct tls *t, enum err e) {
    t->error = e;
    set_problem(t, "%s", err_text(e)); // where nothing better was said
    set_state(t, TLS_FAILED);
}

static void describe_handshake_failure(struct tls *t) {
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    switch (reason) { // OpenSSL's, not an enum
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST: set_problem(t, "the peer does not speak TLS on this port"); break;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
        set_problem(t, "the peer speaks no version of TLS that is safe (1.2 or later)");
        break;
    default: set_problem(t, "TLS handshake failed: %s", openssl_reason()); break;
    }
}

static void handshake_failed(struct tls *t) {
    if (SSL_get_verify_result(t->ssl) != X509_V_OK) {
        fail(t, ERR_TLS_VERIFY);
    } else if (t->below_end == ERR_EOF) {
        set_problem(t, "the peer closed the connection during the TLS handshake");
        fail(t, ERR_TLS);
    } else if (t->below_end != OK || ERR_peek_error() == 0) { // not TLS's doing
        enum err e = t->below_end != OK ? t->below_end : t->write_error != OK ? t->write_error : ERR_TLS;
        set_problem(t, "TLS handshake: %s", err_text(e));
        fail(t, e);
    } else {
        describe_handshake_failure(t);
        fail(t, ERR_TLS);
    }
}

// Have others been answered in this turn, enough of them?
static bool must_wait(const struct tls *t) {
    const struct tls_door *door = t->door;
    return door && !t->answered && door->turn == t->conn.loop->turn && door->answered >= TLS_HELLOS_PER_TURN;
}

static void count_answer(struct tls *t, bool before) {
    struct tls_door *door = t->door;
    if (door && t->answered && !before) {
        door->answered = door->turn == t->conn.loop->turn ? door->answered + 1 : 1;
        door->turn = t->conn.loop->turn;
    }
}

// One step; returns the events to emit.
static unsigned handshake(struct tls *t) {
    bool answered = t->answered;
    if (must_wait(t)) {
        t->hello_waits = true;
        loop_defer(t->conn.loop, &t->later);
        return 0;
    }
    ERR_clear_error();
    int result = SSL_do_handshake(t->ssl);
    count_answer(t, answered);
    bool waiting = result != 1 && SSL_get_error(t->ssl, result) == SSL_ERROR_WANT_READ && t->write_error == OK;
    if (waiting) {
        return 0;
    }
    if (result != 1) {
        handshake_failed(t);
        ERR_clear_error();
        return CONN_HUP;
    }
    set_state(t, TLS_OPEN);
    // The event that finished the handshake may have brought the first bytes too, with no other to come.
    t->wants_room = buf_len(&t->out) > 0;
    return CONN_READABLE | (t->wants_room ? 0u : CONN_WRITABLE) | (t->below_hup ? CONN_HUP : 0u);
}

// ---- What the stream below says ----

static void flush(struct tls *t) {
    if (buf_len(&t->out) && t->write_error == OK) {
        struct str s = buf_str(&t->out);
        struct iovec v = {.iov_base = (char *)(uintptr_t)s.ptr, .iov_len = s.len};
        size_t taken = 0;
        t->write_error = conn_writev(t->below, &v, 1, &taken);
        buf_consume(&t->out, taken);
    }
    if (buf_len(&t->out) == 0 || t->write_error != OK) {
        buf_finish(&t->out); // an idle connection keeps no memory
        if (t->state == TLS_SHUT && t->write_error == OK) {
            conn_shutdown(t->below);
        }
    }
}

static unsigned events_for_owner(struct tls *t, unsigned events) {
    unsigned up = events & (CONN_READABLE | CONN_HUP);
    if (t->wants_room && (buf_len(&t->out) == 0 || t->write_error != OK)) {
        t->wants_room = false;
        up |= CONN_WRITABLE;
    }
    return up | (t->write_error != OK ? CONN_HUP : 0u);
}

static void on_below(struct conn *below, unsigned events) {
    struct tls *t = below->owner;
    tls_check(t);
    if (events & (CONN_READABLE | CONN_HUP)) {
        t->drained = false;
        t->below_hup = t->below_hup || (events & CONN_HUP);
    }
    bool was_waiting = buf_len(&t->out) > 0;
    if ((events & CONN_WRITABLE) && was_waiting) {
        flush(t);
    }
    switch (t->state) {
    case TLS_HANDSHAKE: conn_emit(&t->conn, handshake(t)); break;
    case TLS_OPEN:
    case TLS_SHUT: conn_emit(&t->conn, events_for_owner(t, events)); break;
    case TLS_FAILED:
    case TLS_CLOSED: break;
    }
}

// ---- Reading ----

// Before OpenSSL 3.0.14 SSL_free_buffers could free a record of which only a part had arrived
// (CVE-2024-4741).
static void free_ticket_buffer(struct tls *t) {
    if (t->ticket_came && OpenSSL_version_num() >= 0x300000e0UL) {
        t->ticket_came = false;
        (void)SSL_free_buffers(t->ssl); // refuses while anything is in them
    }
}

// SSL_read gave nothing: why?
static enum err read_stopped(struct tls *t, int ssl_error) {
    switch (ssl_error) { // OpenSSL's, not an enum
    case SSL_ERROR_WANT_READ: free_ticket_buffer(t); return ERR_AGAIN;
    case SSL_ERROR_ZERO_RETURN: t->read_end = ERR_EOF; break;
    default:
        if (t->below_end == ERR_EOF) {
            t->read_end = ERR_CUT;
            set_problem(t, "the peer closed the connection without TLS's close_notify");
        } else if (t->below_end != OK) {
            t->read_end = t->below_end;
        } else {
            t->read_end = ERR_TLS;
            set_problem(t, "TLS: %s", openssl_reason());
            ERR_clear_error();
        }
        break;
    }
    return t->read_end;
}

static enum err tls_read(struct conn *c, void *into, size_t room, size_t *n) {
    struct tls *t = tls_of(c);
    size_t got = 0;
    *n = 0;
    if (t->state != TLS_OPEN && t->state != TLS_SHUT) {
        return t->state == TLS_HANDSHAKE ? ERR_AGAIN : t->state == TLS_FAILED ? t->error : ERR_CANCELLED;
    }
    enum err e = t->read_end;
    while (e == OK && got < room) { // until WANT_READ: a short read must mean that there is no more
        size_t part = 0;
        ERR_clear_error();
        int result = SSL_read_ex(t->ssl, (char *)into + got, room - got, &part);
        got += part;
        e = result == 1 ? OK : read_stopped(t, SSL_get_error(t->ssl, result));
    }
    if (got == 0) {
        return e;
    }
    if (t->read_end != OK) { // behind these bytes is an end that no event from below may announce
        emit_later(t, CONN_HUP);
    }
    *n = got;
    return OK;
}

// ---- Writing ----

// The owner's bytes that have not been dealt with.
struct offer {
    const struct iovec *v;
    int count;
    size_t offset; // into v[0]
};

static void offer_take(struct offer *o, size_t n) {
    while (o->count && n >= o->v->iov_len - o->offset) {
        n -= o->v->iov_len - o->offset;
        o->offset = 0;
        o->v++;
        o->count--;
    }
    o->offset += n;
}

static size_t offer_len(const struct offer *o) {
    size_t len = 0;
    for (int i = 0; i < o->count; i++) {
        len += o->v[i].iov_len;
    }
    return len - o->offset;
}

// The next record's plaintext: in place where it lies in one piece, else collected in `room`: head and body
// in one record are one write, one packet, and one wake-up of the peer.
static struct str offer_record(const struct offer *o, char room[RECORD_BYTES]) {
    struct offer rest = *o;
    offer_take(&rest, 0); // steps over empty pieces
    if (rest.count == 0) {
        return (struct str){0};
    }
    size_t first = rest.v->iov_len - rest.offset;
    if (rest.count == 1 || first >= RECORD_BYTES) {
        return str_from((const char *)rest.v->iov_base + rest.offset, MIN(first, (size_t)RECORD_BYTES));
    }
    size_t used = 0;
    while (rest.count && used < RECORD_BYTES) {
        size_t n = MIN(rest.v->iov_len - rest.offset, RECORD_BYTES - used);
        memcpy(room + used, (const char *)rest.v->iov_base + rest.offset, n);
        used += n;
        offer_take(&rest, n);
    }
    return str_from(room, used);
}

// The record made of these bytes waits in `out`: they count as written when it has gone.
static void owe(struct tls *t, struct str record, size_t n) {
    t->owed = n;
    t->owed_head_n = (unsigned char)MIN(n, (size_t)OWED_HEAD);
    memcpy(t->owed_head, record.ptr, t->owed_head_n);
}

// Steps over what became a record the last time. Other bytes than then would be lost without a trace: a
// mistake of the owner that ends the connection, and not the process.
static enum err settle_owed(struct tls *t, struct offer *o, char room[RECORD_BYTES], size_t *written) {
    size_t n = MIN(t->owed, offer_len(o));
    if (n == 0) {
        return OK;
    }
    struct str again = offer_record(o, room);
    if (memcmp(again.ptr, t->owed_head, MIN((size_t)t->owed_head_n, again.len)) != 0) {
        log_error("TLS: after a short write other bytes were offered: the connection is given up");
        return t->write_error = ERR_SYS;
    }
    t->owed -= n;
    t->owed_head_n = 0;
    offer_take(o, n);
    *written = n;
    return OK;
}

// With SSL_write there is nothing to wait for but the peer's reading, and the BIO waits for that.
static enum err write_stopped(struct tls *t, int ssl_error) {
    if (ssl_error == SSL_ERROR_WANT_READ) {
        return ERR_AGAIN;
    }
    if (t->write_error == OK) {
        t->write_error = ERR_RESET; // the peer's fatal alert was read before
        ERR_clear_error();
    }
    return t->write_error;
}

static enum err write_records(struct tls *t, struct offer *o, char room[RECORD_BYTES], size_t *written) {
    for (struct str record; (record = offer_record(o, room)).len > 0;) {
        size_t n = 0;
        ERR_clear_error();
        int result = SSL_write_ex(t->ssl, record.ptr, record.len, &n);
        if (result != 1) {
            return write_stopped(t, SSL_get_error(t->ssl, result));
        }
        if (t->write_error != OK) {
            return t->write_error;
        }
        if (buf_len(&t->out)) {
            owe(t, record, n);
            return ERR_AGAIN;
        }
        *written += n;
        offer_take(o, n);
    }
    return OK;
}

static enum err tls_writev(struct conn *c, const struct iovec *v, int count, size_t *written) {
    struct tls *t = tls_of(c);
    *written = 0;
    if (t->state == TLS_HANDSHAKE || (t->state == TLS_OPEN && t->write_error == OK && buf_len(&t->out))) {
        t->wants_room = true;
        return OK;
    }
    if (t->state != TLS_OPEN || t->write_error != OK) {
        return t->state == TLS_FAILED ? t->error : t->write_error != OK ? t->write_error : ERR_CANCELLED;
    }
    char room[RECORD_BYTES];
    struct offer o = {v, count, 0};
    enum err e = settle_owed(t, &o, room, written);
    if (e == OK) {
        e = write_records(t, &o, room, written);
    }
    if (e == ERR_AGAIN) {
        t->wants_room = true;
        return OK;
    }
    return e;
}

// ---- The end ----

static bool may_say_goodbye(const struct tls *t) {
    return t->state == TLS_OPEN && t->write_error == OK && (t->read_end == OK || t->read_end == ERR_EOF);
}

static void say_goodbye(struct tls *t) {
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl); // 0: sent, the peer's has not come; all there is to do
    ERR_clear_error();
}

static void tls_shutdown(struct conn *c) {
    struct tls *t = tls_of(c);
    if (t->state == TLS_HANDSHAKE) {
        conn_shutdown(t->below);
    } else if (t->state == TLS_OPEN) {
        if (may_say_goodbye(t)) {
            say_goodbye(t);
        }
        set_state(t, TLS_SHUT);
        if (buf_len(&t->out) == 0) {
            conn_shutdown(t->below);
        }
    }
}

static void tls_mark(struct conn *c) { conn_mark(tls_of(c)->below); }

// Records that the stream below has not taken cannot have reached anybody.
static bool tls_untouched(struct conn *c) {
    struct tls *t = tls_of(c);
    return t->state != TLS_CLOSED && conn_untouched(t->below);
}

static bool tls_resent(struct conn *c) {
    struct tls *t = tls_of(c);
    return t->state != TLS_CLOSED && conn_resent(t->below);
}

static void bury(struct grave *grave) { free(container_of(grave, struct tls, grave)); }

static void tls_close(struct conn *c, bool abort) {
    struct tls *t = tls_of(c);
    if (t->state == TLS_CLOSED) {
        return;
    }
    if (!abort && may_say_goodbye(t) && buf_len(&t->out) == 0) {
        say_goodbye(t);
    }
    set_state(t, TLS_CLOSED);
    c->owner = NULL;
    task_cancel(&t->later);
    t->below->owner = NULL;
    if (abort) {
        conn_abort(t->below);
    } else {
        conn_close(t->below);
    }
    SSL_free(t->ssl), t->ssl = NULL;
    free(t->problem), t->problem = NULL;
    buf_finish(&t->out);
    context_release(t->context), t->context = NULL;
    loop_bury(c->loop, &t->grave, bury);
}

static bool tls_peer(const struct conn *c, struct address *a) {
    const struct tls *t = container_of(c, const struct tls, conn);
    return t->state != TLS_CLOSED && conn_peer(t->below, a);
}

static const struct conn_ops tls_ops = {
    .peer = tls_peer,
    .read = tls_read,
    .writev = tls_writev,
    .shutdown = tls_shutdown,
    .mark = tls_mark,
    .untouched = tls_untouched,
    .resent = tls_resent,
    .close = tls_close,
};

// ---- Making one ----

static bool set_up_ssl(struct tls *t) {
    t->ssl = SSL_new(t->context->ssl_ctx);
    BIO *bio = BIO_new(t->context->method);
    if (!t->ssl || !bio) {
        BIO_free(bio);
        return false;
    }
    BIO_set_data(bio, t);
    SSL_set_bio(t->ssl, bio, bio); // takes it
    return SSL_set_app_data(t->ssl, t) == 1;
}

static struct tls *tls_create(struct context *context, struct conn *below) {
    struct tls *t = xcalloc(1, sizeof *t);
    *t = (struct tls){
        .conn = {.ops = &tls_ops, .loop = below->loop},
        .below = below,
        .context = context,
        .state = TLS_HANDSHAKE,
        .later = {.run = on_later},
    };
    buf_init(&t->out, OUT_CAP);
    atomic_fetch_add_explicit(&context->users, 1, memory_order_relaxed);
    below->owner = t;
    below->on_event = on_below;
    if (!set_up_ssl(t)) {
        fail(t, ERR_NOMEM);
    }
    return t;
}

// The name that the certificate has to be for, and that the server is told (RFC 6066 section 3: names only).
static bool expect_host(struct tls *t, struct str host) {
    char name[HOST_BYTES];
    struct address numeric;
    host.len -= host.len && host.ptr[host.len - 1] == '.'; // certificates and SNI have no root label
    if (host.len == 0 || host.len >= sizeof name || memchr(host.ptr, '\0', host.len)) {
        return false;
    }
    memcpy(name, host.ptr, host.len);
    name[host.len] = '\0';
    // RFC 9525: the names of the subjectAltName only, and a wildcard only as a whole label. Set here and not
    // on the context, from which OpenSSL does not inherit them.
    SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (address_parse(host, 0, &numeric) == OK) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), name) == 1;
    }
    return SSL_set1_host(t->ssl, name) == 1 && SSL_set_tlsext_host_name(t->ssl, name) == 1;
}

struct conn *tls_connect(struct tls_client *client, struct conn *take_below, struct str host) {
    struct tls *t = tls_create(&client->shared, take_below);
    if (t->state == TLS_HANDSHAKE && !expect_host(t, host)) {
        set_problem(t, "not a host name that a certificate could be for");
        fail(t, ERR_TLS_VERIFY);
    }
    if (t->state == TLS_HANDSHAKE) {
        SSL_set_verify(t->ssl, SSL_VERIFY_PEER, on_verify);
        SSL_set_connect_state(t->ssl);
        emit_later(t, handshake(t));
    } else {
        emit_later(t, CONN_HUP);
    }
    return &t->conn;
}

struct conn *tls_accept(struct tls_server *server, struct tls_door *door, struct conn *take_below) {
    struct tls *t = tls_create(&server->shared, take_below);
    t->door = door;
    if (t->state == TLS_HANDSHAKE) {
        if (!door || !door->tickets) {
            SSL_set_options(t->ssl, SSL_OP_NO_TICKET);
            (void)SSL_set_num_tickets(t->ssl, 0);
        }
        SSL_set_accept_state(t->ssl);
        emit_later(t, handshake(t));
    } else {
        emit_later(t, CONN_HUP);
    }
    return &t->conn;
}

enum err tls_result(const struct conn *c) {
    const struct tls *t = const_tls_of(c);
    switch (t->state) {
    case TLS_HANDSHAKE: return ERR_AGAIN;
    case TLS_OPEN:
    case TLS_SHUT: return OK;
    case TLS_FAILED: return t->error;
    case TLS_CLOSED: break;
    }
    return ERR_CANCELLED;
}

const char *tls_problem(const struct conn *c) {
    const struct tls *t = const_tls_of(c);
    return t->problem ? t->problem : "";
}

struct str tls_alpn(const struct conn *c) {
    const struct tls *t = const_tls_of(c);
    const unsigned char *name = NULL;
    unsigned len = 0;
    if (t->ssl) {
        SSL_get0_alpn_selected(t->ssl, &name, &len);
    }
    return str_from(name ? (const char *)name : "", len);
}
