// SPDX-License-Identifier: MIT
#include "probe/report.h"

#include <math.h>
#include <time.h>

#include "draw/scale.h"
#include "draw/text.h"
#include "llm/json.h"
#include "probe/picture.h"
#include "probe/scene.h"
#include "probe/say.h"

enum { TEXT_CAP = 1 << 20, MARKDOWN_COLUMNS = 100 };

// ---- what was expected

enum expectation report_expectation(const struct probe_report *r) {
    const struct hypothesis *h = &r->verdict->best;
    if (r->expect == 0) {
        return EXPECT_NOTHING;
    }
    switch (h->model) {
    case PROBE_FLAT:
    case PROBE_SESSION: // users are sessions of their own: nobody was seen waiting for another's
        return r->verdict->tried_up_to >= r->expect ? EXPECT_MET : EXPECT_UNKNOWN;
    case PROBE_SERIAL:
    case PROBE_PARTIAL_LOCK:
    case PROBE_POLL: return r->expect <= 1 ? EXPECT_MET : EXPECT_FAILED;
    case PROBE_POOL:
    case PROBE_PARTITIONED:
    case PROBE_CPU:
    case PROBE_BUCKET:
    case PROBE_CAP: return h->at_once >= r->expect ? EXPECT_MET : EXPECT_FAILED;
    case PROBE_INCONCLUSIVE: return EXPECT_UNKNOWN;
    }
    return EXPECT_UNKNOWN;
}

// A part of what is said, or the headline, into a buf of its own; `o` keeps the error.
enum { HEADLINE = SAY_COUNT };
static struct str said(struct out *o, const struct probe_report *r, unsigned what, struct buf *room) {
    struct out words = {room, OK};
    buf_clear(room);
    if (what == HEADLINE) {
        words.e = say_headline(r, room);
    } else {
        say(&words, (enum say)what, r);
    }
    o->e = o->e == OK ? words.e : o->e;
    return buf_str(room);
}

// ---- JSON

static void put_ms(struct out *o, const char *name, uint64_t ns) {
    put_format(o, "\"%s\":%.3f", name, (double)ns / 1e6);
}

// What has not happened is null.
static void put_moment(struct out *o, const char *name, uint64_t ns) {
    put_text(o, ",");
    if (ns) {
        put_ms(o, name, ns);
    } else {
        put_format(o, "\"%s\":null", name);
    }
}

static void put_finite(struct out *o, const char *name, double n) {
    if (isfinite(n)) {
        put_format(o, ",\"%s\":%.6g", name, n);
    } else {
        put_format(o, ",\"%s\":null", name);
    }
}

static void put_at_once(struct out *o, const struct hypothesis *h) {
    if (h->model == PROBE_FLAT || h->model == PROBE_INCONCLUSIVE || h->at_once == 0) {
        put_text(o, "null");
    } else {
        put_u64(o, h->at_once);
    }
}

static void put_hypothesis(struct out *o, const struct hypothesis *h) {
    if (h->model == PROBE_INCONCLUSIVE) {
        put_text(o, "null");
        return;
    }
    put_format(o, "{\"model\":\"%s\",\"at_once\":", probe_model_name(h->model));
    put_at_once(o, h);
    if (h->takes) {
        put_format(o, ",\"places\":%u,\"takes\":%u", h->places, h->takes);
    }
    if (h->cores) {
        put_format(o, ",\"cores\":%u", h->cores);
    }
    if (h->workers) {
        put_format(o, ",\"workers\":%u,\"each\":%u", h->workers, h->each);
    }
    if (h->share > 0) {
        put_finite(o, "share", h->share);
    }
    if (h->together > 0) {
        put_finite(o, "together", h->together);
    }
    if (h->rate > 0) {
        put_finite(o, "rate", h->rate);
    }
    if (h->period_ns) {
        put_moment(o, "period_ms", h->period_ns);
    }
    if (h->random_order) {
        put_text(o, ",\"random_order\":true");
    }
    if (h->model == PROBE_CAP) {
        put_format(o, ",\"refused_status\":%d", h->refused_status);
    }
    put_text(o, "}");
}

static const char *doubt_name(enum doubt d) {
    static const char *const names[] = {
        [DOUBT_NONE] = NULL,       [DOUBT_NOISE] = "noise",     [DOUBT_TIE] = "tie",       [DOUBT_BUDGET] = "budget",
        [DOUBT_PROBER] = "prober", [DOUBT_NETWORK] = "network", [DOUBT_ERRORS] = "errors", [DOUBT_COLD] = "cold",
        [DOUBT_CACHED] = "cached", [DOUBT_STREAMS] = "streams",
    };
    return names[d];
}

