// SPDX-License-Identifier: MIT
// The life of a configuration, and the ways in: a file, a text, options of the command line.
#include "config/config.h"

#include <assert.h>
#include <errno.h>

#include "base/mem.h"
#include "config/address.h"
#include "config/reader.h"

struct config *config_create(void) {
    struct config *c = xcalloc(1, sizeof *c);
    atomic_init(&c->references, 1);
    arena_init(&c->arena, CONFIG_ARENA_CAP);
    check_defaults(SECTION_TOP, c);
    return c;
}

struct config *config_ref(struct config *c) {
    atomic_fetch_add_explicit(&c->references, 1, memory_order_relaxed);
    return c;
}

void config_unref(struct config *c) {
    // Acquire and release: what others did with it is over before it goes.
    if (c && atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) == 1) {
        arena_finish(&c->arena);
        free(c);
    }
}

// ---- Files -----------------------------------------------------------------------------------------------

enum err config_read_text(const char *name, struct str text, config_environment *environment, void *context,
                          struct config **c, struct config_problem *problem) {
    struct arena scratch;
    struct node *root = NULL;
    *c = NULL;
    problem->text[0] = '\0';
    arena_init(&scratch, CONFIG_ARENA_CAP);
    enum err e = yaml_tree(name, text, &scratch, &root, problem);
    if (e == OK) {
        *c = config_create();
        struct reader reader = {.config = *c,
                                .problem = problem,
                                .file = name,
                                .environment = environment,
                                .context = context,
                                .scratch = &scratch};
        e = check_tree(&reader, root);
    }
    if (e != OK) {
        config_unref(*c);
        *c = NULL;
    }
    arena_finish(&scratch);
    return e;
}

static enum err file_problem(const char *path, struct config_problem *problem, const char *text) {
    problem_begin(problem, path, (struct mark){0, 0});
    problem_add(problem, "%s", text);
    return ERR_SYS;
}

// A pipe or /dev/stdin is as good as a file; one that never ends meets the cap.
static enum err read_stream(FILE *f, const char *path, struct buf *out, struct config_problem *problem) {
    enum { STEP = 16 << 10 };
    size_t n = 0;
    do {
        enum err e = buf_reserve(out, STEP);
        if (e == ERR_FULL) {
            (void)file_problem(path, problem, "too large for a configuration");
            return ERR_FULL;
        }
        if (e != OK) {
            return problem_nomem(problem, path);
        }
        errno = 0;
        n = fread(buf_tail(out), 1, STEP, f);
        buf_added(out, n);
    } while (n > 0);
    return ferror(f) ? file_problem(path, problem, strerror(errno)) : OK;
}

enum err config_read_file(const char *path, struct config **c, struct config_problem *problem) {
    struct buf text;
    *c = NULL;
    FILE *f = fopen(path, "re");
    if (!f) {
        return file_problem(path, problem, strerror(errno));
    }
    buf_init(&text, CONFIG_FILE_MAX);
    enum err e = read_stream(f, path, &text, problem);
    fclose(f);
    if (e == OK) {
        e = config_read_text(path, buf_str(&text), NULL, NULL, c, problem);
    }
    buf_finish(&text);
    return e;
}

// ---- Options of the command line -------------------------------------------------------------------------

static struct reader command_line(struct config *c, struct config_problem *problem) {
    problem->text[0] = '\0';
    return (struct reader){.config = c, .problem = problem};
}

static enum err set_key(struct reader *r, const struct place *place, const struct key *key, const char *value) {
    struct config *c = r->config;
    unsigned before = key->shape == SHAPE_LIST ? key_count(key, c) : 0;
    enum err e = value_set(r, place, key, c, (struct value){.text = str_c(value)});
    if (e == OK) {
        check_inherit(c);
    } else if (key->shape == SHAPE_LIST) { // a file of keys may have been added half
        memcpy((char *)c + key->count_offset, &before, sizeof before);
    }
    return e;
}

enum err config_set(struct config *c, const char *name, const char *value, struct config_problem *problem) {
    struct reader r = command_line(c, problem);
    struct str rest = str_c(name);
    struct str part = {NULL, 0};
    struct place places[4]; // no group is deeper
    const struct place *up = NULL;
    enum section section = SECTION_TOP;
    for (unsigned depth = 0; depth < ARRAY_LEN(places) && str_split(&rest, '.', &part); depth++) {
        const struct key *key = key_find(section, part);
        if (!key) {
            return refuse_unknown(&r, up, (struct mark){0, 0}, section, part);
        }
        places[depth] = (struct place){.up = up, .name = part, .index = NO_INDEX};
        up = &places[depth];
        if (!rest.ptr && (key->shape == SHAPE_SCALAR || key->shape == SHAPE_LIST)) {
            return set_key(&r, up, key, value);
        }
        if (!rest.ptr || key->shape != SHAPE_GROUP) {
            return refuse_at(&r, up, "can only be set in a file");
        }
        section = key->inner;
    }
    return refuse_unknown(&r, up, (struct mark){0, 0}, section, part);
}

static bool name_taken(const struct config *c, struct str name) {
    for (unsigned i = 0; i < c->upstream_count; i++) {
        if (str_eq(c->upstreams[i].name, name)) {
            return true;
        }
    }
    return false;
}

