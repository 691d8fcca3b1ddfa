// SPDX-License-Identifier: MIT
// A client's bytes: however they are cut, the same requests are read from them, and every one that is understood is,
// written by us, understood as the same by the next.
#include "fuzz_h1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str stream = str_from((const char *)data, size);
    read_every_way(H1_REQUEST, false, stream);
    write_what_is_understood(H1_REQUEST, false, stream);
    return 0;
}
