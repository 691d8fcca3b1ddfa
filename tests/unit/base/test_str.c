// SPDX-License-Identifier: MIT
#include "check.h"

static void parse_u64_takes_plain_digits_only(void **state UNUSED) {
    static const struct {
        const char *text;
        enum err wanted;
        uint64_t value;
    } rows[] = {
        {"0", OK, 0},
        {"7", OK, 7},
        {"007", OK, 7},
        {"18446744073709551615", OK, UINT64_MAX},
        {"18446744073709551616", ERR_FULL, 0},
        {"18446744073709551620", ERR_FULL, 0},
        {"99999999999999999999999", ERR_FULL, 0},
        {"", ERR_INVALID, 0},
        {"+1", ERR_INVALID, 0},
        {"-1", ERR_INVALID, 0},
        {" 1", ERR_INVALID, 0},
        {"1 ", ERR_INVALID, 0},
        {"1,2", ERR_INVALID, 0},
        {"0x10", ERR_INVALID, 0},
        {"1e3", ERR_INVALID, 0},
        {"/", ERR_INVALID, 0},
        {":", ERR_INVALID, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t value = 4711;
        check_err(parse_u64(str_c(rows[i].text), &value), rows[i].wanted);
        check(value == (rows[i].wanted == OK ? rows[i].value : 4711));
    }
    uint64_t value = 0;
    check_err(parse_u64(STR("1\0"), &value), ERR_INVALID);
    check_err(parse_u64((struct str){NULL, 0}, &value), ERR_INVALID);
}

static void check_formatted(uint64_t value) {
    char out[FORMAT_U64_MAX];
    uint64_t again = 0;
    struct str text = str_from(out, (size_t)(format_u64(out, value) - out));
    check_ok(parse_u64(text, &again));
    check(again == value && (text.len == 1 || out[0] != '0'));
}

static void numbers_are_formatted_as_they_are_read(void **state UNUSED) {
    uint64_t power = 1;
    for (unsigned digits = 1; digits <= FORMAT_U64_MAX; digits++, power *= 10) {
        check_formatted(power - 1);
        check_formatted(power);
        check_formatted(power + 17);
    }
    for (uint64_t value = 0; value < 1200; value++) {
        check_formatted(value);
    }
    check_formatted(UINT64_MAX);
}

struct unit_row {
    const char *text;
    enum err wanted;
    uint64_t value;
};

static void check_rows(const struct unit_row *rows, size_t n, enum err (*parse)(struct str, uint64_t *)) {
    for (size_t i = 0; i < n; i++) {
        uint64_t value = 0;
        enum err e = parse(str_c(rows[i].text), &value);
        if (e != rows[i].wanted || (e == OK && value != rows[i].value)) {
            fail_msg("\"%s\": got %s %llu", rows[i].text, err_name(e), (unsigned long long)value);
        }
    }
}

static void durations_need_a_unit(void **state UNUSED) {
    static const struct unit_row rows[] = {
        {"0", OK, 0},
        {"0s", OK, 0},
        {"250ms", OK, 250},
        {"5s", OK, 5000},
        {"2m", OK, 120000},
        {"1h", OK, 3600000},
        {"1.5s", OK, 1500},
        {"1.001s", OK, 1001},
        {"0.5m", OK, 30000},
        {"2.25h", OK, 8100000},
        {"5S", OK, 5000},
        {"250MS", OK, 250},
        {"18446744073709551615ms", OK, UINT64_MAX},
        {"18446744073709551615s", ERR_FULL, 0},
        {"18446744073709551616ms", ERR_FULL, 0},
        {"18446744073709551.999s", ERR_FULL, 0},
        {"5", ERR_INVALID, 0},
        {"1.5", ERR_INVALID, 0},
        {"00", ERR_INVALID, 0},
        {"", ERR_INVALID, 0},
        {"s", ERR_INVALID, 0},
        {".5s", ERR_INVALID, 0},
        {"1.s", ERR_INVALID, 0},
        {"1.5.5s", ERR_INVALID, 0},
        {"1.2345s", ERR_INVALID, 0},
        {"-5s", ERR_INVALID, 0},
        {"+5s", ERR_INVALID, 0},
        {"5 s", ERR_INVALID, 0},
        {"5sec", ERR_INVALID, 0},
        {"5d", ERR_INVALID, 0},
        {"1m30s", ERR_INVALID, 0},
    };
    check_rows(rows, ARRAY_LEN(rows), parse_duration_ms);
}

static void seconds_have_no_unit(void **state UNUSED) {
    static const struct unit_row rows[] = {
        {"5", OK, 5000},
        {"0", OK, 0},
        {"0.25", OK, 250},
        {"60.001", OK, 60001},
        {"5s", ERR_INVALID, 0},
        {"", ERR_INVALID, 0},
        {".5", ERR_INVALID, 0},
        {"1.2345", ERR_INVALID, 0},
        {"-1", ERR_INVALID, 0},
        {"1e3", ERR_INVALID, 0},
        {"18446744073709551615", ERR_FULL, 0},
    };
    check_rows(rows, ARRAY_LEN(rows), parse_seconds_ms);
}

static void no_duration_is_rounded_down_to_nothing(void **state UNUSED) {
    static const struct unit_row rows[] = {
        {"0.5ms", ERR_INVALID, 0}, {"1.0ms", OK, 1}, {"0.001s", OK, 1}, {"0.001m", OK, 60}};
    check_rows(rows, ARRAY_LEN(rows), parse_duration_ms);
}

static void fine_durations_go_to_the_microsecond(void **state UNUSED) {
    static const struct unit_row rows[] = {
        {"0", OK, 0},          {"20us", OK, 20},       {"0.5ms", OK, 500},    {"1.5s", OK, 1500000},
        {"2m", OK, 120000000}, {"1h", OK, 3600000000}, {"5", ERR_INVALID, 0}, {"0.5us", ERR_INVALID, 0},
    };
    check_rows(rows, ARRAY_LEN(rows), parse_duration_us);
}

static void sizes_count_in_1024(void **state UNUSED) {
    static const struct unit_row rows[] = {
        {"0", OK, 0},
        {"1", OK, 1},
        {"64k", OK, 65536},
        {"64K", OK, 65536},
        {"8m", OK, 8u << 20},
        {"1g", OK, 1u << 30},
        {"1t", OK, 1ull << 40},
        {"16777216t", ERR_FULL, 0},
        {"1.5k", OK, 1536},
        {"1.3k", ERR_INVALID, 0}, // no whole number of bytes
        {"0.5g", OK, 1u << 29},
        {"17179869183g", OK, 17179869183ull << 30},
        {"17179869184g", ERR_FULL, 0},
        {"18446744073709551616", ERR_FULL, 0},
        {"1.5", ERR_INVALID, 0},
        {"k", ERR_INVALID, 0},
        {"", ERR_INVALID, 0},
        {"64kb", ERR_INVALID, 0},
        {"64 k", ERR_INVALID, 0},
        {"-1", ERR_INVALID, 0},
        {"1p", ERR_INVALID, 0},
    };
    check_rows(rows, ARRAY_LEN(rows), parse_size);
}

static void what_is_formatted_is_read_back(void **state UNUSED) {
    static const uint64_t values[] = {0,       1,        250,   999,     1000,           1500,      59000,
                                      60000,   90000,    61000, 3600000, 86400000,       5400000,   1024,
                                      1 << 20, 1u << 30, 65536, 65537,   UINT64_MAX - 7, UINT64_MAX};
    char out[32];
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        uint64_t back = 1;
        int n = format_duration(out, sizeof out, values[i]);
        check_int(n, strlen(out));
        check_ok(parse_duration_ms(str_c(out), &back));
        check(back == values[i]);
        n = format_size(out, sizeof out, values[i]);
        check_int(n, strlen(out));
        check_ok(parse_size(str_c(out), &back));
        check(back == values[i]);
    }
}

