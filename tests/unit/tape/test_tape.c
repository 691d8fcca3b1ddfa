// SPDX-License-Identifier: MIT
// The tape against a reference: every reader sees every byte from its position on, once, in order, and then how it
// ended; a tape that is not kept is bounded by its window, a kept one by what it keeps.
#include "tape/tape.h"

#include "chance.h"
#include "support.h"

static const struct tape_why given_up = {TAPE_CANCELLED, OK, 0, 0, NULL};

struct writer {
    unsigned rooms;
    unsigned abandoned;
};

static void on_room(struct tape *t) {
    check(!tape_full(t));
    ((struct writer *)t->writer)->rooms++;
}

// As a call does: it lets go, and says so on the tape.
static void on_abandoned(struct tape *t) {
    ((struct writer *)t->writer)->abandoned++;
    t->events = NULL;
    tape_finish(t, &given_up);
    tape_unref(t);
}

static void on_stop(struct tape *t, const struct tape_why *why) { tape_finish(t, why); }

static const struct tape_events writer_events = {on_room, on_abandoned, on_stop};

static struct tape *create_keeping(struct writer *w, uint64_t keep) {
    *w = (struct writer){0};
    struct tape *t = tape_create(&writer_events, w);
    if (keep) {
        tape_keep(t, keep, 0);
    }
    return t;
}

static struct tape *create(struct writer *w, bool kept) { return create_keeping(w, kept ? PATTERN : 0); }

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
            tape_finish(t, &(struct tape_why){TAPE_CUT, ERR_CUT, 7, 0, "it broke"});
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
    tape_finish(t, &(struct tape_why){TAPE_CUT, ERR_RESET, 1, 0, "no"});
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
                    tape_finish(t, &(struct tape_why){TAPE_CUT, ERR_CUT, 0, 0, "x"});
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

static void tape_that_is_held_is_full_until_all_is_taken(void **state UNUSED) {
    struct writer w;
    struct eyes slow;
    struct eyes quick;
    struct tape *t = create(&w, false);
    eyes_open(&slow, t, 100);
    eyes_open(&quick, t, SIZE_MAX);
    append(t, 100, false);
    check(!tape_hold(t)); // all have taken all
    append(t, 1000, false);
    check(tape_hold(t));
    go_on(&slow, 999);
    check(tape_full(t));
    check_int(w.rooms, 0);
    go_on(&slow, 1);
    check(!tape_full(t));
    check_int(w.rooms, 1);
    append(t, 1000, false); // held once, not for ever
    check(!tape_full(t));
    tape_leave(&slow.r);
    tape_leave(&quick.r);
    check_int(w.abandoned, 1);
}

static void kept_tape_is_not_held(void **state UNUSED) {
    struct writer w;
    struct eyes slow;
    struct tape *t = create(&w, true);
    eyes_open(&slow, t, 0);
    append(t, 1000, false);
    check(!tape_hold(t)); // others may come, and are not to wait for this one
    tape_leave(&slow.r);
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
    check_int(t->status, 201);
    check_str(fields_value(&t->record->fields, FIELD_CONTENT_TYPE), "text/plain");
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
    return eyes_on_bytes(r, v, count, last);
}

