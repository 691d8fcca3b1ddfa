// SPDX-License-Identifier: MIT
// Where the bytes of a head are: fields are kept as offsets from the message's first byte (`base`). A head that
// arrives in one read is never copied: base is the read buffer. One that does not is gathered in `spill`, and base
// moves with it.
#include "http/h1.h"

#include <assert.h>
#include <inttypes.h>
#include <llhttp.h>

#include "base/mem.h"

enum {
    SPILL_BEYOND_HEAD = 128 * 1024, // one read may bring this much behind an unfinished head
    CONNECTION_MAX = 256,           // bytes of Connection fields: each name in them is looked for among all fields
};
static const uint64_t CHUNK_SIZE_MAX = (uint64_t)1 << 53; // exact in every language's numbers

struct span {
    uint32_t at;
    uint32_t len;
};

enum h1_state {
    H1_START, // no byte of a message yet
    H1_IN_HEAD,
    H1_IN_BODY,
    H1_ENDED,
    H1_BROKEN,
};

struct h1 {
    llhttp_t parser;
    enum h1_side side;
    enum h1_state state;
    enum err error; // set by a callback that stopped the parser
    const char *problem;
    bool no_body; // an answer to HEAD
    bool keep_alive;
    const struct http_limits *limits;

    struct buf spill; // the message so far, when its head did not come in one read
    char *base;       // the message's first byte; while a head is being parsed or kept
    struct span method, target;
    struct span *names, *values; // limits->fields of each
    unsigned field_count;
    size_t trailer_bytes; // of trailers and chunk extensions

    char *body_at; // where decoded body bytes of this feed go
    size_t body_len;
    bool head_done; // by this feed

    struct head head;
    struct field *fields; // limits->fields
};

static int refuse(struct h1 *p, enum err e, const char *problem) {
    p->error = p->side == H1_RESPONSE && e != ERR_NOMEM ? ERR_PROTOCOL : e;
    p->problem = problem;
    return HPE_USER;
}

static int refuse_size(struct h1 *p) { return refuse(p, ERR_HEAD_FULL, "the header fields are larger than the limit"); }

static struct h1 *of(llhttp_t *parser) { return container_of(parser, struct h1, parser); }

static struct str span_str(const struct h1 *p, struct span s) { return str_from(p->base + s.at, s.len); }

// llhttp hands a span out in pieces when a read ends inside it; pieces of one span are contiguous from `base`.
static int extend(struct h1 *p, struct span *s, const char *at, size_t n) {
    uint32_t offset = (uint32_t)(at - p->base);
    if (s->len == 0) {
        s->at = offset;
    }
    s->len = offset + (uint32_t)n - s->at;
    if (s->at + s->len > p->limits->head_bytes) {
        return refuse_size(p);
    }
    return 0;
}

static int on_method(llhttp_t *parser, const char *at, size_t n) {
    struct h1 *p = of(parser);
    return extend(p, &p->method, at, n);
}

static int on_url(llhttp_t *parser, const char *at, size_t n) {
    struct h1 *p = of(parser);
    if (p->target.len + n > p->limits->target_bytes) { // before it is found that the head is too large as well
        return refuse(p, ERR_TARGET_LONG, "the request target is longer than the limit");
    }
    return extend(p, &p->target, at, n);
}

// Trailers are read over (RFC 9110 section 6.5.1 lets a recipient discard them), but not without limit.
static int count_trailer(struct h1 *p, size_t n) {
    p->trailer_bytes += n;
    if (p->trailer_bytes > p->limits->head_bytes) {
        return refuse(p, ERR_FRAMING, "the trailers or chunk extensions are larger than the limit");
    }
    return 0;
}

static int on_field(llhttp_t *parser, const char *at, size_t n) {
    struct h1 *p = of(parser);
    if (p->state == H1_IN_BODY) {
        return count_trailer(p, n);
    }
    if (p->field_count == p->limits->fields) {
        return refuse(p, ERR_HEAD_FULL, "there are more header fields than the limit");
    }
    return extend(p, &p->names[p->field_count], at, n);
}

static int on_value(llhttp_t *parser, const char *at, size_t n) {
    struct h1 *p = of(parser);
    return p->state == H1_IN_BODY ? count_trailer(p, n) : extend(p, &p->values[p->field_count], at, n);
}

static int on_value_complete(llhttp_t *parser) {
    struct h1 *p = of(parser);
    if (p->state != H1_IN_BODY) {
        p->field_count++;
        if (p->field_count < p->limits->fields) {
            p->names[p->field_count] = p->values[p->field_count] = (struct span){0, 0};
        }
    }
    return 0;
}

