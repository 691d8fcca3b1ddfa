#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""h2.py - what HTTP/2 and TLS are for: calls held on few connections, and what a call costs then.

    upstream   19,000 calls of HTTP/1 clients, HTTP/2 to the upstream, 20,000 descriptors
    both       100,000 calls, HTTP/2 on both sides, come within four seconds
    burst      the same, all at once
    in-flight  2,000 calls in flight over h2c://, beside nginx (HTTP/1.1 to its upstream)
    streams    1,000 streams from an HTTP/2 upstream, beside nginx
    tls        2,000 calls in flight to an upstream with TLS, beside nginx with the same one: it offers HTTP/2, which thaw
               takes and nginx does not know
    tls-h1     the same, and the upstream offers HTTP/1.1 alone
    tls-new    a new connection to the upstream for each call, TLS 1.3: both resume sessions
    tls-new12  the same, and nginx as it comes: TLS 1.2, which resumes without a key exchange

Uses run.py's machinery: sim answers with each caller's own words, swarm accepts only those. The upstream with TLS is an
nginx in front of sim. thaw and nginx take turns, and a ratio is that of one round.
"""

import contextlib
import dataclasses
import statistics
import subprocess
import sys
import time
from pathlib import Path

import overload
import run
from run import Failure

HELD_H1, HELD_H2, CALL_S, RAMP_S, STREAMS, DESCRIPTORS = 19000, 100000, 10, 4, 1000, 20000

TLS_UPSTREAM = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/tls.pid;
error_log {folder}/tls.error.log warn;
{user}
events {{ worker_connections 16000; }}
http {{
    access_log off;
    keepalive_requests {requests};
    client_body_temp_path {folder}/tls-body;
    proxy_temp_path {folder}/tls-proxy;
    fastcgi_temp_path {folder}/tls-fastcgi;
    uwsgi_temp_path {folder}/tls-uwsgi;
    scgi_temp_path {folder}/tls-scgi;
    upstream sim {{ server 127.0.0.1:{upstream}; keepalive 4000; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} ssl {speaks} backlog=4096;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        keepalive_timeout 3600s;
        http2_max_concurrent_streams 1000;
        location / {{
            proxy_pass http://sim;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


# ---- calls held -----------------------------------------------------------------------------------------------


class Held(run.Running):
    """thaw as a file configures it, with an HTTP/2 upstream."""

    def __init__(self, bench, keys):
        super().__init__(bench, run.Target("thaw", None, self.serve, None))
        self.keys = keys

    def serve(self, program, folder, port, upstream):
        config = Path(folder) / "thaw.yaml"
        config.write_text(f"upstreams: {{sim: {{url: 'h2c://127.0.0.1:{upstream}/v1'}}}}\nadmin: off\n{self.keys}")
        return [program, "serve", "--config", str(config), "--listen", f"127.0.0.1:{port}", "--workers", "1"]


def hold(bench, users, keys, more):
    with Held(bench, keys) as running:
        run.swarm(running, ["--users", 32, "--seconds", 0.2, "--warmup", 0.1, "--timeout", 5, *more], 8)
        time.sleep(0.2)
        before, middle = run.memory_bytes(running.pids), {}

        def on_line(line):
            if line == "held":
                middle.update(sent_s=time.monotonic() - begun)
                while time.monotonic() < begun + CALL_S - 0.5 and running.in_flight() < users:
                    time.sleep(0.1)
                middle.update(in_flight=running.in_flight(), **run.memory_bytes(running.pids),
                              descriptors=len(list(Path(f"/proc/{running.process.pid}/fd").iterdir())))

        begun, cpu_s = time.monotonic(), run.cpu_seconds(running.pids)
        result = run.swarm(running, ["--users", users, "--once", "--model", f"sim-{CALL_S * 1000}", "--timeout", 60, *more], 90, on_line)
        cpu_s = run.cpu_seconds(running.pids) - cpu_s
    if not middle:
        raise Failure(f"the calls could not all be sent: {result['error_kinds']}")
    kb = (middle["pss"] - before["pss"]) / users / 1024
    return {"said": {"right": result["ok"], "at once": middle["in_flight"], "KB": round(kb, 2), "wall": result["wall_s"],
                     "wrong": result["error_kinds"]},
            "users": users, "right": result["ok"], "mixed": result["mixed"], "held": middle["in_flight"], "kb": kb,
            "wall_s": result["wall_s"], "descriptors": middle["descriptors"], "cpu_us": cpu_s / users * 1e6,
            "idle": before, "peak": middle, "swarm": result}


def step_upstream(bench):
    return hold(bench, HELD_H1, "", ["--ramp", RAMP_S])


def step_both(bench):
    return hold(bench, HELD_H2, f"max_streams: {STREAMS}\n", ["--streams", STREAMS, "--ramp", RAMP_S])


def step_burst(bench):
    return hold(bench, HELD_H2, f"max_streams: {STREAMS}\n", ["--streams", STREAMS])


# ---- beside nginx ---------------------------------------------------------------------------------------------


class BesideTls(run.Running):
    """The target's upstream is an nginx with TLS in front of sim."""

    def __init__(self, bench, target, speaks, requests=10 ** 9):
        super().__init__(bench, target)
        self.speaks, self.requests, self.terminator = speaks, requests, None

    def command(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", f"{self.folder.name}/key.pem",
                        "-out", f"{self.folder.name}/cert.pem"], check=True, capture_output=True, timeout=10)
        tls, behind = run.free_port(), self.upstream
        path = Path(self.folder.name) / "tls.conf"
        path.write_text(TLS_UPSTREAM.format(folder=self.folder.name, port=tls, upstream=behind, speaks=self.speaks,
                                            requests=self.requests, descriptors=run.descriptor_limit(), user="user root;" if run.os.geteuid() == 0 else ""))
        self.terminator = run.Process([self.bench.programs["nginx"], "-p", self.folder.name, "-e", f"{self.folder.name}/tls.error.log",
                                       "-c", str(path)], Path(self.folder.name) / "tls.log")
        end = time.monotonic() + 10
        while time.monotonic() < end and self.terminator.alive():
            with contextlib.suppress(OSError):
                run.socket.create_connection(("127.0.0.1", tls), 1).close()
                return self.target.command(self.bench.programs[self.target.name], self.folder.name, self.port, tls)
            time.sleep(0.01)
        raise Failure(f"the upstream with TLS does not listen: {self.terminator.last_words()}")

    def __exit__(self, *_):
        if self.terminator:
            self.terminator.stop()
        super().__exit__()


