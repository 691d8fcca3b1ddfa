// SPDX-License-Identifier: MIT
/*
 * sim.c - the upstream of the benchmark: an OpenAI-compatible API that costs next to nothing.
 *
 * A gateway's price can only be seen when the upstream behind it is cheap, exact and honest. This one is an
 * epoll loop per thread that answers POST .../chat/completions as the model's name says:
 *
 *     sim-<ms>        a chat completion (~676 bytes, Content-Length) after <ms>; 0 = at once
 *     sim-<n>x<ms>    n SSE events (chunked), <ms> apart, the first after <ms>, then data: [DONE]
 *
 * and echoes the last message's content in the answer, in every event together with its number (" #1" to
 * " #n"), so that a caller can tell its own answer from anybody else's. Event k is due at start + k*ms,
 * never at "the last one + ms": a late event does not shift the others. A reader who does not read stops his
 * own stream and nobody else's.
 *
 * A client that begins with HTTP/2's preface is answered in HTTP/2, all that is due on a connection in one write.
 *
 * GET /stats tells how many calls are in flight, how many were at most, and how many callers left early.
 *
 *     thaw-bench-sim [--port N] [--threads N] [--lifetime SECONDS]
 *
 * --port 0 (the default) takes a free port; the line "listening on 127.0.0.1:PORT" is printed either way.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "wire.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <nghttp2/nghttp2.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define READ_SIZE ((size_t)256 * 1024)
#define BODY_MAX ((size_t)32 * 1024 * 1024)
#define EVENTS_PER_TURN 512

/* What GET /stats tells; shared by all threads. */
static struct { _Atomic uint64_t requests, in_flight, max_in_flight, gone; } stats;

/*
 * A client's connection, or a stream of one that speaks HTTP/2. It has at most one call, and a call has at most one due time:
 *
 *   (no call) --request read--> due in the heap --last byte written--> (no call)
 *                                 |         ^
 *                        socket full        drained
 *                                 v         |
 *                              stalled: not in the heap
 */
struct conn {
    int fd;           /* -1: closed, freed at the end of the turn */
    bool busy;        /* a call is running */
    bool close_after; /* the client asked for it */
    uint32_t events;  /* of this call's stream; 0: a plain answer */
    uint32_t sent;    /* events sent */
    uint32_t every_ms;
    size_t place; /* in the heap, 0: not in it */
    uint64_t start_ns, due_ns;
    struct buf words; /* of this call: the model's name, then the text to echo, still JSON-escaped */
    size_t model_len;
    struct buf in;     /* part of a request, or requests behind the running call */
    struct buf out;    /* what the socket did not take */
    struct conn *next; /* graveyard */

    struct h2_place *h2;
    nghttp2_session *session; /* this connection speaks HTTP/2 */
    bool dirty;               /* in loop.dirty */
    struct conn *next_dirty;
    struct conn *streams; /* those of it that are open, by next_stream */

    struct conn *over; /* this is a stream of that connection, and `out` is what was not framed yet */
    struct conn *next_stream, *prev_stream;
    int32_t id;
    bool answered, complete;
    char method[8], target[64];
};

/* What a session's callbacks are told. */
struct h2_place {
    struct loop *loop;
    struct conn *conn;
};

struct loop {
    int ep, listener;
    bool full;          /* out of descriptors: the listener rests until a connection closes */
    struct conn **heap; /* by due_ns, from index 1 */
    size_t heap_len, heap_cap;
    struct conn *graveyard;
    struct conn *dirty; /* HTTP/2 connections with something to be written at the end of the turn */
    struct buf answer;  /* scratch */
    char read[READ_SIZE];
};

/* ---- the heap of due times -------------------------------------------------------------------- */

static void heap_put(struct loop *l, size_t place, struct conn *c) {
    l->heap[place] = c;
    c->place = place;
}

