// SPDX-License-Identifier: MIT
/*
 * swarm.c - the load generator of the benchmark: many callers on one epoll loop, every answer checked.
 *
 * A fast wrong answer is worth nothing, so each call carries an identity ("caller RUN-USER-CALL", unique in
 * the run) as its last message, and the upstream (sim.c) echoes it: in the answer, or in each event of a
 * stream together with the event's number. A call is `ok` only when its own identity came back, once, whole,
 * in order and in sound HTTP. An answer that belongs to another caller counts as `mixed`, every other fault
 * as an error under its kind.
 *
 *     closed loop   --users N --seconds S              each user calls again as soon as the answer is there
 *     open loop     --rate R --seconds S               calls start by the clock, whatever the target does;
 *                                                      latency counts from the intended start
 *     hold          --users N --once                   each user makes one call, all at once
 *     streams       --stream with any of these         events: order, number, gaps
 *     fan-out       --branches N with any of these     a call is a POST /v1/parallel of N, each with its number
 *     HTTP/2        --streams N with any but --rate    N users' calls share a connection, by prior knowledge
 *     one answer    --text TEXT with any of these      all ask for the same and must get the same, byte for byte;
 *                                                      with --get they read what somebody else has asked for
 *
 * The measured window: from --warmup (connections are made before it) for --seconds. A call belongs to the
 * window by its (intended) start; `calls` and `events` count what was completed inside it, for figures per
 * second and for CPU per call. Calls running at the window's end are waited for. With --once there is a window
 * only when --seconds is given, into running streams, and latencies are those of all calls. On stderr the lines
 * "window" and "window end" (with --once also "held", when all requests have been sent) tell a watcher when to
 * read its own counters. Nothing runs longer than --limit.
 *
 * One JSON object goes to stdout; exit status 0 when the run took place, whatever its result.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "wire.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define READ_SIZE ((size_t)256 * 1024)
#define ANSWER_MAX ((size_t)64 * 1024 * 1024)
#define EVENTS_PER_TURN 512
#define DIALS_AT_ONCE 512
#define BRANCHES_MAX 64
#define FIELDS_MAX 16
#define USERS_PER_ADDRESS 10000  /* half the ports taken, the kernel takes a millisecond to find another one */
#define SPIN_NS UINT64_C(60000)  /* open loop: awake so long before a start, for timers come late */
#define REST_NS (20 * NS_PER_MS) /* a user whose call failed waits this long before the next */

/* How a call ended. */
#define VERDICTS(X)                                                                                                    \
    X(OK, "ok")                                                                                                        \
    X(MIXED, "mixed")         /* somebody else's answer */                                                             \
    X(CONNECT, "connect")     /* no connection */                                                                      \
    X(STATUS, "status")       /* not 200 */                                                                            \
    X(WRONG, "wrong")         /* no answer of sim's */                                                                 \
    X(DIFFERS, "differs")     /* --text: sound, and not what the others got */                                         \
    X(STALE, "stale")         /* the caller's own, but of an earlier call */                                           \
    X(ORDER, "order")         /* events missing, doubled or out of order */                                            \
    X(TRUNCATED, "truncated") /* sound HTTP around half an answer */                                                   \
    X(CUT, "cut")             /* the connection ended before the answer */                                             \
    X(FRAMING, "framing")     /* not HTTP */                                                                           \
    X(SURPLUS, "surplus")     /* bytes nobody asked for */                                                             \
    X(TIMEOUT, "timeout")     /* no answer in time */

enum verdict {
#define X(name, text) V_##name,
    VERDICTS(X)
#undef X
        V_COUNT
};

static const char *const verdict_names[] = {
#define X(name, text) text,
    VERDICTS(X)
#undef X
};

/* Durations in units of 100 ns, kept one by one: an added 50 us must be seen on top of 200 ms. */
struct samples {
    uint32_t *value;
    size_t len, cap;
};

/* --streams: a connection of HTTP/2, which carries the calls of as many users. */
struct link {
    struct swarm *swarm;
    int fd; /* -1: none */
    bool connected, dirty;
    nghttp2_session *session;
    struct buf out; /* framed, and the socket did not take it */
    struct caller *callers;
    uint32_t users;
    struct link *next_dirty;
};

/*
 * A user (closed loop, hold) or a pooled connection (open loop), with at most one call:
 *
 *   CLOSED --dial--> CONNECTING --> SENDING --> HEAD --> BODY --> IDLE --next call--> SENDING
 *      ^________________|______________|__________|________|________|   (lost, or Connection: close)
 *
 * With --streams it has no connection but a stream on `link` while it has a call: IDLE --> SENDING --> HEAD --> BODY.
 */
struct caller {
    int fd;
    int32_t stream; /* 0: none */
    struct link *link;
    enum { CLOSED, CONNECTING, SENDING, HEAD, BODY, IDLE } state;
    uint32_t user, call;
    uint64_t start_ns; /* latencies count from here: the intended start */
    uint64_t begun_ns; /* the timeout counts from here */
    uint64_t first_ns; /* first byte of the answer, first event of a stream; 0: none yet */
    uint64_t last_event_ns;
    size_t sent; /* bytes of the request */
    enum verdict verdict;
    int status;
    bool close_after, sse, done_seen, event_seen; /* the last two: of an SSE answer */
    uint32_t events;
    uint64_t digest; /* --text: of the answer's bytes so far */
    struct http1_body body;
    struct buf head, text;      /* parts that wait for their rest: of a head; of an answer or an SSE line */
    struct caller *prev, *next; /* in one list: running, resting or idle */
};

struct list {
    struct caller *first, *last;
};

struct swarm {
    /* what was asked for */
    struct sockaddr_in address;
    const char *path, *model, *text, *field;
    const char *ending; /* of a plain answer */
    char host[32];
    uint32_t users, branches, streams;
    double rate;
    bool once, stream, get;
    size_t body_bytes;
    uint64_t warmup_ns, seconds_ns, ramp_ns, timeout_ns, limit_ns;
    uint32_t events_expected; /* 0: any number */

    /* the request, the same for all but the identities at identity_at, which are patched for each send */
    char *request;
    size_t request_len, identity_at[BRANCHES_MAX];
    uint32_t identities; /* none with --text */
    char expected[128];  /* the last message; its first IDENTITY_LEN bytes are patched likewise */
    size_t expected_len;
    nghttp2_nv fields[FIELDS_MAX]; /* --streams: the request's head, in it */
    size_t field_count, head_len;
    uint32_t run;
    uint64_t digest; /* --text: of the first answer that was right; 0: none yet */

