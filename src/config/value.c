// SPDX-License-Identifier: MIT
// Scalars: ${NAME} filled in, then checked and stored by their kind. One table of kinds.
//
// What a message may show: never a value that came out of the environment, never one under a key whose name
// smells of secrets, never one that looks like a secret (problem.c). Kinds whose values tend to contain one
// by mistake (URL, SECRET, CLIENT_KEY) do not show theirs at all.
#include "config/address.h"
#include "config/reader.h"

#include <assert.h>

// UPSTREAMS_SEEN: more than a file may have, so that a hostile one cannot make each of its many references
// walk a long list before that limit is reached.
enum { VALUE_MAX = 1 << 20, NAME_CAP = 128, UPSTREAMS_SEEN = 1024 };

// ---- Messages --------------------------------------------------------------------------------------------

static void say_steps(struct config_problem *p, const struct place *place) {
    if (place->up) {
        say_steps(p, place->up);
    }
    if (place->index != NO_INDEX) {
        problem_add(p, "[%ld]", place->index);
        return;
    }
    problem_add(p, "%s", place->up ? "." : "");
    problem_name(p, place->name);
}

void say_path(struct reader *r, const struct place *place) {
    problem_add(r->problem, "'");
    say_steps(r->problem, place);
    problem_add(r->problem, "'");
}

void say_place(struct reader *r, const struct place *place) {
    problem_begin(r->problem, r->file, place->mark);
    say_path(r, place);
}

void say_at(struct reader *r, const struct place *place) {
    problem_begin(r->problem, r->file, place->mark);
    say_steps(r->problem, place);
    problem_add(r->problem, ": ");
}

static struct str last_name(const struct place *place) {
    while (place->index != NO_INDEX && place->up) {
        place = place->up;
    }
    return place->name;
}

void say_value(struct reader *r, const struct place *place, const struct value *value) {
    if (value->variable.len) {
        problem_add(r->problem, "what ${%.*s} holds", STR_ARG(str_first(value->variable, NAME_CAP)));
    } else if (names_secret(last_name(place))) {
        problem_add(r->problem, "the value it has (not shown)");
    } else {
        problem_quote(r->problem, value->text);
    }
}

enum err refuse_at(struct reader *r, const struct place *place, const char *text) {
    say_place(r, place);
    problem_add(r->problem, " %s", text);
    return ERR_INVALID;
}

enum err no_memory(struct reader *r) { return problem_nomem(r->problem, r->file); }

// ---- ${NAME} ---------------------------------------------------------------------------------------------

static bool is_name_char(char c, bool first) {
    char lower = ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || c == '_' || (!first && c >= '0' && c <= '9');
}

// The name at the start of "NAME}...", empty if it is none.
static struct str variable_name(struct str s) {
    size_t n = 0;
    while (n < s.len && is_name_char(s.ptr[n], n == 0)) {
        n++;
    }
    return n < s.len && s.ptr[n] == '}' ? str_first(s, n) : str_first(s, 0);
}

static enum err look_up(struct reader *r, const struct place *place, struct str name, struct str *found) {
    char variable[256];
    if (name.len >= sizeof variable) {
        return refuse_at(r, place, "names an environment variable that is too long");
    }
    memcpy(variable, name.ptr, name.len);
    variable[name.len] = '\0';
    const char *value = r->environment ? r->environment(r->context, variable) : getenv(variable);
    *found = str_c(value);
    if (found->len == 0) {
        say_place(r, place);
        problem_add(r->problem, " needs the environment variable %.*s, which is %s", STR_ARG(str_first(name, NAME_CAP)),
                    value ? "empty" : "not set");
        return ERR_INVALID;
    }
    return OK;
}

