// SPDX-License-Identifier: MIT
// Tapes of one shelf read on another. The loops are turned by hand, so that every message can be met on its way.
#include "tape/mirror.h"

#include "shelves.h"

enum { READ_BY_POSITION = -1 };

// As a request that joins an answer.
struct client {
    struct mirror_wait wait;
    struct eyes e;
    struct shelf *shelf;
    struct tape_id id;
    unsigned where;
    uint64_t position;
    int mark; // reading begins behind this one
    size_t budget;
    enum leaving leaving;
    unsigned asks_again; // when refused
    unsigned answers;    // on_tape
    enum shelf_find found;
    enum err error; // of its position
};

static void begin_reading(struct client *c, struct tape *t) {
    enum err e = OK;
    if (c->mark != READ_BY_POSITION) {
        e = tape_find_mark(t, (uint64_t)c->mark, &c->position);
    } else if (c->position > t->written) {
        e = ERR_AGAIN;
    } else if (!tape_has(t, c->position)) {
        e = ERR_GONE;
    }
    if (e == ERR_AGAIN && mirror_wait_on(t, &c->wait)) {
        return;
    }
    c->error = e;
    if (e == OK) {
        eyes_open_at(&c->e, t, c->budget, c->position);
        c->e.leaving = c->leaving;
        shelf_joined(t);
        tape_read(&c->e.r);
    }
}

static void on_tape(struct mirror_wait *wait, enum shelf_find found, struct tape *t) {
    struct client *c = container_of(wait, struct client, wait);
    c->answers++;
    c->found = found;
    check((found == SHELF_HERE) == (t != NULL));
    if (t) {
        begin_reading(c, t);
    } else if (c->asks_again) {
        c->asks_again--;
        mirror_ask(c->shelf, &c->id, c->where, wait);
    }
}

static void client_init(struct client *c, struct bench *b, unsigned shelf, const struct call *of) {
    *c = (struct client){.shelf = &b->shelves[shelf], .id = of->id, .mark = READ_BY_POSITION, .budget = SIZE_MAX};
    c->where = of->shelf->number;
    c->wait.tenant = &tenant;
    c->wait.on_tape = on_tape;
}

static void client_ask(struct client *c) { mirror_ask(c->shelf, &c->id, c->where, &c->wait); }

static void client_begin(struct client *c, struct bench *b, unsigned shelf, const struct call *of) {
    client_init(c, b, shelf, of);
    client_ask(c);
}

static void client_end(struct client *c) {
    mirror_wait_end(&c->wait);
    mirror_wait_end(&c->wait);
    tape_leave(&c->e.r);
}

static void turns(struct bench *b, unsigned n) {
    while (n--) {
        turn(b);
    }
}

static void check_quiet(const struct bench *b) {
    for (unsigned i = 0; i < SHELVES; i++) {
        check_int(b->shelves[i].feeds, 0);
        check_int(b->shelves[i].mirrors.count, 0);
    }
}

static void put_head(struct call *c) {
    char type[] = "text/event-stream";
    struct field fields[] = {{.name = STR("content-type"), .value = str_c(type), .id = FIELD_CONTENT_TYPE}};
    tape_put_head(c->tape, &(struct tape_head){200, {fields, 1, 1}, -1});
    memset(type, 'x', sizeof type - 1); // it is the writer's
}

static void append_event(struct call *c, size_t n) {
    tape_mark(c->tape, c->tape->written + n);
    append(c->tape, n, false);
}

// ---- what a mirror shows