    /* the state of the run */
    int ep;
    struct caller *callers;
    struct link *links, *dirty; /* --streams */
    nghttp2_session_callbacks *callbacks;
    struct list running, resting, idle; /* the first two in order of time */
    uint32_t callers_used, dialling, unsent, live;
    uint64_t begin_ns, window_ns, window_end_ns, limit_at_ns;
    enum { WARMUP, WINDOW, DRAIN } phase;
    uint64_t starts; /* open loop: calls started so far */

    /* the result */
    uint64_t verdicts[V_COUNT], calls, events, all_events, dials, server_closed;
    uint64_t last_end_ns;
    struct samples ttfb, total, gap, skew;
    char read[READ_SIZE];
};

/* ---- samples ---------------------------------------------------------------------------------- */

static void samples_add(struct samples *s, uint64_t ns) {
    if (s->len == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 65536;
        s->value = must(realloc(s->value, s->cap * sizeof *s->value));
    }
    s->value[s->len++] = ns / 100 > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / 100);
}

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The smallest value that at least `share` of the samples do not exceed, in ms. */
static double samples_at(const struct samples *s, double share) {
    size_t rank = (size_t)(share * (double)s->len);
    if ((double)rank < share * (double)s->len) {
        rank++;
    }
    return s->len ? s->value[rank ? rank - 1 : 0] / 1e4 : 0;
}

static void samples_print(const char *name, struct samples *s) {
    double sum = 0;
    if (s->len) {
        qsort(s->value, s->len, sizeof *s->value, compare_u32);
    }
    for (size_t i = 0; i < s->len; i++) {
        sum += s->value[i];
    }
    printf(",\"%s\":{\"n\":%zu,\"mean\":%.4f,\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f}", name, s->len,
           s->len ? sum / 1e4 / (double)s->len : 0, samples_at(s, 0.5), samples_at(s, 0.9), samples_at(s, 0.99),
           samples_at(s, 1));
}

/* ---- lists ------------------------------------------------------------------------------------ */

static void list_add(struct list *l, struct caller *c) {
    c->prev = l->last;
    c->next = NULL;
    *(l->last ? &l->last->next : &l->first) = c;
    l->last = c;
}

static void list_remove(struct list *l, struct caller *c) {
    *(c->prev ? &c->prev->next : &l->first) = c->next;
    *(c->next ? &c->next->prev : &l->last) = c->prev;
    c->prev = c->next = NULL;
}

/* ---- identity and request --------------------------------------------------------------------- */

#define IDENTITY_FORMAT "caller %08x-%06u-%08u"
#define IDENTITY_LEN ((size_t)31)
#define IDENTITY_RUN ((size_t)7)
#define IDENTITY_USER ((size_t)16)
#define IDENTITY_CALL ((size_t)23)

static void put_digits(char *to, int width, uint32_t value) {
    while (width--) {
        to[width] = (char)('0' + value % 10);
        value /= 10;
    }
}

static bool windowed(const struct swarm *s) { return s->seconds_ns > 0; }

static void identity_patch(char *identity, const struct caller *c) {
    put_digits(identity + IDENTITY_USER, 6, c->user);
    put_digits(identity + IDENTITY_CALL, 8, c->call);
}

/* Judges the text that came back; in a stream " #<number>" must follow it. */
static enum verdict identity_check(struct swarm *s, const struct caller *c, struct span got, uint32_t number) {
    char tail[16];
    size_t tail_len = number ? (size_t)snprintf(tail, sizeof tail, " #%u", number) : 0;
    size_t own = s->text ? 0 : IDENTITY_LEN, same = s->text ? 0 : IDENTITY_USER;
    if (own) {
        identity_patch(s->expected, c);
    }
    if (got.len < s->expected_len || memcmp(got.ptr + own, s->expected + own, s->expected_len - own) != 0 ||
        memcmp(got.ptr, s->expected, same) != 0) {
        return V_WRONG;
    }
    if (memcmp(got.ptr, s->expected, own) != 0) {
        return memcmp(got.ptr, s->expected, IDENTITY_CALL) == 0 ? V_STALE : V_MIXED;
    }
    if (got.len != s->expected_len + tail_len || memcmp(got.ptr + s->expected_len, tail, tail_len) != 0) {
        return number ? V_ORDER : V_WRONG;
    }
    return V_OK;
}

static struct span span_from(struct span s, const char *from) {
    return (struct span){from, s.len - (size_t)(from - s.ptr)};
}

/* FNV-1a. */
#define DIGEST_START UINT64_C(0xcbf29ce484222325)
static uint64_t digest_add(uint64_t digest, struct span bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        digest = (digest ^ (unsigned char)bytes.ptr[i]) * UINT64_C(0x100000001b3);
    }
    return digest;
}

/* The content in sim's JSON; its text has no quotes and no escapes. */
static struct span content_find(struct span json) {
    static const char key[] = "\"content\":\"";
    const char *p = memmem(json.ptr, json.len, key, sizeof key - 1);
    const char *end = json.ptr + json.len;
    const char *quote = p ? memchr(p + sizeof key - 1, '"', (size_t)(end - p) - (sizeof key - 1)) : NULL;
    return quote ? (struct span){p + sizeof key - 1, (size_t)(quote - p) - (sizeof key - 1)} : (struct span){0};
}

