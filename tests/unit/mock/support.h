// SPDX-License-Identifier: MIT
// The mock's clients in tests: over connections in memory and on a fake clock, so that hours of latency take no time
// and a byte's moment is known to the millisecond.
#pragma once
#include "llm/json.h"
#include "mock/mock.h"
#include "net/mem.h"

#include "check.h"

enum { TEXT_CAP = 64 << 20 };

struct world {
    struct fake_clock fake;
    struct loop loop;
    struct mock *mock;
};

static inline void world_init(struct world *w, const struct mock_options *options) {
    fake_clock_init(&w->fake);
    check_ok(loop_init(&w->loop, &(struct loop_options){.clock = &w->fake.clock}));
    w->mock = mock_create(&w->loop, options);
}

static inline void world_finish(struct world *w) {
    mock_destroy(w->mock);
    loop_finish(&w->loop);
}

// Turns until nothing happens any more at this moment.
static inline void settle(struct world *w) {
    while (loop_turn(&w->loop, 0)) {
    }
}

static inline void pass_ms(struct world *w, uint64_t ms) {
    uint64_t until = w->fake.ns / 1000000 + ms;
    settle(w);
    while (wheel_next_ms(&w->loop.wheel) <= until) {
        w->fake.ns = MAX(wheel_next_ms(&w->loop.wheel) * 1000000, w->fake.ns);
        settle(w);
    }
    w->fake.ns = until * 1000000;
    settle(w);
}

// ---- a client

struct client {
    struct world *world;
    struct conn *conn;
    struct buf out; // not yet taken by the connection
    struct buf in;
    struct buf body; // of the last answer, decoded
    size_t read_at_once;
    bool reads;
    bool ended;
};

static inline void client_write(struct client *c) {
    size_t written = 0;
    struct str bytes = buf_str(&c->out);
    struct iovec v = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    if (bytes.len && conn_writev(c->conn, &v, 1, &written) == OK) {
        buf_consume(&c->out, written);
    }
}

static inline void client_read(struct client *c) {
    char bytes[4096];
    for (;;) {
        size_t n = 0;
        enum err e = conn_read(c->conn, bytes, c->read_at_once, &n);
        if (e != OK) {
            c->ended = c->ended || e != ERR_AGAIN;
            return;
        }
        check_ok(buf_append(&c->in, bytes, n));
    }
}

static inline void client_on_event(struct conn *conn, unsigned events) {
    struct client *c = conn->owner;
    if (events & CONN_WRITABLE) {
        client_write(c);
    }
    if (c->reads && (events & (CONN_READABLE | CONN_HUP))) {
        client_read(c);
    }
}

static inline void client_take(struct client *c, struct world *w, struct conn *conn, size_t window) {
    *c = (struct client){.world = w, .conn = conn, .reads = true, .read_at_once = MIN(window, (size_t)4096)};
    conn->owner = c;
    conn->on_event = client_on_event;
    buf_init(&c->out, TEXT_CAP);
    buf_init(&c->in, TEXT_CAP);
    buf_init(&c->body, TEXT_CAP);
}

static inline void client_open(struct client *c, struct world *w, size_t window) {
    struct conn *near = NULL;
    struct conn *far = NULL;
    mem_pair(&w->loop, window, &near, &far);
    client_take(c, w, near, window);
    mock_accept(w->mock, far);
}

static inline void client_close(struct client *c) {
    conn_close(c->conn);
    buf_finish(&c->out);
    buf_finish(&c->in);
    buf_finish(&c->body);
}

static inline void client_send(struct client *c, const char *text) {
    check_ok(buf_str_append(&c->out, str_c(text)));
    client_write(c);
    settle(c->world);
}

static inline void client_post(struct client *c, const char *path, const char *body) {
    check_ok(buf_printf(&c->out, "POST %s HTTP/1.1\r\nHost: mock\r\nContent-Length: %zu\r\n\r\n%s", path, strlen(body),
                        body));
    client_write(c);
    settle(c->world);
}

