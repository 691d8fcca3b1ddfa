// SPDX-License-Identifier: MIT
// Any target may be asked for any value: what is found fits, and is found in a larger room too. The first line of the
// input is the name, the rest the target.
#include "fuzz.h"
#include "http/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char room[64];
    char larger[4096];
    struct str input = str_from((const char *)data, size);
    struct str name = str_first(input, str_find(input, '\n'));
    struct str target = str_skip(input, name.len + 1);
    struct str value = {NULL, 0};
    struct str again = {NULL, 0};
    enum err e = query_find(target, name, room, sizeof room, &value);
    MUST(e == OK || e == ERR_EOF || e == ERR_FULL);
    if (e == OK) {
        MUST(value.ptr == room && value.len <= sizeof room);
        MUST(query_find(target, name, larger, sizeof larger, &again) == OK);
        MUST(name.len > sizeof room || str_eq(value, again) || again.ptr == larger);
    }
    MUST(str_find(target, '?') < target.len || e == ERR_EOF || name.len == 0);
    return 0;
}
