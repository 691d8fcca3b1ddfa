// SPDX-License-Identifier: MIT
// The chart is drawn into cells, line by line: first the ruler, then bars, then the connectors where nothing else is,
// at last the timeout over everything. A bar begins at a whole column and ends at an eighth of one.
#include "probe/picture.h"

#include <limits.h>

#include "base/mem.h"
#include "draw/scale.h"
#include "draw/text.h"
#include "probe/say.h"
#include "probe/seating.h"

enum {
    COLUMNS_LEAST = 60,
    COLUMNS_MOST = 200,
    LEFT = 7, // the user's number
    NOTE_MOST = 40,
    BRIEF_BELOW = 90, // columns
    MARK_APART = 10,
    EIGHTHS = 8,
    LABEL = 10, // "VERDICT   "
    LINES = 32,
    TEXT_CAP = 1 << 20,
};

enum glyph {
    G_BLANK,
    G_RULER,
    G_CONNECT,
    G_WAIT,
    G_BESIDE, // served beside others
    G_SERVED,
    G_REFUSED,
    G_LIMIT,
    G_FINE,
    G_SLOW,
    G_GONE,
    G_END, // and so many eighths more
};

static const struct {
    const char *unicode, *ascii;
} glyphs[] = {
    [G_BLANK] = {" ", " "},
    [G_RULER] = {"\xE2\x94\x8A", ":"},   // U+250A
    [G_CONNECT] = {"\xE2\x94\x82", "|"}, // U+2502
    [G_WAIT] = {"\xE2\x96\x91", "."},    // U+2591
    [G_BESIDE] = {"\xE2\x96\x92", "="},  // U+2592
    [G_SERVED] = {"\xE2\x96\x88", "#"},  // U+2588
    [G_REFUSED] = {"\xC3\x97", "x"},     // U+00D7
    [G_LIMIT] = {"\xE2\x94\x83", "!"},   // U+2503
    [G_FINE] = {"\xE2\x96\x81", "-"},    // U+2581
    [G_SLOW] = {"\xE2\x96\x84", "+"},    // U+2584
    [G_GONE] = {"\xE2\x95\xB3", "X"},    // U+2573
    [G_END] = {" ", " "},
    [G_END + 1] = {"\xE2\x96\x8F", "#"}, // U+258F to U+2589
    [G_END + 2] = {"\xE2\x96\x8E", "#"},
    [G_END + 3] = {"\xE2\x96\x8D", "#"},
    [G_END + 4] = {"\xE2\x96\x8C", "#"},
    [G_END + 5] = {"\xE2\x96\x8B", "#"},
    [G_END + 6] = {"\xE2\x96\x8A", "#"},
    [G_END + 7] = {"\xE2\x96\x89", "#"},
};

enum ink { INK_NONE, INK_DIM, INK_FAINT, INK_RED, INK_GREEN, INK_YELLOW, INK_BOLD, INK_SEATS };

static const char *const inks[] = {"",         "\x1b[2m",  "\x1b[90m", "\x1b[31m", "\x1b[32m", "\x1b[33m",
                                   "\x1b[1m",  "\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m",
                                   "\x1b[96m", "\x1b[93m", "\x1b[92m", "\x1b[95m"};
static const char plain_ink[] = "\x1b[0m";

struct cell {
    unsigned char glyph;
    unsigned char ink;
    char letter; // instead of the glyph, on a bar
};

static const unsigned NO_LIMIT = UINT_MAX;

struct chart {
    const struct probe_report *r;
    const struct picture_options *options;
    struct seating s;
    enum err e;         // of the pieces that are made before they are put
    unsigned columns;   // of a line
    unsigned width;     // of the bars
    unsigned note;      // of what stands at the right; 0: nothing does
    unsigned limit;     // the column of the timeout, of the last row that has it
    unsigned looks;     // bits of 1 << enum canary_look that are shown
    struct cell *cells; // s.line_count lines of `width`
};

// ---- geometry

static unsigned eighths_at(const struct chart *c, uint64_t ns) {
    double share = (double)ns / (double)c->s.length_ns;
    return (unsigned)(MIN(share, 1) * c->width * EIGHTHS + 0.5);
}

static unsigned column_at(const struct chart *c, uint64_t ns) {
    return MIN((eighths_at(c, ns) + EIGHTHS / 2) / EIGHTHS, c->width - 1);
}

static struct cell *cell_at(struct chart *c, unsigned line, unsigned column) {
    return &c->cells[(size_t)line * c->width + column];
}