static void reader_that_joins_in_a_callback_misses_nothing(void **state UNUSED) {
    static const struct tape_reader_events events = {eyes_on_head, on_bytes_and_join, eyes_on_end};
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
            tape_finish(t, &(struct tape_why){TAPE_CUT, ERR_CUT, 0, 0, "cut"});
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

// ---- what is kept, and what is not any more

static void kept_tape_drops_what_is_behind_its_keep(void **state UNUSED) {
    enum { KEEP = 10000, PIECE = 5000 };
    struct writer w;
    struct eyes quick, late;
    struct tape *t = create_keeping(&w, KEEP);
    eyes_open(&quick, t, SIZE_MAX);
    check(tape_has(t, 0));
    check(!tape_has(t, 1));
    for (unsigned i = 0; i < 20; i++) {
        append(t, PIECE, false);
        uint64_t start = tape_start(t);
        check(t->written - start >= MIN((uint64_t)KEEP, t->written)); // never less than promised
        check(t->written - start < KEEP + PIECE);                     // nor a whole piece more
        check(tape_has(t, start));
        check(tape_has(t, t->written));
        check(!tape_has(t, t->written + 1));
        check(start == 0 || !tape_has(t, start - 1));
    }
    check(tape_start(t) > 0);
    check_int(quick.seen, 20 * PIECE);
    eyes_open_at(&late, t, SIZE_MAX, tape_start(t));
    tape_read(&late.r);
    check_int(late.from + late.seen, t->written);
    append(t, 1, true);
    check_int(late.lasts, 1);
    tape_leave(&quick.r);
    tape_leave(&late.r);
    check_int(w.abandoned, 0);
    tape_unref(t);
}

static void slow_reader_keeps_what_it_has_not_read(void **state UNUSED) {
    struct writer w;
    struct eyes slow;
    struct tape *t = create_keeping(&w, 1000);
    eyes_open(&slow, t, 0);
    append(t, TAPE_WINDOW, false);
    check_int(tape_start(t), 0);
    go_on(&slow, TAPE_WINDOW - 10);
    check_int(slow.seen, TAPE_WINDOW - 10);
    go_on(&slow, SIZE_MAX);
    append(t, 5000, true);
    check_int(slow.seen, TAPE_WINDOW + 5000);
    tape_leave(&slow.r);
    tape_unref(t);
}

static void sole_slow_reader_of_a_kept_tape_holds_up_the_writer(void **state UNUSED) {
    enum { KEEP = 3 * TAPE_WINDOW };
    struct writer w;
    struct eyes slow;
    struct tape *t = create_keeping(&w, KEEP);
    eyes_open(&slow, t, 0);
    append(t, KEEP, false);
    check(!tape_full(t));
    append(t, 1, false);
    check(tape_full(t));
    check_int(slow.ends, 0);
    go_on(&slow, KEEP / 2);
    check(tape_full(t));
    check_int(w.rooms, 0);
    go_on(&slow, 1);
    check(!tape_full(t));
    check_int(w.rooms, 1);
    append(t, KEEP, false);
    check(tape_full(t));
    go_on(&slow, SIZE_MAX);
    check_int(w.rooms, 2);
    append(t, 1, true);
    check_int(slow.lasts, 1);
    tape_leave(&slow.r);
    tape_unref(t);
}

static void all_being_slow_hold_up_the_writer_until_one_keeps_up(void **state UNUSED) {
    enum { KEEP = 2 * TAPE_WINDOW };
    struct writer w;
    struct eyes a, b;
    struct tape *t = create_keeping(&w, KEEP);
    eyes_open(&a, t, 0);
    eyes_open(&b, t, 0);
    append(t, KEEP + 1, false);
    check(tape_full(t));
    check_int(a.ends + b.ends, 0);
    go_on(&b, 1); // keeps up now: `a` would hold up both
    check_int(a.ends, 1);
    check_int(a.end, TAPE_CUT);
    check_err(a.error, ERR_FULL);
    check(!a.r.tape);
    check(tape_full(t)); // `b` is behind still
    go_on(&b, SIZE_MAX);
    check(!tape_full(t));
    check_int(w.rooms, 1);
    check_int(b.seen, KEEP + 1);
    check_int(w.abandoned, 0);
    tape_leave(&b.r);
    check_int(w.abandoned, 1);
}

static void one_slow_reader_of_several_is_outrun(void **state UNUSED) {
    enum { KEEP = 2 * TAPE_WINDOW };
    struct writer w;
    struct eyes slow, slower, quick;
    struct tape *t = create_keeping(&w, KEEP);
    eyes_open(&slow, t, 0);
    eyes_open(&quick, t, SIZE_MAX);
    eyes_open(&slower, t, 0);
    append(t, KEEP, false);
    check_int(slow.ends + slower.ends, 0);
    append(t, 1, false);
    check_int(slow.ends, 1);
    check_int(slower.ends, 1);
    check_err(slower.error, ERR_FULL);
    check(!tape_full(t));
    check_int(w.rooms, 1); // it was, for a moment
    check_int(quick.seen, KEEP + 1);
    check(tape_running(t));
    append(t, 1, true);
    check_int(quick.lasts, 1);
    tape_leave(&quick.r);
    tape_unref(t);
}

static void nobody_is_outrun_once_the_answer_is_complete(void **state UNUSED) {
    enum { KEEP = 2 * TAPE_WINDOW };
    struct writer w;
    struct eyes slow, quick, late;
    struct tape *t = create_keeping(&w, KEEP);
    eyes_open(&slow, t, 0);
    eyes_open(&quick, t, SIZE_MAX);
    append(t, KEEP, false);
    append(t, TAPE_WINDOW, true);
    check_int(slow.ends, 0);
    eyes_open_at(&late, t, SIZE_MAX, t->written - 1);
    tape_read(&late.r);
    check_int(late.lasts, 1);
    go_on(&slow, 100);
    go_on(&slow, SIZE_MAX);
    check_int(slow.lasts, 1);
    check_int(slow.seen, KEEP + TAPE_WINDOW);
    tape_leave(&slow.r);
    tape_leave(&quick.r);
    tape_leave(&late.r);
    tape_unref(t);
}

// As a call that is stopped: it lets go, and adds an event that says so.
static void last_words_of_a_writer_outrun_nobody(void **state UNUSED) {
    enum { KEEP = 2 * TAPE_WINDOW };
    struct writer w;
    struct eyes slow;
    struct tape *t = create_keeping(&w, KEEP);
    eyes_open(&slow, t, 0);
    append(t, KEEP + 1, false);
    check(tape_full(t));
    t->events = NULL;
    append(t, 50, false);
    tape_finish(t, &cut_off);
    check_int(slow.ends, 0);
    go_on(&slow, SIZE_MAX);
    check_int(slow.seen, KEEP + 51);
    check_int(slow.ends, 1);
    check_err(slow.error, ERR_CUT);
    tape_leave(&slow.r);
    tape_unref(t);
}

static const struct tape_events writer_that_cannot_wait = {NULL, on_abandoned, on_stop};

static void writer_that_cannot_wait_outruns_at_once(void **state UNUSED) {
    enum { KEEP = 2 * TAPE_WINDOW };
    for (int others = 0; others <= 1; others++) {
        struct writer w = {.rooms = 0};
        struct eyes slow, quick;
        struct tape *t = tape_create(&writer_that_cannot_wait, &w);
        tape_ref(t);
        tape_keep(t, KEEP, 0);
        eyes_open(&slow, t, 0);
        if (others) {
            eyes_open(&quick, t, SIZE_MAX);
        }
        append(t, KEEP, false);
        check_int(slow.ends, 0);
        append(t, 1, false);
        check_int(slow.ends, 1);
        check_err(slow.error, ERR_FULL);
        check_int(w.abandoned, !others);
        if (others) {
            append(t, 1, false);
            check_int(quick.seen, KEEP + 2);
            tape_leave(&quick.r);
        }
        check_int(w.abandoned, 1);
        check_int(t->references, 1);
        tape_unref(t);
    }
}

static void late_readers_get_the_head_first_and_once(void **state UNUSED) {
    struct writer w;
    struct eyes first, late, leaving;
    struct tape_head interim = {.status = 103, .body_len = -1};
    char type[] = "text/event-stream";
    struct field fields[] = {{.name = STR("content-type"), .value = str_c(type), .id = FIELD_CONTENT_TYPE}};
    struct tape_head head = {200, {fields, 1, 1}, -1};
    struct tape *t = create_keeping(&w, 1000);
    eyes_open(&first, t, SIZE_MAX);
    tape_read(&first.r);
    check_int(first.heads, 0);
    tape_put_head(t, &interim);
    tape_put_head(t, &head);
    memset(type, 'x', sizeof type - 1); // it was the writer's
    check_int(first.heads, 1);
    check_int(first.interim, 1);
    eyes_open(&late, t, SIZE_MAX);
    check_int(late.heads, 0);
    tape_read(&late.r);
    tape_read(&late.r);
    check_int(late.heads, 1);
    check_int(late.interim, 0);
    check_int(late.status, 200);
    check_str(str_c(late.type), "text/event-stream");
    append(t, 10, false);
    tape_read(&late.r);
    check_int(late.heads, 1);
    check_int(late.seen, 10);
    tape_leave(&first.r);
    tape_leave(&late.r); // abandons it
    check_int(w.abandoned, 1);

    t = create_keeping(&w, 1000);
    tape_put_head(t, &head);
    append(t, 10, false);
    eyes_open(&leaving, t, SIZE_MAX);
    leaving.leaving = LEAVES_ON_HEAD;
    tape_read(&leaving.r);
    check_int(leaving.heads, 1);
    check_int(leaving.calls, 0);
    check_int(w.abandoned, 1);
}

static void last_reader_that_leaves_a_full_tape_does_not_make_room_first(void **state UNUSED) {
    struct writer w;
    struct eyes e;
    struct tape *t = create(&w, false);
    eyes_open(&e, t, 0);
    append(t, TAPE_WINDOW + 1, false);
    check(tape_full(t));
    tape_leave(&e.r);
    check_int(w.abandoned, 1);
    check_int(w.rooms, 0);
}

// ---- marks

static void check_mark(const struct tape *t, uint64_t n, enum err wanted, uint64_t position) {
    uint64_t got = UINT64_MAX;
    check_err(tape_find_mark(t, n, &got), wanted);
    if (wanted == OK) {
        check_int(got, position);
    }
}

static void marks_are_found_until_they_are_dropped(void **state UNUSED) {
    enum { KEEP = 3000, PIECE = 1000, PIECES = 200 };
    struct writer w;
    struct tape *t = create_keeping(&w, KEEP);
    check_mark(t, 0, ERR_AGAIN, 0);
    for (unsigned i = 0; i < PIECES; i++) {
        tape_mark(t, t->written + PIECE / 2);
        tape_mark(t, t->written + PIECE);
        check_mark(t, 2 * i, ERR_AGAIN, 0); // its bytes are not there yet
        append(t, PIECE, false);
        check_mark(t, 2 * i, OK, t->written - PIECE / 2);
        check_mark(t, 2 * i + 1, OK, t->written);
        check_mark(t, 2 * i + 2, ERR_AGAIN, 0);
        for (unsigned n = 0; n < 2 * i + 2; n++) {
            uint64_t position = (n + 1) * (PIECE / 2);
            check_mark(t, n, position < tape_start(t) ? ERR_GONE : OK, position);
        }
        check_int(tape_marks(t), 2 * i + 2);
        check(t->record->marks.count <= 4 * (KEEP + 4096) / PIECE + 2); // they go with the bytes
    }
    check(tape_start(t) > 0);
    check(t->record->marks.room <= 64);
    append(t, 0, true);
    check_mark(t, 2 * PIECES - 1, OK, t->written);
    check_mark(t, 2 * PIECES, ERR_INVALID, 0);
    check_mark(t, 0, ERR_GONE, 0);
    tape_unref(t);
}

static void without_memory_for_a_mark_the_rest_is_lost(void **state UNUSED) {
    struct writer w;
    struct tape *t = create_keeping(&w, PATTERN);
    append(t, 1000, false);
    for (unsigned i = 0; i < 32; i++) {
        tape_mark(t, i);
    }
    mem_fail_after(1, 0);
    tape_mark(t, 32);
    check(mem_fail_fired());
    mem_fail_after(0, 0);
    tape_mark(t, 33); // would be found as number 32
    for (unsigned i = 0; i < 32; i++) {
        check_mark(t, i, OK, i);
    }
    check_mark(t, 32, ERR_GONE, 0);
    check_mark(t, 33, ERR_GONE, 0);
    append(t, 0, true);
    check_mark(t, 33, ERR_GONE, 0);
    tape_unref(t);
}

// The end that a mark was made for never came.
static void mark_behind_the_end_is_invalid(void **state UNUSED) {
    struct writer w;
    struct tape *t = create_keeping(&w, PATTERN);
    append(t, 100, false);
    tape_mark(t, 100);
    tape_mark(t, 200);
    tape_finish(t, &cut_off);
    check_mark(t, 0, OK, 100);
    check_mark(t, 1, ERR_INVALID, 0);
    tape_unref(t);
}

// ---- sharing

static uint64_t pass_on(struct tape *from, uint64_t position, struct tape *to, int room) {
    struct tape_part parts[8];
    int count = tape_share(from, position, parts, room);
    check(count <= room);
    for (int i = 0; i < count; i++) {
        check_int(to->written, position);
        position += parts[i].bytes.len;
        tape_append_part(to, &parts[i], false);
        check(!parts[i].block);
        tape_part_drop(&parts[i]); // nothing is left to drop
    }
    return position;
}

static void shared_blocks_outlive_the_tape_they_come_from(void **state UNUSED) {
    struct writer w, w2;
    struct eyes e, slow;
    struct tape *from = create_keeping(&w, PATTERN);
    struct tape *to = create_keeping(&w2, PATTERN);
    uint64_t position = 0;
    eyes_open(&e, to, SIZE_MAX);
    eyes_open(&slow, to, 0);
    for (unsigned i = 0; i < 300; i++) {
        append(from, 1 + i * 7 % 1500, false); // most of them behind others in a block that is shared already
        position = pass_on(from, position, to, 1 + (int)(i % 8));
    }
    while (position < from->written) {
        position = pass_on(from, position, to, 8);
    }
    check_int(tape_copied(to), 0); // nothing was copied
    tape_unref(from);
    check_int(e.seen, position);
    tape_append(to, STR(""), true);
    go_on(&slow, 100000);
    go_on(&slow, SIZE_MAX);
    check_int(slow.seen, position);
    check_int(slow.lasts, 1);
    tape_leave(&e.r);
    tape_leave(&slow.r);
    tape_unref(to);
}

static void parts_that_nobody_takes_are_dropped(void **state UNUSED) {
    struct writer w;
    struct tape_part parts[4];
    struct tape *t = create_keeping(&w, PATTERN);
    check_int(tape_share(t, 0, parts, 4), 0);
    for (unsigned i = 0; i < 6; i++) {
        append(t, 5000, false);
    }
    check_int(tape_share(t, t->written, parts, 4), 0);
    check_int(tape_share(t, 5001, parts, 4), 4);
    tape_unref(t);
    uint64_t position = 5001;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        check(memcmp(parts[i].bytes.ptr, pattern + position, parts[i].bytes.len) == 0);
        position += parts[i].bytes.len;
        tape_part_drop(&parts[i]);
        tape_part_drop(&parts[i]);
    }
}

