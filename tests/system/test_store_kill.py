# SPDX-License-Identifier: MIT
"""kill -9 at random points while jobs are begun, run and end: what was acknowledged is there after the restart.

THAW_TEST_ROUNDS kills (default 10), at points drawn from THAW_TEST_SEED (printed): after some number of
acknowledgements and a little while, sometimes while a restarted thaw is still running interrupted jobs again.
"""
import itertools
import os
import random
import signal
import sqlite3
import statistics
import threading
import time

from openai_api import CHAT
from process import check_output, free_port
from rawhttp import Client, Cut, Malformed, post, request
from waiting import LIMIT, Board, poll

ROUNDS = int(os.environ.get("THAW_TEST_ROUNDS", 10))
SEED = os.environ.get("THAW_TEST_SEED", "20261120")
SENDERS = 6
AGAIN, ONCE = CHAT, "/v1/completions"  # what the configuration below says about interrupted jobs
ASYNC = ("Prefer", "respond-async")

CONFIG = """\
upstreams:
  mock: {{url: "http://127.0.0.1:{mock}/v1"}}
store: sqlite://{store}
tape: {{keep: 1h}}
routes:
  /v1/chat/completions: {{rerun: true}}
  /v1/completions: {{rerun: false}}
"""


class Job:
    """One that was asked for; acknowledged once it has an id."""

    def __init__(self, number):
        self.number = number
        self.path = (AGAIN, ONCE)[number % 2]
        self.streams = number % 3 == 0
        self.text = f"canary-job-{number}-end"
        self.id = None
        self.end = None     # "complete" or "interrupted", once that was seen
        self.answer = None  # its bytes

    def __repr__(self):
        return f"job {self.number} ({self.path}, {self.id}, {self.end})"

    def ask(self, *fields):
        document = {"model": "any", "stream": self.streams}
        if self.path == AGAIN:
            document["messages"] = [{"role": "user", "content": self.text}]
        else:
            document["prompt"] = self.text
        return post(self.path, document, [("Idempotency-Key", f"key-{self.number}"), *fields])

    def settle(self, client):
        """Its state after a restart, and its bytes if it is complete: False while it runs."""
        state = client.ask(request("GET", f"/v1/tapes/{self.id}/status"))
        assert state.status == 200, f"{self} was acknowledged and is lost: {state}"
        end = state.json()["state"]
        if end == "running" or (end == "interrupted" and self.path == AGAIN):
            return False  # it runs again, or its turn comes
        if end == "interrupted":
            assert self.end != "complete", f"{self} was complete before"
            said = client.ask(request("GET", f"/v1/tapes/{self.id}"))
            assert said.status == 502 and "ended while this call ran" in said.error()["message"], said
        else:
            assert end == "complete", f"{self} ended as {end}"
            self.check(client.ask(request("GET", f"/v1/tapes/{self.id}")))
        assert self.end in (None, end), f"{self} is {end} now"
        self.end = end
        return True

    def check(self, answer):
        """Whole, its own, and the same each time."""
        body = bytes(answer.body).removeprefix(b"retry: 1000\n")
        assert answer.status == 200, answer
        assert self.text.encode() in body, f"{self}: {body!r}"
        assert not self.streams or b"data: [DONE]\n" in body, f"{self}: {body!r}"
        assert self.answer in (None, body), f"{self} has changed: {self.answer!r}, {body!r}"
        self.answer = body


class Senders:
    """Clients that ask for jobs until thaw is gone."""

    def __init__(self, port, numbers):
        self.board = Board()
        self.acknowledged, self.unanswered, self.problems = [], [], []
        self.port, self.numbers = port, numbers
        self.threads = [threading.Thread(target=self.send, args=(random.Random(f"{SEED} {next(numbers)}"),))
                        for _ in range(SENDERS)]
        for thread in self.threads:
            thread.start()

    def send(self, dice):
        job = None
        try:
            client = Client(self.port)
            while True:
                job = Job(next(self.numbers))
                answer = client.ask(job.ask(ASYNC))
                assert answer.status == 202, answer
                job.id = answer["location"].rsplit("/", 1)[1]
                with self.board.changed:
                    self.acknowledged.append(job)
                    self.board.announce()
                time.sleep(dice.random() * 0.02)
        except (Cut, OSError):  # the kill; whether the last job was begun nobody knows
            if job:
                self.unanswered.append(job)
        except (AssertionError, Malformed) as problem:
            self.problems.append(problem)
            self.board.announce()

    def wait(self, count):
        self.board.wait(lambda: len(self.acknowledged) >= count or self.problems, f"{count} acknowledgements")

    def end(self):
        for thread in self.threads:
            thread.join(LIMIT)
        if self.problems:
            raise self.problems[0]


