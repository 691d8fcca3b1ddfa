# SPDX-License-Identifier: MIT
"""The npm `openai` SDK against thaw."""
import json

import pytest

from openai_api import CHAT, REFUSAL, STREAM, STREAM_REQUEST
from rawhttp import post
from upstream import sends, silent_streams, streams
from waiting import LIMIT

TEXT = "ping 4711 é你😀 and some more words"


@pytest.fixture
def mocked(world):
    """A gateway in front of thaw mock."""
    mock = world.mock("--latency", "5ms")
    return world.serve(f"http://127.0.0.1:{mock.port}/v1")


def test_a_plain_call(node, mocked):
    result = node("chat", mocked)
    assert TEXT in result["text"] and result["usage"]["total_tokens"] > 0 and result["request_id"]


def test_a_stream(node, mocked):
    result = node("stream", mocked)
    assert TEXT in result["text"] and result["text"] == result["again"]
    assert result["no_usage"] is None and result["usage"]["total_tokens"] > 0


def test_the_stream_helper(node, mocked):
    result = node("helper", mocked)
    assert TEXT in result["final"] and result["text"] == result["final"]


def test_aborting_a_stream_closes_the_upstream(node, world):
    def script(x):
        x.stream_head().chunk(STREAM[0])
        x.hang()
    up = world.upstream(script)
    process = node("abort", world.serve(up), talk=True)
    assert json.loads(process.stdout.readline())["first"] == "Hel"
    up.wait_gone(up.only())
    assert process.poll() is None
    process.communicate("done\n", timeout=LIMIT)


def test_aborting_a_call_that_waits_closes_the_upstream(node, world):
    up = world.upstream(lambda x: x.hang())
    process = node("abort_waiting", world.serve(up), talk=True)
    call = up.wait_requests(1)[0]
    process.stdin.write("abort\n")
    process.stdin.flush()
    up.wait_gone(call)
    assert json.loads(process.stdout.readline())["class"] == "APIUserAbortError"
    process.communicate("done\n", timeout=LIMIT)


CLASSES = {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
           409: "ConflictError", 422: "UnprocessableEntityError", 429: "RateLimitError", 500: "InternalServerError",
           503: "InternalServerError"}


def test_error_classes(node, mocked):
    result = node("errors", mocked)
    for status, name in CLASSES.items():
        error = result[str(status)]
        assert (error["class"], error["status"]) == (name, status), error
        assert error["request_id"], error
    assert int(result["429"]["retry_after"]) >= 1


def test_an_error_of_thaws_own(node, mocked):
    error = node("bad_request", mocked)
    assert error["class"] == "BadRequestError" and error["type"] == "invalid_request_error" and error["request_id"]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("part", [STREAM[0], STREAM[0] + STREAM[1][:30]], ids=["between_events", "in_an_event"])
def test_a_stream_that_was_cut_raises(node, world, how, part):
    def script(x):
        x.stream_head().chunk(part)
        getattr(x, how)()
    error = node("stream_error", world.serve(world.upstream(script)))
    assert error["class"] is not None, "a cut stream looked complete to the SDK"


def test_a_plain_answer_that_was_cut_raises(node, world):
    up = world.upstream(sends(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{", "close"))
    assert node("plain_error", world.serve(up))["class"] is not None


def test_a_refused_upstream_is_a_server_error(node, world):
    up = world.upstream()
    up.stop_listening()
    error = node("plain_error", world.serve(up))
    assert (error["class"], error["status"]) == ("InternalServerError", 502)


def test_the_control_a_whole_stream_does_not_raise(node, world):
    error = node("stream_error", world.serve(world.upstream(streams(STREAM))))
    assert error["class"] is None


def test_models(node, mocked):
    assert all(name.startswith("mock") for name in node("models", mocked)) and node("models", mocked)


def test_embeddings(node, mocked):
    one, two, again = node("embeddings", mocked)
    assert one == again != two and len(one) > 1 and any(one)


def test_responses(node, mocked):
    result = node("responses", mocked)
    assert "ping 4711" in result["whole"] and result["whole"] == result["text"]


def test_an_upload(node, world):
    up = world.upstream(lambda x: x.answer(200, b'{"id":"file-1","object":"file"}'))
    assert node("upload", world.serve(up))["id"] == "file-1"
    assert up.only().target == "/v1/files" and up.only().length > 3_000_000
    assert up.only()["content-type"].startswith("multipart/form-data; boundary=")


def test_fifty_at_once(node, mocked):
    for number, text in enumerate(node("parallel", mocked)):
        assert f"mark-{number}-end" in text


# --- limits, silence, and upstreams that change their mind ------------------------------------------------------------------

A_MINUTE = 20  # requests: one each 3 s


@pytest.fixture
def used_up(world):
    """A gateway whose client has made all the calls that it may make in this minute."""
    up = world.upstream(streams(STREAM))
    gw = world.serve(config=f"upstreams: {{up: {{url: '{up.url}'}}}}\nlimits: {{requests_per_minute: {A_MINUTE}}}\n")
    client = world.connect(gw)
    for _ in range(A_MINUTE):
        assert client.ask(post(CHAT, STREAM_REQUEST, [("Authorization", "Bearer sk-canary-of-the-client")])).status == 200
    return up, gw


def test_who_has_used_up_his_limit_gets_a_rate_limit_error(node, used_up):
    up, gw = used_up
    error = node("stream_error", gw)
    assert (error["class"], error["status"], error["code"]) == ("RateLimitError", 429, "rate_limit_exceeded")
    assert "requests_per_minute" in error["message"] and int(error["retry_after"]) >= 1
    assert len(up.requests) == A_MINUTE


def test_the_sdks_one_retry_comes_when_it_was_told_to(node, used_up):
    """Left to itself it comes within a second, and would be refused a second time."""
    up, gw = used_up
    assert node("stream_retried_once", gw)["text"] == "Hello you"
    assert len(up.requests) == A_MINUTE + 1


def test_a_stream_that_is_silent_for_long_is_kept_alive(node, world):
    up = world.upstream(silent_streams(STREAM))
    gw = world.serve(config=f"upstreams: {{up: {{url: '{up.url}'}}}}\nkeepalive: 1s\n")
    assert node("stream_retried_once", gw)["text"] == "Hello you"
    assert len(up.requests) == 1


def test_a_stream_that_begins_with_a_refusal_comes_from_another_upstream(node, world):
    first, second = world.upstream(streams([REFUSAL])), world.upstream(streams(STREAM))
    gw = world.serve(config=f"""
        upstreams: {{first: {{url: '{first.url}', retries: 0}}, second: {{url: '{second.url}'}}}}
        models: {{mock: {{use: [first, second]}}}}
        """)
    assert node("stream_error", gw)["class"] is None
    assert len(first.requests) == len(second.requests) == 1
