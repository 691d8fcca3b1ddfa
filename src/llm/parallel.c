// SPDX-License-Identifier: MIT
#include "llm/parallel.h"

#include <stdarg.h>

#include "llm/json.h"

enum { MEMORY_FACTOR = 24, MEMORY_EXTRA = 64 * 1024, NAME_SHOWN = 60 };
static const uint64_t time_max_ms = (uint64_t)24 * 3600 * 1000;

enum { CALLS, WAIT, DEADLINE, ON_ERROR, STREAM, TOP_MEMBERS };
static const char *const top_members[TOP_MEMBERS] = {
    [CALLS] = "calls", [WAIT] = "wait", [DEADLINE] = "deadline", [ON_ERROR] = "on_error", [STREAM] = "stream"};

enum { ID, PATH, BODY, TIMEOUT, CALL_MEMBERS };
static const char *const call_members[CALL_MEMBERS] = {
    [ID] = "id", [PATH] = "path", [BODY] = "body", [TIMEOUT] = "timeout"};

static const char *const wait_members[] = {"first"};

struct reading {
    struct json *json;
    struct arena *arena;
    struct parallel *out;
    struct parallel_problem *problem;
    char where[24]; // "calls[2]", or nothing at the top
};

PRINTF(5, 6)
static bool refuse(struct reading *r, int status, const char *code, const char *member, const char *format, ...) {
    struct parallel_problem *p = r->problem;
    va_list args;
    va_start(args, format);
    p->status = status;
    p->code = code;
    (void)vsnprintf(p->message, sizeof p->message, format, args);
    (void)snprintf(p->param, sizeof p->param, "%s%s%s", r->where, r->where[0] && member ? "." : "",
                   member ? member : "");
    va_end(args);
    return false;
}

static bool no_memory(struct reading *r) {
    return refuse(r, 503, "overloaded", NULL, "There is no memory for the request.");
}

static bool wrong_type(struct reading *r, const char *member, const char *wanted) {
    return refuse(r, 400, "invalid_type", member, "'%s' must be %s.", member, wanted);
}

static bool bad_value(struct reading *r, const char *member, const char *wanted) {
    return refuse(r, 422, "invalid_value", member, "'%s' must be %s.", member, wanted);
}

static bool is_known(struct str name, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (str_eq(name, str_c(names[i]))) {
            return true;
        }
    }
    return false;
}

static bool pick(struct reading *r, const struct json_value *object, const char *const *names, size_t n,
                 const struct json_value **values) {
    const char *twice = json_pick(object, names, n, values);
    if (twice) {
        return refuse(r, 400, "duplicate_member", twice, "'%s' is there twice.", twice);
    }
    for (struct json_each each = json_each(object); json_next(&each);) {
        if (!is_known(each.name, names, n)) {
            const char *near = str_nearest(each.name, names, n);
            return refuse(r, 400, "unknown_parameter", NULL, "'%.*s' is not known here%s%s%s",
                          STR_ARG(str_first(each.name, NAME_SHOWN)), near ? "; did you mean '" : ".", near ? near : "",
                          near ? "'?" : "");
        }
    }
    return true;
}

// ---- the members

static bool read_time(struct reading *r, const char *member, const struct json_value *value, uint64_t *ms) {
    static const char wanted[] = "a time of 1ms to 24h, as \"30s\" or a number of seconds";
    double seconds = 0;
    if (!value) {
        return true;
    }
    if (json_is_string(value)) {
        if (parse_duration_ms(json_string(value), ms) != OK) {
            *ms = 0;
        }
    } else if (json_number(value, &seconds)) {
        bool fits = seconds > 0 && seconds * 1000 <= (double)time_max_ms;
        *ms = fits ? (uint64_t)(seconds * 1000 + 0.5) : 0;
    } else {
        return wrong_type(r, member, wanted);
    }
    return (*ms > 0 && *ms <= time_max_ms) || bad_value(r, member, wanted);
}

static bool read_bool(struct reading *r, const char *member, const struct json_value *value, bool *set) {
    *set = json_true(value);
    return !value || json_kind(value) == JSON_FALSE || *set || wrong_type(r, member, "true or false");
}

static bool read_wait(struct reading *r, const struct json_value *value) {
    struct parallel *out = r->out;
    const struct json_value *first = NULL;
    uint64_t k = 0;
    out->wanted = out->count;
    if (!value || str_eq(json_string(value), STR("all"))) {
        return true;
    }
    if (str_eq(json_string(value), STR("any"))) {
        out->wanted = 1;
        return true;
    }
    if (json_is_object(value)) {
        if (!pick(r, value, wait_members, ARRAY_LEN(wait_members), &first)) {
            return false;
        }
        if (json_u64(first, &k) && k >= 1 && k <= out->count) {
            out->wanted = (unsigned)k;
            return true;
        }
        return refuse(r, 422, "invalid_value", "wait", "'wait.first' must be a number from 1 to %u, that of the calls.",
                      out->count);
    }
    return json_is_string(value) ? bad_value(r, "wait", "\"all\", \"any\" or {\"first\": k}")
                                 : wrong_type(r, "wait", "\"all\", \"any\" or {\"first\": k}");
}

static bool read_on_error(struct reading *r, const struct json_value *value) {
    struct str text = json_string(value);
    r->out->strict = str_eq(text, STR("fail"));
    if (!value || r->out->strict || str_eq(text, STR("partial"))) {
        return true;
    }
    return json_is_string(value) ? bad_value(r, "on_error", "\"partial\" or \"fail\"")
                                 : wrong_type(r, "on_error", "\"partial\" or \"fail\"");
}

