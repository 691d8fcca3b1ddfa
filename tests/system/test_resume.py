# SPDX-License-Identifier: MIT
"""Reading again, joining, cancelling and background calls through two workers: whoever comes back, and wherever the
kernel puts him, gets his bytes, all of them and once."""
import json
import random
import re
import threading

import openai
import pytest

from openai_api import CHAT, STREAM
from rawhttp import Client, Cut, events, post, request
from test_mock import journal
from test_sdk_python import MESSAGES, SETTINGS, text_of
from upstream import Gate, says, streams
from waiting import LIMIT, poll

pytestmark = pytest.mark.threads

ID_LINE = re.compile(rb"id: ([a-z2-7]{26}):(\d+)\n")
RETRY = b"retry: 1000\n"


def worker_of(answer):
    """Its own request ids begin with what is the worker's own."""
    return answer["x-request-id"].rsplit("-", 1)[0]


def tape(answer):
    return "/v1/tapes/" + answer["x-thaw-tape"]


def all_at_once(count, one):
    """one(n) on a thread each, at the same time; the first failure of any fails the test."""
    problems, start = [], threading.Barrier(count)

    def run(number):
        try:
            start.wait(LIMIT)
            one(number)
        except BaseException as problem:
            problems.append(problem)
    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(6 * LIMIT)
        assert not thread.is_alive(), "a client does not end"
    if problems:
        raise problems[0]


# --- streams that are cut again and again ------------------------------------------------------------------------------

THREADS, STREAMS_EACH, LEGS = 20, 10, 4


def one_event(dice, number):
    """In one of the ways an event can be written, its number in it."""
    end = dice.choice(["\n", "\n", "\r\n", "\r"])
    lines = {0: [f"data: {number}"], 1: ["event: delta", f"data: {number}", "data: more"], 2: [f"id: own-{number}", f"data:{number}"],
             3: [": a comment", f"data: {number} " + "x" * dice.randrange(2000)]}[dice.randrange(4)]
    return (end.join(lines) + end + end).encode()


class Story:
    """What an upstream tells: its bytes, in pieces that end anywhere, and where it waits for the client to come back."""

    def __init__(self, seed):
        dice = random.Random(seed)
        self.bytes = b"".join(one_event(dice, n) for n in range(dice.randrange(10, 80)))
        cuts = sorted(dice.sample(range(1, len(self.bytes)), LEGS - 1))
        self.parts = [self.bytes[a:b] for a, b in zip([0, *cuts], [*cuts, len(self.bytes)])]
        self.gates = [None] + [Gate() for _ in range(LEGS - 1)]
        self.dice = dice


def one_line_end(stream):
    """Who was cut in the middle of a CR LF does not get the LF: his line has ended."""
    return re.sub(rb"\r\n?", b"\n", stream)


def whole_events(have):
    """The last event's number and the bytes up to its end; -1 and none before the first."""
    ids = list(re.finditer(ID_LINE.pattern + rb"(?:\r\n|\r|\n)", have))
    return (int(ids[-1][2]), have[:ids[-1].end()]) if ids else (-1, b"")


def ask_for_more(where, how, have):
    """The request that reads on behind `have`, and what its answer begins with."""
    seen, whole = whole_events(have)
    if how == "byte":
        return request("GET", f"{where}?offset={len(have)}"), b"", have
    if seen < 0:
        return request("GET", where), RETRY, b""
    if how == "query":
        return request("GET", f"{where}?starting_after={seen}"), RETRY, whole
    return request("GET", where, [("Last-Event-ID", f"{where.rsplit('/', 1)[1]}:{seen}")]), RETRY, whole


def follow(gw, story, mark):
    """Reads the story in LEGS parts, each on a connection of its own. The bytes, put together."""
    dice, have, where = story.dice, b"", None
    for leg in range(LEGS):
        asked, before = post(CHAT, {"model": "m", "mark": mark}, [("X-Thaw-Resume", "1")]), b""
        if leg:
            asked, before, have = ask_for_more(where, dice.choice(["event", "query", "byte"]), have)
        client = Client(gw.port).send(asked)
        answer = client.read_head()
        assert answer.status == 200, answer
        where = tape(answer)
        if leg:
            story.gates[leg].open()
        # Bytes that come for certain: all parts so far, without the ids, and the LF of a CR LF that was cut in two.
        left = sum(map(len, story.parts[:leg + 1])) - len(ID_LINE.sub(b"", have)) - leg
        least = len(before) + dice.randrange(max(left, 1) + 1) if left > 0 else 0
        while (leg == LEGS - 1 or len(answer.body) < least) and client.read_some(answer):
            pass
        body = bytes(answer.body)
        assert body.startswith(before) or len(body) < len(before), body[:100]
        have += body[len(before):]
        (client.reset if dice.random() < 0.5 else client.close)()
    return have


