// SPDX-License-Identifier: MIT
// The lab with users in memory, real threads, and a mock on a thread of its own. Who sits where and for whom one waited
// is decided by the order in which things happen, never by how long they took.
#include "cmd/slow.h"
#include "lab/lab.h"
#include "llm/json.h"

#include "../http/support.h"

enum { USERS_MAX = 16, TURNS = 4000, TURN_MS = 5, ANSWER_ROOM = 1 << 20 };

struct stage {
    struct loop loop;
    struct slow slow;
    struct lab *lab;
    char url[200], path[40], authority[ADDRESS_TEXT];
    struct peer users[USERS_MAX];
    unsigned count;
};

static void stage_open(struct stage *s, unsigned default_threads, unsigned executor_threads) {
    *s = (struct stage){.count = 0};
    check_ok(loop_init(&s->loop, &(struct loop_options){.pace_us = 0}));
    check_ok(slow_start(&s->slow));
    address_format(&s->slow.address, s->authority);
    struct str authority = str_c(s->authority);
    uint64_t port = 0;
    check_ok(parse_u64(str_skip(authority, str_find(authority, ':') + 1), &port));
    snprintf(s->path, sizeof s->path, "/v1/chat/completions");
    snprintf(s->url, sizeof s->url, "http://%s%s", s->authority, s->path);
    struct lab_options options = {
        .upstream = {.url = s->url, .host = STR("127.0.0.1"), .port = (uint16_t)port, .authority = s->authority},
        .default_threads = default_threads,
        .executor_threads = executor_threads,
        .poll_ms = 2,
    };
    options.upstream.path = s->path;
    s->lab = lab_create(&s->loop, &options);
    check(s->lab != NULL);
}

static void stage_close(struct stage *s) {
    for (unsigned i = 0; i < s->count; i++) {
        peer_finish(&s->users[i]);
    }
    lab_destroy(s->lab);
    loop_finish(&s->loop);
    slow_stop(&s->slow);
}

static struct peer *connect_user(struct stage *s) {
    struct conn *near = NULL;
    struct conn *far = NULL;
    check(s->count < USERS_MAX);
    struct peer *user = &s->users[s->count++];
    mem_pair(&s->loop, MEM_WINDOW, &near, &far);
    peer_init(user, near);
    lab_accept(s->lab, far);
    return user;
}

static struct peer *say(struct stage *s, const char *method, const char *target, const char *body) {
    char request[2000];
    struct peer *user = connect_user(s);
    int n = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: lab\r\nContent-Length: %zu\r\n\r\n%s", method,
                     target, strlen(body), body);
    peer_say(user, str_from(request, (size_t)n));
    return user;
}

static struct peer *post(struct stage *s, const char *target) { return say(s, "POST", target, ""); }

static struct str body_of(const struct peer *user) {
    struct str got = peer_got(user);
    return str_skip(got, str_search(got, STR("\r\n\r\n")) + 4);
}

static bool is_answered(const struct peer *user) {
    struct str body = body_of(user);
    return str_ends(body, STR("}\n"));
}

static void wait_for(struct stage *s, const struct peer *user) {
    for (unsigned i = 0; !is_answered(user); i++) {
        check(i < TURNS);
        loop_turn(&s->loop, TURN_MS);
    }
}

static int status_of(const struct peer *user) {
    uint64_t status = 0;
    check_ok(parse_u64(str_first(str_skip(peer_got(user), sizeof "HTTP/1.1"), 3), &status));
    return (int)status;
}

// A member of the answer as text; "null" for null.
static const char *member(const struct peer *user, const char *name, char out[200]) {
    struct json *json = json_open(body_of(user), ANSWER_ROOM);
    check(json != NULL);
    struct str s = json_string(json_member(json_root(json), name));
    s = s.ptr ? s : STR("null");
    snprintf(out, 200, "%.*s", STR_ARG(s));
    json_close(json);
    return out;
}

static void check_member(const struct peer *user, const char *name, const char *wanted) {
    char got[200];
    check_str(str_c(member(user, name, got)), wanted);
}

static double number(const struct peer *user, const char *name) {
    double n = -1;
    struct json *json = json_open(body_of(user), ANSWER_ROOM);
    check(json != NULL && json_number(json_member(json_root(json), name), &n));
    json_close(json);
    return n;
}

// Asks for /seats until the text is in it.
static void wait_seats(struct stage *s, const char *text) {
    struct peer *user = connect_user(s);
    for (unsigned i = 0;; i++) {
        check(i < TURNS);
        buf_clear(&user->got);
        peer_say(user, STR("GET /seats HTTP/1.1\r\nHost: lab\r\n\r\n"));
        wait_for(s, user);
        if (str_search(body_of(user), str_c(text)) < body_of(user).len) {
            break;
        }
        loop_turn(&s->loop, 1);
    }
    peer_close(user);
}

// ---- the five

