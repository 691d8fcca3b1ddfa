// SPDX-License-Identifier: MIT
// The published table, performed: each row is a lab of its own with users who come in over sockets, all rows side by
// side (they wait, they do not compute). Beside what the users saw stands what plan/ says they would see.
#pragma once
#include "lab/lab.h"
#include "plan/seats.h"

// Seconds; negative: was not published.
struct lab_figures {
    double wall_s, mean_s, max_s;
};

struct lab_row {
    const char *name;
    const char *title;
    const char *path;
    const char *note; // a sentence about the figures
    unsigned users, calls;
    uint64_t service_ms, apart_ms;
    unsigned cpus;  // the default pool is that of a machine with so many
    unsigned seats; // what the arithmetic is told: SEATS_UNLIMITED, 1 for a lock, ...
    bool polled;
    struct lab_figures published;
};

const struct lab_row *lab_row_at(size_t i); // NULL behind the last

struct lab_result {
    const struct lab_row *row;
    double scale;
    struct waits predicted, measured; // as performed: `scale` times as long
    struct sitting *sittings;         // of the calls as the lab told them; times from the row's start
    size_t count;
    double off;        // the largest difference of measured to predicted in wall, mean and max, as a share
    char problem[200]; // "": all users had their answers
};

// A result fails by a problem, or by being that far off.
#define LAB_TOLERANCE 0.05
static inline bool lab_result_fine(const struct lab_result *r) {
    return r->problem[0] == '\0' && r->off <= LAB_TOLERANCE;
}

struct lab_run_options {
    struct lab_upstream upstream; // a thaw mock (model NULL)
    double scale;
    bool (*wanted)(void *context, const struct lab_row *row);
    void (*on_row)(void *context, const struct lab_result *result); // a row is over
    void *context;
};

struct lab_run; // the results

// Runs the loop until all rows are over, or somebody stops it: then what was not over has a problem. NULL: threads,
// ports or libcurl could not be had.
struct lab_run *lab_run(struct loop *loop, const struct lab_run_options *options);
void lab_run_destroy(struct lab_run *run);
// *n of them, in the table's order.
const struct lab_result *lab_run_results(const struct lab_run *run, size_t *n);

// What came of it, appended to `out`.
struct lab_style {
    bool colour;
    bool unicode;
};
MUSTCHECK enum err lab_print_table(struct buf *out, const struct lab_result *v, size_t n,
                                   const struct lab_style *style);
MUSTCHECK enum err lab_print_picture(struct buf *out, const struct lab_result *result, const struct lab_style *style);
MUSTCHECK enum err lab_print_json(struct buf *out, const struct lab_result *v, size_t n);
MUSTCHECK enum err lab_print_html(struct buf *out, const struct lab_result *v, size_t n);