// ---- a call

static bool read_id(struct reading *r, const struct json_value *value, unsigned index, struct str *id) {
    char number[12];
    if (!value) {
        int n = snprintf(number, sizeof number, "%u", index);
        *id = arena_str(r->arena, str_from(number, (size_t)n));
    } else if (!json_is_string(value)) {
        return wrong_type(r, "id", "a string");
    } else if (json_string(value).len < 1 || json_string(value).len > PARALLEL_ID_MAX) {
        return refuse(r, 422, "invalid_value", "id", "'id' must have 1 to %d bytes.", PARALLEL_ID_MAX);
    } else {
        *id = arena_str(r->arena, json_string(value));
    }
    for (unsigned i = 0; id->ptr && i < index; i++) {
        if (str_eq(r->out->calls[i].id, *id)) {
            return refuse(r, 422, "duplicate_id", "id", "Two calls have this 'id'%s.",
                          value ? "" : ", which is the index of this one");
        }
    }
    return id->ptr || no_memory(r);
}

// RFC 9110 section 7.1: what goes into a request line. A fragment is the client's own.
static bool is_target(struct str path) {
    for (size_t i = 0; i < path.len; i++) {
        if (path.ptr[i] <= ' ' || path.ptr[i] > '~' || path.ptr[i] == '#') {
            return false;
        }
    }
    return path.len && path.len <= PARALLEL_PATH_MAX && path.ptr[0] == '/';
}

static bool read_path(struct reading *r, const struct json_value *value, struct str *path) {
    static const char wanted[] = "a path as it would be called alone, \"/v1/chat/completions\"";
    if (!json_is_string(value)) {
        return wrong_type(r, "path", wanted);
    }
    if (!is_target(json_string(value))) {
        return bad_value(r, "path", wanted);
    }
    *path = arena_str(r->arena, json_string(value));
    return path->ptr || no_memory(r);
}

static bool read_call(struct reading *r, const struct json_value *value, unsigned index) {
    const struct json_value *members[CALL_MEMBERS];
    struct parallel_call *call = &r->out->calls[index];
    snprintf(r->where, sizeof r->where, "calls[%u]", index);
    if (!json_is_object(value)) {
        return refuse(r, 400, "invalid_type", NULL, "A call is an object with 'path' and 'body'.");
    }
    if (!pick(r, value, call_members, CALL_MEMBERS, members) || !read_id(r, members[ID], index, &call->id) ||
        !read_path(r, members[PATH], &call->path) || !read_time(r, "timeout", members[TIMEOUT], &call->timeout_ms)) {
        return false;
    }
    if (!json_is_object(members[BODY])) {
        return wrong_type(r, "body", "the JSON object that the call would have as its body");
    }
    call->body = json_raw(r->json, members[BODY]);
    return call->body.ptr || no_memory(r);
}

static bool read_calls(struct reading *r, const struct json_value *calls, unsigned calls_max) {
    size_t count = json_length(calls);
    unsigned index = 0;
    if (!json_is_array(calls)) {
        return wrong_type(r, "calls", "an array of calls, each {\"path\": ..., \"body\": {...}}");
    }
    if (count < 1 || count > calls_max) {
        return refuse(r, 422, "too_many_calls", "calls",
                      "There must be 1 to %u calls in one (parallel.branches), not %zu.", calls_max, count);
    }
    r->out->calls = arena_alloc(r->arena, count * sizeof *r->out->calls);
    if (!r->out->calls) {
        return no_memory(r);
    }
    r->out->count = (unsigned)count;
    for (struct json_each each = json_each(calls); json_next(&each); index++) {
        if (!read_call(r, each.value, index)) {
            return false;
        }
    }
    r->where[0] = '\0';
    return true;
}

static bool read_all(struct reading *r, unsigned calls_max) {
    const struct json_value *root = json_root(r->json);
    const struct json_value *members[TOP_MEMBERS];
    if (!json_is_object(root)) {
        return refuse(r, 400, "invalid_type", NULL, "The body must be an object with 'calls'.");
    }
    return pick(r, root, top_members, TOP_MEMBERS, members) && read_calls(r, members[CALLS], calls_max) &&
           read_wait(r, members[WAIT]) && read_time(r, "deadline", members[DEADLINE], &r->out->deadline_ms) &&
           read_on_error(r, members[ON_ERROR]) && read_bool(r, "stream", members[STREAM], &r->out->stream);
}

bool parallel_read(struct str text, unsigned calls_max, struct arena *arena, struct parallel *parallel,
                   struct parallel_problem *problem) {
    struct reading r = {.arena = arena, .out = parallel, .problem = problem};
    size_t cap = 0;
    *parallel = (struct parallel){.calls = NULL};
    *problem = (struct parallel_problem){.status = 0};
    if (__builtin_mul_overflow(text.len, MEMORY_FACTOR, &cap) || __builtin_add_overflow(cap, MEMORY_EXTRA, &cap)) {
        cap = SIZE_MAX;
    }
    switch (json_read(text, cap, &r.json)) {
    case OK: break;
    case ERR_NOMEM: return no_memory(&r);
    case ERR_FULL: return refuse(&r, 413, "request_too_large", NULL, "Reading the body takes too much memory.");
    default: return refuse(&r, 400, "invalid_json", NULL, "%s", "");
    }
    bool fine = read_all(&r, calls_max);
    json_close(r.json);
    return fine;
}
