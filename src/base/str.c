// SPDX-License-Identifier: MIT
#include "base/str.h"

#include <inttypes.h>

#include "base/mem.h"

static const uint64_t CASE_BITS = 0x2020202020202020u; // all that two letters alike may differ in

// Eight bytes at a time, lowered: a byte in 'A'..'Z' (and below 0x80) gets bit 5.
static uint64_t lower8(uint64_t x) {
    const uint64_t ones = 0x0101010101010101u;
    uint64_t low7 = x & (0x7f * ones);
    uint64_t from_a = low7 + (0x80 - 'A') * ones;       // bit 7: 'A' or above
    uint64_t beyond_z = low7 + (0x80 - 'Z' - 1) * ones; // bit 7: above 'Z'
    uint64_t upper = from_a & ~beyond_z & ~x & (0x80 * ones);
    return x | upper >> 2;
}

static bool same8(const char *a, const char *b) {
    uint64_t x;
    uint64_t y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x == y || (!((x ^ y) & ~CASE_BITS) && lower8(x) == lower8(y));
}

static bool same4(const char *a, const char *b) {
    uint32_t x;
    uint32_t y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x == y || (!((x ^ y) & ~(uint32_t)CASE_BITS) && lower8(x) == lower8(y));
}

bool str_ieq(struct str a, struct str b) {
    size_t n = a.len;
    if (n != b.len) {
        return false;
    }
    if (n >= 8) { // the last eight overlap those before
        for (size_t i = 0; i + 8 < n; i += 8) {
            if (!same8(a.ptr + i, b.ptr + i)) {
                return false;
            }
        }
        return same8(a.ptr + n - 8, b.ptr + n - 8);
    }
    if (n >= 4) {
        return same4(a.ptr, b.ptr) && same4(a.ptr + n - 4, b.ptr + n - 4);
    }
    for (size_t i = 0; i < n; i++) {
        if (ascii_lower(a.ptr[i]) != ascii_lower(b.ptr[i])) {
            return false;
        }
    }
    return true;
}

bool str_starts(struct str s, struct str prefix) {
    return s.len >= prefix.len && str_eq(str_first(s, prefix.len), prefix);
}

bool str_ends(struct str s, struct str suffix) {
    return s.len >= suffix.len && str_eq(str_skip(s, s.len - suffix.len), suffix);
}

size_t str_find(struct str s, char byte) {
    const char *at = s.len ? memchr(s.ptr, byte, s.len) : NULL;
    return at ? (size_t)(at - s.ptr) : s.len;
}

size_t str_search(struct str s, struct str needle) {
    if (needle.len == 0) {
        return 0; // and memmem must not see a NULL
    }
    const char *at = s.len ? memmem(s.ptr, s.len, needle.ptr, needle.len) : NULL;
    return at ? (size_t)(at - s.ptr) : s.len;
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

struct str str_trim(struct str s) {
    while (s.len && is_blank(s.ptr[0])) {
        s = str_skip(s, 1);
    }
    while (s.len && is_blank(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

bool str_split(struct str *rest, char separator, struct str *part) {
    if (!rest->ptr) {
        return false;
    }
    size_t at = str_find(*rest, separator);
    *part = str_first(*rest, at);
    *rest = at < rest->len ? str_skip(*rest, at + 1) : (struct str){NULL, 0};
    return true;
}

char *str_dup(struct str s) {
    char *copy = xmalloc(s.len + 1);
    if (s.len) {
        memcpy(copy, s.ptr, s.len);
    }
    copy[s.len] = '\0';
    return copy;
}

int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum err parse_u64(struct str s, uint64_t *value) {
    uint64_t v = 0;
    if (s.len == 0) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return ERR_INVALID;
        }
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v)) {
            return ERR_FULL;
        }
    }
    *value = v;
    return OK;
}

