// SPDX-License-Identifier: MIT
// OpenAI's Responses: `background: true` done by thaw, and /responses/{id}: of ours, of the upstream's own that passed by
// here, and of all others.
#include "disk.h"
#include "tapes.h"

#define BY_THAW "upstreams: {up: {url: mock, background: thaw}}\n"
#define BY_UPSTREAM "upstreams: {up: {url: mock, background: upstream}}\n"
#define POST_RESPONSES "POST /v1/responses"
#define BACKGROUND "{\"model\":\"m\",\"background\":true,\"input\":\"hi\"}"
#define STREAMED "{\"model\":\"m\",\"background\":true,\"stream\":true}"
#define JSON_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#define ALICE "Authorization: Bearer alice\r\n"
#define BOB "Authorization: Bearer bob\r\n"

struct name {
    char text[80];
};

static void answer_json(struct peer *up, const char *head, const char *json) {
    char text[2048];
    snprintf(text, sizeof text, "%sContent-Length: %zu\r\n\r\n%s", head, strlen(json), json);
    answer(up, text);
}

#define OBJECT(id, status) "{\"object\":\"response\", \"id\":\"" id "\",\"status\":\"" status "\",\"n\":1.0}"

static struct peer *create(struct world *w, unsigned worker, const char *fields, const char *json) {
    struct peer *client = client_open_at(w, worker);
    client_ask(client, POST_RESPONSES, fields, json);
    return client;
}

static struct peer *ask_response(struct world *w, unsigned worker, const char *method, const char *name,
                                 const char *rest, const char *fields) {
    char what[300];
    struct peer *client = client_open_at(w, worker);
    snprintf(what, sizeof what, "%s /v1/responses/%s%s", method, name, rest);
    client_ask(client, what, fields, NULL);
    return client;
}

static struct peer *retrieve(struct world *w, unsigned worker, const struct name *name) {
    return ask_response(w, worker, "GET", name->text, "", "");
}

// Of a response that was begun in the background.
static struct name check_queued(struct peer *client) {
    struct parsed m = last_message(client);
    struct name name = {{0}};
    check_int(m.status, 200);
    check(m.whole);
    check(str_starts(m.body, STR("{\"id\":\"resp_")));
    memcpy(name.text, m.body.ptr + 7, 5 + ID_LEN);
    check_has(client, "\"object\":\"response\"");
    check_has(client, "\"status\":\"queued\",\"background\":true,\"error\":null");
    check_has(client, "\"model\":\"m\"");
    return name;
}

static void check_object(struct peer *client, const struct name *name, const char *status) {
    char says[200];
    snprintf(says, sizeof says, "{\"id\":\"%s\",\"object\":\"response\"", name->text);
    check_status(client, 200, says);
    snprintf(says, sizeof says, "\"status\":\"%s\"", status);
    check_has(client, says);
}

// How many times the upstream was asked on all its connections; the last one.
static struct parsed last_asked(struct world *w, unsigned *count) {
    struct parsed last = {.none = true};
    *count = 0;
    for (unsigned i = 0; i < upstream_count(w, "up"); i++) {
        struct peer *up = upstream_peer(w, "up", i);
        for (size_t at = 0; at < up->got_len;) {
            last = message_at(up, at);
            assert_false(last.none);
            at += last.used;
            ++*count;
        }
    }
    return last;
}

static unsigned asked(struct world *w) {
    unsigned count;
    (void)last_asked(w, &count);
    return count;
}

// ---- in the background

static void background_response_is_done_by_thaw(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, BY_THAW, 2);
        struct peer *client = create(&w, 0, "Accept-Encoding: gzip\r\n", BACKGROUND);
        struct name name = check_queued(client);
        reset(client);
        struct peer *up = upstream_peer(&w, "up", 0);
        struct parsed m = message_at(up, 0);
        check_str(m.start, "POST /responses HTTP/1.1");
        check_str(m.body, "{\"model\":\"m\",\"background\":false,\"input\":\"hi\"}");
        check(m.whole);
        check_int(fields_of(&m, "accept-encoding"), 0); // thaw itself reads the answer
        check_object(retrieve(&w, worker, &name), &name, "queued");
        answer(up, JSON_HEAD "Content-Length: 59\r\n\r\n{\"object\"");
        check_object(retrieve(&w, worker, &name), &name, "in_progress");
        answer(up, ":\"response\",\"id\":\"resp_up\",\"status\":\"completed\"}  ");
        struct parsed done = last_message(retrieve(&w, worker, &name));
        char wanted[200];
        snprintf(wanted, sizeof wanted, "{\"object\":\"response\",\"id\":\"%s\",\"status\":\"completed\"}  ",
                 name.text);
        check_str(done.body, wanted);
        check_int(asked(&w), 1);
        world_close(&w);
    }
}

