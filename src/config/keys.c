// SPDX-License-Identifier: MIT
#include "config/keys.h"

#include "config/address.h"

#define SECTION(name, type) typedef type section_##name;
#include "config/keys.def"

#define KIND(name, type) typedef type kind_##name;
CONFIG_KINDS(KIND)
#undef KIND

// A row that stores into a member of another type does not compile.
#define SAME_TYPE(where, member, type)                                                                                 \
    _Static_assert(__builtin_types_compatible_p(__typeof__(((section_##where *)0)->member), type),                     \
                   #member " is of another type than its row in keys.def says");
#define KEY(where, key_name, key_kind, member, ...) SAME_TYPE(where, member, kind_##key_kind)
#define NOTED(where, key_name, key_kind, member, bits, ...)                                                            \
    SAME_TYPE(where, member, kind_##key_kind) SAME_TYPE(where, bits, uint32_t)
#define INHERIT NOTED
#define ALSO NOTED
#define LIST(where, key_name, key_kind, member, counter, ...)                                                          \
    SAME_TYPE(where, member, kind_##key_kind) SAME_TYPE(where, counter, unsigned)
#define MAP(where, key_name, entry, member, counter, naming, ...)                                                      \
    SAME_TYPE(where, member, section_##entry *)                                                                        \
    SAME_TYPE(where, counter, unsigned)                                                                                \
    SAME_TYPE(entry, naming, struct str)
#define ENTRIES(where, key_name, entry, member, counter, ...)                                                          \
    SAME_TYPE(where, member, section_##entry *)                                                                        \
    SAME_TYPE(where, counter, unsigned)
#include "config/keys.def"

#define DEFAULT(value) .presence = PRESENCE_DEFAULT, .sample = value
#define REQUIRED(value) .presence = PRESENCE_REQUIRED, .sample = value
#define OPTIONAL(value) .presence = PRESENCE_OPTIONAL, .sample = value
#define USUAL(value) .presence = PRESENCE_USUAL, .sample = value
#define AT_START .at_start = true,
#define RANGE(least, most) .min = least, .max = most
#define ANY .min = NULL, .max = NULL

#define HEADING(where, words) {.section = SECTION_##where, .shape = SHAPE_HEADING, .name = "", .text = words},
#define KEY(where, key_name, key_kind, member, usage, range, words)                                                    \
    {.section = SECTION_##where,                                                                                       \
     .shape = SHAPE_SCALAR,                                                                                            \
     .kind = KIND_##key_kind,                                                                                          \
     .name = key_name,                                                                                                 \
     .text = words,                                                                                                    \
     .offset = offsetof(section_##where, member),                                                                      \
     usage,                                                                                                            \
     range},
#define NOTED(where, key_name, key_kind, member, bits, bit, usage, range, words)                                       \
    {.section = SECTION_##where,                                                                                       \
     .shape = SHAPE_SCALAR,                                                                                            \
     .kind = KIND_##key_kind,                                                                                          \
     .name = key_name,                                                                                                 \
     .text = words,                                                                                                    \
     .offset = offsetof(section_##where, member),                                                                      \
     .own = bit,                                                                                                       \
     .own_offset = offsetof(section_##where, bits),                                                                    \
     usage,                                                                                                            \
     range},
#define LIST(where, key_name, key_kind, member, counter, usage, range, words)                                          \
    {.section = SECTION_##where,                                                                                       \
     .shape = SHAPE_LIST,                                                                                              \
     .kind = KIND_##key_kind,                                                                                          \
     .name = key_name,                                                                                                 \
     .text = words,                                                                                                    \
     .offset = offsetof(section_##where, member),                                                                      \
     .count_offset = offsetof(section_##where, counter),                                                               \
     .entry_size = sizeof *((section_##where *)0)->member,                                                             \
     usage,                                                                                                            \
     range},
#define GROUP(where, key_name, inside, words)                                                                          \
    {.section = SECTION_##where,                                                                                       \
     .shape = SHAPE_GROUP,                                                                                             \
     .name = key_name,                                                                                                 \
     .text = words,                                                                                                    \
     .presence = PRESENCE_USUAL,                                                                                       \
     .inner = SECTION_##inside},
#define MAP(where, key_name, entry, member, counter, naming, may_be, range, usage, second, words)                      \
    {.section = SECTION_##where,                                                                                       \
     .shape = SHAPE_MAP,                                                                                               \
     .name = key_name,                                                                                                 \
     .text = words,                                                                                                    \
     .inner = SECTION_##entry,                                                                                         \
     .offset = offsetof(section_##where, member),                                                                      \
     .count_offset = offsetof(section_##where, counter),                                                               \
     .name_offset = offsetof(section_##entry, naming),                                                                 \
     .name_check = may_be,                                                                                             \
     .entry_size = sizeof(section_##entry),                                                                            \
     usage,                                                                                                            \
     .more = second,                                                                                                   \
     range},
#define ENTRIES(where, key_name, entry, member, counter, range, usage, words)                                          \
    {.section = SECTION_##where,                                                                                       \
     .shape = SHAPE_ENTRIES,                                                                                           \
     .name = key_name,                                                                                                 \
     .text = words,                                                                                                    \
     .inner = SECTION_##entry,                                                                                         \
     .offset = offsetof(section_##where, member),                                                                      \
     .count_offset = offsetof(section_##where, counter),                                                               \
     .entry_size = sizeof(section_##entry),                                                                            \
     usage,                                                                                                            \
     range},
#define FOLLOW(where, key_name, key_kind, member, bits, bit, other, words, how)                                        \
    {.section = SECTION_##where,                                                                                       \
     .shape = SHAPE_SCALAR,                                                                                            \
     .kind = KIND_##key_kind,                                                                                          \
     .name = key_name,                                                                                                 \
     .text = words,                                                                                                    \
     .presence = how,                                                                                                  \
     .inner = SECTION_##other,                                                                                         \
     .offset = offsetof(section_##where, member),                                                                      \
     .own = bit,                                                                                                       \
     .own_offset = offsetof(section_##where, bits)},
#define INHERIT(where, key_name, key_kind, member, bits, bit, other, words)                                            \
    FOLLOW(where, key_name, key_kind, member, bits, bit, other, words, PRESENCE_INHERITED)
#define ALSO(where, key_name, key_kind, member, bits, bit, other)                                                      \
    FOLLOW(where, key_name, key_kind, member, bits, bit, other, "", PRESENCE_ALSO)

const struct key config_keys[] = {
#include "config/keys.def"
};
const unsigned config_key_rows = ARRAY_LEN(config_keys);

const struct key *key_find(enum section section, struct str name) {
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *key = &config_keys[i];
        if (key->section == section && key->shape != SHAPE_HEADING && str_eq(str_c(key->name), name)) {
            return key;
        }
    }
    return NULL;
}

size_t key_names(enum section section, const char *names[KEY_NAMES_MAX]) {
    _Static_assert(ARRAY_LEN(config_keys) <= KEY_NAMES_MAX, "KEY_NAMES_MAX is too small");
    size_t n = 0;
    for (unsigned i = 0; i < config_key_rows; i++) {
        if (config_keys[i].section == section && config_keys[i].shape != SHAPE_HEADING) {
            names[n++] = config_keys[i].name;
        }
    }
    return n;
}

const struct key *key_rule(const struct key *key) {
    bool follows = key->presence == PRESENCE_INHERITED || key->presence == PRESENCE_ALSO;
    return follows ? key_find(key->inner, str_c(key->name)) : key;
}

// What a kind's values are made of.
static const struct {
    size_t size;
    bool text;
} stored[] = {
#define KIND(name, type) [KIND_##name] = {sizeof(type), __builtin_types_compatible_p(type, struct str)},
    CONFIG_KINDS(KIND)
#undef KIND
};

bool key_is_own(const struct key *key, const void *base) {
    uint32_t own;
    memcpy(&own, (const char *)base + key->own_offset, sizeof own);
    return own & key->own;
}

void key_copy(const struct key *key, void *base, const struct key *from_key, const void *from) {
    memcpy(key_place(key, base), (const char *)from + from_key->offset, stored[key->kind].size);
}

bool key_same(const struct key *key, const void *base, const void *other) {
    const void *a = (const char *)base + key->offset;
    const void *b = (const char *)other + key->offset;
    if (stored[key->kind].text) {
        return str_eq(*(const struct str *)a, *(const struct str *)b);
    }
    return memcmp(a, b, stored[key->kind].size) == 0;
}

unsigned key_count(const struct key *key, const void *base) {
    unsigned count;
    memcpy(&count, (const char *)base + key->count_offset, sizeof count);
    return count;
}

// Entries lie in a block whose size is the power of two that holds them, so no capacity needs to be kept; a
// block that was outgrown stays in the arena (as much again, at most). The array's pointer is one of several
// types, hence memcpy.
enum err key_add_entry(const struct key *key, struct arena *arena, void *base, const void *entry) {
    unsigned count = key_count(key, base);
    char *entries;
    memcpy(&entries, key_place(key, base), sizeof entries);
    if ((count & (count - 1)) == 0) {
        char *grown = arena_alloc(arena, (count ? (size_t)count * 2 : 1) * key->entry_size);
        if (!grown) {
            return ERR_NOMEM;
        }
        if (count) {
            memcpy(grown, entries, count * key->entry_size);
        }
        entries = grown;
    }
    memcpy(entries + count * key->entry_size, entry, key->entry_size);
    count++;
    memcpy(key_place(key, base), &entries, sizeof entries);
    memcpy((char *)base + key->count_offset, &count, sizeof count);
    return OK;
}
