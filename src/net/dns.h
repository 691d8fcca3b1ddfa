// SPDX-License-Identifier: MIT
// Names to addresses by c-ares on the loop: never blocks. A loop has one resolver with a cache that honours
// the records' TTLs (RFC 2181 section 8; at least DNS_TTL_MIN_MS so that TTL 0 does not mean a query per
// call, at most DNS_TTL_MAX_MS); a name that fails is remembered for DNS_NEGATIVE_MS; when a refresh fails,
// the old addresses go on being used for DNS_STALE_MS (RFC 8767): callers wait DNS_STALE_WAIT_MS at most for
// the first refresh that gets no answer, and not at all for later ones. Only "no such name" ends them: that
// is an answer, not a failure. Concurrent questions for one name share one query. The resolver's
// configuration is read again after failures.
#pragma once
#include "net/conn.h"

enum {
    DNS_ADDRESSES_MAX = 16, // of one name; more are left out
    DNS_TTL_MIN_MS = 1000,
    DNS_TTL_MAX_MS = 3600 * 1000,
    DNS_NEGATIVE_MS = 2000,
    DNS_STALE_MS = 10 * 60 * 1000,
    DNS_STALE_WAIT_MS = 500,
    DNS_TIMEOUT_MS = 2000, // of one try to one server
    DNS_TRIES = 2,
    DNS_NAMES_MAX = 1024, // the least recently used goes first
};

struct dns; // opaque: c-ares stays inside dns.c

struct dns_options {
    const char *servers;    // NULL: the system's. "127.0.0.1:5353,..." for tests
    const char *hosts_file; // for tests; NULL: the system's
    unsigned timeout_ms;    // for tests; 0: DNS_TIMEOUT_MS
};

struct dns_query {
    struct list node;
    struct dns_name *name; // what is being asked, NULL once answered
    // Exactly once, never inside dns_resolve. Addresses have the port asked for, IPv6 and IPv4 interleaved in
    // the order the resolver gave (RFC 8305 section 4), and are valid until the callback returns.
    void (*on_resolved)(struct dns_query *q, enum err e, const struct address *addresses, unsigned count);
    uint16_t port;
    const char *problem; // when it failed: why, for people ("no such name"); constant text
};

// Costs nothing until the first name is asked for; `options` may be NULL.
struct dns *dns_create(struct loop *loop, const struct dns_options *options);
void dns_destroy(struct dns *dns); // open queries get ERR_CANCELLED first; not in a callback

// OK with the addresses at once where they are known (numeric hosts, fresh cache: *count > 0, at most
// DNS_ADDRESSES_MAX written to `addresses`), ERR_AGAIN when `q` will be called back, ERR_DNS when the name is
// known to fail, ERR_FULL when DNS_NAMES_MAX names are being asked for. Only q->on_resolved has to be set
// before.
MUSTCHECK enum err dns_resolve(struct dns *dns, struct dns_query *q, struct str host, uint16_t port,
                               struct address *addresses, unsigned *count);
// The callback will not come. Idempotent; also for a zeroed query that was never asked.
void dns_cancel(struct dns_query *q);
