// SPDX-License-Identifier: MIT
// W3C Trace Context, level 1. thaw is a front gate: a trace that a client names is not followed unless the configuration
// trusts it (trace.trust), since its flags would decide what others record. A valid traceparent is then passed on
// unchanged, with its tracestate; without trust it becomes a new trace with no flag set, and the tracestate goes. One that
// is not valid is ignored whole, with its tracestate. Where none came, none is made.
#pragma once
#include <stdbool.h>

#include "base/fields.h"

enum { TRACE_ID_LEN = 32, TRACEPARENT_LEN = 55 };

// Room for what is written by thaw; `id` is the trace's, empty where there is none.
struct trace {
    char parent[TRACEPARENT_LEN + 1];
    char id[TRACE_ID_LEN + 1];
};

// 00-<32 hex>-<16 hex>-<2 hex> in lower case, neither id all zeros; of a later version more may follow behind a '-'.
bool traceparent_valid(struct str s);
// Changes the fields of a request that goes on; what it adds borrows from *trace.
void trace_pass(struct fields *fields, bool trust, struct trace *trace);
