#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""selftest.py - is the load generator to be trusted? A server that answers wrongly in known ways, and what swarm
has to say about each. Run it after every change of swarm.c or wire.h: bench/selftest.py [--tools DIR]

SPDX-License-Identifier: MIT
"""

import argparse
import collections
import json
import re
import socket
import subprocess
import sys
import threading

ASKED = re.compile(rb"caller ([0-9a-f]{8})-(\d{6})-(\d{8}) asks: please repeat this line\.")
TAIL = b'"system_fingerprint":"fp_sim"}'


def text(asked, user=0, call=0):
    run, u, c = asked.groups()
    return b"caller %s-%06d-%08d asks: please repeat this line." % (run, int(u) + user, int(c) + call)


def completion(content):
    return b'{"choices":[{"message":{"content":"' + content + b'"}}],' + TAIL


def plain(body, status=b"200 OK", head=b""):
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s" % (
        status, head, len(body), body)


def chunked(pieces, kind=b"application/json", extension=b"", trailer=b""):
    return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: " + kind + b"\r\n\r\n" +
            b"".join(b"%x%s\r\n%s\r\n" % (len(p), extension, p) for p in pieces) + b"0\r\n" + trailer + b"\r\n")


def event(content, number):
    return b'data: {"choices":[{"delta":{"content":"%s #%d"},"x":[{}]}]}\n\n' % (content, number)


def sse(events, done=b"data: [DONE]\n\n"):
    return chunked([*events, done] if done else events, b"text/event-stream")


def good(a):
    return plain(completion(text(a)))


def stream(a, *numbers, user=0, done=b"data: [DONE]\n\n"):
    return sse([event(text(a, user), n) for n in numbers], done)


def byte_by_byte(data):
    return [data[i:i + 1] for i in range(len(data))]


def branches(a, *numbers, user=0, whole=True):
    """Of a fan-out: one completion for each number."""
    bodies = [completion(b"%s #%d" % (text(a, user), n)) for n in numbers]
    bodies[-1] = bodies[-1] if whole else bodies[-1][:-5]
    return plain(b'{"results":[' + b",".join(b'{"status":200,"body":%s}' % body for body in bodies) + b"]}")


def frame(kind, flags, payload, stream=1):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def h2(body, fields=b"\x88", end=1, more=b""):
    """An answer of HTTP/2 behind the server's SETTINGS; \\x88 is :status: 200 (RFC 7541, appendix A)."""
    return frame(4, 0, b"", 0) + frame(1, 4, fields) + frame(0, end, body) + more


def h2_sse(a, *numbers, user=0):
    body = b"".join(event(text(a, user), n) for n in numbers) + b"data: [DONE]\n\n"
    return h2(body, b"\x88\x0f\x10\x11text/event-stream")


CUT = None  # in a list of pieces: close the connection here
SAME = "the same for all"

# How swarm is called.
MODES = {False: [], True: ["--model", "sim-3x10", "--stream"], "branches": ["--branches", "3"],
         "text": ["--text", SAME], "get": ["--text", SAME, "--get", "--model", "sim-3x10", "--stream"],
         "h2": ["--streams", "1"], "h2 stream": ["--streams", "1", "--model", "sim-3x10", "--stream"]}
USERS = {"text": 2, "get": 2}  # else 1


def same(space=b"", spoilt=()):
    """To the callers in turn: the same, but for a blank in the JSON of the spoilt ones."""
    turn = iter(range(9))
    return lambda _: plain(completion(SAME.encode()).replace(b",", b"," + space, 1) if next(turn) in spoilt
                           else completion(SAME.encode()))


