// SPDX-License-Identifier: MIT
// Jobs and answers that outlive the process: promised only once the disk has them, stored at their end, found again by
// the next thaw, run again where their route says so. A closed world and a new one on its file are a restart; db_copy is
// what kill -9 leaves.
#include "disk.h"
#include "store/store.h"
#include "tapes.h"

#define ASYNC "Prefer: respond-async\r\n"
#define OTHER_CHAT "{\"model\":\"x\"}"
#define ALICE "Authorization: Bearer alice\r\n"
#define BOB "Authorization: Bearer bob\r\n"
#define RERUN ONE_UPSTREAM "routes: {" CHAT_PATH ": {rerun: true}}\n"
#define COUNT(where) "SELECT count(*) FROM tape WHERE " where
#define RUNNING COUNT("state = 0")
#define WHOLE COUNT("state = 1")
#define CANCELLED COUNT("state = 3")
#define INTERRUPTED COUNT("state = 4")

static struct peer *post_at(struct world *w, unsigned worker, const char *fields, const char *json) {
    struct peer *client = client_open_at(w, worker);
    client_ask(client, POST_CHAT, fields, json);
    return client;
}

static struct id check_accepted(struct peer *client, const char *state) {
    char says[40];
    snprintf(says, sizeof says, "\"state\":\"%s\"", state);
    check_status(client, 202, says);
    return tape_of(client);
}

static bool is_replayed(struct peer *client) {
    struct parsed m = last_message(client);
    struct str value = field_of(&m, "idempotent-replayed");
    return str_eq(value, STR("true"));
}

static void check_same(struct peer *client, const struct id *id) {
    assert_string_equal(tape_of(client).text, id->text);
}

static void open_two(struct world *w, struct db *db, const char *yaml) {
    world_open_with_workers(w, db_yaml(db, yaml), 2);
    settle(w);
}

static void release(struct world *w) {
    disk.held = false;
    settle(w);
}

// ---- promised

static void job_is_promised_once_the_disk_has_it(void **state UNUSED) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        struct world w;
        struct db db, killed;
        db_make(&db);
        world_open_with_workers(&w, db_yaml(&db, ONE_UPSTREAM), workers);
        settle(&w);
        disk.held = true;
        struct peer *client = post_at(&w, workers - 1, ASYNC, CHAT);
        check_int(client->got_len, 0);
        check_int(upstream_count(&w, "up"), 1); // asked at once: the disk costs no time
        db_copy(&db, &killed);
        release(&w);
        struct id id = check_accepted(client, "running");
        check_only(&w, OUTCOME_LOCAL, 1);
        answer(upstream_peer(&w, "up", 0), OK_ANSWER);
        check_str(message_at(read_tape(&w, 0, &id, ""), 0).body, "{}");
        world_close(&w);
        check_int(db_number(&db, WHOLE), 1);
        check_int(db_number(&killed, COUNT("1")), 0);
        db_remove(&db);
        db_remove(&killed);
    }
}

// Its tape is a stream's, and its first bytes are the promise.
static void background_stream_begins_once_the_disk_has_it(void **state UNUSED) {
    struct world w;
    struct db db;
    db_make(&db);
    open_two(&w, &db, "upstreams: {up: {url: mock, background: thaw}}\n");
    disk.held = true;
    struct peer *client = client_open(&w);
    client_post(client, "/v1/responses", "{\"model\":\"m\",\"background\":true,\"stream\":true}");
    struct peer *up = upstream_peer(&w, "up", 0);
    answer(up, STREAM_HEAD);
    events(up, 0, 2);
    check_int(client->got_len, 0);
    release(&w);
    struct id id = tape_of(client);
    check_events(client, id, 0, 2);
    reset(client);
    world_close(&w);
    check_int(db_number(&db, RUNNING), 1);
    db_remove(&db);
}

static void joiners_are_promised_it_no_sooner(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct db db;
        db_make(&db);
        open_two(&w, &db, ONE_UPSTREAM);
        disk.held = true;
        struct peer *first = post_at(&w, 0, ASYNC KEY, CHAT);
        struct peer *second = post_at(&w, worker, ASYNC KEY, CHAT);
        struct peer *waits = post_at(&w, worker, KEY, CHAT);
        check_status(post_at(&w, worker, ASYNC KEY, OTHER_CHAT), 422, "");
        check_int(first->got_len + second->got_len + waits->got_len, 0);
        release(&w);
        struct id id = check_accepted(first, "running");
        check_accepted(second, "running");
        check_same(second, &id);
        answer(upstream_peer(&w, "up", 0), OK_ANSWER);
        check_str(message_at(waits, 0).body, "{}");
        check_int(upstream_count(&w, "up"), 1);
        check_accepted(post_at(&w, worker, ASYNC KEY, CHAT), "complete");
        world_close(&w);
        db_remove(&db);
    }
}

