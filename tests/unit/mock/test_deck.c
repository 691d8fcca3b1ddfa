// SPDX-License-Identifier: MIT
// Recordings in a folder, found by their requests and played to the millisecond. (Recording needs an upstream:
// tests/system/test_record.py.)
#include <dirent.h>
#include <unistd.h>

#include "support.h"

#define PLAIN_BODY "{\"model\":\"m\",\"n\":1}"

// A folder with recordings, on disk.
struct shelf {
    char folder[64];
    struct library *library;
};

static void shelf_init(struct shelf *s) {
    snprintf(s->folder, sizeof s->folder, "/tmp/thaw-deck-XXXXXX");
    check(mkdtemp(s->folder) != NULL);
    s->library = NULL;
}

static void shelf_put(const struct shelf *s, const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    FILE *f = fopen(path, "we");
    check(f != NULL && fputs(text, f) >= 0);
    fclose(f);
}

// A recording of a POST with this body.
static void shelf_record(const struct shelf *s, const char *name, const char *target, const char *body,
                         const char *rest) {
    struct buf text, room, scratch;
    struct library_key key;
    char hex[65] = "*";
    buf_init(&text, 1 << 23);
    buf_init(&room, 1 << 20);
    buf_init(&scratch, 1 << 20);
    if (body) {
        check_ok(library_key(STR("POST"), str_c(target), str_c(body), &room, &scratch, &key));
        for (size_t i = 0; i < 32; i++) {
            snprintf(hex + 2 * i, 3, "%02x", key.body.bytes[i]);
        }
    }
    check_ok(buf_printf(&text, "thaw-recording 1\nrequest POST %s\nbody %s\n%s", target, hex, rest));
    check_ok(buf_append(&text, "", 1));
    shelf_put(s, name, buf_str(&text).ptr);
    buf_finish(&text);
    buf_finish(&room);
    buf_finish(&scratch);
}

static void shelf_open(struct shelf *s) {
    char problem[LIBRARY_PROBLEM] = "";
    s->library = library_open(s->folder, problem);
    if (!s->library) {
        fail_msg("%s", problem);
    }
}

static void shelf_finish(struct shelf *s) {
    DIR *d = opendir(s->folder);
    library_close(s->library);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", s->folder, entry->d_name);
        (void)unlink(path);
    }
    closedir(d);
    check_int(rmdir(s->folder), 0);
}

#define STREAMED                                                                                                       \
    "status 200 @100.25\nContent-Type: text/event-stream\nX-Own: 1\n\n@100.25\n|data: 1\n|\n@350\n>data\n@900.5\n|: "  \
    "2\n|\n"                                                                                                           \
    "end @1000\n"
#define PLAIN "status 200 @50\nlength 999\nContent-Type: application/json\n\n@50\n>{\"a\":1}\nend @50\n"

static void play_one(struct world *w, struct client *c, struct shelf *s, double speed) {
    struct deck_options deck = {.library = s->library, .speed = speed};
    one_client(w, c, &(struct mock_options){.deck = &deck});
}

static void an_answer_is_played_at_its_times(void **state UNUSED) {
    struct world w;
    struct client c;
    struct shelf s;
    shelf_init(&s);
    shelf_record(&s, "a.rec", "/v1/x", PLAIN_BODY, STREAMED);
    shelf_open(&s);
    play_one(&w, &c, &s, 1);
    client_post(&c, "/v1/x", "{ \"n\" : 1, \"model\":\"m\" }"); // the same JSON
    pass_ms(&w, 100);
    check_no_answer(&c);
    pass_ms(&w, 1);
    check(str_starts(buf_str(&c.in), STR("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Own: 1\r\n")));
    check(str_ends(buf_str(&c.in), STR("9\r\ndata: 1\n\n\r\n")));
    pass_ms(&w, 249);
    check(str_ends(buf_str(&c.in), STR("4\r\ndata\r\n")));
    pass_ms(&w, 551);
    check(str_ends(buf_str(&c.in), STR(": 2\n\n\r\n")));
    pass_ms(&w, 99);
    check_int(take_answer(&c).status, 200);
    check_str(buf_str(&c.body), "data: 1\n\ndata: 2\n\n");
    get(&c, "/mock/stats");
    struct json *json = body_json(&c);
    check_int((int)number_at(json, "in_flight"), 0);
    check_int((int)number_at(json, "calls"), 1);
    json_close(json);
    done(&w, &c);
    shelf_finish(&s);
}

