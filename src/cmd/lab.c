// SPDX-License-Identifier: MIT
// thaw lab: the lab behind a listening socket, one loop, until a signal. With --run, the published table.
#include "base/log.h"
#include "base/mem.h"
#include "cmd/claim.h"
#include "cmd/key.h"
#include "cmd/machine.h"
#include "cmd/signals.h"
#include "cmd/slow.h"
#include "cmd/verbs.h"
#include "config/address.h"
#include "lab/run.h"
#include "net/tcp.h"
#include "work/executor.h"

#include <errno.h>
#include <unistd.h>

enum { THREADS_MAX = 1000, CPUS_MAX = 1024, SECONDS_MAX = 3600, ROWS_MAX = 32, REPORT_CAP = 64 * 1024 * 1024 };

struct lab_verb {
    const char *listen;
    const char *upstream;
    const char *model;
    unsigned cpus; // 0: this machine's
    struct lab_options lab;

    bool run;
    bool json;
    const char *report;
    double scale;
    const char *only[ROWS_MAX];
    size_t only_count;
};

// ---- arguments

static int take_listen(void *options, const struct args_option *o, const char *value) {
    struct lab_verb *l = options;
    struct str host;
    uint16_t port;
    if (config_listen_parse(str_c(value), &host, &port) != OK) {
        return args_wrong("lab", o, value, "an address as 127.0.0.1:8004, :8004 or 8004");
    }
    l->listen = value;
    return EXIT_FINE;
}

static int take_count(const struct args_option *o, const char *value, unsigned most, unsigned *count) {
    uint64_t n = 0;
    if (parse_u64(str_c(value), &n) != OK || n == 0 || n > most) {
        char wanted[48];
        snprintf(wanted, sizeof wanted, "a number from 1 to %u", most);
        return args_wrong("lab", o, value, wanted);
    }
    *count = (unsigned)n;
    return EXIT_FINE;
}

static int take_cpus(void *options, const struct args_option *o, const char *value) {
    return take_count(o, value, CPUS_MAX, &((struct lab_verb *)options)->cpus);
}

static int take_workers(void *options, const struct args_option *o, const char *value) {
    return take_count(o, value, THREADS_MAX, &((struct lab_verb *)options)->lab.executor_threads);
}

static int take_upstream(void *options, const struct args_option *o, const char *value) {
    struct url url;
    const char *why = url_parse_h1(str_c(value), &url);
    if (why) {
        char wanted[160];
        snprintf(wanted, sizeof wanted, "a URL as http://localhost:11434/v1 (it %s)", why);
        return args_wrong("lab", o, value, wanted);
    }
    ((struct lab_verb *)options)->upstream = value;
    return EXIT_FINE;
}

static int take_model(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct lab_verb *)options)->model = value;
    return EXIT_FINE;
}

// "5" or "0.25", as a browser's query has it; "250ms" is understood too.
static int take_seconds(void *options, const struct args_option *o, const char *value) {
    struct lab_verb *l = options;
    if ((parse_seconds_ms(str_c(value), &l->lab.service_ms) != OK &&
         parse_duration_ms(str_c(value), &l->lab.service_ms) != OK) ||
        l->lab.service_ms > SECONDS_MAX * 1000) {
        return args_wrong("lab", o, value, "seconds from 0 to 3600, as 5 or 0.25");
    }
    return EXIT_FINE;
}

static int take_run(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct lab_verb *)options)->run = true;
    return EXIT_FINE;
}

static int take_json(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct lab_verb *)options)->json = true;
    return EXIT_FINE;
}

static int take_report(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct lab_verb *)options)->report = value;
    return EXIT_FINE;
}

static int take_scale(void *options, const struct args_option *o, const char *value) {
    char *end = NULL;
    double scale = strtod(value, &end);
    if (end == value || *end || !(scale >= 0.001 && scale <= 10)) {
        return args_wrong("lab", o, value, "a factor from 0.001 to 10");
    }
    ((struct lab_verb *)options)->scale = scale;
    return EXIT_FINE;
}

static int take_only(void *options, const struct args_option *o UNUSED, const char *value) {
    struct lab_verb *l = options;
    const char *names[ROWS_MAX];
    size_t n = 0;
    for (; lab_row_at(n) && n < ROWS_MAX; n++) {
        names[n] = lab_row_at(n)->name;
        if (strcmp(names[n], value) == 0 && l->only_count < ROWS_MAX) {
            l->only[l->only_count++] = value;
            return EXIT_FINE;
        }
    }
    const char *near = str_nearest(str_c(value), names, n);
    fprintf(stderr, "thaw lab: there is no row '%s'%s%s%s; there are:", value, near ? "; did you mean '" : "",
            near ? near : "", near ? "'?" : "");
    for (size_t i = 0; i < n; i++) {
        fprintf(stderr, " %s", names[i]);
    }
    fprintf(stderr, "\n");
    return EXIT_USAGE;
}

