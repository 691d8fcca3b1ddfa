// SPDX-License-Identifier: MIT
// The tape against a reference: every reader sees every byte from its position on, once, in order, and then how it
// ended; a tape that is not kept is bounded by its window.
#include "tape/tape.h"

#include <sys/uio.h>

#include "check.h"

enum { PATTERN = 4 << 20 };

// The byte at a position, different enough from its neighbours.
static char at(uint64_t position) { return (char)((position * 2654435761u) >> 13); }

static char *pattern(void) {
    char *p = xmalloc(PATTERN);
    for (uint64_t i = 0; i < PATTERN; i++) {
        p[i] = at(i);
    }
    return p;
}

static const struct tape_why given_up = {TAPE_CANCELLED, OK, 0, NULL};

struct writer {
    unsigned rooms;
    unsigned abandoned;
};

static void on_room(struct tape *t) { ((struct writer *)t->writer)->rooms++; }

// As a call does: it lets go, and says so on the tape.
static void on_abandoned(struct tape *t) {
    ((struct writer *)t->writer)->abandoned++;
    t->events = NULL;
    tape_finish(t, &given_up);
    tape_unref(t);
}

static void on_stop(struct tape *t, const struct tape_why *why) { tape_finish(t, why); }

static const struct tape_events writer_events = {on_room, on_abandoned, on_stop};

enum leaving { STAYS, LEAVES_ON_HEAD, LEAVES_ON_BYTES, LEAVES_ON_LAST, LEAVES_ON_END };

struct eyes {
    struct tape_reader r;
    size_t budget; // bytes it takes still; SIZE_MAX: all
    uint64_t seen;
    uint64_t from;
    unsigned heads, interim, lasts, ends, calls;
    int status;
    enum tape_end end;
    enum leaving leaving;
};

static struct eyes *eyes_of(struct tape_reader *r) { return container_of(r, struct eyes, r); }

static void leave_if(struct eyes *e, enum leaving now) {
    if (e->leaving == now) {
        tape_leave(&e->r);
    }
}

static void on_head(struct tape_reader *r, const struct tape_head *head) {
    struct eyes *e = eyes_of(r);
    e->heads += head->status >= 200;
    e->interim += head->status < 200;
    e->status = head->status;
    leave_if(e, LEAVES_ON_HEAD);
}

static size_t on_bytes(struct tape_reader *r, const struct iovec *v, int count, bool last) {
    struct eyes *e = eyes_of(r);
    uint64_t position = r->position;
    size_t taken = 0;
    size_t total = 0;
    check_int(position, e->from + e->seen);
    check_int(e->lasts + e->ends, 0);
    for (int i = 0; i < count; i++) {
        const char *bytes = v[i].iov_base;
        size_t n = MIN(v[i].iov_len, e->budget);
        check(v[i].iov_len > 0);
        for (size_t j = 0; j < n; j++) {
            if (bytes[j] != at(position + taken + j)) {
                fail_msg("byte %llu is not what was written", (unsigned long long)(position + taken + j));
            }
        }
        taken += n;
        total += v[i].iov_len;
        e->budget -= e->budget == SIZE_MAX ? 0 : n;
        if (n < v[i].iov_len) {
            break;
        }
    }
    e->seen += taken;
    e->calls++;
    if (last && taken == total) {
        e->lasts++;
        leave_if(e, LEAVES_ON_LAST);
    }
    leave_if(e, LEAVES_ON_BYTES);
    return taken;
}

static void on_end(struct tape_reader *r, const struct tape_why *why) {
    struct eyes *e = eyes_of(r);
    check_int(e->lasts + e->ends, 0);
    e->ends++;
    e->end = why->end;
    leave_if(e, LEAVES_ON_END);
}

static const struct tape_reader_events eyes_events = {on_head, on_bytes, on_end};

static void eyes_open(struct eyes *e, struct tape *t, size_t budget) {
    *e = (struct eyes){.budget = budget};
    tape_open(t, &e->r, &eyes_events, 0);
}

static void go_on(struct eyes *e, size_t budget) {
    e->budget = budget;
    if (e->r.tape && !e->ends) {
        tape_read(&e->r);
    }
}

static const char *bytes; // the pattern
static void append(struct tape *t, size_t n, bool last) { tape_append(t, str_from(bytes + t->written, n), last); }

