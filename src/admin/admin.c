// SPDX-License-Identifier: MIT
// The admin's loop, its door, and the table of what is behind it.
#include "admin/admin.h"

#include <pthread.h>
#include <signal.h>

#include "admin/look.h"
#include "admin/page.h"
#include "base/mem.h"
#include "config/address.h"
#include "gateway/answer.h"
#include "gateway/who.h"
#include "http/server.h"
#include "net/listen.h"
#include "net/tcp.h"

enum {
    PAGE_MAX = 8 << 20,
    CONNECTIONS_MAX = 64,
    HEADER_MS = 10 * 1000,
    IDLE_MS = 60 * 1000,
    FIELDS_MAX = 12,
};

struct admin {
    struct loop loop;
    struct http_server server;
    struct listener listener;
    struct admin_options options;
    struct address address;
    bool everybody;      // who reaches it: it is on loopback
    struct digest *keys; // else those that open it
    unsigned key_count;
    uint64_t began_ms;
    struct look look;
    struct message stop;
    pthread_t thread;
};

// One request, until its answer has been taken.
struct ask {
    struct admin *admin;
    struct xchg *x;
    struct buf page;
    struct str rest;
    struct grave grave;
};

struct route {
    struct str path;
    enum method method;
    bool open; // without a key: it tells nothing that is not in the program
    const char *type;
    void (*answer)(struct ask *a, const struct route *route);
    const struct str *text;
    void (*put)(const struct look *l, struct out *o);
};

// ---- answering

static void bury(struct grave *grave) {
    struct ask *a = container_of(grave, struct ask, grave);
    buf_finish(&a->page);
    free(a);
}

static void send_rest(struct ask *a) {
    a->rest = str_skip(a->rest, xchg_send(a->x, a->rest, true));
    if (xchg_over(a->x)) {
        loop_bury(&a->admin->loop, &a->grave, bury);
    }
}

static void add(struct fields *fields, const char *name, const char *value) {
    enum err e = fields_add(fields, str_c(name), str_c(value));
    (void)e; // FIELDS_MAX is more than there are
}

// Pages get these with whatever they are answered: nobody else may show, load or read it.
static void respond(struct ask *a, int status, const char *type, const char *allow, struct str text) {
    struct field room[FIELDS_MAX];
    struct fields fields = FIELDS(room);
    add(&fields, "Content-Type", type);
    add(&fields, "Cache-Control", "no-store");
    add(&fields, "X-Content-Type-Options", "nosniff");
    add(&fields, "Cross-Origin-Resource-Policy", "same-origin");
    add(&fields, "Referrer-Policy", "no-referrer");
    add(&fields, "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'");
    if (status == 401) {
        add(&fields, "WWW-Authenticate", "Bearer");
    }
    if (allow) {
        add(&fields, "Allow", allow);
    }
    struct head head = {.status = status, .fields = fields, .body_len = (int64_t)text.len};
    a->rest = text;
    xchg_send_head(a->x, &head);
    send_rest(a);
}

static void refuse(struct ask *a, int status, const char *allow, const char *message) {
    const struct answer_kind *kind = answer_kind(status);
    enum err e = answer_write_error(&a->page, kind->type, NULL, kind->code, str_c(message));
    e = e == OK ? buf_append(&a->page, "\n", 1) : e;
    respond(a, status, "application/json", allow, e == OK ? buf_str(&a->page) : STR(""));
}

static void take_look(struct admin *admin) {
    admin->look.uptime_ms = admin->loop.now_ms - admin->began_ms;
    look_take(&admin->look, admin->loop.now_ms);
}

static void answer_text(struct ask *a, const struct route *route) { respond(a, 200, route->type, NULL, *route->text); }