static void mirror_shows_what_the_tape_shows(void **state UNUSED) {
    for (int whole = 0; whole <= 1; whole++) {
        for (unsigned late = 0; late <= 4; late++) { // when the client comes
            struct bench b;
            struct call call;
            struct client c;
            bench_init(&b, UINT64_MAX);
            call_begin_kept(&call, &b, 0);
            if (late == 0) {
                client_begin(&c, &b, 1, &call);
                turns(&b, 2);
            }
            put_head(&call);
            if (late == 1) {
                client_begin(&c, &b, 1, &call);
            }
            turns(&b, 2);
            append_event(&call, 100);
            if (late == 2) {
                client_begin(&c, &b, 1, &call);
            }
            turns(&b, 2);
            append_event(&call, 5000);
            append_event(&call, 1);
            if (late == 3) {
                client_begin(&c, &b, 1, &call);
            }
            if (whole) {
                append(call.tape, 50, true);
                call_end(&call, NULL);
            } else {
                call_end(&call, &cut_off);
            }
            if (late == 4) {
                client_begin(&c, &b, 1, &call);
            }
            turns(&b, 2);
            check_int(c.answers, 1);
            check_int(c.found, SHELF_HERE);
            check_int(c.e.heads, 1);
            check_int(c.e.status, 200);
            check_str(str_c(c.e.type), "text/event-stream");
            check_int(c.e.seen, whole ? 5151 : 5101);
            check_int(c.e.lasts, whole);
            check_int(c.e.ends, !whole);
            check_int(c.e.end, whole ? 0 : TAPE_CUT);
            struct tape *t = c.e.r.tape;
            uint64_t position;
            check_int(tape_copied(t), 0); // not copied
            check_int(t->why.end, whole ? TAPE_WHOLE : TAPE_CUT);
            check(whole || strcmp(t->why.problem, cut_off.problem) == 0);
            check_int(t->why.reason, whole ? 0 : cut_off.reason);
            check_ok(tape_find_mark(t, 0, &position));
            check_int(position, 100);
            check_ok(tape_find_mark(t, 2, &position));
            check_int(position, 5101);
            check_err(tape_find_mark(t, 3, &position), ERR_INVALID);
            struct tape_id id = shelf_id(c.shelf, t);
            check_str(str_c(id.text), call.id.text);
            check_quiet(&b); // the tape stays with its reader
            client_end(&c);
            bench_finish(&b);
        }
    }
}

static void all_readers_of_a_worker_share_one_feed(void **state UNUSED) {
    enum { CLIENTS = 40 };
    struct bench b;
    struct call call;
    struct client clients[CLIENTS];
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_begin(&clients[i], &b, 1 + i % 2, &call);
        if (i % 4 == 3) {
            turn(&b);
            append(call.tape, 1000, false);
        }
    }
    turns(&b, 2);
    check_int(b.shelves[0].feeds, 2);
    check_int(b.shelves[1].mirrors.count, 1);
    check_int(b.shelves[2].mirrors.count, 1);
    check_int(clients[0].e.r.tape == clients[2].e.r.tape, true);
    append(call.tape, 77, true);
    call_end(&call, NULL);
    turns(&b, 2);
    for (unsigned i = 0; i < CLIENTS; i++) {
        check_int(clients[i].e.seen, CLIENTS / 4 * 1000 + 77);
        check_int(clients[i].e.lasts, 1);
        client_end(&clients[i]);
    }
    check_quiet(&b);
    bench_finish(&b);
}

// More blocks and marks than one message holds; whoever wants a mark that is on its way waits for it.
static void long_tape_comes_in_many_messages(void **state UNUSED) {
    enum { EVENTS = 7000 };
    struct bench b;
    struct call call;
    struct client from_start, from_mark, from_last;
    bench_init(&b, UINT64_MAX);
    call_begin(&call, &b, 0);
    call.kept = shelf_keep(call.shelf, call.tape, PATTERN, &tenant);
    put_head(&call);
    for (unsigned i = 0; i < EVENTS; i++) {
        append_event(&call, 200);
    }
    client_begin(&from_start, &b, 1, &call);
    client_init(&from_mark, &b, 1, &call);
    from_mark.mark = 6000;
    client_ask(&from_mark);
    client_init(&from_last, &b, 1, &call);
    from_last.mark = EVENTS; // the one to come
    client_ask(&from_last);
    turns(&b, 2);
    check_int(from_start.e.seen, EVENTS * 200);
    check_ok(from_mark.error);
    check_int(from_mark.e.from, 6001 * 200);
    check_int(from_mark.e.from + from_mark.e.seen, EVENTS * 200);
    check(!from_last.e.r.tape);
    append_event(&call, 100);
    turns(&b, 2);
    check(from_last.e.r.tape != NULL);
    check_int(from_last.e.from, EVENTS * 200 + 100);
    append(call.tape, 5, true);
    call_end(&call, NULL);
    turns(&b, 2);
    check_int(from_last.e.seen, 5);
    check_int(from_last.e.lasts + from_mark.e.lasts + from_start.e.lasts, 3);
    client_end(&from_start);
    client_end(&from_mark);
    client_end(&from_last);
    check_quiet(&b);
    bench_finish(&b);
}

