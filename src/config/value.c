// SPDX-License-Identifier: MIT
// Scalars: ${NAME} filled in, then checked and stored by their kind. One table of kinds.
//
// What a message may show: never a value that came out of the environment, never one that looks like a secret
// (problem.c). Kinds whose values are secrets, or tend to contain one by mistake (SECRET, CLIENT_KEY, URL, STORE),
// or are people's own words (TEMPLATE), do not show theirs at all.
#include "config/address.h"
#include "config/reader.h"

#include <assert.h>

// NAMES_SEEN: more upstreams than a file may have, so that a hostile one cannot make each of its many references
// walk a long list before that limit is reached. MODELS_SEEN: likewise, as many as it may have.
enum {
    VALUE_MAX = 1 << 20,
    NAME_CAP = 128,
    NAMES_SEEN = 1024,
    MODELS_SEEN = 10000,
    KEEP_MIN_MS = 1000,
    KEEP_MAX_MS = 24 * 3600 * 1000,
    WAIT_FIRST_MAX = 1000,
    IN_FLIGHT_MAX = 1000000,
    EQUALS_MAX = 64,
    WEIGHT_MAX = 100,
};

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

void say_value(struct reader *r, const struct value *value) {
    if (value->variable.len) {
        problem_add(r->problem, "what ${%.*s} holds", STR_ARG(str_first(value->variable, NAME_CAP)));
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

struct word {
    const char *text;
    bool value;
};

struct kind_rules {
    const char *wanted; // "must be <wanted>"
    set_value *set;
    // Of what is stored as it is, without memory of its own: false where it is wrong.
    bool (*read)(const struct key *key, struct str s, void *place);
    enum err (*parse)(struct str s, uint64_t *number); // of numbers
    const char *nought;                                // of uint64_t: a word for 0, outside the range
    const char *(*check)(struct str s);                // of texts: NULL, or why not
    const struct word *words;                          // of words: up to one without a text
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
    say_value(r, value);
    return ERR_INVALID;
}

// "0.25" -> 250: as seconds, which people need not write.
static enum err thousandths_parse(struct str s, uint64_t *thousandths) {
    char text[32];
    if (s.len == 0 || s.len >= sizeof text || ascii_lower(s.ptr[s.len - 1]) == 'm') { // "5m", and an s, has a unit
        return ERR_INVALID;
    }
    memcpy(text, s.ptr, s.len);
    text[s.len] = 's';
    return parse_duration_ms(str_from(text, s.len + 1), thousandths);
}

// "500us", or what parse_duration_ms reads. That one counts whole milliseconds, so of those the thousandths are
// counted here.
enum err duration_us_parse(struct str s, uint64_t *us) {
    struct str unit = str_skip(s, s.len >= 2 ? s.len - 2 : s.len);
    struct str number = str_first(s, s.len - unit.len);
    if (str_ieq(unit, STR("us"))) {
        return parse_u64(number, us);
    }
    if (str_ieq(unit, STR("ms"))) {
        return thousandths_parse(number, us);
    }
    enum err e = parse_duration_ms(s, us);
    return e == OK && __builtin_mul_overflow(*us, 1000, us) ? ERR_FULL : e;
}

static uint64_t from_table(const struct key *key, const char *written) {
    uint64_t number = 0;
    enum err e = rules_of(key)->parse(str_c(written), &number);
    assert(e == OK); // keys.def is tested whole
    (void)e;
    return number;
}

static bool read_number(const struct key *key, struct str s, void *place) {
    const struct key *rule = key_rule(key);
    const char *nought = rules_of(key)->nought;
    uint64_t number;
    if (nought && str_ieq(s, str_c(nought))) {
        *(uint64_t *)place = 0;
        return true;
    }
    if (rules_of(key)->parse(s, &number) != OK || number < from_table(rule, rule->min) ||
        number > from_table(rule, rule->max)) {
        return false;
    }
    if (key->kind == KIND_COUNT) {
        *(unsigned *)place = (unsigned)number;
    } else if (key->kind == KIND_FRACTION) {
        *(double *)place = (double)number / 1000;
    } else {
        *(uint64_t *)place = number;
    }
    return true;
}

static const struct word bool_words[] = {{"true", true}, {"false", false}, {"yes", true}, {"no", false},
                                         {"on", true},   {"off", false},   {NULL, false}};
static const struct word reader_words[] = {{"key", false}, {"id", true}, {NULL, false}};
static const struct word background_words[] = {{"upstream", false}, {"thaw", true}, {NULL, false}};

static bool read_word(const struct key *key, struct str s, void *place) {
    for (const struct word *word = rules_of(key)->words; word->text; word++) {
        if (str_ieq(s, str_c(word->text))) {
            *(bool *)place = word->value;
            return true;
        }
    }
    return false;
}

static bool read_http(const struct key *key UNUSED, struct str s, void *place) {
    static const char *const words[] = {[HTTP_AUTO] = "auto", [HTTP_1] = "1.1", [HTTP_2] = "2"};
    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        if (str_ieq(s, str_c(words[i]))) {
            *(enum config_http *)place = (enum config_http)i;
            return true;
        }
    }
    return false;
}

// "keep 60s" -> "60s"; ptr == NULL when it does not begin with that word and a blank.
static struct str behind_word(struct str s, struct str word) {
    bool there = s.len > word.len && s.ptr[word.len] == ' ' && str_ieq(str_first(s, word.len), word);
    return there ? str_trim(str_skip(s, word.len)) : (struct str){NULL, 0};
}

static bool read_disconnect(const struct key *key UNUSED, struct str s, void *place) {
    struct config_disconnect disconnect = {.action = DISCONNECT_CANCEL};
    struct str keep = behind_word(s, STR("keep"));
    if (str_ieq(s, STR("finish"))) {
        disconnect.action = DISCONNECT_FINISH;
    } else if (keep.ptr) {
        disconnect.action = DISCONNECT_KEEP;
        if (parse_duration_ms(keep, &disconnect.keep_ms) != OK || disconnect.keep_ms < KEEP_MIN_MS ||
            disconnect.keep_ms > KEEP_MAX_MS) {
            return false;
        }
    } else if (!str_ieq(s, STR("cancel"))) {
        return false;
    }
    *(struct config_disconnect *)place = disconnect;
    return true;
}

static bool read_in_flight(const struct key *key UNUSED, struct str s, void *place) {
    struct config_in_flight most = {.automatic = str_ieq(s, STR("auto"))};
    uint64_t number = 0;
    if (!most.automatic && !str_ieq(s, STR("off"))) {
        if (parse_u64(s, &number) != OK || number < 1 || number > IN_FLIGHT_MAX) {
            return false;
        }
        most.limit = (unsigned)number;
    }
    *(struct config_in_flight *)place = most;
    return true;
}

static bool read_wait(const struct key *key UNUSED, struct str s, void *place) {
    struct config_wait wait = {.kind = WAIT_ALL};
    struct str first = behind_word(s, STR("first"));
    uint64_t number = 0;
    if (str_ieq(s, STR("any"))) {
        wait.kind = WAIT_ANY;
    } else if (first.ptr) {
        if (parse_u64(first, &number) != OK || number < 1 || number > WAIT_FIRST_MAX) {
            return false;
        }
        wait = (struct config_wait){.kind = WAIT_FIRST, .first = (unsigned)number};
    } else if (!str_ieq(s, STR("all"))) {
        return false;
    }
    *(struct config_wait *)place = wait;
    return true;
}

static enum err set_plain(struct reader *r, const struct place *place, const struct key *key, void *base,
                          struct value value) {
    return rules_of(key)->read(key, value.text, key_place(key, base)) ? OK : wrong(r, place, key, &value);
}

static enum err keep_text(struct reader *r, const struct key *key, void *base, struct str text) {
    struct str copy = arena_str(&r->config->arena, text);
    if (!copy.ptr) {
        return no_memory(r);
    }
    *(struct str *)key_place(key, base) = copy;
    return OK;
}

static enum err set_text(struct reader *r, const struct place *place, const struct key *key, void *base,
                         struct value value) {
    const char *why = rules_of(key)->check(value.text);
    if (why) {
        return refuse_at(r, place, why);
    }
    return keep_text(r, key, base, value.text);
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

static const char *admin_check(struct str s) { return str_ieq(s, STR("off")) ? NULL : listen_check(s); }

static enum err set_admin(struct reader *r, const struct place *place, const struct key *key, void *base,
                          struct value value) {
    value.text = str_ieq(value.text, STR("off")) ? STR("off") : value.text;
    enum err e = set_text(r, place, key, base, value);
    r->config->admin_asked |= e == OK;
    return e;
}

static enum err set_log(struct reader *r, const struct place *place, const struct key *key, void *base,
                        struct value value) {
    bool off = str_ieq(value.text, STR("off"));
    return off ? keep_text(r, key, base, STR("")) : set_text(r, place, key, base, value);
}

static const char *prefix_check(struct str s) {
    if (s.len > CONFIG_PREFIX_MAX) {
        return "is longer than 128 bytes";
    }
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
    upstream->h2 = url.h2;
    upstream->host = host;
    upstream->port = url.port;
    upstream->base_path = path;
    return OK;
}

// "no upstream is called 'locl'; did you mean 'local'?"
static enum err refuse_name(struct reader *r, const struct place *place, const char *what, const struct value *name,
                            const char *const *names, size_t n) {
    const char *near = str_nearest(name->text, names, n);
    say_at(r, place);
    problem_add(r->problem, "no %s is called ", what);
    say_value(r, name);
    if (near) {
        problem_add(r->problem, "; did you mean ");
        problem_quote(r->problem, str_c(near));
        problem_add(r->problem, "?");
    }
    return ERR_INVALID;
}

// The keys of a map, as far as there is room.
static size_t names_in(const struct node *map, const char **names, size_t room) {
    size_t n = 0;
    for (const struct node *name = map ? map->first : NULL; name && n < room; name = name->next) {
        names[n++] = name->text.ptr; // arena_str puts a terminator behind
    }
    return n;
}

static enum err refuse_reference(struct reader *r, const struct place *place, const struct value *value,
                                 struct str upstream) {
    const char *names[NAMES_SEEN];
    size_t n = names_in(r->upstreams, names, ARRAY_LEN(names));
    enum err e = refuse_name(r, place, "upstream", &(struct value){upstream, value->variable}, names, n);
    if (n == 0) {
        problem_add(r->problem, "; there are no upstreams in this file");
    }
    return e;
}

// "eu/gpt-5*2" -> "eu/gpt-5", 2. A model's own name may have anything but a * in it.
static const char *take_weight(struct str *text, unsigned *weight) {
    size_t star = str_find(*text, '*');
    uint64_t number = 1;
    if (star < text->len &&
        (parse_u64(str_trim(str_skip(*text, star + 1)), &number) != OK || number < 1 || number > WEIGHT_MAX)) {
        return "needs a weight from 1 to 100 behind the *, as in upstream/model*2";
    }
    *text = str_trim(str_first(*text, star));
    *weight = (unsigned)number;
    return NULL;
}

static unsigned find_upstream(const struct reader *r, struct str name) {
    unsigned index = 0;
    for (const struct node *u = r->upstreams ? r->upstreams->first : NULL; u && index < NAMES_SEEN; u = u->next) {
        if (str_eq(u->text, name)) {
            return index;
        }
        index++;
    }
    return NAMES_SEEN;
}

static bool is_used(const struct config_model *model, const struct config_use *use) {
    for (unsigned i = model->use_count; i-- > 0 && model->use[i].rank == use->rank;) {
        if (model->use[i].upstream == use->upstream && str_eq(model->use[i].model, use->model)) {
            return true;
        }
    }
    return false;
}

// upstream/model; the model's own name may have slashes too ("openrouter/meta/llama-4").
static enum err add_use(struct reader *r, const struct place *place, const struct key *key, struct config_model *model,
                        struct value value, unsigned rank) {
    struct config_use use = {.rank = rank};
    const char *why = take_weight(&value.text, &use.weight);
    size_t slash = str_find(value.text, '/');
    struct str name = str_first(value.text, slash);
    use.model = str_skip(value.text, slash + 1);
    why = why || value.text.len ? why : "has nothing where an upstream should be";
    why = why || slash == value.text.len || use.model.len ? why : "names no model behind the slash";
    if (why) {
        return refuse_at(r, place, why);
    }
    use.upstream = find_upstream(r, name);
    if (use.upstream == NAMES_SEEN) {
        return refuse_reference(r, place, &value, name);
    }
    if (is_used(model, &use)) {
        say_place(r, place);
        problem_add(r->problem, " has ");
        say_value(r, &value);
        problem_add(r->problem, " twice: give it a weight, as in upstream/model*2");
        return ERR_INVALID;
    }
    use.model = arena_str(&r->config->arena, use.model);
    return use.model.ptr && key_add_entry(key, &r->config->arena, model, &use) == OK ? OK : no_memory(r);
}

// One, or equals: "eu/gpt-5*2 | us/gpt-5".
static enum err add_reference(struct reader *r, const struct place *place, const struct key *key, void *base,
                              struct value value) {
    struct config_model *model = base;
    struct str rest = value.text;
    unsigned rank = model->use_count ? model->use[model->use_count - 1].rank + 1 : 0;
    const char *why = printable_check(value.text);
    enum err e = why ? refuse_at(r, place, why) : OK;
    struct value one = {.variable = value.variable};
    for (unsigned n = 0; e == OK && str_split(&rest, '|', &one.text); n++) {
        one.text = str_trim(one.text);
        e = n < EQUALS_MAX ? add_use(r, place, key, model, one, rank)
                           : refuse_at(r, place, "has more than 64 equals in one entry");
    }
    return e;
}

// Of a file they are known before they are read.
static bool is_model(const struct reader *r, struct str name) {
    unsigned seen = 0;
    if (!r->models) {
        return config_model_find(r->config, name) != NULL;
    }
    for (const struct node *model = r->models->first; model && seen < MODELS_SEEN; model = model->next) {
        if (str_eq(model->text, name)) {
            return true;
        }
        seen++;
    }
    return false;
}

static enum err refuse_model(struct reader *r, const struct place *place, const struct value *value) {
    const char *names[NAMES_SEEN];
    size_t n = names_in(r->models, names, ARRAY_LEN(names));
    for (unsigned i = 0; !r->models && i < r->config->model_count && n < ARRAY_LEN(names); i++) {
        names[n++] = r->config->models[i].name.ptr;
    }
    return refuse_name(r, place, "model", value, names, n);
}

// Where no models are configured any name is good, as in a request.
static enum err set_model(struct reader *r, const struct place *place, const struct key *key, void *base,
                          struct value value) {
    const char *why = printable_check(value.text);
    if (why) {
        return refuse_at(r, place, why);
    }
    bool any = r->models ? r->models->count == 0 : r->config->model_count == 0;
    if (!any && !is_model(r, value.text)) {
        return refuse_model(r, place, &value);
    }
    return keep_text(r, key, base, value.text);
}

// Its value is not shown: whoever writes another URL there may have a password in it.
static enum err set_store(struct reader *r, const struct place *place, const struct key *key, void *base,
                          struct value value) {
    struct str scheme = STR("sqlite://");
    struct str path = str_skip(value.text, scheme.len);
    if (!str_starts(value.text, scheme)) {
        say_wanted(r, place, key);
        problem_add(r->problem, ": no other store is supported");
        return ERR_INVALID;
    }
    const char *why = path.len ? printable_check(path) : "needs the path of a file behind sqlite://";
    return why ? refuse_at(r, place, why) : keep_text(r, key, base, path);
}

static size_t utf8_length(struct str s) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        n += ((unsigned char)s.ptr[i] & 0xc0) != 0x80;
    }
    return n;
}

