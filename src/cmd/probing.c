// SPDX-License-Identifier: MIT
#include "cmd/probing.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cmd/claim.h"
#include "cmd/signals.h"
#include "cmd/verbs.h"
#include "mock/mock.h"
#include "net/listen.h"
#include "net/tcp.h"
#include "probe/picture.h"
#include "probe/report.h"
#include "probe/say.h"
#include "probe/svg.h"
#include "probe/why.h"

enum { OUTPUT_CAP = 1024 * 1024 * 1024, REDRAW_MS = 100, LINE_MAX_LEN = 200, COLUMNS_USUAL = 100 };

// ---- kinds of reports

static const struct {
    const char *ending;
    write_report *write;
} kinds[] = {
    {".html", html_write}, {".svg", svg_write}, {".json", json_write}, {".md", markdown_write}, {".xml", junit_write},
};
const char probing_kinds[] = ".html, .svg, .json, .md or .xml (JUnit)";

write_report *probing_kind(const char *path) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (str_ends(str_c(path), str_c(kinds[i].ending))) {
            return kinds[i].write;
        }
    }
    return NULL;
}

// ---- what is running

struct running {
    const struct probing *p;
    struct loop loop;
    struct dns *dns;
    struct probe *probe;
    struct probe_options options; // the probe's
    struct io signals;
    struct io keyboard;
    struct listener listener; // of the mock
    struct mock *mock;
    struct timer redraw;
    unsigned trials_told;
    bool on_terminal;
    bool line_open; // a line of progress stands on the terminal
    bool waiting;   // for somebody to call the mock
    bool gave_up;   // waiting
    uint64_t unix_s;
};

// ---- progress

static const char *kind_text(const struct trial_plan *plan) {
    static const char *const texts[] = {
        [TRIAL_SOLO] = "alone, one after another",
        [TRIAL_BURST] = "at once",
        [TRIAL_STAGGERED] = "one after another, overlapping",
        [TRIAL_SESSION] = "at once, of one session",
        [TRIAL_SLOWER] = "with the mock twice as slow",
        [TRIAL_STREAMS] = "at once, on one connection",
        [TRIAL_OPEN] = "at random moments",
    };
    return plan->warm_up ? "to warm up" : plan->calls == 1 ? "alone" : texts[plan->kind];
}

static const char *calls_text(unsigned n) { return n == 1 ? "call" : "calls"; }

static void wipe_line(struct running *r) {
    if (r->line_open) {
        fprintf(stderr, "\r\033[K");
        r->line_open = false;
    }
}

static void draw_line(struct running *r) {
    struct probe_look look = probe_look(r->probe);
    if (!look.plan || !r->on_terminal) {
        return;
    }
    wipe_line(r);
    fprintf(stderr, "thaw probe: %u %s %s: %u sent, %u done", look.plan->calls, calls_text(look.plan->calls),
            kind_text(look.plan), look.counts.sent, look.counts.over);
    if (look.counts.failed) {
        fprintf(stderr, ", %u failed", look.counts.failed);
    }
    fflush(stderr);
    r->line_open = true;
}

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static void tell_trial(const struct trial *t) {
    uint64_t longest = 0;
    uint64_t shortest = UINT64_MAX;
    unsigned failed = 0;
    for (unsigned i = 0; i < t->plan.calls; i++) {
        const struct probe_call *c = &t->calls[i];
        bool fine = c->error == OK && c->status < 400 && c->sent_ns;
        failed += !fine;
        longest = fine ? MAX(longest, c->end_ns - c->sent_ns) : longest;
        shortest = fine ? MIN(shortest, c->end_ns - c->sent_ns) : shortest;
    }
    fprintf(stderr, "thaw probe: %u %s %s:", t->plan.calls, calls_text(t->plan.calls), kind_text(&t->plan));
    if (longest) {
        fprintf(stderr, " %.3g s to %.3g s", seconds(shortest), seconds(longest));
    }
    fprintf(stderr, failed ? "%s %u failed\n" : "\n", longest ? "," : "", failed);
}

// A call's time is known: what all of it may take, were they served one at a time.
static void tell_cost(const struct running *r, const struct trial *t) {
    const struct probe_call *c = &t->calls[t->plan.calls - 1];
    double one = seconds(c->end_ns - c->sent_ns);
    double all = one * procedure_most_calls(&r->options.procedure);
    if (c->error == OK) {
        fprintf(stderr,
                "thaw probe: a call takes %.3g s: at the very most %.*f %s, were they all served one at a time\n", one,
                all<10, all> 180 ? all / 60 : all, all > 180 ? "minutes" : "s");
    }
}