def thaw_tls_command(program, folder, port, upstream):
    command = [a.replace("http://", "https://") for a in run.thaw_command(program, folder, port, upstream)]
    return [*command, "--upstream-ca", f"{folder}/cert.pem"]


def nginx_tls_command(program, folder, port, upstream):
    config = Path(run.write_config(run.NGINX, folder, "nginx.conf", port, upstream))
    config.write_text(config.read_text().replace("proxy_pass http://sim;", "proxy_pass https://sim;\n"
                      f"            proxy_ssl_verify on;\n            proxy_ssl_trusted_certificate {folder}/cert.pem;\n"
                      "            proxy_ssl_name localhost;"))
    return [program, "-p", folder, "-e", f"{folder}/nginx.error.log", "-c", str(config)]


def nginx_tls_1_3_command(program, folder, port, upstream):
    command = nginx_tls_command(program, folder, port, upstream)
    config = Path(command[-1])
    config.write_text(config.read_text().replace("proxy_ssl_verify on;", "proxy_ssl_verify on;\n            proxy_ssl_protocols TLSv1.2 TLSv1.3;"))
    return command


def beside(bench, scenario, thaw, nginx, place=run.Running):
    """Four times each, in turns; wrong answers of thaw's are counted, nginx's make the step void."""
    if not bench.programs["nginx"]:
        raise Failure("nginx is not here: install the package nginx-light (or nginx)")
    of = {name: run.Target(name, None, command, None) for name, command in (("thaw", thaw), ("nginx", nginx))}
    records = {"thaw": [], "nginx": []}
    for turn in range(4):
        for name in ("thaw", "nginx") if turn % 2 == 0 else ("nginx", "thaw"):
            with place(bench, of[name]) as running:
                records[name].append(run.step_load(running, scenario, 3))
    ratio = statistics.median(t["cpu_us"] / n["cpu_us"] for t, n in zip(records["thaw"], records["nginx"]))
    us = {name: statistics.median(r["cpu_us"] for r in of) for name, of in records.items()}
    wrong = {name: sum(r["errors"] + r["mixed"] for r in of) for name, of in records.items()}
    if wrong["nginx"]:
        raise Failure(f"{wrong['nginx']} wrong answers through nginx")
    return {"said": {"ratio": round(ratio, 3), **{name: f"{value:.1f} us" for name, value in us.items()}, "wrong": wrong["thaw"]},
            "ratio": ratio, "thaw_us": us["thaw"], "nginx_us": us["nginx"], "wrong": wrong["thaw"], "rounds": records}


