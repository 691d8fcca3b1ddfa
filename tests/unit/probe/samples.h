// SPDX-License-Identifier: MIT
// Probes that never took place: for every mechanism a burst as it would be, with a verdict to match. Shared by the tests
// of reports and by the program that writes them to be looked at (samples.c).
#pragma once
#include "base/mem.h"
#include "probe/picture.h"
#include "probe/report.h"
#include "probe/say.h"
#include "probe/svg.h"

enum { SAMPLE_CALLS = 2000, SAMPLE_CANARIES = 200 };
static const uint64_t SAMPLE_MS = 1000000;

struct sample_plan {
    const char *name;
    unsigned users;
    struct hypothesis best;
    struct hypothesis runner_up;
    struct hypothesis likely;
    enum doubt doubt;
    double odds;
    unsigned service_ms;
    double varies; // of the service time
    unsigned reasons;
    enum canary_verdict canary;
    unsigned expect;
    unsigned timeout_s;
    bool seen;       // by the mock
    unsigned gap_ms; // between two calls: staggered
};

struct sample {
    struct probe_call solo_calls[1];
    struct probe_call calls[SAMPLE_CALLS];
    struct probe_canary canaries[SAMPLE_CANARIES];
    struct trial solo, burst;
    struct trial *trials[2];
    struct evidence evidence;
    struct verdict verdict;
    struct why why;
    struct probe_report report;
};

static unsigned sample_cpus(unsigned cpus) { return cpus + 4; }
static const struct trap sample_traps[] = {
    {"asyncio.to_thread", "min(32, cpus + 4)",
     "The default executor of the event loop has that many threads, and every call holds one while it waits.",
     "Start the app with PYTHON_CPU_COUNT=8: 12 at once are to be expected then",
     "Use an async client, or loop.set_default_executor(ThreadPoolExecutor(64)).", "Lib/concurrent/futures/thread.py",
     sample_cpus, 1U << PROBE_POOL, CANARY_NONE, false},
    {"Puma", "5 threads & <none>", "Each worker has 5 threads as Rails configures it.",
     "RAILS_MAX_THREADS=10 makes it 10", "Raise RAILS_MAX_THREADS.", "puma.rb", NULL, 1U << PROBE_POOL, CANARY_NONE,
     false},
    {"Browsers", "6", "Browsers open at most 6 connections to one host by HTTP/1.1.", "", "", "facts", NULL,
     1U << PROBE_POOL, CANARY_NONE, true},
};

#define SAMPLE_NONE                                                                                                    \
    { .model = PROBE_INCONCLUSIVE }
#define SAMPLE_POOL(n)                                                                                                 \
    { .model = PROBE_POOL, .at_once = (n) }

