// SPDX-License-Identifier: MIT
// A gateway worker, its clients and its upstreams in one process: connections in memory (net/mem), a fake clock, no
// ports, no sleeps. Both sides are written by hand, byte by byte where it matters: a test says what a client sends,
// what arrives at the upstream, what that answers or how it breaks, and what the client then sees.
//
//     struct world w;
//     world_open(&w, ONE_UPSTREAM);
//     struct peer *client = client_open(&w);
//     client_post(client, "/v1/chat/completions", CHAT);
//     struct peer *up = upstream_peer(&w, "up", 0);       // the first connection made to it
//     answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
//     check_str(message_at(client, 0).body, "{}");
//     check_only(&w, OUTCOME_COMPLETE, 1);
//     world_close(&w);
//
// A world may have several workers: each has its own clients, and they share upstreams, shelves and the clock. Their loops
// turn one after the other.
//
// Every program runs all its tests with windows of 64 KiB, 7 bytes and 1 byte: a connection then takes and gives no
// more than that at once, so that every read and write is cut everywhere.
//
// It is run four times, with clients and upstreams that speak HTTP/1.1 or HTTP/2 (over_h2.h), which its arguments say; where
// HTTP/2 is spoken with windows of 64 KiB and 7 bytes. A test says and sees HTTP/1.1's text. What is about that text or its
// connections themselves, and has no counterpart, says so where it is listed: H1_ONLY. By hand: flow-relay h2 h1 'upload_*'.
#pragma once
#include "base/list.h"
#include "check.h"
#include "gateway/worker.h"
#include "net/mem.h"

extern size_t flow_window; // of every connection in memory
static inline bool small_window(void) { return flow_window < MEM_WINDOW; }
extern bool flow_client_h2, flow_upstream_h2; // what they speak

#define ONE_UPSTREAM "upstreams: {up: {url: mock}}\n"
#define TWO_UPSTREAMS "upstreams: {a: {url: mock}, b: {url: mock}}\n"
#define CHAT "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define CHAT_PATH "/v1/chat/completions"
#define STREAM_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

enum { FLOW_UPSTREAMS = 4, FLOW_WORKERS = 2 };

enum leaving { BY_CLOSE, BY_FINISH, BY_RESET };

// The hand-written end of a connection: a client, or one connection at an upstream (in HTTP/2 what corresponds to one).
struct peer {
    struct list node;
    struct world *world;
    struct worker *worker; // the gateway's, at the other end
    struct conn *conn;     // NULL once closed from here
    char *got;             // everything that came
    size_t got_len, got_room;
    char *out; // what it says; sent up to out_at
    size_t out_at, out_len, out_room;
    enum err end;    // OK: open; ERR_EOF: the gateway ended it in order; else it was broken off
    size_t may_read; // bytes; SIZE_MAX: all
    bool finishing;  // FIN behind `out`

    // over_h2.c's; zero elsewhere
    struct lane *lane;
    int32_t stream; // of its exchange; 0: there is none
    int saying;     // enum saying
    uint64_t left;  // bytes of the body, or its chunk
    unsigned used;  // when it had an exchange last
    bool to_head;   // what is or was asked is HEAD
    bool chunked;   // what comes is given a length in chunks
    bool heard;     // all of it
    bool told;      // its end is in `got`
    char *held;     // what came of a body and may not be read yet
    size_t held_len, held_room;
    bool leaving;
};

struct flow_upstream {
    char name[32];
    struct peer *peers[256]; // in the order of their connecting
    unsigned count;
};

// How a worker gets to an upstream.
struct flow_way {
    struct worker *worker;
    struct flow_upstream *upstream;
};

struct world {
    struct fake_clock clock;
    union {
        struct worker worker; // the first one
        struct worker workers[FLOW_WORKERS];
    };
    unsigned worker_count;
    struct shelves *shelves; // NULL: there is one worker, which has its own
    struct meters *meters;
    struct store *store;     // NULL: the configuration names none (disk.h)
    struct list interrupted; // jobs of the last process
    struct flow_way ways[FLOW_WORKERS][FLOW_UPSTREAMS];
    struct config *config;
    struct blueprint *blueprint;
    struct commons *commons; // NULL: there is one worker, which has its own
    struct list peers;
    struct list lanes; // connections that speak HTTP/2
    unsigned used;
    struct flow_upstream upstreams[FLOW_UPSTREAMS];
    unsigned upstream_count;
    void *kept[4096]; // decoded bodies
    unsigned kept_count;
    bool deaf;     // connections the gateway makes from now on are not read from
    bool finished; // worker_finish has been called
};

