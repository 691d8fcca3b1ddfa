// SPDX-License-Identifier: MIT
// thaw probe, once its arguments are understood: one loop, the prober, perhaps the mock beside it; progress on stderr,
// the result on stdout and in files.
#pragma once
#include "base/buf.h"
#include "cmd/machine.h"
#include "probe/probe.h"
#include "probe/report.h"

enum { REPORTS_MAX = 8 };

typedef enum err write_report(const struct probe_report *r, struct buf *out);

struct probing {
    struct probe_options probe; // host, port, tls, question, procedure, stream, timeout_ms, seed, canary
    struct str target;          // as it may be shown
    const char *command;        // how to run it again, as it may be shown
    const struct machine *machine;
    unsigned expect;
    uint64_t limit_ns; // the chain's smallest timeout, for the red line; 0: not given
    bool files_short;  // --max had to be lowered to what descriptors there are

    bool mock; // start one
    const char *mock_listen;
    uint64_t mock_ms;
    const char *journal; // URL of a mock, checked; NULL: none
    struct str journal_host;
    uint16_t journal_port;

    bool json, ascii;
    struct {
        const char *path;
        write_report *write;
        FILE *file;
    } reports[REPORTS_MAX];
    unsigned report_count;
};

// To the end; returns the exit code.
int probing_run(struct probing *p);
// Of what a report's file is called (FILE.html); NULL: no such kind. `kinds` lists them for people.
write_report *probing_kind(const char *path);
extern const char probing_kinds[];
