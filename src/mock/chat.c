// SPDX-License-Identifier: MIT
// POST /chat/completions and its forerunner /completions: bodies and events as OpenAI's API reference shows them.
#include "mock/answer.h"

static void put_usage(const struct answer *a, struct out *o) {
    put_text(o, "\"usage\":{\"prompt_tokens\":");
    put_u64(o, a->prompt_tokens);
    put_text(o, ",\"completion_tokens\":");
    put_u64(o, a->tokens);
    put_text(o, ",\"total_tokens\":");
    put_u64(o, a->prompt_tokens + a->tokens);
    put_text(o, "}");
}

// The members that every object of one kind begins with: the id's first part and the object's name differ.
static void put_opening(const struct answer *a, struct out *o, struct str before_number, struct str object) {
    put(o, before_number);
    put_u64(o, a->number);
    put(o, object);
    put_u64(o, a->created);
    put_text(o, ",\"model\":");
    put_json(o, a->model);
    put_text(o, ",\"system_fingerprint\":\"fp_mock\",\"choices\":[");
}

// With include_usage every chunk has the member, empty in all but the last.
static void close_chunk(const struct answer *a, struct out *o) {
    put(o, a->include_usage ? STR("],\"usage\":null}\n\n") : STR("]}\n\n"));
}

static void close_usage_chunk(const struct answer *a, struct out *o) {
    put_text(o, "],");
    put_usage(a, o);
    put_text(o, "}\n\n");
}

static bool more_usage(const struct answer *a) { return a->include_usage && a->token == 0; }

static void done(struct answer *a UNUSED, struct out *o) { put_text(o, "data: [DONE]\n\n"); }

// ---- chat

static void chat_open(struct answer *a, struct out *o) {
    put_opening(a, o, STR("{\"id\":\"chatcmpl-mock-"), STR("\",\"object\":\"chat.completion\",\"created\":"));
    put_text(o, "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"");
}

static void chat_close(struct answer *a, struct out *o) {
    put_text(o, "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],");
    put_usage(a, o);
    put_text(o, "}\n");
}

static void open_chat_chunk(const struct answer *a, struct out *o) {
    put_opening(a, o, STR("data: {\"id\":\"chatcmpl-mock-"),
                STR("\",\"object\":\"chat.completion.chunk\",\"created\":"));
}

static void chat_role(struct answer *a, struct out *o) {
    open_chat_chunk(a, o);
    put_text(o, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},"
                "\"logprobs\":null,\"finish_reason\":null}");
    close_chunk(a, o);
}

static void chat_token(struct answer *a, struct out *o) {
    open_chat_chunk(a, o);
    put_text(o, "{\"index\":0,\"delta\":{\"content\":\"");
    answer_put_token(a, o);
    put_text(o, "\"},\"logprobs\":null,\"finish_reason\":null}");
    close_chunk(a, o);
}

static void chat_stop(struct answer *a, struct out *o) {
    open_chat_chunk(a, o);
    put_text(o, "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}");
    close_chunk(a, o);
}

static void chat_usage(struct answer *a, struct out *o) {
    open_chat_chunk(a, o);
    close_usage_chunk(a, o);
    a->token++;
}

static const struct step chat_steps[] = {{.write = chat_open}, ANSWER_CONTENT, {.write = chat_close}, {.write = NULL}};
static const struct step chat_stream_steps[] = {
    {.write = chat_role}, {.write = chat_token, .more = answer_more_tokens, .paced = true},
    {.write = chat_stop}, {.write = chat_usage, .more = more_usage},
    {.write = done},      {.write = NULL},
};
const struct script answer_chat = {"application/json", true, chat_steps};
const struct script answer_chat_stream = {"text/event-stream; charset=utf-8", false, chat_stream_steps};

// ---- completions

static void completion_open(struct answer *a, struct out *o) {
    put_opening(a, o, STR("{\"id\":\"cmpl-mock-"), STR("\",\"object\":\"text_completion\",\"created\":"));
    put_text(o, "{\"text\":\"");
}

static void completion_close(struct answer *a, struct out *o) {
    put_text(o, "\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"stop\"}],");
    put_usage(a, o);
    put_text(o, "}\n");
}

static void open_completion_chunk(const struct answer *a, struct out *o) {
    put_opening(a, o, STR("data: {\"id\":\"cmpl-mock-"), STR("\",\"object\":\"text_completion\",\"created\":"));
}

static void completion_token(struct answer *a, struct out *o) {
    open_completion_chunk(a, o);
    put_text(o, "{\"text\":\"");
    answer_put_token(a, o);
    put_text(o, "\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}");
    close_chunk(a, o);
}

static void completion_stop(struct answer *a, struct out *o) {
    open_completion_chunk(a, o);
    put_text(o, "{\"text\":\"\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"stop\"}");
    close_chunk(a, o);
}

static void completion_usage(struct answer *a, struct out *o) {
    open_completion_chunk(a, o);
    close_usage_chunk(a, o);
    a->token++;
}

static const struct step completion_steps[] = {
    {.write = completion_open}, ANSWER_CONTENT, {.write = completion_close}, {.write = NULL}};
static const struct step completion_stream_steps[] = {
    {.write = completion_token, .more = answer_more_tokens, .paced = true},
    {.write = completion_stop},
    {.write = completion_usage, .more = more_usage},
    {.write = done},
    {.write = NULL},
};
const struct script answer_completion = {"application/json", true, completion_steps};
const struct script answer_completion_stream = {"text/event-stream; charset=utf-8", false, completion_stream_steps};