// Nobody had asked for a job until then.
static void call_that_is_joined_by_a_job_becomes_one(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct db db, killed;
        db_make(&db);
        open_two(&w, &db, RERUN);
        struct peer *waits = post_at(&w, 0, KEY, CHAT);
        disk.held = true;
        struct peer *joined = post_at(&w, worker, ASYNC KEY, CHAT);
        check_int(joined->got_len, 0);
        release(&w);
        struct id id = check_accepted(joined, "running");
        reset(waits);
        db_copy(&db, &killed);
        answer(upstream_peer(&w, "up", 0), OK_ANSWER);
        world_close(&w);
        check_int(db_number(&db, WHOLE), 1);
        open_two(&w, &killed, RERUN); // with all it takes to run it again
        check_str(message_at(upstream_peer(&w, "up", 0), 0).body, CHAT);
        answer(upstream_peer(&w, "up", 0), OK_ANSWER);
        check_str(message_at(read_tape(&w, worker, &id, ""), 0).body, "{}");
        world_close(&w);
        db_remove(&db);
        db_remove(&killed);
    }
}

// ---- not stored

static void full_disk_refuses_jobs_and_loses_none(void **state UNUSED) {
    struct world w;
    struct db db;
    db_make(&db);
    open_two(&w, &db, ONE_UPSTREAM);
    struct id id = check_accepted(post_at(&w, 0, ASYNC, CHAT), "running");
    disk.full = true;
    check_status(post_at(&w, 0, ASYNC, CHAT), 503, "\"code\":\"store_failed\"");
    check_dropped(upstream_peer(&w, "up", 1));
    check_int(w.worker.shelf.running, 1);
    check_open(upstream_peer(&w, "up", 0));
    check_int(outcomes_of(&w, OUTCOME_EXHAUSTED), 1);
    disk.full = false;
    check_accepted(post_at(&w, 1, ASYNC, CHAT), "running");
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    check_str(message_at(read_tape(&w, 1, &id, ""), 0).body, "{}");
    world_close(&w);
    check_int(db_number(&db, COUNT("1")), 2); // and none of what was refused
    check_int(db_number(&db, RUNNING), 1);
    db_remove(&db);
}

static void all_who_ask_for_a_job_that_is_not_stored_are_refused(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct db db;
        db_make(&db);
        open_two(&w, &db, ONE_UPSTREAM);
        disk.held = disk.full = true;
        struct peer *first = post_at(&w, 0, ASYNC KEY, CHAT);
        struct peer *second = post_at(&w, worker, ASYNC KEY, CHAT);
        struct peer *waits = post_at(&w, worker, KEY, CHAT); // needs no disk
        release(&w);
        check_status(first, 503, "store_failed");
        check_status(second, 503, "store_failed");
        struct peer *up = upstream_peer(&w, "up", 0);
        answer(up, OK_ANSWER);
        check_str(message_at(waits, 0).body, "{}");
        check_int(upstream_count(&w, "up"), 1);
        disk.full = false;
        forget(up);
        check_accepted(post_at(&w, 0, ASYNC KEY, CHAT), "running");
        check_str(message_at(up, 0).body, CHAT); // a new one
        world_close(&w);
        check_int(db_number(&db, COUNT("1")), 1);
        db_remove(&db);
    }
}

static void full_queue_refuses_jobs_before_they_are_asked_for(void **state UNUSED) {
    struct world w;
    struct db db;
    db_make(&db);
    open_two(&w, &db, ONE_UPSTREAM);
    disk.held = true;
    struct peer *first = post_at(&w, 0, ASYNC, CHAT);
    unsigned filled = 0;
    while (store_forget(w.store, NULL, STR("nothing")) == OK) {
        filled++;
    }
    check_int(filled, STORE_OPS_MAX - 1);
    check_status(post_at(&w, 1, ASYNC, CHAT), 503, "too much waits for the disk");
    check_int(upstream_count(&w, "up"), 1);
    check_status(ask_tape(&w, 0, "GET", &(struct id){"aaaaaaaaaaaaaaaaaaaaaaaaaa"}, "", ""), 503, "store_busy");
    check_only(&w, OUTCOME_EXHAUSTED, 2);
    release(&w);
    check_accepted(first, "running");
    world_close(&w);
    check_int(db_number(&db, RUNNING), 1);
    db_remove(&db);
}

