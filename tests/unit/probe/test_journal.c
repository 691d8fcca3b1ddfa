// SPDX-License-Identifier: MIT
#include "probe/journal.h"

#include "base/nonce.h"
#include "check.h"

enum { CALLS = 4, START = 1000 };

// Calls sent at 10, 20, ... that ended at 110, 120, ... on the probe's clock.
struct world {
    struct trial trial;
    struct probe_call calls[CALLS];
};

static void world_init(struct world *w) {
    *w = (struct world){.trial.plan.calls = CALLS};
    w->trial.calls = w->calls;
    for (unsigned i = 0; i < CALLS; i++) {
        w->calls[i] = (struct probe_call){.user = i + 1,
                                          .sent_ns = 10 * (i + 1),
                                          .end_ns = 100 + 10 * (i + 1),
                                          .status = 200,
                                          .nonce = nonce_make(5, i + 1)};
    }
}

static const char lines[] =
    "{\"id\":8,\"path\":\"/v1\",\"arrival_ns\":1030,\"service_start_ns\":1031,\"service_end_ns\":1090,\"seat\":0,"
    "\"status\":200,\"end\":\"whole\",\"probe\":\"thaw-0000000500000002\"}\n"
    "{\"id\":9,\"path\":\"/v1\",\"arrival_ns\":1040,\"service_start_ns\":0,\"service_end_ns\":0,\"seat\":0,"
    "\"status\":429,\"end\":\"whole\"}\n"
    "{\"in_flight\":0,\"calls\":2}\n";

static void lines_become_records(void **state UNUSED) {
    struct probe_record *records;
    uint64_t last = 3;
    check_int(probe_journal_parse(str_c(lines), &records, &last), 1);
    check_int(records[0].id, 8);
    check_int(records[0].arrival_ns, 1030);
    check_int(records[0].start_ns, 1031);
    check_int(records[0].end_ns, 1090);
    check(records[0].nonce == nonce_make(5, 2));
    check_int(last, 9);
    free(records);
}

static void foreign_lines_are_no_records(void **state UNUSED) {
    static const char *const none[] = {"", "\n\n", "<html>\n", "{\"id\":\n", "[1]\n", "{\"id\":\"x\"}\n"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        struct probe_record *records;
        uint64_t last = 3;
        check_int(probe_journal_parse(str_c(none[i]), &records, &last), 0);
        check_int(last, 3);
        free(records);
    }
}

static void a_nonce_tells_whose_it_is_in_any_order(void **state UNUSED) {
    struct world w;
    world_init(&w);
    struct probe_record records[] = {
        {4, 1050, 1050, 1130, nonce_make(5, 4), 2},
        {5, 1060, 1060, 1105, nonce_make(5, 1), 1},
        {6, 1065, 1065, 1099, nonce_make(9, 2), 1}, // of another probe
    };
    check_int(probe_journal_apply(records, ARRAY_LEN(records), START, &w.trial), 2);
    check_int(w.calls[0].seen_start_ns, 60);
    check_int(w.calls[0].seen_end_ns, 105);
    check_int(w.calls[0].seen_seat, 1);
    check_int(w.calls[3].seen_seat, 2);
    check_int(w.calls[1].seen_seat, 0);
}

static void calls_of_an_app_for_one_of_ours_are_one(void **state UNUSED) {
    struct world w;
    world_init(&w);
    struct probe_record records[] = {{4, 1050, 1050, 1080, nonce_make(5, 1), 0},
                                     {5, 1030, 1030, 1060, nonce_make(5, 1), 0}};
    check_int(probe_journal_apply(records, ARRAY_LEN(records), START, &w.trial), 1);
    check_int(w.calls[0].seen_start_ns, 30);
    check_int(w.calls[0].seen_end_ns, 80);
}

// Two at a time: the seats follow from who overlaps whom.
static void without_nonces_the_order_of_ends_tells(void **state UNUSED) {
    struct world w;
    world_init(&w);
    struct probe_record records[] = {{7, 1090, 1090, 1135, 0, 0},
                                     {6, 1085, 1085, 1125, 0, 0},
                                     {4, 1040, 1040, 1080, 0, 0},
                                     {5, 1041, 1041, 1090, 0, 0}};
    static const unsigned seats[] = {1, 2, 1, 2};
    check_int(probe_journal_apply(records, CALLS, START, &w.trial), CALLS);
    for (unsigned i = 0; i < CALLS; i++) {
        check_int(w.calls[i].seen_seat, seats[i]);
    }
    check_int(w.calls[0].seen_end_ns, 80);
    check_int(w.calls[3].seen_end_ns, 135);
}

static void another_number_of_calls_tells_nothing(void **state UNUSED) {
    struct world w;
    world_init(&w);
    struct probe_record records[] = {{4, 1040, 1040, 1080, 0, 0}, {5, 1041, 1041, 1090, 0, 0}};
    check_int(probe_journal_apply(records, ARRAY_LEN(records), START, &w.trial), 0);
    check_int(w.calls[0].seen_end_ns, 0);
}

static void the_clock_of_another_machine_is_mapped(void **state UNUSED) {
    struct world w;
    const uint64_t other = (uint64_t)1 << 50;
    world_init(&w);
    struct probe_record records[] = {{4, other + 30, other + 30, other + 80, nonce_make(5, 1), 1},
                                     {5, other + 20, other + 20, other + 60, nonce_make(5, 2), 2}};
    check_int(probe_journal_apply(records, ARRAY_LEN(records), START, &w.trial), 2);
    check_int(w.calls[1].seen_start_ns, 20); // when it was sent: that one is the least late
    check_int(w.calls[0].seen_start_ns, 30);
    check_int(w.calls[0].seen_end_ns, 80);
}

TESTS(TEST(lines_become_records), TEST(foreign_lines_are_no_records), TEST(a_nonce_tells_whose_it_is_in_any_order),
      TEST(calls_of_an_app_for_one_of_ours_are_one), TEST(without_nonces_the_order_of_ends_tells),
      TEST(another_number_of_calls_tells_nothing), TEST(the_clock_of_another_machine_is_mapped))
