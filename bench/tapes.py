#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tapes.py - what tapes promise, under load: fan-out, coming back after a cut, one call for many, many readers of
one answer; and that a plain relay does not pay for any of it.

Uses run.py's machinery: sim answers, swarm or a client in here checks each answer, thaw is started afresh for each
step, what is compared is measured in turns in one run, a figure is the median of its rounds. What must hold without
exception (wrong answers, calls too many) is shown as the worst of them.

    SCENARIOS   one row each: what is done, how often
    FIGURES     one row each: which number of a scenario is shown, and the mark it has to meet
"""

import argparse
import dataclasses
import datetime
import http.client
import json
import os
import random
import re
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from typing import Callable, Optional

import run
from run import Failure

SEED = 20260
AS_SWARM = "Bearer sk-bench-0123456789abcdef"  # a tape is for who made it


# ---- thaw, and what it is asked -------------------------------------------------------------------------------


def target(name, workers):
    def command(program, _folder, port, upstream):
        return [program, "serve", "--listen", f"127.0.0.1:{port}", "--upstream", f"http://127.0.0.1:{upstream}/v1",
                "--workers", str(workers)]
    return run.Target(name, find=lambda o: None, command=command, version=lambda p: run.output_of(p, "--version"))


ONE_WORKER, TWO_WORKERS, BEFORE = target("thaw", 1), target("thaw", 2), target("before", 1)


def answers(running):
    """How many calls the upstream has had."""
    with socket.create_connection(("127.0.0.1", running.upstream), 5) as s:
        s.sendall(b"GET /stats HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n")
        return json.loads(s.makefile("rb").read().partition(b"\r\n\r\n")[2])["requests"]


def chat(model, text):
    return json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": text}]})


def begin_tape(running, model, text):
    """A streaming call without a client; the path of its tape."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", chat(model, text),
                       {"Content-Type": "application/json", "Prefer": "respond-async", "Authorization": AS_SWARM})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status != 202 or not answer.getheader("Location"):
        raise Failure(f"a job was answered with {answer.status}: {said[:200]!r}")
    return answer.getheader("Location")


# ---- 1: fan-out -----------------------------------------------------------------------------------------------

BRANCHES = 5


def step_fan_out(bench, scenario, _number):
    with run.Running(bench, ONE_WORKER) as running:
        result = run.swarm(running, ["--users", scenario.users, "--once", "--branches", BRANCHES, "--model", "sim-2000",
                                     "--timeout", 20], 30)
        return {"wall_s": result["wall_s"], "p99_ms": result["total_ms"]["p99"],
                "calls_off": abs(answers(running) - BRANCHES * scenario.users),
                **run.faults(result, scenario.users), "swarm": result}


# ---- 2: streams that are cut ----------------------------------------------------------------------------------

PRELUDE = b"retry: 1000\n"  # before the tape's own bytes, for a reader by id
CHUNK = re.compile(rb"(?:\r\n)?([0-9a-fA-F]+)\r\n")  # its size, and the end of the one before
NUMBERED = re.compile(rb"(data: [^\n]*)\nid: (\w+):(\d+)\n\n")


