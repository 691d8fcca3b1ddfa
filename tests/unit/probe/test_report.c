// SPDX-License-Identifier: MIT
// The reports of probes made up in samples.h: nothing is said or drawn that the verdict does not carry, everything has
// its sentence, every line fits, nothing from outside does anything. What other programs read is read by other programs
// (check_reports.py).
#include <math.h>

#include "check.h"
#include "llm/json.h"
#include "probe/seating.h"
#include "samples.h"

enum { CAP = 1 << 26, ROOM = 48 };

static struct sample m;
static const uint64_t S = 1000000000;

static const struct sample_plan *plan_of(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(sample_plans); i++) {
        if (strcmp(sample_plans[i].name, name) == 0) {
            return &sample_plans[i];
        }
    }
    fail_msg("there is no sample %s", name);
    return NULL;
}

static struct seating seat(const char *name) {
    struct seating s;
    sample_make(&m, plan_of(name));
    check(seating_fill(&s, &m.report, ROOM));
    return s;
}

static bool has(const struct buf *b, const char *text) { return str_search(buf_str(b), str_c(text)) < buf_len(b); }

static void check_has(const struct buf *b, const char *text, bool wanted) {
    if (has(b, text) != wanted) {
        fail_msg("\"%s\" is %s in: %.*s", text, wanted ? "not" : "nevertheless", STR_ARG(buf_str(b)));
    }
}

static void check_said(enum say what, const char *text, bool wanted) {
    struct buf b;
    struct out o = {&b, OK};
    buf_init(&b, CAP);
    say(&o, what, &m.report);
    check_ok(o.e);
    check_has(&b, text, wanted);
    buf_finish(&b);
}

// ---- who waited for whom

static void a_lock_hands_over_from_one_to_the_next(void **state UNUSED) {
    struct seating s = seat("serial");
    check_int(s.seats, 1);
    check_int(s.waited, s.count - 1);
    for (unsigned i = 1; i < s.count; i++) {
        check_int(s.rows[i].after, i);
        check(s.rows[i].start_ns == s.rows[i - 1].end_ns);
    }
    check_int(s.longest, s.count - 1);
    check_int(s.lost, 2); // of 8 times 5 s those behind 30 s
    seating_finish(&s);
}

static void who_comes_later_waits_from_when_he_came(void **state UNUSED) {
    struct seating s = seat("staggered");
    for (unsigned i = 1; i < s.count; i++) {
        check(s.rows[i].sent_ns >= i * 2 * S && s.rows[i].sent_ns < i * 2 * S + S / 10);
        check(s.rows[i].start_ns == s.rows[i - 1].end_ns);
        check_int(s.rows[i].after, i);
    }
    check_int(s.lost, 1); // 30 s less 8 s
    seating_finish(&s);
}

static void a_pool_has_as_many_seats_as_the_verdict_says(void **state UNUSED) {
    struct seating s = seat("pool");
    unsigned waited_for[64] = {0};
    check_int(s.seats, 6);
    check_int(s.waited, 8);
    for (unsigned i = 0; i < s.count; i++) {
        check_int(s.rows[i].after == NOBODY, i < 6);
        waited_for[s.rows[i].after]++;
        if (i < 6) {
            check_int(s.rows[i].seat, i + 1); // named in the order of the rows
        } else {
            check_int(s.rows[s.rows[i].after_at].call->user, s.rows[i].after);
            check_int(s.rows[s.rows[i].after_at].seat, s.rows[i].seat);
        }
    }
    for (unsigned user = 1; user <= 14; user++) {
        check(waited_for[user] <= 1); // a seat is handed to one
    }
    check(!s.exact);
    seating_finish(&s);
}

static void what_the_journal_saw_is_not_inferred(void **state UNUSED) {
    struct seating s = seat("pool-seen");
    check(s.exact);
    for (unsigned i = 0; i < s.count; i++) {
        check_int(s.rows[i].seat, m.calls[i].seen_seat);
        check(s.rows[i].start_ns + m.calls[0].sent_ns == m.calls[i].seen_start_ns);
        check_int(s.rows[i].after, i < 6 ? NOBODY : i - 5);
    }
    seating_finish(&s);
    check_said(SAY_CAVEATS, "inferred", false);
    check_said(SAY_VERDICT, "counted, not inferred", true);
    m.evidence.journal = false; // nobody read it
    check(seating_fill(&s, &m.report, ROOM));
    check(!s.exact);
    seating_finish(&s);
}

