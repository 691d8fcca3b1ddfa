// SPDX-License-Identifier: MIT
// Requests are read, and become calls or pages; call.c sees them through.
//
// A call is one allocation: once its request is read, what is to be echoed moves in behind the struct, which grows where
// that is long.
#include "mock/mock.h"

#include <time.h>

#include "base/mem.h"
#include "base/nonce.h"
#include "llm/peek.h"
#include "mock/call.h"
#include "mock/identity.h"
#include "mock/plan.h"
#include "mock/shape.h"
#include "mock/words.h"
#include "net/mem.h"

enum {
    BODY_CAP = 64 * 1024 * 1024,
    SCRATCH_CAP = 1024 * 1024, // the largest piece of any script, and then some
    TEXT_KEEP = 64 * 1024,     // a larger text buffer is given back after the call
    SHORT_ECHO = 80,           // bytes of payload that a call has from the start
    NAMED_MAX = 200,           // bytes of an unknown path that its 404 quotes
    JOURNAL_CALLS = 100 * 1000,
    HEADER_MS = 60 * 1000,
    IDLE_MS = 10 * 60 * 1000, // longer than clients keep theirs: it is they who close
    LINGER_MS = 2000,
};

// ---- the table of endpoints

static const struct route routes[] = {
    {STR_INIT("/v1/chat/completions"), METHOD_POST, false, ask_chat, &answer_chat, &answer_chat_stream},
    {STR_INIT("/v1/completions"), METHOD_POST, false, ask_completion, &answer_completion, &answer_completion_stream},
    {STR_INIT("/v1/embeddings"), METHOD_POST, false, ask_embeddings, &answer_embeddings, &answer_embeddings},
    {STR_INIT("/v1/responses"), METHOD_POST, false, ask_response, &answer_response, &answer_response_stream},
    {STR_INIT("/v1/responses/"), METHOD_GET, true, NULL, NULL, NULL}, // none is kept
    {STR_INIT("/v1/messages"), METHOD_POST, false, ask_message, &answer_message, &answer_message_stream},
    {STR_INIT("/v1/messages/count_tokens"), METHOD_POST, false, ask_count, &answer_count, &answer_count},
    {STR_INIT("/v1/models"), METHOD_GET, false, NULL, &answer_models, NULL},
    {STR_INIT("/v1/models/"), METHOD_GET, true, NULL, &answer_model, NULL},
    {STR_INIT("/mock/journal"), METHOD_GET, false, NULL, &answer_journal, NULL},
    {STR_INIT("/mock/stats"), METHOD_GET, false, NULL, &answer_stats, NULL},
    {STR_INIT("/mock/reset"), METHOD_POST, false, NULL, &answer_reset, NULL},
    {STR_INIT("/healthz"), METHOD_GET, false, NULL, &answer_health, NULL},
};

static bool path_is(const struct route *route, struct str wanted, struct str path) {
    return route->below ? str_starts(path, wanted) && path.len > wanted.len : str_eq(path, wanted);
}

// Finds the route of a path. *shown is the path as the journal tells it: constant.
static const struct route *route_find(struct str path, const char **shown) {
    struct str prefix = STR("/v1");
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const struct route *route = &routes[i];
        struct str without = str_skip(route->path, str_starts(route->path, prefix) ? prefix.len : 0);
        bool prefixed = path_is(route, route->path, path);
        if (prefixed || path_is(route, without, path)) {
            *shown = prefixed ? route->path.ptr : without.ptr;
            return route;
        }
    }
    *shown = NULL;
    return NULL;
}

// ---- answering

static void call_refuse_from_head(struct call *c) {
    static const struct {
        int status;
        bool known; // the path is one of ours
        const char *before, *behind;
    } texts[] = {
        {404, false, "Unknown request URL: ",
         ". The mock has /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses, /v1/messages, "
         "/v1/models"},
        {404, true, "Nothing to be read again: ", ". The mock keeps no responses"},
        {405, true, "Not allowed: ", ". See the Allow field for what is"},
        {413, true, "The body is larger than the mock's limit of 64 MiB: ", ""},
        {503, true, "Out of memory: ", ""},
    };
    char message[NAMED_MAX + 160];
    int n = 0;
    _Static_assert(BODY_CAP == 64 << 20, "a text says so");
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i].status == c->refusal && texts[i].known == (c->route != NULL)) {
            n = snprintf(message, sizeof message, "%s%.*s%s", texts[i].before, STR_ARG(c->answer.model),
                         texts[i].behind);
        }
    }
    call_refuse(c, c->refusal, str_from(message, MIN((size_t)n, sizeof message - 1)), NULL);
}