static void append_text(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append_text(struct buf *b, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_append(b, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
}

/* A chat request, filled up to `body_bytes`. */
static void append_chat(const struct swarm *s, struct buf *body) {
    static const char filler[] = "You are a careful assistant. Answer in one short line and repeat "
                                 "nothing but the last message of the caller. ";
    struct buf rest = {0};
    append_text(&rest, "\"},{\"role\":\"user\",\"content\":\"%s\"}],\"temperature\":0.7,\"stream\":%s}", s->expected,
                s->stream ? "true" : "false");
    append_text(body, "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"", s->model);
    for (size_t i = 0; body->len + rest.len < s->body_bytes; i++) {
        buf_append(body, &filler[i % (sizeof filler - 1)], 1);
    }
    buf_append(body, rest.ptr, rest.len);
    buf_free(&rest);
}

/* The calls of a fan-out; each asks for its number behind the text, as an event of a stream has it. */
static void append_branches(const struct swarm *s, struct buf *body) {
    append_text(body, "{\"calls\":[");
    for (uint32_t n = 1; n <= s->branches; n++) {
        append_text(body,
                    "%s{\"id\":\"call %u\",\"path\":\"/v1/chat/completions\",\"body\":{\"model\":\"%s\","
                    "\"messages\":[{\"role\":\"user\",\"content\":\"%s #%u\"}]}}",
                    n > 1 ? "," : "", n, s->model, s->expected, n);
    }
    append_text(body, "]}");
}

/* Builds the request as an SDK sends it: about 250 bytes of head and `body_bytes` of JSON. */
static void request_build(struct swarm *s) {
    struct buf body = {0}, request = {0};
    if (s->text) {
        s->expected_len = (size_t)snprintf(s->expected, sizeof s->expected, "%s", s->text);
    } else {
        s->expected_len = (size_t)snprintf(s->expected, sizeof s->expected,
                                           IDENTITY_FORMAT " asks: please repeat this line.", s->run, 0, 0);
    }
    if (s->branches) {
        append_branches(s, &body);
    } else if (!s->get) {
        append_chat(s, &body);
    }
    append_text(&request,
                "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\nUser-Agent: OpenAI/Python 2.8.0\r\n"
                "X-Stainless-Lang: python\r\nAuthorization: Bearer sk-bench-0123456789abcdef\r\n",
                s->get ? "GET" : "POST", s->path, s->host);
    if (s->field) {
        append_text(&request, "%s\r\n", s->field);
    }
    if (!s->get) {
        append_text(&request, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
    }
    append_text(&request, "\r\n");
    buf_append(&request, body.ptr, body.len);
    buf_free(&body);
    s->request = request.ptr;
    s->request_len = request.len;
    const char *at = request.ptr, *end = request.ptr + request.len;
    while (!s->text && (at = memmem(at, (size_t)(end - at), s->expected, s->expected_len)) != NULL) {
        s->identity_at[s->identities++] = (size_t)(at++ - request.ptr);
    }
}

/* ---- a call's life ---------------------------------------------------------------------------- */

static void call_begin(struct swarm *s, struct caller *c, uint64_t start_ns, uint64_t now);

static void link_dirty(struct link *k) {
    if (!k->dirty) {
        k->dirty = true;
        k->next_dirty = k->swarm->dirty;
        k->swarm->dirty = k;
    }
}

static void stream_leave(struct caller *c) {
    nghttp2_session_set_stream_user_data(c->link->session, c->stream, NULL);
    c->stream = 0;
}

static void caller_close(struct swarm *s, struct caller *c) {
    if (c->stream) {
        nghttp2_submit_rst_stream(c->link->session, NGHTTP2_FLAG_NONE, c->stream, NGHTTP2_CANCEL);
        link_dirty(c->link);
        stream_leave(c);
    }
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    if (c->state == CONNECTING) {
        s->dialling--;
    }
    c->state = CLOSED;
}

/* The first fault found is the verdict. */
static void call_fault(struct caller *c, enum verdict verdict) {
    if (c->verdict == V_OK) {
        c->verdict = verdict;
    }
}

/* One request less to be sent: it has been, or it never will be. */
static void unsent_less(struct swarm *s) {
    if (--s->unsent == 0 && s->once && s->callers_used == s->users) {
        fputs("held\n", stderr);
    }
}

/* Accounts for the call and lets the caller go on. */
static void call_end(struct swarm *s, struct caller *c, uint64_t now) {
    bool in_window = s->once || (c->start_ns >= s->window_ns && c->start_ns < s->window_end_ns);
    list_remove(&s->running, c);
    s->live--;
    s->verdicts[c->verdict]++;
    s->last_end_ns = now;
    if (c->verdict == V_OK) {
        s->calls += s->phase == WINDOW;
        if (in_window) {
            samples_add(&s->ttfb, c->first_ns - c->start_ns);
            samples_add(&s->total, now - c->start_ns);
        }
    }
    buf_free(&c->head);
    buf_free(&c->text);
    if (c->sent < s->request_len) {
        unsent_less(s);
    }
    if (c->close_after || c->state != BODY) {
        caller_close(s, c);
    } else {
        c->state = IDLE;
    }
    if (s->rate > 0) {
        list_add(&s->idle, c);
    } else if (!s->once && s->phase != DRAIN) {
        if (c->verdict == V_OK) {
            call_begin(s, c, now, now);
        } else {
            c->begun_ns = now;
            list_add(&s->resting, c);
        }
    }
}

static void call_fail(struct swarm *s, struct caller *c, enum verdict verdict, uint64_t now) {
    call_fault(c, verdict);
    c->close_after = true;
    call_end(s, c, now);
}

static void request_patch(struct swarm *s, const struct caller *c) {
    for (uint32_t i = 0; i < s->identities; i++) {
        identity_patch(s->request + s->identity_at[i], c);
    }
}

static void request_send(struct swarm *s, struct caller *c, uint64_t now) {
    request_patch(s, c);
    while (c->sent < s->request_len) {
        ssize_t n = send(c->fd, s->request + c->sent, s->request_len - c->sent, MSG_NOSIGNAL);
        if (n > 0) {
            c->sent += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            return;
        } else if (!(n < 0 && errno == EINTR)) {
            call_fail(s, c, V_CUT, now);
            return;
        }
    }
    c->state = HEAD;
    unsent_less(s);
}

/* Starts to connect; the end of it comes as EPOLLOUT or EPOLLERR. */
static bool caller_dial(struct swarm *s, struct caller *c) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        return false;
    }
    c->state = CONNECTING;
    s->dialling++;
    s->dials++;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->user >= USERS_PER_ADDRESS) {
        struct sockaddr_in from = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK + c->user / USERS_PER_ADDRESS)};
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        (void)bind(c->fd, (struct sockaddr *)&from, sizeof from); /* without it, it is slower */
    }
    return (connect(c->fd, (struct sockaddr *)&s->address, sizeof s->address) == 0 || errno == EINPROGRESS) &&
           epoll_ctl(s->ep, EPOLL_CTL_ADD, c->fd, &e) == 0;
}

static bool link_dial(struct swarm *s, struct link *k);

/* nghttp2 wants more of the request's body. */
static ssize_t stream_read(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                           nghttp2_data_source *source, void *user) {
    struct caller *c = nghttp2_session_get_stream_user_data(session, id);
    struct swarm *s = ((struct link *)user)->swarm;
    (void)source;
    if (!c) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* its call is over */
    }
    size_t left = s->request_len - c->sent, n = left < room ? left : room;
    request_patch(s, c);
    memcpy(to, s->request + c->sent, n);
    c->sent += n;
    if (c->sent == s->request_len) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        c->state = HEAD;
        unsent_less(s);
    }
    return (ssize_t)n;
}

