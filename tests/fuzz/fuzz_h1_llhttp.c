// SPDX-License-Identifier: MIT
// HTTP/1 as it is read here, held against llhttp without any leniency: the same bytes, each cut at random on its own, as
// requests, as answers and as answers to HEAD. Whatever is accepted here llhttp must accept, understand as the same and
// find the end of at the same byte. What may differ is in docs/adr/0013, and stands here as DIFFERS, line by line.
#include <llhttp.h>

#include "base/buf.h"
#include "base/mem.h"
#include "fuzz.h"
#include "http/h1.h"

#define DIFFERS(what, condition) (condition)

enum { BYTES_MAX = 256 << 20, MESSAGES_MAX = 200 };

static const struct http_limits limits = HTTP_LIMITS_DEFAULT;

static size_t roll_piece(struct dice *dice) {
    size_t most = (size_t)(dice_roll(dice) % 4);
    return most == 3 ? BYTES_MAX : 1 + (size_t)(dice_roll(dice) % (most == 2 ? 200 : 8));
}

// ---- as it is understood here

struct ours {
    struct h1 *p;
    struct buf body;
    size_t used;
    enum err error; // of the end, if it is one of the connection
    bool head_done, end, by_eof, keep_alive;
};

static void read_ours(struct ours *o, enum h1_side side, bool to_head, struct str stream, struct dice *dice) {
    *o = (struct ours){.p = h1_create(side, &limits)};
    buf_init(&o->body, BYTES_MAX);
    if (to_head) {
        h1_expect_no_body(o->p);
    }
    while (o->error == OK && !o->end && o->used < stream.len) {
        struct str piece = str_first(str_skip(stream, o->used), roll_piece(dice));
        struct h1_result r = {.end = false};
        char *copy = str_dup(piece);
        o->error = h1_feed(o->p, copy, piece.len, &r);
        if (o->error == OK) {
            MUST(buf_str_append(&o->body, r.body) == OK);
            MUST(!r.head_done || h1_keep_head(o->p) == OK);
            o->head_done = o->head_done || r.head_done;
            o->end = r.end;
            o->keep_alive = r.keep_alive;
            o->used += r.used;
        }
        free(copy);
    }
    if (o->error == OK && !o->end) {
        struct h1_result r = {.end = false};
        o->error = h1_feed_eof(o->p, &r);
        o->end = o->by_eof = o->error == OK;
    }
}

static void ours_finish(struct ours *o) {
    h1_destroy(o->p);
    buf_finish(&o->body);
}

// ---- as llhttp understands it

struct theirs {
    llhttp_t parser;
    struct buf method, target, host, fields, name, value, body; // fields as text, "name: value\n"
    uint64_t length;
    uint16_t flags; // at the head's end
    bool to_head, head_done, end, keep_alive;
    bool connection_differs; // in what it makes of the connection: another reading than ours is allowed
    size_t used;             // of the bytes it was given
};

static struct theirs *of(llhttp_t *parser) { return container_of(parser, struct theirs, parser); }

static int append(struct buf *b, const char *at, size_t n) {
    MUST(buf_append(b, at, n) == OK);
    return 0;
}

static int on_method(llhttp_t *p, const char *at, size_t n) { return append(&of(p)->method, at, n); }
static int on_target(llhttp_t *p, const char *at, size_t n) { return append(&of(p)->target, at, n); }
static int on_name(llhttp_t *p, const char *at, size_t n) { return append(&of(p)->name, at, n); }
static int on_value(llhttp_t *p, const char *at, size_t n) { return append(&of(p)->value, at, n); }
static int on_body(llhttp_t *p, const char *at, size_t n) { return append(&of(p)->body, at, n); }

// Blanks other than one behind a comma hide a token from llhttp.
static bool blanks_hide(struct str value) {
    for (size_t i = 0; i < value.len; i++) {
        char next = i + 1 < value.len ? value.ptr[i + 1] : ',';
        if (value.ptr[i] == '\t' || (value.ptr[i] == ' ' && (next == ',' || next == ' ' || next == '\t'))) {
            return true;
        }
    }
    return false;
}

static bool connection_differs(const struct theirs *t, enum field_id id, struct str name, struct str sent) {
    bool trailer = t->head_done;
    return DIFFERS("Proxy-Connection is not Connection", str_ieq(name, STR("proxy-connection"))) ||
           DIFFERS("Connection in trailers is ignored", trailer && id == FIELD_CONNECTION) ||
           DIFFERS("blanks do not hide a token", id == FIELD_CONNECTION && blanks_hide(sent));
}