static struct tape *create(struct writer *w, bool kept) {
    *w = (struct writer){0};
    struct tape *t = tape_create(&writer_events, w);
    t->keep = kept ? PATTERN : 0;
    return t;
}

// ---- one reader

static void head_bytes_and_end_arrive(void **state UNUSED) {
    struct writer w;
    struct eyes e;
    struct field fields[] = {{.name = STR("a"), .value = STR("b")}};
    struct tape_head interim = {.status = 103, .body_len = -1};
    struct tape_head head = {200, {fields, 1, 1}, -1};
    struct tape *t = create(&w, false);
    eyes_open(&e, t, SIZE_MAX);
    tape_read(&e.r);
    tape_put_head(t, &interim);
    check(!t->has_head);
    tape_put_head(t, &head);
    check(t->has_head);
    check_int(e.interim, 1);
    check_int(e.heads, 1);
    append(t, 10, false);
    append(t, 0, false);
    append(t, 5, true);
    check_int(e.seen, 15);
    check_int(e.lasts, 1);
    check_int(e.ends, 0);
    check_int(t->why.end, TAPE_WHOLE);
    tape_leave(&e.r);
    tape_leave(&e.r);
    check_int(w.abandoned, 0);
    tape_unref(t);
}

static void empty_answer_is_whole(void **state UNUSED) {
    struct writer w;
    struct eyes e;
    struct tape *t = create(&w, false);
    eyes_open(&e, t, 0);
    append(t, 0, true);
    check_int(e.lasts, 1);
    tape_leave(&e.r);
    tape_unref(t);
}

static void reader_that_takes_a_part_gets_the_rest_when_it_asks(void **state UNUSED) {
    struct writer w;
    struct eyes e;
    struct tape *t = create(&w, false);
    eyes_open(&e, t, 3);
    append(t, 10, false);
    check_int(e.seen, 3);
    append(t, 10, false); // is not offered: it is behind
    check_int(e.calls, 1);
    append(t, 10000, true);
    check_int(e.calls, 1);
    go_on(&e, 5);
    check_int(e.seen, 8);
    check_int(e.lasts, 0);
    go_on(&e, 5000);
    go_on(&e, SIZE_MAX);
    check_int(e.seen, 10020);
    check_int(e.lasts, 1);
    tape_leave(&e.r);
    tape_unref(t);
}

static void cut_and_cancelled_ends_come_behind_the_bytes(void **state UNUSED) {
    for (int cancelled = 0; cancelled <= 1; cancelled++) {
        struct writer w;
        struct eyes quick;
        struct eyes slow;
        struct tape *t = create(&w, false);
        eyes_open(&quick, t, SIZE_MAX);
        eyes_open(&slow, t, 1);
        append(t, 10, false);
        if (cancelled) {
            tape_finish(t, &given_up);
        } else {
            tape_finish(t, &(struct tape_why){TAPE_CUT, ERR_CUT, 7, "it broke"});
            check_str(str_c(t->why.problem), "it broke");
            check_int(t->why.reason, 7);
            check_int(t->why.error, ERR_CUT);
        }
        check_int(quick.ends, 1);
        check_int(quick.end, cancelled ? TAPE_CANCELLED : TAPE_CUT);
        check_int(slow.ends, 0);
        go_on(&slow, 8);
        check_int(slow.ends, 0);
        go_on(&slow, 1);
        check_int(slow.ends, 1);
        check_int(slow.seen, 10);
        tape_leave(&quick.r);
        tape_leave(&slow.r);
        check_int(w.abandoned, 0);
        tape_unref(t);
    }
}

static void reader_of_a_tape_that_was_cut_before_it_came_hears_of_it(void **state UNUSED) {
    struct writer w;
    struct eyes e;
    struct tape *t = create(&w, false);
    tape_finish(t, &(struct tape_why){TAPE_CUT, ERR_RESET, 1, "no"});
    eyes_open(&e, t, 0);
    check_int(e.ends, 0); // opening delivers nothing
    tape_read(&e.r);
    check_int(e.ends, 1);
    tape_leave(&e.r);
    tape_unref(t);
}

// ---- leaving

static void last_reader_leaving_abandons_the_tape(void **state UNUSED) {
    struct writer w;
    struct eyes a;
    struct eyes b;
    struct tape *t = create(&w, false);
    eyes_open(&a, t, SIZE_MAX);
    eyes_open(&b, t, SIZE_MAX);
    append(t, 10, false);
    tape_leave(&a.r);
    check_int(w.abandoned, 0);
    tape_leave(&b.r); // frees it: the writer has let go
    check_int(w.abandoned, 1);
}

