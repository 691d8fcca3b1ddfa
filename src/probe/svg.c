// SPDX-License-Identifier: MIT
// Plain rules for light, a media query for dark, and no variables: what is pasted into a document is drawn by programs
// that know less CSS than browsers do.
#include "probe/svg.h"

#include "draw/scale.h"
#include "draw/text.h"
#include "probe/say.h"
#include "probe/seating.h"

enum {
    WIDTH = 1000,
    LEFT = 66,
    NOTE = 212, // at the right
    MARGIN = 20,
    MARK_APART = 70,
    AXIS = 26,
    LIMIT = 18,     // the timeout's label, above the axis
    HEAD = 34,      // of what stands alone: the target's line,
    HEAD_LINE = 28, // and each of the headline's
    HEAD_COLUMNS = 74,
    TARGET_MOST = 110,
    CANARY = 26,
    KEY = 40,
    COLOURS = 8,
    LANE = 4,    // between connectors
    MORE = 300,  // what "... 34 more like this" takes at most
    TICKS = 240, // the canary's resolution
    LINES = 72,
    TEXT_CAP = 1 << 20,
};

static const char style[] =
    ".thaw text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#5f6972}"
    ".thaw .h{font-size:21px;font-weight:650;fill:#1d2327}.thaw .u{text-anchor:end;font-variant-numeric:tabular-nums}"
    ".thaw .l{font-size:11px;font-weight:700;fill:#fff}.thaw .r{fill:#b3261e}.thaw .bg{fill:#fff}"
    ".thaw .w{fill:#dde2e6}.thaw .g{stroke:#dfe3e6}.thaw .x{stroke:#c62f25;stroke-width:2;fill:none}"
    ".thaw .c{fill:none;stroke-width:1.5;opacity:.75}.thaw .b{opacity:.42}"
    ".thaw .k0{fill:#b9c2c8}.thaw .k1{fill:#2a9d72}.thaw .k2{fill:#e0a11e}.thaw .k3{fill:#c62f25}"
    ".thaw .s0{fill:#2b8a86;stroke:#2b8a86}.thaw .s1{fill:#2f7fc1;stroke:#2f7fc1}.thaw .s2{fill:#d98518;stroke:#d98518}"
    ".thaw .s3{fill:#2a9463;stroke:#2a9463}.thaw .s4{fill:#bd4f93;stroke:#bd4f93}.thaw .s5{fill:#7661c4;stroke:#7661c4}"
    ".thaw .s6{fill:#a1841a;stroke:#a1841a}.thaw .s7{fill:#2797ad;stroke:#2797ad}.thaw .s8{fill:#8c6651;stroke:#8c6651}"
    ".thaw .s{stroke-width:0}.thaw .c{fill:none}\n"
    "@media (prefers-color-scheme:dark){.thaw text{fill:#97a1a9}.thaw .h{fill:#e6eaed}.thaw .l{fill:#10141a}"
    ".thaw .r{fill:#ff8a80}.thaw .bg{fill:#1b2024}.thaw .w{fill:#39424a}.thaw .g{stroke:#2d3439}"
    ".thaw .x{stroke:#ff6b5f}.thaw .k0{fill:#4a545c}.thaw .k1{fill:#4cc495}.thaw .k2{fill:#e8b84a}.thaw "
    ".k3{fill:#ff6b5f}"
    ".thaw .s0{fill:#4db6b0;stroke:#4db6b0}.thaw .s1{fill:#6db1ea;stroke:#6db1ea}.thaw .s2{fill:#eda94c;stroke:#eda94c}"
    ".thaw .s3{fill:#5fc594;stroke:#5fc594}.thaw .s4{fill:#e486bd;stroke:#e486bd}.thaw .s5{fill:#a899ef;stroke:#a899ef}"
    ".thaw .s6{fill:#d2b84e;stroke:#d2b84e}.thaw .s7{fill:#5cc8dc;stroke:#5cc8dc}.thaw .s8{fill:#c49a83;stroke:#c49a83}"
    ".thaw .c{fill:none}}";

struct chart {
    const struct probe_report *r;
    struct seating s;
    double top;     // of the first row
    double height;  // of a row
    double width;   // of the bars
    bool limit;     // the timeout is shown
    unsigned looks; // of the canary: bits of 1 << enum canary_look that are shown
};