static int on_value_complete(llhttp_t *p) {
    struct theirs *t = of(p);
    struct str name = buf_str(&t->name);
    struct str value = str_trim(buf_str(&t->value));
    enum field_id id = field_id(name);
    bool dropped = DIFFERS("names with an underscore are dropped", id == FIELD_OTHER && str_find(name, '_') < name.len);
    t->connection_differs = t->connection_differs || connection_differs(t, id, name, buf_str(&t->value));
    if (!t->head_done && !dropped) {
        MUST(buf_printf(&t->fields, "%.*s: %.*s\n", STR_ARG(name), STR_ARG(value)) == OK);
    }
    if (!t->head_done && id == FIELD_HOST) {
        MUST(buf_str_append(&t->host, value) == OK);
    }
    buf_clear(&t->name);
    buf_clear(&t->value);
    return 0;
}

static int on_head(llhttp_t *p) {
    struct theirs *t = of(p);
    t->head_done = true;
    t->length = p->content_length;
    t->flags = p->flags;
    bool interim = p->type == HTTP_RESPONSE && p->status_code < 200;
    return t->to_head || DIFFERS("an interim answer never has a body", interim) ? 1 : 0; // 1: it has none
}

static int on_end(llhttp_t *p) {
    struct theirs *t = of(p);
    t->end = true;
    t->keep_alive = llhttp_should_keep_alive(p) != 0;
    return HPE_PAUSED;
}

static void theirs_finish(struct theirs *t) {
    struct buf *all[] = {&t->method, &t->target, &t->host, &t->fields, &t->name, &t->value, &t->body};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_finish(all[i]);
    }
}

// Up to the message's end, an error, or the end of the bytes.
static void parse_theirs(struct theirs *t, enum h1_side side, bool to_head, struct str bytes, struct dice *dice) {
    static const llhttp_settings_t settings = {.on_method = on_method,
                                               .on_url = on_target,
                                               .on_header_field = on_name,
                                               .on_header_value = on_value,
                                               .on_header_value_complete = on_value_complete,
                                               .on_headers_complete = on_head,
                                               .on_body = on_body,
                                               .on_message_complete = on_end};
    *t = (struct theirs){.to_head = to_head};
    struct buf *all[] = {&t->method, &t->target, &t->host, &t->fields, &t->name, &t->value, &t->body};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_init(all[i], BYTES_MAX);
    }
    llhttp_init(&t->parser, side == H1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
    enum llhttp_errno e = HPE_OK;
    while (e == HPE_OK && t->used < bytes.len) {
        struct str piece = str_first(str_skip(bytes, t->used), roll_piece(dice));
        e = llhttp_execute(&t->parser, piece.ptr, piece.len);
        t->used = e == HPE_OK ? t->used + piece.len : (size_t)(llhttp_get_error_pos(&t->parser) - bytes.ptr);
    }
}

// ---- differences that would hide the rest of the message are taken out of llhttp's bytes

static bool llhttp_knows(struct str method) {
#define METHOD(number, name, string) STR_INIT(#string),
    static const struct str known[] = {HTTP_METHOD_MAP(METHOD)};
#undef METHOD
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (str_eq(method, known[i])) {
            return true;
        }
    }
    return false;
}

// The bytes without [from, to), and `instead` there.
static void replace(struct buf *bytes, size_t from, size_t to, struct str instead) {
    struct str all = buf_str(bytes);
    struct buf b;
    buf_init(&b, BYTES_MAX);
    MUST(buf_str_append(&b, str_first(all, from)) == OK && buf_str_append(&b, instead) == OK);
    MUST(buf_str_append(&b, str_skip(all, to)) == OK);
    buf_finish(bytes);
    *bytes = b;
}

static void replace_method(struct buf *bytes, struct str method) {
    size_t at = str_search(buf_str(bytes), method); // only empty lines are before it
    replace(bytes, at, at + method.len, STR("GET"));
}

// The extension that stopped llhttp: from the first semicolon of the line up to its end. False: it was none.
static bool cut_extension(struct buf *bytes, size_t at) {
    struct str all = buf_str(bytes);
    size_t from = at;
    while (from && all.ptr[from - 1] != '\n') {
        from--;
    }
    from += str_find(str_skip(all, from), ';');
    size_t to = from + str_find(str_skip(all, from), '\r');
    if (from > at || to == all.len) {
        return false;
    }
    replace(bytes, from, to, STR(""));
    return true;
}

static void read_theirs(struct theirs *t, enum h1_side side, bool to_head, struct buf *bytes, struct dice *dice) {
    bool again = false;
    do {
        parse_theirs(t, side, to_head, buf_str(bytes), dice);
        const char *reason = llhttp_get_error_reason(&t->parser);
        again = DIFFERS("chunk extensions need not be well-formed",
                        !t->end && t->head_done && reason && strstr(reason, "chunk extensions")) &&
                cut_extension(bytes, t->used);
        if (again) {
            theirs_finish(t);
        }
    } while (again);
}

// ---- both, side by side

