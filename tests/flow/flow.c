// SPDX-License-Identifier: MIT
#include "flow.h"

#include "disk.h"
#include "gateway/jobs.h"
#include "over_h2.h"

enum { TURNS_MAX = 50 * 1000 * 1000 };

size_t flow_window = MEM_WINDOW;
bool flow_client_h2, flow_upstream_h2;

// ---- peers

static void grow(char **ptr, size_t *room, size_t wanted) {
    if (wanted > *room) {
        *room = MAX(wanted, 2 * *room);
        *ptr = realloc(*ptr, *room);
    }
}

void text_add(char **ptr, size_t *len, size_t *room, struct str bytes) {
    grow(ptr, room, *len + bytes.len);
    if (bytes.len) {
        memcpy(*ptr + *len, bytes.ptr, bytes.len);
        *len += bytes.len;
    }
}

void peer_hear(struct peer *p, struct str bytes) { text_add(&p->got, &p->got_len, &p->got_room, bytes); }

static void write_on(struct peer *p) {
    while (p->conn && p->out_at < p->out_len) {
        struct iovec v = {p->out + p->out_at, p->out_len - p->out_at};
        size_t written = 0;
        enum err e = conn_writev(p->conn, &v, 1, &written);
        if (e == ERR_NOMEM) { // in the test's own half of the connection: it goes no further
            p->end = e;
            peer_reset(p);
            return;
        }
        if (e != OK) {
            p->out_at = p->out_len; // whether the other end is gone is found out by reading
            return;
        }
        p->out_at += written;
        if (written < v.iov_len) {
            return;
        }
    }
    if (p->conn && p->finishing) {
        p->finishing = false;
        conn_shutdown(p->conn);
    }
}

static void read_on(struct peer *p) {
    char room[4096];
    while (p->conn && p->end == OK && p->may_read) {
        size_t n = 0;
        enum err e = conn_read(p->conn, room, MIN(sizeof room, p->may_read), &n);
        if (e == ERR_AGAIN) {
            return;
        }
        if (e != OK) {
            p->end = e;
            return;
        }
        peer_hear(p, str_from(room, n));
        p->may_read -= p->may_read == SIZE_MAX ? 0 : n;
    }
}

static void on_event(struct conn *c, unsigned events) {
    struct peer *p = c->owner;
    if (events & (CONN_READABLE | CONN_HUP)) {
        read_on(p);
    }
    if (events & CONN_WRITABLE) {
        write_on(p);
    }
}

static struct world *world_of(struct worker *worker) {
    return container_of(worker - worker->options.number, struct world, worker);
}

struct peer *peer_create(struct worker *worker, struct conn *c) {
    struct world *w = world_of(worker);
    struct peer *p = xcalloc(1, sizeof *p);
    p->world = w;
    p->worker = worker;
    p->conn = c;
    p->may_read = SIZE_MAX;
    list_push_back(&w->peers, &p->node);
    return p;
}

static struct peer *h1_peer_create(struct worker *worker, struct conn *c) {
    c->on_event = on_event;
    return c->owner = peer_create(worker, c);
}

void peer_queue(struct peer *p, struct str bytes) {
    text_add(&p->out, &p->out_len, &p->out_room, bytes);
    (p->lane ? over_h2_say : write_on)(p);
}

void peer_finish(struct peer *p) {
    if (p->lane) {
        over_h2_leave(p, BY_FINISH);
    } else {
        p->finishing = true;
        write_on(p);
    }
}

void peer_close(struct peer *p) {
    if (p->lane) {
        over_h2_leave(p, BY_CLOSE);
    } else if (p->conn) {
        conn_close(p->conn);
    }
    p->conn = NULL;
}

void peer_reset(struct peer *p) {
    if (p->lane) {
        over_h2_leave(p, BY_RESET);
    } else if (p->conn) {
        conn_abort(p->conn);
    }
    p->conn = NULL;
}

void peer_read(struct peer *p, size_t bytes) {
    p->may_read = bytes;
    if (p->lane) {
        over_h2_read(p, bytes);
    } else {
        read_on(p);
    }
}

void send_bytes(struct peer *p, struct str bytes) {
    peer_queue(p, bytes);
    settle(p->world);
}

void send_text(struct peer *p, const char *text) { send_bytes(p, str_c(text)); }

