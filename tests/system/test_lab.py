# SPDX-License-Identifier: MIT
"""thaw lab: the five ways to run a slow call are what they say, by the mock's own count; the published table."""
import json
import signal
import subprocess
import threading

import pytest

from openai_api import CHAT_ANSWER
from process import THAW, environment, run
from rawhttp import Client, post, request
from upstream import says
from waiting import LIMIT, poll

PATHS = ["/to_thread", "/executor", "/async", "/bad/global_lock", "/bad/global_flag"]
CPUS, DEFAULT, WORKERS = 2, 6, 3


@pytest.fixture
def mock(world):
    return world.mock()


@pytest.fixture
def lab(world, mock):
    return world.lab("--cpus", CPUS, "--workers", WORKERS, "--upstream", mock.url + "/v1", "--model", "mock-300ms")


def stats(world, mock):
    return world.connect(mock).ask(request("GET", "/mock/stats")).json()


def seats(world, lab):
    return world.connect(lab).ask(request("GET", "/seats")).json()


def ask_all(lab, paths):
    """The documents of all answers, asked for at once."""
    got = [None] * len(paths)

    def ask(i):
        client = Client(lab.port)
        got[i] = client.ask(request("POST", f"{paths[i]}{'&' if '?' in paths[i] else '?'}user_id=u{i}"))
        client.close()
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(paths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * LIMIT)
    assert all(a and a.status == 200 for a in got), got
    documents = [a.json() for a in got]
    assert [d["user_id"] for d in documents] == [f"u{i}" for i in range(len(paths))]
    return documents


# --- the five ways -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path,users,most", [("/to_thread", 10, DEFAULT), ("/executor", 8, WORKERS), ("/async", 20, 20),
                                             ("/bad/global_lock", 4, 1), ("/bad/global_flag", 4, 1)])
def test_so_many_are_served_at_once(world, mock, path, users, most):
    lab = world.lab("--cpus", CPUS, "--workers", WORKERS, "--upstream", mock.url + "/v1", "--model", "mock-1s")
    documents = ask_all(lab, [path] * users)
    assert stats(world, mock) | {"in_flight": 0, "max_in_flight": most, "calls": users} == stats(world, mock)
    at_once = [d for d in documents if d["waited_for"] is None]
    assert len(at_once) == most
    by_user = {d["user_id"]: d for d in documents}
    for d in documents:
        assert d["arrived_ns"] <= d["seated_ns"] < d["done_ns"]
        if d["waited_for"]:
            before = by_user[d["waited_for"]]
            assert before["seat"] == d["seat"] and d["arrived_ns"] < before["done_ns"] <= d["seated_ns"]
    if path != "/async":
        assert len({d["seat"] for d in documents}) == most


def test_five_calls_of_each_user(world, mock, lab):
    documents = ask_all(lab, ["/to_thread?calls=5"] * 3)
    assert stats(world, mock) | {"in_flight": 0, "max_in_flight": DEFAULT, "calls": 15} == stats(world, mock)
    assert all(len(d["calls"]) == 5 and max(c["done_ns"] for c in d["calls"]) == d["done_ns"] for d in documents)


def test_the_prompt_comes_back(world, lab):
    client = world.connect(lab)
    for path in PATHS:
        for prompt in ("ping 4711", 'quotes " \\ and é 😀'):
            assert client.ask(post(path, {"prompt": prompt})).json()["response"] == prompt


def test_users_are_logged(world, lab):
    world.connect(lab).ask(request("POST", "/to_thread?user_id=ann%0athaw:"))
    lab.wait_text(r"user ann\?thaw:: /to_thread: came")
    lab.wait_text(r"user ann\?thaw:: /to_thread: waited 0\.\d+ s, served \d+\.\d+ s by default-\d")


# --- while calls are held ------------------------------------------------------------------------------------------------------

@pytest.fixture
def held(world):
    """A lab whose calls take an hour."""
    return world.lab("--cpus", CPUS, "--workers", WORKERS, "--seconds", 3600)


