// SPDX-License-Identifier: MIT
// An upstream's bytes, as the answer to GET and to HEAD: however they are cut, the same answers are read from them.
#include "fuzz_h1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str stream = str_from((const char *)data, size);
    for (int to_head = 0; to_head <= 1; to_head++) {
        read_every_way(H1_RESPONSE, to_head, stream);
        write_what_is_understood(H1_RESPONSE, to_head, stream);
    }
    return 0;
}
