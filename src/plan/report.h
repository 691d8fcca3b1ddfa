// SPDX-License-Identifier: MIT
// A forecast for people (a sentence, who waits how long, the chain, the picture, what to set instead) and as JSON.
#pragma once
#include "base/buf.h"
#include "plan/forecast.h"
#include "plan/preset.h"

struct plan_style {
    unsigned columns; // 40 or more
    bool unicode;
    bool colour;
    const char *remarks[4]; // lines of the caller's, put at the end; the first NULL ends them
};

MUSTCHECK enum err plan_print_text(struct buf *out, const struct question *q, const struct forecast *f,
                                   const struct plan_style *style);
MUSTCHECK enum err plan_print_json(struct buf *out, const struct question *q, const struct forecast *f);
// The picture alone: how long the n-th of n users has to wait for his answer, against n.
MUSTCHECK enum err plan_print_picture(struct buf *out, const struct question *q, const struct forecast *f,
                                      const struct plan_style *style);
// The table of presets: every runtime and platform, its number, its source.
MUSTCHECK enum err plan_print_presets(struct buf *out, const struct plan_style *style);