static const struct args_option lab_options[] = {
    {"listen", 'l', "ADDRESS", "where clients connect (127.0.0.1:8004)", take_listen},
    {"cpus", 0, "N", "default pool as on N CPUs (this machine's)", take_cpus},
    {"workers", 'w', "N", "threads of the executor (10)", take_workers},
    {"upstream", 'u', "URL", "where the slow calls go (a built-in mock)", take_upstream},
    {"model", 'm', "NAME", "to ask the upstream for", take_model},
    {"seconds", 0, "N", "how long the built-in mock takes (5)", take_seconds},
    {"run", 0, NULL, "perform the published table, then end", take_run},
    {"scale", 0, "F", "its length: 1 is as published (0.1)", take_scale},
    {"only", 0, "ROW", "perform this row only; may repeat", take_only},
    {"report", 0, "FILE", "with --run: all pictures as one HTML file", take_report},
    {"json", 0, NULL, "with --run: all figures and calls as JSON", take_json},
};

// What only holds for all of them together.
static int check_options(const struct lab_verb *l) {
    const struct {
        bool wrong;
        const char *why;
    } rules[] = {
        {l->upstream && !l->model, "--upstream needs --model NAME: what to ask it for"},
        {l->model && !l->upstream, "--model goes with --upstream URL; the built-in mock has models of its own"},
        {l->run && l->upstream,
         "--run makes its table on the built-in mock, whose times are known: without --upstream"},
        {!l->run && (l->json || l->report || l->only_count), "--only, --report and --json go with --run"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (rules[i].wrong) {
            fprintf(stderr, "thaw lab: %s\n", rules[i].why);
            return EXIT_USAGE;
        }
    }
    return EXIT_FINE;
}

// ---- the upstream

struct upstream {
    struct slow slow;
    char *base; // as it was given
    char *url;
    char *authority;
    char *path;
    char *authorization;
    struct tls_client *tls;
};

static char *joined(const char *a, struct str b, const char *c) {
    size_t size = strlen(a) + b.len + strlen(c) + 1;
    char *text = xmalloc(size);
    snprintf(text, size, "%s%.*s%s", a, STR_ARG(b), c);
    return text;
}

// u->base in parts.
static int take_apart(struct upstream *u, struct lab_upstream *to) {
    static const char endpoint[] = "/chat/completions";
    struct url url;
    char problem[300];
    struct str whole = str_c(u->base);
    struct str authority = str_skip(whole, str_search(whole, STR("://")) + 3);
    if (url_parse_h1(whole, &url) != NULL) {
        return EXIT_USAGE; // take_upstream has said so
    }
    while (str_ends(whole, STR("/"))) {
        whole.len--;
    }
    u->url = joined("", whole, endpoint);
    u->authority = str_dup(str_first(authority, str_find(authority, '/')));
    u->path = joined("", url.base_path, endpoint);
    struct tls_client_options options = {.alpn = "http/1.1"};
    if (url.tls && tls_client_create(&options, &u->tls, problem, sizeof problem) != OK) {
        fprintf(stderr, "thaw lab: %s\n", problem);
        return EXIT_USAGE;
    }
    *to = (struct lab_upstream){
        .url = u->url,
        .host = url.host,
        .port = url.port,
        .tls = u->tls,
        .authority = u->authority,
        .path = u->path,
        .authorization = u->authorization,
    };
    return EXIT_FINE;
}

static int open_upstream(struct upstream *u, const struct lab_verb *l, struct lab_upstream *to) {
    char address[ADDRESS_TEXT];
    if (l->upstream) {
        struct str key = environment_key(l->upstream);
        u->base = str_dup(str_c(l->upstream));
        u->authorization = key.len ? joined("Bearer ", key, "") : NULL;
    } else {
        enum err e = slow_start(&u->slow);
        if (e != OK) {
            fprintf(stderr, "thaw lab: the built-in mock did not start: %s\n", err_text(e));
            return EXIT_UNREACHABLE;
        }
        u->base = joined("http://", str_c(address_format(&u->slow.address, address)), "/v1");
    }
    int wrong = take_apart(u, to);
    to->model = l->model;
    return wrong;
}

static void close_upstream(struct upstream *u) {
    slow_stop(&u->slow);
    tls_client_destroy(u->tls);
    if (u->authorization) {
        explicit_bzero(u->authorization, strlen(u->authorization));
    }
    char *all[] = {u->base, u->url, u->authority, u->path, u->authorization};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        free(all[i]);
    }
}

// ---- the lab, until a signal

