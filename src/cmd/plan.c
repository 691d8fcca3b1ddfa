// SPDX-License-Identifier: MIT
// thaw plan: what a chain of limits does to users, foretold. Options name links of the chain, by preset or by number; the
// arithmetic is plan/'s.
#include "cmd/machine.h"
#include "cmd/verbs.h"
#include "llm/json.h"
#include "plan/report.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LONGEST_NS 3.15e18 // a hundred years

enum {
    PRESETS_MOST = 12,
    COUNT_MOST = 1000000,
    CPUS_MOST = 4096,
    CALLS_MOST = 1000,
    ALL_CALLS_MOST = 2000000, // users * calls: what is computed one by one
    DEFAULT_TIME_S = 60,      // the story's
    DEFAULT_USERS = 50,       // where nothing is limited
    REPORT_CAP = 64 * 1024 * 1024,
    TEXT_CAP = 256 * 1024 * 1024,
    COLUMNS_LEAST = 60,
    COLUMNS_DEFAULT = 80,
    REMARK_SIZE = 256,
};

// Links that are given by a number; one of the same kind out of a preset is what the number goes to.
enum given { GIVEN_ADMITS, GIVEN_POOL, GIVEN_CONNECTIONS, GIVEN_DB, GIVEN_UPSTREAM, GIVEN_COUNT };
static const struct {
    const char *option, *name;
    enum link_kind kind;
    enum link_unit unit;
    enum link_scope scope;
} given_links[GIVEN_COUNT] = {
    [GIVEN_ADMITS] = {"admits", "the platform", LINK_PLATFORM, OF_REQUESTS, EACH_INSTANCE},
    [GIVEN_POOL] = {"pool", "the pool", LINK_POOL, OF_CALLS, EACH_WORKER},
    [GIVEN_CONNECTIONS] = {"connections", "the client's connections", LINK_CONNECTIONS, OF_CALLS, EACH_WORKER},
    [GIVEN_DB] = {"db", "database connections", LINK_DATABASE, OF_REQUESTS, EACH_WORKER},
    [GIVEN_UPSTREAM] = {"upstream", "the upstream's limit", LINK_UPSTREAM, OF_CALLS, IN_ALL},
};

struct plan_verb {
    const struct preset *presets[PRESETS_MOST];
    unsigned preset_count;
    unsigned given[GIVEN_COUNT]; // 0: was not
    unsigned users, calls, workers, instances, cpus;
    struct preset_facts facts;
    uint64_t time_us, apart_us, think_us, timeout_us;
    double rate, cv, rpm, tpm, tokens;
    const char *from;
    bool json, ascii, list;

    char remarks[4][REMARK_SIZE];
    unsigned remark_count;
};

// ---- arguments

static int take_number(const struct args_option *o, const char *value, unsigned most, unsigned *n) {
    uint64_t got = 0;
    if (parse_u64(str_c(value), &got) != OK || got == 0 || got > most) {
        char wanted[48];
        snprintf(wanted, sizeof wanted, "a number from 1 to %u", most);
        return args_wrong("plan", o, value, wanted);
    }
    *n = (unsigned)got;
    return EXIT_FINE;
}

static int take_given(void *options, const struct args_option *o, const char *value) {
    struct plan_verb *p = options;
    unsigned i = 0;
    while (strcmp(given_links[i].option, o->name) != 0) {
        i++;
    }
    return take_number(o, value, COUNT_MOST, &p->given[i]);
}

static int take_users(void *options, const struct args_option *o, const char *value) {
    return take_number(o, value, COUNT_MOST, &((struct plan_verb *)options)->users);
}

static int take_calls(void *options, const struct args_option *o, const char *value) {
    return take_number(o, value, CALLS_MOST, &((struct plan_verb *)options)->calls);
}

static int take_workers(void *options, const struct args_option *o, const char *value) {
    return take_number(o, value, CALLS_MOST, &((struct plan_verb *)options)->workers);
}

static int take_instances(void *options, const struct args_option *o, const char *value) {
    return take_number(o, value, COUNT_MOST, &((struct plan_verb *)options)->instances);
}

static int take_cpus(void *options, const struct args_option *o, const char *value) {
    return take_number(o, value, CPUS_MOST, &((struct plan_verb *)options)->cpus);
}