static bool stream_begin(struct swarm *s, struct caller *c) {
    nghttp2_data_provider body = {.read_callback = stream_read};
    if (c->link->fd < 0 && !link_dial(s, c->link)) {
        return false;
    }
    int32_t id = nghttp2_submit_request(c->link->session, NULL, s->fields, s->field_count, s->get ? NULL : &body, c);
    if (id < 0) {
        return false;
    }
    c->stream = id;
    c->sent = s->head_len;
    c->state = SENDING;
    if (s->get) {
        c->state = HEAD;
        unsent_less(s);
    }
    link_dirty(c->link);
    return true;
}

static void call_begin(struct swarm *s, struct caller *c, uint64_t start_ns, uint64_t now) {
    c->call++;
    c->start_ns = start_ns;
    c->begun_ns = now;
    c->first_ns = c->last_event_ns = 0;
    c->sent = 0;
    c->verdict = V_OK;
    c->status = 0;
    c->events = 0;
    c->digest = DIGEST_START;
    c->close_after = c->sse = c->done_seen = c->event_seen = false;
    list_add(&s->running, c);
    s->live++;
    s->unsent++;
    if (s->streams) {
        if (!stream_begin(s, c)) {
            call_fail(s, c, V_CONNECT, now);
        }
    } else if (c->state == IDLE) {
        c->state = SENDING;
        request_send(s, c, now);
    } else if (!caller_dial(s, c)) {
        call_fail(s, c, V_CONNECT, now);
    }
}

/* ---- the answer ------------------------------------------------------------------------------- */

/* A line of an SSE answer, without its end. An event counts when its blank line has come. */
static void on_sse_line(struct swarm *s, struct caller *c, struct span line, uint64_t now) {
    if (line.len && line.ptr[line.len - 1] == '\r') {
        line.len--;
    }
    if (line.len == 0) {
        if (c->event_seen && !c->done_seen) {
            c->event_seen = false;
            c->events++;
            s->all_events++;
            s->events += s->phase == WINDOW;
            if (!c->first_ns) {
                c->first_ns = now;
            } else if (s->phase == WINDOW) {
                samples_add(&s->gap, now - c->last_event_ns);
            }
            c->last_event_ns = now;
        }
        return;
    }
    if (line.len < 5 || memcmp(line.ptr, "data:", 5) != 0) {
        return; /* a comment, or a field that is none of ours */
    }
    struct span data = {line.ptr + 5, line.len - 5};
    if (data.len && *data.ptr == ' ') {
        data.ptr++;
        data.len--;
    }
    if (c->done_seen || c->event_seen) {
        call_fault(c, V_ORDER); /* something behind [DONE], or two data lines in one event */
    } else if (span_equals(data, "[DONE]")) {
        c->done_seen = true;
    } else {
        struct span content = content_find(data);
        call_fault(c, content.ptr && span_ends(data, "}]}") ? identity_check(s, c, content, c->events + 1) : V_WRONG);
        c->event_seen = true;
    }
}

static void on_sse(struct swarm *s, struct caller *c, struct span data, uint64_t now) {
    while (data.len) {
        const char *stop = memchr(data.ptr, '\n', data.len);
        size_t len = stop ? (size_t)(stop - data.ptr) : data.len;
        struct span line = {data.ptr, len};
        if (c->text.len || !stop) {
            buf_append(&c->text, data.ptr, len);
            line = (struct span){c->text.ptr, c->text.len};
        }
        if (!stop) {
            return;
        }
        on_sse_line(s, c, line, now);
        c->text.len = 0;
        data.ptr += len + 1;
        data.len -= len + 1;
    }
}

/* Each of the calls has its own answer, whole, in the order they were asked for. */
static enum verdict branches_check(struct swarm *s, const struct caller *c, struct span body) {
    static const char tail[] = "\"system_fingerprint\":\"fp_sim\"}";
    for (uint32_t n = 1; n <= s->branches; n++) {
        struct span content = content_find(body);
        enum verdict verdict = content.ptr ? identity_check(s, c, content, n) : V_WRONG;
        if (verdict != V_OK) {
            return verdict;
        }
        body = span_from(body, content.ptr + content.len);
        const char *end = memmem(body.ptr, body.len, tail, sizeof tail - 1);
        struct span next = content_find(body);
        if (!end || (next.ptr && next.ptr < end)) {
            return V_TRUNCATED;
        }
        body = span_from(body, end + sizeof tail - 1);
    }
    return content_find(body).ptr ? V_WRONG : V_OK;
}

static enum verdict answer_check(struct swarm *s, const struct caller *c, struct span body) {
    if (s->stream) {
        if (!c->sse) {
            return V_WRONG;
        }
        if (!c->done_seen || c->event_seen || body.len) {
            return V_TRUNCATED;
        }
        return !c->events || (s->events_expected && s->events_expected != c->events) ? V_ORDER : V_OK;
    }
    if (s->branches) {
        return branches_check(s, c, body);
    }
    struct span content = content_find(body);
    if (!content.ptr) {
        return V_WRONG;
    }
    enum verdict verdict = identity_check(s, c, content, 0);
    if (verdict == V_OK && !span_ends(body, s->ending)) {
        verdict = V_TRUNCATED;
    }
    return verdict;
}

/* The answer has ended soundly; `body` is what was not judged on the way. */
static void on_answer(struct swarm *s, struct caller *c, struct span body, bool surplus, uint64_t now) {
    call_fault(c, c->status != 200 ? V_STATUS : answer_check(s, c, body));
    if (s->text && c->verdict == V_OK) {
        s->digest = s->digest ? s->digest : c->digest;
        call_fault(c, c->digest == s->digest ? V_OK : V_DIFFERS);
    }
    if (!c->first_ns) {
        c->first_ns = now;
    }
    if (surplus) {
        call_fault(c, V_SURPLUS);
        c->close_after = true;
    }
    call_end(s, c, now);
}

/* Returns the bytes used by a complete final head, 0 when there is none yet. Broken: the call has ended. */
static size_t head_take(struct swarm *s, struct caller *c, struct span in, uint64_t now) {
    size_t used = 0;
    struct http1_head head;
    do {
        size_t size = http1_head_size(in.ptr + used, in.len - used);
        if (!size && in.len - used < HEAD_MAX) {
            return 0;
        }
        if (!size || !http1_head_parse(in.ptr + used, size, &head) || !head.status ||
            (head.status >= 200 && !head.has_length && !head.chunked) || head.length > ANSWER_MAX) {
            call_fail(s, c, V_FRAMING, now);
            return 0;
        }
        used += size;
    } while (head.status < 200);
    c->status = head.status;
    c->close_after = head.close;
    c->sse = head.sse;
    c->state = BODY;
    http1_body_start(&c->body, &head);
    if (!s->stream) {
        c->first_ns = now;
    }
    return used;
}