static void answer_look(struct ask *a, const struct route *route) {
    struct out o = {&a->page, OK};
    take_look(a->admin);
    route->put(&a->admin->look, &o);
    if (o.e == OK) {
        respond(a, 200, route->type, NULL, buf_str(&a->page));
    } else {
        buf_clear(&a->page);
        refuse(a, 503, NULL, "There is no memory for the answer.");
    }
}

static void health_put(const struct look *l, struct out *o) {
    put_format(o, "{\"status\":\"ok\",\"loop_lag_ms\":%.3f,\"in_flight\":%llu}\n", (double)l->lag_ns / 1e6,
               (unsigned long long)l->in_flight);
}

static void answer_ready(struct ask *a, const struct route *route) {
    take_look(a->admin);
    if (a->admin->look.draining) {
        refuse(a, 503, NULL, "thaw is shutting down and takes no new calls.");
    } else {
        respond(a, 200, route->type, NULL, STR("{\"status\":\"ready\"}\n"));
    }
}

static void pass_on(struct ask *a, void (*to)(void *owner)) {
    if (!to) {
        refuse(a, 501, NULL, "This thaw cannot be asked for that.");
        return;
    }
    to(a->admin->options.owner);
    respond(a, 202, "application/json", NULL, STR("{\"status\":\"asked\"}\n"));
}
static void answer_drain(struct ask *a, const struct route *route UNUSED) { pass_on(a, a->admin->options.on_drain); }
static void answer_reload(struct ask *a, const struct route *route UNUSED) { pass_on(a, a->admin->options.on_reload); }

// ---- the paths

#define JSON "application/json"
static const struct route routes[] = {
    {.path = STR_INIT("/healthz"),
     .method = METHOD_GET,
     .open = true,
     .type = JSON,
     .answer = answer_look,
     .put = health_put},
    {.path = STR_INIT("/readyz"), .method = METHOD_GET, .open = true, .type = JSON, .answer = answer_ready},
    {.path = STR_INIT("/metrics"),
     .method = METHOD_GET,
     .type = "text/plain; version=0.0.4; charset=utf-8",
     .answer = answer_look,
     .put = metrics_put},
    {.path = STR_INIT("/admin/state"), .method = METHOD_GET, .type = JSON, .answer = answer_look, .put = state_put},
    {.path = STR_INIT("/admin/drain"), .method = METHOD_POST, .answer = answer_drain},
    {.path = STR_INIT("/admin/reload"), .method = METHOD_POST, .answer = answer_reload},
    {.path = STR_INIT("/ui"),
     .method = METHOD_GET,
     .open = true,
     .type = "text/html; charset=utf-8",
     .answer = answer_text,
     .text = &page_html},
    {.path = STR_INIT("/ui.js"),
     .method = METHOD_GET,
     .open = true,
     .type = "text/javascript; charset=utf-8",
     .answer = answer_text,
     .text = &page_js},
    {.path = STR_INIT("/ui.css"),
     .method = METHOD_GET,
     .open = true,
     .type = "text/css; charset=utf-8",
     .answer = answer_text,
     .text = &page_css},
};

static const struct route *find_route(struct str path) {
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (str_eq(routes[i].path, path)) {
            return &routes[i];
        }
    }
    return NULL;
}

// ---- the door

// A name can be made to lead to any address (DNS rebinding), and then a page of that name is of the same origin as we
// are. An address cannot.
static bool is_address(struct str authority) {
    struct address address;
    bool v6 = str_starts(authority, STR("["));
    struct str host = v6 ? str_first(str_skip(authority, 1), str_find(str_skip(authority, 1), ']'))
                         : str_first(authority, str_find(authority, ':'));
    return str_ieq(host, STR("localhost")) || address_parse(host, 0, &address) == OK;
}

// A browser says where a request comes from; what is no browser's says nothing.
static bool is_foreign_page(const struct head *head) {
    struct str origin = fields_value(&head->fields, FIELD_ORIGIN);
    struct str site = fields_value(&head->fields, FIELD_SEC_FETCH_SITE);
    struct str scheme = STR("http://");
    bool same = str_starts(origin, scheme) && str_ieq(str_skip(origin, scheme.len), head->authority);
    return (origin.ptr && !same) || (site.ptr && !str_eq(site, STR("same-origin")) && !str_eq(site, STR("none")));
}

