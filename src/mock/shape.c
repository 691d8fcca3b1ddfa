// SPDX-License-Identifier: MIT
#include "mock/shape.h"

#include "llm/json.h"

enum {
    DEPTH_MAX = 32,     // of a document; what lies deeper is null
    VALUES_MAX = 10000, // of a document, against schemas that refer to themselves more than once
};

// ---- documents from schemas

struct filling {
    struct out out;
    const struct json_value *root; // of the schema, for its $refs
    struct str echo;               // ptr == NULL once it was used
    unsigned left;                 // values that may still be written
};

static void fill(struct filling *f, const struct json_value *schema, unsigned depth);

static bool name_is(const struct json_value *v, const char *name) { return str_eq(json_string(v), str_c(name)); }

static void put_value(struct filling *f, const struct json_value *v) {
    if (f->out.e == OK) {
        f->out.e = json_append_value(f->out.b, v);
    }
}

static double number_of(const struct json_value *schema, const char *name, double otherwise) {
    double n = otherwise;
    return json_number(json_member(schema, name), &n) ? n : otherwise;
}

static const struct format {
    const char *name;
    const char *example;
} formats[] = {
    {"date-time", "2026-01-01T00:00:00Z"},
    {"date", "2026-01-01"},
    {"time", "00:00:00Z"},
    {"duration", "P1D"},
    {"email", "mock@example.com"},
    {"hostname", "example.com"},
    {"ipv4", "127.0.0.1"},
    {"ipv6", "::1"},
    {"uri", "https://example.com/"},
    {"uuid", "00000000-0000-4000-8000-000000000000"},
};

// The bytes of the first `most` characters; *count is how many there are.
static size_t characters(struct str s, double most, double *count) {
    size_t n = 0;
    *count = 0;
    while (n < s.len && *count < most) {
        n++;
        while (n < s.len && ((unsigned char)s.ptr[n] & 0xC0) == 0x80) {
            n++;
        }
        ++*count;
    }
    return n;
}

static void fill_string(struct filling *f, const struct json_value *schema, unsigned depth UNUSED) {
    struct str text = f->echo.ptr ? f->echo : STR("text");
    double most = number_of(schema, "maxLength", 1e18);
    double least = MIN(number_of(schema, "minLength", 0), (double)VALUES_MAX);
    double count = 0;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (name_is(json_member(schema, "format"), formats[i].name)) {
            put_json(&f->out, str_c(formats[i].example));
            return;
        }
    }
    f->echo.ptr = NULL;
    put_text(&f->out, "\"");
    put_escaped(&f->out, str_first(text, characters(text, most, &count)));
    for (; count < least; count++) {
        put_text(&f->out, "x");
    }
    put_text(&f->out, "\"");
}

static void put_number(struct filling *f, double n) {
    char text[40];
    int len = snprintf(text, sizeof text, "%.17g", n);
    put(&f->out, str_from(text, (size_t)len));
}

// The number nearest to 0 that the limits allow, on the grid of `multiple` (0: none).
static double number_within(const struct json_value *schema, double multiple, double step) {
    double least = number_of(schema, "minimum", -1e300);
    double above = number_of(schema, "exclusiveMinimum", -1e300);
    double most = number_of(schema, "maximum", 1e300);
    double below = number_of(schema, "exclusiveMaximum", 1e300);
    double n = MIN(MAX(0, least), most);
    n = n <= above ? MIN(above + step, most) : n;
    n = n >= below ? below - step : n;
    if (multiple > 0 && n / multiple < 1e15 && n / multiple > -1e15) {
        double times = (double)(int64_t)(n / multiple);
        n = n > 0 && times * multiple < n ? (times + 1) * multiple : times * multiple;
    }
    return n;
}

static void fill_integer(struct filling *f, const struct json_value *schema, unsigned depth UNUSED) {
    put_number(f, number_within(schema, MAX(number_of(schema, "multipleOf", 1), 1), 1));
}

static void fill_number(struct filling *f, const struct json_value *schema, unsigned depth UNUSED) {
    double above = number_of(schema, "exclusiveMinimum", -1e300);
    double most = MIN(number_of(schema, "maximum", 1e300), number_of(schema, "exclusiveMaximum", 1e300));
    double step = above > -1e300 && most - above < 2 ? (most - above) / 2 : 1;
    put_number(f, number_within(schema, number_of(schema, "multipleOf", 0), step));
}

static void fill_boolean(struct filling *f, const struct json_value *schema UNUSED, unsigned depth UNUSED) {
    put_text(&f->out, "true");
}

static void fill_null(struct filling *f, const struct json_value *schema UNUSED, unsigned depth UNUSED) {
    put_text(&f->out, "null");
}

