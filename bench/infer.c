// SPDX-License-Identifier: MIT
// How often the prober is right: every mechanism, simulated with a machine's noise, probed from beginning to end.
//
//     thaw-bench-infer [RUNS [FILTER]]
//
// Prints a row per mechanism: verdicts that are bare and right, bare and wrong, inconclusive with the right `likely`,
// inconclusive with another; calls spent; CPU time of a whole probe. A line per run that was wrong goes to stderr.
#include <stdio.h>
#include <time.h>

#include "base/str.h"
#include "sim.h"

struct row {
    const char *name;
    struct sim sim;
    enum probe_model model;
    unsigned at_once;
    unsigned within; // N may be off by so many
    struct procedure_options options;
};

enum { ROWS_MOST = 400 };

static struct row rows[ROWS_MOST];
static size_t row_count;
static char names[ROWS_MOST][48];

static void add(const char *format, double number, struct sim sim, enum probe_model model, unsigned at_once,
                unsigned within) {
    char *name = names[row_count];
    snprintf(name, sizeof names[0], "%s %g, cv %g", format, number, sim.cv);
    sim.service_ms = sim.service_ms > 0 ? sim.service_ms : 200;
    sim.jitter_ms = sim.jitter_ms > 0 ? sim.jitter_ms : 1;
    sim.outliers = sim.outliers > 0 ? sim.outliers : 0.01;
    rows[row_count++] = (struct row){.name = name,
                                     .sim = sim,
                                     .model = model,
                                     .at_once = at_once,
                                     .within = within,
                                     .options = {.sessions = true, .slower = model == PROBE_PARTIAL_LOCK}};
}