// A number of the query; what is no number is not there.
static uint64_t query_number(struct str target, struct str name, uint64_t otherwise) {
    struct str rest = str_skip(target, target_path(target).len + 1);
    struct str part;
    uint64_t n = 0;
    while (str_split(&rest, '&', &part)) {
        size_t equals = str_find(part, '=');
        if (str_eq(str_first(part, equals), name) && parse_u64(str_skip(part, equals + 1), &n) == OK) {
            return n;
        }
    }
    return otherwise;
}

// Everything begins anew: what is told of, what is counted, what calls are told apart by.
static void mock_reset(struct mock *mock) {
    journal_reset(&mock->journal);
    capacity_reset(mock->capacity);
    draw_counts_finish(&mock->seen);
}

static void call_answer_page(struct call *c) {
    struct mock *mock = c->mock;
    const struct journal *j = &mock->journal;
    if (c->route->whole == &answer_reset) {
        mock_reset(mock);
    }
    uint64_t since = query_number(c->head->target, STR("since"), 0);
    uint64_t limit = query_number(c->head->target, STR("limit"), UINT64_MAX);
    c->head = NULL;
    c->answer.status = 200;
    c->answer.journal = j;
    c->answer.next_id = journal_from(j, MIN(since, j->last) + 1);
    c->answer.last_id = limit < j->last - c->answer.next_id + 1 ? c->answer.next_id + limit - 1 : j->last;
    call_answer(c, c->route->whole);
}

// The parser says only that it is no JSON; what is wrong with it is worth a second look.
static void call_refuse_json(struct call *c, struct str body) {
    struct peek peek;
    struct peek_error error;
    struct str message = STR("the body must be a JSON object");
    if (!peek_request(body, &peek, &error)) {
        message = str_c(error.message);
    }
    call_refuse(c, 400, message, NULL);
}

static struct str keep(char **at, struct str s) {
    if (!s.ptr) {
        return s;
    }
    char *to = *at;
    if (s.len) {
        memcpy(to, s.ptr, s.len);
    }
    *at += s.len;
    return str_from(to, s.len);
}

// Moves the call to where there is room for what it will echo, if that is not short; NULL without memory, the call is as it was then.
static struct call *call_make_room(struct call *c, size_t size) {
    struct mock *mock = c->mock;
    if (size <= SHORT_ECHO) {
        return c;
    }
    list_unlink(&c->node);
    struct call *moved = try_realloc(c, sizeof *c + size);
    c = moved ? moved : c;
    list_push_back(&mock->calls, &c->node);
    c->x->owner = c;
    return moved;
}

// How many there will be, and why there are no more.
static void call_fill_tokens(struct answer *a, const struct ask *ask, const struct plan *plan) {
    unsigned planned = ask->fixed ? 0 : plan->tokens;
    a->tokens = ask->inputs ? ask->inputs : planned ? planned : (unsigned)words_cut(a->text);
    a->finish = a->tool.ptr ? FINISH_TOOL : a->stop.ptr ? FINISH_SEQUENCE : FINISH_STOP;
    if (a->tokens && !a->text.len) { // asked for more words than none
        a->text = STR("token");
    }
    if (ask->tokens_max && a->tokens > ask->tokens_max) {
        a->tokens = ask->tokens_max;
        a->finish = FINISH_LENGTH;
    }
}

// Fills in the answer from what was asked for and what is planned for it.
static void call_fill(struct call *c, const struct ask *ask, const struct plan *plan) {
    struct answer *a = &c->answer;
    char *at = c->payload;
    a->model = keep(&at, ask->model);
    a->text = keep(&at, buf_str(ask->text));
    a->tool = keep(&at, ask->tool);
    a->stop = keep(&at, ask->stopped);
    a->choices = (unsigned char)MAX(ask->choices, 1u);
    call_fill_tokens(a, ask, plan);
    a->prompt_tokens = ask->prompt_tokens;
    a->dimensions = ask->dimensions;
    a->include_usage = ask->include_usage;
    a->stream = ask->stream;
    a->base64 = ask->base64;
    a->status = plan->status;
    a->pace = plan_pace(plan, ask->stream, a->tokens, a->prompt_tokens);
    c->claim.key = plan->claim_key;
}

