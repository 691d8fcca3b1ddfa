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
    const char *value; // what its value is called in --help; two of them have a blank between; NULL: a flag
    const char *text;  // fits beside it in 80 columns; NULL: another name, which --help leaves out
    // Takes it into the verb's own struct, called once per value; returns EXIT_FINE or, having said why on stderr,
    // EXIT_USAGE.
    int (*take)(void *options, const struct args_option *o, const char *value);
};

struct verb {
    const char *name;
    const char *summary; // one line for `thaw --help`
    const char *usage;   // behind "thaw NAME "
    const char *about;   // a paragraph
    const char *example; // whole lines
    const struct args_option *options;
    size_t
        option_count; // Takes an argument that is no option and no option's value; as args_option.take. NULL: there are none.
    int (*take_word)(void *options, const char *word);
    int (*run)(const struct verb *verb, int argc, char **argv); // argv[0] is the first argument behind the verb
};

// Takes all arguments, each by its option's `take`. *go is false when there is nothing more to do: --help was printed.
// EXIT_FINE, or EXIT_USAGE with what is wrong said on stderr; `word_hint` ends the complaint about an argument that is no
// option.
int args_take(const struct verb *verb, int argc, char **argv, void *options, const char *word_hint, bool *go);
// Complains about an option's value on stderr; returns EXIT_USAGE.
int args_wrong(const char *verb, const struct args_option *o, const char *value, const char *wanted);
