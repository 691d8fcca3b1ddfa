// SPDX-License-Identifier: MIT
// Names to addresses: a cache in front of c-ares, which lives on the loop's descriptors and one timer.
//
// What is known about a name:
//
//    first asked              answered                               answered
//   -------------> ASKING -----------------------> FRESH <-----------------------+
//                   ^  |                            |                            |
//      asked again  |  | failed                     | expired, asked again       |
//      after a while|  v                            v              slow          |
//                  FAILED <-- "no such name" -- REFRESHING -------------> STALE_ASKING
//                      ^ also from STALE_ASKING     |                      |     ^
//                                                   | failed        failed |     | asked again
//                                                   v                      |     | after a while
//                                                 STALE <------------------+-----+
//
//   STALE and STALE_ASKING (and FRESH) become ASKING when asked again after stale_until_ms.
//
//   state         query runs   callers                  addresses
//   ASKING        yes          wait                     none
//   FRESH         no           served at once           until fresh_until_ms
//   REFRESHING    yes          wait (`patience` set)    old ones, in reserve
//   STALE         no           served at once           old ones, until stale_until_ms
//   STALE_ASKING  yes          served at once           old ones, until stale_until_ms
//   FAILED        no           refused at once          none
//
// Time passes without timers: a state that has outlived its time is left when the name is next asked for
// (`age`). Answers are delivered by a task in a later turn, never from inside c-ares nor from dns_resolve; so
// callbacks may ask, cancel and close as they like, and c-ares is never entered twice.
//
// c-ares owns its sockets and opens and closes them as it likes; it tells by on_socket. It does not promise
// to read until EAGAIN (TCP in 1.18 does not), so a descriptor is registered anew after every event, which
// makes epoll tell again what is left: level-triggered, at two system calls an event, for a few events an
// hour.
#include "net/dns.h"

#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>

#include <ares.h>

#include "base/mem.h"

#ifdef ARES_OPT_HOSTS_FILE // 1.20
#define HOSTS_FROM_ENVIRONMENT(dns) 0
#else // CARES_HOSTS is the only way there is; tests only
#define HOSTS_FROM_ENVIRONMENT(dns) ((dns)->hosts_file ? ARES_AI_ENVHOSTS : 0)
#endif

enum name_state { NAME_ASKING, NAME_FRESH, NAME_REFRESHING, NAME_STALE, NAME_STALE_ASKING, NAME_FAILED };

struct dns_name {
    struct list used;     // in dns->names, most recently used first
    struct list answered; // in dns->answered while callers wait for the delivery of what is known
    struct list waiting;  // struct dns_query
    struct dns *dns;
    struct address *addresses; // ports are 0
    unsigned count;
    enum name_state state;
    uint64_t fresh_until_ms;
    uint64_t stale_until_ms;
    uint64_t retry_at_ms;  // FAILED, STALE: not asked again before
    struct timer patience; // REFRESHING: callers get the old addresses when it fires
    const char *problem;
    size_t len;
    char host[]; // as first asked for, with a terminator
};

struct dns {
    struct loop *loop;
    ares_channel channel; // NULL until a name is asked for
    struct list sockets;
    struct timer timer; // c-ares's next timeout
    struct list names;
    unsigned name_count;
    unsigned asking; // queries that run in the channel
    struct list answered;
    struct task deliver;
    bool reload; // servers failed: read the configuration anew when no query runs
    bool closing;
    unsigned timeout_ms;
    char *servers;
    char *hosts_file;
};

// A socket of c-ares; dies with the turn in which c-ares closes it.
struct dns_socket {
    struct io io;
    struct list node;
    struct dns *dns;
    int fd;
    unsigned events;
    struct grave grave;
};

static bool runs_query(enum name_state state) {
    return state == NAME_ASKING || state == NAME_REFRESHING || state == NAME_STALE_ASKING;
}

static void forget_addresses(struct dns_name *name) {
    free(name->addresses), name->addresses = NULL;
    name->count = 0;
}

static void set_state(struct dns_name *name, enum name_state next) {
    enum name_state last = name->state;
    switch (next) {
    case NAME_ASKING: assert(last != NAME_REFRESHING); break;
    case NAME_FRESH: assert(runs_query(last)); break;
    case NAME_REFRESHING: assert(last == NAME_FRESH); break;
    case NAME_STALE: assert(last == NAME_REFRESHING || last == NAME_STALE_ASKING); break;
    case NAME_STALE_ASKING: assert(last == NAME_REFRESHING || last == NAME_STALE); break;
    case NAME_FAILED: assert(runs_query(last)); break;
    }
    name->state = next;
    timer_clear(&name->patience);
    if (next == NAME_ASKING || next == NAME_FAILED) {
        forget_addresses(name);
    }
    if (next == NAME_REFRESHING) {
        timer_set(name->dns->loop, &name->patience, DNS_STALE_WAIT_MS);
    }
}

