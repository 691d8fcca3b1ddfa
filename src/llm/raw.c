// SPDX-License-Identifier: MIT
// The first pass checks all of the text; walking over a checked one needs no checks, and passes over a string at
// memchr's speed: reading a prompt's message costs what is around the prompt.
#include "llm/raw.h"

#include <assert.h>
#include <math.h>

#include "llm/scan.h"

// ---- walking

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static bool is_between(char c) { return is_blank(c) || c == ',' || c == ':'; } // values

static const char *skip_between(const char *p, const char *end) {
    while (p < end && is_between(*p)) {
        p++;
    }
    return p;
}

// A quote ends the string unless an odd number of backslashes is in front of it. The opening one ends every run.
static const char *skip_string(const char *p, const char *end) {
    for (;;) {
        const char *quote = memchr(p + 1, '"', (size_t)(end - p - 1));
        const char *before = quote;
        while (before[-1] == '\\') {
            before--;
        }
        if ((quote - before) % 2 == 0) {
            return quote + 1;
        }
        p = quote;
    }
}

static const char *skip_container(const char *p, const char *end) {
    size_t depth = 0;
    do {
        if (*p == '"') {
            p = skip_string(p, end);
            continue;
        }
        depth += *p == '[' || *p == '{';
        depth -= *p == ']' || *p == '}';
        p++;
    } while (depth && p < end);
    return p;
}

const char *raw_skip(const char *p, const char *end) {
    if (*p == '"') {
        return skip_string(p, end);
    }
    if (*p == '[' || *p == '{') {
        return skip_container(p, end);
    }
    while (p < end && !is_between(*p) && *p != ']' && *p != '}') {
        p++;
    }
    return p;
}

// ---- members

struct wanted {
    const struct str *names;
    size_t n;
    struct str *values;
};

static void take(const struct wanted *w, struct str name, struct str value) {
    for (size_t i = 0; i < w->n; i++) {
        if (w->names[i].len == name.len && !w->values[i].ptr && str_eq(w->names[i], name)) {
            w->values[i] = value;
            return;
        }
    }
}

static void take_spelt(const struct wanted *w, struct str name, struct str value) {
    char room[RAW_NAME];
    size_t len = 0;
    if (scan_unescape(name, room, sizeof room, &len)) {
        take(w, str_from(room, len), value);
    }
}

static void on_member(void *arg, const struct scan_member *m) {
    if (m->escaped) {
        take_spelt(arg, m->name, m->value);
    } else {
        take(arg, m->name, m->value);
    }
}

static struct wanted want(const struct str *names, size_t n, struct str *values) {
    for (size_t i = 0; i < n; i++) {
        values[i] = (struct str){NULL, 0};
    }
    return (struct wanted){names, n, values};
}

bool raw_open(struct str text, const struct str *names, size_t n, struct str *values) {
    struct wanted w = want(names, n, values);
    struct scan s = scan_of(text);
    if (text.len == 0) {
        return false;
    }
    scan_blanks(&s);
    return s.p < s.end && *s.p == '{' && scan_object(&s, on_member, &w) && scan_end(&s);
}

static bool has_escapes(struct str s) { return s.len && memchr(s.ptr, '\\', s.len); }

// Past the object that begins at p.
static const char *pick(const char *p, const char *end, const struct wanted *w) {
    p = skip_between(p + 1, end);
    while (*p != '}') {
        bool escaped = false;
        const char *name = p + 1;
        for (p = name; *p != '"'; p++) { // short: no matter for memchr
            escaped |= *p == '\\';
            p += *p == '\\';
        }
        const char *value = skip_between(p + 1, end);
        struct scan_member m = {str_from(name, (size_t)(p - name)), escaped, {value, 0}};
        p = raw_skip(value, end);
        m.value.len = (size_t)(p - value);
        on_member((void *)(uintptr_t)w, &m);
        p = skip_between(p, end);
    }
    return p + 1;
}

void raw_pick(struct str object, const struct str *names, size_t n, struct str *values) {
    struct wanted w = want(names, n, values);
    if (raw_is_object(object)) {
        (void)pick(object.ptr, object.ptr + object.len, &w);
    }
}

struct str raw_member(struct str object, struct str name) {
    struct str value;
    raw_pick(object, &name, 1, &value);
    return value;
}

// ---- items

// At the next item, or the array's end.
static void step_to(struct raw_each *each, const char *p) { each->p = skip_between(p, each->end); }

struct raw_each raw_each(struct str array) {
    struct raw_each each = {.p = array.ptr, .end = array.ptr};
    if (raw_is_array(array)) {
        each.end = array.ptr + array.len - 1; // the closing bracket
        step_to(&each, array.ptr + 1);
    }
    return each;
}

bool raw_next_pick(struct raw_each *each, const struct str *names, size_t n, struct str *values) {
    struct wanted w = want(names, n, values);
    const char *p = each->p;
    if (p == each->end) {
        return false;
    }
    const char *after = *p == '{' && n ? pick(p, each->end, &w) : raw_skip(p, each->end);
    each->value = str_from(p, (size_t)(after - p));
    step_to(each, after);
    return true;
}

bool raw_next(struct raw_each *each) { return raw_next_pick(each, NULL, 0, NULL); }

// ---- values

enum json_kind raw_kind(struct str value) {
    switch (value.ptr ? *value.ptr : '\0') {
    case '\0': return JSON_NONE;
    case 'n': return JSON_NULL;
    case 'f': return JSON_FALSE;
    case 't': return JSON_TRUE;
    case '"': return JSON_STRING;
    case '[': return JSON_ARRAY;
    case '{': return JSON_OBJECT;
    default: return JSON_NUMBER;
    }
}

// A value of a text that is an object has something behind it where strtod stops.
bool raw_number(struct str value, double *n) {
    uint64_t whole = 0;
    if (raw_kind(value) != JSON_NUMBER) {
        return false;
    }
    double number = parse_u64(value, &whole) == OK ? (double)whole : strtod(value.ptr, NULL);
    if (!isfinite(number)) {
        return false;
    }
    *n = number;
    return true;
}

struct str raw_string(struct str value, char *room, size_t size) {
    size_t len = 0;
    if (!raw_is_string(value)) {
        return (struct str){NULL, 0};
    }
    if (!has_escapes(raw_inside(value))) {
        return raw_inside(value);
    }
    return scan_unescape(raw_inside(value), room, size, &len) ? str_from(room, len) : (struct str){NULL, 0};
}

bool raw_says(struct str value, struct str text) {
    char room[RAW_NAME];
    assert(text.len <= sizeof room);
    struct str string = raw_string(value, room, sizeof room);
    return string.ptr && str_eq(string, text);
}

enum err raw_append(struct buf *b, struct str value) {
    size_t len = 0;
    if (!raw_is_string(value)) {
        return OK;
    }
    struct str text = raw_inside(value);
    if (!has_escapes(text)) {
        return buf_str_append(b, text);
    }
    enum err e = buf_reserve(b, text.len); // what is unescaped is never longer
    if (e == OK && scan_unescape(text, buf_tail(b), text.len, &len)) {
        buf_added(b, len);
    }
    return e;
}
