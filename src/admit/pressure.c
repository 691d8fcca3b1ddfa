// SPDX-License-Identifier: MIT
#include "admit/pressure.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

enum {
    FILE_SIZE = 8192, // memory.stat has 1 to 3 KB
    STEPS = 8,        // measurements until the budget is reached, when one worker grows
    HYSTERESIS = 16,  // a mark is left when 1/16 below it is free
};

// ---- what the system says

// A file of the kernel's, read from its start; "" if it cannot be.
static struct str read_again(int fd, char text[FILE_SIZE]) {
    ssize_t n = fd < 0 ? 0 : pread(fd, text, FILE_SIZE, 0);
    return str_from(text, n > 0 ? (size_t)n : 0);
}

// Of lines "name number": the sum of the two that are asked for.
static uint64_t sum_of(struct str text, struct str one, struct str other) {
    uint64_t sum = 0;
    struct str line;
    while (str_split(&text, '\n', &line)) {
        struct str name = str_first(line, str_find(line, ' '));
        uint64_t value = 0;
        bool wanted = str_eq(name, one) || str_eq(name, other);
        sum += wanted && parse_u64(str_skip(line, name.len + 1), &value) == OK ? value : 0;
    }
    return sum;
}

static bool measure_group(const struct pressure *p, uint64_t *bytes) {
    char text[FILE_SIZE];
    bool v1 = p->options.group_v1;
    struct str usage = read_again(p->usage_fd, text);
    if (parse_u64(str_first(usage, str_find(usage, '\n')), bytes) != OK) {
        return false;
    }
    struct str stat = read_again(p->stat_fd, text);
    uint64_t files = sum_of(stat, v1 ? STR("total_inactive_file") : STR("inactive_file"),
                            v1 ? STR("total_active_file") : STR("active_file"));
    *bytes -= MIN(*bytes, files);
    return true;
}