static void both_the_model_and_background_are_changed_in_either_order(void **state UNUSED) {
    static const char *const bodies[][2] = {
        {"{\"model\":\"m\",\"background\":true}", "{\"model\":\"other\",\"background\":false}"},
        {"{ \"background\" : true , \"model\" : \"m\" }", "{ \"background\" : false , \"model\" : \"other\" }"},
        {"{\"background\":true,\"input\":\"true\",\"model\":\"m\"}",
         "{\"background\":false,\"input\":\"true\",\"model\":\"other\"}"}};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct world w;
        world_open(&w, BY_THAW "models: {m: {use: [up/other]}}\n");
        check_queued(create(&w, 0, "", bodies[i][0]));
        struct parsed m = message_at(upstream_peer(&w, "up", 0), 0);
        check_str(m.body, bodies[i][1]);
        check(m.whole);
        world_close(&w);
    }
}

static void upstream_that_can_does_it_itself(void **state UNUSED) {
    struct world w;
    world_open(&w, BY_UPSTREAM);
    struct peer *client = create(&w, 0, "Accept-Encoding: gzip\r\n", BACKGROUND);
    check_int(client->got_len, 0);
    struct peer *up = upstream_peer(&w, "up", 0);
    check_str(message_at(up, 0).body, BACKGROUND);
    check_has(up, "Accept-Encoding: gzip");
    answer_json(up, JSON_HEAD, OBJECT("resp_up", "queued"));
    check_str(message_at(client, 0).body, OBJECT("resp_up", "queued"));
    check_only(&w, OUTCOME_COMPLETE, 1);
    world_close(&w);
}

static void background_response_that_fails_says_why(void **state UNUSED) {
    static const struct {
        const char *head;
        const char *json;
        const char *code;
        const char *message;
    } cases[] = {
        {"HTTP/1.1 429 Slow\r\nContent-Type: application/json\r\n",
         "{\"error\":{\"message\":\"slow \\\"down\\\"\",\"code\":\"rate\"}}", "\"code\":\"rate\"", "slow \\\"down\\\""},
        {"HTTP/1.1 500 No\r\n", "<html>", "\"code\":\"server_error\"", "The upstream answered 500."},
        {NULL, NULL, "\"code\":\"server_error\"", "without an answer"},
    };
    for (unsigned worker = 0; worker < 2; worker++) {
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            struct world w;
            world_open_with_workers(&w, BY_THAW, 2);
            struct name name = check_queued(create(&w, 0, "", BACKGROUND));
            if (cases[i].head) {
                answer_json(upstream_peer(&w, "up", 0), cases[i].head, cases[i].json);
            } else {
                close_peer(upstream_peer(&w, "up", 0));
            }
            struct peer *client = retrieve(&w, worker, &name);
            check_object(client, &name, "failed");
            check_has(client, cases[i].code);
            check_has(client, cases[i].message);
            world_close(&w);
        }
    }
}

static void background_response_is_cancelled(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, BY_THAW, 2);
        struct name name = check_queued(create(&w, 0, ALICE, BACKGROUND));
        check_status(ask_response(&w, worker, "POST", name.text, "/cancel", BOB), 404, "");
        check_status(ask_response(&w, worker, "GET", name.text, "", BOB), 404, "");
        check_open(upstream_peer(&w, "up", 0));
        check_object(ask_response(&w, worker, "POST", name.text, "/cancel", ALICE), &name, "cancelled");
        check_dropped(upstream_peer(&w, "up", 0));
        check_object(ask_response(&w, worker, "GET", name.text, "", ALICE), &name, "cancelled");
        check_object(ask_response(&w, worker, "POST", name.text, "/cancel", ALICE), &name, "cancelled");
        check_int(upstream_count(&w, "up"), 1);
        world_close(&w);
    }
}

