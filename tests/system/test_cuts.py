# SPDX-License-Identifier: MIT
"""Upstreams that break off, lie, or fall silent. The one rule: a cut answer never looks complete."""
import json
import threading

import pytest

from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, DONE, STREAM, STREAM_REQUEST
from process import timeouts
from rawhttp import Cut, check_error, chunk, events, post, request
from upstream import Gate, before_body, refused_port, says, sends, streams
from waiting import LIMIT

PLAIN_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(CHAT_ANSWER)
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
HALF = CHAT_ANSWER[:100]


def is_upstream_error(answer, status):
    """A whole answer of thaw's own about its upstream."""
    assert answer.status == status, answer
    error = answer.error()
    assert error["type"] == "upstream_error", error
    assert "127.0.0.1" in error["message"], f"the upstream is not named: {error}"
    return error


def ends_as_cut(client, before, code="stream_cut"):
    """The stream that is being read: what came before, then the error event, no [DONE], no end. Returns the error."""
    answer = client.read_cut()
    assert answer.status == 200 and answer["content-type"].startswith("text/event-stream")
    body = bytes(answer.body)
    assert body.startswith(before), body
    assert b"[DONE]" not in body[len(before):] and not answer.whole
    seen = events(body)
    assert seen, f"no event at all: {body!r}"
    document = json.loads(seen[-1][1])
    assert set(document) == {"error"}, document
    error = check_error(document["error"])
    assert error["type"] == "upstream_error" and (code is None or error["code"] == code), error
    return error


def still_works(world, gw, up):
    """Another client is served as if nothing had happened."""
    up.script = says(CHAT_ANSWER)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER


def never_complete(client):
    """Either an error of thaw's own, or a beginning of the upstream's answer that is visibly cut."""
    try:
        answer = client.read_head("POST")
    except Cut:
        return None
    if answer.status == 200:
        with pytest.raises(Cut):
            client.read_rest(answer)
        return answer
    is_upstream_error(client.read_rest(answer), 502)
    return answer


# --- before the head ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Ty", PLAIN_HEAD[:-2]],
                         ids=["nothing", "half_a_line", "half_a_field", "no_empty_line"])
@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_cut_before_the_head_is_complete_is_502(world, how, raw, path):
    up, gw, client = world.gateway(sends(raw, how))
    is_upstream_error(client.ask(post(path, CHAT_REQUEST)), 502)
    assert len(up.requests) == 1, "a call that was sent may have been billed: it is not sent again"
    up.script = says(CHAT_ANSWER)
    assert client.ask(post(path, CHAT_REQUEST)).body == CHAT_ANSWER, "the client's connection goes on"


def test_cut_before_the_head_of_a_stream_is_502(world):
    _, _, client = world.gateway(sends(SSE_HEAD[:40], "reset"))
    is_upstream_error(client.ask(post(CHAT, STREAM_REQUEST)), 502)


def test_cut_while_the_request_is_being_sent(world):
    @before_body
    def script(x):
        x.reset()
    _, gw, client = world.gateway(script)
    client.try_send(post("/v1/files", b"u" * (8 << 20)))
    answer = client.read("POST")
    is_upstream_error(answer, 502)
    assert world.connect(gw).ask(request("GET", "/healthz")).status == 200


