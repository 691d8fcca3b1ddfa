// SPDX-License-Identifier: MIT
// A hundred thousand calls with everything on that holds them back or sends them again: places at upstreams, queues,
// quotas, retries, openings, breakers, reloads; answers, failures, departures and time in a random order on two workers,
// the same for every run. Whatever happens: in the end no call is in flight, at no gate, of no client.
#include "tapes.h"

enum { LIVES = 100 * 1000, LIVES_OF_SMALL_WINDOWS = 2000, CLIENTS = 120, CONNECTIONS = 240, PER_WORLD_MOST = 900 };

static const char *const yamls[] = {
    "upstreams: {a: {url: mock, max_in_flight: 2}, b: {url: mock, max_in_flight: auto}}\nretries: 2\n"
    "models: {m: {use: [\"a | b\"]}}\nbreaker: {failures: 3, rest: 2s}\nqueue: {length: 5, wait: 3s}\n"
    "limits: {in_flight: 6, requests_per_minute: 600, tokens_per_minute: 100000}\nkeepalive: 1s\n",
    "upstreams: {a: {url: mock, max_in_flight: 1, retry_lost: true}, b: {url: mock}}\nretries: 1\n"
    "models: {m: {use: [a, b], timeouts: {first_byte: 2s, between: 2s, total: 6s}}}\nbreaker: {failures: 2, rest: 1s}\n"
    "queue: {length: 3, wait: 30s}\ntape: {on_disconnect: keep 5s}\n",
    "upstreams: {a: {url: mock}, b: {url: mock, max_in_flight: 1}}\nretries: 0\nmodels: {m: {use: [b, a]}}\n"
    "breaker: {failures: 1, rest: 5s}\nlimits: {in_flight: 2}\n",
};

struct lives {
    struct world w;
    uint64_t dice;
    struct peer *clients[CLIENTS];
    unsigned count;
    bool streams[2][CONNECTIONS + 16]; // the head of an event stream was said there
};

static unsigned roll(struct lives *l, unsigned sides) {
    l->dice = l->dice * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(l->dice >> 33) % sides;
}

static void begin(struct lives *l) {
    static const char *const fields[] = {"",
                                         "",
                                         "",
                                         "Authorization: Bearer one\r\n",
                                         "Authorization: Bearer two\r\n",
                                         "X-Request-Timeout: 2\r\n",
                                         "X-Thaw-Progress: 1\r\n",
                                         "Idempotency-Key: k\r\n",
                                         "Prefer: respond-async\r\n"};
    static const char *const rests[] = {
        "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}",
        "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 27\r\n\r\n{\"model\":\"m\",\"stream\":true}",
        "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 27\r\n\r\n{\"model\":\"m\",\"stream\":true}",
        "POST /v1/files HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nnever whole",
        "GET /v1/files HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /v1/parallel HTTP/1.1\r\nHost: h\r\nContent-Length: 129\r\n\r\n"
        "{\"calls\":[{\"path\":\"/v1/chat/completions\",\"body\":{\"model\":\"m\"}},"
        "{\"path\":\"/v1/chat/completions\",\"body\":{\"model\":\"m\"}}]}       ",
    };
    char request[600];
    if (l->count < CLIENTS) {
        struct peer *client = l->clients[l->count++] = client_open_at(&l->w, roll(l, 2));
        const char *rest = rests[roll(l, ARRAY_LEN(rests))];
        size_t line = str_search(str_c(rest), STR("\r\n")) + 2;
        int n = snprintf(request, sizeof request, "%.*s%s%s", (int)line, rest, fields[roll(l, ARRAY_LEN(fields))],
                         rest + line);
        peer_queue(client, str_from(request, (size_t)n));
    }
}

static void leave(struct lives *l) {
    struct peer *client = l->count ? l->clients[roll(l, l->count)] : NULL;
    if (client && roll(l, 2)) {
        peer_close(client);
    } else if (client) {
        peer_reset(client);
    }
}

