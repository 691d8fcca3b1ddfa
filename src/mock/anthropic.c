// SPDX-License-Identifier: MIT
// POST /messages and /messages/count_tokens: bodies and events as Anthropic's API reference shows them. Usage in a
// stream is cumulative: message_delta has the whole of it.
#include "mock/answer.h"

static const char *const stop_reasons[] = {
    [FINISH_STOP] = "\"end_turn\"",
    [FINISH_LENGTH] = "\"max_tokens\"",
    [FINISH_TOOL] = "\"tool_use\"",
    [FINISH_SEQUENCE] = "\"stop_sequence\"",
};

static void put_usage(const struct answer *a, struct out *o, uint64_t output_tokens) {
    put_text(o, "\"usage\":{\"input_tokens\":");
    put_u64(o, a->prompt_tokens);
    put_text(o, ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"cache_creation\":"
                "{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},\"output_tokens\":");
    put_u64(o, output_tokens);
    put_text(o, ",\"service_tier\":\"standard\"}");
}

static void put_stop(const struct answer *a, struct out *o) {
    put_text(o, "\"stop_reason\":");
    put(o, str_c(stop_reasons[a->finish]));
    put_text(o, ",\"stop_sequence\":");
    if (a->finish == FINISH_SEQUENCE) {
        put_json(o, a->stop);
    } else {
        put_text(o, "null");
    }
}

// ---- objects

static void open_message(const struct answer *a, struct out *o) {
    answer_put_id(a, o, STR("{\"id\":\"msg_mock_"));
    put_text(o, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    put_json(o, a->model);
    put_text(o, ",\"content\":[");
}

// The members of a tool's block up to its arguments.
static void put_tool_use(const struct answer *a, struct out *o) {
    answer_put_id(a, o, STR("{\"type\":\"tool_use\",\"id\":\"toolu_mock_"));
    put_text(o, ",\"name\":");
    put_json(o, a->tool);
    put_text(o, ",\"input\":");
}

static void text_open(struct answer *a, struct out *o) {
    open_message(a, o);
    put_text(o, "{\"type\":\"text\",\"text\":\"");
}

static void close_message(const struct answer *a, struct out *o) {
    put_text(o, "}],");
    put_stop(a, o);
    put_text(o, ",");
    put_usage(a, o, a->tokens);
    put_text(o, "}\n");
}

static void text_close(struct answer *a, struct out *o) {
    put_text(o, "\"");
    close_message(a, o);
}

static void tool_open(struct answer *a, struct out *o) {
    open_message(a, o);
    put_tool_use(a, o);
}

// Arguments that were cut short are no JSON: there are none then.
static bool more_arguments(const struct answer *a) { return a->finish != FINISH_LENGTH && answer_more_raw(a); }

static void tool_close(struct answer *a, struct out *o) {
    put(o, a->finish == FINISH_LENGTH ? STR("{}") : STR(""));
    close_message(a, o);
}

static void count_body(struct answer *a, struct out *o) {
    put_text(o, "{\"input_tokens\":");
    put_u64(o, a->prompt_tokens);
    put_text(o, "}\n");
}

// ---- events

static void open_event(struct out *o, struct str type) {
    put_text(o, "event: ");
    put(o, type);
    put_text(o, "\ndata: {\"type\":\"");
    put(o, type);
    put_text(o, "\"");
}

static void close_event(struct out *o) { put_text(o, "}\n\n"); }

static void message_start(struct answer *a, struct out *o) {
    open_event(o, STR("message_start"));
    put_text(o, ",\"message\":");
    open_message(a, o);
    put_text(o, "],\"stop_reason\":null,\"stop_sequence\":null,");
    put_usage(a, o, 1);
    put_text(o, "}");
    close_event(o);
}

static void block_start(struct answer *a, struct out *o) {
    open_event(o, STR("content_block_start"));
    put_text(o, ",\"index\":0,\"content_block\":");
    if (a->tool.ptr) {
        put_tool_use(a, o);
        put_text(o, "{}}");
    } else {
        put_text(o, "{\"type\":\"text\",\"text\":\"\"}");
    }
    close_event(o);
}

static void ping(struct answer *a UNUSED, struct out *o) {
    open_event(o, STR("ping"));
    close_event(o);
}

static void block_delta(struct answer *a, struct out *o) {
    open_event(o, STR("content_block_delta"));
    put_text(o, ",\"index\":0,\"delta\":");
    put(o, a->tool.ptr ? STR("{\"type\":\"input_json_delta\",\"partial_json\":\"")
                       : STR("{\"type\":\"text_delta\",\"text\":\""));
    answer_put_token(a, o);
    put_text(o, "\"}");
    close_event(o);
}

static void block_stop(struct answer *a UNUSED, struct out *o) {
    open_event(o, STR("content_block_stop"));
    put_text(o, ",\"index\":0");
    close_event(o);
}

static void message_delta(struct answer *a, struct out *o) {
    open_event(o, STR("message_delta"));
    put_text(o, ",\"delta\":{");
    put_stop(a, o);
    put_text(o, "},");
    put_usage(a, o, a->tokens);
    close_event(o);
}

static void message_stop(struct answer *a UNUSED, struct out *o) {
    open_event(o, STR("message_stop"));
    close_event(o);
}

// ---- scripts

static const struct step message_steps[] = {
    {.write = text_open}, ANSWER_CONTENT, {.write = text_close}, {.write = NULL}};
static const struct step tool_steps[] = {
    {.write = tool_open},
    {.write = answer_put_raw, .more = more_arguments},
    {.write = tool_close},
    {.write = NULL},
};
static const struct step message_stream_steps[] = {
    {.write = message_start}, {.write = block_start},
    {.write = ping},          {.write = block_delta, .more = answer_more_tokens, .paced = true},
    {.write = block_stop},    {.write = message_delta},
    {.write = message_stop},  {.write = NULL},
};
static const struct step count_steps[] = {{.write = count_body}, {.write = NULL}};

static const struct script tool_script = {STR_INIT("application/json"), true, tool_steps, NULL};
const struct script answer_message = {STR_INIT("application/json"), true, message_steps, &tool_script};
const struct script answer_message_stream = {STR_INIT("text/event-stream; charset=utf-8"), false, message_stream_steps,
                                             NULL};
const struct script answer_count = {STR_INIT("application/json"), true, count_steps, NULL};
