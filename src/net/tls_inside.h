// SPDX-License-Identifier: MIT
// What the three parts of TLS know of each other: contexts (tls_context.c: whom to trust, what to show), what lets
// connections resume (tls_resume.c), and the connections (tls.c). OpenSSL's types stand here by their tags: its headers
// are included by these three files, and never by ours.
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "net/tls.h"

struct bio_method_st;
struct evp_cipher_ctx_st;
struct evp_mac_ctx_st;
struct ssl_ctx_st;
struct ssl_session_st;
struct ssl_st;
struct x509_store_ctx_st;

// ---- Contexts (tls_context.c)

// What connections of one tls_client or tls_server share. Each of them counts as a user, so that the client
// may be destroyed (a new configuration) while connections made with it go on.
struct tls_context {
    struct ssl_ctx_st *ssl_ctx; // of a server's first identity
    struct ssl_ctx_st **others; // of its other ones
    unsigned other_count;
    struct bio_method_st *method;
    unsigned char *alpn; // wire format
    unsigned alpn_len;
    struct tls_origin *origins; // of a client: what it resumes
    unsigned origin_count;
    pthread_mutex_t lock; // of the origins and their sessions
    _Atomic unsigned users;
};
struct tls_client {
    struct tls_context shared; // the first member
};
struct tls_server {
    struct tls_context shared; // the first member
};

void tls_context_release(struct tls_context *c);
// The first reason in OpenSSL's queue, in its words.
const char *tls_reason(void);
// Why a certificate was refused, for people; valid inside of OpenSSL's callback only.
void tls_explain_refusal(struct x509_store_ctx_st *store, char *into, size_t size);

// ---- Resuming (tls_resume.c)

// A host and port that a client asks, and the session it left last. Lives as long as the context. NULL where the
// context has TLS_ORIGINS_MAX others: connections to it are not resumed.
struct tls_origin;
enum { TLS_ORIGINS_MAX = 64 };
struct tls_origin *tls_origin_find(struct tls_context *c, struct str host, uint16_t port);
void tls_origins_free(struct tls_context *c);

// The client's side of one connection. Zeroed: it does not resume.
struct tls_resuming {
    struct tls_origin *origin;
    uint64_t trusted_until_ms; // when somebody has to look at the server's certificates again
};
// Offers the origin's session, if there is one that may be relied on at this time.
void tls_resume_offer(struct tls_context *c, struct tls_resuming *r, struct ssl_st *ssl, uint64_t now_ms);
// The server gave a session: its copy is the origin's from now on.
void tls_resume_keep(struct tls_context *c, struct tls_resuming *r, struct ssl_st *ssl, struct ssl_session_st *session,
                     uint64_t now_ms);
// The handshake failed, maybe for what was offered; or the connection broke its rules (RFC 8446 section 6.2).
void tls_resume_forget(struct tls_context *c, struct tls_resuming *r);

// The server's side: OpenSSL asks for the key of a ticket.
int tls_seal_ticket(struct ssl_st *ssl, unsigned char *name, unsigned char *iv, struct evp_cipher_ctx_st *cipher,
                    struct evp_mac_ctx_st *mac, int sealing);

// ---- Connections (tls.c)

// The BIO of a connection; NULL without memory.
struct bio_method_st *tls_method_create(void);
// A server gave a client's connection a session. Always 0: OpenSSL's reference is not taken.
int tls_on_session(struct ssl_st *ssl, struct ssl_session_st *session);
// The keys of the door a client came in by, and its loop's time.
struct tls_tickets *tls_door_tickets(struct ssl_st *ssl, uint64_t *now_ms);
