# SPDX-License-Identifier: MIT
"""thaw plan: the published figures, the chain, the presets, a probe's report; what it says is what the lab is told."""
import json
import math
import os
import re
import subprocess

import pytest

from process import THAW, environment, run
from waiting import LIMIT


def plan(*args, **more):
    done = run("plan", "--json", *args, **more)
    assert done.code == 0 and not done.err, done
    return json.loads(done.out)


def text(*args, **more):
    done = run("plan", *args, **more)
    assert done.code == 0 and not done.err, done
    return done.out


def one_line(out):
    """The first paragraph, as one line."""
    return " ".join(out.split("\n\n")[0].split())


# --- figures -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pool,time,users,calls,last,mean", [
    (14, "60s", 15, 1, 120, 64), (1, "10s", 5, 1, 50, 30), (14, "5s", 50, 1, 20, 11.6), (10, "5s", 50, 1, 25, 15),
    (6, "5s", 50, 1, 45, 23.4), (6, "60s", 15, 5, 780, 424), (6, "1m", 15, 1, 180, 108)])
def test_the_published_figures(pool, time, users, calls, last, mean):
    got = plan("--pool", pool, "--time", time, "--users", users, "--calls", calls)
    assert (got["at_once"], got["last_done_s"], got["mean_s"]) == (pool, last, pytest.approx(mean))
    seconds = got["time_s"]
    assert [u["user"] for u in got["each_user"]] == list(range(1, users + 1))
    for k, user in enumerate(got["each_user"], 1):
        assert user["done_s"] == pytest.approx(math.ceil(k * calls / pool) * seconds)
        assert user["wait_s"] == pytest.approx(user["done_s"] - seconds) and user["lost_to"] is None
    assert got["max_wait_s"] == pytest.approx(last - seconds) and got["smallest_link"] == "pool"


def test_the_second_user_at_the_lock():
    got = plan("--pool", 1, "--time", "54460ms", "--users", 2, "--apart", "2s")
    assert got["each_user"][1]["done_s"] == pytest.approx(106.92) and got["last_done_s"] == pytest.approx(108.92)


RUNTIMES = {"pool15": "--pool 14", "lock2": "--runtime lock", "lock5": "--runtime lock", "flag5": "--runtime lock",
            "pool50": "--runtime asyncio --cpus 10", "executor50": "--pool 10", "async50": "--runtime async",
            "incident": "--runtime asyncio --cpus 2", "fixed": "--runtime async"}
TIMES = {"pool15": 60, "lock2": 54.46, "lock5": 10, "flag5": 10, "pool50": 5, "executor50": 5, "async50": 5, "incident": 60,
         "fixed": 60}


def test_it_foretells_what_the_lab_is_told():
    """Each row of `thaw lab --run`: its predicted figures are the planner's. How far measured ones are off, the lab says."""
    done = run("lab", "--run", "--scale", "0.01", "--json", timeout=3 * LIMIT)
    rows = json.loads(done.out)["rows"]
    assert [row["row"] for row in rows] == list(RUNTIMES)
    for row in rows:
        got = plan(*RUNTIMES[row["row"]].split(), "--time", f"{TIMES[row['row']]}s", "--users", row["users"],
                   "--calls", row["calls"], "--apart", "2s" if row["row"] == "lock2" else "0")
        close = {"flag5": 0.02, "lock2": 1e-3}.get(row["row"], 1e-6)  # who looks every 0.1 s, looks late; the lab rounds to ms
        assert got["last_done_s"] == pytest.approx(row["predicted"]["wall_s"], rel=close), row["row"]
        assert got["mean_s"] == pytest.approx(row["predicted"]["mean_s"], rel=close), row["row"]
        assert max(u["done_s"] for u in got["each_user"]) == pytest.approx(row["predicted"]["max_s"], rel=close), row["row"]


