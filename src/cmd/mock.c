// SPDX-License-Identifier: MIT
// thaw mock: the mock behind a listening socket, one loop, until a signal. Turns are not paced: what the mock says
// about time is what others are measured by.

#include "cmd/claim.h"
#include "cmd/machine.h"
#include "cmd/signals.h"
#include "cmd/verbs.h"
#include "cmd/watch.h"
#include "config/config.h"
#include "mock/mock.h"
#include "net/listen.h"
#include "net/tcp.h"

enum { TITLE_MAX = 160 };

struct mock_verb {
    const char *listen;
    struct mock_options mock;
    bool has_latency;
    bool watch;
    char title[TITLE_MAX]; // what --watch is headed by: the arguments
};

// ---- arguments

static int take_listen(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    struct str host;
    uint16_t port;
    if (config_listen_parse(str_c(value), &host, &port) != OK) {
        return args_wrong("mock", o, value, "an address as 127.0.0.1:9000, :9000 or 9000");
    }
    m->listen = value;
    return EXIT_FINE;
}

// `wanted` is NULL when it was understood.
static int judge(const struct args_option *o, const char *value, const char *wanted) {
    return wanted ? args_wrong("mock", o, value, wanted) : EXIT_FINE;
}

static int take_distribution(const struct args_option *o, const char *value, struct latency *l) {
    struct latency taken;
    const char *wanted = latency_parse_file(str_c(value), &taken);
    if (!wanted) {
        latency_finish(l);
        *l = taken;
    }
    return judge(o, value, wanted);
}

static int take_latency(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    m->has_latency = true;
    return take_distribution(o, value, &m->mock.times.latency);
}

static int take_first(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    m->mock.times.has_first = true;
    return take_distribution(o, value, &m->mock.times.first);
}

static int take_between(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    return take_distribution(o, value, &m->mock.times.between);
}

static int take_stall(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    return judge(o, value, mock_parse_stall(str_c(value), &m->mock.times));
}

static int take_prefill(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    return judge(o, value, mock_parse_prefill(str_c(value), &m->mock.times));
}

static int take_tokens(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    uint64_t n = 0;
    if (parse_u64(str_c(value), &n) != OK || n > MOCK_TOKENS_MAX) {
        return args_wrong("mock", o, value, "a number up to 1000000, as 100");
    }
    m->mock.tokens = (unsigned)n;
    return EXIT_FINE;
}

static int take_seed(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    return judge(o, value, parse_u64(str_c(value), &m->mock.seed) == OK ? NULL : "a number as 42");
}

static int take_capacity(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    return judge(o, value, capacity_parse(str_c(value), &m->mock.capacity));
}

static int take_watch(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    struct mock_verb *m = options;
    m->watch = true;
    return EXIT_FINE;
}

static const struct args_option options[] = {
    {"listen", 'l', "ADDRESS", "where clients connect (127.0.0.1:9000)", take_listen},
    {"latency", 0, "TIME", "of an answer, and of a stream's first token (0)", take_latency},
    {"first", 0, "TIME", "of a stream's first token instead; also --ttft", take_first},
    {"ttft", 0, "TIME", NULL, take_first},
    {"between", 0, "TIME", "between a stream's tokens (0); also --token-latency", take_between},
    {"token-latency", 0, "TIME", NULL, take_between},
    {"stall", 0, "T@K", "a pause of T after K tokens of a stream, as 3s@20", take_stall},
    {"prefill", 0, "T", "for each word of the prompt, as 1ms (0)", take_prefill},
    {"tokens", 0, "N", "words of an answer (as many as the last message)", take_tokens},
    {"seed", 0, "N", "of all that is up to chance (0)", take_seed},
    {"capacity", 0, "MODE", "who is served when (unlimited)", take_capacity},
    {"watch", 0, NULL, "show live who is served and who waits", take_watch},
};

// ---- running

struct running {
    struct loop loop;
    struct listener listener;
    struct io signals;
    struct mock *mock;
    struct view view;
};

static void on_accept(struct listener *l, struct conn *c) {
    struct running *r = l->owner;
    mock_accept(r->mock, c);
    tcp_watch(c);
}

static void on_signal(struct io *io, unsigned events UNUSED) {
    loop_stop(&container_of(io, struct running, signals)->loop);
}

