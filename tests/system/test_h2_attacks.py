# SPDX-License-Identifier: MIT
"""What a hostile HTTP/2 client can do with raw frames (facts A20-A28): it is closed, the upstream is spared, others are served, and
it costs thaw little: the bytes it makes thaw hold and the CPU it makes thaw spend are measured beside what it sent."""
import os
import pathlib
import socket
import struct

import pytest
from hpack import Encoder
from hyperframe.frame import (ContinuationFrame, DataFrame, ExtensionFrame, HeadersFrame, PingFrame, PriorityFrame, RstStreamFrame,
                              SettingsFrame, WindowUpdateFrame)

from process import memory_bound
from rawhttp import request
from upstream import says
from waiting import LIMIT, poll

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CHAT = "/v1/chat/completions"
MOST_STREAMS = 100
AMPLIFICATION = 10
TICK = os.sysconf("SC_CLK_TCK")


def head(method="GET", path="/v1/held", *more):
    return [(":method", method), (":scheme", "http"), (":authority", "a.test"), (":path", path), *more]


class Attacker:
    """A connection that has said hello; frames as they are wanted."""

    def __init__(self, gw):
        self.sock = socket.create_connection(("127.0.0.1", gw.port), timeout=LIMIT)
        self.encoder = Encoder()
        self.sent = 0
        self.got = b""
        self.dead = False
        self.say(PREFACE + SettingsFrame().serialize())

    def say(self, data):
        """False when the other side has hung up."""
        try:
            self.sock.sendall(data)
            self.sent += len(data)
        except (BrokenPipeError, ConnectionResetError):
            self.dead = True
        return not self.dead

    def headers(self, stream, fields=None, end=True):
        flags = ["END_HEADERS"] + (["END_STREAM"] if end else [])
        return HeadersFrame(stream, self.encoder.encode(fields or head()), flags=flags).serialize()

    def read_end(self):
        """Everything until the end, which has to come."""
        try:
            while part := self.sock.recv(1 << 16):
                self.got += part
        except ConnectionResetError:
            pass
        self.dead = True

    def read_some(self, wanted):
        """Until these frame types have come, as (type, stream, payload)."""
        while wanted - {kind for kind, _, _ in self.frames()}:
            part = self.sock.recv(1 << 16)
            assert part, "closed"
            self.got += part
        return self.frames()

    def frames(self):
        at, all_of_them = 0, []
        while at + 9 <= len(self.got):
            length = int.from_bytes(self.got[at:at + 3], "big")
            kind, stream = self.got[at + 3], int.from_bytes(self.got[at + 5:at + 9], "big")
            all_of_them.append((kind, stream, self.got[at + 9:at + 9 + length]))
            at += 9 + length
        return all_of_them

    def close(self):
        self.sock.close()


