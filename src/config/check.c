// SPDX-License-Identifier: MIT
// A tree over the configuration it changes, by the table of keys; then what only holds for the whole. Keys
// are taken in the order of the file and the first problem ends it, so that a person mends a file from the
// top.
#include "config/address.h"
#include "config/reader.h"

#include <assert.h>

// ---- Messages --------------------------------------------------------------------------------------------

static const char *what_it_is(const struct node *node) {
    if (node_is_null(node)) {
        return "nothing";
    }
    switch (node->kind) {
    case NODE_SCALAR: return "a single value";
    case NODE_LIST: return "a list";
    case NODE_MAP: return "a map";
    }
    return "something else";
}

// The value is not shown: what stands where a map should be may well be "key:sk-..." without its blank.
static enum err refuse_shape(struct reader *r, const struct place *place, const char *wanted, const struct node *node) {
    say_place(r, place);
    problem_add(r->problem, " must be %s, not %s", wanted, what_it_is(node));
    return ERR_INVALID;
}

static enum err wrong_shape(struct reader *r, const struct place *place, const struct key *key,
                            const struct node *node) {
    static const char *const shapes[] = {
        [SHAPE_LIST] = "a list (or one value)",
        [SHAPE_GROUP] = "a map of keys and values",
        [SHAPE_MAP] = "a map of names and what they stand for",
    };
    if (key->shape == SHAPE_SCALAR || place->index != NO_INDEX) {
        say_wanted(r, place, key);
        problem_add(r->problem, ", not %s", what_it_is(node));
        return ERR_INVALID;
    }
    return refuse_shape(r, place, shapes[key->shape], node);
}

static enum err check_count(struct reader *r, const struct place *place, const struct key *key, uint64_t count) {
    uint64_t least = 0;
    uint64_t most = 0;
    bool known = parse_u64(str_c(key->min), &least) == OK && parse_u64(str_c(key->max), &most) == OK;
    assert(known);
    (void)known;
    if (count >= least && count <= most) {
        return OK;
    }
    say_place(r, place);
    if (count == 0) {
        problem_add(r->problem, " is empty: give it an entry or leave it out");
    } else {
        problem_add(r->problem, " has more than %s entries", key->max);
    }
    return ERR_INVALID;
}

enum err refuse_unknown(struct reader *r, const struct place *up, struct mark at, enum section section,
                        struct str name) {
    const char *names[KEY_NAMES_MAX];
    size_t n = key_names(section, names);
    const char *near = looks_secret(name) ? NULL : str_nearest(name, names, n);
    problem_begin(r->problem, r->file, at);
    problem_add(r->problem, "unknown key ");
    say_path(r, &(struct place){.up = up, .name = name, .index = NO_INDEX});
    if (near) {
        problem_add(r->problem, "; did you mean '%s'?", near);
        return ERR_INVALID;
    }
    for (size_t i = 0; i < n; i++) {
        problem_add(r->problem, "%s%s", i ? ", " : "; known here: ", names[i]);
    }
    return ERR_INVALID;
}

// ---- Shapes ----------------------------------------------------------------------------------------------

static enum err read_section(struct reader *r, const struct place *place, enum section section, void *base,
                             const struct node *map);

static enum err read_one(struct reader *r, const struct place *place, const struct key *key, void *base,
                         const struct node *node) {
    struct value value;
    if (node->kind != NODE_SCALAR || node_is_null(node)) {
        return wrong_shape(r, place, key, node);
    }
    enum err e = value_expand(r, place, node->text, &value);
    return e == OK ? value_set(r, place, key, base, value) : e;
}

static enum err read_list(struct reader *r, const struct place *place, const struct key *key, void *base,
                          const struct node *node) {
    enum err e = OK;
    if (node_is_null(node) || (node->kind == NODE_LIST && node->count == 0)) {
        return check_count(r, place, key, 0);
    }
    if (node->kind == NODE_SCALAR) { // a list of one
        return read_one(r, place, key, base, node);
    }
    if (node->kind != NODE_LIST) {
        return wrong_shape(r, place, key, node);
    }
    long index = 0;
    for (const struct node *n = node->first; n && e == OK; n = n->next) {
        struct place entry = {.up = place, .index = index++, .mark = n->mark};
        e = read_one(r, &entry, key, base, n);
    }
    return e == OK ? check_count(r, place, key, key_count(key, base)) : e;
}

