// SPDX-License-Identifier: MIT
#include "probe/say.h"

#include <math.h>

#include "draw/scale.h"
#include "probe/scene.h"
#include "probe/seating.h"

enum { PERCENT = 100, REASONS_SHOWN = 3, ODDS_MOST = 1000000 };
static const double VARIES_FROM = 0.2; // neighbours cannot be told apart by bursts (facts/probe-method.md 1.4)
static const double BUSY_FROM = 0.8;   // of a CPU

// ---- pieces

static bool is_decided(const struct probe_report *r) { return r->verdict->best.model != PROBE_INCONCLUSIVE; }
static bool has_runner_up(const struct verdict *v) { return v->runner_up.model != PROBE_INCONCLUSIVE; }
static bool is_close(const struct verdict *v) { return !v->exact && has_runner_up(v) && v->odds < SAY_ODDS_ENOUGH; }

static void put_percent(struct out *o, double share) {
    double percent = isfinite(share) ? share * PERCENT : 0;
    put_format(o, percent > 0 && percent < 1 ? "less than 1 %%" : "%.0f %%", percent);
}

static void put_rate(struct out *o, double rate) { put_format(o, rate < 10 ? "%.2g" : "%.0f", rate); }

static void put_times(struct out *o, double odds) {
    if (odds < 10) {
        put_format(o, "%.1f", MAX(odds, 1));
    } else if (odds < ODDS_MOST) {
        put_count(o, (uint64_t)odds);
    } else {
        put_text(o, "more than ");
        put_count(o, ODDS_MOST);
    }
    put_text(o, " times");
}

// A sentence of the table, which may have its full stop or not.
static void put_sentence(struct out *o, const char *text) {
    struct str s = str_trim(str_c(text));
    put(o, s);
    put(o, s.len && strchr(".?!", s.ptr[s.len - 1]) ? STR("") : STR("."));
}

static void put_plural(struct out *o, uint64_t n, const char *one, const char *many) {
    put_count(o, n);
    put_format(o, " %s", n == 1 ? one : many);
}

// ---- mechanisms

void say_model(struct out *o, const struct hypothesis *h, unsigned tried_up_to) {
    switch (h->model) {
    case PROBE_FLAT:
        put_text(o, "nobody waits, with up to ");
        put_count(o, tried_up_to);
        put_text(o, " at once");
        break;
    case PROBE_SERIAL: put_text(o, "one at a time, everybody else waits"); break;
    case PROBE_PARTIAL_LOCK:
        put(o, h->together > 0 ? STR("one core has work to do for ") : STR("one at a time for "));
        put_percent(o, h->share);
        put(o, h->together > 0 ? STR(" of each call, and works for all of them; the rest is side by side")
                               : STR(" of each call, side by side for the rest"));
        break;
    case PROBE_POOL:
        put_count(o, h->at_once);
        if (h->takes) {
            put_format(o, " at once, now and then %u, then a queue: each call takes %u of %u places", h->at_once + 1,
                       h->takes, h->places);
            break;
        }
        if (h->cores) {
            put_text(o, " at once on ");
            put_plural(o, h->cores, "CPU core", "CPU cores");
            put_text(o, ", then a queue");
            break;
        }
        put(o, h->random_order ? STR(" at once, then a crowd: not the first to come is the next")
                               : STR(" at once, then a queue"));
        break;
    case PROBE_PARTITIONED:
        put_format(o, "%u separate %s of ", h->workers, h->workers == 1 ? "group" : "groups");
        put_plural(o, h->each, "place", "places");
        put_text(o, ", and who is sent to a full one waits");
        break;
    case PROBE_CPU:
        put_text(o, "all at once on what ");
        put_plural(o, h->at_once, "CPU core", "CPU cores");
        put_text(o, " can do: the more people, the slower for everybody");
        break;
    case PROBE_POLL:
        put_text(o, "one at a time, and who waits looks only every ");
        put_time(o, h->period_ns);
        put_text(o, " whether it is free");
        break;
    case PROBE_BUCKET:
        put_count(o, h->at_once);
        put_text(o, " at once, then ");
        put_rate(o, h->rate);
        put_text(o, " a second");
        if (h->refused_status) {
            put_format(o, ", everybody else is refused (status %d)", h->refused_status);
        }
        break;
    case PROBE_CAP:
        put_count(o, h->at_once);
        put_text(o, " at once, everybody else is refused");
        if (h->refused_status) {
            put_format(o, " (status %d)", h->refused_status);
        }
        break;
    case PROBE_SESSION: put_text(o, "one at a time in each session, sessions side by side"); break;
    case PROBE_INCONCLUSIVE: put_text(o, "not decided"); break;
    }
}

