// SPDX-License-Identifier: MIT
// Every mode is a row: who may begin at once, who is next when one leaves. What they share is here: the queues, the
// counts, and that nobody is started inside of somebody else's start (a hundred thousand calls of no length would
// otherwise start one another a hundred thousand frames deep).
//
// cpu: the clock of the calls is a wheel of its own, in the time that each of them has had: with n of them on N cores
// it runs at N/n of the real one, never faster. So sharing costs nothing per call: whoever comes or goes changes the
// speed of one clock. Between two moments at which something happens the speed is constant, and they are visited one
// by one, so what comes out is exact however late the loop looks.
#include "mock/capacity.h"

#include <assert.h>

#include "base/mem.h"
#include "mock/draw.h"

enum { SEATS_MAX = 100 * 1000, RATE_MAX = 1000 * 1000, SESSION_GROUPS = 1024, NS_PER_MS = 1000000 };

static const uint64_t PERIOD_MAX_MS = (uint64_t)24 * 3600 * 1000;

enum entry { ENTER_NOW, ENTER_LATER, ENTER_NEVER };

struct capacity_mode {
    struct str name;
    bool (*read)(struct str rest, struct capacity_options *o); // what is behind the name and its colon; false: not that
    const char *wanted;
    enum capacity_key key;
    bool seats; // there are numbered ones
    enum entry (*enter)(struct capacity *c, struct claim *q);
    struct claim *(*next)(struct capacity *c, const struct claim *left); // NULL: nobody
    void (*on_timer)(struct capacity *c);
};

// Claims that share seats.
struct group {
    struct list waiting;
    struct list served;
    unsigned waits;
    unsigned free;   // seats
    unsigned *seats; // the numbers of the free ones, the next one last; NULL: there are no seats
};

struct capacity {
    const struct capacity_mode *mode;
    struct capacity_options options;
    struct loop *loop;
    const struct capacity_events *events;
    struct capacity_counts counts;
    struct group *groups;
    unsigned group_count;
    unsigned *numbers;    // of all groups' free seats
    struct list starting; // claims that have yet to be told
    bool telling;
    bool closed;
    uint64_t seed;
    uint64_t lots;      // drawn so far
    struct timer timer; // lock: the end of the share; bucket: the next token; cpu: the next thing to happen
    uint64_t full_ns;   // bucket: when it will be full again (the theoretical arrival time of GCRA, less the size)
    struct wheel wheel; // cpu: the calls' clock
    uint64_t had_ns;    // cpu: what the wheel's time is, to the nanosecond
    uint64_t real_ns;   // cpu: when it was that
    bool catching_up;
};

// ---- time

static uint64_t now_ns(const struct capacity *c) { return c->loop->clock->now_ns(c->loop->clock); }

static uint64_t ceil_ms(uint64_t ns) { return (ns + NS_PER_MS - 1) / NS_PER_MS; }

static void catch_up(struct capacity *c);

static bool shares_cpu(const struct capacity *c) { return c->mode->on_timer == catch_up; }

// Rounded up: nothing begins, or is over, early.
static uint64_t clock_ms(const struct capacity *c) { return ceil_ms(shares_cpu(c) ? c->had_ns : now_ns(c)); }

uint64_t capacity_now_ms(const struct capacity *c) { return shares_cpu(c) ? c->wheel.now_ms : c->loop->now_ms; }

// ---- starting and leaving

static struct group *group_of(struct capacity *c, const struct claim *q) { return &c->groups[q->key % c->group_count]; }

static void claim_set_state(struct claim *q, enum claim_state state) { q->state = state; }

static struct claim *claim_of(struct list *node) { return container_of(node, struct claim, node); }

// When the holder of a lock that is not for all of its time gives it back.
static void limit_share(struct capacity *c, const struct claim *q) {
    if (c->options.of_us) {
        unsigned __int128 held = (unsigned __int128)c->events->work_us(q) * c->options.held_us / c->options.of_us;
        wheel_set(&c->loop->wheel, &c->timer, q->start_ms + (uint64_t)((held + 999) / 1000));
    }
}

static void tell_starting(struct capacity *c) {
    struct list *node;
    if (c->telling) {
        return; // somebody further up does
    }
    c->telling = true;
    while ((node = list_pop_front(&c->starting))) {
        struct claim *q = claim_of(node);
        claim_set_state(q, CLAIM_SERVED);
        list_push_back(&group_of(c, q)->served, node);
        limit_share(c, q);
        c->events->on_start(q);
    }
    c->telling = false;
}