static void client_that_leaves_while_its_job_is_stored_has_it_done(void **state UNUSED) {
    for (unsigned full = 0; full < 2; full++) {
        struct world w;
        struct db db;
        db_make(&db);
        open_two(&w, &db, ONE_UPSTREAM);
        disk.held = true;
        disk.full = full;
        struct peer *client = post_at(&w, 0, ASYNC KEY, CHAT);
        reset(client);
        check_only(&w, OUTCOME_GONE_WAITING, 1);
        release(&w);
        struct peer *up = upstream_peer(&w, "up", 0);
        if (full) { // nobody could ever have it
            check_dropped(up);
            check_int(w.worker.shelf.running, 0);
        } else {
            answer(up, OK_ANSWER);
            check_accepted(post_at(&w, 1, ASYNC KEY, CHAT), "complete");
        }
        disk.full = false;
        world_close(&w);
        check_int(db_number(&db, COUNT("1")), !full);
        db_remove(&db);
    }
}

// Its answer is told from memory; the next thaw has it as interrupted.
static void answer_that_does_not_fit_costs_the_job_nothing_but_itself(void **state UNUSED) {
    static const char *const retries[] = {KEY, ASYNC KEY};
    for (size_t i = 0; i < ARRAY_LEN(retries); i++) {
        struct world w;
        struct db db;
        db_make(&db);
        open_two(&w, &db, ONE_UPSTREAM);
        struct id id = check_accepted(post_at(&w, 0, ASYNC KEY, CHAT), "running");
        disk.full = true;
        answer(upstream_peer(&w, "up", 0), OK_ANSWER);
        check_str(message_at(read_tape(&w, 1, &id, ""), 0).body, "{}");
        advance(&w, KEEP_MS);
        check_status(read_tape(&w, 1, &id, ""), 502, "could not be stored");
        disk.full = false;
        post_at(&w, 1, retries[i], CHAT);
        check_int(upstream_count(&w, "up"), 2); // a new call
        world_close(&w);
        open_two(&w, &db, ONE_UPSTREAM);
        check_status(ask_tape(&w, 0, "GET", &id, "/status", ""), 200, "\"state\":\"interrupted\"");
        world_close(&w);
        db_remove(&db);
    }
}

// ---- read from the store

// A stream of four events and its end, by Alice, with a key.
static struct id make_stored(struct world *w) {
    struct peer *client = post_at(w, 0, ALICE KEY, CHAT);
    struct peer *up = upstream_peer(w, "up", 0);
    answer(up, STREAM_HEAD);
    events(up, 0, 4);
    last_chunk(up);
    return tape_of(client);
}

static void check_stored(struct world *w, unsigned worker, const struct id *id) {
    char fields[200];
    check_read(ask_tape(w, worker, "GET", id, "", ALICE), *id, 0, 4);
    check_same(ask_tape(w, worker, "GET", id, "", ALICE), id);
    check_read(ask_tape(w, worker, "GET", id, "?starting_after=1", ALICE), *id, 2, 4);
    snprintf(fields, sizeof fields, ALICE "Last-Event-ID: %s:2\r\n", id->text);
    check_read(ask_tape(w, worker, "GET", id, "", fields), *id, 3, 4);
    struct peer *reader = ask_tape(w, worker, "GET", id, "?offset=4", ALICE);
    check(str_starts(last_message(reader).body, STR(": e0\nid: ")));
    check_status(ask_tape(w, worker, "GET", id, "?starting_after=9", ALICE), 400, "4 events");
    check_int(answer_to_head(ask_tape(w, worker, "HEAD", id, "", ALICE)).status, 200);
    check_status(ask_tape(w, worker, "GET", id, "/status", ALICE), 200,
                 "\"state\":\"complete\",\"status\":200,\"bytes\":172,\"events\":4,");
    check_status(ask_tape(w, worker, "GET", id, "", BOB), 404, "tape_not_found");
    check_status(ask_tape(w, worker, "GET", id, "/status", BOB), 404, "tape_not_found");
    check_status(ask_tape(w, worker, "DELETE", id, "", BOB), 404, "tape_not_found");
}

