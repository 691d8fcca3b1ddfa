// SPDX-License-Identifier: MIT
// Everything about tapes in a random order, turn by turn on two workers: joining, reading on, asking, cancelling,
// leaving, upstreams that go on, end and break, time. The same for every run. Whatever happens, every event stream that
// is read has its events once and in order, and in the end nothing is left.
#include "tapes.h"

enum { STORMS = 25, STEPS = 250, CLIENTS = 400, IDS = 64 };

struct storm {
    struct world w;
    uint64_t dice;
    struct peer *clients[CLIENTS];
    unsigned count;
    unsigned events[256]; // sent by each upstream connection for its present request
    size_t answered[256]; // bytes of requests that were answered
    struct id ids[IDS];
    unsigned id_count;
};

static unsigned roll(struct storm *s, unsigned sides) {
    s->dice = s->dice * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(s->dice >> 33) % sides;
}

static const char *pick_fields(struct storm *s) {
    static const char *const fields[] = {
        "", KEY, "Idempotency-Key: key-2\r\n", RESUME, "Prefer: respond-async\r\n", "Prefer: respond-async\r\n" KEY};
    return fields[roll(s, ARRAY_LEN(fields))];
}

static struct peer *new_client(struct storm *s) {
    return s->count < CLIENTS ? s->clients[s->count++] = client_open_at(&s->w, roll(s, 2)) : NULL;
}

static void call(struct storm *s) {
    struct peer *client = new_client(s);
    char request[400];
    const char *path = roll(s, 3) ? CHAT_PATH : "/v1/completions"; // these are joined without a key
    const char *body = roll(s, 8) ? CHAT : "{\"model\":\"x\"}";
    snprintf(request, sizeof request, "POST %s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu\r\n\r\n%s", path,
             pick_fields(s), strlen(body), body);
    if (client) {
        peer_queue(client, str_c(request));
    }
}

static void ask_about(struct storm *s) {
    static const char *const methods[] = {"GET", "GET", "GET", "HEAD", "DELETE"};
    static const char *const rests[] = {"", "", "/status", "?starting_after=0", "?starting_after=3", "?offset=10"};
    struct peer *client = s->id_count ? new_client(s) : NULL;
    char request[400];
    if (client) {
        const struct id *id = &s->ids[roll(s, s->id_count)];
        snprintf(request, sizeof request, "%s /v1/tapes/%s%s HTTP/1.1\r\nHost: h\r\n\r\n",
                 methods[roll(s, ARRAY_LEN(methods))], id->text, rests[roll(s, ARRAY_LEN(rests))]);
        peer_queue(client, str_c(request));
    }
}

// Some client's newest tape becomes one that can be asked about.
static void learn_id(struct storm *s) {
    struct peer *client = s->count ? s->clients[roll(s, s->count)] : NULL;
    size_t at = client ? str_search(got(client), STR("X-Thaw-Tape: ")) : 0;
    if (client && got(client).len >= at + 13 + ID_LEN) {
        unsigned place = s->id_count < IDS ? s->id_count++ : roll(s, IDS);
        memcpy(s->ids[place].text, got(client).ptr + at + 13, ID_LEN);
    }
}

static void leave(struct storm *s) {
    struct peer *client = s->count ? s->clients[roll(s, s->count)] : NULL;
    if (client && roll(s, 2)) {
        peer_close(client);
    } else if (client) {
        peer_reset(client);
    }
}

// An upstream connection that has a request goes on with its answer.
static void go_on(struct storm *s, unsigned n, unsigned how) {
    struct peer *up = s->w.upstreams[0].peers[n];
    char text[64];
    struct str asked = str_skip(got(up), s->answered[n]);
    if (!up->conn || up->end != OK || !message_at(up, s->answered[n]).whole) {
        return;
    }
    if (s->events[n] == 0 && how < 3) {
        peer_queue(up, STR(STREAM_HEAD));
        s->events[n] = 1;
    } else if (how < 7 && s->events[n]) {
        int len = snprintf(text, sizeof text, "data: e%u\n\n", s->events[n]++ - 1);
        char framed[100];
        snprintf(framed, sizeof framed, "%x\r\n%s\r\n", (unsigned)len, text);
        peer_queue(up, str_c(framed));
    } else if (how == 7) {
        peer_queue(up, s->events[n] ? STR("0\r\n\r\n") : STR("HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}"));
        s->answered[n] += asked.len;
        s->events[n] = 0;
    } else if (how == 8) {
        peer_close(up);
    }
}

