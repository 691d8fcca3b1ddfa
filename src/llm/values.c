// SPDX-License-Identifier: MIT
#include "llm/values.h"

#include "llm/form.h"
#include "llm/json.h"

enum { MEMORY_FACTOR = 24, MEMORY_EXTRA = 64 * 1024 };

struct value *values_find(struct value *values, size_t n, struct str name) {
    for (size_t i = 0; i < n; i++) {
        if (str_eq(values[i].name, name)) {
            return &values[i];
        }
    }
    return NULL;
}

static enum err give(struct value *value, struct str text, enum value_source source, struct arena *arena) {
    struct str copy = arena_str(arena, text);
    if (!copy.ptr) {
        return text.len > arena->cap - arena->used ? ERR_FULL : ERR_NOMEM;
    }
    value->text = copy;
    value->given = source;
    return OK;
}

enum err values_from_form(struct value *values, size_t n, struct str text, enum value_source source,
                          struct arena *arena) {
    struct form form = form_of(text);
    struct str name, content;
    struct buf room;
    enum err e = OK;
    buf_init(&room, MAX(3 * text.len, (size_t)1));
    while (e == OK && (e = form_next(&form, &room, &name, &content)) == OK) {
        struct value *value = values_find(values, n, name);
        if (value && value->given < source) {
            e = give(value, content, source, arena);
        }
    }
    buf_finish(&room);
    return e == ERR_EOF ? OK : e;
}

static enum err take_members(struct value *values, size_t n, struct json *json, struct arena *arena,
                             struct str *twice) {
    enum err e = OK;
    for (struct json_each each = json_each(json_root(json)); e == OK && json_next(&each);) {
        struct value *value = values_find(values, n, each.name);
        if (!value || json_kind(each.value) == JSON_NULL) {
            continue;
        }
        if (value->given == VALUE_BODY) {
            *twice = value->name;
            return ERR_AGAIN;
        }
        struct str text = json_is_string(each.value) ? json_string(each.value) : json_raw(json, each.value);
        e = text.ptr ? give(value, text, VALUE_BODY, arena) : ERR_NOMEM;
    }
    return e;
}

enum err values_from_json(struct value *values, size_t n, struct str text, struct arena *arena, struct str *twice) {
    struct json *json = NULL;
    size_t cap = 0;
    if (__builtin_mul_overflow(text.len, MEMORY_FACTOR, &cap) || __builtin_add_overflow(cap, MEMORY_EXTRA, &cap)) {
        cap = SIZE_MAX;
    }
    enum err e = json_read(text, cap, &json);
    if (e != OK) {
        return e;
    }
    e = json_is_object(json_root(json)) ? take_members(values, n, json, arena, twice) : ERR_FRAMING;
    json_close(json);
    return e;
}