void client_ask(struct peer *client, const char *what, const char *fields, const char *json) {
    char head[1024];
    char body[96] = "";
    if (json) {
        snprintf(body, sizeof body, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(json));
    }
    snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: thaw\r\n%s%s\r\n", what, fields, body);
    peer_queue(client, str_c(head));
    send_text(client, json ? json : "");
}

void client_post(struct peer *client, const char *path, const char *json) {
    char what[256];
    snprintf(what, sizeof what, "POST %s", path);
    client_ask(client, what, "", json);
}

void finish(struct peer *p) {
    peer_finish(p);
    settle(p->world);
}

void close_peer(struct peer *p) {
    peer_close(p);
    settle(p->world);
}

void reset(struct peer *p) {
    peer_reset(p);
    settle(p->world);
}

void forget(struct peer *p) { p->got_len = 0; }

struct peer *client_open_at(struct world *w, unsigned worker) {
    struct worker *at = &w->workers[worker];
    struct conn *near;
    struct conn *far;
    mem_pair(&at->loop, flow_window, &near, &far);
    struct peer *p = (flow_client_h2 ? over_h2_client : h1_peer_create)(at, near);
    http_server_accept(&at->server, far);
    return p;
}

struct peer *client_open(struct world *w) {
    return client_open_at(w, 0);
}

// ---- upstreams

void flow_upstream_add(struct flow_upstream *u, struct peer *p) {
    assert_true(u->count < ARRAY_LEN(u->peers));
    u->peers[u->count++] = p;
}

static struct conn *connect_upstream(void *context) {
    const struct flow_way *way = context;
    struct flow_upstream *u = way->upstream;
    struct conn *near;
    struct conn *far;
    mem_pair(&way->worker->loop, flow_window, &near, &far);
    if (flow_upstream_h2) {
        over_h2_upstream(way->worker, u, far);
    } else {
        struct peer *p = h1_peer_create(way->worker, far);
        p->may_read = p->world->deaf ? 0 : SIZE_MAX;
        flow_upstream_add(u, p);
    }
    return near;
}

// NULL: there is none of this name.
static struct flow_upstream *find_upstream(struct world *w, struct str name) {
    for (unsigned i = 0; i < w->upstream_count; i++) {
        if (str_eq(str_c(w->upstreams[i].name), name)) {
            return &w->upstreams[i];
        }
    }
    return NULL;
}

static struct flow_upstream *upstream_named(struct world *w, struct str name) {
    struct flow_upstream *u = find_upstream(w, name);
    if (!u) {
        fail_msg("there is no upstream '%.*s'", STR_ARG(name));
    }
    return u;
}

struct peer *upstream_peer(struct world *w, const char *name, unsigned nth) {
    struct flow_upstream *u = upstream_named(w, str_c(name));
    if (nth >= u->count) {
        fail_msg("upstream '%s' has %u connections, not %u", name, u->count, nth + 1);
    }
    return u->peers[nth];
}

unsigned upstream_count(struct world *w, const char *name) { return upstream_named(w, str_c(name))->count; }

// ---- the world

static void *create_upstreams(struct loop *loop) { return container_of(loop, struct worker, loop); }

static void *context_of(void *mock, struct str name) {
    struct worker *worker = mock;
    struct world *w = world_of(worker);
    struct flow_upstream *u = find_upstream(w, name);
    if (!u) {
        assert_true(w->upstream_count < FLOW_UPSTREAMS);
        u = &w->upstreams[w->upstream_count++];
        snprintf(u->name, sizeof u->name, "%.*s", STR_ARG(name));
    }
    struct flow_way *way = &w->ways[worker->options.number][u - w->upstreams];
    *way = (struct flow_way){worker, u};
    return way;
}

// In worker_finish, once the gateway's own connections are closed: the last look at what it sent.
static void destroy_upstreams(void *mock) {
    struct worker *worker = mock;
    over_h2_end(worker);
    list_each(node, &world_of(worker)->peers) {
        struct peer *p = container_of(node, struct peer, node);
        if (p->worker == worker && !p->lane) {
            p->may_read = SIZE_MAX;
            read_on(p);
            peer_close(p);
        } else if (p->worker == worker) {
            p->conn = NULL;
        }
    }
}

