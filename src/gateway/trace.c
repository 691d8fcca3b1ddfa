// SPDX-License-Identifier: MIT
#include "gateway/trace.h"

#include "net/digest.h"

enum { AT_TRACE = 3, AT_PARENT = 36, PARENT_LEN = 16, AT_FLAGS = 53 };

static bool is_hex(struct str s) {
    bool hex = true;
    for (size_t i = 0; i < s.len; i++) {
        hex = hex && hex_value(s.ptr[i]) >= 0 && !(s.ptr[i] >= 'A' && s.ptr[i] <= 'F');
    }
    return hex;
}

static bool is_id(struct str s) {
    bool zero = true;
    for (size_t i = 0; i < s.len; i++) {
        zero = zero && s.ptr[i] == '0';
    }
    return is_hex(s) && !zero;
}

bool traceparent_valid(struct str s) {
    if (s.len < TRACEPARENT_LEN || s.ptr[2] != '-' || s.ptr[AT_PARENT - 1] != '-' || s.ptr[AT_FLAGS - 1] != '-') {
        return false;
    }
    struct str version = str_first(s, 2);
    bool known = str_eq(version, STR("00"));
    bool long_enough = known ? s.len == TRACEPARENT_LEN : s.len == TRACEPARENT_LEN || s.ptr[TRACEPARENT_LEN] == '-';
    return long_enough && is_hex(version) && !str_eq(version, STR("ff")) &&
           is_id(str_first(str_skip(s, AT_TRACE), TRACE_ID_LEN)) &&
           is_id(str_first(str_skip(s, AT_PARENT), PARENT_LEN)) && is_hex(str_first(str_skip(s, AT_FLAGS), 2));
}

// All zeros are no id.
static void make_id(char *out, unsigned bytes) {
    unsigned char random[TRACE_ID_LEN / 2];
    random_bytes(random, bytes);
    random[0] |= 1;
    for (unsigned i = 0; i < bytes; i++) {
        snprintf(out + 2 * (size_t)i, 3, "%02x", random[i]);
    }
}

static void begin(struct trace *trace) {
    char parent[PARENT_LEN + 1];
    make_id(trace->id, TRACE_ID_LEN / 2);
    make_id(parent, PARENT_LEN / 2);
    snprintf(trace->parent, sizeof trace->parent, "00-%s-%s-00", trace->id, parent);
}

// The usual case is that there is nothing to do.
static bool names_trace(const struct fields *fields) {
    for (unsigned i = 0; i < fields->n; i++) {
        if (fields->v[i].id == FIELD_TRACEPARENT || fields->v[i].id == FIELD_TRACESTATE) {
            return true;
        }
    }
    return false;
}

void trace_pass(struct fields *fields, bool trust, struct trace *trace) {
    trace->id[0] = '\0';
    if (!names_trace(fields)) {
        return;
    }
    const struct field *parent = fields_find(fields, FIELD_TRACEPARENT);
    bool valid = parent && fields_count(fields, FIELD_TRACEPARENT) == 1 && traceparent_valid(parent->value);
    if (valid && trust) {
        memcpy(trace->id, parent->value.ptr + AT_TRACE, TRACE_ID_LEN);
        trace->id[TRACE_ID_LEN] = '\0';
        return;
    }
    fields_remove(fields, FIELD_TRACESTATE);
    if (!parent) {
        return;
    }
    fields_remove(fields, FIELD_TRACEPARENT);
    if (valid) {
        begin(trace);
        enum err e = fields_add(fields, STR("traceparent"), str_c(trace->parent));
        (void)e; // there is room: one was taken out
    }
}