static void cancelling_comes_too_late_for_one_that_is_done(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, BY_THAW, 2);
    struct name name = check_queued(create(&w, 0, "", BACKGROUND));
    answer_json(upstream_peer(&w, "up", 0), JSON_HEAD, OBJECT("resp_up", "completed"));
    for (unsigned worker = 0; worker < 2; worker++) {
        check_status(ask_response(&w, worker, "POST", name.text, "/cancel", ""), 200, "\"n\":1.0"); // all of it
    }
    world_close(&w);
}

static void background_response_is_deleted(void **state UNUSED) {
    for (unsigned done = 0; done < 2; done++) {
        for (unsigned worker = 0; worker < 2; worker++) {
            struct world w;
            world_open_with_workers(&w, BY_THAW, 2);
            struct name name = check_queued(create(&w, 0, "", BACKGROUND));
            if (done) {
                answer_json(upstream_peer(&w, "up", 0), JSON_HEAD, OBJECT("resp_up", "completed"));
            }
            check_status(ask_response(&w, worker, "DELETE", name.text, "", ""), 200,
                         "\"object\":\"response\",\"deleted\":true");
            check(done || upstream_peer(&w, "up", 0)->end != OK);
            check_status(retrieve(&w, worker, &name), 410, "");
            check_int(asked(&w), 1); // it is no upstream's
            world_close(&w);
        }
    }
}

// ---- streams

// Events as OpenAI numbers them, the object in the first and in the last.
static void numbered(struct peer *up, unsigned n, const char *type, const char *status) {
    char text[400];
    snprintf(text, sizeof text,
             "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%u,\"response\":{\"id\":\"resp_up\",\"object\":"
             "\"response\",\"status\":\"%s\",\"at\":%u}}\n\n",
             type, type, n, status, n);
    chunk(up, text);
}

static struct peer *begin_stream(struct world *w, const char *fields, const char *json, unsigned first) {
    struct peer *client = create(w, 0, fields, json);
    struct peer *up = upstream_peer(w, "up", 0);
    answer(up, STREAM_HEAD);
    numbered(up, first, "response.created", "queued");
    numbered(up, first + 1, "response.in_progress", "in_progress");
    return client;
}

static void end_stream(struct world *w, unsigned first) {
    struct peer *up = upstream_peer(w, "up", 0);
    char delta[100];
    snprintf(delta, sizeof delta, "data: {\"sequence_number\":%u,\"delta\":\"x\"}\n\n", first + 2);
    chunk(up, delta);
    numbered(up, first + 3, "response.completed", "completed");
    last_chunk(up);
}

static void check_sequence(struct peer *client, unsigned from, unsigned until) {
    char text[40];
    struct str body = last_message(client).body;
    for (unsigned n = 0; n < 5; n++) {
        snprintf(text, sizeof text, "\"sequence_number\":%u,", n);
        check_int(str_search(body, str_c(text)) < body.len, n >= from && n < until);
    }
}

static void background_stream_goes_on_and_is_read_on(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        for (unsigned first = 0; first < 2; first++) {
            struct world w;
            char query[60];
            world_open_with_workers(&w, BY_THAW, 2);
            struct peer *client = begin_stream(&w, "", STREAMED, first);
            struct peer *up = upstream_peer(&w, "up", 0);
            check_str(message_at(up, 0).body, "{\"model\":\"m\",\"background\":false,\"stream\":true}");
            check_sequence(client, first, first + 2);
            struct id tape = tape_of(client);
            struct name ours, theirs = {"resp_up"};
            snprintf(ours.text, sizeof ours.text, "resp_%s", tape.text);
            reset(client);
            advance(&w, GRACE_MS + 1000);
            check_open(up);
            snprintf(query, sizeof query, "?stream=true&starting_after=%u", first);
            struct peer *readers[] = {ask_response(&w, worker, "GET", ours.text, query, ""),
                                      ask_response(&w, worker, "GET", theirs.text, query, "")};
            check_object(retrieve(&w, worker, &theirs), &theirs, "in_progress");
            end_stream(&w, first);
            for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
                check_status(readers[i], 200, "\"status\":\"completed\"");
                check_sequence(readers[i], first + 1, first + 4);
            }
            struct peer *all = ask_response(&w, worker, "GET", ours.text, "?stream=true", "");
            check_sequence(all, first, first + 4);
            check(str_starts(last_message(all).body, STR("event: response.created\n"))); // SDKs stumble over "retry:"
            struct name *names[] = {&ours, &theirs};
            for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                char wanted[200];
                snprintf(wanted, sizeof wanted,
                         "{\"id\":\"%s\",\"object\":\"response\",\"status\":\"completed\",\"at\":%u}", names[i]->text,
                         first + 3);
                struct parsed m = last_message(retrieve(&w, worker, names[i]));
                check_str(m.body, wanted);
            }
            check_int(asked(&w), 1);
            world_close(&w);
        }
    }
}

