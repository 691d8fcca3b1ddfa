// SPDX-License-Identifier: MIT
// Reading answers again: from any point, on any worker, while they come and afterwards; who may, for how long, and what
// becomes of a call that nobody reads.
#include "tapes.h"

// ---- ids

static void every_answer_of_a_call_names_its_tape(void **state UNUSED) {
    static const char *const answers[] = {
        OK_ANSWER, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nX-Thaw-Tape: not-ours\r\n\r\n",
        STREAM_HEAD "b\r\ndata: one\n\n\r\n0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"};
    struct world w;
    struct id last = {{0}};
    world_open(&w, ONE_UPSTREAM);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct peer *client = client_open(&w);
        client_post(client, i == 3 ? "/v1/files" : CHAT_PATH, CHAT);
        answer(upstream_peer(&w, "up", upstream_count(&w, "up") - 1), answers[i]);
        struct id id = tape_of(client);
        check(strcmp(id.text, last.text) != 0);
        last = id;
    }
    struct peer *failed = client_open(&w);
    client_post(failed, CHAT_PATH, CHAT);
    close_peer(upstream_peer(&w, "up", upstream_count(&w, "up") - 1));
    check_int(message_at(failed, 0).status, 502);
    check_int(strlen(tape_of(failed).text), ID_LEN);
    world_close(&w);
}

static void plain_relay_is_not_changed_and_not_kept(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM, "");
    check_str(message_at(s.client, 0).body, "data: e0\n\ndata: e1\n\n");
    check_status(read_tape(&s.w, 0, &s.id, ""), 410, "never was kept");
    check_status(read_tape(&s.w, 1, &s.id, ""), 410, "tape_gone");
    stream_end(&s);
    check(message_at(s.client, 0).whole);
    check_status(read_tape(&s.w, 0, &s.id, ""), 410, "10m");
    check_status(read_tape(&s.w, 1, &s.id, ""), 410, "tape_gone");
    check_int(outcomes_of(&s.w, OUTCOME_COMPLETE), 1);
    check_int(outcomes_of(&s.w, OUTCOME_REFUSED), 4);
    world_close(&s.w);
}

// Every way of writing an event down, each with one id line that does not change what it says.
static void every_event_gets_one_id_line(void **state UNUSED) {
    static const struct {
        const char *sent;
        const char *wanted[5]; // before, between and behind the numbers
    } cases[] = {
        {"data: a\n\ndata: b\n\n", {"data: a\nid: ", "\n\ndata: b\nid: ", "\n\n"}},
        {"data: a\r\n\r\ndata: b\r\n\r\n",
         {"data: a\r\nid: ",
          "\n\r\n"
          "data: b\r\nid: ",
          "\n\r\n"}},
        {"data: a\r\rdata: b\r\r", {"data: a\rid: ", "\n\rdata: b\rid: ", "\n\r"}},
        {": hello\n\ndata: a\n: x\n\n\n\ndata: b\n\n", {": hello\ndata: a\n: x\nid: ", "\n\ndata: b\nid: ", "\n\n"}},
        {": c\r\n\r\ndata: a\r\n\r\n: c\r\n\r\n\r\ndata: b\r\n\r\n",
         {": c\r\ndata: a\r\nid: ", "\n\r\n: c\r\ndata: b\r\nid: ", "\n\r\n"}},
        {"id: 7\nevent: e\ndata: a\n\nid\ndata: b\n\n",
         {"id: 7\nevent: e\ndata: a\nid: ", "\n\nid\ndata: b\nid: ", "\n\n"}},
        {"\xEF\xBB\xBF"
         "data\n\ndata:b\n\n",
         {"\xEF\xBB\xBF"
          "data\nid: ",
          "\n\ndata:b\nid: ", "\n\n"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t split = 0; split <= strlen(cases[i].sent); split++) {
            struct world w;
            char wanted[512] = "";
            char first[256];
            world_open(&w, ONE_UPSTREAM);
            struct peer *client = client_open(&w);
            client_ask(client, POST_CHAT, RESUME, CHAT);
            struct peer *up = upstream_peer(&w, "up", 0);
            answer(up, STREAM_HEAD);
            snprintf(first, sizeof first, "%.*s", (int)split, cases[i].sent);
            if (split) {
                chunk(up, first);
            }
            if (cases[i].sent[split]) {
                chunk(up, cases[i].sent + split);
            }
            last_chunk(up);
            struct id id = tape_of(client);
            size_t at = 0;
            for (unsigned n = 0; cases[i].wanted[n]; n++) {
                at += (size_t)snprintf(wanted + at, sizeof wanted - at, "%s", cases[i].wanted[n]);
                if (cases[i].wanted[n + 1]) {
                    at += (size_t)snprintf(wanted + at, sizeof wanted - at, "%s:%u", id.text, n);
                }
            }
            check_str(message_at(client, 0).body, wanted);
            check(message_at(client, 0).whole);
            check_only(&w, OUTCOME_COMPLETE, 1);
            world_close(&w);
        }
    }
}

static void event_that_says_the_stream_was_cut_has_an_id(void **state UNUSED) {
    static const char *const halves[] = {"", "data: ha", "data: half\n"};
    for (size_t i = 0; i < ARRAY_LEN(halves); i++) {
        struct stream s;
        char id_line[64];
        stream_begin(&s, ONE_UPSTREAM, RESUME);
        if (*halves[i]) {
            chunk(s.up, halves[i]);
        }
        close_peer(s.up);
        check(broken_off(s.client));
        snprintf(id_line, sizeof id_line, "\"code\":\"stream_cut\"}}\nid: %s:%u\n\n", s.id.text, *halves[i] ? 3u : 2u);
        check(str_ends(message_at(s.client, 0).body, str_c(id_line)));
        // Who comes back gets it, too, and then knows that this was all.
        struct peer *again = read_tape(&s.w, 1, &s.id, "?starting_after=1");
        check(str_ends(message_at(again, 0).body, str_c(id_line)));
        check(message_at(again, 0).whole);
        check_status(read_tape(&s.w, 1, &s.id, *halves[i] ? "?starting_after=3" : "?starting_after=2"), 204, "");
        check_int(outcomes_of(&s.w, OUTCOME_UPSTREAM_CUT), 2);
        world_close(&s.w);
    }
}

// ---- from where

static void tape_is_read_from_its_start_and_followed(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM, RESUME);
        struct peer *again = read_tape(&s.w, worker, &s.id, "");
        check_read(again, s.id, 0, 2);
        event(s.up, 2);
        check_read(again, s.id, 0, 3);
        check_events(s.client, s.id, 0, 3);
        check(strcmp(tape_of(again).text, s.id.text) == 0);
        event(s.up, 3);
        last_chunk(s.up);
        check_read(again, s.id, 0, 4);
        check(message_at(again, 0).whole && message_at(s.client, 0).whole);
        struct peer *later = read_tape(&s.w, worker, &s.id, "");
        check_read(later, s.id, 0, 4);
        check(message_at(later, 0).whole);
        check_only(&s.w, OUTCOME_COMPLETE, 3);
        world_close(&s.w);
    }
}

