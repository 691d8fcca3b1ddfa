// SPDX-License-Identifier: MIT
#include "tape/shelf.h"

#include <assert.h>
#include <pthread.h>

#include "base/mem.h"
#include "tape/mirror.h"

enum { SLOTS_MIN = 64, NO_SLOT = UINT32_MAX, SWEPT = 4 };
static const uint32_t id_magic = 0x74617065;

// ---- the table of keys, for all shelves

struct shelf_key {
    struct map_node node;
    struct shelf_key *next; // of the same tape
    struct digest key, asked;
    struct tape_id id;
    struct list stored; // in table->stored
    uint64_t expires_s; // of a stored tape; 0: the tape is in memory and takes its keys along
    bool while_running; // goes with the tape's end
};

struct shelf_table {
    pthread_mutex_t lock;
    struct map map;
    struct list stored; // keys that expire, in the order of their sweeping
};

static uint64_t hash_of(const struct digest *key) {
    uint64_t hash;
    memcpy(&hash, key->bytes, sizeof hash);
    return hash;
}

// Under the lock.
static void remove_key(struct shelf_table *table, struct shelf_key *key) {
    map_remove(&table->map, &key->node);
    list_unlink(&key->stored);
    free(key);
}

static bool has_expired(const struct shelf_key *key) { return key->expires_s && key->expires_s <= clock_unix_s(); }

static void keep_until(struct shelf_table *table, struct shelf_key *key, uint64_t expires_s) {
    key->expires_s = expires_s;
    list_push_back(&table->stored, &key->stored);
}

// With each new key a few stored ones are looked at, in turns: those that nobody asks for go, too.
static void sweep(struct shelf_table *table) {
    for (unsigned i = 0; i < SWEPT && !list_empty(&table->stored); i++) {
        struct shelf_key *key = container_of(table->stored.next, struct shelf_key, stored);
        if (has_expired(key)) {
            remove_key(table, key);
        } else {
            list_unlink(&key->stored);
            list_push_back(&table->stored, &key->stored);
        }
    }
}

static struct shelf_key *find_key(struct shelf_table *table, const struct digest *wanted) {
    struct map_node *node = map_find(&table->map, hash_of(wanted));
    for (; node; node = map_next(node)) {
        struct shelf_key *key = container_of(node, struct shelf_key, node);
        if (memcmp(key->key.bytes, wanted->bytes, sizeof wanted->bytes) == 0) {
            if (has_expired(key)) {
                remove_key(table, key);
                return NULL;
            }
            return key;
        }
    }
    return NULL;
}

static struct shelf_key *add_key(struct shelf_table *table, const struct digest *wanted, const struct digest *asked) {
    struct shelf_key *key = xcalloc(1, sizeof *key);
    sweep(table);
    key->key = *wanted;
    key->asked = asked ? *asked : (struct digest){{0}};
    map_insert(&table->map, &key->node, hash_of(wanted));
    return key;
}

enum shelf_claim shelf_claim(struct tape_kept *kept, const struct digest *wanted, const struct digest *asked,
                             struct tape_id *id) {
    struct shelf_table *table = kept->shelf->all->table;
    enum shelf_claim claim = CLAIM_NEW;
    pthread_mutex_lock(&table->lock);
    struct shelf_key *key = find_key(table, wanted);
    if (!key) {
        key = add_key(table, wanted, asked);
        key->id = shelf_id(kept->shelf, kept->tape);
        key->next = kept->keys;
        kept->keys = key;
    } else if (asked && memcmp(key->asked.bytes, asked->bytes, sizeof asked->bytes) != 0) {
        claim = CLAIM_OTHER;
    } else {
        claim = CLAIM_TAKEN;
        *id = key->id;
    }
    pthread_mutex_unlock(&table->lock);
    return claim;
}

bool shelf_lookup(struct shelves *all, const struct digest *wanted, struct tape_id *id) {
    pthread_mutex_lock(&all->table->lock);
    const struct shelf_key *key = find_key(all->table, wanted);
    if (key) {
        *id = key->id;
    }
    pthread_mutex_unlock(&all->table->lock);
    return key;
}

size_t shelf_key_count(struct shelves *all) {
    pthread_mutex_lock(&all->table->lock);
    size_t count = all->table->map.count;
    pthread_mutex_unlock(&all->table->lock);
    return count;
}

