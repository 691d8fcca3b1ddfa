// SPDX-License-Identifier: MIT
// How long the n-th of n users waits for his answer, against n: the steps ceil(n / N) * T. A step is N users wide and a
// call high; where they go through a time limit a line says so.
#include <math.h>

#include "base/mem.h"
#include "plan/report.h"
#include "plan/words.h"

enum { LEFT = 10, HEIGHT = 10, COLUMNS_MOST = 200 };

enum glyph { BLANK, FLAT, WALL, RISES_FROM, RISES_TO, LIMIT_LINE, GLYPHS };
static const char *const glyphs[2][GLYPHS] = {
    {" ", "-", "|", "+", "+", "."},
    {" ", "\xE2\x94\x80", "\xE2\x94\x82", "\xE2\x94\x98", "\xE2\x94\x8C", "\xE2\x95\x8C"}, // U+2500 2502 2518 250C 254C
};

struct chart {
    const struct question *question;
    const struct burst_user *v; // `users` of them
    unsigned users;
    unsigned width;
    double top_s;
    const struct limit *limit;                // the first that a user of the chart is lost to, or NULL
    unsigned char rows[HEIGHT][COLUMNS_MOST]; // from the bottom
};

static double done_s(const struct chart *c, unsigned k) { return (double)c->v[k].done_ns / 1e9; }

static unsigned user_at(const struct chart *c, unsigned column) {
    return (unsigned)((uint64_t)column * c->users / c->width);
}

static unsigned column_of(const struct chart *c, unsigned k) {
    return (unsigned)(((uint64_t)k * c->width + c->users - 1) / c->users);
}

static unsigned row_of(const struct chart *c, double s) {
    long row = lround(s / c->top_s * HEIGHT) - 1;
    return row < 0 ? 0 : MIN((unsigned)row, (unsigned)HEIGHT - 1);
}

static void draw_limit(struct chart *c) {
    if (c->limit && (double)c->limit->ms / 1000 < c->top_s) {
        memset(c->rows[row_of(c, (double)c->limit->ms / 1000)], LIMIT_LINE, c->width);
    }
}

static void draw_steps(struct chart *c) {
    unsigned before = row_of(c, done_s(c, 0));
    for (unsigned i = 0; i < c->width; i++) {
        unsigned row = row_of(c, done_s(c, user_at(c, i)));
        c->rows[row][i] = FLAT;
        if (row > before && i) {
            for (unsigned r = before + 1; r < row; r++) {
                c->rows[r][i] = WALL;
            }
            c->rows[before][i] = RISES_FROM;
            c->rows[row][i] = RISES_TO;
        }
        before = row;
    }
}

static const char *colour_of(const struct chart *c, unsigned row, unsigned column) {
    unsigned k = user_at(c, column);
    bool lost = c->limit && done_s(c, k) > (double)c->limit->ms / 1000;
    if (c->rows[row][column] == LIMIT_LINE) {
        return "\033[31m";
    }
    return c->rows[row][column] == BLANK ? "\033[0m" : lost ? "\033[31m" : c->v[k].wait_ns ? "\033[33m" : "\033[32m";
}

static unsigned end_of(const struct chart *c, unsigned row) {
    unsigned end = c->width;
    while (end && c->rows[row][end - 1] == BLANK) {
        end--;
    }
    return end;
}

static void put_row(struct out *o, const struct chart *c, unsigned row, const struct plan_style *style) {
    const char *colour = "";
    unsigned end = end_of(c, row);
    for (unsigned i = 0; i < end; i++) {
        if (style->colour && strcmp(colour, colour_of(c, row, i)) != 0) {
            colour = colour_of(c, row, i);
            put(o, str_c(colour));
        }
        put(o, str_c(glyphs[style->unicode][c->rows[row][i]]));
    }
    put(o, *colour ? STR("\033[0m") : STR(""));
}

// The height of a row that a step lies on, or of the limit; nothing for the others.
static void put_height(struct out *o, const struct chart *c, unsigned row) {
    char room[32] = "";
    for (unsigned i = 0; i < c->width && !*room; i++) {
        if (c->rows[row][i] == FLAT || c->rows[row][i] == RISES_TO) {
            seconds_text(room, done_s(c, user_at(c, i)));
        } else if (c->rows[row][i] == LIMIT_LINE) {
            seconds_text(room, (double)c->limit->ms / 1000);
        }
    }
    put_format(o, "%*s ", LEFT - 1, room);
}

// Under the steps: the users at which one begins, as far as there is room.
static void put_users_axis(struct out *o, const struct chart *c) {
    unsigned used = 0;
    put_format(o, "%*s ", LEFT - 1, "users");
    for (unsigned k = 0; k < c->users; k++) {
        char room[16];
        bool begins = k == 0 || k + 1 == c->users || c->v[k].done_ns != c->v[k - 1].done_ns;
        int n = snprintf(room, sizeof room, "%u", k + 1);
        unsigned column = MIN(column_of(c, k), c->width > (unsigned)n ? c->width - (unsigned)n : 0);
        if (begins && (column > used || k == 0)) {
            put_format(o, "%*s%s", (int)(column - used), "", room);
            used = column + (unsigned)n;
        }
    }
    put_text(o, "\n");
}

static void draw(struct chart *c, struct out *o, const struct plan_style *style) {
    memset(c->rows, BLANK, sizeof c->rows);
    draw_limit(c);
    draw_steps(c);
    put_format(o, "\n  the n-th of n users%s has his answer after\n", c->question->apart_ns ? "" : " at once");
    for (unsigned row = HEIGHT; row-- > 0;) {
        if (end_of(c, row)) {
            put_height(o, c, row);
            put_row(o, c, row, style);
        }
        put_text(o, "\n");
    }
    put_users_axis(o, c);
    if (c->limit && (double)c->limit->ms / 1000 < c->top_s) {
        put_format(o, "%*s%s %s\n", LEFT, "", glyphs[style->unicode][LIMIT_LINE], c->limit->name);
    }
}

// The smallest limit that counts the whole answer, as the picture does.
static const struct limit *limit_of(const struct chain *c) {
    const struct limit *best = NULL;
    for (unsigned i = 0; i < c->limit_count; i++) {
        const struct limit *l = &c->limits[i];
        best = l->kind == LIMIT_ANSWER && (!best || l->ms < best->ms) ? l : best;
    }
    return best;
}

enum err plan_print_picture(struct buf *out, const struct question *q, const struct forecast *f,
                            const struct plan_style *style) {
    struct out o = {out, OK};
    double top_ns = 1;
    for (unsigned k = 0; k < q->users; k++) {
        top_ns = fmax(top_ns, (double)f->v[k].done_ns);
    }
    struct chart chart = {
        .question = q,
        .v = f->v,
        .users = q->users,
        .width = MIN(MAX(style->columns, LEFT + 20) - LEFT - 1, (unsigned)COLUMNS_MOST),
        .top_s = top_ns / 1e9,
        .limit = limit_of(&q->chain),
    };
    if (f->sum.waited) {
        draw(&chart, &o, style);
    }
    return o.e;
}
