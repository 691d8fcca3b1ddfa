// SPDX-License-Identifier: MIT
// Every looked-at request passes here: the body is read where it lies, in one pass and without memory (llm/scan.h).
// Numbers are only checked, never converted: none of them is needed, 1e999 and a number of a million digits are JSON
// (RFC 8259 section 6), and conversion is where they would cost time.
//
// That a body is no JSON is told before anything else that is wrong with it: the first member that is refused is
// remembered, and the pass goes on to the end.
#include "llm/peek.h"

#include <stdarg.h>

#include "llm/scan.h"

_Static_assert((int)PEEK_DEPTH == (int)SCAN_DEPTH_MAX, "there is one limit");

struct looking {
    struct str body;
    struct peek *peek;
    struct peek_error *error;
};

// --- saying what is wrong ---

static void locate(const struct looking *l, const char *at) {
    struct str before = str_from(l->body.ptr, (size_t)(at - l->body.ptr));
    const char *newline = before.len ? memrchr(before.ptr, '\n', before.len) : NULL;
    l->error->position = before.len;
    l->error->column = (unsigned)(newline ? at - newline : (ptrdiff_t)before.len + 1);
    l->error->line = 1;
    for (size_t i = 0; i < before.len; i++) {
        l->error->line += before.ptr[i] == '\n';
    }
}

static bool PRINTF(4, 5)
    fail(const struct looking *l, enum peek_problem problem, const char *at, const char *format, ...) {
    va_list args;
    l->error->problem = problem;
    l->error->param = NULL;
    locate(l, at);
    va_start(args, format);
    (void)vsnprintf(l->error->message, sizeof l->error->message, format, args);
    va_end(args);
    return false;
}

static bool fail_scan(const struct looking *l, const struct scan *s) {
    struct peek_error *e = l->error;
    if (s->too_deep) {
        return fail(l, PEEK_TOO_DEEP, s->p, "the body is nested deeper than %d levels (byte %zu)", PEEK_DEPTH,
                    (size_t)(s->p - l->body.ptr));
    }
    locate(l, s->p);
    return fail(l, PEEK_NOT_JSON, s->p, "the body is not JSON: line %u, column %u (byte %zu): %s", e->line, e->column,
                e->position, s->problem);
}

// --- members ---

// A member that decides something: it may occur once only. `read` NULL: nothing else about it matters here.
struct rule {
    struct str name;
    const char *param; // what an error calls it
    void (*read)(const struct looking *l, const struct rule *rule, const struct scan_member *member);
};

static void refuse(const struct looking *l, enum peek_problem problem, const struct rule *rule,
                   const struct scan_member *member, const char *what) {
    (void)fail(l, problem, member->name.ptr - 1, "%s %s", rule->param, what);
    l->error->param = rule->param;
}

struct reading {
    const struct looking *l;
    const struct rule *rules;
    size_t n;
    unsigned seen; // a bit per rule
    char room[32]; // no rule's name is longer
};

static void start(struct reading *r, const struct looking *l, const struct rule *rules, size_t n) {
    r->l = l;
    r->rules = rules;
    r->n = n;
    r->seen = 0;
}

static const struct rule *rule_of(const struct reading *r, struct str name) {
    for (size_t i = 0; i < r->n; i++) {
        if (str_eq(r->rules[i].name, name)) {
            return &r->rules[i];
        }
    }
    return NULL;
}

static const struct rule *rule_of_escaped(struct reading *r, struct str name) {
    size_t len = 0;
    return scan_unescape(name, r->room, sizeof r->room, &len) ? rule_of(r, str_from(r->room, len)) : NULL;
}

static void on_member(void *reading, const struct scan_member *member) {
    struct reading *r = reading;
    const struct rule *rule = member->escaped ? rule_of_escaped(r, member->name) : rule_of(r, member->name);
    if (!rule || r->l->error->problem != PEEK_FINE) {
        return;
    }
    unsigned bit = 1u << (rule - r->rules);
    if (r->seen & bit) {
        refuse(r->l, PEEK_DUPLICATE, rule, member, "occurs more than once in the body");
    } else if (rule->read) {
        rule->read(r->l, rule, member);
    }
    r->seen |= bit;
}

static bool is(struct str value, struct str literal) { return str_eq(value, literal); }

static void read_flag(const struct looking *l, const struct rule *rule, const struct scan_member *member, bool *flag) {
    *flag = is(member->value, STR("true"));
    if (!*flag && !is(member->value, STR("false")) && !is(member->value, STR("null"))) {
        refuse(l, PEEK_WRONG_TYPE, rule, member, "must be true, false or null");
    }
}