static void heap_settle(struct loop *l, size_t place, struct conn *c) {
    while (place > 1 && l->heap[place / 2]->due_ns > c->due_ns) {
        heap_put(l, place, l->heap[place / 2]);
        place /= 2;
    }
    for (;;) {
        size_t child = place * 2;
        if (child > l->heap_len) {
            break;
        }
        if (child < l->heap_len && l->heap[child + 1]->due_ns < l->heap[child]->due_ns) {
            child++;
        }
        if (l->heap[child]->due_ns >= c->due_ns) {
            break;
        }
        heap_put(l, place, l->heap[child]);
        place = child;
    }
    heap_put(l, place, c);
}

static void heap_remove(struct loop *l, struct conn *c) {
    size_t place = c->place;
    if (place) {
        struct conn *last = l->heap[l->heap_len--];
        c->place = 0;
        if (last != c) {
            heap_settle(l, place, last);
        }
    }
}

static void heap_set(struct loop *l, struct conn *c, uint64_t due_ns) {
    c->due_ns = due_ns;
    if (!c->place) {
        if (l->heap_len + 2 > l->heap_cap) {
            l->heap_cap = l->heap_cap ? l->heap_cap * 2 : 1024;
            l->heap = must(realloc(l->heap, l->heap_cap * sizeof *l->heap));
        }
        c->place = ++l->heap_len;
    }
    heap_settle(l, c->place, c);
}

/* ---- the request's JSON ----------------------------------------------------------------------- */

static const char *json_blank(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) {
        p++;
    }
    return p;
}

/* p is behind the opening quote; returns the closing one, or NULL. */
static const char *json_string_end(const char *p, const char *end) {
    for (const char *from = p;;) {
        const char *quote = memchr(p, '"', (size_t)(end - p));
        const char *before = quote;
        if (!quote) {
            return NULL;
        }
        while (before > from && before[-1] == '\\') {
            before--;
        }
        if ((quote - before) % 2 == 0) {
            return quote;
        }
        p = quote + 1;
    }
}

/* Returns what follows the value at p, or NULL. */
static const char *json_skip(const char *p, const char *end) {
    int depth = 0;
    for (; p < end; p++) {
        if (*p == '"') {
            p = json_string_end(p + 1, end);
            if (!p) {
                return NULL;
            }
        } else if (*p == '{' || *p == '[') {
            depth++;
        } else if (*p == '}' || *p == ']') {
            if (depth == 0) {
                return p; /* ends a number or a word, belongs to the container */
            }
            depth--;
        } else if (depth == 0 && *p == ',') {
            return p;
        } else {
            continue;
        }
        if (depth == 0) {
            return p + 1;
        }
    }
    return NULL;
}

/*
 * Steps through an object or array: *p is behind its opening bracket or a value. Gives the next value's
 * start (and its key, in an object); the caller moves *p behind the value. False: no more, or broken.
 */
static bool json_next(const char **p, const char *end, struct span *key) {
    *p = json_blank(*p, end);
    if (*p < end && **p == ',') {
        *p = json_blank(*p + 1, end);
    }
    if (*p == end || **p == '}' || **p == ']') {
        return false;
    }
    if (key) {
        const char *stop = **p == '"' ? json_string_end(*p + 1, end) : NULL;
        if (!stop) {
            return false;
        }
        *key = (struct span){*p + 1, (size_t)(stop - *p - 1)};
        *p = json_blank(stop + 1, end);
        if (*p == end || **p != ':') {
            return false;
        }
        *p = json_blank(*p + 1, end);
    }
    return *p < end;
}

static struct span json_string(const char *p, const char *end) {
    const char *stop = p < end && *p == '"' ? json_string_end(p + 1, end) : NULL;
    return stop ? (struct span){p + 1, (size_t)(stop - p - 1)} : (struct span){0};
}

static const char *last_message(const char *p, const char *end, struct span *content) {
    if (*p++ != '[') {
        return NULL;
    }
    while (json_next(&p, end, NULL)) {
        struct span key;
        if (*p++ != '{') {
            return NULL;
        }
        while (json_next(&p, end, &key)) {
            if (span_equals(key, "content")) {
                *content = json_string(p, end);
            }
            p = json_skip(p, end);
            if (!p) {
                return NULL;
            }
        }
        if (p == end || *p++ != '}') {
            return NULL;
        }
    }
    return p < end && *p == ']' ? p + 1 : NULL;
}

