// SPDX-License-Identifier: MIT
// Requests to the mock: whatever JSON they are, reading them ends, and what is made by a schema is JSON.
#include "fuzz.h"
#include "mock/shape.h"

enum { TEXT_CAP = 1 << 20 };

static void shape(const struct json_value *root, ask_reader *read, struct str tool) {
    struct buf text;
    buf_init(&text, TEXT_CAP);
    struct ask ask = {.text = &text};
    if (!read(root, &ask) || !shape_content(&ask, tool)) {
        MUST(ask.problem != NULL);
        buf_finish(&text);
        return;
    }
    MUST(ask.model.len && (ask.tool.ptr == NULL || ask.fixed));
    if (ask.tool.ptr || (ask.fixed && !ask.stopped.ptr)) {
        struct json *json = json_open(buf_str(&text), 64 * TEXT_CAP);
        MUST(json != NULL);
        json_close(json);
    }
    buf_finish(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ask_reader *const readers[] = {ask_chat, ask_response, ask_message, ask_completion};
    struct json *json = size < 20000 ? json_open(str_from((const char *)data, size), 1 << 20) : NULL;
    if (json_is_object(json_root(json))) {
        for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
            shape(json_root(json), readers[i], (struct str){NULL, 0});
            shape(json_root(json), readers[i], STR("any"));
        }
    }
    json_close(json);
    return 0;
}
