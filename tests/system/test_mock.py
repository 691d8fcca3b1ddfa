# SPDX-License-Identifier: MIT
"""thaw mock: OpenAI's API with set latency, errors on request, and a journal of what really happened."""
import base64
import json
import struct

import pytest

from openai_api import CHAT
from rawhttp import events, post, request
from waiting import poll


def chat(model="mock", text="one two three", **more):
    return {"model": model, "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}], **more}


@pytest.fixture
def mock(world):
    return world.mock("--latency", "20ms")


@pytest.fixture
def client(world, mock):
    return world.connect(mock)


def chunks(answer):
    """The documents of a finished OpenAI stream."""
    assert answer.status == 200 and answer["content-type"].startswith("text/event-stream"), answer
    data = [data for _, data in events(answer.body)]
    assert data[-1] == "[DONE]" and "[DONE]" not in data[:-1]
    return [json.loads(d) for d in data[:-1]]


def usage_adds_up(usage):
    assert usage["prompt_tokens"] > 0 and usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_it_says_where_it_listens(mock):
    mock.wait_text(rf"(?i)listening on (http://)?127\.0\.0\.1:{mock.port}")


# --- chat ------------------------------------------------------------------------------------------------------------------

def test_a_chat_answer_echoes_the_last_message(client):
    for text in ("ping 4711", 'quotes " \\ and é 你 😀', "x" * 5000):
        answer = client.ask(post(CHAT, chat(text=text)))
        assert answer.status == 200
        document = answer.json()
        assert document["object"] == "chat.completion" and document["model"] == "mock" and document["id"] and document["created"] > 0
        choice, = document["choices"]
        assert choice["index"] == 0 and choice["finish_reason"] == "stop" and choice["message"]["role"] == "assistant"
        assert text in choice["message"]["content"]
        usage_adds_up(document["usage"])


def test_content_in_parts_is_echoed_too(client):
    parts = [{"type": "text", "text": "ping 4711"}]
    document = client.ask(post(CHAT, {"model": "mock", "messages": [{"role": "user", "content": parts}]})).json()
    assert "ping 4711" in document["choices"][0]["message"]["content"]


def test_ids_differ(client):
    assert len({client.ask(post(CHAT, chat())).json()["id"] for _ in range(5)}) == 5


def test_a_stream_has_the_same_content_in_pieces(client):
    text = 'one two  three " \\ é 你 😀 end'
    documents = chunks(client.ask(post(CHAT, chat(text=text, stream=True))))
    assert len({d["id"] for d in documents}) == 1
    assert all(d["object"] == "chat.completion.chunk" and d["model"] == "mock" and len(d["choices"]) == 1 for d in documents)
    assert documents[0]["choices"][0]["delta"].get("role") == "assistant"
    assert text in "".join(d["choices"][0]["delta"].get("content") or "" for d in documents)
    assert [d["choices"][0]["finish_reason"] for d in documents] == [None] * (len(documents) - 1) + ["stop"]
    assert not any(d.get("usage") for d in documents)


def test_usage_of_a_stream_comes_in_a_chunk_of_its_own(client):
    documents = chunks(client.ask(post(CHAT, chat(stream=True, stream_options={"include_usage": True}))))
    assert documents[-1]["choices"] == []
    usage_adds_up(documents[-1]["usage"])
    assert not any(d.get("usage") for d in documents[:-1]) and documents[-2]["choices"][0]["finish_reason"] == "stop"


def test_events_arrive_one_by_one(client):
    """The first of two tokens is there while the second is still an hour away."""
    client.send(post(CHAT, chat("mock-2x1h", stream=True)))
    answer = client.read_head()
    while not any(json.loads(d)["choices"][0]["delta"].get("content") for _, d in events(answer.body)):
        client.read_some(answer)
    assert not answer.whole


@pytest.mark.parametrize("model,count", [("mock-7x5ms", 7), ("mock-1x1ms", 1), ("mock-30x1ms", 30)])
def test_a_model_name_sets_number_and_pace_of_tokens(client, model, count):
    documents = chunks(client.ask(post(CHAT, chat(model, "one two three", stream=True))))
    with_content = [d for d in documents if d["choices"][0]["delta"].get("content")]
    assert len(with_content) == count and all(d["model"] == model for d in documents)


@pytest.mark.parametrize("model", ["mock-7x5ms", "mock-5ms", "mock-10ms", "mock-0s"])
def test_such_models_answer_without_a_stream_too(client, model):
    document = client.ask(post(CHAT, chat(model, "ping 4711"))).json()
    assert "ping 4711" in document["choices"][0]["message"]["content"] and document["model"] == model


def test_a_model_name_overrides_the_latency(world):
    """The default is an hour: an answer at all shows that the name counts."""
    client = world.connect(world.mock("--latency", "1h"))
    assert client.ask(post(CHAT, chat("mock-5ms"))).status == 200
    assert client.ask(post(CHAT, chat("mock-3x5ms", stream=True))).status == 200


def test_the_latency_is_kept_and_others_are_served_meanwhile(world):
    mock = world.mock("--latency", "1h")
    waiting, quick = world.connect(mock), world.connect(mock)
    waiting.send(post(CHAT, chat()))
    for _ in range(5):
        assert quick.ask(post(CHAT, chat("mock-5ms"))).status == 200
    assert waiting.quiet()


# --- errors on request -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504])
def test_a_model_name_asks_for_an_error(client, status, stream):
    answer = client.ask(post(CHAT, chat(f"mock-err-{status}", stream=stream)))
    assert answer.status == status and answer.error()
    if status in (429, 503):
        assert 1 <= int(answer["retry-after"]) <= 120
    assert client.ask(post(CHAT, chat())).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":1}', b'{"messages":[]}', b'{"model":"mock"}', b'{"model":"mock","messages":{}}'])
def test_a_bad_request_is_400(client, body):
    answer = client.ask(post(CHAT, body))
    assert answer.status == 400 and answer.error()["type"] == "invalid_request_error"
    assert client.ask(post(CHAT, chat())).status == 200


def test_other_paths_and_methods(client):
    assert client.ask(request("GET", "/nothing")).status == 404
    assert client.ask(post("/v1/nothing", b"{}")).status == 404
    answer = client.ask(request("GET", CHAT))
    assert answer.status == 405 and "post" in answer.fields.tokens("allow")


# --- the other endpoints -----------------------------------------------------------------------------------------------------

def test_models(client):
    document = client.ask(request("GET", "/v1/models")).json()
    assert document["object"] == "list" and document["data"]
    assert all(m["object"] == "model" and m["id"].startswith("mock") for m in document["data"])


def test_completions(client):
    document = client.ask(post("/v1/completions", {"model": "mock", "prompt": "ping 4711"})).json()
    assert document["object"] == "text_completion" and document["choices"][0]["finish_reason"] == "stop"
    assert "ping 4711" in document["choices"][0]["text"]
    usage_adds_up(document["usage"])
    documents = chunks(client.ask(post("/v1/completions", {"model": "mock", "prompt": "ping 4711", "stream": True})))
    assert all(d["object"] == "text_completion" for d in documents)
    assert "ping 4711" in "".join(d["choices"][0]["text"] for d in documents if d["choices"])


def test_embeddings(client):
    def ask(**more):
        document = client.ask(post("/v1/embeddings", {"model": "mock", **more})).json()
        assert document["object"] == "list" and document["usage"]["prompt_tokens"] > 0
        assert [d["index"] for d in document["data"]] == list(range(len(document["data"])))
        assert all(d["object"] == "embedding" for d in document["data"])
        return [d["embedding"] for d in document["data"]]
    one, = ask(input="one")
    assert len(one) > 1 and all(isinstance(x, (int, float)) for x in one)
    again, two = ask(input=["one", "two"])
    assert again == one and two != one, "an embedding tells inputs apart and is the same for the same"
    packed, = ask(input="one", encoding_format="base64")
    raw = base64.b64decode(packed)
    assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize("text", ["ping 4711", [{"role": "user", "content": "ping 4711"}],
                                  [{"role": "user", "content": [{"type": "input_text", "text": "ping 4711"}]}]],
                         ids=["text", "messages", "parts"])
def test_responses(client, text):
    document = client.ask(post("/v1/responses", {"model": "mock", "input": text})).json()
    assert document["object"] == "response" and document["status"] == "completed" and document["id"]
    message = [o for o in document["output"] if o["type"] == "message"][0]
    assert message["role"] == "assistant" and message["content"][0]["type"] == "output_text"
    assert "ping 4711" in message["content"][0]["text"]
    assert document["usage"]["total_tokens"] == document["usage"]["input_tokens"] + document["usage"]["output_tokens"]


def test_a_stream_of_responses(client):
    answer = client.ask(post("/v1/responses", {"model": "mock", "input": "ping 4711", "stream": True}))
    assert answer["content-type"].startswith("text/event-stream")
    seen = [(kind, json.loads(data)) for kind, data in events(answer.body) if data != "[DONE]"]
    assert all(kind == document["type"] for kind, document in seen)
    assert seen[0][0] == "response.created" and seen[-1][0] == "response.completed"
    assert "ping 4711" in "".join(d["delta"] for kind, d in seen if kind == "response.output_text.delta")
    numbers = [d["sequence_number"] for _, d in seen]
    assert numbers == sorted(set(numbers))


# --- the journal ---------------------------------------------------------------------------------------------------------------

def journal(client):
    """(records of calls, the line that sums up) of GET /mock/journal, JSON lines."""
    answer = client.ask(request("GET", "/mock/journal"))
    assert answer.status == 200, answer
    lines = [json.loads(line) for line in bytes(answer.body).splitlines() if line.strip()]
    calls = [line for line in lines if "arrival_ns" in line]
    sums = [line for line in lines if line not in calls]
    assert len(sums) == 1, sums
    return calls, sums[0]


def test_the_journal_tells_arrival_first_and_last_byte(client):
    client.ask(post(CHAT, chat("mock-5ms")))
    client.ask(post(CHAT, chat("mock-3x5ms", stream=True)))
    client.ask(post(CHAT, chat("mock-err-429")))
    calls, sums = journal(client)
    assert [call["model"] for call in calls] == ["mock-5ms", "mock-3x5ms", "mock-err-429"]
    assert [call["status"] for call in calls] == [200, 200, 429]
    for call in calls:
        assert 0 < call["arrival_ns"] <= call["first_byte_ns"] <= call["last_byte_ns"], call
        assert not call["client_gone_ns"] and call["path"] == CHAT
    arrivals = [call["arrival_ns"] for call in calls]
    assert arrivals == sorted(arrivals)
    assert sums["in_flight"] == 0 and sums["max_in_flight"] == 1


def test_the_journal_tells_how_many_were_in_flight_at_most(world, mock, client):
    clients = [world.connect(mock) for _ in range(7)]
    for each in clients:
        each.send(post(CHAT, chat("mock-1h")))
    poll(lambda: journal(client)[1]["in_flight"] == 7, "seven calls in flight")
    for each in clients:
        each.close()
    poll(lambda: journal(client)[1]["in_flight"] == 0, "no call in flight")
    calls, sums = journal(client)
    assert sums["max_in_flight"] == 7 and len(calls) == 7
    assert all(call["client_gone_ns"] > call["arrival_ns"] and not call["last_byte_ns"] for call in calls)


def test_a_client_that_leaves_a_stream_is_in_the_journal(world, mock, client):
    gone = world.connect(mock)
    gone.send(post(CHAT, chat("mock-1000x1h", stream=True)))
    gone.read_head()
    gone.close()
    call = poll(lambda: [c for c in journal(client)[0] if c["client_gone_ns"]], "the client to be missed")[0]
    assert call["arrival_ns"] <= call["first_byte_ns"] <= call["client_gone_ns"] and not call["last_byte_ns"]
