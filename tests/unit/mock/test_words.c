// SPDX-License-Identifier: MIT
#include "mock/words.h"

#include "check.h"

// The text's tokens, each with a bar behind it.
static void check_cut(const char *text, const char *wanted) {
    struct buf cut;
    struct str rest = str_c(text);
    uint64_t n = 0;
    buf_init(&cut, 1 << 20);
    while (rest.len) {
        size_t len = word_len(rest);
        check(len > 0);
        check_ok(buf_str_append(&cut, str_first(rest, len)));
        check_ok(buf_append(&cut, "|", 1));
        rest = str_skip(rest, len);
        n++;
    }
    check_str(buf_str(&cut), wanted);
    check_int(words_cut(str_c(text)), n);
    buf_finish(&cut);
}

static void words_take_the_blanks_before_them(void **state UNUSED) {
    check_cut("", "");
    check_cut("one", "one|");
    check_cut("one two  three", "one| two|  three|");
    check_cut("\n one\ttwo ", "\n one|\ttwo |");
    check_cut("   ", "   |");
    check_cut("a \r\n", "a \r\n|");
    check_cut("\xC3\xA9 \xF0\x9F\x98\x80x", "\xC3\xA9| \xF0\x9F\x98\x80x|");
}

// Counted one by one, for every length and shift that eight bytes at a time could get wrong.
static void words_are_counted_everywhere(void **state UNUSED) {
    static const char sample[] = "one two  three\nfour\tfive \xC3\xA9 \x7f \xff\x80 x y z, a.b  ! longer-than-eight  ";
    for (size_t from = 0; from < sizeof sample; from++) {
        for (size_t len = 0; len < sizeof sample - from; len++) {
            uint64_t n = 0;
            for (size_t i = 0; i < len; i++) {
                bool starts = i == 0 || (unsigned char)sample[from + i - 1] <= ' ';
                n += starts && (unsigned char)sample[from + i] > ' ';
            }
            check_int(words_count(str_from(sample + from, len)), n);
        }
    }
}

static void long_runs_are_cut(void **state UNUSED) {
    enum { LEN = 10 * WORD_MAX + 7 };
    char *text = xmalloc(LEN);
    memset(text, 'x', LEN);
    check_int(word_len(str_from(text, LEN)), WORD_MAX);
    check_int(words_cut(str_from(text, LEN)), 11);
    memset(text, ' ', LEN);
    check_int(word_len(str_from(text, LEN)), WORD_MAX);
    check_int(words_cut(str_from(text, LEN)), 10); // the last few are at the text's end
    free(text);
}

// A cut never falls inside a character, whatever is in front of it.
static void characters_stay_whole(void **state UNUSED) {
    static const char *const characters[] = {"\xC3\xA9", "\xE4\xBD\xA0", "\xF0\x9F\x98\x80"};
    for (size_t c = 0; c < ARRAY_LEN(characters); c++) {
        size_t size = strlen(characters[c]);
        for (size_t shift = 0; shift < 4; shift++) {
            char text[3 * WORD_MAX];
            size_t len = shift;
            memset(text, 'x', shift);
            for (; len + size <= sizeof text; len += size) {
                memcpy(text + len, characters[c], size);
            }
            size_t n = word_len(str_from(text, len));
            check(n <= WORD_MAX && n > WORD_MAX - 4);
            check_int((n - shift) % size, 0);
        }
    }
}

static void what_is_no_utf8_is_cut_all_the_same(void **state UNUSED) {
    char text[3 * WORD_MAX];
    memset(text, 0x80, sizeof text);
    check_int(words_cut(str_from(text, sizeof text)), 3);
}

// More of them than a lane of eight bits can count.
static void words_are_counted_in_long_texts(void **state UNUSED) {
    enum { LEN = 70000 };
    char *text = xmalloc(LEN);
    for (size_t period = 2; period < 20; period++) {
        uint64_t n = 0;
        for (size_t i = 0; i < LEN; i++) {
            text[i] = i % period ? ' ' : 'x';
            n += i % period == 0;
        }
        check_int(words_count(str_from(text, LEN)), n);
    }
    free(text);
}

TESTS(TEST(words_are_counted_in_long_texts), TEST(words_take_the_blanks_before_them),
      TEST(words_are_counted_everywhere), TEST(long_runs_are_cut), TEST(characters_stay_whole),
      TEST(what_is_no_utf8_is_cut_all_the_same))
