// SPDX-License-Identifier: MIT
// Writing JSON into a buf, and the few readings of it that tests and the mock need. The one place that knows
// yyjson besides peek.c is json.c.
#pragma once
#include <stdbool.h>

#include "base/buf.h"

// Appends s as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD, control characters are escaped.
// All or nothing: on failure the buffer holds what it held.
MUSTCHECK enum err json_append_string(struct buf *b, struct str s);
// Appends a value as JSON without spaces. All or nothing, too; ERR_INVALID for NULL.
struct json_value;
MUSTCHECK enum err json_append_value(struct buf *b, const struct json_value *v);

// Appends what is the same for the same JSON: no spaces, members in the order of their names. ERR_INVALID also where it
// nests deeper than JSON_CANONICAL_DEPTH. On failure the buffer holds more than it held.
enum { JSON_CANONICAL_DEPTH = 64 };
MUSTCHECK enum err json_append_canonical(struct buf *b, const struct json_value *v);

// What is at the front of s, whose first byte is 0x80 or more: how many bytes belong together; *valid tells whether
// they are a character (one that is not is at most three bytes long).
size_t utf8_sequence(struct str s, bool *valid);

// A parsed document, for code that reads many members (the mock). All strings live until json_close.
struct json;
// A struct json_value is opaque; NULL is "not there" and every reader below accepts it
struct json *json_open(struct str text, size_t memory_cap); // NULL: not JSON, or over the cap
void json_close(struct json *json);
const struct json_value *json_root(const struct json *json);
const struct json_value *json_member(const struct json_value *object, const char *name);
const struct json_value *json_find(const struct json_value *object, struct str name); // json_member, name of any bytes
const struct json_value *json_item(const struct json_value *array, size_t index);     // O(n) from the front
size_t json_length(const struct json_value *array); // items of an array, members of an object, else 0
bool json_is_object(const struct json_value *v);
bool json_is_array(const struct json_value *v);
bool json_is_string(const struct json_value *v);
struct str json_string(const struct json_value *v);      // ptr == NULL when it is no string
bool json_true(const struct json_value *v);              // is the literal true
bool json_number(const struct json_value *v, double *n); // false, too, for one that no finite double is near