/* Takes the body's pieces in [p, end). A plain answer that is here as a whole is judged where it lies. */
static void body_take(struct swarm *s, struct caller *c, const char *p, const char *end, uint64_t now) {
    bool sse = c->sse && c->status == 200;
    struct span whole = {0};
    for (;;) {
        struct span data;
        switch (http1_body_next(&c->body, &p, end, &data)) {
        case PIECE_DATA:
            if (s->text) {
                c->digest = digest_add(c->digest, data);
            }
            if (sse) {
                on_sse(s, c, data, now);
            } else if (c->text.len || c->body.state != BODY_LENGTH || c->body.left) {
                buf_append(&c->text, data.ptr, data.len);
            } else {
                whole = data;
            }
            if (c->text.len > ANSWER_MAX) {
                call_fail(s, c, V_FRAMING, now);
                return;
            }
            break;
        case PIECE_MORE: return;
        case PIECE_BROKEN: call_fail(s, c, V_FRAMING, now); return;
        case PIECE_END:
            on_answer(s, c, whole.ptr ? whole : (struct span){c->text.ptr, c->text.len}, p < end, now);
            return;
        }
    }
}

static void on_bytes(struct swarm *s, struct caller *c, const char *ptr, size_t len, uint64_t now) {
    if (c->state == BODY) {
        body_take(s, c, ptr, ptr + len, now);
        return;
    }
    if (c->state != HEAD) {
        /* Idle: an answer too many. Still sending: an answer too early, which no server of ours gives. */
        if (c->state == IDLE) {
            s->verdicts[V_SURPLUS]++;
            caller_close(s, c);
        } else {
            call_fail(s, c, V_FRAMING, now);
        }
        return;
    }
    struct buf part = c->head;
    struct span in = {ptr, len};
    c->head = (struct buf){0};
    if (part.len) {
        buf_append(&part, ptr, len);
        in = (struct span){part.ptr, part.len};
    }
    size_t used = head_take(s, c, in, now);
    if (used) {
        body_take(s, c, in.ptr + used, in.ptr + in.len, now);
    } else if (c->state == HEAD) {
        if (!part.len) {
            buf_append(&part, ptr, len);
        }
        c->head = part;
        return;
    }
    buf_free(&part);
}

static void on_lost(struct swarm *s, struct caller *c, uint64_t now) {
    if (c->state == IDLE) {
        s->server_closed++; /* its right: the next call dials anew */
        caller_close(s, c);
    } else {
        call_fail(s, c, c->state == CONNECTING ? V_CONNECT : V_CUT, now);
    }
}

static void on_readable(struct swarm *s, struct caller *c, bool hangup) {
    while (c->fd >= 0) {
        int fd = c->fd;
        ssize_t n = recv(fd, s->read, READ_SIZE, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            on_lost(s, c, now_ns());
            return;
        }
        on_bytes(s, c, s->read, (size_t)n, now_ns());
        if (c->fd != fd || ((size_t)n < READ_SIZE && !hangup)) {
            return; /* edge-triggered: a short read has emptied the socket */
        }
    }
}

static void on_event(struct swarm *s, struct caller *c, uint32_t what) {
    if ((what & EPOLLOUT) && !(what & (EPOLLERR | EPOLLHUP))) {
        if (c->state == CONNECTING) {
            s->dialling--;
            c->state = SENDING;
        }
        if (c->state == SENDING) {
            request_send(s, c, now_ns());
        }
    }
    if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        on_readable(s, c, what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
    }
}

/* ---- HTTP/2 ----------------------------------------------------------------------------------- */

static int on_stream_field(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                           const uint8_t *value, size_t value_len, uint8_t flags, void *user) {
    struct caller *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    struct span field = {(const char *)name, name_len};
    (void)flags, (void)user;
    if (c && c->state != BODY && span_equals(field, ":status")) {
        c->status = atoi((const char *)value); /* three digits, nghttp2 has seen to that */
    } else if (c && span_equals(field, "content-type")) {
        c->sse = value_len >= 17 && memcmp(value, "text/event-stream", 17) == 0;
    }
    return 0;
}

static int on_stream_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t n,
                          void *user) {
    struct caller *c = nghttp2_session_get_stream_user_data(session, id);
    struct swarm *s = ((struct link *)user)->swarm;
    struct span data = {(const char *)bytes, n};
    (void)flags;
    if (!c) {
        return 0;
    }
    if (s->text) {
        c->digest = digest_add(c->digest, data);
    }
    if (c->sse && c->status == 200) {
        on_sse(s, c, data, now_ns());
    } else if (c->text.len + n > ANSWER_MAX) {
        call_fail(s, c, V_FRAMING, now_ns());
    } else {
        buf_append(&c->text, data.ptr, data.len);
    }
    return 0;
}

/* A frame as a whole; lengths and the order of frames are nghttp2's to judge. */
static int on_stream_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    struct swarm *s = ((struct link *)user)->swarm;
    struct caller *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!c || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)) {
        return 0;
    }
    uint64_t now = now_ns();
    if (c->state == SENDING) {
        call_fail(s, c, V_FRAMING, now); /* too early, which no server of ours is */
        return 0;
    }
    if (c->state == HEAD && c->status >= 200) {
        c->state = BODY;
        c->first_ns = s->stream ? 0 : now;
    }
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        stream_leave(c);
        on_answer(s, c, (struct span){c->text.ptr, c->text.len}, false, now);
    }
    return 0;
}

/* Only of a stream that somebody still waits for: one that was reset. */
static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user) {
    struct caller *c = nghttp2_session_get_stream_user_data(session, id);
    (void)code;
    if (c) {
        c->stream = 0;
        call_fail(((struct link *)user)->swarm, c, V_CUT, now_ns());
    }
    return 0;
}