static void a_seat_of_the_journal_that_cannot_be_is_not_believed(void **state UNUSED) {
    sample_make(&m, plan_of("pool-seen"));
    for (unsigned i = 0; i < 14; i++) {
        m.calls[i].seen_seat = i % 2 ? 0 : UINT32_MAX;
    }
    struct seating s;
    check(seating_fill(&s, &m.report, ROOM));
    check(s.exact && s.seats >= 1 && s.seats <= s.count);
    seating_finish(&s);
}

static void sessions_wait_within_themselves(void **state UNUSED) {
    struct seating s = seat("session");
    for (unsigned i = 0; i < s.count; i++) {
        const struct seating_row *row = &s.rows[i];
        check(row->after == NOBODY || s.rows[row->after_at].call->session == row->call->session);
    }
    check_int(s.seats, 2);
    seating_finish(&s);
}

static void who_is_refused_has_no_seat_and_does_not_wait(void **state UNUSED) {
    struct seating s = seat("cap");
    check_int(s.refused, 4);
    check_int(s.waited, 0);
    check_int(s.seats, 6);
    for (unsigned i = 0; i < s.count; i++) {
        check_int(s.rows[i].refused, i >= 6);
        check_int(s.rows[i].seat == 0, i >= 6);
    }
    seating_finish(&s);
}

static void without_seats_nobody_waits_for_anybody(void **state UNUSED) {
    static const char *const names[] = {"flat", "cpu", "network"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct seating s = seat(names[i]);
        check_int(s.waited, 0);
        check_int(s.seats, 0);
        check_int(s.plain, strcmp(names[i], "network") == 0);
        check_int(s.beside, i > 0);
        seating_finish(&s);
    }
    struct seating s = seat("bucket"); // they wait for the clock
    check_int(s.waited, 7);
    for (unsigned i = 0; i < s.count; i++) {
        check_int(s.rows[i].after, NOBODY);
    }
    seating_finish(&s);
}

static void who_was_held_up_by_the_network_waited_for_nobody(void **state UNUSED) {
    struct seating s;
    struct buf b;
    struct out o = {&b, OK};
    buf_init(&b, CAP);
    sample_make(&m, plan_of("serial"));
    m.calls[7].retransmitted = true;
    check(seating_fill(&s, &m.report, ROOM));
    check_int(s.waited, 6);
    check_int(s.rows[7].after, NOBODY);
    put_row_note(&o, &s.rows[7], false);
    check_str(buf_str(&b), "held up by the network, lost");
    check_said(SAY_CAVEATS, "1 call was held up by the network", true);
    seating_finish(&s);
    buf_finish(&b);
}

static void the_burst_that_shows_it_best_is_drawn(void **state UNUSED) {
    static struct sample other;
    struct seating s;
    sample_make(&m, plan_of("pool"));
    sample_make(&other, plan_of("pool-many"));
    struct trial *trials[] = {&m.solo, &m.burst, &other.burst};
    m.evidence.trials = trials;
    m.evidence.count = 3;
    check(seating_fill(&s, &m.report, ROOM));
    check(s.trial == &m.burst); // 14 users show a pool of 6; 2,000 do not show it better
    seating_finish(&s);
    m.verdict.best = (struct hypothesis){.model = PROBE_FLAT};
    check(seating_fill(&s, &m.report, ROOM));
    check(s.trial == &other.burst);
    seating_finish(&s);
    m.evidence.count = 1;
    check(seating_fill(&s, &m.report, ROOM));
    check(s.trial == &m.solo);
    seating_finish(&s);
}

static void many_users_are_folded_and_none_is_forgotten(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(sample_plans); i++) {
        struct seating s = seat(sample_plans[i].name);
        unsigned users = 0;
        for (unsigned line = 0; line < s.line_count; line++) {
            users += s.lines[line].more ? s.lines[line].more : 1;
        }
        check_int(users, sample_plans[i].users);
        check(s.line_count <= ROOM);
        for (unsigned row = 0; row < s.count; row++) {
            const struct seating_row *r = &s.rows[row];
            check(r->sent_ns <= r->start_ns && r->start_ns <= r->end_ns && r->end_ns <= s.length_ns);
            check(r->after == NOBODY || s.rows[r->after_at].call->user == r->after);
        }
        seating_finish(&s);
    }
    struct seating s = seat("flat-many");
    check_int(s.line_count, 2);
    check_int(s.lines[1].more, 1999);
    seating_finish(&s);
}