static void call_refuse_field(struct call *c, const struct field *field, const char *wanted) {
    char message[NAMED_MAX + 200];
    int n = snprintf(message, sizeof message, "%.*s wants %s, not '%.*s'", STR_ARG(field->name), wanted,
                     STR_ARG(str_first(field->value, NAMED_MAX)));
    call_refuse(c, 400, str_from(message, MIN((size_t)n, sizeof message - 1)), NULL);
}

// What chance and capacity know the call by, and the fault that chance has for it.
static void call_identify(const struct call *c, struct plan *plan, struct str body, struct str session) {
    struct mock *mock = c->mock;
    const struct mock_options *o = &mock->options;
    enum capacity_key wanted = capacity_key(&o->capacity);
    bool rated = o->fault_count && !plan->has_fault;
    if (wanted == KEY_CALL || plan_draws(plan) || rated) {
        plan->key = identity_key(&mock->seen, o->seed, &c->head->fields, body);
    }
    if (wanted == KEY_CALL) {
        plan->claim_key = draw_bits(plan->key, UINT64_MAX - 1);
    } else if (wanted == KEY_SESSION && session.len) {
        plan->claim_key = draw_key(0, session) | 1;
    }
    if (rated) {
        plan_set_fault(plan, fault_by_rate(o->faults, o->fault_count, false, draw_unit(plan->key, UINT64_MAX - 2)));
    }
}

// How the answer differs because of it.
static void call_fill_fault(struct call *c, const struct fault *fault) {
    static const enum ending endings[FAULT_ACCEPT] = {[FAULT_END_AT] = ENDING_EARLY,
                                                      [FAULT_ERROR_AT] = ENDING_ERROR,
                                                      [FAULT_JSON] = ENDING_BROKEN,
                                                      [FAULT_UTF8_CUT] = ENDING_IN_CHARACTER};
    struct answer *a = &c->answer;
    c->fault = *fault;
    a->halt = fault_halt(fault);
    a->ending = fault_at_end(fault) && a->halt != UINT32_MAX ? ENDING_HALTS : endings[fault->kind];
    if ((fault->kind == FAULT_UTF8_CUT || fault->kind == FAULT_UTF8_SPLIT) && c->route->read != ask_embeddings) {
        a->text = STR("\xC3\xA9 \xE4\xBD\xA0 \xF0\x9F\x98\x80"); // characters of two, three and four bytes
        a->tokens = MAX(a->tokens, 3u);
    }
}

static const struct script *call_script(const struct call *c, const struct ask *ask) {
    const struct script *script = ask->stream ? c->route->stream : c->route->whole;
    return c->fault.kind == FAULT_EMPTY    ? &answer_empty
           : c->fault.kind == FAULT_HTML   ? &answer_html
           : ask->tool.ptr && script->tool ? script->tool
                                           : script;
}

static void call_admit(struct call *c, struct ask *ask, struct str body, struct str session) {
    struct mock *mock = c->mock;
    struct plan plan = plan_make(&mock->options, ask->model);
    const char *wanted = NULL;
    const struct field *wrong = plan_take_fields(&plan, &c->head->fields, &wanted);
    if (wrong) {
        call_refuse_field(c, wrong, wanted);
        return;
    }
    call_identify(c, &plan, body, session);
    if (!ask->inputs && !shape_content(ask, plan.tool)) {
        call_refuse(c, 400, str_c(ask->problem), ask->param);
        return;
    }
    c->head = NULL;
    struct call *moved = call_make_room(c, ask->model.len + buf_len(ask->text) + ask->tool.len + ask->stopped.len);
    if (!moved) {
        call_refuse(c, 503, STR("out of memory"), NULL);
        return;
    }
    c = moved;
    call_fill(c, ask, &plan);
    call_fill_fault(c, &plan.fault);
    if (plan.status != 200) {
        c->answer.message = STR("the mock was asked for this error by the model's name");
        c->answer.param = NULL;
        c->answer.limits = true;
        call_answer(c, &answer_error);
    } else {
        call_queue(c, call_script(c, ask));
    }
}

// The prober's own call has it in a field; of what an app asks for it, it is in the prompt.
static uint64_t call_nonce(const struct fields *fields, struct str body) {
    uint64_t nonce = nonce_find(fields_value(fields, FIELD_X_THAW_PROBE));
    return nonce ? nonce : nonce_find(body);
}