class Client:
    """A client of one stream, whose connection breaks off wherever `dice` wants, and who comes back behind the last
    event it has whole. No dice: it reads the tape from the start, without a break.

    raw -> head, then chunks -> self.part: the answer's bytes -> self.got: whole events
    """

    def __init__(self, port, poller, number, model, dice, span, tape=b""):
        self.port, self.poller, self.number, self.model = port, poller, number, model
        self.dice, self.span, self.tape = dice, span, tape
        self.text = f"stream {number:06d}: please repeat this line."
        self.got, self.connections, self.done = bytearray(), 0, False
        self.last = b""
        self.connect()

    def request(self):
        if self.tape:
            last = b"Last-Event-ID: %s\r\n" % self.last if self.last else b""
            return b"GET /v1/tapes/%s HTTP/1.1\r\nHost: t\r\n%s\r\n" % (self.tape, last)
        body = chat(self.model, self.text).encode()
        return (b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nIdempotency-Key: stream-%d\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (self.number, len(body), body))

    def connect(self):
        self.raw, self.part, self.head, self.prelude = bytearray(), bytearray(), False, bool(self.tape)
        self.chunk = 0  # bytes left of it
        self.left = self.dice.randrange(1, self.span) if self.dice else 1 << 60
        self.connections += 1
        self.sock = socket.create_connection(("127.0.0.1", self.port), 10)
        self.sock.sendall(self.request())
        self.sock.setblocking(False)
        self.poller.register(self.sock, select.POLLIN)

    def leave(self):
        self.poller.unregister(self.sock)
        if self.dice and self.dice.random() < 0.5:  # by a reset
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def on_readable(self):
        data = self.sock.recv(min(self.left, 1 << 18))
        self.left -= len(data)
        self.raw += data
        self.take()
        if not data and not self.done:
            raise Failure(f"stream {self.number} was cut by thaw, after {len(self.got)} bytes")
        if self.done:
            self.leave()
        elif self.left == 0:
            self.leave()
            self.connect()

    def take(self):
        """What has come, as far as it is whole."""
        if not self.head:
            size = self.raw.find(b"\r\n\r\n") + 4
            if size < 4:
                return
            self.take_head(bytes(self.raw[:size]))
            del self.raw[:size]
        while self.raw and not self.done:
            if self.chunk:
                self.part += self.raw[:self.chunk]
                took = min(self.chunk, len(self.raw))
                self.chunk -= took
                del self.raw[:took]
            else:
                size = CHUNK.match(self.raw)
                if not size:
                    break
                self.chunk = int(size[1], 16)
                self.done = self.chunk == 0
                del self.raw[:size.end()]
        self.take_events()

    def take_head(self, head):
        self.head = True
        self.done = head.startswith(b"HTTP/1.1 204 ")  # it has everything already
        if not self.done and (not head.startswith(b"HTTP/1.1 200 ") or b"chunked" not in head):
            raise Failure(f"stream {self.number} was answered with {head!r}")
        found = re.search(rb"(?i)\r\nx-thaw-tape: (\w+)\r\n", head)
        self.tape = found[1] if found else self.tape

    def take_events(self):
        if self.prelude and len(self.part) >= len(PRELUDE):
            self.prelude = False
            if self.part.startswith(PRELUDE):
                del self.part[:len(PRELUDE)]
        end = self.part.rfind(b"\n\n") + 2
        if self.prelude or end < 2:
            return
        self.got += self.part[:end]
        del self.part[:end]
        self.last = bytes(self.got[self.got.rfind(b"\nid: ") + 5:-2])

    def right(self, events):
        """Every event once, in order, its own, and nothing between them."""
        found = NUMBERED.findall(self.got)
        texts = [b'"content":"%s #%d"' % (self.text.encode(), n) for n in range(1, events + 1)] + [b"data: [DONE]"]
        return (len(found) == len(texts) and b"".join(b"%s\nid: %s:%s\n\n" % one for one in found) == self.got
                and all(text in data and tape == self.tape and int(number) == n
                        for n, (text, (data, tape, number)) in enumerate(zip(texts, found))))


def read_all(clients, poller, limit_s):
    """Looks ten times a second, so that this process is not what is measured: the others need the CPU."""
    by_fd, deadline = {c.sock.fileno(): c for c in clients}, time.monotonic() + limit_s
    while by_fd:
        if time.monotonic() > deadline:
            raise Failure(f"{len(by_fd)} streams have not come to their end")
        for fd, _ in poller.poll(1000):
            client = by_fd.pop(fd)
            client.on_readable()
            if not client.done:
                by_fd[client.sock.fileno()] = client
        time.sleep(0.1)


def step_cuts(bench, scenario, number):
    events, every_ms = scenario.stream
    model, span = f"sim-{events}x{every_ms}", events * 100
    with run.Running(bench, TWO_WORKERS) as running:
        poller = select.poll()
        clients = [Client(running.port, poller, n, model, random.Random(f"{SEED} {number} {n}"), span)
                   for n in range(scenario.users)]
        read_all(clients, poller, events * every_ms / 1000 * 4 + 30)
        calls = answers(running)
        uncut = [Client(running.port, poller, c.number, model, None, span, c.tape) for c in clients]
        read_all(uncut, poller, 60)
        wrong = sum(not cut.right(events) or cut.got != whole.got for cut, whole in zip(clients, uncut))
        return {"wrong": wrong, "calls_off": abs(calls - len(clients)),
                "cuts": sum(c.connections - 1 for c in clients) / len(clients),
                "ok": len(clients) - wrong, "errors": wrong, "mixed": 0}


