# SPDX-License-Identifier: MIT
"""A client that leaves is noticed in every state and its upstream call is dropped (the bench measures how fast)."""
import pytest

from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, STREAM, STREAM_REQUEST
from rawhttp import post, request
from upstream import Gate, says, streams

LEAVE = {
    "close": lambda client: client.close(),
    "reset": lambda client: client.reset(),
    "half_close": lambda client: client.finish_sending(),  # cannot be told from leaving, and tokens cost money
}


@pytest.fixture(params=LEAVE)
def leave(request):
    return LEAVE[request.param]


def descriptors_with(client, gw):
    """How many the gateway has open now that it surely has accepted this client."""
    assert client.ask(request("GET", "/healthz")).status == 200
    return gw.descriptors()


def waits(x):
    x.hang()


def streams_then_waits(x):
    x.stream_head().chunk(STREAM[0])
    x.hang()


def half_an_answer_then_waits(x):
    x.head(200, [("Content-Type", "application/json"), ("Content-Length", str(len(CHAT_ANSWER)))]).send(CHAT_ANSWER[:50])
    x.hang()


def half_a_chunked_answer_then_waits(x):
    x.head(200, [("Transfer-Encoding", "chunked")]).chunk(CHAT_ANSWER[:50])
    x.hang()


def head_then_waits(x):
    x.head(200, [("Content-Type", "application/json"), ("Content-Length", "50")])
    x.hang()


STATES = {
    "waiting_for_the_first_byte": (waits, CHAT_REQUEST, None),
    "waiting_for_a_streams_first_byte": (waits, STREAM_REQUEST, None),
    "streaming": (streams_then_waits, STREAM_REQUEST, STREAM[0]),
    "in_a_plain_body": (half_an_answer_then_waits, CHAT_REQUEST, CHAT_ANSWER[:50]),
    "in_a_chunked_body": (half_a_chunked_answer_then_waits, CHAT_REQUEST, CHAT_ANSWER[:50]),
    "after_the_head": (head_then_waits, CHAT_REQUEST, b""),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("path", [CHAT, "/v1/audio/speech"])
def test_the_upstream_call_is_dropped(world, state, path, leave):
    script, body, seen = STATES[state]
    up, gw, client = world.gateway(script)
    client.send(post(path, body))
    call = up.wait_requests(1)[0]
    if seen is not None:
        client.read_until(client.read_head("POST"), seen)
    leave(client)
    up.wait_gone(call)
    assert len(up.requests) == 1, "nobody is there any more for whom it could be sent again"
    up.script = says(CHAT_ANSWER)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER


def test_leaving_while_a_looked_at_request_is_uploaded(world, leave):
    up, gw, client = world.gateway()
    with_client = descriptors_with(client, gw)
    client.send(request("POST", CHAT, [("Content-Length", "100000")]) + b'{"model":"' + b"x" * 50000)
    leave(client)
    gw.settles_at(with_client - 1)
    assert not up.requests
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_leaving_while_an_upload_is_relayed(world, leave, framing):
    up, gw, client = world.gateway()
    how = ("Content-Length", "100000") if framing == "length" else ("Transfer-Encoding", "chunked")
    client.send(request("POST", "/v1/files", [how]))
    client.send(b"x" * 50000 if framing == "length" else b"c350\r\n" + b"x" * 50000 + b"\r\n")
    call = up.wait_requests(1, complete=False)[0]
    up.wait(lambda: call.length == 50000, "the first half of the upload")
    leave(client)
    up.wait_gone(call)
    assert not call.complete, "an upload that was cut must not look complete to the upstream"
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).status == 200


def test_leaving_in_the_middle_of_a_head(world, leave):
    up, gw, client = world.gateway()
    with_client = descriptors_with(client, gw)
    client.send(post(CHAT, CHAT_REQUEST)[:40])
    leave(client)
    gw.settles_at(with_client - 1)
    assert not up.requests


def test_leaving_between_requests(world, leave):
    up, gw, client = world.gateway(says(CHAT_ANSWER))
    assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    with_client = gw.descriptors()
    leave(client)
    gw.settles_at(with_client - 1)
    assert not up.connections[0].closed, "an idle upstream connection is not the client's"
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    assert len(up.connections) == 1


def test_nothing_leaks_when_many_leave(world):
    up, gw, first = world.gateway(waits)
    first.close()
    up.script = says(CHAT_ANSWER)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    base = gw.descriptors()
    for turn in range(3):
        up.script = (waits, streams_then_waits, half_an_answer_then_waits)[turn]
        begun = len(up.requests)
        clients = [world.connect(gw) for _ in range(40)]
        for client in clients:
            client.send(post(CHAT, STREAM_REQUEST))
        up.wait(lambda: len([r for r in up.requests[begun:] if r.complete]) == 40, "40 calls")
        for number, client in enumerate(clients):
            list(LEAVE.values())[number % 3](client)
        up.wait(lambda: all(r.connection.closed for r in up.requests[begun:]), "40 calls to be dropped")
        for client in clients:
            client.close()
        gw.settles_at(base)
    up.script = says(CHAT_ANSWER)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER


def test_one_that_leaves_does_not_touch_the_others(world, leave):
    gate = Gate()
    up, gw, client = world.gateway(streams(STREAM, gates=[None, gate]))
    others = [world.connect(gw) for _ in range(5)]
    for each in [client, *others]:
        each.send(post(CHAT, STREAM_REQUEST))
        each.read_until(each.read_head(), STREAM[0])
    leave(client)
    up.wait(lambda: any(r.connection.closed for r in up.requests), "one call to be dropped")
    gate.open()
    for other in others:
        while STREAM[-1] not in other.pending:
            assert other.receive()
    up.wait(lambda: sum(r.gone for r in up.requests) == 1, "the one call to be over")
    assert sum(r.connection.closed is not None for r in up.requests) == 1


def test_a_pipelined_request_is_not_leaving(world):
    gate = Gate()

    def script(x):
        if x.number == 0:
            x.wait(gate)
        x.answer(200, b"%d" % x.number)
    up, _, client = world.gateway(script)
    client.send(post(CHAT, CHAT_REQUEST))
    up.wait_requests(1)
    client.send(post(CHAT, CHAT_REQUEST))
    gate.open()
    assert client.read().body == b"0"
    assert client.read().body == b"1"


def test_a_half_close_right_behind_the_request(world):
    """Request and FIN arrive together; with keep-alive and nothing answered yet it is a client that left. What must
    not happen is a crash, a leak, or an answer to somebody else."""
    up, gw, client = world.gateway(waits)
    with_client = descriptors_with(client, gw)
    client.send(post(CHAT, CHAT_REQUEST))
    client.finish_sending()
    gw.settles_at(with_client - 1)
    up.wait(lambda: all(c.closed for c in up.connections), "what was begun to be dropped")
