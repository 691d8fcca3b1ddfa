// SPDX-License-Identifier: MIT
// Writing: runs of bytes that need no escape are copied at once; a string that is not UTF-8 is mended the way
// browsers do (one U+FFFD per maximal part of a sequence), so that what is written is always JSON. Reading: a thin cover over yyjson, so that no other file knows it.
#include "llm/json.h"

#include <math.h>
#include <yyjson.h>

#include "base/mem.h"
#include "llm/chars.h"
#include "llm/raw.h"
#include "llm/utf8.h"

static bool is_plain(char c) { return (signed char)c >= 0x20 && c != '"' && c != '\\'; } // no ASCII is below 0

// How many bytes at the front of s are written as they are.
static size_t plain_run(struct str s) {
    size_t n = 0;
    for (bool valid = true; valid;) {
        while (s.len - n >= CHARS && !chars_special(s.ptr + n)) {
            n += CHARS;
        }
        while (n < s.len && is_plain(s.ptr[n])) {
            n++;
        }
        if (n == s.len || (unsigned char)s.ptr[n] < 0x80) {
            break;
        }
        size_t sequence = utf8_sequence(str_skip(s, n), &valid);
        n += valid ? sequence : 0;
    }
    return n;
}

static enum err append_escape(struct buf *b, unsigned char c) {
    static const char hex[] = "0123456789abcdef";
    static const char letters[0x60] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['"'] = '"', ['\\'] = '\\'};
    if (letters[c]) {
        char two[2] = {'\\', letters[c]};
        return buf_append(b, two, sizeof two);
    }
    char six[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    return buf_append(b, six, sizeof six);
}

// The one thing at the front of s that cannot stay as it is; *taken is its length.
static enum err append_mended(struct buf *b, struct str s, size_t *taken) {
    bool valid = false;
    if ((unsigned char)s.ptr[0] < 0x80) {
        *taken = 1;
        return append_escape(b, (unsigned char)s.ptr[0]);
    }
    *taken = utf8_sequence(s, &valid);
    return buf_str_append(b, UTF8_REPLACEMENT);
}

static enum err append_all(struct buf *b, struct str s) {
    enum err e = OK;
    while (e == OK && s.len) {
        size_t run = plain_run(s);
        e = buf_append(b, s.ptr, run);
        s = str_skip(s, run);
        if (e == OK && s.len) {
            size_t taken = 0;
            e = append_mended(b, s, &taken);
            s = str_skip(s, taken);
        }
    }
    return e;
}

static enum err append_quoted(struct buf *b, struct str s, struct str quote) {
    enum err e = buf_reserve(b, s.len + 2); // what is written is never shorter: one growth in most cases
    if (e != OK) {
        return e;
    }
    size_t before = buf_len(b);
    e = buf_str_append(b, quote);
    e = e == OK ? append_all(b, s) : e;
    e = e == OK ? buf_str_append(b, quote) : e;
    if (e != OK) {
        buf_truncate(b, before); // all or nothing, as every append
    }
    return e;
}

enum err json_append_string(struct buf *b, struct str s) { return append_quoted(b, s, STR("\"")); }

enum err json_append_inside(struct buf *b, struct str s) { return append_quoted(b, s, STR("")); }

void put_json(struct out *o, struct str s) {
    if (o->e == OK) {
        o->e = json_append_string(o->b, s);
    }
}

void put_escaped(struct out *o, struct str s) {
    if (o->e == OK) {
        o->e = json_append_inside(o->b, s);
    }
}

void put_json_or_null(struct out *o, const char *s) {
    if (s) {
        put_json(o, str_c(s));
    } else {
        put_text(o, "null");
    }
}

enum err json_append_number(struct buf *b, double n) {
    char text[32];
    if (!isfinite(n)) {
        return ERR_INVALID;
    }
    for (int digits = 15; digits <= 17; digits++) { // 17 always do
        (void)snprintf(text, sizeof text, "%.*g", digits, n);
        if (strtod(text, NULL) == n) {
            break;
        }
    }
    return buf_str_append(b, str_c(text));
}

// --- reading ---

// yyjson gives memory back only when it is done, so the cap is on the sum of what it asked for.
struct memory {
    size_t left;
    bool over_cap; // a request was refused because of the cap
};

static bool charge(struct memory *m, size_t size) {
    if (size > m->left) {
        m->over_cap = true;
        return false;
    }
    m->left -= size;
    return true;
}

static void *capped_malloc(void *memory, size_t size) { return charge(memory, size) ? try_malloc(size) : NULL; }

static void *capped_realloc(void *memory, void *p, size_t old_size, size_t size) {
    return size <= old_size || charge(memory, size - old_size) ? try_realloc(p, size) : NULL;
}

static void capped_free(void *memory UNUSED, void *p) { free(p); }

struct json {
    struct memory memory;
    yyjson_doc *doc;
    struct str text;
    size_t *starts; // where in the text each value begins, keys included; NULL until it is asked for
};

