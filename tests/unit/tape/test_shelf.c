// SPDX-License-Identifier: MIT
// Shelves whose loops stand on one fake clock: ids, how long a tape stays, what becomes of one that nobody reads, keys.
#include "tape/shelf.h"

#include "shelves.h"

// ---- ids

static void id_leads_to_its_tape_and_nowhere_else(void **state UNUSED) {
    enum { CALLS = 300 };
    struct bench b;
    struct call *calls = xcalloc(CALLS, sizeof *calls);
    bench_init(&b, UINT64_MAX);
    for (unsigned i = 0; i < CALLS; i++) {
        call_begin(&calls[i], &b, i % SHELVES);
        check_int(strlen(calls[i].id.text), TAPE_ID_LEN);
        check_int(strspn(calls[i].id.text, "abcdefghijklmnopqrstuvwxyz234567"), TAPE_ID_LEN);
        for (unsigned j = 0; j < i; j++) {
            check(strcmp(calls[i].id.text, calls[j].id.text) != 0);
        }
    }
    for (unsigned i = 0; i < CALLS; i++) {
        for (unsigned s = 0; s < SHELVES; s++) {
            struct tape *t = NULL;
            unsigned where = SHELVES;
            enum shelf_find found = shelf_find(&b.shelves[s], str_c(calls[i].id.text), &t, &where);
            check_int(found, s == i % SHELVES ? SHELF_HERE : SHELF_ELSEWHERE);
            check(s == i % SHELVES ? t == calls[i].tape : where == i % SHELVES);
        }
    }
    for (unsigned i = 0; i < CALLS; i++) {
        answer(&calls[i], 200, 5);
        check_int(look(&calls[i]), SHELF_GONE); // it was not kept
    }
    bench_finish(&b);
    free(calls);
}

static void changed_ids_are_unknown(void **state UNUSED) {
    struct bench b;
    struct call c;
    struct tape *t;
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    bench_init(&b, UINT64_MAX);
    call_begin(&c, &b, 1);
    for (unsigned i = 0; i < TAPE_ID_LEN; i++) {
        for (unsigned d = 0; d < 32; d++) {
            struct tape_id forged = c.id;
            forged.text[i] = digits[d]; // in the last place also other texts of the same 128 bits
            check_int(find(c.shelf, &forged, &t), forged.text[i] == c.id.text[i] ? SHELF_HERE : SHELF_UNKNOWN);
        }
    }
    static const char *const bad[] = {"A", "0", "1", "8", "=", "-", " ", "\xff", "\x80"};
    for (unsigned i = 0; i < TAPE_ID_LEN; i++) {
        for (size_t j = 0; j < ARRAY_LEN(bad); j++) {
            struct tape_id forged = c.id;
            forged.text[i] = bad[j][0];
            check_int(find(c.shelf, &forged, &t), SHELF_UNKNOWN);
        }
        struct tape_id with_nul = c.id;
        unsigned where;
        with_nul.text[i] = '\0';
        check_int(shelf_find(c.shelf, str_from(with_nul.text, TAPE_ID_LEN), &t, &where), SHELF_UNKNOWN);
    }
    unsigned where;
    char longer[TAPE_ID_LEN + 2];
    snprintf(longer, sizeof longer, "%sa", c.id.text);
    check_int(shelf_find(c.shelf, str_c(longer), &t, &where), SHELF_UNKNOWN);
    check_int(shelf_find(c.shelf, str_from(c.id.text, TAPE_ID_LEN - 1), &t, &where), SHELF_UNKNOWN);
    check_int(shelf_find(c.shelf, (struct str){NULL, 0}, &t, &where), SHELF_UNKNOWN);
    answer(&c, 200, 1);
    bench_finish(&b);
}

static void random_ids_are_unknown(void **state UNUSED) {
    struct bench b;
    struct call c;
    struct tape *t;
    bench_init(&b, UINT64_MAX);
    call_begin(&c, &b, 0);
    seed = 7;
    for (unsigned i = 0; i < 20000; i++) {
        struct tape_id id = {{0}};
        for (unsigned j = 0; j < TAPE_ID_LEN; j++) {
            id.text[j] = "abcdefghijklmnopqrstuvwxyz234567"[below(32)];
        }
        check_int(find(c.shelf, &id, &t), SHELF_UNKNOWN);
    }
    answer(&c, 200, 1);
    bench_finish(&b);
}

