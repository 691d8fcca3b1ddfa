// SPDX-License-Identifier: MIT
// The steps a request passes through, and the paths thaw knows. This file is where to look first: what happens to a
// request, and in which order, is the table at its end.
#include "gateway/steps.h"

#include <inttypes.h>

#include "base/mem.h"
#include "gateway/gather.h"
#include "gateway/origin.h"
#include "gateway/parallel.h"
#include "gateway/patience.h"
#include "gateway/recipe.h"
#include "gateway/responses.h"
#include "gateway/resume.h"
#include "gateway/room.h"
#include "gateway/tapes.h"
#include "llm/json.h"
#include "llm/peek.h"

enum { LOOPS_MAX = 8, MODELS_JSON_MAX = 4 << 20, PARAM_MAX = 80 };

#define M(method) (1u << METHOD_##method)

// ---- local answers

static void answer_health(struct request *r) {
    char json[160];
    double lag_ms = (double)loop_lag_ns(&r->worker->loop) / 1e6;
    int n = snprintf(json, sizeof json, "{\"status\":\"ok\",\"loop_lag_ms\":%.3f,\"in_flight\":%u}\n", lag_ms,
                     r->worker->in_flight - 1); // without this request
    request_answer(r, 200, OUTCOME_LOCAL, str_from(json, (size_t)n));
}

static void answer_ready(struct request *r) {
    if (r->worker->server.draining) {
        request_error(r, 503, OUTCOME_LOCAL, NULL, "draining", "thaw is shutting down and takes no new calls.");
    } else {
        request_answer(r, 200, OUTCOME_LOCAL, STR("{\"status\":\"ready\"}\n"));
    }
}

// The configured models; without any, whatever the upstream says.
static void answer_models(struct request *r) {
    const struct config *config = r->setup->config;
    if (config->model_count == 0) {
        r->targets = &r->setup->any;
        request_start(r);
        return;
    }
    struct buf json;
    buf_init(&json, MODELS_JSON_MAX);
    enum err e = buf_str_append(&json, STR("{\"object\":\"list\",\"data\":["));
    for (unsigned i = 0; e == OK && i < config->model_count; i++) {
        e = buf_printf(&json, "%s{\"id\":", i ? "," : "");
        e = e == OK ? json_append_string(&json, config->models[i].name) : e;
        e = e == OK ? buf_printf(&json, ",\"object\":\"model\",\"created\":0,\"owned_by\":\"thaw\"}") : e;
    }
    e = e == OK ? buf_str_append(&json, STR("]}\n")) : e;
    if (e == OK) {
        request_answer(r, 200, OUTCOME_LOCAL, buf_str(&json));
    } else {
        request_error(r, 503, OUTCOME_EXHAUSTED, NULL, NULL, "There is no memory for the list of models.");
    }
    buf_finish(&json);
}

// ---- the paths