static enum err read_group(struct reader *r, const struct place *place, const struct key *key, void *base,
                           const struct node *node) {
    if (node_is_null(node)) {
        return OK;
    }
    return node->kind == NODE_MAP ? read_section(r, place, key->inner, base, node) : wrong_shape(r, place, key, node);
}

static enum err read_entry(struct reader *r, const struct place *place, const struct key *key, void *base,
                           const struct node *name) {
    union config_entry entry;
    const struct node *node = name->value;
    const char *why = name_check(name->text);
    if (!why && key->inner == SECTION_UPSTREAM && str_find(name->text, '/') < name->text.len) {
        why = "must not contain a slash: models write upstream/model";
    }
    if (why) {
        return refuse_at(r, &(struct place){place->up, place->name, NO_INDEX, name->mark}, why);
    }
    if (node->kind != NODE_MAP && !node_is_null(node)) {
        return refuse_shape(r, place, "a map of keys and values", node);
    }
    memset(&entry, 0, sizeof entry);
    check_defaults(key->inner, &entry);
    struct str copy = arena_str(&r->config->arena, name->text);
    memcpy((char *)&entry + key->name_offset, &copy, sizeof copy);
    struct place inside = {place->up, place->name, NO_INDEX, name->mark};
    enum err e = copy.ptr ? read_section(r, &inside, key->inner, &entry, node) : no_memory(r);
    if (e == OK && key_add_entry(key, &r->config->arena, base, &entry) != OK) {
        e = no_memory(r);
    }
    return e;
}

static enum err read_map(struct reader *r, const struct place *place, const struct key *key, void *base,
                         const struct node *node) {
    enum err e = OK;
    if (node_is_null(node)) {
        return check_count(r, place, key, 0);
    }
    if (node->kind != NODE_MAP) {
        return wrong_shape(r, place, key, node);
    }
    e = check_count(r, place, key, node->count);
    for (const struct node *name = node->first; name && e == OK; name = name->next) {
        struct place entry = {.up = place, .name = name->text, .index = NO_INDEX, .mark = name->value->mark};
        e = read_entry(r, &entry, key, base, name);
    }
    return e;
}

static enum err read_key(struct reader *r, const struct place *place, const struct key *key, void *base,
                         const struct node *node) {
    switch (key->shape) {
    case SHAPE_SCALAR: return read_one(r, place, key, base, node);
    case SHAPE_LIST: return read_list(r, place, key, base, node);
    case SHAPE_GROUP: return read_group(r, place, key, base, node);
    case SHAPE_MAP: return read_map(r, place, key, base, node);
    case SHAPE_HEADING: break;
    }
    return ERR_INVALID;
}

static bool has_key(const struct node *map, struct str name) {
    for (const struct node *key = map->first; key; key = key->next) {
        if (str_eq(key->text, name)) {
            return true;
        }
    }
    return false;
}

static enum err check_required(struct reader *r, const struct place *place, enum section section,
                               const struct node *map) {
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *key = &config_keys[i];
        if (key->section == section && key->presence == PRESENCE_REQUIRED && !has_key(map, str_c(key->name))) {
            say_place(r, place);
            problem_add(r->problem, " needs the key '%s'", key->name);
            return ERR_INVALID;
        }
    }
    return OK;
}

// `place` is NULL at the top; `map` may be a value that was left out.
static enum err read_section(struct reader *r, const struct place *place, enum section section, void *base,
                             const struct node *map) {
    enum err e = OK;
    for (const struct node *name = map->first; name && e == OK; name = name->next) {
        const struct key *key = key_find(section, name->text);
        if (!key) {
            return refuse_unknown(r, place, name->mark, section, name->text);
        }
        struct place here = {.up = place, .name = name->text, .index = NO_INDEX, .mark = name->value->mark};
        e = read_key(r, &here, key, base, name->value);
    }
    return e == OK && place ? check_required(r, place, section, map) : e;
}