static void name_check(const struct dns_name *name) {
    bool has = name->state != NAME_ASKING && name->state != NAME_FAILED;
    assert(has == (name->count > 0));
    assert(!timer_is_set(&name->patience) || name->state == NAME_REFRESHING);
    assert(name->count <= DNS_ADDRESSES_MAX);
}

// ---- c-ares on the loop ----

// Sets the one timer to c-ares's next timeout; after everything that may have changed it.
static void schedule(struct dns *dns) {
    struct timeval t;
    if (dns->channel && ares_timeout(dns->channel, NULL, &t)) {
        uint64_t ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_usec / 1000;
        timer_set(dns->loop, &dns->timer, ms + 1); // rounded up: early would be for nothing
    } else {
        timer_clear(&dns->timer);
    }
}

static void on_timer(struct timer *timer) {
    struct dns *dns = container_of(timer, struct dns, timer);
    ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    schedule(dns);
}

static void on_ready(struct io *io, unsigned events);

static void socket_watch(struct dns_socket *s) {
    io_detach(s->dns->loop, &s->io);
    // Without memory for it in the kernel the query times out, as if its packet had been lost.
    enum err e = io_open(s->dns->loop, &s->io, s->fd, s->events, on_ready);
    (void)e;
}

static void on_ready(struct io *io, unsigned events) {
    struct dns_socket *s = container_of(io, struct dns_socket, io);
    struct dns *dns = s->dns;
    ares_process_fd(dns->channel, (events & (IO_READ | IO_HUP)) ? s->fd : ARES_SOCKET_BAD,
                    (events & IO_WRITE) ? s->fd : ARES_SOCKET_BAD);
    if (list_linked(&s->node)) { // c-ares did not close it
        socket_watch(s);
    }
    schedule(dns);
}

static void bury_socket(struct grave *grave) { free(container_of(grave, struct dns_socket, grave)); }

static struct dns_socket *socket_find(struct dns *dns, int fd) {
    list_each(node, &dns->sockets) {
        struct dns_socket *s = container_of(node, struct dns_socket, node);
        if (s->fd == fd) {
            return s;
        }
    }
    return NULL;
}

// c-ares opened a socket, wants other events of it, or is about to close it (neither event).
static void on_socket(void *data, ares_socket_t fd, int readable, int writable) {
    struct dns *dns = data;
    struct dns_socket *s = socket_find(dns, fd);
    if (!readable && !writable) {
        if (s) {
            io_detach(dns->loop, &s->io);
            list_unlink(&s->node);
            loop_bury(dns->loop, &s->grave, bury_socket);
        }
        return;
    }
    if (!s) {
        s = xcalloc(1, sizeof *s);
        s->dns = dns;
        s->fd = fd;
        s->io.fd = -1;
        list_push_back(&dns->sockets, &s->node);
    }
    s->events = (readable ? (unsigned)IO_READ : 0u) | (writable ? (unsigned)IO_WRITE : 0u);
    socket_watch(s);
}

static void library_init(void) { (void)ares_library_init(ARES_LIB_INIT_ALL); }

