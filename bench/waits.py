#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""waits.py - who waits how long: beside a hog, at an upstream whose limit has to be learned, behind somebody who leaves,
and for a word from a thaw that is full.

    hog      1,000 calls of one key wait, then nine others come with one each
    auto     50 users at `thaw mock --capacity pool:6`, then 20, then 3, `max_in_flight: auto`
    leaving  200 clients of each of five kinds leave, one after another
    full     9,000 calls are held and the queue is full: how long /healthz and /metrics take, and a refusal

Uses overload.py's frame and run.py's machinery; clients and, for leaving, the upstream are in here: plain sockets, so
that what is measured is not a library.
"""

import contextlib
import json
import math
import re
import select
import socket
import statistics
import struct
import sys
import threading
import time
from pathlib import Path

import overload
import run
from run import Failure

HOG, OTHERS, SEATS, SERVICE_MS = 1000, 9, 10, 500
USERS, POOLS, PHASE_S = 50, (6, 20, 3), 40
FIRST_MS, TOKENS, BETWEEN = 100, 20, "uniform:20ms-70ms"
CALL_S = (FIRST_MS + (TOKENS - 1) * 45) / 1000
LEAVING = 200
HELD, QUEUED, HOLD_MS, LOOK_S = 9000, 1000, 20000, 10


# ---- thaw, and how it is asked --------------------------------------------------------------------------------


class Gateway:
    """thaw with a configuration of its own and an admin, for the length of a with block."""

    def __init__(self, bench, upstream, more):
        self.bench = bench
        self.port, self.admin = run.free_port(), run.free_port()
        self.text = f"upstreams:\n  up: {{url: 'http://127.0.0.1:{upstream}/v1'{more[0]}}}\n{more[1]}"

    def __enter__(self):
        self.folder = run.tempfile.TemporaryDirectory(prefix="thaw-bench-")
        config = Path(self.folder.name) / "thaw.yaml"
        config.write_text(self.text)
        self.process = run.Process([self.bench.programs["thaw"], "serve", "--config", str(config), "--workers", "1",
                                    "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}",
                                    "--drain", "0"], Path(self.folder.name) / "log")
        for port in (self.port, self.admin):
            wait_until(lambda port=port: listens(port), f"thaw to listen: {self.process.last_words()}")
        return self

    def __exit__(self, *_):
        self.process.stop()
        self.folder.cleanup()

    def state(self):
        return json.loads(get(self.admin, "/admin/state"))


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_until(predicate, what, limit_s=20):
    end = time.monotonic() + limit_s
    while not predicate():
        if time.monotonic() > end:
            raise Failure(f"waited in vain for {what}")
        time.sleep(0.002)


def get(port, path):
    with socket.create_connection(("127.0.0.1", port), 10) as s:
        s.sendall(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" % path.encode())
        head, _, body = s.makefile("rb").read().partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Failure(f"{path} was answered with {head[:100]!r}")
    return body


def request(model, key="hog", stream=False, close=False):
    body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]}).encode()
    return (b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer sk-%s\r\nConnection: %s\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (key.encode(), b"close" if close else b"keep-alive", len(body), body))


class Call:
    """One call on a connection of its own."""

    def __init__(self, port, data):
        self.got, self.begun_s, self.ended_s = bytearray(), time.monotonic(), None
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.sock.sendall(data)
        self.sock.setblocking(False)

    def take(self):
        """True: it is over."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        self.got += data
        head, found, body = bytes(self.got).partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        whole = found and (len(body) >= int(length[1]) if length else body.endswith(b"\r\n0\r\n\r\n"))
        if not data or whole:
            self.ended_s = time.monotonic()
            self.sock.close()
        return self.ended_s is not None

    @property
    def status(self):
        return int(self.got[9:12] or 0)


def finish(calls, limit_s):
    poller, by_fd, end = select.poll(), {c.sock.fileno(): c for c in calls}, time.monotonic() + limit_s
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    while by_fd and time.monotonic() < end:
        for fd, _ in poller.poll(100):
            if by_fd[fd].take():
                poller.unregister(fd)
                del by_fd[fd]
    if by_fd:
        raise Failure(f"{len(by_fd)} calls were not answered")


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


# ---- a hog ----------------------------------------------------------------------------------------------------


