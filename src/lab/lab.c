// SPDX-License-Identifier: MIT
// A guest: one request, one or several slow calls, one answer.
//
//              the body is there           the last call is over          all handed over
//   ARRIVING --------------------> WAITING ----------------------> ANSWERING ------------> OVER
//      |  |                           |                              ^   |                   ^
//      |  +--- a page, a refusal -----|------------------------------+   |                   |
//      |                              +--the client left--> LEFT --------|--the last call----+
//      +-----------------------------the client left---------------------+-------------------+
//
//   ARRIVING   `body` gathers the request
//   WAITING    calls are open
//   ANSWERING  `body` is the answer; no call is open
//   LEFT       calls are open, there is no client any more
//   OVER       in the loop's graveyard
#include <assert.h>

#include "base/log.h"
#include "base/mem.h"
#include "llm/form.h"
#include "lab/blocking.h"
#include "lab/guest.h"

enum {
    BODY_CAP = 1024 * 1024,
    REQUEST_CAP = 8 * BODY_CAP, // a prompt whose every byte is escaped
    PAGE_CAP = (LAB_CALLS_MAX + 8) * ANSWER_CAP,
    HEADER_MS = 60 * 1000,
    IDLE_MS = 10 * 60 * 1000,
    CONNECT_MS = 30 * 1000,
    POLL_MS = 100,
    QUEUE_MAX = 100 * 1000,
    SERVICE_MAX_MS = 60 * 60 * 1000,
    TURN_MS = 100,
};

static void guest_set_state(struct guest *g, enum guest_state state) {
    assert(g->state != GUEST_OVER);
    assert(state != GUEST_WAITING || g->state == GUEST_ARRIVING);
    assert(state != GUEST_ANSWERING || g->state == GUEST_ARRIVING || g->state == GUEST_WAITING);
    assert(state != GUEST_LEFT || g->state == GUEST_WAITING);
    g->state = state;
}

static void bury(struct grave *grave) {
    struct guest *g = container_of(grave, struct guest, grave);
    for (unsigned i = 0; g->calls && i < g->count; i++) {
        buf_finish(&g->calls[i].answer);
    }
    free(g->calls);
    buf_finish(&g->body);
    buf_finish(&g->ask);
    free(g);
}

static void guest_end(struct guest *g) {
    assert(g->open == 0);
    guest_set_state(g, GUEST_OVER);
    list_unlink(&g->node);
    loop_bury(g->lab->loop, &g->grave, bury);
}

// ---- answering

static void send_rest(struct guest *g) {
    g->sent += xchg_send(g->x, str_skip(buf_str(&g->body), g->sent), true);
    if (xchg_over(g->x)) { // not so when the connection failed: then on_fail comes
        guest_end(g);
    }
}

static void add_field(struct fields *f, struct str name, struct str value) {
    enum err e = fields_add(f, name, value);
    assert(e == OK); // there is room for all of them
    (void)e;
}

static void send_head(struct xchg *x, int status, const char *type, const char *allow, size_t len) {
    struct field room[3];
    struct fields fields = FIELDS(room);
    add_field(&fields, STR("Content-Type"), str_c(type));
    add_field(&fields, STR("Cache-Control"), STR("no-store"));
    if (allow) {
        add_field(&fields, STR("Allow"), str_c(allow));
    }
    xchg_send_head(x, &(struct head){.status = status, .fields = fields, .body_len = (int64_t)len});
}

// `o` wrote the answer, into `page`.
static void guest_answer(struct guest *g, int status, const char *type, const char *allow, const struct out *o) {
    if (o->e != OK) {
        buf_finish(o->b);
        xchg_abort(g->x);
        guest_end(g);
        return;
    }
    buf_finish(&g->body);
    g->body = *o->b;
    guest_set_state(g, GUEST_ANSWERING);
    send_head(g->x, status, type, allow, buf_len(&g->body));
    send_rest(g);
}

static void guest_refuse_allowing(struct guest *g, int status, const char *message, const char *allow) {
    struct buf page;
    struct out o = {&page, OK};
    buf_init(&page, PAGE_CAP);
    page_error(&o, status, str_c(message));
    guest_answer(g, status, "application/json", allow, &o);
}

static void guest_refuse(struct guest *g, int status, const char *message) {
    guest_refuse_allowing(g, status, message, NULL);
}

// ---- calls

static void log_end(const struct guest *g) {
    char seat[SEAT_NAME];
    const struct call *c = g->last;
    if (!g->lab->options.log_users) {
        return;
    }
    log_info("user %s: %s: waited %.3f s%s%s, served %.3f s by %s%s%s", g->user, g->pattern->path.ptr,
             (double)(c->seated_ns - g->arrived_ns) / 1e9, c->waited_for[0] ? " for user " : "", c->waited_for,
             (double)(c->done_ns - c->seated_ns) / 1e9, lab_call_seat(c, seat),
             c->result == OK ? "" : ", failed: ", c->result == OK ? "" : c->problem);
}

