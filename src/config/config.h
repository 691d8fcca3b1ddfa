// SPDX-License-Identifier: MIT
// The configuration as plain structs. Everything a `struct config` points to lives in its arena; it is
// read-only once built and shared by reference count (a reload makes a new one). What keys exist, their
// types, defaults, ranges and texts is one table: keys.def.
#pragma once
#include <stdatomic.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "config/template.h"

enum { CONFIG_ARENA_CAP = 16 << 20, CONFIG_FILE_MAX = 4 << 20, CONFIG_PREFIX_MAX = 128 };

struct config_key {
    struct str secret; // what a client presents; gateway/who.c keeps only its SHA-256
};

// What becomes of a call when its last reader left.
enum disconnect {
    DISCONNECT_CANCEL, // dropped at once
    DISCONNECT_KEEP,   // dropped unless somebody reads on within keep_ms
    DISCONNECT_FINISH, // runs to its end
};
struct config_disconnect {
    enum disconnect action;
    uint64_t keep_ms; // of KEEP only
};

// When a fan-out is over.
enum wait_kind { WAIT_ALL, WAIT_ANY, WAIT_FIRST };
struct config_wait {
    enum wait_kind kind;
    unsigned first; // of FIRST only: how many
};

// Bits of the masks called `own`: what an entry of the file set itself.
enum {
    OWN_CONNECT = 1 << 0,
    OWN_FIRST_BYTE = 1 << 1,
    OWN_BETWEEN = 1 << 2,
    OWN_TOTAL = 1 << 3,
    OWN_BACKGROUND = 1 << 4,
    OWN_ON_DISCONNECT = 1 << 5,
    OWN_MAX_TOKENS = 1 << 6,
    OWN_TEMPERATURE = 1 << 7,
    OWN_RETRIES = 1 << 8,
    OWN_RETRY_LOST = 1 << 9,
    OWN_LIMIT_REQUESTS = 1 << 10,
    OWN_LIMIT_TOKENS = 1 << 11,
    OWN_LIMIT_IN_FLIGHT = 1 << 12,
};

// How many calls an upstream gets at once.
struct config_in_flight {
    unsigned limit; // 0: as many as come, or `automatic`
    bool automatic; // as many as it answers well
};

// What one client may do; 0: as much as it likes.
struct config_limits {
    unsigned requests_per_minute;
    uint64_t tokens_per_minute;
    unsigned in_flight;
};

// auto: over TLS what ALPN agrees on, else HTTP/1.1
enum config_http { HTTP_AUTO, HTTP_1, HTTP_2 };

struct config_upstream {
    struct str name;
    struct str url; // as written
    bool tls;       // https
    bool h2;        // h2c: HTTP/2 without TLS
    enum config_http http;
    bool mock;       // the built-in mock instead of a URL
    struct str host; // without brackets
    uint16_t port;
    struct str base_path; // "/v1", no slash at the end; may be empty
    struct str key;       // secret; empty: the client's own Authorization goes on
    struct str ca_file;   // empty: the system's store
    uint64_t connect_ms;  // timeouts: the upstream's own or the general ones
    uint64_t first_byte_ms;
    uint64_t between_ms;
    uint64_t total_ms;
    struct config_in_flight max_in_flight;
    unsigned retries;     // the upstream's own or the general ones
    bool retry_lost;      // a call that was sent and lost is sent again; likewise
    bool background_here; // thaw does `background: true` of the Responses API; unless set: where this is the mock
    uint32_t
        own; // CONNECT, FIRST_BYTE, BETWEEN, TOTAL, RETRIES, RETRY_LOST (others follow the general ones), BACKGROUND
};

// Entries of one `rank` are equals: the one with the fewest calls in flight for its weight is asked first.
struct config_use {
    unsigned upstream; // index in config.upstreams
    unsigned rank;     // from 0; lower ones are asked first
    unsigned weight;   // 1 to 100
    struct str model;  // the name to ask it for; empty: as the client wrote it
};