def cpu(gw):
    """Seconds of CPU that it has used."""
    fields = pathlib.Path(f"/proc/{gw.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def gateway(world, script=None):
    up = world.upstream(script or (lambda x: x.hang()))
    return up, world.serve(up)


def attack(world, gw):
    attacker = Attacker(gw)
    world.clients.append(attacker)
    return attacker


def served(world, gw):
    assert world.connect(gw).ask(request("GET", "/healthz")).status == 200


def frames_of(kind, count):
    one = {
        "ping": PingFrame(0, b"12345678").serialize(),
        "ping_ack": PingFrame(0, b"12345678", flags=["ACK"]).serialize(),
        "settings": SettingsFrame(0, {4: 65535}).serialize(),
        "empty_data": DataFrame(1, b"").serialize(),
        "one_byte_data": DataFrame(1, b"x").serialize(),
        "priority": PriorityFrame(3, depends_on=1, stream_weight=5).serialize(),
        "window_update": WindowUpdateFrame(0, window_increment=1).serialize(),
        "stream_window": WindowUpdateFrame(1, window_increment=1).serialize(),
        "unknown": ExtensionFrame(0x42, 0, 0, b"what").serialize(),
    }[kind]
    return one * count


FLOODS = ["ping", "ping_ack", "settings", "empty_data", "one_byte_data", "priority", "window_update", "stream_window", "unknown"]


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_frames_that_do_nothing_is_ended(world, kind):
    up, gw = gateway(world)
    base = gw.forget_peak()
    attacker = attack(world, gw)
    attacker.say(attacker.headers(1, head("POST", "/v1/upload"), end=False))
    flood = frames_of(kind, 1000)
    for _ in range(200):
        if not attacker.say(flood):
            break
    attacker.read_end()
    assert attacker.sent <= 4 << 20, "it went on for long"
    for x in list(up.requests):
        up.wait_gone(x)
    assert gw.status("VmHWM") - base <= memory_bound(4 << 20)
    served(world, gw)


def test_a_stream_that_is_given_up_cancels_its_call_alone(world):
    up, gw = gateway(world)
    attacker = attack(world, gw)
    attacker.say(attacker.headers(1) + attacker.headers(3))
    first, second = up.wait_requests(2)
    attacker.say(RstStreamFrame(1, 8).serialize())
    up.wait(lambda: first.connection.closed or second.connection.closed, "one of the calls to be dropped")
    attacker.say(attacker.headers(5, head("GET", "/healthz")))
    poll(lambda: read_what_is_there(attacker) and any(kind == 1 and stream == 5 for kind, stream, _ in attacker.frames()), "an answer")
    assert not (first.connection.closed and second.connection.closed)


def reset_streams(attacker, count):
    for first in range(0, count, 100):
        some = b"".join(attacker.headers(2 * n + 1) + RstStreamFrame(2 * n + 1, 8).serialize() for n in range(first, first + 100))
        if not attacker.say(some):
            return


def test_rapid_reset_spares_the_upstream(world):
    up, gw = gateway(world)
    attacker = attack(world, gw)
    reset_streams(attacker, 100_000)
    attacker.read_end()
    served(world, gw)
    # Each read may begin as many as one connection may have at a time; the bucket ends it after 1,000.
    assert len(up.requests) <= 1_100
    for x in list(up.requests):
        up.wait_gone(x)


@pytest.mark.parametrize("primitive", ["window_overflow", "data_behind_the_end", "bad_priority"])
def test_making_us_reset_is_counted_too(world, primitive):
    up, gw = gateway(world)
    attacker = attack(world, gw)
    tricks = {
        "window_overflow": lambda n: WindowUpdateFrame(n, window_increment=2**31 - 1).serialize(),
        "data_behind_the_end": lambda n: DataFrame(n, b"late").serialize(),
        "bad_priority": lambda n: b"\0\0\5\2\0" + struct.pack(">I", n) + struct.pack(">IB", n, 1),  # depends on itself
    }
    for n in range(20_000):
        if not attacker.say(attacker.headers(2 * n + 1) + tricks[primitive](2 * n + 1)):
            break
    attacker.read_end()
    served(world, gw)
    assert len(up.requests) <= 1_100
    for x in list(up.requests):
        up.wait_gone(x)


def test_a_head_in_endless_pieces_is_ended(world):
    up, gw = gateway(world)
    base = gw.forget_peak()
    attacker = attack(world, gw)
    attacker.say(HeadersFrame(1, attacker.encoder.encode(head())).serialize())
    piece = attacker.encoder.encode([("x-more", "y" * 4000)])
    for _ in range(1000):
        if not attacker.say(ContinuationFrame(1, piece).serialize()):
            break
    attacker.read_end()
    assert not up.requests and gw.status("VmHWM") - base <= memory_bound(4 << 20)
    served(world, gw)


def bomb(crumbs):
    """A cookie that is remembered once, then referred to by a byte each time."""
    return b"\x82\x86\x84\x41\x01a" + b"\x60\x01x" + b"\xbe" * crumbs


def test_references_of_a_byte_cost_what_they_weigh(world):
    """HTTP/2 bomb: what thaw holds and spends for heads of references, beside the same bytes in honest heads."""
    up, gw = gateway(world, says())
    base = gw.forget_peak()
    attacker = attack(world, gw)
    before = cpu(gw)
    for n in range(60):
        attacker.say(HeadersFrame(2 * n + 1, bomb(16000), flags=["END_HEADERS", "END_STREAM"]).serialize())
        if attacker.dead:
            break
    attacker.sock.shutdown(socket.SHUT_WR)
    attacker.read_end()
    spent, sent, held = cpu(gw) - before, attacker.sent, gw.status("VmHWM") - base
    assert not up.requests
    assert held <= memory_bound(AMPLIFICATION * sent)
    honest = attack(world, gw)
    before, number = cpu(gw), 0
    while honest.sent < sent:
        batch = range(number, number + 50)
        number += len(batch)
        honest.say(b"".join(honest.headers(2 * n + 1, head("HEAD", "/healthz", ("x-fill", f"{n:06}" * 40))) for n in batch))
        # what is answered frees the streams
        poll(lambda: read_what_is_there(honest) and sum(kind == 1 for kind, _, _ in honest.frames()) >= len(batch), "answers")
        honest.got = b""
    normal = cpu(gw) - before
    print(f"bombs: {sent} bytes cost {spent:.2f} s of CPU and {held} bytes; honest heads of as many bytes {normal:.2f} s")
    assert spent <= AMPLIFICATION * max(normal, 3 / TICK)


def read_what_is_there(attacker):
    attacker.sock.setblocking(False)
    try:
        while part := attacker.sock.recv(1 << 16):
            attacker.got += part
    except BlockingIOError:
        pass
    finally:
        attacker.sock.settimeout(LIMIT)
    return True


def test_too_many_crumbs_are_answered_431(world):
    up, gw = gateway(world, says())
    attacker = attack(world, gw)
    attacker.say(HeadersFrame(1, bomb(200), flags=["END_HEADERS", "END_STREAM"]).serialize())
    frames = attacker.read_some({1, 0})
    assert any(kind == 1 and stream == 1 for kind, stream, _ in frames) and not up.requests
    body = b"".join(payload for kind, _, payload in frames if kind == 0)
    assert b"error" in body


def test_zero_windows_hold_little_and_not_for_good(world):
    size = 4 << 20
    up = world.upstream(lambda x: x.answer(200, b"d" * size))
    gw = world.serve(config=f"timeouts: {{idle: 1s, header: 1s}}\nupstreams: {{up: {{url: {up.url}}}}}\n")
    base = gw.forget_peak()
    attacker = attack(world, gw)
    attacker.say(SettingsFrame(0, {4: 0}).serialize())
    attacker.say(b"".join(attacker.headers(2 * n + 1, head("GET", "/v1/files")) for n in range(50)))
    attacker.read_some({1})
    # Every stream is reset when its time is up: nothing of its body was taken.
    def resets():
        read_what_is_there(attacker)
        return sum(kind == 3 for kind, _, _ in attacker.frames())
    poll(lambda: resets() >= 50, lambda: f"50 resets; there are {resets()}")
    assert gw.status("VmHWM") - base <= memory_bound(16 << 20)
    for x in list(up.requests):
        up.wait_gone(x)
    served(world, gw)


# --- smuggling by downgrade ------------------------------------------------------------------------------------------------

MALFORMED = {
    "crlf": [("x-a", "b\r\nx-evil: 1")],
    "newline": [("x-a", "b\nc")],
    "nul": [("x-a", "b\0c")],
    "upper_case": [("X-Upper", "b")],
    "connection": [("connection", "keep-alive")],
    "transfer_encoding": [("transfer-encoding", "chunked")],
    "te": [("te", "gzip")],
    "upgrade": [("upgrade", "h2c")],
    "late_pseudo": [("x-a", "b"), (":path", "/v1/other")],
    "second_path": [(":path", "/v1/other")],
    "colon_in_name": [("x:a", "b")],
    "blank_in_name": [("x a", "b")],
    "two_lengths": [("content-length", "1"), ("content-length", "2")],
    "bad_length": [("content-length", "+1")],
    "other_host": [("host", "b.test")],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_heads_are_never_forwarded(world, what):
    up, gw = gateway(world, says())
    attacker = attack(world, gw)
    attacker.say(attacker.headers(1, head("POST", "/v1/files", *MALFORMED[what]), end=False) + DataFrame(1, b"x", flags=["END_STREAM"]).serialize())
    attacker.say(attacker.headers(3, head("GET", "/healthz")))
    poll(lambda: read_what_is_there(attacker) and any(kind == 1 and stream == 3 for kind, stream, _ in attacker.frames()), "the second answer")
    assert not up.requests and up.received() == b""
    first = [(kind, payload) for kind, stream, payload in attacker.frames() if stream == 1]
    assert first and (first[0][0] == 3 or (first[0][0] == 1 and any(kind == 0 and b"error" in payload for kind, payload in first)))


@pytest.mark.parametrize("path", ["/v1/a b", "/v1/\r\nx: y", "v1/files", "http://evil.test/v1/files", ""])
def test_malformed_paths_are_never_forwarded(world, path):
    up, gw = gateway(world, says())
    attacker = attack(world, gw)
    attacker.say(attacker.headers(1, head("GET", path)) + attacker.headers(3, head("GET", "/healthz")))
    poll(lambda: read_what_is_there(attacker) and any(kind == 1 and stream == 3 for kind, stream, _ in attacker.frames()), "the second answer")
    assert not up.requests and up.received() == b""


@pytest.mark.parametrize("body", [b"1234", b"123456"])
def test_a_body_of_another_length_is_never_complete_upstream(world, body):
    up, gw = gateway(world, says())
    attacker = attack(world, gw)
    attacker.say(attacker.headers(1, head("POST", "/v1/files", ("content-length", "5")), end=False) +
                 DataFrame(1, body, flags=["END_STREAM"]).serialize())
    poll(lambda: read_what_is_there(attacker) and any(kind == 3 and stream == 1 for kind, stream, _ in attacker.frames()), "the reset")
    served(world, gw)
    assert not [x for x in up.requests if x.complete]


def test_connects_are_refused(world):
    up, gw = gateway(world, says())
    attacker = attack(world, gw)
    attacker.say(attacker.headers(1, [(":method", "CONNECT"), (":authority", "evil.test:443")]))
    attacker.say(attacker.headers(3, head("GET", "/healthz")))
    poll(lambda: read_what_is_there(attacker) and any(kind == 1 and stream == 3 for kind, stream, _ in attacker.frames()), "the second answer")
    assert not up.requests and up.received() == b""