static void answer_is_read_from_the_store(void **state UNUSED) {
    for (unsigned restart = 0; restart < 2; restart++) {
        for (unsigned worker = 0; worker < 2; worker++) {
            struct world w;
            struct db db;
            db_make(&db);
            open_two(&w, &db, ONE_UPSTREAM);
            struct id id = make_stored(&w);
            if (restart) {
                world_close(&w);
                open_two(&w, &db, ONE_UPSTREAM);
            } else {
                advance(&w, KEEP_MS); // it has left the memory
            }
            check_stored(&w, worker, &id);
            check_status(ask_tape(&w, worker, "DELETE", &id, "", ALICE), 200, "\"deleted\":true");
            check_status(ask_tape(&w, 1 - worker, "GET", &id, "", ALICE), 404, "");
            post_at(&w, worker, ALICE KEY, CHAT); // its key is free
            check_int(upstream_count(&w, "up"), restart ? 1 : 2);
            world_close(&w);
            check_int(db_number(&db, COUNT("1")), 0);
            db_remove(&db);
        }
    }
}

static void deleting_an_answer_in_memory_deletes_the_stored_one(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct db db;
        db_make(&db);
        open_two(&w, &db, ONE_UPSTREAM);
        struct id id = make_stored(&w);
        check_status(ask_tape(&w, worker, "DELETE", &id, "", ALICE), 200, "\"deleted\":true");
        check_int(shelf_key_count(w.shelves), 0);
        world_close(&w);
        check_int(db_number(&db, COUNT("1")), 0);
        db_remove(&db);
    }
}

static void stored_answer_is_open_to_who_knows_its_id_where_that_is_allowed(void **state UNUSED) {
    struct world w;
    struct db db;
    db_make(&db);
    open_two(&w, &db, ONE_UPSTREAM "tape: {read: id}\n");
    struct id id = make_stored(&w);
    world_close(&w);
    open_two(&w, &db, ONE_UPSTREAM "tape: {read: id}\n");
    check_read(ask_tape(&w, 1, "GET", &id, "", BOB), id, 0, 4);
    post_at(&w, 1, BOB KEY, CHAT); // but what is joined is always one's own
    check_int(upstream_count(&w, "up"), 1);
    world_close(&w);
    db_remove(&db);
}

static void same_key_replays_the_stored_answer(void **state UNUSED) {
    for (unsigned restart = 0; restart < 2; restart++) {
        for (unsigned worker = 0; worker < 2; worker++) {
            struct world w;
            struct db db;
            db_make(&db);
            open_two(&w, &db, ONE_UPSTREAM);
            struct id id = make_stored(&w);
            if (restart) {
                world_close(&w);
                open_two(&w, &db, ONE_UPSTREAM);
            } else {
                advance(&w, KEEP_MS);
            }
            struct peer *again = post_at(&w, worker, ALICE KEY, CHAT);
            check_events(again, id, 0, 4);
            check(is_replayed(again));
            check_same(again, &id);
            check_same(post_at(&w, worker, ALICE KEY ASYNC, CHAT), &id);
            check_status(post_at(&w, worker, ALICE KEY, OTHER_CHAT), 422, "idempotency_key_reused");
            check_int(upstream_count(&w, "up"), 1 - restart);
            post_at(&w, worker, BOB KEY, CHAT);
            check_int(upstream_count(&w, "up"), 2 - restart);
            world_close(&w);
            db_remove(&db);
        }
    }
}