/* Finds the model and the last message's content. False: not a chat request. */
static bool chat_parse(struct span body, struct span *model, struct span *content) {
    const char *p = body.ptr, *end = body.ptr + body.len;
    struct span key;
    *model = *content = (struct span){0};
    p = json_blank(p, end);
    if (p == end || *p++ != '{') {
        return false;
    }
    while (json_next(&p, end, &key)) {
        if (span_equals(key, "model")) {
            *model = json_string(p, end);
        }
        p = span_equals(key, "messages") ? last_message(p, end, content) : json_skip(p, end);
        if (!p) {
            return false;
        }
    }
    return p < end && *p == '}' && model->ptr && content->ptr;
}

/* sim-<ms> or sim-<n>x<ms> */
static bool model_parse(struct span model, uint32_t *events, uint32_t *every_ms) {
    const char *p = model.ptr + 4, *end = model.ptr + model.len;
    uint64_t first, second = 0;
    bool stream = false;
    if (model.len < 5 || memcmp(model.ptr, "sim-", 4) != 0 || !read_number(&p, end, &first)) {
        return false;
    }
    if (p < end && *p == 'x') {
        stream = true;
        p++;
        if (!read_number(&p, end, &second) || first == 0) {
            return false;
        }
    }
    *events = stream ? (uint32_t)first : 0;
    *every_ms = (uint32_t)(stream ? second : first);
    return p == end && first <= 3600000 && second <= 3600000;
}

/* ---- answers ---------------------------------------------------------------------------------- */

#define HEAD_COMMON                                                                                                    \
    "Server: sim\r\nopenai-version: 2020-10-01\r\nopenai-processing-ms: 20\r\n"                                        \
    "x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n"

static const char completion_from[] =
    "{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion\","
    "\"created\":1741569952,\"model\":\"";
static const char completion_mid[] = "\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"";
static const char completion_to[] =
    "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":219,\"completion_tokens\":10,\"total_tokens\":229,"
    "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
    "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"
    "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}},"
    "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_sim\"}";

static const char event_from[] =
    "data: {\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\","
    "\"created\":1741569952,\"model\":\"";
static const char event_mid[] = "\",\"system_fingerprint\":\"fp_sim\",\"choices\":[{\"index\":0,"
                                "\"delta\":{\"content\":\"";
static const char event_more[] = "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
static const char event_last[] = "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n";

#define APPEND(b, literal) buf_append((b), (literal), sizeof(literal) - 1)