def test_arrivals_by_chance():
    got = plan("--pool", 14, "--time", "60s", "--rate", "10/m")
    at = got["arrivals"][-1]
    assert at["rate_per_s"] == pytest.approx(1 / 6) and at["utilisation"] == pytest.approx(10 / 14) and at["stable"]
    assert at["p_wait"] == pytest.approx(0.1741, abs=1e-4)  # 10 Erlang on 14 seats
    assert at["mean_wait_s"] == pytest.approx(at["p_wait"] / (14 / 60 - 1 / 6))
    assert got["stable_rate_per_s"] == pytest.approx(14 / 60)
    same = plan("--pool", 14, "--time", "60s", "--rate", "600/h", "--cv", 0)["arrivals"][-1]
    assert same["mean_wait_s"] == pytest.approx(at["mean_wait_s"] / 2)
    over = plan("--pool", 14, "--time", "60s", "--rate", "0.25/s")["arrivals"][-1]
    assert not over["stable"] and over["mean_wait_s"] is None
    assert "the queue grows without end" in text("--pool", 14, "--rate", "0.25/s")


def test_users_who_think():
    got = plan("--pool", 6, "--time", "20s", "--think", "60s", "--users", 48)
    assert got["knee_users"] == 24 and got["least_response_s"] == pytest.approx(48 * 20 / 6 - 60)
    assert "up to 24 need not wait" in " ".join(text("--pool", 6, "--time", "20s", "--think", "1m").split())


# --- the chain ---------------------------------------------------------------------------------------------------------------

def test_the_platform_never_sees_it():
    said = one_line(text("--platform", "app-runner", "--runtime", "asyncio", "--cpus", 2))
    assert said.startswith("6 at once: of 100 users 94 wait")
    assert said.endswith("App Runner admits 100, serves 6: 94 wait in silence and the autoscaler never sees it.")
    got = plan("--admits", 100, "--pool", 6)
    assert (got["admits"], got["serves"], got["silent"]) == (100, 6, 94)
    assert plan("--admits", 6, "--pool", 6)["silent"] == 0
    assert "wait in silence" not in text("--admits", 6, "--pool", 6)


def test_the_smallest_link_is_named():
    got = plan("--platform", "cloud-run", "--runtime", "puma", "--runtime", "httpx", "--runtime", "hikari", "--workers", 3,
               "--upstream", 12, "--rpm", 60, "--tpm", 90000, "--tokens", 3000, "--time", "10s")
    users = {link["link"]: link["users"] for link in got["chain"]}
    assert users == {"platform": 80, "pool": 15, "connections": 300, "database": 10, "upstream": 12,
                     "requests_per_minute": pytest.approx(10), "tokens_per_minute": pytest.approx(5)}
    assert list(users) == [link["link"] for link in got["chain"]] and got["smallest_link"] == "tokens_per_minute"
    assert all(link["source"] for link in got["chain"][:4])
    marked = [line for line in text("--runtime", "puma", "--upstream", 3).splitlines() if line.startswith(">")]
    assert len(marked) == 1 and "upstream" in marked[0]


def test_a_number_goes_to_the_link_of_a_preset():
    got = plan("--runtime", "puma", "--pool", 16, "--workers", 2, "--calls", 3)
    link, = got["chain"]
    assert (link["name"], link["seats"], link["counts"], link["number"]) == ("Puma", 32, "requests", "--pool 16")
    assert got["users_at_once"] == 32 and got["at_once"] == 96


def test_who_waits_in_front_of_the_platform_is_seen_by_it():
    assert one_line(text("--platform", "cloud-run", "--runtime", "async")).endswith("(--instances).")
    assert one_line(text("--platform", "lambda", "--runtime", "async")).endswith("Lambda does not let them wait: it refuses them.")
    assert plan("--platform", "lambda", "--runtime", "asyncio", "--cpus", 2)["at_once"] == 1000


def test_without_a_limit_nobody_waits():
    got = plan("--runtime", "async", "--users", 2000)
    assert got["at_once"] is None and got["smallest_link"] is None and got["waiting_users"] == 0
    assert got["last_done_s"] == 60 and got["knee_users"] is None