static void failed_answers_are_replayed_only_where_asked(void **state UNUSED) {
    static const struct {
        const char *yaml;
        const char *fields;
        bool replayed;
    } cases[] = {{ONE_UPSTREAM, KEY, false},
                 {ONE_UPSTREAM "routes: {" CHAT_PATH ": {replay_errors: true}}\n", KEY, true},
                 {ONE_UPSTREAM "routes: {" CHAT_PATH ": {coalesce: true}}\n", "", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (unsigned cut = 0; cut < 2; cut++) {
            struct world w;
            struct db db;
            db_make(&db);
            open_two(&w, &db, cases[i].yaml);
            post_at(&w, 0, cases[i].fields, CHAT);
            struct peer *up = upstream_peer(&w, "up", 0);
            if (cut) {
                close_peer(up);
            } else {
                answer(up, "HTTP/1.1 429 Slow\r\nContent-Length: 2\r\n\r\n{}");
            }
            world_close(&w);
            check_int(db_number(&db, COUNT("1")), i < 2); // what is kept while it runs only is not stored
            open_two(&w, &db, cases[i].yaml);
            struct peer *again = post_at(&w, 1, cases[i].fields, CHAT);
            check_int(upstream_count(&w, "up"), !cases[i].replayed);
            if (cases[i].replayed) {
                check_int(last_message(again).status, cut ? 502 : 429);
            }
            world_close(&w);
            db_remove(&db);
        }
    }
}

static void expired_answers_are_swept(void **state UNUSED) {
    struct world w;
    struct db db;
    db_make(&db);
    open_two(&w, &db, ONE_UPSTREAM);
    struct id id = make_stored(&w);
    world_close(&w);
    db_change(&db, "UPDATE tape SET expires_s = 1");
    open_two(&w, &db, ONE_UPSTREAM);
    advance(&w, 1);
    check_status(ask_tape(&w, 0, "GET", &id, "", ALICE), 404, "");
    post_at(&w, 0, ALICE KEY, CHAT);
    check_int(upstream_count(&w, "up"), 1);
    world_close(&w);
    check_int(db_number(&db, COUNT("1")), 0);
    db_remove(&db);
}

// Rows of fields.def move from version to version; a file that is damaged is no answer.
static void stored_heads_are_read_by_name_and_with_care(void **state UNUSED) {
    struct world w;
    struct db db;
    db_make(&db);
    open_two(&w, &db, ONE_UPSTREAM);
    struct id id = make_stored(&w);
    world_close(&w);
    db_change(&db, "UPDATE bytes SET head = CAST(substr(head, 1, 9) || x'07' || substr(head, 11) AS BLOB)");
    open_two(&w, &db, ONE_UPSTREAM);
    check_read(ask_tape(&w, 0, "GET", &id, "", ALICE), id, 0, 4); // it is an event stream still
    world_close(&w);
    db_change(&db, "UPDATE bytes SET head = x'00'");
    open_two(&w, &db, ONE_UPSTREAM);
    check_status(ask_tape(&w, 0, "GET", &id, "", ALICE), 502, "cannot be read");
    world_close(&w);
    db_remove(&db);
}

// ---- interrupted

// A job that runs when the process ends; returns its id.
static struct id interrupt(struct db *db, const char *yaml, const char *fields) {
    struct world w;
    open_two(&w, db, yaml);
    struct peer *client = post_at(&w, 1, fields, CHAT);
    struct id id = check_accepted(client, "running");
    answer(upstream_peer(&w, "up", 0), STREAM_HEAD);
    world_close(&w);
    check_int(db_number(db, RUNNING), 1); // an end by shutdown is none
    return id;
}

static void interrupted_job_says_so(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct db db;
        db_make(&db);
        struct id id = interrupt(&db, ONE_UPSTREAM, ASYNC KEY);
        open_two(&w, &db, ONE_UPSTREAM);
        check_int(upstream_count(&w, "up"), 0); // it may not be safe to run it again
        check_status(ask_tape(&w, worker, "GET", &id, "/status", ""), 200, "\"state\":\"interrupted\",\"status\":0");
        check_status(read_tape(&w, worker, &id, ""), 502, "thaw was ended while this call ran");
        check_status(ask_tape(&w, worker, "GET", &id, "", BOB), 404, "");
        struct peer *again = post_at(&w, worker, ASYNC KEY, CHAT); // that decides
        check(strcmp(check_accepted(again, "running").text, id.text) != 0);
        check_int(upstream_count(&w, "up"), 1);
        check_status(delete_tape(&w, worker, &id), 200, "\"deleted\":true");
        check_status(read_tape(&w, worker, &id, ""), 404, "");
        world_close(&w);
        check_int(db_number(&db, INTERRUPTED), 0);
        db_remove(&db);
    }
}

static void interrupted_job_is_run_again_under_its_id(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct db db;
        db_make(&db);
        struct id id = interrupt(&db, RERUN, ASYNC KEY ALICE "X-Request-Id: mine\r\n");
        open_two(&w, &db, RERUN);
        struct peer *up = upstream_peer(&w, "up", 0);
        struct parsed asked = message_at(up, 0);
        check_str(asked.start, "POST /chat/completions HTTP/1.1");
        check_str(asked.body, CHAT);
        check_str(field_of(&asked, "x-request-id"), "mine");
        check_int(fields_of(&asked, "authorization"), 0); // is not on the disk
        check_int(fields_of(&asked, "prefer"), 0);
        check_status(ask_tape(&w, worker, "GET", &id, "/status", ALICE), 200, "\"state\":\"running\"");
        check_status(ask_tape(&w, worker, "GET", &id, "", BOB), 404, "");
        struct peer *reader = ask_tape(&w, worker, "GET", &id, "", ALICE);
        struct peer *joined = post_at(&w, worker, KEY ALICE, CHAT);
        check_same(post_at(&w, worker, ASYNC KEY ALICE, CHAT), &id);
        answer(up, STREAM_HEAD);
        events(up, 0, 4);
        last_chunk(up);
        check_read(reader, id, 0, 4);
        check_same(reader, &id);
        check_events(joined, id, 0, 4);
        check_same(joined, &id);
        check_int(upstream_count(&w, "up"), 1);
        check_stored(&w, worker, &id);
        advance(&w, KEEP_MS);
        check_stored(&w, worker, &id);
        world_close(&w);
        check_int(db_number(&db, COUNT("1")), 1);
        open_two(&w, &db, RERUN);
        check_stored(&w, worker, &id);
        check_events(post_at(&w, worker, KEY ALICE, CHAT), id, 0, 4);
        check_int(upstream_count(&w, "up"), 0);
        world_close(&w);
        db_remove(&db);
    }
}