static size_t take_nothing(struct tape_reader *r UNUSED, const struct iovec *v UNUSED, int count UNUSED,
                           bool last UNUSED) {
    return 0;
}

static void taking_parts_moves_the_reader_and_makes_room(void **state UNUSED) {
    static const struct tape_reader_events events = {eyes_on_head, take_nothing, eyes_on_end};
    struct writer w;
    struct tape_reader r;
    struct tape_part parts[16];
    struct tape *t = create_keeping(&w, 1000);
    tape_open(t, &r, &events, 0);
    uint64_t position = 0;
    for (unsigned round = 0; round < 10; round++) {
        while (!tape_full(t)) {
            append(t, 7000, false);
        }
        check_int(w.rooms, round);
        while (position < t->written) {
            int count = tape_take(&r, parts, 1 + (int)(round % 16));
            check(count > 0);
            for (int i = 0; i < count; i++) {
                check(memcmp(parts[i].bytes.ptr, pattern + position, parts[i].bytes.len) == 0);
                position += parts[i].bytes.len;
                tape_part_drop(&parts[i]);
            }
            check_int(r.position, position);
        }
        check_int(w.rooms, round + 1);
        check(t->written - tape_start(t) < 1000 + 7000);
    }
    check_int(tape_take(&r, parts, 16), 0);
    tape_leave(&r);
    check_int(w.abandoned, 1);
}