// The piece of the text at *at that becomes one piece of the value.
static enum err expand_piece(struct reader *r, const struct place *place, struct str text, size_t *at,
                             struct str *piece, struct str *variable) {
    struct str rest = str_skip(text, *at);
    if (str_starts(rest, STR("$${"))) {
        *piece = STR("${");
        *at += 3;
        return OK;
    }
    if (!str_starts(rest, STR("${"))) {
        size_t next = rest.len > 1 ? str_find(str_skip(rest, 1), '$') + 1 : rest.len;
        *piece = str_first(rest, next);
        *at += next;
        return OK;
    }
    struct str name = variable_name(str_skip(rest, 2));
    if (!name.len) {
        return refuse_at(r, place,
                         "has a ${ that begins no name of an environment variable: write ${NAME}, or $${ for "
                         "the characters themselves");
    }
    *at += name.len + 3;
    *variable = variable->len ? *variable : name;
    return look_up(r, place, name, piece);
}

static enum err expand_into(struct reader *r, const struct place *place, struct str text, struct buf *out,
                            struct str *variable) {
    for (size_t at = 0; at < text.len;) {
        struct str piece = {NULL, 0};
        enum err e = expand_piece(r, place, text, &at, &piece, variable);
        if (e != OK) {
            return e;
        }
        e = buf_str_append(out, piece);
        if (e != OK) {
            return e == ERR_FULL ? refuse_at(r, place, "is too long") : no_memory(r);
        }
    }
    return OK;
}

enum err value_expand(struct reader *r, const struct place *place, struct str text, struct value *value) {
    *value = (struct value){.text = text};
    if (str_find(text, '$') == text.len) {
        return OK;
    }
    struct buf out;
    buf_init(&out, VALUE_MAX);
    enum err e = expand_into(r, place, text, &out, &value->variable);
    if (e == OK) {
        value->text = arena_str(r->scratch, buf_str(&out));
        e = value->text.ptr ? OK : no_memory(r);
    }
    buf_finish(&out);
    return e;
}

// ---- Kinds -----------------------------------------------------------------------------------------------

typedef enum err set_value(struct reader *r, const struct place *place, const struct key *key, void *base,
                           struct value value);

struct kind_rules {
    const char *wanted; // "must be <wanted>"
    set_value *set;
    enum err (*parse)(struct str s, uint64_t *number); // of numbers
    const char *(*check)(struct str s);                // of texts: NULL, or why not
};

static const struct kind_rules *rules_of(const struct key *key);

void say_wanted(struct reader *r, const struct place *place, const struct key *key) {
    const struct key *rule = key_rule(key);
    say_place(r, place);
    problem_add(r->problem, " must be %s", rules_of(key)->wanted);
    if (rule->min && key->shape == SHAPE_SCALAR) {
        problem_add(r->problem, " from %s to %s", rule->min, rule->max);
    }
}

static enum err wrong(struct reader *r, const struct place *place, const struct key *key, const struct value *value) {
    say_wanted(r, place, key);
    problem_add(r->problem, ", not ");
    say_value(r, place, value);
    return ERR_INVALID;
}

// "500us", or what parse_duration_ms reads. That one counts whole milliseconds, so 0.5ms is read as 0.5s and
// its thousandths taken for microseconds.
enum err duration_us_parse(struct str s, uint64_t *us) {
    struct str unit = str_skip(s, s.len >= 2 ? s.len - 2 : s.len);
    if (str_ieq(unit, STR("us"))) {
        return parse_u64(str_first(s, s.len - 2), us);
    }
    char text[32];
    if (str_ieq(unit, STR("ms")) && s.len < sizeof text) {
        memcpy(text, s.ptr, s.len - 2);
        text[s.len - 2] = 's';
        return parse_duration_ms(str_from(text, s.len - 1), us);
    }
    enum err e = parse_duration_ms(s, us);
    return e == OK && __builtin_mul_overflow(*us, 1000, us) ? ERR_FULL : e;
}

static void store_number(const struct key *key, void *base, uint64_t number) {
    if (key->kind == KIND_COUNT) {
        *(unsigned *)key_place(key, base) = (unsigned)number;
    } else {
        *(uint64_t *)key_place(key, base) = number;
    }
}

static uint64_t from_table(const struct key *key, const char *written) {
    uint64_t number = 0;
    enum err e = rules_of(key)->parse(str_c(written), &number);
    assert(e == OK); // keys.def is tested whole
    (void)e;
    return number;
}