static const struct node *find_upstreams(const struct node *root) {
    for (const struct node *name = root->first; name; name = name->next) {
        if (str_eq(name->text, STR("upstreams")) && name->value->kind == NODE_MAP) {
            return name->value;
        }
    }
    return NULL;
}

enum err check_tree(struct reader *r, const struct node *root) {
    if (root->kind != NODE_MAP) {
        problem_begin(r->problem, r->file, root->mark);
        problem_add(r->problem, "a configuration is a map of keys and values, not %s", what_it_is(root));
        return ERR_INVALID;
    }
    r->upstreams = find_upstreams(root);
    enum err e = read_section(r, NULL, SECTION_TOP, r->config, root);
    if (e == OK) {
        check_inherit(r->config);
    }
    return e;
}

void check_defaults(enum section section, void *base) {
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *key = &config_keys[i];
        if (key->section != section) {
            continue;
        }
        if (key->shape == SHAPE_GROUP) {
            check_defaults(key->inner, base);
        } else if (key->shape == SHAPE_SCALAR && key->presence == PRESENCE_DEFAULT) {
            value_default(key, base);
        }
    }
}

void check_inherit(struct config *c) {
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *key = &config_keys[i];
        if (key->presence != PRESENCE_INHERITED || key->section != SECTION_UPSTREAM_TIMEOUTS) {
            continue;
        }
        for (unsigned u = 0; u < c->upstream_count; u++) {
            if (!(c->upstreams[u].own & 1u << key->own_bit)) {
                memcpy(key_place(key, &c->upstreams[u]), key_place(key_rule(key), c), sizeof(uint64_t));
            }
        }
    }
}

// ---- The whole -------------------------------------------------------------------------------------------

static enum err check_references(const struct config *c, struct config_problem *problem) {
    for (unsigned m = 0; m < c->model_count; m++) {
        for (unsigned u = 0; u < c->models[m].use_count; u++) {
            if (c->models[m].use[u].upstream >= c->upstream_count) {
                problem_add(problem, "models.");
                problem_name(problem, c->models[m].name);
                problem_add(problem, ".use[%u]: there is no such upstream", u);
                return ERR_INVALID;
            }
        }
    }
    return OK;
}

static const struct config_upstream *upstream_with_key(const struct config *c) {
    for (unsigned i = 0; i < c->upstream_count; i++) {
        if (c->upstreams[i].key.len && !c->upstreams[i].mock) {
            return &c->upstreams[i];
        }
    }
    return NULL;
}

static enum err check_who_may_call(const struct config *c, struct config_problem *problem) {
    struct str host;
    uint16_t port;
    const char *why = listen_parse(c->listen, &host, &port);
    if (why) {
        problem_add(problem, "'listen' %s", why);
        return ERR_INVALID;
    }
    const struct config_upstream *paid = upstream_with_key(c);
    if (!paid || c->key_count || c->open || config_is_loopback(host)) {
        return OK;
    }
    problem_add(problem, "listening on ");
    problem_name(problem, c->listen);
    problem_add(problem, " with the key of upstream ");
    problem_quote(problem, paid->name);
    problem_add(problem, ": anyone who reaches this port spends your money: set keys, or --open");
    return ERR_INVALID;
}

enum err config_check(const struct config *c, struct config_problem *problem) {
    problem->text[0] = '\0';
    if (c->upstream_count == 0) {
        problem_add(problem, "nowhere to send calls: set OPENAI_API_KEY, or give --upstream URL, --mock, or a "
                             "--config FILE with upstreams");
        return ERR_INVALID;
    }
    enum err e = check_references(c, problem);
    return e == OK ? check_who_may_call(c, problem) : e;
}