static inline void client_get(struct client *c, const char *path) {
    check_ok(buf_printf(&c->out, "GET %s HTTP/1.1\r\nHost: mock\r\n\r\n", path));
    client_write(c);
    settle(c->world);
}

// ---- answers

struct got {
    int status;
    struct str head;
    bool chunked;
};

static inline struct str got_field(const struct got *got, const char *name) {
    struct str rest = got->head;
    struct str line;
    while (str_split(&rest, '\n', &line)) {
        size_t colon = str_find(line, ':');
        if (str_ieq(str_first(line, colon), str_c(name))) {
            line = str_skip(line, colon + 1);
            return str_trim(str_first(line, str_find(line, '\r')));
        }
    }
    return (struct str){NULL, 0};
}

static inline uint64_t hex(struct str s) {
    uint64_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        check(hex_value(s.ptr[i]) >= 0);
        n = n * 16 + (unsigned)hex_value(s.ptr[i]);
    }
    return n;
}

// Decodes what is there of a chunked body; returns how many bytes it is, 0 while it is not complete.
static inline size_t dechunk(struct str in, struct buf *body) {
    struct str all = in;
    for (;;) {
        size_t line = str_search(in, STR("\r\n"));
        if (line == in.len) {
            return 0;
        }
        uint64_t n = hex(str_first(in, line));
        in = str_skip(in, line + 2);
        if (in.len < n + 2) {
            check_ok(buf_str_append(body, str_first(in, MIN(in.len, n))));
            return 0;
        }
        check_ok(buf_str_append(body, str_first(in, n)));
        check(memcmp(in.ptr + n, "\r\n", 2) == 0);
        in = str_skip(in, n + 2);
        if (n == 0) {
            return all.len - in.len;
        }
    }
}

// Reads the first answer that is there into *got and c->body; returns its length, 0 while it is not complete.
static inline size_t peek_answer(struct client *c, struct got *got, bool no_body) {
    struct str in = buf_str(&c->in);
    size_t head = str_search(in, STR("\r\n\r\n"));
    uint64_t length = 0;
    buf_clear(&c->body);
    *got = (struct got){.status = 0};
    if (head == in.len) {
        return 0;
    }
    got->head = str_first(in, head + 2);
    check(str_starts(in, STR("HTTP/1.1 ")));
    got->status = (int)strtol(in.ptr + 9, NULL, 10);
    in = str_skip(in, head + 4);
    got->chunked = got_field(got, "transfer-encoding").ptr != NULL;
    if (got->chunked) {
        size_t n = no_body ? 0 : dechunk(in, &c->body);
        return n || no_body ? head + 4 + n : 0;
    }
    if (got->status >= 200 && !no_body) {
        check_ok(parse_u64(got_field(got, "content-length"), &length));
    }
    length = no_body ? 0 : length;
    check_ok(buf_str_append(&c->body, str_first(in, length)));
    return in.len >= length ? head + 4 + length : 0;
}

// The answer that has to be complete by now. Its head is valid until more is received.
static inline struct got take_answer(struct client *c) {
    struct got got;
    size_t n = peek_answer(c, &got, false);
    if (!n) {
        fail_msg("no complete answer: \"%.*s\"", STR_ARG(str_first(buf_str(&c->in), 2000)));
    }
    buf_consume(&c->in, n);
    return got;
}

static inline void check_no_answer(struct client *c) {
    check_int(buf_len(&c->in), 0);
    check(!c->ended);
}

// The value at a path as "choices.0.message.content".
static inline const struct json_value *at(const struct json *json, const char *path) {
    const struct json_value *v = json_root(json);
    struct str rest = str_c(path);
    struct str part;
    while (str_split(&rest, '.', &part)) {
        char name[64];
        uint64_t index = 0;
        snprintf(name, sizeof name, "%.*s", STR_ARG(part));
        v = parse_u64(part, &index) == OK ? json_item(v, index) : json_member(v, name);
    }
    return v;
}

