// SPDX-License-Identifier: MIT
// The table of verbs.
#include "cmd/verbs.h"

static const struct verb *const verbs[] = {&verb_serve, &verb_mock, &verb_probe, &verb_lab, &verb_plan};

static void print_help(FILE *out) {
    fprintf(out, "thaw %s: keeps LLM apps from freezing\n\nusage: thaw VERB [options]\n\n", THAW_VERSION);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        fprintf(out, "  %-8s %s\n", verbs[i]->name, verbs[i]->summary);
    }
    fprintf(out, "\n'thaw serve --mock' is a first try, without a key; 'thaw VERB --help' has the\n"
                 "options and an example, 'thaw --version' the version.\n");
}

int main(int argc, char **argv) {
    const char *names[ARRAY_LEN(verbs)];
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        names[i] = verbs[i]->name;
        if (strcmp(argv[1], verbs[i]->name) == 0) {
            return verbs[i]->run(verbs[i], argc - 2, argv + 2);
        }
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return EXIT_FINE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("thaw %s\n", THAW_VERSION);
        return EXIT_FINE;
    }
    const char *near = str_nearest(str_c(argv[1]), names, ARRAY_LEN(names));
    fprintf(stderr, "thaw: unknown verb '%s'%s%s%s\n", argv[1],
            near ? "; did you mean '" : "; 'thaw --help' lists them", near ? near : "", near ? "'?" : "");
    return EXIT_USAGE;
}
