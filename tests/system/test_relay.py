# SPDX-License-Identifier: MIT
"""What goes through unchanged, what is changed, and HTTP as the RFCs want it from a gateway."""
import hashlib
import json
import os
import re
import threading

import pytest

from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, LOOKED_AT, STREAM, STREAM_REQUEST, event
from process import free_port, memory_bound
from rawhttp import chunk, pieces, post, request
from upstream import Gate, Gone, before_body, refused_port, says, sends, streams
from waiting import LIMIT

BIG = int(os.environ.get("THAW_TEST_BIG", 64 << 20))


# --- what is there when a connection is accepted -------------------------------------------------------------------

def test_a_large_local_answer_to_a_request_that_came_with_its_connection(world):
    """It is answered before the connection is in the event loop, and the answer does not fit into the socket."""
    models = "".join(f"  model-with-a-rather-long-name-number-{n}: {{use: up}}\n" for n in range(6000))
    gw = world.serve(config="upstreams: {up: {url: mock}}\nmodels:\n" + models)
    gw.freeze()
    clients = [world.connect(gw) for _ in range(4)]
    for client in clients:
        client.send(request("GET", "/v1/models"))
    gw.thaw()
    for client in clients:
        assert len(client.read("GET").json()["data"]) == 6000


def test_an_answer_without_a_date_gets_one(world):
    _, _, client = world.gateway(says(CHAT_ANSWER))
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", client.ask(post(CHAT, CHAT_REQUEST))["date"])


# --- bodies ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", LOOKED_AT)
def test_request_and_answer_are_byte_identical(world, path):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    answer = client.ask(post(path, CHAT_REQUEST))
    assert (answer.status, bytes(answer.body)) == (200, CHAT_ANSWER)
    assert answer["content-type"] == "application/json"
    sent = up.only()
    assert (sent.method, sent.target, bytes(sent.body)) == ("POST", path, CHAT_REQUEST)
    assert sent["content-type"] == "application/json"


def test_the_query_goes_on(world):
    up, _, client = world.gateway()
    client.ask(post(CHAT + "?api-version=2026-11-01&x=%2F+", CHAT_REQUEST))
    assert up.only().target == CHAT + "?api-version=2026-11-01&x=%2F+"


@pytest.mark.parametrize("size", [1, 1000, 65536, 1 << 20], ids=str)
def test_looked_at_bodies_of_any_size(world, size):
    up, _, client = world.gateway(lambda x: x.answer(200, b'{"n":"' + b"y" * x.request.length + b'"}'))
    body = b'{"model":"m","x":"' + b"x" * size + b'"}'
    for _ in range(2):
        answer = client.ask(post(CHAT, body))
        assert answer.body == b'{"n":"' + b"y" * len(body) + b'"}'
    assert all(r.body == body for r in up.requests)


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_a_chunked_request_body_arrives_whole(world, path):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    answer = client.ask(post(path, pieces(CHAT_REQUEST, 7)))
    assert answer.body == CHAT_ANSWER
    assert up.only().body == CHAT_REQUEST and up.only().complete


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_a_request_may_come_byte_by_byte(world, path):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    for byte in pieces(post(path, b'{"model":"m"}', [("X-Slow", "1")]), 1):
        client.send(byte)
    assert client.read().body == CHAT_ANSWER
    assert up.only().body == b'{"model":"m"}' and up.only()["x-slow"] == "1"


def test_a_chunked_answer_is_byte_identical(world):
    parts = [b"a", b"b" * 70000, b"\r\n0\r\n\r\n", b"c"]

    def script(x):
        x.head(200, [("Content-Type", "text/plain"), ("Transfer-Encoding", "chunked")])
        for part in parts:
            x.chunk(part)
        x.send(b"0\r\n\r\n")
    _, _, client = world.gateway(script)
    for _ in range(3):  # and the connections are used again
        answer = client.ask(request("GET", "/v1/x"))
        assert (bytes(answer.body), answer["content-type"]) == (b"".join(parts), "text/plain")


def test_chunk_extensions_and_odd_sizes_of_an_answer(world):
    _, _, client = world.gateway(sends(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding:\tChunked \r\n\r\n"
        b"0005;a=b;c=\"d\"\r\nhello\r\nA;x\r\n, thereabc\r\n000\r\n\r\n"))
    assert client.ask(request("GET", "/v1/x")).body == b"hello, thereabc"


def test_an_answer_that_ends_with_the_connection(world):
    def script(x):
        x.head(200, [("Content-Type", "text/plain")]).send(b"all of it")
        x.close()
    up, _, client = world.gateway(script)
    for number in (1, 2):
        answer = client.ask(request("GET", "/v1/x"))
        assert answer.body == b"all of it" and answer.whole
        assert answer.framing == "chunked", "the client's connection has to survive"
        assert len(up.connections) == number


