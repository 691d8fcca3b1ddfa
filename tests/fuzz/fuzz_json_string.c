// SPDX-License-Identifier: MIT
// Any bytes written as a JSON string are JSON, read back as what they were where they were UTF-8, and are the
// same when written again.
#include "fuzz.h"
#include "llm/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buf once;
    struct buf twice;
    struct buf full;
    struct str s = str_from((const char *)data, size);
    buf_init(&once, 64 << 20);
    buf_init(&twice, 64 << 20);
    MUST(json_append_string(&once, s) == OK);
    struct json *json = json_open(buf_str(&once), 64 << 20);
    MUST(json != NULL);
    struct str back = json_string(json_root(json));
    MUST(back.ptr && back.len >= size);
    MUST(str_search(back, STR("\xEF\xBF\xBD")) < back.len || str_eq(back, s));
    MUST(json_append_string(&twice, back) == OK);
    MUST(str_eq(buf_str(&once), buf_str(&twice)));
    buf_init(&full, buf_len(&once) - 1); // a byte too small: nothing is written
    MUST(json_append_string(&full, s) == ERR_FULL);
    MUST(buf_len(&full) == 0);
    json_close(json);
    buf_finish(&once);
    buf_finish(&twice);
    buf_finish(&full);
    return 0;
}