static void lost_marks_are_lost_on_the_mirror_too(void **state UNUSED) {
    struct bench b;
    struct call call;
    struct client c;
    uint64_t position;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0);
    append_event(&call, 10);
    call.tape->record->marks.lost = true;
    append_event(&call, 10);
    client_begin(&c, &b, 1, &call);
    turns(&b, 2);
    check_ok(tape_find_mark(c.e.r.tape, 0, &position));
    check_err(tape_find_mark(c.e.r.tape, 1, &position), ERR_GONE);
    append(call.tape, 0, true);
    call_end(&call, NULL);
    turns(&b, 2);
    client_end(&c);
    bench_finish(&b);
}

static void what_was_dropped_is_gone_on_the_mirror_too(void **state UNUSED) {
    struct bench b;
    struct call call;
    struct client gone_byte, gone_mark, rest;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0);
    for (unsigned i = 0; i < 60; i++) {
        append_event(&call, TAPE_KEEP / 20);
    }
    uint64_t start = tape_start(call.tape);
    check(start > 0);
    check(call.tape->record->marks.gone > 0);
    for (int ended = 0; ended <= 1; ended++) {
        client_init(&gone_byte, &b, 1, &call);
        gone_byte.position = start - 1;
        client_ask(&gone_byte);
        client_init(&gone_mark, &b, 2, &call);
        gone_mark.mark = 3;
        client_ask(&gone_mark);
        client_init(&rest, &b, 1, &call);
        rest.position = start;
        rest.budget = 10;
        client_ask(&rest);
        turns(&b, 3);
        check_err(gone_byte.error, ERR_GONE);
        check_err(gone_mark.error, ERR_GONE);
        check_int(b.shelves[2].mirrors.count, 0); // nobody reads it
        check_int(rest.e.ends, 0);                // it is slow, but all it asked for was there
        check_int(rest.e.seen, 10);
        if (!ended) {
            append(call.tape, 10, true);
            call_end(&call, NULL);
            turns(&b, 2);
        }
        go_on(&rest.e, SIZE_MAX);
        check_int(rest.e.lasts, 1);
        check_int(rest.e.from + rest.e.seen, 60 * (TAPE_KEEP / 20) + 10);
        client_end(&rest);
    }
    check_quiet(&b);
    bench_finish(&b);
}

// ---- who is too slow

static void slow_reader_of_a_mirror_is_outrun_and_nobody_else(void **state UNUSED) {
    struct bench b;
    struct call call;
    struct client slow, quick, elsewhere;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0);
    client_init(&slow, &b, 1, &call);
    slow.budget = 10;
    client_ask(&slow);
    client_begin(&quick, &b, 1, &call);
    client_begin(&elsewhere, &b, 2, &call);
    for (unsigned i = 0; i < 10; i++) {
        turns(&b, 2);
        append(call.tape, TAPE_KEEP / 4, false);
        check(!tape_full(call.tape));
    }
    turns(&b, 2);
    check_int(slow.e.ends, 1);
    check_err(slow.e.error, ERR_FULL);
    check_int(slow.e.seen, 10);
    append(call.tape, 1, true);
    call_end(&call, NULL);
    turns(&b, 2);
    check_int(quick.e.lasts + elsewhere.e.lasts, 2);
    client_end(&slow);
    client_end(&quick);
    client_end(&elsewhere);
    check_quiet(&b);
    bench_finish(&b);
}

static void sole_reader_that_is_outrun_takes_the_feed_along(void **state UNUSED) {
    struct bench b;
    struct call call;
    struct client slow;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0); // disconnect: it ends
    client_init(&slow, &b, 1, &call);
    slow.budget = 10;
    client_ask(&slow);
    turns(&b, 2);
    for (unsigned i = 0; i < 6 && call.tape; i++) {
        append(call.tape, TAPE_KEEP / 4, false);
        turns(&b, 2);
    }
    check_err(slow.e.error, ERR_FULL);
    turns(&b, 2);
    check(!call.tape); // abandoned
    check_quiet(&b);
    bench_finish(&b);
}