static void say_how_to_use_it(const struct address *address) {
    static const char *const all[] = {"[::]:", "0.0.0.0:"}; // listened on, but nowhere to connect to
    char text[ADDRESS_TEXT];
    const char *host = "";
    const char *rest = address_format(address, text);
    fprintf(stderr, "thaw mock: listening on %s\n", text);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (str_starts(str_c(text), str_c(all[i]))) {
            host = "localhost:";
            rest = text + strlen(all[i]);
        }
    }
    fprintf(stderr,
            "thaw mock: set OPENAI_BASE_URL=http://%s%s/v1 and any key; models mock, mock-5s, mock-100x20ms, ...\n",
            host, rest);
}

static enum err open_all(struct running *r, const struct mock_verb *m, const struct address *address) {
    enum err e = signals_open(&r->loop, &r->signals, on_signal);
    if (e == OK) {
        r->mock = mock_create(&r->loop, &m->mock);
        e = listener_open(&r->listener, &r->loop, address, on_accept, r);
    }
    return e;
}

static int run_mock(const struct mock_verb *m) {
    struct running r = {.listener.io.fd = -1, .signals.fd = -1};
    struct address address;
    struct machine machine;
    machine_read(&machine, "", true); // for as many calls as may be
    int wrong = claim_address("mock", str_c(m->listen), &address);
    if (wrong) {
        return wrong;
    }
    enum err e = loop_init(&r.loop, &(struct loop_options){.pace_us = 0});
    if (e == OK) {
        e = open_all(&r, m, &address);
        if (e == OK) {
            say_how_to_use_it(&address);
            if (m->watch) {
                view_open(&r.view, &r.loop, r.mock, m->title);
            }
            loop_run(&r.loop);
        }
        view_close(&r.view);
        listener_close(&r.listener);
        mock_destroy(r.mock);
        io_close(&r.loop, &r.signals);
        loop_finish(&r.loop);
    }
    if (e != OK) {
        fprintf(stderr, "thaw mock: cannot start: %s\n", err_text(e));
    }
    return e == OK ? EXIT_FINE : EXIT_UNREACHABLE;
}

static void make_title(struct mock_verb *m, int argc, char **argv) {
    size_t n = 0;
    for (int i = 0; i < argc && n < sizeof m->title; i++) {
        n += (size_t)snprintf(m->title + n, sizeof m->title - n, "%s%s", i ? " " : "", argv[i]);
    }
}

static int run(const struct verb *verb, int argc, char **argv) {
    struct mock_verb m = {.listen = "127.0.0.1:9000"};
    bool go = false;
    struct mock_times *t = &m.mock.times;
    int code = args_take(verb, argc, argv, &m, "an address is given with --listen", &go);
    make_title(&m, argc, argv);
    t->as_stream = !m.has_latency; // an answer takes as long as the stream of it, if only that has a pace
    code = code || !go ? code : run_mock(&m);
    latency_finish(&t->latency);
    latency_finish(&t->first);
    latency_finish(&t->between);
    return code;
}

const struct verb verb_mock = {
    .name = "mock",
    .summary = "an OpenAI-compatible upstream with set latency and capacity",
    .usage = "[options]",
    .about = "Answers OpenAI's chat, completions, responses, embeddings and models on\n"
             "127.0.0.1:9000, streaming and not, and echoes the last message.\n"
             "\n"
             "TIME is 5s, uniform:1s-3s, normal:5s,500ms (mean, deviation), lognormal:2s,9s\n"
             "(median, 99th percentile) or file:PATH (one of its lines). Draws depend on the\n"
             "seed and the call (X-Mock-Nonce, else its body), not on the order of arrival.\n"
             "Without --latency an answer takes as long as the stream of it would.\n"
             "\n"
             "MODE is unlimited, lock, lock:1s/5s (1 s of every 5 s), pool:6 (or pool:6:lifo,\n"
             "pool:6:random), workers:4x2, cpu:2 (shared), poll:100ms (a flag, looked at),\n"
             "bucket:10/s:5, cap:10 (429 above) or session (one call at a time of each).\n"
             "\n"
             "A model's name overrides the options: mock-5s, mock-lognormal-2s-9s,\n"
             "mock-100x20ms (100 tokens 20 ms apart), mock-err-429. So do the fields\n"
             "X-Mock-Latency, -First, -Between, -Stall, -Prefill and -Tokens of a request.\n"
             "\n"
             "GET /mock/journal has a JSON line for each call (?since=ID&limit=N), /mock/stats\n"
             "the counts; POST /mock/reset begins anew.",
    .example = "  thaw mock --latency 5s --capacity pool:6 &\n"
               "  curl localhost:9000/v1/chat/completions -H 'Content-Type: application/json' \\\n"
               "       -d '{\"model\":\"mock\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'\n",
    .options = options,
    .option_count = ARRAY_LEN(options),
    .run = run,
};
