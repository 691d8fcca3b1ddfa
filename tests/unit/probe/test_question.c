// SPDX-License-Identifier: MIT
#include "probe/question.h"

#include "check.h"

#define NONCE "thaw-0000abcd00000007"

static struct question question_of(const char *target, const char *body) {
    return (struct question){
        .method = body ? STR("POST") : STR("GET"),
        .target = str_c(target),
        .authority = STR("app"),
        .body = body ? str_c(body) : STR(""),
        .has_body = body != NULL,
    };
}

// The request of user 3, with its nonce.
struct asked {
    struct head *head;
    struct buf body;
};

static struct asked ask(const struct question *q, const char *cookie) {
    struct asked a;
    struct asker asker = {.user = 3, .nonce = nonce_make(0xabcd, 7), .cookie = str_c(cookie)};
    buf_init(&a.body, 64 * 1024);
    check_ok(question_ask(q, &asker, &a.head, &a.body));
    return a;
}

static void asked_finish(struct asked *a) {
    free(a->head);
    buf_finish(&a->body);
}

static void check_field(const struct asked *a, const char *name, const char *value) {
    for (unsigned i = 0; i < a->head->fields.n; i++) {
        if (str_eq(a->head->fields.v[i].name, str_c(name))) {
            check_str(a->head->fields.v[i].value, value);
            return;
        }
    }
    check(!"there is such a field");
}

static void check_request(const struct question *q, const char *cookie, const char *target, const char *body) {
    struct asked a = ask(q, cookie);
    check_str(a.head->method_name, q->body.len ? "POST" : "GET");
    check_str(a.head->target, target);
    check_str(a.head->authority, "app");
    check_str(buf_str(&a.body), body);
    check_int(a.head->body_len, strlen(body));
    check_field(&a, "X-Thaw-Probe", NONCE);
    check((fields_find(&a.head->fields, FIELD_COOKIE) != NULL) == (*cookie != '\0'));
    asked_finish(&a);
}

static void placeholders_are_filled_wherever_they_stand(void **state UNUSED) {
    struct field room[1] = {{STR("X-User"), STR("u{{user}}"), FIELD_OTHER}};
    struct question q = question_of("/a?n={{nonce}}&u={{user}}", "{{user}}{{{nonce}}}{{other}}{{");
    q.fields = (struct fields){room, 1, 1};
    check_request(&q, "", "/a?n=" NONCE "&u=3", "3{" NONCE "}{{other}}{{");
    struct asked a = ask(&q, "");
    check_field(&a, "X-User", "u3");
    asked_finish(&a);
}

static const struct {
    const char *target, *body; // as the user wrote them
    const char *sent_target, *sent_body;
} placed[] = {
    {"/chat", "{\"prompt\":\"hi\"}", "/chat", "{\"prompt\":\"hi " NONCE "\"}"},
    {"/chat", "{\"stream\":true,\"message\":\"\"}", "/chat", "{\"stream\":true,\"message\":\" " NONCE "\"}"},
    {"/v1", "{\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},{\"role\":\"user\",\"content\":\"hi\"}]}",
     "/v1",
     "{\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},{\"role\":\"user\",\"content\":\"hi " NONCE
     "\"}]}"},
    {"/v1", "{\"messages\":[{\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}]}", "/v1",
     "{\"messages\":[{\"content\":[{\"type\":\"text\",\"text\":\"hi " NONCE "\"}]}]}"},
    {"/chat", "{\"n\":1}", "/chat?thaw_probe=" NONCE, "{\"n\":1}"},
    {"/chat?a=b", "a=b", "/chat?a=b&thaw_probe=" NONCE, "a=b"},
    {"/chat", "{{nonce}}", "/chat", NONCE},
    {"/slow", NULL, "/slow?thaw_probe=" NONCE, ""},
};

static void a_nonce_goes_where_it_changes_least(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(placed); i++) {
        struct question q = question_of(placed[i].target, placed[i].body);
        check_request(&q, "", placed[i].sent_target, placed[i].sent_body);
    }
}

static void what_is_to_stay_as_it_is_stays(void **state UNUSED) {
    struct question q = question_of("/chat", "{\"prompt\":\"hi\"}");
    q.as_is = true;
    check_request(&q, "", "/chat", "{\"prompt\":\"hi\"}");
}

static void a_cookie_goes_along_or_joins_the_others(void **state UNUSED) {
    struct field room[1] = {{STR("Cookie"), STR("a=1"), FIELD_COOKIE}};
    struct question q = question_of("/x?{{nonce}}", NULL);
    check_request(&q, "sid=2", "/x?" NONCE, "");
    q.fields = (struct fields){room, 1, 1};
    struct asked a = ask(&q, "sid=2");
    check_field(&a, "Cookie", "a=1; sid=2");
    asked_finish(&a);
}

static void what_would_break_the_request_is_refused(void **state UNUSED) {
    struct field room[1] = {{STR("X-A"), STR("fine"), FIELD_OTHER}};
    struct question q = question_of("/x", NULL);
    q.fields = (struct fields){room, 1, 1};
    check(question_check(&q) == NULL);
    room[0].value = STR("a\r\nX-B: b");
    check(question_check(&q) != NULL);
    room[0] = (struct field){STR("Content-Length"), STR("5"), FIELD_CONTENT_LENGTH};
    check(question_check(&q) != NULL);
    room[0] = (struct field){STR("X A"), STR("5"), FIELD_OTHER};
    check(question_check(&q) != NULL);
    q.fields.n = 0;
    q.method = STR("GET /x");
    check(question_check(&q) != NULL);
    q.method = STR("GET");
    q.target = STR("/x y");
    check(question_check(&q) != NULL);
}

static void write_one(void *arg UNUSED) {
    struct question q = question_of("/chat", "{\"prompt\":\"hi\"}");
    struct asker asker = {.user = 1, .nonce = 1};
    struct asked a;
    buf_init(&a.body, 64 * 1024);
    enum err e = question_ask(&q, &asker, &a.head, &a.body);
    check(e == OK || e == ERR_NOMEM);
    check((e == OK) == (a.head != NULL));
    asked_finish(&a);
}

static void without_memory_it_says_so(void **state UNUSED) { check(every_allocation_fails(write_one, NULL) > 0); }

TESTS(TEST(placeholders_are_filled_wherever_they_stand), TEST(a_nonce_goes_where_it_changes_least),
      TEST(what_is_to_stay_as_it_is_stays), TEST(a_cookie_goes_along_or_joins_the_others),
      TEST(what_would_break_the_request_is_refused), TEST(without_memory_it_says_so))