static void append_format(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append_format(struct buf *b, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_append(b, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
}

static void append_completion(struct buf *b, const struct conn *c) {
    size_t fixed = sizeof completion_from + sizeof completion_mid + sizeof completion_to - 3;
    if (!c->over) {
        APPEND(b, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" HEAD_COMMON);
        append_format(b, "Content-Length: %zu\r\n\r\n", fixed + c->words.len);
    }
    APPEND(b, completion_from);
    buf_append(b, c->words.ptr, c->model_len);
    APPEND(b, completion_mid);
    buf_append(b, c->words.ptr + c->model_len, c->words.len - c->model_len);
    APPEND(b, completion_to);
}

static void append_event(struct buf *b, const struct conn *c, uint32_t number) {
    char text[16];
    int digits = snprintf(text, sizeof text, " #%u", number);
    bool last = number == c->events;
    size_t tail = last ? sizeof event_last - 1 : sizeof event_more - 1;
    if (!c->over) {
        append_format(b, "%zx\r\n", sizeof event_from + sizeof event_mid - 2 + c->words.len + (size_t)digits + tail);
    }
    APPEND(b, event_from);
    buf_append(b, c->words.ptr, c->model_len);
    APPEND(b, event_mid);
    buf_append(b, c->words.ptr + c->model_len, c->words.len - c->model_len);
    buf_append(b, text, (size_t)digits);
    buf_append(b, last ? event_last : event_more, tail);
    if (c->over) {
        buf_append(b, "data: [DONE]\n\n", last ? sizeof "data: [DONE]\n\n" - 1 : 0);
        return;
    }
    APPEND(b, "\r\n");
    if (last) {
        APPEND(b, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    }
}

/* `c`: a stream's answer is the body alone, and always 200. */
static void append_small(struct buf *b, const struct conn *c, const char *status, const char *body) {
    if (c->over) {
        buf_append(b, body, strlen(body));
        return;
    }
    append_format(b, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", status,
                  strlen(body));
    buf_append(b, body, strlen(body));
}

static void append_stats(struct buf *b, const struct conn *c) {
    char text[200];
    snprintf(text, sizeof text, "{\"requests\":%llu,\"in_flight\":%llu,\"max_in_flight\":%llu,\"gone\":%llu}\n",
             (unsigned long long)stats.requests, (unsigned long long)stats.in_flight,
             (unsigned long long)stats.max_in_flight, (unsigned long long)stats.gone);
    append_small(b, c, "200 OK", text);
}

/* ---- connections ------------------------------------------------------------------------------ */

static void listener_set(struct loop *l, bool on) {
    struct epoll_event e = {.events = on ? EPOLLIN : 0, .data.ptr = NULL};
    epoll_ctl(l->ep, EPOLL_CTL_MOD, l->listener, &e);
    l->full = !on;
}

static void call_end(struct loop *l, struct conn *c) {
    if (c->busy) {
        heap_remove(l, c);
        buf_free(&c->words);
        c->busy = false;
        atomic_fetch_sub_explicit(&stats.in_flight, 1, memory_order_relaxed);
    }
}

static void stream_leave(struct conn *c) {
    *(c->prev_stream ? &c->prev_stream->next_stream : &c->over->streams) = c->next_stream;
    if (c->next_stream) {
        c->next_stream->prev_stream = c->prev_stream;
    }
}

static void conn_close(struct loop *l, struct conn *c) {
    if (c->fd < 0) {
        return;
    }
    if (c->busy) {
        atomic_fetch_add_explicit(&stats.gone, 1, memory_order_relaxed);
    }
    call_end(l, c);
    if (c->over) {
        stream_leave(c);
    } else {
        while (c->streams) {
            conn_close(l, c->streams);
        }
        close(c->fd);
    }
    c->fd = -1;
    c->next = l->graveyard;
    l->graveyard = c;
    if (l->full) {
        listener_set(l, true);
    }
}

/* Sends or keeps. False: the connection is gone. */
static bool conn_send(struct loop *l, struct conn *c, const char *ptr, size_t len) {
    while (len && !c->out.len) {
        ssize_t n = send(c->fd, ptr, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n < 0) {
            conn_close(l, c);
            return false;
        }
        ptr += n;
        len -= (size_t)n;
    }
    buf_append(&c->out, ptr, len);
    return true;
}

/* ---- HTTP/2: what is due on a connection leaves at the end of the turn, in one write ------------ */

static ssize_t h2_body(nghttp2_session *session, int32_t id, uint8_t *into, size_t most, uint32_t *flags,
                       nghttp2_data_source *source, void *user) {
    struct conn *c = source->ptr;
    size_t n = c->out.len < most ? c->out.len : most;
    (void)session, (void)id, (void)user;
    if (n == 0 && !c->complete) {
        return NGHTTP2_ERR_DEFERRED;
    }
    memcpy(into, c->out.ptr, n);
    memmove(c->out.ptr, c->out.ptr + n, c->out.len - n);
    c->out.len -= n;
    if (c->complete && c->out.len == 0) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

static void h2_dirty(struct loop *l, struct conn *c) {
    if (!c->dirty) {
        c->dirty = true;
        c->next_dirty = l->dirty;
        l->dirty = c;
    }
}

#define NV(name, value)                                                                                                \
    { (uint8_t *)name, (uint8_t *)value, sizeof(name) - 1, sizeof(value) - 1, NGHTTP2_NV_FLAG_NONE }

static void h2_answer(struct loop *l, struct conn *c, const struct buf *answer, bool stream, bool complete) {
    nghttp2_data_provider body = {.source.ptr = c, .read_callback = h2_body};
    nghttp2_nv fields[] = {NV(":status", "200"),
                           NV("server", "sim"),
                           NV("openai-version", "2020-10-01"),
                           NV("openai-processing-ms", "20"),
                           NV("x-ratelimit-limit-requests", "10000"),
                           NV("x-ratelimit-remaining-requests", "9999"),
                           NV("content-type", "application/json")};
    nghttp2_nv events = NV("content-type", "text/event-stream; charset=utf-8");
    if (stream) {
        fields[6] = events;
    }
    buf_append(&c->out, answer->ptr, answer->len);
    c->complete = complete;
    if (c->answered) {
        nghttp2_session_resume_data(c->over->session, c->id);
    } else {
        nghttp2_submit_response(c->over->session, c->id, fields, 7, &body);
    }
    c->answered = true;
    h2_dirty(l, c->over);
}

/* Writes what is due. A full socket leaves the call stalled: on_writable() wakes it. */
static void call_run(struct loop *l, struct conn *c, uint64_t now) {
    struct buf *answer = &l->answer;
    uint64_t every_ns = c->every_ms * NS_PER_MS;
    bool ended = c->events == 0;
    answer->len = 0;
    heap_remove(l, c);
    if (ended) {
        append_completion(answer, c);
    } else {
        if (c->sent == 0 && !c->over) {
            APPEND(answer, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                           "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n" HEAD_COMMON "\r\n");
        }
        while (c->sent < c->events && c->start_ns + (c->sent + 1) * every_ns <= now && answer->len < READ_SIZE) {
            append_event(answer, c, ++c->sent);
        }
        ended = c->sent == c->events;
    }
    if (c->over) {
        h2_answer(l, c, answer, c->events > 0, ended);
        if (ended) {
            call_end(l, c);
        } else {
            heap_set(l, c, c->start_ns + (c->sent + 1) * every_ns);
        }
        return;
    }
    if (!conn_send(l, c, answer->ptr, answer->len)) {
        return;
    }
    if (ended) {
        call_end(l, c);
        if (c->close_after && !c->out.len) {
            conn_close(l, c);
        }
    } else if (!c->out.len) {
        heap_set(l, c, c->start_ns + (c->sent + 1) * every_ns);
    }
}

static void call_start(struct loop *l, struct conn *c, const struct http1_head *head, struct span body) {
    struct buf *answer = &l->answer;
    struct span model, content;
    uint32_t events, every_ms;
    answer->len = 0;
    c->close_after = head->close;
    if (span_equals(head->method, "GET") && span_ends(head->target, "/stats")) {
        append_stats(answer, c);
    } else if (!span_equals(head->method, "POST") || !span_ends(head->target, "/chat/completions")) {
        append_small(answer, c, "404 Not Found",
                     "{\"error\":{\"message\":\"sim has POST .../chat/completions and GET /stats\","
                     "\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}}");
    } else if (!chat_parse(body, &model, &content)) {
        append_small(answer, c, "400 Bad Request",
                     "{\"error\":{\"message\":\"not a chat request: model and messages are needed\","
                     "\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}}");
    } else if (!model_parse(model, &events, &every_ms)) {
        append_small(answer, c, "404 Not Found",
                     "{\"error\":{\"message\":\"sim's models are sim-<ms> and sim-<n>x<ms>\","
                     "\"type\":\"invalid_request_error\",\"param\":\"model\",\"code\":\"model_not_found\"}}");
    } else {
        uint64_t in_flight = atomic_fetch_add_explicit(&stats.in_flight, 1, memory_order_relaxed) + 1;
        uint64_t most = atomic_load_explicit(&stats.max_in_flight, memory_order_relaxed);
        while (in_flight > most && !atomic_compare_exchange_weak(&stats.max_in_flight, &most, in_flight)) {
        }
        atomic_fetch_add_explicit(&stats.requests, 1, memory_order_relaxed);
        buf_append(&c->words, model.ptr, model.len);
        buf_append(&c->words, content.ptr, content.len);
        c->model_len = model.len;
        c->busy = true;
        c->events = events;
        c->sent = 0;
        c->every_ms = every_ms;
        c->start_ns = now_ns();
        if (every_ms) {
            heap_set(l, c, c->start_ns + every_ms * NS_PER_MS);
        } else {
            call_run(l, c, c->start_ns);
        }
        return;
    }
    if (c->over) {
        h2_answer(l, c, answer, false, true);
        return;
    }
    if (conn_send(l, c, answer->ptr, answer->len) && c->close_after && !c->out.len) {
        conn_close(l, c);
    }
}

/* Decodes a chunked body. Returns the bytes used, 0 when it is not complete, or SIZE_MAX when it is broken.
 */
static size_t chunked_body(const char *ptr, size_t len, const struct http1_head *head, struct buf *body) {
    struct http1_body b;
    struct span data;
    const char *p = ptr;
    http1_body_start(&b, head);
    for (;;) {
        switch (http1_body_next(&b, &p, ptr + len, &data)) {
        case PIECE_DATA: buf_append(body, data.ptr, data.len); break;
        case PIECE_MORE: return 0;
        case PIECE_END: return (size_t)(p - ptr);
        case PIECE_BROKEN: return SIZE_MAX;
        }
    }
}

/* Takes one request off [ptr, ptr + len) and starts it. Returns the bytes used; 0: not complete, or closed.
 */
static size_t request_take(struct loop *l, struct conn *c, const char *ptr, size_t len) {
    struct http1_head head;
    struct buf decoded = {0};
    struct span body;
    size_t used, size = http1_head_size(ptr, len);
    if (!size && len < HEAD_MAX) {
        return 0;
    }
    if (!size || !http1_head_parse(ptr, size, &head) || !head.method.ptr || head.length > BODY_MAX ||
        len > HEAD_MAX + BODY_MAX) {
        conn_close(l, c);
        return 0;
    }
    if (head.chunked) {
        used = chunked_body(ptr + size, len - size, &head, &decoded);
        if (used == SIZE_MAX) {
            conn_close(l, c);
        }
        if (used == SIZE_MAX || used == 0) {
            buf_free(&decoded);
            return 0;
        }
        body = (struct span){decoded.ptr, decoded.len};
    } else {
        used = (size_t)head.length;
        if (len - size < used) {
            return 0;
        }
        body = (struct span){ptr + size, used};
    }
    call_start(l, c, &head, body);
    buf_free(&decoded);
    return size + used;
}

static int h2_on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    struct conn *c = must(calloc(1, sizeof *c));
    c->over = ((struct h2_place *)user)->conn;
    c->id = frame->hd.stream_id;
    c->next_stream = c->over->streams;
    if (c->next_stream) {
        c->next_stream->prev_stream = c;
    }
    c->over->streams = c;
    nghttp2_session_set_stream_user_data(session, c->id, c);
    return 0;
}

static int h2_on_field(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                       const uint8_t *value, size_t value_len, uint8_t flags, void *user) {
    struct conn *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    struct span field = {(const char *)name, name_len};
    (void)flags, (void)user;
    if (c && span_equals(field, ":method")) {
        snprintf(c->method, sizeof c->method, "%.*s", (int)value_len, (const char *)value);
    } else if (c && span_equals(field, ":path")) {
        snprintf(c->target, sizeof c->target, "%.*s", (int)value_len, (const char *)value);
    }
    return 0;
}

static int h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t n, void *user) {
    struct conn *c = nghttp2_session_get_stream_user_data(session, id);
    (void)flags, (void)user;
    if (c && c->in.len < BODY_MAX) {
        buf_append(&c->in, (const char *)bytes, n);
    }
    return 0;
}

static int h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    struct conn *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (c && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
        (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)) {
        struct http1_head head = {.method = {c->method, strlen(c->method)}, .target = {c->target, strlen(c->target)}};
        call_start(((struct h2_place *)user)->loop, c, &head, (struct span){c->in.ptr, c->in.len});
        buf_free(&c->in);
    }
    return 0;
}

static int h2_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user) {
    struct conn *c = nghttp2_session_get_stream_user_data(session, id);
    (void)code;
    if (c) {
        conn_close(((struct h2_place *)user)->loop, c);
    }
    return 0;
}

static void h2_begin(struct loop *l, struct conn *c) {
    struct h2_place *place = must(calloc(1, sizeof *place));
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_settings_entry settings = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 100000};
    *place = (struct h2_place){l, c};
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, h2_on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, h2_on_field);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, h2_on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, h2_on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, h2_on_close);
    nghttp2_option_new(&option);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_session_server_new2(&c->session, callbacks, place, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, &settings, 1);
    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, 16 << 20);
    c->h2 = place;
}