def test_lost_to_time_limits():
    got = plan("--runtime", "asyncio", "--cpus", 2, "--platform", "ecs", "--timeout", "90s", "--time", "20s", "--users", 30)
    limits = {limit["name"]: limit for limit in got["time_limits"]}
    assert limits["the ALB's idle timeout"] | {"most_users": 18, "lost": 12} == limits["the ALB's idle timeout"]
    assert limits["--timeout"] | {"most_users": 24, "lost": 6} == limits["--timeout"]
    assert [u["lost_to"] is None for u in got["each_user"]] == [k < 18 for k in range(30)]
    assert all(limit["lost"] == 30 for limit in plan("--pool", 40, "--platform", "api-gateway", "--users", 30)["time_limits"])


def listed():
    groups, group = {}, None
    for line in run("plan", "--list").out.splitlines():
        if line.startswith("--"):
            group = groups.setdefault(line, [])
        elif re.match(r"  \S", line):
            group.append(line.strip())
    return groups


def test_every_preset_can_be_asked_for():
    out = text("--list")
    groups = listed()
    assert {"asyncio", "anyio", "libuv", "puma", "gunicorn", "php-fpm", "tomcat", "go"} <= set(groups["--runtime"])
    assert {"cloud-run", "ecs", "lambda", "api-gateway", "app-runner", "fly", "alb"} <= set(groups["--platform"])
    assert out.count("source: ") == sum(map(len, groups.values()))
    assert all(len(line) <= 80 for line in out.splitlines()) and out.isascii()
    for group, names in groups.items():
        for name in names:
            shown = text(group, name, "--time", "20s", "--users", 300)
            assert all(len(line) <= 80 for line in shown.splitlines()) and shown.isascii(), name
            assert plan(group, name)["users"] > 1


# --- this machine ------------------------------------------------------------------------------------------------------------

def test_cpus_of_this_machine():
    allowed, online = len(os.sched_getaffinity(0)), os.sysconf("SC_NPROCESSORS_ONLN")
    assert plan("--runtime", "asyncio", "--python", "3.13")["at_once"] == min(32, allowed + 4)
    assert plan("--runtime", "asyncio", "--python", "3.12")["at_once"] == min(32, online + 4)
    one = {"before": lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])}
    assert plan("--python", "3.14", **one)["at_once"] == 5
    assert plan("--python", "3.8", **one)["at_once"] == min(32, online + 4)
    if online > 1:
        assert "which Python 3.8 does not see" in " ".join(text("--python", "3.8", **one).split())
    assert plan("--python", "3.7", "--cpus", 2)["at_once"] == 10


def test_nothing_said_is_the_default_pool():
    out = text("--cpus", 2)
    assert one_line(out) == "6 at once: of 15 users 9 wait, the last one 120 s, and is done after 180 s."
    assert "asyncio.to_thread's pool is assumed" in " ".join(out.split())
    assert "assumed" not in text("--pool", 6)


# --- a probe's report ----------------------------------------------------------------------------------------------------------

def probe_report(folder, **members):
    path = folder / "probe.json"
    path.write_text(json.dumps(members))
    return path


@pytest.mark.parametrize("model,at_once,served", [("pool", 6, 6), ("serial", 1, 1), ("partitioned", 8, 8), ("cap", 5, 5),
                                                  ("flat", None, None), ("session", 1, None), ("poll", 1, 1)])
def test_from_a_probe(tmp_path, model, at_once, served):
    path = probe_report(tmp_path, model=model, at_once=at_once, solo_ms=200.5, confidence=1)
    got = plan("--from", path, "--users", 15)
    assert got["at_once"] == served and got["time_s"] == pytest.approx(0.2005) and got["chain"][0]["number"] == model
    assert plan("--from", path, "--time", "5s")["time_s"] == 5
    with path.open() as file:
        piped = subprocess.run([THAW, "plan", "--from", "-", "--users", "15", "--json"], stdin=file, capture_output=True,
                               env=environment(), timeout=LIMIT, check=True)
    assert json.loads(piped.stdout) == got