// As the beginning of a sentence.
static void put_model(struct out *o, const struct probe_report *r, const struct hypothesis *h) {
    size_t from = buf_len(o->b);
    say_model(o, h, r->verdict->tried_up_to);
    if (o->e == OK && buf_len(o->b) > from) {
        char *first = o->b->ptr + o->b->start + from;
        *first = *first >= 'a' && *first <= 'z' ? (char)(*first - 'a' + 'A') : *first;
    }
}

// What it is like for those who come.
static const char *experience_of(const struct hypothesis *h) {
    switch (h->model) {
    case PROBE_FLAT: return "Calls that came together took as long as a call alone. More than that were not tried.";
    case PROBE_SERIAL: return "Each call began when the one before was done, so each user waits for all before.";
    case PROBE_PARTIAL_LOCK:
        return "Calls run side by side until a part that only one may be in; there they queue, and each one more makes "
               "the last wait longer.";
    case PROBE_POOL: return "Who came when all places were taken waited until somebody was done.";
    case PROBE_PARTITIONED:
        return "Calls are dealt out without looking who is free: some waited while there was a free place elsewhere.";
    case PROBE_CPU: return "Nobody was done early: what there is of computing was shared among all.";
    case PROBE_POLL: return "Between two calls there was a gap in which nobody was served, though others waited.";
    case PROBE_BUCKET:
        return "Who came later was let in at an even rate, however long calls took: a limit on the rate.";
    case PROBE_CAP: return "The others did not wait, they were turned away at once.";
    case PROBE_SESSION:
        return "Calls with the same cookie waited for each other, calls with different ones did not. One user with "
               "several tabs feels it, many users do not.";
    case PROBE_INCONCLUSIVE: return "";
    }
    return "";
}

// ---- doubts

struct doubt_text {
    const char *what;   // goes on after "Inconclusive: "
    const char *why;    // sentences
    const char *settle; // what would
    bool tells;         // what it looks like is worth saying nevertheless
};

static const struct doubt_text *text_of(enum doubt d) {
    static const struct doubt_text texts[] = {
        [DOUBT_NONE] = {"no known mechanism fits what was seen",
                        "What was measured is like none of the mechanisms that are told apart.",
                        "A mock with a constant time as the app's upstream (--mock) makes the picture clear.", true},
        [DOUBT_NOISE] = {"calls take too different times",
                         "The time of one call varies so much that a wait cannot be told from a slow call.",
                         "A mock with a constant time as the app's upstream (--mock), or more calls (--budget).", true},
        [DOUBT_TIE] = {"two explanations fit", "What was measured is explained by both about equally well.",
                       "More users at once (--max), more calls (--budget), or a mock as the app's upstream (--mock).",
                       true},
        [DOUBT_BUDGET] = {"more calls were needed than were allowed", "The calls that were allowed were used up.",
                          "More of them: --budget.", true},
        [DOUBT_PROBER] = {"this prober was the limit, not the app",
                          "It could not send and receive fast enough for its times to count, so they say nothing "
                          "about the app.",
                          "A machine with less to do, not the one the app runs on, or fewer users at once (--max).",
                          false},
        [DOUBT_NETWORK] = {"the network was the limit, not the app",
                           "Something had to be sent again, or connecting was slow. That makes steps of 1, 3 and 7 "
                           "seconds, which look like a queue and are none.",
                           "A place nearer to the app: its own machine, or one beside it.", false},
        [DOUBT_ERRORS] = {"too many calls failed", "What fails ends early or late, and neither is a time of service.",
                          "A call that succeeds: see the statuses, try one by itself, then again.", false},
        [DOUBT_COLD] = {"it was still changing",
                        "The same burst took another time whenever it was repeated, as while "
                        "an app warms up or is being scaled.",
                        "The same once more, now that it is warm.", true},
        [DOUBT_CACHED] = {"answers were not worked for",
                          "Answers came faster than a call alone takes: from a cache, or from one call for all.",
                          "A request whose answer is not kept (-d, -H 'Cache-Control: no-cache').", false},
        [DOUBT_STREAMS] = {"the server's HTTP/2 turned calls away, not the app",
                           "Streams were refused (REFUSED_STREAM) or connections ended (GOAWAY) by what speaks HTTP/2 "
                           "in front: its own limits, of streams, requests or connections, come before the app's.",
                           "The same with --http1.1, or past what is in front: the app's own port.", false},
    };
    return &texts[d];
}

