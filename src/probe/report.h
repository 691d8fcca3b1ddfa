// SPDX-License-Identifier: MIT
// A probe as somebody reads it: every kind of report is written from this one struct. Pure: no I/O, no clock. Text from
// outside (target, command) is escaped for where it goes; what comes from traps.def is ours, and ASCII.
#pragma once
#include "base/buf.h"
#include "probe/verdict.h"
#include "probe/why.h"

struct probe_report {
    struct str target; // the URL that was asked
    const struct evidence *evidence;
    const struct verdict *verdict;
    const struct why *why;
    unsigned expect;     // --expect; 0: none
    uint64_t timeout_ns; // the smallest of the chain, for the red line; 0: unknown
    const char *command; // how to run it again, without secrets; NULL: not told
    uint64_t unix_s;     // when it began
};

// Whether as many users as were expected are served at once.
enum expectation {
    EXPECT_NOTHING, // there was no --expect
    EXPECT_MET,
    EXPECT_FAILED,
    EXPECT_UNKNOWN, // the verdict does not say: inconclusive, or nobody waited but so many were not tried
};
enum expectation report_expectation(const struct probe_report *r);

// The report for machines: the members of SPEC, `trials` with every call, times in milliseconds from the probe's start.
// Some 200 bytes a call.
MUSTCHECK enum err json_write(const struct probe_report *r, struct buf *out);
// To be pasted into an issue.
MUSTCHECK enum err markdown_write(const struct probe_report *r, struct buf *out);
// JUnit as CI systems read it: one test case. A failed expectation is a failure; one that was not decided an error; an
// inconclusive probe of which nothing was expected is skipped.
MUSTCHECK enum err junit_write(const struct probe_report *r, struct buf *out);
