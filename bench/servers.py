#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""servers.py - what thaw probe says of servers that were not written here.

Starts each on a port of its own (gunicorn, uvicorn, Node.js, nginx before a thaw mock that only takes its time, PHP-FPM
behind nginx; apps in bench/servers), probes it a few times, prints what was said beside what it is. What is not installed
is left out. A verdict is right, open (exit code 4), or wrong.
"""

import argparse
import contextlib
import datetime
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import run
from run import Failure

APPS = run.HERE / "servers"
SECONDS = 0.2
BODY = '{"model":"m","messages":[{"role":"user","content":"hi"}]}'
NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {zone}
    server {{
        listen 127.0.0.1:{port} backlog=2048{version};
        location = /healthz {{ return 200; }}
        location / {{ {rule} }}
    }}
}}
"""
PROXY = "proxy_pass http://127.0.0.1:{upstream}/v1/chat/completions;"
FPM = """
[global]
error_log = {folder}/fpm.log
daemonize = no
[app]
user = nobody
group = nogroup
listen = 127.0.0.1:{upstream}
listen.backlog = 1024
pm = static
pm.max_children = 5
clear_env = no
php_value[session.save_path] = {folder}/sessions
"""
FASTCGI = """
fastcgi_pass 127.0.0.1:{upstream};
fastcgi_param SCRIPT_FILENAME {folder}/session.php; fastcgi_param SCRIPT_NAME $uri;
fastcgi_param REQUEST_METHOD $request_method; fastcgi_param QUERY_STRING $query_string;
fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;
fastcgi_param HTTP_COOKIE $http_cookie;
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Site:
    """A server's processes, its port and a folder; ended by their ids."""

    def __init__(self, thaw):
        self.thaw, self.children = thaw, []
        self.port, self.upstream = free_port(), free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="thaw-servers-"))
        self.folder.chmod(0o755)

    def start(self, *command, port=None, **env):
        with open(self.folder / f"said-{len(self.children)}", "wb") as said:
            child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=APPS,
                                     env={**os.environ, "SECONDS": str(SECONDS), **env}, start_new_session=True)
        self.children.append(child)
        end = time.monotonic() + 20
        while time.monotonic() < end and child.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port or self.port), 1):
                return
            time.sleep(0.05)
        raise Failure(f"{command[0]} did not start: {Path(said.name).read_text()[-300:]}")

    def mock(self, *more):
        self.start(self.thaw, "mock", "--listen", f"127.0.0.1:{self.upstream}", "--latency", f"{SECONDS * 1000:g}ms", *more,
                   port=self.upstream)

    def nginx(self, rule, zone="", version=""):
        conf = self.folder / "nginx.conf"
        conf.write_text(NGINX.format(folder=self.folder, port=self.port, zone=zone, version=version,
                                     rule=rule.format(upstream=self.upstream, folder=self.folder)))
        self.start("nginx", "-p", self.folder, "-e", self.folder / "nginx.log", "-c", conf)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- the servers


def gunicorn(site):
    site.start("gunicorn", "--workers", "3", "--bind", f"127.0.0.1:{site.port}", "sleep_wsgi:app")


def gunicorn_threads(site):
    site.start("gunicorn", "--worker-class", "gthread", "--threads", "4", "--bind", f"127.0.0.1:{site.port}", "sleep_wsgi:app")


def uvicorn(workers):
    def begin(site):
        site.start("uvicorn", "--workers", str(workers), "--port", str(site.port), "--log-level",
                   "warning", "sleep_fastapi:app")
        time.sleep(2)  # all workers are there
    return begin


def node(site):
    site.start("node", "crypto_pool.js", PORT=str(site.port))


def limit_conn(site):
    site.mock()
    site.nginx("limit_conn all 5; " + PROXY, "limit_conn_zone $server_port zone=all:1m;")


def limit_req(how):
    def begin(site):
        site.mock()
        site.nginx(f"limit_req zone=all{how}; " + PROXY, "limit_req_zone $server_port zone=all:1m rate=10r/s;")
    return begin


def http2(site):
    site.mock("--capacity", "pool:6")
    site.nginx(PROXY, "http2_max_concurrent_streams 8;", " http2")


def php(site):
    shutil.copy(APPS / "session.php", site.folder)
    (site.folder / "sessions").mkdir()
    (site.folder / "sessions").chmod(0o777)
    conf = site.folder / "fpm.conf"
    conf.write_text(FPM.format(folder=site.folder, upstream=site.upstream))
    site.start(php_fpm(), "--nodaemonize", "--fpm-config", conf, port=site.upstream)
    site.nginx(FASTCGI)


def php_fpm():
    found = sorted(Path("/usr/sbin").glob("php-fpm*"))
    return str(found[-1]) if found else "php-fpm"


def is_model(model, **numbers):
    def judge(found):
        best = found["best"]
        return best["model"] == model and all(abs((best.get(k) or 0) - v) <= 0.02 * v for k, v in numbers.items())
    return judge


def any_of(*judges):
    return lambda found: any(judge(found) for judge in judges)


