# SPDX-License-Identifier: MIT
"""The official SDKs, `openai` and Anthropic's, in Python and JavaScript, against thaw mock itself: every shape of its
answers is taken by both. In Python with the SDKs' own validation of what they get."""
import json

import anthropic
import openai
import pydantic
import pytest

from waiting import LIMIT

TEXT = "ping 4711 é你😀 and more"
MESSAGES = [{"role": "user", "content": TEXT}]
SETTINGS = {"api_key": "sk-canary-of-the-client", "max_retries": 0, "timeout": LIMIT}
STRICT = {**SETTINGS, "_strict_response_validation": True}
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["city", "days"],
          "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}}}
ARGUMENTS = {"city": TEXT, "days": 1}
CHAT_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
RESPONSE_TOOLS = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}]
MESSAGE_TOOLS = [{"name": "weather", "input_schema": SCHEMA}]


class Trip(pydantic.BaseModel):
    city: str
    days: int


@pytest.fixture
def mock(world):
    return world.mock("--latency", "2ms", "--token-latency", "1ms")


@pytest.fixture
def oai(mock):
    with openai.OpenAI(base_url=f"{mock.url}/v1", **STRICT) as client:
        yield client


@pytest.fixture
def ant(mock):
    with anthropic.Anthropic(base_url=mock.url, **STRICT) as client:
        yield client


# --- openai, Python ----------------------------------------------------------------------------------------------------------