static void ids_of_another_process_are_unknown(void **state UNUSED) {
    struct bench a, b;
    struct call c, same;
    struct tape *t;
    bench_init(&a, UINT64_MAX);
    bench_init(&b, UINT64_MAX);
    call_begin(&c, &a, 0);
    call_begin(&same, &b, 0); // the same place
    check(strcmp(c.id.text, same.id.text) != 0);
    for (unsigned s = 0; s < SHELVES; s++) {
        check_int(find(&b.shelves[s], &c.id, &t), SHELF_UNKNOWN);
    }
    answer(&c, 200, 1);
    answer(&same, 200, 1);
    bench_finish(&a);
    bench_finish(&b);
}

static void place_that_is_used_again_has_another_id(void **state UNUSED) {
    enum { TIMES = 50 };
    struct bench b;
    struct call calls[TIMES];
    bench_init(&b, UINT64_MAX);
    for (unsigned i = 0; i < TIMES; i++) {
        call_begin(&calls[i], &b, 0);
        check_int(calls[i].tape->slot, 0);
        check_int(calls[i].tape->generation, i);
        for (unsigned j = 0; j <= i; j++) {
            check_int(look(&calls[j]), j == i ? SHELF_HERE : SHELF_GONE);
        }
        answer(&calls[i], 200, 1);
    }
    // Its ids are used up some day; then it is not used any more.
    b.shelves[0].slots[0].generation = UINT32_MAX - 1;
    call_begin(&calls[0], &b, 0);
    check_int(calls[0].tape->slot, 0);
    answer(&calls[0], 200, 1);
    call_begin(&calls[1], &b, 0);
    check(calls[1].tape->slot != 0);
    check_int(look(&calls[0]), SHELF_GONE);
    answer(&calls[1], 200, 1);
    bench_finish(&b);
}

static void tape_of_no_place_here_has_the_id_it_was_given(void **state UNUSED) {
    struct bench b;
    bench_init(&b, UINT64_MAX);
    struct tape *t = tape_create(NULL, NULL);
    tape_keep(t, 1, 0);
    t->record->id = xmalloc(sizeof *t->record->id);
    *t->record->id = (struct tape_id){"abcdefghijklmnopqrstuvwxy2"};
    struct tape_id id = shelf_id(&b.shelves[0], t);
    check_str(str_c(id.text), "abcdefghijklmnopqrstuvwxy2");
    tape_unref(t);
    bench_finish(&b);
}

static void tenants_see_their_own_tapes(void **state UNUSED) {
    struct bench b;
    struct call anybodys, tagged, kept;
    bench_init(&b, UINT64_MAX);
    call_begin(&anybodys, &b, 0);
    call_begin_kept(&kept, &b, 0);
    tagged = (struct call){.bench = &b, .shelf = &b.shelves[0], .tape = tape_create(&call_events, &tagged)};
    shelf_add(tagged.shelf, tagged.tape, shelf_tenant(&tenant));
    struct digest same_beginning = tenant;
    same_beginning.bytes[31] ^= 1;
    check(shelf_allows(anybodys.shelf, anybodys.tape, &other_tenant));
    check(shelf_allows(tagged.shelf, tagged.tape, &tenant));
    check(!shelf_allows(tagged.shelf, tagged.tape, &other_tenant));
    check(shelf_allows(kept.shelf, kept.tape, &tenant));
    check(!shelf_allows(kept.shelf, kept.tape, &same_beginning)); // by the whole digest
    answer(&anybodys, 200, 1);
    answer(&tagged, 200, 1);
    answer(&kept, 200, 1);
    bench_finish(&b);
}

// ---- how long