static void fill(struct chart *c, unsigned line, unsigned from, unsigned to, struct cell with) {
    for (unsigned i = from; i < MIN(to, c->width); i++) {
        *cell_at(c, line, i) = with;
    }
}

static unsigned char seat_ink(unsigned seat) {
    return seat ? (unsigned char)(INK_SEATS + (seat - 1) % (ARRAY_LEN(inks) - INK_SEATS)) : INK_SEATS;
}

// So many times the ruler's unit lie between two marks.
static unsigned units_apart(const struct chart *c) {
    static const unsigned steps[] = {1, 2, 5};
    for (unsigned power = 1; power < 1000000; power *= 10) {
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            double apart = (double)c->s.unit_ns * steps[i] * power / (double)c->s.length_ns * c->width;
            if (apart >= MARK_APART) {
                return steps[i] * power;
            }
        }
    }
    return UINT32_MAX;
}

// ---- rows

static void draw_letter(struct chart *c, unsigned line, unsigned from, unsigned to, unsigned seat) {
    char name[SEAT_NAME];
    size_t len = seat ? strlen(seat_name(name, seat)) : 0;
    for (size_t i = 0; i < len && from + len < to + (len == 1); i++) {
        cell_at(c, line, from + (unsigned)i)->letter = name[i];
    }
}

static void draw_bar(struct chart *c, unsigned line, const struct seating_row *row) {
    unsigned char ink = seat_ink(row->seat);
    bool alone = row->alone_ns >= row->end_ns;
    unsigned end = eighths_at(c, row->end_ns);
    unsigned from = column_at(c, row->start_ns);
    unsigned to = MAX(end / EIGHTHS, from);
    unsigned part = alone ? to : MIN(column_at(c, row->alone_ns), to);
    fill(c, line, from, part, (struct cell){G_SERVED, ink, 0});
    fill(c, line, part, to, (struct cell){G_BESIDE, ink, 0});
    unsigned more = to == from ? EIGHTHS - 1 : end % EIGHTHS;
    if (to < c->width && alone && more >= (c->options->ascii ? EIGHTHS / 2 : 1)) {
        *cell_at(c, line, to) = (struct cell){(unsigned char)(G_END + more), ink, 0};
    }
    draw_letter(c, line, from, MAX(to, from + 1), row->seat);
}

static void draw_row(struct chart *c, unsigned line, const struct seating_row *row) {
    unsigned sent = column_at(c, row->sent_ns);
    if (row->refused) {
        unsigned end = column_at(c, row->end_ns);
        fill(c, line, sent, end, (struct cell){G_WAIT, INK_FAINT, 0});
        *cell_at(c, line, end) = (struct cell){G_REFUSED, INK_RED, 0};
        return;
    }
    fill(c, line, sent, column_at(c, row->start_ns), (struct cell){G_WAIT, INK_FAINT, 0});
    draw_bar(c, line, row);
}

static void draw_line(struct chart *c, unsigned line, unsigned column, struct cell with) {
    struct cell *at = cell_at(c, line, column);
    if (at->glyph <= G_RULER) {
        *at = with;
    }
}

static void draw_ruler(struct chart *c, unsigned line) {
    uint64_t step_ns = c->s.unit_ns * units_apart(c);
    for (uint64_t at = step_ns; step_ns && at <= c->s.length_ns; at += step_ns) {
        draw_line(c, line, column_at(c, at), (struct cell){G_RULER, INK_FAINT, 0});
    }
}

static bool is_row(const struct seating_line *line) { return line->more == 0; }

// From the row it waited for, if that one is shown, down to its own.
static void draw_connector(struct chart *c, unsigned line) {
    const struct seating_row *row = &c->s.rows[c->s.lines[line].row];
    unsigned from = c->s.line_count;
    for (unsigned i = 0; row->after && i < c->s.line_count; i++) {
        from = is_row(&c->s.lines[i]) && c->s.lines[i].row == row->after_at ? i : from;
    }
    if (from == c->s.line_count) {
        return;
    }
    unsigned start = column_at(c, row->start_ns); // the next column, where no bar ends
    unsigned column = MIN(start + 1, MAX(column_at(c, row->end_ns), start + 1) - 1);
    for (unsigned i = MIN(from, line) + 1; i < MAX(from, line); i++) {
        if (is_row(&c->s.lines[i])) {
            draw_line(c, i, column, (struct cell){G_CONNECT, seat_ink(row->seat), 0});
        }
    }
}