struct config_model {
    struct str name;
    struct config_use *use; // in this order
    unsigned use_count;
    uint64_t first_byte_ms, between_ms, total_ms; // those in `own`; else the upstream's hold
    uint32_t own;                                 // FIRST_BYTE, BETWEEN, TOTAL
};

// What a listener shows clients that ask for one of the certificate's names.
struct config_tls {
    struct str cert_file; // PEM, the chain
    struct str key_file;
};

// Keys that belong together, and what those who present them may do.
struct config_client {
    struct str name;
    struct config_key *keys;
    unsigned key_count;
    unsigned weight;             // its share of a queue: 1 to 100
    unsigned priority;           // 0 to 9: of those who wait, a higher one goes first
    struct config_limits limits; // of each key; what is not set is as for everybody
    uint32_t own;                // LIMIT_REQUESTS, LIMIT_TOKENS, LIMIT_IN_FLIGHT
};

// What holds for calls to one path, or to all paths that begin so.
struct config_route {
    struct str path;    // as clients send it; ends in * where it stands for all that begin so
    bool resume;        // every call is resumable
    bool coalesce;      // byte-identical concurrent calls of one tenant are one upstream call
    bool replay_errors; // the same Idempotency-Key gets a failed answer again
    bool keep_alive;    // a plain JSON answer that is waited for gets blanks in front (keepalive_ms)
    bool rerun;         // a background job that a crash interrupted is run again
    struct config_disconnect on_disconnect; // where it is in `own`; else tape_disconnect or on_disconnect hold
    uint32_t own;                           // ON_DISCONNECT
};

struct config_prompt {
    struct str name;        // of the call; empty in config_recipe.one
    struct str model;       // empty: the request's, else default_model
    struct template system; // no parts: none
    struct template prompt;
    uint64_t max_tokens;
    double temperature;
    uint32_t own; // MAX_TOKENS, TEMPERATURE: the others are not sent
};

struct config_recipe {
    struct str path;
    struct config_prompt one;    // where there are no `calls`
    struct config_prompt *calls; // in the order of the file
    unsigned call_count;
    struct config_wait wait; // for the calls
    uint64_t deadline_ms;    // 0: none
    bool stream;
};

struct config {
    atomic_uint references;
    struct arena arena;

    struct str listen; // as written
    unsigned workers;  // 0: one per usable CPU
    struct str prefix; // "/v1"; may be empty
    bool open;         // answer on the network without keys
    uint64_t max_body; // bytes, of looked-at requests
    uint64_t max_head; // bytes
    unsigned max_fields;
    unsigned max_streams; // of an HTTP/2 connection of a client
    uint64_t pace_us;
    uint64_t connect_ms, first_byte_ms, between_ms, total_ms;
    uint64_t header_ms; // a client's head must be complete within
    uint64_t idle_ms;   // keep-alive connections without a request

    struct config_disconnect on_disconnect;   // of calls that are not resumable
    uint64_t tape_keep_ms;                    // how long an answer can be read again after its end
    uint64_t tape_max;                        // bytes, of one tape
    uint64_t tape_total;                      // bytes, of all finished tapes
    struct config_disconnect tape_disconnect; // of resumable calls
    bool tape_read_by_id;                     // whoever knows the id may read, not only the key that made it
    struct str store;                         // the path of the SQLite file; empty: none
    struct str default_model;                 // empty: none
    unsigned parallel_branches;
    uint64_t parallel_answer; // bytes, of one branch

    struct str admin;            // as written: an address, or "off"
    bool admin_asked;            // it was set, and must be had
    struct config_limits limits; // of each client
    unsigned queue_length;       // calls that wait, of each upstream
    uint64_t queue_wait_ms;      // the longest
    unsigned retries;
    bool retry_lost;
    unsigned breaker_failures; // in a row; 0: an upstream never rests
    uint64_t breaker_rest_ms;
    uint64_t keepalive_ms; // 0: off
    uint64_t drain_ms;
    uint64_t memory;          // bytes; 0: three quarters of what there is
    unsigned max_connections; // of clients; 0: as many as there are descriptors for
    struct str access_log;    // "stdout", "stderr" or a path; empty: none
    bool server_timing;
    bool trace_trust; // traceparent is passed on as it came; else the trace begins anew here

