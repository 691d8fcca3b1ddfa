// SPDX-License-Identifier: MIT
// The chunked coding (RFC 9112 section 7.1), taken off in place: bytes as they come, however they are cut, in; body bytes out.
// Strict: plain hexadecimal sizes, CRLF behind each line and each chunk. Extensions and trailers are read over (RFC 9110
// section 6.5.1 lets a recipient discard them), but not without limit. Private to http/.
#pragma once
#include "base/str.h"

enum chunked_place { // what the next byte is of
    CHUNKED_SIZE,
    CHUNKED_MORE_SIZE,
    CHUNKED_EXTENSION,
    CHUNKED_SIZE_LF,
    CHUNKED_DATA,
    CHUNKED_DATA_CR,
    CHUNKED_DATA_LF,
    CHUNKED_LINE,
    CHUNKED_NAME,
    CHUNKED_VALUE,
    CHUNKED_VALUE_LF,
    CHUNKED_LAST_LF,
    CHUNKED_DONE,
};

struct chunked {
    enum chunked_place place;
    uint64_t left;       // bytes of the chunk to come
    size_t most, beside; // bytes of extensions, trailers and zeros before a size: allowed, seen
    char name[17];       // a trailer's, as much of it as is needed
    size_t name_len;
    const char *problem;
};

void chunked_begin(struct chunked *c, size_t most);
// *body: what of them is the body's, in one piece, moved together where framing lay between. *used: all bytes, unless it is
// CHUNKED_DONE. ERR_FRAMING: c->problem says why.
MUSTCHECK enum err chunked_feed(struct chunked *c, char *bytes, size_t n, struct str *body, size_t *used);