# ---- 3: one call for many -------------------------------------------------------------------------------------


def step_duplicates(bench, scenario, number):
    """A new key for each repetition, in turns streaming and not."""
    off, total = 0, {"ok": 0, "errors": 0, "mixed": 0}
    with run.Running(bench, TWO_WORKERS) as running:
        for turn in range(scenario.repeat):
            before = answers(running)
            how = ["--model", "sim-20x20", "--stream"] if turn % 2 else ["--model", "sim-400"]
            result = run.swarm(running, ["--users", scenario.users, "--once", "--timeout", 20, *how,
                                         "--text", f"duplicate {number}-{turn}: please repeat this line.",
                                         "--field", f"Idempotency-Key: key-{number}-{turn}"], 30)
            off = max(off, abs(answers(running) - before - 1))
            for kind, count in run.faults(result, scenario.users).items():
                total[kind] += count
    return {"calls_off": off, "wrong": total["errors"] + total["mixed"], **total}


# ---- 4: many readers of one answer ----------------------------------------------------------------------------


def reading(running, users, model, label):
    """swarm's arguments for readers of a tape that begins now."""
    text = f"a tape for {label}: please repeat this line."
    path = begin_tape(running, model, text)
    return ["--users", users, "--once", "--stream", "--model", model, "--get", "--path", path, "--text", text]


def relaying(_running, users, model, _label):
    return ["--users", users, "--once", "--stream", "--model", model]


def measure_events(bench, scenario, how):
    """CPU for each event that a client gets, in a window into streams that all run."""
    events, every_ms = scenario.stream
    marks, warmup = [], 2.0
    length = events * every_ms / 1000 - warmup - 0.5
    with run.Running(bench, ONE_WORKER) as running:
        def on_line(line):
            if line in ("window", "window end"):
                marks.append((run.cpu_seconds(running.pids), time.monotonic()))

        arguments = how(running, scenario.users, f"sim-{events}x{every_ms}", "measuring")
        result = run.swarm(running, [*arguments, "--warmup", warmup, "--seconds", length, "--timeout", 30], 40, on_line)
        if len(marks) != 2 or not result["events"]:
            raise Failure(f"nothing came through: {result['error_kinds']}")
        cpu_s, wall_s = (after - before for before, after in zip(*marks))
        return {"cpu_us": cpu_s / result["events"] * 1e6, "cores": cpu_s / wall_s, "events": result["events"],
                **run.faults(result, scenario.users)}


def step_reader_cpu(bench, scenario, number):
    kinds = [("reader", reading), ("relay", relaying)]
    seen = {name: measure_events(bench, scenario, how) for name, how in (kinds if number % 2 == 0 else kinds[::-1])}
    return {"reader_us": seen["reader"]["cpu_us"], "relay_us": seen["relay"]["cpu_us"],
            "ratio": seen["reader"]["cpu_us"] / seen["relay"]["cpu_us"], "seen": seen, **sum_faults(seen.values())}


def sum_faults(results):
    results = list(results)
    return {kind: sum(r[kind] for r in results) for kind in ("ok", "errors", "mixed")}


def measure_memory(bench, scenario, users, how):
    """Memory by client when all are there, and how it grows while the streams do."""
    events, every_ms = scenario.stream
    with run.Running(bench, ONE_WORKER) as running:
        run.swarm(running, ["--users", 32, "--seconds", 0.2, "--warmup", 0.1, "--timeout", 5], 8)
        time.sleep(0.2)
        before, seen = run.memory_bytes(running.pids)["pss"], []
        arguments = how(running, users, f"sim-{events}x{every_ms}", "holding")
        late = time.monotonic() + events * every_ms / 1000 - 1

        def on_line(line):
            if line == "held":
                for wait in (1, late - time.monotonic() - 1):
                    time.sleep(max(0, wait))
                    seen.append(run.memory_bytes(running.pids)["pss"])

        result = run.swarm(running, [*arguments, "--timeout", 60], 70, on_line)
        if len(seen) != 2:
            raise Failure(f"not all requests could be sent: {result['error_kinds']}")
        return {"users": users, "kb_each": (seen[0] - before) / users / 1024, "grown_kb": (seen[1] - seen[0]) / 1024,
                **run.faults(result, users)}


