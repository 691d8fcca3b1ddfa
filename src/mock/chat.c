// SPDX-License-Identifier: MIT
// POST /chat/completions and its forerunner /completions: bodies and events as OpenAI's API reference shows them.
#include "mock/answer.h"

static const char *const finish_reasons[] = {
    [FINISH_STOP] = "\"stop\"",
    [FINISH_LENGTH] = "\"length\"",
    [FINISH_TOOL] = "\"tool_calls\"",
    [FINISH_SEQUENCE] = "\"stop\"",
};

static void put_finish(const struct answer *a, struct out *o) { put(o, str_c(finish_reasons[a->finish])); }

static void put_usage(const struct answer *a, struct out *o) {
    uint64_t tokens = (uint64_t)a->tokens * a->choices;
    put_text(o, "\"usage\":{\"prompt_tokens\":");
    put_u64(o, a->prompt_tokens);
    put_text(o, ",\"completion_tokens\":");
    put_u64(o, tokens);
    put_text(o, ",\"total_tokens\":");
    put_u64(o, a->prompt_tokens + tokens);
    put_text(o, ",\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":"
                "{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
                "\"rejected_prediction_tokens\":0}}");
}

// The members that every object of one kind begins with: the id's first part and the object's name differ. All pieces
// of a stream begin alike: behind another one of the batch it is copied from there.
static void put_opening(struct answer *a, struct out *o, struct str before_number, struct str object) {
    if (buf_len(o->b)) {
        put_again(o, a->opening);
        return;
    }
    put(o, before_number);
    put_u64(o, a->number);
    put(o, object);
    put_u64(o, a->created);
    put_text(o, ",\"model\":");
    put_json(o, a->model);
    put_text(o, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_mock\",\"choices\":[");
    a->opening = (unsigned short)buf_len(o->b);
}

// A choice of a chunk: its index, and what comes behind it.
static void put_choice(const struct answer *a, struct out *o, struct str rest) {
    put_text(o, "{\"index\":");
    put_u64(o, a->choice);
    put(o, rest);
}

static void put_comma_between(const struct answer *a, struct out *o) { put(o, a->choice ? STR(",") : STR("")); }

// With include_usage every chunk has the member, empty in all but the last.
static void close_chunk(const struct answer *a, struct out *o) {
    put(o, a->include_usage ? STR("],\"usage\":null}\n\n") : STR("]}\n\n"));
}

static void close_usage_chunk(const struct answer *a, struct out *o) {
    put_text(o, "],");
    put_usage(a, o);
    put_text(o, "}\n\n");
}

static void choices_close(struct answer *a, struct out *o) {
    put_text(o, "],");
    put_usage(a, o);
    put_text(o, "}\n");
}

static bool more_usage(const struct answer *a) { return a->include_usage && a->token == 0; }

static void done(struct answer *a UNUSED, struct out *o) { put_text(o, "data: [DONE]\n\n"); }

// ---- chat

static void chat_open(struct answer *a, struct out *o) {
    put_opening(a, o, STR("{\"id\":\"chatcmpl-mock-"), STR("\",\"object\":\"chat.completion\",\"created\":"));
}

// The members of a call up to where its arguments go. The choice is part of the id: no two calls have the same.
static void put_tool_call(const struct answer *a, struct out *o) {
    put_text(o, "\"id\":\"call_mock_");
    put_u64(o, a->number);
    put_text(o, "_");
    put_u64(o, a->choice);
    put_text(o, "\",\"type\":\"function\",\"function\":{\"name\":");
    put_json(o, a->tool);
    put_text(o, ",\"arguments\":\"");
}

static void message_open(struct answer *a, struct out *o) {
    put_comma_between(a, o);
    put_choice(a, o, STR(",\"message\":{\"role\":\"assistant\",\"refusal\":null,\"annotations\":[],\"content\":"));
    if (a->tool.ptr) {
        put_text(o, "null,\"tool_calls\":[{");
        put_tool_call(a, o);
    } else {
        put_text(o, "\"");
    }
}

static void message_close(struct answer *a, struct out *o) {
    put(o, a->tool.ptr ? STR("\"}}]") : STR("\""));
    put_text(o, "},\"logprobs\":null,\"finish_reason\":");
    put_finish(a, o);
    put_text(o, "}");
}

static void open_chat_chunk(struct answer *a, struct out *o) {
    put_opening(a, o, STR("data: {\"id\":\"chatcmpl-mock-"),
                STR("\",\"object\":\"chat.completion.chunk\",\"created\":"));
}