// All that a feed has taken makes room, though nobody over there may have.
static void feed_makes_room_on_a_full_tape(void **state UNUSED) {
    struct bench b;
    struct call call;
    struct client c;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0);
    client_begin(&c, &b, 1, &call);
    turns(&b, 2);
    append(call.tape, TAPE_KEEP / 2, false);
    append(call.tape, TAPE_KEEP, false); // all in one turn
    check(tape_full(call.tape));
    turns(&b, 1);
    check(!tape_full(call.tape));
    append(call.tape, 10, true);
    call_end(&call, NULL);
    turns(&b, 2);
    check_int(c.e.ends, 0);
    check_int(c.e.seen, TAPE_KEEP / 2 + TAPE_KEEP + 10);
    client_end(&c);
    check_quiet(&b);
    bench_finish(&b);
}

// ---- asking, leaving, stopping

static void client_that_leaves_at_any_moment_takes_the_feed_along(void **state UNUSED) {
    for (unsigned steps = 0; steps < 12; steps++) { // single turns of single loops
        for (int order = 0; order <= 1; order++) {
            for (int with_bytes = 0; with_bytes <= 1; with_bytes++) {
                struct bench b;
                struct call call;
                struct client c;
                bench_init(&b, UINT64_MAX);
                call_begin_kept(&call, &b, 0); // disconnect: it ends
                client_begin(&c, &b, 1, &call);
                for (unsigned i = 0; i < steps; i++) {
                    if (with_bytes) {
                        append_event(&call, 100);
                    }
                    loop_turn(&b.loops[(i + (unsigned)order) % 2], 0);
                }
                client_end(&c);
                check_int(b.shelves[1].mirrors.count, 0);
                turns(&b, 2);
                check(!call.tape); // ended: abandoned by its only reader
                check_quiet(&b);
                check(c.answers <= 1);
                bench_finish(&b);
            }
        }
    }
}

static void new_reader_comes_while_the_last_ones_leaving_travels(void **state UNUSED) {
    for (unsigned before = 0; before < 6; before++) {
        for (unsigned between = 0; between < 4; between++) {
            struct bench b;
            struct call call;
            struct client first, second;
            bench_init(&b, UINT64_MAX);
            call_begin_kept(&call, &b, 0);
            call.kept->disconnect = TAPE_GOES_ON;
            put_head(&call);
            append(call.tape, 500, false);
            client_begin(&first, &b, 1, &call);
            for (unsigned i = 0; i < before; i++) {
                loop_turn(&b.loops[i % 2], 0);
            }
            append(call.tape, 500, false);
            client_end(&first);
            for (unsigned i = 0; i < between; i++) {
                loop_turn(&b.loops[i % 2], 0);
            }
            client_begin(&second, &b, 1, &call);
            append(call.tape, 500, false);
            turns(&b, 3);
            check_int(b.shelves[0].feeds, 1);
            check_int(second.e.seen, 1500);
            check_int(second.e.heads, 1);
            append(call.tape, 5, true);
            call_end(&call, NULL);
            turns(&b, 2);
            check_int(second.e.lasts, 1);
            check_int(second.answers, 1);
            client_end(&second);
            check_quiet(&b);
            bench_finish(&b);
        }
    }
}

static void readers_may_leave_at_every_event(void **state UNUSED) {
    for (int leaving = LEAVES_ON_HEAD; leaving <= LEAVES_ON_END; leaving++) {
        for (int others = 0; others <= 1; others++) {
            for (int whole = 0; whole <= 1; whole++) {
                for (int live = 0; live <= 1; live++) {
                    struct bench b;
                    struct call call;
                    struct client c, other;
                    bench_init(&b, UINT64_MAX);
                    call_begin_kept(&call, &b, 0);
                    call.kept->disconnect = TAPE_GOES_ON;
                    client_init(&c, &b, 1, &call);
                    c.leaving = (enum leaving)leaving;
                    client_ask(&c);
                    if (others) {
                        client_begin(&other, &b, 1, &call);
                    }
                    turns(&b, live ? 2 : 0);
                    put_head(&call);
                    turns(&b, live ? 2 : 0);
                    append_event(&call, 700);
                    turns(&b, live ? 2 : 0);
                    append_event(&call, 70);
                    turns(&b, live ? 2 : 0);
                    if (whole) {
                        append(call.tape, 7, true);
                    }
                    call_end(&call, whole ? NULL : &cut_off);
                    turns(&b, 3);
                    bool stays = leaving == LEAVES_ON_LAST ? !whole : leaving == LEAVES_ON_END ? whole : false;
                    check_int(c.e.r.tape != NULL, stays);
                    if (others) {
                        check_int(other.e.seen, whole ? 777 : 770);
                        check_int(other.e.lasts, whole);
                        client_end(&other);
                    }
                    client_end(&c);
                    check_quiet(&b);
                    bench_finish(&b);
                }
            }
        }
    }
}