static void read_stream(const struct looking *l, const struct rule *rule, const struct scan_member *member) {
    l->peek->stream_raw = member->value;
    read_flag(l, rule, member, &l->peek->stream);
}

static void read_background(const struct looking *l, const struct rule *rule UNUSED, const struct scan_member *member) {
    if (is(member->value, STR("true"))) {
        l->peek->background = true;
        l->peek->background_raw = member->value;
    }
}

// What is no such number is the upstream's to refuse.
static void read_max_tokens(const struct looking *l, const struct rule *rule UNUSED, const struct scan_member *member) {
    uint64_t n = 0;
    if (parse_u64(member->value, &n) == OK) {
        l->peek->max_tokens = MAX(l->peek->max_tokens, n);
    }
}

static void read_include_usage(const struct looking *l, const struct rule *rule, const struct scan_member *member) {
    read_flag(l, rule, member, &l->peek->include_usage);
}

static void read_stream_options(const struct looking *l, const struct rule *rule, const struct scan_member *member) {
    static const struct rule rules[] = {
        {STR_INIT("include_usage"), "stream_options.include_usage", read_include_usage},
    };
    struct reading r;
    start(&r, l, rules, ARRAY_LEN(rules));
    struct scan s = scan_of(member->value);
    if (*s.p != '{') {
        if (!is(member->value, STR("null"))) {
            refuse(l, PEEK_WRONG_TYPE, rule, member, "must be an object or null");
        }
        return;
    }
    (void)!scan_object(&s, on_member, &r); // it has been scanned before
}

static void read_model(const struct looking *l, const struct rule *rule, const struct scan_member *member) {
    struct peek *peek = l->peek;
    struct str value = member->value;
    if (is(value, STR("null"))) {
        return;
    }
    if (value.ptr[0] == '"') {
        peek->model_raw = peek->model = str_from(value.ptr + 1, value.len - 2);
        if (str_find(peek->model, '\\') < peek->model.len) {
            peek->model.ptr = peek->model_room;
            if (!scan_unescape(peek->model_raw, peek->model_room, sizeof peek->model_room - 1, &peek->model.len)) {
                peek->model.len = 0; // too long
            }
            peek->model_room[peek->model.len] = '\0';
        }
    }
    if (peek->model.len == 0 || peek->model.len >= sizeof peek->model_room) {
        refuse(l, PEEK_WRONG_TYPE, rule, member, "must be a string of 1 to 255 bytes");
    }
}

#define RULE(name, read)                                                                                               \
    { STR_INIT(name), name, read }
static const struct rule rules[] = {
    RULE("model", read_model),
    RULE("stream", read_stream),
    RULE("stream_options", read_stream_options),
    RULE("background", read_background),
    RULE("max_tokens", read_max_tokens),
    RULE("max_completion_tokens", read_max_tokens),
    RULE("max_output_tokens", read_max_tokens),
    RULE("n", NULL),
    RULE("user", NULL),
};

// --- the whole ---

static bool look(const struct looking *l) {
    struct reading r;
    start(&r, l, rules, ARRAY_LEN(rules));
    struct scan s = scan_of(l->body);
    scan_blanks(&s);
    const char *root = s.p;
    bool object = s.p < s.end && *s.p == '{';
    if (!(object ? scan_object(&s, on_member, &r) : scan_value(&s)) || !scan_end(&s)) {
        return fail_scan(l, &s);
    }
    if (!object) {
        return fail(l, PEEK_NOT_OBJECT, root, "the body must be a JSON object");
    }
    return l->error->problem == PEEK_FINE;
}

static void clear(struct peek *peek) {
    peek->model_raw = peek->model = peek->stream_raw = peek->background_raw = (struct str){NULL, 0};
    peek->stream = peek->include_usage = peek->background = false;
    peek->max_tokens = 0;
    peek->model_room[0] = '\0';
}

bool peek_request(struct str body, struct peek *peek, struct peek_error *error) {
    struct looking l = {.body = body, .peek = peek, .error = error};
    clear(peek);
    error->problem = PEEK_FINE;
    error->param = NULL;
    error->position = 0;
    error->line = error->column = 1;
    error->message[0] = '\0';
    if (body.len == 0) {
        return fail(&l, PEEK_NOT_JSON, body.ptr, "the body is empty; it must be a JSON object");
    }
    bool fine = look(&l);
    if (!fine) {
        clear(peek); // nothing half read
    }
    return fine;
}