static void the_canary_is_looked_at_between_two_moments(void **state UNUSED) {
    struct seating s = seat("serial");
    check_int(seating_canary(&s, &m.evidence, 0, s.length_ns), LOOK_GONE);
    seating_finish(&s);
    s = seat("pool");
    check_int(seating_canary(&s, &m.evidence, 0, s.length_ns), LOOK_FINE);
    m.canaries[20].end_ns = m.canaries[20].sent_ns + S; // slow once
    uint64_t at = m.canaries[20].sent_ns - s.from_ns;
    check_int(seating_canary(&s, &m.evidence, at + 1, at + 2), LOOK_SLOW);
    check_int(seating_canary(&s, &m.evidence, at + 5 * S, at + 5 * S + 1), LOOK_FINE);
    m.canaries[20].end_ns = 0; // never answered
    check_int(seating_canary(&s, &m.evidence, at + 5 * S, at + 5 * S + 1), LOOK_GONE);
    seating_finish(&s);
    s = seat("poll");
    check_int(seating_canary(&s, &m.evidence, 0, s.length_ns), LOOK_NONE);
    seating_finish(&s);
}

static void seats_are_named_by_letters(void **state UNUSED) {
    char name[SEAT_NAME];
    check_str(str_c(seat_name(name, 1)), "A");
    check_str(str_c(seat_name(name, 26)), "Z");
    check_str(str_c(seat_name(name, 27)), "AA");
    check_str(str_c(seat_name(name, 703)), "AAA");
    check(strlen(seat_name(name, UINT32_MAX)) < SEAT_NAME);
}

// ---- the terminal

static size_t width_of(struct str line) {
    size_t n = 0;
    for (size_t i = 0; i < line.len; i++) {
        if (line.ptr[i] == '\033') {
            i += str_find(str_skip(line, i), 'm');
        } else {
            n += (line.ptr[i] & 0xC0) != 0x80;
        }
    }
    return n;
}

static void check_picture(unsigned columns, bool ascii, bool colour) {
    struct buf b;
    struct str line;
    buf_init(&b, CAP);
    check_ok(picture_write(&m.report, &(struct picture_options){columns, ascii, colour}, &b));
    struct str rest = buf_str(&b);
    while (str_split(&rest, '\n', &line)) {
        if (width_of(line) > MIN(MAX(columns, 60U), 200U)) {
            fail_msg("%u columns: %.*s", columns, STR_ARG(line));
        }
    }
    for (size_t i = 0; i < buf_len(&b); i++) {
        unsigned char c = (unsigned char)buf_str(&b).ptr[i];
        check(!ascii || c < 0x80);
        check(c >= ' ' || c == '\n' || (colour && c == '\033'));
    }
    buf_finish(&b);
}

static void every_line_fits_whatever_the_terminal(void **state UNUSED) {
    static const unsigned widths[] = {0, 60, 61, 79, 80, 89, 90, 120, 199, 200, 1000};
    for (size_t i = 0; i < ARRAY_LEN(sample_plans); i++) {
        sample_make(&m, &sample_plans[i]);
        m.report.command = NULL; // it alone is not broken
        m.report.target = STR("http://a-name-that-is-longer-than-the-narrowest-terminal-is-wide.example/and/a/path");
        for (size_t w = 0; w < ARRAY_LEN(widths); w++) {
            check_picture(widths[w], false, false);
            check_picture(widths[w], true, false);
            check_picture(widths[w], false, true);
            check_picture(widths[w], true, true);
        }
    }
}