static void call_read(struct call *c, struct str body) {
    struct mock *mock = c->mock;
    struct ask ask;
    if (!ask_open(&ask, body, &mock->text)) {
        call_refuse_json(c, body);
        return;
    }
    bool fine = c->route->read(&ask);
    struct str session = identity_session(&c->head->fields, &ask);
    journal_asked(&mock->journal, c->id, ask.model, session, ask.stream);
    journal_nonce(&mock->journal, c->id, call_nonce(&c->head->fields, body));
    if (fine) {
        call_admit(c, &ask, body, session);
    } else {
        call_refuse(c, 400, str_c(ask.problem), ask.param);
    }
    ask_close(&ask);
    if (mock->text.room > TEXT_KEEP) {
        buf_finish(&mock->text);
    }
}

// ---- events

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct call *c = x->owner;
    bool wanted = c->route && c->route->read && !c->refusal;
    call_check(c);
    if (c->state != CALL_ARRIVING) {
        return; // answered before the request was all there
    }
    if (wanted && (!end || buf_len(&c->held))) {
        enum err e = buf_str_append(&c->held, bytes);
        if (e != OK) {
            c->refusal = e == ERR_FULL ? 413 : 503;
            call_refuse_from_head(c);
            return;
        }
        bytes = buf_str(&c->held);
    }
    if (!end) {
        return;
    }
    if (c->refusal) {
        call_refuse_from_head(c);
    } else if (wanted) {
        call_read(c, bytes);
    } else {
        call_answer_page(c);
    }
}

static void on_drain(struct xchg *x) {
    struct call *c = x->owner;
    call_check(c);
    if (c->state == CALL_SENDING) {
        call_go_on(c);
    }
}

static void on_fail(struct xchg *x, enum err e UNUSED, const char *problem UNUSED) {
    call_check(x->owner);
    call_end(x->owner, END_GONE);
}

static void ignore_head(struct xchg *x UNUSED, struct head *head UNUSED) {}

static const struct xchg_events call_events = {ignore_head, on_body, on_drain, on_fail};

// %41 of a path; what is no such escape stays.
static size_t percent_decode(char *to, struct str s) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '%' && i + 2 < s.len && hex_value(s.ptr[i + 1]) >= 0 && hex_value(s.ptr[i + 2]) >= 0) {
            c = (char)(hex_value(s.ptr[i + 1]) << 4 | hex_value(s.ptr[i + 2]));
            i += 2;
        }
        to[n++] = c;
    }
    return n;
}

// What the head says about it: the route, or why it is refused.
static int judge(const struct route *route, const struct head *head) {
    enum method method = head->method == METHOD_HEAD ? METHOD_GET : head->method;
    if (!route) {
        return 404;
    }
    if (route->method != method) {
        return 405;
    }
    if (!route->whole) {
        return 404;
    }
    return head->body_len > BODY_CAP ? 413 : 0;
}

// Anthropic's clients tell a version with every request.
static bool for_anthropic(const struct route *route, const struct head *head) {
    return (route && (route->read == ask_message || route->read == ask_count)) ||
           fields_find(&head->fields, FIELD_ANTHROPIC_VERSION);
}

// `named` is quoted in an error, or names a model: kept in the payload until there is something to echo.
static struct call *call_create(struct mock *mock, struct xchg *x, const struct route *route, struct str method,
                                struct str named) {
    struct call *c = try_malloc(sizeof *c + MAX(method.len + named.len, (size_t)SHORT_ECHO));
    if (!c) {
        return NULL;
    }
    *c = (struct call){.mock = mock, .x = x, .route = route, .claim.timer.on_timer = call_on_timer};
    char *at = c->payload;
    keep(&at, method);
    at += percent_decode(at, named);
    c->answer.model = str_from(c->payload, (size_t)(at - c->payload));
    buf_init(&c->held, BODY_CAP);
    list_push_back(&mock->calls, &c->node);
    x->events = &call_events;
    x->owner = c;
    return c;
}

