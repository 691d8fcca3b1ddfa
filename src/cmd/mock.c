// SPDX-License-Identifier: MIT
// thaw mock: the mock behind a listening socket, one loop, until a signal. Turns are not paced: what the mock says
// about time is what others are measured by.

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/claim.h"
#include "cmd/machine.h"
#include "cmd/signals.h"
#include "cmd/verbs.h"
#include "cmd/watch.h"
#include "config/address.h"
#include "config/config.h"
#include "mock/mock.h"
#include "net/listen.h"
#include "net/tcp.h"

enum { TITLE_MAX = 160, SPEED_MAX = 1000 };

struct mock_verb {
    const char *listen;
    struct mock_options mock;
    bool has_latency;
    bool watch;
    char title[TITLE_MAX]; // what --watch is headed by: the arguments
    struct url url;        // --record
    const char *folder;    // and its second value
    const char *replay;
    double speed;
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

static int take_fault(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    struct fault_rate *rate = &m->mock.faults[m->mock.fault_count];
    if (m->mock.fault_count == FAULT_RATES_MAX) {
        return args_wrong("mock", o, value, "at most 16 faults");
    }
    const char *wanted = fault_parse_rate(str_c(value), rate);
    if (wanted) {
        return args_wrong("mock", o, value, wanted);
    }
    double all[2] = {0, 0}; // of calls, of connections
    for (size_t i = 0; i <= m->mock.fault_count; i++) {
        all[m->mock.faults[i].fault.kind == FAULT_ACCEPT] += m->mock.faults[i].share;
    }
    if (all[0] > 1 + 1e-9 || all[1] > 1 + 1e-9) {
        return args_wrong("mock", o, value, "shares that add up to 100% or less");
    }
    m->mock.fault_count++;
    return EXIT_FINE;
}

static int take_record(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    if (m->folder) {
        return args_wrong("mock", o, value, "to be given once");
    }
    if (m->url.host.ptr) {
        m->folder = value;
        return EXIT_FINE;
    }
    const char *problem = url_parse_h1(str_c(value), &m->url);
    if (problem) { // what was written is not shown: a URL is where passwords turn up
        fprintf(stderr, "thaw mock: --record wants a URL, as https://api.openai.com/v1, that %s\n", problem);
        return EXIT_USAGE;
    }
    return EXIT_FINE;
}

static int take_replay(void *options, const struct args_option *o UNUSED, const char *value) {
    struct mock_verb *m = options;
    m->replay = value;
    return EXIT_FINE;
}

static int take_speed(void *options, const struct args_option *o, const char *value) {
    struct mock_verb *m = options;
    char *end = NULL;
    m->speed = strtod(value, &end);
    bool digit = value[0] >= '0' && value[0] <= '9';
    if (!digit || *end || !(m->speed == 0 || (m->speed >= 0.001 && m->speed <= SPEED_MAX))) {
        return args_wrong("mock", o, value, "a factor from 0.001 to 1000, or 0 for no waiting");
    }
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
    {"fault", 0, "NAME:P%", "P percent of the calls have this fault; may repeat", take_fault},
    {"record", 0, "URL DIR", "relay models' calls to URL, a file of each in DIR", take_record},
    {"replay", 0, "DIR", "answer them by recordings; with --record where it can", take_replay},
    {"replay-speed", 0, "X", "play X times as fast; 0: without waiting (1)", take_speed},
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

// ---- recordings

struct tapes {
    struct deck_options deck;
    char authority[AUTHORITY_TEXT];
};

static int open_library(const struct mock_verb *m, struct tapes *t) {
    char problem[LIBRARY_PROBLEM];
    if (!m->replay) {
        return EXIT_FINE;
    }
    t->deck.library = library_open(m->replay, problem);
    if (!t->deck.library) {
        fprintf(stderr, "thaw mock: --replay: %s\n", problem);
        return EXIT_USAGE;
    }
    fprintf(stderr, "thaw mock: %zu recordings in %s\n", library_count(t->deck.library), m->replay);
    return EXIT_FINE;
}

static bool can_write_in(const char *folder) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/.", folder);
    return access(path, W_OK | X_OK) == 0;
}

static int open_recorder(const struct mock_verb *m, struct tapes *t) {
    char problem[300];
    struct tls_client_options tls = {.alpn = "http/1.1"};
    if (!m->folder) {
        return EXIT_FINE;
    }
    if (mkdir(m->folder, 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "thaw mock: --record: cannot make %s: %s\n", m->folder, strerror(errno));
        return EXIT_USAGE;
    }
    if (!can_write_in(m->folder)) {
        fprintf(stderr, "thaw mock: --record: cannot write in %s: %s\n", m->folder, strerror(errno));
        return EXIT_USAGE;
    }
    t->deck.folder = m->folder;
    t->deck.host = m->url.host;
    t->deck.port = m->url.port;
    t->deck.base_path = m->url.base_path;
    t->deck.authority = str_c(authority_format(m->url.tls, m->url.host, m->url.port, t->authority));
    if (m->url.tls && tls_client_create(&tls, &t->deck.tls, problem, sizeof problem) != OK) {
        fprintf(stderr, "thaw mock: --record: %s\n", problem);
        return EXIT_USAGE;
    }
    fprintf(stderr, "thaw mock: recording %s in %s\n", t->authority, m->folder);
    return EXIT_FINE;
}

static void close_tapes(struct tapes *t) {
    library_close(t->deck.library);
    tls_client_destroy(t->deck.tls);
}

// ---- all of it

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
    struct mock_verb m = {.listen = "127.0.0.1:9000", .speed = 1};
    struct tapes tapes = {.authority = ""};
    bool go = false;
    struct mock_times *t = &m.mock.times;
    int code = args_take(verb, argc, argv, &m, "an address is given with --listen", &go);
    make_title(&m, argc, argv);
    t->as_stream = !m.has_latency; // an answer takes as long as the stream of it, if only that has a pace
    tapes.deck.speed = m.speed;
    m.mock.deck = m.replay || m.folder ? &tapes.deck : NULL;
    if (!code && go) {
        code = open_library(&m, &tapes);
        code = code ? code : open_recorder(&m, &tapes);
        code = code ? code : run_mock(&m);
    }
    close_tapes(&tapes);
    latency_finish(&t->latency);
    latency_finish(&t->first);
    latency_finish(&t->between);
    return code;
}

const struct verb verb_mock = {
    .name = "mock",
    .summary = "an OpenAI-compatible upstream with set latency, capacity and faults",
    .usage = "[options]",
    .about = "Answers OpenAI's chat, completions, responses, embeddings and models, and\n"
             "Anthropic's messages, on 127.0.0.1:9000, streaming and not, and echoes the last\n"
             "message; tool calls and JSON by schema when they are asked for.\n"
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
             "Faults, by --fault, a model's name, or a field X-Mock-Fault of the request:\n"
             "  400 ... 599            with Retry-After and what is left of rate limits\n"
             "  hang hang-head hang-N  nothing comes; nothing behind the head, or N tokens\n"
             "  cut-N reset-N end-N    after N tokens closed, reset, or ended as if complete\n"
             "  error-N                the same, with an event that tells of an error\n"
             "  close-before-head reset-before-head garbage close-on-accept\n"
             "  wrong-length wrong-length-short malformed-chunk invalid-json empty html\n"
             "  utf8-cut utf8-split drip drip-N 1xx-storm 1xx-storm-N\n"
             "  header-bomb header-bomb-N\n"
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
