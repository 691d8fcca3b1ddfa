// SPDX-License-Identifier: MIT
// Calls whose tapes are read again: what tests of resuming, joining and background calls have in common. Upstreams
// stream events `data: e0`, `data: e1`, ...; every program with this header has worlds of two workers.
#pragma once
#include <inttypes.h>

#include "flow.h"

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define RESUME "X-Thaw-Resume: 1\r\n"
#define KEY "Idempotency-Key: key-1\r\n"
#define POST_CHAT "POST " CHAT_PATH
enum { ID_LEN = 26, EVENTS_ROOM = 4096, KEEP_MS = 10 * 60 * 1000, GRACE_MS = 60 * 1000 };

struct id {
    char text[ID_LEN + 1];
};

// Of the newest answer.
static inline struct id tape_of(struct peer *client) {
    struct parsed m = last_message(client);
    struct str value = field_of(&m, "x-thaw-tape");
    struct id id = {{0}};
    check_int(value.len, ID_LEN);
    memcpy(id.text, value.ptr, ID_LEN);
    return id;
}

static inline void chunk(struct peer *up, const char *text) {
    char framed[2048];
    snprintf(framed, sizeof framed, "%zx\r\n%s\r\n", strlen(text), text);
    send_text(up, framed);
}

static inline void event(struct peer *up, unsigned n) {
    char text[64];
    snprintf(text, sizeof text, "data: e%u\n\n", n);
    chunk(up, text);
}

static inline void events(struct peer *up, unsigned from, unsigned until) {
    for (unsigned n = from; n < until; n++) {
        event(up, n);
    }
}

#define last_chunk(up) send_text((up), "0\r\n\r\n")

// Events as a resumable call's client gets them.
static inline char *format_events(char room[EVENTS_ROOM], const struct id *id, unsigned from, unsigned until) {
    size_t at = 0;
    room[0] = '\0';
    for (unsigned n = from; n < until; n++) {
        at += (size_t)snprintf(room + at, EVENTS_ROOM - at, "data: e%u\nid: %s:%u\n\n", n, id->text, n);
    }
    return room;
}

// The body of the newest answer is `before`, then these events, and nothing else.
static inline void check_events_(struct peer *client, const char *before, const struct id *id, unsigned from,
                                 unsigned until, const char *file, int line) {
    char room[EVENTS_ROOM];
    struct str body = last_message(client).body;
    const char *wanted = format_events(room, id, from, until);
    if (!str_starts(body, str_c(before)) || !str_eq(str_skip(body, strlen(before)), str_c(wanted))) {
        print_error("%s:%d: wanted \"%s%s\", got \"%.*s\"\n", file, line, before, wanted, STR_ARG(body));
        fail();
    }
}
#define PRELUDE "retry: 1000\n"
#define check_events(client, id, from, until) check_events_((client), "", &(id), (from), (until), __FILE__, __LINE__)
#define check_read(client, id, from, until) check_events_((client), PRELUDE, &(id), (from), (until), __FILE__, __LINE__)

// "GET", "DELETE" of a tape; `query` begins with ? or is "/status".
static inline struct peer *ask_tape(struct world *w, unsigned worker, const char *method, const struct id *id,
                                    const char *query, const char *fields) {
    char what[256];
    struct peer *client = client_open_at(w, worker);
    snprintf(what, sizeof what, "%s /v1/tapes/%s%s", method, id->text, query);
    client_ask(client, what, fields, NULL);
    return client;
}

static inline struct peer *read_tape(struct world *w, unsigned worker, const struct id *id, const char *query) {
    return ask_tape(w, worker, "GET", id, query, "");
}

static inline struct peer *delete_tape(struct world *w, unsigned worker, const struct id *id) {
    return ask_tape(w, worker, "DELETE", id, "", "");
}

static inline void check_status(struct peer *client, int status, const char *says) {
    struct parsed m = last_message(client);
    check_int(m.status, status);
    check(m.whole);
    if (str_search(m.body, str_c(says)) == m.body.len && *says) {
        fail_msg("\"%s\" is not in %.*s", says, STR_ARG(m.body));
    }
}

// How it ended for who read along.
static inline bool broken_off(struct peer *client) { return !last_message(client).whole && client->end != OK; }

// A resumable call at the first worker: two of its events have come.
struct stream {
    struct world w;
    struct peer *client;
    struct peer *up;
    struct id id;
};

static inline void stream_begin(struct stream *s, const char *yaml, const char *fields) {
    world_open_with_workers(&s->w, yaml, 2);
    s->client = client_open(&s->w);
    client_ask(s->client, POST_CHAT, fields, CHAT);
    s->up = upstream_peer(&s->w, "up", 0);
    answer(s->up, STREAM_HEAD);
    events(s->up, 0, 2);
    s->id = tape_of(s->client);
}

static inline void stream_end(struct stream *s) {
    events(s->up, 2, 4);
    last_chunk(s->up);
}
