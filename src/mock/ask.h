// SPDX-License-Identifier: MIT
// What a request asks for, read out of its JSON: one reader per endpoint, the same facts from all of them. Then
// shape_content (mock/shape.h) decides what the answer says. The JSON is read where it lies (llm/raw.h); only what is
// looked into deeper (tools, schemas) becomes a document.
#pragma once
#include "llm/raw.h"

enum {
    ASK_ITEMS_MAX = 2048,  // messages, inputs
    ASK_PARTS_MAX = 256,   // of one message's content
    ASK_TOKENS_MAX = 8192, // numbers of one input that comes as tokens
    ASK_MODEL_MAX = 255,   // bytes
    ASK_CHOICES_MAX = 128,
    ASK_DIMENSIONS_USUAL = 8, // of an embedding, unless it was asked for more
    ASK_DIMENSIONS_MAX = 4096,
    ASK_DOCUMENTS = 4,
};

// The members that any of the endpoints knows.
enum ask_member {
    ASK_MODEL,
    ASK_MESSAGES,
    ASK_STREAM,
    ASK_USER,
    ASK_TOOLS,
    ASK_MAX_TOKENS,
    ASK_STREAM_OPTIONS,
    ASK_TOOL_CHOICE,
    ASK_STOP,
    ASK_N,
    ASK_MAX_COMPLETION_TOKENS,
    ASK_MAX_OUTPUT_TOKENS,
    ASK_RESPONSE_FORMAT,
    ASK_SYSTEM,
    ASK_OUTPUT_CONFIG,
    ASK_OUTPUT_FORMAT,
    ASK_STOP_SEQUENCES,
    ASK_INPUT,
    ASK_TEXT,
    ASK_INSTRUCTIONS,
    ASK_PROMPT,
    ASK_DIMENSIONS,
    ASK_ENCODING_FORMAT,
    ASK_METADATA,
    ASK_MEMBERS
};

struct ask {
    struct buf *text;                // the reader appends: what is to be echoed; embeddings: a uint64_t per input
    struct str members[ASK_MEMBERS]; // raw
    struct str model;                // all strings borrow from the body, or from the rooms below
    uint64_t prompt_tokens;          // words of everything that was sent
    unsigned inputs;                 // embeddings: how many
    unsigned dimensions;
    unsigned choices;
    unsigned tokens_max; // of the answer; 0: as many as there are
    bool stream;
    bool include_usage;
    bool base64; // embeddings: encoding_format

    struct str stop;    // raw, as it was sent
    struct str format;  // raw, of the text: response_format and its kin
    bool tool_answered; // the last message is a tool's result

    const char *problem; // why it was refused; static, as is param
    const char *param;   // the member it is about

    // set by shape_content
    struct str tool;    // to be called, with the text as arguments; ptr == NULL: none
    struct str stopped; // the stop sequence that ended the text; ptr == NULL: none
    bool fixed;         // the text is all of the content, whatever number of tokens is planned
    struct json *looked_into[ASK_DOCUMENTS];
    unsigned documents;

    char model_room[ASK_MODEL_MAX]; // for names that were sent with escapes
    char session_room[ASK_MODEL_MAX];
};

// False: it is no JSON object, or nested too deep. `text` is emptied.
MUSTCHECK bool ask_open(struct ask *ask, struct str body, struct buf *text);
void ask_close(struct ask *ask);
// A document of a raw value, until ask_close; NULL: it is not there, or (ask->problem says so) there is no memory.
const struct json_value *ask_look_into(struct ask *ask, struct str raw);

// Of an ask that was opened. False: ask->problem says why, for a 400.
typedef bool ask_reader(struct ask *ask);
ask_reader ask_chat, ask_completion, ask_embeddings, ask_response, ask_message, ask_count;
// Says why; false, for readers to return.
bool ask_refuse(struct ask *ask, const char *param, const char *problem);