static void reading_goes_on_behind_an_event(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        char field[100];
        stream_begin(&s, ONE_UPSTREAM, RESUME);
        struct peer *one = read_tape(&s.w, worker, &s.id, "?starting_after=0");
        struct peer *none = read_tape(&s.w, worker, &s.id, "?starting_after=1");
        snprintf(field, sizeof field, "Last-Event-ID: %s:0\r\n", s.id.text);
        struct peer *last = ask_tape(&s.w, worker, "GET", &s.id, "?starting_after=1", field); // what came is newer
        struct peer *number = ask_tape(&s.w, worker, "GET", &s.id, "", "Last-Event-ID: 0\r\n");
        stream_end(&s);
        check_read(one, s.id, 1, 4);
        check_read(none, s.id, 2, 4);
        check_read(last, s.id, 1, 4);
        check_read(number, s.id, 1, 4);
        check_read(read_tape(&s.w, worker, &s.id, "?starting_after=2"), s.id, 3, 4);
        check_only(&s.w, OUTCOME_COMPLETE, 6);
        world_close(&s.w);
    }
}

// An EventSource that was pointed elsewhere still sends the id it saw last.
static void last_event_of_another_tape_is_not_about_this_one(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM, RESUME);
    stream_end(&s);
    struct peer *other = ask_tape(&s.w, 0, "GET", &s.id, "", "Last-Event-ID: abcdefghijklmnopqrstuvwxyz:1\r\n");
    check_read(other, s.id, 0, 4);
    static const char *const others[] = {"evt:1", "soon", "99999999999999999999", ""};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        char field[64];
        snprintf(field, sizeof field, "Last-Event-ID: %s\r\n", others[i]);
        check_read(ask_tape(&s.w, 1, "GET", &s.id, "?starting_after=2", field), s.id, 3, 4);
    }
    check_only(&s.w, OUTCOME_COMPLETE, 2 + ARRAY_LEN(others));
    world_close(&s.w);
}

// Bytes are counted in the answer itself: nothing is put before them.
static void reading_goes_on_behind_a_byte(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        char room[EVENTS_ROOM];
        char query[32];
        stream_begin(&s, ONE_UPSTREAM, RESUME);
        size_t have = message_at(s.client, 0).body.len;
        for (size_t at = 0; at <= have; at += 9) {
            snprintf(query, sizeof query, "?offset=%zu", at);
            struct peer *again = read_tape(&s.w, worker, &s.id, query);
            check_str(message_at(again, 0).body, format_events(room, &s.id, 0, 2) + at);
            close_peer(again);
        }
        snprintf(query, sizeof query, "?offset=%zu", have);
        struct peer *next = read_tape(&s.w, worker, &s.id, query);
        stream_end(&s);
        check_events(next, s.id, 2, 4);
        world_close(&s.w);
    }
}

static void answer_of_known_length_is_read_in_parts(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, ONE_UPSTREAM, 2);
        struct peer *client = client_open(&w);
        client_ask(client, POST_CHAT, KEY, CHAT);
        struct peer *up = upstream_peer(&w, "up", 0);
        answer(up, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=60\r\n"
                   "Content-Length: 10\r\n\r\n0123");
        struct id id = tape_of(client);
        struct peer *live = read_tape(&w, worker, &id, "?offset=2");
        send_text(up, "456789");
        struct peer *rest = read_tape(&w, worker, &id, "?offset=7");
        struct peer *whole = read_tape(&w, worker, &id, "");
        struct peer *nothing = read_tape(&w, worker, &id, "?offset=10");
        struct parsed m = message_at(rest, 0);
        check_str(m.body, "789");
        check(m.whole);
        check_str(field_of(&m, "content-length"), "3");
        check_str(field_of(&m, "content-type"), "application/json");
        check_str(field_of(&m, "cache-control"), "no-store");
        check_int(fields_of(&m, "cache-control"), 1);
        check_str(message_at(live, 0).body, "23456789");
        check_str(message_at(whole, 0).body, "0123456789");
        check_str(message_at(nothing, 0).body, "");
        check(message_at(live, 0).whole && message_at(whole, 0).whole && message_at(nothing, 0).whole);
        check_status(read_tape(&w, worker, &id, "?starting_after=0"), 400, "10 bytes and 0 events");
        m = message_at(client, 0);
        check_str(field_of(&m, "cache-control"), "max-age=60");
        world_close(&w);
    }
}

