// SPDX-License-Identifier: MIT
#include "mock/journal.h"

#include "check.h"
#include "llm/json.h"

struct world {
    struct fake_clock fake;
    struct loop loop;
    struct capacity *capacity;
    struct journal journal;
};

static void world_init(struct world *w) {
    static const struct capacity_events none = {NULL, NULL, NULL};
    fake_clock_init(&w->fake);
    check_ok(loop_init(&w->loop, &(struct loop_options){.clock = &w->fake.clock}));
    w->capacity = capacity_create(&w->loop, &(struct capacity_options){.seats = 0}, 0, &none);
    journal_init(&w->journal, 4, w->capacity);
}

static void world_finish(struct world *w) {
    journal_finish(&w->journal);
    capacity_destroy(w->capacity);
    loop_finish(&w->loop);
}

static struct json *line_of(const struct world *w, uint64_t id) {
    struct buf text;
    struct out o = {&text, OK};
    buf_init(&text, 4096);
    journal_put(&w->journal, id, &o);
    check_ok(o.e);
    struct json *json = json_open(buf_str(&text), 64 * 1024);
    check(json != NULL);
    buf_finish(&text);
    return json;
}

static double number_of(const struct json *json, const char *name) {
    double n = -1;
    check(json_number(json_member(json_root(json), name), &n));
    return n;
}

static struct str text_of(const struct json *json, const char *name) {
    return json_string(json_member(json_root(json), name));
}

static const struct {
    enum journal_end end;
    const char *name;
    double last_byte, cut, gone;
} ends[] = {{END_WHOLE, "whole", 9, 0, 0}, {END_CUT, "cut", 0, 9, 0}, {END_GONE, "gone", 0, 0, 9}};

// What was cut has no last byte, whoever cut it.
static void each_end_has_its_own_time(void **state UNUSED) {
    struct world w;
    world_init(&w);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        uint64_t id = journal_arrived(&w.journal, "/x", 1);
        struct json *json = line_of(&w, id);
        check_str(text_of(json, "end"), "running");
        json_close(json);
        journal_first_byte(&w.journal, id, 200, 5);
        journal_ended(&w.journal, id, ends[i].end, 3, 9);
        json = line_of(&w, id);
        check_str(text_of(json, "end"), ends[i].name);
        check(number_of(json, "last_byte_ns") == ends[i].last_byte);
        check(number_of(json, "cut_ns") == ends[i].cut);
        check(number_of(json, "client_gone_ns") == ends[i].gone);
        check_int((int)number_of(json, "tokens"), 3);
        json_close(json);
        check_int(w.journal.ended[ends[i].end], 1);
    }
    check_int(w.journal.by_status[200], 3);
    world_finish(&w);
}

#define FIFTY "aaaaaaaaabaaaaaaaaabaaaaaaaaabaaaaaaaaabaaaaaaaaab"

static const struct {
    const char *model, *session;
    size_t model_len, session_len; // of what is kept
} names[] = {
    {"m", "", 1, 0},        {"m", "s", 1, 1},        {FIFTY, "", 42, 0}, {FIFTY, "s", 41, 1},
    {FIFTY, FIFTY, 30, 12}, {"model", FIFTY, 5, 37}, {"", FIFTY, 0, 42}, {"", "", 0, 0},
};

static void names_share_their_room(void **state UNUSED) {
    struct world w;
    world_init(&w);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        uint64_t id = journal_arrived(&w.journal, "/x", 1);
        journal_asked(&w.journal, id, str_c(names[i].model), str_c(names[i].session), false);
        struct json *json = line_of(&w, id);
        check(str_eq(text_of(json, "model"), str_first(str_c(names[i].model), names[i].model_len)));
        check(str_eq(text_of(json, "session"), str_first(str_c(names[i].session), names[i].session_len)));
        json_close(json);
    }
    world_finish(&w);
}

static void what_is_told_of_a_lost_record_changes_counts_alone(void **state UNUSED) {
    struct world w;
    world_init(&w);
    uint64_t lost = journal_arrived(&w.journal, "/x", 1);
    for (unsigned i = 0; i < 4; i++) {
        journal_arrived(&w.journal, "/y", 2);
    }
    check(journal_find(&w.journal, lost) == NULL);
    journal_asked(&w.journal, lost, STR("lost"), STR("lost"), true);
    journal_drawn(&w.journal, lost, 7, 7);
    journal_service(&w.journal, lost, 7, 7);
    journal_service_over(&w.journal, lost, 7);
    journal_first_byte(&w.journal, lost, 200, 7);
    journal_ended(&w.journal, lost, END_WHOLE, 7, 7);
    struct json *json = line_of(&w, lost + 4);
    check_str(text_of(json, "model"), "");
    check_int((int)number_of(json, "seat") + (int)number_of(json, "status") + (int)number_of(json, "tokens"), 0);
    json_close(json);
    check_int(w.journal.in_flight, 4);
    check_int(w.journal.at_most, 5);
    world_finish(&w);
}

TESTS(TEST(each_end_has_its_own_time), TEST(names_share_their_room),
      TEST(what_is_told_of_a_lost_record_changes_counts_alone))
