// SPDX-License-Identifier: MIT
// The shapes are told apart by the members that carry the text, not by `object`: many servers that speak OpenAI's
// dialect leave that out or put their own there.
#include "llm/reply.h"

#include "llm/json.h"
#include "llm/scan.h"

enum { MEMORY_FACTOR = 24, MEMORY_EXTRA = 64 * 1024 };

static enum err open_object(struct str text, struct json **json) {
    size_t cap = 0;
    if (__builtin_mul_overflow(text.len, MEMORY_FACTOR, &cap) || __builtin_add_overflow(cap, MEMORY_EXTRA, &cap)) {
        cap = SIZE_MAX;
    }
    enum err e = json_read(text, cap, json);
    if (e == OK && !json_is_object(json_root(*json))) {
        json_close(*json);
        return ERR_INVALID;
    }
    return e;
}

static bool is(const struct json_value *object, const char *member, const char *wanted) {
    return str_eq(json_string(json_member(object, member)), str_c(wanted));
}

// --- text ---

struct taking {
    struct buf *out;
    bool refusal; // wanted instead of the text
    enum err e;
};

static void take(struct taking *t, const struct json_value *string) {
    if (t->e == OK && json_is_string(string)) {
        t->e = buf_str_append(t->out, json_string(string));
    }
}

static const struct part {
    const char *type;
    const char *member;
    bool refusal;
} part_types[] = {{"text", "text", false}, {"output_text", "text", false}, {"refusal", "refusal", true}};

// A string, or parts of which some have text.
static void take_content(struct taking *t, const struct json_value *content) {
    if (!t->refusal) {
        take(t, content);
    }
    if (!json_is_array(content)) {
        return;
    }
    for (struct json_each each = json_each(content); json_next(&each);) {
        for (size_t i = 0; i < ARRAY_LEN(part_types); i++) {
            const struct part *part = &part_types[i];
            if (part->refusal == t->refusal && is(each.value, "type", part->type)) {
                take(t, json_member(each.value, part->member));
            }
        }
    }
}

// Of a chat: in a whole answer, or the change that an event carries.
static void take_message(struct taking *t, const struct json_value *message) {
    take_content(t, json_member(message, "content"));
    if (t->refusal) {
        take(t, json_member(message, "refusal"));
    }
}

static void take_choice(struct taking *t, const struct json_value *root) {
    const struct json_value *choice = json_item(json_member(root, "choices"), 0);
    take_message(t, json_member(choice, "message"));
    if (!t->refusal) {
        take(t, json_member(choice, "text"));
    }
}

static void take_output(struct taking *t, const struct json_value *root) {
    for (struct json_each each = json_each(json_member(root, "output")); json_next(&each);) {
        if (is(each.value, "type", "message")) {
            take_content(t, json_member(each.value, "content"));
        }
    }
}

static void take_blocks(struct taking *t, const struct json_value *root) {
    take_content(t, json_member(root, "content"));
}

static const struct shape {
    const char *member; // an array
    void (*take)(struct taking *t, const struct json_value *root);
} shapes[] = {{"choices", take_choice}, {"output", take_output}, {"content", take_blocks}};

static const struct shape *shape_of(const struct json_value *root) {
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        if (json_is_array(json_member(root, shapes[i].member))) {
            return &shapes[i];
        }
    }
    return NULL;
}

static enum err read_text(const struct json_value *root, struct buf *out, enum reply_kind *kind) {
    const struct shape *shape = shape_of(root);
    size_t before = buf_len(out);
    if (!shape) {
        return ERR_INVALID;
    }
    struct taking t = {.out = out};
    shape->take(&t, root);
    bool refused = is(root, "stop_reason", "refusal");
    if (buf_len(out) == before) {
        t.refusal = true;
        shape->take(&t, root);
        refused |= buf_len(out) > before;
    }
    *kind = refused ? REPLY_REFUSAL : buf_len(out) > before ? REPLY_TEXT : REPLY_NO_TEXT;
    return t.e;
}

enum err reply_text(struct str text, struct buf *out, enum reply_kind *kind) {
    struct json *json = NULL;
    size_t before = buf_len(out);
    enum err e = open_object(text, &json);
    if (e != OK) {
        return e;
    }
    e = read_text(json_root(json), out, kind);
    json_close(json);
    if (e != OK) {
        buf_truncate(out, before);
    }
    return e;
}

// --- pieces of text ---

static void take_delta(struct taking *t, const struct json_value *root) { take(t, json_member(root, "delta")); }

static void take_block_delta(struct taking *t, const struct json_value *root) {
    take(t, json_member(json_member(root, "delta"), "text"));
}

static void take_chunk(struct taking *t, const struct json_value *root) {
    for (struct json_each each = json_each(json_member(root, "choices")); json_next(&each);) {
        double index = 0;
        (void)json_number(json_member(each.value, "index"), &index);
        if (index == 0) {
            take_message(t, json_member(each.value, "delta"));
            take(t, json_member(json_member(each.value, "delta"), "refusal"));
            take(t, json_member(each.value, "text"));
        }
    }
}

