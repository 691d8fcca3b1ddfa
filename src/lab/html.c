// SPDX-License-Identifier: MIT
// The report: one file with everything in it, no script, light and dark by the reader's setting. The pictures are those
// of picture.c, as SVG; a bar says on hovering whose it is and whom he waited for.
#include "draw/page.h"
#include "draw/text.h"
#include "lab/draw.h"

enum { LEFT = 70, RIGHT = 20, WIDTH = 960, CHART = WIDTH - LEFT - RIGHT, TOP = 24, WAIT_HEIGHT = 44, MARKS = 10 };
enum { THICK = 22, THIN = 9, THIN_FROM = 21, LABEL_WIDTH = 9, NAME_EVERY = 5 };

static const char style[] =
    ":root{--p0:#218a7d;--p1:#c48a12;--p2:#e07a3f;--p3:#c8443a;--p4:#8c2f39;--wait:#9aa5ad;--on:#fff}\n"
    "@media (prefers-color-scheme:dark){:root{--p0:#38b2a3;--p1:#e3b657;--p2:#e58a55;--p3:#dd5f55;--p4:#b5505c;"
    "--wait:#5b666e;--on:#10141a}}\n"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;"
    "font-size:.92rem}th,td{padding:5px 8px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\n"
    "th{font-weight:600;color:var(--dim)}th:first-child,td:first-child{text-align:left}th[colspan]{text-align:center}"
    "td.g,th.g{border-left:1px solid var(--line)}td.m{font-weight:600}\n"
    "svg{display:block;width:100%;height:auto}"
    "svg text{font:12px system-ui,sans-serif;fill:var(--dim)}svg .n{fill:var(--on);font-weight:600}\n"
    ".p0{fill:var(--p0)}.p1{fill:var(--p1)}.p2{fill:var(--p2)}.p3{fill:var(--p3)}.p4{fill:var(--p4)}"
    ".w{fill:var(--wait);opacity:.55}.g{stroke:var(--line)}\n"
    ".key{display:flex;flex-wrap:wrap;gap:6px 18px;font-size:.88rem;color:var(--dim);margin:.6em 0 0;padding:0;"
    "list-style:none}.key svg{width:14px;height:14px;display:inline-block;vertical-align:-2px;margin-right:6px}\n";

// ---- the table

static void put_figure(struct out *o, double seconds, const char *kind) {
    if (seconds < 0) {
        put_format(o, "<td class=\"%s\">\xE2\x80\x93</td>", kind); // U+2013
    } else {
        put_format(o, "<td class=\"%s\">%.2f</td>", kind, seconds);
    }
}

static void put_table_row(struct out *o, const struct lab_result *r) {
    const struct lab_figures *published = &r->row->published;
    struct lab_figures predicted = figures_of(&r->predicted, r->scale);
    struct lab_figures measured = figures_of(&r->measured, r->scale);
    if (r->problem[0]) {
        measured = (struct lab_figures){-1, -1, -1};
    }
    const double all[][3] = {{published->wall_s, predicted.wall_s, measured.wall_s},
                             {published->mean_s, predicted.mean_s, measured.mean_s},
                             {published->max_s, predicted.max_s, measured.max_s}};
    put_format(o, "<tr><td><a href=\"#%s\">%s</a></td>", r->row->name, r->row->name);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        put_figure(o, all[i][0], "g");
        put_figure(o, all[i][1], "");
        put_figure(o, all[i][2], "m");
    }
    if (r->problem[0]) {
        put_text(o, "<td class=\"off g\">failed</td></tr>\n");
    } else {
        put_format(o, "<td class=\"%s g\">%.1f %%</td></tr>\n", lab_result_fine(r) ? "ok" : "off", 100 * r->off);
    }
}

