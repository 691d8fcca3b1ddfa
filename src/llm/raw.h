// SPDX-License-Identifier: MIT
// Reading JSON where it lies: a value is its bytes in the text, as they were written; ptr == NULL is "not there", and
// every reader below accepts it. No memory, and nothing is converted that is not asked for: what looks at a few members
// of a request need not pay for a document (llm/json.h) of all of it.
#pragma once
#include "llm/json.h"

// Checks the whole text, strictly (llm/scan.h), and finds the wanted members of the object that it is: values[i] is the
// first that is called names[i], however it is spelt. False: it is no JSON, no object, or nested too deep.
MUSTCHECK bool raw_open(struct str text, const struct str *names, size_t n, struct str *values);

// All that follows wants values of a text that was checked.

enum json_kind raw_kind(struct str value);
static inline bool raw_is_string(struct str value) { return value.ptr && *value.ptr == '"'; }
static inline bool raw_is_array(struct str value) { return value.ptr && *value.ptr == '['; }
static inline bool raw_is_object(struct str value) { return value.ptr && *value.ptr == '{'; }
static inline bool raw_true(struct str value) { return raw_kind(value) == JSON_TRUE; }
static inline struct str raw_inside(struct str string) { // between its quotes, as written
    return str_from(string.ptr + 1, string.len - 2);
}
bool raw_number(struct str value, double *n); // as json_number; of a value inside of another

// Unescaped: in the text, or in `room` if there were escapes. ptr == NULL: no string, or one for which that is too small.
struct str raw_string(struct str value, char *room, size_t size);
// Is it the string that says so? Of at most RAW_NAME bytes.
enum { RAW_NAME = 32 };
bool raw_says(struct str value, struct str text);
// Appends it unescaped; nothing for what is no string. All or nothing.
MUSTCHECK enum err raw_append(struct buf *b, struct str value);

// As raw_open, of a value that was checked; finds nothing in what is no object.
void raw_pick(struct str object, const struct str *names, size_t n, struct str *values);
struct str raw_member(struct str object, struct str name);

// Steps over the items of an array; anything else has none:
//     for (struct raw_each each = raw_each(value); raw_next(&each);) { each.value }
struct raw_each {
    struct str value;
    // private
    const char *p;
    const char *end;
};
struct raw_each raw_each(struct str array);
bool raw_next(struct raw_each *each);
// The same with raw_pick on the way: one walk for both.
bool raw_next_pick(struct raw_each *each, const struct str *names, size_t n, struct str *values);
// Are there more behind the last one?
static inline bool raw_more(const struct raw_each *each) { return each->p < each->end; }

// One past the value that begins at p; the text goes on to `end` at most.
const char *raw_skip(const char *p, const char *end);
