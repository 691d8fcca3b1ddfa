// SPDX-License-Identifier: MIT
// The scanner looks for line ends with memchr and at the bytes between them once. Where a line is between two
// feeds is all its state:
//
//     STREAM_START --BOM or none--> NAME --":"--> SPACE --" " or none--> VALUE
//          |                          |
//          +--part of a BOM--> SKIP <-+-- a comment, a field that is not looked at, no on_event
//
// and from each the line's end leads to NAME. `line_len` counts the bytes of the BOM or name that have
// matched.
//
// Invariants: no byte decides differently for the feed it comes in; work is linear in the bytes fed (the two
// memchr results are kept until they are passed, else lines of CR alone would cost a scan of the feed each);
// memory is at most SSE_TYPE_MAX + data_max, and KEEP_ROOM between events.
#include "http/sse.h"

#include "base/mem.h"

enum { STREAM_START, NAME, SPACE, VALUE, SKIP };
enum { FIRST_ROOM = 1024, KEEP_ROOM = 4096 };

enum { FIELD_DATA, FIELD_EVENT };
static const struct str field_names[] = {[FIELD_DATA] = {"data", 4}, [FIELD_EVENT] = {"event", 5}};
static const struct str byte_order_mark = {"\xEF\xBB\xBF", 3};

void sse_init(struct sse *sse, void (*on_event)(struct sse *sse, const struct sse_event *event)) {
    *sse = (struct sse){.on_event = on_event, .state = STREAM_START, .at_boundary = true, .data_max = SSE_DATA_MAX};
}

void sse_finish(struct sse *sse) {
    free(sse->kept);
    *sse = (struct sse){0};
}

// --- what an event is made of ---

// Room for n bytes of data beside the type; without memory the event is truncated.
static bool have_room(struct sse *sse, size_t n) {
    if (sse->kept && sse->kept_room >= n) {
        return true;
    }
    size_t room = MIN(MAX(MAX(sse->kept_room * 2, n), (size_t)FIRST_ROOM), sse->data_max);
    char *kept = try_realloc(sse->kept, SSE_TYPE_MAX + room);
    if (!kept) {
        sse->truncated = true;
        return false;
    }
    sse->kept = kept;
    sse->kept_room = room;
    return true;
}

static void keep_data(struct sse *sse, struct str s) {
    if (sse->truncated) {
        return;
    }
    if (s.len > sse->data_max - sse->kept_len) {
        sse->truncated = true;
    } else if (s.len && have_room(sse, sse->kept_len + s.len)) {
        memcpy(sse->kept + SSE_TYPE_MAX + sse->kept_len, s.ptr, s.len);
        sse->kept_len += s.len;
    }
}

static void keep_type(struct sse *sse, struct str s) {
    size_t n = MIN(s.len, SSE_TYPE_MAX - sse->type_len);
    if (n < s.len) {
        sse->truncated = true;
    }
    if (n && have_room(sse, 0)) {
        memcpy(sse->kept + sse->type_len, s.ptr, n);
        sse->type_len += n;
    }
}

static void value_begins(struct sse *sse) {
    if (sse->field == FIELD_EVENT) {
        sse->type_len = 0; // the last one counts
        return;
    }
    if (sse->has_data) {
        keep_data(sse, STR("\n"));
    }
    sse->has_data = true;
}

static void keep_value(struct sse *sse, struct str s) {
    if (sse->field == FIELD_EVENT) {
        keep_type(sse, s);
    } else {
        keep_data(sse, s);
    }
}

static void report(struct sse *sse, size_t bytes) {
    struct sse_event event = {.type = STR(""), .data = STR(""), .truncated = sse->truncated, .bytes = bytes};
    if (sse->type_len) {
        event.type = str_from(sse->kept, sse->type_len);
    }
    if (sse->kept_len && !sse->truncated) {
        event.data = str_from(sse->kept + SSE_TYPE_MAX, sse->kept_len);
    }
    sse->on_event(sse, &event);
    sse->has_data = sse->truncated = false;
    sse->type_len = sse->kept_len = 0;
    if (sse->kept_room > KEEP_ROOM) {
        free(sse->kept);
        sse->kept = NULL;
        sse->kept_room = 0;
    }
}