static const struct sample_plan sample_plans[] = {
    {"flat",
     12,
     {.model = PROBE_FLAT},
     SAMPLE_POOL(12),
     SAMPLE_NONE,
     DOUBT_NONE,
     5000,
     2000,
     0.03,
     0,
     CANARY_FINE,
     10,
     0,
     false,
     0},
    {"flat-many",
     2000,
     {.model = PROBE_FLAT},
     SAMPLE_NONE,
     SAMPLE_NONE,
     DOUBT_NONE,
     0,
     2000,
     0.02,
     0,
     CANARY_NONE,
     5000,
     0,
     false,
     0},
    {"serial",
     8,
     {.model = PROBE_SERIAL, .at_once = 1},
     {.model = PROBE_PARTIAL_LOCK, .at_once = 1, .share = 0.9},
     SAMPLE_NONE,
     DOUBT_NONE,
     1e9,
     5000,
     0.01,
     0,
     CANARY_FROZEN,
     0,
     30,
     false,
     0},
    {"serial-many",
     300,
     {.model = PROBE_SERIAL, .at_once = 1},
     SAMPLE_NONE,
     SAMPLE_NONE,
     DOUBT_NONE,
     0,
     200,
     0.05,
     0,
     CANARY_NONE,
     0,
     0,
     false,
     0},
    {"partial_lock",
     10,
     {.model = PROBE_PARTIAL_LOCK, .at_once = 1, .share = 0.3},
     {.model = PROBE_SERIAL, .at_once = 1},
     SAMPLE_NONE,
     DOUBT_NONE,
     800,
     2000,
     0.02,
     0,
     CANARY_FINE,
     0,
     0,
     false,
     0},
    {"pool", 14, SAMPLE_POOL(6), SAMPLE_POOL(7), SAMPLE_NONE, DOUBT_NONE, 400, 20000, 0.01, 3, CANARY_FINE, 10, 55,
     false, 0},
    {"pool-seen", 14, SAMPLE_POOL(6), SAMPLE_NONE, SAMPLE_NONE, DOUBT_NONE, 0, 20000, 0.01, 1, CANARY_FINE, 6, 0, true,
     0},
    {"pool-many", 2000, SAMPLE_POOL(40), SAMPLE_POOL(41), SAMPLE_NONE, DOUBT_NONE, 900, 1000, 0.02, 2, CANARY_FINE, 0,
     30, false, 0},
    {"pool-noise",
     16,
     {.model = PROBE_POOL, .at_once = 5, .random_order = true},
     SAMPLE_POOL(6),
     SAMPLE_NONE,
     DOUBT_NOISE,
     12,
     3000,
     0.3,
     0,
     CANARY_SLOW,
     5,
     0,
     false,
     0},
    {"partitioned",
     16,
     {.model = PROBE_PARTITIONED, .at_once = 8, .workers = 4, .each = 2},
     SAMPLE_POOL(8),
     SAMPLE_NONE,
     DOUBT_NONE,
     260,
     1000,
     0.02,
     0,
     CANARY_FINE,
     0,
     0,
     false,
     0},
    {"cpu",
     8,
     {.model = PROBE_CPU, .at_once = 2},
     SAMPLE_NONE,
     SAMPLE_NONE,
     DOUBT_NONE,
     0,
     1000,
     0.02,
     0,
     CANARY_SLOW,
     0,
     0,
     false,
     0},
    {"poll",
     6,
     {.model = PROBE_POLL, .at_once = 1, .period_ns = 500000000},
     {.model = PROBE_SERIAL, .at_once = 1},
     SAMPLE_NONE,
     DOUBT_NONE,
     300,
     2000,
     0.02,
     0,
     CANARY_NONE,
     0,
     0,
     false,
     0},
    {"bucket",
     12,
     {.model = PROBE_BUCKET, .at_once = 5, .rate = 2},
     SAMPLE_POOL(5),
     SAMPLE_NONE,
     DOUBT_NONE,
     2000,
     600,
     0.02,
     0,
     CANARY_NONE,
     0,
     0,
     false,
     0},
    {"cap",
     10,
     {.model = PROBE_CAP, .at_once = 6, .refused_status = 429},
     SAMPLE_NONE,
     SAMPLE_NONE,
     DOUBT_NONE,
     0,
     1000,
     0.02,
     0,
     CANARY_FINE,
     10,
     0,
     false,
     0},
    {"session",
     6,
     {.model = PROBE_SESSION, .at_once = 1},
     SAMPLE_NONE,
     SAMPLE_NONE,
     DOUBT_NONE,
     0,
     1000,
     0.02,
     0,
     CANARY_FINE,
     4,
     0,
     false,
     0},
    {"tie",
     9,
     SAMPLE_NONE,
     {.model = PROBE_BUCKET, .at_once = 4, .rate = 1},
     SAMPLE_POOL(4),
     DOUBT_TIE,
     3,
     1000,
     0.1,
     1,
     CANARY_FINE,
     5,
     0,
     false,
     0},
    {.name = "staggered",
     .users = 5,
     .best = {.model = PROBE_SERIAL, .at_once = 1},
     .runner_up = SAMPLE_NONE,
     .service_ms = 6000,
     .varies = 0.01,
     .timeout_s = 20,
     .gap_ms = 2000},
    {"network", 9, SAMPLE_NONE, SAMPLE_NONE, SAMPLE_POOL(4), DOUBT_NETWORK, 0, 1000, 0.1, 0, CANARY_NONE, 0, 0, false,
     0},
};

static double sample_chance(unsigned i) { return (double)((i * 2654435761U) >> 8 & 0xFFFF) / 65536 - 0.5; }

// When the i-th call is over; `free` are the seats' next free moments.
static uint64_t sample_end(const struct sample_plan *p, const struct hypothesis *h, unsigned i, uint64_t *seats,
                           uint64_t *start) {
    uint64_t arrived = i * p->gap_ms * SAMPLE_MS;
    uint64_t service = (uint64_t)(p->service_ms * (double)SAMPLE_MS * (1 + 2 * p->varies * sample_chance(i)));
    unsigned seat = 0;
    unsigned count = MAX(h->at_once, 1u);
    *start = 0;
    switch (h->model) {
    case PROBE_FLAT:
    case PROBE_INCONCLUSIVE: return service;
    case PROBE_CPU: return service * p->users / h->at_once;
    case PROBE_PARTIAL_LOCK: return service + (uint64_t)((double)(p->service_ms * SAMPLE_MS) * h->share) * i;
    case PROBE_BUCKET: *start = i < count ? 0 : (uint64_t)((i - count + 1) / h->rate * 1e9); return *start + service;
    case PROBE_PARTITIONED: seat = (i * 7 + i / 3) % h->workers * h->each + (i & 1); break;
    case PROBE_SESSION: seat = i % 3 ? 0 : 1; break;
    case PROBE_SERIAL:
    case PROBE_POOL:
    case PROBE_POLL:
    case PROBE_CAP:
        for (unsigned k = 1; k < count; k++) {
            seat = seats[k] < seats[seat] ? k : seat;
        }
        break;
    }
    *start = MAX(seats[seat], arrived) - arrived;
    if (h->model == PROBE_POLL && i) {
        *start += (uint64_t)((sample_chance(i) + 0.5) * (double)h->period_ns);
    }
    seats[seat] = arrived + *start + service;
    return *start + service;
}