static double x_at(const struct chart *c, uint64_t ns) { return LEFT + c->width * (double)ns / (double)c->s.length_ns; }
static double y_at(const struct chart *c, unsigned line) { return c->top + line * c->height; }
static double bottom(const struct chart *c) { return y_at(c, c->s.line_count); }
static double thickness(const struct chart *c) { return c->height - (c->height > 16 ? 5 : 3); }
static unsigned colour_of(unsigned seat) { return seat ? (seat - 1) % COLOURS + 1 : 0; }
static bool is_row(const struct seating_line *line) { return line->more == 0; }

// ---- the ruler

static uint64_t ruler_ns(const struct chart *c) {
    double least = (double)c->s.length_ns / c->width * MARK_APART / (double)c->s.unit_ns;
    return least <= 1 ? c->s.unit_ns : (uint64_t)(axis_step(least, 1) * (double)c->s.unit_ns);
}

static void put_ruler(struct out *o, const struct chart *c) {
    uint64_t step_ns = MAX(ruler_ns(c), 1u);
    put_format(o, "<text class=\"u\" x=\"%d\" y=\"%.1f\">user</text>", LEFT - 10, c->top - 11);
    for (uint64_t at = 0; at <= c->s.length_ns; at += step_ns) {
        double x = x_at(c, at);
        put_format(o, "<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x, c->top - 6,
                   bottom(c) + 4);
        put_format(o, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, c->top - 11, at ? "middle" : "start");
        put_time(o, at);
        put_text(o, "</text>\n");
    }
}

// A piece in each line, as users count from their own sending; the words above the first.
static void put_limit(struct out *o, const struct chart *c) {
    bool named = false;
    for (unsigned i = 0; i < c->s.line_count; i++) {
        uint64_t at_ns = seating_limit(&c->s, c->r, &c->s.rows[c->s.lines[i].row]);
        if (at_ns == UINT64_MAX) {
            continue;
        }
        double x = x_at(c, at_ns);
        double y = named ? y_at(c, i) - 3 : c->top - 6;
        put_format(o, "<line class=\"x\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", x, x, y,
                   y_at(c, i + 1) - 2);
        if (!named) {
            put_format(o, "<text class=\"r\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">timeout ", x,
                       c->top - AXIS - 2);
            put_time(o, c->r->timeout_ns);
            put_text(o, "</text>\n");
            named = true;
        }
    }
}

// ---- rows

static void put_tip(struct out *o, const struct seating_row *row) {
    char name[SEAT_NAME];
    put_format(o, "<title>user %u", row->call->user);
    if (row->refused) {
        put_text(o, ": ");
        put_row_note(o, row, false);
    } else {
        if (row->waited) {
            put_text(o, ": ");
            put_row_note(o, row, false);
        }
        put_text(o, "; served ");
        put_time(o, row->end_ns - row->start_ns);
        if (row->seat) {
            put_format(o, " on place %s", seat_name(name, row->seat));
        }
    }
    put_text(o, "</title>");
}

static void put_rect(struct out *o, const struct chart *c, const char *class, uint64_t from, uint64_t to, double y) {
    double x = x_at(c, from);
    double width = x_at(c, to) - x;
    if (width > 0.05) {
        put_format(o, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"%s\"/>", class, x,
                   y, MAX(width - 1, 0.8), thickness(c), c->height > 16 ? "4" : "2");
    }
}

static void put_letter(struct out *o, const struct chart *c, const struct seating_row *row, double y) {
    char name[SEAT_NAME];
    double room = x_at(c, row->end_ns) - x_at(c, row->start_ns);
    seat_name(name, row->seat);
    if (row->seat && c->height > 16 && room > 12 + 9 * (double)strlen(name)) {
        put_format(o, "<text class=\"l\" x=\"%.1f\" y=\"%.1f\">%s</text>", x_at(c, row->start_ns) + 7,
                   y + thickness(c) / 2 + 4, name);
    }
}

static void put_bars(struct out *o, const struct chart *c, const struct seating_row *row, double y) {
    char class[16];
    put_rect(o, c, "w", row->sent_ns, row->start_ns, y);
    if (row->refused) {
        double x = x_at(c, row->end_ns);
        double middle = y + thickness(c) / 2;
        put_format(o, "<path class=\"x\" d=\"M%.1f %.1fl8 8m0 -8l-8 8\"/>", x, middle - 4);
        return;
    }
    snprintf(class, sizeof class, "s s%u", colour_of(row->seat));
    put_rect(o, c, class, row->start_ns, row->alone_ns, y);
    snprintf(class, sizeof class, "s s%u b", colour_of(row->seat));
    put_rect(o, c, class, row->alone_ns, row->end_ns, y);
    put_letter(o, c, row, y);
}