// Of a coded stream no event is seen, and nothing can be put before it.
static void coded_stream_is_read_again_as_it_is(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, ONE_UPSTREAM, 2);
    struct peer *client = client_open(&w);
    client_ask(client, POST_CHAT, RESUME, CHAT);
    answer(upstream_peer(&w, "up", 0), "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: br\r\n"
                                       "Content-Length: 10\r\n\r\n0123456789");
    struct id id = tape_of(client);
    check_str(message_at(client, 0).body, "0123456789");
    check_str(message_at(read_tape(&w, 1, &id, ""), 0).body, "0123456789");
    check_only(&w, OUTCOME_COMPLETE, 2);
    world_close(&w);
}

static void head_of_a_tape_is_told_at_once(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM, RESUME);
        struct peer *asks = ask_tape(&s.w, worker, "HEAD", &s.id, "", "");
        struct parsed m = answer_to_head(asks);
        check_int(m.status, 200);
        check_str(field_of(&m, "content-type"), "text/event-stream");
        check(strcmp(tape_of(asks).text, s.id.text) == 0);
        check_int(outcomes_of(&s.w, OUTCOME_COMPLETE), 1); // while the call runs
        stream_end(&s);
        client_ask(asks, "GET /healthz", "", NULL); // nothing is left over
        check_int(message_at(asks, m.used).status, 200);
        check_int(outcomes_of(&s.w, OUTCOME_COMPLETE), 2);
        world_close(&s.w);
    }
}

// Both wait for the first news of the tape; the first one is content with its head.
static void reader_behind_one_that_only_looks_gets_it_all(void **state UNUSED) {
    static const char *const methods[] = {"HEAD", "GET"};
    struct stream s;
    struct peer *clients[2];
    char request[200];
    stream_begin(&s, ONE_UPSTREAM, RESUME);
    for (unsigned i = 0; i < 2; i++) {
        clients[i] = client_open_at(&s.w, 1);
        snprintf(request, sizeof request, "%s /v1/tapes/%s HTTP/1.1\r\nHost: h\r\n\r\n", methods[i], s.id.text);
        peer_queue(clients[i], str_c(request));
    }
    stream_end(&s);
    check_int(answer_to_head(clients[0]).status, 200);
    check_read(clients[1], s.id, 0, 4);
    check(message_at(clients[1], 0).whole);
    check_only(&s.w, OUTCOME_COMPLETE, 3);
    world_close(&s.w);
}

static void stream_of_known_length_grows_by_its_ids(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, ONE_UPSTREAM, 2);
    struct peer *client = client_open(&w);
    client_ask(client, POST_CHAT, RESUME, CHAT);
    answer(upstream_peer(&w, "up", 0),
           "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 20\r\n\r\n"
           "data: e0\n\ndata: e1\n\n");
    struct id id = tape_of(client);
    check_events(client, id, 0, 2);
    check(message_at(client, 0).whole);
    check_read(read_tape(&w, 1, &id, ""), id, 0, 2);
    check_only(&w, OUTCOME_COMPLETE, 2);
    world_close(&w);
}

static void wrong_positions_are_refused(void **state UNUSED) {
    static const struct {
        const char *query, *fields, *says;
    } cases[] = {
        {"?starting_after=-1", "", "'starting_after' must be a number"},
        {"?starting_after=", "", "'starting_after' must be a number"},
        {"?offset=1x", "", "'offset' must be a number"},
        {"?starting_after=4", "", "4 events"},
        {"?starting_after=18446744073709551615", "", "4 events"},
        {"?offset=100000", "", "has not come so far"},
    };
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM, RESUME);
    check_status(read_tape(&s.w, 0, &s.id, "?starting_after=2"), 400, "2 events"); // nobody has seen it
    stream_end(&s);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (unsigned worker = 0; worker < 2; worker++) {
            check_status(ask_tape(&s.w, worker, "GET", &s.id, cases[i].query, cases[i].fields), 400, cases[i].says);
        }
    }
    check_int(outcomes_of(&s.w, OUTCOME_REFUSED), 2 * ARRAY_LEN(cases) + 1);
    world_close(&s.w);
}

// Another worker may have given it out before its news are here: it is waited for.
static void position_that_is_still_to_come_from_another_worker_is_waited_for(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM, RESUME);
    struct peer *early = read_tape(&s.w, 1, &s.id, "?starting_after=2");
    struct peer *leaves = read_tape(&s.w, 1, &s.id, "?starting_after=100");
    struct peer *never = read_tape(&s.w, 1, &s.id, "?offset=100000");
    check_int(early->got_len, 0);
    close_peer(leaves);
    stream_end(&s);
    check_read(early, s.id, 3, 4);
    check_status(never, 400, "4 events");
    check_int(outcomes_of(&s.w, OUTCOME_GONE_WAITING), 1);
    check_int(outcomes_of(&s.w, OUTCOME_COMPLETE), 2);
    world_close(&s.w);
}

// ---- EventSource

