// SPDX-License-Identifier: MIT
// What a gateway must know of a request body without touching it: OpenAI's and Anthropic's requests share the
// members looked at here. The body is checked whole (RFC 8259, strict; nesting at most PEEK_DEPTH), in one pass without
// memory, and goes on byte for byte.
//
// Members that decide something may occur once only, also when spelled with escapes ("\u006dodel"): two
// parsers may disagree on which of two counts, and the cheaper reading would be what was checked (facts A32).
#pragma once
#include "base/str.h"

enum { PEEK_DEPTH = 64 };

struct peek {
    // The value of "model": model_raw points into the body, between the quotes, escapes as written; model is
    // unescaped, 1 to 255 bytes, and points into the body or, where it had escapes, into model_room (a copy
    // of the struct must not outlive it). Both have ptr == NULL when there is none (or it is null).
    struct str model_raw;
    struct str model;
    bool stream;        // "stream": true
    bool include_usage; // "stream_options": {"include_usage": true}
    // "background": the literal true, as the Responses API has it; anything else is somebody else's member.
    bool background;
    uint64_t max_tokens; // of the answer, by any of its names; 0: not said
    // The bytes of the two literals in the body, so that another can be sent in their place; ptr == NULL where there
    // is no such member (stream: true, false or null), or it is not true (background).
    struct str stream_raw;
    struct str background_raw;
    char model_room[256]; // a longer model name is refused
};

enum peek_problem { // each is a 400
    PEEK_FINE,
    PEEK_NOT_JSON, // position tells where
    PEEK_TOO_DEEP,
    PEEK_NOT_OBJECT,
    PEEK_DUPLICATE,  // param names the member
    PEEK_WRONG_TYPE, // param names the member
};

struct peek_error {
    enum peek_problem problem;
    const char *param; // static: the member it is about, or NULL
    size_t position;   // byte offset in the body; of the member's name for DUPLICATE and WRONG_TYPE
    unsigned line;     // from 1
    unsigned column;   // from 1, in bytes
    char message[160]; // a sentence for the client; never quotes the body
};

// Looks at a whole body. False: *error says why. Needs no state, keeps nothing.
MUSTCHECK bool peek_request(struct str body, struct peek *peek, struct peek_error *error);
