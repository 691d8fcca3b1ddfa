// SPDX-License-Identifier: MIT
// Command lines: `--name value`, `--name=value`, `--flag`, `-x value`. A verb lists its options in one table; --help is
// made from it. What is wrong is said with the argument and the nearest valid one.
#pragma once
#include "base/str.h"

// Exit codes of every verb (SPEC).
enum { EXIT_FINE = 0, EXIT_EXPECTATION = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3, EXIT_INCONCLUSIVE = 4 };

struct args_option {
    const char *name;  // without the dashes
    char letter;       // 0: none
    const char *value; // what its value is called in --help; NULL: a flag
    const char *text;
};

struct verb {
    const char *name;
    const char *summary; // one line for `thaw --help`
    const char *usage;   // behind "thaw NAME "
    const char *about;   // a paragraph
    const char *example; // whole lines
    const struct args_option *options;
    size_t option_count;
    int (*run)(const struct verb *verb, int argc, char **argv); // argv[0] is the first argument behind the verb
};

struct args {
    const struct verb *verb;
    int argc;
    char **argv;
    int at;
};

enum args_kind { ARGS_OPTION, ARGS_WORD, ARGS_END, ARGS_HELP, ARGS_WRONG };

// The next argument: ARGS_OPTION (*option, *value; value is NULL for flags), ARGS_WORD (*value), ARGS_END, ARGS_HELP (it
// was printed), ARGS_WRONG (said on stderr: exit with EXIT_USAGE).
enum args_kind args_next(struct args *a, const struct args_option **option, const char **value);
// Complains about an option's value on stderr; returns EXIT_USAGE.
int args_wrong(const struct verb *verb, const char *option, const char *value, const char *wanted);
void args_print_help(const struct verb *verb, FILE *out);
