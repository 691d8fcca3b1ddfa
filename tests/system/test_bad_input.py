# SPDX-License-Identifier: MIT
"""Hostile and broken requests: the answers facts/faults.md gives (A01-A19, A31, A32, A35), and nothing forwarded.

Every request carries secrets; no answer may repeat them. Behind every request whose framing is broken a second,
well-formed one is sent in the same write: it must never be parsed (A14).
"""
import hashlib
import json
import re

import pytest

from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, PROMPT
from process import memory_bound, timeouts
from rawhttp import Cut, chunk, post, request
from upstream import before_body, says

SECRET = "sk-canary-of-the-client"
AUTH = f"Authorization: Bearer {SECRET}\r\n".encode()
BODY = b'{"model":"m","messages":[{"role":"user","content":"' + PROMPT.encode() + b'"}]}'
SMUGGLED = post("/v1/files/smuggled", b"x")


def check_error_answer(answer, statuses):
    assert answer.status in statuses, answer
    error = answer.error()
    assert "canary" not in repr(answer), f"the answer repeats what was sent: {answer!r}"
    return error


@pytest.fixture
def target(world):
    """(upstream, gateway, client) for requests that must not reach the upstream."""
    up, gw, client = world.gateway(says(CHAT_ANSWER))
    yield up, gw, client
    assert not up.requests, f"the upstream saw {up.requests}"
    assert not up.received(), "the upstream saw bytes"
    assert world.connect(gw).ask(post(CHAT, BODY)).body == CHAT_ANSWER, "others are served as before"


def refuse(target, raw, *statuses, smuggled=SMUGGLED, method="POST"):
    """This request gets an error answer, then the connection is closed without another word."""
    _, _, client = target
    client.try_send(raw + smuggled)
    answer = client.read(method)
    check_error_answer(answer, statuses)
    assert "close" in answer.fields.tokens("connection"), answer
    client.closed()
    return answer


def head(*lines, start=b"POST " + CHAT.encode() + b" HTTP/1.1", host=b"Host: thaw.test"):
    """A head from raw lines, with secrets in it."""
    return b"\r\n".join([start, *([host] if host else []), AUTH.strip(), b"Content-Type: application/json", *lines, b"", b""])


CL = b"Content-Length: %d" % len(BODY)
TE = b"Transfer-Encoding: chunked"
CHUNKED = chunk(BODY) + b"0\r\n\r\n"
PATHS = [CHAT, "/v1/files"]


def on(path, raw):
    return raw.replace(b"POST " + CHAT.encode(), b"POST " + path.encode(), 1)


# --- A01-A04: how long is the body? ---------------------------------------------------------------------------------------