void shelf_add_stored_key(struct shelves *all, const struct digest *wanted, const struct digest *asked, struct str id,
                          uint64_t expires_s) {
    if (id.len != TAPE_ID_LEN) {
        return;
    }
    pthread_mutex_lock(&all->table->lock);
    if (!find_key(all->table, wanted)) {
        struct shelf_key *key = add_key(all->table, wanted, asked);
        memcpy(key->id.text, id.ptr, TAPE_ID_LEN);
        keep_until(all->table, key, expires_s);
    }
    pthread_mutex_unlock(&all->table->lock);
}

void shelf_drop_key(struct shelves *all, const struct digest *wanted, const struct tape_id *id) {
    pthread_mutex_lock(&all->table->lock);
    struct shelf_key *key = find_key(all->table, wanted);
    if (key && key->expires_s && strcmp(key->id.text, id->text) == 0) {
        remove_key(all->table, key);
    }
    pthread_mutex_unlock(&all->table->lock);
}

enum shelf_claim shelf_claim_while_running(struct tape_kept *kept, const struct digest *key, const struct digest *asked,
                                           struct tape_id *id) {
    enum shelf_claim claim = shelf_claim(kept, key, asked, id);
    if (claim == CLAIM_NEW) {
        kept->keys->while_running = true; // what only the tape's own thread looks at
    }
    return claim;
}

// All, or only those that do not outlive the tape's end. Keys of what a store has stay, for its time.
static void drop_keys(struct tape_kept *kept, bool all) {
    struct shelf_table *table = kept->shelf->all->table;
    struct shelf_key *left = NULL;
    pthread_mutex_lock(&table->lock);
    for (struct shelf_key *key = kept->keys, *next; key; key = next) {
        next = key->next;
        if (!all && !key->while_running) {
            key->next = left;
            left = key;
        } else if (kept->stored_until_s && !key->while_running) {
            keep_until(table, key, kept->stored_until_s);
        } else {
            remove_key(table, key);
        }
    }
    kept->keys = left;
    pthread_mutex_unlock(&table->lock);
}

static void free_key(void *context UNUSED, struct map_node *node) { free(container_of(node, struct shelf_key, node)); }

// ---- all shelves

struct shelves *shelves_create(const struct shelves_options *options) {
    struct shelves *all = xcalloc(1, sizeof *all);
    all->options = *options;
    all->shelves = xcalloc(options->count, sizeof *all->shelves);
    all->table = xcalloc(1, sizeof *all->table);
    pthread_mutex_init(&all->table->lock, NULL);
    map_init(&all->table->map);
    list_init(&all->table->stored);
    random_bytes(all->secret, sizeof all->secret);
    return all;
}

void shelves_close(struct shelves *all) { all->closing = true; }

void shelves_destroy(struct shelves *all) {
    if (all) {
        map_each(&all->table->map, free_key, NULL);
        map_finish(&all->table->map);
        pthread_mutex_destroy(&all->table->lock);
        free(all->table);
        free(all->shelves);
        free(all);
    }
}

// ---- one shelf

void shelf_init(struct shelf *shelf, struct shelves *all, unsigned number, struct loop *loop) {
    *shelf = (struct shelf){.all = all, .loop = loop, .number = number, .free_slot = NO_SLOT};
    shelf->cipher = cipher_create(all->secret);
    list_init(&shelf->finished);
    map_init(&shelf->mirrors);
    all->shelves[number] = shelf;
}

void shelf_finish(struct shelf *shelf) {
    if (!shelf->loop) {
        return;
    }
    list_each(node, &shelf->finished) { shelf_forget(container_of(node, struct tape_kept, node)); }
    for (uint32_t i = 0; i < shelf->slot_count; i++) {
        assert(!shelf->slots[i].tape); // calls that ran were ended before
    }
    mirrors_finish(shelf);
    cipher_destroy(shelf->cipher);
    free(shelf->slots);
    shelf->all->shelves[shelf->number] = NULL;
    *shelf = (struct shelf){.all = shelf->all}; // messages to it, on loops that are about to go, look there
}

static void more_slots(struct shelf *shelf) {
    uint32_t count = shelf->slot_count + MAX(shelf->slot_count / 4, (uint32_t)SLOTS_MIN);
    struct shelf_slot *slots = xcalloc(count, sizeof *slots);
    if (shelf->slots) {
        memcpy(slots, shelf->slots, shelf->slot_count * sizeof *slots);
    }
    free(shelf->slots);
    shelf->slots = slots;
    for (uint32_t i = count; i-- > shelf->slot_count;) {
        shelf->slots[i].next_free = shelf->free_slot;
        shelf->free_slot = i;
    }
    shelf->slot_count = count;
}

