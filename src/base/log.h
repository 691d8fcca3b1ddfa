// SPDX-License-Identifier: MIT
// Lines for people on stderr: "thaw: warning: text". One write per line; one that cannot be written is lost.
// Secrets are never arguments of a log call.
#pragma once
#include <stdbool.h>

#include "base/str.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

// Process-wide, set once before threads start.
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

// Takes the lines instead of stderr, from any thread; it must not wait for anybody (work/sink.h). Set before threads start,
// and back to NULL after they have ended.
struct log_writer {
    void (*write)(struct log_writer *writer, struct str line); // with its '\n'
};
void log_set_writer(struct log_writer *writer);

void log_line(enum log_level level, const char *format, ...) PRINTF(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
