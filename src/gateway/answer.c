// SPDX-License-Identifier: MIT
// What thaw says itself: local answers, and errors in OpenAI's or Anthropic's shape.
#include <stdarg.h>

#include "base/mem.h"
#include "gateway/origin.h"
#include "gateway/patience.h"
#include "gateway/resume.h"
#include "gateway/steps.h"
#include "llm/json.h"

enum {
    MESSAGE_MAX = 1024,
    ERROR_MAX = 4 * MESSAGE_MAX,
    ALLOW_MAX = 64,
    COUNT_TEXT = 24,
    LOCATION_MAX = CONFIG_PREFIX_MAX + 64
};

static const struct answer_kind kinds[] = {
    {400, "invalid_request_error", "bad_request", "invalid_request_error"},
    {401, "authentication_error", "invalid_api_key", "authentication_error"},
    {403, "permission_error", "forbidden", "permission_error"},
    {404, "invalid_request_error", "not_found", "not_found_error"},
    {405, "invalid_request_error", "method_not_allowed", "invalid_request_error"},
    {408, "invalid_request_error", "request_timeout", "invalid_request_error"},
    {410, "invalid_request_error", "gone", "not_found_error"},
    {413, "invalid_request_error", "request_too_large", "request_too_large"},
    {414, "invalid_request_error", "target_too_long", "invalid_request_error"},
    {415, "invalid_request_error", "unsupported_media_type", "invalid_request_error"},
    {417, "invalid_request_error", "expectation_failed", "invalid_request_error"},
    {422, "invalid_request_error", "unprocessable", "invalid_request_error"},
    {429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error"},
    {431, "invalid_request_error", "head_too_large", "invalid_request_error"},
    {501, "invalid_request_error", "not_implemented", "invalid_request_error"},
    {502, "upstream_error", "upstream_failed", "api_error"},
    {503, "server_error", "overloaded", "overloaded_error"},
    {504, "upstream_error", "upstream_timeout", "timeout_error"},
    {505, "invalid_request_error", "http_version", "invalid_request_error"},
    {508, "invalid_request_error", "loop_detected", "invalid_request_error"},
};

const struct answer_kind *answer_kind(int status) {
    static const struct answer_kind other = {0, "server_error", "error", "api_error"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (kinds[i].status == status) {
            return &kinds[i];
        }
    }
    return &other;
}

static void add_allow(const struct route *route, struct fields *fields, char room[ALLOW_MAX]) {
    size_t at = 0;
    for (unsigned m = METHOD_GET; m <= METHOD_TRACE; m++) {
        if (route->methods & 1u << m) {
            at += (size_t)snprintf(room + at, ALLOW_MAX - at, "%s%s", at ? ", " : "", method_name((enum method)m));
        }
    }
    worker_add(fields, STR("Allow"), str_from(room, at));
}

// retry-after-ms goes before for those who know it (OpenAI's SDKs); the other one is whole seconds (RFC 9110 10.2.3).
static void add_retry(struct fields *fields, uint32_t retry_ms, char room[2][COUNT_TEXT]) {
    snprintf(room[0], COUNT_TEXT, "%u", retry_ms / 1000 + (retry_ms % 1000 != 0));
    snprintf(room[1], COUNT_TEXT, "%u", retry_ms);
    worker_add(fields, STR("Retry-After"), str_c(room[0]));
    worker_add(fields, STR("retry-after-ms"), str_c(room[1]));
}

static struct str put_number(struct quota_text *room, unsigned i, uint64_t n) {
    return str_from(room->v[i], (size_t)(format_u64(room->v[i], n) - room->v[i]));
}

// "54s", not "53944ms".
static struct str put_time(struct quota_text *room, unsigned i, uint64_t ms) {
    format_duration(room->v[i], sizeof room->v[i], ms < 1000 ? ms : (ms + 999) / 1000 * 1000);
    return str_c(room->v[i]);
}

// Instead of what the upstream says of thaw's own key. These names have no ids: few answers need them, all would pay.
static void put_field(struct fields *fields, struct str name, struct str value) {
    unsigned kept = 0;
    for (unsigned i = 0; i < fields->n; i++) {
        if (!str_ieq(fields->v[i].name, name)) {
            fields->v[kept++] = fields->v[i];
        }
    }
    fields->n = kept;
    worker_add(fields, name, value);
}

void answer_add_quota(struct fields *fields, const struct quota_look *look, struct quota_text *room) {
    if (look->limit_requests) {
        put_field(fields, STR("x-ratelimit-limit-requests"), put_number(room, 0, look->limit_requests));
        put_field(fields, STR("x-ratelimit-remaining-requests"), put_number(room, 1, look->remaining_requests));
        put_field(fields, STR("x-ratelimit-reset-requests"), put_time(room, 2, look->reset_requests_ms));
    }
    if (look->limit_tokens) {
        put_field(fields, STR("x-ratelimit-limit-tokens"), put_number(room, 3, look->limit_tokens));
        put_field(fields, STR("x-ratelimit-remaining-tokens"), put_number(room, 4, look->remaining_tokens));
        put_field(fields, STR("x-ratelimit-reset-tokens"), put_time(room, 5, look->reset_tokens_ms));
    }
}

static void send_answer_head(struct request *r, int status, size_t body_len, const struct tape_id *tape) {
    char id[REQUEST_ID_MAX];
    char allow[ALLOW_MAX];
    char location[LOCATION_MAX];
    char retry[2][COUNT_TEXT];
    struct quota_text quota;
    struct fields fields = worker_scratch(r->worker);
    if (body_len) {
        worker_add(&fields, STR("Content-Type"), STR("application/json"));
    }
    if (status == 401) {
        worker_add(&fields, STR("WWW-Authenticate"), STR("Bearer"));
    }
    if (r->route && (status == 405 || (status == 204 && r->head && r->head->method == METHOD_OPTIONS))) {
        add_allow(r->route, &fields, allow);
    }
    if (tape) {
        worker_add(&fields, STR("X-Thaw-Tape"), str_c(tape->text));
    }
    if (tape && status == 202) {
        int n = snprintf(location, sizeof location, "%.*s/tapes/%s", STR_ARG(r->setup->config->prefix), tape->text);
        worker_add(&fields, STR("Location"), str_from(location, (size_t)n));
        worker_add(&fields, STR("Preference-Applied"), STR("respond-async"));
    }
    if (r->retry_ms == TAPE_NO_RETRY) { // else the client multiplies our tries by its own
        worker_add(&fields, STR("x-should-retry"), STR("false"));
    } else if (r->retry_ms) {
        add_retry(&fields, r->retry_ms, retry);
    }
    if (r->look) {
        answer_add_quota(&fields, r->look, &quota);
    }
    if (r->cors) {
        origin_add_fields(r, &fields);
    }
    worker_add(&fields, STR("Date"), worker_date(r->worker));
    worker_add(&fields, STR("x-request-id"), request_id(r, id));
    struct head head = {.status = status, .fields = fields, .body_len = (int64_t)body_len};
    access_set_status(r, status);
    xchg_send_head(r->x, &head);
}

void request_send_local(struct request *r) {
    struct str rest = str_skip(buf_str(&r->body), r->local_sent);
    size_t taken = xchg_send(r->x, rest, true);
    r->local_sent += (uint32_t)taken;
    count_add(&r->worker->meter->bytes_out, taken);
    access_add_bytes(r, 0, taken);
    if (xchg_over(r->x)) { // not so when the connection failed: then on_fail comes
        request_finish(r, r->outcome);
    }
}

void request_answer(struct request *r, int status, enum outcome outcome, struct str json) {
    struct buf body;
    bool reads = r->state == REQUEST_RELAYING && r->reader.tape;
    struct tape_id id = reads ? shelf_id(&r->worker->shelf, r->reader.tape) : (struct tape_id){{0}};
    id = status == 202 && r->resume ? r->resume->id : id;
    request_set_state(r, REQUEST_ANSWERING);
    r->outcome = outcome;
    patience_end(r);
    tape_leave(&r->reader);
    buf_init(&body, json.len);
    if (buf_str_append(&body, json) != OK) {
        xchg_abort(r->x);
        request_finish(r, OUTCOME_EXHAUSTED);
        return;
    }
    buf_finish(&r->body);
    r->body = body;
    send_answer_head(r, status, json.len, id.text[0] ? &id : NULL);
    request_send_local(r);
}

enum err answer_write_object(struct buf *out, const char *type, const char *param, const char *code,
                             struct str message) {
    struct out o = {out, OK};
    put_text(&o, "{\"message\":");
    put_json(&o, message);
    put_text(&o, ",\"type\":");
    put_json(&o, str_c(type));
    put_text(&o, ",\"param\":");
    put_json_or_null(&o, param);
    put_text(&o, ",\"code\":");
    put_json(&o, str_c(code));
    put_text(&o, "}");
    return o.e;
}

enum err answer_write_error(struct buf *out, const char *type, const char *param, const char *code,
                            struct str message) {
    enum err e = buf_str_append(out, STR("{\"error\":"));
    e = e == OK ? answer_write_object(out, type, param, code, message) : e;
    return e == OK ? buf_append(out, "}", 1) : e;
}

enum err answer_write_messages_error(struct buf *out, const char *type, struct str message) {
    enum err e = buf_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", type);
    e = e == OK ? json_append_string(out, message) : e;
    return e == OK ? buf_append(out, "}}", 2) : e;
}

enum err answer_write_status(struct buf *out, bool messages, int status, const char *param, const char *code,
                             struct str message) {
    const struct answer_kind *kind = answer_kind(status);
    return messages ? answer_write_messages_error(out, kind->messages, message)
                    : answer_write_error(out, kind->type, param, code ? code : kind->code, message);
}

void request_error(struct request *r, int status, enum outcome outcome, const char *param, const char *code,
                   const char *format, ...) {
    char message[MESSAGE_MAX];
    struct buf json;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    buf_init(&json, ERROR_MAX);
    bool messages = r->route && r->route->messages;
    enum err e = answer_write_status(&json, messages, status, param, code, str_c(message));
    e = e == OK ? buf_append(&json, "\n", 1) : e;
    if (e != OK) {
        buf_clear(&json);
    }
    request_answer(r, status, outcome, buf_str(&json));
    buf_finish(&json);
}
