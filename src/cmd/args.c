// SPDX-License-Identifier: MIT
#include "cmd/args.h"

enum { OPTIONS_MAX = 64, HELP_COLUMN = 26 };

static void print_help(const struct verb *verb, FILE *out) {
    fprintf(out, "thaw %s: %s\n\nusage: thaw %s %s\n\n%s\n\noptions:\n", verb->name, verb->summary, verb->name,
            verb->usage, verb->about);
    for (size_t i = 0; i < verb->option_count; i++) {
        const struct args_option *o = &verb->options[i];
        char left[64];
        char letter[6] = "    ";
        if (!o->text) {
            continue;
        }
        if (o->letter) {
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        }
        int n =
            snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, o->value ? " " : "", o->value ? o->value : "");
        fprintf(out, "%s%*s%s\n", left, n < HELP_COLUMN ? HELP_COLUMN - n : 1, "", o->text);
    }
    fprintf(out, "      --help%*sthis text\n\nexample:\n%s", HELP_COLUMN - 12, "", verb->example);
}

int args_wrong(const char *verb, const struct args_option *o, const char *value, const char *wanted) {
    fprintf(stderr, "thaw %s: --%s wants %s, not '%s'\n", verb, o->name, wanted, value);
    return EXIT_USAGE;
}

static const struct args_option *find(const struct verb *verb, struct str name, char letter) {
    for (size_t i = 0; i < verb->option_count; i++) {
        const struct args_option *o = &verb->options[i];
        if ((letter && o->letter == letter) || (name.len && str_eq(name, str_c(o->name)))) {
            return o;
        }
    }
    return NULL;
}

static int unknown(const struct verb *verb, struct str name, const char *argument) {
    const char *names[OPTIONS_MAX];
    size_t n = 0;
    for (; n < verb->option_count && n < OPTIONS_MAX - 1; n++) {
        names[n] = verb->options[n].name;
    }
    names[n++] = "help";
    const char *near = str_nearest(name, names, n);
    fprintf(stderr, "thaw %s: unknown option '%.*s'", verb->name, (int)str_find(str_c(argument), '='), argument);
    if (near) {
        fprintf(stderr, "; did you mean '--%s'?\n", near);
    } else {
        fprintf(stderr, "; 'thaw %s --help' lists them\n", verb->name);
    }
    return EXIT_USAGE;
}

// The option that begins an argument; `name` gets its name as written, `value` what is attached to it.
static const struct args_option *option_of(const struct verb *verb, const char *argument, struct str *name,
                                           const char **value) {
    bool is_long = argument[1] == '-';
    *name = str_c(argument + (is_long ? 2 : 1));
    size_t equals = is_long ? str_find(*name, '=') : name->len;
    *value = equals < name->len ? name->ptr + equals + 1 : NULL;
    *name = str_first(*name, equals);
    return find(verb, is_long ? *name : STR(""), !is_long && name->len == 1 ? argument[1] : '\0');
}

// `next` are the `left` arguments behind it; *used is how many of them were taken as values.
static int take_one(const struct verb *verb, const char *argument, char **next, int left, void *options, int *used) {
    struct str name;
    const char *value;
    const struct args_option *o = option_of(verb, argument, &name, &value);
    if (!o) {
        return unknown(verb, name, argument);
    }
    if (!o->value && value) {
        fprintf(stderr, "thaw %s: --%s takes no value\n", verb->name, o->name);
        return EXIT_USAGE;
    }
    *used = 0;
    if (!o->value) {
        return o->take(options, o, NULL);
    }
    int wrong = EXIT_FINE;
    int wanted = strchr(o->value, ' ') ? 2 : 1;
    for (int i = 0; i < wanted && !wrong; i++) {
        value = i == 0 && value ? value : *used < left ? next[(*used)++] : NULL;
        if (!value) {
            fprintf(stderr, "thaw %s: --%s wants %s behind it\n", verb->name, o->name, o->value);
            return EXIT_USAGE;
        }
        wrong = o->take(options, o, value);
    }
    return wrong;
}

int args_take(const struct verb *verb, int argc, char **argv, void *options, const char *word_hint, bool *go) {
    *go = false;
    for (int i = 0; i < argc; i++) {
        const char *argument = argv[i];
        int used = 0;
        bool is_word = argument[0] != '-' || argument[1] == '\0';
        if (is_word && verb->take_word) {
            int wrong = verb->take_word(options, argument);
            if (wrong) {
                return wrong;
            }
            continue;
        }
        if (is_word) {
            fprintf(stderr, "thaw %s: unexpected argument '%s'; %s\n", verb->name, argument, word_hint);
            return EXIT_USAGE;
        }
        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            print_help(verb, stdout);
            return EXIT_FINE;
        }
        int wrong = take_one(verb, argument, argv + i + 1, argc - i - 1, options, &used);
        if (wrong) {
            return wrong;
        }
        i += used;
    }
    *go = true;
    return EXIT_FINE;
}