    struct config_tls *tls; // none: clients connect without TLS; the first is for names that no other has
    unsigned tls_count;
    struct str *cors; // origins as browsers send them, or "*"
    unsigned cors_count;
    struct config_key *keys;
    unsigned key_count;
    struct config_client *clients;
    unsigned client_count;
    struct config_upstream *upstreams; // in the order of the file
    unsigned upstream_count;
    struct config_model *models;
    unsigned model_count;
    struct config_route *routes;
    unsigned route_count;
    struct config_recipe *recipes;
    unsigned recipe_count;
};

// Where and what is wrong, ready to print: "thaw.yaml:7:3: unknown key 'upstream'; did you mean 'upstreams'?"
struct config_problem {
    char text[512]; // never contains a secret's value
};

// All defaults, nothing else.
struct config *config_create(void);
struct config *config_ref(struct config *c);
void config_unref(struct config *c);

// Reads a file (or text, with `name` for messages) over the defaults. `environment` looks up ${NAME}; NULL: getenv.
typedef const char *config_environment(void *context, const char *name);
MUSTCHECK enum err config_read_file(const char *path, struct config **c, struct config_problem *problem);
MUSTCHECK enum err config_read_text(const char *name, struct str text, config_environment *environment, void *context,
                                    struct config **c, struct config_problem *problem);

// What command-line options do. Each validates like the file's key of that name; `key` may be dotted
// ("timeouts.connect"), a list gets one entry more, and ${NAME} is left alone: the shell has had its turn.
// On failure the configuration is as it was.
MUSTCHECK enum err config_set(struct config *c, const char *key, const char *value, struct config_problem *problem);
// name empty: made from the host ("api.openai.com" -> "openai", a second one "openai-2"); a name that was
// given and is taken already is refused. key and ca_file may be empty; url may be the word `mock`.
MUSTCHECK enum err config_add_upstream(struct config *c, struct str name, struct str url, struct str key,
                                       struct str ca_file, struct config_problem *problem);
MUSTCHECK enum err config_add_mock(struct config *c, struct config_problem *problem);

// What only holds for the whole: at least one upstream; references; no recipe at a path of thaw's own; no key twice;
// "Who may call" of SPEC: a listener beyond loopback together with an upstream key needs client keys or `open: true`, an
// admin listener there needs `keys`.
MUSTCHECK enum err config_check(const struct config *c, struct config_problem *problem);

// Is there a key that a client must present: in `keys`, or of one of `clients`?
bool config_has_keys(const struct config *c);
// HTTP/2 is spoken there and nothing else.
static inline bool config_h2_is_known(const struct config_upstream *u) { return u->h2 || u->http == HTTP_2; }
// Are there keys (AT_START in keys.def) whose change only a restart can take over? Their names go into `names`:
// "listen, tape.total".
bool config_needs_restart(const struct config *running, const struct config *wanted, struct config_problem *names);

// The model's entry, or NULL. With no models configured at all every name goes to the first upstream.
const struct config_model *config_model_find(const struct config *c, struct str name);
// What holds for a path (without query): the route of exactly that name, else the longest one with a *, else NULL.
const struct config_route *config_route_find(const struct config *c, struct str path);
// The recipe at a path, or NULL. /chat, the prompt as it is, is there without being configured.
const struct config_recipe *config_recipe_find(const struct config *c, struct str path);

// "127.0.0.1:8080", "localhost:8080", "[::1]:8080", ":8080" or "*:8080" (all addresses: host is empty),
// "8080" (127.0.0.1). The host comes without brackets, is numeric or a name for the caller to resolve, and
// borrows from `listen` (or from constant memory). Port 0 lets the system choose.
MUSTCHECK enum err config_listen_parse(struct str listen, struct str *host, uint16_t *port);
// 127.0.0.0/8 (IPv4-mapped too), ::1, "localhost". Any other name counts as beyond loopback: it is not
// resolved here.
bool config_is_loopback(struct str host);

// The documented example: every key of the table with its text and default, as thaw.example.yaml holds it.
MUSTCHECK enum err config_print_example(struct buf *out);
