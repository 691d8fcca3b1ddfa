// SPDX-License-Identifier: MIT
// The table of keys (keys.def) as data, and what can be looked up in it.
#pragma once
#include "config/config.h"

// How a value is written and what it is stored as. The functions for each are in value.c.
#define CONFIG_KINDS(KIND)                                                                                             \
    KIND(LISTEN, struct str)                                                                                           \
    KIND(ADMIN, struct str) /* in a config, whose admin_asked it sets too */                                           \
    KIND(PREFIX, struct str)                                                                                           \
    KIND(PATH, struct str)                                                                                             \
    KIND(URL, struct str) /* in a config_upstream, whose tls, host, port, base_path and mock it sets too */            \
    KIND(SECRET, struct str)                                                                                           \
    KIND(BOOL, bool)                                                                                                   \
    KIND(COUNT, unsigned)                                                                                              \
    KIND(SIZE, uint64_t)                                                                                               \
    KIND(NUMBER, uint64_t)                                                                                             \
    KIND(FRACTION, double)      /* at most three digits behind the point */                                            \
    KIND(DURATION, uint64_t)    /* milliseconds */                                                                     \
    KIND(DURATION_US, uint64_t) /* microseconds */                                                                     \
    KIND(PAUSE, uint64_t)       /* milliseconds, or off: 0 */                                                          \
    KIND(MEMORY, uint64_t)      /* bytes, or auto: 0 */                                                                \
    KIND(LOG, struct str)       /* empty: off */                                                                       \
    KIND(IN_FLIGHT, struct config_in_flight)                                                                           \
    KIND(DISCONNECT, struct config_disconnect)                                                                         \
    KIND(WAIT, struct config_wait)                                                                                     \
    KIND(READER, bool)     /* key or id */                                                                             \
    KIND(BACKGROUND, bool) /* upstream or thaw */                                                                      \
    KIND(HTTP, enum config_http)                                                                                       \
    KIND(STORE, struct str)                                                                                            \
    KIND(MODEL, struct str)                                                                                            \
    KIND(TEMPLATE, struct template)                                                                                    \
    KIND(CLIENT_KEY, struct config_key *) /* of lists: one entry, file:PATH several */                                 \
    KIND(REFERENCE, struct config_use *)  /* of lists: upstream or upstream/model; equals with | between */            \
    KIND(ORIGIN, struct str *)            /* of lists */

enum kind {
#define KIND(name, type) KIND_##name,
    CONFIG_KINDS(KIND)
#undef KIND
        KIND_COUNT_OF
};

enum section {
#define SECTION(name, type) SECTION_##name,
#include "config/keys.def"
    SECTION_COUNT_OF
};

enum shape { SHAPE_SCALAR, SHAPE_LIST, SHAPE_GROUP, SHAPE_MAP, SHAPE_ENTRIES, SHAPE_HEADING };

enum presence {
    PRESENCE_DEFAULT,
    PRESENCE_REQUIRED,
    PRESENCE_OPTIONAL,
    PRESENCE_USUAL,
    PRESENCE_INHERITED,
    PRESENCE_ALSO,
};

struct key {
    enum section section;
    enum shape shape;
    enum kind kind; // of a scalar, or of each entry of a list
    enum presence presence;
    const char *name;
    const char *sample;    // the default; an example where there is none; the documented entry of a map
    const char *more;      // of a map: a second entry, in full
    const char *min, *max; // as written; of lists, maps and entries: how many
    const char *text;
    enum section inner;  // of the keys inside a group or an entry; of the key whose rules this one follows
    size_t offset;       // in the section's struct
    size_t count_offset; // lists, maps and entries
    size_t entry_size;   // likewise
    size_t name_offset;  // maps: in an entry
    const char *(*name_check)(struct str name); // maps: may an entry be called that? NULL, or why not
    bool at_start;                              // a reload cannot change it
    uint32_t own;                               // the bit that says that this key was set; 0: none does
    size_t own_offset;                          // of the uint32_t with that bit
};

// Room for one entry of any map.
union config_entry {
#define SECTION(name, type) type name;
#include "config/keys.def"
};

extern const struct key config_keys[];
extern const unsigned config_key_rows;

// NULL: there is no such key.
const struct key *key_find(enum section section, struct str name);
// The names of a section's keys, in the table's order; returns how many. `names` has room for all.
enum { KEY_NAMES_MAX = 160 };
size_t key_names(enum section section, const char *names[KEY_NAMES_MAX]);
// The key whose range and default hold for this one: itself, or the one it follows.
const struct key *key_rule(const struct key *key);

static inline void *key_place(const struct key *key, void *base) { return (char *)base + key->offset; }
// Did the entry set the key itself?
bool key_is_own(const struct key *key, const void *base);
// A scalar's value is copied from another key of its kind; is the same in both (of numbers and texts: padding counts).
void key_copy(const struct key *key, void *base, const struct key *from_key, const void *from);
bool key_same(const struct key *key, const void *base, const void *other);
unsigned key_count(const struct key *key, const void *base);
// Adds a copy of `entry` at the end of a list or map. ERR_NOMEM leaves it as it was.
MUSTCHECK enum err key_add_entry(const struct key *key, struct arena *arena, void *base, const void *entry);
