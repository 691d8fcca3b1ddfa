// SPDX-License-Identifier: MIT
// POST /responses: an object, or typed events with a sequence number each. The content of the answer (a text, or a
// tool call's arguments) occurs in the middle of several of them: such a step is split in what comes before the
// content, the content, and what follows.
#include "mock/answer.h"

// What differs between a text that is complete and one that max_output_tokens ended.
static struct str final_status(const struct answer *a) {
    return a->finish == FINISH_LENGTH ? STR("\"incomplete\"") : STR("\"completed\"");
}

static struct str final_event(const struct answer *a) {
    return a->finish == FINISH_LENGTH ? STR("response.incomplete") : STR("response.completed");
}

// ---- parts of objects

static void open_response(const struct answer *a, struct out *o, struct str status, bool over) {
    bool incomplete = over && a->finish == FINISH_LENGTH;
    answer_put_id(a, o, STR("{\"id\":\"resp_mock_"));
    put_text(o, ",\"object\":\"response\",\"created_at\":");
    put_u64(o, a->created);
    put_text(o, ",\"status\":");
    put(o, status);
    put_text(o, ",\"background\":false,\"error\":null,\"incomplete_details\":");
    put(o, incomplete ? STR("{\"reason\":\"max_output_tokens\"}") : STR("null"));
    put_text(o, ",\"instructions\":null,\"max_output_tokens\":null,\"metadata\":{},\"model\":");
    put_json(o, a->model);
    put_text(o, ",\"parallel_tool_calls\":true,\"previous_response_id\":null,"
                "\"reasoning\":{\"effort\":null,\"summary\":null},\"service_tier\":\"default\",\"store\":false,"
                "\"temperature\":1.0,\"text\":{\"format\":{\"type\":\"text\"}},\"tool_choice\":\"auto\",\"tools\":[],"
                "\"top_p\":1.0,\"truncation\":\"disabled\",\"user\":null,\"output\":[");
}