static void close_chat_chunk(const struct answer *a, struct out *o) {
    put_text(o, "},\"logprobs\":null,\"finish_reason\":null}");
    close_chunk(a, o);
}

static void chat_role(struct answer *a, struct out *o) {
    open_chat_chunk(a, o);
    put_choice(a, o, STR(",\"delta\":{\"role\":\"assistant\",\"refusal\":null,\"content\":"));
    if (a->tool.ptr) {
        put_text(o, "null,\"tool_calls\":[{\"index\":0,");
        put_tool_call(a, o);
        put_text(o, "\"}}]");
    } else {
        put_text(o, "\"\"");
    }
    close_chat_chunk(a, o);
}

static void chat_token(struct answer *a, struct out *o) {
    bool tool = a->tool.ptr;
    open_chat_chunk(a, o);
    put_choice(a, o,
               tool ? STR(",\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"")
                    : STR(",\"delta\":{\"content\":\""));
    answer_put_turn(a, o);
    put(o, tool ? STR("\"}}]") : STR("\""));
    close_chat_chunk(a, o);
}

static void chat_stop(struct answer *a, struct out *o) {
    open_chat_chunk(a, o);
    put_choice(a, o, STR(",\"delta\":{},\"logprobs\":null,\"finish_reason\":"));
    put_finish(a, o);
    put_text(o, "}");
    close_chunk(a, o);
}

static void chat_usage(struct answer *a, struct out *o) {
    open_chat_chunk(a, o);
    close_usage_chunk(a, o);
    a->token++;
}

static const struct step chat_steps[] = {
    {.write = chat_open},     {.write = message_open}, ANSWER_CONTENT, {.write = message_close, .group = 3},
    {.write = choices_close}, {.write = NULL},
};
static const struct step chat_stream_steps[] = {
    {.write = chat_role, .group = 1},
    {.write = chat_token, .more = answer_more_tokens, .paced = true},
    {.write = chat_stop, .group = 1},
    {.write = chat_usage, .more = more_usage},
    {.write = done},
    {.write = NULL},
};
const struct script answer_chat = {STR_INIT("application/json"), true, chat_steps, NULL};
const struct script answer_chat_stream = {STR_INIT("text/event-stream; charset=utf-8"), false, chat_stream_steps, NULL};

// ---- completions

static void completion_open(struct answer *a, struct out *o) {
    put_opening(a, o, STR("{\"id\":\"cmpl-mock-"), STR("\",\"object\":\"text_completion\",\"created\":"));
}

static void text_open(struct answer *a, struct out *o) {
    put_comma_between(a, o);
    put_choice(a, o, STR(",\"text\":\""));
}

static void text_close(struct answer *a, struct out *o) {
    put_text(o, "\",\"logprobs\":null,\"finish_reason\":");
    put_finish(a, o);
    put_text(o, "}");
}

static void open_completion_chunk(struct answer *a, struct out *o) {
    put_opening(a, o, STR("data: {\"id\":\"cmpl-mock-"), STR("\",\"object\":\"text_completion\",\"created\":"));
}

static void completion_token(struct answer *a, struct out *o) {
    open_completion_chunk(a, o);
    put_choice(a, o, STR(",\"text\":\""));
    answer_put_turn(a, o);
    put_text(o, "\",\"logprobs\":null,\"finish_reason\":null}");
    close_chunk(a, o);
}

static void completion_stop(struct answer *a, struct out *o) {
    open_completion_chunk(a, o);
    put_choice(a, o, STR(",\"text\":\""));
    text_close(a, o);
    close_chunk(a, o);
}

static void completion_usage(struct answer *a, struct out *o) {
    open_completion_chunk(a, o);
    close_usage_chunk(a, o);
    a->token++;
}

static const struct step completion_steps[] = {
    {.write = completion_open},        {.write = text_open},     ANSWER_CONTENT,
    {.write = text_close, .group = 3}, {.write = choices_close}, {.write = NULL},
};
static const struct step completion_stream_steps[] = {
    {.write = completion_token, .more = answer_more_tokens, .paced = true},
    {.write = completion_stop, .group = 1},
    {.write = completion_usage, .more = more_usage},
    {.write = done},
    {.write = NULL},
};
const struct script answer_completion = {STR_INIT("application/json"), true, completion_steps, NULL};
const struct script answer_completion_stream = {STR_INIT("text/event-stream; charset=utf-8"), false,
                                                completion_stream_steps, NULL};
