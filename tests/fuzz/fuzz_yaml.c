// SPDX-License-Identifier: MIT
// A configuration file: whatever is in it, reading ends, says what is wrong, and never shows a secret.
#include "base/mem.h"
#include "config/config.h"
#include "fuzz.h"

// What variables hold, half of it in a form that looks like a key; no input has these words.
static const char *const values[] = {"sk-proj-Qanary0123456789abcdefghijklmnop", "qanary-without-a-pattern",
                                     "http://user:Qanary@host:1/v1", "80"};

static const char *environment(void *context, const char *name) {
    (void)context;
    return name[0] == 'N' ? NULL : values[(unsigned char)name[0] % ARRAY_LEN(values)];
}

static bool shows_secret(const char *text) {
    struct str s = str_c(text);
    return str_search(s, STR("anary")) < s.len;
}

static void check_problem(const struct config_problem *problem) {
    size_t n = strnlen(problem->text, sizeof problem->text);
    MUST(n > 0 && n < sizeof problem->text);
    for (size_t i = 0; i < n; i++) { // one line that a terminal can show
        MUST((unsigned char)problem->text[i] >= 0x20 && problem->text[i] != 0x7f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = str_from((const char *)data, size);
    struct config_problem problem = {""};
    struct config *c = NULL;
    bool own_secret = str_search(text, STR("anary")) < text.len; // then it may be shown where it is no secret
    if (str_search(text, STR("file:")) < text.len) {
        return 0; // whatever lies on this machine
    }
    enum err e = config_read_text("fuzz.yaml", text, environment, NULL, &c, &problem);
    MUST((e == OK) == (c != NULL));
    if (e == OK) {
        e = config_check(c, &problem);
    }
    if (e != OK) {
        check_problem(&problem);
        MUST(own_secret || !shows_secret(problem.text));
    }
    config_unref(c);
    return 0;
}
