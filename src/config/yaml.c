// SPDX-License-Identifier: MIT
// libyaml's events -> a tree. Events, not its documents: the depth is capped before anything is built, marks
// are kept, and memory is the arena's, with its cap. No recursion: `open` holds the containers not yet
// closed.
//
// Invariant: in a map that is open, the last key has no value exactly while its value is awaited.
#include "config/yaml.h"

#include <yaml.h>

struct builder {
    yaml_parser_t parser;
    const char *file;
    struct str text;
    struct arena *arena;
    struct config_problem *problem;
    struct node *root; // NULL until a document begins
    bool documents;    // one was seen
    unsigned depth;
    struct node *open[YAML_DEPTH_MAX];
};

bool node_is_null(const struct node *n) {
    return n->kind == NODE_SCALAR && n->plain &&
           (n->text.len == 0 || str_eq(n->text, STR("~")) || str_ieq(n->text, STR("null")));
}

static struct mark mark_of(yaml_mark_t m) { return (struct mark){(unsigned)m.line + 1, (unsigned)m.column + 1}; }

static bool is_before(struct mark a, struct mark b) {
    return a.line < b.line || (a.line == b.line && a.column < b.column);
}

static enum err refuse(struct builder *b, struct mark at, const char *text) {
    problem_begin(b->problem, b->file, at);
    problem_add(b->problem, "%s", text);
    return ERR_INVALID;
}

// ---- What libyaml refused --------------------------------------------------------------------------------

static struct str line_of(struct str text, size_t line) {
    struct str part = {NULL, 0};
    for (size_t i = 0; i <= line; i++) {
        if (!str_split(&text, '\n', &part)) {
            return (struct str){NULL, 0};
        }
    }
    return part;
}

static bool indented_by_tab(struct str line) {
    for (size_t i = 0; i < line.len && (line.ptr[i] == ' ' || line.ptr[i] == '\t'); i++) {
        if (line.ptr[i] == '\t') {
            return true;
        }
    }
    return false;
}

// libyaml says what it found; these say what to do about it.
static const char *advice(const char *problem, struct str line) {
    static const struct {
        const char *problem;
        const char *in_line; // only where the line contains it
        const char *advice;
    } table[] = {
        {"did not find expected ',' or ']'", "${", "inside [ ] write \"${NAME}\", with quotes"},
        {"did not find expected ',' or '}'", "${", "inside { } write \"${NAME}\", with quotes"},
        {"did not find expected ',' or '}'", "{{", "inside { } a text with {{name}} needs quotes"},
        {"mapping values are not allowed in this context", "",
         "is the line above complete and the indentation right? A value with ': ' in it needs quotes"},
        {"found character that cannot start any token", "", "a value that begins with @, % or ` needs quotes"},
        {"did not find expected key", "", "is the indentation right?"},
        {"could not find expected ':'", "", "a key is followed by ':' and a blank"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(problem, table[i].problem) == 0 &&
            (!*table[i].in_line || str_search(line, str_c(table[i].in_line)) < line.len)) {
            return table[i].advice;
        }
    }
    return NULL;
}

static enum err syntax_error(struct builder *b) {
    const yaml_parser_t *p = &b->parser;
    const char *said = p->problem ? p->problem : "this is not YAML";
    struct str line = line_of(b->text, p->problem_mark.line);
    if (indented_by_tab(line)) {
        return refuse(b, mark_of(p->problem_mark), "a tab at the beginning of the line: YAML indents with spaces");
    }
    const char *hint = advice(said, line);
    (void)refuse(b, mark_of(p->problem_mark), said);
    struct mark begun = mark_of(p->context_mark);
    if (p->context && is_before(begun, mark_of(p->problem_mark))) {
        problem_add(b->problem, " %s that begins at %u:%u", p->context, begun.line, begun.column);
    }
    if (hint) {
        problem_add(b->problem, "; %s", hint);
    }
    return ERR_INVALID;
}

