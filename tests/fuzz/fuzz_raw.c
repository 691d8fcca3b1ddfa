// SPDX-License-Identifier: MIT
// What is read of a JSON object where it lies is what a document of it says.
#include "fuzz.h"
#include "llm/raw.h"

enum { CAP = 64 << 20, RECURSION_MAX = 70 };

static void check_string(struct str raw, const struct json_value *v) {
    struct buf text;
    char room[64];
    struct str wanted = json_string(v);
    struct str got = raw_string(raw, room, sizeof room);
    buf_init(&text, CAP);
    MUST(raw_append(&text, raw) == OK && str_eq(buf_str(&text), wanted));
    MUST((got.ptr == NULL && wanted.len > sizeof room) || str_eq(got, wanted));
    MUST(wanted.len > RAW_NAME || raw_says(raw, wanted));
    buf_finish(&text);
}

static void check_value(struct json *json, struct str raw, const struct json_value *v, unsigned depth) {
    struct str same = json_raw(json, v);
    double got = 0;
    double wanted = 0;
    MUST(raw.ptr == same.ptr && raw.len == same.len && raw_kind(raw) == json_kind(v));
    MUST(depth == 0 || (raw_number(raw, &got) == json_number(v, &wanted) && got == wanted));
    if (json_is_string(v)) {
        check_string(raw, v);
    }
    struct raw_each item = raw_each(raw);
    for (struct json_each each = json_each(v); depth < RECURSION_MAX && json_next(&each);) {
        if (json_is_array(v)) {
            MUST(raw_next(&item));
            check_value(json, item.value, each.value, depth + 1);
        } else if (each.name.len <= RAW_NAME) { // the first of that name
            check_value(json, raw_member(raw, each.name), json_find(v, each.name), depth + 1);
        }
    }
    MUST(depth == RECURSION_MAX || !raw_next(&item));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct str names[] = {STR_INIT("a"), STR_INIT("id"), STR_INIT("model")};
    struct str text = str_from((const char *)data, size);
    struct str values[ARRAY_LEN(names)];
    if (size > 4096 || !raw_open(text, names, ARRAY_LEN(names), values)) {
        return 0;
    }
    struct json *json = json_open(text, CAP);
    MUST(json_is_object(json_root(json)));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct str wanted = json_raw(json, json_find(json_root(json), names[i]));
        MUST(values[i].ptr == wanted.ptr && values[i].len == wanted.len);
    }
    check_value(json, json_raw(json, json_root(json)), json_root(json), 0);
    json_close(json);
    return 0;
}