static void step(struct storm *s) {
    unsigned ups = s->w.upstreams[0].count;
    switch (roll(s, 12)) {
    case 0: call(s); break;
    case 1:
    case 2: ask_about(s); break;
    case 3: leave(s); break;
    case 4: learn_id(s); break;
    case 5:
    case 6:
    case 7:
        if (ups) {
            go_on(s, roll(s, ups), roll(s, 9));
        }
        break;
    case 8:
        if (roll(s, 10) == 0) {
            advance(&s->w, roll(s, 2 * GRACE_MS));
        }
        break;
    case 9:
        if (roll(s, 6) == 0) {
            settle(&s->w);
        }
        break;
    default: loop_turn(&s->w.workers[roll(s, 2)].loop, 0); break;
    }
}

// Each event "data: e{n}", "id: {tape}:{n}", each n one more than the one before; at the end of one that was cut half an
// event and the one that says so.
static void check_order(struct peer *client) {
    struct parsed m = last_message(client);
    struct str rest = m.none || m.status != 200 ? STR("") : m.body;
    rest = str_starts(rest, STR(PRELUDE)) ? str_skip(rest, strlen(PRELUDE)) : rest;
    uint64_t next = UINT64_MAX;
    bool cut = false;
    for (size_t end; (end = str_search(rest, STR("\n\n"))) < rest.len; rest = str_skip(rest, end + 2)) {
        struct str one = str_first(rest, end);
        size_t at = str_search(one, STR("id: "));
        if (at == one.len) {
            continue; // of a plain relay; "retry:"
        }
        char wanted[32];
        uint64_t n = 0;
        check_ok(parse_u64(str_skip(one, at + 4 + ID_LEN + 1), &n));
        check(next == UINT64_MAX || n == next);
        next = n + 1;
        snprintf(wanted, sizeof wanted, "data: e%" PRIu64 "\n", n);
        bool error = str_starts(one, STR("data: {\"error\""));
        check(!cut || error);
        cut = cut || !(str_starts(one, str_c(wanted)) && at == strlen(wanted));
    }
}

static void play(unsigned seed) {
    struct storm *s = xcalloc(1, sizeof *s);
    s->dice = seed * 7919u;
    world_open_with_workers(&s->w,
                            ONE_UPSTREAM "routes: {/v1/completions: {coalesce: true}}\n"
                                         "tape: {on_disconnect: keep 30s, keep: 40s, total: 64k}\n",
                            2);
    for (unsigned i = 0; i < STEPS; i++) {
        step(s);
    }
    if (seed % 3 == 0) { // in the middle of it
        world_finish_worker(&s->w);
    } else {
        settle(&s->w);
        for (unsigned n = 0; n < s->w.upstreams[0].count; n++) {
            go_on(s, n, 8);
        }
        settle(&s->w);
        advance(&s->w, (uint64_t)2 * KEEP_MS);
        for (unsigned i = 0; i < 2; i++) {
            const struct worker *worker = &s->w.workers[i];
            check_int(worker->in_flight, 0);
            check_int(worker->shelf.running, 0);
            check_int(worker->shelf.feeds, 0);
            check(list_empty(&worker->shelf.finished));
            check_int(worker->shelf.mirrors.count, 0);
        }
        check_int(s->w.shelves->finished_bytes, 0);
    }
    for (unsigned i = 0; i < s->count; i++) {
        check_order(s->clients[i]);
    }
    world_close(&s->w);
    free(s);
}

static void nothing_is_lost_in_a_storm(void **state UNUSED) {
    for (unsigned seed = 1; seed <= STORMS; seed++) {
        play(seed);
    }
}

FLOWS(TEST(nothing_is_lost_in_a_storm))
