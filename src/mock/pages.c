// SPDX-License-Identifier: MIT
// Answers that are no model's: errors, the list of models, and what the mock tells about itself.
#include "mock/answer.h"
#include "mock/plan.h"

// ---- errors, in OpenAI's shape

static const struct kind {
    int from; // this status and those above, up to the next row's
    const char *type;
    const char *code;
} kinds[] = {
    {400, "invalid_request_error", NULL}, {401, "invalid_request_error", "invalid_api_key"},
    {402, "invalid_request_error", NULL}, {429, "requests", "rate_limit_exceeded"},
    {430, "invalid_request_error", NULL}, {500, "server_error", NULL},
};

static void error_body(struct answer *a, struct out *o) {
    const struct kind *kind = kinds;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        kind = a->status >= kinds[i].from ? &kinds[i] : kind;
    }
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

static const struct step error_steps[] = {{.write = error_body}, {.write = NULL}};
const struct script answer_error = {"application/json", true, error_steps};

// ---- models

static void put_model(struct out *o, struct str id) {
    put_text(o, "{\"id\":");
    put_json(o, id);
    put_text(o, ",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"thaw-mock\"}");
}

static void models_body(struct answer *a UNUSED, struct out *o) {
    put_text(o, "{\"object\":\"list\",\"data\":[");
    put_model(o, STR("mock"));
    for (size_t i = 0; plan_example(i); i++) {
        put_text(o, ",");
        put_model(o, str_c(plan_example(i)));
    }
    put_text(o, "]}\n");
}

// Every name is a model here.
static void model_body(struct answer *a, struct out *o) {
    put_model(o, a->model);
    put_text(o, "\n");
}

static const struct step models_steps[] = {{.write = models_body}, {.write = NULL}};
static const struct step model_steps[] = {{.write = model_body}, {.write = NULL}};
const struct script answer_models = {"application/json", true, models_steps};
const struct script answer_model = {"application/json", true, model_steps};

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
const struct script answer_health = {"application/json", true, health_steps};
const struct script answer_stats = {"application/json", true, stats_steps};
const struct script answer_reset = {"application/json", true, stats_steps};
const struct script answer_journal = {"application/x-ndjson", false, journal_steps};
