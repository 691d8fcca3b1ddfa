// SPDX-License-Identifier: MIT
#include "gateway/origin.h"

// Credentials of the browser (cookies) play no part here, so that an origin's name is all that is asked about.
static void find_allowed(struct request *r) {
    const struct config *config = r->setup->config;
    struct str origin = config->cors_count ? fields_value(&r->head->fields, FIELD_ORIGIN) : (struct str){NULL, 0};
    for (unsigned i = 0; origin.ptr && !r->cors && i < config->cors_count; i++) {
        const struct str *allowed = &config->cors[i];
        r->cors = str_eq(*allowed, STR("*")) || str_eq(*allowed, origin) ? allowed : NULL;
    }
}

// What a page may send anywhere without having asked for leave (Fetch standard, section 2.2.2).
static bool is_unasked(const struct head *head) {
    static const struct str types[] = {STR_INIT("application/x-www-form-urlencoded"), STR_INIT("multipart/form-data"),
                                       STR_INIT("text/plain")};
    struct str type = fields_value(&head->fields, FIELD_CONTENT_TYPE);
    struct str name = str_trim(str_first(type, str_find(type, ';')));
    bool simple = name.len == 0;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        simple = simple || str_ieq(name, types[i]);
    }
    return simple && head->method == METHOD_POST;
}

// That of another origin which is not allowed. A page cannot write the second field itself.
static bool is_foreign_page(const struct request *r) {
    const struct fields *fields = &r->head->fields;
    return !r->cors && fields_find(fields, FIELD_ORIGIN) &&
           !str_eq(fields_value(fields, FIELD_SEC_FETCH_SITE), STR("same-origin"));
}

enum verdict origin_step(struct request *r) {
    find_allowed(r);
    if (r->cors && r->head->method == METHOD_OPTIONS && fields_find(&r->head->fields, FIELD_CORS_METHOD)) {
        r->preflight = true;
        request_answer(r, 204, OUTCOME_LOCAL, STR(""));
        return DONE;
    }
    if (is_foreign_page(r) && is_unasked(r->head)) { // it cannot read the answer, but would have made a call
        request_error(r, 403, OUTCOME_REFUSED, NULL, NULL,
                      "A page of another origin may call here once that is in 'cors'; until then with 'Content-Type: "
                      "application/json' only.");
        return DONE;
    }
    return NEXT;
}

// What else a page may send is no question: its origin is one that was chosen, and no field of ours is let in by it.
static void add_preflight(const struct request *r, struct fields *fields) {
    struct str wanted = fields_value(&r->head->fields, FIELD_CORS_HEADERS);
    worker_add(fields, STR("Access-Control-Allow-Methods"), STR("GET, HEAD, POST, PUT, PATCH, DELETE"));
    worker_add(fields, STR("Access-Control-Max-Age"), STR("7200"));
    if (wanted.len) {
        worker_add(fields, STR("Access-Control-Allow-Headers"), wanted);
    }
}

void origin_add_fields(struct request *r, struct fields *fields) {
    bool any = str_eq(*r->cors, STR("*"));
    worker_add(fields, STR("Access-Control-Allow-Origin"), *r->cors);
    if (!any || r->preflight) {
        worker_add(fields, STR("Vary"), r->preflight ? STR("Origin, Access-Control-Request-Headers") : STR("Origin"));
    }
    if (r->preflight) {
        add_preflight(r, fields);
    } else {
        worker_add(fields, STR("Access-Control-Expose-Headers"),
                   STR("X-Thaw-Tape, X-Request-Id, Location, Retry-After, Idempotent-Replayed"));
    }
}
