// SPDX-License-Identifier: MIT
#include "probe/question.h"

#include "http/shot.h"
#include "llm/raw.h"

enum { PART_CAP = 1024 * 1024 };

static const struct str mark = STR_INIT("{{nonce}}");

static bool has_mark(struct str s) { return str_search(s, mark) < s.len; }

// ---- placeholders

static void put_value(struct out *o, struct str name, const struct asker *asker) {
    char nonce[NONCE_TEXT];
    if (str_eq(name, STR("nonce"))) {
        put(o, nonce_format(asker->nonce, nonce));
    } else {
        put_u64(o, asker->user);
    }
}

// The next of them at or behind `from`, or text.len; *name is what it is called.
static size_t find_placeholder(struct str text, struct str *name) {
    static const struct str names[] = {STR_INIT("nonce"), STR_INIT("user")};
    for (size_t at = 0; at < text.len; at++) {
        at += str_search(str_skip(text, at), STR("{{"));
        struct str inside = str_skip(text, at + 2);
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            *name = names[i];
            if (str_starts(inside, names[i]) && str_starts(str_skip(inside, names[i].len), STR("}}"))) {
                return at;
            }
        }
    }
    return text.len;
}

static void put_filled(struct out *o, struct str text, const struct asker *asker) {
    struct str name;
    while (text.len) {
        size_t at = find_placeholder(text, &name);
        put(o, str_first(text, at));
        if (at < text.len) {
            put_value(o, name, asker);
            at += name.len + 4;
        }
        text = str_skip(text, at);
    }
}

// ---- where a nonce goes that nobody placed

// The content of the last message, as text or as the last text part.
static struct str last_content(struct str messages) {
    struct str found = {NULL, 0};
    for (struct raw_each each = raw_each(messages); raw_next(&each);) {
        struct str content = raw_member(each.value, STR("content"));
        found = raw_is_string(content) ? content : found;
        for (struct raw_each part = raw_each(content); raw_next(&part);) {
            struct str text = raw_member(part.value, STR("text"));
            found = raw_is_string(text) ? text : found;
        }
    }
    return found;
}

// Where in a JSON body the prompt ends (its closing quote), or body.len.
static size_t end_of_prompt(struct str body) {
    static const struct str names[] = {STR_INIT("messages"), STR_INIT("prompt"),   STR_INIT("input"),
                                       STR_INIT("message"),  STR_INIT("question"), STR_INIT("query"),
                                       STR_INIT("text"),     STR_INIT("content"),  STR_INIT("q")};
    struct str values[ARRAY_LEN(names)];
    if (!raw_open(body, names, ARRAY_LEN(names), values)) {
        return body.len;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct str text = raw_is_array(values[i]) ? last_content(values[i]) : values[i];
        if (raw_is_string(text)) {
            return (size_t)(text.ptr - body.ptr) + text.len - 1;
        }
    }
    return body.len;
}

struct places {
    size_t in_body; // body.len: not there
    bool in_query;
};

static struct places find_places(const struct question *q) {
    struct places p = {.in_body = q->body.len};
    if (!q->as_is && !has_mark(q->body) && !has_mark(q->target)) {
        p.in_body = end_of_prompt(q->body);
        p.in_query = p.in_body == q->body.len;
    }
    return p;
}

// ---- all of it

static void put_target(struct out *o, const struct question *q, const struct places *p, const struct asker *asker) {
    put_filled(o, q->target, asker);
    if (p->in_query) {
        put(o, str_find(q->target, '?') < q->target.len ? STR("&") : STR("?"));
        put_text(o, "thaw_probe=");
        put_value(o, STR("nonce"), asker);
    }
}

static void put_body(struct out *o, const struct question *q, const struct places *p, const struct asker *asker) {
    put_filled(o, str_first(q->body, p->in_body), asker);
    if (p->in_body < q->body.len) {
        put_text(o, " ");
        put_value(o, STR("nonce"), asker);
        put_filled(o, str_skip(q->body, p->in_body), asker);
    }
}

// Fields of the user's, filled, and ours. Their values lie in `texts`, which is written first: it may move.
struct cut {
    size_t from, to;
};

