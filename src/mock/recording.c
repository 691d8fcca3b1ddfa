// SPDX-License-Identifier: MIT
#include "mock/recording.h"

#include "llm/json.h"
#include "llm/utf8.h"

#define FIRST_LINE "thaw-recording 1"

enum { NS_DIGITS = 6, STATUS_MIN = 200, STATUS_MAX = 599 };
static const uint64_t MS_MAX = (uint64_t)30 * 24 * 3600 * 1000;

// ---- reading

// A line off the front of *rest, without its end; false at the end of the text.
static bool take_line(struct str *rest, struct str *line) {
    if (rest->len == 0) {
        return false;
    }
    *line = str_first(*rest, str_find(*rest, '\n'));
    *rest = str_skip(*rest, line->len + 1);
    return true;
}

static bool take_word(struct str *s, const char *word) {
    if (!str_starts(*s, str_c(word))) {
        return false;
    }
    *s = str_skip(*s, strlen(word));
    return true;
}

// "@812.00025": milliseconds, the fraction up to the nanosecond.
static bool parse_at(struct str s, uint64_t *ns) {
    uint64_t ms = 0;
    uint64_t fraction = 0;
    size_t point = str_find(s, '.');
    struct str digits = str_skip(s, point + 1);
    if (!take_word(&s, "@") || point == 0 || parse_u64(str_first(s, point - 1), &ms) != OK || ms > MS_MAX) {
        return false;
    }
    if (point <= s.len && (digits.len > NS_DIGITS || parse_u64(digits, &fraction) != OK)) {
        return false;
    }
    for (size_t i = digits.len; i < NS_DIGITS; i++) {
        fraction *= 10;
    }
    *ns = ms * 1000000 + fraction;
    return true;
}

static bool parse_hex(struct str s, struct digest *digest) {
    for (size_t i = 0; s.len == 2 * sizeof digest->bytes && i < sizeof digest->bytes; i++) {
        int high = hex_value(s.ptr[2 * i]);
        int low = hex_value(s.ptr[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        digest->bytes[i] = (unsigned char)(high << 4 | low);
    }
    return s.len == 2 * sizeof digest->bytes;
}

static bool is_graphic(struct str s, bool blanks) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == 0x7f || (c <= ' ' && !(blanks && (c == ' ' || c == '\t')))) {
            return false;
        }
    }
    return true;
}

static bool parse_field(struct str line, struct str *name, struct str *value) {
    size_t colon = str_find(line, ':');
    *name = str_first(line, colon);
    *value = str_trim(str_skip(line, colon + 1));
    return colon > 0 && colon < line.len && is_graphic(*name, false) && is_graphic(*value, true);
}

static const char *read_request(struct str s, struct recording *r) {
    size_t blank = str_find(s, ' ');
    r->method = str_first(s, blank);
    r->target = str_skip(s, blank + 1);
    bool fine = r->method.len && (str_starts(r->target, STR("/")) || str_eq(r->target, STR("*"))) &&
                is_graphic(s, true) && is_graphic(r->target, false);
    return fine ? NULL : "a request is a method and a path, as 'POST /v1/responses'";
}

static const char *read_body(struct str s, struct recording *r) {
    r->any_body = str_eq(s, STR("*"));
    return r->any_body || parse_hex(s, &r->body) ? NULL : "a body is 64 hex digits, or *";
}

static const char *read_status(struct str s, struct recording *r) {
    uint64_t status = 0;
    bool fine = parse_u64(str_first(s, 3), &status) == OK && status >= STATUS_MIN && status <= STATUS_MAX &&
                s.len > 4 && s.ptr[3] == ' ' && parse_at(str_skip(s, 4), &r->head_ns);
    r->status = (int)status;
    return fine ? NULL : "a status is a number and a time, as '200 @812.5'";
}

static const char *read_length(struct str s, struct recording *r) {
    uint64_t n = 0;
    bool fine = parse_u64(s, &n) == OK && n <= INT64_MAX;
    r->length = fine ? (int64_t)n : -1;
    return fine ? NULL : "a length is a number";
}

static const struct keyword {
    const char *word;
    const char *(*read)(struct str rest, struct recording *r); // NULL, or what is wrong
    bool needed;
} keywords[] = {
    {"request ", read_request, true},
    {"body ", read_body, true},
    {"status ", read_status, true},
    {"length ", read_length, false},
};

