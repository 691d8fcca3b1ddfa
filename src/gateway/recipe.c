// SPDX-License-Identifier: MIT
// The faces of a recipe: its prompts, filled in, are calls to /chat/completions; what is told of their answers is the
// text. A recipe that is one prompt answers {"response":"..."}, one with several {"response":{"summary":"...",...}}.
#include "gateway/recipe.h"

#include "gateway/gather.h"
#include "gateway/steps.h"
#include "llm/compose.h"
#include "llm/json.h"
#include "llm/peek.h"
#include "llm/reply.h"
#include "llm/values.h"

enum { ARENA_EXTRA = 1 << 20, ESCAPED_MAX = 6, MESSAGE_EXTRA = 300, MISSING_MAX = 300 };

static const struct gather_face face_of_one, face_of_many;

// ---- what the request gives

// A recipe in the making.
struct filling {
    struct request *r;
    const struct config_recipe *recipe;
    const struct config_prompt *prompts;
    unsigned count;
    struct value *values; // the names in the prompts, then what else is looked for
    size_t n;
    size_t needed; // the first ones
    struct value *model, *stream;
};
enum { OWN_VALUES = 2 };

static bool exhausted(struct request *r) {
    request_error(r, 503, OUTCOME_EXHAUSTED, NULL, NULL, "There is no memory for the request.");
    return false;
}

static bool too_large(struct request *r) {
    request_error(r, 413, OUTCOME_REFUSED, NULL, NULL,
                  "What is asked for becomes larger than the %zu bytes allowed here (max_body).",
                  (size_t)r->setup->config->max_body);
    return false;
}

static size_t count_names(const struct config_prompt *prompt) { return prompt->system.n + prompt->prompt.n; }

static struct value *add_name(struct filling *f, struct str name) {
    struct value *value = values_find(f->values, f->n, name);
    if (!value) {
        value = &f->values[f->n++];
        value->name = name;
    }
    return value;
}

static void add_names(struct filling *f, const struct template *t) {
    for (unsigned i = 0; i < t->n; i++) {
        if (t->parts[i].is_name) {
            add_name(f, t->parts[i].text);
        }
    }
}

static bool list_names(struct filling *f, struct arena *arena) {
    size_t most = OWN_VALUES;
    for (unsigned i = 0; i < f->count; i++) {
        most += count_names(&f->prompts[i]);
    }
    f->values = arena_alloc(arena, most * sizeof *f->values);
    if (!f->values) {
        return exhausted(f->r);
    }
    for (unsigned i = 0; i < f->count; i++) {
        add_names(f, &f->prompts[i].system);
        add_names(f, &f->prompts[i].prompt);
    }
    f->needed = f->n;
    f->model = add_name(f, STR("model"));
    f->stream = add_name(f, STR("stream"));
    return true;
}

// Said to be JSON. (Other types than a form have been refused by then.)
static bool is_declared_json(const struct request *r) {
    struct str type = fields_value(&r->head->fields, FIELD_CONTENT_TYPE);
    struct str form = STR("application/x-www-form-urlencoded");
    return type.ptr && !str_ieq(str_first(type, form.len), form);
}

// curl's -d says that it is a form, whatever it is.
static bool looks_like_json(struct str body) {
    while (body.len && strchr(" \t\r\n", body.ptr[0])) {
        body = str_skip(body, 1);
    }
    return str_starts(body, STR("{"));
}

static bool refuse_json(struct filling *f, enum err e, struct str twice) {
    struct branch_plan unused;
    struct request *r = f->r;
    switch (e) {
    case ERR_AGAIN:
        request_error(r, 400, OUTCOME_REFUSED, NULL, "duplicate_member", "'%.*s' is there twice.", STR_ARG(twice));
        return false;
    case ERR_INVALID:
        if (!gather_plan_peek(r, &unused, r->whole, NULL)) {
            return false; // it has said where
        }
        break;
    case ERR_FULL: return too_large(r);
    case ERR_NOMEM: return exhausted(r);
    default: break;
    }
    request_error(r, 400, OUTCOME_REFUSED, NULL, NULL, "The body must be a JSON object with a member for each name.");
    return false;
}