def measure_idle(bench, users):
    """Connections that had an answer and wait for their next request."""
    with run.Running(bench, ONE_WORKER) as running:
        before, open_ones = run.memory_bytes(running.pids)["pss"], []
        try:
            for _ in range(users):
                open_ones.append(socket.create_connection(("127.0.0.1", running.port), 10))
                open_ones[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
                if not open_ones[-1].recv(4096).startswith(b"HTTP/1.1 200 "):
                    raise Failure("no answer to GET /healthz")
            return (run.memory_bytes(running.pids)["pss"] - before) / users / 1024
        finally:
            for one in open_ones:
                one.close()


def step_reader_memory(bench, scenario, _number):
    limit = run.descriptor_limit()
    users, calls = min(scenario.users, limit - 1000), min(scenario.users, (limit - 1000) // 2)
    many, one = (measure_memory(bench, scenario, n, reading) for n in (users, 1))
    plain = measure_memory(bench, scenario, calls, relaying)
    return {"readers": users, "plain": calls, "reader_kb": many["kb_each"], "plain_kb": plain["kb_each"],
            "idle_kb": measure_idle(bench, users), "grown_kb": many["grown_kb"], "grown_one_kb": one["grown_kb"],
            "grown_each_kb": (many["grown_kb"] - one["grown_kb"]) / users, "seen": [many, one, plain],
            **sum_faults((many, one, plain))}


# ---- 5: what a plain relay costs, against another build -------------------------------------------------------


def step_against(bench, scenario, number):
    seen = {}
    for which in ((ONE_WORKER, BEFORE), (BEFORE, ONE_WORKER))[number % 2]:
        with run.Running(bench, which) as running:
            seen[which.name] = run.step_load(running, scenario, scenario.length_s)
    return {"cpu_us": seen["thaw"]["cpu_us"], "before_us": seen["before"]["cpu_us"],
            "ratio": seen["thaw"]["cpu_us"] / seen["before"]["cpu_us"],
            "elsewhere_cores": max(one["elsewhere_cores"] for one in seen.values()), "seen": seen,
            **sum_faults(seen.values())}


def count_instructions(bench, which, length_s):
    """Of a thaw that runs in callgrind until it is told to end; and the calls that it answered."""
    grinder = dataclasses.replace(which, command=lambda program, folder, port, upstream: [
        run.find_program("valgrind"), "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind",
        *which.command(program, folder, port, upstream)])
    with run.Running(bench, grinder) as running:
        result = run.swarm(running, ["--users", 16, "--seconds", length_s, "--warmup", 1, "--timeout", 20],
                           length_s + 30)
        if run.faults(result)["errors"]:
            raise Failure(f"wrong answers in callgrind: {result['error_kinds']}")
        running.process.stop(patience_s=20)
        total = re.search(r"^(?:summary|totals): (\d+)", run.read(f"{running.folder.name}/callgrind"), re.M)
        if not total:
            raise Failure(f"callgrind counted nothing: {running.process.last_words()}")
        return int(total[1]), result["ok"]


def instructions_per_call(bench, which, scenario):
    """By the difference of two runs, so that starting up does not count."""
    (short, few), (long, many) = (count_instructions(bench, which, s) for s in (0.5, scenario.length_s))
    if many - few < 1000:
        raise Failure(f"callgrind was too slow: {few} and {many} calls")
    return (long - short) / (many - few)


def step_instructions(bench, scenario, _number):
    after, before = (instructions_per_call(bench, which, scenario) for which in (ONE_WORKER, BEFORE))
    return {"instructions": after, "before": before, "ratio": after / before, "ok": 0, "errors": 0, "mixed": 0}


# ---- scenarios and figures ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Scenario:
    """rounds: (full run, --quick). step: bench, scenario, round's number -> a flat dict. load, warmup_s and length_s:
    as in run.py. stream: events, ms between them."""

    number: int
    key: str
    text: str
    step: Callable
    rounds: tuple
    users: int = 0
    quick_users: int = 0
    stream: tuple = ()
    repeat: int = 0
    load: tuple = ()
    warmup_s: float = 0.5
    length_s: float = 0
    against: bool = False

    def sized(self, quick):
        return dataclasses.replace(self, users=self.quick_users or self.users) if quick else self


SCENARIOS = (
    Scenario(1, "fan-out", "one request with 5 calls of 2 s", step_fan_out, (3, 1), users=1),
    Scenario(1, "fan-out-1000", "1,000 users at once, each with 5 calls of 2 s", step_fan_out, (5, 2), users=1000),
    Scenario(2, "cuts", "1,000 streams of 300 events 20 ms apart over 2 workers, cut at random and read on", step_cuts,
             (3, 1), users=1000, quick_users=300, stream=(300, 20)),
    Scenario(3, "duplicates", "500 duplicates of one POST at once over 2 workers, 20 times", step_duplicates, (1, 1),
             users=500, repeat=20),
    Scenario(4, "reader-memory", "10,000 readers of one running tape", step_reader_memory, (1, 1), users=10000,
             quick_users=2000, stream=(80, 125)),
    Scenario(4, "reader-cpu", "2,000 readers of one tape, and 2,000 plain streams", step_reader_cpu, (5, 1), users=2000,
             stream=(120, 50)),
    Scenario(5, "saturated", "64 connections, closed loop, against another build", step_against, (11, 3),
             load=("--users", 64), length_s=1.5, against=True),
    Scenario(5, "in-flight", "2,000 calls in flight of 200 ms, against another build", step_against, (11, 3),
             load=("--users", 2000, "--model", "sim-200"), warmup_s=0.9, length_s=1.5, against=True),
    Scenario(5, "instructions", "a plain call in callgrind, against another build", step_instructions, (1, 1),
             length_s=4, against=True),
)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of the table: the median of the rounds, or the worst of them. `mark` is the most that is allowed."""

    scenario: str
    value: str
    text: str
    unit: str
    digits: int = 0
    mark: Optional[float] = None
    worst: bool = False


FIGURES = (
    Figure("fan-out", "wall_s", "1 one request, 5 calls of 2 s: wall", "s", 3, mark=2.02),
    Figure("fan-out-1000", "wall_s", "  1,000 users at once, 5 calls of 2 s each: wall", "s", 3, mark=2.5),
    Figure("fan-out-1000", "ok", "  requests with all 5 answers right", ""),
    Figure("fan-out-1000", "calls_off", "  calls too many or too few", "", mark=0, worst=True),
    Figure("cuts", "wrong", "2 cut streams that are not as an uncut one", "", mark=0, worst=True),
    Figure("cuts", "cuts", "  cuts per stream", "", 1),
    Figure("cuts", "calls_off", "  calls too many or too few", "", mark=0, worst=True),
    Figure("duplicates", "calls_off", "3 500 duplicates: calls more than 1", "", mark=0, worst=True),
    Figure("duplicates", "wrong", "  answers wrong or not equal", "", mark=0, worst=True),
    Figure("reader-memory", "reader_kb", "4 user memory per reader of one tape (Pss)", "KiB", 2),
    Figure("reader-memory", "plain_kb", "  per plain stream instead", "KiB", 2),
    Figure("reader-memory", "idle_kb", "  per idle connection", "KiB", 2),
    Figure("reader-memory", "grown_one_kb", "  memory grows with the tape: 1 reader", "KiB"),
    Figure("reader-memory", "grown_kb", "  memory grows with the tape: all readers", "KiB"),
    Figure("reader-memory", "grown_each_kb", "  the difference, by reader", "KiB", 3, mark=0.1),
    Figure("reader-cpu", "ratio", "  CPU per event and reader, to a plain relay's", "", 2, mark=1),
    Figure("reader-cpu", "reader_us", "  CPU per event and reader", "us", 2),
    Figure("reader-cpu", "relay_us", "  CPU per event of a plain relay", "us", 2),
    Figure("saturated", "ratio", "5 CPU per request to --against, 64 connections", "", 3, mark=1.03),
    Figure("saturated", "cpu_us", "  CPU per request", "us", 1),
    Figure("in-flight", "ratio", "  CPU per request to --against, 2,000 in flight", "", 3, mark=1.03),
    Figure("in-flight", "cpu_us", "  CPU per request", "us", 1),
    Figure("instructions", "ratio", "  instructions per request to --against", "", 3, mark=1.03),
    Figure("instructions", "instructions", "  instructions per request", ""),
)


# ---- the run --------------------------------------------------------------------------------------------------


class Bench:
    """What a run needs to know, and what it has measured. sim, swarm and programs are for run.Running."""

    find_tools = run.Bench.find_tools

    def __init__(self, options):
        self.options, self.raw, self.notes, self.built = options, [], [], None
        self.sim, self.swarm = self.find_tools()
        self.programs = {"thaw": run.existing(options.thaw)}
        if not self.programs["thaw"]:
            sys.exit(f"tapes.py: {options.thaw} is not there: build it, or say where it is with --thaw FILE")
        if options.against:
            self.programs["before"] = run.existing(options.against)
            if not self.programs["before"]:
                sys.exit(f"tapes.py: {options.against} cannot be run")
        wanted = [s for s in SCENARIOS if not options.only or s.number in options.only]
        self.scenarios = [s for s in wanted if options.against or not s.against]
        if len(self.scenarios) < len(wanted):
            self.notes.append("5 compares with another build: name its program with --against FILE")
        elif any(s.step is step_instructions for s in wanted) and not run.find_program("valgrind"):
            self.scenarios = [s for s in self.scenarios if s.step is not step_instructions]
            self.notes.append("instructions were not counted: install the package valgrind")

    def rounds(self, scenario):
        return self.options.rounds or scenario.rounds[self.options.quick]

    def run(self):
        for scenario, number in ((s, n) for s in self.scenarios for n in range(self.rounds(s))):
            record = {"scenario": scenario.key, "round": number + 1, **self.attempt(scenario, number)}
            self.raw.append(record)
            if "failed" in record:
                self.notes.append(f"{scenario.key}, round {number + 1} failed: {record['failed']}")
            shown = [f"{f.value} {record[f.value]:.{f.digits}f}" for f in FIGURES
                     if f.scenario == scenario.key and f.value in record]
            wrong = f"  WRONG: {wrong_answers(record)}" if wrong_answers(record) else ""
            print(f"{scenario.number} {scenario.key:<14}{number + 1}/{self.rounds(scenario)} "
                  f"{', '.join(shown) or record['failed']}{wrong}", file=sys.stderr, flush=True)

    def attempt(self, scenario, number):
        begin, busy, own, record = time.monotonic(), run.busy_seconds(), os.times(), {}
        try:
            record.update(scenario.step(self, scenario.sized(self.options.quick), number))
        except (Failure, OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as failure:
            record["failed"] = str(failure) or type(failure).__name__
        took = time.monotonic() - begin
        used = sum(after - before for after, before in zip(os.times()[:4], own[:4]))
        record.setdefault("elsewhere_cores", max(0, run.busy_seconds() - busy - used) / took)
        record["took_s"] = round(took, 2)
        return record

    def evaluate(self):
        rows = []
        for figure in FIGURES:
            records = [r for r in self.raw if r["scenario"] == figure.scenario]
            values = [r[figure.value] for r in records if figure.value in r]
            if not records:
                continue
            value = (max if figure.worst else statistics.median)(values) if values else None
            failed = any("failed" in r for r in records)
            met = None if figure.mark is None else bool(values) and not failed and value <= figure.mark
            rows.append({"scenario": figure.scenario, "value": figure.value, "text": figure.text.strip(),
                         "unit": figure.unit, "shown": value, "min": min(values, default=None),
                         "max": max(values, default=None), "rounds": len(values), "mark": figure.mark, "met": met})
        return rows


def wrong_answers(record):
    return record.get("errors", 0) + record.get("mixed", 0)


def table(rows, totals):
    figures = {(f.scenario, f.value): f for f in FIGURES}
    lines = [["figure", "unit", "thaw", "from", "to", "rounds", "mark", "met"]]
    for row in rows:
        figure = figures[row["scenario"], row["value"]]
        numbers = ["failed" if row[k] is None else f"{row[k]:,.{figure.digits}f}" for k in ("shown", "min", "max")]
        lines.append([figure.text, figure.unit, *numbers, str(row["rounds"]),
                      "" if figure.mark is None else f"<= {figure.mark:g} {figure.unit}".strip(),
                      {True: "yes", False: "NO", None: ""}[row["met"]]])
    lines.append(["wrong, missing, late or mixed-up answers", "", str(totals["wrong"]), "", "", "", "none",
                  "NO" if totals["wrong"] or totals["failed"] else "yes"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    numeric = range(2, 6)
    rule = ["-" * (w - 1) + ":" if i in numeric else "-" * w for i, w in enumerate(widths)]
    return "\n".join("| " + " | ".join(c.rjust(w) if i in numeric else c.ljust(w)
                                       for i, (c, w) in enumerate(zip(line, widths))) + " |"
                     for line in [lines[0], rule, *lines[1:]])


def parse_options(arguments):
    parser = argparse.ArgumentParser(
        description="Measures what tapes promise: fan-out, cut streams, duplicates, many readers, plain relays.",
        epilog="example: bench/tapes.py --quick --only 1,3 --against OTHER/thaw")
    parser.add_argument("--thaw", default="build/release/thaw", metavar="FILE", help="thaw's program (%(default)s)")
    parser.add_argument("--against", metavar="FILE", help="another build of thaw, for 5")
    parser.add_argument("--tools", default="build/release/bench", metavar="DIR",
                        help="where thaw-bench-sim and thaw-bench-swarm are (%(default)s); compiled when not there")
    texts = {number: "; ".join(s.text for s in SCENARIOS if s.number == number) for number in
             sorted({s.number for s in SCENARIOS})}
    parser.add_argument("--only", default="", metavar="1,2", help="these scenarios: " + ". ".join(
        f"{number} {text}" for number, text in texts.items()))
    parser.add_argument("--quick", action="store_true", help="fewer rounds and clients, about a minute")
    parser.add_argument("--rounds", type=int, metavar="N", help="this many rounds of everything")
    parser.add_argument("--out", default=str(run.HERE / "results"), metavar="DIR",
                        help="where the JSON goes (bench/results)")
    options = parser.parse_args(arguments)
    only = [n for n in options.only.split(",") if n]
    if not set(only) <= {str(number) for number in texts}:
        parser.error(f"--only {options.only}: there are {', '.join(map(str, texts))}")
    options.only = [int(n) for n in only]
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds: at least 1")
    return options


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse_options(sys.argv[1:])
    run.raise_descriptors()
    bench = Bench(options)
    date, begin, facts = datetime.datetime.now(), time.monotonic(), run.machine()
    bench.run()
    rows = bench.evaluate()
    totals = {"wrong": sum(wrong_answers(r) for r in bench.raw), "failed": sum("failed" in r for r in bench.raw)}
    elsewhere = statistics.median(r["elsewhere_cores"] for r in bench.raw) if bench.raw else 0
    bench.notes.append(f"something else used {elsewhere:.2f} of the cores meanwhile")
    versions = {name: run.output_of(program, "--version") for name, program in bench.programs.items()}
    print(table(rows, totals))
    print()
    for name, version in versions.items():
        print(f"{name}: {version}")
    print(f"{facts['nproc']} x {facts['cpu']}, Linux {facts['kernel']}, {time.monotonic() - begin:.0f} s in all")
    for note in bench.notes:
        print(f"note: {note}")
    path = run.result_path(options.out, date, f"{run.git_sha()}-tapes")
    path.write_text(json.dumps({
        "date": date.isoformat(timespec="seconds"), "git": run.git_sha(),
        "options": {name: value for name, value in vars(options).items() if name != "out"}, "machine": facts,
        "versions": versions, "took_s": round(time.monotonic() - begin, 1), "figures": rows, "totals": totals,
        "notes": bench.notes, "raw": bench.raw}, indent=1) + "\n")
    print(f"every figure: {os.path.relpath(path)}")
    return 1 if totals["wrong"] or totals["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
