// SPDX-License-Identifier: MIT
// Where the bytes of a head are: fields are kept as offsets from the message's first byte (`base`). A head that
// arrives in one read is never copied: base is the read buffer. One that does not is gathered in `spill`, and base
// moves with it.
#include <assert.h>

#include "base/mem.h"
#include "http/chunked.h"
#include "http/h1_head.h"

enum {
    SPILL_BEYOND_HEAD = 128 * 1024, // one read may bring this much behind an unfinished head
    CONNECTION_MAX = 256,           // bytes of Connection fields: each name in them is looked for among all fields
};

enum h1_state {
    H1_START, // no byte of a message yet
    H1_IN_HEAD,
    H1_IN_BODY,
    H1_ENDED,
    H1_BROKEN,
};

struct h1 {
    // Together, as every piece of a body needs them.
    enum h1_side side;
    enum h1_state state;
    enum { BODY_LENGTH, BODY_CHUNKED, BODY_UNTIL_CLOSE } framing;
    bool no_body;               // an answer to HEAD
    bool says_close, says_keep; // in Connection
    bool head_done;             // by this feed
    uint64_t left;              // BODY_LENGTH
    struct chunked chunked;

    const char *problem;
    const struct http_limits *limits;
    struct buf spill; // the message so far, when its head did not come in one read
    char *base;       // the message's first byte; while a head is being parsed or kept
    struct h1_head scan;
    struct head head;
    struct field *fields; // limits->fields
};

static COLD enum err refuse(struct h1 *p, enum err e, const char *problem) {
    p->problem = problem;
    return p->side == H1_RESPONSE && e != ERR_NOMEM ? ERR_PROTOCOL : e;
}

static enum err refuse_size(struct h1 *p) {
    return refuse(p, ERR_HEAD_FULL, "the header fields are larger than the limit");
}

static struct str span_str(const struct h1 *p, struct span s) { return str_from(p->base + s.at, s.len); }

// ---- what a head must hold to

