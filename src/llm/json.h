// SPDX-License-Identifier: MIT
// Writing JSON into a buf, and reading documents of which many members are wanted. The one place that knows
// yyjson is json.c.
#pragma once
#include <stdbool.h>

#include "base/out.h"

// Appends s as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD, control characters are escaped.
// All or nothing: on failure the buffer holds what it held.
MUSTCHECK enum err json_append_string(struct buf *b, struct str s);
// The same without the quotes.
MUSTCHECK enum err json_append_inside(struct buf *b, struct str s);

// The same into an `out`: as a JSON string; the inside of one, without quotes, so that pieces of one text may follow each
// other (a character that is cut in two is lost); a JSON string, or null.
void put_json(struct out *o, struct str s);
void put_escaped(struct out *o, struct str s);
void put_json_or_null(struct out *o, const char *s);

// Appends a number in the shortest form that reads back as the same double; ERR_INVALID when it is not finite.
MUSTCHECK enum err json_append_number(struct buf *b, double n);

// Appends a value as JSON without spaces. All or nothing, too; ERR_INVALID for NULL.
struct json_value;
MUSTCHECK enum err json_append_value(struct buf *b, const struct json_value *v);

// Appends what is the same for the same JSON: no spaces, members in the order of their names. ERR_INVALID also where it
// nests deeper than JSON_CANONICAL_DEPTH. On failure the buffer holds more than it held.
enum { JSON_CANONICAL_DEPTH = 64 };
MUSTCHECK enum err json_append_canonical(struct buf *b, const struct json_value *v);

// A parsed document, for code that reads many members. All strings live until json_close; the text itself is
// looked at again by json_raw only, and must live as long as that is called and its slices are used.
struct json;
struct json_value; // opaque; NULL is "not there" and every reader below accepts it
// ERR_INVALID: not JSON; ERR_FULL: over the cap; ERR_NOMEM. Any nesting is taken: whoever recurses looks at depth first.
MUSTCHECK enum err json_read(struct str text, size_t memory_cap, struct json **json);
struct json *json_open(struct str text, size_t memory_cap); // the same, NULL for all three
void json_close(struct json *json);
const struct json_value *json_root(const struct json *json);

enum json_kind { JSON_NONE, JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
enum json_kind json_kind(const struct json_value *v); // JSON_NONE: not there
static inline bool json_is_object(const struct json_value *v) { return json_kind(v) == JSON_OBJECT; }
static inline bool json_is_array(const struct json_value *v) { return json_kind(v) == JSON_ARRAY; }
static inline bool json_is_string(const struct json_value *v) { return json_kind(v) == JSON_STRING; }
static inline bool json_true(const struct json_value *v) { return json_kind(v) == JSON_TRUE; }

struct str json_string(const struct json_value *v);      // unescaped; ptr == NULL when it is no string
bool json_number(const struct json_value *v, double *n); // false, too, for one that no finite double is near
bool json_u64(const struct json_value *v, uint64_t *n);  // digits only, without sign, point and exponent; in range

// The exact bytes of a value in the text that was opened: numbers and escapes as they were written. A string has its
// quotes. The first call indexes the document, in O(length of the text) and with 8 bytes a value; each costs
// O(length of the value). ptr == NULL: v is not there, or there is no memory for the index.
struct str json_raw(struct json *json, const struct json_value *v);

const struct json_value *json_member(const struct json_value *object, const char *name); // the first of that name
const struct json_value *json_find(const struct json_value *object, struct str name); // the same, a name of any bytes
const struct json_value *json_item(const struct json_value *array, size_t index);     // O(n) from the front
size_t json_length(const struct json_value *array); // items of an array, members of an object, else 0

// Members that decide something may occur once only, however they are spelt: two parsers may disagree on which of two
// counts, and what was checked would be the other one (facts A32). Finds all `names` in one pass: values[i] is the
// member names[i], or NULL. Returns the name that occurs twice, or NULL when none does.
MUSTCHECK const char *json_pick(const struct json_value *object, const char *const *names, size_t n,
                                const struct json_value **values);

// Steps over the members of an object or the items of an array in the order of the text, O(1) each:
//     for (struct json_each each = json_each(v); json_next(&each);) { each.name, each.value }
// Anything else has no steps.
struct json_each {
    struct str name; // of a member, unescaped; ptr == NULL for an item
    const struct json_value *value;
    // private
    const struct json_value *next;
    size_t left;
    bool named;
};
struct json_each json_each(const struct json_value *container);
bool json_next(struct json_each *each);
