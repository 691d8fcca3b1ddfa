// SPDX-License-Identifier: MIT
// What a request asks for, read out of its JSON: one reader per endpoint, the same facts from all of them.
#pragma once
#include "llm/json.h"

enum {
    ASK_ITEMS_MAX = 2048,  // messages, inputs
    ASK_PARTS_MAX = 256,   // of one message's content
    ASK_TOKENS_MAX = 8192, // numbers of one input that comes as tokens
    ASK_MODEL_MAX = 255,   // bytes
    ASK_DIMENSIONS = 8,    // of an embedding, unless it was asked for more
    ASK_DIMENSIONS_MAX = 4096,
};

struct ask {
    struct buf *text;       // the reader appends: what is to be echoed; embeddings: a uint64_t per input
    struct str model;       // borrows from the JSON
    uint64_t prompt_tokens; // words of everything that was sent
    unsigned inputs;        // embeddings: how many
    unsigned dimensions;
    bool stream;
    bool include_usage;
    bool base64;         // embeddings: encoding_format
    const char *problem; // why it was refused; static, as is param
    const char *param;   // the member it is about
};

// The root is an object. False: ask->problem says why, for a 400.
typedef bool ask_reader(const struct json_value *root, struct ask *ask);
ask_reader ask_chat, ask_completion, ask_embeddings, ask_response;