static void stop_reaches_the_writer(void **state UNUSED) {
    static const struct tape_why with_problem = {TAPE_CANCELLED, OK, 3, 0, "its client cancelled it"};
    static const struct tape_why without = {TAPE_CANCELLED, OK, 4, 0, NULL};
    for (int problem = 0; problem <= 1; problem++) {
        struct bench b;
        struct call call;
        struct client c;
        bench_init(&b, UINT64_MAX);
        call_begin_kept(&call, &b, 0);
        client_begin(&c, &b, 1, &call);
        turns(&b, 2);
        tape_stop(c.e.r.tape, problem ? &with_problem : &without);
        tape_stop(c.e.r.tape, &without); // too late: the first one holds
        check_int(b.stopped, 0);
        turns(&b, 3);
        check_int(b.stopped, 1);
        check_int(b.why.reason, problem ? 3 : 4);
        check_int(c.e.ends, 1);
        check_int(c.e.end, TAPE_CANCELLED);
        const char *told = c.e.r.tape->why.problem;
        check(problem ? strcmp(told, with_problem.problem) == 0 : told == NULL);
        tape_stop(c.e.r.tape, &without); // of what has ended nothing
        client_end(&c);
        turns(&b, 2);
        check_int(b.stopped, 1);
        check_quiet(&b);
        bench_finish(&b);
    }
}

// ---- there is none

static void tape_that_is_gone_when_the_ask_arrives(void **state UNUSED) {
    for (int kept = 0; kept <= 2; kept++) {
        struct bench b;
        struct call call;
        struct client c, second;
        bench_init(&b, UINT64_MAX);
        if (kept) {
            call_begin_kept(&call, &b, 0);
        } else {
            call_begin(&call, &b, 0); // is there, and its bytes are not
        }
        client_begin(&c, &b, 1, &call);
        client_begin(&second, &b, 1, &call);
        if (kept) {
            struct tape_kept *k = call.kept;
            answer(&call, 200, 100);
            if (kept == 1) {
                shelf_forget(k);
            } else {
                b.fake.ns += (KEEP_MS + 1) * (uint64_t)1000000;
                loop_turn(&b.loops[0], 0); // the ask arrives before the timer of the same turn
            }
        }
        turns(&b, 3);
        check_int(c.answers, 1);
        check_int(second.answers, 1);
        check_int(c.found, kept == 2 ? SHELF_HERE : SHELF_GONE);
        check_int(c.e.lasts, kept == 2);
        check_int(c.e.seen, kept == 2 ? 100 : 0);
        client_end(&c);
        client_end(&second);
        if (!kept) {
            answer(&call, 200, 1);
        }
        check_quiet(&b);
        bench_finish(&b);
    }
}

static void who_is_refused_may_ask_again_at_once(void **state UNUSED) {
    struct bench b;
    struct call call;
    struct client c, other;
    bench_init(&b, UINT64_MAX);
    call_begin(&call, &b, 0);
    client_init(&c, &b, 1, &call);
    c.asks_again = 3;
    client_ask(&c);
    client_begin(&other, &b, 1, &call);
    turns(&b, 6);
    check_int(c.answers, 4);
    check_int(other.answers, 1);
    check_int(c.found, SHELF_GONE);
    client_end(&c);
    client_end(&other);
    answer(&call, 200, 1);
    check_quiet(&b);
    bench_finish(&b);
}

static void forgotten_tape_passes_its_rest_on(void **state UNUSED) {
    for (int brief = 0; brief <= 1; brief++) {
        struct bench b;
        struct call call;
        struct client c;
        bench_init(&b, UINT64_MAX);
        call_begin_kept(&call, &b, 0);
        call.kept->brief = brief;
        client_begin(&c, &b, 1, &call);
        turns(&b, 2);
        struct tape_kept *kept = call.kept;
        answer(&call, 200, 20000); // in one turn
        if (!brief) {
            shelf_forget(kept);
        }
        check_int(look(&call), SHELF_GONE);
        turns(&b, 2);
        check_int(c.e.lasts, 1);
        check_int(c.e.seen, 20000);
        client_end(&c);
        check_quiet(&b);
        bench_finish(&b);
    }
}