bool say_looks_like(const struct verdict *v) {
    return text_of(v->doubt)->tells && v->likely.model != PROBE_INCONCLUSIVE;
}

static void put_likely(struct out *o, const struct probe_report *r) {
    const struct verdict *v = r->verdict;
    if (!say_looks_like(v)) {
        return;
    }
    put(o, v->doubt == DOUBT_TIE && has_runner_up(v) ? STR(" Either: ") : STR(" It looks most like: "));
    say_model(o, &v->likely, v->tried_up_to);
    if (v->doubt == DOUBT_TIE && has_runner_up(v)) {
        put_text(o, ". Or: ");
        say_model(o, &v->runner_up, v->tried_up_to);
    }
    put_text(o, ".");
}

// ---- the headline

static const struct reason *first_reason(const struct probe_report *r) {
    for (unsigned i = 0; i < r->why->count; i++) {
        if (r->why->reasons[i].likely) {
            return &r->why->reasons[i];
        }
    }
    return NULL;
}

enum err say_headline(const struct probe_report *r, struct buf *out) {
    struct out o = {out, OK};
    const struct reason *reason = first_reason(r);
    if (!is_decided(r)) {
        put_format(&o, "Inconclusive: %s.", text_of(r->verdict->doubt)->what);
        put_likely(&o, r);
        return o.e;
    }
    put_model(&o, r, &r->verdict->best);
    if (is_close(r->verdict)) {
        put_text(&o, "; or: ");
        say_model(&o, &r->verdict->runner_up, r->verdict->tried_up_to);
        put_text(&o, ". Both fit.");
    } else if (reason) {
        put_format(&o, ". It fits %s%s%s.", reason->trap->runtime, reason->number[0] ? ": " : "", reason->number);
    } else {
        put_text(&o, ".");
    }
    return o.e;
}

// ---- the verdict

static void put_sureness(struct out *o, const struct verdict *v) {
    if (v->exact) {
        put_text(o, " The mock behind the app saw each call: this was counted, not inferred.");
        return;
    }
    if (v->confidence > 0) {
        put_format(o, " Of 100 random draws from the same measurements %.0f say the same.",
                   floor(v->confidence * PERCENT));
    }
    if (has_runner_up(v)) {
        put(o, is_close(v) ? STR(" Another explanation is only ") : STR(" The next best explanation is "));
        put_times(o, v->odds);
        put_text(o, " less likely: ");
        say_model(o, &v->runner_up, v->tried_up_to);
        put_text(o, ".");
    }
    if (is_close(v)) {
        put_format(o, " It is not settled which. What would: %s", text_of(DOUBT_TIE)->settle);
    }
}

static void put_held(struct out *o, const struct verdict *v) {
    if (v->holds_known) {
        put(o, v->holds_upstream
                   ? STR(" With a slower upstream everybody waits longer in step: the place is held while the app only "
                         "waits.")
                   : STR(" A slower upstream does not make the waits longer: the place is not held while the app waits "
                         "for it."));
    }
}

static void put_canary(struct out *o, const struct verdict *v) {
    static const char *const texts[] = {
        [CANARY_NONE] = "",
        [CANARY_FINE] = " Meanwhile a cheap path of the site answered as always: only this route "
                        "is affected.",
        [CANARY_SLOW] = " Meanwhile a cheap path of the site answered too, but slower than when nothing else ran.",
        [CANARY_FROZEN] = " Meanwhile not even a cheap path answered: the whole site stands still while such calls "
                          "run.",
    };
    bool somebody_waits = v->best.model != PROBE_FLAT || v->canary != CANARY_FINE;
    put(o, somebody_waits ? str_c(texts[v->canary]) : STR(" A cheap path of the site answered as always, too."));
}

static void say_verdict(struct out *o, const struct probe_report *r) {
    const struct verdict *v = r->verdict;
    const struct doubt_text *doubt = text_of(v->doubt);
    if (is_decided(r)) {
        put_model(o, r, &v->best);
        put_text(o, ". ");
        put(o, str_c(experience_of(&v->best)));
        put_sureness(o, v);
        put_held(o, v);
        put_canary(o, v);
        put_text(o, "\n");
        return;
    }
    put_format(o, "Inconclusive: %s. %s", doubt->what, doubt->why);
    put_likely(o, r);
    if (v->doubt != DOUBT_PROBER && v->doubt != DOUBT_NETWORK && v->doubt != DOUBT_STREAMS) {
        put_canary(o, v);
    }
    put_format(o, "\nWhat would settle it: %s\n", doubt->settle);
}

