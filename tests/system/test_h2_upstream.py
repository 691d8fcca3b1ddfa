# SPDX-License-Identifier: MIT
"""HTTP/2 to upstreams that somebody else wrote: Node.js, hypercorn, nghttpd."""
import hashlib
import json
import pathlib
import subprocess
import sys

import pytest

import certificates
from process import free_port, with_parent
from rawhttp import Cut, post, request
from waiting import LIMIT, poll

HERE = pathlib.Path(__file__).resolve().parent
CHAT = "/v1/chat/completions"


class Node:
    """h2_upstream.mjs, running."""

    def __init__(self, **options):
        self.process = subprocess.Popen(["node", HERE / "h2_upstream.mjs", json.dumps(options)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=with_parent())
        self.port = int(self.process.stdout.readline())

    @property
    def url(self):
        return f"{'https' if self.tls else 'h2c'}://127.0.0.1:{self.port}/v1"

    tls = False

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def node(world):
    def start(tls=None, **options):
        if tls:
            options.update(cert=str(tls[0]), key=str(tls[1]))
        up = Node(**options)
        up.tls = bool(tls)
        world.other.append(up)
        return up
    return start


def ask(do="echo", number=None, body=b"{}", **more):
    fields = [("x-do", do), ("Content-Type", "application/json")]
    fields += [("x-id", str(number))] if number is not None else []
    fields += [("x-" + name, str(value)) for name, value in more.items()]
    return post(CHAT, body, fields)


def report(client):
    return client.ask(request("GET", "/v1/report")).json()


# --- relaying --------------------------------------------------------------------------------------------------------------

def test_calls_streams_and_large_bodies(world, node):
    client = world.connect(world.serve(node().url))
    body = b'{"model":"m","x":"' + b"y" * 3_000_000 + b'"}'
    for _ in range(3):
        answer = client.ask(ask(body=body)).json()
        assert answer["length"] == len(body) and answer["hash"] == hashlib.sha256(body).hexdigest()
    stream = client.ask(ask("events", count=50))
    assert stream.body.count(b"data: ") == 51 and stream.body.endswith(b"data: [DONE]\n\n")
    large = client.ask(ask("large", count=5_000_000))
    assert len(large.body) == 5_000_000 and set(large.body) == {ord("x")}
    assert report(client)["sessions"] == 1


def test_alpn_decides(world, node, tmp_path):
    authority = certificates.Authority(tmp_path)
    good = authority.issue("good")
    gw = world.serve(node(tls=good).url, "--upstream-ca", authority.pem)
    clients = [world.connect(gw) for _ in range(20)]
    for client in clients:
        client.send(ask("hold", held=20))
    assert {client.read("POST").json()["number"] for client in clients} == {1}, "all wait for one handshake"
    assert report(clients[0])["sessions"] == 1


def test_an_upstream_that_offers_http1_alone_gets_it(world, tmp_path):
    authority = certificates.Authority(tmp_path)
    from openai_api import CHAT_ANSWER
    from upstream import says
    up = world.upstream(says(CHAT_ANSWER), tls=certificates.server(authority.issue("good")))
    gw = world.serve(up.url, "--upstream-ca", authority.pem)
    clients = [world.connect(gw) for _ in range(10)]
    for client in clients:
        client.send(ask())
    assert all(client.read("POST").body == CHAT_ANSWER for client in clients)


def hypercorn(world, tmp_path):
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{port}", "asgi_app:app"], cwd=HERE,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             preexec_fn=with_parent())
    return child, port


def nghttpd(world, tmp_path):
    port = free_port()
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "models").write_text('{"data":[]}')
    child = subprocess.Popen(["nghttpd", "--no-tls", "-d", tmp_path, str(port)], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, preexec_fn=with_parent())
    return child, port


class Child:
    def __init__(self, process):
        self.process = process

    def close(self):
        self.process.kill()
        self.process.communicate()


