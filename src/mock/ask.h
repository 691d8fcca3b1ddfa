// SPDX-License-Identifier: MIT
// What a request asks for, read out of its JSON: one reader per endpoint, the same facts from all of them. Then
// shape_content (mock/shape.h) decides what the answer says.
#pragma once
#include "llm/json.h"

enum {
    ASK_ITEMS_MAX = 2048,  // messages, inputs
    ASK_PARTS_MAX = 256,   // of one message's content
    ASK_TOKENS_MAX = 8192, // numbers of one input that comes as tokens
    ASK_MODEL_MAX = 255,   // bytes
    ASK_CHOICES_MAX = 128,
    ASK_DIMENSIONS = 8, // of an embedding, unless it was asked for more
    ASK_DIMENSIONS_MAX = 4096,
};

struct ask {
    struct buf *text;       // the reader appends: what is to be echoed; embeddings: a uint64_t per input
    struct str model;       // all strings and values borrow from the JSON
    uint64_t prompt_tokens; // words of everything that was sent
    unsigned inputs;        // embeddings: how many
    unsigned dimensions;
    unsigned choices;
    unsigned tokens_max; // of the answer; 0: as many as there are
    bool stream;
    bool include_usage;
    bool base64; // embeddings: encoding_format

    const struct json_value *tools; // as they were sent; NULL: none
    const struct json_value *tool_choice;
    const struct json_value *format; // of the text: response_format and its kin
    const struct json_value *stop;
    bool tool_answered; // the last message is a tool's result

    const char *problem; // why it was refused; static, as is param
    const char *param;   // the member it is about

    // set by shape_content
    struct str tool;    // to be called, with the text as arguments; ptr == NULL: none
    struct str stopped; // the stop sequence that ended the text; ptr == NULL: none
    bool fixed;         // the text is all of the content, whatever number of tokens is planned
};

// The root is an object. False: ask->problem says why, for a 400.
typedef bool ask_reader(const struct json_value *root, struct ask *ask);
ask_reader ask_chat, ask_completion, ask_embeddings, ask_response, ask_message, ask_count;
// Says why; false, for readers to return.
bool ask_refuse(struct ask *ask, const char *param, const char *problem);