static enum err set_number(struct reader *r, const struct place *place, const struct key *key, void *base,
                           struct value value) {
    const struct key *rule = key_rule(key);
    uint64_t number;
    if (rules_of(key)->parse(value.text, &number) != OK || number < from_table(rule, rule->min) ||
        number > from_table(rule, rule->max)) {
        return wrong(r, place, key, &value);
    }
    store_number(key, base, number);
    return OK;
}

static bool bool_parse(struct str s, bool *value) {
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"true", true}, {"false", false}, {"yes", true}, {"no", false}, {"on", true}, {"off", false}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (str_ieq(s, str_c(words[i].word))) {
            *value = words[i].value;
            return true;
        }
    }
    return false;
}

static enum err set_bool(struct reader *r, const struct place *place, const struct key *key, void *base,
                         struct value value) {
    bool parsed;
    if (!bool_parse(value.text, &parsed)) {
        return wrong(r, place, key, &value);
    }
    *(bool *)key_place(key, base) = parsed;
    return OK;
}

static enum err set_text(struct reader *r, const struct place *place, const struct key *key, void *base,
                         struct value value) {
    const char *why = rules_of(key)->check(value.text);
    if (why) {
        return refuse_at(r, place, why);
    }
    struct str copy = arena_str(&r->config->arena, value.text);
    if (!copy.ptr) {
        return no_memory(r);
    }
    *(struct str *)key_place(key, base) = copy;
    return OK;
}

static const char *printable_check(struct str s) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c < 0x20 || c == 0x7f) {
            return "must not contain control characters";
        }
    }
    return s.len ? NULL : "must not be empty";
}

const char *name_check(struct str name) {
    if (name.len > NAME_CAP) {
        return "is too long a name";
    }
    return printable_check(name);
}

static const char *listen_check(struct str s) {
    struct str host;
    uint16_t port;
    return listen_parse(s, &host, &port);
}

static const char *prefix_check(struct str s) {
    return str_ends(s, STR("/")) ? "must not end with / (\"\" is no prefix at all)" : path_check(s);
}

static enum err refuse_url(struct reader *r, const struct place *place, const struct value *value, const char *why) {
    const char *scheme = url_guess_scheme(value->text);
    say_place(r, place);
    problem_add(r->problem, " %s", why);
    if (scheme && !value->variable.len && !looks_secret(value->text)) {
        problem_add(r->problem, "; did you mean '%s", scheme);
        problem_name(r->problem, value->text);
        problem_add(r->problem, "'?");
    }
    return ERR_INVALID;
}

static enum err set_url(struct reader *r, const struct place *place, const struct key *key, void *base,
                        struct value value) {
    struct config_upstream *upstream = base;
    struct url url = {0};
    bool mock = str_eq(value.text, STR("mock"));
    const char *why = mock ? NULL : url_parse(value.text, &url);
    if (why) {
        return refuse_url(r, place, &value, why);
    }
    struct str copy = arena_str(&r->config->arena, value.text);
    struct str host = arena_str(&r->config->arena, url.host);
    struct str path = arena_str(&r->config->arena, url.base_path);
    if (!copy.ptr || !host.ptr || !path.ptr) {
        return no_memory(r);
    }
    *(struct str *)key_place(key, base) = copy;
    upstream->mock = mock;
    upstream->tls = url.tls;
    upstream->host = host;
    upstream->port = url.port;
    upstream->base_path = path;
    return OK;
}

static enum err refuse_reference(struct reader *r, const struct place *place, const struct value *value,
                                 struct str upstream) {
    const char *names[UPSTREAMS_SEEN];
    size_t n = 0;
    for (const struct node *u = r->upstreams ? r->upstreams->first : NULL; u && n < ARRAY_LEN(names); u = u->next) {
        names[n++] = u->text.ptr; // arena_str puts a terminator behind
    }
    say_at(r, place);
    problem_add(r->problem, "no upstream is called ");
    say_value(r, place, &(struct value){.text = upstream, .variable = value->variable});
    const char *near = str_nearest(upstream, names, n);
    if (near) {
        problem_add(r->problem, "; did you mean ");
        problem_quote(r->problem, str_c(near));
        problem_add(r->problem, "?");
    } else if (n == 0) {
        problem_add(r->problem, "; there are no upstreams in this file");
    }
    return ERR_INVALID;
}

