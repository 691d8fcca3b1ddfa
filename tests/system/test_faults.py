# SPDX-License-Identifier: MIT
"""thaw mock's faults as curl and the official SDKs see them, and what the gateway makes of them: an answer that was
cut never looks complete."""
import json
import subprocess

import anthropic
import openai
import pytest

from openai_api import CHAT
from process import run, timeouts
from rawhttp import Cut, events, post, request
from waiting import LIMIT, poll

TEXT = "one two three four"
MESSAGES = [{"role": "user", "content": TEXT}]
STATUSES = [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529]

# How each fault ends: for curl (its exit codes), and for an SDK that asks for a plain answer or a stream.
RAISES, WHOLE, SHORT = "raises", "whole", "short"  # SHORT: nothing is raised, but the end never comes
FAULTS = {
    "close-before-head": ({52}, RAISES, RAISES),
    "reset-before-head": ({56}, RAISES, RAISES),
    "garbage": ({1}, RAISES, RAISES),
    "cut-0": ({18}, RAISES, RAISES),
    "cut-2": ({18}, RAISES, RAISES),
    "reset-2": ({18, 56}, RAISES, RAISES),
    "end-2": ({0}, RAISES, SHORT),
    "error-2": ({0}, RAISES, RAISES),
    "malformed-chunk": ({56}, RAISES, RAISES),
    "wrong-length": ({18}, RAISES, RAISES),
    "wrong-length-short": ({0}, WHOLE, WHOLE),
    "invalid-json": ({0}, RAISES, RAISES),
    "utf8-cut": ({0}, RAISES, RAISES),
    "utf8-split": ({0}, WHOLE, WHOLE),
    "drip-1": ({0}, WHOLE, WHOLE),
    "1xx-storm": ({0}, WHOLE, WHOLE),
    "header-bomb": ({0}, WHOLE, WHOLE),
    "empty": ({0}, RAISES, SHORT),
    "html": ({0}, RAISES, SHORT),
}
# The text, or its beginning, is in what curl prints, as it stands.
TOLD = {"cut-2", "reset-2", "end-2", "error-2", "malformed-chunk", "wrong-length", "wrong-length-short", "invalid-json", "drip-1",
        "1xx-storm", "header-bomb"}
HANGS = ["hang", "hang-head", "hang-2"]


@pytest.fixture
def mock(world):
    return world.mock()


def ask(fault, stream, **more):
    return {"model": f"mock-{fault}", "messages": MESSAGES, "stream": stream, **more}


def curl(mock, fault, stream, *arguments, path=CHAT):
    return subprocess.run(["curl", "-q", "-sS", "-i", "-N", "--noproxy", "*", "--max-time", str(int(LIMIT)), *arguments,
                           "-H", "Content-Type: application/json", "-d", json.dumps(ask(fault, stream, max_tokens=99)),
                           mock.url + path], stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * LIMIT)


# --- curl -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages"], ids=["openai", "anthropic"])
@pytest.mark.parametrize("fault", FAULTS)
def test_curl_meets_it(mock, fault, stream, path):
    done = curl(mock, fault, stream, path=path)
    assert done.returncode in FAULTS[fault][0], done
    assert b"four" not in done.stdout or FAULTS[fault][1] == WHOLE or fault == "wrong-length", done
    assert (b"one" in done.stdout) == (fault in TOLD), done


@pytest.mark.parametrize("fault", HANGS)
def test_curl_waits_in_vain(world, mock, fault):
    done = curl(mock, fault, True, "--max-time", "1")
    assert done.returncode == 28 and (b"200 OK" in done.stdout) == (fault != "hang")
    assert (b" two" in done.stdout) == (fault == "hang-2")
    stats = poll(lambda: (s := json.loads(world.connect(mock).ask(request("GET", "/mock/stats")).body))["in_flight"] == 0 and s,
                 "the call to be over when curl left")
    assert stats["calls"] == 1


@pytest.mark.parametrize("status", STATUSES)
def test_curl_sees_a_status_and_the_limits(mock, status):
    done = curl(mock, str(status), False)
    head = done.stdout.decode().lower()
    assert head.startswith(f"http/1.1 {status} ") and ("retry-after: 1\r" in head) == (status in (429, 503, 529))
    for what in ("limit", "remaining", "reset"):
        for of in ("requests", "tokens"):
            assert f"x-ratelimit-{what}-{of}: " in head
    head = curl(mock, str(status), False, path="/v1/messages").stdout.decode().lower()
    assert "anthropic-ratelimit-requests-reset: 2" in head and "x-ratelimit" not in head


