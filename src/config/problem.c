// SPDX-License-Identifier: MIT
#include "config/problem.h"

#include <stdarg.h>

enum { SHOWN_MAX = 80, FILE_SHOWN_MAX = 200, RANDOM_RUN = 20, HEX_RUN = 24 };

void problem_add(struct config_problem *p, const char *format, ...) {
    size_t used = strlen(p->text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(p->text + used, sizeof p->text - used, format, args);
    va_end(args);
}

void problem_begin(struct config_problem *p, const char *file, struct mark at) {
    p->text[0] = '\0';
    if (!file) {
        return;
    }
    size_t len = strlen(file);
    const char *cut = len > FILE_SHOWN_MAX ? "..." : "";
    problem_add(p, "%s%s:", cut, file + (len > FILE_SHOWN_MAX ? len - FILE_SHOWN_MAX : 0));
    if (at.line) {
        problem_add(p, "%u:%u:", at.line, at.column);
    }
    problem_add(p, " ");
}

enum err problem_nomem(struct config_problem *p, const char *file) {
    problem_begin(p, file, (struct mark){0, 0});
    problem_add(p, "out of memory, or more configuration than thaw holds");
    return ERR_NOMEM;
}

static bool is_alpha(char c) {
    c = ascii_lower(c);
    return c >= 'a' && c <= 'z';
}
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool in_random(char c) { return is_alpha(c) || is_digit(c); }
static bool in_hex(char c) { return hex_value(c) >= 0 || c == '-'; }

// Does the text have that many characters of a kind in a row, digits and letters among them?
static bool has_run(struct str s, bool (*belongs)(char), size_t length) {
    size_t run = 0;
    size_t letters = 0;
    size_t digits = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (!belongs(s.ptr[i])) {
            run = letters = digits = 0;
            continue;
        }
        run++;
        letters += is_alpha(s.ptr[i]);
        digits += is_digit(s.ptr[i]);
        if (letters && digits && run >= length) {
            return true;
        }
    }
    return false;
}

bool looks_secret(struct str text) {
    static const char *const prefixes[] = {"sk-",  "sk_",         "pk_", "rk_",    "xai-",    "gsk_",
                                           "ghp_", "github_pat_", "hf_", "r8_",    "nvapi-",  "xoxb-",
                                           "AKIA", "AIza",        "eyJ", "glpat-", "Bearer ", "Basic "};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        struct str prefix = str_c(prefixes[i]);
        size_t at = str_search(text, prefix);
        // At the start of a word: "ask-me" is none.
        if (at < text.len && (at == 0 || (!is_alpha(text.ptr[at - 1]) && !is_digit(text.ptr[at - 1])))) {
            return true;
        }
    }
    // What people call things has hyphens, dots, slashes every few characters; UUIDs have hyphens too.
    return has_run(text, in_random, RANDOM_RUN) || has_run(text, in_hex, HEX_RUN);
}

void problem_name(struct config_problem *p, struct str written) {
    if (looks_secret(written)) {
        problem_add(p, "(not shown: it looks like a secret)");
        return;
    }
    size_t shown = MIN(written.len, (size_t)SHOWN_MAX);
    while (shown < written.len && shown && ((unsigned char)written.ptr[shown] & 0xc0) == 0x80) {
        shown--; // never half a UTF-8 character
    }
    char text[SHOWN_MAX + 1];
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)written.ptr[i];
        text[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    problem_add(p, "%.*s%s", (int)shown, text, shown < written.len ? "..." : "");
}

void problem_quote(struct config_problem *p, struct str written) {
    const char *quote = looks_secret(written) ? "" : "'";
    problem_add(p, "%s", quote);
    problem_name(p, written);
    problem_add(p, "%s", quote);
}
