# SPDX-License-Identifier: MIT
"""TLS to the upstream: name and chain are verified before a byte of the key is sent (A49)."""
import hashlib
import re
import signal
import ssl

import pytest

import certificates
from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, STREAM, STREAM_REQUEST
from rawhttp import Cut, post, request
from upstream import Gate, says, streams
from waiting import poll

SECRET = "sk-canary-upstream"
KEY = {"OPENAI_API_KEY": SECRET}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder):
    return certificates.Authority(folder)


@pytest.fixture(scope="module")
def good(authority):
    return authority.issue("good")


def behind(world, pair, authority, script=None, host="127.0.0.1", **more):
    """(upstream, client) with TLS in between."""
    up = world.upstream(script or says(CHAT_ANSWER), tls=certificates.server(pair, **more))
    url = up.url.replace("127.0.0.1", host)
    gw = world.serve(url, *(["--upstream-ca", authority.pem] if authority else []), env=KEY)
    return up, world.connect(gw)


# --- what works ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_private_authority_is_trusted_when_named(world, good, authority, host):
    up, client = behind(world, good, authority, host=host)
    for _ in range(5):
        assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    assert up.requests[0]["authorization"] == f"Bearer {SECRET}" and up.requests[0].body == CHAT_REQUEST
    assert up.requests[0]["host"] == f"{host}:{up.port}"
    assert len(up.connections) == 1, "the connection is used again"


def test_a_private_authority_in_the_config(world, good, authority):
    up = world.upstream(says(CHAT_ANSWER), tls=certificates.server(good))
    gw = world.serve(config=f"upstreams: {{up: {{url: {up.url}, ca_file: {authority.pem}, key: '${{OPENAI_API_KEY}}'}}}}\n", env=KEY)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER


def test_a_stream_over_tls_is_live(world, good, authority):
    gates = [None] + [Gate() for _ in STREAM[1:]]
    up, client = behind(world, good, authority, streams(STREAM, gates=gates))
    answer = client.send(post(CHAT, STREAM_REQUEST)).read_head()
    for number, part in enumerate(STREAM):
        client.read_until(answer, part)
        if number + 1 < len(gates):
            gates[number + 1].open()
    assert client.read_rest(answer).body == b"".join(STREAM)


def test_large_bodies_both_ways(world, good, authority):
    size = 8 << 20
    up, client = behind(world, good, authority, lambda x: x.answer(200, b"d" * size))
    for _ in range(2):
        answer = client.ask(post("/v1/files", b"u" * size))
        assert answer.body == b"d" * size
        assert up.requests[-1].hash.digest() == hashlib.sha256(b"u" * size).digest()


def test_the_name_is_sent(world, good, authority):
    seen = []
    context = certificates.server(good)
    context.sni_callback = lambda sock, name, context: seen.append(name)
    up = world.upstream(says(CHAT_ANSWER), tls=context)
    gw = world.serve(up.url.replace("127.0.0.1", "localhost"), "--upstream-ca", authority.pem, env=KEY)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).status == 200
    assert seen == ["localhost"]


def test_tls_1_2_is_fine(world, good, authority):
    _, client = behind(world, good, authority, newest=ssl.TLSVersion.TLSv1_2)
    assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER


# --- what is resumed -------------------------------------------------------------------------------------------------------

def once(x):
    """An answer on a connection that ends with it."""
    x.answer(200, CHAT_ANSWER, [("Connection", "close")])
    x.close()