def test_curl_counts_the_storm_and_the_bomb(mock):
    done = curl(mock, "1xx-storm-250", False)
    assert done.stdout.count(b"HTTP/1.1 10") == 250 and b"HTTP/1.1 200 OK\r\n" in done.stdout
    done = curl(mock, "header-bomb-100", False)
    assert done.stdout.count(b"x-bomb: ") == 100 and len(done.stdout) > 100 * 1024


def test_connections_are_closed_on_accept(world):
    mock = world.mock("--fault", "close-on-accept:50%", "--seed", "3", ready=False)
    mock.wait_text("listening on")
    codes = [curl(mock, "0s", False).returncode for _ in range(60)]
    assert set(codes) <= {0, 52, 55, 56} and 10 < codes.count(0) < 50


def test_a_rate_is_kept_and_repeats_with_its_seed(world):
    def statuses(seed):
        client = world.connect(world.mock("--fault", "429:20%", "--fault", "500:10.5%", "--seed", str(seed)))
        return [client.ask(post(CHAT, ask("0", False) | {"model": "m"})).status for _ in range(300)]
    first = statuses(1)
    assert set(first) == {200, 429, 500} and 30 < first.count(429) < 90 and 10 < first.count(500) < 60
    assert statuses(1) == first != statuses(2)


@pytest.mark.parametrize("value", ["429", "429:", "429:5", "nix:5%", "429:101%", "cut:5%"])
def test_a_wrong_rate_is_told(value):
    result = run("mock", "--fault", value)
    assert result.code == 2 and "--fault" in result.err and f"'{value}'" in result.err


def test_rates_over_100_are_told():
    assert run("mock", "--fault", "429:60%", "--fault", "hang:50%").code == 2


# --- SDKs, Python ---------------------------------------------------------------------------------------------------------

SETTINGS = {"api_key": "sk-canary-of-the-client", "max_retries": 0, "timeout": LIMIT}


def openai_plain(mock, fault, **more):
    with openai.OpenAI(base_url=f"{mock.url}/v1", **{**SETTINGS, "_strict_response_validation": True, **more}) as client:
        choice = client.chat.completions.create(**ask(fault, False)).choices[0]
        return WHOLE if choice.finish_reason == "stop" else SHORT


def openai_stream(mock, fault, **more):
    with openai.OpenAI(base_url=f"{mock.url}/v1", **{**SETTINGS, **more}) as client:
        chunks = list(client.chat.completions.create(**ask(fault, True)))
        return WHOLE if chunks and chunks[-1].choices[0].finish_reason == "stop" else SHORT


def anthropic_plain(mock, fault, **more):
    with anthropic.Anthropic(base_url=mock.url, **{**SETTINGS, "_strict_response_validation": True, **more}) as client:
        return WHOLE if client.messages.create(**ask(fault, False, max_tokens=99)).stop_reason == "end_turn" else SHORT


def anthropic_stream(mock, fault, **more):
    with anthropic.Anthropic(base_url=mock.url, **{**SETTINGS, **more}) as client:
        seen = [event.type for event in client.messages.create(**ask(fault, True, max_tokens=99))]
        return WHOLE if seen and seen[-1] == "message_stop" else SHORT


SDKS = [openai_plain, openai_stream, anthropic_plain, anthropic_stream]


def ending(call, *arguments, **more):
    try:
        return call(*arguments, **more)
    except Exception as problem:
        assert not isinstance(problem, AssertionError), problem
        return RAISES


# OpenAI's stop reading at [DONE]: what is cut behind it they do not see.
PYTHON_DIFFERS = {("wrong-length", "openai_stream"): WHOLE}