static void fill_object(struct filling *f, const struct json_value *schema, unsigned depth) {
    const struct json_value *properties = json_member(schema, "properties");
    const struct json_value *required = json_member(schema, "required");
    size_t n = json_is_array(required) ? json_length(required) : 0;
    put_text(&f->out, "{");
    for (size_t i = 0; i < n && f->left; i++) {
        struct str name = json_string(json_item(required, i));
        put(&f->out, i ? STR(", ") : STR(""));
        put_json(&f->out, name);
        put_text(&f->out, ": ");
        fill(f, json_find(properties, name), depth);
    }
    put_text(&f->out, "}");
}

static void fill_array(struct filling *f, const struct json_value *schema, unsigned depth) {
    const struct json_value *items = json_member(schema, "items");
    const struct json_value *prefix = json_member(schema, "prefixItems");
    double n = number_of(schema, "minItems", 0);
    put_text(&f->out, "[");
    for (size_t i = 0; (double)i < n && f->left; i++) {
        const struct json_value *own = json_item(prefix, i);
        put(&f->out, i ? STR(", ") : STR(""));
        fill(f, own ? own : items, depth);
    }
    put_text(&f->out, "]");
}

static const struct type {
    const char *name;
    const char *hint; // a member that only schemas of this type have, for those that do not name it
    void (*fill)(struct filling *f, const struct json_value *schema, unsigned depth);
} types[] = {
    {"object", "properties", fill_object}, {"array", "items", fill_array},  {"integer", NULL, fill_integer},
    {"number", "minimum", fill_number},    {"boolean", NULL, fill_boolean}, {"null", NULL, fill_null},
    {"string", NULL, fill_string}, // last: also what says nothing about its type
};

static const struct type *type_of(const struct json_value *schema) {
    const struct json_value *type = json_member(schema, "type");
    if (json_is_array(type)) { // the first; the second where that is null
        bool null = name_is(json_item(type, 0), "null") && json_length(type) > 1;
        type = json_item(type, null);
    }
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        const char *hint = types[i].hint;
        if (name_is(type, types[i].name) || (!type && hint && json_member(schema, hint))) {
            return &types[i];
        }
    }
    return &types[ARRAY_LEN(types) - 1];
}

// "#/$defs/name"; names with escapes (~1, %25) are not found.
static const struct json_value *follow(const struct json_value *root, struct str reference) {
    struct str part;
    const struct json_value *v = root;
    if (!str_split(&reference, '/', &part) || !str_eq(part, STR("#"))) {
        return NULL;
    }
    while (v && str_split(&reference, '/', &part)) {
        v = json_find(v, part);
    }
    return v;
}

// What the schema stands for: a reference, or the first of several, leads to another one.
static const struct json_value *led_to(const struct filling *f, const struct json_value *schema) {
    static const char *const several[] = {"anyOf", "oneOf", "allOf"};
    struct str reference = json_string(json_member(schema, "$ref"));
    if (reference.ptr) {
        return follow(f->root, reference);
    }
    for (size_t i = 0; i < ARRAY_LEN(several); i++) {
        const struct json_value *first = json_item(json_member(schema, several[i]), 0);
        if (first) {
            return first;
        }
    }
    return NULL;
}

static void fill(struct filling *f, const struct json_value *schema, unsigned depth) {
    const struct json_value *value = json_member(schema, "const");
    value = value ? value : json_item(json_member(schema, "enum"), 0);
    if (f->left) {
        f->left--; // at any depth: an array may want any number of items
    }
    if (depth == 0 || f->left == 0 || f->out.e != OK) {
        put_text(&f->out, "null");
        return;
    }
    const struct json_value *other = led_to(f, schema);
    if (value) {
        put_value(f, value);
    } else if (other) {
        fill(f, other, depth - 1);
    } else {
        type_of(schema)->fill(f, schema, depth - 1);
    }
}

// The text becomes a document; without a schema an object, with the echo in it if `echoed`.
static bool document(struct ask *ask, const struct json_value *schema, bool echoed) {
    struct buf echo = *ask->text;
    buf_init(ask->text, echo.cap);
    struct filling f = {{ask->text, OK}, schema, buf_str(&echo), VALUES_MAX};
    if (schema) {
        fill(&f, schema, DEPTH_MAX);
    } else if (echoed) {
        put_text(&f.out, "{\"text\": ");
        put_json(&f.out, f.echo);
        put_text(&f.out, "}");
    } else {
        put_text(&f.out, "{}");
    }
    buf_finish(&echo);
    ask->fixed = true;
    return f.out.e == OK || ask_refuse(ask, NULL, "the text is too large to be echoed");
}

// ---- tools

// What is told of a tool lies in its `function` (chat), or at the top (responses, messages).
static const struct json_value *tool_body(const struct json_value *tool) {
    const struct json_value *body = json_member(tool, "function");
    return body ? body : tool;
}