static void the_key_explains_what_is_shown_and_nothing_else(void **state UNUSED) {
    static const struct {
        const char *sample, *shown, *missing;
    } cases[] = {{"serial", "canary silent", "a cheap path answers"},
                 {"pool", "a cheap path answers", "silent"},
                 {"cpu", "served beside others", "waits"},
                 {"cap", "refused or failed", "waits"},
                 {"network", "under way", "served ("},
                 {"pool", "timeout", "refused"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b;
        buf_init(&b, CAP);
        sample_make(&m, plan_of(cases[i].sample));
        check_ok(picture_chart(&m.report, &(struct picture_options){.columns = 80}, &b));
        check_has(&b, cases[i].shown, true);
        check_has(&b, cases[i].missing, false);
        buf_clear(&b);
        check_ok(svg_write(&m.report, &b));
        check_has(&b, cases[i].shown, true);
        buf_finish(&b);
    }
}

static void the_command_stays_whole(void **state UNUSED) {
    struct buf b;
    buf_init(&b, CAP);
    sample_make(&m, plan_of("pool"));
    check_ok(picture_write(&m.report, &(struct picture_options){60, false, false}, &b));
    check_has(&b, "AGAIN     thaw probe http://app.example/summarise --users 14 -d '{\"prompt\":\"hi\"}'\n", true);
    buf_finish(&b);
}

static void a_picture_of_a_lock(void **state UNUSED) {
    static const struct sample_plan plan = {
        .name = "lock",
        .users = 3,
        .best = {.model = PROBE_SERIAL, .at_once = 1},
        .runner_up = SAMPLE_NONE,
        .service_ms = 10000,
        .timeout_s = 25,
    };
    struct buf b;
    buf_init(&b, CAP);
    sample_make(&m, &plan);
    check_ok(picture_chart(&m.report, &(struct picture_options){.columns = 80, .ascii = true}, &b));
    check_str(buf_str(&b), "  user 0 s               10.0 s             20.0 s           30.0 s\n"
                           "     1 A#################:                  :        !       :\n"
                           "     2 ..................A##################:        !       : 10.0 s for 1\n"
                           "     3 .....................................A########!######## 20.0 s for 2 lost\n"
                           "                                                     ! timeout 25.0 s\n"
                           "       . waits   # served (a letter is a place)   ! timeout\n");
    buf_finish(&b);
}

// ---- words

static void check_sentences(struct str text) {
    check(text.len > 0);
    static const char *const wrong[] = {"  ", "..", " .", " ,", "nan", "inf ", "(null)", "\t", "-1"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        if (str_search(text, str_c(wrong[i])) < text.len) {
            fail_msg("\"%s\" in: %.*s", wrong[i], STR_ARG(text));
        }
    }
    for (size_t i = 0; i < text.len; i++) {
        check((text.ptr[i] >= ' ' && text.ptr[i] <= '~') || text.ptr[i] == '\n');
    }
}

static void every_verdict_has_its_words(void **state UNUSED) {
    struct buf b;
    buf_init(&b, CAP);
    sample_make(&m, plan_of("pool"));
    m.report.command = "again";
    for (unsigned i = 0; i <= PROBE_INCONCLUSIVE; i++) {
        for (unsigned doubt = DOUBT_NONE; doubt <= DOUBT_STREAMS; doubt++) {
            for (unsigned more = 0; more < 64; more++) {
                m.verdict.best = (struct hypothesis){.model = (enum probe_model)i,
                                                     .at_once = 1 + (more & 1),
                                                     .workers = 2,
                                                     .each = 1,
                                                     .share = 0.25,
                                                     .rate = 0.3,
                                                     .period_ns = S / 10,
                                                     .refused_status = more & 2 ? 503 : 0,
                                                     .random_order = more & 4};
                m.verdict.likely = more & 8 ? m.verdict.best : (struct hypothesis)SAMPLE_POOL(3);
                m.verdict.doubt = (enum doubt)doubt;
                m.verdict.canary = (enum canary_verdict)(more & 3);
                m.verdict.odds = more & 16 ? 3 : 1e300;
                m.verdict.exact = more & 32;
                m.verdict.solo_cv = more & 4 ? 0.4 : 0;
                m.why.count = more & 8 ? 3 : 0;
                buf_clear(&b);
                check_ok(say_headline(&m.report, &b));
                check_sentences(buf_str(&b));
                check(str_ends(buf_str(&b), STR(".")) && str_find(buf_str(&b), '\n') == buf_len(&b));
                for (unsigned part = 0; part < SAY_COUNT; part++) {
                    struct out o = {&b, OK};
                    buf_clear(&b);
                    say(&o, (enum say)part, &m.report);
                    check_ok(o.e);
                    if (buf_len(&b)) {
                        check_sentences(buf_str(&b));
                        check(str_ends(buf_str(&b), STR("\n")));
                    } else {
                        check(part != SAY_VERDICT && part != SAY_NUMBERS && part != SAY_PROBER);
                    }
                }
            }
        }
    }
    buf_finish(&b);
}

static void each_model_and_each_doubt_says_something_else(void **state UNUSED) {
    struct buf seen;
    struct buf b;
    buf_init(&seen, CAP);
    buf_init(&b, CAP);
    sample_make(&m, plan_of("flat"));
    for (unsigned i = 0; i < PROBE_INCONCLUSIVE + 1 + DOUBT_STREAMS; i++) {
        m.verdict.best.model = (enum probe_model)MIN(i, (unsigned)PROBE_INCONCLUSIVE);
        m.verdict.doubt = (enum doubt)(i > PROBE_INCONCLUSIVE ? i - PROBE_INCONCLUSIVE : 0);
        buf_clear(&b);
        check_ok(say_headline(&m.report, &b));
        check_ok(buf_append(&b, "\n", 1));
        check(str_search(buf_str(&seen), buf_str(&b)) == buf_len(&seen) || buf_len(&seen) == 0);
        check_ok(buf_str_append(&seen, buf_str(&b)));
    }
    buf_finish(&b);
    buf_finish(&seen);
}

static void the_headline_names_what_fits_and_does_not_claim_it(void **state UNUSED) {
    struct buf b;
    buf_init(&b, CAP);
    sample_make(&m, plan_of("pool"));
    check_ok(say_headline(&m.report, &b));
    check_str(buf_str(&b), "6 at once, then a queue. It fits asyncio.to_thread: 6 = min(32, 2 + 4).");
    m.verdict.odds = 20; // too little
    buf_clear(&b);
    check_ok(say_headline(&m.report, &b));
    check_str(buf_str(&b), "6 at once, then a queue; or: 7 at once, then a queue. Both fit.");
    m.verdict.odds = SAY_ODDS_ENOUGH;
    m.why.reasons[0].likely = m.why.reasons[1].likely = false; // none is left
    buf_clear(&b);
    check_ok(say_headline(&m.report, &b));
    check_str(buf_str(&b), "6 at once, then a queue.");
    buf_finish(&b);
}

static void what_was_not_the_app_is_not_its_fault(void **state UNUSED) {
    static const enum doubt others[] = {DOUBT_PROBER, DOUBT_NETWORK, DOUBT_STREAMS};
    struct buf b;
    buf_init(&b, CAP);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        sample_make(&m, plan_of("tie"));
        m.verdict.doubt = others[i];
        m.verdict.canary = CANARY_FROZEN;
        buf_clear(&b);
        check_ok(say_headline(&m.report, &b));
        check_has(&b, "not the app", true);
        check_has(&b, "at once", false); // what it looks like is not told
        check_said(SAY_VERDICT, "What would settle it: ", true);
        check_said(SAY_VERDICT, "stands still", false);
        check_said(SAY_WHY, "asyncio", false);
        check_said(SAY_CONFIRM, "PYTHON", false);
        check_said(SAY_FIX, "async", false);
        check_said(SAY_NUMBERS, "waited", false);
    }
    sample_make(&m, plan_of("tie"));
    check_said(SAY_VERDICT, "Either: 4 at once, then a queue. Or: 4 at once, then 1 a second.", true);
    check_said(SAY_WHY, "Should it be", true);
    check_said(SAY_FIX, "async", false); // of what is not decided nothing is to be mended
    buf_finish(&b);
}