static bool read_body(struct filling *f, struct arena *arena) {
    struct request *r = f->r;
    struct str twice = {NULL, 0};
    bool declared = is_declared_json(r);
    enum err e = OK;
    if (r->whole.len && (declared || looks_like_json(r->whole))) {
        e = values_from_json(f->values, f->n, r->whole, arena, &twice);
        return e == OK || refuse_json(f, e, twice);
    }
    e = values_from_form(f->values, f->n, r->whole, VALUE_BODY, arena);
    return e == OK || (e == ERR_FULL ? too_large(r) : exhausted(r));
}

static bool read_query(struct filling *f, struct arena *arena) {
    struct str target = f->r->head->target;
    struct str query = str_skip(target, str_find(target, '?') + 1);
    enum err e = values_from_form(f->values, f->n, query, VALUE_QUERY, arena);
    return e == OK || (e == ERR_FULL ? too_large(f->r) : exhausted(f->r));
}

static bool check_missing(struct filling *f) {
    char names[MISSING_MAX];
    size_t len = 0;
    const struct value *first = NULL;
    char param[80];
    for (size_t i = 0; i < f->needed; i++) {
        const struct value *value = &f->values[i];
        if (!value->given && len + value->name.len + 5 < sizeof names) {
            len +=
                (size_t)snprintf(names + len, sizeof names - len, "%s'%.*s'", first ? ", " : "", STR_ARG(value->name));
        }
        first = first || value->given ? first : value;
    }
    if (!first) {
        return true;
    }
    snprintf(param, sizeof param, "%.*s", STR_ARG(first->name));
    request_error(f->r, 422, OUTCOME_REFUSED, param, "missing_value",
                  "Not given: %.*s. Send it as a member of a JSON object, in a form, or in the query.", (int)len,
                  names);
    return false;
}

static bool read_stream(struct filling *f) {
    static const struct {
        struct str text;
        bool streams;
    } words[] = {{STR_INIT("true"), true}, {STR_INIT("1"), true}, {STR_INIT("false"), false}, {STR_INIT("0"), false}};
    const struct value *value = f->stream;
    f->r->gather->streams = f->recipe->stream;
    if (!value->given) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (str_eq(value->text, words[i].text)) {
            f->r->gather->streams = words[i].streams;
            return true;
        }
    }
    request_error(f->r, 422, OUTCOME_REFUSED, "stream", "invalid_value", "'stream' must be true or false.");
    return false;
}

// ---- the calls

static struct str model_of(const struct filling *f, const struct config_prompt *prompt) {
    const struct config *config = f->r->setup->config;
    return prompt->model.len           ? prompt->model
           : f->model->text.len        ? f->model->text
           : config->default_model.len ? config->default_model
           : config->upstreams[0].mock ? STR("mock")
                                       : STR("");
}

static enum err fill(const struct filling *f, const struct template *t, struct buf *out) {
    enum err e = OK;
    for (unsigned i = 0; e == OK && i < t->n; i++) {
        const struct template_part *part = &t->parts[i];
        e = buf_str_append(out, part->is_name ? values_find(f->values, f->needed, part->text)->text : part->text);
    }
    return e;
}

static enum err compose(const struct filling *f, const struct config_prompt *prompt, struct str model,
                        struct buf *out) {
    struct buf system, text;
    size_t most = f->r->setup->config->max_body;
    buf_init(&system, most);
    buf_init(&text, most);
    buf_init(out, ESCAPED_MAX * (2 * most + model.len) + ARENA_EXTRA);
    enum err e = fill(f, &prompt->system, &system);
    e = e == OK ? fill(f, &prompt->prompt, &text) : e;
    if (e == OK) {
        e = compose_chat(out, model, prompt->system.n ? buf_str(&system) : (struct str){NULL, 0}, buf_str(&text),
                         prompt->own & OWN_MAX_TOKENS ? &prompt->max_tokens : NULL,
                         prompt->own & OWN_TEMPERATURE ? &prompt->temperature : NULL, f->r->gather->streams);
    }
    buf_finish(&system);
    buf_finish(&text);
    return e;
}

static bool plan_call(const struct filling *f, unsigned i, struct str target) {
    struct request *r = f->r;
    const struct config_prompt *prompt = &f->prompts[i];
    struct branch_plan *branch = &r->gather->branches[i];
    struct str model = model_of(f, prompt);
    if (model.len == 0) {
        request_error(r, 422, OUTCOME_REFUSED, "model", "missing_model",
                      "No model is named: set default_model (--model), or name one with \"model\" in the request.");
        return false;
    }
    branch->id = prompt->name.len ? prompt->name : STR("response");
    branch->target = target;
    enum err e = compose(f, prompt, model, &branch->made);
    if (e != OK) {
        return e == ERR_NOMEM ? exhausted(r) : too_large(r);
    }
    return gather_plan_peek(r, branch, buf_str(&branch->made), NULL);
}