static void kept_tape_stays_for_its_time(void **state UNUSED) {
    struct bench b;
    struct call c;
    struct tape *t;
    struct eyes e;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&c, &b, 0);
    check_int(b.shelves[0].running, 1);
    pass_ms(&b, 100 * KEEP_MS); // it is its end that counts
    check_int(look(&c), SHELF_HERE);
    answer(&c, 200, 1000);
    check_int(b.shelves[0].running, 0);
    check_int(b.ended, 1);
    check(b.all->finished_bytes >= 1000);
    pass_ms(&b, KEEP_MS - 1);
    check_int(find(c.shelf, &c.id, &t), SHELF_HERE);
    eyes_open(&e, t, 10);
    tape_read(&e.r);
    pass_ms(&b, 2);
    check_int(look(&c), SHELF_GONE);
    check_int(b.all->finished_bytes, 0);
    go_on(&e, SIZE_MAX); // who reads it reads it to its end
    check_int(e.seen, 1000);
    check_int(e.lasts, 1);
    tape_leave(&e.r);
    bench_finish(&b);
}

static void oldest_end_makes_room_for_new_ones(void **state UNUSED) {
    enum { CALLS = 10, SIZE = 20000, FIT = 4 };
    struct bench b;
    struct call calls[CALLS];
    bench_init(&b, FIT * SIZE + SIZE / 2);
    for (unsigned i = 0; i < CALLS; i++) {
        call_begin_kept(&calls[i], &b, 0);
    }
    for (unsigned n = 0; n < CALLS; n++) { // not in the order they began
        answer(&calls[(n * 7) % CALLS], 200, SIZE);
        check(b.all->finished_bytes <= b.all->options.total_bytes);
        for (unsigned i = 0; i < CALLS; i++) {
            bool ended = calls[(i * 7) % CALLS].tape == NULL;
            bool gone = i + FIT <= n;
            check_int(look(&calls[(i * 7) % CALLS]), gone ? SHELF_GONE : SHELF_HERE);
            check_int(ended, i <= n);
        }
    }
    bench_finish(&b);
}

static void tape_larger_than_the_total_goes_at_once(void **state UNUSED) {
    struct bench b;
    struct call c;
    struct eyes e;
    bench_init(&b, 5000);
    call_begin_kept(&c, &b, 0);
    eyes_open(&e, c.tape, 10);
    answer(&c, 200, 6000);
    check_int(b.ended, 1);
    check_int(look(&c), SHELF_GONE);
    check_int(b.all->finished_bytes, 0);
    go_on(&e, SIZE_MAX);
    check_int(e.lasts, 1);
    tape_leave(&e.r);
    bench_finish(&b);
}

static void brief_tape_goes_with_its_end(void **state UNUSED) {
    struct bench b;
    struct call c;
    struct digest key = {{9}};
    struct tape_id id;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&c, &b, 0);
    c.kept->brief = true;
    check_int(shelf_claim(c.kept, &key, NULL, &id), CLAIM_NEW);
    check_int(look(&c), SHELF_HERE);
    answer(&c, 200, 100);
    check_int(look(&c), SHELF_GONE);
    check(!shelf_lookup(b.all, &key, &id));
    check_int(b.ended, 0);
    bench_finish(&b);
}

static void forgotten_tape_is_gone_before_its_time(void **state UNUSED) {
    struct bench b;
    struct call c;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&c, &b, 0);
    struct tape_kept *kept = c.kept;
    answer(&c, 200, 100);
    shelf_forget(kept);
    check_int(look(&c), SHELF_GONE);
    check_int(b.all->finished_bytes, 0);
    pass_ms(&b, 2 * KEEP_MS);
    bench_finish(&b);
}

// ---- without readers

static void disconnect_decides_what_becomes_of_a_running_tape(void **state UNUSED) {
    for (int policy = TAPE_ENDS; policy <= TAPE_GOES_ON; policy++) {
        struct bench b;
        struct call c;
        struct eyes e;
        bench_init(&b, UINT64_MAX);
        call_begin_kept(&c, &b, 0);
        c.kept->disconnect = (enum tape_disconnect)policy;
        c.kept->wait_ms = WAIT_MS;
        shelf_joined(c.tape);
        eyes_open(&e, c.tape, SIZE_MAX);
        append(c.tape, 10, false);
        pass_ms(&b, 2 * WAIT_MS);
        check(c.tape != NULL); // somebody reads it
        tape_leave(&e.r);
        check_int(c.tape == NULL, policy == TAPE_ENDS);
        if (policy != TAPE_ENDS) {
            pass_ms(&b, WAIT_MS - 1);
            check(c.tape != NULL);
            pass_ms(&b, 2);
            check_int(c.tape == NULL, policy == TAPE_WAITS);
            check_int(b.stopped, policy == TAPE_WAITS);
        }
        if (policy == TAPE_GOES_ON) {
            pass_ms(&b, 1000 * WAIT_MS);
            answer(&c, 200, 10);
        } else {
            check_int(b.shelves[0].finished.next == &b.shelves[0].finished, false); // its beginning stays to be read
        }
        check_int(look(&c), SHELF_HERE);
        pass_ms(&b, KEEP_MS + 1);
        check_int(look(&c), SHELF_GONE);
        bench_finish(&b);
    }
}

