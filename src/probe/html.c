// SPDX-License-Identifier: MIT
#include <time.h>

#include "draw/page.h"
#include "draw/scale.h"
#include "draw/text.h"
#include "probe/say.h"
#include "probe/seating.h"
#include "probe/svg.h"

enum { TEXT_CAP = 1 << 20, LINES = 40 };

static const char style[] =
    ".thaw{display:block;width:100%;min-width:680px;height:auto}.target{overflow-wrap:anywhere;margin:0 0 .2em}\n"
    "dl{display:grid;grid-template-columns:7rem minmax(0,1fr);gap:.7rem "
    "1rem;margin:0}dt{color:var(--dim);font-weight:600}"
    "dd{margin:0;overflow-wrap:anywhere}dd p{margin:0 0 .35em}dd p:last-child{margin:0}\n"
    "code{font:.9em ui-monospace,monospace;background:var(--bg);border:1px solid var(--line);border-radius:5px;"
    "padding:.15em .4em;overflow-wrap:anywhere}\n"
    "h1{text-wrap:balance}.badge{display:inline-block;border:1px solid;border-radius:6px;padding:.15em "
    ".6em;margin:.1em 0 .4em;"
    "font-weight:600}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem;width:100%}"
    "th,td{padding:4px 10px;text-align:right;border-bottom:1px solid var(--line)}th{color:var(--dim)}"
    "th:last-child,td:last-child{text-align:left}summary{cursor:pointer;font-weight:600}\n"
    "@media (max-width:560px){dl{grid-template-columns:minmax(0,1fr);gap:.2rem}dd{margin-bottom:.8rem}}\n";

// ---- words

static void put_part(struct out *o, const struct probe_report *r, enum say what) {
    struct buf room;
    struct out words = {&room, OK};
    buf_init(&room, TEXT_CAP);
    say(&words, what, r);
    o->e = o->e == OK ? words.e : o->e;
    struct str rest = buf_str(&room);
    struct str paragraph;
    if (rest.len) {
        put_format(o, "<dt>%s</dt><dd>", say_title(what));
        while (str_split(&rest, '\n', &paragraph)) {
            if (paragraph.len) {
                put(o, what == SAY_AGAIN ? STR("<p><code>") : STR("<p>"));
                put_xml(o, paragraph);
                put(o, what == SAY_AGAIN ? STR("</code></p>") : STR("</p>"));
            }
        }
        put_text(o, "</dd>\n");
    }
    buf_finish(&room);
}

static void put_parts(struct out *o, const struct probe_report *r, enum say from, enum say to) {
    put_text(o, "<section><dl>\n");
    for (unsigned what = from; what <= to; what++) {
        put_part(o, r, (enum say)what);
    }
    put_text(o, "</dl></section>\n");
}

static void put_headline(struct out *o, const struct probe_report *r) {
    static const struct {
        const char *class, *words;
    } badges[] = {[EXPECT_NOTHING] = {NULL, NULL},
                  [EXPECT_MET] = {"ok", "met"},
                  [EXPECT_FAILED] = {"off", "not met"},
                  [EXPECT_UNKNOWN] = {"dim", "not decided"}};
    enum expectation found = report_expectation(r);
    struct buf room;
    buf_init(&room, TEXT_CAP);
    enum err e = say_headline(r, &room);
    o->e = o->e == OK ? e : o->e;
    page_begin(o, buf_str(&room), style);
    put_text(o, "<p class=\"dim target\">thaw probe ");
    put_xml(o, r->target);
    put_text(o, "</p>\n<h1>");
    put_xml(o, buf_str(&room));
    put_text(o, "</h1>\n");
    if (found != EXPECT_NOTHING) {
        put_format(o, "<p class=\"badge %s\">at least %u at once expected: %s</p>\n", badges[found].class, r->expect,
                   badges[found].words);
    }
    buf_finish(&room);
}

// ---- the picture in figures, for those who cannot see it, too

static void put_cell(struct out *o, uint64_t ns) {
    put_text(o, "<td>");
    put_time(o, ns);
    put_text(o, "</td>");
}

static void put_figures(struct out *o, const struct probe_report *r) {
    struct seating s;
    if (seating_fill(&s, r, LINES)) {
        put_text(o, "<section><details><summary>The picture in figures</summary><div class=\"scroll\"><table>\n"
                    "<tr><th>user</th><th>sent</th><th>served from</th><th>to</th><th>status</th><th></th></tr>\n");
        for (unsigned i = 0; i < s.line_count; i++) {
            const struct seating_row *row = &s.rows[s.lines[i].row];
            if (s.lines[i].more) {
                put_text(o, "<tr><td colspan=\"5\"></td><td>");
                put_more(o, &s.lines[i]);
                put_text(o, "</td></tr>\n");
                continue;
            }
            put_format(o, "<tr><td>%u</td>", row->call->user);
            put_cell(o, row->sent_ns);
            put_cell(o, row->start_ns);
            put_cell(o, row->end_ns);
            put_format(o, "<td>%d</td><td>", row->call->status);
            put_row_note(o, row, false);
            put_text(o, "</td></tr>\n");
        }
        put_text(o, "</table></div></details></section>\n");
    }
    seating_finish(&s);
}

static void put_sources(struct out *o, const struct why *why) {
    for (unsigned i = 0; i < why->count; i++) {
        const struct trap *trap = why->reasons[i].trap;
        put(o, i ? STR("; ") : STR("<p class=\"dim\">Where the known limits were read: "));
        put_xml(o, str_c(trap->runtime));
        put_text(o, ": ");
        put_xml(o, str_c(trap->source));
    }
    put(o, why->count ? STR(".</p>\n") : STR(""));
}

static void put_foot(struct out *o, const struct probe_report *r) {
    char when[40] = "";
    struct tm tm;
    time_t at = (time_t)r->unix_s;
    if (r->unix_s && gmtime_r(&at, &tm)) {
        (void)strftime(when, sizeof when, ", %Y-%m-%d %H:%M UTC", &tm);
    }
    put_format(o, "<p class=\"dim\">thaw %s%s</p>\n", THAW_VERSION, when);
}

enum err html_write(const struct probe_report *r, struct buf *out) {
    struct out o = {out, OK};
    put_headline(&o, r);
    put_text(&o, "<section><div class=\"scroll\">\n");
    put_svg(&o, r);
    put_text(&o, "</div></section>\n");
    put_parts(&o, r, SAY_VERDICT, SAY_EXPECTED);
    put_parts(&o, r, SAY_NUMBERS, SAY_AGAIN);
    put_figures(&o, r);
    put_sources(&o, r->why);
    put_foot(&o, r);
    page_end(&o);
    return o.e;
}