static void readers_may_leave_in_any_callback(void **state UNUSED) {
    for (int leaving = LEAVES_ON_HEAD; leaving <= LEAVES_ON_END; leaving++) {
        for (int others = 0; others <= 2; others++) { // the leaving one is alone, first, last
            for (int whole = 0; whole <= 1; whole++) {
                struct writer w;
                struct eyes before;
                struct eyes e;
                struct eyes behind;
                struct tape_head head = {.status = 200, .body_len = -1};
                struct tape *t = create(&w, false);
                tape_ref(t);
                if (others == 2) {
                    eyes_open(&before, t, SIZE_MAX);
                }
                eyes_open(&e, t, SIZE_MAX);
                e.leaving = (enum leaving)leaving;
                if (others == 1) {
                    eyes_open(&behind, t, SIZE_MAX);
                }
                tape_put_head(t, &head);
                if (t->why.end == TAPE_RUNNING) {
                    append(t, 100, false);
                }
                if (t->why.end == TAPE_RUNNING && whole) {
                    append(t, 100, true);
                } else if (t->why.end == TAPE_RUNNING) {
                    tape_finish(t, &(struct tape_why){TAPE_CUT, ERR_CUT, 0, "x"});
                }
                bool stays = leaving == LEAVES_ON_LAST ? !whole : leaving == LEAVES_ON_END ? whole : false;
                check(stays == (e.r.tape != NULL));
                check_int(w.abandoned, !others && leaving <= LEAVES_ON_BYTES);
                if (others) {
                    struct eyes *o = others == 1 ? &behind : &before;
                    check_int(o->seen, whole ? 200 : 100);
                    check_int(o->lasts, whole);
                    check_int(o->ends, !whole);
                    tape_leave(&o->r);
                }
                tape_leave(&e.r);
                if (!w.abandoned) {
                    tape_unref(t);
                }
                check_int(t->references, 1);
                tape_unref(t);
            }
        }
    }
}

static void reader_may_leave_while_it_reads_what_was_recorded(void **state UNUSED) {
    struct writer w;
    struct eyes e;
    struct tape *t = create(&w, false);
    eyes_open(&e, t, 0);
    append(t, 100000, false);
    e.leaving = LEAVES_ON_BYTES;
    go_on(&e, 10);
    check(!e.r.tape);
    check_int(w.abandoned, 1);
}

// ---- the window

static void tape_that_is_not_kept_is_full_behind_its_window(void **state UNUSED) {
    struct writer w;
    struct eyes slow;
    struct eyes quick;
    struct tape *t = create(&w, false);
    eyes_open(&slow, t, 0);
    eyes_open(&quick, t, SIZE_MAX);
    append(t, TAPE_WINDOW, false);
    check(!tape_full(t));
    append(t, 1, false);
    check(tape_full(t));
    go_on(&slow, 1);
    check(tape_full(t)); // not for every byte
    check_int(w.rooms, 0);
    go_on(&slow, TAPE_WINDOW / 2);
    check(!tape_full(t));
    check_int(w.rooms, 1);
    append(t, TAPE_WINDOW, false);
    check(tape_full(t));
    tape_leave(&slow.r); // the slowest one gone there is room
    check(!tape_full(t));
    check_int(w.rooms, 2);
    check_int(w.abandoned, 0);
    tape_leave(&quick.r);
    check_int(w.abandoned, 1);
}

static void writer_that_is_done_is_not_told_of_room(void **state UNUSED) {
    struct writer w;
    struct eyes e;
    struct tape *t = create(&w, false);
    eyes_open(&e, t, 0);
    append(t, 2 * TAPE_WINDOW, true);
    go_on(&e, SIZE_MAX);
    check_int(e.lasts, 1);
    check_int(w.rooms, 0);
    tape_leave(&e.r);
    tape_unref(t);
}

// ---- kept