def step_hog(bench):
    """In a queue that is exactly full: who comes then gets a place of the hog's."""
    with contextlib.ExitStack() as stack:
        sim, upstream = run.start_sim(bench, stack.enter_context(run.tempfile.TemporaryDirectory()))
        stack.callback(sim.stop)
        gw = stack.enter_context(Gateway(bench, upstream, (f", max_in_flight: {SEATS}", f"queue: {{length: {HOG}, wait: 10m}}")))
        hog = [Call(gw.port, request(f"sim-{SERVICE_MS}")) for _ in range(SEATS + HOG)]
        for call in hog:
            stack.callback(call.sock.close)
        wait_until(lambda: gw.state()["queued"] == HOG, "the hog's calls to wait")
        others = [Call(gw.port, request(f"sim-{SERVICE_MS}", f"other-{n}")) for n in range(OTHERS)]
        finish(others, 20)
        waited = [(c.ended_s - c.begun_s) * 1000 / SERVICE_MS - 1 for c in others]
        return {"said": [round(w, 2) for w in waited], "wait": percentile(waited, 0.95),
                "lost": sum(c.status != 200 for c in others)}


# ---- a limit that is learned ----------------------------------------------------------------------------------


class Users:
    """A closed loop of streams, on a thread of its own."""

    def __init__(self, port):
        self.port, self.over, self.served, self.cut = port, False, 0, 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def begin(self, n):
        call = Call(self.port, request("mock", f"user-{n}", stream=True))
        self.poller.register(call.sock, select.POLLIN)
        self.calls[call.sock.fileno()] = (call, n)

    def run(self):
        self.poller, self.calls = select.poll(), {}
        for n in range(USERS):
            self.begin(n)
        while not self.over:
            for fd, _ in self.poller.poll(50):
                call, n = self.calls[fd]
                self.poller.unregister(fd)
                if not call.take():
                    self.poller.register(fd, select.POLLIN)
                    continue
                del self.calls[fd]
                done = call.status == 200 and b"data: [DONE]" in call.got
                self.served, self.cut = self.served + done, self.cut + (not done)
                self.begin(n)
        for call, _ in self.calls.values():
            call.sock.close()

    def stop(self):
        self.over = True
        self.thread.join()


def start_mock(bench, port, pool, folder):
    mock = run.Process([bench.programs["thaw"], "mock", "--listen", f"127.0.0.1:{port}", "--capacity", f"pool:{pool}",
                        "--first", f"{FIRST_MS}ms", "--between", BETWEEN, "--tokens", str(TOKENS)], Path(folder) / "mock.log")
    wait_until(lambda: listens(port), "the mock to listen")
    return mock


def step_auto(bench):
    """The mock is started anew with another pool; what runs then is cut, by it."""
    port, seen = run.free_port(), []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(run.tempfile.TemporaryDirectory())
        mock = start_mock(bench, port, POOLS[0], folder)
        gw = stack.enter_context(Gateway(bench, port, (", max_in_flight: auto", "queue: {wait: 10m}\nretries: 0\nbreaker: {failures: 0}")))
        users = Users(gw.port)
        stack.callback(users.stop)
        try:
            for number, pool in enumerate(POOLS):
                if number:
                    mock.stop(0)
                    mock = start_mock(bench, port, pool, folder)
                begun, limits = time.monotonic(), []
                while time.monotonic() < begun + PHASE_S:
                    limits.append((time.monotonic() - begun, gw.state()["upstreams"][0]["limit"]))
                    time.sleep(0.05)
                seen.append((pool, limits))
        finally:
            mock.stop(0)
        result = {"said": {}, "served": users.served, "cut": users.cut, "limits": [[p, ls[::10]] for p, ls in seen]}
    for pool, limits in seen:
        near = 2 if pool == 20 else 1
        there = next((t for t, limit in limits if abs(limit - pool) <= near), math.inf) / CALL_S
        later = [limit for t, limit in limits if t > 10 * CALL_S]
        out = sum(abs(limit - pool) > near for limit in later) / len(later)
        result[f"there_{pool}"], result[f"out_{pool}"] = there, out * 100
        result["said"][pool] = f"there after {there:.1f} services, then {statistics.mean(later):.1f}, {out:.0%} out"
    return result


# ---- leaving --------------------------------------------------------------------------------------------------


