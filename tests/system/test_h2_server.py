# SPDX-License-Identifier: MIT
"""HTTP/2 and TLS towards clients that somebody else wrote: curl, httpx, Node.js, Chromium; a certificate per name."""
import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import warnings

import httpx
import pytest

import certificates
from browser import Browser
from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, STREAM, STREAM_REQUEST
from process import run
from rawhttp import request
from upstream import Gate, says, streams
from waiting import LIMIT, poll

AS_JSON = {"Content-Type": "application/json"}
JSON = "Content-Type: application/json"
HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def pair(authority):
    return keep_to_owner(authority.issue("server"))


def keep_to_owner(pair):
    os.chmod(pair[1], 0o600)
    return pair


def tls(pair, *more):
    entries = ", ".join(f"{{cert: {pem}, key: {key}}}" for pem, key in (pair, *more))
    return f"tls: [{entries}]\n"


def behind_tls(world, pair, script=None, more=""):
    """(upstream, gateway that listens with TLS)"""
    up = world.upstream(script or says(CHAT_ANSWER))
    gw = world.serve(config=tls(pair) + more + f"upstreams: {{up: {{url: {up.url}}}}}\n")
    return up, gw


def curl(*arguments, data=None):
    command = ["curl", "--silent", "--show-error", "--max-time", str(int(LIMIT)), "--write-out", "\n%{http_version} %{http_code}", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, timeout=2 * LIMIT)
    assert done.returncode == 0, done.stderr
    body, _, last = done.stdout.rpartition(b"\n")
    return (*last.decode().split(), body)


