// SPDX-License-Identifier: MIT
// One lock per gate. What a ticket is, is read off it: no gate: nothing; no waiter: it is in; else the waiter's state.
//
//     gate_enter --> WAITING --a place is free--> GRANTED --its loop delivers the message--> (freed: on_in)
//                       |                            |
//                       | gate_leave, its timer      | gate_leave: the place goes to the next one
//                       v                            v
//                    (freed)                  (freed when the message is delivered)
//
// WAITING: in the line, in its client's list, in `arrivals`; only under the lock. GRANTED: in none of them, its place is
// counted, its message is posted or about to be; the asker's thread alone has it.
//
// Always, when the lock is released: nobody waits, or as many as the limit are in.
//
// A gate without a limit does without the lock: its count is an atomic that every gate uses. It may get a limit while
// calls come and go. Who leaves first takes himself out of the count and then looks whether there is a limit; who sets a
// limit does it the other way round, so that one of the two sees the other (both sequentially consistent) and nobody
// waits for a place that is free already.
#include "admit/gate.h"

#include <assert.h>
#include <pthread.h>

#include "admit/learn.h"
#include "admit/line.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

enum {
    PRIORITIES = 10,
    WEIGHT_MOST = 100,
    RETRY_LEAST_MS = 1000,
    SERVICE_MEMORY = 8,
    US_PER_MS = 1000,
    PRIORITY_SHIFT = 60
};

struct client { // with calls that wait, of one priority
    struct map_node node;
    uint64_t id;
    unsigned priority, weight;
    struct list waiters; // first come first
    unsigned waiting;
    uint64_t turn;               // the round in which it was served last
    unsigned served;             // how many of its calls in that round
    uint64_t last_round;         // of its last waiter
    unsigned last_round_waiters; // in that round, with those served in it
};

enum waiter_state { WAITING, GRANTED, PUSHED };

struct waiter {
    struct stand stand;  // in gate->line
    struct list node;    // in client->waiters
    struct list arrival; // in gate->arrivals
    struct timer timer;  // when it is late
    struct message message;
    struct gate *gate;
    struct client *client;
    struct ticket *ticket; // NULL: its asker has left, and it waits for its message to arrive
    struct loop *loop;
    void (*on_in)(void *owner);
    void (*on_late)(void *owner);
    void (*on_pushed)(void *owner);
    void *owner;
    uint64_t since_ms;
    enum waiter_state state;
};

struct gate {
    struct map_node node;
    char *name;
    atomic_bool limited;
    atomic_uint in_flight;
    atomic_uint_fast64_t entered, refused, late;
    struct breaker breaker;

    pthread_mutex_t lock; // of all that follows
    struct gate_options options;
    struct learn learn; // where options.automatic
    struct line line;   // all who wait, in the order of their going in as far as it is known
    struct list arrivals;
    struct map clients;
    uint64_t rounds[PRIORITIES]; // that are being served
    uint64_t serial;
    uint64_t service_us; // average; 0: nothing is known
};

struct gates {
    pthread_mutex_t lock;
    struct map map;
};

// ---- gates