# name, mode (False: a plain call, True: a stream of 3 events), what the server sends, what swarm must count
CASES = (
    ("whole", False, good, "ok"),
    ("byte by byte", False, lambda a: byte_by_byte(good(a)), "ok"),
    ("re-chunked", False, lambda a: chunked(byte_by_byte(completion(text(a)))), "ok"),
    ("chunk extension and trailer", False,
     lambda a: chunked([completion(text(a))], extension=b";x=y", trailer=b"X-A: b\r\n"), "ok"),
    ("chunked, byte by byte", False,
     lambda a: byte_by_byte(chunked([completion(text(a))], trailer=b"X-A: b\r\n")), "ok"),
    ("100 Continue first", False, lambda a: b"HTTP/1.1 100 Continue\r\n\r\n" + good(a), "ok"),
    ("connection: close", False, lambda a: [plain(completion(text(a)), head=b"Connection: close\r\n"), CUT], "ok"),
    ("another user's", False, lambda a: plain(completion(text(a, user=1))), "mixed"),
    ("an earlier call's", False, lambda a: plain(completion(text(a, call=-1))), "stale"),
    ("another text", False, lambda a: plain(completion(b"hello")), "wrong"),
    ("text too long", False, lambda a: plain(completion(text(a) + b"!")), "wrong"),
    ("not JSON", False, lambda a: plain(b"<html>"), "wrong"),
    ("empty", False, lambda a: plain(b""), "wrong"),
    ("500", False, lambda a: plain(b"{}", b"500 Internal Server Error"), "status"),
    ("half a body, sound length", False, lambda a: plain(completion(text(a))[:-5]), "truncated"),
    ("cut in the body", False, lambda a: [good(a)[:-5], CUT], "cut"),
    ("cut in the head", False, lambda a: [good(a)[:20], CUT], "cut"),
    ("cut at once", False, lambda a: [CUT], "cut"),
    ("answered twice", False, lambda a: good(a) + good(a), "surplus"),
    ("length is no number", False, lambda a: good(a).replace(b"Content-Length: ", b"Content-Length: x"), "framing"),
    ("two lengths", False, lambda a: plain(completion(text(a)), head=b"Content-Length: 5\r\n"), "framing"),
    ("length and chunks", False,
     lambda a: plain(completion(text(a)), head=b"Transfer-Encoding: chunked\r\n"), "framing"),
    ("no length", False, lambda a: good(a).replace(b"Content-Length", b"X-Length"), "framing"),
    ("bad chunk size", False, lambda a: chunked([completion(text(a))]).replace(b"\r\n0\r\n", b"\r\nx\r\n"), "framing"),
    ("not HTTP", False, lambda a: b"hello\r\n\r\n", "framing"),
    ("no answer", False, lambda a: [], "timeout"),
    ("stream", True, lambda a: stream(a, 1, 2, 3), "ok"),
    ("stream, byte by byte", True, lambda a: byte_by_byte(stream(a, 1, 2, 3)), "ok"),
    ("stream in one chunk", True, lambda a: sse([b"".join(event(text(a), n) for n in (1, 2, 3))]), "ok"),
    ("comments, ids, CR LF", True,
     lambda a: sse([b": hello\n\n"] + [b"id: %d\r\n" % n + event(text(a), n).replace(b"\n", b"\r\n")
                                       for n in (1, 2, 3)]), "ok"),
    ("event missing", True, lambda a: stream(a, 1, 3), "order"),
    ("last event missing", True, lambda a: stream(a, 1, 2), "order"),
    ("event doubled", True, lambda a: stream(a, 1, 2, 2, 3), "order"),
    ("events swapped", True, lambda a: stream(a, 2, 1, 3), "order"),
    ("event too many", True, lambda a: stream(a, 1, 2, 3, 4), "order"),
    ("event behind [DONE]", True,
     lambda a: sse([event(text(a), 1), event(text(a), 2), b"data: [DONE]\n\n", event(text(a), 3)], b""), "order"),
    ("no [DONE]", True, lambda a: stream(a, 1, 2, 3, done=b""), "truncated"),
    ("half an event", True, lambda a: sse([event(text(a), 1), event(text(a), 2)[:-1]], b""), "truncated"),
    ("stream cut", True, lambda a: [stream(a, 1, 2, 3)[:-3], CUT], "cut"),
    ("another user's stream", True, lambda a: stream(a, 1, 2, 3, user=7), "mixed"),
    ("another user's event", True,
     lambda a: sse([event(text(a), 1), event(text(a, user=1), 2), event(text(a), 3)]), "mixed"),
    ("a plain answer to a stream", True, good, "wrong"),
    ("fan-out", "branches", lambda a: branches(a, 1, 2, 3), "ok"),
    ("fan-out, byte by byte", "branches", lambda a: byte_by_byte(branches(a, 1, 2, 3)), "ok"),
    ("fan-out, out of order", "branches", lambda a: branches(a, 1, 3, 2), "order"),
    ("fan-out, one missing", "branches", lambda a: branches(a, 1, 2), "wrong"),
    ("fan-out, one too many", "branches", lambda a: branches(a, 1, 2, 3, 4), "wrong"),
    ("fan-out, another user's", "branches", lambda a: branches(a, 1, 2, 3, user=1), "mixed"),
    ("fan-out, half an answer", "branches", lambda a: branches(a, 1, 2, 3, whole=False), "truncated"),
    ("one text", "text", same(), "ok ok"),
    ("one text, other bytes", "text", same(b" ", (1,)), "ok differs"),
    ("another text than all", "text", lambda _: plain(completion(b"another")), "wrong wrong"),
    ("read, not asked", "get", lambda _: sse([event(SAME.encode(), n) for n in (1, 2, 3)]), "ok ok"),
    ("h2", "h2", lambda a: h2(completion(text(a))), "ok"),
    ("h2, byte by byte", "h2", lambda a: byte_by_byte(h2(completion(text(a)))), "ok"),
    ("h2, another user's", "h2", lambda a: h2(completion(text(a, user=1))), "mixed"),
    ("h2, an earlier call's", "h2", lambda a: h2(completion(text(a, call=-1))), "stale"),
    ("h2, 500", "h2", lambda a: h2(b"{}", b"\x8e"), "status"),
    ("h2, half a body", "h2", lambda a: h2(completion(text(a))[:-5]), "truncated"),
    ("h2, another length than announced", "h2", lambda a: h2(completion(text(a)), b"\x88\x0f\x0d\x015"), "cut"),
    ("h2, reset in the body", "h2", lambda a: h2(completion(text(a)), end=0, more=frame(3, 0, bytes(4))), "cut"),
    ("h2, cut in the body", "h2", lambda a: [h2(completion(text(a)))[:-5], CUT], "cut"),
    ("h2, cut behind the last byte", "h2", lambda a: [h2(completion(text(a)), end=0), CUT], "cut"),
    ("h2, no end", "h2", lambda a: h2(completion(text(a)), end=0), "timeout"),
    ("h2, not HTTP/2", "h2", good, "cut"),
    ("h2, stream", "h2 stream", lambda a: h2_sse(a, 1, 2, 3), "ok"),
    ("h2, event missing", "h2 stream", lambda a: h2_sse(a, 1, 3), "order"),
    ("h2, another user's stream", "h2 stream", lambda a: h2_sse(a, 1, 2, 3, user=7), "mixed"),
    ("read, one missing", "get", lambda _: sse([event(SAME.encode(), n) for n in (1, 3)]), "order order"),
)


