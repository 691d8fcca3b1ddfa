// SPDX-License-Identifier: MIT
#include "config/yaml.h"
#include "check.h"

enum { CAP = 1 << 20 };

// Reads a text; the tree lives until `arena` is finished.
static struct node *read_tree(struct arena *arena, struct str text) {
    struct node *root = NULL;
    struct config_problem problem;
    arena_init(arena, CAP);
    enum err e = yaml_tree("t.yaml", text, arena, &root, &problem);
    if (e != OK) {
        fail_msg("%s", problem.text);
    }
    return root;
}

static void check_refused_str(struct str text, enum err wanted, const char *message) {
    struct arena arena;
    struct node *root = NULL;
    struct config_problem problem;
    arena_init(&arena, CAP);
    check_err(yaml_tree("t.yaml", text, &arena, &root, &problem), wanted);
    arena_finish(&arena);
    if (message) {
        assert_string_equal(problem.text, message);
    }
}

static void check_refused(const char *text, const char *message) {
    check_refused_str(str_c(text), ERR_INVALID, message);
}

static void map_keeps_the_order_of_the_file(void **state UNUSED) {
    struct arena arena;
    struct node *root = read_tree(&arena, STR("b: 1\na: 2\n"));
    check_int(root->kind, NODE_MAP);
    check_int(root->count, 2);
    check_str(root->first->text, "b");
    check_str(root->first->value->text, "1");
    check_str(root->first->next->text, "a");
    check_str(root->first->next->value->text, "2");
    arena_finish(&arena);
}

static void list_keeps_the_order_of_the_file(void **state UNUSED) {
    struct arena arena;
    struct node *root = read_tree(&arena, STR("- x\n- [y, z]\n- {k: v}\n"));
    check_int(root->kind, NODE_LIST);
    check_int(root->count, 3);
    check_str(root->first->text, "x");
    check_int(root->first->next->kind, NODE_LIST);
    check_str(root->first->next->last->text, "z");
    check_str(root->last->first->value->text, "v");
    arena_finish(&arena);
}

static void nodes_know_line_and_column(void **state UNUSED) {
    struct arena arena;
    struct node *root = read_tree(&arena, STR("# c\nouter:\n  inner: [a, \"b\"]\n"));
    struct node *inner = root->first->value->first;
    check_int(root->first->mark.line, 2);
    check_int(root->first->mark.column, 1);
    check_int(inner->mark.line, 3);
    check_int(inner->mark.column, 3);
    check_int(inner->value->mark.column, 10);
    check_int(inner->value->last->mark.column, 14);
    arena_finish(&arena);
}

static void columns_count_characters(void **state UNUSED) {
    struct arena arena;
    struct node *root = read_tree(&arena, STR("\xc3\xbc\xe2\x82\xac: x"));
    check_int(root->first->value->mark.column, 5);
    arena_finish(&arena);
}

static void quoted_and_plain_are_told_apart(void **state UNUSED) {
    struct arena arena;
    struct node *root = read_tree(&arena, STR("a: null\nb: 'null'\nc:\nd: ''\ne: ~\nf: \"x\\0y\"\n"));
    static const bool null[] = {true, false, true, false, true, false};
    size_t i = 0;
    for (struct node *key = root->first; key; key = key->next) {
        check_int(node_is_null(key->value), null[i++]);
    }
    check_int(root->last->value->text.len, 3);
    arena_finish(&arena);
}

static void empty_file_is_an_empty_map(void **state UNUSED) {
    static const char *const texts[] = {"", "\n\n", "# nothing\n", "---\n", "--- ~\n...\n", "{}"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct arena arena;
        struct node *root = read_tree(&arena, str_c(texts[i]));
        check_int(root->kind, NODE_MAP);
        check_int(root->count, 0);
        arena_finish(&arena);
    }
}

static void no_bytes_at_all_are_an_empty_map(void **state UNUSED) {
    struct arena arena;
    check_int(read_tree(&arena, (struct str){NULL, 0})->kind, NODE_MAP);
    arena_finish(&arena);
}

static void byte_order_mark_is_skipped(void **state UNUSED) {
    struct arena arena;
    struct node *root = read_tree(&arena, STR("\xef\xbb\xbf"
                                              "a: 1\n"));
    check_str(root->first->text, "a");
    arena_finish(&arena);
}

static void windows_line_ends_are_fine(void **state UNUSED) {
    struct arena arena;
    struct node *root = read_tree(&arena, STR("a: 1\r\nb: 2\r\n"));
    check_str(root->first->value->text, "1");
    check_int(root->last->mark.line, 2);
    arena_finish(&arena);
}

static void anchor_is_refused(void **state UNUSED) {
    check_refused("a: &x 1\n", "t.yaml:1:4: anchors (&) are not supported: a value that begins with & needs quotes");
    check_refused("a: &x [1]\n", "t.yaml:1:4: anchors (&) are not supported: a value that begins with & needs quotes");
    check_refused("a: &x {b: 1}", "t.yaml:1:4: anchors (&) are not supported: a value that begins with & needs quotes");
}

