# SPDX-License-Identifier: MIT
"""examples/fastapi, the real thing: how many calls each way really makes at once, by the mock's own count."""
import contextlib
import subprocess
import threading

import pytest

from process import ROOT, environment, free_port, with_parent
from rawhttp import Client, request
from waiting import LIMIT, poll

PYTHON = "/usr/bin/python3"  # the one that Debian's packages are for
EXECUTOR = 3
USERS = 15


def pool_size():
    code = "from concurrent.futures import ThreadPoolExecutor as T; print(T()._max_workers)"
    return int(subprocess.run([PYTHON, "-c", code], capture_output=True, check=True, timeout=LIMIT).stdout)


class App:
    def __init__(self, mock, model):
        self.port = free_port()
        self.process = subprocess.Popen(
            [PYTHON, "-B", "-m", "uvicorn", "app:app", "--port", str(self.port), "--log-level", "warning"],
            cwd=ROOT / "examples" / "fastapi", stdin=subprocess.DEVNULL, preexec_fn=with_parent(),
            env=environment({"OPENAI_BASE_URL": mock.url + "/v1", "MODEL": model, "WORKERS": str(EXECUTOR)}))

    def answers(self):
        assert self.process.poll() is None, f"uvicorn ended with {self.process.poll()}"
        try:
            with contextlib.closing(Client(self.port)) as client:
                return client.ask(request("GET", "/healthz")).status == 200
        except OSError:
            return False

    def close(self):
        self.process.kill()
        self.process.wait(LIMIT)


@pytest.fixture
def mock(world):
    return world.mock()


@pytest.fixture
def start(world, mock):
    """An app whose slow call takes so long: longer than it takes to begin all of them."""
    def start(model):
        app = App(mock, model)
        world.other.append(app)
        poll(app.answers, "uvicorn to listen")
        return app
    return start


def ask_all(app, path, users):
    """Every user's answer, all at once."""
    got = [None] * users

    def ask(i):
        with contextlib.closing(Client(app.port)) as client:
            got[i] = client.ask(request("POST", f"{path}{'&' if '?' in path else '?'}user_id={i}"))
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * LIMIT)
    assert all(a and a.status == 200 for a in got), got
    assert [a.json()["user_id"] for a in got] == [str(i) for i in range(users)]
    return [a.json()["response"] for a in got]


def at_most(world, mock):
    stats = world.connect(mock).ask(request("GET", "/mock/stats")).json()
    assert stats["in_flight"] == 0
    return stats["max_in_flight"], stats["calls"]


def test_the_default_pool_is_the_limit(world, mock, start):
    app = start("mock-1s")
    size = pool_size()
    assert set(ask_all(app, "/to_thread?prompt=hi", size + 3)) == {"hi"}
    assert at_most(world, mock) == (size, size + 3)


def test_an_executor_has_the_size_it_was_given(world, mock, start):
    app = start("mock-1s")
    ask_all(app, "/executor", 2 * EXECUTOR)
    assert at_most(world, mock) == (EXECUTOR, 2 * EXECUTOR)


def test_async_has_no_limit(world, mock, start):
    app = start("mock-5s")
    ask_all(app, "/async", 40)
    assert at_most(world, mock) == (40, 40)


def test_a_lock_lets_one_in(world, mock, start):
    app = start("mock-1s")
    ask_all(app, "/bad/global_lock", 4)
    assert at_most(world, mock) == (1, 4)


def test_a_flag_lets_hardly_more_in(world, mock, start):
    app = start("mock-1s")
    ask_all(app, "/bad/global_flag", 4)
    most, calls = at_most(world, mock)
    assert most in (1, 2) and calls == 4, "looking and setting are two steps: two may get in, never all"


def test_the_incident(world, mock, start):
    app = start("mock-1s")
    size = pool_size()
    users = size // 5 + 1
    answers = ask_all(app, "/report?text=hi", users)
    assert all(a == {part: f"{part}: hi" for part in a} and len(a) == 5 for a in answers)
    assert at_most(world, mock) == (size, 5 * users)


def test_the_fix(world, mock, start):
    app = start("mock-5s")
    ask_all(app, "/report/fixed", USERS)
    assert at_most(world, mock) == (5 * USERS, 5 * USERS)