def test_the_lab_itself_answers_while_every_seat_is_taken(world, held):
    for i in range(3 * DEFAULT):
        world.connect(held).send(request("POST", f"{PATHS[i % len(PATHS)]}?user_id={i}"))

    def all_taken():
        now = seats(world, held)
        return now["default"]["taken"] == DEFAULT and now["executor"]["taken"] == WORKERS and now["loop"]["taken"] > 0
    poll(all_taken, "every seat to be taken")
    client = world.connect(held)
    for _ in range(20):
        assert client.ask(request("GET", "/healthz")).json()["status"] == "ok"
    page = client.ask(request("GET", "/"))
    assert page.status == 200 and all(path in page.body.decode() for path in PATHS)
    held.signal(signal.SIGTERM)  # must end by itself, calls or not: world.end judges
    assert held.wait_end() == 0
    held.judged = True


def test_who_leaves_the_queue_is_never_called_for(world, mock):
    lab = world.lab("--workers", 1, "--upstream", mock.url + "/v1", "--model", "mock-1h")
    first, second = world.connect(lab), world.connect(lab)
    first.send(request("POST", "/executor?user_id=first"))
    poll(lambda: stats(world, mock)["in_flight"] == 1, "the first call")
    second.send(request("POST", "/executor?user_id=second"))
    poll(lambda: seats(world, lab)["executor"]["waiting"] == 1, "the second user to wait")
    second.close()
    lab.wait_text(r"user second: left; of its calls 0 run to the end on their threads all the same, 1 do not begin")
    first.close()
    lab.wait_text(r"user first: left; of its calls 1 runs to the end")
    poll(lambda: [w["left"] for w in seats(world, lab)["executor"]["who"]] == [True], "the call to run on for nobody")
    assert stats(world, mock)["calls"] == 1