// The upstream knows it by that name, but nothing of its being in the background.
static void background_stream_is_cancelled_and_deleted_by_the_upstreams_name(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct name name = {"resp_up"};
        world_open_with_workers(&w, BY_THAW, 2);
        struct peer *client = begin_stream(&w, "", STREAMED, 0);
        check_object(ask_response(&w, worker, "POST", name.text, "/cancel", ""), &name, "cancelled");
        check_dropped(upstream_peer(&w, "up", 0));
        struct str told = last_message(client).body;
        check(str_search(told, STR("\"code\":\"cancelled\"")) < told.len);
        check_int(upstream_count(&w, "up"), 1);
        world_close(&w);
    }
}

static void stream_that_ends_without_its_object_failed(void **state UNUSED) {
    for (unsigned cut = 0; cut < 2; cut++) {
        struct world w;
        struct name name;
        world_open_with_workers(&w, BY_THAW, 2);
        struct id tape = tape_of(begin_stream(&w, "", STREAMED, 0));
        snprintf(name.text, sizeof name.text, "resp_%s", tape.text);
        if (cut) {
            close_peer(upstream_peer(&w, "up", 0));
        } else {
            last_chunk(upstream_peer(&w, "up", 0));
        }
        for (unsigned worker = 0; worker < 2; worker++) {
            struct peer *client = retrieve(&w, worker, &name);
            check_object(client, &name, "failed");
            check_has(client, cut ? "failed: " : "without a complete response");
        }
        world_close(&w);
    }
}

static void what_is_no_stream_is_not_read_as_one(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, BY_THAW, 2);
    struct name name = check_queued(create(&w, 0, "", BACKGROUND));
    answer_json(upstream_peer(&w, "up", 0), JSON_HEAD, OBJECT("resp_up", "completed"));
    for (unsigned worker = 0; worker < 2; worker++) {
        check_status(ask_response(&w, worker, "GET", name.text, "?stream=true", ""), 400, "not_a_stream");
        check_status(ask_response(&w, worker, "GET", name.text, "?starting_after=x", ""), 400, "starting_after");
    }
    world_close(&w);
}

// ---- the upstream's own

// What passed by is as good as the upstream's, as long as it is whole.
static void copy_of_an_upstreams_response_is_read(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct name name = {"resp_up"};
        world_open_with_workers(&w, BY_UPSTREAM, 2);
        create(&w, 0, RESUME, "{\"model\":\"m\"}");
        answer_json(upstream_peer(&w, "up", 0), JSON_HEAD, OBJECT("resp_up", "completed"));
        check_str(last_message(retrieve(&w, worker, &name)).body, OBJECT("resp_up", "completed"));
        check_int(asked(&w), 1);
        check_int(ask_response(&w, worker, "GET", name.text, "", BOB)->got_len, 0); // is no business of his here
        check_int(asked(&w), 2);
        world_close(&w);
    }
}

static void copy_of_a_stream_is_read(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct name name = {"resp_up"};
        world_open_with_workers(&w, BY_UPSTREAM, 2);
        begin_stream(&w, RESUME, STREAMED, 0);
        check_str(message_at(upstream_peer(&w, "up", 0), 0).body, STREAMED);
        struct peer *reader = ask_response(&w, worker, "GET", name.text, "?stream=true&starting_after=0", "");
        check_sequence(reader, 1, 2);
        end_stream(&w, 0);
        check_sequence(reader, 1, 4);
        check_object(retrieve(&w, worker, &name), &name, "completed");
        check_int(asked(&w), 1);
        world_close(&w);
    }
}

