// SPDX-License-Identifier: MIT
// POST /responses: an object, or typed events with a sequence number each. The text of the answer occurs in the
// middle of several of them: such a step is split in what comes before the content, the content, and what follows.
#include "mock/answer.h"

static void put_id(const struct answer *a, struct out *o, struct str before_number) {
    put(o, before_number);
    put_u64(o, a->number);
    put_text(o, "\"");
}

// ---- parts of objects

static void open_response(const struct answer *a, struct out *o, struct str status) {
    put_id(a, o, STR("{\"id\":\"resp_mock_"));
    put_text(o, ",\"object\":\"response\",\"created_at\":");
    put_u64(o, a->created);
    put_text(o, ",\"status\":");
    put(o, status);
    put_text(o, ",\"background\":false,\"error\":null,\"incomplete_details\":null,\"instructions\":null,"
                "\"max_output_tokens\":null,\"metadata\":{},\"model\":");
    put_json(o, a->model);
    put_text(o, ",\"parallel_tool_calls\":true,\"previous_response_id\":null,"
                "\"reasoning\":{\"effort\":null,\"summary\":null},\"store\":false,\"temperature\":1.0,"
                "\"text\":{\"format\":{\"type\":\"text\"}},\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,"
                "\"truncation\":\"disabled\",\"user\":null,\"output\":[");
}

static void close_response(const struct answer *a, struct out *o, bool completed) {
    if (!completed) {
        put_text(o, "],\"usage\":null}");
        return;
    }
    put_text(o, "],\"usage\":{\"input_tokens\":");
    put_u64(o, a->prompt_tokens);
    put_text(o, ",\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":");
    put_u64(o, a->tokens);
    put_text(o, ",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":");
    put_u64(o, a->prompt_tokens + a->tokens);
    put_text(o, "}}");
}

static void open_item(const struct answer *a, struct out *o, struct str status) {
    put_id(a, o, STR("{\"id\":\"msg_mock_"));
    put_text(o, ",\"type\":\"message\",\"status\":");
    put(o, status);
    put_text(o, ",\"role\":\"assistant\",\"content\":[");
}

#define PART_OPEN "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\""
#define PART_CLOSE "\"}"
#define ITEM_CLOSE "]}"

static void whole_open(struct answer *a, struct out *o) {
    open_response(a, o, STR("\"completed\""));
    open_item(a, o, STR("\"completed\""));
    put_text(o, PART_OPEN);
}

static void whole_close(struct answer *a, struct out *o) {
    put_text(o, PART_CLOSE ITEM_CLOSE);
    close_response(a, o, true);
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

// Events about the one piece of text.
static void open_text_event(struct answer *a, struct out *o, struct str type) {
    open_event(a, o, type);
    put_id(a, o, STR(",\"item_id\":\"msg_mock_"));
    put_text(o, ",\"output_index\":0,\"content_index\":0");
}

static void put_progress(struct answer *a, struct out *o, struct str type) {
    open_event(a, o, type);
    put_text(o, ",\"response\":");
    open_response(a, o, STR("\"in_progress\""));
    close_response(a, o, false);
    close_event(o);
}

static void created(struct answer *a, struct out *o) { put_progress(a, o, STR("response.created")); }

static void in_progress(struct answer *a, struct out *o) { put_progress(a, o, STR("response.in_progress")); }

static void item_added(struct answer *a, struct out *o) {
    open_event(a, o, STR("response.output_item.added"));
    put_text(o, ",\"output_index\":0,\"item\":");
    open_item(a, o, STR("\"in_progress\""));
    put_text(o, ITEM_CLOSE);
    close_event(o);
}

static void part_added(struct answer *a, struct out *o) {
    open_text_event(a, o, STR("response.content_part.added"));
    put_text(o, ",\"part\":" PART_OPEN PART_CLOSE);
    close_event(o);
}

static void text_delta(struct answer *a, struct out *o) {
    open_text_event(a, o, STR("response.output_text.delta"));
    put_text(o, ",\"delta\":\"");
    answer_put_token(a, o);
    put_text(o, "\",\"logprobs\":[]");
    close_event(o);
}

static void text_done_open(struct answer *a, struct out *o) {
    open_text_event(a, o, STR("response.output_text.done"));
    put_text(o, ",\"logprobs\":[],\"text\":\"");
}

static void text_done_close(struct answer *a UNUSED, struct out *o) {
    put_text(o, "\"");
    close_event(o);
}

static void part_done_open(struct answer *a, struct out *o) {
    open_text_event(a, o, STR("response.content_part.done"));
    put_text(o, ",\"part\":" PART_OPEN);
}

static void part_done_close(struct answer *a UNUSED, struct out *o) {
    put_text(o, PART_CLOSE);
    close_event(o);
}

static void item_done_open(struct answer *a, struct out *o) {
    open_event(a, o, STR("response.output_item.done"));
    put_text(o, ",\"output_index\":0,\"item\":");
    open_item(a, o, STR("\"completed\""));
    put_text(o, PART_OPEN);
}

static void item_done_close(struct answer *a UNUSED, struct out *o) {
    put_text(o, PART_CLOSE ITEM_CLOSE);
    close_event(o);
}

static void completed_open(struct answer *a, struct out *o) {
    open_event(a, o, STR("response.completed"));
    put_text(o, ",\"response\":");
    whole_open(a, o);
}

static void completed_close(struct answer *a, struct out *o) {
    whole_close(a, o);
    close_event(o);
}

// ---- the two scripts

static const struct step response_steps[] = {
    {.write = whole_open}, ANSWER_CONTENT, {.write = whole_close}, {.write = NULL}};
static const struct step response_stream_steps[] = {
    {.write = created},
    {.write = in_progress},
    {.write = item_added},
    {.write = part_added},
    {.write = text_delta, .more = answer_more_tokens, .paced = true},
    {.write = text_done_open},
    ANSWER_CONTENT,
    {.write = text_done_close},
    {.write = part_done_open},
    ANSWER_CONTENT,
    {.write = part_done_close},
    {.write = item_done_open},
    ANSWER_CONTENT,
    {.write = item_done_close},
    {.write = completed_open},
    ANSWER_CONTENT,
    {.write = completed_close},
    {.write = NULL},
};
const struct script answer_response = {"application/json", true, response_steps};
const struct script answer_response_stream = {"text/event-stream; charset=utf-8", false, response_stream_steps};