static void tell_trials(struct running *r) {
    const struct evidence *e = probe_look(r->probe).evidence;
    for (; r->trials_told < e->count; r->trials_told++) {
        wipe_line(r);
        tell_trial(e->trials[r->trials_told]);
        if (r->trials_told == 0) {
            tell_cost(r, e->trials[0]);
        }
    }
}

static void on_redraw(struct timer *timer) { draw_line(container_of(timer, struct running, redraw)); }

static void on_progress(void *owner) {
    struct running *r = owner;
    tell_trials(r);
    if (r->on_terminal && !timer_is_set(&r->redraw)) {
        timer_set(&r->loop, &r->redraw, REDRAW_MS);
    }
}

static void tell_beforehand(const struct running *r) {
    const struct procedure_options *o = &r->options.procedure;
    unsigned most = procedure_most_calls(o);
    fprintf(stderr, "thaw probe: %.*s: at most %u %s; Ctrl-C tells what is known so far\n", STR_ARG(r->p->target), most,
            calls_text(most));
}

// ---- the probe

static void on_over(void *owner) {
    struct running *r = owner;
    tell_trials(r);
    wipe_line(r);
    timer_clear(&r->redraw);
    loop_stop(&r->loop);
}

static void slow_down(void *owner, unsigned times) {
    struct running *r = owner;
    mock_set_latency(r->mock, r->p->mock_ms * times);
}

static void begin(struct running *r) {
    r->waiting = false;
    if (!r->probe) {
        tell_beforehand(r);
        r->probe = probe_start(&r->loop, r->dns, &r->options);
    }
}

// ---- the mock

static void on_accept(struct listener *l, struct conn *c) {
    struct running *r = l->owner;
    mock_accept(r->mock, c);
    tcp_watch(c);
    if (r->waiting) {
        fprintf(stderr, "thaw probe: somebody calls the mock: it begins\n");
        begin(r);
    }
}

static void on_key(struct io *io, unsigned events UNUSED) {
    struct running *r = container_of(io, struct running, keyboard);
    io_detach(&r->loop, io);
    if (r->waiting) {
        begin(r);
    }
}

static struct conn *connect_mock(void *context) { return mock_connect(context); }

static int open_mock(struct running *r) {
    struct address address;
    char text[ADDRESS_TEXT];
    struct mock_options options = {.times.latency = LATENCY_MS(r->p->mock_ms)};
    int wrong = claim_address("probe", "mock-listen", str_c(r->p->mock_listen), &address);
    if (wrong) {
        return wrong;
    }
    r->mock = mock_create(&r->loop, &options);
    enum err e = listener_open(&r->listener, &r->loop, &address, on_accept, r);
    if (e != OK) {
        fprintf(stderr, "thaw probe: the mock cannot listen on %s: %s\n", r->p->mock_listen, err_text(e));
        return EXIT_UNREACHABLE;
    }
    fprintf(stderr,
            "thaw probe: a mock that takes %.3g s for an answer listens: start the app with\n"
            "thaw probe:     OPENAI_BASE_URL=http://%s/v1 and any OPENAI_API_KEY\n",
            (double)r->p->mock_ms / 1000, address_format(&address, text));
    r->options.journal = true;
    r->options.journal_aim = (struct aim){.loop = &r->loop, .connect_local = connect_mock, .context = r->mock};
    r->options.journal_authority = STR("mock");
    r->options.slow_down = slow_down;
    if (isatty(STDIN_FILENO) && io_open(&r->loop, &r->keyboard, STDIN_FILENO, IO_READ, on_key) == OK) {
        fprintf(stderr, "thaw probe: it begins with the app's first call to the mock, or with Enter\n");
        r->waiting = true;
    }
    return EXIT_FINE;
}

// ---- a mock elsewhere

struct lookup {
    struct dns_query query;
    struct loop *loop;
    struct address addresses[DNS_ADDRESSES_MAX];
    unsigned count;
    enum err e;
};

static void on_looked_up(struct dns_query *q, enum err e, const struct address *addresses, unsigned count) {
    struct lookup *l = container_of(q, struct lookup, query);
    l->e = e;
    l->count = e == OK ? count : 0;
    if (l->count) {
        memcpy(l->addresses, addresses, count * sizeof *addresses);
    }
    loop_stop(l->loop);
}