static void reader_that_comes_back_in_time_keeps_it_running(void **state UNUSED) {
    struct bench b;
    struct call c;
    struct eyes e;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&c, &b, 0);
    c.kept->disconnect = TAPE_WAITS;
    c.kept->wait_ms = WAIT_MS;
    for (unsigned i = 0; i < 5; i++) {
        shelf_joined(c.tape);
        eyes_open(&e, c.tape, SIZE_MAX);
        pass_ms(&b, 3 * WAIT_MS);
        tape_leave(&e.r);
        pass_ms(&b, WAIT_MS - 1);
        check(c.tape != NULL);
    }
    pass_ms(&b, 2); // each leaving has the whole time
    check(c.tape == NULL);
    check_int(b.stopped, 1);
    check_int(b.why.end, TAPE_CANCELLED);
    bench_finish(&b);
}

static void tape_that_ends_while_it_waits_stays_for_its_time(void **state UNUSED) {
    struct bench b;
    struct call c;
    struct eyes e;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&c, &b, 0);
    c.kept->disconnect = TAPE_WAITS;
    c.kept->wait_ms = WAIT_MS;
    eyes_open(&e, c.tape, SIZE_MAX);
    tape_leave(&e.r);
    pass_ms(&b, WAIT_MS / 2);
    answer(&c, 200, 10);
    pass_ms(&b, WAIT_MS);
    check_int(look(&c), SHELF_HERE);
    check_int(b.stopped, 0);
    pass_ms(&b, KEEP_MS);
    check_int(look(&c), SHELF_GONE);
    bench_finish(&b);
}

static void stop_all_ends_all_that_run(void **state UNUSED) {
    enum { CALLS = 150 };
    struct bench b;
    struct call *calls = xcalloc(CALLS, sizeof *calls);
    bench_init(&b, UINT64_MAX);
    for (unsigned i = 0; i < CALLS; i++) {
        if (i % 2) {
            call_begin_kept(&calls[i], &b, 0);
            calls[i].kept->brief = i % 4 == 1;
        } else {
            call_begin(&calls[i], &b, 0);
        }
        if (i % 5 == 0) {
            answer(&calls[i], 200, 10);
        }
    }
    shelf_stop_all(&b.shelves[0], &cut_off);
    check_int(b.stopped, CALLS - CALLS / 5);
    check_int(b.shelves[0].running, 0);
    for (unsigned i = 0; i < CALLS; i++) {
        check(!calls[i].tape);
        check_int(look(&calls[i]), i % 4 == 3 ? SHELF_HERE : SHELF_GONE);
    }
    shelf_stop_all(&b.shelves[0], &cut_off);
    check_int(b.stopped, CALLS - CALLS / 5);
    bench_finish(&b);
    free(calls);
}

static void tape_nobody_wrote_on_is_taken_back(void **state UNUSED) {
    struct bench b;
    struct call c;
    struct digest key = {{5}};
    struct tape_id id;
    bench_init(&b, UINT64_MAX);
    for (int kept = 0; kept <= 1; kept++) {
        if (kept) {
            call_begin_kept(&c, &b, 0);
            c.kept->replay_failures = true; // not of what never began
            check_int(shelf_claim(c.kept, &key, NULL, &id), CLAIM_NEW);
        } else {
            call_begin(&c, &b, 0);
        }
        c.tape->events = NULL; // no call has begun
        shelf_withdraw(c.shelf, c.tape);
        tape_unref(c.tape);
        check_int(look(&c), SHELF_GONE);
        check_int(b.shelves[0].running, 0);
        check(!shelf_lookup(b.all, &key, &id));
    }
    check_int(b.ended, 0);
    bench_finish(&b);
}

