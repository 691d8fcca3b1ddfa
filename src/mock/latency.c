// SPDX-License-Identifier: MIT
#include "mock/latency.h"

#include <math.h>

#include "base/mem.h"
#include "mock/draw.h"

enum { LINE_MAX_BYTES = 256, SAMPLES_MAX = 1000 * 1000, TRIES = 64 };

static const double P99 = 2.3263478740408408; // standard deviations

// ---- the kinds

struct latency_sample {
    size_t count;
    uint64_t us[];
};

struct kind {
    struct str name;
    char separator; // between its two durations
    const char *wanted;
    bool (*set)(struct latency *l, uint64_t a_us, uint64_t b_us); // false: they do not go together
    double (*draw)(const struct latency *l, uint64_t key, uint64_t n);
};

static bool set_uniform(struct latency *l, uint64_t a_us, uint64_t b_us) {
    l->a = (double)a_us;
    l->b = (float)b_us;
    return a_us <= b_us;
}

static double draw_uniform(const struct latency *l, uint64_t key, uint64_t n) {
    return l->a + ((double)l->b - l->a) * draw_unit(key, n);
}

// Standard normal: Box and Muller 1958.
static double draw_z(uint64_t key, uint64_t n) {
    return sqrt(-2 * log(draw_unit(key, 2 * n))) * cos(2 * M_PI * draw_unit(key, 2 * n + 1));
}

static bool set_normal(struct latency *l, uint64_t a_us, uint64_t b_us) {
    l->a = (double)a_us;
    l->b = (float)b_us;
    return true;
}

// What is below 0 is drawn again: at least every second one is not, since no mean is negative.
static double draw_normal(const struct latency *l, uint64_t key, uint64_t n) {
    uint64_t own = draw_bits(key, n);
    double us = -1;
    for (unsigned i = 0; us < 0 && i < TRIES; i++) {
        us = l->a + (double)l->b * draw_z(own, i);
    }
    return fmax(us, 0);
}

static bool set_lognormal(struct latency *l, uint64_t median_us, uint64_t p99_us) {
    if (median_us == 0 || p99_us < median_us) {
        return false;
    }
    l->a = log((double)median_us);
    l->b = (float)((log((double)p99_us) - l->a) / P99);
    return true;
}

static double draw_lognormal(const struct latency *l, uint64_t key, uint64_t n) {
    return exp(l->a + (double)l->b * draw_z(draw_bits(key, n), 0));
}

static double draw_sample(const struct latency *l, uint64_t key, uint64_t n) {
    return (double)l->sample->us[draw_bits(key, n) % l->sample->count];
}

enum { FROM_FILE = 1 };

static const struct kind kinds[] = {
    {STR_INIT("file"), '\0', NULL, NULL, draw_sample}, // has its own reader
    {STR_INIT("uniform"), '-', "the shorter and the longer of two durations, as uniform:1s-3s", set_uniform,
     draw_uniform},
    {STR_INIT("normal"), ',', "a mean and a standard deviation, as normal:5s,500ms", set_normal, draw_normal},
    {STR_INIT("lognormal"), ',', "a median above 0 and a 99th percentile not below it, as lognormal:2s,9s",
     set_lognormal, draw_lognormal},
};

// ---- reading

static const char WANTED[] = "a time as 5s, uniform:1s-3s, normal:5s,500ms or lognormal:2s,9s";

static bool read_us(struct str s, uint64_t *us) { return parse_duration_us(s, us) == OK && *us <= LATENCY_MAX_US; }

static bool read_constant(struct str text, struct latency *l) {
    uint64_t us = 0;
    if (!read_us(text, &us)) {
        return false;
    }
    *l = (struct latency){.us = us};
    return true;
}

static bool read_two(unsigned char kind, char separator, struct str text, struct latency *l) {
    struct latency read = {.kind = kind};
    uint64_t a = 0;
    uint64_t b = 0;
    size_t at = str_find(text, separator);
    if (!read_us(str_first(text, at), &a) || !read_us(str_skip(text, at + 1), &b) ||
        !kinds[kind - 1].set(&read, a, b)) {
        return false;
    }
    *l = read;
    return true;
}