// ---- a kept tape against a simple one

enum { KEPT_READERS = 6, MARKS_MAX = 400 };

struct kept_life {
    struct writer w;
    struct tape *t;
    uint64_t keep, window;
    struct eyes e[KEPT_READERS];
    uint64_t marks[MARKS_MAX];
    size_t marks_count;
    uint64_t written;
    size_t most; // of one append
    unsigned outrun;
};

static void check_marks(const struct kept_life *l) {
    for (unsigned i = 0; i < 10; i++) {
        size_t n = below(l->marks_count + 2);
        bool gone = n < l->marks_count && l->marks[n] < tape_start(l->t);
        check_mark(l->t, n, n >= l->marks_count ? ERR_AGAIN : gone ? ERR_GONE : OK, gone ? 0 : l->marks[n % MARKS_MAX]);
    }
}

static void check_kept(const struct kept_life *l) {
    uint64_t slow = l->written;
    bool within = false;
    bool beyond = false;
    for (size_t i = 0; i < KEPT_READERS; i++) {
        if (l->e[i].r.tape) {
            uint64_t behind = l->written - l->e[i].r.position;
            slow = MIN(slow, l->e[i].r.position);
            within = within || behind <= l->window;
            beyond = beyond || behind > l->window;
            check_int(l->e[i].r.position, l->e[i].from + l->e[i].seen);
        }
    }
    uint64_t needed = MIN(slow, l->written > l->keep ? l->written - l->keep : 0);
    check_int(l->t->written, l->written);
    check(tape_start(l->t) <= needed);                              // what was promised is there
    check(tape_start(l->t) + MAX(l->most, (size_t)4096) >= needed); // and not much else
    check(!tape_full(l->t) || l->written - slow > l->window / 2);
    check(!tape_full(l->t) || !(within && beyond)); // nobody holds up others
    check_marks(l);
}