static void formats_are_the_shortest(void **state UNUSED) {
    char out[32];
    format_duration(out, sizeof out, 120000);
    check_str(str_c(out), "2m");
    format_duration(out, sizeof out, 90000);
    check_str(str_c(out), "90s");
    format_duration(out, sizeof out, 1500);
    check_str(str_c(out), "1500ms");
    format_duration(out, sizeof out, 7200000);
    check_str(str_c(out), "2h");
    format_duration(out, sizeof out, 0);
    check_str(str_c(out), "0");
    format_size(out, sizeof out, 32 << 20);
    check_str(str_c(out), "32m");
    format_size(out, sizeof out, 1000);
    check_str(str_c(out), "1000");
    check_int(format_size(out, 2, 1000), 4); // as snprintf: what it would have been
    check_str(str_c(out), "1");
}

static void nearest_finds_slips_and_nothing_far(void **state UNUSED) {
    static const char *const names[] = {"listen", "admin", "upstreams", "models", "recipes", "keys", "max_body"};
    static const struct {
        const char *wrong;
        const char *wanted;
    } rows[] = {
        {"listne", "listen"},
        {"lisen", "listen"},
        {"Listen", "listen"},
        {"upstream", "upstreams"},
        {"model", "models"},
        {"recipies", "recipes"},
        {"key", "keys"},
        {"kyes", "keys"},
        {"kesy", "keys"},
        {"maxbody", "max_body"},
        {"max-body", "max_body"},
        {"zzzz", NULL},
        {"timeout", NULL},
        {"", NULL},
        {"x", NULL},
        {"ab", NULL},
        {"completely_other", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *got = str_nearest(str_c(rows[i].wrong), names, ARRAY_LEN(names));
        if (!got != !rows[i].wanted || (got && strcmp(got, rows[i].wanted) != 0)) {
            fail_msg("%s: got %s", rows[i].wrong, got ? got : "nothing");
        }
    }
    check(str_nearest(STR("keys"), names, 0) == NULL);
}

static void nearest_survives_long_words(void **state UNUSED) {
    static const char longest[] = "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff123"; // 63
    static const char longer[] = "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff1234";
    const char *const names[] = {longer, longest};
    check(str_nearest(str_c(longest), names, 2) == longest);
    check(str_nearest(str_c(longer), names, 2) == NULL);
}

static void comparing_ignores_case_in_ascii_only(void **state UNUSED) {
    check(str_ieq(STR("Content-Length"), STR("cONTENT-lENGTH")));
    check(!str_ieq(STR("a"), STR("ab")));
    check(!str_ieq(STR("["), STR("{"))); // differ by the case bit, are no letters
    check(!str_ieq(STR("@"), STR("`")));
    check(!str_ieq(STR("\xC4"), STR("\xE4")));
    check(str_ieq((struct str){NULL, 0}, STR("")));
    check(str_eq((struct str){NULL, 0}, STR("")));
    check(!str_eq(STR("a\0b"), STR("a\0c")));
    check_int(ascii_lower('Z'), 'z');
    check_int(ascii_lower('@'), '@');
}

static void starts_ends_find_and_search(void **state UNUSED) {
    check(str_starts(STR("/v1/models"), STR("/v1")));
    check(str_starts(STR("x"), STR("")));
    check(!str_starts(STR("/v"), STR("/v1")));
    check(str_ends(STR("a.json"), STR(".json")));
    check(!str_ends(STR("json"), STR(".json")));
    check_int(str_find(STR("a=b=c"), '='), 1);
    check_int(str_find(STR("abc"), '='), 3);
    check_int(str_find((struct str){NULL, 0}, '='), 0);
    check_int(str_search(STR("a\r\n\r\nb"), STR("\r\n\r\n")), 1);
    check_int(str_search(STR("ab"), STR("abc")), 2);
    check_int(str_search(STR("ab"), STR("")), 0);
    check_int(str_search(STR("ab"), (struct str){NULL, 0}), 0);
    check_int(str_search((struct str){NULL, 0}, STR("x")), 0);
}

static void trim_takes_spaces_and_tabs(void **state UNUSED) {
    check_str(str_trim(STR(" \t a b\t ")), "a b");
    check_str(str_trim(STR(" \t ")), "");
    check_str(str_trim(STR("")), "");
    check_str(str_trim(STR("\r\nx\n")), "\r\nx\n");
    check_int(str_trim((struct str){NULL, 0}).len, 0);
}

static void split_yields_every_part(void **state UNUSED) {
    struct str rest = STR("a,,b,");
    struct str part = {NULL, 0};
    static const char *const wanted[] = {"a", "", "b", ""};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        check(str_split(&rest, ',', &part));
        check_str(part, wanted[i]);
    }
    check(!str_split(&rest, ',', &part));
    rest = STR("");
    check(str_split(&rest, ',', &part));
    check_int(part.len, 0);
    check(!str_split(&rest, ',', &part));
}