// ---- keys

static void key_leads_to_the_first_who_claims_it(void **state UNUSED) {
    struct bench b;
    struct call first, second;
    const struct digest key = {{7}}, near = {{7, 0, 0, 0, 0, 0, 0, 0, 1}}, asked = {{1}}, other = {{2}};
    struct tape_id id;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&first, &b, 0);
    call_begin_kept(&second, &b, 1); // another worker
    check(!shelf_lookup(b.all, &key, &id));
    check_int(shelf_claim(first.kept, &key, &asked, &id), CLAIM_NEW);
    check_int(shelf_claim(second.kept, &key, &asked, &id), CLAIM_TAKEN);
    check_str(str_c(id.text), first.id.text);
    check_int(shelf_claim(second.kept, &key, &other, &id), CLAIM_OTHER);
    id = second.id;
    check_int(shelf_claim(second.kept, &key, NULL, &id), CLAIM_TAKEN); // it stands for itself
    check_str(str_c(id.text), first.id.text);
    check_int(shelf_claim(second.kept, &near, NULL, &id), CLAIM_NEW); // the same hash, another key
    check(shelf_lookup(b.all, &near, &id));
    check_str(str_c(id.text), second.id.text);
    check(shelf_lookup(b.all, &key, &id));
    check_str(str_c(id.text), first.id.text);
    answer(&first, 200, 10);
    answer(&second, 200, 10);
    check(shelf_lookup(b.all, &key, &id)); // the tape stays, and so does its key
    pass_ms(&b, KEEP_MS + 1);
    check(!shelf_lookup(b.all, &key, &id));
    check(!shelf_lookup(b.all, &near, &id));
    bench_finish(&b);
}

static void keys_of_an_answer_that_failed_are_free_again(void **state UNUSED) {
    static const struct {
        int status; // 0: cut
        bool replay, stays;
    } rows[] = {{200, false, true}, {399, false, true}, {400, false, false}, {500, false, false},
                {0, false, false},  {200, true, true},  {500, true, true},   {0, true, true}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct bench b;
        struct call c;
        const struct digest keys[] = {{{7}}, {{8}}};
        struct tape_id id;
        bench_init(&b, UINT64_MAX);
        call_begin_kept(&c, &b, 0);
        c.kept->replay_failures = rows[i].replay;
        for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
            check_int(shelf_claim(c.kept, &keys[k], NULL, &id), CLAIM_NEW);
        }
        if (rows[i].status) {
            answer(&c, rows[i].status, 10);
        } else {
            append(c.tape, 10, false);
            call_end(&c, &cut_off);
        }
        check_int(look(&c), SHELF_HERE); // by its id it can be looked at
        for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
            check_int(shelf_lookup(b.all, &keys[k], &id), rows[i].stays);
        }
        bench_finish(&b);
    }
}

static void keys_of_a_stored_tape_stay_for_the_stores_time(void **state UNUSED) {
    struct bench b;
    struct call c;
    const struct digest key = {{7}};
    struct tape_id id;
    for (int past = 0; past <= 1; past++) {
        bench_init(&b, UINT64_MAX);
        call_begin_kept(&c, &b, 0);
        check_int(shelf_claim(c.kept, &key, NULL, &id), CLAIM_NEW);
        c.kept->stored_until_s = past ? clock_unix_s() - 1 : clock_unix_s() + 1000;
        answer(&c, 200, 10);
        check(shelf_lookup(b.all, &key, &id)); // in memory, whatever the store's time
        pass_ms(&b, KEEP_MS + 1);
        check_int(look(&c), SHELF_GONE);
        check_int(shelf_lookup(b.all, &key, &id), !past);
        check(past || strcmp(id.text, c.id.text) == 0);
        bench_finish(&b);
    }
}