uint32_t shelf_tenant(const struct digest *tenant) {
    uint32_t first;
    memcpy(&first, tenant->bytes, sizeof first);
    return first | 1;
}

void shelf_add(struct shelf *shelf, struct tape *t, uint32_t tenant) {
    if (shelf->free_slot == NO_SLOT) {
        more_slots(shelf);
    }
    t->slot = shelf->free_slot;
    struct shelf_slot *slot = &shelf->slots[t->slot];
    shelf->free_slot = slot->next_free;
    t->generation = slot->generation;
    slot->tape = t;
    slot->tenant = tenant;
    shelf->running++;
}

static void leave_slot(struct shelf *shelf, const struct tape *t) {
    struct shelf_slot *slot = &shelf->slots[t->slot];
    assert(slot->tape == t);
    slot->tape = NULL;
    slot->generation++;
    if (slot->generation < UINT32_MAX) { // else its ids are used up
        slot->next_free = shelf->free_slot;
        shelf->free_slot = t->slot;
    }
}

static const struct tape_why nobody_came = {TAPE_CANCELLED, OK, 0, 0, "nobody read the answer any more"};

static void on_timer(struct timer *timer) {
    struct tape_kept *kept = container_of(timer, struct tape_kept, timer);
    if (tape_running(kept->tape)) {
        tape_stop(kept->tape, &nobody_came);
    } else {
        shelf_forget(kept);
    }
}

struct tape_kept *shelf_keep(struct shelf *shelf, struct tape *t, uint64_t keep, const struct digest *tenant) {
    struct tape_kept *kept = xcalloc(1, sizeof *kept);
    tape_keep(t, keep, clock_unix_s());
    kept->shelf = shelf;
    kept->tape = tape_ref(t);
    kept->tenant = *tenant;
    kept->timer.on_timer = on_timer;
    list_init(&kept->node);
    list_init(&kept->feeds);
    t->record->kept = kept;
    return kept;
}

void shelf_forget(struct tape_kept *kept) {
    struct shelf *shelf = kept->shelf;
    struct tape *t = kept->tape;
    assert(!tape_running(t));
    drop_keys(kept, true);
    timer_clear(&kept->timer);
    list_unlink(&kept->node);
    feeds_end(kept);
    shelf->all->finished_bytes -= kept->cost;
    leave_slot(shelf, t);
    t->record->kept = NULL;
    free(kept);
    tape_unref(t);
}

static size_t cost_of(const struct tape *t) {
    return tape_copied(t) + t->record->marks.room * sizeof *t->record->marks.v + sizeof *t + sizeof *t->record +
           sizeof(struct tape_kept) + sizeof(struct shelf_key);
}

// The oldest finished tapes make room; of this shelf: calls are spread evenly over all.
static void keep_to_total(struct shelf *shelf) {
    while (shelf->all->finished_bytes > shelf->all->options.total_bytes && !list_empty(&shelf->finished)) {
        shelf_forget(container_of(shelf->finished.next, struct tape_kept, node));
    }
}

// What was cancelled is nobody's answer.
static bool keys_stay(const struct tape_kept *kept) {
    const struct tape *t = kept->tape;
    return kept->replay_failures ? t->why.end != TAPE_CANCELLED : t->why.end == TAPE_WHOLE && t->status < 400;
}

void shelf_ended(struct shelf *shelf, struct tape *t) {
    struct tape_kept *kept = tape_kept(t);
    shelf->running--;
    if (!kept) {
        leave_slot(shelf, t);
        return;
    }
    drop_keys(kept, !keys_stay(kept));
    kept->cost = cost_of(t);
    shelf->all->finished_bytes += kept->cost;
    list_push_back(&shelf->finished, &kept->node);
    timer_set(shelf->loop, &kept->timer, shelf->all->options.keep_ms);
    if (kept->brief) {
        shelf_forget(kept);
    } else if (shelf->on_ended) {
        shelf->on_ended(shelf, kept);
    }
    keep_to_total(shelf);
}

void shelf_withdraw(struct shelf *shelf, struct tape *t) {
    struct tape_kept *kept = tape_kept(t);
    tape_finish(t, &nobody_came);
    if (kept) {
        kept->brief = true;
    }
    shelf_ended(shelf, t);
}

