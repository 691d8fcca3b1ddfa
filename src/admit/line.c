// SPDX-License-Identifier: MIT
#include "admit/line.h"

#include <assert.h>

// Serials follow each other; what a treap wants is chance (the finaliser of splitmix64).
static uint32_t chance(uint64_t serial) {
    uint64_t x = (serial + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(x >> 32);
}

static uint32_t size_of(const struct stand *s) { return s ? s->size : 0; }
static void measure(struct stand *s) { s->size = 1 + size_of(s->left) + size_of(s->right); }

// Those before the key hang from *left then, the others from *right. As deep as the tree: a few dozen for millions.
static void split(struct stand *s, struct line_key key, struct stand **left, struct stand **right) {
    if (!s) {
        *left = *right = NULL;
    } else if (line_less(s->key, key)) {
        *left = s;
        split(s->right, key, &s->right, right);
        measure(s);
    } else {
        *right = s;
        split(s->left, key, left, &s->left);
        measure(s);
    }
}

// All of `left` stand before all of `right`.
static struct stand *join(struct stand *left, struct stand *right) {
    if (!left || !right) {
        return left ? left : right;
    }
    struct stand *top = left->heap > right->heap ? left : right;
    if (top == left) {
        left->right = join(left->right, right);
    } else {
        right->left = join(left, right->left);
    }
    measure(top);
    return top;
}

static struct stand **towards(struct stand *s, struct line_key key) {
    return line_less(s->key, key) ? &s->right : &s->left;
}

void line_insert(struct line *line, struct stand *stand, struct line_key key) {
    stand->key = key;
    stand->heap = chance(key.serial);
    struct stand **at = &line->root;
    while (*at && (*at)->heap >= stand->heap) {
        (*at)->size++;
        at = towards(*at, key);
    }
    split(*at, key, &stand->left, &stand->right);
    measure(stand);
    *at = stand;
}

void line_remove(struct line *line, struct stand *stand) {
    struct stand **at = &line->root;
    while (*at != stand) {
        assert(*at);
        (*at)->size--;
        at = towards(*at, stand->key);
    }
    *at = join(stand->left, stand->right);
    stand->left = stand->right = NULL;
}

struct stand *line_first(const struct line *line) {
    struct stand *s = line->root;
    while (s && s->left) {
        s = s->left;
    }
    return s;
}

unsigned line_before(const struct line *line, struct line_key key) {
    unsigned before = 0;
    for (const struct stand *s = line->root; s;) {
        if (line_less(s->key, key)) {
            before += 1 + size_of(s->left);
            s = s->right;
        } else {
            s = s->left;
        }
    }
    return before;
}
