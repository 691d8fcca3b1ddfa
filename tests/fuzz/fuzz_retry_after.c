// SPDX-License-Identifier: MIT
// What an upstream asks for before another try: the first line is its retry-after-ms, the rest its Retry-After.
#include "admit/retry.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = str_from((const char *)data, size);
    size_t line = str_find(text, '\n');
    struct field room[2];
    struct fields fields = FIELDS(room);
    uint64_t wait_ms = 0;
    MUST(fields_add(&fields, STR("retry-after-ms"), str_first(text, line)) == OK);
    MUST(fields_add(&fields, STR("retry-after"), str_skip(text, line + 1)) == OK);
    if (retry_after(&fields, 1795190400, &wait_ms)) { // November 2026; the last date is the end of the year 9999
        MUST(wait_ms < (uint64_t)8100 * 366 * 24 * 3600 * 1000);
    }
    return 0;
}