/* The head of the request as HTTP/2 has it. Nobody else reads that text with --streams, so that it is changed there. */
static void fields_build(struct swarm *s) {
    static char scheme[] = ":scheme", http[] = "http", method[] = ":method", path[] = ":path",
                authority[] = ":authority";
    char *at = s->request, *end = at + http1_head_size(s->request, s->request_len) - 2;
    char *space = strchr(at, ' ');
    s->head_len = (size_t)(end + 2 - at);
    s->fields[s->field_count++] = (nghttp2_nv){(uint8_t *)method, (uint8_t *)at, 7, (size_t)(space - at), 0};
    s->fields[s->field_count++] =
        (nghttp2_nv){(uint8_t *)path, (uint8_t *)space + 1, 5, (size_t)(strchr(space + 1, ' ') - space - 1), 0};
    s->fields[s->field_count++] = (nghttp2_nv){(uint8_t *)scheme, (uint8_t *)http, 7, 4, 0};
    s->fields[s->field_count++] = (nghttp2_nv){(uint8_t *)authority, (uint8_t *)s->host, 10, strlen(s->host), 0};
    while ((at = strchr(at, '\n') + 1) < end && s->field_count < FIELDS_MAX) {
        char *colon = strchr(at, ':'), *stop = strchr(at, '\r');
        for (char *p = at; p < colon; p++) {
            *p |= *p >= 'A' && *p <= 'Z' ? 32 : 0;
        }
        if (colon - at != 4 || memcmp(at, "host", 4) != 0) {
            s->fields[s->field_count++] =
                (nghttp2_nv){(uint8_t *)at, (uint8_t *)colon + 2, (size_t)(colon - at), (size_t)(stop - colon - 2), 0};
        }
    }
}

static void links_create(struct swarm *s) {
    uint32_t count = (s->users + s->streams - 1) / s->streams;
    nghttp2_session_callbacks_new(&s->callbacks);
    nghttp2_session_callbacks_set_on_header_callback(s->callbacks, on_stream_field);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(s->callbacks, on_stream_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(s->callbacks, on_stream_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(s->callbacks, on_stream_close);
    s->links = must(calloc(count, sizeof *s->links));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from = i * s->streams, left = s->users - from;
        s->links[i] = (struct link){
            .swarm = s, .fd = -1, .callers = &s->callers[from], .users = left < s->streams ? left : s->streams};
    }
    for (uint32_t i = 0; i < s->users; i++) {
        s->callers[i].link = &s->links[i / s->streams];
    }
}

static bool link_dial(struct swarm *s, struct link *k) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = k};
    nghttp2_settings_entry settings = {NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    int one = 1;
    k->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (k->fd < 0) {
        return false;
    }
    s->dialling++;
    s->dials++;
    k->connected = false;
    nghttp2_session_del(k->session);
    nghttp2_session_client_new(&k->session, s->callbacks, k);
    nghttp2_submit_settings(k->session, NGHTTP2_FLAG_NONE, &settings, 1);
    nghttp2_session_set_local_window_size(k->session, NGHTTP2_FLAG_NONE, 0, 16 << 20);
    setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return (connect(k->fd, (struct sockaddr *)&s->address, sizeof s->address) == 0 || errno == EINPROGRESS) &&
           epoll_ctl(s->ep, EPOLL_CTL_ADD, k->fd, &e) == 0;
}

static void link_close(struct swarm *s, struct link *k) {
    if (k->fd >= 0) {
        close(k->fd);
        k->fd = -1;
        s->dialling -= !k->connected;
    }
    buf_free(&k->out);
}

/* Everybody's call on it is over; the next one dials anew. */
static void link_lost(struct swarm *s, struct link *k, uint64_t now) {
    enum verdict verdict = k->connected ? V_CUT : V_CONNECT;
    bool asked = false;
    link_close(s, k);
    for (uint32_t i = 0; i < k->users; i++) {
        if (k->callers[i].stream) {
            asked = true;
            stream_leave(&k->callers[i]);
            call_fail(s, &k->callers[i], verdict, now);
        }
    }
    s->server_closed += !asked;
}

/* In one write as far as the socket takes it; what it does not take waits, and nghttp2 with it. */
static void link_flush(struct swarm *s, struct link *k) {
    const uint8_t *bytes;
    ssize_t n = 0;
    while (k->fd >= 0 && k->connected) {
        while (k->out.len < READ_SIZE && (n = nghttp2_session_mem_send(k->session, &bytes)) > 0) {
            buf_append(&k->out, (const char *)bytes, (size_t)n);
        }
        if (!k->out.len && n == 0 &&
            (nghttp2_session_want_read(k->session) || nghttp2_session_want_write(k->session))) {
            break;
        }
        if (!k->out.len && n == 0) {
            n = -1; /* it has said GOAWAY: what came was not HTTP/2 */
        }
        ssize_t sent = n < 0 ? -1 : send(k->fd, k->out.ptr, k->out.len, MSG_NOSIGNAL);
        if (sent < 0 && n >= 0 && errno == EAGAIN) {
            return;
        }
        if (sent < 0) {
            link_lost(s, k, now_ns());
            return;
        }
        k->out.len -= (size_t)sent;
        memmove(k->out.ptr, k->out.ptr + sent, k->out.len);
    }
    buf_free(&k->out);
}

static void links_flush(struct swarm *s) {
    while (s->dirty) {
        struct link *k = s->dirty;
        s->dirty = k->next_dirty;
        k->dirty = false;
        link_flush(s, k);
    }
}