static enum err read_error(const struct json *json, const yyjson_read_err *e) {
    if (e->code != YYJSON_READ_ERROR_MEMORY_ALLOCATION) {
        return ERR_INVALID;
    }
    return json->memory.over_cap ? ERR_FULL : ERR_NOMEM;
}

enum err json_read(struct str text, size_t memory_cap, struct json **result) {
    struct json *json = text.len ? try_malloc(sizeof *json) : NULL;
    yyjson_read_err e;
    if (!json) {
        return text.len ? ERR_NOMEM : ERR_INVALID;
    }
    *json = (struct json){.memory = {.left = memory_cap}, .text = text};
    yyjson_alc alc = {capped_malloc, capped_realloc, capped_free, &json->memory};
    char *bytes = (char *)(uintptr_t)text.ptr; // copied, not written to, without INSITU
    json->doc = yyjson_read_opts(bytes, text.len, YYJSON_READ_BIGNUM_AS_RAW, &alc, &e);
    if (!json->doc) {
        enum err error = read_error(json, &e);
        free(json);
        return error;
    }
    *result = json;
    return OK;
}

struct json *json_open(struct str text, size_t memory_cap) {
    struct json *json = NULL;
    return json_read(text, memory_cap, &json) == OK ? json : NULL;
}

void json_close(struct json *json) {
    if (json) {
        free(json->starts);
        yyjson_doc_free(json->doc);
        free(json);
    }
}

// A struct json_value is a yyjson_val under another name; none of the readers below writes to it.
static yyjson_val *val(const struct json_value *v) { return (yyjson_val *)(uintptr_t)v; }
static const struct json_value *value(const yyjson_val *v) { return (const struct json_value *)(const void *)v; }

const struct json_value *json_root(const struct json *json) {
    return json ? value(yyjson_doc_get_root(json->doc)) : NULL;
}

enum json_kind json_kind(const struct json_value *v) {
    static const unsigned char kinds[] = {
        [YYJSON_TYPE_RAW] = JSON_NUMBER, // too big for 64 bits
        [YYJSON_TYPE_NULL] = JSON_NULL,  [YYJSON_TYPE_BOOL] = JSON_FALSE, [YYJSON_TYPE_NUM] = JSON_NUMBER,
        [YYJSON_TYPE_STR] = JSON_STRING, [YYJSON_TYPE_ARR] = JSON_ARRAY,  [YYJSON_TYPE_OBJ] = JSON_OBJECT,
    };
    return yyjson_is_true(val(v)) ? JSON_TRUE : (enum json_kind)kinds[yyjson_get_type(val(v))];
}

struct str json_string(const struct json_value *v) {
    return json_is_string(v) ? str_from(yyjson_get_str(val(v)), yyjson_get_len(val(v))) : (struct str){NULL, 0};
}

bool json_number(const struct json_value *v, double *n) {
    double number = 0;
    if (yyjson_is_num(val(v))) {
        number = yyjson_get_num(val(v));
    } else if (yyjson_is_raw(val(v))) {
        number = strtod(yyjson_get_raw(val(v)), NULL); // too big for 64 bits; has a terminator
    } else {
        return false;
    }
    if (!isfinite(number)) {
        return false; // 1e999 is JSON, but no double
    }
    *n = number;
    return true;
}

bool json_u64(const struct json_value *v, uint64_t *n) {
    if (!yyjson_is_uint(val(v))) {
        return false;
    }
    *n = yyjson_get_uint(val(v));
    return true;
}

// --- the bytes of a value ---
//
// yyjson tells no positions, but keeps all values in one array in the order of the text (its DataStructure.md). The
// text is known to be JSON, so that walking over it needs no checks: the n-th value that begins is the n-th there.

static bool is_between(char c) { // values
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == ':' || c == ']' || c == '}';
}

static bool build_index(struct json *json) {
    size_t n = yyjson_doc_get_val_count(json->doc);
    const char *p = json->text.ptr;
    const char *end = p + json->text.len;
    json->starts = capped_malloc(&json->memory, n * sizeof *json->starts);
    for (size_t i = 0; json->starts && i < n; i++) {
        while (is_between(*p)) {
            p++;
        }
        json->starts[i] = (size_t)(p - json->text.ptr);
        p = *p == '[' || *p == '{' ? p + 1 : raw_skip(p, end);
    }
    return json->starts != NULL;
}

struct str json_raw(struct json *json, const struct json_value *v) {
    if (!v || (!json->starts && !build_index(json))) {
        return (struct str){NULL, 0};
    }
    const char *p = json->text.ptr + json->starts[val(v) - yyjson_doc_get_root(json->doc)];
    const char *end = json->text.ptr + json->text.len;
    return str_from(p, (size_t)(raw_skip(p, end) - p));
}

// --- members and items ---

