// SPDX-License-Identifier: MIT
// The face of POST /parallel: results with the upstreams' answers in them, as they came.
#include "gateway/parallel.h"

#include "gateway/gather.h"
#include "gateway/steps.h"
#include "llm/json.h"
#include "llm/parallel.h"

enum { MEMORY_FACTOR = 24, MEMORY_EXTRA = 64 * 1024, BODY_PARAM_MAX = 32 };

static const struct gather_face face;

// ---- what is asked for

static enum verdict refuse(struct request *r, const struct parallel_problem *problem) {
    struct branch_plan unused;
    if (!problem->message[0] && !gather_plan_peek(r, &unused, r->whole, NULL)) {
        return DONE; // it has said where the body is no JSON
    }
    request_error(r, problem->status, problem->status == 503 ? OUTCOME_EXHAUSTED : OUTCOME_REFUSED,
                  problem->param[0] ? problem->param : NULL, problem->code, "%s%s%s", problem->param,
                  problem->param[0] ? ": " : "", problem->message);
    return DONE;
}

// A path is called here as it would be alone.
static bool check_path(struct request *r, unsigned i, struct str path) {
    const struct route *route = route_find(r->setup->config, target_path(path), METHOD_POST);
    struct str prefix = r->setup->config->prefix;
    char param[BODY_PARAM_MAX];
    snprintf(param, sizeof param, "calls[%u].path", i);
    if (route && route->produce) {
        request_error(r, 422, OUTCOME_REFUSED, param, "nested_calls",
                      "%s: '%.*s' stands for several calls itself, and those cannot be nested.", param,
                      STR_ARG(target_path(path)));
        return false;
    }
    if (!route || !route->looked_at) {
        request_error(r, 404, OUTCOME_REFUSED, param, NULL,
                      "%s: there is nothing to be called at this path; use %.*s/chat/completions, /completions, "
                      "/embeddings, /responses or /messages.",
                      param, STR_ARG(prefix));
        return false;
    }
    return true;
}

static bool plan_call(struct request *r, unsigned i, const struct parallel_call *call) {
    struct branch_plan *plan = &r->gather->branches[i];
    char within[BODY_PARAM_MAX];
    snprintf(within, sizeof within, "calls[%u].body", i);
    plan->id = call->id;
    plan->target = call->path;
    plan->timeout_ms = call->timeout_ms;
    plan->body_at = (size_t)(call->body.ptr - r->whole.ptr);
    plan->body_len = call->body.len;
    return check_path(r, i, call->path) && gather_plan_peek(r, plan, call->body, within);
}

enum verdict parallel_look(struct request *r) {
    unsigned most = r->setup->config->parallel_branches;
    size_t arena_cap = most * (sizeof(struct parallel_call) + PARALLEL_ID_MAX + PARALLEL_PATH_MAX + 64);
    struct parallel asked;
    struct parallel_problem problem;
    r->gather = gather_plan_create(&face, arena_cap);
    struct gather_plan *plan = r->gather;
    if (!parallel_read(r->whole, most, &plan->arena, &asked, &problem)) {
        return refuse(r, &problem);
    }
    gather_plan_branches(plan, asked.count);
    plan->wanted = asked.wanted;
    plan->deadline_ms = asked.deadline_ms;
    plan->strict = asked.strict;
    plan->streams = asked.stream;
    for (unsigned i = 0; i < asked.count; i++) {
        if (!plan_call(r, i, &asked.calls[i])) {
            return DONE;
        }
    }
    return NEXT;
}

// ---- what comes of it

static enum err look_whether_json(struct str text) {
    struct json *json = NULL;
    size_t cap = 0;
    if (__builtin_mul_overflow(text.len, MEMORY_FACTOR, &cap) || __builtin_add_overflow(cap, MEMORY_EXTRA, &cap)) {
        cap = SIZE_MAX;
    }
    enum err e = json_read(text, cap, &json);
    json_close(json);
    return e;
}

static enum err append_data(struct buf *out, struct str data, bool is_json) {
    return is_json ? buf_str_append(out, data) : json_append_string(out, data);
}

static enum err append_id(const struct branch *b, struct buf *out) {
    enum err e = buf_str_append(out, STR("{\"id\":"));
    return e == OK ? json_append_string(out, b->plan->id) : e;
}

