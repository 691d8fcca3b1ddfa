// SPDX-License-Identifier: MIT
#include "gateway/stream.h"

#include <inttypes.h>

#include "base/mem.h"
#include "llm/reply.h"

enum { ID_LINE_MAX = 64, PIECE = 256 };

static void put_in(struct stream *s, struct str text) {
    struct buf *out = &s->worker->events;
    s->error = s->error == OK ? buf_str_append(out, text) : s->error;
}

// An event ends; the last byte of it so far ends the blank line.
static void on_boundary(struct sse *sse, size_t at) {
    struct stream *s = container_of(sse, struct stream, sse);
    struct tape *tape = s->tape;
    char line[ID_LINE_MAX];
    int n = snprintf(line, sizeof line, "id: %s:%" PRIu64 "\n", s->id.text, sse->events - 1);
    put_in(s, str_from(s->bytes.ptr + s->done, at - 1 - s->done));
    put_in(s, str_from(line, (size_t)n));
    put_in(s, str_from(s->bytes.ptr + at - 1, 1));
    s->done = at;
    if (s->error == OK) {
        tape_mark(tape, tape->written + buf_len(&s->worker->events));
    }
}

// A blank line behind a comment, say, is left out: it says nothing, and OpenAI's Python SDK (3.52), once it has seen an
// id, takes it for an event without data and fails on that.
static void on_blank(struct sse *sse, size_t at) {
    struct stream *s = container_of(sse, struct stream, sse);
    put_in(s, str_from(s->bytes.ptr + s->done, at - 1 - s->done));
    s->done = at;
    if (s->bytes.ptr[at - 1] == '\r') {
        s->after_cr = at == s->bytes.len;
        s->done += at < s->bytes.len && s->bytes.ptr[at] == '\n';
    }
}

struct stream *stream_create(struct worker *w, struct tape *tape) {
    struct stream *s = xcalloc(1, sizeof *s);
    sse_init(&s->sse, NULL);
    s->worker = w;
    s->tape = tape;
    s->ids = tape->record;
    if (s->ids) {
        s->id = shelf_id(&w->shelf, tape);
        s->sse.on_boundary = on_boundary;
        s->sse.on_blank = on_blank;
    }
    return s;
}

void stream_destroy(struct stream *s) {
    if (s) {
        sse_finish(&s->sse);
        free(s);
    }
}

struct str stream_feed(struct stream *s, struct str bytes) {
    if (!s->ids) {
        sse_feed(&s->sse, bytes);
        return bytes;
    }
    buf_clear(&s->worker->events);
    s->bytes = bytes;
    s->done = s->after_cr && bytes.len && bytes.ptr[0] == '\n';
    s->after_cr = s->after_cr && bytes.len == 0;
    sse_feed(&s->sse, bytes);
    put_in(s, str_skip(bytes, s->done));
    return s->error == OK ? buf_str(&s->worker->events) : STR("");
}

// ---- the opening

// What says nothing yet: the type of an event, or of the JSON in it. (OpenAI's Responses API and Anthropic's Messages.)
static const char *const preludes[] = {"response.created", "response.in_progress", "response.queued", "message_start",
                                       "ping"};

// Errors that pass, as types and codes name them: who is asked, or when, makes a difference. What no row has is the
// request's own fault.
static const struct passing {
    const char *name;
    int status;
} passing[] = {
    {"rate_limit_exceeded", 429},
    {"rate_limit_error", 429},
    {"too_many_requests", 429},
    {"429", 429},
    {"overloaded_error", 503},
    {"overloaded", 503},
    {"server_overloaded", 503},
    {"service_unavailable", 503},
    {"503", 503},
    {"529", 503},
    {"server_error", 500},
    {"api_error", 500},
    {"internal_error", 500},
    {"internal_server_error", 500},
    {"500", 500},
    {"502", 502},
    {"504", 504},
    {"timeout_error", 504},
};

static int passing_status(struct str name) {
    for (size_t i = 0; i < ARRAY_LEN(passing); i++) {
        if (str_ieq(name, str_c(passing[i].name))) {
            return passing[i].status;
        }
    }
    return 0;
}

// What there is to know of an event's data, found in one go: JSON is not read for it, nor memory taken.
enum word { WORD_ERROR, WORD_ROLE, WORD_TOOL_CALLS, WORD_TYPE, WORDS };

struct words {
    const char *behind[WORDS]; // the first time it stands there in quotes; NULL: it does not
};