def node(origin, path, count, body=""):
    done = subprocess.run(["node", HERE / "h2_server_client.mjs", origin, path, str(count), body], capture_output=True, text=True,
                          timeout=2 * LIMIT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- both versions on one port ---------------------------------------------------------------------------------------------

def test_curl_by_prior_knowledge_and_without(world):
    up, gw, client = world.gateway(says(CHAT_ANSWER))
    for version, wanted in (("--http2-prior-knowledge", "2"), ("--http1.1", "1.1")):
        got = curl(version, gw.url + CHAT, "--data-binary", "@-", "--header", JSON, data=CHAT_REQUEST)
        assert got == (wanted, "200", CHAT_ANSWER)
    assert [x.body for x in up.requests] == [CHAT_REQUEST] * 2
    assert all(x["host"] == f"127.0.0.1:{up.port}" for x in up.requests)
    assert curl("--http2-prior-knowledge", "--head", gw.url + "/healthz")[:2] == ("2", "200")


def test_curl_over_tls_takes_what_alpn_gives(world, pair, authority):
    up, gw = behind_tls(world, pair)
    url = f"https://localhost:{gw.port}"
    for version, wanted in (("--http2", "2"), ("--http1.1", "1.1"), ("--no-alpn", "1.1")):
        got = curl("--cacert", authority.pem, version, url + CHAT, "--data-binary", "@-", "--header", JSON, data=CHAT_REQUEST)
        assert got == (wanted, "200", CHAT_ANSWER)
    assert gw.wait_text(r"listening on https://")


def test_large_bodies_both_ways(world, pair, authority):
    size = 8 << 20
    up, gw = behind_tls(world, pair, lambda x: x.answer(200, b"d" * size))
    got = curl("--cacert", authority.pem, "--http2", f"https://localhost:{gw.port}/v1/files", "--data-binary", "@-", data=b"u" * size)
    assert got == ("2", "200", b"d" * size)
    assert up.requests[0].hash.digest() == hashlib.sha256(b"u" * size).digest()


def test_many_calls_on_one_connection(world, pair):
    up, gw = behind_tls(world, pair, more="max_streams: 20\n")
    got = node(f"https://127.0.0.1:{gw.port}", CHAT, 200, CHAT_REQUEST.decode())
    assert got["alpn"] == "h2"
    assert [a["status"] for a in got["answers"]] == [200] * 200
    assert {a["text"] for a in got["answers"]} == {CHAT_ANSWER.decode()}
    assert len(up.requests) == 200


def test_a_stream_over_h2_is_live(world, pair, authority):
    gates = [None] + [Gate() for _ in STREAM[1:]]
    up, gw = behind_tls(world, pair, streams(STREAM, gates=gates))

    async def follow():
        got = b""
        async with httpx.AsyncClient(http2=True, verify=ssl.create_default_context(cafile=str(authority.pem)), timeout=LIMIT) as client:
            async with client.stream("POST", f"https://localhost:{gw.port}{CHAT}", content=STREAM_REQUEST, headers=AS_JSON) as answer:
                assert answer.http_version == "HTTP/2" and answer.status_code == 200
                number = 0
                async for part in answer.aiter_raw():
                    got += part
                    while number < len(STREAM) and got == b"".join(STREAM[:number + 1]):
                        number += 1
                        if number < len(gates):
                            gates[number].open()  # only now: what came before was relayed
        return got
    assert asyncio.run(follow()) == b"".join(STREAM)


def test_a_cut_answer_never_looks_complete(world, pair, authority):
    def cut(x):
        x.stream_head()
        x.chunk(STREAM[0])
        x.close()
    up, gw = behind_tls(world, pair, cut)
    done = subprocess.run(["curl", "--silent", "--show-error", "--cacert", authority.pem, "--http2", f"https://localhost:{gw.port}/v1/other",
                           "--data", "{}"], capture_output=True, timeout=LIMIT)
    assert done.returncode in (18, 92), done  # partial file, HTTP/2 stream error
    assert STREAM[0].startswith(done.stdout[:10])


# --- the mock and the lab speak it too -----------------------------------------------------------------------------------

@pytest.mark.parametrize("verb", ["mock", "lab"])
def test_others_speak_it_too(world, verb):
    program = getattr(world, verb)()
    path = "/v1/models" if verb == "mock" else "/"
    assert curl("--http2-prior-knowledge", program.url + path)[:2] == ("2", "200")


# --- certificates ----------------------------------------------------------------------------------------------------------

def shown(port, name, authority, **limits):
    """The DNS names of the certificate that a client gets who asks for `name`, its version, and whether it resumed."""
    context = ssl.create_default_context(cafile=str(authority.pem))
    context.check_hostname = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what is wanted here
        for limit, value in limits.items():
            setattr(context, limit, value)
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock, context.wrap_socket(sock, server_hostname=name) as secure:
        return {value for kind, value in secure.getpeercert()["subjectAltName"] if kind == "DNS"}, secure.version()


def test_the_name_chooses_the_certificate(world, authority, pair):
    other = keep_to_owner(authority.issue("other", names="DNS:other.test,DNS:*.other.test"))
    gw = world.serve(config=tls(pair, other) + "upstreams: {up: {url: mock}}\n")
    assert shown(gw.port, "localhost", authority)[0] == {"localhost"}
    assert shown(gw.port, "other.test", authority)[0] == {"other.test", "*.other.test"}
    assert shown(gw.port, "a.other.test", authority)[0] == {"other.test", "*.other.test"}
    assert shown(gw.port, "nobody.test", authority)[0] == {"localhost"}
    assert shown(gw.port, "localhost", authority, maximum_version=ssl.TLSVersion.TLSv1_2)[1] == "TLSv1.2"


def test_sessions_resume_at_every_worker(world, authority, pair):
    gw = world.serve(config=tls(pair) + "upstreams: {up: {url: mock}}\n", workers=4)
    context = ssl.create_default_context(cafile=str(authority.pem))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose ticket comes with the handshake
    session, reused = None, 0
    for _ in range(12):
        with socket.create_connection(("127.0.0.1", gw.port), timeout=LIMIT) as sock:
            with context.wrap_socket(sock, server_hostname="localhost", session=session) as secure:
                reused += secure.session_reused
                session = secure.session
    assert reused == 11


def test_old_versions_and_plain_text_are_refused(world, authority, pair):
    gw = world.serve(config=tls(pair) + "upstreams: {up: {url: mock}}\n")
    with pytest.raises(ssl.SSLError):
        shown(gw.port, "localhost", authority, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    with socket.create_connection(("127.0.0.1", gw.port), timeout=LIMIT) as sock:
        sock.sendall(request("GET", "/healthz"))
        try:
            answer = sock.recv(1000)
        except ConnectionResetError:  # OpenSSL 3.5 leaves the rest unread
            answer = b""
        assert b"HTTP" not in answer
    assert shown(gw.port, "localhost", authority)


def test_a_handshake_that_stops_is_given_up(world, authority, pair):
    gw = world.serve(config=tls(pair) + "timeouts: {header: 200ms}\nupstreams: {up: {url: mock}}\n")
    before = gw.descriptors()
    socks = [socket.create_connection(("127.0.0.1", gw.port), timeout=LIMIT) for _ in range(20)]
    for number, sock in enumerate(socks):
        try:
            sock.sendall(b"\x16\x03\x01\x02\x00\x01"[:number % 7])
            assert sock.recv(1) == b""
        except (ConnectionResetError, BrokenPipeError):
            pass  # perhaps before anything was sent
        sock.close()
    gw.settles_at(before)


def local_port(answer):
    return answer.extensions["network_stream"].get_extra_info("client_addr")[1]


def test_sighup_changes_the_certificate_and_cuts_nothing(world, authority):
    first = keep_to_owner(authority.issue("first", names="DNS:localhost,DNS:first.test"))
    second = authority.issue("second", names="DNS:localhost,DNS:second.test")
    gates = [None] + [Gate() for _ in STREAM[1:]]
    up, gw = behind_tls(world, first, streams(STREAM, gates=gates))
    url, trust = f"https://localhost:{gw.port}{CHAT}", ssl.create_default_context(cafile=str(authority.pem))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(http1=not http2, http2=http2, verify=trust, timeout=LIMIT)) for http2 in (False, True)]
        running = [stack.enter_context(client.stream("POST", url, content=STREAM_REQUEST, headers=AS_JSON)) for client in clients]
        assert [answer.http_version for answer in running] == ["HTTP/1.1", "HTTP/2"]
        ports = [local_port(answer) for answer in running]
        parts = [answer.iter_raw() for answer in running]
        begun = [b"", b""]
        for which in (0, 1):
            while begun[which] != STREAM[0]:
                begun[which] += next(parts[which])
        for new, old in zip(second, first):
            shutil.copyfile(new, old)
        assert shown(gw.port, "localhost", authority)[0] == {"localhost", "first.test"}
        gw.signal(signal.SIGHUP)
        poll(lambda: shown(gw.port, "localhost", authority)[0] == {"localhost", "second.test"}, "the new certificate")
        for gate in gates[1:]:
            gate.open()
        assert [before + b"".join(rest) for before, rest in zip(begun, parts)] == [b"".join(STREAM)] * 2
        again = [client.post(url, content=STREAM_REQUEST, headers=AS_JSON) for client in clients]
        assert [local_port(answer) for answer in again] == ports, "the connections are used again"
    assert [answer.content for answer in again] == [b"".join(STREAM)] * 2
    assert len(up.requests) == 4


