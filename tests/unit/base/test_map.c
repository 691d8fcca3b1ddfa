// SPDX-License-Identifier: MIT
// The map against an array: what is in is found, with all that share its hash, and nothing else.
#include "base/map.h"

#include "check.h"

enum { ITEMS = 3000 };

struct item {
    struct map_node node;
    bool in;
    unsigned seen;
};

static struct item *item_of(struct map_node *node) { return container_of(node, struct item, node); }

// Hashes of a few values only, so that many are shared; some differ only above the bits of any bucket.
static uint64_t hash_of(unsigned i) { return i % 7 ? (uint64_t)(i % 500) * 0x9E3779B97F4A7C15u : (uint64_t)i << 40; }

static void an_empty_map_finds_nothing(void **state UNUSED) {
    struct map m;
    map_init(&m);
    check(!map_find(&m, 0));
    check(!map_find(&m, UINT64_MAX));
    check_int(m.count, 0);
    map_finish(&m);
    map_finish(&m);
}

static unsigned found_with(const struct map *m, uint64_t hash, const struct item *wanted, bool *found) {
    unsigned count = 0;
    for (struct map_node *node = map_find(m, hash); node; node = map_next(node)) {
        check(node->hash == hash);
        *found = *found || item_of(node) == wanted;
        count++;
    }
    return count;
}

static void check_all(const struct map *m, struct item *items) {
    size_t in = 0;
    for (unsigned i = 0; i < ITEMS; i++) {
        bool found = false;
        found_with(m, hash_of(i), &items[i], &found);
        check_int(found, items[i].in);
        in += items[i].in;
    }
    check_int(m->count, in);
}

static void what_is_in_is_found_and_nothing_else(void **state UNUSED) {
    struct item *items = xcalloc(ITEMS, sizeof *items);
    struct map m;
    map_init(&m);
    srand(5);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < ITEMS; i++) {
            unsigned at = (unsigned)rand() % ITEMS;
            if (items[at].in) {
                map_remove(&m, &items[at].node);
            } else {
                map_insert(&m, &items[at].node, hash_of(at));
            }
            items[at].in = !items[at].in;
        }
        check_all(&m, items);
        check(m.count <= m.room);
    }
    map_finish(&m);
    free(items);
}

static void equal_hashes_are_all_reached(void **state UNUSED) {
    struct item items[40] = {{.in = false}};
    struct map m;
    map_init(&m);
    for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
        map_insert(&m, &items[i].node, i % 2 ? 77 : 77 + 64); // one bucket of the 64
    }
    for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
        bool found = false;
        check_int(found_with(&m, items[i].node.hash, &items[i], &found), ARRAY_LEN(items) / 2);
        check(found);
    }
    map_finish(&m);
}

static void see(void *context, struct map_node *node) {
    item_of(node)->seen++;
    ++*(unsigned *)context;
}

struct removing {
    struct map *map;
    unsigned count;
};

static void see_and_remove(void *context, struct map_node *node) {
    struct removing *removing = context;
    item_of(node)->seen++;
    if (removing->count++ % 3) {
        map_remove(removing->map, node);
        item_of(node)->in = false;
    }
}

static void each_sees_every_node_once_and_may_remove_it(void **state UNUSED) {
    struct item *items = xcalloc(ITEMS, sizeof *items);
    struct map m;
    unsigned count = 0;
    map_init(&m);
    map_each(&m, see, &count);
    check_int(count, 0);
    for (unsigned i = 0; i < ITEMS; i++) {
        items[i].in = true;
        map_insert(&m, &items[i].node, hash_of(i));
    }
    map_each(&m, see, &count);
    check_int(count, ITEMS);
    struct removing removing = {&m, 0};
    map_each(&m, see_and_remove, &removing);
    check_int(removing.count, ITEMS);
    for (unsigned i = 0; i < ITEMS; i++) {
        check_int(items[i].seen, 2);
    }
    check_int(m.count, ITEMS / 3);
    check_all(&m, items);
    map_finish(&m);
    free(items);
}

TESTS(TEST(an_empty_map_finds_nothing), TEST(what_is_in_is_found_and_nothing_else), TEST(equal_hashes_are_all_reached),
      TEST(each_sees_every_node_once_and_may_remove_it))
