# SPDX-License-Identifier: MIT
"""thaw mock as ground truth: every capacity mode by what a plain client sees and by what the journal says was in
service; latencies that belong to calls and not to threads; options that are refused. No test asserts a time: what is
compared is order, overlap, and that nothing was faster than it can be, counted from the first start on (a seat is taken
at the time it was due: a single service looks shorter where the loop was late to begin it)."""
import concurrent.futures
import fcntl
import itertools
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

import process
from openai_api import CHAT
from rawhttp import post, request
from waiting import QUIET, poll

LATENCY = "120ms"
NS = {"120ms": 120_000_000}[LATENCY]


def chat(model, text="one two three", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def journal(client, query=""):
    answer = client.ask(request("GET", "/mock/journal" + query))
    assert answer.status == 200
    lines = [json.loads(line) for line in bytes(answer.body).splitlines()]
    return lines[:-1], lines[-1]


class Burst:
    """n calls at once from as many connections. `calls`: their journal records in the order of arrival; `completed`:
    the calls' numbers in the order in which the client had the answers; `sums`: the journal's counts."""

    def __init__(self, world, capacity, n, latency=LATENCY, fields=lambda i: [], more=lambda i: {}, args=()):
        self.mock = world.mock("--latency", latency, "--capacity", capacity, *args)
        self.completed, self.answers = [], {}
        order = threading.Lock()
        clients = [world.connect(self.mock) for _ in range(n)]
        requests = [post(CHAT, chat(f"m{i}", **more(i)), fields=fields(i)) for i in range(n)]
        self.mock.freeze()  # they arrive at once, in this order, however busy the machine is
        for client, data in zip(clients, requests):
            client.send(data)
        self.mock.thaw()

        def read(i):
            answer = clients[i].read("POST")
            with order:
                self.completed.append(i)
                self.answers[i] = answer
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            list(pool.map(read, range(n)))
        self.client = world.connect(self.mock)
        self.calls, self.sums = poll(self._settled, "the journal to have all ends")

    def _settled(self):
        calls, sums = journal(self.client)
        return (calls, sums) if sums["in_flight"] == 0 else None

    def number(self, call):
        return int(call["model"][1:])

    def served(self):
        """The calls in the order in which their service began."""
        return sorted((c for c in self.calls if c["service_start_ns"]), key=lambda c: (c["service_start_ns"], c["id"]))

    def all_whole(self):
        assert all(answer.status == 200 for answer in self.answers.values())
        assert all(c["end"] == "whole" and c["status"] == 200 for c in self.calls)
        assert sorted(self.completed) == list(range(len(self.calls)))
        return self


def overlap(calls, start="service_start_ns", end="service_end_ns"):
    """How many were at most in between at once."""
    events = sorted([(c[start], 1) for c in calls] + [(c[end], -1) for c in calls], key=lambda e: (e[0], e[1]))
    return max(itertools.accumulate(step for _, step in events))


def in_line(calls):
    """Nobody begins before the one before him is done."""
    return all(a["service_end_ns"] <= b["service_start_ns"] for a, b in zip(calls, calls[1:]))


def ids(calls):
    return [c["id"] for c in calls]


# --- each mode -----------------------------------------------------------------------------------------------------------

def test_unlimited_serves_all_at_once(world):
    burst = Burst(world, "unlimited", 12).all_whole()
    assert overlap(burst.calls) == 12 and burst.sums["max_waiting"] == 0


def test_a_lock_serves_one_after_the_other(world):
    burst = Burst(world, "lock", 6).all_whole()
    assert in_line(burst.served()) and ids(burst.served()) == ids(burst.calls)
    assert burst.completed == [burst.number(c) for c in burst.calls]
    assert burst.sums["max_in_service"] == 1 and burst.sums["max_waiting"] == 5
    assert {c["seat"] for c in burst.calls} == {1}


def test_a_partial_lock_is_given_back_before_the_answer(world):
    burst = Burst(world, "lock:1s/4s", 6).all_whole()
    calls = burst.served()
    assert in_line(calls) and ids(calls) == ids(burst.calls)
    assert all(c["service_end_ns"] < c["last_byte_ns"] for c in calls)
    assert overlap(calls, end="last_byte_ns") > 1, "the others go on beside its holder"
    assert burst.completed == [burst.number(c) for c in burst.calls]


def test_a_pool_serves_in_batches(world):
    burst = Burst(world, "pool:3", 8).all_whole()
    calls = burst.served()
    assert overlap(calls) == 3 == burst.sums["max_in_service"] and ids(calls) == ids(burst.calls)
    for seat in (1, 2, 3):
        assert in_line([c for c in calls if c["seat"] == seat])
    for k in range(3, 8):
        assert calls[k]["service_start_ns"] >= sorted(c["service_end_ns"] for c in calls)[k - 3], "its turn was not yet"
    batches = [sorted(burst.number(c) for c in calls[k:k + 3]) for k in (0, 3, 6)]
    assert [sorted(burst.completed[k:k + 3]) for k in (0, 3, 6)] == batches


def test_a_lifo_pool_serves_the_last_one_first(world):
    burst = Burst(world, "pool:1:lifo", 7).all_whole()
    arrived = ids(burst.calls)
    assert ids(burst.served()) == arrived[:1] + arrived[:0:-1] and in_line(burst.served())


def test_a_random_pool_serves_by_lot(world):
    burst = Burst(world, "pool:1:random", 14, latency="20ms").all_whole()
    served = ids(burst.served())
    assert in_line(burst.served()) and sorted(served) == ids(burst.calls)
    assert served != sorted(served) and served[1:] != sorted(served)[:0:-1]


def test_workers_share_nothing(world):
    """Balls in bins: who is bound to a busy worker waits beside idle ones."""
    burst = Burst(world, "workers:4x2", 20, latency="40ms").all_whole()
    of_worker = lambda c: (c["seat"] - 1) // 2
    assert {c["seat"] for c in burst.calls} <= set(range(1, 9))
    for worker in range(4):
        mine = [c for c in burst.served() if of_worker(c) == worker]
        assert not mine or overlap(mine) <= 2
        assert ids(mine) == sorted(ids(mine)), "first come, first served at each worker"
    again = Burst(world, "workers:4x2", 20, latency="40ms").all_whole()
    bound = lambda b: {c["model"]: of_worker(c) for c in b.calls}
    assert bound(again) == bound(burst), "the same seed binds the same calls to the same workers"
    assert bound(Burst(world, "workers:4x2", 20, latency="40ms", args=("--seed", 8))) != bound(burst)


def test_cpu_is_shared(world):
    burst = Burst(world, "cpu:1", 5).all_whole()
    assert overlap(burst.calls) == 5 and burst.sums["max_waiting"] == 0
    first, last = min(c["service_start_ns"] for c in burst.calls), max(c["service_end_ns"] for c in burst.calls)
    assert last - first >= 5 * NS - 5_000_000, "five calls had more than one core"
    assert min(c["service_end_ns"] for c in burst.calls) - first >= 2 * NS, "one had the core for himself"


def test_pollers_look_from_time_to_time(world):
    burst = Burst(world, "poll:50ms", 5).all_whole()
    calls = burst.served()
    assert in_line(calls) and burst.sums["max_in_service"] == 1
    for call in calls[1:]:
        assert call["service_start_ns"] - call["arrival_ns"] >= 2 * 50_000_000, "it was busy when they looked first"


def test_a_bucket_lets_calls_in_at_its_rate(world):
    burst = Burst(world, "bucket:10/s:3", 7).all_whole()
    starts = [c["service_start_ns"] for c in burst.served()]
    assert ids(burst.served()) == ids(burst.calls) and burst.sums["max_waiting"] == 4
    for k in range(3, 7):
        assert starts[k] - starts[0] >= (k - 2) * 100_000_000 - 2_000_000, "faster than ten a second"


def test_a_cap_refuses_what_is_over_it(world):
    burst = Burst(world, "cap:3", 8, latency="1s")
    statuses = [burst.answers[i].status for i in range(8)]
    assert sorted(statuses) == [200] * 3 + [429] * 5
    for answer in burst.answers.values():
        if answer.status == 429:
            assert int(answer["retry-after"]) >= 1 and "capacity" in answer.error()["message"]
    assert overlap(burst.served()) == 3 == len(burst.served()) and burst.sums["by_status"] == {"200": 3, "429": 5}
    assert sorted(burst.completed[-3:]) == sorted(i for i in range(8) if statuses[i] == 200), "refused at once"


@pytest.mark.parametrize("how", ["field", "user", "cookie"])
def test_sessions_are_served_one_call_at_a_time(world, how):
    name = lambda i: "anna" if i % 2 else "ben"
    fields = {"field": lambda i: [("X-Mock-Session", name(i))], "cookie": lambda i: [("Cookie", name(i))],
              "user": lambda i: []}[how]
    burst = Burst(world, "session", 8, fields=fields, more=lambda i: {"user": name(i)} if how == "user" else {}).all_whole()
    for who in ("anna", "ben"):
        mine = [c for c in burst.served() if c["session"] == who]
        assert len(mine) == 4 and in_line(mine) and ids(mine) == sorted(ids(mine))
    assert overlap(burst.calls) == 2, "two sessions do not wait for each other"


def test_calls_without_a_session_do_not_wait(world):
    assert overlap(Burst(world, "session", 6).all_whole().calls) == 6


def test_a_client_that_leaves_the_queue_is_never_served(world):
    mock = world.mock("--latency", "1h", "--capacity", "lock")
    clients = [world.connect(mock) for _ in range(4)]
    watch = world.connect(mock)
    for i, client in enumerate(clients):
        client.send(post(CHAT, chat(f"m{i}")))
        poll(lambda: journal(watch)[1]["in_flight"] == i + 1, "the call to arrive")
    clients[1].close()
    poll(lambda: journal(watch)[1]["waiting"] == 2, "the one that left not to wait any more")
    clients[0].close()
    calls, sums = poll(lambda: (j := journal(watch))[1]["in_flight"] == 2 and j, "the next one to be served")
    assert [bool(c["service_start_ns"]) for c in calls] == [True, False, True, False]
    assert sums["in_service"] == 1 and sums["waiting"] == 1
    assert [c["end"] for c in calls] == ["gone", "gone", "running", "running"]


def test_streams_hold_their_seats_to_the_last_token(world):
    burst = Burst(world, "pool:2", 6, more=lambda i: {"stream": True}, args=("--between", "20ms", "--tokens", 5))
    assert all(answer.whole for answer in burst.answers.values())
    assert overlap(burst.calls, end="last_byte_ns") == 2 and {c["tokens"] for c in burst.calls} == {5}
    first, last = min(c["service_start_ns"] for c in burst.calls), max(c["service_end_ns"] for c in burst.calls)
    assert last - first >= 3 * (NS + 4 * 20_000_000) - 1_000_000, "three rounds of streams took less than three"


# --- latencies ---------------------------------------------------------------------------------------------------------------

BODIES = [chat(f"call-{i % 40}", f"text {i % 40}") for i in range(60)]  # 20 of them occur twice


def drawn(world, threads, *args, bodies=BODIES):
    """The latencies of each call: {model: sorted latencies}."""
    mock = world.mock("--seed", 42, "--latency", "lognormal:5ms,60ms", "--between", "uniform:1ms-3ms", *args)

    def run(mine):
        client = world.connect(mock)
        for body in mine:
            assert client.ask(post(CHAT, body)).status == 200
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, [bodies[k::threads] for k in range(threads)]))
    latencies = {}
    for call in journal(world.connect(mock))[0]:
        latencies.setdefault(call["model"], []).append((call["latency_ns"], call["work_ns"]))
    return {model: sorted(values) for model, values in latencies.items()}


