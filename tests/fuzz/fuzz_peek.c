// SPDX-License-Identifier: MIT
// peek_request against two other readers of JSON: one written as plainly as can be after RFC 8259, and yyjson. All must
// agree on what is JSON, what the body asks for and what is refused. What differs between two parsers is how policies
// are got round (facts A32).
#include <yyjson.h>

#include "base/mem.h"
#include "fuzz.h"
#include "llm/peek.h"

enum { RECURSION_MAX = 2000 };

// --- the plain reader ---

struct reader {
    const unsigned char *p;
    const unsigned char *end;
    unsigned depth;
    unsigned deepest;
    bool broken; // not JSON
};

struct text {
    char *ptr; // unescaped; heap
    size_t len;
};

enum kind { OTHER, NULL_VALUE, TRUE_VALUE, FALSE_VALUE, STRING, OBJECT };

struct value {
    enum kind kind;
    struct text text; // of a string
    struct str raw;   // of a string between its quotes, of a literal its bytes
    bool usage_twice; // of an object: what its include_usage members are
    bool usage_seen;
    enum kind usage;
    bool usage_bad;
};

static int peek_byte(const struct reader *r) { return r->p < r->end ? *r->p : -1; }

static void blanks(struct reader *r) {
    while (peek_byte(r) == ' ' || peek_byte(r) == '\t' || peek_byte(r) == '\n' || peek_byte(r) == '\r') {
        r->p++;
    }
}

static bool take(struct reader *r, char c) {
    if (peek_byte(r) != c) {
        return false;
    }
    r->p++;
    return true;
}

static bool need(struct reader *r, char c) {
    if (!take(r, c)) {
        r->broken = true;
    }
    return !r->broken;
}

static bool digits(struct reader *r) {
    const unsigned char *from = r->p;
    while (peek_byte(r) >= '0' && peek_byte(r) <= '9') {
        r->p++;
    }
    return r->p > from;
}

static void number(struct reader *r) {
    (void)take(r, '-');
    bool fine = take(r, '0') || digits(r);
    if (fine && take(r, '.')) {
        fine = digits(r);
    }
    if (fine && (take(r, 'e') || take(r, 'E'))) {
        (void)(take(r, '+') || take(r, '-'));
        fine = digits(r);
    }
    r->broken |= !fine;
}

static unsigned hex4(struct reader *r) {
    unsigned code = 0;
    for (int i = 0; i < 4; i++) {
        int digit = peek_byte(r) < 0 ? -1 : hex_value((char)peek_byte(r));
        r->broken |= digit < 0;
        code = code * 16 + (unsigned)(digit & 15);
        r->p += r->p < r->end;
    }
    return code;
}

static void put(struct text *t, unsigned byte) { t->ptr[t->len++] = (char)byte; }

