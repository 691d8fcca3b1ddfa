// SPDX-License-Identifier: MIT
#include "mock/faults.h"

#include <assert.h>

enum { NO_NUMBER, NUMBER, NUMBER_IF_ANY };
enum { SPLIT_MS = 5, FIELD_BYTES = 1024 };

// A row per name. Where it acts:
enum place {
    WHILE_SENT,
    BEFORE_HEAD, // instead of the head
    AT_END,      // after `n` tokens, or behind everything: instead of the end
};

static const struct row {
    const char *name;
    const char *example;
    enum fault_kind kind;
    enum place place;
    int number;       // is there one in the name?
    unsigned n, most; // where it is not told; the largest
    const char *raw;  // what is written below HTTP
} rows[] = {
    {"none", "none", FAULT_NONE, WHILE_SENT, NO_NUMBER, 0, 0, ""},
    {"hang", "hang", FAULT_HANG, BEFORE_HEAD, NO_NUMBER, 0, 0, ""},
    {"hang-head", "hang-head", FAULT_HANG_AT, AT_END, NO_NUMBER, 0, 0, ""},
    {"hang", "hang-3", FAULT_HANG_AT, AT_END, NUMBER, 0, UINT32_MAX - 1, ""},
    {"close-before-head", "close-before-head", FAULT_CLOSE, BEFORE_HEAD, NO_NUMBER, 0, 0, ""},
    {"reset-before-head", "reset-before-head", FAULT_RESET, BEFORE_HEAD, NO_NUMBER, 0, 0, ""},
    {"garbage", "garbage", FAULT_GARBAGE, BEFORE_HEAD, NO_NUMBER, 0, 0, "\x16\x03\x01 no HTTP\r\n\r\n"},
    {"cut", "cut-7", FAULT_CUT_AT, AT_END, NUMBER, 0, UINT32_MAX - 1, ""},
    {"reset", "reset-7", FAULT_RESET_AT, AT_END, NUMBER, 0, UINT32_MAX - 1, ""},
    {"end", "end-7", FAULT_END_AT, WHILE_SENT, NUMBER, 0, UINT32_MAX - 1, ""},
    {"error", "error-7", FAULT_ERROR_AT, WHILE_SENT, NUMBER, 0, UINT32_MAX - 1, ""},
    {"drip", "drip", FAULT_DRIP, WHILE_SENT, NUMBER_IF_ANY, 10, 3600 * 1000, ""},
    {"malformed-chunk", "malformed-chunk", FAULT_CHUNK, AT_END, NO_NUMBER, 1, 0, "zz\r\nno chunk\r\n0\r\n\r\n"},
    {"wrong-length", "wrong-length", FAULT_LONG, AT_END, NO_NUMBER, UINT32_MAX, 0, ""},
    {"wrong-length-short", "wrong-length-short", FAULT_SHORT, AT_END, NO_NUMBER, UINT32_MAX, 0, "{\"more\":\"bytes\"}"},
    {"invalid-json", "invalid-json", FAULT_JSON, WHILE_SENT, NO_NUMBER, 1, 0, ""},
    {"utf8-cut", "utf8-cut", FAULT_UTF8_CUT, WHILE_SENT, NO_NUMBER, 1, 0, ""},
    {"utf8-split", "utf8-split", FAULT_UTF8_SPLIT, WHILE_SENT, NO_NUMBER, 0, 0, ""},
    {"1xx-storm", "1xx-storm", FAULT_INTERIM, WHILE_SENT, NUMBER_IF_ANY, 100, 10000, ""},
    {"header-bomb", "header-bomb", FAULT_HEAD, WHILE_SENT, NUMBER_IF_ANY, 64, FAULT_FIELDS, ""},
    {"empty", "empty", FAULT_EMPTY, WHILE_SENT, NO_NUMBER, 0, 0, ""},
    {"html", "html", FAULT_HTML, WHILE_SENT, NO_NUMBER, 0, 0, ""},
};

static const struct row *row_of(const struct fault *f) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].kind == f->kind) {
            return &rows[i];
        }
    }
    return &rows[0];
}

// ---- names

static bool parse_number(struct str s, unsigned least, unsigned most, unsigned *n) {
    uint64_t value = 0;
    if (parse_u64(s, &value) != OK || value < least || value > most) {
        return false;
    }
    *n = (unsigned)value;
    return true;
}

