// SPDX-License-Identifier: MIT
// Answers that are no model's: errors, the list of models, and what the mock tells about itself. Errors and models
// are in OpenAI's shape, or in Anthropic's for its clients.
#include "mock/answer.h"
#include "mock/plan.h"

// ---- errors

struct kind {
    int from; // this status and those above, up to the next row's
    const char *type;
    const char *code;
};

static const struct kind openai_kinds[] = {
    {400, "invalid_request_error", NULL}, {401, "invalid_request_error", "invalid_api_key"},
    {402, "invalid_request_error", NULL}, {429, "requests", "rate_limit_exceeded"},
    {430, "invalid_request_error", NULL}, {500, "server_error", NULL},
};

static const struct kind anthropic_kinds[] = {
    {400, "invalid_request_error", NULL},
    {401, "authentication_error", NULL},
    {402, "billing_error", NULL},
    {403, "permission_error", NULL},
    {404, "not_found_error", NULL},
    {405, "invalid_request_error", NULL},
    {413, "request_too_large", NULL},
    {414, "invalid_request_error", NULL},
    {429, "rate_limit_error", NULL},
    {430, "invalid_request_error", NULL},
    {500, "api_error", NULL},
    {504, "timeout_error", NULL},
    {505, "api_error", NULL},
    {529, "overloaded_error", NULL},
    {530, "api_error", NULL},
};

static const struct kind *kind_of(const struct kind *kinds, size_t n, int status) {
    const struct kind *kind = kinds;
    for (size_t i = 0; i < n; i++) {
        kind = status >= kinds[i].from ? &kinds[i] : kind;
    }
    return kind;
}

static void anthropic_error(struct answer *a, struct out *o) {
    put_text(o, "{\"type\":\"error\",\"error\":{\"type\":");
    put_json_or_null(o, kind_of(anthropic_kinds, ARRAY_LEN(anthropic_kinds), a->status)->type);
    put_text(o, ",\"message\":");
    put_json(o, a->message);
    answer_put_id(a, o, STR("},\"request_id\":\"req_mock_"));
    put_text(o, "}\n");
}

static void openai_error(struct answer *a, struct out *o) {
    const struct kind *kind = kind_of(openai_kinds, ARRAY_LEN(openai_kinds), a->status);
    put_text(o, "{\"error\":{\"message\":");
    put_json(o, a->message);
    put_text(o, ",\"type\":");
    put_json_or_null(o, kind->type);
    put_text(o, ",\"param\":");
    put_json_or_null(o, a->param);
    put_text(o, ",\"code\":");
    put_json_or_null(o, kind->code);
    put_text(o, "}}\n");
}

static void error_body(struct answer *a, struct out *o) { (a->anthropic ? anthropic_error : openai_error)(a, o); }

static const struct step error_steps[] = {{.write = error_body}, {.write = NULL}};
const struct script answer_error = {STR_INIT("application/json"), true, error_steps, NULL};

// ---- what no API answers

static void html_body(struct answer *a UNUSED, struct out *o) {
    put_text(o, "<!doctype html>\n<title>Welcome</title>\n<p>Please sign in to use this network.\n");
}

static const struct step empty_steps[] = {{.write = NULL}};
static const struct step html_steps[] = {{.write = html_body}, {.write = NULL}};
const struct script answer_empty = {STR_INIT("application/json"), true, empty_steps, NULL};
const struct script answer_html = {STR_INIT("text/html; charset=utf-8"), true, html_steps, NULL};

// ---- models

static void put_model(const struct answer *a, struct out *o, struct str id) {
    put_text(o, "{\"id\":");
    put_json(o, id);
    if (a->anthropic) {
        put_text(o, ",\"type\":\"model\",\"created_at\":\"2023-11-14T22:13:20Z\",\"display_name\":");
        put_json(o, id);
        put_text(o, "}");
    } else {
        put_text(o, ",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"thaw-mock\"}");
    }
}

static void models_body(struct answer *a, struct out *o) {
    const char *last = "mock";
    put(o, a->anthropic ? STR("{\"data\":[") : STR("{\"object\":\"list\",\"data\":["));
    put_model(a, o, STR("mock"));
    for (size_t i = 0; plan_example(i); i++) {
        last = plan_example(i);
        put_text(o, ",");
        put_model(a, o, str_c(last));
    }
    if (a->anthropic) {
        put_text(o, "],\"has_more\":false,\"first_id\":\"mock\",\"last_id\":");
        put_json(o, str_c(last));
        put_text(o, "}\n");
    } else {
        put_text(o, "]}\n");
    }
}

// Every name is a model here.
static void model_body(struct answer *a, struct out *o) {
    put_model(a, o, a->model);
    put_text(o, "\n");
}

static const struct step models_steps[] = {{.write = models_body}, {.write = NULL}};
static const struct step model_steps[] = {{.write = model_body}, {.write = NULL}};
const struct script answer_models = {STR_INIT("application/json"), true, models_steps, NULL};
const struct script answer_model = {STR_INIT("application/json"), true, model_steps, NULL};

// ---- about the mock

static void health_body(struct answer *a UNUSED, struct out *o) { put_text(o, "{\"status\":\"ok\"}\n"); }

static void counts_body(struct answer *a, struct out *o) { journal_put_counts(a->journal, o); }

static bool more_records(const struct answer *a) { return journal_from(a->journal, a->next_id) <= a->last_id; }

static void journal_record(struct answer *a, struct out *o) {
    uint64_t id = journal_from(a->journal, a->next_id); // what a slow reader missed is gone
    journal_put(a->journal, id, o);
    a->next_id = id + 1;
}

static const struct step health_steps[] = {{.write = health_body}, {.write = NULL}};
static const struct step stats_steps[] = {{.write = counts_body}, {.write = NULL}};
static const struct step journal_steps[] = {
    {.write = journal_record, .more = more_records}, {.write = counts_body}, {.write = NULL}};
const struct script answer_health = {STR_INIT("application/json"), true, health_steps, NULL};
const struct script answer_stats = {STR_INIT("application/json"), true, stats_steps, NULL};
const struct script answer_reset = {STR_INIT("application/json"), true, stats_steps, NULL};
const struct script answer_journal = {STR_INIT("application/x-ndjson"), false, journal_steps, NULL};
