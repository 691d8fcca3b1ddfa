// SPDX-License-Identifier: MIT
#include "mock/ask.h"

#include <assert.h>
#include <limits.h>

#include "mock/words.h"

static const struct str members[ASK_MEMBERS] = {
    [ASK_MODEL] = STR_INIT("model"),
    [ASK_MESSAGES] = STR_INIT("messages"),
    [ASK_STREAM] = STR_INIT("stream"),
    [ASK_USER] = STR_INIT("user"),
    [ASK_TOOLS] = STR_INIT("tools"),
    [ASK_MAX_TOKENS] = STR_INIT("max_tokens"),
    [ASK_STREAM_OPTIONS] = STR_INIT("stream_options"),
    [ASK_TOOL_CHOICE] = STR_INIT("tool_choice"),
    [ASK_STOP] = STR_INIT("stop"),
    [ASK_N] = STR_INIT("n"),
    [ASK_MAX_COMPLETION_TOKENS] = STR_INIT("max_completion_tokens"),
    [ASK_MAX_OUTPUT_TOKENS] = STR_INIT("max_output_tokens"),
    [ASK_RESPONSE_FORMAT] = STR_INIT("response_format"),
    [ASK_SYSTEM] = STR_INIT("system"),
    [ASK_OUTPUT_CONFIG] = STR_INIT("output_config"),
    [ASK_OUTPUT_FORMAT] = STR_INIT("output_format"),
    [ASK_STOP_SEQUENCES] = STR_INIT("stop_sequences"),
    [ASK_INPUT] = STR_INIT("input"),
    [ASK_TEXT] = STR_INIT("text"),
    [ASK_INSTRUCTIONS] = STR_INIT("instructions"),
    [ASK_PROMPT] = STR_INIT("prompt"),
    [ASK_DIMENSIONS] = STR_INIT("dimensions"),
    [ASK_ENCODING_FORMAT] = STR_INIT("encoding_format"),
    [ASK_METADATA] = STR_INIT("metadata"),
};

bool ask_open(struct ask *ask, struct str body, struct buf *text) {
    memset(ask, 0, offsetof(struct ask, model_room));
    ask->text = text;
    buf_clear(text);
    return raw_open(body, members, ASK_MEMBERS, ask->members);
}

void ask_close(struct ask *ask) {
    while (ask->documents) {
        json_close(ask->looked_into[--ask->documents]);
    }
}

const struct json_value *ask_look_into(struct ask *ask, struct str raw) {
    if (!raw.ptr) {
        return NULL;
    }
    assert(ask->documents < ASK_DOCUMENTS);
    struct json *json = json_open(raw, raw.len * 12 + 64 * 1024); // as llm/peek.h
    if (!json) {
        ask_refuse(ask, NULL, "there is no memory to look into it");
        return NULL;
    }
    ask->looked_into[ask->documents++] = json;
    return json_root(json);
}

bool ask_refuse(struct ask *ask, const char *param, const char *problem) {
    ask->param = param;
    ask->problem = problem;
    return false;
}

static bool append(struct ask *ask, struct str s) {
    return buf_str_append(ask->text, s) == OK || ask_refuse(ask, NULL, "the text is too large to be echoed");
}

// A number of the request's; one that is not there, or null, leaves *n as it is.
static bool read_number(struct ask *ask, enum ask_member member, unsigned most, unsigned *n, const char *problem) {
    double number = 0;
    if (!raw_number(ask->members[member], &number)) {
        return true;
    }
    if (number < 1 || number > (double)most) {
        return ask_refuse(ask, members[member].ptr, problem);
    }
    *n = (unsigned)number;
    return true;
}

static bool read_tokens_max(struct ask *ask, enum ask_member member) {
    return read_number(ask, member, INT_MAX, &ask->tokens_max, "the number of tokens must be at least 1");
}

static bool read_choices(struct ask *ask) {
    return read_number(ask, ASK_N, ASK_CHOICES_MAX, &ask->choices, "n must be a number from 1 to 128");
}

// What every endpoint knows.
static bool read_common(struct ask *ask) {
    ask->choices = 1;
    ask->stop = ask->members[ASK_STOP];
    ask->model = raw_string(ask->members[ASK_MODEL], ask->model_room, sizeof ask->model_room);
    if (!ask->model.ptr || ask->model.len == 0 || ask->model.len > ASK_MODEL_MAX) {
        return ask_refuse(ask, "model", "model must be a string of 1 to 255 bytes");
    }
    ask->stream = raw_true(ask->members[ASK_STREAM]);
    ask->include_usage = raw_true(raw_member(ask->members[ASK_STREAM_OPTIONS], STR("include_usage")));
    return true;
}

