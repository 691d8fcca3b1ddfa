// SPDX-License-Identifier: MIT
#include "draw/text.h"

#include "llm/utf8.h"

// The bytes that belong together at the front of s, and whether they are a character.
static size_t next_character(struct str s, bool *valid) {
    *valid = true;
    return (unsigned char)s.ptr[0] < 0x80 ? 1 : utf8_sequence(s, valid);
}

// ---- XML

// U+FFFE and U+FFFF are characters of UTF-8 that XML forbids (XML 1.0, section 2.2).
static bool xml_has(struct str c) {
    unsigned char first = (unsigned char)c.ptr[0];
    bool control = c.len == 1 && (first < ' ' || first == 0x7F) && first != '\t' && first != '\n';
    bool none = c.len == 3 && (str_eq(c, STR("\xEF\xBF\xBE")) || str_eq(c, STR("\xEF\xBF\xBF")));
    return !control && !none;
}

static struct str xml_escape(struct str c) {
    static const struct {
        char c;
        struct str text;
    } escapes[] = {{'<', STR_INIT("&lt;")},
                   {'>', STR_INIT("&gt;")},
                   {'&', STR_INIT("&amp;")},
                   {'"', STR_INIT("&quot;")},
                   {'\'', STR_INIT("&#39;")}};
    for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
        if (c.ptr[0] == escapes[i].c) {
            return escapes[i].text;
        }
    }
    return c;
}

void put_xml(struct out *o, struct str s) {
    while (s.len) {
        bool valid;
        struct str c = str_first(s, next_character(s, &valid));
        put(o, valid && xml_has(c) ? xml_escape(c) : UTF8_REPLACEMENT);
        s = str_skip(s, c.len);
    }
}

// ---- a terminal

void put_plain(struct out *o, struct str s) {
    while (s.len) {
        bool valid;
        struct str c = str_first(s, next_character(s, &valid));
        bool shown = c.ptr[0] >= ' ' && c.ptr[0] <= '~';
        put(o, shown ? c : STR("?"));
        s = str_skip(s, c.len);
    }
}

// ---- Markdown

static size_t longest_run(struct str s, char of) {
    size_t longest = 0;
    size_t run = 0;
    for (size_t i = 0; i < s.len; i++) {
        run = s.ptr[i] == of ? run + 1 : 0;
        longest = MAX(longest, run);
    }
    return longest;
}

// What is not text becomes a blank: a line feed would end the paragraph, and with it the span.
static void put_on_one_line(struct out *o, struct str c, bool valid) {
    unsigned char first = (unsigned char)c.ptr[0];
    put(o, first < ' ' || first == 0x7F ? STR(" ") : valid ? c : UTF8_REPLACEMENT);
}

// The fence is longer than any run of backquotes inside (CommonMark 6.1).
void put_code_span(struct out *o, struct str s) {
    size_t fence = longest_run(s, '`') + 1;
    for (size_t i = 0; i < fence; i++) {
        put_text(o, "`");
    }
    put_text(o, " ");
    while (s.len) {
        bool valid;
        struct str c = str_first(s, next_character(s, &valid));
        put_on_one_line(o, c, valid);
        s = str_skip(s, c.len);
    }
    put_text(o, " ");
    for (size_t i = 0; i < fence; i++) {
        put_text(o, "`");
    }
}

// Everything that can begin a construct of CommonMark or GitHub's is an ASCII punctuation, which a backslash makes
// plain (CommonMark 2.4). '@' and '#' would be a mention and an issue even so: they get a joiner that is not seen.
void put_markdown(struct out *o, struct str s) {
    static const char marks[] = "\\`*_{}[]<>|~&$!";
    while (s.len) {
        bool valid;
        struct str c = str_first(s, next_character(s, &valid));
        put(o, strchr(marks, c.ptr[0]) && c.ptr[0] ? STR("\\") : STR(""));
        put_on_one_line(o, c, valid);
        put(o, c.ptr[0] == '@' || c.ptr[0] == '#' ? STR("\xE2\x81\xA0") : STR("")); // U+2060
        s = str_skip(s, c.len);
    }
}

// ---- lines

// Where the word begins that the byte before `at` belongs to.
static size_t word_start(struct str s, size_t at) {
    while (at && s.ptr[at - 1] != ' ') {
        at--;
    }
    return at;
}

// "20.1 s", "3 %", "0.3 ms": a line does not begin with a unit.
static bool is_unit(struct str s) {
    static const struct str units[] = {STR_INIT("s"), STR_INIT("ms"), STR_INIT("%")};
    struct str word = str_first(s, str_find(s, ' '));
    word.len -= word.len && strchr(".,:;)", word.ptr[word.len - 1]) ? 1 : 0;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (str_eq(word, units[i])) {
            return true;
        }
    }
    return false;
}

bool text_wrap(struct str *rest, size_t columns, struct str *line) {
    while (rest->len && rest->ptr[0] == ' ') {
        *rest = str_skip(*rest, 1);
    }
    *line = str_first(*rest, columns);
    if (rest->len > columns && (rest->ptr[columns] != ' ' || is_unit(str_skip(*rest, columns + 1)))) {
        size_t end = word_start(*rest, columns);
        end = end && is_unit(str_skip(*rest, end)) ? word_start(*rest, end - 1) : end;
        line->len = end ? end : columns;
    }
    *rest = str_skip(*rest, line->len);
    *line = str_trim(*line);
    return line->len > 0;
}

void put_paragraph(struct out *o, struct str words, unsigned indent, unsigned columns) {
    struct str line;
    for (bool first = true; text_wrap(&words, columns > indent ? columns - indent : 1, &line); first = false) {
        put_format(o, "%*s", first ? 0 : (int)indent, "");
        put(o, line);
        put_text(o, "\n");
    }
}