static void on_link_event(struct swarm *s, struct link *k, uint32_t what) {
    if ((what & EPOLLOUT) && !(what & (EPOLLERR | EPOLLHUP))) {
        s->dialling -= !k->connected;
        k->connected = true;
    }
    link_dirty(k);
    while (k->fd >= 0 && (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
        ssize_t n = recv(k->fd, s->read, READ_SIZE, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            if (errno == EAGAIN) {
                return;
            }
        } else if (n <= 0 || nghttp2_session_mem_recv(k->session, (const uint8_t *)s->read, (size_t)n) < 0) {
            link_lost(s, k, now_ns());
        }
    }
}

/* ---- the run ---------------------------------------------------------------------------------- */

static bool starting(const struct swarm *s) { return s->phase != DRAIN; }

static void phase_set(struct swarm *s, uint64_t now) {
    if (s->phase == WARMUP && now >= s->window_ns) {
        s->phase = WINDOW;
        if (windowed(s)) {
            fputs("window\n", stderr);
        }
    }
    if (s->phase == WINDOW && now >= s->window_end_ns) {
        s->phase = DRAIN;
        fputs("window end\n", stderr);
    }
}

/* Open loop: starts what is due on idle connections and new ones. Returns when the next one is due. */
static uint64_t start_by_rate(struct swarm *s, uint64_t now) {
    for (;;) {
        uint64_t due = s->begin_ns + (uint64_t)((double)s->starts * 1e9 / s->rate);
        if (due > now || due >= s->window_end_ns) {
            return due - SPIN_NS; /* from then on the loop turns without waiting */
        }
        struct caller *c = s->idle.last;
        if (c) {
            list_remove(&s->idle, c);
        } else if (s->callers_used < s->users) {
            c = &s->callers[s->callers_used++];
        } else {
            return NEVER; /* all are busy: an answer will wake us, and the delay counts */
        }
        s->starts++;
        now = now_ns();
        if (due >= s->window_ns) {
            samples_add(&s->skew, now - due);
        }
        call_begin(s, c, due, now);
    }
}

/* Closed loop and hold: brings the users in, spread over the ramp. Returns when the next one is due. */
static uint64_t start_users(struct swarm *s, uint64_t now) {
    while (s->callers_used < s->users && s->dialling < DIALS_AT_ONCE) {
        uint64_t due = s->begin_ns + s->ramp_ns / s->users * s->callers_used;
        if (due > now) {
            return due;
        }
        now = now_ns();
        s->callers_used++;
        call_begin(s, &s->callers[s->callers_used - 1], now, now);
    }
    while (s->resting.first && s->resting.first->begun_ns + REST_NS <= now) {
        struct caller *c = s->resting.first;
        list_remove(&s->resting, c);
        call_begin(s, c, now, now);
    }
    return s->resting.first ? s->resting.first->begun_ns + REST_NS : NEVER;
}

static bool over(const struct swarm *s, uint64_t now) {
    if (now >= s->limit_at_ns) {
        return true;
    }
    return s->live == 0 && (s->phase == DRAIN || (s->once && s->callers_used == s->users));
}

static uint64_t min_ns(uint64_t a, uint64_t b) { return a < b ? a : b; }

static void swarm_run(struct swarm *s) {
    struct epoll_event events[EVENTS_PER_TURN];
    uint64_t now = now_ns();
    s->begin_ns = now;
    s->window_ns = now + (windowed(s) ? s->warmup_ns : 0);
    s->window_end_ns = windowed(s) ? s->window_ns + s->seconds_ns : NEVER;
    s->limit_at_ns = now + s->limit_ns;
    while (!over(s, now)) {
        uint64_t wake = s->limit_at_ns;
        phase_set(s, now);
        if (starting(s)) {
            wake = min_ns(wake, s->rate > 0 ? start_by_rate(s, now) : start_users(s, now));
            wake = min_ns(wake, s->phase == WARMUP ? s->window_ns : s->window_end_ns);
        }
        while (s->running.first && s->running.first->begun_ns + s->timeout_ns <= now) {
            call_fail(s, s->running.first, V_TIMEOUT, now);
        }
        if (s->running.first) {
            wake = min_ns(wake, s->running.first->begun_ns + s->timeout_ns);
        }
        if (over(s, now)) {
            break;
        }
        links_flush(s);
        int n = wait_until(s->ep, events, EVENTS_PER_TURN, wake);
        for (int i = 0; i < n; i++) {
            if (s->streams) {
                on_link_event(s, events[i].data.ptr, events[i].events);
            } else {
                on_event(s, events[i].data.ptr, events[i].events);
            }
        }
        now = now_ns();
    }
    s->phase = DRAIN;
    while (s->running.first) { /* the limit: who has no answer by now will not get one */
        call_fail(s, s->running.first, V_TIMEOUT, now);
    }
}

static void swarm_free(struct swarm *s) {
    for (uint32_t i = 0; i < s->users; i++) {
        caller_close(s, &s->callers[i]);
    }
    for (uint32_t i = 0; s->streams && i * s->streams < s->users; i++) {
        link_close(s, &s->links[i]);
        nghttp2_session_del(s->links[i].session);
    }
    nghttp2_session_callbacks_del(s->callbacks);
    free(s->links);
    close(s->ep);
    free(s->callers);
    free(s->request);
    free(s->ttfb.value);
    free(s->total.value);
    free(s->gap.value);
    free(s->skew.value);
    free(s);
}

static void swarm_print(struct swarm *s) {
    struct rusage usage;
    uint64_t errors = 0;
    double window_s = (double)s->seconds_ns / 1e9;
    double wall_s = s->last_end_ns ? (double)(s->last_end_ns - s->begin_ns) / 1e9 : 0;
    uint64_t calls = s->once ? s->verdicts[V_OK] : s->calls;
    uint64_t events = windowed(s) ? s->events : s->all_events;
    if (!windowed(s)) {
        window_s = wall_s;
    }
    getrusage(RUSAGE_SELF, &usage);
    for (int v = V_MIXED + 1; v < V_COUNT; v++) {
        errors += s->verdicts[v];
    }
    printf("{\"mode\":\"%s\",\"model\":\"%s\",\"users\":%u,\"ok\":%llu,\"errors\":%llu,\"mixed\":%llu,",
           s->once       ? "hold"
           : s->rate > 0 ? "open"
                         : "closed",
           s->model, s->users, (unsigned long long)s->verdicts[V_OK], (unsigned long long)errors,
           (unsigned long long)s->verdicts[V_MIXED]);
    printf("\"error_kinds\":{");
    for (int v = V_MIXED + 1, n = 0; v < V_COUNT; v++) {
        if (s->verdicts[v]) {
            printf("%s\"%s\":%llu", n++ ? "," : "", verdict_names[v], (unsigned long long)s->verdicts[v]);
        }
    }
    printf("},\"window_s\":%.4f,\"calls\":%llu,\"rps\":%.1f,\"events\":%llu,\"wall_s\":%.4f,", window_s,
           (unsigned long long)calls, window_s > 0 ? (double)calls / window_s : 0, (unsigned long long)events, wall_s);
    printf("\"dials\":%llu,\"server_closed\":%llu,\"request_bytes\":%zu,\"cpu_s\":%.4f", (unsigned long long)s->dials,
           (unsigned long long)s->server_closed, s->request_len,
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    samples_print("ttfb_ms", &s->ttfb);
    samples_print("total_ms", &s->total);
    samples_print("gap_ms", &s->gap);
    samples_print("skew_ms", &s->skew);
    puts("}");
}

/* ---- the command line ------------------------------------------------------------------------- */

static void usage(const char *wrong) {
    fprintf(stderr,
            "%s%susage: thaw-bench-swarm --port N (--users N | --rate R) (--seconds S | --once)\n"
            "  --port N          target on 127.0.0.1\n"
            "  --path PATH       /v1/chat/completions, /v1/parallel\n"
            "  --model NAME      sim-0; sim-<ms>, sim-<n>x<ms> with --stream\n"
            "  --mock            the target is thaw mock: its answers end otherwise than sim's\n"
            "  --users N         callers, each with a connection (open loop: at most so many)\n"
            "  --rate R          open loop: calls per second\n"
            "  --seconds S       the measured window (not needed with --once)\n"
            "  --warmup S        before it (0.5)\n"
            "  --streams N       HTTP/2, N users on a connection\n"
            "  --once            each user makes one call, all at once\n"
            "  --ramp S          spread the users' first calls over S seconds (0)\n"
            "  --stream          expect a stream of events\n"
            "  --branches N      calls of POST /v1/parallel, N in each, answered by sim-<ms>\n"
            "  --text TEXT       all ask for TEXT and get the same bytes (no quotes, no escapes)\n"
            "  --get             GET --path, where --text was asked for before\n"
            "  --field LINE      one more header field\n"
            "  --body-bytes N    size of the request's JSON (1024)\n"
            "  --timeout S       of a call (60)\n"
            "  --limit S         of the whole run (what the above add up to, and 5)\n",
            wrong ? wrong : "", wrong ? "\n" : "");
    exit(2);
}

static double number_option(const char *name, const char *text, double min, double max) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= min && value <= max)) {
        fprintf(stderr, "--%s %s: not a number from %g to %g\n", name, text, min, max);
        exit(2);
    }
    return value;
}