// /proc/self/statm: pages of the program, resident ones, ...
static bool measure_resident(const struct pressure *p, uint64_t *bytes) {
    char text[FILE_SIZE];
    struct str rest = read_again(p->usage_fd, text);
    struct str program = {NULL, 0};
    struct str resident = {NULL, 0};
    if (!str_split(&rest, ' ', &program) || !str_split(&rest, ' ', &resident) || parse_u64(resident, bytes) != OK) {
        return false;
    }
    *bytes *= (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

static bool read_used(const struct pressure *p, uint64_t *bytes) {
    return p->options.measure ? p->options.measure(p->options.context, bytes)
           : p->options.group ? measure_group(p, bytes)
                              : measure_resident(p, bytes);
}

static int open_of(const char *directory, const char *name) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", directory, name);
    return n > 0 && (size_t)n < sizeof path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
}

static void open_files(struct pressure *p) {
    const struct pressure_options *o = &p->options;
    p->stat_fd = p->usage_fd = -1;
    if (o->measure) {
        return;
    }
    if (o->group) {
        p->usage_fd = open_of(o->group, o->group_v1 ? "memory.usage_in_bytes" : "memory.current");
        p->stat_fd = open_of(o->group, "memory.stat");
    }
    if (p->usage_fd < 0) { // of a group that may not be looked at, our own part is the best there is
        p->options.group = NULL;
        p->usage_fd = open_of("/proc/self", "statm");
    }
}

// ---- the marks

static void set_marks(struct pressure *p, uint64_t budget) {
    uint64_t limit = p->options.limit ? p->options.limit : UINT64_MAX;
    uint64_t most = limit == UINT64_MAX ? limit : limit - limit / 20;
    uint64_t wanted = budget ? budget : limit == UINT64_MAX ? limit : limit / 4 * 3;
    wanted = wanted < most ? wanted : most - most / HYSTERESIS;
    p->budget = wanted;
    p->last = wanted < UINT64_MAX / 19 ? MIN(most, wanted / 15 * 19) : most;
}

// Once above it, until a part of it is free again: the bytes till then.
static uint64_t above(uint64_t used, uint64_t mark, bool *is) {
    uint64_t low = mark - mark / HYSTERESIS;
    *is = used >= mark || (*is && used > low);
    return *is ? used - low : 0;
}

static void publish(struct pressure *p, uint64_t used) {
    uint64_t budget = p->budget;
    uint64_t round = MAX(((p->room >> 32) + 1) & UINT32_MAX, (uint64_t)1); // 0: a gauge that has seen none
    p->used = used;
    p->excess = above(used, budget, &p->refusing);
    p->overflow = above(used, p->last, &p->shedding);
    p->step = (used < budget ? budget - used : 0) / STEPS / MAX(p->options.workers, 1u);
    uint64_t kib = p->refusing ? 0 : (budget - used) / 1024 / MAX(p->options.workers, 1u);
    p->room = round << 32 | MIN(kib, (uint64_t)UINT32_MAX);
}

void pressure_measure(struct pressure *p, uint64_t now_ms, uint64_t age_ms) {
    uint64_t used = 0;
    if (now_ms < p->measured_ms + age_ms || atomic_flag_test_and_set(&p->measuring)) {
        return;
    }
    p->measured_ms = now_ms;
    bool known = read_used(p, &used);
    // What was freed is often still held back for the next allocation; the system counts it.
    if (known && used >= p->budget - p->budget / HYSTERESIS && now_ms >= p->trimmed_ms + PRESSURE_TRIM_MS) {
        p->trimmed_ms = now_ms;
        mem_trim();
        known = read_used(p, &used);
    }
    if (known) {
        publish(p, used);
    }
    atomic_flag_clear(&p->measuring);
}

void pressure_set(struct pressure *p, uint64_t budget, unsigned connections) {
    set_marks(p, budget);
    p->most_connections = connections ? connections : UINT_MAX;
}

struct pressure *pressure_create(const struct pressure_options *options) {
    struct pressure *p = xcalloc(1, sizeof *p);
    uint64_t used = 0;
    p->options = *options;
    open_files(p);
    pressure_set(p, options->budget, options->connections);
    publish(p, read_used(p, &used) ? used : 0);
    return p;
}

void pressure_destroy(struct pressure *p) {
    if (!p) {
        return;
    }
    if (p->usage_fd >= 0) {
        close(p->usage_fd);
    }
    if (p->stat_fd >= 0) {
        close(p->stat_fd);
    }
    free(p);
}

// ---- a worker's view

// What calls since the epoch's beginning will have taken is counted as taken; what those that ended had, as free.
static int64_t left_of(const struct pressure_epoch *e, unsigned calls) {
    return e->room - ((int64_t)calls - e->calls) * PRESSURE_CALL_BYTES;
}

void pressure_begin_round(struct pressure_gauge *g, uint64_t room, unsigned in_flight) {
    uint64_t now_ms = g->all->measured_ms;
    int64_t measured = (int64_t)((room & UINT32_MAX) << 10);
    bool first = g->round == 0 || g->allowed == INT64_MIN; // or nothing was let in lately
    g->round = (uint32_t)(room >> 32);
    g->begun = in_flight ? in_flight - 1 : 0;
    g->more = 0;
    if (first || now_ms >= g->now.at_ms + PRESSURE_LAG_MS) {
        struct pressure_epoch begins = {now_ms, measured, g->begun};
        bool missed = first || now_ms >= g->now.at_ms + (uint64_t)2 * PRESSURE_LAG_MS;
        g->before = missed ? begins : g->now;
        g->now = begins;
    }
    int64_t predicted = left_of(&g->before, g->begun);
    g->allowed = measured == 0 ? INT64_MIN : MIN(measured, predicted); // none: not for those that end, either
}

uint64_t pressure_share(struct pressure_gauge *g, uint64_t held) {
    g->all->held += held - g->held; // modulo 2^64
    g->held = held;
    uint64_t total = g->all->held;
    uint64_t overflow = g->all->overflow;
    return total > held ? (uint64_t)((double)overflow * (double)held / (double)total) : overflow;
}