static bool target_same(struct str theirs, struct str host, const struct head *h) {
    if (str_eq(theirs, h->target)) {
        return str_eq(host, h->authority);
    }
    // The absolute form is taken apart: its authority, and what is left, or what stands for nothing.
    const struct str schemes[] = {STR("http://"), STR("https://")};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        struct str rest = str_skip(theirs, schemes[i].len);
        if (str_ieq(str_first(theirs, schemes[i].len), schemes[i]) && str_starts(rest, h->authority)) {
            struct str path = str_skip(rest, h->authority.len);
            bool asterisk = h->method == METHOD_OPTIONS;
            return str_eq(path.len ? path : asterisk ? STR("*") : STR("/"), h->target);
        }
    }
    return false;
}

static int64_t length_of(const struct theirs *t, enum h1_side side) {
    int status = t->parser.status_code;
    if (side == H1_RESPONSE && (status < 200 || status == 204)) {
        return 0;
    }
    if (t->flags & F_CONTENT_LENGTH) {
        MUST(!(t->flags & F_TRANSFER_ENCODING) && t->length <= INT64_MAX);
        return (int64_t)t->length;
    }
    return side == H1_RESPONSE || t->flags & F_CHUNKED ? BODY_UNKNOWN : 0;
}

static void compare_heads(enum h1_side side, const struct ours *o, const struct theirs *t, bool method_differs) {
    const struct head *h = h1_head(o->p);
    struct buf fields;
    MUST(t->head_done);
    MUST(t->parser.http_major == 1 && t->parser.http_minor == h->minor);
    if (side == H1_REQUEST) {
        MUST(method_differs || str_eq(buf_str(&t->method), h->method_name));
        MUST(target_same(buf_str(&t->target), buf_str(&t->host), h));
    } else {
        MUST(t->parser.status_code == h->status);
    }
    MUST(length_of(t, side) == h->body_len);
    buf_init(&fields, BYTES_MAX);
    for (unsigned i = 0; i < h->fields.n; i++) {
        const struct field *f = &h->fields.v[i];
        MUST(buf_printf(&fields, "%.*s: %.*s\n", STR_ARG(f->name), STR_ARG(f->value)) == OK);
    }
    MUST(str_eq(buf_str(&fields), buf_str(&t->fields)));
    buf_finish(&fields);
}

static bool closes_and_keeps(const struct theirs *t) {
    return t->flags & F_CONNECTION_CLOSE && t->flags & F_CONNECTION_KEEP_ALIVE && t->parser.http_minor == 0;
}

static void compare_ends(const struct ours *o, struct theirs *t, size_t taken_out) {
    struct str body = buf_str(&o->body);
    if (o->error != OK) { // refused, or cut; what came of its body may have gone to the peer
        MUST(o->error != ERR_CUT || !t->end);
        MUST(o->error != ERR_CUT || !llhttp_message_needs_eof(&t->parser));
        MUST(str_starts(buf_str(&t->body), body));
        return;
    }
    MUST(str_eq(buf_str(&t->body), body));
    if (o->by_eof) {
        MUST(!t->end && llhttp_get_errno(&t->parser) == HPE_OK && llhttp_message_needs_eof(&t->parser));
        (void)llhttp_finish(&t->parser);
        MUST(t->end);
        return;
    }
    MUST(t->end && t->used + taken_out == o->used);
    MUST(o->keep_alive == t->keep_alive || t->connection_differs ||
         DIFFERS("close wins over keep-alive in HTTP/1.0, too", closes_and_keeps(t) && !o->keep_alive));
}

static bool compare_message(enum h1_side side, bool to_head, struct str stream, struct dice *dice, size_t *used) {
    struct ours o;
    read_ours(&o, side, to_head, stream, dice);
    if (o.head_done) {
        struct str method = h1_head(o.p)->method_name;
        bool unknown = DIFFERS("every method of IANA's registry is known",
                               side == H1_REQUEST && !llhttp_knows(method) && method_registered(METHOD_OTHER, method));
        struct theirs t;
        struct buf bytes;
        buf_init(&bytes, BYTES_MAX);
        MUST(buf_str_append(&bytes, stream) == OK);
        if (unknown) {
            replace_method(&bytes, method);
        }
        read_theirs(&t, side, to_head, &bytes, dice);
        compare_heads(side, &o, &t, unknown);
        compare_ends(&o, &t, stream.len - buf_len(&bytes));
        theirs_finish(&t);
        buf_finish(&bytes);
    }
    *used = o.used;
    ours_finish(&o);
    return o.end && !o.by_eof;
}

static void compare_stream(enum h1_side side, bool to_head, struct str stream, struct dice *dice) {
    size_t used = 0;
    for (unsigned i = 0; i < MESSAGES_MAX && stream.len && compare_message(side, to_head, stream, dice, &used); i++) {
        stream = str_skip(stream, used);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str stream = str_from((const char *)data, size);
    struct dice dice = dice_from(data, size);
    compare_stream(H1_REQUEST, false, stream, &dice);
    compare_stream(H1_RESPONSE, false, stream, &dice);
    compare_stream(H1_RESPONSE, true, stream, &dice);
    return 0;
}