static const struct route routes[] = {
    {.path = STR_INIT("/healthz"), .methods = M(GET) | M(HEAD), .open = true, .answer = answer_health},
    {.path = STR_INIT("/readyz"), .methods = M(GET) | M(HEAD), .open = true, .answer = answer_ready},
    {.path = STR_INIT("/models"), .prefixed = true, .methods = M(GET) | M(HEAD), .answer = answer_models},
    {.path = STR_INIT("/chat/completions"), .prefixed = true, .methods = M(POST), .looked_at = true},
    {.path = STR_INIT("/completions"), .prefixed = true, .methods = M(POST), .looked_at = true},
    {.path = STR_INIT("/embeddings"), .prefixed = true, .methods = M(POST), .looked_at = true},
    {.path = STR_INIT("/responses"), .prefixed = true, .methods = M(POST), .looked_at = true, .responses = true},
    {.path = STR_INIT("/responses/"),
     .prefixed = true,
     .below = true,
     .methods = M(GET) | M(POST) | M(DELETE),
     .answer = responses_route},
    {.path = STR_INIT("/messages"), .prefixed = true, .methods = M(POST), .looked_at = true, .messages = true},
    {.path = STR_INIT("/parallel"),
     .prefixed = true,
     .methods = M(POST),
     .ours = true,
     .looked_at = true,
     .look = parallel_look,
     .produce = gather_start},
    {.path = STR_INIT("/tapes/"),
     .prefixed = true,
     .below = true,
     .methods = M(GET) | M(HEAD) | M(DELETE),
     .by_id = true,
     .ours = true,
     .answer = tapes_route},
};
// The path of a recipe.
static const struct route recipe = {
    .methods = M(POST),
    .ours = true,
    .looked_at = true,
    .forms = true,
    .look = recipe_look,
    .produce = gather_start,
};
// Any other path below the prefix, and what of Anthropic's is not looked at.
enum { RELAYED_METHODS = M(GET) | M(HEAD) | M(POST) | M(PUT) | M(DELETE) | M(PATCH) };
static const struct route relayed = {.prefixed = true, .methods = RELAYED_METHODS};
static const struct route relayed_messages = {.prefixed = true, .methods = RELAYED_METHODS, .messages = true};

// ---- path: which route

// Paths are never normalised, so none may be sent on that a server behind could read as another one: no empty, dot or
// encoded-dot segments, no encoded slash or NUL, no backslash, no path parameters (facts A18).
static bool path_plain(struct str path) {
    static const char *const encoded[] = {"%2e", "%2f", "%5c", "%00"};
    struct str rest = str_skip(path, 1);
    struct str segment;
    while (str_split(&rest, '/', &segment)) {
        bool inner_empty = segment.len == 0 && rest.ptr;
        if (inner_empty || str_eq(segment, STR(".")) || str_eq(segment, STR(".."))) {
            return false;
        }
    }
    for (size_t i = 0; i < path.len; i++) {
        if (path.ptr[i] == '\\' || path.ptr[i] == ';') {
            return false;
        }
        for (size_t e = 0; path.ptr[i] == '%' && e < ARRAY_LEN(encoded); e++) {
            if (str_ieq(str_first(str_skip(path, i), 3), str_c(encoded[e]))) {
                return false;
            }
        }
    }
    return true;
}

// The path behind the prefix; ptr == NULL when it does not begin with it.
static struct str below_prefix(const struct config *config, struct str path) {
    struct str prefix = config->prefix;
    if (!str_starts(path, prefix) || path.len == prefix.len || path.ptr[prefix.len] != '/') {
        return (struct str){NULL, 0};
    }
    return str_skip(path, prefix.len);
}

static bool is_at(const struct route *route, struct str known) {
    return known.ptr &&
           (route->below ? str_starts(known, route->path) && known.len > route->path.len : str_eq(known, route->path));
}

static const struct route *relay_of(struct str below) {
    struct str messages = STR("/messages");
    bool at = str_starts(below, messages) && (below.len == messages.len || below.ptr[messages.len] == '/');
    return at ? &relayed_messages : &relayed;
}

// Paths of our own are not relayed with any method; what may be has to be plain.
const struct route *route_find(const struct config *config, struct str path, enum method method) {
    struct str below = below_prefix(config, path);
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const struct route *route = &routes[i];
        if (is_at(route, route->prefixed ? below : path)) {
            bool plain = route->ours || !route->below || path_plain(path);
            if (route->methods & 1u << method) {
                return plain ? route : NULL;
            }
            return route->ours || !route->prefixed ? route : path_plain(path) ? relay_of(below) : NULL;
        }
    }
    if (config_recipe_find(config, path)) {
        return &recipe;
    }
    return below.ptr && path_plain(path) ? relay_of(below) : NULL;
}

struct str route_below(const struct request *r) {
    struct str path = target_path(r->head->target);
    struct str known = r->route->prefixed ? below_prefix(r->setup->config, path) : path;
    return str_skip(known, r->route->path.len);
}