static bool row_matches(const struct row *row, struct str name, struct fault *fault) {
    struct str rest = str_skip(name, strlen(row->name));
    if (!str_starts(name, str_c(row->name))) {
        return false;
    }
    *fault = (struct fault){row->kind, row->n};
    if (rest.len == 0) {
        return row->number != NUMBER;
    }
    return row->number != NO_NUMBER && rest.ptr[0] == '-' &&
           parse_number(str_skip(rest, 1), row->number == NUMBER ? 0 : 1, row->most, &fault->n);
}

bool fault_parse(struct str name, struct fault *fault) {
    struct fault found = {.kind = FAULT_STATUS};
    if (name.len == 3 && parse_number(name, 400, 599, &found.n)) {
        *fault = found;
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (row_matches(&rows[i], name, &found)) {
            *fault = found;
            return true;
        }
    }
    return false;
}

const char *fault_example(size_t i) { return i < ARRAY_LEN(rows) ? rows[i].example : NULL; }

// ---- rates

// "5", "0.1": digits, perhaps with one point among them.
static bool parse_percent(struct str s, double *share) {
    char text[16] = "";
    unsigned points = 0;
    if (s.len == 0 || s.len >= sizeof text) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        bool point = s.ptr[i] == '.' && i > 0;
        points += point;
        if (!point && (s.ptr[i] < '0' || s.ptr[i] > '9')) {
            return false;
        }
        text[i] = s.ptr[i];
    }
    *share = strtod(text, NULL) / 100;
    return points <= 1 && *share <= 1;
}

const char *fault_parse_rate(struct str text, struct fault_rate *rate) {
    size_t colon = str_find(text, ':');
    struct str name = str_first(text, colon);
    struct str percent = str_skip(text, colon + 1);
    if (!str_ends(percent, STR("%")) || !parse_percent(str_first(percent, percent.len - 1), &rate->share)) {
        return "a fault and its share of the calls, as 429:5% or hang:0.1%";
    }
    if (str_eq(name, STR("close-on-accept"))) {
        rate->fault = (struct fault){.kind = FAULT_ACCEPT};
        return NULL;
    }
    return fault_parse(name, &rate->fault) ? NULL : "a fault that 'thaw mock --help' lists, as cut-7:5%";
}

struct fault fault_by_rate(const struct fault_rate *rates, size_t n, bool accept, double chance) {
    double left = chance;
    for (size_t i = 0; i < n; i++) {
        if ((rates[i].fault.kind == FAULT_ACCEPT) != accept) {
            continue;
        }
        if (left < rates[i].share) {
            return rates[i].fault;
        }
        left -= rates[i].share;
    }
    return (struct fault){.kind = FAULT_NONE};
}

// ---- what they do

bool fault_before_head(const struct fault *f) { return row_of(f)->place == BEFORE_HEAD; }

bool fault_at_end(const struct fault *f) { return row_of(f)->place == AT_END; }

unsigned fault_halt(const struct fault *f) {
    static const enum fault_kind halting[] = {FAULT_HANG_AT,  FAULT_CUT_AT, FAULT_RESET_AT, FAULT_END_AT,
                                              FAULT_ERROR_AT, FAULT_CHUNK,  FAULT_JSON,     FAULT_UTF8_CUT};
    for (size_t i = 0; i < ARRAY_LEN(halting); i++) {
        if (f->kind == halting[i]) {
            return f->n;
        }
    }
    return UINT32_MAX;
}

bool fault_in_portions(const struct fault *f) { return f->kind == FAULT_DRIP || f->kind == FAULT_UTF8_SPLIT; }

size_t fault_portion(const struct fault *f, struct str bytes) {
    size_t n = 0;
    if (f->kind == FAULT_DRIP) {
        return MIN(bytes.len, (size_t)1);
    }
    while (n < bytes.len && (unsigned char)bytes.ptr[n] < 0xC0) {
        n++;
    }
    return MIN(n + 1, bytes.len); // with the first byte of a character
}

uint64_t fault_pause_ms(const struct fault *f) { return f->kind == FAULT_DRIP ? f->n : SPLIT_MS; }

void fault_fields(const struct fault *fault, struct fields *f) {
    static const char value[FIELD_BYTES - sizeof "x-bomb: \r\n" + 1] = {[0 ... FIELD_BYTES - sizeof "x-bomb: \r\n"] =
                                                                            'x'};
    for (unsigned i = 0; fault->kind == FAULT_HEAD && i < fault->n; i++) {
        enum err e = fields_add(f, STR("x-bomb"), str_from(value, sizeof value));
        assert(e == OK); // there is room for the largest n
        (void)e;
    }
}

struct str fault_raw(const struct fault *f) {
    return str_c(row_of(f)->raw);
}