static void append_some(struct kept_life *l) {
    size_t n = some_size();
    n = MIN(n, (size_t)PATTERN - l->written - 100);
    for (size_t at = below(n + 1); below(3) && l->marks_count < MARKS_MAX && at <= n; at += below(300)) {
        l->marks[l->marks_count++] = l->written + at;
        tape_mark(l->t, l->written + at);
    }
    l->most = MAX(l->most, n);
    append(l->t, n, false);
    l->written += n;
    for (size_t i = 0; i < KEPT_READERS; i++) {
        check(!l->e[i].r.tape || tape_full(l->t) || l->written - l->e[i].r.position <= l->window);
    }
}

static void open_some(struct kept_life *l, struct eyes *e) {
    uint64_t position = below((size_t)l->written + 2);
    if (tape_has(l->t, position)) {
        eyes_open_at(e, l->t, some_size(), position);
        tape_read(&e->r);
    } else {
        check(position < tape_start(l->t) || position > l->written);
    }
}

static void kept_life(uint64_t keep) {
    struct kept_life l = {.keep = keep, .window = MAX(keep, (uint64_t)TAPE_WINDOW)};
    struct eyes stays;
    l.t = create_keeping(&l.w, keep);
    bool watched = below(2); // by a reader that takes all, so that the others can be outrun
    if (watched) {
        eyes_open(&stays, l.t, SIZE_MAX);
    }
    tape_ref(l.t);
    for (unsigned step = 0; step < 200 && tape_running(l.t); step++) {
        struct eyes *one = &l.e[below(KEPT_READERS)];
        switch (below(8)) {
        case 0:
            if (one->r.tape && below(3) == 0) {
                tape_leave(&one->r);
            }
            break;
        case 1:
            if (!one->r.tape) {
                l.outrun += one->ends;
                open_some(&l, one);
            }
            break;
        case 2:
        case 3: go_on(one, some_size()); break;
        default:
            if (!tape_full(l.t) && l.written + 100 < PATTERN) {
                append_some(&l);
            }
        }
        if (tape_running(l.t)) {
            check_kept(&l);
        }
    }
    bool ended = tape_running(l.t);
    if (ended) {
        append(l.t, 50, true);
    }
    for (size_t i = 0; i < KEPT_READERS; i++) {
        while (l.e[i].r.tape && !l.e[i].lasts && !l.e[i].ends) {
            go_on(&l.e[i], 1 + some_size());
        }
        check(!l.e[i].r.tape || l.e[i].lasts == ended);
        check(l.e[i].r.tape == NULL || l.e[i].from + l.e[i].seen == l.t->written);
        tape_leave(&l.e[i].r);
    }
    if (watched) {
        check_int(stays.seen, l.t->written);
        check_int(stays.lasts, 1);
        tape_leave(&stays.r);
    }
    if (ended) {
        tape_unref(l.t);
    }
    check_int(l.t->references, 1);
    tape_unref(l.t);
}

