// SPDX-License-Identifier: MIT
// The table, the pictures, the JSON and the report, of runs made up here: what was measured is what was predicted.
#include "lab/run.h"
#include "llm/json.h"

#include "check.h"

enum { CALLS_MAX = 100, CAP = 1 << 20, COLUMNS = 80 };
static const uint64_t MS = 1000000;
static const struct lab_style plain = {.colour = false, .unicode = false};

static const struct lab_row lock = {
    .name = "lock",
    .title = "3 users, <1> \"lock\"",
    .path = "/bad/global_lock",
    .note = "A note that is too long for eighty columns, so that it has to go on in a second line of text.",
    .users = 3,
    .calls = 1,
    .service_ms = 10000,
    .cpus = 10,
    .seats = 1,
    .published = {30.03, -1, 30.02},
};
static const struct lab_row pool = {.name = "pool",
                                    .title = "50 users",
                                    .users = 50,
                                    .calls = 1,
                                    .service_ms = 5000,
                                    .seats = 20,
                                    .published = {-1, -1, -1}};
static const struct lab_row everybody = {.name = "async",
                                         .note = "",
                                         .title = "75 calls",
                                         .users = 15,
                                         .calls = 5,
                                         .service_ms = 60000,
                                         .seats = SEATS_UNLIMITED,
                                         .published = {-1, -1, -1}};

struct made {
    struct lab_result result;
    struct sitting v[CALLS_MAX];
};

static void make(struct made *m, const struct lab_row *row, double scale) {
    struct seats seats = {row->seats, (uint64_t)((double)(row->service_ms * MS) * scale), 0};
    *m = (struct made){.result = {.row = row, .scale = scale, .count = (size_t)row->users * row->calls}};
    for (unsigned i = 0; i < m->result.count; i++) {
        m->v[i].user = i / row->calls;
    }
    seats_fill(&seats, m->v, m->result.count);
    m->result.sittings = m->v;
    m->result.predicted = m->result.measured = waits_of(m->v, m->result.count);
}

static void check_has(const struct buf *b, const char *text) {
    if (str_search(buf_str(b), str_c(text)) == buf_len(b)) {
        fail_msg("there is no \"%s\" in: %.*s", text, STR_ARG(buf_str(b)));
    }
}

static void every_row_of_the_table_is_whole(void **state UNUSED) {
    size_t n = 0;
    for (; lab_row_at(n); n++) {
        const struct lab_row *row = lab_row_at(n);
        check(row->name && row->title && row->path && row->note && row->users && row->calls && row->service_ms);
        for (size_t other = 0; other < n; other++) {
            check(strcmp(lab_row_at(other)->name, row->name) != 0);
        }
    }
    check(n >= 8);
}

static void a_picture_of_a_lock(void **state UNUSED) {
    struct made m;
    struct buf out;
    buf_init(&out, CAP);
    make(&m, &lock, 0.1);
    check_ok(lab_print_picture(&out, &m.result, &plain));
    check_str(buf_str(&out), "lock: 3 users, <1> \"lock\"\n"
                             "         0 s         5          10          15          20         25\n"
                             "    lock 1======================2=======================3======================\n"
                             " waiting 2                      1                       0\n"
                             "  1 at once; 2 of 3 users waited, the longest 20.00 s: user 3 for user 2.\n"
                             "  A note that is too long for eighty columns, so that it has to go on in a\n"
                             "  second line of text.\n");
    buf_finish(&out);
}

static void every_picture_fits_80_columns(void **state UNUSED) {
    static const struct lab_row *const all[] = {&lock, &pool, &everybody};
    static const double scales[] = {0.001, 0.1, 1, 10};
    for (size_t i = 0; i < ARRAY_LEN(all) * ARRAY_LEN(scales); i++) {
        struct made m;
        struct buf out;
        struct str line;
        buf_init(&out, CAP);
        make(&m, all[i % ARRAY_LEN(all)], scales[i / ARRAY_LEN(all)]);
        check_ok(lab_print_picture(&out, &m.result, &plain));
        struct str rest = buf_str(&out);
        while (str_split(&rest, '\n', &line)) {
            check(line.len <= COLUMNS);
        }
        buf_finish(&out);
    }
}