static void job_that_is_run_again_is_cancelled_by_its_id(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct db db;
        db_make(&db);
        struct id id = interrupt(&db, RERUN, ASYNC);
        open_two(&w, &db, RERUN);
        check_status(delete_tape(&w, worker, &id), 200, "\"state\":\"cancelled\"");
        check_dropped(upstream_peer(&w, "up", 0));
        check_status(ask_tape(&w, worker, "GET", &id, "/status", ""), 200, "\"state\":\"cancelled\"");
        world_close(&w);
        check_int(db_number(&db, CANCELLED), 1);
        db_remove(&db);
    }
}

// Whoever asks in the first moment, for the last of several, is not told that it is lost.
static void jobs_to_be_run_again_are_waited_for(void **state UNUSED) {
    static const char *const queries[] = {"/status", ""};
    enum { JOBS = 4 };
    for (unsigned worker = 0; worker < 2; worker++) {
        for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
            struct world w;
            struct db db;
            struct id id = {{0}};
            db_make(&db);
            open_two(&w, &db, RERUN);
            for (unsigned n = 0; n < JOBS; n++) {
                id = check_accepted(post_at(&w, 0, ASYNC, CHAT), "running");
            }
            world_close(&w);
            disk.held = true;
            open_two(&w, &db, RERUN);
            struct peer *client = ask_tape(&w, worker, "GET", &id, queries[i], "");
            check_int(client->got_len, 0);
            check_int(upstream_count(&w, "up"), 0);
            release(&w);
            check_int(upstream_count(&w, "up"), JOBS);
            answer(upstream_peer(&w, "up", JOBS - 1), OK_ANSWER);
            check_status(client, 200, i == 0 ? "\"state\":\"running\"" : "{}");
            world_close(&w);
            db_remove(&db);
        }
    }
}

// And that call is one like all others: nobody promised it.
static void job_that_is_asked_for_anew_first_is_not_run_again(void **state UNUSED) {
    static const char yaml[] = RERUN "tape: {on_disconnect: cancel}\n";
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct db db;
        db_make(&db);
        struct id id = interrupt(&db, yaml, ASYNC KEY);
        disk.held = true;
        open_two(&w, &db, yaml);
        struct peer *anew = post_at(&w, worker, KEY, CHAT);
        release(&w);
        check_int(upstream_count(&w, "up"), 1);
        check_status(ask_tape(&w, worker, "GET", &id, "/status", ""), 200, "\"state\":\"interrupted\"");
        reset(anew);
        check_dropped(upstream_peer(&w, "up", 0));
        world_close(&w);
        db_remove(&db);
    }
}

// The disk refuses to begin it again: it stays what it was, for the next time.
static void job_that_cannot_be_begun_again_stays_interrupted(void **state UNUSED) {
    struct world w;
    struct db db;
    db_make(&db);
    struct id id = interrupt(&db, RERUN, ASYNC);
    disk.held = true;
    open_two(&w, &db, RERUN);
    disk.full = true;
    release(&w);
    check_dropped(upstream_peer(&w, "up", 0));
    check_int(w.worker.in_flight, 0);
    disk.full = false;
    check_status(ask_tape(&w, 0, "GET", &id, "/status", ""), 200, "\"state\":\"interrupted\"");
    world_close(&w);
    check_int(db_number(&db, INTERRUPTED), 1);
    open_two(&w, &db, RERUN);
    check_int(upstream_count(&w, "up"), 1);
    world_close(&w);
    db_remove(&db);
}