static void a_browsers_limit_is_ruled_out_with_its_reason(void **state UNUSED) {
    sample_make(&m, plan_of("pool"));
    check_said(SAY_WHY, "on the 2 CPUs of this machine", true);
    check_said(SAY_WHY, "Ruled out: 6 = 6, Browsers.", true);
    check_said(SAY_WHY, "This prober has no such limit", true);
    check_said(SAY_CONFIRM, "Browsers", false);
    m.evidence.local = false;
    check_said(SAY_WHY, "if the app has 2 CPUs", true);
}

// ---- what was expected

static void expectations_are_met_failed_or_not_decided(void **state UNUSED) {
    static const struct {
        struct hypothesis best;
        unsigned tried, expect;
        enum expectation wanted;
    } cases[] = {
        {{.model = PROBE_POOL, .at_once = 6}, 14, 0, EXPECT_NOTHING},
        {{.model = PROBE_POOL, .at_once = 6}, 14, 6, EXPECT_MET},
        {{.model = PROBE_POOL, .at_once = 6}, 14, 7, EXPECT_FAILED},
        {{.model = PROBE_FLAT}, 14, 14, EXPECT_MET},
        {{.model = PROBE_FLAT}, 14, 15, EXPECT_UNKNOWN},
        {{.model = PROBE_SERIAL, .at_once = 1}, 14, 1, EXPECT_MET},
        {{.model = PROBE_SERIAL, .at_once = 1}, 14, 2, EXPECT_FAILED},
        {{.model = PROBE_PARTIAL_LOCK}, 14, 2, EXPECT_FAILED},
        {{.model = PROBE_POLL}, 14, 2, EXPECT_FAILED},
        {{.model = PROBE_SESSION, .at_once = 1}, 14, 14, EXPECT_MET},
        {{.model = PROBE_SESSION, .at_once = 1}, 14, 15, EXPECT_UNKNOWN},
        {{.model = PROBE_CAP, .at_once = 5}, 14, 6, EXPECT_FAILED},
        {{.model = PROBE_BUCKET, .at_once = 5}, 14, 5, EXPECT_MET},
        {{.model = PROBE_CPU, .at_once = 2}, 14, 3, EXPECT_FAILED},
        {{.model = PROBE_PARTITIONED, .at_once = 8}, 14, 8, EXPECT_MET},
        {{.model = PROBE_INCONCLUSIVE}, 14, 1, EXPECT_UNKNOWN},
    };
    sample_make(&m, plan_of("pool"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        m.verdict.best = cases[i].best;
        m.verdict.tried_up_to = cases[i].tried;
        m.report.expect = cases[i].expect;
        check_int(report_expectation(&m.report), cases[i].wanted);
    }
}

static void junit_fails_errs_skips_or_passes(void **state UNUSED) {
    static const struct {
        const char *sample;
        unsigned expect;
        const char *counts, *element;
    } cases[] = {
        {"pool", 10, "failures=\"1\" errors=\"0\" skipped=\"0\"",
         "<failure message=\"At least 10 at once were expected: not met. 6 at once, then a queue.\" type=\"expect\">"},
        {"pool", 6, "failures=\"0\" errors=\"0\" skipped=\"0\"", "<system-out>6 at once"},
        {"pool", 0, "failures=\"0\" errors=\"0\" skipped=\"0\"", "<system-out>6 at once"},
        {"network", 3, "failures=\"0\" errors=\"1\" skipped=\"0\"", "<error message=\"At least 3"},
        {"network", 0, "failures=\"0\" errors=\"0\" skipped=\"1\"", "<skipped message=\"Inconclusive: the network"},
        {"flat", 99, "failures=\"0\" errors=\"1\" skipped=\"0\"", "type=\"inconclusive\""},
    };
    struct buf b;
    buf_init(&b, CAP);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        sample_make(&m, plan_of(cases[i].sample));
        m.report.expect = cases[i].expect;
        buf_clear(&b);
        check_ok(junit_write(&m.report, &b));
        check_has(&b, cases[i].counts, true);
        check_has(&b, cases[i].element, true);
    }
    check_has(&b, "timestamp=\"2026-11-20T", true);
    buf_finish(&b);
}