static void alias_is_refused(void **state UNUSED) {
    check_refused("a:\n  - *x\n", "t.yaml:2:5: aliases (*) are not supported: a value that begins with * needs quotes");
}

static void tag_is_refused(void **state UNUSED) {
    check_refused("a: !!str 1\n", "t.yaml:1:4: tags (!) are not supported: a value that begins with ! needs quotes");
}

static void merge_key_is_refused(void **state UNUSED) {
    check_refused("a:\n  <<: {b: 1}\n", "t.yaml:2:3: merge keys (<<) are not supported: write the values out");
}

static void quoted_merge_sign_is_a_key(void **state UNUSED) {
    struct arena arena;
    check_str(read_tree(&arena, STR("'<<': 1\n"))->first->text, "<<");
    arena_finish(&arena);
}

static void key_that_is_no_word_is_refused(void **state UNUSED) {
    check_refused("? [a]\n: 1\n",
                  "t.yaml:1:3: a key must be a word, not a list or map; a value that begins with { or [ needs quotes");
    check_refused("{{a: 1}: 2}",
                  "t.yaml:1:2: a key must be a word, not a list or map; a value that begins with { or [ needs quotes");
}

static void key_twice_is_refused(void **state UNUSED) {
    check_refused("b: 1\na: 1\nc:\n  a: 2\nb: 3\na: 4\n", "t.yaml:5:1: 'b' is there twice; the first one is on line 1");
    check_refused("x: {k: 1, \"k\": 2}", "t.yaml:1:11: 'k' is there twice; the first one is on line 1");
}

static void key_twice_that_looks_secret_is_not_shown(void **state UNUSED) {
    check_refused("sk-abc: 1\nsk-abc: 2\n",
                  "t.yaml:2:1: (not shown: it looks like a secret) is there twice; the first one is on line 1");
}

static void second_document_is_refused(void **state UNUSED) {
    check_refused("a: 1\n---\nb: 1\n", "t.yaml:2:1: a second document (---): one file is one configuration");
}

static void tab_is_named(void **state UNUSED) {
    check_refused("a:\n\tb: 1\n", "t.yaml:2:1: a tab at the beginning of the line: YAML indents with spaces");
    check_refused("a:\n  b: 1\n \tc: 1\n", "t.yaml:3:2: a tab at the beginning of the line: YAML indents with spaces");
}

static void syntax_errors_have_line_column_and_advice(void **state UNUSED) {
    check_refused("a: @x\n", "t.yaml:1:4: found character that cannot start any token; a value that begins with @, % "
                             "or ` needs quotes");
    check_refused("a:\n  b: 1\n   c: 1\n",
                  "t.yaml:3:5: mapping values are not allowed in this context; is the line above complete and the "
                  "indentation right? A value with ': ' in it needs quotes");
    check_refused("a: \"x\n", "t.yaml:2:1: found unexpected end of stream while scanning a quoted scalar that begins "
                              "at 1:4");
    check_refused("a: [1\nb: 2\n", "t.yaml:2:2: did not find expected ',' or ']' while parsing a flow sequence that "
                                   "begins at 1:4");
    check_refused("a: 1\n- b\n", "t.yaml:2:1: did not find expected key while parsing a block mapping that begins at "
                                 "1:1; is the indentation right?");
}

static void unquoted_variable_in_brackets_gets_advice(void **state UNUSED) {
    check_refused("keys: [${A}]\n", "t.yaml:1:9: did not find expected ',' or ']' while parsing a flow sequence that "
                                    "begins at 1:7; inside [ ] write \"${NAME}\", with quotes");
    check_refused("x: {key: ${A}}\n", "t.yaml:1:11: did not find expected ',' or '}' while parsing a flow mapping that "
                                      "begins at 1:4; inside { } write \"${NAME}\", with quotes");
}

static void bytes_that_are_no_text_have_line_and_column(void **state UNUSED) {
    check_refused("a: 1\nb: \xff\n", "t.yaml:2:4: invalid leading UTF-8 octet");
    check_refused("a: 1\nb: \x01\n", "t.yaml:2:4: control characters are not allowed");
    check_refused_str(STR("a: \0"), ERR_INVALID, "t.yaml:1:4: control characters are not allowed");
}

static void depth_has_its_limit(void **state UNUSED) {
    char text[YAML_DEPTH_MAX * 2 + 3];
    memset(text, '[', YAML_DEPTH_MAX);
    memset(text + YAML_DEPTH_MAX, ']', YAML_DEPTH_MAX);
    struct arena arena;
    check_int(read_tree(&arena, str_from(text, (size_t)YAML_DEPTH_MAX * 2))->kind, NODE_LIST);
    arena_finish(&arena);
    memset(text, '[', YAML_DEPTH_MAX + 1);
    memset(text + YAML_DEPTH_MAX + 1, ']', YAML_DEPTH_MAX + 1);
    check_refused_str(str_from(text, (size_t)YAML_DEPTH_MAX * 2 + 2), ERR_INVALID, "t.yaml:1:33: nested too deeply");
}