def test_chat_calls_a_tool(oai):
    ask = {"model": "mock", "messages": MESSAGES, "tools": CHAT_TOOLS, "tool_choice": "required"}
    answer = oai.chat.completions.create(**ask)
    choice, = answer.choices
    call, = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert call.function.name == "weather" and json.loads(call.function.arguments) == ARGUMENTS
    with oai.chat.completions.stream(**ask) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.delta" in kinds and final.finish_reason == "tool_calls"
    assert final.message.tool_calls[0].function.arguments == call.function.arguments
    told = [*MESSAGES, choice.message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    after = oai.chat.completions.create(**{**ask, "messages": told})
    assert after.choices[0].message.content == "sunny" and after.choices[0].finish_reason == "stop"


def test_chat_parses_json(oai):
    answer = oai.chat.completions.parse(model="mock", messages=MESSAGES, response_format=Trip)
    assert answer.choices[0].message.parsed.city == TEXT
    with oai.chat.completions.stream(model="mock", messages=MESSAGES, response_format=Trip) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.parsed.city == TEXT
    plain = oai.chat.completions.create(model="mock", messages=MESSAGES, response_format={"type": "json_object"})
    assert json.loads(plain.choices[0].message.content) == {"text": TEXT}


def test_chat_has_choices_limits_and_stops(oai):
    answer = oai.chat.completions.create(model="mock", messages=MESSAGES, n=3)
    assert [(c.index, c.message.content) for c in answer.choices] == [(n, TEXT) for n in range(3)]
    assert answer.usage.completion_tokens == 3 * len(TEXT.split())
    with oai.chat.completions.stream(model="mock", messages=MESSAGES, n=2) as stream:
        stream.until_done()
        assert [c.message.content for c in stream.get_final_completion().choices] == [TEXT, TEXT]
    short = oai.chat.completions.create(model="mock", messages=MESSAGES, max_completion_tokens=2).choices[0]
    assert (short.message.content, short.finish_reason) == ("ping 4711", "length")
    stopped = oai.chat.completions.create(model="mock", messages=MESSAGES, stop=[" and"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("ping 4711 é你😀", "stop")


def test_completions_and_embeddings(oai, mock):
    answer = oai.completions.create(model="mock", prompt=TEXT, n=2)
    assert [c.text for c in answer.choices] == [TEXT, TEXT]
    with openai.OpenAI(base_url=f"{mock.url}/v1", **SETTINGS) as lax:  # its type knows no null as a chunk's finish_reason
        assert "".join(c.choices[0].text for c in lax.completions.create(model="mock", prompt=TEXT, stream=True)) == TEXT
    vectors = oai.embeddings.create(model="mock", input=["a", "b"], encoding_format="float").data  # strict before it decodes others
    assert len(vectors) == 2
    assert "mock" in [m.id for m in oai.models.list()]


def test_responses_live_their_whole_life(oai):
    with oai.responses.stream(model="mock", input=TEXT) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert [k for n, k in enumerate(kinds) if n == 0 or kinds[n - 1] != k] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == TEXT and final.status == "completed"
    short = oai.responses.create(model="mock", input=TEXT, max_output_tokens=2)
    assert (short.status, short.incomplete_details.reason, short.output_text) == ("incomplete", "max_output_tokens", "ping 4711")
    with pytest.raises(openai.NotFoundError):
        oai.responses.retrieve(final.id)


def test_responses_call_a_tool_and_parse_json(oai):
    ask = {"model": "mock", "input": TEXT, "tools": RESPONSE_TOOLS, "tool_choice": "required"}
    answer = oai.responses.create(**ask)
    item, = answer.output
    assert (item.type, item.name, json.loads(item.arguments)) == ("function_call", "weather", ARGUMENTS)
    with oai.responses.stream(**ask) as stream:
        kinds = [event.type for event in stream]
        assert json.loads(stream.get_final_response().output[0].arguments) == ARGUMENTS
    assert "response.function_call_arguments.delta" in kinds and "response.function_call_arguments.done" in kinds
    told = [*(o.model_dump(exclude_none=True) for o in answer.output),
            {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}]
    assert oai.responses.create(**{**ask, "input": told}, previous_response_id=answer.id, store=True).output_text == "sunny"
    assert oai.responses.parse(model="mock", input=TEXT, text_format=Trip).output_parsed.city == TEXT


# --- anthropic, Python ------------------------------------------------------------------------------------------------------

def test_messages(ant):
    answer = ant.messages.create(model="mock", max_tokens=100, messages=MESSAGES, system="be brief")
    assert answer.content[0].text == TEXT and answer.stop_reason == "end_turn" and answer._request_id
    assert answer.usage.output_tokens == len(TEXT.split()) and answer.usage.input_tokens == len(TEXT.split()) + 2
    with ant.messages.stream(model="mock", max_tokens=100, messages=MESSAGES) as stream:
        assert "".join(stream.text_stream) == TEXT
        final = stream.get_final_message()
    assert final.content[0].text == TEXT and final.usage.output_tokens == answer.usage.output_tokens
    raw = [event.type for event in ant.messages.create(model="mock", max_tokens=100, messages=MESSAGES, stream=True)]
    assert raw[:2] == ["message_start", "content_block_start"] and raw[-2:] == ["message_delta", "message_stop"]
    assert ant.messages.count_tokens(model="mock", messages=MESSAGES).input_tokens == len(TEXT.split())
    assert "mock" in [m.id for m in ant.models.list()]


def test_messages_call_a_tool(ant):
    ask = {"model": "mock", "max_tokens": 100, "messages": MESSAGES, "tools": MESSAGE_TOOLS,
           "tool_choice": {"type": "tool", "name": "weather"}}
    answer = ant.messages.create(**ask)
    block, = answer.content
    assert (block.type, block.name, block.input) == ("tool_use", "weather", ARGUMENTS) and answer.stop_reason == "tool_use"
    with ant.messages.stream(**ask) as stream:
        assert stream.get_final_message().content[0].input == ARGUMENTS
    told = [*MESSAGES, {"role": "assistant", "content": [block.model_dump(exclude_none=True)]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}]}]
    assert ant.messages.create(**{**ask, "messages": told}).content[0].text == "sunny"


def test_messages_have_limits_and_stops(ant):
    short = ant.messages.create(model="mock", max_tokens=2, messages=MESSAGES)
    assert (short.content[0].text, short.stop_reason) == ("ping 4711", "max_tokens")
    stopped = ant.messages.create(model="mock", max_tokens=99, messages=MESSAGES, stop_sequences=[" and"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " and")


ANTHROPIC_CLASSES = {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
                     409: "ConflictError", 413: "RequestTooLargeError", 422: "UnprocessableEntityError", 429: "RateLimitError",
                     500: "InternalServerError", 503: "InternalServerError", 529: "OverloadedError"}


@pytest.mark.parametrize("status", ANTHROPIC_CLASSES)
def test_anthropics_error_classes(ant, status):
    with pytest.raises(anthropic.APIStatusError) as caught:
        ant.messages.create(model=f"mock-err-{status}", max_tokens=9, messages=MESSAGES)
    error = caught.value
    assert type(error).__name__ == ANTHROPIC_CLASSES[status] and error.status_code == status and error.request_id
    assert error.body["type"] == "error" and error.body["error"]["message"]
    assert "anthropic-ratelimit-requests-remaining" in error.response.headers


# --- both, JavaScript -----------------------------------------------------------------------------------------------------

@pytest.fixture
def js(node, mock):
    return lambda case, *more: node(case, mock, *more, script="sdk_mock.mjs")


def test_node_chat(js):
    tools = js("chat_tools")
    for which in ("whole", "streamed"):
        assert tools[which]["name"] == "weather" and json.loads(tools[which]["arguments"]) == ARGUMENTS
    assert tools["reason"] == tools["streamed_reason"] == "tool_calls" and tools["after"] == "sunny"
    assert js("chat_json") == {"whole": ARGUMENTS, "streamed": ARGUMENTS}
    assert js("chat_choices") == [[n, "ping 4711", "length"] for n in range(3)]


def test_node_responses(js):
    result = js("responses")
    assert result["events"][0] == "response.created" and result["events"][-1] == "response.completed"
    assert result["numbers"] == list(range(len(result["numbers"]))) and result["text"] == TEXT
    tools = js("responses_tools")
    assert all(json.loads(tools[which]["arguments"]) == ARGUMENTS for which in ("whole", "streamed"))
    assert tools["whole"]["type"] == "function_call" and tools["after"] == "sunny"


def test_node_messages(js):
    result = js("messages")
    assert result["text"] == result["streamed"] == result["final"] == TEXT and result["request_id"]
    assert result["usage"]["output_tokens"] == result["final_usage"]["output_tokens"] == len(TEXT.split())
    assert result["reason"] == "end_turn" and result["count"] == len(TEXT.split()) and "mock" in result["models"]
    tools = js("messages_tools")
    assert tools["whole"]["input"] == tools["streamed"]["input"] == ARGUMENTS
    assert tools["reason"] == "tool_use" and tools["after"] == "sunny"


def test_node_anthropics_error_classes(js):
    result = js("messages_errors")
    for status, error in result.items():
        name = ANTHROPIC_CLASSES[int(status)]
        name = name if int(status) < 500 else "InternalServerError"
        assert (error["class"], error["status"]) == (name, int(status)), error
        assert error["request_id"] and error["error_type"]