static const struct call *failed_call(const struct guest *g) {
    for (unsigned i = 0; i < g->count; i++) {
        if (g->calls[i].result != OK) {
            return &g->calls[i];
        }
    }
    return NULL;
}

static void guest_finish(struct guest *g) {
    struct buf page;
    struct out o = {&page, OK};
    const struct call *failed = failed_call(g);
    log_end(g);
    if (failed) {
        char message[PROBLEM_MAX + 80];
        int status = err_status(failed->result);
        snprintf(message, sizeof message, "The slow call failed: %s", failed->problem);
        guest_refuse(g, status ? status : 502, message);
        return;
    }
    buf_init(&page, PAGE_CAP);
    page_answer(&o, g, g->calls);
    guest_answer(g, 200, "application/json", NULL, &o);
}

void guest_call_over(struct call *c) {
    struct guest *g = c->guest;
    g->last = !g->last || c->done_ns >= g->last->done_ns ? c : g->last;
    if (--g->open) {
        return;
    }
    if (g->state == GUEST_LEFT) {
        guest_end(g);
    } else {
        guest_finish(g);
    }
}

static void log_leaving(const struct guest *g) {
    unsigned running = 0;
    for (unsigned i = 0; i < g->count; i++) {
        running += g->calls[i].state == CALL_HELD || g->calls[i].state == CALL_CALLING;
    }
    if (g->lab->options.log_users && g->pattern->pool != ROOM_NONE) {
        log_info("user %s: left; of its calls %u run%s to the end on their threads all the same, %u do not begin",
                 g->user, running, running == 1 ? "s" : "", g->open - running);
    } else if (g->lab->options.log_users) {
        log_info("user %s: left; its calls are dropped", g->user);
    }
}

static void guest_leave(struct guest *g) {
    guest_set_state(g, GUEST_LEFT);
    log_leaving(g);
    atomic_store(&g->left, true);
    for (unsigned i = 0; i < g->count; i++) {
        lab_call_forget(&g->calls[i]);
    }
}

// ---- what is asked for

static void put_model(struct out *o, const struct guest *g) {
    const char *model = g->lab->options.upstream.model;
    char mock[40];
    snprintf(mock, sizeof mock, "mock-%llums", (unsigned long long)g->service_ms);
    put_json(o, str_c(model ? model : mock));
}

static enum err write_ask(struct guest *g, struct str prompt) {
    struct out o = {&g->ask, OK};
    buf_init(&g->ask, REQUEST_CAP);
    put_text(&o, "{\"model\":");
    put_model(&o, g);
    put_text(&o, ",\"messages\":[{\"role\":\"user\",\"content\":");
    put_json(&o, prompt);
    put_text(&o, "}]}");
    return o.e;
}

static void set_user(struct guest *g, struct str user) {
    snprintf(g->user, sizeof g->user, "%.*s", STR_ARG(user));
    lab_make_plain(g->user);
}

// One name of the query; or why it is refused.
static const char *read_name(struct guest *g, struct str name, struct str value) {
    uint64_t calls;
    if (str_eq(name, STR("user_id"))) {
        if (value.len > LAB_USER_MAX) {
            return "user_id must have 64 bytes or less";
        }
        if (value.len) {
            set_user(g, value);
        }
    } else if (str_eq(name, STR("seconds"))) {
        if (g->lab->options.upstream.model) {
            return "seconds is for the built-in mock; an upstream with a model of its own takes what time it takes";
        }
        if (parse_seconds_ms(value, &g->service_ms) != OK || g->service_ms > SERVICE_MAX_MS) {
            return "seconds must be a number from 0 to 3600, as 5 or 0.25";
        }
    } else if (str_eq(name, STR("calls"))) {
        if (parse_u64(value, &calls) != OK || calls == 0 || calls > LAB_CALLS_MAX) {
            return "calls must be a number from 1 to 32";
        }
        g->count = (unsigned)calls;
    }
    return NULL;
}

// What the query says; or why it is refused.
static const char *read_query(struct guest *g, struct str target) {
    struct form form = form_of_target(target);
    struct str name, value;
    struct buf room;
    const char *problem = NULL;
    g->count = 1;
    buf_init(&room, 3 * target.len + 1);
    while (!problem && form_next(&form, &room, &name, &value) == OK) {
        problem = read_name(g, name, value);
    }
    buf_finish(&room);
    return problem;
}