static void answer_something(struct lives *l) {
    const char *const answers[] = {
        OK_ANSWER,
        OK_ANSWER,
        "HTTP/1.1 503 X\r\nContent-Length: 1\r\n\r\n!",
        "HTTP/1.1 429 X\r\nRetry-After: 2\r\nContent-Length: 1\r\n\r\n!",
        "HTTP/1.1 500 X\r\nContent-Length: 20\r\n\r\nnot whole",
        "HTTP/1.1 400 X\r\nContent-Length: 1\r\n\r\n!",
        flow_upstream_h2 ? "HTTP/1.1 999 X\r\n\r\n" : "nonsense\r\n\r\n",
        STREAM_HEAD,
        STREAM_HEAD,
        STREAM_HEAD "16\r\nevent: ping\ndata: {}\n\n\r\n",
        STREAM_HEAD "1e\r\ndata: {\"error\":{\"code\":429}}\n\n\r\n0\r\n\r\n",
    };
    static const char *const more[] = {"6\r\n: ab\n\n\r\n",
                                       "9\r\ndata: x\n\n\r\n",
                                       "9\r\ndata: x\n\n\r\n",
                                       "1e\r\ndata: {\"error\":{\"code\":503}}\n\n\r\n",
                                       "0\r\n\r\n",
                                       "0\r\n\r\n"};
    unsigned which = roll(l, l->w.upstream_count);
    const struct flow_upstream *u = &l->w.upstreams[which];
    unsigned n = u->count ? roll(l, u->count) : 0;
    struct peer *up = u->count ? u->peers[n] : NULL;
    bool *streams = &l->streams[which][n];
    if (!up || !up->conn || up->end != OK) {
        return;
    }
    if (roll(l, 12) == 0) {
        peer_close(up);
    } else if (roll(l, 20) == 0) {
        peer_reset(up);
    } else if (*streams) {
        const char *text = more[roll(l, ARRAY_LEN(more))];
        *streams = text[0] != '0';
        peer_queue(up, str_c(text));
    } else if (up->got_len) { // a request, or some of it
        const char *text = answers[roll(l, ARRAY_LEN(answers))];
        *streams = str_starts(str_c(text), STR(STREAM_HEAD)) && !str_ends(str_c(text), STR("0\r\n\r\n"));
        forget(up);
        peer_queue(up, str_c(text));
    }
}

static void reload(struct lives *l, const char *yaml) {
    struct config *config = flow_config(yaml);
    struct blueprint *blueprint;
    char sentence[300];
    check_ok(blueprint_create(config, &blueprint, sentence, sizeof sentence));
    for (unsigned i = 0; i < 2; i++) {
        worker_reload(&l->w.workers[i], blueprint);
    }
    blueprint_unref(blueprint);
    config_unref(config);
}

static void step(struct lives *l) {
    switch (roll(l, 16)) {
    case 0:
    case 1:
    case 2: begin(l); break;
    case 3:
        if (roll(l, 3) == 0) {
            leave(l);
        }
        break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8: answer_something(l); break;
    case 9: settle(&l->w); break;
    case 10: advance(&l->w, roll(l, 4) ? roll(l, 300) : roll(l, 6000)); break;
    case 11:
        if (roll(l, 20) == 0) {
            reload(l, yamls[roll(l, ARRAY_LEN(yamls))]);
        }
        break;
    default: loop_turn(&l->w.workers[roll(l, 2)].loop, 0); break;
    }
}

static void nothing_is_left(struct lives *l) {
    for (unsigned i = 0; i < 2; i++) {
        const struct worker *worker = &l->w.workers[i];
        const struct setup *s = worker->setup;
        check_int(worker->in_flight, 0);
        check_int(worker->shelf.running, 0);
        check(worker->setups.next == &s->node && s->node.next == &worker->setups); // the older ones are gone
        for (unsigned u = 0; u < s->config->upstream_count; u++) {
            struct gate_look look;
            gate_look(s->upstreams[u].gate, worker->loop.now_ms, &look);
            check_int(look.in_flight, 0);
            check_int(look.waiting, 0);
            check_int(s->upstreams[u].in_flight, 0);
            check(breaker_state(gate_breaker(s->upstreams[u].gate), worker->loop.now_ms) != BREAKER_OPEN);
        }
    }
    check_int(quota_clients(l->w.commons->quotas), 1); // the last one; a lease that is out would keep its client
}