static void each_way_says_where_the_call_was_made(void **state UNUSED) {
    static const struct {
        const char *target, *pattern, *seat, *thread;
    } ways[] = {
        {"/to_thread?user_id=ann&seconds=0", "to_thread", "default-", "default-"},
        {"/executor?user_id=ann&seconds=0", "executor", "executor-", "executor-"},
        {"/async?user_id=ann&seconds=0", "async", "loop", "loop"},
        {"/bad/global_lock?user_id=ann&seconds=0", "global_lock", "lock", "default-"},
        {"/bad/global_flag?user_id=ann&seconds=0", "global_flag", "flag", "default-"},
    };
    struct stage s;
    char got[200];
    stage_open(&s, 2, 2);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct peer *user = say(&s, "POST", ways[i].target, "{\"prompt\":\"ping 4711\"}");
        wait_for(&s, user);
        check_int(status_of(user), 200);
        check_member(user, "response", "ping 4711");
        check_member(user, "user_id", "ann");
        check_member(user, "pattern", ways[i].pattern);
        check_member(user, "waited_for", "null");
        check(str_starts(str_c(member(user, "seat", got)), str_c(ways[i].seat)));
        check(str_starts(str_c(member(user, "thread", got)), str_c(ways[i].thread)));
        check(number(user, "arrived_ns") <= number(user, "seated_ns"));
        check(number(user, "seated_ns") <= number(user, "done_ns"));
    }
    stage_close(&s);
}

static void who_comes_last_waits_for_one_who_sat_on_his_seat(void **state UNUSED) {
    static const char *const paths[] = {"/to_thread", "/executor"};
    for (size_t p = 0; p < ARRAY_LEN(paths); p++) {
        struct stage s;
        char target[100];
        char seat[200];
        char whom[200];
        uint64_t number_of = 0;
        stage_open(&s, 2, 2);
        for (unsigned i = 1; i <= 3; i++) {
            snprintf(target, sizeof target, "%s?user_id=%u&seconds=0.1", paths[p], i);
            post(&s, target);
            loop_turn(&s.loop, 0);
        }
        for (unsigned i = 0; i < 3; i++) {
            wait_for(&s, &s.users[i]);
        }
        check_member(&s.users[0], "waited_for", "null");
        check_member(&s.users[1], "waited_for", "null");
        check_ok(parse_u64(str_c(member(&s.users[2], "waited_for", whom)), &number_of));
        check(number_of == 1 || number_of == 2);
        check_member(&s.users[number_of - 1], "seat", member(&s.users[2], "seat", seat));
        check(number(&s.users[2], "seated_ns") >= number(&s.users[number_of - 1], "done_ns"));
        stage_close(&s);
    }
}

static void guards_let_in_one_at_a_time(void **state UNUSED) {
    static const char *const paths[] = {"/bad/global_lock", "/bad/global_flag"};
    for (size_t p = 0; p < ARRAY_LEN(paths); p++) {
        struct stage s;
        char target[100];
        unsigned nobody = 0;
        stage_open(&s, 8, 1);
        for (unsigned i = 1; i <= 4; i++) {
            snprintf(target, sizeof target, "%s?user_id=%u&seconds=0.05", paths[p], i);
            post(&s, target);
        }
        for (unsigned i = 0; i < 4; i++) {
            char whom[200];
            wait_for(&s, &s.users[i]);
            nobody += strcmp(member(&s.users[i], "waited_for", whom), "null") == 0;
        }
        check_int(nobody, 1);
        for (unsigned i = 0; i < 4; i++) {
            for (unsigned j = 0; j < 4; j++) {
                check(i == j || number(&s.users[i], "done_ns") <= number(&s.users[j], "seated_ns") ||
                      number(&s.users[j], "done_ns") <= number(&s.users[i], "seated_ns"));
            }
        }
        stage_close(&s);
    }
}

static void who_waits_for_the_lock_holds_a_thread(void **state UNUSED) {
    struct stage s;
    stage_open(&s, 3, 1);
    post(&s, "/bad/global_lock?user_id=1&seconds=3600");
    wait_seats(&s, "\"lock\":{\"seats\":1,\"taken\":1");
    post(&s, "/bad/global_lock?user_id=2&seconds=3600");
    wait_seats(&s, "\"default\":{\"seats\":3,\"taken\":2,\"waiting\":0");
    wait_seats(&s, "\"waits_for\":\"lock\"");
    post(&s, "/to_thread?user_id=3&seconds=3600");
    post(&s, "/to_thread?user_id=4&seconds=3600");
    wait_seats(&s, "\"default\":{\"seats\":3,\"taken\":3,\"waiting\":1");
    post(&s, "/async?user_id=5&seconds=3600");
    wait_seats(&s, "\"loop\":{\"seats\":null,\"taken\":1");
    stage_close(&s); // with all of them in there
}