static uint64_t mix(uint64_t x) { // the finaliser of splitmix64
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t hash_name(struct str name) {
    uint64_t h = 0xcbf29ce484222325u; // FNV-1a
    for (size_t i = 0; i < name.len; i++) {
        h = (h ^ (unsigned char)name.ptr[i]) * 0x100000001b3u;
    }
    return mix(h);
}

struct gates *gates_create(void) {
    struct gates *gates = xcalloc(1, sizeof *gates);
    pthread_mutex_init(&gates->lock, NULL);
    map_init(&gates->map);
    return gates;
}

static void gate_destroy(void *context, struct map_node *node) {
    struct gates *gates = context;
    struct gate *gate = container_of(node, struct gate, node);
    assert(!atomic_load(&gate->in_flight) && !line_size(&gate->line) && !gate->clients.count);
    map_remove(&gates->map, node);
    map_finish(&gate->clients);
    pthread_mutex_destroy(&gate->lock);
    free(gate->name);
    free(gate);
}

void gates_destroy(struct gates *gates) {
    if (gates) {
        map_each(&gates->map, gate_destroy, gates);
        map_finish(&gates->map);
        pthread_mutex_destroy(&gates->lock);
        free(gates);
    }
}

static struct gate *gate_create(struct str name) {
    struct gate *gate = xcalloc(1, sizeof *gate);
    gate->name = str_dup(name);
    pthread_mutex_init(&gate->lock, NULL);
    list_init(&gate->arrivals);
    map_init(&gate->clients);
    return gate;
}

struct gate *gates_find(struct gates *gates, struct str name) {
    uint64_t hash = hash_name(name);
    struct gate *gate = NULL;
    pthread_mutex_lock(&gates->lock);
    for (struct map_node *node = map_find(&gates->map, hash); node && !gate; node = map_next(node)) {
        struct gate *g = container_of(node, struct gate, node);
        gate = str_eq(str_c(g->name), name) ? g : NULL;
    }
    if (!gate) {
        gate = gate_create(name);
        map_insert(&gates->map, &gate->node, hash);
    }
    pthread_mutex_unlock(&gates->lock);
    return gate;
}

// 0: none. Under the lock.
static unsigned limit_of(const struct gate *gate) {
    return gate->options.automatic ? learn_limit(&gate->learn) : gate->options.limit;
}

static bool has_room(const struct gate *gate) {
    unsigned limit = limit_of(gate);
    return !limit || atomic_load(&gate->in_flight) < limit;
}

// ---- whose turn it is
//
// Deficit round robin where every call costs 1 and a round brings a client `weight`: nothing is ever left over for the
// next round but by a queue that is empty, which forfeits it. So the round of a waiter is known when it comes, and what
// waits can stand in one line, by priority, round, and order of coming, in which everybody's place can be asked for.
// A client's first waiter is always in the round that is its turn. If others of its calls leave, those behind them stay
// in the rounds they had until they are first.

static uint64_t line_round(unsigned priority, uint64_t round) {
    return (uint64_t)(PRIORITIES - 1 - priority) << PRIORITY_SHIFT | round;
}
static uint64_t client_round(uint64_t line_round) { return line_round & ((1ull << PRIORITY_SHIFT) - 1); }

static uint64_t client_hash(uint64_t id, unsigned priority) { return mix(id + priority * 0x9e3779b97f4a7c15u); }

static struct client *client_find(const struct gate *gate, const struct gate_asker *asker) {
    struct map_node *node = map_find(&gate->clients, client_hash(asker->client, asker->priority));
    for (; node; node = map_next(node)) {
        struct client *c = container_of(node, struct client, node);
        if (c->id == asker->client && c->priority == asker->priority) {
            return c;
        }
    }
    return NULL;
}

static struct client *client_add(struct gate *gate, const struct gate_asker *asker) {
    struct client *c = try_malloc(sizeof *c);
    if (c) {
        *c = (struct client){.id = asker->client, .priority = asker->priority};
        list_init(&c->waiters);
        map_insert(&gate->clients, &c->node, client_hash(c->id, c->priority));
    }
    return c;
}

static void client_forget(struct gate *gate, struct client *c) {
    map_remove(&gate->clients, &c->node);
    free(c);
}

// Where a newcomer of the client (NULL: one that has nothing waiting) would stand. Who comes goes behind those of the
// round that is being served: into the next one, as if appended to the ring of clients.
static struct line_key next_key(const struct gate *gate, const struct client *c, unsigned priority, unsigned weight) {
    uint64_t round = gate->rounds[priority] + 1;
    if (c && c->waiting) {
        round = c->last_round + (c->last_round_waiters >= weight);
    }
    return (struct line_key){.round = line_round(priority, round), .serial = gate->serial};
}

static void stand_in_line(struct gate *gate, struct waiter *w) {
    struct client *c = w->client;
    struct line_key key = next_key(gate, c, c->priority, c->weight);
    uint64_t round = client_round(key.round);
    c->last_round_waiters = c->waiting && round == c->last_round ? c->last_round_waiters + 1 : 1;
    c->last_round = round;
    c->waiting++;
    gate->serial++;
    list_push_back(&c->waiters, &w->node);
    list_push_back(&gate->arrivals, &w->arrival);
    line_insert(&gate->line, &w->stand, key);
}

static struct waiter *first_of(const struct client *c) { return container_of(c->waiters.next, struct waiter, node); }

static void move_up(struct gate *gate, struct waiter *w, struct line_key key) {
    struct client *c = w->client;
    if (!line_less(key, w->stand.key)) {
        return;
    }
    line_remove(&gate->line, &w->stand);
    line_insert(&gate->line, &w->stand, key);
    if (c->waiting == 1) { // the first is the last
        c->last_round = client_round(key.round);
        c->last_round_waiters = 1 + (c->turn == c->last_round ? c->served : 0);
    }
}

static void leave_line(struct gate *gate, struct waiter *w) {
    line_remove(&gate->line, &w->stand);
    list_unlink(&w->node);
    list_unlink(&w->arrival);
    w->client->waiting--;
}

// It waits no more: the one behind it, if it was its client's first, has its turn.
static void withdraw(struct gate *gate, struct waiter *w) {
    struct client *c = w->client;
    bool first = first_of(c) == w;
    leave_line(gate, w);
    if (!c->waiting) {
        client_forget(gate, c);
    } else if (first) {
        move_up(gate, first_of(c), w->stand.key);
    }
}

// Its turn has come.
static void serve(struct gate *gate, struct waiter *w) {
    struct client *c = w->client;
    uint64_t round = client_round(w->stand.key.round);
    gate->rounds[c->priority] = round;
    c->served = c->turn == round ? c->served + 1 : 1;
    c->turn = round;
    leave_line(gate, w);
    if (!c->waiting) {
        client_forget(gate, c);
        return;
    }
    struct waiter *next = first_of(c);
    uint64_t due = c->served < c->weight ? round : round + 1;
    move_up(gate, next, (struct line_key){line_round(c->priority, due), next->stand.key.serial});
}

// ---- waiting

static void waiter_set_state(struct waiter *w, enum waiter_state state) {
    assert(state == WAITING || w->state == WAITING);
    w->state = state;
}

static void deliver(struct message *message) {
    struct waiter *w = container_of(message, struct waiter, message);
    struct ticket *ticket = w->ticket;
    bool in = w->state == GRANTED;
    void (*then)(void *) = in ? w->on_in : w->on_pushed;
    void *owner = w->owner;
    timer_clear(&w->timer);
    free(w);
    if (!ticket) {
        return;
    }
    if (in) {
        ticket->waiter = NULL;
    } else {
        *ticket = (struct ticket){.gate = NULL};
    }
    then(owner);
}

// Places are free: who is next has one. Under the lock; their messages are to be posted once it is released, or who is
// woken by them would only find it taken.
static struct message *fill(struct gate *gate, uint64_t now_ms) {
    struct message *granted = NULL, **end = &granted;
    while (line_size(&gate->line) && has_room(gate)) {
        struct waiter *w = container_of(line_first(&gate->line), struct waiter, stand);
        serve(gate, w);
        waiter_set_state(w, GRANTED);
        w->ticket->in_ms = now_ms;
        w->ticket->epoch = learn_epoch(&gate->learn);
        w->ticket->crowd = atomic_fetch_add(&gate->in_flight, 1) + 1;
        atomic_fetch_add_explicit(&gate->entered, 1, memory_order_relaxed);
        w->message.next = NULL;
        *end = &w->message;
        end = &w->message.next;
    }
    return granted;
}

// Their loops live: nothing that waits outlives its loop's run, and loops end when no thread runs any more.
static void post(struct message *granted) {
    for (struct message *m = granted, *next; m; m = next) {
        next = m->next; // from here on it is its loop's
        struct waiter *w = container_of(m, struct waiter, message);
        loop_post(w->loop, m);
    }
}

static void on_timer(struct timer *timer) {
    struct waiter *w = container_of(timer, struct waiter, timer);
    struct gate *gate = w->gate;
    pthread_mutex_lock(&gate->lock);
    bool late = w->state == WAITING;
    if (late) {
        withdraw(gate, w);
    }
    pthread_mutex_unlock(&gate->lock);
    if (!late) {
        return; // it was just in time
    }
    atomic_fetch_add_explicit(&gate->late, 1, memory_order_relaxed);
    void (*on_late)(void *) = w->on_late;
    void *owner = w->owner;
    *w->ticket = (struct ticket){.gate = NULL};
    free(w);
    on_late(owner);
}

// ---- the four calls

static void take_place(struct gate *gate, struct ticket *ticket, const struct gate_asker *asker) {
    *ticket = (struct ticket){.gate = gate, .loop = asker->loop, .in_ms = asker->loop->now_ms};
    ticket->crowd = atomic_fetch_add(&gate->in_flight, 1) + 1;
    atomic_fetch_add_explicit(&gate->entered, 1, memory_order_relaxed);
}

// Until so many places have become free, beyond those that a lowered limit takes. 0: nothing is known.
static uint64_t wait_ms(const struct gate *gate, uint64_t places) {
    unsigned limit = limit_of(gate), in = atomic_load(&gate->in_flight);
    places += in > limit ? in - limit : 0;
    return (places * gate->service_us / limit + US_PER_MS - 1) / US_PER_MS;
}

// How long it may wait.
static uint64_t patience_ms(const struct gate *gate, const struct gate_asker *asker) {
    uint64_t now_ms = asker->loop->now_ms;
    uint64_t most = gate->options.queue_wait_ms ? gate->options.queue_wait_ms : UINT64_MAX;
    uint64_t left = asker->deadline_ms > now_ms ? asker->deadline_ms - now_ms : 0;
    return asker->deadline_ms == UINT64_MAX ? most : MIN(most, left);
}

// Whoever has most of what waits, but nobody of a higher priority.
struct greediest {
    struct client *client;
    unsigned priority;
};

static void look_at(void *context, struct map_node *node) {
    struct greediest *g = context;
    struct client *c = container_of(node, struct client, node);
    if (c->priority <= g->priority && (!g->client || c->waiting > g->client->waiting)) {
        g->client = c;
    }
}

// Of the whole queue, for the client (NULL: a new one) and each of those that wait.
static unsigned share_of(const struct gate *gate, const struct client *c) {
    return gate->options.queue_length / (unsigned)(gate->clients.count + !c);
}

// Who makes room for it in a full queue: the last of the client that has most, if it has more than its share, and the
// newcomer's less. NULL: nobody.
static struct waiter *who_goes(struct gate *gate, const struct gate_asker *asker, const struct client *c) {
    struct greediest g = {.priority = asker->priority};
    unsigned share = share_of(gate, c);
    if ((c ? c->waiting : 0) < share) {
        map_each(&gate->clients, look_at, &g);
    }
    bool goes = g.client && g.client->waiting > share;
    return goes ? container_of(g.client->waiters.prev, struct waiter, node) : NULL;
}

static struct message *push_out(struct gate *gate, struct waiter *w) {
    withdraw(gate, w);
    waiter_set_state(w, PUSHED);
    atomic_fetch_add_explicit(&gate->refused, 1, memory_order_relaxed);
    w->message.next = NULL;
    return &w->message;
}

// May it wait? Else why not, and when again.
static enum gate_answer judge(struct gate *gate, const struct gate_asker *asker, const struct client *c,
                              struct gate_refusal *refusal, struct waiter **goes) {
    unsigned waiting = line_size(&gate->line), own = c ? c->waiting : 0;
    *refusal = (struct gate_refusal){.waiting = waiting, .limit = limit_of(gate), .retry_ms = RETRY_LEAST_MS};
    unsigned before = line_before(&gate->line, next_key(gate, c, asker->priority, asker->weight));
    refusal->wait_ms = wait_ms(gate, (uint64_t)before + 1);
    bool full = waiting >= gate->options.queue_length;
    *goes = full ? who_goes(gate, asker, c) : NULL;
    if (full && !*goes) {
        unsigned clients = (unsigned)gate->clients.count + !c;
        unsigned share = share_of(gate, c);
        bool greedy = own > share;
        uint64_t places = greedy ? MIN((uint64_t)(own - share) * clients, waiting) : 1;
        refusal->retry_ms = MAX(wait_ms(gate, places), (uint64_t)RETRY_LEAST_MS);
        return greedy ? GATE_SHARE : GATE_FULL;
    }
    uint64_t patience = patience_ms(gate, asker);
    if (!patience || refusal->wait_ms > patience) {
        refusal->retry_ms = MAX(refusal->wait_ms - MIN(patience, refusal->wait_ms), (uint64_t)RETRY_LEAST_MS);
        refusal->own = own && wait_ms(gate, (uint64_t)before + 1 - MIN(own, before)) <= patience;
        return GATE_LATE;
    }
    return GATE_WAIT;
}

// Under the lock. False: no memory.
static bool wait_in_line(struct gate *gate, const struct gate_asker *asker, struct client *c, struct ticket *ticket) {
    struct waiter *w = try_malloc(sizeof *w);
    c = !w || c ? c : client_add(gate, asker);
    if (!w || !c) {
        free(w);
        return false;
    }
    *w = (struct waiter){.gate = gate, .client = c, .ticket = ticket, .loop = asker->loop, .on_in = asker->on_in};
    w->on_late = asker->on_late;
    w->on_pushed = asker->on_pushed;
    w->owner = asker->owner;
    w->since_ms = asker->loop->now_ms;
    w->message.deliver = deliver;
    w->timer.on_timer = on_timer;
    waiter_set_state(w, WAITING);
    c->weight = MAX(1, MIN(asker->weight, (unsigned)WEIGHT_MOST));
    uint64_t patience = patience_ms(gate, asker);
    if (patience != UINT64_MAX) {
        timer_set(asker->loop, &w->timer, patience);
    }
    *ticket = (struct ticket){.gate = gate, .loop = asker->loop, .waiter = w};
    stand_in_line(gate, w);
    return true;
}

// *pushed: to be posted.
static enum gate_answer enter(struct gate *gate, const struct gate_asker *asker, struct ticket *ticket,
                              struct gate_refusal *refusal, struct message **pushed) {
    struct waiter *goes = NULL;
    if (!line_size(&gate->line) && has_room(gate)) {
        take_place(gate, ticket, asker);
        ticket->epoch = learn_epoch(&gate->learn);
        return GATE_IN;
    }
    struct client *c = client_find(gate, asker);
    enum gate_answer answer = judge(gate, asker, c, refusal, &goes);
    if (answer == GATE_WAIT && !wait_in_line(gate, asker, c, ticket)) {
        answer = GATE_FULL;
    }
    if (answer == GATE_WAIT && goes) {
        *pushed = push_out(gate, goes);
    }
    if (answer != GATE_WAIT) {
        atomic_fetch_add_explicit(&gate->refused, 1, memory_order_relaxed);
    }
    return answer;
}

enum gate_answer gate_enter(struct gate *gate, const struct gate_asker *asker, struct ticket *ticket,
                            struct gate_refusal *refusal) {
    assert(!ticket->gate && asker->priority < PRIORITIES);
    if (!atomic_load(&gate->limited)) {
        take_place(gate, ticket, asker);
        return GATE_IN;
    }
    pthread_mutex_lock(&gate->lock);
    struct message *granted = fill(gate, asker->loop->now_ms); // whose place became free this very moment
    struct message *pushed = NULL;
    enum gate_answer answer = enter(gate, asker, ticket, refusal, &pushed);
    pthread_mutex_unlock(&gate->lock);
    post(granted);
    post(pushed);
    return answer;
}

// It is in no more; what it was like is remembered.
static void give_place(struct ticket *ticket, enum gate_report report, uint64_t first_byte_ms, bool told) {
    struct gate *gate = ticket->gate;
    uint64_t now_ms = ticket->loop->now_ms;
    unsigned in = atomic_fetch_sub(&gate->in_flight, 1);
    assert(in);
    if (!atomic_load(&gate->limited)) {
        return;
    }
    uint64_t held_ms = now_ms - MIN(ticket->in_ms, now_ms);
    pthread_mutex_lock(&gate->lock);
    if (told) {
        int64_t held_us = (int64_t)MAX(held_ms * US_PER_MS, 1);
        int64_t service_us = (int64_t)gate->service_us;
        gate->service_us = (uint64_t)(service_us ? service_us + (held_us - service_us) / SERVICE_MEMORY : held_us);
    }
    if (gate->options.automatic) {
        learn_answer(&gate->learn, &(struct learn_sample){.overloaded = report == REPORT_OVERLOADED,
                                                          .well = report == REPORT_WELL,
                                                          .first_byte_ms = first_byte_ms,
                                                          .total_ms = held_ms,
                                                          .crowd = ticket->crowd,
                                                          .epoch = ticket->epoch,
                                                          .in = in});
    }
    struct message *granted = fill(gate, now_ms);
    pthread_mutex_unlock(&gate->lock);
    post(granted);
}

void gate_leave(struct ticket *ticket, enum gate_report report, uint64_t first_byte_ms) {
    struct gate *gate = ticket->gate;
    struct waiter *w = ticket->waiter;
    if (!gate) {
        return;
    }
    bool in = true;
    if (w) { // whatever it says, it was never sent
        report = REPORT_NOTHING;
        pthread_mutex_lock(&gate->lock);
        bool waits = w->state == WAITING;
        in = w->state == GRANTED;
        if (waits) {
            withdraw(gate, w);
        }
        pthread_mutex_unlock(&gate->lock);
        timer_clear(&w->timer);
        if (waits) {
            free(w);
        } else {
            w->ticket = NULL; // its message is on the way
        }
    }
    if (in) {
        give_place(ticket, report, first_byte_ms, !w);
    }
    *ticket = (struct ticket){.gate = NULL};
}

void gate_set(struct gate *gate, const struct gate_options *options, uint64_t now_ms) {
    pthread_mutex_lock(&gate->lock);
    if (options->automatic && (!gate->options.automatic || options->limit != gate->options.limit)) {
        learn_init(&gate->learn, options->limit);
    }
    gate->options = *options;
    atomic_store(&gate->limited, options->limit || options->automatic);
    struct message *granted = fill(gate, now_ms);
    pthread_mutex_unlock(&gate->lock);
    post(granted);
}

bool gate_place(const struct ticket *ticket, unsigned *place, unsigned *waiting) {
    struct gate *gate = ticket->gate;
    const struct waiter *w = ticket->waiter;
    if (!w) {
        return false;
    }
    pthread_mutex_lock(&gate->lock);
    bool waits = w->state == WAITING;
    if (waits) {
        *place = line_before(&gate->line, w->stand.key) + 1;
        *waiting = line_size(&gate->line);
    }
    pthread_mutex_unlock(&gate->lock);
    return waits;
}

void gate_look(struct gate *gate, uint64_t now_ms, struct gate_look *look) {
    pthread_mutex_lock(&gate->lock);
    *look = (struct gate_look){.limit = limit_of(gate), .automatic = gate->options.automatic};
    look->waiting = line_size(&gate->line);
    look->service_ms = (gate->service_us + US_PER_MS / 2) / US_PER_MS;
    if (look->waiting) {
        uint64_t since_ms = container_of(gate->arrivals.next, struct waiter, arrival)->since_ms;
        look->oldest_ms = now_ms - MIN(since_ms, now_ms);
    }
    pthread_mutex_unlock(&gate->lock);
    look->in_flight = atomic_load(&gate->in_flight);
    look->entered = atomic_load_explicit(&gate->entered, memory_order_relaxed);
    look->refused = atomic_load_explicit(&gate->refused, memory_order_relaxed);
    look->late = atomic_load_explicit(&gate->late, memory_order_relaxed);
}

struct breaker *gate_breaker(struct gate *gate) {
    return &gate->breaker;
}