// ---- JSON

static const struct json_value *find(struct json *json, const char *name) { return json_member(json_root(json), name); }

static void json_has_what_is_known_and_null_where_there_is_none(void **state UNUSED) {
    struct buf b;
    double n = -1;
    buf_init(&b, CAP);
    sample_make(&m, plan_of("pool"));
    m.calls[3].end_ns = m.calls[3].first_byte_ns = 0;
    m.verdict.odds = INFINITY;
    check_ok(json_write(&m.report, &b));
    struct json *json = json_open(buf_str(&b), CAP);
    check(json != NULL);
    check_str(json_string(find(json, "model")), "pool");
    check(json_number(find(json, "at_once"), &n) && n == 6);
    check(json_number(find(json, "solo_ms"), &n) && n == 20000);
    check_str(json_string(find(json, "cause")), "asyncio.to_thread");
    check_int(json_kind(find(json, "odds")), JSON_NULL);
    check_str(json_string(json_member(find(json, "runner_up"), "model")), "pool");
    const struct json_value *calls = json_member(json_item(find(json, "trials"), 1), "calls");
    check_int(json_length(calls), 14);
    check_int(json_kind(json_member(json_item(calls, 3), "end_ms")), JSON_NULL);
    check(json_number(json_member(json_item(calls, 0), "start_ms"), &n) && n == 30000);
    json_close(json);
    buf_clear(&b);
    sample_make(&m, plan_of("network"));
    check_ok(json_write(&m.report, &b));
    json = json_open(buf_str(&b), CAP);
    check_int(json_kind(find(json, "at_once")), JSON_NULL);
    check_int(json_kind(find(json, "cause")), JSON_NULL);
    check_str(json_string(find(json, "doubt")), "network");
    json_close(json);
    buf_clear(&b);
    sample_make(&m, plan_of("tie")); // has reasons, but no cause yet
    check_ok(json_write(&m.report, &b));
    json = json_open(buf_str(&b), CAP);
    check_int(json_kind(find(json, "cause")), JSON_NULL);
    check_int(json_length(find(json, "reasons")), 1);
    json_close(json);
    buf_finish(&b);
}