static void put_code(struct text *t, unsigned code) {
    if (code < 0x80) {
        put(t, code);
    } else if (code < 0x800) {
        put(t, 0xC0 | code >> 6);
        put(t, 0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        put(t, 0xE0 | code >> 12);
        put(t, 0x80 | (code >> 6 & 0x3F));
        put(t, 0x80 | (code & 0x3F));
    } else {
        put(t, 0xF0 | code >> 18);
        put(t, 0x80 | (code >> 12 & 0x3F));
        put(t, 0x80 | (code >> 6 & 0x3F));
        put(t, 0x80 | (code & 0x3F));
    }
}

static void unicode_escape(struct reader *r, struct text *t) {
    unsigned code = hex4(r);
    if (code >= 0xDC00 && code <= 0xDFFF) {
        r->broken = true;
    } else if (code >= 0xD800 && code <= 0xDBFF) {
        if (!need(r, '\\') || !need(r, 'u')) {
            return;
        }
        unsigned low = hex4(r);
        r->broken |= low < 0xDC00 || low > 0xDFFF;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (!r->broken) {
        put_code(t, code);
    }
}

static void escape(struct reader *r, struct text *t) {
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (take(r, 'u')) {
        unicode_escape(r, t);
        return;
    }
    const char *at = peek_byte(r) > 0 ? strchr(from, peek_byte(r)) : NULL;
    if (!at) {
        r->broken = true;
        return;
    }
    put(t, (unsigned char)to[at - from]);
    r->p++;
}

// One character of UTF-8, by decoding it and writing it again: what was not the shortest form differs.
static void character(struct reader *r, struct text *t) {
    unsigned lead = *r->p;
    size_t len = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    unsigned code = lead < 0x80 ? lead : lead & (0x7Fu >> len);
    if ((lead >= 0x80 && lead < 0xC0) || lead >= 0xF8 || (size_t)(r->end - r->p) < len) {
        r->broken = true;
        return;
    }
    for (size_t i = 1; i < len; i++) {
        r->broken |= (r->p[i] & 0xC0) != 0x80;
        code = code << 6 | (r->p[i] & 0x3F);
    }
    size_t before = t->len;
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        r->broken = true;
        return;
    }
    put_code(t, code);
    r->broken |= t->len - before != len;
    r->p += len;
}

static void string(struct reader *r, struct value *v) {
    if (!need(r, '"')) {
        return;
    }
    const unsigned char *from = r->p;
    v->text.ptr = xmalloc((size_t)(r->end - r->p) + 8); // nothing grows by being unescaped
    while (!r->broken && !take(r, '"')) {
        if (take(r, '\\')) {
            escape(r, &v->text);
        } else if (peek_byte(r) < 0x20) { // or at the end
            r->broken = true;
        } else {
            character(r, &v->text);
        }
    }
    v->kind = STRING;
    if (!r->broken) {
        v->raw = str_from((const char *)from, (size_t)(r->p - 1 - from));
    }
}

static void literal(struct reader *r, struct value *v, enum kind kind, const char *word) {
    v->kind = kind;
    v->raw = str_from((const char *)r->p, strlen(word));
    while (*word && !r->broken) {
        need(r, *word++);
    }
}

typedef void on_member(void *arg, struct reader *r, const struct value *key, const struct value *value);
static void any(struct reader *r, struct value *v);

static void object(struct reader *r, on_member *each, void *arg) {
    need(r, '{');
    blanks(r);
    for (bool first = true; !r->broken && !(first && take(r, '}')); first = false) {
        struct value key = {.kind = OTHER};
        struct value value = {.kind = OTHER};
        blanks(r);
        string(r, &key);
        blanks(r);
        need(r, ':');
        any(r, &value);
        if (!r->broken) {
            each(arg, r, &key, &value);
        }
        free(key.text.ptr);
        free(value.text.ptr);
        if (take(r, '}')) {
            return;
        }
        need(r, ',');
    }
}

static void array(struct reader *r) {
    need(r, '[');
    blanks(r);
    for (bool first = true; !r->broken && !(first && take(r, ']')); first = false) {
        struct value value = {.kind = OTHER};
        any(r, &value);
        free(value.text.ptr);
        if (take(r, ']')) {
            return;
        }
        need(r, ',');
    }
}

static struct str str_of(const struct value *v) { return str_from(v->text.ptr, v->text.len); }

static bool is_flag(enum kind kind) { return kind == TRUE_VALUE || kind == FALSE_VALUE || kind == NULL_VALUE; }

// What the members of an object inside are; only stream_options' interest.
static void inner_member(void *arg, struct reader *r UNUSED, const struct value *key, const struct value *value) {
    struct value *v = arg;
    if (!str_eq(str_of(key), STR("include_usage")) || v->usage_bad || v->usage_twice) {
        return;
    }
    v->usage_twice = v->usage_seen;
    v->usage_bad = !v->usage_seen && !is_flag(value->kind);
    v->usage_seen = true;
    v->usage = value->kind;
}

static void container(struct reader *r, struct value *v) {
    r->depth++;
    r->deepest = MAX(r->deepest, r->depth);
    if (r->depth > RECURSION_MAX) {
        r->broken = true;
    } else if (peek_byte(r) == '[') {
        array(r);
    } else {
        v->kind = OBJECT;
        object(r, inner_member, v);
    }
    r->depth--;
}

// With the blanks around it.
static void any(struct reader *r, struct value *v) {
    blanks(r);
    int c = peek_byte(r);
    if (c == '"') {
        string(r, v);
    } else if (c == '[' || c == '{') {
        container(r, v);
    } else if (c == 't') {
        literal(r, v, TRUE_VALUE, "true");
    } else if (c == 'f') {
        literal(r, v, FALSE_VALUE, "false");
    } else if (c == 'n') {
        literal(r, v, NULL_VALUE, "null");
    } else {
        number(r);
    }
    blanks(r);
}

// --- the rules, once more ---

struct verdict {
    enum peek_problem problem;
    const char *param;
    unsigned seen;
    bool has_model;
    char model[256];
    size_t model_len;
    struct str raw;
    bool stream;
    bool include_usage;
    bool background;
    struct str stream_raw;
    struct str background_raw;
};

static void refuse(struct verdict *v, enum peek_problem problem, const char *param) {
    v->problem = problem;
    v->param = param;
}

static void judge_model(struct verdict *v, const struct value *value) {
    if (value->kind == NULL_VALUE) {
        return;
    }
    if (value->kind != STRING || value->text.len == 0 || value->text.len > 255) {
        refuse(v, PEEK_WRONG_TYPE, "model");
        return;
    }
    v->has_model = true;
    v->model_len = value->text.len;
    memcpy(v->model, value->text.ptr, value->text.len);
    v->raw = value->raw;
}

static void judge_stream(struct verdict *v, const struct value *value) {
    v->stream = value->kind == TRUE_VALUE;
    v->stream_raw = value->raw;
    if (!is_flag(value->kind)) {
        refuse(v, PEEK_WRONG_TYPE, "stream");
    }
}

static void judge_background(struct verdict *v, const struct value *value) {
    v->background = value->kind == TRUE_VALUE;
    if (v->background) {
        v->background_raw = value->raw;
    }
}

static void judge_options(struct verdict *v, const struct value *value) {
    v->include_usage = value->kind == OBJECT && value->usage_seen && value->usage == TRUE_VALUE;
    if (value->kind != OBJECT && value->kind != NULL_VALUE) {
        refuse(v, PEEK_WRONG_TYPE, "stream_options");
    } else if (value->usage_bad) {
        refuse(v, PEEK_WRONG_TYPE, "stream_options.include_usage");
    } else if (value->usage_twice) {
        refuse(v, PEEK_DUPLICATE, "stream_options.include_usage");
    }
}

static void top_member(void *arg, struct reader *r UNUSED, const struct value *key, const struct value *value) {
    static const struct {
        const char *name;
        void (*judge)(struct verdict *v, const struct value *value);
    } rules[] = {{"model", judge_model}, {"stream", judge_stream},        {"stream_options", judge_options},
                 {"max_tokens", NULL},   {"max_completion_tokens", NULL}, {"n", NULL},
                 {"user", NULL},         {"background", judge_background}};
    struct verdict *v = arg;
    for (unsigned i = 0; i < ARRAY_LEN(rules) && v->problem == PEEK_FINE; i++) {
        if (!str_eq(str_of(key), str_c(rules[i].name))) {
            continue;
        }
        if (v->seen & 1u << i) {
            refuse(v, PEEK_DUPLICATE, rules[i].name);
        } else if (rules[i].judge) {
            rules[i].judge(v, value);
        }
        v->seen |= 1u << i;
    }
}

static struct verdict judge(struct str body, struct reader *r) {
    struct verdict v = {.problem = PEEK_FINE};
    struct value other = {.kind = OTHER};
    const unsigned char *p = (const unsigned char *)body.ptr;
    *r = (struct reader){.p = p, .end = p + body.len};
    blanks(r);
    bool is_object = peek_byte(r) == '{';
    if (is_object) {
        r->depth = r->deepest = 1;
        object(r, top_member, &v);
        blanks(r);
    } else {
        any(r, &other);
    }
    free(other.text.ptr);
    r->broken |= r->p != r->end;
    if (r->broken) {
        refuse(&v, PEEK_NOT_JSON, NULL);
    } else if (r->deepest > PEEK_DEPTH) {
        refuse(&v, PEEK_TOO_DEEP, NULL);
    } else if (!is_object) {
        refuse(&v, PEEK_NOT_OBJECT, NULL);
    }
    return v;
}

// --- the comparison ---

static bool inside(struct str part, struct str whole) {
    return part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len;
}

static bool same_bytes(struct str a, struct str b) { return a.ptr == b.ptr && a.len == b.len; }

static void check_fine(struct str body, const struct peek *peek, const struct verdict *v) {
    MUST(peek->stream == v->stream);
    MUST(peek->include_usage == v->include_usage);
    MUST(peek->background == v->background);
    MUST(same_bytes(peek->stream_raw, v->stream_raw));
    MUST(same_bytes(peek->background_raw, v->background_raw));
    MUST((peek->model.ptr != NULL) == v->has_model);
    MUST((peek->model_raw.ptr != NULL) == v->has_model);
    if (v->has_model) {
        MUST(str_eq(peek->model, str_from(v->model, v->model_len)));
        MUST(same_bytes(peek->model_raw, v->raw));
        MUST(inside(peek->model_raw, body));
        MUST(peek->model.ptr == peek->model_room || inside(peek->model, body));
    }
}

static void check_error(struct str body, const struct peek_error *error) {
    MUST(error->position <= body.len);
    MUST(error->line >= 1 && error->column >= 1);
    MUST(error->message[0] && memchr(error->message, 0, sizeof error->message));
    const char *newline = body.len ? memrchr(body.ptr, '\n', error->position) : NULL;
    MUST(error->column == (newline ? error->position - (size_t)(newline - body.ptr) : error->position + 1));
}

// --- yyjson ---

static void check_flag(yyjson_val *object, const char *name, bool flag) {
    MUST(flag == yyjson_is_true(yyjson_obj_get(object, name)));
}

static void compare_with_yyjson(struct str body, const struct peek *peek, const struct peek_error *error) {
    char *bytes = (char *)(uintptr_t)body.ptr; // copied, not written to, without INSITU
    yyjson_doc *doc = body.len ? yyjson_read(bytes, body.len, YYJSON_READ_NUMBER_AS_RAW) : NULL;
    yyjson_val *root = yyjson_doc_get_root(doc);
    MUST(doc ? error->problem != PEEK_NOT_JSON : error->problem == PEEK_NOT_JSON || error->problem == PEEK_TOO_DEEP);
    MUST(!doc || error->problem == PEEK_TOO_DEEP || yyjson_is_obj(root) == (error->problem != PEEK_NOT_OBJECT));
    if (error->problem == PEEK_FINE) { // then nothing of this occurs twice
        yyjson_val *model = yyjson_obj_get(root, "model");
        MUST(yyjson_is_str(model) == (peek->model.ptr != NULL));
        MUST(!peek->model.ptr || str_eq(peek->model, str_from(yyjson_get_str(model), yyjson_get_len(model))));
        check_flag(root, "stream", peek->stream);
        check_flag(root, "background", peek->background);
        check_flag(yyjson_obj_get(root, "stream_options"), "include_usage", peek->include_usage);
    }
    yyjson_doc_free(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str body = str_from((const char *)data, size);
    struct peek peek;
    struct peek_error error;
    struct reader reader;
    bool fine = peek_request(body, &peek, &error);
    struct verdict v = judge(body, &reader);
    MUST(fine == (error.problem == PEEK_FINE));
    compare_with_yyjson(body, &peek, &error);
    if (fine) {
        MUST(v.problem == PEEK_FINE);
        check_fine(body, &peek, &v);
        return 0;
    }
    check_error(body, &error);
    MUST(!peek.model.ptr && !peek.model_raw.ptr && !peek.stream && !peek.include_usage);
    MUST(!peek.background && !peek.stream_raw.ptr && !peek.background_raw.ptr);
    if (v.problem == PEEK_NOT_JSON) { // depth is looked at first, and what is broken has no depth
        MUST(error.problem == PEEK_NOT_JSON || error.problem == PEEK_TOO_DEEP);
    } else {
        MUST(error.problem == v.problem);
        MUST(!v.param == !error.param && (!v.param || strcmp(v.param, error.param) == 0));
    }
    return 0;
}