const struct json_value *json_member(const struct json_value *object, const char *name) {
    return value(yyjson_obj_get(val(object), name));
}

const struct json_value *json_find(const struct json_value *object, struct str name) {
    return value(yyjson_obj_getn(val(object), name.ptr, name.len));
}

const struct json_value *json_item(const struct json_value *array, size_t index) {
    return value(yyjson_arr_get(val(array), index));
}

size_t json_length(const struct json_value *array) {
    return json_is_array(array) ? yyjson_arr_size(val(array)) : yyjson_obj_size(val(array));
}

struct json_each json_each(const struct json_value *container) {
    size_t n = json_length(container);
    struct json_each each = {.left = n, .named = json_is_object(container)};
    if (n) {
        each.next = value(unsafe_yyjson_get_first(val(container)));
    }
    return each;
}

bool json_next(struct json_each *each) {
    if (each->left == 0) {
        return false;
    }
    yyjson_val *v = val(each->next);
    if (each->named) {
        each->name = json_string(value(v));
        v++; // a member's value stands right behind its name
    }
    each->value = value(v);
    each->left--;
    if (each->left) {
        each->next = value(unsafe_yyjson_get_next(v));
    }
    return true;
}

const char *json_pick(const struct json_value *object, const char *const *names, size_t n,
                      const struct json_value **values) {
    memset(values, 0, n * sizeof *values);
    for (struct json_each each = json_each(object); json_next(&each);) {
        for (size_t i = 0; each.named && i < n; i++) {
            if (!str_eq(each.name, str_c(names[i]))) {
                continue;
            }
            if (values[i]) {
                return names[i];
            }
            values[i] = each.value;
        }
    }
    return NULL;
}

// --- writing values ---

enum err json_append_value(struct buf *b, const struct json_value *v) {
    yyjson_write_err problem = {0};
    size_t n = 0;
    char *text = yyjson_val_write_opts(val(v), YYJSON_WRITE_NOFLAG, NULL, &n, &problem);
    enum err e = text ? buf_append(b, text, n) : ERR_NOMEM;
    if (!text && problem.code != YYJSON_WRITE_ERROR_MEMORY_ALLOCATION) {
        e = ERR_INVALID;
    }
    free(text);
    return e;
}

struct member {
    struct str name;
    yyjson_val *key;
};

static int by_name(const void *a, const void *b) {
    struct str x = ((const struct member *)a)->name;
    struct str y = ((const struct member *)b)->name;
    int order = memcmp(x.ptr, y.ptr, MIN(x.len, y.len));
    return order ? order : (x.len > y.len) - (x.len < y.len);
}

static enum err append_canonical(struct buf *b, yyjson_val *v, unsigned depth);

static enum err append_members(struct buf *b, yyjson_val *object, unsigned depth) {
    size_t n = yyjson_obj_size(object);
    struct member *members = try_malloc(MAX(n, (size_t)1) * sizeof *members);
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    enum err e = members ? buf_append(b, "{", 1) : ERR_NOMEM;
    for (size_t i = 0; e == OK && i < n; i++) {
        yyjson_val *key = yyjson_obj_iter_next(&iter);
        members[i] = (struct member){str_from(yyjson_get_str(key), yyjson_get_len(key)), key};
    }
    if (e == OK) {
        qsort(members, n, sizeof *members, by_name);
    }
    for (size_t i = 0; e == OK && i < n; i++) {
        e = i ? buf_append(b, ",", 1) : OK;
        e = e == OK ? json_append_string(b, members[i].name) : e;
        e = e == OK ? buf_append(b, ":", 1) : e;
        e = e == OK ? append_canonical(b, yyjson_obj_iter_get_val(members[i].key), depth) : e;
    }
    free(members);
    return e == OK ? buf_append(b, "}", 1) : e;
}

static enum err append_items(struct buf *b, yyjson_val *array, unsigned depth) {
    yyjson_arr_iter iter = yyjson_arr_iter_with(array);
    enum err e = buf_append(b, "[", 1);
    for (size_t i = 0; e == OK && yyjson_arr_iter_has_next(&iter); i++) {
        e = i ? buf_append(b, ",", 1) : OK;
        e = e == OK ? append_canonical(b, yyjson_arr_iter_next(&iter), depth) : e;
    }
    return e == OK ? buf_append(b, "]", 1) : e;
}

static enum err append_canonical(struct buf *b, yyjson_val *v, unsigned depth) {
    bool nests = yyjson_is_obj(v) || yyjson_is_arr(v);
    if (nests && depth == 0) {
        return ERR_INVALID;
    }
    return yyjson_is_obj(v)   ? append_members(b, v, depth - 1)
           : yyjson_is_arr(v) ? append_items(b, v, depth - 1)
                              : json_append_value(b, value(v));
}

enum err json_append_canonical(struct buf *b, const struct json_value *v) {
    return append_canonical(b, val(v), JSON_CANONICAL_DEPTH);
}
