// SPDX-License-Identifier: MIT
// Every looked-at request passes here. Nearly all of a body is text, so what counts is how fast plain characters are
// passed over: sixteen at a time. Which containers are open is a bit each: nothing recurses or allocates.
#include "llm/scan.h"

#include <endian.h>
#include <limits.h>

#include "llm/chars.h"
#include "llm/utf8.h"

// Where a step fails: NULL, so that steps can be chained.
static COLD const char *fail(struct scan *s, const char *at, const char *problem) {
    s->p = at;
    s->problem = problem;
    return NULL;
}

static inline bool is_blank(char c) {
    return (unsigned char)c <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t'); // the first decides mostly
}

static inline const char *skip_blanks(const char *p, const char *end) {
    while (p < end && is_blank(*p)) {
        p++;
    }
    return p;
}

// --- strings ---

// The same where fewer than 16 are left.
static COLD unsigned special_at_end(const char *p, size_t left) {
    char last[CHARS] = {0};
    memcpy(last, p, left);
    return chars_special(last) & ((1u << left) - 1);
}

// A hex digit's value with 16 added; 0 for what is none.
static const unsigned char hex_digits[256] = {
    ['0'] = 16, ['1'] = 17, ['2'] = 18, ['3'] = 19, ['4'] = 20, ['5'] = 21, ['6'] = 22, ['7'] = 23,
    ['8'] = 24, ['9'] = 25, ['a'] = 26, ['b'] = 27, ['c'] = 28, ['d'] = 29, ['e'] = 30, ['f'] = 31,
    ['A'] = 26, ['B'] = 27, ['C'] = 28, ['D'] = 29, ['E'] = 30, ['F'] = 31};

// The code unit of the escape \uXXXX at p, or -1.
static inline int unicode_escape(const char *p, const char *end) {
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') {
        return -1;
    }
    int a = hex_digits[(unsigned char)p[2]];
    int b = hex_digits[(unsigned char)p[3]];
    int c = hex_digits[(unsigned char)p[4]];
    int d = hex_digits[(unsigned char)p[5]];
    return a & b & c & d & 16 ? (a & 15) << 12 | (b & 15) << 8 | (c & 15) << 4 | (d & 15) : -1;
}

static bool is_high(int unit) { return unit >= 0xD800 && unit <= 0xDBFF; }
static bool is_low(int unit) { return unit >= 0xDC00 && unit <= 0xDFFF; }

