# SPDX-License-Identifier: MIT
"""POST /v1/parallel with the real binary: several calls in one request, over real sockets, at once and many."""
import json
import threading

import pytest

from openai_api import CHAT
from rawhttp import events, post, request
from test_curl import JSON, curl
from upstream import Gate
from waiting import poll

PARALLEL = "/v1/parallel"


def call(text, model="mock", **more):
    return {"path": CHAT, "body": {"model": model, "messages": [{"role": "user", "content": text}]}, **more}


def said(result):
    return result["body"]["choices"][0]["message"]["content"]


def test_results_come_in_order_and_untouched(world):
    """All calls are at the upstream before any is answered; then the last one first."""
    gate = Gate()

    def script(x):
        n = x.request.json()["n"]
        if n < 4:
            x.wait(gate)
        else:
            up.board.wait(lambda: len(up.requests) == 5, "the other calls")
        x.answer(body=b'{ "n" :%d.0}' % n)
        if n == 4:
            gate.open()
    up, _, client = world.gateway(script)
    answer = client.ask(post(PARALLEL, {"calls": [{"path": CHAT, "body": {"n": n}} for n in range(5)]}))
    assert answer.status == 200 and answer.json()["done"] == 5
    assert [r["id"] for r in answer.json()["results"]] == ["0", "1", "2", "3", "4"]
    assert all(b'"body":{ "n" :%d.0}' % n in answer.body for n in range(5))


def wait_in_flight(world, mock, count):
    watcher = world.connect(mock)
    poll(lambda: watcher.ask(request("GET", "/mock/stats")).json()["in_flight"] == count,
         f"the mock to have {count} calls in flight")


def test_the_rest_is_cancelled_upstream(world):
    mock = world.mock()
    client = world.connect(world.serve(mock.url + "/v1"))
    calls = [call("slow", "mock-1h"), call("fast", "mock-10ms"), call("slow", "mock-1h")]
    results = client.ask(post(PARALLEL, {"calls": calls, "wait": "any"})).json()["results"]
    assert [r["status"] for r in results] == [None, 200, None]
    assert said(results[1]) == "fast"
    wait_in_flight(world, mock, 0)


def test_a_client_that_leaves_takes_all_along(world):
    mock = world.mock()
    client = world.connect(world.serve(mock.url + "/v1"))
    client.send(post(PARALLEL, {"calls": [call("x", "mock-1h") for _ in range(10)]}))
    wait_in_flight(world, mock, 10)
    client.reset()
    wait_in_flight(world, mock, 0)


def test_a_stream_of_streams(world):
    gw = world.serve(None, "--mock")
    body = {"calls": [dict(call(name, "mock-5x1ms"), id=name) for name in "ab"], "stream": True}
    for one in body["calls"]:
        one["body"]["stream"] = True
    got = events(curl("-N", gw.url + PARALLEL, *JSON, "-d", json.dumps(body)).encode())
    kinds = [kind for kind, _ in got]
    assert kinds[-1] == "done" and kinds.count("result") == 2
    assert json.loads(got[-1][1]) == {"object": "thaw.parallel", "done": 2, "failed": 0, "cancelled": 0}
    for name in "ab":
        own = [json.loads(data) for kind, data in got if kind == "chunk" and json.loads(data)["id"] == name]
        assert own[-1]["data"] == "[DONE]"
        assert "".join(c["data"]["choices"][0]["delta"].get("content") or "" for c in own[:-1]).split() == [name] * 5


def test_it_is_read_again_by_its_tape(world):
    gw = world.serve(None, "--mock")
    client = world.connect(gw)
    body = {"calls": [call("one", "mock-10ms"), call("two", "mock-20ms")]}
    first = client.ask(post(PARALLEL, body, [("Idempotency-Key", "k")]))
    again = client.ask(post(PARALLEL, body, [("Idempotency-Key", "k")]))
    assert first.body == again.body and again["idempotent-replayed"] == "true"
    read = client.ask(request("GET", f"/v1/tapes/{first['x-thaw-tape']}"))
    assert read.body == first.body


@pytest.mark.parametrize("count", [64, 65])
def test_up_to_64_calls(world, count):
    client = world.connect(world.serve(None, "--mock"))
    answer = client.ask(post(PARALLEL, {"calls": [call(f"n{n}", "mock-20ms") for n in range(count)]}))
    if count > 64:
        assert answer.status == 422
        assert "1 to 64 calls" in answer.error()["message"] and answer.error()["param"] == "calls"
    else:
        assert [said(r) for r in answer.json()["results"]] == [f"n{n}" for n in range(64)]


def test_200_users_with_5_calls_each(world):
    """Each gets its own answers, all of them."""
    gw = world.serve(None, "--mock", workers=2)
    clients = [world.connect(gw) for _ in range(200)]
    for user, client in enumerate(clients):
        client.send(post(PARALLEL, {"calls": [call(f"user {user} call {n}", "mock-200ms") for n in range(5)]}))
    for user, client in enumerate(clients):
        assert [said(r) for r in client.read().json()["results"]] == [f"user {user} call {n}" for n in range(5)]


def test_concurrent_duplicates_are_one(world):
    """The same key from many clients at once, over two workers: the calls are made once."""
    up = world.upstream()
    gw = world.serve(up, workers=2)
    body = {"calls": [{"path": CHAT, "body": {"n": n}} for n in range(3)]}
    clients = [world.connect(gw) for _ in range(20)]
    answers = [None] * len(clients)

    def ask(i):
        answers[i] = clients[i].ask(post(PARALLEL, body, [("Idempotency-Key", "same")]))
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({bytes(a.body) for a in answers}) == 1 and answers[0].status == 200
    assert len(up.requests) == 3