static void close_response(const struct answer *a, struct out *o, bool over) {
    if (!over) {
        put_text(o, "],\"usage\":null}");
        return;
    }
    put_text(o, "],\"usage\":{\"input_tokens\":");
    put_u64(o, a->prompt_tokens);
    put_text(o, ",\"input_tokens_details\":{\"cached_tokens\":0,\"cache_write_tokens\":0},\"output_tokens\":");
    put_u64(o, a->tokens);
    put_text(o, ",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":");
    put_u64(o, a->prompt_tokens + a->tokens);
    put_text(o, "}}");
}

#define PART_OPEN "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\""
#define PART_CLOSE "\"}"

// An item up to where its content goes; `full` when there will be any.
static void open_item(const struct answer *a, struct out *o, struct str status, bool full) {
    answer_put_id(a, o, a->tool.ptr ? STR("{\"id\":\"fc_mock_") : STR("{\"id\":\"msg_mock_"));
    put_text(o, ",\"status\":");
    put(o, status);
    if (a->tool.ptr) {
        answer_put_id(a, o, STR(",\"type\":\"function_call\",\"call_id\":\"call_mock_"));
        put_text(o, ",\"name\":");
        put_json(o, a->tool);
        put_text(o, ",\"arguments\":\"");
    } else {
        put_text(o, ",\"type\":\"message\",\"role\":\"assistant\",\"content\":[");
        put(o, full ? STR(PART_OPEN) : STR(""));
    }
}

static void close_item(const struct answer *a, struct out *o, bool full) {
    put(o, a->tool.ptr ? STR("\"}") : full ? STR(PART_CLOSE "]}") : STR("]}"));
}

static void open_whole(const struct answer *a, struct out *o) {
    open_response(a, o, final_status(a), true);
    open_item(a, o, final_status(a), true);
}

static void close_whole(const struct answer *a, struct out *o) {
    close_item(a, o, true);
    close_response(a, o, true);
}

static void whole_open(struct answer *a, struct out *o) { open_whole(a, o); }

static void whole_close(struct answer *a, struct out *o) {
    close_whole(a, o);
    put_text(o, "\n");
}

// ---- events

static void open_event(struct answer *a, struct out *o, struct str type) {
    put_text(o, "event: ");
    put(o, type);
    put_text(o, "\ndata: {\"type\":\"");
    put(o, type);
    put_text(o, "\",\"sequence_number\":");
    put_u64(o, a->sequence++);
}

static void close_event(struct out *o) { put_text(o, "}\n\n"); }

// Events about the content of the one item.
static void open_content_event(struct answer *a, struct out *o, struct str type) {
    open_event(a, o, type);
    answer_put_id(a, o, a->tool.ptr ? STR(",\"item_id\":\"fc_mock_") : STR(",\"item_id\":\"msg_mock_"));
    put(o, a->tool.ptr ? STR(",\"output_index\":0") : STR(",\"output_index\":0,\"content_index\":0"));
}

static void put_progress(struct answer *a, struct out *o, struct str type) {
    open_event(a, o, type);
    put_text(o, ",\"response\":");
    open_response(a, o, STR("\"in_progress\""), false);
    close_response(a, o, false);
    close_event(o);
}

static void created(struct answer *a, struct out *o) { put_progress(a, o, STR("response.created")); }

static void in_progress(struct answer *a, struct out *o) { put_progress(a, o, STR("response.in_progress")); }

static void item_added(struct answer *a, struct out *o) {
    open_event(a, o, STR("response.output_item.added"));
    put_text(o, ",\"output_index\":0,\"item\":");
    open_item(a, o, STR("\"in_progress\""), false);
    close_item(a, o, false);
    close_event(o);
}

static void part_added(struct answer *a, struct out *o) {
    open_content_event(a, o, STR("response.content_part.added"));
    put_text(o, ",\"part\":" PART_OPEN PART_CLOSE);
    close_event(o);
}

static void text_delta(struct answer *a, struct out *o) {
    open_content_event(a, o, STR("response.output_text.delta"));
    put_text(o, ",\"delta\":\"");
    answer_put_token(a, o);
    put_text(o, "\",\"logprobs\":[]");
    close_event(o);
}

static void text_done_open(struct answer *a, struct out *o) {
    open_content_event(a, o, STR("response.output_text.done"));
    put_text(o, ",\"logprobs\":[],\"text\":\"");
}

static void string_close(struct answer *a UNUSED, struct out *o) {
    put_text(o, "\"");
    close_event(o);
}

static void part_done_open(struct answer *a, struct out *o) {
    open_content_event(a, o, STR("response.content_part.done"));
    put_text(o, ",\"part\":" PART_OPEN);
}

static void part_done_close(struct answer *a UNUSED, struct out *o) {
    put_text(o, PART_CLOSE);
    close_event(o);
}

static void arguments_delta(struct answer *a, struct out *o) {
    open_content_event(a, o, STR("response.function_call_arguments.delta"));
    put_text(o, ",\"delta\":\"");
    answer_put_token(a, o);
    put_text(o, "\"");
    close_event(o);
}

static void arguments_done_open(struct answer *a, struct out *o) {
    open_content_event(a, o, STR("response.function_call_arguments.done"));
    put_text(o, ",\"name\":");
    put_json(o, a->tool);
    put_text(o, ",\"arguments\":\"");
}

static void item_done_open(struct answer *a, struct out *o) {
    open_event(a, o, STR("response.output_item.done"));
    put_text(o, ",\"output_index\":0,\"item\":");
    open_item(a, o, final_status(a), true);
}

static void item_done_close(struct answer *a, struct out *o) {
    close_item(a, o, true);
    close_event(o);
}

static void over_open(struct answer *a, struct out *o) {
    open_event(a, o, final_event(a));
    put_text(o, ",\"response\":");
    open_whole(a, o);
}

static void over_close(struct answer *a, struct out *o) {
    close_whole(a, o);
    close_event(o);
}

// ---- scripts

// clang-format off
#define BEGINNING {.write = created}, {.write = in_progress}, {.write = item_added}
#define ENDING                                                                                                         \
    {.write = item_done_open}, ANSWER_CONTENT, {.write = item_done_close},                                             \
    {.write = over_open}, ANSWER_CONTENT, {.write = over_close}, {.write = NULL}

static const struct step response_steps[] = {
    {.write = whole_open}, ANSWER_CONTENT, {.write = whole_close}, {.write = NULL}};
static const struct step text_stream_steps[] = {
    BEGINNING,
    {.write = part_added},
    {.write = text_delta, .more = answer_more_tokens, .paced = true},
    {.write = text_done_open}, ANSWER_CONTENT, {.write = string_close},
    {.write = part_done_open}, ANSWER_CONTENT, {.write = part_done_close},
    ENDING,
};
static const struct step tool_stream_steps[] = {
    BEGINNING,
    {.write = arguments_delta, .more = answer_more_tokens, .paced = true},
    {.write = arguments_done_open}, ANSWER_CONTENT, {.write = string_close},
    ENDING,
};
// clang-format on

static const struct script tool_stream = {STR_INIT("text/event-stream; charset=utf-8"), false, tool_stream_steps, NULL};
const struct script answer_response = {STR_INIT("application/json"), true, response_steps, NULL};
const struct script answer_response_stream = {STR_INIT("text/event-stream; charset=utf-8"), false, text_stream_steps,
                                              &tool_stream};
