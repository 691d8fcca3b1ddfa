// SPDX-License-Identifier: MIT
// How many calls are served at once, and what happens to the others: the mechanisms that a prober has to tell apart,
// as real ones, on the loop's clock.
//
//   unlimited            all of them
//   lock                 one, in the order of their arrival
//   lock:S/T             one, for S of every T of its time: the first part; the rest it goes on beside the others
//   pool:N[:ORDER]       N; who waits is served first come (fifo), last come (lifo) or by lot (random)
//   workers:WxP          P by each of W workers; a call is bound to one by lot when it arrives, wherever seats are free
//   cpu:N                all, on N cores: a call needs its latency as time on one, all share alike, none has two
//   poll:PERIOD          one; who waits looks every PERIOD, from its own arrival on, whether it is its turn
//   bucket:R/UNIT[:B]    B at once, then R each second, minute or hour (s, m, h), first come first served
//   cap:N                N; more are refused
//   session              one of each session, in order; calls without a session do not wait
//
// A call is in service from its start until it has been sent (or its client has left). A seat that becomes free at
// the time it was due is taken at that very time, however late the loop is: n rounds of a lock take n times as long as
// one, not n times and a bit. The journal has what was seen: where the loop was late to begin a service, that one looks
// shorter by as much.
#pragma once
#include "base/str.h"
#include "ev/loop.h"

struct capacity_mode; // a row of the table in capacity.c

enum capacity_order { ORDER_FIFO, ORDER_LIFO, ORDER_RANDOM };

struct capacity_options {             // zeroed: unlimited
    const struct capacity_mode *mode; // NULL: unlimited
    unsigned groups;                  // that share nothing: workers; else 1
    unsigned seats;                   // of each group; cores; a bucket's size
    enum capacity_order order;
    uint64_t held_us;     // lock: so much ...
    uint64_t of_us;       // ... of so much of a call's time; 0: all of it
    uint64_t period_ms;   // poll
    uint64_t interval_ns; // bucket
};

// NULL: understood. Else what is wanted instead, for people.
const char *capacity_parse(struct str text, struct capacity_options *options);
// "pool"; never NULL.
const char *capacity_name(const struct capacity_options *options);

enum claim_state {
    CLAIM_NONE,     // not (any more) in service
    CLAIM_WAITING,  // `node` is in its group's queue
    CLAIM_STARTING, // about to be told
    CLAIM_SERVED,   // has been told; `node` is in its group's list of them
};

// A call, as far as this is concerned; embedded in it, zeroed but for timer.on_timer. While it is in service its timer
// is its owner's, to be set with capacity_timer_set; if it fires while it waits, that is for capacity_look.
struct claim {
    struct timer timer;
    struct list node;
    uint64_t key;      // what it is bound by: see capacity_key
    uint64_t start_ms; // CLAIM_WAITING: when it arrived; later: when its service began. On the capacity's clock
    unsigned seat;     // from 1, the same one for no two at once; 0: this kind of capacity has none
    enum claim_state state;
};

// What the key of a claim is made of: a session's is not 0.
enum capacity_key { KEY_NONE, KEY_CALL, KEY_SESSION };
enum capacity_key capacity_key(const struct capacity_options *options);

struct capacity;
struct capacity_events {
    // Its service begins; q->start_ms says since when. The claim may leave right away.
    void (*on_start)(struct claim *q);
    // Its service is over: it left, or its share of the lock is used up while it goes on.
    void (*on_end)(struct claim *q);
    // How long it will be in service, on the capacity's clock; only asked when less than all of it counts.
    uint64_t (*work_us)(const struct claim *q);
};

struct capacity_counts {
    unsigned in_service;
    unsigned waiting;
    unsigned in_service_most; // at once, since the last capacity_reset
    unsigned waiting_most;
};

struct capacity *capacity_create(struct loop *loop, const struct capacity_options *options, uint64_t seed,
                                 const struct capacity_events *events);
// Nobody is started any more: before its claims leave for good.
void capacity_close(struct capacity *c);
void capacity_destroy(struct capacity *c);
void capacity_reset(struct capacity *c); // the counts
const struct capacity_counts *capacity_counts(const struct capacity *c);

// A call arrives. It is started, perhaps inside of this, or waits, or is refused (false).
MUSTCHECK bool capacity_arrive(struct capacity *c, struct claim *q);
// The timer of a claim that waits has fired.
void capacity_look(struct capacity *c, struct claim *q);
// A call is over, or its client has left: its place is free, from `since_ms` on (on the capacity's clock; never before
// its service began, never in the future), and whoever is next is started, perhaps inside of this.
void capacity_leave(struct capacity *c, struct claim *q, uint64_t since_ms);

// The clock of the latencies: the loop's, but for `cpu`, where it is the time that each call has had so far.
uint64_t capacity_now_ms(const struct capacity *c);
void capacity_timer_set(struct capacity *c, struct claim *q, uint64_t due_ms);