static void speed_is_a_factor(void **state UNUSED) {
    static const struct {
        double speed;
        unsigned ms;
    } speeds[] = {{2, 500}, {0.5, 2000}, {1000, 1}, {0, 0}};
    for (size_t i = 0; i < ARRAY_LEN(speeds); i++) {
        struct world w;
        struct client c;
        struct shelf s;
        struct got got;
        shelf_init(&s);
        shelf_record(&s, "a.rec", "/v1/x", PLAIN_BODY, STREAMED);
        shelf_open(&s);
        play_one(&w, &c, &s, speeds[i].speed);
        client_post(&c, "/v1/x", PLAIN_BODY);
        if (speeds[i].ms) {
            pass_ms(&w, speeds[i].ms - 1);
            check_int(peek_answer(&c, &got, false), 0);
            pass_ms(&w, 1);
        }
        check_int(take_answer(&c).status, 200);
        done(&w, &c);
        shelf_finish(&s);
    }
}

static void a_length_is_that_of_what_is_in_the_file(void **state UNUSED) {
    struct world w;
    struct client c;
    struct shelf s;
    shelf_init(&s);
    shelf_record(&s, "a.rec", "/v1/x", PLAIN_BODY, PLAIN);
    shelf_open(&s);
    play_one(&w, &c, &s, 1);
    struct got got = ask(&c, "/v1/x", PLAIN_BODY);
    check_str(got_field(&got, "content-length"), "7");
    check_str(buf_str(&c.body), "{\"a\":1}");
    done(&w, &c);
    shelf_finish(&s);
}

