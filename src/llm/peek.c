// SPDX-License-Identifier: MIT
// Every looked-at request passes here, so a body of 1 KiB costs no allocation: yyjson's copy and values go to
// the stack first (struct capped). Numbers are only checked, never converted: none of them is needed, 1e999
// and a number of a million digits are JSON (RFC 8259 section 6), and conversion is where they would cost
// time.
//
// yyjson copies the body, keeps the copy in doc->str_pool and unescapes strings in place there: where a
// string starts in the copy it starts in the body. That is how model_raw is found.
//
// Invariant: nothing here recurses on input; depth is checked before parsing (yyjson 0.10 has no limit).
#include "llm/peek.h"

#include <stdalign.h>
#include <stdarg.h>
#include <yyjson.h>

#include "llm/capped.h"

enum { STACK_ROOM = 16 * 1024, MEMORY_FACTOR = 12, MEMORY_EXTRA = 64 * 1024 };

struct looking {
    struct str body;
    const yyjson_doc *doc;
    struct peek *peek;
    struct peek_error *error;
};

// --- counting ---

typedef unsigned char byte_vector __attribute__((vector_size(16)));

// How many bytes of s are c once the bits of `fold` are set; stops soon after `enough`. Written with vectors
// because -O2 leaves such a loop scalar: 40 ns a KiB instead of 600.
static size_t count_bytes(struct str s, unsigned char fold, unsigned char c, size_t enough) {
    size_t count = 0;
    size_t at = 0;
    while (at + sizeof(byte_vector) <= s.len && count <= enough) {
        byte_vector found = {0};
        for (unsigned i = 0; i < 16 && at + sizeof found <= s.len; i++, at += sizeof found) {
            byte_vector bytes;
            memcpy(&bytes, s.ptr + at, sizeof bytes);
            found -= (byte_vector)((bytes | fold) == c); // a hit is 255, that is -1
        }
        for (unsigned i = 0; i < sizeof found; i++) {
            count += found[i];
        }
    }
    for (; at < s.len && count <= enough; at++) {
        count += ((unsigned char)s.ptr[at] | fold) == c;
    }
    return count;
}

// --- saying what is wrong ---

static void locate(const struct looking *l, size_t position) {
    struct str before = str_first(l->body, position);
    const char *newline = before.len ? memrchr(before.ptr, '\n', before.len) : NULL;
    l->error->position = before.len;
    l->error->line = (unsigned)count_bytes(before, 0, '\n', SIZE_MAX) + 1;
    l->error->column = (unsigned)(newline ? before.ptr + before.len - newline : (ptrdiff_t)before.len + 1);
}

static bool PRINTF(4, 5)
    fail(const struct looking *l, enum peek_problem problem, size_t position, const char *format, ...) {
    va_list args;
    l->error->problem = problem;
    locate(l, position);
    va_start(args, format);
    (void)vsnprintf(l->error->message, sizeof l->error->message, format, args);
    va_end(args);
    return false;
}

static bool fail_not_json(const struct looking *l, size_t position, const char *why) {
    struct peek_error *e = l->error;
    e->problem = PEEK_NOT_JSON;
    locate(l, position);
    (void)snprintf(e->message, sizeof e->message, "the body is not JSON: line %u, column %u (byte %zu): %s", e->line,
                   e->column, e->position, why);
    return false;
}

// Where a string of the document begins in the body: behind its quote.
static size_t offset_of(const struct looking *l, yyjson_val *string) {
    return (size_t)(yyjson_get_str(string) - l->doc->str_pool);
}

static bool PRINTF(5, 6) fail_member(const struct looking *l, enum peek_problem problem, const char *param,
                                     yyjson_val *key, const char *format, ...) {
    char message[sizeof l->error->message];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    l->error->param = param;
    return fail(l, problem, offset_of(l, key) - 1, "%s", message);
}

// --- depth ---

// Is there any chance of more than PEEK_DEPTH open brackets? '[' and '{' differ in the bit 0x20 only.
static bool may_be_deep(struct str body) { return count_bytes(body, 0x20, '{', PEEK_DEPTH) > PEEK_DEPTH; }

