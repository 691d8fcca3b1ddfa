// SPDX-License-Identifier: MIT
// Where tapes are found again: each worker has a shelf, all shelves share one table of keys. See docs/internals/tape.md.
//
// Every tape has a place on its worker's shelf from its call's beginning, and an id that leads there: place and
// generation, encrypted (AES-128 with a key of this process), so that an id is 128 bits nobody can guess, costs no
// memory, and one that was once given out is told from one that never was.
//
// A tape that is *kept* stays after its end for a time, within limits; keys (an Idempotency-Key, an upstream's name for
// its answer) lead to it. What becomes of a running one that nobody reads is its `disconnect`.
//
// A shelf belongs to its worker's thread. The keys are behind one lock: they are asked for resumable calls only, so that
// the lock is not on a plain relay's way (docs/adr/0005-one-table-of-keys.md).
#pragma once
#include "base/map.h"
#include "ev/loop.h"
#include "net/digest.h"
#include "tape/tape.h"

enum { TAPE_ID_LEN = 26 };
struct tape_id {
    char text[TAPE_ID_LEN + 1];
};

// What becomes of a running tape when its last reader has left.
enum tape_disconnect { TAPE_ENDS, TAPE_WAITS, TAPE_GOES_ON };

struct shelf;
struct shelf_key;

// What is known of a kept tape beside its bytes. Set by whoever keeps it: disconnect and what follows.
struct tape_kept {
    struct shelf *shelf;
    struct tape *tape;
    struct list node;   // in shelf->finished
    struct timer timer; // running without readers: until it is stopped; ended: until it goes
    struct list feeds;  // readers for other workers (tape/mirror.c)
    struct shelf_key *keys;
    struct digest tenant;     // who made it
    struct digest key, asked; // its Idempotency-Key and what was asked, for a store; zero: none
    enum tape_disconnect disconnect;
    uint64_t wait_ms;        // of TAPE_WAITS
    size_t cost;             // bytes it counts for; 0: not finished yet
    uint64_t stored_until_s; // a store has it until then, and its keys stay; 0: no store has it
    bool job;                // it was promised to somebody, and a store was given what was asked for
    bool replay_failures;    // the keys stay also when it failed
    bool brief;              // goes with its end: it was kept for those who come while it runs
};

struct shelves_options {
    unsigned count;       // shelves
    uint64_t keep_ms;     // after a tape's end
    uint64_t total_bytes; // of all finished tapes together
};

struct shelves {
    struct shelves_options options;
    unsigned char secret[CIPHER_BLOCK]; // of the ids
    _Atomic uint64_t finished_bytes;
    _Atomic bool closing;
    _Atomic unsigned idle;  // workers that have nothing to do any more, ever
    _Atomic bool rerunning; // jobs that a store has as interrupted are being run again (gateway/jobs.c)
    struct shelf **shelves; // options.count
    struct shelf_table *table;
};

struct shelf_slot {
    struct tape *tape; // NULL: free
    uint32_t generation;
    union {
        uint32_t next_free;
        uint32_t tenant; // as shelf_add has it
    };
};

struct shelf {
    struct shelves *all;
    struct loop *loop;
    unsigned number;
    struct cipher *cipher;
    struct shelf_slot *slots;
    uint32_t slot_count, free_slot;
    unsigned running;     // tapes that have not ended
    struct list finished; // struct tape_kept, the oldest end first
    struct map mirrors;   // tape/mirror.c: of tapes on other shelves
    uint64_t mirror_serial;
    unsigned feeds; // to other shelves
    // A kept tape has ended. May be NULL.
    void (*on_ended)(struct shelf *shelf, struct tape_kept *kept);
    void *owner;
};

// Made before the workers, destroyed after them.
struct shelves *shelves_create(const struct shelves_options *options);
void shelves_destroy(struct shelves *all);
// From now on nothing is passed between shelves: their loops are about to go. No loop is running.
void shelves_close(struct shelves *all);

void shelf_init(struct shelf *shelf, struct shelves *all, unsigned number, struct loop *loop);
// Lets go of all tapes. After shelves_close.
void shelf_finish(struct shelf *shelf);

// A tenant in short, never 0: tells those apart who have a key, and is no secret.
uint32_t shelf_tenant(const struct digest *tenant);
// Gives a new tape its place. `tenant`: who made it, in short; 0: anybody may have it who knows its id.
void shelf_add(struct shelf *shelf, struct tape *t, uint32_t tenant);
// Takes back a tape that nobody wrote on.
void shelf_withdraw(struct shelf *shelf, struct tape *t);
// Makes it a kept one, of `keep` bytes; before anything was written.
struct tape_kept *shelf_keep(struct shelf *shelf, struct tape *t, uint64_t keep, const struct digest *tenant);
// Tells that a tape on the shelf has ended, by its writer: it loses its place, or stays for a while.
void shelf_ended(struct shelf *shelf, struct tape *t);
// The last reader left: does it go on? (A timer may stop it later.)
bool shelf_goes_on(struct tape *t);
// A reader is about to open it.
void shelf_joined(struct tape *t);
// Before its time.
void shelf_forget(struct tape_kept *kept);
// Stops everything that runs.
void shelf_stop_all(struct shelf *shelf, const struct tape_why *why);

struct tape_id shelf_id(const struct shelf *shelf, const struct tape *t);
enum shelf_find {
    SHELF_HERE,      // *t, borrowed
    SHELF_ELSEWHERE, // *where: the number of another shelf, which knows more
    SHELF_GONE,      // was here once
    SHELF_UNKNOWN,   // none of this process
};
enum shelf_find shelf_find(const struct shelf *shelf, struct str id, struct tape **t, unsigned *where);
// May this tenant have it? Kept tapes by the whole digest, others by it in short.
bool shelf_allows(const struct shelf *shelf, const struct tape *t, const struct digest *tenant);

// ---- keys

enum shelf_claim {
    CLAIM_NEW,   // the key was free and leads to the tape now
    CLAIM_TAKEN, // *id is the tape it leads to
    CLAIM_OTHER, // it leads to the answer to something else that was asked
};
// `asked`: what is asked for, NULL if the key stands for itself. Of any thread's shelf.
enum shelf_claim shelf_claim(struct tape_kept *kept, const struct digest *key, const struct digest *asked,
                             struct tape_id *id);
// The same for a key that goes with the tape's end: who comes later is another call.
enum shelf_claim shelf_claim_while_running(struct tape_kept *kept, const struct digest *key, const struct digest *asked,
                                           struct tape_id *id);
// The tape that a key leads to.
bool shelf_lookup(struct shelves *all, const struct digest *key, struct tape_id *id);
// How many keys there are, expired ones that were not swept yet among them.
size_t shelf_key_count(struct shelves *all);
// A key of a tape that is not in memory (of a store), until `expires_s`.
void shelf_add_stored_key(struct shelves *all, const struct digest *key, const struct digest *asked, struct str id,
                          uint64_t expires_s);
// When `id` turns out not to exist any more; nothing if the key leads elsewhere by now.
void shelf_drop_key(struct shelves *all, const struct digest *key, const struct tape_id *id);
