// SPDX-License-Identifier: MIT
// thaw serve: arguments and configuration in, workers (crew.h) and their keeper (keeper.h) wired together.
#include <limits.h>

#include "admit/pressure.h"
#include "base/log.h"
#include "cmd/claim.h"
#include "cmd/keeper.h"
#include "cmd/key.h"
#include "cmd/machine.h"
#include "cmd/outside.h"
#include "cmd/verbs.h"

enum {
    FILES_RESERVED = 32, // descriptors that no call gets: the store, DNS, logs, admin
    FILES_PER_WORKER = 4,
    CALLS_PER_LINK = 32, // of an upstream's HTTP/2 connection: its own limit of streams is rarely lower
};

static const char OPENAI_URL[] = "https://api.openai.com/v1";

// ---- what was asked for

enum { UPSTREAMS_MAX = 16 };

struct serve {
    const char *config_file;
    struct digest config_seen; // before it was read
    const char *ca_file;
    const char *upstreams[UPSTREAMS_MAX];
    size_t upstream_count;
    // Keys of the configuration with options of the same name: they go over the file's.
    const char *listen;
    const char *workers;
    const char *model;
    const char *store;
    const char *admin;
    const char *drain;
    const char *access_log;
    bool open;
    bool mock;
    bool check;
    bool example;
    struct outside outside;
    const struct running *running;   // NULL: not yet
    _Atomic(struct keeper *) keeper; // the same
};

static int take_listen(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct serve *)options)->listen = value;
    return EXIT_FINE;
}

static int take_upstream(void *options, const struct args_option *o UNUSED, const char *value) {
    struct serve *s = options;
    if (s->upstream_count == UPSTREAMS_MAX) {
        fprintf(stderr, "thaw serve: more than %d --upstream; use --config\n", UPSTREAMS_MAX);
        return EXIT_USAGE;
    }
    s->upstreams[s->upstream_count++] = value;
    return EXIT_FINE;
}

static int take_upstream_ca(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct serve *)options)->ca_file = value;
    return EXIT_FINE;
}

static int take_mock(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct serve *)options)->mock = true;
    return EXIT_FINE;
}

static int take_config(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct serve *)options)->config_file = value;
    return EXIT_FINE;
}

static int take_workers(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct serve *)options)->workers = value;
    return EXIT_FINE;
}

static int take_model(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct serve *)options)->model = value;
    return EXIT_FINE;
}

static int take_store(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct serve *)options)->store = value;
    return EXIT_FINE;
}

static int take_admin(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct serve *)options)->admin = value;
    return EXIT_FINE;
}

static int take_drain(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct serve *)options)->drain = value;
    return EXIT_FINE;
}

static int take_access_log(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct serve *)options)->access_log = value;
    return EXIT_FINE;
}

static int take_open(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct serve *)options)->open = true;
    return EXIT_FINE;
}

static int take_check(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct serve *)options)->check = true;
    return EXIT_FINE;
}

static int take_example(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct serve *)options)->example = true;
    return EXIT_FINE;
}

static int take_verbose(void *options UNUSED, const struct args_option *o UNUSED, const char *value UNUSED) {
    log_set_level(LOG_DEBUG);
    return EXIT_FINE;
}

static const struct args_option serve_options[] = {
    {"listen", 'l', "ADDRESS", "where clients connect (127.0.0.1:8080)", take_listen},
    {"upstream", 'u', "URL", "where calls go; may repeat, tried in this order", take_upstream},
    {"upstream-ca", 0, "FILE", "PEM to trust for https instead of the system's", take_upstream_ca},
    {"mock", 0, NULL, "answer from a built-in mock, no upstream needed", take_mock},
    {"config", 'c', "FILE", "YAML; thaw.example.yaml documents every key", take_config},
    {"model", 0, "NAME", "of recipes that name none, /chat among them", take_model},
    {"store", 0, "URL", "sqlite://PATH: jobs and tapes survive a restart", take_store},
    {"workers", 'w', "N", "threads (one per usable CPU)", take_workers},
    {"admin", 0, "ADDRESS", "metrics and administration, or off (127.0.0.1:8081)", take_admin},
    {"access-log", 0, "PATH", "a line for each request; stdout or stderr too", take_access_log},
    {"drain", 0, "TIME", "for running calls to end when told to leave (15m)", take_drain},
    {"open", 0, NULL, "let other machines spend your upstream key", take_open},
    {"check", 0, NULL, "do all of the start-up but the listening", take_check},
    {"example", 0, NULL, "print a documented configuration file", take_example},
    {"verbose", 'v', NULL, "say on stderr how each request ended", take_verbose},
};

