// SPDX-License-Identifier: MIT
// Writing: runs of bytes that need no escape are copied at once; a string that is not UTF-8 is mended the way
// browsers do (one U+FFFD per maximal part of a sequence, Unicode 15 section 3.9), so that what is written is
// always JSON. Reading: a thin cover over yyjson, so that no other file knows it.
#include "llm/json.h"

#include <math.h>
#include <yyjson.h>

#include "base/mem.h"
#include "llm/capped.h"

static const struct str replacement = {"\xEF\xBF\xBD", 3}; // U+FFFD

// What may follow a lead byte (Unicode 15, table 3-7): the sequence's length and the second byte's range.
// This is what excludes overlong forms, surrogates and what lies beyond U+10FFFF.
static const struct lead {
    unsigned char first, last; // lead bytes
    unsigned char len;
    unsigned char low, high; // of the second byte
} leads[] = {
    {0xC2, 0xDF, 2, 0x80, 0xBF}, {0xE0, 0xE0, 3, 0xA0, 0xBF}, {0xE1, 0xEC, 3, 0x80, 0xBF}, {0xED, 0xED, 3, 0x80, 0x9F},
    {0xEE, 0xEF, 3, 0x80, 0xBF}, {0xF0, 0xF0, 4, 0x90, 0xBF}, {0xF1, 0xF3, 4, 0x80, 0xBF}, {0xF4, 0xF4, 4, 0x80, 0x8F},
};

size_t utf8_sequence(struct str s, bool *valid) {
    const unsigned char *p = (const unsigned char *)s.ptr;
    *valid = false;
    for (size_t i = 0; i < ARRAY_LEN(leads); i++) {
        const struct lead *lead = &leads[i];
        if (p[0] < lead->first || p[0] > lead->last) {
            continue;
        }
        if (s.len < 2 || p[1] < lead->low || p[1] > lead->high) {
            return 1;
        }
        size_t n = 2;
        while (n < lead->len && n < s.len && (p[n] & 0xC0) == 0x80) {
            n++;
        }
        *valid = n == lead->len;
        return n;
    }
    return 1;
}

static bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x80 && c != '"' && c != '\\'; }

// How many bytes at the front of s are written as they are.
static size_t plain_run(struct str s) {
    size_t n = 0;
    while (n < s.len) {
        bool valid = false;
        if (is_plain((unsigned char)s.ptr[n])) {
            n++;
        } else if ((unsigned char)s.ptr[n] < 0x80) {
            break;
        } else {
            size_t sequence = utf8_sequence(str_skip(s, n), &valid);
            if (!valid) {
                break;
            }
            n += sequence;
        }
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
    return buf_str_append(b, replacement);
}

static enum err append_quoted(struct buf *b, struct str s) {
    enum err e = buf_append(b, "\"", 1);
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
    return e == OK ? buf_append(b, "\"", 1) : e;
}

enum err json_append_string(struct buf *b, struct str s) {
    enum err e = buf_reserve(b, s.len + 2); // what is written is never shorter: one growth in most cases
    if (e != OK) {
        return e;
    }
    size_t before = buf_len(b);
    e = append_quoted(b, s);
    if (e != OK) {
        b->end = b->start + before; // all or nothing, as every append
    }
    return e;
}

struct json {
    struct capped memory;
    yyjson_doc *doc;
};

struct json *json_open(struct str text, size_t memory_cap) {
    struct json *json = try_malloc(sizeof *json);
    if (!json) {
        return NULL;
    }
    capped_init(&json->memory, NULL, 0, memory_cap);
    yyjson_alc alc = {capped_malloc, capped_realloc, capped_free, &json->memory};
    // Without INSITU the text is copied, not written to.
    char *bytes = (char *)(uintptr_t)text.ptr;
    json->doc = text.len ? yyjson_read_opts(bytes, text.len, YYJSON_READ_BIGNUM_AS_RAW, &alc, NULL) : NULL;
    if (!json->doc) {
        free(json);
        return NULL;
    }
    return json;
}

void json_close(struct json *json) {
    if (json) {
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

bool json_is_object(const struct json_value *v) { return yyjson_is_obj(val(v)); }
bool json_is_array(const struct json_value *v) { return yyjson_is_arr(val(v)); }
bool json_is_string(const struct json_value *v) { return yyjson_is_str(val(v)); }
bool json_true(const struct json_value *v) { return yyjson_is_true(val(v)); }

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
