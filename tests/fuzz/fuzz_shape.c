// SPDX-License-Identifier: MIT
// Requests to the mock: whatever JSON they are, reading them ends, and what is made by a schema is JSON.
#include "fuzz.h"
#include "mock/shape.h"

enum { TEXT_CAP = 1 << 20 };

static void shape(struct str body, ask_reader *read, struct str tool) {
    struct buf text;
    struct ask ask;
    buf_init(&text, TEXT_CAP);
    if (!ask_open(&ask, body, &text)) {
        return;
    }
    if (!read(&ask) || !shape_content(&ask, tool)) {
        MUST(ask.problem != NULL);
    } else {
        MUST(ask.model.len && (ask.tool.ptr == NULL || ask.fixed));
    }
    if (!ask.problem && (ask.tool.ptr || (ask.fixed && !ask.stopped.ptr))) {
        struct json *json = json_open(buf_str(&text), 64 * TEXT_CAP);
        MUST(json != NULL);
        json_close(json);
    }
    ask_close(&ask);
    buf_finish(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ask_reader *const readers[] = {ask_chat, ask_response, ask_message, ask_completion, ask_embeddings};
    for (size_t i = 0; size < 20000 && i < ARRAY_LEN(readers); i++) {
        shape(str_from((const char *)data, size), readers[i], (struct str){NULL, 0});
        shape(str_from((const char *)data, size), readers[i], STR("any"));
    }
    return 0;
}