static void ten_thousand_brackets_are_no_trouble(void **state UNUSED) {
    static char text[10000];
    memset(text, '[', sizeof text);
    check_refused_str(str_from(text, sizeof text), ERR_INVALID, NULL);
    memset(text, '{', sizeof text);
    check_refused_str(str_from(text, sizeof text), ERR_INVALID, NULL);
    for (size_t i = 0; i + 1 < sizeof text; i += 2) {
        memcpy(text + i, "- ", 2);
    }
    check_refused_str(str_from(text, sizeof text), ERR_INVALID, NULL);
}

static void file_too_large_is_refused(void **state UNUSED) {
    char *text = xmalloc((size_t)CONFIG_FILE_MAX + 1);
    memset(text, '\n', (size_t)CONFIG_FILE_MAX + 1);
    check_refused_str(str_from(text, (size_t)CONFIG_FILE_MAX + 1), ERR_FULL, "t.yaml: larger than 4194304 bytes");
    free(text);
}

static void more_nodes_than_the_arena_holds_are_refused(void **state UNUSED) {
    size_t size = 100000;
    char *text = xmalloc(size);
    for (size_t i = 0; i < size; i++) {
        text[i] = ",a"[i % 2];
    }
    text[0] = '[';
    check_refused_str(str_from(text, size), ERR_NOMEM, "t.yaml: out of memory, or more configuration than thaw holds");
    free(text);
}

static void text_cut_anywhere_is_survived(void **state UNUSED) {
    static const char text[] =
        "# c\nkeys:\n  - \"${A}\"\n  - 'x'\nm: {a: [1, 2], b: {c: |\n  x\n}}\nt: >-\n  folded\n  text\n";
    for (size_t n = 0; n < sizeof text; n++) {
        struct arena arena;
        struct node *root;
        struct config_problem problem;
        // A copy of exactly this size, for the sanitizer to watch its end.
        char *copy = xmalloc(n);
        memcpy(copy, text, n);
        arena_init(&arena, CAP);
        enum err e = yaml_tree("t.yaml", str_from(copy, n), &arena, &root, &problem);
        check(e == OK || e == ERR_INVALID);
        arena_finish(&arena);
        free(copy);
    }
}

static void read_something(void *arg UNUSED) {
    struct arena arena;
    struct node *root = NULL;
    struct config_problem problem;
    arena_init(&arena, CAP);
    enum err e = yaml_tree("t.yaml", STR("a: 1\nb: [x, y]\nc: {d: e, f: g}\n"), &arena, &root, &problem);
    check(e == OK || e == ERR_NOMEM);
    arena_finish(&arena);
}

static void every_allocation_may_fail(void **state UNUSED) { check(every_allocation_fails(read_something, NULL) > 0); }

static void empty_text_survives_failing_allocations(void **state UNUSED) {
    struct arena arena;
    struct node *root = NULL;
    struct config_problem problem;
    arena_init(&arena, CAP);
    mem_fail_after(1, 1);
    enum err e = yaml_tree("t.yaml", STR(""), &arena, &root, &problem);
    mem_fail_after(0, 0);
    check_err(e, ERR_NOMEM);
    arena_finish(&arena);
}

TESTS(TEST(map_keeps_the_order_of_the_file), TEST(list_keeps_the_order_of_the_file), TEST(nodes_know_line_and_column),
      TEST(columns_count_characters), TEST(quoted_and_plain_are_told_apart), TEST(empty_file_is_an_empty_map),
      TEST(no_bytes_at_all_are_an_empty_map), TEST(byte_order_mark_is_skipped), TEST(windows_line_ends_are_fine),
      TEST(anchor_is_refused), TEST(alias_is_refused), TEST(tag_is_refused), TEST(merge_key_is_refused),
      TEST(quoted_merge_sign_is_a_key), TEST(key_that_is_no_word_is_refused), TEST(key_twice_is_refused),
      TEST(key_twice_that_looks_secret_is_not_shown), TEST(second_document_is_refused), TEST(tab_is_named),
      TEST(syntax_errors_have_line_column_and_advice), TEST(unquoted_variable_in_brackets_gets_advice),
      TEST(bytes_that_are_no_text_have_line_and_column), TEST(depth_has_its_limit),
      TEST(ten_thousand_brackets_are_no_trouble), TEST(file_too_large_is_refused),
      TEST(more_nodes_than_the_arena_holds_are_refused), TEST(text_cut_anywhere_is_survived),
      TEST(every_allocation_may_fail), TEST(empty_text_survives_failing_allocations))