static void put_field_values(struct out *o, const struct question *q, const struct asker *asker, struct cut *cuts) {
    for (unsigned i = 0; i < q->fields.n; i++) {
        cuts[i].from = buf_len(o->b);
        put_filled(o, q->fields.v[i].value, asker);
        if (q->fields.v[i].id == FIELD_COOKIE && asker->cookie.len) {
            put_text(o, "; ");
            put(o, asker->cookie);
        }
        cuts[i].to = buf_len(o->b);
    }
}

static struct str piece(const struct buf *b, struct cut cut) {
    return str_from(buf_str(b).ptr + cut.from, cut.to - cut.from);
}

static enum err add_fields(struct fields *f, const struct question *q, const struct asker *asker,
                           const struct buf *texts, const struct cut *cuts, struct str nonce) {
    enum err e = OK;
    for (unsigned i = 0; e == OK && i < q->fields.n; i++) {
        e = fields_add(f, q->fields.v[i].name, piece(texts, cuts[i]));
    }
    if (e == OK && asker->cookie.len && !fields_find(&q->fields, FIELD_COOKIE)) {
        e = fields_add(f, STR("Cookie"), asker->cookie);
    }
    return e == OK ? fields_add(f, STR(NONCE_FIELD), nonce) : e;
}

static enum err make_head(const struct question *q, const struct asker *asker, struct buf *texts,
                          const struct places *p, size_t body_len, struct head **made) {
    struct field room[QUESTION_FIELDS + 2];
    struct cut cuts[QUESTION_FIELDS];
    struct cut target = {0, 0};
    struct fields fields = FIELDS(room);
    struct out o = {texts, OK};
    char nonce[NONCE_TEXT];
    put_target(&o, q, p, asker);
    target.to = buf_len(texts);
    put_field_values(&o, q, asker, cuts);
    if (o.e == OK) {
        o.e = add_fields(&fields, q, asker, texts, cuts, nonce_format(asker->nonce, nonce));
    }
    struct head head = {
        .method = method_parse(q->method),
        .method_name = q->method,
        .target = piece(texts, target),
        .authority = q->authority,
        .fields = fields,
        .body_len = (int64_t)body_len,
    };
    *made = o.e == OK ? shot_keep_head(&head) : NULL;
    return o.e == OK && !*made ? ERR_NOMEM : o.e;
}

enum err question_ask(const struct question *q, const struct asker *asker, struct head **head, struct buf *body) {
    struct places places = find_places(q);
    struct buf texts;
    buf_init(&texts, PART_CAP);
    struct out o = {body, OK};
    *head = NULL;
    put_body(&o, q, &places, asker);
    if (o.e == OK) {
        o.e = make_head(q, asker, &texts, &places, buf_len(body), head);
    }
    buf_finish(&texts);
    return o.e;
}

// ---- what a user may have written

static bool is_token(struct str s) {
    for (size_t i = 0; i < s.len; i++) {
        char c = ascii_lower(s.ptr[i]);
        bool fine = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~", c));
        if (!fine) {
            return false;
        }
    }
    return s.len > 0;
}

static bool is_clean(struct str s, char from) {
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.ptr[i] < (unsigned char)from && s.ptr[i] != '\t') {
            return false;
        }
    }
    return true;
}

const char *question_check(const struct question *q) {
    static const enum field_id ours[] = {FIELD_HOST, FIELD_CONTENT_LENGTH, FIELD_TRANSFER_ENCODING, FIELD_CONNECTION};
    if (!is_token(q->method)) {
        return "a method is a word, as POST";
    }
    if (q->target.len == 0 || q->target.ptr[0] != '/' || !is_clean(q->target, '!')) {
        return "a path has no blanks and no control characters: they are written %20 and so on";
    }
    for (unsigned i = 0; i < q->fields.n; i++) {
        const struct field *f = &q->fields.v[i];
        if (!is_token(f->name) || !is_clean(f->value, ' ')) {
            return "a header field is 'Name: value', without control characters";
        }
        for (size_t k = 0; k < ARRAY_LEN(ours); k++) {
            if (f->id == ours[k]) {
                return "Host, Content-Length, Transfer-Encoding and Connection are made by thaw";
            }
        }
    }
    return NULL;
}
