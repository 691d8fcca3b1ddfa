// SPDX-License-Identifier: MIT
// Lines of text on their way to a descriptor, written by a thread of their own: whoever has a line to say (a loop) never
// waits for a disk, a terminal or a pipe that nobody reads. What waits is bounded; a line that finds no room is dropped,
// whole, and counted. Lines keep their order, and are written whole: to a pipe in writes of at most PIPE_BUF, so that
// others may write to it, too.
//
// A line is copied under a lock that the writer holds only to swap two buffers. The writer is woken by the first line;
// after that it looks by itself every few milliseconds, so that many lines cost no wake-up. Its thread begins with the
// first line: a process that says nothing has one less, and libc may spare it its locks.
#pragma once
#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

enum { SINK_ROOM = 1 << 20, SINK_LAST_MS = 500 };

struct sink;
struct sink_options {
    const char *path; // appended to, made where there is none; NULL: `fd`, which stays open behind the sink
    int fd;
    const char *name; // of its thread (15 bytes of it)
    size_t room;      // bytes that may wait; 0: SINK_ROOM
};

// ERR_SYS with errno (or what err_from_errno makes of it): the file cannot be opened.
MUSTCHECK enum err sink_open(const struct sink_options *options, struct sink **sink);
// Writes what waits, for SINK_LAST_MS at most where nobody reads it. Accepts NULL. Nobody else uses it any more.
void sink_close(struct sink *take_sink);
// `line` ends in its '\n'. False: dropped. Any thread; never waits.
bool sink_put(struct sink *sink, struct str line);
// The file of that path anew, as after logrotate has moved it away; if that cannot be had the old one stays, and it is
// counted. Nothing for a descriptor. Any thread.
void sink_reopen(struct sink *sink);

struct sink_stats {
    uint64_t lines;    // taken
    uint64_t dropped;  // found no room, or could not be written
    uint64_t reopened; // times
    uint64_t unopened; // times that it could not be
};
struct sink_stats sink_stats(struct sink *sink); // any thread