// A call and a second one, by a client that has forgotten about all that: the trial, if there is one, was not lost.
static void world_is_as_good_as_new(struct lives *l) {
    struct peer *client = client_open(&l->w);
    client_ask(client, "POST " CHAT_PATH, "Authorization: Bearer last\r\n", "{\"model\":\"m\"}");
    for (unsigned u = 0; u < 2; u++) {
        for (unsigned n = 0; n < l->w.upstreams[u].count; n++) {
            struct peer *up = l->w.upstreams[u].peers[n];
            if (up->conn && up->end == OK && up->got_len && message_at(up, 0).whole) {
                answer(up, OK_ANSWER);
            }
        }
    }
    check_int(message_at(client, 0).status, 200);
    close_peer(client);
}

static unsigned live(unsigned seed, uint64_t ended[OUTCOME_COUNT]) {
    struct lives *l = xcalloc(1, sizeof *l);
    l->dice = seed * 7919u;
    world_open_with_workers(&l->w, yamls[seed % ARRAY_LEN(yamls)], 2);
    for (unsigned i = 0;
         i < PER_WORLD_MOST && l->w.upstreams[0].count < CONNECTIONS - 80 && l->w.upstreams[1].count < CONNECTIONS - 80;
         i++) {
        step(l);
    }
    unsigned lives = l->count;
    if (seed % 5) {
        for (unsigned i = 0; i < l->count; i++) {
            peer_close(l->clients[i]);
        }
        advance(&l->w, 10 * 60 * 1000);
        for (unsigned u = 0; u < l->w.upstream_count; u++) {
            for (unsigned n = 0; n < l->w.upstreams[u].count; n++) {
                peer_close(l->w.upstreams[u].peers[n]);
            }
        }
        advance(&l->w, 20 * 60 * 1000);
        // Of clients that are quiet some are looked at with each call.
        reload(l, yamls[0]);
        world_is_as_good_as_new(l);
        advance(&l->w, 20 * 60 * 1000);
        nothing_is_left(l);
    }
    world_finish_worker(&l->w); // in the middle of it, else
    for (unsigned o = 0; o < OUTCOME_COUNT; o++) {
        ended[o] += outcomes_of(&l->w, (enum outcome)o);
    }
    world_close(&l->w);
    free(l);
    return lives;
}

static void nothing_leaks_in_a_hundred_thousand_lives(void **state UNUSED) {
    static const enum outcome common[] = {OUTCOME_COMPLETE,           OUTCOME_LIMITED,         OUTCOME_QUEUE_FULL,
                                          OUTCOME_QUEUE_LATE,         OUTCOME_UPSTREAM_RESTS,  OUTCOME_UPSTREAM_CUT,
                                          OUTCOME_UPSTREAM_LOST,      OUTCOME_GONE_WAITING,    OUTCOME_GONE_READING,
                                          OUTCOME_GONE_SENDING,       OUTCOME_TIMEOUT_BETWEEN, OUTCOME_TIMEOUT_TOTAL,
                                          OUTCOME_TIMEOUT_FIRST_BYTE, OUTCOME_SHUTDOWN};
    uint64_t ended[OUTCOME_COUNT] = {0};
    unsigned wanted = small_window() ? LIVES_OF_SMALL_WINDOWS : LIVES;
    for (unsigned lives = 0, seed = 1; lives < wanted; seed++) {
        lives += live(seed, ended);
    }
    for (size_t i = 0; i < ARRAY_LEN(common) && !small_window(); i++) { // or these were other lives than they should be
        if (ended[common[i]] < LIVES / 1000) {
            print_error("%llu of %u lives ended as %s\n", (unsigned long long)ended[common[i]], LIVES,
                        outcome_name(common[i]));
            fail();
        }
    }
}

FLOWS(TEST(nothing_leaks_in_a_hundred_thousand_lives))