// ---- why

static void put_where(struct out *o, const struct probe_report *r, const struct reason *reason) {
    if (reason->cpus) {
        put(o, r->evidence->local ? STR(" on the ") : STR(" if the app has "));
        put_plural(o, reason->cpus, "CPU", "CPUs");
        put(o, r->evidence->local ? STR(" of this machine") : STR(""));
    }
}

static void put_reason(struct out *o, const struct probe_report *r, const struct reason *reason) {
    put(o, reason->excluded ? STR("Ruled out: ") : STR(""));
    put(o, str_c(reason->number));
    put(o, reason->number[0] ? STR(", ") : STR(""));
    put(o, str_c(reason->trap->runtime));
    put_where(o, r, reason);
    put_text(o, ". ");
    put_sentence(o, reason->trap->cause);
    if (reason->excluded && reason->trap->client) {
        put_text(o, " This prober has no such limit, so it is not the cause here.");
    }
    put_text(o, "\n");
}

// Has a number that could be explained.
static bool wants_reason(const struct probe_report *r) { return is_decided(r) && r->verdict->best.model != PROBE_FLAT; }

static unsigned reasons_offered(const struct probe_report *r) {
    unsigned n = 0;
    for (unsigned i = 0; i < r->why->count; i++) {
        n += !r->why->reasons[i].excluded;
    }
    return n;
}

static void say_why(struct out *o, const struct probe_report *r) {
    unsigned offered = reasons_offered(r);
    if (!is_decided(r) && !say_looks_like(r->verdict)) {
        return;
    }
    if (offered && !is_decided(r)) {
        put_text(o, "Should it be what it looks like:\n");
    } else if (offered == 0 && wants_reason(r)) {
        put_text(
            o,
            "No known limit explains this: look for a setting of the app, of its server, or of what is before it.\n");
    } else if (offered > 1) {
        put_text(o, "Several known limits fit, the likeliest first:\n");
    }
    for (unsigned i = 0; i < r->why->count; i++) {
        put_reason(o, r, &r->why->reasons[i]);
    }
}

// One member of each reason that is offered; with its name where there are several.
static void put_of_each(struct out *o, const struct probe_report *r, bool fix) {
    unsigned offered = reasons_offered(r);
    unsigned shown = 0;
    for (unsigned i = 0; i < r->why->count && shown < REASONS_SHOWN; i++) {
        const struct trap *trap = r->why->reasons[i].trap;
        const char *text = fix ? trap->fix : trap->confirm;
        if (!r->why->reasons[i].excluded && text && *text) {
            put_format(o, "%s%s", offered > 1 ? trap->runtime : "", offered > 1 ? ": " : "");
            put_sentence(o, text);
            put_text(o, "\n");
            shown++;
        }
    }
}

static void say_confirm(struct out *o, const struct probe_report *r) {
    if (is_decided(r) || say_looks_like(r->verdict)) {
        put_of_each(o, r, false);
    }
}

// Of what is not decided nothing is to be mended.
static void say_fix(struct out *o, const struct probe_report *r) {
    if (is_decided(r)) {
        put_of_each(o, r, true);
    }
}

// ---- what was expected

static void say_expected(struct out *o, const struct probe_report *r) {
    enum expectation found = report_expectation(r);
    if (found == EXPECT_NOTHING) {
        return;
    }
    put_text(o, "At least ");
    put_count(o, r->expect);
    put(o, found == EXPECT_MET      ? STR(" at once were expected: met. ")
           : found == EXPECT_FAILED ? STR(" at once were expected: not met. ")
                                    : STR(" at once were expected: not decided. "));
    if (is_decided(r)) {
        put_model(o, r, &r->verdict->best);
    } else {
        put_format(o, "Inconclusive: %s", text_of(r->verdict->doubt)->what);
    }
    put_text(o, ".\n");
}

// ---- numbers