def test_streams_cut_anywhere_are_read_to_their_end(world):
    """200 streams, each cut three times at a random point and read on from there: every byte and event once."""
    stories = {f"mark-{n}-end": Story(n) for n in range(THREADS * STREAMS_EACH)}

    def script(x):
        story = stories[x.request.json()["mark"]]
        x.stream_head()
        for part, gate in zip(story.parts, story.gates):
            if gate:
                x.wait(gate)
            x.chunk(part)
        x.last_chunk()
    up = world.upstream(script)
    gw = world.serve(up, workers=2)

    def one(number):
        for mark in list(stories)[number::THREADS]:
            story = stories[mark]
            got = follow(gw, story, mark)
            ids = [int(m[2]) for m in ID_LINE.finditer(got)]
            assert ids == list(range(len(ids))), mark
            assert one_line_end(ID_LINE.sub(b"", got)) == one_line_end(story.bytes), mark
            assert events(got) == events(story.bytes) and len(events(got)) == len(ids), mark
    all_at_once(THREADS, one)
    assert len(up.requests) == len(stories)


# --- one call for many ----------------------------------------------------------------------------------------------------

def test_a_hundred_duplicates_are_one_call(world):
    """The same POST a hundred times at once over both workers."""
    gate = Gate()

    def script(x):
        x.wait(gate)
        x.answer(200, b'{"answer":42}')
    up = world.upstream(script)
    gw = world.serve(up, workers=2)
    clients = [world.connect(gw) for _ in range(100)]
    body = {"model": "m", "n": 1}
    all_at_once(100, lambda n: clients[n].send(post(CHAT, body, [("Idempotency-Key", "the-same")])))
    up.wait_requests(1)
    gate.open()
    answers = [client.read("POST") for client in clients]
    assert {bytes(a.body) for a in answers} == {b'{"answer":42}'}
    assert {a.status for a in answers} == {200} and len({tape(a) for a in answers}) == 1
    assert len({worker_of(a) for a in answers}) == 2, "all clients came to the same worker"
    assert sorted(a["idempotent-replayed"] or "" for a in answers) == [""] + ["true"] * 99
    up.only()
    assert clients[0].ask(post(CHAT, {**body, "n": 2}, [("Idempotency-Key", "the-same")])).status == 422
    up.only()