// ---- texts

// The text lies in ask->text from `before` on, and stays there if it is to be echoed.
static void count_text(struct ask *ask, size_t before, bool echo) {
    ask->prompt_tokens += words_count(str_skip(buf_str(ask->text), before));
    if (!echo) {
        buf_truncate(ask->text, before);
    }
}

static bool add_text(struct ask *ask, struct str text, bool echo) {
    size_t before = buf_len(ask->text);
    char none[1];
    struct str plain = echo ? (struct str){NULL, 0} : raw_string(text, none, 0);
    if (plain.ptr) { // counted where it lies
        ask->prompt_tokens += words_count(plain);
        return true;
    }
    if (raw_append(ask->text, text) != OK) {
        return ask_refuse(ask, NULL, "the text is too large to be echoed");
    }
    count_text(ask, before, echo);
    return true;
}

// A part of a message's content: text, or (depth > 0) a tool's result, which has content of its own. Images are no
// text. Several texts are joined by line ends.
static bool add_content(struct ask *ask, struct str content, bool echo, unsigned depth);

static bool add_part(struct ask *ask, struct str text, struct str type, struct str content, bool echo, unsigned depth) {
    bool result = depth && raw_says(type, STR("tool_result"));
    if ((!raw_is_string(text) && !result) || (echo && buf_len(ask->text) && !append(ask, STR("\n")))) {
        return ask->problem == NULL;
    }
    ask->tool_answered = ask->tool_answered || (result && echo);
    return raw_is_string(text) ? add_text(ask, text, echo) : add_content(ask, content, echo, depth - 1);
}

// A message's content: a string, or parts. Anything else is no text.
static bool add_content(struct ask *ask, struct str content, bool echo, unsigned depth) {
    if (raw_is_string(content)) {
        return add_text(ask, content, echo);
    }
    static const struct str names[] = {STR_INIT("text"), STR_INIT("type"), STR_INIT("content")};
    struct str part[ARRAY_LEN(names)];
    size_t n = 0;
    for (struct raw_each each = raw_each(content); raw_next_pick(&each, names, ARRAY_LEN(names), part); n++) {
        if (n == ASK_PARTS_MAX) {
            return ask_refuse(ask, "content", "a message's content must not have more than 256 parts");
        }
        if (!add_part(ask, part[0], part[1], part[2], echo, depth)) {
            return false;
        }
    }
    return true;
}

// All count, the last one is echoed. A tool's result is a message of a role of its own in chats, an item of a type of
// its own in responses.
static bool add_messages(struct ask *ask, enum ask_member member) {
    enum { ROLE, CONTENT, TYPE, OUTPUT, NAMES };
    static const struct str names[NAMES] = {STR_INIT("role"), STR_INIT("content"), STR_INIT("type"),
                                            STR_INIT("output")};
    struct str message[NAMES];
    struct raw_each each = raw_each(ask->members[member]);
    if (!raw_more(&each)) {
        return ask_refuse(ask, members[member].ptr, "there must be a list of 1 to 2048 messages");
    }
    for (size_t n = 0; raw_next_pick(&each, names, NAMES, message); n++) {
        bool last = !raw_more(&each);
        if (n == ASK_ITEMS_MAX) {
            return ask_refuse(ask, members[member].ptr, "there must be a list of 1 to 2048 messages");
        }
        if (!raw_is_object(each.value)) {
            return ask_refuse(ask, members[member].ptr, "a message must be an object");
        }
        ask->tool_answered =
            last && (raw_says(message[ROLE], STR("tool")) || raw_says(message[TYPE], STR("function_call_output")));
        if (!add_content(ask, message[OUTPUT].ptr ? message[OUTPUT] : message[CONTENT], last, 1)) {
            return false;
        }
    }
    return true;
}

bool ask_chat(struct ask *ask) {
    ask->format = ask->members[ASK_RESPONSE_FORMAT];
    return read_common(ask) && read_choices(ask) && read_tokens_max(ask, ASK_MAX_TOKENS) &&
           read_tokens_max(ask, ASK_MAX_COMPLETION_TOKENS) && add_messages(ask, ASK_MESSAGES);
}

bool ask_count(struct ask *ask) {
    return read_common(ask) && add_content(ask, ask->members[ASK_SYSTEM], false, 0) && add_messages(ask, ASK_MESSAGES);
}