static void which_http_was_spoken_is_told(void **state UNUSED) {
    static const struct {
        unsigned first, others; // calls were asked in
        unsigned streams;
        enum one_connection found;
        const char *said, *http, *one; // NULL: not said, null
    } rows[] = {
        {0, 0, 0, ONE_CONNECTION_UNTRIED, NULL, NULL, NULL},
        {1, 1, 0, ONE_CONNECTION_UNTRIED, "Spoken: HTTP/1.1, a connection for each user.\n", "1.1", NULL},
        {2, 1, 0, ONE_CONNECTION_UNTRIED, "HTTP/2 on some connections, HTTP/1.1 on others.\n", "mixed", NULL},
        {2, 2, 0, ONE_CONNECTION_UNTRIED, "Spoken: HTTP/2, a connection for each user.\n", "2", NULL},
        {2, 2, 100, ONE_CONNECTION_SAME,
         "takes 100 streams at once, by its own word: who sends more on one has to wait, whatever the app does. "
         "12 calls on one connection took as long.\n",
         "2", "same"},
        {2, 2, 1, ONE_CONNECTION_UNTRIED, "takes 1 stream at once", "2", NULL},
        {2, 2, 0, ONE_CONNECTION_SLOWER, " 12 calls on one connection took 6.5 times as long: ", "2", "slower"},
        {2, 2, 0, ONE_CONNECTION_REFUSES, " 12 calls on one connection were not all answered, ", "2", "refuses"},
    };
    struct buf b;
    buf_init(&b, CAP);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        double n = 0;
        sample_make(&m, plan_of("pool"));
        for (unsigned k = 0; k < m.burst.plan.calls; k++) {
            m.calls[k].http = k ? rows[i].others : rows[i].first;
        }
        m.burst.streams = rows[i].streams;
        m.verdict.one_connection = rows[i].found;
        m.verdict.one_connection_calls = 12;
        m.verdict.one_connection_times = rows[i].found == ONE_CONNECTION_SLOWER ? 6.5 : 0;
        check_said(SAY_NUMBERS, rows[i].said ? rows[i].said : "Spoken", rows[i].said != NULL);
        buf_clear(&b);
        check_ok(json_write(&m.report, &b));
        struct json *json = json_open(buf_str(&b), CAP);
        check(json != NULL);
        const struct json_value *one = find(json, "one_connection");
        check_int(json_kind(find(json, "http")), rows[i].http ? JSON_STRING : JSON_NULL);
        check_str(json_string(find(json, "http")), rows[i].http ? rows[i].http : "");
        check_int(json_kind(find(json, "max_streams")), rows[i].streams ? JSON_NUMBER : JSON_NULL);
        check(!rows[i].streams || (json_number(find(json, "max_streams"), &n) && n == rows[i].streams));
        check_int(json_kind(one), rows[i].one ? JSON_OBJECT : JSON_NULL);
        check_str(json_string(json_member(one, "found")), rows[i].one ? rows[i].one : "");
        check(rows[i].found != ONE_CONNECTION_SLOWER || (json_number(json_member(one, "times"), &n) && n == 6.5));
        json_close(json);
    }
    buf_finish(&b);
}

static void calls_that_were_turned_away_have_not_failed(void **state UNUSED) {
    sample_make(&m, plan_of("pool"));
    check_said(SAY_CAVEATS, "turned away", false);
    m.calls[3].turned_away = true;
    m.calls[3].status = 0;
    m.calls[3].error = ERR_RESET;
    check_said(SAY_CAVEATS, "1 call was turned away by the server's HTTP/2: not counted as refused by the app.\n",
               true);
    check_said(SAY_CAVEATS, "failed", false);
}

// ---- whatever comes

static const struct {
    const char *name;
    enum err (*write)(const struct probe_report *r, struct buf *out);
} writers[] = {
    {"svg", svg_write}, {"html", html_write}, {"json", json_write}, {"md", markdown_write}, {"xml", junit_write}};

static void what_comes_from_outside_does_nothing(void **state UNUSED) {
    static const char *const inert[] = {"<script>", "<img", "\033", "\x07", "\xFF", "</code><s"};
    struct buf b;
    buf_init(&b, CAP);
    sample_make(&m, plan_of("pool"));
    m.report.target = STR("http://h/\"><script>x</script><img src=x onerror=y>\033[2J\x07\xFF");
    m.report.command = "thaw probe '</code><script>x</script>' \033[2J";
    for (size_t i = 0; i < ARRAY_LEN(writers); i++) {
        buf_clear(&b);
        check_ok(writers[i].write(&m.report, &b));
        for (size_t k = 0; k < ARRAY_LEN(inert); k++) {
            bool text_alone = strcmp(writers[i].name, "json") == 0 || strcmp(writers[i].name, "md") == 0;
            if (inert[k][0] != '<' || !text_alone) { // in a code span and in a JSON string it is text
                check_has(&b, inert[k], false);
            }
        }
    }
    buf_clear(&b);
    check_ok(picture_write(&m.report, &(struct picture_options){80, false, false}, &b));
    check(str_find(buf_str(&b), '\033') == buf_len(&b) && str_find(buf_str(&b), '\x07') == buf_len(&b));
    buf_finish(&b);
}