// What a page of another origin cannot send without having asked for leave (Fetch standard, section 2.2.2), which nobody
// gets here.
static bool is_meant(const struct head *head) {
    struct str type = fields_value(&head->fields, FIELD_CONTENT_TYPE);
    bool json = str_ieq(str_trim(str_first(type, str_find(type, ';'))), STR("application/json"));
    for (unsigned i = 0; i < head->fields.n; i++) {
        json =
            json || (str_ieq(head->fields.v[i].name, STR("x-thaw-admin")) && str_eq(head->fields.v[i].value, STR("1")));
    }
    return json;
}

static bool has_key(const struct admin *admin, const struct head *head) {
    struct digest presented = who_tenant(&head->fields);
    unsigned known = 0;
    for (unsigned i = 0; i < admin->key_count; i++) { // all of them: the time says nothing about which
        known |= digest_equal(&admin->keys[i], &presented);
    }
    return known;
}

static void let_in(struct ask *a, const struct head *head) {
    const struct admin *admin = a->admin;
    const struct route *route = find_route(target_path(head->target));
    bool get = head->method == METHOD_GET || head->method == METHOD_HEAD;
    if (admin->everybody && !is_address(head->authority)) {
        refuse(a, 403, NULL, "Ask here by an address or as localhost: a name could be anybody's (Host).");
    } else if (is_foreign_page(head)) {
        refuse(a, 403, NULL, "Pages of other origins get nothing here.");
    } else if (!route) {
        refuse(a, 404, NULL,
               "There are /metrics, /healthz, /readyz, /ui, /admin/state, and to POST to /admin/drain and "
               "/admin/reload.");
    } else if (!admin->everybody && !route->open && !has_key(admin, head)) {
        refuse(a, 401, NULL, "Send one of the configuration's keys as 'Authorization: Bearer KEY'.");
    } else if (route->method == METHOD_GET ? !get : head->method != route->method) {
        refuse(a, 405, route->method == METHOD_GET ? "GET, HEAD" : "POST", "The path does not answer to this method.");
    } else if (!get && !is_meant(head)) {
        refuse(a, 403, NULL, "Send 'X-Thaw-Admin: 1' with it: so no page can have sent it.");
    } else {
        route->answer(a, route);
    }
}

// ---- its server

static void ignore_head(struct xchg *x UNUSED, struct head *head UNUSED) {}
static void ignore_body(struct xchg *x UNUSED, struct str bytes UNUSED, bool end UNUSED) {}
static void on_drain(struct xchg *x) { send_rest(x->owner); }
static void on_fail(struct xchg *x, enum err e UNUSED, const char *problem UNUSED) {
    struct ask *a = x->owner;
    loop_bury(&a->admin->loop, &a->grave, bury);
}
static const struct xchg_events events = {ignore_head, ignore_body, on_drain, on_fail};

static struct ask *new_ask(struct http_server *s, struct xchg *x) {
    struct ask *a = xcalloc(1, sizeof *a);
    a->admin = s->owner;
    a->x = x;
    buf_init(&a->page, PAGE_MAX);
    x->events = &events;
    x->owner = a;
    return a;
}

static void on_request(struct http_server *s, struct xchg *x, struct head *head) { let_in(new_ask(s, x), head); }

static void on_reject(struct http_server *s, struct xchg *x, enum err e, const char *problem) {
    refuse(new_ask(s, x), err_status(e), NULL, problem);
}

static void on_accept(struct listener *l, struct conn *c) {
    struct admin *admin = l->owner;
    if (admin->server.open >= CONNECTIONS_MAX) {
        conn_close(c);
        return;
    }
    http_server_accept(&admin->server, c);
    tcp_watch(c);
}

