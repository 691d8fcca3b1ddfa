// SPDX-License-Identifier: MIT
// Facts out of answers, in the four shapes there are: OpenAI's chat.completion, text_completion and Responses objects
// and Anthropic's message, whole or as the data of stream events. What an upstream sends is not trusted: any bytes are
// safe, and reading them takes at most 24 times their size plus 64 KiB of memory, freed before the return.
//
// All return OK, ERR_INVALID (not JSON, or none of these shapes), ERR_NOMEM, or ERR_FULL (that limit, or the cap of
// the buffer); whatever they fail with, the buffer holds what it held.
#pragma once
#include "base/buf.h"

enum reply_kind {
    REPLY_TEXT,
    REPLY_REFUSAL, // what was appended says why the model refuses; with Anthropic: as far as it got, maybe nothing
    REPLY_NO_TEXT, // nothing was appended: an empty answer, no choice, or tool calls, reasoning, images, audio only
};

// Appends the text of a whole answer: of the first choice; of all output_text or text parts, joined as they are, as
// the SDKs do. A chat message's or a part's `refusal` counts only where there is no text beside it.
MUSTCHECK enum err reply_text(struct str json, struct buf *out, enum reply_kind *kind);

// Appends the piece of text (or of a refusal) that an event of a stream carries; OK and nothing for every other event
// and for data that is not understood. Of several choices only the one with index 0. The type may be empty; where data
// says its own type that one counts.
MUSTCHECK enum err reply_delta(struct str event_type, struct str data, struct buf *out);

// Where the id of a Responses object stands, in the object itself or in a stream event that carries it (`response`):
// the bytes between the quotes, escapes as written, pointing into json. ERR_INVALID: there is none, or more than 64
// brackets are open at once. Neither this nor the next takes memory.
MUSTCHECK enum err reply_id(struct str json, struct str *raw);

// The sequence_number of a Responses stream event.
MUSTCHECK enum err reply_sequence(struct str data, uint64_t *n);

// What an error body says: OpenAI's {"error":{..}} and {"error":"text"}, Anthropic's {"type":"error","error":{..}}, a
// failed Responses object or event, and what vLLM sends ({"object":"error",..}). Each is NULL where it is not said.
struct reply_error {
    struct str message, type;
    struct str code; // a number as its digits
};
// The strings are appended to room and live there until it changes.
MUSTCHECK enum err reply_error(struct str json, struct buf *room, struct reply_error *error);
