// SPDX-License-Identifier: MIT
// Any bytes as a traceparent: what is valid goes on unchanged where it is trusted, and becomes a valid one that has
// nothing of it where it is not; what is not valid goes nowhere.
#include "fuzz.h"
#include "gateway/trace.h"

enum { AT_TRACE = 3 };

static struct str pass(struct str parent, bool trust, struct field room[4], struct trace *trace) {
    struct fields fields = {.v = room, .cap = 4};
    MUST(fields_add(&fields, STR("traceparent"), parent) == OK);
    MUST(fields_add(&fields, STR("tracestate"), STR("a=1")) == OK);
    trace_pass(&fields, trust, trace);
    MUST(fields_count(&fields, FIELD_TRACESTATE) == (fields.n == 2));
    return fields_value(&fields, FIELD_TRACEPARENT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str parent = str_from((const char *)data, size);
    struct field room[4];
    struct trace trace;
    bool valid = traceparent_valid(parent);
    struct str trusted = pass(parent, true, room, &trace);
    MUST(valid ? str_eq(trusted, parent) : trusted.ptr == NULL);
    MUST(strlen(trace.id) == (valid ? TRACE_ID_LEN : 0u));
    struct str made = pass(parent, false, room, &trace);
    MUST((made.ptr != NULL) == valid);
    if (valid) {
        MUST(traceparent_valid(made) && str_ends(made, STR("-00")));
        MUST(!str_eq(str_first(str_skip(made, AT_TRACE), TRACE_ID_LEN),
                     str_first(str_skip(parent, AT_TRACE), TRACE_ID_LEN)));
        MUST(str_eq(str_first(str_skip(made, AT_TRACE), TRACE_ID_LEN), str_c(trace.id)));
    }
    return 0;
}