// `at_ms` is when it could first have been.
static void start(struct capacity *c, struct claim *q, uint64_t at_ms) {
    struct group *g = group_of(c, q);
    timer_clear(&q->timer);
    q->seat = g->seats ? g->seats[--g->free] : 0;
    q->start_ms = MAX(q->start_ms, at_ms);
    claim_set_state(q, CLAIM_STARTING);
    list_push_back(&c->starting, &q->node);
    c->counts.in_service++;
    c->counts.in_service_most = MAX(c->counts.in_service_most, c->counts.in_service);
    tell_starting(c);
}

static void stop_waiting(struct capacity *c, struct claim *q) {
    timer_clear(&q->timer);
    list_unlink(&q->node);
    group_of(c, q)->waits--;
    c->counts.waiting--;
    claim_set_state(q, CLAIM_NONE);
}

static void wait(struct capacity *c, struct claim *q) {
    struct group *g = group_of(c, q);
    claim_set_state(q, CLAIM_WAITING);
    list_push_back(&g->waiting, &q->node);
    g->waits++;
    c->counts.waiting++;
    c->counts.waiting_most = MAX(c->counts.waiting_most, c->counts.waiting);
}

bool capacity_arrive(struct capacity *c, struct claim *q) {
    assert(q->state == CLAIM_NONE);
    catch_up(c);
    q->start_ms = clock_ms(c);
    switch (c->closed ? ENTER_NEVER : c->mode->enter(c, q)) {
    case ENTER_NOW: start(c, q, 0); return true;
    case ENTER_LATER: wait(c, q); return true;
    case ENTER_NEVER: break;
    }
    return false;
}

static void start_waiting(struct capacity *c, struct claim *q, uint64_t at_ms) {
    stop_waiting(c, q);
    start(c, q, at_ms);
}

// Out of service: the seat is free, and whoever is next has it.
static void end_service(struct capacity *c, struct claim *q, uint64_t since_ms) {
    struct group *g = group_of(c, q);
    bool told = q->state == CLAIM_SERVED;
    list_unlink(&q->node);
    claim_set_state(q, CLAIM_NONE);
    if (q->seat) {
        g->seats[g->free++] = q->seat;
    }
    c->counts.in_service--;
    if (told) {
        c->events->on_end(q);
    }
    struct claim *next = c->closed || !c->mode->next ? NULL : c->mode->next(c, q);
    if (next) {
        start_waiting(c, next, MAX(q->start_ms, MIN(since_ms, clock_ms(c))));
    }
}

void capacity_leave(struct capacity *c, struct claim *q, uint64_t since_ms) {
    catch_up(c);
    switch (q->state) {
    case CLAIM_NONE: break;
    case CLAIM_WAITING: stop_waiting(c, q); break;
    case CLAIM_STARTING:
    case CLAIM_SERVED: end_service(c, q, since_ms); break;
    }
    catch_up(c);
}

// ---- unlimited, cap

static enum entry enter_always(struct capacity *c UNUSED, struct claim *q UNUSED) { return ENTER_NOW; }

static enum entry enter_or_go(struct capacity *c, struct claim *q) {
    return group_of(c, q)->free ? ENTER_NOW : ENTER_NEVER;
}

// ---- lock, pool, workers: seats and a queue

static enum entry enter_seat(struct capacity *c, struct claim *q) {
    return group_of(c, q)->free ? ENTER_NOW : ENTER_LATER;
}

// One of those that wait, by lot: from the nearer end.
static struct list *draw_lot(struct capacity *c, const struct group *g) {
    uint64_t lot = draw_bits(c->seed, c->lots++) % g->waits;
    struct list *node = g->waiting.next;
    if (lot < g->waits / 2) {
        for (; lot; lot--) {
            node = node->next;
        }
        return node;
    }
    node = g->waiting.prev;
    for (lot = g->waits - 1 - lot; lot; lot--) {
        node = node->prev;
    }
    return node;
}

static struct claim *next_seat(struct capacity *c, const struct claim *left) {
    struct group *g = group_of(c, left);
    if (list_empty(&g->waiting)) {
        return NULL;
    }
    switch (c->options.order) {
    case ORDER_FIFO: return claim_of(g->waiting.next);
    case ORDER_LIFO: return claim_of(g->waiting.prev);
    case ORDER_RANDOM: break;
    }
    return claim_of(draw_lot(c, g));
}

