// SPDX-License-Identifier: MIT
// A prompt with places to fill in: "Summarise: {{text}}". A name is a letter or _, then letters, digits and _ . - ;
// blanks may stand between it and the braces. {{{{ stands for {{ itself; a single brace, and }} outside of a
// place, are text like any other.
#pragma once
#include "base/arena.h"

struct template_part {
    bool is_name;    // `text` is the name of what goes here; otherwise it goes here as it is
    struct str text; // never empty
};
struct template {
    const struct template_part *parts; // in their order
    unsigned n;
};

// Parts point into `text`; the array is the arena's. ERR_INVALID: the {{ at byte *at begins no {{name}}. ERR_NOMEM.
MUSTCHECK enum err template_parse(struct str text, struct arena *arena, struct template *template, size_t *at);
