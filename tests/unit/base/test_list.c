// SPDX-License-Identifier: MIT
#include "base/list.h"

#include "check.h"

struct item {
    int number;
    struct list node;
};

static int number_of(const struct list *node) { return container_of(node, const struct item, node)->number; }

static void check_numbers(struct list *head, const char *wanted) {
    char got[16] = "";
    size_t n = 0;
    list_each(node, head) {
        check(n < sizeof got - 1);
        got[n++] = (char)('0' + number_of(node));
    }
    check_str(str_from(got, n), wanted);
    n = 0;
    for (struct list *node = head->prev; node != head; node = node->prev) { // backwards the same
        got[n++] = (char)('0' + number_of(node));
    }
    check_int(n, strlen(wanted));
    for (size_t i = 0; i < n; i++) {
        check_int(got[i], wanted[n - 1 - i]);
    }
}

static void pushes_and_pops_at_both_ends(void **state UNUSED) {
    struct item items[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    struct list head;
    list_init(&head);
    check(list_empty(&head));
    check(list_pop_front(&head) == NULL);
    list_push_back(&head, &items[1].node);
    list_push_back(&head, &items[2].node);
    list_push_front(&head, &items[0].node);
    check_numbers(&head, "012");
    check(list_pop_front(&head) == &items[0].node);
    check(!list_linked(&items[0].node));
    check_numbers(&head, "12");
}

static void unlinking_is_idempotent_and_knows_zeroed_nodes(void **state UNUSED) {
    struct item zeroed = {0};
    struct item item = {.number = 1};
    struct list head;
    list_init(&head);
    check(!list_linked(&zeroed.node));
    list_unlink(&zeroed.node);
    list_unlink(&zeroed.node);
    check(!list_linked(&zeroed.node));
    list_push_back(&head, &item.node);
    check(list_linked(&item.node));
    list_unlink(&item.node);
    list_unlink(&item.node);
    check(!list_linked(&item.node));
    check(list_empty(&head));
}

static void moving_all_keeps_the_order(void **state UNUSED) {
    struct item items[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    struct list from;
    struct list to;
    list_init(&from);
    list_move_all(&to, &from);
    check(list_empty(&to) && list_empty(&from));
    for (int i = 0; i < 3; i++) {
        list_push_back(&from, &items[i].node);
    }
    list_move_all(&to, &from);
    check(list_empty(&from));
    check_numbers(&to, "012");
    list_unlink(&items[1].node);
    check_numbers(&to, "02");
}

static void the_body_of_each_may_unlink_its_node(void **state UNUSED) {
    struct item items[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    struct list head;
    list_init(&head);
    for (int i = 0; i < 4; i++) {
        list_push_back(&head, &items[i].node);
    }
    list_each(node, &head) {
        if (number_of(node) % 2) {
            list_unlink(node);
        }
    }
    check_numbers(&head, "02");
    list_each(node, &head) { list_unlink(node); }
    check(list_empty(&head));
}

TESTS(TEST(pushes_and_pops_at_both_ends), TEST(unlinking_is_idempotent_and_knows_zeroed_nodes),
      TEST(moving_all_keeps_the_order), TEST(the_body_of_each_may_unlink_its_node))