// A lock's share of its holder's time is over.
static void on_share_over(struct capacity *c) {
    struct list *served = &c->groups[0].served;
    if (!list_empty(served)) {
        end_service(c, claim_of(served->next), c->timer.due_ms);
    }
}

// ---- poll: a flag, and everybody looks at it by himself

static enum entry enter_poll(struct capacity *c, struct claim *q) {
    if (group_of(c, q)->free) {
        return ENTER_NOW;
    }
    wheel_set(&c->loop->wheel, &q->timer, q->start_ms + c->options.period_ms);
    return ENTER_LATER;
}

void capacity_look(struct capacity *c, struct claim *q) {
    uint64_t at_ms = q->timer.due_ms;
    assert(q->state == CLAIM_WAITING);
    if (group_of(c, q)->free && !c->closed) {
        start_waiting(c, q, at_ms);
    } else {
        wheel_set(&c->loop->wheel, &q->timer, at_ms + c->options.period_ms);
    }
}

// ---- bucket: GCRA, whose one number is when the bucket will be full again

static uint64_t token_ns(const struct capacity *c) {
    uint64_t size_ns = (c->options.seats - 1) * c->options.interval_ns;
    return c->full_ns > size_ns ? c->full_ns - size_ns : 0;
}

static void take_token(struct capacity *c, uint64_t now) { c->full_ns = MAX(c->full_ns, now) + c->options.interval_ns; }

static enum entry enter_bucket(struct capacity *c, struct claim *q) {
    struct group *g = group_of(c, q);
    uint64_t now = now_ns(c);
    if (list_empty(&g->waiting) && token_ns(c) <= now) {
        take_token(c, now);
        return ENTER_NOW;
    }
    if (list_empty(&g->waiting)) {
        wheel_set(&c->loop->wheel, &c->timer, ceil_ms(token_ns(c)));
    }
    return ENTER_LATER;
}

static void on_token(struct capacity *c) {
    struct list *waiting = &c->groups[0].waiting;
    while (!list_empty(waiting) && !c->closed) {
        uint64_t at = token_ns(c);
        if (at > now_ns(c)) {
            wheel_set(&c->loop->wheel, &c->timer, ceil_ms(at));
            return;
        }
        take_token(c, at);
        start_waiting(c, claim_of(waiting->next), ceil_ms(at));
    }
}

// ---- session: keys in buckets

static struct claim *find_key(const struct list *in, uint64_t key) {
    list_each(node, in) {
        if (claim_of(node)->key == key) {
            return claim_of(node);
        }
    }
    return NULL;
}

static enum entry enter_session(struct capacity *c, struct claim *q) {
    const struct group *g = group_of(c, q);
    bool alone = !q->key || (!find_key(&g->served, q->key) && !find_key(&c->starting, q->key));
    return alone ? ENTER_NOW : ENTER_LATER;
}

static struct claim *next_session(struct capacity *c, const struct claim *left) {
    return find_key(&group_of(c, left)->waiting, left->key);
}

// ---- cpu

// From the time that each call gets to the time that passes (rounded up), and back.
static uint64_t to_real_ns(const struct capacity *c, uint64_t ns) {
    unsigned n = MAX(c->counts.in_service, c->options.seats);
    return (uint64_t)(((unsigned __int128)ns * n + c->options.seats - 1) / c->options.seats);
}

static uint64_t from_real_ns(const struct capacity *c, uint64_t ns) {
    unsigned n = MAX(c->counts.in_service, c->options.seats);
    return (uint64_t)((unsigned __int128)ns * c->options.seats / n);
}

// The real time at which the calls' clock will next have something to do; UINT64_MAX: never, as things are.
static uint64_t next_real_ns(struct capacity *c) {
    uint64_t next_ms = wheel_next_ms(&c->wheel);
    uint64_t due = 0;
    if (next_ms == UINT64_MAX) {
        return UINT64_MAX;
    }
    uint64_t wait = to_real_ns(c, next_ms * NS_PER_MS - c->had_ns);
    return __builtin_add_overflow(c->real_ns, wait, &due) ? UINT64_MAX : due;
}