static void tenants_have_their_own(void **state UNUSED) {
    struct bench b;
    struct call call;
    struct client mine, theirs, anybody, late;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0);
    client_init(&theirs, &b, 1, &call);
    theirs.wait.tenant = &other_tenant;
    client_ask(&theirs);
    client_begin(&mine, &b, 1, &call);
    client_init(&anybody, &b, 1, &call);
    anybody.wait.tenant = NULL;
    client_ask(&anybody);
    turns(&b, 2);
    check_int(theirs.found, SHELF_UNKNOWN);
    check_int(mine.found, SHELF_HERE);
    check_int(anybody.found, SHELF_HERE);
    client_init(&late, &b, 1, &call); // of a mirror that is there
    late.wait.tenant = &other_tenant;
    client_ask(&late);
    check_int(late.answers, 1);
    check_int(late.found, SHELF_UNKNOWN);
    client_end(&mine);
    client_end(&anybody);
    client_init(&late, &b, 1, &call); // alone
    late.wait.tenant = &other_tenant;
    turns(&b, 2);
    check(!call.tape);
    client_ask(&late);
    turns(&b, 2);
    check_int(late.found, SHELF_UNKNOWN);
    check_quiet(&b);
    bench_finish(&b);
}

// ---- waiting for what is not there yet

static void position_to_come_is_waited_for(void **state UNUSED) {
    struct bench b;
    struct call call;
    struct client reader, byte, mark, never;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0);
    append_event(&call, 100);
    client_begin(&reader, &b, 1, &call);
    client_init(&byte, &b, 1, &call);
    byte.position = 250;
    client_ask(&byte);
    client_init(&mark, &b, 1, &call);
    mark.mark = 2;
    client_ask(&mark);
    client_init(&never, &b, 1, &call);
    never.mark = 3;
    turns(&b, 2);
    client_ask(&never); // of a mirror that is there
    check(!byte.e.r.tape && !mark.e.r.tape && !never.e.r.tape);
    append_event(&call, 100);
    turns(&b, 2);
    check(!byte.e.r.tape && !mark.e.r.tape);
    append_event(&call, 100);
    turns(&b, 2);
    check_int(byte.e.seen, 50);
    check_int(mark.e.from, 300);
    check(!never.e.r.tape);
    append(call.tape, 10, true);
    call_end(&call, NULL);
    turns(&b, 2);
    check_int(byte.e.seen, 60);
    check_int(mark.e.seen, 10);
    check_err(never.error, ERR_INVALID);
    check(!mirror_wait_on(reader.e.r.tape, &never.wait)); // nothing will come
    client_end(&reader);
    client_end(&byte);
    client_end(&mark);
    client_end(&never);
    check_quiet(&b);
    bench_finish(&b);
}

// The upstream may say nothing for minutes: nobody must have to wait for that.
static void client_that_leaves_while_it_waits_takes_the_feed_along(void **state UNUSED) {
    struct bench b;
    struct call call;
    struct client first, second;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0);
    client_init(&first, &b, 1, &call);
    first.position = 1000;
    client_ask(&first);
    turns(&b, 2);
    client_init(&second, &b, 1, &call);
    second.position = 1;
    client_ask(&second);
    check_int(b.shelves[0].feeds, 1);
    client_end(&first);
    turns(&b, 2);
    check(call.tape != NULL);
    check_int(b.shelves[0].feeds, 1);
    client_end(&second);
    turns(&b, 2);
    check(!call.tape);
    check_quiet(&b);
    bench_finish(&b);
}

static void local_tape_has_no_news_to_wait_for(void **state UNUSED) {
    struct bench b;
    struct call call;
    struct mirror_wait wait = {.on_tape = on_tape};
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0);
    check(!mirror_wait_on(call.tape, &wait));
    mirror_wait_end(&wait);
    answer(&call, 200, 1);
    bench_finish(&b);
}

// ---- without memory