@pytest.mark.parametrize("spoil,says_so", [
    (lambda pem, key: os.chmod(key, 0o640), r"mode 0640.*chmod 600"),
    (lambda pem, key: key.write_text("no key\n"), r"no private key"),
    (lambda pem, key: pem.write_text("no certificate\n"), r"no certificate"),
    (lambda pem, key: key.unlink(), r"No such file"),
], ids=["open_to_others", "no_key", "no_certificate", "no_file"])
def test_bad_files_stop_the_start(world, authority, spoil, says_so):
    pem, key = keep_to_owner(authority.issue("bad"))
    spoil(pem, key)
    path = world.config(tls((pem, key)) + "upstreams: {up: {url: mock}}\n")
    done = run("serve", "--config", path, "--check")
    assert done.code == 2 and re.search(says_so, done.err), done


# --- a browser -------------------------------------------------------------------------------------------------------------

def test_chromium_streams_over_h2(world, pair):
    gates = [None] + [Gate() for _ in STREAM[1:]]
    up, gw = behind_tls(world, pair, streams(STREAM, gates=gates))
    browser = Browser("--ignore-certificate-errors")
    world.other.append(browser)
    tab = browser.user()(f"https://localhost:{gw.port}/healthz")
    tab.js("""window.got = ""; window.done = false; window.failed = "";
        (async () => {
            const answer = await fetch("/v1/chat/completions", {method: "POST", body: %s, headers: {"Content-Type": "application/json"}});
            const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
            for (;;) {
                const {value, done} = await reader.read();
                if (done) break;
                window.got += value;
            }
            window.done = true;
        })().catch(e => window.failed = String(e)); 0""" % json.dumps(STREAM_REQUEST.decode()))
    for number in range(len(STREAM)):
        so_far = b"".join(STREAM[:number + 1]).decode()
        tab.wait(f"window.got === {json.dumps(so_far)} || window.failed")
        assert tab.js("window.failed") == ""
        if number + 1 < len(gates):
            gates[number + 1].open()
    tab.wait("window.done")
    protocol = tab.js("performance.getEntriesByType('resource').find(e => e.name.endsWith('/chat/completions')).nextHopProtocol")
    assert protocol == "h2"