// Bytes that are no text at all: libyaml gives an offset only.
static enum err reader_error(struct builder *b) {
    struct mark at = {1, 1};
    for (size_t i = 0; i < b->parser.problem_offset && i < b->text.len; i++) {
        if (b->text.ptr[i] == '\n') {
            at = (struct mark){at.line + 1, 1};
        } else if (((unsigned char)b->text.ptr[i] & 0xc0) != 0x80) {
            at.column++;
        }
    }
    return refuse(b, at, b->parser.problem ? b->parser.problem : "this is not text");
}

static enum err parser_failed(struct builder *b) {
    switch (b->parser.error) {
    case YAML_MEMORY_ERROR: return problem_nomem(b->problem, b->file);
    case YAML_READER_ERROR: return reader_error(b);
    case YAML_NO_ERROR:
    case YAML_SCANNER_ERROR:
    case YAML_PARSER_ERROR:
    case YAML_COMPOSER_ERROR:
    case YAML_WRITER_ERROR:
    case YAML_EMITTER_ERROR: break;
    }
    return syntax_error(b);
}

// ---- Building --------------------------------------------------------------------------------------------

static enum err new_node(struct builder *b, enum node_kind kind, const yaml_event_t *event, struct node **node) {
    struct node *n = arena_alloc(b->arena, sizeof *n);
    if (!n) {
        return problem_nomem(b->problem, b->file);
    }
    n->kind = kind;
    n->mark = mark_of(event->start_mark);
    *node = n;
    return OK;
}

static enum err check_key(struct builder *b, const struct node *key) {
    if (key->kind != NODE_SCALAR) {
        return refuse(b, key->mark,
                      "a key must be a word, not a list or map; a value that begins with { or [ needs quotes");
    }
    if (key->plain && str_eq(key->text, STR("<<"))) {
        return refuse(b, key->mark, "merge keys (<<) are not supported: write the values out");
    }
    return OK;
}

static void append(struct node *container, struct node *n) {
    if (container->last) {
        container->last->next = n;
    } else {
        container->first = n;
    }
    container->last = n;
    container->count++;
}

// Puts a node where it belongs: the root, the next entry, a key, or the value of the last key.
static enum err attach(struct builder *b, struct node *n) {
    struct node *container = b->depth ? b->open[b->depth - 1] : NULL;
    if (!container) {
        b->root = n;
    } else if (container->kind == NODE_MAP && container->last && !container->last->value) {
        container->last->value = n;
    } else {
        enum err e = container->kind == NODE_MAP ? check_key(b, n) : OK;
        if (e != OK) {
            return e;
        }
        append(container, n);
    }
    return OK;
}

static enum err refuse_extras(struct builder *b, const yaml_event_t *event, const yaml_char_t *anchor,
                              const yaml_char_t *tag) {
    if (anchor) {
        return refuse(b, mark_of(event->start_mark),
                      "anchors (&) are not supported: a value that begins with & needs quotes");
    }
    if (tag) {
        return refuse(b, mark_of(event->start_mark),
                      "tags (!) are not supported: a value that begins with ! needs quotes");
    }
    return OK;
}

static enum err on_scalar(struct builder *b, const yaml_event_t *event) {
    struct node *n = NULL;
    enum err e = refuse_extras(b, event, event->data.scalar.anchor, event->data.scalar.tag);
    if (e != OK || (e = new_node(b, NODE_SCALAR, event, &n)) != OK) {
        return e;
    }
    n->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->text = arena_str(b->arena, str_from((const char *)event->data.scalar.value, event->data.scalar.length));
    return n->text.ptr ? attach(b, n) : problem_nomem(b->problem, b->file);
}

static enum err on_open(struct builder *b, enum node_kind kind, const yaml_event_t *event, const yaml_char_t *anchor,
                        const yaml_char_t *tag) {
    struct node *n = NULL;
    if (b->depth == YAML_DEPTH_MAX) {
        return refuse(b, mark_of(event->start_mark), "nested too deeply");
    }
    enum err e = refuse_extras(b, event, anchor, tag);
    if (e != OK || (e = new_node(b, kind, event, &n)) != OK || (e = attach(b, n)) != OK) {
        return e;
    }
    b->open[b->depth++] = n;
    return OK;
}