static enum err set_template(struct reader *r, const struct place *place, const struct key *key, void *base,
                             struct value value) {
    size_t at = 0;
    struct str text = arena_str(&r->config->arena, value.text);
    if (!value.text.len) {
        return refuse_at(r, place, "must not be empty");
    }
    enum err e = text.ptr ? template_parse(text, &r->config->arena, key_place(key, base), &at) : ERR_NOMEM;
    if (e != ERR_INVALID) {
        return e == OK ? OK : no_memory(r);
    }
    say_place(r, place);
    problem_add(r->problem,
                " has, at character %zu, a {{ that begins no {{name}}: write {{{{ for the braces themselves",
                utf8_length(str_first(text, at)) + 1);
    return ERR_INVALID;
}

static enum err add_origin(struct reader *r, const struct place *place, const struct key *key, void *base,
                           struct value value) {
    const char *why = origin_check(value.text);
    if (why) {
        return refuse_at(r, place, why);
    }
    struct str origin = arena_str(&r->config->arena, value.text);
    if (!origin.ptr || key_add_entry(key, &r->config->arena, base, &origin) != OK) {
        return no_memory(r);
    }
    return OK;
}

static const struct kind_rules kinds[] = {
    [KIND_LISTEN] = {.wanted = "an address and port", .set = set_text, .check = listen_check},
    [KIND_ADMIN] = {.wanted = "an address and port, or off", .set = set_admin, .check = admin_check},
    [KIND_PREFIX] = {.wanted = "a path", .set = set_text, .check = prefix_check},
    [KIND_PATH] = {.wanted = "the path of a file", .set = set_text, .check = printable_check},
    [KIND_URL] = {.wanted = "a URL", .set = set_url},
    [KIND_SECRET] = {.wanted = "a secret", .set = secret_set},
    [KIND_BOOL] = {.wanted = "true or false", .set = set_plain, .read = read_word, .words = bool_words},
    [KIND_COUNT] = {.wanted = "a number", .set = set_plain, .read = read_number, .parse = parse_u64},
    [KIND_SIZE] = {.wanted = "a size (512, 64k, 8m)", .set = set_plain, .read = read_number, .parse = parse_size},
    [KIND_NUMBER] = {.wanted = "a number", .set = set_plain, .read = read_number, .parse = parse_u64},
    [KIND_FRACTION] = {.wanted = "a number (0.25)", .set = set_plain, .read = read_number, .parse = thousandths_parse},
    [KIND_DURATION] = {.wanted = "a duration (250ms, 5s, 2m)",
                       .set = set_plain,
                       .read = read_number,
                       .parse = parse_duration_ms},
    [KIND_DURATION_US] = {.wanted = "a duration (500us, 2ms)",
                          .set = set_plain,
                          .read = read_number,
                          .parse = duration_us_parse},
    [KIND_PAUSE] = {.wanted = "off, or a duration (15s)",
                    .set = set_plain,
                    .read = read_number,
                    .parse = parse_duration_ms,
                    .nought = "off"},
    [KIND_MEMORY] = {.wanted = "auto, or a size (512m, 8g)",
                     .set = set_plain,
                     .read = read_number,
                     .parse = parse_size,
                     .nought = "auto"},
    [KIND_LOG] = {.wanted = "off, stdout, stderr or the path of a file", .set = set_log, .check = printable_check},
    [KIND_IN_FLIGHT] = {.wanted = "off, auto, or a number from 1 to 1000000", .set = set_plain, .read = read_in_flight},
    [KIND_DISCONNECT] = {.wanted = "cancel, finish, or keep and a duration from 1s to 24h (keep 60s)",
                         .set = set_plain,
                         .read = read_disconnect},
    [KIND_WAIT] = {.wanted = "all, any, or first and a number from 1 to 1000 (first 2)",
                   .set = set_plain,
                   .read = read_wait},
    [KIND_READER] = {.wanted = "key or id", .set = set_plain, .read = read_word, .words = reader_words},
    [KIND_BACKGROUND] = {.wanted = "upstream or thaw", .set = set_plain, .read = read_word, .words = background_words},
    [KIND_HTTP] = {.wanted = "auto, 1.1 or 2", .set = set_plain, .read = read_http},
    [KIND_STORE] = {.wanted = "sqlite://PATH", .set = set_store},
    [KIND_MODEL] = {.wanted = "the name of a model", .set = set_model},
    [KIND_TEMPLATE] = {.wanted = "a text", .set = set_template},
    [KIND_CLIENT_KEY] = {.wanted = "a secret", .set = client_key_add},
    [KIND_REFERENCE] = {.wanted = "upstream/model or upstream, or equals with | between them", .set = add_reference},
    [KIND_ORIGIN] = {.wanted = "an origin (https://app.example)", .set = add_origin},
};
_Static_assert(ARRAY_LEN(kinds) == KIND_COUNT_OF, "a kind without a row");

static const struct kind_rules *rules_of(const struct key *key) { return &kinds[key->kind]; }

enum err value_set(struct reader *r, const struct place *place, const struct key *key, void *base, struct value value) {
    enum err e = rules_of(key)->set(r, place, key, base, value);
    if (e == OK && key->own) {
        uint32_t *own = (uint32_t *)(void *)((char *)base + key->own_offset);
        *own |= key->own;
    }
    return e;
}

void value_default(const struct key *key, void *base) {
    const struct kind_rules *rules = rules_of(key);
    if (rules->read) {
        bool good = rules->read(key, str_c(key->sample), key_place(key, base));
        assert(good); // keys.def is tested whole
        (void)good;
    } else {
        assert(rules->check && "a kind that has no defaults");
        *(struct str *)key_place(key, base) = str_c(key->sample);
    }
}