// Of a name with both kinds of addresses the first of IPv4: that is where a mock listens that was not told otherwise.
static int find_journal(struct running *r) {
    struct lookup l = {.query.on_resolved = on_looked_up, .loop = &r->loop};
    l.e = dns_resolve(r->dns, &l.query, r->p->journal_host, r->p->journal_port, l.addresses, &l.count);
    if (l.e == ERR_AGAIN) {
        loop_run(&r->loop);
    }
    if (l.e != OK || !l.count) {
        dns_cancel(&l.query);
        fprintf(stderr, "thaw probe: --journal: %.*s: %s\n", STR_ARG(r->p->journal_host),
                l.query.problem ? l.query.problem : err_text(l.e));
        return EXIT_UNREACHABLE;
    }
    unsigned best = 0;
    while (best < l.count && l.addresses[best].sa.sa_family != AF_INET) {
        best++;
    }
    r->options.journal = true;
    r->options.journal_aim = (struct aim){.loop = &r->loop, .address = l.addresses[best < l.count ? best : 0]};
    r->options.journal_authority = r->p->journal_host;
    return EXIT_FINE;
}

// ---- signals

// The first one ends the probe, which then tells what it knows; the second one ends it all.
static void on_signal(struct io *io, unsigned events UNUSED) {
    struct running *r = container_of(io, struct running, signals);
    char info[128 * 4];
    bool again = r->gave_up;
    while (read(io->fd, info, sizeof info) > 0) {
    }
    r->gave_up = true;
    if (r->probe && !again) {
        wipe_line(r);
        fprintf(stderr, "thaw probe: stopped: what is known so far\n");
        probe_stop(r->probe);
    } else {
        loop_stop(&r->loop);
    }
}

// ---- what comes out

static bool in_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = getenv(names[i]);
        if (value && *value) {
            return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
        }
    }
    return false;
}

static struct picture_options picture_for_stdout(bool ascii) {
    const char *no_colour = getenv("NO_COLOR");
    struct winsize size = {0};
    bool terminal = isatty(STDOUT_FILENO);
    bool sized = terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col;
    return (struct picture_options){
        .columns = sized ? size.ws_col : COLUMNS_USUAL,
        .ascii = ascii || !in_utf8(),
        .colour = terminal && (!no_colour || !*no_colour),
    };
}

static int write_to(FILE *f, const char *name, const struct buf *out, enum err e) {
    struct str text = buf_str(out);
    bool fine = e == OK && fwrite(text.ptr, 1, text.len, f) == text.len && fflush(f) == 0;
    if (!fine) {
        fprintf(stderr, "thaw probe: cannot write %s: %s\n", name, e == OK ? strerror(errno) : err_text(e));
    }
    return fine ? EXIT_FINE : EXIT_UNREACHABLE;
}

static int write_all(const struct probing *p, const struct probe_report *report) {
    struct picture_options picture = picture_for_stdout(p->ascii);
    struct buf out;
    int code = EXIT_FINE;
    buf_init(&out, OUTPUT_CAP);
    for (unsigned i = 0; i < p->report_count; i++) {
        enum err e = p->reports[i].write(report, &out);
        int wrong = write_to(p->reports[i].file, p->reports[i].path, &out, e);
        code = code ? code : wrong;
        buf_finish(&out);
    }
    enum err e = p->json ? json_write(report, &out) : picture_write(report, &picture, &out);
    int wrong = write_to(stdout, "the result", &out, e);
    buf_finish(&out);
    return code ? code : wrong;
}

// ---- how it ended

static void say_problem(const struct probe_look *look) {
    if (look->location[0]) {
        fprintf(stderr, "thaw probe: it answered with a redirect to %.*s: probe that URL instead\n",
                (int)strcspn(look->location, "?"), look->location);
    } else if (look->bad_status) {
        fprintf(stderr,
                "thaw probe: it answered %d (%s) to a call that was alone: there is nothing to measure before that "
                "succeeds; -X, -d and -H say what is sent\n",
                look->bad_status, status_reason(look->bad_status));
    } else {
        fprintf(stderr, "thaw probe: %s\n", look->problem[0] ? look->problem : "no answer");
    }
}

