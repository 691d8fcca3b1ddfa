// SPDX-License-Identifier: MIT
#include "gateway/setup.h"

#include "base/mem.h"
#include "config/address.h"
#include "gateway/worker.h"
#include "llm/json.h"

// ---- of the process

struct commons *commons_create(void) {
    struct commons *c = xcalloc(1, sizeof *c);
    c->gates = gates_create();
    c->quotas = quotas_create();
    c->tickets = tls_tickets_create();
    return c;
}

void commons_destroy(struct commons *c) {
    if (c) {
        gates_destroy(c->gates);
        quotas_destroy(c->quotas);
        tls_tickets_destroy(c->tickets);
        free(c);
    }
}

// ---- of a configuration

// Upstreams that trust the same certificates, and are offered the same, share a context.
static struct tls_client *same_trust(const struct blueprint *b, unsigned n) {
    const struct config_upstream *v = b->config->upstreams;
    for (unsigned i = 0; i < n; i++) {
        if (b->tls[i] && str_eq(v[i].ca_file, v[n].ca_file) && v[i].http == v[n].http) {
            return b->tls[i];
        }
    }
    return NULL;
}

static enum err make_tls(struct blueprint *b, char *problem, size_t size) {
    static const char *const alpn[] = {[HTTP_AUTO] = "h2,http/1.1", [HTTP_1] = "http/1.1", [HTTP_2] = "h2"};
    for (unsigned i = 0; i < b->config->upstream_count; i++) {
        const struct config_upstream *u = &b->config->upstreams[i];
        struct tls_client_options options = {.ca_file = u->ca_file.len ? u->ca_file.ptr : NULL, .alpn = alpn[u->http]};
        char why[300];
        b->tls[i] = u->tls ? same_trust(b, i) : NULL;
        if (u->tls && !b->tls[i] && tls_client_create(&options, &b->tls[i], why, sizeof why) != OK) {
            snprintf(problem, size, "upstream '%.*s': %s", STR_ARG(u->name), why);
            return ERR_INVALID;
        }
    }
    return OK;
}

static enum err make_tls_server(struct blueprint *b, char *problem, size_t size) {
    const struct config *config = b->config;
    struct tls_identity *identities = xcalloc(MAX(config->tls_count, 1u), sizeof *identities);
    char why[300];
    for (unsigned i = 0; i < config->tls_count; i++) {
        identities[i] = (struct tls_identity){config->tls[i].cert_file.ptr, config->tls[i].key_file.ptr};
    }
    enum err e = OK;
    if (config->tls_count &&
        (e = tls_server_create(identities, config->tls_count, "h2,http/1.1", &b->tls_server, why, sizeof why)) != OK) {
        snprintf(problem, size, "tls: %s", why);
    }
    free(identities);
    return e;
}

enum err blueprint_create(struct config *config, struct blueprint **blueprint, char *problem, size_t size) {
    struct blueprint *b = xcalloc(1, sizeof *b);
    atomic_init(&b->references, 1);
    b->config = config_ref(config);
    b->tls = xcalloc(MAX(config->upstream_count, 1u), sizeof(struct tls_client *));
    enum err e = make_tls(b, problem, size);
    e = e == OK ? make_tls_server(b, problem, size) : e;
    if (e != OK) {
        blueprint_unref(b);
        b = NULL;
    }
    *blueprint = b;
    return e;
}

struct blueprint *blueprint_ref(struct blueprint *b) {
    atomic_fetch_add_explicit(&b->references, 1, memory_order_relaxed);
    return b;
}