static enum err chunk(struct branch *b, const struct sse_event *event, struct buf *out) {
    enum err json = look_whether_json(event->data);
    enum err e = json == OK || json == ERR_INVALID ? append_id(b, out) : json;
    if (e == OK && event->type.len) {
        e = buf_str_append(out, STR(",\"event\":"));
        e = e == OK ? json_append_string(out, event->type) : e;
    }
    e = e == OK ? buf_str_append(out, STR(",\"data\":")) : e;
    e = e == OK ? append_data(out, event->data, json == OK) : e;
    return e == OK ? buf_append(out, "}", 1) : e;
}

// Many end their answers with a line break, which is no part of the value.
static void take(struct branch *b) {
    struct buf *body = &b->body;
    enum err e = look_whether_json(buf_str(body));
    b->is_json = e == OK;
    while (b->is_json && strchr(" \t\r\n", body->ptr[body->end - 1])) {
        body->end--;
    }
    if (e != OK && e != ERR_INVALID) {
        branch_blame(b, 503, NULL, NULL, "There was no memory for looking at the answer.");
    }
}

static enum err append_body(const struct branch *b, struct buf *out) {
    enum err e = buf_str_append(out, STR(",\"body\":"));
    return e == OK ? append_data(out, buf_str(&b->body), b->is_json) : e;
}

// Half an answer is none; what an upstream says with an error is told beside it.
static bool has_body(const struct branch *b) {
    bool whole = b->state == BRANCH_DONE || (b->error && b->error->status == b->status);
    return whole && buf_len(&b->body) > 0;
}

static enum err result(struct branch *b, struct buf *out) {
    int status = b->error ? b->error->status : b->status;
    enum err e = append_id(b, out);
    if (e == OK) {
        e = status ? buf_printf(out, ",\"status\":%d", status) : buf_str_append(out, STR(",\"status\":null"));
    }
    e = e == OK && has_body(b) ? append_body(b, out) : e;
    if (e == OK && b->error) {
        e = buf_str_append(out, STR(",\"error\":"));
        e = e == OK ? branch_write_error(b, out) : e;
    }
    e = e == OK ? buf_append(out, ",", 1) : e;
    e = e == OK ? branch_write_times(b, out) : e;
    buf_finish(&b->body); // told once
    return e == OK ? buf_append(out, "}", 1) : e;
}

static enum err append_counts(const struct gather *g, struct buf *out) {
    return buf_printf(out, "\"done\":%u,\"failed\":%u,\"cancelled\":%u}", g->counts[BRANCH_DONE],
                      g->counts[BRANCH_FAILED], g->counts[BRANCH_CANCELLED]);
}

static enum err part(struct gather *g, unsigned n, struct buf *out) {
    if (n < g->plan->count) {
        enum err e = buf_str_append(out, n ? STR(",") : STR("{\"object\":\"thaw.parallel\",\"results\":["));
        return e == OK ? result(&g->branches[n], out) : e;
    }
    enum err e = buf_str_append(out, STR("],"));
    return e == OK ? append_counts(g, out) : e;
}

static enum err done(struct gather *g, struct buf *out) {
    enum err e = buf_str_append(out, STR("{\"object\":\"thaw.parallel\","));
    return e == OK ? append_counts(g, out) : e;
}

static bool has_failed(const struct gather *g) { return g->plan->strict && g->counts[BRANCH_DONE] < g->plan->wanted; }

static int status(const struct gather *g) {
    const struct branch *failed = has_failed(g) ? gather_first_failed((struct gather *)(uintptr_t)g) : NULL;
    return !failed ? 200 : failed->error->status == 504 ? 504 : 502;
}

static enum err fail(struct gather *g, struct buf *out) {
    const struct branch *b = gather_first_failed(g);
    char param[BODY_PARAM_MAX];
    char message[BRANCH_MESSAGE_MAX + PARALLEL_ID_MAX + 32];
    snprintf(param, sizeof param, "calls[%u]", (unsigned)(b - g->branches));
    snprintf(message, sizeof message, "The call '%.*s' failed: %s", STR_ARG(b->plan->id), b->error->message);
    return answer_write_error(out, "upstream_error", param, b->error->code, str_c(message));
}

static const struct gather_face face = {chunk, take, result, part, done, status, fail};
