# SPDX-License-Identifier: MIT
"""The commands a person types first."""
import json
import subprocess

from openai_api import CHAT, STREAM
from upstream import silent_streams, streams
from waiting import LIMIT


def curl(*arguments, code=0):
    done = subprocess.run(["curl", "-q", "-sS", "--noproxy", "*", "--max-time", str(int(LIMIT)), *map(str, arguments)],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * LIMIT)
    assert done.returncode == code, f"curl ended with {done.returncode}: {done.stderr.decode()}"
    return done.stdout.decode()


QUESTION = json.dumps({"model": "mock", "messages": [{"role": "user", "content": "ping 4711"}]})
STREAM_QUESTION = json.dumps({**json.loads(QUESTION), "stream": True})
JSON = ["-H", "Content-Type: application/json"]


def test_a_call(world):
    gw = world.serve(None, "--mock")
    document = json.loads(curl(gw.url + CHAT, *JSON, "-d", QUESTION))
    assert "ping 4711" in document["choices"][0]["message"]["content"]


def test_a_stream(world):
    gw = world.serve(world.upstream(streams(STREAM)))
    assert curl("-N", gw.url + CHAT, *JSON, "-d", QUESTION).encode() == b"".join(STREAM)


def test_http_1_0(world):
    gw = world.serve(world.upstream(streams(STREAM)))
    assert curl("--http1.0", gw.url + CHAT, *JSON, "-d", QUESTION).encode() == b"".join(STREAM)


def test_a_cut_stream_is_an_error(world):
    def script(x):
        x.stream_head().chunk(STREAM[0])
        x.close()
    gw = world.serve(world.upstream(script))
    assert "stream_cut" in curl(gw.url + CHAT, *JSON, "-d", QUESTION, code=18)  # transfer closed with outstanding data


def test_an_upload_that_expects_100(world):
    """curl asks for 100-continue above a megabyte."""
    up = world.upstream()
    gw = world.serve(up)
    path = world.folder / "big"
    path.write_bytes(b"u" * 3_000_000)
    assert curl("-T", path, gw.url + "/v1/files/x") == '{"ok":true}'
    assert up.only().length == 3_000_000 and up.only().method == "PUT"
    assert curl("-F", f"file=@{path}", "-F", "purpose=batch", gw.url + "/v1/files") == '{"ok":true}'


def test_head_and_options(world):
    gw = world.serve(None, "--mock")
    assert curl("-I", gw.url + "/healthz").startswith("HTTP/1.1 200")
    assert "post" in curl("-i", "-X", "OPTIONS", gw.url + CHAT).lower()


def test_a_silent_stream_is_kept_alive_by_comments(world):
    up = world.upstream(silent_streams(STREAM))
    gw = world.serve(config=f"upstreams: {{up: {{url: '{up.url}'}}}}\nkeepalive: 1s\n")
    said = curl("-N", gw.url + CHAT, *JSON, "-d", STREAM_QUESTION).encode()
    before, first, after = said.partition(STREAM[0])
    assert before.count(b": keep-alive\n") >= 2 and after.count(b": keep-alive\n") >= 2
    assert b"".join(part for part in (before + first + after).split(b": keep-alive\n\n")) == b"".join(STREAM)


def test_blanks_before_a_plain_answer_where_a_route_wants_them(world):
    answer = b'{"ok": true}'

    def script(x):
        x.connection.ready(timeout=3, patient=True)
        x.answer(200, answer)
    up = world.upstream(script)
    gw = world.serve(config=f"upstreams: {{up: {{url: '{up.url}'}}}}\nkeepalive: 1s\nroutes: {{{CHAT}: {{keepalive: true}}}}\n")
    said = curl(gw.url + CHAT, *JSON, "-d", QUESTION).encode()
    assert said.startswith(b"  ") and said.strip() == answer