// ---- the configuration from file, environment and arguments

static enum err add_upstreams(const struct serve *s, struct config *config, struct config_problem *problem) {
    struct str ca = str_c(s->ca_file ? s->ca_file : "");
    for (size_t i = 0; i < s->upstream_count; i++) {
        struct str key = environment_key(s->upstreams[i]);
        enum err e = config_add_upstream(config, STR(""), str_c(s->upstreams[i]), key, ca, problem);
        if (e != OK) {
            return e;
        }
    }
    enum err e = s->mock ? config_add_mock(config, problem) : OK;
    if (e != OK || config->upstream_count) {
        return e;
    }
    const char *key = getenv("OPENAI_API_KEY");
    if (!key || !*key) {
        snprintf(problem->text, sizeof problem->text,
                 "nothing to send calls to. Set OPENAI_API_KEY for api.openai.com, or use --upstream URL, --mock, or "
                 "--config FILE");
        return ERR_INVALID;
    }
    return config_add_upstream(config, STR("openai"), str_c(OPENAI_URL), str_c(key), ca, problem);
}

static enum err read_config(const struct serve *s, struct config **config, struct config_problem *problem) {
    if (s->config_file) {
        enum err e = config_read_file(s->config_file, config, problem);
        if (e != OK) {
            return e;
        }
    } else {
        *config = config_create();
    }
    const char *settings[][2] = {
        {"listen", s->listen}, {"workers", s->workers}, {"open", s->open ? "true" : NULL}, {"default_model", s->model},
        {"store", s->store},   {"admin", s->admin},     {"access_log", s->access_log},     {"drain", s->drain}};
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        enum err e = settings[i][1] ? config_set(*config, settings[i][0], settings[i][1], problem) : OK;
        if (e != OK) {
            return e;
        }
    }
    enum err e = add_upstreams(s, *config, problem);
    return e == OK ? config_check(*config, problem) : e;
}

// At the start, and for each reload: options of the command line go over the file's keys every time. On another thread
// then; nothing of `owner`, a struct serve, is written.
static enum err make_blueprint(void *owner, struct blueprint **blueprint, char *problem, size_t size) {
    struct config_problem wrong;
    struct config *config = NULL;
    enum err e = read_config(owner, &config, &wrong);
    if (e != OK) {
        snprintf(problem, size, "%s", wrong.text);
    } else {
        e = blueprint_create(config, blueprint, problem, size);
    }
    if (config) {
        config_unref(config);
    }
    return e;
}

// ---- what it has

static bool all_speak_h2(const struct config *config) {
    for (unsigned i = 0; i < config->upstream_count; i++) {
        if (!config_h2_is_known(&config->upstreams[i])) {
            return false;
        }
    }
    return true;
}

// A client's connection may need another one, to the upstream; with HTTP/2 many share one.
static unsigned connections_by_files(const struct config *config, const struct machine *m, unsigned workers) {
    uint64_t reserved = FILES_RESERVED + (uint64_t)FILES_PER_WORKER * workers;
    uint64_t sharing = all_speak_h2(config) ? CALLS_PER_LINK : 1;
    uint64_t most = m->files > reserved ? (m->files - reserved) * sharing / (sharing + 1) : 0;
    return (unsigned)MIN(MAX(most, 1u), (uint64_t)INT_MAX);
}

static unsigned connections_of(const struct config *config, const struct machine *m, unsigned workers) {
    return config->max_connections ? config->max_connections : connections_by_files(config, m, workers);
}

static struct pressure *make_pressure(const struct config *config, const struct machine *m, unsigned workers) {
    struct pressure_options options = {
        .limit = m->memory_bytes,
        .budget = config->memory,
        .group = m->memory_from_cgroup ? m->memory_group : NULL,
        .group_v1 = m->memory_group_v1,
        .workers = workers,
        .connections = connections_of(config, m, workers),
    };
    return pressure_create(&options);
}

// ---- start-up lines

