# SPDX-License-Identifier: MIT
"""thaw mock --record and --replay: what a real upstream said comes back to the byte, and nothing secret is written down."""
import json
import re

import openai
import pytest

import certificates
from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, STREAM, STREAM_REQUEST
from process import run
from rawhttp import post, request
from upstream import Gate, sends, streams
from waiting import LIMIT, poll

SECRET = "sk-canary-of-the-client"
AUTHORIZED = [("Authorization", f"Bearer {SECRET}"), ("OpenAI-Organization", "org-canary")]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "tapes"


def recorder(world, up, folder, *more, **options):
    return world.mock("--record", up.url if up.url.endswith("/v1") else f"{up.url}/v1", folder, *more, **options)


def files(folder):
    return sorted(folder.glob("*.rec"))


def recorded(folder, count=1):
    """The texts of the files, once there are so many."""
    poll(lambda: len(files(folder)) == count, lambda: f"{count} recordings; there are {files(folder)}")
    assert not [f for f in folder.iterdir() if f.name.startswith(".")]
    return [f.read_text() for f in files(folder)]


def test_a_plain_call(world, folder):
    up = world.upstream(lambda x: x.answer(200, CHAT_ANSWER, fields=[("x-request-id", "req-1"), ("Set-Cookie", "a=canary")]))
    mock = recorder(world, up, folder)
    answer = world.connect(mock).ask(post(CHAT, CHAT_REQUEST, AUTHORIZED))
    assert answer.status == 200 and bytes(answer.body) == CHAT_ANSWER and answer["x-request-id"] == "req-1"
    asked = up.only()
    assert asked.target == CHAT and asked["authorization"] == f"Bearer {SECRET}" and asked["host"] == f"127.0.0.1:{up.port}"
    text, = recorded(folder)
    assert text.startswith("thaw-recording 1\nrequest POST /v1/chat/completions\nbody ") and "canary" not in text
    assert "x-request-id: req-1\n" in text and "set-cookie" not in text.lower()
    again = world.connect(world.mock("--replay", folder)).ask(post(CHAT, CHAT_REQUEST))
    assert again.status == 200 and again.body == answer.body and again["x-request-id"] == "req-1"


def test_a_stream_comes_back_in_its_pieces(world, folder):
    gates = [Gate() for _ in STREAM[1:]]

    def script(x):
        x.stream_head()
        x.chunk(STREAM[0])
        for gate, event in zip(gates, STREAM[1:]):
            x.wait(gate)
            x.chunk(event)
        x.last_chunk()
    up = world.upstream(script)
    client = world.connect(recorder(world, up, folder))
    client.send(post(CHAT, STREAM_REQUEST))
    answer = client.read_head()
    for gate, event in zip(gates, STREAM):
        client.read_until(answer, event)
        gate.open()
    client.read_rest(answer)
    assert bytes(answer.body) == b"".join(STREAM)
    text, = recorded(folder)
    times = [float(t) for t in re.findall(r"^@(\S+)$", text, re.M)]
    assert len(times) == len(STREAM) and times == sorted(times)
    again = world.connect(world.mock("--replay", folder, "--replay-speed", "0")).ask(post(CHAT, STREAM_REQUEST))
    assert again.body == answer.body and again["content-type"] == answer["content-type"]


def test_what_the_upstream_cut_is_cut_again(world, folder):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    client = world.connect(recorder(world, world.upstream(sends(head + b'{"half":', "close")), folder))
    client.send(post(CHAT, CHAT_REQUEST))
    assert bytes(client.read_cut().body) == b'{"half":'
    text, = recorded(folder)
    assert "\nlength 500\n" in text and "\ncut @" in text
    client = world.connect(world.mock("--replay", folder))
    client.send(post(CHAT, CHAT_REQUEST))
    answer = client.read_cut()
    assert bytes(answer.body) == b'{"half":' and answer["content-length"] == "500"


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    for where, why in (("file", "Not a directory"), ("file/below", "Not a directory"), ("no/where", "No such file")):
        done = run("mock", "--record", "http://127.0.0.1:9/v1", tmp_path / where)
        assert done.code == 2 and f"{tmp_path / where}: {why}" in done.err and "listening" not in done.err


def test_what_was_recorded_can_always_be_played(world, folder):
    fields = [(f"x-{i}", "y") for i in range(97)]
    up = world.upstream(lambda x: x.answer(200, b"{}", fields=fields))
    client = world.connect(recorder(world, up, folder))
    assert client.ask(request("GET", "/v1/files")).status == 200
    assert client.ask(request("OPTIONS", "*")).status == 200
    recorded(folder, 2)
    client = world.connect(world.mock("--replay", folder))
    assert client.ask(request("GET", "/v1/files"))["x-96"] == "y"
    assert client.ask(request("OPTIONS", "*")).status == 200


def test_a_client_that_leaves_leaves_no_recording(world, folder):
    gate = Gate()

    def script(x):
        x.stream_head().chunk(STREAM[0])
        x.hang()
    up = world.upstream(script)
    mock = recorder(world, up, folder)
    client = world.connect(mock)
    client.send(post(CHAT, STREAM_REQUEST))
    client.read_until(client.read_head(), STREAM[0])
    client.close()
    up.wait_gone(up.only())
    poll(lambda: list(folder.iterdir()) == [], lambda: f"no file; there are {list(folder.iterdir())}")
    gate.open()


