// SPDX-License-Identifier: MIT
// Name/value pairs in order: header fields, as every layer from http/ to tape/ passes them on. The array is
// the caller's, the strings are borrowed; names compare without case (RFC 9110 section 5.1), the order of
// equal names is kept (section 5.3). What outlives its source is packed into one block of bytes.
#pragma once
#include "base/str.h"

// Names that somebody decides on have an id (fields.def), found once when a field is added; later comparisons are of
// numbers. What a name is good for are its flags.
enum field_id {
    FIELD_OTHER,
#define FIELD(id, text, flags) FIELD_##id,
#include "base/fields.def"
#undef FIELD
    FIELD_COUNT
};
enum field_flag {
    FIELD_HOP = 1,        // belongs to one connection: RFC 9110 section 7.6.1, RFC 9113 section 8.2.2
    FIELD_CREDENTIAL = 2, // may carry who the client is
    FIELD_PRIVATE = 4,    // between the client and us, or about the way to us (RFC 7239): no upstream's business
    FIELD_TAPE = 8,       // asks for a tape to be kept, found again, or read from a position
    FIELD_CORS = 16,      // answers what pages of another origin may do (Fetch standard, section 3.3)
};
enum field_id field_id(struct str name);
unsigned field_flags(enum field_id id);
// In lower case, constant; empty for FIELD_OTHER.
struct str field_name(enum field_id id);

struct field {
    struct str name;
    struct str value;
    enum field_id id;
};

struct fields {
    struct field *v;
    unsigned n;
    unsigned cap;
};

// Fields on the caller's array: struct field room[32]; struct fields f = FIELDS(room);
#define FIELDS(array) ((struct fields){.v = (array), .n = 0, .cap = ARRAY_LEN(array)})

// ERR_FULL when the array is.
MUSTCHECK enum err fields_add(struct fields *f, struct str name, struct str value);
// A copy of a field, with what is known of its name.
MUSTCHECK enum err fields_push(struct fields *f, const struct field *field);
// The first field of that name, NULL if there is none.
const struct field *fields_find(const struct fields *f, enum field_id id);
// Its value, or an empty string with ptr == NULL.
struct str fields_value(const struct fields *f, enum field_id id);
unsigned fields_count(const struct fields *f, enum field_id id);
// Takes every field of that name, or with any of these flags, out.
void fields_remove(struct fields *f, enum field_id id);
void fields_remove_flagged(struct fields *f, unsigned flags);

// A copy of all of them with what they point to, in one piece of memory, which is returned for `free`; *to lies in it. NULL:
// there is none.
MUSTCHECK void *fields_copy(const struct fields *f, struct fields *to);

// Packed: [count] then per field [id][name length][value length][name][value]. Numbers below 255 take one byte, others
// a byte of 255 and four more.
size_t fields_packed_size(const struct fields *f);
// `out` has fields_packed_size(f) bytes; returns one past the last byte written.
char *fields_pack(const struct fields *f, char *out);
// Appends the packed fields to f, borrowing from `packed`; returns one past its last byte, NULL if f is full.
const char *fields_unpack(struct fields *f, const char *packed);
