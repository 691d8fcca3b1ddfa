// SPDX-License-Identifier: MIT
// A template is refused at a {{, or has parts that say the same when they are written out and read again.
#include "base/buf.h"
#include "config/template.h"
#include "fuzz.h"

enum { CAP = 64 << 20 };

static bool is_name(struct str s) {
    static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789.-";
    for (size_t i = 0; i < s.len; i++) {
        const char *found = memchr(characters, s.ptr[i], sizeof characters - 1);
        if (!found || (i == 0 && found - characters > 52)) {
            return false;
        }
    }
    return s.len > 0;
}

// As somebody would write it who knows of {{{{.
static void write_part(struct buf *out, const struct template_part *part) {
    struct str rest = part->text;
    if (part->is_name) {
        MUST(is_name(part->text));
        MUST(buf_printf(out, "{{%.*s}}", STR_ARG(part->text)) == OK);
        return;
    }
    MUST(rest.len > 0);
    while (rest.len) {
        size_t open = str_search(rest, STR("{{"));
        MUST(buf_str_append(out, str_first(rest, open)) == OK);
        MUST(open == rest.len || buf_str_append(out, STR("{{{{")) == OK);
        rest = str_skip(rest, open + 2);
    }
}

static void check_again(const struct template *template, struct arena *arena) {
    struct buf text;
    struct template again;
    size_t at;
    buf_init(&text, CAP);
    for (unsigned i = 0; i < template->n; i++) {
        write_part(&text, &template->parts[i]);
    }
    MUST(template_parse(buf_str(&text), arena, &again, &at) == OK);
    MUST(again.n == template->n);
    for (unsigned i = 0; i < again.n; i++) {
        MUST(again.parts[i].is_name == template->parts[i].is_name);
        MUST(str_eq(again.parts[i].text, template->parts[i].text));
    }
    buf_finish(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct arena arena;
    struct template template;
    struct str text = str_from((const char *)data, size);
    size_t at = 0;
    arena_init(&arena, CAP);
    enum err e = template_parse(text, &arena, &template, &at);
    if (e == OK) {
        check_again(&template, &arena);
    } else {
        MUST(e == ERR_INVALID);
        MUST(str_starts(str_skip(text, at), STR("{{")));
        MUST(template_parse(str_first(text, at), &arena, &template, &at) == OK); // all was well up to there
    }
    arena_finish(&arena);
    return 0;
}