static void mirror_life_without_memory(void *arg UNUSED) {
    struct bench b;
    struct call call;
    struct client c;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&call, &b, 0);
    call.kept->disconnect = TAPE_GOES_ON;
    client_init(&c, &b, 1, &call);
    c.leaving = LEAVES_ON_LAST;
    client_ask(&c);
    turns(&b, 2);
    struct tape *mirrored = tape_ref(c.e.r.tape);
    for (unsigned i = 0; i < 12 && tape_running(call.tape); i++) {
        if (i == 0) {
            put_head(&call);
        } else {
            append_event(&call, 3000);
        }
        turns(&b, 2);
    }
    if (tape_running(call.tape)) { // a mirror that failed has told its feed
        check_int(b.shelves[0].feeds, c.e.ends ? 0 : 1);
        append(call.tape, 10, true);
    }
    bool call_was_cut = call.tape->why.end == TAPE_CUT;
    call_end(&call, NULL);
    turns(&b, 3);
    check_int(c.e.lasts + c.e.ends, 1);
    check_int(call_was_cut || mirrored->why.end == TAPE_CUT || mirrored->record->marks.lost, mem_fail_fired());
    tape_unref(mirrored);
    check(!c.e.ends || c.e.error == ERR_NOMEM);
    client_end(&c);
    check_quiet(&b);
    bench_finish(&b);
}

static void without_memory_the_mirror_is_cut_and_the_feed_leaves(void **state UNUSED) {
    check(every_allocation_fails(mirror_life_without_memory, NULL) > 20);
}

// ---- all at once

enum { CALLS = 6, CLIENTS = 14 };

struct world {
    struct bench b;
    struct call calls[CALLS];
    struct client clients[CLIENTS];
    bool asked[CLIENTS];
    unsigned whole; // clients that saw all
};

static bool is_over(const struct client *c) {
    bool reads = c->e.r.tape && !c->e.lasts && !c->e.ends;
    return c->answers && !c->wait.mirror && !reads;
}

static void begin_some(struct world *w, struct call *call) {
    static const enum tape_disconnect policies[] = {TAPE_ENDS, TAPE_WAITS, TAPE_GOES_ON};
    if (call->bench) {
        return;
    }
    call_begin_kept(call, &w->b, (unsigned)below(SHELVES));
    call->kept->disconnect = policies[below(3)];
    call->kept->wait_ms = WAIT_MS;
    call->kept->brief = below(4) == 0;
}

static void write_some(struct call *call) {
    if (!call->tape) {
        return;
    }
    if (!call->tape->has_head) {
        put_head(call);
    }
    if (below(12) == 0) {
        bool whole = below(2);
        if (whole) {
            append(call->tape, below(100), true);
        }
        call_end(call, whole ? NULL : &cut_off);
    } else if (!tape_full(call->tape)) {
        append_event(call, some_size());
    }
}

static void move_client(struct world *w, unsigned i) {
    struct client *c = &w->clients[i];
    const struct call *call = &w->calls[below(CALLS)];
    if (!w->asked[i] && call->bench) {
        unsigned shelf = (unsigned)below(SHELVES);
        if (shelf == call->shelf->number) {
            return;
        }
        client_init(c, &w->b, shelf, call);
        c->budget = below(2) ? SIZE_MAX : some_size();
        c->position = below(3) ? 0 : below(20000);
        c->mark = below(4) ? READ_BY_POSITION : (int)below(10);
        c->leaving = below(6) ? LEAVES_ON_LAST : LEAVES_ON_BYTES;
        c->asks_again = below(2) ? 0 : 1;
        w->asked[i] = true;
        client_ask(c);
    } else if (w->asked[i] && below(8) == 0) {
        if (is_over(c) && c->e.lasts && c->e.from == 0) {
            w->whole++;
        }
        client_end(c);
        w->asked[i] = false;
    } else if (w->asked[i] && below(20) == 0 && c->e.r.tape) {
        tape_stop(c->e.r.tape, &cut_off);
    } else if (w->asked[i]) {
        go_on(&c->e, some_size());
    }
}

