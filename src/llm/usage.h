// SPDX-License-Identifier: MIT
// What an answer says that it cost, found in its bytes as they pass, in whatever split, JSON or event stream alike:
// the last `"usage": {...}` of it. OpenAI's chat and completions (prompt_tokens, completion_tokens, total_tokens), its
// Responses and Anthropic's Messages (input_tokens, output_tokens; of a stream the first in message_start, the second
// in message_delta). The name can stand nowhere else: quotes inside a string have a backslash before them.
// What a hostile upstream sends is bounded, and finds nothing.
#pragma once
#include "base/str.h"

enum { USAGE_OBJECT_MAX = 4096 }; // bytes of one; a longer one is not read

struct usage {
    uint64_t input, output, total; // of the last that said so
    bool known;
    // private
    unsigned char matched;   // of the name
    unsigned char place;     // behind it
    bool in_string, escaped; // in the object
    unsigned depth;
    size_t kept_len;
    char kept[USAGE_OBJECT_MAX];
};

void usage_init(struct usage *u);
void usage_feed(struct usage *u, struct str bytes);
// All that was said to have been used; 0 where nothing was said. At most USAGE_MOST.
enum { USAGE_MOST = 100 * 1000 * 1000 };
uint64_t usage_tokens(const struct usage *u);