@pytest.mark.parametrize("newest", [None, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
def test_new_connections_resume(world, good, authority, newest):
    up, client = behind(world, good, authority, once, newest=newest)
    for number in range(5):
        assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
        up.wait_gone(up.requests[number])
    assert [c.resumed for c in up.connections] == [False, True, True, True, True]


@pytest.mark.threads
def test_workers_resume_each_others_sessions(world, good, authority):
    up = world.upstream(once, tls=certificates.server(good))
    gw = world.serve(up.url, "--upstream-ca", authority.pem, env=KEY, workers=2)
    for _ in range(12):  # the kernel deals them out
        assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    assert [c.resumed for c in up.connections] == [False] + [True] * 11


def test_after_a_reload_the_new_authorities_decide(world, folder, good, authority):
    """The upstream would resume: but a full handshake would not be accepted any more."""
    up = world.upstream(once, tls=certificates.server(good))
    trusted = world.folder / "trusted.pem"
    trusted.write_bytes(authority.pem.read_bytes())
    gw = world.serve(config=f"upstreams: {{up: {{url: {up.url}, ca_file: {trusted}, key: '${{OPENAI_API_KEY}}'}}}}\n", env=KEY)
    client = world.connect(gw)
    for _ in range(2):
        assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    assert [c.resumed for c in up.connections] == [False, True]
    trusted.write_bytes(certificates.Authority(folder, "fourth").pem.read_bytes())
    gw.signal(signal.SIGHUP)
    gw.wait_text("configuration read again")
    poll(lambda: client.ask(post(CHAT, CHAT_REQUEST)).status == 502, "the old authority's certificate to be refused")
    asked = len(up.requests)
    assert client.ask(post(CHAT, CHAT_REQUEST)).status == 502 and len(up.requests) == asked
    assert not up.connections[-1].resumed


# --- what is refused -------------------------------------------------------------------------------------------------------

def refused(up, client, reason):
    """502 with the reason, twice; the upstream has decrypted nothing."""
    for path in (CHAT, "/v1/files"):
        answer = client.ask(post(path, CHAT_REQUEST))
        assert answer.status == 502, answer
        error = answer.error()
        assert error["type"] == "upstream_error" and re.search(reason, error["message"], re.I), error
        assert str(up.port) in error["message"] or "localhost" in error["message"] or "127.0.0.1" in error["message"]
        assert b"canary" not in answer.body
    assert not up.requests and up.received() == b"", "something was sent to an upstream that was not verified"
    assert up.connections, "nobody ever tried"
    assert client.ask(request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("what,reason", [
    ({"end": "20200601000000Z"}, "expired"),
    ({"start": "20980101000000Z"}, "not yet valid|not valid yet"),
    ({"names": "DNS:other.test,IP:127.0.0.2"}, "host ?name|mismatch|is not for"),
    ({"names": None, "common": "localhost"}, "host ?name|mismatch|is not for"),
    ({"names": "DNS:*.localhost,DNS:localhost.test"}, "host ?name|mismatch|is not for"),
    ({"usage": "clientAuth"}, "purpose|usage|certificate"),
], ids=["expired", "not_yet_valid", "wrong_name", "only_a_common_name", "nearly_the_name", "not_for_servers"])
def test_a_bad_certificate_is_refused_before_the_key_is_sent(world, authority, what, reason, host):
    up, client = behind(world, authority.issue("bad", **what), authority, host=host)
    refused(up, client, reason)


def test_a_self_signed_certificate_is_refused(world, folder, authority):
    up, client = behind(world, certificates.self_signed(folder), authority)
    refused(up, client, "self.?signed")


def test_an_unknown_authority_is_refused(world, folder, authority):
    other = certificates.Authority(folder, "other")
    up, client = behind(world, other.issue("of-other"), authority)
    refused(up, client, "issuer|authority|unknown|verify")


def test_a_private_authority_is_not_trusted_unless_named(world, good):
    up, client = behind(world, good, None)
    refused(up, client, "issuer|authority|unknown|verify|self.?signed")


def test_the_systems_authorities_do_not_count_beside_a_named_one(world, folder, good):
    other = certificates.Authority(folder, "third")
    up, client = behind(world, good, other)
    refused(up, client, "issuer|authority|unknown|verify")


def test_an_old_protocol_is_refused(world, good, authority):
    up, client = behind(world, good, authority, newest=ssl.TLSVersion.TLSv1_1)
    refused(up, client, "TLS|protocol|version|handshake|alert")


def test_an_upstream_that_does_not_speak_tls_is_refused(world, authority):
    up = world.upstream(on_connect=lambda connection: connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    gw = world.serve(up.url.replace("http:", "https:"), "--upstream-ca", authority.pem, env=KEY)
    answer = world.connect(gw).ask(post(CHAT, CHAT_REQUEST))
    assert answer.status == 502 and answer.error()["type"] == "upstream_error"
    assert SECRET.encode() not in up.received()


def test_an_upstream_that_leaves_in_the_handshake(world, authority):
    up = world.upstream(on_connect=lambda connection: connection.sock.shutdown(2))
    gw = world.serve(up.url.replace("http:", "https:"), "--upstream-ca", authority.pem, env=KEY)
    answer = world.connect(gw).ask(post(CHAT, CHAT_REQUEST))
    assert answer.status == 502 and answer.error()["type"] == "upstream_error"


def test_an_authority_file_that_is_none_stops_the_start(world):
    from process import run
    nonsense = world.folder / "nonsense.pem"
    nonsense.write_text("no certificate\n")
    for path in (nonsense, world.folder / "nowhere.pem"):
        result = run("serve", "--check", "--upstream", "https://localhost:1/v1", "--upstream-ca", path)
        assert result.code == 2 and path.name in result.err, result


# --- cuts ------------------------------------------------------------------------------------------------------------------

def test_an_end_without_close_notify_is_a_cut(world, good, authority):
    """A body that ends with the connection could have been shortened by anybody on the way."""
    gate = Gate()

    def script(x):
        x.head(200, [("Content-Type", "application/json")]).send(CHAT_ANSWER[:50])
        x.wait(gate)
        x.close()
    up, client = behind(world, good, authority, script)
    answer = client.send(post(CHAT, CHAT_REQUEST)).read_head("POST")
    client.read_until(answer, CHAT_ANSWER[:50])
    gate.open()
    with pytest.raises(Cut):
        client.read_rest(answer)


def test_an_end_without_close_notify_behind_a_whole_answer_is_none(world, good, authority):
    def script(x):
        x.answer(200, CHAT_ANSWER)
        x.close()
    up, client = behind(world, good, authority, script)
    for number in range(3):
        assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
        up.wait_gone(up.requests[number])
