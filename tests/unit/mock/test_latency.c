// SPDX-License-Identifier: MIT
// Distributions are judged by moments and quantiles of draws with fixed keys: the same in every run.
#include "mock/latency.h"

#include <math.h>
#include <unistd.h>

#include "check.h"

enum { DRAWS = 200 * 1000 };

static struct latency parsed(const char *text) {
    struct latency l;
    const char *wanted = latency_parse(str_c(text), &l);
    if (wanted) {
        fail_msg("'%s': wanted %s", text, wanted);
    }
    return l;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

// Sorted, in milliseconds.
static double *draws(const char *text) {
    struct latency l = parsed(text);
    double *all = xcalloc(DRAWS, sizeof *all);
    for (uint64_t i = 0; i < DRAWS; i++) {
        all[i] = (double)latency_draw_us(&l, i * 77 + 5, 0) / 1000;
    }
    qsort(all, DRAWS, sizeof *all, ascending);
    return all;
}

static double mean_of(const double *all) {
    double sum = 0;
    for (size_t i = 0; i < DRAWS; i++) {
        sum += all[i];
    }
    return sum / DRAWS;
}

static double deviation_of(const double *all) {
    double mean = mean_of(all);
    double sum = 0;
    for (size_t i = 0; i < DRAWS; i++) {
        sum += (all[i] - mean) * (all[i] - mean);
    }
    return sqrt(sum / DRAWS);
}

static double quantile(const double *all, double q) { return all[(size_t)(q * DRAWS)]; }

static void check_near(double got, double wanted, double tolerance) {
    if (fabs(got - wanted) > tolerance) {
        fail_msg("got %g, wanted %g +- %g", got, wanted, tolerance);
    }
}

static void a_constant_is_what_it_says(void **state UNUSED) {
    struct latency l = parsed("1.5s");
    check(latency_is_constant(&l));
    for (uint64_t i = 0; i < 100; i++) {
        check_int(latency_draw_us(&l, i, i), 1500000);
    }
    l = parsed("0.5ms");
    check_int(latency_draw_us(&l, 0, 0), 500);
    l = parsed("0");
    check_int(latency_draw_us(&l, 0, 0), 0);
    struct latency in_ms = LATENCY_MS(250);
    check_int(latency_draw_us(&in_ms, 0, 0), 250000);
}

static void uniform_fills_its_range_evenly(void **state UNUSED) {
    double *all = draws("uniform:1s-3s");
    check(all[0] >= 1000 && all[DRAWS - 1] <= 3000);
    check_near(mean_of(all), 2000, 5);
    check_near(deviation_of(all), 2000 / sqrt(12), 5);
    check_near(quantile(all, 0.1), 1200, 10);
    check_near(quantile(all, 0.9), 2800, 10);
    free(all);
}

static void normal_has_its_mean_and_deviation(void **state UNUSED) {
    double *all = draws("normal:5s,500ms");
    check_near(mean_of(all), 5000, 5);
    check_near(deviation_of(all), 500, 5);
    check_near(quantile(all, 0.5), 5000, 5);
    check_near(quantile(all, 0.9), 5000 + 1.2816 * 500, 10);
    check_near(quantile(all, 0.99), 5000 + 2.3263 * 500, 20);
    free(all);
}

// Mean of a normal distribution that is cut off at its mean: sd * sqrt(2 / pi).
static void normal_is_cut_off_at_0_and_not_heaped_up_there(void **state UNUSED) {
    double *all = draws("normal:0,1s");
    check_near(mean_of(all), 1000 * sqrt(2 / M_PI), 8);
    check(quantile(all, 0.01) > 1);
    free(all);
}

static void lognormal_has_its_median_and_99th_percentile(void **state UNUSED) {
    double *all = draws("lognormal:2s,9s");
    double sigma = log(9.0 / 2) / 2.3263478740408408;
    check_near(quantile(all, 0.5), 2000, 20);
    check_near(quantile(all, 0.99), 9000, 180);
    check_near(quantile(all, 0.01), 2000.0 * 2 / 9, 10);
    check_near(mean_of(all), 2000 * exp(sigma * sigma / 2), 20);
    free(all);
}

static void what_is_drawn_has_an_end(void **state UNUSED) {
    struct latency l = parsed("lognormal:1ms,720h");
    for (uint64_t i = 0; i < DRAWS; i++) {
        check(latency_draw_us(&l, i, 0) <= LATENCY_MAX_US);
    }
}

static void draws_are_those_of_the_key(void **state UNUSED) {
    static const char *const texts[] = {"uniform:1s-3s", "normal:5s,500ms", "lognormal:2s,9s"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct latency l = parsed(texts[i]);
        check(latency_draw_us(&l, 1, 2) == latency_draw_us(&l, 1, 2));
        check(latency_draw_us(&l, 1, 2) != latency_draw_us(&l, 1, 3));
        check(latency_draw_us(&l, 1, 2) != latency_draw_us(&l, 2, 2));
    }
}

static const char *const bad[] = {
    "",
    "5",
    "-5s",
    "5 s",
    "721h",
    "uniform",
    "uniform:",
    "uniform:1s",
    "uniform:1s-",
    "uniform:3s-1s",
    "normal:5s",
    "normal:5s-1s",
    "normal:5s,",
    "lognormal:9s,2s",
    "lognormal:",
    "pareto:1s",
    "lognormal:0,1s",
    "file:/x/y",
    "uniform:1s,2s",
    "Uniform:1s-2s",
    "uniform-1s-2s",
    "exp:1s",
    "5s,1s",
    "normal:1s,2s,3s",
};

static void what_is_not_understood_is_said_with_an_example(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct latency l = LATENCY_MS(7);
        const char *wanted = latency_parse(str_c(bad[i]), &l);
        if (!wanted) {
            fail_msg("'%s' was understood", bad[i]);
        }
        check(strstr(wanted, " as ") != NULL);
        check_int(latency_draw_us(&l, 0, 0), 7000); // as it was
    }
    struct latency l;
    check(strstr(latency_parse(STR("lognormal:9s,2s"), &l), "lognormal:2s,9s") != NULL);
}

