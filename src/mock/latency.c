// SPDX-License-Identifier: MIT
#include "mock/latency.h"

#include <assert.h>
#include <math.h>

#include "base/mem.h"
#include "mock/draw.h"

enum { LINE_MAX_BYTES = 256, SAMPLES_MAX = 1000 * 1000, TRIES = 64 };

static const double P99 = 2.3263478740408408; // standard deviations

// ---- the kinds

struct latency_kind {
    struct str name;
    char separator; // between its two durations
    const char *wanted;
    bool (*set)(struct latency *l, uint64_t a_us, uint64_t b_us); // false: they do not go together
    double (*draw)(const struct latency *l, uint64_t key, uint64_t n);
};

static bool set_uniform(struct latency *l, uint64_t a_us, uint64_t b_us) {
    l->a = (double)a_us;
    l->b = (double)b_us;
    return a_us <= b_us;
}

static double draw_uniform(const struct latency *l, uint64_t key, uint64_t n) {
    return l->a + (l->b - l->a) * draw_unit(key, n);
}

// Standard normal: Box and Muller 1958.
static double draw_z(uint64_t key, uint64_t n) {
    return sqrt(-2 * log(draw_unit(key, 2 * n))) * cos(2 * M_PI * draw_unit(key, 2 * n + 1));
}

static bool set_normal(struct latency *l, uint64_t a_us, uint64_t b_us) {
    l->a = (double)a_us;
    l->b = (double)b_us;
    return true;
}

// What is below 0 is drawn again: at least every second one is not, since no mean is negative.
static double draw_normal(const struct latency *l, uint64_t key, uint64_t n) {
    uint64_t own = draw_bits(key, n);
    double us = -1;
    for (unsigned i = 0; us < 0 && i < TRIES; i++) {
        us = l->a + l->b * draw_z(own, i);
    }
    return fmax(us, 0);
}

static bool set_lognormal(struct latency *l, uint64_t median_us, uint64_t p99_us) {
    if (median_us == 0 || p99_us < median_us) {
        return false;
    }
    l->a = log((double)median_us);
    l->b = (log((double)p99_us) - l->a) / P99;
    return true;
}

static double draw_lognormal(const struct latency *l, uint64_t key, uint64_t n) {
    return exp(l->a + l->b * draw_z(draw_bits(key, n), 0));
}

static double draw_sample(const struct latency *l, uint64_t key, uint64_t n) {
    return (double)l->sample->us[draw_bits(key, n) % l->sample->count];
}

static const struct latency_kind kinds[] = {
    {STR_INIT("uniform"), '-', "the shorter and the longer of two durations, as uniform:1s-3s", set_uniform,
     draw_uniform},
    {STR_INIT("normal"), ',', "a mean and a standard deviation, as normal:5s,500ms", set_normal, draw_normal},
    {STR_INIT("lognormal"), ',', "a median above 0 and a 99th percentile not below it, as lognormal:2s,9s",
     set_lognormal, draw_lognormal},
};
static const struct latency_kind from_file = {STR_INIT("file"), 0, NULL, NULL, draw_sample};

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

static bool read_two(const struct latency_kind *kind, char separator, struct str text, struct latency *l) {
    struct latency read = {.kind = kind};
    uint64_t a = 0;
    uint64_t b = 0;
    size_t at = str_find(text, separator);
    if (!read_us(str_first(text, at), &a) || !read_us(str_skip(text, at + 1), &b) || !kind->set(&read, a, b)) {
        return false;
    }
    *l = read;
    return true;
}

// The kind whose name, with `mark` behind it, the text begins with.
static const struct latency_kind *kind_of(struct str text, char mark) {
    struct str name = str_first(text, str_find(text, mark));
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (name.len < text.len && str_eq(name, kinds[i].name)) {
            return &kinds[i];
        }
    }
    return NULL;
}

const char *latency_parse(struct str text, struct latency *l) {
    const struct latency_kind *kind = kind_of(text, ':');
    if (kind) {
        return read_two(kind, kind->separator, str_skip(text, kind->name.len + 1), l) ? NULL : kind->wanted;
    }
    return read_constant(text, l) ? NULL : WANTED;
}

bool latency_parse_name(struct str text, struct latency *l) {
    const struct latency_kind *kind = kind_of(text, '-');
    return kind ? read_two(kind, '-', str_skip(text, kind->name.len + 1), l) : read_constant(text, l);
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
    *l = (struct latency){.kind = &from_file, .sample = sample};
    return NULL;
}

void latency_finish(struct latency *l) {
    if (l->kind == &from_file) {
        free(l->sample);
    }
    *l = (struct latency){.us = 0};
}

// ---- drawing

uint64_t latency_draw_us(const struct latency *l, uint64_t key, uint64_t n) {
    if (!l->kind) {
        return l->us;
    }
    return (uint64_t)fmin(l->kind->draw(l, key, n) + 0.5, (double)LATENCY_MAX_US);
}

// ---- pace

static uint64_t gap_us(const struct pace *p, unsigned piece) {
    return latency_draw_us(&p->between, p->key, piece) + (p->stall_after == piece ? p->stall_us : 0);
}

void pace_start(struct pace *p) {
    p->piece = 0;
    p->due_us = p->begin_us;
}

uint64_t pace_due_ms(struct pace *p, unsigned piece) {
    assert(piece >= p->piece);
    while (p->piece < piece) {
        p->due_us += gap_us(p, ++p->piece);
    }
    return (p->due_us + 999) / 1000;
}

uint64_t pace_last_us(const struct pace *p, unsigned pieces) {
    pieces = MAX(pieces, 1u);
    bool stalls = p->stall_after && p->stall_after < pieces;
    if (latency_is_constant(&p->between)) {
        return p->begin_us + (pieces - 1) * p->between.us + (stalls ? p->stall_us : 0);
    }
    uint64_t us = p->begin_us;
    for (unsigned piece = 1; piece < pieces; piece++) {
        us += gap_us(p, piece);
    }
    return us;
}