static void stored_keys_are_found_until_they_expire_or_are_dropped(void **state UNUSED) {
    struct bench b;
    struct call c;
    const struct digest key = {{7}}, old = {{8}}, asked = {{1}}, other = {{2}};
    const char *stored = "abcdefghijklmnopqrstuvwxyq";
    struct tape_id id;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&c, &b, 0);
    shelf_add_stored_key(b.all, &key, &asked, STR("short"), clock_unix_s() + 1000); // no id
    check(!shelf_lookup(b.all, &key, &id));
    shelf_add_stored_key(b.all, &key, &asked, str_c(stored), clock_unix_s() + 1000);
    shelf_add_stored_key(b.all, &key, &asked, STR("aaaaaaaaaaaaaaaaaaaaaaaaaa"), clock_unix_s() + 1000); // too late
    shelf_add_stored_key(b.all, &old, NULL, str_c(stored), clock_unix_s() - 1);
    check(shelf_lookup(b.all, &key, &id));
    check_str(str_c(id.text), stored);
    check(!shelf_lookup(b.all, &old, &id));
    check_int(shelf_claim(c.kept, &key, &asked, &id), CLAIM_TAKEN);
    check_int(shelf_claim(c.kept, &key, &other, &id), CLAIM_OTHER);
    check_int(shelf_claim(c.kept, &old, &other, &id), CLAIM_NEW);
    // Only the key that leads to what does not exist any more, and only a stored one.
    shelf_drop_key(b.all, &key, &c.id);
    check(shelf_lookup(b.all, &key, &id));
    shelf_drop_key(b.all, &old, &c.id);
    check(shelf_lookup(b.all, &old, &id));
    id = (struct tape_id){"abcdefghijklmnopqrstuvwxyq"};
    shelf_drop_key(b.all, &key, &id);
    check(!shelf_lookup(b.all, &key, &id));
    check_int(shelf_claim(c.kept, &key, &asked, &id), CLAIM_NEW);
    answer(&c, 200, 1);
    bench_finish(&b);
}

static struct digest numbered(unsigned n) { return digest_sha256(str_from((const char *)&n, sizeof n)); }

// Nobody asks for them again: the ones that come later make them go.
static void expired_keys_do_not_pile_up(void **state UNUSED) {
    enum { KEYS = 5000, LIVE = 100 };
    struct bench b;
    struct call c;
    struct tape_id id;
    bench_init(&b, UINT64_MAX);
    call_begin_kept(&c, &b, 0);
    uint64_t before = clock_unix_s() - 1;
    for (unsigned i = 0; i < LIVE; i++) {
        struct digest key = numbered(i);
        shelf_add_stored_key(b.all, &key, NULL, STR("abcdefghijklmnopqrstuvwxyq"), before + 100000);
    }
    for (unsigned i = LIVE; i < KEYS; i++) {
        struct digest key = numbered(i);
        shelf_add_stored_key(b.all, &key, NULL, STR("abcdefghijklmnopqrstuvwxyq"), before);
        check(shelf_key_count(b.all) < 2 * LIVE);
    }
    for (unsigned i = 0; i < LIVE; i++) {
        struct digest key = numbered(i);
        check(shelf_lookup(b.all, &key, &id));
    }
    answer(&c, 200, 1);
    bench_finish(&b);
}

TAPE_TESTS(TEST(id_leads_to_its_tape_and_nowhere_else), TEST(changed_ids_are_unknown), TEST(random_ids_are_unknown),
           TEST(ids_of_another_process_are_unknown), TEST(place_that_is_used_again_has_another_id),
           TEST(tape_of_no_place_here_has_the_id_it_was_given), TEST(tenants_see_their_own_tapes),
           TEST(kept_tape_stays_for_its_time), TEST(oldest_end_makes_room_for_new_ones),
           TEST(tape_larger_than_the_total_goes_at_once), TEST(brief_tape_goes_with_its_end),
           TEST(forgotten_tape_is_gone_before_its_time), TEST(disconnect_decides_what_becomes_of_a_running_tape),
           TEST(reader_that_comes_back_in_time_keeps_it_running),
           TEST(tape_that_ends_while_it_waits_stays_for_its_time), TEST(stop_all_ends_all_that_run),
           TEST(tape_nobody_wrote_on_is_taken_back), TEST(key_leads_to_the_first_who_claims_it),
           TEST(keys_of_an_answer_that_failed_are_free_again), TEST(keys_of_a_stored_tape_stay_for_the_stores_time),
           TEST(stored_keys_are_found_until_they_expire_or_are_dropped), TEST(expired_keys_do_not_pile_up))