struct passed_on {
    const char *what;
    const char *rest;
    const char *target;
};

static void check_passed_on(struct world *w, unsigned worker, const struct passed_on *p) {
    unsigned before = asked(w), after;
    struct peer *client = ask_response(w, worker, p->what, "resp_up", p->rest, ALICE);
    struct parsed m = last_asked(w, &after);
    check_int(after, before + 1);
    check_str(m.start, p->target);
    check(m.whole);
    check_str(field_of(&m, "authorization"), "Bearer alice");
    struct peer *up = upstream_peer(w, "up", upstream_count(w, "up") - 1);
    answer_json(up, JSON_HEAD, "{\"from\":\"upstream\"}");
    check_str(last_message(client).body, "{\"from\":\"upstream\"}");
}

static void upstream_is_asked_where_the_copy_tells_less(void **state UNUSED) {
    static const struct passed_on object = {"GET", "", "GET /responses/resp_up HTTP/1.1"};
    static const struct passed_on stream = {"GET", "?stream=true", "GET /responses/resp_up?stream=true HTTP/1.1"};
    for (unsigned worker = 0; worker < 2; worker++) {
        for (unsigned stored = 0; stored < 2; stored++) {
            struct world w;
            struct db db;
            db_make(&db);
            world_open_with_workers(&w, stored ? db_yaml(&db, BY_UPSTREAM) : BY_UPSTREAM, 2);
            create(&w, 0, ALICE RESUME, BACKGROUND);
            answer_json(upstream_peer(&w, "up", 0), JSON_HEAD, OBJECT("resp_up", "queued"));
            if (stored) {
                advance(&w, KEEP_MS + 1000); // from the store, then
            }
            check_passed_on(&w, worker, &object); // it is not queued any more
            check_passed_on(&w, worker, &stream);
            world_close(&w);
            db_remove(&db);
        }
        struct world w;
        world_open_with_workers(&w, BY_UPSTREAM, 2);
        begin_stream(&w, ALICE RESUME, STREAMED, 0);
        close_peer(upstream_peer(&w, "up", 0)); // which goes on with it
        check_passed_on(&w, worker, &object);
        check_passed_on(&w, worker, &stream);
        world_close(&w);
    }
}

static void upstream_cancels_and_deletes_what_is_its_own(void **state UNUSED) {
    static const struct passed_on cancel = {"POST", "/cancel", "POST /responses/resp_up/cancel HTTP/1.1"};
    static const struct passed_on delete = {"DELETE", "", "DELETE /responses/resp_up HTTP/1.1"};
    static const struct passed_on object = {"GET", "", "GET /responses/resp_up HTTP/1.1"};
    for (unsigned worker = 0; worker < 2; worker++) {
        for (unsigned stored = 0; stored < 2; stored++) {
            struct world w;
            struct db db;
            db_make(&db);
            world_open_with_workers(&w, stored ? db_yaml(&db, BY_UPSTREAM) : BY_UPSTREAM, 2);
            create(&w, 0, ALICE RESUME, "{\"model\":\"m\"}");
            answer_json(upstream_peer(&w, "up", 0), JSON_HEAD, OBJECT("resp_up", "completed"));
            if (stored) {
                advance(&w, KEEP_MS + 1000);
            }
            check_passed_on(&w, worker, &cancel);
            check_passed_on(&w, worker, &delete);
            check_passed_on(&w, worker, &object); // there is no copy of it any more
            world_close(&w);
            check(!stored || db_number(&db, "SELECT count(*) FROM tape") == 0);
            db_remove(&db);
        }
    }
}

