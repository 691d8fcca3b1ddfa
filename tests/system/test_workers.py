# SPDX-License-Identifier: MIT
"""Two workers under many mixed calls at once: every answer is its caller's own. What the ThreadSanitizer build runs."""
import json
import random
import threading

import pytest

from openai_api import CHAT
from rawhttp import Client, events, post, request
from upstream import says
from waiting import LIMIT

pytestmark = pytest.mark.threads

CLIENTS, TURNS = 24, 12


def chat(mark, model, **more):
    return {"model": model, "messages": [{"role": "user", "content": mark}], **more}


def plain(client, mark):
    document = client.ask(post(CHAT, chat(mark, "mock-5ms"))).json()
    assert mark in document["choices"][0]["message"]["content"]


def stream(client, mark):
    answer = client.ask(post(CHAT, chat(mark, "mock-8ms", stream=True)))
    data = [d for _, d in events(answer.body)]
    assert data[-1] == "[DONE]"
    text = "".join(c["delta"].get("content") or "" for d in data[:-1] for c in json.loads(d)["choices"])
    assert mark in text, text


def bad(client, mark):
    answer = client.ask(post(CHAT, b'{"' + mark.encode()))
    assert answer.status == 400 and mark not in repr(answer)


def health(client, mark):
    assert client.ask(request("GET", "/healthz", [("X-Request-Id", mark)]))["x-request-id"] == mark


def wrong_path(client, mark):
    assert client.ask(request("GET", "/" + mark)).status == 404


def an_error(client, mark):
    assert client.ask(post(CHAT, chat(mark, "mock-err-401"))).status == 401


def pipelined(client, mark):
    marks = [f"{mark}-{n}-end" for n in range(3)]
    client.send(b"".join(post(CHAT, chat(each, "mock-5ms")) for each in marks))
    for each in marks:
        assert each in client.read("POST").json()["choices"][0]["message"]["content"]


def leaves(client, mark):
    """In one of three states; the client is of no use afterwards."""
    how = random.Random(mark).randrange(3)
    client.send(post(CHAT, chat(mark, "mock-50x20ms" if how else "mock-1h", stream=bool(how))))
    if how:
        client.read_some(client.read_head())
    (client.reset if how == 2 else client.close)()
    return True


KINDS = [plain, plain, stream, stream, bad, health, wrong_path, an_error, pipelined, leaves]


def run_all(gw, kinds):
    """CLIENTS threads with TURNS calls each, at the same time; the first failure of any of them fails the test."""
    problems, start = [], threading.Barrier(CLIENTS)

    def one(number):
        dice = random.Random(number)
        client = None
        try:
            start.wait(LIMIT)
            for turn in range(TURNS):
                client = client or Client(gw.port)
                if dice.choice(kinds)(client, f"mark-{number}-{turn}-end"):
                    client = None
                elif dice.random() < 0.2:
                    client.close()
                    client = None
        except BaseException as problem:
            problems.append(problem)
        finally:
            if client:
                client.close()
    threads = [threading.Thread(target=one, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(6 * LIMIT)
        assert not thread.is_alive(), "a client does not end"
    if problems:
        raise problems[0]


def test_mixed_calls_through_two_workers(world):
    mock = world.mock("--latency", "5ms")
    gw = world.serve(f"http://127.0.0.1:{mock.port}/v1", workers=2)
    run_all(gw, KINDS)
    assert world.connect(gw).ask(request("GET", "/healthz")).status == 200


def test_mixed_calls_to_the_built_in_mock(world):
    gw = world.serve(None, "--mock", workers=2)
    run_all(gw, KINDS)


def own_or_lost(client, mark):
    """Its own answer, or 502: a connection may end after its kernel has acknowledged the request (docs/adr)."""
    answer = client.ask(post(CHAT, chat(mark, "m")))
    if answer.status == 200:
        assert answer.json()["choices"][0]["message"]["content"] == mark
    else:
        assert answer.status == 502 and answer.error()["type"] == "upstream_error", answer


def test_calls_over_fresh_and_dying_upstream_connections(world):
    """The upstream ends every third connection after its answer: the pools of both workers see them die."""
    def script(x):
        mark = json.loads(bytes(x.request.body))["messages"][0]["content"]
        x.answer(200, json.dumps({"choices": [{"message": {"content": mark}}]}).encode())
        if x.number % 3 == 0:
            x.drop()
    up = world.upstream(script)
    gw = world.serve(up, workers=2)
    run_all(gw, [own_or_lost, own_or_lost, own_or_lost, bad, health])


def test_both_workers_are_there_and_end(world):
    up = world.upstream(says())
    gw = world.serve(up, workers=2)
    clients = [world.connect(gw) for _ in range(40)]
    for client in clients:
        client.send(post(CHAT, {"model": "m"}))
    for client in clients:
        assert client.read("POST").status == 200
    assert gw.status("Threads") >= 2


def test_ending_while_calls_run(world):
    """SIGTERM among running calls: each of them is answered whole or was never taken."""
    import signal

    from rawhttp import Cut
    mock = world.mock("--latency", "5ms")
    gw = world.serve(f"http://127.0.0.1:{mock.port}/v1", workers=2)
    clients = [world.connect(gw) for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(post(CHAT, chat(f"mark-{number}-end", "mock-20x10ms", stream=True)))
    answers = [client.read_head("POST") for client in clients]
    gw.signal(signal.SIGTERM)
    for client, answer in zip(clients, answers):
        try:
            client.read_rest(answer)
        except Cut as cut:
            raise AssertionError("a running call was cut by SIGTERM") from cut
        assert bytes(answer.body).endswith(b"data: [DONE]\n\n")
    assert gw.wait_end(LIMIT) == 0
    gw.judged = True