static const char *read_head_line(struct str line, struct recording *r, unsigned *seen, unsigned *fields) {
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        struct str rest = line;
        if (take_word(&rest, keywords[i].word)) {
            if (*seen & 1u << i) {
                return "this was said before";
            }
            *seen |= 1u << i;
            return keywords[i].read(rest, r);
        }
    }
    struct str name;
    struct str value;
    if (!parse_field(line, &name, &value)) {
        return "neither a keyword nor a field, as 'Content-Type: text/plain'";
    }
    if (field_flags(field_id(name)) & FIELD_HOP) {
        return "this field is made when the answer is sent";
    }
    return ++*fields > RECORDING_FIELDS_MAX ? "there are more than 100 fields" : NULL;
}

static const char *missing(unsigned seen) {
    static const char *const problems[] = {"there is no request", "there is no body", "there is no status"};
    for (size_t i = 0; i < ARRAY_LEN(problems); i++) {
        if (keywords[i].needed && !(seen & 1u << i)) {
            return problems[i];
        }
    }
    return NULL;
}

// Up to the blank line.
static const char *read_head(struct str *rest, struct recording *r, unsigned *number) {
    unsigned seen = 0;
    unsigned fields = 0;
    struct str line;
    const char *start = rest->ptr;
    while (take_line(rest, &line)) {
        ++*number;
        if (line.len == 0) {
            r->fields = str_from(start, (size_t)(line.ptr - start));
            return missing(seen);
        }
        const char *problem = line.ptr[0] == '#' ? NULL : read_head_line(line, r, &seen, &fields);
        if (problem) {
            return problem;
        }
    }
    return "there is no blank line behind the fields";
}

// How many bytes a line stands for.
static size_t decoded_len(struct str line) {
    size_t n = line.ptr[0] == '|';
    for (size_t i = 1; i < line.len; n++) {
        bool escape = line.ptr[i] == '\\' && i + 3 < line.len && line.ptr[i + 1] == 'x' &&
                      hex_value(line.ptr[i + 2]) >= 0 && hex_value(line.ptr[i + 3]) >= 0;
        i += escape ? 4 : 1;
    }
    return n;
}

static bool parse_end(struct str line, bool *whole, uint64_t *at_ns) {
    *whole = take_word(&line, "end ");
    return (*whole || take_word(&line, "cut ")) && parse_at(line, at_ns);
}

static const char *read_pieces(struct str rest, struct recording *r, unsigned *number) {
    struct str line;
    uint64_t at_ns = 0;
    bool open = false;
    const char *start = rest.ptr;
    while (take_line(&rest, &line)) {
        ++*number;
        if (parse_end(line, &r->whole, &at_ns)) {
            r->pieces = str_from(start, (size_t)(line.ptr + line.len - start));
            return rest.len ? "there is something behind the end" : NULL;
        }
        bool bytes = line.len && (line.ptr[0] == '|' || line.ptr[0] == '>');
        if (bytes && open) {
            r->bytes += decoded_len(line);
        } else if (!bytes && parse_at(line, &at_ns)) {
            open = true;
        } else {
            return "neither a time, as '@812.5', nor a line of the body, which begins with | or >";
        }
    }
    return "there is no end, as 'end @1200.5'";
}

enum err recording_parse(struct str text, struct recording *r, unsigned *line, const char **problem) {
    struct str first;
    *r = (struct recording){.length = -1};
    *line = 1;
    if (!take_line(&text, &first) || !str_eq(first, STR(FIRST_LINE))) {
        *problem = "the first line must be '" FIRST_LINE "'";
        return ERR_INVALID;
    }
    *problem = read_head(&text, r, line);
    *problem = *problem ? *problem : read_pieces(text, r, line);
    return *problem ? ERR_INVALID : OK;
}

bool recording_field(struct str *fields, struct str *name, struct str *value) {
    struct str line;
    while (take_line(fields, &line)) {
        bool keyword = line.len == 0 || line.ptr[0] == '#';
        for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
            keyword = keyword || str_starts(line, str_c(keywords[i].word));
        }
        if (!keyword && parse_field(line, name, value)) {
            return true;
        }
    }
    return false;
}