static void put_http(struct out *o, const struct probe_report *r) {
    static const char *const names[] = {[ONE_CONNECTION_UNTRIED] = NULL,
                                        [ONE_CONNECTION_SAME] = "same",
                                        [ONE_CONNECTION_SLOWER] = "slower",
                                        [ONE_CONNECTION_REFUSES] = "refuses"};
    const struct verdict *v = r->verdict;
    struct spoken spoken = spoken_of(r->evidence);
    put_text(o, ",\"http\":");
    put_json_or_null(o, spoken.h1 && spoken.h2 ? "mixed" : spoken.h2 ? "2" : spoken.h1 ? "1.1" : NULL);
    put_text(o, ",\"max_streams\":");
    if (spoken.streams) {
        put_u64(o, spoken.streams);
    } else {
        put_text(o, "null");
    }
    put_text(o, ",\"one_connection\":");
    if (v->one_connection == ONE_CONNECTION_UNTRIED) {
        put_text(o, "null");
        return;
    }
    put_format(o, "{\"calls\":%u,\"found\":\"%s\"", v->one_connection_calls, names[v->one_connection]);
    put_finite(o, "times", v->one_connection_times > 0 ? v->one_connection_times : NAN);
    put_text(o, "}");
}

static void put_verdict(struct out *o, const struct probe_report *r) {
    static const char *const canaries[] = {
        [CANARY_NONE] = NULL, [CANARY_FINE] = "fine", [CANARY_SLOW] = "slow", [CANARY_FROZEN] = "frozen"};
    const struct verdict *v = r->verdict;
    put_format(o, ",\"model\":\"%s\",\"at_once\":", probe_model_name(v->best.model));
    put_at_once(o, &v->best);
    put_format(o, ",\"tried_up_to\":%u,", v->tried_up_to);
    put_ms(o, "solo_ms", v->solo_ns);
    put_finite(o, "solo_cv", v->solo_cv);
    put_finite(o, "confidence", v->confidence);
    put_finite(o, "odds", v->odds);
    put_format(o, ",\"exact\":%s,\"best\":", v->exact ? "true" : "false");
    put_hypothesis(o, &v->best);
    put_text(o, ",\"runner_up\":");
    put_hypothesis(o, &v->runner_up);
    put_text(o, ",\"likely\":");
    put_hypothesis(o, v->best.model == PROBE_INCONCLUSIVE ? &v->likely : &v->best);
    put_text(o, ",\"doubt\":");
    put_json_or_null(o, doubt_name(v->doubt));
    put_format(o, ",\"holds_upstream\":%s", !v->holds_known ? "null" : v->holds_upstream ? "true" : "false");
    put_text(o, ",\"canary\":");
    put_json_or_null(o, canaries[v->canary]);
    put_http(o, r);
    if (r->expect) {
        enum expectation found = report_expectation(r);
        put_format(o, ",\"expect\":%u,\"expect_met\":%s", r->expect,
                   found == EXPECT_MET      ? "true"
                   : found == EXPECT_FAILED ? "false"
                                            : "null");
    }
}

// The cause is the first likely one of the reasons, of what is decided.
static void put_reasons(struct out *o, const struct why *why, bool decided) {
    const struct reason *first = NULL;
    for (unsigned i = 0; i < why->count && !first && decided; i++) {
        first = why->reasons[i].likely ? &why->reasons[i] : NULL;
    }
    put_text(o, ",\n\"cause\":");
    put_json_or_null(o, first ? first->trap->runtime : NULL);
    put_text(o, ",\"reasons\":[");
    for (unsigned i = 0; i < why->count; i++) {
        const struct reason *reason = &why->reasons[i];
        const struct {
            const char *name, *value;
        } members[] = {{"number", reason->number},     {"formula", reason->trap->number},
                       {"cause", reason->trap->cause}, {"confirm", reason->trap->confirm},
                       {"fix", reason->trap->fix},     {"source", reason->trap->source}};
        put(o, i ? STR(",\n{\"runtime\":") : STR("\n{\"runtime\":"));
        put_json_or_null(o, reason->trap->runtime);
        for (size_t m = 0; m < ARRAY_LEN(members); m++) {
            put_format(o, ",\"%s\":", members[m].name);
            put_json_or_null(o, members[m].value);
        }
        put_format(o, ",\"cpus\":%u,\"excluded\":%s}", reason->cpus, reason->excluded ? "true" : "false");
    }
    put_text(o, "]");
}