static void several_jobs_are_run_again(void **state UNUSED) {
    enum { JOBS = 5 };
    struct world w;
    struct db db;
    struct id ids[JOBS];
    db_make(&db);
    open_two(&w, &db, RERUN);
    for (unsigned i = 0; i < JOBS; i++) {
        ids[i] = check_accepted(post_at(&w, i % 2, ASYNC, CHAT), "running");
    }
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    world_close(&w);
    open_two(&w, &db, RERUN);
    check_int(upstream_count(&w, "up"), JOBS - 1);
    for (unsigned i = 0; i < JOBS - 1; i++) {
        answer(upstream_peer(&w, "up", i), OK_ANSWER);
    }
    for (unsigned i = 0; i < JOBS; i++) {
        check_str(message_at(read_tape(&w, i % 2, &ids[i], ""), 0).body, "{}");
    }
    world_close(&w);
    check_int(db_number(&db, WHOLE), JOBS);
    db_remove(&db);
}

static void fan_out_is_run_again(void **state UNUSED) {
    static const char yaml[] = ONE_UPSTREAM "routes: {/v1/parallel: {rerun: true}}\n";
    struct world w;
    struct db db;
    db_make(&db);
    open_two(&w, &db, yaml);
    struct peer *client = client_open(&w);
    client_ask(client, "POST /v1/parallel", ASYNC,
               "{\"calls\":[{\"id\":\"a\",\"path\":\"" CHAT_PATH "\",\"body\":{\"model\":\"a\"}},"
               "{\"id\":\"b\",\"path\":\"" CHAT_PATH "\",\"body\":{\"model\":\"b\"}}]}");
    struct id id = check_accepted(client, "running");
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    world_close(&w);
    check_int(db_number(&db, RUNNING), 1); // its branches are no jobs of their own
    open_two(&w, &db, yaml);
    check_int(upstream_count(&w, "up"), 2);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    answer(upstream_peer(&w, "up", 1), OK_ANSWER);
    check_status(read_tape(&w, 1, &id, ""), 200, "\"done\":2");
    world_close(&w);
    check_int(db_number(&db, WHOLE), 1);
    db_remove(&db);
}

// ---- the end

static void draining_stores_what_ends_and_begins_nothing(void **state UNUSED) {
    struct world w;
    struct db db;
    db_make(&db);
    interrupt(&db, RERUN, ASYNC);
    disk.held = true;
    open_two(&w, &db, RERUN);
    close_peer(post_at(&w, 1, ASYNC, CHAT));
    for (unsigned i = 0; i < 2; i++) {
        worker_drain(&w.workers[i], 60 * 1000);
    }
    settle(&w);
    release(&w);
    check_int(upstream_count(&w, "up"), 2); // the first one's question was on its way already
    check(!w.workers[0].loop.stopping);
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    answer(upstream_peer(&w, "up", 1), OK_ANSWER);
    advance(&w, 1000);
    check(w.workers[0].loop.stopping && w.workers[1].loop.stopping);
    world_close(&w);
    check_int(db_number(&db, WHOLE), 2);
    db_remove(&db);
}

// Whatever the process does when it ends: who was promised a job finds it, and the file is whole.
static void ending_at_any_turn_loses_no_promise(void **state UNUSED) {
    bool quiet = false;
    for (unsigned turns = 0; !quiet && turns < 100000; turns += 1 + (small_window() ? turns / 4 : 0)) {
        struct world w;
        struct db db, killed;
        struct peer *clients[4];
        unsigned idle = 0;
        unsigned promised = 0;
        db_make(&db);
        world_open_with_workers(&w, db_yaml(&db, RERUN), 2);
        for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
            char request[300];
            snprintf(request, sizeof request,
                     POST_CHAT " HTTP/1.1\r\nHost: h\r\n" ASYNC "Idempotency-Key: %u\r\nContent-Length: %zu\r\n\r\n%s",
                     i / 2, strlen(CHAT), CHAT);
            clients[i] = client_open_at(&w, i % 2);
            peer_queue(clients[i], str_c(request));
        }
        for (unsigned i = 0; i < turns && idle < 9; i++) {
            bool busy = i % 3 == 2 ? disk_turn() : loop_turn(&w.workers[i % 3].loop, 0);
            idle = busy ? 0 : idle + 1;
            if (i == turns / 2 && upstream_count(&w, "up")) {
                peer_queue(upstream_peer(&w, "up", 0), STR(OK_ANSWER));
            }
        }
        quiet = idle == 9;
        db_copy(&db, &killed);
        for (unsigned i = 0; i < ARRAY_LEN(clients); i += 2) {
            struct parsed a = message_at(clients[i], 0);
            struct parsed b = message_at(clients[i + 1], 0);
            promised += (!a.none && a.status == 202) || (!b.none && b.status == 202);
        }
        world_close(&w);
        struct db *files[] = {&db, &killed};
        for (size_t i = 0; i < ARRAY_LEN(files); i++) {
            check(db_number(files[i], COUNT("state IN (0, 1)")) >= promised);
            check_int(db_number(files[i], COUNT("state NOT IN (0, 1)")), 0);
            db_remove(files[i]);
        }
    }
    check(quiet);
}