@pytest.mark.parametrize("call", SDKS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_python_sdk_meets_it(mock, fault, call):
    usual = FAULTS[fault][2 if call.__name__.endswith("stream") else 1]
    assert ending(call, mock, fault) == PYTHON_DIFFERS.get((fault, call.__name__), usual)


@pytest.mark.parametrize("call", SDKS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("fault", HANGS)
def test_a_python_sdk_gives_up_waiting(mock, fault, call):
    with pytest.raises(Exception) as caught:
        call(mock, fault, timeout=0.5)
    assert "Timeout" in type(caught.value).__name__


@pytest.mark.parametrize("call", SDKS, ids=lambda call: call.__name__)
def test_a_python_sdk_retries_as_it_is_told(world, call):
    """A third of the calls are refused; the SDK comes back no sooner than it was told to."""
    mock = world.mock("--fault", "429:34%", "--seed", "1")
    client = world.connect(mock)
    while True:
        before = client.ask(request("GET", "/mock/stats")).json()["calls"]
        assert call(mock, "0s", max_retries=9) == WHOLE
        lines = [json.loads(line) for line in bytes(client.ask(request("GET", "/mock/journal")).body).splitlines()]
        calls = [line for line in lines if line.get("id", 0) > before]
        if len(calls) > 1:
            break
    assert [c["status"] for c in calls] == [429] * (len(calls) - 1) + [200]
    for one, two in zip(calls, calls[1:]):
        assert two["arrival_ns"] - one["first_byte_ns"] >= 1_000_000_000


# --- SDKs, JavaScript -----------------------------------------------------------------------------------------------------

NODE_DIFFERS = {  # what fetch takes for an error
    ("header-bomb", "plain"): RAISES, ("header-bomb", "stream"): RAISES,  # more than 16 KiB of head
    ("1xx-storm", "plain"): RAISES, ("1xx-storm", "stream"): RAISES,  # 100 without having been asked
}


def test_node_meets_them(node, mock):
    seen = node("faults", mock, json.dumps(list(FAULTS)), script="sdk_mock.mjs")
    wrong = {}
    for sdk in ("openai", "anthropic"):
        for fault, (_, plain, stream) in FAULTS.items():
            for kind, wanted in (("plain", plain), ("stream", stream)):
                got = seen[f"{sdk} {kind} {fault}"]
                if got["ending"] != NODE_DIFFERS.get((fault, kind), wanted):
                    wrong[f"{sdk} {kind} {fault}"] = got
    assert not wrong, wrong


def test_node_gives_up_waiting(node, mock):
    seen = node("hangs", mock, json.dumps(HANGS), script="sdk_mock.mjs")
    assert len(seen) == 12 and all(got["ending"] == RAISES for got in seen.values()), seen


# --- the gateway ------------------------------------------------------------------------------------------------------------

BROKEN = [f for f, (_, plain, _) in FAULTS.items() if plain == RAISES and f not in ("end-2", "error-2", "invalid-json", "utf8-cut", "empty", "html")]
FINE = ["wrong-length-short", "utf8-split", "drip-1"]


@pytest.fixture
def gateway(world, mock):
    return world.serve(config=f"""
        upstreams:
          mock: {{url: "{mock.url}/v1", {timeouts(first_byte="500ms", between="500ms")}}}
        """)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", BROKEN + HANGS)
def test_through_the_gateway_nothing_looks_complete(world, gateway, fault, stream):
    client = world.connect(gateway)
    try:
        answer = client.ask(post(CHAT, ask(fault, stream)))
    except Cut as cut:
        answer = cut.answer
        body = bytes(answer.body)
        assert answer.status == 200 and not answer.whole
        if stream and fault != "wrong-length":  # this one lacks only what would come behind [DONE]
            assert b"[DONE]" not in body
            assert json.loads(events(body)[-1][1])["error"]["type"] == "upstream_error", body
    else:
        assert answer.status in (502, 504) and answer.error()["type"] == "upstream_error"
    assert world.connect(gateway).ask(post(CHAT, ask("0s", False))).status == 200


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", FINE)
def test_through_the_gateway_what_is_odd_but_whole_is_whole(world, gateway, fault, stream):
    answer = world.connect(gateway).ask(post(CHAT, ask(fault, stream)))
    assert answer.status == 200 and answer.whole
    if stream:
        assert answer.body.endswith(b"data: [DONE]\n\n")
    else:
        assert answer.json()["choices"][0]["finish_reason"] == "stop"
    if fault == "wrong-length-short":  # what lies on the connection may meet the next request before it is seen
        assert world.connect(gateway).ask(post(CHAT, ask("0s", False))).status in (200, 502)
    assert world.connect(gateway).ask(post(CHAT, ask("0s", False))).status == 200


@pytest.mark.parametrize("fault", ["1xx-storm", "header-bomb"])
def test_through_the_gateway_a_head_without_measure_is_refused_or_tamed(world, gateway, fault):
    answer = world.connect(gateway).ask(post(CHAT, ask(fault, False)))
    assert answer.status in (200, 502) and "x-bomb" not in answer.fields
    assert world.connect(gateway).ask(post(CHAT, ask("0s", False))).status == 200