static void seats_that_look_alike_are_folded(void **state UNUSED) {
    struct made m;
    struct buf out;
    buf_init(&out, CAP);
    make(&m, &everybody, 1);
    check_ok(lab_print_picture(&out, &m.result, &plain));
    check_has(&out, "... 73 more, at the same times\n");
    check_has(&out, "Nobody waited: 75 at once.");
    buf_clear(&out);
    make(&m, &pool, 1); // 20, 20 and 10: two kinds of seats
    check_ok(lab_print_picture(&out, &m.result, &plain));
    check_has(&out, " seat 1 1====");
    check_has(&out, "... 8 more, at the same times\n");
    check_has(&out, "seat 11 11====");
    check_has(&out, "... 9 more, at the same times\n");
    check_has(&out, "waiting 30");
    buf_finish(&out);
}

static void colours_and_lines_where_they_are_wanted(void **state UNUSED) {
    struct made m;
    struct buf out;
    buf_init(&out, CAP);
    make(&m, &lock, 1);
    check_ok(lab_print_picture(&out, &m.result, &(struct lab_style){.colour = true, .unicode = true}));
    check_has(&out, "\033[32m1\xE2\x94\x81");
    check_has(&out, "\033[33m2\xE2\x94\x81");
    check_has(&out, "\033[31m3\xE2\x94\x81");
    check_has(&out, "\033[0m\n");
    buf_clear(&out);
    check_ok(lab_print_picture(&out, &m.result, &(struct lab_style){.unicode = true}));
    check(str_find(buf_str(&out), '\033') == buf_len(&out));
    buf_finish(&out);
}

static void the_table_has_all_three_beside_each_other(void **state UNUSED) {
    struct made m[2];
    struct lab_result v[2];
    struct buf out;
    buf_init(&out, CAP);
    make(&m[0], &lock, 0.1);
    make(&m[1], &pool, 0.1);
    v[0] = m[0].result;
    v[1] = m[1].result;
    v[1].off = LAB_TOLERANCE + 0.001;
    check_ok(lab_print_table(&out, v, 2, &plain));
    check_has(&out, "lock        30.03  30.00  30.00       -  20.00  20.00   30.02  30.00  30.00 ok\n");
    check_has(&out, "pool            -  15.00  15.00       -   9.00   9.00       -  15.00  15.00 OFF\n");
    check(lab_result_fine(&v[0]) && !lab_result_fine(&v[1]));
    buf_finish(&out);
}

static void a_row_that_failed_says_so_everywhere(void **state UNUSED) {
    struct made m;
    struct buf out;
    buf_init(&out, CAP);
    make(&m, &lock, 1);
    m.result.count = 0;
    snprintf(m.result.problem, sizeof m.result.problem, "user 1: <no> \"answer\"");
    check(!lab_result_fine(&m.result));
    check_ok(lab_print_table(&out, &m.result, 1, &plain));
    check_has(&out, "user 1: <no> \"answer\"");
    buf_clear(&out);
    check_ok(lab_print_picture(&out, &m.result, &plain));
    check_has(&out, "failed: user 1: <no> \"answer\"");
    buf_clear(&out);
    check_ok(lab_print_html(&out, &m.result, 1));
    check_has(&out, "Failed: user 1: &lt;no&gt; &quot;answer&quot;");
    buf_clear(&out);
    check_ok(lab_print_json(&out, &m.result, 1));
    struct json *json = json_open(buf_str(&out), CAP);
    const struct json_value *row = json_item(json_member(json_root(json), "rows"), 0);
    check_str(json_string(json_member(row, "problem")), "user 1: <no> \"answer\"");
    check(!json_true(json_member(row, "ok")));
    json_close(json);
    buf_finish(&out);
}

static double figure(const struct json_value *row, const char *group, const char *name) {
    double n = -1;
    return json_number(json_member(json_member(row, group), name), &n) ? n : -1;
}