def test_an_http_1_0_answer(world):
    _, _, client = world.gateway(sends(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold", "close"))
    answer = client.ask(request("GET", "/v1/x"))
    assert (answer.version, bytes(answer.body)) == ((1, 1), b"old")


@pytest.mark.parametrize("head", [b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_an_empty_body(world, head):
    raw = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + (b"0\r\n\r\n" if b"chunked" in head else b"")
    _, _, client = world.gateway(sends(raw))
    for _ in range(2):
        answer = client.ask(post(CHAT, CHAT_REQUEST))
        assert answer.status == 200 and answer.body == b""


@pytest.mark.parametrize("status", [200, 201, 202, 206, 302, 400, 401, 403, 404, 409, 422, 500, 503])
def test_the_status_and_an_error_of_the_upstream_reach_the_client(world, status):
    """Scripted to say the same again, should it be retried."""
    up, _, client = world.gateway(says(b'{"error":{"message":"as it is"}}', status,
                                       [("Location", "/v1/elsewhere"), ("Retry-After", "0"), ("x-should-retry", "false")]))
    answer = client.ask(post(CHAT, CHAT_REQUEST))
    assert (answer.status, bytes(answer.body)) == (status, b'{"error":{"message":"as it is"}}')
    assert answer["retry-after"] == "0"
    if status == 302:
        up.only()  # redirects are not followed


# --- streams -----------------------------------------------------------------------------------------------------------------

def test_a_stream_is_byte_identical(world):
    up, _, client = world.gateway(streams(STREAM))
    for _ in range(2):
        answer = client.ask(post(CHAT, STREAM_REQUEST))
        assert bytes(answer.body) == b"".join(STREAM)
        assert answer["content-type"] == "text/event-stream"
        assert answer["x-accel-buffering"] == "no"
        assert answer.fields.tokens("cache-control") == ["no-cache"]
        assert answer["content-length"] is None
    assert up.requests[0].body == STREAM_REQUEST


def test_no_event_is_held_back(world):
    gates = [Gate() for _ in STREAM]
    _, _, client = world.gateway(streams(STREAM, gates=gates))
    client.send(post(CHAT, STREAM_REQUEST))
    gates[0].open()
    answer = client.read_head()
    for number, part in enumerate(STREAM):
        client.read_until(answer, part)
        assert answer.body == b"".join(STREAM[:number + 1])
        if number + 1 < len(gates):
            gates[number + 1].open()
    client.read_rest(answer)


def test_a_head_without_a_body_byte_yet_is_not_held_back_for_ever(world):
    """A client that waits for the head (fetch resolves there) sees it before the first event."""
    gate = Gate()
    _, _, client = world.gateway(streams(STREAM, gates=[gate]))
    client.send(post(CHAT, STREAM_REQUEST))
    answer = client.read_head()
    gate.open()
    assert client.read_rest(answer).body == b"".join(STREAM)


def test_half_an_event_is_not_held_back_either(world):
    gates = [None] + [Gate() for _ in range(len(STREAM[0]) - 1)][:20]
    parts = [STREAM[0][i:i + 1] for i in range(20)] + [STREAM[0][20:], *STREAM[1:]]
    _, _, client = world.gateway(streams(parts, gates=gates))
    answer = client.send(post(CHAT, STREAM_REQUEST)).read_head()
    for number in range(20):
        client.read_until(answer, STREAM[0][:number + 1])
        gates[number + 1].open() if number + 1 < len(gates) else None
    assert client.read_rest(answer).body == b"".join(STREAM)


def test_plain_bytes_are_not_held_back(world):
    gate = Gate()

    def script(x):
        x.head(200, [("Content-Length", "10")]).send(b"first")
        x.wait(gate)
        x.send(b"-last")
    _, _, client = world.gateway(script)
    answer = client.send(request("GET", "/v1/x")).read_head()
    client.read_until(answer, b"first")
    gate.open()
    assert client.read_rest(answer).body == b"first-last"


def test_an_existing_cache_control_is_not_doubled(world):
    _, _, client = world.gateway(streams(STREAM, [("Cache-Control", "no-cache"), ("X-Accel-Buffering", "yes")]))
    answer = client.ask(post(CHAT, STREAM_REQUEST))
    assert answer.fields.all("cache-control") == ["no-cache"]
    assert answer.fields.all("x-accel-buffering") == ["no"]


ODD_STREAMS = {
    "crlf": b"data: 1\r\n\r\ndata: [DONE]\r\n\r\n",
    "cr": b"data: 1\r\rdata: [DONE]\r\r",
    "mixed": b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\n\rdata: [DONE]\n\n",
    "bom": b"\xef\xbb\xbfdata: 1\n\ndata: [DONE]\n\n",
    "comments": b": ping\n\n:\n: x\ndata: 1\n\n: ping\n\ndata: [DONE]\n\n",
    "no_space": b"data:1\n\ndata:[DONE]\n\n",
    "fields": b"event: a\nid: 7\nretry: 10\ndata: 1\ndata: 2\n\nunknown: x\ndata\n\ndata: [DONE]\n\n",
    "no_blank_line_at_the_end": b"data: 1\n\ndata: [DONE]",
    "no_done": b"event: response.completed\ndata: {}\n\n",
    "empty": b"",
    "utf8": "data: {\"x\":\"é你😀\"}\n\ndata: [DONE]\n\n".encode(),
    "not_utf8": b"data: \xff\xfe\n\ndata: [DONE]\n\n",
}


@pytest.mark.parametrize("name", ODD_STREAMS)
@pytest.mark.parametrize("size", [1, 3, 1 << 20], ids=["byte_by_byte", "by_three", "whole"])
def test_odd_event_streams_pass_unchanged(world, name, size):
    whole = ODD_STREAMS[name]
    _, _, client = world.gateway(streams(pieces(whole, size)))
    assert client.ask(post(CHAT, STREAM_REQUEST)).body == whole


def test_an_event_of_many_megabytes(world):
    whole = b"data: " + b"x" * (8 << 20) + b"\n\ndata: [DONE]\n\n"
    _, gw, client = world.gateway(streams(pieces(whole, 50000)))
    client.ask(post(CHAT, STREAM_REQUEST))
    base = gw.forget_peak()
    assert client.ask(post(CHAT, STREAM_REQUEST)).body == whole
    assert gw.status("VmHWM") - base < memory_bound(2 << 20)


def test_a_stream_that_ends_with_the_connection(world):
    def script(x):
        x.head(200, [("Content-Type", "text/event-stream; charset=utf-8")]).send(b"".join(STREAM))
        x.close()
    _, _, client = world.gateway(script)
    answer = client.ask(post(CHAT, STREAM_REQUEST))
    assert answer.body == b"".join(STREAM) and answer["x-accel-buffering"] == "no"


# --- which paths, which upstream ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method,target,body", [
    ("GET", "/v1/files", None),
    ("GET", "/v1/files/file-1/content?x=1&y=%20", None),
    ("DELETE", "/v1/files/file-1", None),
    ("POST", "/v1/batches/b/cancel", None),
    ("POST", "/v1/batches/b/cancel", b""),
    ("POST", "/v1/audio/transcriptions", b"--b\r\nnot json\r\n--b--\r\n"),
    ("PUT", "/v1/x", b"\0\1\2"),
    ("PATCH", "/v1/x", b"{}"),
    ("POST", "/v1/images/generations", b'{"model":"m","model":"m"}'),
    ("GET", "/v1/models/gpt%20x", None),
    ("GET", "/v1/a=c/~d/$e,f:g@h!i'j(k)*+=?k[]=1", None),
])
def test_any_other_path_is_relayed_as_it_is(world, method, target, body):
    up, _, client = world.gateway(says(b"\0answer\xff", kind="application/octet-stream"))
    fields = [("Content-Type", "multipart/form-data; boundary=b")] if body else []
    answer = client.ask(request(method, target, fields, body))
    assert (answer.status, bytes(answer.body)) == (200, b"\0answer\xff")
    sent = up.only()
    assert (sent.method, sent.target, bytes(sent.body)) == (method, target, body or b"")
    assert sent["transfer-encoding"] is None
    assert sent["content-type"] == (fields[0][1] if body else None)


@pytest.mark.parametrize("base,target,expected", [
    ("/v1", "/v1/files", "/v1/files"),
    ("", "/v1/files", "/files"),
    ("/", "/v1/files", "/files"),
    ("/openai/deployments/x", "/v1/chat/completions?a=b", "/openai/deployments/x/chat/completions?a=b"),
    ("/v1/", "/v1/files", "/v1/files"),
])
def test_the_upstreams_url_brings_its_own_prefix(world, base, target, expected):
    up = world.upstream()
    client = world.connect(world.serve(up.url.removesuffix("/v1") + base))
    assert client.ask(post(target, CHAT_REQUEST)).status == 200
    assert up.only().target == expected


@pytest.mark.parametrize("prefix,target,expected", [("''", "/chat/completions", "/v1/chat/completions"),
                                                   ("/api/v9", "/api/v9/files", "/v1/files")])
def test_the_prefix_is_a_setting(world, prefix, target, expected):
    up = world.upstream()
    client = world.connect(world.serve(config=f"prefix: {prefix}\nupstreams: {{up: {{url: {up.url}}}}}\n"))
    assert client.ask(post(target, CHAT_REQUEST)).status == 200
    assert up.only().target == expected
    answer = client.ask(request("GET", "/healthz"))
    assert answer.status == 200 and len(up.requests) == 1
    if prefix != "''":
        assert client.ask(post(CHAT, CHAT_REQUEST)).status == 404


def test_host_is_the_upstreams(world):
    up, _, client = world.gateway()
    client.ask(post(CHAT, CHAT_REQUEST, host="evil.example:99"))
    assert up.only()["host"] == f"127.0.0.1:{up.port}"


def test_a_name_is_resolved(world):
    up = world.upstream(says(CHAT_ANSWER))
    client = world.connect(world.serve(f"http://localhost:{up.port}/v1"))
    assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    assert up.only()["host"] == f"localhost:{up.port}"


def test_an_ipv6_upstream(world):
    up = world.upstream(says(CHAT_ANSWER), host="::1")
    assert world.connect(world.serve(up)).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    assert up.only()["host"] == f"[::1]:{up.port}"


def test_models_say_where_to_and_under_which_name(world):
    one, two = world.upstream(says(b'"one"')), world.upstream(says(b'"two"'))
    client = world.connect(world.serve(config=f"""
        upstreams:
          one: {{url: {one.url}}}
          two: {{url: {two.url}}}
        models:
          fast: {{use: [one/real-fast]}}
          slow: {{use: ["two/org/real slow:7b"]}}
          as-it-is: {{use: [two]}}
    """))
    body = (b'{ "a":{"model":"fast"}, "x" : [ "fast" ] , "model"  :\t"%s" ,"b":1.0e0,"model_":"fast", '
            b'"u":"\\u00e9\xc3\xa9" }\n ')
    for name, written, up, real in ((b"fast", b"fast", one, b"real-fast"), (b"slow", b"slow", two, b"org/real slow:7b"),
                                    (b"as-it-is", b"as-it-is", two, b"as-it-is"), (b"fast", b"\\u0066a\\u0073t", one, b"real-fast")):
        before = len(up.requests)
        assert client.ask(post(CHAT, body.replace(b"%s", written))).status == 200, name
        assert len(up.requests) == before + 1
        assert up.requests[-1].body == body.replace(b"%s", real)


def test_an_escaped_model_key_is_the_model_key(world):
    up = world.upstream()
    client = world.connect(world.serve(config=f"""
        upstreams: {{up: {{url: {up.url}}}}}
        models: {{fast: {{use: [up/real]}}}}
    """))
    assert client.ask(post(CHAT, b'{"\\u006dodel":"fast","n":1}')).status == 200
    assert up.only().body == b'{"\\u006dodel":"real","n":1}'


def test_an_unknown_model_is_404_and_names_near_ones(world):
    up = world.upstream()
    client = world.connect(world.serve(config=f"""
        upstreams: {{up: {{url: {up.url}}}}}
        models: {{fast: {{use: [up]}}, very-slow: {{use: [up]}}}}
    """))
    answer = client.ask(post(CHAT, {"model": "fst"}))
    assert answer.status == 404
    error = answer.error()
    assert "fast" in error["message"] and error["param"] == "model" and error["code"] == "model_not_found"
    assert client.ask(post(CHAT, {"model": "fast"})).status == 200


def test_the_list_of_models_is_what_can_be_asked_for(world):
    up = world.upstream()
    client = world.connect(world.serve(config=f"""
        upstreams: {{up: {{url: {up.url}}}}}
        models: {{fast: {{use: [up/real]}}, slow: {{use: [up]}}}}
    """))
    answer = client.ask(request("GET", "/v1/models"))
    assert answer.status == 200
    assert answer.json()["object"] == "list"
    assert sorted(m["id"] for m in answer.json()["data"]) == ["fast", "slow"]
    assert all(m["object"] == "model" for m in answer.json()["data"])


def test_without_models_the_list_is_the_upstreams(world):
    models = b'{"object":"list","data":[{"id":"upstreams-own","object":"model","created":1,"owned_by":"x"}]}'
    up, _, client = world.gateway(says(models))
    answer = client.ask(request("GET", "/v1/models"))
    assert [m["id"] for m in answer.json()["data"]] == ["upstreams-own"]


def test_a_model_falls_to_its_next_upstream_when_the_first_refuses(world):
    holder, dead = refused_port()
    world.other.append(holder)
    up = world.upstream(says(CHAT_ANSWER))
    client = world.connect(world.serve(config=f"""
        upstreams:
          dead: {{url: 'http://127.0.0.1:{dead}/v1'}}
          alive: {{url: {up.url}}}
        models: {{fast: {{use: [dead/one, alive/two]}}}}
    """))
    for number in range(3):
        answer = client.ask(post(CHAT, b'{"model": "fast", "n":%d}' % number))
        assert answer.body == CHAT_ANSWER
        assert up.requests[number].body == b'{"model": "two", "n":%d}' % number


# --- fields ------------------------------------------------------------------------------------------------------------------

HOP = [("Connection", "keep-alive, X-Named, x-also-named"), ("X-Named", "1"), ("X-Also-Named", "2"),
       ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"), ("Upgrade", "websocket"), ("TE", "trailers")]


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_hop_by_hop_fields_of_the_request_stay_behind(world, path):
    up, _, client = world.gateway()
    answer = client.ask(post(path, CHAT_REQUEST, [*HOP, ("HTTP2-Settings", "AAMAAABkAAQAAP__"), ("Trailer", "X-T"),
                                                  ("X-End-To-End", "yes")]))
    assert answer.status == 200
    sent = up.only()
    for name, _ in HOP[1:] + [("HTTP2-Settings", ""), ("Trailer", "")]:
        assert name not in sent.fields, sent
    assert set(sent.fields.tokens("connection")) <= {"keep-alive"}, sent
    assert sent["x-end-to-end"] == "yes"


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_hop_by_hop_fields_of_the_answer_stay_behind(world, path):
    _, _, client = world.gateway(says(CHAT_ANSWER, fields=[*HOP, ("X-End-To-End", "yes"), ("Proxy-Authenticate", "x")]))
    for _ in range(2):
        answer = client.ask(post(path, CHAT_REQUEST))
        for name in ("x-named", "x-also-named", "proxy-connection", "upgrade", "te", "proxy-authenticate"):
            assert name not in answer.fields, answer
        assert "timeout=5" not in answer.fields.all("keep-alive")
        assert set(answer.fields.tokens("connection")) <= {"keep-alive"}, answer
        assert answer["x-end-to-end"] == "yes" and answer.body == CHAT_ANSWER


def test_a_client_cannot_strip_what_thaw_adds(world):
    up = world.upstream()
    client = world.connect(world.serve(up, env={"OPENAI_API_KEY": "sk-canary-upstream"}))
    answer = client.ask(post(CHAT, CHAT_REQUEST, [
        ("Connection", "authorization, via, host, content-length, content-type, x-request-id"), ("X-Request-Id", "mine")]))
    assert answer.status == 200
    sent = up.only()
    assert sent["authorization"] == "Bearer sk-canary-upstream"
    assert sent["host"] == f"127.0.0.1:{up.port}" and "1.1 thaw" in sent["via"] and sent.body == CHAT_REQUEST


def test_authorization_goes_on_when_there_is_no_key(world):
    up, _, client = world.gateway()
    client.ask(post(CHAT, CHAT_REQUEST, [("Authorization", "Bearer sk-canary-of-the-client")]))
    assert up.only()["authorization"] == "Bearer sk-canary-of-the-client"


def test_without_any_key_no_authorization_is_made_up(world):
    up, _, client = world.gateway()
    client.ask(post(CHAT, CHAT_REQUEST))
    assert "authorization" not in up.only().fields


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_authorization_is_replaced_by_the_upstreams_key(world, path):
    up = world.upstream()
    client = world.connect(world.serve(up, env={"OPENAI_API_KEY": "sk-canary-upstream"}))
    client.ask(post(path, CHAT_REQUEST, [("Authorization", "Bearer sk-canary-of-the-client")]))
    assert up.only().fields.all("authorization") == ["Bearer sk-canary-upstream"]
    assert b"of-the-client" not in up.received()


def test_other_fields_go_on_in_order_both_ways(world):
    fields = [("X-One", "a"), ("X-Many", "1"), ("OpenAI-Organization", "org"), ("X-Many", "2"),
              ("User-Agent", "test/1.0"), ("Accept", "application/json"), ("X-Latin", "\xe9"), ("X-Empty", ""),
              ("Accept-Encoding", "gzip"), ("OpenAI-Beta", "assistants=v2"), ("Cookie", "a=b")]
    up, _, client = world.gateway(says(CHAT_ANSWER, fields=[
        ("X-RateLimit-Remaining-Requests", "7"), ("openai-processing-ms", "12"), ("X-Many", "1"), ("X-Many", "2"),
        ("Retry-After-Ms", "5"), ("Server", "up"), ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("X-Custom", "c"),
        ("Content-Encoding", "gzip"), ("Vary", "Origin")]))
    answer = client.ask(post(CHAT, CHAT_REQUEST, fields))
    sent = up.only()
    for name, _ in fields:
        assert sent.fields.all(name) == [v for n, v in fields if n == name], sent
    assert answer["x-ratelimit-remaining-requests"] == "7" and answer["openai-processing-ms"] == "12"
    assert answer.fields.all("x-many") == ["1", "2"] and answer["retry-after-ms"] == "5"
    assert answer["x-custom"] == "c" and answer["content-encoding"] == "gzip" and answer["vary"] == "Origin"
    assert answer["date"] == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_answers_of_thaws_own_have_a_date(world):
    answer = world.gateway()[2].ask(request("GET", "/healthz"))
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", answer["date"] or "")


def test_via_and_forwarded_towards_the_upstream(world):
    up, _, client = world.gateway()
    client.ask(post(CHAT, CHAT_REQUEST, [("Via", "1.0 front"), ("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Host", "h"),
                                         ("X-Forwarded-Proto", "https"), ("Forwarded", "for=192.0.2.1")]))
    sent = up.only()
    assert ", ".join(sent.fields.all("via")) == "1.0 front, 1.1 thaw"
    for name in ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"):
        assert name not in sent.fields, sent


def test_a_loop_through_itself_ends(world):
    port = free_port()
    gw = world.serve(f"http://127.0.0.1:{port}/v1", port=port)
    answer = world.connect(gw).ask(post(CHAT, CHAT_REQUEST))
    assert answer.status in (400, 502, 508), answer
    assert world.connect(gw).ask(request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/files", "/healthz"])
def test_a_request_id_is_taken_over(world, path):
    up, _, client = world.gateway()
    for given in ("abc-123_X.y", "a", "z" * 128):
        answer = client.ask(request("GET" if path == "/healthz" else "POST", path, [("X-Request-Id", given)], b"{}"))
        assert answer["x-request-id"] == given
        if path != "/healthz":
            assert up.requests[-1]["x-request-id"] == given


@pytest.mark.parametrize("fields", [[], [("X-Request-Id", "")], [("X-Request-Id", "z" * 129)], [("X-Request-Id", "a b")],
                                    [("X-Request-Id", "<script>")], [("X-Request-Id", "a"), ("X-Request-Id", "b")]],
                         ids=["none", "empty", "too_long", "blank", "markup", "two"])
def test_otherwise_a_request_id_is_made(world, fields):
    up, _, client = world.gateway()
    seen = set()
    for _ in range(3):
        answer = client.ask(post(CHAT, CHAT_REQUEST, fields))
        made = answer["x-request-id"]
        assert re.fullmatch(r"[A-Za-z0-9._-]{8,128}", made or ""), answer
        assert up.requests[-1]["x-request-id"] == made
        seen.add(made)
    assert len(seen) == 3


def test_the_upstreams_request_id_reaches_the_client(world):
    _, _, client = world.gateway(says(CHAT_ANSWER, fields=[("x-request-id", "req_of_the_upstream")]))
    answer = client.ask(post(CHAT, CHAT_REQUEST))
    assert len(answer.fields.all("x-request-id")) == 1
    assert "req_of_the_upstream" in [value for _, value in answer.fields]


def test_errors_carry_the_request_id(world):
    _, _, client = world.gateway()
    answer = client.ask(post(CHAT, b"{", [("X-Request-Id", "abc-1")]))
    assert answer.status == 400 and answer["x-request-id"] == "abc-1"


def test_fields_with_underscores_are_dropped(world):
    up, _, client = world.gateway()
    assert client.ask(post(CHAT, CHAT_REQUEST, [("X_Api_Key", "canary"), ("Content_Length", "1"), ("X-Fine", "1")])).status == 200
    sent = up.only()
    assert not [name for name, _ in sent.fields if "_" in name] and sent["x-fine"] == "1"


# --- methods and statuses ------------------------------------------------------------------------------------------------------

def test_head_on_a_relayed_path(world):
    def script(x):
        x.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1234\r\n\r\n")
    up, _, client = world.gateway(script)
    for _ in range(2):
        answer = client.ask(request("HEAD", "/v1/files/x/content"))
        assert answer.status == 200 and answer["content-length"] == "1234"
        assert client.quiet()
    assert up.requests[0].method == "HEAD"


def test_head_of_a_chunked_answer(world):
    _, _, client = world.gateway(sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
    for _ in range(2):
        answer = client.ask(request("HEAD", "/v1/x"))
        assert answer.status == 200 and "content-length" not in answer.fields


@pytest.mark.parametrize("path", ["/healthz", "/v1/models"])
def test_head_says_what_get_says(world, path):
    up = world.upstream()
    client = world.connect(world.serve(config=f"upstreams: {{up: {{url: {up.url}}}}}\nmodels: {{m: {{use: [up]}}}}\n"))
    get, head = client.ask(request("GET", path)), client.ask(request("HEAD", path))
    assert head.status == get.status == 200 and head["content-type"] == get["content-type"]
    if path == "/v1/models":
        assert head["content-length"] in (None, get["content-length"])
    assert client.ask(request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("target", [CHAT, "/v1/models", "/v1/files", "/healthz", "*"])
def test_options_is_answered_here(world, target):
    up, _, client = world.gateway()
    answer = client.ask(request("OPTIONS", target))
    assert answer.status in (200, 204), answer
    if target == CHAT:
        assert "post" in answer.fields.tokens("allow")
    assert client.ask(request("GET", "/healthz")).status == 200
    assert not up.requests


@pytest.mark.parametrize("raw,status", [
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
    (b"HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\n\r\n", 204),
    (b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", 304),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 55\r\n\r\n", 304),
])
def test_answers_without_a_body(world, raw, status):
    _, _, client = world.gateway(sends(raw))
    for _ in range(2):
        answer = client.ask(request("GET", "/v1/files/x"))
        assert answer.status == status
        assert client.quiet()


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_interim_answers_are_forwarded(world, path):
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nX-Two: 2\r\n\r\n"
    gate = Gate()

    def script(x):
        x.send(early)
        x.wait(gate)
        x.send(b"HTTP/1.1 102 Processing\r\n\r\n").answer(200, CHAT_ANSWER)
    _, _, client = world.gateway(script)
    client.send(post(path, CHAT_REQUEST))
    while b"\r\n\r\n" not in client.pending:
        assert client.receive()
    gate.open()  # only now: the 103 was not held back
    answer = client.read()
    assert [i.status for i in answer.interim] == [103, 102]
    assert answer.interim[0]["link"] == "</x>; rel=preload" and answer.interim[0]["x-two"] == "2"
    assert answer.status == 200 and answer.body == CHAT_ANSWER


def test_an_unasked_100_of_the_upstream_does_no_harm(world):
    _, _, client = world.gateway(sends(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    answer = client.ask(post(CHAT, CHAT_REQUEST))
    assert answer.status == 200 and answer.body == b"ok"
    assert [i.status for i in answer.interim] in ([], [100])


def test_a_storm_of_interim_answers_is_not_an_answer(world):
    _, _, client = world.gateway(sends(b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" * 500
                                       + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    answer = client.ask(post(CHAT, CHAT_REQUEST))
    assert answer.status == 502 and answer.error() and len(answer.interim) <= 8


def test_an_unasked_switch_of_protocols_is_not_an_answer(world):
    _, _, client = world.gateway(sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxyz"))
    answer = client.ask(post(CHAT, CHAT_REQUEST))
    assert answer.status == 502 and answer.error()


def test_an_http_1_0_client_gets_no_interim_answers(world):
    _, _, client = world.gateway(sends(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    answer = client.ask(post(CHAT, CHAT_REQUEST, version="1.0"))
    assert answer.status == 200 and answer.body == b"ok" and not answer.interim


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_expect_100_continue(world, path):
    @before_body
    def script(x):
        if "expect" in x.request.fields:
            x.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        x.read_body()
        x.answer(200, CHAT_ANSWER)
    up, _, client = world.gateway(script)
    for _ in range(2):
        client.send(request("POST", path, [("Content-Type", "application/json"), ("Expect", "100-Continue"),
                                           ("Content-Length", str(len(CHAT_REQUEST)))]))
        while b"\r\n\r\n" not in client.pending:
            assert client.receive(), "no 100"
        client.send(CHAT_REQUEST)
        answer = client.read()
        assert [i.status for i in answer.interim] == [100]
        assert answer.status == 200 and answer.body == CHAT_ANSWER
    assert up.requests[-1].body == CHAT_REQUEST


def test_a_body_that_does_not_wait_for_100(world):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    for _ in range(2):
        answer = client.ask(post(CHAT, CHAT_REQUEST, [("Expect", "100-continue")]))
        assert answer.status == 200 and answer.body == CHAT_ANSWER
    assert up.requests[-1].body == CHAT_REQUEST


def test_an_http_1_0_client_gets_no_100(world):
    _, _, client = world.gateway(says(CHAT_ANSWER))
    answer = client.ask(post(CHAT, CHAT_REQUEST, [("Expect", "100-continue")], version="1.0"))
    assert answer.status == 200 and not answer.interim


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_trailers_of_a_request_are_dropped(world, path):
    up, _, client = world.gateway()
    data = request("POST", path, [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"),
                                  ("Trailer", "X-Sum")])
    answer = client.ask(data + chunk(CHAT_REQUEST) + b"0\r\nX-Sum: 1\r\nAuthorization: Bearer sk-canary-trailer\r\n"
                        b"Host: evil\r\nX-Api-Key: sk-canary-trailer\r\n\r\n")
    assert answer.status == 200
    sent = up.only()
    assert sent.body == CHAT_REQUEST and not sent.trailers and "x-sum" not in sent.fields
    assert b"sk-canary-trailer" not in up.received() and "authorization" not in sent.fields
    assert sent["host"] == f"127.0.0.1:{up.port}"


@pytest.mark.parametrize("trailer", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
def test_framing_in_trailers_frames_nothing(world, trailer):
    """Dropped like the others or refused."""
    up, gw, client = world.gateway()
    data = request("POST", CHAT, [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
    client.send(data + chunk(CHAT_REQUEST) + b"0\r\n" + trailer + b"\r\n\r\n" + post(CHAT, b'{"n":2}'))
    answer = client.read("POST")
    assert answer.status in (200, 400), answer
    if answer.status == 200:
        assert client.read("POST").status == 200
        assert [bytes(r.body) for r in up.requests] == [CHAT_REQUEST, b'{"n":2}']
    else:
        client.closed()
        assert not up.requests


def test_trailers_of_an_answer_do_not_become_fields(world):
    raw = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n"
           b"Set-Cookie: a=b\r\n\r\n")
    _, _, client = world.gateway(sends(raw))
    for _ in range(2):
        answer = client.ask(request("GET", "/v1/x"))
        assert answer.body == b"ok" and "x-sum" not in answer.fields and "set-cookie" not in answer.fields


# --- connections -----------------------------------------------------------------------------------------------------------------

def test_keep_alive_on_both_sides(world):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    for _ in range(20):
        assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    assert len(up.connections) == 1 and len(up.requests) == 20


def test_connection_close_is_obeyed(world):
    _, _, client = world.gateway(says(CHAT_ANSWER))
    answer = client.ask(post(CHAT, CHAT_REQUEST, [("Connection", "close")]))
    assert answer.body == CHAT_ANSWER and "close" in answer.fields.tokens("connection")
    assert client.closed() == "fin"


def test_an_upstream_that_closes_after_each_answer(world):
    def script(x):
        x.answer(200, CHAT_ANSWER, [("Connection", "close")])
        x.close()
    up, _, client = world.gateway(script)
    for _ in range(5):
        assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    assert len(up.connections) == 5


def test_pipelined_requests_are_answered_in_order(world):
    up, _, client = world.gateway(lambda x: x.answer(200, b"%s %s" % (x.request.target.encode(), bytes(x.request.body))))
    client.send(post(CHAT, b'{"n":1}') + request("GET", "/healthz") + post("/v1/files", b"two") + post(CHAT, b"{") +
                request("GET", "/v1/three?x=1") + post(CHAT, [b'{"n"', b":4}"]))
    assert client.read().body == CHAT.encode() + b' {"n":1}'
    assert client.read().json()["status"] == "ok"
    assert client.read().body == b"/v1/files two"
    assert client.read().status == 400
    assert client.read().body == b"/v1/three?x=1 "
    assert client.read().body == CHAT.encode() + b' {"n":4}'
    assert len(up.requests) == 4


def test_a_pipelined_request_behind_a_stream(world):
    _, _, client = world.gateway(lambda x: streams(STREAM)(x) if b"stream" in x.request.body else says(CHAT_ANSWER)(x))
    client.send(post(CHAT, STREAM_REQUEST) + post(CHAT, CHAT_REQUEST))
    assert client.read().body == b"".join(STREAM)
    assert client.read().body == CHAT_ANSWER


def test_an_empty_line_before_a_request_is_ignored(world):
    _, _, client = world.gateway(says(CHAT_ANSWER))
    assert client.ask(b"\r\n" + post(CHAT, CHAT_REQUEST), "POST").body == CHAT_ANSWER
    assert client.ask(b"\r\n" + post(CHAT, CHAT_REQUEST), "POST").body == CHAT_ANSWER


@pytest.mark.parametrize("fields", [[], [("Connection", "keep-alive")]], ids=["plain", "keep_alive"])
@pytest.mark.parametrize("host", ["thaw.test", None])
def test_an_http_1_0_client(world, fields, host):
    up, _, client = world.gateway(streams(STREAM))
    answer = client.ask(post(CHAT, STREAM_REQUEST, fields, version="1.0", host=host))
    assert answer.framing == "close" and answer.body == b"".join(STREAM)
    assert up.only()["host"] == f"127.0.0.1:{up.port}"
    client = world.connect(client.sock.getpeername()[1])
    up.script = says(CHAT_ANSWER)
    client.send(post(CHAT, CHAT_REQUEST, fields, version="1.0", host=host))
    answer = client.read()
    assert answer.body == CHAT_ANSWER
    if "keep-alive" not in answer.fields.tokens("connection"):
        assert client.closed() == "fin"


def test_an_absolute_target_is_routed_by_its_path(world):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    answer = client.ask(post("http://evil.example" + CHAT, CHAT_REQUEST, host="other.example"))
    assert answer.body == CHAT_ANSWER
    assert up.only().target == CHAT and up.only()["host"] == f"127.0.0.1:{up.port}"


# --- own answers --------------------------------------------------------------------------------------------------------------------

def test_healthz(world):
    up, _, client = world.gateway()
    answer = client.ask(request("GET", "/healthz"))
    assert answer.status == 200 and answer.json()["status"] == "ok"
    assert isinstance(answer.json()["loop_lag_ms"], (int, float))
    assert not up.requests


@pytest.mark.parametrize("path", ["/", "/nothing", "/v", "/v1", "/v1x", "/v2/chat/completions", "/chat/completions", "/healthz/x"])
def test_other_paths_are_404(world, path):
    up, _, client = world.gateway()
    for method in ("GET", "POST"):
        answer = client.ask(request(method, path, body=b"{}" if method == "POST" else None))
        assert answer.status == 404 and answer.error()
    assert not up.requests and client.ask(request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_wrong_method_is_405_with_allow(world, method):
    up, _, client = world.gateway()
    answer = client.ask(request(method, "/healthz"))
    assert answer.status == 405 and answer.error()
    assert "get" in answer.fields.tokens("allow")
    assert not up.requests and client.ask(request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("method,target", [("GET", CHAT + "?limit=2"), ("DELETE", CHAT), ("POST", "/v1/models"), ("GET", "/v1/responses")])
def test_another_method_on_a_path_of_the_api_is_relayed(world, method, target):
    """OpenAI answers GET /v1/chat/completions, too: what is not thaw's is the upstream's to refuse."""
    up, _, client = world.gateway()
    assert client.ask(request(method, target)).status == 200
    assert (up.only().method, up.only().target) == (method, target)


def test_an_error_answer_leaves_the_connection_usable(world):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    for _ in range(3):
        assert client.ask(post("/nothing", b"x" * 1000)).status == 404
        assert client.ask(post(CHAT, b"not json")).status == 400
        assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    assert len(up.requests) == 3


# --- large bodies in constant memory ------------------------------------------------------------------------------------------------

BLOCK = os.urandom(1 << 18)


def big_pieces():
    """BIG bytes that are not the same everywhere."""
    left, turn = BIG, 0
    while left:
        piece = (turn.to_bytes(8, "big") + BLOCK)[:min(left, 1 << 18)]
        left -= len(piece)
        turn += 1
        yield piece


def big_hash():
    digest = hashlib.sha256()
    for piece in big_pieces():
        digest.update(piece)
    return digest.hexdigest()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_upload_passes_in_constant_memory(world, framing):
    up, gw, client = world.gateway()
    assert client.ask(post("/v1/files", b"warm up")).status == 200
    base = gw.forget_peak()
    how = ("Content-Length", str(BIG)) if framing == "length" else ("Transfer-Encoding", "chunked")
    client.send(request("POST", "/v1/files", [("Content-Type", "application/octet-stream"), how]))
    for piece in big_pieces():
        client.send(piece if framing == "length" else chunk(piece))
    if framing == "chunked":
        client.send(b"0\r\n\r\n")
    assert client.read().status == 200
    sent = up.requests[-1]
    assert sent.length == BIG and sent.hash.hexdigest() == big_hash()
    assert gw.status("VmHWM") - base < memory_bound(4 << 20)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_large_download_passes_in_constant_memory(world, framing):
    def script(x):
        if x.request.target == "/v1/warm":
            return x.answer()
        how = {"length": [("Content-Length", str(BIG))], "chunked": [("Transfer-Encoding", "chunked")], "close": []}
        x.head(200, how[framing])
        for piece in big_pieces():
            (x.chunk if framing == "chunked" else x.send)(piece)
        if framing == "chunked":
            x.last_chunk()
        elif framing == "close":
            x.close()
    _, gw, client = world.gateway(script)
    assert client.ask(request("GET", "/v1/warm")).status == 200
    base = gw.forget_peak()
    digest = hashlib.sha256()
    answer = client.send(request("GET", "/v1/files/x/content")).read(sink=digest.update)
    assert answer.whole and digest.hexdigest() == big_hash()
    assert gw.status("VmHWM") - base < memory_bound(4 << 20)


def test_both_directions_at_once(world):
    """An upstream that answers while it still reads: neither side waits for the other."""
    size = 8 << 20

    @before_body
    def script(x):
        x.head(200, [("Content-Length", str(size))])
        reader = threading.Thread(target=quietly, args=(x.read_body,))
        reader.start()
        x.send(b"d" * (size - 1))
        reader.join(LIMIT)
        x.send(b"d")  # the end comes after the upload's, so that nobody may drop the rest of it
    up, _, client = world.gateway(script)
    sender = threading.Thread(target=client.try_send, args=(post("/v1/files", b"u" * size),))
    sender.start()
    answer = client.read()
    sender.join(LIMIT)
    assert answer.body == b"d" * size
    assert up.only().complete and up.only().length == size


def quietly(call):
    try:
        call()
    except Gone:
        pass


def test_parallel_clients_get_their_own_answers(world):
    def script(x):
        mine = json.loads(bytes(x.request.body))["n"]
        x.stream_head().chunk(event(f"<{mine}>")).chunk(event(f"[{mine}]")).last_chunk()
    _, gw, _ = world.gateway(script)
    clients = [world.connect(gw) for _ in range(30)]
    for turn in range(3):
        for number, client in enumerate(clients):
            client.send(post(CHAT, b'{"stream":true,"n":%d}' % (number + 100 * turn)))
        for number, client in enumerate(clients):
            n = number + 100 * turn
            assert bytes(client.read().body) == event(f"<{n}>") + event(f"[{n}]")
