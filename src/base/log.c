// SPDX-License-Identifier: MIT
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <unistd.h>

static _Atomic int log_level = LOG_INFO; // allow-listed in tools/check_globals: the log sink
static _Atomic(struct log_writer *) log_writer;

void log_set_level(enum log_level level) { atomic_store(&log_level, (int)level); }

void log_set_writer(struct log_writer *writer) { atomic_store(&log_writer, writer); }

bool log_enabled(enum log_level level) { return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed); }

void log_line(enum log_level level, const char *format, ...) {
    static const char *const prefix[] = {"error: ", "warning: ", "", "debug: "};
    char line[1024];
    if (!log_enabled(level)) {
        return;
    }
    int n = snprintf(line, sizeof line, "thaw: %s", prefix[level]);
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    size_t len = MIN((size_t)n + (size_t)(m < 0 ? 0 : m), sizeof line - 2);
    line[len++] = '\n';
    struct log_writer *writer = atomic_load_explicit(&log_writer, memory_order_acquire);
    if (writer) {
        writer->write(writer, str_from(line, len));
        return;
    }
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written; // a log line that cannot be written is lost, nothing else
}
