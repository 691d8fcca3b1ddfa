#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""probe.py - is thaw probe right? The real program against `thaw mock --capacity` of every kind and size.

Each run starts a mock of its own and probes it once, without its journal. A verdict is exact (mechanism and numbers),
near (N within 1), open (inconclusive: exit code 4), or wrong. Marks: service times constant, 95 % exact in each row and
nothing wrong; lognormal with a CV of 0.2 and N up to 8, 80 % within 1, and wrong no more than 2 %.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import re
import signal
import subprocess
import sys

import run
from run import Failure

SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 14, 16, 20, 24, 32, 40)
BODY = '{"model":"m","messages":[{"role":"user","content":"probe"}]}'
CV_02_P99 = 1.585  # of lognormal times with a CV of 0.2: the 99th percentile by the median, exp(2.326 * sigma)
LIMIT_S = 900


def pool_of(n):
    return {"model": "serial" if n == 1 else "pool", "at_once": n}


def rows_constant():
    yield "unlimited", {"model": "flat", "at_once": None}
    yield "lock", pool_of(1)
    for n in SIZES[1:]:
        yield f"pool:{n}", pool_of(n)
    for n in (2, 6, 10):
        yield f"pool:{n}:lifo", pool_of(n)
        yield f"pool:{n}:random", pool_of(n)
    # Not for a time that would be a round rate: a lock for 100 ms of each call and ten calls a second are the same thing.
    for percent in (11, 21, 31, 52, 73):
        yield f"lock:{percent}ms/100ms", {"model": "partial_lock", "share": percent / 100}
    for workers, each in ((2, 1), (4, 1), (8, 1), (2, 2), (4, 2), (2, 4), (3, 3), (2, 8), (4, 5)):
        yield f"workers:{workers}x{each}", {"model": "partitioned", "workers": workers, "each": each}
    for n in SIZES:
        yield f"cpu:{n}", {"model": "cpu", "at_once": n}
    for period in (50, 100, 150, 400):
        yield f"poll:{period}ms", {"model": "poll", "at_once": 1}
    # Of one token, and the next before a call is done: a lock, as far as can be seen while times are constant.
    for n in SIZES:
        yield f"bucket:{10 if n > 1 else 2}/s:{n}", {"model": "bucket", "at_once": n}
    for n in SIZES:
        yield f"cap:{n}", {"model": "cap", "at_once": n}
    yield "session", {"model": "session"}


def rows_varying():
    yield "unlimited", {"model": "flat", "at_once": None}
    yield "lock", pool_of(1)
    for n in range(2, 9):
        yield f"pool:{n}", pool_of(n)
    yield "lock:31ms/100ms", {"model": "partial_lock", "share": 0.31}
    for workers, each in ((2, 1), (2, 2), (4, 1), (4, 2)):
        yield f"workers:{workers}x{each}", {"model": "partitioned", "workers": workers, "each": each}
    for n in range(1, 9):
        yield f"cpu:{n}", {"model": "cpu", "at_once": n}
    yield "poll:100ms", {"model": "poll", "at_once": 1}
    for n in range(1, 9):
        yield f"bucket:10/s:{n}", {"model": "bucket", "at_once": n}
        yield f"cap:{n}", {"model": "cap", "at_once": n}
    yield "session", {"model": "session"}