static void kept_tape_is_never_full_and_replays(void **state UNUSED) {
    struct writer w;
    struct eyes first;
    struct eyes late;
    struct eyes after;
    struct field fields[] = {
        {.name = STR("content-type"), .value = STR("text/plain"), .id = field_id(STR("content-type"))}};
    struct tape_head head = {201, {fields, 1, 1}, -1};
    struct tape *t = create(&w, true);
    eyes_open(&first, t, 0);
    tape_put_head(t, &head);
    append(t, 20 * TAPE_WINDOW, false);
    check(!tape_full(t));
    eyes_open(&late, t, SIZE_MAX);
    late.r.position = late.from = 12345; // continues where another connection broke
    tape_read(&late.r);
    check_int(late.seen, 20 * TAPE_WINDOW - 12345);
    append(t, 10, true);
    check_int(late.lasts, 1);
    go_on(&first, SIZE_MAX);
    check_int(first.lasts, 1);
    tape_leave(&first.r);
    tape_leave(&late.r);
    eyes_open(&after, t, SIZE_MAX);
    tape_read(&after.r);
    check_int(after.seen, 20 * TAPE_WINDOW + 10);
    check_int(after.lasts, 1);
    check_int(t->head.status, 201);
    check_str(fields_value(&t->head.fields, FIELD_CONTENT_TYPE), "text/plain");
    tape_leave(&after.r);
    tape_unref(t);
}

static void ten_thousand_readers_share_one_copy(void **state UNUSED) {
    enum { READERS = 10000 };
    struct writer w;
    struct eyes *all = xcalloc(READERS, sizeof *all);
    struct tape *t = create(&w, true);
    for (unsigned i = 0; i < READERS; i++) {
        eyes_open(&all[i], t, i % 2 ? 0 : 7);
    }
    mem_fail_after(3, 1); // a chunk and its block; another allocation would fail
    append(t, 500, false);
    check(!mem_fail_fired());
    mem_fail_after(0, 0);
    for (unsigned i = 0; i < READERS; i++) {
        go_on(&all[i], SIZE_MAX);
        check_int(all[i].seen, 500);
    }
    append(t, 500, true);
    for (unsigned i = 0; i < READERS; i++) {
        check_int(all[i].seen, 1000);
        check_int(all[i].lasts, 1);
        tape_leave(&all[i].r);
    }
    tape_unref(t);
    free(all);
}

// A reader that joins in another's callback misses nothing.
struct joining {
    struct eyes e;
    struct eyes joined;
    bool done;
};

static size_t on_bytes_and_join(struct tape_reader *r, const struct iovec *v, int count, bool last) {
    struct joining *j = container_of(r, struct joining, e.r);
    if (!j->done) {
        j->done = true;
        eyes_open(&j->joined, r->tape, SIZE_MAX);
    }
    return on_bytes(r, v, count, last);
}

static void reader_that_joins_in_a_callback_misses_nothing(void **state UNUSED) {
    static const struct tape_reader_events events = {on_head, on_bytes_and_join, on_end};
    for (int kept = 0; kept <= 1; kept++) {
        struct writer w;
        struct joining j = {.e = {.budget = SIZE_MAX}};
        struct tape *t = create(&w, kept);
        tape_open(t, &j.e.r, &events, 0);
        append(t, 100, false);
        append(t, 100, false);
        tape_read(&j.joined.r);
        append(t, 100, true);
        check_int(j.e.seen, 300);
        check_int(j.joined.seen, 300);
        check_int(j.joined.lasts, 1);
        tape_leave(&j.e.r);
        tape_leave(&j.joined.r);
        tape_unref(t);
    }
}

// ---- against the reference

static uint64_t seed = 1;
static size_t below(size_t n) { // xorshift64*
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (size_t)((seed * 2685821657736338717u) >> 33) % n;
}

static size_t some_size(void) { return below(4) ? below(300) : below(2) ? below(9000) : below(80000); }