static void event_source_reconnects_until_nothing_is_left(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        char field[100];
        stream_begin(&s, ONE_UPSTREAM, RESUME);
        struct peer *source = ask_tape(&s.w, worker, "GET", &s.id, "", "Accept: text/event-stream\r\n");
        struct parsed m = message_at(source, 0);
        check_str(field_of(&m, "cache-control"), "no-cache");
        check_str(field_of(&m, "x-accel-buffering"), "no");
        check_read(source, s.id, 0, 2);
        reset(source);
        snprintf(field, sizeof field, "Last-Event-ID: %s:1\r\n", s.id.text);
        source = ask_tape(&s.w, worker, "GET", &s.id, "", field);
        stream_end(&s);
        check_read(source, s.id, 2, 4);
        check(message_at(source, 0).whole);
        snprintf(field, sizeof field, "Last-Event-ID: %s:3\r\n", s.id.text);
        source = ask_tape(&s.w, worker, "GET", &s.id, "", field);
        check_status(source, 204, "");
        check_int(message_at(source, 0).body.len, 0);
        world_close(&s.w);
    }
}

static void page_of_an_allowed_origin_may_read(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM "cors: ['https://app.test']\n", RESUME "Origin: https://app.test\r\n");
    stream_end(&s);
    struct parsed m = message_at(s.client, 0);
    check_str(field_of(&m, "access-control-allow-origin"), "https://app.test");
    check(str_search(field_of(&m, "access-control-expose-headers"), STR("X-Thaw-Tape")) <
          field_of(&m, "access-control-expose-headers").len);
    struct peer *page = ask_tape(&s.w, 1, "GET", &s.id, "", "Origin: https://app.test\r\n");
    m = message_at(page, 0);
    check_str(field_of(&m, "access-control-allow-origin"), "https://app.test");
    check_str(field_of(&m, "vary"), "Origin");
    m = message_at(ask_tape(&s.w, 1, "GET", &s.id, "", "Origin: https://evil.test\r\n"), 0);
    check(field_of(&m, "access-control-allow-origin").ptr == NULL);
    page = ask_tape(&s.w, 1, "OPTIONS", &s.id, "",
                    "Origin: https://app.test\r\nAccess-Control-Request-Method: DELETE\r\n"
                    "Access-Control-Request-Headers: last-event-id, x-mine\r\n");
    m = message_at(page, 0);
    check_int(m.status, 204);
    check(str_search(field_of(&m, "access-control-allow-methods"), STR("DELETE")) <
          field_of(&m, "access-control-allow-methods").len);
    check_str(field_of(&m, "access-control-allow-headers"), "last-event-id, x-mine"); // whatever it wants to send
    check(str_search(field_of(&m, "vary"), STR("Access-Control-Request-Headers")) < field_of(&m, "vary").len);
    page = ask_tape(&s.w, 1, "OPTIONS", &s.id, "",
                    "Origin: https://evil.test\r\nAccess-Control-Request-Method: DELETE\r\n");
    m = message_at(page, 0);
    check(field_of(&m, "access-control-allow-origin").ptr == NULL);
    check(field_of(&m, "access-control-allow-methods").ptr == NULL);
    page = client_open(&s.w); // errors of thaw's own, too: a page could not read them otherwise
    client_ask(page, "GET /v1/tapes/nothing", "Origin: https://app.test\r\n", NULL);
    m = message_at(page, 0);
    check_int(m.status, 404);
    check_str(field_of(&m, "access-control-allow-origin"), "https://app.test");
    world_close(&s.w);
}

// ---- how it ended

static void failed_answers_are_told_again(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, ONE_UPSTREAM, 2);
        struct peer *client = client_open(&w);
        client_ask(client, POST_CHAT, RESUME, CHAT);
        close_peer(upstream_peer(&w, "up", 0)); // before its head
        struct id id = tape_of(client);
        check_status(client, 502, "without an answer");
        check_status(read_tape(&w, worker, &id, ""), 502, "without an answer");
        client_ask(client, POST_CHAT, RESUME, CHAT);
        answer(upstream_peer(&w, "up", 1), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        id = tape_of(client);
        close_peer(upstream_peer(&w, "up", 1));
        check(broken_off(client));
        struct peer *again = read_tape(&w, worker, &id, "");
        check_str(message_at(again, 0).body, "half");
        check(broken_off(again));
        check_int(outcomes_of(&w, OUTCOME_UPSTREAM_LOST), 2);
        check_int(outcomes_of(&w, OUTCOME_UPSTREAM_CUT), 2);
        world_close(&w);
    }
}

// CANCELLED
static void deleting_a_running_answer_cancels_it(void **state UNUSED) {
    static const char *const kinds[] = {"", RESUME};
    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        for (unsigned worker = 0; worker < 2; worker++) {
            struct stream s;
            stream_begin(&s, ONE_UPSTREAM, kinds[kind]);
            struct peer *reader = kind ? read_tape(&s.w, 1, &s.id, "") : NULL;
            struct peer *stop = delete_tape(&s.w, worker, &s.id);
            check_status(stop, 200, "\"state\":\"cancelled\"");
            check_has(stop, "\"deleted\":false");
            check_dropped(s.up);
            check_has(s.client, "\"code\":\"cancelled\"");
            check(broken_off(s.client));
            check(!reader || message_at(reader, 0).whole);
            check_int(outcomes_of(&s.w, OUTCOME_CANCELLED), kind ? 2 : 1);
            if (!kind) { // there is nothing left of it
                check_status(delete_tape(&s.w, worker, &s.id), 410, "tape_gone");
                world_close(&s.w);
                continue;
            }
            struct peer *again = read_tape(&s.w, worker, &s.id, ""); // marked: what there was, and how it ended
            check_has(again, "data: e1");
            check_has(again, "\"code\":\"cancelled\"");
            check(message_at(again, 0).whole);
            check_status(delete_tape(&s.w, worker, &s.id), 200, "\"deleted\":true");
            check_status(delete_tape(&s.w, worker, &s.id), 410, "tape_gone");
            check_status(read_tape(&s.w, worker, &s.id, ""), 410, "tape_gone");
            world_close(&s.w);
        }
    }
}

