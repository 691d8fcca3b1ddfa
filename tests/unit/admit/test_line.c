// SPDX-License-Identifier: MIT
// The line against the plainest of models: a sorted array.
#include "admit/line.h"

#include "check.h"

enum { STANDS = 400, STEPS = 20000, ROUNDS = 30 };

struct model {
    struct line line;
    struct stand stands[STANDS];
    bool in[STANDS];
    struct stand *sorted[STANDS];
    unsigned count;
    uint64_t serial, seed;
};

static unsigned below(struct model *m, unsigned n) {
    m->seed = m->seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(m->seed >> 33) % n;
}

static unsigned position(const struct model *m, struct line_key key) {
    unsigned at = 0;
    while (at < m->count && line_less(m->sorted[at]->key, key)) {
        at++;
    }
    return at;
}

static void put_in(struct model *m, struct stand *s) {
    struct line_key key = {.round = below(m, ROUNDS), .serial = m->serial++};
    unsigned at = position(m, key);
    line_insert(&m->line, s, key);
    memmove(&m->sorted[at + 1], &m->sorted[at], (m->count - at) * sizeof(struct stand *));
    m->sorted[at] = s;
    m->count++;
}

static void take_out(struct model *m, struct stand *s) {
    unsigned at = position(m, s->key);
    check(m->sorted[at] == s);
    line_remove(&m->line, s);
    m->count--;
    memmove(&m->sorted[at], &m->sorted[at + 1], (m->count - at) * sizeof(struct stand *));
}

static unsigned depth(const struct stand *s) {
    if (!s) {
        return 0;
    }
    unsigned left = depth(s->left), right = depth(s->right); // MAX would go each way twice
    return 1 + MAX(left, right);
}

static void a_line_is_a_sorted_array(void **state) {
    (void)state;
    static struct model m;
    m = (struct model){.seed = 4};
    check(!line_first(&m.line) && !line_size(&m.line));
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned at = below(&m, STANDS);
        if (m.in[at]) {
            take_out(&m, &m.stands[at]);
        } else {
            put_in(&m, &m.stands[at]);
        }
        m.in[at] = !m.in[at];
        check_int(line_size(&m.line), m.count);
        check(line_first(&m.line) == (m.count ? m.sorted[0] : NULL));
        struct line_key any = {.round = below(&m, ROUNDS + 1), .serial = below(&m, (unsigned)m.serial + 1)};
        check_int(line_before(&m.line, any), position(&m, any));
        if (m.count) {
            unsigned place = below(&m, m.count);
            check_int(line_before(&m.line, m.sorted[place]->key), place);
        }
    }
    while (m.count) {
        take_out(&m, m.sorted[m.count / 2]);
    }
    check(!m.line.root);
}

static void serials_in_order_make_no_list(void **state) {
    (void)state;
    enum { LONG = 100000 };
    struct stand *stands = xcalloc(LONG, sizeof *stands);
    struct line line = {.root = NULL};
    for (unsigned i = 0; i < LONG; i++) {
        line_insert(&line, &stands[i], (struct line_key){.round = 0, .serial = i});
    }
    check(depth(line.root) < 60); // 17 is the least, 40 what chance makes of it
    free(stands);
}

TESTS(TEST(a_line_is_a_sorted_array), TEST(serials_in_order_make_no_list))
