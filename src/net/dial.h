// SPDX-License-Identifier: MIT
// From a host and a port to a connected, verified conn: resolve, connect, TLS. Addresses are tried by Happy
// Eyeballs (RFC 8305): the next one starts DIAL_STAGGER_MS after the last or as soon as that one failed, the
// first to connect wins, the others are closed. While more addresses wait than may be tried at once, the
// oldest attempt gives way to them; it has had about a second by then.
#pragma once
#include "net/conn.h"
#include "net/dns.h"
#include "net/tls.h"

enum { DIAL_STAGGER_MS = 250, DIAL_ATTEMPTS = 4 }; // at most that many connects at once

struct dial; // one attempt to reach a host, from dial_start to its callback or dial_cancel

struct dial_target {
    struct str host; // name or numeric address; valid until the dial ends
    uint16_t port;
    struct tls_client *tls; // NULL: plain
    uint64_t timeout_ms;    // for all of it
};

// `problem` is for people: "connect to 192.0.2.1:443: the connection was refused", "api.example: certificate
// has expired". Valid until the callback returns; "" on OK. On OK the conn is the callee's, with no owner set
// yet; bytes may have come already, so a protocol in which the server speaks first reads without waiting for
// CONN_READABLE.
typedef void on_dialed(void *owner, enum err e, struct conn *c, const char *problem);

// Never calls back from inside. The result lives until the callback (exactly once) or dial_cancel.
struct dial *dial_start(struct loop *loop, struct dns *dns, const struct dial_target *target, on_dialed *done,
                        void *owner);
// No callback will come; what was begun is closed.
void dial_cancel(struct dial *dial);