static void unknown_responses_are_the_upstreams(void **state UNUSED) {
    static const char *const names[] = {"resp_67ccd3a9", "resp_aaaaaaaaaaaaaaaaaaaaaaaaaa",
                                        "resp_01HZXJ5M8N7Q2R4T6V8W0Y1Z2A"};
    static const char *const more[][2] = {{"GET", ""},    {"GET", "?include=x"},           {"POST", "/cancel"},
                                          {"DELETE", ""}, {"GET", "/input_items?limit=2"}, {"PATCH", ""}};
    for (unsigned stored = 0; stored < 2; stored++) {
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            for (size_t j = 0; j < ARRAY_LEN(more); j++) {
                struct world w;
                struct db db;
                char start[200];
                db_make(&db);
                world_open_with_workers(&w, stored ? db_yaml(&db, BY_THAW) : BY_THAW, 2);
                struct peer *client = ask_response(&w, 1, more[j][0], names[i], more[j][1], "");
                snprintf(start, sizeof start, "%s /responses/%s%s HTTP/1.1", more[j][0], names[i], more[j][1]);
                struct peer *up = upstream_peer(&w, "up", 0);
                check_str(message_at(up, 0).start, start);
                answer_json(up, "HTTP/1.1 404 No\r\n", "{\"error\":\"upstream\"}");
                check_status(client, 404, "{\"error\":\"upstream\"}");
                check_only(&w, OUTCOME_COMPLETE, 1);
                world_close(&w);
                db_remove(&db);
            }
        }
    }
}

static void unknown_responses_take_their_bodies_along(void **state UNUSED) {
    struct world w;
    world_open(&w, BY_THAW);
    struct peer *client = client_open(&w);
    client_ask(client, "POST /v1/responses/resp_x/cancel", "", "{\"a\":1}");
    struct parsed m = message_at(upstream_peer(&w, "up", 0), 0);
    check_str(m.body, "{\"a\":1}");
    check(m.whole);
    world_close(&w);
}

// Below a path of ours nothing goes on that would not elsewhere.
static void paths_below_responses_are_plain(void **state UNUSED) {
    static const char *const paths[] = {"/v1/responses/../files", "/v1/responses/%2e%2e/files", "/v1/responses/a%2fb",
                                        "/v1/responses//cancel", "/v1/responses/a;b"};
    static const char *const methods[] = {"GET", "POST", "DELETE", "PUT"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        for (size_t j = 0; j < ARRAY_LEN(methods); j++) {
            struct world w;
            char what[100];
            world_open(&w, BY_THAW);
            struct peer *client = client_open(&w);
            snprintf(what, sizeof what, "%s %s", methods[j], paths[i]);
            client_ask(client, what, "", NULL);
            check_int(message_at(client, 0).status, 404);
            check_int(upstream_count(&w, "up"), 0);
            world_close(&w);
        }
    }
}

// An answer that thaw cannot read is passed on as it is.
static void compressed_answer_stays_what_it_is(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct name name;
        world_open_with_workers(&w, BY_UPSTREAM, 2);
        struct peer *client = create(&w, 0, RESUME "Accept-Encoding: gzip\r\n", "{\"model\":\"m\"}");
        answer(upstream_peer(&w, "up", 0), JSON_HEAD "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b!");
        struct id tape = tape_of(client);
        snprintf(name.text, sizeof name.text, "resp_%s", tape.text);
        struct parsed m = last_message(retrieve(&w, worker, &name));
        check_str(m.body, "\x1f\x8b!");
        check_str(field_of(&m, "content-encoding"), "gzip");
        world_close(&w);
    }
}

// ---- after a restart

static void background_response_is_read_after_a_restart(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        for (unsigned done = 0; done < 2; done++) {
            struct world w;
            struct db db;
            db_make(&db);
            world_open_with_workers(&w, db_yaml(&db, BY_THAW), 2);
            struct name name = check_queued(create(&w, 0, ALICE, BACKGROUND));
            if (done) {
                answer_json(upstream_peer(&w, "up", 0), JSON_HEAD, OBJECT("resp_up", "completed"));
            }
            world_close(&w);
            world_open_with_workers(&w, db_yaml(&db, BY_THAW), 2);
            struct peer *client = ask_response(&w, worker, "GET", name.text, "", ALICE);
            check_status(client, 200, name.text);
            check_has(client, done ? "\"status\":\"completed\",\"n\":1.0" : "\"status\":\"failed\"");
            check_int(upstream_count(&w, "up"), 0);
            client = ask_response(&w, worker, "POST", name.text, "/cancel", ALICE);
            check_has(client, done ? "\"status\":\"completed\"" : "\"status\":\"failed\"");
            check_status(ask_response(&w, worker, "DELETE", name.text, "", ALICE), 200, "\"deleted\":true");
            ask_response(&w, worker, "GET", name.text, "", ALICE);
            check_int(upstream_count(&w, "up"), 1); // by now nobody's here: perhaps the upstream's
            world_close(&w);
            check_int(db_number(&db, "SELECT count(*) FROM tape"), 0);
            db_remove(&db);
        }
    }
}