// One past the quote that ends the string which p is in.
static const char *string_end(const char *p, const char *end) {
    const char *quote;
    while ((quote = memchr(p, '"', (size_t)(end - p)))) {
        const char *slash = quote;
        while (slash > p && slash[-1] == '\\') {
            slash--;
        }
        if ((quote - slash) % 2 == 0) {
            return quote + 1;
        }
        p = quote + 1;
    }
    return end;
}

// The offset of the first bracket that is nested too deep, or body.len. Exact for JSON; what is none is
// refused by the parser anyway.
static size_t too_deep_at(struct str body) {
    const char *end = body.ptr + body.len;
    unsigned depth = 0;
    for (const char *p = body.ptr; p < end;) {
        char c = *p++;
        if (c == '"') {
            p = string_end(p, end);
        } else if (c == '[' || c == '{') {
            if (++depth > PEEK_DEPTH) {
                return (size_t)(p - 1 - body.ptr);
            }
        } else if ((c == ']' || c == '}') && depth) {
            depth--;
        }
    }
    return body.len;
}

static bool check_depth(const struct looking *l) {
    size_t at = may_be_deep(l->body) ? too_deep_at(l->body) : l->body.len;
    return at == l->body.len ||
           fail(l, PEEK_TOO_DEEP, at, "the body is nested deeper than %d levels (byte %zu)", PEEK_DEPTH, at);
}

// --- members ---

static bool read_flag(const struct looking *l, const char *param, yyjson_val *key, yyjson_val *value, bool *flag) {
    if (!yyjson_is_bool(value) && !yyjson_is_null(value)) {
        return fail_member(l, PEEK_WRONG_TYPE, param, key, "%s must be true, false or null", param);
    }
    *flag = yyjson_is_true(value);
    return true;
}

// The bytes of the literal that is a member's value: what stands between them is known to be blanks and a colon.
static struct str literal_raw(const struct looking *l, yyjson_val *key, yyjson_val *value) {
    const char *p = string_end(l->body.ptr + offset_of(l, key), l->body.ptr + l->body.len);
    while (*p < 'a') {
        p++;
    }
    return str_from(p, yyjson_is_false(value) ? 5 : 4);
}

static bool read_stream(const struct looking *l, yyjson_val *key, yyjson_val *value) {
    if (!read_flag(l, "stream", key, value, &l->peek->stream)) {
        return false;
    }
    l->peek->stream_raw = literal_raw(l, key, value);
    return true;
}

static bool read_background(const struct looking *l, yyjson_val *key, yyjson_val *value) {
    l->peek->background = yyjson_is_true(value);
    if (l->peek->background) {
        l->peek->background_raw = literal_raw(l, key, value);
    }
    return true;
}

static bool read_stream_options(const struct looking *l, yyjson_val *key, yyjson_val *value) {
    static const char param[] = "stream_options.include_usage";
    if (!yyjson_is_obj(value)) {
        return yyjson_is_null(value) ||
               fail_member(l, PEEK_WRONG_TYPE, "stream_options", key, "stream_options must be an object or null");
    }
    bool seen = false;
    yyjson_obj_iter each = yyjson_obj_iter_with(value);
    for (yyjson_val *name; (name = yyjson_obj_iter_next(&each));) {
        if (!yyjson_equals_str(name, "include_usage")) {
            continue;
        }
        if (seen) {
            return fail_member(l, PEEK_DUPLICATE, param, name, "%s occurs more than once in the body", param);
        }
        seen = true;
        if (!read_flag(l, param, name, yyjson_obj_iter_get_val(name), &l->peek->include_usage)) {
            return false;
        }
    }
    return true;
}

static bool read_model(const struct looking *l, yyjson_val *key, yyjson_val *value) {
    struct peek *peek = l->peek;
    if (yyjson_is_null(value)) {
        return true;
    }
    size_t len = yyjson_get_len(value);
    if (!yyjson_is_str(value) || len == 0 || len >= sizeof peek->model_room) {
        return fail_member(l, PEEK_WRONG_TYPE, "model", key, "model must be a string of 1 to %zu bytes",
                           sizeof peek->model_room - 1);
    }
    const char *raw = l->body.ptr + offset_of(l, value);
    const char *raw_end = string_end(raw, l->body.ptr + l->body.len) - 1;
    peek->model_raw = str_from(raw, (size_t)(raw_end - raw));
    if (peek->model_raw.len == len) { // an escape is longer than what it stands for
        peek->model = peek->model_raw;
        return true;
    }
    memcpy(peek->model_room, yyjson_get_str(value), len);
    peek->model_room[len] = '\0';
    peek->model = str_from(peek->model_room, len);
    return true;
}