static void add_all(double cv, double way_ms) {
    static const unsigned pools[] = {2, 3, 4, 5, 6, 7, 8, 10, 14, 16, 20, 24, 28, 32, 36, 39, 40};
    static const unsigned workers[][2] = {{2, 1}, {3, 1}, {4, 1},  {8, 1},  {2, 2}, {4, 2},
                                          {2, 5}, {4, 5}, {2, 20}, {4, 10}, {8, 5}};
    unsigned within = cv > 0 ? 1 : 0;
    const char *shuffled = way_ms > 0 ? "shuffled " : "";
    char name[32];
#define NAME(text) (snprintf(name, sizeof name, "%s%s", shuffled, text), name)
    add(NAME("unlimited"), 0, (struct sim){.kind = SIM_UNLIMITED, .cv = cv, .way_ms = way_ms}, PROBE_FLAT, 0, 0);
    add(NAME("unlimited, own work"), 1, (struct sim){.kind = SIM_UNLIMITED, .cv = cv, .way_ms = way_ms, .work_ms = 1},
        PROBE_FLAT, 0, 0);
    add(NAME("lock"), 1, (struct sim){.kind = SIM_LOCK, .share = 1, .cv = cv, .way_ms = way_ms}, PROBE_SERIAL, 1, 0);
    for (double share = 0.1; share < 0.85; share += 0.1) {
        add(NAME("lock share"), share, (struct sim){.kind = SIM_LOCK, .share = share, .cv = cv, .way_ms = way_ms},
            PROBE_PARTIAL_LOCK, 1, 0);
    }
    // On a busy machine.
    add(NAME("unlimited, busy"), 0,
        (struct sim){.kind = SIM_UNLIMITED, .cv = cv, .way_ms = way_ms, .jitter_ms = 3, .outliers = 0.1}, PROBE_FLAT, 0,
        0);
    add(NAME("cpu, busy"), 40,
        (struct sim){.kind = SIM_CPU, .seats = 40, .cv = cv, .way_ms = way_ms, .jitter_ms = 3, .outliers = 0.1},
        PROBE_CPU, 40, within);
    for (double share = 0.005; share < 0.2; share *= 4) {
        add(NAME("loop share"), share, (struct sim){.kind = SIM_LOOP, .share = share, .cv = cv, .way_ms = way_ms},
            share < 0.01 ? PROBE_FLAT : PROBE_PARTIAL_LOCK, share < 0.01 ? 0 : 1, 0);
    }
    for (unsigned seats = 6; seats <= 14 && cv == 0; seats += 8) {
        add(NAME("five each of"), seats, (struct sim){.kind = SIM_POOL, .seats = seats, .takes = 5, .way_ms = way_ms},
            PROBE_POOL, seats / 5, 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(pools) && (cv == 0 || pools[i] <= 16); i++) {
        add(NAME("pool"), pools[i], (struct sim){.kind = SIM_POOL, .seats = pools[i], .cv = cv, .way_ms = way_ms},
            PROBE_POOL, pools[i], within);
    }
    for (size_t i = 0; i < 12 && cv == 0; i += 2) {
        add(NAME("pool lifo"), pools[i],
            (struct sim){.kind = SIM_POOL, .seats = pools[i], .order = 'l', .way_ms = way_ms}, PROBE_POOL, pools[i], 0);
        add(NAME("pool random"), pools[i],
            (struct sim){.kind = SIM_POOL, .seats = pools[i], .order = 'r', .way_ms = way_ms}, PROBE_POOL, pools[i], 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        unsigned all = workers[i][0] * workers[i][1];
        if (cv == 0 || all <= 8) {
            add(NAME("workers, each"), workers[i][0] + workers[i][1] / 100.0,
                (struct sim){
                    .kind = SIM_WORKERS, .workers = workers[i][0], .seats = workers[i][1], .cv = cv, .way_ms = way_ms},
                PROBE_PARTITIONED, all, within);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(pools) && (cv == 0 || pools[i] <= 8); i++) {
        add(NAME("cpu"), pools[i], (struct sim){.kind = SIM_CPU, .seats = pools[i], .cv = cv, .way_ms = way_ms},
            PROBE_CPU, pools[i], within);
        add(NAME("cap"), pools[i], (struct sim){.kind = SIM_CAP, .seats = pools[i], .cv = cv, .way_ms = way_ms},
            PROBE_CAP, pools[i], within);
        add(NAME("bucket 10/s of"), pools[i],
            (struct sim){.kind = SIM_BUCKET, .rate = 10, .seats = pools[i], .cv = cv, .way_ms = way_ms}, PROBE_BUCKET,
            pools[i], within);
    }
    add(NAME("cpu"), 1, (struct sim){.kind = SIM_CPU, .seats = 1, .cv = cv, .way_ms = way_ms}, PROBE_CPU, 1, within);
    add(NAME("cap"), 1, (struct sim){.kind = SIM_CAP, .seats = 1, .cv = cv, .way_ms = way_ms}, PROBE_CAP, 1, within);
    add(NAME("bucket 2/s of"), 1, (struct sim){.kind = SIM_BUCKET, .rate = 2, .seats = 1, .cv = cv, .way_ms = way_ms},
        PROBE_BUCKET, 1, within);
    for (double period = 25; period < 500; period *= 2) {
        add(NAME("poll"), period, (struct sim){.kind = SIM_POLL, .period_ms = period, .cv = cv, .way_ms = way_ms},
            PROBE_POLL, 1, 0);
    }
    add(NAME("session"), 1, (struct sim){.kind = SIM_SESSION, .cv = cv, .way_ms = way_ms}, PROBE_SESSION, 1, 0);
}

static void run(const struct row *r, unsigned runs) {
    unsigned bare = 0, wrong = 0, likely = 0, other = 0, calls = 0, most = 0;
    clock_t from = clock();
    for (unsigned i = 0; i < runs; i++) {
        struct sim sim = r->sim;
        struct verdict v;
        sim.random = 1000003u * (i + 1) + 17;
        unsigned spent = sim_probe(&sim, &r->options, &v);
        bool ok = v.likely.model == r->model && v.likely.at_once + r->within >= r->at_once &&
                  v.likely.at_once <= r->at_once + r->within;
        bool is_bare = v.best.model != PROBE_INCONCLUSIVE;
        bare += is_bare && ok;
        wrong += is_bare && !ok;
        likely += !is_bare && ok;
        other += !is_bare && !ok;
        calls += spent;
        most = MAX(most, spent);
        if (!is_bare || !ok) {
            fprintf(stderr,
                    "%s #%u: %s%s %u (%ux%u, %.2f, %.1f/s, %.0f ms), then %s %u (%ux%u); odds %.3g, confidence %.2f, "
                    "doubt %d, %u calls\n",
                    r->name, i, is_bare ? "" : "perhaps ", probe_model_name(v.likely.model), v.likely.at_once,
                    v.likely.workers, v.likely.each, v.likely.share, v.likely.rate, (double)v.likely.period_ns / 1e6,
                    probe_model_name(v.runner_up.model), v.runner_up.at_once, v.runner_up.workers, v.runner_up.each,
                    v.odds, v.confidence, v.doubt, spent);
        }
    }
    printf("%-34s %4.0f %4.0f %4.0f %4.0f %6.0f %5u %8.1f\n", r->name, 100.0 * bare / runs, 100.0 * wrong / runs,
           100.0 * likely / runs, 100.0 * other / runs, (double)calls / runs, most,
           (double)(clock() - from) * 1e3 / CLOCKS_PER_SEC / runs);
    fflush(stdout);
}

int main(int argc, char **argv) {
    uint64_t runs = 20;
    if (argc > 1 && (parse_u64(str_c(argv[1]), &runs) != OK || !runs)) {
        return 2;
    }
    add_all(0, 0);
    add_all(0, 0.2);
    add_all(0.2, 0);
    printf("%-34s %4s %4s %4s %4s %6s %5s %8s\n", "", "bare", "bad", "lean", "lost", "calls", "most", "cpu ms");
    for (size_t i = 0; i < row_count; i++) {
        if (argc < 3 || strstr(rows[i].name, argv[2])) {
            run(&rows[i], (unsigned)runs);
        }
    }
    return 0;
}
