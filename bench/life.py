#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""life.py - thaw's life under load: reloads, upgrades and restarts, and not one call lost.

sim answers, swarm calls in a closed loop over connections that are kept alive, and checks each answer. Meanwhile the
configuration is read again (SIGHUP), the binary takes over from itself (SIGUSR2), and a process that is told to leave
(SIGTERM) is replaced by another one on the same socket, which this program holds as systemd would. What is counted is
calls that were not answered as they should have been, and how often each thing was done; both must be exact, so the
machine's being busy does not matter.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import run
from run import Failure

TIMES = 10      # each of the three
WORKERS = 2
LIMIT_S = 60    # for any one step
LIFETIME_S = 300
BEFORE_S = 2
BETWEEN_S = 0.3
SUBREAPER = 36  # prctl(2): a new thaw whose old one has gone becomes this program's child


class Service:
    """thaw on a socket that outlives it."""

    def __init__(self, thaw, folder, upstream):
        self.thaw, self.folder = thaw, folder
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.socket.getsockname()[1]
        self.config = folder / "thaw.yaml"
        self.config.write_text(f"upstreams: {{sim: {{url: 'http://127.0.0.1:{upstream}/v1'}}}}\n")
        self.log = folder / "log"
        self.log.touch()
        self.mark = 0
        self.pid = self.start()
        self.wait("listening on")

    def start(self):
        script = f"exec 3<&{self.socket.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\""
        with open(self.log, "ab") as log:
            child = subprocess.Popen(["bash", "-c", script, "activated", self.thaw, "serve", "--config", self.config,
                                      "--workers", str(WORKERS)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     pass_fds=[self.socket.fileno()])
        return child.pid

    def wait(self, pattern):
        """Until it has said so since the last time."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            text = self.log.read_text(errors="replace")
            found = re.compile(pattern).search(text, self.mark)
            if found:
                self.mark = found.end()
                return found
            time.sleep(0.01)
        raise Failure(f"thaw never said {pattern!r}: {self.log.read_text(errors='replace')[-2000:]}")

    def leaves(self, pid):
        """A process ends in order."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            try:
                done, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # its parent, an older thaw, has not gone yet
                done = 0
            if done:
                if status:
                    raise Failure(f"process {pid} ended with {status}: {self.log.read_text(errors='replace')[-2000:]}")
                return
            time.sleep(0.01)
        raise Failure(f"process {pid} did not end")

    def reload(self):
        os.kill(self.pid, signal.SIGHUP)
        self.wait("configuration read again")

    def upgrade(self):
        old = self.pid
        os.kill(old, signal.SIGUSR2)
        self.pid = int(self.wait(r"the new thaw serves \(process (\d+)\)")[1])
        self.leaves(old)

    def restart(self):
        old = self.pid
        self.pid = self.start()
        self.wait("listening on")
        os.kill(old, signal.SIGTERM)
        self.leaves(old)

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        self.leaves(self.pid)


STEPS = [("SIGHUP", Service.reload), ("SIGUSR2", Service.upgrade), ("SIGTERM", Service.restart)]


def disturb(service, done, over, problem):
    """While the load lasts: it is there after BEFORE_S, and has its pace again after each step."""
    try:
        time.sleep(BEFORE_S)
        for number in range(TIMES):
            for name, step in STEPS:
                step(service)
                done[name] = number + 1
                time.sleep(BETWEEN_S)
    except BaseException as e:
        problem.append(e)
    over.set()


def swarm(options, port, seconds):
    argv = [options.tools / "thaw-bench-swarm", "--port", port, "--users", options.users, "--seconds", seconds,
            "--model", options.model, "--limit", seconds + 60, *(["--stream"] if options.stream else [])]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=seconds + 90)
    if done.returncode:
        raise Failure(f"swarm failed: {done.stderr}")
    return json.loads(done.stdout)


def measure(options, folder, upstream):
    service = Service(options.thaw, folder, upstream)
    done, problem, over = {}, [], threading.Event()
    disturber = threading.Thread(target=disturb, args=(service, done, over, problem))
    disturber.start()
    result = swarm(options, service.port, options.seconds)
    in_time = over.is_set()
    disturber.join()
    service.stop()
    if problem:
        raise problem[0]
    if not in_time:
        raise Failure(f"the load was over before everything had been done: --seconds {2 * options.seconds}")
    return {"done": done, **result}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thaw", type=pathlib.Path, required=True)
    parser.add_argument("--tools", type=pathlib.Path, required=True, help="folder of thaw-bench-sim and -swarm")
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--model", default="sim-1", help="sim's (%(default)s); sim-50x10 with --stream")
    parser.add_argument("--stream", action="store_true", help="calls are streams, most of which outlive a step")
    parser.add_argument("--seconds", type=int, default=40, help="of load")
    parser.add_argument("--calls", type=int, default=100000, help="at least so many")
    parser.add_argument("--out", type=pathlib.Path, help="file for the result, as JSON")
    options = parser.parse_args()
    options.thaw, options.tools = options.thaw.resolve(), options.tools.resolve()
    import ctypes
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    options.sim = options.tools / "thaw-bench-sim"
    with tempfile.TemporaryDirectory(prefix="thaw-life-") as folder:
        sim, upstream = run.start_sim(options, pathlib.Path(folder), LIFETIME_S)
        try:
            result = measure(options, pathlib.Path(folder), upstream)
        finally:
            sim.stop()
    wanted = {name: TIMES for name, _ in STEPS}
    fine = result["errors"] == 0 and result["mixed"] == 0 and result["ok"] >= options.calls and result["done"] == wanted
    print(f"{result['ok']} calls, {result['errors']} failed, {result['mixed']} mixed; {result['done']}: "
          f"{'as it must be' if fine else 'NOT as it must be'}")
    if options.out:
        options.out.write_text(json.dumps({"date": datetime.date.today().isoformat(), "commit": run.git_sha(),
                                           "machine": run.machine(), "users": options.users, "workers": WORKERS,
                                           "fine": fine, **result}, indent=1) + "\n")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
