// SPDX-License-Identifier: MIT
// An intrusive doubly linked ring: the node sits in its owner, so linking allocates nothing, unlinking needs
// no list, and both are idempotent where it matters. A list head is a node that has no owner.
#pragma once
#include <stdbool.h>

#include "base/attr.h"

struct list {
    struct list *next;
    struct list *prev;
};

static inline void list_init(struct list *n) { n->next = n->prev = n; }
static inline bool list_empty(const struct list *head) { return head->next == head; }
// Is this node in a list? (Zeroed nodes count as not linked.)
static inline bool list_linked(const struct list *n) { return n->next && n->next != n; }

static inline void list_insert(struct list *n, struct list *prev, struct list *next) {
    n->prev = prev;
    n->next = next;
    prev->next = n;
    next->prev = n;
}
static inline void list_push_front(struct list *head, struct list *n) { list_insert(n, head, head->next); }
static inline void list_push_back(struct list *head, struct list *n) { list_insert(n, head->prev, head); }

static inline void list_unlink(struct list *n) {
    if (n->next) {
        n->prev->next = n->next;
        n->next->prev = n->prev;
    }
    list_init(n);
}
// Takes the first node off, NULL when there is none.
static inline struct list *list_pop_front(struct list *head) {
    struct list *n = head->next;
    if (n == head) {
        return NULL;
    }
    list_unlink(n);
    return n;
}
// Moves all of `from` to the empty `to`.
static inline void list_move_all(struct list *to, struct list *from) {
    list_init(to);
    if (!list_empty(from)) {
        to->next = from->next;
        to->prev = from->prev;
        to->next->prev = to;
        to->prev->next = to;
        list_init(from);
    }
}
// Safe when the body unlinks the node it stands on.
#define list_each(node, head)                                                                                          \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head);                                  \
         node = node##_next, node##_next = node->next)