static void blank_line(struct sse *sse, size_t at) {
    if (!sse->has_fields) { // comments and blank lines count to the event they come before
        if (sse->on_blank) {
            sse->on_blank(sse, at);
        }
        return;
    }
    size_t bytes = sse->event_bytes;
    sse->has_fields = false;
    sse->event_bytes = 0;
    sse->events++;
    sse->at_boundary = true;
    if (sse->on_boundary) {
        sse->on_boundary(sse, at);
    }
    if (sse->on_event) {
        report(sse, bytes);
    }
}

// --- lines ---

// Each of these takes what it knows off the front of s, which is within one line, and returns the rest.

static struct str read_mark(struct sse *sse, struct str s) {
    while (s.len && sse->line_len < byte_order_mark.len && s.ptr[0] == byte_order_mark.ptr[sse->line_len]) {
        sse->line_len++;
        s = str_skip(s, 1);
    }
    if (sse->line_len == byte_order_mark.len) {
        sse->state = NAME;
        sse->line_len = 0;
    } else if (s.len && sse->line_len) {
        sse->state = SKIP; // a field's name that begins like a mark
        sse->has_fields = true;
    } else if (s.len) {
        sse->state = NAME;
    }
    return s;
}

// The first byte tells a comment from a field and the two fields that are kept from each other and all
// others.
static void name_begins(struct sse *sse, char first) {
    sse->has_fields |= first != ':';
    sse->state = SKIP;
    for (unsigned char i = 0; i < ARRAY_LEN(field_names) && sse->on_event; i++) {
        if (first == field_names[i].ptr[0]) {
            sse->field = i;
            sse->state = NAME;
        }
    }
}

static struct str read_name(struct sse *sse, struct str s) {
    if (s.len && sse->line_len == 0) {
        name_begins(sse, s.ptr[0]);
    }
    struct str name = field_names[sse->field];
    while (s.len && sse->state == NAME) {
        char c = s.ptr[0];
        if (sse->line_len == name.len && c == ':') {
            sse->state = SPACE;
            value_begins(sse);
        } else if (sse->line_len < name.len && c == name.ptr[sse->line_len]) {
            sse->line_len++;
        } else {
            sse->state = SKIP;
        }
        s = str_skip(s, 1);
    }
    return s;
}

static void read_line_part(struct sse *sse, struct str s) {
    if (sse->state == STREAM_START) {
        s = read_mark(sse, s);
    }
    if (sse->state == NAME) {
        s = read_name(sse, s);
    }
    if (sse->state == SPACE && s.len) {
        sse->state = VALUE;
        s = str_skip(s, s.ptr[0] == ' ');
    }
    if (sse->state == VALUE && s.len) {
        keep_value(sse, s);
    }
}

// `at`: behind the first byte of the line's end, in the bytes being fed.
static void line_ends(struct sse *sse, size_t at) {
    if (sse->state == STREAM_START && sse->line_len) {
        sse->has_fields = true; // a part of a mark is a name like any other
    } else if (sse->state <= NAME && sse->line_len == 0) {
        blank_line(sse, at);
    } else if (sse->state == NAME && sse->line_len == field_names[sse->field].len) {
        value_begins(sse); // no colon: the value is empty
    }
    sse->state = NAME;
    sse->line_len = 0;
}

// --- bytes ---

static const char *find(const char *p, const char *end, char c) {
    const char *at = memchr(p, c, (size_t)(end - p));
    return at ? at : end;
}

void sse_feed(struct sse *sse, struct str bytes) {
    if (bytes.len == 0) {
        return;
    }
    const char *p = bytes.ptr;
    const char *end = p + bytes.len;
    if (sse->after_cr && *p == '\n') {
        p++;
        sse->event_bytes++;
    }
    const char *lf = find(p, end, '\n');
    const char *cr = find(p, end, '\r');
    sse->after_cr = false;
    while (p < end) {
        const char *stop = MIN(lf, cr);
        sse->event_bytes += (size_t)(stop - p) + (stop < end);
        read_line_part(sse, str_from(p, (size_t)(stop - p)));
        if (stop == end) {
            break;
        }
        p = stop + 1;
        line_ends(sse, (size_t)(p - bytes.ptr));
        if (stop == cr) {
            sse->after_cr = p == end;
            if (p < end && *p == '\n') {
                p++;
                sse->event_bytes++;
            }
            cr = find(p, end, '\r');
        }
        if (lf < p) {
            lf = find(p, end, '\n');
        }
    }
    sse->at_boundary = sse->state <= NAME && sse->line_len == 0 && !sse->has_fields;
}