static void sample_make(struct sample *m, const struct sample_plan *p) {
    static uint64_t seats[SAMPLE_CALLS];
    const struct hypothesis *h = p->best.model == PROBE_INCONCLUSIVE ? &p->likely : &p->best;
    uint64_t from = 30000 * SAMPLE_MS;
    memset(m, 0, sizeof *m);
    memset(seats, 0, sizeof seats);
    m->burst.plan = (struct trial_plan){.kind = h->model == PROBE_SESSION ? TRIAL_SESSION
                                                : p->gap_ms               ? TRIAL_STAGGERED
                                                                          : TRIAL_BURST,
                                        .calls = p->users};
    for (unsigned i = 0; i < p->users; i++) {
        uint64_t start;
        uint64_t end = sample_end(p, h, i, seats, &start);
        struct probe_call *c = &m->calls[i];
        *c = (struct probe_call){.user = i + 1,
                                 .due_ns = from,
                                 .sent_ns = from + i * (2000 + p->gap_ms * SAMPLE_MS),
                                 .status = 200,
                                 .bytes = 120};
        if (h->model == PROBE_CAP && i >= h->at_once) {
            c->status = h->refused_status;
            end = 4 * SAMPLE_MS;
        }
        c->end_ns = c->sent_ns + end;
        c->first_byte_ns = c->end_ns - SAMPLE_MS / 10;
        c->session = h->model == PROBE_SESSION ? (i % 3 ? 1 : 2) : 0;
        if (p->seen) {
            c->seen_start_ns = c->sent_ns + start + 3 * SAMPLE_MS;
            c->seen_end_ns = c->end_ns - SAMPLE_MS;
            c->seen_seat = i % h->at_once + 1;
        }
        m->burst.to_ns = MAX(m->burst.to_ns, c->end_ns);
    }
    m->burst.from_ns = from;
    m->burst.calls = m->calls;
    m->burst.skew_ns = p->users * 2000;
    m->burst.canaries = m->canaries;
    m->burst.canary_count = p->canary == CANARY_NONE ? 0 : 40;
    for (unsigned i = 0; i < m->burst.canary_count; i++) {
        uint64_t at = from + (m->burst.to_ns - from) * i / m->burst.canary_count;
        uint64_t took = p->canary == CANARY_FROZEN ? m->burst.to_ns - at
                        : p->canary == CANARY_SLOW ? 60 * SAMPLE_MS
                                                   : 2 * SAMPLE_MS;
        m->canaries[i] = (struct probe_canary){at, at + took, 200};
    }
    m->solo_calls[0] = (struct probe_call){.user = 1, .sent_ns = 1, .end_ns = p->service_ms * SAMPLE_MS, .status = 200};
    m->solo = (struct trial){
        .plan = {.kind = TRIAL_SOLO, .calls = 1}, .calls = m->solo_calls, .to_ns = p->service_ms * SAMPLE_MS};
    m->trials[0] = &m->solo;
    m->trials[1] = &m->burst;
    m->evidence = (struct evidence){.trials = m->trials,
                                    .count = 2,
                                    .canary_alone_ns = 2 * SAMPLE_MS,
                                    .calls_spent = p->users + 8,
                                    .cpu_share = 0.03,
                                    .local = true,
                                    .cpus = 2,
                                    .journal = p->seen};
    m->verdict = (struct verdict){.best = p->best,
                                  .runner_up = p->runner_up,
                                  .likely = p->likely,
                                  .odds = p->odds,
                                  .confidence = p->seen ? 1 : 0.985,
                                  .doubt = p->doubt,
                                  .exact = p->seen,
                                  .holds_upstream = true,
                                  .holds_known = h->model == PROBE_POOL,
                                  .tried_up_to = p->users,
                                  .solo_ns = p->service_ms * SAMPLE_MS,
                                  .solo_cv = p->varies,
                                  .canary = p->canary,
                                  .skew_ns = m->burst.skew_ns,
                                  .lag_ns = SAMPLE_MS};
    m->why.count = p->reasons;
    for (unsigned i = 0; i < p->reasons; i++) {
        struct reason *reason = &m->why.reasons[i];
        *reason = (struct reason){.trap = &sample_traps[i],
                                  .cpus = i == 0 ? 2 : 0,
                                  .excluded = sample_traps[i].client,
                                  .likely = !sample_traps[i].client};
        snprintf(reason->number, sizeof reason->number, "%u = %s", h->at_once,
                 i == 0 ? "min(32, 2 + 4)" : sample_traps[i].number);
    }
    m->report =
        (struct probe_report){.target = STR("http://app.example/summarise"),
                              .evidence = &m->evidence,
                              .verdict = &m->verdict,
                              .why = &m->why,
                              .expect = p->expect,
                              .timeout_ns = (uint64_t)p->timeout_s * 1000 * SAMPLE_MS,
                              .command = "thaw probe http://app.example/summarise --users 14 -d '{\"prompt\":\"hi\"}'",
                              .unix_s = 1795185600};
}
