// SPDX-License-Identifier: MIT
// thaw serve: arguments and configuration in, workers wired together and run until a signal.
#include <errno.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cmd/claim.h"
#include "cmd/key.h"
#include "cmd/machine.h"
#include "cmd/signals.h"
#include "cmd/verbs.h"
#include "gateway/jobs.h"
#include "gateway/worker.h"
#include "mock/mock.h"
#include "net/digest.h"

enum {
    FILES_RESERVED = 32, // descriptors that no call gets: loops, listeners, DNS
    FILES_PER_CALL = 2,
    BYTES_PER_CALL = 11 * 1024, // 2.5 KB of thaw's and 2 x 4.2 KB of the kernel's (bench/)
    WAIT_FOR_OTHERS_MS = 1000,
    SHARE_OF_MEMORY = 4, // three of four parts are for calls
};

static const char OPENAI_URL[] = "https://api.openai.com/v1";

// ---- what was asked for

enum { UPSTREAMS_MAX = 16 };

struct serve {
    struct config *config;
    const char *config_file;
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
};

static int say(const struct config_problem *problem) {
    fprintf(stderr, "thaw serve: %s\n", problem->text);
    return EXIT_USAGE;
}

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

static int add_upstreams(struct serve *s) {
    struct config_problem problem;
    struct str ca = str_c(s->ca_file ? s->ca_file : "");
    for (size_t i = 0; i < s->upstream_count; i++) {
        struct str key = environment_key(s->upstreams[i]);
        if (config_add_upstream(s->config, STR(""), str_c(s->upstreams[i]), key, ca, &problem) != OK) {
            return say(&problem);
        }
    }
    if (s->mock && config_add_mock(s->config, &problem) != OK) {
        return say(&problem);
    }
    if (s->config->upstream_count) {
        return EXIT_FINE;
    }
    const char *key = getenv("OPENAI_API_KEY");
    if (!key || !*key) {
        fprintf(stderr,
                "thaw serve: nothing to send calls to. Set OPENAI_API_KEY for api.openai.com, or use --upstream URL, "
                "--mock, or --config FILE\n");
        return EXIT_USAGE;
    }
    if (config_add_upstream(s->config, STR("openai"), str_c(OPENAI_URL), str_c(key), ca, &problem) != OK) {
        return say(&problem);
    }
    return EXIT_FINE;
}

static int build_config(struct serve *s) {
    struct config_problem problem;
    if (!s->config_file) {
        s->config = config_create();
    } else if (config_read_file(s->config_file, &s->config, &problem) != OK) {
        return say(&problem);
    }
    const char *settings[][2] = {
        {"listen", s->listen}, {"workers", s->workers}, {"open", s->open ? "true" : NULL}, {"default_model", s->model},
        {"store", s->store},   {"admin", s->admin},     {"access_log", s->access_log},     {"drain", s->drain}};
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (settings[i][1] && config_set(s->config, settings[i][0], settings[i][1], &problem) != OK) {
            return say(&problem);
        }
    }
    int wrong = add_upstreams(s);
    if (wrong) {
        return wrong;
    }
    return config_check(s->config, &problem) == OK ? EXIT_FINE : say(&problem);
}

// ---- what is made once and shared by the workers

struct shared {
    struct address listen;
    struct blueprint *blueprint;
    struct commons *commons;
};

static int make_blueprint(struct config *config, struct shared *shared) {
    char problem[400];
    if (blueprint_create(config, &shared->blueprint, problem, sizeof problem) != OK) {
        fprintf(stderr, "thaw serve: %s\n", problem);
        return EXIT_USAGE;
    }
    shared->commons = commons_create();
    return EXIT_FINE;
}

// ---- workers and their threads

// The first worker runs on the main thread, which also takes the signals; the others have threads of their own.
enum crew_state { CREW_RUNNING, CREW_DRAINING, CREW_STOPPING };