NOT_HTTP = {
    "html": b"<html>not http</html>\r\n\r\n",
    "http_0_9": b"hello\n",
    "http_2": b"HTTP/2 200\r\n\r\n",
    "version": b"HTTP/1.9x 200 OK\r\n\r\n",
    "status_text": b"HTTP/1.1 abc OK\r\n\r\n",
    "status_two_digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status_big": b"HTTP/1.1 2000 OK\r\n\r\n",
    "space_in_name": b"HTTP/1.1 200 OK\r\nA B: c\r\nContent-Length: 0\r\n\r\n",
    "no_colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n",
    "nul_in_value": b"HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 0\r\n\r\n",
    "cr_in_value": b"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: x\r\nContent-Length: 0\r\n\r\n",
    "two_lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "length_list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!",
    "length_sign": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "length_hex": b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
    "length_negative": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "length_overflow": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok",
    "length_and_chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "unknown_coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "endless_head": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "many_fields": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 2000 + b"Content-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("name", NOT_HTTP)
def test_what_is_not_http_is_502(world, name):
    up, gw, client = world.gateway(sends(NOT_HTTP[name]))
    answer = client.ask(post(CHAT, CHAT_REQUEST))
    is_upstream_error(answer, 502)
    assert "set-cookie" not in answer.fields and b"nonsense" not in answer.body
    up.wait_gone(up.requests[0])  # that connection is not used again
    still_works(world, gw, up)


def test_a_folded_field_of_an_answer_does_no_harm(world):
    _, _, client = world.gateway(sends(b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n Set-Cookie: b\r\nContent-Length: 2\r\n\r\nok"))
    answer = client.ask(post(CHAT, CHAT_REQUEST))  # the client would not accept a fold
    assert answer.status in (200, 502) and "set-cookie" not in answer.fields


def test_a_blank_before_the_colon_of_an_answer_does_no_harm(world):
    _, _, client = world.gateway(sends(b"HTTP/1.1 200 OK\r\nX-Blank : a\r\nContent-Length : 2\r\n\r\nok", "close"))
    answer = client.ask(post(CHAT, CHAT_REQUEST))
    assert answer.status == 502 or (answer.status == 200 and answer.body == b"ok")


# --- behind the head ----------------------------------------------------------------------------------------------------------

PLAIN_CUTS = {
    "length_no_body": PLAIN_HEAD,
    "length_half": PLAIN_HEAD + HALF,
    "length_one_short": PLAIN_HEAD + CHAT_ANSWER[:-1],
    "chunked_no_body": CHUNKED_HEAD,
    "chunked_half_a_chunk": CHUNKED_HEAD + b"%x\r\n" % len(CHAT_ANSWER) + HALF,
    "chunked_no_last_chunk": CHUNKED_HEAD + chunk(CHAT_ANSWER),
    "chunked_no_crlf": CHUNKED_HEAD + chunk(CHAT_ANSWER)[:-2],
    "chunked_half_the_end": CHUNKED_HEAD + chunk(CHAT_ANSWER) + b"0\r\n",
    "chunked_half_a_trailer": CHUNKED_HEAD + chunk(CHAT_ANSWER) + b"0\r\nX: y\r\n",
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("name", PLAIN_CUTS)
@pytest.mark.parametrize("path", [CHAT, "/v1/files/x/content"])
def test_a_plain_answer_that_was_cut_never_looks_complete(world, how, name, path):
    up, gw, client = world.gateway(sends(PLAIN_CUTS[name], how))
    client.send(post(path, CHAT_REQUEST))
    never_complete(client)
    assert len(up.requests) == 1
    still_works(world, gw, up)


def test_a_plain_answer_that_was_cut_after_the_client_saw_a_part(world):
    gate = Gate()

    def script(x):
        x.send(PLAIN_HEAD + HALF)
        x.wait(gate)
        x.close()
    up, gw, client = world.gateway(script)
    answer = client.send(post(CHAT, CHAT_REQUEST)).read_head()
    client.read_until(answer, HALF)
    gate.open()
    with pytest.raises(Cut):
        client.read_rest(answer)
    assert answer.body == HALF
    still_works(world, gw, up)


def test_a_reset_of_an_answer_delimited_by_the_connections_end(world):
    gate = Gate()

    def script(x):
        x.send(CLOSE_HEAD + HALF)
        x.wait(gate)
        x.reset()
    up, gw, client = world.gateway(script)
    answer = client.send(post(CHAT, CHAT_REQUEST)).read_head()
    client.read_until(answer, HALF)
    gate.open()
    with pytest.raises(Cut):
        client.read_rest(answer)
    still_works(world, gw, up)


BAD_CHUNKS = {
    "not_hex": b"zz\r\n",
    "sign": b"+5\r\nhello\r\n",
    "prefix": b"0x5\r\nhello\r\n",
    "underscore": b"0_5\r\nhello\r\n",
    "negative": b"-1\r\n",
    "too_big": b"11111111111111111\r\n",
    "bare_lf": b"5\nhello\r\n",
    "data_longer": b"3\r\nhello\r\n",
    "empty_line": b"\r\n",
    "blank_before": b" 5\r\nhello\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a_bad_chunk_is_a_cut(world, name):
    up, gw, client = world.gateway(sends(CHUNKED_HEAD + chunk(HALF) + BAD_CHUNKS[name] + b"0\r\n\r\n"))
    client.send(post(CHAT, CHAT_REQUEST))
    never_complete(client)
    up.wait_gone(up.requests[0])
    still_works(world, gw, up)


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a_bad_chunk_in_a_stream_is_a_cut(world, name):
    gate = Gate()

    def script(x):
        x.send(SSE_HEAD + chunk(STREAM[0]))
        x.wait(gate)
        x.send(BAD_CHUNKS[name] + chunk(DONE) + b"0\r\n\r\n")
    up, gw, client = world.gateway(script)
    client.send(post(CHAT, STREAM_REQUEST))
    while STREAM[0] not in client.pending:
        assert client.receive()
    gate.open()
    ends_as_cut(client, STREAM[0])
    still_works(world, gw, up)


# --- streams ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("part", [STREAM[0], b"".join(STREAM[:2]), b"".join(STREAM[:-1]), STREAM[0] + STREAM[1][:30],
                                  STREAM[0] + STREAM[1][:-1], STREAM[0] + b"data: [DO", b": ping\n\n"],
                         ids=["one_event", "two_events", "all_but_done", "half_an_event", "no_blank_line", "half_of_done",
                              "comment_only"])
def test_a_stream_that_was_cut_ends_with_an_error_event(world, how, part):
    gate = Gate()

    def script(x):
        x.stream_head().chunk(part)
        x.wait(gate)
        getattr(x, how)()
    up, gw, client = world.gateway(script)
    client.send(post(CHAT, STREAM_REQUEST))
    while part not in client.pending:
        assert client.receive()
    gate.open()
    ends_as_cut(client, part)
    assert len(up.requests) == 1
    still_works(world, gw, up)


def test_a_stream_with_done_but_without_its_end_is_not_made_whole(world):
    """After [DONE] clients have all they want; still nothing may claim that the body ended properly."""
    gate = Gate()

    def script(x):
        x.stream_head().chunk(b"".join(STREAM))
        x.wait(gate)
        x.reset()
    _, _, client = world.gateway(script)
    client.send(post(CHAT, STREAM_REQUEST))
    while DONE not in client.pending:
        assert client.receive()
    gate.open()
    answer = client.read_cut()
    assert bytes(answer.body).startswith(b"".join(STREAM))


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_stream_that_was_cut_right_after_its_head(world, how):
    _, _, client = world.gateway(sends(SSE_HEAD, how))
    client.send(post(CHAT, STREAM_REQUEST))
    answer = client.read_head("POST")
    if answer.status == 200:  # the head had gone on
        with pytest.raises(Cut):
            client.read_rest(answer)
        assert json.loads(events(answer.body)[-1][1])["error"]["code"] == "stream_cut"
    else:
        is_upstream_error(client.read_rest(answer), 502)


def test_a_stream_that_stops_in_the_middle_of_a_chunk(world):
    gate = Gate()

    def script(x):
        x.send(SSE_HEAD + b"%x\r\n" % (len(STREAM[0]) + 100) + STREAM[0] + b"data: {")
        x.wait(gate)
        x.close()
    _, _, client = world.gateway(script)
    client.send(post(CHAT, STREAM_REQUEST))
    while STREAM[0] not in client.pending:
        assert client.receive()
    gate.open()
    ends_as_cut(client, STREAM[0])


def test_a_stream_with_a_length_that_is_cut(world):
    gate = Gate()

    def script(x):
        x.head(200, [("Content-Type", "text/event-stream"), ("Content-Length", "99999")]).send(STREAM[0])
        x.wait(gate)
        x.close()
    _, _, client = world.gateway(script)
    answer = client.send(post(CHAT, STREAM_REQUEST)).read_head()
    client.read_until(answer, STREAM[0])
    gate.open()
    with pytest.raises(Cut):
        client.read_rest(answer)
    # The missing length says it all; an event of our own could fill it up.
    assert b"[DONE]" not in answer.body and answer.body.startswith(STREAM[0])


def test_a_cut_answer_to_an_http_1_0_client_ends_with_a_reset(world):
    """Its body ends with the connection, so a FIN would say "complete"."""
    gate = Gate()

    def script(x):
        x.send(CHUNKED_HEAD + chunk(HALF))
        x.wait(gate)
        x.close()
    _, _, client = world.gateway(script)
    answer = client.send(post(CHAT, CHAT_REQUEST, version="1.0")).read_head("POST")
    client.read_until(answer, HALF)
    gate.open()
    with pytest.raises(Cut):
        client.read_rest(answer)


def test_one_cut_stream_does_not_touch_the_others(world):
    gate, end = Gate(), Gate()

    def script(x):
        x.stream_head().chunk(STREAM[0])
        if b"cut" in x.request.body:
            x.wait(gate)
            x.reset()
        else:
            x.wait(end)
            x.chunk(b"".join(STREAM[1:])).last_chunk()
    _, gw, client = world.gateway(script)
    others = [world.connect(gw) for _ in range(5)]
    for other in others:
        other.send(post(CHAT, STREAM_REQUEST))
    client.send(post(CHAT, b'{"model":"cut","stream":true}'))
    while STREAM[0] not in client.pending:
        assert client.receive()
    gate.open()
    ends_as_cut(client, STREAM[0])
    end.open()
    for other in others:
        assert other.read().body == b"".join(STREAM)


# --- silence ------------------------------------------------------------------------------------------------------------------------

def with_timeouts(world, script, **values):
    up = world.upstream(script)
    gw = world.serve(config=f"upstreams: {{up: {{url: {up.url}, {timeouts(**values)}}}}}\n")
    return up, gw, world.connect(gw)


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_no_first_byte_in_time_is_504(world, path):
    up, gw, client = with_timeouts(world, lambda x: x.hang(), first_byte="300ms")
    is_upstream_error(client.ask(post(path, CHAT_REQUEST)), 504)
    up.wait_gone(up.only())  # and it was not sent again
    still_works(world, gw, up)


def test_half_a_head_is_no_first_byte(world):
    up, _, client = with_timeouts(world, sends(PLAIN_HEAD[:30], "hang"), first_byte="300ms")
    is_upstream_error(client.ask(post(CHAT, CHAT_REQUEST)), 504)


def test_a_stream_that_falls_silent_ends_with_an_error_event(world):
    def script(x):
        x.stream_head().chunk(STREAM[0])
        x.hang()
    up, _, client = with_timeouts(world, script, between="300ms")
    client.send(post(CHAT, STREAM_REQUEST))
    ends_as_cut(client, STREAM[0], code=None)
    up.wait_gone(up.only())


def drips(piece, pace=0.05):
    """A stream that brings this piece again and again until the gateway has had enough."""
    never = Gate()

    def script(x):
        x.stream_head().chunk(STREAM[0])
        for _ in range(int(LIMIT / pace)):
            if x.connection.ready(never.fd, pace, patient=True) is None:
                x.chunk(piece)
            else:
                x.connection.receive()
        raise AssertionError("the gateway never gave up")
    return script


def test_comments_do_not_count_as_content(world):
    up, _, client = with_timeouts(world, drips(b": ping\n\n"), between="500ms")
    client.send(post(CHAT, STREAM_REQUEST))
    ends_as_cut(client, STREAM[0], code=None)
    up.wait_gone(up.only())


def test_a_plain_answer_that_falls_silent_is_broken_off(world):
    up, _, client = with_timeouts(world, sends(PLAIN_HEAD + HALF, "hang"), between="300ms")
    client.send(post(CHAT, CHAT_REQUEST))
    answer = client.read_head("POST")
    if answer.status == 200:
        with pytest.raises(Cut):
            client.read_rest(answer)
    else:
        is_upstream_error(client.read_rest(answer), 504)
    up.wait_gone(up.only())


def test_a_call_that_takes_too_long_in_all(world):
    up, _, client = with_timeouts(world, drips(STREAM[1]), total="700ms")
    client.send(post(CHAT, STREAM_REQUEST))
    ends_as_cut(client, STREAM[0], code=None)
    up.wait_gone(up.only())


# --- connecting -----------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_a_refused_connection_is_502_and_names_the_upstream(world, path):
    holder, port = refused_port()
    world.other.append(holder)
    gw = world.serve(config=f"upstreams: {{up: {{url: 'http://127.0.0.1:{port}/v1', key: '${{KEY}}'}}}}\n",
                     env={"KEY": "sk-canary-upstream"})
    client = world.connect(gw)
    for _ in range(2):
        answer = client.ask(post(path, CHAT_REQUEST))
        error = is_upstream_error(answer, 502)
        assert str(port) in error["message"] or "up" in error["message"].split()
        assert b"canary" not in answer.body
    assert client.ask(request("GET", "/healthz")).status == 200


def test_a_name_that_does_not_resolve_is_502(world):
    client = world.connect(world.serve("http://no-such-host.invalid/v1"))
    answer = client.ask(post(CHAT, CHAT_REQUEST))
    assert answer.status == 502 and "no-such-host.invalid" in answer.error()["message"]


def test_a_connection_nobody_accepts_is_an_error_in_time(world):
    """The backlog is full: connecting hangs, as with a host that drops packets."""
    import socket
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    world.other.append(listener)
    fillers = []
    for _ in range(3):  # non-blocking: the first are queued, the rest hang
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    world.other += fillers
    gw = world.serve(config=f"""
        upstreams:
          up: {{url: 'http://127.0.0.1:{listener.getsockname()[1]}/v1', {timeouts(connect='300ms')}}}
    """)
    answer = world.connect(gw).ask(post(CHAT, CHAT_REQUEST))
    assert answer.status in (502, 504) and answer.error()["type"] == "upstream_error"


# --- connections that are used again -----------------------------------------------------------------------------------------------------

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@pytest.mark.parametrize("extra", [EVIL, b"x", b"\r\n", b"x" * 100000], ids=["an_answer", "a_byte", "a_line", "many"])
def test_bytes_behind_an_answer_never_reach_the_next_client(world, extra):
    def script(x):
        x.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + (extra if x.number == 0 else b""))
    up, gw, client = world.gateway(script)
    assert client.ask(post(CHAT, CHAT_REQUEST)).body == b"ok"
    for _ in range(3):
        assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == b"ok"
    assert client.ask(post(CHAT, CHAT_REQUEST)).body == b"ok"
    if extra != b"\r\n":
        assert up.requests[1].connection is not up.requests[0].connection


def test_bytes_on_an_idle_connection_never_reach_the_next_client(world):
    gate = Gate()

    def script(x):
        x.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if x.number == 0:
            x.wait(gate)
            x.send(EVIL)
    up, gw, client = world.gateway(script)
    assert client.ask(post(CHAT, CHAT_REQUEST)).body == b"ok"
    gate.open()
    up.wait_gone(up.requests[0])
    assert client.ask(post(CHAT, CHAT_REQUEST)).body == b"ok"
    assert len(up.connections) == 2


def test_bytes_behind_the_answer_to_head_never_reach_the_next_client(world):
    """The upstream wrongly sends the body."""
    def script(x):
        if x.request.method == "HEAD":
            x.send(EVIL)
        else:
            x.answer(200, b"right")
    up, gw, client = world.gateway(script)
    assert client.ask(request("HEAD", "/v1/x")).status == 200
    assert client.ask(request("GET", "/v1/x")).body == b"right"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_idle_connection_that_died_is_not_used(world, how):
    gates = [Gate() for _ in range(5)]

    def script(x):
        x.answer(200, CHAT_ANSWER)
        x.wait(gates[x.number])  # until the client has the answer: a reset may destroy what is on its way
        getattr(x, how)()
    up, _, client = world.gateway(script)
    for number in range(5):
        assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
        gates[number].open()
        up.wait(lambda: up.requests[number].connection.over, "the upstream to end the connection")
    assert len(up.requests) == 5


REQUESTS = {"chat": post(CHAT, CHAT_REQUEST), "chat_chunked": post(CHAT, [CHAT_REQUEST]), "stream": post(CHAT, STREAM_REQUEST),
            "get": request("GET", "/v1/files"), "delete": request("DELETE", "/v1/files/x")}


def dies_as_it_is_used(world, how, data, afterwards):
    """An idle upstream connection that ends at the moment the next request comes: the gateway is stopped, gets the
    request, then the connection's end, and goes on. No program at the upstream sees that request on that connection;
    on a new one `afterwards` answers. Returns (upstream, client) with the request sent."""
    gate = Gate()

    def script(x):
        if x.number:
            return afterwards(x)
        x.answer(200, CHAT_ANSWER)
        x.wait(gate)
        return getattr(x, how)()
    up, gw, client = world.gateway(script)
    assert client.ask(data).body == CHAT_ANSWER
    gw.freeze()
    client.send(data)
    gate.open()
    up.wait(lambda: up.requests[0].connection.over, "the upstream to end the connection")
    gw.thaw()
    return up, client


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("how", ["drop", "reset"])
def test_a_connection_that_dies_as_it_is_used_is_retried_unnoticed(world, how, name):
    up, client = dies_as_it_is_used(world, how, REQUESTS[name], says(b"again"))
    assert client.read().body == b"again"
    assert len(up.requests) == len(up.connections) == 2
    if b"POST" in REQUESTS[name]:
        assert up.requests[1].body == up.requests[0].body and up.requests[1].complete


@pytest.mark.parametrize("how", ["drop", "reset"])
def test_such_a_retry_is_made_once(world, how):
    def dies_too(x):
        x.drop()
    up, client = dies_as_it_is_used(world, how, post(CHAT, CHAT_REQUEST), dies_too)
    is_upstream_error(client.read("POST"), 502)
    assert len(up.requests) == 2


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_was_read_on_a_reused_connection(world, name):
    """Read whole and then dropped without an answer: a POST may have been billed and is not sent again, what RFC 9110
    calls idempotent may be."""
    def script(x):
        if x.number == 1:
            x.close()
        else:
            x.answer(200, CHAT_ANSWER)
    up, gw, client = world.gateway(script)
    data = REQUESTS[name]
    assert client.ask(data).body == CHAT_ANSWER
    answer = client.ask(data)
    if b"POST" in data:
        is_upstream_error(answer, 502)
        assert len(up.requests) == 2
    elif answer.status != 200:
        is_upstream_error(answer, 502)
    assert client.ask(data).body == CHAT_ANSWER


@pytest.mark.parametrize("how", ["drop", "reset"])
def test_an_upload_that_meets_a_dead_connection_is_repeated_whole_or_not_at_all(world, how):
    """Its body is not kept, so there may be nothing to send again."""
    seen = set()

    @before_body
    def script(x):
        if x.connection.number in seen:
            getattr(x, how)()
        else:
            seen.add(x.connection.number)
            x.read_body()
            x.answer(200, CHAT_ANSWER)
    up, gw, client = world.gateway(script)
    body = b"u" * 3_000_000
    assert client.ask(post("/v1/files", b"first")).body == CHAT_ANSWER
    client.try_send(post("/v1/files", body))
    answer = client.read("POST")
    if answer.status == 200:
        assert up.requests[-1].complete and up.requests[-1].length == len(body)
    else:
        is_upstream_error(answer, 502)
    still_works(world, gw, up)


def test_a_reused_connection_that_dies_after_a_byte_is_not_retried(world):
    def script(x):
        if x.number == 0:
            x.answer(200, CHAT_ANSWER)
        else:
            x.send(b"HTTP/1.1 200")
            x.close()
    up, _, client = world.gateway(script)
    assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    is_upstream_error(client.ask(post(CHAT, CHAT_REQUEST)), 502)
    assert len(up.requests) == 2


# --- answers that come early ------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("then", ["keep", "close"])
def test_an_answer_before_the_upload_is_over(world, then):
    """413 while the client still sends: it gets the answer, and the rest of the upload does no harm."""
    @before_body
    def script(x):
        x.answer(413, b'{"error":{"message":"too much"}}', [("Connection", "close")] if then == "close" else [])
        if then == "close":
            x.close()
    up, gw, client = world.gateway(script)
    sender = threading.Thread(target=client.try_send, args=(post("/v1/files", b"u" * (4 << 20)),))
    sender.start()
    answer = client.read("POST")
    assert answer.status == 413 and answer.body == b'{"error":{"message":"too much"}}'
    sender.join()
    still_works(world, gw, up)


def test_streams_without_an_end_can_still_be_told_from_whole_ones(world):
    """The control: the same stream, ended properly, is whole."""
    _, _, client = world.gateway(streams(STREAM))
    assert client.ask(post(CHAT, STREAM_REQUEST)).whole
