// SPDX-License-Identifier: MIT
// Where the parts of an HTTP/1 head are (RFC 9112 sections 2 to 5), line by line, however its bytes are cut. Strict: a line
// ends with CRLF and nothing else, is never folded, has one blank where one belongs and none before a colon. What the parts
// say is judged in http/h1.c. Private to http/.
#pragma once
#include "http/h1.h"

struct span { // of bytes, from the message's first one
    uint32_t at;
    uint32_t len;
};

struct h1_head {
    enum h1_side side;
    const struct http_limits *limits;
    uint32_t line; // where the line begins that is not complete yet
    bool begun;    // the start line is complete
    bool complete;
    unsigned char major, minor;  // HTTP/1.0 or HTTP/1.1, once the start line is there
    int status;                  // of an answer
    struct span method, target;  // of a request
    struct span *names, *values; // limits->fields of each; a value may have blanks behind it
    unsigned count;
    const char *problem;
};

void h1_head_reset(struct h1_head *h);
// `size` bytes of the message have come, of them `more` since the last time. Once the head is complete `line` is where it
// ends. ERR_INVALID, ERR_VERSION, ERR_HEAD_FULL (fields), ERR_TARGET_LONG: h->problem says why.
MUSTCHECK enum err h1_head_feed(struct h1_head *h, const char *base, size_t size, size_t more);
