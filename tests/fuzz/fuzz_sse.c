// SPDX-License-Identifier: MIT
// An event stream fed whole, byte by byte and in random pieces gives the same events, and the same as the
// plainest reading of the standard gives; without on_event the scanner sees the same boundaries and keeps
// nothing.
#include "base/buf.h"
#include "fuzz.h"
#include "http/sse.h"

enum { LOG_MAX = 64 << 20 };

// --- the scanner ---

struct recorder {
    struct sse sse;
    struct buf log;
};

static void log_event(struct buf *log, struct str type, struct str data, bool truncated, size_t bytes) {
    MUST(buf_printf(log, "%zu:", type.len) == OK);
    MUST(buf_str_append(log, type) == OK);
    MUST(buf_printf(log, "|%zu:", data.len) == OK);
    MUST(buf_str_append(log, data) == OK);
    MUST(buf_printf(log, "|%d|%zu;", truncated, bytes) == OK);
}

static void on_event(struct sse *sse, const struct sse_event *e) {
    struct recorder *r = container_of(sse, struct recorder, sse);
    MUST(e->type.ptr && e->type.len <= SSE_TYPE_MAX);
    MUST(e->data.ptr && e->data.len <= SSE_DATA_MAX);
    MUST(!e->truncated || e->data.len == 0);
    MUST(sse_at_boundary(sse));
    log_event(&r->log, e->type, e->data, e->truncated, e->bytes);
}

static void recorder_init(struct recorder *r, bool listen) {
    sse_init(&r->sse, listen ? on_event : NULL);
    buf_init(&r->log, LOG_MAX);
}

static void recorder_finish(struct recorder *r) {
    sse_finish(&r->sse);
    buf_finish(&r->log);
}

// piece 0: of random sizes
static void feed(struct recorder *r, struct str s, size_t piece, struct dice *dice) {
    while (s.len) {
        size_t n = piece ? piece : (size_t)(dice_roll(dice) % (dice_roll(dice) % 4 ? 8 : 100));
        sse_feed(&r->sse, str_first(s, n));
        s = str_skip(s, n);
        MUST(r->sse.kept_room <= SSE_DATA_MAX);
    }
}

// --- the plainest reading: the whole stream at once, a line at a time ---

struct plain {
    struct buf log;
    struct buf data;
    struct str type;
    bool has_fields;
    bool has_data;
    bool open; // the last line has not ended
    bool long_type;
    size_t events;
};

static void plain_field(struct plain *p, struct str line) {
    size_t colon = str_find(line, ':');
    struct str name = str_first(line, colon);
    struct str value = str_skip(line, colon + 1);
    if (colon == 0) {
        return;
    }
    if (value.len && value.ptr[0] == ' ') {
        value = str_skip(value, 1);
    }
    p->has_fields = true;
    if (str_eq(name, STR("event"))) {
        p->long_type |= value.len > SSE_TYPE_MAX;
        p->type = str_first(value, SSE_TYPE_MAX);
    } else if (str_eq(name, STR("data"))) {
        MUST(!p->has_data || buf_append(&p->data, "\n", 1) == OK);
        MUST(buf_str_append(&p->data, value) == OK);
        p->has_data = true;
    }
}

static void plain_event(struct plain *p, size_t bytes) {
    bool truncated = buf_len(&p->data) > SSE_DATA_MAX || p->long_type;
    log_event(&p->log, p->type, truncated ? STR("") : buf_str(&p->data), truncated, bytes);
    p->events++;
    p->has_fields = p->has_data = p->long_type = false;
    p->type = STR("");
    buf_clear(&p->data);
}

static void plain_read(struct plain *p, struct str s) {
    size_t event_start = 0;
    size_t at = str_starts(s, STR("\xEF\xBB\xBF")) ? 3 : 0;
    buf_init(&p->log, LOG_MAX);
    buf_init(&p->data, LOG_MAX);
    while (at < s.len) {
        size_t end = at;
        while (end < s.len && s.ptr[end] != '\r' && s.ptr[end] != '\n') {
            end++;
        }
        if (end == s.len) {
            p->open = true;
            break;
        }
        if (end > at) {
            plain_field(p, str_from(s.ptr + at, end - at));
        } else if (p->has_fields) {
            plain_event(p, end + 1 - event_start);
            event_start = end + 1;
        }
        at = end + 1 + (s.ptr[end] == '\r' && end + 1 < s.len && s.ptr[end + 1] == '\n');
    }
}

static void compare(const struct recorder *r, const struct plain *p, bool listened) {
    MUST(r->sse.events == p->events);
    MUST(sse_at_boundary(&r->sse) == (!p->open && !p->has_fields));
    MUST(!listened || str_eq(buf_str(&r->log), buf_str(&p->log)));
    MUST(listened || !r->sse.kept);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t pieces[] = {SIZE_MAX, 1, 2, 3, 0, 0};
    struct dice dice = dice_from(data, size);
    struct str stream = str_from((const char *)data, size);
    struct plain plain = {.type = STR("")};
    plain_read(&plain, stream);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        for (int listen = 0; listen <= 1; listen++) {
            struct recorder r;
            recorder_init(&r, listen);
            feed(&r, stream, pieces[i], &dice);
            compare(&r, &plain, listen);
            recorder_finish(&r);
        }
    }
    buf_finish(&plain.log);
    buf_finish(&plain.data);
    return 0;
}
