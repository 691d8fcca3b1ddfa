// SPDX-License-Identifier: MIT
// thaw.example.yaml, printed from the table of keys: what people read is what the program does.
// A comment is "# text"; an option that is off is "#key: value", so that taking the # away turns it on.
#include "config/keys.h"

enum { WIDTH = 100, INDENT = 2, RANGE_COLUMN = 22 };

static const char opening[] =
    "# Every key that thaw reads, with its default. Printed from the table in src/config/keys.def.\n"
    "#\n"
    "# As it stands this file needs two environment variables: THAW_KEY, which your clients present to\n"
    "# thaw, and OPENAI_API_KEY, which thaw presents to OpenAI. A key that shows its default may be left\n"
    "# out. Lines that begin with # and no blank behind it are options that are off: take the # away, and\n"
    "# from the lines below with two blanks behind it, which belong to them.\n"
    "#\n"
    "# ${NAME} in a value is the environment variable NAME; one that is not set, or empty, stops the\n"
    "# start. $${ stands for ${ itself. Inside [ ] and { } write \"${NAME}\", with quotes.\n"
    "# Durations are written 500us, 250ms, 5s, 2m, 1h; sizes 64k, 8m, 1g (1024 each) or in bytes.\n"
    "#\n"
    "# Unknown keys and wrong values stop the start and say where; to try a file without starting:\n"
    "# thaw serve --config FILE --check\n";

// A comment of as many lines as it takes.
static enum err print_comment(struct buf *out, int indent, struct str text) {
    enum err e = OK;
    struct str word = {NULL, 0};
    size_t column = 0; // 0: the line has not begun
    while (e == OK && str_split(&text, ' ', &word)) {
        if (column && column + 1 + word.len > WIDTH) {
            e = buf_str_append(out, STR("\n"));
            column = 0;
        }
        if (e == OK) {
            e = column ? buf_printf(out, " %.*s", STR_ARG(word))
                       : buf_printf(out, "%*s# %.*s", indent, "", STR_ARG(word));
        }
        column += (column ? 1 : (size_t)indent + 2) + word.len;
    }
    return e == OK ? buf_str_append(out, STR("\n")) : e;
}

static enum err print_heading(struct buf *out, const struct key *key) {
    char line[WIDTH + 1];
    memset(line, '-', sizeof line);
    size_t len = strlen(key->text);
    return buf_printf(out, "\n# ---- %s %.*s\n", key->text, (int)(WIDTH - 8 - MIN(len, (size_t)WIDTH - 8)), line);
}

static enum err print_section(struct buf *out, enum section section, int indent);

static enum err print_value(struct buf *out, const struct key *key, int indent) {
    bool off = key->presence == PRESENCE_OPTIONAL || key->presence == PRESENCE_INHERITED;
    const char *sample = key_rule(key)->sample;
    size_t before = buf_len(out);
    enum err e =
        buf_printf(out, "%*s%s%s:%s%s", indent, "", off ? "#" : "", key->name, *sample == '\n' ? "" : " ", sample);
    if (e == OK && key->min && key->shape == SHAPE_SCALAR) {
        int pad = MAX(RANGE_COLUMN - (int)(buf_len(out) - before), 2);
        e = buf_printf(out, "%*s# %s to %s", pad, "", key->min, key->max);
    }
    return e == OK ? buf_str_append(out, STR("\n")) : e;
}

// A map that is off: a # in front of each of its lines.
static enum err print_off(struct buf *out, struct str text) {
    enum err e = OK;
    struct str line;
    while (e == OK && str_split(&text, '\n', &line) && text.ptr) {
        e = buf_printf(out, "#%.*s\n", STR_ARG(line));
    }
    return e;
}

static enum err print_entries(struct buf *out, const struct key *key, int indent) {
    enum err e = buf_printf(out, "%*s%s:\n%*s%s:\n", indent, "", key->name, indent + INDENT, "", key->sample);
    if (e != OK || (e = print_section(out, key->inner, indent + 2 * INDENT)) != OK) {
        return e;
    }
    return buf_printf(out, "%*s%s\n", indent + INDENT, "", key->more);
}

static enum err print_group(struct buf *out, const struct key *key, int indent) {
    enum err e = buf_printf(out, "%*s%s:\n", indent, "", key->name);
    return e == OK ? print_section(out, key->inner, indent + INDENT) : e;
}

static enum err print_map(struct buf *out, const struct key *key, int indent) {
    struct buf off;
    enum err (*print)(struct buf *, const struct key *, int) = key->shape == SHAPE_MAP ? print_entries : print_group;
    if (key->presence != PRESENCE_OPTIONAL) {
        return print(out, key, indent);
    }
    buf_init(&off, CONFIG_FILE_MAX);
    enum err e = print(&off, key, indent);
    e = e == OK ? print_off(out, buf_str(&off)) : e;
    buf_finish(&off);
    return e;
}

static enum err print_key(struct buf *out, const struct key *key, int indent) {
    enum err e = indent == 0 ? buf_str_append(out, STR("\n")) : OK;
    if (key->shape == SHAPE_HEADING) {
        return e == OK ? print_heading(out, key) : e;
    }
    if (e == OK && *key->text) {
        e = print_comment(out, indent, str_c(key->text));
    }
    if (e != OK) {
        return e;
    }
    switch (key->shape) {
    case SHAPE_SCALAR:
    case SHAPE_LIST: return print_value(out, key, indent);
    case SHAPE_GROUP: return print_group(out, key, indent);
    case SHAPE_MAP:
    case SHAPE_ENTRIES: return print_map(out, key, indent);
    case SHAPE_HEADING: break;
    }
    return OK;
}

static enum err print_section(struct buf *out, enum section section, int indent) {
    enum err e = OK;
    for (unsigned i = 0; i < config_key_rows && e == OK; i++) {
        if (config_keys[i].section == section && config_keys[i].presence != PRESENCE_ALSO) {
            e = print_key(out, &config_keys[i], indent);
        }
    }
    return e;
}

enum err config_print_example(struct buf *out) {
    enum err e = buf_append(out, opening, sizeof opening - 1);
    return e == OK ? print_section(out, SECTION_TOP, 0) : e;
}
