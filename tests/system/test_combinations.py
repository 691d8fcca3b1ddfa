# SPDX-License-Identifier: MIT
"""The four combinations of HTTP/1.1 and HTTP/2, plain and with TLS, on real sockets: what must hold whatever is spoken.

curl --(h1|h2)--> thaw --(h1|h2: `http` of the upstream)--> another thaw --HTTP/1.1--> the scripted upstream
"""
import hashlib
import itertools
import os
import subprocess

import pytest

import certificates
from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, STREAM, STREAM_REQUEST
from rawhttp import post
from upstream import Gate, says, streams
from waiting import LIMIT

VERSIONS = {"h1": "1.1", "h2": "2"}
CUT = {"h1": 18, "h2": 92}  # what curl says: a partial file, a stream that was not closed cleanly


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def pair(authority):
    pem, key = authority.issue("server")
    os.chmod(key, 0o600)
    return pem, key


class Chain:
    def __init__(self, world, near, far, secure, pair, authority):
        self.world, self.near, self.far = world, near, VERSIONS[far]
        self.tls = f"tls: {{cert: {pair[0]}, key: {pair[1]}}}\n" if secure else ""
        self.authority = authority if secure else None

    def start(self, script):
        self.up = self.world.upstream(script)
        self.second = self.serve("second", f"up: {{url: {self.up.url}}}")
        trust = f", ca_file: {self.authority.pem}" if self.authority else ""
        self.first = self.serve("first", f"second: {{url: '{self.url(self.second)}/v1', http: {self.far}{trust}}}")
        return self.up

    def serve(self, name, upstream):
        return self.world.serve(None, "--config", self.world.config(f"{self.tls}upstreams:\n  {upstream}\n", f"{name}.yaml"))

    def url(self, program):
        return f"https://localhost:{program.port}" if self.authority else f"http://127.0.0.1:{program.port}"

    def curl(self, path, *arguments):
        """curl, running: it posts what it reads and writes what comes at once."""
        version = {"h1": "--http1.1", "h2": "--http2" if self.authority else "--http2-prior-knowledge"}[self.near]
        trust = ["--cacert", self.authority.pem] if self.authority else []
        return subprocess.Popen(["curl", "--silent", "--show-error", "--no-buffer", "--max-time", str(int(LIMIT)), version, *trust,
                                 "--header", "Content-Type: application/json", "--header", "Expect:", "--data-binary", "@-",
                                 *arguments, self.url(self.first) + path],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ask(self, path, body, code=0):
        child = self.curl(path, "--write-out", "\n%{http_version} %{http_code}")
        out, error = child.communicate(body, timeout=2 * LIMIT)
        assert child.returncode == code, error
        got, _, last = out.rpartition(b"\n")
        version, status = last.decode().split()
        assert code or version == VERSIONS[self.near]  # of what failed curl knows none
        return int(status), got


@pytest.fixture(params=list(itertools.product(VERSIONS, VERSIONS, ["plain", "tls"])), ids="-".join)
def chain(request, world, pair, authority):
    near, far, security = request.param
    return Chain(world, near, far, security == "tls", pair, authority)


def test_answers_come_whole(chain):
    up = chain.start(says(CHAT_ANSWER, fields=[("X-Odd", "1")]))
    for _ in range(3):
        assert chain.ask(CHAT, CHAT_REQUEST) == (200, CHAT_ANSWER)
    assert [x.body for x in up.requests] == [CHAT_REQUEST] * 3


def test_calls_share_a_connection_in_http_2(chain):
    gate = Gate()

    def waits(x):
        x.wait(gate)
        x.answer(200, CHAT_ANSWER)
    up = chain.start(waits)
    before = chain.second.descriptors()
    children = [chain.curl(CHAT) for _ in range(5)]
    for child in children:
        child.stdin.write(CHAT_REQUEST)
        child.stdin.close()
    up.wait_requests(5)
    assert chain.second.descriptors() - before == 5 + (1 if chain.far == "2" else 5)
    gate.open()
    for child in children:
        assert child.stdout.read() == CHAT_ANSWER
        assert child.wait(LIMIT) == 0
        child.stdout.close()
        child.stderr.close()


def test_large_bodies_both_ways(chain):
    size = 3 << 20
    up = chain.start(lambda x: x.answer(200, b"d" * size))
    assert chain.ask("/v1/files", b"u" * size) == (200, b"d" * size)
    assert up.requests[0].hash.digest() == hashlib.sha256(b"u" * size).digest()


def test_streams_are_live(chain):
    gates = [None] + [Gate() for _ in STREAM[1:]]
    chain.start(streams(STREAM, gates=gates))
    child = chain.curl(CHAT)
    child.stdin.write(STREAM_REQUEST)
    child.stdin.close()
    for number, part in enumerate(STREAM):
        assert child.stdout.read(len(part)) == part
        if number + 1 < len(STREAM):
            gates[number + 1].open()  # only now: what came before was relayed
    assert child.stdout.read() == b""
    assert child.wait(LIMIT) == 0
    child.stderr.close()


def test_a_cut_answer_never_looks_complete(chain):
    def cut(x):
        x.head(200, [("Content-Type", "application/json"), ("Content-Length", str(len(CHAT_ANSWER)))]).send(CHAT_ANSWER[:50])
        x.close()
    chain.start(cut)
    assert chain.ask(CHAT, CHAT_REQUEST, CUT[chain.near]) == (200, CHAT_ANSWER[:50])


def test_a_cut_stream_ends_with_an_error_event(chain):
    def cut(x):
        x.stream_head()
        x.chunk(STREAM[0])
        x.close()
    chain.start(cut)
    status, got = chain.ask(CHAT, STREAM_REQUEST, CUT[chain.near])
    assert status == 200 and got.startswith(STREAM[0]) and b'"code":"stream_cut"' in got and b"[DONE]" not in got


def test_a_client_that_leaves_drops_the_call(chain):
    def begins_and_waits(x):
        x.stream_head().chunk(STREAM[0])
        x.hang()
    up = chain.start(begins_and_waits)
    child = chain.curl(CHAT)
    child.stdin.write(STREAM_REQUEST)
    child.stdin.close()
    assert child.stdout.read(len(STREAM[0])) == STREAM[0]
    call = up.wait_requests(1)[0]
    child.kill()
    child.wait(LIMIT)
    child.stdout.close()
    child.stderr.close()
    up.wait_gone(call)
    up.script = says(CHAT_ANSWER)
    assert chain.ask(CHAT, CHAT_REQUEST) == (200, CHAT_ANSWER)


def test_a_version_that_is_not_spoken_is_told(world, pair, authority):
    """`http: 2` does not fall back to what is offered."""
    up = world.upstream(says(CHAT_ANSWER), tls=certificates.server(pair))
    gw = world.serve(config=f"upstreams: {{up: {{url: {up.url}, http: 2, ca_file: {authority.pem}}}}}\n")
    answer = world.connect(gw).ask(post(CHAT, CHAT_REQUEST))
    assert answer.status == 502
    assert "HTTP/2" in answer.json()["error"]["message"] or "ALPN" in answer.json()["error"]["message"]
    assert not up.requests