@pytest.mark.parametrize("model", ["cpu", "partial_lock", "bucket", "inconclusive"])
def test_what_is_no_queue_for_seats_cannot_be_planned(tmp_path, model):
    done = run("plan", "--from", probe_report(tmp_path, model=model, at_once=2, solo_ms=200))
    assert done.code == 4 and f"'{model}'" in done.err and not done.out


@pytest.mark.parametrize("content,says", [
    ("{", "not JSON"), ("", "not JSON"), ("[]", "no report"), ('{"model":"nope"}', "no report"), ('{"model":7}', "no report"),
    ('{"model":"pool","solo_ms":5}', "at_once"), ('{"model":"pool","at_once":1e300,"solo_ms":5}', "at_once"),
    ('{"model":"pool","at_once":6}', "solo_ms"), ('{"model":"serial","solo_ms":-1}', "solo_ms")])
def test_what_is_no_report(tmp_path, content, says):
    path = tmp_path / "probe.json"
    path.write_text(content)
    done = run("plan", "--from", path)
    assert done.code == 2 and says in done.err and not done.out


def test_a_report_that_is_not_there(tmp_path):
    done = run("plan", "--from", tmp_path / "nothing.json")
    assert done.code == 2 and "No such file" in done.err


# --- arguments ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("args,says", [
    (["--runtime", "asynco"], "did you mean 'asyncio'"), (["--platform", "cloudrun"], "did you mean 'cloud-run'"),
    (["--runtime", "xyzzy"], "--list"), (["--runtime", "cloud-run"], "--platform cloud-run"),
    (["--platform", "puma"], "--runtime puma"), (["--pool", "0"], "from 1 to"), (["--pool", "x"], "number"),
    (["--time", "60"], "duration"), (["--time", "0"], "duration"), (["--time", "2000h"], "24h"), (["--rate", "5"], "0.1/s"),
    (["--rate", "0/s"], "0.1/s"), (["--rate", "inf/s"], "0.1/s"), (["--cv", "-1"], "variation"), (["--cv", "nan"], "variation"),
    (["--python", "2.7"], "3.5"), (["--python", "3"], "3.12"), (["--tpm", "5"], "--tokens"), (["--tokens", "5"], "--tpm"),
    (["--rpm", "0"], "more than 0"), (["--users", "1000000", "--calls", "3"], "at most"), (["--user", "3"], "--users"),
    (["--pool", "1000000", "--workers", "1000"], "seats"), (["--pools"], "--pool"), (["--rpm", "0.001", "--time", "1us", "--users", "1000000"], "hundred years"),
    (["--pool", "1", "--users", "1000000", "--time", "24h"], "hundred years"), (["extra"], "--pool N"),
    (["--runtime", "puma"] * 13, "at most")])
def test_wrong_usage(args, says):
    done = run("plan", *args)
    assert done.code == 2 and says in done.err and not done.out, done


def test_help_and_a_full_disk():
    done = run("plan", "--help")
    assert done.code == 0 and "example:" in done.out and all(len(line) <= 80 for line in done.out.splitlines())
    with open("/dev/full", "wb") as full:
        done = subprocess.run([THAW, "plan", "--pool", "6"], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                              env=environment(), timeout=LIMIT)
    assert done.returncode == 3 and b"No space left" in done.stderr


def test_large_plans_are_said_as_well():
    got = plan("--pool", 100000, "--users", 400000, "--time", "250ms", "--rate", "380000/s")
    assert got["last_done_s"] == 1 and len(got["each_user"]) == 400000
    assert 0 < got["arrivals"][-1]["p_wait"] < 1e-3 and got["arrivals"][-1]["stable"]
    assert len(text("--pool", 3, "--users", 100000).splitlines()) < 80