static void random_kept_lives_agree_with_the_reference(void **state UNUSED) {
    static const uint64_t keeps[] = {1, 3000, 40000, 100000, 300000, PATTERN};
    for (unsigned i = 0; i < 300; i++) {
        seed = 1000 + i;
        kept_life(keeps[i % ARRAY_LEN(keeps)]);
    }
}

// ---- kept, without memory

static void kept_life_without_memory(void *arg UNUSED) {
    struct writer w, w2;
    struct eyes e, leaver, copy;
    struct tape_part parts[8];
    struct field fields[] = {{.name = STR("a"), .value = STR("b")}};
    struct tape_head head = {200, {fields, 1, 1}, -1};
    struct tape *t = create_keeping(&w, 20000);
    struct tape *to = create_keeping(&w2, 20000);
    tape_ref(t);
    tape_ref(to);
    eyes_open(&e, t, SIZE_MAX);
    eyes_open(&copy, to, 100);
    e.leaving = copy.leaving = LEAVES_ON_LAST;
    eyes_open(&leaver, t, SIZE_MAX);
    leaver.leaving = LEAVES_ON_BYTES;
    tape_put_head(t, &head);
    for (unsigned i = 0; i < 40 && tape_running(t); i++) {
        tape_mark(t, t->written + 1000);
        append(t, 1000, i == 39);
        int count = tape_share(t, to->written, parts, 8);
        for (int part = 0; part < count; part++) {
            if (tape_running(to)) {
                tape_append_part(to, &parts[part], false);
            }
            tape_part_drop(&parts[part]);
        }
        go_on(&copy, 900);
    }
    check(t->written == 40000 || (t->why.end == TAPE_CUT && t->why.error == ERR_NOMEM));
    check(tape_running(to) || to->why.error == ERR_NOMEM);
    check_int(t->why.end == TAPE_CUT || !tape_running(to) || t->record->marks.lost, mem_fail_fired());
    check_int(e.lasts + e.ends, 1);
    check_int(e.seen, e.lasts ? 40000 : e.seen);
    tape_leave(&e.r);
    tape_leave(&leaver.r);
    if (tape_running(to)) {
        tape_append(to, STR(""), true);
    }
    go_on(&copy, SIZE_MAX);
    check(copy.seen >= to->written); // a reader is given bytes before there may be no memory to record them
    check(copy.seen == to->written || to->why.end == TAPE_CUT);
    tape_leave(&copy.r);
    tape_unref(t);
    tape_unref(t);
    tape_unref(to);
    tape_unref(to);
}