// What would come by chance, or much later, comes only where the test's configuration says so.
static void settle_down(struct config *config, const char *yaml) {
    bool retries = strstr(yaml, "retries");
    config->retries = retries ? config->retries : 0;
    config->breaker_failures = strstr(yaml, "breaker") ? config->breaker_failures : 0;
    for (unsigned i = 0; i < config->upstream_count && !retries; i++) {
        config->upstreams[i].retries = 0;
    }
    for (unsigned i = 0; i < config->upstream_count && flow_upstream_h2; i++) {
        config->upstreams[i].http = config->upstreams[i].mock ? HTTP_2 : HTTP_AUTO;
    }
}

struct config *flow_config(const char *yaml) {
    struct config_problem problem = {{0}};
    struct config *config = NULL;
    if (config_read_text("flow.yaml", str_c(yaml), NULL, NULL, &config, &problem) != OK ||
        config_check(config, &problem) != OK) {
        fail_msg("%s", problem.text);
    }
    settle_down(config, yaml);
    return config;
}

static void open_world(struct world *w, const char *yaml, unsigned workers, const char *dns_servers,
                       struct pressure *pressure) {
    char sentence[STORE_PROBLEM_MAX];
    memset(w, 0, sizeof *w);
    fake_clock_init(&w->clock);
    list_init(&w->peers);
    list_init(&w->lanes);
    w->config = flow_config(yaml);
    assert_true(workers <= FLOW_WORKERS);
    w->shelves = workers > 1 || w->config->store.len ? worker_shelves(w->config, workers) : NULL;
    if (jobs_open(w->config, false, w->shelves, &w->store, &w->interrupted, sentence) != OK) {
        fail_msg("%s", sentence);
    }
    check_ok(blueprint_create(w->config, &w->blueprint, sentence, sizeof sentence));
    w->commons = workers > 1 ? commons_create() : NULL;
    w->meters = meters_create(workers);
    struct worker_options options = {
        .meters = w->meters,
        .blueprint = w->blueprint,
        .commons = w->commons,
        .shelves = w->shelves,
        .clock = &w->clock.clock,
        .mock_connect = connect_upstream,
        .mock_create = create_upstreams,
        .mock_context = context_of,
        .mock_destroy = destroy_upstreams,
        .dns_servers = dns_servers,
        .store = w->store,
        .pressure = pressure,
    };
    for (; w->worker_count < workers; w->worker_count++) {
        options.number = w->worker_count;
        options.interrupted = w->worker_count == 0 ? &w->interrupted : NULL;
        check_ok(worker_init(&w->workers[w->worker_count], &options));
    }
}

void world_open(struct world *w, const char *yaml) { open_world(w, yaml, 1, NULL, NULL); }
void world_open_with_dns(struct world *w, const char *yaml, const char *dns_servers) {
    open_world(w, yaml, 1, dns_servers, NULL);
}
void world_open_with_workers(struct world *w, const char *yaml, unsigned workers) {
    open_world(w, yaml, workers, NULL, NULL);
}
void world_open_under_pressure(struct world *w, const char *yaml, unsigned workers, struct pressure *pressure) {
    open_world(w, yaml, workers, NULL, pressure);
}

uint64_t outcomes_of(const struct world *w, enum outcome o) {
    uint64_t n = 0;
    for (unsigned i = 0; i < w->worker_count; i++) {
        n += count_of(&w->workers[i].meter->outcomes[o]);
    }
    return n;
}

uint64_t outcomes_total(const struct world *w) {
    uint64_t total = 0;
    for (unsigned o = 0; o < OUTCOME_COUNT; o++) {
        total += outcomes_of(w, (enum outcome)o);
    }
    return total;
}

void world_finish_worker(struct world *w) {
    uint64_t begun = 0;
    if (w->shelves) {
        shelves_close(w->shelves);
    }
    store_close(w->store);
    jobs_drop(&w->interrupted);
    for (unsigned i = 0; i < w->worker_count; i++) {
        worker_finish(&w->workers[i]);
        check_int(w->workers[i].in_flight, 0);
        begun += w->workers[i].serial;
    }
    w->finished = true;
    check(outcomes_total(w) <= begun); // one that was begun and then found malformed has two numbers
}

