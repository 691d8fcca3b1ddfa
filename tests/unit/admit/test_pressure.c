// SPDX-License-Identifier: MIT
// The marks, what is predicted between two measurements, and what the system's files say.
#include "admit/pressure.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "check.h"

#define MIB (1024ull * 1024)

// What is in use, as the test has it.
static bool say(void *context, uint64_t *bytes) {
    *bytes = *(const uint64_t *)context;
    return *bytes != UINT64_MAX; // else it cannot be known
}

static struct pressure *open_pressure(uint64_t *used, uint64_t limit, uint64_t budget, unsigned workers) {
    struct pressure_options options = {
        .limit = limit, .budget = budget, .workers = workers, .measure = say, .context = used};
    return pressure_create(&options);
}

static void marks_follow_from_limit_and_budget(void **state UNUSED) {
    static const struct {
        uint64_t limit, budget, is_budget, is_last;
    } cases[] = {
        {64 * MIB, 0, 48 * MIB, 64 * MIB - 64 * MIB / 20},         // three quarters, 95 %
        {8192 * MIB, 30 * MIB, 30 * MIB, 38 * MIB},                // 19/15 of a small budget
        {64 * MIB, 56 * MIB, 56 * MIB, 64 * MIB - 64 * MIB / 20},  // never above 95 %
        {64 * MIB, 100 * MIB, 57 * MIB, 64 * MIB - 64 * MIB / 20}, // nor is the budget
        {0, 30 * MIB, 30 * MIB, 38 * MIB},                         // a limit that is not known
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t used = 0;
        struct pressure *p = open_pressure(&used, cases[i].limit, cases[i].budget, 1);
        check((p->budget + 4096) / MIB == cases[i].is_budget / MIB);
        check(p->last / MIB == cases[i].is_last / MIB);
        check(p->budget < p->last);
        pressure_destroy(p);
    }
}

static void without_a_limit_everybody_gets_in(void **state UNUSED) {
    uint64_t used = UINT64_MAX / 2;
    struct pressure *p = open_pressure(&used, 0, 0, 4);
    struct pressure_gauge g = {.all = p};
    check(pressure_admits(&g, 1000 * 1000, 0));
    check_int(p->excess, 0);
    check_int(p->overflow, 0);
    pressure_destroy(p);
}

static void refusing_ends_when_a_part_is_free_again(void **state UNUSED) {
    uint64_t used = 20 * MIB;
    struct pressure *p = open_pressure(&used, 64 * MIB, 0, 1);
    struct pressure_gauge g = {.all = p};
    static const struct {
        uint64_t mib;
        bool admits, overflows;
    } steps[] = {
        {47, true, false},  {48, false, false}, {46, false, false}, {45, true, false},
        {47, true, false},  {60, false, false}, {61, false, true},  {58, false, true},
        {56, false, false}, {60, false, false}, {46, false, false}, {45, true, false},
    };
    uint64_t now = 0;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        used = steps[i].mib * MIB;
        pressure_measure(p, now += PRESSURE_ROUND_MS, PRESSURE_ROUND_MS);
        if (pressure_admits(&g, 1, 0) != steps[i].admits || (p->overflow > 0) != steps[i].overflows ||
            (p->excess > 0) == steps[i].admits) {
            fail_msg("step %zu, %d MiB: excess %d, overflow %d", i, (int)steps[i].mib, (int)p->excess,
                     (int)p->overflow);
        }
    }
    pressure_destroy(p);
}

// As many as find room, until measurements come back with what they really took.
static unsigned admit_all(struct pressure_gauge *g, unsigned *in_flight, unsigned wanted) {
    unsigned got = 0;
    while (got < wanted && pressure_admits(g, *in_flight + 1, 0)) {
        (*in_flight)++;
        got++;
    }
    return got;
}

static void burst_between_measurements_stops_at_the_budget(void **state UNUSED) {
    uint64_t used = 12 * MIB;
    struct pressure *p = open_pressure(&used, 64 * MIB, 0, 1);
    struct pressure_gauge g = {.all = p};
    unsigned in_flight = 0;
    unsigned fit = 36 * MIB / PRESSURE_CALL_BYTES;
    check_int(admit_all(&g, &in_flight, 5000), fit);
    check(!pressure_admits(&g, in_flight + 1, 0));
    check(!pressure_admits(&g, in_flight + 1, 0)); // asking costs nothing

    in_flight -= 100; // some end: as many get in
    check_int(admit_all(&g, &in_flight, 5000), 100);
    pressure_destroy(p);
}

