// SPDX-License-Identifier: MIT
#include "mock/ask.h"

#include "mock/words.h"

static bool refuse(struct ask *ask, const char *param, const char *problem) {
    ask->param = param;
    ask->problem = problem;
    return false;
}

static bool append(struct ask *ask, struct str s) {
    return buf_str_append(ask->text, s) == OK || refuse(ask, NULL, "the text is too large to be echoed");
}

// What every endpoint knows.
static bool read_common(const struct json_value *root, struct ask *ask) {
    ask->model = json_string(json_member(root, "model"));
    if (!ask->model.ptr || ask->model.len == 0 || ask->model.len > ASK_MODEL_MAX) {
        return refuse(ask, "model", "model must be a string of 1 to 255 bytes");
    }
    ask->stream = json_true(json_member(root, "stream"));
    ask->include_usage = json_true(json_member(json_member(root, "stream_options"), "include_usage"));
    return true;
}

// ---- texts

static bool add_text(struct ask *ask, struct str text, bool echo) {
    ask->prompt_tokens += words_count(text);
    return !echo || append(ask, text);
}

// A message's content: a string, or parts of which some have text (images have none). Anything else is no text.
static bool add_content(struct ask *ask, const struct json_value *content, bool echo) {
    if (json_is_string(content)) {
        return add_text(ask, json_string(content), echo);
    }
    size_t parts = json_is_array(content) ? json_length(content) : 0;
    if (parts > ASK_PARTS_MAX) {
        return refuse(ask, "content", "a message's content must not have more than 256 parts");
    }
    for (size_t i = 0; i < parts; i++) {
        struct str text = json_string(json_member(json_item(content, i), "text"));
        bool joined = echo && text.ptr && buf_len(ask->text);
        if ((joined && !append(ask, STR("\n"))) || (text.ptr && !add_text(ask, text, echo))) {
            return false;
        }
    }
    return true;
}

// All count, the last one is echoed.
static bool add_messages(struct ask *ask, const char *param, const struct json_value *messages) {
    size_t n = json_is_array(messages) ? json_length(messages) : 0;
    if (n < 1 || n > ASK_ITEMS_MAX) {
        return refuse(ask, param, "there must be a list of 1 to 2048 messages");
    }
    for (size_t i = 0; i < n; i++) {
        const struct json_value *message = json_item(messages, i);
        if (!json_is_object(message)) {
            return refuse(ask, param, "a message must be an object");
        }
        if (!add_content(ask, json_member(message, "content"), i + 1 == n)) {
            return false;
        }
    }
    return true;
}

bool ask_chat(const struct json_value *root, struct ask *ask) {
    return read_common(root, ask) && add_messages(ask, "messages", json_member(root, "messages"));
}

bool ask_response(const struct json_value *root, struct ask *ask) {
    const struct json_value *input = json_member(root, "input");
    if (!read_common(root, ask)) {
        return false;
    }
    ask->prompt_tokens += words_count(json_string(json_member(root, "instructions")));
    return json_is_string(input) ? add_text(ask, json_string(input), true) : add_messages(ask, "input", input);
}

// ---- prompts and inputs: a string, a list of strings, a list of tokens, or a list of lists of tokens

// FNV-1a, 64 bits: the same input gives the same vector on every machine.
static uint64_t hash(uint64_t h, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ p[i]) * 0x100000001b3u;
    }
    return h;
}
static const uint64_t HASH_START = 0xcbf29ce484222325u;

// What is done with each input: its text (ptr == NULL when it came as tokens) and a hash of it.
typedef bool take_input(struct ask *ask, struct str text, uint64_t seed);

static bool add_tokens(struct ask *ask, const char *param, const struct json_value *tokens, take_input *take) {
    size_t n = json_length(tokens);
    uint64_t h = HASH_START;
    if (n < 1 || n > ASK_TOKENS_MAX) {
        return refuse(ask, param, "an input must have 1 to 8192 tokens");
    }
    for (size_t i = 0; i < n; i++) {
        double number = 0;
        if (!json_number(json_item(tokens, i), &number)) {
            return refuse(ask, param, "a token must be a number");
        }
        h = hash(h, &number, sizeof number);
    }
    ask->prompt_tokens += n;
    return take(ask, (struct str){NULL, 0}, h);
}

static bool add_input(struct ask *ask, const char *param, const struct json_value *input, take_input *take) {
    if (json_is_array(input)) {
        return add_tokens(ask, param, input, take);
    }
    if (!json_is_string(input)) {
        return refuse(ask, param, "an input must be a string or a list of tokens");
    }
    struct str text = json_string(input);
    ask->prompt_tokens += words_count(text);
    return take(ask, text, hash(HASH_START, text.ptr, text.len));
}

static bool add_inputs(struct ask *ask, const char *param, const struct json_value *inputs, take_input *take) {
    double number = 0;
    if (!json_is_array(inputs) || json_number(json_item(inputs, 0), &number)) {
        return add_input(ask, param, inputs, take);
    }
    size_t n = json_length(inputs);
    if (n < 1 || n > ASK_ITEMS_MAX) {
        return refuse(ask, param, "there must be 1 to 2048 inputs");
    }
    for (size_t i = 0; i < n; i++) {
        if (!add_input(ask, param, json_item(inputs, i), take)) {
            return false;
        }
    }
    return true;
}

static bool echo_input(struct ask *ask, struct str text, uint64_t seed UNUSED) {
    buf_clear(ask->text); // the last one stays
    return append(ask, text);
}

bool ask_completion(const struct json_value *root, struct ask *ask) {
    return read_common(root, ask) && add_inputs(ask, "prompt", json_member(root, "prompt"), echo_input);
}

static bool keep_seed(struct ask *ask, struct str text UNUSED, uint64_t seed) {
    ask->inputs++;
    return append(ask, str_from((const char *)&seed, sizeof seed));
}

bool ask_embeddings(const struct json_value *root, struct ask *ask) {
    const struct json_value *dimensions = json_member(root, "dimensions");
    double n = ASK_DIMENSIONS;
    if (!read_common(root, ask)) {
        return false;
    }
    if (json_number(dimensions, &n) && (n < 1 || n > (double)ASK_DIMENSIONS_MAX)) {
        return refuse(ask, "dimensions", "dimensions must be a number from 1 to 4096");
    }
    ask->stream = false;
    ask->dimensions = (unsigned)n;
    ask->base64 = str_eq(json_string(json_member(root, "encoding_format")), STR("base64"));
    return add_inputs(ask, "input", json_member(root, "input"), keep_seed);
}