static struct str trim_end(struct str s) { // blanks before it are no part of a span
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

static bool has_underscore(struct str name) { return str_find(name, '_') < name.len; }

struct framing_fields {
    struct str host, length, coding, expect;
    unsigned hosts, lengths, codings, expects;
    size_t connection_bytes;
};

// "5 " and "chunked\t" are allowed, but sent only to confuse (facts A02, A04). An upstream may be careless with blanks;
// llhttp is with none but spaces.
static struct str framing_value(const struct h1 *p, struct str sent, struct str value) {
    return p->side == H1_REQUEST || str_find(sent, '\t') < sent.len ? sent : value;
}

// Fills head.fields, without names with an underscore: some servers read X_Api_Key as X-Api-Key (facts A13).
static enum err collect_fields(struct h1 *p, struct framing_fields *f) {
    p->head.fields = (struct fields){.v = p->fields, .cap = p->limits->fields};
    for (unsigned i = 0; i < p->scan.count; i++) {
        struct str name = span_str(p, p->scan.names[i]);
        struct str sent = span_str(p, p->scan.values[i]); // with the blanks behind it
        struct str value = trim_end(sent);
        enum field_id id = field_id(name);
        if (id == FIELD_OTHER && has_underscore(name)) { // no known name has one
            continue;
        }
        p->fields[p->head.fields.n++] = (struct field){name, value, id};
        if (id == FIELD_HOST) {
            f->host = value;
            f->hosts++;
        } else if (id == FIELD_CONTENT_LENGTH) {
            f->length = framing_value(p, sent, value);
            f->lengths++;
        } else if (id == FIELD_TRANSFER_ENCODING) {
            f->coding = framing_value(p, sent, value);
            f->codings++;
        } else if (id == FIELD_EXPECT) {
            f->expect = value;
            f->expects++;
        } else if (id == FIELD_CONNECTION) {
            if ((f->connection_bytes += value.len) > CONNECTION_MAX) {
                return refuse(p, ERR_HEAD_FULL, "the Connection field is too long");
            }
            p->says_close = p->says_close || list_has_token(value, STR("close"));
            p->says_keep = p->says_keep || list_has_token(value, STR("keep-alive"));
        }
    }
    return OK;
}

// Something about "chunked" that is not simply that, or nothing at all: no coding to be told as unknown.
static bool coding_malformed(struct str list) {
    struct str part;
    if (list.len == 0) {
        return true;
    }
    while (str_split(&list, ',', &part)) {
        if (str_ieq(str_trim(str_first(part, str_find(part, ';'))), STR("chunked"))) {
            return true;
        }
    }
    return false;
}

// RFC 9112 section 6: exactly one way to find the body's end, or none is believed.
static enum err check_framing(struct h1 *p, const struct framing_fields *f) {
    uint64_t length = 0;
    if (f->lengths && f->codings) {
        return refuse(p, ERR_FRAMING, "both Content-Length and Transfer-Encoding are there");
    }
    if (f->codings) {
        if (p->head.minor == 0) {
            return refuse(p, ERR_FRAMING, "Transfer-Encoding in an HTTP/1.0 message");
        }
        if (f->codings > 1 || !str_ieq(f->coding, STR("chunked"))) {
            return refuse(p, f->codings > 1 || coding_malformed(f->coding) ? ERR_FRAMING : ERR_CODING,
                          "the only Transfer-Encoding understood is a single \"chunked\"");
        }
        p->head.body_len = BODY_UNKNOWN;
        return OK;
    }
    if (f->lengths) {
        if (f->lengths > 1 || parse_u64(f->length, &length) != OK || length > INT64_MAX) {
            return refuse(p, ERR_FRAMING, "Content-Length is not one plain decimal number");
        }
        p->head.body_len = (int64_t)length;
        return OK;
    }
    p->head.body_len = p->side == H1_REQUEST ? 0 : BODY_UNKNOWN;
    return OK;
}

// "GET http://host/path HTTP/1.1": the target's host counts, not the Host field's (RFC 9112 section 3.2.2).
static void take_authority(struct head *h, size_t scheme_len) {
    struct str rest = str_skip(h->target, scheme_len);
    size_t slash = str_find(rest, '/'); // a query before it stays with the authority, which is invalid then
    h->authority = str_first(rest, slash);
    if (slash < rest.len) {
        h->target = str_skip(rest, slash);
    } else {
        h->target = h->method == METHOD_OPTIONS ? STR("*") : STR("/"); // RFC 9112 section 3.2.4
    }
}

static enum err check_target(struct h1 *p, const struct framing_fields *f) {
    struct head *h = &p->head;
    h->authority = f->host;
    if (h->target.ptr[0] != '/') {
        const struct str schemes[] = {STR("http://"), STR("https://")};
        for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
            if (h->target.len > schemes[i].len && str_ieq(str_first(h->target, schemes[i].len), schemes[i])) {
                take_authority(h, schemes[i].len);
                if (!authority_valid(h->authority)) {
                    return refuse(p, ERR_INVALID, "the target's host is not a host name with an optional port");
                }
                break;
            }
        }
    }
    if (h->target.ptr[0] != '/' && !(h->method == METHOD_OPTIONS && str_eq(h->target, STR("*")))) {
        return refuse(p, ERR_INVALID, "the request target must be a path");
    }
    return OK;
}

static enum err check_request(struct h1 *p, const struct framing_fields *f) {
    struct head *h = &p->head;
    if (h->method == METHOD_CONNECT) {
        return refuse(p, ERR_METHOD, "this is no proxy for CONNECT");
    }
    if (!method_registered(h->method, h->method_name)) {
        return refuse(p, ERR_METHOD, "the method is not known");
    }
    if (f->hosts > 1 || (f->hosts == 0 && h->minor == 1)) {
        return refuse(p, ERR_INVALID, "an HTTP/1.1 request needs exactly one Host");
    }
    if (f->hosts && !authority_valid(f->host)) {
        return refuse(p, ERR_INVALID, "Host is not a host name with an optional port");
    }
    enum err e = check_target(p, f);
    if (e != OK) {
        return e;
    }
    if (f->expects && h->minor == 1) {
        if (f->expects > 1 || !str_ieq(f->expect, STR("100-continue"))) {
            return refuse(p, ERR_EXPECT, "the only expectation understood is 100-continue");
        }
        h->expect_continue = h->body_len != 0;
    }
    return OK;
}

// Whatever its fields say (RFC 9112 section 6.3).
static bool never_has_body(int status) { return status < 200 || status == 204 || status == 304; }