bool shelf_goes_on(struct tape *t) {
    struct tape_kept *kept = tape_kept(t);
    if (!kept || kept->disconnect == TAPE_ENDS) {
        return false;
    }
    if (kept->disconnect == TAPE_WAITS) {
        timer_set(kept->shelf->loop, &kept->timer, kept->wait_ms);
    }
    return true;
}

void shelf_joined(struct tape *t) {
    struct tape_kept *kept = tape_kept(t);
    if (kept && tape_running(t)) {
        timer_clear(&kept->timer);
    }
}

void shelf_stop_all(struct shelf *shelf, const struct tape_why *why) {
    for (uint32_t i = 0; i < shelf->slot_count; i++) {
        struct tape *t = shelf->slots[i].tape;
        if (t && tape_running(t)) {
            tape_ref(t);
            tape_stop(t, why);
            tape_unref(t);
        }
    }
}

// ---- ids

struct place {
    uint32_t magic;
    uint32_t shelf;
    uint32_t slot;
    uint32_t generation;
};
static_assert(sizeof(struct place) == CIPHER_BLOCK, "a place is one block");

static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567"; // RFC 4648 section 6, in lower case

// Five bytes are eight digits; of the sixteenth byte the last digit has three bits.
static struct tape_id format_id(const unsigned char block[CIPHER_BLOCK]) {
    struct tape_id id;
    char *at = id.text;
    for (unsigned i = 0; i + 5 <= CIPHER_BLOCK; i += 5) {
        uint64_t bits = (uint64_t)block[i] << 32 | (uint64_t)block[i + 1] << 24 | (uint64_t)block[i + 2] << 16 |
                        (uint64_t)block[i + 3] << 8 | block[i + 4];
        for (unsigned shift = 40; shift > 0;) {
            shift -= 5;
            *at++ = digits[bits >> shift & 31];
        }
    }
    *at++ = digits[block[15] >> 3];
    *at++ = digits[block[15] << 2 & 31];
    *at = '\0';
    return id;
}

static bool parse_id(struct str text, unsigned char block[CIPHER_BLOCK]) {
    unsigned bits = 0;
    unsigned have = 0;
    size_t at = 0;
    if (text.len != TAPE_ID_LEN) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        const char *digit = text.ptr[i] ? strchr(digits, text.ptr[i]) : NULL;
        if (!digit) {
            return false;
        }
        bits = (bits << 5 | (unsigned)(digit - digits)) & 0xFFFF;
        have += 5;
        if (have >= 8 && at < CIPHER_BLOCK) {
            have -= 8;
            block[at++] = (unsigned char)(bits >> have);
        }
    }
    return (bits & ((1u << have) - 1)) == 0; // one text for each id
}

struct tape_id shelf_id(const struct shelf *shelf, const struct tape *t) {
    struct place place = {id_magic, shelf->number, t->slot, t->generation};
    unsigned char plain[CIPHER_BLOCK];
    unsigned char block[CIPHER_BLOCK];
    if (t->record && t->record->id) {
        return *t->record->id;
    }
    memcpy(plain, &place, sizeof plain);
    cipher_encrypt(shelf->cipher, plain, block);
    return format_id(block);
}

enum shelf_find shelf_find(const struct shelf *shelf, struct str id, struct tape **t, unsigned *where) {
    unsigned char block[CIPHER_BLOCK];
    unsigned char plain[CIPHER_BLOCK];
    struct place place;
    if (!parse_id(id, block)) {
        return SHELF_UNKNOWN;
    }
    cipher_decrypt(shelf->cipher, block, plain);
    memcpy(&place, plain, sizeof place);
    if (place.magic != id_magic || place.shelf >= shelf->all->options.count) {
        return SHELF_UNKNOWN;
    }
    if (place.shelf != shelf->number) {
        *where = place.shelf;
        return SHELF_ELSEWHERE;
    }
    if (place.slot >= shelf->slot_count || place.generation > shelf->slots[place.slot].generation) {
        return SHELF_UNKNOWN;
    }
    const struct shelf_slot *slot = &shelf->slots[place.slot];
    if (!slot->tape || slot->generation != place.generation) {
        return SHELF_GONE;
    }
    *t = slot->tape;
    return SHELF_HERE;
}

bool shelf_allows(const struct shelf *shelf, const struct tape *t, const struct digest *tenant) {
    const struct tape_kept *kept = tape_kept(t);
    if (kept) {
        return digest_equal(&kept->tenant, tenant);
    }
    uint32_t owner = shelf->slots[t->slot].tenant;
    return owner == 0 || owner == shelf_tenant(tenant);
}