// The kind of two durations whose name, with `mark` behind it, the text begins with; 0: none. *rest is what follows.
static unsigned char kind_of(struct str text, char mark, struct str *rest) {
    size_t at = str_find(text, mark);
    for (unsigned char i = 0; i < ARRAY_LEN(kinds); i++) {
        if (at < text.len && kinds[i].set && str_eq(str_first(text, at), kinds[i].name)) {
            *rest = str_skip(text, at + 1);
            return (unsigned char)(i + 1);
        }
    }
    return 0;
}

const char *latency_parse(struct str text, struct latency *l) {
    struct str rest;
    unsigned char kind = kind_of(text, ':', &rest);
    if (!kind) {
        return read_constant(text, l) ? NULL : WANTED;
    }
    return read_two(kind, kinds[kind - 1].separator, rest, l) ? NULL : kinds[kind - 1].wanted;
}

bool latency_parse_name(struct str text, struct latency *l) {
    struct str rest;
    unsigned char kind = kind_of(text, '-', &rest);
    return kind ? read_two(kind, '-', rest, l) : read_constant(text, l);
}

// ---- files

// Blank lines and lines that begin with # are left out.
static const char *read_lines(FILE *f, struct latency_sample **sample) {
    char line[LINE_MAX_BYTES];
    size_t room = 0;
    while (fgets(line, sizeof line, f)) {
        struct str text = str_c(line);
        uint64_t us = 0;
        text = str_trim(str_first(text, MIN(str_find(text, '\n'), str_find(text, '\r'))));
        if (text.len == 0 || text.ptr[0] == '#') {
            continue;
        }
        if (!read_us(text, &us)) {
            return "a file with a duration as 1.5s in each line";
        }
        if ((*sample)->count == SAMPLES_MAX) {
            return "a file with at most 1000000 durations";
        }
        if ((*sample)->count == room) {
            room = room ? room * 2 : 64;
            struct latency_sample *more = try_realloc(*sample, sizeof **sample + room * sizeof(*sample)->us[0]);
            if (!more) {
                return "more memory for this file";
            }
            *sample = more;
        }
        (*sample)->us[(*sample)->count++] = us;
    }
    return (*sample)->count ? NULL : "a file with at least one duration";
}

const char *latency_parse_file(struct str text, struct latency *l) {
    struct str mark = STR("file:");
    if (!str_starts(text, mark)) {
        const char *wanted = latency_parse(text, l);
        return wanted == WANTED ? "a time as 5s, uniform:1s-3s, normal:5s,500ms, lognormal:2s,9s or file:PATH" : wanted;
    }
    char *path = str_dup(str_skip(text, mark.len));
    FILE *f = fopen(path, "re");
    free(path);
    if (!f) {
        return "a file that can be read, as file:latencies.txt";
    }
    struct latency_sample *sample = xcalloc(1, sizeof *sample);
    const char *wanted = read_lines(f, &sample);
    fclose(f);
    if (wanted) {
        free(sample);
        return wanted;
    }
    *l = (struct latency){.kind = FROM_FILE, .sample = sample};
    return NULL;
}

void latency_finish(struct latency *l) {
    if (l->kind == FROM_FILE) {
        free(l->sample);
    }
    *l = (struct latency){.us = 0};
}

// ---- drawing

uint64_t latency_draw_us(const struct latency *l, uint64_t key, uint64_t n) {
    if (!l->kind) {
        return l->us;
    }
    return (uint64_t)fmin(kinds[l->kind - 1].draw(l, key, n) + 0.5, (double)LATENCY_MAX_US);
}

// ---- pace

// From the piece before to this one.
static uint64_t gap_us(const struct pace *p, unsigned piece) {
    return latency_draw_us(&p->between, p->key, piece) + (p->stall_after == piece ? p->stall_ms * (uint64_t)1000 : 0);
}

uint64_t pace_due_ms(struct pace *p, unsigned piece) {
    while (p->piece < piece) {
        p->due_us += gap_us(p, ++p->piece);
    }
    return (p->due_us + 999) / 1000;
}

uint64_t pace_last_us(const struct pace *p, unsigned pieces) {
    uint64_t us = p->due_us;
    if (latency_is_constant(&p->between) && pieces > 1) {
        bool stalls = p->stall_after && p->stall_after < pieces;
        return us + (pieces - 1) * p->between.us + (stalls ? p->stall_ms * (uint64_t)1000 : 0);
    }
    for (unsigned piece = 1; piece < pieces; piece++) {
        us += gap_us(p, piece);
    }
    return us;
}