struct running {
    struct loop loop;
    struct listener listener;
    struct io signals;
    struct lab *lab;
};

static void on_accept(struct listener *l, struct conn *c) {
    struct running *r = l->owner;
    lab_accept(r->lab, c);
    tcp_watch(c);
}

static void on_signal(struct io *io, unsigned events UNUSED) {
    loop_stop(&container_of(io, struct running, signals)->loop);
}

static void say_what_there_is(const struct lab_verb *l, const struct address *address) {
    char text[ADDRESS_TEXT];
    log_info("lab: listening on http://%s; GET / lists the ways to run a slow call", address_format(address, text));
    log_info("lab: default pool %u threads (min(32, %u CPU%s + 4)), executor %u", l->lab.default_threads, l->cpus,
             l->cpus == 1 ? "" : "s", l->lab.executor_threads);
    if (l->upstream) {
        log_info("lab: calls go to %s, model %s%s", l->upstream, l->model,
                 l->lab.upstream.authorization ? ", with OPENAI_API_KEY" : "");
    } else {
        log_info("lab: calls go to a built-in mock that takes %g s", (double)l->lab.service_ms / 1000);
    }
}

// "Who may call" of SPEC, for a lab: its users spend the key.
static int check_open(const struct lab_verb *l) {
    struct str host;
    uint16_t port;
    if (l->lab.upstream.authorization && config_listen_parse(str_c(l->listen), &host, &port) == OK &&
        !config_is_loopback(host)) {
        fprintf(stderr, "thaw lab: anyone who reaches %s would spend your OPENAI_API_KEY: listen on loopback\n",
                l->listen);
        return EXIT_USAGE;
    }
    return EXIT_FINE;
}

static enum err open_all(struct running *r, struct lab_verb *l, const struct address *address) {
    r->lab = lab_create(&r->loop, &l->lab);
    if (!r->lab) {
        return ERR_SYS; // it has said why
    }
    return listener_open(&r->listener, &r->loop, address, on_accept, r);
}

static int serve(struct running *r, struct lab_verb *l) {
    struct address address;
    int wrong = check_open(l);
    wrong = wrong ? wrong : claim_address("lab", str_c(l->listen), &address);
    if (wrong) {
        return wrong;
    }
    enum err e = open_all(r, l, &address);
    if (e == OK) {
        say_what_there_is(l, &address);
        loop_run(&r->loop);
    } else {
        fprintf(stderr, "thaw lab: cannot start: %s\n", err_text(e));
    }
    listener_close(&r->listener);
    lab_destroy(r->lab);
    return e == OK ? EXIT_FINE : EXIT_UNREACHABLE;
}

// ---- the table

static bool is_wanted(void *context, const struct lab_row *row) {
    const struct lab_verb *l = context;
    for (size_t i = 0; i < l->only_count; i++) {
        if (strcmp(l->only[i], row->name) == 0) {
            return true;
        }
    }
    return l->only_count == 0;
}

static void on_row(void *context UNUSED, const struct lab_result *r) {
    log_info("lab: %-10s done after %.1f s", r->row->name, (double)r->measured.wall_ns / 1e9);
}

static double longest_s(const struct lab_verb *l) {
    double longest = 0;
    for (size_t i = 0; lab_row_at(i); i++) {
        const struct lab_row *row = lab_row_at(i);
        unsigned rounds = row->seats ? (row->users * row->calls + row->seats - 1) / row->seats : 1;
        double s = is_wanted((void *)(uintptr_t)l, row) ? (double)(rounds * row->service_ms) / 1000 * l->scale : 0;
        longest = MAX(longest, s);
    }
    return longest;
}

static enum err print_text(struct buf *out, const struct lab_result *v, size_t n) {
    struct lab_style style = {0};
    const char *no_colour = getenv("NO_COLOR");
    if (isatty(STDOUT_FILENO)) {
        style = (struct lab_style){.colour = !no_colour || !*no_colour, .unicode = true};
    }
    enum err e = OK;
    for (size_t i = 0; e == OK && i < n; i++) {
        e = lab_print_picture(out, &v[i], &style);
        e = e == OK ? buf_str_append(out, STR("\n")) : e;
    }
    return e == OK ? lab_print_table(out, v, n, &style) : e;
}

typedef enum err print_results(struct buf *out, const struct lab_result *v, size_t n);

static int print_to(FILE *f, const char *name, print_results *print, const struct lab_result *v, size_t n) {
    struct buf out;
    buf_init(&out, REPORT_CAP);
    enum err e = print(&out, v, n);
    bool fine = e == OK && fwrite(buf_str(&out).ptr, 1, buf_len(&out), f) == buf_len(&out) && fflush(f) == 0;
    if (!fine) {
        fprintf(stderr, "thaw lab: cannot write %s: %s\n", name, e == OK ? strerror(errno) : err_text(e));
    }
    buf_finish(&out);
    return fine ? EXIT_FINE : EXIT_UNREACHABLE;
}