static void draw_limit(struct chart *c, unsigned line) {
    uint64_t at_ns = seating_limit(&c->s, c->r, &c->s.rows[c->s.lines[line].row]);
    if (at_ns != UINT64_MAX) {
        c->limit = column_at(c, at_ns);
        *cell_at(c, line, c->limit) = (struct cell){G_LIMIT, INK_RED, 0};
    }
}

static void draw_all(struct chart *c) {
    for (unsigned i = 0; i < c->s.line_count; i++) {
        if (is_row(&c->s.lines[i])) {
            draw_ruler(c, i);
            draw_row(c, i, &c->s.rows[c->s.lines[i].row]);
        }
    }
    for (unsigned i = 0; i < c->s.line_count; i++) {
        if (is_row(&c->s.lines[i])) {
            draw_connector(c, i);
            draw_limit(c, i);
        }
    }
}

// ---- out

static const char *glyph_text(const struct chart *c, unsigned glyph) {
    return c->options->ascii ? glyphs[glyph].ascii : glyphs[glyph].unicode;
}

static void put_ink(struct out *o, const struct chart *c, unsigned ink, const char *text) {
    bool inked = c->options->colour && ink != INK_NONE;
    put(o, str_c(inked ? inks[ink] : ""));
    put(o, str_c(text));
    put(o, str_c(inked ? plain_ink : ""));
}

static void put_cells(struct out *o, const struct chart *c, const struct cell *cells, unsigned n) {
    unsigned ink = INK_NONE;
    bool turned = false; // a letter stands in the bar: the colours are exchanged
    for (unsigned i = 0; i < n; i++) {
        bool turn = cells[i].letter && c->options->colour;
        if (c->options->colour && (cells[i].ink != ink || turn != turned)) {
            put(o, str_c(plain_ink));
            put(o, str_c(inks[cells[i].ink]));
            put(o, turn ? STR("\x1b[7m") : STR(""));
        }
        ink = cells[i].ink;
        turned = turn;
        put(o, cells[i].letter ? str_from(&cells[i].letter, 1) : str_c(glyph_text(c, cells[i].glyph)));
    }
    put(o, c->options->colour && (ink != INK_NONE || turned) ? str_c(plain_ink) : STR(""));
}

static unsigned used_cells(const struct cell *cells, unsigned n) {
    while (n && cells[n - 1].glyph == G_BLANK) {
        n--;
    }
    return n;
}

// What is longer than there is room for ends in dots.
static void put_clipped(struct out *o, struct str text, unsigned columns) {
    put_plain(o, str_first(text, text.len > columns ? columns - MIN(columns, 3u) : columns));
    put(o, text.len > columns ? STR("...") : STR(""));
}

static bool is_brief(const struct chart *c) { return c->columns < BRIEF_BELOW; }

static size_t note_of(struct chart *c, const struct seating_line *line, struct buf *note) {
    struct out o = {note, OK};
    buf_clear(note);
    if (is_row(line)) {
        put_row_note(&o, &c->s.rows[line->row], is_brief(c));
    }
    c->e = c->e == OK ? o.e : c->e;
    return buf_len(note);
}

static void put_row(struct out *o, struct chart *c, unsigned line, struct buf *note) {
    const struct seating_line *l = &c->s.lines[line];
    if (!is_row(l)) {
        struct out more = {note, OK};
        put_format(o, "%*s", LEFT, "");
        buf_clear(note);
        put_more(&more, l);
        c->e = c->e == OK ? more.e : c->e;
        put_clipped(o, buf_str(note), c->columns - LEFT);
        put_text(o, "\n");
        return;
    }
    const struct cell *cells = cell_at(c, line, 0);
    bool noted = note_of(c, l, note) > 0;
    unsigned used = noted ? c->width : used_cells(cells, c->width);
    put_format(o, "%*u ", LEFT - 1, c->s.rows[l->row].call->user);
    put_cells(o, c, cells, used);
    if (noted) {
        put_text(o, " ");
        put_clipped(o, buf_str(note), c->note);
    }
    put_text(o, "\n");
}

// Words at columns, none over another.
struct marks {
    char text[COLUMNS_MOST + 1];
    size_t used;
};

