#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""overload.py - more streams than memory: thaw in a cgroup of 64 MiB is offered 5,000 at once.

What must hold: the kernel kills nothing; every stream that was let in comes whole; every other one is told 503 with
Retry-After; those let in are at least 80 % of what fits. And with clients that take nothing of long answers: still no
kill, and none of the answers that had to be given up looks complete.

Uses run.py's machinery (sim answers, thaw is started afresh for each step). The clients are in here: each remembers all
its bytes and judges them at the end. The cgroup is one of this run's own, with thaw alone in it; it needs to be root, or
somebody to whom a hierarchy was handed. What fits is the budget, less what thaw uses idle, by what one of 1,000 such
streams costs in the same group.
"""

import argparse
import contextlib
import datetime
import json
import os
import re
import select
import signal
import socket
import statistics
import sys
import time
from pathlib import Path

import run
from run import Failure

LIMIT = 64 << 20
OFFERED, CALIBRATED = 5000, 1000
EVENTS, EVERY_MS = 40, 250
DEAF, DEAF_EVENTS, DEAF_EVERY_MS, DEAF_S = 1500, 4000, 2, 9
BUDGET = LIMIT // 4 * 3


# ---- the cgroup -----------------------------------------------------------------------------------------------


class Group:
    """A memory cgroup with a limit, of either generation; gone at the end of the with block."""

    def __init__(self, limit):
        self.limit = limit
        self.path = None

    def __enter__(self):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, where, kind, options, *_ = line.split()
            self.v1 = kind == "cgroup" and "memory" in options.split(",")
            v2 = kind == "cgroup2" and "memory" in run.read(f"{where}/cgroup.subtree_control").split()
            if not self.v1 and not v2:
                continue
            path = Path(where) / f"thaw-bench-{os.getpid()}"
            try:
                path.mkdir()
            except OSError as no:
                raise Failure(f"no cgroup can be made: {no}") from None
            self.path = path
            self.write("memory.limit_in_bytes" if self.v1 else "memory.max", self.limit)
            with contextlib.suppress(OSError):  # no swap instead: where there is some
                self.write("memory.memsw.limit_in_bytes" if self.v1 else "memory.swap.max", self.limit if self.v1 else 0)
            return self
        raise Failure("there is no memory cgroup to be had here")

    def __exit__(self, *_):
        end = time.monotonic() + 5
        while self.path and time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.path.rmdir()  # not while somebody is in it
                self.path = None
            time.sleep(0.02)

    def write(self, name, value):
        (self.path / name).write_text(str(value))

    def number(self, name, key=None):
        text = (self.path / name).read_text()
        found = re.search(rf"^{key} (\d+)$", text, re.M) if key else re.match(r"(\d+)$", text)
        return int(found[1])

    def used(self):
        """As thaw counts it: without the pages of files, which the kernel takes back by itself."""
        of = "total_" if self.v1 else ""
        files = sum(self.number("memory.stat", f"{of}{which}_file") for which in ("inactive", "active"))
        return self.number("memory.usage_in_bytes" if self.v1 else "memory.current") - files

    def peak(self):
        return self.number("memory.max_usage_in_bytes" if self.v1 else "memory.peak")

    def kills(self):
        return self.number("memory.oom_control" if self.v1 else "memory.events", "oom_kill")

    def command(self, program, _folder, port, upstream):
        return ["/bin/sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self.path), program, "serve", "--listen",
                f"127.0.0.1:{port}", "--upstream", f"http://127.0.0.1:{upstream}/v1", "--workers", "1"]


# ---- clients --------------------------------------------------------------------------------------------------


class Client:
    def __init__(self, port, model, receive_buffer=None):
        self.got, self.ended = bytearray(), False
        body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(20)
        self.sock.connect(("127.0.0.1", port))
        self.sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
                          b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        self.sock.setblocking(False)

    def take(self):
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        self.got += data
        self.ended = not data

    def body(self, rest):
        """Decoded; and does it end as a chunked body has to?"""
        out, at = bytearray(), 0
        while (end := rest.find(b"\r\n", at)) >= 0:
            size = int(rest[at:end], 16)
            out += rest[end + 2:end + 2 + size]
            at = end + 2 + size + 2
            if size == 0 or at > len(rest):
                return bytes(out), size == 0 and at == len(rest)
        return bytes(out), False

    def verdict(self, events):
        """whole, refused (503 that says when to come again), cut (and it shows), or what is wrong with it."""
        head, _, body = bytes(self.got).partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 503 "):
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            told = re.search(rb"(?i)\r\nretry-after: \d+", head) and b'"memory_budget"' in body
            given_up = b"run out of memory" in body
            return ("refused" if told else "given up" if given_up else "503 without Retry-After") \
                if length and int(length[1]) == len(body) else "half a 503"
        body, whole = self.body(body)
        found = len(re.findall(rb"data: \{", body))
        done = b"data: [DONE]" in body
        if head.startswith(b"HTTP/1.1 200 ") and whole and done:
            return "whole" if found == events else f"{found} of {events} events and complete"
        return "looks complete" if whole or done else "cut"


def collect(clients, seconds, meanwhile=lambda: None):
    """Reads what comes, until all have ended or the time is up; `meanwhile` is called ten times a second."""
    poller, by_fd = select.poll(), {c.sock.fileno(): c for c in clients if not c.ended}
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    end, next_look = time.monotonic() + seconds, 0
    while by_fd and time.monotonic() < end:
        for fd, _ in poller.poll(50):
            by_fd[fd].take()
            if by_fd[fd].ended:
                poller.unregister(fd)
                by_fd.pop(fd).sock.close()
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + 0.1
            meanwhile()
    for client in by_fd.values():
        client.sock.close()


def count(clients, events):
    verdicts = {}
    for client in clients:
        verdict = client.verdict(events)
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
    return verdicts


def wrong(verdicts, *allowed):
    return sum(n for verdict, n in verdicts.items() if verdict not in allowed)


def healthy_ms(port):
    """How long /healthz takes on the data port, or None."""
    begin = time.perf_counter()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        if s.makefile("rb").read().startswith(b"HTTP/1.1 200 "):
            return (time.perf_counter() - begin) * 1000
    return None


# ---- steps ----------------------------------------------------------------------------------------------------


def thaw_in(bench, group):
    target = run.Target("thaw", find=lambda o: None, command=group.command,
                        version=lambda p: run.output_of(p, "--version"))
    return run.Running(bench, target)


def cost_of_a_stream(bench):
    """Bytes of the group, by stream, with 1,000 of them; and what it has idle."""
    with Group(LIMIT * 8) as group, thaw_in(bench, group) as running:
        idle = group.used()
        clients = [Client(running.port, f"sim-{EVENTS}x{EVERY_MS}") for _ in range(CALIBRATED)]
        most = [idle]
        collect(clients, EVENTS * EVERY_MS / 1000 + 10, lambda: most.append(group.used()))
        verdicts = count(clients, EVENTS)
        if verdicts.get("whole") != CALIBRATED:
            raise Failure(f"1,000 streams with plenty of memory: {verdicts}")
        return (max(most) - idle) / CALIBRATED, idle


def step_streams(bench):
    cost, idle = cost_of_a_stream(bench)
    with Group(LIMIT) as group, thaw_in(bench, group) as running:
        used, health = [], []

        def look():
            used.append(group.used())
            health.append(healthy_ms(running.port) or 1e9)

        clients = [Client(running.port, f"sim-{EVENTS}x{EVERY_MS}") for _ in range(OFFERED)]
        collect(clients, EVENTS * EVERY_MS / 1000 + 15, look)
        verdicts = count(clients, EVENTS)
        after = Client(running.port, "sim-2x5")
        collect([after], 10)
        fits = (BUDGET - idle) / cost
        return {"kills": group.kills(), "alive": running.process.alive(), "said": verdicts, "fits": fits,
                "cost_kb": cost / 1024, "idle_mb": idle / 2**20, "whole": verdicts.get("whole", 0),
                "refused": verdicts.get("refused", 0), "goodput": verdicts.get("whole", 0) / fits,
                "used_mb": max(used) / 2**20, "peak_mb": group.peak() / 2**20,
                "health_ms": statistics.quantiles(health, n=100)[98],
                "wrong": wrong(verdicts, "whole", "refused") + (after.verdict(2) != "whole")}


def step_deaf(bench):
    with Group(LIMIT) as group, thaw_in(bench, group) as running:
        clients = [Client(running.port, f"sim-{DEAF_EVENTS}x{DEAF_EVERY_MS}", 4096) for _ in range(DEAF)]
        used, end = [], time.monotonic() + DEAF_S
        while time.monotonic() < end:
            used.append(group.used())
            time.sleep(0.05)
        alive = running.process.alive()
        collect(clients, 60)
        verdicts = count(clients, DEAF_EVENTS)
        after = Client(running.port, "sim-2x5")
        collect([after], 10)
        return {"kills": group.kills(), "alive": alive, "said": verdicts, "whole": verdicts.get("whole", 0),
                "cut": verdicts.get("cut", 0) + verdicts.get("given up", 0), "refused": verdicts.get("refused", 0),
                "used_mb": max(used) / 2**20, "peak_mb": group.peak() / 2**20,
                "wrong": wrong(verdicts, "whole", "refused", "cut", "given up") + (after.verdict(2) != "whole")}


STEPS = (("streams", f"{OFFERED:,} streams of {EVENTS * EVERY_MS / 1000:g} s offered at once", step_streams),
         ("deaf", f"{DEAF} long streams to clients that take nothing for {DEAF_S} s", step_deaf))

# step, value, text, digits, mark as (is it met, in words)
FIGURES = (
    ("streams", "kills", "streams: killed by the kernel", 0, (lambda v: v == 0, "0")),
    ("streams", "wrong", "  neither whole nor 503 with Retry-After", 0, (lambda v: v == 0, "0")),
    ("streams", "cost_kb", "  a stream costs, KiB", 1, None),
    ("streams", "fits", "  fit into the budget", 0, None),
    ("streams", "whole", "  came whole", 0, None),
    ("streams", "refused", "  refused", 0, None),
    ("streams", "goodput", "  whole by what fits", 2, (lambda v: v >= 0.8, ">= 0.80")),
    ("streams", "used_mb", "  most in use, MiB of 64", 1, None),
    ("streams", "health_ms", "  /healthz meanwhile, p99 ms", 1, None),
    ("deaf", "kills", "deaf clients: killed by the kernel", 0, (lambda v: v == 0, "0")),
    ("deaf", "wrong", "  answers that look complete and are not", 0, (lambda v: v == 0, "0")),
    ("deaf", "whole", "  came whole", 0, None),
    ("deaf", "cut", "  given up, and it shows", 0, None),
    ("deaf", "refused", "  refused", 0, None),
    ("deaf", "used_mb", "  most in use, MiB of 64", 1, None),
)


# ---- the run --------------------------------------------------------------------------------------------------


class Bench:
    """What run.Running needs to know."""

    find_tools = run.Bench.find_tools

    def __init__(self, options):
        self.options, self.notes, self.built = options, [], None
        self.sim, self.swarm = self.find_tools()
        self.programs = {"thaw": run.existing(options.thaw)}
        if not self.programs["thaw"]:
            sys.exit(f"{options.thaw} is not there: build it, or say where it is with --thaw FILE")


def measure(bench, steps, rounds):
    raw = []
    for name, text, step in steps:
        for number in range(rounds):
            record = {"scenario": name, "round": number + 1}
            try:
                record.update(step(bench))
            except (Failure, OSError, ValueError) as failure:  # a thaw that was killed refuses connections
                record["failed"] = str(failure) or type(failure).__name__
            raw.append(record)
            print(f"{text}, {number + 1}/{rounds}: {record.get('failed') or record['said']}", file=sys.stderr,
                  flush=True)
    return raw


def evaluate(raw, figures):
    rows = []
    for step, value, text, digits, mark in figures:
        records = [r for r in raw if r["scenario"] == step]
        values = [r[value] for r in records if value in r]
        worst = values and (min(values) if mark and mark[1].startswith(">") else max(values) if mark
                            else statistics.median(values))
        met = None if not mark else len(values) == len(records) and mark[0](worst)
        rows.append({"scenario": step, "value": value, "text": text.strip(), "shown": worst if values else None,
                     "rounds": len(values), "mark": mark and mark[1], "met": met})
        shown = f"{worst:,.{digits}f}" if values else "failed"
        print(f"{text:<48}{shown:>10}   {'' if not mark else ('yes' if met else 'NO') + ', mark ' + mark[1]}")
    return rows


def run_all(about, name, steps, figures, rounds, descriptors):
    """The whole program: its arguments, every step, the table and the JSON. The exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--thaw", default="build/release/thaw", metavar="FILE", help="thaw's program (%(default)s)")
    parser.add_argument("--tools", default="build/release/bench", metavar="DIR", help="where sim is (%(default)s)")
    parser.add_argument("--only", metavar="A,B", help=f"any of {','.join(key for key, *_ in steps)}")
    parser.add_argument("--rounds", type=int, default=rounds, metavar="N", help="of everything (%(default)s)")
    parser.add_argument("--out", default=str(run.HERE / "results"), metavar="DIR",
                        help="where the JSON goes (bench/results)")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [key for key, *_ in steps]
    run.raise_descriptors()
    if run.descriptor_limit() < descriptors:
        sys.exit(f"{name}: {descriptors} descriptors are needed, {run.descriptor_limit()} may be opened")
    bench, date, facts = Bench(options), datetime.datetime.now(), run.machine()
    raw = measure(bench, [step for step in steps if step[0] in wanted], options.rounds)
    rows = evaluate(raw, [figure for figure in figures if figure[0] in wanted])
    path = run.result_path(options.out, date, f"{run.git_sha()}-{name}")
    path.write_text(json.dumps({
        "date": date.isoformat(timespec="seconds"), "git": run.git_sha(),
        "options": {key: value for key, value in vars(options).items() if key != "out"}, "machine": facts,
        "versions": {"thaw": run.output_of(bench.programs["thaw"], "--version")}, "figures": rows, "raw": raw},
        indent=1) + "\n")
    print(f"every figure: {os.path.relpath(path)}")
    return 1 if any(r["met"] is False for r in rows) else 0


if __name__ == "__main__":
    sys.exit(run_all("Offers thaw more than fits into a cgroup of 64 MiB.", "overload", STEPS, FIGURES, 3, OFFERED + 1000))