// upstream/model; the model's own name may have slashes too ("openrouter/meta/llama-4").
static enum err add_reference(struct reader *r, const struct place *place, const struct key *key, void *base,
                              struct value value) {
    size_t slash = str_find(value.text, '/');
    struct str upstream = str_first(value.text, slash);
    struct str model = str_skip(value.text, slash + 1);
    const char *why = printable_check(value.text);
    if (!why && slash < value.text.len && !model.len) {
        why = "names no model behind the slash";
    }
    if (why) {
        return refuse_at(r, place, why);
    }
    unsigned index = 0;
    const struct node *u = r->upstreams ? r->upstreams->first : NULL;
    while (u && index < UPSTREAMS_SEEN && !str_eq(u->text, upstream)) {
        u = u->next;
        index++;
    }
    if (!u || index == UPSTREAMS_SEEN) {
        return refuse_reference(r, place, &value, upstream);
    }
    struct config_use use = {.upstream = index, .model = arena_str(&r->config->arena, model)};
    if (!use.model.ptr || key_add_entry(key, &r->config->arena, base, &use) != OK) {
        return no_memory(r);
    }
    return OK;
}

static const struct kind_rules kinds[] = {
    [KIND_LISTEN] = {"an address and port", set_text, NULL, listen_check},
    [KIND_PREFIX] = {"a path", set_text, NULL, prefix_check},
    [KIND_PATH] = {"the path of a file", set_text, NULL, printable_check},
    [KIND_URL] = {"a URL", set_url, NULL, NULL},
    [KIND_SECRET] = {"a secret", secret_set, NULL, NULL},
    [KIND_BOOL] = {"true or false", set_bool, NULL, NULL},
    [KIND_COUNT] = {"a number", set_number, parse_u64, NULL},
    [KIND_SIZE] = {"a size (512, 64k, 8m)", set_number, parse_size, NULL},
    [KIND_DURATION] = {"a duration (250ms, 5s, 2m)", set_number, parse_duration_ms, NULL},
    [KIND_DURATION_US] = {"a duration (500us, 2ms)", set_number, duration_us_parse, NULL},
    [KIND_CLIENT_KEY] = {"a secret", client_key_add, NULL, NULL},
    [KIND_REFERENCE] = {"upstream/model or upstream", add_reference, NULL, NULL},
};
_Static_assert(ARRAY_LEN(kinds) == KIND_COUNT_OF, "a kind without a row");

static const struct kind_rules *rules_of(const struct key *key) { return &kinds[key->kind]; }

enum err value_set(struct reader *r, const struct place *place, const struct key *key, void *base, struct value value) {
    enum err e = rules_of(key)->set(r, place, key, base, value);
    if (e == OK && key->presence == PRESENCE_INHERITED) {
        uint32_t *own = (uint32_t *)(void *)((char *)base + key->own_offset);
        *own |= 1u << key->own_bit;
    }
    return e;
}

void value_default(const struct key *key, void *base) {
    bool parsed = false;
    switch (key->kind) {
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_DURATION:
    case KIND_DURATION_US: store_number(key, base, from_table(key, key->sample)); return;
    case KIND_BOOL:
        (void)bool_parse(str_c(key->sample), &parsed);
        *(bool *)key_place(key, base) = parsed;
        return;
    case KIND_LISTEN:
    case KIND_PREFIX:
    case KIND_PATH: *(struct str *)key_place(key, base) = str_c(key->sample); return;
    case KIND_URL:
    case KIND_SECRET:
    case KIND_CLIENT_KEY:
    case KIND_REFERENCE:
    case KIND_COUNT_OF: break;
    }
    assert(false && "a kind that has no defaults");
}