// `yaml` is a configuration; upstreams whose url is `mock` are played by the test.
void world_open(struct world *w, const char *yaml);
void world_open_with_dns(struct world *w, const char *yaml, const char *dns_servers);
void world_open_with_workers(struct world *w, const char *yaml, unsigned workers);
void world_open_under_pressure(struct world *w, const char *yaml, unsigned workers, struct pressure *pressure);
// Ends the workers; checks that nothing is left and that every request had one outcome. What a client saw of the end
// can be looked at until world_close: world_finish_worker, then the peers, then world_close.
void world_finish_worker(struct world *w);
void world_close(struct world *w);
// Runs turns until there is nothing to do without time passing, for the store's thread either.
void settle(struct world *w);
// Time passes, timer by timer.
void advance(struct world *w, uint64_t ms);

// As a world's configuration is made of `yaml`: fails the test where it is wrong.
struct config *flow_config(const char *yaml);

struct peer *client_open(struct world *w);
struct peer *client_open_at(struct world *w, unsigned worker);
// The nth connection (from 0) that the gateway made to that upstream.
struct peer *upstream_peer(struct world *w, const char *name, unsigned nth);
unsigned upstream_count(struct world *w, const char *name);

// These do not settle.
void peer_queue(struct peer *p, struct str bytes);
void peer_finish(struct peer *p); // FIN
void peer_close(struct peer *p);
void peer_reset(struct peer *p);              // RST: what was on its way is lost
void peer_read(struct peer *p, size_t bytes); // reads that many bytes more, then no more

// These settle afterwards.
void send_text(struct peer *p, const char *text);
void send_bytes(struct peer *p, struct str bytes);
void client_post(struct peer *client, const char *path, const char *json);
// "GET /v1/x", further fields with their CRLFs, a JSON body or NULL.
void client_ask(struct peer *client, const char *what, const char *fields, const char *json);
#define answer(up, text) send_text((up), (text))
void finish(struct peer *p);
void close_peer(struct peer *p);
void reset(struct peer *p);

// Bytes it could not get rid of yet.
static inline size_t unsent(const struct peer *p) { return p->out_len - p->out_at; }
static inline struct str got(const struct peer *p) { return str_from(p->got ? p->got : "", p->got_len); }
void forget(struct peer *p);                           // what it got so far
bool peer_has(const struct peer *p, const char *text); // in HTTP/2 names have no case
#define check_has(p, text) check(peer_has((p), (text)))
#define check_lacks(p, text) check(!peer_has((p), (text)))
// The upstream's connection was given up or kept?
#define check_dropped(p) check((p)->end != OK)
#define check_open(p) check_int((p)->end, OK)

// One HTTP message in what came, its body decoded.
struct parsed {
    struct str start; // line
    struct str head;  // fields, each with CRLF
    struct str body;  // as far as it came
    int status;       // of answers
    bool whole;       // it is complete, as a strict reader sees it
    bool none;        // there is not even a whole head
    size_t used;      // bytes
};
struct parsed message_at(struct peer *p, size_t offset);
struct parsed last_message(struct peer *p);   // behind interim answers and earlier ones
struct parsed answer_to_head(struct peer *p); // never a body
// The value of a field, ptr NULL if there is none; its count.
struct str field_of(const struct parsed *m, const char *name);
unsigned fields_of(const struct parsed *m, const char *name);

// For over_h2.c.
struct peer *peer_create(struct worker *worker, struct conn *c);
void peer_hear(struct peer *p, struct str bytes);
void text_add(char **ptr, size_t *len, size_t *room, struct str bytes);
void flow_upstream_add(struct flow_upstream *u, struct peer *p);

// Exactly n requests ended like this and none otherwise.
void check_only_(struct world *w, enum outcome o, uint64_t n, const char *file, int line);
#define check_only(w, o, n) check_only_((w), (o), (n), __FILE__, __LINE__)
uint64_t outcomes_total(const struct world *w);
uint64_t outcomes_of(const struct world *w, enum outcome o);

// A test that is run only where these sides speak HTTP/1.1, and why.
enum { CLIENT = 1, UPSTREAM = 2 };
struct flow_only {
    unsigned sides;
    const char *why;
};
#define H1_ONLY(sides, function, why)                                                                                  \
    {                                                                                                                  \
#function, (function), NULL, NULL, (void *)&(const struct flow_only) { (sides), (why) }                        \
    }

int flow_main(int argc, char **argv, struct CMUnitTest *tests, size_t count);
#define FLOWS(...)                                                                                                     \
    int main(int argc, char **argv) {                                                                                  \
        struct CMUnitTest tests[] = {__VA_ARGS__};                                                                     \
        return flow_main(argc, argv, tests, ARRAY_LEN(tests));                                                         \
    }