static void h2_feed(struct loop *l, struct conn *c, const char *ptr, size_t len) {
    if (nghttp2_session_mem_recv(c->session, (const uint8_t *)ptr, len) < 0) {
        conn_close(l, c);
    } else {
        h2_dirty(l, c);
    }
}

/* In one write as far as the socket takes it; what it does not take waits in c->out, and nghttp2 with it. */
static void h2_flush(struct loop *l) {
    while (l->dirty) {
        struct conn *c = l->dirty;
        struct buf *framed = &l->answer;
        const uint8_t *bytes;
        ssize_t n = 0;
        l->dirty = c->next_dirty;
        c->dirty = false;
        framed->len = 0;
        while (c->fd >= 0 && !c->out.len && (n = nghttp2_session_mem_send(c->session, &bytes)) > 0) {
            buf_append(framed, (const char *)bytes, (size_t)n);
        }
        if (c->fd >= 0 && framed->len) {
            conn_send(l, c, framed->ptr, framed->len);
        }
        if (c->fd >= 0 && n < 0) {
            conn_close(l, c);
        }
    }
}

/* Starts what has come, one call after the other; the rest waits in c->in. */
static void conn_feed(struct loop *l, struct conn *c, const char *ptr, size_t len) {
    struct buf old = c->in;
    size_t used = 0, n;
    if (!c->session && len >= 4 && !old.len && memcmp(ptr, "PRI ", 4) == 0) {
        h2_begin(l, c);
    }
    if (c->session) {
        h2_feed(l, c, ptr, len);
        return;
    }
    if (old.len) {
        buf_append(&old, ptr, len);
        ptr = old.ptr;
        len = old.len;
    }
    c->in = (struct buf){0};
    while (used < len && c->fd >= 0 && !c->busy && (n = request_take(l, c, ptr + used, len - used)) > 0) {
        used += n;
    }
    if (used < len && c->fd >= 0) {
        if (old.len && used == 0) {
            c->in = old; /* grows in place while a long body comes in */
            return;
        }
        buf_append(&c->in, ptr + used, len - used);
    }
    buf_free(&old);
}