static void put_slowest(struct out *o, const struct seating *s, uint64_t solo_ns) {
    uint64_t most_ns = 0;
    for (unsigned i = 0; i < s->count; i++) {
        const struct seating_row *row = &s->rows[i];
        most_ns = MAX(most_ns, row->refused ? 0 : row->end_ns - row->sent_ns);
    }
    put_text(o, "The slowest of ");
    put_count(o, s->count - s->refused);
    put_text(o, " took ");
    put_time(o, most_ns);
    if (solo_ns && most_ns > solo_ns + solo_ns / 2) {
        put_format(o, ", %.1f times as long as a call alone", (double)most_ns / (double)solo_ns);
    }
    put_text(o, ".\n");
}

// With --stream: what a reader sees is not when the answer ends but when it begins, and where it stops in between.
static void put_first_words(struct out *o, const struct seating *s) {
    uint64_t first_ns = 0;
    uint64_t gap_ns = 0;
    for (unsigned i = 0; i < s->count; i++) {
        const struct probe_call *c = s->rows[i].call;
        first_ns = MAX(first_ns, c->first_token_ns > c->sent_ns ? c->first_token_ns - c->sent_ns : 0);
        gap_ns = MAX(gap_ns, c->gap_ns);
    }
    if (first_ns) {
        put_text(o, "The first words came after ");
        put_time(o, first_ns);
        put_text(o, " at the latest; the longest silence between words was ");
        put_time(o, gap_ns);
        put_text(o, ".\n");
    }
}

static void put_picture(struct out *o, const struct probe_report *r) {
    struct seating s;
    if (!seating_fill(&s, r, UINT32_MAX / 2)) {
        seating_finish(&s);
        return;
    }
    const struct seating_row *longest = &s.rows[s.longest];
    if (s.waited) {
        put_count(o, s.waited);
        put_text(o, " of ");
        put_count(o, s.count);
        put_format(o, " users in the picture waited, user %u longest: ", longest->call->user);
        put_time(o, longest->start_ns - longest->sent_ns);
        if (longest->after) {
            put_format(o, ", for user %u", longest->after);
        }
        put_text(o, ".\n");
    } else if (s.count > 1 && s.refused < s.count) {
        put_slowest(o, &s, r->verdict->solo_ns);
    }
    if (s.refused) {
        put_plural(o, s.refused, "call", "calls");
        put_text(o, " in the picture got no service: refused or failed.\n");
    }
    if (s.lost) {
        put_plural(o, s.lost, "user", "users");
        put_text(o, " would be lost to a timeout of ");
        put_time(o, r->timeout_ns);
        put_text(o, ".\n");
    }
    put_first_words(o, &s);
    seating_finish(&s);
}

static void put_http(struct out *o, const struct probe_report *r) {
    const struct verdict *v = r->verdict;
    struct spoken spoken = spoken_of(r->evidence);
    if (spoken.h2) {
        put(o, spoken.h1 ? STR("Spoken: HTTP/2 on some connections, HTTP/1.1 on others.")
                         : STR("Spoken: HTTP/2, a connection for each user."));
    } else if (spoken.h1) {
        put_text(o, "Spoken: HTTP/1.1, a connection for each user.");
    }
    if (spoken.streams) {
        put_text(o, " On one connection the server takes ");
        put_plural(o, spoken.streams, "stream", "streams");
        put_text(o, " at once, by its own word: who sends more on one has to wait, whatever the app does.");
    }
    if (v->one_connection != ONE_CONNECTION_UNTRIED) {
        put_text(o, " ");
        put_plural(o, v->one_connection_calls, "call", "calls");
    }
    switch (v->one_connection) {
    case ONE_CONNECTION_UNTRIED: break;
    case ONE_CONNECTION_SAME: put_text(o, " on one connection took as long."); break;
    case ONE_CONNECTION_SLOWER:
        put_format(o,
                   " on one connection took %.1f times as long: whoever has only one waits for his own calls, and for "
                   "what speaks HTTP/2 in front of the app.",
                   v->one_connection_times);
        break;
    case ONE_CONNECTION_REFUSES:
        put_text(o, " on one connection were not all answered, as they are over a connection each.");
        break;
    }
    if (spoken.h1 || spoken.h2) {
        put_text(o, "\n");
    }
}

static void say_numbers(struct out *o, const struct probe_report *r) {
    const struct verdict *v = r->verdict;
    if (v->solo_ns) {
        put_text(o, "One call alone: ");
        put_time(o, v->solo_ns);
        put_text(o, ", varying by ");
        put_percent(o, v->solo_cv);
        put_text(o, ". ");
    }
    put_text(o, "Tried with up to ");
    put_count(o, v->tried_up_to);
    put_text(o, " at once, ");
    put_plural(o, r->evidence->calls_spent, "call", "calls");
    put_text(o, " in all.\n");
    put_http(o, r);
    put_picture(o, r);
}

