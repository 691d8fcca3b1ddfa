// SPDX-License-Identifier: MIT
// Name/value pairs in order: header fields, as every layer from http/ to tape/ passes them on. The array is
// the caller's, the strings are borrowed; names compare without case (RFC 9110 section 5.1), the order of
// equal names is kept (section 5.3). What outlives its source is packed into one block of bytes.
#pragma once
#include "base/str.h"

struct field {
    struct str name;
    struct str value;
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
// The first field of that name, NULL if there is none.
const struct field *fields_find(const struct fields *f, struct str name);
// Its value, or an empty string with ptr == NULL.
struct str fields_value(const struct fields *f, struct str name);
unsigned fields_count(const struct fields *f, struct str name);

// Packed: [count] then per field [name length][value length][name][value]. Numbers below 255 take one byte, others a
// byte of 255 and four more.
size_t fields_packed_size(const struct fields *f);
// `out` has fields_packed_size(f) bytes; returns one past the last byte written.
char *fields_pack(const struct fields *f, char *out);
// Appends the packed fields to f, borrowing from `packed`; returns one past its last byte, NULL if f is full.
const char *fields_unpack(struct fields *f, const char *packed);
