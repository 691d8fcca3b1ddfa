// SPDX-License-Identifier: MIT
// The whole report for a terminal: the headline, the seats chart (a row per user: waiting, then served on a seat, the
// seat's letter and colour; lines from who left it to who sat down), and what there is to say. Svg and HTML show the
// same chart.
#pragma once
#include <stdbool.h>

#include "probe/report.h"

struct picture_options {
    unsigned columns; // of the terminal; 60 to 200 are used; no line is longer, but the command to be copied
    bool ascii;       // no byte above 127
    bool colour;
};

MUSTCHECK enum err picture_write(const struct probe_report *r, const struct picture_options *options, struct buf *out);
// The chart alone, in ASCII or not, without colours: for a block of code in Markdown.
MUSTCHECK enum err picture_chart(const struct probe_report *r, const struct picture_options *options, struct buf *out);