def run_server(world, tmp_path, start):
    import socket
    child, port = start(world, tmp_path)
    world.other.append(Child(child))
    poll(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the server to listen")
    return world.connect(world.serve(f"h2c://127.0.0.1:{port}/v1"))


def test_hypercorn_is_relayed(world, tmp_path):
    client = run_server(world, tmp_path, hypercorn)
    for _ in range(5):
        assert client.ask(ask(body=b'{"a":"' + b"b" * 200_000 + b'"}')).json() == {"version": "2", "length": 200_008}
        assert client.ask(post(CHAT + "?stream", b"{}")).body.endswith(b"data: 19\n\ndata: [DONE]\n\n")


def test_nghttpd_is_relayed(world, tmp_path):
    client = run_server(world, tmp_path, nghttpd)
    for _ in range(20):
        assert client.ask(request("GET", "/v1/models")).body == b'{"data":[]}'
        assert client.ask(request("GET", "/v1/none")).status == 404


# --- many ------------------------------------------------------------------------------------------------------------------

def test_a_thousand_calls_on_ten_connections(world, node):
    gw = world.serve(node(limit=100).url)
    first = world.connect(gw)
    first.ask(ask())  # the limit is known from here on
    clients = [world.connect(gw) for _ in range(1000)]
    for number, client in enumerate(clients):
        client.send(ask("hold", number, held=1000))
    for number, client in enumerate(clients):
        assert client.read("POST").json()["id"] == str(number), "nobody gets another's answer"
    told = report(first)
    assert told["sessions"] in (10, 11)  # the first call's stream may not have been closed yet
    assert len(told["seen"]) == 1000 and set(told["seen"].values()) == {1}


def test_a_limit_of_one_stream(world, node):
    gw = world.serve(node(limit=1).url)
    world.connect(gw).ask(ask())
    clients = [world.connect(gw) for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(ask("hold", number, held=20))
    for number, client in enumerate(clients):
        assert client.read("POST").json()["id"] == str(number)
    assert report(clients[0])["sessions"] >= 20


def test_a_limit_that_is_told_too_late_costs_no_call(world, node):
    gw = world.serve(node(limit=3).url)
    clients = [world.connect(gw) for _ in range(20)]
    gw.freeze()  # so that all of them are there before the first SETTINGS
    for number, client in enumerate(clients):
        client.send(ask("hold", number, held=20))
    gw.thaw()
    for number, client in enumerate(clients):
        assert client.read("POST").json()["id"] == str(number)
    told = report(clients[0])
    assert told["sessions"] >= 7 and set(told["seen"].values()) == {1}


# --- goodbyes and refusals -------------------------------------------------------------------------------------------------

def test_goaway_in_the_middle_of_load_loses_nothing_and_doubles_nothing(world, node):
    gw = world.serve(node().url)
    clients = [world.connect(gw) for _ in range(50)]
    for turn in range(20):
        numbers = [turn * 50 + k for k in range(50)]
        for k, client in enumerate(clients):
            client.send(ask("goaway" if k % 17 == 3 else "echo", numbers[k]))
        for k, client in enumerate(clients):
            answer = client.read("POST")
            assert answer.status == 200 and answer.json()["id"] == str(numbers[k])
    told = report(clients[0])
    assert told["sessions"] > 10
    assert len(told["seen"]) == 1000 and set(told["seen"].values()) == {1}


def test_refused_streams_are_tried_once_more(world, node):
    gw = world.serve(node().url)
    clients = [world.connect(gw) for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(ask("refuse" if number % 2 else "echo", number))
    for number, client in enumerate(clients):
        answer = client.read("POST")
        assert answer.status == 200 and answer.json()["id"] == str(number)
    told = report(clients[0])
    assert len(told["seen"]) == 50 and set(told["seen"].values()) == {1}
    assert told["sessions"] <= 4, "refused calls share new connections"


@pytest.mark.parametrize("do", ["cut", "cut_connection"])
def test_a_cut_never_looks_complete(world, node, do):
    gw = world.serve(node().url)
    client = world.connect(gw)
    client.send(ask(do))
    with pytest.raises(Cut) as cut:
        client.read("POST")
    assert cut.value.answer.body == b'{"half'
    assert world.connect(gw).ask(ask()).status == 200


def test_clients_that_leave_reset_their_streams(world, node):
    gw = world.serve(node().url)
    clients = [world.connect(gw) for _ in range(30)]
    for number, client in enumerate(clients):
        client.send(ask("hang", number))
    last = world.connect(gw)
    poll(lambda: len(report(last)["seen"]) == 30, "all of them to arrive")
    for client in clients:
        client.close()
    poll(lambda: report(last)["resets"] == 30, "the streams to be reset")
    assert report(last)["sessions"] == 1


def test_a_storm_of_leaving_clients_costs_nobody_else_his_call(world, node):
    """Node.js, as every nghttp2 server, says goodbye to who resets more than 1,000 streams and 33 a second."""
    gw = world.serve(node().url)
    patient, last = world.connect(gw), world.connect(gw)
    patient.send(ask("hold", "patient", held=2))
    poll(lambda: "patient" in report(last)["seen"], "the patient one to arrive")
    for turn in range(3):
        clients = [world.connect(gw) for _ in range(500)]
        for number, client in enumerate(clients):
            client.send(ask("hang", f"{turn}-{number}"))
        poll(lambda: len(report(last)["seen"]) == 1 + 500 * (turn + 1), "all of them to arrive")
        for client in clients:
            client.close()
    poll(lambda: report(last)["resets"] >= 900, "the first streams to be reset")
    assert last.ask(ask("hold", "last", held=2)).json()["id"] == "last"
    assert patient.read("POST").json()["id"] == "patient"
    assert report(last)["sessions"] == 1, "no GOAWAY: the resets were paced"


def test_a_slow_client_does_not_stop_the_others(world, node):
    gw = world.serve(node().url)
    slow = world.connect(gw, receive_buffer=4096)
    slow.send(ask("large", count=8_000_000))
    head = slow.read_head("POST")
    others = [world.connect(gw) for _ in range(5)]
    for _ in range(5):
        for client in others:
            client.send(ask("large", count=300_000))
        for client in others:
            assert len(client.read("POST").body) == 300_000
    assert report(others[0])["sessions"] == 1
    assert len(slow.read_rest(head).body) == 8_000_000