static enum err check_response(struct h1 *p) {
    struct head *h = &p->head;
    if (h->status < 100 || h->status > 599 || h->status == 101) {
        return refuse(p, ERR_PROTOCOL, "the answer has an impossible status");
    }
    if (never_has_body(h->status) && h->status != 304) {
        h->body_len = 0;
    }
    return OK;
}

// The head is complete: `size` bytes.
static enum err take_head(struct h1 *p, size_t size) {
    struct framing_fields f = {0};
    p->head = (struct head){.status = p->scan.status, .minor = p->scan.minor};
    if (p->side == H1_REQUEST) {
        p->head.method_name = span_str(p, p->scan.method);
        p->head.method = method_parse(p->head.method_name);
        p->head.target = span_str(p, p->scan.target);
    }
    enum err e = size <= p->limits->head_bytes ? collect_fields(p, &f) : refuse_size(p);
    e = e == OK ? check_framing(p, &f) : e;
    e = e == OK ? p->side == H1_REQUEST ? check_request(p, &f) : check_response(p) : e;
    if (e != OK) {
        return e;
    }
    bool none = p->no_body || (p->side == H1_RESPONSE && never_has_body(p->head.status));
    p->head_done = true;
    p->left = none ? 0 : (uint64_t)MAX(p->head.body_len, 0);
    p->framing = none || p->head.body_len >= 0 ? BODY_LENGTH : f.codings ? BODY_CHUNKED : BODY_UNTIL_CLOSE;
    if (p->framing == BODY_CHUNKED) {
        chunked_begin(&p->chunked, p->limits->head_bytes);
    }
    p->state = p->framing == BODY_LENGTH && p->left == 0 ? H1_ENDED : H1_IN_BODY;
    return OK;
}

// ---- the parser's life

struct h1 *h1_create(enum h1_side side, const struct http_limits *limits) {
    size_t spans = limits->fields * sizeof(struct span);
    struct h1 *p = try_malloc(sizeof *p + 2 * spans + limits->fields * sizeof(struct field));
    if (!p) {
        return NULL;
    }
    *p = (struct h1){.side = side, .limits = limits};
    p->fields = (struct field *)(void *)(p + 1);
    p->scan = (struct h1_head){.side = side, .limits = limits};
    p->scan.names = (struct span *)(void *)(p->fields + limits->fields);
    p->scan.values = p->scan.names + limits->fields;
    buf_init(&p->spill, limits->head_bytes + SPILL_BEYOND_HEAD);
    h1_reset(p);
    return p;
}

void h1_destroy(struct h1 *p) {
    if (p) {
        buf_finish(&p->spill);
        free(p);
    }
}

void h1_reset(struct h1 *p) {
    h1_head_reset(&p->scan);
    buf_finish(&p->spill);
    p->state = H1_START;
    p->problem = NULL;
    p->no_body = p->says_close = p->says_keep = false;
    p->base = NULL;
}

void h1_expect_no_body(struct h1 *p) { p->no_body = true; }
bool h1_begun(const struct h1 *p) { return p->state != H1_START; }
struct head *h1_head(struct h1 *p) {
    return &p->head;
}
const char *h1_problem(const struct h1 *p) { return p->problem ? p->problem : "malformed HTTP"; }

// ---- feeding

// Bytes of a head that is not complete, and everything that comes until it is, are gathered in `spill`.
static enum err gather(struct h1 *p, const char *bytes, size_t n) {
    size_t had = buf_len(&p->spill);
    if (had >= p->limits->head_bytes) {
        return refuse_size(p);
    }
    enum err e = buf_append(&p->spill, bytes, n);
    if (e != OK) {
        return refuse(p, e == ERR_FULL ? ERR_HEAD_FULL : e, "the header fields are larger than the limit");
    }
    p->base = p->spill.ptr;
    return OK;
}

// `n` bytes at `from`, which follow what was parsed before.
static enum err feed_head(struct h1 *p, const char *from, size_t n, size_t *used) {
    size_t size = (size_t)(from - p->base) + n;
    enum err e = h1_head_feed(&p->scan, p->base, size, n);
    *used = p->scan.complete ? n - (size - p->scan.line) : n;
    return e != OK ? refuse(p, e, p->scan.problem) : p->scan.complete ? take_head(p, p->scan.line) : OK;
}