FRAMING = {
    "A01_length_and_chunked": (head(CL, TE) + CHUNKED, 400),
    "A01_chunked_and_length": (head(TE, CL) + CHUNKED, 400),
    "A01_zero_length_and_chunked": (head(b"Content-Length: 0", TE) + CHUNKED, 400),
    "A02_identity": (head(b"Transfer-Encoding: identity") + CHUNKED, 400, 501),
    "A02_chunked_then_identity": (head(b"Transfer-Encoding: chunked, identity") + CHUNKED, 400, 501),
    "A02_xchunked": (head(b"Transfer-Encoding: xchunked") + CHUNKED, 400, 501),
    "A02_gzip_chunked": (head(b"Transfer-Encoding: gzip, chunked") + CHUNKED, 400, 501),
    "A02_two_lines": (head(TE, TE) + CHUNKED, 400, 501),
    "A02_two_lines_other": (head(TE, b"Transfer-Encoding: x") + CHUNKED, 400, 501),
    "A02_chunked_twice": (head(b"Transfer-Encoding: chunked, chunked") + CHUNKED, 400, 501),
    "A02_empty": (head(b"Transfer-Encoding:") + CHUNKED, 400, 501),
    "A02_comma": (head(b"Transfer-Encoding: , chunked") + CHUNKED, 400, 501),
    "A02_parameter": (head(b"Transfer-Encoding: chunked;a=b") + CHUNKED, 400, 501),
    "A02_quoted": (head(b'Transfer-Encoding: "chunked"') + CHUNKED, 400, 501),
    "A02_vertical_tab": (head(b"Transfer-Encoding: \x0bchunked") + CHUNKED, 400, 501),
    "A02_with_length": (head(b"Transfer-Encoding: xchunked", CL) + BODY, 400, 501),
    "A03_chunked_in_http_1_0": (head(TE, start=b"POST /v1/chat/completions HTTP/1.0") + CHUNKED, 400),
    "A04_twice_different": (head(CL, b"Content-Length: 5") + BODY, 400),
    "A04_twice_equal": (head(CL, CL) + BODY, 400),
    "A04_list": (head(CL + b", %d" % len(BODY)) + BODY, 400),
    "A04_list_blank": (head(b"Content-Length: 5 5") + BODY, 400),
    "A04_plus": (head(b"Content-Length: +%d" % len(BODY)) + BODY, 400),
    "A04_minus": (head(b"Content-Length: -1") + BODY, 400),
    "A04_hex": (head(b"Content-Length: 0x5") + BODY, 400),
    "A04_float": (head(b"Content-Length: 5.0") + BODY, 400),
    "A04_exponent": (head(b"Content-Length: 1e1") + BODY, 400),
    "A04_empty": (head(b"Content-Length:") + BODY, 400),
    "A04_letters": (head(b"Content-Length: five") + BODY, 400),
    "A04_trailing_letter": (head(CL + b"x") + BODY, 400),
    "A04_overflow_64": (head(b"Content-Length: 18446744073709551621") + BODY, 400, 413),
    "A04_overflow_63": (head(b"Content-Length: 9223372036854775808") + BODY, 400, 413),
    "A04_overflow_far": (head(b"Content-Length: " + b"9" * 400) + BODY, 400, 413),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", FRAMING)
def test_ambiguous_framing_is_refused(target, path, name):
    raw, *statuses = FRAMING[name]
    refuse(target, on(path, raw), *statuses)


# --- A05-A08, A13: the head's lines ------------------------------------------------------------------------------------------

LINES = {
    "A05_fold": head(CL, b"X-A: b", b" folded") + BODY,
    "A05_fold_tab": head(CL, b"X-A: b", b"\tfolded") + BODY,
    "A05_fold_of_length": head(b"Content-Length:", b" %d" % len(BODY)) + BODY,
    "A06_space_before_colon": head(CL, b"X-A : b") + BODY,
    "A06_tab_before_colon": head(CL, b"X-A\t: b") + BODY,
    "A06_length_with_space": head(b"Content-Length : %d" % len(BODY)) + BODY,
    "A07_space_before_first_field": head(CL, host=b" Host: thaw.test") + BODY,
    "A07_tab_before_first_field": head(CL, host=b"\tHost: thaw.test") + BODY,
    "A08_bare_lf_in_fields": head(CL, b"X-A: b\nX-C: d") + BODY,
    "A08_bare_lf_start_line": head(CL).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n", 1) + BODY,
    "A08_bare_lf_at_the_end": head(CL)[:-2] + b"\n" + BODY,
    "A08_all_bare_lf": head(CL).replace(b"\r\n", b"\n") + BODY,
    "A08_bare_cr_in_value": head(CL, b"X-A: b\rX-C: d") + BODY,
    "A08_bare_cr_as_line_end": head(CL, b"X-A: b\r\rX-C: d") + BODY,
    "A08_bare_cr_in_start_line": head(CL, start=b"POST /v1/chat/completions\rHTTP/1.1") + BODY,
    "A13_nul_in_name": head(CL, b"X-\0A: b") + BODY,
    "A13_control_in_name": head(CL, b"X-\x01A: b") + BODY,
    "A13_eight_bit_name": head(CL, b"X-\xe9: b") + BODY,
    "A13_blank_in_name": head(CL, b"X A: b") + BODY,
    "A13_empty_name": head(CL, b": b") + BODY,
    "A13_no_colon": head(CL, b"nonsense") + BODY,
    "A13_nul_in_value": head(CL, b"X-A: b\0c") + BODY,
    "A13_control_in_value": head(CL, b"X-A: b\x01c") + BODY,
    "A13_del_in_value": head(CL, b"X-A: b\x7fc") + BODY,
    "start_two_blanks": head(CL, start=b"POST  /v1/chat/completions HTTP/1.1") + BODY,
    "start_tab": head(CL, start=b"POST\t/v1/chat/completions HTTP/1.1") + BODY,
    "start_blank_in_target": head(CL, start=b"POST /v1/chat completions HTTP/1.1") + BODY,
    "start_no_target": head(CL, start=b"POST HTTP/1.1") + BODY,
    "start_trailing_blank": head(CL, start=b"POST /v1/chat/completions HTTP/1.1 ") + BODY,
    "start_eight_bit_target": head(CL, start=b"POST /v1/chat/\xe9 HTTP/1.1") + BODY,
    "start_nul_target": head(CL, start=b"POST /v1/chat/\0 HTTP/1.1") + BODY,
    "start_relative_target": head(CL, start=b"POST v1/chat/completions HTTP/1.1") + BODY,
    "start_garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50 + b"\r\n\r\n",
    "start_lower_case_version": head(CL, start=b"POST /v1/chat/completions http/1.1") + BODY,
}


@pytest.mark.parametrize("name", LINES)
def test_a_malformed_head_is_400(target, name):
    raw = LINES[name]
    refuse(target, raw, *([400, 501] if name == "start_garbage" else [400]))


@pytest.mark.parametrize("version", [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/11", b"HTTP/1", b"HTTQ/1.1"])
def test_another_version_is_refused(target, version):
    refuse(target, head(CL, start=b"POST /v1/chat/completions " + version) + BODY, 400, 505)


def test_a_request_without_a_version_is_refused(target):
    _, _, client = target
    client.send(b"GET /v1/models\r\n\r\n")
    try:
        check_error_answer(client.read(), [400, 505])
    except Cut:
        pass  # HTTP/0.9 knows no status: just closing is an answer, too
    client.closed()


# --- A09: chunks ----------------------------------------------------------------------------------------------------------------

CHUNKS = {
    "prefix": b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "underscore": b"0_%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "plus": b"+%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "minus": b"-1\r\n%s\r\n0\r\n\r\n" % BODY,
    "seventeen_digits": b"10000000000000005\r\n%s\r\n0\r\n\r\n" % BODY,
    "sixteen_digits": b"ffffffffffffffff\r\n%s\r\n0\r\n\r\n" % BODY,
    "over_2_53": b"20000000000001\r\n%s\r\n0\r\n\r\n" % BODY,
    "not_hex": b"xyz\r\n%s\r\n0\r\n\r\n" % BODY,
    "empty_size": b"\r\n%s\r\n0\r\n\r\n" % BODY,
    "blank_before": b" %x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "bare_lf_after_size": b"%x\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "bare_cr_after_size": b"%x\r%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "no_crlf_after_data": b"%x\r\n%s0\r\n\r\n" % (len(BODY), BODY),
    "bare_lf_after_data": b"%x\r\n%s\n0\r\n\r\n" % (len(BODY), BODY),
    "junk_after_data": b"%x\r\n%sXX0\r\n\r\n" % (len(BODY), BODY),
    "lf_in_extension": b"%x;a\nb\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "cr_in_extension": b"%x;a\rb\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "nul_in_extension": b"%x;a\0b\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "bare_lf_at_the_end": b"%x\r\n%s\r\n0\r\n\n" % (len(BODY), BODY),
    "bad_trailer": b"%x\r\n%s\r\n0\r\nX A: b\r\n\r\n" % (len(BODY), BODY),
    "folded_trailer": b"%x\r\n%s\r\n0\r\nX: b\r\n c\r\n\r\n" % (len(BODY), BODY),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_a_bad_chunk_is_400(target, name):
    refuse(target, head(TE) + CHUNKS[name], 400, 413)


@pytest.mark.parametrize("name", CHUNKS)
def test_a_bad_chunk_of_an_upload_never_makes_a_whole_request(world, name):
    """An upload streams, so its beginning may have gone on; it must never look finished."""
    up, gw, client = world.gateway(says(CHAT_ANSWER))
    client.try_send(on("/v1/files", head(TE)) + CHUNKS[name] + SMUGGLED)
    check_error_answer(client.read("POST"), [400, 413])
    client.closed()
    up.wait(lambda: all(c.closed for c in up.connections), "the begun upload to be dropped")
    assert not any(r.complete for r in up.requests) and len(up.requests) <= 1
    assert world.connect(gw).ask(post(CHAT, BODY)).body == CHAT_ANSWER


def test_chunk_extensions_are_ignored(world):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    answer = client.ask(head(TE) + b"000%x;a=b;c=\"d;e\"\r\n%s\r\n0;x\r\n\r\n" % (len(BODY), BODY), "POST")
    assert answer.status == 200 and up.only().body == BODY and b"a=b" not in up.received()


@pytest.mark.parametrize("extensions", [b"5;" + b"x" * (1 << 20) + b"\r\nhello\r\n", (b"1;" + b"y" * 200 + b"\r\n \r\n") * 5000],
                         ids=["one_of_a_megabyte", "many"])
def test_a_megabyte_of_chunk_extensions_is_refused(target, extensions):
    refuse(target, head(TE) + extensions + b"0\r\n\r\n", 400, 413, 431)


def test_a_megabyte_of_trailers_is_refused(target):
    refuse(target, head(TE) + chunk(BODY) + b"0\r\n" + b"X-Trailer: yyyyyyyyyyyyyyyy\r\n" * 40000 + b"\r\n", 400, 413, 431)


def test_a_body_in_tiny_chunks(world):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    body = b'{"model":"m","x":"' + b"x" * 20000 + b'"}'
    assert client.ask(post(CHAT, [body[i:i + 1] for i in range(len(body))])).status == 200
    assert up.only().body == body


# --- A11, A12: Host ---------------------------------------------------------------------------------------------------------------

HOSTS = {
    "A11_missing": head(CL, host=None),
    "A11_two": head(CL, b"Host: other.test"),
    "A11_two_equal": head(CL, b"Host: thaw.test"),
    "A12_question_mark": head(CL, host=b"Host: thaw.test?x"),
    "A12_hash": head(CL, host=b"Host: thaw.test#x"),
    "A12_slash": head(CL, host=b"Host: thaw.test/v1/x"),
    "A12_at": head(CL, host=b"Host: a@thaw.test"),
    "A12_backslash": head(CL, host=b"Host: thaw.test\\x"),
    "A12_blank": head(CL, host=b"Host: thaw test"),
    "A12_list": head(CL, host=b"Host: a.test, b.test"),
    "A12_bad_port": head(CL, host=b"Host: thaw.test:80x"),
    "A12_open_bracket": head(CL, host=b"Host: [::1"),
}


@pytest.mark.parametrize("name", HOSTS)
def test_a_bad_host_is_400(target, name):
    refuse(target, HOSTS[name] + BODY, 400)


@pytest.mark.parametrize("host", ["thaw.test", "thaw.test:8080", "127.0.0.1", "[::1]:8080", "[::1]", "LOCALHOST", "a-b.c_d.test"])
def test_a_good_host_is_fine(world, host):
    assert world.gateway(says(CHAT_ANSWER))[2].ask(post(CHAT, BODY, host=host)).status == 200


def test_an_absolute_target_needs_host_too(target):
    refuse(target, head(CL, start=b"POST http://thaw.test/v1/chat/completions HTTP/1.1", host=None) + BODY, 400)


@pytest.mark.parametrize("start", [b"http://a@b/v1/chat/completions", b"http:///v1/chat/completions", b"ftp://a/v1/chat/completions",
                                   b"http://a#/v1/chat/completions"])
def test_a_bad_absolute_target_is_400(target, start):
    refuse(target, head(CL, start=b"POST " + start + b" HTTP/1.1") + BODY, 400, 404)


# --- A14 ------------------------------------------------------------------------------------------------------------------------------

def test_nothing_behind_a_framing_error_is_read(target):
    """refuse() sends a well-formed request behind every broken one; here it comes in a write of its own."""
    up, _, client = target
    client.send(head(CL, TE) + CHUNKED)
    check_error_answer(client.read("POST"), [400])
    client.try_send(SMUGGLED)
    client.closed()


# --- A16: Expect ------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("expect", ["200-ok", "100-continue, x", "x", "100-continue=1"])
def test_another_expectation_is_417(target, expect):
    _, _, client = target
    client.send(post(CHAT, BODY, [("Expect", expect), ("Authorization", f"Bearer {SECRET}")]))
    check_error_answer(client.read("POST"), [417])


def test_expect_with_an_empty_body_does_not_desynchronise(world):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    client.send(request("POST", "/v1/files", [("Expect", "100-continue"), ("Content-Length", "0")]) + post(CHAT, BODY))
    assert client.read("POST").body == CHAT_ANSWER
    assert client.read("POST").body == CHAT_ANSWER
    assert [(r.target, bytes(r.body)) for r in up.requests] == [("/v1/files", b""), (CHAT, BODY)]


@pytest.mark.parametrize("raw,status", [
    (request("POST", CHAT, [("Expect", "100-continue"), ("Content-Length", str(1 << 40))]), 413),
    (request("POST", CHAT, [("Expect", "100-continue"), ("Content-Length", "9"), ("Content-Type", "text/plain")]), 415),
    (request("POST", "/nothing", [("Expect", "100-continue"), ("Content-Length", "9")]), 404),
])
def test_a_final_answer_instead_of_100(target, raw, status):
    """The client is told at once and need not send the body; since it may, the connection cannot be used again."""
    _, _, client = target
    client.send(raw)
    answer = client.read("POST")
    check_error_answer(answer, [status])
    assert not answer.interim and "close" in answer.fields.tokens("connection")
    client.closed()


# --- A17: other protocols and methods ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("start", [b"CONNECT thaw.test:443 HTTP/1.1", b"CONNECT /v1/files HTTP/1.1", b"TRACE /v1/files HTTP/1.1",
                                   b"TRACE /healthz HTTP/1.1"])
def test_connect_and_trace_are_refused(target, start):
    _, _, client = target
    client.send(head(start=start))
    check_error_answer(client.read("GET"), [400, 405, 501])


@pytest.mark.parametrize("method", ["BREW", "get", "POSTT"])
def test_an_unknown_method_is_refused(target, method):
    _, _, client = target
    client.send(head(start=f"{method} {CHAT} HTTP/1.1".encode()))
    check_error_answer(client.read("GET"), [400, 405, 501])


@pytest.mark.parametrize("fields", [
    [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")],
    [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x")],
], ids=["h2c", "websocket"])
def test_an_upgrade_is_ignored(world, fields):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    for _ in range(2):
        assert client.ask(post(CHAT, BODY, fields)).body == CHAT_ANSWER
    assert "upgrade" not in up.requests[0].fields and "http2-settings" not in up.requests[0].fields


# --- A18: paths ----------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", [
    "//v1/chat/completions", "/v1//chat/completions", "/v1/../v1/chat/completions", "/v1/x/../chat/completions", "/v1/./files",
    "/v1/..", "/v1/files/..", "/v1/%2e%2e/admin", "/v1/%2E./x", "/v1/.%2e/x", "/v1/%2e/files", "/v1/files/%00", "/%76%31/chat/completions",
    "/v1/chat%2fcompletions", "/v1%2fchat/completions", "/v1\\chat\\completions", "/v1/files/..%2f..%2fadmin", "/v1/files/..\\x",
    "/v1/chat/completions;x=1", "/v1;x/chat/completions", "/V1/chat/completions", "/healthz/", "/healthz;x", "/./healthz", "/%68ealthz",
])
def test_path_tricks_are_not_followed(target, path):
    _, _, client = target
    client.send(post(path, BODY, [("Authorization", f"Bearer {SECRET}")]))
    check_error_answer(client.read("POST"), [400, 404])


def test_a_long_target_is_414(target):
    refuse(target, head(CL, start=b"POST /v1/files/" + b"x" * 65536 + b" HTTP/1.1") + BODY, 414)


def test_a_target_of_four_kilobytes_is_fine(world):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    path = "/v1/files/" + "x" * 4096
    assert client.ask(request("GET", path)).status == 200 and up.only().target == path


# --- A19: size of the head ---------------------------------------------------------------------------------------------------------------------

def fields(count):
    """This many in all, with the three that head() writes and the length."""
    return [b"X-%d: y" % n for n in range(count - 4)] + [CL]


def test_a_hundred_fields_are_fine_and_one_more_is_431(world):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    assert client.ask(head(*fields(100)) + BODY, "POST").status == 200
    assert len([n for n, _ in up.only().fields if n.lower().startswith("x-") and n[2:].isdigit()]) == 96
    client.try_send(head(*fields(101)) + BODY + SMUGGLED)
    check_error_answer(client.read("POST"), [431])
    client.closed()
    assert len(up.requests) == 1


def test_thirty_kilobytes_of_head_are_fine(world):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    assert client.ask(head(CL, b"X-A: " + b"y" * 30000) + BODY, "POST").status == 200
    assert up.only()["x-a"] == "y" * 30000


@pytest.mark.parametrize("lines", [[b"X-A: " + b"y" * 33000], [b"X-A: " + b"y" * (1 << 20)], [b"X-%d: y" % n for n in range(10_000)],
                                   [b"Y" * 40000 + b": y"], [b"X-A: " + b"y" * 500] * 80],
                         ids=["33_kilobytes", "a_megabyte", "10000_fields", "a_long_name", "together"])
def test_a_larger_head_is_431_and_costs_nothing(target, lines):
    _, gw, client = target
    assert client.ask(request("GET", "/healthz")).status == 200
    base = gw.forget_peak()
    refuse(target, head(CL, *lines) + BODY, 431)
    assert gw.status("VmHWM") - base < memory_bound(1 << 20)


def test_the_limits_are_settings(world):
    up = world.upstream(says(CHAT_ANSWER))
    gw = world.serve(config=f"max_head: 2k\nmax_fields: 10\nupstreams: {{up: {{url: {up.url}}}}}\n")
    assert world.connect(gw).ask(head(*fields(10)) + BODY, "POST").status == 200
    for raw in (head(*fields(11)), head(CL, b"X-A: " + b"y" * 2048)):
        client = world.connect(gw)
        client.try_send(raw + BODY)
        check_error_answer(client.read("POST"), [431])
        client.closed()
    assert len(up.requests) == 1


def test_a_slow_head_is_408(world):
    up = world.upstream()
    gw = world.serve(config=f"{timeouts(header='300ms')}\nupstreams: {{up: {{url: {up.url}}}}}\n")
    client = world.connect(gw)
    client.send(head(CL)[:50])
    check_error_answer(client.read("POST"), [408])
    client.closed()
    assert not up.requests
    assert world.connect(gw).ask(post(CHAT, BODY)).status == 200


def test_a_client_that_says_nothing_does_no_harm(world):
    up = world.upstream()
    gw = world.serve(config=f"{timeouts(header='300ms', idle='300ms')}\nupstreams: {{up: {{url: {up.url}}}}}\n")
    silent, used = world.connect(gw), world.connect(gw)
    assert used.ask(post(CHAT, BODY)).status == 200
    silent.closed()  # without an answer to a request that was never begun
    used.closed()


# --- A31: JSON ---------------------------------------------------------------------------------------------------------------------------------------

def with_model(rest):
    return b'{"model":"m",' + rest + b"}"


NOT_JSON = {
    "empty": b"",
    "blanks": b" \n",
    "truncated": b'{"model":"m"',
    "garbage_behind": b'{"model":"m"}x',
    "two_documents": b'{"model":"m"}{"model":"m"}',
    "trailing_comma": b'{"model":"m",}',
    "trailing_comma_in_list": with_model(b'"a":[1,]'),
    "single_quotes": b"{'model':'m'}",
    "no_quotes": b'{model:"m"}',
    "comment": b'{"model":"m"/*x*/}',
    "bom": b"\xef\xbb\xbf" + b'{"model":"m"}',
    "utf16": '{"model":"m"}'.encode("utf-16"),
    "nul": b'{"model":"m"}\0',
    "nul_in_string": b'{"model":"m\0"}',
    "newline_in_string": b'{"model":"m\n"}',
    "invalid_utf8": with_model(b'"a":"\xff"'),
    "overlong_utf8": with_model(b'"a":"\xc0\xaf"'),
    "utf8_surrogate": with_model(b'"a":"\xed\xa0\x80"'),
    "cut_utf8": with_model(b'"a":"\xe4\xbd"'),
    "bad_escape": with_model(b'"a":"\\x41"'),
    "leading_zero": with_model(b'"a":01'),
    "plus": with_model(b'"a":+1'),
    "nan": with_model(b'"a":NaN'),
    "infinity": with_model(b'"a":Infinity'),
    "bare_point": with_model(b'"a":1.'),
    "upper_case_true": with_model(b'"a":True'),
    "only_a_bracket": b"[",
    "depth_65": with_model(b'"a":' + b"[" * 64 + b"]" * 64),
    "depth_bomb": with_model(b'"a":' + b"[" * 1_000_000),
    "depth_bomb_objects": with_model(b'"a":' + b'{"a":' * 200_000),
}


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_json_is_400(target, path, name):
    _, gw, client = target
    for _ in range(2):  # the message was whole: the connection goes on
        answer = client.ask(post(path, NOT_JSON[name], [("Authorization", f"Bearer {SECRET}")]))
        error = check_error_answer(answer, [400])
        assert error["type"] == "invalid_request_error", error
        if name not in ("empty", "blanks", "depth_65", "depth_bomb", "depth_bomb_objects"):
            assert re.search(r"(?i)(line|column|position|byte|offset)\D{0,3}\d+", error["message"]), error


def test_the_position_is_right(target):
    _, _, client = target
    answer = client.ask(post(CHAT, b'{\n  "model": "m",\n  "n": x\n}'))
    message = check_error_answer(answer, [400])["message"]
    assert re.search(r"(?i)line 3\D+8\b", message) or re.search(r"\b2[456]\b", message), message


def test_the_input_is_not_echoed(target):
    _, _, client = target
    for body in (b'{"model":"m", "x": %s}' % SECRET.encode(), b'{"%s": 1,}' % SECRET.encode(), SECRET.encode() * 1000,
                 b'{"model":"m","model":"%s"}' % SECRET.encode(), b'{"model":{"a":"%s"}}' % SECRET.encode()):
        check_error_answer(client.ask(post(CHAT, body)), [400])


@pytest.mark.parametrize("name,body", [
    ("depth_64", with_model(b'"a":' + b"[" * 63 + b"]" * 63)),
    ("escapes", with_model(b'"a":"\\u00e9\\ud83d\\ude00\\n\\/\\b"')),
    ("numbers", with_model(b'"a":[0,-0,1.50,1E5,-1e-7,12345678901234567890,0.1e1]')),
    ("blanks", b" \t\r\n{ \"model\"\n:\t\"m\" } \r\n"),
    ("empty_key", with_model(b'"":1')),
    ("duplicates_that_decide_nothing", with_model(b'"metadata":1,"metadata":2,"a":{"model":"x","model":"y"}')),
    ("nul_escape", with_model(b'"a":"\\u0000"')),
])
def test_odd_but_valid_json_goes_on_byte_for_byte(world, name, body):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    assert client.ask(post(CHAT, body)).status == 200
    assert up.only().body == body


@pytest.mark.parametrize("name,body", [
    ("a_million_digits", with_model(b'"a":' + b"9" * 1_000_000)),
    ("infinite_number", with_model(b'"a":1e999')),
    ("lone_surrogate", with_model(b'"a":"\\ud800"')),
    ("a_million_keys", b'{"model":"m"' + b"".join(b',"k%d":0' % n for n in range(1_000_000)) + b"}"),
    ("a_million_elements", with_model(b'"a":[' + b"0," * 1_000_000 + b"0]")),
])
def test_json_bombs_are_refused_or_relayed_and_bounded(world, name, body):
    up, gw, client = world.gateway(says(CHAT_ANSWER))
    assert client.ask(post(CHAT, BODY)).status == 200
    base = gw.forget_peak()
    answer = client.ask(post(CHAT, body))
    if answer.status == 200:
        assert up.requests[-1].hash.digest() == hashlib.sha256(body).digest()
    else:
        check_error_answer(answer, [400, 413])
        assert len(up.requests) == 1
    # the body itself, up to three times while its buffer grows; looking at it takes none
    assert gw.status("VmHWM") - base < memory_bound(3 * len(body) + (2 << 20))


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true", b'[{"model":"m"}]'])
def test_a_body_that_is_no_object_is_400(target, body):
    _, _, client = target
    check_error_answer(client.ask(post(CHAT, body)), [400])


# --- A32: members that decide ----------------------------------------------------------------------------------------------------------------------------

DECIDING = {"model": b'"m"', "stream": b"true", "stream_options": b'{"include_usage":true}', "max_tokens": b"1",
            "max_completion_tokens": b"1", "n": b"1", "user": b'"u"', "background": b"true"}


@pytest.mark.parametrize("spelling", ["plain", "escaped", "escaped_letter_for_letter"])
@pytest.mark.parametrize("name", DECIDING)
def test_a_member_that_decides_may_occur_once_only(target, name, spelling):
    again = {"plain": name, "escaped": "\\u%04x" % ord(name[0]) + name[1:],
             "escaped_letter_for_letter": "".join("\\u%04X" % ord(c) for c in name)}[spelling]
    rest = b'"model":"x",' if name != "model" else b""
    body = b"{%s\"%s\":%s,\"a\":[{}],\"%s\":%s}" % (rest, name.encode(), DECIDING[name], again.encode(), DECIDING[name])
    json.loads(body)
    _, _, client = target
    error = check_error_answer(client.ask(post(CHAT, body)), [400])
    assert error["param"] == name


@pytest.mark.parametrize("name,value", [("model", b"1"), ("model", b"[]"), ("model", b"{}"), ("model", b"true"),
                                        ("stream", b'"true"'), ("stream", b"1"), ("stream", b"{}"), ("stream_options", b"[]"),
                                        ("stream_options", b'"x"')])
def test_a_member_of_the_wrong_type_is_400(target, name, value):
    rest = b'"model":"x",' if name != "model" else b""
    _, _, client = target
    error = check_error_answer(client.ask(post(CHAT, b'{%s"%s":%s}' % (rest, name.encode(), value))), [400])
    assert error["param"] == name


# --- A35: encodings, types, sizes --------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("extra", [
    [("Content-Encoding", "gzip")], [("Content-Encoding", "br")], [("Content-Encoding", "identity, gzip")], [("Content-Encoding", "x")],
])
def test_an_encoded_request_is_415(target, extra):
    _, _, client = target
    check_error_answer(client.ask(post(CHAT, b"\x1f\x8b\x08" + b"\0" * 50, extra)), [415])
    check_error_answer(client.ask(post(CHAT, BODY, extra)), [415])


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=b", "application/x-www-form-urlencoded",
                                  "application/jsonx", "application/xml", "application", ""])
