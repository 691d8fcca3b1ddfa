// SPDX-License-Identifier: MIT
// The raw bytes of every value of a document, read again, are that value; and they are all there is: between them stand
// blanks, commas and names.
#include "fuzz.h"
#include "llm/json.h"

enum { CAP = 64 << 20, RECURSION_MAX = 300 };

static struct str trim(struct str s) {
    while (s.len && strchr(" \t\r\n", s.ptr[0])) {
        s = str_skip(s, 1);
    }
    while (s.len && strchr(" \t\r\n", s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

static bool same_number(const struct json_value *a, const struct json_value *b) {
    double x = 0;
    double y = 0;
    uint64_t n = 0;
    uint64_t m = 0;
    return json_number(a, &x) == json_number(b, &y) && x == y && json_u64(a, &n) == json_u64(b, &m) && n == m;
}

static bool same(const struct json_value *a, const struct json_value *b, unsigned depth) {
    if (json_kind(a) != json_kind(b) || json_length(a) != json_length(b) || !str_eq(json_string(a), json_string(b)) ||
        !same_number(a, b)) {
        return false;
    }
    struct json_each other = json_each(b);
    for (struct json_each each = json_each(a); json_next(&each);) {
        if (!json_next(&other) || !str_eq(each.name, other.name) ||
            (depth < RECURSION_MAX && !same(each.value, other.value, depth + 1))) {
            return false;
        }
    }
    return !json_next(&other);
}

static void check_again(const struct json_value *v, struct str raw) {
    struct json *again = json_open(raw, CAP);
    MUST(again != NULL);
    MUST(same(v, json_root(again), 0));
    struct str whole = json_raw(again, json_root(again));
    MUST(whole.ptr == raw.ptr && whole.len == raw.len);
    json_close(again);
}

// What stands before a value: blanks, the separator (not before the first), and a member's name with its colon.
static void check_gap(const struct json_each *each, struct str gap, bool first) {
    gap = trim(gap);
    if (!first) {
        MUST(gap.len && gap.ptr[0] == ',');
        gap = trim(str_skip(gap, 1));
    }
    if (!each->name.ptr) {
        MUST(gap.len == 0);
        return;
    }
    MUST(gap.len && gap.ptr[gap.len - 1] == ':');
    struct json *name = json_open(str_first(gap, gap.len - 1), CAP);
    MUST(name && json_is_string(json_root(name)) && str_eq(json_string(json_root(name)), each->name));
    json_close(name);
}

static void check_value(struct json *json, const struct json_value *v, struct str raw, unsigned depth) {
    check_again(v, raw);
    const char *at = raw.ptr + 1; // behind the bracket
    size_t steps = 0;
    for (struct json_each each = json_each(v); json_next(&each); steps++) {
        struct str inner = json_raw(json, each.value);
        MUST(inner.ptr >= at && inner.ptr + inner.len < raw.ptr + raw.len);
        check_gap(&each, str_from(at, (size_t)(inner.ptr - at)), steps == 0);
        at = inner.ptr + inner.len;
        MUST(json_is_array(v) ? steps > 20 || json_item(v, steps) == each.value : each.name.ptr != NULL);
        if (depth < RECURSION_MAX) {
            check_value(json, each.value, inner, depth + 1);
        }
    }
    MUST(steps == json_length(v));
    if (json_is_array(v) || json_is_object(v)) {
        MUST(trim(str_from(at, (size_t)(raw.ptr + raw.len - at))).len == 1);
    }
}

// A pick says what is found one by one, and refuses what is there twice.
static void check_pick(const struct json_value *v) {
    static const char *const names[] = {"a", "b", "id"};
    const struct json_value *values[ARRAY_LEN(names)];
    unsigned seen[ARRAY_LEN(names)] = {0};
    const char *twice = json_pick(v, names, ARRAY_LEN(names), values);
    for (struct json_each each = json_each(v); json_next(&each);) {
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            seen[i] += each.name.ptr && str_eq(each.name, str_c(names[i]));
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        MUST(twice || (seen[i] <= 1 && values[i] == json_member(v, names[i])));
        MUST(twice != names[i] || seen[i] > 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = str_from((const char *)data, size);
    struct json *json = json_open(text, CAP);
    if (!json) {
        return 0;
    }
    struct str raw = json_raw(json, json_root(json));
    struct str wanted = trim(text);
    MUST(raw.ptr == wanted.ptr && raw.len == wanted.len);
    check_value(json, json_root(json), raw, 0);
    check_pick(json_root(json));
    json_close(json);
    return 0;
}