static void every_way_of_a_kept_tape_survives_without_memory(void **state UNUSED) {
    check(every_allocation_fails(kept_life_without_memory, NULL) > 20);
}

// The append that its last reader leaves in, and that has no memory: one end, the reader's.
static void leaving_and_no_memory_end_a_tape_once(void **state UNUSED) {
    struct writer w;
    struct eyes e;
    struct tape *t = create_keeping(&w, PATTERN);
    tape_ref(t);
    eyes_open(&e, t, SIZE_MAX);
    e.leaving = LEAVES_ON_BYTES;
    mem_fail_after(1, 0);
    append(t, 100, false);
    check(mem_fail_fired());
    mem_fail_after(0, 0);
    check_int(t->why.end, TAPE_CANCELLED);
    check_int(w.abandoned, 1);
    tape_unref(t);
}

// What an append that failed had room for is not on the tape either.
static void failed_append_leaves_nothing_behind(void **state UNUSED) {
    struct writer w;
    struct eyes e;
    struct tape *t = create_keeping(&w, PATTERN);
    append(t, 100, false);
    mem_fail_after(1, 0);
    append(t, 5000, false);
    check(mem_fail_fired());
    mem_fail_after(0, 0);
    check_int(t->why.end, TAPE_CUT);
    check_int(t->written, 100);
    eyes_open(&e, t, SIZE_MAX);
    tape_read(&e.r);
    check_int(e.seen, 100);
    check_int(e.ends, 1);
    tape_leave(&e.r);
    tape_unref(t);
}