def test_one_seed_gives_the_same_latencies_under_any_number_of_threads(world):
    one = drawn(world, 1)
    assert drawn(world, 8) == one and len(one) == 40
    assert drawn(world, 8, bodies=BODIES[::-1]) == one
    assert drawn(world, 8, "--capacity", "pool:3") == one
    assert len({value for values in one.values() for value in values}) == 60, "each call has its own"
    assert drawn(world, 1, "--seed", 43) != one


def test_one_seed_gives_the_same_pauses_between_tokens(world):
    bodies = [{**body, "stream": True} for body in BODIES]
    assert drawn(world, 1, "--tokens", 20, bodies=bodies) == drawn(world, 8, "--tokens", 20, bodies=bodies)


def test_an_answer_takes_at_least_what_was_drawn(world):
    client = world.connect(world.mock("--latency", "uniform:5ms-50ms", "--prefill", "1ms"))
    for i in range(10):
        client.ask(post(CHAT, chat("m", f"call {i}")))
    for call in journal(client)[0]:
        assert 7_000_000 <= call["latency_ns"] <= 52_000_000 and call["work_ns"] == call["latency_ns"]
        assert call["first_byte_ns"] - call["service_start_ns"] >= call["latency_ns"] - 1_000_000


def test_latencies_come_from_a_file(world):
    path = world.folder / "latencies.txt"
    path.write_text("# seconds\n1ms\n\n3ms\n7ms\n")
    client = world.connect(world.mock("--latency", f"file:{path}"))
    for i in range(40):
        client.ask(post(CHAT, chat("m", f"call {i}")))
    assert {call["latency_ns"] for call in journal(client)[0]} == {1_000_000, 3_000_000, 7_000_000}