static void options_read(struct swarm *s, int argc, char **argv) {
    double port = 0, users = 0, seconds = 0, warmup = 0.5, ramp = 0, body_bytes = 1024, timeout = 60, limit = 0,
           branches = 0, streams = 0;
    bool mock = false;
    const struct {
        const char *name;
        double *number, min, max;
        const char **text;
        bool *flag;
    } rows[] = {
        // clang-format off
        {"port", &port, 1, 65535, NULL, NULL},
        {"path", NULL, 0, 0, &s->path, NULL},
        {"model", NULL, 0, 0, &s->model, NULL},
        {"mock", NULL, 0, 0, NULL, &mock},
        {"users", &users, 1, 999999, NULL, NULL},
        {"streams", &streams, 1, 100000, NULL, NULL},
        {"rate", &s->rate, 0.1, 1e6, NULL, NULL},
        {"seconds", &seconds, 0.01, 3600, NULL, NULL},
        {"warmup", &warmup, 0, 3600, NULL, NULL},
        {"once", NULL, 0, 0, NULL, &s->once},
        {"ramp", &ramp, 0, 3600, NULL, NULL},
        {"stream", NULL, 0, 0, NULL, &s->stream},
        {"branches", &branches, 1, BRANCHES_MAX, NULL, NULL},
        {"text", NULL, 0, 0, &s->text, NULL},
        {"get", NULL, 0, 0, NULL, &s->get},
        {"field", NULL, 0, 0, &s->field, NULL},
        {"body-bytes", &body_bytes, 1, 32 << 20, NULL, NULL},
        {"timeout", &timeout, 0.1, 3600, NULL, NULL},
        {"limit", &limit, 0.1, 7200, NULL, NULL},
        // clang-format on
    };
    enum { ROWS = sizeof rows / sizeof *rows };
    struct option options[ROWS + 1] = {0};
    for (int i = 0; i < ROWS; i++) {
        options[i] = (struct option){rows[i].name, !rows[i].flag, NULL, i};
    }
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == '?') {
            usage(NULL);
        } else if (rows[o].number) {
            *rows[o].number = number_option(rows[o].name, optarg, rows[o].min, rows[o].max);
        } else if (rows[o].text) {
            *rows[o].text = optarg;
        } else {
            *rows[o].flag = true;
        }
    }
    s->users = (uint32_t)users;
    s->branches = (uint32_t)branches;
    s->streams = (uint32_t)streams;
    s->body_bytes = (size_t)body_bytes;
    s->ending = mock ? "}\n" : "\"system_fingerprint\":\"fp_sim\"}";
    s->path = s->path ? s->path : s->branches ? "/v1/parallel" : "/v1/chat/completions";
    if (optind < argc || port == 0 || strlen(s->path) > 128 || strlen(s->model) > 64) {
        usage(optind < argc ? "there are no arguments without --"
                            : "--port is needed (path <= 128, model <= 64 bytes)");
    }
    if ((s->text && (!*s->text || strlen(s->text) > 80 || s->branches)) || (s->field && strlen(s->field) > 200) ||
        (s->get && (!s->text || !s->stream)) || (s->branches && s->stream)) {
        usage("--text is 1 to 80 bytes and not for --branches, which are no --stream; --get wants --text and --stream");
    }
    if ((s->users == 0 && s->rate <= 0) || (!s->once && seconds <= 0) || (s->once && s->rate > 0)) {
        usage("either --users N --seconds S, or --users N --once, or --rate R --seconds S");
    }
    if (s->streams && s->rate > 0) {
        usage("--streams is not for --rate");
    }
    snprintf(s->host, sizeof s->host, "127.0.0.1:%u", (unsigned)port);
    s->address = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    limit = limit > 0 ? limit : ramp + warmup + seconds + timeout + 5;
    s->warmup_ns = (uint64_t)(warmup * 1e9);
    s->seconds_ns = (uint64_t)(seconds * 1e9);
    s->ramp_ns = (uint64_t)(ramp * 1e9);
    s->timeout_ns = (uint64_t)(timeout * 1e9);
    s->limit_ns = (uint64_t)(limit * 1e9);
    alarm((unsigned)limit + 10); /* should the loop itself ever hang */
}

static void callers_create(struct swarm *s) {
    size_t most = raise_descriptor_limit() - 16;
    if (s->rate > 0 && (s->users == 0 || s->users > most)) {
        s->users = most > 65536 ? 65536 : (uint32_t)most;
    }
    if (s->users / (s->streams ? s->streams : 1) > most) {
        fprintf(stderr, "%u users need more than the %zu file descriptors this process may open\n", s->users, most);
        exit(2);
    }
    s->callers = must(calloc(s->users, sizeof *s->callers));
    for (uint32_t i = 0; i < s->users; i++) {
        s->callers[i] = (struct caller){.fd = -1, .user = i};
    }
    if (s->streams) {
        links_create(s);
    }
}

int main(int argc, char **argv) {
    struct swarm *s = must(calloc(1, sizeof *s));
    s->model = "sim-0";
    options_read(s, argc, argv);
    callers_create(s);
    unsigned events, every_ms;
    if (sscanf(s->model, "sim-%ux%u", &events, &every_ms) == 2) {
        s->events_expected = events;
    }
    s->run = (uint32_t)(now_ns() ^ (uint64_t)getpid() << 20);
    s->ep = epoll_create1(EPOLL_CLOEXEC);
    prctl(PR_SET_TIMERSLACK, 1000UL);
    request_build(s);
    if (s->streams) {
        fields_build(s);
    }
    swarm_run(s);
    swarm_print(s);
    swarm_free(s);
    return 0;
}