def serve(listener, answer):
    """One connection, one answer."""
    try:
        client, _ = listener.accept()
        with client:
            client.settimeout(5)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = b""
            while not request.endswith((b"}", b"\r\n\r\n")[request.startswith(b"GET")]):
                request += client.recv(65536)
            pieces = answer(ASKED.search(request))
            for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                if piece is CUT:
                    return
                client.sendall(piece)
            while client.recv(65536):
                pass  # until swarm has gone
    except OSError:
        pass


def run_case(program, mode, answer):
    users = USERS.get(mode, 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=serve, args=(listener, answer), daemon=True) for _ in range(users)]
        for thread in threads:
            thread.start()
        done = subprocess.run([program, "--port", str(listener.getsockname()[1]), "--users", str(users), "--once",
                               "--timeout", "0.5", *MODES[mode]], capture_output=True, text=True, timeout=20,
                              check=True)
        for thread in threads:
            thread.join(5)
    result = json.loads(done.stdout)
    seen = {"ok": result["ok"], "mixed": result["mixed"], **result["error_kinds"]}
    return {kind: count for kind, count in seen.items() if count}


def main():
    parser = argparse.ArgumentParser(description="Proves that swarm tells right answers from wrong ones.")
    parser.add_argument("--tools", default="build/release/bench", metavar="DIR")
    program = parser.parse_args().tools + "/thaw-bench-swarm"
    bad = 0
    for name, mode, answer, expected in CASES:
        seen = run_case(program, mode, answer)
        if seen != collections.Counter(expected.split()):
            bad += 1
            print(f"FAILED {name}: expected {expected}, swarm counted {seen}")
    print(f"{len(CASES) - bad} of {len(CASES)} cases as expected")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
