# SPDX-License-Identifier: MIT
"""The access log of the real binary: lines, files that are moved away, and readers that do not read."""
import fcntl
import json
import os
import signal

import pytest

from openai_api import CHAT, PROMPT
from process import free_port, run
from rawhttp import Client, post, request
from upstream import says
from waiting import poll

F_SETPIPE_SZ = 1031
MEMBERS = ["time", "id", "method", "path", "model", "client", "key", "status", "outcome", "stream", "cut", "bytes_in",
           "bytes_out", "ms", "upstream", "attempts", "queued_ms", "upstream_ms", "thaw_ms", "trace"]


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_lines(path, n):
    poll(lambda: path.exists() and path.read_text().count("\n") >= n, lambda: f"{n} lines in {path}")
    return lines_of(path)


def test_each_request_has_a_line_and_no_secret_is_in_it(world):
    log = world.folder / "access.log"
    up = world.upstream(says(b'{"ok":true}'))
    gw = world.serve(config=f"""
        access_log: {log}
        keys: [canary-key]
        clients: {{them: {{keys: [canary-other]}}}}
        upstreams: {{up: {{url: '{up.url}'}}}}
        """)
    body = json.dumps({"model": "gpt-x", "messages": [{"role": "user", "content": PROMPT}]}).encode()
    client = world.connect(gw)
    key = [("Authorization", "Bearer canary-key")]
    assert client.ask(post(CHAT + "?token=canary", body, [*key, ("X-Request-Id", "abc")])).status == 200
    assert client.ask(post(CHAT, body, [("Authorization", "Bearer canary-other")])).status == 200
    assert client.ask(request("GET", "/nothing", key)).status == 404
    lines = wait_lines(log, 3)
    assert all(list(line) == MEMBERS for line in lines)
    assert "canary" not in log.read_text()
    first, second, third = lines
    assert first["id"] == "abc" and first["path"] == CHAT and first["model"] == "gpt-x" and first["upstream"] == "up"
    assert first["client"] == "127.0.0.1" and first["status"] == 200 and first["outcome"] == "COMPLETE"
    assert len(first["key"]) == 8 and second["key"] == "them"
    assert first["bytes_in"] == len(body) and first["bytes_out"] == 11
    assert first["ms"] >= first["upstream_ms"] > 0 and first["thaw_ms"] > 0
    assert third["outcome"] == "REFUSED" and third["upstream"] is None


def test_a_file_that_was_moved_away_is_made_anew(world):
    log, old = world.folder / "access.log", world.folder / "access.log.1"
    gw = world.serve(world.upstream(), "--access-log", log)
    client = world.connect(gw)
    client.ask(post(CHAT, b'{"model":"m"}'))
    wait_lines(log, 1)
    log.rename(old)
    gw.signal(signal.SIGUSR1)
    poll(log.exists, "the new file")
    client.ask(post(CHAT, b'{"model":"m"}'))
    assert len(wait_lines(log, 1)) == len(lines_of(old)) == 1


@pytest.mark.threads
def test_the_last_lines_are_written_at_the_end(world):
    log = world.folder / "access.log"
    gw = world.serve(world.upstream(), "--access-log", log, workers=2)
    client = world.connect(gw)
    for _ in range(50):
        client.ask(post(CHAT, b'{"model":"m"}'))
    gw.stop()
    assert len(lines_of(log)) == 50


def full_pipe(to):
    """For a child: its descriptor `to` becomes a pipe that nobody reads, and that has no room."""
    read, write = os.pipe()
    fcntl.fcntl(write, F_SETPIPE_SZ, 4096)
    os.write(write, b"x" * 4096)
    return read, write, lambda: os.dup2(write, to)


def dropped(port):
    admin = Client(port)
    try:
        text = bytes(admin.ask(request("GET", "/metrics", host="127.0.0.1")).body).decode()
    finally:
        admin.close()
    return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith("thaw_log_dropped_total{"))


@pytest.mark.parametrize("to, args", [(1, ["--access-log", "stdout"]), (2, ["--access-log", "stderr", "--verbose"])])
def test_a_log_that_nobody_reads_stops_nobody(world, to, args):
    read, write, before = full_pipe(to)
    port = free_port()
    try:
        if to == 2:  # its first words block it, as ever: there is room for them
            os.read(read, 4096)
        gw = world.serve(world.upstream(), *args, admin=port, ready=False, before=before)
        poll(gw.connects, "the gateway to listen")
        client = world.connect(gw)
        asked = 0
        while dropped(port) == 0:
            for _ in range(500):
                assert client.ask(request("GET", "/healthz")).status == 200
            asked += 500
            assert asked < 50000, "so many lines are not to be had anywhere"
        gw.stop()
    finally:
        os.close(read)
        os.close(write)


def test_a_log_that_cannot_be_written_is_refused_at_the_start(world):
    done = run("serve", "--mock", "--listen", f"127.0.0.1:{free_port()}", "--admin", "off", "--access-log",
               "/nowhere/at/all")
    assert done.code == 3 and "access log" in done.err and "/nowhere" in done.err