static void describe_upstreams(const struct config *config) {
    for (unsigned i = 0; i < config->upstream_count; i++) {
        const struct config_upstream *u = &config->upstreams[i];
        if (u->mock) {
            log_info("upstream '%.*s': the built-in mock, no key needed", STR_ARG(u->name));
        } else {
            log_info("upstream '%.*s': %.*s, %s", STR_ARG(u->name), STR_ARG(u->url),
                     u->key.len                ? "with its own key"
                     : config_has_keys(config) ? "without a key"
                                               : "with the client's Authorization");
        }
    }
}

static void describe_machine(const struct machine *m, const struct pressure *p, unsigned workers) {
    char memory[24];
    char quota[48] = "no quota";
    uint64_t connections = p->most_connections;
    uint64_t by_memory = p->budget > p->used ? (p->budget - p->used) / PRESSURE_CALL_BYTES : 0;
    snprintf(memory, sizeof memory, "%.1f GB", (double)m->memory_bytes / 1e9);
    if (m->cpu_quota > 0) {
        snprintf(quota, sizeof quota, "cgroup quota %.2f", m->cpu_quota);
    }
    log_info("limits: %u CPU%s (%u allowed, %s), %llu descriptors, memory %s (%s)", m->cpus_usable,
             m->cpus_usable == 1 ? "" : "s", m->cpus_allowed, quota, (unsigned long long)m->files, memory,
             m->memory_from_cgroup ? "cgroup" : "machine");
    log_info("%u worker%s; room for about %llu calls at once (by %s), memory budget %.0f MB", workers,
             workers == 1 ? "" : "s", (unsigned long long)MIN(connections, by_memory),
             connections < by_memory ? "descriptors" : "memory", (double)p->budget / 1e6);
}

// ---- life

static unsigned worker_count(const struct config *config, const struct machine *machine) {
    return config->workers ? config->workers : MIN(machine->cpus_usable, (unsigned)CREW_MAX);
}

static int check(const struct config *config) {
    struct machine machine;
    machine_read(&machine, "", true);
    unsigned workers = worker_count(config, &machine);
    struct pressure *pressure = make_pressure(config, &machine, workers);
    describe_upstreams(config);
    describe_machine(&machine, pressure, workers);
    log_info("all is fine; without --check it would listen on %.*s", STR_ARG(config->listen));
    pressure_destroy(pressure);
    return EXIT_FINE;
}

// What the admin is asked for.
static void on_drain(void *owner) {
    struct keeper *keeper = atomic_load(&((struct serve *)owner)->keeper);
    if (keeper) {
        keeper_drain(keeper);
    }
}
static void on_reload(void *owner) {
    struct keeper *keeper = atomic_load(&((struct serve *)owner)->keeper);
    if (keeper) {
        keeper_reload(keeper);
    }
}

static void on_reopen(void *owner) { outside_reopen(&((struct serve *)owner)->outside); }

struct running {
    struct blueprint *blueprint;
    struct inherited *in;
    struct machine machine;
    struct pressure *pressure;
    struct address listen;
    struct crew *crew;
    unsigned workers;
};

static void on_reloaded(void *owner, struct config *config) {
    struct serve *s = owner;
    const struct running *r = s->running;
    pressure_set(r->pressure, config->memory, connections_of(config, &r->machine, r->workers));
    if (s->outside.admin) {
        admin_configure(s->outside.admin, config);
    }
}

static int run_crew(struct serve *s, struct running *r) {
    struct keeper *keeper = NULL;
    char text[ADDRESS_TEXT];
    struct keeper_options options = {
        .crew = r->crew,
        .config_file = s->config_file,
        .config_seen = s->config_seen,
        .start = r->blueprint,
        .listen = &r->listen,
        .admin = outside_socket(&s->outside),
        .make = make_blueprint,
        .reloaded = on_reloaded,
        .reopen = on_reopen,
        .owner = s,
    };
    int wrong = keeper_open(&keeper, &options);
    if (!wrong) { // from here on a signal drains
        atomic_store(&s->keeper, keeper);
        log_info("listening on %s://%s", r->blueprint->config->tls_count ? "https" : "http",
                 address_format(&r->listen, text));
        describe_upstreams(r->blueprint->config);
        describe_machine(&r->machine, r->pressure, r->workers);
        outside_begin(&s->outside);
        inherit_tell(r->in);
        crew_run(r->crew);
    }
    keeper_stop(keeper);
    outside_close(&s->outside); // the last that may wish for something
    keeper_close(keeper);
    return wrong;
}