static struct words find_words(struct str data) {
    static const struct str words[] = {[WORD_ERROR] = STR_INIT("error\""),
                                       [WORD_ROLE] = STR_INIT("role\""),
                                       [WORD_TOOL_CALLS] = STR_INIT("tool_calls\""),
                                       [WORD_TYPE] = STR_INIT("type\"")};
    struct words found = {{NULL}};
    const char *end = data.ptr + data.len;
    for (const char *at = data.ptr; data.len && (at = memchr(at, '"', (size_t)(end - at)));) {
        at++;
        for (size_t i = 0; i < WORDS && at < end; i++) {
            if (*at == words[i].ptr[0] && str_starts(str_from(at, (size_t)(end - at)), words[i]) && !found.behind[i]) {
                found.behind[i] = at + words[i].len;
            }
        }
    }
    return found;
}

// The event's type, or else what its JSON calls its "type".
static struct str type_of(const struct sse_event *event, const char *behind) {
    if (event->type.len || !behind) {
        return event->type;
    }
    struct str value = str_trim(str_from(behind, (size_t)(event->data.ptr + event->data.len - behind)));
    value = str_starts(value, STR(":")) ? str_trim(str_skip(value, 1)) : STR("");
    value = str_starts(value, STR("\"")) ? str_skip(value, 1) : STR("");
    return str_first(value, str_find(value, '"'));
}

static bool is_prelude(struct str type) {
    for (size_t i = 0; i < ARRAY_LEN(preludes); i++) {
        if (str_eq(type, str_c(preludes[i]))) {
            return true;
        }
    }
    return false;
}

// A chat's first chunk often only says whose turn it is: "delta":{"role":"assistant","content":""}.
static bool is_role_only(const struct opening *o, const struct sse_event *event, const struct words *words) {
    struct buf text;
    if (o->events != 1 || !words->behind[WORD_ROLE] || words->behind[WORD_TOOL_CALLS]) {
        return false;
    }
    buf_init(&text, OPENING_BYTES);
    bool says_nothing = reply_delta(event->type, event->data, &text) == OK && buf_len(&text) == 0;
    buf_finish(&text);
    return says_nothing;
}

static enum opening_verdict judge(struct opening *o, const struct sse_event *event) {
    struct reply_error said = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct buf room;
    if (event->truncated || ++o->events > OPENING_EVENTS) {
        return OPENING_OVER;
    }
    struct words words = find_words(event->data);
    if (is_prelude(type_of(event, words.behind[WORD_TYPE]))) {
        return OPENING_GOES_ON;
    }
    if (!words.behind[WORD_ERROR]) { // mostly
        return is_role_only(o, event, &words) ? OPENING_GOES_ON : OPENING_OVER;
    }
    buf_init(&room, OPENING_BYTES);
    enum err e = reply_error(event->data, &room, &said);
    o->failed_status = e == OK ? passing_status(said.code) : 0;
    o->failed_status = e == OK && !o->failed_status ? passing_status(said.type) : o->failed_status;
    buf_finish(&room);
    return o->failed_status                            ? OPENING_FAILED
           : e != OK && is_role_only(o, event, &words) ? OPENING_GOES_ON
                                                       : OPENING_OVER;
}

static void on_event(struct sse *sse, const struct sse_event *event) {
    struct opening *o = container_of(sse, struct opening, sse);
    if (o->verdict == OPENING_GOES_ON) {
        o->verdict = judge(o, event);
    }
}

struct opening *opening_create(const struct tape_head *head) {
    struct opening *o = try_malloc(sizeof *o);
    if (!o) {
        return NULL;
    }
    *o = (struct opening){.status = head->status, .body_len = head->body_len};
    o->head_memory = fields_copy(&head->fields, &o->fields);
    if (!o->head_memory) {
        free(o);
        return NULL;
    }
    sse_init(&o->sse, on_event);
    buf_init(&o->bytes, OPENING_BYTES);
    return o;
}

void opening_destroy(struct opening *o) {
    if (o) {
        sse_finish(&o->sse);
        buf_finish(&o->bytes);
        free(o->head_memory);
        free(o);
    }
}

enum opening_verdict opening_feed(struct opening *o, struct str bytes) {
    // In pieces of about an event, because what comes behind the one that decides is not looked at.
    for (struct str rest = bytes; rest.len && o->verdict == OPENING_GOES_ON; rest = str_skip(rest, PIECE)) {
        sse_feed(&o->sse, str_first(rest, PIECE));
    }
    if (o->verdict == OPENING_GOES_ON && buf_str_append(&o->bytes, bytes) != OK) {
        o->verdict = OPENING_OVER;
    }
    return o->verdict;
}