static void put_table(struct out *o, const struct lab_result *v, size_t n) {
    put_text(o, "<section><div class=\"scroll\"><table>\n<tr><th></th><th class=\"g\" colspan=\"3\">wall of all, s</th>"
                "<th class=\"g\" colspan=\"3\">mean of users, s</th><th class=\"g\" colspan=\"3\">slowest user, s</th>"
                "<th class=\"g\">off</th></tr>\n<tr><th>row</th>");
    for (unsigned i = 0; i < 3; i++) {
        put_text(o, "<th class=\"g\">publ.</th><th>pred.</th><th>measured</th>");
    }
    put_text(o, "<th class=\"g\">at most</th></tr>\n");
    for (size_t i = 0; i < n; i++) {
        put_table_row(o, &v[i]);
    }
    put_text(o, "</table></div></section>\n");
}

// ---- a picture

struct chart {
    const struct lab_result *r;
    unsigned seats, height; // of a seat's row
    double length_ns;
};

static double x_of(const struct chart *c, double at_ns) { return LEFT + CHART * at_ns / c->length_ns; }
static unsigned bottom(const struct chart *c) { return TOP + c->seats * c->height; }

static void put_axis(struct out *o, const struct chart *c) {
    double length_s = c->length_ns / 1e9 / c->r->scale;
    double step = axis_step(length_s, MARKS);
    for (unsigned i = 0; i * step <= length_s; i++) {
        double x = x_of(c, i * step * 1e9 * c->r->scale);
        put_format(o, "<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%u\"/>", x, x, TOP - 5,
                   bottom(c) + WAIT_HEIGHT + 10);
        put_format(o, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g%s</text>\n", x, TOP - 10, i * step,
                   i ? "" : " s");
    }
}

static void put_bar_title(struct out *o, const struct lab_result *r, size_t i) {
    const struct sitting *s = &r->sittings[i];
    uint32_t whom = sitting_waited_for(r->sittings, i);
    put_format(o, "<title>user %u", s->user + 1);
    if (whom != SITTING_NOBODY) {
        put_format(o, ": waited %.2f s for user %u", (double)(s->seated_ns - s->arrived_ns) / 1e9 / r->scale, whom + 1);
    }
    put_format(o, "; served %.2f s</title>", (double)(s->done_ns - s->seated_ns) / 1e9 / r->scale);
}

static void put_bar(struct out *o, const struct chart *c, size_t i) {
    const struct sitting *s = &c->r->sittings[i];
    double x = x_of(c, (double)s->seated_ns);
    double width = x_of(c, (double)s->done_ns) - x;
    unsigned y = TOP + s->seat * c->height;
    put_format(o, "<rect class=\"p%u\" x=\"%.1f\" y=\"%u\" width=\"%.1f\" height=\"%u\" rx=\"%u\">",
               patience_of(c->r, s), x + 0.75, y, MAX(width - 1.5, 1), c->height - (c->height > THIN ? 4 : 2),
               c->height > THIN ? 3u : 1u);
    put_bar_title(o, c->r, i);
    put_text(o, "</rect>");
    if (c->height > THIN && width > 3 * LABEL_WIDTH) {
        put_format(o, "<text class=\"n\" x=\"%.1f\" y=\"%u\" pointer-events=\"none\">%u</text>", x + 6,
                   y + c->height - 9, s->user + 1);
    }
    put_text(o, "\n");
}

static void put_names(struct out *o, const struct chart *c) {
    for (unsigned seat = 0; seat < c->seats; seat++) {
        bool named = c->height > THIN || seat == 0 || (seat + 1) % NAME_EVERY == 0;
        if (named) {
            put_format(o, "<text x=\"%d\" y=\"%u\" text-anchor=\"end\">", LEFT - 8,
                       TOP + seat * c->height + (c->height > THIN ? 13u : 8u));
            put_seat_name(o, c->r, seat);
            put_text(o, "</text>\n");
        }
    }
}

