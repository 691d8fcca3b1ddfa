// SPDX-License-Identifier: MIT
// Every allocation whose size a peer decides fails once, and from then on always: thaw neither crashes nor leaks, and
// the client gets an answer or a closed connection.
#include "tapes.h"

struct scene {
    const char *yaml;
    const char *request; // in the head's first piece
    const char *more;    // a second piece of it
    const char *answer;  // of the upstream, in two pieces
    const char *rest;
    bool cut;  // the upstream breaks behind it
    bool slow; // the client reads late
};

static const struct scene scenes[] = {
    {ONE_UPSTREAM,
     "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nX-Request-Id: abc\r\nContent-Length: 27\r\n\r\n{\"model\":\"m\",",
     "\"stream\":true}", STREAM_HEAD "b\r\ndata: one\n\n\r\n", "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", false, false},
    {TWO_UPSTREAMS "models: {m: {use: [b/other]}}\nkeys: [thaw]\n",
     "POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nX-Api-Key: thaw\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}", "",
     "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", "56789", false, true},
    {ONE_UPSTREAM,
     "POST /v1/files HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
     "\r\n0\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil", " the end", true,
     false},
    {ONE_UPSTREAM, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 13\r\n\r\n{\"model\"", ":\"m\"}",
     STREAM_HEAD "b\r\ndata: one\n\n\r\n", "5\r\ndata:", true, true},
    {ONE_UPSTREAM "models: {m: {use: [up]}}\n", "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n", "", NULL, NULL, false,
     true},
    {ONE_UPSTREAM, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{", "x", NULL, NULL, false,
     false},
    {ONE_UPSTREAM, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 13\r\n\r\n{\"model\"",
     ":\"m\"}GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", "56789",
     false, false},
    {ONE_UPSTREAM,
     "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nIdempotency-Key: k\r\nContent-Length: 27\r\n\r\n{\"model\":\"m\",",
     "\"stream\":true}", STREAM_HEAD "11\r\ndata: one\n\ndata:\n\r\n", "f\r\n\ndata: [DONE]\n\n\r\n0\r\n\r\n", false,
     false},
    {ONE_UPSTREAM, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nX-Thaw-Resume: 1\r\nContent-Length: 13\r\n\r\n{\"model\"",
     ":\"m\"}", STREAM_HEAD "b\r\ndata: one\n\n\r\n", "5\r\ndata:", true, true},
    {ONE_UPSTREAM,
     "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nPrefer: respond-async\r\nContent-Length: 13\r\n\r\n{\"model\"",
     ":\"m\"}", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", "56789", false, false},
    // An opening that is held back and goes on; one that fails, and its next upstream.
    {TWO_UPSTREAMS "retries: 0\n",
     "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 27\r\n\r\n{\"model\":\"m\",", "\"stream\":true}",
     STREAM_HEAD "16\r\nevent: ping\ndata: {}\n\n\r\n", "b\r\ndata: one\n\n\r\n0\r\n\r\n", false, false},
    {TWO_UPSTREAMS "retries: 0\n",
     "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 27\r\n\r\n{\"model\":\"m\",", "\"stream\":true}",
     STREAM_HEAD "1e\r\ndata: {\"error\":{\"code\":429}}\n\n\r\n", "0\r\n\r\n", false, false},
    // A client's first quota, a place in a queue, and what it hears there.
    {"upstreams: {up: {url: mock, max_in_flight: 1}}\nlimits: {in_flight: 1, tokens_per_minute: 9}\nkeepalive: 1s\n",
     "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 27\r\n\r\n{\"model\":\"m\",", "\"stream\":true}",
     STREAM_HEAD "b\r\ndata: one\n\n\r\n", "0\r\n\r\n", false, true},
    {ONE_UPSTREAM, "GET /v1/x HTTP/1.1\r\nHost: h\r\n", "bad head\r\n\r\n", NULL, NULL, false, true},
};

static void play(const struct scene *s, unsigned n, int forever, bool *fired) {
    struct world w;
    world_open(&w, s->yaml);
    struct peer *client = client_open(&w);
    peer_read(client, s->slow ? 0 : SIZE_MAX);
    mem_fail_after(n, forever);
    send_text(client, s->request);
    send_text(client, s->more);
    for (unsigned i = 0; i < w.upstream_count && s->answer; i++) {
        if (w.upstreams[i].count) {
            struct peer *up = w.upstreams[i].peers[w.upstreams[i].count - 1];
            send_text(up, s->answer);
            send_text(up, s->rest);
            if (s->cut) {
                close_peer(up);
            }
        }
    }
    peer_read(client, SIZE_MAX);
    settle(&w);
    *fired = mem_fail_fired();
    advance(&w, 1000 * 1000); // whatever waits for somebody is over
    check(client->end != OK); // idle at the latest
    check_int(w.worker.in_flight, 0);
    check_int(w.worker.server.open, 0);
    mem_fail_after(0, 0);

    // The worker is as good as new.
    struct peer *next = client_open(&w);
    send_text(next, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    check_int(message_at(next, 0).status, 200);
    world_finish_worker(&w);
    check(outcomes_total(&w) <= 3);
    world_close(&w);
}

// EXHAUSTED
static void every_allocation_may_fail(void **state UNUSED) {
    size_t count = flow_client_h2 ? ARRAY_LEN(scenes) - 1 : ARRAY_LEN(scenes); // whose last is no request of HTTP/2
    for (size_t i = 0; i < count; i++) {
        for (int forever = 0; forever <= 1; forever++) {
            bool fired = true;
            unsigned n = 1;
            for (; fired && n < 100000; n += small_window() ? 1 + n / 16 : 1) {
                play(&scenes[i], n, forever, &fired);
            }
            check(n > 3);
        }
    }
}

// The body does not fit into what is left of memory: the client hears of it, nothing goes upstream.
static void request_without_memory_is_told(void **state UNUSED) {
    struct world w;
    unsigned told = 0;
    for (unsigned n = 1; n < 200; n++) {
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        mem_fail_after(n, 0);
        send_text(client, "POST " CHAT_PATH " HTTP/1.1\r\nHost: h\r\nContent-Length: 13\r\n\r\n{\"model\"");
        send_text(client, ":\"m\"}");
        mem_fail_after(0, 0);
        struct parsed m = message_at(client, 0);
        if (m.status == 503) {
            told++;
            check(m.whole);
            check_only(&w, OUTCOME_EXHAUSTED, 1);
            check(upstream_count(&w, "up") == 0 || flow_upstream_h2); // where the connection may fail behind it
        }
        world_close(&w);
    }
    check(told > 0);
}

// The tape cannot keep what a slow client did not take: cut, and counted as what it was.
static void answer_without_memory_is_cut(void **state UNUSED) {
    struct world w;
    unsigned cut = 0;
    char *much = xmalloc(2 * MEM_WINDOW);
    memset(much, 'x', 2 * MEM_WINDOW);
    for (unsigned n = 1; n < 30; n++) {
        world_open(&w, ONE_UPSTREAM);
        struct peer *client = client_open(&w);
        peer_read(client, 0);
        client_post(client, CHAT_PATH, CHAT);
        struct peer *up = upstream_peer(&w, "up", 0);
        answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n");
        peer_queue(up, str_from(much, small_window() ? 1000 : 2 * MEM_WINDOW));
        mem_fail_after(n, 1);
        settle(&w);
        mem_fail_after(0, 0);
        peer_read(client, SIZE_MAX);
        settle(&w);
        if (count_of(&w.worker.meter->outcomes[OUTCOME_EXHAUSTED])) {
            cut++;
            check(!message_at(client, 0).whole);
            check(client->end != OK);
            check_only(&w, OUTCOME_EXHAUSTED, 1);
            check_int(w.worker.setup->upstreams[0].origin.open, 0);
        }
        check_int(count_of(&w.worker.meter->outcomes[OUTCOME_COMPLETE]), 0);
        world_close(&w);
    }
    check(cut > 0);
    free(much);
}

// A reader of a kept tape that gets no memory is let go; the tape, and whoever comes next, are as good as new.
static void reading_again_without_memory_harms_nobody(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        for (int forever = 0; forever <= 1; forever++) {
            struct stream s;
            bool fired = true;
            unsigned harmed = 0;
            stream_begin(&s, ONE_UPSTREAM, KEY);
            for (unsigned n = 1; fired && n < 100000; n += small_window() ? 1 + n / 16 : 1) {
                mem_fail_after(n, forever);
                struct peer *reader = read_tape(&s.w, worker, &s.id, "");
                struct peer *joiner = client_open_at(&s.w, worker);
                client_ask(joiner, POST_CHAT, KEY, CHAT);
                fired = mem_fail_fired();
                mem_fail_after(0, 0);
                harmed += reader->end != OK || joiner->end != OK;
                close_peer(reader);
                close_peer(joiner);
            }
            check(!fired && harmed > 0);
            struct peer *reader = read_tape(&s.w, worker, &s.id, "");
            stream_end(&s);
            check_read(reader, s.id, 0, 4);
            check_events(s.client, s.id, 0, 4);
            check_int(upstream_count(&s.w, "up"), 1);
            world_close(&s.w);
        }
    }
}

// A call that has to wait finds no memory to wait in: it is refused, or waits; whoever is in goes on.
static void queue_without_memory_is_full(void **state UNUSED) {
    unsigned refused = 0;
    for (unsigned n = 1; n < (small_window() ? 500 : 60); n++) {
        struct world w;
        world_open(&w, "upstreams: {up: {url: mock, max_in_flight: 1}}\nkeepalive: 1s\n");
        struct peer *first = client_open(&w);
        struct peer *second = client_open(&w);
        client_post(first, CHAT_PATH, CHAT);
        mem_fail_after(n, 0);
        client_ask(second, POST_CHAT, "X-Thaw-Progress: 1\r\n", "{\"stream\":true,\"model\":\"m\"}");
        advance(&w, 1500);
        mem_fail_after(0, 0);
        refused += outcomes_of(&w, OUTCOME_QUEUE_FULL) == 1;
        answer(upstream_peer(&w, "up", 0), OK_ANSWER);
        check_int(message_at(first, 0).status, 200);
        close_peer(second);
        check_int(w.worker.in_flight, 0);
        check_int(w.worker.setup->upstreams[0].in_flight, 0);
        world_close(&w);
    }
    check(refused > 0);
}

FLOWS(TEST(every_allocation_may_fail), TEST(request_without_memory_is_told), TEST(answer_without_memory_is_cut),
      TEST(reading_again_without_memory_harms_nobody), TEST(queue_without_memory_is_full))
