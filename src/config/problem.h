// SPDX-License-Identifier: MIT
// The text of a struct config_problem, put together piece by piece. Whatever a person wrote goes in through
// problem_quote or problem_name only: they make it printable, cut it, and hold back what looks like a secret.
#pragma once
#include "config/config.h"

// Counted from 1, columns in characters; line 0: no place in particular.
struct mark {
    unsigned line;
    unsigned column;
};

// Starts over: "thaw.yaml:7:3: ", "thaw.yaml: " without a line, nothing without a file.
void problem_begin(struct config_problem *p, const char *file, struct mark at);
void problem_add(struct config_problem *p, const char *format, ...) PRINTF(2, 3);
void problem_quote(struct config_problem *p, struct str written);
void problem_name(struct config_problem *p, struct str written);

// "out of memory", in the file.
MUSTCHECK enum err problem_nomem(struct config_problem *p, const char *file);

// Does this text look like a credential (sk-..., Bearer ..., long and random)?
bool looks_secret(struct str text);