static const char unescaped[256] = {
    ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'};

// Past the escape at p, a surrogate pair being one; p where there is none. How far each step goes depends on branches
// only, on no load: what follows need not wait.
static inline const char *skip_escape(const char *p, const char *end) {
    if (end - p >= 2 && unescaped[(unsigned char)p[1]]) {
        return p + 2;
    }
    int unit = unicode_escape(p, end);
    if (unit >= 0 && !is_high(unit) && !is_low(unit)) {
        return p + 6;
    }
    return is_high(unit) && is_low(unicode_escape(p + 6, end)) ? p + 12 : p;
}

static const char *skip_escapes(const char *p, const char *end) {
    while (p < end && *p == '\\') {
        const char *after = skip_escape(p, end);
        if (after == p) {
            break;
        }
        p = after;
    }
    return p;
}

// How long the character is that x, four bytes with the first one highest, begins with: 2, 3, or 0 for anything else.
// Neither is overlong, nor a surrogate.
static inline unsigned short_character(uint32_t x) {
    uint32_t first = x & 0x0F200000; // five bits of a code of sixteen
    if ((x & 0xF0C0C000) == 0xE0808000 && first != 0 && first != 0x0D200000) {
        return 3;
    }
    return (x & 0xE0C00000) == 0xC0800000 && (x & 0x1E000000) ? 2 : 0;
}

// Past the characters of several bytes at p.
static const char *skip_foreign(const char *p, const char *end) {
    while (end - p >= 4) {
        uint32_t x;
        memcpy(&x, p, sizeof x);
        unsigned n = short_character(be32toh(x));
        if (n == 0) {
            break;
        }
        p += n;
    }
    bool valid = true;
    while (valid && p < end && (signed char)*p < 0) { // of four bytes, or near the end
        size_t n = utf8_sequence(str_from(p, (size_t)(end - p)), &valid);
        p += valid ? n : 0;
    }
    return p;
}

static COLD const char *fail_string(struct scan *s, const char *p) {
    return fail(s, p,
                p == s->end                ? "a string does not end"
                : *p == '\\'               ? "this is no escape"
                : (unsigned char)*p < 0x20 ? "a control character must be escaped"
                                           : "this is not UTF-8");
}

// Past the rest of a string.
static const char *skip_rest(struct scan *s, const char *p, const char *end) {
    while (p < end) {
        unsigned special = 0;
        while (LIKELY(end - p >= (ptrdiff_t)CHARS) && !(special = chars_special(p))) { // nearly all of a prompt
            p += CHARS;
        }
        size_t left = (size_t)(end - p);
        const char *next = p + MIN(left, CHARS);
        special = special ? special : special_at_end(p, left);
        while (special) {
            const char *at = p + __builtin_ctz(special);
            if (*at == '"') {
                return at + 1;
            }
            bool escape = *at == '\\';
            const char *after = escape ? skip_escapes(at, end) : skip_foreign(at, end);
            if (UNLIKELY(after == at)) {
                return fail_string(s, at);
            }
            s->escaped |= escape;
            if (after >= next) {
                next = after;
                break;
            }
            special &= UINT_MAX << (after - p);
        }
        p = next;
    }
    return fail_string(s, end);
}

// Past the string that begins at p. Most are names: short and plain.
static inline const char *skip_string(struct scan *s, const char *p, const char *end) {
    p++;
    if (LIKELY(end - p >= (ptrdiff_t)CHARS)) {
        unsigned special = chars_special(p);
        const char *at = p + __builtin_ctz(special | 1u << 15);
        if (*at == '"') {
            return at + 1;
        }
    }
    return skip_rest(s, p, end);
}

static size_t put_utf8(char *to, unsigned code) {
    static const unsigned char leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len; i-- > 1; code >>= 6) {
        to[i] = (char)(0x80 | (code & 0x3F));
    }
    to[0] = (char)(leads[len] | code);
    return len;
}

// What the escape from p to end stands for; returns its length in UTF-8.
static size_t unescape(const char *p, const char *end, char *to) {
    if (end - p == 2) {
        to[0] = unescaped[(unsigned char)p[1]];
        return 1;
    }
    unsigned code = (unsigned)unicode_escape(p, end);
    if (end - p == 12) {
        code = 0x10000 + ((code - 0xD800) << 10) + ((unsigned)unicode_escape(p + 6, end) - 0xDC00);
    }
    return put_utf8(to, code);
}

bool scan_unescape(struct str inside, char *to, size_t size, size_t *len) {
    const char *p = inside.ptr;
    const char *end = p + inside.len;
    size_t n = 0;
    while (p < end) {
        char bytes[4];
        const char *after = *p == '\\' ? skip_escape(p, end) : p + str_find(str_from(p, (size_t)(end - p)), '\\');
        size_t written = *p == '\\' ? unescape(p, after, bytes) : (size_t)(after - p);
        if (written > size - n) {
            return false;
        }
        memcpy(to + n, *p == '\\' ? bytes : p, written);
        n += written;
        p = after;
    }
    *len = n;
    return true;
}

// --- numbers and literals ---

static inline const char *skip_digits(struct scan *s, const char *p, const char *end) {
    const char *from = p;
    while (p < end && *p >= '0' && *p <= '9') {
        p++;
    }
    return p > from ? p : fail(s, p, "a digit is expected");
}

static const char *skip_number(struct scan *s, const char *p, const char *end) {
    p += *p == '-';
    p = p < end && *p == '0' ? p + 1 : skip_digits(s, p, end);
    if (p && p < end && *p == '.') {
        p = skip_digits(s, p + 1, end);
    }
    if (p && p < end && (*p == 'e' || *p == 'E')) {
        p++;
        p += p < end && (*p == '+' || *p == '-');
        p = skip_digits(s, p, end);
    }
    return p;
}

static inline const char *skip_literal(struct scan *s, const char *p, const char *end, struct str literal) {
    bool is = str_starts(str_from(p, (size_t)(end - p)), literal);
    return is ? p + literal.len : fail(s, p, "a value is expected");
}