// Events that carry text, by type; what has none is taken for a chunk of choices.
static const struct event {
    struct str type;
    void (*take)(struct taking *t, const struct json_value *root);
} events[] = {
    {STR_INIT(""), take_chunk},
    {STR_INIT("message"), take_chunk}, // what the standard calls an event without a type
    {STR_INIT("response.output_text.delta"), take_delta},
    {STR_INIT("response.refusal.delta"), take_delta},
    {STR_INIT("content_block_delta"), take_block_delta},
};

static const struct event *event_of(struct str type) {
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        if (str_eq(events[i].type, type)) {
            return &events[i];
        }
    }
    return NULL;
}

enum err reply_delta(struct str event_type, struct str data, struct buf *out) {
    struct json *json = NULL;
    struct taking t = {.out = out};
    size_t before = buf_len(out);
    enum err e = event_of(event_type) && data.len ? open_object(data, &json) : ERR_INVALID;
    if (e != OK) {
        return e == ERR_INVALID ? OK : e;
    }
    const struct json_value *root = json_root(json);
    const struct json_value *type = json_member(root, "type");
    const struct event *event = event_of(json_is_string(type) ? json_string(type) : event_type);
    if (event) {
        event->take(&t, root);
    }
    json_close(json);
    if (t.e != OK) {
        buf_truncate(out, before);
    }
    return t.e;
}

// --- what Responses are found again by ---
//
// Asked of every event of a stream that may be resumed, so without building a document.

enum { PICK_MAX = 3 };

// The first member of each name; ptr == NULL where there is none.
struct picking {
    struct str names[PICK_MAX];
    struct str values[PICK_MAX];
    char room[32]; // no name that is looked for is longer
};

static void on_member(void *picking, const struct scan_member *member) {
    struct picking *p = picking;
    struct str name = member->name;
    if (member->escaped) {
        name.ptr = p->room;
        if (!scan_unescape(member->name, p->room, sizeof p->room, &name.len)) {
            return;
        }
    }
    for (size_t i = 0; i < PICK_MAX && p->names[i].ptr; i++) {
        if (!p->values[i].ptr && str_eq(name, p->names[i])) {
            p->values[i] = member->value;
        }
    }
}

static bool pick(struct str text, struct picking *p) {
    if (text.len == 0) {
        return false;
    }
    struct scan s = scan_of(text);
    scan_blanks(&s);
    return s.p < s.end && *s.p == '{' && scan_object(&s, on_member, p) && scan_end(&s);
}

enum err reply_id(struct str text, struct str *raw) {
    struct picking p = {.names = {STR("object"), STR("id"), STR("response")}};
    if (!pick(text, &p)) {
        return ERR_INVALID;
    }
    if (!str_eq(p.values[0], STR("\"response\"")) && !str_eq(p.values[0], STR("\"response.deleted\""))) {
        struct str response = p.values[2];
        p = (struct picking){.names = {STR("object"), STR("id")}};
        if (!pick(response, &p)) {
            return ERR_INVALID;
        }
    }
    struct str id = p.values[1];
    if (id.len < 2 || id.ptr[0] != '"') {
        return ERR_INVALID;
    }
    *raw = str_from(id.ptr + 1, id.len - 2);
    return OK;
}

enum err reply_sequence(struct str data, uint64_t *n) {
    struct picking p = {.names = {STR("sequence_number")}};
    return pick(data, &p) && parse_u64(p.values[0], n) == OK ? OK : ERR_INVALID;
}

// --- errors ---

// The object or string that says what went wrong.
static const struct json_value *find_error(const struct json_value *root) {
    const struct json_value *places[] = {json_member(root, "error"),
                                         json_member(json_member(root, "response"), "error")};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (json_is_object(places[i]) || json_is_string(places[i])) {
            return places[i];
        }
    }
    return is(root, "object", "error") || is(root, "type", "error") ? root : NULL;
}

static struct str text_of(struct json *json, const struct json_value *v) {
    return json_kind(v) == JSON_NUMBER ? json_raw(json, v) : json_string(v);
}

// Appends s where there is room for it, and makes it point there.
static void move(struct str *s, struct buf *room) {
    if (s->ptr) {
        const char *at = buf_tail(room);
        if (s->len) {
            memcpy(buf_tail(room), s->ptr, s->len);
        }
        buf_added(room, s->len);
        s->ptr = at;
    }
}

static enum err read_error(struct json *json, struct buf *room, struct reply_error *error) {
    const struct json_value *found = find_error(json_root(json));
    struct reply_error said = {
        .message = json_string(json_is_string(found) ? found : json_member(found, "message")),
        .type = json_string(json_member(found, "type")),
        .code = text_of(json, json_member(found, "code")),
    };
    if (!said.message.ptr && !said.type.ptr && !said.code.ptr) {
        return ERR_INVALID;
    }
    enum err e = buf_reserve(room, said.message.len + said.type.len + said.code.len);
    if (e == OK) {
        move(&said.message, room);
        move(&said.type, room);
        move(&said.code, room);
        *error = said;
    }
    return e;
}

enum err reply_error(struct str text, struct buf *room, struct reply_error *error) {
    struct json *json = NULL;
    enum err e = open_object(text, &json);
    if (e == OK) {
        e = read_error(json, room, error);
        json_close(json);
    }
    return e;
}