static void names_have_hyphens(void **state UNUSED) {
    static const char *const pairs[][2] = {{"5s", "5s"},
                                           {"uniform-1s-3s", "uniform:1s-3s"},
                                           {"normal-5s-500ms", "normal:5s,500ms"},
                                           {"lognormal-2s-9s", "lognormal:2s,9s"}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct latency l;
        struct latency same = parsed(pairs[i][1]);
        check(latency_parse_name(str_c(pairs[i][0]), &l));
        check(latency_draw_us(&l, 3, 4) == latency_draw_us(&same, 3, 4));
    }
    struct latency l;
    check(!latency_parse_name(STR("lognormal:2s,9s"), &l));
    check(!latency_parse_name(STR("lognormal-2s"), &l));
    check(!latency_parse_name(STR("file-x"), &l));
}

// ---- files

static const char *parse_lines(const char *lines, struct latency *l) {
    char path[] = "latency-XXXXXX";
    char text[64];
    int fd = mkstemp(path);
    check(fd >= 0);
    check(write(fd, lines, strlen(lines)) == (ssize_t)strlen(lines));
    close(fd);
    snprintf(text, sizeof text, "file:%s", path);
    const char *wanted = latency_parse_file(str_c(text), l);
    unlink(path);
    return wanted;
}

static void a_file_is_drawn_from(void **state UNUSED) {
    struct latency l = LATENCY_MS(0);
    unsigned seen[4] = {0};
    check(parse_lines("# measured\n1s\n\n 2s \r\n3s", &l) == NULL);
    for (uint64_t i = 0; i < 3000; i++) {
        uint64_t us = latency_draw_us(&l, i, 0);
        check(us % 1000000 == 0 && us / 1000000 <= 3);
        seen[us / 1000000]++;
    }
    check(seen[0] == 0 && seen[1] > 900 && seen[2] > 900 && seen[3] > 900);
    latency_finish(&l);
    check(latency_is_constant(&l));
}

static void a_file_may_be_long_or_wrong(void **state UNUSED) {
    struct latency l;
    struct buf lines;
    buf_init(&lines, 1 << 20);
    for (unsigned i = 0; i < 1000; i++) {
        check_ok(buf_printf(&lines, "%ums\n", i));
    }
    check_ok(buf_append(&lines, "", 1));
    check(parse_lines(buf_str(&lines).ptr, &l) == NULL);
    latency_finish(&l);
    buf_finish(&lines);
    check(strstr(parse_lines("", &l), "at least one") != NULL);
    check(strstr(parse_lines("1s\nfast\n", &l), "1.5s in each line") != NULL);
    check(strstr(latency_parse_file(STR("file:no-such-file"), &l), "can be read") != NULL);
    check(strstr(latency_parse_file(STR("fast"), &l), "file:PATH") != NULL);
    check(latency_parse_file(STR("5s"), &l) == NULL);
    latency_finish(&l);
}

// ---- pace

static void pieces_are_due_at_sums_of_gaps(void **state UNUSED) {
    static const uint64_t due[] = {101, 121, 3141, 3161};
    const struct pace fresh = {.due_us = 100500, .between = LATENCY_MS(20), .stall_ms = 3000, .stall_after = 2};
    struct pace p = fresh;
    for (unsigned i = 0; i < ARRAY_LEN(due); i++) {
        check_int(pace_due_ms(&p, i), due[i]);
        check_int(pace_due_ms(&p, i), due[i]);
        check_int(pace_due_ms(&p, 0), due[i]);
        check_int((pace_last_us(&fresh, i + 1) + 999) / 1000, due[i]);
    }
    check_int(pace_last_us(&fresh, 0), 100500);
    p = fresh;
    check_int(pace_due_ms(&p, 3), 3161);
}

static void drawn_gaps_add_up_to_what_was_foretold(void **state UNUSED) {
    const struct pace fresh = {
        .due_us = 5000, .key = 99, .stall_ms = 1, .stall_after = 4, .between = parsed("lognormal:20ms,90ms")};
    for (unsigned pieces = 1; pieces < 50; pieces++) {
        struct pace p = fresh;
        check_int(pace_due_ms(&p, pieces - 1), (pace_last_us(&fresh, pieces) + 999) / 1000);
    }
}

TESTS(TEST(a_constant_is_what_it_says), TEST(uniform_fills_its_range_evenly), TEST(normal_has_its_mean_and_deviation),
      TEST(normal_is_cut_off_at_0_and_not_heaped_up_there), TEST(lognormal_has_its_median_and_99th_percentile),
      TEST(what_is_drawn_has_an_end), TEST(draws_are_those_of_the_key),
      TEST(what_is_not_understood_is_said_with_an_example), TEST(names_have_hyphens), TEST(a_file_is_drawn_from),
      TEST(a_file_may_be_long_or_wrong), TEST(pieces_are_due_at_sums_of_gaps),
      TEST(drawn_gaps_add_up_to_what_was_foretold))