static int channel_init(struct dns *dns) {
    static pthread_once_t once = PTHREAD_ONCE_INIT; // c-ares's own count of initialisations is not atomic
    pthread_once(&once, library_init);
    struct ares_options o = {
        .flags = ARES_FLAG_EDNS, // a few hundred addresses in a datagram instead of a second try by TCP
        .ednspsz = 1232,         // which no path splits (DNS flag day 2020)
        .timeout = (int)dns->timeout_ms,
        .tries = DNS_TRIES,
        .sock_state_cb = on_socket,
        .sock_state_cb_data = dns,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_EDNSPSZ | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
#ifdef ARES_OPT_QUERY_CACHE // 1.31: the cache is here, on the loop's clock
    mask |= ARES_OPT_QUERY_CACHE;
    o.qcache_max_ttl = 0;
#endif
#ifdef ARES_OPT_HOSTS_FILE
    if (dns->hosts_file) {
        mask |= ARES_OPT_HOSTS_FILE;
        o.hosts_path = dns->hosts_file;
    }
#endif
    int status = ares_init_options(&dns->channel, &o, mask);
    if (status == ARES_SUCCESS && dns->servers) {
        status = ares_set_servers_ports_csv(dns->channel, dns->servers);
    }
    return status;
}

static void channel_close(struct dns *dns) {
    if (dns->channel) {
        ares_destroy(dns->channel), dns->channel = NULL;
        timer_clear(&dns->timer);
    }
    dns->reload = false;
}

// ---- Answers ----

static const char *problem_of(int status) {
    switch (status) { // c-ares's, not an enum
    case ARES_ENOTFOUND: return "no such name";
    case ARES_ENODATA: return "the name has no addresses";
    case ARES_ETIMEOUT: return "the name servers did not answer";
    case ARES_ECONNREFUSED: return "no name server can be reached";
    case ARES_ESERVFAIL:
    case ARES_EREFUSED:
    case ARES_ENOTIMP:
    case ARES_EFORMERR:
    case ARES_EBADRESP: return "the name server failed";
    case ARES_EBADNAME: return "not a host name";
    case ARES_ENOMEM: return "out of memory";
    default: return ares_strerror(status);
    }
}

static const struct ares_addrinfo_node *next_of(const struct ares_addrinfo_node *node, int family) {
    while (node && (node->ai_family != family || node->ai_addrlen > sizeof(struct sockaddr_in6))) {
        node = node->ai_next;
    }
    return node;
}

// IPv6 first, then alternating while there are both (RFC 8305 section 4), in the resolver's order within
// each.
static unsigned interleave(const struct ares_addrinfo_node *nodes, struct address out[DNS_ADDRESSES_MAX]) {
    const struct ares_addrinfo_node *six = next_of(nodes, AF_INET6);
    const struct ares_addrinfo_node *four = next_of(nodes, AF_INET);
    unsigned count = 0;
    while ((six || four) && count < DNS_ADDRESSES_MAX) {
        bool take_six = six && (!four || count % 2 == 0);
        const struct ares_addrinfo_node **from = take_six ? &six : &four;
        out[count] = (struct address){.len = (socklen_t)(*from)->ai_addrlen};
        memcpy(&out[count].v6, (*from)->ai_addr, (size_t)(*from)->ai_addrlen);
        *from = next_of((*from)->ai_next, take_six ? AF_INET6 : AF_INET);
        count++;
    }
    return count;
}

// The shortest life among the records that led to the addresses, within our limits.
static uint64_t ttl_ms(const struct ares_addrinfo *info) {
    uint64_t ms = DNS_TTL_MAX_MS;
    for (const struct ares_addrinfo_node *n = info->nodes; n; n = n->ai_next) {
        ms = MIN(ms, (uint64_t)MAX(n->ai_ttl, 0) * 1000);
    }
    for (const struct ares_addrinfo_cname *n = info->cnames; n; n = n->next) {
        ms = MIN(ms, (uint64_t)MAX(n->ttl, 0) * 1000);
    }
    return MAX(ms, (uint64_t)DNS_TTL_MIN_MS);
}

static void answered_well(struct dns_name *name, const struct ares_addrinfo *info) {
    struct address found[DNS_ADDRESSES_MAX];
    forget_addresses(name);
    name->count = interleave(info->nodes, found);
    name->addresses = xmalloc(name->count * sizeof *found);
    memcpy(name->addresses, found, name->count * sizeof *found);
    name->fresh_until_ms = name->dns->loop->now_ms + ttl_ms(info);
    name->stale_until_ms = name->fresh_until_ms + DNS_STALE_MS;
    name->problem = NULL;
    set_state(name, NAME_FRESH);
}

static void answered_badly(struct dns_name *name, int status) {
    name->problem = problem_of(status);
    name->retry_at_ms = name->dns->loop->now_ms + DNS_NEGATIVE_MS;
    set_state(name, name->count == 0 || status == ARES_ENOTFOUND ? NAME_FAILED : NAME_STALE);
    // A laptop in another network, a container with a new resolv.conf: c-ares reads them only when it starts.
    name->dns->reload = name->dns->reload || status == ARES_ETIMEOUT || status == ARES_ECONNREFUSED;
}

// What is known goes to those who wait, in a later turn.
static void deliver_later(struct dns_name *name) {
    struct dns *dns = name->dns;
    if (!list_empty(&name->waiting) && !list_linked(&name->answered)) {
        list_push_back(&dns->answered, &name->answered);
    }
    if (!list_empty(&dns->answered) || dns->reload) {
        loop_defer(dns->loop, &dns->deliver);
    }
}

// From c-ares, possibly inside ares_getaddrinfo already (hosts file).
static void on_answer(void *arg, int status, int timeouts UNUSED, struct ares_addrinfo *info) {
    struct dns_name *name = arg;
    if (name->dns->closing) {
        return; // and there is no info
    }
    assert(runs_query(name->state));
    name->dns->asking--;
    if (status == ARES_SUCCESS && (next_of(info->nodes, AF_INET6) || next_of(info->nodes, AF_INET))) {
        answered_well(name, info);
    } else {
        answered_badly(name, status == ARES_SUCCESS ? ARES_ENODATA : status);
    }
    if (info) {
        ares_freeaddrinfo(info);
    }
    name_check(name);
    deliver_later(name);
}

// The refresh takes longer than callers should wait, while good addresses lie here.
static void on_patience(struct timer *timer) {
    struct dns_name *name = container_of(timer, struct dns_name, patience);
    set_state(name, NAME_STALE_ASKING);
    deliver_later(name);
}

static void give(const struct address *known, unsigned count, uint16_t port, struct address *addresses) {
    for (unsigned i = 0; i < count; i++) {
        addresses[i] = known[i];
        addresses[i].v4.sin_port = htons(port); // at the same place in a sockaddr_in6 (RFC 3493 section 3.3)
    }
}

static void deliver_name(struct dns_name *name) {
    struct list queries;
    struct list *node;
    list_move_all(&queries, &name->waiting);
    list_init(&name->waiting);
    // Kept here: a callback may ask for new names, and this one be dropped for them.
    const char *problem = name->problem;
    unsigned count = name->count;
    struct address known[DNS_ADDRESSES_MAX];
    struct address addresses[DNS_ADDRESSES_MAX];
    give(name->addresses, count, 0, known);
    while ((node = list_pop_front(&queries))) {
        struct dns_query *q = container_of(node, struct dns_query, node);
        q->name = NULL;
        q->problem = count ? NULL : problem;
        give(known, count, q->port, addresses);
        q->on_resolved(q, count ? OK : ERR_DNS, addresses, count);
    }
}

static void on_deliver(struct task *task) {
    struct dns *dns = container_of(task, struct dns, deliver);
    struct list *node;
    while ((node = list_pop_front(&dns->answered))) {
        deliver_name(container_of(node, struct dns_name, answered));
    }
    if (dns->reload && dns->asking == 0) {
        channel_close(dns);
    }
}

// ---- Names ----

static void ask(struct dns_name *name, enum name_state state) {
    struct dns *dns = name->dns;
    const struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        // Sorting (RFC 6724) would connect a socket to each; what is unreachable fails at once when dialled.
        .ai_flags = ARES_AI_NOSORT | HOSTS_FROM_ENVIRONMENT(dns),
    };
    set_state(name, state);
    dns->asking++;
    int status = dns->channel ? ARES_SUCCESS : channel_init(dns);
    if (status == ARES_SUCCESS) {
        ares_getaddrinfo(dns->channel, name->host, NULL, &hints, on_answer, name);
    } else {
        on_answer(name, status, 0, NULL);
        channel_close(dns);
    }
    schedule(dns);
}