class Watcher:
    """An upstream that begins an answer or none, and knows when each call came and was closed."""

    def __init__(self, begins):
        self.begins = begins
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.poller, self.calls, self.come_s, self.closed_s = select.poll(), {}, [], []
        self.poller.register(self.listener, select.POLLIN)

    def wait(self, done, limit_s=10):
        end = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > end:
                raise Failure(f"waited in vain: {len(self.come_s)} calls came, {len(self.closed_s)} were closed")
            for fd, _ in self.poller.poll(100):
                self.on_ready(fd)

    def on_ready(self, fd):
        now = time.monotonic()
        if fd == self.listener.fileno():
            sock, _ = self.listener.accept()
            self.calls[sock.fileno()] = [sock, False]
            self.poller.register(sock, select.POLLIN)
            return
        sock, come = self.calls[fd]
        with contextlib.suppress(ConnectionError):
            if sock.recv(1 << 18):
                if not come:
                    self.calls[fd][1] = True
                    self.come_s.append(now)
                    sock.sendall(self.begins)
                return
        self.poller.unregister(fd)
        self.closed_s.append(now)
        del self.calls[fd]
        sock.close()

    def close(self):
        for sock, _ in self.calls.values():
            sock.close()
        self.listener.close()


SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
UPLOAD = b"POST /v1/files HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n" + b"x" * 5000
KINDS = {  # what the upstream says, what is asked
    "queued": (b"", request("m")),
    "uploading": (b"", UPLOAD),
    "waiting": (b"", request("m")),
    "streaming": (SSE + b"%x\r\n%s\r\n" % (len(EVENT), EVENT), request("m", stream=True)),
    "plain": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", request("m")),
}


def leave(call, number):
    """When; every other one by a reset."""
    begun = time.monotonic()
    if number % 2:
        call.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.sock.close()
    return begun


def time_leaving(gw, up, kind, asked, begins, holder, number):
    """ms until the upstream's side is closed (of one that is queued: until the queue knows), and until the next one's call is there.
    One place: `holder` has it, in the end the next one does."""
    if kind == "queued":
        call = Call(gw.port, asked)
        wait_until(lambda: gw.state()["queued"] == 1, "a call to wait")
        left = leave(call, number)
        wait_until(lambda: gw.state()["queued"] == 0, "nobody to wait")
        return (time.monotonic() - left) * 1000, None, holder
    come, closed = len(up.come_s), len(up.closed_s)
    if begins:
        wait_until(lambda: holder.take() or holder.got.endswith(begins[-1:]), "the answer to begin")
    follower = Call(gw.port, asked)
    wait_until(lambda: gw.state()["queued"] == 1, "the next one to wait")
    left = leave(holder, number)
    up.wait(lambda: len(up.come_s) > come and len(up.closed_s) > closed)
    return (up.closed_s[-1] - left) * 1000, (up.come_s[-1] - left) * 1000, follower


def step_leaving(bench):
    result, closed, next_one = {"said": {}}, [], []
    for kind, (begins, asked) in KINDS.items():
        up = Watcher(begins)
        with contextlib.closing(up), Gateway(bench, up.port, (", max_in_flight: 1", "queue: {wait: 10m}")) as gw:
            holder, times = Call(gw.port, asked), []
            up.wait(lambda: len(up.come_s) == 1)
            for number in range(LEAVING):
                ms, next_ms, holder = time_leaving(gw, up, kind, asked, begins, holder, number)
                times.append(ms)
                next_one += [next_ms] if next_ms is not None else []
            holder.sock.close()
            wait_until(lambda: gw.state()["in_flight"] == 0, "nothing to be left")
        closed += times
        result[kind] = percentile(times, 0.99)
        result["said"][kind] = f"{result[kind]:.1f} ms"
    return {**result, "closed_ms": percentile(closed, 0.99), "next_ms": percentile(next_one, 0.99), "left": len(closed)}


# ---- full -----------------------------------------------------------------------------------------------------


class Probe:
    """A request again and again, each on a connection of its own, as load balancers ask; the connection's time counts."""

    def __init__(self, port, data, status):
        self.port, self.data, self.status, self.ms = port, data, b"HTTP/1.1 %d " % status, []

    def ask(self):
        begun = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self.port), 10) as s:
            s.sendall(self.data)
            got = s.makefile("rb").read()
        self.ms.append((time.perf_counter() - begun) * 1000)
        if not got.startswith(self.status):
            raise Failure(f"answered with {got[:300]!r}")


