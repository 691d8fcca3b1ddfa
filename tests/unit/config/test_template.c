// SPDX-License-Identifier: MIT
#include "check.h"
#include "config/template.h"

enum { CAP = 1 << 20 };

// "text", <name>, joined by |: "Hello |<who>|!"
static void check_parts(const char *text, const char *wanted) {
    struct arena arena;
    struct template template;
    struct buf got;
    size_t at = 99;
    arena_init(&arena, CAP);
    buf_init(&got, CAP);
    check_ok(template_parse(str_c(text), &arena, &template, &at));
    check_int(at, 99);
    for (unsigned i = 0; i < template.n; i++) {
        const struct template_part *part = &template.parts[i];
        check_ok(buf_printf(&got, part->is_name ? "%s<%.*s>" : "%s%.*s", i ? "|" : "", STR_ARG(part->text)));
    }
    check_str(buf_str(&got), wanted);
    buf_finish(&got);
    arena_finish(&arena);
}

static void check_wrong(const char *text, size_t wanted) {
    struct arena arena;
    struct template template = {NULL, 7};
    size_t at = 99;
    arena_init(&arena, CAP);
    check_err(template_parse(str_c(text), &arena, &template, &at), ERR_INVALID);
    check_int(at, wanted);
    check_int(template.n, 7);
    arena_finish(&arena);
}

static void text_alone_is_one_part(void **state UNUSED) {
    check_parts("Hello.", "Hello.");
    check_parts("two\nlines", "two\nlines");
    check_parts("", "");
}

static void names_are_parts(void **state UNUSED) {
    check_parts("{{a}}", "<a>");
    check_parts("Summarise: {{text}}", "Summarise: |<text>");
    check_parts("{{a}}{{b}}", "<a>|<b>");
    check_parts("{{a}} to {{b}}.", "<a>| to |<b>|.");
    check_parts("{{a}}{{a}}", "<a>|<a>");
}

static void blanks_inside_do_not_count(void **state UNUSED) {
    check_parts("{{ a }}", "<a>");
    check_parts("{{\ta  }} x", "<a>| x");
}

static void names_are_words_with_dots_and_hyphens(void **state UNUSED) {
    check_parts("{{user.first-name_2}}{{_x}}{{Z9}}", "<user.first-name_2>|<_x>|<Z9>");
    check_wrong("{{1}}", 0);
    check_wrong("{{.a}}", 0);
    check_wrong("{{-a}}", 0);
    check_wrong("{{a b}}", 0);
    check_wrong("{{a\nb}}", 0);
    check_wrong("{{a+b}}", 0);
    check_wrong("{{\xc3\xbc}}", 0);
    check_wrong("{{}}", 0);
    check_wrong("{{  }}", 0);
}

static void single_braces_are_text(void **state UNUSED) {
    check_parts("{\"a\": {\"b\": {}}}", "{\"a\": {\"b\": {}}}");
    check_parts("{a} }} }{", "{a} }} }{");
    check_parts("{\"city\": {{city}}}", "{\"city\": |<city>|}");
    check_parts("{ {{a}}}}}", "{ |<a>|}}}");
    check_parts("{", "{");
}

static void four_braces_are_two(void **state UNUSED) {
    check_parts("{{{{", "{{");
    check_parts("a{{{{b", "a{{|b");
    check_parts("{{{{a}}", "{{|a}}");
    check_parts("{{{{{{a}}", "{{|<a>");
    check_parts("{{{{{{{{", "{{|{{");
    check_parts("{{{{{", "{{|{");
    check_parts("{{a}}{{{{{{b}}", "<a>|{{|<b>");
}

static void open_braces_without_a_name_are_refused_where_they_are(void **state UNUSED) {
    check_wrong("{{", 0);
    check_wrong("{{a", 0);
    check_wrong("{{a}", 0);
    check_wrong("ab{{", 2);
    check_wrong("{{a}} {{b", 6);
    check_wrong("{{a {{b}}", 0);
    check_wrong("{{{a}}", 0); // one brace, then a name? Rather asked than guessed.
    check_wrong("x{{{{{{", 5);
}

static void long_templates_have_all_their_parts(void **state UNUSED) {
    enum { N = 5000 };
    struct arena arena;
    struct template template;
    struct buf text;
    size_t at;
    arena_init(&arena, CAP);
    buf_init(&text, CAP);
    for (int i = 0; i < N; i++) {
        check_ok(buf_printf(&text, "%d {{n%d}}", i, i));
    }
    check_ok(template_parse(buf_str(&text), &arena, &template, &at));
    check_int(template.n, 2 * N);
    check_str(template.parts[0].text, "0 ");
    check_str(template.parts[2 * N - 1].text, "n4999");
    check(template.parts[2 * N - 1].is_name);
    buf_finish(&text);
    arena_finish(&arena);
}

static void what_the_arena_cannot_hold_is_an_error(void **state UNUSED) {
    struct arena arena;
    struct template template;
    size_t at;
    arena_init(&arena, 2 * sizeof(struct template_part));
    check_err(template_parse(STR("{{a}}{{b}}{{c}}"), &arena, &template, &at), ERR_NOMEM);
    check_ok(template_parse(STR("{{a}}"), &arena, &template, &at));
    arena_finish(&arena);
}

TESTS(TEST(text_alone_is_one_part), TEST(names_are_parts), TEST(blanks_inside_do_not_count),
      TEST(names_are_words_with_dots_and_hyphens), TEST(single_braces_are_text), TEST(four_braces_are_two),
      TEST(open_braces_without_a_name_are_refused_where_they_are), TEST(long_templates_have_all_their_parts),
      TEST(what_the_arena_cannot_hold_is_an_error))