static inline struct str text_at(const struct json *json, const char *path) { return json_string(at(json, path)); }

static inline double number_at(const struct json *json, const char *path) {
    double n = -1;
    check(json_number(at(json, path), &n));
    return n;
}

static inline struct json *body_json(struct client *c) {
    struct json *json = json_open(buf_str(&c->body), TEXT_CAP);
    if (!json) {
        fail_msg("not JSON: \"%.*s\"", STR_ARG(buf_str(&c->body)));
    }
    return json;
}

// Asks, lets as much time pass as it takes (at most some minutes) and takes the answer.
static inline struct got ask(struct client *c, const char *path, const char *body) {
    struct got got;
    client_post(c, path, body);
    for (unsigned ms = 0; ms < 300 * 1000 && !peek_answer(c, &got, false); ms++) {
        pass_ms(c->world, 1);
    }
    return take_answer(c);
}

static inline struct got get(struct client *c, const char *path) {
    client_get(c, path);
    settle(c->world);
    return take_answer(c);
}

static inline void check_error(struct client *c, const struct got *got, int status) {
    check_int(got->status, status);
    struct json *json = body_json(c);
    check(text_at(json, "error.message").len > 0);
    check(text_at(json, "error.type").len > 0);
    check(at(json, "error.param") != NULL);
    check(at(json, "error.code") != NULL);
    json_close(json);
}

// ---- events of a stream

struct event {
    struct str type;
    struct str data;
};

static inline bool next_event(struct str *rest, struct event *event) {
    size_t end = str_search(*rest, STR("\n\n"));
    if (end == rest->len) {
        return false;
    }
    struct str lines = str_first(*rest, end);
    struct str line;
    *event = (struct event){.type = STR("")};
    while (str_split(&lines, '\n', &line)) {
        bool is_type = str_starts(line, STR("event: "));
        check(is_type || str_starts(line, STR("data: ")));
        *(is_type ? &event->type : &event->data) = str_skip(line, is_type ? 7 : 6);
    }
    *rest = str_skip(*rest, end + 2);
    return true;
}

// All strings at `path` in the body's events, put together; *events counts those that have one.
static inline void joined(struct client *c, const char *path, struct buf *text, unsigned *events) {
    struct str rest = buf_str(&c->body);
    struct event event;
    *events = 0;
    buf_init(text, TEXT_CAP);
    while (next_event(&rest, &event)) {
        if (str_eq(event.data, STR("[DONE]"))) {
            continue;
        }
        struct json *json = json_open(event.data, TEXT_CAP);
        check(json != NULL);
        struct str piece = text_at(json, path);
        if (piece.len) {
            check_ok(buf_str_append(text, piece));
            (*events)++;
        }
        json_close(json);
    }
}

static inline void check_joined(struct client *c, const char *path, const char *wanted, unsigned events) {
    struct buf text;
    unsigned n = 0;
    joined(c, path, &text, &n);
    check_str(buf_str(&text), wanted);
    check_int(n, events);
    buf_finish(&text);
}

static inline unsigned count_events(struct client *c) {
    struct str rest = buf_str(&c->body);
    struct event event;
    unsigned n = 0;
    while (next_event(&rest, &event)) {
        n++;
    }
    return n;
}

#define CHAT "/v1/chat/completions"
#define ASK(model, more)                                                                                               \
    "{\"model\":\"" model "\"," more "\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},"                   \
    "{\"role\":\"user\",\"content\":\"one two three\"}]}"
#define STREAM "\"stream\":true,"

static inline void one_client(struct world *w, struct client *c, const struct mock_options *options) {
    world_init(w, options);
    client_open(c, w, MEM_WINDOW);
}

static inline void done(struct world *w, struct client *c) {
    client_close(c);
    settle(w);
    world_finish(w);
}