static int take_span(const struct args_option *o, const char *value, uint64_t least_us, uint64_t *us) {
    uint64_t got = 0;
    if (parse_duration_us(str_c(value), &got) != OK || got < least_us || got > (uint64_t)86400 * 1000000) {
        return args_wrong("plan", o, value, "a duration up to 24h, as 60s, 250ms or 2m");
    }
    *us = got;
    return EXIT_FINE;
}

static int take_time(void *options, const struct args_option *o, const char *value) {
    return take_span(o, value, 1, &((struct plan_verb *)options)->time_us);
}

static int take_think(void *options, const struct args_option *o, const char *value) {
    return take_span(o, value, 0, &((struct plan_verb *)options)->think_us);
}

static int take_apart(void *options, const struct args_option *o, const char *value) {
    return take_span(o, value, 0, &((struct plan_verb *)options)->apart_us);
}

static int take_timeout(void *options, const struct args_option *o, const char *value) {
    return take_span(o, value, 1000, &((struct plan_verb *)options)->timeout_us);
}

static bool read_number(const char *value, char **end, double *n) {
    bool digit = *value >= '0' && *value <= '9'; // no sign, no blank, no hexadecimal, no infinity
    *n = digit || *value == '.' ? strtod(value, end) : NAN;
    return isfinite(*n);
}

// "0.1/s", "6/m", "100/h".
static int take_rate(void *options, const struct args_option *o, const char *value) {
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"/s", 1}, {"/m", 60}, {"/min", 60}, {"/h", 3600}};
    struct plan_verb *p = options;
    char *end = NULL;
    double n = 0;
    if (read_number(value, &end, &n) && n > 0 && n <= 1e6) {
        for (size_t i = 0; i < ARRAY_LEN(units); i++) {
            if (strcmp(end, units[i].unit) == 0) {
                p->rate = n / units[i].seconds;
                return EXIT_FINE;
            }
        }
    }
    return args_wrong("plan", o, value, "users by time, as 0.1/s, 6/m or 100/h");
}

static int take_real(const struct args_option *o, const char *value, double most, const char *wanted, double *n) {
    char *end = NULL;
    double got = 0;
    if (!read_number(value, &end, &got) || *end || got > most) {
        return args_wrong("plan", o, value, wanted);
    }
    *n = got;
    return EXIT_FINE;
}

static int take_cv(void *options, const struct args_option *o, const char *value) {
    return take_real(o, value, 100, "a coefficient of variation, as 0 (all take the same) or 0.3",
                     &((struct plan_verb *)options)->cv);
}

static int take_minutely(const struct args_option *o, const char *value, double *n) {
    int wrong = take_real(o, value, 1e12, "a number more than 0", n);
    return wrong || *n > 0 ? wrong : args_wrong("plan", o, value, "a number more than 0");
}

static int take_rpm(void *options, const struct args_option *o, const char *value) {
    return take_minutely(o, value, &((struct plan_verb *)options)->rpm);
}

static int take_tpm(void *options, const struct args_option *o, const char *value) {
    return take_minutely(o, value, &((struct plan_verb *)options)->tpm);
}

static int take_tokens(void *options, const struct args_option *o, const char *value) {
    return take_minutely(o, value, &((struct plan_verb *)options)->tokens);
}

// "3.12"
static int take_python(void *options, const struct args_option *o, const char *value) {
    struct plan_verb *p = options;
    struct str rest = str_c(value);
    struct str major;
    uint64_t n = 0;
    uint64_t m = 0;
    if (!str_split(&rest, '.', &major) || parse_u64(major, &n) != OK || n != 3 ||
        parse_u64(str_first(rest, str_find(rest, '.')), &m) != OK || m < 5 || m > 99) {
        return args_wrong("plan", o, value, "a version of Python, 3.5 or later, as 3.12");
    }
    p->facts.python_major = (unsigned)n;
    p->facts.python_minor = (unsigned)m;
    return EXIT_FINE;
}