void world_close(struct world *w) {
    struct list *node;
    if (!w->finished) {
        world_finish_worker(w);
    }
    while ((node = list_pop_front(&w->peers))) {
        struct peer *p = container_of(node, struct peer, node);
        assert_null(p->conn); // the configuration needs an upstream whose url is mock
        free(p->got);
        free(p->out);
        free(p->held);
        free(p);
    }
    over_h2_free(w);
    for (unsigned i = 0; i < w->kept_count; i++) {
        free(w->kept[i]);
    }
    shelves_destroy(w->shelves);
    commons_destroy(w->commons);
    meters_destroy(w->meters);
    blueprint_unref(w->blueprint);
    config_unref(w->config);
}

void settle(struct world *w) {
    unsigned turns = 0;
    for (int quiet = 0; quiet < 2;) {
        bool busy = false;
        for (unsigned i = 0; i < w->worker_count; i++) {
            busy |= loop_turn(&w->workers[i].loop, 0);
        }
        busy |= disk_turn();
        quiet = busy ? 0 : quiet + 1;
        if (++turns == TURNS_MAX) {
            fail_msg("the loops never come to rest");
        }
    }
}

void advance(struct world *w, uint64_t ms) {
    settle(w);
    uint64_t until_ms = w->clock.ns / 1000000 + ms;
    for (;;) {
        uint64_t next_ms = UINT64_MAX;
        for (unsigned i = 0; i < w->worker_count; i++) {
            next_ms = MIN(next_ms, wheel_next_ms(&w->workers[i].loop.wheel));
        }
        w->clock.ns = MIN(next_ms, until_ms) * 1000000;
        settle(w);
        if (next_ms >= until_ms) {
            return;
        }
    }
}

void check_only_(struct world *w, enum outcome o, uint64_t n, const char *file, int line) {
    if (outcomes_of(w, o) == n && outcomes_total(w) == n) {
        return;
    }
    print_error("%s:%d: wanted %llu x %s, got:", file, line, (unsigned long long)n, outcome_name(o));
    for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
        if (outcomes_of(w, (enum outcome)i)) {
            print_error(" %llu x %s", (unsigned long long)outcomes_of(w, (enum outcome)i),
                        outcome_name((enum outcome)i));
        }
    }
    print_error("\n");
    fail();
}

// ---- messages

bool peer_has(const struct peer *p, const char *text) {
    struct str all = got(p);
    struct str wanted = str_c(text);
    bool is_h2 = flow_client_h2 || flow_upstream_h2;
    for (size_t i = 0; is_h2 && i + wanted.len <= all.len; i++) {
        if (str_ieq(str_from(all.ptr + i, wanted.len), wanted)) {
            return true;
        }
    }
    return !is_h2 && str_search(all, wanted) < all.len;
}

struct str field_of(const struct parsed *m, const char *name) {
    struct str rest = m->head;
    struct str line;
    while (str_split(&rest, '\n', &line)) {
        size_t colon = str_find(line, ':');
        if (colon < line.len && str_ieq(str_first(line, colon), str_c(name))) {
            struct str value = str_skip(line, colon + 1);
            return str_trim(str_first(value, str_find(value, '\r')));
        }
    }
    return (struct str){NULL, 0};
}

unsigned fields_of(const struct parsed *m, const char *name) {
    struct str rest = m->head;
    struct str line;
    unsigned count = 0;
    while (str_split(&rest, '\n', &line)) {
        count += str_ieq(str_first(line, str_find(line, ':')), str_c(name));
    }
    return count;
}

static char *keep(struct world *w, size_t size) {
    assert_true(w->kept_count < ARRAY_LEN(w->kept));
    return w->kept[w->kept_count++] = xmalloc(size ? size : 1);
}

