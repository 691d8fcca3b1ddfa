// SPDX-License-Identifier: MIT
// Fed whole and in pieces the same is found, and never more than may be.
#include "fuzz.h"
#include "llm/usage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct usage whole, pieces;
    size_t step = size ? 1 + data[0] % 7 : 1;
    usage_init(&whole);
    usage_init(&pieces);
    struct str bytes = str_from((const char *)data, size);
    usage_feed(&whole, bytes);
    for (; bytes.len; bytes = str_skip(bytes, step)) {
        usage_feed(&pieces, str_first(bytes, step));
    }
    MUST(whole.known == pieces.known && usage_tokens(&whole) == usage_tokens(&pieces));
    MUST(usage_tokens(&whole) <= USAGE_MOST);
    return 0;
}