// ---- caveats

struct counts {
    unsigned calls, failed, turned_away, again;
};

static struct counts count_calls(const struct evidence *e) {
    struct counts n = {0};
    for (unsigned t = 0; t < e->count; t++) {
        for (unsigned i = 0; i < e->trials[t]->plan.calls; i++) {
            const struct probe_call *c = &e->trials[t]->calls[i];
            n.calls++;
            n.failed += !c->turned_away && (c->error != OK || c->status == 0 || c->status >= 400);
            n.turned_away += c->turned_away;
            n.again += c->retransmitted;
        }
    }
    return n;
}

static bool seats_are_inferred(enum probe_model model) {
    return model != PROBE_FLAT && model != PROBE_CPU && model != PROBE_BUCKET;
}

static void say_caveats(struct out *o, const struct probe_report *r) {
    const struct verdict *v = r->verdict;
    struct counts n = count_calls(r->evidence);
    if (is_decided(r) && v->doubt != DOUBT_NONE) {
        put_format(o, "%s What would help: %s\n", text_of(v->doubt)->why, text_of(v->doubt)->settle);
    }
    if (v->solo_cv >= VARIES_FROM && v->doubt != DOUBT_NOISE && !v->exact) {
        put_text(o, "The time of a call alone varies by ");
        put_percent(o, v->solo_cv);
        put_text(o, ": numbers beside the one found cannot be ruled out. A mock as the app's upstream (--mock) can.\n");
    }
    if (n.failed && v->best.model != PROBE_CAP) {
        put_count(o, n.failed);
        put_text(o, " of ");
        put_plural(o, n.calls, "call", "calls");
        put_text(o, " failed.\n");
    }
    if (n.turned_away) {
        put_plural(o, n.turned_away, "call was", "calls were");
        put_text(o, " turned away by the server's HTTP/2: not counted as refused by the app.\n");
    }
    if (n.again) {
        put_plural(o, n.again, "call was", "calls were");
        put_text(o, " held up by the network, which had to send something again: not counted as the app's time.\n");
    }
    if (say_looks_like(v) && !is_decided(r)) {
        put_text(o, "The picture is drawn as if it were: ");
        say_model(o, &v->likely, v->tried_up_to);
        put_text(o, ".\n");
    }
    if (is_decided(r) && v->best.model == PROBE_PARTIAL_LOCK) {
        put_text(o, "Where in a call that part lies is not known; it is drawn as the first.\n");
    } else if (is_decided(r) && !v->exact && seats_are_inferred(v->best.model)) {
        put_text(o, "Who sat where is inferred from when calls ended; it was not seen.\n");
    }
    if (r->evidence->local && r->evidence->cpu_share >= BUSY_FROM) {
        put_text(o, "The app and this busy prober shared a machine.\n");
    }
}

static void say_prober(struct out *o, const struct probe_report *r) {
    const struct verdict *v = r->verdict;
    if (v->skew_ns) {
        put_text(o, "Calls of a burst left within ");
        put_time(o, v->skew_ns);
        put_text(o, " of each other. ");
    }
    put_text(o, "The prober's longest pause was ");
    put_time(o, v->lag_ns);
    put_text(o, ", its share of one CPU ");
    put_percent(o, r->evidence->cpu_share);
    put_text(o, ".\n");
}

static void say_again(struct out *o, const struct probe_report *r) {
    if (r->command && *r->command) {
        put(o, str_c(r->command));
        put_text(o, "\n");
    }
}

// ---- all of it

static const struct {
    const char *title;
    void (*say)(struct out *o, const struct probe_report *r);
} parts[SAY_COUNT] = {
    [SAY_VERDICT] = {"Verdict", say_verdict},    [SAY_WHY] = {"Why", say_why},
    [SAY_CONFIRM] = {"Confirm", say_confirm},    [SAY_FIX] = {"Fix", say_fix},
    [SAY_EXPECTED] = {"Expected", say_expected}, [SAY_NUMBERS] = {"Numbers", say_numbers},
    [SAY_CAVEATS] = {"Caveats", say_caveats},    [SAY_PROBER] = {"Prober", say_prober},
    [SAY_AGAIN] = {"Again", say_again},
};

const char *say_title(enum say what) { return parts[what].title; }

void say(struct out *o, enum say what, const struct probe_report *r) { parts[what].say(o, r); }