// "openai", or "openai-2" where that one is taken.
static struct str free_name(const struct config *c, struct str wanted, char *room, size_t size) {
    struct str name = wanted;
    for (unsigned n = 2; name_taken(c, name); n++) {
        int len = snprintf(room, size, "%.*s-%u", STR_ARG(str_first(wanted, 100)), n);
        name = str_from(room, (size_t)len);
    }
    return name;
}

static enum err set_name(struct reader *r, struct config_upstream *u, struct str given) {
    char room[128];
    struct place place = {.name = STR("--upstream"), .index = NO_INDEX};
    if (given.len) {
        const char *why = name_check(given);
        if (why || str_find(given, '/') < given.len) {
            return refuse_at(r, &place, why ? why : "must not have a name with a slash");
        }
        if (name_taken(r->config, given)) {
            say_at(r, &place);
            problem_add(r->problem, "an upstream called ");
            problem_quote(r->problem, given);
            problem_add(r->problem, " is there already");
            return ERR_INVALID;
        }
    } else {
        given = free_name(r->config, u->mock ? STR("mock") : host_nickname(u->host), room, sizeof room);
    }
    u->name = arena_str(&r->config->arena, given);
    return u->name.ptr ? OK : no_memory(r);
}

static enum err set_member(struct reader *r, struct config_upstream *u, const char *name, struct str value) {
    struct place top = {.name = STR("upstreams"), .index = NO_INDEX};
    struct place entry = {.up = &top, .name = u->name, .index = NO_INDEX};
    struct place place = {.up = &entry, .name = str_c(name), .index = NO_INDEX};
    if (!value.len) {
        return OK;
    }
    return value_set(r, &place, key_find(SECTION_UPSTREAM, str_c(name)), u, (struct value){.text = value});
}

enum err config_add_upstream(struct config *c, struct str name, struct str url, struct str key, struct str ca_file,
                             struct config_problem *problem) {
    struct reader r = command_line(c, problem);
    struct place place = {.name = STR("--upstream"), .index = NO_INDEX};
    struct config_upstream u = {0};
    check_defaults(SECTION_UPSTREAM, &u);
    enum err e = value_set(&r, &place, key_find(SECTION_UPSTREAM, STR("url")), &u, (struct value){.text = url});
    if (e != OK || (e = set_name(&r, &u, name)) != OK || (e = set_member(&r, &u, "key", key)) != OK ||
        (e = set_member(&r, &u, "ca_file", ca_file)) != OK) {
        return e;
    }
    e = key_add_entry(key_find(SECTION_TOP, STR("upstreams")), &c->arena, c, &u);
    if (e != OK) {
        return no_memory(&r);
    }
    check_inherit(c);
    return OK;
}

enum err config_add_mock(struct config *c, struct config_problem *problem) {
    struct str none = {NULL, 0};
    return config_add_upstream(c, none, STR("mock"), none, none, problem);
}

// ---- Looking up

bool config_has_keys(const struct config *c) { return c->key_count || c->client_count; }

static void add_changed(const struct config *running, const struct config *wanted, enum section section,
                        const char *group, struct config_problem *names) {
    for (unsigned i = 0; i < config_key_rows; i++) {
        const struct key *key = &config_keys[i];
        if (key->section != section) {
            continue;
        }
        if (key->shape == SHAPE_GROUP) {
            add_changed(running, wanted, key->inner, key->name, names);
        } else if (key->at_start && !key_same(key, running, wanted)) {
            problem_add(names, "%s%s%s%s", names->text[0] ? ", " : "", group, *group ? "." : "", key->name);
        }
    }
}

bool config_needs_restart(const struct config *running, const struct config *wanted, struct config_problem *names) {
    names->text[0] = '\0';
    add_changed(running, wanted, SECTION_TOP, "", names);
    return names->text[0];
}

const struct config_model *config_model_find(const struct config *c, struct str name) {
    for (unsigned i = 0; i < c->model_count; i++) {
        if (str_eq(c->models[i].name, name)) {
            return &c->models[i];
        }
    }
    return NULL;
}

const struct config_route *config_route_find(const struct config *c, struct str path) {
    const struct config_route *best = NULL;
    for (unsigned i = 0; i < c->route_count; i++) {
        const struct config_route *route = &c->routes[i];
        bool open = str_ends(route->path, STR("*"));
        if (!open && str_eq(route->path, path)) {
            return route;
        }
        if (open && str_starts(path, str_first(route->path, route->path.len - 1)) &&
            (!best || route->path.len > best->path.len)) {
            best = route;
        }
    }
    return best;
}

const struct config_recipe *config_recipe_find(const struct config *c, struct str path) {
    static const struct template_part prompt = {.is_name = true, .text = STR_INIT("prompt")};
    static const struct config_recipe chat = {.path = STR_INIT("/chat"), .one = {.prompt = {&prompt, 1}}};
    for (unsigned i = 0; i < c->recipe_count; i++) {
        if (str_eq(c->recipes[i].path, path)) {
            return &c->recipes[i];
        }
    }
    return str_eq(path, chat.path) ? &chat : NULL;
}