static void json_has_figures_and_calls(void **state UNUSED) {
    static const struct lab_row quoted = {
        .name = "n", .title = "t", .users = 2, .calls = 1, .service_ms = 1000, .seats = 1, .published = {2.5, -1, -1}};
    struct made m;
    struct buf out;
    buf_init(&out, CAP);
    make(&m, &quoted, 0.5);
    m.result.row = &quoted;
    check_ok(lab_print_json(&out, &m.result, 1));
    struct json *json = json_open(buf_str(&out), CAP);
    const struct json_value *row = json_item(json_member(json_root(json), "rows"), 0);
    check(json != NULL && json_true(json_member(row, "ok")));
    check(figure(row, "published", "wall_s") == 2.5 && figure(row, "published", "mean_s") == -1);
    check(figure(row, "predicted", "wall_s") == 2 && figure(row, "measured", "mean_s") == 1.5);
    const struct json_value *calls = json_member(row, "calls_made");
    double n = 0;
    check_int(json_length(calls), 2);
    check(json_number(json_member(json_item(calls, 1), "waited_for"), &n) && n == 1);
    check(json_number(json_member(json_item(calls, 1), "seated_ns"), &n) && n == (double)(500 * MS));
    json_close(json);
    buf_finish(&out);
}

static unsigned count(struct str s, const char *text) {
    unsigned n = 0;
    for (size_t at; (at = str_search(s, str_c(text))) < s.len; s = str_skip(s, at + 1)) {
        n++;
    }
    return n;
}

static void the_report_stands_alone(void **state UNUSED) {
    struct made m;
    struct buf out;
    buf_init(&out, CAP);
    make(&m, &pool, 0.1);
    check_ok(lab_print_html(&out, &m.result, 1));
    check_int(count(buf_str(&out), "<title>user "), 50); // a bar for each call
    check_has(&out, "<title>user 21: waited 5.00 s for user 1; served 5.00 s</title>");
    check_int(count(buf_str(&out), "<rect") - count(buf_str(&out), "<li>"), 50);
    check_has(&out, "prefers-color-scheme:dark");
    static const char *const foreign[] = {"<script", "http://", "https://", "src=", "url(", "@import"};
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        check_int(count(buf_str(&out), foreign[i]), 0);
    }
    static const char *const pairs[][2] = {{"<section", "</section>"}, {"<svg", "</svg>"}, {"<tr", "</tr>"},
                                           {"<td", "</td>"},           {"<div", "</div>"}, {"<p", "</p>"}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        unsigned paths = i == ARRAY_LEN(pairs) - 1 ? count(buf_str(&out), "<path") : 0;
        check_int(count(buf_str(&out), pairs[i][0]) - paths, count(buf_str(&out), pairs[i][1]));
    }
    buf_clear(&out);
    make(&m, &lock, 1);
    check_ok(lab_print_html(&out, &m.result, 1));
    check_has(&out, "3 users, &lt;1&gt; &quot;lock&quot;");
    check_int(count(buf_str(&out), "<1>"), 0);
    buf_finish(&out);
}

static void print_all(void *arg) {
    struct made *m = arg;
    struct buf out;
    buf_init(&out, CAP);
    enum err e = lab_print_html(&out, &m->result, 1);
    e = e == OK ? lab_print_json(&out, &m->result, 1) : e;
    e = e == OK ? lab_print_picture(&out, &m->result, &plain) : e;
    e = e == OK ? lab_print_table(&out, &m->result, 1, &plain) : e;
    check(e == OK || e == ERR_NOMEM);
    buf_finish(&out);
}

static void no_memory_is_an_error(void **state UNUSED) {
    struct made m;
    make(&m, &lock, 1);
    check(every_allocation_fails(print_all, &m) > 0);
}

TESTS(TEST(every_row_of_the_table_is_whole), TEST(a_picture_of_a_lock), TEST(every_picture_fits_80_columns),
      TEST(seats_that_look_alike_are_folded), TEST(colours_and_lines_where_they_are_wanted),
      TEST(the_table_has_all_three_beside_each_other), TEST(a_row_that_failed_says_so_everywhere),
      TEST(json_has_figures_and_calls), TEST(the_report_stands_alone), TEST(no_memory_is_an_error))