enum recording_part recording_next(struct str *pieces, uint64_t *at_ns, struct str *lines) {
    struct str line = {NULL, 0};
    bool whole = false;
    take_line(pieces, &line);
    if (parse_end(line, &whole, at_ns)) {
        return whole ? RECORDING_END : RECORDING_CUT;
    }
    (void)parse_at(line, at_ns); // was checked
    struct str rest = *pieces;
    size_t n = 0;
    while (take_line(&rest, &line) && line.len && (line.ptr[0] == '|' || line.ptr[0] == '>')) {
        n = pieces->len - rest.len;
    }
    *lines = str_first(*pieces, n);
    *pieces = str_skip(*pieces, n);
    return RECORDING_PIECE;
}

enum err recording_decode(struct str lines, struct buf *out) {
    struct str line;
    while (take_line(&lines, &line)) {
        enum err e = buf_reserve(out, line.len);
        if (e != OK) {
            return e;
        }
        char *at = buf_tail(out);
        size_t n = decoded_len(line) - (line.ptr[0] == '|');
        for (size_t i = 1, done = 0; done < n; done++) {
            bool escape = line.ptr[i] == '\\' && i + 3 < line.len && line.ptr[i + 1] == 'x' &&
                          hex_value(line.ptr[i + 2]) >= 0 && hex_value(line.ptr[i + 3]) >= 0;
            *at++ = escape ? (char)(hex_value(line.ptr[i + 2]) << 4 | hex_value(line.ptr[i + 3])) : line.ptr[i];
            i += escape ? 4 : 1;
        }
        buf_added(out, n);
        e = line.ptr[0] == '|' ? buf_append(out, "\n", 1) : OK;
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

// ---- writing

static void put_at(struct out *o, uint64_t ns) {
    char text[40];
    int n = snprintf(text, sizeof text, "@%llu.%06llu", (unsigned long long)(ns / 1000000),
                     (unsigned long long)(ns % 1000000));
    put(o, str_from(text, (size_t)n));
}

void recording_put_head(struct out *o, const struct recording *r, const struct fields *fields) {
    put_text(o, FIRST_LINE "\nrequest ");
    put(o, r->method);
    put_text(o, " ");
    put(o, r->target);
    put_text(o, "\nbody ");
    for (size_t i = 0; !r->any_body && i < sizeof r->body.bytes; i++) {
        char hex[3];
        snprintf(hex, sizeof hex, "%02x", r->body.bytes[i]);
        put(o, str_c(hex));
    }
    put(o, r->any_body ? STR("*\nstatus ") : STR("\nstatus "));
    put_u64(o, (uint64_t)r->status);
    put_text(o, " ");
    put_at(o, r->head_ns);
    put_text(o, "\n");
    if (r->length >= 0) {
        put_text(o, "length ");
        put_u64(o, (uint64_t)r->length);
        put_text(o, "\n");
    }
    for (unsigned i = 0; i < fields->n; i++) {
        put(o, fields->v[i].name);
        put_text(o, ": ");
        put(o, fields->v[i].value);
        put_text(o, "\n");
    }
    put_text(o, "\n");
}

// How many bytes at the front of s may stand as they are.
static size_t plain_run(struct str s) {
    size_t n = 0;
    while (n < s.len) {
        unsigned char c = (unsigned char)s.ptr[n];
        bool valid = (c >= ' ' && c < 0x7f && !(c == '\\' && n + 1 < s.len && s.ptr[n + 1] == 'x')) || c == '\t';
        size_t more = c < 0x80 ? 1 : utf8_sequence(str_skip(s, n), &valid);
        if (!valid) {
            break;
        }
        n += more;
    }
    return n;
}

static void put_line(struct out *o, struct str line) {
    while (line.len) {
        size_t run = plain_run(line);
        put(o, str_first(line, run));
        line = str_skip(line, run);
        if (line.len) {
            char escape[5];
            snprintf(escape, sizeof escape, "\\x%02x", (unsigned char)line.ptr[0]);
            put(o, str_c(escape));
            line = str_skip(line, 1);
        }
    }
    put_text(o, "\n");
}

void recording_put_piece(struct out *o, uint64_t at_ns, struct str bytes) {
    put_at(o, at_ns);
    put_text(o, "\n");
    while (bytes.len) {
        size_t n = str_find(bytes, '\n');
        put(o, n < bytes.len ? STR("|") : STR(">"));
        put_line(o, str_first(bytes, n));
        bytes = str_skip(bytes, n + 1);
    }
}

void recording_put_end(struct out *o, uint64_t at_ns, bool whole) {
    put(o, whole ? STR("end ") : STR("cut "));
    put_at(o, at_ns);
    put_text(o, "\n");
}