void blueprint_unref(struct blueprint *b) {
    if (!b || atomic_fetch_sub_explicit(&b->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (unsigned i = b->config->upstream_count; i-- > 0;) {
        if (b->tls[i] && !(same_trust(b, i) == b->tls[i])) {
            tls_client_destroy(b->tls[i]);
        }
    }
    free(b->tls);
    tls_server_destroy(b->tls_server);
    config_unref(b->config);
    free(b);
}

// ---- of a worker

static char *format_authorization(struct str key) {
    if (key.len == 0) {
        return NULL;
    }
    size_t size = key.len + sizeof "Bearer ";
    char *text = xmalloc(size);
    snprintf(text, size, "Bearer %.*s", STR_ARG(key));
    return text;
}

static void init_gate(struct setup *s, struct upstream *u) {
    const struct config_upstream *config = u->config;
    struct gate_options options = {
        .limit = config->max_in_flight.limit,
        .automatic = config->max_in_flight.automatic,
        .queue_length = s->config->queue_length,
        .queue_wait_ms = s->config->queue_wait_ms,
    };
    u->gate = gates_find(s->worker->commons->gates, config->name);
    u->meter = &s->worker->meter->upstreams[meters_place(s->worker->meters, config->name, u->gate)];
    u->gated = options.limit || options.automatic;
    s->limited = s->limited || u->gated;
    gate_set(u->gate, &options, s->worker->loop.now_ms);
}

static void init_upstream(struct setup *s, unsigned i) {
    struct worker *w = s->worker;
    const struct config_upstream *config = &s->config->upstreams[i];
    struct upstream *u = &s->upstreams[i];
    u->config = config;
    char authority[AUTHORITY_TEXT];
    authority_format(config->tls, config->host, config->port, authority);
    u->authority = str_dup(config->mock ? STR("mock") : str_c(authority));
    u->authorization = format_authorization(config->key);
    u->origin.authority = str_c(u->authority);
    u->origin.target = (struct dial_target){
        .host = config->host,
        .port = config->port,
        .tls = s->blueprint->tls[i],
        .timeout_ms = config->connect_ms,
    };
    u->origin.speaks = config_h2_is_known(config)                 ? ORIGIN_H2
                       : config->tls && config->http == HTTP_AUTO ? ORIGIN_ASK
                                                                  : ORIGIN_H1;
    if (config->mock) {
        u->origin.connect_local = w->options.mock_connect;
        u->origin.context = worker_mock(w, config->name);
    }
    origin_init(&u->origin, &w->client);
    retry_budget_init(&u->budget);
    init_gate(s, u);
}

static char *json_string_of(struct str s) {
    struct buf json;
    if (s.len == 0) {
        return NULL;
    }
    buf_init(&json, 8 * s.len + 64);
    char *text = json_append_string(&json, s) == OK ? str_dup(buf_str(&json)) : NULL;
    buf_finish(&json);
    return text;
}

static void init_targets(struct setup *s, struct targets *targets, const struct config_model *model) {
    *targets = (struct targets){.model = model->name, .config = model, .n = model->use_count};
    targets->v = xcalloc(model->use_count, sizeof *targets->v);
    for (unsigned i = 0; i < model->use_count; i++) {
        const struct config_use *use = &model->use[i];
        bool same = str_eq(use->model, model->name);
        targets->v[i] = (struct target){.upstream = &s->upstreams[use->upstream],
                                        .model_json = same ? NULL : json_string_of(use->model),
                                        .rank = use->rank,
                                        .weight = use->weight};
    }
}

static void init_any(struct setup *s) {
    s->any = (struct targets){.n = s->config->upstream_count};
    s->any.v = xcalloc(s->any.n, sizeof *s->any.v);
    for (unsigned i = 0; i < s->any.n; i++) {
        s->any.v[i] = (struct target){.upstream = &s->upstreams[i], .rank = i, .weight = 1};
    }
}

static void finish_targets(struct targets *targets) {
    for (unsigned i = 0; i < targets->n; i++) {
        free(targets->v[i].model_json);
    }
    free(targets->v);
}

static bool is_limited(const struct config_limits *l) {
    return l->requests_per_minute || l->tokens_per_minute || l->in_flight;
}

static size_t longest_base_path(const struct config *config) {
    size_t longest = 0;
    for (unsigned i = 0; i < config->upstream_count; i++) {
        longest = MAX(longest, config->upstreams[i].base_path.len);
    }
    return longest;
}

struct setup *setup_create(struct worker *w, struct blueprint *blueprint) {
    struct setup *s = xcalloc(1, sizeof *s);
    const struct http_limits *http = &w->server.limits;
    s->references = 1;
    s->worker = w;
    s->blueprint = blueprint_ref(blueprint);
    s->config = blueprint->config;
    list_push_back(&w->setups, &s->node);
    who_init(&s->who, s->config);
    s->upstreams = xcalloc(s->config->upstream_count, sizeof *s->upstreams);
    for (unsigned i = 0; i < s->config->upstream_count; i++) {
        init_upstream(s, i);
    }
    s->limited = s->limited || is_limited(&s->config->limits);
    for (unsigned i = 0; i < s->config->client_count; i++) {
        s->limited = s->limited || is_limited(&s->config->clients[i].limits);
    }
    init_any(s);
    s->models = xcalloc(s->config->model_count, sizeof *s->models);
    for (unsigned i = 0; i < s->config->model_count; i++) {
        init_targets(s, &s->models[i], &s->config->models[i]);
    }
    s->target_room = xmalloc(longest_base_path(s->config) + http->target_bytes + http->head_bytes);
    return s;
}

static void free_upstream(struct upstream *u) {
    if (u->authorization) {
        explicit_bzero(u->authorization, strlen(u->authorization));
    }
    free(u->authorization);
    free(u->authority);
}

static void bury(struct grave *grave) {
    struct setup *s = container_of(grave, struct setup, grave);
    for (unsigned i = 0; i < s->config->upstream_count; i++) {
        free_upstream(&s->upstreams[i]);
    }
    for (unsigned i = 0; i < s->config->model_count; i++) {
        finish_targets(&s->models[i]);
    }
    finish_targets(&s->any);
    free(s->models);
    free(s->upstreams);
    free(s->target_room);
    who_finish(&s->who);
    list_unlink(&s->node);
    blueprint_unref(s->blueprint);
    free(s);
}

void setup_close(struct setup *s) {
    for (unsigned i = 0; i < s->config->upstream_count; i++) {
        origin_finish(&s->upstreams[i].origin);
    }
}

// What is buried last goes first: its connections before itself.
void setup_unref(struct setup *s) {
    if (--s->references == 0) {
        loop_bury(&s->worker->loop, &s->grave, bury);
        setup_close(s);
    }
}

const struct targets *setup_targets(const struct setup *s, struct str model) {
    const struct config_model *found = config_model_find(s->config, model);
    return found ? &s->models[found - s->config->models] : NULL;
}
