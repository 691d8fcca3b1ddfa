// SPDX-License-Identifier: MIT
// A bucket is one time, at which it will be full again: what is missing of it now is `full_at - now`, of a minute at
// most; a call makes that more by its share of a minute. All times in ns: a minute for 1,000,000,000 tokens is 60 each.
#include "admit/quota.h"

#include <assert.h>
#include <pthread.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

enum { SWEPT = 4, NS_PER_MS = 1000 * 1000, RETRY_WITHOUT_MEMORY_MS = 1000, RETRY_IN_FLIGHT_MS = 1000 };
static const uint64_t MINUTE_NS = 60ull * 1000 * NS_PER_MS;
// What an upstream says that a call took is believed up to here.
static const uint64_t DEBT_MOST_NS = 60 * 60ull * 1000 * NS_PER_MS;

struct quota_client {
    struct map_node node;
    struct list quiet; // in quotas->quiet while it has no leases
    uint64_t id;
    uint64_t requests_full_ns, tokens_full_ns;
    unsigned leases;
};

struct quotas {
    pthread_mutex_t lock;
    struct map clients;
    struct list quiet; // in the order of their sweeping
};

struct quotas *quotas_create(void) {
    struct quotas *q = xcalloc(1, sizeof *q);
    pthread_mutex_init(&q->lock, NULL);
    map_init(&q->clients);
    list_init(&q->quiet);
    return q;
}

static void forget(struct quotas *q, struct quota_client *c) {
    list_unlink(&c->quiet);
    map_remove(&q->clients, &c->node);
    free(c);
}