static void live(struct world *w, unsigned steps) {
    for (unsigned i = 0; i < steps; i++) {
        switch (below(4)) {
        case 0: write_some(&w->calls[below(CALLS)]); break;
        case 1: move_client(w, (unsigned)below(CLIENTS)); break;
        case 2: loop_turn(&w->b.loops[below(SHELVES)], 0); break;
        case 3:
            if (below(5) == 0) {
                begin_some(w, &w->calls[below(CALLS)]);
            } else if (below(30) == 0) {
                w->b.fake.ns += below(2 * WAIT_MS) * (uint64_t)1000000;
            }
        }
    }
}

static void world_init(struct world *w) {
    *w = (struct world){.whole = 0};
    bench_init(&w->b, 600000);
    for (unsigned i = 0; i < CALLS; i++) {
        begin_some(w, &w->calls[i]);
    }
}

static void random_lives_end_as_they_should(void **state UNUSED) {
    unsigned whole = 0;
    for (unsigned life = 0; life < 300; life++) {
        struct world *w = xcalloc(1, sizeof *w);
        seed = 50 + life;
        world_init(w);
        live(w, 600);
        for (unsigned i = 0; i < CALLS; i++) {
            if (w->calls[i].tape) {
                append(w->calls[i].tape, 10, true);
                call_end(&w->calls[i], NULL);
            }
        }
        turns(&w->b, 5);
        for (unsigned i = 0; i < CLIENTS; i++) { // nobody waits for ever; who reads gets to an end
            struct client *c = &w->clients[i];
            while (w->asked[i] && !is_over(c)) {
                check(c->e.r.tape != NULL);
                go_on(&c->e, 1 + some_size());
            }
            if (w->asked[i]) {
                whole += c->e.lasts;
                client_end(c);
            }
        }
        whole += w->whole;
        check_quiet(&w->b);
        bench_finish(&w->b);
        free(w);
    }
    check(whole > 300); // it was worth it
}

// As workers go: all loops stand still; one after the other ends its requests, its calls, its shelf, its loop.
static void shut_down(struct world *w, unsigned order) {
    shelves_close(w->b.all);
    for (unsigned n = 0; n < SHELVES; n++) {
        unsigned s = order < SHELVES ? (n + order) % SHELVES : (SHELVES - 1 - n);
        for (unsigned i = 0; i < CLIENTS; i++) {
            if (w->asked[i] && w->clients[i].shelf == &w->b.shelves[s]) {
                client_end(&w->clients[i]);
            }
        }
        shelf_stop_all(&w->b.shelves[s], &cut_off);
        check_int(w->b.shelves[s].running, 0);
        shelf_finish(&w->b.shelves[s]);
        loop_finish(&w->b.loops[s]);
    }
    check_int(w->b.all->finished_bytes, 0);
    shelves_destroy(w->b.all);
}

static void closing_with_everything_in_flight_leaks_nothing(void **state UNUSED) {
    for (unsigned life = 0; life < 400; life++) {
        struct world *w = xcalloc(1, sizeof *w);
        seed = 7000 + life;
        world_init(w);
        live(w, life);
        shut_down(w, life % (SHELVES + 1));
        free(w);
    }
}

TAPE_TESTS(TEST(mirror_shows_what_the_tape_shows), TEST(all_readers_of_a_worker_share_one_feed),
           TEST(long_tape_comes_in_many_messages), TEST(lost_marks_are_lost_on_the_mirror_too),
           TEST(what_was_dropped_is_gone_on_the_mirror_too), TEST(slow_reader_of_a_mirror_is_outrun_and_nobody_else),
           TEST(sole_reader_that_is_outrun_takes_the_feed_along), TEST(feed_makes_room_on_a_full_tape),
           TEST(client_that_leaves_at_any_moment_takes_the_feed_along),
           TEST(new_reader_comes_while_the_last_ones_leaving_travels), TEST(readers_may_leave_at_every_event),
           TEST(stop_reaches_the_writer), TEST(tape_that_is_gone_when_the_ask_arrives),
           TEST(who_is_refused_may_ask_again_at_once), TEST(forgotten_tape_passes_its_rest_on),
           TEST(tenants_have_their_own), TEST(position_to_come_is_waited_for),
           TEST(client_that_leaves_while_it_waits_takes_the_feed_along), TEST(local_tape_has_no_news_to_wait_for),
           TEST(without_memory_the_mirror_is_cut_and_the_feed_leaves), TEST(random_lives_end_as_they_should),
           TEST(closing_with_everything_in_flight_leaks_nothing))