def test_a_key_that_the_upstream_quotes_is_masked(world, folder):
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}.", "type": "x", "code": None}}).encode()
    up = world.upstream(lambda x: x.answer(401, body))
    answer = world.connect(recorder(world, up, folder)).ask(post(CHAT, CHAT_REQUEST, AUTHORIZED))
    assert bytes(answer.body) == body
    text, = recorded(folder)
    assert SECRET not in text and "provided: ***" in text
    again = world.connect(world.mock("--replay", folder)).ask(post(CHAT, CHAT_REQUEST))
    assert again.status == 401 and len(again.body) == len(body)


def test_what_is_not_recorded_is_404_and_names_the_nearest(world, folder):
    up = world.upstream(lambda x: x.answer(200, CHAT_ANSWER))
    world.connect(recorder(world, up, folder)).ask(post(CHAT, CHAT_REQUEST))
    recorded(folder)
    client = world.connect(world.mock("--replay", folder))
    answer = client.ask(post(CHAT, b'{"model":"other"}'))
    assert answer.status == 404 and files(folder)[0].name in answer.error()["message"]
    assert client.ask(request("GET", "/v1/models")).status == 404


def test_a_miss_is_asked_for_once(world, folder):
    up = world.upstream(lambda x: x.answer(200, CHAT_ANSWER))
    folder.mkdir()
    client = world.connect(recorder(world, up, folder, "--replay", folder))
    for _ in range(3):
        assert bytes(client.ask(post(CHAT, CHAT_REQUEST)).body) == CHAT_ANSWER
    assert len(up.requests) == 1 and len(recorded(folder)) == 1
    assert bytes(client.ask(post(CHAT, STREAM_REQUEST)).body) == CHAT_ANSWER
    assert len(up.requests) == 2 and len(recorded(folder, 2)) == 2


def test_the_url_brings_its_own_path(world, folder):
    up = world.upstream(lambda x: x.answer(200, b"{}"))
    client = world.connect(world.mock("--record", up.url.replace("/v1", "/openai/v1"), folder))
    client.ask(request("GET", "/v1/models?limit=2&api_key=canary"))
    assert up.only().target == "/openai/v1/models?limit=2&api_key=canary"
    text, = recorded(folder)
    assert "request GET /v1/models?limit=2\n" in text


def test_an_upstream_that_is_not_there_is_502(world, folder):
    up = world.upstream()
    up.stop_listening()
    answer = world.connect(recorder(world, up, folder)).ask(post(CHAT, CHAT_REQUEST))
    assert answer.status == 502 and f"127.0.0.1:{up.port}" in answer.error()["message"]
    assert not list(folder.iterdir())


def test_an_upstream_behind_tls(world, folder, tmp_path):
    authority = certificates.Authority(tmp_path)
    up = world.upstream(lambda x: x.answer(200, CHAT_ANSWER), tls=certificates.server(authority.issue("good")))
    answer = world.connect(recorder(world, up, folder, env={"SSL_CERT_FILE": str(authority.pem)})).ask(post(CHAT, CHAT_REQUEST))
    assert bytes(answer.body) == CHAT_ANSWER and len(recorded(folder)) == 1
    refused = world.connect(recorder(world, up, tmp_path / "other")).ask(post(CHAT, CHAT_REQUEST, AUTHORIZED))
    assert refused.status == 502 and "certificate" in refused.error()["message"] and len(up.requests) == 1


def test_an_upload_and_an_answer_that_are_large(world, folder):
    big = b"u" * 3_000_000
    up = world.upstream(lambda x: x.answer(200, big))
    answer = world.connect(recorder(world, up, folder)).ask(post("/v1/files", big))
    assert bytes(answer.body) == big and up.only().length == len(big)
    recorded(folder)
    again = world.connect(world.mock("--replay", folder, "--replay-speed", "0")).ask(post("/v1/files", big))
    assert bytes(again.body) == big


def test_an_sdk_records_and_replays(world, folder):
    """A mock records another one; then the recording alone does."""
    ask = {"model": "mock-3x2ms", "messages": [{"role": "user", "content": "one two three"}]}

    def both(mock):
        with openai.OpenAI(base_url=f"{mock.url}/v1", api_key=SECRET, max_retries=0, timeout=LIMIT) as client:
            plain = client.chat.completions.create(**ask).model_dump()
            return plain, [chunk.model_dump() for chunk in client.chat.completions.create(**ask, stream=True)]
    first = both(recorder(world, world.mock(), folder))
    assert first[0]["choices"][0]["message"]["content"] == "one two three"
    recorded(folder, 2)
    assert both(world.mock("--replay", folder)) == first


@pytest.mark.parametrize("arguments,said", [
    (["--record", "http://127.0.0.1:1/v1"], "wants URL DIR behind it"),
    (["--record", "ftp://user:canary@host/", "x"], "wants a URL"),
    (["--replay", "/nowhere/at/all"], "/nowhere/at/all: No such file"),
    (["--record", "http://127.0.0.1:1/v1", "/nowhere/at/all"], "cannot make /nowhere/at/all"),
    (["--replay-speed", "fast"], "a factor"),
    (["--replay-speed", "-1"], "a factor"),
])
def test_wrong_arguments(arguments, said):
    result = run("mock", *arguments)
    assert result.code == 2 and said in result.err and "canary" not in result.err


def test_a_recording_that_is_wrong_is_told_with_its_line(folder):
    folder.mkdir()
    (folder / "a.rec").write_text("thaw-recording 1\nrequest POST /v1/x\nbody 12\n")
    result = run("mock", "--replay", folder)
    assert result.code == 2 and "a.rec:3: a body is 64 hex digits, or *" in result.err