void quotas_destroy(struct quotas *q) {
    if (!q) {
        return;
    }
    list_each(node, &q->quiet) { forget(q, container_of(node, struct quota_client, quiet)); }
    assert(!q->clients.count);
    map_finish(&q->clients);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

static bool is_full(const struct quota_client *c, uint64_t now_ns) {
    return c->requests_full_ns <= now_ns && c->tokens_full_ns <= now_ns;
}

// With each call a few of the quiet ones are looked at, in turns.
static void sweep(struct quotas *q, uint64_t now_ns) {
    for (unsigned i = 0; i < SWEPT && !list_empty(&q->quiet); i++) {
        struct quota_client *c = container_of(q->quiet.next, struct quota_client, quiet);
        if (is_full(c, now_ns)) {
            forget(q, c);
        } else {
            list_unlink(&c->quiet);
            list_push_back(&q->quiet, &c->quiet);
        }
    }
}

static uint64_t mix(uint64_t x) { // the finaliser of splitmix64: ids may be counted ones
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static struct quota_client *find_client(struct quotas *q, uint64_t id) {
    for (struct map_node *node = map_find(&q->clients, mix(id)); node; node = map_next(node)) {
        struct quota_client *c = container_of(node, struct quota_client, node);
        if (c->id == id) {
            return c;
        }
    }
    return NULL;
}

static struct quota_client *add_client(struct quotas *q, uint64_t id) {
    struct quota_client *c = try_malloc(sizeof *c);
    if (c) {
        *c = (struct quota_client){.id = id};
        map_insert(&q->clients, &c->node, mix(id));
        list_push_back(&q->quiet, &c->quiet);
    }
    return c;
}

// ---- one bucket

// Its share of a minute of which there are `rate`.
static uint64_t share_ns(uint64_t cost, uint64_t rate) {
    unsigned __int128 ns = (unsigned __int128)cost * MINUTE_NS / rate;
    return (uint64_t)MIN(ns, (unsigned __int128)DEBT_MOST_NS);
}

static uint64_t missing_ns(uint64_t full_ns, uint64_t now_ns) { return full_ns > now_ns ? full_ns - now_ns : 0; }

// How long until so much may be taken; 0: now. What is more than the whole bucket waits until it is full.
static uint64_t wait_ns(uint64_t full_ns, uint64_t share, uint64_t now_ns) {
    uint64_t missing = missing_ns(full_ns, now_ns);
    uint64_t room = MINUTE_NS - MIN(share, MINUTE_NS);
    return missing > room ? missing - room : 0;
}

static void take(uint64_t *full_ns, uint64_t share, uint64_t now_ns) {
    *full_ns = MIN(MAX(*full_ns, now_ns) + share, now_ns + MAX(DEBT_MOST_NS, missing_ns(*full_ns, now_ns)));
}

static void give_back(uint64_t *full_ns, uint64_t share) { *full_ns -= MIN(share, *full_ns); }

static uint64_t ms_up(uint64_t ns) { return (ns + NS_PER_MS - 1) / NS_PER_MS; }

static uint64_t remaining(uint64_t full_ns, uint64_t rate, uint64_t now_ns) {
    uint64_t missing = MIN(missing_ns(full_ns, now_ns), MINUTE_NS);
    return (uint64_t)((unsigned __int128)(MINUTE_NS - missing) * rate / MINUTE_NS);
}

static void look_at(const struct quota_client *c, const struct quota_rates *rates, uint64_t now_ns,
                    struct quota_look *look) {
    if (rates->requests_per_minute) {
        look->limit_requests = rates->requests_per_minute;
        look->remaining_requests = remaining(c->requests_full_ns, rates->requests_per_minute, now_ns);
        look->reset_requests_ms = ms_up(missing_ns(c->requests_full_ns, now_ns));
    }
    if (rates->tokens_per_minute) {
        look->limit_tokens = rates->tokens_per_minute;
        look->remaining_tokens = remaining(c->tokens_full_ns, rates->tokens_per_minute, now_ns);
        look->reset_tokens_ms = ms_up(missing_ns(c->tokens_full_ns, now_ns));
    }
}

// ---- leases

static enum quota_answer ask(const struct quota_client *c, const struct quota_rates *rates, uint64_t tokens,
                             uint64_t now_ns, uint64_t *retry_ms) {
    if (rates->in_flight && c->leases >= rates->in_flight) {
        *retry_ms = RETRY_IN_FLIGHT_MS; // when one of its calls ends, which nobody knows
        return QUOTA_IN_FLIGHT;
    }
    uint64_t requests_wait = 0, tokens_wait = 0;
    if (rates->requests_per_minute) {
        requests_wait = wait_ns(c->requests_full_ns, share_ns(1, rates->requests_per_minute), now_ns);
    }
    if (rates->tokens_per_minute) {
        tokens_wait = wait_ns(c->tokens_full_ns, share_ns(tokens, rates->tokens_per_minute), now_ns);
    }
    *retry_ms = ms_up(MAX(requests_wait, tokens_wait));
    if (!*retry_ms) {
        return QUOTA_FINE;
    }
    return requests_wait >= tokens_wait ? QUOTA_REQUESTS : QUOTA_TOKENS;
}

enum quota_answer quota_take(struct quotas *q, uint64_t client, const struct quota_rates *rates, uint64_t tokens,
                             uint64_t now_ms, struct lease *lease, struct quota_look *look) {
    *lease = (struct lease){.quotas = NULL};
    *look = (struct quota_look){0};
    if (!rates->requests_per_minute && !rates->tokens_per_minute && !rates->in_flight) {
        return QUOTA_FINE;
    }
    uint64_t now_ns = now_ms * NS_PER_MS;
    enum quota_answer answer = QUOTA_REQUESTS;
    pthread_mutex_lock(&q->lock);
    sweep(q, now_ns);
    struct quota_client *c = find_client(q, client);
    c = c ? c : add_client(q, client);
    if (!c) {
        look->retry_ms = RETRY_WITHOUT_MEMORY_MS;
    } else {
        answer = ask(c, rates, tokens, now_ns, &look->retry_ms);
        if (answer == QUOTA_FINE) {
            *lease = (struct lease){.quotas = q, .client = c, .tokens = tokens, .rates = *rates};
            list_unlink(&c->quiet);
            c->leases++;
            if (rates->requests_per_minute) {
                take(&c->requests_full_ns, share_ns(1, rates->requests_per_minute), now_ns);
            }
            if (rates->tokens_per_minute) {
                take(&c->tokens_full_ns, share_ns(tokens, rates->tokens_per_minute), now_ns);
            }
        }
        look_at(c, rates, now_ns, look);
    }
    pthread_mutex_unlock(&q->lock);
    return answer;
}

// Under the lock.
static void end(struct lease *lease, uint64_t now_ns) {
    struct quota_client *c = lease->client;
    assert(c->leases);
    if (--c->leases == 0) {
        list_push_back(&lease->quotas->quiet, &c->quiet);
        if (is_full(c, now_ns)) {
            forget(lease->quotas, c);
        }
    }
    *lease = (struct lease){.quotas = NULL};
}

void quota_refund(struct lease *lease, uint64_t now_ms) {
    struct quotas *q = lease->quotas;
    if (!q) {
        return;
    }
    pthread_mutex_lock(&q->lock);
    if (lease->rates.requests_per_minute) {
        give_back(&lease->client->requests_full_ns, share_ns(1, lease->rates.requests_per_minute));
    }
    if (lease->rates.tokens_per_minute) {
        give_back(&lease->client->tokens_full_ns, share_ns(lease->tokens, lease->rates.tokens_per_minute));
    }
    end(lease, now_ms * NS_PER_MS);
    pthread_mutex_unlock(&q->lock);
}

void quota_settle(struct lease *lease, uint64_t tokens, uint64_t now_ms) {
    struct quotas *q = lease->quotas;
    if (!q) {
        return;
    }
    uint64_t now_ns = now_ms * NS_PER_MS;
    pthread_mutex_lock(&q->lock);
    if (lease->rates.tokens_per_minute && tokens != UINT64_MAX) {
        uint64_t estimated = share_ns(lease->tokens, lease->rates.tokens_per_minute);
        uint64_t taken = share_ns(tokens, lease->rates.tokens_per_minute);
        if (taken > estimated) {
            take(&lease->client->tokens_full_ns, taken - estimated, now_ns);
        } else {
            give_back(&lease->client->tokens_full_ns, estimated - taken);
        }
    }
    end(lease, now_ns);
    pthread_mutex_unlock(&q->lock);
}

unsigned quota_clients(struct quotas *q) {
    pthread_mutex_lock(&q->lock);
    unsigned count = (unsigned)q->clients.count;
    pthread_mutex_unlock(&q->lock);
    return count;
}
