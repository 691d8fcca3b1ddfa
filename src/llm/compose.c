// SPDX-License-Identifier: MIT
#include "llm/compose.h"

#include <inttypes.h>

#include "llm/json.h"

static enum err append_message(struct buf *out, struct str opening, struct str content) {
    enum err e = buf_str_append(out, opening);
    e = e == OK ? json_append_string(out, content) : e;
    return e == OK ? buf_append(out, "}", 1) : e;
}

static enum err append_options(struct buf *out, const uint64_t *max_tokens, const double *temperature, bool stream) {
    enum err e = OK;
    if (max_tokens) {
        e = buf_printf(out, ",\"max_tokens\":%" PRIu64, *max_tokens);
    }
    if (e == OK && temperature) {
        e = buf_str_append(out, STR(",\"temperature\":"));
        e = e == OK ? json_append_number(out, *temperature) : e;
    }
    return e == OK && stream ? buf_str_append(out, STR(",\"stream\":true")) : e;
}

enum err compose_chat(struct buf *out, struct str model, struct str system, struct str prompt,
                      const uint64_t *max_tokens, const double *temperature, bool stream) {
    size_t before = buf_len(out);
    enum err e = buf_str_append(out, STR("{\"model\":"));
    e = e == OK ? json_append_string(out, model) : e;
    e = e == OK ? buf_str_append(out, STR(",\"messages\":[")) : e;
    if (e == OK && system.ptr) {
        e = append_message(out, STR("{\"role\":\"system\",\"content\":"), system);
        e = e == OK ? buf_append(out, ",", 1) : e;
    }
    e = e == OK ? append_message(out, STR("{\"role\":\"user\",\"content\":"), prompt) : e;
    e = e == OK ? buf_append(out, "]", 1) : e;
    e = e == OK ? append_options(out, max_tokens, temperature, stream) : e;
    e = e == OK ? buf_append(out, "}", 1) : e;
    if (e != OK) {
        buf_truncate(out, before);
    }
    return e;
}