# --- the upstream ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", PATHS)
def test_what_is_sent_upstream(world, path):
    up = world.upstream(says(CHAT_ANSWER))
    lab = world.lab("--upstream", up.url + "/", "--model", "some-model", env={"OPENAI_API_KEY": "sk-canary"})
    answer = world.connect(lab).ask(post(path, {"prompt": "hi"}))
    assert answer.status == 200 and answer.json()["response"] == json.loads(CHAT_ANSWER)["choices"][0]["message"]["content"]
    seen = up.only()
    assert seen.method == "POST" and seen.target == "/v1/chat/completions"
    assert seen["authorization"] == "Bearer sk-canary" and seen["host"] == up.url.split("/")[2]
    assert json.loads(seen.body) == {"model": "some-model", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("path", ["/to_thread", "/async"])
def test_an_error_of_the_upstream_is_passed_on(world, mock, path):
    lab = world.lab("--upstream", mock.url + "/v1", "--model", "mock-err-429")
    answer = world.connect(lab).ask(request("POST", path))
    assert answer.status == 502 and "429" in answer.error()["message"]
    assert "seconds" in world.connect(lab).ask(request("POST", path + "?seconds=1")).error()["message"]


# --- the table ---------------------------------------------------------------------------------------------------------------------

AT_ONCE = {"pool15": 14, "lock2": 1, "lock5": 1, "flag5": 1, "pool50": 14, "executor50": 10, "async50": 50, "incident": 6,
           "fixed": 75}
WAITED = {"pool15": 1, "lock2": 1, "lock5": 4, "flag5": 4, "pool50": 36, "executor50": 40, "async50": 0, "incident": 14,
          "fixed": 0}


def published_figures_are_predicted(row):
    for figure in ("wall_s", "mean_s", "max_s"):
        published = row["published"][figure]
        assert published is None or row["predicted"][figure] == pytest.approx(published, rel=0.011)


def how_far_off_is_said(row, tolerance):
    off = max(abs(row["measured"][f] / row["predicted"][f] - 1) for f in ("wall_s", "mean_s", "max_s"))
    assert row["off"] == pytest.approx(off, abs=1e-4) and row["ok"] == (row["off"] <= tolerance)


@pytest.mark.threads
@pytest.mark.parametrize("scale,names", [(0.1, [name for name in AT_ONCE if name != "incident"]), (0.01, ["incident"])],
                         ids=["all", "incident"])
def test_the_published_table(tmp_path, scale, names):
    """Who waited is the same at any speed; how far measured and predicted are apart is for people to look at."""
    report = tmp_path / "report.html"
    only = [word for name in names for word in ("--only", name)]
    done = run("lab", "--run", "--scale", scale, "--json", "--report", report, *only, timeout=3 * LIMIT)
    document = json.loads(done.out)
    rows = {row["row"]: row for row in document["rows"]}
    assert list(rows) == names
    for name, row in rows.items():
        assert row["problem"] is None and len(row["calls_made"]) == row["users"] * row["calls"]
        assert (row["at_once"], row["waited"]) == (AT_ONCE[name], WAITED[name]), name
        published_figures_are_predicted(row)
        how_far_off_is_said(row, document["tolerance"])
    assert done.code == (0 if all(row["ok"] for row in rows.values()) else 1)
    html = report.read_text()
    assert html.startswith("<!doctype html>") and html.rstrip().endswith("</html>")
    assert all(f'id="{name}"' in html for name in rows) and html.count('<svg viewBox="0 0 960') == len(rows)


def test_one_row_as_text():
    done = run("lab", "--run", "--scale", "0.01", "--only", "lock5")
    assert done.code in (0, 1)
    lines = done.out.splitlines()
    assert all(len(line) <= 80 for line in lines) and done.out.isascii()
    assert any(line.startswith("    lock ") and all(f"{user}=" in line for user in "12345") for line in lines)
    assert sum(line.startswith("lock5 ") for line in lines) == 1


def test_what_cannot_be_written_is_said(tmp_path):
    done = run("lab", "--run", "--report", tmp_path / "no" / "report.html")
    assert done.code == 2 and "No such file" in done.err and "side by side" not in done.err  # nobody waited for that
    done = subprocess.run([THAW, "lab", "--run", "--scale", "0.01", "--only", "lock5", "--report", "/dev/full"],
                          stdin=subprocess.DEVNULL, capture_output=True, env=environment(), timeout=LIMIT)
    assert done.returncode == 3 and b"/dev/full: No space left" in done.stderr and b"lock5" in done.stdout
    with open("/dev/full", "wb") as full:
        done = subprocess.run([THAW, "lab", "--run", "--scale", "0.01", "--only", "lock5", "--json"],
                              stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=LIMIT)
    assert done.returncode == 3 and b"No space left" in done.stderr


def test_a_signal_ends_the_run(world):
    lab = world.lab("--run", "--scale", "10", "--only", "lock5", "--json", listen=False, ready=False)
    lab.wait_text("side by side")
    lab.signal(signal.SIGTERM)
    assert lab.wait_end() == 1
    lab.judged = True
    row, = json.loads(bytes(lab.out))["rows"]
    assert not row["ok"] and "stopped" in row["problem"]


# --- arguments -------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("args,says", [
    (["--cpus", "0"], "from 1 to 1024"), (["--workers", "x"], "from 1 to 1000"), (["--seconds", "1m30s"], "seconds"),
    (["--seconds", "3601"], "3600"), (["--upstream", "localhost:9000"], "http://"), (["--listen", "x:y"], "address"),
    (["--upstream", "http://127.0.0.1:9/v1"], "--model"), (["--model", "x"], "--upstream"), (["--scale", "0"], "0.001"),
    (["--run", "--only", "lock6"], "lock5"), (["--only", "lock5"], "--run"), (["--report", "x.html"], "--run"),
    (["--run", "--upstream", "http://127.0.0.1:9/v1", "--model", "m"], "built-in mock"), (["--worker", "3"], "--workers"),
])
def test_wrong_usage(args, says):
    done = run("lab", *args)
    assert done.code == 2 and says in done.err and not done.out


def test_a_key_is_not_for_the_network(mock):
    done = run("lab", "--listen", "0.0.0.0:0", "--upstream", mock.url + "/v1", "--model", "m", env={"OPENAI_API_KEY": "sk-canary"})
    assert done.code == 2 and "OPENAI_API_KEY" in done.err


def test_help():
    done = run("lab", "--help")
    assert done.code == 0 and "example:" in done.out and all(path in done.out for path in PATHS)


# --- threads -----------------------------------------------------------------------------------------------------------------------------

@pytest.mark.threads
def test_all_ways_at_once_and_users_who_leave(world, mock):
    lab = world.lab("--cpus", CPUS, "--workers", WORKERS, "--upstream", mock.url + "/v1", "--model", "mock-20ms")
    leaving = [world.connect(lab) for _ in range(20)]
    for i, client in enumerate(leaving):
        client.send(request("POST", f"{PATHS[i % len(PATHS)]}?calls=2"))
    for client in leaving:
        client.close()
    documents = ask_all(lab, [path + "?calls=2" for path in PATHS] * 6)
    assert len(documents) == 30 and all(len(d["calls"]) == 2 for d in documents)

    def empty():
        now = seats(world, lab)
        return all(room["taken"] == room["waiting"] == 0 for room in now.values())
    poll(empty, "every seat to be free again")