static void one_life(bool kept) {
    enum { READERS = 8 };
    struct eyes e[READERS] = {{.budget = 0}};
    struct writer w;
    struct tape *t = create(&w, kept);
    size_t most = 0;
    unsigned open = 1 + (unsigned)below(READERS);
    bool ended = false;
    tape_ref(t);
    for (unsigned i = 0; i < open; i++) {
        eyes_open(&e[i], t, some_size());
    }
    for (unsigned step = 0; step < 300 && t->why.end == TAPE_RUNNING; step++) {
        struct eyes *one = &e[below(READERS)];
        switch (below(10)) {
        case 0:
            if (below(8) == 0) {
                tape_leave(&one->r);
            }
            break;
        case 1:
            if (kept && !one->r.tape && !one->r.events) {
                eyes_open(one, t, some_size());
                one->r.position = one->from = below((size_t)t->written + 1);
                tape_read(&one->r);
            }
            break;
        case 2:
        case 3:
        case 4:
        case 5: go_on(one, some_size()); break;
        default:
            if (!tape_full(t)) {
                size_t n = some_size();
                uint64_t slowest = t->written;
                append(t, n, false);
                most = MAX(most, n);
                for (unsigned i = 0; i < READERS; i++) {
                    slowest = e[i].r.tape ? MIN(slowest, e[i].r.position) : slowest;
                }
                check(kept || t->why.end != TAPE_RUNNING || t->written - slowest <= TAPE_WINDOW + most);
            }
        }
    }
    if (t->why.end == TAPE_RUNNING) {
        ended = true;
        if (below(2)) {
            append(t, below(100), true);
        } else {
            tape_finish(t, &(struct tape_why){TAPE_CUT, ERR_CUT, 0, "cut"});
        }
    }
    check_int(w.abandoned, !ended);
    for (unsigned i = 0; i < READERS; i++) {
        while (e[i].r.tape && !e[i].lasts && !e[i].ends) {
            go_on(&e[i], 1 + some_size());
        }
        if (e[i].r.tape) {
            check_int(e[i].from + e[i].seen, t->written);
            check_int(e[i].lasts, t->why.end == TAPE_WHOLE);
            check_int(e[i].ends, t->why.end != TAPE_WHOLE);
            tape_leave(&e[i].r);
        }
    }
    if (ended) {
        tape_unref(t);
    }
    check_int(t->references, 1);
    tape_unref(t);
}

static void random_lives_agree_with_the_reference(void **state UNUSED) {
    for (unsigned i = 0; i < 400; i++) {
        seed = i + 1;
        one_life(i % 2);
    }
}

// ---- without memory

static void life_without_memory(void *arg) {
    struct writer w;
    struct eyes e[3];
    struct tape *t = create(&w, *(bool *)arg);
    for (size_t i = 0; i < ARRAY_LEN(e); i++) {
        eyes_open(&e[i], t, i * 2000);
        e[i].leaving = LEAVES_ON_LAST; // as it must: for others the same append may have failed
    }
    for (unsigned step = 0; step < 6 && t->why.end == TAPE_RUNNING; step++) {
        append(t, 3000, step == 5);
        go_on(&e[step % 3], step * 1000);
    }
    for (size_t i = 0; i < ARRAY_LEN(e); i++) {
        go_on(&e[i], SIZE_MAX);
        check_int(e[i].lasts + e[i].ends, 1); // never the wrong end, never none
        check_int(e[i].lasts, e[i].seen == 18000);
        check(e[i].lasts || t->why.end == TAPE_CUT);
        tape_leave(&e[i].r);
    }
    check(t->why.end == TAPE_WHOLE || (t->why.end == TAPE_CUT && t->why.error == ERR_NOMEM));
    check_int(t->why.end == TAPE_CUT, mem_fail_fired());
    tape_unref(t);
}

static void without_memory_the_answer_is_cut(void **state UNUSED) {
    for (int kept = 0; kept <= 1; kept++) {
        bool arg = kept;
        check(every_allocation_fails(life_without_memory, &arg) > 2);
    }
}

static int set_up(void **state UNUSED) {
    bytes = pattern();
    return 0;
}

static int tear_down(void **state UNUSED) {
    free((void *)(uintptr_t)bytes);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(head_bytes_and_end_arrive),
        TEST(empty_answer_is_whole),
        TEST(reader_that_takes_a_part_gets_the_rest_when_it_asks),
        TEST(cut_and_cancelled_ends_come_behind_the_bytes),
        TEST(reader_of_a_tape_that_was_cut_before_it_came_hears_of_it),
        TEST(last_reader_leaving_abandons_the_tape),
        TEST(readers_may_leave_in_any_callback),
        TEST(reader_may_leave_while_it_reads_what_was_recorded),
        TEST(tape_that_is_not_kept_is_full_behind_its_window),
        TEST(writer_that_is_done_is_not_told_of_room),
        TEST(kept_tape_is_never_full_and_replays),
        TEST(ten_thousand_readers_share_one_copy),
        TEST(reader_that_joins_in_a_callback_misses_nothing),
        TEST(random_lives_agree_with_the_reference),
        TEST(without_memory_the_answer_is_cut),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