static void put_call(struct out *o, const struct probe_call *c) {
    put_format(o, "{\"user\":%u,", c->user);
    put_ms(o, "start_ms", c->sent_ns);
    put_moment(o, "first_byte_ms", c->first_byte_ns);
    if (c->first_token_ns) {
        put_moment(o, "first_token_ms", c->first_token_ns);
        put_moment(o, "longest_gap_ms", c->gap_ns);
    }
    put_moment(o, "end_ms", c->end_ns);
    put_text(o, ",");
    put_ms(o, "connect_ms", c->connect_ns);
    put_format(o, ",\"status\":%d,\"bytes\":", c->status);
    put_u64(o, c->bytes);
    put_text(o, ",\"error\":");
    put_json_or_null(o, c->error == OK ? NULL : err_name(c->error));
    if (c->session) {
        put_format(o, ",\"session\":%u", c->session);
    }
    if (c->retransmitted) {
        put_text(o, ",\"retransmitted\":true");
    }
    if (c->turned_away) {
        put_text(o, ",\"turned_away\":true");
    }
    if (c->seen_start_ns) {
        put_format(o, ",\"seat\":%u", c->seen_seat);
        put_moment(o, "seen_start_ms", c->seen_start_ns);
        put_moment(o, "seen_end_ms", c->seen_end_ns);
    }
    put_text(o, "}");
}

static void put_trial(struct out *o, const struct trial *t) {
    static const char *const kinds[] = {
        [TRIAL_SOLO] = "solo",       [TRIAL_BURST] = "burst",   [TRIAL_STAGGERED] = "staggered",
        [TRIAL_SESSION] = "session", [TRIAL_SLOWER] = "slower", [TRIAL_OPEN] = "open",
        [TRIAL_STREAMS] = "streams"};
    put_format(o, "{\"kind\":\"%s\",\"warm_up\":%s,", kinds[t->plan.kind], t->plan.warm_up ? "true" : "false");
    put_ms(o, "from_ms", t->from_ns);
    put_text(o, ",");
    put_ms(o, "to_ms", t->to_ns);
    put_text(o, ",");
    put_ms(o, "gap_ms", t->plan.gap_ns);
    put_finite(o, "rate", t->plan.rate);
    put_text(o, ",");
    put_ms(o, "skew_ms", t->skew_ns);
    put_text(o, ",");
    put_ms(o, "lag_ms", t->lag_ns);
    put_text(o, ",\"calls\":[");
    for (unsigned i = 0; i < t->plan.calls; i++) {
        put(o, i ? STR(",\n") : STR("\n"));
        put_call(o, &t->calls[i]);
    }
    put_text(o, "],\"canary\":[");
    for (unsigned i = 0; i < t->canary_count; i++) {
        put(o, i ? STR(",{") : STR("{"));
        put_ms(o, "start_ms", t->canaries[i].sent_ns);
        put_moment(o, "end_ms", t->canaries[i].end_ns);
        put_format(o, ",\"status\":%d}", t->canaries[i].status);
    }
    put_text(o, "]}");
}

enum err json_write(const struct probe_report *r, struct buf *out) {
    struct out o = {out, OK};
    const struct evidence *e = r->evidence;
    struct buf room;
    buf_init(&room, TEXT_CAP);
    put_text(&o, "{\"thaw\":\"" THAW_VERSION "\",\"target\":");
    put_json(&o, r->target);
    put_text(&o, ",\"unix_s\":");
    put_u64(&o, r->unix_s);
    put_text(&o, ",\"headline\":");
    put_json(&o, said(&o, r, HEADLINE, &room));
    buf_finish(&room);
    put_verdict(&o, r);
    put_reasons(&o, r->why, r->verdict->best.model != PROBE_INCONCLUSIVE);
    put_text(&o, ",\n\"self\":{");
    put_ms(&o, "skew_ms", r->verdict->skew_ns);
    put_text(&o, ",");
    put_ms(&o, "lag_ms", r->verdict->lag_ns);
    put_finite(&o, "cpu", e->cpu_share);
    put_format(&o, ",\"calls\":%u,\"local\":%s,\"cpus\":%u,\"journal\":%s}", e->calls_spent,
               e->local ? "true" : "false", e->cpus, e->journal ? "true" : "false");
    put_moment(&o, "timeout_ms", r->timeout_ns);
    put_moment(&o, "canary_alone_ms", e->canary_alone_ns);
    put_text(&o, ",\"command\":");
    put_json_or_null(&o, r->command);
    put_text(&o, ",\n\"trials\":[");
    for (unsigned i = 0; i < e->count; i++) {
        put(&o, i ? STR(",\n") : STR("\n"));
        put_trial(&o, e->trials[i]);
    }
    put_text(&o, "]}\n");
    return o.e;
}

