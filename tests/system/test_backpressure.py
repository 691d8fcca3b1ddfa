# SPDX-License-Identifier: MIT
"""A slow reader slows its own upstream, nobody else, and memory does not grow."""
import hashlib
import threading

import pytest

from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, STREAM_REQUEST
from process import memory_bound
from rawhttp import post, request
from upstream import before_body, says
from waiting import LIMIT, QUIET

SIZE = 48 << 20
KERNEL = 24 << 20        # what socket buffers on loopback may hold between the two ends, at most
PER_CLIENT = 256 << 10   # what a client that never reads may cost in thaw
PIECE = bytes(range(256)) * 256


def body_pieces(size=SIZE):
    for number in range(size // len(PIECE)):
        yield number.to_bytes(8, "big") + PIECE[8:]


def body_hash(size=SIZE):
    digest = hashlib.sha256()
    for piece in body_pieces(size):
        digest.update(piece)
    return digest.hexdigest()


def plain(x):
    x.head(200, [("Content-Type", "application/octet-stream"), ("Content-Length", str(SIZE))])
    x.send_until_stalled(body_pieces())


def chunked(x):
    x.head(200, [("Transfer-Encoding", "chunked")])
    x.send_until_stalled(b"10000\r\n" + piece + b"\r\n" for piece in body_pieces())
    x.last_chunk()


def one_event(x):
    """An endless event: the SSE scanner has no boundary to wait for."""
    x.stream_head()
    x.send_until_stalled(b"10000\r\n" + piece + b"\r\n" for piece in body_pieces())
    x.last_chunk()


@pytest.mark.parametrize("script,body", [(plain, CHAT_REQUEST), (chunked, CHAT_REQUEST), (one_event, STREAM_REQUEST)],
                         ids=["plain", "chunked", "stream"])
def test_a_client_that_never_reads_stalls_its_upstream_only(world, script, body):
    up = world.upstream(script, send_buffer=64 << 10)
    gw = world.serve(up)
    slow = world.connect(gw, receive_buffer=64 << 10)
    base = gw.forget_peak()
    slow.send(post(CHAT, body))
    up.wait(lambda: up.stalls, "the upstream to be stalled", limit=3 * LIMIT)
    assert up.stalls[0] < KERNEL, "more went through than sockets can hold: thaw buffers without bound"
    assert gw.status("VmHWM") - base < memory_bound(2 << 20)
    # Others are served meanwhile, on the same worker.
    up.script = says(CHAT_ANSWER)
    other = world.connect(gw)
    for _ in range(20):
        assert other.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    # And nothing was lost.
    digest = hashlib.sha256()
    slow.read("POST", sink=digest.update)
    assert digest.hexdigest() == body_hash()


def test_many_clients_that_never_read_cost_little_each(world):
    count = 24
    up = world.upstream(plain, send_buffer=64 << 10)
    gw = world.serve(up)
    base = gw.status("VmRSS")
    clients = [world.connect(gw, receive_buffer=64 << 10) for _ in range(count)]
    for client in clients:
        client.send(post(CHAT, CHAT_REQUEST))
    up.wait_requests(count)
    up.wait(lambda: len(up.stalls) == count, "all calls to be stalled", limit=3 * LIMIT)
    grown = gw.status("VmRSS") - base
    assert grown < memory_bound(count * PER_CLIENT + (2 << 20)), f"{grown / count / 1024:.0f} KiB for each client"
    up.script = says(CHAT_ANSWER)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    for client in clients:
        client.reset()
    up.wait(lambda: all(r.connection.closed for r in up.requests[:count]), "the stalled calls to be dropped")


def test_a_stalled_client_that_leaves_frees_its_upstream(world):
    up = world.upstream(plain, send_buffer=64 << 10)
    gw = world.serve(up)
    base = gw.descriptors()
    slow = world.connect(gw, receive_buffer=64 << 10)
    slow.send(post(CHAT, CHAT_REQUEST))
    up.wait(lambda: up.stalls, "the upstream to be stalled", limit=3 * LIMIT)
    slow.close()
    up.wait_gone(up.only())
    gw.settles_at(base)


def test_an_upstream_that_does_not_read_stalls_the_upload(world):
    reading = threading.Event()

    @before_body
    def script(x):
        assert reading.wait(3 * LIMIT)
        x.read_body()
        x.answer(200, CHAT_ANSWER)
    up = world.upstream(script, receive_buffer=64 << 10)
    gw = world.serve(up)
    client = world.connect(gw, send_buffer=64 << 10)
    base = gw.forget_peak()
    client.send(request("POST", "/v1/files", [("Content-Length", str(SIZE))]))
    up.wait_requests(1, complete=False)
    client.sock.settimeout(QUIET)
    sent, pieces = 0, body_pieces()
    rest = memoryview(b"")
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                done = client.sock.send(rest)
                sent += done
                rest = rest[done:]
    except TimeoutError:
        pass
    client.sock.settimeout(LIMIT)
    assert sent < KERNEL, "thaw took more than it could have passed on"
    assert gw.status("VmHWM") - base < memory_bound(2 << 20)
    up.script = says(b"other")
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == b"other"
    reading.set()
    client.send(rest)
    for piece in pieces:
        client.send(piece)
    assert client.read("POST").body == CHAT_ANSWER
    assert up.requests[0].length == SIZE and up.requests[0].hash.hexdigest() == body_hash()