// Leaves states that have outlived their time, now that the name is asked for.
static void age(struct dns_name *name) {
    uint64_t now = name->dns->loop->now_ms;
    bool too_old = name->count && now >= name->stale_until_ms;
    name_check(name);
    switch (name->state) {
    case NAME_ASKING:
    case NAME_REFRESHING: break;
    case NAME_FRESH:
        if (now >= name->fresh_until_ms) {
            ask(name, too_old ? NAME_ASKING : NAME_REFRESHING);
        }
        break;
    case NAME_STALE:
        if (too_old || now >= name->retry_at_ms) {
            ask(name, too_old ? NAME_ASKING : NAME_STALE_ASKING);
        }
        break;
    case NAME_STALE_ASKING:
        if (too_old) {
            set_state(name, NAME_ASKING);
        }
        break;
    case NAME_FAILED:
        if (now >= name->retry_at_ms) {
            ask(name, NAME_ASKING);
        }
        break;
    }
}

static void name_free(struct dns_name *name) {
    assert(list_empty(&name->waiting) && !list_linked(&name->answered));
    timer_clear(&name->patience);
    list_unlink(&name->used);
    name->dns->name_count--;
    forget_addresses(name);
    free(name);
}

static struct dns_name *name_find(struct dns *dns, struct str host) {
    list_each(node, &dns->names) { // a hot name is in front
        struct dns_name *name = container_of(node, struct dns_name, used);
        if (str_ieq(str_from(name->host, name->len), host)) {
            return name;
        }
    }
    return NULL;
}