static int show(struct serve *s, const struct running *r) {
    struct admin_options options = {
        .config = r->blueprint->config,
        .meters = crew_meters(r->crew),
        .shelves = crew_shelves(r->crew),
        .commons = crew_commons(r->crew),
        .on_drain = on_drain,
        .on_reload = on_reload,
        .owner = s,
    };
    return outside_open(&s->outside, &options);
}

static int open_and_run(struct serve *s, struct running *r) {
    struct crew_options options = {
        .blueprint = r->blueprint,
        .count = r->workers,
        .listen = &r->listen,
        .sockets = r->in->sockets,
        .socket_count = r->in->socket_count,
        .pressure = r->pressure,
        .access = s->outside.access,
        .beside = r->in->upgrade,
    };
    int wrong = crew_open(&r->crew, &options);
    wrong = wrong ? wrong : show(s, r);
    wrong = wrong ? wrong : run_crew(s, r);
    outside_close(&s->outside);
    crew_close(r->crew);
    outside_finish(&s->outside);
    return wrong;
}

static int serve(struct serve *s, struct blueprint *blueprint, struct inherited *in) {
    const struct config *config = blueprint->config;
    struct running r = {.blueprint = blueprint, .in = in};
    int wrong = EXIT_FINE;
    machine_read(&r.machine, "", true); // for as many calls as may be
    r.workers = worker_count(config, &r.machine);
    inherit_match(in, config, r.workers);
    if (in->socket_count) {
        r.listen = inherit_address(in);
    } else {
        wrong = claim_address("serve", "listen", config->listen, &r.listen);
    }
    wrong = wrong ? wrong : outside_claim(&s->outside, config, in->admin);
    if (!wrong) {
        r.pressure = make_pressure(config, &r.machine, r.workers);
        s->running = &r;
        wrong = open_and_run(s, &r);
        pressure_destroy(r.pressure);
    }
    return wrong;
}

static int print_example(void) {
    struct buf text;
    buf_init(&text, CONFIG_FILE_MAX);
    if (config_print_example(&text) == OK) {
        fwrite(buf_str(&text).ptr, 1, buf_len(&text), stdout);
    }
    buf_finish(&text);
    return EXIT_FINE;
}

static int run(const struct verb *verb, int argc, char **argv) {
    struct serve s = {0};
    bool go = false;
    int wrong = args_take(verb, argc, argv, &s, "an upstream is given with --upstream URL", &go);
    if (wrong || !go) {
        return wrong;
    }
    if (s.example) {
        return print_example();
    }
    char problem[sizeof((struct config_problem *)0)->text];
    struct blueprint *blueprint = NULL;
    struct inherited inherited;
    keeper_prepare();
    s.config_seen = reload_digest(s.config_file);
    if (make_blueprint(&s, &blueprint, problem, sizeof problem) != OK) {
        fprintf(stderr, "thaw serve: %s\n", problem);
        return EXIT_USAGE;
    }
    wrong = inherit_take(&inherited);
    if (!wrong) {
        wrong = s.check ? check(blueprint->config) : serve(&s, blueprint, &inherited);
    }
    inherit_finish(&inherited);
    blueprint_unref(blueprint);
    return wrong;
}

const struct verb verb_serve = {
    .name = "serve",
    .summary = "the gateway: holds slow calls, relays them, never freezes",
    .usage = "[options]",
    .about = "Serves an OpenAI-compatible API on 127.0.0.1:8080 and relays its calls: to\n"
             "api.openai.com when OPENAI_API_KEY is set and nothing else is.\n"
             "\n"
             "POST /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses and\n"
             "/v1/messages are looked at; every other /v1/* is relayed as it is. Its own:\n"
             "  POST /chat              a prompt in, {\"response\": ...} out; recipes add more\n"
             "  POST /v1/parallel       several calls in one request\n"
             "  GET /v1/tapes/ID        an answer again, from any point; DELETE cancels it\n"
             "  GET /v1/tapes/ID/status how far it is\n"
             "  GET /v1/models, /healthz, /readyz\n"
             "\n"
             "An answer is kept when the call has Idempotency-Key or X-Thaw-Resume: 1; with\n"
             "Prefer: respond-async the call is answered at once and goes on by itself.",
    .example = "  thaw serve --mock &\n"
               "  curl localhost:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
               "       -d '{\"model\":\"mock-1s\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'\n",
    .options = serve_options,
    .option_count = ARRAY_LEN(serve_options),
    .run = run,
};