static void on_readable(struct loop *l, struct conn *c, bool hangup) {
    for (;;) {
        ssize_t n = recv(c->fd, l->read, READ_SIZE, 0);
        if (n > 0) {
            conn_feed(l, c, l->read, (size_t)n);
            if (c->fd < 0 || ((size_t)n < READ_SIZE && !hangup)) {
                return; /* edge-triggered: a short read has emptied the socket */
            }
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            return;
        } else {
            conn_close(l, c);
            return;
        }
    }
}

static void on_writable(struct loop *l, struct conn *c) {
    struct buf out = c->out;
    if (!out.len) {
        return;
    }
    c->out = (struct buf){0};
    bool alive = conn_send(l, c, out.ptr, out.len);
    buf_free(&out);
    if (!alive || c->out.len) {
        return;
    }
    if (c->session) {
        h2_dirty(l, c);
        return;
    }
    if (c->busy) {
        heap_set(l, c, c->start_ns + (c->sent + 1) * c->every_ms * NS_PER_MS);
    } else if (c->close_after) {
        conn_close(l, c);
    }
}

static void on_accept(struct loop *l) {
    for (int i = 0; i < 64; i++) {
        int one = 1, fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE) {
                fputs("sim: out of file descriptors\n", stderr);
                listener_set(l, false);
            }
            return;
        }
        struct conn *c = must(calloc(1, sizeof *c));
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &e) != 0) {
            conn_close(l, c);
        }
    }
}