def kill(gw):
    gw.signal(signal.SIGKILL)
    assert gw.wait_end() == -signal.SIGKILL, f"thaw had ended before: {gw.text}"
    check_output(bytes(gw.err + gw.out))
    gw.judged = True


def calls(mock):
    """How many calls the upstream has had, once none is running."""
    with_client = Client(mock.port)
    try:
        stats = poll(lambda: (s := with_client.ask(request("GET", "/mock/stats")).json())["in_flight"] == 0 and s,
                     "the upstream to have nothing to do")
    finally:
        with_client.close()
    return stats["calls"]


def settle_all(gw, jobs):
    """Every job that was acknowledged comes to an end, and is what it was."""
    client = Client(gw.port)
    try:
        for job in jobs:
            poll(lambda: job.settle(client), lambda: f"{job} to end; thaw said: {gw.text[-2000:]}")
    finally:
        client.close()


def replay(gw, mock, jobs):
    """The same request again gets the answer that is there, and no second call."""
    before = calls(mock)
    client = Client(gw.port)
    try:
        for job in jobs:
            answer = client.ask(job.ask())
            job.check(answer)
            assert answer["idempotent-replayed"] == "true", answer
            again = client.ask(job.ask(ASYNC))
            assert (again.status, again["location"]) == (202, f"/v1/tapes/{job.id}"), again
    finally:
        client.close()
    assert calls(mock) == before, "an answer that was there was asked for again"


def come_back(gw, jobs):
    """Who was not answered asks again, with the same key: the answer is its own whatever had become of the job."""
    client = Client(gw.port)
    try:
        for job in jobs:
            job.check(client.ask(job.ask()))
    finally:
        client.close()


def test_no_acknowledged_job_is_lost(world, tmp_path):
    dice = random.Random(SEED)
    numbers, jobs, unanswered, ready = itertools.count(), [], [], []
    mock = world.mock("--latency", "40ms", "--token-latency", "10ms")
    config = CONFIG.format(mock=mock.port, store=tmp_path / "thaw.db")
    port = free_port()

    def start():
        begin = time.monotonic()
        gw = world.serve(config=config, workers=2, port=port)
        ready.append((time.monotonic() - begin) * 1000)
        return gw

    gw = start()
    for number in range(ROUNDS):
        senders = Senders(gw.port, numbers)
        senders.wait(dice.randrange(1, 80))
        time.sleep(dice.random() * 0.06)
        kill(gw)
        senders.end()
        jobs += senders.acknowledged
        unanswered += senders.unanswered
        gw = start()
        if dice.random() < 0.3:  # while jobs are being run again
            time.sleep(dice.random() * 0.05)
            kill(gw)
            gw = start()
        settle_all(gw, [job for job in jobs if not job.end])
        finished = [job for job in jobs if job.end == "complete"]
        replay(gw, mock, dice.sample(finished, min(8, len(finished))))
        come_back(gw, unanswered[-SENDERS:])
    settle_all(gw, jobs)
    replay(gw, mock, [job for job in jobs if job.end == "complete"])
    gw.stop()

    ends = [job.end for job in jobs]
    print(f"{ROUNDS} kills, seed {SEED}: {len(jobs)} jobs acknowledged, {ends.count('complete')} complete, "
          f"{ends.count('interrupted')} interrupted; ready after {statistics.median(ready):.0f} ms, at most "
          f"{max(ready):.0f} ms")
    assert "complete" in ends and "interrupted" in ends
    with sqlite3.connect(tmp_path / "thaw.db") as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert file.execute("SELECT count(*) FROM tape").fetchone()[0] >= len(jobs)