def test_another_content_type_is_415(target, kind):
    _, _, client = target
    check_error_answer(client.ask(request("POST", CHAT, [("Content-Type", kind)], BODY)), [415])


@pytest.mark.parametrize("extra", [
    [], [("Content-Type", "application/json")], [("Content-Type", "Application/JSON")],
    [("Content-Type", "application/json; charset=utf-8")], [("Content-Type", "application/json;charset=UTF-8")],
    [("Content-Type", "application/json"), ("Content-Encoding", "identity")],
])
def test_json_by_any_of_its_names_is_fine(world, extra):
    up, _, client = world.gateway(says(CHAT_ANSWER))
    assert client.ask(request("POST", CHAT, extra, BODY)).status == 200
    assert up.only().body == BODY


def test_a_form_of_many_parts_streams_through_elsewhere(world):
    up, gw, client = world.gateway(says(CHAT_ANSWER))
    assert client.ask(post("/v1/files", b"warm up")).status == 200
    base = gw.forget_peak()
    body = b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\ny\r\n" * 100_000 + b"--b--\r\n"
    answer = client.ask(request("POST", "/v1/audio/transcriptions", [("Content-Type", "multipart/form-data; boundary=b")], body))
    assert answer.status == 200 and up.requests[-1].length == len(body)
    assert gw.status("VmHWM") - base < memory_bound(2 << 20)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_over_the_limit_is_413(world, framing):
    up = world.upstream(says(CHAT_ANSWER))
    gw = world.serve(config=f"max_body: 64k\nupstreams: {{up: {{url: {up.url}}}}}\n")
    fits = b'{"model":"m","x":"' + b"x" * (65536 - 20) + b'"}'
    assert len(fits) == 65536

    def as_framed(body):
        return post(CHAT, body if framing == "length" else [body[:1000], body[1000:]])
    client = world.connect(gw)
    assert client.ask(as_framed(fits)).status == 200
    client.try_send(as_framed(fits + b" "))
    check_error_answer(client.read("POST"), [413])
    client = world.connect(gw)
    client.try_send(as_framed(fits + b" " * (4 << 20)))
    check_error_answer(client.read("POST"), [413])
    assert len(up.requests) == 1
    assert world.connect(gw).ask(post("/v1/files", b"x" * 200_000)).status == 200, "the limit is for looked-at paths"