// Their memory is not all in use when it is measured the first times.
static void calls_just_let_in_count_until_they_have_their_memory(void **state UNUSED) {
    uint64_t used = 12 * MIB;
    struct pressure *p = open_pressure(&used, 64 * MIB, 0, 1);
    struct pressure_gauge g = {.all = p};
    unsigned in_flight = 0;
    uint64_t now = 0;
    check_int(admit_all(&g, &in_flight, 2000), 2000);
    for (; now < 2 * PRESSURE_LAG_MS; now += PRESSURE_ROUND_MS) {
        used = 13 * MIB; // most of it is still to come
        pressure_measure(p, now, PRESSURE_ROUND_MS);
        check_int(admit_all(&g, &in_flight, 5000), now ? 0 : 36 * MIB / PRESSURE_CALL_BYTES - 2000);
    }
    used = 47 * MIB;
    pressure_measure(p, now, PRESSURE_ROUND_MS);
    check_int(admit_all(&g, &in_flight, 5000), MIB / PRESSURE_CALL_BYTES);

    used = 20 * MIB; // epochs that this worker never saw have measured all
    pressure_measure(p, now + (uint64_t)2 * PRESSURE_LAG_MS, PRESSURE_ROUND_MS);
    check_int(admit_all(&g, &in_flight, 5000), 28 * MIB / PRESSURE_CALL_BYTES);
    pressure_destroy(p);
}

// Places that become free are taken by others without a measurement between.
static void calls_that_end_leave_their_room(void **state UNUSED) {
    uint64_t used = 12 * MIB;
    struct pressure *p = open_pressure(&used, 64 * MIB, 0, 1);
    struct pressure_gauge g = {.all = p};
    unsigned in_flight = 0;
    unsigned fit = admit_all(&g, &in_flight, 5000);
    used = 47 * MIB;
    pressure_measure(p, 3 * PRESSURE_LAG_MS, PRESSURE_ROUND_MS);
    check(pressure_admits(&g, in_flight + 1, 0));
    in_flight -= fit / 2;
    check_int(admit_all(&g, &in_flight, 5000), fit / 2 + MIB / PRESSURE_CALL_BYTES);
    in_flight = 0;
    used = 48 * MIB; // but not at the budget
    pressure_measure(p, 3 * PRESSURE_LAG_MS + PRESSURE_ROUND_MS, PRESSURE_ROUND_MS);
    check_int(admit_all(&g, &in_flight, 5000), 0);
    pressure_destroy(p);
}

static void room_is_split_between_workers(void **state UNUSED) {
    uint64_t used = 12 * MIB;
    struct pressure *p = open_pressure(&used, 64 * MIB, 0, 4);
    for (unsigned i = 0; i < 4; i++) {
        struct pressure_gauge g = {.all = p};
        unsigned in_flight = 0;
        check_int(admit_all(&g, &in_flight, 5000), 9 * MIB / PRESSURE_CALL_BYTES);
    }
    pressure_destroy(p);
}

static void bodies_count_beside_calls(void **state UNUSED) {
    uint64_t used = 38 * MIB;
    struct pressure *p = open_pressure(&used, 64 * MIB, 0, 1);
    struct pressure_gauge g = {.all = p};
    check(pressure_admits(&g, 1, 6 * MIB));
    check(!pressure_admits(&g, 1, 6 * MIB));
    check(pressure_admits(&g, 1, 3 * MIB)); // what was refused did not count
    used = 47 * MIB;
    pressure_measure(p, 100, PRESSURE_ROUND_MS);
    check(pressure_admits(&g, 2, MIB / 2)); // what was measured does not count twice
    pressure_destroy(p);
}

static void what_is_to_be_given_up_is_shared_by_what_is_held(void **state UNUSED) {
    uint64_t used = 62 * MIB;
    struct pressure *p = open_pressure(&used, 64 * MIB, 0, 2);
    struct pressure_gauge a = {.all = p};
    struct pressure_gauge b = {.all = p};
    uint64_t overflow = p->overflow;
    check(overflow > 4 * MIB && overflow < 6 * MIB);
    check(pressure_share(&a, 30 * MIB) == overflow); // nobody else has told yet
    check(pressure_share(&b, 10 * MIB) / 1024 == overflow / 4 / 1024);
    check(pressure_share(&a, 30 * MIB) / 1024 == overflow / 4 * 3 / 1024);
    check_int(pressure_share(&b, 0), 0);
    used = 20 * MIB;
    pressure_measure(p, 100, PRESSURE_ROUND_MS);
    check_int(pressure_share(&a, 30 * MIB), 0);
    pressure_destroy(p);
}