// Brings the calls' clock up to now, through each moment at which its speed may change.
static void catch_up(struct capacity *c) {
    if (!shares_cpu(c) || c->catching_up) {
        return;
    }
    c->catching_up = true;
    uint64_t now = now_ns(c);
    for (uint64_t at = next_real_ns(c); at <= now; at = next_real_ns(c)) {
        c->had_ns = wheel_next_ms(&c->wheel) * NS_PER_MS;
        c->real_ns = at;
        wheel_advance(&c->wheel, c->had_ns / NS_PER_MS);
    }
    c->had_ns += from_real_ns(c, now - c->real_ns);
    c->real_ns = now;
    wheel_advance(&c->wheel, c->had_ns / NS_PER_MS);
    uint64_t next = next_real_ns(c);
    if (next == UINT64_MAX) {
        timer_clear(&c->timer);
    } else {
        wheel_set(&c->loop->wheel, &c->timer, ceil_ms(next));
    }
    c->catching_up = false;
}

void capacity_timer_set(struct capacity *c, struct claim *q, uint64_t due_ms) {
    if (shares_cpu(c)) {
        wheel_set(&c->wheel, &q->timer, due_ms);
        catch_up(c);
    } else {
        wheel_set(&c->loop->wheel, &q->timer, due_ms);
    }
}

// ---- the modes, and how they are written

static bool read_count(struct str s, unsigned most, unsigned *n) {
    uint64_t read = 0;
    if (parse_u64(s, &read) != OK || read < 1 || read > most) {
        return false;
    }
    *n = (unsigned)read;
    return true;
}

static bool read_nothing(struct str rest, struct capacity_options *o UNUSED) { return rest.ptr == NULL; }

static bool read_seats(struct str rest, struct capacity_options *o) { return read_count(rest, SEATS_MAX, &o->seats); }

static bool read_lock(struct str rest, struct capacity_options *o) {
    size_t slash = str_find(rest, '/');
    o->seats = 1;
    if (!rest.ptr) {
        return true;
    }
    return parse_duration_us(str_first(rest, slash), &o->held_us) == OK &&
           parse_duration_us(str_skip(rest, slash + 1), &o->of_us) == OK && o->held_us && o->held_us <= o->of_us;
}

static bool read_pool(struct str rest, struct capacity_options *o) {
    static const struct {
        struct str name;
        enum capacity_order order;
    } orders[] = {{STR_INIT("fifo"), ORDER_FIFO}, {STR_INIT("lifo"), ORDER_LIFO}, {STR_INIT("random"), ORDER_RANDOM}};
    size_t colon = str_find(rest, ':');
    if (!read_seats(str_first(rest, colon), o)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        if (str_eq(str_skip(rest, colon + 1), orders[i].name)) {
            o->order = orders[i].order;
            return true;
        }
    }
    return colon == rest.len;
}

static bool read_workers(struct str rest, struct capacity_options *o) {
    size_t x = str_find(rest, 'x');
    return read_count(str_first(rest, x), SEATS_MAX, &o->groups) &&
           read_count(str_skip(rest, x + 1), SEATS_MAX / o->groups, &o->seats);
}

static bool read_poll(struct str rest, struct capacity_options *o) {
    o->seats = 1;
    return parse_duration_ms(rest, &o->period_ms) == OK && o->period_ms >= 1 && o->period_ms <= PERIOD_MAX_MS;
}

static bool read_bucket(struct str rest, struct capacity_options *o) {
    static const struct {
        struct str name;
        uint64_t ns;
    } units[] = {{STR_INIT("s"), 1000000000}, {STR_INIT("m"), 60000000000}, {STR_INIT("h"), 3600000000000}};
    size_t slash = str_find(rest, '/');
    struct str unit = str_skip(rest, slash + 1);
    size_t colon = str_find(unit, ':');
    unsigned rate = 0;
    o->seats = 1;
    if (!read_count(str_first(rest, slash), RATE_MAX, &rate) ||
        (colon < unit.len && !read_count(str_skip(unit, colon + 1), RATE_MAX, &o->seats))) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (str_eq(str_first(unit, colon), units[i].name)) {
            o->interval_ns = units[i].ns / rate;
            return true;
        }
    }
    return false;
}