def test_an_enormous_length_is_413_without_waiting_for_the_body(target):
    _, _, client = target
    client.send(head(b"Content-Length: 1099511627776"))
    check_error_answer(client.read("POST"), [413])
    client.closed()


# --- A53 -----------------------------------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("body", [b" " * 2000, [b" " * 2000]], ids=["length", "chunked"])
def test_a_body_over_the_limit_is_413_however_it_is_framed(world, body):
    up = world.upstream()
    gw = world.serve(config=f"max_body: 1k\nupstreams: {{up: {{url: \"{up.url}\"}}}}\n")
    client = world.connect(gw)
    check_error_answer(client.ask(post(CHAT, body)), [413])
    assert not up.requests


def test_a_refused_upload_gets_its_answer_although_it_goes_on(target):
    """The answer must not be lost in a reset while the client still sends (lingering close)."""
    _, _, client = target
    client.try_send(post("/nothing", b"u" * (2 << 20)))
    check_error_answer(client.read("POST"), [404])


def test_a_client_may_read_late(world):
    """A whole refused request first, then the answer is read."""
    up, gw, client = world.gateway(says(CHAT_ANSWER))
    for raw in (head(CL, TE) + CHUNKED, head(CL, b"X-A: " + b"y" * 200_000) + BODY):
        client = world.connect(gw)
        client.try_send(raw)
        check_error_answer(client.read("POST"), [400, 431])
    assert not up.requests


def test_a_short_body_is_not_forwarded(world):
    """Content-Length says more than comes; then the client leaves."""
    @before_body
    def script(x):
        raise AssertionError("the upstream was called")
    up, gw, client = world.gateway(script)
    client.send(head(b"Content-Length: 1000") + BODY)
    client.finish_sending()
    try:
        check_error_answer(client.read("POST"), [400])
    except Cut:
        pass
    client.closed()
    assert not up.requests