static void answer_that_was_cancelled_before_it_began_is_gone(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct world w;
        world_open_with_workers(&w, ONE_UPSTREAM, 2);
        struct peer *client = client_open(&w);
        client_ask(client, POST_CHAT, "Prefer: respond-async\r\n", CHAT);
        struct id id = tape_of(client);
        struct peer *reader = read_tape(&w, worker, &id, "");
        check_int(reader->got_len, 0);
        check_status(delete_tape(&w, 1 - worker, &id), 200, "\"status\":0");
        check_status(reader, 410, "its client cancelled it");
        check_status(read_tape(&w, worker, &id, ""), 410, "\"code\":\"cancelled\"");
        check_dropped(upstream_peer(&w, "up", 0));
        check_int(outcomes_of(&w, OUTCOME_CANCELLED), 2);
        world_close(&w);
    }
}

static void deleting_an_answer_that_has_ended_forgets_it(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM, KEY);
        stream_end(&s);
        struct peer *slow = client_open_at(&s.w, worker);
        peer_read(slow, 0);
        char what[100];
        snprintf(what, sizeof what, "GET /v1/tapes/%s", s.id.text);
        client_ask(slow, what, "", NULL);
        struct peer *stop = delete_tape(&s.w, worker, &s.id);
        check_status(stop, 200, "\"state\":\"complete\"");
        check_has(stop, "\"deleted\":true");
        check_status(read_tape(&s.w, worker, &s.id, ""), 410, "tape_gone");
        client_ask(stop, POST_CHAT, KEY, CHAT); // its key is free
        check_int(upstream_count(&s.w, "up"), worker ? 2 : 1);
        answer(upstream_peer(&s.w, "up", worker), OK_ANSWER); // on the connection that is there, or on a new one
        check_str(last_message(stop).body, "{}");
        peer_read(slow, SIZE_MAX); // who was reading reads on
        settle(&s.w);
        check_read(slow, s.id, 0, 4);
        world_close(&s.w);
    }
}

static void only_a_tape_itself_is_deleted(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM, RESUME);
    check_status(ask_tape(&s.w, 0, "DELETE", &s.id, "/status", ""), 404, "nothing to delete");
    check_status(ask_tape(&s.w, 0, "GET", &s.id, "/nothing", ""), 404, "only /status");
    struct peer *puts = ask_tape(&s.w, 0, "PUT", &s.id, "", "");
    check_status(puts, 405, "PUT");
    struct parsed m = last_message(puts);
    check_str(field_of(&m, "allow"), "GET, HEAD, DELETE");
    check_open(s.up);
    world_close(&s.w);
}

static void status_tells_how_far_it_is(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        char bytes[32];
        stream_begin(&s, ONE_UPSTREAM, RESUME);
        struct peer *asks = ask_tape(&s.w, worker, "GET", &s.id, "/status", "");
        check_status(asks, 200, "\"state\":\"running\",\"status\":200");
        snprintf(bytes, sizeof bytes, "\"bytes\":%zu,\"events\":2,", message_at(s.client, 0).body.len);
        check_has(asks, bytes);
        check_has(asks, "\"kept\":true");
        stream_end(&s);
        check_status(ask_tape(&s.w, worker, "GET", &s.id, "/status", ""), 200, "\"state\":\"complete\"");
        check_int(outcomes_of(&s.w, OUTCOME_LOCAL), 2);
        world_close(&s.w);
    }
}

// ---- who may

#define TWO_KEYS ONE_UPSTREAM "keys: [alice, bob]\n"
#define ALICE "Authorization: Bearer alice\r\n"
#define BOB "Authorization: Bearer bob\r\n"

static void only_who_made_it_may_read_it(void **state UNUSED) {
    static const char *const kinds[] = {ALICE, ALICE RESUME};
    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        for (unsigned worker = 0; worker < 2; worker++) {
            struct stream s;
            stream_begin(&s, TWO_KEYS, kinds[kind]);
            check_status(ask_tape(&s.w, worker, "GET", &s.id, "", ""), 401, "");
            check_status(ask_tape(&s.w, worker, "GET", &s.id, "/status", BOB), 404, "No answer of yours");
            check_status(ask_tape(&s.w, worker, "DELETE", &s.id, "", BOB), 404, "tape_not_found");
            check_open(s.up);
            if (kind) {
                check_status(ask_tape(&s.w, worker, "GET", &s.id, "", BOB), 404, "tape_not_found");
                check_read(ask_tape(&s.w, worker, "GET", &s.id, "", ALICE), s.id, 0, 2);
                check_read(ask_tape(&s.w, worker, "GET", &s.id, "", "X-Api-Key: alice\r\n"), s.id, 0, 2);
                check_status(ask_tape(&s.w, worker, "GET", &s.id, "", BOB), 404, "tape_not_found"); // of a mirror
            }
            check_status(ask_tape(&s.w, worker, "DELETE", &s.id, "", ALICE), 200, "cancelled");
            check_dropped(s.up);
            world_close(&s.w);
        }
    }
}