static enum err feed_body(struct h1 *p, char *from, size_t n, struct str *body, size_t *used) {
    enum err e = OK;
    bool ended = false;
    *used = p->framing == BODY_LENGTH ? (size_t)MIN(p->left, (uint64_t)n) : n;
    *body = str_from(from, *used);
    if (p->framing == BODY_LENGTH) {
        p->left -= *used;
        ended = p->left == 0;
    } else if (p->framing == BODY_CHUNKED) {
        e = chunked_feed(&p->chunked, from, n, body, used);
        ended = p->chunked.place == CHUNKED_DONE;
    }
    p->state = ended ? H1_ENDED : H1_IN_BODY;
    return e == OK ? OK : refuse(p, e, p->chunked.problem);
}

// May the connection carry another message (RFC 9112 section 9.3)?
static bool keeps_alive(const struct h1 *p) { return !p->says_close && (p->head.minor > 0 || p->says_keep); }

// `n` bytes at `from`: a head's, or a body's, or both.
static enum err parse(struct h1 *p, char *from, size_t n, struct h1_result *r) {
    size_t of_head = 0;
    size_t of_body = 0;
    enum err e = p->state == H1_IN_HEAD ? feed_head(p, from, n, &of_head) : OK;
    *r = (struct h1_result){.head_done = p->head_done};
    if (e == OK && p->state == H1_IN_BODY && of_head < n) {
        e = feed_body(p, from + of_head, n - of_head, &r->body, &of_body);
    }
    r->used = of_head + of_body;
    r->end = p->state == H1_ENDED;
    r->keep_alive = r->end && keeps_alive(p);
    return e;
}

enum err h1_feed(struct h1 *p, char *bytes, size_t n, struct h1_result *r) {
    assert(p->state != H1_ENDED && p->state != H1_BROKEN);
    char *from = bytes;
    bool first = p->state == H1_START;
    enum err e = OK;
    p->head_done = false;
    if (first) {
        p->base = bytes;
        p->state = H1_IN_HEAD;
    } else if (p->state == H1_IN_HEAD) {
        e = gather(p, bytes, n);
        from = e == OK ? buf_tail(&p->spill) - n : NULL;
    }
    e = e == OK ? parse(p, from, n, r) : e;
    if (e == OK && first && p->state == H1_IN_HEAD) { // the rest will come in another read
        e = gather(p, bytes, n);
    }
    if (e == OK && p->state == H1_IN_HEAD && buf_len(&p->spill) > p->limits->head_bytes) {
        e = refuse_size(p);
    }
    if (e != OK) {
        p->state = H1_BROKEN;
    }
    return e;
}

enum err h1_feed_eof(struct h1 *p, struct h1_result *r) {
    if (p->state == H1_START) {
        return ERR_EOF;
    }
    if (p->state != H1_IN_BODY || p->framing != BODY_UNTIL_CLOSE) {
        p->state = H1_BROKEN;
        p->problem = "the connection was closed in the middle of a message";
        return ERR_CUT;
    }
    p->state = H1_ENDED;
    *r = (struct h1_result){.end = true};
    return OK;
}

static void rebase(const struct h1 *p, struct str *s, const char *old, size_t n) {
    if (s->ptr >= old && s->ptr < old + n) {
        s->ptr = p->base + (s->ptr - old);
    }
}

enum err h1_keep_head(struct h1 *p) {
    if (p->base == p->spill.ptr) {
        return OK; // came in pieces and lives there already
    }
    const char *old = p->base;
    const struct h1_head *scan = &p->scan;
    const struct span *last = scan->count ? &scan->values[scan->count - 1] : &scan->target;
    size_t n = (size_t)last->at + last->len;
    enum err e = buf_append(&p->spill, old, n);
    if (e != OK) {
        return e;
    }
    p->base = p->spill.ptr;
    rebase(p, &p->head.method_name, old, n);
    rebase(p, &p->head.target, old, n);
    rebase(p, &p->head.authority, old, n);
    for (unsigned i = 0; i < p->head.fields.n; i++) {
        rebase(p, &p->fields[i].name, old, n);
        rebase(p, &p->fields[i].value, old, n);
    }
    return OK;
}