struct unit {
    const char *name;
    uint64_t factor;
};
static const struct unit durations[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
static const struct unit fine_durations[] = {
    {"h", 3600000000}, {"m", 60000000}, {"s", 1000000}, {"ms", 1000}, {"us", 1}};
static const struct unit sizes[] = {{"t", (uint64_t)1 << 40}, {"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}};

// Digits with at most three after a point, times the unit's factor.
static enum err parse_scaled(struct str number, uint64_t factor, uint64_t *value) {
    size_t dot = str_find(number, '.');
    uint64_t whole = 0;
    uint64_t thousandths = 0;
    enum err e = parse_u64(str_first(number, dot), &whole);
    if (e != OK) {
        return e;
    }
    if (dot < number.len) {
        struct str fraction = str_skip(number, dot + 1);
        if (fraction.len > 3 || (e = parse_u64(fraction, &thousandths)) != OK) {
            return ERR_INVALID;
        }
        for (size_t i = fraction.len; i < 3; i++) {
            thousandths *= 10;
        }
    }
    if (thousandths * factor % 1000) {
        return ERR_INVALID; // finer than the unit can say: "0.5ms" must not become 0
    }
    if (__builtin_mul_overflow(whole, factor, &whole) ||
        __builtin_add_overflow(whole, thousandths * factor / 1000, value)) {
        return ERR_FULL;
    }
    return OK;
}

static enum err parse_with_unit(struct str s, const struct unit *units, size_t n, uint64_t *value) {
    size_t digits = 0;
    while (digits < s.len && ((s.ptr[digits] >= '0' && s.ptr[digits] <= '9') || s.ptr[digits] == '.')) {
        digits++;
    }
    struct str unit = str_skip(s, digits);
    for (size_t i = 0; i < n; i++) {
        if (str_ieq(unit, str_c(units[i].name))) {
            return parse_scaled(str_first(s, digits), units[i].factor, value);
        }
    }
    return ERR_INVALID;
}

static enum err parse_duration(struct str s, const struct unit *units, size_t n, uint64_t *value) {
    if (str_eq(s, STR("0"))) {
        *value = 0;
        return OK;
    }
    return parse_with_unit(s, units, n, value);
}

enum err parse_duration_ms(struct str s, uint64_t *ms) {
    return parse_duration(s, durations, ARRAY_LEN(durations), ms);
}

enum err parse_duration_us(struct str s, uint64_t *us) {
    return parse_duration(s, fine_durations, ARRAY_LEN(fine_durations), us);
}

enum err parse_seconds_ms(struct str s, uint64_t *ms) { return parse_scaled(s, 1000, ms); }

enum err parse_size(struct str s, uint64_t *bytes) {
    enum err e = parse_u64(s, bytes);
    return e == ERR_INVALID ? parse_with_unit(s, sizes, ARRAY_LEN(sizes), bytes) : e;
}

static int format_with_unit(char *out, size_t size, uint64_t v, const struct unit *units, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (v && v % units[i].factor == 0) {
            return snprintf(out, size, "%" PRIu64 "%s", v / units[i].factor, units[i].name);
        }
    }
    return snprintf(out, size, "%" PRIu64, v);
}

int format_duration(char *out, size_t size, uint64_t ms) {
    return format_with_unit(out, size, ms, durations, ARRAY_LEN(durations));
}

int format_size(char *out, size_t size, uint64_t bytes) {
    return format_with_unit(out, size, bytes, sizes, ARRAY_LEN(sizes));
}

// Where they go is known first, by comparing: so nothing is copied afterwards, and two digits come of one division.
char *format_u64(char *out, uint64_t value) {
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445"
        "46474849505152535455565758596061626364656667686970717273747576777879808182838485868788"
        "8990919293949596979899";
    unsigned digits = 1;
    for (uint64_t power = 10; digits < FORMAT_U64_MAX && value >= power; power *= 10) {
        digits++;
    }
    char *at = out + digits;
    for (; value >= 100; value /= 100) {
        at -= 2;
        memcpy(at, pairs + value % 100 * 2, 2);
    }
    if (value >= 10) {
        memcpy(out, pairs + value * 2, 2);
    } else {
        *out = (char)('0' + value);
    }
    return out + digits;
}

enum { NEAREST_MAX = 63 }; // longer words are no typing slips

static size_t edit_distance(struct str a, struct str b) {
    size_t rows[3][NEAREST_MAX + 1];
    size_t *before = rows[0];
    size_t *last = rows[1];
    size_t *row = rows[2];
    for (size_t j = 0; j <= b.len; j++) {
        last[j] = j;
        before[j] = 0;
    }
    for (size_t i = 1; i <= a.len; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            char x = ascii_lower(a.ptr[i - 1]);
            char y = ascii_lower(b.ptr[j - 1]);
            size_t d = last[j - 1] + (x != y);
            d = MIN(d, MIN(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && x == ascii_lower(b.ptr[j - 2]) && ascii_lower(a.ptr[i - 2]) == y) {
                d = MIN(d, before[j - 2] + 1);
            }
            row[j] = d;
        }
        size_t *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[b.len];
}

const char *str_nearest(struct str wrong, const char *const *names, size_t n) {
    const char *best = NULL;
    size_t best_distance = MAX(wrong.len / 3, 1) + 1;
    if (wrong.len > NEAREST_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        struct str name = str_c(names[i]);
        if (name.len > NEAREST_MAX) {
            continue;
        }
        size_t d = edit_distance(wrong, name);
        if (d < best_distance) {
            best_distance = d;
            best = names[i];
        }
    }
    return best;
}