// Members of the verdict are as the reports say them; here is what a shell sees.
static int exit_code(const struct running *r, const struct probe_look *look, const struct probe_report *report) {
    enum expectation expected = report_expectation(report);
    if (look->end == PROBE_STOPPED || look->verdict->best.model == PROBE_INCONCLUSIVE) {
        return EXIT_INCONCLUSIVE;
    }
    if (r->p->files_short && look->verdict->best.model == PROBE_FLAT) {
        fprintf(stderr,
                "thaw probe: nobody waited up to %u, which is what the descriptors of this process allow "
                "(ulimit -n): the prober was the limit\n",
                look->verdict->tried_up_to);
        return EXIT_INCONCLUSIVE;
    }
    switch (expected) {
    case EXPECT_NOTHING:
    case EXPECT_MET: return EXIT_FINE;
    case EXPECT_FAILED: return EXIT_EXPECTATION;
    case EXPECT_UNKNOWN: return EXIT_INCONCLUSIVE;
    }
    return EXIT_INCONCLUSIVE;
}

static int conclude(struct running *r) {
    struct probe_look look = probe_look(r->probe);
    struct why why = {.count = 0};
    struct probe_report report = {
        .target = r->p->target,
        .evidence = look.evidence,
        .verdict = look.verdict,
        .why = &why,
        .expect = r->p->expect,
        .timeout_ns = r->p->limit_ns,
        .command = r->p->command,
        .unix_s = r->unix_s,
    };
    if (look.end == PROBE_UNREACHABLE || look.end == PROBE_REFUSED) {
        say_problem(&look);
        return look.end == PROBE_UNREACHABLE ? EXIT_UNREACHABLE : EXIT_INCONCLUSIVE;
    }
    if (look.evidence->count == 0) {
        fprintf(stderr, "thaw probe: there is no answer yet\n");
        return EXIT_INCONCLUSIVE;
    }
    if (r->options.journal && look.journal_missed) {
        fprintf(stderr,
                "thaw probe: the mock did not see these calls: is the app's base URL set to it? What follows is "
                "inferred, without the journal\n");
    }
    if (look.problem[0]) {
        fprintf(stderr, "thaw probe: some calls failed: %s\n", look.problem);
    } else if (look.bad_status) {
        fprintf(stderr, "thaw probe: some calls were answered with %d (%s)\n", look.bad_status,
                status_reason(look.bad_status));
    }
    why_find(look.verdict, look.evidence, &why);
    int wrong = write_all(r->p, &report);
    return wrong ? wrong : exit_code(r, &look, &report);
}

// ---- all of it

static int open_all(struct running *r) {
    enum err e = signals_open(&r->loop, &r->signals, on_signal);
    if (e != OK) {
        fprintf(stderr, "thaw probe: cannot start: %s\n", err_text(e));
        return EXIT_UNREACHABLE;
    }
    r->dns = dns_create(&r->loop, NULL);
    r->options = r->p->probe;
    r->options.cpus = r->p->machine->cpus_usable;
    r->options.on_progress = on_progress;
    r->options.on_over = on_over;
    r->options.owner = r;
    r->redraw.on_timer = on_redraw;
    r->on_terminal = isatty(STDERR_FILENO);
    return r->p->mock ? open_mock(r) : r->p->journal ? find_journal(r) : EXIT_FINE;
}

static void close_all(struct running *r) {
    probe_destroy(r->probe);
    timer_clear(&r->redraw);
    if (r->waiting) {
        io_detach(&r->loop, &r->keyboard);
    }
    if (r->mock) {
        listener_close(&r->listener);
        mock_destroy(r->mock);
    }
    if (r->dns) {
        dns_destroy(r->dns);
    }
    io_close(&r->loop, &r->signals);
    loop_finish(&r->loop);
}

int probing_run(struct probing *p) {
    struct running r = {.p = p, .listener.io.fd = -1, .signals.fd = -1, .keyboard.fd = -1, .unix_s = clock_unix_s()};
    if (loop_init(&r.loop, &(struct loop_options){.pace_us = 0}) != OK) {
        fprintf(stderr, "thaw probe: cannot start\n");
        return EXIT_UNREACHABLE;
    }
    int code = open_all(&r);
    if (!code && !r.gave_up) {
        if (!r.waiting) {
            begin(&r);
        }
        loop_run(&r.loop);
    }
    if (!code) {
        code = r.probe ? conclude(&r) : EXIT_INCONCLUSIVE;
    }
    close_all(&r);
    return code;
}