static void put_row(struct out *o, const struct chart *c, unsigned line) {
    const struct seating_line *l = &c->s.lines[line];
    const struct seating_row *row = &c->s.rows[l->row];
    double y = y_at(c, line);
    double base = y + thickness(c) / 2 + 4.5;
    if (!is_row(l)) {
        double x = x_at(c, c->s.rows[l->row ? l->row - 1 : 0].end_ns) + 2 * LANE * COLOURS; // right of the connectors
        put_format(o, "<text x=\"%.1f\" y=\"%.1f\">", x < LEFT + c->width - MORE ? x : LEFT + 4, base);
        put_more(o, l);
        put_text(o, "</text>\n");
        return;
    }
    put_format(o, "<g><text class=\"u\" x=\"%d\" y=\"%.1f\">%u</text>", LEFT - 10, base, row->call->user);
    put_tip(o, row);
    put_bars(o, c, row, y);
    bool wrong = row->refused || row->lost;
    put_format(o, "<text%s x=\"%d\" y=\"%.1f\">", wrong ? " class=\"r\"" : "", WIDTH - NOTE + 2, base);
    put_row_note(o, row, false);
    put_text(o, "</text></g>\n");
}

// Out of the end of the bar of who left, down to the bar of who sat down; behind all bars, each seat in its lane.
static void put_connector(struct out *o, const struct chart *c, unsigned line) {
    const struct seating_row *row = &c->s.rows[c->s.lines[line].row];
    unsigned from = c->s.line_count;
    for (unsigned i = 0; row->after && i < c->s.line_count; i++) {
        from = is_row(&c->s.lines[i]) && c->s.lines[i].row == row->after_at ? i : from;
    }
    if (from == c->s.line_count) {
        return;
    }
    double bar = x_at(c, row->alone_ns) - x_at(c, row->start_ns);
    double lane = MIN(4.0 + LANE * ((row->seat - 1) % COLOURS), MAX(bar - 2, 1));
    double y = y_at(c, from) + thickness(c) / 2;
    double x = x_at(c, c->s.rows[row->after_at].alone_ns) - 2;
    put_format(o, "<path class=\"c s%u\" d=\"M%.1f %.1fH%.1fV%.1f\"/>\n", colour_of(row->seat), x, y,
               x_at(c, row->start_ns) + lane, y_at(c, line) + thickness(c) / 2);
}

// ---- below the rows

static void put_canary(struct out *o, struct chart *c) {
    if (!seating_has_canary(&c->s)) {
        return;
    }
    double y = bottom(c) + 12;
    enum canary_look before = LOOK_NONE;
    unsigned from = 0;
    put_format(o, "<text class=\"u\" x=\"%d\" y=\"%.1f\">canary</text>", LEFT - 10, y + 9);
    for (unsigned i = 0; i <= TICKS; i++) {
        uint64_t at_ns = c->s.length_ns * i / TICKS;
        enum canary_look look =
            i == TICKS ? LOOK_NONE : seating_canary(&c->s, c->r->evidence, at_ns, c->s.length_ns * (i + 1) / TICKS);
        if (look != before || i == TICKS) {
            if (before != LOOK_NONE) {
                put_format(o, "<rect class=\"k%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"8\"/>", (int)before,
                           x_at(c, c->s.length_ns * from / TICKS), y, c->width * (i - from) / TICKS);
            }
            from = i;
            before = look;
            c->looks |= 1U << look;
        }
    }
    put_text(o, "\n");
}

static double put_key_item(struct out *o, double x, double y, const char *shape, const char *words) {
    put_format(o, "%s<text x=\"%.1f\" y=\"%.1f\">%s</text>", shape, x + 22, y + 11, words);
    return x + 22 + 7.2 * (double)strlen(words) + 22;
}

static void put_key(struct out *o, const struct chart *c, double y) {
    unsigned colour = c->s.seats ? 1 : 0;
    const struct {
        bool shown;
        const char *class, *words;
    } keys[] = {
        {c->s.waited > 0, "w", "waits"},
        {c->s.beside, colour ? "s s1 b" : "s s0 b", pale_means(&c->s)},
        {c->s.alone, colour ? "s s1" : "s s0", c->s.seats ? "served: letter and colour are the place" : "served"},
        {c->looks & 1U << LOOK_FINE, "k1", "canary: a cheap path answers"},
        {c->looks & 1U << LOOK_SLOW, "k2", "canary slow"},
        {c->looks & 1U << LOOK_GONE, "k3", "canary silent"},
    };
    double x = LEFT;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        char shape[128];
        if (keys[i].shown) {
            snprintf(shape, sizeof shape,
                     "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"14\" rx=\"3\"/>", keys[i].class, x,
                     y);
            x = put_key_item(o, x, y, shape, keys[i].words);
        }
    }
    put_text(o, "\n");
}