// Members that decide something: each may occur once only. `read` NULL: nothing else about it matters here.
static const struct policy {
    const char *name;
    size_t len;
    bool (*read)(const struct looking *l, yyjson_val *key, yyjson_val *value);
} policies[] = {
#define POLICY(name, read)                                                                                             \
    { name, sizeof name - 1, read }
    POLICY("model", read_model), POLICY("stream", read_stream),         POLICY("stream_options", read_stream_options),
    POLICY("max_tokens", NULL),  POLICY("max_completion_tokens", NULL), POLICY("n", NULL),
    POLICY("user", NULL),        POLICY("background", read_background),
#undef POLICY
};

static const struct policy *policy_of(yyjson_val *key) {
    size_t len = yyjson_get_len(key);
    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        if (policies[i].len == len && memcmp(policies[i].name, yyjson_get_str(key), len) == 0) {
            return &policies[i];
        }
    }
    return NULL;
}

static bool read_members(const struct looking *l) {
    unsigned seen = 0;
    yyjson_val *root = yyjson_doc_get_root((yyjson_doc *)(uintptr_t)l->doc);
    if (!yyjson_is_obj(root)) {
        return fail(l, PEEK_NOT_OBJECT, 0, "the body must be a JSON object");
    }
    yyjson_obj_iter each = yyjson_obj_iter_with(root);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&each));) {
        const struct policy *policy = policy_of(key);
        if (!policy) {
            continue;
        }
        unsigned bit = 1u << (policy - policies);
        if (seen & bit) {
            return fail_member(l, PEEK_DUPLICATE, policy->name, key, "%s occurs more than once in the body",
                               policy->name);
        }
        seen |= bit;
        if (policy->read && !policy->read(l, key, yyjson_obj_iter_get_val(key))) {
            return false;
        }
    }
    return true;
}

// --- the whole ---

static bool fail_parse(const struct looking *l, const struct capped *memory, const yyjson_read_err *e) {
    if (e->code != YYJSON_READ_ERROR_MEMORY_ALLOCATION) {
        return fail_not_json(l, e->pos, e->msg);
    }
    if (memory->over_cap) {
        return fail(l, PEEK_TOO_LARGE, 0, "the body takes more memory to read than one of its size may");
    }
    return fail(l, PEEK_NO_MEMORY, 0, "there is no memory to read the body now; try again later");
}

static bool parse_and_read(struct looking *l) {
    alignas(16) char room[STACK_ROOM];
    struct capped memory;
    yyjson_read_err e;
    size_t cap = 0;
    if (__builtin_mul_overflow(l->body.len, MEMORY_FACTOR, &cap) || __builtin_add_overflow(cap, MEMORY_EXTRA, &cap)) {
        cap = SIZE_MAX;
    }
    capped_init(&memory, room, sizeof room, cap);
    yyjson_alc alc = {capped_malloc, capped_realloc, capped_free, &memory};
    char *bytes = (char *)(uintptr_t)l->body.ptr; // copied, not written to, without INSITU
    yyjson_doc *doc = yyjson_read_opts(bytes, l->body.len, YYJSON_READ_NUMBER_AS_RAW, &alc, &e);
    if (!doc) {
        return fail_parse(l, &memory, &e);
    }
    l->doc = doc;
    bool fine = read_members(l);
    yyjson_doc_free(doc);
    return fine;
}

static void clear(struct peek *peek) {
    peek->model_raw = peek->model = peek->stream_raw = peek->background_raw = (struct str){NULL, 0};
    peek->stream = peek->include_usage = peek->background = false;
    peek->model_room[0] = '\0';
}

bool peek_request(struct str body, struct peek *peek, struct peek_error *error) {
    struct looking l = {.body = body, .peek = peek, .error = error};
    clear(peek);
    *error = (struct peek_error){.problem = PEEK_FINE, .line = 1, .column = 1};
    if (body.len == 0) {
        return fail(&l, PEEK_NOT_JSON, 0, "the body is empty; it must be a JSON object");
    }
    bool fine = check_depth(&l) && parse_and_read(&l);
    if (!fine) {
        clear(peek); // nothing half read
    }
    return fine;
}