/* ---- the loop --------------------------------------------------------------------------------- */

static void bury(struct loop *l) {
    while (l->graveyard) {
        struct conn *c = l->graveyard;
        l->graveyard = c->next;
        buf_free(&c->in);
        buf_free(&c->out);
        buf_free(&c->words);
        nghttp2_session_del(c->session);
        free(c->h2);
        free(c);
    }
}

/* A call has ended and the client had sent the next request already. */
static void feed_rest(struct loop *l, struct conn *c) {
    if (c->fd >= 0 && !c->busy && c->in.len) {
        conn_feed(l, c, NULL, 0);
    }
}

static void *loop_run(void *argument) {
    struct loop *l = argument;
    struct epoll_event events[EVENTS_PER_TURN];
    prctl(PR_SET_TIMERSLACK, 1000UL);
    for (;;) {
        int n = wait_until(l->ep, events, EVENTS_PER_TURN, l->heap_len ? l->heap[1]->due_ns : NEVER);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            uint32_t what = events[i].events;
            if (!c) {
                on_accept(l);
                continue;
            }
            if (c->fd >= 0 && (what & EPOLLOUT)) {
                on_writable(l, c);
            }
            if (c->fd >= 0 && (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
                on_readable(l, c, what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
            }
            feed_rest(l, c);
        }
        uint64_t now = now_ns();
        while (l->heap_len && l->heap[1]->due_ns <= now) {
            struct conn *c = l->heap[1];
            call_run(l, c, now);
            feed_rest(l, c);
        }
        h2_flush(l);
        bury(l);
    }
    return NULL;
}

/* A listening socket per thread on the same port; the kernel spreads the connections. */
static int listen_on(uint16_t *port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, 65535) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        perror("sim: listen");
        exit(1);
    }
    *port = ntohs(address.sin_port);
    return fd;
}