static int by_text_then_place(const void *left, const void *right) {
    const struct node *a = *(const struct node *const *)left;
    const struct node *b = *(const struct node *const *)right;
    int order = memcmp(a->text.ptr, b->text.ptr, MIN(a->text.len, b->text.len));
    if (order == 0 && a->text.len != b->text.len) {
        order = a->text.len < b->text.len ? -1 : 1;
    }
    return order ? order : is_before(a->mark, b->mark) ? -1 : 1;
}

// Sorted, not compared each with each: a file of four megabytes may be one map.
static enum err check_duplicates(struct builder *b, const struct node *map) {
    if (map->count < 2) {
        return OK;
    }
    const struct node **keys = arena_alloc(b->arena, map->count * sizeof *keys);
    if (!keys) {
        return problem_nomem(b->problem, b->file);
    }
    unsigned n = 0;
    for (const struct node *key = map->first; key; key = key->next) {
        keys[n++] = key;
    }
    qsort(keys, n, sizeof *keys, by_text_then_place);
    const struct node *second = NULL; // the first in the file of those that were there before
    const struct node *first = NULL;
    for (unsigned i = 1; i < n; i++) {
        if (str_eq(keys[i - 1]->text, keys[i]->text) && (!second || is_before(keys[i]->mark, second->mark))) {
            first = keys[i - 1];
            second = keys[i];
        }
    }
    if (!second) {
        return OK;
    }
    (void)refuse(b, second->mark, "");
    problem_quote(b->problem, second->text);
    problem_add(b->problem, " is there twice; the first one is on line %u", first->mark.line);
    return ERR_INVALID;
}

static enum err on_close(struct builder *b) {
    const struct node *n = b->open[--b->depth];
    return n->kind == NODE_MAP ? check_duplicates(b, n) : OK;
}

static enum err on_document(struct builder *b, const yaml_event_t *event) {
    if (b->documents) {
        return refuse(b, mark_of(event->start_mark), "a second document (---): one file is one configuration");
    }
    b->documents = true;
    return OK;
}

static enum err on_event(struct builder *b, const yaml_event_t *event) {
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT: return on_document(b, event);
    case YAML_SCALAR_EVENT: return on_scalar(b, event);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(b, NODE_LIST, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return on_open(b, NODE_MAP, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: return on_close(b);
    case YAML_ALIAS_EVENT:
        return refuse(b, mark_of(event->start_mark),
                      "aliases (*) are not supported: a value that begins with * needs quotes");
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT: break;
    }
    return OK;
}

static enum err run(struct builder *b) {
    bool end = false;
    enum err e = OK;
    while (e == OK && !end) {
        yaml_event_t event;
        if (!yaml_parser_parse(&b->parser, &event)) {
            return parser_failed(b);
        }
        e = on_event(b, &event);
        end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    return e;
}

static enum err finish_root(struct builder *b, struct node **root) {
    if (!b->root || node_is_null(b->root)) { // nothing but comments
        struct node *empty = arena_alloc(b->arena, sizeof *empty);
        if (!empty) {
            return problem_nomem(b->problem, b->file);
        }
        *empty = (struct node){.kind = NODE_MAP, .mark = {1, 1}};
        b->root = empty;
    }
    *root = b->root;
    return OK;
}

enum err yaml_tree(const char *file, struct str text, struct arena *arena, struct node **root,
                   struct config_problem *problem) {
    struct builder b = {.file = file, .text = text, .arena = arena, .problem = problem};
    if (text.len > CONFIG_FILE_MAX) {
        (void)refuse(&b, (struct mark){0, 0}, "");
        problem_add(problem, "larger than %d bytes", CONFIG_FILE_MAX);
        return ERR_FULL;
    }
    if (!yaml_parser_initialize(&b.parser)) {
        return problem_nomem(problem, file);
    }
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)(text.ptr ? text.ptr : ""), text.len);
    enum err e = run(&b);
    yaml_parser_delete(&b.parser);
    return e == OK ? finish_root(&b, root) : e;
}