# name, how it is started, path, options of the probe, what it is, what is right
SERVERS = (
    ("gunicorn, 3 sync workers", gunicorn, "/chat", [], "a pool of 3: workers take from one listening queue",
     is_model("pool", at_once=3)),
    ("gunicorn, 1 worker, 4 threads", gunicorn_threads, "/chat", [], "a pool of 4", is_model("pool", at_once=4)),
    ("uvicorn, 1 worker, sync endpoint", uvicorn(1), "/chat", [], "a pool of 40 threads", is_model("pool", at_once=40)),
    ("uvicorn, 2 workers, sync endpoints", uvicorn(2), "/chat", ["--max", "150"], "2 groups of 40 threads",
     any_of(is_model("partitioned", workers=2, each=40), is_model("flat"))),
    ("Node.js, pbkdf2 on 4 threads", node, "/chat", [], "4 threads that share the CPUs",
     any_of(is_model("pool", at_once=4), is_model("cpu", at_once=min(4, len(os.sched_getaffinity(0)))))),
    ("nginx limit_conn 5", limit_conn, "/", [], "5 at once, else 503", is_model("cap", at_once=5)),
    ("nginx limit_req 10r/s", limit_req(""), "/", [], "1, then 10 a second, else 503", is_model("bucket", at_once=1, rate=10)),
    ("nginx limit_req 10r/s burst=50", limit_req(" burst=50"), "/", [], "1, then 10 a second; the others wait",
     is_model("bucket", at_once=1, rate=10)),
    ("nginx limit_req burst=7 nodelay", limit_req(" burst=7 nodelay"), "/", [], "8, then 10 a second, else 503",
     is_model("bucket", at_once=8, rate=10)),
    ("nginx, HTTP/2, 8 streams", http2, "/", ["--http2-prior-knowledge"], "a pool of 6 behind it",
     is_model("pool", at_once=6)),
    ("PHP-FPM, 5 children", php, "/plain", [], "a pool of 5", is_model("pool", at_once=5)),
    ("PHP-FPM, one session's calls", php, "/session", ["--session", "PHPSESSID", "--max", "5"],
     "one at a time of each session", is_model("session")),
)
NEEDS = {gunicorn: "gunicorn", gunicorn_threads: "gunicorn", node: "node", limit_conn: "nginx", php: php_fpm()}


def probe(thaw, site, path, options):
    done = subprocess.run([thaw, "probe", f"http://127.0.0.1:{site.port}{path}", "-d", BODY, "--json", *options],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode not in (0, 4) or not done.stdout:
        raise Failure(f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def measure(options):
    raw = []
    for name, begin, path, more, what, right in SERVERS:
        if not re.search(options.only, name):
            continue
        if not shutil.which(NEEDS.get(begin, "nginx" if name.startswith("nginx") else "uvicorn")):
            print(f"{name}: not installed", file=sys.stderr)
            continue
        for number in range(options.runs):
            record = {"server": name, "what": what, "run": number + 1}
            try:
                with Site(os.path.abspath(options.thaw)) as site:
                    begin(site)
                    found = probe(options.thaw, site, path, more)
                verdict = "open" if found["model"] == "inconclusive" else "right" if right(found) else "wrong"
                record.update({"verdict": verdict, "calls": found["self"]["calls"], "lag_ms": found["self"]["lag_ms"],
                               "kinds": [(t["kind"], len(t["calls"])) for t in found["trials"]],
                               **{k: found[k] for k in ("headline", "best", "likely", "runner_up", "odds", "confidence",
                                                        "doubt", "canary", "cause", "solo_ms", "solo_cv")}})
                if options.keep:
                    Path(options.keep).mkdir(exist_ok=True)
                    (Path(options.keep) / f"{re.sub('[^a-z0-9]+', '-', name.lower())}-{number + 1}.json").write_text(
                        json.dumps(found))
            except (Failure, OSError, ValueError, subprocess.SubprocessError) as failure:
                record.update({"verdict": "failed", "headline": str(failure), "calls": 0})
            raw.append(record)
            print(f"{name}, {number + 1}/{options.runs}: {record['verdict']}: {record['headline']}", file=sys.stderr, flush=True)
    return raw


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description="Probes servers that were not written here.")
    parser.add_argument("--thaw", default="build/thaw", metavar="FILE", help="thaw's program (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each (%(default)s)")
    parser.add_argument("--only", default="", metavar="RE", help="servers whose name matches")
    parser.add_argument("--keep", metavar="DIR", help="every probe's own JSON goes there")
    parser.add_argument("--out", default=str(run.HERE / "results"), metavar="DIR", help="where the figures go; '' for nowhere")
    options = parser.parse_args()
    date, facts, raw = datetime.datetime.now(), run.machine(), measure(options)
    print("| server | it is | said | right | open | wrong | calls |\n|---|---|---|---|---|---|---|")
    for name, _, _, _, what, _ in SERVERS:
        mine = [r for r in raw if r["server"] == name]
        if mine:
            count = [sum(r["verdict"] in v for r in mine) for v in (["right"], ["open"], ["wrong", "failed"])]
            calls = sorted(r["calls"] for r in mine)[len(mine) // 2]
            print(f"| {name} | {what} | {mine[0]['headline']} | {count[0]} | {count[1]} | {count[2]} | {calls} |")
    if options.out:
        path = run.result_path(options.out, date, f"{run.git_sha()}-servers")
        path.write_text(json.dumps({"date": date.isoformat(timespec="seconds"), "git": run.git_sha(), "machine": facts,
                                    "raw": raw}, indent=1) + "\n")
        print(f"every run: {os.path.relpath(path)}")
    return 1 if any(r["verdict"] in ("wrong", "failed") for r in raw) else 0


if __name__ == "__main__":
    sys.exit(main())
