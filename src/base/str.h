// SPDX-License-Identifier: MIT
// Borrowed strings and what is read out of them. A `struct str` never owns its bytes, may contain any byte
// and has no terminator; it is valid as long as what it was taken from. ASCII rules throughout: case folding
// never depends on a locale (RFC 9110 section 5.1: field names are ASCII, case-insensitive).
#pragma once
#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

struct str {
    const char *ptr;
    size_t len;
};

#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_INIT(literal)                                                                                              \
    { "" literal, sizeof(literal) - 1 } // the same in a table
// For printf: "%.*s", STR_ARG(s)
#define STR_ARG(s) (int)(s).len, (s).ptr

static inline struct str str_from(const char *ptr, size_t len) { return (struct str){ptr, len}; }
static inline struct str str_c(const char *c) { return (struct str){c, c ? strlen(c) : 0}; }
static inline bool str_eq(struct str a, struct str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
bool str_ieq(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
// The first position of `byte`, or s.len.
size_t str_find(struct str s, char byte);
// The first position of `needle`, or s.len.
size_t str_search(struct str s, struct str needle);
static inline struct str str_skip(struct str s, size_t n) {
    n = MIN(n, s.len);
    return (struct str){s.ptr + n, s.len - n};
}
static inline struct str str_first(struct str s, size_t n) { return (struct str){s.ptr, MIN(n, s.len)}; }
// Without the spaces and tabs at both ends (OWS of RFC 9110 section 5.6.3).
struct str str_trim(struct str s);
// Takes the part before the next `separator` off the front of *rest; false when nothing was left.
bool str_split(struct str *rest, char separator, struct str *part);
// Heap copy with a terminator; the caller frees it.
char *str_dup(struct str s);

static inline char ascii_lower(char c) { return (c >= 'A' && c <= 'Z') ? (char)(c | 0x20) : c; }
// The value of a hex digit, or -1.
int hex_value(char c);

// Plain decimal digits only (no sign, no space, no leading plus): what Content-Length allows.
MUSTCHECK enum err parse_u64(struct str s, uint64_t *value);
// "250ms", "5s", "2m", "1h", "1.5s", "0"; a bare number other than 0 has no unit and is refused.
MUSTCHECK enum err parse_duration_ms(struct str s, uint64_t *ms);
// The same, to the microsecond: "0.5ms" and "20us" too.
MUSTCHECK enum err parse_duration_us(struct str s, uint64_t *us);
// A number of seconds without a unit: "5", "0.25".
MUSTCHECK enum err parse_seconds_ms(struct str s, uint64_t *ms);
// "64k", "8m", "1g", "1t" (1024 each), or bytes.
MUSTCHECK enum err parse_size(struct str s, uint64_t *bytes);
// The shortest form that parse_duration_ms and parse_size read back. Return what was written, as snprintf.
int format_duration(char *out, size_t size, uint64_t ms);
int format_size(char *out, size_t size, uint64_t bytes);

// Decimal digits without a terminator; returns one past the last. `out` has room for FORMAT_U64_MAX bytes.
enum { FORMAT_U64_MAX = 20 };
char *format_u64(char *out, uint64_t value);

// Of `n` names the one that `wrong` was most likely meant to be; NULL where none is near
// (optimal string alignment distance, Damerau 1964, at most a third of the length).
const char *str_nearest(struct str wrong, const char *const *names, size_t n);