static void measuring_has_its_times(void **state UNUSED) {
    uint64_t used = 20 * MIB;
    struct pressure *p = open_pressure(&used, 64 * MIB, 0, 1);
    pressure_measure(p, 1000, PRESSURE_ROUND_MS);
    used = 30 * MIB;
    pressure_measure(p, 1000 + PRESSURE_SOON_MS - 1, PRESSURE_SOON_MS);
    check_int(p->used, 20 * MIB);
    pressure_measure(p, 1000 + PRESSURE_SOON_MS, PRESSURE_SOON_MS);
    check_int(p->used, 30 * MIB);
    used = UINT64_MAX; // not to be known: the last word stands
    pressure_measure(p, 2000, PRESSURE_ROUND_MS);
    check_int(p->used, 30 * MIB);
    pressure_destroy(p);
}

static void another_budget_holds_from_the_next_measurement(void **state UNUSED) {
    uint64_t used = 20 * MIB;
    struct pressure *p = open_pressure(&used, 64 * MIB, 0, 1);
    struct pressure_gauge g = {.all = p};
    check(pressure_admits(&g, 1, 0));
    check_int(p->most_connections, UINT_MAX);
    pressure_set(p, 16 * MIB, 7);
    check_int(p->most_connections, 7);
    pressure_measure(p, 100, PRESSURE_ROUND_MS);
    check(!pressure_admits(&g, 1, 0));
    pressure_destroy(p);
}

// ---- files

static char *make_group(void) {
    const char *temporary = getenv("TMPDIR");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/thaw-group-XXXXXX", temporary ? temporary : "/tmp");
    check(mkdtemp(path) != NULL);
    return strdup(path);
}

// Over what was there, in place: the kernel's files do not change their inode either.
static void write_file(const char *group, const char *name, const char *text) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", group, name);
    FILE *f = fopen(path, "w");
    check(f != NULL);
    check(fputs(text, f) >= 0);
    check_int(fclose(f), 0);
}

static void remove_group(char *group, const char *usage) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", group, usage);
    check_int(unlink(path), 0);
    snprintf(path, sizeof path, "%s/memory.stat", group);
    check_int(unlink(path), 0);
    check_int(rmdir(group), 0);
    free(group);
}

static void group_counts_without_its_file_pages(void **state UNUSED) {
    static const struct {
        bool v1;
        const char *usage, *stat;
    } cases[] = {
        {true, "memory.usage_in_bytes",
         "cache 1\ninactive_file 7\nactive_file 7\ntotal_cache 5\ntotal_inactive_file 1048576\n"
         "total_active_file 2097152\ntotal_unevictable 9\n"},
        {false, "memory.current", "anon 9\nfile 4000000\nsock 99\nactive_file 2097152\ninactive_file 1048576\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *group = make_group();
        write_file(group, cases[i].usage, "33554432\n");
        write_file(group, "memory.stat", cases[i].stat);
        struct pressure_options options = {.limit = 64 * MIB, .group = group, .group_v1 = cases[i].v1, .workers = 1};
        struct pressure *p = pressure_create(&options);
        check_int(p->used, 29 * MIB);
        write_file(group, cases[i].usage, "53477376\n"); // 51 MiB
        pressure_measure(p, 100, PRESSURE_ROUND_MS);
        check_int(p->used, 48 * MIB);
        check(p->excess > 0);
        write_file(group, cases[i].usage, "lots\n"); // no number: the last word stands
        pressure_measure(p, 200, PRESSURE_ROUND_MS);
        check_int(p->used, 48 * MIB);
        pressure_destroy(p);
        remove_group(group, cases[i].usage);
    }
}

static void group_that_cannot_be_read_leaves_resident_memory(void **state UNUSED) {
    struct pressure_options options = {.limit = 1ull << 50, .group = "/nonexistent", .workers = 1};
    struct pressure *p = pressure_create(&options);
    uint64_t before = p->used;
    check(before > MIB / 2);
    enum { BYTES = 32 * 1024 * 1024 };
    char *more = xmalloc(BYTES);
    memset(more, 1, BYTES);
    __asm__("" : : "r"(more) : "memory");
    pressure_measure(p, 100, PRESSURE_ROUND_MS);
    check(p->used >= before + BYTES - MIB);
    free(more);
    pressure_destroy(p);
}

TESTS(TEST(marks_follow_from_limit_and_budget), TEST(without_a_limit_everybody_gets_in),
      TEST(refusing_ends_when_a_part_is_free_again), TEST(burst_between_measurements_stops_at_the_budget),
      TEST(calls_just_let_in_count_until_they_have_their_memory), TEST(calls_that_end_leave_their_room),
      TEST(room_is_split_between_workers), TEST(bodies_count_beside_calls),
      TEST(what_is_to_be_given_up_is_shared_by_what_is_held), TEST(measuring_has_its_times),
      TEST(another_budget_holds_from_the_next_measurement), TEST(group_counts_without_its_file_pages),
      TEST(group_that_cannot_be_read_leaves_resident_memory))