static int print_all(const struct lab_verb *l, FILE *report, const struct lab_run *run) {
    size_t n = 0;
    const struct lab_result *v = lab_run_results(run, &n);
    int result = report ? print_to(report, l->report, lab_print_html, v, n) : EXIT_FINE;
    int printed = print_to(stdout, "the result", l->json ? lab_print_json : print_text, v, n);
    result = result ? result : printed;
    for (size_t i = 0; result == EXIT_FINE && i < n; i++) {
        result = lab_result_fine(&v[i]) ? EXIT_FINE : EXIT_EXPECTATION;
    }
    return result;
}

static int perform(struct running *r, struct lab_verb *l, FILE *report) {
    struct lab_run_options options = {
        .upstream = l->lab.upstream, .scale = l->scale, .wanted = is_wanted, .on_row = on_row, .context = l};
    log_info("lab: the rows run side by side, at %g of their length: %.0f s", l->scale, longest_s(l));
    struct lab_run *run = lab_run(&r->loop, &options);
    if (!run) {
        fprintf(stderr, "thaw lab: the table cannot be performed\n");
        return EXIT_UNREACHABLE;
    }
    int result = print_all(l, report, run);
    lab_run_destroy(run);
    return result;
}

// The report's file is opened first: nobody wants to hear after minutes that it cannot be written.
static int perform_and_report(struct running *r, struct lab_verb *l) {
    FILE *report = l->report ? fopen(l->report, "we") : NULL;
    if (l->report && !report) {
        fprintf(stderr, "thaw lab: cannot write %s: %s\n", l->report, strerror(errno));
        return EXIT_USAGE;
    }
    int result = perform(r, l, report);
    if (report) {
        fclose(report); // was flushed
    }
    return result;
}

// ---- either

static int run_lab(struct lab_verb *l) {
    struct running r = {.listener.io.fd = -1, .signals.fd = -1};
    struct upstream upstream = {0};
    struct machine machine;
    machine_read(&machine, "", true);
    l->cpus = l->cpus ? l->cpus : machine.cpus_usable;
    l->lab.default_threads = executor_default_threads(l->cpus);
    if (loop_init(&r.loop, &(struct loop_options){.pace_us = 0}) != OK) {
        return EXIT_UNREACHABLE;
    }
    int wrong = EXIT_UNREACHABLE;
    if (signals_open(&r.loop, &r.signals, on_signal) == OK) { // before any thread: they are not for them
        wrong = open_upstream(&upstream, l, &l->lab.upstream);
        wrong = wrong ? wrong : l->run ? perform_and_report(&r, l) : serve(&r, l);
        io_close(&r.loop, &r.signals);
    }
    loop_finish(&r.loop);
    close_upstream(&upstream);
    return wrong;
}

static int run(const struct verb *verb, int argc, char **argv) {
    struct lab_verb l = {
        .listen = "127.0.0.1:8004",
        .scale = 0.1,
        .lab = {.executor_threads = 10, .service_ms = 5000, .log_users = true},
    };
    bool go = false;
    int wrong = args_take(verb, argc, argv, &l, "an upstream is given with --upstream URL", &go);
    wrong = wrong || !go ? wrong : check_options(&l);
    return wrong || !go ? wrong : run_lab(&l);
}

const struct verb verb_lab = {
    .name = "lab",
    .summary = "the five ways to run a slow call, side by side",
    .usage = "[options]",
    .about = "Five routes on 127.0.0.1:8004 make the same slow call: POST /to_thread (the\n"
             "default pool of min(32, CPUs + 4) threads), /executor (a pool of its own),\n"
             "/async (no thread), /bad/global_lock and /bad/global_flag. Where they block,\n"
             "threads really block. An answer says which seat served it, how long it waited\n"
             "and for whom; GET /seats says who sits where now. ?user_id= names a user,\n"
             "?calls=5 makes five calls in parallel, ?seconds= is how long the built-in mock\n"
             "takes.\n\n"
             "--run performs the published table and prints published, predicted and measured\n"
             "figures and who waited for whom; it exits 1 where measured and predicted are\n"
             "more than 5 % apart.",
    .example = "  thaw lab --cpus 2 &\n"
               "  for i in 1 2 3 4 5 6 7; do\n"
               "    curl -s -X POST \"localhost:8004/to_thread?user_id=$i\" &\n"
               "  done; wait\n"
               "  thaw lab --run --only pool50 --report pool50.html\n",
    .options = lab_options,
    .option_count = ARRAY_LEN(lab_options),
    .run = run,
};
