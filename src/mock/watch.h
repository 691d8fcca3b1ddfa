// SPDX-License-Identifier: MIT
// A mock at this moment, as text: who is served, in which seat, who waits and for how long.
#pragma once
#include "mock/mock.h"

enum { WATCH_SAMPLES = 8 };

// What rates are computed from; zeroed to begin with. One for frames or for lines, which come at even intervals.
struct watch {
    struct watch_sample {
        uint64_t ns;
        uint64_t ended; // calls
    } samples[WATCH_SAMPLES];
    unsigned taken;
};

struct watch_size {
    unsigned columns, rows;
    bool colour;
};

// A frame for a terminal: appends the sequences that redraw all of it, at most `rows` lines of at most `columns`
// characters, ASCII. `title` says what is watched.
MUSTCHECK enum err watch_frame(struct watch *w, const struct mock *mock, const char *title,
                               const struct watch_size *size, struct buf *out);
// One line of counts, with its end.
MUSTCHECK enum err watch_line(struct watch *w, const struct mock *mock, struct buf *out);
