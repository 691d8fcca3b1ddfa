// SPDX-License-Identifier: MIT
#include "mock/ask.h"

#include <limits.h>

#include "mock/words.h"

bool ask_refuse(struct ask *ask, const char *param, const char *problem) {
    ask->param = param;
    ask->problem = problem;
    return false;
}

static bool append(struct ask *ask, struct str s) {
    return buf_str_append(ask->text, s) == OK || ask_refuse(ask, NULL, "the text is too large to be echoed");
}

// A number of the request's; one that is not there, or null, leaves *n as it is.
static bool read_number(const struct json_value *root, struct ask *ask, const char *name, unsigned most, unsigned *n,
                        const char *problem) {
    double number = 0;
    if (!json_number(json_member(root, name), &number)) {
        return true;
    }
    if (number < 1 || number > (double)most) {
        return ask_refuse(ask, name, problem);
    }
    *n = (unsigned)number;
    return true;
}

static bool read_tokens_max(const struct json_value *root, struct ask *ask, const char *name) {
    return read_number(root, ask, name, INT_MAX, &ask->tokens_max, "the number of tokens must be at least 1");
}

static bool read_choices(const struct json_value *root, struct ask *ask) {
    return read_number(root, ask, "n", ASK_CHOICES_MAX, &ask->choices, "n must be a number from 1 to 128");
}

// What every endpoint knows.
static bool read_common(const struct json_value *root, struct ask *ask) {
    ask->choices = 1;
    ask->tools = json_member(root, "tools");
    ask->tool_choice = json_member(root, "tool_choice");
    ask->stop = json_member(root, "stop");
    ask->model = json_string(json_member(root, "model"));
    if (!ask->model.ptr || ask->model.len == 0 || ask->model.len > ASK_MODEL_MAX) {
        return ask_refuse(ask, "model", "model must be a string of 1 to 255 bytes");
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

// A part of a message's content: text, or (depth > 0) a tool's result, which has content of its own. Images are no
// text. Several texts are joined by line ends.
static bool add_content(struct ask *ask, const struct json_value *content, bool echo, unsigned depth);

static bool add_part(struct ask *ask, const struct json_value *part, bool echo, unsigned depth) {
    struct str text = json_string(json_member(part, "text"));
    bool result = depth && str_eq(json_string(json_member(part, "type")), STR("tool_result"));
    if ((!text.ptr && !result) || (echo && buf_len(ask->text) && !append(ask, STR("\n")))) {
        return ask->problem == NULL;
    }
    ask->tool_answered = ask->tool_answered || (result && echo);
    return text.ptr ? add_text(ask, text, echo) : add_content(ask, json_member(part, "content"), echo, depth - 1);
}

// A message's content: a string, or parts. Anything else is no text.
static bool add_content(struct ask *ask, const struct json_value *content, bool echo, unsigned depth) {
    if (json_is_string(content)) {
        return add_text(ask, json_string(content), echo);
    }
    size_t parts = json_is_array(content) ? json_length(content) : 0;
    if (parts > ASK_PARTS_MAX) {
        return ask_refuse(ask, "content", "a message's content must not have more than 256 parts");
    }
    for (size_t i = 0; i < parts; i++) {
        if (!add_part(ask, json_item(content, i), echo, depth)) {
            return false;
        }
    }
    return true;
}

// A tool's result is a message of a role of its own in chats, an item of a type of its own in responses.
static bool add_message(struct ask *ask, const struct json_value *message, bool last) {
    const struct json_value *output = json_member(message, "output");
    bool result = str_eq(json_string(json_member(message, "role")), STR("tool")) ||
                  str_eq(json_string(json_member(message, "type")), STR("function_call_output"));
    ask->tool_answered = ask->tool_answered || (last && result);
    return add_content(ask, output ? output : json_member(message, "content"), last, 1);
}

// All count, the last one is echoed.
static bool add_messages(struct ask *ask, const char *param, const struct json_value *messages) {
    size_t n = json_is_array(messages) ? json_length(messages) : 0;
    if (n < 1 || n > ASK_ITEMS_MAX) {
        return ask_refuse(ask, param, "there must be a list of 1 to 2048 messages");
    }
    for (size_t i = 0; i < n; i++) {
        const struct json_value *message = json_item(messages, i);
        if (!json_is_object(message)) {
            return ask_refuse(ask, param, "a message must be an object");
        }
        if (!add_message(ask, message, i + 1 == n)) {
            return false;
        }
    }
    return true;
}

bool ask_chat(const struct json_value *root, struct ask *ask) {
    ask->format = json_member(root, "response_format");
    return read_common(root, ask) && read_choices(root, ask) && read_tokens_max(root, ask, "max_tokens") &&
           read_tokens_max(root, ask, "max_completion_tokens") &&
           add_messages(ask, "messages", json_member(root, "messages"));
}

bool ask_count(const struct json_value *root, struct ask *ask) {
    return read_common(root, ask) && add_content(ask, json_member(root, "system"), false, 0) &&
           add_messages(ask, "messages", json_member(root, "messages"));
}

bool ask_message(const struct json_value *root, struct ask *ask) {
    const struct json_value *format = json_member(json_member(root, "output_config"), "format");
    ask->format = format ? format : json_member(root, "output_format");
    if (!ask_count(root, ask) || !read_tokens_max(root, ask, "max_tokens")) {
        return false;
    }
    ask->stop = json_member(root, "stop_sequences");
    return ask->tokens_max || ask_refuse(ask, "max_tokens", "max_tokens: a number of at least 1 is required");
}

bool ask_response(const struct json_value *root, struct ask *ask) {
    const struct json_value *input = json_member(root, "input");
    ask->format = json_member(json_member(root, "text"), "format");
    if (!read_common(root, ask) || !read_tokens_max(root, ask, "max_output_tokens")) {
        return false;
    }
    ask->stop = NULL; // this API has none
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
        return ask_refuse(ask, param, "an input must have 1 to 8192 tokens");
    }
    for (size_t i = 0; i < n; i++) {
        double number = 0;
        if (!json_number(json_item(tokens, i), &number)) {
            return ask_refuse(ask, param, "a token must be a number");
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
        return ask_refuse(ask, param, "an input must be a string or a list of tokens");
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
        return ask_refuse(ask, param, "there must be 1 to 2048 inputs");
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
    return read_common(root, ask) && read_choices(root, ask) && read_tokens_max(root, ask, "max_tokens") &&
           add_inputs(ask, "prompt", json_member(root, "prompt"), echo_input);
}

static bool keep_seed(struct ask *ask, struct str text UNUSED, uint64_t seed) {
    ask->inputs++;
    return append(ask, str_from((const char *)&seed, sizeof seed));
}

bool ask_embeddings(const struct json_value *root, struct ask *ask) {
    ask->dimensions = ASK_DIMENSIONS;
    if (!read_common(root, ask) || !read_number(root, ask, "dimensions", ASK_DIMENSIONS_MAX, &ask->dimensions,
                                                "dimensions must be a number from 1 to 4096")) {
        return false;
    }
    ask->stream = false;
    ask->base64 = str_eq(json_string(json_member(root, "encoding_format")), STR("base64"));
    return add_inputs(ask, "input", json_member(root, "input"), keep_seed);
}