// x-request-id is taken over when it is plain enough to stand in logs and heads everywhere.
static void take_over_id(struct request *r) {
    struct str id = fields_value(&r->head->fields, FIELD_X_REQUEST_ID);
    bool one = fields_count(&r->head->fields, FIELD_X_REQUEST_ID) == 1;
    if (r->client_id || !one || id.len == 0 || id.len > REQUEST_ID_MAX) {
        return;
    }
    for (size_t i = 0; i < id.len; i++) {
        char c = ascii_lower(id.ptr[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-')) {
            return;
        }
    }
    r->client_id = str_dup(id);
}

static enum verdict step_path(struct request *r) {
    const struct head *head = r->head;
    take_over_id(r);
    if (head->method == METHOD_OTHER || head->method == METHOD_TRACE || head->method == METHOD_CONNECT) {
        request_error(r, 501, OUTCOME_REFUSED, NULL, NULL, "The method is not supported.");
        return DONE;
    }
    bool everything = str_eq(head->target, STR("*")); // OPTIONS only
    r->route = everything ? &relayed : route_find(r->setup->config, target_path(head->target), head->method);
    if (!r->route) {
        struct str prefix = r->setup->config->prefix;
        request_error(r, 404, OUTCOME_REFUSED, NULL, NULL, "There is nothing at this path; the API is below %.*s/.",
                      STR_ARG(prefix));
        return DONE;
    }
    if (head->method == METHOD_OPTIONS) {
        request_answer(r, 204, OUTCOME_LOCAL, STR(""));
        return DONE;
    }
    if (!(r->route->methods & 1u << head->method)) {
        request_error(r, 405, OUTCOME_REFUSED, NULL, NULL, "The path does not answer to %s%s.",
                      method_name(head->method), r->route->methods & M(POST) ? "; send a POST" : "");
        return DONE;
    }
    return NEXT;
}

// ---- who: may this client call

static enum verdict step_who(struct request *r) {
    struct who_found found;
    bool keys = r->setup->who.count;
    r->client = WHO_NO_CLIENT;
    if (r->resume && r->resume->rerun) {
        r->tenant = keys ? shelf_tenant(&r->resume->tenant) : 0;
        return NEXT;
    }
    if (r->route->open || (r->route->by_id && r->setup->config->tape_read_by_id)) {
        return NEXT;
    }
    switch (who_check(&r->setup->who, &r->head->fields, &found)) {
    case WHO_FINE:
        r->tenant = keys ? shelf_tenant(&found.tenant) : 0;
        r->client = found.client;
        if (keys) {
            bool named = found.client != WHO_NO_CLIENT;
            access_set_key(r, &found.tenant, named ? r->setup->config->clients[found.client].name : STR(""));
        }
        return NEXT;
    case WHO_NOBODY:
        request_error(
            r, 401, OUTCOME_UNAUTHORIZED, NULL, NULL,
            "No key was presented. Send one of thaw's keys as 'Authorization: Bearer KEY' or 'x-api-key: KEY'.");
        return DONE;
    case WHO_UNKNOWN:
        request_error(r, 401, OUTCOME_UNAUTHORIZED, NULL, NULL,
                      "The key that was presented is not one of thaw's keys.");
        return DONE;
    case WHO_TWO:
        request_error(r, 400, OUTCOME_REFUSED, NULL, "conflicting_credentials",
                      "Two different credentials were presented; send one.");
        return DONE;
    }
    return DONE;
}

// ---- time: how long the client waits (seconds, or as durations are written), and what it hears meanwhile

static enum verdict step_time(struct request *r) {
    struct str value = fields_value(&r->head->fields, FIELD_X_REQUEST_TIMEOUT);
    char seconds[32];
    patience_look(r);
    if (!value.ptr) {
        return NEXT;
    }
    int n = value.len < sizeof seconds - 1 ? snprintf(seconds, sizeof seconds, "%.*ss", STR_ARG(value)) : 0;
    if ((parse_duration_ms(value, &r->timeout_ms) != OK &&
         parse_duration_ms(str_from(seconds, (size_t)n), &r->timeout_ms) != OK) ||
        r->timeout_ms == 0) {
        request_error(r, 400, OUTCOME_REFUSED, NULL, NULL,
                      "X-Request-Timeout must be how long you wait: seconds (30, 2.5) or a duration (500ms, 2m).");
        return DONE;
    }
    return NEXT;
}

// ---- loop: a request that has been here too often already (RFC 9110 section 7.6.3)

static enum verdict step_loop(struct request *r) {
    unsigned seen = 0;
    for (unsigned i = 0; i < r->head->fields.n; i++) {
        const struct field *f = &r->head->fields.v[i];
        struct str list = f->value;
        struct str part;
        while (f->id == FIELD_VIA && str_split(&list, ',', &part)) {
            seen += str_ends(str_trim(part), STR(" thaw"));
        }
    }
    if (seen >= LOOPS_MAX) {
        request_error(r, 508, OUTCOME_REFUSED, NULL, NULL,
                      "This request has passed through thaw %u times: an upstream points back here.", seen);
        return DONE;
    }
    return NEXT;
}

// ---- body: wait for all of a looked-at body

static struct str media_type(struct str type) { return str_trim(str_first(type, str_find(type, ';'))); }

static bool is_json(struct str type) { // a missing type is let pass
    return !type.ptr || str_ieq(type, STR("application/json")) ||
           (type.len > 5 && str_ieq(str_skip(type, type.len - 5), STR("+json")));
}

static bool body_acceptable(struct request *r) {
    const struct head *head = r->head;
    struct str coding = fields_value(&head->fields, FIELD_CONTENT_ENCODING);
    if (coding.len && !str_ieq(coding, STR("identity"))) {
        request_error(r, 415, OUTCOME_REFUSED, NULL, NULL,
                      "Compressed request bodies are not accepted; send plain JSON.");
        return false;
    }
    struct str type = media_type(fields_value(&head->fields, FIELD_CONTENT_TYPE));
    if (!is_json(type) && !(r->route->forms && str_ieq(type, STR("application/x-www-form-urlencoded")))) {
        request_error(r, 415, OUTCOME_REFUSED, NULL, NULL,
                      "The body must be JSON%s: send 'Content-Type: application/json'.",
                      r->route->forms ? " or a form (application/x-www-form-urlencoded)" : "");
        return false;
    }
    if (head->body_len > 0 && (uint64_t)head->body_len > r->setup->config->max_body) {
        request_error(r, 413, OUTCOME_REFUSED, NULL, NULL,
                      "The body is larger than the %" PRIu64 " bytes allowed here (max_body).",
                      r->setup->config->max_body);
        return false;
    }
    return true;
}

static enum verdict step_body(struct request *r) {
    if (!r->route->looked_at || r->body_complete) {
        return NEXT;
    }
    if (!body_acceptable(r)) {
        return DONE;
    }
    if (r->head->expect_continue) {
        struct head leave = {.status = 100};
        xchg_send_head(r->x, &leave);
    }
    return WAIT;
}

// ---- peek: what the body says

// "calls[2].body.model"
static const char *param_of(char room[PARAM_MAX], const char *within, const char *member) {
    if (!within || !member) {
        return within ? within : member;
    }
    snprintf(room, PARAM_MAX, "%s.%s", within, member);
    return room;
}

static void unknown_model(struct request *r, const char *within, struct str model) {
    const struct config *config = r->setup->config;
    char param[PARAM_MAX];
    const char **names = xcalloc(config->model_count, sizeof *names);
    for (unsigned i = 0; i < config->model_count; i++) {
        names[i] = config->models[i].name.ptr; // strings of a configuration end with a NUL
    }
    const char *near = str_nearest(model, names, config->model_count);
    request_error(r, 404, OUTCOME_REFUSED, param_of(param, within, "model"), "model_not_found",
                  "The model '%.*s' is not configured here%s%s%s. GET %.*s/models lists what is.", STR_ARG(model),
                  near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "", STR_ARG(config->prefix));
    free(names);
}

// OpenAI does `background: true` itself; for upstreams that do not, thaw does.
static void find_background(struct request *r, const struct peek *peek) {
    r->streams = peek->stream;
    r->background = r->route->responses && peek->background && r->targets->v[0].upstream->config->background_here;
    r->places.true_at = r->background ? (uint32_t)(peek->background_raw.ptr - r->whole.ptr) : 0;
}

static bool find_targets(struct request *r, const char *within, struct str model, const struct targets **targets) {
    char param[PARAM_MAX];
    *targets = &r->setup->any;
    if (r->setup->config->model_count == 0) {
        return true;
    }
    if (!model.ptr) {
        request_error(r, 400, OUTCOME_REFUSED, param_of(param, within, "model"), "missing_model",
                      "The request names no model.");
        return false;
    }
    const struct targets *found = setup_targets(r->setup, model);
    if (!found) {
        unknown_model(r, within, model); // and what the request asks for is gone, *targets with it
        return false;
    }
    *targets = found;
    return true;
}

bool steps_peek(struct request *r, struct str body, const char *within, struct peek *peek,
                const struct targets **targets) {
    struct peek_error error;
    char param[PARAM_MAX];
    if (!peek_request(body, peek, &error)) {
        request_error(r, 400, OUTCOME_REFUSED, param_of(param, within, error.param),
                      error.problem == PEEK_NOT_JSON ? "invalid_json" : NULL, "%s%s%s", within ? within : "",
                      within ? ": " : "", error.message);
        return false;
    }
    return find_targets(r, within, peek->model, targets);
}

struct call_places steps_places(struct str body, const struct peek *peek) {
    struct call_places places = {0};
    if (peek->model_raw.ptr) {
        places.model_at = (uint32_t)(peek->model_raw.ptr - body.ptr) - 1;
        places.model_len = (uint32_t)peek->model_raw.len + 2;
    }
    return places;
}

static enum verdict step_peek(struct request *r) {
    struct peek peek;
    const struct targets *targets;
    if (r->route->look) {
        return r->route->look(r);
    }
    if (!r->route->looked_at) {
        r->targets = &r->setup->any;
        return NEXT;
    }
    if (!steps_peek(r, r->whole, NULL, &peek, &targets)) {
        return DONE;
    }
    access_set_model(r, peek.model);
    r->places = steps_places(r->whole, &peek);
    r->targets = targets;
    r->max_tokens = peek.max_tokens;
    find_background(r, &peek);
    return NEXT;
}

// ---- answer: here, or by a call

static enum verdict step_answer(struct request *r) {
    if (r->route->answer) {
        r->route->answer(r);
    } else {
        request_start(r);
    }
    return DONE;
}

const struct step steps[] = {
    {"origin", origin_step}, // a browser's preflight; 403: a page that did not ask for leave
    {"path", step_path},     // 404, 405, OPTIONS
    {"who", step_who},       // 401
    {"loop", step_loop},     // 508
    {"time", step_time},     // 400: X-Request-Timeout
    {"room", room_step},     // 503: memory is at the budget
    {"body", step_body},     // 413, 415; waits until a looked-at body is there
    {"peek", step_peek},     // 400: JSON; 404: the model's upstreams
    {"tape", resume_step},   // 422; joins an earlier call and reads its tape
    {"answer", step_answer}, // a local answer, or a call whose tape is followed
};
const unsigned step_count = ARRAY_LEN(steps);