IN_FLIGHT, EVENTS = (next(s for s in run.SCENARIOS if s.key == key) for key in ("in-flight", "streams"))


def step_in_flight(bench):
    return beside(bench, IN_FLIGHT, run.thaw_h2_command, run.nginx_command)


def step_streams(bench):
    return beside(bench, EVENTS, run.thaw_h2_command, run.nginx_command)


KEPT = dataclasses.replace(IN_FLIGHT, warmup_s=4)  # the handshakes are over then
NEW = dataclasses.replace(IN_FLIGHT, load=("--users", 64, "--model", "sim-0"))


def step_tls(speaks, load=KEPT, nginx=nginx_tls_command, **more):
    return lambda bench: beside(bench, load, thaw_tls_command, nginx,
                                lambda bench, target: BesideTls(bench, target, speaks, **more))


class Bench(overload.Bench):
    def __init__(self, options):
        super().__init__(options)
        self.programs["nginx"] = run.find_program("nginx")


STEPS = (("upstream", f"{HELD_H1:,} calls of HTTP/1 clients held, HTTP/2 to the upstream", step_upstream),
         ("both", f"{HELD_H2:,} calls held, HTTP/2 on both sides", step_both),
         ("burst", "the same, all at once", step_burst),
         ("in-flight", IN_FLIGHT.text, step_in_flight),
         ("streams", EVENTS.text, step_streams),
         ("tls", "upstream with TLS, 2,000 calls in flight", step_tls("http2")),
         ("tls-h1", "the same without HTTP/2", step_tls("")),
         ("tls-new", "the same, a new connection for each call", step_tls("", NEW, nginx_tls_1_3_command, requests=1)),
         ("tls-new12", "the same, nginx with TLS 1.2", step_tls("", NEW, requests=1)))


def at_most(n):
    return (lambda v: v <= n, f"<= {n:g}")


def at_least(n):
    return (lambda v: v >= n, f">= {n:,}")


def beside_rows(step, text, mark):
    return ((step, "ratio", f"{text}, to nginx's", 2, mark), (step, "thaw_us", "  thaw, us", 1, None),
            (step, "nginx_us", "  nginx, us", 1, None), (step, "wrong", "  wrong answers", 0, at_most(0)))


# step, value, text, digits, mark as (is it met, in words)
FIGURES = (
    ("upstream", "right", "h1 to h2: answered, each with its own", 0, at_least(HELD_H1)),
    ("upstream", "held", "  held at once, seen upstream", 0, at_least(HELD_H1)),
    ("upstream", "descriptors", "  descriptors of thaw", 0, at_most(DESCRIPTORS)),
    ("upstream", "kb", "  user memory per held call, KiB", 2, None),
    ("both", "right", "h2 to h2: answered, each with its own", 0, at_least(HELD_H2)),
    ("both", "mixed", "  mixed up", 0, at_most(0)),
    ("both", "held", "  held at once, seen upstream", 0, at_least(HELD_H2)),
    ("both", "descriptors", "  descriptors of thaw", 0, None),
    ("both", "kb", "  user memory per held call, KiB", 2, at_most(3)),
    ("both", "cpu_us", "  CPU per call, us", 1, None),
    ("burst", "right", "all at once: answered, each with its own", 0, at_least(HELD_H2)),
    ("burst", "mixed", "  mixed up", 0, at_most(0)),
    ("burst", "kb", "  user memory per held call, KiB", 2, None),
    *beside_rows("in-flight", "CPU per request, h2c, 2,000 in flight", at_most(0.5)),
    *beside_rows("streams", "CPU per event, h2c", at_most(0.65)),
    *beside_rows("tls", "CPU per request, TLS, h2 by ALPN", at_most(0.8)),
    *beside_rows("tls-h1", "CPU per request, TLS, HTTP/1.1", at_most(0.8)),
    *beside_rows("tls-new", "CPU per request on a new TLS connection", at_most(1)),
    *beside_rows("tls-new12", "the same, nginx's is TLS 1.2", None),
)


if __name__ == "__main__":
    overload.Bench = Bench
    sys.exit(overload.run_all("What HTTP/2 and TLS are for.", "h2", STEPS, FIGURES, 1, DESCRIPTORS))