// A step for every pixel in which the number changes.
static void put_waiting(struct out *o, const struct chart *c) {
    const struct lab_result *r = c->r;
    unsigned base = bottom(c) + WAIT_HEIGHT + 8;
    unsigned most = 0;
    unsigned before = 0;
    for (unsigned x = 0; x < CHART; x++) {
        most = MAX(most, sittings_waiting(r->sittings, r->count, (uint64_t)((x + 0.5) * c->length_ns / CHART)));
    }
    put_format(o, "<text x=\"%d\" y=\"%u\" text-anchor=\"end\">waiting</text><path class=\"w\" d=\"M%d %u", LEFT - 8,
               base - 4, LEFT, base);
    for (unsigned x = 0; x < CHART && most; x++) {
        unsigned now = sittings_waiting(r->sittings, r->count, (uint64_t)((x + 0.5) * c->length_ns / CHART));
        if (now != before) {
            put_format(o, "H%uV%u", LEFT + x, base - now * WAIT_HEIGHT / most);
        }
        before = now;
    }
    put_format(o, "H%uV%uZ\"/>\n", LEFT + CHART, base);
    put_format(o, "<text x=\"%d\" y=\"%u\">%s%u</text>\n", LEFT + 5, base - WAIT_HEIGHT + 12, most ? "at most " : "",
               most);
}

static void put_svg(struct out *o, const struct lab_result *r) {
    unsigned seats = seats_used(r);
    struct chart c = {r, seats, seats < THIN_FROM ? THICK : THIN, (double)r->measured.wall_ns};
    put_format(o, "<div class=\"scroll\"><svg viewBox=\"0 0 %d %u\" role=\"img\" aria-label=\"", WIDTH,
               bottom(&c) + WAIT_HEIGHT + 14);
    put_xml(o, str_c(r->row->title));
    put_text(o, "\">\n");
    put_axis(o, &c);
    put_names(o, &c);
    for (size_t i = 0; i < r->count; i++) {
        put_bar(o, &c, i);
    }
    put_waiting(o, &c);
    put_text(o, "</svg></div>\n");
}

static void put_section(struct out *o, const struct lab_result *r) {
    put_format(o, "<section id=\"%s\"><h2>", r->row->name);
    put_xml(o, str_c(r->row->title));
    put_text(o, "</h2>\n<p>");
    if (r->problem[0]) {
        put_text(o, "<span class=\"off\">Failed: ");
        put_xml(o, str_c(r->problem));
        put_text(o, "</span></p></section>\n");
        return;
    }
    put_who_waited(o, r);
    put_text(o, " <span class=\"dim\">");
    put_xml(o, str_c(r->row->note));
    put_text(o, "</span></p>\n");
    put_svg(o, r);
    put_text(o, "</section>\n");
}

static void put_key(struct out *o) {
    static const char *const texts[PATIENCE_MOST + 1] = {"sat down at once", "waited for one call", "for two",
                                                         "for three", "for more"};
    put_text(o, "<ul class=\"key\">");
    for (unsigned i = 0; i <= PATIENCE_MOST; i++) {
        put_format(
            o, "<li><svg viewBox=\"0 0 14 14\"><rect class=\"p%u\" width=\"14\" height=\"14\" rx=\"3\"/></svg>%s</li>",
            i, texts[i]);
    }
    put_text(o, "</ul>\n");
}

enum err lab_print_html(struct buf *out, const struct lab_result *v, size_t n) {
    struct out o = {out, OK};
    double scale = n ? v[0].scale : 1;
    page_begin(&o, STR("thaw lab: who waited for whom"), style);
    put_text(&o,
             "<h1>Who waited for whom</h1>\n<p>A row is a seat: a thread, a lock, a call on the event loop. A bar is a "
             "user on it; whoever comes behind it in the row waited for that user.</p>\n");
    put_key(&o);
    put_table(&o, v, n);
    for (size_t i = 0; i < n; i++) {
        put_section(&o, &v[i]);
    }
    put_format(&o,
               "<p class=\"dim\">Performed at %g of the published length, shown at full length; a row is off when "
               "measured and predicted differ by more than %g %%. Again: <code>thaw lab --run --scale %g --report "
               "FILE.html</code>. thaw %s</p>\n",
               scale, 100 * LAB_TOLERANCE, scale, THAW_VERSION);
    page_end(&o);
    return o.e;
}
