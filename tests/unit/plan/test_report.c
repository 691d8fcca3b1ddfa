// SPDX-License-Identifier: MIT
// The forecast as text and JSON: sentences, widths, pictures in either alphabet, and no memory.
#include "plan/report.h"
#include "llm/json.h"
#include "plan/words.h"

#include "check.h"

#define SECOND UINT64_C(1000000000)

static void ask(struct question *q, unsigned users, unsigned calls, const char *runtime, const char *platform) {
    struct preset_facts facts = {.cpus = 2, .python_major = 3, .python_minor = 13};
    *q = (struct question){.users = users, .service_ns = 60 * SECOND, .think_ns = 60 * SECOND, .rate = 0.05, .cv = 1};
    q->chain.workers = q->chain.instances = 1;
    q->chain.calls = calls;
    check(preset_add(preset_find(RUNTIME, str_c(runtime)), &facts, &q->chain));
    if (platform) {
        const struct preset *p = preset_find(PLATFORM, str_c(platform));
        check(preset_add(p, &facts, &q->chain));
        q->platform = p->title;
        q->scaling = p->scaling;
        q->admits = p->seats ? p->seats : p->scales_at;
    }
}

static void print(struct buf *out, const struct question *q, const struct plan_style *style) {
    struct forecast f;
    buf_init(out, 1 << 20);
    forecast_init(&f, q);
    check_ok(style ? plan_print_text(out, q, &f, style) : plan_print_json(out, q, &f));
    forecast_finish(&f);
}

static bool has(const struct buf *b, const char *words) { return str_search(buf_str(b), str_c(words)) < buf_len(b); }

static size_t columns_of(struct str line) {
    size_t n = 0;
    for (size_t i = 0; i < line.len; i++) {
        n += (line.ptr[i] & 0xC0) != 0x80; // not the inside of a character
    }
    return n;
}

static const struct plan_style plain = {.columns = 80};

static void the_sentences(void **state UNUSED) {
    static const struct {
        unsigned users, calls;
        const char *runtime, *platform, *says;
    } table[] = {
        {15, 1, "asyncio", NULL, "6 at once: of 15 users 9 wait, the last one 120 s, and is done after 180 s.\n"},
        {7, 1, "asyncio", NULL, "6 at once: of 7 users 1 waits, the last one 60 s, and is done after 120 s.\n"},
        {6, 1, "asyncio", NULL, "6 at once: of 6 users nobody waits.\n"},
        {3, 5, "asyncio", NULL, "6 calls at once, 5 for each user: of 3 users 2 wait, the last one 120 s"},
        {9, 1, "async", NULL, "No limit: nobody waits for anybody; all 9 users are done after 60 s.\n"},
        {100, 1, "asyncio", "app-runner",
         "App Runner admits 100, serves 6: 94 wait in silence and the autoscaler never\nsees it.\n"},
        {10, 1, "asyncio", "ecs",
         "admits everybody, serves 6: the others wait in silence, and an\nautoscaler that looks at CPU and memory "
         "never sees it.\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct question q;
        struct buf out;
        ask(&q, table[i].users, table[i].calls, table[i].runtime, table[i].platform);
        print(&out, &q, &plain);
        if (!has(&out, table[i].says)) {
            fail_msg("no \"%s\" in:\n%.*s", table[i].says, STR_ARG(buf_str(&out)));
        }
        buf_finish(&out);
    }
}

static void no_line_is_too_long(void **state UNUSED) {
    static const unsigned columns[] = {80, 120, 200, 1000};
    for (size_t i = 0; preset_at(i); i++) {
        for (size_t c = 0; c < ARRAY_LEN(columns); c++) {
            struct plan_style style = {.columns = columns[c], .unicode = c % 2 == 0};
            bool runtime = preset_at(i)->group == RUNTIME;
            struct question q;
            struct buf out;
            ask(&q, 777, 1, runtime ? preset_at(i)->name : "puma", runtime ? NULL : preset_at(i)->name);
            print(&out, &q, &style);
            struct str rest = buf_str(&out);
            for (struct str line; str_split(&rest, '\n', &line);) {
                if (columns_of(line) > columns[c]) {
                    fail_msg("%s: %.*s", preset_at(i)->name, STR_ARG(line));
                }
                check(!str_ends(line, STR(" ")));
            }
            buf_finish(&out);
        }
    }
}

static void a_picture_in_ascii_and_in_lines(void **state UNUSED) {
    struct question q;
    struct buf out;
    ask(&q, 12, 1, "asyncio", NULL);
    print(&out, &q, &(struct plan_style){.columns = 60});
    check(has(&out, "    120 s                          +-----------------------\n"));
    check(has(&out, "     60 s -------------------------+\n"));
    check(has(&out, "    users 1                        7"));
    for (size_t i = 0; i < buf_len(&out); i++) {
        check((unsigned char)buf_str(&out).ptr[i] < 0x80);
    }
    buf_finish(&out);
    print(&out, &q, &(struct plan_style){.columns = 60, .unicode = true});
    check(has(&out, "\xE2\x94\x80\xE2\x94\x98\n"));
    check(has(&out, "\xE2\x94\x8C\xE2\x94\x80"));
    check(!has(&out, "\033"));
    buf_finish(&out);
    print(&out, &q, &(struct plan_style){.columns = 60, .unicode = true, .colour = true});
    check(has(&out, "\033[32m") && has(&out, "\033[33m"));
    buf_finish(&out);
}

static void the_json_says_the_same(void **state UNUSED) {
    struct question q;
    struct buf out;
    double n = 0;
    ask(&q, 15, 1, "asyncio", "app-runner");
    print(&out, &q, NULL);
    struct json *json = json_open(buf_str(&out), 1 << 20);
    check(json != NULL);
    const struct json_value *root = json_root(json);
    static const struct {
        const char *name;
        double value;
    } members[] = {{"at_once", 6},     {"last_done_s", 180}, {"mean_s", 108},           {"max_wait_s", 120},
                   {"knee_users", 12}, {"users", 15},        {"waiting_users", 9},      {"admits", 100},
                   {"serves", 6},      {"silent", 94},       {"stable_rate_per_s", 0.1}};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        check(json_number(json_member(root, members[i].name), &n));
        check(n - members[i].value < 1e-9 && members[i].value - n < 1e-9);
    }
    check_str(json_string(json_member(root, "smallest_link")), "pool");
    check_int(json_length(json_member(root, "each_user")), 15);
    const struct json_value *last = json_item(json_member(root, "each_user"), 14);
    check(json_number(json_member(last, "wait_s"), &n) && n > 119.9 && n < 120.1);
    check_str(json_string(json_member(last, "lost_to")), "App Runner's request limit");
    json_close(json);
    buf_finish(&out);

    ask(&q, 15, 1, "async", NULL);
    print(&out, &q, NULL);
    json = json_open(buf_str(&out), 1 << 20);
    check_int(json_kind(json_member(json_root(json), "at_once")), JSON_NULL);
    check_int(json_kind(json_member(json_root(json), "smallest_link")), JSON_NULL);
    json_close(json);
    buf_finish(&out);
}