static int unknown_preset(enum preset_group group, const struct args_option *o, const char *value) {
    enum preset_group other = group == RUNTIME ? PLATFORM : RUNTIME;
    const char *near = preset_nearest(group, str_c(value));
    if (preset_find(other, str_c(value))) {
        fprintf(stderr, "thaw plan: '%s' is given as --%s %s\n", value, other == RUNTIME ? "runtime" : "platform",
                value);
    } else if (near) {
        fprintf(stderr, "thaw plan: there is no %s '%s'; did you mean '%s'?\n", o->name, value, near);
    } else {
        fprintf(stderr, "thaw plan: there is no %s '%s'; 'thaw plan --list' has them all\n", o->name, value);
    }
    return EXIT_USAGE;
}

static int take_preset(struct plan_verb *p, enum preset_group group, const struct args_option *o, const char *value) {
    const struct preset *preset = preset_find(group, str_c(value));
    if (!preset) {
        return unknown_preset(group, o, value);
    }
    if (p->preset_count == PRESETS_MOST) {
        fprintf(stderr, "thaw plan: at most %d of --runtime and --platform\n", PRESETS_MOST);
        return EXIT_USAGE;
    }
    p->presets[p->preset_count++] = preset;
    return EXIT_FINE;
}

static int take_runtime(void *options, const struct args_option *o, const char *value) {
    return take_preset(options, RUNTIME, o, value);
}

static int take_platform(void *options, const struct args_option *o, const char *value) {
    return take_preset(options, PLATFORM, o, value);
}

static int take_from(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct plan_verb *)options)->from = value;
    return EXIT_FINE;
}

static int take_json(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct plan_verb *)options)->json = true;
    return EXIT_FINE;
}

static int take_ascii(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct plan_verb *)options)->ascii = true;
    return EXIT_FINE;
}

static int take_list(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct plan_verb *)options)->list = true;
    return EXIT_FINE;
}

static const struct args_option plan_options[] = {
    {"pool", 'p', "N", "calls at once, in each worker", take_given},
    {"time", 't', "DURATION", "how long a call takes (60s)", take_time},
    {"users", 'n', "N", "who come at once (some who have to wait)", take_users},
    {"apart", 0, "DURATION", "between two users' coming (0)", take_apart},
    {"calls", 0, "N", "that a user's request makes in parallel (1)", take_calls},
    {"runtime", 'r', "NAME", "its defaults: asyncio, puma, httpx, ...; may repeat", take_runtime},
    {"platform", 0, "NAME", "its defaults: cloud-run, ecs, ...; may repeat", take_platform},
    {"cpus", 0, "N", "that the runtime counts (this machine's)", take_cpus},
    {"python", 0, "VERSION", "whose rule asyncio goes by (3.13)", take_python},
    {"workers", 'w', "N", "processes of an instance (1)", take_workers},
    {"instances", 0, "N", "of the platform (1)", take_instances},
    {"admits", 0, "N", "requests the platform lets into an instance", take_given},
    {"connections", 0, "N", "of the client to the upstream, in each worker", take_given},
    {"db", 0, "N", "database connections held meanwhile, by worker", take_given},
    {"upstream", 'u', "N", "calls at once that the upstream allows", take_given},
    {"rpm", 0, "N", "calls a minute that the upstream allows", take_rpm},
    {"tpm", 0, "N", "tokens a minute that the upstream allows", take_tpm},
    {"tokens", 0, "N", "of a call; goes with --tpm", take_tokens},
    {"timeout", 0, "DURATION", "after which a user is lost", take_timeout},
    {"think", 0, "DURATION", "of a user between two requests", take_think},
    {"rate", 0, "N/s", "users who come by chance; also N/m, N/h", take_rate},
    {"cv", 0, "F", "variation of the calls' times by their mean (1)", take_cv},
    {"from", 'f', "FILE", "a report of thaw probe: its numbers; -: stdin", take_from},
    {"json", 0, NULL, "all figures, and each user's wait, as JSON", take_json},
    {"ascii", 0, NULL, "a picture without Unicode", take_ascii},
    {"list", 0, NULL, "print the runtimes and platforms, and sources", take_list},
};