def step_full(bench):
    with contextlib.ExitStack() as stack:
        sim, upstream = run.start_sim(bench, stack.enter_context(run.tempfile.TemporaryDirectory()))
        stack.callback(sim.stop)
        gw = stack.enter_context(Gateway(bench, upstream, (f", max_in_flight: {HELD - QUEUED}",
                                                           f"queue: {{length: {QUEUED}, wait: 10m}}")))
        held, state = threading.Event(), {}
        def load():
            state["swarm"] = run.swarm(gw, ["--users", HELD, "--once", "--model", f"sim-{HOLD_MS}", "--timeout", 90],
                                       100, lambda line: line == "held" and held.set())
        thread = threading.Thread(target=load)
        thread.start()
        stack.callback(thread.join)
        if not held.wait(60):
            raise Failure("the calls could not all be sent")
        wait_until(lambda: gw.state()["queued"] == QUEUED, "the queue to be full")
        plain = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        probes = {"healthz": Probe(gw.admin, plain % b"/healthz", 200), "metrics": Probe(gw.admin, plain % b"/metrics", 200),
                  "data": Probe(gw.port, plain % b"/healthz", 200), "refusal": Probe(gw.port, request("sim-0", "bench-0123456789abcdef", close=True), 503)}
        end, in_flight = time.monotonic() + LOOK_S, []
        while time.monotonic() < end:
            for probe in probes.values():
                probe.ask()
            in_flight.append(gw.state()["in_flight"])
            time.sleep(0.01)
        thread.join()
        result = {name: percentile(probe.ms, 0.99) for name, probe in probes.items()}
        wrong = run.faults(state["swarm"], HELD)
        return {"said": {name: f"{ms:.1f} ms" for name, ms in result.items()}, **result, "held": min(in_flight), "asked": len(in_flight),
                "medians": {name: statistics.median(probe.ms) for name, probe in probes.items()}, "wrong": wrong["errors"] + wrong["mixed"]}


STEPS = (("hog", f"{OTHERS} clients beside {HOG:,} waiting calls of one key", step_hog),
         ("auto", f"{USERS} users, a pool of {', '.join(map(str, POOLS))}, max_in_flight: auto", step_auto),
         ("leaving", f"{LEAVING} clients of {len(KINDS)} kinds leave", step_leaving),
         ("full", f"{HELD:,} calls held, {QUEUED:,} of them in a full queue", step_full))


def at_most(n):
    return (lambda v: v <= n, f"<= {n}")


# step, value, text, digits, mark as (is it met, in words)
FIGURES = (
    ("hog", "wait", "hog: the others' wait, p95, service times", 2, at_most(2)),
    ("hog", "lost", "  of them not answered", 0, at_most(0)),
    *(("auto", f"there_{pool}", f"{'auto:' if pool == 6 else ' '} at {pool} after, service times", 1, at_most(10)) for pool in POOLS),
    *(("auto", f"out_{pool}", f"  of {pool} +-{2 if pool == 20 else 1}: out of that, %", 0, None) for pool in POOLS),
    ("leaving", "closed_ms", "leaving: upstream call closed, p99 ms", 1, at_most(100)),
    ("leaving", "next_ms", "  the next one has the place, p99 ms", 1, at_most(100)),
    *(("leaving", kind, f"  {kind}, p99 ms", 1, None) for kind in KINDS),
    ("full", "held", "full: calls held", 0, (lambda v: v >= HELD, f">= {HELD}")),
    ("full", "healthz", "  admin's /healthz, p99 ms", 1, at_most(10)),
    ("full", "metrics", "  admin's /metrics, p99 ms", 1, at_most(10)),
    ("full", "data", "  /healthz beside the calls, p99 ms", 1, at_most(10)),
    ("full", "refusal", "  a refusal, p99 ms", 1, None),
    ("full", "wrong", "  held calls not answered right", 0, at_most(0)),
)


if __name__ == "__main__":
    sys.exit(overload.run_all("How long who waits for whom.", "waits", STEPS, FIGURES, 3, 2 * HELD + 1000))