// ---- no memory

static void job_without_memory_is_refused_or_done(void **state UNUSED) {
    unsigned refused = 0;
    for (int forever = 0; forever <= 1; forever++) {
        bool fired = true;
        for (unsigned n = 1; fired && n < 100000; n += small_window() ? 1 + n / 8 : 1) {
            struct world w;
            struct db db;
            db_make(&db);
            open_two(&w, &db, ONE_UPSTREAM);
            mem_fail_after(n, forever);
            struct peer *client = post_at(&w, 0, ASYNC, CHAT);
            fired = mem_fail_fired();
            mem_fail_after(0, 0);
            settle(&w);
            struct parsed m = last_message(client);
            bool promised = !m.none && m.status == 202;
            refused += !promised;
            if (promised) {
                struct id id = tape_of(client);
                check_status(ask_tape(&w, 1, "GET", &id, "/status", ""), 200, "");
            }
            world_close(&w);
            check(db_number(&db, COUNT("1")) >= promised);
            db_remove(&db);
        }
        check(!fired);
    }
    check(refused > 0);
}

static void reading_from_the_store_without_memory_harms_nobody(void **state UNUSED) {
    for (int forever = 0; forever <= 1; forever++) {
        struct world w;
        struct db db;
        bool fired = true;
        unsigned harmed = 0;
        db_make(&db);
        open_two(&w, &db, ONE_UPSTREAM);
        struct id id = make_stored(&w);
        advance(&w, KEEP_MS);
        for (unsigned n = 1; fired && n < 100000; n += small_window() ? 1 + n / 16 : 1) {
            mem_fail_after(n, forever);
            struct peer *reader = ask_tape(&w, 0, "GET", &id, "", ALICE);
            struct peer *looks = ask_tape(&w, 1, "GET", &id, "/status", ALICE);
            fired = mem_fail_fired();
            mem_fail_after(0, 0);
            harmed += reader->end != OK || looks->end != OK;
            close_peer(reader);
            close_peer(looks);
        }
        check(!fired && harmed > 0);
        check_stored(&w, 0, &id);
        world_close(&w);
        db_remove(&db);
    }
}

FLOWS(TEST(job_is_promised_once_the_disk_has_it), TEST(background_stream_begins_once_the_disk_has_it),
      TEST(joiners_are_promised_it_no_sooner), TEST(call_that_is_joined_by_a_job_becomes_one),
      TEST(full_disk_refuses_jobs_and_loses_none), TEST(all_who_ask_for_a_job_that_is_not_stored_are_refused),
      TEST(full_queue_refuses_jobs_before_they_are_asked_for),
      TEST(client_that_leaves_while_its_job_is_stored_has_it_done),
      TEST(answer_that_does_not_fit_costs_the_job_nothing_but_itself), TEST(answer_is_read_from_the_store),
      TEST(deleting_an_answer_in_memory_deletes_the_stored_one),
      TEST(stored_answer_is_open_to_who_knows_its_id_where_that_is_allowed), TEST(same_key_replays_the_stored_answer),
      TEST(failed_answers_are_replayed_only_where_asked), TEST(expired_answers_are_swept),
      TEST(stored_heads_are_read_by_name_and_with_care), TEST(interrupted_job_says_so),
      TEST(interrupted_job_is_run_again_under_its_id), TEST(job_that_is_run_again_is_cancelled_by_its_id),
      TEST(jobs_to_be_run_again_are_waited_for), TEST(job_that_is_asked_for_anew_first_is_not_run_again),
      TEST(job_that_cannot_be_begun_again_stays_interrupted), TEST(several_jobs_are_run_again),
      TEST(fan_out_is_run_again), TEST(draining_stores_what_ends_and_begins_nothing),
      TEST(ending_at_any_turn_loses_no_promise), TEST(job_without_memory_is_refused_or_done),
      TEST(reading_from_the_store_without_memory_harms_nobody))
