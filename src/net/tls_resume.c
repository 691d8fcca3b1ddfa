// SPDX-License-Identifier: MIT
// What spares a handshake its signatures and certificates: as a server the keys of the tickets that clients bring, as a
// client the sessions that servers gave.
//
// A resumed connection is not shown a certificate. So a session is offered only where a full handshake would be
// accepted, too:
// - by the same context: the same authorities, and verification by the same rules. A reload makes a new context, which
//   has no sessions;
// - to the same name and port, so that the name in the certificate was checked against the same one;
// - until the first certificate of its chain expires, the server's lifetime of the ticket is over, or the full handshake
//   that it comes from, be it by way of others, is TRUST_HOURS old.
// A server that takes no ticket makes a full handshake, with everything that is checked in one.
//
// One session per origin is kept, the newest, and offered to all connections until the next comes. RFC 8446 appendix C.4
// asks to use each once, lest somebody on the way recognises the client: a gateway comes from the same address anyway.
// Connections that resume share their session's certificates, which are a third of a connection's memory.
#include "net/tls_inside.h"

#include <openssl/core_names.h>
#include <openssl/ssl.h>

#include "base/mem.h"
#include "net/digest.h"

enum { TICKET_NAME = 16, TICKET_KEY = 32, HOUR_MS = 60 * 60 * 1000, TRUST_HOURS = 24 };

// ---- A client's sessions

struct tls_origin {
    struct tls_origin *next;
    SSL_SESSION *session; // NULL: none
    uint64_t until_ms;    // may be offered before
    uint64_t trusted_until_ms;
    uint16_t port;
    size_t host_len;
    char host[];
};

static bool is_origin(const struct tls_origin *o, struct str host, uint16_t port) {
    return o->port == port && str_eq(str_from(o->host, o->host_len), host);
}

static struct tls_origin *origin_add(struct tls_context *c, struct str host, uint16_t port) {
    struct tls_origin *o = xcalloc(1, sizeof *o + host.len);
    o->port = port;
    o->host_len = host.len;
    memcpy(o->host, host.ptr, host.len);
    o->next = c->origins;
    c->origins = o;
    c->origin_count++;
    return o;
}

struct tls_origin *tls_origin_find(struct tls_context *c, struct str host, uint16_t port) {
    pthread_mutex_lock(&c->lock);
    struct tls_origin *o = c->origins;
    while (o && !is_origin(o, host, port)) {
        o = o->next;
    }
    if (!o && c->origin_count < TLS_ORIGINS_MAX) {
        o = origin_add(c, host, port);
    }
    pthread_mutex_unlock(&c->lock);
    return o;
}

void tls_origins_free(struct tls_context *c) {
    for (struct tls_origin *o = c->origins; o;) {
        struct tls_origin *next = o->next;
        SSL_SESSION_free(o->session);
        free(o);
        o = next;
    }
    c->origins = NULL;
}

// Returns what was there, which the caller frees: not under the lock.
static SSL_SESSION *replace(struct tls_context *c, struct tls_origin *o, SSL_SESSION *session, uint64_t until_ms,
                            uint64_t trusted_until_ms) {
    pthread_mutex_lock(&c->lock);
    SSL_SESSION *before = o->session;
    o->session = session;
    o->until_ms = until_ms;
    o->trusted_until_ms = trusted_until_ms;
    pthread_mutex_unlock(&c->lock);
    return before;
}

void tls_resume_offer(struct tls_context *c, struct tls_resuming *r, SSL *ssl, uint64_t now_ms) {
    SSL_SESSION *session = NULL;
    if (!r->origin) {
        return;
    }
    pthread_mutex_lock(&c->lock);
    if (r->origin->session && now_ms < r->origin->until_ms) {
        session = SSL_SESSION_dup(r->origin->session); // OpenSSL lets one of TLS 1.3 be used once
        r->trusted_until_ms = r->origin->trusted_until_ms;
    }
    pthread_mutex_unlock(&c->lock);
    if (session) {
        (void)SSL_set_session(ssl, session); // or a full handshake is made
        SSL_SESSION_free(session);
    }
}

// For how long a full handshake at this time would go on to succeed.
static uint64_t chain_trusted_ms(SSL *ssl) {
    const STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
    uint64_t trusted_ms = (uint64_t)TRUST_HOURS * HOUR_MS;
    if (!chain || SSL_get_verify_result(ssl) != X509_V_OK) {
        return 0;
    }
    for (int i = 0; i < sk_X509_num(chain); i++) {
        int days = 0;
        int seconds = 0;
        if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(sk_X509_value(chain, i))) != 1 || days < 0 ||
            seconds < 0) {
            return 0;
        }
        trusted_ms = MIN(trusted_ms, ((uint64_t)days * 86400 + (uint64_t)seconds) * 1000);
    }
    return trusted_ms;
}

// What the server says, where it says anything: in TLS 1.3 always, and 0 is "not at all" (RFC 8446 section 4.6.1).
static uint64_t lifetime_ms(const SSL_SESSION *session) {
    bool says = SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION ||
                (SSL_SESSION_has_ticket(session) && SSL_SESSION_get_ticket_lifetime_hint(session) > 0);
    return (says ? (uint64_t)SSL_SESSION_get_ticket_lifetime_hint(session)
                 : (uint64_t)MAX(SSL_SESSION_get_timeout(session), 0)) *
           1000;
}

void tls_resume_keep(struct tls_context *c, struct tls_resuming *r, SSL *ssl, SSL_SESSION *session, uint64_t now_ms) {
    if (!r->origin || !SSL_SESSION_is_resumable(session)) {
        return;
    }
    if (!SSL_session_reused(ssl)) { // else it is trusted for as long as the one that was offered
        r->trusted_until_ms = now_ms + chain_trusted_ms(ssl);
    }
    uint64_t until_ms = MIN(r->trusted_until_ms, now_ms + lifetime_ms(session));
    if (until_ms > now_ms) {
        SSL_SESSION *kept = SSL_SESSION_dup(session); // its own is taken back when the connection is cut or broken off
        SSL_SESSION_free(replace(c, r->origin, kept, until_ms, r->trusted_until_ms));
    }
}

void tls_resume_forget(struct tls_context *c, struct tls_resuming *r) {
    if (r->origin) {
        SSL_SESSION_free(replace(c, r->origin, NULL, 0, 0));
    }
}

// ---- A server's tickets (RFC 5077, RFC 8446 section 4.6.1), stateless: sealed with keys that no client sees

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
int tls_seal_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                    int sealing) {
    uint64_t now_ms = 0;
    struct tls_tickets *tickets = tls_door_tickets(ssl, &now_ms);
    struct ticket_key key;
    int result = 1;
    if (sealing) {
        key_to_seal(tickets, now_ms, &key);
        memcpy(name, key.name, TICKET_NAME);
        random_bytes(iv, (size_t)EVP_CIPHER_get_iv_length(EVP_aes_256_cbc()));
    } else if (!key_to_open(tickets, now_ms, name, &key)) {
        result = 0;
    } else if (SSL_version(ssl) >= TLS1_3_VERSION || older_than(&key, TLS_TICKET_HOURS, now_ms)) {
        result = 2; // in TLS 1.3 most clients use a ticket once
    }
    if (result && !set_up_seal(&key, iv, cipher, mac, sealing)) {
        result = -1;
    }
    explicit_bzero(&key, sizeof key);
    return result;
}