static int check_options(const struct plan_verb *p) {
    const struct {
        bool wrong;
        const char *why;
    } rules[] = {
        {p->tpm > 0 && p->tokens <= 0, "--tpm needs --tokens N: how many a call takes"},
        {p->tokens > 0 && p->tpm <= 0, "--tokens goes with --tpm N"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (rules[i].wrong) {
            fprintf(stderr, "thaw plan: %s\n", rules[i].why);
            return EXIT_USAGE;
        }
    }
    return EXIT_FINE;
}

static char *new_remark(struct plan_verb *p) {
    assert(p->remark_count < ARRAY_LEN(p->remarks)); // each of the three sources has one
    return p->remarks[p->remark_count++];
}

// ---- a probe's report

static int read_whole(const char *path, struct buf *text) {
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    enum err e = OK;
    size_t n = 1;
    while (f && e == OK && n) {
        e = buf_reserve(text, 65536);
        n = e == OK ? fread(buf_tail(text), 1, 65536, f) : 0;
        buf_added(text, n);
    }
    bool fine = f && e == OK && !ferror(f);
    if (!fine) {
        fprintf(stderr, "thaw plan: cannot read %s: %s\n", path, e == OK ? strerror(errno) : err_text(e));
    }
    if (f && f != stdin) {
        fclose(f);
    }
    return fine ? EXIT_FINE : EXIT_USAGE;
}

// What the probe's mechanisms are to somebody who counts seats.
enum probe_seats { SEATS_ONE, SEATS_NUMBER, SEATS_NONE, SEATS_OTHER };
static const struct {
    const char *model;
    enum probe_seats seats;
    const char *but; // what else holds, or why it is no queue for seats
} probe_models[] = {
    {"flat", SEATS_NONE, "The probe saw nobody wait, up to what it tried: tried_up_to of its report."},
    {"serial", SEATS_ONE, NULL},
    {"pool", SEATS_NUMBER, NULL},
    {"partitioned", SEATS_NUMBER,
     "The probe found workers that a call is bound to by lot: some wait sooner than here."},
    {"cap", SEATS_NUMBER, "The probe found a cap: who would wait here is refused instead."},
    {"poll", SEATS_ONE, "The probe found a poll loop: waits are longer by up to a period each, in no order."},
    {"session", SEATS_NONE, "The probe found one at a time of each session: only a user's own requests wait."},
    {"cpu", SEATS_OTHER, "all run at once and slow each other down: n users on m cores take n / m times as long"},
    {"partial_lock", SEATS_OTHER, "only a part of each call is one at a time: the k-th is done after T + (k - 1) S"},
    {"bucket", SEATS_OTHER, "a rate is limited, not the calls at once: --rpm says how many a minute"},
    {"inconclusive", SEATS_OTHER, "what it could not tell cannot be planned with; probe again, or give --pool"},
};

static int use_probe(struct plan_verb *p, struct chain *chain, struct str model, const struct json_value *root) {
    double at_once = 0;
    double solo_ms = 0;
    size_t i = 0;
    while (i < ARRAY_LEN(probe_models) && !str_eq(model, str_c(probe_models[i].model))) {
        i++;
    }
    if (i == ARRAY_LEN(probe_models)) {
        fprintf(stderr, "thaw plan: %s is no report of thaw probe: it has no \"model\" that is known\n", p->from);
        return EXIT_USAGE;
    }
    if (probe_models[i].seats == SEATS_OTHER) {
        fprintf(stderr, "thaw plan: %s says '%s': %s\n", p->from, probe_models[i].model, probe_models[i].but);
        return EXIT_INCONCLUSIVE;
    }
    bool counted = json_number(json_member(root, "at_once"), &at_once) && at_once >= 1 && at_once <= COUNT_MOST;
    bool timed = json_number(json_member(root, "solo_ms"), &solo_ms) && solo_ms >= 0.001 && solo_ms <= 86400e3;
    if ((probe_models[i].seats == SEATS_NUMBER && !counted) || (!timed && !p->time_us)) {
        fprintf(stderr, "thaw plan: %s has no %s\n", p->from, timed || p->time_us ? "\"at_once\"" : "\"solo_ms\"");
        return EXIT_USAGE;
    }
    p->time_us = p->time_us ? p->time_us : (uint64_t)llround(solo_ms * 1000);
    struct link link = {.kind = LINK_POOL, .unit = OF_REQUESTS, .scope = EACH_INSTANCE};
    link.seats = probe_models[i].seats == SEATS_ONE ? 1 : probe_models[i].seats == SEATS_NUMBER ? floor(at_once) : 0;
    snprintf(link.name, sizeof link.name, "what thaw probe found");
    snprintf(link.number, sizeof link.number, "%s", probe_models[i].model);
    if (probe_models[i].but) {
        snprintf(new_remark(p), REMARK_SIZE, "%s", probe_models[i].but);
    }
    return chain_add(chain, &link) ? EXIT_FINE : EXIT_USAGE;
}

static int add_probe(struct plan_verb *p, struct chain *chain) {
    struct buf text;
    struct json *json = NULL;
    buf_init(&text, REPORT_CAP);
    int wrong = read_whole(p->from, &text);
    if (!wrong && json_read(buf_str(&text), TEXT_CAP, &json) != OK) {
        fprintf(stderr, "thaw plan: %s is not JSON\n", p->from);
        wrong = EXIT_USAGE;
    }
    if (!wrong) {
        const struct json_value *root = json_root(json);
        wrong = use_probe(p, chain, json_string(json_member(root, "model")), root);
    }
    json_close(json);
    buf_finish(&text);
    return wrong;
}

// ---- the chain

// os.cpu_count() counts the machine's, since 3.13 process_cpu_count() those the affinity leaves; the container's quota is
// seen by neither (facts: cpython issues 80235, 149452).
static void count_cpus(struct plan_verb *p) {
    struct machine machine;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    machine_read(&machine, "", false);
    bool by_affinity = p->facts.python_minor >= 13;
    p->facts.cpus = by_affinity || online < 1 ? machine.cpus_allowed : (unsigned)online;
    if (machine.cpus_usable < p->facts.cpus) {
        snprintf(new_remark(p), REMARK_SIZE,
                 "This machine leaves %u of its %u CPUs to the process, which Python 3.%u does not see: it counts %u. "
                 "--cpus says what another counts.",
                 machine.cpus_usable, p->facts.cpus, p->facts.python_minor, p->facts.cpus);
    } else {
        snprintf(new_remark(p), REMARK_SIZE, "%u CPU%s: this machine's. --cpus says what another counts.",
                 p->facts.cpus, p->facts.cpus == 1 ? "" : "s");
    }
}

static bool add_preset(struct plan_verb *p, struct chain *chain, const struct preset *preset) {
    if (preset->counts_cpus && p->facts.cpus == 0) {
        count_cpus(p);
    }
    return preset_add(preset, &p->facts, chain);
}

static bool add_given(const struct plan_verb *p, struct chain *chain, enum given g) {
    struct link *there = chain_find(chain, given_links[g].kind);
    struct link link = {.kind = given_links[g].kind, .unit = given_links[g].unit, .scope = given_links[g].scope};
    snprintf(link.name, sizeof link.name, "%s", given_links[g].name);
    link = there ? *there : link;
    link.seats = p->given[g];
    snprintf(link.number, sizeof link.number, "--%s %u", given_links[g].option, p->given[g]);
    if (there) {
        *there = link;
        return true;
    }
    return chain_add(chain, &link);
}

static bool add_rate(struct chain *chain, enum link_kind kind, const char *name, double seats, const char *number) {
    struct link link = {.kind = kind, .unit = OF_CALLS, .scope = IN_ALL, .seats = seats};
    snprintf(link.name, sizeof link.name, "%s", name);
    snprintf(link.number, sizeof link.number, "%s", number);
    return chain_add(chain, &link);
}

// calls a minute that take so long: as many at once (chain.h).
static bool add_rates(const struct plan_verb *p, struct chain *chain) {
    char number[80];
    double minutes = (double)p->time_us / 60e6;
    bool fine = true;
    if (p->rpm > 0) {
        snprintf(number, sizeof number, "%g/min * %g s", p->rpm, (double)p->time_us / 1e6);
        fine = add_rate(chain, LINK_REQUESTS_PER_MINUTE, "the upstream's rate", p->rpm * minutes, number);
    }
    if (p->tpm > 0) {
        snprintf(number, sizeof number, "%g/min / %g * %g s", p->tpm, p->tokens, (double)p->time_us / 1e6);
        fine = add_rate(chain, LINK_TOKENS_PER_MINUTE, "the upstream's tokens", p->tpm / p->tokens * minutes, number) &&
               fine;
    }
    return fine;
}

static bool says_something_of_the_app(const struct chain *chain) {
    bool says = false;
    for (unsigned i = 0; i < chain->count; i++) {
        says = says || chain->links[i].kind != LINK_PLATFORM;
    }
    return says;
}

static bool add_links(struct plan_verb *p, struct chain *chain) {
    bool fine = true;
    for (unsigned i = 0; i < p->preset_count; i++) {
        fine = add_preset(p, chain, p->presets[i]) && fine;
        chain->instances = MAX(chain->instances, p->instances ? p->instances : p->presets[i]->instances);
    }
    for (unsigned g = 0; g < GIVEN_COUNT; g++) {
        fine = (p->given[g] == 0 || add_given(p, chain, g)) && fine;
    }
    fine = add_rates(p, chain) && fine;
    if (p->timeout_us) {
        fine =
            chain_add_limit(chain, &(struct limit){LIMIT_ANSWER, LINK_PLATFORM, p->timeout_us / 1000, "--timeout"}) &&
            fine;
    }
    if (!says_something_of_the_app(chain)) {
        snprintf(new_remark(p), REMARK_SIZE,
                 "Nothing was said of the app: asyncio.to_thread's pool is assumed. --runtime and --pool say another.");
        fine = add_preset(p, chain, preset_find(RUNTIME, STR("asyncio"))) && fine;
    }
    return fine;
}

// ---- the question

// Whose admission is compared with what is served: the first that limits it, or scales.
static void ask_platform(struct question *q) {
    for (unsigned i = 0; i < q->chain.count && !q->platform; i++) {
        const struct link *l = &q->chain.links[i];
        unsigned admits = l->seats > 0 ? (unsigned)l->seats : l->preset ? l->preset->scales_at : 0;
        if (l->kind == LINK_PLATFORM && (admits || (l->preset && l->preset->scaling))) {
            q->platform = l->preset ? l->preset->title : "The platform";
            q->scaling = l->preset ? l->preset->scaling : NULL;
            q->admits = admits;
        }
    }
}

// Enough to see somebody wait: all that the platform lets in, or two and a half rounds.
static unsigned users_to_show(const struct question *q) {
    unsigned smallest = chain_smallest(&q->chain);
    double users =
        smallest == CHAIN_NONE ? DEFAULT_USERS : ceil(2.5 * link_users(&q->chain, &q->chain.links[smallest]));
    users = fmax(users, (double)q->admits * q->chain.instances);
    return (unsigned)fmax(2, fmin(users, (double)ALL_CALLS_MOST / q->chain.calls));
}

// What would take too long to compute, or would not fit into nanoseconds.
static int check_size(const struct question *q) {
    const struct chain *c = &q->chain;
    unsigned smallest = chain_smallest(c);
    for (unsigned i = 0; i < c->count; i++) {
        if (link_seats(c, &c->links[i]) > QUEUE_SEATS_MOST) {
            fprintf(stderr, "thaw plan: %s: more than %d seats are not computed\n", c->links[i].name, QUEUE_SEATS_MOST);
            return EXIT_USAGE;
        }
    }
    if ((uint64_t)q->users * c->calls > ALL_CALLS_MOST) {
        fprintf(stderr, "thaw plan: --users %u of --calls %u each: at most %d calls are computed\n", q->users, c->calls,
                ALL_CALLS_MOST);
        return EXIT_USAGE;
    }
    double rounds = smallest == CHAIN_NONE ? 1 : 1 + q->users / link_users(c, &c->links[smallest]);
    if (rounds * (double)q->service_ns + (double)q->users * (double)q->apart_ns > LONGEST_NS) {
        fprintf(stderr, "thaw plan: the last one would wait for more than a hundred years\n");
        return EXIT_USAGE;
    }
    return EXIT_FINE;
}

static int ask(struct plan_verb *p, struct question *q) {
    *q =
        (struct question){.rate = p->rate, .cv = p->cv, .think_ns = p->think_us * 1000, .apart_ns = p->apart_us * 1000};
    q->chain.calls = p->calls;
    q->chain.workers = p->workers;
    q->chain.instances = MAX(p->instances, 1);
    int wrong = p->from ? add_probe(p, &q->chain) : EXIT_FINE;
    p->time_us = p->time_us ? p->time_us : (uint64_t)DEFAULT_TIME_S * 1000000;
    q->service_ns = p->time_us * 1000;
    if (!wrong && !add_links(p, &q->chain)) {
        fprintf(stderr, "thaw plan: more links than a chain may have (%d)\n", CHAIN_MOST);
        wrong = EXIT_USAGE;
    }
    ask_platform(q);
    q->users = p->users ? p->users : users_to_show(q);
    return wrong ? wrong : check_size(q);
}

// ---- the answer

static struct plan_style style_of(const struct plan_verb *p) {
    const char *no_colour = getenv("NO_COLOR");
    struct winsize w = {.ws_col = 0};
    struct plan_style style = {.columns = COLUMNS_DEFAULT};
    if (isatty(STDOUT_FILENO)) {
        style.colour = !no_colour || !*no_colour;
        style.unicode = !p->ascii;
        style.columns =
            ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? MAX(w.ws_col, COLUMNS_LEAST) : COLUMNS_DEFAULT;
    }
    for (unsigned i = 0; i < p->remark_count; i++) {
        style.remarks[i] = p->remarks[i];
    }
    return style;
}

static int write_out(enum err e, struct buf *text) {
    bool fine = e == OK && fwrite(buf_str(text).ptr, 1, buf_len(text), stdout) == buf_len(text) && fflush(stdout) == 0;
    if (!fine) {
        fprintf(stderr, "thaw plan: cannot write the plan: %s\n", e == OK ? strerror(errno) : err_text(e));
    }
    buf_finish(text);
    return fine ? EXIT_FINE : EXIT_UNREACHABLE;
}

static int answer(struct plan_verb *p) {
    struct question q;
    struct forecast f;
    struct buf text;
    int wrong = ask(p, &q);
    if (wrong) {
        return wrong;
    }
    struct plan_style style = style_of(p);
    buf_init(&text, TEXT_CAP);
    forecast_init(&f, &q);
    enum err e = p->json ? plan_print_json(&text, &q, &f) : plan_print_text(&text, &q, &f, &style);
    forecast_finish(&f);
    return write_out(e, &text);
}

static int list(const struct plan_verb *p) {
    struct plan_style style = style_of(p);
    struct buf text;
    buf_init(&text, TEXT_CAP);
    enum err e = plan_print_presets(&text, &style);
    return write_out(e, &text);
}

static int run(const struct verb *verb, int argc, char **argv) {
    struct plan_verb p = {
        .calls = 1,
        .workers = 1,
        .cv = 1,
        .facts = {.python_major = 3, .python_minor = 13},
    };
    bool go = false;
    int wrong = args_take(verb, argc, argv, &p, "a pool is given with --pool N, a runtime with --runtime NAME", &go);
    wrong = wrong || !go ? wrong : check_options(&p);
    if (wrong || !go) {
        return wrong;
    }
    p.facts.cpus = p.cpus;
    return p.list ? list(&p) : answer(&p);
}

const struct verb verb_plan = {
    .name = "plan",
    .summary = "predicted waits, from pool, time, users and machine limits",
    .usage = "[options]",
    .about = "Says how many are served at once, who waits how long when so many come at once,\n"
             "what rate of arrivals is stable, which link of the chain is the smallest, who is\n"
             "lost to which time limit, and what to set instead. Links are given by number\n"
             "(--pool, --upstream, ...) or by name (--runtime, --platform: their defaults);\n"
             "with neither it is asyncio.to_thread's pool on this machine.",
    .example = "  thaw plan --pool 6 --time 60s --users 15\n"
               "  thaw plan --runtime asyncio --cpus 2 --calls 5 --platform cloud-run\n"
               "  thaw plan --runtime puma --workers 2 --time 8s --rate 30/m --json\n"
               "  thaw probe URL --report probe.json; thaw plan --from probe.json --users 50\n",
    .options = plan_options,
    .option_count = ARRAY_LEN(plan_options),
    .run = run,
};