static struct str tool_name(const struct json_value *tool) { return json_string(json_member(tool_body(tool), "name")); }

static const struct json_value *tool_schema(const struct json_value *tool) {
    const struct json_value *schema = json_member(tool_body(tool), "parameters");
    return schema ? schema : json_member(tool, "input_schema");
}

// Has it a name and JSON for arguments? The providers' own tools (web search, ...) have not.
static bool tool_is_function(const struct json_value *tool) {
    struct str type = json_string(json_member(tool, "type"));
    return tool_name(tool).len && (!type.ptr || str_eq(type, STR("function")) || tool_schema(tool));
}

// What of a request decides what its answer is.
struct wishes {
    const struct json_value *tools, *tool_choice, *format, *stop;
};

// The tool of that name, or with "any" the first.
static const struct json_value *find_tool(const struct wishes *w, struct str name) {
    for (struct json_each each = json_each(w->tools); !each.named && json_next(&each);) {
        bool wanted = str_eq(name, STR("any")) || str_eq(name, tool_name(each.value));
        if (wanted && tool_is_function(each.value)) {
            return each.value;
        }
    }
    return NULL;
}

// A tool_choice that leaves no choice: the tool's name, or "any". ptr == NULL when it leaves one.
static struct str forced(const struct wishes *w) {
    const struct json_value *choice = w->tool_choice;
    struct str type = json_is_object(choice) ? json_string(json_member(choice, "type")) : json_string(choice);
    if (str_eq(type, STR("required")) || str_eq(type, STR("any"))) {
        return STR("any");
    }
    bool named = json_is_object(choice) && (str_eq(type, STR("function")) || str_eq(type, STR("tool")));
    return named ? tool_name(choice) : (struct str){NULL, 0};
}

static bool refused(const struct wishes *w) {
    const struct json_value *choice = w->tool_choice;
    return name_is(json_is_object(choice) ? json_member(choice, "type") : choice, "none");
}

static bool call_tool(struct ask *ask, const struct json_value *tool) {
    ask->tool = tool_name(tool);
    return document(ask, tool_schema(tool), false);
}

// ---- texts

// What it occurs in ends there at the latest.
static void stop_at(struct ask *ask, struct str sequence, struct str *text) {
    size_t at = sequence.len ? str_search(buf_str(ask->text), sequence) : text->len;
    if (at < text->len) {
        text->len = at;
        ask->stopped = sequence;
        ask->fixed = true;
    }
}

// The first of the stop sequences that occurs ends the text.
static void stop(struct ask *ask, const struct json_value *sequences) {
    struct str text = buf_str(ask->text);
    if (json_is_string(sequences)) {
        stop_at(ask, json_string(sequences), &text);
    }
    for (struct json_each each = json_each(sequences); json_next(&each);) {
        stop_at(ask, json_string(each.value), &text);
    }
    buf_truncate(ask->text, text.len);
}

static bool format_content(struct ask *ask, const struct wishes *w) {
    struct str type = json_string(json_member(w->format, "type"));
    if (str_eq(type, STR("json_schema"))) {
        const struct json_value *named = json_member(w->format, "json_schema");
        const struct json_value *schema = json_member(named ? named : w->format, "schema");
        return json_is_object(schema) ? document(ask, schema, true)
                                      : ask_refuse(ask, "response_format", "a json_schema must have a schema");
    }
    if (str_eq(type, STR("json_object"))) {
        return document(ask, NULL, true);
    }
    stop(ask, w->stop);
    return true;
}

static bool answer_wishes(struct ask *ask, const struct wishes *w, struct str tool) {
    struct str must = ask->tool_answered ? (struct str){NULL, 0} : forced(w);
    const struct json_value *found = NULL;
    if (must.ptr) {
        found = find_tool(w, must);
        if (!found) {
            return ask_refuse(ask, "tool_choice", "tool_choice asks for a tool that is not among the tools");
        }
    } else if (tool.ptr && !ask->tool_answered && !refused(w)) {
        found = find_tool(w, tool);
    }
    return found ? call_tool(ask, found) : format_content(ask, w);
}

bool shape_content(struct ask *ask, struct str tool) {
    struct str tools = ask->members[ASK_TOOLS];
    struct str choice = ask->members[ASK_TOOL_CHOICE];
    if (!tools.ptr && !choice.ptr && !ask->format.ptr && !ask->stop.ptr) {
        return true; // the echo as it is
    }
    struct wishes w = {
        .tools = ask_look_into(ask, tools),
        .tool_choice = ask_look_into(ask, choice),
        .format = ask_look_into(ask, ask->format),
        .stop = ask_look_into(ask, ask->stop),
    };
    return !ask->problem && answer_wishes(ask, &w, tool);
}