static const char *read_body(struct guest *g, const struct json_value *root, struct str *prompt) {
    const struct json_value *calls = json_member(root, "calls");
    double n = 0;
    *prompt = json_string(json_member(root, "prompt"));
    if (!json_is_object(root)) {
        return "the body must be a JSON object, as {\"prompt\":\"hello\"}, or empty";
    }
    if (json_member(root, "prompt") && !prompt->ptr) {
        return "prompt must be a string";
    }
    if (calls && (!json_number(calls, &n) || !(n >= 1 && n <= LAB_CALLS_MAX) || n != (double)(unsigned)n)) {
        return "calls must be a number from 1 to 32";
    }
    g->count = calls ? (unsigned)n : g->count;
    return NULL;
}

// The whole request is there.
static void guest_begin(struct guest *g, struct str body) {
    struct json *json = body.len ? json_open(body, 12 * body.len + 64 * 1024) : NULL;
    struct str prompt = {NULL, 0};
    const char *wrong = body.len ? read_body(g, json ? json_root(json) : NULL, &prompt) : NULL;
    enum err e = wrong ? OK : write_ask(g, prompt.ptr ? prompt : STR("hello"));
    json_close(json);
    if (wrong || e != OK) {
        guest_refuse(g, wrong ? 400 : 503, wrong ? wrong : "There is no memory for the request.");
        return;
    }
    buf_finish(&g->body);
    guest_set_state(g, GUEST_WAITING);
    g->calls = xcalloc(g->count, sizeof *g->calls);
    g->open = g->count;
    g->arrived_ns = lab_now_ns(g->lab);
    if (g->lab->options.log_users) {
        log_info("user %s: %s: came", g->user, g->pattern->path.ptr);
    }
    for (unsigned i = 0; i < g->count; i++) {
        g->calls[i].guest = g;
        lab_call_start(&g->calls[i]);
    }
}

// ---- events

static void on_head(struct xchg *x UNUSED, struct head *head UNUSED) {} // a request has one, told by on_request

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct guest *g = x->owner;
    if (g->state != GUEST_ARRIVING) {
        return; // refused before it was all there
    }
    if (!end || buf_len(&g->body)) {
        enum err e = buf_str_append(&g->body, bytes);
        if (e != OK) {
            guest_refuse(g, e == ERR_FULL ? 413 : 503, e == ERR_FULL ? "The body is longer than 1 MiB." : "No memory.");
            return;
        }
        bytes = buf_str(&g->body);
    }
    if (end) {
        guest_begin(g, bytes);
    }
}

static void on_drain(struct xchg *x) {
    struct guest *g = x->owner;
    if (g->state == GUEST_ANSWERING) {
        send_rest(g);
    }
}

static void on_fail(struct xchg *x, enum err e UNUSED, const char *problem UNUSED) {
    struct guest *g = x->owner;
    if (g->state == GUEST_WAITING) {
        guest_leave(g);
    } else {
        guest_end(g);
    }
}

static const struct xchg_events guest_events = {on_head, on_body, on_drain, on_fail};

// ---- routes

static const struct page {
    struct str path;
    const char *type;
    void (*write)(struct out *o, struct lab *lab);
} pages[] = {
    {STR_INIT("/"), "text/plain; charset=utf-8", page_routes},
    {STR_INIT("/healthz"), "application/json", page_health},
    {STR_INIT("/seats"), "application/json", page_seats},
};

static const struct page *page_find(struct str path) {
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (str_eq(pages[i].path, path)) {
            return &pages[i];
        }
    }
    return NULL;
}

static void guest_show(struct guest *g, const struct page *page) {
    struct buf body;
    struct out o = {&body, OK};
    buf_init(&body, PAGE_CAP);
    page->write(&o, g->lab);
    guest_answer(g, 200, page->type, NULL, &o);
}

static struct guest *guest_create(struct lab *lab, struct xchg *x) {
    struct guest *g = xcalloc(1, sizeof *g);
    g->lab = lab;
    g->x = x;
    g->service_ms = lab->options.service_ms;
    buf_init(&g->body, BODY_CAP);
    list_push_back(&lab->guests, &g->node);
    x->events = &guest_events;
    x->owner = g;
    return g;
}

static void guest_arrive(struct guest *g, const struct head *head) {
    char number[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)++g->lab->users);
    set_user(g, str_c(number));
    const char *wrong = read_query(g, head->target);
    if (wrong || head->body_len > BODY_CAP) {
        guest_refuse(g, wrong ? 400 : 413, wrong ? wrong : "The body is longer than 1 MiB.");
    } else if (head->expect_continue) {
        xchg_send_head(g->x, &(struct head){.status = 100});
    }
}

