// SPDX-License-Identifier: MIT
// What is refused, and how it is said, has its table in tests/flow/test_gather.c, where the answer is seen whole.
#include "llm/parallel.h"

#include "check.h"

enum { CAP = 1 << 20 };

struct asked {
    struct arena arena;
    struct parallel parallel;
    struct parallel_problem problem;
};

static bool read(struct asked *a, const char *text, unsigned most) {
    arena_init(&a->arena, CAP);
    return parallel_read(str_c(text), most, &a->arena, &a->parallel, &a->problem);
}

static void all_of_it_is_read(void **state UNUSED) {
    struct asked a;
    static const char text[] = " {\"stream\":true,\"calls\":[{\"path\":\"/a?b\",\"body\":{ \"x\" : 1.0 }},\n"
                               "{\"id\":\"\\u0078\",\"timeout\":\"1.5s\",\"body\":{},\"path\":\"/b\"}],"
                               "\"wait\":{\"first\":2},\"deadline\":0.25,\"on_error\":\"fail\"}";
    check(read(&a, text, 2));
    check_int(a.parallel.count, 2);
    check_str(a.parallel.calls[0].id, "0");
    check_str(a.parallel.calls[0].path, "/a?b");
    check_str(a.parallel.calls[0].body, "{ \"x\" : 1.0 }");
    check(a.parallel.calls[0].body.ptr > text && a.parallel.calls[0].body.ptr < text + sizeof text);
    check_int(a.parallel.calls[0].timeout_ms, 0);
    check_str(a.parallel.calls[1].id, "x");
    check_int(a.parallel.calls[1].timeout_ms, 1500);
    check_int(a.parallel.wanted, 2);
    check_int(a.parallel.deadline_ms, 250);
    check(a.parallel.strict && a.parallel.stream);
    arena_finish(&a.arena);
}

static void what_is_left_out_has_its_default(void **state UNUSED) {
    struct asked a;
    check(read(&a, "{\"calls\":[{\"path\":\"/a\",\"body\":{}},{\"path\":\"/a\",\"body\":{}}]}", 64));
    check_int(a.parallel.wanted, 2);
    check_int(a.parallel.deadline_ms, 0);
    check(!a.parallel.strict && !a.parallel.stream);
    arena_finish(&a.arena);
}

static void times_are_durations_or_seconds(void **state UNUSED) {
    static const struct {
        const char *text;
        uint64_t ms; // 0: refused
    } cases[] = {{"\"1ms\"", 1}, {"\"24h\"", 86400000}, {"86400", 86400000}, {"0.001", 1},
                 {"1", 1000},    {"\"24.1h\"", 0},      {"86400.1", 0},      {"0", 0},
                 {"-1", 0},      {"0.0001", 0},         {"\"1\"", 0},        {"\"\"", 0},
                 {"1e999", 0},   {"null", 0},           {"[1]", 0},          {"99999999999999999999", 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct asked a;
        char text[200];
        snprintf(text, sizeof text, "{\"calls\":[{\"path\":\"/a\",\"body\":{},\"timeout\":%s}],\"deadline\":%s}",
                 cases[i].text, cases[i].text);
        check_int(read(&a, text, 64), cases[i].ms != 0);
        if (cases[i].ms) {
            check_int(a.parallel.deadline_ms, cases[i].ms);
            check_int(a.parallel.calls[0].timeout_ms, cases[i].ms);
        } else {
            check_str(str_c(a.problem.param), "calls[0].timeout");
        }
        arena_finish(&a.arena);
    }
}

static void the_problem_is_named(void **state UNUSED) {
    struct asked a;
    check(!read(&a, "nonsense", 64));
    check_int(a.problem.status, 400);
    check_str(str_c(a.problem.code), "invalid_json");
    check_str(str_c(a.problem.message), "");
    check(!read(&a, "{\"calls\":[{\"path\":\"/a\",\"body\":{},\"tmeout\":1}]}", 64));
    check_int(a.problem.status, 400);
    check_str(str_c(a.problem.param), "calls[0]");
    check_str(str_c(a.problem.message), "'tmeout' is not known here; did you mean 'timeout'?");
    arena_finish(&a.arena);
}

static void scenario(void *arg) {
    struct asked a;
    if (!read(&a, arg, 64)) {
        check_int(a.problem.status, 503);
    }
    arena_finish(&a.arena);
}

static void without_memory_it_says_so(void **state UNUSED) {
    static char text[] =
        "{\"calls\":[{\"path\":\"/a\",\"body\":{}},{\"id\":\"x\",\"path\":\"/a\",\"body\":{\"a\":[1]}}]}";
    check(every_allocation_fails(scenario, text) >= 4);
}

TESTS(TEST(all_of_it_is_read), TEST(what_is_left_out_has_its_default), TEST(times_are_durations_or_seconds),
      TEST(the_problem_is_named), TEST(without_memory_it_says_so))