static void five_calls_of_one_user(void **state UNUSED) {
    struct stage s;
    stage_open(&s, 2, 1);
    struct peer *by_query = post(&s, "/to_thread?calls=5&seconds=0");
    struct peer *by_body = say(&s, "POST", "/async?seconds=0", "{\"calls\":5}");
    wait_for(&s, by_query);
    wait_for(&s, by_body);
    struct peer *both[] = {by_query, by_body};
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        struct json *json = json_open(body_of(both[i]), ANSWER_ROOM);
        const struct json_value *calls = json_member(json_root(json), "calls");
        double last = 0;
        check_int(json_length(calls), 5);
        for (size_t c = 0; c < 5; c++) {
            double done = 0;
            check(json_number(json_member(json_item(calls, c), "done_ns"), &done));
            last = done > last ? done : last;
        }
        json_close(json);
        check(number(both[i], "done_ns") == last); // what is said above the list is of the last one
    }
    stage_close(&s);
}

// ---- leaving

static void who_leaves_while_waiting_frees_his_place(void **state UNUSED) {
    struct stage s;
    stage_open(&s, 1, 1);
    struct peer *first = post(&s, "/to_thread?user_id=first&seconds=0.2");
    wait_seats(&s, "\"taken\":1,\"waiting\":0");
    struct peer *second = post(&s, "/to_thread?user_id=second&seconds=3600");
    wait_seats(&s, "\"taken\":1,\"waiting\":1");
    struct peer *third = post(&s, "/to_thread?user_id=third&seconds=0");
    peer_close(second);
    wait_for(&s, first);
    wait_for(&s, third); // not an hour later
    check_member(third, "waited_for", "first");
    stage_close(&s);
}

static void a_call_that_has_begun_runs_to_its_end(void **state UNUSED) {
    struct stage s;
    stage_open(&s, 1, 1);
    struct peer *first = post(&s, "/to_thread?user_id=first&seconds=0.2");
    wait_seats(&s, "\"user_id\":\"first\"");
    struct peer *second = post(&s, "/to_thread?user_id=second&seconds=0");
    peer_close(first);
    wait_seats(&s, "\"left\":true");
    wait_for(&s, second);
    check_member(second, "waited_for", "first");
    stage_close(&s);
}

static void who_leaves_the_loop_takes_his_call_along(void **state UNUSED) {
    struct stage s;
    stage_open(&s, 1, 1);
    struct peer *user = post(&s, "/async?calls=3&seconds=3600");
    wait_seats(&s, "\"loop\":{\"seats\":null,\"taken\":3");
    peer_close(user);
    wait_seats(&s, "\"loop\":{\"seats\":null,\"taken\":0");
    stage_close(&s);
}

// ---- refusals

static void what_is_wrong_is_said(void **state UNUSED) {
    static const struct {
        const char *method, *target, *body;
        int status;
        const char *says;
    } wrong[] = {
        {"POST", "/nothing", "", 404, "GET / lists"},
        {"GET", "/to_thread", "", 405, "POST"},
        {"POST", "/", "", 405, "GET it"},
        {"POST", "/to_thread?calls=0", "", 400, "calls"},
        {"POST", "/to_thread?calls=33", "", 400, "calls"},
        {"POST", "/to_thread?calls=x", "", 400, "calls"},
        {"POST", "/to_thread?seconds=x", "", 400, "seconds"},
        {"POST", "/to_thread?seconds=-1", "", 400, "seconds"},
        {"POST", "/to_thread?seconds=3601", "", 400, "seconds"},
        {"POST", "/to_thread?seconds=1m", "", 400, "seconds"},
        {"POST", "/async?user_id=12345678901234567890123456789012345678901234567890123456789012345", "", 400,
         "user_id"},
        {"POST", "/async", "{", 400, "JSON object"},
        {"POST", "/async", "[]", 400, "JSON object"},
        {"POST", "/async", "{\"prompt\":1}", 400, "prompt"},
        {"POST", "/async", "{\"calls\":1.5}", 400, "calls"},
        {"POST", "/async", "{\"calls\":-1}", 400, "calls"},
        {"POST", "/async", "{\"calls\":\"5\"}", 400, "calls"},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct stage s;
        stage_open(&s, 1, 1);
        struct peer *user = say(&s, wrong[i].method, wrong[i].target, wrong[i].body);
        wait_for(&s, user);
        check_int(status_of(user), wrong[i].status);
        check(str_search(body_of(user), str_c(wrong[i].says)) < body_of(user).len);
        stage_close(&s);
    }
}

static void an_upstream_that_is_not_there_is_said_on_every_way(void **state UNUSED) {
    static const char *const paths[] = {"/to_thread", "/async", "/bad/global_lock"};
    struct stage s;
    stage_open(&s, 1, 1);
    slow_stop(&s.slow);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct peer *user = post(&s, paths[i]);
        wait_for(&s, user);
        check_int(status_of(user), 502);
    }
    stage_close(&s);
}

TESTS(TEST(each_way_says_where_the_call_was_made), TEST(who_comes_last_waits_for_one_who_sat_on_his_seat),
      TEST(guards_let_in_one_at_a_time), TEST(who_waits_for_the_lock_holds_a_thread), TEST(five_calls_of_one_user),
      TEST(who_leaves_while_waiting_frees_his_place), TEST(a_call_that_has_begun_runs_to_its_end),
      TEST(who_leaves_the_loop_takes_his_call_along), TEST(what_is_wrong_is_said),
      TEST(an_upstream_that_is_not_there_is_said_on_every_way))