static struct str chat_target(const struct request *r, struct arena *arena) {
    static const struct str path = STR_INIT("/chat/completions");
    struct str prefix = r->setup->config->prefix;
    char *room = arena_alloc(arena, prefix.len + path.len);
    if (!room) {
        return (struct str){NULL, 0};
    }
    memcpy(room, prefix.ptr, prefix.len);
    memcpy(room + prefix.len, path.ptr, path.len);
    return str_from(room, prefix.len + path.len);
}

static bool plan_calls(const struct filling *f) {
    struct gather_plan *plan = f->r->gather;
    struct str target = chat_target(f->r, &plan->arena);
    if (!target.ptr) {
        return exhausted(f->r);
    }
    gather_plan_branches(plan, f->count);
    for (unsigned i = 0; i < f->count; i++) {
        if (!plan_call(f, i, target)) {
            return false;
        }
    }
    return true;
}

static unsigned wanted(const struct config_recipe *recipe, unsigned count) {
    switch (recipe->wait.kind) {
    case WAIT_ALL: break;
    case WAIT_ANY: return 1;
    case WAIT_FIRST: return recipe->wait.first;
    }
    return count;
}

enum verdict recipe_look(struct request *r) {
    const struct config *config = r->setup->config;
    const struct config_recipe *recipe = config_recipe_find(config, target_path(r->head->target));
    bool one = recipe->call_count == 0;
    struct filling f = {
        .r = r, .recipe = recipe, .prompts = one ? &recipe->one : recipe->calls, .count = one ? 1 : recipe->call_count};
    struct gather_plan *plan =
        gather_plan_create(one ? &face_of_one : &face_of_many, 3 * config->max_body + ARENA_EXTRA);
    r->gather = plan;
    plan->wanted = wanted(recipe, f.count);
    plan->deadline_ms = recipe->deadline_ms;
    bool fine = list_names(&f, &plan->arena) && read_query(&f, &plan->arena) && read_body(&f, &plan->arena) &&
                check_missing(&f) && read_stream(&f) && plan_calls(&f);
    return fine ? NEXT : DONE;
}

// ---- what comes of it

static void blame_reading(struct branch *b, enum err e) {
    if (e == ERR_INVALID) {
        branch_blame(b, 502, NULL, "answer_not_understood", "The upstream's answer is no chat completion.");
    } else if (e == ERR_FULL) {
        branch_blame(b, 502, NULL, "answer_too_large", "The answer is larger than is allowed here (parallel.answer).");
    } else if (e != OK) {
        branch_blame(b, 503, NULL, NULL, "There was no memory for the answer.");
    }
}

static enum err append_name(const struct branch *b, struct buf *out) {
    enum err e = buf_str_append(out, STR("{\"name\":"));
    return e == OK ? json_append_string(out, b->plan->id) : e;
}

static enum err append_text(struct buf *out, struct str text) {
    enum err e = buf_str_append(out, STR(",\"text\":"));
    return e == OK ? json_append_string(out, text) : e;
}

// An upstream that fails in the middle of a stream says so by an event.
static void look_for_error(struct branch *b, struct str data) {
    struct reply_error said = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct buf room;
    if (str_search(data, STR("\"error\"")) == data.len) {
        return;
    }
    buf_init(&room, MAX(data.len, (size_t)1));
    if (reply_error(data, &room, &said) == OK) {
        branch_blame(b, 502, "upstream_error", "stream_cut", "%.*s",
                     said.message.ptr ? (int)MIN(said.message.len, (size_t)BRANCH_MESSAGE_MAX) : 26,
                     said.message.ptr ? said.message.ptr : "The upstream's stream broke.");
    }
    buf_finish(&room);
}

static enum err chunk(struct branch *b, const struct sse_event *event, struct buf *out) {
    size_t before = buf_len(&b->body);
    enum err e = reply_delta(event->type, event->data, &b->body);
    blame_reading(b, e);
    struct str text = str_skip(buf_str(&b->body), before);
    if (e == OK && text.len == 0) {
        look_for_error(b, event->data);
    }
    if (e != OK || text.len == 0) {
        return ERR_AGAIN;
    }
    e = append_name(b, out);
    e = e == OK ? append_text(out, text) : e;
    return e == OK ? buf_append(out, "}", 1) : e;
}