// Without keys of thaw's own the upstream's tell its clients apart.
static void clients_are_told_apart_by_what_they_present(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM, ALICE RESUME);
    for (unsigned worker = 0; worker < 2; worker++) {
        check_status(ask_tape(&s.w, worker, "GET", &s.id, "", BOB), 404, "");
        check_status(ask_tape(&s.w, worker, "GET", &s.id, "", ""), 404, "");
        check_read(ask_tape(&s.w, worker, "GET", &s.id, "", ALICE), s.id, 0, 2);
    }
    world_close(&s.w);
}

// Credentials of an upstream are none of ours, and yet tell whose call it is.
static void clients_are_told_apart_by_any_scheme(void **state UNUSED) {
    static const char *const fields[][2] = {
        {"Authorization: Basic YTph\r\n" KEY, "Authorization: Basic Yjpi\r\n" KEY},
        {"x-goog-api-key: a\r\n" KEY, "x-goog-api-key: b\r\n" KEY},
        {"Authorization: k\r\n" KEY, "Authorization: Bearer k2\r\n" KEY},
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM, fields[i][0]);
        check_status(ask_tape(&s.w, 0, "GET", &s.id, "", fields[i][1]), 404, "");
        client_ask(client_open(&s.w), POST_CHAT, fields[i][1], CHAT);
        check_int(upstream_count(&s.w, "up"), 2);
        client_ask(client_open(&s.w), POST_CHAT, fields[i][0], CHAT);
        check_int(upstream_count(&s.w, "up"), 2);
        world_close(&s.w);
    }
}

// A length may be that of what would have come.
static void answer_without_its_body_can_be_read_again(void **state UNUSED) {
    static const struct {
        const char *asked, *answer;
        int status; // when it is read again
    } cases[] = {
        {"HEAD /v1/x", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 410},
        {"GET /v1/x", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304},
        {"GET /v1/x", "HTTP/1.1 204 No Content\r\n\r\n", 204},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (unsigned worker = 0; worker < 2; worker++) {
            struct world w;
            world_open_with_workers(&w, ONE_UPSTREAM, 2);
            struct peer *client = client_open(&w);
            client_ask(client, cases[i].asked, RESUME, NULL);
            answer(upstream_peer(&w, "up", 0), cases[i].answer);
            struct str text = got(client);
            struct id id = {{0}};
            memcpy(id.text, str_skip(text, str_search(text, STR("X-Thaw-Tape: ")) + 13).ptr, ID_LEN);
            struct peer *reader = read_tape(&w, worker, &id, "");
            struct parsed m = last_message(reader);
            check(m.whole);
            check_int(m.status, cases[i].status);
            check_int(m.used, reader->got_len);
            world_close(&w);
        }
    }
}

static void id_alone_opens_the_tape_where_that_is_wanted(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, TWO_KEYS "tape: {read: id}\n", ALICE RESUME);
        check_read(ask_tape(&s.w, worker, "GET", &s.id, "", ""), s.id, 0, 2);
        check_read(ask_tape(&s.w, worker, "GET", &s.id, "", BOB), s.id, 0, 2);
        check_status(ask_tape(&s.w, worker, "GET", &s.id, "/status", ""), 200, "running");
        struct peer *client = client_open(&s.w); // everything else stays shut
        client_ask(client, POST_CHAT, "", CHAT);
        check_status(client, 401, "");
        world_close(&s.w);
    }
}

static void unknown_ids_are_not_found(void **state UNUSED) {
    static const char *const ids[] = {"x", "abcdefghijklmnopqrstuvwxya", "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    struct world w;
    world_open_with_workers(&w, ONE_UPSTREAM, 2);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        char what[100];
        static const char *const methods[] = {"GET", "DELETE", "GET"};
        for (unsigned m = 0; m < ARRAY_LEN(methods); m++) {
            struct peer *client = client_open(&w);
            snprintf(what, sizeof what, "%s /v1/tapes/%s%s", methods[m], ids[i], m == 2 ? "/status" : "");
            client_ask(client, what, "", NULL);
            check_status(client, 404, "\"code\":\"tape_not_found\"");
        }
    }
    check_only(&w, OUTCOME_REFUSED, 3 * ARRAY_LEN(ids));
    world_close(&w);
}

// ---- for how long

static void answer_is_kept_for_a_while(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM, RESUME);
        advance(&s.w, KEEP_MS / 10); // it counts from the end
        stream_end(&s);
        advance(&s.w, KEEP_MS - 1);
        struct peer *in_time = read_tape(&s.w, worker, &s.id, "");
        check_read(in_time, s.id, 0, 4);
        advance(&s.w, 1);
        check_status(read_tape(&s.w, worker, &s.id, ""), 410, "tape_gone");
        check_int(s.w.worker.shelf.slots[0].tape == NULL, 1);
        world_close(&s.w);
    }
}

