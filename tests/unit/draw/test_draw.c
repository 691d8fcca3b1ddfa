// SPDX-License-Identifier: MIT
// What comes from outside does nothing but be read, wherever it is put; and lines and numbers as people read them.
#include "check.h"
#include "draw/page.h"
#include "draw/scale.h"
#include "draw/text.h"

enum { CAP = 4096 };

static void check_put(void (*put_it)(struct out *o, struct str s), struct str in, const char *wanted) {
    struct buf b;
    struct out o = {&b, OK};
    buf_init(&b, CAP);
    put_it(&o, in);
    check_ok(o.e);
    check_str(buf_str(&b), wanted);
    buf_finish(&b);
}

static void xml_is_text_whatever_it_was(void **state UNUSED) {
    check_put(put_xml, STR("<a b=\"c\" d='e'>&amp;"), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;");
    check_put(put_xml, STR("a\x1b[31m\0b\x7f\tc\n"),
              "a\xEF\xBF\xBD[31m\xEF\xBF\xBD"
              "b\xEF\xBF\xBD\tc\n");
    check_put(put_xml, STR("\xC3\xA4\xF0\x9F\x98\x80"), "\xC3\xA4\xF0\x9F\x98\x80");
    check_put(put_xml, STR("\xC3"), "\xEF\xBF\xBD");
    check_put(put_xml, STR("\xED\xA0\x80\xEF\xBF\xBF\xEF\xBF\xBE"),
              "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

static void a_terminal_is_told_nothing(void **state UNUSED) {
    check_put(put_plain, STR("http://a/\x1b]0;x\x07\r\n\x9b"), "http://a/?]0;x????");
    check_put(put_plain, STR("\xC3\xA4\xE2\x80\xAE~ "), "??~ ");
}

static void a_code_span_cannot_be_left(void **state UNUSED) {
    check_put(put_code_span, STR("plain"), "` plain `");
    check_put(put_code_span, STR("a`b```c`"), "```` a`b```c` ````");
    check_put(put_code_span, STR("a\n\n# b\r"), "` a  # b  `");
}

static void markdown_is_plain_text(void **state UNUSED) {
    check_put(put_markdown, STR("min(32, cpus + 4) *x* _y_ <b> [a](b) |"),
              "min(32, cpus + 4) \\*x\\* \\_y\\_ \\<b\\> \\[a\\](b) \\|");
    check_put(put_markdown, STR("@all #1\n\n- x\0"),
              "@\xE2\x81\xA0"
              "all #\xE2\x81\xA0"
              "1  - x ");
}

static void lines_end_between_words(void **state UNUSED) {
    static const char *const wanted[] = {"one two", "three", "fourfivesi", "x"};
    struct str rest = STR(" one two  three fourfivesix ");
    struct str line;
    size_t n = 0;
    for (; text_wrap(&rest, 10, &line); n++) {
        check(n < ARRAY_LEN(wanted));
        check_str(line, wanted[n]);
    }
    check_int(n, ARRAY_LEN(wanted));
    rest = STR("abc def");
    check(text_wrap(&rest, 3, &line)); // the blank is the character behind
    check_str(line, "abc");
    check(text_wrap(&rest, 3, &line));
    check_str(line, "def");
    rest = STR("it took 20.1 s. More"); // a number stays with its unit, wherever the line ends
    check(text_wrap(&rest, 13, &line));
    check_str(line, "it took");
    check(text_wrap(&rest, 13, &line));
    check_str(line, "20.1 s. More");
    rest = STR("aa 20 s b");
    check(text_wrap(&rest, 5, &line));
    check_str(line, "aa");
    check(text_wrap(&rest, 5, &line));
    check_str(line, "20 s");
    rest = STR("   ");
    check(!text_wrap(&rest, 3, &line));
}

static void a_paragraph_hangs(void **state UNUSED) {
    struct buf b;
    struct out o = {&b, OK};
    buf_init(&b, CAP);
    put_text(&o, "A: ");
    put_paragraph(&o, STR("aa bb cc dd"), 3, 8);
    check_str(buf_str(&b), "A: aa bb\n   cc dd\n");
    buf_finish(&b);
}

static void check_time(uint64_t ns, const char *wanted) {
    struct buf b;
    struct out o = {&b, OK};
    buf_init(&b, CAP);
    put_time(&o, ns);
    check_str(buf_str(&b), wanted);
    buf_finish(&b);
}

static void numbers_have_the_digits_that_matter(void **state UNUSED) {
    check_time(184000000000, "184 s");
    check_time(99960000000, "100 s");
    check_time(99940000000, "99.9 s");
    check_time(20090000000, "20.1 s");
    check_time(996000000, "1.0 s");
    check_time(994000000, "0.99 s");
    check_time(203000000, "0.20 s");
    check_time(45000000, "0.045 s");
    check_time(310000, "0.31 ms");
    check_time(0, "0 s");
    static const struct {
        uint64_t n;
        const char *text;
    } counts[] = {{0, "0"}, {999, "999"}, {1000, "1,000"}, {2045, "2,045"}, {1000007, "1,000,007"}};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct buf b;
        struct out o = {&b, OK};
        buf_init(&b, CAP);
        put_count(&o, counts[i].n);
        check_str(buf_str(&b), counts[i].text);
        buf_finish(&b);
    }
}

static void an_axis_has_round_marks(void **state UNUSED) {
    check(axis_step(30, 7) == 5);
    check(axis_step(10, 10) == 1);
    check(axis_step(0.25, 10) > 0.049 && axis_step(0.25, 10) < 0.051);
}

static void a_page_is_closed_and_its_title_escaped(void **state UNUSED) {
    struct buf b;
    struct out o = {&b, OK};
    buf_init(&b, 1 << 16);
    page_begin(&o, STR("</title><script>"), "");
    page_end(&o);
    check_ok(o.e);
    check(str_search(buf_str(&b), STR("<title>&lt;/title&gt;&lt;script&gt;</title>")) < buf_len(&b));
    check(str_ends(buf_str(&b), STR("</main>\n</body>\n</html>\n")));
    buf_finish(&b);
}

TESTS(TEST(xml_is_text_whatever_it_was), TEST(a_terminal_is_told_nothing), TEST(a_code_span_cannot_be_left),
      TEST(markdown_is_plain_text), TEST(lines_end_between_words), TEST(a_paragraph_hangs),
      TEST(numbers_have_the_digits_that_matter), TEST(an_axis_has_round_marks),
      TEST(a_page_is_closed_and_its_title_escaped))