// What somebody edited: what is there counts.
static void a_length_that_is_not_true_is_not_told(void **state UNUSED) {
    static const struct {
        const char *rest;
        const char *length; // NULL: none
        const char *last;
    } files[] = {
        {"status 200 @0\nlength 5\n\nend @0\n", "\r\nContent-Length: 0\r\n", "\r\n\r\n"},
        {"status 200 @0\nlength 5\n\n@0\n>longer than that\nend @0\n", "\r\nContent-Length: 16\r\n",
         "longer than that"},
        {"status 200 @0\nlength 5\n\n@0\n>longer\n@1\n> than that\ncut @1\n", NULL, "a\r\n than that\r\n"},
        {"status 304 @0\nlength 5\n\nend @0\n", "\r\nContent-Length: 5\r\n", "\r\n\r\n"},
        {"status 204 @0\nlength 5\n\n@0\n>bytes\nend @0\n", NULL, "\r\n\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct world w;
        struct client c;
        struct shelf s;
        shelf_init(&s);
        shelf_record(&s, "a.rec", "/v1/x", PLAIN_BODY, files[i].rest);
        shelf_open(&s);
        play_one(&w, &c, &s, 1);
        client_post(&c, "/v1/x", PLAIN_BODY);
        pass_ms(&w, 5);
        struct str in = buf_str(&c.in);
        struct str wanted = files[i].length ? str_c(files[i].length) : STR("Content-Length");
        check_int(str_search(in, wanted) < in.len, files[i].length != NULL);
        check(str_ends(in, str_c(files[i].last)));
        check_int(c.ended, str_search(str_c(files[i].rest), STR("cut")) < strlen(files[i].rest));
        done(&w, &c);
        shelf_finish(&s);
    }
}

static void what_was_cut_is_cut(void **state UNUSED) {
    struct world w;
    struct client c;
    struct shelf s;
    struct got got;
    shelf_init(&s);
    shelf_record(&s, "a.rec", "/v1/x", PLAIN_BODY, "status 200 @0\nlength 100\n\n@1\n>only this\ncut @2\n");
    shelf_open(&s);
    play_one(&w, &c, &s, 1);
    client_post(&c, "/v1/x", PLAIN_BODY);
    pass_ms(&w, 10);
    check(c.ended && peek_answer(&c, &got, false) == 0);
    check_str(got_field(&got, "content-length"), "100");
    check(str_ends(buf_str(&c.in), STR("only this")));
    done(&w, &c);
    shelf_finish(&s);
}

static const struct {
    const char *target;
    const char *body;
    int status;
    const char *says;
} lookups[] = {
    {"/v1/x", PLAIN_BODY, 200, "exact"},
    {"/v1/x", "{\"n\":1,\"model\":\"m\"}", 200, "exact"},
    {"/v1/x", "{\"n\":2,\"model\":\"m\"}", 404, "has it with another body"},
    {"/v1/x", "no JSON", 200, "bytes"},
    {"/v1/x", "no JSON ", 404, "another body"},
    {"/v1/y", "anything", 200, "any"},
    {"/v1/y", PLAIN_BODY, 200, "special"},
    {"/v1/z?a=b", "", 200, "query"},
    {"/v1/z?a=b&key=secret", "", 200, "query"},
    {"/v1/z?a=c", "", 404, "the nearest is POST /v1/z?a=b (e.rec)"},
    {"/nothing/like/it/at/all", "", 404, "none of the 6 recordings is near"},
};

static void requests_find_their_recordings(void **state UNUSED) {
    struct world w;
    struct client c;
    struct shelf s;
    shelf_init(&s);
    shelf_put(&s, "notes.txt", "no recording");
    shelf_put(&s, ".hidden.rec", "no recording either");
    shelf_record(&s, "a.rec", "/v1/x", PLAIN_BODY, "status 200 @0\n\n@0\n>exact\nend @0\n");
    shelf_record(&s, "b.rec", "/v1/x", "no JSON", "status 200 @0\n\n@0\n>bytes\nend @0\n");
    shelf_record(&s, "c.rec", "/v1/y", PLAIN_BODY, "status 200 @0\n\n@0\n>special\nend @0\n");
    shelf_record(&s, "d.rec", "/v1/y", NULL, "status 200 @0\n\n@0\n>old\nend @0\n");
    shelf_record(&s, "d2.rec", "/v1/y", NULL, "status 200 @0\n\n@0\n>any\nend @0\n"); // the later of two
    shelf_record(&s, "e.rec", "/v1/z?a=b", "", "status 200 @0\n\n@0\n>query\nend @0\n");
    shelf_open(&s);
    play_one(&w, &c, &s, 1);
    for (size_t i = 0; i < ARRAY_LEN(lookups); i++) {
        struct got got = ask(&c, lookups[i].target, lookups[i].body);
        bool found = str_search(buf_str(&c.body), str_c(lookups[i].says)) < buf_len(&c.body);
        if (got.status != lookups[i].status || !found) {
            fail_msg("%s %s: %d %.*s", lookups[i].target, lookups[i].body, got.status, STR_ARG(buf_str(&c.body)));
        }
    }
    check_int(get(&c, "/healthz").status, 200); // the mock's own
    done(&w, &c);
    shelf_finish(&s);
}

static void a_bad_folder_is_refused(void **state UNUSED) {
    struct shelf s;
    char problem[LIBRARY_PROBLEM] = "";
    char wanted[200];
    shelf_init(&s);
    shelf_put(&s, "bad.rec", "thaw-recording 1\nrequest POST /\nbody *\nstatus 1\n");
    check(library_open(s.folder, problem) == NULL);
    snprintf(wanted, sizeof wanted, "%s/bad.rec:4: a status is a number and a time, as '200 @812.5'", s.folder);
    check_str(str_c(problem), wanted);
    check(library_open("/nowhere/at/all", problem) == NULL);
    check_str(str_c(problem), "/nowhere/at/all: No such file or directory");
    shelf_finish(&s);
}

// A large answer and a reader that does not read: memory stays what it is, the bytes come in the end.
static void a_slow_reader_gets_every_byte(void **state UNUSED) {
    enum { PIECES = 3000 };
    struct world w;
    struct client c;
    struct shelf s;
    struct buf text;
    shelf_init(&s);
    buf_init(&text, 1 << 22);
    check_ok(buf_printf(&text, "status 200 @0\n\n"));
    for (int i = 0; i < PIECES; i++) {
        check_ok(buf_printf(&text, "@%d\n|%0500d\n", i / 100, i));
    }
    check_ok(buf_printf(&text, "end @40\n%c", 0));
    shelf_record(&s, "a.rec", "/v1/x", PLAIN_BODY, buf_str(&text).ptr);
    shelf_open(&s);
    play_one(&w, &c, &s, 1);
    c.reads = false;
    client_post(&c, "/v1/x", PLAIN_BODY);
    pass_ms(&w, 1000);
    check_int(buf_len(&c.in), 0);
    c.reads = true;
    client_read(&c);
    pass_ms(&w, 1000);
    take_answer(&c);
    check_int(buf_len(&c.body), 501 * PIECES);
    buf_finish(&text);
    done(&w, &c);
    shelf_finish(&s);
}

static void clients_may_leave_and_the_mock_be_destroyed(void **state UNUSED) {
    struct world w;
    struct client c;
    struct client other;
    struct shelf s;
    shelf_init(&s);
    shelf_record(&s, "a.rec", "/v1/x", PLAIN_BODY, STREAMED);
    shelf_open(&s);
    play_one(&w, &c, &s, 1);
    client_open(&other, &w, MEM_WINDOW);
    client_post(&other, "/v1/x", PLAIN_BODY);
    client_post(&c, "/v1/x", PLAIN_BODY);
    pass_ms(&w, 200);
    client_close(&other);
    settle(&w);
    client_open(&other, &w, MEM_WINDOW);
    client_send(&other, "POST /v1/x HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\nhalf");
    mock_destroy(w.mock);
    w.mock = NULL;
    settle(&w);
    check(c.ended);
    client_close(&other);
    done(&w, &c);
    shelf_finish(&s);
}

static void starve(void *arg) {
    struct world *w = arg;
    struct client c;
    client_open(&c, w, 1000);
    if (buf_printf(&c.out, "POST /v1/x HTTP/1.1\r\nHost: m\r\nContent-Length: %zu\r\n\r\n%s", strlen(PLAIN_BODY),
                   PLAIN_BODY) == OK) {
        client_write(&c);
    }
    c.reads = false; // the test's own buffers are not what is looked at
    pass_ms(w, 2000);
    client_close(&c);
    settle(w);
}

static void it_survives_without_memory(void **state UNUSED) {
    struct world w;
    struct client c;
    struct shelf s;
    shelf_init(&s);
    shelf_record(&s, "a.rec", "/v1/x", PLAIN_BODY, STREAMED);
    shelf_open(&s);
    play_one(&w, &c, &s, 1);
    check(every_allocation_fails(starve, &w) > 5);
    check_int(ask(&c, "/v1/x", PLAIN_BODY).status, 200);
    done(&w, &c);
    shelf_finish(&s);
}

TESTS(TEST(an_answer_is_played_at_its_times), TEST(speed_is_a_factor), TEST(a_length_is_that_of_what_is_in_the_file),
      TEST(a_length_that_is_not_true_is_not_told), TEST(what_was_cut_is_cut), TEST(requests_find_their_recordings),
      TEST(a_bad_folder_is_refused), TEST(a_slow_reader_gets_every_byte),
      TEST(clients_may_leave_and_the_mock_be_destroyed), TEST(it_survives_without_memory))