// ---- life

static void forget_keys(struct admin *admin) {
    free(admin->keys);
    admin->keys = NULL;
    admin->key_count = 0;
}

// Those of `clients` are for calls alone.
static void learn_keys(struct admin *admin, const struct config *config) {
    forget_keys(admin);
    admin->keys = xcalloc(config->key_count, sizeof *admin->keys);
    for (; admin->key_count < config->key_count; admin->key_count++) {
        admin->keys[admin->key_count] = digest_sha256(config->keys[admin->key_count].secret);
    }
}

struct configure {
    struct message message;
    struct admin *admin;
    struct config *config;
};

static void deliver_config(struct message *m) {
    struct configure *c = container_of(m, struct configure, message);
    learn_keys(c->admin, c->config);
    config_unref(c->config);
    free(c);
}

void admin_configure(struct admin *admin, struct config *config) {
    struct configure *c = xcalloc(1, sizeof *c);
    *c = (struct configure){{.deliver = deliver_config}, admin, config_ref(config)};
    loop_post(&admin->loop, &c->message);
}

static void deliver_stop(struct message *m) { loop_stop(&container_of(m, struct admin, stop)->loop); }

static void *run(void *context) {
    struct admin *admin = context;
    loop_run(&admin->loop);
    return NULL;
}

static bool is_on_loopback(const struct address *address) {
    char text[ADDRESS_TEXT];
    address_format(address, text);
    *strrchr(text, ':') = '\0';
    bool v6 = text[0] == '[';
    struct str host = str_c(text + v6);
    host.len -= v6;
    return config_is_loopback(host);
}

static void destroy(struct admin *admin) {
    listener_close(&admin->listener);
    http_server_finish(&admin->server);
    loop_finish(&admin->loop);
    forget_keys(admin);
    free(admin);
}

// Signals are for the thread that waits for them.
static enum err start_thread(struct admin *admin) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int problem = pthread_create(&admin->thread, NULL, run, admin);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!problem) {
        pthread_setname_np(admin->thread, "admin");
    }
    return err_from_errno(problem);
}

static void init_server(struct admin *admin) {
    admin->server.loop = &admin->loop;
    admin->server.limits = HTTP_LIMITS_DEFAULT;
    admin->server.header_ms = HEADER_MS;
    admin->server.idle_ms = IDLE_MS;
    admin->server.on_request = on_request;
    admin->server.on_reject = on_reject;
    admin->server.owner = admin;
    http_server_init(&admin->server);
}

enum err admin_open(const struct admin_options *options, struct admin **result) {
    struct process process;
    struct loop_options loop_options = {0};
    struct admin *admin = xcalloc(1, sizeof *admin);
    enum err e = loop_init(&admin->loop, &loop_options);
    if (e != OK) {
        free(admin);
        return e;
    }
    process_read(&process);
    admin->options = *options;
    admin->listener.io.fd = -1;
    admin->look.options = &admin->options;
    admin->look.resident_at_start = process.resident;
    admin->began_ms = admin->loop.now_ms;
    admin->everybody = is_on_loopback(options->listen);
    admin->stop.deliver = deliver_stop;
    learn_keys(admin, options->config);
    init_server(admin);
    e = options->socket >= 0 ? listener_adopt(&admin->listener, &admin->loop, options->socket, on_accept, admin)
                             : listener_open(&admin->listener, &admin->loop, options->listen, on_accept, admin);
    e = e == OK ? start_thread(admin) : e;
    if (e != OK) {
        destroy(admin);
        return e;
    }
    *result = admin;
    return OK;
}

int admin_socket(const struct admin *admin) { return admin->listener.io.fd; }

void admin_close(struct admin *admin) {
    if (admin) {
        loop_post(&admin->loop, &admin->stop);
        pthread_join(admin->thread, NULL);
        destroy(admin);
    }
}
