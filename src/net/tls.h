// SPDX-License-Identifier: MIT
// TLS over any conn, by OpenSSL (this header keeps it out of sight). TLS 1.2 and later, no renegotiation, no
// compression; idle connections give their buffers back.
//
// An idle connection keeps 14.5 KB as a client that resumed and 13.3 KB as a server (OpenSSL 3.0.19, TLS 1.3,
// AES-128-GCM), all of it OpenSSL's but 0.2 KB; what of is in docs/internals/transport.md. A client that made a full
// handshake has the server's certificates, too: 4 KB each. OpenSSL 3.5: 25.3 and 20.7 KB. Record buffers, which are given
// back, would be 33 KB more.
//
// conn_writev: what was not taken must be offered again, the same bytes in whatever pieces, before anything
// else; a part of them may be encrypted and on its way already. (To say something else, close. An owner that is
// seen to offer other bytes gets ERR_SYS.)
//
// conn_read: ERR_EOF is the peer's close_notify. A FIN without it is ERR_CUT: somebody may have cut the
// stream. A fatal alert or a damaged record is ERR_TLS (a server that wants a client certificate says so here
// in TLS 1.3); what the stream below says otherwise is passed on. tls_problem has a sentence about it.
//
// As a client it verifies the chain against the system's store (or `ca_file`) and the name (RFC 6125, RFC
// 9525) within the handshake: nothing can be written before both hold, so no credential ever leaves early. Connections
// of one tls_client to the same name and port resume (RFC 8446 section 2.2) while a full handshake would be accepted.
#pragma once
#include "net/conn.h"

struct tls_client;
struct tls_server;

struct tls_client_options {
    const char *ca_file; // PEM with the certificates to trust instead of the system's; NULL: the system's
    const char *alpn;    // what to offer, comma-separated in order of preference ("h2,http/1.1"); NULL: none
};

// `problem` (of `size` bytes) gets a sentence about what is wrong with the files. Reading the system's store
// takes milliseconds and about 2 MB: create one only when an https upstream is there, share it between loops.
// SSL_CERT_FILE and SSL_CERT_DIR replace the system's store. Destroying a client or server leaves its conns
// alone.
MUSTCHECK enum err tls_client_create(const struct tls_client_options *options, struct tls_client **client,
                                     char *problem, size_t size);
void tls_client_destroy(struct tls_client *client);

// PEM files with a certificate chain and its private key; nobody but its owner may read the latter.
struct tls_identity {
    const char *cert_file;
    const char *key_file;
};
// A client that asks for a name (SNI) gets the first identity that has it, all others get the first one.
MUSTCHECK enum err tls_server_create(const struct tls_identity *identities, unsigned count, const char *alpn,
                                     struct tls_server **server, char *problem, size_t size);
void tls_server_destroy(struct tls_server *server);

// The keys of the session tickets by which clients resume without a signature: one of these for all loops, and for
// every server that a reload makes. A key seals tickets for TLS_TICKET_HOURS, and opens them for as long again. Outlives
// all conns it was given to.
enum { TLS_TICKET_HOURS = 12 };
struct tls_tickets;
struct tls_tickets *tls_tickets_create(void);
void tls_tickets_destroy(struct tls_tickets *tickets); // accepts NULL

// Where one loop's clients come in; zeroed, then set up by its owner, whom the conns do not outlive. A signature takes
// as long as ten relayed calls (RSA-2048: fifty), so that of many clients who come at the same time only
// TLS_HELLOS_PER_TURN are answered in a turn of the loop.
enum { TLS_HELLOS_PER_TURN = 4 };
struct tls_door {
    struct tls_tickets *tickets; // NULL: nobody resumes
    uint64_t turn;               // of the loop, in which
    unsigned answered;           // so many were
};

// A TLS conn over `take_below`, which it owns from now on. The handshake starts at once; the first event of
// the new conn decides: tls_result is OK (connected, verified, may be written), ERR_TLS, ERR_TLS_VERIFY, or
// what the stream below said; ERR_AGAIN while it is still going on. `host` is checked against the certificate
// and sent as SNI unless it is a numeric address (which is checked as an IP address). Never NULL. Bytes may
// have come together with the end of the handshake: whoever takes the conn over later than its first event
// reads without waiting for CONN_READABLE.
struct conn *tls_connect(struct tls_client *client, struct conn *take_below, struct str host);
struct conn *tls_accept(struct tls_server *server, struct tls_door *door, struct conn *take_below);
MUSTCHECK enum err tls_result(const struct conn *c);
// After a failed handshake or read: one line for people ("certificate has expired"), valid until the close;
// "" where there is nothing to say, never NULL.
const char *tls_problem(const struct conn *c);
// Was it resumed from an earlier connection's session, without certificates and signatures?
bool tls_resumed(const struct conn *c);
// The protocol agreed on by ALPN, empty if none.
struct str tls_alpn(const struct conn *c);