static void oldest_answers_go_when_all_are_too_many(void **state UNUSED) {
    struct world w;
    struct id ids[4];
    char *much = xmalloc(25 * 1000 + 1);
    memset(much, 'x', 25 * 1000);
    much[25 * 1000] = '\0';
    world_open_with_workers(&w, ONE_UPSTREAM "tape: {total: 64k}\n", 2);
    for (unsigned i = 0; i < ARRAY_LEN(ids); i++) {
        struct peer *client = client_open(&w);
        client_ask(client, POST_CHAT, RESUME, CHAT);
        struct peer *up = upstream_peer(&w, "up", 0);
        answer(up, "HTTP/1.1 200 OK\r\nContent-Length: 25000\r\n\r\n");
        send_text(up, much);
        check(message_at(client, 0).whole);
        ids[i] = tape_of(client);
    }
    for (unsigned worker = 0; worker < 2; worker++) {
        check_status(read_tape(&w, worker, &ids[0], ""), 410, "tape.total");
        check_status(read_tape(&w, worker, &ids[1], ""), 410, "tape.total");
        check_int(message_at(read_tape(&w, worker, &ids[2], ""), 0).body.len, 25000);
        check_int(message_at(read_tape(&w, worker, &ids[3], ""), 0).body.len, 25000);
    }
    free(much);
    world_close(&w);
}

// Of an answer larger than tape.max the beginning is dropped.
static void part_that_was_dropped_is_told(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        char text[1100];
        stream_begin(&s, ONE_UPSTREAM "tape: {max: 64k}\n", RESUME);
        memset(text, 'x', sizeof text);
        memcpy(text, "data: ", 6);
        memcpy(text + 1000, "\n\n", 3);
        for (unsigned i = 0; i < 100; i++) {
            chunk(s.up, text);
        }
        check_status(read_tape(&s.w, worker, &s.id, ""), 410, "grown over tape.max");
        check_status(read_tape(&s.w, worker, &s.id, "?starting_after=1"), 410, "tape_dropped");
        check_status(read_tape(&s.w, worker, &s.id, "?offset=1"), 410, "What is left begins at ?offset=");
        struct peer *near = read_tape(&s.w, worker, &s.id, "?starting_after=100");
        check_int(message_at(near, 0).status, 200);
        check(str_starts(message_at(near, 0).body, STR(PRELUDE "data: xxx")));
        world_close(&s.w);
    }
}

// OUTRUN
static void slow_reader_among_others_is_left_behind(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        char text[1100];
        stream_begin(&s, ONE_UPSTREAM "tape: {max: 64k}\n", RESUME);
        struct peer *slow = client_open_at(&s.w, worker);
        char what[100];
        snprintf(what, sizeof what, "GET /v1/tapes/%s", s.id.text);
        client_ask(slow, what, "", NULL);
        peer_read(slow, 0);
        memset(text, 'x', sizeof text);
        memcpy(text, "data: ", 6);
        memcpy(text + 1000, "\n\n", 3);
        for (unsigned i = 0; i < 200; i++) {
            chunk(s.up, text);
        }
        check_int(s.up->out_at, s.up->out_len); // nobody waits for it
        check_int(outcomes_of(&s.w, OUTCOME_OUTRUN), 1);
        peer_read(slow, SIZE_MAX);
        settle(&s.w);
        check(broken_off(slow));
        last_chunk(s.up);
        check(message_at(s.client, 0).whole);
        check_int(outcomes_of(&s.w, OUTCOME_COMPLETE), 1);
        world_close(&s.w);
    }
}

// ---- what becomes of a call whose client left

static void resumable_call_waits_for_its_client(void **state UNUSED) {
    for (unsigned worker = 0; worker < 2; worker++) {
        struct stream s;
        stream_begin(&s, ONE_UPSTREAM, RESUME);
        reset(s.client);
        advance(&s.w, GRACE_MS - 1);
        check_open(s.up);
        struct peer *back = read_tape(&s.w, worker, &s.id, "?starting_after=1");
        advance(&s.w, GRACE_MS);
        event(s.up, 2);
        check_open(s.up);
        reset(back);
        advance(&s.w, GRACE_MS - 1);
        check_open(s.up);
        advance(&s.w, 1);
        check_dropped(s.up);
        struct peer *late = read_tape(&s.w, worker, &s.id, "");
        check_has(late, "nobody read the answer any more");
        check(message_at(late, 0).whole);
        check_int(outcomes_of(&s.w, OUTCOME_GONE_READING), 2);
        check_int(outcomes_of(&s.w, OUTCOME_CANCELLED), 1);
        world_close(&s.w);
    }
}

