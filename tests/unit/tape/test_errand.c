// SPDX-License-Identifier: MIT
// Questions and orders about tapes of other shelves. The loops are turned by hand.
#include "tape/errand.h"

#include "shelves.h"

struct question {
    struct errand errand;
    const struct bench *bench;
    unsigned runs, backs;
    unsigned *destroyed;
    uint64_t written;
    bool stops, forgets;
    struct question *next; // sent when this one is back
};

static void run(struct errand *e, struct shelf *there, struct tape *t) {
    struct question *q = container_of(e, struct question, errand);
    check(there == t->record->kept->shelf);
    check_int(q->backs, 0);
    q->runs++;
    q->written = t->written;
    if (q->stops) {
        tape_stop(t, &cut_off);
        check(!tape_running(t)); // it is there still
    }
    if (q->forgets && tape_kept(t)) {
        shelf_forget(t->record->kept);
    }
}

static void on_back(struct errand *e) {
    struct question *q = container_of(e, struct question, errand);
    q->backs++;
    if (q->next) {
        errand_send(e->all->shelves[e->home], &q->next->errand);
    }
}

static void destroy(struct errand *e) {
    struct question *q = container_of(e, struct question, errand);
    check(q->bench->all->closing);
    check_int(q->backs, 0);
    ++*q->destroyed;
    free(q);
}

static void question_init(struct question *q, const struct bench *b, const struct call *of) {
    *q = (struct question){.bench = b};
    q->errand = (struct errand){.id = of->id, .tenant = tenant, .run = run, .on_back = on_back, .destroy = destroy};
}

static void about_a_tape_of_the_own_shelf_it_is_done_at_once(void **state UNUSED) {
    struct bench b;
    struct call c;
    struct question q, second;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&c, &b, 0);
    append(c.tape, 123, false);
    question_init(&q, &b, &c);
    question_init(&second, &b, &c);
    second.errand.tenant = other_tenant;
    q.next = &second;
    errand_send(&b.shelves[0], &q.errand);
    check_int(q.backs, 1);
    check_int(q.errand.found, SHELF_HERE);
    check_int(q.written, 123);
    check_int(second.backs, 1);
    check_int(second.runs, 0);
    check_int(second.errand.found, SHELF_UNKNOWN);
    answer(&c, 200, 1);
    bench_finish(&b);
}

static void about_another_shelfs_tape_it_travels_there_and_back(void **state UNUSED) {
    for (int tenants = 0; tenants <= 2; tenants++) { // mine, another's, another's who may be anybody
        struct bench b;
        struct call c;
        struct question q;
        bench_init(&b, UINT64_MAX);
        call_begin_kept(&c, &b, 0);
        append(c.tape, 5, false);
        question_init(&q, &b, &c);
        q.errand.tenant = tenants ? other_tenant : tenant;
        q.errand.anybody = tenants == 2;
        errand_send(&b.shelves[1], &q.errand);
        check_int(q.runs + q.backs, 0);
        append(c.tape, 7, false);
        loop_turn(&b.loops[0], 0);
        check_int(q.runs, tenants != 1);
        check_int(q.backs, 0);
        append(c.tape, 9, false); // not seen any more
        loop_turn(&b.loops[2], 0);
        loop_turn(&b.loops[1], 0);
        check_int(q.backs, 1);
        check_int(q.errand.found, tenants == 1 ? SHELF_UNKNOWN : SHELF_HERE);
        check_int(q.written, tenants == 1 ? 0 : 12);
        answer(&c, 200, 1);
        bench_finish(&b);
    }
}

static void tape_may_end_or_go_before_or_during_an_errand(void **state UNUSED) {
    for (int when = 0; when <= 3; when++) {
        for (unsigned from = 0; from <= 1; from++) {
            struct bench b;
            struct call c;
            struct question q;
            bench_init(&b, UINT64_MAX);
            call_begin_kept(&c, &b, 0);
            struct tape_kept *kept = c.kept;
            kept->brief = when == 3; // goes as it is stopped
            question_init(&q, &b, &c);
            q.stops = when >= 1;
            q.forgets = when == 2;
            if (when == 0 && from == 0) {
                answer(&c, 200, 10);
                shelf_forget(kept);
            }
            errand_send(&b.shelves[from], &q.errand);
            if (when == 0 && from == 1) {
                answer(&c, 200, 10);
                shelf_forget(kept);
            }
            turn(&b);
            turn(&b);
            check_int(q.backs, 1);
            check_int(q.runs, when > 0);
            check_int(q.errand.found, when ? SHELF_HERE : SHELF_GONE);
            check_int(b.stopped, when > 0);
            check_int(look(&c), when == 1 ? SHELF_HERE : SHELF_GONE);
            bench_finish(&b);
        }
    }
}

static void forged_ids_go_nowhere(void **state UNUSED) {
    struct bench b;
    struct call c;
    struct question q;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&c, &b, 0);
    question_init(&q, &b, &c);
    q.errand.id.text[3] = q.errand.id.text[3] == 'a' ? 'b' : 'a';
    errand_send(&b.shelves[1], &q.errand);
    check_int(q.backs, 1);
    check_int(q.runs, 0);
    check_int(q.errand.found, SHELF_UNKNOWN);
    answer(&c, 200, 1);
    bench_finish(&b);
}

// At every point of its way, whichever loop goes first, it comes back or is destroyed.
static void closing_destroys_those_on_their_way(void **state UNUSED) {
    for (unsigned turned = 0; turned <= 2; turned++) {
        for (unsigned order = 0; order <= 1; order++) {
            struct bench b;
            struct call c;
            unsigned destroyed = 0;
            bench_init(&b, UINT64_MAX);
            call_begin_kept(&c, &b, 0);
            struct question *q = xmalloc(sizeof *q);
            struct question *late = xmalloc(sizeof *late);
            question_init(q, &b, &c);
            question_init(late, &b, &c);
            q->destroyed = late->destroyed = &destroyed;
            errand_send(&b.shelves[1], &q->errand);
            for (unsigned i = 0; i < turned; i++) {
                loop_turn(&b.loops[i], 0);
            }
            bool back = q->backs;
            answer(&c, 200, 10);
            shelves_close(b.all);
            errand_send(&b.shelves[1], &late->errand); // goes nowhere any more
            for (unsigned n = 0; n < SHELVES; n++) {
                unsigned s = order ? SHELVES - 1 - n : n;
                shelf_finish(&b.shelves[s]);
                loop_finish(&b.loops[s]);
            }
            check_int(destroyed, back ? 1 : 2);
            if (back) {
                free(q);
            }
            shelves_destroy(b.all);
        }
    }
}

TAPE_TESTS(TEST(about_a_tape_of_the_own_shelf_it_is_done_at_once),
           TEST(about_another_shelfs_tape_it_travels_there_and_back),
           TEST(tape_may_end_or_go_before_or_during_an_errand), TEST(forged_ids_go_nowhere),
           TEST(closing_destroys_those_on_their_way))