static void skip_and_first_stay_inside(void **state UNUSED) {
    check_str(str_skip(STR("abc"), 1), "bc");
    check_str(str_skip(STR("abc"), 9), "");
    check_str(str_first(STR("abc"), 2), "ab");
    check_str(str_first(STR("abc"), 9), "abc");
}

static void dup_adds_a_terminator(void **state UNUSED) {
    char *copy = str_dup(STR("a\0b"));
    check(memcmp(copy, "a\0b", 4) == 0);
    free(copy);
    copy = str_dup((struct str){NULL, 0});
    check_int(copy[0], 0);
    free(copy);
}

static void hex_digits(void **state UNUSED) {
    check_int(hex_value('0'), 0);
    check_int(hex_value('9'), 9);
    check_int(hex_value('a'), 10);
    check_int(hex_value('F'), 15);
    check_int(hex_value('g'), -1);
    check_int(hex_value('G'), -1);
    check_int(hex_value('/'), -1);
    check_int(hex_value(':'), -1);
    check_int(hex_value('@'), -1);
    check_int(hex_value('`'), -1);
    check_int(hex_value('\x90'), -1);
}

static void error_names_are_lower_case(void **state UNUSED) {
    check_str(str_c(err_name(ERR_TLS_VERIFY)), "tls_verify");
    for (unsigned e = 0; e < ERR_COUNT; e++) {
        for (const char *c = err_name((enum err)e); *c; c++) {
            check((*c >= 'a' && *c <= 'z') || *c == '_');
        }
        check(err_text((enum err)e)[0] != '\0');
    }
}

TESTS(TEST(numbers_are_formatted_as_they_are_read), TEST(parse_u64_takes_plain_digits_only),
      TEST(durations_need_a_unit), TEST(seconds_have_no_unit), TEST(no_duration_is_rounded_down_to_nothing),
      TEST(fine_durations_go_to_the_microsecond), TEST(sizes_count_in_1024), TEST(what_is_formatted_is_read_back),
      TEST(formats_are_the_shortest), TEST(nearest_finds_slips_and_nothing_far), TEST(nearest_survives_long_words),
      TEST(comparing_ignores_case_in_ascii_only), TEST(starts_ends_find_and_search), TEST(trim_takes_spaces_and_tabs),
      TEST(split_yields_every_part), TEST(skip_and_first_stay_inside), TEST(dup_adds_a_terminator), TEST(hex_digits),
      TEST(error_names_are_lower_case))