bool ask_message(struct ask *ask) {
    struct str format = raw_member(ask->members[ASK_OUTPUT_CONFIG], STR("format"));
    ask->format = format.ptr ? format : ask->members[ASK_OUTPUT_FORMAT];
    if (!ask_count(ask) || !read_tokens_max(ask, ASK_MAX_TOKENS)) {
        return false;
    }
    ask->stop = ask->members[ASK_STOP_SEQUENCES];
    return ask->tokens_max || ask_refuse(ask, "max_tokens", "max_tokens: a number of at least 1 is required");
}

bool ask_response(struct ask *ask) {
    struct str input = ask->members[ASK_INPUT];
    ask->format = raw_member(ask->members[ASK_TEXT], STR("format"));
    if (!read_common(ask) || !read_tokens_max(ask, ASK_MAX_OUTPUT_TOKENS)) {
        return false;
    }
    ask->stop = (struct str){NULL, 0}; // this API has none
    return add_text(ask, ask->members[ASK_INSTRUCTIONS], false) &&
           (raw_is_string(input) ? add_text(ask, input, true) : add_messages(ask, ASK_INPUT));
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

// What is done with each input: its text (empty when it came as tokens) and a hash of it. The text lies at the end of
// ask->text, behind `before`, and may stay there.
typedef bool take_input(struct ask *ask, size_t before, uint64_t seed);

static bool add_tokens(struct ask *ask, const char *param, struct str tokens, take_input *take) {
    uint64_t h = HASH_START;
    size_t n = 0;
    for (struct raw_each token = raw_each(tokens); raw_next(&token); n++) {
        double number = 0;
        if (n == ASK_TOKENS_MAX) {
            return ask_refuse(ask, param, "an input must have 1 to 8192 tokens");
        }
        if (!raw_number(token.value, &number)) {
            return ask_refuse(ask, param, "a token must be a number");
        }
        h = hash(h, &number, sizeof number);
    }
    if (n < 1) {
        return ask_refuse(ask, param, "an input must have 1 to 8192 tokens");
    }
    ask->prompt_tokens += n;
    return take(ask, buf_len(ask->text), h);
}

static bool add_input(struct ask *ask, const char *param, struct str input, take_input *take) {
    size_t before = buf_len(ask->text);
    if (raw_is_array(input)) {
        return add_tokens(ask, param, input, take);
    }
    if (!raw_is_string(input)) {
        return ask_refuse(ask, param, "an input must be a string or a list of tokens");
    }
    if (!add_text(ask, input, true)) {
        return false;
    }
    struct str text = str_skip(buf_str(ask->text), before);
    return take(ask, before, hash(HASH_START, text.ptr, text.len));
}

static bool add_inputs(struct ask *ask, enum ask_member member, take_input *take) {
    const char *param = members[member].ptr;
    struct str inputs = ask->members[member];
    struct raw_each input = raw_each(inputs);
    double number = 0;
    if (!raw_is_array(inputs) || (raw_next(&input) && raw_number(input.value, &number))) {
        return add_input(ask, param, inputs, take);
    }
    size_t n = 0;
    for (input = raw_each(inputs); raw_next(&input); n++) {
        if (n == ASK_ITEMS_MAX) {
            return ask_refuse(ask, param, "there must be 1 to 2048 inputs");
        }
        if (!add_input(ask, param, input.value, take)) {
            return false;
        }
    }
    return n > 0 || ask_refuse(ask, param, "there must be 1 to 2048 inputs");
}

static bool echo_input(struct ask *ask, size_t before, uint64_t seed UNUSED) {
    buf_consume(ask->text, before); // the last one stays
    return true;
}

bool ask_completion(struct ask *ask) {
    return read_common(ask) && read_choices(ask) && read_tokens_max(ask, ASK_MAX_TOKENS) &&
           add_inputs(ask, ASK_PROMPT, echo_input);
}

static bool keep_seed(struct ask *ask, size_t before, uint64_t seed) {
    ask->inputs++;
    buf_truncate(ask->text, before); // not the text itself
    return append(ask, str_from((const char *)&seed, sizeof seed));
}

bool ask_embeddings(struct ask *ask) {
    ask->dimensions = ASK_DIMENSIONS_USUAL;
    if (!read_common(ask) || !read_number(ask, ASK_DIMENSIONS, ASK_DIMENSIONS_MAX, &ask->dimensions,
                                          "dimensions must be a number from 1 to 4096")) {
        return false;
    }
    ask->stream = false;
    ask->base64 = raw_says(ask->members[ASK_ENCODING_FORMAT], STR("base64"));
    return add_inputs(ask, ASK_INPUT, keep_seed);
}