static int on_extension(llhttp_t *parser, const char *at UNUSED, size_t n) { return count_trailer(of(parser), n); }

static int on_chunk_header(llhttp_t *parser) {
    return parser->content_length > CHUNK_SIZE_MAX ? refuse(of(parser), ERR_FRAMING, "a chunk is impossibly large") : 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t n) {
    struct h1 *p = of(parser);
    if (!p->body_at) {
        p->body_at = (char *)(uintptr_t)at;
    } else if (p->body_at + p->body_len != at) { // chunk framing lay between: close the gap
        memmove(p->body_at + p->body_len, at, n);
    }
    p->body_len += n;
    return 0;
}

// ---- what a head must hold to

static bool has_underscore(struct str name) { return str_find(name, '_') < name.len; }

struct framing_fields {
    struct str host, length, coding, expect;
    unsigned hosts, lengths, codings, expects;
    size_t connection_bytes;
};

// Fills head.fields, without names with an underscore: some servers read X_Api_Key as X-Api-Key (facts A13).
static int collect_fields(struct h1 *p, struct framing_fields *f) {
    p->head.fields = (struct fields){.v = p->fields, .cap = p->limits->fields};
    for (unsigned i = 0; i < p->field_count; i++) {
        struct str name = span_str(p, p->names[i]);
        struct str sent = span_str(p, p->values[i]); // llhttp leaves the blanks behind it in
        struct str value = str_trim(sent);
        enum field_id id = field_id(name);
        if (id == FIELD_OTHER && has_underscore(name)) { // no known name has one
            continue;
        }
        p->fields[p->head.fields.n++] = (struct field){name, value, id};
        if (id == FIELD_HOST) {
            f->host = value;
            f->hosts++;
        } else if (id == FIELD_CONTENT_LENGTH) {
            f->length = p->side == H1_REQUEST ? sent : value; // "5 " is allowed, but sent only to confuse (facts A04)
            f->lengths++;
        } else if (id == FIELD_TRANSFER_ENCODING) {
            f->coding = value;
            f->codings++;
        } else if (id == FIELD_EXPECT) {
            f->expect = value;
            f->expects++;
        } else if (id == FIELD_CONNECTION && (f->connection_bytes += value.len) > CONNECTION_MAX) {
            return refuse(p, ERR_HEAD_FULL, "the Connection field is too long");
        }
    }
    return 0;
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
static int check_framing(struct h1 *p, const struct framing_fields *f) {
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
        return 0;
    }
    if (f->lengths) {
        if (f->lengths > 1 || parse_u64(f->length, &length) != OK || length > INT64_MAX) {
            return refuse(p, ERR_FRAMING, "Content-Length is not one plain decimal number");
        }
        p->head.body_len = (int64_t)length;
        return 0;
    }
    p->head.body_len = p->side == H1_REQUEST ? 0 : BODY_UNKNOWN;
    return 0;
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

static int check_target(struct h1 *p, const struct framing_fields *f) {
    struct head *h = &p->head;
    h->authority = f->host;
    if (!target_valid(h->target)) {
        return refuse(p, ERR_INVALID, "the request target has a character it must not have");
    }
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
    return 0;
}

// llhttp lets more pass than "GET /path HTTP/1.1": several blanks, other line ends before it, RTSP and ICE.
static bool start_line_strict(const struct h1 *p) {
    const char *version = p->base + p->target.at + p->target.len; // the head is complete: it is all there
    if (p->target.at != p->method.at + p->method.len + 1 || memcmp(version, " HTTP/1.", 8) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < p->method.at; i++) { // empty lines before it are allowed (RFC 9112 section 2.2)
        if (p->base[i] != "\r\n"[i & 1]) {
            return false;
        }
    }
    return true;
}

static int check_request(struct h1 *p, const struct framing_fields *f) {
    struct head *h = &p->head;
    if (p->parser.http_major != 1 || p->parser.http_minor > 1) {
        return refuse(p, ERR_VERSION, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    }
    if (!start_line_strict(p)) {
        return refuse(p, ERR_INVALID, "the request line is malformed");
    }
    if (h->method == METHOD_CONNECT) {
        return refuse(p, ERR_METHOD, "this is no proxy for CONNECT");
    }
    if (f->hosts > 1 || (f->hosts == 0 && h->minor == 1)) {
        return refuse(p, ERR_INVALID, "an HTTP/1.1 request needs exactly one Host");
    }
    if (f->hosts && !authority_valid(f->host)) {
        return refuse(p, ERR_INVALID, "Host is not a host name with an optional port");
    }
    int stop = check_target(p, f);
    if (stop) {
        return stop;
    }
    if (f->expects && h->minor == 1) {
        if (f->expects > 1 || !str_ieq(f->expect, STR("100-continue"))) {
            return refuse(p, ERR_EXPECT, "the only expectation understood is 100-continue");
        }
        h->expect_continue = h->body_len != 0;
    }
    return 0;
}

// Whatever its fields say (RFC 9112 section 6.3).
static bool never_has_body(int status) { return status < 200 || status == 204 || status == 304; }

static int check_response(struct h1 *p) {
    struct head *h = &p->head;
    if (p->parser.http_major != 1 || p->parser.http_minor > 1) {
        return refuse(p, ERR_VERSION, "the answer is not HTTP/1.0 or HTTP/1.1");
    }
    if (memcmp(p->base, "HTTP/1.", 7) != 0) { // llhttp skips line ends before it
        return refuse(p, ERR_PROTOCOL, "there are bytes before the answer");
    }
    if (h->status < 100 || h->status > 599 || h->status == 101) {
        return refuse(p, ERR_PROTOCOL, "the answer has an impossible status");
    }
    if (never_has_body(h->status) && h->status != 304) {
        h->body_len = 0;
    }
    return 0;
}

// With the empty line at its end. Behind the last field's name, or its value if it has one, nothing but blanks comes
// before the line ends; without fields that is the start line.
static size_t head_size(const struct h1 *p) {
    const char *at = p->base + p->target.at + p->target.len;
    if (p->field_count) {
        struct span name = p->names[p->field_count - 1];
        struct span value = p->values[p->field_count - 1];
        at = value.len ? p->base + value.at + value.len : p->base + name.at + name.len;
    }
    while (*at != '\n') {
        at++;
    }
    return (size_t)(at - p->base) + sizeof "\n\r\n" - 1;
}

static int on_headers_complete(llhttp_t *parser) {
    struct h1 *p = of(parser);
    struct framing_fields f = {0};
    p->head = (struct head){.status = parser->status_code, .minor = parser->http_minor};
    if (p->side == H1_REQUEST) {
        p->head.method_name = span_str(p, p->method);
        p->head.method = method_parse(p->head.method_name);
        p->head.target = span_str(p, p->target);
    }
    int stop = head_size(p) <= p->limits->head_bytes ? 0 : refuse_size(p);
    stop = stop ? stop : collect_fields(p, &f);
    stop = stop ? stop : check_framing(p, &f);
    stop = stop ? stop : p->side == H1_REQUEST ? check_request(p, &f) : check_response(p);
    if (stop) {
        return -1; // in this callback other positive values mean other things
    }
    parser->upgrade = 0; // an offer to upgrade is declined by ignoring it (RFC 9110 section 7.8)
    p->head_done = true;
    p->state = H1_IN_BODY;
    return p->no_body || (p->side == H1_RESPONSE && never_has_body(p->head.status)) ? 1 : 0;
}

static int on_message_complete(llhttp_t *parser) {
    struct h1 *p = of(parser);
    p->keep_alive = llhttp_should_keep_alive(parser) != 0;
    p->state = H1_ENDED;
    return HPE_PAUSED; // what follows is another message's
}

static const llhttp_settings_t settings = {
    .on_method = on_method,
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_header_value_complete = on_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_chunk_extension_name = on_extension,
    .on_chunk_extension_value = on_extension,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

// ---- the parser's life

struct h1 *h1_create(enum h1_side side, const struct http_limits *limits) {
    size_t spans = limits->fields * sizeof(struct span);
    struct h1 *p = try_malloc(sizeof *p + 2 * spans + limits->fields * sizeof(struct field));
    if (!p) {
        return NULL;
    }
    *p = (struct h1){.side = side, .limits = limits};
    p->fields = (struct field *)(void *)(p + 1);
    p->names = (struct span *)(void *)(p->fields + limits->fields);
    p->values = p->names + limits->fields;
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
    llhttp_init(&p->parser, p->side == H1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
    buf_finish(&p->spill);
    p->state = H1_START;
    p->error = OK;
    p->problem = NULL;
    p->no_body = false;
    p->keep_alive = false;
    p->base = NULL;
    p->method = p->target = p->names[0] = p->values[0] = (struct span){0, 0};
    p->field_count = 0;
    p->trailer_bytes = 0;
}

void h1_expect_no_body(struct h1 *p) { p->no_body = true; }
bool h1_begun(const struct h1 *p) { return p->state != H1_START; }
struct head *h1_head(struct h1 *p) {
    return &p->head;
}
const char *h1_problem(const struct h1 *p) { return p->problem ? p->problem : "malformed HTTP"; }

// ---- feeding

static bool is_token_char(char c) { // RFC 9110 section 5.6.2
    char lower = ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

// What llhttp refused by itself, as one of our errors.
static enum err error_of(const struct h1 *p, enum llhttp_errno code) {
    switch (code) {
    case HPE_INVALID_METHOD: // it stops at the first byte that no method it knows goes on with
        return is_token_char(*llhttp_get_error_pos(&p->parser)) ? ERR_METHOD : ERR_INVALID;
    case HPE_INVALID_VERSION: // or something behind a version that is fine
        return p->parser.http_major == 1 && p->parser.http_minor <= 1 ? ERR_INVALID : ERR_VERSION;
    case HPE_PAUSED_H2_UPGRADE: return ERR_VERSION; // HTTP/2's preface
    case HPE_INVALID_URL:
    case HPE_INVALID_HEADER_TOKEN:
    case HPE_INVALID_CONSTANT: return ERR_INVALID;
    default: return ERR_FRAMING; // llhttp's list, not ours
    }
}

static enum err broken(struct h1 *p, enum llhttp_errno code) {
    p->state = H1_BROKEN;
    if (p->error == OK) {
        const char *reason = llhttp_get_error_reason(&p->parser);
        refuse(p, error_of(p, code), code == HPE_PAUSED_H2_UPGRADE ? "HTTP/2 is not spoken here" : reason);
    }
    return p->error;
}

static void fill_result(struct h1 *p, const char *from, const char *stopped_at, struct h1_result *r) {
    *r = (struct h1_result){
        .head_done = p->head_done,
        .body = str_from(p->body_at, p->body_len),
        .end = p->state == H1_ENDED,
        .keep_alive = p->keep_alive,
        .used = (size_t)(stopped_at - from),
    };
}

// Bytes of a head that is not complete, and everything that comes until it is, are gathered in `spill`.
static enum err gather(struct h1 *p, const char *bytes, size_t n) {
    size_t had = buf_len(&p->spill);
    if (had >= p->limits->head_bytes) {
        refuse_size(p);
        return p->error;
    }
    enum err e = buf_append(&p->spill, bytes, n);
    if (e != OK) {
        refuse(p, e == ERR_FULL ? ERR_HEAD_FULL : e, "the header fields are larger than the limit");
        return p->error;
    }
    p->base = p->spill.ptr;
    return OK;
}

// Parses `n` bytes at `from`; the callbacks fill p.
static enum err parse(struct h1 *p, char *from, size_t n, struct h1_result *r) {
    enum llhttp_errno code = llhttp_execute(&p->parser, from, n);
    const char *stopped_at = from + n;
    if (code == HPE_PAUSED) {
        stopped_at = llhttp_get_error_pos(&p->parser);
        code = HPE_OK;
    }
    if (code != HPE_OK) {
        return broken(p, code);
    }
    fill_result(p, from, stopped_at, r);
    return OK;
}

enum err h1_feed(struct h1 *p, char *bytes, size_t n, struct h1_result *r) {
    assert(p->state != H1_ENDED && p->state != H1_BROKEN);
    char *from = bytes;
    bool first = p->state == H1_START;
    bool in_head = p->state != H1_IN_BODY;
    enum err e = OK;
    p->head_done = false;
    p->body_at = NULL;
    p->body_len = 0;
    if (first) {
        p->base = bytes;
        p->state = H1_IN_HEAD;
    } else if (in_head) {
        e = gather(p, bytes, n);
        from = e == OK ? buf_tail(&p->spill) - n : NULL;
    }
    e = e == OK ? parse(p, from, n, r) : e;
    if (e == OK && first && p->state == H1_IN_HEAD) { // the rest will come in another read
        e = gather(p, bytes, n);
    }
    if (e == OK && p->state == H1_IN_HEAD && buf_len(&p->spill) > p->limits->head_bytes) {
        refuse_size(p);
        e = p->error;
    }
    if (e != OK) {
        p->state = H1_BROKEN;
    }
    return e;
}

enum err h1_feed_eof(struct h1 *p, struct h1_result *r) {
    p->head_done = false;
    p->body_at = NULL;
    p->body_len = 0;
    if (p->state == H1_START) {
        return ERR_EOF;
    }
    (void)llhttp_finish(&p->parser); // its result says no more than whether the message ended
    if (p->state != H1_ENDED) {
        p->state = H1_BROKEN;
        p->problem = "the connection was closed in the middle of a message";
        return ERR_CUT;
    }
    p->keep_alive = false;
    fill_result(p, NULL, NULL, r);
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
    size_t n = p->target.at + p->target.len;
    for (unsigned i = 0; i < p->field_count; i++) {
        n = MAX(n, (size_t)p->names[i].at + p->names[i].len);
        n = MAX(n, (size_t)p->values[i].at + p->values[i].len);
    }
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