struct crew;
struct hand {
    struct worker worker;
    struct crew *crew;
    pthread_t thread;
    struct message drain; // to its loop
    struct message stop;
    struct message finished; // to the first one's
};
struct crew {
    struct shelves *shelves;
    struct store *store;
    struct list interrupted; // jobs of the last process
    struct hand *hands;
    unsigned count;
    unsigned threads_running;
    struct io signals;
    enum crew_state state;
};

static void deliver_drain(struct message *m) {
    struct worker *w = &container_of(m, struct hand, drain)->worker;
    worker_drain(w, w->config->drain_ms);
}
static void deliver_stop(struct message *m) { loop_stop(&container_of(m, struct hand, stop)->worker.loop); }
static void deliver_finished(struct message *m) { container_of(m, struct hand, finished)->crew->threads_running--; }

static void *run_hand(void *arg) {
    struct hand *hand = arg;
    worker_run(&hand->worker);
    loop_post(&hand->crew->hands[0].worker.loop, &hand->finished);
    return NULL;
}

static void crew_set_state(struct crew *crew, enum crew_state state) {
    crew->state = state;
    for (unsigned i = 0; i < crew->count; i++) { // each message is posted once: it is part of its hand
        struct hand *hand = &crew->hands[i];
        loop_post(&hand->worker.loop, state == CREW_DRAINING ? &hand->drain : &hand->stop);
    }
}

// The first signal drains, the second one stops, more have nothing to add.
static void on_signal(struct io *io, unsigned events UNUSED) {
    struct crew *crew = container_of(io, struct crew, signals);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof info) == sizeof info) {
        switch (crew->state) {
        case CREW_RUNNING:
            log_info("taking no new calls, finishing the running ones; a second signal stops at once");
            crew_set_state(crew, CREW_DRAINING);
            break;
        case CREW_DRAINING: crew_set_state(crew, CREW_STOPPING); break;
        case CREW_STOPPING: break;
        }
    }
}

static void *make_mock(struct loop *loop) {
    uint32_t from; // each worker has one, and after a restart a store knows the ids of the last ones
    random_bytes(&from, sizeof from);
    struct mock_options options = {.numbers_from = (uint64_t)from << 24}; // the rest: what the model's name says
    return mock_create(loop, &options);
}

static void free_mock(void *mock) { mock_destroy(mock); }

static int open_crew(struct crew *crew, const struct serve *s, const struct shared *shared) {
    struct worker_options options = {
        .blueprint = shared->blueprint,
        .commons = shared->commons,
        .listen = &shared->listen,
        .mock_connect = mock_connect,
        .mock_create = make_mock,
        .mock_destroy = free_mock,
    };
    char problem[STORE_PROBLEM_MAX];
    crew->shelves = worker_shelves(s->config, crew->count);
    if (jobs_open(s->config, crew->shelves, &crew->store, &crew->interrupted, problem) != OK) {
        fprintf(stderr, "thaw serve: %s\n", problem);
        crew->count = 0;
        return EXIT_UNREACHABLE;
    }
    options.shelves = crew->shelves;
    options.store = crew->store;
    crew->hands = xcalloc(crew->count, sizeof *crew->hands);
    for (unsigned i = 0; i < crew->count; i++) {
        struct hand *hand = &crew->hands[i];
        options.number = i;
        options.interrupted = i == 0 ? &crew->interrupted : NULL;
        enum err e = worker_init(&hand->worker, &options);
        if (e != OK) {
            fprintf(stderr, "thaw serve: worker %u did not start: %s\n", i + 1, err_text(e));
            crew->count = i;
            return EXIT_UNREACHABLE;
        }
        hand->crew = crew;
        hand->drain.deliver = deliver_drain;
        hand->stop.deliver = deliver_stop;
        hand->finished.deliver = deliver_finished;
    }
    if (signals_open(&crew->hands[0].worker.loop, &crew->signals, on_signal) != OK) {
        fprintf(stderr, "thaw serve: signals cannot be watched: %s\n", strerror(errno));
        return EXIT_UNREACHABLE;
    }
    return EXIT_FINE;
}