// Drops the least recently used name that nobody waits for.
static bool make_room(struct dns *dns) {
    for (struct list *node = dns->names.prev; node != &dns->names; node = node->prev) {
        struct dns_name *name = container_of(node, struct dns_name, used);
        if (!runs_query(name->state) && list_empty(&name->waiting)) {
            name_free(name);
            return true;
        }
    }
    return false;
}

// As FAILED with its time up, so that it is asked for at once.
static struct dns_name *name_add(struct dns *dns, struct str host) {
    if (dns->name_count >= DNS_NAMES_MAX && !make_room(dns)) {
        return NULL;
    }
    struct dns_name *name = xcalloc(1, sizeof *name + host.len + 1);
    memcpy(name->host, host.ptr, host.len);
    name->len = host.len;
    name->dns = dns;
    name->state = NAME_FAILED;
    name->patience.on_timer = on_patience;
    list_init(&name->waiting);
    list_init(&name->answered);
    list_push_front(&dns->names, &name->used);
    dns->name_count++;
    return name;
}

// 253 bytes and a root dot (RFC 1035 section 2.3.4); printable ASCII without blanks.
static bool may_be_name(struct str host) {
    bool good = host.len > 0 && host.len <= 254;
    for (size_t i = 0; good && i < host.len; i++) {
        good = host.ptr[i] > ' ' && host.ptr[i] < 127;
    }
    return good;
}

// ---- Asked from outside ----

struct dns *dns_create(struct loop *loop, const struct dns_options *options) {
    struct dns *dns = xcalloc(1, sizeof *dns);
    static const struct dns_options none;
    const struct dns_options *o = options ? options : &none;
    dns->loop = loop;
    dns->timeout_ms = o->timeout_ms ? o->timeout_ms : DNS_TIMEOUT_MS;
    dns->servers = o->servers ? str_dup(str_c(o->servers)) : NULL;
    dns->hosts_file = o->hosts_file ? str_dup(str_c(o->hosts_file)) : NULL;
    dns->timer.on_timer = on_timer;
    dns->deliver.run = on_deliver;
    list_init(&dns->sockets);
    list_init(&dns->names);
    list_init(&dns->answered);
#ifndef ARES_OPT_HOSTS_FILE
    if (dns->hosts_file) {
        (void)setenv("CARES_HOSTS", dns->hosts_file, 1);
    }
#endif
    return dns;
}

static void cancel_waiting(struct dns_name *name) {
    struct list *node;
    while ((node = list_pop_front(&name->waiting))) {
        struct dns_query *q = container_of(node, struct dns_query, node);
        q->name = NULL;
        q->problem = err_text(ERR_CANCELLED);
        q->on_resolved(q, ERR_CANCELLED, NULL, 0);
    }
}

void dns_destroy(struct dns *dns) {
    if (!dns) {
        return;
    }
    dns->closing = true;
    task_cancel(&dns->deliver);
    list_each(node, &dns->names) { cancel_waiting(container_of(node, struct dns_name, used)); }
    channel_close(dns);
    assert(list_empty(&dns->sockets));
    list_each(node, &dns->names) {
        struct dns_name *name = container_of(node, struct dns_name, used);
        list_unlink(&name->answered);
        name_free(name);
    }
    free(dns->servers);
    free(dns->hosts_file);
    free(dns);
}

enum err dns_resolve(struct dns *dns, struct dns_query *q, struct str host, uint16_t port, struct address *addresses,
                     unsigned *count) {
    list_init(&q->node);
    q->name = NULL;
    q->port = port;
    q->problem = NULL;
    *count = 0;
    if (address_parse(host, port, addresses) == OK) {
        *count = 1;
        return OK;
    }
    if (dns->closing || !may_be_name(host)) {
        q->problem = dns->closing ? err_text(ERR_CANCELLED) : "not a host name";
        return dns->closing ? ERR_CANCELLED : ERR_DNS;
    }
    struct dns_name *name = name_find(dns, host);
    name = name ? name : name_add(dns, host);
    if (!name) {
        q->problem = "too many names at once";
        return ERR_FULL;
    }
    list_unlink(&name->used);
    list_push_front(&dns->names, &name->used);
    age(name);
    switch (name->state) {
    case NAME_ASKING:
    case NAME_REFRESHING:
        q->name = name;
        list_push_back(&name->waiting, &q->node);
        return ERR_AGAIN;
    case NAME_FRESH:
    case NAME_STALE:
    case NAME_STALE_ASKING:
        give(name->addresses, name->count, port, addresses);
        *count = name->count;
        return OK;
    case NAME_FAILED: break;
    }
    q->problem = name->problem;
    return ERR_DNS;
}

void dns_cancel(struct dns_query *q) {
    list_unlink(&q->node);
    q->name = NULL;
}