def test_duplicates_of_a_stream_are_one_call_to_the_mock(world):
    mock = world.mock("--latency", "5ms")
    gw = world.serve(f"http://127.0.0.1:{mock.port}/v1", workers=2)
    bodies = [b""] * 60

    def one(number):
        client = Client(gw.port)
        answer = client.ask(post(CHAT, {"model": "mock-20x10ms", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
                                 [("Idempotency-Key", '"a quoted one"')]))
        bodies[number] = bytes(answer.body)
        client.close()
    all_at_once(60, one)
    assert len(set(bodies)) == 1 and bodies[0].endswith(b"\n\n") and b"[DONE]" in bodies[0]
    calls, _ = journal(world.connect(mock))
    assert len(calls) == 1


def test_racing_duplicates_of_failing_calls_all_end(world):
    """Keys whose calls fail, go and are made anew all the time, on both workers: nobody hangs, nobody gets less than an answer."""
    counted = []

    def script(x):
        counted.append(1)
        if len(counted) % 3 == 0:
            x.answer(500, b'{"error":{}}')
        elif len(counted) % 3 == 1:
            x.drop()
        else:
            x.answer(200, b'{"fine":true}')
    up = world.upstream(script)
    gw = world.serve(config=f"upstreams: {{up: {{url: '{up.url}'}}}}\ntape: {{on_disconnect: cancel}}\nbreaker: {{failures: 0}}\n",
                  workers=2)
    statuses = set()

    def one(number):
        dice = random.Random(number)
        for turn in range(20):
            client = Client(gw.port)
            client.send(post(CHAT, {"model": "m"}, [("Idempotency-Key", f"key-{turn // 2}")]))
            if dice.random() < 0.3:
                client.reset()
                continue
            answer = client.read("POST")
            statuses.add(answer.status)
            assert answer.status in (200, 500, 502), answer
            client.close()
    all_at_once(16, one)
    assert 200 in statuses


# --- the SDKs' own retries --------------------------------------------------------------------------------------------------

class Retried:
    """An SDK client that gives up waiting soon; the upstream answers once it has tried again."""

    def __init__(self, gw, gate):
        self.counts = []

        def on_request(sent):
            self.counts.append(int(sent.headers["x-stainless-retry-count"]))
            if len(self.counts) > 1:
                gate.open()
        self.client = openai.OpenAI(base_url=f"{gw.url}/v1", **{**SETTINGS, "timeout": 1.0, "max_retries": 10},
                                    http_client=openai.DefaultHttpxClient(event_hooks={"request": [on_request]}))


def answering(gate, streamed):
    def script(x):
        x.wait(gate)
        if streamed:
            streams(STREAM)(x)
        else:
            x.answer(200, json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello you"}}]}).encode())
    return script


@pytest.mark.parametrize("way", ["per_call", "whole_client"])
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
def test_the_python_sdks_own_retry_attaches(world, streamed, way):
    gate = Gate()
    up = world.upstream(answering(gate, streamed))
    retried = Retried(world.serve(up, workers=2), gate)
    more = {"extra_headers": {"Idempotency-Key": "one-question"}}
    if way == "whole_client":  # a new key for every call, the same for its retries
        retried.client._idempotency_header = "Idempotency-Key"
        more = {}
    with retried.client as client:
        answer = client.chat.completions.create(model="m", messages=MESSAGES, stream=streamed, **more)
        text = text_of(list(answer)) if streamed else answer.choices[0].message.content
    assert text == "Hello you"
    assert retried.counts == list(range(len(retried.counts))) and len(retried.counts) > 1
    up.only()


@pytest.mark.parametrize("case", ["retry_per_call", "retry_whole_client"])
def test_the_node_sdks_own_retry_attaches(world, node, case):
    gate = Gate()
    up = world.upstream(answering(gate, False))
    process = node(case, world.serve(up, workers=2), talk=True)
    assert process.stdout.readline() == "again\n"
    gate.open()
    out, err = process.communicate(timeout=3 * LIMIT)
    assert process.returncode == 0, err
    assert json.loads(out) == {"text": "Hello you", "retried": True}
    up.only()


def test_without_a_key_every_retry_is_a_call_of_its_own(world):
    """The control: what the key saves."""
    gate = Gate()
    up = world.upstream(answering(gate, False))
    retried = Retried(world.serve(up, workers=2), gate)
    with retried.client as client:
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert len(up.requests) > 1


# --- background, cancelling, pages -----------------------------------------------------------------------------------------

def test_a_background_call_is_read_later(world):
    gate = Gate()

    def script(x):
        x.wait(gate)
        x.answer(200, b'{"late":true}')
    up = world.upstream(script)
    gw = world.serve(up, workers=2)
    answer = world.connect(gw).ask(post(CHAT, {"model": "m"}, [("Prefer", "respond-async")]))
    assert answer.status == 202 and answer["location"] == tape(answer) == answer.json()["url"]
    readers = [world.connect(gw).send(request("GET", answer["location"])) for _ in range(8)]
    assert world.connect(gw).ask(request("GET", answer["location"] + "/status")).json()["state"] == "running"
    gate.open()
    assert {bytes(reader.read().body) for reader in readers} == {b'{"late":true}'}
    assert world.connect(gw).ask(request("GET", answer["location"] + "/status")).json()["state"] == "complete"


def test_a_cancelled_call_drops_its_upstream(world):
    def script(x):
        x.stream_head().chunk(STREAM[0])
        x.hang()
    up = world.upstream(script)
    gw = world.serve(up, workers=2)
    for number in range(8):  # so that some come to the other worker
        client = world.connect(gw)
        client.send(post(CHAT, {"model": "m"}, [("X-Thaw-Resume", "1")]))
        answer = client.read_head("POST")
        client.read_until(answer, b"\n\n")
        stopped = world.connect(gw).ask(request("DELETE", tape(answer)))
        assert stopped.json()["state"] == "cancelled"
        up.wait_gone(up.wait_requests(number + 1)[number])
        with pytest.raises(Cut):
            client.read_rest(answer)
        assert json.loads(events(answer.body)[-1][1])["error"]["code"] == "cancelled"


def test_a_page_of_an_allowed_origin(world):
    up = world.upstream(says())
    gw = world.serve(config=f"upstreams: {{up: {{url: '{up.url}'}}}}\ncors: ['http://localhost:3000']\nkeys: [k-canary]\n")
    client = world.connect(gw)
    mine, key = ("Origin", "http://localhost:3000"), ("Authorization", "Bearer k-canary")
    preflight = client.ask(request("OPTIONS", CHAT, [mine, ("Access-Control-Request-Method", "POST"),
                                                     ("Access-Control-Request-Headers", "authorization,idempotency-key")]))
    assert preflight.status == 204 and preflight["access-control-allow-origin"] == mine[1]
    assert preflight["access-control-allow-headers"] == "authorization,idempotency-key"
    answer = client.ask(post(CHAT, {"model": "m"}, [mine, key]))
    assert answer.status == 200 and answer["access-control-allow-origin"] == mine[1]
    assert "X-Thaw-Tape" in answer["access-control-expose-headers"]
    refused = client.ask(post(CHAT, {"model": "m"}, [mine]))
    assert refused.status == 401 and refused["access-control-allow-origin"] == mine[1]
    other = client.ask(post(CHAT, {"model": "m"}, [("Origin", "http://evil.test"), key]))
    assert other.status == 200 and other["access-control-allow-origin"] is None
    assert client.ask(request("OPTIONS", CHAT, [("Origin", "http://evil.test"), ("Access-Control-Request-Method", "POST")]))[
        "access-control-allow-origin"] is None


# --- leaving --------------------------------------------------------------------------------------------------------------

def test_clients_killed_anywhere_leave_nothing_behind(world):
    mock = world.mock("--latency", "5ms")
    config = f"""
        upstreams: {{mock: {{url: 'http://127.0.0.1:{mock.port}/v1'}}}}
        tape: {{keep: 1s, on_disconnect: keep 1s}}
        routes: {{/v1/embeddings: {{coalesce: true}}}}
    """
    gw = world.serve(config=config, workers=2)
    wishes = [[], [("X-Thaw-Resume", "1")], [("Idempotency-Key", "one")], [("Prefer", "respond-async")]]

    def one(number):
        dice = random.Random(number)
        for _ in range(12):
            client = Client(gw.port)
            streamed = dice.random() < 0.6
            model = "mock-30x5ms" if streamed else dice.choice(["mock-1h", "mock-20ms"])
            fields = dice.choice(wishes)
            if model == "mock-1h" and fields and fields[0][0] == "Prefer":
                model = "mock-20ms"  # it would be waited for
            if fields and fields[0][0] == "Idempotency-Key":
                fields = [("Idempotency-Key", f"{model}-{dice.randrange(5)}")]
            path = CHAT if dice.random() < 0.8 else "/v1/embeddings"
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "input": "hi"}
            whole = post(path, {**body, "stream": True} if streamed and path == CHAT else body, fields)
            if dice.random() < 0.1:
                whole = whole[:dice.randrange(1, len(whole))]
            client.send(whole)
            if model != "mock-1h" and whole.endswith(b"}") and dice.random() < 0.7:
                answer = client.read_head("POST")
                if dice.random() < 0.5 and streamed:
                    client.read_some(answer)
                if dice.random() < 0.5 and answer.status == 200:
                    Client(gw.port).send(request(dice.choice(["GET", "GET", "DELETE"]), tape(answer))).close()
            (client.reset if dice.random() < 0.5 else client.close)()
    all_at_once(12, one)
    poll(lambda: journal(world.connect(mock))[1]["in_flight"] == 0, "the upstream to be left alone")
    world.clients[-1].close()
    assert world.connect(gw).ask(request("GET", "/healthz")).json()["in_flight"] == 0
    gw.stop()  # drains: nothing may be left that it would wait for