static void on_request(struct http_server *server, struct xchg *x, struct head *head) {
    struct guest *g = guest_create(server->owner, x);
    const struct page *page = page_find(target_path(head->target));
    g->pattern = pattern_find(target_path(head->target));
    if (!g->pattern && !page) {
        guest_refuse(g, 404, "There is no such path; GET / lists those there are.");
    } else if (page && (head->method == METHOD_GET || head->method == METHOD_HEAD)) {
        guest_show(g, page);
    } else if (page) {
        guest_refuse_allowing(g, 405, "This is a page: GET it.", "GET, HEAD");
    } else if (head->method != METHOD_POST) {
        guest_refuse_allowing(g, 405, "A slow call is made with POST.", "POST");
    } else {
        guest_arrive(g, head);
    }
}

static void on_reject(struct http_server *server, struct xchg *x, enum err e, const char *problem) {
    struct guest *g = guest_create(server->owner, x);
    guest_refuse(g, err_status(e) ? err_status(e) : 400, problem);
}

// ---- the lab

static bool make_room(struct lab *lab, enum room_id id, const char *name, unsigned count, bool threads) {
    struct room *room = &lab->rooms[id];
    *room = (struct room){.name = name, .count = count};
    room->seats = xcalloc(count, sizeof *room->seats);
    room->executor = threads ? executor_create(name, count, QUEUE_MAX) : NULL;
    return room->executor || !threads;
}

static void make_locks(struct lab *lab) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lab->nap, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&lab->nap_lock, NULL);
    pthread_mutex_init(&lab->lock, NULL);
}

static void open_client(struct lab *lab) {
    const struct lab_upstream *upstream = &lab->options.upstream;
    lab->dns = dns_create(lab->loop, NULL);
    lab->client = (struct http_client){
        .loop = lab->loop,
        .dns = lab->dns,
        .limits = HTTP_LIMITS_DEFAULT,
        .idle_ms = 1, // a connection a call, as the blocking ways have it
    };
    http_client_init(&lab->client);
    lab->origin.target = (struct dial_target){
        .host = upstream->host, .port = upstream->port, .tls = upstream->tls, .timeout_ms = CONNECT_MS};
    lab->origin.authority = str_c(upstream->authority);
    origin_init(&lab->origin, &lab->client);
}

struct lab *lab_create(struct loop *loop, const struct lab_options *options) {
    char problem[BLOCKING_PROBLEM] = "";
    struct lab *lab = xcalloc(1, sizeof *lab);
    lab->loop = loop;
    lab->options = *options;
    lab->options.poll_ms = options->poll_ms ? options->poll_ms : POLL_MS;
    lab->server = (struct http_server){
        .loop = loop,
        .limits = HTTP_LIMITS_DEFAULT,
        .header_ms = HEADER_MS,
        .idle_ms = IDLE_MS,
        .on_request = on_request,
        .on_reject = on_reject,
        .owner = lab,
    };
    list_init(&lab->guests);
    http_server_init(&lab->server);
    open_client(lab);
    make_locks(lab);
    lab->blocking = blocking_create(problem);
    bool fine = make_room(lab, ROOM_DEFAULT, "default", options->default_threads, true);
    fine = make_room(lab, ROOM_EXECUTOR, "executor", options->executor_threads, true) && fine;
    make_room(lab, ROOM_LOCK, "lock", 1, false);
    make_room(lab, ROOM_FLAG, "flag", 1, false);
    if (!fine || !lab->blocking) {
        log_error("lab: %s", fine ? problem : "so many threads are not to be had");
        lab_destroy(lab);
        return NULL;
    }
    return lab;
}

static void let_all_go(struct lab *lab) {
    list_each(node, &lab->guests) {
        struct guest *g = container_of(node, struct guest, node);
        if (g->state == GUEST_WAITING) {
            guest_leave(g);
        } else if (g->state != GUEST_LEFT) {
            guest_end(g);
        }
    }
}

void lab_destroy(struct lab *lab) {
    if (!lab) {
        return;
    }
    pthread_mutex_lock(&lab->nap_lock);
    atomic_store(&lab->ending, true);
    pthread_cond_broadcast(&lab->nap);
    pthread_mutex_unlock(&lab->nap_lock);
    http_server_finish(&lab->server);
    let_all_go(lab);
    while (!list_empty(&lab->guests)) {
        loop_turn(lab->loop, TURN_MS);
    }
    for (unsigned i = 0; i < ROOM_COUNT; i++) {
        executor_destroy(lab->rooms[i].executor);
        free(lab->rooms[i].seats);
    }
    origin_finish(&lab->origin);
    http_client_finish(&lab->client);
    dns_destroy(lab->dns);
    pthread_mutex_destroy(&lab->lock);
    pthread_mutex_destroy(&lab->nap_lock);
    pthread_cond_destroy(&lab->nap);
    blocking_destroy(lab->blocking);
    free(lab);
}

void lab_accept(struct lab *lab, struct conn *take_conn) { http_server_accept(&lab->server, take_conn); }
