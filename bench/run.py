#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""run.py - what a call through thaw costs, next to nginx, HAProxy and no proxy at all.

One command, one table. All targets take part in ONE run, in turns (A B C, then C B A, ...), since on a
shared machine only ratios taken together mean anything; each figure is the median of its rounds. Every step
starts its upstream (sim) and its target afresh on free ports of 127.0.0.1, drives them with swarm, which
checks each answer, and ends them by their process ids.

    TARGETS     one record each: how to find it, what it is called with
    SCENARIOS   one row each: which load, how long, how often
    FIGURES     one row each: which number of a scenario is shown, and the mark it has to meet

Adding a target, a load or a figure is adding a row. See README.md for how to read the result.

SPDX-License-Identifier: MIT
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import pwd
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Optional

HERE = Path(__file__).resolve().parent
HOLD_USERS = 9500
QUIET_CORES = 0.2  # what other programs may use before --patience measures again
IDENTITY = "cold start"


class Failure(Exception):
    """A step that could not be measured; the run goes on with the next."""


# ---- /proc ------------------------------------------------------------------------------------------


def read(path):
    try:
        return Path(path).read_text()
    except OSError:  # the process has gone
        return ""


def process_tree(pid):
    """The process and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = read(f"/proc/{entry}/stat").rpartition(")")[2].split()
            if len(stat) > 1:
                children.setdefault(int(stat[1]), []).append(int(entry))
    tree, todo = [], [pid]
    while todo:
        one = todo.pop()
        tree.append(one)
        todo += children.get(one, [])
    return tree


def cpu_seconds(pids):
    """CPU time of the processes: the scheduler's nanoseconds where it keeps them, else ticks."""
    total = 0.0
    for pid in pids:
        tasks = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
        spent = [read(task).split() for task in tasks]
        if any(s and s[0] != "0" for s in spent):
            total += sum(int(s[0]) for s in spent if s) / 1e9
        else:
            stat = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if stat:
                total += (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return total


def busy_seconds():
    """CPU time spent by everything on this machine."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, read("/proc/stat").split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pids):
    """Rss and Pss of the processes, summed."""
    sums = {"rss": 0, "pss": 0}
    for pid in pids:
        for name, kb in re.findall(r"^(Rss|Pss):\s+(\d+) kB", read(f"/proc/{pid}/smaps_rollup"), re.M):
            sums[name.lower()] += int(kb) * 1024
    return sums


# ---- processes --------------------------------------------------------------------------------------


def free_port():
    """Outside the range that the kernel takes outgoing ones from, so that none of those is in the way."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


class Process:
    """A started program, ended by its process id together with its children."""

    def __init__(self, argv, log):
        self.log = log
        self.environment = {k: v for k, v in os.environ.items() if k not in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")}
        write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.pid = os.posix_spawn(
            argv[0], argv, self.environment,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                          (os.POSIX_SPAWN_OPEN, 1, str(log), write, 0o600),
                          (os.POSIX_SPAWN_OPEN, 2, str(log), write, 0o600)],
            setsigdef=[signal.SIGPIPE])
        self.ended = False

    def alive(self):
        if not self.ended:
            self.ended = os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return not self.ended

    def last_words(self):
        lines = read(self.log).strip().splitlines()
        return "; ".join(lines[-3:]) or "it said nothing"

    def stop(self, patience_s=2.0):
        tree = process_tree(self.pid)[1:] if self.alive() else []
        if self.alive():
            os.kill(self.pid, signal.SIGTERM)
        end = time.monotonic() + patience_s
        while self.alive() and time.monotonic() < end:
            time.sleep(0.005)
        for pid in tree + ([self.pid] if self.alive() else []):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not self.ended:
            os.waitpid(self.pid, 0)
            self.ended = True


def start_sim(bench, folder):
    log = Path(folder) / "sim.log"
    sim = Process([str(bench.sim), "--port", "0", "--lifetime", "120"], log)
    end = time.monotonic() + 5
    while time.monotonic() < end and sim.alive():
        found = re.search(r"listening on 127.0.0.1:(\d+)\n", read(log))
        if found:
            return sim, int(found[1])
        time.sleep(0.002)
    sim.stop()
    raise Failure(f"sim did not start: {sim.last_words()}")


# ---- targets ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Target:
    """Something between swarm and sim.

    find:     where its program is, or None
    command:  program, folder for files, own port, upstream's port -> arguments to start it in the foreground
    version:  program -> text
    missing:  what to do when it is not there
    """

    name: str
    find: Callable
    command: Optional[Callable]
    version: Callable
    missing: str = ""


def find_program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")


def output_of(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    text = (done.stdout + done.stderr).strip().splitlines()
    return text[0] if text else "unknown"


NGINX = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log {folder}/nginx.error.log warn;
{user}
events {{
    worker_connections {connections};
    multi_accept on;
}}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream sim {{
        server 127.0.0.1:{upstream};
        keepalive {keep};
        keepalive_requests 1000000000;
        keepalive_timeout 3600s;
    }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        location / {{
            proxy_pass http://sim;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""

HAPROXY = """\
global
    nbthread 1
    maxconn {half}
    tune.pool-low-fd-ratio 90
    tune.pool-high-fd-ratio 95
defaults
    mode http
    timeout connect 10s
    timeout client 600s
    timeout server 600s
    option http-no-delay
    http-reuse always
frontend in
    bind 127.0.0.1:{port} backlog 4096
    default_backend sim
backend sim
    server sim 127.0.0.1:{upstream} pool-purge-delay 3600s
"""


def descriptor_limit():
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 20)


def raise_descriptors():
    """For this process and what it starts."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))


def write_config(template, folder, name, port, upstream):
    """Sizes follow the descriptor limit. nginx gets more connections than that: with less than a sixteenth
    of them free it closes clients that have just connected, though descriptors are left."""
    path = Path(folder) / name
    limit = descriptor_limit()
    path.write_text(template.format(
        folder=folder, port=port, upstream=upstream, descriptors=limit,
        connections=min(limit * 11 // 10, 66000), keep=min(limit // 2, 10000), half=min((limit - 200) // 2, 30000),
        user=f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""))
    return str(path)


def thaw_command(program, _folder, port, upstream):
    return [program, "serve", "--listen", f"127.0.0.1:{port}",
            "--upstream", f"http://127.0.0.1:{upstream}/v1", "--workers", "1"]


def thaw_h2_command(program, folder, port, upstream):
    """The upstream is the same sim, which speaks HTTP/2 to whom begins with it."""
    return [a.replace("http://", "h2c://") for a in thaw_command(program, folder, port, upstream)]


def nginx_command(program, folder, port, upstream):
    return [program, "-p", folder, "-e", f"{folder}/nginx.error.log", "-c",
            write_config(NGINX, folder, "nginx.conf", port, upstream)]


def haproxy_command(program, folder, port, upstream):
    return [program, "-db", "-f", write_config(HAPROXY, folder, "haproxy.cfg", port, upstream)]


def existing(path):
    return str(Path(path).resolve()) if os.access(path, os.X_OK) else None


TARGETS = (
    Target("direct", find=lambda o: "sim", command=None, version=lambda p: "no proxy: sim itself"),
    Target("thaw", find=lambda o: existing(o.thaw), command=thaw_command,
           version=lambda p: output_of(p, "--version"), missing="build it, or say where it is with --thaw FILE"),
    Target("thaw-h2", find=lambda o: existing(o.thaw), command=thaw_h2_command,
           version=lambda p: output_of(p, "--version") + ", HTTP/2 to the upstream"),
    Target("nginx", find=lambda o: find_program("nginx"), command=nginx_command,
           version=lambda p: output_of(p, "-v"), missing="install the package nginx-light (or nginx)"),
    Target("haproxy", find=lambda o: find_program("haproxy"), command=haproxy_command,
           version=lambda p: output_of(p, "-v"), missing="install the package haproxy"),
)


class Running:
    """sim and one target in front of it, for the length of a with block."""

    def __init__(self, bench, target):
        self.bench, self.target = bench, target
        self.process = None

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="thaw-bench-")
        self.sim = None
        try:
            self.sim, self.upstream = start_sim(self.bench, self.folder.name)
            self.port = self.upstream
            if self.target.command:
                self.port = free_port()
                self.process = Process(self.command(), Path(self.folder.name) / "target.log")
                self.wait_until_listening()
            self.pids = process_tree((self.process or self.sim).pid)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in (self.process, self.sim):
            if process:
                process.stop()
        self.folder.cleanup()

    def command(self):
        return self.target.command(self.bench.programs[self.target.name], self.folder.name, self.port, self.upstream)

    def wait_until_listening(self):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                time.sleep(0.1)  # children that are still being forked
                return
            if not self.process.alive():
                break
            time.sleep(0.005)
        raise Failure(f"{self.target.name} does not listen: {self.process.last_words()}")

    def in_flight(self):
        """How many calls the upstream is holding right now."""
        with socket.create_connection(("127.0.0.1", self.upstream), 5) as s:
            s.sendall(b"GET /stats HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n")
            answer = s.makefile("rb").read()
        return json.loads(answer.partition(b"\r\n\r\n")[2])["in_flight"]


# ---- steps: one measurement of one target -----------------------------------------------------------


def swarm(running, arguments, limit_s, on_line=lambda line: None):
    """Runs swarm; hands each line of its stderr ("window", "held", ...) on as it comes; returns its JSON."""
    argv = [str(running.bench.swarm), "--port", str(running.port), "--limit", str(limit_s), *map(str, arguments)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(limit_s + 15, process.kill)
        watchdog.start()
        said = []
        try:
            for line in process.stderr:
                said.append(line.strip())
                on_line(line.strip())
            out = process.stdout.read()
        except BaseException:
            process.kill()
            raise
        finally:
            watchdog.cancel()
    if process.returncode != 0 or not out:
        raise Failure(f"swarm failed: {' '.join(said) or process.returncode}")
    return json.loads(out)


def faults(result, expected=None):
    """Answers that were wrong, late or missing; mixed-up ones are counted apart."""
    missing = max(0, expected - result["ok"] - result["errors"] - result["mixed"]) if expected else 0
    return {"ok": result["ok"], "errors": result["errors"] + missing, "mixed": result["mixed"]}


def step_load(running, scenario, length):
    """CPU, latencies and gaps inside a window of steady load."""
    marks = []
    sim_pids = [running.sim.pid]

    def on_line(line):
        if line in ("window", "window end"):
            marks.append((cpu_seconds(running.pids), cpu_seconds(sim_pids), busy_seconds(), time.monotonic()))

    arguments = [*scenario.load, "--warmup", scenario.warmup_s, "--seconds", length, "--timeout", 15]
    result = swarm(running, arguments, scenario.warmup_s + length + 25, on_line)
    units = result["events"] if "--stream" in scenario.load else result["calls"]
    if len(marks) != 2 or not units:
        raise Failure(f"nothing came through: {result['error_kinds']}")
    target_s, sim_s, busy_s, wall_s = (after - before for before, after in zip(*marks))
    swarm_s = result["cpu_s"] * wall_s / max(result["wall_s"], wall_s)
    sim_apart_s = sim_s if running.process else 0
    return {
        "cpu_us": target_s / units * 1e6, "sim_cpu_us": sim_s / units * 1e6,
        "cores": target_s / wall_s, "elsewhere_cores": max(0, busy_s - target_s - sim_apart_s - swarm_s) / wall_s,
        "rps": result["rps"], "p50_ms": result["total_ms"]["p50"], "p99_ms": result["total_ms"]["p99"],
        "first_p50_ms": result["ttfb_ms"]["p50"], "first_p99_ms": result["ttfb_ms"]["p99"],
        "gap_p50_ms": result["gap_ms"]["p50"], "gap_p99_ms": result["gap_ms"]["p99"],
        **faults(result), "swarm": result}


def step_hold(running, scenario, length):
    """Calls that are all held at once: memory in the middle, wall time, everybody answered."""
    users = min(scenario.users, (descriptor_limit() - 1000) // 2)
    swarm(running, ["--users", 32, "--seconds", 0.2, "--warmup", 0.1, "--timeout", 5], 8)
    time.sleep(0.2)
    before, cpu_before = memory_bytes(running.pids), cpu_seconds(running.pids)
    middle = {}

    def on_line(line):
        if line == "held":
            time.sleep(length / 2)
            middle.update(memory_bytes(running.pids), in_flight=running.in_flight())

    arguments = ["--users", users, "--once", "--model", f"sim-{length * 1000:.0f}", "--timeout", length + 20]
    result = swarm(running, arguments, length + 25, on_line)
    cpu_s = cpu_seconds(running.pids) - cpu_before
    if not middle:
        raise Failure(f"the calls could not all be sent: {result['error_kinds']}")
    return {
        "users": users, "held_at_once": middle["in_flight"], "wall_s": result["wall_s"],
        "kb_per_call": (middle["pss"] - before["pss"]) / users / 1024,
        "rss_kb_per_call": (middle["rss"] - before["rss"]) / users / 1024,
        "idle": before, "peak": middle, "cpu_us": cpu_s / users * 1e6,
        "p50_ms": result["total_ms"]["p50"], "p99_ms": result["total_ms"]["p99"],
        **faults(result, users), "swarm": result}


def first_answer(port, deadline):
    """Asks until one call is answered well; pauses of 0.1 ms leave the core to what is being started."""
    body = json.dumps({"model": "sim-0", "messages": [{"role": "user", "content": IDENTITY}]}).encode()
    request = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
               b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    while time.monotonic() < deadline:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.settimeout(2)
            s.connect(("127.0.0.1", port))
            s.sendall(request)
            answer = b""
            while b"fp_sim" not in answer:
                data = s.recv(65536)
                if not data:
                    break
                answer += data
            if answer.startswith(b"HTTP/1.1 200") and IDENTITY.encode() in answer and b"fp_sim" in answer:
                return
        time.sleep(0.0001)
    raise Failure("no answer within the time")


def step_cold(running, _scenario, _length):
    """From exec to the first relayed answer. The process that Running started is put aside for a fresh one."""
    if not running.process:
        raise Failure("nothing to start")
    running.process.stop()
    running.port = free_port()
    argv = running.command()
    begin = time.perf_counter()
    running.process = Process(argv, Path(running.folder.name) / "target.log")
    first_answer(running.port, time.monotonic() + 10)
    cold_s = time.perf_counter() - begin
    time.sleep(0.2)
    memory = memory_bytes(process_tree(running.process.pid))
    return {"cold_ms": cold_s * 1000, "idle_rss_mb": memory["rss"] / 1e6, "idle_pss_mb": memory["pss"] / 1e6,
            "ok": 1, "errors": 0, "mixed": 0}


def step_mock(running, scenario, length):
    """What an answer without delay costs thaw mock, beside sim, at one rate: the two take turns."""
    running.process.stop()
    running.port = free_port()
    program = running.bench.programs[running.target.name]
    running.process = Process([program, "mock", "--listen", f"127.0.0.1:{running.port}"],
                              Path(running.folder.name) / "mock.log")
    running.wait_until_listening()
    ports = {"mock": (running.port, [running.process.pid], ["--mock"]), "sim": (running.upstream, [running.sim.pid], [])}
    cost, sums = {"mock": [], "sim": []}, {"ok": 0, "errors": 0, "mixed": 0}
    for name in ("sim", "mock", "mock", "sim", "sim", "mock"):
        running.port, pids, more = ports[name]
        marks = []

        def on_line(line, pids=pids, marks=marks):
            if line in ("window", "window end"):
                marks.append(cpu_seconds(pids))

        result = swarm(running, [*scenario.load, *more, "--warmup", scenario.warmup_s, "--seconds", length,
                                 "--timeout", 15], scenario.warmup_s + length + 25, on_line)
        if len(marks) != 2 or not result["calls"]:
            raise Failure(f"nothing came through: {result['error_kinds']}")
        cost[name].append((marks[1] - marks[0]) / result["calls"] * 1e6)
        sums = {key: sums[key] + value for key, value in faults(result).items()}
    mock_us, sim_us = statistics.median(cost["mock"]), statistics.median(cost["sim"])
    return {"mock_us": mock_us, "sim_us": sim_us, "mock_to_sim": mock_us / sim_us, "all_us": cost, **sums}


# ---- scenarios and figures --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A load. length_s and rounds: (full run, --quick)."""

    number: int
    key: str
    text: str
    step: Callable
    length_s: tuple
    rounds: tuple
    load: tuple = ()
    users: int = 0
    warmup_s: float = 0.5
    skip: tuple = ()


SCENARIOS = (
    Scenario(1, "saturated", "64 connections, closed loop, the upstream answers at once", step_load,
             (3, 1.2), (5, 2), ("--users", 64)),
    Scenario(2, "in-flight", "2,000 calls in flight, closed loop in step, answered after 200 ms", step_load,
             (3, 1.2), (5, 2), ("--users", 2000, "--model", "sim-200"), warmup_s=0.9),
    Scenario(3, "open-loop", "4,000 calls a second by the clock, answered after 200 ms", step_load,
             (3, 1.2), (3, 1), ("--rate", 4000, "--model", "sim-200"), warmup_s=0.7),
    Scenario(4, "low-rate", "500 calls a second by the clock, answered at once", step_load,
             (4, 1.5), (3, 1), ("--rate", 500, "--users", 64), warmup_s=0.3),
    Scenario(5, "streams", "1,000 streams of 40 events, 50 ms apart", step_load,
             (4, 1.5), (5, 1), ("--users", 1000, "--stream", "--model", "sim-40x50", "--ramp", 1), warmup_s=1.5),
    Scenario(6, "hold", "as many calls as the descriptor limit allows, all at once", step_hold,
             (10, 5), (2, 1), users=HOLD_USERS),
    Scenario(7, "users-50", "50 users at once, a call of 5 s", step_hold, (5, 5), (2, 1), users=50),
    Scenario(7, "users-1000", "1,000 users at once, a call of 5 s", step_hold, (5, 5), (2, 1), users=1000),
    Scenario(8, "cold", "exec to the first relayed answer", step_cold, (0, 0), (9, 7), skip=("direct",)),
    Scenario(9, "mock", "thaw mock beside sim: 4,000 calls a second by the clock, answered at once", step_mock,
             (2, 1), (3, 1), ("--rate", 4000, "--users", 64), skip=("direct", "thaw-h2", "nginx", "haproxy")),
)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of the table. `mark` is the most that is allowed: of the value, or of its ratio to nginx."""

    scenario: str
    value: str
    text: str
    unit: str
    digits: int = 1
    added: bool = False  # what the target adds to direct, round by round
    mark_value: Optional[float] = None
    mark_ratio: Optional[float] = None
    compare: bool = True  # a ratio to nginx says something


FIGURES = (
    Figure("saturated", "cpu_us", "1 CPU per request, 64 connections, saturated", "us", mark_ratio=0.80),
    Figure("saturated", "rps", "  requests per second (all share the cores)", "/s", 0),
    Figure("in-flight", "cpu_us", "2 CPU per request, 2,000 in flight, 200 ms", "us", mark_ratio=0.75),
    Figure("in-flight", "p99_ms", "  p99", "ms"),
    Figure("open-loop", "cpu_us", "3 CPU per request, 4,000/s open loop, 200 ms", "us"),
    Figure("open-loop", "p50_ms", "  p50 added to direct", "ms", 3, added=True, compare=False),
    Figure("open-loop", "p99_ms", "  p99 added to direct", "ms", 3, added=True, compare=False),
    Figure("low-rate", "p50_ms", "4 p50 added to direct at 500/s", "ms", 3, added=True, compare=False),
    Figure("low-rate", "p99_ms", "  p99 added to direct at 500/s", "ms", 3, added=True, compare=False),
    Figure("streams", "cpu_us", "5 CPU per event, 1,000 streams, 20,000/s", "us", mark_ratio=0.80),
    Figure("streams", "gap_p50_ms", "  gap p50 (50 sent)", "ms", 2, compare=False),
    Figure("streams", "gap_p99_ms", "  gap p99", "ms", 2, compare=False),
    Figure("streams", "first_p99_ms", "  first event p99 (50 sent)", "ms", 1, compare=False),
    Figure("hold", "kb_per_call", "6 user memory per held call, 1 KB body (Pss)", "KiB", 2, mark_value=2.5),
    Figure("hold", "held_at_once", "  calls held at once, seen upstream", "", 0, compare=False),
    Figure("hold", "ok", "  answered, each with its own answer", "", 0, compare=False),
    Figure("hold", "wall_s", "  wall", "s", 2, compare=False),
    Figure("users-50", "wall_s", "7 50 users x 5 s, wall", "s", 3, mark_value=5.1, compare=False),
    Figure("users-1000", "wall_s", "  1,000 users x 5 s, wall", "s", 3, mark_value=5.3, compare=False),
    Figure("cold", "cold_ms", "8 cold start: exec to first relayed answer", "ms", mark_value=10),
    Figure("cold", "idle_rss_mb", "  idle RSS after it", "MB", mark_value=8),
    Figure("mock", "mock_us", "9 thaw mock: CPU per answer at once, 4,000/s", "us", compare=False),
    Figure("mock", "mock_to_sim", "  of what sim's cost, in turns", "x", 2, mark_value=1.2, compare=False),
)


# ---- the run ----------------------------------------------------------------------------------------


class Bench:
    """What a run needs to know, and what it has measured."""

    def __init__(self, options):
        self.options = options
        self.raw = []
        self.notes = []
        self.programs = {}
        self.built = None
        self.sim, self.swarm = self.find_tools()
        self.targets = self.find_targets()
        self.scenarios = [s for s in SCENARIOS if not options.only or s.number in options.only]

    def find_tools(self):
        names = ("thaw-bench-sim", "thaw-bench-swarm")
        folder = Path(self.options.tools)
        if not all(os.access(folder / name, os.X_OK) for name in names):
            compiler = find_program("cc")
            if not compiler:
                sys.exit(f"run.py: {' and '.join(names)} are not in {folder}: build them, or say --tools DIR")
            self.built = tempfile.TemporaryDirectory(prefix="thaw-bench-tools-")
            for name in names:
                source = HERE / f"{name.rpartition('-')[2]}.c"
                subprocess.run([compiler, "-std=gnu11", "-O2", "-pthread", "-o", f"{self.built.name}/{name}", source, "-lnghttp2"],
                               check=True, timeout=120)
            self.notes.append("sim and swarm were compiled for this run, as they are not in --tools")
            folder = Path(self.built.name)
        return tuple((folder / name).resolve() for name in names)

    def find_targets(self):
        found = []
        for target in TARGETS:
            if target.name in self.options.targets:
                program = target.find(self.options)
                if program:
                    self.programs[target.name] = program
                    found.append(target)
                else:
                    self.notes.append(f"{target.name} is not here and was left out: {target.missing}")
        return found

    def rounds(self, scenario):
        quick = self.options.quick
        return self.options.rounds or scenario.rounds[quick]

    def run(self):
        for scenario in self.scenarios:
            targets = [t for t in self.targets if t.name not in scenario.skip]
            for number in range(self.rounds(scenario)):
                for target in targets if number % 2 == 0 else reversed(targets):
                    self.measure(scenario, target, number)

    def attempt(self, scenario, target):
        begin, record = time.monotonic(), {}
        try:
            with Running(self, target) as running:
                record.update(scenario.step(running, scenario, scenario.length_s[self.options.quick]))
        except (Failure, OSError, ValueError, subprocess.SubprocessError) as failure:
            record["failed"] = str(failure)
        record["took_s"] = round(time.monotonic() - begin, 2)
        return record

    def measure(self, scenario, target, number):
        best = self.attempt(scenario, target)
        for _ in range(self.options.patience):
            if self.wrong(best) or "failed" in best or best.get("elsewhere_cores", 0) <= QUIET_CORES:
                break  # calm enough; and what went wrong is never repeated away
            time.sleep(2)
            again = self.attempt(scenario, target)
            if self.wrong(again) or "failed" in again or again["elsewhere_cores"] < best["elsewhere_cores"]:
                best = again
        record = {"scenario": scenario.key, "target": target.name, "round": number + 1, **best}
        self.raw.append(record)
        if "failed" in record:
            self.notes.append(f"{scenario.key}, {target.name}, round {number + 1} failed: {record['failed']}")
        shown = [f"{record[f.value]:.{f.digits}f} {f.unit}".strip() for f in FIGURES
                 if f.scenario == scenario.key and f.value in record]
        wrong = f"  WRONG: {record['errors']} errors, {record['mixed']} mixed" if self.wrong(record) else ""
        print(f"{scenario.number} {scenario.key:<11}{number + 1}/{self.rounds(scenario)} {target.name:<8}"
              f"{', '.join(shown) or record.get('failed', 'done')}{wrong}", file=sys.stderr, flush=True)

    @staticmethod
    def wrong(record):
        return record.get("errors", 0) + record.get("mixed", 0)

    # -- evaluation --

    def values(self, figure, target):
        """The figure of each round; an added latency needs the direct one of the same round."""
        of = {(r["target"], r["round"]): r[figure.value] for r in self.raw
              if r["scenario"] == figure.scenario and figure.value in r}
        if not figure.added:
            return [v for (name, _), v in of.items() if name == target]
        if target == "direct":
            return []
        return [v - of["direct", number] for (name, number), v in of.items()
                if name == target and ("direct", number) in of]

    def evaluate(self):
        rows = []
        for figure in FIGURES:
            if figure.scenario not in [s.key for s in self.scenarios]:
                continue
            cells = {}
            failed = [r["target"] for r in self.raw if r["scenario"] == figure.scenario and "failed" in r]
            for target in self.targets:
                values = self.values(figure, target.name)
                if values:
                    kept = sorted(values)[1:-1] if len(values) >= 5 else values
                    cells[target.name] = {"median": statistics.median(values), "min": min(values), "max": max(values),
                                          "spread": max(kept) - min(kept)}
            thaw, nginx = cells.get("thaw"), cells.get("nginx")
            ratio = met = None
            if figure.compare and thaw and nginx and nginx["median"] > 0:
                ratio = thaw["median"] / nginx["median"]
            if figure.mark_ratio is not None and ratio is not None:
                met = ratio <= figure.mark_ratio
            elif figure.mark_value is not None and thaw:
                met = thaw["median"] <= figure.mark_value
            elif "thaw" in failed and (figure.mark_ratio is not None or figure.mark_value is not None):
                met = False
            rows.append({"scenario": figure.scenario, "value": figure.value, "text": figure.text.strip(),
                         "unit": figure.unit, "targets": cells, "thaw_to_nginx": ratio,
                         "mark_value": figure.mark_value, "mark_ratio": figure.mark_ratio, "met": met,
                         "failed": failed})
        return rows

    def totals(self):
        """Wrong answers per target over the whole run: the mark is none."""
        wrong = {}
        for target in self.targets:
            records = [r for r in self.raw if r["target"] == target.name]
            wrong[target.name] = {
                "ok": sum(r.get("ok", 0) for r in records), "errors": sum(r.get("errors", 0) for r in records),
                "mixed": sum(r.get("mixed", 0) for r in records), "failed": sum("failed" in r for r in records)}
        return wrong


# ---- output -----------------------------------------------------------------------------------------


def table(bench, rows, totals):
    names = [t.name for t in bench.targets]
    figures = {(f.scenario, f.value): f for f in FIGURES}
    lines = [["figure", "unit", *names, "thaw/nginx", "mark", "met"]]
    noisy = False
    for row in rows:
        figure = figures[row["scenario"], row["value"]]
        line = [figure.text, row["unit"]]
        for name in names:
            cell = row["targets"].get(name)
            if not cell:
                line.append("failed" if name in row["failed"] else "-")
                continue
            rough = not figure.added and cell["median"] > 0 and cell["spread"] / cell["median"] > 0.25
            noisy |= rough
            line.append(f"{cell['median']:,.{figure.digits}f}{'~' if rough else ''}")
        line.append("-" if row["thaw_to_nginx"] is None else f"{row['thaw_to_nginx']:.2f}")
        line.append(f"<= {figure.mark_ratio:.2f} of nginx" if figure.mark_ratio is not None
                    else f"<= {figure.mark_value:g} {figure.unit}" if figure.mark_value is not None else "")
        line.append({True: "yes", False: "NO", None: "-" if line[-1] else ""}[row["met"]])
        lines.append(line)
    for key, text in (("errors", "wrong, missing or late answers, all steps"),
                      ("mixed", "mixed-up answers, all steps")):
        thaw = totals.get("thaw")
        met = "-" if not thaw else "yes" if thaw["ok"] and not thaw[key] and not thaw["failed"] else "NO"
        lines.append([text, "", *(f"{totals[name][key]}" for name in names), "-", "none", met])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    numeric = range(2, len(names) + 3)
    rule = ["-" * (w - 1) + ":" if i in numeric else "-" * w for i, w in enumerate(widths)]
    out = []
    for line in [lines[0], rule, *lines[1:]]:
        cells = [c.rjust(w) if i in numeric else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))]
        out.append("| " + " | ".join(cells) + " |")
    if noisy:
        bench.notes.append("~ the rounds differ by more than a quarter: run it again on a quieter machine")
    return "\n".join(out)


def machine():
    cpu = re.search(r"^model name\s*:\s*(.+)$", read("/proc/cpuinfo"), re.M)
    return {"kernel": platform.release(), "cpu": cpu[1] if cpu else platform.machine(),
            "nproc": len(os.sched_getaffinity(0)), "descriptors": descriptor_limit(),
            "somaxconn": read("/proc/sys/net/core/somaxconn").strip(),
            "congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control").strip(),
            "load_before": os.getloadavg()[0]}


def git_sha():
    done = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() if done.returncode == 0 else "nogit"


def result_path(folder, date, sha):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / f"{date:%Y-%m-%d}-{sha}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{date:%Y-%m-%d}-{sha}-{number}.json"
    return path


def add_notes(bench):
    elsewhere = [r["elsewhere_cores"] for r in bench.raw if "elsewhere_cores" in r]
    if elsewhere and statistics.median(elsewhere) > 0.15:
        bench.notes.append(f"something else used {statistics.median(elsewhere):.2f} of the cores meanwhile: "
                           "trust the ratios, not the figures")
    held = [r["users"] for r in bench.raw if r["scenario"] == "hold" and "users" in r]
    if held:
        bench.notes.append(f"{held[0]:,} calls are held because a process may open {descriptor_limit():,} descriptors "
                           "here and a proxy needs two per call")
    if "direct" in [t.name for t in bench.targets]:
        bench.notes.append("direct shows sim itself: what the upstream costs, and the least that can be had")


def parse_options(arguments):
    names = [t.name for t in TARGETS]
    parser = argparse.ArgumentParser(
        description="Measures thaw next to nginx, HAProxy and no proxy.",
        epilog="example: bench/run.py --quick --only 1,5 --targets thaw,nginx")
    parser.add_argument("--thaw", default="build/release/thaw", metavar="FILE", help="thaw's program (%(default)s)")
    parser.add_argument("--tools", default="build/release/bench", metavar="DIR",
                        help="where thaw-bench-sim and thaw-bench-swarm are (%(default)s); compiled when not there")
    parser.add_argument("--targets", default=",".join(names), metavar="A,B", help="any of %(default)s")
    parser.add_argument("--only", default="", metavar="1,2", help="these scenarios: " + "; ".join(
        f"{s.number} {s.text}" for s in SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="short rounds, less than 3 minutes")
    parser.add_argument("--rounds", type=int, metavar="N", help="this many rounds of everything")
    parser.add_argument("--patience", type=int, default=0, metavar="N",
                        help="repeat a round of 1-5 up to N times while other programs use the CPU (0)")
    parser.add_argument("--out", default=str(HERE / "results"), metavar="DIR",
                        help="where the JSON goes (bench/results)")
    options = parser.parse_args(arguments)
    options.targets = options.targets.split(",")
    unknown = [t for t in options.targets if t not in names]
    if unknown:
        parser.error(f"--targets: {unknown[0]} is none of {', '.join(names)}")
    numbers = {str(s.number) for s in SCENARIOS}
    options.only = [n for n in options.only.split(",") if n]
    if not set(options.only) <= numbers:
        parser.error(f"--only {','.join(options.only)}: there are {', '.join(sorted(numbers))}")
    options.only = [int(n) for n in options.only]
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds: at least 1")
    return options


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse_options(sys.argv[1:])
    raise_descriptors()
    bench = Bench(options)
    if not bench.targets:
        sys.exit("run.py: no target is here. " + "; ".join(bench.notes))
    date, begin, facts = datetime.datetime.now(), time.monotonic(), machine()
    for note in bench.notes:
        print(f"note: {note}", file=sys.stderr)
    bench.run()
    rows, totals = bench.evaluate(), bench.totals()
    add_notes(bench)
    versions = {t.name: t.version(bench.programs[t.name]) for t in bench.targets}
    print(table(bench, rows, totals))
    print()
    for name, version in versions.items():
        print(f"{name}: {version}")
    print(f"{facts['nproc']} x {facts['cpu']}, Linux {facts['kernel']}, {time.monotonic() - begin:.0f} s in all")
    for note in bench.notes:
        print(f"note: {note}")
    path = result_path(options.out, date, git_sha())
    path.write_text(json.dumps({
        "date": date.isoformat(timespec="seconds"), "git": git_sha(), "options": {
            "targets": options.targets, "only": options.only, "quick": options.quick, "rounds": options.rounds,
            "patience": options.patience},
        "machine": facts, "versions": versions, "took_s": round(time.monotonic() - begin, 1),
        "scenarios": [{"number": s.number, "key": s.key, "text": s.text, "load": s.load, "users": s.users,
                       "length_s": s.length_s[options.quick], "rounds": bench.rounds(s)} for s in bench.scenarios],
        "figures": rows, "totals": totals, "notes": bench.notes, "raw": bench.raw}, indent=1) + "\n")
    print(f"every figure: {os.path.relpath(path)}")
    wrong = any(t["errors"] or t["mixed"] or t["failed"] for t in totals.values())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