static void background_response_that_is_run_again_is_in_progress(void **state UNUSED) {
    static const char yaml[] = BY_THAW "routes: {/v1/responses: {rerun: true}}\n";
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        struct db db;
        db_make(&db);
        world_open_with_workers(&w, db_yaml(&db, yaml), 2);
        struct name name = check_queued(create(&w, 0, "", BACKGROUND));
        world_close(&w);
        disk.held = true;
        world_open_with_workers(&w, db_yaml(&db, yaml), 2);
        struct peer *client = retrieve(&w, worker, &name);
        check_int(client->got_len, 0);
        disk.held = false;
        settle(&w);
        check_object(client, &name, "queued");
        struct peer *up = upstream_peer(&w, "up", 0);
        check_str(message_at(up, 0).body, "{\"model\":\"m\",\"background\":false,\"input\":\"hi\"}");
        answer_json(up, JSON_HEAD, OBJECT("resp_up", "completed"));
        check_status(retrieve(&w, worker, &name), 200, "\"status\":\"completed\",\"n\":1.0");
        world_close(&w);
        db_remove(&db);
    }
}

// ---- no memory

static void responses_without_memory_are_told(void **state UNUSED) {
    for (int forever = 0; forever <= 1; forever++) {
        struct world w;
        bool fired = true;
        unsigned harmed = 0;
        world_open_with_workers(&w, BY_THAW, 2);
        struct name name = check_queued(create(&w, 0, "", BACKGROUND));
        answer_json(upstream_peer(&w, "up", 0), JSON_HEAD, OBJECT("resp_up", "completed"));
        for (unsigned n = 1; fired && n < 100000; n += small_window() ? 1 + n / 8 : 1) {
            mem_fail_after(n, forever);
            struct peer *clients[] = {retrieve(&w, 0, &name), retrieve(&w, 1, &name),
                                      ask_response(&w, 0, "POST", name.text, "/cancel", ""),
                                      ask_response(&w, 0, "GET", "resp_up", "", "")};
            fired = mem_fail_fired();
            mem_fail_after(0, 0);
            for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
                struct parsed m = last_message(clients[i]);
                harmed += m.none || m.status != 200;
                close_peer(clients[i]);
            }
        }
        check(!fired && harmed > 0);
        check_status(retrieve(&w, 1, &name), 200, "\"status\":\"completed\",\"n\":1.0");
        world_close(&w);
    }
}

FLOWS(TEST(background_response_is_done_by_thaw), TEST(both_the_model_and_background_are_changed_in_either_order),
      TEST(upstream_that_can_does_it_itself), TEST(background_response_that_fails_says_why),
      TEST(background_response_is_cancelled), TEST(cancelling_comes_too_late_for_one_that_is_done),
      TEST(background_response_is_deleted), TEST(background_stream_goes_on_and_is_read_on),
      TEST(background_stream_is_cancelled_and_deleted_by_the_upstreams_name),
      TEST(stream_that_ends_without_its_object_failed), TEST(what_is_no_stream_is_not_read_as_one),
      TEST(copy_of_an_upstreams_response_is_read), TEST(copy_of_a_stream_is_read),
      TEST(upstream_is_asked_where_the_copy_tells_less), TEST(upstream_cancels_and_deletes_what_is_its_own),
      TEST(unknown_responses_are_the_upstreams), TEST(unknown_responses_take_their_bodies_along),
      TEST(paths_below_responses_are_plain), TEST(compressed_answer_stays_what_it_is),
      TEST(background_response_is_read_after_a_restart), TEST(background_response_that_is_run_again_is_in_progress),
      TEST(responses_without_memory_are_told))