// What is configured, what is asked for, and whether the upstream is held on to: not at all, for so long, to its end.
static void configuration_says_what_becomes_of_a_call_without_its_client(void **state UNUSED) {
    enum { NOT, FINISHES = -1 };
    static const struct {
        const char *yaml;
        const char *fields;
        int ms;
    } cases[] = {
        {"", "", NOT},
        {"on_disconnect: finish\n", "", FINISHES},
        {"on_disconnect: keep 5s\n", "", 5000},
        {"on_disconnect: keep 5s\n", RESUME, GRACE_MS},
        {"on_disconnect: finish\n", RESUME, GRACE_MS},
        {"on_disconnect: finish\ntape: {on_disconnect: cancel}\n", RESUME, NOT},
        {"tape: {on_disconnect: cancel}\n", RESUME, NOT},
        {"tape: {on_disconnect: finish}\n", RESUME, FINISHES},
        {"tape: {on_disconnect: finish}\n", "", NOT},
        {"routes: {/v1/chat/completions: {on_disconnect: finish}}\n", "", FINISHES},
        {"routes: {/v1/chat/completions: {on_disconnect: keep 7s}}\n", "", 7000},
        {"routes: {/v1/chat/completions: {on_disconnect: keep 7s}}\n", RESUME, 7000},
        {"routes: {/v1/chat/completions: {resume: true}}\n", "", GRACE_MS},
        {"routes: {/v1/chat/completions: {on_disconnect: cancel}}\non_disconnect: keep 5s\n", "", NOT},
        {"routes: {/v1/chat/completions: {on_disconnect: cancel}}\non_disconnect: finish\n", "", NOT},
        {"routes: {/v1/chat/completions: {on_disconnect: cancel}}\n", RESUME, NOT},
        {"routes: {/v1/embeddings: {on_disconnect: finish}}\n", "", NOT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct stream s;
        char yaml[256];
        snprintf(yaml, sizeof yaml, ONE_UPSTREAM "%s", cases[i].yaml);
        stream_begin(&s, yaml, cases[i].fields);
        reset(s.client);
        if (cases[i].ms == FINISHES) {
            advance(&s.w, (uint64_t)2 * GRACE_MS - 1);
            stream_end(&s);
            check_open(s.up);
        } else if (cases[i].ms) {
            advance(&s.w, (uint64_t)cases[i].ms - 1);
            check_open(s.up);
            advance(&s.w, 1);
        }
        if ((s.up->end == OK) != (cases[i].ms == FINISHES)) {
            fail_msg("%s%s", cases[i].yaml, cases[i].fields);
        }
        check_int(s.w.worker.shelf.running, 0);
        check_only(&s.w, OUTCOME_GONE_READING, 1);
        world_close(&s.w);
    }
}

static void answer_that_was_kept_for_its_client_can_be_read(void **state UNUSED) {
    struct stream s;
    stream_begin(&s, ONE_UPSTREAM "on_disconnect: keep 5s\n", "");
    reset(s.client);
    struct peer *back = read_tape(&s.w, 1, &s.id, "?starting_after=0");
    stream_end(&s);
    check_read(back, s.id, 1, 4);
    world_close(&s.w);
}

// Nobody can send the rest of an upload.
static void call_whose_upload_broke_off_is_dropped_in_any_case(void **state UNUSED) {
    static const char *const fields[] = {"", RESUME};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct world w;
        world_open(&w, ONE_UPSTREAM "on_disconnect: finish\n");
        struct peer *client = client_open(&w);
        char head[256];
        snprintf(head, sizeof head, "POST /v1/files HTTP/1.1\r\nHost: h\r\n%sContent-Length: 100\r\n\r\nhello",
                 fields[i]);
        send_text(client, head);
        reset(client);
        check_dropped(upstream_peer(&w, "up", 0));
        check_only(&w, OUTCOME_GONE_SENDING, 1);
        world_close(&w);
    }
}

static void answer_to_an_upload_is_read_again(void **state UNUSED) {
    struct world w;
    world_open_with_workers(&w, ONE_UPSTREAM, 2);
    struct peer *client = client_open(&w);
    send_text(client, "POST /v1/files HTTP/1.1\r\nHost: h\r\n" RESUME "Content-Length: 5\r\n\r\nhello");
    answer(upstream_peer(&w, "up", 0), OK_ANSWER);
    struct id id = tape_of(client);
    check_str(message_at(upstream_peer(&w, "up", 0), 0).body, "hello");
    check_lacks(upstream_peer(&w, "up", 0), "X-Thaw-Resume");
    check_str(message_at(read_tape(&w, 1, &id, ""), 0).body, "{}");
    check_only(&w, OUTCOME_COMPLETE, 2);
    world_close(&w);
}

FLOWS(TEST(every_answer_of_a_call_names_its_tape), TEST(plain_relay_is_not_changed_and_not_kept),
      TEST(every_event_gets_one_id_line), TEST(event_that_says_the_stream_was_cut_has_an_id),
      TEST(tape_is_read_from_its_start_and_followed), TEST(reading_goes_on_behind_an_event),
      TEST(last_event_of_another_tape_is_not_about_this_one), TEST(reading_goes_on_behind_a_byte),
      TEST(answer_of_known_length_is_read_in_parts), TEST(coded_stream_is_read_again_as_it_is),
      TEST(head_of_a_tape_is_told_at_once), TEST(reader_behind_one_that_only_looks_gets_it_all),
      TEST(stream_of_known_length_grows_by_its_ids), TEST(wrong_positions_are_refused),
      TEST(position_that_is_still_to_come_from_another_worker_is_waited_for),
      TEST(event_source_reconnects_until_nothing_is_left), TEST(page_of_an_allowed_origin_may_read),
      TEST(failed_answers_are_told_again), TEST(deleting_a_running_answer_cancels_it),
      TEST(answer_that_was_cancelled_before_it_began_is_gone), TEST(deleting_an_answer_that_has_ended_forgets_it),
      TEST(only_a_tape_itself_is_deleted), TEST(status_tells_how_far_it_is), TEST(only_who_made_it_may_read_it),
      TEST(answer_without_its_body_can_be_read_again), TEST(clients_are_told_apart_by_what_they_present),
      TEST(clients_are_told_apart_by_any_scheme), TEST(id_alone_opens_the_tape_where_that_is_wanted),
      TEST(unknown_ids_are_not_found), TEST(answer_is_kept_for_a_while), TEST(oldest_answers_go_when_all_are_too_many),
      TEST(part_that_was_dropped_is_told), TEST(slow_reader_among_others_is_left_behind),
      TEST(resumable_call_waits_for_its_client), TEST(configuration_says_what_becomes_of_a_call_without_its_client),
      TEST(answer_that_was_kept_for_its_client_can_be_read), TEST(call_whose_upload_broke_off_is_dropped_in_any_case),
      TEST(answer_to_an_upload_is_read_again))