static void place(struct marks *m, unsigned column, struct str words, unsigned most) {
    column = column < most && column + words.len > most && words.len <= most ? most - (unsigned)words.len : column;
    if (column + words.len <= most && (m->used == 0 || column > m->used)) {
        memset(m->text + m->used, ' ', column - m->used);
        memcpy(m->text + column, words.ptr, words.len);
        m->used = column + words.len;
    }
}

static void put_axis(struct out *o, struct chart *c, struct buf *room) {
    struct marks marks = {.used = 0};
    uint64_t step_ns = c->s.unit_ns * units_apart(c);
    for (uint64_t at = 0; at <= c->s.length_ns; at += MAX(step_ns, 1u)) {
        struct out mark = {room, OK};
        buf_clear(room);
        put_time(&mark, at);
        c->e = c->e == OK ? mark.e : c->e;
        place(&marks, column_at(c, at), buf_str(room), c->width + c->note);
    }
    put_format(o, "%*s ", LEFT - 1, "user");
    put(o, str_from(marks.text, marks.used));
    put_text(o, "\n");
}

static void put_limit(struct out *o, struct chart *c, struct buf *room) {
    if (c->limit == NO_LIMIT) {
        return;
    }
    struct out words = {room, OK};
    buf_clear(room);
    put_text(&words, "timeout ");
    put_time(&words, c->r->timeout_ns);
    c->e = c->e == OK ? words.e : c->e;
    unsigned column = c->limit;
    size_t len = buf_len(room);
    bool left = LEFT + column + 2 + len > c->columns && column > len; // of the line
    put_format(o, "%*s", (int)(LEFT + column - (left ? len + 1 : 0)), "");
    put(o, c->options->colour ? str_c(inks[INK_RED]) : STR(""));
    put(o, left ? buf_str(room) : str_c(glyph_text(c, G_LIMIT)));
    put_text(o, " ");
    put(o, left ? str_c(glyph_text(c, G_LIMIT)) : buf_str(room));
    put(o, c->options->colour ? STR("\x1b[0m\n") : STR("\n"));
}

static void put_canary(struct out *o, struct chart *c) {
    static const struct cell looks[] = {[LOOK_NONE] = {G_BLANK, INK_NONE, 0},
                                        [LOOK_FINE] = {G_FINE, INK_GREEN, 0},
                                        [LOOK_SLOW] = {G_SLOW, INK_YELLOW, 0},
                                        [LOOK_GONE] = {G_GONE, INK_RED, 0}};
    if (!seating_has_canary(&c->s)) {
        return;
    }
    struct cell cells[COLUMNS_MOST];
    for (unsigned i = 0; i < c->width; i++) {
        uint64_t from_ns = c->s.length_ns * i / c->width;
        enum canary_look look = seating_canary(&c->s, c->r->evidence, from_ns, c->s.length_ns * (i + 1) / c->width);
        cells[i] = looks[look];
        c->looks |= 1U << look;
    }
    put_format(o, "%*s ", LEFT - 1, "canary");
    put_cells(o, c, cells, used_cells(cells, c->width));
    put_text(o, "\n");
}

static void put_key(struct out *o, struct chart *c) {
    const struct {
        enum glyph glyph;
        enum ink ink;
        const char *words;
        bool shown;
    } keys[] = {
        {G_WAIT, INK_FAINT, "waits", c->s.waited > 0},
        {G_BESIDE, INK_SEATS, pale_means(&c->s), c->s.beside},
        {G_SERVED, INK_SEATS, c->s.seats ? "served (a letter is a place)" : "served", c->s.alone},
        {G_REFUSED, INK_RED, "refused or failed", c->s.refused > 0},
        {G_LIMIT, INK_RED, "timeout", c->limit != NO_LIMIT},
        {G_FINE, INK_GREEN, "canary: a cheap path answers", c->looks & 1U << LOOK_FINE},
        {G_SLOW, INK_YELLOW, "canary slow", c->looks & 1U << LOOK_SLOW},
        {G_GONE, INK_RED, "canary silent", c->looks & 1U << LOOK_GONE},
    };
    size_t used = LEFT;
    put_format(o, "%*s", LEFT, "");
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        size_t len = strlen(keys[i].words) + 2;
        bool first = used == LEFT;
        if (keys[i].shown && !first && used + 3 + len > c->columns) {
            put_format(o, "\n%*s", LEFT, "");
            used = LEFT;
            first = true;
        }
        if (keys[i].shown) {
            put(o, first ? STR("") : STR("   "));
            put_ink(o, c, keys[i].ink, glyph_text(c, keys[i].glyph));
            put_format(o, " %s", keys[i].words);
            used += len + (first ? 0 : 3);
        }
    }
    put_text(o, "\n");
}