static inline const char *skip_scalar(struct scan *s, const char *p, const char *end) {
    switch (p < end ? *p : 0) {
    case '"': return skip_string(s, p, end);
    case 't': return skip_literal(s, p, end, STR("true"));
    case 'f': return skip_literal(s, p, end, STR("false"));
    case 'n': return skip_literal(s, p, end, STR("null"));
    case '-':
    case '0' ... '9': return skip_number(s, p, end);
    default: return fail(s, p, "a value is expected");
    }
}

// --- containers ---

// The string that is a member's name.
static inline const char *skip_name(struct scan *s, const char *p, const char *end) {
    return p < end && *p == '"' ? skip_string(s, p, end) : fail(s, p, "a name in quotes is expected");
}

// What stands between a member's name and its value.
static inline const char *skip_colon(struct scan *s, const char *p, const char *end) {
    p = skip_blanks(p, end);
    return p < end && *p == ':' ? skip_blanks(p + 1, end) : fail(s, p, "a colon is expected");
}

// What follows a value in a container: a comma and the blanks around it, or the closing bracket.
static inline const char *skip_next(struct scan *s, const char *p, const char *end, bool object, bool *closed) {
    p = skip_blanks(p, end);
    *closed = p < end && *p == (object ? '}' : ']');
    if (*closed) {
        return p + 1;
    }
    if (p < end && *p == ',') {
        return skip_blanks(p + 1, end);
    }
    return fail(s, p, object ? "a comma or } is expected" : "a comma or ] is expected");
}

// An opening bracket and what blanks follow; and the closing one where that is next.
static inline const char *skip_opening(const char *p, const char *end, bool object, bool *closed) {
    p = skip_blanks(p + 1, end);
    *closed = p < end && *p == (object ? '}' : ']');
    return p + *closed;
}

// A value inside as many open brackets as `outside` says.
static const char *skip_value(struct scan *s, const char *p, unsigned outside) {
    const char *end = s->end;
    unsigned depth = outside;
    uint64_t objects = 0; // of the brackets open since, the innermost last: 1 is an object's
    for (;;) {
        bool whole = true; // a value ends here, and so may those around it
        if (p < end && (*p == '{' || *p == '[')) {
            if (depth == SCAN_DEPTH_MAX) {
                s->too_deep = true;
                return fail(s, p, "it is nested too deep");
            }
            depth++;
            objects = objects << 1 | (*p == '{');
            p = skip_opening(p, end, objects & 1, &whole);
            depth -= whole;
            objects >>= whole;
        } else if (!(p = skip_scalar(s, p, end))) {
            return NULL;
        }
        while (whole && depth > outside) {
            if (!(p = skip_next(s, p, end, objects & 1, &whole))) {
                return NULL;
            }
            depth -= whole;
            objects >>= whole;
        }
        if (whole) {
            return p;
        }
        if ((objects & 1) && (!(p = skip_name(s, p, end)) || !(p = skip_colon(s, p, end)))) {
            return NULL;
        }
    }
}

// --- the steps ---

static bool go(struct scan *s, const char *p) {
    s->p = p ? p : s->p;
    return p != NULL;
}

void scan_blanks(struct scan *s) { s->p = skip_blanks(s->p, s->end); }

bool scan_value(struct scan *s) { return go(s, skip_value(s, s->p, 0)); }

bool scan_end(struct scan *s) {
    scan_blanks(s);
    return s->p == s->end || fail(s, s->p, "something follows the value");
}

// Past one member and what follows it.
static const char *skip_member(struct scan *s, const char *p, struct scan_member *member, bool *closed) {
    s->escaped = false;
    member->name.ptr = p + 1;
    if (!(p = skip_name(s, p, s->end))) {
        return NULL;
    }
    member->name.len = (size_t)(p - 1 - member->name.ptr);
    member->escaped = s->escaped;
    if (!(p = skip_colon(s, p, s->end))) {
        return NULL;
    }
    member->value.ptr = p;
    if (!(p = skip_value(s, p, 1))) {
        return NULL;
    }
    member->value.len = (size_t)(p - member->value.ptr);
    return skip_next(s, p, s->end, true, closed);
}

bool scan_object(struct scan *s, void (*on_member)(void *arg, const struct scan_member *member), void *arg) {
    bool closed = false;
    const char *p = skip_opening(s->p, s->end, true, &closed);
    while (!closed) {
        struct scan_member member;
        if (!(p = skip_member(s, p, &member, &closed))) {
            return false;
        }
        on_member(arg, &member);
    }
    return go(s, p);
}