static struct loop *loop_create(uint16_t *port) {
    struct loop *l = must(calloc(1, sizeof *l));
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    l->listener = listen_on(port);
    l->ep = epoll_create1(EPOLL_CLOEXEC);
    if (l->ep < 0 || epoll_ctl(l->ep, EPOLL_CTL_ADD, l->listener, &e) != 0) {
        perror("sim: epoll");
        exit(1);
    }
    return l;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"lifetime", required_argument, NULL, 'l'},
                                            {NULL, 0, NULL, 0}};
    unsigned long port_number = 0, threads = 1;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        unsigned long value = o == '?' ? 0 : strtoul(optarg, NULL, 10);
        if (o == 'p' && value <= 65535) {
            port_number = value;
        } else if (o == 't' && value >= 1 && value <= 64) {
            threads = value;
        } else if (o == 'l' && value <= 86400) {
            alarm((unsigned)value); /* a benchmark that died leaves nothing behind */
        } else {
            fputs("usage: thaw-bench-sim [--port N] [--threads N] [--lifetime SECONDS]\n", stderr);
            return 2;
        }
    }
    raise_descriptor_limit();
    uint16_t port = (uint16_t)port_number;
    struct loop *first = loop_create(&port);
    for (unsigned long i = 1; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, loop_run, loop_create(&port)) != 0) {
            perror("sim: pthread_create");
            return 1;
        }
    }
    printf("listening on 127.0.0.1:%u\n", port);
    fflush(stdout);
    loop_run(first);
    return 0;
}
