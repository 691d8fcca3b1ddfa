// SPDX-License-Identifier: MIT
// Whatever is read as a fan-out is one: ids differ, targets fit into a request line, bodies are objects within the
// text, and all numbers are in their ranges. Whatever is not is refused with a reason.
#include "base/mem.h"
#include "fuzz.h"
#include "llm/json.h"
#include "llm/parallel.h"

enum { CALLS_MAX = 8, CAP = 16 << 20 };

static void check_call(const struct parallel *p, unsigned i, struct str text) {
    const struct parallel_call *call = &p->calls[i];
    MUST(call->id.len >= 1 && call->id.len <= PARALLEL_ID_MAX);
    for (unsigned other = 0; other < i; other++) {
        MUST(!str_eq(p->calls[other].id, call->id));
    }
    MUST(call->path.len >= 1 && call->path.len <= PARALLEL_PATH_MAX && call->path.ptr[0] == '/');
    for (size_t at = 0; at < call->path.len; at++) {
        MUST(call->path.ptr[at] > ' ' && call->path.ptr[at] <= '~' && call->path.ptr[at] != '#');
    }
    MUST(call->body.ptr >= text.ptr && call->body.ptr + call->body.len <= text.ptr + text.len);
    struct json *json = json_open(call->body, CAP);
    MUST(json && json_is_object(json_root(json)));
    json_close(json);
    MUST(call->timeout_ms <= 24 * 3600 * 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = str_from((const char *)data, size);
    struct arena arena;
    struct parallel p;
    struct parallel_problem problem;
    arena_init(&arena, CAP);
    if (parallel_read(text, CALLS_MAX, &arena, &p, &problem)) {
        MUST(p.count >= 1 && p.count <= CALLS_MAX && p.wanted >= 1 && p.wanted <= p.count);
        MUST(p.deadline_ms <= 24 * 3600 * 1000);
        for (unsigned i = 0; i < p.count; i++) {
            check_call(&p, i, text);
        }
    } else {
        MUST(problem.status >= 400 && problem.status <= 503);
        MUST(problem.code && strnlen(problem.param, sizeof problem.param) < sizeof problem.param);
        MUST(problem.message[0] || strcmp(problem.code, "invalid_json") == 0);
    }
    arena_finish(&arena);
    return 0;
}