static void on_request(struct http_server *server, struct xchg *x, struct head *head) {
    struct mock *mock = server->owner;
    const char *shown = NULL;
    struct str path = target_path(head->target);
    const struct route *route = route_find(path, &shown);
    if (mock->deck && (!route || str_starts(route->path, STR("/v1/")))) {
        deck_request(mock->deck, x, head, shown ? shown : "*");
        return;
    }
    int refusal = judge(route, head);
    char method[24] = "";
    struct str named = {NULL, 0};
    if (refusal) {
        snprintf(method, sizeof method, "%.*s ", STR_ARG(str_first(head->method_name, 20)));
        named = str_first(path, NAMED_MAX);
    } else if (route->below) {
        named = str_skip(path, strlen(shown));
    }
    struct call *c = call_create(mock, x, route, str_c(method), named);
    if (!c) {
        xchg_abort(x);
        return;
    }
    c->refusal = (short)refusal;
    c->head = head;
    c->answer.anthropic = for_anthropic(route, head);
    c->answer.created = (uint64_t)time(NULL);
    if (route && route->read && route->method == head->method) {
        c->id = journal_arrived(&mock->journal, shown, mock_now_ns(mock));
        c->answer.number = mock->options.numbers_from + c->id;
    }
    if (refusal == 413 || (refusal && head->expect_continue)) {
        call_refuse_from_head(c); // before the client sends it all
    } else if (head->expect_continue) {
        xchg_send_head(x, &(struct head){.status = 100});
    }
}

// What came is no request: there is no call, only an answer.
static void on_reject(struct http_server *server, struct xchg *x, enum err e, const char *problem) {
    struct mock *mock = server->owner;
    static const struct fault none = {.kind = FAULT_NONE};
    struct answer a = {.status = err_status(e) ? err_status(e) : 400, .message = str_c(problem)};
    answer_start(&a, &answer_error);
    if (call_send_head(mock, x, &answer_error, &a, 0, NULL, &none) != OK ||
        xchg_send(x, buf_str(&mock->scratch), true) < buf_len(&mock->scratch)) {
        xchg_abort(x);
    }
}

// ---- the mock

struct mock *mock_create(struct loop *loop, const struct mock_options *options) {
    struct mock *mock = xcalloc(1, sizeof *mock);
    mock->loop = loop;
    mock->options = *options;
    mock->server = (struct http_server){
        .loop = loop,
        .limits = HTTP_LIMITS_DEFAULT,
        .header_ms = HEADER_MS,
        .idle_ms = IDLE_MS,
        .linger_ms = LINGER_MS,
        .on_request = on_request,
        .on_reject = on_reject,
        .owner = mock,
    };
    http_server_init(&mock->server);
    mock->capacity = capacity_create(loop, &options->capacity, options->seed, &call_capacity_events);
    journal_init(&mock->journal, options->journal_calls ? options->journal_calls : JOURNAL_CALLS, mock->capacity);
    mock->deck = options->deck ? deck_create(loop, options->deck, &mock->journal) : NULL;
    list_init(&mock->calls);
    buf_init(&mock->scratch, SCRATCH_CAP);
    buf_init(&mock->text, BODY_CAP);
    return mock;
}

void mock_set_latency(struct mock *mock, uint64_t ms) { mock->options.times.latency = (struct latency)LATENCY_MS(ms); }

void mock_destroy(struct mock *mock) {
    if (!mock) {
        return;
    }
    capacity_close(mock->capacity);
    list_each(node, &mock->calls) { call_end(container_of(node, struct call, node), END_CUT); }
    deck_destroy(mock->deck);
    http_server_finish(&mock->server);
    journal_finish(&mock->journal);
    capacity_destroy(mock->capacity);
    draw_counts_finish(&mock->seen);
    buf_finish(&mock->scratch);
    buf_finish(&mock->text);
    free(mock);
}

void mock_accept(struct mock *mock, struct conn *take_conn) {
    const struct mock_options *o = &mock->options;
    if (fault_by_rate(o->faults, o->fault_count, true, draw_unit(o->seed, ++mock->accepted)).kind == FAULT_ACCEPT) {
        conn_close(take_conn);
    } else {
        http_server_accept(&mock->server, take_conn);
    }
}

struct conn *mock_connect(void *context) {
    struct mock *mock = context;
    struct conn *near = NULL;
    struct conn *far = NULL;
    mem_pair(mock->loop, MEM_WINDOW, &near, &far);
    mock_accept(mock, far);
    return near;
}

// ---- for those who look on

const struct journal *mock_journal(const struct mock *mock) { return &mock->journal; }

uint64_t mock_now_ns(const struct mock *mock) { return mock->loop->clock->now_ns(mock->loop->clock); }

void mock_each_call(const struct mock *mock, bool (*see)(void *context, const struct journal_record *r),
                    void *context) {
    list_each(node, &mock->calls) {
        uint64_t id = container_of(node, const struct call, node)->id;
        const struct journal_record *r = id ? journal_find(&mock->journal, id) : NULL;
        if (r && !see(context, r)) {
            return;
        }
    }
}
