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
#include "net/tls_inside.h"

#include <assert.h>
#include <stdarg.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    RECORD_BYTES = 16 * 1024, // of plaintext, at most (RFC 8446 section 5.1)
    OUT_CAP = 128 * 1024,
    PROBLEM_BYTES = 256,
    HOST_BYTES = 256, // a name has at most 253 (RFC 1035 section 2.3.4)
    OWED_HEAD = 8,
};

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_SHUT, TLS_FAILED, TLS_CLOSED };

struct tls {
    struct conn conn;
    struct conn *below;
    struct tls_context *context;
    struct tls_door *door; // NULL: a client, or nobody keeps it
    struct tls_resuming resuming;
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

static struct tls *tls_of_ssl(SSL *ssl) { return BIO_get_data(SSL_get_rbio(ssl)); } // ex_data would take 0.1 KB

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

// No BIO_get_new_index: there are 127 in a process, and every new configuration would use one up.
BIO_METHOD *tls_method_create(void) {
    BIO_METHOD *made = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "thaw conn");
    if (made && BIO_meth_set_create(made, bio_create) && BIO_meth_set_read(made, bio_read) &&
        BIO_meth_set_write(made, bio_write) && BIO_meth_set_ctrl(made, bio_ctrl)) {
        return made;
    }
    BIO_meth_free(made);
    return NULL;
}

// OpenSSL takes a failure that it finds in its queue for that of the call just made. Looking is cheaper than clearing,
// which goes over all sixteen places.
static void forget_errors(void) {
    if (UNLIKELY(ERR_peek_error())) {
        ERR_clear_error();
    }
}

// ---- What OpenSSL asks and tells ----

// Changes no verdict; it is the only place where the refused certificate can be looked at.
static int on_verify(int accepted, X509_STORE_CTX *store) {
    if (!accepted) {
        SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
        char why[PROBLEM_BYTES];
        tls_explain_refusal(store, why, sizeof why);
        set_problem(tls_of_ssl(ssl), "%s", why);
    }
    return accepted;
}

// A server sends tickets when it likes, usually with its first answer. OpenSSL 3.0 then allocates a write
// buffer (16.5 KB), and keeps it until the next write: on a connection that waits in a pool, nearly for good.
int tls_on_session(SSL *ssl, SSL_SESSION *session) {
    struct tls *t = tls_of_ssl(ssl);
    t->ticket_came = true;
    ERR_set_mark(); // what fails in here is no failure of the call that read the ticket
    tls_resume_keep(t->context, &t->resuming, ssl, session, t->conn.loop->now_ms);
    ERR_pop_to_mark();
    return 0;
}

struct tls_tickets *tls_door_tickets(SSL *ssl, uint64_t *now_ms) {
    const struct tls *t = tls_of_ssl(ssl);
    *now_ms = t->conn.loop->now_ms;
    return t->door->tickets;
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
    default: set_problem(t, "TLS handshake failed: %s", tls_reason()); break;
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

// OpenSSL keeps the keys of the exchange with the connection, empty ones as well as full: 0.4 KB with X25519, with
// ML-KEM (OpenSSL 3.5) 14. And what is not there cannot be stolen.
static void empty_exchanged_keys(SSL *ssl) {
    EVP_PKEY *keys[2] = {NULL, NULL};
    (void)SSL_get_tmp_key(ssl, &keys[0]);
    (void)SSL_get_peer_tmp_key(ssl, &keys[1]);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (keys[i]) {
            (void)EVP_PKEY_set_type(keys[i], EVP_PKEY_X25519);
            EVP_PKEY_free(keys[i]);
        }
    }
    forget_errors();
}

// One step; returns the events to emit.
static unsigned handshake(struct tls *t) {
    bool answered = t->answered;
    if (must_wait(t)) {
        t->hello_waits = true;
        loop_defer(t->conn.loop, &t->later);
        return 0;
    }
    forget_errors();
    int result = SSL_do_handshake(t->ssl);
    count_answer(t, answered);
    bool waiting = result != 1 && SSL_get_error(t->ssl, result) == SSL_ERROR_WANT_READ && t->write_error == OK;
    if (waiting) {
        return 0;
    }
    if (result != 1) {
        handshake_failed(t);
        if (t->error == ERR_TLS || t->error == ERR_TLS_VERIFY) {
            tls_resume_forget(t->context, &t->resuming);
        }
        ERR_clear_error();
        return CONN_HUP;
    }
    set_state(t, TLS_OPEN);
    empty_exchanged_keys(t->ssl);
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
            tls_resume_forget(t->context, &t->resuming);
            set_problem(t, "TLS: %s", tls_reason());
            ERR_clear_error();
        }
        break;
    }
    return t->read_end;
}

// Neither OpenSSL nor the stream below has anything. Saves a call that would allocate a buffer to find nothing for it.
static bool is_empty(struct tls *t) {
    if (!t->drained || SSL_has_pending(t->ssl)) {
        return false;
    }
    free_ticket_buffer(t);
    return true;
}

static enum err tls_read(struct conn *c, void *into, size_t room, size_t *n) {
    struct tls *t = tls_of(c);
    size_t got = 0;
    *n = 0;
    if (t->state != TLS_OPEN && t->state != TLS_SHUT) {
        return t->state == TLS_HANDSHAKE ? ERR_AGAIN : t->state == TLS_FAILED ? t->error : ERR_CANCELLED;
    }
    enum err e = t->read_end;
    while (e == OK && got < room) { // until there is no more: that is what a short read means
        size_t part = 0;
        forget_errors();
        int result = SSL_read_ex(t->ssl, (char *)into + got, room - got, &part);
        got += part;
        e = result != 1 ? read_stopped(t, SSL_get_error(t->ssl, result)) : is_empty(t) ? ERR_AGAIN : OK;
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
        forget_errors();
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
    tls_context_release(t->context), t->context = NULL;
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
    return true;
}

static struct tls *tls_create(struct tls_context *context, struct conn *below) {
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

// 0 where there are no addresses.
static uint16_t port_of(const struct conn *c) {
    struct address a;
    return conn_peer(c, &a) ? ntohs(a.v4.sin_port) : 0; // at the same place in a sockaddr_in6 (RFC 3493 section 3.3)
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
        t->resuming.origin = tls_origin_find(t->context, host, port_of(take_below));
        tls_resume_offer(t->context, &t->resuming, t->ssl, t->conn.loop->now_ms);
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

bool tls_resumed(const struct conn *c) {
    const struct tls *t = const_tls_of(c);
    return t->ssl && SSL_session_reused(t->ssl);
}
