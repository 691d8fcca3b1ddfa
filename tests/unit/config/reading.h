// SPDX-License-Identifier: MIT
// Configurations from texts, with an environment of their own.
#pragma once
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "config/config.h"

static inline const char *test_environment(void *context UNUSED, const char *name) {
    static const char *const variables[][2] = {
        {"THAW_KEY", "client-secret-1"},
        {"OPENAI_API_KEY", "upstream-secret-1"},
        {"CHATBOT_KEY", "client-secret-2"},
        {"NIGHTLY_KEY", "client-secret-3"},
        {"EMPTY", ""},
        {"MANY", "many-hidden"},
        {"DOLLAR", "${THAW_KEY}"},
        {"LINE", "two\nlines"},
        {"HOST", "hidden.example"},
        {"PORT", "81"},
    };
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        if (strcmp(variables[i][0], name) == 0) {
            return variables[i][1];
        }
    }
    return NULL;
}

static inline struct config *read_config(const char *text) {
    struct config *c;
    struct config_problem problem;
    enum err e = config_read_text("t.yaml", str_c(text), test_environment, NULL, &c, &problem);
    if (e != OK) {
        fail_msg("%s", problem.text);
    }
    assert_string_equal(problem.text, "");
    return c;
}

static inline void check_refused(const char *text, const char *message) {
    struct config *c;
    struct config_problem problem;
    check_err(config_read_text("t.yaml", str_c(text), test_environment, NULL, &c, &problem), ERR_INVALID);
    assert_null(c);
    assert_string_equal(problem.text, message);
}

// Of what only holds for the whole; message "": all is well.
static inline void check_whole(const char *text, const char *message) {
    struct config *c = read_config(text);
    struct config_problem problem;
    enum err e = config_check(c, &problem);
    assert_string_equal(problem.text, message);
    check_err(e, *message ? ERR_INVALID : OK);
    config_unref(c);
}

// A file of this content; the caller unlinks it.
static inline void make_file(char path[64], const char *content, mode_t mode) {
    snprintf(path, 64, "/tmp/thaw-test-XXXXXX");
    int fd = mkstemp(path);
    check(fd >= 0);
    check(write(fd, content, strlen(content)) == (ssize_t)strlen(content));
    check_int(fchmod(fd, mode), 0);
    close(fd);
}
