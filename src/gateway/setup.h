// SPDX-License-Identifier: MIT
// What a configuration comes to: whom this worker calls, under which names, and who may call it. A reload makes a new
// setup; requests and calls that began under an earlier one hold it until they end, so that nothing is cut or mixed.
//
//     struct blueprint   of one configuration, for all workers: the configuration itself, TLS contexts   (counted, atomic)
//     struct setup       of one worker and one blueprint: upstreams with their connections, models       (counted)
//     struct commons     of the process, whatever is configured: gates and quotas, which outlive reloads
#pragma once
#include "admit/breaker.h"
#include "admit/gate.h"
#include "admit/quota.h"
#include "admit/retry.h"
#include "base/count.h"
#include "config/config.h"
#include "gateway/who.h"
#include "http/client.h"
#include "net/tls.h"

struct worker;

// How reloads went; one thread writes.
struct reload_counts {
    struct count accepted, refused;
    struct count last_unix_s;  // when the last one was; 0: there was none
    struct count last_refused; // 1: it was refused
};

struct commons {
    struct gates *gates;
    struct quotas *quotas;
    struct reload_counts reloads;
    struct count stalls;         // turns of a worker's loop that took far too long (cmd/lookout.c)
    struct tls_tickets *tickets; // clients resume across workers and reloads
};
struct commons *commons_create(void);
void commons_destroy(struct commons *c); // accepts NULL

struct blueprint {
    atomic_uint references;
    struct config *config;
    struct tls_client **tls;       // per upstream; NULL where it is plain
    struct tls_server *tls_server; // for clients; NULL: they come without TLS
};
// Takes a reference to the configuration. Fails with a sentence where certificates cannot be read.
MUSTCHECK enum err blueprint_create(struct config *config, struct blueprint **blueprint, char *problem, size_t size);
struct blueprint *blueprint_ref(struct blueprint *b);
void blueprint_unref(struct blueprint *b); // accepts NULL

// An upstream as this worker calls it.
struct upstream {
    const struct config_upstream *config;
    struct origin origin;
    char *authorization;          // "Bearer KEY", secret; NULL: the client's own goes on
    char *authority;              // for Host
    struct gate *gate;            // of all workers, by the upstream's name
    bool gated;                   // calls pass through it: there is a limit
    struct meter_upstream *meter; // of this worker
    struct retry_budget budget;
    unsigned in_flight; // calls of this worker
};

// Where a model's calls go: an upstream and the name it knows the model by, as JSON with its quotes (NULL: as asked).
struct target {
    struct upstream *upstream;
    char *model_json;
    unsigned rank, weight; // config_use
};

struct targets {
    struct str model;                  // as clients ask for it; empty: the list for all that names no configured model
    const struct config_model *config; // NULL for that list
    struct target *v;                  // in the order to be tried
    unsigned n;
};

struct setup {
    unsigned references;
    struct worker *worker;
    struct list node; // in worker->setups
    struct grave grave;
    struct blueprint *blueprint;
    const struct config *config; // the blueprint's
    struct who who;
    struct upstream *upstreams; // config->upstream_count
    struct targets *models;     // config->model_count
    struct targets any;         // every upstream in order, models as asked
    bool limited;               // somebody or something: calls say whose they are
    char *target_room;          // for building a target: an upstream's base path and what a client asks for
};

struct setup *setup_create(struct worker *w, struct blueprint *blueprint);
static inline struct setup *setup_ref(struct setup *s) {
    s->references++;
    return s;
}
void setup_unref(struct setup *s); // dies at the end of the turn
// Its connections are closed, whatever they carry.
void setup_close(struct setup *s);
// NULL: no such model is configured.
const struct targets *setup_targets(const struct setup *s, struct str model);