// The text instead of what it came in.
static void take(struct branch *b) {
    struct buf text;
    enum reply_kind kind;
    if (b->streamed || b->status < 200 || b->status > 299) {
        return;
    }
    buf_init(&text, b->body.cap);
    blame_reading(b, reply_text(buf_str(&b->body), &text, &kind));
    buf_finish(&b->body);
    b->body = text;
}

static enum err append_response(const struct branch *b, struct buf *out) {
    return b->state == BRANCH_DONE ? json_append_string(out, buf_str(&b->body)) : buf_str_append(out, STR("null"));
}

static enum err result(struct branch *b, struct buf *out) {
    enum err e = append_name(b, out);
    if (e == OK && b->state == BRANCH_DONE) {
        e = append_text(out, buf_str(&b->body));
    } else if (e == OK) {
        e = buf_str_append(out, STR(",\"error\":"));
        e = e == OK ? branch_write_error(b, out) : e;
    }
    e = e == OK ? buf_append(out, ",", 1) : e;
    e = e == OK ? branch_write_times(b, out) : e;
    return e == OK ? buf_append(out, "}", 1) : e;
}

static enum err part_of_one(struct gather *g, unsigned n, struct buf *out) {
    if (n > 0) {
        return buf_append(out, "}", 1);
    }
    enum err e = buf_str_append(out, STR("{\"response\":"));
    return e == OK ? append_response(&g->branches[0], out) : e;
}

static enum err append_named(const struct branch *b, struct str before, struct buf *out) {
    enum err e = buf_str_append(out, before);
    e = e == OK ? json_append_string(out, b->plan->id) : e;
    return e == OK ? buf_append(out, ":", 1) : e;
}

// Those that were only cancelled are no errors.
static enum err append_errors(const struct gather *g, struct buf *out) {
    struct str before = STR(",\"errors\":{");
    enum err e = OK;
    for (unsigned i = 0; e == OK && i < g->plan->count; i++) {
        const struct branch *b = &g->branches[i];
        if (b->state == BRANCH_FAILED) {
            e = append_named(b, before, out);
            e = e == OK ? branch_write_error(b, out) : e;
            before = STR(",");
        }
    }
    return e == OK && g->counts[BRANCH_FAILED] ? buf_append(out, "}", 1) : e;
}

static enum err part_of_many(struct gather *g, unsigned n, struct buf *out) {
    if (n < g->plan->count) {
        enum err e = append_named(&g->branches[n], n ? STR(",") : STR("{\"response\":{"), out);
        return e == OK ? append_response(&g->branches[n], out) : e;
    }
    enum err e = buf_append(out, "}", 1);
    e = e == OK ? append_errors(g, out) : e;
    return e == OK ? buf_append(out, "}", 1) : e;
}

// What would have been the answer.
static enum err done(struct gather *g, struct buf *out) {
    enum err e = OK;
    for (unsigned n = 0; e == OK && n <= g->plan->count; n++) {
        e = g->plan->face->part(g, n, out);
    }
    return e;
}

// None was answered: as they all were, where that is one and the same.
static int status(const struct gather *g) {
    int same = 0;
    if (g->counts[BRANCH_DONE]) {
        return 200;
    }
    for (unsigned i = 0; i < g->plan->count; i++) {
        int own = g->branches[i].error->status;
        same = own < 400 || (same && own != same) ? 502 : own;
        if (same != own) {
            break;
        }
    }
    return same;
}

static enum err fail(struct gather *g, struct buf *out) {
    const struct branch *b = gather_first_failed(g);
    char message[BRANCH_MESSAGE_MAX + MESSAGE_EXTRA];
    if (g->plan->count == 1) {
        snprintf(message, sizeof message, "%s", b->error->message);
    } else {
        snprintf(message, sizeof message, "None of the %u prompts was answered; '%.*s': %s", g->plan->count,
                 STR_ARG(str_first(b->plan->id, MESSAGE_EXTRA / 2)), b->error->message);
    }
    return answer_write_error(out, b->error->type, NULL, b->error->code, str_c(message));
}

static const struct gather_face face_of_one = {chunk, take, result, part_of_one, done, status, fail};
static const struct gather_face face_of_many = {chunk, take, result, part_of_many, done, status, fail};
