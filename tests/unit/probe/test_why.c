// SPDX-License-Identifier: MIT
// A number leads to its causes, the likeliest first.
#include "probe/why.h"

#include "check.h"

static struct why find(enum probe_model model, unsigned n, bool local, unsigned cpus, enum canary_verdict canary) {
    struct verdict v = {.best = {.model = model, .at_once = n}, .canary = canary};
    struct evidence e = {.local = local, .cpus = cpus};
    struct why why;
    why_find(&v, &e, &why);
    return why;
}

static bool names(const struct why *why, unsigned at, const char *start) {
    return at < why->count && strncmp(why->reasons[at].trap->runtime, start, strlen(start)) == 0;
}

static bool has(const struct why *why, const char *start) {
    for (unsigned i = 0; i < why->count; i++) {
        if (names(why, i, start)) {
            return true;
        }
    }
    return false;
}

static void six_is_asyncio_on_two_cpus_and_no_browser(void **state UNUSED) {
    for (int local = 0; local <= 1; local++) {
        struct why why = find(PROBE_POOL, 6, local, 2, CANARY_NONE);
        check(names(&why, 0, "asyncio.to_thread"));
        check_int(why.reasons[0].cpus, 2);
        check_str(str_c(why.reasons[0].number), "6 = min(32, 2 + 4)");
        check(!why.reasons[0].excluded);
        check(names(&why, 1, "browsers"));
        check(why.reasons[1].excluded);
    }
}

static void the_machines_own_cpus_count_when_the_target_is_here(void **state UNUSED) {
    struct why why = find(PROBE_POOL, 14, true, 10, CANARY_NONE);
    check(names(&why, 0, "asyncio.to_thread"));
    check_str(str_c(why.reasons[0].number), "14 = min(32, 10 + 4)");
    why = find(PROBE_POOL, 14, false, 2, CANARY_NONE);
    check_int(why.reasons[0].cpus, 10);
    // Puma's five before a machine that this is not; where it is, after it.
    why = find(PROBE_POOL, 5, true, 2, CANARY_NONE);
    check(names(&why, 0, "Puma"));
    check(names(&why, 1, "PHP-FPM"));
    why = find(PROBE_POOL, 5, true, 1, CANARY_NONE);
    check(names(&why, 0, "asyncio.to_thread"));
    check(has(&why, "Puma"));
}

static void numbers_have_their_runtimes(void **state UNUSED) {
    static const struct {
        unsigned n;
        const char *first, *also;
    } table[] = {
        {4, "Node's libuv", NULL},      {10, "ThreadPoolExecutor", "HikariCP"}, {15, "SQLAlchemy", NULL},
        {16, "Puma on JRuby", NULL},    {20, "asyncio.to_thread", "PgBouncer"}, {40, "anyio", NULL},
        {80, "Cloud Run", NULL},        {100, "PostgreSQL", "httpx"},           {200, "Tomcat", NULL},
        {8, "asyncio.to_thread", NULL}, {1000, "openai-python", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct why why = find(PROBE_POOL, table[i].n, false, 0, CANARY_NONE);
        check(names(&why, 0, table[i].first));
        check(!table[i].also || has(&why, table[i].also));
    }
    struct why why = find(PROBE_POOL, 15, false, 0, CANARY_NONE);
    check_str(str_c(why.reasons[0].number), "15 = 5 + 10");
    why = find(PROBE_POOL, 40, false, 0, CANARY_NONE);
    check_str(str_c(why.reasons[0].number), "40");
}

static void only_what_has_the_number_here_is_likely(void **state UNUSED) {
    struct why why = find(PROBE_POOL, 6, true, 2, CANARY_NONE);
    check(why.reasons[0].likely && !why.reasons[1].likely); // asyncio; browsers
    why = find(PROBE_POOL, 3, true, 2, CANARY_FINE);        // a pool may be set to any number
    for (unsigned i = 0; i < why.count; i++) {
        check(!why.reasons[i].likely);
    }
    why = find(PROBE_POOL, 3, true, 2, CANARY_FROZEN); // sync workers are all of the site's
    check(names(&why, 0, "gunicorn --workers") && why.reasons[0].likely);
    why = find(PROBE_CAP, 7, true, 2, CANARY_NONE);
    check(why.reasons[0].likely);
}

static void one_at_a_time_is_told_by_the_canary(void **state UNUSED) {
    struct why why = find(PROBE_SERIAL, 1, true, 2, CANARY_FROZEN);
    check(names(&why, 0, "a blocking call in async def"));
    check(!has(&why, "a global lock"));
    why = find(PROBE_SERIAL, 1, true, 2, CANARY_FINE);
    check(names(&why, 0, "a global lock"));
    check(has(&why, "Gradio"));
    check(has(&why, "Ollama"));
    check(has(&why, "gunicorn, sync"));
    check(!has(&why, "a blocking call"));
}

static void mechanisms_have_causes_of_their_own(void **state UNUSED) {
    struct why why = find(PROBE_POLL, 1, true, 2, CANARY_NONE);
    check_int(why.count, 1);
    check(names(&why, 0, "a flag"));
    why = find(PROBE_SESSION, 1, true, 2, CANARY_NONE);
    check(has(&why, "PHP sessions"));
    why = find(PROBE_PARTITIONED, 7, true, 2, CANARY_NONE);
    check(has(&why, "uvicorn --workers"));
    check(has(&why, "gunicorn --workers"));
    why = find(PROBE_CAP, 80, false, 2, CANARY_NONE);
    check(names(&why, 0, "Cloud Run"));
    check(has(&why, "nginx limit_conn"));
    why = find(PROBE_BUCKET, 5, false, 2, CANARY_NONE);
    check(has(&why, "nginx limit_req"));
    why = find(PROBE_FLAT, 0, true, 2, CANARY_NONE);
    check_int(why.count, 0);
}

static void what_is_only_likely_is_looked_up_too(void **state UNUSED) {
    struct verdict v = {.best.model = PROBE_INCONCLUSIVE, .likely = {.model = PROBE_POOL, .at_once = 40}};
    struct evidence e = {0};
    struct why why;
    why_find(&v, &e, &why);
    check(names(&why, 0, "anyio"));
}

static void every_trap_says_all_it_has_to(void **state UNUSED) {
    for (unsigned n = 1; n <= 1000; n++) {
        for (enum probe_model m = 0; m < PROBE_INCONCLUSIVE; m++) {
            struct why why = find(m, n, false, 0, CANARY_NONE);
            check(why.count <= WHY_MOST);
            for (unsigned i = 0; i < why.count; i++) {
                const struct trap *t = why.reasons[i].trap;
                check(*t->runtime && *t->number && *t->cause && *t->confirm && *t->fix && *t->source);
                check(*why.reasons[i].number);
                check(!t->at_once || t->at_once(why.reasons[i].cpus) == n);
            }
        }
    }
}

TESTS(TEST(six_is_asyncio_on_two_cpus_and_no_browser), TEST(the_machines_own_cpus_count_when_the_target_is_here),
      TEST(numbers_have_their_runtimes), TEST(one_at_a_time_is_told_by_the_canary),
      TEST(mechanisms_have_causes_of_their_own), TEST(what_is_only_likely_is_looked_up_too),
      TEST(every_trap_says_all_it_has_to), TEST(only_what_has_the_number_here_is_likely))