static void nothing_at_all_is_reported_too(void **state UNUSED) {
    struct buf b;
    buf_init(&b, CAP);
    sample_make(&m, plan_of("network"));
    m.evidence = (struct evidence){.trials = NULL};
    m.verdict =
        (struct verdict){.best = SAMPLE_NONE, .runner_up = SAMPLE_NONE, .likely = SAMPLE_NONE, .doubt = DOUBT_ERRORS};
    m.report = (struct probe_report){.evidence = &m.evidence, .verdict = &m.verdict, .why = &m.why};
    for (size_t i = 0; i < ARRAY_LEN(writers); i++) {
        buf_clear(&b);
        check_ok(writers[i].write(&m.report, &b));
        check(buf_len(&b) > 0);
    }
    check_picture(80, false, true);
    sample_make(&m, plan_of("pool")); // all of them failed, at no time
    for (unsigned i = 0; i < 14; i++) {
        m.calls[i] = (struct probe_call){.user = i + 1, .error = ERR_REFUSED};
    }
    m.report.command = NULL;
    m.burst.to_ns = m.burst.from_ns = m.verdict.solo_ns = 0;
    for (size_t i = 0; i < ARRAY_LEN(writers); i++) {
        check_ok(writers[i].write(&m.report, &b));
    }
    check_picture(80, false, true);
    buf_finish(&b);
}

static void write_all(void *arg UNUSED) {
    for (size_t i = 0; i <= ARRAY_LEN(writers); i++) {
        struct buf b;
        buf_init(&b, CAP);
        enum err e = i < ARRAY_LEN(writers) ? writers[i].write(&m.report, &b)
                                            : picture_write(&m.report, &(struct picture_options){80, false, true}, &b);
        check(e == ERR_NOMEM || e == OK);
        check_int(e == ERR_NOMEM, mem_fail_fired() != 0);
        buf_finish(&b);
        if (e != OK) {
            return;
        }
    }
}

static void no_memory_is_an_error_and_never_half_a_report(void **state UNUSED) {
    sample_make(&m, plan_of("pool"));
    check(every_allocation_fails(write_all, NULL) > 0);
}

TESTS(TEST(a_lock_hands_over_from_one_to_the_next), TEST(who_comes_later_waits_from_when_he_came),
      TEST(a_pool_has_as_many_seats_as_the_verdict_says), TEST(what_the_journal_saw_is_not_inferred),
      TEST(a_seat_of_the_journal_that_cannot_be_is_not_believed), TEST(sessions_wait_within_themselves),
      TEST(who_is_refused_has_no_seat_and_does_not_wait), TEST(without_seats_nobody_waits_for_anybody),
      TEST(who_was_held_up_by_the_network_waited_for_nobody), TEST(the_burst_that_shows_it_best_is_drawn),
      TEST(many_users_are_folded_and_none_is_forgotten), TEST(the_canary_is_looked_at_between_two_moments),
      TEST(seats_are_named_by_letters), TEST(every_line_fits_whatever_the_terminal), TEST(the_command_stays_whole),
      TEST(the_key_explains_what_is_shown_and_nothing_else), TEST(a_picture_of_a_lock),
      TEST(every_verdict_has_its_words), TEST(which_http_was_spoken_is_told),
      TEST(calls_that_were_turned_away_have_not_failed), TEST(each_model_and_each_doubt_says_something_else),
      TEST(the_headline_names_what_fits_and_does_not_claim_it), TEST(what_was_not_the_app_is_not_its_fault),
      TEST(a_browsers_limit_is_ruled_out_with_its_reason), TEST(expectations_are_met_failed_or_not_decided),
      TEST(junit_fails_errs_skips_or_passes), TEST(json_has_what_is_known_and_null_where_there_is_none),
      TEST(what_comes_from_outside_does_nothing), TEST(nothing_at_all_is_reported_too),
      TEST(no_memory_is_an_error_and_never_half_a_report))
