// SPDX-License-Identifier: MIT
#include "cmd/args.h"

enum { OPTIONS_MAX = 64, HELP_COLUMN = 26 };

void args_print_help(const struct verb *verb, FILE *out) {
    fprintf(out, "thaw %s: %s\n\nusage: thaw %s %s\n\n%s\n\noptions:\n", verb->name, verb->summary, verb->name,
            verb->usage, verb->about);
    for (size_t i = 0; i < verb->option_count; i++) {
        const struct args_option *o = &verb->options[i];
        char left[64];
        char letter[6] = "    ";
        if (o->letter) {
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        }
        int n =
            snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, o->value ? " " : "", o->value ? o->value : "");
        fprintf(out, "%s%*s%s\n", left, n < HELP_COLUMN ? HELP_COLUMN - n : 1, "", o->text);
    }
    fprintf(out, "      --help%*sthis text\n\nexample:\n%s", HELP_COLUMN - 12, "", verb->example);
}

int args_wrong(const struct verb *verb, const char *option, const char *value, const char *wanted) {
    fprintf(stderr, "thaw %s: --%s wants %s, not '%s'\n", verb->name, option, wanted, value);
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

static enum args_kind unknown(const struct verb *verb, struct str name, const char *argument) {
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
    return ARGS_WRONG;
}

enum args_kind args_next(struct args *a, const struct args_option **option, const char **value) {
    *option = NULL;
    *value = NULL;
    if (a->at >= a->argc) {
        return ARGS_END;
    }
    const char *argument = a->argv[a->at++];
    if (argument[0] != '-' || argument[1] == '\0') {
        *value = argument;
        return ARGS_WORD;
    }
    bool is_long = argument[1] == '-';
    struct str name = is_long ? str_c(argument + 2) : (struct str){NULL, 0};
    size_t equals = str_find(name, '=');
    bool attached = equals < name.len;
    name = str_first(name, equals);
    if (str_eq(name, STR("help")) || (!is_long && strcmp(argument, "-h") == 0)) {
        args_print_help(a->verb, stdout);
        return ARGS_HELP;
    }
    const struct args_option *o = find(a->verb, name, is_long || argument[2] ? '\0' : argument[1]);
    if (!o) {
        return unknown(a->verb, is_long ? name : str_c(argument + 1), argument);
    }
    *option = o;
    if (!o->value) {
        if (attached) {
            fprintf(stderr, "thaw %s: --%s takes no value\n", a->verb->name, o->name);
            return ARGS_WRONG;
        }
        return ARGS_OPTION;
    }
    if (attached) {
        *value = argument + 2 + equals + 1;
    } else if (a->at < a->argc) {
        *value = a->argv[a->at++];
    } else {
        fprintf(stderr, "thaw %s: --%s wants %s behind it\n", a->verb->name, o->name, o->value);
        return ARGS_WRONG;
    }
    return ARGS_OPTION;
}