// ---- Markdown

static void put_markdown_part(struct out *o, const struct probe_report *r, enum say what, struct buf *room) {
    struct str rest = said(o, r, what, room);
    struct str paragraph;
    if (rest.len == 0) {
        return;
    }
    put_format(o, "\n**%s.** ", say_title(what));
    while (str_split(&rest, '\n', &paragraph)) {
        if (what == SAY_AGAIN) {
            put_code_span(o, paragraph);
        } else {
            put_markdown(o, paragraph);
        }
        put(o, rest.len ? STR("  \n") : STR("\n")); // two blanks: a line break
    }
}

enum err markdown_write(const struct probe_report *r, struct buf *out) {
    struct out o = {out, OK};
    struct buf room;
    buf_init(&room, TEXT_CAP);
    put_text(&o, "### ");
    put_markdown(&o, said(&o, r, HEADLINE, &room));
    put_text(&o, "\n\nthaw probe ");
    put_code_span(&o, r->target);
    put_text(&o, "\n\n```text\n");
    enum err e = picture_chart(r, &(struct picture_options){.columns = MARKDOWN_COLUMNS}, out);
    o.e = o.e == OK ? e : o.e;
    put_text(&o, "```\n");
    for (unsigned what = 0; what < SAY_COUNT; what++) {
        put_markdown_part(&o, r, (enum say)what, &room);
    }
    buf_finish(&room);
    return o.e;
}

// ---- JUnit

static double took_s(const struct evidence *e) {
    uint64_t last_ns = 0;
    for (unsigned i = 0; i < e->count; i++) {
        last_ns = MAX(last_ns, e->trials[i]->to_ns);
    }
    return (double)last_ns / 1e9;
}

static void put_outcome(struct out *o, const struct probe_report *r, const char *element, const char *type) {
    struct buf room;
    buf_init(&room, TEXT_CAP);
    struct str sentence = said(o, r, r->expect ? (unsigned)SAY_EXPECTED : HEADLINE, &room);
    put_format(o, "      <%s message=\"", element);
    put_xml(o, str_first(sentence, str_find(sentence, '\n')));
    put_format(o, "\" type=\"%s\">", type);
    put_xml(o, said(o, r, SAY_VERDICT, &room));
    put_xml(o, said(o, r, SAY_WHY, &room));
    put_format(o, "</%s>\n", element);
    buf_finish(&room);
}

enum err junit_write(const struct probe_report *r, struct buf *out) {
    struct out o = {out, OK};
    struct buf room;
    enum expectation found = report_expectation(r);
    bool skipped = found == EXPECT_NOTHING && r->verdict->best.model == PROBE_INCONCLUSIVE;
    char when[32] = "";
    struct tm tm;
    time_t at = (time_t)r->unix_s;
    if (gmtime_r(&at, &tm)) {
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    }
    buf_init(&room, TEXT_CAP);
    put_text(&o, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    put_format(&o,
               "  <testsuite name=\"thaw probe\" tests=\"1\" failures=\"%d\" errors=\"%d\" skipped=\"%d\" "
               "time=\"%.3f\" timestamp=\"%s\">\n    <testcase classname=\"thaw.probe\" name=\"",
               found == EXPECT_FAILED, found == EXPECT_UNKNOWN, skipped, took_s(r->evidence), when);
    put_xml(&o, r->target);
    if (r->expect) {
        put_format(&o, " serves at least %u at once", r->expect);
    }
    put_format(&o, "\" time=\"%.3f\">\n", took_s(r->evidence));
    if (found == EXPECT_FAILED) {
        put_outcome(&o, r, "failure", "expect");
    } else if (found == EXPECT_UNKNOWN) {
        put_outcome(&o, r, "error", "inconclusive");
    } else if (skipped) {
        put_outcome(&o, r, "skipped", "inconclusive");
    }
    put_text(&o, "      <system-out>");
    put_xml(&o, said(&o, r, HEADLINE, &room));
    put_text(&o, "\n");
    put_xml(&o, said(&o, r, SAY_NUMBERS, &room));
    put_xml(&o, said(&o, r, SAY_PROBER, &room));
    put_text(&o, "</system-out>\n    </testcase>\n  </testsuite>\n</testsuites>\n");
    buf_finish(&room);
    return o.e;
}