static void run_crew(struct crew *crew) {
    for (unsigned i = 1; i < crew->count; i++) {
        int problem = pthread_create(&crew->hands[i].thread, NULL, run_hand, &crew->hands[i]);
        if (problem) {
            log_error("worker %u has no thread: %s", i + 1, strerror(problem));
            abort();
        }
        crew->threads_running++;
    }
    struct loop *first = &crew->hands[0].worker.loop;
    loop_run(first);
    while (crew->threads_running) { // a second signal still counts
        loop_turn(first, WAIT_FOR_OTHERS_MS);
    }
    for (unsigned i = 1; i < crew->count; i++) {
        pthread_join(crew->hands[i].thread, NULL);
    }
}

static void close_crew(struct crew *crew) {
    if (crew->shelves) {
        shelves_close(crew->shelves);
        store_close(crew->store); // its last results are delivered as the workers end
        jobs_drop(&crew->interrupted);
    }
    for (unsigned i = crew->count; i-- > 0;) {
        if (i == 0 && crew->signals.on_ready) {
            io_close(&crew->hands[0].worker.loop, &crew->signals);
        }
        worker_finish(&crew->hands[i].worker);
    }
    free(crew->hands);
    shelves_destroy(crew->shelves);
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

static void describe_machine(const struct machine *m, unsigned workers) {
    char memory[24];
    char quota[48] = "no quota";
    uint64_t by_files = m->files > FILES_RESERVED ? (m->files - FILES_RESERVED) / FILES_PER_CALL : 0;
    uint64_t by_memory = m->memory_bytes / SHARE_OF_MEMORY * (SHARE_OF_MEMORY - 1) / BYTES_PER_CALL;
    snprintf(memory, sizeof memory, "%.1f GB", (double)m->memory_bytes / 1e9);
    if (m->cpu_quota > 0) {
        snprintf(quota, sizeof quota, "cgroup quota %.2f", m->cpu_quota);
    }
    log_info("limits: %u CPU%s (%u allowed, %s), %llu descriptors, memory %s (%s)", m->cpus_usable,
             m->cpus_usable == 1 ? "" : "s", m->cpus_allowed, quota, (unsigned long long)m->files, memory,
             m->memory_from_cgroup ? "cgroup" : "machine");
    log_info("%u worker%s; room for about %llu calls at once (by %s)", workers, workers == 1 ? "" : "s",
             (unsigned long long)MIN(by_files, by_memory), by_files < by_memory ? "descriptors" : "memory");
}

static int serve(struct serve *s) {
    struct machine machine;
    struct shared shared = {0};
    struct crew crew = {0};
    char text[ADDRESS_TEXT];
    machine_read(&machine, "", true);
    crew.count = s->config->workers ? s->config->workers : machine.cpus_usable;
    int wrong = make_blueprint(s->config, &shared);
    if (!wrong && s->check) {
        describe_upstreams(s->config);
        describe_machine(&machine, crew.count);
        log_info("all is fine; without --check it would listen on %.*s", STR_ARG(s->config->listen));
    } else if (!wrong && !(wrong = claim_address("serve", s->config->listen, &shared.listen))) {
        wrong = open_crew(&crew, s, &shared);
        if (!wrong) {
            log_info("listening on %s://%s", s->config->tls_count ? "https" : "http",
                     address_format(&shared.listen, text));
            describe_upstreams(s->config);
            describe_machine(&machine, crew.count);
            run_crew(&crew);
        }
        close_crew(&crew);
    }
    commons_destroy(shared.commons);
    blueprint_unref(shared.blueprint);
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
    wrong = build_config(&s);
    wrong = wrong ? wrong : serve(&s);
    if (s.config) {
        config_unref(s.config);
    }
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