def start_mock(thaw, capacity, latency, seed):
    child = subprocess.Popen([thaw, "mock", "--listen", "127.0.0.1:0", "--latency", latency, "--capacity", capacity,
                              "--seed", str(seed)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
    said = re.search(r"listening on (\S+)", child.stderr.readline())
    if not said:
        child.kill()
        raise Failure(f"thaw mock --capacity {capacity} did not start")
    return child, f"http://{said[1]}/v1/chat/completions"


def judge(found, want):
    """exact, near, open or wrong."""
    if found["model"] == "inconclusive":
        return "open"
    best = found["best"]
    if best["model"] != want["model"]:
        return "wrong"
    if "share" in want:
        return "exact" if abs(best["share"] - want["share"]) <= 0.05 else "wrong"
    off = [abs((best.get(key) or 0) - (value or 0)) for key, value in want.items() if key != "model"]
    return "exact" if not any(off) else "near" if max(off) == 1 else "wrong"


def probe_once(thaw, row, latency, seed, options):
    capacity, want = row
    mock, url = start_mock(thaw, capacity, latency, seed)
    try:
        more = ["--session", "sid"] if capacity == "session" else []
        more += ["--http2-prior-knowledge"] if options.http2 else []
        done = subprocess.run([thaw, "probe", url, "-d", BODY, "--json", *more], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=LIMIT_S, check=False)
    finally:
        mock.terminate()
        mock.stderr.close()
        mock.wait(10)
    if done.returncode not in (0, 4):
        raise Failure(f"{capacity}: exit {done.returncode}: {done.stderr.strip()[-200:]}")
    found = json.loads(done.stdout)
    kinds = [(t["kind"], len(t["calls"])) for t in found["trials"]]
    return {"capacity": capacity, "seed": seed, "verdict": judge(found, want), "calls": found["self"]["calls"],
            "kinds": kinds, **{key: found[key] for key in ("headline", "best", "likely", "runner_up", "odds",
                                                           "confidence", "doubt", "solo_ms", "solo_cv", "one_connection")},
            "lag_ms": found["self"]["lag_ms"], "skew_ms": found["self"]["skew_ms"]}


def measure(options, rows, latency, first_seed):
    jobs = [(row, first_seed + number) for number in range(options.runs) for row in rows]
    raw = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        waiting = {pool.submit(probe_once, options.thaw, row, latency, seed, options): row for row, seed in jobs}
        for number, future in enumerate(concurrent.futures.as_completed(waiting), 1):
            try:
                record = future.result()
            except (Failure, OSError, ValueError, subprocess.SubprocessError) as failure:
                record = {"capacity": waiting[future][0], "verdict": "failed", "failed": str(failure), "calls": 0}
            raw.append(record)
            if record["verdict"] != "exact" or options.verbose:
                print(f"{number}/{len(jobs)} {record['capacity']}, seed {record.get('seed')}: {record['verdict']}: "
                      f"{record.get('failed') or record['headline']}", file=sys.stderr, flush=True)
    return raw


def table(title, rows, raw, mark):
    """A row per capacity; says what is short of the mark."""
    print(f"\n{title:<22}{'runs':>5}{'exact':>7}{'near':>6}{'open':>6}{'wrong':>7}{'calls':>7}{'most':>6}")
    shown = []
    for capacity, _ in rows:
        mine = [r for r in raw if r["capacity"] == capacity]
        count = {v: sum(r["verdict"] == v for r in mine) for v in ("exact", "near", "open", "wrong", "failed")}
        calls = sorted(r["calls"] for r in mine)
        met = mark(count, len(mine))
        shown.append({"capacity": capacity, "runs": len(mine), **count, "calls_median": calls[len(calls) // 2],
                      "calls_most": calls[-1], "met": met})
        print(f"{capacity:<22}{len(mine):>5}{count['exact']:>7}{count['near']:>6}{count['open']:>6}"
              f"{count['wrong'] + count['failed']:>7}{calls[len(calls) // 2]:>7}{calls[-1]:>6}{'' if met else '   short'}")
    return shown


def constant_met(count, runs):
    return count["exact"] >= 0.95 * runs and not count["wrong"] and not count["near"] and not count["failed"]


def varying_met(count, runs):
    return count["exact"] + count["near"] >= 0.8 * runs and count["wrong"] <= 0.02 * runs and not count["failed"]


def of_all(shown):
    runs = sum(s["runs"] for s in shown)
    share = {v: sum(s[v] for s in shown) / runs for v in ("exact", "near", "open", "wrong", "failed")}
    print(f"all {runs}: " + ", ".join(f"{v} {100 * x:.1f} %" for v, x in share.items() if x))
    return {"runs": runs, **share}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description="Probes mocks of every capacity and counts how often it is right.")
    parser.add_argument("--thaw", default="build/thaw", metavar="FILE", help="thaw's program (%(default)s)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each row (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="probes that run side by side (%(default)s)")
    parser.add_argument("--latency", default=200, type=float, metavar="MS", help="service time (%(default)s)")
    parser.add_argument("--only", default="", metavar="RE", help="rows whose capacity matches")
    parser.add_argument("--times", choices=("constant", "varying", "both"), default="both", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first run (%(default)s)")
    parser.add_argument("--http2", action="store_true", help="by HTTP/2")
    parser.add_argument("--verbose", action="store_true", help="says what is right, too")
    parser.add_argument("--out", default=str(run.HERE / "results"), metavar="DIR", help="where the figures go; '' for nowhere")
    options = parser.parse_args()
    kinds = (("constant", rows_constant, f"{options.latency:g}ms", constant_met),
             ("varying", rows_varying, f"lognormal:{options.latency:g}ms,{options.latency * CV_02_P99:g}ms", varying_met))
    date, facts, result, short = datetime.datetime.now(), run.machine(), {}, False
    for name, make, latency, mark in kinds:
        rows = [r for r in make() if re.search(options.only, r[0])]
        if options.times not in (name, "both") or not rows:
            continue
        raw = measure(options, rows, latency, options.seed)
        shown = table(f"{name} times", rows, raw, mark)
        result[name] = {"latency": latency, "rows": shown, "all": of_all(shown), "raw": raw}
        short = short or not all(s["met"] for s in shown)
    if options.out:
        path = run.result_path(options.out, date, f"{run.git_sha()}-probe")
        path.write_text(json.dumps({"date": date.isoformat(timespec="seconds"), "git": run.git_sha(), "machine": facts,
                                    "runs": options.runs, "jobs": options.jobs, **result}, indent=1) + "\n")
        print(f"every run: {os.path.relpath(path)}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
