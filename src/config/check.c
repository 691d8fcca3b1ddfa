// SPDX-License-Identifier: MIT
// A tree over the configuration it changes, by the table of keys; then what only holds for the whole. Keys
// are taken in the order of the file and the first problem ends it, so that a person mends a file from the
// top.
#include "config/address.h"
#include "config/reader.h"

#include <assert.h>

#include "base/mem.h"

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
        [SHAPE_ENTRIES] = "a map of keys and values, or a list of such",
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

static const struct node *find_key(const struct node *map, const char *name) {
    for (const struct node *key = map->first; key; key = key->next) {
        if (str_eq(key->text, str_c(name))) {
            return key;
        }
    }
    return NULL;
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

// ---- Recipes

// Below the prefix; gateway/steps.c answers them.
static const char *const own_paths[] = {"/chat/completions", "/completions", "/embeddings", "/responses",
                                        "/messages",         "/models",      "/parallel",   "/tapes"};

// Is it such a path, or does it lie below one?
static bool is_own_path(const struct config *c, struct str path) {
    struct str below = str_starts(path, c->prefix) ? str_skip(path, c->prefix.len) : STR("");
    for (size_t i = 0; i < ARRAY_LEN(own_paths); i++) {
        struct str own = str_c(own_paths[i]);
        if (str_starts(below, own) && (below.len == own.len || below.ptr[own.len] == '/')) {
            return true;
        }
    }
    return str_eq(path, STR("/healthz")) || str_eq(path, STR("/readyz"));
}

static const char own_path_taken[] = "is a path that thaw answers itself: choose another one";

static enum err refuse_beside(struct reader *r, const struct place *place, const struct node *key, const char *other,
                              const char *advice) {
    say_place(r, &(struct place){place, key->text, NO_INDEX, key->mark});
    problem_add(r->problem, " cannot stand beside '%s': %s", other, advice);
    return ERR_INVALID;
}

// One call itself, or several.
static enum err check_recipe(struct reader *r, const struct place *place, const void *entry, const struct node *map) {
    static const char *const of_one[] = {"prompt", "system", "model", "max_tokens", "temperature"};
    const struct config_recipe *recipe = entry;
    const struct node *wait = find_key(map, "wait");
    for (size_t i = 0; recipe->call_count && i < ARRAY_LEN(of_one); i++) {
        const struct node *key = find_key(map, of_one[i]);
        if (key) {
            return refuse_beside(r, place, key, "calls", "each of the calls has its own");
        }
    }
    if (!recipe->call_count && !recipe->one.prompt.n) {
        return refuse_at(r, place, "needs the key 'prompt' or the key 'calls'");
    }
    if (!recipe->call_count && wait) {
        return refuse_beside(r, place, wait, "prompt", "there is one call to wait for");
    }
    if (recipe->wait.kind == WAIT_FIRST && recipe->wait.first > recipe->call_count) {
        say_place(r, &(struct place){place, wait->text, NO_INDEX, wait->value->mark});
        problem_add(r->problem, " is for the first %u of %u calls", recipe->wait.first, recipe->call_count);
        return ERR_INVALID;
    }
    return OK;
}

// What holds between the keys of an entry; `entry` is read, `map` is where from.
typedef enum err entry_check(struct reader *r, const struct place *place, const void *entry, const struct node *map);
static entry_check *const entry_checks[SECTION_COUNT_OF] = {[SECTION_RECIPE] = check_recipe};

// ---- Entries

static enum err read_entry(struct reader *r, const struct place *place, const struct key *key, void *base,
                           const struct node *name) {
    union config_entry entry;
    const struct node *node = name->value;
    const char *why = name_check(name->text);
    why = why || !key->name_check ? why : key->name_check(name->text);
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
    if (e == OK && entry_checks[key->inner]) {
        e = entry_checks[key->inner](r, &inside, &entry, node);
    }
    if (e == OK && key_add_entry(key, &r->config->arena, base, &entry) != OK) {
        e = no_memory(r);
    }
    return e;
}

// One of those that have no names.
static enum err read_nameless(struct reader *r, const struct place *place, const struct key *key, void *base,
                              const struct node *node) {
    union config_entry entry;
    if (node->kind != NODE_MAP) {
        return refuse_shape(r, place, "a map of keys and values", node);
    }
    memset(&entry, 0, sizeof entry);
    check_defaults(key->inner, &entry);
    enum err e = read_section(r, place, key->inner, &entry, node);
    if (e == OK && key_add_entry(key, &r->config->arena, base, &entry) != OK) {
        e = no_memory(r);
    }
    return e;
}

static enum err read_entries(struct reader *r, const struct place *place, const struct key *key, void *base,
                             const struct node *node) {
    if (node_is_null(node) || (node->kind == NODE_LIST && node->count == 0)) {
        return check_count(r, place, key, 0);
    }
    if (node->kind == NODE_MAP) { // a list of one
        return read_nameless(r, place, key, base, node);
    }
    if (node->kind != NODE_LIST) {
        return wrong_shape(r, place, key, node);
    }
    enum err e = check_count(r, place, key, node->count);
    long index = 0;
    for (const struct node *n = node->first; n && e == OK; n = n->next) {
        struct place entry = {.up = place, .index = index++, .mark = n->mark};
        e = read_nameless(r, &entry, key, base, n);
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
    case SHAPE_ENTRIES: return read_entries(r, place, key, base, node);
    case SHAPE_HEADING: break;
    }
    return ERR_INVALID;
}

static enum err check_required(struct reader *r, const struct place *place, enum section section,
                               const struct node *map) {
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *key = &config_keys[i];
        if (key->section == section && key->presence == PRESENCE_REQUIRED && !find_key(map, key->name)) {
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

static const struct node *find_map(const struct node *root, const char *name) {
    const struct node *key = find_key(root, name);
    return key && key->value->kind == NODE_MAP ? key->value : NULL;
}

// When all is read, for the prefix may stand below the recipes.
static enum err check_recipe_paths(struct reader *r, const struct node *recipes) {
    struct place top = {.name = STR("recipes"), .index = NO_INDEX};
    for (const struct node *name = recipes ? recipes->first : NULL; name; name = name->next) {
        if (is_own_path(r->config, name->text)) {
            return refuse_at(r, &(struct place){&top, name->text, NO_INDEX, name->mark}, own_path_taken);
        }
    }
    return OK;
}

enum err check_tree(struct reader *r, const struct node *root) {
    if (root->kind != NODE_MAP) {
        problem_begin(r->problem, r->file, root->mark);
        problem_add(r->problem, "a configuration is a map of keys and values, not %s", what_it_is(root));
        return ERR_INVALID;
    }
    r->upstreams = find_map(root, "upstreams");
    r->models = find_map(root, "models");
    enum err e = read_section(r, NULL, SECTION_TOP, r->config, root);
    e = e == OK ? check_recipe_paths(r, find_map(root, "recipes")) : e;
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

static void inherit(const struct config *c, enum section section, void *base) {
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *key = &config_keys[i];
        if (key->section == section && key->shape == SHAPE_GROUP) {
            inherit(c, key->inner, base);
        } else if (key->section == section && key->presence == PRESENCE_INHERITED && !key_is_own(key, base)) {
            key_copy(key, base, key_rule(key), c);
        }
    }
}

void check_inherit(struct config *c) {
    for (unsigned i = 0; i < c->upstream_count; i++) {
        struct config_upstream *u = &c->upstreams[i];
        inherit(c, SECTION_UPSTREAM, u);
        u->background_here = u->own & OWN_BACKGROUND ? u->background_here : u->mock;
    }
    for (unsigned i = 0; i < c->client_count; i++) {
        inherit(c, SECTION_CLIENT, &c->clients[i]);
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

static enum err check_http(const struct config *c, struct config_problem *problem) {
    for (unsigned i = 0; i < c->upstream_count; i++) {
        if (c->upstreams[i].h2 && c->upstreams[i].http == HTTP_1) {
            problem_add(problem, "upstreams.");
            problem_name(problem, c->upstreams[i].name);
            problem_add(problem, ": 'http: 1.1' needs a url with http:// or https://; h2c:// is HTTP/2");
            return ERR_INVALID;
        }
    }
    return OK;
}

static enum err check_recipes(const struct config *c, struct config_problem *problem) {
    for (unsigned i = 0; i < c->recipe_count; i++) {
        if (is_own_path(c, c->recipes[i].path)) {
            problem_add(problem, "'recipes.");
            problem_name(problem, c->recipes[i].path);
            problem_add(problem, "' %s", own_path_taken);
            return ERR_INVALID;
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

static bool lets_any_page(const struct config *c) {
    for (unsigned i = 0; i < c->cors_count; i++) {
        if (str_eq(c->cors[i], STR("*"))) {
            return true;
        }
    }
    return false;
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
    bool local = config_is_loopback(host);
    if (!paid || config_has_keys(c) || c->open || (local && !lets_any_page(c))) {
        return OK;
    }
    problem_add(problem, local ? "'cors' has \"*\"" : "listening on ");
    problem_name(problem, local ? STR("") : c->listen);
    problem_add(problem, " with the key of upstream ");
    problem_quote(problem, paid->name);
    problem_add(problem, local ? ": any web page spends your money: name the pages, set keys, or --open"
                               : ": anyone who reaches this port spends your money: set keys, or --open");
    return ERR_INVALID;
}

static bool is_everywhere(struct str host) {
    return host.len == 0 || str_eq(host, STR("0.0.0.0")) || str_eq(host, STR("::"));
}

static enum err check_admin(const struct config *c, struct config_problem *problem) {
    struct str host;
    struct str clients;
    uint16_t port = 0;
    uint16_t clients_port = 0;
    if (str_eq(c->admin, STR("off"))) {
        return OK;
    }
    const char *why = listen_parse(c->admin, &host, &port);
    if (!why && !c->key_count && !config_is_loopback(host)) {
        why =
            "beyond loopback needs 'keys': who presents one of them may administer thaw; those of 'clients' do not do";
    }
    // Else it would have been chosen by thaw, which can do without.
    if (!why && c->admin_asked && !listen_parse(c->listen, &clients, &clients_port) && port && port == clients_port &&
        (str_ieq(host, clients) || is_everywhere(host) || is_everywhere(clients))) {
        why = "is where 'listen' is: give it a port of its own, or off";
    }
    if (why) {
        problem_add(problem, "'admin' %s", why);
    }
    return why ? ERR_INVALID : OK;
}

// ---- No key twice: nobody could tell whose it is

struct owned {
    struct str secret;
    const struct config_client *client; // NULL: one of `keys`
};

// The same ones in the order of the file.
static int by_secret(const void *left, const void *right) {
    const struct owned *a = left;
    const struct owned *b = right;
    int order = memcmp(a->secret.ptr, b->secret.ptr, MIN(a->secret.len, b->secret.len));
    order = order ? order : (a->secret.len > b->secret.len) - (a->secret.len < b->secret.len);
    uintptr_t first = (uintptr_t)a->client;
    uintptr_t second = (uintptr_t)b->client;
    return order ? order : (first > second) - (first < second);
}

static unsigned own_keys(struct owned *owned, const struct config_key *keys, unsigned n,
                         const struct config_client *client) {
    for (unsigned i = 0; i < n; i++) {
        owned[i] = (struct owned){keys[i].secret, client};
    }
    return n;
}

static void say_owner(struct config_problem *problem, const struct config_client *client) {
    problem_add(problem, client ? "'clients." : "'");
    problem_name(problem, client ? client->name : STR(""));
    problem_add(problem, client ? ".keys'" : "keys'");
}

static enum err refuse_twice(struct config_problem *problem, const struct config_client *a,
                             const struct config_client *b) {
    say_owner(problem, a);
    problem_add(problem, a == b ? " has the same key twice" : " has a key that is also in ");
    if (a != b) {
        say_owner(problem, b);
        problem_add(problem, ": a key is one client's");
    }
    return ERR_INVALID;
}

static enum err check_keys(const struct config *c, struct config_problem *problem) {
    size_t n = c->key_count;
    for (unsigned i = 0; i < c->client_count; i++) {
        n += c->clients[i].key_count;
    }
    struct owned *all = n > 1 ? try_malloc(n * sizeof *all) : NULL;
    if (!all) {
        return n > 1 ? problem_nomem(problem, NULL) : OK;
    }
    size_t at = own_keys(all, c->keys, c->key_count, NULL);
    for (unsigned i = 0; i < c->client_count; i++) {
        at += own_keys(all + at, c->clients[i].keys, c->clients[i].key_count, &c->clients[i]);
    }
    enum err e = OK;
    qsort(all, n, sizeof *all, by_secret);
    for (size_t i = 1; i < n && e == OK; i++) {
        if (str_eq(all[i - 1].secret, all[i].secret)) {
            e = refuse_twice(problem, all[i - 1].client, all[i].client);
        }
    }
    free(all);
    return e;
}

enum err config_check(const struct config *c, struct config_problem *problem) {
    problem->text[0] = '\0';
    if (c->upstream_count == 0) {
        problem_add(problem, "nowhere to send calls: set OPENAI_API_KEY, or give --upstream URL, --mock, or a "
                             "--config FILE with upstreams");
        return ERR_INVALID;
    }
    enum err e = check_references(c, problem);
    e = e == OK ? check_http(c, problem) : e;
    e = e == OK ? check_recipes(c, problem) : e;
    e = e == OK ? check_who_may_call(c, problem) : e;
    e = e == OK ? check_admin(c, problem) : e;
    return e == OK ? check_keys(c, problem) : e;
}