TAPE_TESTS(TEST(tape_that_is_held_is_full_until_all_is_taken), TEST(kept_tape_is_not_held),
           TEST(head_bytes_and_end_arrive), TEST(empty_answer_is_whole),
           TEST(reader_that_takes_a_part_gets_the_rest_when_it_asks),
           TEST(cut_and_cancelled_ends_come_behind_the_bytes),
           TEST(reader_of_a_tape_that_was_cut_before_it_came_hears_of_it), TEST(last_reader_leaving_abandons_the_tape),
           TEST(readers_may_leave_in_any_callback), TEST(reader_may_leave_while_it_reads_what_was_recorded),
           TEST(tape_that_is_not_kept_is_full_behind_its_window), TEST(writer_that_is_done_is_not_told_of_room),
           TEST(kept_tape_is_never_full_and_replays), TEST(ten_thousand_readers_share_one_copy),
           TEST(reader_that_joins_in_a_callback_misses_nothing), TEST(random_lives_agree_with_the_reference),
           TEST(without_memory_the_answer_is_cut), TEST(kept_tape_drops_what_is_behind_its_keep),
           TEST(slow_reader_keeps_what_it_has_not_read), TEST(sole_slow_reader_of_a_kept_tape_holds_up_the_writer),
           TEST(all_being_slow_hold_up_the_writer_until_one_keeps_up), TEST(one_slow_reader_of_several_is_outrun),
           TEST(nobody_is_outrun_once_the_answer_is_complete), TEST(last_words_of_a_writer_outrun_nobody),
           TEST(writer_that_cannot_wait_outruns_at_once), TEST(late_readers_get_the_head_first_and_once),
           TEST(last_reader_that_leaves_a_full_tape_does_not_make_room_first),
           TEST(marks_are_found_until_they_are_dropped), TEST(without_memory_for_a_mark_the_rest_is_lost),
           TEST(mark_behind_the_end_is_invalid), TEST(shared_blocks_outlive_the_tape_they_come_from),
           TEST(parts_that_nobody_takes_are_dropped), TEST(taking_parts_moves_the_reader_and_makes_room),
           TEST(random_kept_lives_agree_with_the_reference), TEST(every_way_of_a_kept_tape_survives_without_memory),
           TEST(leaving_and_no_memory_end_a_tape_once), TEST(failed_append_leaves_nothing_behind))
