// SPDX-License-Identifier: MIT
#include "gateway/origin.h"

// Credentials of the browser (cookies) play no part here, so that an origin's name is all that is asked about.
enum verdict origin_step(struct request *r) {
    const struct config *config = r->worker->config;
    struct str origin = config->cors_count ? fields_value(&r->head->fields, FIELD_ORIGIN) : (struct str){NULL, 0};
    for (unsigned i = 0; origin.ptr && !r->cors && i < config->cors_count; i++) {
        const struct str *allowed = &config->cors[i];
        r->cors = str_eq(*allowed, STR("*")) || str_eq(*allowed, origin) ? allowed : NULL;
    }
    if (r->cors && r->head->method == METHOD_OPTIONS && fields_find(&r->head->fields, FIELD_CORS_METHOD)) {
        r->preflight = true;
        request_answer(r, 204, OUTCOME_LOCAL, STR(""));
        return DONE;
    }
    return NEXT;
}

void origin_add_fields(struct request *r, struct fields *fields) {
    fields_remove_flagged(fields, FIELD_CORS); // an upstream's are about itself
    worker_add(fields, STR("Access-Control-Allow-Origin"), *r->cors);
    if (!str_eq(*r->cors, STR("*"))) {
        worker_add(fields, STR("Vary"), STR("Origin"));
    }
    if (r->preflight) {
        worker_add(fields, STR("Access-Control-Allow-Methods"), STR("GET, HEAD, POST, PUT, PATCH, DELETE"));
        worker_add(fields, STR("Access-Control-Allow-Headers"),
                   STR("Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, X-Api-Key, X-Request-Id, "
                       "X-Thaw-Resume, X-Thaw-Progress, OpenAI-Organization, OpenAI-Project, OpenAI-Beta, "
                       "Anthropic-Version, Anthropic-Beta, X-Stainless-Arch, X-Stainless-Lang, X-Stainless-OS, "
                       "X-Stainless-Package-Version, X-Stainless-Retry-Count, X-Stainless-Runtime, "
                       "X-Stainless-Runtime-Version, X-Stainless-Timeout"));
        worker_add(fields, STR("Access-Control-Max-Age"), STR("7200"));
    } else {
        worker_add(fields, STR("Access-Control-Expose-Headers"),
                   STR("X-Thaw-Tape, X-Request-Id, Location, Retry-After, Idempotent-Replayed"));
    }
}