def test_without_a_latency_an_answer_takes_as_long_as_its_stream(world):
    client = world.connect(world.mock("--ttft", "10ms", "--between", "2ms", "--stall", "5ms@3", "--tokens", 6))
    client.ask(post(CHAT, chat("plain")))
    client.ask(post(CHAT, chat("stream", stream=True)))
    client.ask(post(CHAT, chat("mock-1ms")))
    assert [c["work_ns"] // 1_000_000 for c in journal(client)[0]] == [25, 25, 1]


def test_fields_set_a_call_s_times(world):
    client = world.connect(world.mock("--latency", "1h"))
    fields = [("X-Mock-First", "2ms"), ("X-Mock-Between", "1ms"), ("X-Mock-Tokens", "4"), ("X-Mock-Stall", "6ms@2"),
              ("X-Mock-Latency", "5ms"), ("X-Mock-Prefill", "1ms")]
    assert client.ask(post(CHAT, chat("plain"), fields=fields)).status == 200
    assert client.ask(post(CHAT, chat("stream", stream=True), fields=fields)).status == 200
    assert [c["work_ns"] // 1_000_000 for c in journal(client)[0]] == [5 + 3, 2 + 3 + 3 + 6]
    for name, _ in fields:
        answer = client.ask(post(CHAT, chat("m"), fields=[(name, "nonsense")]))
        assert answer.status == 400 and f"{name} wants" in answer.error()["message"] and "'nonsense'" in answer.error()["message"]


# --- the journal -------------------------------------------------------------------------------------------------------------

def test_the_journal_is_read_in_parts_and_begun_anew(world):
    client = world.connect(world.mock())
    for i in range(5):
        client.ask(post(CHAT, chat(f"m{i}")))
    assert ids(journal(client, "?since=2")[0]) == [3, 4, 5]
    assert ids(journal(client, "?since=1&limit=2")[0]) == [2, 3]
    stats = client.ask(request("GET", "/mock/stats")).json()
    assert stats["calls"] == stats["whole"] == 5 and stats["by_status"] == {"200": 5}
    assert stats == journal(client)[1]
    assert client.ask(post("/mock/reset", b"")).json()["calls"] == 0
    assert journal(client)[0] == []
    client.ask(post(CHAT, chat("again")))
    assert [c["model"] for c in journal(client)[0]] == ["again"]


# --- --watch -----------------------------------------------------------------------------------------------------------------

def test_watch_on_a_pipe_is_a_line_now_and_then(world):
    mock = world.mock("--latency", "1h", "--capacity", "lock", "--watch")
    clients = [world.connect(mock) for _ in range(3)]
    for client in clients:
        client.send(post(CHAT, chat("m")))
    mock.board.wait(lambda: b"in flight 3, in service 1, waiting 2, whole 0" in mock.out, "a line with the counts")
    assert all(line.startswith("in flight ") for line in mock.out.decode().splitlines())


class Terminal:
    """thaw mock --watch on a terminal of its own, in a process group of its own: one without a parent in its session, as
    pytest's may be, is not stopped by Ctrl-Z (POSIX: an orphaned process group)."""

    def __init__(self, columns, rows, **env):
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.said = bytearray()
        self.port = process.free_port()
        self.process = subprocess.Popen([process.THAW, "mock", "--listen", f"127.0.0.1:{self.port}", "--latency", "1h",
                                         "--capacity", "pool:2", "--watch"], stdin=subprocess.DEVNULL, stdout=slave,
                                        stderr=subprocess.DEVNULL, preexec_fn=process.with_parent(os.setpgrp),
                                        env=process.environment({"TERM": "xterm", "NO_COLOR": "", **env}))
        os.close(slave)

    def resize(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        if select.select([self.master], [], [], 0)[0]:
            self.said += os.read(self.master, 1 << 16)

    def frames_until(self, text, count=1):
        """Reads on until the frame that is being drawn has the text; all complete frames that were drawn so far."""
        def look():
            self.read()
            return [f for f in self.said.split(b"\x1b[H")[1:] if f.endswith(b"\x1b[J")][-1:] and \
                text in self.said.split(b"\x1b[H")[-1]
        poll(look, lambda: f"{text!r} on the terminal; there is {bytes(self.said[-2000:])!r}")
        return [f for f in self.said.split(b"\x1b[H")[1:] if f.endswith(b"\x1b[J")]

    def close(self):
        self.process.terminate()
        self.process.send_signal(signal.SIGCONT)
        try:
            while data := os.read(self.master, 1 << 16):
                self.said += data
        except OSError:  # the other end is closed
            pass
        os.close(self.master)
        assert self.process.wait(20) == 0
        assert self.said.startswith(b"\x1b[?1049h\x1b[?25l") and self.said.endswith(b"\x1b[?25h\x1b[?1049l")


def lines_of(frame):
    return re.sub(rb"\x1b\[[0-9]*[A-Za-z]", b"", frame).decode("ascii").split("\r\n")  # the terminal makes \n that


def test_watch_on_a_terminal_fits_it_and_gives_it_back(world):
    terminal = Terminal(80, 24)
    world.other.append(terminal)
    terminal.frames_until(b"in flight 0")
    clients = [world.connect(terminal) for _ in range(30)]
    for client in clients:
        client.send(post(CHAT, chat("m")))
    frame = terminal.frames_until(b"in flight 30")[-1]
    lines = lines_of(frame)
    assert b"\x1b[32m" in frame and len(lines) <= 24 and all(len(line) <= 80 for line in lines)
    assert "in service 2 (max 2)   waiting 28 (max 28)" in lines[2]
    assert [line[:5] for line in lines if line[:5].strip().isdigit()] == ["    1", "    2"]
    seen = len(terminal.said)
    terminal.resize(50, 10)
    poll(lambda: terminal.frames_until(b"in flight 30") and len(terminal.said) > seen + 4000, "frames of the new size")
    lines = lines_of(terminal.frames_until(b"in flight 30")[-1])
    assert len(lines) <= 10 and all(len(line) <= 50 for line in lines)


def written(terminal):
    with open(f"/proc/{terminal.process.pid}/io", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("wchar"))


def test_a_terminal_that_nobody_reads_holds_nothing_up(world):
    terminal = Terminal(500, 60)
    world.other.append(terminal)
    terminal.frames_until(b"in flight 0")
    clients = [world.connect(terminal) for _ in range(50)]
    for client in clients:
        client.send(post(CHAT, chat("m")))
    before, since = -1, 0
    while written(terminal) != before or time.monotonic() - since < QUIET:  # until its terminal is full
        if written(terminal) != before:
            before, since = written(terminal), time.monotonic()
        time.sleep(0.05)
    assert world.connect(terminal).ask(request("GET", "/healthz")).status == 200
    terminal.frames_until(b"in flight 50")  # it is read again, and what comes is whole


def test_ctrl_z_gives_the_terminal_back_for_a_while(world):
    terminal = Terminal(80, 24)
    world.other.append(terminal)
    terminal.frames_until(b"in flight 0")
    terminal.process.send_signal(signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(terminal.process.pid, os.WUNTRACED)[1])
    poll(lambda: terminal.read() or terminal.said.endswith(b"\x1b[?25h\x1b[?1049l"), "the screen there was before")
    terminal.process.send_signal(signal.SIGCONT)
    poll(lambda: terminal.read() or terminal.said.count(b"\x1b[?1049h\x1b[?25l") == 2, "a screen of its own again")
    client = world.connect(terminal)
    client.send(post(CHAT, chat("m")))
    terminal.frames_until(b"in flight 1")


def test_watch_has_no_colours_with_no_color(world):
    terminal = Terminal(80, 24, NO_COLOR="1")
    world.other.append(terminal)
    client = world.connect(poll(lambda: terminal.frames_until(b"in flight 0") and terminal.port, "the mock"))
    client.send(post(CHAT, chat("m")))
    assert not re.search(rb"\x1b\[[0-9;]*m", terminal.frames_until(b"in flight 1")[-1])


# --- options -----------------------------------------------------------------------------------------------------------------

BAD = {
    "--latency": ["5", "fast", "uniform:3s-1s", "normal:5s", "lognormal:9s,2s", "file:no-such-file", "file:/dev/null", ""],
    "--first": ["5", "uniform:1s"], "--ttft": ["5"], "--between": ["20", "pareto:1s"], "--token-latency": ["20"],
    "--stall": ["3s", "3s@0", "@20", "3s@x"], "--prefill": ["1", "2h"], "--tokens": ["-1", "many", "1000001"],
    "--seed": ["x", "-1", "1.5"],
    "--capacity": ["pool", "pool:0", "pool:3:best", "lock:5s/1s", "workers:4", "cpu:0", "poll:0", "poll:100", "bucket:5",
                   "bucket:5/d", "cap:x", "session:user", "pol:100ms", "unlimited:1", ""],
}


@pytest.mark.parametrize("option,value", [(option, value) for option, values in BAD.items() for value in values])
def test_a_bad_value_is_said_with_the_option_and_an_example(option, value):
    result = process.run("mock", option, value)
    assert result.code == 2 and not result.out
    assert result.err.startswith(f"thaw mock: {option} wants ") and result.err.rstrip().endswith(f", not '{value}'")
    assert result.err.count("\n") == 1


def test_help_has_all_of_them():
    result = process.run("mock", "--help")
    assert all(option in result.out for option in BAD)