// ---- the chart

static void measure(struct chart *c, struct buf *note) {
    c->note = 0;
    for (unsigned i = 0; i < c->s.line_count; i++) {
        c->note = MAX(c->note, (unsigned)note_of(c, &c->s.lines[i], note));
    }
    c->note = MIN(c->note, MIN((unsigned)NOTE_MOST, c->columns / 3));
    c->width = c->columns - LEFT - c->note - (c->note ? 1 : 0);
}

static void put_chart(struct out *o, struct chart *c) {
    struct buf room;
    buf_init(&room, TEXT_CAP);
    measure(c, &room);
    c->cells = xcalloc((size_t)c->s.line_count * c->width, sizeof *c->cells);
    draw_all(c);
    put_axis(o, c, &room);
    for (unsigned i = 0; i < c->s.line_count; i++) {
        put_row(o, c, i, &room);
    }
    put_limit(o, c, &room);
    put_canary(o, c);
    put_key(o, c);
    o->e = o->e == OK ? c->e : o->e;
    free(c->cells);
    buf_finish(&room);
}

static void chart_init(struct chart *c, const struct probe_report *r, const struct picture_options *options) {
    *c = (struct chart){.r = r, .options = options, .limit = NO_LIMIT};
    c->columns = MAX(MIN(options->columns, (unsigned)COLUMNS_MOST), (unsigned)COLUMNS_LEAST);
}

enum err picture_chart(const struct probe_report *r, const struct picture_options *options, struct buf *out) {
    struct out o = {out, OK};
    struct chart c;
    chart_init(&c, r, options);
    if (seating_fill(&c.s, r, LINES)) {
        put_chart(&o, &c);
    }
    seating_finish(&c.s);
    return o.e;
}

// ---- the words

static void put_title(struct out *o, const struct chart *c, struct buf *room) {
    put_ink(o, c, INK_DIM, "thaw probe ");
    put_clipped(o, c->r->target, c->columns - (unsigned)strlen("thaw probe "));
    put_text(o, "\n");
    enum err e = say_headline(c->r, room);
    o->e = o->e == OK ? e : o->e;
    put(o, c->options->colour ? str_c(inks[INK_BOLD]) : STR(""));
    put_paragraph(o, buf_str(room), 0, c->columns);
    put(o, c->options->colour ? str_c(plain_ink) : STR(""));
    put_text(o, "\n");
}

static void put_part(struct out *o, const struct chart *c, enum say what) {
    struct buf said;
    struct buf plain;
    buf_init(&said, TEXT_CAP);
    buf_init(&plain, TEXT_CAP);
    struct out words = {&said, OK};
    say(&words, what, c->r);
    o->e = o->e == OK ? words.e : o->e;
    struct str rest = buf_str(&said);
    struct str paragraph;
    for (bool first = true; str_split(&rest, '\n', &paragraph); first = false) {
        if (paragraph.len == 0) {
            continue;
        }
        char label[LABEL + 1];
        snprintf(label, sizeof label, "%-*s", LABEL, first ? say_title(what) : "");
        for (size_t i = 0; label[i]; i++) {
            label[i] = label[i] >= 'a' && label[i] <= 'z' ? (char)(label[i] - 'a' + 'A') : label[i];
        }
        struct out shown = {&plain, OK};
        buf_clear(&plain);
        put_plain(&shown, paragraph);
        o->e = o->e == OK ? shown.e : o->e;
        put_ink(o, c, first ? INK_BOLD : INK_NONE, label);
        put_paragraph(o, buf_str(&plain), LABEL, what == SAY_AGAIN ? UINT32_MAX : c->columns);
    }
    buf_finish(&said);
    buf_finish(&plain);
}

enum err picture_write(const struct probe_report *r, const struct picture_options *options, struct buf *out) {
    struct out o = {out, OK};
    struct buf room;
    struct chart c;
    chart_init(&c, r, options);
    buf_init(&room, TEXT_CAP);
    put_title(&o, &c, &room);
    if (seating_fill(&c.s, r, LINES)) {
        put_chart(&o, &c);
        put_text(&o, "\n");
    }
    for (unsigned what = 0; what < SAY_COUNT; what++) {
        put_part(&o, &c, (enum say)what);
    }
    seating_finish(&c.s);
    buf_finish(&room);
    return o.e;
}