static void numbers_as_people_write_them(void **state UNUSED) {
    static const struct {
        double n;
        const char *text;
    } table[] = {{0, "0"},          {60, "60"},     {120, "120"}, {1.5, "1.5"},          {0.25, "0.25"},
                 {11.6, "11.6"},    {3960, "3960"}, {0.1, "0.1"}, {0.0183824, "0.0184"}, {99.96, "100"},
                 {1e7, "10000000"}, {166.67, "167"}};
    char room[32];
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        check_str(str_c(number_text(room, table[i].n)), table[i].text);
    }
    check_str(str_c(seconds_text(room, 60)), "60 s");
}

static void print_without_memory(void *arg) {
    const struct question *q = arg;
    struct forecast f;
    struct buf out;
    buf_init(&out, 1 << 20);
    forecast_init(&f, q);
    enum err e = plan_print_text(&out, q, &f, &plain);
    check(e == OK || e == ERR_NOMEM);
    buf_clear(&out);
    e = plan_print_json(&out, q, &f);
    check(e == OK || e == ERR_NOMEM);
    forecast_finish(&f);
    buf_finish(&out);
}

static void without_memory_it_says_so(void **state UNUSED) {
    struct question q;
    ask(&q, 50, 1, "asyncio", "cloud-run");
    check(every_allocation_fails(print_without_memory, &q) > 4);
}

static void a_small_room_is_an_error(void **state UNUSED) {
    struct question q;
    struct forecast f;
    struct buf out;
    ask(&q, 50, 1, "asyncio", "cloud-run");
    forecast_init(&f, &q);
    for (size_t cap = 0; cap < 900; cap += 50) {
        buf_init(&out, cap);
        check_err(plan_print_text(&out, &q, &f, &plain), ERR_FULL);
        check_err(plan_print_json(&out, &q, &f), ERR_FULL);
        check_err(plan_print_presets(&out, &plain), ERR_FULL);
        buf_finish(&out);
    }
    forecast_finish(&f);
}

TESTS(TEST(the_sentences), TEST(no_line_is_too_long), TEST(a_picture_in_ascii_and_in_lines),
      TEST(the_json_says_the_same), TEST(numbers_as_people_write_them), TEST(without_memory_it_says_so),
      TEST(a_small_room_is_an_error))