// Strict: sizes in hex without extensions, CRLF, no trailers. What does not hold to that fails the test.
static void decode_chunked(struct world *w, struct str rest, struct parsed *m) {
    size_t begun = rest.len;
    char *body = keep(w, rest.len);
    size_t len = 0;
    for (;;) {
        size_t line = str_search(rest, STR("\r\n"));
        uint64_t size = 0;
        if (line == rest.len) {
            break;
        }
        assert_true(line > 0);
        for (size_t i = 0; i < line; i++) {
            assert_true(hex_value(rest.ptr[i]) >= 0);
            size = size * 16 + (uint64_t)hex_value(rest.ptr[i]);
        }
        struct str data = str_skip(rest, line + 2);
        size_t have = (size_t)MIN(size, (uint64_t)data.len);
        memcpy(body + len, data.ptr, have);
        len += have;
        if (data.len < size + 2) {
            break;
        }
        assert_memory_equal(data.ptr + size, "\r\n", 2);
        rest = str_skip(data, (size_t)size + 2);
        if (size == 0) {
            m->whole = true;
            break;
        }
    }
    m->body = str_from(body, len);
    m->used += begun - rest.len;
}

static struct parsed parse_message(struct peer *p, size_t offset, bool to_head) {
    struct str all = str_skip(got(p), offset);
    size_t end = str_search(all, STR("\r\n\r\n"));
    struct parsed m = {.none = end == all.len};
    if (m.none) {
        return m;
    }
    size_t line = str_search(all, STR("\r\n"));
    m.start = str_first(all, line);
    m.head = str_first(str_skip(all, line + 2), end + 2 - MIN(line + 2, end + 2));
    m.used = end + 4;
    bool is_answer = str_starts(m.start, STR("HTTP/1.1 "));
    if (is_answer) {
        uint64_t status = 0;
        check_ok(parse_u64(str_first(str_skip(m.start, 9), 3), &status));
        m.status = (int)status;
    }
    struct str rest = str_skip(all, m.used);
    struct str length = field_of(&m, "content-length");
    uint64_t n = 0;
    assert_false(length.ptr && field_of(&m, "transfer-encoding").ptr);
    if (is_answer && (to_head || m.status < 200 || m.status == 204 || m.status == 304)) {
        m.whole = true;
    } else if (length.ptr) {
        check_ok(parse_u64(length, &n));
        m.body = str_first(rest, (size_t)n);
        m.whole = m.body.len == n;
        m.used += m.body.len;
    } else if (field_of(&m, "transfer-encoding").ptr) {
        decode_chunked(p->world, rest, &m);
    } else if (is_answer) { // until the connection's end
        m.body = rest;
        m.whole = p->end == ERR_EOF;
        m.used += rest.len;
    } else {
        m.whole = true;
    }
    return m;
}

struct parsed message_at(struct peer *p, size_t offset) {
    return parse_message(p, offset, false);
}
struct parsed answer_to_head(struct peer *p) {
    return parse_message(p, 0, true);
}

struct parsed last_message(struct peer *p) {
    struct parsed m = message_at(p, 0);
    for (size_t at = m.used; !m.none && m.whole && at < p->got_len; at += m.used) {
        struct parsed next = message_at(p, at);
        if (next.none) {
            break;
        }
        m = next;
    }
    return m;
}

// ---- the runner

static unsigned sides_of_h2(int argc, char **argv) {
    flow_client_h2 = argc > 1 && strcmp(argv[1], "h2") == 0;
    flow_upstream_h2 = argc > 2 && strcmp(argv[2], "h2") == 0;
    return (flow_client_h2 ? CLIENT : 0) | (flow_upstream_h2 ? UPSTREAM : 0);
}

// Without those that are about HTTP/1.1.
static size_t choose(struct CMUnitTest *tests, size_t count, unsigned h2) {
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const struct flow_only *only = tests[i].initial_state;
        if (!only || !(only->sides & h2)) {
            tests[n] = tests[i];
            tests[n++].initial_state = NULL;
        }
    }
    return n;
}

int flow_main(int argc, char **argv, struct CMUnitTest *tests, size_t count) {
    static const size_t windows[] = {MEM_WINDOW, 7, 1};
    size_t sizes = ARRAY_LEN(windows) - (argc > 1 ? 1 : 0); // 7 bytes cut HTTP/2's frames anywhere, too, and sooner
    int failed = 0;
    count = choose(tests, count, sides_of_h2(argc, argv));
    cmocka_set_test_filter(argc > 3 ? argv[3] : NULL);
    for (size_t i = 0; i < sizes; i++) {
        char name[200];
        snprintf(name, sizeof name, "%s, window %zu", argv[0], windows[i]);
        flow_window = windows[i];
        failed += _cmocka_run_group_tests(name, tests, count, NULL, NULL);
    }
    return failed;
}
