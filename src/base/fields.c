// SPDX-License-Identifier: MIT
#include "base/fields.h"

#include <assert.h>

#include "base/mem.h"

static const unsigned char flags_of[] = {
    0,
#define FIELD(id, text, flags) flags,
#include "base/fields.def"
#undef FIELD
};

unsigned field_flags(enum field_id id) { return flags_of[id]; }

static const struct str name_of[] = {
    STR_INIT(""),
#define FIELD(id, text, flags) STR_INIT(text),
#include "base/fields.def"
#undef FIELD
};

struct str field_name(enum field_id id) {
    return name_of[id];
}

// The table is sorted by length: a row of another length costs a comparison of numbers, the first longer one ends it.
// Of one length most names (x-...) begin alike; few end alike, too.
enum field_id field_id(struct str name) {
    char first = name.len ? (char)(name.ptr[0] | 0x20) : '\0';
    char last = name.len ? (char)(name.ptr[name.len - 1] | 0x20) : '\0';
#define FIELD(id, text, flags)                                                                                         \
    if (name.len <= sizeof(text) - 1) {                                                                                \
        if (name.len < sizeof(text) - 1) {                                                                             \
            return FIELD_OTHER;                                                                                        \
        }                                                                                                              \
        if (first == (text)[0] && last == (text)[sizeof(text) - 2] && str_ieq(name, STR(text))) {                      \
            return FIELD_##id;                                                                                         \
        }                                                                                                              \
    }
#include "base/fields.def"
#undef FIELD
    return FIELD_OTHER;
}

enum err fields_push(struct fields *f, const struct field *field) {
    if (f->n == f->cap) {
        return ERR_FULL;
    }
    f->v[f->n++] = *field;
    return OK;
}

enum err fields_add(struct fields *f, struct str name, struct str value) {
    struct field field = {name, value, field_id(name)};
    return fields_push(f, &field);
}

const struct field *fields_find(const struct fields *f, enum field_id id) {
    for (unsigned i = 0; i < f->n; i++) {
        if (f->v[i].id == id) {
            return &f->v[i];
        }
    }
    return NULL;
}

struct str fields_value(const struct fields *f, enum field_id id) {
    const struct field *found = fields_find(f, id);
    return found ? found->value : (struct str){NULL, 0};
}

unsigned fields_count(const struct fields *f, enum field_id id) {
    unsigned n = 0;
    for (unsigned i = 0; i < f->n; i++) {
        n += f->v[i].id == id;
    }
    return n;
}

void fields_remove(struct fields *f, enum field_id id) {
    unsigned kept = 0;
    while (kept < f->n && f->v[kept].id != id) { // mostly it is not there
        kept++;
    }
    for (unsigned i = kept; i < f->n; i++) {
        if (f->v[i].id != id) {
            f->v[kept++] = f->v[i];
        }
    }
    f->n = kept;
}

void fields_remove_flagged(struct fields *f, unsigned flags) {
    unsigned kept = 0;
    for (unsigned i = 0; i < f->n; i++) {
        if (!(field_flags(f->v[i].id) & flags)) {
            if (kept != i) {
                f->v[kept] = f->v[i];
            }
            kept++;
        }
    }
    f->n = kept;
}

enum { LONG_NUMBER = 255 };

static size_t number_size(size_t value) { return value < LONG_NUMBER ? 1 : 1 + sizeof(uint32_t); }

static char *put_number(char *out, size_t value) {
    uint32_t v = (uint32_t)value; // heads are limited to far less
    if (value < LONG_NUMBER) {
        *out = (char)value;
        return out + 1;
    }
    *out = (char)LONG_NUMBER;
    memcpy(out + 1, &v, sizeof v);
    return out + 1 + sizeof v;
}

static const char *get_number(const char *in, uint32_t *value) {
    *value = (unsigned char)*in++;
    if (*value < LONG_NUMBER) {
        return in;
    }
    memcpy(value, in, sizeof *value);
    return in + sizeof *value;
}

static char *put_bytes(char *out, struct str s) {
    if (s.len) {
        memcpy(out, s.ptr, s.len);
    }
    return out + s.len;
}

size_t fields_packed_size(const struct fields *f) {
    size_t size = number_size(f->n);
    for (unsigned i = 0; i < f->n; i++) {
        const struct field *field = &f->v[i];
        size += 1 + number_size(field->name.len) + number_size(field->value.len) + field->name.len + field->value.len;
    }
    return size;
}

char *fields_pack(const struct fields *f, char *out) {
    out = put_number(out, f->n);
    for (unsigned i = 0; i < f->n; i++) {
        *out++ = (char)f->v[i].id;
        out = put_number(out, f->v[i].name.len);
        out = put_number(out, f->v[i].value.len);
        out = put_bytes(out, f->v[i].name);
        out = put_bytes(out, f->v[i].value);
    }
    return out;
}

const char *fields_unpack(struct fields *f, const char *packed) {
    uint32_t n = 0;
    packed = get_number(packed, &n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t name_len = 0;
        uint32_t value_len = 0;
        enum field_id id = (enum field_id) * packed++;
        packed = get_number(packed, &name_len);
        packed = get_number(packed, &value_len);
        struct field field = {str_from(packed, name_len), str_from(packed + name_len, value_len), id};
        if (fields_push(f, &field) != OK) {
            return NULL;
        }
        packed += (size_t)name_len + value_len;
    }
    return packed;
}

void *fields_copy(const struct fields *f, struct fields *to) {
    size_t array = f->n * sizeof(struct field);
    char *memory = try_malloc(MAX(array + fields_packed_size(f), (size_t)1));
    if (memory) {
        *to = (struct fields){(struct field *)(void *)memory, 0, f->n};
        fields_pack(f, memory + array);
        const char *end = fields_unpack(to, memory + array);
        assert(end);
        (void)end;
    }
    return memory;
}