static const struct capacity_mode modes[] = {
    {STR_INIT("unlimited"), read_nothing, "unlimited with nothing behind it", KEY_NONE, false, enter_always, NULL,
     NULL},
    {STR_INIT("lock"), read_lock, "a lock for all or some of a call's time, as lock or lock:1s/5s", KEY_NONE, true,
     enter_seat, next_seat, on_share_over},
    {STR_INIT("pool"), read_pool, "1 to 100000 seats and perhaps fifo, lifo or random, as pool:6 or pool:6:lifo",
     KEY_NONE, true, enter_seat, next_seat, NULL},
    {STR_INIT("workers"), read_workers, "workers and the seats of each, at most 100000 in all, as workers:4x2",
     KEY_CALL, true, enter_seat, next_seat, NULL},
    {STR_INIT("cpu"), read_seats, "1 to 100000 cores, as cpu:2", KEY_NONE, false, enter_always, NULL, catch_up},
    {STR_INIT("poll"), read_poll, "how often to look, from 1ms to 24h, as poll:100ms", KEY_NONE, true, enter_poll, NULL,
     NULL},
    {STR_INIT("bucket"), read_bucket,
     "calls per s, m or h and perhaps the bucket's size, as bucket:10/s or bucket:10/s:5", KEY_NONE, false,
     enter_bucket, NULL, on_token},
    {STR_INIT("cap"), read_seats, "1 to 100000 calls at once, as cap:10", KEY_NONE, true, enter_or_go, NULL, NULL},
    {STR_INIT("session"), read_nothing, "session with nothing behind it", KEY_SESSION, false, enter_session,
     next_session, NULL},
};

const char *capacity_parse(struct str text, struct capacity_options *options) {
    size_t colon = str_find(text, ':');
    struct str rest = colon < text.len ? str_skip(text, colon + 1) : (struct str){NULL, 0};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (str_eq(str_first(text, colon), modes[i].name)) {
            struct capacity_options read = {.mode = &modes[i], .groups = 1};
            if (!modes[i].read(rest, &read)) {
                return modes[i].wanted;
            }
            *options = read;
            return NULL;
        }
    }
    return "unlimited, lock, lock:1s/5s, pool:6, workers:4x2, cpu:2, poll:100ms, bucket:10/s:5, cap:10 or session";
}

static const struct capacity_mode *mode_of(const struct capacity_options *o) { return o->mode ? o->mode : &modes[0]; }

const char *capacity_name(const struct capacity_options *o) { return mode_of(o)->name.ptr; }

enum capacity_key capacity_key(const struct capacity_options *o) { return mode_of(o)->key; }

// ---- life

static void on_timer(struct timer *timer) {
    struct capacity *c = container_of(timer, struct capacity, timer);
    c->mode->on_timer(c);
}

// All of a group's seats are free, the lowest number is taken first.
static void make_seats(struct capacity *c) {
    unsigned seats = c->options.seats;
    c->numbers = xcalloc((size_t)c->group_count * seats, sizeof *c->numbers);
    for (unsigned i = 0; i < c->group_count; i++) {
        struct group *g = &c->groups[i];
        g->free = seats;
        g->seats = c->numbers + (size_t)i * seats;
        for (unsigned k = 0; k < seats; k++) {
            g->seats[k] = i * seats + seats - k;
        }
    }
}

struct capacity *capacity_create(struct loop *loop, const struct capacity_options *options, uint64_t seed,
                                 const struct capacity_events *events) {
    struct capacity *c = xcalloc(1, sizeof *c);
    c->mode = mode_of(options);
    c->options = *options;
    c->loop = loop;
    c->events = events;
    c->seed = seed;
    c->timer.on_timer = on_timer;
    c->group_count = c->mode->key == KEY_SESSION ? SESSION_GROUPS : MAX(options->groups, 1u);
    c->groups = xcalloc(c->group_count, sizeof *c->groups);
    for (unsigned i = 0; i < c->group_count; i++) {
        list_init(&c->groups[i].waiting);
        list_init(&c->groups[i].served);
    }
    if (c->mode->seats) {
        make_seats(c);
    }
    list_init(&c->starting);
    wheel_init(&c->wheel, 0);
    c->real_ns = now_ns(c);
    return c;
}

void capacity_close(struct capacity *c) {
    c->closed = true;
    timer_clear(&c->timer);
}

void capacity_destroy(struct capacity *c) {
    if (c) {
        timer_clear(&c->timer);
        free(c->numbers);
        free(c->groups);
        free(c);
    }
}

void capacity_reset(struct capacity *c) {
    c->counts.in_service_most = c->counts.in_service;
    c->counts.waiting_most = c->counts.waiting;
}

const struct capacity_counts *capacity_counts(const struct capacity *c) { return &c->counts; }
