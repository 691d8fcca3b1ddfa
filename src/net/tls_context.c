// SPDX-License-Identifier: MIT
// What connections share: whom a client trusts, what a server shows, the rules for both; and why a certificate was
// refused, in words.
#include "net/tls_inside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"

// RFC 9325 section 4.2.1 and what HTTP/2 does not forbid (RFC 9113 section 9.2.2). AES-128 first, as browsers have it:
// ten rounds instead of fourteen, and the shorter hash takes 0.2 KB less of each connection.
static const char ciphers_1_2[] = "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20";
static const char ciphers_1_3[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

void tls_context_release(struct tls_context *c) {
    if (atomic_fetch_sub_explicit(&c->users, 1, memory_order_acq_rel) == 1) {
        tls_origins_free(c);
        pthread_mutex_destroy(&c->lock);
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
static enum err set_alpn(struct tls_context *c, const char *names) {
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

// NULL without memory.
static SSL_CTX *create_ssl_ctx(const SSL_METHOD *method) {
    SSL_CTX *made = SSL_CTX_new(method);
    if (!made || SSL_CTX_set_min_proto_version(made, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(made, ciphers_1_2) != 1 || SSL_CTX_set_ciphersuites(made, ciphers_1_3) != 1) {
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

static enum err context_init(struct tls_context *c, const SSL_METHOD *method, const char *alpn) {
    *c = (struct tls_context){.ssl_ctx = create_ssl_ctx(method), .users = 1};
    pthread_mutex_init(&c->lock, NULL);
    c->method = tls_method_create();
    if (!c->ssl_ctx || !c->method) {
        return ERR_NOMEM;
    }
    return alpn ? set_alpn(c, alpn) : OK;
}

const char *tls_reason(void) {
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
static enum err trust_system(struct tls_context *c, char *problem, size_t size) {
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
        snprintf(problem, size, "the system's certificates cannot be read: %s", tls_reason());
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

static enum err trust_file(struct tls_context *c, const char *file, char *problem, size_t size) {
    if (SSL_CTX_load_verify_file(c->ssl_ctx, file) != 1) {
        snprintf(problem, size, "%s: no certificates could be read from it: %s", file, tls_reason());
        return ERR_INVALID;
    }
    // Whatever the file names is trusted, be it a root, an intermediate or the server's own certificate.
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(c->ssl_ctx), X509_V_FLAG_PARTIAL_CHAIN);
    return OK;
}

static enum err client_init(struct tls_context *c, const struct tls_client_options *options, char *problem,
                            size_t size) {
    enum err e = context_init(c, TLS_client_method(), options->alpn);
    if (e != OK) {
        snprintf(problem, size, "TLS: %s", e == ERR_INVALID ? "malformed list of protocols" : tls_reason());
        return e;
    }
    if (c->alpn_len && SSL_CTX_set_alpn_protos(c->ssl_ctx, c->alpn, c->alpn_len) != 0) { // 0 is success
        snprintf(problem, size, "TLS: malformed list of protocols");
        return ERR_INVALID;
    }
    SSL_CTX_set_session_cache_mode(c->ssl_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c->ssl_ctx, tls_on_session);
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
        tls_context_release(&made->shared);
    }
    ERR_clear_error();
    return e;
}

void tls_client_destroy(struct tls_client *client) {
    if (client) {
        tls_context_release(&client->shared);
    }
}

// Our order of preference decides. Without a protocol in common the handshake ends (RFC 7301 section 3.2).
static int choose_alpn(SSL *ssl UNUSED, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *arg) {
    const struct tls_context *c = arg;
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_len, c->alpn, c->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

// ---- What a server shows

static bool has_name(SSL_CTX *ctx, const char *name) {
    unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
    return X509_check_host(SSL_CTX_get0_certificate(ctx), name, 0, flags, NULL) == 1;
}

static int choose_identity(SSL *ssl, int *alert UNUSED, void *arg) {
    const struct tls_context *c = arg;
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
                 identity->key_file, tls_reason());
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
        snprintf(problem, size, "%s: is not the key of %s: %s", identity->key_file, identity->cert_file, tls_reason());
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
static enum err load_identity(struct tls_context *c, SSL_CTX *ctx, const struct tls_identity *identity, char *problem,
                              size_t size) {
    static const unsigned char id_context[] = "thaw";
    if (SSL_CTX_use_certificate_chain_file(ctx, identity->cert_file) != 1) {
        snprintf(problem, size, "%s: no certificate could be read from it: %s", identity->cert_file, tls_reason());
        return ERR_INVALID;
    }
    enum err e = load_key(ctx, identity, problem, size);
    if (e != OK) {
        return e;
    }
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_timeout(ctx, (long)TLS_TICKET_HOURS * 3600);
    if (SSL_CTX_set_session_id_context(ctx, id_context, sizeof id_context - 1) != 1 ||
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tls_seal_ticket) != 1) {
        snprintf(problem, size, "TLS: %s", tls_reason());
        return ERR_NOMEM;
    }
    if (c->alpn_len) {
        SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, c);
    }
    return OK;
}

static enum err server_init(struct tls_context *c, const struct tls_identity *identities, unsigned count,
                            const char *alpn, char *problem, size_t size) {
    enum err e = context_init(c, TLS_server_method(), alpn);
    if (e != OK) {
        snprintf(problem, size, "TLS: %s", e == ERR_INVALID ? "malformed list of protocols" : tls_reason());
        return e;
    }
    e = load_identity(c, c->ssl_ctx, &identities[0], problem, size);
    c->others = xcalloc(count, sizeof(SSL_CTX *));
    for (unsigned i = 1; i < count && e == OK; i++) {
        SSL_CTX *ctx = create_ssl_ctx(TLS_server_method());
        if (!ctx) {
            snprintf(problem, size, "TLS: %s", tls_reason());
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
        tls_context_release(&made->shared);
    }
    ERR_clear_error();
    return e;
}

void tls_server_destroy(struct tls_server *server) {
    if (server) {
        tls_context_release(&server->shared);
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

static void describe_mismatch(X509_STORE_CTX *store, X509 *cert, char *into, size_t size) {
    char names[128];
    const char *host = X509_VERIFY_PARAM_get0_host(X509_STORE_CTX_get0_param(store), 0);
    list_names(cert, names, sizeof names);
    snprintf(into, size, "certificate is not for %s%s%s%s", host ? host : "this address", names[0] ? " (but for " : "",
             names, names[0] ? ")" : "");
}

void tls_explain_refusal(X509_STORE_CTX *store, char *into, size_t size) {
    X509 *cert = X509_STORE_CTX_get_current_cert(store);
    int error = X509_STORE_CTX_get_error(store);
    const char *whose = X509_STORE_CTX_get_error_depth(store) > 0 ? "certificate of an issuer" : "certificate";
    switch (error) { // OpenSSL's, not an enum
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: describe_mismatch(store, cert, into, size); break;
    case X509_V_ERR_CERT_HAS_EXPIRED: snprintf(into, size, "%s has expired", whose); break;
    case X509_V_ERR_CERT_NOT_YET_VALID: snprintf(into, size, "%s is not valid yet", whose); break;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: snprintf(into, size, "certificate is self-signed"); break;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        snprintf(into, size, "certificate comes from an authority that is not trusted here");
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        snprintf(into, size,
                 "certificate comes from an authority that is not trusted here, or the server does not send "
                 "its intermediate certificates");
        break;
    default: snprintf(into, size, "%s: %s", whose, X509_verify_cert_error_string(error)); break;
    }
}