// ---- all of it

static void chart_init(struct chart *c, const struct probe_report *r) {
    *c = (struct chart){.r = r};
    if (seating_fill(&c->s, r, LINES)) {
        c->limit = r->timeout_ns && r->timeout_ns < c->s.length_ns;
    }
    bool noted = c->s.waited || c->s.refused || c->s.lost;
    c->width = WIDTH - LEFT - MARGIN - (noted ? NOTE : 10);
    c->height = c->s.line_count <= 30 ? 24 : 15;
}

static double below(const struct chart *c) { return bottom(c) + (seating_has_canary(&c->s) ? CANARY : 4) + 10; }

static void put_words(struct out *o, const struct probe_report *r) {
    struct buf room;
    struct out words = {&room, OK};
    buf_init(&room, TEXT_CAP);
    enum err e = say_headline(r, &room);
    put_text(o, "<title id=\"thaw-title\">");
    put_xml(o, buf_str(&room));
    put_text(o, "</title>\n<desc id=\"thaw-desc\">");
    buf_clear(&room);
    say(&words, SAY_VERDICT, r);
    say(&words, SAY_NUMBERS, r);
    put_xml(o, buf_str(&room));
    put_text(o, "</desc>\n");
    o->e = o->e != OK ? o->e : e != OK ? e : words.e;
    buf_finish(&room);
}

static void put_begin(struct out *o, const struct probe_report *r, double height) {
    put_format(o,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"thaw\" viewBox=\"0 0 %d %.0f\" width=\"%d\" "
               "height=\"%.0f\" role=\"img\" aria-labelledby=\"thaw-title thaw-desc\">\n",
               WIDTH, height, WIDTH, height);
    put_words(o, r);
    put_text(o, "<style>");
    put(o, str_c(style));
    put_text(o, "</style>\n");
}

static void put_chart(struct out *o, struct chart *c) {
    if (!c->s.trial) {
        return;
    }
    put_ruler(o, c);
    for (unsigned i = 0; i < c->s.line_count; i++) {
        if (is_row(&c->s.lines[i])) {
            put_connector(o, c, i);
        }
    }
    for (unsigned i = 0; i < c->s.line_count; i++) {
        put_row(o, c, i);
    }
    if (c->limit) {
        put_limit(o, c);
    }
    put_canary(o, c);
    put_key(o, c, below(c));
}

void put_svg(struct out *o, const struct probe_report *r) {
    struct chart c;
    chart_init(&c, r);
    c.top = AXIS + (c.limit ? LIMIT : 0);
    put_begin(o, r, below(&c) + KEY - 20);
    put_chart(o, &c);
    put_text(o, "</svg>\n");
    seating_finish(&c.s);
}

enum err svg_write(const struct probe_report *r, struct buf *out) {
    struct out o = {out, OK};
    struct buf headline;
    struct chart c;
    struct str line;
    unsigned lines = 0;
    buf_init(&headline, TEXT_CAP);
    enum err e = say_headline(r, &headline);
    chart_init(&c, r);
    for (struct str rest = buf_str(&headline); text_wrap(&rest, HEAD_COLUMNS, &line);) {
        lines++;
    }
    c.top = MARGIN + HEAD + lines * HEAD_LINE + AXIS + (c.limit ? LIMIT : 0);
    put_begin(&o, r, below(&c) + KEY);
    put_text(&o, "<rect class=\"bg\" width=\"100%\" height=\"100%\" rx=\"10\"/>\n");
    put_format(&o, "<text x=\"%d\" y=\"%d\">thaw probe ", MARGIN + 4, MARGIN + 14);
    put_xml(&o, str_first(r->target, TARGET_MOST));
    put(&o, r->target.len > TARGET_MOST ? STR("...</text>\n") : STR("</text>\n"));
    struct str rest = buf_str(&headline);
    for (unsigned i = 0; text_wrap(&rest, HEAD_COLUMNS, &line); i++) {
        put_format(&o, "<text class=\"h\" x=\"%d\" y=\"%d\">", MARGIN + 4, MARGIN + HEAD + 8 + (int)i * HEAD_LINE);
        put_xml(&o, line);
        put_text(&o, "</text>\n");
    }
    put_chart(&o, &c);
    put_text(&o, "</svg>\n");
    seating_finish(&c.s);
    buf_finish(&headline);
    return o.e == OK ? e : o.e;
}
