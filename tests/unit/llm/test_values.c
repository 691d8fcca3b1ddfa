// SPDX-License-Identifier: MIT
#include "llm/values.h"

#include "check.h"

enum { CAP = 1 << 20, NAMES = 3 };

struct given {
    struct arena arena;
    struct value values[NAMES];
};

static void begin(struct given *g) {
    *g = (struct given){.values = {{.name = STR("a")}, {.name = STR("b.c")}, {.name = STR("d")}}};
    arena_init(&g->arena, CAP);
}

static enum err form(struct given *g, const char *text, enum value_source source) {
    return values_from_form(g->values, NAMES, str_c(text), source, &g->arena);
}

static enum err json(struct given *g, const char *text) {
    struct str twice;
    return values_from_json(g->values, NAMES, str_c(text), &g->arena, &twice);
}

static void check_values(struct given *g, const char *a, const char *b, const char *d) {
    const char *const wanted[] = {a, b, d};
    for (size_t i = 0; i < NAMES; i++) {
        check_int(g->values[i].given != VALUE_NONE, wanted[i] != NULL);
        check_str(g->values[i].text, wanted[i] ? wanted[i] : "");
    }
    arena_finish(&g->arena);
}

static void forms_give_the_first_of_a_name(void **state UNUSED) {
    struct given g;
    begin(&g);
    check_ok(form(&g, "a=1&x=2&b.c=3+4&a=5", VALUE_BODY));
    check_values(&g, "1", "3 4", NULL);
}

static void a_body_counts_more_than_the_query(void **state UNUSED) {
    struct given g;
    begin(&g);
    check_ok(form(&g, "a=q&d=q", VALUE_QUERY));
    check_ok(form(&g, "a=f", VALUE_BODY));
    check_values(&g, "f", NULL, "q");
    begin(&g);
    check_ok(form(&g, "a=q&d=q&b.c=q", VALUE_QUERY));
    check_ok(json(&g, "{\"a\":\"j\",\"d\":null,\"b.c\":\"\"}"));
    check_values(&g, "j", "", "q");
}

static void json_gives_strings_or_its_own_text(void **state UNUSED) {
    struct given g;
    begin(&g);
    check_ok(json(&g, "{\"x\":1, \"a\" : \"q\\n\\u0041\", \"b.c\" : 1.0e2 , \"d\":{ \"e\":[true] } }"));
    check_values(&g, "q\nA", "1.0e2", "{ \"e\":[true] }");
}

static void what_is_no_object_gives_nothing(void **state UNUSED) {
    struct given g;
    struct str twice = {NULL, 0};
    begin(&g);
    check_err(json(&g, "[1]"), ERR_FRAMING);
    check_err(json(&g, "{"), ERR_INVALID);
    check_err(json(&g, ""), ERR_INVALID);
    check_err(values_from_json(g.values, NAMES, STR("{\"a\":1,\"\\u0061\":2}"), &g.arena, &twice), ERR_AGAIN);
    check_str(twice, "a");
    arena_finish(&g.arena);
}

static void the_arenas_cap_holds(void **state UNUSED) {
    struct given g;
    char text[300];
    begin(&g);
    arena_finish(&g.arena);
    arena_init(&g.arena, 100);
    memset(text, 'x', sizeof text);
    memcpy(text, "a=", 2);
    text[sizeof text - 1] = '\0';
    check_err(form(&g, text, VALUE_BODY), ERR_FULL);
    check_values(&g, NULL, NULL, NULL);
}

static void scenario(void *arg UNUSED) {
    struct given g;
    begin(&g);
    enum err e = form(&g, "a=1", VALUE_QUERY);
    check(e == OK || e == ERR_NOMEM);
    e = json(&g, "{\"a\":\"2\",\"d\":[1]}");
    check(e == OK || e == ERR_NOMEM);
    arena_finish(&g.arena);
}

static void without_memory_it_says_so(void **state UNUSED) { check(every_allocation_fails(scenario, NULL) >= 4); }

TESTS(TEST(forms_give_the_first_of_a_name), TEST(a_body_counts_more_than_the_query),
      TEST(json_gives_strings_or_its_own_text), TEST(what_is_no_object_gives_nothing), TEST(the_arenas_cap_holds),
      TEST(without_memory_it_says_so))
